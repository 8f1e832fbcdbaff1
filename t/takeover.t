#!/usr/bin/perl

# The worker that fills a blob is killed at a random point, with readers on
# all workers: whoever comes back for the rest gets it, and what is fetched
# twice is bounded by what was in flight.  After each of these pulls
#
#   - all bytes were right, and all of the blob came, for each reader;
#   - the edge received no more than the blob and a slice for each exchange
#     that may have been in flight;
#   - the sidecar records all slices and that they are verified;
#   - the zone counts what is there, no fill is left, and the next read comes
#     from the cache alone.
#
# TAKEOVER=full: 20 pulls of 1 GiB with the default slice and connections
# ("make takeover"), else a few of 32 MiB.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $full = ($ENV{TAKEOVER} // '') eq 'full';
my $seed = $ENV{TAKEOVER_SEED} || time() ^ $$;
my $pulls = $full ? 20 : 3;
my $readers = 8;
my $connections = 4;
my $slice = ($full ? 8 : 2) * 1024 * 1024;
my $size = ($full ? 1024 : 32) * 1024 * 1024 + 4711;

# of a connection of the registry, bytes a second

my $rate = ($full ? 80 : 6) * 1024 * 1024;

srand($seed);
diag("TAKEOVER_SEED=$seed") if $ENV{TEST_VERBOSE};

my $t = OCI->new(workers => 3);
my $d = $t->{dir};
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my ($hex) = $digest =~ /:(.+)/;
my $uri = "/v2/m/a/blobs/$digest";
my $file = "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";

# smaller ones, at 2 MB/s

my @small = map { $t->random_blob(8 * 1024 * 1024 + 99) } 0 .. 2;
my %small = map { $t->digest($_) => $_ } @small;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($data, $speed) = (\$blob, $rate);
    ($data, $speed) = (\$small{$1}, 2 * 1024 * 1024)
        if $q->{uri} !~ /$hex/ && $q->{uri} =~ m!/blobs/(.+)$!;
    my $size = length $$data;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);

    # idle connections would tell nothing of who fills

    if ($to - $from <= 1) {
        $t->reply_blob($c, $q, $$data, { Connection => 'close' });
        return 0;
    }

    print $c "HTTP/1.1 206 X\r\nConnection: close\r\nContent-Length: "
        . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";
    my $began = time();
    for (my $i = $from; $i < $to; $i += 262144) {
        my $n = $to - $i > 262144 ? 262144 : $to - $i;
        print $c substr($$data, $i, $n) or return 0;
        my $ahead = ($i + $n - $from) / $speed - (time() - $began);
        sleep $ahead if $ahead > 0.005;
    }
    return 0;
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=' . $slice / 1024 . 'k', location => <<EOL);
location /v2/ {
    oci_pass demo;
    oci_cache models;
    oci_fill_connections $connections;
}
location /v2/slow/ {
    oci_pass demo;
    oci_cache models;
    oci_fill_connections 1;
}
location /v2/strict/ {
    oci_pass demo;
    oci_cache models;
    oci_fill_connections 1;
    oci_verify strict;
}
location /purge/ { oci_cache_purge demo; oci_cache models; }
EOL
$t->allow(qr/worker process \d+ exited on signal 9/);
$t->start();

# kills it when so many bytes are on the disk

sub killer {
    my ($at) = @_;
    my $pid;
    until_true(120, sub { ((stat $file)[12] // 0) * 512 >= $at })
        or return 'nothing came';
    until_true(10, sub { $pid = $t->worker_to($port) }) or return 'nobody fills';
    kill 'KILL', $pid;
    return 'killed';
}

# a client that asks for the rest where it broke

sub reader {
    my ($pos, $tries, $wrong) = (0, 0, 0);

    while ($pos < $size && $tries++ < 20) {
        my $s = eval { $t->connect() } or return 'no connection';
        $t->send_request($s, 'GET', $uri, { Connection => 'close',
            $pos ? (Range => "bytes=$pos-") : () });
        my $r = $t->read_header($s, 60);
        if ($r->{status} == 0) {
            close $s;
            sleep 0.05;
            next;
        }
        return "status $r->{status}"
            if $r->{status} != ($pos ? 206 : 200);
        my $buf = $r->{rest};
        eval {
            local $SIG{ALRM} = sub { die "timeout\n" };
            alarm 120;
            while (1) {
                die "wrong bytes at $pos\n"
                    if $buf ne substr $blob, $pos, length $buf;
                $pos += length $buf;
                sysread $s, $buf, 1 << 20 or last;
            }
            alarm 0;
        };
        alarm 0;
        return $@ if $@;
        close $s;
    }

    return $pos == $size ? "all $tries" : "only $pos";
}

# what the sidecar says: (slices that are recorded, verified)

sub sidecar {
    open my $f, '<:raw', "$file.map" or return (0, 0);
    local $/;
    my $map = <$f>;
    my @records = unpack '(LL)*', substr $map, 4096;
    my $present = grep { $records[2 * $_ + 1] == 1 } 0 .. @records / 2 - 1;
    return ($present, unpack('L', substr $map, 20, 4) & 1);
}

my $slices = int(($size + $slice - 1) / $slice);
my ($cut, $worst) = (0, 0);

for my $i (1 .. $pulls) {
    my $before = $t->upstream_bytes();
    my $at = int($size * (0.05 + rand($full ? 0.85 : 0.7)));

    my @out = $t->parallel($readers + 1, sub {
        return $_[0] == $readers ? killer($at) : reader();
    });
    my $killed = pop @out;
    chomp @out;

    is($killed, 'killed', "$i: the filling worker, at $at bytes");
    is(scalar(grep { /^all \d+$/ } @out), $readers, "$i: all readers have it")
        or diag(join "\n", @out);
    $cut += grep { /^all (\d+)$/ && $1 > 1 } @out;

    ok(until_true(10, sub { (sidecar())[1] }), "$i: it is verified");
    is((sidecar())[0], $slices, "$i: all slices are recorded");

    # (probes took a byte each)

    my $status = $t->status();
    my $twice = $status->{upstream_bytes}{demo} - $before - $size;
    cmp_ok($twice, '<=', $connections * $slice + 1024,
        "$i: bytes fetched twice");
    $worst = $twice if $twice > $worst;

    ok(until_true(20, sub {
        $t->status()->{zones}{models}{bytes} == $size
    }), "$i: the zone's bytes, without those that were purged");
    ok(until_true(5, sub { $t->status()->{counters}{fills_active} == 0 }),
        "$i: no fill is left");
    ok(until_true(5, sub { $t->workers() == 3 }), "$i: it was replaced");

    $before = $t->upstream_bytes();
    is(reader(), 'all 1', "$i: whole afterwards");
    is($t->upstream_bytes(), $before, "$i: from the cache alone");

    my $r = $t->http($t->{edge}, 'DELETE', "/purge$uri");
    cmp_ok($r->{status}, '<', 300, "$i: purged");
    ok(until_true(10, sub { !-e $file && !-e "$file.map" }), "$i: gone");
}

cmp_ok($cut, '>', 0, 'some readers were cut');

# strict: a reader for whom another worker fetches, and who has nothing yet

{
    my $uri = '/v2/strict/a/blobs/' . $t->digest($small[0]);
    my %s = $t->to_workers();
    is(scalar keys %s, 3, 'strict: three workers');

    my ($first, $second) = keys %s;
    $t->send_request($s{$first}, 'GET', $uri);
    ok(until_true(20, sub { $t->worker_to($port) == $first }),
        'strict: the first one fills');
    $t->send_request($s{$second}, 'GET', $uri);
    sleep 0.5;
    kill 'KILL', $first;

    my $r = $t->read_header($s{$second}, 60);
    is($r->{status}, 200, 'strict: the second one goes on');
    ok($t->read_body($s{$second}, $r, 'GET')->{body} eq $small[0],
        'strict: all is right');
    ok(until_true(5, sub { $t->workers() == 3 }), 'strict: replaced');
}

# the rest of a body, until the end

sub rest {
    my ($s, $r) = @_;
    return $t->read_body($s, $r, 'GET', 60)->{body};
}

# two workers that read a blob that the first one fills

sub two {
    my ($uri, $name) = @_;
    my %s = $t->to_workers();
    is(scalar keys %s, 3, "$name: three workers");

    my ($first, $second, $third) = keys %s;
    $t->send_request($s{$first}, 'GET', $uri);
    my @r = $t->read_header($s{$first});
    ok(until_true(20, sub { $t->worker_to($port) == $first }),
        "$name: the first one fills");
    $t->send_request($s{$second}, 'GET', $uri);
    push @r, $t->read_header($s{$second});
    while (length $r[1]{rest} < 2 * 1024 * 1024) {
        sysread $s{$second}, $r[1]{rest}, 65536, length $r[1]{rest} or last;
    }
    return (\@r, $first, $second, $third, %s);
}

# it is stopped, and goes on later; nobody writes the file meanwhile

{
    my $uri = '/v2/slow/a/blobs/' . $t->digest($small[1]);
    my ($h) = $t->digest($small[1]) =~ /:(.+)/;
    my $file = "$d/cache/blobs/sha256/" . substr($h, 0, 2) . "/$h";
    my ($r, $first, $second, $third, %s) = two($uri, 'stopped');

    kill 'STOP', $first;
    ok(until_true(10, sub {
        open my $f, '<', "/proc/$first/stat";
        (<$f> // '') =~ /\) T/;
    }), 'stopped: it is');
    my @before = (stat $file)[9, 12];

    ok(rest($s{$second}, $r->[1]) eq $small[1], 'stopped: who reads goes on');

    $t->send_request($s{$third}, 'GET', $uri);
    my $new = $t->read_header($s{$third}, 60);
    is($new->{status}, 200, 'stopped: who comes now');
    ok(rest($s{$third}, $new) eq $small[1], 'stopped: has all');

    is(join(' ', (stat $file)[9, 12]), "@before", 'stopped: nobody wrote');
    like($t->read_file('error.log'), qr/does not answer/, 'stopped: logged');

    kill 'CONT', $first;
    ok(rest($s{$first}, $r->[0]) eq $small[1], 'stopped: it goes on');

    $t->send_request($s{$second}, 'GET', $uri);
    $new = $t->read_header($s{$second});
    like($new->{h}{'cache-status'}, qr/hit/, 'stopped: all is stored');
    ok(rest($s{$second}, $new) eq $small[1], 'stopped: and right');
}

is($t->status()->{counters}{wakeup_fallbacks} // 0, 0, 'no wake-up was lost');

# it is killed, and so is the master, who would replace it

{
    my $uri = '/v2/slow/a/blobs/' . $t->digest($small[2]);
    my ($r, $first, $second, $third, %s) = two($uri, 'alone');

    my @children = $t->children();
    my $master = delete $t->{pids}{nginx};
    kill 'KILL', $master;
    ok(until_true(10, sub { $t->ended($master) }), 'alone: no master');
    kill 'KILL', $first;

    ok(rest($s{$second}, $r->[1]) eq $small[2], 'alone: who reads goes on');

    $t->send_request($s{$third}, 'GET', $uri);
    my $new = $t->read_header($s{$third}, 60);
    ok(rest($s{$third}, $new) eq $small[2], 'alone: another one, too');
    ok(until_true(10, sub {
        $t->get($uri, { Range => 'bytes=0-9' })->{h}{'cache-status'} =~ /hit/;
    }), 'alone: all is stored');

    kill 'KILL', @children;
    ok(until_true(10, sub { !grep { !$t->ended($_) } @children }),
        'alone: all of them are gone');
}

diag("$pulls pulls, $cut readers cut, $worst bytes fetched twice at most")
    if $full || $ENV{TEST_VERBOSE};

$t->done();
