#!/usr/bin/perl

# S10: path traversal in names.  The raw URI decides, by the edge's own parser:
# dot segments, escapes once and twice, backslashes, overlong UTF-8, NUL, names
# of 64 KB, and names that OCI has not are refused; they reach neither the disk
# nor the upstream, and no other location of nginx answers in their place.
#
# See also route.t (each error's code), unit/route.c, fuzz/route.c.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $digest = 'sha256:' . 'a' x 64;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 404, {}, '{"errors":[]}');
});

$t->write_file('secret', 'top secret');
$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    server => 'large_client_header_buffers 4 128k;', location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; }
location /v2/private/ { deny all; oci_pass demo; oci_cache models; }
location /files/ { alias $t->{dir}/; }
EOL
$t->start();

my @names = (
    '..', '../a', 'a/..', 'a/../b', 'a/../../../etc', '../../../../etc',
    './a', 'a/.', 'a/./b', '.', '.a', 'a.', '/a', 'a//b', 'a/', '//',
    '%2e%2e', '%2e%2e/a', '%2E%2E%2Fa', 'a/%2e%2e/b', 'a%2f..%2fb', '..%2fa',
    '%252e%252e', '%252e%252e%252fa', 'a%252f..%252fb', '%c0%ae%c0%ae/a',
    "\xc0\xae\xc0\xae/a", '%c0%af', "a\xc0\xafb", '%e0%80%ae', '%uff0e%uff0e',
    "\xef\xbc\x8e\xef\xbc\x8e/a", 'a%5c..%5cb', 'a\\..\\b', '..\\..\\etc',
    'a%00', 'a%00/../b', '%00', 'a%0a', 'a%0d%0ab', 'a%20b', 'a%09', 'a%7f',
    'a;x', 'a:b', 'a@b', 'a~', 'a*', 'a|b', 'a^', 'a`', 'a"b', 'a<b>', 'a$b',
    'a_', '-a', 'a-', 'a___b', 'a..b', 'a._b', 'a-/b', 'A', 'aB',
    'a/_b/c', '...', 'a/.../b', '.map', 'a/.map', '%61', '%2561',
    'private/..', '../v2/private/a', 'x/../private/a', './private/a',
    '%70rivate/a', 'private%2fa', '/private/a', 'x' x 65536,
    'x/' x 32768 . 'x', '../' x 20000 . 'etc', '%2e%2e%2f' x 7000 . 'etc',
);

my @bad;
my %print;

for my $name (@names) {
    for my $rest ("blobs/$digest", 'manifests/x', 'tags/list',
        "referrers/$digest", 'blobs/uploads/')
    {
        push @bad, "/v2/$name/$rest";
        ($print{"/v2/$name/$rest"} = length $name > 40
            ? substr($name, 0, 37) . '...' : $name)
            =~ s/([^ -~])/sprintf '\x%02x', ord $1/ge;
    }
}

my $wrong = 0;
my $other = 0;

for my $uri (@bad) {
    for my $method (qw/ GET PUT DELETE /) {
        my $r = $t->http($t->{edge}, $method, $uri, {},
            $method eq 'PUT' ? '' : undef);
        if ($r->{status} !~ /^(400|403|404|405|414)$/) {
            $wrong++;
            fail("$method $print{$uri}: $r->{status}") if $wrong < 10;
        }
        $other++ if $r->{body} =~ /secret|zones|nginx_oci/;
    }
}

is($wrong, 0, scalar(@bad) . ' URIs: all refused');
is($other, 0, 'nothing else answers');

# what nginx itself takes for another path stays with nginx

for my $uri ('/v2/../files/secret', '/v2/..%2ffiles/secret',
    '/v2/a/%2e%2e/%2e%2e/oci_status', '/v2/../oci_status')
{
    my $r = $t->raw("GET $uri HTTP/1.1\r\nHost: e\r\nConnection: close\r\n"
        . "\r\n");
    like($r, qr!^HTTP/1\.1 (?:200|400|404)!, "$uri: nginx's own");
}

for my $rest ("blobs/$digest", 'manifests/x') {
    for my $name ('private/a', 'x/../private/a', '%70rivate/a', './private/a',
        '/private/a', 'private/x/../a')
    {
        my $r = $t->get("/v2/$name/$rest");
        ok($r->{status} == 403 || $r->{status} == 400,
            "$name/$rest: a location that denies is not gone round")
            or diag($r->{status});
    }
}

is(join(' ', map { $_->{uri} } $t->requests()), '',
    'the upstream heard of none');
is(join(' ', grep { -f && !m!/refs/! } glob "$t->{dir}/cache/*/* "
    . "$t->{dir}/cache/*/*/* $t->{dir}/cache/*/*/*/*"), '', 'nor the disk');
is($t->read_file('secret'), 'top secret', 'a file beside it is as it was');

# what begins with "_" is an extension's: the registry's own, never cached

for (1, 2) {
    my $r = $t->get("/v2/_a/blobs/$digest");
    is($r->{status}, 404, 'an extension: the registry answers');
    is($r->{h}{'cache-status'}, undef, 'and nothing is cached');
}
is(join(' ', map { $_->{uri} } $t->requests()),
    "/v2/_a/blobs/$digest /v2/_a/blobs/$digest", 'as it came');

$t->done();
