#!/usr/bin/perl

# Threads of one worker make room, all with its pid: one that could not open
# the sidecar does not take off the mark of another one, which is about to
# remove the same files.  What a worker had marked when it died can go for
# others, also when all of the room is needed.  A worker that is to exit at
# once removes no more.

use warnings;
use strict;

use Test::More;
use Errno qw/ EMFILE /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use Fault;
use OCI;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $mb = 1024 * 1024;
my (%blob, %digest, %by);

for (['old', 4], ['next', 4], ['one', 3], ['two', 3], ['most', 9],
    map { ["n$_", 1] } 1 .. 6)
{
    my ($name, $size) = @$_;
    $blob{$name} = $t->random_blob($size * $mb);
    $digest{$name} = $t->digest($blob{$name});
    $by{$digest{$name}} = $name;
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my $name = $by{$digest // ''} or return $t->reply($c, $q, 404);
    return $t->reply_blob($c, $q, $blob{$name});
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=256k max_size=10m inactive=10h', location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; }
location /purge/ { oci_cache_purge demo; oci_cache models; }
EOL
$t->allow(qr/exited on signal 9/, qr/open\(\) .* \(24: /);

my $fault = Fault->new($t);

# the first call for this name, by whichever thread; hang: a bit, it waits
# until that is released

sub arm {
    my ($function, $name, $error, $hang) = @_;
    $fault->arm($function, 1, $error, name => $name, hang => $hang);
}

sub fired { return $fault->fired() }

sub hex_of { return substr $digest{$_[0]}, 7 }

sub files {
    my $hex = hex_of($_[0]);
    return glob "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex*";
}

sub uri { return "/v2/m/blobs/$digest{$_[0]}" }

sub pull {
    my ($name) = @_;
    my $r = $t->get(uri($name));
    ok($r->{body} eq $blob{$name}, "$name: right");
    return $r->{h}{'cache-status'} // 'none';
}

sub begin {
    my ($name) = @_;
    my $s = $t->connect();
    $t->send_request($s, 'GET', uri($name));
    return $s;
}

# its end; how it was served

sub ends {
    my ($s, $name) = @_;
    my $r = $t->read_header($s);
    $t->read_body($s, $r, 'GET', 40);
    ok($r->{body} eq $blob{$name}, "$name: right");
    close $s;
    return $r->{h}{'cache-status'} // 'none';
}

# workers close what nobody uses

sub idle {
    $fault->later(10);
    return until_true(sub {
        my %s = $t->to_workers();
        close $_ for values %s;
        return !grep { (readlink($_) // '') =~ m!/blobs/.*[0-9a-f]{64}! }
            map { glob "/proc/$_/fd/*" } $t->workers();
    });
}

$fault->start();

# two threads want the same one to go: the first is about to open its sidecar
# when the second marks it

is(pull('old'), 'nginx-oci; fwd=uri-miss; stored', 'stored');
is(pull('next'), 'nginx-oci; fwd=uri-miss; stored', 'another one');
ok(idle(), 'they are closed');

arm('open', hex_of('old') . '.map', EMFILE, 1);
my $one = begin('one');
ok(until_true(\&fired), 'a thread is about to open');

arm('unlink', hex_of('old'), 0, 2);
my $two = begin('two');
ok(until_true(\&fired), 'another one is about to unlink');

$fault->release(1);
isnt(ends($one, 'one'), 'none', 'the first: stored, in the place of another');
is(scalar(() = files('next')), 0, 'which is gone');
is(scalar(() = files('old')), 2, 'the second has not gone on');
is(pull('old'), 'none', 'nobody else opens what it removes');

$fault->release(3);
isnt(ends($two, 'two'), 'none', 'the second: stored');
$fault->disarm();
ok(until_true(sub { !files('old') }), 'and it is gone');
like($t->read_file('error.log'), qr/open\(\) .* failed \(24: /,
    'the first could not open it');

# a worker dies when it has marked one; then all of the room is needed

isnt(pull('old'), 'none', 'it is stored again');
ok(idle(), 'closed');
arm('unlink', hex_of('old'), $DEATH, 0);
$t->http($t->{edge}, 'DELETE', '/purge' . uri('old'));
ok(until_true(\&fired), 'the worker died');
$fault->disarm();
is(scalar(() = files('old')), 2, 'what it marked is there');
ok(until_true(sub { eval { $t->get('/oci_status')->{status} == 200 } }),
    'another worker');

isnt(pull('most'), 'none', 'one that needs all of the room');
is(scalar(() = files('old')), 0, 'what was marked went');

# a worker is told to exit at once when it has begun to make room for all

isnt(pull("n$_"), 'none', "n$_: stored") for 1 .. 6;
ok(idle(), 'all are closed');
arm('unlink', hex_of('n1'), 0, 4);
my $most = begin('most');
ok(until_true(\&fired), 'a thread is about to unlink the first');
my ($worker) = $t->workers();
kill 'TERM', $worker;
ok(until_true(sub {
    $t->read_file('error.log') =~ /\[notice\] $worker#\d+: exiting/;
}), 'the worker is to exit');
$fault->release(7);
ok(until_true(sub { $t->ended($worker) }), 'it does');
$fault->disarm();
close $most;
is(scalar(() = files('n1')), 0, 'that one is gone');
is(scalar(map { files("n$_") } 2 .. 6), 10, 'the others stay');

$t->done();
