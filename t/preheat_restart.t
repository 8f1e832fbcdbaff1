#!/usr/bin/perl

# A long job, of one large blob from a slow registry: it outlives reloads, its
# workers and, with "state", nginx itself, and clients that pull beside it keep
# their rate.  PREHEAT=full: 20 GiB (PREHEAT_MIB) in 5 minutes
# (PREHEAT_SECONDS), and both rates are told.

use warnings;
use strict;

use Test::More;
use Digest::SHA;
use File::Basename qw/ dirname /;
use JSON::PP;
use MIME::Base64;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $full = ($ENV{PREHEAT} // '') eq 'full';
my $M = 1024 * 1024;

# the registry's rate, in bytes a second, makes the job this long

my $size = ($full ? $ENV{PREHEAT_MIB} // 20 * 1024 : 64) * $M + 4711;
my $seconds = $full ? $ENV{PREHEAT_SECONDS} // 300 : 8;
my $rate = $size / $seconds;

my $t = OCI->new(workers => 2, zone => '16m');
my $d = $t->{dir};

# the blob's bytes tell their place: no file of it is needed

sub bytes {
    my ($from, $n) = @_;
    my $block = int($from / $M);
    my $out = '';
    while (length $out < $n + $from % $M) {
        $out .= pack('Q', $block++) x ($M / 8);
    }
    return substr $out, $from % $M, $n;
}

sub digest_of {
    my ($size) = @_;
    my $sha = Digest::SHA->new(256);
    for (my $i = 0; $i < $size; $i += $M) {
        $sha->add(bytes($i, $size - $i < $M ? $size - $i : $M));
    }
    return 'sha256:' . $sha->hexdigest();
}

my $digest = digest_of($size);
my $small = $t->random_blob(8 * $M);
my $small_digest = $t->digest($small);
my $type = 'application/vnd.oci.image.manifest.v1+json';
my $manifest = encode_json({ schemaVersion => 2, mediaType => $type,
    layers => [{ mediaType => 'application/y', size => $size,
        digest => $digest }] });
my $mdigest = $t->digest($manifest);

# all connections together have that rate: a connection waits for its turn

$t->write_file('turn', pack 'd', 0);

sub turn {
    my ($n) = @_;
    open my $f, '+<:raw', "$d/turn" or die;
    flock $f, 2;
    sysread $f, my $at, 8;
    $at = unpack 'd', $at;
    $at = time() if $at < time();
    sysseek $f, 0, 0;
    syswrite $f, pack 'd', $at + $n / $rate;
    close $f;
    sleep $at - time() if $at > time();
}

my $piece = $full ? 4 * $M : 256 * 1024;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($what, $ref) = $q->{uri} =~ m!/v2/m/a/(\w+)/(\S+)!
        or return $t->reply($c, $q, 404, {}, '{}');
    if ($ref =~ /^held/) {
        $t->write_file("with.$ref", $q->{h}{authorization} // 'none');
        until_true(120, sub { !-e "$d/hold" });
    }
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $mdigest }, $manifest)
        if $what eq 'manifests' && $ref =~ /^(v1|$mdigest)$/;
    return $t->reply_blob($c, $q, $small) if $ref eq $small_digest;
    return $t->reply($c, $q, 503, {}, '{}') if $ref ne $digest;
    my $from = $q->{from} // 0;
    my $to = $q->{to} // $size;
    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";
    while ($from < $to) {
        my $n = $to - $from > $piece ? $piece : $to - $from;
        turn($n) if $n > 1;
        print $c bytes($from, $n) or return 0;
        $from += $n;
    }
    return 1;
}, quiet => 1);

my ($second, $third) = (OCI::port(), OCI::port());
$t->write_file('robot', "robot:fills\n", 0600);
my $max = $full ? 'max_size=40g' : '';

$t->conf(http => <<EOC, cache_args => "slice=1m $max", location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_registry other { url http://127.0.0.1:$port; }
oci_registry filled {
    url http://127.0.0.1:$port; fill_credentials file $d/robot;
}
server {
    listen 127.0.0.1:$second;
    location /v2/ { oci_pass other; oci_cache models; }
    location /other/ { oci_preheat registry=other open referrers=off state=$d/jobs; }
}
server {
    listen 127.0.0.1:$third;
    location /v2/ { oci_pass filled; oci_cache models; }
    location /filled/ { oci_preheat registry=filled open state=$d/jobs; }
}
EOC
location /v2/ { oci_pass demo; oci_access open; oci_cache models; }
location /p2p/ { oci_preheat registry=demo open referrers=off state=$d/jobs; }
EOL
$t->start();

sub call {
    my ($method, $path, $body) = @_;
    my $r = $t->http($path =~ /other/ ? $second : $path =~ /filled/ ? $third
        : $t->{edge}, $method, $path,
        { 'Content-Type' => 'application/json' },
        $body ? encode_json($body) : undef);
    return ($r->{status}, eval { decode_json($r->{body}) });
}

my $id;
sub job { return (call('GET', "/p2p/jobs/$id"))[1] // {} }

sub state_files { return scalar(() = glob "$d/jobs/*.job") }

# how often jobs are said to go on

sub told {
    return scalar(() = $t->read_file('error.log')
        =~ /preheat jobs of before the restart go on/g);
}

# the job's bytes that are there: waits until this share of them is

sub reaches {
    my ($share) = @_;
    return until_true($seconds * 3 + 60, sub {
        (job()->{bytes_done} // 0) >= $share * $size });
}

# bytes a second that clients have from the cache, measured for a while

sub pulls {
    my ($for) = @_;
    my ($bytes, $begin) = (0, time());
    while (time() - $begin < $for) {
        my $r = $t->get("/v2/m/a/blobs/$small_digest");
        die 'a wrong answer' if $t->digest($r->{body}) ne $small_digest;
        $bytes += length $r->{body};
    }
    return $bytes / (time() - $begin);
}

pulls(1);

# what the client could have for itself, and beside the job, in turn

my ($status, $job) = call('POST', '/p2p/jobs', { ref => 'm/a:v1',
    pin => '7d' });
$id = $job->{id};
is($status, 202, 'the job');
ok(until_true(sub { state_files() == 1 }), 'is kept');

ok(reaches(0.1), 'it goes on');
$t->signal('HUP');
ok(reaches(0.25), 'after a reload');

my $victim = $t->worker_to($port);
kill 'KILL', $victim;
$t->allow(qr/process $victim exited on signal 9/);
ok(reaches(0.4), 'after its worker died');

my $before = job()->{bytes_done};
$t->stop();
$t->start();
ok(until_true(20, sub { (job()->{state} // '') =~ /running|success/ }),
    'after a restart it has the same number');
is(job()->{reference}, 'v1', 'the same job');
cmp_ok(job()->{pin}, '>', time() + 6 * 86400, 'and pin');
ok(until_true(60, sub { (job()->{bytes_done} // 0) >= $before }),
    'what was there is not lost');
ok(reaches(0.5), 'it goes on');

# killed as a whole

killed();
ok(reaches(0.6), 'it goes on after that');

if ($full) {
    compare();
}

ok(until_true($seconds * 3 + 60, sub { job()->{state} eq 'success' }),
    'it ends well') or diag(explain(job()));
is(job()->{bytes_done}, $size, 'all of it');
ok(until_true(sub { state_files() == 0 }), 'nothing is kept of it');

my $mark = $t->upstream_bytes();
for my $from (0, int($size / 2), $size - 100_000) {
    my $r = $t->get("/v2/m/a/blobs/$digest", { Range =>
        "bytes=$from-" . ($from + 99_999) });
    ok($r->{body} eq bytes($from, 100_000), "the bytes at $from");
}
cmp_ok($t->upstream_bytes() - $mark, '<', 1000, 'nothing is fetched');

# a token is no more after a restart, and that is said

sub token_job {
    my ($place, $tag) = @_;
    return call('POST', "/$place/oapi/v1/jobs", { type => 'preheat',
        args => { type => 'image', url => "/v2/m/a/manifests/$tag",
            headers => { Authorization => 'Bearer s3cret' } } });
}

($status, $job) = token_job('other', 'none');
is($status, 200, 'a job with a token');
my $other = $job->{id};
ok(until_true(sub { state_files() == 1 }), 'is kept');
unlike(join('', map { $t->read_file('jobs/' . s!.*/!!r) } glob "$d/jobs/*"),
    qr/s3cret/, 'without its token');
my $told = told();
killed();
ok(until_true(20, sub { (call('GET', "/other/jobs/$other"))[0] == 200 }),
    'after a restart it is known');
($status, $job) = call('GET', "/other/jobs/$other");
is($job->{state}, 'failure', 'as a failure');
like($job->{error}, qr/nginx was restarted/, 'and why');
is(told(), $told, 'nor is it told to go on');
ok(until_true(sub { state_files() == 0 }), 'nothing is kept of it');

# but what has none, or is filled with others', goes on

$t->write_file('hold', '');
my %held = (other => (call('POST', '/other/jobs', { ref => 'm/a:held1' }))[1],
    filled => (token_job('filled', 'held2'))[1]);
ok(until_true(sub { -s "$d/with.held1" && -s "$d/with.held2" }),
    'jobs without a token, and with fill_credentials');
is($t->read_file('with.held2'), 'Bearer s3cret', 'with the token, at first');
ok(until_true(sub { state_files() == 2 }), 'are kept');
unlike(join('', map { $t->read_file('jobs/' . s!.*/!!r) } glob "$d/jobs/*"),
    qr/s3cret|fills/, 'without anything secret');

# also those of a restart that took more than a week

my $copy;
killed(sub {
    for my $file (map { "jobs/$_->{id}.job" } values %held) {
        my $text = decode_json($t->read_file($file));
        $text->{created} -= 8 * 86400;
        $t->write_file($file, encode_json($text));
        $copy = $text if $text->{id} == $held{other}{id};
    }
    unlink "$d/with.held1", "$d/with.held2";
});
for my $c (['other', 'held1', 'none'],
    ['filled', 'held2', 'Basic ' . encode_base64('robot:fills', '')])
{
    my ($place, $tag, $with) = @$c;
    ok(until_true(20, sub { -s "$d/with.$tag" }),
        "$place: it goes on after a restart");
    is($t->read_file("with.$tag"), $with, 'with that');
    is((call('GET', "/$place/jobs/$held{$place}{id}"))[1]{state}, 'running',
        'and is no failure');
    ok(-f "$d/jobs/$held{$place}{id}.job", 'and is kept for the next one');
    call('DELETE', "/$place/jobs/$held{$place}{id}");
}
unlink "$d/hold";
ok(until_true(sub { state_files() == 0 }), 'nothing is kept of them');

# what is no job is ignored

$t->stop();
$t->write_file('jobs/17.job', 'nonsense');
$t->write_file('jobs/18.job', '{"version":1,"id":18,"repository":"../x"}');
$t->write_file('jobs/19.job', '');
$t->write_file('jobs/21.job', encode_json({ %$copy, id => 22 }));
mkdir "$d/jobs/20.job";
$t->start();
is((call('GET', '/p2p/jobs/18'))[0], 404, 'no job');
for my $n (17, 19, 20, 21) {
    ok(until_true(sub { $t->read_file('error.log')
        =~ m!jobs/$n\.job" is no preheat job! }), "$n: which is told");
}
is((call('GET', '/other/jobs/22'))[0], 404, 'nor is one of another number');

$t->done();


sub killed {
    my ($then) = @_;
    my @all = ($t->{pids}{nginx}, $t->children());
    kill 'KILL', @all;
    until_true(20, sub { $t->ended($all[0])
        && !grep { -d "/proc/$_" && !$t->ended($_) } @all });
    delete $t->{pids}{nginx};
    unlink "$d/nginx.pid";
    $then->() if $then;
    $t->start();
}


# clients beside the job, and without it: it is held meanwhile by the registry

sub compare {
    my (@with, @without);
    my $keep = $rate;
    for (1 .. 5) {
        push @with, pulls(5);
        kill 'STOP', map { -$t->{pids}{$_} } grep { /^upstream/ }
            keys %{$t->{pids}};
        sleep 1;
        push @without, pulls(5);
        kill 'CONT', map { -$t->{pids}{$_} } grep { /^upstream/ }
            keys %{$t->{pids}};
        sleep 1;
    }
    my ($w, $wo) = map { my @s = sort { $a <=> $b } @$_; $s[2] }
        \@with, \@without;
    diag(sprintf 'pulls: %.0f MB/s beside the job, %.0f MB/s without it: '
        . '%.0f %%', $w / 1e6, $wo / 1e6, 100 * $w / $wo);
    cmp_ok($w, '>=', 0.9 * $wo, 'clients keep their rate');
}
