#!/usr/bin/perl

# S7: credentials that leak on a redirect.  Recorders stand wherever a redirect
# of a blob may lead: the object store that is allowed, another port, another
# address, a scheme that is worse, the end of a long chain.  None of them sees
# the caller's Authorization, Cookie or other headers, nor the edge's own
# credentials; one that is not allowed sees nothing at all.
#
# See also hostile.t (the store of redirects), portal.t, location.t.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use MIME::Base64;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('openssl');

# (a header of no meaning to the edge goes to the registry)

my $t = OCI->new(workers => 2, unwind => 1, told => [
    qr!^upstream\d\S+ GET /v2/\S+\?r=own: host: \S+ x-api-key: \w+$! ]);
my $d = $t->{dir};
my ($cert, $key) = $t->certificate('registry.test');
my $secret = 'canary' . 'x' x 20;
my $size = 700000;
my (%blob, %digest);

for my $name (qw/ store chain3 chain11 user atother port host name relative
    backslash tab space file unix gopher noport query hash /)
{
    $blob{$name} = $t->random_blob($size);
    $digest{$name} = $t->digest($blob{$name});
}

# allowed; 11 hops lead to it

my $store = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($hop, $name) = $q->{uri} =~ m!^/(\d+)/(\w+)!;
    return $t->reply($c, $q, 307, { Location => '/' . ($hop - 1)
        . "/$name?sig=x" }, '') if $hop > 0;
    return $t->reply_blob($c, $q, $blob{$name});
});

# not allowed

my $other = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob{store});
});

my %to = (
    store => "http://127.0.0.1:$store/0/store",
    chain3 => "http://127.0.0.1:$store/3/chain3",
    chain11 => "http://127.0.0.1:$store/11/chain11",
    user => "http://user:password\@127.0.0.1:$store/0/user",
    atother => "http://127.0.0.1:$store\@127.0.0.1:$other/0/x",
    port => "http://127.0.0.1:$other/0/port",
    host => "http://127.0.0.2:$store/0/host",
    name => "http://localhost:$other/0/name",
    relative => "//127.0.0.1:$other/0/relative",
    backslash => "http:\\\\127.0.0.1:$other\\0\\x",
    tab => "ht\ttp://127.0.0.1:$other/0/x",
    space => " http://127.0.0.1:$other/0/x",
    file => 'file:///etc/passwd',
    unix => 'http://unix:/tmp/x.sock:/0/x',
    gopher => "gopher://127.0.0.1:$other/0/x",
    noport => 'http://127.0.0.1/0/x',
    query => "http://127.0.0.1:$other?\@127.0.0.1:$store/0/x",
    hash => "http://127.0.0.1:$other#\@127.0.0.1:$store/0/x",
);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($name) = $q->{uri} =~ m!^/v2/m/(\w+)/(?:blobs|manifests)/!
        or return $t->reply($c, $q, 404, {}, '');
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        'Basic realm="x"' }, '{}') if !exists $q->{h}{authorization};
    return $t->reply($c, $q, 307, { Location => $to{$name},
        'Set-Cookie' => "session=$secret" }, '');
});

my $tls = OCI::port();

$t->write_file('robot', "robot:$secret\n", 0600);
$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$port;
    redirect_allow 127.0.0.1:$store;
}
oci_registry own {
    url http://127.0.0.1:$port;
    redirect_allow 127.0.0.1:$store;
    credentials file $d/robot;
}
oci_registry tls {
    url https://127.0.0.1:$tls;
    host registry.test;
    trusted_certificate $d/ca.pem;
    redirect_allow 127.0.0.1:$store;
}
map \$arg_r \$registry { ~. \$arg_r; default demo; }
server {
    listen 127.0.0.1:$tls ssl;
    ssl_certificate $cert;
    ssl_certificate_key $key;
    location / { proxy_pass http://127.0.0.1:$port; }
}
EOC
location /v2/ { oci_pass \$registry; oci_cache models; oci_access open; }
EOL
$t->start();

my %h = (Authorization => "Bearer $secret", Cookie => "session=$secret",
    'Proxy-Authorization' => "Basic $secret", 'X-Api-Key' => $secret);

sub pull { return $t->get("/v2/m/$_[0]/blobs/$digest{$_[0]}$_[1]", \%h, 20) }

for my $r ('', '?r=own') {
    my $kind = $r || 'the caller\'s';

    for my $name (qw/ store chain3 /) {
        my $x = pull($name, $r);
        ok($x->{body} eq $blob{$name}, "$kind: $name: the blob");
        ok(!grep({ $_->[1] =~ /$secret/ } @{$x->{list}}),
            "$kind: $name: no cookie comes back");
    }
    for my $name (sort grep { !/store|chain3/ } keys %to) {
        my $x = pull($name, $r);
        ok($x->{status} != 200 && $x->{status} != 206 || $name eq 'user'
            && $x->{body} eq $blob{user}, "$kind: $name: not followed")
            or diag("$x->{status} " . length $x->{body});
    }
}

# https leads to http

my $x = pull('store', '?r=tls');
isnt($x->{status}, 200, 'from https to http: not followed');
like($t->read_file('error.log'), qr/redirect from https to http host/,
    'and said');

# what is passed through is the client's to follow

for my $name (sort keys %to) {
    next if $name =~ /tab|space/;
    $x = $t->get("/v2/m/$name/manifests/x", \%h);
    is($x->{status}, 307, "a manifest: $name: left to the client");
}

my @seen = $t->requests(0);
cmp_ok(scalar(@seen), '>', 4, 'the store was asked');
my %odd;
for my $q (@seen) {
    $odd{$_} = 1 for grep { !/^(host|user-agent|range|accept-encoding)$/ }
        keys %{$q->{h}};
    $odd{$q->{uri}} = 1 if OCI::encode_json($q) =~ /$secret|password/;
}
is(join(' ', sort keys %odd), '', 'it saw nothing but the request');
cmp_ok(scalar(grep { $_->{uri} =~ /chain11/ } @seen), '<', 60,
    'a chain ends');
is(scalar($t->requests(1)), 0, 'no other port was asked');

my $log = $t->read_file('error.log') . $t->read_file('access.log');
ok($log !~ /$secret|sig=x|user:password/, 'no secret in a log');
ok($log !~ /${\ encode_base64("robot:$secret", '') }/, 'nor coded');

$t->done();
