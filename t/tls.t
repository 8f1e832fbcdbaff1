#!/usr/bin/perl

# HTTPS upstreams: the certificate and its name are checked; the edge itself
# over TLS, HTTP/1.1 and HTTP/2.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('openssl');
OCI->skip_all_unless('curl');

# unwind: so that what OpenSSL allocates is told apart by its callers

my $t = OCI->new(workers => 2, unwind => 1);
my $d = $t->{dir};
my ($cert, $key) = $t->certificate('registry.test');
my ($ecert, $ekey) = $t->certificate('edge.test');
my ($xcert, $xkey) = $t->certificate('expired.test', -1);

my $size = 9 * 1024 * 1024 + 99;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my $manifest = '{"schemaVersion":2}';

my $plain = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($manifest) }, $manifest)
        if $q->{uri} =~ /manifests/ && $q->{method} ne 'PUT';
    return $t->reply_blob($c, $q, $blob);
});

my ($tls, $edge) = (OCI::port(), OCI::port());

sub conf {
    my ($cert, $key, $host) = @_;

    $t->conf(http => <<EOC, location => <<EOL, server => <<EOS);
oci_registry good {
    url https://127.0.0.1:$tls;
    host $host;
    trusted_certificate $d/ca.pem;
}
oci_registry name {
    url https://127.0.0.1:$tls;
    host other.test;
    trusted_certificate $d/ca.pem;
}
oci_registry ca {
    url https://127.0.0.1:$tls;
    host registry.test;
}
oci_registry unchecked {
    url https://127.0.0.1:$tls;
    host other.test;
    ssl_verify off;
}
map \$uri \$registry { ~^/v2/(?<r>[a-z]+)/ \$r; }
server {
    listen 127.0.0.1:$tls ssl;
    ssl_certificate $cert;
    ssl_certificate_key $key;
    location / {
        proxy_pass http://127.0.0.1:$plain;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
    }
}
EOC
location /v2/ { oci_pass \$registry; oci_cache models; }
EOL
listen 127.0.0.1:$edge ssl http2;
ssl_certificate $ecert;
ssl_certificate_key $ekey;
EOS
}

sub reload {
    my @old = $t->workers();
    $t->signal('HUP');
    for (1 .. 200) {
        my %now = map { $_ => 1 } $t->workers();
        last if %now && !grep { $now{$_} } @old;
        sleep 0.1;
    }
}

conf($cert, $key, 'registry.test');
$t->start();

my $r = $t->get("/v2/good/m/blobs/$digest");
is($r->{status}, 200, 'a good certificate');
ok($r->{body} eq $blob, 'the bytes');

for my $name (qw/ name ca /) {
    $r = $t->get("/v2/$name/m/blobs/$digest");
    is($r->{status}, 502, "a bad certificate ($name) is refused");
}

like($t->read_file('error.log'), qr/does not match "other.test"/,
    'the name is said');
like($t->read_file('error.log'), qr/certificate verify error/,
    'the issuer is');

$r = $t->get("/v2/unchecked/m/blobs/$digest");
is($r->{status}, 200, 'ssl_verify off');

my $pushed = $t->http($t->{edge}, 'PUT', '/v2/good/m/manifests/x', {}, 'x');
is($pushed->{status}, 200, 'what is passed goes the same way');
is($t->http($t->{edge}, 'PUT', '/v2/name/m/manifests/x', {}, 'x')->{status},
    502, 'and is refused the same way');

# it expires while the edge runs: what is stored is served, the rest is not

is($t->get('/v2/good/m/manifests/v1')->{body}, $manifest, 'a tag');
conf($xcert, $xkey, 'expired.test');
reload();

$r = $t->get("/v2/good/m/blobs/$digest");
is($r->{status}, 200, 'expired: a stored blob');
ok($r->{body} eq $blob, 'expired: its bytes');
$r = $t->get('/v2/good/m/manifests/v1');
is($r->{body}, $manifest, 'expired: a tag');
like($r->{h}{'cache-status'} // '', qr/stale/, 'expired: stale');
like($t->get('/v2/good/m/blobs/' . $t->digest('x'))->{status}, qr/^50[23]$/,
    'expired: what is not there');
like($t->read_file('error.log'), qr/certificate verify error: \(10:/,
    'and it is said why');

conf($cert, $key, 'registry.test');
reload();

for (1 .. 50) {
    $r = $t->get("/v2/good/n/blobs/$digest");
    last if $r->{status} == 200;
    sleep 0.2;
}
ok($r->{body} eq $blob, 'renewed: it goes on');

# the edge over TLS

my $url = "https://edge.test:$edge/v2/good/m/blobs/$digest";
my $curl = "curl -s --cacert $d/ca.pem --resolve edge.test:$edge:127.0.0.1";
my $h2 = `curl -V` =~ /HTTP2/;

for my $state (qw/ cold warm /) {
    for my $v ('http1.1', $h2 ? 'http2' : ()) {
        if ($state eq 'cold') {
            $t->stop();
            system("rm -rf $d/cache");
            $t->start();
        }

        my $out = `$curl --$v -w '%{http_code}' -o $d/out $url`;
        is($out, 200, "$state over $v");
        ok($t->read_file('out') eq $blob, "$state over $v: bytes");

        $out = `$curl --$v -w '%{http_code}' -r 1000-5000000 -o $d/out $url`;
        is($out, 206, "$state over $v: a range");
        ok($t->read_file('out') eq substr($blob, 1000, 4999001),
            "$state over $v: its bytes");

        my @n = $t->parallel(8, sub {
            my ($i) = @_;
            system("$curl --$v -m 0.1 -r ${i}00000- -o /dev/null $url");
            return '';
        });
    }
}

$t->done();
