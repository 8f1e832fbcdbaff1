#!/usr/bin/perl

# oci_notify: events reach their receiver, whatever happens to it, to workers
# and to nginx: none is lost, those of a repository come in their order, and
# one that comes twice has the same id.  OUTAGE=full: the receiver is away for
# two minutes.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ hmac_sha256_base64 /;
use File::Basename qw/ dirname /;
use File::Path qw/ rmtree /;
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Notify;

my $t = OCI->new(workers => 3);
my $d = $t->{dir};
my $type = $OCI::TYPE{manifest};

my $m = '{"schemaVersion":2,"layers":[]}';

my $upstream = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($tag) = $q->{uri} =~ m!/manifests/(\S+)!;
    return $t->reply($c, $q, 404, {}, '{}') if !$tag || $tag eq 'none';
    return $t->reply($c, $q, 201, { 'Docker-Content-Digest' =>
        $t->digest($q->{body}) }) if $q->{method} eq 'PUT';
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $t->digest($m) }, $m);
}, quiet => 1);

my $receiver = Notify::receiver($t);

my $secret = 'canary-secret-71f3';
my $other = 'whsec_' . encode_base64('canary-other-92ab', '');
$t->write_file('secret', "$secret\n$other\n", 0600);

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$upstream; }
oci_notify pull push http://127.0.0.1:$receiver/hook/canary-url?t=canary-arg
    queue=$d/queue/ secret=$d/secret retry=300ms timeout=2s size=512k;
EOC
location /v2/ { oci_pass demo; oci_cache models; }
EOL
$t->start();

sub pull {
    my ($repository, $tag) = @_;
    return $t->get("/v2/$repository/manifests/$tag",
        { Accept => $type })->{status};
}

# none of them is left

sub drained { return until_true(sub { Notify::queue($t)->{events} == 0 }) }

# a pull, and what isn't one

is(pull('p/a', 'v1'), 200, 'a pull');
is(pull('p/a', 'none'), 404, 'no pull');
$t->head('/v2/p/a/manifests/v1');
$t->get('/v2/');
$t->get('/v2/p/a/manifests/v1', { Accept => $type,
    'User-Agent' => 'harbor-registry-client' });

ok(until_true(sub { Notify::received($t) }), 'a post comes');
drained();
my @r = Notify::received($t);
is(scalar @r, 1, 'one');

my $e = $r[0]{json};
is($r[0]{method}, 'POST', 'method');
is($r[0]{uri}, '/hook/canary-url?t=canary-arg', 'URI');
is($r[0]{h}{host}, "127.0.0.1:$receiver", 'host');
is($r[0]{h}{'content-type'}, 'application/json', 'type');
is($e->{type}, 'PULL_ARTIFACT', 'event');
ok(abs($e->{occur_at} - time()) < 30, 'when');
is($e->{operator}, '', 'who');
is_deeply($e->{event_data}, {
    resources => [{ digest => $t->digest($m), tag => 'v1',
        resource_url => 'edge.test/p/a:v1' }],
    repository => { name => 'a', namespace => 'p', repo_full_name => 'p/a',
        repo_type => '' },
}, 'what');

# both secrets sign it

sub signed {
    my ($r) = @_;
    my ($id, $ts) = @{$r->{h}}{qw/ webhook-id webhook-timestamp /};
    my %s = map { $_ => 1 } split / /, $r->{h}{'webhook-signature'};
    return join ' ', abs($ts - time()) < 60 ? 'time' : "time $ts",
        map { my $s = hmac_sha256_base64("$id.$ts.$r->{body}", $_);
            $s .= '=' while length($s) % 4; $s{"v1,$s"} ? 1 : 0 }
        $secret, 'canary-other-92ab', 'wrong';
}

is(signed($r[0]), 'time 1 1 0', 'signed');
like($r[0]{h}{'webhook-id'}, qr/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
    'an id');

# a push

Notify::forget($t);
my $body = '{"schemaVersion":2}';
is($t->http($t->{edge}, 'PUT', '/v2/p/b/manifests/v2', { 'Content-Type' =>
    $type }, $body)->{status}, 201, 'a push');
ok(until_true(sub { Notify::received($t) }), 'comes');
@r = Notify::received($t);
is($r[0]{json}{type}, 'PUSH_ARTIFACT', 'as that');
is($r[0]{json}{event_data}{resources}[0]{digest}, $t->digest($body),
    'its digest');
drained();

my $q = Notify::queue($t);
is($q->{sent}, 2, 'status: sent');
is($q->{failed} + $q->{dropped}, 0, 'none failed');
like($t->get('/metrics')->{body},
    qr/^nginx_oci_notify_sent_total\{queue="\Q$d\E\/queue"\} 2$/m, 'a metric');

# what is not 2xx is not taken; a redirect isn't followed

Notify::forget($t);
my $elsewhere = OCI::port();
my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 8,
    LocalPort => $elsewhere, ReuseAddr => 1) or die;

my $n = 0;
my $id;
for my $mode ("302 http://127.0.0.1:$elsewhere/", "307 /other", '304', '401',
    '500', 'close')
{
    Notify::mode($t, $mode);
    is(pull('p/' . ++$n, 'v1'), 200, "$mode: a pull");
    ok(until_true(sub { Notify::received($t, $mode) >= 2 }),
        'is tried again');
    my @same = Notify::received($t, $mode);
    is($same[0]{h}{'webhook-id'}, $same[1]{h}{'webhook-id'}, 'the same one');
    is($same[0]{body}, $same[1]{body}, 'word by word');
    is($same[1]{uri}, '/hook/canary-url?t=canary-arg', 'where it belongs');
    is(signed($same[1]), 'time 1 1 0', 'and signed');
}

$l->blocking(0);
ok(!$l->accept(), 'nobody went where a redirect leads');
is(scalar(grep { $_->{uri} ne '/hook/canary-url?t=canary-arg' }
    Notify::received($t)), 0, 'nor elsewhere');
cmp_ok(Notify::queue($t)->{events}, '>=', 6, 'all wait');
cmp_ok(Notify::queue($t)->{failed}, '>=', 6, 'failures count');

Notify::mode($t, '204');
ok(drained(), 'and are taken at last');
is(join(' ', sort { $a cmp $b } Notify::names(Notify::received($t, '204'))),
    join(' ', map { "p/$_:v1" } 1 .. $n), 'each');
my $log = $t->read_file('error.log');
my $queue = qr/"\Q$d\E\/queue"/;
like($log, qr/\[error\].*events\ in\ $queue\ are\ not\ taken,\ they\ wait:
    \ the\ receiver\ answered\ 302,\ which\ is\ not\ followed/x, 'said');
like($log, qr/\[notice\].*events in $queue are taken again/,
    'and that it is over');

# one that no receiver can take does not keep others

Notify::mode($t, '422');
Notify::forget($t);
pull('p/bad', 'v1');
ok(until_true(sub { Notify::queue($t)->{dropped} == 1 }),
    'malformed: given up');
is(scalar(Notify::received($t)), 5, 'after five times');
Notify::mode($t, '200');
pull('p/good', 'v1');
ok(until_true(sub { grep { /good/ } Notify::names(Notify::received($t)) }),
    'the next one comes');
drained();

# the receiver is away, while workers are killed, nginx is reloaded, and
# started anew

sub away { $t->stop_one('upstream1') }
sub back { Notify::receiver($t, port => $receiver) }

away();
my $away = time();
Notify::forget($t);
my @told;

sub pulls {
    my ($round) = @_;
    for my $tag (1 .. 5) {
        for my $repository (map { "o/$_" } 'a' .. 'e') {
            push @told, "$repository:$round-$tag"
                if pull($repository, "$round-$tag") == 200;
        }
    }

    # a client has its answer a moment before that is written

    my @last = @told[-5 .. -1];
    until_true(sub {
        my $all = join '', (map { $_->{body} } Notify::received($t)),
            map { $t->read_file(s!^\Q$d\E/!!r) } glob "$d/queue/*.events";
        return !grep { index($all, "edge.test/$_\"") < 0 } @last;
    });
}

pulls('up');
for my $w ($t->workers()) {
    kill 'KILL', $w;
}
$t->allow(qr/exited on signal 9/);
until_true(sub { $t->workers() == 3 });
pulls('killed');

my @old = $t->workers();
$t->signal('HUP');
until_true(sub { my %n = map { $_ => 1 } $t->workers();
    $t->workers() == 3 && !grep { $n{$_} } @old });
pulls('reloaded');

$t->stop();
$t->start();
ok(until_true(sub { Notify::queue($t)->{events} == 75 }), 'found again');
pulls('restarted');

is(scalar @told, 100, 'a hundred pulls');
ok(until_true(sub { Notify::queue($t)->{events} == 100 }), 'they are counted');
if (($ENV{OUTAGE} // '') eq 'full') {
    while (time() < $away + 120) {
        sleep 1;
    }
    diag(sprintf 'the receiver was away for %.0f s', time() - $away);
}

is(scalar(Notify::received($t)), 0, 'nobody was told');

# some are taken and the answers get lost; then workers are killed again

back();
Notify::mode($t, 'lose');
ok(until_true(sub { Notify::received($t) >= 2 }), 'it is back');
Notify::mode($t, '200');
until_true(sub { Notify::received($t, '200') >= 10 });
kill 'KILL', $_ for $t->workers();
ok(drained(), 'all are taken');

sub check {
    my ($what) = @_;
    my (%id, %order, $twice);
    my %this = map { $_ => 1 } @told;
    for my $r (Notify::received($t)) {
        my ($name) = Notify::names($r);

        # one of before may come once more, as its place was not saved

        next if !$this{$name};
        my $i = $r->{h}{'webhook-id'};
        $twice++, next if $id{$i}++;
        push @{$order{(split /:/, $name)[0]}}, $name;
    }
    my %told;
    push @{$told{(split /:/, $_)[0]}}, $_ for @told;
    is(join("\n", map { @{$order{$_}} } sort keys %order),
        join("\n", map { @{$told{$_}} } sort keys %told),
        "$what: none lost, in their order");
    return $twice // 0;
}

cmp_ok(check('away'), '>=', 2, 'and told apart from those that came twice');

# a kill of whoever sends, again and again

Notify::forget($t);
@told = ();
for my $round (1 .. 6) {
    pulls("k$round");
    @old = $t->workers();
    if ($round % 2) {
        kill 'KILL', @old;
    } else {
        $t->signal('HUP');
    }
    until_true(sub { my %n = map { $_ => 1 } $t->workers();
        $t->workers() == 3 && !grep { $n{$_} } @old });
}
ok(drained(), 'killed and reloaded while sending');
check('killed');

# full: the oldest go

away();
Notify::forget($t);
@told = ();
my $dropped = Notify::queue($t)->{dropped};
my $long = 'x' x 200;
$t->parallel(3, sub {
    my ($i) = @_;
    my $s = $t->connect();
    for my $k (1 .. 500) {
        my $h = { Accept => $type };
        $t->send_request($s, 'GET', "/v2/f$i/$long/manifests/n$k", $h);
        my $r = $t->read_header($s);
        $t->read_body($s, $r, 'GET');
    }
    return 'done';
});
ok(until_true(sub { my $size = 0;
    $size += -s $_ // 0 for glob "$d/queue/*.events";
    Notify::queue($t)->{dropped} > $dropped && $size <= 512 * 1024 }),
    'it is full, and bounded');
$q = Notify::queue($t);
my $sum = $q->{events} + $q->{dropped} - $dropped;

# whoever has just begun to send counts one twice that a worker has written
# and not counted yet

ok($sum >= 1500 && $sum <= 1503, "each is counted: $sum");
like($t->read_file('error.log'),
    qr/the queue $queue is full, its oldest \d+ events are dropped/,
    'said');

back();
ok(drained(), 'the rest is taken');
my %last = map { ($_, 0) } 0 .. 2;
my $wrong = 0;
for (Notify::names(Notify::received($t))) {
    my ($i, $k) = /^f(\d).*:n(\d+)$/ or next;
    $wrong++ if $k < $last{$i};
    $last{$i} = $k;
}
is($wrong, 0, 'in order');
ok(scalar(grep { $_ == 500 } values %last), 'the last ones are among them');

# the directory is taken away, and comes back

$dropped = Notify::queue($t)->{dropped};
rmtree("$d/queue");
is(pull('g/a', 'v1'), 200, 'without a directory: served');
ok(until_true(sub { Notify::queue($t)->{dropped} > $dropped }), 'counted');
$t->allow(qr/events can't be written to|events in .* can't be sent/);
like($t->read_file('error.log'),
    qr/\[crit\].*events can't be written to $queue, they are dropped/,
    'said');
mkdir "$d/queue", 0700;
Notify::forget($t);
pull('g/b', $_) for 1 .. 9;
ok(until_true(sub { Notify::received($t) >= 9 }), 'it is back');
drained();

# nothing of secrets anywhere

for my $f (qw/ error.log access.log nginx.log /, map { s!^\Q$d\E/!!r }
    glob "$d/queue/*")
{
    unlike($t->read_file($f), qr/canary-(secret|other|url|arg)/, "$f");
}

$t->done();
