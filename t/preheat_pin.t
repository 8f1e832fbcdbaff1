#!/usr/bin/perl

# "pin" of a job: what it warmed is evicted last, also after a restart, and
# goes all the same when nothing else is left.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $type = 'application/vnd.oci.image.manifest.v1+json';

# models of a blob of about a megabyte each

my (%blob, %manifest);

sub model {
    my ($tag) = @_;
    my $blob = $t->random_blob(1_000_000 + 7 * length $tag);
    my $m = encode_json({ schemaVersion => 2, mediaType => $type,
        layers => [{ mediaType => 'application/y', size => length $blob,
            digest => $t->digest($blob) }] });
    $blob{$t->digest($blob)} = $blob;
    $manifest{$tag} = $manifest{$t->digest($m)} = $m;
    return $t->digest($blob);
}

my %digest = map { $_ => model($_) } 'keep', 'old', map { "m$_" } 0 .. 19;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($what, $ref) = $q->{uri} =~ m!/v2/llm/m/(\w+)/(\S+)!
        or return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply_blob($c, $q, $blob{$ref}) if $blob{$ref};
    my $m = $manifest{$ref} // return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $t->digest($m) }, $m);
});

sub conf {
    my ($args) = @_;
    $t->conf(cache_args => "slice=64k $args", http => <<EOC,
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
EOC
        location => <<EOL);
location /v2/ { oci_pass demo; oci_access open; oci_cache models; }
location /p2p/ { oci_preheat registry=demo open referrers=off; }
EOL
}

sub call {
    my ($method, $path, $body) = @_;
    my $r = $t->http($t->{edge}, $method, "/p2p$path",
        { 'Content-Type' => 'application/json' },
        $body ? encode_json($body) : undef);
    return ($r->{status}, eval { decode_json($r->{body}) });
}

sub warm {
    my ($tag, $pin) = @_;
    my ($status, $job) = call('POST', '/jobs', { ref => "llm/m:$tag",
        $pin ? (pin => $pin) : () });
    is($status, 202, "$tag: a job") or return;
    my $id = $job->{id};
    until_true(60, sub { (undef, $job) = call('GET', "/jobs/$id");
        $job->{state} =~ /success|failure/ });
    return $job;
}

sub pull {
    my ($tag) = @_;
    my $r = $t->get("/v2/llm/m/blobs/$digest{$tag}");
    return $r->{body} eq $blob{$digest{$tag}} && $r->{h}{'cache-status'};
}

sub file {
    my ($tag) = @_;
    my ($hex) = $digest{$tag} =~ /:(..(.*))/;
    return "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";
}

sub stored { return $t->status()->{zones}{models}{bytes} }

my $max = 6 * 1024 * 1024;
conf('max_size=6m manager_sleep=50ms');
$t->start();

# what a pin may be

for my $c (['7d', 202], ['1y', 202], ['0', 422], ['', 422], ['2y', 422],
    ['x', 422], [7, 422], [undef, 422])
{
    my ($status) = call('POST', '/jobs', { ref => 'llm/none:x',
        pin => $c->[0] });
    is($status, $c->[1], 'pin ' . (defined $c->[0] ? "\"$c->[0]\"" : 'null'));
}

my $before = time();
my $job = warm('keep', '7d');
is($job->{state}, 'success', 'pinned');
cmp_ok(abs($job->{pin} - $before - 7 * 86400), '<', 10, 'until when');
is(warm('old')->{pin}, 0, 'another one is not');

# all that comes after it is used later

like(pull("m$_"), qr/nginx-oci/, "m$_ comes") for 0 .. 9;
until_true(30, sub { stored() < $max });
ok(-f file('keep'), 'pinned: it is there');
ok(!-f file('old'), 'what is not has gone');

my $mark = $t->upstream_bytes();
like(pull('keep'), qr/hit/, 'pinned: a hit');
cmp_ok($t->upstream_bytes() - $mark, '<', 1000, 'pinned: nothing is fetched');

# a restart doesn't know of it but from the disk

$t->stop();
$t->start();
like(pull("m$_"), qr/nginx-oci/, "after a restart, m$_ comes") for 10 .. 19;
until_true(30, sub { stored() < $max });
ok(-f file('keep'), 'pinned: it outlived a restart');
like(pull('keep'), qr/hit/, 'pinned: and is used');

# they do not take all room for themselves

for my $i (0 .. 9) {
    is(warm("m$i", '7d')->{state}, 'success', "m$i: pinned");
}

ok(until_true(30, sub { stored() < $max }), 'max_size holds');
my $n = grep { -f file($_) } 'keep', map { "m$_" } 0 .. 9;
cmp_ok($n, '<', 7, 'pinned ones went, too');
ok(-f file('m9'), 'the last one is there');

# nor does the pin's end come by want of use

$t->stop();
system("rm -rf $d/cache");
conf('inactive=2s manager_sleep=50ms');
$t->start();
is(warm('keep', '1h')->{state}, 'success', 'pinned');
is(warm('old')->{state}, 'success', 'another one');
ok(until_true(60, sub { !-f file('old') }), 'which goes unused');
ok(-f file('keep'), 'what is pinned stays');
my @kept = grep { (stat)[9] > time() + 3000 }
    glob "$d/cache/manifests/*/* $d/cache/refs/*/*";
cmp_ok(scalar grep({ m!/manifests/! } @kept), '>=', 1,
    'its manifest is pinned');
cmp_ok(scalar grep({ m!/refs/! } @kept), '>=', 3, 'and what leads there');

# a pin that comes while the same is being fetched, and a later one

$t->stop();
system("rm -rf $d/cache");
conf('');
$t->start();
is(warm('keep', '1h')->{state}, 'success', 'pinned for an hour');
is(warm('keep', '2d')->{state}, 'success', 'then for two days');
is(warm('keep', '1h')->{state}, 'success', 'an hour again');
open my $f, '<:raw', file('keep') . '.map' or die;
sysseek $f, 528, 0;
sysread $f, my $record, 8;
cmp_ok(abs(unpack('Q', $record) - time() - 2 * 86400), '<', 60,
    'the longest time counts');

$t->done();
