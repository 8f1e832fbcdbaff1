#!/usr/bin/perl

# A policy whose document a Redis has: loaded, followed, kept; in force on
# every worker, without asking Redis for any decision.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use Audit;
use OCI;
use Policy;
use Redis;

my $t = OCI->new(workers => 3);
my $d = $t->{dir};

my %secret = map { $_ => "canary-$_-5e10" } qw/ alice bob /;
my %phc = map { $_ => Policy::phc($secret{$_}) } keys %secret;
my $doc = {
    subjects => { alice => { secret => $phc{alice}, groups => ['ml'] },
        bob => { secret => $phc{bob} } },
    roles => { mirror => ['pull', 'delete'] },
    grants => { devs => { role => 'developer', groups => ['ml'],
        repositories => ['llm/**'] }, 'g/"2\\' => { role => 'mirror',
        subjects => ['bob'], repositories => ['llm/open'] } },
    projects => { public => { public => JSON::PP::true } },
};

my $password = 'canary-redis-77c1';
my $redis = Redis->new($t, conf => <<EOC);
user edge on >$password ~{oci}:* &{oci}:* +get +hmget +hscan +hgetall +multi +exec +subscribe +ping +select
EOC
$redis->import_doc($doc);

my $other = Redis->new($t, name => 'other', prefix => 'team/a');
$other->command('SELECT', 3);
$other->import_doc($doc);
$other->command('SET', '{team/a}:epoch', 1000);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}');
});

my $second = OCI::port();
$t->write_file('redis.password', "$password\n", 0600);
Policy::signing_key($t, 'edge.pem');
$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source redis://127.0.0.1:$redis->{port};
    user edge;
    password_file redis.password;
    zone team:1m;
    identity basic anonymous;
    signing_key $d/edge.pem; realm http://edge.test/token;
    state_file $d/state/team;
}
oci_policy other {
    source redis://127.0.0.1:$other->{port}/3;
    prefix team/a;
    poll 500ms;
    zone other:1m;
    identity basic anonymous;
    signing_key $d/edge.pem; realm http://edge.test/token;
    state_file off;
}
log_format oci '\$uri \$status \$oci_subject \$oci_decision '
    '\$oci_decision_source \$oci_policy_rule';
server {
    listen 127.0.0.1:$second;
    oci_audit_log $d/audit.log;
    location /v2/ { oci_pass demo; oci_access other; }
}
EOC
location /v2/ {
    oci_pass demo; oci_access team;
    access_log $d/oci.log oci;
}
EOL
$t->start();

sub as { my ($user) = @_; return { Policy::basic($user, $secret{$user}) } }

my $m = '/tags/list';
my $loaded = until_true(sub {
    $t->get("/v2/llm/a$m", as('alice'))->{status} == 200 });
ok($loaded, 'a document comes from Redis');

my %s = $t->to_workers();
is(scalar(keys %s), 3, 'three workers');

sub ask {
    my ($user, $uri) = @_;
    my %status;
    for my $pid (sort keys %s) {
        $t->send_request($s{$pid}, 'GET', $uri, as($user));
        my $r = $t->read_header($s{$pid});
        $t->read_body($s{$pid}, $r, 'GET');
        $status{$r->{status}}++;
    }
    return join ' ', map { "$_:$status{$_}" } sort keys %status;
}

sub until_all {
    my ($want, @ask) = @_;
    return until_true(10, sub { ask(@ask) eq $want });
}

is(ask('alice', "/v2/llm/a$m"), '200:3', 'all workers have it');
is(ask('bob', "/v2/llm/open$m"), '200:3', 'a name with special characters');
is(ask('bob', "/v2/llm/a$m"), '404:3', 'no grant');
my $r = $t->get("/v2/public/x$m");
is($r->{status}, 200, 'a public project');
like($t->read_file('error.log'), qr/is in force: epoch 1, 2 subjects, /,
    'the log says so');

# fields, one by one

my $e = $redis->change('grants/bob' => { role => 'guest',
    subjects => ['bob'], repositories => ['llm/a'] });
is($e, 2, 'a change');
ok(until_all('200:3', 'bob', "/v2/llm/a$m"), 'a new field is in force');
$redis->change('grants/bob' => undef);
ok(until_all('404:3', 'bob', "/v2/llm/a$m"), 'one that went');
$redis->change('subject/bob' => { secret => $phc{bob},
    disabled => JSON::PP::true });
ok(until_all('401:3', 'bob', "/v2/llm/open$m"), 'one that changed');
$redis->change('subject/bob' => { secret => $phc{bob} });
ok(until_all('200:3', 'bob', "/v2/llm/open$m"), 'and back');

# many at once, by name, and "*"

$redis->change(map { ("subject/n$_" => {}) } 1 .. 150);
ok(until_true(sub { $t->read_file('error.log')
    =~ /epoch 6, 152 subjects/ }), 'many fields');
$redis->change(map { ("subject/n$_" => {}) } 1 .. 1200);
ok(until_true(sub { $t->read_file('error.log')
    =~ /epoch 7, 1202 subjects/ }), 'all fields');
$redis->change(map { ("subject/n$_" => undef) } 1 .. 1200);
ok(until_true(sub { $t->read_file('error.log')
    =~ /epoch 8, 2 subjects/ }), 'and without');

# changes that nobody was told of come with the poll

$redis->command('HSET', '{oci}:doc', 'subject/bob', '{"disabled":true}');
$redis->command('INCR', '{oci}:epoch');
ok(until_all('401:3', 'bob', "/v2/llm/open$m"), 'without a message');
$redis->change('subject/bob' => { secret => $phc{bob} });
ok(until_all('200:3', 'bob', "/v2/llm/open$m"), 'and with one');

# messages without a change, and with fields that aren't there

$redis->command('PUBLISH', '{oci}:changed', $_) for '', "\n", 'x',
    'subject/nobody', "subject/bob\nsubject/bob", 'x' x 10000, "a\n" x 2000;
$redis->change('subject/carol' => {});
ok(until_true(sub { $t->read_file('error.log')
    =~ /epoch 11, 3 subjects/ }), 'odd messages do no harm');
is(ask('bob', "/v2/llm/open$m"), '200:3', 'none at all');

# no round trip for a decision

my $count = sub {
    return $redis->command('INFO', 'commandstats')
        =~ /cmdstat_([^:]+):calls=(\d+)/g;
};
my %before = $count->();
my $begin = time();
ask('alice', "/v2/llm/a$m") for 1 .. 100;
my $took = time() - $begin;
my %after = $count->();
my $polls = 2 + $took / 0.8;
cmp_ok($after{get} - $before{get}, '<=', $polls,
    'Redis is asked for its epoch only');
is(join(' ', grep { !/^(get|info|ping)$/
    && $after{$_} != ($before{$_} // 0) } sort keys %after), '',
    'and for nothing else');

# another database, another prefix

$r = $t->http($second, 'GET', "/v2/llm/a$m", as('alice'));
is($r->{status}, 200, 'another prefix and database');
my ($i) = Audit::grep_records("$d/audit.log", event => 'intent');
is($i->{policy_epoch}, 1000, 'a record has the epoch of Redis');
$other->change('subject/alice' => undef);
ok(until_true(sub { $t->http($second, 'GET', "/v2/llm/a$m",
    as('alice'))->{status} == 401 }), 'with changes of its own');
is(ask('alice', "/v2/llm/a$m"), '200:3', 'which are not the first one\'s');

# what the log and the status say

my ($line) = reverse split /\n/, $t->read_file('oci.log');
is($line, "/v2/llm/a$m 200 alice allow redis grants/devs",
    '$oci_decision_source');
my $ages = $t->status()->{policies};
is(join(' ', sort keys %$ages), 'other team', 'the status has both');
cmp_ok($ages->{team}{age_ms}, '<', 5000, 'and how old they are');
like($t->get('/metrics')->{body},
    qr/^nginx_oci_policy_age_seconds\{policy="team"\} \d+\.\d{3}$/m,
    'so have the metrics');

# the worker that follows dies; all do; a reload

kill 'KILL', $_ for $t->workers();
sleep 0.5;
%s = $t->to_workers();
$redis->change('subject/bob' => { secret => $phc{bob},
    disabled => JSON::PP::true });
ok(until_all('401:3', 'bob', "/v2/llm/open$m"), 'its successor follows');

my %old = map { $_ => 1 } $t->workers();
$t->signal('HUP');
until_true(sub { !grep { $old{$_} } $t->workers() });
%s = $t->to_workers();
is(ask('alice', "/v2/llm/a$m"), '200:3', 'a reload goes on with it');
$redis->change('subject/bob' => { secret => $phc{bob} });
ok(until_all('200:3', 'bob', "/v2/llm/open$m"), 'and follows');

# the state file

my $state = "$d/state/team";
ok(until_true(sub { $t->read_file('state/team') =~ /^epoch 0{18}13$/m }),
    'the document is kept');
is(sprintf('%o', (stat $state)[2] & 07777), '600', 'for nobody else');
like($t->read_file('state/team'), qr/"subject|"subjects"/, 'as it is');
is(join(' ', glob "$d/state/*"), $state, 'and nothing beside it');
my ($was) = $t->read_file('state/team') =~ /^time (\d+)$/m;
ok(until_true(40, sub {
    my ($is) = $t->read_file('state/team') =~ /^time (\d+)$/m;
    $is > $was;
}), 'with the time at which it was current');
unlink $state;
ok(until_true(70, sub { -s $state }), 'one that went is written again');

# no secret anywhere

my $text = join '', map { $t->read_file($_) } qw/ error.log nginx.log
    access.log audit.log oci.log upstream0.requests state\/team /;
unlike($text, qr/canary/, 'no secret in a log, or kept');

$t->allow(qr/worker process \d+ exited on signal 9/);
$t->done();
