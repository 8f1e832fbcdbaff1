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
    return $t->reply($c, $q, 200, \%h, $body)
        if $q->{method} eq 'HEAD' || -e "$t->{dir}/honest";
    return $t->reply($c, $q, 404, { 'Content-Type' => 'application/json' },
        '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}');
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry one { url http://127.0.0.1:$one; }
oci_registry two { url http://127.0.0.1:$two; }
EOC
location /v2/one/ { oci_pass one; oci_cache models; }
location /v2/two/ { oci_pass two; oci_cache models; }
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

$t->done();
