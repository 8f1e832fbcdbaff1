#!/usr/bin/perl

# What a crash can leave of the cache's files, state by state.
#
# What an edge writes while it fills its cache is recorded in order
# (t/faults/record.c), in five ways: a cold pull of a blob of several slices
# with its manifest, tag and references; the same by ranges, from the middle;
# a registry that sends wrong bytes; and the two recoveries of a blob of which
# a slice was lost in a power cut, from a registry that is right and from one
# that isn't.  From that the states are made that can be left
#
#   - by the death of the process: what was written up to any operation;
#   - by a power cut: the same under another boot id, where what was not
#     synced is there in part: all, nothing, all but one operation, only data,
#     only sidecars, pages of the sidecar apart, zeros for data, a last write
#     torn between two sectors.
#
# An edge is started on each of them, and is asked for ranges and for all.
# What is asserted:
#
#   - whatever the state and the registry: a whole blob that completes is
#     right, and what is called verified is, also where the registry sends
#     wrong bytes now;
#   - where nothing wrong was ever stored or sent, each byte that comes is
#     right, complete or not, with the registry dead, too;
#   - with a registry that is right the pull completes, at once where nothing
#     wrong was stored, else after a few tries; the second one comes from the
#     cache, verified; tag and manifest are right;
#   - with the registry dead, all of a blob that was stored comes from the
#     cache after the death of a process;
#   - no file stays that does not belong there (leftovers of atomic writes go
#     with the manager's first look).
#
# CRASH=full replays all states ("make crash"), else some of them.

use warnings;
use strict;

use Test::More;
use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use File::Find;
use File::Path qw/ rmtree /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use Crash;
use OCI;

my $lib = abs_path(dirname(__FILE__) . '/../build/faults/record.so');

plan(skip_all => 'not built, see "make preloads"') if !$lib || !-f $lib;

# the states of one sort that are replayed at most

my $some = ($ENV{CRASH} // '') eq 'full' ? 1e9 : $ENV{CRASH} || 14;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $slice = 65536;
my $size = 3 * $slice + 1234;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my $uri = "/v2/m/a/blobs/$digest";
my @range = ($slice + 50, $slice + 1049);

my $wrong = $blob;
substr($wrong, $_ * $slice + 100, 1) ^= "\1" for 0 .. 3;

my $manifest = JSON::PP->new->canonical->encode({ schemaVersion => 2,
    mediaType => $OCI::TYPE{manifest},
    layers => [{ mediaType => 'application/octet-stream', digest => $digest,
        size => $size }] });
my $md = $t->digest($manifest);

# a registry: "evil" sends wrong bytes, "slow" in small pieces

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($kind, $ref) = $q->{uri} =~ m!^/v2/m/a/(blobs|manifests)/(.+)$!;

    return $t->reply($c, $q, $q->{uri} eq '/v2/' ? 200 : 404) if !$kind;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $md }, $manifest) if $kind eq 'manifests';

    my $bytes = -e "$d/evil" ? $wrong : $blob;

    return $t->reply_blob($c, $q, $bytes)
        if !-e "$d/slow" || $q->{method} eq 'HEAD' || !defined $q->{from};

    my ($from, $to) = ($q->{from}, $q->{to} // $size);
    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";
    for (my $i = $from; $i < $to; $i += 40000) {
        print $c substr $bytes, $i, $to - $i < 40000 ? $to - $i : 40000;
        sleep 0.03;
    }
    return 1;
}, quiet => 1);

# nobody listens there

my $dead = OCI::port();

sub registry {
    my ($mode) = @_;
    unlink "$d/evil";
    $t->write_file('evil', '') if $mode eq 'evil';
    return $mode eq 'dead' ? $dead : $port;
}

# zones are cheap but for an eventfd for each worker that may come

my ($files) = `sh -c 'ulimit -n'` =~ /^(\d+)/;
my $zones = int((($files || 20000) - 300) / 70);
$zones = 100 if $zones > 100;

# an edge with a cache, and a host "zN", for each directory

sub edge {
    my ($mode, $boot, @dirs) = @_;
    my $port = registry($mode);
    my (@paths, @servers);

    $t->{edge} ||= OCI::port();

    for my $i (0 .. $#dirs) {
        push @paths, "oci_cache_path $dirs[$i] keys_zone=z$i:256k slice=64k;";
        push @servers, "server { listen 127.0.0.1:$t->{edge};"
            . " server_name z$i; location /v2/ { oci_pass demo;"
            . " oci_cache z$i; add_header X-Verify \$oci_verify_status; } }";
    }

    $t->write_file('boot', "$boot\n");
    $t->write_file("secret", "edge:canary-edge\n", 0600);
    local $ENV{LD_PRELOAD} = $lib;
    local $ENV{RECORD_BOOT_ID} = "$d/boot";

    $t->conf(cache => join("\n", @paths), http => <<EOC, location => '');
oci_access open;
oci_registry demo { url http://127.0.0.1:$port; credentials file $d/secret;
    breaker off; }
@{[join "\n", @servers]}
EOC
    $t->start();
}

# asks all zones at once; the responses

sub send_all {
    my ($zones, $path, %h) = @_;
    return map {
        my $s = $t->connect();
        $t->send_request($s, 'GET', $path, { Host => "z$_",
            Connection => 'close', %h });
        $s;
    } @$zones;
}

sub read_all {
    return map {
        my $r = $t->read_header($_, 60);
        $t->read_body($_, $r, 'GET', 60);
        $r;
    } @_;
}

sub ask { return read_all(send_all(@_)) }

sub whole {
    my ($r) = @_;
    return $r->{status} == 200 && length $r->{body} == $size;
}


# the recordings

my @boots = map { "0000000$_-1111-2222-3333-444444444444" } 0 .. 2;

sub record {
    my ($name, $mode, $boot, $base, $code) = @_;
    my $dir = "$d/cache-$name";
    my %inodes;

    if ($base) {
        Crash::write_state($base, $dir, 7200);
        %inodes = map { (stat "$dir/$_")[1] => $base->{names}{$_} }
            keys %{$base->{names}};
    }

    local $ENV{RECORD_DIR} = $dir;
    local $ENV{RECORD_LOG} = "$d/$name.log";

    $t->write_file('slow', '');
    edge($mode, $boots[$boot], $dir);
    $code->();

    # all is written when nothing more comes

    my ($end, $last, $since) = (time() + 20, 0, time());
    while (time() < $end && time() - $since < 0.7) {
        my $n = -s "$d/$name.log";
        ($last, $since) = ($n, time()) if $n != $last;
        sleep 0.05;
    }
    $t->stop();
    unlink "$d/slow";

    my @ops = Crash::read_log("$d/$name.log", %inodes);
    return { name => $name, boot => $boot, ops => \@ops,
        base => $base || Crash::empty() };
}

sub one { return (ask([0], @_))[0] }

sub range { return (Range => "bytes=$_[0]-$_[1]") }

my $cold = record('cold', 'good', 0, undef, sub {
    is(one('/v2/m/a/manifests/latest')->{body}, $manifest, 'cold: a tag');
    is(one("/v2/m/a/manifests/$md")->{body}, $manifest, 'cold: a manifest');
    ok(one($uri)->{body} eq $blob, 'cold: a blob');
});

my $parts = record('parts', 'good', 0, undef, sub {
    for my $i (2, 3, 0) {
        is(length one($uri, range($i * $slice + 7, $i * $slice + 99))->{body},
            93, 'parts: a range');
    }
    ok(one($uri)->{body} eq $blob, 'parts: a blob');
});

my $evil = record('evil', 'evil', 0, undef, sub {
    one($uri, range(2 * $slice + 7, 2 * $slice + 99));
    ok(!whole(one($uri)), 'evil: a blob');
    unlink "$d/evil";
    ok(one($uri)->{body} eq $blob, 'evil: and another one');
});

# a power cut took a slice of a blob that was verified

my $lost = Crash::apply($cold->{base}, $cold->{ops});
my ($data) = map { $lost->{names}{$_} } grep { m!^blobs/.*/\w{64}$! }
    keys %{$lost->{names}};
substr($lost->{data}{$data}, $slice, $slice) = "\0" x $slice;

my $again = record('again', 'good', 1, $lost, sub {
    is(length one($uri, range(@range))->{body}, 1000, 'again: a range');
    ok(one($uri)->{body} eq $blob, 'again: a blob');
});

my $false = record('false', 'evil', 1, $lost, sub {
    one($uri, range(@range));
    ok(!whole(one($uri)), 'false: a blob');
});

# some of what was written last: a pull was recorded to its end

for my $s ($cold, $parts, $again) {
    my $end = Crash::apply($s->{base}, $s->{ops});
    my ($file) = grep { m!^blobs/.*/\w{64}$! } keys %{$end->{names}};
    ok($file && $end->{data}{$end->{names}{$file}} eq $blob,
        "$s->{name}: what was recorded is what was stored");
}

# what was wrong may be stored: ranges of it are the registry's word

$_->{tainted} = 1 for $evil, $false;


# the replays

my (@bad, %replayed);

sub bad {
    my ($state, $what) = @_;
    push @bad, "$state->{where}: $what";
}

sub check_range {
    my ($s, $r, $mode, $name) = @_;
    my $want = substr $blob, $range[0], 1000;
    my $verified = ($r->{h}{'x-verify'} // '') eq 'verified';
    my $word = $s->{tainted} || $mode eq 'evil';

    if ($r->{status} == 206 && $r->{body} ne ''
        && $r->{body} ne substr $want, 0, length $r->{body})
    {
        bad($s, "$name: wrong bytes" . ($verified ? ', verified' : ''))
            if $verified || !$word;
    }
    bad($s, "$name: status $r->{status}, " . length $r->{body})
        if $mode eq 'good' && !$s->{tainted}
            && ($r->{status} != 206 || length $r->{body} != 1000);
}

sub check_whole {
    my ($s, $r, $mode, $name) = @_;
    if (whole($r)) {
        bad($s, "$name: wrong") if $r->{body} ne $blob;
    } elsif ($r->{status} == 200 && !$s->{tainted} && $mode ne 'evil') {
        bad($s, "$name: wrong bytes before it is cut")
            if $r->{body} ne substr $blob, 0, length $r->{body};
    }
}

sub strays {
    my ($dir) = @_;
    my ($hex, $mhex) = (substr($digest, 7), substr($md, 7));
    my @bad;
    find({ no_chdir => 1, wanted => sub {
        return unless -f;
        my $name = substr $_, 1 + length $dir;
        push @bad, $name unless
            $name =~ m!^blobs/sha256/../$hex(\.map)?$!
            || $name =~ m!^manifests/../$mhex$!
            || $name =~ m!^refs/../[0-9a-f]{64}$!;
    } }, $dir);
    return @bad;
}

sub replay_good {
    my (@s) = @_;
    my @all = 0 .. $#s;

    my @r = ask(\@all, $uri, range(@range));
    check_range($s[$_], $r[$_], 'good', 'a range') for @all;

    my @left = @all;
    for my $try (1 .. 5) {
        sleep 0.5 if $try > 1;
        @r = ask(\@left, $uri);
        my @next;
        for my $i (0 .. $#left) {
            my $s = $s[$left[$i]];
            check_whole($s, $r[$i], 'good', "pull $try");
            next if whole($r[$i]);
            push @next, $left[$i];
            bad($s, "pull $try: status $r[$i]{status}, "
                . length $r[$i]{body}) if !$s->{tainted} || $try == 5;
        }
        @left = @next or last;
    }

    @r = ask(\@all, $uri);
    for (@all) {
        check_whole($s[$_], $r[$_], 'good', 'stored');
        my $h = $r[$_]{h};
        my $how = join ', ', whole($r[$_]) ? 'whole' : 'cut',
            map { $h->{$_} // '' } qw/ x-verify cache-status /;
        bad($s[$_], "stored: $how")
            if $how ne 'whole, verified, nginx-oci; hit';
    }

    for my $ref ('latest', $md) {
        @r = ask(\@all, "/v2/m/a/manifests/$ref");
        $r[$_]{body} eq $manifest
            or bad($s[$_], "$ref: status $r[$_]{status}") for @all;
    }

    my $end = time() + 30;
    my @strays;
    for (@all) {
        @strays = strays($s[$_]{dir});
        redo if @strays && time() < $end && sleep 0.1;
        bad($s[$_], "stray: @strays") if @strays;
    }
}

sub replay_evil {
    my (@s) = @_;
    my @all = 0 .. $#s;

    my @r = ask(\@all, $uri, range(@range));
    check_range($s[$_], $r[$_], 'evil', 'a range') for @all;

    for my $name ('all', 'all again') {
        @r = ask(\@all, $uri);
        check_whole($s[$_], $r[$_], 'evil', $name) for @all;
    }

    for my $ref ('latest', $md) {
        @r = ask(\@all, "/v2/m/a/manifests/$ref");
        $r[$_]{status} != 200 || $r[$_]{body} eq $manifest
            or bad($s[$_], "$ref: wrong") for @all;
    }
}

sub replay_dead {
    my (@s) = @_;
    my @all = 0 .. $#s;

    # both at once: each waits until the fill has given up

    my @asked = (send_all(\@all, $uri, range(@range)),
        send_all(\@all, $uri));
    my @r = read_all(@asked);

    for (@all) {
        my ($part, $r) = @r[$_, $_ + @s];
        check_range($s[$_], $part, 'dead', 'a range');
        check_whole($s[$_], $r, 'dead', 'all');
        bad($s[$_], 'all: it was there') if $s[$_]{last} && !whole($r);
    }
}

sub replay {
    my ($mode, $boot, @s) = @_;
    my $code = { good => \&replay_good, evil => \&replay_evil,
        dead => \&replay_dead }->{$mode};

    while (my @part = splice @s, 0, $zones) {
        my $dir = "$d/replay";
        for my $i (0 .. $#part) {
            $part[$i]{dir} = "$dir/z$i";
            $part[$i]{where} =~ s/^\w+/$mode/;
            Crash::write_state($part[$i]{state}, "$dir/z$i", 7200);
        }
        edge($mode, $boots[$boot], map { $_->{dir} } @part);
        $code->(@part);
        ok($t->stop(), "$mode, boot $boot: nginx stopped");
        rmtree($dir);
        $replayed{$mode} += @part;
    }
}

sub pick {
    my ($n, @all) = @_;
    return @all if @all <= $n;
    my $step = @all / $n;
    my $from = rand $step;
    return @all[map { int($from + $_ * $step) } 0 .. $n - 1];
}

my $seed = $ENV{SEED} || int rand 1e6;
srand $seed;
note("SEED=$seed");

my %queue;

for my $sc ($cold, $parts, $evil, $again, $false) {
    my @states = Crash::states($sc->{base}, @{$sc->{ops}});

    note("$sc->{name}: " . @{$sc->{ops}} . ' operations, ' . @states
        . ' states');

    for my $kind (qw/ death cut /) {
        my @s = map { { state => $_->[2], tainted => $sc->{tainted},
            where => "mode: $sc->{name}, $kind, $_->[1]" } }
            grep { $_->[0] eq $kind } @states;

        my $boot = $sc->{boot} + ($kind eq 'cut');

        $s[-1]{last} = 1 if $kind eq 'death' && $sc != $false
            && $sc != $evil;

        for my $mode (qw/ good evil dead /) {
            push @{$queue{"$mode $boot"}}, pick($some, @s);
        }

        # what must come from the cache is among them

        push @{$queue{"dead $boot"}}, $s[-1] if $s[-1]{last};
    }
}

for (sort keys %queue) {
    replay(split(/ /), map { { %$_ } } @{$queue{$_}});
}

is(join("\n", @bad[0 .. ($#bad < 30 ? $#bad : 30)]), '',
    'nothing wrong came of any state') or diag(scalar(@bad) . ' in all');

my $n = 0;
$n += $_ for values %replayed;
diag("$n states replayed: " . join ', ', map { "$replayed{$_} $_" }
    sort keys %replayed) if ($ENV{CRASH} // '') eq 'full';
cmp_ok($n, '>=', 50, 'states were replayed');

$t->allow(qr/manifest file .* was damaged and is removed/);
$t->done();
