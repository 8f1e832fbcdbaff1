#!/usr/bin/perl

# "url ... resolve": a registry's name is resolved at run time, for what is
# fetched and for what is passed through.  The registry moves between two
# addresses; the DNS is dead at the start, and later.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('openssl');

my $t = OCI->new();
my $d = $t->{dir};

# a blob of its own for each number, so that every pull is an exchange

sub blob { return "blob $_[0] " . 'x' x 3000 }
my %number = map { $t->digest(blob($_)) => $_ } 0 .. 2000;
my %digest = reverse %number;
my $next = 0;

my $code = sub {
    my ($name) = @_;
    return sub {
        my ($c, $q) = @_;
        open my $f, '>>', "$d/served";
        print $f "$name $$ $q->{h}{host} $q->{method} $q->{uri}\n";
        close $f;
        return $t->reply_blob($c, $q, blob($number{$1}))
            if $q->{method} eq 'GET' && $q->{uri} =~ m!/blobs/(.+)!;
        return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
            'Bearer realm="http://registry.test/token"' }, '')
            if $q->{uri} eq '/v2/';
        return $t->reply($c, $q, 202, { Location => '/v2/m/blobs/uploads/1',
            'X-At' => $name }) if $q->{method} eq 'POST';
        return $t->reply($c, $q, 200, { 'X-At' => $name }, '{"tags":[]}');
    };
};

my $one = $t->upstream($code->('one'), quiet => 1);
my $two = $t->upstream($code->('two'), quiet => 1, addr => '127.0.0.2',
    port => $one);
my $dns = $t->dns();
my ($cert, $key) = $t->certificate('registry.test');
my $tls = OCI::port();

$t->dns_says('silent');

# localhost: a literal proxy_pass to the same name has the address of the
# start, which is of no use to the registry

$t->conf(http => <<EOC, location => <<EOL);
resolver 127.0.0.1:$dns ipv6=off;
resolver_timeout 1s;
oci_registry demo {
    url http://moving.test:$one resolve;
    host registry.test;
    connect_timeout 2s;
}
oci_registry local { url http://localhost:$one resolve; }
oci_registry safe {
    url https://moving.test:$tls resolve;
    host registry.test;
    trusted_certificate $d/ca.pem;
}
oci_registry wrong {
    url https://moving.test:$tls resolve;
    trusted_certificate $d/ca.pem;
}
server {
    listen 127.0.0.1:$tls ssl;
    listen 127.0.0.2:$tls ssl;
    ssl_certificate $cert;
    ssl_certificate_key $key;
    location / {
        proxy_pass http://127.0.0.1:$one;
        proxy_set_header Host \$http_host;
        add_header X-SNI \$ssl_server_name always;
    }
    location /literal { proxy_pass http://localhost:$one; }
}
upstream moving.test:$one { server 127.0.0.9:1; }
EOC
location /v2/ { oci_pass demo; oci_cache models; }
location = /token { oci_token demo; }
location /v2/local/ { oci_pass local; oci_cache models; }
location /v2/safe/ { oci_pass safe; oci_cache models; }
location /v2/wrong/ { oci_pass wrong; oci_cache models; }
EOL

# the error, or where the exchange went

sub pull {
    my ($repo) = @_;
    my $i = $next++;
    unlink "$d/served";
    my $r = $t->get('/v2/' . ($repo // 'm') . "/blobs/$digest{$i}");
    return $r if $r->{status} != 200;
    return $r->{body} ne blob($i) ? 'wrong bytes'
        : join ' ', sort keys %{{ map { (split)[0] => 1 }
            split /\n/, $t->read_file('served') }};
}

sub passed {
    my ($method, $uri) = @_;
    my $r = $t->http($t->{edge}, $method, $uri, {
        $method eq 'POST' ? ('Content-Length' => 0) : () });
    return $r->{h}{'x-at'} // $r->{status};
}

# true as soon as code is, within half a minute

sub soon {
    my ($code) = @_;
    for (my $end = time() + 30; time() < $end; sleep 0.2) {
        return 1 if $code->();
    }
    return 0;
}

sub logged {
    my ($what) = @_;
    return scalar grep { /$what/ } split /\n/, $t->read_file('error.log');
}

my ($rc, $out) = $t->check();
like($out, qr/stands behind oci_registry/, 'an upstream{} of that name: refused');

(my $conf = $t->read_file('nginx.conf')) =~ s/^upstream moving.*\n//m;
$t->write_file('nginx.conf', $conf);
$t->start();

# nothing is known of it: nginx has started

my $r = pull();
ok(ref $r && $r->{status} =~ /^50[24]$/, 'a dead DNS at the start');
ok(logged(qr/"moving\.test" could not be resolved/), 'that is said');
like(passed('GET', '/v2/m/tags/list'), qr/^50[24]$/, 'also what is passed');

# it comes up

$t->dns_says('127.0.0.1 1');
ok(soon(sub { my $r = pull(); !ref $r && $r eq 'one' }), 'it is up: pulls');
ok(soon(sub { passed('GET', '/v2/m/tags/list') eq 'one' }), 'a list');
is(passed('POST', '/v2/m/blobs/uploads/'), 'one', 'a push');
like($t->read_file('served'), qr/ registry\.test POST/, 'by its own name');

# connections are kept

my %pids;
unlink "$d/served";
for (1 .. 5) {
    $r = pull();
    $pids{(split)[1]} = 1 for grep { /GET/ } split /\n/,
        $t->read_file('served');
}
cmp_ok(scalar keys %pids, '<=', 2, 'connections are kept');

# TLS: the name is that of "host"

is(pull('safe'), 'one', 'TLS');
my $post = $t->http($t->{edge}, 'POST', '/v2/safe/blobs/uploads/',
    { 'Content-Length' => 0 });
is($post->{h}{'x-sni'}, 'registry.test', 'passed: the same server name');
$r = pull('wrong');
is(ref $r ? $r->{status} : $r, 502, 'the certificate is of another name');
is(passed('GET', '/v2/wrong/tags/list'), 502, 'also what is passed');

# it moves

$t->dns_says('127.0.0.2 1');
ok(soon(sub { my $r = pull(); !ref $r && $r eq 'two' }), 'moved: pulls');
is(pull(), 'two', 'moved: for good') for 1 .. 3;
ok(soon(sub { passed('GET', '/v2/m/tags/list') eq 'two' }), 'moved: a list');
is(passed('GET', '/token'), 'two', 'moved: the token service');
is(passed('POST', '/v2/m/blobs/uploads/'), 'two', 'moved: a push');
is(pull('local'), 'two', 'another location has the literal name: pulls');
is(passed('GET', '/v2/local/tags/list'), 'two', 'also what is passed');

# the DNS dies: what worked goes on

my $end;
for my $how (qw/ servfail silent /) {
    $t->dns_says('127.0.0.2 1');
    my $again = qr/is resolved again/;
    my $before = logged($again);
    soon(sub { pull(); logged($again) > $before }) if $how eq 'silent';

    $t->dns_says($how);
    my $said = logged(qr/used at its last addresses/);
    my @r;
    ok(soon(sub {
        $r = pull();
        push @r, $r unless !ref $r && $r eq 'two';
        return logged(qr/used at its last addresses/) > $said;
    }), "$how: that is said");
    push @r, grep { ref $_ || $_ ne 'two' } map { pull() } 1 .. 5;
    is(scalar @r, 0, "$how: pulls go on");
}
is(logged(qr/\[warn\].*"moving\.test" could not be resolved .*"demo" is/), 2,
    'said once each time');

# and follows again

$t->dns_says('127.0.0.1 1');
ok(soon(sub { my $r = pull(); !ref $r && $r eq 'one' }), 'follows again');

# no such name: that is an answer

$t->dns_says('nxdomain');
ok(soon(sub { ref pull() }), 'the name is gone');

$t->done();
