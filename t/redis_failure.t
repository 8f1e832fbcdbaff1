#!/usr/bin/perl

# A policy whose Redis is gone, slow, flushed, replaced, or wrong: what is
# known counts for "stale", and nobody gets what is not known to be theirs.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Redis;

my $stale = 8;
my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my %secret = map { $_ => "canary-$_-31d7" } qw/ alice bob carol /;
my %phc = map { $_ => Policy::phc($secret{$_}) } keys %secret;
my $doc = {
    subjects => { map { $_ => { secret => $phc{$_} } } keys %phc },
    grants => { g => { role => 'guest', subjects => ['alice', 'carol'],
        repositories => ['llm/**'] } },
};

my $redis = Redis->new($t);
$redis->import_doc($doc);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}');
});

system("openssl genpkey -algorithm ED25519 -out $d/token.pem 2>/dev/null")
    == 0 or die;
chmod 0600, "$d/token.pem";

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source redis://127.0.0.1:$redis->{port};
    zone team:1m;
    identity basic;
    signing_key $d/token.pem;
    poll 500ms;
    stale ${stale}s;
    timeout 500ms;
    connect_timeout 500ms;
    state_file $d/state/team;
}
log_format oci '\$uri \$status \$oci_subject \$oci_decision '
    '\$oci_decision_source \$oci_policy_rule';
EOC
location /v2/ {
    oci_pass demo; oci_access team;
    access_log $d/oci.log oci;
}
location /v2/dry/ { oci_pass demo; oci_access dry_run team; }
location = /service/token { oci_token policy=team; }
EOL
$t->start();

sub as { my ($user) = @_; return { Policy::basic($user, $secret{$user}) } }

my $m = '/v2/llm/a/tags/list';

sub status { return $t->get($m, as($_[0]))->{status} }

sub source {
    my ($user) = @_;
    my $logged = length $t->read_file('oci.log');
    status($user);
    until_true(5, sub { length $t->read_file('oci.log') > $logged });
    return (split / /, substr $t->read_file('oci.log'), $logged)[4];
}

sub logged {
    my ($re, $seconds) = @_;
    return until_true($seconds // 10, sub {
        $t->read_file('error.log') =~ $re });
}

# what a Redis with a dump would come back with

my $epoch = 1;

sub restore {
    my ($n, $doc) = @_;
    my %f = Redis::fields($doc);
    $redis->command('MULTI');
    $redis->command('DEL', '{oci}:doc');
    $redis->command('HSET', '{oci}:doc', $_, JSON::PP->new->canonical->encode(
        $f{$_})) for sort keys %f;
    $redis->command('SET', '{oci}:epoch', $n);
    $redis->command('EXEC');
}

ok(until_true(sub { status('alice') == 200 }), 'there is a document');
is(status('bob'), 404, 'with and without a grant');
is(source('alice'), 'redis', 'known to be current');
ok(until_true(sub { -s "$d/state/team" }), 'which is kept');

# gone, and back

$redis->kill();
my $gone = time();
ok(logged(qr/redis:\S+ of oci_policy "team" is out of reach, the document that is known counts for [5678] s: /), 'Redis is gone');
is(status('alice'), 200, 'the document decides');
is(status('bob'), 404, 'for everybody');
is(status('carol'), 200, 'seen or not');
ok(until_true(5, sub { source('alice') eq 'stale' }), 'it is said to be old');

# nginx is restarted meanwhile

ok($t->stop(), 'nginx ends');
$t->start();
is(status('alice'), 200, 'the kept document decides');
is(status('bob'), 404, 'as before');
is(source('carol'), 'stale', 'as one that is old');
cmp_ok(time() - $gone, '<', $stale, 'in time');
my ($ages) = $t->status()->{policies}{team}{age_ms};
cmp_ok($ages, '>', 1000, 'its age goes on');

ok(until_true(sub { status('alice') == 503 }), 'past "stale" it counts no'
    . ' more');
cmp_ok(time() - $gone, '<', $stale + 3, 'in time');
my $r = $t->get($m, as('alice'));
is($r->{status}, 503, 'all are refused');
like($r->{h}{'retry-after'}, qr/^\d+$/, 'with "Retry-After"');
like($r->{body}, qr/"code":"UNAVAILABLE"/, 'an OCI error');
is(status('bob'), 503, 'who had no right, too');
is($t->get('/v2/')->{status}, 503, 'and nobody');
$r = $t->get("/service/token?service=team", as('alice'));
is($r->{status}, 503, 'no token is issued');
like($r->{h}{'retry-after'}, qr/^\d+$/, 'at the moment');
is($t->get('/v2/dry/x/tags/list', as('bob'))->{status}, 200,
    'but with "dry_run"');
is($t->get('/v2/x/%%')->{status}, 400, 'which is no request');
is($t->head($m, as('alice'))->{status}, 503, 'by HEAD');
is(source('alice'), 'stale', 'by what');
ok(logged(qr/the document of oci_policy "team" was known to be current \d+ s ago, that is past "stale"/), 'the log says so');

# one restarted now doesn't know better

ok($t->stop(), 'nginx ends');
$t->start();
is(status('alice'), 503, 'it goes on counting');

$redis->start();
restore(1, $doc);
my $back = time();
ok(until_true(sub { status('alice') == 200 }), 'Redis is back');
cmp_ok(time() - $back, '<', 2, 'soon');
ok(until_true(5, sub { source('alice') eq 'redis' }), 'and known');
is(status('bob'), 404, 'as before');

# slow: it answers nothing

kill 'STOP', $t->{pids}{redis};
ok(until_true(5, sub { source('alice') eq 'stale' }), 'one that is slow');
is(status('alice'), 200, 'the document decides');
ok(logged(qr/is out of reach, the document[^\n]*: it (didn't answer|could not be connected to) in time/), 'the log says so');
kill 'CONT', $t->{pids}{redis};
ok(until_true(5, sub { source('alice') eq 'redis' }), 'and awake again');

# a replica without its master is read as well

$redis->command('CONFIG', 'SET', 'replica-read-only', 'yes');
$redis->command('REPLICAOF', '127.0.0.1', OCI::port());
sleep 1;
is(source('alice'), 'redis', 'one that can only be read');
$redis->command('CONFIG', 'SET', 'replica-serve-stale-data', 'no');
ok(until_true(10, sub { source('alice') eq 'stale' }), 'one that is no use');
ok(logged(qr/it refused to tell the epoch \(MASTERDOWN\)/), 'says so');
$redis->command('REPLICAOF', 'NO', 'ONE');
ok(until_true(10, sub { source('alice') eq 'redis' }), 'and again');

# a broken field, and one that is mended

my @broken = (
    ['subject/bob', '{', qr/field "subject\/bob": .* in its line 1, column 1/],
    ['subject/bob', '{}}, "mallory": {}', qr/field "subject\/bob": end of file expected/],
    ['subject/bob', '{"secret":"canary-x"}', qr/\$\.subjects\.bob\.secret: not a PHC/],
    ['subject/bob', '"x"', qr/field "subject\/bob": '\[' or '\{' expected/],
    ['grants/g', '{"role":"none","repositories":["x"]}', qr/\$\.grants\.g\.role: unknown role/],
    ['typo/x', '{}', qr/field "typo\/x": unknown field/],
    ["subject/a\tb", '{}', qr/field "subject\/a\?b": control characters/],
    ["subject/\xff", '{}', qr/field "subject\/\?": its name is no UTF-8/],
    ['role/guest', '["pull"]', qr/\$\.roles\.guest: a built-in role/],
);

for my $b (@broken) {
    my ($was) = map { $redis->command('HGET', '{oci}:doc', $_) } $b->[0];
    $redis->change($b->[0] => $b->[1]);
    ok(logged(qr/is refused, the document before it counts for \d+ s: .*$b->[2]/),
        "a broken field: $b->[1]") or diag($t->read_file('error.log'));
    is(status('alice'), 200, 'the document before it decides');
    is(status('bob'), 404, 'as it was');
    my $n = $redis->change($b->[0] => $was);
    ok(logged(qr/is in force: epoch $n,|epoch $n$/), 'mended')
        or diag(substr $t->read_file('error.log'), -1000);
}

my $e = $redis->command('GET', '{oci}:epoch');
ok(until_true(5, sub { source('alice') eq 'redis' }), 'and known again');

# flushed: nothing is taken from anybody, and nothing given

$redis->command('FLUSHALL');
ok(logged(qr/it has no epoch, and no fields/), 'flushed');
is(status('alice'), 200, 'the document decides');
is(status('bob'), 404, 'as it was');

# an older one, in which somebody still has a right

my $old = { subjects => $doc->{subjects}, grants => { g => { role => 'guest',
    subjects => ['bob'], repositories => ['**'] } } };
restore($e - 1, $old);
ok(logged(qr/its epoch is @{[ $e - 1 ]}, that of the document in force $e: it was flushed/),
    'an older one');
is(status('bob'), 404, 'gives nothing back');
restore($e, $old);
ok(logged(qr/its epoch is $e as before, but it is another one/),
    'another one with the same epoch');
is(status('bob'), 404, 'does not either');

# nor after a restart

ok($t->stop(), 'nginx ends');
$t->start();
is(status('bob'), 404, 'it is known after a restart');

# empty, by real changes

ok(until_true(sub { status('alice') == 503 }), 'past "stale"');
$redis->command('SET', '{oci}:epoch', $e + 1);
ok(until_true(5, sub { status('bob') == 200 }), 'a greater epoch makes it'
    . ' count');
is(status('alice'), 404, 'as it is');
$redis->command('DEL', '{oci}:doc');
$redis->command('SET', '{oci}:epoch', $e + 2);
ok(until_true(5, sub { status('bob') == 401 }), 'also if it is empty');

# types that are none

$redis->command('SET', '{oci}:epoch', 'x');
ok(logged(qr/its epoch is no number/), 'an epoch that is none');
$redis->command('SET', '{oci}:epoch', '-1');
$redis->command('DEL', '{oci}:epoch');
$redis->command('LPUSH', '{oci}:epoch', 'x');
ok(logged(qr/out of reach|refused to tell the epoch/), 'one of a wrong type');
$redis->command('DEL', '{oci}:epoch', '{oci}:doc');
$redis->command('SET', '{oci}:doc', 'x');
$redis->command('SET', '{oci}:epoch', $e + 3);
sleep 2;
is(status('bob'), 401, 'nor a document that is none');
$redis->command('DEL', '{oci}:doc');
restore($e + 4, $doc);
ok(until_true(5, sub { status('alice') == 200 }), 'and a right one again');

my $text = join '', map { $t->read_file($_) } qw/ error.log nginx.log
    access.log oci.log upstream0.requests state\/team /;
unlike($text, qr/canary/, 'no secret in a log, or kept');

$t->done();
