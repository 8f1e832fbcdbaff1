#!/usr/bin/perl

# A client asks for what a registry with several addresses is slow to answer:
# others are served on, whatever servers it went to.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

# workers share nothing of what an upstream{} knows

my $t = OCI->new(workers => 1);
my $m = '{"schemaVersion":2}';
my $md = $t->digest($m);

my $code = sub {
    my ($c, $q) = @_;
    if ($q->{uri} =~ m!/tarpit/!) {
        open my $f, '>>', "$t->{dir}/slow" or die $!;
        syswrite $f, "x\n";
        close $f;
        sleep 60;
        return 0;
    }
    $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $md }, $m);
};

# "localhost" has two addresses on most machines; an upstream{} surely has

my $p1 = $t->upstream($code, quiet => 1);
my $p2 = $t->upstream($code, quiet => 1);

my $nobody = OCI::port();

$t->conf(http => <<EOC, location => <<EOL);
upstream g { server 127.0.0.1:$p1; server 127.0.0.1:$p2; keepalive 4; }
upstream d { server 127.0.0.1:$nobody; server 127.0.0.1:$p2; }
oci_registry group { url http://g; stall_timeout 1s; }
oci_registry dead { url http://d; }
EOC
location /v2/ { oci_pass group; oci_cache models; }
location /v2/dead/ { oci_pass dead; }
EOL
$t->start();

sub slow { return scalar(() = $t->read_file('slow') =~ /\n/g) }

# the victim: until all of the slow ones are through

sub victim {
    my ($what, $slow, $uri) = @_;
    my (%status, @pids);

    is($t->get($uri)->{status}, 200, "$what: before");
    unlink "$t->{dir}/slow";

    for my $i (1 .. 4) {
        my $pid = fork() // die $!;
        if ($pid == 0) {
            sleep 0.4 * $i;
            $t->get("/v2/tarpit/$slow$i");
            POSIX::_exit(0);
        }
        push @pids, $pid;
    }

    for my $pid (@pids) {
        while (waitpid($pid, POSIX::WNOHANG()) == 0) {
            $status{$t->get($uri)->{status}}++;
            sleep 0.05;
        }
    }
    $status{$t->get($uri)->{status}}++ for 1 .. 4;

    is(join(' ', sort keys %status), '200', "$what: all answered");
    ok(slow() >= 8, "$what: both servers were slow") or diag(slow());
}

victim('a tag', 'manifests/v', '/v2/m/manifests/v1');
victim('a list', 'tags/list?n=', '/v2/m/tags/list');

unlike($t->read_file('error.log'), qr/no live upstreams|temporarily disabled/,
    'no server was given up');

# one that can't be reached is

is($t->get('/v2/dead/m/tags/list')->{status}, 200, 'one is dead') for 1 .. 4;
like($t->read_file('error.log'),
    qr/temporarily disabled while connecting.*127.0.0.1:$nobody/,
    'it was given up');

$t->done();
