#!/usr/bin/perl

# A whole preheat by Harbor's drivers, in each dialect and with each way of
# authentication: health, create, polls until the end.  Jobs that end well, and
# those that can't: no such tag, no right, a token that expired before or in
# the middle, a registry that is down, a disk that is full.  Whatever becomes
# of a job, Harbor can read each answer, and knows.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use Harbor;
use HarborCore;
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my $core = HarborCore->new($t, tokens => 1, leeway => 0,
    users => { 'robot$edge' => 'robot-secret' },
    projects => { llm => ['robot$edge'], other => ['robot$edge'] });
my $up = $core->start();
my $down = OCI::port();
my %port = map { $_ => OCI::port() } qw/ robot full down /;

$t->write_file('robot', "robot\$edge:robot-secret\n", 0600);
$t->write_file('basic', "Basic aGFyYm9yOnBhc3M=\n", 0600);
$t->write_file('bearer', "Bearer personal-access-token\n", 0600);
$t->write_file('custom', "a value, of \"any\" form\n", 0600);

my $public = 'public_url https://harbor.example.com;';

$t->conf(http => <<EOC, location => <<EOL);
oci_cache_path $d/full keys_zone=full:1m min_free=99999g;
oci_registry demo { url http://127.0.0.1:$up; $public }
oci_registry robot {
    url http://127.0.0.1:$up; $public credentials file $d/robot;
}
oci_registry down { url http://127.0.0.1:$down; $public }
server {
    listen 127.0.0.1:$port{robot};
    location /v2/ { oci_pass robot; oci_cache models; oci_access open; }
    location /kraken/ { oci_preheat registry=robot open; }
}
server {
    listen 127.0.0.1:$port{full};
    location /v2/ { oci_pass demo; oci_cache full; }
    location /p2p/ { oci_preheat registry=demo open; }
}
server {
    listen 127.0.0.1:$port{down};
    location /v2/ { oci_pass down; oci_cache models; }
    location /p2p/ { oci_preheat registry=down open jobs=8; }
}
EOC
location /v2/ { oci_pass demo; oci_cache models; }
location /none/ { oci_preheat registry=demo open; }
location /basic/ { oci_preheat registry=demo secret=$d/basic; }
location /oauth/ { oci_preheat registry=demo secret=$d/bearer; }
location /custom/ {
    oci_preheat registry=demo secret=$d/custom header=X-Preheat;
}
EOL
$t->start();

my %auth = (
    none => [NONE => {}], basic => [BASIC => { harbor => 'pass' }],
    oauth => [OAUTH => { token => 'personal-access-token' }],
    custom => [CUSTOM => { 'X-Preheat' => 'a value, of "any" form' }],
);

sub instance {
    my ($vendor, $mode, %o) = @_;
    return Harbor->new($t, vendor => $vendor, endpoint => "/$mode",
        auth_mode => $auth{$mode}[0], auth_info => $auth{$mode}[1], %o);
}

sub anywhere {
    my ($vendor, $port, $endpoint) = @_;
    return Harbor->new($t, vendor => $vendor, port => $port{$port},
        endpoint => $endpoint // '/p2p');
}

sub model {
    my ($repo, $tag) = @_;
    my @layers = map { $t->random_blob($_) } 300_000, 20_000;
    $core->push_model($repo, $tag, @layers);
    return @layers;
}


# these take longest: they begin first.  Health is the edge's own

my %late;
for my $vendor (qw/ dragonfly old /) {
    my $h = anywhere($vendor, 'down');
    ok($h->health(), "$vendor: healthy, whatever the registry is");
    my $p = $h->preheat(repository => "llm/$vendor") || {};
    is($p->{status}, 'PENDING', "$vendor: taken, the registry is down");
    $late{$vendor} = [$h, $p->{id}];
}

# each dialect with each kind of authentication

for my $mode (sort keys %auth) {
    for my $vendor (qw/ dragonfly old /) {
        my $h = instance($vendor, $mode);
        my $repo = "llm/$vendor-$mode";
        my @layers = model($repo, 'v1');
        my $token = $core->token($repo);

        is_deeply([($h->run(repository => $repo, token => $token))[0, 1]],
            ['SUCCESS', ''], "$vendor, $mode: success");
        for my $layer (@layers) {
            my $mark = $t->upstream_bytes();
            my $r = $t->get("/v2/$repo/blobs/" . $t->digest($layer),
                { Authorization => $token });
            is($r->{body}, $layer, "$vendor, $mode: the bytes");
            is($t->upstream_bytes(), $mark, "$vendor, $mode: all here");
        }

        my ($status) = $h->call('GET', $Harbor::PATH{$vendor}{health}, undef,
            anonymous => 1);
        is($status, $mode eq 'none' ? 200 : 401, "$vendor, $mode: nobody");
    }
    my $kraken = instance('kraken', $mode);
    ok($kraken->health(), "kraken, $mode: health");
}

# what else may be in a policy; and once more the same

my $h = instance('dragonfly', 'oauth');
my $repo = 'llm/dragonfly-oauth';
my $token = $core->token($repo);

for my $scope ('single_seed_peer', 'all_seed_peers', 'all_peers') {
    is(($h->run(repository => $repo, token => $token, scope => $scope,
        cluster_ids => [1, 2]))[0], 'SUCCESS', "scope $scope");
}

# an id is good for as long as the job is known, also after a reload

my $first = $h->preheat(repository => $repo, token => $token);
my @workers = $t->workers();
$t->signal('HUP');
until_true(sub { my %now = map { $_ => 1 } $t->workers();
    !grep { $now{$_} } @workers });
is(($h->ends($first->{id}))[0], 'SUCCESS', 'asked for after a reload');

# what can't be

model('llm/model', 'v1');
model('other/model', 'v1');

my %fails = (
    'no such tag' => [{ tag => 'v9', token => $core->token('llm/model') },
        qr/404/],
    'no such repository' => [{ repository => 'llm/none',
        token => $core->token('llm/none') }, qr/404/],
    'no right' => [{ repository => 'other/model',
        token => $core->token('llm/model') }, qr/401.*not accepted/],
    'an expired token' => [{ token => $core->token('llm/model',
        exp => int(time()) - 10) }, qr/401.*not accepted, or expired/],
    'no token' => [{ token => '' }, qr/401.*wants credentials/],
    'a forged token' => [{ token => $core->token('llm/model') . 'x' },
        qr/401/],
);

for my $vendor (qw/ dragonfly old /) {
    my $h = instance($vendor, 'oauth');

    for my $name (sort keys %fails) {
        my ($o, $why) = @{$fails{$name}};
        my ($status, $error) = $h->run(%$o);
        is($status, 'FAIL', "$vendor, $name: a failure");
        like($error, $why, "$vendor, $name: why");
    }

    my ($status, $error) = anywhere($vendor, 'full')->run(
        token => $core->token('llm/model'));
    is($status, 'FAIL', "$vendor, a full disk: a failure");
    like($error, qr/can't be stored/, "$vendor, a full disk: why");
}

# in the middle of a job

for my $vendor (qw/ dragonfly old /) {
    my $h = instance($vendor, 'oauth');
    my $repo = "llm/$vendor-middle";
    my $ends = int(time()) + 2;
    model($repo, 'v1');
    $core->state('hold');
    my $p = $h->preheat(repository => $repo, token => $core->token($repo,
        exp => $ends));
    sleep 0.1 while time() < $ends + 0.1;
    is($h->progress($p->{id})->{status}, 'RUNNING', "$vendor: at work");
    $core->state('');
    my ($status, $error) = $h->ends($p->{id});
    is($status, 'FAIL', "$vendor, expired meanwhile: a failure");
    like($error, qr/401.*expired/, "$vendor, expired meanwhile: why");
}

# and with another one all is well

is(($h->run(token => $core->token('llm/model')))[0], 'SUCCESS',
    'the same with a good token');

# Kraken's driver hears of nothing but that it was taken; who looks at the
# jobs knows more

my $kraken = anywhere('kraken', 'robot', '/kraken');
my @layers = model('llm/kraken', 'v1');

for my $c (['llm/kraken', 'v1', 'success', qr/^$/],
    ['llm/kraken', 'v9', 'failure', qr/404/],
    ['secret/model', 'v1', 'failure', qr/401/])
{
    my ($repo, $tag, $state, $why) = @$c;
    model('secret/model', 'v1');
    is(($kraken->run(repository => $repo, tag => $tag))[0], 'SUCCESS',
        "kraken, $repo:$tag: taken");
    my $job;
    until_true(sub {
        my (undef, $jobs) = $kraken->call('GET', '/jobs');
        ($job) = grep { $_->{repository} eq $repo
            && $_->{reference} eq $tag } @{$jobs->{jobs}};
        return $job && $job->{state} !~ /pending|running/;
    });
    is($job->{state}, $state, "kraken, $repo:$tag: $state");
    like($job->{error}, $why, "kraken, $repo:$tag: why");
}

for my $layer (@layers) {
    my $mark = $t->upstream_bytes('robot');
    my $r = $t->http($port{robot}, 'GET', '/v2/llm/kraken/blobs/'
        . $t->digest($layer));
    is($r->{body}, $layer, 'kraken: the bytes');
    is($t->upstream_bytes('robot'), $mark, 'kraken: all here');
}

# a registry that is down

for my $vendor (sort keys %late) {
    my ($h, $id) = @{$late{$vendor}};
    my ($status, $error) = $h->ends($id);
    is($status, 'FAIL', "$vendor, down: a failure");
    like($error, qr/can't be fetched|registry failed/, "$vendor, down: why");
}

# nothing of a token, whatever became of it

my $logs = join '', map { $t->read_file($_) } qw/ error.log access.log /;
unlike($logs, qr/eyJ|personal-access|robot-secret/, 'no token in a log');

$t->done();
