#!/usr/bin/perl

# Stored bytes that are not in memory are read in a thread, those that are go
# out at once; a file that became short is an error and no alert.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('fincore');

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $size = 5 * 1024 * 1024 + 77;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my ($hex) = $digest =~ /^sha256:(.*)$/;
my $file = "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob);
});

$t->conf(http => <<EOC, location => <<EOL, cache_args => 'slice=1m');
error_log $d/debug.log debug;
oci_registry demo { url http://127.0.0.1:$port; }
EOC
location /v2/ {
    oci_pass demo;
    oci_cache models;
}
location /v2/aio/ {
    aio threads;
    oci_pass demo;
    oci_cache models;
}
location /v2/slow/ {
    limit_rate 1500k;
    oci_pass demo;
    oci_cache models;
}
EOL
$t->start();

my $debug = $t->read_file('debug.log') =~ /\[debug\]/;

sub uri { return "/v2/$_[0]/m/blobs/$digest" }

# out of memory, but for some pages that something else holds just now; 0: this
# file system keeps it there

sub cool {
    system('sync', $file);
    system("dd if=$file iflag=nocache count=0 2>/dev/null");
    return `fincore -nbo RES $file` < $size / 2;
}

sub reads { return scalar(() = $t->read_file('debug.log') =~ /oci warm: /g) }

my $r = $t->get(uri('a'));
ok($r->{body} eq $blob, 'filled');

SKIP: {
    skip 'the file stays in memory here', 12 unless cool();

    my $n = reads();
    $r = $t->get(uri('a'));
    ok($r->{body} eq $blob, 'cold: bytes');
    cmp_ok(`fincore -nbo RES $file`, '>=', $size, 'cold: in memory now');
    SKIP: {
        skip 'nginx without debug log', 1 unless $debug;
        cmp_ok(reads(), '>', $n, 'cold: was read in a thread');
    }

    $n = reads();
    $r = $t->get(uri('a'));
    ok($r->{body} eq $blob, 'hot: bytes');
    is(reads(), $n, 'hot: no thread');

    cool();
    $r = $t->get(uri('a'), { Range => 'bytes=3145700-3145799' });
    is($r->{status}, 206, 'cold range: status');
    ok($r->{body} eq substr($blob, 3145700, 100), 'cold range: bytes');

    cool();
    $r = $t->get(uri('a'), { Range => 'bytes=0-9,2097150-2097160' });
    is($r->{status}, 206, 'cold ranges: status');
    like($r->{body}, qr/\Q@{[substr $blob, 2097150, 11]}\E/,
        'cold ranges: bytes');

    cool();
    $r = $t->get(uri('slow'));
    ok($r->{body} eq $blob, 'cold, with limit_rate: bytes');

    # a client that leaves while the disk is asked

    for (1 .. 30) {
        cool();
        my $s = $t->connect();
        $t->send_request($s, 'GET', uri('a'));
        select undef, undef, undef, rand 0.002;
        close $s;
    }

    $r = $t->get(uri('a'));
    ok($r->{body} eq $blob, 'after clients that left: bytes');

    cool();
    $r = $t->get(uri('aio'));
    ok($r->{body} eq $blob, 'aio threads: bytes');
}

# somebody cut the file

truncate $file, 2 * 1024 * 1024;
$r = $t->get(uri('a'));
ok(!$r->{cut} && $r->{body} eq $blob,
    'a short file: the rest comes from the registry');
ok($t->read_file('debug.log') =~ /\[crit\].* reading a blob in ".*" failed/,
    'and the log says why');

ok($t->read_file('debug.log') !~ /\[(alert|emerg)\]/, 'no alert there');

$t->done();
