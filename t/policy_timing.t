#!/usr/bin/perl

# Neither body nor time of a refusal tells what is there: a blob, a tag and a
# repository that the caller may not have against ones that nobody has.  With
# TIMING=full 10^4 samples of each, one after the other in random order, the
# slowest tenth left out, Welch's t-test, |t| < 4.5; else the answers only.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

OCI->skip_all_unless('openssl');

my $full = $ENV{TIMING};
my $n = $full ? $ENV{TIMING_SAMPLES} || 10000 : 50;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};

my $blob = $t->random_blob(300_000);
my $manifest = encode_json({ schemaVersion => 2,
    mediaType => $OCI::TYPE{manifest}, layers => [{ size => length $blob,
        mediaType => 'application/octet-stream',
        digest => $t->digest($blob) }] });
my %digest = (forbidden => $t->digest($blob),
    absent => $t->digest('absent'));

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    return $t->reply_blob($c, $q, $blob)
        if $q->{uri} =~ m!^/v2/(llm|own)/a/blobs/$digest{forbidden}!;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($manifest) }, $manifest)
        if $q->{uri} eq '/v2/llm/a/manifests/here';
    return $t->reply($c, $q, 404, {}, '{"errors":[]}');
}, quiet => 1);

# alice may pull, bob nothing there, carol push only

my @subjects = qw/ alice bob carol /;
Policy::write_doc($t, {
    version => 1,
    subjects => { map { $_ => { secret => Policy::phc("canary-$_-63d1") } }
        @subjects },
    roles => { writer => ['push'] },
    grants => {
        pull => { role => 'guest', subjects => ['alice'],
            repositories => ['llm/**'] },
        other => { role => 'guest', subjects => ['bob'],
            repositories => ['own/**'] },
        push => { role => 'writer', subjects => ['carol'],
            repositories => ['llm/**'] },
    },
});

$t->conf(http => <<EOC, location => <<EOL);
keepalive_requests 10000000;
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic; valid 1h;
}
oci_cache_valid tag 10m;
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
EOL
$t->start();

my %as = ('' => {}, map { $_ => { Policy::basic($_, "canary-$_-63d1") } }
    @subjects);

ok($t->get("/v2/llm/a/blobs/$digest{forbidden}", $as{alice})->{body} eq $blob,
    'a blob is in the cache');
is($t->get('/v2/llm/a/manifests/here', $as{alice})->{body}, $manifest,
    'and a tag');

my $s = $t->connect();

sub sample {
    my ($user, $uri) = @_;
    my $begin = time();
    $t->send_request($s, 'GET', $uri, $as{$user});
    my $r = $t->read_header($s);
    my $took = time() - $begin;
    return ($took, $t->read_body($s, $r, 'GET'));
}

sub mean {
    my ($times) = @_;
    my @x = sort { $a <=> $b } @$times;
    my ($mean, $var) = (0, 0);
    $#x = int(@x * 0.9);
    $mean += $_ / @x for @x;
    $var += ($_ - $mean) ** 2 / (@x - 1) for @x;
    return ($mean, $var / @x);
}

for my $c (
    ['a blob', 'bob', 404, map { "/v2/llm/a/blobs/$digest{$_}" }
        qw/ forbidden absent /],
    ['a tag', 'bob', 404, map { "/v2/llm/a/manifests/$_" } qw/ here gone /],
    ['a repository', 'bob', 404, map { "/v2/$_/a/tags/list" } qw/ llm xyz /],
    ['a blob, who may push', 'carol', 403, map {
        "/v2/llm/a/blobs/$digest{$_}" } qw/ forbidden absent /],
    ['a blob, nobody', '', 401, map { "/v2/llm/a/blobs/$digest{$_}" }
        qw/ forbidden absent /],
    ['the same twice', 'bob', 404, ('/v2/llm/a/tags/list') x 2],
) {
    my ($what, $user, $status, @uri) = @$c;
    my @times = ([], []);
    my %answers;

    for (1 .. 50) {
        my (undef, $r) = sample($user, $uri[$_ % 2]);
        my $head = join "\n", map { "$_->[0]: $_->[1]" }
            grep { $_->[0] ne 'Date' } @{$r->{list}};
        $answers{"$r->{status_line}\n$head\n\n$r->{body}"} = 1;
    }

    # (a challenge names the repository that was asked for)

    is(scalar(keys %answers), 1, "$what: one answer")
        or diag(join "\n", keys %answers);
    like((keys %answers)[0], qr/^HTTP\/1.1 $status /, "which is $status");

    while (@{$times[0]} < $n || @{$times[1]} < $n) {
        my $i = rand() < 0.5 ? 0 : 1;
        my ($took, $r) = sample($user, $uri[$i]);
        push @{$times[$i]}, $took;
        $status = 0 if $r->{status} != $c->[2];
    }

    ok($status, "$what: always");

    next if !$full;

    my ($mean, $var) = mean($times[0]);
    my ($mean2, $var2) = mean($times[1]);
    my $tt = ($mean - $mean2) / sqrt($var + $var2);

    diag(sprintf '%s: forbidden %.1f us, absent %.1f us, %d and %d samples,'
        . ' t = %.2f', $what, $mean * 1e6, $mean2 * 1e6, scalar @{$times[0]},
        scalar @{$times[1]}, $tt);
    cmp_ok(abs $tt, '<', 4.5, "$what: |t|");
}

$t->done();
