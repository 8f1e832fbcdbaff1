#!/usr/bin/perl

# oci_verify strict: not a byte goes out before the digest is right; off:
# nothing is hashed.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $size = 10 * 1024 * 1024 + 5;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my $bad = $blob;
substr($bad, $size - 3, 1) ^= "\1";

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($mode) = $q->{uri} =~ m!^/v2/[a-z]+/([a-z]+)/!;
    my $bytes = $mode eq 'bad' ? $bad : $blob;
    my $many = ($q->{to} // $size) - ($q->{from} // 0) > 1;
    if ($mode eq 'slow' && $many) {
        sleep 0.1 while !-e "$d/go";
    }
    return $t->reply_blob($c, $q, $bytes);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=1m', location => <<EOL);
location /v2/strict/ { oci_pass demo; oci_cache models; oci_verify strict; }
location /v2/on/ { oci_pass demo; oci_cache models; }
location /v2/off/ { oci_pass demo; oci_cache models; oci_verify off; }
EOL
$t->start();

sub fresh {
    $t->stop();
    system("rm -rf $d/cache");
    $t->start();
}

sub pull { return $t->get("/v2/$_[0]/blobs/$digest", $_[1], 40) }

# wrong bytes

for my $range (undef, 'bytes=0-9', 'bytes=-1', 'bytes=0-5,8-9') {
    my $r = pull('strict/bad', { $range ? (Range => $range) : () });
    my $name = $range // 'all of it';
    ok($r->{status} == 0 || $r->{status} >= 500,
        "wrong bytes, $name: no success") or diag($r->{status_line});
    is(index($r->{body}, substr($bad, 0, 10)), -1,
        "wrong bytes, $name: not one of them went out");
    fresh();
}

# a part of it goes out where it is not strict, and is said to be unverified

my $r = pull('on/bad', { Range => 'bytes=0-9' });
is($r->{status}, 206, 'a part of it, not strict');
is($r->{body}, substr($blob, 0, 10), 'the bytes that came');
fresh();

# right bytes

$r = pull('strict/good', { Range => 'bytes=100-199' });
is($r->{status}, 206, 'right bytes: a range');
is($r->{body}, substr($blob, 100, 100), 'right bytes: of it');
$r = pull('strict/good');
is($r->{status}, 200, 'right bytes: all of it');
ok($r->{body} eq $blob, 'right bytes: the same');
like($r->{h}{'cache-status'}, qr/hit/, 'right bytes: from the cache');
fresh();

# a fill that takes its time: the reader is told to come again, once it has
# waited for 20 seconds, and the fill goes on

my $started = time();
$r = pull('strict/slow');
my $waited = time() - $started;
is($r->{status}, 503, 'too slow: told to come again');
ok($r->{h}{'retry-after'}, 'too slow: when');
is($r->{h}{'content-type'}, 'application/json', 'too slow: an OCI error');
cmp_ok($waited, '>', 15, 'too slow: not at once');
cmp_ok($waited, '<', 30, 'too slow: not for ever');

$t->write_file('go', '');
$r = pull('strict/slow');
is($r->{status}, 200, 'later: there');
ok($r->{body} eq $blob, 'later: right');
fresh();

# without any check, what comes is passed on

$r = pull('off/bad');
is($r->{status}, 200, 'off: whatever comes');
ok($r->{body} eq $bad, 'off: goes out');

# but not where there are checks

$r = pull('on/bad');
ok($r->{status} == 0 || $r->{status} >= 500 || $r->{cut},
    'what off has kept does not complete under on')
    or diag("$r->{status_line} " . length $r->{body});
$r = pull('strict/bad');
ok($r->{status} == 0 || $r->{status} >= 500, 'nor under strict')
    or diag("$r->{status_line} " . length $r->{body});

$t->done();
