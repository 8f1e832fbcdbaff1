#!/usr/bin/perl

# oci_preheat with peers by https: a server that one location trusts is not
# trusted by another, whatever TLS remembers of it.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('openssl');

my $t = OCI->new(workers => 1);
my $other = OCI->new();
my $d = $t->{dir};

my $up = $t->registry();
my (undef, $digest) = $t->push_artifact('llm/model', 'v1',
    $t->random_blob(10_000));
my $tls = OCI::port();
my ($cert, $key) = $t->certificate('localhost');
$other->certificate('other.test');
$t->write_file('secret', "Bearer this\n", 0600);

sub place {
    my ($name, $ca) = @_;
    return "location /$name/ { oci_preheat registry=demo open "
        . "peers=https://localhost:$tls/p2p/ peer_secret=$d/secret "
        . "peer_trusted=$ca; }\n";
}

my $v2 = 'location /v2/ { oci_pass demo; oci_cache models; oci_access open; }';

$t->conf(http => <<EOC, location => $v2 . place('trusts', "$d/ca.pem")
oci_registry demo { url http://127.0.0.1:$up; credentials anonymous; }
server {
    listen 127.0.0.1:$tls ssl;
    ssl_certificate $cert;
    ssl_certificate_key $key;
    $v2
    location /p2p/ { oci_preheat registry=demo secret=$d/secret; }
}
EOC
    . place('does_not', "$other->{dir}/ca.pem"));
$t->start();

sub job {
    my ($place, $ref) = @_;
    my $job = decode_json($t->http($t->{edge}, 'POST', "/$place/jobs", {},
        encode_json({ ref => "llm/model$ref" }))->{body});
    until_true(90, sub {
        $job = decode_json($t->get("/$place/jobs/$job->{id}")->{body});
        $job->{state} !~ /pending|running/ });
    return $job;
}

is(job('trusts', ':v1')->{state}, 'success', 'a peer that is trusted');

my $job = job('does_not', "\@$digest");
is($job->{state}, 'failure', 'the same one, which is not');
like($job->{error}, qr/^peer "[^"]+": it can't be reached$/, 'why');
like($t->read_file('error.log'), qr/certificate verify error/, 'the log, too');

is(job('trusts', "\@$digest")->{state}, 'success', 'and again where it is');

$t->done();
