#!/usr/bin/perl

# A small cache: room is reserved before a fill begins, and made by removing
# what nobody uses; what finds none is passed through.  max_size holds at every
# moment, not only when the manager has looked (he looks every 10 seconds).

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use File::Find;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $mb = 1024 * 1024;
my $max = 10 * $mb;

my (%blob, %digest, %by);

sub blob {
    my ($name, $size) = @_;
    $blob{$name} = $t->random_blob($size);
    $digest{$name} = $t->digest($blob{$name});
    $by{$digest{$name}} = $name;
}

blob("n$_", 2 * $mb + $_) for 1 .. 8;
blob("held$_", 4 * $mb + $_) for 1 .. 3;
blob("slow$_", 4 * $mb + $_) for 1 .. 5;
blob("tiny$_", 1000 + $_) for 1 .. 20;
blob('large', 11 * $mb);
blob('most', 9 * $mb);
blob('free', $mb);

# a slow one stops at half while the file "hang" is there

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my $name = $by{$digest // ''} or return $t->reply($c, $q, 404);

    if ($name =~ /^slow/ && -e "$d/hang" && ($q->{to} // 0) > 1) {
        my ($from, $to) = ($q->{from}, $q->{to});
        my $n = int(($to - $from) / 2);
        print $c "HTTP/1.1 206 X\r\nContent-Length: ", $to - $from, "\r\n",
            "Content-Range: bytes $from-", $to - 1, '/',
            length $blob{$name}, "\r\n\r\n", substr $blob{$name}, $from, $n;
        for (1 .. 300) {
            last if !-e "$d/hang";
            sleep 0.1;
        }
        print $c substr $blob{$name}, $from + $n, $to - $from - $n;
        return 1;
    }

    return $t->reply_blob($c, $q, $blob{$name});
});

sub conf {
    my ($args) = @_;
    $t->conf(cache_args => "slice=256k $args", http => <<EOC,
oci_registry demo { url http://127.0.0.1:$port; stall_timeout 40s; }
EOC
        location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models;
                oci_fill_abandoned stop after=1s; }
EOL
}

sub disk {
    my ($bytes, $files) = (0, 0);
    find({ no_chdir => 1, wanted => sub {
        my @s = lstat $_ or return;
        return if !-f _;
        $files++;
        $bytes += $s[12] * 512;
    } }, "$d/cache/blobs");
    return wantarray ? ($bytes, $files) : $bytes;
}

sub files {
    my $hex = substr $digest{$_[0]}, 7;
    return glob "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex*";
}

sub zone { return $t->status()->{zones}{models} }

sub pull {
    my ($name, $h) = @_;
    my $r = $t->get("/v2/m/blobs/$digest{$name}", $h);
    $r->{right} = !$r->{cut} && !$r->{timeout}
        && $r->{body} eq $blob{$name};
    $r->{how} = $r->{h}{'cache-status'} // 'none';
    return $r;
}

# begins to read, and has all that comes now

sub begin {
    my ($name) = @_;
    my $s = $t->connect();
    $t->send_request($s, 'GET', "/v2/m/blobs/$digest{$name}");
    my $r = $t->read_header($s);
    return [$s, $r, $name];
}

sub ends_right {
    my ($s, $r, $name) = @{$_[0]};
    $t->read_body($s, $r, 'GET', 40);
    close $s;
    return !$r->{cut} && !$r->{timeout} && $r->{body} eq $blob{$name};
}

conf("max_size=$max");
$t->start();

# one after the other: what is oldest goes for what comes

my ($over, $wrong, $kept) = (0, 0, 0);

for (1 .. 8, 1 .. 8) {
    my $r = pull("n$_");
    $wrong++ if !$r->{right};
    $kept++ if $r->{how} ne 'none';
    my $now = disk();
    $over = $now if $now > $max && $now > $over;
}

is($wrong, 0, 'in turn: all are right');
is($over, 0, 'in turn: max_size holds');
cmp_ok($kept, '>=', 14, 'in turn: stored');
cmp_ok($t->status()->{counters}{evicted_bytes}, '>=', 8 * $mb,
    'in turn: others went');
is(pull('n8')->{how}, 'nginx-oci; hit', 'in turn: the last one is there');
ok(until_true(sub { zone()->{reserved} == 0 }), 'in turn: nothing reserved');

# with sidecars and ends of blocks

($over, $wrong) = (0, 0);

for (1 .. 20) {
    $wrong++ if !pull("tiny$_")->{right};
    $over = disk() if disk() > $max;
}

is($wrong, 0, 'tiny ones: all are right');
is($over, 0, 'tiny ones: max_size holds');

# two that are being fetched have their room; a third finds none.  What could
# go, but would not be enough, stays

$t->write_file('hang', '');
my @held = (begin('slow1'), begin('slow2'));
is(scalar(grep { $_->[1]{h}{'cache-status'} } @held), 2, 'reserved: two');
ok(until_true(sub { zone()->{reserved} > 3 * $mb }), 'reserved: counted')
    or diag(explain(zone()));
my @before = disk();
my $r = pull('held1');
ok($r->{right}, 'no room: right');
is($r->{how}, 'none', 'no room: passed through');
is_deeply([files('held1')], [], 'no room: no files');
$r = pull('held2');
ok($r->{right} && $r->{how} eq 'none', 'no room: nor for another one');
$r = pull('held1', { Range => 'bytes=100-199' });
is($r->{body}, substr($blob{held1}, 100, 100), 'a range needs little');
is($r->{how}, 'nginx-oci; fwd=uri-miss; stored', 'and has room');
$r = pull('most');
ok($r->{right} && $r->{how} eq 'none', 'a larger one: passed through');
my @tiny = grep { files("tiny$_") } 1 .. 20;
cmp_ok(scalar @tiny, '>', 10, 'nothing went in vain') or diag("@tiny");
cmp_ok(scalar disk(), '<=', $max, 'max_size holds');

# those two come to their end; then there is room for others

unlink "$d/hang";
ok(ends_right($held[0]) && ends_right($held[1]), 'both come to their end');
ok(until_true(sub { zone()->{reserved} == 0 }), 'given back');
$r = pull('held1');
ok($r->{right} && $r->{how} ne 'none', 'there is room again');
cmp_ok(scalar disk(), '<=', $max, 'max_size still holds');

# who leaves gives it back

$t->write_file('hang', '');
@held = (begin('slow3'), begin('slow4'));
ok(until_true(sub { zone()->{reserved} > 3 * $mb }), 'reserved again');
close $_->[0] for @held;
unlink "$d/hang";
ok(until_true(sub { zone()->{reserved} == 0 }), 'who leaves gives it back')
    or diag(explain(zone()));

# as does a worker that dies

$t->write_file('hang', '');
@held = (begin('slow4'), begin('slow5'));
ok(until_true(sub { zone()->{reserved} > 1 * $mb }), 'reserved once more');
$t->allow(qr/exited on signal 9/);
kill 'KILL', $t->workers();
close $_->[0] for @held;
unlink "$d/hang";
ok(until_true(sub {
    my $s = eval { zone() } or return 0;
    return $s->{reserved} == 0;
}), 'so does a worker that dies');
$r = pull('held3');
ok($r->{right} && $r->{how} ne 'none', 'and others have it');

# one that never has room

$r = pull('large');
ok($r->{right} && $r->{how} eq 'none', 'larger than max_size');
is_deeply([files('large')], [], 'no files');

# what was stored before a restart counts soon, and not only when the loader
# has looked, after a minute

pull("n$_") for 1 .. 4;
my $stored = zone()->{bytes};
cmp_ok($stored, '>', 7 * $mb, 'a restart: much is stored');
$t->stop();
$t->start();
ok(until_true(sub { zone()->{bytes} >= $stored }), 'a restart: it is counted')
    or diag(explain(zone()));

($over, $wrong) = (0, 0);

for (5 .. 8) {
    $r = pull("n$_");
    $wrong++ if !$r->{right} || $r->{how} eq 'none';
    my $now = disk();
    $over = $now if $now > $max && $now > $over;
}

is($wrong, 0, 'a restart: others are stored');
is($over, 0, 'a restart: max_size holds');

# a cache without any room

$t->stop();
conf('max_size=0');
$t->start();
$r = pull('free');
ok($r->{right} && $r->{how} eq 'none', 'max_size=0: passed through');

# less than min_free is left, whatever goes

$t->stop();
system("rm -rf $d/cache");
conf('min_free=900000t');
$t->start();

for (1 .. 3) {
    $r = pull('free');
    ok($r->{right} && $r->{how} eq 'none', "min_free: passed through, $_");
}

ok(until_true(sub { (disk())[1] == 0 }), 'min_free: no files');
$r = pull('free', { Range => 'bytes=10-19' });
is($r->{body}, substr($blob{free}, 10, 10), 'min_free: a range');
my @said = grep { /no room for a blob/ && /\[warn\]/ }
    split /\n/, $t->read_file('error.log');
cmp_ok(scalar @said, '<=', 4, 'it is not said each time');

$t->done();
