#!/usr/bin/perl

# A thread of a pool may still be ending when exit() has its process's OpenSSL
# torn down, and what that has for the thread is freed by both: workers died
# of it.  No thread has anything by then, whatever it did.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha512_hex /;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use Audit;
use Notify;
use OCI;
use Policy;

my $library = dirname(__FILE__) . '/../build/faults/ended.so';
plan(skip_all => 'not built, see "make preloads"') unless -f $library;
plan(skip_all => 'not with sanitizers') if $OCI::ASAN;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my @blobs = map { $t->random_blob(300_000) } 1 .. 2;
my @digests = ($t->digest($blobs[0]), 'sha512:' . sha512_hex($blobs[1]));
my $manifest = encode_json({ schemaVersion => 2,
    mediaType => $OCI::TYPE{manifest}, layers => [map { {
        mediaType => 'application/y', size => length $blobs[$_],
        digest => $digests[$_] } } 0, 1] });

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    for my $i (0, 1) {
        return $t->reply_blob($c, $q, $blobs[$i])
            if $q->{uri} =~ m!/blobs/\Q$digests[$i]!;
    }
    return $t->reply($c, $q, 201, {}) if $q->{method} eq 'PUT';
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($manifest) }, $manifest);
}, quiet => 1);
my $receiver = Notify::receiver($t);

$t->write_file('robot', "robot:robot-secret\n", 0600);
$t->write_file('signs', "notify-secret\n", 0600);
Policy::write_doc($t, {
    version => 1,
    subjects => { alice => { secret => Policy::phc('alice-secret') } },
    roles => { operator => ['preheat'] },
    grants => { ops => { role => 'operator', subjects => ['alice'],
        repositories => ['**'] }, all => { role => 'projectAdmin', subjects => ['alice'],
        repositories => ['**'] } },
});
mkdir "$d/jobs", 0700;
my $key = Audit::key($t);

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$port;
    credentials file $d/robot;
}
oci_policy team {
    source file:$d/policy.json;
    zone team:1m;
    identity basic;
}
oci_notify pull http://127.0.0.1:$receiver/ queue=$d/queue secret=$d/signs;
EOC
location /v2/ {
    oci_pass demo; oci_cache models; oci_access team; oci_push both;
    oci_audit_log $d/audit.log chain key=$key;
}
location /p2p/ {
    oci_preheat registry=demo state=$d/jobs; oci_access team;
}
EOL

my $ended = $t->write_file('ended', '');

{
    local $ENV{LD_PRELOAD} = $library;
    local $ENV{ENDED_LOG} = $ended;
    local $ENV{ENDED_LIBRARY} = 'libcrypto';
    $t->start();
}

my %basic = Policy::basic('alice', 'alice-secret');
my $serial = 0;

sub work {
    my ($what) = @_;
    my $repository = 'llm/m' . ++$serial;

    my $r = $t->http($t->{edge}, 'POST', '/p2p/jobs', { %basic,
        'Content-Type' => 'application/json' },
        encode_json({ ref => "$repository:v1" }));
    is($r->{status}, 202, "$what: a job");
    my $job = decode_json($r->{body});
    ok(until_true(sub { decode_json($t->get("/p2p/jobs/$job->{id}",
        {%basic})->{body})->{state} eq 'success' }), 'succeeds');

    for (1 .. 8) {
        is($t->get("/v2/$repository/manifests/v1", { %basic,
            Accept => $OCI::TYPE{manifest} })->{status}, 200, 'a manifest');
        is($t->get("/v2/$repository/blobs/$_", {%basic})->{status}, 200,
            'a blob') for @digests;
    }

    my $blob = $t->random_blob(100_000);
    is($t->http($t->{edge}, 'PUT', "/v2/$repository/blobs/uploads/u?digest="
        . $t->digest($blob), {%basic}, $blob)->{status}, 201, 'a push');
    ok(until_true(sub { Notify::received($t) }), 'an event');
    unlink "$d/received";
}

for my $round (1 .. 2) {
    work("round $round");
    my @old = $t->workers();
    $t->signal('HUP');
    ok(until_true(sub { my %n = map { $_ => 1 } $t->workers();
        $t->workers() == 2 && !grep { $n{$_} } @old }), 'a reload');
    ok(until_true(sub { !grep { kill 0, $_ } @old }), 'they have ended');
}

work('at last');
$t->stop();

is(length($t->read_file('ended')), 0, 'no thread had anything');

$t->done();
