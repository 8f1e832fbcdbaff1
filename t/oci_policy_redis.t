#!/usr/bin/perl

# The command oci-policy with a document in Redis.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Socket::INET;
use JSON::PP;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Command;

plan(skip_all => 'oci-policy is not built, see "make commands"')
    unless -x $Command::BINARY;
OCI->skip_all_unless('redis-server');

my $t = OCI->new();
my $d = $t->{dir};
my $digest = 'sha256:' . 'cd' x 32;

my ($port, $socket) = Command::redis($t);
my @unix = ('--source', "unix:$socket");
my @tcp = ('--source', "redis://127.0.0.1:$port/3", '--prefix', 'fleet');

my $doc = {
    version => 1,
    subjects => { map { $_ => { secret =>
        Policy::phc("canary-$_", i => 1000) } }
        qw/ alice bob carol / },
    roles => { mirror => ['pull', 'delete'] },
    grants => { mirrors => { role => 'mirror', subjects => ['alice', 'bob'],
        repositories => ['llm/**'] } },
    projects => { public => { public => JSON::PP::true } },
};

sub policy { return Command::policy($t, @_) }

sub cli { return Command::cli($socket, @_) }


# import: what differs, in one transaction

$t->write_file('doc.json', Policy::json($doc), 0600);

my $r = policy(@unix, 'quarantine', $digest, '--reason', 'x');
is($r->{rc}, 3, 'no document is made by mistake');
is(cli('KEYS', '*'), '', 'nothing is written');

$r = policy(@unix, 'import', "$d/doc.json", '--dry-run');
is($r->{rc}, 0, 'a dry run');
is(cli('KEYS', '*'), '', 'writes nothing');

my $monitor = IO::Socket::UNIX->new(Peer => $socket) or die $!;
print $monitor "SUBSCRIBE {oci}:changed\r\n";

sub heard {
    my ($re) = @_;
    our $text //= '';
    $monitor->blocking(0);
    return until_true(10, sub {
        sysread $monitor, $text, 65536, length $text;
        return 0 if $text !~ $re;
        $text = '';
        return 1;
    });
}

ok(heard(qr/subscribe/), 'subscribed');

$r = policy(@unix, 'import', "$d/doc.json");
is($r->{rc}, 0, 'import') or diag $r->{err};
is(join(' ', sort split /\n/, cli('HKEYS', '{oci}:doc')),
    'grants/mirrors project/public role/mirror subject/alice subject/bob '
    . 'subject/carol', 'its fields');
is(cli('HGET', '{oci}:doc', 'role/mirror'), '["pull","delete"]', 'a value');
my $first = cli('GET', '{oci}:epoch');
cmp_ok(abs($first / 1000 - time()), '<', 60, 'the epoch begins with the time');
ok(heard(qr/message.*\{oci\}:changed.*subject\/alice\n/s), 'the message');

is(policy(@unix, 'import', "$d/doc.json")->{out}, "nothing differs\n",
    'once more');
is(cli('GET', '{oci}:epoch'), $first, 'writes nothing');

$r = policy(@unix, 'disable', 'bob');
is("$r->{rc} $r->{out}", "0 ~ subject/bob disabled: none -> true\n",
    'disable');
is(cli('GET', '{oci}:epoch'), $first + 1, 'the epoch');
ok(heard(qr/\$11\r\nsubject\/bob\r\n\z/), 'the message names the field');
my $bob = decode_json(cli('HGET', '{oci}:doc', 'subject/bob'));
ok($bob->{disabled}, 'the field');
is($bob->{secret}, $doc->{subjects}{bob}{secret}, 'the rest of it stays');

$r = policy(@unix, 'diff', "$d/doc.json");
is("$r->{rc} $r->{out}", "1 ~ subject/bob disabled: true -> none\n", 'diff');
is(policy(@unix, 'enable', 'bob')->{rc}, 0, 'enable');
is(policy(@unix, 'diff', "$d/doc.json")->{rc}, 0, 'nothing differs');
is_deeply(decode_json(policy(@unix, 'export', '--secrets')->{out}), $doc,
    'export');

$r = policy(@unix, 'check', 'bob', 'delete', 'llm/a');
is("$r->{rc} $r->{out}", "0 allow: by grants/mirrors, on llm/**\n", 'check');

policy(@unix, 'quarantine', $digest, '--reason', 'stolen');
is(decode_json(cli('HGET', '{oci}:doc', "quarantine/$digest"))->{reason},
    'stolen', 'quarantine');
is(policy(@unix, 'release', $digest)->{rc}, 0, 'release');
is(cli('HEXISTS', '{oci}:doc', "quarantine/$digest"), 0, 'is gone');

my $small = { %$doc, subjects => { alice => $doc->{subjects}{alice},
    bob => {} } };
$r = policy(@unix, 'import', '-', { in => Policy::json($small) });
is($r->{rc}, 0, 'import of less');
is(join(' ', sort grep { /subject/ } split /\n/,
    cli('HKEYS', '{oci}:doc')), 'subject/alice subject/bob',
    'removes what is not in it');
like(policy(@unix, 'show')->{out}, qr/^epoch: ${\($first + 5)}\n/m,
    'show: the epoch');


# a refused change

$r = policy(@unix, 'import', '-', { in => '{"version":1,"grants":{"g":{'
    . '"role":"none","repositories":["a"]}}}' });
is($r->{rc}, 3, 'a document that nginx would refuse');
is(cli('GET', '{oci}:epoch'), $first + 5, 'is not written');


# another database and prefix, by TCP

is(policy(@tcp, 'import', "$d/doc.json")->{rc}, 0, 'by TCP');
isnt(cli('-n', 3, 'GET', '{fleet}:epoch'), '', 'into its database');
is(cli('-n', 3, 'HLEN', '{fleet}:doc'), 6, 'with its prefix');
is(policy('--source', "unix:$socket", '--db', '3', '--prefix', 'fleet',
    'show')->{rc}, 0, '--db');


# very many at once: one message for all

my %many = map { ("s$_" => {}) } 1 .. 5000;
cli('DEL', '{oci}:doc');
$r = policy(@unix, 'import', '-', { in => JSON::PP->new->encode({
    version => 1, subjects => \%many }) });
is($r->{rc}, 0, '5000 subjects');
is(cli('HLEN', '{oci}:doc'), 5000, 'are there');
ok(heard(qr/\$1\r\n\*\r\n\z/), 'the message says that all changed');
like(policy(@unix, 'show')->{out}, qr/^subjects: 5000 /m, 'are read');
policy(@unix, 'import', "$d/doc.json");
is(cli('HLEN', '{oci}:doc'), 6, 'and removed');


# writers at once: no change is lost, also none of those that know no lock

my $epoch = cli('GET', '{oci}:epoch');
my @rc = $t->parallel(4, sub {
    my ($i) = @_;
    my $bad = 0;
    for my $k (1 .. 10) {
        $bad++ if policy($i % 2 ? @unix : ('--source',
            "redis://127.0.0.1:$port"), 'disable', "w$i-$k", '--create')
            ->{rc} ne '0';
    }
    return $bad;
});
is("@rc", '0 0 0 0', 'four writers at once');
is(scalar(grep { /^subject\/w\d-\d+$/ } split /\n/,
    cli('HKEYS', '{oci}:doc')), 40, 'no change is lost');
is(cli('GET', '{oci}:epoch'), $epoch + 40, 'each counts once');

# another writer just before a change is written: code is run between what was
# read and the first so many transactions

sub between {
    my ($times, $code) = @_;
    my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5)
        or die $!;
    my $pid = fork() // die $!;
    return ($pid, '--source', 'redis://127.0.0.1:' . $l->sockport()) if $pid;

    my $c = $l->accept();
    my $s = IO::Socket::UNIX->new(Peer => $socket) or die $!;
    my $buf;
    while (1) {
        vec(my $in = '', fileno $c, 1) = 1;
        vec($in, fileno $s, 1) = 1;
        select $in, undef, undef, undef;
        for ([$c, $s], [$s, $c]) {
            next if !vec $in, fileno $_->[0], 1;
            sysread $_->[0], $buf, 65536 or POSIX::_exit(0);
            $code->() if $_->[0] == $c && $buf =~ /MULTI/ && $times-- > 0;
            syswrite $_->[1], $buf;
        }
    }
}

sub beside {
    my ($times, $code, @args) = @_;
    my ($pid, @source) = between($times, $code);
    my $r = policy(@source, @args);
    waitpid $pid, 0;
    return $r;
}

cli('HSET', '{oci}:doc', 'subject/both', '{}');
$r = beside(3, sub { policy(@unix, 'secret', 'both', '--pbkdf2', '--cost',
    '1000', { in => 'x' }) }, 'disable', 'both');
is($r->{rc}, 0, 'others write before, three times') or diag $r->{err};
is(join(' ', sort keys %{decode_json(cli('HGET', '{oci}:doc',
    'subject/both'))}), 'disabled secret', 'both changes are there');

$r = beside(1, sub { cli('HSET', '{oci}:doc', 'subject/carol',
    '{"groups":["by hand"]}') }, 'disable', 'carol');
is($r->{rc}, 3, 'who writes by hand, without the epoch, is seen, too');

cli('HSET', '{oci}:doc', 'subject/carol', '{}');

$r = beside(100, sub { cli('INCR', '{oci}:epoch') }, 'disable', 'carol');
is($r->{rc}, 5, 'others write at every try') or diag $r->{err};
ok(!decode_json(cli('HGET', '{oci}:doc', 'subject/carol'))->{disabled},
    'nothing is written');

$r = policy(@unix, 'disable', 'carol');
is($r->{rc}, 0, 'and then it is') or diag $r->{err};


# fields that are none of a document

cli('HSET', '{oci}:doc', "odd\x1b[31m", '1', 'subject/broken', '{',
    'subject/', '{}', "grants/\xff", '{}');
$r = policy(@unix, 'show');
like($r->{err}, qr/field "odd\\x1b\[31m" .* is none of a policy document/,
    'show tells of them');
like($r->{err}, qr/field "subject\/broken" .* holds no JSON/, 'why');
unlike($r->{err} . $r->{out}, qr/[^\x20-\x7e\n]/, 'nothing raw is printed');
$r = policy(@unix, 'disable', 'carol');
is($r->{rc}, 3, 'nothing is changed beside them');
is(policy(@unix, 'diff', "$d/doc.json")->{rc}, 1, 'they differ');
$r = policy(@unix, 'import', "$d/doc.json");
is($r->{rc}, 0, 'a whole document') or diag $r->{err};
is(cli('HLEN', '{oci}:doc'), 6, 'mends it');


# watch: what changes, by message, by epoch, and after Redis was away

my $watch = fork() // die $!;
if ($watch == 0) {
    open STDOUT, '>', "$d/watch.out";
    open STDERR, '>', "$d/watch.err";
    exec $Command::BINARY, @unix, 'watch';
}

sub seen {
    my ($re) = @_;
    return until_true(sub { $t->read_file('watch.out') =~ $re });
}

ok(seen(qr/ epoch \d+ is what it begins with$/m), 'watch');
policy(@unix, 'disable', 'carol');
ok(seen(qr/^\S+Z epoch \d+ ~ subject\/carol disabled: none -> true$/m),
    'sees a change');
cli('HSET', '{oci}:doc', 'subject/quiet', '{}');
cli('INCR', '{oci}:epoch');
ok(seen(qr/^\S+Z epoch \d+ \+ subject\/quiet \{\}$/m),
    'sees one without a message');
cli('CLIENT', 'KILL', 'TYPE', 'pubsub');
cli('CLIENT', 'KILL', 'TYPE', 'normal');
policy(@unix, 'enable', 'carol');
ok(seen(qr/ ~ subject\/carol disabled: true -> none$/m),
    'sees one after its connections were cut');
unlike($t->read_file('watch.out'), qr/[^\x20-\x7e\n]/, 'prints nothing raw');
kill 'TERM', $watch;
waitpid $watch, 0;


# users and passwords

# the lines of conf.example/, but for TLS

open my $f, '<', dirname(__FILE__) . '/../conf.example/fleet-redis.conf'
    or die $!;
my $acl = join '', grep { !/^(tls-)?port|^tls-/ } <$f>;
$acl =~ s/(writer|edge)-password/canary-$1/g;

my ($p2, $s2) = Command::redis($t, name => 'acl', conf => $acl);

$t->write_file('writer.pass', "canary-writer\n", 0600);
$t->write_file('edge.pass', "canary-edge\n", 0600);
$t->write_file('wrong.pass', "canary-wrong\n", 0600);
$t->write_file('open.pass', "canary-writer\n", 0644);

my @acl = ('--source', "redis://writer\@127.0.0.1:$p2", '--password-file');
my @out;

$r = policy(@acl, "$d/writer.pass", 'import', "$d/doc.json");
push @out, $r;
is($r->{rc}, 0, 'with user and password') or diag $r->{err};
$r = policy('disable', 'bob', { env => {
    OCI_POLICY_SOURCE => "unix:$s2", OCI_POLICY_USER => 'writer',
    OCI_POLICY_PASSWORD_FILE => "$d/writer.pass" } });
is($r->{rc}, 0, 'from the environment') or diag $r->{err};
push @out, $r;
$r = policy(@acl, "$d/wrong.pass", 'show');
is($r->{rc}, 4, 'a wrong password');
like($r->{err}, qr/does not take user and password \(WRONGPASS\)/, 'why');
push @out, $r;
$r = policy('--source', "redis://127.0.0.1:$p2", 'show');
is($r->{rc}, 4, 'no password');
like($r->{err}, qr/NOAUTH/, 'why');
$r = policy(@acl, "$d/open.pass", 'show');
is($r->{rc}, 4, 'a password file that is open to everyone');
push @out, $r;
is(policy(@acl, "$d/none", 'show')->{rc}, 4, 'no password file');

@acl = ('--source', "redis://edge\@127.0.0.1:$p2", '--password-file',
    "$d/edge.pass");
is(policy(@acl, 'show')->{rc}, 0, 'a user who may only read, does');
$r = policy(@acl, 'disable', 'alice');
is($r->{rc}, 4, 'and changes nothing');
like($r->{err}, qr/NOPERM/, 'why');
push @out, $r;

$r = policy('--source', "redis://writer:canary-writer\@127.0.0.1:$p2", 'show');
is($r->{rc}, 2, 'a password in the source');
push @out, $r;
unlike(join('', map { $_->{out} . $_->{err} } @out), qr/canary/,
    'no password is shown');


# TLS

SKIP: {
    my ($pem, $key) = $t->certificate('localhost');
    my $p3 = OCI::port();
    my ($p, $s) = eval { Command::redis($t, name => 'tls', conf => <<EOC) };
tls-port $p3
tls-cert-file $pem
tls-key-file $key
tls-auth-clients no
EOC
    skip 'redis-server has no TLS', 6 unless $s;

    my @tls = ('--source', "rediss://localhost:$p3", '--ca-file',
        "$d/ca.pem");
    $r = policy(@tls, 'import', "$d/doc.json");
    is($r->{rc}, 0, 'TLS') or diag $r->{err};
    isnt(Command::cli($s, 'GET', '{oci}:epoch'), '', 'is written');
    $r = policy('--source', "rediss://localhost:$p3", 'show');
    is($r->{rc}, 4, 'a CA that is not known');
    like($r->{err}, qr/TLS .* failed \(.*certificate/, 'why');
    is(policy('--source', "rediss://127.0.0.1:$p3", '--ca-file',
        "$d/ca.pem", 'show')->{rc}, 4, 'another name');
    is(policy('--source', "rediss://localhost:$p", '--ca-file', "$d/ca.pem",
        'show')->{rc}, 4, 'no TLS there');
}


# who isn't Redis

is(policy('--source', "redis://127.0.0.1:" . OCI::port(), 'show')->{rc}, 4,
    'nobody listens');
is(policy('--source', "unix:$d/none", 'show')->{rc}, 4, 'no socket');

for (
    ['nonsense', "HTTP/1.1 400 Bad\r\n\r\n"],
    ['an endless line', '+' . 'x' x 300000],
    ['a huge array', "*2000000000\r\n"],
    ['a huge text', "\$999999999999\r\n"],
    ['deep arrays', "*1\r\n" x 100],
    ['an error with controls', "-ERR \x1b[31mred\r\n"],
    ['another type', "*0\r\n"],
    ['an epoch that is none', "\$3\r\nabc\r\n"],
    ['nothing', ''],
) {
    my ($name, $answer) = @$_;
    my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5)
        or die $!;
    my $pid = fork() // die $!;
    if ($pid == 0) {
        my $c = $l->accept();
        sysread $c, my $x, 1000;
        print $c $answer;
        shutdown $c, 1;
        sysread $c, $x, 1000;
        POSIX::_exit(0);
    }
    my $p = $l->sockport();
    close $l;
    $r = policy('--source', "redis://127.0.0.1:$p", '--timeout', '5',
        'show');
    waitpid $pid, 0;
    is($r->{rc}, 4, "answers with $name");
    unlike($r->{err}, qr/[^\x20-\x7e\n]/, "$name: nothing raw is printed");
}

my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5)
    or die $!;
$r = policy('--source', 'redis://127.0.0.1:' . $silent->sockport(),
    '--timeout', '1', 'show');
is($r->{rc}, 4, 'no answer');
like($r->{err}, qr/does not answer/, 'why');

for (qw!redis:// redis://: redis://h:x redis://h:99999 redis://h/x
    redis://h?x redis://[::1 unix:!)
{
    is(policy('--source', $_, 'show')->{rc}, 2, "source $_");
}
is(policy('--source', 'redis://h', '--prefix', '{x}', 'show')->{rc}, 2,
    'a prefix with braces');

# Redis repeats in its errors what it was sent

{
    my (undef, $s) = Command::redis($t, name => 'renamed', conf => <<EOC);
rename-command HSET ""
EOC
    $r = policy('--source', "unix:$s", 'import', "$d/doc.json");
    is($r->{rc}, 4, 'a command that is not there');
    like($r->{err}, qr/refuses HSET \(ERR\)/, 'why');
    unlike($r->{err}, qr/pbkdf2|scrypt/, 'no hash is shown');
}

cli('SET', '{oci}:doc', 'x');
$r = policy(@unix, 'show');
is($r->{rc}, 4, 'a key of another type');
like($r->{err}, qr/WRONGTYPE/, 'why');

$t->done();
