#!/usr/bin/perl

# The same answers through the edge, cold and warm, as from the registry:
# SAME_REQUESTS random (route, method, range) requests.  Not compared: Date,
# Connection, Server and what only the edge adds (Cache-Status).

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('docker-registry');

my $n = $ENV{SAME_REQUESTS} || 1000;
my $seed = $ENV{SAME_SEED} || time();
my $t = OCI->new(workers => 2);
my $port = $t->registry();

srand($seed);
diag("SAME_SEED=$seed") if $ENV{TEST_VERBOSE};

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k');
$t->start();

my %accept = (Accept => join ', ', @OCI::TYPE{qw/ manifest index docker /});
my (@blobs, @uris);

for my $repo ('llm/a', 'llm/b/c') {
    my @layers = map { $t->random_blob(1 + int rand 400000) } 1 .. 4;
    my ($m, $digest) = $t->push_artifact($repo, 'v1', @layers);

    for my $blob (@layers) {
        push @blobs, [ "/v2/$repo/blobs/" . $t->digest($blob), length $blob ];
    }
    push @uris, "/v2/$repo/manifests/v1", "/v2/$repo/manifests/$digest",
        "/v2/$repo/tags/list", "/v2/$repo/manifests/none",
        "/v2/$repo/blobs/sha256:" . '0' x 64;
}
push @uris, '/v2/', '/v2/_catalog', '/v2/no/such/tags/list';

sub range_of {
    my ($size) = @_;
    my $a = int rand $size;
    my $b = $a + int rand 100000;
    my $k = int rand 6;
    return () if $k == 0;
    return (Range => "bytes=$a-") if $k == 1;
    return (Range => 'bytes=-' . (1 + int rand $size)) if $k == 2;
    return (Range => 'bytes=' . ($size + int rand 5) . '-') if $k == 3;
    return (Range => "bytes=$a-$b");
}

my %header = map { $_ => 1 } qw/ content-length content-range content-type
    docker-content-digest etag accept-ranges docker-distribution-api-version
    link location www-authenticate cache-control /;

my $bad = 0;
my %seen;

for my $i (1 .. $n) {
    my ($uri, $method, %h);
    if (rand() < 0.7) {
        my $o = $blobs[rand @blobs];
        $uri = $o->[0];
        $method = rand() < 0.15 ? 'HEAD' : 'GET';
        %h = range_of($o->[1]) if $method eq 'GET';
    } else {
        $uri = $uris[rand @uris];
        $method = rand() < 0.3 ? 'HEAD' : 'GET';
    }

    my $direct = $t->http($port, $method, $uri, { %accept, %h });
    my $edge = $t->http($t->{edge}, $method, $uri, { %accept, %h });

    $seen{$direct->{status}}++;

    my @diff;
    push @diff, 'status' if $edge->{status} != $direct->{status};

    # an error's body is in the words of who found it

    push @diff, 'body' if $edge->{body} ne $direct->{body}
        && $direct->{status} != 416;

    for my $k (sort keys %header) {
        next if $direct->{status} == 416 && $k =~ /^content-(type|length)$/;
        my ($x, $y) = ($direct->{h}{$k}, $edge->{h}{$k});
        next if !defined $x;

        # it says so of 404 too
        next if $direct->{status} == 416
            && $k =~ /^(etag|accept-ranges|cache-control|docker-content)/;

        push @diff, "$k: " . ($y // 'none') . " for $x"
            if !defined $y || $y ne $x;
    }

    if (@diff && $bad++ < 10) {
        fail("$method $uri " . ($h{Range} // '') . ': '
            . join(', ', @diff));
    }
}

is($bad, 0, "$n requests, seed $seed: the same answers");
ok($seen{$_}, "$_ was among them") for 200, 206, 404, 416;

$t->done();
