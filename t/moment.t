#!/usr/bin/perl

# A blob's sidecar is locked for a moment by somebody who fills nothing: a
# worker that has just created it, the manager, scrub.  Who wants the blob just
# then waits for it, and does not fetch all of it past the file.

use warnings;
use strict;

use Test::More;
use Fcntl qw/ F_UNLCK F_WRLCK /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $SLICE = 65536;
my @blobs = map { $t->random_blob(8 * $SLICE + 5) } 0 .. 6;
my %by = map { $t->digest($_) => $_ } @blobs;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply($c, $q, 404) if !$digest || !$by{$digest};
    return $t->reply_blob($c, $q, $by{$digest});
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k', location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; }
location /v2/strict/ { oci_pass demo; oci_cache models; oci_verify strict; }
EOL
$t->start();

sub uri { return '/v2/m/blobs/' . $t->digest($blobs[$_[0]]) }

sub file {
    my $hex = substr $t->digest($blobs[$_[0]]), 7;
    return "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";
}

# struct flock: type, whence, start, len, pid; F_OFD_SETLK is 37

sub lock_file {
    my ($f, $type) = @_;
    my $lock = pack 's s x4 q q i x4', $type, 0, 0, 0, 0;
    return fcntl $f, 37, $lock;
}

# a first slice is stored, and nobody fills any more; its sidecar, locked

sub prepare {
    my ($i) = @_;
    my $r = $t->get(uri($i), { Range => 'bytes=0-99' });
    ok($r->{body} eq substr($blobs[$i], 0, 100), "blob $i: its beginning");
    my $f;
    ok(until_true(sub {
        open $f, '+<', file($i) . '.map' or return 0;
        return lock_file($f, F_WRLCK);
    }), "blob $i: locked") or die;
    return $f;
}

# bytes that the registry sent of a blob, whatever they were asked for

sub sent {
    my ($i) = @_;
    my $n = 0;
    for my $q ($t->requests()) {
        next if $q->{uri} ne uri($i);
        my ($from, $to) = ($q->{h}{range} // '') =~ /^bytes=(\d+)-(\d*)$/;
        $n += length($to // '') ? $to + 1 - $from
            : length($blobs[$i]) - ($from // 0);
    }
    return $n;
}

sub ask {
    my ($i, $h, $uri) = @_;
    my $s = $t->connect();
    $t->send_request($s, 'GET', $uri || uri($i), $h || {});
    return $s;
}

sub answer {
    my ($s) = @_;
    my $r = $t->read_header($s, 20);
    return $t->read_body($s, $r, 'GET', 20);
}

# the last one who waits leaves, and the blob is closed when nobody came for
# some seconds

my @workers = $t->workers();
my $f = prepare(6);
for (1 .. 8) {
    my $s = ask(6, { Range => "bytes=$SLICE-" });
    sleep 0.05;
    close $s;
}
sleep 7;
is("@{[$t->workers()]}", "@workers", 'nobody is left: no worker died');
sub held {
    return grep { (readlink($_) // '') eq file($_[0]) . '.map' }
        map { glob "/proc/$_/fd/*" } $t->workers();
}
ok(until_true(sub { !held(6) }), 'nobody is left: it is closed');
lock_file($f, F_UNLCK);
ok($t->get(uri(6))->{body} eq $blobs[6], 'nobody is left: right');

# what is not stored, by several clients of both workers

$f = prepare(0);
my @s = map { ask(0, { Range => "bytes=$SLICE-" }) } 1 .. 6;
sleep 0.3;
lock_file($f, F_UNLCK);
my @r = map { answer($_) } @s;

is(scalar(grep { $_->{body} eq substr $blobs[0], $SLICE } @r), 6,
    'a moment: all are right');
is(scalar(grep { ($_->{h}{'cache-status'} // '') =~ /fwd=/ } @r), 6,
    'a moment: none is passed through');
cmp_ok(sent(0), '<=', length($blobs[0]) + 2, 'a moment: fetched once');
like($t->get(uri(0))->{h}{'cache-status'}, qr/hit/, 'a moment: stored');

# one that gives up meanwhile

$f = prepare(1);
@s = map { ask(1, { Range => "bytes=$SLICE-" }) } 1 .. 3;
sleep 0.1;
close $_ for @s;
sleep 0.2;
lock_file($f, F_UNLCK);
ok($t->get(uri(1))->{body} eq $blobs[1], 'they left: right');

# it goes meanwhile: the registry's own answer

$f = prepare(2);
my $s = ask(2, { Range => "bytes=$SLICE-" });
sleep 0.2;
unlink file(2), file(2) . '.map';
lock_file($f, F_UNLCK);
my $r = answer($s);
is($r->{status}, 206, 'the files went: a status');
ok($r->{body} eq substr($blobs[2], $SLICE), 'the files went: right');

# somebody has it for long, as another nginx that fills it

$f = prepare(3);
$r = answer(ask(3, { Range => "bytes=$SLICE-" }));
ok($r->{body} eq substr($blobs[3], $SLICE), 'for long: right');
ok(lock_file($f, F_WRLCK), 'for long: it is locked still');
lock_file($f, F_UNLCK);
ok($t->get(uri(3))->{body} eq $blobs[3], 'for long: and then');
like($t->get(uri(3))->{h}{'cache-status'}, qr/hit/, 'for long: stored');

# who waits for as long as that takes has no worker busy with it

sub ticks {
    my $n = 0;
    for my $pid ($t->workers()) {
        open my $f, '<', "/proc/$pid/stat" or next;
        my @field = split / /, (<$f> =~ /\) (.*)/)[0];
        $n += $field[11] + $field[12];
    }
    return $n;
}

$f = prepare(4);
(my $strict = uri(4)) =~ s!/m/!/strict/!;
@s = map { ask(4, {}, $strict) } 1 .. 4;
sleep 0.2;
my $before = ticks();
sleep 2;
my $busy = ticks() - $before;
cmp_ok($busy, '<', 40, 'strict: the workers are idle');
lock_file($f, F_UNLCK);
is(scalar(grep { answer($_)->{body} eq $blobs[4] } @s), 4, 'strict: right');

# room is reserved once for each that waits

sub reserved { return $t->status()->{zones}{models}{reserved} }

$f = prepare(5);
ok(until_true(sub { reserved() == 0 }), 'reserved: nothing');
@s = (ask(5, { Range => 'bytes=0-' . (2 * $SLICE - 1) }),
    ask(5, { Range => 'bytes=' . 2 * $SLICE . '-' . (2 * $SLICE + 9) }));
sleep 0.4;
cmp_ok(reserved(), '<=', 2 * $SLICE, 'reserved: what both want');
lock_file($f, F_UNLCK);
ok(answer($s[0])->{body} eq substr($blobs[5], 0, 2 * $SLICE),
    'reserved: the first is right');
ok(answer($s[1])->{body} eq substr($blobs[5], 2 * $SLICE, 10),
    'reserved: the second is right');
ok(until_true(sub { reserved() == 0 }), 'reserved: nothing stays');

$t->done();
