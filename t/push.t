#!/usr/bin/perl

# What is pushed, moved and deleted through the edge is seen by the next pull
# through it, in every worker, however long tags are valid.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('docker-registry');

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $port = $t->registry();

my $accept = { Accept => [ $OCI::TYPE{manifest}, '*/*' ] };
my @m = map { "{\"schemaVersion\":2,\"n\":$_}" } 0 .. 3;

# this one says what "answer" tells to a push; what it has is in "lead"

my $scripted = $t->upstream(sub {
    my ($c, $q) = @_;

    if ($q->{method} =~ /PUT|DELETE/) {
        return $t->reply($c, $q, $t->read_file('answer'), {}, '');
    }

    my $m = $m[$t->read_file('lead')];
    ($m) = grep { $q->{uri} =~ $t->digest($_) } @m if $q->{uri} =~ /sha256:/;
    my $end = time() + 30;
    sleep 0.05 while $q->{uri} =~ m!/flight/! && $q->{n} == 1
        && -e "$d/hold" && time() < $end;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($m) }, $m);
});

$t->conf(http => <<EOC, location => <<EOL, cache => <<EOP);
oci_registry demo { url http://127.0.0.1:$port; }
oci_registry scripted { url http://127.0.0.1:$scripted; }
oci_cache_valid tag 10m;
oci_cache_valid manifest 10m;
EOC
location /v2/ { oci_pass demo; oci_cache models; }
location /v2/s/ { oci_pass scripted; oci_cache models; }
location /v2/s/off/ { oci_pass scripted; oci_cache off; }
EOL
oci_cache_path $d/cache keys_zone=models:8m;
oci_cache_path $d/second keys_zone=second:1m;
EOP
$t->start();

sub push_artifact {
    my ($tag, $layer) = @_;
    local $t->{registry} = $t->{edge};
    return $t->push_artifact('llm/a', $tag, $layer);
}

# of eight connections at once: what all of them got

sub pull {
    my ($uri) = @_;
    my %seen = map { $_ => 1 } $t->parallel(8, sub {
        my $r = $t->get("/v2/$uri", $accept);
        return $r->{status} == 200 ? $t->digest($r->{body}) : $r->{status};
    });
    return join ' ', sort keys %seen;
}

# a tag is moved by a push

my ($one, $digest) = push_artifact('v1', 'weights one');
is(pull('llm/a/manifests/v1'), $digest, 'a pushed tag');
my $r = $t->get('/v2/llm/a/manifests/v1', $accept);
like($r->{h}{'cache-status'}, qr/^nginx-oci; hit$/, 'is valid for long');

my ($two, $digest2) = push_artifact('v1', 'weights two');
isnt($digest2, $digest, 'another one is pushed');
is(pull('llm/a/manifests/v1'), $digest2, 'and seen');
is(pull("llm/a/manifests/$digest"), $digest, 'the former one is there');

# moved back and on, by its bytes alone

for ($one, $two, $one) {
    $t->push_manifest('llm/a', 'v1', $_, undef, $t->{edge});
    is(pull('llm/a/manifests/v1'), $t->digest($_), 'moved again');
}

# one that was moved behind the edge's back is not: that is what the time is

$t->push_manifest('llm/a', 'v1', $two);
is(pull('llm/a/manifests/v1'), $digest, 'a push past the edge is not seen');
$t->push_manifest('llm/a', 'v1', $two, undef, $t->{edge});
is(pull('llm/a/manifests/v1'), $digest2, 'the same through it is');

# deleted by digest, and so are its tags

$t->push_manifest('llm/a', 'v2', $two, undef, $t->{edge});
is(pull('llm/a/manifests/v2'), $digest2, 'a second tag');

sub delete_at_edge {
    return $t->http($t->{edge}, 'DELETE', "/v2/$_[0]")->{status};
}

is(delete_at_edge("llm/a/manifests/$digest2"), 202, 'a manifest is deleted');
is(pull("llm/a/manifests/$digest2"), 404, 'it is gone');
is(pull("llm/a/manifests/$_"), 404, "and $_") for qw/ v1 v2 /;

is(pull("llm/a/manifests/$digest"), $digest, 'another one is not');

# also when the registry can't be asked

($two, $digest2) = push_artifact('v3', 'weights three');
is(pull('llm/a/manifests/v3'), $digest2, 'one more');

# a blob

my $blob = $t->random_blob(100000);
my $b = $t->push_blob('llm/a', $blob, $t->{edge});
is(pull("llm/a/blobs/$b"), $b, 'a blob');
like($t->get("/v2/llm/a/blobs/$b")->{h}{'cache-status'}, qr/hit/,
    'is cached');
is(delete_at_edge("llm/a/blobs/$b"), 202, 'is deleted');
is(pull("llm/a/blobs/$b"), 404, 'is gone');
$t->push_blob('llm/a', $blob, $t->{edge});
is(pull("llm/a/blobs/$b"), $b, 'is pushed again');

is(delete_at_edge("llm/a/manifests/$digest2"), 202, 'the last one');
$t->stop_one('registry');
unlike(pull('llm/a/manifests/v3'), qr/sha256/, 'is not served stale');
unlike(pull("llm/a/manifests/$digest2"), qr/sha256/, 'nor by its digest');

# what the registry does not accept changes nothing

sub lead { $t->write_file('lead.tmp', $_[0]); rename "$d/lead.tmp", "$d/lead" }

sub change {
    my ($answer, $method, $uri, $body) = @_;
    $t->write_file('answer', $answer);
    return $t->http($t->{edge}, $method, "/v2/$uri",
        { 'Content-Type' => $OCI::TYPE{manifest} }, $body)->{status};
}

lead(0);
is(pull('s/a/manifests/x'), $t->digest($m[0]), 'scripted');
lead(1);

for my $answer (400, 403, 404, 500) {
    is(change($answer, 'PUT', 's/a/manifests/x', $m[1]), $answer,
        "PUT: $answer");
    is(change($answer, 'DELETE', 's/a/manifests/x'), $answer,
        "DELETE: $answer");
    is(pull('s/a/manifests/x'), $t->digest($m[0]), "$answer: as before");
}

is(change(201, 'PUT', 's/b/manifests/x', $m[1]), 201, 'elsewhere');
is(pull('s/a/manifests/x'), $t->digest($m[0]), 'elsewhere: as before');

is(change(202, 'DELETE', 's/a/manifests/x'), 202, 'DELETE of a tag');
is(pull('s/a/manifests/x'), $t->digest($m[1]), 'is seen');

# tags beside a digest

lead(2);
is(change(201, 'PUT', 's/a/manifests/' . $t->digest($m[2])
    . '?tag=y&tag=x&tag=', $m[2]), 201, 'PUT of a digest with tags');
is(pull('s/a/manifests/x'), $t->digest($m[2]), 'is seen');

# by way of a location that does not cache

lead(0);
is(pull('s/off/manifests/x'), $t->digest($m[0]), 'no cache');

# a HEAD that was under way when the push came

$t->write_file('hold', '');
$t->forget_requests();
my @seen = $t->parallel(2, sub {
    my ($i) = @_;
    return $t->get('/v2/s/flight/manifests/x')->{status} if $i == 0;
    until_true(sub { scalar grep { $_->{method} eq 'HEAD' } $t->requests() });
    lead(3);
    my $status = change(201, 'PUT', 's/flight/manifests/x', $m[3]);
    unlink "$d/hold";
    return $status;
});
is_deeply(\@seen, [ 200, 201 ], 'a push beside a HEAD');
is(pull('s/flight/manifests/x'), $t->digest($m[3]), 'is seen');

$t->done();
