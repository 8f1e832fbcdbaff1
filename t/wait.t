#!/usr/bin/perl

# A registry that asks to wait, with 429, or 503 and Retry-After: nobody asks
# it with that account meanwhile, nothing is lost, and what one repository
# brings on is not the others' affair.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use POSIX qw/ strftime /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);

my @blobs = map { $t->random_blob(200000 + $_) } 0 .. 3;
my @digest = map { $t->digest($_) } @blobs;
my %blob = map { $t->digest($_) => $_ } @blobs;
my $manifest = '{"schemaVersion":2,"x":"' . 'y' x 100 . '"}';
my $md = $t->digest($manifest);
my $me = { Authorization => 'Basic bWU6bWU=' };
my $other = { Authorization => 'Basic b3RoZXI6b3RoZXI=' };

# the first component of the repository tells how it limits

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($who, $kind, $ref) = $q->{uri} =~ m!^/v2/(\w+)/(?:.+/)?(\w+)/(.+)$!;
    my $limited = -e "$t->{dir}/limited";

    if ($who eq 'fill' && $kind eq 'blobs' && $q->{n} > 1) {
        if ($q->{n} == 2) {
            printf $c "HTTP/1.1 206 X\r\nContent-Length: %d\r\n"
                . "Content-Range: bytes %d-%d/%d\r\n\r\n",
                $q->{to} - $q->{from}, $q->{from}, $q->{to} - 1,
                length $blob{$ref};
            print $c substr($blob{$ref}, $q->{from}, 70000);
            return 0;
        }
        return $t->reply($c, $q, 429, { 'Retry-After' => 1 }, 'wait')
            if $q->{n} < 10;
    }

    return $t->reply($c, $q, 429, { 'Retry-After' => 60 }, 'the registry')
        if $who eq 'many' && $limited;
    return $t->reply($c, $q, 503, { 'Retry-After' =>
        strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time() + 60)) }, 'busy')
        if $who eq 'busy';
    return $t->reply($c, $q, 429, { 'Retry-After' => 1 }, 'brief')
        if $who eq 'brief' && $q->{n} == 1;

    # a repository that stands for another registry, and tells what that does

    if ($q->{uri} =~ m!^/v2/\w+/proxied(\d+)/!) {
        return $t->reply($c, $q, $1, { 'Retry-After' => 60 }, 'elsewhere')
            unless -e "$t->{dir}/challenge";
    }
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        'Bearer realm="http://127.0.0.1:1/t",service="x"' }, '')
        if $who eq 'callers' && !$q->{h}{authorization};
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $md }, $manifest)
        if $kind eq 'manifests';
    return $t->reply_blob($c, $q, $blob{$ref}) if $blob{$ref};
    return $t->reply($c, $q, 404, {}, '');
});

sub registries {
    my (@names) = @_;
    $t->conf(cache_args => 'slice=64k', http => join("\n",
        (map { "oci_registry $_ { url http://127.0.0.1:$port;"
            . ($_ eq 'shared' ? ' credentials anonymous; }' : ' }') } @names),
        'map $uri $registry { ~^/v2/(?<name>\w+)/ $name; }'),
        location => 'location /v2/ { oci_pass $registry; oci_cache models;'
            . ' oci_access open; oci_cache_valid manifest 0; }');
}

registries(qw/ many busy brief fill shared callers /);
$t->start();

my $r;

sub asked {
    my ($who) = @_;
    return scalar grep { $_->{uri} =~ m!^/v2/$who/! } $t->requests();
}

sub limited {
    my ($r, $status, $code, $name) = @_;
    is($r->{status}, $status, $name);
    like($r->{body}, qr/"$code"/, "$name: its body");
    my $after = $r->{h}{'retry-after'} // 0;
    ok($after > 0 && $after <= 61, "$name: when") or diag($after);
}


# 429

is($t->get("/v2/many/a/blobs/$digest[0]", $me)->{body}, $blobs[0], 'a blob');
is($t->get('/v2/many/a/manifests/latest', $me)->{body}, $manifest, 'a tag');
is($t->get("/v2/many/a/blobs/$digest[1]", { Range => 'bytes=0-9', %$me })
    ->{status}, 206, 'a part of a blob');

$t->write_file('limited', '');
$t->forget_requests();

limited($t->get('/v2/many/a/blobs/' . $t->digest("no $_"), $me), 429,
    'TOOMANYREQUESTS', "an uncached blob, $_") for 1 .. 8;
limited($t->get("/v2/many/a/blobs/$digest[1]", $me), 429, 'TOOMANYREQUESTS',
    "what is missing of one, $_") for 1 .. 4;
limited($t->get('/v2/many/a/manifests/new', $me), 429, 'TOOMANYREQUESTS',
    "another tag, $_") for 1 .. 4;
limited($t->get('/v2/many/b/manifests/new', $me), 429, 'TOOMANYREQUESTS',
    "another repository, $_") for 1 .. 4;

for (1 .. 4) {
    ok($t->get("/v2/many/a/blobs/$digest[0]", $me)->{body} eq $blobs[0],
        "a cached blob $_");
    my $r = $t->get('/v2/many/a/manifests/latest', $me);
    is($r->{body}, $manifest, "a cached tag $_");
    like($r->{h}{'cache-status'}, qr/stale/, 'stale');
}

is(asked('many'), 1, 'the registry was asked once');


# somebody else's limit is his own; what the cache has no part in goes on

limited($t->get('/v2/many/a/manifests/new', $other), 429, 'TOOMANYREQUESTS',
    "somebody else $_") for 1 .. 3;
is(asked('many'), 2, 'was asked for once');

for (1 .. 2) {
    my $r = $t->get('/v2/many/a/tags/list');
    is($r->{status} . ' ' . $r->{body}, '429 the registry', "a list $_");
    is($r->{h}{'retry-after'}, 60, 'when');
}
is(asked('many'), 4, 'was asked for each time');


# a reload with another order keeps that

my @old = $t->workers();
registries(qw/ callers shared fill brief busy many /);
$t->signal('HUP');
my $end = time() + 20;
while (time() < $end) {
    my %w = map { $_ => 1 } $t->workers();
    last if %w && !grep { $w{$_} } @old;
    sleep 0.05;
}
limited($t->get('/v2/many/a/manifests/new', $me), 429, 'TOOMANYREQUESTS',
    "after a reload $_") for 1 .. 3;
is(asked('many'), 4, 'nobody asked');


# 503 with a date

limited($t->get('/v2/busy/a/manifests/new', $me), 503, 'UNAVAILABLE',
    "busy $_") for 1 .. 3;
is(asked('busy'), 1, 'asked once');


# what one repository brings on does not hide the others

is($t->get('/v2/shared/proxied503/a/manifests/v1')->{status}, 503, 'another')
    for 1 .. 2;
is(asked('shared'), 1, 'is asked for once');
is($t->get('/v2/shared/own/manifests/v1')->{status}, 200, 'and not this one');

$r = $t->get('/v2/shared/proxied429/a/manifests/v1');
is($r->{status}, 429, 'too many of all');
$r = $t->get('/v2/shared/own/manifests/v2');
is($r->{status}, 429, 'is a limit of all');
cmp_ok($r->{h}{'retry-after'}, '<=', 31, 'for a short time');


# who has shown no credentials is told to, whatever others brought on

for my $status (503, 429) {
    is($t->get("/v2/callers/proxied$status/a/manifests/v1")->{status},
        $status, "without credentials: $status");
    $r = $t->get('/v2/callers/own/manifests/v1');
    is($r->{status}, 401, 'elsewhere a challenge');
    like($r->{h}{'www-authenticate'}, qr/^Bearer /, 'it is there');
    is($t->get('/v2/callers/own/blobs/' . $t->digest('no'))->{status}, 401,
        'and for blobs');
    $t->write_file('challenge', '');
    is($t->get("/v2/callers/proxied$status/a/manifests/v1")->{status}, 401,
        'and there');
    unlink "$t->{dir}/challenge";
}


# it ends

is($t->get("/v2/brief/a/blobs/$digest[2]", $me)->{status}, 429,
    'for a second');
$end = time() + 20;
while (time() < $end) {
    $r = $t->get("/v2/brief/a/blobs/$digest[2]", $me);
    last if $r->{status} == 200;
    sleep 0.05;
}
ok($r->{body} eq $blobs[2], 'that are over');
like(join(' ', map { $_->{h}{range} // '' } grep { $_->{uri} =~ /brief/ }
    $t->requests()), qr/^bytes=0-0 bytes=0-0 bytes=\d+-\d+$/,
    'and asked for once meanwhile');


# a fill loses nothing, and tells nobody

$r = $t->get("/v2/fill/a/blobs/$digest[3]");
is($r->{status}, 200, 'a fill that waits');
ok($r->{body} eq $blobs[3], 'its bytes');
is(asked('fill'), 10, 'more often than it tries');

$t->done();
