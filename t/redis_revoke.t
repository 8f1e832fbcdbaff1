#!/usr/bin/perl

# How long after a change in Redis it is in force on every worker: by the
# channel, without it, and with a large document.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Redis;

my $full = $ENV{REVOKE};
my $changes = $full ? 100 : 20;
my $cut = $full ? 20 : 5;
my $poll = 1;

# a machine with other tests on it may be slow: what is measured there says
# little, so that only what never comes fails

my $slack = $full ? 1 : 8;

my $t = OCI->new(workers => 3);
my $d = $t->{dir};

my $phc = Policy::phc('canary-alice');
my $doc = { subjects => { alice => { secret => $phc } },
    grants => { g => { role => 'guest', subjects => ['alice'],
        repositories => ['llm/**'] } } };

my $redis = Redis->new($t, conf => <<EOC);
user edge on >canary-edge ~* &* +\@all
EOC
$redis->import_doc($doc);
$t->write_file('redis.password', "canary-edge\n", 0600);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}');
}, quiet => 1);

$t->conf(http => <<EOC, location => <<EOL);
keepalive_requests 10000000;
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source unix:$redis->{path};
    user edge; password_file redis.password;
    zone team:64m; identity basic; poll ${poll}s;
    state_file $d/state/team;
}
EOC
location /v2/ { oci_pass demo; oci_access team; }
EOL
$t->start();

my $basic = { Policy::basic('alice', 'canary-alice') };
my $uri = '/v2/llm/a/tags/list';

ok(until_true(sub { $t->get($uri, $basic)->{status} == 200 }),
    'a document');

my %s = $t->to_workers();
is(scalar(keys %s), 3, 'three workers');

# seconds until all workers say so

sub until_all {
    my ($status, $begin) = @_;
    my %left = %s;
    my $last = 0;
    while (%left && time() < $begin + 20) {
        for my $pid (keys %left) {
            $t->send_request($left{$pid}, 'GET', $uri, $basic);
            my $r = $t->read_header($left{$pid});
            $t->read_body($left{$pid}, $r, 'GET');
            delete $left{$pid} if $r->{status} == $status;
        }
    }
    return time() - $begin;
}

sub measure {
    my ($n) = @_;
    my @times;
    for my $i (1 .. $n) {
        my $off = $i % 2;
        my %alice = (secret => $phc,
            $off ? (disabled => JSON::PP::true) : ());
        sleep rand($poll);
        my $begin = time();
        $redis->change('subject/alice' => \%alice);
        push @times, until_all($off ? 401 : 200, $begin);
    }
    @times = sort { $a <=> $b } @times;
    return ($times[$#times / 2], $times[int($#times * 0.99 + 0.5)],
        $times[-1]);
}

sub said {
    my ($what, $n, @ms) = @_;
    diag(sprintf "%s: %d changes, ms until all workers had one: median %.1f,"
        . ' p99 %.1f, most %.1f', $what, $n, map { $_ * 1000 } @ms);
}

my @ms = measure($changes);
said('by the channel', $changes, @ms);
cmp_ok($ms[1], '<=', $slack, 'by the channel within a second');

# the channel is cut, and denied

$redis->command('ACL', 'SETUSER', 'edge', '-subscribe');
$redis->command('CLIENT', 'KILL', 'TYPE', 'pubsub');
ok(until_true(sub { $t->read_file('error.log')
    =~ /the channel "\{oci\}:changed" of oci_policy "team" can't be had/ }),
    'the channel is cut');
@ms = measure($cut);
said('without the channel', $cut, @ms);
cmp_ok($ms[2], '<=', $poll * $slack, 'without the channel within the poll');

$redis->command('ACL', 'SETUSER', 'edge', '+subscribe');
ok(until_true(sub { $t->read_file('error.log')
    =~ /the channel "\{oci\}:changed" of oci_policy "team" is there again/ }),
    'and is there again');

# a fleet's document

my $subjects = $full ? 100_000 : 2_000;
my $projects = $subjects / 10;
my %many = map { ("subject/s$_" => JSON::PP->new->canonical->encode({
    secret => $phc, groups => ['g' . $_ % 1000] })) }
    1 .. $subjects;
$many{"project/p$_"} = '{"public":' . ($_ % 2 ? 'true' : 'false') . '}'
    for 1 .. $projects;
$many{"grants/g$_"} = qq({"role":"guest","groups":["g$_"],)
    . qq("repositories":["p$_/**"]}) for 1 .. 999;
my $bytes = 0;
$bytes += length($_) + length $many{$_} for keys %many;

my $begin = time();
my $epoch = $redis->change(%many);
my $written = time() - $begin;
my ($loaded, $rules);
until_true(60, sub { ($rules) = $t->read_file('error.log')
    =~ /is in force: epoch $epoch, @{[ $subjects + 1 ]} subjects, (\d+) /
    and $loaded = time() });
ok($loaded, 'a large document');
diag(sprintf '%d subjects, %d projects, %d rules, %.1f MB: written in %.2f'
    . ' s, in force %.2f s after that', $subjects, $projects, $rules,
    $bytes / 1e6, $written, $loaded - $begin - $written);
cmp_ok($loaded - $begin - $written, '<', 10 * $slack, 'in seconds');

my $n = $full ? 20 : 4;
@ms = measure($n);
said("with $subjects subjects", $n, @ms);
cmp_ok($ms[1], '<', 2 * $slack, 'a change of it');

my ($kb) = sort { $b <=> $a } map {
    open my $f, '<', "/proc/$_/status";
    join('', $f ? <$f> : ()) =~ /VmRSS:\s+(\d+)/;
} $t->workers();
diag("the worker that follows has $kb kB");

$t->done();
