#!/usr/bin/perl

# Formats of weights, by their bytes: a pickle is refused whatever it is said
# to be, also when the first request is for a range in its middle.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

my $t = OCI->new(workers => 3);
my $d = $t->{dir};
my $registry = $t->registry();

my $MODEL = 'application/vnd.cncf.model.manifest.v1+json';
my $RAW = 'application/vnd.cncf.model.weight.v1.raw';
my $json = JSON::PP->new->canonical;
my $true = JSON::PP::true;

my %secret = (bob => 'bob-secret', dev => 'dev-secret');
my %safe = (formats => { allow => ['safetensors', 'gguf', 'onnx'] });
my $doc = {
    version => 1,
    subjects => { map { $_ => { secret => Policy::phc($secret{$_}) } }
        keys %secret },
    grants => {
        g => { role => 'guest', subjects => ['bob'],
            repositories => ['**'] },
        d => { role => 'developer', subjects => ['dev'],
            repositories => ['**'] },
    },
    projects => {
        allow => { rules => { %safe } },
        refuse => { rules => { formats => { refuse => ['pickle'],
            unknown => 'allow' } } },
        dry => { rules => { formats => { refuse => ['pickle'],
            dry_run => $true } } },
    },
};

Policy::write_doc($t, $doc);

my ($strict, $none, $slow) = map { OCI::port() } 1 .. 3;

# another registry, which takes its time, or has no beginnings

my $slowly = "\0" . $t->random_blob(3_000_000);
my $broken = "\1" . $t->random_blob(3_000_000);
my $upstream = $t->upstream(sub {
    my ($c, $q) = @_;
    my $blob = $q->{uri} =~ /broken/ ? $broken : $slowly;
    my ($from) = ($q->{h}{range} // '') =~ /bytes=(\d+)-/;
    sleep 1 if $q->{uri} =~ /slow/ && ($q->{h}{range} // '') !~ /=0-0$/;
    return $t->reply($c, $q, 500, {}, '{"errors":[]}')
        if $q->{uri} =~ /broken/ && $from == 0 && $q->{h}{range} !~ /=0-0$/;
    return $t->reply_blob($c, $q, $blob);
});

$t->conf(cache_args => 'slice=1m', http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$registry; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic;
}
server {
    listen 127.0.0.1:$strict;
    location /v2/ {
        oci_pass demo; oci_cache models; oci_access team; oci_verify strict;
    }
}
oci_registry slow { url http://127.0.0.1:$upstream; credentials anonymous; }
server {
    listen 127.0.0.1:$slow;
    location /v2/ { oci_pass slow; oci_cache models; oci_access team; }
}
server {
    listen 127.0.0.1:$none;
    location /v2/ { oci_pass demo; oci_access team; }
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
EOL
$t->start();

sub as {
    my ($user, %h) = @_;
    return { Policy::basic($user, $secret{$user}),
        Accept => $OCI::TYPE{manifest}, %h };
}

sub push_it {
    my ($repo, $name, $bytes) = @_;
    my $blob = $t->push_blob($repo, $bytes);
    my $m = $json->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, artifactType => $MODEL,
        config => { mediaType => 'application/vnd.cncf.model.config.v1+json',
            digest => $t->push_blob($repo, '{}'), size => 2 },
        layers => [{ mediaType => $RAW, digest => $blob,
            size => length $bytes, annotations => {
                'org.cncf.model.filepath' => $name } }] });
    $t->push_manifest($repo, 'v1', $m);
    return $blob;
}

# a request for a blob: status, and what it is refused for, or "right"

sub blob {
    my ($repo, $bytes, %o) = @_;
    my $r = $t->http($o{port} // $t->{edge}, 'GET', "/v2/$repo/blobs/"
        . $t->digest($bytes), as($o{user} // 'bob',
        $o{range} ? (Range => "bytes=$o{range}") : ()));
    if ($r->{status} =~ /^20/) {
        my ($from, $to) = split /-/, $o{range} // '0-' . (length($bytes) - 1);
        my $right = $r->{body} eq substr $bytes, $from, $to - $from + 1;
        return "$r->{status} " . ($right ? 'right' : 'wrong');
    }
    is($r->{h}{'content-range'}, undef, 'no range in it');
    my $e = eval { $json->decode($r->{body})->{errors}[0] };
    return "$r->{status} $e->{code} $e->{message}";
}

sub pull {
    my ($repo) = @_;
    return $t->get("/v2/$repo/manifests/v1", as('bob'))->{status};
}

# files

my $rest = $t->random_blob(3_300_000);

sub le8 { my ($n) = @_; return pack 'Q<', $n }

my $n = 0;
sub safetensors {
    my ($size) = @_;
    my $h = sprintf '{"w%d":{"dtype":"U8","shape":[%d],'
        . '"data_offsets":[0,%d]}}', $n++, $size, $size;
    return le8(length $h) . $h;
}

sub zip {
    my ($base, %o) = @_;
    my ($files, $dir) = ('', '');
    for my $name ('m/version', 'm/data/0', 'm/data.pkl') {
        $dir .= pack('a4 v6 V3 v5 V2', "PK\1\2", 20, 20, 0, 0, 0, 0, 0, 1, 1,
            length $name, 0, 0, 0, 0, 0, $base + length $files) . $name;
        $files .= pack('a4 v5 V3 v2', "PK\3\4", 20, 0, 0, 0, 0, 0, 1, 1,
            length $name, 0) . $name . '.';
    }
    return $files . $dir . pack('a4 v4 V2 v', "PK\5\6", 0, 0, 3, 3,
        length $dir, $base + length $files, 0);
}

my $pickle0 = "cos\nsystem\n(S'id'\ntR.";
my $pickle4 = "\x80\4\x95\x14\0\0\0\0\0\0\0\x8c\2os\x8c\6system\x93\x8c\2id"
    . "\x85R.";

my %good = (
    safetensors => safetensors(length $rest) . $rest,
    small => safetensors(10) . '0123456789',
    gguf => "GGUF\3\0\0\0" . $rest,
    onnx => "\x08\x08\x12\x07pytorch\x1a\x032.1" . $rest,
);

my %bad = (
    'a pickle of protocol 4' => $pickle4 . $rest,
    'a pickle of protocol 0' => $pickle0 . $rest . '0',
    'a small pickle' => $pickle4,
    'a zip of torch' => zip(0) . '',
    'a large zip of torch' => substr(zip(0), 0, 30) . '',
    'safetensors and a zip' => (map { $_ . zip(length $_) }
        safetensors(length $rest) . $rest . '1'),
    'safetensors and a pickle in one' => "\x80\2G\0\0\0\0\0{\"aNcos\nsystem\n"
        . "(S'id'\ntR." . ($rest x 2),
    'GGUF and a zip' => (map { $_ . zip(0) } "GGUF\3\0\0\0" . $rest . '2'),
);
delete $bad{'a large zip of torch'};

# good ones: at once, in parts, in their middle first

for my $name (sort keys %good) {
    my $bytes = $good{$name};
    my $repo = "allow/good-" . $n++;
    push_it($repo, "model.$name" =~ s/small/safetensors/r, $bytes);
    is(pull($repo), 200, "$name: the manifest");
    my $m = int(length($bytes) / 2);
    is(blob($repo, $bytes, range => $m . '-' . ($m + 4)), '206 right',
        "$name: a range in its middle, first");
    is(blob($repo, $bytes), '200 right', "$name: all of it");
    is(blob($repo, $bytes, range => '0-4'), '206 right', "$name: its start");
}

# bad ones, said to be safetensors by name and by media type

for my $name (sort keys %bad) {
    my $bytes = $bad{$name};
    my $repo = "allow/bad-" . $n++;
    push_it($repo, 'model.safetensors', $bytes);
    is(pull($repo), 200, "$name: the manifest says nothing of it");
    my $m = int(length($bytes) / 2);
    for my $range ($m . '-' . ($m + 4), undef, '0-4',
        length($bytes) - 5 . '-' . (length($bytes) - 1))
    {
        like(blob($repo, $bytes, range => $range),
            qr/^412 PROJECTPOLICYVIOLATION the blob is pickle, which is not/,
            "$name: " . ($range // 'all of it'));
    }
    is(blob($repo, $bytes, user => 'dev'), '200 right',
        "$name: who may push has it");
    like(blob($repo, $bytes), qr/^412/, "$name: once it is stored");
    ok(!$t->head("/v2/$repo/blobs/" . $t->digest($bytes),
        as('bob'))->{body}, 'HEAD has no bytes');
}

# cold on every worker at once, with a range in the middle

my $cold = $pickle4 . $t->random_blob(5_000_000);
push_it('allow/cold', 'model.safetensors', $cold);
my %s = $t->to_workers();
is(scalar(keys %s), 3, 'three workers');
my $uri = '/v2/allow/cold/blobs/' . $t->digest($cold);
$t->send_request($s{$_}, 'GET', $uri, as('bob',
    Range => 'bytes=3000000-3000099')) for sort keys %s;
for my $pid (sort keys %s) {
    my $r = $t->read_header($s{$pid});
    $t->read_body($s{$pid}, $r, 'GET');
    is($r->{status}, 412, 'refused on every worker');
}

# strict: only what is verified is looked at, or served

my $sb = safetensors(1_500_000) . $t->random_blob(1_500_000);
push_it('allow/strict', 'm.safetensors', $sb);
is(blob('allow/strict', $sb, port => $strict), '200 right',
    'a good one, strict');
my $sp = $pickle4 . $t->random_blob(2_500_000);
push_it('allow/strict', 'm.safetensors', $sp);
like(blob('allow/strict', $sp, port => $strict, range => '2000000-2000009'),
    qr/^412 PROJECTPOLICYVIOLATION the blob is pickle/, 'a bad one, strict');

# weights that are nothing that is known; others that aren't weights

my $x = $t->random_blob(200_000);
substr($x, 0, 1) = "\0";
push_it('allow/unknown', 'model.bin', $x);
is(pull('allow/unknown'), 200, 'a name that says nothing');
like(blob('allow/unknown', $x), qr/^412 \w+ the blob can't be looked into/,
    'bytes that say nothing');
is(blob('allow/unknown', '{}'), '200 right', 'a config is no weight');
my $gz = "\x1f\x8b\x08\0" . $t->random_blob(1000);
push_it('allow/gz', 'README.md', $gz);
like(blob('allow/gz', $gz), qr/^412 \w+ the blob can't be looked into/,
    'what is compressed');

# "unknown": "allow"

push_it('refuse/gz', 'README.md', $gz);
is(blob('refuse/gz', $gz), '200 right', 'unless it is allowed');
push_it('refuse/unknown', 'model.bin', $x);
is(blob('refuse/unknown', $x), '200 right', 'and what is unknown');
push_it('refuse/a', 'model.bin', $cold);
like(blob('refuse/a', $cold), qr/^412 \w+ the blob is pickle/,
    'but no pickle');

# a tar

sub tar {
    my $tar = '';
    while (my ($name, $bytes) = splice @_, 0, 2) {
        my $h = pack 'a100 a8 a8 a8 a12 a12 A8 a1 a100 a6 a2 a247', $name,
            '0000644', '0000000', '0000000', sprintf('%011o', length $bytes),
            '00000000000', '', '0', '', 'ustar', '00', '';
        substr($h, 148, 8) = sprintf "%06o\0 ", unpack '%32C*', $h;
        $tar .= $h . $bytes . "\0" x (-length($bytes) % 512);
    }
    return $tar . "\0" x 1024;
}

my $tar = tar('a.safetensors' => $good{safetensors}, 'b.json' => '{}');
push_it('allow/tar', 'model.tar', $tar);
is(blob('allow/tar', $tar, range => '2000000-2000009'), '206 right',
    'a tar of safetensors');
$tar = tar('a.safetensors' => $good{safetensors}, 'b.txt' => $pickle4 . $rest);
push_it('allow/tar', 'model.tar', $tar);
like(blob('allow/tar', $tar, range => '2000000-2000009'),
    qr/^412 \w+ the blob is pickle/, 'a tar with a pickle in it');

# dry run

push_it('dry/a', 'model.safetensors', $cold);
is(blob('dry/a', $cold, range => '100-199'), '206 right', 'a dry run');
OCI::until_true(sub { $t->read_file('error.log')
    =~ /would refuse "sha256:\w+" of "dry\/a" by "formats": the blob is/ });
pass('is logged');

# what can't be looked at is not sent

is($t->http($none, 'GET', $uri, as('bob'))->{status}, 412,
    'nothing is sent without a cache');
is($t->http($none, 'GET', $uri, as('dev'))->{status}, 200,
    'but to who may push');

# a beginning that can't be had; a client that leaves while it is looked at

my $b = blob('allow/broken', $broken, port => $slow, range =>
    '2000000-2000009');
like($b, qr/^50[023] /, 'nothing is sent whose beginning can\'t be had');
unlike($b, qr/right|wrong/, 'no byte of it');

for my $wait (0.05, 0.3, 1.1, 1.3) {
    my $s = $t->connect($slow);
    $t->send_request($s, 'GET', '/v2/allow/slow/blobs/'
        . $t->digest($slowly), as('bob', Range => 'bytes=2000000-2000009'));
    sleep $wait;
    close $s;
}

is(blob('refuse/slow', $slowly, port => $slow, range => '2000000-2000009'),
    '206 right', 'who comes next has it');

# what somebody has looked at

push_it('allow/looked', 'model.safetensors', $cold);
like(blob('allow/looked', $cold), qr/^412/, 'a pickle');
my $m = $t->get('/v2/allow/looked/manifests/v1', as('bob'));
$doc->{projects}{allow}{rules}{exempt} =
    { digests => [$t->digest($m->{body})] };
Policy::write_doc($t, $doc);
OCI::until_true(sub { pull('allow/looked') == 200
    && blob('allow/looked', $cold) eq '200 right' });
pass('of a manifest that is exempt');
like(blob('allow/cold', $cold), qr/^412/, 'not in another repository');

# the registry goes while a look is under way

$t->stop_one('registry');
my $gone = $t->http($t->{edge}, 'GET', '/v2/allow/strict/blobs/'
    . $t->digest($sb), as('bob', Range => 'bytes=0-9'));
is($gone->{status}, 206, 'what is stored goes on without the registry');

$t->done();
