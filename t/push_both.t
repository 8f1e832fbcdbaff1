#!/usr/bin/perl

# "oci_push both": what is pushed through the edge is in its cache, and the
# next pull sends nothing upstream; whatever goes wrong is stored nowhere, and
# no push fails for the cache's sake.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Digest::SHA qw/ sha512_hex /;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('docker-registry');

$ENV{PATH} = "$ENV{TEST_CLIENTS}:$ENV{PATH}" if $ENV{TEST_CLIENTS};

my $t = OCI->new(workers => 4);
my $d = $t->{dir};
my $port = $t->registry();

# what this one says to the last request of an upload is in "answer": status,
# and headers

my $scripted = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($path) = split /\?/, $q->{uri};
    return $t->reply($c, $q, 404) if $q->{method} =~ /GET|HEAD/;
    return $t->reply($c, $q, 202, { Location => '/v2/s/a/blobs/uploads/u-'
        . (0 + keys %{{ map { $_ => 1 } glob "$d/u.*" }}) })
        if $q->{method} eq 'POST' && $q->{uri} !~ /digest=/;
    if ($q->{method} eq 'PATCH') {
        my $n = 30 * 20;
        sleep 0.05 while -e "$d/hold" && $n--;
        my ($last) = ($q->{h}{'content-range'} // '') =~ /-(\d+)/;
        $last //= $q->{h}{'content-length'} - 1;
        my $to = $t->read_file('to') || $path;
        return $t->reply($c, $q, 202, { Location => "$to?state=$q->{n}$last",
            Range => "0-$last" });
    }
    my ($status, %h) = split /[ \n]+/, $t->read_file('answer');
    return 0 if $status eq 'cut';
    return $t->reply($c, $q, $status, \%h);
});

my $both = 'oci_cache models; oci_push both;';

$t->conf(http => <<EOC, location => <<EOL, cache_args => 'slice=64k');
oci_registry demo { url http://127.0.0.1:$port; }
oci_registry scripted { url http://127.0.0.1:$scripted; }
oci_registry mapped { url http://127.0.0.1:$port; path here there/it; }
EOC
location /v2/ { oci_pass demo; $both }
location /v2/s/ { oci_pass scripted; $both }
location /v2/here/ { oci_pass mapped; $both }
location /v2/plain/ { oci_pass demo; oci_cache models; }
EOL

# what it refuses

sub refused {
    my ($text, $like) = @_;
    my $f = $t->read_file('nginx.conf');
    $f =~ s!location /v2/plain/ .*!$text!;
    my ($rc, $out) = $t->check($f);
    ok($rc != 0, "refused: $text");
    like($out, $like, 'and says why');
}

refused('location /v2/x/ { oci_pass demo; oci_cache models; oci_push all; }',
    qr/invalid value "all" in .*check\.conf:\d+/);
refused('location /v2/x/ { oci_pass demo; oci_push both; }',
    qr/"oci_push both" needs "oci_cache" in .*check\.conf:\d+/);
refused("location /v2/x/ { oci_pass demo; $both oci_push both; }",
    qr/"oci_push" directive is duplicate in .*check\.conf:\d+/);
refused('oci_push both; location /v2/x/ { oci_pass demo; }',
    qr/"oci_push" directive is not allowed here in .*check\.conf:\d+/);

$t->start();


sub file {
    my ($alg, $hex) = split /:/, $_[0];
    return "$d/cache/blobs/$alg/" . substr($hex, 0, 2) . "/$hex";
}

# copies that are under way, as files

sub copies { return scalar grep { -e } glob "$d/cache/uploads/*" }

sub stored {
    my ($digest) = @_;
    return until_true(30, sub { -e file($digest) && !copies() });
}

# all of it has ended, and it is not stored

sub nowhere {
    my ($digest, $name) = @_;
    ok(until_true(30, sub { !copies() }), "$name: no copy")
        or diag(join ' ', glob "$d/cache/uploads/*");
    ok(!-e file($digest), "$name: stored nowhere");
    ok(until_true(5, sub { !reserved() }), "$name: nothing is reserved");
}

sub reserved { return $t->status()->{zones}{models}{reserved} }

sub begin {
    my ($repo) = @_;
    my $r = $t->http($t->{edge}, 'POST', "/v2/$repo/blobs/uploads/",
        { 'Content-Length' => 0 });
    is($r->{status}, 202, 'an upload begins') if $r->{status} != 202;
    return $r->{h}{location};
}

sub put {
    my ($where, $digest, $body, $h) = @_;
    $where .= ($where =~ /\?/ ? '&' : '?') . "digest=$digest" if $digest;
    return $t->http($t->{edge}, 'PUT', $where, { 'Content-Length' => 0,
        %{$h || {}} }, $body);
}

sub patch {
    my ($where, $body, $from, $h) = @_;
    $h->{'Content-Range'} = "$from-" . ($from + length($body) - 1)
        if defined $from;
    return $t->http($t->{edge}, 'PATCH', $where, $h, $body);
}

# in chunks; the last one comes with PUT, or nothing does

sub chunked {
    my ($repo, $blob, $size, %o) = @_;
    my ($where, $pos, $r) = (begin($repo), 0);
    while (1) {
        my $chunk = substr $blob, $pos, $size;
        $o{between}->($pos) if $o{between};
        last if $pos + length $chunk == length $blob && !$o{empty};
        last if $chunk eq '';
        $r = patch($where, $chunk, $pos);
        is($r->{status}, 202, "chunk at $pos") if $r->{status} != 202;
        $where = $r->{h}{location};
        $pos += length $chunk;
    }
    my $rest = substr $blob, $pos;
    return put($where, $o{digest} // $t->digest($blob),
        length $rest ? $rest : undef,
        length $rest ? { 'Content-Range' => "$pos-" . (length($blob) - 1) }
        : {});
}

# a manifest that names blobs, by way of the edge

sub manifest {
    my ($repo, $tag, @blobs) = @_;
    my $m = JSON::PP->new->canonical->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest},
        config => { mediaType => 'application/x', size => length $blobs[0],
            digest => $t->digest($blobs[0]) },
        layers => [ map { { mediaType => 'application/x', size => length,
            digest => $t->digest($_) } } @blobs ] });
    $t->push_manifest($repo, $tag, $m, undef, $t->{edge});
    return $m;
}

# all is as it was pushed, and nothing came from the registry

sub pulled {
    my ($repo, $tag, $m, @blobs) = @_;
    my $name = "$repo:$tag";
    ok(stored($t->digest($_)), "$name: stored") for @blobs;
    my $digest = $t->digest($m);
    my $f = "$d/cache/manifests/" . substr($digest, 7, 2) . '/'
        . substr $digest, 7;
    ok(until_true(10, sub { -e $f }), "$name: and its manifest");

    my $before = $t->upstream_bytes();
    my $r = $t->get("/v2/$repo/manifests/$tag",
        { Accept => $OCI::TYPE{manifest} });
    is($r->{body}, $m, "$name: the manifest");
    is($r->{h}{'content-type'}, $OCI::TYPE{manifest}, "$name: its type");

    for my $b (@blobs) {
        $r = $t->get("/v2/$repo/blobs/" . $t->digest($b));
        ok($r->{body} eq $b, "$name: a blob");
        like($r->{h}{'cache-status'}, qr/hit/, "$name: from the cache");
    }
    is($t->upstream_bytes() - $before, 0, "$name: nothing came from upstream");

    for my $b (@blobs) {
        $r = $t->http($port, 'GET', "/v2/$repo/blobs/" . $t->digest($b));
        ok($r->{body} eq $b, "$name: the registry has it");
    }
}

# in one piece, sizes around slices and buffers

my @sizes = (1, 65535, 65536, 65537, 262144, 3 * 262144 + 1, 5_000_000);
my @blobs = map { $t->random_blob($_) } @sizes;
$t->push_blob('llm/one', $_, $t->{edge}) for @blobs;
pulled('llm/one', 'v1', manifest('llm/one', 'v1', @blobs), @blobs);

# the same again, and elsewhere

ok($t->push_blob('llm/one', $blobs[6], $t->{edge}), 'pushed again');
ok(stored($t->digest($blobs[6])), 'is still there');
my $r = $t->get('/v2/llm/stranger/blobs/' . $t->digest($blobs[6]));
is($r->{status}, 404, 'another repository does not have it');

# a large one, by a client that is slower than nothing

my $large = $t->random_blob(60_000_000);
$t->push_blob('llm/large', $large, $t->{edge});
pulled('llm/large', 'v1', manifest('llm/large', 'v1', $large), $large);

# in chunks, in all workers

my $blob = $t->random_blob(1_000_003);
is(chunked('llm/chunks', $blob, 100_000)->{status}, 201, 'in chunks');
my $blob2 = $t->random_blob(1_000_000);
is(chunked('llm/chunks', $blob2, 65536, empty => 1)->{status}, 201,
    'in chunks, the last one is empty');
my $blob3 = $t->random_blob(3_000_000);
my $where = begin('llm/chunks');
$r = patch($where, $blob3);
is($r->{status}, 202, 'as a stream');
is(put($r->{h}{location}, $t->digest($blob3))->{status}, 201, 'that ends');
pulled('llm/chunks', 'v1', manifest('llm/chunks', 'v1', $blob, $blob2,
    $blob3), $blob, $blob2, $blob3);

# chunked transfer coding, byte by byte in the end

$blob = $t->random_blob(300_000);
$where = begin('llm/coding');
my $s = $t->connect();
$where .= '&digest=' . $t->digest($blob) =~ s/:/%3A/r;
print $s "PUT $where HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    . "Transfer-Encoding: chunked\r\n\r\n";
for (my $i = 0; $i < length $blob; $i += 70000) {
    my $c = substr $blob, $i, 70000;
    print $s sprintf("%x\r\n", length $c), $c, "\r\n";
    sleep 0.02;
}
print $s "0\r\n\r\n";
is($t->read_header($s)->{status}, 201, 'with a transfer coding');
close $s;
pulled('llm/coding', 'v1', manifest('llm/coding', 'v1', $blob), $blob);

# repositories that have another name there

$blob = $t->random_blob(200_000);
is(chunked('here/a', $blob, 50_000)->{status}, 201, 'mapped');
ok(stored($t->digest($blob)), 'is stored');
$r = $t->get('/v2/here/a/blobs/' . $t->digest($blob));
ok($r->{body} eq $blob, 'and served');

# where it is not asked for

$blob = $t->random_blob(200_000);
$t->push_blob('plain/a', $blob, $t->{edge});
nowhere($t->digest($blob), 'without "oci_push both"');

# a tag moves with the next push

my ($a, $b) = map { manifest('llm/one', 'moves', $_) } @blobs[0, 1];
is($t->get('/v2/llm/one/manifests/moves',
    { Accept => $OCI::TYPE{manifest} })->{body}, $b, 'a tag that moved');

# one that is there already, in part

$blob = $t->random_blob(2_000_000);
$t->push_blob('llm/part', $blob);
my $digest = $t->digest($blob);
$t->get("/v2/llm/part/blobs/$digest", { Range => 'bytes=0-9' });
$t->push_blob('llm/part', $blob, $t->{edge});
$r = $t->get("/v2/llm/part/blobs/$digest");
ok($r->{body} eq $blob, 'one that was there in part');

# a client that leaves

$blob = $t->random_blob(3_000_000);
$digest = $t->digest($blob);
$where = begin('llm/left');
$s = $t->connect();
print $s "PUT $where&digest=$digest HTTP/1.1\r\nHost: a\r\n"
    . "Content-Length: 3000000\r\n\r\n", substr $blob, 0, 2_000_000;
ok(until_true(sub { copies() }), 'a copy begins');
close $s;
nowhere($digest, 'the client left');

# a wrong digest

$where = begin('llm/wrong');
$digest = $t->digest('other');
is(put($where, $digest, $blob)->{status}, 400, 'a wrong digest');
nowhere($digest, 'a wrong digest');
nowhere($t->digest($blob), 'nor by the right one');
is(chunked('llm/wrong', $blob, 500_000, digest => $digest)->{status}, 400,
    'in chunks');
nowhere($digest, 'a wrong digest in chunks');

# an upload that is cancelled

$where = begin('llm/cancelled');
$r = patch($where, $blob, 0);
ok(until_true(sub { copies() == 2 }), 'a copy waits');
is($t->http($t->{edge}, 'DELETE', $r->{h}{location})->{status}, 204,
    'its upload is cancelled');
nowhere($t->digest($blob), 'cancelled');

# what only the scripted registry says

sub answer { $t->write_file('answer.tmp', $_[0]);
    rename "$d/answer.tmp", "$d/answer" }

sub scripted {
    my ($answer, $name, $body, $digest) = @_;
    answer($answer);
    my ($status) = split /[ \n]/, $answer;
    $status = 502 if $status eq 'cut';
    $digest //= $t->digest($body);
    my $r = put('/v2/s/a/blobs/uploads/one', $digest, $body);
    is($r->{status}, $status, "$name: as the registry said");
}

$blob = $t->random_blob(150_000);
$digest = $t->digest($blob);
for my $a (200, 202, 400, 401, 403, 404, 413, 500, 503, 'cut') {
    scripted($a, "answer $a", $blob);
    nowhere($digest, "answer $a");
}
scripted(201, 'the edge knows better', $blob, $t->digest('it'));
nowhere($t->digest('it'), 'the edge knows better');
scripted('201 Docker-Content-Digest ' . $t->digest('it'), 'another digest',
    $blob);
nowhere($digest, 'another digest');

scripted(201, 'taken', $blob);
ok(stored($digest), 'taken: stored');
scripted("201 Docker-Content-Digest $digest", 'taken', $blob);

my $long = 'sha512:' . sha512_hex($blob);
scripted(201, 'sha512', $blob, $long);
ok(stored($long), 'sha512: stored');

# an upload in one POST

$blob = $t->random_blob(120_000);
answer(201);
$r = $t->http($t->{edge}, 'POST', '/v2/s/a/blobs/uploads/?digest='
    . $t->digest($blob), {}, $blob);
is($r->{status}, 201, 'one POST');
ok(stored($t->digest($blob)), 'one POST: stored');

# what a registry may read in another way than the edge

my $two = $t->digest('it');
for my $c ("%64igest=$two&digest=", "digest=$two;digest=",
    "DIGEST=$two&digest=", "+digest=$two&digest=")
{
    $blob = $t->random_blob(120_000);
    $r = $t->http($t->{edge}, 'PUT', '/v2/s/a/blobs/uploads/way?' . $c
        . $t->digest($blob), {}, $blob);
    is($r->{status}, 201, "$c: as the registry said");
    nowhere($t->digest($blob), $c);
}
for my $c ("mount=$two&mount=$two", "%6dount=$two") {
    $blob = $t->random_blob(120_000);
    $r = $t->http($t->{edge}, 'POST', "/v2/s/a/blobs/uploads/?$c&digest="
        . $t->digest($blob), {}, $blob);
    is($r->{status}, 201, "$c: as the registry said");
    nowhere($t->digest($blob), $c);
}
$blob = $t->random_blob(120_000);
is(put('/v2/s/a/blobs/uploads/form', $t->digest($blob), $blob, {
    'Content-Type' => 'application/x-www-form-urlencoded' })->{status}, 201,
    'a form');
nowhere($t->digest($blob), 'a form');

# the registry changes the upload's path

$blob = $t->random_blob(300_000);
$t->write_file('to', '/v2/s/a/blobs/uploads/two');
$r = patch('/v2/s/a/blobs/uploads/from', substr($blob, 0, 200_000), 0);
is($r->{status}, 202, 'another path');
is(put('/v2/s/a/blobs/uploads/two?x=1', $t->digest($blob),
    substr($blob, 200_000))->{status}, 201, 'and on there');
ok(stored($t->digest($blob)), 'another path: stored');
unlink "$d/to";

# out of order, and the registry takes it

$blob = $t->random_blob(300_000);
answer(201);
$r = patch('/v2/s/a/blobs/uploads/order', substr($blob, 0, 200_000), 0);
$r = patch($r->{h}{location}, substr($blob, 250_000), 250_000);
is(put($r->{h}{location}, $t->digest($blob), substr($blob, 200_000))->{status},
    201, 'out of order');
nowhere($t->digest($blob), 'out of order');

# two requests of one upload at once

$blob = $t->random_blob(300_000);
$t->write_file('hold', '');
my @r = $t->parallel(2, sub {
    my ($i) = @_;
    if ($i) {
        until_true(sub { copies() });
        my $r = put('/v2/s/a/blobs/uploads/both', $t->digest($blob), $blob);
        unlink "$d/hold";
        return $r->{status};
    }
    return patch('/v2/s/a/blobs/uploads/both', substr($blob, 0, 200_000),
        0)->{status};
});
is_deeply(\@r, [ 202, 201 ], 'two at once');
nowhere($t->digest($blob), 'two at once');

# a manifest that the registry does not take, and one that it makes another of

my $m = '{"schemaVersion":2,"n":1}';
my $f = "$d/cache/manifests/" . substr($t->digest($m), 7, 2) . '/'
    . substr $t->digest($m), 7;
for my $a (400, 500, '201 Docker-Content-Digest ' . $t->digest('it')) {
    answer($a);
    $r = $t->http($t->{edge}, 'PUT', '/v2/s/a/manifests/t',
        { 'Content-Type' => $OCI::TYPE{manifest} }, $m);
    is($r->{status}, substr($a, 0, 3), "a manifest: $a");
}
sleep 0.3;
ok(!-e $f, 'is not stored');
answer(201);
$t->http($t->{edge}, 'PUT', '/v2/s/a/manifests/t',
    { 'Content-Type' => $OCI::TYPE{manifest} }, $m);
ok(until_true(10, sub { -e $f }), 'one that is taken is');

# a reload between chunks

$blob = $t->random_blob(400_000);
my %before = map { $_ => 1 } $t->workers();
$r = chunked('llm/reload', $blob, 100_000, between => sub {
    return if $_[0] != 200_000;
    $t->signal('HUP');
    until_true(sub { my @w = grep { !$before{$_} } $t->workers();
        @w >= 4 && !grep { $before{$_} } $t->workers() });
});
is($r->{status}, 201, 'a reload between chunks');
pulled('llm/reload', 'v1', manifest('llm/reload', 'v1', $blob), $blob);

# a worker that dies while it copies

$blob = $t->random_blob(3_000_000);
$digest = $t->digest($blob);
$where = begin('llm/killed');
$s = $t->connect();
print $s "PUT $where&digest=$digest HTTP/1.1\r\nHost: a\r\n"
    . "Content-Length: 3000000\r\n\r\n", substr $blob, 0, 2_000_000;
ok(until_true(sub { copies() }), 'a copy begins');
$t->allow(qr/exited on signal 9/);
kill 'KILL', $t->workers();
close $s;
nowhere($digest, 'the worker died');
until_true(sub { $t->workers() == 4 });

# all of nginx does

$where = begin('llm/killed');
is(patch($where, $blob, 0)->{status}, 202, 'an upload begins');
ok(until_true(sub { copies() == 2 }), 'a copy is left');
my @w = $t->workers();
my @all = ($t->{pids}{nginx}, $t->children($t->{pids}{nginx}));
kill 'KILL', @all;
waitpid $t->{pids}{nginx}, 0;
until_true(sub { !grep { kill 0, $_ } @all });
unlink "$d/nginx.pid";
$t->write_file('cache/uploads/0123456789abcdef', 'left');
$t->write_file('cache/uploads/other', 'kept');
$t->start();
ok(until_true(sub { copies() == 1 }), 'is removed at the next start');
ok(-e "$d/cache/uploads/other", 'what is not of the cache stays');
unlink "$d/cache/uploads/other";

# no room

for my $args ('max_size=1m', 'min_free=8000t') {
    $t->stop_one('nginx');
    unlink "$d/nginx.pid";
    my $c = $t->read_file('nginx.conf');
    $c =~ s/keys_zone=models:8m .*;/keys_zone=models:8m slice=64k $args;/;
    $t->write_file('nginx.conf', $c);
    $t->start();

    $blob = $t->random_blob(3_000_000);
    ok($t->push_blob('llm/full', $blob, $t->{edge}), "$args: pushed");
    nowhere($t->digest($blob), $args);
    is(chunked('llm/full', $blob, 600_000)->{status}, 201,
        "$args: in chunks");
    nowhere($t->digest($blob), "$args, in chunks");
}

# real clients

$t->stop_one('nginx');
unlink "$d/nginx.pid";
my $c = $t->read_file('nginx.conf');
$c =~ s/ min_free=8000t//;
$t->write_file('nginx.conf', $c);
$t->start();

my $there = $t->registry(name => 'there');
my $from = "127.0.0.1:$there/llm/source:v1";
my $to = "127.0.0.1:$t->{edge}/llm";

my %push = (
    skopeo => 'skopeo copy --insecure-policy --src-tls-verify=false'
        . " --dest-tls-verify=false docker://$from docker://$to/skopeo:v1",
    oras => "oras cp --from-plain-http --to-plain-http $from $to/oras:v1",
    crane => "crane copy --insecure $from $to/crane:v1",
);

my %pull = (
    skopeo => 'skopeo copy --insecure-policy --src-tls-verify=false'
        . " docker://$to/skopeo:v1 dir:$d/skopeo.out",
    oras => "oras cp --from-plain-http --to-oci-layout $to/oras:v1"
        . " $d/oras.out:v1",
    crane => "crane pull --insecure --format oci $to/crane:v1 $d/crane.out",
);

for my $client (qw/ skopeo oras crane /) {
    SKIP: {
        skip "$client is not installed", 1 unless OCI::installed($client);

        my @l = map { $t->random_blob($_ * 700_000) } 1 .. 3;
        local $t->{registry} = $there;
        my ($source) = $t->push_artifact('llm/source', 'v1', @l);

        my $out = `cd $d && HOME=$d $push{$client} 2>&1`;
        is($?, 0, "$client pushes") or diag($out);
        pulled("llm/$client", 'v1', $source, @l);

        my $before = $t->upstream_bytes();
        $out = `cd $d && HOME=$d $pull{$client} 2>&1`;
        is($?, 0, "$client pulls") or diag($out);
        my $have = OCI::files_of("$d/$client.out");
        is(scalar(grep { !$have->{$t->digest($_)} } @l), 0,
            "$client has all");

        # (but "{}" of /v2/)

        cmp_ok($t->upstream_bytes() - $before, '<', 10,
            "$client: none from upstream");
    }
}

$t->done();
