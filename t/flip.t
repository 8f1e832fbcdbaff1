#!/usr/bin/perl

# FLIPS blobs with one flipped bit each, anywhere: no client gets the whole of
# one, the file is gone, and the next pull from a healed upstream is right.
# With "strict" not one byte goes out.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha256 /;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $n = $ENV{FLIPS} || 100;
my $t = OCI->new(workers => 2);
my $d = $t->{dir};

# the blob of a number, and where its bit is

sub blob { return substr(sha256("blob $_[0]") x 40000, 0, 1200000 + $_[0]) }
sub place { return unpack('N', sha256("place $_[0]")) % (1200000 + $_[0]) }

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($i) = $q->{uri} =~ m!^/v2/(?:on|strict)/b(\d+)/blobs/!;
    my $blob = blob($i);
    substr($blob, place($i), 1) ^= "\x10" unless -e "$d/healed$i";
    return $t->reply_blob($c, $q, $blob);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=256k', location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; }
location /v2/strict/ { oci_pass demo; oci_cache models; oci_verify strict; }
EOL
$t->start();

my ($completed, $left, $wrong, $leaked) = (0, 0, 0, 0);

for my $i (1 .. $n) {
    my $mode = $i % 4 ? 'on' : 'strict';
    my $blob = blob($i);
    my $digest = $t->digest($blob);
    my $uri = "/v2/$mode/b$i/blobs/$digest";

    my $r = $t->get($uri);
    $completed++ if $r->{status} == 200 && !$r->{cut};
    $leaked++ if $mode eq 'strict' && $r->{status} != 503;

    my ($hex) = $digest =~ /:(\w+)$/;
    my $file = "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";
    $left++ if -e $file || -e "$file.map";

    $t->write_file("healed$i", '');
    $r = $t->get($uri);
    $wrong++ if $r->{status} != 200 || $r->{body} ne $blob;
}

is($completed, 0, "$n flipped bits: no client completes");
is($left, 0, 'no file stays');
is($wrong, 0, 'right from a healed upstream');
is($leaked, 0, 'strict sent nothing');
is($t->status()->{counters}{verify_failures}, $n, 'all were counted');

$t->done();
