#!/usr/bin/perl

# oci_notify: events go where the configuration says, and nowhere else: names
# that lead to the edge itself, receivers that show the wrong certificate.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Notify;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $type = $OCI::TYPE{manifest};

my $upstream = $t->upstream(sub {
    my ($c, $q) = @_;
    my $m = '{"schemaVersion":2}';
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $t->digest($m) }, $m);
}, quiet => 1);

my $receiver = Notify::receiver($t);
my $dns = $t->dns();
$t->dns_says('127.0.0.1 1');

my ($cert, $key) = $t->certificate('127.0.0.1');
my $tls = OCI::port();

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$upstream; }
resolver 127.0.0.1:$dns valid=1s ipv6=off;
resolver_timeout 2s;
oci_notify pull http://metadata.test:$receiver/named queue=$d/named
    retry=300ms;
oci_notify pull https://127.0.0.1:$tls/tls queue=$d/tls retry=300ms
    trusted_certificate=$d/ca.pem;
oci_notify pull https://127.0.0.1:$tls/stranger queue=$d/stranger retry=300ms;
server {
    listen 127.0.0.1:$tls ssl;
    ssl_certificate $cert;
    ssl_certificate_key $key;
    location / { proxy_pass http://127.0.0.1:$receiver; }
}
EOC
location /v2/ { oci_pass demo; oci_cache models; }
EOL
$t->start();

is($t->get('/v2/p/a/manifests/v1', { Accept => $type })->{status}, 200,
    'a pull');

# https

ok(until_true(sub { Notify::queue($t, "$d/tls")->{sent} == 1 }),
    'by https: taken');
my @r = Notify::received($t);
is($r[0]{uri}, '/tls', 'it came');

ok(until_true(sub { Notify::queue($t, "$d/stranger")->{failed} >= 2 }),
    'without the right CA: not');
is(Notify::queue($t, "$d/stranger")->{sent}, 0, 'nothing goes out');

# a name

for my $address (qw/ 127.0.0.1 169.254.169.254 0.0.0.0 127.9.9.9 224.0.0.1 /)
{
    $t->dns_says("$address 1");
    sleep 1.5;
    my $failed = Notify::queue($t, "$d/named")->{failed};
    ok(until_true(sub { Notify::queue($t, "$d/named")->{failed}
        >= $failed + 2 }), "$address: failed");
}

like($t->read_file('error.log'),
    qr/"metadata.test" is 127.0.0.1, where nothing is sent/, 'said');

for my $says ('servfail', 'nxdomain', 'silent') {
    $t->dns_says($says);
    my $failed = Notify::queue($t, "$d/named")->{failed};
    ok(until_true(sub { Notify::queue($t, "$d/named")->{failed}
        >= $failed + 2 }), "$says: failed");
}

is(Notify::queue($t, "$d/named")->{events}, 1, 'it waits');
is(scalar(grep { $_->{uri} ne '/tls' } Notify::received($t)), 0,
    'nobody else was told');

$t->done();
