#!/usr/bin/perl

# What the disk has no room for is passed through.  When somebody else fills
# the disk in the middle of a fill, it is said once, the response goes on, what
# is asked for then is passed through and right, and when there is room again
# it is cached again.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

OCI->skip_all_unless('unshare');
plan(skip_all => 'no mount namespace here')
    if system("unshare -m mount -t tmpfs none /mnt >/dev/null 2>&1") != 0;

my $size = 24 * 1024 * 1024;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my $small = $t->random_blob(2 * 1024 * 1024);
my $fits = $t->digest($small);
my $half = $t->random_blob(8 * 1024 * 1024 + 99);
my $stops = $t->digest($half);

# one stops at half, until the file "go" is there

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my $b = $q->{uri} =~ /$fits/ ? $small
        : $q->{uri} =~ /$stops/ ? $half : $blob;

    if ($b eq $half && !-e "$d/go" && ($q->{to} // 0) > 1) {
        my ($from, $to) = ($q->{from}, $q->{to});
        my $n = int(($to - $from) / 2);
        print $c "HTTP/1.1 206 X\r\nContent-Length: ", $to - $from, "\r\n",
            "Content-Range: bytes $from-", $to - 1, '/', length $b,
            "\r\n\r\n", substr $b, $from, $n;
        for (1 .. 300) {
            last if -e "$d/go";
            sleep 0.1;
        }
        print $c substr $b, $from + $n, $to - $from - $n;
        return 1;
    }

    return $t->reply_blob($c, $q, $b);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=1m');
$t->allow(qr/No space left|writing a blob/);

# the cache is a file system of 12 MiB, which goes with the process

mkdir "$d/cache";
my @start = ('unshare', '-m', 'sh', '-c',
    "mount -t tmpfs -o size=12m,mode=0700 none $d/cache && exec $OCI::BINARY"
    . " -p $d/ -c $d/nginx.conf -e $d/error.log");

$t->spawn('nginx', @start);
$t->wait_port($t->{edge});

my $uri = "/v2/m/a/blobs/$digest";
my $r = $t->get($uri);
ok(!$r->{cut} && $r->{body} eq $blob, 'the first one: right to its end');
like($t->read_file('error.log'), qr/no room for a blob of $size bytes/,
    'it is said why');

# who asks again gets it

for my $i (1 .. 3) {
    $r = $t->get($uri);
    ok(!$r->{cut} && $r->{body} eq $blob, "again $i: right");
    ok(!exists $r->{h}{'cache-status'}, "again $i: passed through");
}

$r = $t->get($uri, { Range => 'bytes=20000000-20000999' });
is($r->{body}, substr($blob, 20000000, 1000), 'a range');

unlike($t->read_file('error.log'), qr/No space left/, 'nothing failed');
is($t->status()->{counters}{disk_errors}, 0, 'nor is it counted');

SKIP: {
    my $cache = "/proc/$t->{pids}{nginx}/root$d/cache";
    skip 'no way to the file system', 14 if !-d $cache;

    # somebody else fills the disk

    my $s = $t->connect();
    $t->send_request($s, 'GET', "/v2/m/a/blobs/$stops");
    $r = $t->read_header($s);
    like($r->{h}{'cache-status'} // '', qr/stored/, 'one that has room');

    my $n = length $r->{rest};
    while ($n < 3 * 1024 * 1024) {
        my $got = sysread $s, $r->{rest}, 65536, $n or last;
        $n += $got;
    }

    junk($cache);
    $t->write_file('go', '');
    $t->read_body($s, $r, 'GET', 40);
    ok(!$r->{cut} && $r->{body} eq $half, 'full at half: right to its end');

    my @said = grep { /No space left/ } split /\n/,
        $t->read_file('error.log');
    is(scalar @said, 1, 'it is said once') or diag(@said);
    like($t->read_file('error.log'),
        qr/the rest of a blob from \d+ on is passed/,
        'past the cache from there on');
    ok($t->status()->{counters}{disk_errors} > 0, 'and counted');

    $r = $t->get("/v2/m/a/blobs/$stops");
    ok(!$r->{cut} && $r->{body} eq $half, 'full: right');
    $r = $t->get("/v2/m/a/blobs/$fits");
    ok(!$r->{cut} && $r->{body} eq $small, 'full: another one, too');

    # there is room again, and no restart

    unlink "$cache/junk";
    ok(again("/v2/m/a/blobs/$stops", $half), 'room: cached again');
    like($r->{h}{'cache-status'}, qr/hit/, 'room: a hit');

    # with no room even for a sidecar, no files stay

    junk($cache);

    my $before = said();
    $r = $t->get("/v2/m/a/blobs/$fits");
    ok(!$r->{cut} && $r->{body} eq $small, 'no room for files: right');
    like($t->read_file('error.log'), qr/creating a blob of/, 'it is said');
    my $hex = substr $fits, 7;
    is_deeply([glob "$cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex*"],
        [], 'no files are left');

    # nor is it said for each repository; once by a worker, and of blobs

    $t->get("/v2/m/b$_/blobs/$fits", { Range => 'bytes=0-9' }) for 1 .. 20;
    cmp_ok(said() - $before, '<=', 3, 'no room for files: not said often')
        or diag(said() - $before);

    # what was there is in the way of nobody

    unlink "$cache/junk";
    ok(again("/v2/m/a/blobs/$fits", $small), 'room once more');
}

sub junk {
    my ($cache) = @_;
    open my $f, '>', "$cache/junk" or die "junk: $!";
    while (syswrite $f, 'x' x 65536) { }
    while (syswrite $f, 'x' x 512) { }
    close $f;
}

sub said {
    return scalar grep { /\[crit\].*No space left/ }
        split /\n/, $t->read_file('error.log');
}

# until it is a hit: a failure keeps fills away for 10 seconds

sub again {
    my ($uri, $body) = @_;

    for (1 .. 60) {
        $r = $t->get($uri);
        return 0 if $r->{cut} || $r->{body} ne $body;
        return 1 if ($r->{h}{'cache-status'} // '') =~ /hit/;
        sleep 0.5;
    }

    return 0;
}

$t->done();
