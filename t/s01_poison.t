#!/usr/bin/perl

# S1: cache poisoning by content.  Blobs with one flipped bit each, anywhere;
# the bytes of another digest; bytes that change from range to range.  No client
# gets the whole of one, the file is gone, each is counted, and the next pull
# from a healed upstream is right.  With "strict" not one byte goes out.
#
# 100 flips, 10000 with ATTACK=full.  See also tamper.t (across a restart),
# refetch.t (within a slice), origin.t (another registry), manifest.t.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha256 /;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $n = $t->times(100, 10000);
my $d = $t->{dir};

# the blob of a number, as long as its neighbour's, and where its bit is

sub size { return 1200000 + ($_[0] >> 1) }
sub blob { return substr(sha256("blob $_[0]") x 50000, 0, size($_[0])) }
sub place { return unpack('N', sha256("place $_[0]")) % size($_[0]) }

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($how, $i) = $q->{uri} =~ m!^/v2/(\w+)/b(\d+)/blobs/!;
    my $blob = blob($i);
    if (-e "$d/healed$i") {
        return $t->reply_blob($c, $q, $blob);
    }
    if ($how eq 'other') {
        $blob = blob($i ^ 1);
    } elsif ($how eq 'turns') {
        $blob = blob($i ^ 1) if ($q->{from} // 0) >= 524288;
    } else {
        substr($blob, place($i), 1) ^= "\x10";
    }
    return $t->reply_blob($c, $q, $blob);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=256k', location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; }
location /v2/turns/ {
    oci_pass demo;
    oci_cache models;
    oci_fill_ahead 1m;
}
location /v2/strict/ { oci_pass demo; oci_cache models; oci_verify strict; }
EOL
$t->start();

my ($completed, $left, $wrong, $leaked) = (0, 0, 0, 0);

sub attack {
    my ($how, $i) = @_;
    my $blob = blob($i);
    my $digest = $t->digest($blob);
    my $uri = "/v2/$how/b$i/blobs/$digest";

    # the first slices first, so that others come with an exchange of their own

    if ($how eq 'turns') {
        $t->get($uri, { Range => 'bytes=0-524287' });
    }

    my $r = $t->get($uri);
    $completed++ if $r->{status} == 200 && !$r->{cut};
    $leaked++ if $how eq 'strict' && $r->{status} != 503;

    my ($hex) = $digest =~ /:(\w+)$/;
    my $file = "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";
    $left++ if -e $file || -e "$file.map";

    $t->write_file("healed$i", '');
    $r = $t->get($uri);
    $wrong++ if $r->{status} != 200 || $r->{body} ne $blob;
}

attack($_ % 4 ? 'on' : 'strict', $_) for 1 .. $n;

is($completed, 0, "$n flipped bits: no client completes");
is($left, 0, 'no file stays');
is($wrong, 0, 'right from a healed upstream');
is($leaked, 0, 'strict sent nothing');
is($t->status()->{counters}{verify_failures}, $n, 'all were counted');

for my $how (qw/ other turns /) {
    ($completed, $left, $wrong) = (0, 0, 0);
    attack($how, $n + 10 + $_ * 2) for $how eq 'other' ? 1 .. 5 : 6 .. 10;
    is($completed, 0, "$how: no client completes");
    is($left, 0, "$how: no file stays");
    is($wrong, 0, "$how: right from a healed upstream");
}

is($t->status()->{counters}{verify_failures}, $n + 10, 'these too');

$t->done();
