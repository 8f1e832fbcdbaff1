#!/usr/bin/perl

# What "nginx -t" refuses of a policy whose document a Redis has.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

my $t = OCI->new();
my $d = $t->{dir};

$t->certificate('redis.test');
$t->write_file('password', "secret\n", 0600);
$t->write_file('open', "secret\n", 0644);
$t->write_file('empty', "\nsecret\n", 0600);
$t->write_file('long', 'x' x 600, 0600);
Policy::write_doc($t, { version => 1 });

sub check {
    my ($lines, $http) = @_;
    my $modules = $t->modules();
    return $t->check(<<EOC);
$modules
events { }
http {
    access_log off;
    @{[ $http // '' ]}
    oci_policy p {
        $lines
        zone p:1m; identity basic;
    }
}
EOC
}

my $ok = 'state_file off; source redis://127.0.0.1';

for my $c (
    "$ok;", "$ok:6380;", "$ok:6380/5;", "$ok/0;",
    'source unix:/run/redis.sock; state_file state/x;',
    'source redis://unix:/run/redis.sock; state_file state/x;',
    'source redis://[::1]:6379; state_file off;',
    "$ok; user u; password_file $d/password; prefix a/b; poll 100ms;"
        . ' stale 0; connect_timeout 1s; timeout 10s;',
    "source rediss://127.0.0.1; state_file off;"
        . " trusted_certificate $d/ca.pem; ssl_name redis.test;"
        . " certificate $d/redis.test.pem;"
        . " certificate_key $d/redis.test.key;",
    'source rediss://127.0.0.1; state_file off; ssl_verify off;',
) {
    my ($rc, $out) = check($c);
    is($rc, 0, "valid: $c") or diag($out);
}

for my $c (
    ['source redis://redis.test; state_file off;', 'resolver 127.0.0.1;'],
) {
    my ($rc, $out) = check(@$c);
    is($rc, 0, "valid: $c->[0]") or diag($out);
}

for my $c (
    ['source redis://; state_file off;', qr/invalid source "redis:\/\/"/],
    ['source http://x/; state_file off;', qr/invalid source/],
    ['source x; state_file off;', qr/"resolver" is required in "http"/],
    ['source redis://x; state_file off;', qr/"resolver" is required in "http", for oci_policy "p" in \S+check\.conf:9/],
    ['source redis://127.0.0.1:0; state_file off;', qr/invalid source/],
    ['source redis://127.0.0.1:99999; state_file off;', qr/invalid source/],
    ['source redis://127.0.0.1/x; state_file off;', qr/invalid source/],
    ['source redis://127.0.0.1/; state_file off;', qr/invalid source/],
    ['source redis://127.0.0.1/1/2; state_file off;', qr/invalid source/],
    ['source redis://127.0.0.1/1000000; state_file off;', qr/invalid source/],
    ['source redis://me:canary@127.0.0.1; state_file off;',
        qr/has no user and no password, see "user"/],
    ['source redis://127.0.0.1;', qr/no "state_file" in oci_policy "p"/],
    ["$ok; user u;", qr/"user" without "password_file"/],
    ["$ok; password_file $d/nothing;", qr/open\(\) ".*nothing" failed/],
    ["$ok; password_file $d/open;", qr/open" is open to everyone/],
    ["$ok; password_file $d/empty;", qr/no password in the first line/],
    ["$ok; password_file $d/long;", qr/no password in the first line/],
    ["$ok; password_file $d;", qr/no password in the first line|open to/],
    ["$ok; prefix '';", qr/invalid prefix ""/],
    ["$ok; prefix 'a b';", qr/invalid prefix "a b"/],
    ["$ok; prefix 'a}b';", qr/invalid prefix/],
    ["$ok; prefix " . 'x' x 65 . ';', qr/invalid prefix/],
    ["$ok; user 'a b'; password_file $d/password;", qr/invalid user/],
    ["$ok; poll 99ms;", qr/invalid poll "99ms", it must be a time from 100ms to 60s/],
    ["$ok; poll 61s;", qr/invalid poll/],
    ["$ok; poll x;", qr/invalid poll/],
    ["$ok; stale 31d;", qr/invalid stale/],
    ["$ok; timeout 0;", qr/invalid timeout/],
    ["$ok; connect_timeout 2m;", qr/invalid connect_timeout/],
    ["$ok; state_file x;", qr/"state_file" parameter is duplicate/],
    ["$ok; poll 1s 2s;", qr/invalid number of arguments in "poll"/],
    ["$ok; trusted_certificate $d/ca.pem;", qr/TLS without "rediss:\/\/"/],
    ["$ok; ssl_name x;", qr/TLS without "rediss:\/\/"/],
    ['source rediss://127.0.0.1; state_file off; ssl_verify maybe;',
        qr/invalid ssl_verify "maybe"/],
    ["source rediss://127.0.0.1; state_file off; certificate $d/ca.pem;",
        qr/"certificate" without "certificate_key"/],
    ["source rediss://127.0.0.1; state_file off; certificate_key $d/ca.key;",
        qr/"certificate_key" without "certificate"/],
    ['source rediss://127.0.0.1; state_file off; trusted_certificate no.pem;',
        qr/invalid TLS parameters of oci_policy "p"/],
    ["source file:$d/policy.json; poll 1s;",
        qr/"poll" in oci_policy "p" is for a source in Redis/],
    ["source file:$d/policy.json; state_file x;",
        qr/"state_file" in oci_policy "p" is for a source in Redis/],
    ['source file:;', qr/invalid source "file:"/],
) {
    my ($rc, $out) = check($c->[0]);
    is($rc, 1, "refused: $c->[0]");
    like($out, $c->[1], 'why');
    like($out, qr/check\.conf:\d+/, 'where');
    unlike($out, qr/canary/, 'without a secret');
}

my ($rc, $out) = check('source redis://127.0.0.1; state_file x;', <<EOC);
    oci_policy q {
        source redis://127.0.0.2; state_file x; zone q:1m; identity basic;
    }
EOC
is($rc, 1, 'refused: one state_file for two');
like($out, qr/the state_file ".*x" of oci_policy "q" is that of oci_policy "p", too, in \S+check\.conf:12/, 'why, and where');

$t->done();
