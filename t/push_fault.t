#!/usr/bin/perl

# "oci_push both" and a disk that fails, is slow, or hangs, at each call of
# each function: the push goes on as if there were no cache, and nothing
# wrong, or half, is left.

use warnings;
use strict;

use Test::More;
use Errno qw/ EACCES EIO ENOLCK ENOMEM ENOSPC EEXIST EINVAL /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Fault;

OCI->skip_all_unless('docker-registry');

my $t = OCI->new(workers => 2);
my $fault = Fault->new($t);
my $d = $t->{dir};
my $port = $t->registry();

my $h2 = OCI->port();

$t->conf(http => <<EOC,
oci_registry demo { url http://127.0.0.1:$port; }
server {
    listen 127.0.0.1:$h2 http2;
    location /v2/ { oci_pass demo; oci_cache models; oci_push both; }
}
EOC
    cache_args => 'slice=256k max_size=256m', location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; oci_push both; }
EOL
$fault->start();

my $n = 0;

sub file { return "$d/cache/blobs/sha256/" . substr($_[0], 7, 2) . '/'
    . substr $_[0], 7 }
sub copies { return scalar grep { -e } glob "$d/cache/uploads/*" }
sub reserved { return $t->status()->{zones}{models}{reserved} }

# in one piece, or in three; (status of the last one, digest, blob)

sub push_one {
    my ($pieces, $size) = @_;
    my $blob = pack('N', ++$n) . $t->random_blob($size // 600_000);
    my $digest = $t->digest($blob);
    my $r = $t->http($t->{edge}, 'POST', '/v2/llm/a/blobs/uploads/',
        { 'Content-Length' => 0 });
    my $l = $r->{h}{location} or return ($r->{status}, $digest, $blob);

    my $pos = 0;
    for (2 .. $pieces) {
        my $piece = substr $blob, $pos, int(length($blob) / $pieces);
        $r = $t->http($t->{edge}, 'PATCH', $l, { 'Content-Range' => "$pos-"
            . ($pos + length($piece) - 1) }, $piece);
        return ($r->{status}, $digest, $blob) if $r->{status} != 202;
        $l = $r->{h}{location};
        $pos += length $piece;
    }
    $r = $t->http($t->{edge}, 'PUT', "$l&digest=$digest", {},
        substr $blob, $pos);
    return ($r->{status}, $digest, $blob);
}

# the disk is well again: what is there is right, and nothing is left

sub check {
    my ($name, $status, $digest, $blob, %o) = @_;
    my @wrong;

    push @wrong, "status $status" if $status != 201 && !$o{fails};
    push @wrong, 'something stays reserved'
        unless until_true(20, sub { !reserved() });
    push @wrong, 'a copy stays'
        unless $o{stays} || until_true(20, sub { !copies() });
    if ($status == 201) {
        my $r = $t->http($port, 'GET', "/v2/llm/a/blobs/$digest");
        push @wrong, 'the registry has another' if $r->{body} ne $blob;
        $r = $t->get("/v2/llm/a/blobs/$digest");
        push @wrong, "a pull gets $r->{status}" if $r->{body} ne $blob;
    }
    is("@wrong", '', $name);
}

my ($status, $digest, $blob) = push_one(1);
check('well', $status, $digest, $blob);
ok(until_true(10, sub { -e file($digest) }), 'and stored');

# what the disk's failure makes of the next ones is not to be seen

sub rest { sleep 0.1; $t->get('/oci_status') for 1 .. 4 }

for my $f ([ open => EACCES ], [ open => ENOSPC ], [ mkdir => ENOSPC ],
    [ write => ENOSPC ], [ write => EIO ], [ write => $SHORT ],
    [ lock => ENOLCK ], [ rename => EIO ], [ rename => EEXIST ],
    [ rename => EINVAL ], [ unlink => EIO ], [ stat => EIO ],
    [ write => $DEATH ], [ rename => $DEATH ], [ unlink => $DEATH ])
{
    my ($name, $error) = @$f;
    my $dies = $error == $DEATH;

    for my $pieces (1, 3) {
        for my $i (1 .. 40) {

            # (after an error nothing is copied for some seconds)

            $fault->later(15);
            rest();

            $fault->arm($name, $i, $error);
            my @p = push_one($pieces);
            my (undef, $fired) = $fault->disarm();

            # what comes after the answer

            sleep 0.1;
            until_true(20, sub { $t->workers() == 2 }) if $dies;
            check("$name $i in $pieces: " . ($dies ? 'death' : $error), @p,
                fails => $dies && $fired, stays => $name eq 'unlink'
                || ($dies && $fired && $i > 1));
            last unless $fired;
        }
    }
}

# memory: a push may fail, but its like afterwards does not

for my $i (map { $_ * 7 } 1 .. 12) {
    $fault->later(15);
    rest();
    $fault->arm('memory', $i, ENOMEM);
    my @p = push_one(3);
    $fault->disarm();

    # what the client did not go on with is kept for a while

    $fault->later(700);
    rest();
    check("memory $i", @p, fails => 1);
}

# a disk that is slow: the client waits, and it is stored all the same

$fault->later(15);
rest();
$fault->arm('write', 3, 0, hang => 1);
my @p = $t->parallel(2, sub {
    my ($i) = @_;
    if ($i == 1) { sleep 2; $fault->release(); return '' }
    my @p = push_one(1, 20_000_000);
    return "$p[0] $p[1]";
});
$fault->disarm();
($status, $digest) = split / /, $p[0];
is($status, 201, 'a slow disk');
ok(until_true(10, sub { -e file($digest) }), 'it is stored');
is($t->digest($t->get("/v2/llm/a/blobs/$digest")->{body}), $digest,
    'and right');
unlike($t->read_file('error.log'), qr/takes too long/, 'nobody gave up');

# the same with HTTP/2

SKIP: {
    skip 'no curl with HTTP/2', 3 unless OCI::installed('curl')
        && `curl --version` =~ /HTTP2/;

    $blob = $t->random_blob(20_000_000);
    $digest = $t->digest($blob);
    my $body = $t->write_file('pushed', $blob);
    my $l = $t->http($t->{edge}, 'POST', '/v2/llm/a/blobs/uploads/',
        { 'Content-Length' => 0 })->{h}{location};
    $fault->arm('write', 3, 0, hang => 1);
    @p = $t->parallel(2, sub {
        my ($i) = @_;
        if ($i == 1) { sleep 2; $fault->release(); return '' }
        my $curl = 'curl -s --http2-prior-knowledge '
            . "-w '%{http_code} %{http_version}' -T $body";
        return `$curl 'http://127.0.0.1:$h2$l&digest=$digest'`;
    });
    $fault->disarm();
    is($p[0], '201 2', 'a slow disk, HTTP/2');
    ok(until_true(10, sub { -e file($digest) }), 'it is stored');
    is($t->digest($t->get("/v2/llm/a/blobs/$digest")->{body}), $digest,
        'and right');
}

# one that hangs: the push goes on

$fault->later(15);
rest();
$fault->arm('write', 3, 0, hang => 1);
@p = push_one(1, 20_000_000);
is($p[0], 201, 'a disk that hangs');
like($t->read_file('error.log'), qr/the copy of a push in .* takes too long/,
    'the copy is given up');
ok(!-e file($p[1]), 'it is not stored');
$fault->release();
$fault->disarm();
check('a disk that hung', @p);

$t->allow(qr/exited on signal 9/, qr/failed \(12: Cannot allocate memory\)/,
    qr/writing the copy of a push in/,
    qr/can't be used any more/,
    qr/(?:writing|open\(\)) "[^"]+\/refs\/.* failed \(/);
$t->done();
