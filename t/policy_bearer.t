#!/usr/bin/perl

# "identity bearer": whose tokens are taken, and what they count for: with
# "grants token" (as Harbor's and distribution's token services issue them),
# "store" and "both".

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use MIME::Base64;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use Jwt;
use OCI;
use Policy;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my $now = time();
my %key = (rsa => Jwt::key($t, 'rsa', 'RSA'), ec => Jwt::key($t, 'ec', 'EC'),
    ed => Jwt::key($t, 'ed', 'ED25519'), new => Jwt::key($t, 'new', 'EC'),
    own => Jwt::key($t, 'own', 'EC'));

my $doc = {
    version => 1,
    subjects => {
        alice => { secret => Policy::phc('canary-alice'), groups => ['ml'] },
        bob => {},
        off => { groups => ['ml'], disabled => JSON::PP::true },
        late => { groups => ['ml'], not_before => int($now) - 100 },
    },
    grants => {
        ml => { role => 'developer', groups => ['ml'],
            repositories => ['llm/**'] },
        late => { role => 'guest', subjects => ['late'],
            repositories => ['llm/**'] },
    },
    projects => { public => { public => JSON::PP::true } },
};
Policy::write_doc($t, $doc);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{"token":"x"}')
        if $q->{uri} =~ m!^/service/token!;
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        "Bearer realm=\"http://$q->{h}{host}/service/token\",service=\"s\"" },
        '{}') if ($q->{h}{authorization} // '') eq '' && $q->{uri} eq '/v2/';
    return $t->reply($c, $q, 202, { Location => '/v2/x/blobs/uploads/1' })
        if $q->{method} =~ /^(POST|DELETE)$/;
    return $t->reply($c, $q, 201, {}) if $q->{method} eq 'PUT';
    return $t->reply($c, $q, 200, {}, '{}');
});

$t->write_file('robot', "robot:robot-secret\n", 0600);
$t->write_file('jwks.json', encode_json({ keys => [
    { kty => 'oct' }, Jwt::jwk($key{ec}, kid => 'ec', use => 'sig'),
    Jwt::jwk($key{ed}, kid => 'ed', alg => 'EdDSA') ] }));
my $cert = Jwt::certificate($key{rsa});

my ($store, $both, $closed, $own) = map { OCI::port() } 1 .. 4;

sub conf {
    my ($keys) = @_;
    $t->conf(http => <<EOC, server => <<EOS, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$port;
    credentials file $d/robot;
}
oci_policy team {
    source file:$d/policy.json; zone team:1m;
    identity basic bearer anonymous;
    issuer harbor-token-issuer; issuer https://auth.example/;
    audience harbor-registry; audience edge.example;
    $keys
}
oci_policy store {
    source file:$d/policy.json; zone store:1m;
    identity basic bearer; grants store;
    issuer harbor-token-issuer; audience harbor-registry;
    key rsa.crt;
}
oci_policy both {
    source file:$d/policy.json; zone both:1m;
    identity bearer; grants both; valid 0;
    issuer harbor-token-issuer; audience harbor-registry;
    key rsa.pub; key $d/jwks.json;
}
oci_policy closed {
    source file:$d/policy.json; zone closed:1m;
    identity bearer;
    issuer harbor-token-issuer; audience harbor-registry;
    key rsa.pub; realm https://auth.example/token;
}
oci_policy own {
    source file:$d/policy.json; zone own:1m;
    identity bearer; grants both;
    issuer harbor-token-issuer; audience harbor-registry;
    key rsa.pub; signing_key own.key;
}
log_format oci '\$request_method \$uri \$status \$oci_subject '
    '\$oci_decision \$oci_decision_source \$oci_policy_rule';
server {
    listen 127.0.0.1:$store;
    location /v2/ { oci_pass demo; oci_access store; }
}
server {
    listen 127.0.0.1:$both;
    location /v2/ { oci_pass demo; oci_access both; }
}
server {
    listen 127.0.0.1:$closed;
    location /v2/ { oci_pass demo; oci_access closed; }
}
server {
    listen 127.0.0.1:$own;
    location /v2/ { oci_pass demo; oci_access own; }
}
EOC
access_log $d/oci.log oci;
EOS
location /v2/ { oci_pass demo; oci_access team; }
location = /service/token { oci_token demo; }
EOL
}

conf('key rsa.crt; key jwks.json;');
chmod 0600, $key{own}{file};
$t->start();

# as Harbor writes them

my %harbor = (iss => 'harbor-token-issuer', aud => 'harbor-registry',
    exp => int($now) + 1800, nbf => int($now), iat => int($now),
    jti => 'Q8bJz9wJr2rCk1Pm');

sub harbor {
    my ($sub, $access, %o) = @_;
    my $key = $key{delete $o{key} || 'rsa'};
    my $header = delete $o{header};
    my %claims = (%harbor, sub => $sub, access => $access, %o);
    delete @claims{grep { !defined $claims{$_} } keys %claims};
    return Jwt::token($key, \%claims, $header
        || { kid => 'QG6R:IXSK:T7JM:5IKW:ZV3A:5N2Q:X6KB:RQ5P:ZSVD:VWOU:2KOR:'
            . 'PXIF' });
}

my @all = qw/ pull push delete scanner-pull /;
my %token = (
    alice => harbor('alice', [ Jwt::access('llm/a', @all),
        Jwt::access('llm/b', 'pull') ]),
    robot => harbor('robot$llm+ci', [ Jwt::access('llm/a', 'pull') ]),
    nobody => harbor('', [ Jwt::access('public/x', 'pull') ]),
    none => harbor('bob', [ Jwt::access('llm/a') ]),
    admin => harbor('root', [ { type => 'registry', name => 'catalog',
        actions => ['*'] }, Jwt::access('llm/a', '*') ]),
    ec => harbor('carol', [ Jwt::access('llm/a', 'pull') ], key => 'ec',
        header => { kid => 'ec' }),
    ed => harbor('dave', [ Jwt::access('llm/a', 'pull') ], key => 'ed',
        header => { kid => 'ed' }, aud => [ 'x', 'edge.example' ],
        iss => 'https://auth.example/'),
    off => harbor('off', [ Jwt::access('llm/a', 'pull') ]),
    late => harbor('late', [ Jwt::access('llm/a', 'pull') ]),
    early => harbor('late', [ Jwt::access('llm/a', 'pull') ],
        iat => int($now) - 200),
    timeless => harbor('late', [ Jwt::access('llm/a', 'pull') ],
        iat => undef),
    public => harbor('alice', [ Jwt::access('public/x', 'pull') ]),
    wide => harbor('alice', [ Jwt::access('team/a', @all),
        Jwt::access('llm/c', 'pull'), Jwt::access('llm/a', 'pull') ]),
);

sub ask {
    my ($port, $who, $method, $uri) = @_;
    my $h = !defined $who ? {} : ref $who ? $who
        : Jwt::bearer($token{$who} // $who);
    return $t->http($port, $method, $uri, $h,
        $method =~ /^P/ ? '' : undef);
}

sub challenges {
    my ($r) = @_;
    return join ' | ', map { $_->[1] } grep { lc $_->[0] eq
        'www-authenticate' } @{$r->{list}};
}

# who comes without one is told where to get one

my $m = '/manifests/v1';
my $hello = 'Bearer realm="http://edge.test/service/token",'
    . 'service="harbor-registry"';
my %edge = (Host => 'edge.test');

my $r = ask($t->{edge}, { %edge }, 'GET', '/v2/');
is($r->{status}, 401, 'who asks at /v2/ is told to get a token');
is(challenges($r), $hello, 'with one challenge');
$r = ask($t->{edge}, { %edge }, 'GET', "/v2/llm/a$m");
is(challenges($r), "$hello,scope=\"repository:llm/a:pull\"", 'for a pull');
$r = ask($t->{edge}, { %edge }, 'PUT', "/v2/public/x$m");
is(challenges($r), "$hello,scope=\"repository:public/x:pull,push\"",
    'for a push');
$r = ask($t->{edge}, { %edge }, 'GET', "/v2/public/x$m");
is($r->{status}, 200, 'what the document makes public needs none');
$r = ask($closed, undef, 'GET', "/v2/public/x$m");
is(challenges($r), 'Bearer realm="https://auth.example/token",'
    . 'service="harbor-registry",scope="repository:public/x:pull"',
    'a realm elsewhere');
$r = ask($both, undef, 'GET', '/v2/');
is(challenges($r), 'Bearer realm="both",service="harbor-registry"',
    'no token service is known');
$r = ask($store, undef, 'GET', '/v2/');
is(challenges($r), 'Basic realm="store"', 'but a secret will do');

# what they count for

my $more = 'insufficient_scope';
my $bad = 'invalid_token';
my @cells = (
    [ 'edge', 'alice', 'GET', '/v2/', 200 ],
    [ 'edge', 'alice', 'GET', "/v2/llm/a$m", 200 ],
    [ 'edge', 'alice', 'HEAD', "/v2/llm/a$m", 200 ],
    [ 'edge', 'alice', 'PUT', "/v2/llm/a$m", 201 ],
    [ 'edge', 'alice', 'DELETE', "/v2/llm/a$m", 202 ],
    [ 'edge', 'alice', 'GET', '/v2/llm/b/tags/list', 200 ],
    [ 'edge', 'alice', 'PUT', "/v2/llm/b$m", 401, $more ],
    [ 'edge', 'alice', 'DELETE', "/v2/llm/b$m", 401, $more ],
    [ 'edge', 'alice', 'GET', "/v2/llm/c$m", 401, $more ],
    [ 'edge', 'alice', 'GET', "/v2/llm$m", 401, $more ],
    [ 'edge', 'alice', 'GET', "/v2/llm/a/b$m", 401, $more ],
    [ 'edge', 'alice', 'GET', "/v2/public/x$m", 401, $more ],
    [ 'edge', 'alice', 'GET', '/v2/_catalog', 401, $more ],
    [ 'edge', 'alice', 'OPTIONS', "/v2/llm/a$m", 403 ],
    [ 'edge', 'alice', 'POST', '/v2/llm/a/blobs/uploads/', 202 ],
    [ 'edge', 'robot', 'GET', "/v2/llm/a$m", 200 ],
    [ 'edge', 'robot', 'PUT', "/v2/llm/a$m", 401, $more ],
    [ 'edge', 'nobody', 'GET', '/v2/', 200 ],
    [ 'edge', 'nobody', 'GET', "/v2/public/x$m", 200 ],
    [ 'edge', 'nobody', 'GET', "/v2/llm/a$m", 401, $more ],
    [ 'edge', 'none', 'GET', '/v2/', 200 ],
    [ 'edge', 'none', 'GET', "/v2/llm/a$m", 401, $more ],
    [ 'edge', 'admin', 'GET', '/v2/_catalog', 200 ],
    [ 'edge', 'admin', 'GET', '/v2/_catalog?n=5', 200 ],
    [ 'edge', 'admin', 'DELETE', "/v2/llm/a$m", 202 ],
    [ 'edge', 'admin', 'GET', "/v2/llm/b$m", 401, $more ],
    [ 'edge', 'ec', 'GET', "/v2/llm/a$m", 200 ],
    [ 'edge', 'ed', 'GET', "/v2/llm/a$m", 200 ],
    [ 'edge', 'off', 'GET', "/v2/llm/a$m", 401, $bad ],
    [ 'edge', 'off', 'GET', '/v2/', 401, $bad ],
    [ 'edge', 'late', 'GET', "/v2/llm/a$m", 200 ],
    [ 'edge', 'early', 'GET', "/v2/llm/a$m", 401, $bad ],
    [ 'edge', 'timeless', 'GET', "/v2/llm/a$m", 401, $bad ],

    # nobody may not come

    [ 'closed', 'nobody', 'GET', "/v2/public/x$m", 401, $bad ],
    [ 'closed', 'alice', 'GET', "/v2/llm/a$m", 200 ],
    [ 'closed', 'ed', 'GET', "/v2/llm/a$m", 401, $bad ],

    # the token names the subject

    [ 'store', 'alice', 'GET', "/v2/llm/a$m", 200, 'grants/ml' ],
    [ 'store', 'alice', 'PUT', "/v2/llm/z$m", 201, 'grants/ml' ],
    [ 'store', 'alice', 'DELETE', "/v2/llm/a$m", 403 ],
    [ 'store', 'alice', 'GET', "/v2/team/a$m", 404 ],
    [ 'store', 'alice', 'GET', "/v2/public/x$m", 200, 'projects/public' ],
    [ 'store', 'none', 'GET', "/v2/llm/a$m", 404 ],
    [ 'store', 'none', 'GET', "/v2/public/x$m", 200, 'projects/public' ],
    [ 'store', 'admin', 'GET', '/v2/_catalog', 401, $bad ],
    [ 'store', 'robot', 'GET', "/v2/llm/a$m", 401, $bad ],
    [ 'store', 'nobody', 'GET', "/v2/public/x$m", 401, $bad ],
    [ 'store', 'off', 'GET', "/v2/llm/a$m", 401, $bad ],
    [ 'store', 'late', 'GET', "/v2/llm/a$m", 200, 'grants/late' ],
    [ 'store', 'early', 'GET', "/v2/llm/a$m", 401, $bad ],

    # what both have

    [ 'both', 'alice', 'GET', "/v2/llm/a$m", 200 ],
    [ 'both', 'alice', 'DELETE', "/v2/llm/a$m", 403 ],
    [ 'both', 'alice', 'PUT', "/v2/llm/b$m", 401, $more ],
    [ 'both', 'wide', 'GET', "/v2/llm/c$m", 200 ],
    [ 'both', 'wide', 'GET', "/v2/team/a$m", 404 ],
    [ 'both', 'wide', 'PUT', "/v2/llm/a$m", 401, $more ],
    [ 'both', 'public', 'GET', "/v2/public/x$m", 200 ],
    [ 'both', 'public', 'GET', "/v2/llm/a$m", 401, $more ],
    [ 'both', 'robot', 'GET', "/v2/llm/a$m", 401, $bad ],
    [ 'both', 'off', 'GET', "/v2/llm/a$m", 401, $bad ],
);
my %port = (edge => $t->{edge}, store => $store, both => $both,
    closed => $closed, own => $own);

for my $c (@cells) {
    my ($at, $who, $method, $uri, $status, $say) = @$c;
    my $logged = length $t->read_file('oci.log');
    my $name = "$at: $who $method $uri";
    $r = ask($port{$at}, $who, $method, $uri);
    is($r->{status}, $status, $name) or diag($r->{body});
    if ($status == 401) {
        like(challenges($r), qr/^Bearer realm="[^"]+",.*,error="$say"$/,
            "$name: $say");
        like($r->{body}, qr/"code":"UNAUTHORIZED"/, "$name: an OCI error");
    }
    like($r->{body}, qr/"code":"DENIED"/, "$name: denied")
        if $status == 403;
    next if $at ne 'edge' || $method eq 'OPTIONS';
    my $sub = { nobody => '-', none => 'bob', robot => 'robot$llm+ci',
        admin => 'root', ec => 'carol', ed => 'dave', early => 'late',
        timeless => 'late' }->{$who} // $who;
    my $line = join ' ', $method, $uri =~ s/\?.*//r, $status, $sub,
        $status < 400 ? 'allow' : 'deny',
        $status == 401 && $say eq $bad ? 'file' : 'token', '-';

    # a request before this one may be logged later than its answer came

    my $text = '';
    until_true(sub {
        $text = substr $t->read_file('oci.log'), $logged;
        return $text =~ /^\Q$line\E$/m;
    });
    like($text, qr/^\Q$line\E$/m, "$name: the log");
}

is(challenges(ask($t->{edge}, { %edge, %{Jwt::bearer($token{robot})} },
    'PUT', "/v2/llm/a$m")),
    "$hello,scope=\"repository:llm/a:pull,push\",error=\"$more\"",
    'a challenge says what is missing');

# a secret beside tokens

my %alice = Policy::basic('alice', 'canary-alice');
is(ask($t->{edge}, \%alice, 'PUT', "/v2/llm/a$m")->{status}, 201,
    'by its secret a subject has what the document grants');
is(ask($t->{edge}, \%alice, 'DELETE', "/v2/llm/a$m")->{status}, 403,
    'and nothing else');
is(ask($closed, \%alice, 'GET', "/v2/llm/a$m")->{status}, 401,
    'where tokens are taken only, it counts for nothing');
is(ask($closed, { Policy::basic('', '') }, 'GET', "/v2/llm/a$m")->{status},
    401, 'nor do empty credentials');
is(ask($closed, { Authorization => 'x' }, 'GET', '/v2/')->{status}, 401,
    'nor does junk');

# mounts

my $digest = 'sha256:' . 'a' x 64;
my $mount = "/v2/llm/a/blobs/uploads/?mount=$digest&from";
$t->forget_requests(0);
for my $c (
    [ 'edge', 'alice', 'llm/b', 202 ], [ 'edge', 'alice', 'llm%2Fb', 202 ],
    [ 'edge', 'alice', 'llm/c', 401 ],
    [ 'edge', 'alice', 'public/x', 401 ],
    [ 'edge', 'alice', '../x', 403 ], [ 'both', 'alice', 'llm/b', 202 ],
    [ 'both', 'alice', 'llm/c', 401 ], [ 'store', 'alice', 'llm/c', 202 ],
    [ 'store', 'alice', 'team/a', 403 ],
) {
    my ($at, $who, $from, $status) = @$c;
    $r = ask($port{$at}, $who, 'POST', "$mount=$from");
    is($r->{status}, $status, "$at: a mount from $from");
    like(challenges($r), qr/,scope="repository:llm\/a:pull,push (?#
        )repository:\Q$from\E:pull",error="$more"$/, 'and what it needs')
        if $status == 401;
}
is(scalar(grep { $_->{uri} =~ /mount/ } $t->requests(0)), 4,
    'no other one goes on');

# the edge's own ones: what the token has and the document, too

my %own = (iss => 'nginx-oci', aud => 'own', exp => int($now) + 300,
    iat => int($now));

sub own {
    my ($sub, $access, %o) = @_;
    return Jwt::token($key{$o{key} || 'own'}, { %own, sub => $sub,
        access => $access, aud => $o{aud} || 'own' });
}

my @a = Jwt::access('llm/a', 'pull');
is(ask($own, own('alice', \@a), 'GET', "/v2/llm/a$m")->{status}, 200,
    'a token of the edge\'s');
is(ask($own, own('alice', \@a), 'PUT', "/v2/llm/a$m")->{status}, 401,
    'is no more than it says');
is(ask($own, own('bob', \@a), 'GET', "/v2/llm/a$m")->{status}, 404,
    'nor than the document does');
is(ask($own, own('mallory', \@a), 'GET', "/v2/llm/a$m")->{status}, 401,
    'which knows its subject');
is(ask($own, own('alice', \@a, aud => 'harbor-registry'), 'GET',
    "/v2/llm/a$m")->{status}, 401, 'it is for this policy');
is(ask($own, own('alice', \@a, key => 'rsa'), 'GET', "/v2/llm/a$m")
    ->{status}, 401, 'others\' keys don\'t sign it');
is(ask($own, Jwt::token($key{own}, { %harbor, sub => 'alice',
    access => \@a }), 'GET', "/v2/llm/a$m")->{status}, 401,
    'nor does its key sign others\'');
is(ask($own, 'alice', 'GET', "/v2/llm/a$m")->{status}, 200,
    'those are taken beside it');
is(ask($t->{edge}, own('alice', \@a), 'GET', "/v2/llm/a$m")->{status}, 401,
    'by another policy it is not');

# a document that changed takes away at once

$doc->{subjects}{'robot$llm+ci'} = { disabled => JSON::PP::true };
Policy::write_doc($t, $doc);
ok(until_true(sub { ask($t->{edge}, 'robot', 'GET', "/v2/llm/a$m")
    ->{status} == 401 }), 'a subject that is disabled');
delete $doc->{subjects}{'robot$llm+ci'};
Policy::write_doc($t, $doc);
ok(until_true(sub { ask($t->{edge}, 'robot', 'GET', "/v2/llm/a$m")
    ->{status} == 200 }), 'and is not any more');

# expiry, of a token that is remembered

my $short = harbor('alice', [ Jwt::access('llm/a', 'pull') ],
    exp => int(time()) - 58);
is(ask($t->{edge}, $short, 'GET', "/v2/llm/a$m")->{status}, 200,
    'a token that is about to expire');
ok(until_true(sub { ask($t->{edge}, $short, 'GET', "/v2/llm/a$m")
    ->{status} == 401 }), 'expires, remembered or not');

# other keys: by reload, the old one beside the new one, then alone

sub reload {
    my ($keys) = @_;
    my %old = map { $_ => 1 } $t->workers();
    conf($keys);
    $t->signal('HUP');
    return until_true(sub { my @w = $t->workers();
        return @w == 2 && !grep { $old{$_} } @w });
}

my $new = harbor('alice', [ Jwt::access('llm/a', 'pull') ], key => 'new',
    header => {});
is(ask($t->{edge}, $new, 'GET', "/v2/llm/a$m")->{status}, 401,
    'a key that is not there yet');
ok(reload('key rsa.crt; key new.pub;'), 'a reload');
is(ask($t->{edge}, $new, 'GET', "/v2/llm/a$m")->{status}, 200,
    'is there, whatever was remembered');
is(ask($t->{edge}, 'robot', 'GET', "/v2/llm/a$m")->{status}, 200,
    'beside the old one');
is(ask($t->{edge}, 'ec', 'GET', "/v2/llm/a$m")->{status}, 401,
    'which another one is not');
ok(reload('key new.pub;'), 'a reload');
is(ask($t->{edge}, $new, 'GET', "/v2/llm/a$m")->{status}, 200,
    'the new one alone');
is(ask($t->{edge}, 'robot', 'GET', "/v2/llm/a$m")->{status}, 401,
    'the old one is gone, whatever was remembered');

# a broken file: the keys before it stay

$t->write_file('broken.pem', "-----BEGIN PUBLIC KEY-----\nAAAA\n");
conf('key broken.pem;');
$t->signal('HUP');
ok(until_true(sub { $t->read_file('error.log') =~
    /key "[^"]*broken\.pem": it is neither PEM/ }), 'a broken file');
is(ask($t->{edge}, $new, 'GET', "/v2/llm/a$m")->{status}, 200,
    'the keys before it count');

# secrets

my $text = join '', map { $t->read_file($_) } qw/ error.log access.log
    nginx.log oci.log upstream0.requests /;
my @seen = grep { my $x = $_; grep { index($text, $_) >= 0 }
    split /\./, $token{$x} } grep { !/^(ec|ed)$/ } sort keys %token;
is("@seen", '', 'no token in a log or at the registry');
unlike($text, qr/canary/, 'nor a secret');
my @sent = map { $_->{h}{authorization} // () } $t->requests(0);
is(join(' ', grep { $_ ne 'Bearer x'
    && $_ ne 'Basic ' . encode_base64('robot:robot-secret', '') } @sent), '',
    'the registry sees the edge\'s credentials only');

$t->allow(qr/broken\.pem": it is neither PEM/);
$t->done();
