#!/usr/bin/perl

# The cache's directory goes away, comes back, is another one, and another
# one's files are in its place, while two workers serve and one of them fills.
#
# What is asserted: each pull is right, at once, without a directory too;
# each change is said once, by one process, whatever the number of requests;
# what is back is used again, what is in another one is found; nothing is
# written to the one that was moved away; a reload does no harm.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use File::Find;
use File::Path qw/ rmtree /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my %blobs = map { my $b = $t->random_blob(200_000); $t->digest($b) => $b }
    1 .. 3;
my @digests = sort keys %blobs;
my $large = $t->random_blob(12_000_000);
my $ld = $t->digest($large);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($ref) = $q->{uri} =~ m!/blobs/(.+)$!;

    return $t->reply($c, $q, 404) if !$ref || !$blobs{$ref} && $ref ne $ld;
    return $t->reply_blob($c, $q, $blobs{$ref}) if $ref ne $ld;
    return $t->reply_blob($c, $q, $large) if $q->{method} eq 'HEAD'
        || !defined $q->{from} || ($q->{to} // 1e9) <= 64;

    # the large one stops in its middle until it may go on

    my ($from, $to) = ($q->{from} // 0, $q->{to} // length $large);
    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . '/'
        . length($large) . "\r\n\r\n", substr $large, $from, 2_000_000;
    for (1 .. 600) {
        last if -e "$d/go";
        sleep 0.05;
    }
    print $c substr $large, $from + 2_000_000, $to - $from - 2_000_000
        if $to - $from > 2_000_000;
    return 1;
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k');
$t->allow(qr/can't be used any more/);
$t->start();

my $last = 0;

# waits for a line, and for nothing else to be said

sub said {
    my ($re, $name) = @_;
    my $end = time() + 15;
    my $text;
    while (time() < $end) {
        $text = substr $t->read_file('error.log'), $last;
        last if $text =~ $re;
        sleep 0.05;
    }
    like($text, $re, "$name: it is said");
}

sub once {
    my ($name) = @_;
    my $text = substr $t->read_file('error.log'), $last;
    my @lines = grep { /oci cache directory/ } split /\n/, $text;
    is(@lines, 1, "$name: once") or diag(join "\n", @lines);
    my @other = grep { /\[(warn|error|crit|alert)\]/
        && !/oci cache directory/ } split /\n/, $text;
    is(join("\n", @other), '', "$name: and nothing else");
    $last = length $t->read_file('error.log');
}

# each from both workers, most likely

sub pull {
    my ($name, $n, @which) = @_;
    my (%how, $bad);
    for my $i (1 .. $n) {
        for my $digest (@which) {
            my $r = $t->get("/v2/m/a/blobs/$digest", {}, 10);
            $bad .= " $r->{status} " . length $r->{body}
                if $r->{status} != 200 || $r->{body} ne $blobs{$digest};
            my ($h) = ($r->{h}{'cache-status'} // 'none') =~ /(hit|fwd|none)/;
            $how{$h}++;
        }
    }
    is($bad, undef, "$name: the bytes are right");
    return \%how;
}

sub until_hit {
    my ($name, @which) = @_;
    for my $digest (@which) {
        my $end = time() + 15;
        my $how = {};
        while (time() < $end && !$how->{hit}) {
            my $r = $t->get("/v2/m/a/blobs/$digest", {}, 10);
            $how->{hit} = 1 if ($r->{h}{'cache-status'} // '') =~ /hit/
                && $r->{body} eq $blobs{$digest};
            sleep 0.05 if !$how->{hit};
        }
        ok($how->{hit}, "$name: a hit");
    }
}

sub tree {
    my ($dir) = @_;
    my @all;
    find({ no_chdir => 1, wanted => sub {
        my @s = lstat $_;
        push @all, join ' ', substr($_, length $dir), @s[1, 7, 9];
    } }, $dir);
    return join "\n", sort @all;
}

pull('at first', 1, @digests);
pull('at first', 1, @digests);

# gone

rename "$d/cache", "$d/aside" or die;
said(qr/cache" can't be used any more, requests are passed through: open/,
    'gone');
sleep 0.1;
my $before = tree("$d/aside");
my $how = pull('gone', 5, @digests);
is($how->{none}, 15, 'gone: passed through');
is($t->get('/v2/m/a/blobs/sha256:' . '0' x 64)->{status}, 404,
    'gone: and what there is none of');
is(tree("$d/aside"), $before, 'gone: nothing is written to what was moved');
once('gone');

# back

rename "$d/aside", "$d/cache" or die;
said(qr/cache" can be used again/, 'back');
$t->forget_requests();
until_hit('back', @digests);
$how = pull('back', 3, @digests);
is($how->{hit}, 9, 'back: hits');
is(scalar(grep { ($_->{h}{range} // '') !~ /bytes=0-0/ } $t->requests()), 0,
    'back: nothing was fetched');
once('back');

# another one

rename "$d/cache", "$d/aside" or die;
mkdir "$d/cache", 0700;
said(qr/cache" is another one now/, 'another one');
$before = tree("$d/aside");
until_hit('another one', @digests);
my ($hex) = $digests[0] =~ /:(.*)/;
is(-s "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex", 200_000,
    'another one: a blob is stored there');
is(tree("$d/aside"), $before, 'another one: not where it was');
my $text = substr $t->read_file('error.log'), $last;
is(scalar(() = $text =~ /oci cache directory/g), 1, 'another one: said once');
$last = length $t->read_file('error.log');

# a file in its place

rename "$d/cache", "$d/second" or die;
$t->write_file('cache', 'no directory');
said(qr/cache" can't be used any more/, 'a file');
$how = pull('a file', 3, @digests);
is($how->{none}, 9, 'a file: passed through');
once('a file');
is($t->read_file('cache'), 'no directory', 'a file: it is as it was');

# the first one again: what is in it is found without being asked for

unlink "$d/cache";
rename "$d/aside", "$d/cache" or die;
said(qr/cache" is another one now/, 'the first again');
my $end = time() + 15;
my $status;
do {
    sleep 0.1;
    $status = $t->status()->{zones}{models};
} while (time() < $end && $status->{blobs} != 3);
is($status->{blobs}, 3, 'the first again: what is there is known');
is($status->{bytes}, 600_000, 'the first again: and how much it is');
until_hit('the first again', @digests);
$text = substr $t->read_file('error.log'), $last;
is(scalar(() = $text =~ /oci cache directory/g), 1,
    'the first again: said once');
$last = length $t->read_file('error.log');

# everyone may write to it

chmod 0777, "$d/cache";
said(qr/cache" can't be used any more, .*: it is writable by everyone/,
    'for everyone');
$how = pull('for everyone', 2, @digests);
is($how->{none}, 6, 'for everyone: passed through');
once('for everyone');
chmod 0700, "$d/cache";
said(qr/cache" can be used again/, 'for everyone: again');
once('for everyone: again');

# a directory of another user, and a link to one by another

SKIP: {
    skip 'needs root', 12 if $> != 0;

    rename "$d/cache", "$d/aside";
    mkdir "$d/foreign", 0755;
    chown 12345, 12345, "$d/foreign";
    rename "$d/foreign", "$d/cache";
    said(qr/it belongs to another user than before/, "another user's");
    $how = pull("another user's", 2, @digests);
    is($how->{none}, 6, "another user's: passed through");
    is(join(' ', glob "$d/cache/*"), '', "another user's: it stays empty");
    once("another user's");

    rmdir "$d/cache";
    symlink "$d/aside", "$d/link";
    system 'chown', '-h', '12345', "$d/link";
    rename "$d/link", "$d/cache";

    # (it can't be used either, so nothing changes)

    $how = pull("another user's link", 2, @digests);
    is($how->{none}, 6, "another user's link: passed through");

    system 'chown', '-h', '0', "$d/cache";
    said(qr/cache" can be used again/, 'a link of root');
    until_hit('a link of root', $digests[0]);
    once('a link of root');

    unlink "$d/cache";
    rename "$d/aside", "$d/cache";
}

# in the middle of a pull: the fill goes on in the one that was moved

my $s = $t->connect();
$t->send_request($s, 'GET', "/v2/m/a/blobs/$ld", { Connection => 'close' });
my $r = $t->read_header($s);
is($r->{status}, 200, 'a pull begins');
rename "$d/cache", "$d/aside" or die;
mkdir "$d/cache", 0700;
said(qr/cache" is another one now/, 'in the middle');
$t->write_file('go', '');
$t->read_body($s, $r, 'GET', 30);
ok($r->{body} eq $large, 'in the middle: the bytes are right');
close $s;
$blobs{$ld} = $large;
until_hit('in the middle', $ld);

# removed, and made anew; a reload meanwhile makes it itself

rmtree("$d/cache");
said(qr/can't be used any more/, 'removed');
$how = pull('removed', 2, @digests);
is($how->{none}, 6, 'removed: passed through');
$t->signal('HUP');
said(qr/cache" is another one now/, 'a reload');
until_hit('a reload', @digests);
pull('a reload', 2, @digests, $ld);

$t->done();
