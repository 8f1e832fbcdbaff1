#!/usr/bin/perl

# Ranges and conditions of blobs, on a cold and on a warm one alike.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $size = 300007;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k', server => 'large_client_header_buffers 4 64k;');

# range, status, first byte, last byte

my @rows = (
    [ 'bytes=0-0', 206, 0, 0 ],
    [ 'bytes=0-', 206, 0, $size - 1 ],
    [ 'bytes=5-9', 206, 5, 9 ],
    [ 'bytes=65535-65536', 206, 65535, 65536 ],
    [ 'bytes=200000-', 206, 200000, $size - 1 ],
    [ "bytes=@{[$size - 1]}-", 206, $size - 1, $size - 1 ],
    [ 'bytes=-1', 206, $size - 1, $size - 1 ],
    [ 'bytes=-100000', 206, $size - 100000, $size - 1 ],
    [ "bytes=-@{[$size * 2]}", 206, 0, $size - 1 ],
    [ "bytes=100-$size", 206, 100, $size - 1 ],
    [ 'bytes=100-99999999999999999999999', 206, 100, $size - 1 ],
    [ "bytes=$size-", 416 ],
    [ 'bytes=99999999999999999999999-', 416 ],
    [ 'bytes=-0', 416 ],
    [ 'bytes=10-5', 416 ],
    [ 'bytes=abc', 200 ],
    [ 'bytes=1', 200 ],
    [ 'lines=1-2', 200 ],
    [ 'bytes 1-2', 200 ],
    [ '', 200 ],
);

for my $state (qw/ cold warm /) {
    for my $row (@rows) {
        my ($range, $status, $first, $last) = @$row;

        if ($state eq 'cold') {
            $t->stop() if $t->{pids}{nginx};
            system("rm -rf $t->{dir}/cache");
            $t->start();
        }

        my $r = $t->get("/v2/m/a/blobs/$digest",
            { $range eq '' ? () : (Range => $range) });
        my $name = "$state $range";

        is($r->{status}, $status, "$name: status");

        if ($status == 206) {
            ok($r->{body} eq substr($blob, $first, $last - $first + 1),
                "$name: bytes");
            is($r->{h}{'content-range'}, "bytes $first-$last/$size",
                "$name: Content-Range");
            is($r->{h}{'content-length'}, $last - $first + 1,
                "$name: Content-Length");
            is(scalar(grep { lc $_->[0] eq 'content-range' } @{$r->{list}}),
                1, "$name: one Content-Range");

        } elsif ($status == 416) {
            is($r->{h}{'content-range'}, "bytes */$size",
                "$name: Content-Range");
            like($r->{body}, qr/"code":"SIZE_INVALID"/, "$name: an OCI error");

        } else {
            ok($r->{body} eq $blob, "$name: all of it");
            ok(!exists $r->{h}{'content-range'}, "$name: no Content-Range");
        }
    }
}

# several ranges: one part each, in the order asked for, nothing joined

sub multi {
    my ($spec) = @_;
    my $r = $t->get("/v2/m/a/blobs/$digest", { Range => "bytes=$spec" });
    return ($r) if $r->{status} != 206;
    my ($b) = $r->{h}{'content-type'} =~
        /^multipart\/byteranges; boundary=(\S+)$/ or return ($r);
    return ($r) if length $r->{body} != $r->{h}{'content-length'};
    my @parts = split /\r\n--\Q$b\E(?:--)?\r\n/, $r->{body}, -1;
    return ($r) if shift @parts ne '' || pop @parts ne '';
    return ($r, map {
        my ($head, $data) = split /\r\n\r\n/, $_, 2;
        my ($x, $y) = $head =~ m!^Content-Type: application/octet-stream\r\nContent-Range: bytes (\d+)-(\d+)/$size$!;
        defined $y && $data eq substr($blob, $x, $y - $x + 1) ? "$x-$y" : 'bad'
    } @parts);
}

for my $spec ('0-0,5-9', '100-199,0-9,50-59', '1-2,1-2', '0-9,5-14',
    join(',', map { my $x = $_ * 290; "$x-" . ($x + 9) } 0 .. 1023))
{
    my ($r, @parts) = multi($spec);
    is(join(',', @parts), $spec, 'parts of ' . substr($spec, 0, 30));
}

is(join(',', (multi('-2,0-1'))[1, 2]), $size - 2 . '-' . ($size - 1) . ',0-1',
    'a suffix in a set');
is(join(',', (multi("0-1,$size-"))[1] // 'single'), 'single',
    'what is left of a set may be one range');
is((multi(join(',', map { "$_-$_" } 0 .. 1024)))[0]{status}, 400,
    'more than 1024 ranges');
is((multi('0-,0-'))[0]{status}, 400, 'more bytes than there are');
is((multi("$size-,-0"))[0]{status}, 416, 'none satisfiable');

# conditions

my %cases = (
    'If-Range of the digest' => [ 206, { 'If-Range' => "\"$digest\"" } ],
    'If-Range of another' => [ 200, { 'If-Range' => '"x"' } ],
    'If-Range, weak' => [ 200, { 'If-Range' => "W/\"$digest\"" } ],
    'If-Range, a date' => [ 200,
        { 'If-Range' => 'Tue, 24 Nov 2026 00:00:00 GMT' } ],
    'If-None-Match' => [ 304, { 'If-None-Match' => "\"$digest\"" } ],
    'If-None-Match, weak' => [ 304, { 'If-None-Match' => "W/\"$digest\"" } ],
    'If-None-Match, a list' => [ 304,
        { 'If-None-Match' => "\"a\", \"$digest\"" } ],
    'If-None-Match *' => [ 304, { 'If-None-Match' => '*' } ],
    'If-None-Match of another' => [ 206, { 'If-None-Match' => '"x"' } ],
    'If-Match' => [ 206, { 'If-Match' => "\"$digest\"" } ],
    'If-Match *' => [ 206, { 'If-Match' => '*' } ],
    'If-Match of another' => [ 412, { 'If-Match' => '"x"' } ],
);

for my $name (sort keys %cases) {
    my ($status, $h) = @{$cases{$name}};
    my $r = $t->get("/v2/m/a/blobs/$digest", { Range => 'bytes=1-3', %$h });
    is($r->{status}, $status, $name);
    is($r->{body}, substr($blob, 1, 3), "$name: bytes") if $status == 206;
    is($r->{h}{etag}, "\"$digest\"", "$name: ETag") if $status == 304;
}

# HEAD has no ranges

my $r = $t->head("/v2/m/a/blobs/$digest", { Range => 'bytes=1-3' });
is($r->{status}, 200, 'HEAD with a range');
is($r->{h}{'content-length'}, $size, 'its length');

$t->done();
