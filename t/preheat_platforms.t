#!/usr/bin/perl

# oci_preheat: of an index, only what is for certain platforms.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $json = JSON::PP->new->canonical;

my (%blobs, %manifests);


# a manifest with one layer; its descriptor

sub image {
    my ($name, %more) = @_;
    my ($config, $layer) = ("{\"name\":\"$name\"}", $t->random_blob(100_000));
    my @d = map { { mediaType => 'application/x', digest => $t->digest($_),
        size => length $_ } } $config, $layer;
    $blobs{$t->digest($_)} = $_ for $config, $layer;
    my $m = $json->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, config => $d[0],
        layers => [$d[1]] });
    $manifests{$t->digest($m)} = $m;
    return { mediaType => $OCI::TYPE{manifest}, digest => $t->digest($m),
        size => length $m, layer => $t->digest($layer), %more };
}

sub platform {
    my ($os, $arch, $variant) = @_;
    return (platform => { os => $os, architecture => $arch,
        $variant ? (variant => $variant) : () });
}

sub tag {
    my ($tag, @descriptors) = @_;
    my @d = map { my %d = %$_; delete $d{layer}; \%d } @descriptors;
    my $m = $json->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{index}, manifests => \@d });
    $manifests{$tag} = $m;
    $manifests{$t->digest($m)} = $m;
}

sub attestation {
    my ($of) = @_;
    return image("attestation", platform('unknown', 'unknown'),
        annotations => { 'vnd.docker.reference.type' =>
            'attestation-manifest',
            'vnd.docker.reference.digest' => $of->{digest} });
}

my $amd = image('amd64', platform('linux', 'amd64'));
my $arm = image('arm64', platform('linux', 'arm64', 'v8'));
my $win = image('windows', platform('windows', 'amd64'));
my $any = image('any');
my ($of_amd, $of_arm) = (attestation($amd), attestation($arm));

tag('v1', $amd, $arm, $win, $of_amd, $of_arm);
tag('more', $amd, $any);
tag('many', map { image($_, platform("os$_", 'amd64')) } 1 .. 60);
$manifests{plain} = $manifests{$arm->{digest}};

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    my ($what, $ref) = $q->{uri} =~ m!/(manifests|blobs)/(\S+)$!
        or return $t->reply($c, $q, 404, {}, '{}');
    my $body = ($what eq 'blobs' ? \%blobs : \%manifests)->{$ref}
        // return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply_blob($c, $q, $body) if $what eq 'blobs';
    return $t->reply($c, $q, 200, { 'Content-Type' =>
        decode_json($body)->{mediaType}, 'Docker-Content-Digest' =>
        $t->digest($body) }, $body);
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location /p2p/ {
    oci_preheat registry=demo open platforms=linux/amd64,linux/arm/v7;
}
location /all/ { oci_preheat registry=demo open; }
location = /hook { oci_webhook registry=demo open platforms=linux/arm64; }
EOL
$t->start();

sub call {
    my ($method, $path, $body) = @_;
    my $r = $t->http($t->{edge}, $method, $path,
        { 'Content-Type' => 'application/json' },
        $body ? encode_json($body) : undef);
    return ($r->{status}, eval { decode_json($r->{body}) });
}

sub job {
    my ($place, %body) = @_;
    $t->forget_requests();
    my ($status, $job) = call('POST', "$place/jobs", \%body);
    return $status if $status != 202;
    until_true(60, sub {
        (undef, $job) = call('GET', "$place/jobs/$job->{id}");
        $job->{state} !~ /pending|running/ });
    return $job;
}


# which of them the registry was asked for, in this repository

sub asked {
    my ($repo) = @_;
    my %seen = map { $_ => 1 } map { $_->{uri} =~ m!^/v2/\Q$repo\E/.*/(\S+)$! }
        $t->requests();
    return join ' ', map { $_->[0] } grep { $seen{$_->[1]{digest}}
        && $seen{$_->[1]{layer}} } (['amd', $amd], ['arm', $arm],
        ['win', $win], ['any', $any], ['of_amd', $of_amd],
        ['of_arm', $of_arm]);
}


# those of the location

my $job = job('/p2p', ref => 'm/one:v1');
is($job->{state}, 'success', 'the location\'s: success')
    or diag(explain($job));
is_deeply($job->{platforms}, ['linux/amd64', 'linux/arm/v7'],
    'the location\'s: which');
is_deeply($job->{left_out}, ['linux/arm64/v8', 'windows/amd64'],
    'the location\'s: what was left out');
is(asked('m/one'), 'amd of_amd', 'the location\'s: nothing else');
is($job->{pieces}, 7, 'the location\'s: pieces');

my $mark = $t->upstream_bytes();
for my $d ($amd, $of_amd) {
    is($t->get("/v2/m/one/manifests/$d->{digest}")->{status}, 200, 'pulled');
    is($t->get("/v2/m/one/blobs/$d->{layer}")->{status}, 200, 'pulled');
}
is($t->upstream_bytes(), $mark, 'the location\'s: nothing from upstream');

# all of them, by default

$job = job('/all', ref => 'm/two:v1');
is($job->{state}, 'success', 'all: success');
is_deeply([@$job{qw/ platforms left_out /}], [[], []], 'all: none left out');
is(asked('m/two'), 'amd arm win of_amd of_arm', 'all: all of them');

# those of the job

$job = job('/p2p', ref => 'm/three:v1', platforms => ['linux/arm64/v8',
    'windows/amd64']);
is($job->{state}, 'success', 'the job\'s: success');
is_deeply($job->{left_out}, ['linux/amd64'], 'the job\'s: left out');
is(asked('m/three'), 'arm win of_arm', 'the job\'s: nothing else');

$job = job('/p2p', ref => 'm/four:v1', platforms => ['all']);
is(asked('m/four'), 'amd arm win of_amd of_arm', 'the job\'s: all');

# Dragonfly has one, Harbor none

my ($status, $p2p) = call('POST', '/p2p/oapi/v1/jobs', { type => 'preheat',
    args => { type => 'image', url => '/v2/m/five/manifests/v1',
        platform => 'linux/arm64' } });
is($status, 200, 'Dragonfly: taken');
until_true(60, sub { (undef, $p2p) = call('GET',
    "/p2p/oapi/v1/jobs/$p2p->{id}"); $p2p->{state} ne 'PENDING' });
is($p2p->{state}, 'SUCCESS', 'Dragonfly: success');
is(asked('m/five'), 'arm of_arm', 'Dragonfly: nothing else');

# without a platform it is of any

$job = job('/p2p', ref => 'm/six:more');
is(asked('m/six'), 'amd any', 'without a platform');

# what is no index is what it is

$job = job('/p2p', ref => 'm/seven:plain');
is($job->{state}, 'success', 'no index');
ok((grep { $_->{uri} eq "/v2/m/seven/blobs/$arm->{layer}" }
    $t->requests()), 'no index: its layer');

# none of them

$job = job('/p2p', ref => 'm/eight:v1', platforms => ['linux/s390x']);
is($job->{state}, 'failure', 'none: failure');
like($job->{error}, qr/nothing for these platforms.*there is linux\/amd64,/,
    'none: why');
is_deeply($job->{left_out}, ['linux/amd64', 'linux/arm64/v8',
    'windows/amd64'], 'none: what there is');
is(asked('m/eight'), '', 'none: nothing was fetched');

$job = job('/p2p', ref => 'm/nine:many');
is($job->{state}, 'failure', 'many: failure');
is($job->{left_out}[-1], '...', 'many: not all are told');
cmp_ok(scalar @{$job->{left_out}}, '<', 60, 'many: but some');

# another job is another one

my @ids = map { (call('POST', '/all/jobs', { ref => 'm/ten:v1',
    platforms => $_ }))[1]{id} } ['linux/amd64'], ['linux/arm64'];
isnt($ids[0], $ids[1], 'other platforms, another job');

# a webhook's

($status) = call('POST', '/hook', { type => 'PUSH_ARTIFACT', occur_at => 1,
    operator => 'x', event_data => { resources => [{ digest =>
        $t->digest($manifests{v1}), tag => 'v1', resource_url => 'x' }],
        repository => { name => 'hook', namespace => 'm',
            repo_full_name => 'm/hook', repo_type => 'public' } } });
is($status, 200, 'a webhook');
until_true(60, sub { $t->read_file('error.log')
    =~ m!done: "v1" of "m/hook".*left out: linux/amd64,windows/amd64! });
is(asked('m/hook'), 'arm of_arm', 'a webhook: its platforms');

# what is none

for my $p ('linux/amd64', [], ['linux'], ['linux/amd64', 1], ['a/b/c/d'],
    ['linux/amd64,'], ['"/x'], ['x/' . 'y' x 600])
{
    is(job('/p2p', ref => 'm/x:v1', platforms => $p), 422,
        'not ' . substr encode_json({ p => $p }), 0, 40);
}

for my $p ('linux', 'linux/', 'a b/c') {
    ($status) = call('POST', '/p2p/oapi/v1/jobs', { type => 'preheat',
        args => { url => '/v2/m/x/manifests/v1', platform => $p } });
    is($status, 422, "not $p");
}

for my $p ('linux', ',', 'linux/amd64,', 'a/b/c/d') {
    my $conf = $t->read_file('nginx.conf');
    $conf =~ s!platforms=linux/amd64\S+;!platforms=$p;!;
    my ($rc, $out) = $t->check($conf);
    isnt($rc, 0, "refused: platforms=$p");
    like($out, qr/invalid parameter "platforms=$p" in \S+check\.conf:\d+/,
        'why, and where');
}

$t->done();
