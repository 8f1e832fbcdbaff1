#!/usr/bin/perl

# The state file of a policy whose Redis can't be reached: one that is right
# decides, for the rest of its time; any other is nothing.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha256_hex /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Redis;

my $t = OCI->new();
my $d = $t->{dir};

my $doc = { subjects => { alice => { secret => Policy::phc('canary-alice') } },
    grants => { g => { role => 'guest', subjects => ['alice'],
        repositories => ['llm/**'] } } };

my $redis = Redis->new($t);
$redis->import_doc($doc);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}');
});

sub conf {
    my ($zone) = @_;
    $t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source redis://127.0.0.1:$redis->{port};
    zone team:$zone; identity basic; stale 1h; poll 200ms;
    state_file $d/state/team;
}
EOC
location /v2/ { oci_pass demo; oci_access team; }
EOL
}

sub status {
    return $t->get('/v2/llm/a/tags/list',
        { Policy::basic('alice', 'canary-alice') })->{status};
}

# what was written aside by who was killed, and by who is at it, and others'

my ($dead, $alive) = map { "team.$_.tmp" } 2 ** 31 - 1, $$;
my @others = map { "team$_" } '.2147483647', '.2147483647.tmp.1', '.x.tmp',
    '.0.tmp', '2.2147483647.tmp', '.99999999999999999999.tmp';
mkdir "$d/state";
chmod 0777, "$d/state";
$t->write_file("state/$_", 'x', 0600) for $dead, $alive, @others;

conf('1m');
$t->start();
ok(until_true(sub { status() == 200 }), 'a document');
ok(until_true(sub { -s "$d/state/team" }), 'which is kept');
ok(!-e "$d/state/$dead", 'what a killed worker left is gone');
is(scalar(grep { -e "$d/state/$_" } $alive, @others), 1 + @others,
    'nothing else is');
unlink map { "$d/state/$_" } $alive, @others;

# a directory that is gone for a while

rename "$d/state", "$d/elsewhere";
$redis->change('subject/bob' => {});
ok(until_true(sub { $t->read_file('error.log')
    =~ /open\(\) ".*state\/team" failed, a restart without ".*" would know nothing, or something old, of oci_policy "team"/ }),
    'a directory that is gone: the log says so');
is(status(), 200, 'which harms nobody now');
rename "$d/elsewhere", "$d/state";
ok(until_true(90, sub { $t->read_file('state/team') =~ /^epoch 0+2$/m }),
    'it is written once that can be done');

ok($t->stop(), 'nginx ends');
$redis->kill();

my $good = $t->read_file('state/team');
my $file = "$d/state/team";

sub put {
    my ($text) = @_;
    unlink $file;
    $t->write_file('state/team', $text, 0600);
}

sub at {
    my ($when, $text) = @_;
    my $n = sprintf '%020d', $when;
    return ($text // $good) =~ s/^time \d+/time $n/mr;
}

# what, what is done, the status, what the log says

my @cases = (
    ['as it was', sub { put($good) }, 200,
        qr/is in force as it was \d+ s ago: epoch 2/],
    ['of half an hour ago', sub { put(at(time() - 1800)) }, 200,
        qr/is in force as it was 180\d s ago/],
    ['of over an hour ago', sub { put(at(time() - 3700)) }, 503,
        qr/is in force as it was 370\d s ago/],
    ['of long ago', sub { put(at(0)) }, 503, qr/is in force as it was/],
    ['of a time to come', sub { put(at(time() + 3600)) }, 503,
        qr/is not used: it is of a time to come/],
    ['none', sub { unlink $file }, 503, undef],
    ['an empty one', sub { put('') }, 503, qr/it is no state file/],
    ['half of one', sub { put(substr $good, 0, length($good) / 2) }, 503,
        qr/it is no state file, or a damaged one/],
    ['one of another form', sub { put($good =~ s/policy 1/policy 2/r) }, 503,
        qr/it is no state file/],
    ['one with another document',
        sub { put($good =~ s/"alice":/"mallo":/r) }, 503,
        qr/it is no state file, or a damaged one/],
    ['one with something behind', sub { put("$good ") }, 503,
        qr/it is no state file, or a damaged one/],
    ['one of another source', sub { put($good =~ s/^source ./source x/mr) },
        503, qr/it is of another source/],
    ['one without an epoch', sub { put($good =~ s/^epoch \d+/'epoch '
        . '0' x 20/emr) }, 503, qr/it is no state file/],
    ['one that says nothing', sub {
        my $text = '{}';
        put($good =~ s/^digest .*/'digest ' . sha256_hex($text)
            . "\n\n$text"/emsr) }, 503, qr/is not used: \$\.version/],
    ['one that others can read', sub { put($good); chmod 0640, $file }, 503,
        qr/others than the workers' user may have written it/],
    ['a symbolic link', sub { put($good); rename $file, "$file.1";
        symlink "$file.1", $file }, 503, qr/it can't be read \(40: /],
    ['a directory', sub { unlink $file; mkdir $file }, 503,
        qr/others than the workers' user may have written it/],
    ['a pipe', sub { rmdir $file; POSIX::mkfifo($file, 0600) }, 503,
        qr/others than the workers' user may have written it/],
);

push @cases, ['one of another user', sub { put($good);
    chown 12345, 12345, $file }, 503,
    qr/others than the workers' user may have written it/] if $> == 0;

for my $c (@cases) {
    my ($what, $do, $status, $says) = @$c;
    $do->();
    my $logged = length $t->read_file('error.log');
    $t->start();
    is(status(), $status, "a file $what");
    my $log = substr $t->read_file('error.log'), $logged;
    like($log, $says, 'and what it says') if $says;
    ok($t->stop(), 'nginx ends');
}

# too small a zone

unlink $file;
$redis->start();
$redis->import_doc($doc);
conf('256k');
$t->start();
ok(until_true(sub { status() == 200 }), 'a small zone');
$redis->change(map { ("subject/n$_" => '{}') } 1 .. 4000);
ok(until_true(sub { $t->read_file('error.log')
    =~ /is refused, the document before it counts for \d+ s: it has \d+ bytes when compiled, the zone holds \d+$/m }),
    'holds no large document');
is(status(), 200, 'but the one before');
$redis->change(map { ("subject/n$_" => undef) } 1 .. 4000);
ok(until_true(sub { $t->read_file('error.log')
    =~ /has the document that is in force: epoch 3/ }), 'and it again');

$t->done();
