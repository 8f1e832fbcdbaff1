#!/usr/bin/perl

# Jobs of people and scripts: they can be watched, listed by pages, and ended
# without harm to who reads the same.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $slice = 1024 * 1024;
my $size = 24 * $slice + 4711;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my $type = 'application/vnd.oci.image.manifest.v1+json';
my $manifest = encode_json({ schemaVersion => 2, mediaType => $type,
    layers => [{ mediaType => 'application/y', size => $size,
        digest => $digest }] });
my $mdigest = $t->digest($manifest);

# some 5 MB/s

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($what, $ref) = $q->{uri} =~ m!/v2/m/a/(\w+)/(\S+)!
        or return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply($c, $q, 500, {}, '{}')
        if ($t->read_file('state') // '') eq 'down';
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $mdigest }, $manifest)
        if $what eq 'manifests' && $ref =~ /^(v1|$mdigest)$/;
    return $t->reply($c, $q, 404, {}, '{}') if $ref ne $digest;
    return $t->reply_slowly($c, $q, $blob, 0.05);
});

$t->conf(http => <<EOC, cache_args => 'slice=1m', location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
EOC
location /v2/ {
    oci_pass demo; oci_access open; oci_cache models; oci_fill_connections 2;
}
location /p2p/ { oci_preheat registry=demo open referrers=off jobs=64; }
EOL

sub call {
    my ($method, $path, $body) = @_;
    my $r = $t->http($t->{edge}, $method, "/p2p$path",
        { 'Content-Type' => 'application/json' },
        $body ? encode_json($body) : undef);
    return ($r->{status}, eval { decode_json($r->{body}) }, $r);
}

sub create {
    my ($ref) = @_;
    my ($status, $job) = call('POST', '/jobs', { ref => $ref // 'm/a:v1' });
    return $job->{id};
}

sub watch {
    my ($id, $timeout) = @_;
    my $r = $t->get("/p2p/jobs/$id?watch=1", undef, $timeout);
    return ($r, map { decode_json($_) } split /\n/, $r->{body});
}

sub fresh {
    $t->stop() if $t->{pids}{nginx};
    system("rm -rf $d/cache");
    unlink "$d/sent", "$d/state";
    $t->start();
}


fresh();

# a line for each change, until the end

my $id = create();
my $begin = time();
my ($r, @lines) = watch($id);
my $seconds = time() - $begin;
is($r->{status}, 200, 'watched');
is($r->{h}{'content-type'}, 'application/x-ndjson', 'lines');
ok(!$r->{cut}, 'to the end');
is($lines[-1]{state}, 'success', 'the last one has the end');
cmp_ok(scalar @lines, '>=', 3, 'several lines');
cmp_ok(scalar @lines, '<=', $seconds + 2, 'one a second');
is_deeply([sort { $a <=> $b } map { $_->{bytes_done} } @lines],
    [map { $_->{bytes_done} } @lines], 'it goes forward');
ok((grep { $_->{bytes_done} > 0 && $_->{bytes_done} < $size } @lines),
    'bytes of a blob that is on its way count');
ok((grep { $_->{rate} > 0 } @lines), 'the rate');
is($lines[-1]{bytes}, $size, 'bytes');
is($lines[-1]{bytes_done}, $size, 'all of them');
is($lines[-1]{slices}, 25, 'slices');
is($lines[-1]{slices_done}, 25, 'all of them');
is($lines[-1]{errors}, 0, 'no errors');
is($lines[-1]{rate}, 0, 'at rest');

# one that is over

($r, @lines) = watch($id);
is(scalar @lines, 1, 'over: a line');
is($lines[0]{state}, 'success', 'over: the end');
is((call('GET', '/jobs/4711?watch=1'))[0], 404, 'none');
is((call('GET', "/jobs/$id?watch=0"))[1]{id}, $id, 'not watched');
$r = $t->head("/p2p/jobs/$id?watch=1");
is($r->{status}, 200, 'HEAD');

# who leaves, who doesn't read, too many

fresh();
$id = create();
my @s = map { my $s = $t->connect();
    $t->send_request($s, 'GET', "/p2p/jobs/$id?watch=1"); $s } 1 .. 129;
my @status = map { $t->read_header($_)->{status} } @s;
my $ok = grep { $_ == 200 } @status;
cmp_ok($ok, '>=', 64, 'many watch');
cmp_ok($ok, '<=', 128, 'but not too many');
is(scalar grep({ $_ == 503 } @status), 129 - $ok, 'the others are told');
close $_ for @s;
ok(until_true(20, sub { (watch($id))[0]{status} == 200 }),
    'there is room when they have left');

# a job that is ended, while a client reads the same

fresh();
my $reader = fork() // die;
if ($reader == 0) {
    my $r = $t->get("/v2/m/a/blobs/$digest", undef, 90);
    $t->write_file('read', $t->digest($r->{body}));
    POSIX::_exit(0);
}
until_true(sub { $t->sent() > 2 * $slice });
$id = create();
until_true(sub { (call('GET', "/jobs/$id"))[1]{bytes_done} > 3 * $slice });
my (undef, $job) = call('DELETE', "/jobs/$id");
is($job->{state}, 'failure', 'ended');
is($job->{error}, 'it was cancelled', 'by whom');
waitpid $reader, 0;
is($t->read_file('read'), $digest, 'who reads the same has all of it');

# and when nobody does, nothing is fetched

fresh();
$id = create();
until_true(sub { $t->sent() > 2 * $slice });
my $watcher = $t->connect();
$t->send_request($watcher, 'GET', "/p2p/jobs/$id?watch=1");
$r = $t->read_header($watcher);
call('DELETE', "/jobs/$id");
$t->read_body($watcher, $r, 'GET', 20);
like($r->{body}, qr/"failure"[^\n]*cancelled[^\n]*\n$/, 'the watcher sees it');
ok(until_true(30, sub { my $n = $t->sent(); sleep 1.5; $n == $t->sent() }),
    'the fill ends');
cmp_ok($t->sent(), '<', $size, 'before its end');

# tries that fail are told

$t->write_file('state', 'down');
$id = create();
ok(until_true(20, sub { (undef, $job) = call('GET', "/jobs/$id");
    $job->{errors} > 0 && $job->{state} eq 'running' }), 'an error is told');
like($job->{error}, qr/\S/, 'and which') or diag(explain($job));
call('DELETE', "/jobs/$id");

# a worker that exits ends it

fresh();
$id = create();
$watcher = $t->connect();
$t->send_request($watcher, 'GET', "/p2p/jobs/$id?watch=1");
$r = $t->read_header($watcher);
my @before = $t->workers();
$t->signal('HUP');
$t->read_body($watcher, $r, 'GET', 20);
ok(!$r->{timeout} && !$r->{cut}, 'a reload ends it well');
ok(until_true(20, sub { my %now = map { $_ => 1 } $t->workers();
    !grep { $now{$_} } @before }), 'the old workers are gone');
is((watch($id, 60))[-1]{state}, 'success', 'the job goes on');

# pages

fresh();
$t->write_file('state', 'down');
my @ids = map { create("m/p$_:x") } 0 .. 149;
my (@seen, $next, $pages);
do {
    my ($status, $list) = call('GET', '/jobs?n=40' . ($next
        ? "&before=$next" : ''));
    is($status, 200, 'a page');
    cmp_ok(scalar @{$list->{jobs}}, '<=', 40, 'of 40');
    push @seen, map { $_->{id} } @{$list->{jobs}};
    $next = $list->{next};
} while ($next && ++$pages < 10);
is_deeply(\@seen, [reverse @ids], 'all of them, the last one first');
my (undef, $list) = call('GET', '/jobs?n=1000');
is(scalar @{$list->{jobs}}, 64, 'a page has a bound');
for my $args (qw/ n=0 n=x before=x /) {
    is((call('GET', "/jobs?$args"))[0], 400, $args);
}

$t->done();
