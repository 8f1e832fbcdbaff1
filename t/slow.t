#!/usr/bin/perl

# Clients that do not read: bodies of manifests take no more memory with
# their number than the budget of a worker.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Socket::INET;
use Socket qw/ SOL_SOCKET SO_RCVBUF sockaddr_in inet_aton /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $clients = 48;
my $size = 3 * 1024 * 1024;
my $type = 'application/vnd.oci.image.manifest.v1+json';

sub manifest {
    my ($name) = @_;
    my $text = qq({"schemaVersion":2,"mediaType":"$type","name":"$name","a":");
    return $text . 'x' x ($size - length($text) - 2) . '"}';
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($name) = $q->{uri} =~ m{/v2/m/(\w+)/manifests/};
    my $body = manifest($name);
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $t->digest($body) }, $body);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }");
$t->allow(qr/another one is passed through/);
$t->start();

my ($worker) = $t->workers();

# MiB; what a sanitizer keeps back says nothing

sub bounded {
    my ($more, $max, $name) = @_;
    SKIP: {
        skip 'sanitizers keep what is freed', 1 if $OCI::ASAN;
        cmp_ok($more, '<', $max, $name);
    }
}

sub rss {
    open my $f, '<', "/proc/$worker/status" or die;
    my ($kb) = join('', <$f>) =~ /VmRSS:\s+(\d+)/;
    return $kb / 1024;
}

sub uri {
    my ($name) = @_;
    return "/v2/m/$name/manifests/" . $t->digest(manifest($name));
}

# a client that takes the header only

sub slow {
    my ($name) = @_;
    socket(my $s, Socket::PF_INET, Socket::SOCK_STREAM, 0) or die;
    bless $s, 'IO::Socket::INET';
    setsockopt $s, SOL_SOCKET, SO_RCVBUF, 4096;
    CORE::connect($s, sockaddr_in($t->{edge}, inet_aton('127.0.0.1'))) or die;
    $s->autoflush(1);
    binmode $s;
    $t->send_request($s, 'GET', uri($name), { Connection => 'close' });
    return [$name, $s, $t->read_header($s)];
}

sub right {
    my ($c) = @_;
    my ($name, $s, $r) = @$c;
    my $got = $r->{rest};
    eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm 20;
        1 while sysread $s, $got, 1 << 20, length $got;
        alarm 0;
    };
    alarm 0;
    return $r->{status} == 200 && $got eq manifest($name);
}

is($t->get(uri('one'))->{status}, 200, 'a manifest');

my $before = rss();
my @c = map { slow('one') } 1 .. $clients;
my $more = rss() - $before;

bounded($more, 24, "$clients clients wait for one manifest");
is(scalar(grep { right($_) } @c), $clients, 'and get it');

$before = rss();
@c = map { slow("n$_") } 1 .. $clients;
$more = rss() - $before;

bounded($more, 90, "$clients clients wait for as many manifests");
is(scalar(grep { right($_) } @c), $clients, 'and get them');
undef @c;

# what was reserved is free again

my $passed = () = $t->read_file('error.log') =~ /is passed through/g;
cmp_ok($passed, '>', 0, 'some were passed through');

@c = map { slow("m$_") } 1 .. 10;
is(scalar(grep { right($_) } @c), 10, 'others afterwards');
is(scalar(() = $t->read_file('error.log') =~ /is passed through/g), $passed,
    'are not');

$t->done();
