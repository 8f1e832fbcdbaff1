#!/usr/bin/perl

# Bits rot on the disk, below blobs that were verified once: "scrub" finds
# them, and only what is bad is fetched again.
#
# What is asserted: each bad slice is found and said, counted, and marked in
# the sidecar; the blob is not called verified until it was fetched and hashed
# again; then the bytes are right, and the registry sent one slice for each;
# what is good is not fetched; a blob that is being read meanwhile is treated
# just so; with the registry dead no wrong byte goes out.

use warnings;
use strict;

use Test::More;
use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $slice = 65536;

# one, two bad slices, the last bad, none; and one for later

my @blobs = map { $t->random_blob($_) } 5 * $slice + 100, 4 * $slice,
    2 * $slice + 1, 3 * $slice, 40 * $slice + 17;
my @digests = map { $t->digest($_) } @blobs;
my %blobs = map { $digests[$_] => $blobs[$_] } 0 .. $#blobs;
my %bad = (0 => [2], 1 => [0, 3], 2 => [2]);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($ref) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply($c, $q, 404) if !$ref;
    return $t->reply($c, $q, 503) if -e "$d/dead";
    return $t->reply_blob($c, $q, $blobs{$ref});
});

sub conf {
    my ($scrub) = @_;
    $t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
        cache_args => "slice=64k $scrub",
        location => 'location /v2/ { oci_pass demo; oci_cache models;'
            . ' add_header X-Verify $oci_verify_status; }');
}

sub file {
    my ($i) = @_;
    my $hex = substr $digests[$i], 7;
    return "cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";
}

sub flip {
    my ($i, $n) = @_;
    my $at = $n * $slice + ($n * $slice + 77 < length $blobs[$i] ? 77 : 0);
    open my $f, '+<:raw', "$d/" . file($i) or die $!;
    seek $f, $at, 0;
    print $f chr(ord(substr $blobs[$i], $at, 1) ^ 4);
    close $f;
}

sub verified { return unpack('x20 L', $t->read_file(file($_[0]) . '.map')) }

sub pull {
    my ($i, %h) = @_;
    return $t->get("/v2/m/a/blobs/$digests[$i]", { %h }, 20);
}

# the bytes of a blob that the registry has sent, beside those by which it is
# asked for a caller's right

sub fetched {
    my ($i) = @_;
    my $n = 0;
    for (grep { $_->{method} eq 'GET' && $_->{uri} =~ /\Q$digests[$i]/ }
        $t->requests())
    {
        my ($from, $to) = ($_->{h}{range} // 'bytes=0-')
            =~ /bytes=(\d+)-(\d*)/;
        next if $to eq '0';
        $to = length($blobs[$i]) - 1 if $to eq ''
            || $to >= length $blobs[$i];
        $n += $to + 1 - $from;
    }
    return $n;
}

sub rotten {
    my ($i) = @_;
    my $log = $t->read_file('error.log');
    my @at = $log =~ /scrub:\ a\ slice\ at\ (\d+)\ of\ blob\ "$digests[$i]"
        [^\n]*\ has\ rotted\ on\ the\ disk,\ it\ will\ be\ fetched/gx;
    return join ' ', sort { $a <=> $b } @at;
}

sub range { return Range => 'bytes=' . join '-', @_ }

conf('');
$t->start();
for my $i (0 .. $#blobs) {
    is(pull($i)->{body}, $blobs[$i], "blob $i is stored");
    ok(until_true(sub { verified($i) & 1 }), "blob $i is verified");
}
is($t->status()->{counters}{scrubbed_bytes}, 0, 'off: nothing is read');
$t->stop();

for my $i (sort keys %bad) {
    flip($i, $_) for @{$bad{$i}};
}

conf('scrub=256m');
$t->forget_requests();
$t->start();

my $all = 0;
$all += length for @blobs;

ok(until_true(sub { $t->status()->{counters}{scrubbed_bytes} >= $all }),
    'all is read');

for my $i (0 .. $#blobs) {
    my $at = join ' ', map { $_ * $slice } @{$bad{$i} || []};
    is(rotten($i), $at, "blob $i: what is said");
    is(verified($i) & 1, $bad{$i} ? 0 : 1, "blob $i: what the sidecar says");
}

my $status = $t->status()->{counters};
is($status->{scrub_rotten}, 4, 'slices that have rotted');
is($status->{scrubbed_bytes}, $all, 'a round reads all of it, once');
is($status->{disk_errors}, 0, 'which the disk did not say');

# what is good needs nobody

my $r = pull(1, range($slice, 2 * $slice - 1));
is($r->{body}, substr($blobs[1], $slice, $slice), 'a good slice');
is(fetched(1), 0, 'is not fetched');
is($r->{h}{'x-verify'}, 'pending', 'and not called verified');

for my $i (0 .. 3) {
    my $r = pull($i);
    ok($r->{status} == 200 && $r->{body} eq $blobs[$i],
        "blob $i: the bytes are right");
    my $n = 0;
    for (@{$bad{$i} || []}) {
        my $left = length($blobs[$i]) - $_ * $slice;
        $n += $left < $slice ? $left : $slice;
    }
    is(fetched($i), $n, "blob $i: what was fetched");
    ok(until_true(sub { verified($i) & 1 }), "blob $i: it is verified again");
    $t->forget_requests();
    $r = pull($i);
    ok($r->{body} eq $blobs[$i], "blob $i: once more");
    is($r->{h}{'x-verify'}, 'verified', "blob $i: verified");
    is(fetched($i), 0, "blob $i: from the cache");
}

# a round is for a day, a reload begins no other

$t->signal('HUP');
ok(until_true(sub { $t->read_file('error.log') =~ /reconfiguring/
    && $t->workers() == 2 }), 'a reload');
sleep 1;
is($t->status()->{counters}{scrubbed_bytes}, $all, 'does not read again');
$t->stop();

# while it is being read, on a file system without O_DIRECT

my $last = 40;
my $library = abs_path(dirname(__FILE__) . '/../build/faults/direct.so');
conf('scrub=1m');

{
    local $ENV{LD_PRELOAD} = $library if $library && -f $library;
    $t->start();
}

my $s = $t->connect();
my $uri = "/v2/m/a/blobs/$digests[4]";
$t->send_request($s, 'GET', $uri);
$r = $t->read_header($s);
$t->read_body($s, $r, 'GET');
ok($r->{body} eq $blobs[4], 'a blob, before');
flip(4, $last);
$t->write_file('dead', '');

ok(until_true(sub {
    $t->send_request($s, 'GET', $uri, { range(0, 9) });
    my $r = $t->read_header($s);
    $t->read_body($s, $r, 'GET');
    is($r->{body}, substr($blobs[4], 0, 10), 'read meanwhile')
        if $r->{body} ne substr($blobs[4], 0, 10);
    sleep 0.1;
    return rotten(4) ne '';
}), 'a bit that rots while it is read is found');
is(rotten(4), $last * $slice, 'it is that one');
close $s;

# the registry is dead: it is known that the caller may

$r = pull(4);
my $good = substr $blobs[4], 0, length $r->{body};
ok($r->{status} != 200 || $r->{cut} && $r->{body} eq $good,
    'no wrong byte goes out') or diag("$r->{status} " . length $r->{body});
$r = pull(4, range(100, 199));
is($r->{body}, substr($blobs[4], 100, 100), 'what is good does')
    if $r->{status} == 206;

unlink "$d/dead";
$t->forget_requests();

ok(until_true(sub { pull(4)->{body} eq $blobs[4] }),
    'it is whole when the registry is back');
is(fetched(4), 17, 'what was bad was fetched');

$t->done();
