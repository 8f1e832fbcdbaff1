#!/usr/bin/perl

# Clients ask for /v2/ before anything else: while the registry can't be asked
# they are told what it said last, and come to what the cache has.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

$t->{edge} = OCI::port();

# of one process each, which can be ended: /v2/ and what it says

my %says = (
    plain => [200, {}],
    basic => [401, { 'WWW-Authenticate' => 'Basic realm="a registry"' }],
    bearer => [401, { 'WWW-Authenticate' =>
        'Bearer realm="http://HOST/token",service="s"' }],
    two => [401, { 'WWW-Authenticate' =>
        "Basic realm=\"r\"\r\nWWW-Authenticate: Bearer realm=\"x\"" }],
    long => [401, { 'WWW-Authenticate' => 'Basic realm="'
        . 'x' x 600 . '"' }],
    off => [200, {}], short => [200, {}], nocache => [200, {}],
    slow => [200, {}], stored => [200, {}],
);
my @names = sort keys %says;
my (%port, %upstream);

sub up {
    my ($name) = @_;
    my %before = %{$t->{pids}};
    my %o = $port{$name} ? (port => $port{$name}) : ();
    $port{$name} = $t->upstream(sub {
        my ($c, $q) = @_;
        my ($status, $h) = @{$says{$name}};
        my %h = map { my $v = $h->{$_}; $v =~ s/HOST/$q->{h}{host}/;
            ($_ => $v) } keys %$h;
        return 0 if -e "$d/dead.$name";
        if (-e "$d/hang.$name") { sleep 5; return 0; }
        return $t->reply($c, $q, 503, {}, 'busy') if -e "$d/busy.$name";
        return $t->reply($c, $q, 404) if $q->{uri} ne '/v2/';
        return $t->reply($c, $q, 200, {}, '{}') if $q->{h}{authorization};
        return $t->reply($c, $q, $status, \%h, '{"from":"registry"}');
    }, %o);
    ($upstream{$name}) = grep { !$before{$_} } keys %{$t->{pids}};
}

for my $name (@names) { up($name) }
$t->write_file('secret', "robot:canary-robot\n");
chmod 0600, "$d/secret";

my $ports = join ' ', map { "$_ $port{$_}" } @names;
my %more = (stored => "credentials file $d/secret;",
    slow => 'stall_timeout 1s;');
my $registries = join "\n", map {
    "oci_registry $_ { url http://127.0.0.1:$port{$_};"
    . ($more{$_} // '') . ' }' } @names;
my $servers = join "\n", map {
    my $cache = $_ eq 'nocache' ? '' : 'oci_cache models;';
    my $stale = $_ eq 'off' ? 'oci_cache_use_stale off;'
        : $_ eq 'short' ? 'oci_cache_use_stale error max=1s;' : '';
    my $access = $_ eq 'stored' ? 'oci_access open;' : '';
    <<EOC } @names;
server {
    listen 127.0.0.1:$t->{edge};
    server_name $_.test;
    location /v2/ { oci_pass $_; $cache $stale $access }
    location = /login { oci_token $_; }
}
EOC

$t->conf(http => <<EOC);
$registries
log_format cache '\$host \$request_method \$uri \$status \$oci_cache_status';
access_log $d/seen.log cache;
oci_registry demo { url http://127.0.0.1:$port{plain}; }
$servers
EOC
$t->start();

sub ask {
    my ($name, %h) = @_;
    return $t->http($t->{edge}, $h{method} // 'GET', '/v2/', { Host => "$name.test",
        $h{a} ? (Authorization => $h{a}) : () });
}

sub text {
    my ($r) = @_;
    return join ' ', $r->{status}, $r->{h}{'www-authenticate'} // ();
}

my %first = map { $_ => text(ask($_)) } @names;
is($first{plain}, '200', 'no login');
is($first{basic}, '401 Basic realm="a registry"', 'Basic');
like($first{bearer}, qr!^401 Bearer realm="http://bearer.test/login",!,
    'a token service at the edge');
is($first{stored}, '200', 'credentials of its own');

# all of them go

$t->stop_one($upstream{$_}) for @names;

for my $round ('at once', 'while the breaker is open') {
    for my $name (qw/ plain basic bearer stored /) {
        my $r = ask($name);
        is(text($r), $first{$name}, "$name is down: $round");
        is($r->{body}, '', "$name is down: no body, $round");
    }
    for my $name (qw/ two long off nocache /) {
        my $r = ask($name);
        like($r->{status}, qr/^50[234]$/, "$name is down: an error, $round");
        like($r->{body}, qr/"errors"|50[24]/, "$name is down: "
            . "its text, $round");
    }
    like(ask('basic', a => 'Basic dTpw')->{status}, qr/^50[23]$/,
        "who brings something of his own gets an error, $round");
    is(text(ask('stored', a => 'Basic dTpw')), '200',
        "which counts nothing under the edge's own, $round");
    is(text(ask('plain', method => 'HEAD')), '200', "HEAD, $round");

    # until the breaker is open

    next if $round ne 'at once';
    for my $name (@names) {
        ask($name, a => 'Basic dTpw') for 1 .. 8;
    }
}

sleep 2.1;
like(ask('short')->{status}, qr/^50[23]$/, 'too old');

like($t->read_file('seen.log'), qr!plain\.test GET /v2/ 200 STALE!, 'logged');

# a reload forgets nothing

my %old = map { $_ => 1 } $t->workers();
$t->signal('HUP');
until_true(sub { (grep { !$old{$_} } $t->workers()) == 2 });
is(text(ask('basic')), $first{basic}, 'after a reload');

# they are back, and say something else

$says{basic} = [401, { 'WWW-Authenticate' => 'Basic realm="new"' }];
for my $name (qw/ basic slow plain /) { up($name) }
ok(until_true(sub { text(ask('basic')) eq '401 Basic realm="new"' }),
    'it is back');
ok(until_true(sub { ask('plain')->{body} eq '{"from":"registry"}' }),
    'another one');
ok(until_true(sub { ask('slow')->{body} eq '{"from":"registry"}' }),
    'a slow one');

# what the registry says is not always an answer

$t->write_file('dead.basic', '');
is(text(ask('basic')), '401 Basic realm="new"', 'it says nothing');
$t->write_file('busy.plain', '');
my $r = ask('plain');
is($r->{status}, 200, 'it is busy');
is($r->{body}, '', 'it is busy: without its text');
$t->write_file('hang.slow', '');
is(ask('slow')->{status}, 200, 'it hangs');

$t->done();
