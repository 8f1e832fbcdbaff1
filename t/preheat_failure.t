#!/usr/bin/perl

# oci_preheat: workers that die or are replaced during a job, tokens that
# expire, a registry that fails or is full of lies.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use Harbor;
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $slice = 1024 * 1024;
my $size = 24 * $slice + 4711;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my $config = '{}';
my $type = 'application/vnd.oci.image.manifest.v1+json';

sub manifest {
    my (@layers) = @_;
    return encode_json({ schemaVersion => 2, mediaType => $type,
        config => { mediaType => 'application/x', size => 2,
            digest => $t->digest($config) },
        layers => [map { { mediaType => 'application/y',
            size => $_->[1] // $size, digest => $_->[0] } } @layers] });
}

my $wrong = 'sha256:' . '1' x 64;
my %manifest = (
    v1 => manifest([$digest]),
    wrong => manifest([$wrong, 1000]),
    many => encode_json({ schemaVersion => 2, layers => [map {
        { digest => 'sha256:' . sprintf('%064x', $_), size => 1 } }
        1 .. 9000] }),
    both => encode_json({ schemaVersion => 2, manifests => [],
        layers => [] }),
    text => 'no manifest at all',
);
my %by_digest = map { $t->digest($_) => $_ } values %manifest;

# some 10 MB/s; what is asked for by whom is recorded by the test's library

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($what, $ref) = $q->{uri} =~ m!/v2/m/(?:a|b)/(\w+)/(\S+)!;
    my $state = $t->read_file('state') // '';
    return $t->reply($c, $q, 503, {}, '') if $state =~ /down/;
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        'Bearer realm="http://127.0.0.1:1/",service="x"' }, '{}')
        if ($q->{h}{authorization} // '') ne 'Bearer good'
        || $state =~ /expired/;
    return $t->reply($c, $q, 404, {}, '{}') if !$what;
    if ($what eq 'manifests') {
        my $m = $manifest{$ref} // $by_digest{$ref}
            // return $t->reply($c, $q, 404, {}, '{}');
        return $t->reply($c, $q, 200, { 'Content-Type' => $type,
            'Docker-Content-Digest' => $t->digest($m) }, $m);
    }
    return $t->reply_blob($c, $q, $config) if $ref eq $t->digest($config);
    return $t->reply_blob($c, $q, 'x' x 1000) if $ref eq $wrong;
    return $t->reply($c, $q, 404, {}, '{}') if $ref ne $digest;
    return $t->reply_slowly($c, $q, $blob, 0.013);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=1m', location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; oci_fill_connections 2; }
location /p2p/ { oci_preheat registry=demo open; }
EOL

my $harbor = Harbor->new($t, endpoint => '/p2p');

sub call { return $harbor->call(@_) }

sub create {
    my ($tag, $token, $repo) = @_;
    my ($status, $job) = call('POST', '/oapi/v1/jobs', $harbor->job(
        url => "/v2/m/@{[$repo // 'a']}/manifests/$tag",
        token => $token // 'Bearer good'));
    return $job->{id};
}

sub ends {
    my (undef, $error, $job) = $harbor->ends($_[0]);
    return ($job->{state}, $error);
}

sub fresh {
    $t->stop() if $t->{pids}{nginx};
    system("rm -rf $d/cache");
    unlink "$d/sent", "$d/state";
    $t->start();
}

sub state { $t->write_file('state', $_[0]) }


fresh();

# whoever asks once more finds it at work

my $id = create('v1');
until_true(sub { $t->sent() > 3 * $slice });
is(create('v1'), $id, 'the same job');
isnt(create('v1', undef, 'b'), $id, 'another repository is another job');

# its worker dies

my $victim = $t->worker_to($port);
kill 'KILL', $victim;
$t->allow(qr/process $victim exited on signal 9/);
is((ends($id))[0], 'SUCCESS', 'killed: another worker goes on');
cmp_ok($t->sent(), '<', $size + 9 * $slice,
    'killed: little was fetched twice');

my $mark = $t->sent();
my $r = $t->get("/v2/m/a/blobs/$digest", { Authorization => 'Bearer good' });
is($t->digest($r->{body}), $digest, 'killed: the bytes');
is($t->sent(), $mark, 'killed: nothing was fetched');

# the configuration is loaded again

fresh();
$id = create('v1');
until_true(sub { $t->sent() > 3 * $slice });
my @before = $t->workers();
$t->signal('HUP');
is((ends($id))[0], 'SUCCESS', 'reload: the new workers go on');
cmp_ok($t->sent(), '<', $size + 9 * $slice,
    'reload: little was fetched twice');
until_true(sub { my %now = map { $_ => 1 } $t->workers();
    !grep { $now{$_} } @before });
ok(1, 'reload: the old workers are gone');

# a client's token is good for its job only

fresh();
my ($state, $error) = ends(create('v1', 'Bearer bad'));
is($state, 'FAILURE', 'a wrong token');
like($error, qr/401.*not accepted, or expired/, 'is said');

state('expired');
($state, $error) = ends(create('v1'));
is($state, 'FAILURE', 'an expired token');
like($error, qr/401/, 'is said');
state('');

# answers that are none

for my $c (
    ['wrong', qr/can't be fetched or stored now|cut short|failed/],
    ['many', qr/names too much/], ['both', qr/at once/],
    ['text', qr/no JSON object/],
) {
    ($state, $error) = ends(create($c->[0]));
    is($state, 'FAILURE', "$c->[0]: failure");
    like($error, $c->[1], "$c->[0]: why");
}

# the registry is down

state('down');
($state, $error) = ends(create('v1'));
is($state, 'FAILURE', 'down: failure');
state('');

# somebody thinks better of it

fresh();
$id = create('v1');
until_true(sub { $t->sent() > 2 * $slice });
my ($status, $job) = call('DELETE', "/jobs/$id");
is($job->{state}, 'failure', 'cancelled');
is((ends($id))[0], 'FAILURE', 'cancelled: for Harbor, too');
until_true(sub { my $s = $t->sent(); sleep 1.5; $s == $t->sent() });
cmp_ok($t->sent(), '<', $size, 'cancelled: no more is fetched');

# the log has no token

my $log = join '', map { $t->read_file($_) } qw/ error.log access.log /;
unlike($log, qr/Bearer|good/, 'no token in a log');

$t->done();
