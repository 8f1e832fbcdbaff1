#!/usr/bin/perl

# A fill borrows a reader's credentials: what the lender does, and what the
# registry tells him, does not hold up the other readers.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $size = 24 * 1024 * 1024;
my @blobs = map { $t->random_blob($size + $_) } 0 .. 3;
my @digest = map { $t->digest($_) } @blobs;
my %blob = map { $t->digest($_) => $_ } @blobs;

# the repository tells who has to wait, or is refused but for first bytes

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($kind, $ref) = $q->{uri} =~ m!/(\w+)/([^/]+)$!;
    my ($who) = ($q->{h}{authorization} // '') =~ /^Bearer canary-(\w+)$/;
    $who //= '';

    return $t->reply($c, $q, 429,
        { 'Retry-After' => $who eq 'mallory' ? 60 : 3 }, '')
        if $kind eq 'manifests';

    my $blob = $blob{$ref};

    return $t->reply($c, $q, 401, {}, '') if $who eq 'probes'
        && ($q->{to} // length $blob) - ($q->{from} // 0) >= 2;
    return $t->reply_slowly($c, $q, $blob, 0.01);
});

my $fill = 'oci_pass demo; oci_cache models; oci_fill_connections 2;'
    . ' oci_fill_ahead 4m;';
$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=1m', location => "location /v2/ { $fill }\n"
    . "location /v2/slow/ { limit_rate 6m; limit_rate_after 1m; $fill }");
$t->start();

# who began the exchanges of fills of a blob, one after the other

sub lenders {
    my ($i) = @_;
    return join ' ', map { $_->{h}{authorization} =~ /(\w+)$/ }
        grep { $_->{uri} =~ /$digest[$i]/ && $_->{h}{range} ne 'bytes=0-0' }
        $t->requests();
}

sub begin {
    my ($i, $who, $bytes) = @_;
    my $s = $t->connect();
    $t->send_request($s, 'GET', "/v2/m/a/blobs/$digest[$i]",
        { Authorization => "Bearer canary-$who" });
    for (my $n = 0; $n < $bytes; ) {
        $n += sysread($s, my $buf, 1 << 18) || last;
    }
    return $s;
}

sub pull {
    my ($i, $who, $name) = @_;
    my $r = $t->get('/v2/' . ($name // 'm') . "/a/blobs/$digest[$i]",
        { Authorization => "Bearer canary-$who" }, 120);
    return $r->{status} == 200 && $r->{body} eq $blobs[$i] ? 'right'
        : "$r->{status} " . length $r->{body};
}


# who lends is told to wait, and stays

my $mallory = begin(0, 'mallory', 1 << 20);
my $r = $t->get('/v2/m/a/manifests/x',
    { Authorization => 'Bearer canary-mallory' });
is($r->{status}, 429, 'a lender has to wait');
is(pull(0, 'alice'), 'right', 'another reader does not');
like(lenders(0), qr/mallory.* alice$/, 'his credentials are used then');

$r = $t->get('/v2/m/a/manifests/x',
    { Authorization => 'Bearer canary-mallory' });
is($r->{status}, 429, 'while the lender still');
is(scalar(grep { $_->{uri} =~ /manifests/ } $t->requests()), 1, 'has to');
close $mallory;


# others' credentials may be none: then it is the lender's turn again

my $brief = begin(1, 'brief', 1 << 20);
$r = $t->get('/v2/m/a/manifests/x',
    { Authorization => 'Bearer canary-brief' });
is($r->{status}, 429, 'another one has to wait');
is(pull(1, 'probes'), 'right', 'who may not fetch has the bytes');
my @lenders = split / /, lenders(1);
is($lenders[-1], 'brief', 'with the lender\'s, later');
cmp_ok(scalar(grep { $_ eq 'probes' } @lenders), '<=', 2,
    'and is not asked again and again');
close $brief;

# who lends leaves: others go on with their own, also one who comes behind

my @who = $t->parallel(2, sub {
    my ($k) = @_;
    if ($k == 0) {
        close begin(2, 'alice', 12 << 20);
        return 'left';
    }
    for (my $end = time() + 20; time() < $end; sleep 0.02) {
        last if lenders(2);
    }
    sleep 0.3;
    return pull(2, 'bob', 'slow');
});
is("@who", 'left right', 'a lender leaves');
like(lenders(2), qr/^alice( alice)* bob( bob)*$/, 'so do his credentials');


# or with the lender's, if they have none that are good

@who = $t->parallel(2, sub {
    my ($k) = @_;
    if ($k == 0) {
        close begin(3, 'alice', 8 << 20);
        return 'left';
    }
    for (my $end = time() + 20; time() < $end; sleep 0.02) {
        last if lenders(3);
    }
    sleep 0.3;
    return pull(3, 'probes');
});
is("@who", 'left right', 'nobody is cut for that');
like(lenders(3), qr/probes.* alice$/, 'with the credentials that there were');

$t->done();
