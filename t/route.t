#!/usr/bin/perl

# Malformed requests get an OCI error and reach neither disk nor upstream;
# every endpoint of the API reaches the upstream.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP qw/ decode_json /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new();
my $d = 'sha256:' . 'a' x 64;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 404, { 'Content-Type' => 'application/json' },
        '{"errors":[{"code":"UNKNOWN","message":"scripted"}]}');
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    location => 'location / { oci_pass demo; oci_cache models; }');
$t->start();

my @bad = (
    [ '/v2/a/blobs/sha256:abc', 400, 'DIGEST_INVALID' ],
    [ '/v2/a/blobs/' . uc $d, 400, 'DIGEST_INVALID' ],
    [ "/v2/a/blobs/${d}0", 400, 'DIGEST_INVALID' ],
    [ '/v2/a/blobs/../../etc/passwd', 400, 'NAME_INVALID' ],
    [ '/v2/a/blobs/sha256:..%2f..%2fetc', 400, 'DIGEST_INVALID' ],
    [ "/v2/A/blobs/$d", 400, 'NAME_INVALID' ],
    [ "/v2/a//b/blobs/$d", 400, 'NAME_INVALID' ],
    [ "/v2/a/./b/blobs/$d", 400, 'NAME_INVALID' ],
    [ "/v2/a%2fb/blobs/$d", 400, 'NAME_INVALID' ],
    [ "/v2/a\\b/blobs/$d", 400, 'NAME_INVALID' ],
    [ '/v2/' . 'a' x 256 . "/blobs/$d", 400, 'NAME_INVALID' ],
    [ "/v2/a__b___c/blobs/$d", 400, 'NAME_INVALID' ],
    [ '/v2/a/manifests/-x', 400, 'MANIFEST_INVALID' ],
    [ '/v2/a/manifests/' . 'x' x 129, 400, 'MANIFEST_INVALID' ],
    [ "/v2/a/referrers/tag", 400, 'DIGEST_INVALID' ],
    [ '/v2/a', 404, 'NAME_UNKNOWN' ],
    [ '/v2/a/nothing/here', 404, 'NAME_UNKNOWN' ],
    [ '/v1/a/blobs/x', 404, 'NAME_UNKNOWN' ],
    [ '/v2x', 404, 'NAME_UNKNOWN' ],
    [ '/etc/passwd', 404, 'NAME_UNKNOWN' ],
);

for my $row (@bad) {
    my ($uri, $status, $code) = @$row;
    my $r = $t->get($uri);
    my $name = length $uri > 60 ? substr($uri, 0, 57) . '...' : $uri;
    is($r->{status}, $status, "$name: status");
    is($r->{h}{'content-type'}, 'application/json', "$name: type");
    my $e = eval { decode_json($r->{body})->{errors}[0] };
    is($e->{code}, $code, "$name: code");
    ok(length $e->{message}, "$name: message");
}

is(scalar($t->requests()), 0, 'the upstream saw none of them');
is(join(' ', grep { -f } glob "$t->{dir}/cache/*/* $t->{dir}/cache/*/*/*"),
    '', 'nor the disk');

for my $method (qw/ TRACE PROPFIND MKCOL OPTIONS FOO /) {
    my $r = $t->http($t->{edge}, $method, '/v2/a/tags/list', {});
    ok($r->{status} == 405 || $r->{status} == 400, "$method is refused");
}

my $r = $t->http($t->{edge}, 'GET', '/v2/a/tags/list', {}, 'a body');
is($r->{status}, 400, 'a body with GET');

$r = $t->get("/v2/a/blobs/$d", { Authorization => 'x' x 9000 });
is($r->{status}, 400, 'a credential that is too long');

# what there is goes on, byte for byte

my @good = (
    [ GET => '/v2/' ], [ GET => '/v2' ], [ GET => '/v2/_catalog?n=2&last=a' ],
    [ GET => "/v2/a/b/c/blobs/$d" ], [ HEAD => "/v2/a/blobs/$d" ],
    [ DELETE => "/v2/a/blobs/$d" ], [ GET => '/v2/a/manifests/v1.0_x-y' ],
    [ GET => "/v2/a/manifests/$d" ], [ HEAD => '/v2/a/manifests/latest' ],
    [ PUT => '/v2/a/manifests/latest' ], [ DELETE => "/v2/a/manifests/$d" ],
    [ GET => '/v2/a/tags/list?n=1' ],
    [ GET => "/v2/a/referrers/$d?artifactType=x%2Fy" ],
    [ POST => '/v2/a/blobs/uploads/' ],
    [ POST => "/v2/a/blobs/uploads/?mount=$d&from=b" ],
    [ PATCH => '/v2/a/blobs/uploads/0a-b_c?_state=x%3D' ],
    [ PUT => "/v2/a/blobs/uploads/0a?digest=$d" ],
    [ GET => '/v2/a/blobs/uploads/0a' ], [ DELETE => '/v2/a/blobs/uploads/0a' ],
    [ GET => '/v2/blobs/manifests/tags/blobs/uploads/manifests/x' ],
    [ GET => "/v2/a/manifests/sha512:" . 'b' x 128 ],
    [ GET => '/v2/a/blobs/blake3:' . 'c' x 64 ],
);

for my $row (@good) {
    my ($method, $uri) = @$row;
    $t->forget_requests();
    my $body = $method =~ /^P/ ? 'x' : undef;
    my $r = $t->http($t->{edge}, $method, $uri, {}, $body);
    is($r->{status}, 404, "$method $uri: the upstream's answer");
    my ($last) = reverse $t->requests();
    is("$last->{method} $last->{uri}", "$method $uri", "$uri: as it was");
}

# the escape of a digest's colon

$t->forget_requests();
(my $escaped = $d) =~ s/:/%3A/;
$t->get("/v2/a/blobs/$escaped");
like((($t->requests())[0] // {})->{uri}, qr!^/v2/a/blobs/sha256:a{64}$!,
    'an escaped colon');

$t->done();
