#!/usr/bin/perl

# S3: caching of errors.  An upstream answers once with something that is not
# the blob or the manifest: errors, pages, bodies and ranges that are not what
# they say.  None of that is served as the blob, none is served to the next
# caller: from a healed upstream comes the right answer at once, and then a hit.
#
# 22 answers, each to a blob, a tag and a manifest by digest.  See also
# portal.t (a page takes no rights), hostile.t (ranges of a fill), size.t (a
# wrong size).  Each answer is sent to an account of its own, as Retry-After
# holds for all that one asks for (wait.t).

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use MIME::Base64 qw/ encode_base64 /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);

my %answer = (
    e404 => sub { $_[0]->(404, {}, '{"errors":[]}') },
    e500 => sub { $_[0]->(500, {}, 'broken') },
    e503 => sub { $_[0]->(503, { 'Retry-After' => 1 }, 'busy') },
    e429 => sub { $_[0]->(429, { 'Retry-After' => 1 }, 'busy') },
    e403 => sub { $_[0]->(403, {}, '{"errors":[]}') },
    e401 => sub { $_[0]->(401, {}, '{"errors":[]}') },
    e410 => sub { $_[0]->(410, { 'Cache-Control' => 'max-age=9999' }, 'x') },
    e416 => sub { $_[0]->(416, { 'Content-Range' => 'bytes */10' }, '') },
    moved => sub { $_[0]->(301, { Location => '/elsewhere' }, '') },
    none => sub { $_[0]->(204, { 'Content-Length' => undef }, '') },
    same => sub { $_[0]->(304, { 'Content-Length' => undef }, '') },
    html => sub { $_[0]->(200, { 'Content-Type' => 'text/html' }, '<p>') },
    empty => sub { $_[0]->(200, {}, '') },
    half => sub { $_[0]->(200, {}, substr $_[1], 0, length($_[1]) / 2) },
    more => sub { $_[0]->(200, {}, "$_[1]more") },
    cut => sub { $_[0]->(200, { 'Content-Length' => length $_[1] },
        substr $_[1], 0, length($_[1]) / 2); 0 },
    part => sub { $_[0]->(206, { 'Content-Range' => 'bytes 0-9/'
        . length $_[1] }, substr $_[1], 0, 10) },
    norange => sub { $_[0]->(206, {}, $_[1]) },
    place => sub { $_[0]->(206, { 'Content-Range' => 'bytes 1-10/'
        . length $_[1] }, substr $_[1], 1, 10) },
    lengths => sub { $_[0]->(200, { 'Content-Length' => "10\r\n"
        . 'Content-Length: ' . length $_[1] }, $_[1]); 0 },
    both => sub { $_[0]->(200, { 'Transfer-Encoding' => 'chunked',
        'Content-Length' => 5 }, "5\r\nhello\r\n0\r\n\r\n"); 0 },
    minus => sub { $_[0]->(200, { 'Content-Length' => -1 }, $_[1]); 0 },
);

my @names = sort keys %answer;
my (%truth, %digest);

for my $name (@names) {
    $truth{"$name blobs"} = "the blob of $name, " x 5000;
    $truth{"$name manifests"} = qq({"schemaVersion":2,"a":"$name"});
    $digest{$_} = $t->digest($truth{$_}) for "$name blobs", "$name manifests";
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($name, $kind, $ref) = $q->{uri} =~ m!^/v2/(\w+)/(\w+)/(.+)$!
        or return $t->reply($c, $q, 404, {}, '');
    my $body = $truth{"$name $kind"};

    if ($name =~ /^(?:get|coded)/) {
        return $t->reply($c, $q, 503, {}, 'busy') if $name eq 'get'
            && $q->{method} eq 'GET';
        return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
            $name eq 'coded' ? ('Content-Encoding' => 'gzip') : (),
            'Docker-Content-Digest' => $t->digest("$name it") }, "$name it");
    }
    if (!-e "$t->{dir}/healed") {
        return $answer{$name}->(sub { $t->reply($c, $q, @_) }, $body);
    }
    return $t->reply_blob($c, $q, $body) if $kind eq 'blobs';
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($body) }, $body);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k');
$t->start();

sub uris {
    my ($name) = @_;
    return (["/v2/$name/blobs/$digest{qq($name blobs)}", "$name blobs"],
        ["/v2/$name/manifests/$digest{qq($name manifests)}",
            "$name manifests"],
        ["/v2/$name/manifests/v1", "$name manifests"]);
}

sub account {
    my ($name) = @_;
    return { Authorization => 'Basic ' . encode_base64("$name:secret", '') };
}

# a page is passed on as what it is; a tag is what the registry says it is

for my $name (@names) {
    for my $u (uris($name)) {
        my $r = $t->get($u->[0], account($name), 10);
        my $ok = $r->{status} != 200 || $r->{cut}
            || $r->{body} eq $truth{$u->[1]}
            || ($r->{h}{'content-type'} // '') eq 'text/html'
            || $u->[0] =~ m!/v1$!;
        ok($ok, "$name, $u->[0]: nothing wrong is whole")
            or diag("$r->{status} " . length($r->{body}) . " $r->{body}");
        unlike($r->{h}{'cache-status'} // '', qr/hit/, "$name: no hit");
    }
}

my @kept = grep { -f } glob "$t->{dir}/cache/manifests/*/*";
is(join(' ', @kept), '', 'no manifest is kept');

$t->write_file('healed', '');

# what was asked for (Retry-After), and what is promised (a 404 counts for 5
# seconds), not more

sleep 7;

for my $name (@names) {
    for my $u (uris($name)) {
        my $r = $t->get($u->[0], account($name));
        is($r->{status}, 200, "healed, $name, $u->[0]: status");
        ok($r->{body} eq $truth{$u->[1]}, "healed, $name: the right bytes")
            or diag(length $r->{body});

        # a manifest may still be on its way to the disk

        for (1 .. 50) {
            $r = $t->get($u->[0], account($name));
            last if ($r->{h}{'cache-status'} // '') =~ /hit/;
            sleep 0.1;
        }
        ok($r->{body} eq $truth{$u->[1]}, "healed, $name: again");
        like($r->{h}{'cache-status'} // 'none', qr/hit/,
            "healed, $name: a hit");
    }
}

# HEAD confirms what GET never sends: each pull asks a few times, and ends

for my $name (qw/ get coded /) {
    for my $ref ('v1', $t->digest("$name it"), 'v1') {
        $t->forget_requests();
        my $r = $t->get("/v2/$name/manifests/$ref", undef, 10);
        is($r->{status}, $name eq 'get' ? 503 : 200, "$name: an answer");
        is($r->{h}{'cache-status'}, undef, "$name: the registry's own");
        cmp_ok(scalar($t->requests()), '<', 8, "$name: after a few requests");
    }
}

$t->done();
