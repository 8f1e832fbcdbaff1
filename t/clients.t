#!/usr/bin/perl

# Real clients, unchanged.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP qw/ decode_json /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('docker-registry');

$ENV{PATH} .= ":$ENV{HOME}/go/bin" if $ENV{HOME};
$ENV{PATH} = "$ENV{TEST_CLIENTS}:$ENV{PATH}" if $ENV{TEST_CLIENTS};

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $port = $t->registry();

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }");
$t->start();

my @layers = map { $t->random_blob($_ * 1000 * 1000 + 7) } 1 .. 4;
my ($m, $digest) = $t->push_artifact('llm/model', 'v1', @layers);
my $image = "127.0.0.1:$t->{edge}/llm/model:v1";
my %want = map { $_->{digest} => $_->{size} } @{decode_json($m)->{layers}};

my %run = (
    skopeo => sub {
        my ($dir) = @_;
        return "skopeo copy --insecure-policy --src-tls-verify=false"
            . " docker://$image dir:$dir";
    },
    oras => sub {
        my ($dir) = @_;
        return "oras copy --from-plain-http --to-oci-layout $image $dir:v1";
    },
    crane => sub {
        my ($dir) = @_;
        return "crane pull --insecure --format oci $image $dir";
    },
);

for my $client (qw/ skopeo oras crane modctl /) {
    SKIP: {
        skip "$client is not installed", 1
            unless OCI::installed($client) && $run{$client};

        for my $state (qw/ first again /) {
            my $dir = "$d/$client.$state";
            my $out = `cd $d && HOME=$d @{[$run{$client}->($dir)]} 2>&1`;
            is($?, 0, "$client $state") or diag($out);
            my $have = OCI::files_of($dir);
            is(join(',', grep { !$have->{$_} } sort keys %want, $digest), '',
                "$client $state: all digests");
        }
    }
}

# each byte was fetched once, whoever came first

my $size = 0;
$size += $_ for values %want;
my $up = $t->upstream_bytes();
ok($up >= $size && $up < $size + 20000, 'fetched once') or diag("$up, $size");

# a push by a real client

SKIP: {
    skip 'skopeo is not installed', 2 unless OCI::installed('skopeo');
    my $out = `skopeo copy --insecure-policy --dest-tls-verify=false dir:$d/skopeo.first docker://127.0.0.1:$t->{edge}/llm/copy:v2 2>&1`;
    is($?, 0, 'skopeo pushes through the edge') or diag($out);
    my $r = $t->http($port, 'GET', '/v2/llm/copy/manifests/v2',
        { Accept => $OCI::TYPE{manifest} });
    is($t->digest($r->{body}), $digest, 'it is there');
}

$t->done();
