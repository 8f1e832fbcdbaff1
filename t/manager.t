#!/usr/bin/perl

# The manager keeps a cache within max_size and min_free, drops what nobody
# reads, and never what somebody reads just now.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use File::Find;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $size = 3 * 1024 * 1024 + 17;
my $max = 8 * 1024 * 1024;
my (%blobs, @digests);

for (1 .. 7) {
    my $blob = $t->random_blob($size);
    push @digests, $t->digest($blob);
    $blobs{$digests[-1]} = $blob;
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply_blob($c, $q, $blobs{$digest});
});

$t->conf(http => <<EOC, location => <<EOL, cache => <<EOP);
oci_registry demo { url http://127.0.0.1:$port; }
EOC
location /v2/ { oci_pass demo; oci_cache models; }
location /v2/short/ { oci_pass demo; oci_cache short; }
location /v2/full/ { oci_pass demo; oci_cache full; }
location /v2/held/ {
    limit_rate 150k;
    send_timeout 300s;
    limit_rate_after 500k;
    oci_pass demo;
    oci_cache models;
}
EOL
oci_cache_path $d/cache keys_zone=models:8m slice=1m max_size=8m;
oci_cache_path $d/short keys_zone=short:1m slice=1m inactive=2s;
oci_cache_path $d/full keys_zone=full:1m slice=1m min_free=8000t;
EOP
$t->start();

sub disk {
    my ($dir) = @_;
    my ($bytes, $files) = (0, 0);
    find({ no_chdir => 1, wanted => sub {
        my @s = lstat $_;
        return unless @s && -f _;
        $files++;
        $bytes += $s[12] * 512 if !/\.map$/;
    } }, "$d/$dir/blobs");
    return ($bytes, $files);
}

sub pull { return $t->get("/v2/$_[0]/m/blobs/$_[1]", undef, 20) }

# a reader takes the first blob slowly: it stays, whatever comes after it

my $s = $t->connect();
$t->send_request($s, 'GET', "/v2/held/m/blobs/$digests[0]");
my $held = $t->read_header($s);
is($held->{status}, 200, 'a slow reader');

ok(pull('short', $digests[1])->{body} eq $blobs{$digests[1]},
    'a blob in a cache with a short memory');

for my $i (1 .. 6) {
    my $r = pull('a', $digests[$i]);
    ok($r->{status} == 200 && $r->{body} eq $blobs{$digests[$i]},
        "blob $i: bytes");
}

ok(until_true(15, sub {
    $t->status()->{zones}{models}{bytes} <= $max
        && (disk('cache'))[0] <= $max + $size;
}), 'max_size is kept') or diag(explain($t->status()->{zones}),
    (disk('cache'))[0]);

my $status = $t->status();
cmp_ok($status->{counters}{evicted_bytes}, '>=', 7 * $size - $max - $size,
    'what went is counted');
cmp_ok($status->{zones}{models}{blobs}, '<=', 3, 'blobs are');
is((disk('cache'))[1], 2 * $status->{zones}{models}{blobs},
    'a file and a sidecar for each');

my ($hex) = $digests[0] =~ /^sha256:(.*)$/;
ok(-f "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex",
    'what is read now was kept');

# what went comes again.  (Which of them went is not asked: a blob stays open
# for a while after its last reader, and what is open is not removed.)

for my $i (1 .. 6) {
    my $r = pull('a', $digests[$i]);
    ok($r->{body} eq $blobs{$digests[$i]}, "blob $i again");
}

# nobody reads this one any more

ok(until_true(15, sub { (disk('short'))[1] == 0 }), 'inactive');
is($t->status()->{zones}{short}{bytes}, 0, 'inactive: counted');
my $r = pull('short', $digests[1]);
ok($r->{body} eq $blobs{$digests[1]}, 'inactive: comes again');

# a disk without room: passed through, nothing is kept

for (1, 2) {
    $r = pull('full', $digests[2]);
    ok($r->{status} == 200 && $r->{body} eq $blobs{$digests[2]},
        "min_free: bytes $_");
}
ok(until_true(12, sub { (disk('full'))[0] == 0 }), 'min_free: nothing stays')
    or diag(join ' ', disk('full'));

# the slow one has come to its end

$t->read_body($s, $held, 'GET', 60);
ok($held->{body} eq $blobs{$digests[0]}, 'the slow reader got all of it');
close $s;

# a restart: the loader finds what is there

$t->stop();
$t->start();
like(pull('a', $digests[0])->{h}{'cache-status'}, qr/hit/,
    'kept over a restart');

$t->done();
