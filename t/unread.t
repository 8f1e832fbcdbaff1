#!/usr/bin/perl

# A slice of an earlier boot that can't be read, or does not survive while the
# sidecar can't be written, is fetched again: it is not what was verified.
# Whoever dies then leaves nothing that says so.

use warnings;
use strict;

use Test::More;
use Errno qw/ EIO /;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Fault;

my $t = OCI->new(workers => 1);
my $fault = Fault->new($t);
my $d = $t->{dir};
my $slice = 64 * 1024;
my $size = 4 * $slice;

# the second slice can't be read; or it was damaged, and the n-th write fails:
# one of them takes the mark off that says that the blob is verified

my @cases = ({ name => 'read', function => 'read', n => 1, from => $slice },
    map { { name => "write $_", function => 'write', n => $_, from => 0 } }
        3 .. 6);

for (@cases) {
    $_->{blob} = $t->random_blob($size);
    $_->{digest} = $t->digest($_->{blob});
    $_->{uri} = "/v2/m/a/blobs/$_->{digest}";
    my ($hex) = $_->{digest} =~ /:(.+)/;
    $_->{file} = "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";
}

my %by = map { $_->{digest} => $_->{blob} } @cases;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my $blob = $by{$digest // ''} or return $t->reply($c, $q, 404);
    $blob = 'x' x $size if -e "$d/bad";
    return $t->reply_blob($c, $q, $blob);
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k', location => 'location /v2/ { oci_pass demo;'
    . ' oci_cache models; oci_fill_connections 1; }');
$t->allow(qr/exited on signal 9/, qr/ failed \(5: /);

sub crc32c {
    my $crc = 0xffffffff;
    for my $c (unpack 'C*', $_[0]) {
        $crc ^= $c;
        $crc = $crc & 1 ? ($crc >> 1) ^ 0x82f63b78 : $crc >> 1 for 1 .. 8;
    }
    return $crc ^ 0xffffffff;
}

# an earlier boot has stored it (ngx_oci_store.h has the header)

sub boot {
    my ($case) = @_;
    open my $f, '+<:raw', "$case->{file}.map" or die "$case->{file}: $!";
    sysread $f, my $header, 456;
    substr($header, 112, 36) = 'x' x 36;
    substr($header, 12, 4) = pack 'L', 0;
    substr($header, 12, 4) = pack 'L', crc32c($header);
    sysseek $f, 0, 0;
    syswrite $f, $header;
    close $f;

    return if $case->{function} eq 'read';

    open $f, '+<:raw', $case->{file} or die "$case->{file}: $!";
    sysseek $f, $slice + 10, 0;
    syswrite $f, 'damaged';
    close $f;
}

$fault->start();

for my $case (@cases) {
    ok($t->get($case->{uri})->{body} eq $case->{blob},
        "$case->{name}: stored");
    ok(until_true(10, sub { ($t->get($case->{uri}, { Range => 'bytes=0-0' })
        ->{h}{'cache-status'} // '') =~ /hit/ }), "$case->{name}: a hit");
}

ok($t->stop(), 'stopped');
boot($_) for @cases;
$fault->start();

for my $case (@cases) {

    # the disk is believed again

    $fault->later(11);
    $t->write_file('bad', '');
    $fault->arm($case->{function}, $case->{n}, EIO,
        on => $case->{function} eq 'read' ? 1 : 0, from => $case->{from});

    my $r = $t->get($case->{uri},
        { Range => "bytes=$slice-" . ($slice + 99) }, 20);
    is($r->{status}, 206, "$case->{name}: of the second slice");

    cmp_ok(($fault->disarm())[1], '>', 0, "$case->{name}: it failed");
    unlink "$d/bad";

    my @w = $t->workers();
    kill 'KILL', @w;
    ok(until_true(10, sub { my @n = $t->workers();
        @n == 1 && $n[0] != $w[0] }), "$case->{name}: the worker died");

    # what the registry sent before does not match

    $r = $t->get($case->{uri}, undef, 20);
    ok($r->{status} == 200 && ($r->{cut} || $r->{body} eq $case->{blob}),
        "$case->{name}: no wrong bytes");

    $r = $t->get($case->{uri}, undef, 20);
    ok($r->{body} eq $case->{blob}, "$case->{name}: all is right");
}

$t->done();
