#!/usr/bin/perl

# S23: disclosure by headers.  A registry adds to its answers what tells of
# others: names of private repositories, of hosts, buckets and users, cookies,
# tags of its own cache, commands for the nginx before it.
#
#   - an answer that the cache makes (blob, manifest, tag; cold, warm, a range,
#     several, 304, 412, 416, HEAD, stale, an error) has the headers of a list
#     and none else, whatever the registry and its object store sent;
#   - it is the same, header by header but for Date and the boundary, for a
#     caller who comes first and for one who comes later, whose repository is
#     another one: nothing of the first one's is in it;
#   - what is passed through keeps the registry's own headers, which are meant
#     for this caller, but for Set-Cookie, Upgrade and X-Accel-*;
#     "proxy_hide_header" in oci_registry hides others;
#   - the edge says neither its registry's address nor its own version (with
#     server_tokens off), and takes no command from a registry.
#
# See also pull.t (which headers there are), s07_redirect.t (requests).

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $secret = 'canary-private-repo';
my $manifest = '{"schemaVersion":2}';
my $digest = $t->digest($manifest);
my %blob = map { $t->digest($_) => $_ } map { $t->random_blob(300_000) } 1, 2;
my ($b1, $b2) = sort keys %blob;

my %leak = (
    'X-Ms-Copy-Source' => "https://store.test/$secret/x",
    'X-Ms-Meta-Owner' => $secret, 'X-Amz-Meta-Repo' => $secret,
    'X-Goog-Hash' => "crc32c=$secret", 'X-Amz-Request-Id' => $secret,
    'Server' => "registry/$secret", 'Via' => "1.1 $secret",
    'X-Powered-By' => $secret, 'X-Request-Id' => $secret,
    'X-Harbor-Csrf-Token' => $secret, 'Set-Cookie' => "sid=$secret; Path=/",
    'Set-Cookie2' => $secret, 'X-Backend-Server' => $secret,
    'X-Cache' => "HIT from $secret", 'Age' => 5, 'X-Forwarded-Host' => $secret,
    'Content-Disposition' => "attachment; filename=$secret",
    'Last-Modified' => 'Tue, 24 Nov 2026 00:00:00 GMT',
    'Cache-Control' => "private, x=$secret", 'Expires' => '0',
    'Access-Control-Allow-Origin' => '*', 'Alt-Svc' => "h2=\"$secret:443\"",
    'Report-To' => $secret, 'Refresh' => "0; url=http://$secret.test/",
    'Link' => "<http://$secret.test/>; rel=x", 'OCI-Subject' => $secret,
    'Content-Location' => "/$secret", 'Vary' => $secret,
    'ETag' => "\"$secret\"",
    'Docker-Upload-UUID' => $secret, 'X-Accel-Redirect' => '/secret',
    'X-Accel-Expires' => '1', 'X-Accel-Limit-Rate' => '1',
    'X-Accel-Buffering' => 'no', 'X-Accel-Charset' => $secret,
    'Cache-Status' => "$secret; hit", 'Accept-Ranges' => $secret,
    'Trailer' => $secret, 'Upgrade' => $secret, 'Public-Key-Pins' => $secret,
);

my $store = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($d) = $q->{uri} =~ m!/(sha256:\w+)!;
    return $t->reply_blob($c, $q, $blob{$d}, \%leak);
}, quiet => 1);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($repo, $kind, $ref) = $q->{uri}
        =~ m!^/v2/(\w+)/(blobs|manifests)/([^?]+)!;
    my %h = (%leak, 'Docker-Distribution-Api-Version' => $secret);

    return $t->reply($c, $q, 500, \%h, 'broken') if -e "$t->{dir}/down";
    if ($q->{method} eq 'POST') {
        return $t->reply($c, $q, 202, { %h, Location => '/v2/x' }, '');
    }
    return $t->reply($c, $q, 200, \%h, '{"tags":[]}') if !defined $kind;
    return $t->reply($c, $q, 404, \%h, '{"errors":[]}') if $ref =~ /^no/;
    if ($kind eq 'manifests') {
        return $t->reply($c, $q, 200, { %h,
            'Content-Type' => $OCI::TYPE{manifest},
            'Docker-Content-Digest' => $digest }, $manifest);
    }
    return $t->reply($c, $q, 307, { %h, 'Content-Length' => 0,
        Location => "http://127.0.0.1:$store/$ref?sig=link-$secret" }, '')
        if $repo eq 'moved' && $q->{method} eq 'GET';
    return $t->reply_blob($c, $q, $blob{$ref}, \%h);
}, quiet => 1);

$t->conf(http => <<EOC, location => <<EOL, cache_args => 'slice=64k');
server_tokens off;
oci_registry demo {
    url http://127.0.0.1:$port;
    redirect_allow 127.0.0.1:$store;
    breaker off;
}
oci_registry hidden {
    url http://127.0.0.1:$port;
    proxy_hide_header X-Ms-Copy-Source;
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_cache_valid manifest 0; }
location /v2/hidden/ { oci_pass hidden; }
location = /secret { return 200 "the secret"; }
EOL
$t->start();

# of what the cache answers itself

my %allowed = map { $_ => 1 } qw/ server date content-type content-length
    connection etag docker-content-digest docker-distribution-api-version
    accept-ranges cache-control cache-status content-range retry-after warning
    allow /;

my (%odd, %said);

sub headers {
    my ($r) = @_;
    return join "\n", sort map {
        my ($k, $v) = (lc $_->[0], $_->[1]);
        $v =~ s/boundary=.*/boundary/;
        $k eq 'date' ? 'date' : "$k: $v";
    } @{$r->{list}};
}

sub look {
    my ($name, $r) = @_;
    for (@{$r->{list}}) {
        my ($k, $v) = @$_;
        $odd{"$name: $k"} = 1 if !$allowed{lc $k};
        $odd{"$name: $k: $v"} = 1 if $v =~ /$secret|127\.0\.0\.1|$port/;
    }
    $odd{"$name: in the body"} = 1 if $r->{body} =~ /$secret/;
    my %n;
    $odd{"$name: two of $_->[0]"} = 1
        for grep { $n{lc $_->[0]}++ } @{$r->{list}};
    $said{$r->{status}}++;
}

my %ask = (
    whole => {}, range => { Range => 'bytes=5-70000' },
    suffix => { Range => 'bytes=-5' }, many => { Range => 'bytes=0-1,5-6' },
    beyond => { Range => 'bytes=9999999-' },
    same => { 'If-None-Match' => '*' },
    other => { 'If-Match' => '"x"' },
);

# cold, warm, and somebody else's

my %first;
for my $repo (qw/ one moved two one /) {
    for my $uri ("blobs/$b1", "blobs/$b2", 'manifests/v1',
        "manifests/$digest")
    {
        for my $way (sort keys %ask) {
            my $r = $t->get("/v2/$repo/$uri", $ask{$way});
            look("$repo $uri $way", $r);
            next if $r->{status} == 200 && $uri =~ /blobs/ && $way ne 'whole';

            # how it came is told by one header

            my $got = join "\n", grep { !/^cache-status/ } split /\n/,
                headers($r);
            $first{"$uri $way"} //= $got;
            is($got, $first{"$uri $way"}, "$repo $uri $way: the same headers");
        }
    }
    look("$repo HEAD", $t->head("/v2/$repo/manifests/$_"))
        for 'v1', $digest;
}

# a registry that is down: stale, and the edge's own errors

$t->write_file('down', '');
for my $uri ("blobs/$b1", 'manifests/v1', "manifests/$digest") {
    my $r = $t->get("/v2/one/$uri");
    is($r->{status}, 200, "stale: $uri");
    look("stale $uri", $r);
}
unlink "$t->{dir}/down";

for my $uri ('/v2/UP/blobs/x', '/v2/a/blobs/sha256:x', '/v2/a//b/tags/list',
    '/oci_status', '/metrics')
{
    look($uri, $t->get($uri));
}

is(join("\n", sort keys %odd), '', 'nothing but what is allowed');
ok($said{$_}, "$_ was among them") for 200, 206, 304, 400, 412, 416;

# what is passed on

for my $q ([ 'GET', '/v2/one/tags/list' ], [ 'GET', '/v2/one/manifests/no' ],
    [ 'POST', '/v2/one/blobs/uploads/' ], [ 'GET', '/v2/_catalog' ],
    [ 'HEAD', "/v2/one/blobs/$b1" ])
{
    my ($method, $uri) = @$q;
    my $r = $t->http($t->{edge}, $method, $uri, {},
        $method eq 'POST' ? '' : undef, 10);
    my @bad = grep { /^(?:set-cookie|x-accel.*|upgrade)$/i }
        map { $_->[0] } @{$r->{list}};
    is(join(' ', @bad), '', "$method $uri: no cookies, no commands");
    unlike($r->{body}, qr/the secret/, "$method $uri: not redirected");
    unlike($r->{h}{server} // '', qr/$secret|nginx\//, "$method $uri: Server");
}

my $r = $t->get('/v2/hidden/tags/list');
is($r->{h}{'x-ms-copy-source'}, undef, 'proxy_hide_header hides');
is($r->{h}{'x-request-id'}, $secret, 'that one only');
is($r->{h}{'set-cookie'}, undef, 'and cookies, as ever');

$t->done();
