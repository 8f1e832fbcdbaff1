#!/usr/bin/perl

# S13: abuse of ranges.  Sums and ends that overflow, suffixes of nothing, 10^4
# ranges, a thousand that overlap, every other byte, of a blob that is cold,
# one that is warm, one that can't be stored, and a manifest.
#
#   - whatever is asked for, the answer is the one of a second parser (this
#     test's, with big numbers): whole, 400, 416, or 206 with exactly the parts
#     that were asked for, in that order, each with its own bytes; nothing of
#     any other file or of memory;
#   - bytes out: all parts together are no more than the object, and a part's
#     header is less than 200 bytes; bytes in: an attack on a cold blob fetches
#     no byte of it twice;
#   - who asks for 1024 ranges and does not read takes less than 256 KiB of a
#     worker.
#
# 1000 random headers beside the chosen ones, 10^5 with ATTACK=full;
# RANGES_SEED repeats a run.  See also ranges.t (what must work), fuzz/header_range.c.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Socket qw/ SOL_SOCKET SO_RCVBUF sockaddr_in inet_aton /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $seed = $ENV{RANGES_SEED} || time();
my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $size = 200_003;
my $manifest = '{"schemaVersion":2,"a":"' . 'xyz' x 20000 . '"}';
my $mdigest = $t->digest($manifest);
my %blob = map { $t->digest($_) => $_ } map { $t->random_blob($size) } 1 .. 30;
my @digests = sort keys %blob;
my $max = '9223372036854775807';

srand($seed);
diag("RANGES_SEED=$seed") if $ENV{TEST_VERBOSE};

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    if (defined $digest) {
        return $t->reply($c, $q, 404, {}, '') if !exists $blob{$digest};
        return $t->reply($c, $q, 416, {}, '') if defined $q->{to}
            && $q->{to} <= $q->{from};
        return $t->reply_blob($c, $q, $blob{$digest});
    }
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $mdigest }, $manifest);
}, quiet => 1);

my $narrow = OCI::port();

$t->conf(http => <<EOC, location => <<EOL, cache => <<EOP, server => <<EOS);
oci_registry demo { url http://127.0.0.1:$port; }
large_client_header_buffers 4 256k;
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_cache_valid manifest 1h; }
location /v2/full/ { oci_pass demo; oci_cache full; }
EOL
oci_cache_path $d/cache keys_zone=models:8m slice=64k;
oci_cache_path $d/full keys_zone=full:1m slice=64k min_free=8000t;
EOP
listen 127.0.0.1:$narrow sndbuf=16k;
EOS
$t->start();

# what the answer is: a status, and the parts of a 206

sub big { return $_[0] =~ /^0*(\d{1,15})$/ ? 0 + $1 : 1e15 }

sub model {
    my ($range, $n) = @_;
    my ($sum, $named, @parts) = (0, 0);
    $range =~ s/^bytes=//i or return 200;
    $range = ' ' if $range eq '';
    for (split /,/, $range, -1) {
        my ($spec, $start, $end) = ($_);
        $spec =~ s/^[ \t]+|[ \t]+$//g;
        if ($spec =~ /^-(\d+)$/) {
            $start = big($1) > $n ? 0 : $n - big($1);
            $end = $n;
        } elsif ($spec =~ /^(\d+)-(\d*)$/) {
            $start = big($1) > $n ? $n : big($1);
            $end = $2 eq '' || big($2) >= $n ? $n : big($2) + 1;
        } else {
            return 200;
        }
        $named++;
        push @parts, [$start, $end] if $start < $end;
    }
    return 400 if $named > 1024;
    return 416 if !@parts;
    $sum += $_->[1] - $_->[0] for @parts;
    return $sum > $n ? 400 : (206, @parts);
}

# the same of what came; dies of anything else

sub parts {
    my ($r, $what) = @_;
    my $n = length $what;
    return 200 if $r->{status} == 200 && $r->{body} eq $what;
    return $r->{status} if $r->{status} =~ /^(?:400|416)$/
        && $r->{body} =~ /"code":"SIZE_INVALID"/ && length $r->{body} < 400;
    die "$r->{status} " . length $r->{body}
        if $r->{status} != 206 || $r->{cut};
    my $one = sub {
        my ($range, $data) = @_;
        my ($x, $y) = ($range // '') =~ m!^bytes (\d+)-(\d+)/$n$!
            or die 'Content-Range';
        die "bytes at $x" if $data ne substr $what, $x, $y - $x + 1;
        return [$x, $y + 1];
    };
    my ($b) = ($r->{h}{'content-type'} // '')
        =~ m!^multipart/byteranges; boundary=(.+)!
        or return (206, $one->($r->{h}{'content-range'}, $r->{body}));
    my @p = split /\r\n--\Q$b\E(?:--)?\r\n/, $r->{body}, -1;
    die 'frame' if shift @p ne '' || pop @p ne '';
    return (206, map {
        my ($head, $data) = split /\r\n\r\n/, $_, 2;
        die 'header of a part' if length $head > 200;
        $one->($head =~ /^Content-Range: (.+)$/m, $data);
    } @p);
}

sub flat { return join ' ', map { ref $_ ? "$_->[0]-$_->[1]" : $_ } @_ }

sub differs {
    my ($uri, $what, $range, $s) = @_;
    my $r;
    if ($s) {
        $t->send_request($s, 'GET', $uri, { Range => $range });
        $r = $t->read_body($s, $t->read_header($s), 'GET');
    } else {
        $r = $t->get($uri, { Range => $range });
    }
    my $got = eval { flat(parts($r, $what)) } // "wrong: $@";
    my $want = flat(model($range, length $what));
    return $got eq $want ? '' : substr("$range: $got for $want", 0, 300);
}

my %attack = (
    'nginx 2017-7529' => "bytes=-$max,-9223372036854775609",
    'suffixes that wrap' => 'bytes=-9223372036854775608,-200004',
    'sums that wrap' => "bytes=0-$max,1-$max,0-9223372036854775806",
    '2^63' => 'bytes=9223372036854775808-',
    '2^63 - 1' => "bytes=$max-$max",
    '2^64' => 'bytes=18446744073709551616-18446744073709551617',
    '2^64 + 5' => 'bytes=18446744073709551621-18446744073709551625',
    'an end of 2^64 + 9' => 'bytes=5-18446744073709551625',
    'digits' => 'bytes=' . '9' x 5000 . '-' . '9' x 5000,
    'zeros' => 'bytes=' . '0' x 5000 . '5-' . '0' x 5000 . '9',
    'suffix 0' => 'bytes=-0',
    'suffixes 0' => 'bytes=' . join(',', ('-0') x 1000),
    'the end' => "bytes=$size-,${size}-$size,-0",
    'the last' => 'bytes=' . ($size - 1) . '-,-1',
    '10^4' => 'bytes=' . join(',', map { "$_-$_" } 1 .. 10_000),
    '1024 and one' => 'bytes=' . join(',', map { "$_-$_" } 1 .. 1025),
    'every other byte' => 'bytes='
        . join(',', map { 2 * $_ . '-' . 2 * $_ } 1 .. 1024),
    'the same byte' => 'bytes=' . join(',', ('7-7') x 1024),
    'apache 2011-3192' => 'bytes=0-,'
        . join(',', map { "5-$_" } 0 .. 1000),
    'overlapping' => 'bytes=' . join(',', ('0-') x 1000),
    'overlapping, little' => 'bytes=' . join(',', ('100-199') x 1024),
    'backwards' => 'bytes='
        . join(',', map { 150 * $_ . '-' . (150 * $_ + 99) }
            reverse 0 .. 1000),
    'a byte of each slice, twice' => 'bytes='
        . join(',', map { ("$_-$_") x 2 } 0, 65536, 131072, 196608),
    'commas' => 'bytes=' . ',' x 3000,
    'blanks' => 'bytes=' . ' ' x 3000 . "1-2\t" . ' ' x 3000 . ',3-4',
    'signs' => 'bytes=+1-+2', 'minus' => 'bytes=--5', 'hex' => 'bytes=0x1-0x9',
    'a dot' => 'bytes=1.0-2', 'exponents' => 'bytes=1e1-2e1',
    'no digits' => 'bytes=-', 'no unit' => '1-2', 'a long unit' => 'b' x 9000,
    'backward' => 'bytes=9-5',
);
my @names = sort keys %attack;

# cold: each blob once; then warm; uncached; a manifest

my $i = 0;
for my $name (@names) {
    my $digest = $digests[$i++ % @digests];
    my $up = $t->upstream_bytes();
    my $first = $i <= @digests;
    is(differs("/v2/m/blobs/$digest", $blob{$digest}, $attack{$name}), '',
        "$name: cold");
    cmp_ok($t->upstream_bytes() - $up, '<=', $first ? $size + 1 : 0,
        "$name: no byte is fetched twice") if $first;
}

$t->get("/v2/m/blobs/$digests[0]");
is(differs("/v2/m/blobs/$digests[0]", $blob{$digests[0]}, $attack{$_}), '',
    "$_: warm") for @names;
is(differs("/v2/m/manifests/$mdigest", $manifest, $attack{$_}), '',
    "$_: a manifest") for @names;

# A blob that can't be stored is streamed: several ranges of it, all of it as
# one range or a range the registry's own way are its own answers.

for my $name (@names) {
    my $r = $t->get("/v2/full/m/blobs/$digests[1]",
        { Range => $attack{$name} });
    my $got = eval { flat(parts($r, $blob{$digests[1]})) } // "$@";
    my $want = flat(model($attack{$name}, $size));
    ok($got eq $want || $r->{status} == 200 && $got eq 200
        || $r->{status} =~ /^4/, "$name: not stored")
        or diag(substr "$got for $want", 0, 300);
}

# odd headers: two of them, with conditions, on what is not there

my $r = $t->get("/v2/m/blobs/$digests[0]",
    { Range => ['bytes=0-4', "bytes=-$max"] });
ok($r->{status} == 400 || $r->{body} eq substr($blob{$digests[0]}, 0, 5)
    || $r->{body} eq $blob{$digests[0]}, 'two Range headers');
$r = $t->head("/v2/m/blobs/$digests[0]", { Range => $attack{overlapping} });
is("$r->{status} $r->{h}{'content-length'}", "200 $size", 'HEAD');
$r = $t->get('/v2/m/blobs/sha256:' . 'a' x 64,
    { Range => $attack{'10^4'} });
cmp_ok($r->{status}, '>=', 400, 'of a blob that is not there');

# random ones

my @number = (0, 1, 5, 65535, 65536, 131072, $size - 1, $size, $size + 1,
    2147483647, 4294967295, 4294967296, $max, '9223372036854775808',
    '18446744073709551615', '18446744073709551616', '99999999999999999999999');

sub number {
    return rand() < 0.6 ? int rand $size * 1.1 : $number[rand @number];
}

sub spec {
    my ($k, $x) = (rand, int rand $size);
    return number() . '-' . number() if $k < 0.3;
    return $x . '-' . ($x + int rand 300) if $k < 0.8;
    return '-' . number() if $k < 0.88;
    return number() . '-' if $k < 0.95;
    return ('', '-', '5', 'a-b', ' ', "1-2\t", '1--2', '-1-2')[rand 8];
}

my @bad;
my $count = $t->times(1000, 100_000);
my $s = $t->connect();
for my $k (1 .. $count) {
    my $n = rand() < 0.5 ? 1 : int rand(rand() < 0.1 ? 1100 : 12);
    my $range = 'bytes=' . join ',', map { spec() } 1 .. $n;
    my $bad = differs("/v2/m/blobs/$digests[0]", $blob{$digests[0]}, $range,
        $s);
    push @bad, $bad if $bad;

    # no more requests than nginx allows a connection

    $s = $t->connect() if $bad || $k % 500 == 0;
}
is(join("\n", @bad[0 .. ($#bad < 5 ? $#bad : 5)]), '',
    "$count random headers, seed $seed");
close $s;

# those who do not read

my $clients = 40;
my ($worker) = $t->workers();
my $wide = 'bytes=' . join ',', map { 190 * $_ . '-' . (190 * $_ + 189) }
    0 .. 1023;

sub rss {
    my ($kb) = `grep VmRSS /proc/$worker/status` =~ /(\d+)/;
    return $kb;
}

sub slow {
    my ($range) = @_;
    socket(my $c, Socket::PF_INET, Socket::SOCK_STREAM, 0) or die;
    bless $c, 'IO::Socket::INET';
    setsockopt $c, SOL_SOCKET, SO_RCVBUF, 4096;
    CORE::connect($c, sockaddr_in($narrow, inet_aton('127.0.0.1'))) or die $!;
    $c->autoflush(1);
    $t->send_request($c, 'GET', "/v2/m/blobs/$digests[0]",
        { Range => $range, Connection => 'close' });
    return [$c, $t->read_header($c)];
}

slow($wide) for 1 .. 5;
my $before = rss();
my @slow = map { slow($wide) } 1 .. $clients;
my $each = (rss() - $before) / $clients;
diag(sprintf '%.1f KiB each', $each) if $ENV{TEST_VERBOSE};
SKIP: {
    skip 'sanitizers keep what is freed', 1 if $OCI::ASAN;
    cmp_ok($each, '<', 256, 'memory of who does not read');
}
my $right = grep {
    my ($c, $h) = @$_;
    setsockopt $c, SOL_SOCKET, SO_RCVBUF, 1 << 20;
    my $whole = $t->read_body($c, $h, 'GET');
    (eval { flat(parts($whole, $blob{$digests[0]})) } // '')
        eq flat(model($wide, $size));
} @slow;
is($right, $clients, 'and who reads at last has all of it');

is(($t->workers())[0], $worker, 'the worker lives');

$t->done();
