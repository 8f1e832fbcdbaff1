#!/usr/bin/perl

# The n-th call of a function fails during preheat jobs, webhooks and
# accounting (t/faults/fault.c): nothing breaks or leaks, each job comes to an
# end, and SUCCESS is true.  FAULTS=all tries every n.

use warnings;
use strict;

use Test::More;
use Errno qw/ EIO ENOSPC ENOMEM EMFILE ECONNRESET ECONNREFUSED /;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Fault;

my $all = ($ENV{FAULTS} // '') eq 'all';
my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $fault = Fault->new($t, dir => $d);
my $type = 'application/vnd.oci.image.manifest.v1+json';
my $index = 'application/vnd.oci.image.index.v1+json';

my $json = JSON::PP->new->canonical;

# every tag is a model of its own: an index, two manifests, four blobs

sub blob { return "$_[0] $_[1]\n" x (3000 + $_[1]) }

sub manifest {
    my ($tag, $i) = @_;
    return $json->encode({ schemaVersion => 2, mediaType => $type,
        layers => [map { my $b = blob($tag, 2 * $i + $_);
            { mediaType => 'application/y', size => length $b,
                digest => $t->digest($b) } } 0, 1] });
}

sub index_of {
    my ($tag) = @_;
    return $json->encode({ schemaVersion => 2, mediaType => $index,
        manifests => [map { my $m = manifest($tag, $_);
            { mediaType => $type, size => length $m,
                digest => $t->digest($m) } } 0, 1] });
}

# where a digest leads is known by the tag of its repository

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    my ($tag, $what, $ref) = $q->{uri} =~ m!/v2/m/(\w+)/(\w+)/(\S+)!
        or return $t->reply($c, $q, 404, {}, '{}');
    if ($what eq 'blobs') {
        my ($b) = grep { $t->digest($_) eq $ref }
            map { blob($tag, $_) } 0 .. 3;
        return defined $b ? $t->reply_blob($c, $q, $b)
            : $t->reply($c, $q, 404, {}, '{}');
    }
    return $t->reply($c, $q, 404, {}, '{}') if $what ne 'manifests';
    my $x = index_of($tag);
    my %m = map { $t->digest($_) => $_ } $x, map { manifest($tag, $_) } 0, 1;
    my $m = $ref eq 'v1' ? $x : $m{$ref}
        // return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply($c, $q, 200, { 'Content-Type' => $m eq $x ? $index
        : $type, 'Docker-Content-Digest' => $t->digest($m) }, $m);
}, quiet => 1);

$t->conf(http => <<EOC, cache_args => 'slice=64k', location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_registry counted { url http://127.0.0.1:$port; credentials anonymous; }
EOC
location /v2/ { oci_pass demo; oci_access open; oci_cache models; }
location ~ ^/v2/m/(first/|b|hook) {
    oci_pass counted; oci_access open; oci_cache models;
    oci_pull_accounting 1s;
}
location /p2p/ { oci_preheat registry=demo open state=$d/cache/jobs jobs=8; }
location = /hook { oci_webhook registry=counted open jobs=8; }
location = /stub { stub_status; }
EOL
mkdir "$d/cache";
$fault->start();

sub call {
    my ($method, $path, $body) = @_;
    my $r = $t->http($t->{edge}, $method, $path,
        { 'Content-Type' => 'application/json' },
        $body ? encode_json($body) : undef, 20);
    return ($r->{status}, eval { decode_json($r->{body}) });
}

sub event {
    my ($tag, $n) = @_;
    return { type => 'PUSH_ARTIFACT', occur_at => int(time()),
        event_data => { repository => { repo_full_name => "m/$tag" },
            resources => [{ tag => 'v1' },
                map { { tag => "t$_" } } 1 .. $n // 0] } };
}

# what a pull asks the registry for, past what it is asked for anyway

sub cold {
    my ($tag) = @_;
    my @bad;
    my $mark = $t->upstream_bytes();
    for my $i (0 .. 3) {
        my $b = blob($tag, $i);
        my $r = $t->get("/v2/m/$tag/blobs/" . $t->digest($b));
        push @bad, "blob $i: $r->{status}" if $r->{body} ne $b;
    }
    for my $m (map { manifest($tag, $_) } 0, 1) {
        my $r = $t->get("/v2/m/$tag/manifests/" . $t->digest($m));
        push @bad, "a manifest: $r->{status}" if $r->{body} ne $m;
    }
    my $bytes = $t->upstream_bytes() - $mark;
    push @bad, "$bytes bytes" if $bytes;
    return @bad;
}

sub jobs { return @{(call('GET', '/p2p/jobs'))[1]{jobs} // []} }

# all jobs come to their end; that of this tag

sub ended {
    my ($id) = @_;
    my $job;
    until_true(60, sub {
        (my $status, $job) = call('GET', "/p2p/jobs/$id");
        return $status == 200 && $job->{state} =~ /success|failure/;
    });
    return $job;
}

sub active {
    my ($n) = $t->get('/stub')->{body} =~ /Active connections: (\d+)/;
    return $n;
}

# the first of all

my ($status, $job) = call('POST', '/p2p/jobs', { ref => 'm/zero:v1' });
is(ended($job->{id})->{state}, 'success', 'a job');
is(join(', ', cold('zero')), '', 'which is one');
is((call('POST', '/hook', event('hook')))[0], 200, 'a webhook');
ok(until_true(30, sub { !cold('hook') }), 'which warms');

my $workers = join ' ', $t->workers();
my $n = 0;
my @bad;

my @cases = (
    ['memory', ENOMEM, 40], ['memory', ENOMEM, 12, on => 1],
    ['pair', EMFILE, 7], ['pair', EMFILE, 2, on => 1],
    ['recv', ECONNRESET, 24], ['connect', ECONNREFUSED, 4],
    ['open', EMFILE, 24], ['open', EIO, 2, on => 1],
    ['write', ENOSPC, 8], ['write', EIO, 2, on => 1],
    ['read', EIO, 8], ['rename', EIO, 4], ['unlink', EIO, 3],
    ['stat', EIO, 4], ['lock', EIO, 3],
);

for my $c (@cases) {
    my ($function, $error, $few, %o) = @$c;
    my ($tried, $last, $failed) = (0, 0, 0);
    my $began = @bad;

    for (my $i = 1; $i <= 400; $i += $all ? 1 : 1 + int rand 3) {
        last if !$all && $i > $few;
        my ($a, $b) = ('a' . ++$n, "b$n");

        $fault->arm($function, $i, $error, %o);
        my ($status, $job) = call('POST', '/p2p/jobs', { ref => "m/$a:v1",
            $i % 2 ? (pin => '1d') : () });
        my ($hooked) = call('POST', '/hook', event($b, $i % 3 * 50));
        $t->get('/v2/m/first/manifests/v1', undef, 20) for 1, 2;
        $t->get("/p2p/jobs?n=10", undef, 20);
        until_true($o{on} ? 1 : 2, sub {
            my (undef, $j) = call('GET', "/p2p/jobs/" . ($job->{id} // 0));
            return ($j->{state} // '') =~ /success|failure/ });
        my ($count, $fired) = $fault->disarm();
        $tried++;
        $last = $i if $fired;

        # (jansson can't tell that it had no memory)

        my $memory = $function eq 'memory' ? 422 : 0;
        push @bad, "$function $i: POST $status"
            if $status != 202 && $status < 500 && $status
            && $status != $memory;
        push @bad, "$function $i: hook $hooked"
            if $hooked != 200 && $hooked < 500 && $hooked
            && $hooked != $memory;

        # (what the webhook began asks the registry, too)

        until_true(60, sub {
            !grep { $_->{state} =~ /pending|running/ } jobs() });

        if ($job && $job->{id}) {
            my $end = ended($job->{id});
            $failed += ($end->{state} // '') eq 'failure';
            push @bad, "$function $i: the job is " . ($end->{state} // 'none')
                if ($end->{state} // '') !~ /success|failure/;
            push @bad, map { "$function $i: no success, $_" } cold($a)
                if ($end->{state} // '') eq 'success';
        }
        last if !$fired;
    }

    is(join("\n", @bad[$began .. $#bad]), '', "$function, error $error");
    diag("$function, error $error" . ($o{on} ? ', and all after it' : '')
        . ": $tried tries, up to call $last, $failed jobs failed");
}

ok(until_true(120, sub { !grep { $_->{state} =~ /pending|running/ } jobs() }),
    'all jobs have ended');

# what is taken is what is given back

($status, $job) = call('POST', '/p2p/jobs', { ref => 'm/last:v1' });
is(ended($job->{id})->{state}, 'success', 'a job, afterwards');
is(join(', ', cold('last')), '', 'which is one');
ok(until_true(30, sub { active() == 1 }), 'no connection stays')
    or diag(active());
ok(until_true(90, sub { !glob "$d/cache/jobs/*" }), 'no file stays')
    or diag(join ' ', glob "$d/cache/jobs/*");
is(join(' ', $t->workers()), $workers, 'no worker died');

# no connection is left: a job says so, and nothing stays

$t->stop();
my $conf = $t->read_file('nginx.conf');
$conf =~ s/worker_connections 1024/worker_connections 64/;
$t->write_file('nginx.conf', $conf);
$fault->start();

my @held;

# requests that wait for their last line: an idle connection would be closed

sub half {
    my ($method, $uri, $body) = @_;
    my $s = $t->connect();
    syswrite $s, "$method $uri HTTP/1.1\r\nHost: x\r\n" . ($body
        ? 'Content-Length: ' . length($body) . "\r\n" : '');
    return [$s, "\r\n" . ($body // ''), $method];
}

sub whole {
    my ($s, $rest, $method) = @{$_[0]};
    syswrite $s, $rest;
    my $r = $t->read_body($s, $t->read_header($s, 10), $method, 10);
    push @held, $s;
    return eval { decode_json($r->{body}) } // {};
}

my $post = half('POST', '/p2p/jobs', '{"ref":"m/full:v1"}');
my @get = map { half('GET', '/p2p/jobs?n=1') } 1 .. 20;

for (1 .. 60) {
    push @held, my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $t->{edge}) or last;
    syswrite $s, "GET / HTTP/1.1\r\nHost: x\r\n";
}
ok(until_true(sub { $t->read_file('error.log')
    =~ /worker_connections are not enough/ }), 'all connections are used');

my $id = whole($post)->{id};
for my $get (@get) {
    $job = whole($get)->{jobs}[0];
    last if ($job->{errors} // 0) > 1 || ($job->{state} // '') eq 'failure';
    sleep 0.5;
}
cmp_ok($job->{errors} // 0, '>', 0, 'a job says so') or diag(explain($job));
like($job->{error}, qr/connection|cut short|fetched|failed/, 'what it lacks');
close $_ for @held, map { $_->[0] } @get;
like(ended($id)->{state}, qr/success|failure/, 'it comes to an end');
$job = (call('POST', '/p2p/jobs', { ref => 'm/full:v1' }))[1];
is(ended($job->{id})->{state}, 'success', 'the next one to a good one');
is(join(', ', cold('full')), '', 'which is one');
ok(until_true(30, sub { active() == 1 }), 'no connection stays');

$t->allow(qr/(malloc|posix_memalign|calloc)\(.*\) failed/,
    qr/could not allocate/, qr/\(12: Cannot allocate memory\)/,
    qr/\((5|24|28|104): /, qr/manifest file .* was damaged and is removed/,
    qr/worker_connections are not enough/);
$t->done();
