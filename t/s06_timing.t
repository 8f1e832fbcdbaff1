#!/usr/bin/perl

# S6: an oracle of what is cached.  Asking for a digest that another
# repository has cached costs what asking for one that is nowhere costs: for
# each way to ask, the edge does the same (what it asks the upstream, how often,
# how many bytes it sends), however often it is asked; with ATTACK=full the
# times are compared too, 10^5 samples of each kind in random order, trimmed,
# Welch's t-test, |t| < 4.5.
#
# Credentials are compared as digests only, see refs in src/cache.  See also
# s05_membership.t (the answers).

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $blob = $t->random_blob(100000);
my %digest = (cached => $t->digest($blob), absent => 'sha256:' . '0' x 64);
my $good = { Authorization => 'Basic Z29vZDpnb29k' };

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob)
        if $q->{uri} eq "/v2/b/blobs/$digest{cached}";
    return $t->reply($c, $q, 404, { 'Content-Type' => 'application/json' },
        '{"errors":[{"code":"BLOB_UNKNOWN"}]}');
}, quiet => $OCI::FULL);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }");
$t->start();

ok($t->get("/v2/b/blobs/$digest{cached}", $good)->{body} eq $blob, 'cached');

my $s;

sub sample {
    my ($kind, $method, $h) = @_;

    $s //= $t->connect();
    my $start = time();
    $t->send_request($s, $method, "/v2/a/blobs/$digest{$kind}",
        { %$good, %{$h || {}} });
    my $r = $t->read_header($s);
    my $took = time() - $start;
    $t->read_body($s, $r, $method);
    if (($r->{h}{connection} // '') ne 'keep-alive') {
        close $s;
        $s = undef;
    }
    return ($took, $r);
}

# a request counts a moment after its last byte

sub settled {
    my ($old, $new) = (0, '');
    while (1) {
        $new = $t->status();
        my $text = join ' ', map { $new->{counters}{$_} }
            sort keys %{$new->{counters}};
        return $new if $text eq $old;
        $old = $text;
        sleep 0.2;
    }
}

SKIP: {
    skip 'nothing is recorded with ATTACK=full', 6 if $OCI::FULL;

    for my $way ([ 'GET', {} ], [ 'HEAD', {} ],
        [ 'GET', { Range => 'bytes=5-9' } ])
    {
        my %work;
        for my $kind (qw/ cached absent /) {
            my $before = settled();
            $t->forget_requests();
            for (1 .. 20) {
                my (undef, $r) = sample($kind, @$way);
                $work{$kind} .= "$r->{status} " . length($r->{body}) . "\n";
            }
            my $after = settled();
            for my $k (sort keys %{$after->{counters}}) {

                # connections of the two status requests differ by chance

                next if $k =~ /wakeup|doorbell/;
                $work{$kind} .= "$k: " . ($after->{counters}{$k}
                    - $before->{counters}{$k}) . "\n";
            }
            $work{$kind} .= 'bytes: ' . ($after->{upstream_bytes}{demo}
                - $before->{upstream_bytes}{demo}) . "\n";
            for my $q ($t->requests()) {
                $work{$kind} .= join(' ', $q->{method}, map {
                    "$_: $q->{h}{$_}" } sort keys %{$q->{h}}) . "\n";
            }
        }
        is($work{cached}, $work{absent}, "@$way[0] " . join(' ',
            %{$way->[1]}) . ': the same work');
        like($work{cached}, qr/^404 /, 'which is no hit');
    }
}

SKIP: {
    skip 'times are compared with ATTACK=full', 1 unless $OCI::FULL;

    my %times = (cached => [], absent => []);
    my $n = $ENV{TIMING_SAMPLES} || 100000;

    sample('absent', 'GET') for 1 .. 200;
    while (@{$times{cached}} < $n || @{$times{absent}} < $n) {
        my $kind = rand() < 0.5 ? 'cached' : 'absent';
        my ($took) = sample($kind, 'GET');
        push @{$times{$kind}}, $took;
    }

    # what a busy machine adds is not the edge's: the slowest tenth goes

    my (%mean, %var, %n);
    for my $kind (keys %times) {
        my @x = sort { $a <=> $b } @{$times{$kind}};
        $#x = int(@x * 0.9);
        $n{$kind} = @x;
        $mean{$kind} += $_ / @x for @x;
        $var{$kind} += ($_ - $mean{$kind}) ** 2 / (@x - 1) for @x;
    }
    my $tt = ($mean{cached} - $mean{absent})
        / sqrt($var{cached} / $n{cached} + $var{absent} / $n{absent});
    diag(sprintf 'cached %.1f us, absent %.1f us, t = %.2f',
        $mean{cached} * 1e6, $mean{absent} * 1e6, $tt);
    cmp_ok(abs $tt, '<', 4.5, "$n samples of each: |t|");
}

$t->done();
