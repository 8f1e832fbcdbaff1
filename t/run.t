#!/usr/bin/perl

# "make run", once, with a small model.

use warnings;
use strict;

use Test::More;
use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use IO::Socket::INET;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless($_) for qw/ docker-registry skopeo curl openssl /;
plan(skip_all => 'with the packages\' nginx only') if $OCI::ASAN;

my $run = abs_path(dirname(__FILE__) . '/../tools/run.sh');
my $port = OCI::port();

my $env = "RUN_ONCE=1 MODEL_SIZE=32m PORT=$port MODULES=$OCI::MODULES"
    . " NGINX=$OCI::BINARY";
my $out = `$env $run 2>&1`;
my $rc = $? >> 8;

is($rc, 0, 'exit status') or diag($out);
like($out, qr/^cold .* yes +MISS 6$/m, 'a cold pull, verified');
like($out, qr/^warm .* yes +HIT 6$/m, 'a warm one');
is(`pgrep -f [r]un.$port/ || true`, '', 'no process stays');
ok(!-e dirname($run) . "/../build/run.$port", 'nor a file');

my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port,
    Listen => 1, ReuseAddr => 1) or die $!;
$out = `$env $run 2>&1`;
is($? >> 8, 1, 'a port that is taken');
like($out, qr/^make run: port $port is taken/, 'is said');

$out = `RUN_ONCE=1 MODEL_SIZE=huge $run 2>&1`;
like($out, qr/MODEL_SIZE=huge is no size/, 'a size that is none');

done_testing();
