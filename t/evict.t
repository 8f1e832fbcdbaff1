#!/usr/bin/perl

# max_size holds, least recently used blobs go first; a full zone and a full
# disk pass through; damaged files are found out.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new();
my $d = $t->{dir};
my @blobs = map { $t->random_blob(1024 * 1024 + $_) } 0 .. 9;
my @digests = map { $t->digest($_) } @blobs;
my %by = map { $digests[$_] => $blobs[$_] } 0 .. 9;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply_blob($c, $q, $by{$digest});
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k max_size=4m manager_sleep=50ms');
$t->start();

sub pull { return $t->get("/v2/m/a/blobs/$digests[$_[0]]") }
sub stored { return $t->status()->{zones}{models}{bytes} }

for my $i (0 .. 9) {
    ok(pull($i)->{body} eq $blobs[$i], "blob $i");
}

my $end = time() + 30;
sleep 0.5 while stored() > 4 * 1024 * 1024 && time() < $end;
ok(stored() <= 4 * 1024 * 1024, 'max_size holds') or diag(stored());
ok($t->status()->{counters}{evicted_bytes} > 0, 'counted');

my @files = grep { -f && !/\.map$/ } glob "$d/cache/blobs/sha256/*/*";
ok(@files <= 4 && @files >= 2, 'files went') or diag(scalar @files);

ok(pull($_)->{body} eq $blobs[$_], "blob $_ again") for 0, 9;

# a blob larger than max_size goes by

my $large = $t->random_blob(5 * 1024 * 1024);
my $digest = $t->digest($large);
$t->stop();
$port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $large);
});
$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k max_size=4m');
$t->start();
my $r = $t->get("/v2/m/a/blobs/$digest");
ok($r->{body} eq $large, 'larger than max_size');
ok(!exists $r->{h}{'cache-status'}, 'passes by');

# min_free

$t->stop();
$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'min_free=900000t');
$t->start();
sleep 1;
$end = time() + 15;
do {
    $r = $t->get("/v2/m/a/blobs/$digest");
    sleep 0.3;
} while (exists $r->{h}{'cache-status'} && time() < $end);
ok($r->{body} eq $large, 'less than min_free');
ok(!exists $r->{h}{'cache-status'}, 'passes by too');

# a tiny zone

$t->stop();
system("rm -rf $d/cache");
$t->{zone} = '32k';
$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k');
my ($rc, $out) = $t->check();
SKIP: {
    skip 'too small to start', 1 if $rc;
    $t->start();
    ok($t->get("/v2/m/a/blobs/$digest")->{body} eq $large, 'a tiny zone');
    $t->stop();
}

# files that are foreign, truncated, planted

$t->{zone} = '8m';
$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k');
$t->allow(qr/not a file of the cache|failed \(|damaged/);

my ($hex) = $digest =~ /:(..)/;
my $name = substr $digest, 7;
my $file = "$d/cache/blobs/sha256/$hex/$name";

my %harm = (
    'a truncated sidecar' => sub { truncate "$file.map", 100 },
    'a truncated blob' => sub { truncate $file, 1000 },
    'no sidecar' => sub { unlink "$file.map" },
    'no blob' => sub { unlink $file },
    'junk as a sidecar' => sub {
        open my $f, '>', "$file.map"; print $f 'x' x 9000; close $f; },
    'a symlink' => sub { unlink $file; symlink '/etc/passwd', $file },
    'a directory' => sub { unlink $file; mkdir $file },
);

for my $harm (sort keys %harm) {
    system("rm -rf $d/cache");
    $t->start();
    ok($t->get("/v2/m/a/blobs/$digest")->{body} eq $large, "$harm: before");
    $t->stop();
    $harm{$harm}->();
    $t->start();
    $r = $t->get("/v2/m/a/blobs/$digest");
    ok($r->{body} eq $large, "$harm: the bytes are right")
        or diag("$r->{status} " . length $r->{body});
    $t->stop();
}

$t->start();
$t->done();
