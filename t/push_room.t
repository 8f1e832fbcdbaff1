#!/usr/bin/perl

# "oci_push both": what a push makes go of the cache, and what it leaves as it
# was: those who announce much and bring little have no more than they brought,
# and a blob that is brought anew stays pinned.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $type = 'application/vnd.oci.image.manifest.v1+json';

my $kept = $t->random_blob(1_000_000);
my $digest = $t->digest($kept);
my $m = encode_json({ schemaVersion => 2, mediaType => $type, layers => [{
    mediaType => 'application/y', size => length $kept,
    digest => $digest }] });

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    if (($q->{h}{'transfer-encoding'} // '') eq 'chunked') {
        my $end = '';
        while ($end !~ /\r\n0\r\n\r\n\z/) {
            sysread $c, my $more, 1 << 20 or return 0;
            $end = substr $end . $more, -7 if length "$end$more" > 6;
        }
        $t->reply($c, $q, 201);
        return 0;
    }
    return $t->reply($c, $q, 201) if $q->{method} eq 'PUT';
    return $t->reply_blob($c, $q, $kept) if $q->{uri} =~ /\Q$digest\E/;
    return $t->reply($c, $q, 404, {}, '{}')
        unless $q->{uri} =~ m!/manifests/!;
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $t->digest($m) }, $m);
});

sub conf {
    my ($args) = @_;
    $t->conf(cache_args => "slice=64k $args", http => <<EOC,
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
EOC
        location => <<EOL);
location /v2/ {
    oci_pass demo; oci_access open; oci_cache models; oci_push both;
}
location /p2p/ { oci_preheat registry=demo open; }
EOL
}

sub file {
    my ($hex) = $_[0] =~ /:(.+)/;
    return "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";
}

sub copies { return scalar grep { -e } glob "$d/cache/uploads/*" }
sub reserved { return $t->status()->{zones}{models}{reserved} }

sub put {
    my ($blob) = @_;
    return $t->http($t->{edge}, 'PUT',
        '/v2/llm/m/blobs/uploads/u?digest=' . $t->digest($blob), {},
        $blob)->{status};
}

# is it there, once all has ended?

sub stored {
    my ($blob) = @_;
    return until_true(30, sub { -e file($t->digest($blob)) && !copies() });
}

# announced is most of what there may be, some hundred kilobytes come

conf('max_size=32m manager_sleep=50ms');
$t->start();

my @blobs = map { $t->random_blob(4_000_000) } 1 .. 5;
for (@blobs) {
    is(put($_), 201, 'pushed');
    ok(stored($_), 'stored');
}

sub there { return scalar grep { -e file($t->digest($_)) } @blobs }

my $s = $t->connect();
print $s "PUT /v2/llm/m/blobs/uploads/x?digest=$digest HTTP/1.1\r\n"
    . "Host: a\r\nContent-Length: 24000000\r\n\r\n", 'x' x 600_000;
ok(until_true(30, sub { copies() && reserved() }), 'a copy begins');
cmp_ok(reserved(), '<=', 2_000_000, 'no more is reserved than came twice');
is(there(), 5, 'and nothing has gone');
close $s;
ok(until_true(30, sub { !copies() && !reserved() }), 'it ends');

# one that is larger than all

$s = $t->connect();
print $s "PUT /v2/llm/m/blobs/uploads/x?digest=$digest HTTP/1.1\r\n"
    . "Host: a\r\nContent-Length: 64000000\r\n\r\n", 'x' x 600_000;
ok(until_true(30, sub {
    $t->read_file('error.log') =~ /no room for the copy of a push/ }),
    'one that is too large is not copied');
is(there(), 5, 'and nothing has gone');
close $s;
ok(until_true(30, sub { !copies() && !reserved() }), 'it ends');

# what comes has room

my $large = $t->random_blob(24_000_000);
is(put($large), 201, 'one that comes');
ok(stored($large), 'is stored');
cmp_ok(there(), '<', 5, 'in the place of others');

# and what does not say how much it is

my $open = $t->random_blob(16_000_000);
$s = $t->connect();
print $s 'PUT /v2/llm/m/blobs/uploads/u?digest=' . $t->digest($open)
    . " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
for (my $i = 0; $i < length $open; $i += 100_000) {
    my $part = substr $open, $i, 100_000;
    printf $s "%x\r\n%s\r\n", length $part, $part;
}
print $s "0\r\n\r\n";
is($t->read_header($s)->{status}, 201, 'one of no length');
close $s;
ok(stored($open), 'is stored, too');

# a blob that a job pinned, and that has lost a byte since

$t->stop_one('nginx');
unlink "$d/nginx.pid";
conf('');
$t->start();

my $h = { 'Content-Type' => 'application/json' };
my $r = $t->http($t->{edge}, 'POST', '/p2p/jobs', $h,
    encode_json({ ref => 'llm/m:v1', pin => '7d' }));
is($r->{status}, 202, 'a job');
my $job = decode_json($r->{body});
until_true(60, sub {
    $job = decode_json($t->get("/p2p/jobs/$job->{id}")->{body});
    $job->{state} =~ /success|failure/ });
is($job->{state}, 'success', 'pins a blob');

# (where ngx_oci_store.h has it)

sub pin {
    my $map = $t->read_file('cache/blobs/sha256/' . substr($digest, 7, 2)
        . '/' . substr($digest, 7) . '.map');
    return unpack 'Q', substr $map, 528, 8;
}

my $pin = pin();
is($pin, $job->{pin}, 'until when');

$t->stop_one('nginx');
unlink "$d/nginx.pid";
truncate file($digest), -1 + length $kept;
$t->start();

is(put($kept), 201, 'it is pushed');
ok(until_true(30, sub { -s file($digest) == length $kept && !copies() }),
    'and is whole again');
is(pin(), $pin, 'it is pinned as it was');

$t->done();
