#!/usr/bin/perl

# Files that were made anew are not those that the zone knows, also where they
# have the same inodes: a worker is killed, which was the last that had them
# open, and before it is replaced, they are removed and asked for again.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my @blobs = map { $t->random_blob(150_000) } 0 .. 2;
my %by = map { $t->digest($_) => $_ } @blobs;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply_blob($c, $q, $by{$digest});
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k');
$t->allow(qr/exited on signal 9/);
$t->start();

sub pull {
    my ($s, $digest, $h) = @_;
    $t->send_request($s, 'GET', "/v2/m/a/blobs/$digest", $h);
    return $t->read_body($s, $t->read_header($s), 'GET');
}

my $master = $t->{pids}{nginx};

for my $i (0 .. $#blobs) {
    my $digest = $t->digest($blobs[$i]);
    my $hex = substr $digest, 7;
    my %s = $t->to_workers();

    is(scalar keys %s, 2, "$i: two workers");

    my ($first, $second) = sort { $a <=> $b } keys %s;
    ok(pull($s{$first}, $digest)->{body} eq $blobs[$i], "$i: stored");

    kill 'STOP', $master;
    kill 'KILL', $first;

    # its files are closed

    my $end = time() + 10;
    sleep 0.02 while glob("/proc/$first/fd/*") && time() < $end;

    unlink glob "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex*";

    my $r = pull($s{$second}, $digest, { Range => 'bytes=70000-70999' });
    is($r->{status}, 206, "$i: a part");
    ok($r->{body} eq substr($blobs[$i], 70000, 1000), "$i: is right");

    $r = pull($s{$second}, $digest);
    ok($r->{status} == 200 && $r->{body} eq $blobs[$i], "$i: all is right");

    kill 'CONT', $master;

    $end = time() + 20;
    sleep 0.05 while time() < $end
        && grep({ $_ == $first } $t->workers()) + (2 != $t->workers());
    is(scalar $t->workers(), 2, "$i: the worker was replaced");
}

$t->done();
