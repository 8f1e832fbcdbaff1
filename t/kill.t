#!/usr/bin/perl

# Workers that die and a configuration that is loaded again in the middle of
# a pull: who comes back for the rest gets it, and little is fetched twice.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha256_hex /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $slice = 1024 * 1024;
my $size = 24 * $slice + 4711;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);

# 20 MB/s a connection

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_slowly($c, $q, $blob, 0.0065);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=1m', location => <<EOL);
location /v2/ {
    oci_pass demo;
    oci_cache models;
    oci_fill_connections 2;
    oci_fill_ahead 4m;
}
EOL

my $uri = "/v2/m/a/blobs/$digest";

# a client as containerd is one: it asks for the rest where it broke

sub resume {
    my ($text) = @_;
    my $tries = 0;
    while (length $text < $size && $tries++ < 20) {
        my $r = $t->get($uri, { length $text
            ? (Range => 'bytes=' . length($text) . '-') : () }, 30);
        if ($r->{status} == 0) {
            sleep 0.1;
            next;
        }
        return "status $r->{status}"
            if $r->{status} != (length $text ? 206 : 200);
        $text .= $r->{body};
    }
    return sha256_hex($text) . " $tries";
}

sub fresh {
    $t->stop() if $t->{pids}{nginx};
    system("rm -rf $d/cache");
    unlink "$d/sent";
    $t->start();
}

# reads n bytes; the connection and what came

sub begin {
    my ($n) = @_;
    my $s = $t->connect();
    $t->send_request($s, 'GET', $uri);
    my $r = $t->read_header($s);
    my $got = $r->{rest};
    while (length $got < $n) {
        my $k = sysread $s, $got, 65536, length $got;
        last unless $k;
    }
    return ($s, $got, $r);
}

# what is left on that connection, until it ends

sub drain {
    my ($s, $got) = @_;
    eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm 30;
        while (length $got < $size) {
            my $n = sysread $s, $got, 1 << 20, length $got;
            last unless $n;
        }
        alarm 0;
    };
    alarm 0;
    close $s;
    return $got;
}

# each of the two workers is killed: one owns the fill, one may only read

for my $i (0, 1) {
    fresh();

    my @all;
    my ($s, $got) = begin(5 * $slice);

    my @w = $t->workers();
    is(scalar(@w), 2, "$i: two workers");
    kill 'KILL', $w[$i];

    $got = drain($s, $got);
    ok($got eq substr($blob, 0, length $got), "$i: what came is right");
    is((split / /, resume($got))[0], sha256_hex($blob),
        "$i: the rest after a worker's death");

    # two exchanges were in flight, a slice each, and what lies in sockets

    cmp_ok($t->sent(), '<=', $size + 2 * $slice + 8 * $slice,
        "$i: little was sent twice");

    ok(until_true(5, sub { $t->workers() == 2 }), "$i: it was replaced");

    my $r = $t->get($uri);
    ok($r->{body} eq $blob, "$i: whole afterwards");
    like($r->{h}{'cache-status'}, qr/hit/, "$i: from the cache");

    ok(until_true(2, sub { $t->status()->{counters}{fills_active} == 0 }),
        "$i: no fill is left");
}

# many readers, all workers killed, twice

fresh();

my $parent = $$;
my $killer = fork();

if ($killer == 0) {
    for (1, 2) {
        sleep 0.4;
        kill 'KILL', $t->workers();
    }
    POSIX::_exit(0);
}

my @sums = $t->parallel(6, sub { return resume('') });
waitpid $killer, 0;

is(scalar(grep { /^\Q@{[sha256_hex($blob)]}\E / } @sums), 6,
    'six readers, workers killed twice') or diag(explain(\@sums));

# a reload: who reads goes on in the old worker, others in new ones

fresh();

my ($s, $got) = begin(2 * $slice);
my @old = $t->workers();
$t->signal('HUP');
ok(until_true(5, sub {
    my %w = map { $_ => 1 } $t->workers();
    grep { !$_ } map { $w{$_} } @old or keys %w > 2;
}), 'new workers after a reload');

my $second = $t->get($uri, undef, 30);
ok($second->{body} eq $blob, 'a new reader during a reload');
$got = drain($s, $got);
ok($got eq $blob, 'an old reader over a reload');

ok(until_true(15, sub {
    my %w = map { $_ => 1 } $t->workers();
    !grep { $w{$_} } @old;
}), 'the old workers go');

ok($t->get($uri)->{body} eq $blob, 'whole after a reload');

# who reads what is stored waits for nothing but his own turns

for my $i (1 .. 3) {
    ($s, $got) = begin($slice);
    $t->signal('HUP');
    sleep 0.5;
    $got = drain($s, $got);
    ok($got eq $blob, "a reader of a stored blob over a reload, $i")
        or diag(length $got);
}

# a whole restart in the middle: slices that were recorded count

fresh();
($s, $got) = begin(12 * $slice);
$t->signal('TERM');
$got = drain($s, $got);
$t->stop();
my $before = $t->sent();
$t->start();
is((split / /, resume($got))[0], sha256_hex($blob), 'after a restart');
cmp_ok($t->sent() - $before, '<=', $size - 10 * $slice,
    'recorded slices are not fetched again');
$t->stop();
$t->start();
ok($t->get($uri)->{body} eq $blob, 'whole after a restart');

$t->allow(qr/worker process \d+ exited on signal 9/);
$t->done();
