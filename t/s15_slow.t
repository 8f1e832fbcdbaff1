#!/usr/bin/perl

# S15: slow clients and slow registries.
#
# 500 clients (10,000 with ATTACK=full), a fifth of each kind: connected and
# silent; a header that comes by bytes; idle after an answer; a stored blob,
# and one that is being fetched, that is not read.
#
#   - a worker's memory grows by less than 24 KiB for each, and of all of them
#     together nothing is left when they have gone, nor a descriptor;
#   - others are served meanwhile, and who reads at last has all, each byte
#     right.
#
# Blobs of which a registry sends a byte a second, or nothing; headers that
# come so; one server of two that hangs; readers that don't read hold what they
# can hold.
#
#   - other blobs of the same registry, and other registries, are not delayed:
#     a blob that comes slowly takes one place of max_connections, one that is
#     not read takes none once it is oci_fill_ahead ahead;
#   - what came is kept: when it is fast again a blob goes on where it was, and
#     each byte is sent once;
#   - a server that hangs, or sends its header by bytes, is left after
#     stall_timeout, and the other one is asked.
#
# There is no lower limit of a rate: max_connections blobs that all come slowly
# occupy their registry, which is the one that sends them so.  See also slow.t
# (manifests), quota.t, breaker.t (a registry that is dead).

use warnings;
use strict;

use Test::More;
use Fcntl qw/ :flock /;
use File::Basename qw/ dirname /;
use Socket qw/ SOL_SOCKET SO_RCVBUF sockaddr_in inet_aton /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $clients = $t->times(500, 10_000);
my $each = 500;     # clients of a process
my $size = 2 * 1024 * 1024 + 7;
my %blob = map { $t->digest($_) => $_ } map { $t->random_blob($size) } 1 .. 9;
my ($warm, $cold, $slow, $silent, $pair, $held1, $held2, @other)
    = sort keys %blob;
my $narrow = OCI::port();

# how much of a digest was sent, by exchanges that ended or not

sub note_sent {
    my ($digest, $n) = @_;
    open my $f, '>>', "$d/sent.$digest" or die;
    syswrite $f, "$$ $n\n";
    close $f;
}

sub sent {
    my ($digest) = @_;
    my ($sum, %who) = (0);
    for (split /\n/, $t->read_file("sent.$digest")) {
        my ($pid, $n) = split;
        $sum += $n;
        $who{$pid} = 1;
    }
    return ($sum, scalar keys %who);
}

# a header by bytes

sub drip {
    my ($c) = @_;
    for (split //, "HTTP/1.1 200 X\r\nX-Y: " . 'x' x 100_000) {
        print $c $_ or return 0;
        sleep 0.2;
    }
    return 0;
}

my $answer = sub {
    my ($c, $q) = @_;
    my ($place, $digest) = $q->{uri} =~ m!^/v2/(\w+)/blobs/(.+)$!
        or return $t->reply($c, $q, 200, {}, '{}');
    my $blob = $blob{$digest};
    my $fast = -e "$d/fast";
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);

    return $t->reply_blob($c, $q, $blob) if $to - $from == 1
        || $place !~ /^(?:slow|silent)$/;

    printf $c "HTTP/1.1 206 X\r\nContent-Length: %d\r\n"
        . "Content-Range: bytes %d-%d/%d\r\n\r\n", $to - $from, $from,
        $to - 1, $size;
    while ($from < $to) {
        my $n = -e "$d/fast" ? $to - $from : $place eq 'slow' ? 1 : 0;
        if ($n) {
            print $c substr $blob, $from, $n or return 0;
            note_sent($digest, $n);
            $from += $n;
        }
        last if $from == $to;
        for (1 .. 20) {
            last if -e "$d/fast";
            sleep 0.05;
        }
        return 0 if $place eq 'silent' && -e "$d/fast";
    }
    return 1;
};

my $port = $t->upstream($answer, quiet => 1);
my $hangs = $t->upstream(sub { sleep 100; return 0 }, quiet => 1);
my $drips = $t->upstream(sub { return drip($_[0]) }, quiet => 1);

# of descriptors, as many as may be

my ($hard) = `sh -c 'ulimit -Hn'` =~ /^(\d+)/;
my $limit = $clients + 2000;
$limit = $hard if $hard && $limit > $hard;
$clients = $limit - 1000 if $clients > $limit - 1000;
$clients -= $clients % $each;

$t->conf(main => "worker_rlimit_nofile $limit;",
    server => "listen 127.0.0.1:$narrow sndbuf=16k;",
    http => <<EOC, location => <<EOL, cache_args => 'slice=64k');
upstream pair { server 127.0.0.1:$hangs; server 127.0.0.1:$port; }
upstream pair2 { server 127.0.0.1:$drips; server 127.0.0.1:$port; }
oci_registry demo { url http://127.0.0.1:$port; max_connections 3; }
oci_registry stall {
    url http://127.0.0.1:$port; stall_timeout 1s; breaker off;
}
oci_registry pair { url http://pair; stall_timeout 1s; }
oci_registry pair2 {
    url http://pair2; connect_timeout 1s; stall_timeout 1s;
}
oci_registry drips {
    url http://127.0.0.1:$drips; connect_timeout 1s; stall_timeout 1s;
}
map \$uri \$registry {
    ~^/v2/(?<name>pair2?|drips)/ \$name;
    ~^/v2/silent/ stall;
    default demo;
}
EOC
client_header_timeout 300s;
keepalive_timeout 300s;
send_timeout 300s;
location /v2/ {
    oci_pass \$registry;
    oci_cache models;
    oci_fill_ahead 1m;
    oci_fill_abandoned stop after=1s;
}
EOL

# as many as come

my $conf = $t->read_file('nginx.conf');
$conf =~ s/worker_connections 1024/worker_connections $limit/;
$t->write_file('nginx.conf', $conf);
$t->start();

my ($worker) = $t->workers();

sub rss {
    my ($kb) = `grep VmRSS /proc/$worker/status` =~ /(\d+)/;
    return $kb;
}

sub fds { return scalar(() = glob "/proc/$worker/fd/*") }

sub lazy {
    socket(my $s, Socket::PF_INET, Socket::SOCK_STREAM, 0) or die $!;
    bless $s, 'IO::Socket::INET';
    setsockopt $s, SOL_SOCKET, SO_RCVBUF, 4096;
    CORE::connect($s, sockaddr_in($narrow, inet_aton('127.0.0.1'))) or die $!;
    $s->autoflush(1);
    return $s;
}

# a client that has the header, and takes no more

sub ask {
    my ($place, $digest) = @_;
    my $s = lazy();
    $t->send_request($s, 'GET', "/v2/$place/blobs/$digest",
        { Connection => 'close' });
    return [$s, $t->read_header($s, 120), $digest];
}

sub right {
    my ($c) = @_;
    my ($s, $r, $digest) = @$c;
    setsockopt $s, SOL_SOCKET, SO_RCVBUF, 1 << 20;
    $t->read_body($s, $r, 'GET', 120);
    return $r->{status} == 200 && $r->{body} eq $blob{$digest};
}

my @kinds = (
    sub { return [lazy()] },
    sub { my $s = lazy(); print $s "GET /v2/m/blobs/$warm HT"; return [$s] },
    sub {
        my $s = lazy();
        $t->send_request($s, 'GET', '/oci_status');
        $t->read_body($s, $t->read_header($s, 120), 'GET', 120);
        return [$s];
    },
    sub { return ask('m', $warm) },
    sub { return ask('m', $cold) },
);

sub pulls {
    my ($name, $place) = @_;
    my @wrong = grep {
        my $r = $t->get("/v2/$place/blobs/$_", undef, 30);
        $r->{status} != 200 || $r->{body} ne $blob{$_}
    } @other;
    is(scalar(@wrong), 0, "$name: others are served");
}

pulls('before', 'm');
ask('m', $warm) for 1 .. 3;
ok($t->get("/v2/m/blobs/$warm")->{body} eq $blob{$warm}, 'a stored blob');
sleep 0.3;

# 500 or 10,000

my ($mem, $fds) = (rss(), fds());
my $procs = int(($clients + $each - 1) / $each);
my @children;

for my $p (1 .. $procs) {
    my $pid = fork() // die;
    if ($pid == 0) {
        my @c = map { $kinds[$_ % @kinds]->() } 1 .. $each;
        $t->write_file("ready.$p", '');
        sleep 0.1 while !-e "$d/release";
        my @some = grep { @$_ > 1 } @c;
        my $n = grep { right($_) } @some[0, 1, -1, -2];
        $t->write_file("right.$p", $n);
        POSIX::_exit(0);
    }
    push @children, $pid;
}

ok(until_true(60, sub { $procs == grep { -e "$d/ready.$_" } 1 .. $procs }),
    "$clients clients");
cmp_ok(fds() - $fds, '>=', $clients - 10, 'they are all there');
my $more = (rss() - $mem) / $clients;
diag(sprintf '%.1f KiB for each of %d', $more, $clients)
    if $ENV{TEST_VERBOSE} || $OCI::FULL;
SKIP: {
    skip 'sanitizers keep what is freed', 1 if $OCI::ASAN;
    cmp_ok($more, '<', 24, 'memory of each');
}
pulls('meanwhile', 'm2');
$t->write_file('release', '');
waitpid $_, 0 for @children;
is(join(' ', map { $t->read_file("right.$_") } 1 .. $procs),
    join(' ', (4) x $procs), 'who reads at last has all of it');
ok(until_true(60, sub { fds() <= $fds + 6 }), 'no descriptor is left')
    or diag(fds() - $fds);

# readers that don't read do not keep a registry's places

my @held = (ask('m', $held1), ask('m', $held2), ask('n', $held1),
    ask('n', $held2));
my $big = $t->get("/v2/m/blobs/$pair", undef, 30);
ok($big->{body} eq $blob{$pair}, 'others are served beside them');

# a byte a second, and not even that; their readers wait

my @slow = map { ask('slow', $slow) } 1 .. 3;
my @quiet = ask('silent', $silent);
ok(until_true(60, sub { (sent($slow))[0] > 0 }), 'a byte comes');
pulls('a byte a second', 'm3');
is((sent($slow))[1], 1, 'which takes one exchange');

# a header that never ends, without and with another server; one that hangs

my $r = $t->get("/v2/drips/blobs/$slow", undef, 30);
like($r->{status}, qr/^50[24]$/, 'a header by bytes');
pulls('a header by bytes', 'm4');
for my $name (qw/ pair pair2 /) {
    $r = $t->get("/v2/$name/blobs/$slow", { Range => 'bytes=0-0' }, 30);
    is($r->{status}, 206, "$name: the other server");
}

# it is fast again

$t->write_file('fast', '');
is(scalar(grep { right($_) } @slow), 3, 'slow ones go on');
is((sent($slow))[0], $size, 'where they were: each byte was sent once');
ok(right($quiet[0]), 'and a silent one');
is(scalar(grep { right($_) } @held), 4, 'and those that did not read');
is(($t->workers())[0], $worker, 'the worker lives');
@slow = @quiet = @held = ();
ok(until_true(60, sub { $t->status()->{counters}{fills_active} == 0 }),
    'no fill is left');

$t->done();
