#!/usr/bin/perl

# max_connections and rate of a registry hold over all workers.

use warnings;
use strict;

use Test::More;
use Fcntl qw/ :flock /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $size = 1024 * 1024;

my @blobs = map { $t->random_blob($size + $_) } 0 .. 9;
my @digest = map { $t->digest($_) } @blobs;
my %blob = map { $t->digest($_) => $_ } @blobs;
my @thin = map { $t->random_blob(2 * $size + $_) } 0 .. 3;
$blob{$t->digest($_)} = $_ for @thin;

# how many exchanges of fills run now, and ran at most

sub count {
    my ($n) = @_;
    open my $f, '+>>', "$t->{dir}/count" or die $!;
    flock $f, LOCK_EX;
    seek $f, 0, 0;
    my ($now, $max) = split / /, <$f> // '0 0';
    $now += $n;
    $max = $now if $now > $max;
    truncate $f, 0;
    print $f "$now $max";
    close $f;
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($who, $ref) = $q->{uri} =~ m!^/v2/(\w+)/.+/blobs/(.+)$!;
    my $blob = $blob{$ref};

    return $t->reply_blob($c, $q, $blob)
        if $who eq 'thin' || $q->{to} - $q->{from} == 1;

    if (-e "$t->{dir}/hang") {
        printf $c "HTTP/1.1 206 X\r\nContent-Length: %d\r\n"
            . "Content-Range: bytes %d-%d/%d\r\n\r\n",
            $q->{to} - $q->{from}, $q->{from}, $q->{to} - 1, length $blob;
        print $c substr($blob, $q->{from}, 1000);
        $t->write_file("hangs.$$", '');
        sleep 60;
        return 0;
    }

    count(1);
    printf $c "HTTP/1.1 206 X\r\nContent-Length: %d\r\n"
        . "Content-Range: bytes %d-%d/%d\r\n\r\n",
        $q->{to} - $q->{from}, $q->{from}, $q->{to} - 1, length $blob;
    print $c substr($blob, $q->{from}, $q->{to} - $q->{from} - 1);
    sleep 0.3;

    # whoever has the last byte may begin the next one

    count(-1);
    print $c substr($blob, $q->{to} - 1, 1);
    return 1;
}, quiet => 1);

$t->conf(http => "oci_registry two { url http://127.0.0.1:$port;"
    . " max_connections 2; }\n"
    . "oci_registry thin { url http://127.0.0.1:$port; rate 2m; }\n"
    . 'map $uri $registry { ~^/v2/thin/ thin; default two; }',
    location => 'location /v2/ { oci_pass $registry; oci_cache models; }');
$t->allow(qr/exited on signal 9/);
$t->start();

sub pull {
    my ($who, $data) = @_;
    my $r = $t->get("/v2/$who/a/blobs/" . $t->digest($data));
    return $r->{status} == 200 && $r->{body} eq $data ? 'right'
        : "$r->{status} " . length $r->{body};
}


# places

is(join(' ', $t->parallel(8, sub { pull('two', $blobs[$_[0]]) })),
    join(' ', ('right') x 8), 'eight blobs');
like($t->read_file('count'), qr/^0 2$/, 'two at once at most');


# those of workers that die are free again

$t->write_file('hang', '');
my @s = map {
    my $s = $t->connect();
    $t->send_request($s, 'GET', "/v2/two/a/blobs/$digest[$_]");
    $s;
} 8, 9;
ok(until_true(sub { (() = glob "$t->{dir}/hangs.*") == 2 }), 'two hang');
unlink "$t->{dir}/hang";

my @old = $t->workers();
kill 'KILL', @old;
ok(until_true(sub { my %w = map { $_ => 1 } $t->workers();
    keys %w == 2 && !grep { $w{$_} } @old }), 'their workers died');
close $_ for @s;

is(join(' ', $t->parallel(2, sub { pull('two', $blobs[8 + $_[0]]) })),
    'right right', 'others have their places');


# bytes a second

my $begin = time();
is(join(' ', $t->parallel(4, sub { pull('thin', $thin[$_[0]]) })),
    join(' ', ('right') x 4), 'four blobs of 2 MiB');
cmp_ok(time() - $begin, '>', 3, 'at 2 MiB a second');

$t->done();
