#!/usr/bin/perl

# A stored manifest is served to a registry's callers when that registry sent
# it itself: to name its digest is not enough.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $type = 'application/vnd.oci.image.manifest.v1+json';
my $body = qq({"schemaVersion":2,"mediaType":"$type","secret":"of one"});
my $digest = $t->digest($body);
my %h = ('Content-Type' => $type, 'Docker-Content-Digest' => $digest);

my $one = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, \%h, $body);
});

# it knows the digest, and all that HEAD tells

my $two = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reset($c) if -e "$t->{dir}/reset";
    return $t->reply($c, $q, 200, \%h, $body)
        if $q->{method} eq 'HEAD' || -e "$t->{dir}/honest";
    return $t->reply($c, $q, 404, { 'Content-Type' => 'application/json' },
        '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}');
});

# the third hides what it has from strangers, has no HEAD, gives a manifest as
# a blob too, and breaks

my $big = qq({"schemaVersion":2,"mediaType":"$type","a":")
    . 'x' x 300000 . '"}';
my $big_digest = $t->digest($big);
my $basic = 'Basic Z29vZDpnb29k';

my $three = $t->upstream(sub {
    my ($c, $q) = @_;
    my %h = ('Content-Type' => $type, 'Docker-Content-Digest' => $big_digest);

    if (($q->{h}{authorization} // '') ne $basic) {
        return $t->reply($c, $q, 404, {}, '{}');
    }
    if ($q->{uri} =~ m!/blobs/!) {
        return $t->reply_blob($c, $q, $big);
    }
    return $t->reply($c, $q, 405, {}, '{}') if $q->{method} eq 'HEAD';
    return $t->reset($c) if -e "$t->{dir}/down";

    # without a length, so that room is made as it comes

    print $c "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n"
        . "Content-Type: $type\r\nDocker-Content-Digest: $big_digest\r\n\r\n";
    for (my $i = 0; $i < length $big; $i += 10000) {
        printf $c "%x\r\n%s\r\n", length substr($big, $i, 10000),
            substr($big, $i, 10000);
        return 0 if -e "$t->{dir}/broken" && $i > 200000;
    }
    print $c "0\r\n\r\n";
    return 1;
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry one { url http://127.0.0.1:$one; }
oci_registry two { url http://127.0.0.1:$two; }
oci_registry three { url http://127.0.0.1:$three; }
oci_cache_valid negative 0;
EOC
location /v2/one/ { oci_pass one; oci_cache models; }
location /v2/two/ { oci_pass two; oci_cache models; }
location /v2/three/ { oci_pass three; oci_cache models; }
location /v2/late/ { oci_pass two; oci_cache models; oci_cache_valid tag 1h; }
EOL
$t->start();

sub got {
    my ($uri) = @_;
    my $r = $t->get($uri);
    return $r->{status} . ($r->{body} eq $body ? ' it' : '');
}

sub gets { return scalar grep { $_->{method} eq 'GET' } $t->requests($_[0]) }

is(got("/v2/one/m/manifests/$digest"), '200 it', 'a manifest');
is(got("/v2/one/m/manifests/v1"), '200 it', 'by tag');
is(gets(0), 1, 'the registry sent it once');

for my $uri ("/v2/two/m/manifests/$digest", '/v2/two/m/manifests/v1',
    '/v2/late/m/manifests/v1')
{
    $t->head($uri) for 1, 2;
    is(got($uri), 404, "named only: $uri") for 1, 2;
}

# out of reach there is nothing of it to be served stale

$t->write_file('reset', '');
is($t->get('/v2/two/m/manifests/v1', {}, 10)->{status}, 502,
    'named only, out of reach');
unlink "$t->{dir}/reset";

# who sends it has it, also after a restart

$t->write_file('honest', '');
$t->forget_requests(1);

is(got("/v2/two/m/manifests/v1"), '200 it', 'the other one sends it');
is(got("/v2/two/m/manifests/v1"), '200 it', 'again');
is(gets(1), 1, 'once');

$t->stop();
$t->start();

is(got("/v2/two/m/manifests/$digest"), '200 it', 'by digest');
is(got("/v2/two/m/manifests/v1"), '200 it', 'by tag');
is(gets(1), 1, 'once, also after a restart');

# a stranger's 404 takes nothing from those who may

sub big {
    my ($uri) = @_;
    my $r = $t->get($uri, { Authorization => $basic });
    return $r->{status} . ($r->{body} eq $big ? ' it' : '')
        . " $r->{h}{'cache-status'}";
}

my $uri = '/v2/three/m/manifests/v1';
is(big($uri), '200 it nginx-oci; fwd=uri-miss; stored', 'one who may');
is($t->get($uri)->{status}, 404, 'a stranger');
$t->write_file('broken', '');
is(big($uri), '200 it nginx-oci; hit; detail=stale', 'a broken answer')
    for 1 .. 3;
$t->write_file('down', '');
is(big($uri), '200 it nginx-oci; hit; detail=stale', 'out of reach');
unlink "$t->{dir}/down", "$t->{dir}/broken";

# a manifest that is asked for as a blob stays one

is(big("/v2/three/m/manifests/$big_digest"), '200 it nginx-oci; hit',
    'by digest');
is($t->get("/v2/three/m/blobs/$big_digest", { Authorization => $basic,
    Range => 'bytes=5-14' })->{body}, substr($big, 5, 10), 'as a blob');
is(big("/v2/three/m/manifests/$big_digest"), '200 it nginx-oci; hit',
    'by digest again') for 1, 2;

$t->done();
