#!/usr/bin/perl

# Many clients pull much more than a small disk has room for: no pull fails, no
# byte is wrong, what is stored is never more than max_size, the disk is never
# full, and no file stays that the index does not know.
#
# 60 MB and 300 MB of blobs; with DISK=full, 300 MB and 2 GiB.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use File::Find;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $full = ($ENV{DISK} // '') eq 'full';
my $mb = 1024 * 1024;
my ($max, $n, $size) = $full ? (300, 32, 64 * $mb) : (60, 30, 10 * $mb + 17);
my $clients = 16;
my $pulls = 5;          # of each client

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

# blobs have the same bytes but for the first four

my $base = $t->random_blob($size);
my @digests = map { $t->digest(pack('N', $_) . substr $base, 4) } 0 .. $n - 1;
my %by = map { $digests[$_] => $_ } 0 .. $n - 1;

sub part {
    my ($i, $from, $to) = @_;
    my $bytes = substr $base, $from, $to - $from;
    substr($bytes, 0, 4) = substr pack('N', $i), $from, 4 if $from == 0
        && $to >= 4;
    substr($bytes, 0, 1) = substr pack('N', $i), 0, 1 if $to == 1;
    return $bytes;
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my $i = $by{$digest // ''};
    return $t->reply($c, $q, 404) if !defined $i;

    my ($from, $to) = (0, $size);
    my $head = "HTTP/1.1 200 X\r\n";

    if (defined $q->{from}) {
        $from = $q->{from};
        $to = $q->{to} if defined $q->{to} && $q->{to} < $size;
        $head = "HTTP/1.1 206 X\r\nContent-Range: bytes $from-" . ($to - 1)
            . "/$size\r\n";
    }

    print $c $head . 'Content-Length: ' . ($to - $from) . "\r\n\r\n";

    for (my $pos = $from; $pos < $to; $pos += $mb) {
        my $end = $pos + $mb < $to ? $pos + $mb : $to;
        print $c part($i, $pos, $end) or return 0;
    }

    return 1;
}, quiet => 1);

$t->conf(cache_args => "slice=1m max_size=${max}m", http => <<EOC);
oci_registry demo { url http://127.0.0.1:$port; }
EOC

# a file system of its own, if there may be one; a bit larger, to see it

my $own = $> == 0
    && system("unshare -m mount -t tmpfs none /mnt >/dev/null 2>&1") == 0;
my $cache = "$d/cache";

if ($own) {
    my $room = $max + int($max / 8);
    mkdir $cache;
    $t->spawn('nginx', 'unshare', '-m', 'sh', '-c',
        "mount -t tmpfs -o size=${room}m,mode=0700 none $cache"
        . " && exec $OCI::BINARY -p $d/ -c $d/nginx.conf -e $d/error.log");
    $t->wait_port($t->{edge});
    my $path = "/proc/$t->{pids}{nginx}/root$cache";
    $cache = $path if -d $path;
    $own = 0 if !-d $path;

} else {
    $t->start();
}

sub used {
    if ($own) {
        my ($blocks, $free, $unit)
            = split ' ', `stat -f -c '%b %f %S' $cache`;
        return defined $unit ? ($blocks - $free) * $unit : 0;
    }

    my $bytes = 0;
    find({ no_chdir => 1, wanted => sub {
        my @s = lstat $_ or return;
        $bytes += $s[12] * 512 if -f _;
    } }, $cache);
    return $bytes;
}

# looks until the file "done" is there, five minutes at most

my $sampler = fork();

if ($sampler == 0) {
    my ($most, $looks) = (0, 0);
    my $end = time() + 300;
    while (!-e "$d/done" && time() < $end) {
        my $now = used();
        $most = $now if $now > $most;
        $looks++;
        sleep 0.05;
    }
    $t->write_file('samples', "$most $looks");
    POSIX::_exit(0);
}

# a pull, compared as it comes; undef, or what is wrong

sub pull {
    my ($i, $count) = @_;
    my $s = $t->connect();
    $t->send_request($s, 'GET', "/v2/m/blobs/$digests[$i]",
        { Connection => 'close' });
    my $r = $t->read_header($s, 60);
    return "status $r->{status}" if $r->{status} != 200;

    my ($buf, $pos) = ($r->{rest}, 0);
    my $ok = eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm 120;
        while (1) {
            if (length $buf) {
                my $end = $pos + length $buf;

                if ($pos == 0 && $end < 4) {
                    sysread $s, $buf, $mb, length $buf or last;
                    next;
                }

                die "wrong at $pos\n" if $end > $size
                    || $buf ne part($i, $pos, $end);
                $pos = $end;
            }
            sysread $s, $buf, $mb or last;
        }
        alarm 0;
        1;
    };
    alarm 0;
    close $s;
    return "blob $i: $@" if !$ok;
    return "blob $i: cut at $pos" if $pos != $size;

    my $how = $r->{h}{'cache-status'} // 'passed';
    $count->{$how =~ /hit/ ? 'hit' : $how =~ /stored/ ? 'stored'
        : 'passed'}++;
    return undef;
}

# two clients each go through the same blobs

my $started = time();

my @out = $t->parallel($clients, sub {
    my ($c) = @_;
    my (%count, @wrong);
    for my $j (0 .. $pulls - 1) {
        my $wrong = pull((int($c / 2) + $clients / 2 * $j) % $n, \%count);
        push @wrong, $wrong if defined $wrong;
    }
    return join ' ', map({ "$_=" . ($count{$_} // 0) } qw/ hit stored
        passed /), @wrong ? 'wrong: ' . join(', ', @wrong) : ();
});

my $took = time() - $started;
my @wrong = grep { !/^hit=\d+ stored=\d+ passed=\d+$/ } @out;
is(join("\n", @wrong), '', $clients * $pulls . ' pulls, none failed');

my %count;
for (@out) {
    $count{$1} += $2 while /(hit|stored|passed)=(\d+)/g;
}

cmp_ok($count{stored}, '>=', $pulls, 'many were stored');

note(sprintf '%d MB in %.1f s, %d hits, %d stored, %d passed through, '
    . '%.2f times from the registry', $clients * $pulls * $size / $mb, $took,
    $count{hit}, $count{stored}, $count{passed},
    ($t->upstream_bytes() || 0) / ($clients * $pulls * $size));

$t->write_file('done', '');
waitpid $sampler, 0;
my ($most, $looks) = split ' ', $t->read_file('samples');
cmp_ok($looks, '>=', 3, 'the disk was looked at');
cmp_ok($most, '<=', $max * $mb, "never more than max_size, $looks looks");
cmp_ok($most, '>', $max * $mb / 2, 'but much of it');
is(scalar(() = $t->read_file('error.log') =~ /No space left/g), 0,
    'the disk was never full');

# every file has its other one, and both an entry

sub files {
    my (%data, %map);
    for (glob "$cache/blobs/sha*/*/*") {
        /^(.*)\.map$/ ? $map{$1}++ : $data{$_}++;
    }
    my $pairs = grep { $data{$_} } keys %map;
    return ($pairs, keys(%data) + keys(%map) - 2 * $pairs);
}

my ($pairs, $odd, $zone);

for (1 .. 120) {
    ($pairs, $odd) = files();
    $zone = $t->status()->{zones}{models};
    last if $odd == 0 && $pairs == $zone->{blobs} && $zone->{reserved} == 0;
    sleep 0.5;
}

is($odd, 0, 'no file without its other one');
is($pairs, $zone->{blobs}, 'no file without an entry');
is($zone->{reserved}, 0, 'nothing stays reserved');
cmp_ok($zone->{bytes}, '<=', $max * $mb, 'max_size holds');

# nobody is in the way any more

my (%then, @last);
until_true(30, sub {
    push @last, map { pull(0, \%then) } 1, 2;
    return $then{hit};
});
is_deeply([grep { defined } @last], [], 'one more is right');
cmp_ok($then{hit} // 0, '>=', 1, 'and is stored');

$t->done();
