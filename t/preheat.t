#!/usr/bin/perl

# oci_preheat: Harbor's two drivers, with what they send, and what they take
# for an answer.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use Harbor;
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my $up = $t->registry();
my $blob = $t->random_blob(20_000_000);
my ($manifest, $digest) = $t->push_artifact('llm/model', 'v1', $blob);

$t->write_file('secret', "Bearer harbor-secret\n", 0600);

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$up; credentials anonymous;
    public_url https://harbor.example.com;
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location /p2p/ { oci_preheat registry=demo secret=$d/secret; }
location /alone/ {
    oci_preheat registry=demo secret=$d/secret referrers=off;
}
EOL
$t->start();

my %instance = (endpoint => '/p2p', auth_mode => 'OAUTH',
    auth_info => { token => 'harbor-secret' });
my $harbor = Harbor->new($t, %instance);
my $before = Harbor->new($t, %instance, vendor => 'old');
my $kraken = Harbor->new($t, %instance, vendor => 'kraken');

sub call { return $harbor->call(@_) }
sub job { return $harbor->job(@_) }
sub ends { return ($harbor->ends($_[0]))[2] }


my ($status, $job, $r) = call('GET', '/healthy', undef, anonymous => 1);
is($status, 401, 'nobody');

for my $path (qw! /healthy /_ping /health !) {
    ($status) = call('GET', $path);
    is($status, 200, $path);
}

($status, $job, $r) = call('POST', '/oapi/v1/jobs', job());
is($status, 200, 'create');
like($r->{body}, qr/"id":\d+/, 'an integer');
is($job->{state}, 'PENDING', 'pending');

$job = ends($job->{id});
is($job->{state}, 'SUCCESS', 'success') or diag(explain($job));
is(scalar @{$job->{result}{job_states}[0]{results}[0]{success_tasks}}, 1,
    'a task');

my $mark = $t->upstream_bytes();
$r = $t->get('/v2/llm/model/blobs/' . $t->digest($blob));
is($r->{status}, 200, 'pulled');
is($t->digest($r->{body}), $t->digest($blob), 'the bytes');
is($t->upstream_bytes(), $mark, 'nothing from upstream');

my $accept = { Accept => 'application/vnd.oci.image.manifest.v1+json' };

$r = $t->get('/v2/llm/model/manifests/v1', $accept);
is($r->{body}, $manifest, 'the manifest');
is($t->upstream_bytes(), $mark, 'nothing but its tag was asked for');

# once more, all is there

($status, $job) = call('POST', '/oapi/v1/jobs', job());
is(ends($job->{id})->{state}, 'SUCCESS', 'again');
cmp_ok($t->upstream_bytes(), '<', $mark + 2000,
    'it was there, and nothing refers to it');

my $alone = Harbor->new($t, %instance, endpoint => '/alone');
$mark = $t->upstream_bytes();
($status, $job) = $alone->call('POST', '/oapi/v1/jobs', $alone->job());
is(($alone->ends($job->{id}))[2]{state}, 'SUCCESS', 'without referrers');
is($t->upstream_bytes(), $mark, 'it was there');

# what fails, says so, and is called nothing else

for my $c (
    ['no such tag', job(url =>
        'https://harbor.example.com/v2/llm/model/manifests/v9'), qr/404/],
    ['no such repository', job(url =>
        'https://harbor.example.com/v2/llm/none/manifests/v1'), qr/404/],
) {
    my ($name, $body, $error) = @$c;
    ($status, $job) = call('POST', '/oapi/v1/jobs', $body);
    is($status, 200, "$name: taken");
    $job = ends($job->{id});
    is($job->{state}, 'FAILURE', "$name: failure");
    like($job->{result}{job_states}[0]{error}, $error, "$name: why");
    is(ref $job->{result}{job_states}[0]{results}[0]{failure_tasks}[0],
        'HASH', "$name: a task");
}

# what is no job of this registry's

for my $c (
    ['another host', job(url =>
        'https://other.example.com/v2/llm/model/manifests/v1')],
    ['another port', job(url =>
        'https://harbor.example.com:8443/v2/llm/model/manifests/v1')],
    ['user info', job(url =>
        'https://harbor.example.com@evil/v2/llm/model/manifests/v1')],
    ['a blob', job(url => 'https://harbor.example.com/v2/llm/model/blobs/'
        . $t->digest($blob))],
    ['no manifest', job(url => 'https://harbor.example.com/v2/_catalog')],
    ['dots', job(url =>
        'https://harbor.example.com/v2/llm/../model/manifests/v1')],
    ['a query', job(url =>
        'https://harbor.example.com/v2/llm/model/manifests/v1?ns=x')],
    ['control bytes', job(token => "Bearer x\r\nHost: evil")],
    ['no URL', { type => 'preheat', args => {} }],
    ['a number', { type => 'preheat', args => { url => 1 } }],
    ['no args', { type => 'preheat' }],
    ['an array', []],
    ['another type', { %{job()}, type => 'sync_peers' }],
    ['nothing', ''],
    ['no JSON', '{"type":'],
) {
    my ($name, $body) = @$c;
    ($status) = call('POST', '/oapi/v1/jobs', $body);
    is($status, 422, $name);
}

($status) = call('POST', '/oapi/v1/jobs', '{"a":"' . 'x' x 70000 . '"}');
is($status, 413, 'too large');

for my $id (qw! 1 -1 x 99999999999999999999 / !, '') {
    ($status) = call('GET', "/oapi/v1/jobs/$id");
    ok($status == 404 || $status == 405, "no job \"$id\"");
}

($status) = call('PUT', '/oapi/v1/jobs', {});
is($status, 405, 'no such method');
($status) = call('DELETE', '/oapi/v1/jobs');
is($status, 405, 'no such method');
($status) = call('GET', '/oapi/v1/none');
is($status, 404, 'no such endpoint');

for my $c (['GET', '/healthy'], ['GET', '/oapi/v1/jobs/1'], ['GET', '/none'],
    ['POST', '/oapi/v1/jobs', job()], ['POST', '/preheats', {}],
    ['POST', '/registry/notifications', {}], ['DELETE', '/'])
{
    ($status, undef, $r) = call(@$c[0, 1], $c->[2],
        anonymous => 1);
    is($status, 401, "nobody: $c->[0] $c->[1]");
    is($r->{body}, "{\"message\":\"not authorized\"}\n", 'learns nothing');
}

for my $secret ('harbor-secret', 'Bearer harbor-secre',
    'Bearer harbor-secret2', 'bearer harbor-secret', '')
{
    $r = $t->http($t->{edge}, 'GET', '/p2p/healthy',
        { Authorization => $secret });
    is($r->{status}, 401, "not \"$secret\"");
}

# Harbor before 2.12

my $two = $t->random_blob(5_000_000);
$t->push_artifact('llm/two', 'v1', $two);

($status, $job) = call('POST', '/preheats',
    $before->job(repository => 'llm/two'));
is($status, 200, 'old: create');
like($job->{ID}, qr/^\d+$/, 'old: a string');

my $id = $job->{ID};
$job = ($before->ends($id))[2];
is($job->{Status}, 'SUCCESS', 'old: success');

$mark = $t->upstream_bytes();
$t->get('/v2/llm/two/blobs/' . $t->digest($two));
is($t->upstream_bytes(), $mark, 'old: nothing from upstream');

# Kraken: a push's notification, answered at once

my $three = $t->random_blob(5_000_000);
my (undef, $third) = $t->push_artifact('llm/three', 'v1', $three);

($status) = call('POST', '/registry/notifications',
    $kraken->job(repository => 'llm/three', digest => $third));
is($status, 200, 'Kraken');

until_true(60, sub { $t->read_file('error.log') =~
    /preheat job \d+ is done: "v1" of "llm\/three"/ });

$mark = $t->upstream_bytes();
$t->get('/v2/llm/three/blobs/' . $t->digest($three));
is($t->upstream_bytes(), $mark, 'Kraken: nothing from upstream');

for my $body ({ Events => 1 }, {}, { events => [1] }, { events => [{
    action => 'push', target => { mediaType => 'x.manifest.x',
        repository => 'a b', tag => 'v1' } }] })
{
    ($status) = call('POST', '/registry/notifications', $body);
    is($status, 422, 'no notification');
}

# an index, with all that it leads to

my @layers = map { $t->random_blob(300_000) } 1 .. 12;
my @children = map { my ($m, $dg) = $t->push_artifact('llm/index', "c$_",
    @layers[$_ * 4 .. $_ * 4 + 3]); { mediaType =>
    'application/vnd.oci.image.manifest.v1+json', digest => $dg,
    size => length $m } } 0 .. 2;
$t->push_manifest('llm/index', 'all', encode_json({ schemaVersion => 2,
    mediaType => 'application/vnd.oci.image.index.v1+json',
    manifests => \@children }), 'application/vnd.oci.image.index.v1+json');

($status, $job) = call('POST', '/oapi/v1/jobs', job(url =>
    'https://harbor.example.com/v2/llm/index/manifests/all'));
is(ends($job->{id})->{state}, 'SUCCESS', 'an index');

$mark = $t->upstream_bytes();
$t->get("/v2/llm/index/manifests/$_->{digest}") for @children;
$t->get('/v2/llm/index/blobs/' . $t->digest($_)) for @layers;
is($t->upstream_bytes(), $mark, 'an index: all of it');

# for people

($status, $job) = call('POST', '/jobs', { ref => 'llm/model:v1' });
is($status, 202, 'jobs: taken');
is($job->{repository}, 'llm/model', 'jobs: of this repository');
is($job->{reference}, 'v1', 'jobs: of this tag');
$id = $job->{id};
until_true(30, sub { ($status, $job) = call('GET', "/jobs/$id");
    $job->{state} !~ /pending|running/ });
is($job->{state}, 'success', 'jobs: success');
is($job->{pieces}, 3, 'jobs: a manifest, a config and a layer');
is($job->{bytes}, length($blob) + 30, 'jobs: bytes');
is($job->{bytes_done}, $job->{bytes}, 'jobs: all of them');
is($job->{error}, '', 'jobs: no error');

($status, $job) = call('POST', '/jobs', { registry => 'demo',
    ref => "llm/model\@$digest" });
is($status, 202, 'jobs: by digest');
($status, $job) = call('DELETE', "/jobs/$job->{id}");
like($job->{state}, qr/^(failure|success)$/, 'jobs: cancelled, or over');

($status, $job) = call('GET', '/jobs');
is($job->{jobs}[-1]{repository}, 'llm/model', 'jobs: all of them');
cmp_ok(scalar @{$job->{jobs}}, '>', 5, 'jobs: some');

for my $body ({}, [], '', { ref => 1 }, { ref => 'llm/model' },
    { ref => 'llm/../model:v1' }, { ref => 'llm/model@sha256:1' },
    { ref => 'llm/model:v1', registry => 'other' },
    { ref => 'llm/model:v1', more => 1 }, { ref => ':v1' })
{
    ($status) = call('POST', '/jobs', $body);
    is($status, 422, 'jobs: not ' . (ref $body ? encode_json($body) : ''));
}

# what is wrong is said

for my $c (['x', qr/no JSON object/], [{}, qr/no "ref"/],
    [{ ref => 'llm/model' }, qr/neither a tag nor a digest/],
    [{ ref => '127.0.0.1:5000/llm/model:v1' }, qr/without a host/],
    [{ ref => 'llm/model:v1', tag => 'v1' }, qr/other members than "ref", /])
{
    my ($status, $answer) = call('POST', '/jobs', $c->[0]);
    like($answer->{message}, $c->[1], "jobs: $c->[1]");
}

for my $c (['GET', '/jobs/1', 404], ['DELETE', '/jobs/1', 404],
    ['GET', '/jobs/x', 404], ['DELETE', '/jobs', 405],
    ['POST', "/jobs/$id", 405])
{
    ($status) = call(@$c[0, 1], $c->[0] eq 'POST' ? {} : undef);
    is($status, $c->[2], "jobs: $c->[0] $c->[1]");
}

# wrong settings

for my $c (
    ['registry=demo', qr/needs either "secret=" or "open"/],
    ["registry=demo open secret=$d/secret", qr/needs either/],
    ['open', qr/needs "registry="/],
    ['registry=none open', qr/unknown oci_registry "none" \(it has to stand /],
    ['registry=demo open jobs=0', qr/invalid parameter "jobs=0"/],
    ['registry=demo open x', qr/invalid parameter "x"/],
    ["registry=demo secret=$d/none", qr/"\S+none" failed/],
    ["registry=demo secret=$d", qr/no regular file/],
    ["registry=demo secret=$d/empty", qr/is empty/],
    ["registry=demo secret=$d/public", qr/open to everyone/],
    ['registry=demo open', qr/ends in "\/"/, 'location /p2p'],
    ['registry=demo open', qr/ends in "\/"/, 'location ~ /p2p/'],
) {
    my ($args, $error, $location) = @$c;
    $t->write_file('empty', '', 0600);
    $t->write_file('public', "x\n", 0644);
    my $conf = $t->read_file('nginx.conf');
    $conf =~ s!location /p2p/ \{.*\}!@{[$location // 'location /p2p/'
        ]} { oci_preheat $args; }!;
    my ($rc, $out) = $t->check($conf);
    isnt($rc, 0, "refused: $args");
    like($out, $error, 'why');
    like($out, qr/check\.conf:\d+/, 'and where');
}

$t->done();
