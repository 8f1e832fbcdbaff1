#!/usr/bin/perl

# oci_preheat: signatures, SBOMs and whatever else refers to what is
# preheated are warm, too, by whichever way they are there.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $json = JSON::PP->new->canonical;

my (%blobs, %manifests, %lists);

sub descriptor {
    my ($body, $type) = @_;
    return { mediaType => $type, digest => $t->digest($body),
        size => length $body };
}

sub blob {
    my ($size) = @_;
    my $b = $t->random_blob($size // 1000);
    $blobs{$t->digest($b)} = $b;
    return $b;
}

sub manifest {
    my (@layers) = @_;
    my $m = $json->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest},
        layers => [map { descriptor($_, 'application/x') } @layers] });
    $manifests{$t->digest($m)} = $m;
    return $m;
}

sub index_of {
    return $json->encode({ schemaVersion => 2, mediaType => $OCI::TYPE{index},
        manifests => [map { descriptor($_, $OCI::TYPE{manifest}) } @_] });
}

sub put {
    my ($tag, $m) = @_;
    $manifests{$_} = $m for $tag, $t->digest($m);
}

sub tag_of { return $t->digest($_[0]) =~ s/:/-/r }

my $sig = manifest(my $payload = blob());
my $sbom = manifest(my $bom = blob());
my $deep = manifest(blob());

# by the API

my $api = manifest(blob());
$manifests{api} = $api;
$lists{$t->digest($api)} = index_of($sig, $sbom);
$lists{$t->digest($sig)} = index_of($deep);

# by tags

my $tags = manifest(blob());
$manifests{tags} = $tags;
put(tag_of($tags), index_of($sig, $sbom));

# cosign's

my $cosign = manifest(blob());
$manifests{cosign} = $cosign;
$manifests{tag_of($cosign) . '.sig'} = $sig;
$manifests{tag_of($cosign) . '.att'} = $sbom;

# those of an index's manifest

my $child = manifest(blob());
put('index', index_of($child));
$lists{$t->digest($child)} = index_of($sbom);

# a list of what is not there, of nothing that is one, of a layer

my $gone = manifest(blob());
$manifests{gone} = $gone;
$lists{$t->digest($gone)} = index_of('{}', $sig);

my $torn = manifest(blob());
$manifests{torn} = $torn;
my $holed = $json->encode({ schemaVersion => 2,
    mediaType => $OCI::TYPE{manifest},
    layers => [descriptor('not there', 'application/x')] });
$manifests{$t->digest($holed)} = $holed;
$manifests{$t->digest('text')} = 'text';
$lists{$t->digest($torn)} = index_of('text', $holed, $sig);

my $odd = manifest(blob());
$manifests{odd} = $odd;
$lists{$t->digest($odd)} = 'no list';

# what is both

my $both = manifest(my $shared = blob());
put('both', index_of($both, $child, $sig));
$lists{$t->digest($both)} = index_of($sig, $both);

# many

my $many = manifest(blob());
$manifests{many} = $many;
$lists{$t->digest($many)} = index_of(map { manifest(blob(10)) } 1 .. 100);

# more than would be read, and more than would be taken

sub crowd {
    my ($n, @first) = @_;
    return $json->encode({ schemaVersion => 2, mediaType => $OCI::TYPE{index},
        manifests => [(map { descriptor($_, $OCI::TYPE{manifest}) } @first),
            map { { mediaType => $OCI::TYPE{manifest}, size => 1,
                digest => sprintf 'sha256:%064x', $_ } } 1 .. $n] });
}

my $crowd = manifest(blob());
$manifests{crowd} = $crowd;
$lists{$t->digest($crowd)} = crowd(9000, $sig);

my $endless = manifest(blob());
$manifests{endless} = $endless;
$lists{$t->digest($endless)} = crowd(30_000, $sig);

# of sizes that are not true, more than any cache has room for

sub claimed {
    my (@layers) = @_;
    my $m = $json->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, layers => [map { {
            mediaType => 'application/x', digest => $t->digest($_->[0]),
            size => $_->[1] } } @layers] });
    $manifests{$t->digest($m)} = $m;
    return $m;
}

my $lie = manifest(my $truth = blob());
$manifests{lie} = $lie;
$lists{$t->digest($lie)} = index_of($sig,
    claimed([$payload, 1], [$truth, 4_000_000_000_000_000_000], [blob(), 9223372036854775807]));

my @sums = map { blob() } 1 .. 3;
put('sums', claimed([$sums[0], 9223372036854775807],
    [$sums[1], 9223372036854775807], [$sums[2], 2]));

my $none = manifest(blob());
$manifests{none} = $none;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    my ($what, $ref) = $q->{uri} =~ m!/(manifests|blobs|referrers)/(\S+)$!
        or return $t->reply($c, $q, 404, {}, '{}');
    if ($what eq 'referrers') {
        return $t->reply($c, $q, $1, $1 < 400
            ? { Location => 'http://example.com/packages' } : {}, '{}')
            if $q->{uri} =~ m!/s(\d+)/!;
        my $list = $lists{$ref} // return $t->reply($c, $q, 404, {}, '{}');
        return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{index} },
            $list);
    }
    my $body = ($what eq 'blobs' ? \%blobs : \%manifests)->{$ref}
        // return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply_blob($c, $q, $body) if $what eq 'blobs';
    my ($type) = $body =~ /"mediaType":"([^"]+index[^"]+)"/;
    return $t->reply($c, $q, 200, { 'Content-Type' =>
        $type // $OCI::TYPE{manifest}, 'Docker-Content-Digest' =>
        $t->digest($body) }, $body);
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location /p2p/ { oci_preheat registry=demo open; }
location /off/ { oci_preheat registry=demo open referrers=off; }
EOL
$t->start();

sub job {
    my ($ref, $place) = @_;
    $place //= '/p2p';
    asked(qr/./);
    my $r = $t->http($t->{edge}, 'POST', "$place/jobs", {},
        encode_json({ ref => $ref }));
    my $job = decode_json($r->{body});
    until_true(90, sub {
        $job = decode_json($t->get("$place/jobs/$job->{id}")->{body});
        $job->{state} !~ /pending|running/ });
    return $job;
}

# URIs, each of which may have been asked for by HEAD, then by GET

my %seen;

sub asked {
    my ($re) = @_;
    $seen{$_->{uri}}++ for $t->requests();
    $t->forget_requests();
    return grep { $_ =~ $re } keys %seen;
}

sub warm {
    my ($repo, $what, @objects) = @_;
    my $mark = $t->upstream_bytes();
    my $n = $t->requests();
    for my $o (@objects) {
        my $route = $blobs{$t->digest($o)} ? 'blobs' : 'manifests';
        my $r = $t->get("/v2/$repo/$route/" . $t->digest($o));
        is($r->{body}, $o, "$what: pulled");
    }
    is($t->upstream_bytes(), $mark, "$what: nothing from upstream");
    is(scalar($t->requests()), $n, "$what: it was not asked");
}


for my $c (
    ['api', $sig, $payload, $sbom, $bom],
    ['tags', $sig, $payload, $sbom, $bom],
    ['cosign', $sig, $payload, $sbom, $bom],
    ['index', $child, $sbom, $bom],
    ['gone', $sig, $payload],
    ['torn', $sig, $payload],
    ['odd', $odd],
    ['both', $both, $shared, $child, $sbom, $bom, $sig, $payload],
    ['none', $none],
    ['crowd', $crowd, $sig, $payload],
    ['endless', $endless],
    ['lie', $lie, $truth, $sig, $payload],
) {
    my ($name, @objects) = @$c;
    my $job = job("m/$name:$name");
    is($job->{state}, 'success', "$name: success") or diag(explain($job));
    is($job->{pieces_done}, $job->{pieces}, "$name: all of it");
    is($job->{bytes_done}, $job->{bytes}, "$name: all of its bytes");
    warm("m/$name", $name, @objects);
}

# one level: what refers to a signature is nobody's

my $digest = $t->digest($sig);
is(scalar asked(qr!/m/api/referrers/\Q$digest\E!), 0, 'one level');
is(scalar asked(qr!/m/api/manifests/sha256-!), 3, 'a list, and three tags');
is(scalar asked(qr!/m/none/manifests/sha256-!), 4, 'no list, and four tags');

# there are bounds

my $job = job('m/many:many');
is($job->{state}, 'success', 'many');
is($job->{pieces}, 2 + 2 * 64, 'many: so many');

$job = job('m/sums:sums');
is($job->{state}, 'failure', 'sizes beyond all numbers: failure');
like($job->{error}, qr/has 9223372036854775807 bytes, which can't be stored/,
    'sizes beyond all numbers: why');
is(scalar asked(qr!/m/sums/blobs/!), 0,
    'sizes beyond all numbers: nothing was fetched');
is($job->{bytes}, 9223372036854775807, 'as many as can be said');

# registries say "no" in many ways, and not all of these mean that

for my $status (303, 307, 400, 403, 404, 405, 406, 501) {
    is(job("s$status/m:api")->{state}, 'success', "$status: there are none");
    warm("s$status/m", $status, $api);
}

$job = job('s401/m:api');
is($job->{state}, 'failure', '401: failure');
like($job->{error}, qr/registry answered 401.*it wants credentials/,
    '401: why');

$job = job('s500/m:api');
is($job->{state}, 'failure', '500: failure');
like($job->{error}, qr/referrers of .*registry failed/, '500: why');
is($seen{(asked(qr!/s500/m/referrers/!))[0]}, 5, '500: it was tried again');

# nobody has to

is(job('m/off:api', '/off')->{state}, 'success', 'off: success');
is(scalar asked(qr!/m/off/referrers/|/m/off/manifests/sha256-!), 0,
    'off: nothing else');

for my $value ('maybe', '') {
    my $conf = $t->read_file('nginx.conf');
    $conf =~ s!referrers=off;!referrers=$value;!;
    my ($rc, $out) = $t->check($conf);
    isnt($rc, 0, "refused: referrers=$value");
    like($out, qr/invalid parameter "referrers=$value" in \S+:\d+/, 'why');
}

$t->done();
