#!/usr/bin/perl

# oci_notify: which events there are, in which formats, for whom; what is
# refused by nginx -t.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Notify;
use Policy;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $type = $OCI::TYPE{manifest};

my $blob = $t->random_blob(50000);
my $digest = $t->digest($blob);
my $gone = $t->digest('something that is in quarantine');
my $wrong = $t->digest('not what the registry has');

my $m = encode_json({ schemaVersion => 2, mediaType => $type, layers =>
    [{ mediaType => 'application/octet-stream', digest => $digest,
        size => length $blob }] });

my $upstream = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ m!/blobs/sha!;
    return $t->reply($c, $q, 404, {}, '{}')
        if $q->{uri} !~ m!/manifests/(\S+)! || $1 eq 'none';
    return $t->reply($c, $q, 201, { 'Docker-Content-Digest' =>
        $t->digest($q->{body}) }) if $q->{method} eq 'PUT';
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $t->digest($m) }, $m);
}, quiet => 1);

my $receiver = Notify::receiver($t);

$t->write_file('robot', "robot:secret\n", 0600);
$t->write_file('preheat', "Bearer preheat\n", 0600);
Policy::write_doc($t, {
    version => 1,
    subjects => { map { $_ => { secret => Policy::phc("canary-$_") } }
        qw/ alice bob / },
    grants => { alice => { role => 'developer', subjects => ['alice'],
        repositories => ['p/**', 'q/**'] } },
    quarantine => { $gone => { reason => 'stolen' } },
});

$t->conf(http => <<EOC, server => <<EOS, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$upstream;
    credentials file $d/robot;
}
oci_policy team {
    source file:$d/policy.json;
    zone team:1m;
    identity basic;
    grants store;
}
oci_notify pull http://127.0.0.1:$receiver/http queue=$d/q/http;
EOC
oci_notify pull push verify_failure quarantine refusal preheat
    http://127.0.0.1:$receiver/harbor queue=$d/q/harbor retry=300ms;
oci_notify pull push verify_failure quarantine refusal preheat
    http://127.0.0.1:$receiver/cloud queue=$d/q/cloud format=cloudevents;
oci_notify pull push verify_failure quarantine refusal preheat
    http://127.0.0.1:$receiver/distribution queue=$d/q/distribution
    format=distribution;
oci_notify push refusal
    http://127.0.0.1:$receiver/v2 queue=$d/q/v2 format=distribution_v2
    repositories=q/*,x/**;
EOS
location /v2/ {
    oci_pass demo;
    oci_cache models;
    oci_access team;
}
location /preheat/ { oci_preheat registry=demo secret=$d/preheat; }
EOL
mkdir "$d/q";
$t->start();

my $alice = { Accept => $type, Policy::basic('alice', 'canary-alice') };
my $bob = { Accept => $type, Policy::basic('bob', 'canary-bob') };

# what a format's receiver got: by type

sub got {
    my ($where) = @_;
    return grep { $_->{uri} eq "/$where" } Notify::received($t);
}

sub wait_for {
    my ($where, $n) = @_;
    ok(until_true(20, sub { my @r = got($where); @r >= $n }),
        "$where: $n come");
    settle();
}

# all that was written has been sent: by each receiver, at its own pace

sub settle {
    until_true(20, sub { !grep { Notify::queue($t, "$d/q/$_")->{events} }
        qw/ harbor cloud distribution v2 / });
}

# (an answer is there before its event is)

sub forget {
    sleep 0.3;
    settle();
    Notify::forget($t);
}

# a pull

is($t->get('/v2/p/a/b/manifests/v1', $alice)->{status}, 200, 'a pull');
wait_for($_, 1) for qw/ harbor cloud distribution /;

my ($h) = got('harbor');
my ($c) = got('cloud');
my ($n) = got('distribution');
my $id = $h->{h}{'webhook-id'};

my $data = {
    resources => [{ digest => $t->digest($m), tag => 'v1',
        resource_url => 'edge.test/p/a/b:v1' }],
    repository => { name => 'a/b', namespace => 'p',
        repo_full_name => 'p/a/b', repo_type => '' },
};

is($h->{h}{'content-type'}, 'application/json', 'harbor: type');
is($h->{json}{type}, 'PULL_ARTIFACT', 'event');
is($h->{json}{operator}, 'alice', 'who');
is_deeply($h->{json}{event_data}, $data, 'what');
is($h->{h}{'webhook-signature'}, undef, 'no signature without a secret');

is($c->{h}{'content-type'}, 'application/cloudevents+json', 'cloud: type');
is($c->{json}{type}, 'harbor.artifact.pulled', 'event');
is($c->{json}{id}, $c->{h}{'webhook-id'}, 'its id');
is($c->{json}{id}, $id, 'which all have');
is($c->{json}{operator}, 'alice', 'who');
like($c->{json}{source}, qr!^/nginx-oci/\S!, 'source');
like($c->{json}{requestid}, qr/^[0-9a-f]{32}$/, 'request');
is_deeply($c->{json}{data}, $data, 'what');

is($n->{h}{'content-type'},
    'application/vnd.docker.distribution.events.v1+json',
    'distribution: type');
my $e = $n->{json}{events}[0];
is($e->{id}, $id, 'its id');
is($e->{action}, 'pull', 'event');
is_deeply($e->{target}, { mediaType => $type, digest => $t->digest($m),
    size => length $m, length => length $m, repository => 'p/a/b',
    tag => 'v1', url => 'http://edge.test/v2/p/a/b/manifests/'
        . $t->digest($m) }, 'what');
is($e->{actor}{name}, 'alice', 'who');
is($e->{request}{method}, 'GET', 'how');
is($e->{request}{addr}, '127.0.0.1', 'from where');

# a push

forget();
is($t->http($t->{edge}, 'PUT', '/v2/q/a/manifests/v2', { %$alice,
    'Content-Type' => $type }, $m)->{status}, 201, 'a push');
wait_for($_, 1) for qw/ harbor cloud distribution v2 /;
is((got('harbor'))[0]{json}{type}, 'PUSH_ARTIFACT', 'harbor');
is((got('cloud'))[0]{json}{type}, 'harbor.artifact.pushed', 'cloud');
my ($v2) = got('v2');
is($v2->{json}{events}[0]{action}, 'push', 'distribution');
is($v2->{json}{events}[0]{target}{size}, length $m, 'its size');
is($v2->{h}{'content-type'},
    'application/vnd.docker.distribution.events.v2+json', 'v2');

# by a digest: in the place of the tag, too

forget();
$t->get('/v2/p/a/b/manifests/' . $t->digest($m), $alice);
wait_for('harbor', 1);
is_deeply((got('harbor'))[0]{json}{event_data}{resources}[0],
    { digest => $t->digest($m), tag => $t->digest($m),
        resource_url => 'edge.test/p/a/b@' . $t->digest($m) }, 'a digest');

# the policy refuses; a challenge is none

forget();
is($t->get('/v2/p/a/manifests/v1', $bob)->{status}, 404, 'refused')
    for 1 .. 3;
is($t->get('/v2/x/y/z/manifests/v1', $bob)->{status}, 404, 'also there');
is($t->get('/v2/p/a/manifests/v1')->{status}, 401, 'a challenge');
is($t->get('/v2/p/a/manifests/v1', {
    Policy::basic('alice', 'guess') })->{status}, 401, 'a wrong secret');
wait_for('harbor', 3);
sleep 0.3;
settle();
my @r = sort { $a->[0] cmp $b->[0] } map { [
    $_->{json}{event_data}{repository}{repo_full_name} . ':'
    . $_->{json}{operator}, $_] } got('harbor');
is(join(' ', map { $_->[0] } @r), 'p/a: p/a:bob x/y/z:bob', 'of what');
@r = map { $_->[1] } @r;
is(scalar @r, 3, 'once in a while');
is($_->{json}{type}, 'REFUSAL', 'event') for @r;
is($r[1]{json}{event_data}{custom_attributes}{Details},
    'GET was answered with 404', 'why');
is((got('cloud'))[0]{json}{type}, 'nginx-oci.policy.refused', 'cloud');
is((got('distribution'))[0]{json}{events}[0]{action}, 'refusal',
    'distribution');
is(join(' ', map { $_->{json}{events}[0]{target}{repository} } got('v2')),
    'x/y/z', 'a pattern');
unlike(join('', map { $_->{body} } Notify::received($t)), qr/canary|guess/,
    'no secrets');

# what is in quarantine

forget();
is($t->get("/v2/p/a/blobs/$gone", $alice)->{status}, 412, 'quarantine')
    for 1 .. 2;
wait_for('harbor', 1);
@r = got('harbor');
is($r[0]{json}{type}, 'QUARANTINE', 'event');
is($r[0]{json}{event_data}{resources}[0]{digest}, $gone, 'of what');
like($r[0]{json}{event_data}{custom_attributes}{Details},
    qr!by quarantine/\Q$gone!, 'why');

# the registry's bytes are wrong

forget();
$t->get("/v2/p/a/blobs/$wrong", $alice) for 1 .. 2;
wait_for('harbor', 1);
@r = got('harbor');
is($r[0]{json}{type}, 'VERIFY_FAILURE', 'event');
is($r[0]{json}{event_data}{resources}[0]{digest}, $wrong, 'of what');
is((got('cloud'))[0]{json}{type}, 'nginx-oci.verify.failed', 'cloud');

# preheat

forget();
my $jobs = 0;
for my $ref ('p/warm:v1', 'p/warm:none') {
    my $r = $t->http($t->{edge}, 'POST', '/preheat/jobs',
        { Authorization => 'Bearer preheat' }, encode_json({ ref => $ref }));
    is($r->{status}, 202, "a job: $ref");
    wait_for('harbor', ++$jobs);
}
@r = got('harbor');
is($_->{json}{type}, 'PREHEAT', 'event') for @r;
is(join(' ', Notify::names(@r)), 'p/warm:v1 p/warm:none', 'what');
is($r[0]{json}{event_data}{custom_attributes}{Details}, 'SUCCESS', 'well');
isnt($r[1]{json}{event_data}{custom_attributes}{Details}, 'SUCCESS',
    'and not');

# a server that has its own is not told by those of http

is(scalar(got('http')), 0, 'not inherited');
is(Notify::queue($t, "$d/q/http")->{events}, 0, 'its queue is there');

# control bytes and what is no UTF-8

forget();
$t->raw("GET /v2/p/a/manifests/v1 HTTP/1.1\r\nHost: edge.test\r\n"
    . "Authorization: $alice->{Authorization}\r\nAccept: $type\r\n"
    . "User-Agent: a\x1b]0;\xff\"\\\r\nConnection: close\r\n\r\n");

# (an event of before may come late)

my $a;
until_true(20, sub {
    ($a) = grep { ($_->{json}{events}[0]{request}{useragent} // '') =~ /^a/ }
        got('distribution');
    return $a;
});
unlike($a->{body}, qr/[^\x20-\x7e]/, 'nothing of them in a body');
like($a->{json}{events}[0]{request}{useragent}, qr/^a.\]0;.+\\$/,
    'it is the text');

# nginx -t

my $conf = $t->read_file('nginx.conf');
my $url = "http://127.0.0.1:$receiver/";
my $first = qr/oci_notify pull http:.*http;/;
$t->write_file('world', "x\n", 0644);
$t->write_file('useless', "whsec_!!!!\n", 0600);

for my $c (
    ["pull $url", 'needs "queue="'],
    ["pull queue=$d/q/n", 'needs an "http://"'],
    ["$url queue=$d/q/n", 'needs an event'],
    ["pull nothing $url queue=$d/q/n", 'invalid event or parameter "nothing"'],
    ["pull pull $url queue=$d/q/n", 'duplicate event'],
    ["pull $url $url queue=$d/q/n", 'has more than one URL'],
    ["pull http://user\@host/ queue=$d/q/n", 'has an invalid URL'],
    ["pull http:///x queue=$d/q/n", 'has an invalid URL'],
    ["pull ftp://h/ queue=$d/q/n", 'invalid event or parameter'],
    ["pull $url queue=$d/q/http", 'has the queue of another one'],
    ["pull $url queue=$d/q/n format=xml", 'invalid format "xml"'],
    ["pull $url queue=$d/q/n repositories=a/**/b", '"**" is the last'],
    ["pull $url queue=$d/q/n repositories=a,", 'a pattern has 1 to 255'],
    ["pull $url queue=$d/q/n size=1k", 'invalid size (512k at least)'],
    ["pull $url queue=$d/q/n timeout=0", 'invalid timeout'],
    ["pull $url queue=$d/q/n retry=x", 'invalid retry'],
    ["pull $url queue=$d/q/n secret=$d/nothere", 'failed'],
    ["pull $url queue=$d/q/n secret=$d/world", 'is open to everyone'],
    ["pull $url queue=$d/q/n secret=$d/useless",
        'no base64, or too much of it, behind "whsec_" in "'],
    ["pull https://127.0.0.1/ queue=$d/q/n trusted_certificate=$d/nothere",
        'trusted_certificate'],
    ["pull http://receiver.test/ queue=$d/q/n", '"resolver" is required'],
    ['pull', 'invalid number of arguments'],
) {
    my ($text, $why) = @$c;
    (my $bad = $conf) =~ s/^$first/$&\noci_notify $text;/m;
    my ($rc, $out) = $t->check($bad);
    isnt($rc, 0, "refused: $text");
    like($out, qr/\Q$why\E/, 'why');
    like($out, qr/check\.conf:\d+/, 'and where');
}

for my $good ("pull http://receiver.test/ queue=$d/q/n; resolver 127.0.0.1",
    "pull http://[::1]:80/x?y=z queue=q/relative size=1g timeout=1s retry=1d")
{
    (my $c = $conf) =~ s/^$first/$&\noci_notify $good;/m;
    my ($rc, $out) = $t->check($c);
    is($rc, 0, "good: $good") or diag($out);
}

unlike($t->read_file('error.log'), qr/canary/, 'no secrets in the log');

$t->done();
