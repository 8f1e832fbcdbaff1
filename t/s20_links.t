#!/usr/bin/perl

# S20: links and strangers' files in the cache's directory.  At each level
# (the directory itself, blobs/, the algorithm, the two digits, a blob, its
# sidecar, refs/ and a file of it, manifests/ and one of it) stands what
# somebody else planted: a symlink to a directory or a file outside, one that
# dangles, one that loops, a hard link to a file outside, a fifo, a socket, a
# device, a directory in the place of a file, a file of another owner.  And a
# directory is exchanged for a symlink while the edge runs.
#
#   - what stands outside is neither changed (contents, mode, owner, times,
#     links) nor read nor added to, by workers, the manager or the loader;
#   - a client gets the right bytes all the same, or nginx does not start;
#   - a fifo holds nobody up; nothing is created through a link that dangles;
#   - a directory that others may write to is refused at the start.
#
# A fourth of the pairs, all with ATTACK=full.  The directory itself may
# be a link: oci_cache_path is the operator's word.
#
# See also planted.t, leftover.t, reborn.t (what is the edge's own), evict.t.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Socket::UNIX;
use POSIX qw/ mkfifo /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $cache = "$d/cache";
my $out = "$d/outside";
my $blob = $t->random_blob(300_000);
my $digest = $t->digest($blob);
my $manifest = '{"schemaVersion":2}';
my $mdigest = $t->digest($manifest);
my ($hex) = $digest =~ /:(.*)/;
my ($mhex) = $mdigest =~ /:(.*)/;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $mdigest }, $manifest)
        if $q->{uri} =~ /manifests/;
    return $t->reply_blob($c, $q, $blob);
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k inactive=2s manager_sleep=50ms');

# it is said

$t->allow(qr/oci|failed \(|No such|symbolic|regular|directory|damaged/);

# a world outside, whose state is looked at as a whole

sub outside {
    system("rm -rf $out");
    mkdir $out;
    mkdir "$out/dir";
    for my $f (qw/ file dir\/file /) {
        open my $h, '>', "$out/$f" or die;
        print $h 'precious ' x 1000;
        close $h;
        chmod 0640, "$out/$f";
        utime 1e9, 1e9, "$out/$f";
    }
    chmod 0750, "$out/dir";
    utime 1e9, 1e9, "$out/dir";
}

sub state {
    return join "\n", map {
        my @s = lstat $_;
        sprintf '%s %o %d %d %d %s', $_, @s[2, 4, 5, 9],
            -f $_ ? `cksum < $_` : '';
    } sort map { glob } "$out/*", "$out/*/*";
}

my %place = (
    blobs => 'blobs', alg => 'blobs/sha256',
    digits => 'blobs/sha256/' . substr($hex, 0, 2),
    blob => 'blobs/sha256/' . substr($hex, 0, 2) . "/$hex",
    sidecar => 'blobs/sha256/' . substr($hex, 0, 2) . "/$hex.map",
    refs => 'refs', manifests => 'manifests',
    mdigits => 'manifests/' . substr($mhex, 0, 2),
    manifest => 'manifests/' . substr($mhex, 0, 2) . "/$mhex",
);

my %plant = (
    'a link to a directory' => sub { symlink "$out/dir", $_[0] },
    'a link to a file' => sub { symlink "$out/file", $_[0] },
    'a link that dangles' => sub { symlink "$out/new", $_[0] },
    'a link that loops' => sub { symlink $_[0], $_[0] },
    'a hard link' => sub { link "$out/file", $_[0] },
    'a fifo' => sub { mkfifo($_[0], 0666) },
    'a socket' => sub {
        IO::Socket::UNIX->new(Local => $_[0], Listen => 1) },
    'a device' => sub { system("mknod $_[0] c 1 5 2>/dev/null") == 0 },
    'a directory' => sub { mkdir $_[0] },
    'a stranger\'s file' => sub {
        open my $f, '>', $_[0] or return 0;
        print $f 'x' x 5000;
        close $f;
        chown 65534, 65534, $_[0];
        chmod 0666, $_[0];
    },
);

sub pulls {
    my ($name) = @_;
    my $bad = '';
    for my $range ({}, { Range => 'bytes=70000-' }) {
        my $r = $t->get("/v2/m/blobs/$digest", $range, 20);
        my $want = %$range ? substr $blob, 70000 : $blob;
        $bad .= "blob $r->{status} " . length($r->{body}) . ' '
            if $r->{body} ne $want;
    }
    for my $ref ('v1', $mdigest) {
        my $r = $t->get("/v2/m/manifests/$ref", {}, 20);
        $bad .= "$ref $r->{status} " if $r->{body} ne $manifest;
    }
    return $bad;
}

my ($started, $refused) = (0, 0);

sub starts {
    my $ok = eval { $t->start(); 1 };
    $ok ? $started++ : $refused++;
    unlink "$d/nginx.pid" if !$ok;
    return $ok;
}

# each of them, before the start

my $i = 0;
for my $plant (sort keys %plant) {
    for my $place (sort keys %place) {
        my $path = "$cache/$place{$place}";
        my $name = "$plant as $place";
        next if $plant eq 'a directory' && $place =~ /^(?:blobs|alg|digits|refs
            |manifests|mdigits)$/x;
        next if $i++ % 4 && !$OCI::FULL;
        outside();
        system("rm -rf $cache; mkdir -p " . dirname($path));
        my $planted = $plant{$plant}->($path);
        next if !$planted;
        my $before = state();
        my $bad = '';
        if (starts()) {
            $bad = pulls();
            $t->stop();
        }
        is($bad, '', "$name: what is pulled is right");
        is(state(), $before, "$name: nothing outside is touched");
    }
}

# while it runs: what was a directory or a file leads outside

for my $place (sort keys %place) {
    for my $plant ('a link to a directory', 'a link to a file', 'a hard link')
    {
        my $path = "$cache/$place{$place}";
        next if $i++ % 4 && !$OCI::FULL;
        outside();
        system("rm -rf $cache $d/moved");
        $t->start();
        pulls();
        rename $path, "$d/moved";
        $plant{$plant}->($path);
        my $before = state();
        my $bad = pulls();
        is($bad, '', "$plant, exchanged for $place: right");
        $t->stop();
        is(state(), $before, "$plant, exchanged for $place: nothing outside");
    }
}

# the manager and the loader, whose own work is to look and to remove

outside();
system("rm -rf $cache; mkdir -p $cache/refs $cache/manifests");
mkdir "$cache/$_" for 'blobs', 'blobs/sha256';
symlink "$out/dir", sprintf "$cache/$_/%02x", 7
    for 'blobs/sha256', 'refs', 'manifests';
mkdir "$cache/blobs/sha256/08";
symlink "$out/dir", "$cache/blobs/sha256/08/08" . 'a' x 62;
link "$out/file", "$cache/blobs/sha256/08/08" . 'b' x 62;
my $before = state();
$t->start();
pulls();
sleep 3.5;
is(state(), $before, 'the manager removes nothing outside');
$t->stop();

# the directory itself

for my $mode (0777, 0757) {
    system("rm -rf $cache");
    mkdir $cache;
    chmod $mode, $cache;
    my ($rc, $text) = $t->check();
    isnt($rc, 0, sprintf 'mode %o is refused', $mode) or diag($text);
}
outside();
system("rm -rf $cache");
symlink "$out/dir", $cache;
$before = state();
my ($rc) = $t->check();
my $followed = $rc == 0 && starts();
diag("a link as the directory itself: " . ($followed ? 'followed' : 'refused'))
    if $ENV{TEST_VERBOSE};
if ($followed) {
    is(pulls(), '', 'a link as the directory itself is the operator\'s');
    $t->stop();
} else {
    is(state(), $before, 'a link as the directory itself is refused');
}
diag("$started started, $refused refused") if $ENV{TEST_VERBOSE};

unlink $cache;
$t->start();
is(pulls(), '', 'and without all that it works');

$t->done();
