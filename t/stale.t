#!/usr/bin/perl

# A registry that fails after it answered HEAD of a manifest, whose body it
# has not sent yet: there is nothing to serve stale, and the registry is not
# asked again and again.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $manifest = '{"schemaVersion":2}';
my $md = $t->digest($manifest);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 500) if -e "$t->{dir}/broken" && $q->{n} < 20;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $md }, $manifest);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }");
$t->start();

# in repositories of their own

for (['tag', 'latest'], ['digest', $md]) {
    my ($repository, $ref) = @$_;
    my $uri = "/v2/m/$repository/manifests/$ref";

    unlink "$t->{dir}/broken";
    is($t->head($uri)->{status}, 200, "$repository: HEAD");

    $t->write_file('broken', '');
    $t->forget_requests();

    for my $method (qw/ GET HEAD /) {
        my $r = $t->http($t->{edge}, $method, $uri);
        is($r->{status}, 500, "$repository: $method: the registry's answer");
    }

    cmp_ok(scalar $t->requests(), '<=', 6, "$repository: asked a few times");

    # what was sent once is there

    unlink "$t->{dir}/broken";
    is($t->get($uri)->{body}, $manifest, "$repository: from the registry");
    $t->write_file('broken', '');

    my $r = $t->get($uri);
    is($r->{body}, $manifest, "$repository: from the cache");
}

$t->done();
