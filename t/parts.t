#!/usr/bin/perl

# Two instances of nginx on one directory, and a registry that does not send
# the same bytes twice: what a reader was sent of a slice that is there in part
# is not what is verified, if the other instance fetched that slice anew.
# Such a reader is cut, whether the rest comes from the file or past it; one
# who had whole slices only goes on, and nothing is fetched twice.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $slice = 64 * 1024;
my $size = 14 * $slice + 4711;
my $mark = 4 * $slice + $slice / 2;
my @names = qw/ border after beside removed /;
my %blob = map { $_ => $t->random_blob($size) } @names;
my %name = map { $t->digest($blob{$_}) => $_ } @names;

sub at { return -e "$d/$_[0]" }
sub put { $t->write_file($_[0], '') }

# "first": half of the fifth slice is wrong, and no more comes, or nothing of
# it.  "second": it stops in the ninth, or there is a wrong byte near the end

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my $name = $name{$digest // ''} or return $t->reply($c, $q, 404);
    my $data = $blob{$name};
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    return $t->reply_blob($c, $q, $data) if $to - $from <= 1;

    my $stop = at("$name.first")
        ? ($name eq 'border' ? 4 * $slice : $mark)
        : at("$name.second") && $name eq 'beside' && $from < $mark
        ? 8 * $slice + 100 : $to;
    substr($data, 4 * $slice, 5) = 'wrong' if at("$name.first");
    substr($data, $size - 5, 5) = 'wrong'
        if at("$name.second") && $name eq 'removed';

    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";
    if ($stop == $to) {
        print $c substr $data, $from, $to - $from;
        return 1;
    }

    # the part of a slice is not in one buffer with the slice before

    my $whole = $stop - $stop % $slice;
    print $c substr $data, $from, $whole - $from;
    sleep 0.3;
    print $c substr $data, $whole, $stop - $whole;
    put("$name.stopped");
    until_true(30, sub { !at("$name.first") && !at("$name.second") });
    return 0;
});

my $reg = "oci_registry demo { url http://127.0.0.1:$port; }";
my $loc = 'location /v2/ { oci_pass demo; oci_cache models;'
    . ' oci_fill_connections 1; }';
$t->conf(http => $reg, cache_args => 'slice=64k', location => $loc);
$t->allow(qr/exited on signal 9/);
$t->start();

my $u = OCI->new(workers => 1);
$u->conf(http => $reg, location => $loc,
    cache => "oci_cache_path $d/cache keys_zone=models:8m slice=64k;");
$u->start();

# a connection whose response has begun; the connection, and what came

sub begin {
    my ($s, $uri, $mark) = @_;
    $t->send_request($s, 'GET', $uri);
    my $r = $t->read_header($s);
    is($r->{status}, 200, 'begun');
    my $got = $r->{rest};
    while (length $got < $mark) {
        sysread $s, $got, $mark - length $got, length $got or last;
    }
    return $got;
}

for my $name (@names) {
    my $uri = '/v2/m/a/blobs/' . $t->digest($blob{$name});
    my %s = $t->to_workers();
    my ($first, $second) = sort { $a <=> $b } keys %s;

    put("$name.first");
    my $before = $name eq 'border' ? 4 * $slice : $mark;
    begin($s{$first}, $uri, $before);
    my $got = begin($s{$second}, $uri, $before);
    is(substr($got, 4 * $slice, 5), $name eq 'border' ? '' : 'wrong',
        "$name: wrong bytes went out");

    kill 'STOP', $second;
    kill 'KILL', $first;
    ok(until_true(10, sub { my @w = $t->workers();
        2 == @w && !grep { $_ == $first } @w }), "$name: replaced");

    # the other instance has what is recorded, and fetches the rest

    unlink "$d/$name.stopped";
    put("$name.second") if $name =~ /beside|removed/;
    unlink "$d/$name.first";

    my $o;
    if ($name eq 'beside') {
        $o = $u->connect();
        $u->send_request($o, 'GET', $uri);
        ok(until_true(10, sub { at("$name.stopped") }), "$name: fetched anew");
        sleep 0.3;

    } else {
        my $r = $u->get($uri, undef, 20);
        ok($name eq 'removed' ? $r->{cut} : $r->{body} eq $blob{$name},
            "$name: the other instance");
        unlink "$d/$name.second";
    }

    kill 'CONT', $second;
    my $r = $t->read_body($s{$second}, { status => 200, rest => $got,
        h => { 'content-length' => $size } }, 'GET', 20);

    if ($name eq 'border') {
        ok($r->{body} eq $blob{$name}, "$name: the reader goes on");
        cmp_ok($t->upstream_bytes() + $u->upstream_bytes(), '<=', $size + 3,
            "$name: once");
        next;
    }

    ok($r->{cut} && !$r->{timeout}, "$name: the reader is cut");
    is(substr($r->{body}, 4 * $slice, 5), 'wrong', "$name: rightly");

    if ($o) {
        unlink "$d/$name.second";
        $r = $u->read_body($o, $u->read_header($o), 'GET', 20);
        ok($r->{body} eq $blob{$name}, "$name: the other instance");
    }

    $r = $t->get($uri, undef, 20);
    ok($r->{status} == 200 && $r->{body} eq $blob{$name},
        "$name: who comes next");
}

ok($u->stop(), 'the other instance stopped');
$t->done();
