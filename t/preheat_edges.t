#!/usr/bin/perl

# oci_preheat, what it must not do: call warm what is not, take a token to
# another place, or come to harm by how its locations are configured.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use Harbor;
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $type = 'application/vnd.oci.image.manifest.v1+json';

my $blob = $t->random_blob(300_000);
my $big = $t->random_blob(3_000_000);

sub manifest {
    my (@layers) = @_;
    return encode_json({ schemaVersion => 2, mediaType => $type,
        layers => [map { { mediaType => 'application/y',
            size => length $_, digest => $t->digest($_) } } @layers] });
}

my $second = $t->random_blob(1000);
my @more = map { $t->random_blob(1_500_000) } 0, 1;
my %blobs = map { $t->digest($_) => $_ } $blob, $big, $second, '', @more;
my %manifests = (v1 => manifest($blob), big => manifest($big),
    empty => manifest('', $blob), more0 => manifest($more[0]),
    more1 => manifest($more[1]), v2 => manifest($second));
my %by_digest = map { $t->digest($_) => $_ } values %manifests;

# "state" has words: "down", "moved" (v1 is v2 then), "hang"; "expired": the
# first token is good for nothing any more.  Each answer has a Cache-Status
# that is somebody else's

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($what, $ref) = $q->{uri} =~ m!/(manifests|blobs)/(\S+)$!;
    my $state = $t->read_file('state') // '';
    my $token = $q->{h}{authorization} // '';
    my %h = ('Cache-Status' => 'nginx-oci; hit');
    return $t->reply($c, $q, 503, {}, '') if $state =~ /down/;
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        'Basic realm="x"' }, '{}') if $q->{uri} =~ m!/token/!
        && $token ne 'Bearer two'
        && ($token ne 'Bearer one' || $state =~ /expired/);
    return $t->reply($c, $q, 404, {}, '{}') if !$what;
    if ($what eq 'manifests') {
        $ref = 'v2' if $ref eq 'v1' && $state =~ /moved/;
        my $m = $manifests{$ref} // $by_digest{$ref}
            // return $t->reply($c, $q, 404, {}, '{}');
        until_true(60, sub { ($t->read_file('state') // '') !~ /hang/ })
            if $q->{uri} =~ m!/hang/!;
        return $t->reply($c, $q, 200, { %h, 'Content-Type' => $type,
            'Docker-Content-Digest' => $t->digest($m) }, $m);
    }
    my $b = $blobs{$ref} // return $t->reply($c, $q, 404, {}, '{}');
    if ($q->{uri} =~ m!/token/!) {
        until_true(60, sub {
            ($t->read_file('state') // '') =~ /expired|go/ });
        return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
            'Basic realm="x"' }, '{}') if $token eq 'Bearer one'
            && $t->read_file('state') =~ /expired/;
    }
    return $t->reply_blob($c, $q, $b, \%h);
});

my $other = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 404, {}, '{}');
});

sub state { $t->write_file('state', $_[0]) }

state('');

my $locations = <<EOL;
location /v2/ { oci_pass demo; oci_cache models; }
location /v2/nocache/ { oci_pass demo; }
location /v2/hour/ { oci_pass demo; oci_cache models;
    oci_cache_valid tag 1h; }
location /v2/stale/ { oci_pass demo; oci_cache models;
    oci_cache_use_stale error timeout http_5xx; }
location /v2/off/ { oci_pass demo; oci_cache models; oci_verify off; }
location /v2/strict/ { oci_pass demo; oci_cache models;
    oci_verify strict; }
location /v2/other/ { oci_pass other; oci_cache models; }
location /v2/plain/ { proxy_pass http://127.0.0.1:$other; }
location /p2p/ { oci_preheat registry=demo open jobs=1; }
location /more/ { oci_preheat registry=demo open jobs=1; }
location /if/ {
    if (\$http_x_if) { set \$x 1; }
    oci_preheat registry=demo open;
}
location /limit/ {
    limit_except GET { allow all; }
    oci_preheat registry=demo open;
}
location /mirror/ {
    mirror /p2p/jobs; mirror_request_body off;
    proxy_pass http://127.0.0.1:$port;
}
location = /hook { oci_webhook registry=demo open; }
EOL

my $twin = OCI::port();

sub conf {
    $t->conf(location => $_[0], cache_args => 'max_size=2m',
        http => <<EOC);
oci_registry demo { url http://127.0.0.1:$port; }
oci_registry other { url http://127.0.0.1:$other; }
server {
    listen 127.0.0.1:$twin;
    location /v2/ { oci_pass demo; }
    location /p2p/ { oci_preheat registry=demo open; }
}
EOC
    return $t;
}

conf($locations)->start();

my $harbor = Harbor->new($t);

sub call {
    my ($method, $path, $body, $h) = @_;
    return $harbor->call($method, $path, $body, h => { 'Content-Type' =>
        'application/json', %{$h || {}} });
}

sub create {
    my ($repo, $tag, $token, $place) = @_;
    my ($status, $job) = call('POST', ($place // '/p2p') . '/oapi/v1/jobs',
        $harbor->job(url => "/v2/$repo/manifests/$tag",
            token => $token // 'Bearer secret'));
    return $job && $job->{id} // $status;
}

sub ends {
    my ($id, $place) = @_;
    my (undef, $error, $job) = Harbor->new($t,
        endpoint => $place // '/p2p')->ends($id);
    return wantarray ? ($job->{state}, $error) : $job->{state};
}


# what is not stored is not warm, whatever caches beyond the edge say

my ($state, $error) = ends(create('nocache/m', 'v1'));
is($state, 'FAILURE', 'no cache: not warm');
like($error, qr/can't be stored here/, 'no cache: why');

($state, $error) = ends(create('m/m', 'big'));
is($state, 'FAILURE', 'too large: not warm');
like($error, qr/can't be stored here/, 'too large: why');

# nothing at all is something, too

is(ends(create('m/m', 'empty')), 'SUCCESS', 'a layer of no bytes');

# however it is verified

is(ends(create('off/m', 'more0')), 'SUCCESS', 'not verified');
is(ends(create('strict/m', 'more0')), 'SUCCESS', 'strict, what was not');
is(ends(create('strict/m', 'more1')), 'SUCCESS', 'strict');

# a tag of before is not the one that was pushed

is(ends(create('stale/m', 'v1')), 'SUCCESS', 'stale: warm');
state('down');
($state, $error) = ends(create('stale/m', 'v1'));
is($state, 'FAILURE', 'stale: the registry can\'t be asked');
like($error, qr/can't be fetched|registry failed/, 'stale: why');
state('');

is(ends(create('hour/m', 'v1')), 'SUCCESS', 'an hour: warm');
state('moved');
is(ends(create('hour/m', 'v1')), 'SUCCESS', 'an hour: moved');
ok((grep { $_->{uri} eq '/v2/hour/m/blobs/' . $t->digest($second) }
    $t->requests()), 'an hour: it is the new one');
state('');

# a registry's token is for that registry

for my $place ('other', 'plain') {
    ($state, $error) = ends(create("$place/m", 'v1'));
    is($state, 'FAILURE', "$place: not of this registry");
    is(scalar(grep { ($_->{h}{authorization} // '') =~ /secret/ }
        $t->requests(1)), 0, "$place: no token there");
}

# one that is too long for a request's header is none

my $long = 'Bearer ' . 'longsecret' x 818;
like(create('m/m', 'v1', $long), qr/^422$/, 'a long token');
sleep 0.5;
unlike($t->read_file('error.log'), qr/longsecret/, 'is in no log');

# one location's jobs don't wait for another one's

state('hang');
my @ids = map { create("hang/m$_", 'v1') } 1 .. 6;
is(ends(create('m/more', 'v1', undef, '/more'), '/more'), 'SUCCESS',
    'beside jobs of another location');
state('');
is(ends($_), 'SUCCESS', 'hung') for @ids;

# the token that came last is good for longest

my $id = create('token/m', 'v1', 'Bearer one');
until_true(sub { grep { $_->{uri} =~ m!/token/m/blobs/! } $t->requests() });
is(create('token/m', 'v1', 'Bearer two'), $id, 'the same job');
state('expired');
is(ends($id), 'SUCCESS', 'goes on with the other token');
state('');

# locations are configured in many ways

my ($status) = call('GET', '/if/healthy', undef, { 'X-If' => 1 });
is($status, 200, 'in an if');
($status) = call('POST', '/if/jobs', { ref => 'm/m:v1' }, { 'X-If' => 1 });
is($status, 202, 'in an if: a job');
($status) = call('POST', '/limit/jobs', { ref => 'm/m:v1' });
is($status, 202, 'in a limit_except');
($status) = call('POST', '/mirror/x', {});
is($status, 404, 'a mirror without a body');

# another server's location of the same name is another one

my $r = $t->http($twin, 'POST', '/p2p/jobs', {}, '{"ref":"m/twin:v1"}');
is($r->{status}, 202, 'another server: a job');
($status) = call('GET', '/p2p/jobs/' . decode_json($r->{body})->{id});
is($status, 404, 'another server: is not known here');

# a body that nobody reads is no request

my $inner = "GET /oci_status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
for my $path (qw! /hook /p2p/jobs !) {
    my $out = $t->raw("PUT $path HTTP/1.1\r\nHost: x\r\nContent-Length: "
        . length($inner) . "\r\n\r\n${inner}GET $path/x HTTP/1.1\r\n"
        . "Host: x\r\nConnection: close\r\n\r\n");
    is(scalar(() = $out =~ m!HTTP/1.1 200!g), 0, "$path: no request in it");
    like($out, qr/HTTP\/1.1 404/, "$path: the next one");
}

# a location that is gone leaves nothing behind

state('hang');
create("hang/n$_", 'v1') for 1 .. 4;
conf($locations =~ s!location /p2p/!location /p3p/!r)->signal('HUP');
until_true(sub { (call('GET', '/p3p/healthy'))[0] == 200 });
until_true(30, sub { $t->read_file('error.log')
    =~ /preheat jobs? .*location is gone/ });
conf($locations)->signal('HUP');
until_true(sub { (call('GET', '/p2p/healthy'))[0] == 200 });
my (undef, $jobs) = call('GET', '/p2p/jobs');
my @gone = grep { $_->{repository} =~ /hang\/n/ } @{$jobs->{jobs}};
is(scalar @gone, 4, 'gone: known');
is(scalar(grep { $_->{state} eq 'failure' && $_->{error} =~ /is gone/ }
    @gone), 4, 'gone: they have failed');
state('');

$t->done();
