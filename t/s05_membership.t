#!/usr/bin/perl

# S5: reading a blob of another repository through the shared cache.  What is
# cached is served only to who could get it there: a digest that is cached
# through another repository looks like one that does not exist, with every
# verb, whole, in ranges, with conditions, by referrers and by a mount; before
# it is cached, while it is, after it was taken back, and after it came again.
# "Looks like" is: status, header, body, and what the upstream was asked.
#
# See also s06_timing.t, possession.t and origin.t (another registry's),
# manifest.t (manifests).

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $blob = $t->random_blob(200000);
my $digest = $t->digest($blob);
my $none = 'sha256:' . '0' x 64;
my $good = { Authorization => 'Basic Z29vZDpnb29k' };

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($repo, $d) = $q->{uri} =~ m!^/v2/(.+)/blobs/(.+)$!;
    $repo //= '';
    if (($q->{h}{authorization} // '') ne $good->{Authorization}) {
        return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
            'Basic realm="r"' }, '{"errors":[{"code":"UNAUTHORIZED"}]}');
    }
    return $t->reply_blob($c, $q, $blob)
        if $repo eq 'b' && $d eq $digest && !-e "$t->{dir}/gone";
    return $t->reply($c, $q, 202, { Location => '/v2/a/blobs/uploads/1' }, '')
        if $q->{method} eq 'POST';
    return $t->reply($c, $q, 404, { 'Content-Type' => 'application/json' },
        '{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}');
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }");
$t->start();

# the ways to ask for a digest through a

my @ways = (
    [ 'GET', 'blobs/D', {} ],
    [ 'HEAD', 'blobs/D', {} ],
    [ 'GET', 'blobs/D', { Range => 'bytes=0-0' } ],
    [ 'GET', 'blobs/D', { Range => 'bytes=100000-' } ],
    [ 'GET', 'blobs/D', { Range => 'bytes=-1' } ],
    [ 'GET', 'blobs/D', { Range => 'bytes=0-1,5-6' } ],
    [ 'GET', 'blobs/D', { Range => 'bytes=9999999-' } ],
    [ 'HEAD', 'blobs/D', { Range => 'bytes=0-0' } ],
    [ 'GET', 'blobs/D', { 'If-None-Match' => '"D"' } ],
    [ 'HEAD', 'blobs/D', { 'If-None-Match' => '*' } ],
    [ 'GET', 'blobs/D', { 'If-Match' => '"x"' } ],
    [ 'GET', 'blobs/D', { Range => 'bytes=0-9', 'If-Range' => '"D"' } ],
    [ 'DELETE', 'blobs/D', {} ],
    [ 'GET', 'manifests/D', {} ],
    [ 'HEAD', 'manifests/D', {} ],
    [ 'GET', 'referrers/D', {} ],
    [ 'GET', 'blobs/D?ns=b', {} ],
    [ 'POST', 'blobs/uploads/?mount=D&from=b', {} ],
    [ 'POST', 'blobs/uploads/?mount=D&from=a', {} ],
);

sub looks {
    my ($way, $d, $who) = @_;
    my ($method, $path, $h) = @$way;
    my %h = map { my $v = $h->{$_}; $v =~ s/D/$d/; ($_ => $v) } keys %$h;

    $path =~ s/D/$d/;
    $t->forget_requests();
    my $r = $t->http($t->{edge}, $method, "/v2/a/$path", { %h, %$who },
        $method eq 'POST' ? '' : undef);
    delete $r->{h}{date};

    my $text = join "\n", $r->{status_line} // '', $r->{body},
        (map { "$_: $r->{h}{$_}" } sort keys %{$r->{h}}),
        map { my $q = $_; "asked: $q->{method} $q->{uri} "
            . join ', ', map { "$_: $q->{h}{$_}" } sort keys %{$q->{h}} }
            $t->requests();
    $text =~ s/\Q$d\E/D/g;
    return $text;
}

sub alike {
    my ($when) = @_;
    my $bad = 0;
    for my $way (@ways) {
        for my $who ($good, {}) {
            my ($x, $y) = map { looks($way, $_, $who) } $digest, $none;
            next if $x eq $y && length $x && index($x, $blob) == -1;
            is($x, $y, "$when: @$way[0, 1] " . join ' ', %{$way->[2]});
            $bad++;
        }
    }
    is($bad, 0, "$when: like one that does not exist");
}

alike('before');
ok($t->get("/v2/b/blobs/$digest", $good)->{body} eq $blob, 'cached through b');
alike('cached');

my %seen;

for my $d ($digest, $none) {
    for my $method (qw/ GET HEAD /) {
        $t->forget_requests();
        my $r = $t->http($t->{edge}, $method, "/v2/a/blobs/$d", $good);
        my %h = %{$r->{h}};
        delete $h{date};
        push @{$seen{$method}}, join "\n", $r->{status}, $r->{body},
            (map { "$_: $h{$_}" } sort keys %h),
            scalar($t->requests()) . ' upstream requests';
    }
}

is($seen{GET}[0], $seen{GET}[1], 'GET: cached elsewhere looks like absent');
is($seen{HEAD}[0], $seen{HEAD}[1], 'HEAD too');
like($seen{GET}[0], qr/^404\n.*BLOB_UNKNOWN/, 'in the registry\'s words');

# callers

my $r = $t->get("/v2/b/blobs/$digest");
is($r->{status}, 401, 'nobody');
is($r->{h}{'www-authenticate'}, 'Basic realm="r"', 'is challenged');
is($t->get("/v2/b/blobs/$digest", { Authorization => 'Basic eDp5' })
    ->{status}, 401, 'somebody else');
is($t->get("/v2/b/blobs/$digest", { Range => 'bytes=0-0' })->{status}, 401,
    'nobody, for one byte');

$t->forget_requests();
$r = $t->get("/v2/b/blobs/$digest", $good);
ok($r->{body} eq $blob, 'who may read it does');
is(scalar($t->requests()), 0, 'without asking again');

# a restart forgets rights, not blobs

$t->stop();
$t->start();
is($t->get("/v2/b/blobs/$digest")->{status}, 401, 'nobody, after a restart');
$r = $t->get("/v2/b/blobs/$digest", $good);
ok($r->{body} eq $blob, 'who may');
like($r->{h}{'cache-status'}, qr/hit/, 'from the cache');
is($t->upstream_bytes(), 1 + length('{"errors":[{"code":"UNAUTHORIZED"}]}'),
    'one byte was asked for');

# deleted there, and the right is older than a minute: not simulated in time,
# but a restart forgets the right too

$t->write_file('gone', '');
$t->stop();
$t->start();
is($t->get("/v2/b/blobs/$digest", $good)->{status}, 404,
    'deleted at the registry: gone');
alike('taken back');

unlink "$t->{dir}/gone";
ok($t->get("/v2/b/blobs/$digest", $good)->{body} eq $blob, 'it is back');
alike('back');
is($t->get("/v2/b/blobs/$digest", { Authorization => 'Basic Z29vZDpnb29kIA==' })
    ->{status}, 401, 'a credential that begins like the right one');
like($t->get("/v2/b/blobs/$digest", $good)->{h}{'cache-status'}, qr/hit/,
    'it is a hit for who may');

$t->done();
