#!/usr/bin/perl

# min_free holds while a fill writes, also when somebody else takes the room
# that was there when it began: what nobody uses goes, and if that is not
# enough, the rest of the blob is passed through, without an error of the disk.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $mb = 1024 * 1024;

OCI->skip_all_unless('unshare');
plan(skip_all => 'no mount namespace here')
    if system("unshare -m mount -t tmpfs none /mnt >/dev/null 2>&1") != 0;

my (%blob, %digest, %by);

for (['old', 4], ['one', 12], ['two', 14], ['full', 14]) {
    my ($name, $n) = @$_;
    $blob{$name} = $t->random_blob($n * $mb + 77);
    $digest{$name} = $t->digest($blob{$name});
    $by{$digest{$name}} = $name;
}

# stops at half of what is asked for, while the file "hang" is there

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my $b = $blob{$by{$digest}};

    if (-e "$d/hang" && ($q->{to} // 0) > 1) {
        my ($from, $to) = ($q->{from}, $q->{to});
        my $n = int(($to - $from) / 2);
        print $c "HTTP/1.1 206 X\r\nContent-Length: ", $to - $from, "\r\n",
            "Content-Range: bytes $from-", $to - 1, '/', length $b,
            "\r\n\r\n", substr $b, $from, $n;
        for (1 .. 300) {
            last if !-e "$d/hang";
            sleep 0.1;
        }
        print $c substr $b, $from + $n, $to - $from - $n;
        return 1;
    }

    return $t->reply_blob($c, $q, $b);
});

my $cache;

sub start {
    my ($args) = @_;

    $t->conf(cache_args => "slice=1m $args", http => <<EOC);
oci_registry demo { url http://127.0.0.1:$port; stall_timeout 40s; }
EOC
    unlink "$d/nginx.pid";
    mkdir "$d/cache";
    $t->spawn('nginx', 'unshare', '-m', 'sh', '-c',
        "mount -t tmpfs -o size=32m,mode=0700 none $d/cache"
        . " && exec $OCI::BINARY -p $d/ -c $d/nginx.conf -e $d/error.log");
    $t->wait_port($t->{edge});
    $cache = "/proc/$t->{pids}{nginx}/root$d/cache";
}

sub avail {
    my ($blocks, $size) = split ' ', `stat -f -c '%a %S' $cache`;
    return $blocks * $size;
}

# leaves so many bytes

sub junk {
    my ($leave) = @_;
    my $n = avail() - $leave;
    open my $f, '>', "$cache/junk" or die "junk: $!";
    while ($n > 0) {
        my $written = syswrite $f, 'x' x ($n > 65536 ? 65536 : $n);
        last if !$written;
        $n -= $written;
    }
    close $f;
}

sub files {
    my $hex = substr $digest{$_[0]}, 7;
    return glob "$cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex*";
}

sub pull {
    my ($name) = @_;
    my $r = $t->get("/v2/m/blobs/$digest{$name}");
    $r->{right} = !$r->{cut} && $r->{body} eq $blob{$name};
    $r->{how} = $r->{h}{'cache-status'} // 'none';
    return $r;
}

# reads up to a third while the registry hangs, then does what it is told to,
# and reads on

sub pull_beside {
    my ($name, $code) = @_;

    $t->write_file('hang', '');
    my $s = $t->connect();
    $t->send_request($s, 'GET', "/v2/m/blobs/$digest{$name}");
    my $r = $t->read_header($s);
    my $n = length $r->{rest};

    while ($n < length($blob{$name}) / 3) {
        $n += (sysread $s, $r->{rest}, 65536, $n or last);
    }

    $code->();
    unlink "$d/hang";
    $t->read_body($s, $r, 'GET', 40);
    close $s;
    $r->{right} = !$r->{cut} && $r->{body} eq $blob{$name};
    return $r;
}

start('min_free=4m');

SKIP: {
    skip 'no way to the file system', 23 if !-d $cache;

    ok(pull('old')->{right}, 'an old one');
    is(pull('old')->{how}, 'nginx-oci; hit', 'is there');

    # what remains is enough if the old one goes

    my $r = pull_beside('one', sub { junk(9 * $mb) });
    ok($r->{right}, 'with less room: right');
    is_deeply([files('old')], [], 'with less room: the old one went');
    cmp_ok(avail(), '>=', 4 * $mb, 'with less room: min_free holds');
    is(pull('one')->{how}, 'nginx-oci; hit', 'with less room: stored');

    # nor does the other one go while somebody reads it

    unlink "$cache/junk";
    my $s = $t->connect();
    $t->send_request($s, 'GET', "/v2/m/blobs/$digest{one}");
    $r = pull_beside('two', sub { junk(5 * $mb) });
    ok($r->{right}, 'without room: right');
    cmp_ok(avail(), '>=', 4 * $mb, 'without room: min_free holds');
    my $log = $t->read_file('error.log');
    is(scalar(() = $log =~ /less than min_free is left/g), 1,
        'without room: said once');
    like($log, qr/the rest of a blob from \d+ on is passed/,
        'without room: passed through from there on');
    is($t->status()->{counters}{disk_errors}, 0, 'without room: no error');

    $r = pull('two');
    ok($r->{right}, 'without room: right again');

    # and then there is

    close $s;
    unlink "$cache/junk";
    ok(until_true(sub { pull('two')->{how} =~ /hit/ }), 'room again');
    ok(until_true(sub { $t->status()->{zones}{models}{reserved} == 0 }),
        'nothing stays reserved');

    # with no limit set a full disk is room for what is new, too

    $t->stop();
    start('');

    ok(pull('old')->{right}, 'no limit: an old one');
    $r = pull_beside('full', sub { junk(0) });
    ok($r->{right}, 'no limit: right');
    is_deeply([files('old')], [], 'no limit: the old one went');
    like($t->read_file('error.log'), qr/No space left/, 'no limit: but full');
    $t->allow(qr/No space left/);
}

$t->done();
