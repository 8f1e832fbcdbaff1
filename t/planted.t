#!/usr/bin/perl

# Somebody has planted things in the cache's directory: in the place of each
# sort of file and directory a symbolic link, a FIFO, a socket, a directory, a
# second name of a file elsewhere, and another user's file, all of them before
# anything was asked for, and some of them after it was stored.
#
# What is asserted: whatever is pulled is right and comes at once; nothing
# outside is changed, removed or served; what was planted in a blob's place
# stays; each of these is said once, however often it is asked for.  A second
# name that is a leftover of the cache's own is no such thing.  The cache's
# directories themselves are not followed either, and nginx does not start.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha256 /;
use File::Basename qw/ basename dirname /;
use File::Path qw/ make_path rmtree /;
use IO::Socket::UNIX;
use POSIX qw/ mkfifo /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my (%blobs, %manifests);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($kind, $ref) = $q->{uri} =~ m!/(blobs|manifests)/(.+)$!;
    my $file = $kind && "$d/content/$kind-$ref";

    return $t->reply($c, $q, 404) if !$file || !-f $file;
    my $body = $t->read_file("content/$kind-$ref");
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($body) }, $body)
        if $kind eq 'manifests';
    return $t->reply_blob($c, $q, $body);
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k');

make_path("$d/content", "$d/outside", "$d/cache/blobs/sha256",
    "$d/cache/refs", "$d/cache/manifests");
chmod 0700, "$d/cache", map { "$d/cache/$_" } qw/ blobs blobs\/sha256 refs
    manifests /;

sub content {
    my ($kind, $body) = @_;
    my $digest = $t->digest($body);
    $t->write_file("content/$kind-$digest", $body);
    return $digest;
}

sub new_blob {
    my $body = $t->random_blob(150_000);
    my $digest = content('blobs', $body);
    $blobs{$digest} = $body;
    return $digest;
}

my $serial = 0;

sub new_manifest {
    my $body = '{"schemaVersion":2,"serial":' . ++$serial . '}';
    my $digest = content('manifests', $body);
    $manifests{$digest} = $body;
    return $digest;
}

sub place {
    my ($where, $hex) = @_;
    my $dir = "$d/cache/$where/" . substr($hex, 0, 2);
    return ($dir, "$dir/$hex");
}

# victims: files outside, whose state is kept

my $victims = 0;

sub victim {
    my $file = "$d/outside/victim" . ++$victims;
    open my $f, '>', $file or die $!;
    print $f "secret $victims\n" x 20 if $victims % 2;
    close $f;
    chmod 0644, $file;
    utime 1e9, 1e9, $file;
    return $file;
}

# its contents too, as some are empty

sub outside {
    my @all;
    for my $f (sort glob "$d/outside/* $d/outside/*/*") {
        my @s = stat $f or next;
        push @all, join ' ', basename($f), @s[2, 4, 5, 7, 9],
            -f $f ? $t->read_file(substr $f, 1 + length $d) : '';
    }
    return join "\n", @all;
}

my @sockets;

my %plant = (
    'a symbolic link' => sub { symlink victim(), $_[0] },
    'a dangling link' => sub {
        symlink "$d/outside/none" . ++$victims, $_[0] },
    'a FIFO' => sub { mkfifo($_[0], 0600) },
    'a socket' => sub {
        symlink dirname($_[0]), "$d/short";
        push @sockets, IO::Socket::UNIX->new(Listen => 1,
            Local => "$d/short/" . basename($_[0]));
        unlink "$d/short";
        if (!-S $_[0]) {

            # a name too long for it

            IO::Socket::UNIX->new(Listen => 1, Local => "$d/sock");
            rename "$d/sock", $_[0];
        }
    },
    'a directory' => sub { mkdir $_[0], 0700 },
    'a second name' => sub { link victim(), $_[0] },
);

if ($> == 0) {
    $plant{"another user's"} = sub {
        open my $f, '>', $_[0]; print $f 'x' x 100; close $f;
        chown 12345, 12345, $_[0]; chmod 0666, $_[0];
    };
}

sub planted {
    my ($kind, $dir, $name) = @_;
    mkdir $dir, 0700;
    $plant{$kind}->($name);
    lstat $name or die "$kind: $name: $!";
}


# before anything is there: blobs, sidecars, manifests, references

my (@pulls, @stay, %said);

for my $kind (sort keys %plant) {
    my $digest = new_blob();
    my ($dir, $name) = place('blobs/sha256', substr $digest, 7);
    planted($kind, $dir, $name);
    push @pulls, ["$kind: data", "/v2/m/a/blobs/$digest", $blobs{$digest}];
    push @stay, $name;
    $said{$name} = 1;

    $digest = new_blob();
    ($dir, $name) = place('blobs/sha256', substr $digest, 7);
    planted($kind, $dir, "$name.map");
    push @pulls, ["$kind: sidecar", "/v2/m/a/blobs/$digest",
        $blobs{$digest}];
    push @stay, "$name.map";
    $said{"$name.map"} = 1;

    $digest = new_manifest();
    ($dir, $name) = place('manifests', substr $digest, 7);
    planted($kind, $dir, $name);
    push @pulls, ["$kind: manifest", "/v2/m/a/manifests/$digest",
        $manifests{$digest}];
}

# whole subdirectories: the last two digits of a byte, so that no other blob
# comes there

my %taken = map { substr($_, 7, 2) => 1 } keys %blobs, keys %manifests;
my %other;

sub lone {
    my ($new) = @_;
    for (1 .. 2000) {
        my $digest = $new->();
        return $digest if !$taken{substr $digest, 7, 2}++;
        delete $blobs{$digest};
        delete $manifests{$digest};
    }
    die 'no place is left';
}

for my $where ('blobs/sha256', 'manifests') {
    for my $kind ('a symbolic link', 'a FIFO', "another user's") {
        next if !$plant{$kind};
        my $digest = lone($where eq 'manifests' ? \&new_manifest
            : \&new_blob);
        my $hex = substr $digest, 7;
        my ($dir, $name) = place($where, $hex);

        if ($kind eq 'a symbolic link') {
            my $out = "$d/outside/dir" . ++$victims;
            mkdir $out, 0755;
            for my $f ("$out/$hex", "$out/$hex.map") {
                open my $fh, '>', $f; print $fh 'mine'; close $fh;
                utime 1e9, 1e9, $f;
            }
            utime 1e9, 1e9, $out;
            symlink $out, $dir;
        } elsif ($kind eq 'a FIFO') {
            mkfifo($dir, 0600);
        } else {
            mkdir $dir, 0700;
            chown 12345, 12345, $dir;
        }
        push @pulls, $where eq 'manifests'
            ? ["$kind for a directory: manifest",
                "/v2/m/a/manifests/$digest", $manifests{$digest}]
            : ["$kind for a directory: blob", "/v2/m/a/blobs/$digest",
                $blobs{$digest}];
        push @stay, $dir;
        $said{$dir} = 1;
    }
}

my $before = outside();
my %was = map { $_ => join ' ', (lstat $_)[0 .. 2, 4, 5, 7, 9] } @stay;

$t->allow(qr/not a file of the cache/, qr/of a manifest failed/,
    qr/writing (manifest )?".*" failed/);
$t->start();

for my $i (1 .. 3) {
    for (@pulls) {
        my ($name, $uri, $body) = @$_;
        my $r = $t->get($uri, {}, 10);
        ok($r->{status} == 200 && $r->{body} eq $body, "$name: pull $i")
            or diag($r->{status} . ' ' . length $r->{body});
    }
}

is(outside(), $before, 'nothing outside was touched');

for (@stay) {
    is(join(' ', (lstat $_)[0 .. 2, 4, 5, 7, 9]), $was{$_},
        substr($_, 1 + length $d) . ' stays');
}

my $log = $t->read_file('error.log');

for (sort keys %said) {
    my %n;
    $n{$1}++ while $log =~
        /(\d+)#\d+: [^\n]*"\Q$_\E" is [^"\n]*not a file of the cache/g;
    my $most = (sort { $b <=> $a } values %n)[0];
    is($most, 1, substr($_, 1 + length $d) . ' is said once, by whoever');
}


# after a blob, a manifest and references were stored: everything at once

my $stored = new_blob();
my $uri = "/v2/m/b/blobs/$stored";
my $md = new_manifest();
my $muri = "/v2/m/b/manifests/$md";

sub refs { return grep { -f && !-l } glob "$d/cache/refs/*/*" }

for my $kind (sort keys %plant) {
    $t->stop();
    rmtree("$d/cache/$_") for qw/ refs blobs manifests /;
    $t->start();
    is($t->get($uri)->{body}, $blobs{$stored}, "$kind: a blob is stored");
    is($t->get($muri)->{body}, $manifests{$md}, "$kind: a manifest is");

    my $end = time() + 10;
    my ($mdir, $mname) = place('manifests', substr $md, 7);
    sleep 0.05 while (!-f $mname || refs() < 3) && time() < $end;
    $t->stop();

    my ($dir, $name) = place('blobs/sha256', substr $stored, 7);

    for my $f (refs(), $mname, "$name.map") {
        unlink $f;
        $plant{$kind}->($f);
    }

    $before = outside();
    $t->start();

    is($t->get($uri, {}, 10)->{body}, $blobs{$stored}, "$kind: a blob again");
    is($t->get($muri, {}, 10)->{body}, $manifests{$md},
        "$kind: a manifest again");
    is(outside(), $before, "$kind: nothing outside was touched");
}


# the directories of references, with all that is in them

for my $kind ('a symbolic link', 'a FIFO', "another user's") {
    next if !$plant{$kind};
    $t->stop();
    rmtree("$d/cache/$_") for qw/ refs blobs manifests /;
    $t->start();
    is($t->get($uri)->{body}, $blobs{$stored}, "$kind: a blob is stored");
    my $end = time() + 10;
    sleep 0.05 while refs() < 2 && time() < $end;
    $t->stop();

    my @dirs = glob "$d/cache/refs/*";

    for my $dir (@dirs) {
        if ($kind eq "another user's") {
            chown 12345, 12345, $dir;
            next;
        }
        rename $dir, "$d/outside/refs" . ++$victims;
        $kind eq 'a FIFO' ? mkfifo($dir, 0600)
            : symlink("$d/outside/refs$victims", $dir);
    }

    $before = outside();
    my $from = length $t->read_file('error.log');
    $t->start();
    is($t->get($uri, {}, 10)->{body}, $blobs{$stored}, "$kind: pull $_")
        for 1 .. 3;
    sleep 0.5;
    is(outside(), $before, "$kind for directories: nothing was touched");

    # (the manager looks, too, and says it for itself)

    my (%names, %lines, @lines);
    until_true(10, sub {
        @lines = grep { /\[crit\]/ } split /\n/,
            substr $t->read_file('error.log'), $from;
        %names = map { /"([^"]+)"/ ? ($1 => 1) : () } @lines;
        return keys %names >= @dirs;
    });
    for (@lines) {
        $lines{$1 . $2}++ if /(\d+#)\d+: (.*)/;
    }
    ok(keys %names == @dirs && keys %lines == @lines,
        "$kind for directories: each is said once, by whoever")
        or diag(join "\n", "of @dirs", @lines);
}


# a file of the cache with two names, as a process leaves it that died just
# then, is used, and has one name again

rmtree("$d/cache/$_") for qw/ refs blobs manifests /;
$t->stop();
$t->start();
is($t->get($uri)->{body}, $blobs{$stored}, 'a blob');

my $end = time() + 10;
sleep 0.05 while refs() < 2 && time() < $end;
$t->stop();

my @refs = refs();
my %inode = map { $_ => (stat $_)[1] } @refs;
link $_, "$_.12345.67.tmp" for @refs;
$t->start();

$log = length $t->read_file('error.log');
is($t->get($uri)->{body}, $blobs{$stored}, 'leftovers: a blob');
is_deeply([map { (stat $_)[1] } @refs], [map { $inode{$_} } @refs],
    'leftovers: the files of the references are the same');
is(join(' ', map { (stat $_)[3] } @refs), join(' ', map { 1 } @refs),
    'leftovers: they have one name again');
unlike(substr($t->read_file('error.log'), $log), qr/not a file of the cache/,
    'leftovers: nothing is said');
$t->stop();


# the directories themselves

for my $name ('blobs', 'blobs/sha256', 'refs', 'manifests') {
    rmtree("$d/cache/$_") for qw/ refs blobs manifests /;
    mkdir "$d/cache/blobs", 0700;
    my $out = "$d/outside/whole" . ++$victims;
    mkdir $out, 0755;
    utime 1e9, 1e9, $out;
    rmtree("$d/cache/$name");
    symlink $out, "$d/cache/$name";
    $before = outside();
    $t->write_file('error.log', '');
    eval { $t->start() };
    like($@, qr/oci cache directory ".*" can't be used: opening its "$name"/,
        "$name: nginx does not start");
    $t->stop();
    is(outside(), $before, "$name: nothing outside was touched");
    unlink "$d/cache/$name";
}

$t->write_file('error.log', '');
unlink "$d/nginx.pid";
$t->start();
is($t->get($uri)->{body}, $blobs{$stored}, 'and now it does');

$t->done();
