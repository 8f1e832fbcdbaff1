#!/usr/bin/perl

# Logins and pulls as docker and containerd do them, request by request from
# GET /v2/ on: with Basic, with tokens of the edge's own, with those of a token
# service like Harbor's behind "oci_token", and as nobody.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Login;
use Policy;

OCI->skip_all_unless('docker-registry');

my $t = OCI->new(workers => 2, passes => 1);
my $d = $t->{dir};

my $up = $t->registry();
my $blob = $t->random_blob(200_000);
my $config = '{"descriptor":{"name":"test"}}';
my $blob_digest = $t->digest($blob);
my ($manifest, $digest) = $t->push_artifact('llm/model', 'v1', $blob);
$t->push_artifact($_, 'v1', $blob) for qw! public/model secret/model !;

my %secrets = (alice => 'alice-secret', 'robot$llm+ci' => 'robot:secret&');

my $doc = {
    version => 1,
    subjects => {
        map { $_ => { secret => Policy::phc($secrets{$_}) } } keys %secrets },
    grants => { ml => { role => 'guest', subjects => [keys %secrets],
        repositories => ['llm/**'] } },
    projects => { public => { public => JSON::PP::true } },
};
Policy::write_doc($t, $doc);
Policy::signing_key($t, 'edge.pem');

my $harbor = Login::harbor($t,
    users => { %secrets, edge => 'edge-secret' },
    projects => { llm => [keys %secrets, 'edge'], public => ['*'],
        secret => ['edge'] },
    repos => { map { $_ => { v1 => $manifest } } qw! llm/model public/model
        secret/model ! },
    blobs => { $blob_digest => $blob, $t->digest($config) => $config });

$t->write_file('robot', "edge:edge-secret\n", 0600);

my %port = map { $_ => OCI::port() } qw/ basic tokens closed passed checked /;

$t->conf(http => Login::servers($t, $up, $harbor, %port), location => '');
$t->start();

my %scheme = (basic => 'Basic', map { $_ => 'Bearer' } qw/ tokens closed passed
    checked /);

for my $way (sort keys %port) {
    my $p = $port{$way};

    my ($scheme, $c) = Login::challenge($t->http($p, 'GET', '/v2/'));
    is($scheme, $scheme{$way}, "$way: /v2/ has one challenge");

    for my $user (sort keys %secrets) {
        is(Login::docker_login($t, $p, $user, $secrets{$user}), 200,
            "$way: docker login $user");
    }
    is(Login::docker_login($t, $p, 'alice', 'wrong'), 401,
        "$way: docker login with a wrong password");
    is(Login::docker_login($t, $p, 'mallory', 'alice-secret'), 401,
        "$way: docker login of a stranger");

    for my $client (qw/ docker containerd /) {
        my $pull = $client eq 'docker' ? \&Login::docker_pull
            : \&Login::containerd_pull;

        for my $user (sort keys %secrets) {
            my ($status, $blobs) = $pull->($t, $p, 'llm/model', 'v1', $user,
                $secrets{$user});
            is($status, 200, "$way: $client pull by $user");
            ok(($blobs->{$blob_digest} // '') eq $blob,
                "$way: $client: the blob");
        }

        is(($pull->($t, $p, 'public/model', 'v1', 'alice',
            $secrets{alice}))[0], 200, "$way: $client: what is public");
        isnt(($pull->($t, $p, 'secret/model', 'v1', 'alice',
            $secrets{alice}))[0], 200, "$way: $client: not what is secret");
        is(($pull->($t, $p, 'llm/model', 'v1', 'alice', 'wrong'))[0], 401,
            "$way: $client: not with a wrong password");

        # nobody

        my $let_in = $way ne 'closed' && $way ne 'basic';
        my ($status, $blobs) = $pull->($t, $p, 'public/model', 'v1');
        is($status, $let_in ? 200 : 401, "$way: $client: nobody");
        ok(($blobs->{$blob_digest} // '') eq $blob, "$way: $client: the blob")
            if $let_in;
        is(($pull->($t, $p, 'llm/model', 'v1'))[0], 401,
            "$way: $client: nobody, what is not public");
    }
}

$t->done();
