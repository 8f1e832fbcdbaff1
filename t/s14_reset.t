#!/usr/bin/perl

# S14: abuse of HTTP/2.  A client opens streams and resets them at once (rapid
# reset), makes the edge reset them (MadeYouReset: windows of 0 and beyond
# 2^31, streams that depend on themselves, data behind the end), floods with
# CONTINUATION, PING, SETTINGS, and opens windows that stay shut; for a blob
# that is stored, one that is not, one that nobody has, a tag, and a push.
#
#   - other clients get all that they ask for meanwhile, each byte right;
#   - a cold blob whose readers are all reset is fetched once at most, and
#     what was a fill's is given back: no fill, no connection, no descriptor is
#     left, and the blobs can be purged and come again;
#   - a worker's memory grows by less than 64 MiB, and no worker dies.
#
# 400 streams for each way and target, 10^5 with ATTACK=full, which prints the
# times that others see before and meanwhile, too.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $streams = $t->times(400, 100_000);
my $size = 1_500_003;
my %blob = map { $t->digest($_) => $_ } map { $t->random_blob($size) } 1 .. 3;
my ($warm, $cold, $shut) = sort keys %blob;
my $manifest = '{"schemaVersion":2}';
my $h2 = OCI::port();

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($kind, $ref) = $q->{uri} =~ m!/(blobs|manifests)/(.+)$! or return 0;
    if ($q->{method} eq 'POST') {
        return $t->reply($c, $q, 202, { Location => '/v2/m/x' }, '');
    }
    if ($kind eq 'manifests') {
        return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
            'Docker-Content-Digest' => $t->digest($manifest) }, $manifest);
    }
    return $t->reply($c, $q, 404, {}, '') if !exists $blob{$ref};
    return $t->reply_blob($c, $q, $blob{$ref});
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=256k', server => "listen 127.0.0.1:$h2 http2;",
    location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; oci_fill_abandoned stop; }
location /purge/ { oci_cache_purge demo; oci_cache models; }
EOL
$t->start();

my ($worker) = $t->workers();

# frames

sub frame {
    my ($type, $flags, $id, $data) = @_;
    return substr(pack('N', length $data), 1) . pack('CCN', $type, $flags, $id)
        . $data;
}

sub text {
    my ($s) = @_;
    my ($n, $out) = (length $s, '');
    return chr($n) . $s if $n < 127;
    for ($n -= 127, $out = chr 127; $n > 127; $n >>= 7) {
        $out .= chr($n & 127 | 128);
    }
    return $out . chr($n) . $s;
}

# literals without an index; 4 (END_HEADERS) and 1 (END_STREAM) in flags

sub request {
    my ($id, $uri, $flags, $method) = @_;
    $method = $method ? "\x02" . text($method) : "\x82";
    return frame(1, $flags // 5, $id, $method . "\x86\x04" . text($uri)
        . "\x01" . text('edge.test'));
}

sub reset_frame { return frame(3, 0, $_[0], pack 'N', 8) }

my %way = (
    'reset' => sub { request(@_) . reset_frame($_[0]) },
    'reset, late' => sub { request(@_)
        . ($_[0] > 40 ? reset_frame($_[0] - 40) : '') },
    'reset before the end' => sub { request(@_[0, 1], 4, 'POST')
        . frame(0, 0, $_[0], 'x' x 100) . reset_frame($_[0]) },
    'a window of 0' => sub { request(@_)
        . frame(8, 0, $_[0], pack 'N', 0) },
    'a window beyond' => sub { request(@_)
        . frame(8, 0, $_[0], pack 'N', 0x7fffffff) },
    'depends on itself' => sub { request(@_)
        . frame(2, 0, $_[0], pack 'NC', $_[0], 1) },
    'data behind the end' => sub { request(@_)
        . frame(0, 1, $_[0], 'x' x 100) },
    'a header behind the end' => sub { request(@_) . request(@_) },
    'a short priority' => sub { request(@_) . frame(2, 0, $_[0], 'x') },
    'continued, empty' => sub { request($_[0], $_[1], 1)
        . frame(9, 0, $_[0], '') x 50 },
    'continued' => sub { request($_[0], $_[1], 1)
        . frame(9, 0, $_[0], "\x00\x03x-y" . text('z' x 1000)) x 200
        . frame(9, 4, $_[0], '') },
    'pinged' => sub { request(@_) . frame(6, 0, 0, 'x' x 8) x 50
        . reset_frame($_[0]) },
    'set' => sub { request(@_) . frame(4, 0, 0, pack 'nN', 4, $_[0]) x 50
        . reset_frame($_[0]) },
    'goes away' => sub { request(@_) . frame(7, 0, 0, "\0" x 8) },
);

my %uri = (
    warm => "/v2/m/blobs/$warm",
    cold => "/v2/m/blobs/$cold",
    nobody => '/v2/m/blobs/' . $t->digest('nobody'),
    tag => '/v2/m/manifests/v1',
    push => '/v2/m/blobs/uploads/',
);

my $preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

sub h2_connect {
    my ($settings) = @_;
    my $s = $t->connect($h2);
    syswrite $s, $preface . frame(4, 0, 0, $settings // '');
    $s->blocking(0);
    return $s;
}

# so many streams one way, on as many connections as that takes

sub attack {
    my ($way, $uri, $n) = @_;
    my ($s, $id, $fed) = (undef, 1, time());
    for (my $i = 0; $i < $n && time() < $fed + 60; ) {
        $s //= h2_connect();
        my $text = '';
        for (1 .. 20) {
            $text .= $way{$way}->($id, $uri);
            $id += 2;
        }
        $i += 20;
        my $alive = 1;
        while (length $text && $alive) {
            my $got = sysread $s, my $buf, 65536;
            $alive = 0 if defined $got && $got == 0 || !defined $got
                && !$!{EAGAIN};
            my $sent = syswrite $s, $text;
            if (defined $sent) {
                substr $text, 0, $sent, '';
            } elsif ($!{EAGAIN}) {
                sleep 0.001;
                $alive = 0 if time() > $fed + 60;
            } else {
                $alive = 0;
            }
        }
        ($s, $id) = (undef, 1) if !$alive || $id > 1500;
    }
    return '';
}

sub rss {
    my ($kb) = `grep VmRSS /proc/$worker/status` =~ /(\d+)/;
    return $kb / 1024;
}

sub fds { return scalar(() = glob "/proc/$worker/fd/*") }

# somebody else: how many answers were wrong, and the times of all

sub others {
    my ($seconds, $stop) = @_;
    my ($wrong, @times) = (0);
    my $end = time() + $seconds;
    while (time() < $end && !($stop && -e $stop)) {
        my $from = int rand $size - 5000;
        my $begin = time();
        my $r = $t->get($uri{warm},
            { Range => "bytes=$from-" . ($from + 4095) });
        push @times, time() - $begin;
        $wrong++ if $r->{status} != 206
            || $r->{body} ne substr $blob{$warm}, $from, 4096;
        $wrong++ if $t->get($uri{tag})->{body} ne $manifest;
        sleep 0.005;
    }
    @times = sort { $a <=> $b } @times;
    return sprintf '%d wrong of %d, p99 %.1f ms', $wrong, scalar @times,
        1000 * ($times[int(0.99 * @times)] // 0);
}

is($t->get($uri{warm})->{body} eq $blob{$warm}, 1, 'a blob is stored');
is($t->get($uri{tag})->{body}, $manifest, 'a tag');

my $before = others($t->times(0.5, 10));
my $fds = fds();
my ($mem, $up) = (rss(), $t->upstream_bytes());

my @out = $t->parallel(2, sub {
    my ($i) = @_;
    return others(300, "$d/over") if $i == 0;
    for my $way (sort keys %way) {
        for my $target (sort keys %uri) {
            next if ($target eq 'push') != ($way =~ /before the end/);
            attack($way, $uri{$target}, $streams);
        }
    }
    $t->write_file('over', '');
    return '';
});

like($out[0], qr/^0 wrong of (?:[2-9]|\d\d)/, 'others have what they ask for');
diag("before: $before; meanwhile: $out[0]")
    if $ENV{TEST_VERBOSE} || $OCI::FULL;
cmp_ok($t->upstream_bytes() - $up, '<=', 2 * $size,
    'a cold blob is fetched once');
is(($t->workers())[0], $worker, 'the worker lives');
cmp_ok(scalar(() = $t->read_file('access.log') =~ m!HTTP/2\.0" 499!g), '>=',
    500, 'streams were reset');

# windows that stay shut: the blob is fetched, and waits

my @shut = map { h2_connect(pack 'nN', 4, 0) } 1 .. 8;
for my $s (@shut) {
    syswrite $s, join '', map { request(2 * $_ + 1, "/v2/m/blobs/$shut") }
        0 .. 49;
}
ok($t->get("/v2/m/blobs/$shut")->{body} eq $blob{$shut},
    'who reads is not held up by 400 who don\'t');
SKIP: {
    skip 'sanitizers keep what is freed', 1 if $OCI::ASAN;
    cmp_ok(rss() - $mem, '<', 64, 'memory');
}
@shut = ();

# nothing is left

my $left;
for (1 .. 100) {
    $left = fds();
    last if $left <= $fds + 3 && $t->status()->{counters}{fills_active} == 0;
    sleep 0.1;
}
cmp_ok($left, '<=', $fds + 3, 'descriptors');
is($t->status()->{counters}{fills_active}, 0, 'no fill');

for my $digest (sort keys %blob) {
    my $r;
    for (1 .. 50) {
        $r = $t->http($t->{edge}, 'PURGE', "/purge/v2/m/blobs/$digest");
        last if $r->{status} != 202;
        sleep 0.1;
    }
    like($r->{status}, qr/^(?:200|404)$/, 'purged');
}

# the bytes count until the last reader is gone

for (1 .. 100) {
    $left = $t->status()->{zones}{models}{bytes};
    last if $left == 0;
    sleep 0.1;
}
is($left, 0, 'nobody holds them');
ok($t->get("/v2/m/blobs/$_")->{body} eq $blob{$_}, 'and they come again')
    for sort keys %blob;

$t->done();
