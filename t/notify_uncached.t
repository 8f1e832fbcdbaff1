#!/usr/bin/perl

# oci_notify without a cache and without a policy: events are told, too.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Notify;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $type = $OCI::TYPE{manifest};
my $m = '{"schemaVersion":2}';

my $upstream = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $t->digest($m) }, $m);
}, quiet => 1);

my $receiver = Notify::receiver($t);

$t->conf(cache => '', http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$upstream; }
oci_notify pull http://127.0.0.1:$receiver/ queue=$d/queue;
EOC
location /v2/ { oci_pass demo; }
EOL
$t->start();

is($t->get('/v2/p/a/manifests/v1', { Accept => $type })->{status}, 200,
    'a pull');
ok(until_true(sub { Notify::received($t) }), 'is told');
is((Notify::names(Notify::received($t)))[0], 'p/a:v1', 'as what it was');

$t->done();
