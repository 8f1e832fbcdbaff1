#!/usr/bin/perl

# A slice that one reader can't read says nothing to the others: who waits in
# the same worker for what is being fetched waits on, and that is stored.

use warnings;
use strict;

use Test::More;
use Errno qw/ EIO /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Fault;

my $t = OCI->new(workers => 1);
my $fault = Fault->new($t);
my $d = $t->{dir};
my $slice = 64 * 1024;
my $size = 16 * $slice + 4711;
my $first = 4 * $slice;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my $uri = "/v2/m/a/blobs/$digest";

# four slices, then it waits

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    return $t->reply_blob($c, $q, $blob) if $to - $from <= 100;
    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";
    if ($from < $first) {
        print $c substr $blob, $from, $first - $from;
        $from = $first;
    }
    until_true(30, sub { -e "$d/go" });
    print $c substr $blob, $from, $to - $from;
    return 1;
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k');
$t->allow(qr/ failed \(5: /);

$fault->start();

my $s = $t->connect();
$t->send_request($s, 'GET', $uri);
my $r = $t->read_header($s);
is($r->{status}, 200, 'a reader');
my $got = $r->{rest};
while (length $got < $first) {
    sysread $s, $got, 65536, length $got or last;
}

# nothing is in memory, and the second slice can't be read

$fault->arm('read', 1, EIO, on => 1, cold => 1, from => $slice);

my $o = $t->get($uri, { Range => "bytes=$slice-" . ($slice + 99) });
is($o->{status}, 206, 'another one');
ok($o->{body} eq substr($blob, $slice, 100), 'has what it wants');

cmp_ok(($fault->disarm())[1], '>', 0, 'but not from the file');

# the first one wakes up now and then, and looks

sleep 2.5;
$t->write_file('go', '');

$r = $t->read_body($s, { status => 200, rest => $got,
    h => { 'content-length' => $size } }, 'GET', 30);
ok($r->{body} eq $blob, 'the first one has it all');
cmp_ok($t->upstream_bytes(), '<=', $size + 100 + 9, 'fetched once');

my $before = $t->upstream_bytes();
$r = $t->get($uri);
ok($r->{body} eq $blob, 'it is stored');
is($t->upstream_bytes(), $before, 'from the cache');

$t->done();
