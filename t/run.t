#!/usr/bin/perl

# "make run" with a small model: once, in the foreground, and its errors.

use warnings;
use strict;

use Test::More;
use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use IO::Socket::INET;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless($_) for qw/ docker-registry skopeo curl openssl /;
plan(skip_all => 'with the packages\' nginx only') if $OCI::ASAN;

my $t = OCI->new();
my $run = abs_path(dirname(__FILE__) . '/../tools/run.sh');
my $port = OCI::port();
my $data = dirname($run) . "/../build/run.$port";
my $running;

END { local $?; stop('TERM', $running) if $running; }

delete @ENV{qw/ UPSTREAM RUN_ONCE /};
$ENV{MODEL_SIZE} = '32m';
$ENV{PORT} = $port;
$ENV{MODULES} = $OCI::MODULES;
$ENV{NGINX} = $OCI::BINARY;


sub left {
    my ($name) = @_;
    is(`pgrep -f [r]un.$port/ || true`, '', "$name: no process stays");
    ok(!-e $data, "$name: nor a file");
}


# once

my $out = `RUN_ONCE=1 $run 2>&1`;

is($?, 0, 'exit status') or diag($out);
like($out, qr/^cold .* yes +MISS 6$/m, 'a cold pull, verified');
like($out, qr!^warm +[\d.]+ s +\d+ MB/s +\d{1,5} +yes +HIT 6$!m,
    'a warm one');
my $bytes = $out =~ m!^cold .* MB/s +(\d+) !m ? $1 : 0;
cmp_ok($bytes, '>=', 32 << 20, 'the registry sent the model');
cmp_ok($bytes, '<', 33 << 20, 'once');
left('once');


# in the foreground, until a signal

for my $sig (qw/ TERM INT /) {
    my ($pid, $log) = start($sig);

    ok(wait_for($log, qr/The edge stays up/), "$sig: stays up")
        or diag($t->read_file($log));
    like($t->http($port, 'GET', '/metrics')->{body}, qr/^nginx_oci_/m,
        "$sig: the edge answers");
    ok(stop($sig, $pid), "$sig: ends");
    left($sig);
}

# while it pushes: what runs then ends too

{
    local $ENV{MODEL_SIZE} = '512m';
    my ($pid, $log) = start('push');

    ok(wait_for($log, qr/pushing/), 'push: begun');
    ok(stop('TERM', $pid), 'push: ends at once');
    left('push');
}


# errors

my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port,
    Listen => 1, ReuseAddr => 1) or die $!;
$out = `$run 2>&1`;
is($? >> 8, 1, 'a port that is taken');
like($out, qr/^make run: port $port is taken[^\n]*\n\z/, 'is said');
close $s;

mkdir "$t->{dir}/bin";
$t->write_file('bin/docker-registry', "#!/bin/sh\necho no luck\n", 0755);
$out = `PATH=$t->{dir}/bin:\$PATH $run 2>&1`;
is($? >> 8, 1, 'a registry that ends');
like($out, qr/^make run: the registry did not start: no luck\n\z/, 'is said');
left('registry');

for (['MODEL_SIZE=huge', 'MODEL_SIZE=huge is no size'],
    ['MODEL_SIZE=1k', 'MODEL_SIZE=1k is less than 1m'],
    ['MODEL_SIZE=4000t', 'a model of 4194304000 MiB needs three'],
    ['PORT=70000', 'PORT=70000 is no port'],
    ['UPSTREAM=x.test', 'UPSTREAM=x.test has neither'],
    ['UPSTREAM=http://:x', 'the edge did not start: nginx: '],
    ["MODULES=$t->{dir}", "no modules in $t->{dir}"])
{
    my ($env, $text) = @$_;
    $out = `env $env $run 2>&1`;
    is($? >> 8, 1, $env);
    like($out, qr/^make run: \Q$text\E[^\n]*\n\z/, "$env: is said");
}

left('errors');


# a registry of one's own

my $registry = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, { 'Content-Type' => 'application/json' },
        '{"own":1}');
});

{
    local $ENV{UPSTREAM} = "http://127.0.0.1:$registry";
    my ($pid, $log) = start('upstream');

    ok(wait_for($log, qr/The edge stays up/), 'upstream: stays up');
    like($t->read_file($log), qr!in front of http://127.0.0.1:$registry is!,
        'upstream: is named');
    is($t->http($port, 'GET', '/v2/')->{body}, '{"own":1}',
        'upstream: is fronted');
    ok(stop('TERM', $pid), 'upstream: ends');
    left('upstream');
}

$t->cleanup();
done_testing();


sub start {
    my ($name) = @_;

    my $pid = fork() // die $!;

    if ($pid == 0) {
        $SIG{INT} = 'DEFAULT';
        open STDOUT, '>', "$t->{dir}/$name.out";
        open STDERR, '>&', \*STDOUT;
        exec $run or POSIX::_exit(127);
    }

    $running = $pid;
    return ($pid, "$name.out");
}


sub wait_for {
    my ($log, $re) = @_;

    my $end = time() + 60;

    while (time() < $end) {
        return 1 if $t->read_file($log) =~ $re;
        sleep 0.05;
    }

    return 0;
}


# true if it ended within 5 seconds, by the signal's exit status

sub stop {
    my ($sig, $pid) = @_;

    kill $sig, $pid;
    $running = 0;

    my $end = time() + 5;

    while (time() < $end) {
        if (waitpid($pid, POSIX::WNOHANG) == $pid) {
            return ($? >> 8) == ($sig eq 'INT' ? 130 : 143);
        }
        sleep 0.05;
    }

    kill 'KILL', $pid;
    waitpid $pid, 0;
    return 0;
}
