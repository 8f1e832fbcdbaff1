#!/usr/bin/perl

# Token services: the edge's own dance with stored credentials, remembered
# per scope; fills with credentials of their own; realms pointed at the edge.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use MIME::Base64;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new();
my $blob = $t->random_blob(300000);
my $digest = $t->digest($blob);
my $manifest = '{"schemaVersion":2}';
my ($port, $service);

my $answer = sub {
    my ($c, $q) = @_;
    my $basic = $q->{h}{authorization} // '';
    $basic =~ s/^Basic //;
    my ($user, $password) = split /:/, decode_base64($basic), 2;
    my ($scope) = $q->{uri} =~ /[?&]scope=([^&]*)/;
    ($scope //= '') =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
    return $t->reply($c, $q, 401, {}, '{"errors":[]}')
        if ($user // '') ne '' && $password ne "$user-secret";
    $user = 'nobody' if ($user // '') eq '';
    return $t->reply($c, $q, 200, { 'Content-Type' => 'application/json' },
        "{\"token\":\"$user.$scope\",\"expires_in\":300}");
};

$service = $t->upstream($answer);

$port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($repo) = $q->{uri} =~ m!^/v2/(.+)/(blobs|manifests|tags)/!;
    my $realm = $q->{h}{host} =~ /foreign/ ? 'http://127.0.0.9:1/token'
        : $q->{h}{host} =~ /(own\.test.*)/ ? "http://$1/token"
        : "http://127.0.0.1:$service/token";
    return $answer->($c, $q) if $q->{uri} =~ m!^/token!;
    my $token = $q->{h}{authorization} // '';
    my $ok = $repo ? $token =~ /^Bearer (\S+)\.repository:\Q$repo\E:(\S+)$/
        : $token =~ /^Bearer /;
    my ($who, $actions) = ($1, $2 // '');
    $ok = 0 if $q->{method} =~ /^P/ && $actions !~ /push/;
    $ok = 0 if ($repo // '') eq 'private' && $who eq 'nobody';
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        "Bearer realm=\"$realm\",service=\"registry\","
        . "scope=\"repository:" . ($repo // '') . ":pull\"" },
        '{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}') unless $ok;
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ m!/blobs/!;
    return $t->reply($c, $q, 201, {}, '') if $q->{method} eq 'PUT';
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($manifest) }, $manifest);
});

$t->write_file('robot', "robot:robot-secret\nsecond line\n", 0600);
$t->write_file('wrong', "robot:wrong\n", 0600);

my $r1 = "url http://127.0.0.1:$port; realm_allow 127.0.0.1:$service;";

$t->conf(http => <<EOC, location => <<EOL);
oci_registry client { $r1 }
oci_registry anonymous { $r1 credentials anonymous; }
oci_registry stored { $r1 credentials file $t->{dir}/robot; }
oci_registry wrong { $r1 credentials file $t->{dir}/wrong; }
oci_registry filled { $r1 fill_credentials file $t->{dir}/robot; }
oci_registry unlisted {
    url http://127.0.0.1:$port;
    host foreign.test;
    credentials anonymous;
}
oci_registry own {
    url http://127.0.0.1:$port;
    host own.test:8080;
    credentials anonymous;
}
oci_registry port { url http://127.0.0.1:$port; credentials anonymous; }
oci_registry ports {
    url http://127.0.0.1:$port;
    realm_allow 127.0.0.1;
    credentials anonymous;
}
map \$arg_r \$registry { ~. \$arg_r; default client; }
EOC
location /v2/ { oci_pass \$registry; oci_cache models; oci_access open; }
location = /token { oci_token client; }
location = /if { oci_token client; if (\$arg_x) { set \$y 1; } }
EOL
$t->start();

# stored credentials

my $r = $t->get("/v2/private/blobs/$digest?r=stored");
is($r->{status}, 200, 'a blob with stored credentials');
ok($r->{body} eq $blob, 'its bytes');

my @tokens = $t->requests(0);
is($tokens[0]{h}{authorization}, 'Basic ' . encode_base64(
    'robot:robot-secret', ''), 'the service got them');
like($tokens[0]{uri}, qr/service=registry/, 'the service is named');
like($tokens[0]{uri}, qr/scope=repository(:|%3A)private(:|%3A)pull/,
    'the scope is');
my $n = @tokens;
ok($n <= 2, 'a token is used again') or diag($n);

$r = $t->get('/v2/private/manifests/v1?r=stored');
is($r->{body}, $manifest, 'a manifest');
is(scalar($t->requests(0)), $n, 'with the same token');

$r = $t->http($t->{edge}, 'PUT', '/v2/private/manifests/v1?r=stored', {},
    'x');
is($r->{status}, 201, 'a push gets a token to push');

$r = $t->get('/v2/public/manifests/v1?r=anonymous');
is($r->{body}, $manifest, 'the anonymous dance');
$r = $t->get('/v2/private/manifests/v1?r=anonymous');
is($r->{status}, 401, 'gets no more than that');

$r = $t->get('/v2/private/manifests/v1?r=wrong');
ok($r->{status} >= 400, 'wrong credentials: an error');
unlike($r->{body}, qr/secret|wrong/, 'that tells nothing');

# a realm elsewhere

$r = $t->get('/v2/public/manifests/v1?r=unlisted');
ok($r->{status} >= 400, 'a realm that is not allowed') or diag("$r->{status} $r->{body}");
like($t->read_file('error.log'), qr/realm_allow/, 'is said');

# its own host is not enough, the port counts too

my $at = length $t->read_file('error.log');
my $asked = $t->requests(0);
$r = $t->get('/v2/public/manifests/v1?r=port');
ok($r->{status} >= 400, 'a realm on another port of the registry\'s host');
is(scalar($t->requests(0)), $asked, 'is not called');
like(substr($t->read_file('error.log'), $at),
    qr/without "realm_allow 127\.0\.0\.1:$service"/, 'is said');
$r = $t->get('/v2/public/manifests/v1?r=ports');
is($r->{body}, $manifest, 'realm_allow of a host: any port of it');
$r = $t->get('/v2/public/manifests/v1?r=own');
is($r->{body}, $manifest, 'the registry\'s own port');

# the client's own

$r = $t->get('/v2/private/manifests/v1?r=client');
is($r->{status}, 401, 'a client is challenged');
like($r->{h}{'www-authenticate'},
    qr!^Bearer realm="http://edge\.test/token",service="registry",scope=!,
    'its realm is the edge');

$r = $t->get('/token?service=registry&scope=repository:private:pull',
    { Authorization => 'Basic ' . encode_base64('bob:bob-secret', '') });
is($r->{status}, 200, 'oci_token');
is($r->{body}, '{"token":"bob.repository:private:pull","expires_in":300}',
    'is the service\'s answer');
is($t->get('/if?service=registry&scope=repository:private:pull&x=1',
    { Authorization => 'Basic ' . encode_base64('bob:bob-secret', '') })
    ->{body}, $r->{body}, 'also where an "if" is true');
is($t->get('/token', { Authorization => 'Basic '
    . encode_base64('bob:x', '') })->{status}, 401, 'for better or worse');
is($t->http($t->{edge}, 'DELETE', '/token', {})->{status}, 405,
    'but for odd methods');

my $bob = { Authorization => 'Bearer bob.repository:private:pull' };
$t->forget_requests(1);
$r = $t->get("/v2/private/blobs/$digest?r=client", $bob);
ok($r->{body} eq $blob, 'a token of the client\'s');

# fills with a robot's, rights with the caller's

$t->stop();
system("rm -rf $t->{dir}/cache");
$t->start();
$t->forget_requests(1);

is($t->get("/v2/private/blobs/$digest?r=filled")->{status}, 401,
    'fill_credentials authorise nobody');
$r = $t->get("/v2/private/blobs/$digest?r=filled", $bob);
ok($r->{body} eq $blob, 'a caller with a right');

my @fills = grep { $_->{uri} =~ /blobs/ && ($_->{h}{range} // '')
    ne 'bytes=0-0' && ($_->{h}{authorization} // '') =~ /robot/ }
    $t->requests(1);
ok(@fills > 0, 'the robot fetched it');

unlike($t->read_file('error.log') . $t->read_file('access.log'),
    qr/robot-secret|bob-secret|cm9ib3Q6cm9ib3Qtc2VjcmV0/,
    'no secret in a log');

$t->done();
