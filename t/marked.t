#!/usr/bin/perl

# A worker dies in the middle of a purge, when it has said that the files go:
# the blob is fetched anew and stored, and can be purged.  While it lives nobody
# else opens them, also when the manager wants to remove them, too.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Fault;

my $t = OCI->new(workers => 2);
my $fault = Fault->new($t);
my $deaths = 4;
my @blobs = map { $t->random_blob(200_000 + $_) } 0 .. $deaths;
my %by = map { $t->digest($_) => $_ } @blobs;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply($c, $q, 404) if !$digest || !$by{$digest};
    return $t->reply_blob($c, $q, $by{$digest});
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k inactive=1h', location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; }
location /purge/ { oci_cache_purge demo; oci_cache models; }
EOL
$t->allow(qr/exited on signal 9/);

$fault->start();

my $died = 0;

for my $i (1 .. $deaths) {
    my $uri = '/v2/m/a/blobs/' . $t->digest($blobs[$i]);
    my $hit = sub { ($t->get($uri)->{h}{'cache-status'} // '') =~ /hit/ };

    ok($t->get($uri)->{body} eq $blobs[$i], "blob $i: stored");

    # at the n-th name that goes

    $fault->arm('unlink', $i, $DEATH);
    $t->http($t->{edge}, 'DELETE', "/purge$uri");
    $died += ($fault->disarm())[1];

    # (the first one may be passed on beside files that go just now)

    my $r = $t->get($uri);
    ok($r->{body} eq $blobs[$i], "blob $i: is right");

    ok(until_true(8, $hit), "blob $i: is stored again");
    is($t->http($t->{edge}, 'DELETE', "/purge$uri")->{status}, 200,
        "blob $i: is purged");
}

cmp_ok($died, '>=', 2, 'some of them died');

# stopped before the data goes: the second name, after that of the reference

{
    my $uri = '/v2/m/a/blobs/' . $t->digest($blobs[0]);
    until_true(10, sub { $t->workers() >= 2 });
    ok($t->get($uri)->{body} eq $blobs[0], 'a blob');

    # workers close what nobody uses

    $fault->later(10);
    until_true(15, sub {
        my %s = $t->to_workers();
        close $_ for values %s;
        return !grep { (readlink($_) // '') =~ m!/blobs/.*[0-9a-f]{64}! }
            map { glob "/proc/$_/fd/*" } $t->workers();
    });

    $fault->arm('unlink', 2, $STOP);
    my $s = $t->connect();
    $t->send_request($s, 'DELETE', "/purge$uri");
    my $stopped;
    ok(until_true(10, sub {
        ($stopped) = grep { `cat /proc/$_/stat` =~ /\) T/ } $t->workers();
        return $stopped;
    }), 'a worker purges it');
    $fault->disarm();

    # it is old by now, and the manager looks every two seconds

    $fault->later(2 * 3600);
    sleep 6;
    my $r = $t->get($uri);
    ok($r->{body} eq $blobs[0], 'it is passed through');
    unlike($r->{h}{'cache-status'} // '', qr/hit/, 'not from the cache');

    kill 'CONT', $stopped;
    is($t->read_header($s)->{status}, 200, 'it is purged');
    ok($t->get($uri)->{body} eq $blobs[0], 'and fetched again');
}

$t->done();
