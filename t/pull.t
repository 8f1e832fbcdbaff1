#!/usr/bin/perl

# A blob from a real registry, cold and warm, with one worker and four: the
# bytes, the upstream's share of them, the headers, the variables.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha256_hex /;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('docker-registry');

my $t = OCI->new();
my $port = $t->registry();

my $size = 40 * 1024 * 1024 + 12345;
my $blob = $t->random_blob($size);

for my $workers (1, 4) {
    my $repo = "llm/w$workers";
    my $digest = $t->push_blob($repo, $blob);
    my $uri = "/v2/$repo/blobs/$digest";

    system("rm -rf $t->{dir}/cache");
    $t->{workers} = $workers;
    $t->conf(http => <<EOC);
oci_registry demo { url http://127.0.0.1:$port; }
log_format oci '\$request_method \$oci_route \$oci_repository \$oci_digest'
               ' \$oci_cache_status \$oci_verify_status \$oci_upstream_bytes';
access_log $t->{dir}/oci$workers.log oci;
EOC
    $t->start();

    my $r = $t->get($uri);
    is($r->{status}, 200, "$workers: cold status");
    ok($r->{body} eq $blob, "$workers: cold bytes");
    like($r->{h}{'cache-status'}, qr/^nginx-oci; fwd=uri-miss; stored/,
        "$workers: Cache-Status of a miss");

    my $up = $t->upstream_bytes();
    ok($up >= $size && $up <= $size + 1, "$workers: fetched once");

    $r = $t->get($uri);
    ok($r->{body} eq $blob, "$workers: warm bytes");
    like($r->{h}{'cache-status'}, qr/^nginx-oci; hit/,
        "$workers: Cache-Status of a hit");
    is($t->upstream_bytes(), $up, "$workers: nothing fetched again");

    # clients.md 1.2: on 200, 206 and HEAD alike

    my %seen = (200 => $r, 206 => $t->get($uri, { Range => 'bytes=5-9' }),
        HEAD => $t->head($uri));

    for my $k (sort keys %seen) {
        my $h = $seen{$k}{h};
        is($h->{'docker-content-digest'}, $digest, "$workers: $k digest");
        is($h->{etag}, "\"$digest\"", "$workers: $k ETag");
        is($h->{'accept-ranges'}, 'bytes', "$workers: $k Accept-Ranges");
        is($h->{'content-type'}, 'application/octet-stream',
            "$workers: $k Content-Type");
        is($h->{'docker-distribution-api-version'}, 'registry/2.0',
            "$workers: $k API version");
        ok(!exists $h->{'content-encoding'}, "$workers: $k no encoding");
        is($h->{'content-length'}, $k eq '206' ? 5 : $size,
            "$workers: $k Content-Length");
    }

    is($seen{206}{body}, substr($blob, 5, 5), "$workers: a range");

    # many clients at once on a cold blob

    my $cold = $t->random_blob(24 * 1024 * 1024);
    $digest = $t->push_blob($repo, $cold);
    $up = $t->upstream_bytes();

    my @sums = $t->parallel(16, sub {
        return sha256_hex($t->get("/v2/$repo/blobs/$digest")->{body});
    });

    is(scalar(grep { "sha256:$_" eq $digest } @sums), 16,
        "$workers: 16 clients at once have the right bytes");

    my $got = $t->upstream_bytes() - $up;
    ok($got >= length $cold && $got <= length($cold) + 16,
        "$workers: and it was fetched once") or diag("$got bytes");
    is($t->status()->{counters}{wakeup_fallbacks}, 0,
        "$workers: no lost wake-ups");

    $t->stop();

    my @log = split /\n/, $t->read_file("oci$workers.log");
    like($log[0], qr!^GET blob \Q$repo\E sha256:\w{64} MISS verified \d+$!,
        "$workers: variables of a miss");
    like((grep { /HIT/ } @log)[0],
        qr!^GET blob \Q$repo\E sha256:\w{64} HIT verified 0$!,
        "$workers: variables of a hit");
}

$t->done();
