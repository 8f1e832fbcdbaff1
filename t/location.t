#!/usr/bin/perl

# Location and Link of what is passed through: what names the registry, by
# any of its names, stays on the edge; what names another host is left alone.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new();
my $d = 'sha256:' . 'a' x 64;
my $set = "$t->{dir}/set";

# answers with the header that stands in a file

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($name, $value) = split /: /, $t->read_file('set'), 2;
    return $t->reply($c, $q, $q->{method} eq 'GET' ? 200 : 202,
        { $name => $value, 'Content-Type' => 'application/json' }, '{}');
});

$t->conf(http => <<EOC);
oci_registry demo {
    url http://127.0.0.1:$port;
    host registry.test:5000;
    public_url https://harbor.test;
    path edge up/stream;
}
EOC
$t->start();

sub passed {
    my ($method, $uri, $name, $value) = @_;
    $t->write_file('set', "$name: $value");
    my $r = $t->http($t->{edge}, $method, $uri,
        { $method eq 'GET' ? () : ('Content-Length' => 0) });
    return $r->{h}{lc $name};
}

my $up = '/v2/up/stream/x/blobs/uploads/0a-b?_state=x%3D';
my $here = '/v2/edge/x/blobs/uploads/0a-b?_state=x%3D';
my $post = '/v2/edge/x/blobs/uploads/';

for my $origin ('', 'http://registry.test:5000', 'https://harbor.test',
    'https://harbor.test:443', 'HTTPS://Harbor.TEST')
{
    is(passed('POST', $post, 'Location', "$origin$up"), $here,
        "Location of \"$origin\"");
}

for my $url ("http://other.test$up", "https://harbor.test.evil$up",
    "//other.test$up",
    "https://harbor.test\@evil.test$up", 'https://s3.test/b?sig=x')
{
    is(passed('POST', $post, 'Location', $url), $url,
        "Location $url is left alone");
}

{
    is(passed('POST', $post, 'Location', "https://harbor.test:444$up"),
        "https://harbor.test:444$up", 'another port is another registry');

    is(passed('POST', $post, 'Location', "http://127.0.0.1:$port$up"), $here,
        'Location of url, where host is another');
}

# a name that was not mapped comes back as it is

is(passed('POST', '/v2/y/blobs/uploads/', 'Location',
    'https://harbor.test/v2/y/blobs/uploads/1'), '/v2/y/blobs/uploads/1',
    'a repository without a map');

# lists

for my $origin ('', 'https://harbor.test') {
    is(passed('GET', '/v2/edge/x/tags/list?n=2', 'Link',
        "<$origin/v2/up/stream/x/tags/list?n=2&last=b>; rel=\"next\""),
        '</v2/edge/x/tags/list?n=2&last=b>; rel="next"',
        "Link of \"$origin\"");
}

is(passed('GET', "/v2/edge/x/referrers/$d", 'Link',
    "<https://harbor.test/v2/up/stream/x/referrers/$d?page=2>; rel=\"next\""),
    "</v2/edge/x/referrers/$d?page=2>; rel=\"next\"", 'Link of referrers');
is(passed('GET', '/v2/_catalog?n=1', 'Link',
    '<https://harbor.test/v2/_catalog?last=a&n=1>; rel="next"'),
    '</v2/_catalog?last=a&n=1>; rel="next"', 'Link of the catalog');

my $junk = 'not a link';
is(passed('GET', '/v2/edge/x/tags/list', 'Link', $junk), $junk,
    'junk in Link is left alone');

# the registry is asked by its own name

$t->forget_requests();
passed('POST', $post, 'Location', $up);
my ($q) = $t->requests();
is($q->{uri}, '/v2/up/stream/x/blobs/uploads/', 'the mapped path');
is($q->{h}{host}, 'registry.test:5000', 'the Host of the registry');

$t->forget_requests();
passed('POST', "$post?mount=$d&from=edge/z", 'Location', $up);
($q) = $t->requests();
is($q->{uri}, "/v2/up/stream/x/blobs/uploads/?mount=$d&from=up/stream/z",
    'the mapped source of a mount');

$t->done();
