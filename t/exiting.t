#!/usr/bin/perl

# A worker that is about to exit, after a reload, and fills a blob is killed:
# nobody replaces it.  Who reads that blob goes on, and what the dead one held
# is freed, also where nobody asks.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $slice = 256 * 1024;
my $size = 12 * $slice + 4711;
my @blobs = map { $t->random_blob($size) } 0 .. 1;
my %by = map { $t->digest($_) => $_ } @blobs;

# 4 MB/s a connection

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    return $t->reply_blob($c, $q, $by{$digest})
        if !defined $q->{to} || $to - $from <= 1;
    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";
    for (my $i = $from; $i < $to; $i += 65536) {
        print $c substr $by{$digest}, $i, $to - $i < 65536 ? $to - $i : 65536
            or return 0;
        sleep 0.016;
    }
    return 1;
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    shutdown_timeout => '60s', cache_args => 'slice=256k',
    location => 'location /v2/ { oci_pass demo; oci_cache models;'
    . ' oci_fill_connections 1; }');
$t->allow(qr/exited on signal 9/);
$t->start();

sub uri { return '/v2/m/a/blobs/' . $t->digest($blobs[$_[0]]) }

# a pull has begun, and nginx is reloaded; the connection and the worker

sub begin {
    my ($i) = @_;
    my $old;
    ok(until_true(10, sub { 1 == (($old) = $t->workers()) }), "$i: a worker");
    my $s = $t->connect();
    $t->send_request($s, 'GET', uri($i));
    my $r = $t->read_header($s);
    my $got = $r->{rest};
    while (length $got < 2 * $slice) {
        sysread $s, $got, 65536, length $got or last;
    }
    $t->signal('HUP');
    ok(until_true(10, sub { grep { $_ != $old } $t->workers() }),
        "$i: reloaded");
    return ($s, $old);
}

{
    my ($s, $old) = begin(0);
    my $o;
    ok(until_true(10, sub {
        $o = $t->connect();
        $t->send_request($o, 'GET', '/oci_status');
        $t->read_body($o, $t->read_header($o), 'GET');
        return ($t->worker_of($o) || $old) != $old;
    }), '0: the new worker');
    $t->send_request($o, 'GET', uri(0));
    my $r = $t->read_header($o);
    is($r->{status}, 200, '0: a reader there');
    kill 'KILL', $old;
    ok($t->read_body($o, $r, 'GET', 30)->{body} eq $blobs[0],
        '0: gets all of it');
}

{
    my ($s, $old) = begin(1);
    is($t->status()->{counters}{fills_active}, 1, '1: a fill');
    kill 'KILL', $old;
    ok(until_true(30, sub { $t->status()->{counters}{fills_active} == 0 }),
        '1: it is not counted any more');
    my $r = $t->get(uri(1), undef, 30);
    ok($r->{body} eq $blobs[1], '1: who comes next');
    cmp_ok($t->upstream_bytes(), '<=', 2 * $size + 2 * $slice + 9,
        '1: little was fetched twice');
}

$t->done();
