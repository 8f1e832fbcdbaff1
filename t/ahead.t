#!/usr/bin/perl

# How far a fill runs ahead of its readers: whatever oci_fill_ahead is, a
# reader gets to the end; and a closed range fetches nothing beyond its end.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $size = 12 * 1024 * 1024 + 99;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob);
});

my @sizes = qw/ 0 1 64k 512k 1m 4m 1g /;

# a zone for each: the same blob is cold in all

my ($caches, $locations) = ('', '');

for my $n (@sizes, 'strict') {
    my $ahead = $n eq 'strict' ? '2m' : $n;
    my $verify = $n eq 'strict' ? 'strict' : 'on';
    $caches .= "oci_cache_path $t->{dir}/c$n keys_zone=z$n:1m slice=1m;\n";
    $locations .= "location /v2/z$n/ { oci_pass demo; oci_cache z$n;"
        . " oci_fill_ahead $ahead; oci_verify $verify; }\n";
}

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache => $caches, location => $locations);
$t->start();

sub pull {
    my ($n, $h) = @_;
    return $t->get("/v2/z$n/m/blobs/$digest", $h, 4);
}

for my $n (@sizes) {
    my $r = pull($n, { Range => 'bytes=100-199' });
    ok($r->{status} == 206 && $r->{body} eq substr($blob, 100, 100),
        "ahead $n: a range");

    my $up = $t->upstream_bytes();
    $r = pull($n);
    ok($r->{status} == 200 && $r->{body} eq $blob, "ahead $n: all of it")
        or diag("$r->{status} " . length $r->{body});
    cmp_ok($t->upstream_bytes() - $up, '<=', $size, "ahead $n: once");
}

# a reader that wants nothing but a verified blob waits for all of it

{
    my $r = pull('strict');
    ok($r->{status} == 200 && $r->{body} eq $blob,
        'strict: a blob larger than fill_ahead');
}

# a closed range: its slices, and one byte to ask for the right

$t->stop();
system("rm -rf $t->{dir}/c*");
$t->start();

my $r = pull('1g', { Range => 'bytes=5000000-5000009' });
is($r->{body}, substr($blob, 5000000, 10), 'ten bytes in the middle');
sleep 1;
cmp_ok($t->upstream_bytes(), '<=', 1024 * 1024 + 1, 'cost a slice');

$t->done();
