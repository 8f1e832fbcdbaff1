#!/usr/bin/perl

# oci_preheat: a disk that takes nothing for some seconds (t/faults/fault.c),
# and a file that goes before the job has ended.

use warnings;
use strict;

use Test::More;
use Errno qw/ EIO /;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Fault;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $fault = Fault->new($t);
my $json = JSON::PP->new->canonical;

my (%blobs, %manifests);

sub image {
    my ($tag, @layers) = @_;
    $blobs{$t->digest($_)} = $_ for @layers;
    my $m = $json->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, layers => [map { { digest =>
            $t->digest($_), size => length $_, mediaType => 'application/x'
        } } @layers] });
    $manifests{$_} = $m for $tag, $t->digest($m);
    return $m;
}

my $image = image('v1', my @layers = map { $t->random_blob(300_000) } 1 .. 3);
my $signed = image('signed', my $slow = $t->random_blob(2_000_000));
my $sig = image($t->digest($signed) =~ s/:/-/r . '.sig',
    my $payload = $t->random_blob(1000));

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    my ($what, $ref) = $q->{uri} =~ m!/(manifests|blobs)/(\S+)$!
        or return $t->reply($c, $q, 404, {}, '{}');
    my $body = ($what eq 'blobs' ? \%blobs : \%manifests)->{$ref}
        // return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply_slowly($c, $q, $body, 0.2) if $body eq $slow;
    return $t->reply_blob($c, $q, $body) if $what eq 'blobs';
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($body) }, $body);
}, quiet => 1);

$t->conf(cache_args => 'slice=64k', http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location /p2p/ { oci_preheat registry=demo open; }
EOL

sub begin {
    my ($ref) = @_;
    my $r = $t->http($t->{edge}, 'POST', '/p2p/jobs', {},
        encode_json({ ref => $ref }));
    return decode_json($r->{body})->{id};
}

sub ends {
    my ($id) = @_;
    my $job;
    until_true(90, sub {
        $job = decode_json($t->get("/p2p/jobs/$id")->{body});
        $job->{state} !~ /pending|running/ });
    return $job;
}

# cold clients: what is wrong with what they had

sub pull {
    my ($repo, $manifest, @layers) = @_;
    my $mark = $t->upstream_bytes();
    my @bad = grep { $_ ne '' } $t->parallel(8, sub {
        for my $o ($manifest, @layers) {
            my $digest = $t->digest($o);
            my $route = $blobs{$digest} ? 'blobs' : 'manifests';
            my $r = $t->get("/v2/$repo/$route/$digest");
            return "$route: $r->{status}" if $r->{body} ne $o;
        }
        return '';
    });
    my $bytes = $t->upstream_bytes() - $mark;
    return join ' ', @bad, $bytes ? "$bytes bytes" : ();
}

sub file {
    my ($hex) = $t->digest($_[0]) =~ /:(.+)/;
    my ($file) = glob "$d/cache/manifests/*/$hex";
    return $file;
}


mkdir "$d/cache";
$fault->start();

# nothing is written for two seconds, or, where the layers are, no manifest

for my $c (['all', ''], ['bodies', '.tmp']) {
    my ($what, $name) = @$c;
    if ($name) {
        is(ends(begin('m/before:v1'))->{state}, 'success', 'all is there');
        unlink file($image);
    }
    $fault->arm('write', 1, EIO, on => 1, name => $name);
    my $id = begin("m/$what:v1");
    sleep 2.5;
    my (undef, $fired) = $fault->disarm();
    cmp_ok($fired, '>', 0, "$what: writes failed");
    my $job = ends($id);
    is($job->{state}, 'success', "$what: success") or diag($job->{error});
    is(pull("m/$what", $image, @layers), '', "$what: it is warm");
    ok(file($image), "$what: the manifest is there");
    $t->stop();
    system("rm -rf $d/cache/*");
    $fault->start();
}

# what a signature's tag leads to has gone when the last layer comes

my $id = begin('m/s:signed');
ok(until_true(sub { file($sig) }), 'a signature is there');
unlink file($sig);
my $job = ends($id);
is($job->{state}, 'success', 'signed: success') or diag($job->{error});
is($job->{pieces_done}, $job->{pieces}, 'signed: all of it');
is($job->{pieces}, 4, 'signed: an image and a signature');
ok(file($sig), 'signed: the signature is there again');
is(pull('m/s', $signed, $slow, $sig, $payload), '', 'signed: all is warm');

$t->allow(qr/\((5): /);
$t->done();
