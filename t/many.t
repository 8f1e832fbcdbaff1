#!/usr/bin/perl

# Manifests and references take a bounded part of max_size, whoever asks for
# many of them; those that nobody used for longest go.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use File::Find;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $bound = 1024 * 1024;        # a 16th of max_size

sub manifest {
    return qq/{"schemaVersion":2,"mediaType":"$OCI::TYPE{manifest}",/
        . qq/"annotations":{"n":"$_[0]","x":"/ . 'x' x 60000
        . qq/"},"layers":[]}/;
}

my @of = map { $t->digest(manifest($_)) } 0 .. 51;

my $blob = $t->random_blob(3 * 1024 * 1024);
my $digest = $t->digest($blob);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ /blobs/;
    my ($n) = $q->{uri} =~ m!/manifests/t(\d+)$!;
    ($n) = grep { $q->{uri} =~ /\Q$of[$_]\E$/ } 1 .. 51 if !defined $n;
    return $t->reply($c, $q, 404) if !defined $n;
    my $m = manifest($n);
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($m) }, $m);
});

$t->conf(cache_args => 'slice=1m max_size=16m', http => <<EOC);
oci_registry demo { url http://127.0.0.1:$port; }
EOC
$t->start();

# not at one moment: what goes may be counted, and what comes instead

sub taken {
    my $bytes = counted();
    for (1 .. 2) {
        last if $bytes <= $bound;
        sleep 0.02;
        $bytes = counted();
    }
    return $bytes;
}

sub counted {
    my $bytes = 0;
    find({ no_chdir => 1, wanted => sub {
        my @s = lstat $_ or return;
        $bytes += $s[12] * 512 if -f _;
    } }, "$d/cache/refs", "$d/cache/manifests");
    return $bytes;
}

sub kept {
    my $hex = substr $t->digest(manifest($_[0])), 7;
    return -f "$d/cache/manifests/" . substr($hex, 0, 2) . "/$hex";
}

# the manager looks every 10 seconds, and when it is woken

sub wake {
    my ($manager) = grep { `cat /proc/$_/cmdline` =~ /cache manager/ }
        split /\s+/, `pgrep -P $t->{pids}{nginx}`;
    kill 'USR1', $manager if $manager;
}

sub until_seen {
    my ($code) = @_;
    my $end = time() + 40;
    while (time() < $end) {
        wake();
        return 1 if $code->();
        sleep 0.5;
    }
    return 0;
}

ok($t->get("/v2/m/blobs/$digest")->{body} eq $blob, 'a blob');

my ($wrong, $most) = (0, 0);

for my $n (1 .. 40) {
    my $r = $t->get("/v2/m/manifests/t$n");
    $wrong++ if $r->{body} ne manifest($n);
    my $now = taken();
    $most = $now if $now > $most;
}

is($wrong, 0, 'all are right');
cmp_ok($most, '<=', $bound, 'they take no more than their part');
cmp_ok($most, '>', $bound / 2, 'but that');
ok(until_seen(sub { taken() <= $bound / 4 * 3 }), 'some of them go')
    or diag(taken());
cmp_ok(taken(), '>', $bound / 2, 'not all of them');

# and others have room, also in many repositories

ok(until_seen(sub {
    $t->get('/v2/m/manifests/t50')->{body} eq manifest(50) && kept(50);
}), 'the next one is kept');

($wrong, $most) = (0, 0);

for my $n (51 .. 250) {
    my $r = $t->head("/v2/r$n/m/manifests/t51");
    $wrong++ if $r->{status} != 200;
    my $now = $n % 10 ? 0 : taken();
    $most = $now if $now > $most;
}

is($wrong, 0, 'references: all are right');
cmp_ok($most, '<=', $bound, 'references: no more than their part');
is($t->status()->{counters}{disk_errors}, 0, 'the disk is not at fault');
my @said = grep { /no room for more in/ }
    split /\n/, $t->read_file('error.log');
cmp_ok(scalar @said, '<=', 4, 'it is said now and then');

# what is there is counted after a restart, too

$t->stop();
$t->start();
sleep 1;
wake();

($wrong, $most) = (0, 0);

for my $n (1 .. 30) {
    my $r = $t->get("/v2/m/manifests/t$n");
    $wrong++ if $r->{body} ne manifest($n);
    my $now = taken();
    $most = $now if $now > $most;
}

is($wrong, 0, 'a restart: all are right');
cmp_ok($most, '<=', $bound, 'a restart: no more than their part');
ok($t->get("/v2/m/blobs/$digest")->{body} eq $blob, 'the blob');

$t->done();
