#!/usr/bin/perl

# A sidecar is believed no more than it says.  A power cut leaves pages of it
# apart: the header that says "verified" may be there without the records of
# slices, and what is fetched for them is then as good as the registry.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $slice = 65536;
my $size = 4 * $slice + 99;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my $uri = "/v2/m/a/blobs/$digest";
my $hex = substr $digest, 7;
my $file = "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";

my $wrong = $blob;
substr($wrong, 2 * $slice + 5, 4) ^= 'evil';

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, -e "$d/evil" ? $wrong : $blob);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k', location => <<EOL);
location /v2/ {
    add_header X-Verify \$oci_verify_status;
    oci_pass demo;
    oci_cache models;
}
EOL

# the sidecar's header

sub crc32c {
    my ($data) = @_;
    my $crc = 0xffffffff;
    for my $byte (unpack 'C*', $data) {
        $crc ^= $byte;
        $crc = $crc & 1 ? ($crc >> 1) ^ 0x82f63b78 : $crc >> 1 for 1 .. 8;
    }
    return $crc ^ 0xffffffff;
}

sub change {
    my ($name, $offset, $bytes) = @_;
    open my $f, '+<:raw', $name or die "$name: $!";
    sysseek $f, $offset, 0;
    syswrite $f, $bytes;
}

sub header {
    my ($offset, $bytes) = @_;
    open my $f, '<:raw', "$file.map" or die "$file.map: $!";
    sysread $f, my $header, 456;
    substr($header, $offset, length $bytes) = $bytes if defined $offset;
    substr($header, 12, 4) = "\0" x 4;
    substr($header, 12, 4) = pack 'L', crc32c($header);
    change("$file.map", 0, $header) if defined $offset;
    return $header;
}

# a blob that is verified, on the disk of an edge that is stopped

sub stored {
    unlink "$d/evil";
    $t->start();
    my $r = $t->get($uri);
    ok(!$r->{cut} && $r->{body} eq $blob, 'stored');
    my $end = time() + 10;
    sleep 0.05 while time() < $end
        && !(-s "$file.map" && unpack("x20 L", header()) & 1);
    $t->stop();
}

sub range {
    return $t->get($uri, { Range => sprintf 'bytes=%d-%d', 2 * $slice,
        2 * $slice + 99 });
}

sub lost_record { change("$file.map", 4096 + 2 * 8, "\0" x 8) }

sub lost_data {
    change($file, 2 * $slice, "\0" x $slice);
    header(112, '00000000-1111-2222-3333-444444444444');
}

# the header says "verified", a record is not there

for my $lost ([\&lost_record, 'no record'], [\&lost_data, 'no data']) {
    my ($code, $name) = @$lost;

    stored();
    $code->();
    $t->write_file('evil', '');
    $t->start();

    my $r = range();
    is($r->{status}, 206, "$name: a range");
    is($r->{body}, substr($wrong, 2 * $slice, 100),
        "$name: it is the registry's word");
    isnt($r->{h}{'x-verify'}, 'verified', "$name: and not called verified");

    $r = $t->get($uri);
    ok($r->{cut} || $r->{status} != 200,
        "$name: wrong bytes do not complete");
    $t->stop();

    stored();
    $code->();
    $t->start();
    $r = $t->get($uri);
    ok(!$r->{cut} && $r->{body} eq $blob, "$name: right ones do");
    $r = range();
    is($r->{h}{'x-verify'}, 'verified', "$name: verified again");
    $t->stop();
    ok(unpack('x20 L', header()) & 1, "$name: on disk, too");
}

# before anything is fetched that is written down, whatever comes then

stored();
lost_record();
$t->write_file('evil', '');
$t->start();
range();

# (the files may be gone already, once their digest was taken)

my $h = eval { header() } // "\0" x 24;
is(unpack('x20 L', $h) & 1, 0, 'the mark is taken off the disk');
$t->stop();

$t->done();
