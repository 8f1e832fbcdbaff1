#!/usr/bin/perl

# Clients that leave: containerd's chunk readers ask for everything from an
# offset on, take a piece and close.  That harms nobody and leaves nothing.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha256_hex /;
use Fcntl qw/ F_WRLCK F_UNLCK /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $size = 48 * 1024 * 1024;
my $slice = 1024 * 1024;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($mode) = $q->{uri} =~ m!^/v2/([a-z]+)/!;
    if ($mode eq 'drip' && ($q->{to} // $size) - ($q->{from} // 0) > 1) {
        my ($from, $to) = ($q->{from}, $q->{to});
        print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
            . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n"
            . substr($blob, $from, 1000);
        for (1 .. 60) {
            sleep 0.5;
            print $c substr($blob, $from + 999 + $_, 1) or return 0;
        }
        return 0;
    }
    return $t->reply_slowly($c, $q, $blob, 0.05, piece => 262144)
        if $mode eq 'slow';
    return $t->reply_blob($c, $q, $blob);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=1m', location => <<EOL);
location /v2/ {
    oci_pass demo;
    oci_cache models;
    oci_fill_abandoned stop after=200ms;
    oci_fill_ahead 8m;
}
location = /stub { stub_status; }
EOL
$t->start();

# without the connections to the registry that are kept for what comes next

sub fds {
    my ($n, %kept) = (0);
    my $hex = sprintf '%04X', $port;
    open my $tcp, '<', '/proc/net/tcp' or die "/proc/net/tcp: $!";
    while (<$tcp>) {
        my @f = split;
        $kept{"socket:[$f[9]]"} = 1 if $f[2] =~ /:$hex$/;
    }
    for my $pid ($t->workers()) {
        $n += grep { !$kept{readlink($_) // ''} } glob "/proc/$pid/fd/*";
    }
    return $n;
}

# the files that a fill holds

sub locked {
    return scalar grep {
        my $lock = pack 's s x4 q q i x4', F_WRLCK, 0, 0, 0, 0;
        open my $f, '+<', $_ or die "$_: $!";
        fcntl $f, 36, $lock or die "fcntl: $!";        # F_OFD_GETLK
        (unpack 's', $lock)[0] != F_UNLCK;
    } glob "$t->{dir}/cache/blobs/*/*/*.map";
}

# 64 readers, 1 MiB each of its own place, then closed

sub chunk {
    my ($uri, $from, $len) = @_;

    # past the end there is nothing but a connection that is kept alive

    $len = $size - $from if $len > $size - $from;

    my $s = $t->connect();
    $t->send_request($s, 'GET', $uri, { Range => "bytes=$from-" });
    my $r = $t->read_header($s);
    my $got = $r->{rest};
    while (length $got < $len) {
        my $n = sysread $s, $got, 65536, length $got;
        last unless $n;
    }
    close $s;
    return substr($got, 0, $len);
}

my $uri = "/v2/fast/blobs/$digest";
my $n = 48;
my @sums = $t->parallel($n, sub {
    my ($i) = @_;
    return sha256_hex(chunk($uri, $i * $slice, $slice));
});

is(join(',', @sums), join(',', map {
    sha256_hex(substr($blob, $_ * $slice, $slice)) } 0 .. $n - 1),
    'chunks of readers that leave');

my $up = $t->upstream_bytes();
ok($up <= $size + $n, 'no byte was fetched twice') or diag("$up of $size");

# another reader is not harmed by those who leave

$t->stop();
system("rm -rf $t->{dir}/cache");
$t->start();

my $base = fds();
$uri = "/v2/slow/blobs/$digest";
my @out = $t->parallel(9, sub {
    my ($i) = @_;
    return sha256_hex($t->get($uri)->{body}) if $i == 0;
    for (1 .. 20) {
        chunk($uri, int(rand($size)), int(rand(300000)));
    }
    return 'left';
});

is("sha256:$out[0]", $digest, 'a reader beside 160 that left');
$up = $t->upstream_bytes();
ok($up <= $size + 200 + 8 * $slice, 'fetched once') or diag("$up of $size");

# a fill that nobody reads any more ends

$t->stop();
system("rm -rf $t->{dir}/cache");
$t->start();
{
    my $s = $t->connect();
    $t->send_request($s, 'GET', $uri);
    $t->read_header($s);
    is(locked(), 1, 'a fill holds its file');
    close $s;
}

my $end = time() + 20;
my $active;
while (time() < $end) {
    $active = $t->status()->{counters}{fills_active};
    last if $active == 0;
    sleep 0.2;
}
is($active, 0, 'an abandoned fill ends');
sleep 1.5;
my $before = $t->upstream_bytes();
sleep 1;
is($t->upstream_bytes(), $before, 'and fetches nothing more');
ok($before < $size, 'before the end') or diag($before);

# also one whose slice would never be complete; what came of it stays

chunk("/v2/drip/blobs/" . $t->digest('drip'), 0, 500);
is($t->status()->{counters}{fills_active}, 1, 'a fill that drips');
$end = time() + 20;
while (time() < $end) {
    $active = $t->status()->{counters}{fills_active};
    last if $active == 0;
    sleep 0.2;
}
is($active, 0, 'ends as well');

# many, at random, cold and warm, some before the header

sub many {
    my ($requests) = @_;
    $t->parallel(10, sub {
        my ($i) = @_;
        for (1 .. $requests / 10) {
            my $s = $t->connect();
            $t->send_request($s, 'GET', $i % 2 ? $uri
                : "/v2/fast/blobs/$digest",
                { Range => 'bytes=' . int(rand($size)) . '-' });
            sysread $s, my $x, int(rand(200000)) if rand() < 0.7;
            close $s;
        }
        return '';
    });
}

sub rss {
    my $kb = 0;
    for my $pid ($t->workers()) {
        open my $f, '<', "/proc/$pid/status" or next;
        $kb += $1 if join('', <$f>) =~ /VmRSS:\s+(\d+)/;
    }
    return $kb;
}

my $aborts = $ENV{ABORTS} || 600;

many($aborts / 2);
my $rss = rss();
many($aborts / 2);

SKIP: {
    skip 'sanitizers keep what is freed', 1 if $OCI::ASAN;
    cmp_ok(rss() - $rss, '<', 8192, "KiB of memory after $aborts requests")
        or diag($rss);
}

# nothing is left

$end = time() + 20;
my ($conns, $fds);
while (time() < $end) {
    ($conns) = $t->get('/stub')->{body} =~ /Active connections: (\d+)/;
    $fds = fds();
    last if $conns == 1 && $fds <= $base + 2;
    sleep 0.5;
}
is($conns, 1, 'no connection is left');
ok($fds <= $base + 4, 'no descriptor is left') or diag("$fds, was $base");

is(locked(), 0, 'no lock is left');
is($t->status()->{counters}{wakeup_fallbacks}, 0, 'no lost wake-ups');

# and the rest is right

ok($t->get("/v2/fast/blobs/$digest")->{body} eq $blob, 'the whole of it');

$t->done();
