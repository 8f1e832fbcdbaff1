#!/usr/bin/perl

# Complaint 8 (zot#1395, nexus-public#284, nora#1001): the client sees nothing
# until the blob is complete, and gives up.
#
# A registry sends the first bytes of a blob and holds the rest back until the
# test has seen that a client, and a second one, had its header and all those
# bytes; a range that begins behind them has its header.  With "strict", where
# nothing may go out, the answer is 503 and not silence (see strict.t).  Ten
# times, as what comes may come while what came before is written.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $size = 2_000_000;
my $first = 300_000;
my ($blob, $digest);
my @blobs = map { $t->random_blob($size) } 1 .. 10;
my %blob = map { $t->digest($_) => $_ } @blobs;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my $blob = $blob{$digest};
    return $t->reply($c, $q, 200, { 'Content-Length' => $size })
        if $q->{method} eq 'HEAD';
    return $t->reply_blob($c, $q, $blob) if $to - $from == 1;
    printf $c "HTTP/1.1 206 X\r\nContent-Length: %d\r\n"
        . "Content-Range: bytes %d-%d/%d\r\n\r\n", $to - $from, $from,
        $to - 1, $size;
    my $n = $from < $first ? $first - $from : 0;
    $n = $to - $from if $n > $to - $from;
    print $c substr $blob, $from, $n;
    for (1 .. 600) {
        last if -e "$t->{dir}/$digest";
        sleep 0.1;
    }
    print $c substr $blob, $from + $n, $to - $from - $n;
    return 1;
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=1m');
$t->start();

# what a client has, while the registry waits for it

sub begun {
    my ($name, %h) = @_;
    my $s = $t->connect();
    $t->send_request($s, 'GET', "/v2/m/blobs/$digest",
        { Connection => 'close', %h });
    my $r = $t->read_header($s, 30);
    is($r->{status}, %h ? 206 : 200, "$name: its header");
    return ($name, $s, $r) if %h;
    eval {
        local $SIG{ALRM} = sub { die };
        alarm 30;
        while (length $r->{rest} < $first) {
            sysread $s, $r->{rest}, 65536, length $r->{rest} or last;
        }
        alarm 0;
    };
    alarm 0;
    ok($r->{rest} eq substr($blob, 0, length $r->{rest}), "$name: bytes");
    is(length $r->{rest}, $first, "$name: all that has come");
    return ($name, $s, $r);
}

for my $i (1 .. @blobs) {
    $blob = $blobs[$i - 1];
    $digest = $t->digest($blob);
    my @c = ([ begun("$i, a client") ], [ begun("$i, another one") ],
        [ begun("$i, a range", Range => 'bytes=1500000-') ]);

    is($t->head("/v2/m/blobs/$digest")->{h}{'content-length'}, $size,
        "$i: HEAD meanwhile");
    $t->write_file($digest, '');

    for (@c) {
        my ($name, $s, $r) = @$_;
        $t->read_body($s, $r, 'GET', 60);
        ok($r->{body} eq ($r->{status} == 200 ? $blob
            : substr $blob, 1500000), "$name: and the rest");
    }
    last if !Test::More->builder->is_passing;
}
cmp_ok($t->upstream_bytes(), '<=', @blobs * ($size + 2), 'which came once');

$t->done();
