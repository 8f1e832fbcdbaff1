#!/usr/bin/perl

# "oci_token policy=": the edge's own tokens: who gets which, in both forms of
# the endpoint, and what comes of them when keys and rights change.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use MIME::Base64;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Jwt;
use Policy;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my $quick = Policy::phc('quick-secret');
my $slow = Policy::phc('slow-secret', ln => 15);
my $odd = Policy::phc('a&b=c +%:ü');

my $doc = {
    version => 1,
    subjects => {
        alice => { secret => $quick, groups => ['ml'] },
        'robot$llm+ci' => { secret => $odd },
        slow => { secret => $slow, groups => ['ml'] },
        off => { secret => $quick, disabled => JSON::PP::true },
        root => { secret => $quick },
        late => { secret => $quick, not_before => int(time() + 1000) },
    },
    grants => {
        ml => { role => 'guest', groups => ['ml'],
            repositories => ['llm/**'] },
        ci => { role => 'developer', subjects => ['robot$llm+ci'],
            repositories => ['llm/**'] },
        root => { role => 'systemAdmin', subjects => ['root'],
            repositories => ['**'] },
    },
    projects => { public => { public => JSON::PP::true } },
};
Policy::write_doc($t, $doc);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}');
}, quiet => 1);

Policy::signing_key($t, 'one.pem');
Policy::signing_key($t, 'two.pem', 'ED25519');
Policy::signing_key($t, 'three.pem');

my ($cert, $key) = $t->certificate('edge.test');
my ($closed, $basic, $tls, $fixed) = map { OCI::port() } 1 .. 4;

sub conf {
    my ($keys) = @_;
    $t->conf(http => <<EOC, server => <<EOS, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic anonymous;
    $keys
}
oci_policy closed {
    source file:$d/policy.json; zone closed:1m; identity basic;
    signing_key two.pem;
}
oci_policy fixed {
    source file:$d/policy.json; zone fixed:1m; identity basic;
    signing_key two.pem; realm https://edge.example/auth;
}
oci_policy basic {
    source file:$d/policy.json; zone basic:1m; identity basic;
}
log_format who '\$request_method \$uri \$status \$oci_subject \$oci_decision';
client_body_in_file_only on;
client_body_buffer_size 1k;
server {
    listen 127.0.0.1:$closed;
    oci_access closed;
    location /v2/ { oci_pass demo; }
    location = /auth/token { oci_token policy=closed; }
}
server {
    listen 127.0.0.1:$basic;
    location /v2/ { oci_pass demo; oci_access basic; }
    location = /token { oci_token policy=team; }
}
server {
    listen 127.0.0.1:$tls ssl http2;
    ssl_certificate $cert; ssl_certificate_key $key;
    location /v2/ { oci_pass demo; oci_access team; }
    location = /token { oci_token policy=team; if (\$arg_x) { set \$y 1; } }
}
server {
    listen 127.0.0.1:$fixed;
    location /v2/ { oci_pass demo; oci_access fixed; }
}
EOC
access_log $d/who.log who;
EOS
location /v2/ { oci_pass demo; oci_access team; }
location = /token { oci_token policy=team; }
EOL
}

conf("signing_key $d/one.pem; signing_key $d/two.pem;");
$t->start();

my %alice = Policy::basic('alice', 'quick-secret');
my %robot = Policy::basic('robot$llm+ci', 'a&b=c +%:ü');
my %root = Policy::basic('root', 'quick-secret');

sub challenges {
    my ($r) = @_;
    return map { $_->[1] } grep { lc $_->[0] eq 'www-authenticate' }
        @{$r->{list}};
}

# one challenge, which names what a request needs

my $bearer = 'Bearer realm="http://edge.test/token",service="team"';
my $one = 'sha256:' . '1' x 64;

for my $row (
    [ 'GET', '/v2/', '' ],
    [ 'HEAD', '/v2/', '' ],
    [ 'GET', '/v2/llm/a/manifests/v1', 'repository:llm/a:pull' ],
    [ 'HEAD', '/v2/llm/a/manifests/v1', 'repository:llm/a:pull' ],
    [ 'GET', "/v2/llm/a/blobs/$one", 'repository:llm/a:pull' ],
    [ 'GET', '/v2/llm/a/tags/list', 'repository:llm/a:pull' ],
    [ 'GET', "/v2/llm/a/referrers/$one", 'repository:llm/a:pull' ],
    [ 'PUT', '/v2/llm/a/manifests/v1', 'repository:llm/a:pull,push' ],
    [ 'POST', '/v2/llm/a/blobs/uploads/', 'repository:llm/a:pull,push' ],
    [ 'POST', "/v2/llm/a/blobs/uploads/?mount=$one&from=llm%2Fb",
        'repository:llm/a:pull,push repository:llm/b:pull' ],
    [ 'POST', "/v2/llm/a/blobs/uploads/?mount=$one&from=%22x",
        'repository:llm/a:pull,push' ],
    [ 'DELETE', '/v2/llm/a/manifests/v1', 'repository:llm/a:delete' ],
    [ 'PUT', '/v2/public/a/manifests/v1', 'repository:public/a:pull,push' ],
    [ 'GET', '/v2/_catalog', 'registry:catalog:*' ],
) {
    my ($method, $uri, $scope) = @$row;
    my $r = $t->http($t->{edge}, $method, $uri, {},
        $method =~ /^P/ ? '' : undef);
    is($r->{status}, 401, "$method $uri: 401");
    is(join("\n", challenges($r)), $bearer . ($scope && ",scope=\"$scope\""),
        "$method $uri: the challenge");
}

my $r = $t->http($closed, 'GET', '/v2/');
is($r->{h}{'www-authenticate'},
    'Bearer realm="http://edge.test/auth/token",service="closed"',
    'a realm is the location of the policy in its server');
is($t->http($basic, 'GET', '/v2/')->{h}{'www-authenticate'},
    'Basic realm="basic"', 'that of another policy is none');
is($t->http($fixed, 'GET', '/v2/')->{h}{'www-authenticate'},
    'Bearer realm="https://edge.example/auth",service="fixed"',
    'it may be said where it is');
my $https = "https://edge.test:$tls";
$r = `curl -sk -D - --resolve edge.test:$tls:127.0.0.1 $https/v2/`;
like($r, qr!^www-authenticate: Bearer realm="\Q$https\E/token",!mi,
    'it has the scheme and the port that the client used');
for my $host ('a"b', 'edge.test,x', 'a b') {
    $r = $t->get('/v2/', { Host => $host });
    unlike(join("\n", challenges($r)), qr/a"b|,x|a b/,
        "nothing comes of $host");
}

# who gets what, by GET

sub ask {
    my ($query, %h) = @_;
    my $r = $t->get("/token?service=team$query", \%h);
    my $json = $r->{status} == 200 ? decode_json($r->{body}) : {};
    my ($header, $claims) = Policy::token($json->{token});
    return ($json->{token}, $claims, $header, $json, $r);
}

sub access {
    my ($claims) = @_;
    return join ' ', map { "$_->{type}:$_->{name}:"
        . join ',', @{$_->{actions}} } @{$claims->{access}};
}

$t->allow(qr/signing_key "\S*three\.pem" is open to everyone/);

my ($token, $claims, $header, $json);
($token, $claims, $header, $json, $r) = ask(
    '&scope=repository:llm/a:pull,push&account=alice&client_id=docker'
    . '&offline_token=true', %alice);
is($r->{status}, 200, 'a token');
is($r->{h}{'cache-control'}, 'no-store', 'which nobody keeps');
is($r->{h}{'content-type'}, 'application/json', 'in JSON');
is($json->{access_token}, $token, 'by both names');
is($json->{expires_in}, 300, 'for five minutes');
ok(!exists $json->{refresh_token}, 'nothing to refresh it with');
like($json->{issued_at}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'issued_at');
is($header->{alg}, 'ES256', 'by the first key');
is($header->{typ}, 'JWT', 'a JWT');
is($header->{kid}, Policy::thumbprint("$d/one.pem"), 'whose name it has');
is(join(',', sort keys %$header), 'alg,kid,typ', 'and nothing else');
ok(Policy::signed($t, "$d/one.pem", $token), 'the signature');
is($claims->{sub}, 'alice', 'whose it is');
is($claims->{aud}, 'team', 'for which service');
is($claims->{iss}, 'nginx-oci', 'and from whom');
is($claims->{exp} - $claims->{iat}, 300, 'exp');
is($claims->{nbf}, $claims->{iat}, 'nbf');
ok(abs($claims->{iat} - time()) < 5, 'iat');
is(access($claims), 'repository:llm/a:pull', 'what she may of what she asked');
isnt((ask('', %alice))[1]{jti}, $claims->{jti}, 'each has its own jti');

for my $row (
    [ '', \%alice, '' ],
    [ '&scope=', \%alice, '' ],
    [ '&scope=repository:llm/a:*', \%robot, 'repository:llm/a:pull,push' ],
    [ '&scope=repository:llm/a:push', \%alice, '' ],
    [ '&scope=repository:secret/a:pull', \%alice, '' ],
    [ '&scope=repository:public/a:pull,push', \%alice,
        'repository:public/a:pull' ],
    [ '&scope=repository:llm/a:pull&scope=repository:llm/b:pull', \%alice,
        'repository:llm/a:pull repository:llm/b:pull' ],
    [ '&scope=repository:llm/a:pull%20repository:llm/b:pull', \%alice,
        'repository:llm/a:pull repository:llm/b:pull' ],
    [ '&scope=registry:catalog:*', \%alice, '' ],
    [ '&scope=registry:catalog:*&scope=repository:x:delete', \%root,
        'registry:catalog:* repository:x:delete' ],
    [ '&scope=repository:public/a:pull,push', {}, 'repository:public/a:pull' ],
    [ '&scope=repository:llm/a:pull', {}, '' ],
    [ '', {}, '' ],
    [ '&scope=repository:public/a:pull', { Policy::basic('', '') },
        'repository:public/a:pull' ],
) {
    my ($query, $h, $want) = @$row;
    my (undef, $claims, undef, undef, $r) = ask($query, %$h);
    my $who = $claims->{sub} // '?';
    is($r->{status}, 200, "\"$query\" of \"$who\"");
    is(access($claims), $want, "\"$query\" of \"$who\": granted");
}

is((ask('', %robot))[1]{sub}, 'robot$llm+ci', 'a robot');
is((ask(''))[1]{sub}, '', 'nobody');
is($t->get('/token', \%alice)->{status}, 200, 'service may be left out');
$r = $t->head('/token?service=team', \%alice);
is($r->{status}, 200, 'HEAD');

# who gets none

for my $row (
    [ 'a wrong secret', 401, Policy::basic('alice', 'wrong') ],
    [ 'nobody of that name', 401, Policy::basic('mallory', 'quick-secret') ],
    [ 'who is disabled', 401, Policy::basic('off', 'quick-secret') ],
    [ 'who is to come later', 401, Policy::basic('late', 'quick-secret') ],
    [ 'no Basic', 401, Authorization => 'Basic !' ],
    [ 'a token for a token', 401, Authorization => "Bearer $token" ],
) {
    my ($name, $status, %h) = @$row;
    my $r = $t->get('/token?service=team', \%h);
    is($r->{status}, $status, "$name: $status");
    is(join("\n", challenges($r)), 'Basic realm="team"', "$name: challenge");
    like($r->{body}, qr/"UNAUTHORIZED"/, "$name: as an OCI error");
    is($r->{body}, $t->http($closed, 'GET', '/auth/token')->{body},
        "$name: the same for all");
}
is($t->http($closed, 'GET', '/auth/token')->{status}, 401,
    'nobody, where nobody may come');
is($t->http($closed, 'GET', '/auth/token', \%alice)->{status}, 200,
    'oci_access of the server is not for the location');

for my $row (
    [ 'service=other', 400, 'tokens are issued for another service' ],
    [ 'service=team&service=team', 400, 'duplicate' ],
    [ 'scope=x', 400, 'a scope is malformed' ],
    [ 'scope=%zz', 400, 'an escape is malformed' ],
    [ join('&', map { "scope=repository:llm/a$_:pull" } 1 .. 17), 400,
        'too many scopes' ],
) {
    my ($query, $status, $why) = @$row;
    my $r = $t->get("/token?$query", \%alice);
    is($r->{status}, $status, substr("$query: $status", 0, 60));
    like($r->{body}, qr/$why/, substr("$query: why", 0, 60));
}
is($t->http($t->{edge}, 'GET', '/token', \%alice, 'x')->{status}, 400,
    'a GET with a body');
$r = $t->http($t->{edge}, 'DELETE', '/token', \%alice);
is($r->{status}, 405, 'another method');
is($r->{h}{allow}, 'GET, HEAD, POST', 'and which there are');

# and by POST

my %form = ('Content-Type' => 'application/x-www-form-urlencoded');

sub form {
    my ($body, %h) = @_;
    my $r = $t->http($t->{edge}, 'POST', '/token', { %form, %h }, $body);
    my $json = $r->{status} == 200 ? decode_json($r->{body}) : {};
    return ($r, $json, (Policy::token($json->{access_token}))[1]);
}

my $password = 'grant_type=password&service=team&client_id=containerd-client';

($r, $json, $claims) = form("$password&username=alice&password=quick-secret"
    . '&scope=repository%3Allm%2Fa%3Apull%2Cpush+repository:public/b:pull'
    . '&access_type=offline');
is($r->{status}, 200, 'a form');
is($json->{token}, $json->{access_token}, 'by both names, too');
is($json->{scope}, 'repository:llm/a:pull repository:public/b:pull',
    'it says what is granted');
is(access($claims), $json->{scope}, 'which is so');
is($claims->{sub}, 'alice', 'to whom');
ok(!exists $json->{refresh_token}, 'without a refresh token');

($r, $json, $claims) = form("$password&username=robot%24llm%2Bci"
    . '&password=a%26b%3Dc+%2B%25%3A%C3%BC&scope=repository:llm/a:push');
is($r->{status}, 200, 'names and passwords of any kind');
is(access($claims), 'repository:llm/a:push', 'are who they are');

for my $row (
    [ "$password&username=alice&password=wrong", 401, 'UNAUTHORIZED' ],
    [ "$password&username=&password=", 401, 'UNAUTHORIZED' ],
    [ "$password&username=off&password=quick-secret", 401, 'UNAUTHORIZED' ],
    [ 'grant_type=refresh_token&service=team&refresh_token=x', 400,
        'no refresh tokens are issued here' ],
    [ 'grant_type=client_credentials', 400, 'grant_type is not' ],
    [ '', 400, 'grant_type is not' ],
    [ "$password&username=alice", 400, 'no username, or no password' ],
    [ "$password&password=x", 400, 'no username, or no password' ],
    [ "$password&username=a&username=b&password=x", 400, 'duplicate' ],
    [ "grant_type=password&service=x&username=alice&password=quick-secret",
        400, 'another service' ],
    [ "$password&username=a%0Ab&password=x", 400, 'control character' ],
    [ "$password&username=a&password=%x", 400, 'an escape is malformed' ],
    [ "$password&username=alice&password=" . 'x' x 16384, 413,
        'the form is too large' ],
) {
    my ($body, $status, $why) = @$row;
    my ($r) = form($body);
    my $name = substr $body, 0, 60;
    is($r->{status}, $status, "$name: $status");
    like($r->{body}, qr/$why/, "$name: why");
}

my $good = "$password&username=alice&password=quick-secret";

($r) = form($good, %alice);
is($r->{status}, 400, 'credentials in two places');
for my $type ('application/json', 'application/x-www-form-urlencodedx', '') {
    ($r) = form($good, 'Content-Type' => $type);
    is($r->{status}, 415, "of type \"$type\": 415");
}
($r) = form($good, 'Content-Type' =>
    'application/x-www-form-urlencoded; charset=utf-8');
is($r->{status}, 200, 'a type with a parameter');

$r = $t->raw("POST /token HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n"
    . "Content-Type: $form{'Content-Type'}\r\nTransfer-Encoding: chunked\r\n"
    . "\r\n" . sprintf("%x\r\n%s\r\n0\r\n\r\n", length $good, $good));
like($r, qr/^HTTP\/1\.1 411 /, 'a form of no length');

# in pieces, and larger than a buffer of the server: never in a file

my $s = $t->connect();
my $big = $good . '&x=' . 'y' x 16000;
print $s "POST /token HTTP/1.1\r\nHost: edge.test\r\n"
    . "Content-Type: $form{'Content-Type'}\r\n"
    . 'Content-Length: ' . length($big) . "\r\n\r\n";
for my $piece (unpack '(a3000)*', $big) {
    print $s $piece;
    sleep 0.02;
}
$r = $t->read_header($s);
$t->read_body($s, $r, 'POST');
is($r->{status}, 200, 'a form in pieces');
is(scalar(my @files = glob "$d/body/*"), 0, 'none of it is in a file');

# the connection goes on

$t->send_request($s, 'POST', '/token', \%form, $good);
$r = $t->read_header($s);
$t->read_body($s, $r, 'POST');
is($r->{status}, 200, 'another one on the same connection');
$t->send_request($s, 'GET', '/token?service=team', { Policy::basic('slow',
    'wrong-here') });
$r = $t->read_header($s);
$t->read_body($s, $r, 'GET');
is($r->{status}, 401, 'and a check that takes long');
$t->send_request($s, 'GET', '/token?service=team', \%alice);
$r = $t->read_header($s);
$t->read_body($s, $r, 'GET');
is($r->{status}, 200, 'and one after it');
close $s;

# HTTP/2, with a length and without

Canary::mine("$d/h2.json");
my $h2 = "curl -sk -o $d/h2.json -w '%{http_version} %{http_code}'"
    . " --http2 --resolve edge.test:$tls:127.0.0.1";
is(`$h2 -d '$good' $https/token`, '2 200', 'a form by HTTP/2');
is((Policy::token(decode_json($t->read_file('h2.json'))->{token}))[1]{sub},
    'alice', 'the token');
is(`$h2 -d '$big' $https/token`, '2 200', 'a larger one');
is(`$h2 -d '$password&username=slow&password=wrong-h2' $https/token`,
    '2 401', 'a wrong one');
my $type = "-H 'Content-Type: $form{'Content-Type'}'";
is(`printf '%s' '$good' | $h2 -T - -X POST $type $https/token`,
    '2 411', 'one of no length');
is(`$h2 -u alice:quick-secret '$https/token?x=1'`, '2 200',
    'GET, where an "if" is true');

# checks that take long, also for who leaves

my @out = $t->parallel(12, sub {
    my ($i) = @_;
    return $i % 2
        ? (form("$password&username=slow&password=slow-secret"))[0]{status}
        : (ask('', Policy::basic('slow', 'slow-secret')))[4]{status};
});
is(join(' ', @out), join(' ', (200) x 12), '12 at once');

for my $i (1 .. 20) {
    my $s = $t->connect();
    if ($i % 2) {
        $t->send_request($s, 'POST', '/token', \%form,
            "$password&username=slow&password=left-$i");
    } else {
        $t->send_request($s, 'GET', '/token?service=team',
            { Policy::basic('slow', "left-$i") });
    }
    sleep 0.01 if $i % 3;
    close $s;
}
is((ask('', %alice))[4]{status}, 200, 'clients that left harm nobody');
ok(OCI::until_true(30, sub {
    (ask('', Policy::basic('slow', 'wrong-' . int(time()))))[4]{status} == 401
}), 'nor do their checks');

# what a token is good for: no more than it says, and no more than its subject
# may by now

sub with {
    my ($token, $method, $uri, $port) = @_;
    return $t->http($port || $t->{edge}, $method, $uri,
        { Authorization => "Bearer $token" });
}

my ($pull) = ask('&scope=repository:llm/a:pull', %alice);
my ($none) = ask('', %alice);
my ($nobody) = ask('&scope=repository:public/a:pull');
my ($all) = ask('&scope=repository:llm/a:*&scope=registry:catalog:*', %root);
my ($two) = ask('&scope=repository:llm/a:pull,push'
    . '&scope=repository:llm/b:pull', %robot);
my $mount = "/v2/llm/a/blobs/uploads/?mount=$one&from=llm/";

for my $row (
    [ 'one to pull', $pull, 'GET', '/v2/', 200 ],
    [ 'one to pull', $pull, 'GET', '/v2/llm/a/manifests/v1', 200 ],
    [ 'one to pull', $pull, 'GET', '/v2/llm/b/manifests/v1', 401 ],
    [ 'one to pull', $pull, 'GET', '/v2/public/a/manifests/v1', 401 ],
    [ 'one to pull', $pull, 'GET', '/v2/secret/a/manifests/v1', 404 ],
    [ 'one to pull', $pull, 'PUT', '/v2/llm/a/manifests/v1', 403 ],
    [ 'one to pull', $pull, 'DELETE', '/v2/llm/a/manifests/v1', 403 ],
    [ 'one to pull', $pull, 'GET', '/v2/_catalog', 403 ],
    [ 'one without access', $none, 'GET', '/v2/', 200 ],
    [ 'one without access', $none, 'GET', '/v2/llm/a/manifests/v1', 401 ],
    [ 'nobody\'s', $nobody, 'GET', '/v2/', 200 ],
    [ 'nobody\'s', $nobody, 'GET', '/v2/public/a/manifests/v1', 200 ],
    [ 'nobody\'s', $nobody, 'GET', '/v2/llm/a/manifests/v1', 401 ],
    [ 'nobody\'s', $nobody, 'GET', '/v2/_catalog', 401 ],
    [ 'nobody\'s', $nobody, 'PUT', '/v2/public/a/manifests/v1', 401 ],
    [ 'one for all', $all, 'DELETE', '/v2/llm/a/manifests/v1', 200 ],
    [ 'one for all', $all, 'GET', '/v2/_catalog', 200 ],
    [ 'one for all', $all, 'GET', '/v2/llm/b/manifests/v1', 401 ],
    [ 'one for two', $two, 'POST', "${mount}b", 200 ],
    [ 'one for two', $two, 'POST', "${mount}c", 401 ],
    [ 'one for two', $two, 'POST', "/v2/llm/c/blobs/uploads/", 401 ],
    [ 'one for two', $two, 'POST', "/v2/llm/a/blobs/uploads/?mount=$one"
        . '&from=secret/a', 403 ],
) {
    my ($name, $token, $method, $uri, $status) = @$row;
    my $r = with($token, $method, $uri);
    is($r->{status}, $status, "$name: $method $uri: $status");
    next if $status != 401;
    my ($c) = challenges($r);
    like($c, qr/^\Q$bearer\E,scope="[^"]+",error="insufficient_scope"$/,
        "$name: $method $uri: the challenge");
}

is(with($pull, 'GET', '/v2/', $closed)->{status}, 401,
    'a token of another policy');
is(with($pull, 'GET', '/v2/llm/a/manifests/v1', $basic)->{status}, 401,
    'and where there are none');
my ($theirs) = decode_json($t->http($closed, 'GET',
    '/auth/token?scope=repository:llm/a:pull', \%alice)->{body})->{token};
is(with($theirs, 'GET', '/v2/llm/a/manifests/v1', $closed)->{status}, 200,
    'one of that policy');
is(with($theirs, 'GET', '/v2/llm/a/manifests/v1')->{status}, 401,
    'is not for this one, which has the same key');

(my $changed = $pull) =~ s/(.{20})$/reverse $1/e;
$r = with($changed, 'GET', '/v2/llm/a/manifests/v1');
is($r->{status}, 401, 'a changed token');
is((challenges($r))[0], "$bearer,scope=\"repository:llm/a:pull\""
    . ',error="invalid_token"', 'is no token');

# the document changes: at once, for those that are out

sub changed {
    my ($change) = @_;
    $change->();
    Policy::write_doc($t, $doc);
}

changed(sub { $doc->{grants}{ml}{repositories} = ['llm/b'] });
ok(OCI::until_true(10, sub {
    with($pull, 'GET', '/v2/llm/a/manifests/v1')->{status} == 404 }),
    'a right that was taken away');
is((ask('&scope=repository:llm/a:pull', %alice))[1]{access}[0], undef,
    'is in no token any more');
changed(sub { $doc->{subjects}{alice}{disabled} = JSON::PP::true });
ok(OCI::until_true(10, sub {
    with($pull, 'GET', '/v2/')->{status} == 401 }), 'who was disabled');
is((ask('', %alice))[4]{status}, 401, 'gets none any more');
changed(sub { $doc->{projects}{public}{public} = JSON::PP::false });
ok(OCI::until_true(10, sub {
    with($nobody, 'GET', '/v2/public/a/manifests/v1')->{status} == 401 }),
    'what is not public any more');
changed(sub {
    $doc->{grants}{ml}{repositories} = ['llm/**'];
    delete $doc->{subjects}{alice}{disabled};
    $doc->{projects}{public}{public} = JSON::PP::true;
});
ok(OCI::until_true(10, sub {
    with($pull, 'GET', '/v2/llm/a/manifests/v1')->{status} == 200 }),
    'and back');

# keys are exchanged by reloads: the first signs, all verify

sub kid { return (ask('', %alice))[2]{kid} // '' }

sub reload {
    my ($keys) = @_;
    my @old = $t->workers();
    conf($keys);
    $t->signal('HUP');
    OCI::until_true(20, sub {
        my %now = map { $_ => 1 } $t->workers();
        return keys %now && !grep { $now{$_} } @old });
}

reload("signing_key $d/two.pem; signing_key $d/one.pem;");
is(kid(), Policy::thumbprint("$d/two.pem"), 'the new first one signs');
my ($token2, undef, $header2) = ask('&scope=repository:llm/a:pull', %alice);
is($header2->{alg}, 'EdDSA', 'in its own way');
ok(Policy::signed($t, "$d/two.pem", $token2), 'the signature');
for my $x ($pull, $token2) {
    is(with($x, 'GET', '/v2/llm/a/manifests/v1')->{status}, 200,
        'tokens of both count');
}

reload("signing_key $d/three.pem; signing_key $d/two.pem;");
is(with($pull, 'GET', '/v2/llm/a/manifests/v1')->{status}, 401,
    'those of a key that is gone don\'t');
is(with($token2, 'GET', '/v2/llm/a/manifests/v1')->{status}, 200,
    'the others do');

# a reload without a key that can be read keeps what is

chmod 0644, "$d/three.pem";
$t->signal('HUP');
ok(OCI::until_true(10, sub { $t->read_file('error.log')
    =~ /signing_key "\S*three\.pem" is open to everyone/ }), 'a bad key');
is(kid(), Policy::thumbprint("$d/three.pem"), 'the one before it signs on');

# the time is over

for my $row ([ 300, 200 ], [ -50, 200 ], [ -70, 401 ]) {
    my ($exp, $status) = @$row;
    my $now = int time();
    my $old = Jwt::token({ type => 'ED25519', alg => 'EdDSA', dir => $d,
        file => "$d/two.pem" }, { iss => 'nginx-oci', sub => 'alice',
        aud => 'team', exp => $now + $exp, nbf => $now - 400,
        iat => $now - 400, access => [{ type => 'repository',
        name => 'llm/a', actions => ['pull'] }] });
    is(with($old, 'GET', '/v2/llm/a/manifests/v1')->{status}, $status,
        "a token with $exp s: $status");
}

done_tokens();

sub done_tokens {
    my $who = $t->read_file('who.log');
    like($who, qr!^GET /token 200 alice allow$!m, 'the access log tells whom');
    like($who, qr!^POST /token 200 alice allow$!m, 'also of a form');
    like($who, qr!^GET /token 401 - deny$!m, 'and whom not');
    my $log = $t->read_file('error.log') . $t->read_file('access.log') . $who;
    unlike($log, qr/quick-secret|slow-secret|left-\d|wrong-\d|a&b=c/,
        'no secret in a log');
    unlike($log, qr/\Q@{[substr $token, -40]}\E/, 'no token');
    is(scalar(my @files = glob "$d/body/*"), 0, 'nor anything in a file');
}

$t->done();
