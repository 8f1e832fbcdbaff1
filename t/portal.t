#!/usr/bin/perl

# A registry that is suddenly behind a captive portal or a login page: 200 and
# a page to anything.  That proves nothing, grants nothing, withdraws nothing.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new();
my $page = '<html>please log in</html>';
my $good = { Authorization => 'Basic Z29vZDpnb29k' };

my @blobs = map { $t->random_blob(200000 + $_) } 0 .. 3;
my %blob = map { $t->digest($_) => $_ } @blobs;
my @digest = map { $t->digest($_) } @blobs;

my $manifest = '{"schemaVersion":2,"x":"' . 'y' x 100 . '"}';
my $md = $t->digest($manifest);

# how it is at the moment; "": a registry

sub mode { $t->write_file('mode', $_[0]) }

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my $mode = $t->read_file('mode');
    my ($kind, $ref) = $q->{uri} =~ m!^/v2/.+/(blobs|manifests)/(.+)$!;
    my %h = ('Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $md);

    return $t->reply($c, $q, 200,
        { 'Content-Type' => 'Text/HTML; charset=utf-8' }, $page)
        if $mode eq 'html';
    return $t->reply($c, $q, 200, { 'Content-Type' => 'text/plain' }, $page)
        if $mode eq 'plain';
    return $t->reply($c, $q, 206, { 'Content-Type' => 'text/html',
        'Content-Range' => 'bytes 0-0/26' }, '<') if $mode eq 'part';
    return $t->reply($c, $q, 206, { 'Content-Range' => 'bytes 1-1/200000' },
        'x') if $mode eq 'place';
    return $t->reply($c, $q, 200, { %h, 'Docker-Content-Digest' =>
        $t->digest('x') }, $manifest) if $mode eq 'other';
    return $t->reply($c, $q, 200, { %h, 'Docker-Content-Digest' =>
        'sha256:please-log-in' }, $manifest) if $mode eq 'malformed';

    if ($mode eq 'fill' && $q->{method} eq 'GET'
        && (!defined $q->{to} || $q->{to} - $q->{from} > 1))
    {
        $t->mode_off();
        print $c "HTTP/1.1 200 X\r\nContent-Type: text/html\r\n"
            . "Transfer-Encoding: chunked\r\n\r\n";
        printf $c "%x\r\n%s\r\n0\r\n\r\n", length $page, $page;
        return 1;
    }

    if (($q->{h}{authorization} // '') ne $good->{Authorization}) {
        return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
            'Basic realm="r"' }, '{"errors":[{"code":"UNAUTHORIZED"}]}');
    }
    return $t->reply($c, $q, 405, {}, '')
        if $q->{uri} =~ m!/nohead/! && $q->{method} eq 'HEAD';
    return $t->reply($c, $q, 200, \%h, $manifest) if $kind eq 'manifests';
    return $t->reply_blob($c, $q, $blob{$ref});
});

sub OCI::mode_off { mode('') }

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    location => <<EOL);
location /v2/ {
    oci_pass demo;
    oci_cache models;
    oci_cache_valid manifest 0;
}
location /v2/off/ {
    oci_pass demo;
    oci_cache models;
    oci_cache_valid manifest 0;
    oci_cache_use_stale off;
}
EOL
mode('');
$t->start();

sub uri { return "/v2/$_[0]/blobs/$digest[$_[1]]" }

# what is there, of several repositories, as rights are theirs

for my $repo (qw/ html plain part place fill off other malformed tag /) {
    for my $i (0 .. 2) {
        $t->get(uri($repo, $i), $good);
    }
    is($t->get("/v2/$repo/manifests/x", $good)->{body}, $manifest,
        "$repo: tag");
    is($t->get("/v2/$repo/manifests/$md", $good)->{body}, $manifest,
        "$repo: manifest");
}

$t->get('/v2/nohead/manifests/x', $good);

# blobs: nobody has a right that a page gave, and its size is not the blob's

for my $mode (qw/ html plain part place /) {
    mode($mode);

    my $r = $t->get(uri($mode, 0));
    ok($r->{body} ne $blobs[0], "$mode: nobody asks for a blob");

    $r = $t->get(uri($mode, 1));
    ok($r->{body} ne $blobs[1], "$mode: and for another");

    $r = $t->head(uri($mode, 0), $good);
    is($r->{h}{'content-length'}, length $blobs[0], "$mode: HEAD: the size")
        if $mode eq 'html';
    like($r->{h}{'cache-status'} // '', qr/detail=stale/, "$mode: HEAD: stale")
        if $mode eq 'html';

    $r = $t->head(uri($mode, 0));
    is($r->{h}{'cache-status'}, undef, "$mode: HEAD by nobody: passed")
        if $mode ne 'place';

    mode('');
    is($t->get(uri($mode, 1))->{status}, 401, "$mode over: nobody is nobody");

    $r = $t->get(uri($mode, 0), $good);
    ok($r->{body} eq $blobs[0], "$mode over: the blob");
    is($r->{h}{'cache-status'}, 'nginx-oci; hit', "$mode over: a hit");
}

# nor is a page the blob's bytes

mode('fill');
my $r = $t->get(uri('fill', 3), { %$good, Range => 'bytes=0-9' });
is($r->{body}, substr($blobs[3], 0, 10), 'no page in a blob');

# HEAD may not be known there: then it is GET's page

mode('html');
$r = $t->get('/v2/nohead/manifests/x', $good);
is($r->{body}, $manifest, 'GET, html: stale');

# manifests

for my $mode (qw/ html other malformed /) {

    for my $ref ('x', $md) {
        next if $mode eq 'malformed' && $ref eq $md;
        next if $mode eq 'other' && $ref eq 'x';

        my $uri = "/v2/$mode/manifests/$ref";
        my $kind = $ref eq 'x' ? 'tag' : 'by digest';

        mode($mode);
        $r = $t->get($uri, $good);
        is($r->{body}, $manifest, "$mode, $kind: stale");
        like($r->{h}{'cache-status'}, qr/detail=stale/, "$mode, $kind: so");
        $r = $t->head($uri, $good);
        is($r->{h}{'content-length'}, length $manifest,
            "$mode, $kind: HEAD");

        $r = $t->get($uri);
        is($r->{h}{'cache-status'}, undef, "$mode, $kind: nobody: passed");

        mode('');
        is($t->get(uri($mode, 0))->{status}, 401,
            "$mode, $kind: nobody is nobody");

        $r = $t->get($uri, $good);
        is($r->{body}, $manifest, "$mode over, $kind: byte-exact");
        like($r->{h}{'cache-status'}, qr/detail=revalidated/,
            "$mode over, $kind: still known");
        is($r->{h}{'content-type'}, $OCI::TYPE{manifest},
            "$mode over, $kind: its type");
    }
}

# a page is not a tag's manifest, however little is known

mode('html');
$r = $t->get('/v2/tag/manifests/y', $good);
is($r->{h}{'cache-status'}, undef, 'an unknown tag: passed');
is($r->{body}, $page, 'as it came');
$r = $t->get("/v2/off/manifests/$md", $good);
is($r->{h}{'cache-status'}, undef, 'use_stale off: passed');

like($t->read_file('error.log'), qr/\[warn\].*proves nothing: it is a page/,
    'it is said in the log');

$t->done();
