#!/usr/bin/perl

# What was stored of a blob outlives those who brought it: a client that
# leaves, workers and the master that are killed, a zone of another size, a
# restart under another boot id, as after a power cut, and a second nginx that
# is started on the same directory by mistake.  (Reloads and upgrades are in
# drain.t, what a crash can leave of each write in crash.t.)
#
# After each of them a client comes back for the rest, and
#
#   - all it got is right, and so is the next read, which is verified;
#   - of slices that the sidecar vouched for not a byte was asked for again;
#     those that did not survive a power cut were, and nothing else.
#
# Two instances never write one file together: while one of them fills, the
# other serves what is stored, and the rest uncached; what one of them has
# verified is not written over by the other, whatever its registry sends.

use warnings;
use strict;

use Test::More;
use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use Socket qw/ SO_RCVBUF /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $lib = abs_path(dirname(__FILE__) . '/../build/faults/record.so');

plan(skip_all => 'not built, see "make preloads"') if !$lib || !-f $lib;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $slice = 1024 * 1024;
my $size = 6 * $slice + 4711;
my @blobs = map { $t->random_blob($size) } 0 .. 8;
my %by = map { $t->digest($_) => $_ } @blobs;

# 4 MB/s a connection

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    my $data = $by{$digest};
    $data ^= "\1" x $size if -e "$d/evil";
    return $t->reply_blob($c, $q, $data)
        if !defined $q->{to} || $to - $from <= 1;
    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";
    for (my $i = $from; $i < $to; $i += 65536) {
        my $n = $to - $i > 65536 ? 65536 : $to - $i;
        print $c substr($data, $i, $n) or return 0;
        sleep 0.016 if !-e "$d/fast";
    }
    return 1;
});

sub conf {
    my ($nginx, %c) = @_;
    $nginx->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
        cache => "oci_cache_path $d/cache keys_zone=models:$nginx->{zone}"
            . ' slice=1m;', location => <<EOL, %c);
location /v2/ {
    add_header X-Verify \$oci_verify_status;
    oci_pass demo;
    oci_cache models;
    oci_fill_connections 2;
    oci_fill_abandoned stop after=100ms;
}
EOL
    return $nginx;
}

sub uri { return "/v2/m/a/blobs/" . $t->digest($blobs[$_[0]]) }

sub file {
    my ($hex) = $t->digest($blobs[$_[0]]) =~ /:(.+)/;
    return "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";
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

# a pull that has begun: (connection, what came)

sub begin {
    my ($i, $n) = @_;
    my $s = $t->connect();
    $t->send_request($s, 'GET', uri($i));
    my $r = $t->read_header($s);
    is($r->{status}, 200, "$i: begun");
    return ($s, read_to($s, $r->{rest}, $n));
}

# the slices that the sidecar vouches for

sub recorded {
    my ($i) = @_;
    open my $f, '<:raw', file($i) . '.map' or return ();
    local $/;
    my @records = unpack '(LL)*', substr <$f>, 4096;
    return grep { $records[2 * $_ + 1] } 0 .. @records / 2 - 1;
}

# how many of these slices were asked for (a probe takes a byte)

sub asked {
    my ($i, @slices) = @_;
    my $uri = uri($i);
    my %asked;
    for ($t->requests()) {
        next if $_->{uri} ne $uri
            || ($_->{h}{range} // '') !~ /^bytes=(\d+)-(\d+)$/
            || $1 == $2;
        my ($from, $to) = ($1, $2 + 1);
        $asked{$_} = 1 for grep { $from < ($_ + 1) * $slice
            && $to > $_ * $slice } @slices;
    }
    return scalar keys %asked;
}

# a client that has got something comes back for the rest

sub resume {
    my ($i, $got, $name, @recorded) = @_;
    my $n = length $got;

    ok($got eq substr($blobs[$i], 0, $n), "$name: what came is right");
    cmp_ok(scalar @recorded, '>=', 2, "$name: slices are recorded");

    my $r = $t->get(uri($i), { Range => "bytes=$n-" }, 60);
    is($r->{status}, 206, "$name: the rest");
    ok($got . $r->{body} eq $blobs[$i], "$name: all is right");

    $r = $t->get(uri($i), undef, 60);
    ok($r->{body} eq $blobs[$i], "$name: the whole, too");
    is(asked($i, @recorded), 0, "$name: nothing is fetched again");

    $r = $t->get(uri($i), { Range => 'bytes=5-9' });
    is($r->{h}{'x-verify'}, 'verified', "$name: verified");
}

sub dead {
    my (@pids) = @_;
    return until_true(30, sub { !grep { !$t->ended($_) } @pids });
}

conf($t);
$t->allow(qr/exited on signal 9/);
$t->start();

# a client that leaves

{
    my ($s, $got) = begin(0, 3 * $slice);
    close $s;
    ok(until_true(20, sub { $t->status()->{counters}{fills_active} == 0 }),
        'client: the fill stops');
    my @recorded = recorded(0);
    cmp_ok(scalar @recorded, '<', 7, 'client: not all is there');
    $t->forget_requests();
    resume(0, $got, 'client', @recorded);
}

# all workers

{
    my ($s, $got) = begin(1, 3 * $slice);
    my @old = $t->workers();
    kill 'KILL', @old;
    $got = read_to($s, $got, $size);
    ok(dead(@old), 'workers: killed');
    my @recorded = recorded(1);
    $t->forget_requests();
    resume(1, $got, 'workers', @recorded);
}

# the master: workers go on; then all of them, the manager too, and another
# start

{
    my ($s, $got) = begin(2, $slice);
    my @old = $t->children();
    my $master = delete $t->{pids}{nginx};
    kill 'KILL', $master;
    $got = read_to($s, $got, 3 * $slice);
    cmp_ok(length $got, '>=', 3 * $slice, 'master: its workers go on');

    kill 'KILL', @old;
    $got = read_to($s, $got, $size);
    ok(dead($master, @old), 'master: and are killed');

    unlink "$d/nginx.pid";
    my @recorded = recorded(2);
    $t->forget_requests();
    $t->start();
    resume(2, $got, 'master', @recorded);
}

# another size of the zone: the workers of before have the old one

{
    my ($s, $got) = begin(3, 3 * $slice);
    my @old = $t->workers();
    $t->{zone} = '12m';
    conf($t);
    $t->signal('HUP');
    ok(until_true(20, sub {
        my %old = map { $_ => 1 } @old;
        2 == grep { !$old{$_} } $t->workers();
    }), 'zone: new workers');

    my $r = $t->get(uri(3), { Range => 'bytes=0-' . ($slice - 1) });
    ok($r->{body} eq substr($blobs[3], 0, $slice), 'zone: stored bytes');

    $got = read_to($s, $got, $size);
    ok($got eq $blobs[3], 'zone: who came before');
    close $s;
    ok(dead(@old), 'zone: the workers of before went');
    $t->forget_requests();
    resume(3, substr($blobs[3], 0, 5), 'zone', recorded(3));
}

# a power cut: another boot id, and data that was lost

{
    my ($s, $got) = begin(4, 4 * $slice);
    $got = substr $got, 0, $slice + 17;
    close $s;
    $t->stop();

    my @recorded = recorded(4);
    my $lost = $recorded[1];

    open my $f, '+<:raw', file(4) or die $!;
    sysseek $f, $lost * $slice + 8192, 0;
    syswrite $f, "\0" x 4096;
    close $f;

    $t->write_file('boot', "00000000-0000-4000-8000-000000000001\n");
    $t->forget_requests();
    {
        local $ENV{LD_PRELOAD} = $lib;
        local $ENV{RECORD_BOOT_ID} = "$d/boot";
        $t->start();
    }

    resume(4, $got, 'power', grep { $_ != $lost } @recorded);
    is(asked(4, $lost), 1, 'power: what was lost is fetched again');

    $t->stop();
    $t->start();
}

# a second nginx on the same directory

my $other = conf(OCI->new(workers => 1));
$other->start();

sub other_bytes { return $other->upstream_bytes() }

{
    my ($s, $got) = begin(5, 3 * $slice);

    my $r = $other->get(uri(5), undef, 60);
    ok($r->{body} eq $blobs[5], 'second: right beside a fill');
    my $bytes = other_bytes();
    cmp_ok($bytes, '<=', $size - 2 * $slice + 1024,
        'second: what was recorded is not fetched');

    $got = read_to($s, $got, $size);
    ok($got eq $blobs[5], 'second: and the first one');
    close $s;

    $r = $other->get(uri(5), undef, 60);
    ok($r->{body} eq $blobs[5], 'second: once more');
    is(other_bytes(), $bytes, 'second: from what the first one stored');
}

# the first one stores all of it, while the second one has a part of it open;
# then the registry goes wrong

{
    my ($s, $got) = begin(6, 3 * $slice);
    my $part = { Range => 'bytes=100-199' };
    is($other->get(uri(6), $part)->{body}, substr($blobs[6], 100, 100),
        'evil: a part by the second one');

    # (it has the file open for some seconds)

    $t->write_file('fast', '');
    my $end = time() + 30;
    while (length $got < $size && time() < $end) {
        my $to = length($got) + $slice;
        $got = read_to($s, $got, $to < $size ? $to : $size);
        $other->get(uri(6), $part);
    }
    ok($got eq $blobs[6], 'evil: the first one has all');
    close $s;

    $other->get(uri(6), $part);
    $t->write_file('evil', '');

    my $r = $other->get(uri(6), undef, 60);
    ok($r->{body} eq $blobs[6], 'evil: the second one, too');
    $r = $t->get(uri(6), undef, 60);
    ok($r->{body} eq $blobs[6], 'evil: it is as it was');
    is($r->{h}{'x-verify'}, 'verified', 'evil: and verified');
    unlink "$d/evil";
}

# both at once, from the first byte

{
    my @out = $t->parallel(4, sub {
        my $nginx = $_[0] % 2 ? $other : $t;
        my $r = $nginx->get(uri(7), undef, 60);
        return $r->{body} eq $blobs[7] ? 'right'
            : "$r->{status} " . length $r->{body};
    });
    is(join(' ', @out), 'right right right right', 'both: four readers');
    ok(until_true(20, sub { recorded(7) == 7 }), 'both: it is stored');
}

# the first one stores what the second one has reserved room for, whose reader
# is slow: it keeps no room that nothing comes to any more

{
    my $strict = OCI->new(workers => 1, edge => OCI::port());
    conf($strict, listen => "listen 127.0.0.1:$strict->{edge} sndbuf=16k;",
        location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; oci_verify strict; }
EOL
    $strict->start();
    my $reserved = sub { $strict->status()->{zones}{models}{reserved} };

    unlink "$d/fast";
    my ($s, $got) = begin(8, $slice);
    my $slow = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$strict->{edge}",
        Sockopts => [[SO_RCVBUF, 8192]]) or die $!;
    $slow->autoflush(1);
    $strict->send_request($slow, 'GET', uri(8));
    ok(until_true(10, sub { $reserved->() > $slice }), 'slow: reserved');

    $got = read_to($s, $got, $size);
    ok($got eq $blobs[8], 'slow: the first one has all');
    close $s;

    my $r = $strict->read_header($slow);
    is($r->{status}, 200, 'slow: it begins');
    is($reserved->(), 0, 'slow: nothing stays reserved');
    $got = read_to($slow, $r->{rest}, $size);
    ok($got eq $blobs[8], 'slow: right');
    close $slow;
    ok($strict->stop(), 'slow: stopped');
    unlike($strict->read_file('error.log'), qr/\[(alert|emerg|crit)\]/,
        'slow: without alerts');
}

ok($other->stop(), 'the second one stopped');
is(join("\n", grep { /\[(alert|emerg|crit)\]/ }
    split /\n/, $other->read_file('error.log')), '', 'without alerts');

$t->done();
