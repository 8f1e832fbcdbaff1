#!/usr/bin/perl

# What oci-policy writes to Redis is what an edge decides by: from an empty
# Redis on, when a subject is disabled, when a digest is in quarantine, and
# after Redis was flushed.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Command;

plan(skip_all => 'oci-policy is not built, see "make commands"')
    unless -x $Command::BINARY;
OCI->skip_all_unless('redis-server');

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $blob = $t->random_blob(10000);
my $digest = $t->digest($blob);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    return $t->reply_blob($c, $q, $blob);
});

my (undef, $socket) = Command::redis($t);
my @source = ('--source', "unix:$socket");
my %alice = Policy::basic('alice', 'canary-alice');
my %bob = Policy::basic('bob', 'canary-bob');

my $doc = {
    version => 1,
    subjects => { map { $_ => { secret => Policy::phc("canary-$_") } }
        qw/ alice bob / },
    grants => { guests => { role => 'guest', subjects => ['alice', 'bob'],
        repositories => ['llm/**'] } },
};

sub policy {
    my $r = Command::policy($t, @source, @_);
    is($r->{rc}, 0, "oci-policy $_[0]") or diag $r->{err};
    return $r;
}

sub pull { return $t->get("/v2/llm/a/blobs/$digest", { @_ })->{status} }

# all workers have it: each connection may be another one's

sub becomes {
    my ($status, $name, @who) = @_;
    ok(until_true(20, sub { 8 == grep { pull(@who) == $status } 1 .. 8 }),
        $name);
}

$t->write_file('doc.json', Policy::json($doc), 0600);
policy('import', "$d/doc.json");
mkdir "$d/state";
chmod 0700, "$d/state";

$t->conf(http => <<EOC, location => <<'EOL');
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source unix:$socket;
    state_file $d/state/team;
    zone team:1m;
    identity basic;
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
EOL

$t->start();

becomes(200, 'who may, does', %alice);

policy('disable', 'alice');
becomes(401, 'who is disabled does not', %alice);
is(pull(%bob), 200, 'others do');
policy('enable', 'alice');
becomes(200, 'who is enabled does', %alice);

policy('secret', 'alice', { in => "canary-new\n" });
becomes(401, 'another secret takes the place of the old one', %alice);
becomes(200, 'and counts', Policy::basic('alice', 'canary-new'));

Command::cli($socket, 'FLUSHALL');
policy('import', "$d/doc.json");
becomes(200, 'what is imported after Redis was flushed counts', %alice);

delete $doc->{subjects}{bob};
$doc->{grants}{guests}{subjects} = ['alice'];
policy('import', '-', { in => Policy::json($doc) });
becomes(401, 'who is not in it any more does not', %bob);

$t->done();
