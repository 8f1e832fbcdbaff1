#!/usr/bin/perl

# A zone that is too small for what is stored forgets blobs: their files still
# count, and the manager finds them.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(zone => '96k');
my $d = $t->{dir};
my $size = 128 * 1024;
my $n = 120;
my (%blobs, @digests);

for (1 .. $n) {
    my $blob = $t->random_blob($size);
    push @digests, $t->digest($blob);
    $blobs{$digests[-1]} = $blob;
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply_blob($c, $q, $blobs{$digest});
});

sub conf {
    my ($args) = @_;
    $t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
        cache_args => "slice=64k $args");
}

sub disk {
    my ($bytes, $files) = (0, 0);
    for (grep { !/\.map$/ } glob "$d/cache/blobs/sha256/*/*") {
        my @s = lstat $_ or next;
        $bytes += $s[12] * 512;
        $files++;
    }
    return wantarray ? ($bytes, $files) : $bytes;
}

sub zone { return $t->status()->{zones}{models} }

# what was just read is in use for some seconds, and never forgotten

sub pull {
    my ($wrong, $i) = (0, 0);
    for my $digest (@_) {
        sleep 7 if ++$i % 20 == 0;
        my $r = $t->get("/v2/m/a/blobs/$digest");
        $wrong++ if $r->{body} ne $blobs{$digest};
    }
    return $wrong;
}

conf('');
$t->start();

is(pull(@digests), 0, 'all are right');

my ($bytes, $files) = disk();
my $zone = zone();
cmp_ok($zone->{blobs}, '<', $n, 'the zone has not room for all')
    or diag($zone->{blobs});
cmp_ok($files, '>', $zone->{blobs}, 'the disk has more');
cmp_ok($zone->{bytes}, '>=', $files * $size, 'all bytes are counted')
    or diag("$zone->{bytes} of $bytes");

# one that was forgotten is found again, and not counted twice

my $before = zone()->{bytes};
is(pull(@digests[0 .. 9]), 0, 'forgotten ones are right');
cmp_ok(abs(zone()->{bytes} - $before), '<=', $size, 'and counted once')
    or diag(zone()->{bytes}, " $before");

# max_size counts them

my $max = 10 * 1024 * 1024;
conf("max_size=$max");
my @old = $t->workers();
$t->signal('HUP');

my $end = time() + 30;
sleep 0.5 while disk() > $max && time() < $end;

# sidecars count, too: some more go

my $last = 0;
while ($last != ($bytes = disk()) && time() < $end) {
    $last = $bytes;
    sleep 1;
}

($bytes, $files) = disk();
cmp_ok($bytes, '<=', $max, 'max_size holds on the disk');
cmp_ok($files, '>=', 40, 'not more than needed was removed') or diag($files);
cmp_ok(zone()->{bytes}, '<=', $max, 'and in what is counted');
cmp_ok(zone()->{bytes}, '>=', $bytes - $size, 'which is what is there')
    or diag(zone()->{bytes}, " $bytes");

# and goes on to, whatever is forgotten meanwhile

is(pull(@digests[0 .. 59]), 0, 'some again');
$end = time() + 30;
sleep 0.5 while disk() > $max && time() < $end;
cmp_ok(scalar disk(), '<=', $max, 'max_size holds again');

is(pull(@digests[-3 .. -1]), 0, 'the last ones');
sleep 0.5;
my $r = $t->get("/v2/m/a/blobs/$digests[-1]");
like($r->{h}{'cache-status'} // 'none', qr/hit/, 'are still cached');

$t->done();
