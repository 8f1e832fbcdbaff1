#!/usr/bin/perl

# S4: parsing of digests.  What is no digest is refused before any
# file is opened (strace watches the workers, where it can) and before the
# upstream hears of it; an algorithm that is not known here is passed through
# and opens no file either; a malformed digest in a registry's answer names
# none.
#
# See also route.t (every endpoint), unit/route.c, fuzz/route.c.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $x = 'a' x 64;
my $blob = 'what the last request asks for, ' x 10;
my $digest = $t->digest($blob);
my $body = '{"schemaVersion":2}';

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    if ($q->{uri} =~ m!/says/manifests/x$!) {
        return $t->reply($c, $q, 200, { 'Content-Type' =>
            $OCI::TYPE{manifest}, 'Docker-Content-Digest' =>
            $t->read_file('says') }, $body);
    }
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ m!/blobs/\Q$digest!;
    return $t->reply($c, $q, 404, {}, '{"errors":[]}');
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }");
$t->start();

# strace, if it is there and may

my @watch;

sub watch {
    return unless grep { -x "$_/strace" } split /:/, $ENV{PATH};
    for my $pid ($t->workers()) {
        my $child = fork() // die;
        if ($child == 0) {
            open STDERR, '>', "$d/strace.err";
            exec 'strace', '-f', '-qq', '-s', '1000', '-o', "$d/trace.$pid",
                '-e', 'trace=%file', '-p', $pid or POSIX::_exit(1);
        }
        push @watch, $child;
        for (1 .. 100) {
            last if `cat /proc/$pid/status` =~ /TracerPid:\s+[1-9]/;
            sleep 0.05;
        }
    }
}

sub unwatch {
    for (@watch) {
        kill 'TERM', $_;
        waitpid $_, 0;
    }
    return join '', map { $t->read_file($_) }
        map { s!.*/!!r } glob "$d/trace.*";
}

watch() unless $OCI::ASAN;

my %bad = (
    'short' => 'sha256:' . 'a' x 63,
    'long' => 'sha256:' . 'a' x 65,
    'upper case' => 'sha256:' . 'A' x 64,
    'one upper case' => 'sha256:' . 'a' x 63 . 'F',
    'not hex' => 'sha256:' . 'a' x 63 . 'g',
    'an upper case algorithm' => "SHA256:$x",
    'sha512, too short' => "sha512:$x",
    'no hex' => 'sha256:',
    'two colons' => "sha256::$x",
    'two algorithms' => "sha256:sha256:$x",
    'dots' => 'sha256:../../x',
    'dots of the length' => 'sha256:' . '../' x 21 . 'x',
    'escaped dots' => 'sha256:%2e%2e%2f%2e%2e%2fx',
    'a slash' => 'sha256:' . 'a' x 32 . '/' . 'a' x 31,
    'an escaped slash' => 'sha256:' . 'a' x 32 . '%2f' . 'a' x 31,
    'NUL, escaped' => 'sha256:' . 'a' x 64 . '%00',
    'NUL in it' => 'sha256:' . 'a' x 61 . '%00',
    'a space' => "sha256:%20$x",
    'an escaped hex digit' => 'sha256:' . 'a' x 63 . '%61',
    'twice escaped' => "sha256%253A$x",
    'two escaped colons' => "sha256%3A%3A$x",
    'no algorithm' => ":$x",
    'a separator at the end' => "sha256+:$x",
    'UTF-8' => "sha256:\xef\xbd\x81" . 'a' x 61,
    'a line' => "sha256:$x%0d%0aX:%20y",
);

for my $name (sort keys %bad) {
    for my $kind (qw/ blobs manifests referrers /) {
        for my $method (qw/ GET HEAD DELETE /) {
            my $r = $t->http($t->{edge}, $method,
                "/v2/m/$kind/$bad{$name}");
            is($r->{status}, $name eq 'a slash' ? 404 : 400,
                "$name: $method $kind");
        }
    }
}

my $raw = $t->raw("GET /v2/m/blobs/sha256:$x\0 HTTP/1.1\r\nHost: e\r\n"
    . "Connection: close\r\n\r\n");
like($raw, qr/^HTTP\/1.1 400 /, 'a raw NUL');

is(scalar($t->requests()), 0, 'the upstream heard of none');

# not known here; and where a digest is an argument it is the registry's

for my $uri ("/v2/m/blobs/blake3:$x", "/v2/m/manifests/md5:" . 'a' x 32,
    "/v2/m/blobs/multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46Hm")
{
    is($t->get($uri)->{status}, 404, "$uri: the upstream's answer");
}
for my $digest ('sha256:../../x', "sha256:$x/../y", 'sha256:%00') {
    is($t->http($t->{edge}, 'PUT', "/v2/m/blobs/uploads/1?digest=$digest",
        {}, 'x')->{status}, 404, "?digest=$digest: the upstream's answer");
    is($t->http($t->{edge}, 'POST',
        "/v2/m/blobs/uploads/?mount=$digest&from=x", {}, '')->{status}, 404,
        "?mount=$digest: the upstream's answer");
}

# the control: this one does open files

my ($hex) = $digest =~ /:(.+)/;
is($t->get("/v2/m/blobs/$digest")->{body}, $blob, 'a blob');
my $end = time() + 10;
sleep 0.1 while !-e "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex.map"
    && time() < $end;
my $trace = unwatch();

SKIP: {
    skip 'no strace here', 2 if $trace eq '';
    like($trace, qr/\Q$hex\E/, 'a blob opens its files');
    my @other = grep { !/\Q$hex\E/ && /aaaa|passwd|\.\.\/|blake3|md5|multi/ }
        split /\n/, $trace;
    is(join("\n", @other), '', 'nothing else opens one');
}

# what a registry says

for my $name (sort keys %bad, 'none') {
    my $says = $bad{$name} // 'x';
    $says =~ s/%0d%0a//;
    $t->write_file('says', $says);
    my $r = $t->get('/v2/says/manifests/x');
    my $own = $r->{status} == 200 ? $r->{h}{'cache-status'} // 'none' : 'none';
    is($own, 'none', "a registry says $name: not from the cache");
}

my @files = grep { -f } glob "$d/cache/*/* $d/cache/*/*/* $d/cache/*/*/*/*";
is(scalar(grep { !m!/refs/|/[0-9a-f]{64}(?:\.map)?$! } @files), 0,
    'no other names below the cache') or diag(@files);
is(scalar(grep { m!/manifests/! } @files), 0, 'no manifest');

$t->done();
