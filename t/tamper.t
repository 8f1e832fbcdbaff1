#!/usr/bin/perl

# Bytes that were hashed before their slice was recorded must not vouch for
# what is fetched in their place: the worker is killed in the middle of a
# slice, behind a checkpoint of the digest, and the upstream sends other bytes
# for its beginning the next time.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $m = 1024 * 1024;
my $size = 72 * $m;
my $blob = $t->random_blob($m) x 72;
substr($blob, $_ * $m, 4) = pack 'N', $_ for 0 .. 71;
my $digest = $t->digest($blob);
my $uri = "/v2/m/a/blobs/$digest";
my ($start, $stop) = (64 * $m, 66 * $m + 500000);
my $evil = "$t->{dir}/evil";

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    return $t->reply_blob($c, $q, $blob) if $to <= $start;
    my $head = "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";
    if (!-e $evil) {
        print $c $head, substr($blob, $from, $stop - $from);
        sleep 15;
        return 0;
    }
    my $bytes = substr($blob, $from, $to - $from);
    if ($from <= $start) {
        substr($bytes, $start - $from, 100) = 'evil' x 25;
    }
    print $c $head, $bytes;
    return 1;
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }");
$t->allow(qr/exited on signal 9/);
$t->start();

my $reader = fork();
if ($reader == 0) {
    eval { $t->get($uri, {}, 30) };
    POSIX::_exit(0);
}

my $end = time() + 20;
sleep 0.1 while $t->upstream_bytes() < $stop && time() < $end;
sleep 1.5;
$t->write_file('evil', '');
kill 'KILL', $t->workers();
waitpid $reader, 0;
sleep 0.5;

my $r = $t->get($uri);
ok($r->{cut} || $r->{status} != 200, 'no client completes')
    or diag("$r->{status} " . ($r->{body} eq $blob ? 'right' : 'wrong'));
is($t->status()->{counters}{verify_failures}, 1, 'it is found out');

$t->done();
