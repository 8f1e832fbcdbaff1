#!/usr/bin/perl

# Workers are killed while clients pull, push, ask and are refused: whoever
# got a byte of an answer has a record, and the log is whole.
#
# AUDIT=full: 100,000 requests and 20 kills ("make audit"), else fewer.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use Audit;
use OCI;
use Policy;

Audit::need();

my $full = ($ENV{AUDIT} // '') eq 'full';
my ($requests, $kills, $clients) = $full ? (100_000, 20, 4) : (3000, 4, 3);

my $t = OCI->new(workers => 3);
my $d = $t->{dir};
my $log = "$d/audit.log";
my $key = Audit::key($t);

my $blob = $t->random_blob(4096);
my $digest = $t->digest($blob);
my $large = 'x' x 20_000_000;
my $large_digest = $t->digest($large);
my $manifest = '{"schemaVersion":2}';

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $large)
        if $q->{uri} =~ m!/blobs/\Q$large_digest!;
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ m!/blobs/sha!;
    return $t->reply($c, $q, 202, { Location => '/v2/x/blobs/uploads/1' })
        if $q->{method} =~ /^(POST|DELETE)$/;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($manifest) }, $manifest);
}, quiet => 1);

$t->write_file('robot', "robot:robot-secret\n", 0600);
Policy::write_doc($t, {
    version => 1,
    subjects => { alice => { secret => Policy::phc('canary-secret') } },
    grants => { all => { role => 'projectAdmin', subjects => ['alice'],
        repositories => ['**'] } },
});

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
EOC
location /v2/ {
    oci_pass demo; oci_cache models; oci_access team;
    oci_audit_log $log chain key=$key;
}
EOL
$t->allow(qr/worker process \d+ exited on signal 9/,
    qr/shared memory zone "\S+" was locked by/,
    qr/oci cache zone ".*" was left damaged/);
$t->start();

my %basic = Policy::basic('alice', 'canary-secret');

# all workers are killed in the middle of answers

my @open = map {
    my $s = $t->connect();
    $t->send_request($s, 'GET', "/v2/open-$_/x/blobs/$large_digest", {%basic});
    [$s, $t->read_header($s)];
} 1 .. 12;
is(scalar(grep { $_->[1]{status} == 200 } @open), 12, 'answers begin');
my @workers = $t->workers();
kill 'KILL', @workers;
ok(until_true(sub { my %old = map { $_ => 1 } @workers;
    3 == grep { !$old{$_} } $t->workers() }), 'all workers are killed');
is(scalar(grep { my $n = $_; Audit::grep_records($log, event => 'intent',
    repository => "open-$n/x") } 1 .. 12), 12, 'each answer has its record');
@open = ();

# one client: what it asked for, of which a byte came

sub client {
    my ($me) = @_;
    my ($s, $used) = (undef, 0);
    my @got;

    for my $n (1 .. $requests / $clients) {
        my $repo = "c$me-$n/x";
        my $kind = int rand 8;
        my ($method, $uri, $h) = ('GET', "/v2/$repo/blobs/$digest", {%basic});

        $h->{Range} = sprintf 'bytes=%d-%d', 100, 199 if $kind == 0;
        $method = 'HEAD' if $kind == 1;
        $uri = "/v2/$repo/manifests/v1" if $kind == 2;
        $uri = "/v2/$repo/tags/list" if $kind == 3;
        $h = {} if $kind == 4;
        ($method, $uri) = ('POST', "/v2/$repo/blobs/uploads/") if $kind == 5;
        ($method, $uri) = ('DELETE', "/v2/$repo/manifests/v1") if $kind == 6;

        if (!$s || ++$used % 50 == 0) {
            $s = undef;
            $s = eval { $t->connect() } or do { sleep 0.05; next };
        }

        $t->send_request($s, $method, $uri, $h,
            $method eq 'POST' ? '' : undef);

        # the first byte is enough

        my $r = $t->read_header($s);
        if (!$r->{status}) {
            close $s;
            $s = undef;
            next;
        }
        push @got, $repo;
        $t->read_body($s, $r, $method);
        if ($r->{cut} || ($r->{h}{connection} // '') eq 'close') {
            close $s;
            $s = undef;
        }
    }

    return join "\n", @got;
}

# the killer goes on until the clients are done

my $parent = $$;
my @rotated;
my $killer = fork() // die $!;

if ($killer == 0) {
    my $killed = 0;
    for my $k (1 .. $kills) {
        my $size = -s $log;
        last if !until_true(120, sub {
            (-s $log // 0) > ($size // 0) + ($full ? 2_000_000 : 200_000)
            || getppid() != $parent });
        my @w = $t->workers();
        kill 'KILL', $w[rand @w];
        $killed++;
        until_true(10, sub { my %old = map { $_ => 1 } @w;
            grep { !$old{$_} } $t->workers() });
    }
    $t->write_file('killed', $killed);
    POSIX::_exit(0);
}

my @got = map { split /\n/ } $t->parallel($clients, \&client);

waitpid $killer, 0;
$t->stop();

is($t->read_file('killed'), $kills, "$kills workers were killed");
cmp_ok(scalar(@got), '>', $requests * 0.9, scalar(@got) . ' were answered');

my (%recorded, %event);
open my $f, '<', $log or die $!;
while (<$f>) {
    $event{$1}++ if /"event":"(\w+)"/;
    $recorded{$1} = 1 if /"event":"(?:intent|deny)".*?"repository":"([^"]+)"/;
}
close $f;

my @without = grep { !$recorded{$_} } @got;
is(scalar(@without), 0, 'each has its record') or diag("@without[0 .. 3]");
cmp_ok($event{deny}, '>', 0, 'denials too');
cmp_ok($event{gap} // 0, '>=', $kills - 1, 'gaps are known');

my ($rc, $out) = Audit::verify('-c', '-k', "$d/audit.pub", $log);
is($rc, 0, 'the log is whole') or diag($out);
diag($out) if $full;

$t->done();
