#!/usr/bin/perl

# Who may push to one repository takes nothing from others: a flood of tags in
# the arguments of a push costs the edge little, and does not push what is
# known of other repositories out of the zone.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1, zone => '1m');
my $d = $t->{dir};
my $blob = $t->random_blob(1000);
my $digest = $t->digest($blob);
my $m = '{"schemaVersion":2}';

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return 0 if -e "$d/down";
    return $t->reply($c, $q, 201, {}, '') if $q->{method} eq 'PUT';
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($m) }, $m)
        if $q->{uri} =~ /manifests/;
    return $t->reply_blob($c, $q, $blob);
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }");
$t->start();

my $alice = { Authorization => 'Basic YWxpY2U6YQ==' };
my $mallory = { Authorization => 'Basic bWFsbG9yeTpt' };
my $n = 0;

sub put {
    my ($tags) = @_;
    my $args = join '&', map { sprintf 'tag=t%x', $n++ } 1 .. $tags;
    my $r = $t->http($t->{edge}, 'PUT',
        '/v2/mallory/x/manifests/sha256:' . 'a' x 64 . "?$args", $mallory,
        '{}');
    return $r->{status} == 201;
}

is($t->get("/v2/team/a/blobs/$digest", $alice)->{body}, $blob, 'stored');
is($t->get("/v2/team/a/manifests/v1", $alice)->{body}, $m, 'a tag');

# by hundreds, and a few at once

my $refused = 0;
for (1 .. 30) { $refused += !put(800) }
for (1 .. 500) { $refused += !put(8) }
is($refused, 0, "pushes with $n tags");

$t->write_file('down', '');

my $r = $t->get("/v2/team/a/blobs/$digest", $alice);
is($r->{body}, $blob, "another's blob while the registry is down");
like($r->{h}{'cache-status'} // 'none', qr/hit/, 'a hit');

$t->done();
