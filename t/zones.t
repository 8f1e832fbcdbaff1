#!/usr/bin/perl

# Each of many caches is one.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $n = 20;
my $blob = $t->random_blob(1000);
my $digest = $t->digest($blob);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob);
});

$t->conf(
    cache => join("\n", map { "oci_cache_path $t->{dir}/cache$_"
        . " keys_zone=z$_:64k;" } 1 .. $n),
    http => "oci_registry demo { url http://127.0.0.1:$port; }",
    location => join("\n", map { "location /v2/$_/"
        . " { oci_pass demo; oci_cache z$_; }" } 1 .. $n));
$t->start();

for my $i (1 .. $n) {
    my $uri = "/v2/$i/m/blobs/$digest";
    ok($t->get($uri)->{body} eq $blob, "cache $i");
    like($t->get($uri)->{h}{'cache-status'} // '', qr/hit/, "cache $i: hit");
}

$t->done();
