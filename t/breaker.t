#!/usr/bin/perl

# A registry that can't be reached: what is stored is served at once, all else
# is refused at once, and it is found out soon that it is back.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Socket::INET;
use Socket qw/ :DEFAULT SOL_SOCKET SO_REUSEADDR SOCK_NONBLOCK /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);

my @blobs = map { $t->random_blob(200000 + $_) } 0 .. 3;
my @digest = map { $t->digest($_) } @blobs;
my %blob = map { $t->digest($_) => $_ } @blobs;
my $manifest = '{"schemaVersion":2,"x":"' . 'y' x 100 . '"}';
my $md = $t->digest($manifest);
my $other = '{"schemaVersion":2,"x":"other"}';
my $timeout = 3;

sub answer {
    my ($c, $q) = @_;
    my ($kind, $ref) = $q->{uri} =~ m!^/v2/.+/(blobs|manifests)/(.+)$!;

    return $t->reply($c, $q, 500, {}, 'broken')
        if $q->{uri} =~ m!/broken/!;
    return $t->reply($c, $q, 401, {}, '') if !defined $kind;

    if ($kind eq 'manifests') {
        my $body = $ref eq 'other' ? $other : $manifest;
        return $t->reply($c, $q, 200, {
            'Content-Type' => $OCI::TYPE{manifest},
            'Docker-Content-Digest' => $t->digest($body) }, $body);
    }

    # half of it, until it is ended

    if ($q->{uri} =~ m!/half/! && $q->{n} == 2) {
        printf $c "HTTP/1.1 206 X\r\nContent-Length: %d\r\n"
            . "Content-Range: bytes %d-%d/%d\r\n\r\n",
            $q->{to} - $q->{from}, $q->{from}, $q->{to} - 1,
            length $blob{$ref};
        print $c substr($blob{$ref}, $q->{from}, 30000);
        sleep 60;
        return 0;
    }

    return $t->reply_blob($c, $q, $blob{$ref}) if $blob{$ref};
    return $t->reply($c, $q, 404, {}, '');
}

my $port = $t->upstream(\&answer);
my $nobody = OCI::port();

my %registry = (
    demo => "oci_registry demo { url http://127.0.0.1:$port;"
        . " connect_timeout ${timeout}s; }",
    gone => "oci_registry gone { url http://127.0.0.1:$nobody; }",
    off => "oci_registry off { url http://127.0.0.1:$nobody;"
        . ' breaker off; }');

sub conf {
    my (@order) = @_;
    $t->conf(cache_args => 'slice=64k', http => join("\n",
        (map { $registry{$_} } @order),
        'map $uri $registry { ~^/v2/gone/ gone; ~^/v2/off/ off;'
            . ' default demo; }'),
        location => 'location /v2/ { oci_pass $registry; oci_cache models;'
            . ' oci_cache_valid manifest 0; }');
}

conf(qw/ demo gone off /);
$t->allow(qr/exited on signal 9/);
$t->start();

sub uri { return "/v2/m/a/blobs/$digest[$_[0]]" }

sub opened {
    my ($name) = @_;
    return scalar(() = $t->read_file('error.log')
        =~ /"$name" does not answer, it is not asked/g);
}

sub closed {
    my ($name) = @_;
    return scalar(() = $t->read_file('error.log')
        =~ /"$name" answers again/g);
}


# SYNs are dropped: the queue of those that wait to be accepted is full

my @hole;

sub black_hole {
    socket(my $l, PF_INET, SOCK_STREAM, 0) or die $!;
    setsockopt $l, SOL_SOCKET, SO_REUSEADDR, 1;
    bind($l, sockaddr_in($port, inet_aton('127.0.0.1'))) or die $!;
    listen($l, 0) or die $!;
    push @hole, $l;
    for (1 .. 4) {
        socket(my $s, PF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0) or die $!;
        CORE::connect($s, sockaddr_in($port, inet_aton('127.0.0.1')));
        push @hole, $s;
    }
    sleep 0.1;
}


# all is well

is($t->get(uri($_))->{status}, 200, "blob $_") for 0 .. 1;
is($t->get('/v2/m/a/manifests/latest')->{body}, $manifest, 'a tag');
is($t->get("/v2/m/a/manifests/$md")->{body}, $manifest, 'a manifest');
is($t->head('/v2/m/a/manifests/other')->{status}, 200,
    'a tag of which no body is stored');
is($t->get(uri(2), { Range => 'bytes=0-9' })->{status}, 206,
    'a part of a blob');

# errors of a registry that answers say nothing of its being there

is($t->get('/v2/m/broken/tags/list')->{status}, 500, "its error $_")
    for 1 .. 6;
is($t->get('/v2/m/broken/manifests/x')->{status}, 500, "of a tag $_")
    for 1 .. 3;
is(opened('demo'), 0, 'the breaker is closed');


# an outage: nothing answers, nothing refuses

$t->stop_one('upstream0');
black_hole();

my @first = $t->parallel(4, sub {
    $t->get('/v2/m/a/blobs/' . $t->digest("none $_[0]"))->{status};
});
is(scalar(grep { /^50[34]$/ } @first), 4, 'the first ones fail')
    or diag("@first");
is(opened('demo'), 1, 'the breaker is open, and it is said once');

my $begin = time();

for my $i (1 .. 5) {
    for (0 .. 1) {
        my $r = $t->get(uri($_));
        ok($r->{status} == 200 && $r->{body} eq $blobs[$_],
            "a cached blob $_, $i");
    }

    for (0 .. 1) {
        my $r = $t->get($_ ? "/v2/m/a/manifests/$md"
            : '/v2/m/a/manifests/latest');
        ok($r->{status} == 200 && $r->{body} eq $manifest,
            ($_ ? 'a cached manifest' : 'a tag') . " $i");
        like($r->{h}{'cache-status'}, qr/stale/, 'stale');
    }

    is($t->head(uri(0))->{status}, 200, "HEAD of a blob $i");

    for ([ uncached => uri(3) ], [ missing => uri(2) ],
        [ unknown => '/v2/m/a/manifests/x' ],
        [ 'never sent' => '/v2/m/a/manifests/other' ],
        [ passed => '/v2/m/a/tags/list' ])
    {
        my ($name, $uri) = @$_;
        my $r = $t->get($uri);
        is($r->{status}, 503, "$name $i");
        like($r->{body}, qr/"UNAVAILABLE"/, "$name $i: its body");
        ok($r->{h}{'retry-after'}, "$name $i: when");
    }
}

is($t->http($t->{edge}, 'POST', '/v2/m/a/blobs/uploads/',
    { 'Content-Length' => 0 })->{status}, 503, 'a push');

# 56 of them that wait would take 20 times as long

cmp_ok(time() - $begin, '<', 30, 'all of them at once');


# a worker that dies takes nothing with it

my ($worker) = $t->workers();
kill 'KILL', $worker;
ok(until_true(sub { !kill 0, $worker }), 'a worker died');
is($t->get(uri(3))->{status}, 503, 'still open');
is(opened('demo'), 1, 'not opened again');


# it is back

@hole = ();
$t->upstream(\&answer, port => $port);
$begin = time();
ok(until_true(sub { $t->get(uri(3))->{status} == 200 }), 'it is back');
diag(sprintf 'recovered after %.1f s', time() - $begin)
    if $ENV{TEST_VERBOSE};
is($t->get(uri(2))->{body}, $blobs[2], 'what was missing');
is(closed('demo'), 1, 'that is said once');
is($t->get('/v2/m/a/manifests/latest')->{h}{'cache-status'},
    'nginx-oci; hit; detail=revalidated', 'a tag is asked for again');


# a pull that is under way sits a short outage out

my $half = $t->random_blob(100000);
$blob{$t->digest($half)} = $half;

$t->stop_one('upstream0');
$t->forget_requests();
$t->upstream(\&answer, port => $port);
ok(until_true(sub { $t->get('/v2/m/a/tags/list')->{status} == 401 }),
    'another one');

my $uri = '/v2/m/half/blobs/' . $t->digest($half);
my $s = $t->connect();
$t->send_request($s, 'GET', $uri, { Connection => 'close' });
my $r = $t->read_header($s);
is($r->{status}, 200, 'a pull begins');
ok(until_true(sub { grep { $_->{uri} =~ /half/
    && $_->{h}{range} ne 'bytes=0-0' } $t->requests() }), 'is under way');
$t->stop_one('upstream0');
ok(until_true(sub { opened('demo') == 2 }), 'an outage');
sleep 4;
$t->upstream(\&answer, port => $port);
$t->read_body($s, $r, 'GET');
ok($r->{body} eq $half, 'the pull goes on');
close $s;


# connections that are refused, and a reload with another order

ok(until_true(sub { $t->get('/v2/gone/a/tags/list')->{status} == 503 }),
    'another registry');
is(opened('gone'), 1, 'its breaker is open');
is($t->get('/v2/off/a/tags/list')->{status}, 502, "breaker off: $_")
    for 1 .. 6;

my @old = $t->workers();
conf(qw/ off gone demo /);
$t->signal('HUP');
ok(until_true(sub { my %w = map { $_ => 1 } $t->workers();
    %w && !grep { $w{$_} } @old }), 'a reload');

is($t->get('/v2/gone/a/tags/list')->{status}, 503, 'gone is gone');
is($t->get('/v2/off/a/tags/list')->{status}, 502, 'off has no breaker');
is($t->get('/v2/m/a/tags/list')->{status}, 401, 'demo answers');
is(opened('gone'), 1, 'nothing opened anew');
is(opened('off'), 0, 'nor that without a breaker');


# those who saw that it is gone are gone themselves: when it is back, nobody
# has to be refused to find that out

@old = $t->workers();
$t->signal('HUP');
ok(until_true(sub { my %w = map { $_ => 1 } $t->workers();
    %w && !grep { $w{$_} } @old }), 'another reload');
$t->upstream(\&answer, port => $nobody);
sleep 12.5;
is(scalar $t->requests(2), 0, 'nobody probes');
is($t->get('/v2/gone/a/tags/list')->{status}, 401, 'the first one is asked');
is(closed('gone'), 1, 'and it answers again');


# where it is this nginx that lacks connections, the registry is not to blame

$t->stop();
conf(qw/ demo gone off /);
my $conf = $t->read_file('nginx.conf');
$conf =~ s/worker_processes 2/worker_processes 1/;
$conf =~ s/worker_connections \d+/worker_connections 40/;
$t->write_file('nginx.conf', $conf);
$t->allow(qr/40 worker_connections are not enough/);
$t->start();

# (requests that come in one turn of the worker, with nothing between them)

my @s;
for my $i (0 .. 60) {
    push @s, $t->connect();
    syswrite $s[-1], 'GET /v2/m/n/blobs/' . $t->digest("none $i")
        . " HTTP/1.1\r\nHost: x\r\n";
    sleep 0.01;
}
my ($w) = $t->workers();
kill 'STOP', $w;
syswrite $_, "\r\n" for @s[0 .. 5];
kill 'CONT', $w;
ok(until_true(sub {
    $t->read_file('error.log') =~ /worker_connections are not enough/ }),
    'no more connections');
sleep 0.5;
close $_ for @s;
is(opened('demo'), 2, 'no breaker opened for that');

$t->stop_one('upstream0');
$t->done();
