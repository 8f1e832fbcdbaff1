#!/usr/bin/perl

# A worker dies while it holds the zone's mutex, in the middle of a change:
# what lies in the zone can't be relied on any more.
#
# Nobody gets a wrong byte or an error, requests are passed through, and a
# reload makes the zone anew: what lies on the disk is served from there again,
# also while workers of the damaged zone still serve who is with them.

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
my $size = 3 * 65536 + 11;
my $deaths = 80;
my @blobs = map { $t->random_blob($size) } 1 .. 3 + $deaths;
my %by = map { $t->digest($_) => $_ } @blobs;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply($c, $q, 404) if !$digest || !$by{$digest};

    # slowly, for who is still there when nginx is reloaded

    return $t->reply_blob($c, $q, $by{$digest})
        if $q->{uri} !~ /slow/ || ($q->{h}{range} // '') eq 'bytes=0-0';
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    print $c 'HTTP/1.1 ' . (defined $q->{from} ? 206 : 200)
        . " X\r\nContent-Length: " . ($to - $from) . (defined $q->{from}
            ? "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size" : '')
        . "\r\n\r\n";
    for (my $i = $from; $i < $to; $i += 4096) {
        print $c substr $by{$digest}, $i, $to - $i < 4096 ? $to - $i : 4096;
        sleep 0.1;
    }
    return 1;
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k');

$t->allow(qr/exited on signal 9/, qr/was left damaged/,
    qr/shared memory zone "models" was locked by/);

$fault->start();

sub uri {
    my ($i, $repo) = @_;
    return '/v2/' . ($repo // 'a') . '/blobs/' . $t->digest($blobs[$i]);
}

sub status { return $_[0]{h}{'cache-status'} // 'none' }

sub right {
    my ($r, $i, $name) = @_;
    ok($r->{status} == 200 && !$r->{cut} && $r->{body} eq $blobs[$i],
        "$name: right");
}

right($t->get(uri(0)), 0, 'stored');
like(status($t->get(uri(0))), qr/hit/, 'stored: a hit');

# the n-th look at a file: some are under the mutex

sub damaged { return $t->read_file('error.log') =~ /was left damaged/ }

my $n = 0;

while ($n < $deaths && !damaged()) {
    $fault->arm('stat', ++$n, $DEATH);
    $t->get(uri(2 + $n));
    $fault->disarm();

    # who comes next finds what was left

    until_true(5, sub { $t->workers() >= 2 });
    right($t->get(uri(0)), 0, "after death $n");
}

ok(damaged(), "the zone was left damaged, death $n");

$t->get(uri(0));
unlike(status($t->get(uri(0))), qr/hit/, 'it is passed through');
right($t->get(uri(1)), 1, 'what is not stored');

# one that goes on with an old worker

my $s = $t->connect();
$t->send_request($s, 'GET', uri(2, 'slow'));
my $slow = $t->read_header($s);

my %old = map { $_ => 1 } $t->workers();
$t->signal('HUP');

until_true(20, sub { 2 <= grep { !$old{$_} } $t->workers() });

like($t->read_file('error.log'), qr/was left damaged, it is made anew/,
    'a zone of its own');

my $r;
until_true(sub { $r = $t->get(uri(0)); status($r) =~ /hit/ });
like(status($r), qr/hit/, 'after a reload: a hit');
right($r, 0, 'after a reload');

right($t->get(uri(2)), 2, 'what an old worker fetches');

right($t->read_body($s, $slow, 'GET', 60), 2, 'with an old worker');

$t->signal('HUP');
sleep 1;
like(status($t->get(uri(0))), qr/hit/, 'after another reload: a hit');
right($t->get(uri(0)), 0, 'after another reload');
my @anew = $t->read_file('error.log') =~ /it is made anew/g;
is(scalar @anew, 1, 'made anew once');

$t->done();
