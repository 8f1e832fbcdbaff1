#!/usr/bin/perl

# Redis is killed under load, and nginx restarted meanwhile: everybody is
# decided from the document, nobody gets what is not theirs, past "stale"
# nobody gets anything, and all is well two seconds after Redis is back.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Redis;

my $full = $ENV{OUTAGE};
my $gone = $full ? 60 : 6;
my $stale = $gone + 4;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my @users = map { "u$_" } 1 .. 20;
my $phc = Policy::phc('canary-secret');
my $doc = { subjects => { map { $_ => { secret => $phc } } @users },
    grants => { map { my $u = $_; ("g-$u" => { role => 'guest',
        subjects => [$u], repositories => ["of-$u/**"] }) } @users } };

my $redis = Redis->new($t);
$redis->import_doc($doc);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}');
}, quiet => 1);

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source redis://127.0.0.1:$redis->{port};
    zone team:1m; identity basic; stale ${stale}s;
    state_file $d/state/team;
}
EOC
location /v2/ { oci_pass demo; oci_access team; }
EOL
$t->start();

ok(until_true(sub { $t->get('/v2/of-u1/x/tags/list',
    { Policy::basic('u1', 'canary-secret') })->{status} == 200 }),
    'a document');
ok(until_true(sub { -s "$d/state/team" }), 'which is kept');

# clients: theirs, and what isn't.  Each answer is a line: when, how long,
# right, status

my $stop = "$d/stop";
my @load;

for my $i (0 .. 3) {
    my $pid = fork() // die;
    push @load, $pid;
    next if $pid;
    open my $f, '>', "$d/load.$i" or POSIX::_exit(1);
    srand $i;
    while (!-e $stop) {
        my $u = $users[rand @users];
        my $right = rand() < 0.5;
        my $of = $right ? $u : $users[rand @users];
        $right = $of eq $u;
        my $begin = time();
        my $r = eval { $t->get("/v2/of-$of/x/tags/list",
            { Policy::basic($u, 'canary-secret') }) } || { status => 0 };
        printf $f "%.3f %.3f %d %d\n", $begin, time() - $begin, $right,
            $r->{status};
        sleep 0.02;
    }
    close $f;
    POSIX::_exit(0);
}

sleep 3;
my $killed = time();
$redis->kill();
sleep $gone / 2;

my $down = time();
ok($t->stop(), 'nginx ends');
$t->start();
my $up = time();
sleep $gone / 2 - 1;
my $until = time();

ok(until_true($stale, sub { $t->get('/v2/of-u1/x/tags/list',
    { Policy::basic('u1', 'canary-secret') })->{status} == 503 }),
    'past "stale"');
my $past = time();
sleep 2;

$redis->start();
my %f = Redis::fields($doc);
$redis->command('MULTI');
$redis->command('HSET', '{oci}:doc', $_,
    JSON::PP->new->canonical->encode($f{$_})) for sort keys %f;
$redis->command('SET', '{oci}:epoch', 1);
$redis->command('EXEC');
my $back = time();
sleep 4;

$t->write_file('stop', '');
waitpid $_, 0 for @load;

my (%before, %during, %after, %well, @slow, @wrong);
for my $line (map { split /\n/, $t->read_file("load.$_") } 0 .. 3) {
    my ($when, $took, $right, $status) = split / /, $line;
    push @wrong, $line if $status == 200 && !$right;
    my $h = $when < $killed ? \%before
        : $when > $down - 0.2 && $when < $up ? next
        : $when < $until ? \%during
        : $when > $past && $when < $back ? \%after
        : $when > $back + 2 ? \%well : next;
    $h->{$right ? 'right' : 'wrong'}{$status}++;
    push @slow, $took if $h == \%before || $h == \%during;
}

sub kinds {
    my ($h) = @_;
    return join ' ', map { my $k = $_; map { "$k:$_" }
        sort keys %{$h->{$k}} } sort keys %$h;
}

sub sum {
    my ($h) = @_;
    my $n = 0;
    $n += $_ for map { values %$_ } values %$h;
    return $n;
}

is(scalar(@wrong), 0, 'nobody got what is not theirs');
is(kinds(\%before), 'right:200 wrong:404', 'with Redis');
is(kinds(\%during), 'right:200 wrong:404', 'without');
is(kinds(\%after), 'right:503 wrong:503', 'past "stale"');
is(kinds(\%well), 'right:200 wrong:404', 'two seconds after it is back');
@slow = sort { $a <=> $b } @slow;
diag(sprintf '%d requests before, %d without Redis for %.0f s, %d past'
    . ' "stale", %d after; slowest %.3f s, median %.4f s', sum(\%before),
    sum(\%during), $until - $killed, sum(\%after), sum(\%well), $slow[-1],
    $slow[$#slow / 2]);

$t->done();
