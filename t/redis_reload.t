#!/usr/bin/perl

# Reloads of a policy whose document a Redis has: another source, another
# zone, one that fails late; an upgrade.  Who has a right keeps it meanwhile.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Socket::INET;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Redis;

my $t = OCI->new(workers => 2, daemon => 1);
my $d = $t->{dir};

my %secret = map { $_ => "$_-secret" } qw/ alice bob /;
my $subjects = { map { $_ => { secret => Policy::phc($secret{$_}) } }
    keys %secret };

# alice may always; bob as the source says

sub doc {
    my ($of) = @_;
    return { version => 1, subjects => $subjects, grants => {
        a => { role => 'guest', subjects => ['alice'],
            repositories => ['llm/**'] },
        b => { role => 'guest', subjects => ['bob'],
            repositories => ["$of/**"] } } };
}

my $one = Redis->new($t, name => 'one');
my $two = Redis->new($t, name => 'two');
$one->command('SET', '{oci}:epoch', 100);
$one->import_doc(doc('one'));
$two->import_doc(doc('two'));
Policy::write_doc($t, doc('file'));

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}');
}, quiet => 1);

sub conf {
    my ($source, $zone, $more) = @_;
    $source .= "; poll 500ms; stale 1m; state_file $d/state/team"
        unless $source =~ /^file/;
    $t->conf(shutdown_timeout => '2s', http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source $source;
    zone team:$zone; identity basic;
}
@{[ $more // '' ]}
EOC
location /v2/ { oci_pass demo; oci_access team; }
EOL
}

my $a = "redis://127.0.0.1:$one->{port}";
my $b = "unix:$two->{path}";

sub status {
    my ($user, $of) = @_;
    return $t->get("/v2/$of/x/tags/list",
        { Policy::basic($user, $secret{$user}) })->{status};
}

sub is_of {
    my ($of) = @_;
    return until_true(20, sub { status('bob', $of) == 200 });
}

conf("file:$d/policy.json", '1m');
$t->start();
ok(is_of('file'), 'a file');

# alice asks all the time

my $pid = fork() // die;
if (!$pid) {
    my %n;
    while (!-e "$d/stop") {
        my $s = eval { status('alice', 'llm') } // 0;
        $n{$s}++;
        $t->write_file('alice', join ' ', map { "$_:$n{$_}" } sort keys %n);
        sleep 0.01;
    }
    POSIX::_exit(0);
}

sub reload {
    my ($what, $of, @conf) = @_;
    my %old = map { $_ => 1 } $t->workers();
    conf(@conf);
    $t->signal('HUP');
    ok(until_true(20, sub { !grep { $old{$_} } $t->workers() }), $what);
    ok(is_of($of), "its document is that of \"$of\"");
}

reload('a Redis in place of a file', 'one', $a, '1m');
is(status('bob', 'file'), 404, 'and not of another');
reload('the same again', 'one', $a, '1m');
ok(until_true(sub { -s "$d/state/team" }), 'it is kept');
reload('a larger zone', 'one', $a, '2m');
reload('another Redis', 'two', $b, '2m');
is(status('bob', 'one'), 404, 'with a lower epoch');
$two->change('grants/b' => doc('three')->{grants}{b});
ok(is_of('three'), 'which is followed');
reload('the first one', 'one', $a, '2m');
reload('a Redis that is not there', 'one', 'redis://127.0.0.1:1', '2m');
like($t->read_file('error.log'),
    qr/is out of reach, the document that is known counts for 5\d s/,
    'counts no longer than before');
reload('a file', 'file', "file:$d/policy.json", '2m');
reload('a Redis again', 'one', $a, '2m');

# fails late: in the zone was what the running workers did not put there

my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1,
    Proto => 'tcp') or die $!;
my $number = $taken->sockport();

for my $c (["file:$d/policy.json", 'a file'], [$b, 'another Redis']) {
    my $before = () = $t->read_file('error.log') =~ /still could not bind/g;
    conf($c->[0], '2m', "server { listen 127.0.0.1:$number; }");
    $t->signal('HUP');
    ok(until_true(20, sub { $before < (() = $t->read_file('error.log')
        =~ /still could not bind/g) }), "a reload to $c->[1] fails");
    ok(is_of('one'), 'the document is that of the running configuration');
    is(status('bob', 'file'), 404, 'and of no other');
    my $n = 'again' . length $c->[1];
    $one->change('grants/b' => doc($n)->{grants}{b});
    ok(is_of($n), 'which is followed');
    $one->change('grants/b' => doc('one')->{grants}{b});
    ok(is_of('one'), 'as before');
}

# an upgrade: another master, with zones of its own

conf($a, '2m');
my $old = $t->upgrade();
until_true(sub { $t->workers() >= 2 });
kill 'QUIT', $old;
ok(until_true(20, sub { $t->ended($old) }), 'an upgrade');
ok(is_of('one'), 'the document is that of "one"');
$one->change('grants/b' => doc('up')->{grants}{b});
ok(is_of('up'), 'which is followed');

$t->write_file('stop', '');
waitpid $pid, 0;
like($t->read_file('alice'), qr/^(0:\d+ )?200:\d+$/,
    'alice kept her right meanwhile');
diag($t->read_file('alice'));

$t->allow(qr/bind\(\) to 127\.0\.0\.1:$number failed/,
    qr/still could not bind/);
$t->done();
