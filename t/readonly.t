#!/usr/bin/perl

# The disk of the cache is remounted read-only, as kernels do after an error,
# and read-write again.
#
# What is asserted: what is complete is served from it, all else is passed
# through, right and at once, from the first request on; the change is said
# once, and nothing else, whatever the number of requests; when it is back
# everything is stored again, without a restart.
#
# In a mount namespace of its own, so that nothing is left: as root only.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

BEGIN {
    if (!$ENV{TEST_NAMESPACE}) {
        local $ENV{TEST_NAMESPACE} = 1;
        plan(skip_all => 'no mount namespace can be had')
            if $> != 0 || system('unshare -m true 2>/dev/null') != 0;
        my $lib = dirname(__FILE__) . '/lib';
        exec 'unshare', '-m', '--propagation', 'private', $^X, "-I$lib",
            __FILE__ or die "exec: $!";
    }
}

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

mkdir "$d/cache", 0700;
plan(skip_all => 'nothing can be mounted')
    if system("mount -t tmpfs -o size=64m,mode=0700 tmpfs $d/cache "
        . '2>/dev/null') != 0;

END {
    local $?;
    system "umount -l $d/cache 2>/dev/null" if $d && $$ == $t->{owner};
}

my @blobs = map { $t->random_blob(300_000) } 1 .. 5;
my @digests = map { $t->digest($_) } @blobs;
my %blobs = map { $digests[$_] => $blobs[$_] } 0 .. $#blobs;
my @manifests = map { "{\"schemaVersion\":2,\"n\":$_}" } 0, 1;
my @mds = map { $t->digest($_) } @manifests;
my %manifests = map { $mds[$_] => $manifests[$_] } 0, 1;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($kind, $ref) = $q->{uri} =~ m!/(blobs|manifests)/(.+)$!;

    return $t->reply($c, $q, 404) if !$kind;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $ref }, $manifests{$ref})
        if $kind eq 'manifests';
    return $t->reply_blob($c, $q, $blobs{$ref});
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k');
$t->allow(qr/is read-only/);
$t->start();

my $last = 0;

sub said {
    my ($re, $name) = @_;
    my $end = time() + 15;
    my $text;
    while (time() < $end) {
        $text = substr $t->read_file('error.log'), $last;
        last if $text =~ $re;
        sleep 0.05;
    }
    like($text, $re, "$name: it is said");
}

sub once {
    my ($name) = @_;
    my $text = substr $t->read_file('error.log'), $last;
    my @lines = grep { /oci cache directory/ } split /\n/, $text;
    is(@lines, 1, "$name: once") or diag(join "\n", @lines);
    my @other = grep { /\[(warn|error|crit|alert)\]/
        && !/oci cache directory/ } split /\n/, $text;
    is(join("\n", @other), '', "$name: and nothing else");
    $last = length $t->read_file('error.log');
}

sub pull {
    my ($i, $name) = @_;
    my $r = $t->get("/v2/m/a/blobs/$digests[$i]", {}, 10);
    ok($r->{status} == 200 && $r->{body} eq $blobs[$i],
        "$name: blob $i is right") or diag("$r->{status} "
            . length $r->{body});
    return ($r->{h}{'cache-status'} // 'none') =~ /(hit|fwd|none)/ ? $1 : '';
}

sub manifest {
    my ($i, $name) = @_;
    is($t->get("/v2/m/a/manifests/$mds[$i]", {}, 10)->{body}, $manifests[$i],
        "$name: manifest $i is right");
}

sub fetched {
    return scalar grep { $_->{uri} =~ m!/blobs/$digests[$_[0]]!
        && $_->{method} eq 'GET'
        && ($_->{h}{range} // '') ne 'bytes=0-0' } $t->requests();
}

# two that are complete, one in part, a manifest

pull($_, 'at first') for 0, 1, 0, 1;
is($t->get("/v2/m/a/blobs/$digests[2]", { Range => 'bytes=70000-70009' })
    ->{body}, substr($blobs[2], 70000, 10), 'at first: a part');
manifest(0, 'at first');

# read-only, once nobody has a file open to write

my $end = time() + 30;
my $failed;
while (($failed = system("mount -o remount,ro $d/cache 2>/dev/null"))
    && time() < $end)
{
    sleep 0.1;
}
is($failed, 0, 'it is read-only');

# the first of these come before anybody knows

$t->forget_requests();
is(pull(3, 'read-only'), 'none', 'read-only: passed through');
manifest(1, 'read-only');
said(qr/cache" is read-only/, 'read-only');

for my $n (1 .. 3) {
    is(pull($_, "read-only $n"), 'hit', "read-only $n: blob $_ is a hit")
        for 0, 1;
    isnt(pull($_, "read-only $n"), 'hit', "read-only $n: blob $_ is not")
        for 2, 3, 4;
    manifest($_, "read-only $n") for 0, 1;
    is($t->get("/v2/m/a/blobs/$digests[0]",
        { Range => 'bytes=299990-' })->{body}, substr($blobs[0], 299990),
        "read-only $n: a part");
}

is(fetched($_), 0, "read-only: nothing of blob $_ was fetched") for 0, 1;
once('read-only');

# read-write

is(system("mount -o remount,rw $d/cache"), 0, 'it is read-write');
said(qr/cache" can be used again/, 'read-write');

for my $i (0 .. 4) {
    my $end = time() + 15;
    my $how = '';
    while ($how ne 'hit' && time() < $end) {
        $how = pull($i, 'read-write');
        sleep 0.05 if $how ne 'hit';
    }
    is($how, 'hit', "read-write: blob $i is a hit");
}

manifest($_, 'read-write') for 0, 1;
once('read-write');

$t->stop();
system "umount -l $d/cache";
$t->done();
