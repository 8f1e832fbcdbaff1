#!/usr/bin/perl

# Harbor's replication through the edge, in both directions, as its adapters
# "docker-registry" and "harbor" do it on the wire: the same requests in the
# same order with the same headers, and what they make of the answers.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP qw/ decode_json /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('docker-registry');

my $t = OCI->new(workers => 3);
my $d = $t->{dir};
my $here = $t->registry();                      # behind the edge
my $there = $t->registry(name => 'there');      # somebody else's

$t->conf(http => <<EOC, location => <<EOL, cache_args => 'slice=64k');
oci_registry demo { url http://127.0.0.1:$here; }
oci_registry mapped { url http://127.0.0.1:$here; path edge team/real; }
EOC
location /v2/ { oci_pass demo; oci_cache models; }
location /v2/both/ { oci_pass demo; oci_cache models; oci_push both; }
location /v2/edge/ { oci_pass mapped; oci_cache models; oci_push both; }
EOL
$t->start();
my $edge = $t->{edge};

my @accept = ('application/vnd.oci.image.index.v1+json',
    'application/vnd.docker.distribution.manifest.list.v2+json',
    'application/vnd.oci.image.manifest.v1+json',
    'application/vnd.docker.distribution.manifest.v2+json',
    'application/vnd.docker.distribution.manifest.v1+prettyjws',
    'application/vnd.docker.distribution.manifest.v1+json');

# a request as its client makes it: every answer but 2xx is an error, but 404
# to HEAD

sub harbor {
    my ($port, $method, $uri, $h, $body) = @_;
    my $r = $t->http($port, $method, $uri, { Host => "127.0.0.1:$port",
        'User-Agent' => 'harbor-registry-client', %{$h || {}} }, $body);
    return $r if $r->{status} == 404 && $method eq 'HEAD';
    ok(0, "$method $uri: $r->{status} $r->{body}")
        if $r->{status} !~ /^2/ || $r->{cut};
    return $r;
}

# the next place of an upload: relative, or on the registry's own host

sub location {
    my ($port, $r) = @_;
    my $l = $r->{h}{location} // '';
    ok($l ne '', 'an answer has a Location') if $l eq '';
    $l =~ s!^http://127\.0\.0\.1:$port/!/!;
    ok($l =~ m!^/v2/!, "Location is of this registry: $l")
        if $l !~ m!^/v2/!;
    return $l;
}

sub copy_blob {
    my ($src, $from, $dst, $to, $b, $chunk) = @_;
    my $digest = $b->{digest};

    my $r = harbor($dst, 'HEAD', "/v2/$to/blobs/$digest");
    return 'there' if $r->{status} == 200;

    my $begin = sub {
        return location($dst, harbor($dst, 'POST', "/v2/$to/blobs/uploads/",
            { 'Content-Length' => 0 }));
    };

    if (!$chunk || $b->{size} <= $chunk) {
        $r = harbor($src, 'GET', "/v2/$from/blobs/$digest",
            { 'Accept-Encoding' => 'identity' });
        is($r->{h}{'content-length'}, $b->{size}, "$to: a blob's length");
        my $l = $begin->();
        harbor($dst, 'PUT', $l . ($l =~ /\?/ ? '&' : '?')
            . "digest=$digest", {}, $r->{body});
        return 'whole';
    }

    my ($l, $start) = ('', 0);
    while ($start < $b->{size}) {
        my $end = $start + $chunk - 1;
        my $last = $end >= $b->{size} - 1;
        $end = $b->{size} - 1 if $last;

        # it does not look whether this is 206

        $r = harbor($src, 'GET', "/v2/$from/blobs/$digest",
            { 'Accept-Encoding' => 'identity', Range => "bytes=$start-$end" });
        is(length $r->{body}, $end - $start + 1, "$to: a chunk's length")
            if length $r->{body} != $end - $start + 1;
        $l = $begin->() if $start == 0;
        my $h = { 'Content-Range' => "$start-$end" };

        if ($last) {
            harbor($dst, 'PUT', $l . ($l =~ /\?/ ? '&' : '?')
                . "digest=$digest", $h, $r->{body});
            last;
        }

        $r = harbor($dst, 'PATCH', $l, $h, $r->{body});
        is($r->{h}{range}, "0-$end", "$to: Range of a chunk");
        $l = location($dst, $r);

        # what it asks for after an error

        if ($start == $chunk) {
            $r = harbor($dst, 'GET', $l);
            is($r->{h}{range}, "0-$end", "$to: how far it is");
            $l = location($dst, $r);
        }

        $start = $end + 1;
    }
    return 'chunks';
}

sub replicate {
    my ($src, $from, $dst, $to, $ref, $chunk) = @_;

    harbor($_, 'GET', '/v2/') for $src, $dst;

    my $r = harbor($src, 'GET', "/v2/$from/manifests/$ref",
        { Accept => [ @accept ] });
    my ($m, $type) = ($r->{body}, $r->{h}{'content-type'});
    my $digest = $r->{h}{'docker-content-digest'};
    is($digest, $t->digest($m), "$to: a manifest's digest");

    $r = harbor($dst, 'HEAD', "/v2/$to/manifests/$ref",
        { Accept => [ @accept ] });
    if ($r->{status} == 200 && $r->{h}{'docker-content-digest'} eq $digest) {
        return ('skipped', $m);
    }

    my @did;
    my $j = decode_json($m);
    for (@{$j->{manifests} // []}) {
        my ($how) = replicate($src, $from, $dst, $to, $_->{digest}, $chunk);
        push @did, $how;
    }
    for (grep { defined } $j->{config}, @{$j->{layers} // []}) {
        push @did, copy_blob($src, $from, $dst, $to, $_, $chunk);
    }

    harbor($dst, 'PUT', "/v2/$to/manifests/$ref", { 'Content-Type' => $type },
        $m);
    return (join(' ', @did), $m);
}

sub same {
    my ($port, $repo, $ref, $m, $layers, $name) = @_;
    my $r = $t->http($port, 'GET', "/v2/$repo/manifests/$ref",
        { Accept => [ @accept ] });
    is($r->{body}, $m, "$name: the manifest, byte for byte");
    for my $b (@$layers) {
        $r = $t->http($port, 'GET', "/v2/$repo/blobs/" . $t->digest($b));
        ok($r->{body} eq $b, "$name: a blob, byte for byte");
    }
}

# an artifact, and an index of it and another one, at either side

my @layers = map { $t->random_blob($_) } 1000, 300_000, 300_001, 1_000_000;

sub index_of {
    my ($port, $repo) = @_;
    local $t->{registry} = $port;
    my @m = ($t->push_artifact($repo, 'v1', @layers))[0];
    push @m, ($t->push_artifact($repo, 'v2', $layers[0]))[0];
    return $t->push_manifest($repo, 'all', JSON::PP->new->canonical->encode({
        schemaVersion => 2, mediaType => $OCI::TYPE{index},
        manifests => [ map { { mediaType => $OCI::TYPE{manifest},
            digest => $t->digest($_), size => length } } @m ] }),
        $OCI::TYPE{index});
}

index_of($there, 'src/a');
index_of($here, 'out/a');

for my $to ('plain/a', 'both/a', 'edge/a') {
    (my $real = $to) =~ s!^edge/!team/real/!;

    for my $chunk (0, 100_000) {
        my $repo = $chunk ? "$to-chunks" : $to;
        my ($did, $m) = replicate($there, 'src/a', $edge, $repo, 'v1',
            $chunk);
        is($did, join(' ', 'whole', 'whole', ($chunk ? 'chunks' : 'whole')
            x 3), "$repo: to the edge");
        same($here, $chunk ? "$real-chunks" : $real, 'v1', $m, \@layers,
            $repo);
        same($edge, $repo, 'v1', $m, \@layers, "$repo, by way of the edge");

        ($did) = replicate($there, 'src/a', $edge, $repo, 'v1', $chunk);
        is($did, 'skipped', "$repo: again");

        my ($all, $i) = replicate($there, 'src/a', $edge, $repo, 'all',
            $chunk);
        same($here, $chunk ? "$real-chunks" : $real, 'all', $i, [],
            "$repo: an index");
    }
}

# to somewhere else, from the edge

for my $chunk (0, 100_000) {
    my $to = $chunk ? 'dst/chunks' : 'dst/whole';
    my ($did, $m) = replicate($edge, 'out/a', $there, $to, 'v1', $chunk);
    is($did, join(' ', 'whole', 'whole', ($chunk ? 'chunks' : 'whole') x 3),
        "$to: from the edge");
    same($there, $to, 'v1', $m, \@layers, $to);
    my ($all, $i) = replicate($edge, 'out/a', $there, $to, 'all', $chunk);
    same($there, $to, 'all', $i, [], "$to: an index");
}

# listing: pages are followed by a Link that is relative or of this host

my $r = harbor($edge, 'GET', '/v2/_catalog?n=2');
is(scalar @{decode_json($r->{body})->{repositories}}, 2, 'a page of them');
my ($l) = ($r->{h}{link} // '') =~ /^<([^>]*)>; rel="next"/;
like($l // '', qr!^/v2/_catalog!, 'and the next one');
is_deeply([ sort @{decode_json(harbor($edge, 'GET',
    '/v2/out/a/tags/list')->{body})->{tags}} ], [ qw/ all v1 v2 / ], 'tags');

# a mount, which must be one: any 2xx is taken for it

my $digest = $t->digest($layers[1]);
for my $repo ('plain/mounted', 'both/mounted') {
    $r = harbor($edge, 'POST', "/v2/$repo/blobs/uploads/?mount=$digest"
        . '&from=out/a', { 'Content-Length' => 0 });
    is($r->{status}, 201, "$repo: mounted");
    $r = harbor($here, 'HEAD', "/v2/$repo/blobs/$digest");
    is($r->{status}, 200, "$repo: it is there");
    $r = $t->get("/v2/$repo/blobs/$digest");
    ok($r->{body} eq $layers[1], "$repo: and can be pulled");
}

# a removal: HEAD of the tag, DELETE of the digest

for my $repo ('plain/a', 'both/a') {
    $r = harbor($edge, 'HEAD', "/v2/$repo/manifests/v2",
        { Accept => [ @accept ] });
    is($r->{status}, 404, "$repo: nothing to remove");
    $r = harbor($edge, 'HEAD', "/v2/$repo/manifests/v1",
        { Accept => [ @accept ] });
    $digest = $r->{h}{'docker-content-digest'};
    is(harbor($edge, 'DELETE', "/v2/$repo/manifests/$digest")->{status}, 202,
        "$repo: removed");
    is($t->http($_, 'GET', "/v2/$repo/manifests/$digest",
        { Accept => [ @accept ] })->{status}, 404, "$repo: is gone")
        for $here, $edge;
    is($t->get("/v2/$repo/manifests/v1",
        { Accept => [ @accept ] })->{status}, 404, "$repo: and its tag");
}

ok(until_true(sub { !glob "$d/cache/uploads/*" }), 'no copy is left');

$t->done();
