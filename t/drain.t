#!/usr/bin/perl

# A pull that lasts goes on over a reload and over a binary upgrade, while
# others read the same blob from the workers of before and of after; what is
# changed in the configuration counts at once for who comes then.  Where
# worker_shutdown_timeout ends a pull, the rest comes to whoever asks for it,
# and what was recorded is not fetched again.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2, daemon => 1);
my $d = $t->{dir};
my $slice = 1024 * 1024;
my $size = 8 * $slice + 4711;
my @blobs = map { $t->random_blob($size) } 0 .. 4;
my %by = map { $t->digest($_) => $_ } @blobs;

# 2 MB/s a connection

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    return $t->reply_blob($c, $q, $by{$digest})
        if !defined $q->{to} || $to - $from <= 1;
    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";
    for (my $i = $from; $i < $to; $i += 65536) {
        my $n = $to - $i > 65536 ? 65536 : $to - $i;
        print $c substr($by{$digest}, $i, $n) or return 0;
        sleep 0.032;
    }
    return 1;
});

sub conf {
    my ($location, %c) = @_;
    $t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
        shutdown_timeout => '60s', cache_args => 'slice=1m', location => <<EOL,
location /v2/ {
    add_header X-Verify \$oci_verify_status;
    oci_pass demo;
    oci_fill_connections 2;
    $location
}
EOL
        %c);
}

# reads up to a place, or to the end; what came

sub read_to {
    my ($s, $got, $to) = @_;
    eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm 60;
        while (length $got < $to) {
            sysread $s, $got, 65536, length $got or last;
        }
        alarm 0;
    };
    alarm 0;
    return $got;
}

sub uri { return "/v2/m/a/blobs/" . $t->digest($blobs[$_[0]]) }

# a pull that has begun: (connection, what came)

sub begin {
    my ($i, $n) = @_;
    my $s = $t->connect();
    $t->send_request($s, 'GET', uri($i));
    my $r = $t->read_header($s);
    is($r->{status}, 200, "blob $i: begun");
    return ($s, read_to($s, $r->{rest}, $n));
}

# reloads; the workers of before

sub reload {
    my @old = $t->workers();
    my %old = map { $_ => 1 } @old;
    $t->signal('HUP');
    ok(until_true(20, sub { 2 == grep { !$old{$_} } $t->workers() }),
        'reloaded');
    return @old;
}

# an answer of the new workers: for a moment, those of before accept, too

sub changed {
    my ($value) = @_;
    my $r;
    until_true(20, sub {
        $r = $t->get(uri(0));
        return ($r->{h}{'x-new'} // '') eq $value;
    });
    return $r;
}

sub gone {
    my (@pids) = @_;
    return until_true(60, sub { !grep { !$t->ended($_) } @pids });
}

# the n-th blob is whole in the cache: nothing is asked for it

sub stored {
    my ($i) = @_;
    my $before = $t->upstream_bytes();
    my $r = $t->get(uri($i));
    ok($r->{body} eq $blobs[$i], "blob $i: whole");
    is($t->upstream_bytes(), $before, "blob $i: from the cache");
    $r = $t->get(uri($i), { Range => 'bytes=0-0' });
    is($r->{h}{'x-verify'}, 'verified', "blob $i: verified");
}

conf('oci_cache models;');
$t->start();

# a reload: one zone, both generations fill one blob once

{
    my ($s, $got) = begin(0, 300_000);
    my @old = reload();
    my $r = $t->get(uri(0), undef, 60);
    ok($r->{body} eq $blobs[0], 'reload: who comes after');
    $got = read_to($s, $got, $size);
    ok($got eq $blobs[0], 'reload: who came before');
    close $s;
    ok(gone(@old), 'reload: the workers of before went');
    stored(0);
    cmp_ok($t->upstream_bytes(), '<=', $size + 1024, 'reload: fetched once');
}

# an upgrade: the new generation has a zone of its own

{
    my ($s, $got) = begin(1, 3 * $slice);
    my $old = $t->upgrade();
    kill 'QUIT', $old;
    my $r = $t->get(uri(1), undef, 60);
    ok($r->{body} eq $blobs[1], 'upgrade: who comes after');
    cmp_ok($t->upstream_bytes(), '<=', $size - 2 * $slice + 1024,
        'upgrade: what was recorded is not fetched again');
    $got = read_to($s, $got, $size);
    ok($got eq $blobs[1], 'upgrade: who came before');
    close $s;
    ok(gone($old), 'upgrade: the master of before went');
    stored(1);
}

# directives that change

{
    my ($s, $got) = begin(2, 300_000);
    conf('oci_cache models; oci_verify off; add_header X-New yes;');
    my @old = reload();
    my $r = changed('yes');
    is($r->{h}{'x-new'}, 'yes', 'change: it counts');
    is($r->{h}{'x-verify'}, 'off', 'change: in the cache, too');

    conf('oci_cache off; add_header X-New off;');
    push @old, reload();
    $r = changed('off');
    is($r->{h}{'x-new'}, 'off', 'change: once more');
    ok(!defined $r->{h}{'cache-status'}, 'change: no cache');

    # what can't be changed is refused, and what runs goes on

    conf('oci_cache models;', cache_args => 'slice=2m');
    $t->allow(qr/"models" uses path .* was used with/);
    $t->signal('HUP');
    ok(until_true(20, sub { $t->read_file('error.log')
        =~ /was used with/ }), 'change: another slice is refused');
    $r = $t->get(uri(0));
    is($r->{h}{'x-new'}, 'off', 'change: as it was');

    conf('oci_cache models;');
    push @old, reload();
    $got = read_to($s, $got, $size);
    ok($got eq $blobs[2], 'change: who came before');
    close $s;
    ok(gone(@old), 'change: the workers of before went');
    stored(2);
}

# an end to patience

{
    conf('oci_cache models;', shutdown_timeout => '1s');
    my @old = reload();
    ok(gone(@old), 'timeout: the workers of before went');

    my $before = $t->upstream_bytes();
    my ($s, $got) = begin(3, 2 * $slice);
    @old = reload();
    $got = read_to($s, $got, $size);
    close $s;
    my $n = length $got;
    cmp_ok($n, '<', $size, 'timeout: the pull is cut');
    ok($got eq substr($blobs[3], 0, $n), 'timeout: what came is right');
    ok(gone(@old), 'timeout: the workers of before went');

    my $r = $t->get(uri(3), { Range => "bytes=$n-" }, 60);
    is($r->{status}, 206, 'timeout: the rest');
    ok($got . $r->{body} eq $blobs[3], 'timeout: is right');

    # two exchanges were in flight, a slice each

    cmp_ok($t->upstream_bytes() - $before, '<=', $size + 2 * $slice + 1024,
        'timeout: little was fetched twice');
    ok(until_true(20, sub { $t->status()->{counters}{fills_active} == 0 }),
        'timeout: no fill is left');
    stored(3);
}

$t->done();
