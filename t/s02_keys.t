#!/usr/bin/perl

# S2: cache poisoning by confusion of keys.  Two registries, two repositories
# of each, everything cached for an hour; requests name them in odd ways (Host,
# ns=, X-Forwarded-*, case, dots, slashes, escapes, absolute URIs).  Whatever
# was asked before, an answer is what a strict reading of this request names,
# by a parser of this test, or it is an error.
#
# 6000 requests, each of them a pair with all before it; 10^6 with ATTACK=full.
# KEYS_SEED repeats a run.  See also route.t, and fuzz/route.c for the parser.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $n = $t->times(6000, 1000000);
my $seed = $ENV{KEYS_SEED} || time();
my @repos = ('m/a', 'm/a/b');
my %truth;

sub manifest { return qq({"schemaVersion":2,"is":"$_[0] $_[1] $_[2]"}) }
sub blob { return "the blob of $_[0] $_[1], " x 20 }

for my $reg (qw/ a b /) {
    for my $repo (@repos) {
        for my $tag (qw/ v1 V1 /) {
            my $m = manifest($reg, $repo, $tag);
            $truth{"$reg $repo manifests $tag"} = $m;
            $truth{"$reg $repo manifests " . $t->digest($m)} = $m;
        }
        my $blob = blob($reg, $repo);
        $truth{"$reg $repo blobs " . $t->digest($blob)} = $blob;
    }
}

my @keys = sort keys %truth;
my %bodies = map { $_ => 1 } values %truth;

my %port;
for my $reg (qw/ a b /) {
    $port{$reg} = $t->upstream(sub {
        my ($c, $q) = @_;
        my ($path) = $q->{uri} =~ /^([^?]*)/;
        my ($repo, $kind, $ref) = $path =~ m!^/v2/(.+)/(\w+)/([^/]+)$!;
        my $body = $truth{"$reg $repo $kind $ref"};
        return $t->reply($c, $q, 404, {}, '{"errors":[]}')
            if !defined $body;
        return $t->reply_blob($c, $q, $body) if $kind eq 'blobs';
        return $t->reply($c, $q, 200, { 'Content-Type' =>
            $OCI::TYPE{manifest}, 'Docker-Content-Digest' =>
            $t->digest($body) }, $body);
    }, quiet => 1);
}

$t->conf(http => <<EOC, location => <<EOL);
oci_registry a { url http://127.0.0.1:$port{a}; }
oci_registry b { url http://127.0.0.1:$port{b}; }
map \$host \$by_host { b.test b; default a; }
map \$arg_ns \$registry { "" \$by_host; a.test a; b.test b; default none; }
oci_cache_valid tag 1h;
oci_cache_valid manifest 1h;
EOC
location / { oci_pass \$registry; oci_cache models; }
EOL
$t->start();

# what a request names: a key of %truth, or undef

sub reading {
    my ($target, $host) = @_;

    $host = $1 if $target =~ s!^http://([^/]*)!!;
    $host = lc $host;
    $host =~ s/:\d+$//;
    $host =~ s/\.$//;

    my ($path, $args) = split /\?/, $target, 2;
    my ($ns) = ($args // '') =~ /(?:^|&)ns=([^&]*)/i;
    my $reg = ($ns // '') eq '' ? ($host eq 'b.test' ? 'b' : 'a')
        : lc $ns eq 'a.test' ? 'a' : lc $ns eq 'b.test' ? 'b' : return;

    my $part = qr/[a-z0-9]+(?:[._-][a-z0-9]+)*/;
    my ($repo, $kind, $ref) =
        $path =~ m!^/v2/($part(?:/$part)*)/(manifests|blobs)/([^/]+)$!
        or return;
    $ref =~ s/^(sha256)%3a/$1:/i;
    return "$reg $repo $kind $ref";
}

sub pick { return $_[rand @_] }

my @odd = (
    sub { $_[0] =~ s!/m/!/M/! },
    sub { $_[0] =~ s!/m/!//m/! },
    sub { $_[0] =~ s!/m/!/./m/! },
    sub { $_[0] =~ s!/m/!/x/../m/! },
    sub { $_[0] =~ s!/m/!/m%2f! },
    sub { $_[0] =~ s!/m/!/%6d/! },
    sub { $_[0] =~ s!/m/!/m;x=1/! },
    sub { $_[0] =~ s!/m/!/m./! },
    sub { $_[0] =~ s!/m/!/m\\! },
    sub { $_[0] =~ s!$!/! },
    sub { $_[0] =~ s!$!.! },
    sub { $_[0] =~ s!$!%20! },
    sub { $_[0] =~ s!$!%00! },
    sub { $_[0] =~ s!$!;v1! },
    sub { $_[0] =~ s!^/!//! },
    sub { $_[0] =~ s!^/v2!/V2! },
    sub { $_[0] =~ s!/manifests/!/blobs/! || $_[0] =~ s!/blobs/!/manifests/! },
    sub { $_[0] =~ s!sha256:!pick('sha256%3A', 'sha256%3a', 'SHA256:',
        'sha256%253A', 'sha512:')!e },
    sub { $_[0] =~ s!([0-9a-f])$!uc $1!e },
    sub { $_[0] =~ s!^!'http://' . pick('a.test', 'B.test', 'b.test.')!e },
);

my @hosts = qw/ a.test b.test B.TEST b.test. b.test:8080 xb.test b.test.x /;
my @args = ('', '', '', '?', '?x=1', '?ns=', map { "?$_" } qw/ ns=a.test
    ns=b.test NS=b.test ns=B.test ns=b%2etest ns=a.test&ns=b.test xns=b.test
    x&ns=b.test ns=none ns=b.test%00 /);
my @headers = (['X-Forwarded-Host', 'b.test'], ['X-Host', 'b.test'],
    ['X-Forwarded-Server', 'b.test'], ['X-Original-URL', '/v2/m/a/b/x'],
    ['X-Rewrite-URL', '/v2/m/a/b/x'], ['Forwarded', 'host=b.test'],
    ['X-Forwarded-Prefix', '/v2/m'], ['X-HTTP-Method-Override', 'DELETE'],
    ['Accept', 'text/plain']);

sub request {
    my ($reg, $repo, $kind, $ref) = split / /, pick(@keys);
    my $target = "/v2/$repo/$kind/$ref";
    my %h = (Host => pick(@hosts));

    pick(@odd)->($target) if rand() < 0.4;
    my $args = pick(@args);
    $args =~ s/ns=b/ns=$reg/ if rand() < 0.5;
    for (0 .. rand 3) {
        my $h = pick(@headers);
        $h{$h->[0]} = $h->[1];
    }
    return ("$target$args", \%h);
}

my @out = $t->parallel(4, sub {
    my ($i) = @_;
    my ($s, $right, $refused, $bad) = (undef, 0, 0, '');

    srand($seed + $i);

    for (1 .. $n / 4) {
        my ($target, $h) = request();
        my $method = rand() < 0.1 ? 'HEAD' : 'GET';

        $s //= $t->connect();
        $t->send_request($s, $method, $target, $h);
        my $r = $t->read_body($s, $t->read_header($s), $method);
        if (($r->{h}{connection} // '') ne 'keep-alive') {
            close $s;
            $s = undef;
        }

        my $key = reading($target, $h->{Host});
        my $want = defined $key ? $truth{$key} : undef;

        if (!defined $want) {
            $refused++;
            next if $r->{status} >= 400 && $r->{status} < 500
                && !$bodies{$r->{body}};
        } else {
            $right++;
            next if $r->{status} == 200 && ($method eq 'HEAD'
                ? $r->{h}{'content-length'} == length $want
                : $r->{body} eq $want);

            # not to who does not take it
            next if $r->{status} == 406;
        }
        $bad ||= "$method $target, Host $h->{Host}: $r->{status} $r->{body}";
    }
    return "$right $refused $bad\n";
});

for (@out) {
    my ($right, $refused, $bad) = /^(\d+) (\d+) (.*)/ or do {
        fail("a client: $_");
        next;
    };
    is($bad, '', "seed $seed: answers are what was named");
    cmp_ok($right, '>', $n / 20, 'some name something');
    cmp_ok($refused, '>', $n / 20, 'some nothing');
}

is($t->status()->{counters}{verify_failures}, 0, 'all verified');

$t->done();
