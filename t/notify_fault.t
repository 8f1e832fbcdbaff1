#!/usr/bin/perl

# oci_notify while its disk fails: no client is told, what can't be written is
# counted as dropped, a record that was cut short hides no other one, and what
# was written when its worker died is told.

use warnings;
use strict;

use Test::More;
use Errno qw/ EACCES EIO ENOSPC /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use Fault;
use Notify;
use OCI;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $type = $OCI::TYPE{manifest};
my $m = '{"schemaVersion":2}';

my $upstream = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $t->digest($m) }, $m);
}, quiet => 1);

my $receiver = Notify::receiver($t);
my $fault = Fault->new($t, dir => "$d/queue");

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$upstream; }
oci_notify pull http://127.0.0.1:$receiver/ queue=$d/queue retry=300ms;
EOC
location /v2/ { oci_pass demo; oci_cache models; }
EOL
$t->allow(qr/events can't be written to|events in .* can't be sent/,
    qr/exited on signal 9|"[^"]*\/lock" failed/);
$fault->start();

my $serial = 0;

sub pull {
    my $tag = 'n' . ++$serial;
    my $r = $t->get("/v2/p/a/manifests/$tag", { Accept => $type });
    is($r->{status}, 200, "$tag is served");
    return "p/a:$tag";
}

sub told { my %n = map { $_ => 1 } Notify::names(Notify::received($t));
    return \%n }

sub comes {
    my ($name, $what) = @_;
    ok(until_true(sub { told()->{$name} }), "$what: $name is told");
}

comes(pull(), 'well');

# nothing can be appended

for my $c ([ENOSPC, 'no room'], [EIO, 'a broken disk'],
    [$SHORT, 'room for a part'])
{
    my ($error, $what) = @$c;
    my $dropped = Notify::queue($t)->{dropped};

    $fault->arm('write', 1, $error, on => 1);
    my @lost = map { pull() } 1 .. 3;

    # a client has its answer a moment before that is written

    until_true(sub { Notify::queue($t)->{dropped} == $dropped + 3 });
    my ($count, $fired) = $fault->disarm();
    cmp_ok($fired, '>=', 3, "$what: it failed");

    my @good = map { pull() } 1 .. 3;
    comes($_, $what) for @good;
    is(Notify::queue($t)->{dropped}, $dropped + 3, 'those are counted');
    ok(!grep({ told()->{$_} } @lost), 'and not told');
    ok(until_true(sub { Notify::queue($t)->{events} == 0 }), 'none is left');
}

like($t->read_file('error.log'),
    qr/events can't be written to "\Q$d\E\/queue", they are dropped/, 'said');
like($t->read_file('error.log'),
    qr/events are written to "\Q$d\E\/queue" again/, 'and that it is over');

# the worker dies in the middle of a record, or right after it

for my $c ([$TORN, 'torn'], [$LATE, 'late']) {
    my ($error, $what) = @$c;
    my @old = $t->workers();
    Notify::mode($t, '500');
    my $first = pull();
    until_true(sub { Notify::received($t, '500') });

    $fault->arm('write', 1, $error);
    my $name = pull();
    ok(until_true(sub { my @w = $t->workers(); @w && $w[0] != $old[0] }),
        "$what: it died");
    $fault->disarm();

    my $last = pull();
    Notify::mode($t, '200');
    comes($_, $what) for $first, $last;
    is(told()->{$name} // 0, $what eq 'late' ? 1 : 0, 'what was written is');
    ok(until_true(sub { Notify::queue($t)->{events} == 0 }), 'none is left');
    unlink "$d/received";
}

# what the sender does fails: it goes on afterwards

for my $function (qw/ open unlink stat read write lock /) {
    $fault->arm($function, 1, EACCES, on => 1);
    my @names = map { pull() } 1 .. 2;
    sleep 1.2;
    $fault->disarm();
    push @names, pull();
    comes($names[2], $function);
    ok(until_true(sub { Notify::queue($t)->{events} == 0 }), 'none is left');
}

# what is appended while the next worker counts is counted once

sub waits {
    my ($n, $what) = @_;
    ok(until_true(sub { Notify::queue($t)->{events} == $n }),
        "$what: $n wait") or diag(Notify::queue($t)->{events});
}

sub killed { kill 'KILL', $t->workers() }

Notify::mode($t, '500');
my @wait = pull();
waits(1, 'a slow disk');
killed();
$fault->arm('read', 2, 0, hang => 1);
ok(until_true(sub { $fault->fired() }), 'a worker counts');
push @wait, map { pull() } 1 .. 5;
unlink "$d/received";
$fault->release();
ok(until_true(sub { Notify::received($t) }), 'and sends');
waits(6, 'a slow disk');
$fault->disarm();
Notify::mode($t, '200');
comes($_, 'a slow disk') for @wait;
waits(0, 'a slow disk');

# the next worker can't read: it begins anew, where the last one was

unlink "$d/received";
comes(pull(), 'well');
waits(0, 'well');
ok(until_true(sub {
    my ($file, $pos) = split / /, $t->read_file('queue/cursor');
    return hex($pos) == -s "$d/queue/$file.events";
}), 'its place is saved');
Notify::mode($t, '500');
@wait = map { pull() } 1 .. 3;
waits(3, 'a broken disk');
until_true(sub { Notify::received($t, '500') });
killed();
$fault->arm('read', 1, EIO, on => 1);
ok(until_true(sub { $fault->fired() >= 4 }), 'a worker can\'t read');
$fault->disarm();
waits(3, 'a disk that is back');
Notify::mode($t, '200');
comes($_, 'a disk that is back') for @wait;
my @told = Notify::names(grep { $_->{mode} eq '200' } Notify::received($t));
is(scalar @told, 4, 'none is told twice');

$t->done();
