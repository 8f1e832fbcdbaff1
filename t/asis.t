#!/usr/bin/perl

# What the http block says for web pages does not change what a registry says:
# nothing is compressed, no error page takes the place of its errors.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $blob = 'a' x 300000;
my $manifest = '{"schemaVersion":2,"x":"' . 'y' x 5000 . '"}';
my $error = '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"' . 'z' x 500
    . '"}]}';

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob,
        { 'Content-Type' => 'application/octet-stream' })
        if $q->{uri} =~ /blobs/;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($manifest) }, $manifest)
        if $q->{uri} =~ m!/manifests/v1$!;
    return $t->reply($c, $q, 200, { 'Content-Type' => 'application/json' },
        '{"tags":["' . 't' x 5000 . '"]}') if $q->{uri} =~ /tags/;
    return $t->reply($c, $q, $q->{uri} =~ /denied/ ? 403 : 404,
        { 'Content-Type' => 'application/json' }, $error);
});

$t->conf(http => <<EOC, location => <<EOL);
gzip on;
gzip_types *;
gzip_min_length 1;
gzip_proxied any;
gzip_http_version 1.0;
proxy_intercept_errors on;
error_page 403 404 502 /page;
oci_registry demo { url http://127.0.0.1:$port; }
EOC
location /v2/ { oci_pass demo; oci_cache models; }
location = /page { return 200 "<html>a page</html>"; }
location = /text { default_type text/x; return 200 "@{['b' x 500]}"; }
EOL
$t->start();

my %h = ('Accept-Encoding' => 'gzip');

is($t->get('/text', \%h)->{h}{'content-encoding'}, 'gzip', 'others are');

sub same {
    my ($uri, $body, $name, %more) = @_;
    my $r = $t->get($uri, { %h, %more });
    ok($r->{body} eq $body, "$name: the body");
    is($r->{h}{'content-encoding'}, undef, "$name: as it is");
    is($r->{h}{'content-length'}, length $body, "$name: its length");
}

my $uri = '/v2/m/blobs/' . $t->digest($blob);

same($uri, $blob, "a blob, $_") for qw/ cold warm /;
same($uri, substr($blob, 5, 1000), 'a range', Range => 'bytes=5-1004');
same('/v2/m/manifests/v1', $manifest, "a tag, $_") for qw/ cold warm /;
same('/v2/m/tags/list', '{"tags":["' . 't' x 5000 . '"]}', 'tags');
same('/v2/m/manifests/v2', $error, 'an error');
same('/v2/denied/manifests/v2', $error, 'another one');
same('/v2/denied/referrers/' . $t->digest('x'), $error, 'of what is passed');

$t->done();
