#!/usr/bin/perl

# What is left of files does not keep new ones away: a half-written manifest of
# a process that had the same id, as processes in containers have after each
# start, and the data of a blob that somebody cut short.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $blob = $t->random_blob(300_000);
my $digest = $t->digest($blob);
my $manifest = '{"schemaVersion":2}';
my $md = $t->digest($manifest);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $md }, $manifest)
        if $q->{uri} =~ m!/manifests/!;
    return $t->reply_blob($c, $q, $blob);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k');
$t->start();

sub file {
    my ($kind, $digest) = @_;
    my $hex = substr $digest, 7;
    return "cache/$kind/" . substr($hex, 0, 2) . "/$hex";
}

# a manifest's temporary files are named by process and number

my ($worker) = $t->workers();
my $file = file('manifests', $md);

mkdir dirname("$d/$file"), 0700;
$t->write_file("$file.$worker.$_.tmp", 'half') for 0 .. 63;

is($t->get("/v2/m/a/manifests/$md")->{body}, $manifest, 'a manifest');

my $end = time() + 10;
sleep 0.05 while !-e "$d/$file" && time() < $end;
is($t->read_file($file), $manifest, 'is kept');

# a client that does not give up, of a file that was cut short

my $uri = "/v2/m/a/blobs/$digest";
ok($t->get($uri)->{body} eq $blob, 'a blob');

truncate "$d/" . file('blobs/sha256', $digest), 100_000;
$t->allow(qr/reading a blob in/);

my ($tries, $r) = (0);
$end = time() + 20;

do {
    sleep 0.2 if $tries++;
    $r = $t->get($uri);
    ok($r->{body} eq $blob || $r->{cut} || $r->{status} == 0,
        "try $tries: right or cut");
} while (($r->{cut} || $r->{status} == 0) && time() < $end);

ok($r->{body} eq $blob, 'comes again while it is asked for')
    or diag("$tries tries");
is($t->get($uri, { Range => 'bytes=200000-200099' })->{body},
    substr($blob, 200000, 100), 'and a part');

$t->done();
