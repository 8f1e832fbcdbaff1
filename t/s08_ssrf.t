#!/usr/bin/perl

# S8: requests to places that a registry, or a client, chooses.  A victim
# listens on every loopback address; realms, redirects and locations name it in
# all the ways that an address has (decimal, octal, hex, short, IPv6, mapped,
# any, user info, a name), clients by Host, ns=, from= and absolute URIs, and
# manifests by "urls".  Nothing connects to it.
#
# Names are resolved by nginx's resolver, once for an exchange, and only names
# of redirect_allow and realm_allow are.  To which addresses these may lead is
# in inside.t; see also token.t (realm_allow), s07_redirect.t, location.t.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Socket::INET;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $blob = 'x' x 1000;
my $digest = $t->digest($blob);
my $victim = OCI::port();
my $ports = "$t->{dir}/victim";

# IPv6 too, where there is some; a connection is a line

for my $family (4, 6) {
    my $l = eval {
        require IO::Socket::IP;
        IO::Socket::IP->new(LocalHost => $family == 4 ? '0.0.0.0' : '::1',
            LocalPort => $victim, Listen => 64, ReuseAddr => 1);
    } or next;
    my $pid = fork() // die;
    if ($pid == 0) {
        while (my $c = $l->accept()) {
            open my $f, '>>', $ports;
            syswrite $f, "$family\n";
            close $f;
            syswrite $c, "HTTP/1.1 200 X\r\nContent-Length: 1000\r\n"
                . "Content-Type: application/json\r\n\r\n" . 'x' x 1000;
            close $c;
        }
        POSIX::_exit(0);
    }
    $t->{pids}{"victim$family"} = $pid;
}

sub visits { return scalar(() = $t->read_file('victim') =~ /\n/g) }

# the control: it is there

$t->raw("GET / HTTP/1.0\r\n\r\n", 5, $victim);
is(visits(), 1, 'the victim listens');

my @hosts = ('127.0.0.1', '127.0.0.2', '2130706433', '0x7f000001',
    '017700000001', '127.1', '0177.0.0.1', '0x7f.0.0.1', '127.0.0.1.',
    '0.0.0.0', '0', '[::]', '[::1]', '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]', '[0:0:0:0:0:0:0:1]', '[::127.0.0.1]', 'localhost',
    'LOCALHOST', 'localhost.', 'registry.test@127.0.0.1',
    'registry.test:80@127.0.0.1', '127.0.0.1%00.registry.test',
    "127.0.0.1\xe3\x80\x82", "\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.0.0.1",
    'registry.test#@127.0.0.1', 'registry.test\\@127.0.0.1');

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($kind, $i) = $q->{uri} =~ m!^/v2/(\w+)/n(\d+)/!
        or return $t->reply($c, $q, 200, {}, '{}');
    my $url = "http://$hosts[$i]:$victim/v2/token";

    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        qq(Bearer realm="$url",service="x",scope="repository:x:pull") },
        '{"errors":[]}') if $kind eq 'realm';
    return $t->reply($c, $q, 307, { Location => $url }, '')
        if $kind eq 'moved';
    return $t->reply($c, $q, 202, { Location => $url, Link =>
        "<$url>; rel=\"next\"" }, '') if $kind eq 'up';

    # a foreign layer

    my $m = qq({"schemaVersion":2,"layers":[{"digest":"$digest","size":1000,)
        . qq("mediaType":"application/vnd.docker.image.rootfs.foreign.diff.)
        . qq(tar.gzip","urls":["$url"]}]});
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($m) }, $m)
        if $q->{uri} =~ /manifests/;
    return $t->reply($c, $q, 404, {}, '{"errors":[]}');
}, quiet => 1);

my $resolver = OCI::port();
$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; }
oci_registry own {
    url http://127.0.0.1:$port;
    host registry.test;
    credentials anonymous;
}
oci_registry store {
    url http://127.0.0.1:$port;
    redirect_allow store.test;
    realm_allow auth.test;
}
resolver 127.0.0.1:$resolver ipv6=off;
resolver_timeout 1s;
map \$arg_r \$registry { ~. \$arg_r; default demo; }
EOC
location /v2/ { oci_pass \$registry; oci_cache models; oci_access open; }
location = /token { oci_token demo; }
EOL
$t->start();

for my $i (0 .. $#hosts) {
    (my $name = $hosts[$i]) =~ s/[^ -~]/?/g;

    for my $r (qw/ demo own store /) {
        for my $kind (qw/ realm moved up urls /) {
            $t->get("/v2/$kind/n$i/blobs/$digest?r=$r", undef, 10);
            $t->get("/v2/$kind/n$i/manifests/x?r=$r", undef, 10);
        }
        $t->http($t->{edge}, 'POST', "/v2/up/n$i/blobs/uploads/?r=$r", {}, '');
        $t->get("/v2/up/n$i/tags/list?r=$r");
    }

    # what clients say

    $t->get("/v2/x/n$i/tags/list?ns=$name:$victim",
        { Host => "$name:$victim", 'X-Forwarded-Host' => "$name:$victim" })
        if $hosts[$i] !~ /[^ -~]/;
    is(visits(), 1, "$name: nothing goes there");
}

# the realm of a client's challenge is the client's to call; at the edge's own
# address it is not handed on either

$t->get('/v2/realm/n0/tags/list');
$t->get('/token?service=x&scope=y');

for my $uri ("http://127.0.0.1:$victim/v2/", "http://127.0.0.1:$victim",
    "//127.0.0.1:$victim/v2/", "\@127.0.0.1:$victim/v2/",
    "/v2/@127.0.0.1:$victim/blobs/$digest",
    "/v2/x/blobs/uploads/?mount=$digest&from=http://127.0.0.1:$victim/x")
{
    $t->raw("POST $uri HTTP/1.1\r\nHost: 127.0.0.1:$victim\r\n"
        . "Content-Length: 0\r\nConnection: close\r\n\r\n");
    $t->raw("GET $uri HTTP/1.1\r\nHost: 127.0.0.1:$victim\r\n"
        . "Connection: close\r\n\r\n");
}
$t->raw("CONNECT 127.0.0.1:$victim HTTP/1.1\r\nHost: x\r\n\r\n");

is(visits(), 1, 'nor anything that a client says');

$t->done();
