#!/usr/bin/perl

# S17: confusion of tokens that the edge itself checks ("identity bearer"),
# with every way of "grants".  See s17_tokens.t for those that a registry
# checks, and t/unit/jwt.c for more of how tokens are written.
#
#   - alg none, HS256 with the public key as secret, RS256 and ES256 swapped;
#   - a key of the token's own: jwk, jku, x5u, x5c, and a kid that is a path,
#     SQL, a prefix, another key's;
#   - another issuer, audience, time, repository; a refresh token;
#   - signatures of other keys, of other texts, cut, longer, in DER, of zeros;
#   - the same header twice, members twice.
#
# None of them gets anything, each gets 401, and none leads to a connection to
# anywhere, to a file, or to a name in a log.  The right ones do before,
# between and after: what is remembered of a token is of the whole of it.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use MIME::Base64 qw/ encode_base64url decode_base64url encode_base64 /;

use lib dirname(__FILE__) . '/lib';
use Jwt;
use OCI;
use Policy;

# nginx tells a header that came twice, and the URI

my $t = OCI->new(workers => 2, told => [
    qr/client sent duplicate header line: "Authorization/,
    qr/[?]access_token=/ ]);
my $d = $t->{dir};
my $now = time();

my $blob = 'the blob, ' x 2000;
my $digest = $t->digest($blob);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        'Basic realm="x"' }, '{}') if !$q->{h}{authorization};
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ m!/blobs/!;
    return $t->reply($c, $q, 200, {}, '{"tags":["v1"]}');
});
my $attacker = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, $t->read_file('evil.json'));
});

my %key = (rsa => Jwt::key($t, 'rsa', 'RSA'), ec => Jwt::key($t, 'ec', 'EC'),
    ed => Jwt::key($t, 'ed', 'ED25519'),
    evil_rsa => Jwt::key($t, 'evil_rsa', 'RSA'),
    evil_ec => Jwt::key($t, 'evil_ec', 'EC'),
    evil_ed => Jwt::key($t, 'evil_ed', 'ED25519'));
$t->write_file('jwks.json', encode_json({ keys => [
    Jwt::jwk($key{ec}, kid => 'ec'), Jwt::jwk($key{ed}, kid => 'ed') ] }));
my $evil_jwk = Jwt::jwk($key{evil_ed}, kid => 'ed');
$t->write_file('evil.json', encode_json({ keys => [ $evil_jwk ] }));
my $evil_cert = Jwt::certificate($key{evil_rsa});

Policy::write_doc($t, { version => 1, subjects => { alice => {} },
    grants => { a => { role => 'projectAdmin', subjects => ['alice'],
        repositories => ['llm/a'] } } });
$t->write_file('robot', "robot:robot-secret\n", 0600);

my %grants = map { $_ => OCI::port() } qw/ token store both /;
my $http = join "\n", 'large_client_header_buffers 4 32k;',
    "oci_registry demo { url http://127.0.0.1:$port; "
        . "credentials file $d/robot; }",
    'log_format who "$status $oci_subject";',
    map { <<EOC } sort keys %grants;
oci_policy $_ {
    source file:$d/policy.json; zone $_:1m;
    identity bearer;
    issuer https://auth.example/; audience edge.example;
    key rsa.pub; key jwks.json; grants $_;
}
server {
    listen 127.0.0.1:$grants{$_};
    access_log $d/who.log who;
    location /v2/ { oci_pass demo; oci_cache models; oci_access $_; }
}
EOC
$t->conf(http => "oci_registry x { url http://127.0.0.1:$port; }\n$http",
    location => 'location /v2/ { oci_pass x; }');
$t->start();

my %claims = (iss => 'https://auth.example/', aud => 'edge.example',
    sub => 'alice', exp => $now + 600, iat => $now - 5, nbf => $now - 5,
    access => [ Jwt::access('llm/a', 'pull', 'push', 'delete') ]);

sub claims {
    my (%o) = @_;
    my %c = (%claims, %o);
    delete @c{grep { !defined $c{$_} } keys %c};
    return \%c;
}

my $good = claims();
my $evil = claims(sub => 'canary-evil');
my %right = (RS256 => Jwt::token($key{rsa}, $good),
    ES256 => Jwt::token($key{ec}, $good, { kid => 'ec' }),
    EdDSA => Jwt::token($key{ed}, $good, { kid => 'ed' }));
my ($h, $c, $s) = split /\./, $right{RS256};
my ($eh, $ec, $es) = split /\./, $right{ES256};
my $json = encode_json($good);

sub text {
    my ($file) = @_;
    return $t->read_file($file);
}

my $order = pack 'H*', 'ffffffff00000000ffffffffffffffff'
    . 'bce6faada7179e84f3b9cac2fc632551';

my %wrong = (

    # the algorithm

    'none' => Jwt::token($key{rsa}, $evil, { alg => 'none' },
        sig => sub { '' }),
    'none, signed' => Jwt::token($key{rsa}, $evil, { alg => 'none' }),
    'None' => Jwt::token($key{rsa}, $evil, { alg => 'None' }),
    'no algorithm' => Jwt::token($key{rsa}, $evil, '{"typ":"JWT"}'),
    'HS256, the key\'s PEM' => Jwt::hmac(text('rsa.pub'), $evil),
    'HS256, without the last line' => Jwt::hmac(text('rsa.pub') =~ s/\n$//r,
        $evil),
    'HS256, its DER' => Jwt::hmac(Jwt::run('openssl', 'pkey', '-in',
        "$d/rsa.key", '-pubout', '-outform', 'DER'), $evil),
    'HS256, the JWKS' => Jwt::hmac(text('jwks.json'), $evil),
    'HS256, nothing' => Jwt::hmac('', $evil),
    'HS256, its kid' => Jwt::hmac(text('rsa.pub'), $evil, { kid => 'ec' }),
    'RS256 as RS512' => Jwt::token($key{rsa}, $evil, { alg => 'RS512' }),
    'RS256 as PS256' => Jwt::token($key{rsa}, $evil, { alg => 'PS256' }),
    'RS256 by EC' => Jwt::token($key{ec}, $evil, { alg => 'RS256' }),
    'ES256 by RSA' => Jwt::token($key{rsa}, $evil, { alg => 'ES256' }),
    'ES256 by Ed25519' => Jwt::token($key{ed}, $evil, { alg => 'ES256',
        kid => 'ec' }),
    'EdDSA by EC' => Jwt::token($key{ec}, $evil, { alg => 'EdDSA',
        kid => 'ed' }),

    # a key of its own

    'another RSA' => Jwt::token($key{evil_rsa}, $evil),
    'another EC' => Jwt::token($key{evil_ec}, $evil, { kid => 'ec' }),
    'another Ed25519' => Jwt::token($key{evil_ed}, $evil, { kid => 'ed' }),
    'jwk' => Jwt::token($key{evil_ed}, $evil, { jwk => $evil_jwk }),
    'jwk and its kid' => Jwt::token($key{evil_ed}, $evil,
        { jwk => $evil_jwk, kid => 'ed' }),
    'jku' => Jwt::token($key{evil_ed}, $evil, { kid => 'ed',
        jku => "http://127.0.0.1:$attacker/jwks.json" }),
    'jku, a file' => Jwt::token($key{evil_ed}, $evil, { kid => 'ed',
        jku => "file://$d/evil.json" }),
    'x5u' => Jwt::token($key{evil_rsa}, $evil,
        { x5u => "http://127.0.0.1:$attacker/cert.pem" }),
    'x5c' => Jwt::token($key{evil_rsa}, $evil, { x5c => [ join '',
        grep { !/--/ } split /\n/, text('evil_rsa.crt') ] }),
    'kid, a path' => Jwt::token($key{evil_ed}, $evil,
        { kid => "../../../../../..$d/evil_ed.pub" }),
    'kid, a file' => Jwt::token($key{evil_ed}, $evil,
        { kid => "$d/evil.json" }),
    'kid, /dev/null' => Jwt::hmac('', $evil, { kid => '/dev/null' }),
    'kid, SQL' => Jwt::token($key{evil_ed}, $evil,
        { kid => "ed' UNION SELECT '" . $evil_jwk->{x} }),
    'kid, a command' => Jwt::token($key{evil_ed}, $evil,
        { kid => "ed|touch $d/touched" }),
    'kid, a prefix' => Jwt::token($key{ed}, $evil, { kid => 'e' }),
    'kid, longer' => Jwt::token($key{ed}, $evil, { kid => 'edd' }),
    'kid, another key\'s' => Jwt::token($key{ec}, $evil, { kid => 'xx' }),
    'kid, 300 bytes' => Jwt::token($key{ed}, $evil, { kid => 'e' x 300 }),
    'kid, an array' => Jwt::token($key{ed}, $evil, { kid => ['ed'] }),
    'crit' => Jwt::token($key{rsa}, $evil, { crit => ['b64'],
        b64 => JSON::PP::false }),

    # what it is for

    'another issuer' => Jwt::token($key{rsa}, claims(iss => 'https://x/')),
    'issuer, shorter' => Jwt::token($key{rsa},
        claims(iss => 'https://auth.example')),
    'issuer, longer' => Jwt::token($key{rsa},
        claims(iss => 'https://auth.example/x')),
    'issuer, the edge' => Jwt::token($key{rsa}, claims(iss => 'nginx-oci',
        aud => 'token')),
    'issuers' => Jwt::token($key{rsa},
        claims(iss => ['https://auth.example/'])),
    'no issuer' => Jwt::token($key{rsa}, claims(iss => undef)),
    'another audience' => Jwt::token($key{rsa}, claims(aud => 'x')),
    'audience, a prefix' => Jwt::token($key{rsa}, claims(aud => 'edge')),
    'audience, the policy' => Jwt::token($key{rsa}, claims(aud => 'token')),
    'no audience' => Jwt::token($key{rsa}, claims(aud => undef)),
    'audience, empty' => Jwt::token($key{rsa}, claims(aud => [])),
    'expired' => Jwt::token($key{rsa}, claims(exp => $now - 61)),
    'without an end' => Jwt::token($key{rsa}, claims(exp => undef)),
    'an end that is a text' => Jwt::token($key{rsa},
        claims(exp => '' . ($now + 600))),
    'an end before 1970' => Jwt::token($key{rsa}, claims(exp => -1)),
    'not yet' => Jwt::token($key{rsa}, claims(nbf => $now + 600)),
    'of tomorrow' => Jwt::token($key{rsa}, claims(iat => $now + 600)),
    'refresh' => Jwt::token($key{rsa}, claims(), { typ => 'refresh+jwt' }),
    'no access token' => Jwt::token($key{rsa}, claims(),
        { typ => 'logout+jwt' }),
    'subject, a line' => Jwt::token($key{rsa}, claims(sub => "a\nb")),
    'subject, an array' => Jwt::token($key{rsa}, claims(sub => ['alice'])),
    'subject, long' => Jwt::token($key{rsa}, claims(sub => 'a' x 256)),
    'access, a text' => Jwt::token($key{rsa}, claims(access => '*')),
    'no JSON' => Jwt::token($key{rsa}, 'x'),
    'claims, an array' => Jwt::token($key{rsa}, "[$json]"),
    'members twice' => Jwt::token($key{rsa}, $json =~ s/^\{/{"sub":"root",/r),
    'algorithms twice' => Jwt::token($key{rsa}, $good,
        '{"alg":"RS256","alg":"none"}'),
    'more behind it' => Jwt::token($key{rsa}, "$json\{}"),
    'deep' => Jwt::token($key{rsa}, $json =~ s/^\{/'{"x":' . '[' x 500
        . ']' x 500 . ','/er),

    # how it is written and signed

    'no signature' => "$h.$c.", 'no claims' => "$h..$s",
    'no header' => ".$c.$s", 'two parts' => "$h.$c", 'one part' => $h,
    'four parts' => "$right{RS256}.$s", 'twice' => "$h.$c.$s.$h.$c.$s",
    'two tokens' => "$right{RS256},$right{RS256}",
    'a byte less' => substr($right{RS256}, 0, -1),
    'half of it' => substr($right{RS256}, 0, length($right{RS256}) / 2),
    'a character more' => "$right{RS256}A", 'four more' => "$right{RS256}AAAA",
    'padded' => "$right{RS256}==", 'a blank' => "$h.$c. $s",
    'base64' => "$h.$c." . encode_base64(decode_base64url($s), ''),
    'another way to write it' => $right{RS256} =~ s/(.)$/$1 eq 'A' ? 'B' :
        chr(1 + ord $1)/er,
    'a quote' => "\"$right{RS256}\"",
    'other claims' => "$h." . encode_base64url(encode_json($evil)) . ".$s",
    'another header' => encode_base64url('{"alg":"RS256"}') . ".$c.$s",
    'another token\'s signature' => "$h.$c." . (split /\./,
        Jwt::token($key{rsa}, $evil))[2],
    'DER' => Jwt::token($key{ec}, $evil, { kid => 'ec' }, der => 1),
    'r and s of zero' => "$eh.$ec." . encode_base64url("\0" x 64),
    'r of zero' => "$eh.$ec." . encode_base64url("\0" x 32
        . substr decode_base64url($es), 32),
    's of zero' => "$eh.$ec." . encode_base64url(substr(decode_base64url($es),
        0, 32) . "\0" x 32),
    'r and s of n' => "$eh.$ec." . encode_base64url($order x 2),
    'r and s of one' => "$eh.$ec." . encode_base64url(("\0" x 31 . "\1") x 2),
    's and r' => "$eh.$ec." . encode_base64url(substr(decode_base64url($es),
        32) . substr decode_base64url($es), 0, 32),
    'r and s with a zero' => "$eh.$ec." . encode_base64url(join '',
        map { "\0$_" } unpack '(a32)*', decode_base64url($es)),
    'Ed25519 of zeros' => Jwt::token($key{ed}, $evil, { kid => 'ed' },
        sig => sub { "\0" x 64 }),
    'Ed25519, the neutral point' => Jwt::token($key{ed}, $evil,
        { kid => 'ed' }, sig => sub { "\1" . "\0" x 63 }),
    'dots' => '..', 'x' => 'x', '8 KiB' => 'A' x 8193,
);
my @names = sort keys %wrong;
my $uri = "/v2/llm/a/blobs/$digest";

sub status {
    my ($port, $token, $uri) = @_;
    return $t->http($port, 'GET', $uri, Jwt::bearer($token))->{status};
}

sub passes {
    my ($port, $token) = @_;
    my $r = $t->http($port, 'GET', $uri, Jwt::bearer($token));
    return $r->{status} != 401 || $r->{body} =~ /the blob|tags/
        || ($r->{h}{'www-authenticate'} // '')
            !~ /^Bearer realm="[^"]+",.*error="invalid_token"$/;
}

for my $grants (sort keys %grants) {
    my $p = $grants{$grants};

    for my $round (1, 2) {
        is(status($p, $right{$_}, $uri), 200,
            "$grants: by $_, round $round") for sort keys %right;

        my @out = $t->parallel(2, sub {
            my ($i) = @_;
            return join "\n", grep { passes($p, $wrong{$_}) }
                map { $names[$_] } grep { $_ % 2 == $i } 0 .. $#names;
        });
        is(join("\n", grep { $_ ne '' } @out), '',
            "$grants: none of the wrong ones, round $round");
    }

    # one bit each

    my @bits;
    for my $i (map { int(rand(8 * length $right{ES256})) } 1 .. 60) {
        my $x = $right{ES256};
        vec($x, $i, 1) ^= 1;
        $x =~ /[\r\n\0]/ and next;
        push @bits, $i if passes($p, $x);
    }
    is("@bits", '', "$grants: nor with a bit changed");

    is(status($p, $right{RS256}, '/v2/llm/b/tags/list'),
        $grants eq 'store' ? 404 : 401, "$grants: another repository");

    # other places of it

    my $r = $t->http($p, 'GET', $uri, { Cookie => "token=$right{RS256}",
        'Proxy-Authorization' => "Bearer $right{RS256}" });
    is($r->{status}, 401, "$grants: not in other headers");
    $r = $t->http($p, 'GET', $uri,
        { Policy::basic('alice', $right{RS256}) });
    is($r->{status}, 401, "$grants: nor as a secret");

    # and schemes have no case

    $r = $t->http($p, 'GET', $uri,
        { Authorization => "bearer $right{EdDSA}" });
    is($r->{status}, 200, "$grants: \"bearer\"");
}

is(scalar($t->requests(1)), 0, 'nobody was asked for keys');
ok(!-e "$d/touched", 'no command ran');

my %sent = map { ($_->{h}{authorization} // '') => 1 } $t->requests(0);
delete $sent{''};
is(join(' ', sort keys %sent), 'Basic '
    . encode_base64('robot:robot-secret', ''),
    'the registry saw the edge\'s credentials only');

my $log = $t->read_file('error.log') . $t->read_file('who.log')
    . $t->read_file('nginx.log');
unlike($log, qr/canary/, 'who is not shown by a token is not named');
my @seen = grep { my $x = $_; grep { length $_ > 20 && index($log, $_) >= 0 }
    split /\./, $x } values %right, values %wrong;
is(scalar(@seen), 0, 'and no token is in a log') or diag("@seen[0, 1]");
like($log, qr/denied it: the token's signature is wrong/, 'but why is');
like($log, qr/denied it: the token is expired/, 'in words');

# nginx itself logs URIs, and headers that come twice

for (sort keys %grants) {
    my $r = $t->http($grants{$_}, 'GET', "$uri?access_token=$right{RS256}");
    is($r->{status}, 401, "$_: nor is one taken from a query");
    $r = $t->http($grants{$_}, 'GET', $uri,
        { Authorization => [ "Bearer $wrong{'another RSA'}",
            "Bearer $right{RS256}" ] });
    isnt($r->{status}, 200, "$_: nor from a second header");
}

$t->done();
