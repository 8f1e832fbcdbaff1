#!/usr/bin/perl

# Complaint 12 (harbor#20157): what failed and what was given up stays on the
# disk, outside of every quota.
#
# Blobs of which a part was read, fills that broke, were refused in the middle,
# brought wrong bytes, or whose clients left: what is on the disk is in the
# zone's count, max_size holds for it, the least recently used go first, wrong
# ones at once, and there is nothing in the directory that belongs to none.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use File::Find;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $size = 2_000_000;
my $max = 6 * 1024 * 1024;
my @modes = (qw/ part broken refused wrong left /) x 3;
my (%blob, %digest);
for my $i (0 .. $#modes) {
    my $name = "$modes[$i]$i";
    $blob{$name} = $t->random_blob($size);
    $digest{$name} = $t->digest($blob{$name});
}
my @names = sort keys %blob;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($name) = $q->{uri} =~ m!^/v2/(\w+)/!;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    my $blob = $blob{$name};
    substr($blob, $size - 5, 1) ^= "\1" if $name =~ /wrong/;
    return $t->reply_blob($c, $q, $blob) if $to - $from == 1
        || $name =~ /part|wrong/;
    return $t->reply($c, $q, 403, {}, '') if $name =~ /refused/
        && $q->{n} > 2;
    printf $c "HTTP/1.1 206 X\r\nContent-Length: %d\r\n"
        . "Content-Range: bytes %d-%d/%d\r\n\r\n", $to - $from, $from,
        $to - 1, $size;
    print $c substr $blob, $from, $from < 1_000_000 ? 1_000_000 - $from : 0;
    sleep 20 if $name =~ /left/;
    return 0;
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k max_size=6m manager_sleep=50ms',
    location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models;
    oci_fill_abandoned stop after=0; }
EOL
$t->start();

my $complete = 0;
$t->parallel(5, sub {
    my ($i) = @_;
    for my $name (@names[grep { $_ % 5 == $i } 0 .. $#names]) {
        my $uri = "/v2/$name/blobs/$digest{$name}";
        if ($name =~ /left/) {
            my $s = $t->connect();
            $t->send_request($s, 'GET', $uri);
            my $r = $t->read_header($s);
            sysread $s, my $buf, 100_000 for 1 .. 3;
            close $s;
            next;
        }
        $t->get($uri, $name =~ /part/ ? { Range => 'bytes=0-999999' } : {},
            40);
    }
    return '';
});

sub disk {
    my ($bytes, @odd) = (0);
    find({ no_chdir => 1, wanted => sub {
        my @s = lstat $_;
        return if !@s || -d _;
        $bytes += $s[12] * 512 if /[0-9a-f]{64}$/;
        my $path = substr $_, length "$t->{dir}/cache/";
        push @odd, $path if $path !~ m!^(?:
            blobs/sha256/[0-9a-f]{2}/[0-9a-f]{64}(?:\.map)?
            |refs/[0-9a-f]{2}/[0-9a-f]{64})$!x;
    } }, "$t->{dir}/cache");
    return ($bytes, @odd);
}

my ($bytes, @odd, $counted);
for (1 .. 300) {
    ($bytes, @odd) = disk();
    my $st = $t->status();
    $counted = $st->{zones}{models}{bytes};
    last if $st->{counters}{fills_active} == 0 && $counted <= $max
        && $bytes <= $max && !@odd;
    sleep 0.1;
}
cmp_ok($counted, '<=', $max, 'max_size holds');
cmp_ok($bytes, '<=', $max, 'on the disk');
cmp_ok($bytes, '>', 0, 'what is good stays');
cmp_ok(abs($bytes - $counted), '<', 1024 * 1024, 'and is counted')
    or diag("$bytes, $counted");
is(join(' ', @odd), '', 'nothing else is there');

my @wrong = grep { /wrong/ && -e "$t->{dir}/cache/blobs/sha256/"
    . substr($digest{$_}, 7, 2) . '/' . substr $digest{$_}, 7 } @names;
is("@wrong", '', 'wrong ones are gone');
my ($files, $known);
for (1 .. 200) {
    $files = grep { /[0-9a-f]{64}$/ } glob "$t->{dir}/cache/blobs/sha256/*/*";
    $known = $t->status()->{zones}{models}{blobs};
    last if $files <= $known;
    sleep 0.1;
}
cmp_ok($files, '<=', $known, 'each file is one that the zone knows');

$t->done();
