#!/usr/bin/perl

# The command oci-policy: a policy document in a file, checks, hashes.

use warnings;
use strict;

use Test::More;
use Fcntl qw/ :flock /;
use File::Basename qw/ dirname /;
use JSON::PP;
use MIME::Base64;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Command;

plan(skip_all => 'oci-policy is not built, see "make commands"')
    unless -x $Command::BINARY;

use Cwd qw/ abs_path /;

my $man = abs_path(dirname(__FILE__) . "/../man/oci-policy.1");
my $t = OCI->new();
my $d = $t->{dir};
my $file = "$d/policy.json";
my $source = "file:$file";
my $phc = Policy::phc('canary-secret', i => 1000);
my $hash = (split /\$/, $phc)[-1];
my $digest = 'sha256:' . 'ab' x 32;

my $doc = {
    version => 1,
    subjects => {
        alice => { secret => $phc, groups => ['ml'] },
        bob => {},
        'robot$p+ci' => { secret => $phc },
        off => { disabled => JSON::PP::true },
        later => { not_before => int(time()) + 86400 },
    },
    roles => { mirror => ['pull', 'delete'] },
    grants => {
        devs => { role => 'developer', groups => ['ml'],
            repositories => ['llm/**'] },
        mirrors => { role => 'mirror', subjects => ['bob', 'off', 'later'],
            repositories => ['llm/*'] },
        admins => { role => 'systemAdmin', subjects => ['robot$p+ci'],
            repositories => ['**'] },
    },
    projects => { public => { public => JSON::PP::true } },
};


sub policy { return Command::policy($t, @_) }

sub of_file { return decode_json($t->read_file('policy.json')) }


# whole documents

$t->write_file('new.json', Policy::json($doc), 0600);

my $r = policy('--source', $source, 'import', "$d/new.json", '--dry-run');
is($r->{rc}, 0, 'a dry run');
like($r->{out}, qr/^\+ subject\/alice .*nothing was written\n\z/ms,
    'says what it would write');
ok(!-e $file, 'and writes nothing');

$r = policy('--source', $source, 'import', "$d/new.json");
is($r->{rc}, 0, 'import') or diag $r->{err};
is_deeply(of_file(), $doc, 'is what the file has then');
is((stat $file)[2] & 07777, 0600, 'which is for its owner only');
unlike($r->{out}, qr/\Q$hash/, 'no hash is shown');

my $inode = (stat $file)[1];
$r = policy('--source', $source, 'import', '-', { in => Policy::json($doc) });
is("$r->{rc} $r->{out}", "0 nothing differs\n", 'once more, from a pipe');
is((stat $file)[1], $inode, 'writes nothing');

$r = policy('export', { env => { OCI_POLICY_SOURCE => $source } });
is($r->{rc}, 0, 'export, the source from the environment');
unlike($r->{out}, qr/\Q$hash/, 'shows no hash');
like($r->{out}, qr/"\$pbkdf2-sha256\$i=1000\$\*\*\*"/, 'but how it is made');
my $hidden = $r->{out};

$r = policy('--source', $source, 'import', '-', { in => $hidden });
is($r->{rc}, 3, 'what has no hashes is not imported by mistake');
like($r->{err}, qr/\$\.subjects\.\S+\.secret: not a PHC string/, 'why');

$r = policy('--source', $source, 'export', '--secrets');
is_deeply(decode_json($r->{out}), $doc, 'export with secrets is all of it');

my $changed = decode_json(encode_json($doc));
$changed->{subjects}{bob}{groups} = ['ml'];
$changed->{subjects}{alice}{secret} = Policy::phc('other', i => 1000);
delete $changed->{grants}{mirrors};
$changed->{projects}{more} = {};
$t->write_file('new.json', Policy::json($changed), 0600);

$r = policy('--source', $source, 'diff', "$d/new.json");
is($r->{rc}, 1, 'diff: they differ');
is(join("\n", sort split /\n/, $r->{out}), <<'EOE' =~ s/\n\z//r, 'how');
+ project/more {}
- grants/mirrors {"repositories":["llm/*"],"role":"mirror","subjects":["bob","off","later"]}
~ subject/alice secret: another
~ subject/bob groups: none -> ["ml"]
EOE

$r = policy('--source', $source, 'import', "$d/new.json");
is($r->{rc}, 0, 'import of what differs');
is_deeply(of_file(), $changed, 'is there');
is(policy('--source', $source, 'diff', "$d/new.json")->{rc}, 0,
    'diff: nothing differs');
$t->write_file('new.json', Policy::json($doc), 0600);
policy('--source', $source, 'import', "$d/new.json");


# one entry

$r = policy('--source', $source, 'disable', 'bob');
is($r->{rc}, 0, 'disable');
is($r->{out}, "~ subject/bob disabled: none -> true\n", 'what it says');
ok(of_file()->{subjects}{bob}{disabled}, 'is in the file');
is(policy('--source', $source, 'check', 'bob', 'pull', 'llm/a')->{out},
    "deny: the subject is disabled\n", 'and counts');

is(policy('--source', $source, 'disable', 'bob')->{out}, "nothing differs\n",
    'disable again');
is(policy('--source', $source, 'enable', 'bob')->{rc}, 0, 'enable');
is_deeply(of_file(), $doc, 'is as it was');

$r = policy('--source', $source, 'disable', 'nobody');
is($r->{rc}, 3, 'disable of an unknown subject');
like($r->{err}, qr/no subject "nobody", --create makes it/, 'why');
is(policy('--source', $source, 'disable', 'nobody', '--create')->{rc}, 0,
    'with --create');
is_deeply(of_file()->{subjects}{nobody}, { disabled => JSON::PP::true },
    'it is kept out');

$r = policy('--source', $source, 'secret', 'bob', '--pbkdf2', '--cost',
    '1000', { in => "canary-secret\n" });
is($r->{rc}, 0, 'secret');
like(of_file()->{subjects}{bob}{secret}, qr/^\$pbkdf2-sha256\$i=1000\$/,
    'is hashed in the file');
unlike($r->{out} . $r->{err}, qr/canary|\$i=1000\$[^*]/, 'and not shown');

policy('--source', $source, 'import', "$d/new.json");


# quarantine

$r = policy('--source', $source, 'quarantine', $digest);
is($r->{rc}, 2, 'quarantine without a reason');
$r = policy('--source', $source, 'quarantine', 'sha256:abc', '--reason', 'x');
is($r->{rc}, 2, 'quarantine of no digest');

$r = policy('--source', $source, 'quarantine', $digest, '--reason',
    "stolen\x1b[31m");
is($r->{rc}, 3, 'quarantine with a reason that is no text');

$r = policy('--source', $source, 'quarantine', $digest, '--reason',
    "stolen \"w\xc3\xa4ights\"");
is($r->{rc}, 0, 'quarantine') or diag $r->{err};
unlike($r->{out}, qr/[^\x20-\x7e\n]/, 'what is printed is printable');

my $q = of_file()->{quarantine}{$digest};
is($q->{reason}, "stolen \"w\x{e4}ights\"", 'the reason');
like($q->{since}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'since');

$r = policy('--source', $source, 'check', 'alice', 'pull',
    "llm/a\@$digest");
is($r->{rc}, 1, 'check of what is in quarantine');
is($r->{out}, "deny: by quarantine/$digest, reason "
    . "\"stolen \\\"w\\u00E4ights\\\"\"\n", 'by what');

policy('--source', $source, 'quarantine', $digest, '--reason', 'another');
is_deeply(of_file()->{quarantine}{$digest}, { reason => 'another',
    since => $q->{since} }, 'another reason, since the first');

is(policy('--source', $source, 'import', "$d/new.json")->{out},
    "nothing differs\n", 'import without "quarantine" leaves it');
$r = policy('--source', $source, 'import', '-',
    { in => Policy::json({ %$doc, quarantine => {} }) });
like($r->{out}, qr/^- quarantine\/$digest /, 'with an empty one it is gone');
policy('--source', $source, 'quarantine', $digest, '--reason', 'again');
is(policy('--source', $source, 'release', $digest)->{rc}, 0, 'release');
is_deeply(of_file()->{quarantine}, {}, 'nothing is in quarantine');
is(policy('--source', $source, 'release', $digest)->{rc}, 3,
    'release of what is not there');


# check

for (
    ['alice', 'pull', 'llm/a/b', 0, 'allow: by grants/devs, on llm/**'],
    ['alice', 'push', 'llm/a', 0, 'allow: by grants/devs, on llm/**'],
    ['alice', 'delete', 'llm/a', 1,
        'deny: no such right in that repository'],
    ['alice', 'pull', 'other/a', 1,
        'deny: no right at all in that repository'],
    ['alice', 'pull', 'public/a', 0,
        'allow: by projects/public, on public/**'],
    ['bob', 'delete', 'llm/a', 0, 'allow: by grants/mirrors, on llm/*'],
    ['bob', 'delete', 'llm/a/b', 1,
        'deny: no right at all in that repository'],
    ['-', 'pull', 'public/a', 0, 'allow: by projects/public, on public/**'],
    ['-', 'pull', 'llm/a', 1, 'deny: no right at all in that repository'],
    ['robot$p+ci', 'catalog', '-', 0, 'allow: by grants/admins, on **'],
    ['alice', 'catalog', '-', 1, 'deny: no right at all in that repository'],
    ['robot$p+ci', 'status', '-', 0, 'allow: by grants/admins, on **'],
    ['alice', 'status', '-', 1, 'deny: no such right in any repository'],
    ['-', 'status', '-', 1, 'deny: no such right in any repository'],
    ['off', 'pull', 'llm/a', 1, 'deny: the subject is disabled'],
    ["x\x1b", 'pull', 'llm/a', 1, 'deny: there is no subject x\x1b'],
) {
    my ($who, $action, $repository, $rc, $out) = @$_;
    $r = policy('--source', $source, 'check', $who, $action, $repository);
    is("$r->{rc} $r->{out}", "$rc $out\n", "check $action $repository");
}

like(policy('--source', $source, 'check', 'later', 'pull', 'llm/a')->{out},
    qr/^deny: not before 20\d\d-/, 'check before its time');
is(policy('--source', $source, 'check', 'alice', 'fly', 'llm/a')->{rc}, 2,
    'check of no action');
is(policy('--source', $source, 'check', 'alice', 'pull', 'llm/a:v1')->{rc},
    2, 'check of no repository');


# show

$r = policy('--source', $source, 'show');
is($r->{rc}, 0, 'show');
like($r->{out}, qr/^subjects: 5 \(2 with a secret, 1 disabled\)\n/m,
    'counts');
like($r->{out}, qr/^projects: 1 \(1 public\)\n/m, 'counts projects');

$r = policy('--source', $source, 'show', 'alice', 'role/mirror');
my $part = decode_json($r->{out});
is(join(' ', sort keys %{$part->{grants}}), 'devs', 'show: what it has');
is_deeply($part->{subjects}{alice}{groups}, ['ml'], 'show: itself');
is_deeply($part->{roles}, { mirror => ['pull', 'delete'] }, 'show: a field');
unlike($r->{out}, qr/\Q$hash/, 'show: no hash');
like(policy('--source', $source, 'show', 'alice', '--secrets')->{out},
    qr/\Q$hash/, 'show: a hash, when asked');
is(policy('--source', $source, 'show', 'nobody')->{rc}, 1,
    'show: not there');


# hashes: nginx knows them, and so does OpenSSL

$r = policy('hash', '--pbkdf2', '--cost', '1000', { in => "s3cret\n" });
is($r->{rc}, 0, 'hash');
like($r->{out}, qr/^\$pbkdf2-sha256\$i=1000\$[\w+\/]{22}\$[\w+\/]{43}\n\z/,
    'is a PHC string');
my ($salt) = (split /\$/, $r->{out})[3];
chomp(my $out = $r->{out});
is($out, Policy::phc('s3cret', i => 1000,
    salt => MIME::Base64::decode_base64("$salt==")), 'PBKDF2')
    if MIME::Base64::decode_base64("$salt==") !~ /[^\w]/;
isnt(policy('hash', '--pbkdf2', '--cost', '1000', { in => 's3cret' })->{out},
    $r->{out}, 'each has a salt of its own');
like(policy('hash', { in => 's3cret' })->{out},
    qr/^\$scrypt\$ln=14,r=8,p=1\$[\w+\/]{22}\$[\w+\/]{43}\n\z/, 'scrypt');
is(policy('hash', { in => '' })->{rc}, 2, 'hash of nothing');
is(policy('hash', { in => "a\nb\n" })->{rc}, 2, 'hash of two lines');
is(policy('hash', '--cost', '40', { in => 'x' })->{rc}, 2, 'too dear a hash');
is(policy('hash', { in => 'x' x 5000 })->{rc}, 2, 'too long a secret');


# the file: its owner and mode, links, writers at once

SKIP: {
    skip 'not root', 2 if $>;
    chown 33, 4, $file;
    chmod 0640, $file;
    policy('--source', $source, 'disable', 'bob');
    my @st = stat $file;
    is(sprintf('%o', $st[2] & 07777), '640', 'the mode stays');
    is("$st[4] $st[5]", '33 4', 'the owner stays');
    chown 0, 0, $file;
}

symlink 'policy.json', "$d/link.json";
is(policy('--source', "file:$d/link.json", 'enable', 'bob')->{rc}, 0,
    'by a symbolic link');
ok(-l "$d/link.json", 'which stays one');
is_deeply(of_file(), { %$doc, quarantine => {} }, 'changes the file');

my @rc = $t->parallel(6, sub {
    my ($i) = @_;
    my $bad = 0;
    for my $k (1 .. 5) {
        $bad += policy('--source', $source, 'disable', "s$i-$k", '--create')
            ->{rc} ne '0';
    }
    return $bad;
});
is("@rc", '0 0 0 0 0 0', 'six writers at once');
is(scalar(grep { /^s\d-\d$/ } keys %{of_file()->{subjects}}), 30,
    'no change is lost');
is(join(' ', grep { /policy\.json\./ } glob "$d/*"), '', 'nothing is left');

open my $lock, '<', $file or die $!;
flock $lock, LOCK_EX;
$r = policy('--source', $source, '--timeout', '1', 'disable', 'alice');
is($r->{rc}, 5, 'somebody else writes for too long');
ok(!of_file()->{subjects}{alice}{disabled}, 'nothing is written');
is(policy('--source', $source, 'show')->{rc}, 0, 'it can be read meanwhile');
close $lock;


# watch

my $pid = fork() // die $!;
if ($pid == 0) {
    open STDOUT, '>', "$d/watch.out";
    exec $Command::BINARY, '--source', $source, 'watch';
}
until_true(sub { $t->read_file('watch.out') =~ /begins with/ });
policy('--source', $source, 'enable', 's1-1');
ok(until_true(sub { $t->read_file('watch.out')
    =~ /^\S+Z ~ subject\/s1-1 disabled: true -> none$/m }), 'watch');
kill 'TERM', $pid;
waitpid $pid, 0;


# what is refused, and what can't be read

$t->write_file('policy.json', '{"version":1,"subjects":{"x":', 0600);
is(policy('--source', $source, 'disable', 'x')->{rc}, 4, 'half a document');
$r = policy('--source', $source, 'import', "$d/new.json");
is($r->{rc}, 0, 'is replaced by a whole one') or diag $r->{err};
is_deeply(of_file(), $doc, 'of which all is there');

my $before = $t->read_file('policy.json');

for (
    ['no JSON', "{\x1b[31m", qr/in line 1, column/],
    ['no object', '[]', qr/\$: not an object/],
    ['another version', '{"version":2}', qr/\$\.version: 1 is required/],
    ['an unknown member', "{\"version\":1,\"\x{1}\":1}", qr/refused/],
    ['a wrong type', '{"version":1,"subjects":[]}', qr/\$\.subjects: not/],
    ['an entry of a wrong type', '{"version":1,"subjects":{"a":1}}',
        qr/\$\.subjects\.a: not an object/],
    ['a wrong secret', '{"version":1,"subjects":{"a":{"secret":"canary"}}}',
        qr/\$\.subjects\.a\.secret: not a PHC/],
    ['a name twice', '{"version":1,"subjects":{"a":{},"a":{}}}',
        qr/duplicate/],
    ['a subject that is not there', '{"version":1,"grants":{"g":{"role":'
        . '"guest","subjects":["x"],"repositories":["a/*"]}}}',
        qr/unknown subject "x"/],
    ['a NUL', '{"version":1,"subjects":{"a\u0000b":{}}}', qr/refused/],
    ['no UTF-8', "{\"version\":1,\"subjects\":{\"\xff\xfe\":{}}}",
        qr/refused/],
    ['much depth', '[' x 100000, qr/refused/],
) {
    my ($name, $text, $why) = @$_;
    $r = policy('--source', $source, 'import', '-', { in => $text });
    is($r->{rc}, 3, "$name is refused");
    like($r->{err}, $why, "$name: why");
    unlike($r->{err} . $r->{out}, qr/canary|[^\x20-\x7e\n]/,
        "$name: nothing of it gets to the terminal");
}

is($t->read_file('policy.json'), $before, 'nothing is written');

$t->write_file('huge.json', '{"version":1,"roles":{"a":["pull"'
    . (' ' x (65 << 20)) . ']}}');
$r = policy('--source', $source, 'import', "$d/huge.json");
is($r->{rc}, 4, 'a huge document');
like($r->{err}, qr/more than 64m/, 'why');
unlink "$d/huge.json";

my %many = map { ("s$_" => { groups => ["g" . $_ % 100] }) } 1 .. 20000;
$t->write_file('many.json', JSON::PP->new->canonical->encode({ version => 1,
    subjects => \%many }), 0600);
is(policy('--source', "file:$d/many.json", 'disable', 's777')->{rc}, 0,
    '20000 subjects');

is(policy('--source', "file:$d/none.json", 'show')->{rc}, 4, 'no file');
is(policy('--source', "file:$d/none.json", 'quarantine', $digest,
    '--reason', 'x')->{rc}, 4, 'no file is made by mistake');
ok(!-e "$d/none.json", 'none is');
is(policy('--source', "file:$d", 'show')->{rc}, 4, 'a directory');
is(policy('--source', "file:$d/none/x", 'import', "$d/new.json")->{rc}, 4,
    'no directory');


# usage

is(policy()->{rc}, 2, 'no command');
is(policy('--source', $source, 'fly')->{rc}, 2, 'an unknown command');
is(policy('--source', $source, 'disable')->{rc}, 2, 'no argument');
is(policy('show')->{rc}, 2, 'no source');
is(policy('--source', 'http://x', 'show')->{rc}, 2, 'no such source');
is(policy('--fly')->{rc}, 2, 'an unknown option');
is(policy('--timeout', '0', 'show')->{rc}, 2, 'no time');
is(policy('--help')->{rc}, 0, 'help');
like(policy('--version')->{out}, qr/^oci-policy \(nginx-oci\) [\d.]+\n\z/,
    'version');

open my $full, '>', '/dev/full' or die $!;
is(system("$Command::BINARY --source $source export > /dev/full 2>/dev/null")
    >> 8, 4, 'standard output that is full');

SKIP: {
    my $mandoc = (grep { -x } map { "$_/mandoc" } split /:/, $ENV{PATH})[0];
    skip 'no mandoc', 1 unless $mandoc;
    is(`$mandoc -Tlint -Wwarning $man 2>&1`, '',
        'the manual page');
}

$t->done();
