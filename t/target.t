#!/usr/bin/perl

# Where the registry redirects a fill is remembered: its exchanges go straight
# there, and back to the registry once when the URL has expired, or leads to
# nobody.  Such a URL is a secret, and the store gets no credentials.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new();
my $d = $t->{dir};
my $size = 8 * 1024 * 1024 + 77;
my $piece = 256 * 1024;

# what happens to the blob, by its place

my @kinds = qw/ expires moves callers broken wide leaves /;
my (%blob, %digest, %kind);

for my $kind (@kinds) {
    my $blob = $t->random_blob($size);
    my $digest = $t->digest($blob);
    ($blob{$digest}, $digest{$kind}, $kind{$digest}) = ($blob, $digest, $kind);
}

# a store cuts each answer after a piece: a fill takes 33 exchanges

sub store {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!^/data/([^?]+)!;
    my ($from, $to) = ($q->{from}, $q->{to} // $size);

    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";
    print $c substr($blob{$digest}, $from,
        $to - $from > $piece ? $piece : $to - $from);
    return $to - $from <= $piece;
}

my ($store, $closing);

# a URL is good for five requests; with "callers" it does not expire

$store = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest, $sig) = $q->{uri} =~ m!^/data/([^?]+)\?sig=(\d+)!;
    my $kind = $kind{$digest};

    return $t->reply($c, $q, 500, {}, 'no') if $kind eq 'broken' && $sig < 3
        && $q->{n} > 2;
    return $t->reply($c, $q, $sig % 2 ? 403 : 410, {}, 'expired ' x 100)
        if $q->{n} > 5 && $kind ne 'callers';

    if ($kind eq 'callers') {

        # once, when the registry does not know alice any more

        return $t->reply($c, $q, 403, {}, 'expired') if -e "$d/bob"
            && $q->{to} > 1 && !-e "$d/once" && $t->write_file('once', '1');
        sleep 0.05;
    }
    return store($c, $q);
});

# and one that goes away after a piece

$closing = $t->upstream(sub {
    my ($c, $q) = @_;
    if ($q->{to} - $q->{from} > 1) {
        $t->write_file('moved', '1');
        kill 'TERM', getppid();
    }
    return store($c, $q);
});

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)!;

    return $t->reply($c, $q, 401, { 'WWW-Authenticate' => 'Basic realm="r"' },
        '{"errors":[]}') unless $q->{h}{authorization};

    if ($kind{$digest} eq 'callers') {
        $t->write_file('bob', '1') if $q->{h}{authorization} =~ /bob/;
        return $t->reply($c, $q, 401, {}, '{"errors":[]}')
            if $q->{h}{authorization} =~ /alice/ && -e "$d/bob";
    }

    my $to = $kind{$digest} eq 'moves' && !-e "$d/moved" ? $closing : $store;
    return $t->reply($c, $q, 307, { Location => "http://127.0.0.1:$to/data/"
        . "$digest?sig=$q->{n}&X-Signature=SECRET" }, '');
});

$t->conf(cache_args => 'slice=1m', main => "error_log $d/debug.log debug;",
    http => "oci_registry demo { url http://127.0.0.1:$port;"
        . " redirect_allow 127.0.0.1; }", location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; oci_fill_connections 1; }
location /v2/wide/ { oci_pass demo; oci_cache models; }
location /v2/leaves/ {
    oci_pass demo;
    oci_cache models;
    oci_fill_abandoned stop after=0;
}
EOL
$t->start();

sub pull {
    my ($kind, $who) = @_;
    my $r = $t->get("/v2/m/blobs/$digest{$kind}",
        { Authorization => 'Bearer canary-' . ($who // 'alice') }, 50);
    return $r->{status} == 200 && $r->{body} eq $blob{$digest{$kind}};
}

# requests for the blob, at the store (0), another one (1), the registry (2)

sub seen {
    my ($i, $kind) = @_;
    return grep { $_->{uri} =~ /$digest{$kind}/ } $t->requests($i);
}

# URLs that expire

my $before = $t->upstream_bytes();
ok(pull('expires'), 'expires: all of it');

my $bytes = $t->upstream_bytes() - $before;
ok($bytes >= $size && $bytes < $size + 64, 'expires: each byte once')
    or diag($bytes - $size);

my @store = seen(0, 'expires');
my @registry = seen(2, 'expires');
cmp_ok(scalar @store, '>=', 33, 'expires: many exchanges');
cmp_ok(scalar @registry, '>=', 6, 'expires: each URL is asked for');
cmp_ok(scalar @registry, '<=', 10, 'expires: and used again');
is((grep { !$_->{h}{authorization} } @registry), 0,
    'expires: the registry is asked with credentials');

# a store that is gone

ok(pull('moves'), 'moves: all of it');
ok(-e "$d/moved", 'moves: it did');

# a URL whose store fails: that counts as a try, the next one is a new URL

ok(pull('broken'), 'broken: all of it');

# another caller's URL is his: it is not used with the rights that a fill
# goes on with

my @ok = $t->parallel(2, sub {
    my ($i) = @_;
    if ($i) {
        for (my $end = time() + 30; time() < $end; sleep 0.05) {
            last if seen(0, 'callers') > 5;
        }
    }
    return pull('callers', $i ? 'bob' : 'alice') ? 'ok' : 'wrong';
});
is("@ok", 'ok ok', 'callers: both have all of it');
ok((grep { $_->{h}{authorization} eq 'Bearer canary-bob'
        && $_->{h}{range} ne 'bytes=0-0' } seen(2, 'callers')),
    'callers: the new one\'s URL is asked for');

# several at once

@ok = $t->parallel(3, sub {
    my $from = 3000000 * $_[0];
    my $r = $t->get("/v2/wide/m/blobs/$digest{wide}",
        { Authorization => 'Bearer canary-alice',
            Range => "bytes=$from-" }, 50);
    return $r->{body} eq substr($blob{$digest{wide}}, $from) ? 'ok'
        : "$r->{status} " . length $r->{body};
});
is("@ok", 'ok ok ok', 'wide: each has his part');

# clients that leave, each with a source of his own, stop fills at any state

$t->parallel(6, sub {
    for my $n (1 .. 5) {
        my $s = $t->connect();
        $t->send_request($s, 'GET', "/v2/leaves/m/blobs/$digest{leaves}",
            { Authorization => "Bearer canary-c$_[0]$n", Range =>
                sprintf 'bytes=%d-', rand($size) });
        sleep rand(0.2);
        close $s;
    }
    return '';
});
my $r = $t->get("/v2/leaves/m/blobs/$digest{leaves}",
    { Authorization => 'Bearer canary-alice' }, 50);
ok($r->{body} eq $blob{$digest{leaves}}, 'leaves: all of it for who stays');

# what nobody gets to see

is((grep { $_->{h}{authorization} } map { $t->requests($_) } 0, 1), 0,
    'the stores get no credentials');

my $log = $t->read_file('error.log') . $t->read_file('debug.log')
    . $t->read_file('access.log');
unlike($log, qr/SECRET/, 'no log has a URL\'s query');
unlike($log, qr/answered (403|410)|gives up/, 'no exchange failed for it');

$t->done();
