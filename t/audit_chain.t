#!/usr/bin/perl

# "chain" of oci_audit_log, and oci-audit-verify: whatever is done to the
# files is found, and nothing is found that nobody did: rotation, reloads,
# restarts, upgrades, workers that die anywhere, disks that are full.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use POSIX qw/ :errno_h /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use Audit;
use Fault;
use OCI;

Audit::need();

my $t = OCI->new(workers => 3, daemon => 1);
my $d = $t->{dir};

mkdir "$d/audit";

my $log = "$d/audit/audit.log";
my $key = Audit::key($t);
my $pub = "$d/audit.pub";
my $other = Audit::key($t, 'other');

my $blob = $t->random_blob(1000);
my $digest = $t->digest($blob);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob);
}, quiet => 1);

my ($block, $plain) = map { OCI::port() } 1 .. 2;

my %conf = (http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; }
oci_audit_log $log chain key=$key;
server {
    listen 127.0.0.1:$block;
    oci_audit_log $log chain key=$key fail=block;
    location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
}
server {
    listen 127.0.0.1:$plain;
    oci_audit_log $d/audit/plain.log fail=block;
    location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
EOL

$t->conf(%conf);
$t->allow(qr/worker process \d+ exited on signal 9/,
    qr/shared memory zone "oci_audit_log:\S+" was locked by/);

my $fault = Fault->new($t, dir => "$d/audit");

$fault->start();

my $n = 0;

# a request that has a record of its own

sub pull {
    my ($p) = @_;
    return $t->http($p || $t->{edge}, 'GET', '/v2/r' . ++$n
        . "/x/blobs/$digest", { Range => 'bytes=0-9' });
}

sub pulls { pull() for 1 .. $_[0] }

# whole files, in order

my @files = ($log);

sub rotate {
    my $name = "$log." . @files;
    rename $log, $name or die;
    splice @files, -1, 0, $name;
    $t->signal('USR1');
    ok(until_true(sub { -s $log }), 'a new file, with a header');
}

sub right {
    my ($name, @args) = @_;
    my ($rc, $out) = Audit::verify('-k', $pub, @args, @files);
    is($rc, 0, "$name: verified") or diag($out);
    return $out;
}

# workers account for what they could not write within a second

sub settles {
    my ($name) = @_;
    until_true(sub { (Audit::verify('-q', '-k', $pub, @files))[0] == 0 });
    return right($name);
}

pulls(30);
my $out = right('at work');
like($out, qr/^\d+ lines of \d chains are as they were written$/m,
    'says how many');
like($out, qr/^the last checkpoint is \d+, of \d{4}-/m, 'and up to where');
like($out, qr/^\d chains have no end, with \d+ lines after/m,
    'and what it can\'t know');
my ($rc) = Audit::verify('-c', '-k', $pub, @files);
is($rc, 1, 'it is not closed');

# checkpoints come with the time

$fault->later(11);
ok(until_true(sub {
    pull();
    Audit::grep_records($log, event => 'checkpoint')
}), 'a checkpoint');
right('with it');

# and events end when they are quiet

my ($first) = Audit::grep_records($log, repository => 'r1/x');
is($first->{event}, 'intent', 'an event');
$fault->later(61);
ok(until_true(sub {
    pull();
    Audit::grep_records($log, repository => 'r1/x', event => 'end')
}), 'ends after a minute');

# nginx opens its files again

for (1 .. 2) {
    pulls(20);
    rotate();
    pulls(20);
    ok(until_true(sub { pull(); -s $log }), 'which is written to');
}
$out = right('after rotations');
($rc, $out) = Audit::verify('-k', $pub, $files[1]);
is($rc, 0, 'a file alone') or diag($out);
like($out, qr/from a file that was not given/, 'which is said');
($rc, $out) = Audit::verify('-k', $pub, @files[0, 2]);
is($rc, 1, 'a file is missing');
like($out, qr/missing/, 'which is said') or diag($out);
($rc, $out) = Audit::verify('-k', $pub, reverse @files);
is($rc, 1, 'files in the wrong order');

# a thousand lines have a checkpoint among them

my $s = $t->connect();
for (1 .. 1100) {
    $t->send_request($s, 'GET', '/v2/r' . ++$n . '/x/tags/list');
    $t->read_body($s, $t->read_header($s), 'GET');
}
close $s;
cmp_ok(scalar(Audit::grep_records($log, event => 'checkpoint')), '>=', 1,
    'after a thousand lines');
right('many lines');

# a worker is killed: its successor says how far its chain went

sub gaps {
    return scalar map { Audit::grep_records($_, event => 'gap') } @files;
}

sub dies {
    my ($how, $name) = @_;
    my %before = map { $_ => 1 } $t->workers();
    my $gaps = gaps();
    $how->();
    ok(until_true(sub {
        my @w = $t->workers();
        @w == 3 && grep { !$before{$_} } @w;
    }), "$name: a successor");
    ok(until_true(sub { gaps() > $gaps }), "$name: writes a gap");
    return right($name);
}

dies(sub { kill 'KILL', ($t->workers())[0] }, 'a worker dies');
pulls(10);

# while it writes: before, in the middle, after

for my $death ([$DEATH, 'before a line'], [$TORN, 'in a line'],
    [$LATE, 'after a line'])
{
    $out = dies(sub {
        $fault->arm('write', 1, $death->[0]);
        until_true(sub { pull(); ($fault->disarm())[1]
            || do { $fault->arm('write', 1, $death->[0]); 0 } });
        $fault->disarm();
    }, "a worker dies $death->[1]");
    like($out, qr/a worker died while it wrote a line/, 'which is said')
        if $death->[0] == $TORN;
    pulls(10);
    right("later");
}

# the same with knots: the next one that is written by the time's going on

for my $death ($DEATH, $TORN, $LATE) {
    dies(sub {
        pulls(6);
        $fault->arm('write', 1, $death);
        until_true(sub { $fault->later(11); eval { $t->status() }; sleep 0.1;
            ($fault->disarm())[1] || do { $fault->arm('write', 1, $death);
            0 } });
        $fault->disarm();
    }, "a worker dies with a checkpoint, $death");
    pulls(10);
}

# the disk is full: drop

$t->allow(qr/oci_audit_log ".*" can't be written/);

for my $error (ENOSPC, EIO, $SHORT) {
    $fault->arm('write', 1, $error, on => 1);
    my @r = map { pull() } 1 .. 12;
    $fault->disarm();
    is(scalar(grep { $_->{status} == 206 } @r), 12, "drop: served, $error");
    ok(until_true(sub { grep { $_->{error} } Audit::records($log) }),
        'it is written again');
    my ($lost) = Audit::grep_records($log, event => 'lost');
    ok($lost, 'what was lost is said') or next;
    like($lost->{error}, qr/No space|Input/, 'and why');
    settles('after errors');
}

my $log_text = $t->read_file('error.log');
my $said = () = $log_text =~ /can't be written/g;
cmp_ok($said, '<=', 9, 'said once a worker and time');
like($log_text, qr/is written again, \d+ of its records are lost/,
    'and its end');
cmp_ok($t->status()->{counters}{audit_lost}, '>=', 36, 'and counted');

# and block

for my $p ($block, $plain) {
    $fault->arm('write', 1, ENOSPC, on => 1);
    my @r = map { pull($p) } 1 .. 24;
    is(scalar(grep { $_->{status} == 503 && $_->{body} !~ /\Q$blob/ } @r), 24,
        'block: 503');
    ok(scalar(grep { $_->{h}{'retry-after'}
        && $_->{body} =~ /"code":"UNAVAILABLE"/ } @r), 'an OCI error');
    $fault->disarm();
    ok(until_true(sub { my $n = 0; $n += pull($p)->{status} == 206 for 1 .. 6;
        $n == 6 }), 'block: served again');
}
settles('after that');

# a short write, then well: the piece is accounted for

for (1 .. 4) {
    $fault->arm('write', 1, $SHORT);
    pulls(6);
    $fault->disarm();
}
$out = settles('after pieces');
like($out, qr/pieces of lines are accounted for/, 'which is said');

# a reload, with another key, and back

pulls(10);
my @old = $t->workers();
$t->conf(map { my $c = $conf{$_}; $c =~ s/audit\.key/other.key/g; ($_, $c) }
    keys %conf);
$t->signal('HUP');
ok(until_true(sub { !grep { kill 0, $_ } @old }), 'a reload');
pulls(10);
($rc, $out) = Audit::verify('-k', $pub, @files);
is($rc, 1, 'another key');
like($out, qr/signed with another key/, 'is not believed');
($rc, $out) = Audit::verify('-k', $pub, '-k', "$d/other.pub", @files);
is($rc, 0, 'unless it is given') or diag($out);
$t->conf(%conf);
$t->signal('HUP');
rotate();

# a restart, and another one without the file of before

for my $keep (1, 0) {
    pulls(10);
    $t->stop();
    right('stopped', '-c', '-k', "$d/other.pub");
    if (!$keep) {
        my $name = "$log." . @files;
        rename $log, $name or die;
        splice @files, -1, 0, $name;
    }
    $fault->start();
    pulls(10);
    $out = right('after a restart', '-k', "$d/other.pub");
    my ($r) = grep { $_->{restart} } Audit::records($log);
    ok($keep ? $r : !$r, 'it is linked ' . ($keep ? 'to what is there'
        : 'to nothing')) or diag(Audit::raw($log));
    like($out, qr/knows of nothing before it/, 'else it is said') if !$keep;
}

# all of nginx is killed

my @all = ($t->{pids}{nginx}, $t->children());
kill 'KILL', @all;
ok(until_true(sub { !grep { !$t->ended($_) } @all }), 'all are killed');
unlink "$d/nginx.pid";
$fault->start();
pulls(10);
right('after a crash', '-k', "$d/other.pub");

# an upgrade: two masters write

my $master = $t->upgrade();
ok(until_true(sub { $t->workers() == 3 }), 'an upgrade');
pulls(20);
kill 'QUIT', $master;
ok(until_true(sub { $t->ended($master) }), 'the old one is gone');
pulls(10);
right('after an upgrade', '-k', "$d/other.pub");
$t->stop();
$out = right('at the end', '-k', "$d/other.pub");
@files = ($log);
right('the last file', '-k', "$d/other.pub");

# whatever is done to the last file is found

my @lines = split /^/, Audit::raw($log);
my ($one) = map { $_->{chain} } grep { $_->{event} eq 'start' }
    Audit::records($log);

sub found {
    my ($name, @changed) = @_;
    $t->write_file('changed.log', join '', @changed);
    my ($rc, $out) = Audit::verify('-c', '-k', $pub, '-k', "$d/other.pub",
        "$d/changed.log");
    is($rc, 1, $name) or diag($out);
    like($out, qr/changed\.log:\d+: \w/, 'with the place');
}

srand 42;

for (1 .. 12) {
    my $i = int rand @lines;
    my @l = @lines;
    my $at = int rand length($l[$i]) - 1;
    substr($l[$i], $at, 1) = chr(33 + (ord(substr $l[$i], $at, 1) - 32) % 94);
    found("a byte of line $i", @l);

    @l = @lines;
    splice @l, $i, 1;
    found("line $i is dropped", @l);

    @l = @lines;
    splice @l, $i, 0, $l[$i];
    found("line $i is there twice", @l);

    @l = @lines;
    my ($chain) = $l[$i] =~ /"chain":"(\w+)"/;
    my ($j) = grep { $_ > $i && $l[$_] =~ /"chain":"$chain"/ } 0 .. $#l;
    if (defined $j) {
        @l[$i, $j] = @l[$j, $i];
        found("lines $i and $j are swapped", @l);
    }

    my $cut = 1 + int rand @lines - 1;
    found("cut at line $cut", @lines[0 .. $cut - 1]);
    found("begins at line $cut", @lines[$cut .. $#lines]);
}

my $text = join '', @lines;
found('the last newline', substr $text, 0, -1);
found('half of the last line', substr $text, 0, -40);
found('a line of nobody', @lines, "{\"ts\":\"now\"}\n");
found('copytruncate', @lines[@lines / 2 .. $#lines]);

# the command

my $usage = qr/^usage: oci-audit-verify/m;
for (['-k', $pub], ['-n'], [$log], ['-n', '-k', $pub, $log], ['-x', $log]) {
    ($rc, $out) = Audit::verify(@$_);
    is($rc, 2, 'usage');
    like($out, $usage, 'is said');
}
($rc, $out) = Audit::verify('-n', $log);
is($rc, 0, 'without a key');
like($out, qr/its signature was not checked/, 'which is said');
($rc, $out) = Audit::verify('-q', '-n', $log);
is($out, '', 'quiet');
($rc, $out) = Audit::verify('-n', "$d/nothing");
is($rc, 2, 'no file');
($rc, $out) = Audit::verify('-k', $key, $log);
is($rc, 2, 'not a public key');
($rc, $out) = Audit::verify('-n', $d);
is($rc, 2, 'a directory');
is(system("$Audit::VERIFY -n - < $log > /dev/null"), 0, 'standard input');

my $man = dirname(__FILE__) . '/../man/oci-audit-verify.1';
ok(-s $man, 'a man page');

$t->done();
