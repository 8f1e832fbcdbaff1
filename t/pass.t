#!/usr/bin/perl

# What goes through the proxy module: pushes of all kinds, deletes, lists,
# and what must change on the way so that clients stay on the edge.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP qw/ decode_json /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('docker-registry');

my $t = OCI->new(workers => 2);
my $port = $t->registry();
my $other = $t->registry(name => 'other');
my $rude = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, { 'X-Accel-Redirect' => '/secret',
        'X-Accel-Limit-Rate' => 1, 'X-Accel-Buffering' => 'yes' }, 'its own');
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; path here there/deep; }
oci_registry other { url http://127.0.0.1:$other; }
oci_registry rude { url http://127.0.0.1:$rude; }
map \$arg_ns \$registry {
    other.example other;
    rude.example rude;
    unknown.example unknown;
    default demo;
}
EOC
location /v2/ { oci_pass \$registry; oci_cache models; }
location /v2/rewritten/ {
    set \$args "mount=\$arg_digest&from=here/x";
    oci_pass demo;
}
location = /secret { internal; return 200 "secret"; }
EOL
$t->start();

my $edge = $t->{edge};
my $blob = $t->random_blob(3 * 1024 * 1024);
my $digest = $t->digest($blob);

# monolithic

my $r = $t->http($edge, 'POST', '/v2/a/blobs/uploads/',
    { 'Content-Length' => 0 });
is($r->{status}, 202, 'POST');
like($r->{h}{location}, qr!^/v2/a/blobs/uploads/!, 'Location is a path here');
ok(!grep({ /$port/ } map { $_->[1] } @{$r->{list}}),
    'nothing names the registry');
my $l = $r->{h}{location};
$r = $t->http($edge, 'PUT', $l . ($l =~ /\?/ ? '&' : '?')
    . "digest=$digest", { 'Content-Type' => 'application/octet-stream' },
    $blob);
is($r->{status}, 201, 'PUT');
like($r->{h}{location}, qr!^/v2/a/blobs/sha256:!, 'its Location');
ok($t->http($port, 'GET', "/v2/a/blobs/$digest", {})->{body} eq $blob,
    'it is there');

# in chunks

$r = $t->http($edge, 'POST', '/v2/b/blobs/uploads/',
    { 'Content-Length' => 0 });
$l = $r->{h}{location};
for my $i (0 .. 2) {
    my $from = $i * 1024 * 1024;
    $r = $t->http($edge, 'PATCH', $l, {
        'Content-Type' => 'application/octet-stream',
        'Content-Range' => "$from-" . ($from + 1024 * 1024 - 1) },
        substr($blob, $from, 1024 * 1024));
    is($r->{status}, 202, "PATCH $i");
    is($r->{h}{range}, '0-' . ($from + 1024 * 1024 - 1), "PATCH $i: Range");
    $l = $r->{h}{location};
}
$r = $t->http($edge, 'PUT', $l . ($l =~ /\?/ ? '&' : '?')
    . "digest=$digest", { 'Content-Length' => 0 });
is($r->{status}, 201, 'PUT of chunks');

# mount, HEAD, DELETE

$r = $t->http($edge, 'POST', "/v2/c/blobs/uploads/?mount=$digest&from=a",
    { 'Content-Length' => 0 });
is($r->{status}, 201, 'mount');
$r = $t->head("/v2/c/blobs/$digest");
is($r->{status}, 200, 'HEAD');
is($r->{h}{'content-length'}, length $blob, 'HEAD: length');
$r = $t->http($edge, 'DELETE', "/v2/c/blobs/$digest", {});
is($r->{status}, 202, 'DELETE');
is($t->head("/v2/c/blobs/$digest")->{status}, 404, 'HEAD after it');

# a path map, both ways

$r = $t->http($edge, 'POST', '/v2/here/x/blobs/uploads/',
    { 'Content-Length' => 0 });
like($r->{h}{location}, qr!^/v2/here/x/blobs/uploads/!,
    'Location has the name at the edge');
$l = $r->{h}{location};
$r = $t->http($edge, 'PUT', $l . ($l =~ /\?/ ? '&' : '?')
    . "digest=$digest", {}, $blob);
is($r->{status}, 201, 'a mapped push');
is($t->http($port, 'HEAD', "/v2/there/deep/x/blobs/$digest", {})->{status},
    200, 'it is there under the other name');
ok($t->get("/v2/here/x/blobs/$digest")->{body} eq $blob, 'a mapped pull');
$r = $t->http($edge, 'POST',
    "/v2/here/y/blobs/uploads/?mount=$digest&from=here/x",
    { 'Content-Length' => 0 });
is($r->{status}, 201, 'a mapped mount');

# manifests and lists

for my $i (1 .. 5) {
    my $config = "{\"n\":$i}";
    my $c = $t->push_blob('list', $config);
    my $m = JSON::PP->new->canonical->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, config => { mediaType => 'x/y',
        digest => $c, size => length $config }, layers => [] });
    $r = $t->http($edge, 'PUT', "/v2/list/manifests/v$i",
        { 'Content-Type' => $OCI::TYPE{manifest} }, $m);
    is($r->{status}, 201, "PUT manifest $i");
    like($r->{h}{location}, qr!^/v2/list/manifests/!, "PUT manifest $i: Location");
}

my @tags;
my $uri = '/v2/list/tags/list?n=2';
for (1 .. 5) {
    $r = $t->get($uri);
    push @tags, @{decode_json($r->{body})->{tags}};
    my ($next) = ($r->{h}{link} // '') =~ /^<(.+)>; rel="next"$/ or last;
    like($next, qr!^/v2/list/tags/list\?!, 'Link stays on the edge');
    $uri = $next;
}
is(join(',', sort @tags), 'v1,v2,v3,v4,v5', 'all pages');

$r = $t->get('/v2/_catalog');
ok((grep { $_ eq 'list' } @{decode_json($r->{body})->{repositories}}),
    'catalog');
is($t->get('/v2/')->{status}, 200, 'ping');

# several registries

is($t->get('/v2/list/tags/list?ns=other.example')->{status}, 404,
    'another registry by ns=');
$r = $t->get('/v2/list/tags/list?ns=unknown.example');
is($r->{status}, 404, 'no such registry');
like($r->{body}, qr/NAME_UNKNOWN/, 'an OCI error');

# a large push is streamed: nothing of it is spooled to disk

my $s = $t->connect();
$r = $t->http($edge, 'POST', '/v2/big/blobs/uploads/',
    { 'Content-Length' => 0 });
$l = $r->{h}{location};
my $n = 64;
$t->send_request($s, 'PATCH', $l, { 'Transfer-Encoding' => 'chunked',
    'Content-Type' => 'application/octet-stream' });
my $meg = $t->random_blob(1024 * 1024);
my $spooled = 0;
for my $i (1 .. $n) {
    printf $s "%x\r\n", length $meg;
    print $s $meg, "\r\n";
    $spooled += grep { -f } glob "$t->{dir}/body/* $t->{dir}/body/*/*/*";
}
print $s "0\r\n\r\n";
$r = $t->read_header($s, 60);
is($r->{status}, 202, 'a chunked PATCH of 64 MiB');
is($r->{h}{range}, '0-' . ($n * 1024 * 1024 - 1), 'all of it arrived');
is($spooled, 0, 'nothing was spooled');

# the location's own limits count

$t->stop();
(my $conf = $t->read_file('nginx.conf'))
    =~ s/(location \/v2\/ \{ )/$1client_max_body_size 1k; /;
$t->write_file('nginx.conf', $conf);
$t->start();
$r = $t->http($edge, 'PUT', '/v2/list/manifests/x',
    { 'Content-Type' => $OCI::TYPE{manifest} }, 'x' x 2000);
is($r->{status}, 413, 'client_max_body_size of the location');

# a registry does not tell this nginx what to do

$r = $t->get('/v2/a/tags/list?ns=rude.example', undef, 5);
is($r->{body}, 'its own', 'X-Accel headers have no effect');

# arguments that a rewrite made are not those of the client

$r = $t->http($edge, 'POST', "/v2/rewritten/a/blobs/uploads/?digest=$digest",
    { 'Content-Length' => 0 });
cmp_ok($r->{status}, '==', 202, 'rewritten arguments: an upload of its own');

$t->done();
