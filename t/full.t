#!/usr/bin/perl

# The disk is full: it is said once, what is asked for then is passed through
# and right, and when there is room again it is cached again.

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

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $q->{uri} =~ /$fits/ ? $small : $blob);
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
like($t->read_file('error.log'), qr/the rest of a blob from \d+ on is passed/,
    'past the cache from there on');

# who asks again gets it

for my $i (1 .. 3) {
    $r = $t->get($uri);
    ok(!$r->{cut} && $r->{body} eq $blob, "again $i: right");
    ok(!exists $r->{h}{'cache-status'}, "again $i: passed through");
}

$r = $t->get($uri, { Range => 'bytes=20000000-20000999' });
is($r->{body}, substr($blob, 20000000, 1000), 'a range');

my @said = grep { /No space left/ } split /\n/, $t->read_file('error.log');
ok(@said >= 1 && @said <= 8, 'it is said, and not again and again')
    or diag(scalar @said);
ok($t->status()->{counters}{disk_errors} > 0, 'and counted');

# with no room even for a sidecar, no files stay

SKIP: {
    my $cache = "/proc/$t->{pids}{nginx}/root$d/cache";
    skip 'no way to the file system', 3 if !-d $cache;

    sleep 11;       # how long fills are refused after a failure

    open my $f, '>', "$cache/junk" or die "junk: $!";
    while (syswrite $f, 'x' x 65536) { }
    while (syswrite $f, 'x' x 512) { }

    $r = $t->get("/v2/m/a/blobs/$fits");
    ok(!$r->{cut} && $r->{body} eq $small, 'no room for files: right');
    like($t->read_file('error.log'), qr/creating a blob of/, 'it is said');
    my $hex = substr $fits, 7;
    is_deeply([glob "$cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex*"],
        [], 'no files are left');
}

$t->done();
