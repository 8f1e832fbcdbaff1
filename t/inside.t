#!/usr/bin/perl

# Names that are allowed for realms and redirects, of whoever runs their DNS:
# they don't lead to addresses of this host and of private networks that nobody
# configured.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $blob = $t->random_blob(100000);
my $digest = $t->digest($blob);
my $secret = 'INTERNAL ' . 's' x 500;

# what is inside: it has the blob, and all else is secret

my $inside = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ /blob/;
    return $t->reply($c, $q, 200, {}, '{"token":"t"}')
        if $q->{uri} =~ /token/;
    return $t->reply($c, $q, 200, {}, $secret);
});

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($kind, $name) = $q->{uri} =~ m!^/v2/([a-z]+)/([a-z0-9]+)/!;
    my $auth = $q->{h}{authorization} // '';

    return $t->reply_blob($c, $q, $blob)
        if $kind && $kind eq 'realm' && $auth eq 'Bearer t';
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' => 'Bearer realm='
        . qq("http://auth.test:$inside/token",service="x",scope="y") }, '{}')
        if !$kind || $kind eq 'realm';
    return $t->reply($c, $q, 307,
        { Location => "http://$name.test:$inside/$kind" }, '');
}, quiet => 1);

my $dns = $t->dns();

# one of a public registry's servers is down

my %registry = map { ($_ => 'url http://127.0.0.1:' . $port . ';') }
    qw/ near far allowed none own realm open /;
$registry{far} = 'url http://public; connect_timeout 1s;';
$registry{allowed} .= ' address_allow 10.0.0.0/8 127.0.0.0/8;';
$registry{none} .= ' address_allow 127.0.0.2 10.0.0.0/8;';
$registry{own} .= ' host own.test:1;';
$registry{near} .= ' connect_timeout 200ms;';
$registry{realm} .= ' realm_allow auth.test; credentials anonymous;';
$registry{open} .= ' realm_allow auth.test; credentials anonymous;'
    . ' address_allow 127.0.0.1;';

# a name is asked for once

my $names = join "\n", map { "redirect_allow n$_.test;" } 1 .. 30;

$t->conf(http => <<EOC, location => <<EOL);
resolver 127.0.0.1:$dns;
resolver_timeout 2s;
upstream public { server 127.0.0.1:$port; server 203.0.113.1:80 down; }
${\ join "\n", map { "oci_registry $_ { $registry{$_}"
    . " redirect_allow own.test; $names }" } sort keys %registry }
map \$arg_r \$registry { ~. \$arg_r; default near; }
EOC
location /v2/ { oci_pass \$registry; oci_cache models; oci_access open; }
location = /token/realm { oci_token realm; }
location = /token/open { oci_token open; }
EOL

$t->write_file('dns.says', 'servfail');
$t->start();

sub said { return $t->read_file('error.log') =~ $_[0] }

sub visits { return scalar $t->requests(0) }

my $n = 0;

sub pull {
    my ($r, $address, $kind) = @_;
    my $name = $r eq 'own' ? 'own' : 'n' . ++$n;
    $t->dns_says("$address 3600");
    $t->forget_requests(0);
    return $t->get("/v2/${\ ($kind // 'blob') }/$name/blobs/$digest?r=$r",
        { Range => 'bytes=0-99' });
}

sub refused {
    my ($r, $address, $why) = @_;
    my $answer = pull($r, $address);
    my ($name, $q) = ($why // $address, quotemeta $address);
    is($answer->{status}, 307, "$name: left to the client");
    is(visits(), 0, "$name: not called");
    ok(said(qr/\[error\].*"n$n\.test" is $q, which is not used without /),
        "$name: said");
}

refused('near', $_) for qw/ 127.0.0.1 127.8.9.1 0.0.0.0 169.254.169.254
    255.255.255.255 ::1 ::ffff:127.0.0.1 fe80::1 64:ff9b::a9fe:a9fe /;
refused('far', $_) for qw/ 127.0.0.1 10.1.2.3 172.31.0.1 192.168.0.1
    100.64.0.1 fd00::1 ::ffff:10.1.2.3 /;
refused('none', '127.0.0.1', 'another one is allowed');

# what is configured

my $r = pull('allowed', '127.0.0.1');
is($r->{status}, 206, 'address_allow');
is($r->{body}, substr($blob, 0, 100), 'the bytes');
ok(visits() > 0, 'called');

$r = pull('own', '127.0.0.1');
is($r->{status}, 206, 'the registry\'s own name and address');

# a private registry's store is private; nobody is there

pull('near', '10.255.255.1');
ok(!said(qr/"n$n\.test" is/), 'a private registry\'s store');

# realms

$r = pull('realm', '127.0.0.1', 'realm');
isnt($r->{status}, 206, 'a realm');
is(visits(), 0, 'is not called');
ok(said(qr/"auth\.test" is 127\.0\.0\.1, which is not/), 'said');
$r = pull('open', '127.0.0.1', 'realm');
is($r->{status}, 206, 'a realm that is allowed');

# the same by oci_token, whether the resolver knows the name or not

for my $dir ('knows', 'asks') {
    if ($dir eq 'asks') {
        $t->stop();
        $t->start();
    }
    $t->forget_requests(0);
    $r = $t->get('/token/realm?service=x');
    is($r->{status}, 502, "oci_token $dir: refused");
    is(visits(), 0, 'is not called');
    $r = $t->get('/token/open?service=x');
    is($r->{body}, '{"token":"t"}', 'allowed');
    is(($t->requests(0))[0]{h}{host}, "auth.test:$inside", 'its name');
}

# a client that leaves meanwhile

$t->stop();
$t->dns_says('silent');
$t->start();
my $s = $t->connect();
$t->send_request($s, 'GET', '/token/open?service=x');
select undef, undef, undef, 0.3;
close $s;
is($t->get('/token/open?service=y')->{status}, 504, 'nobody answers');

$t->done();
