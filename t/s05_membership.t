#!/usr/bin/perl

# I3: what is cached is served only to who could get it there.  A digest that
# is cached through another repository looks like one that does not exist.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new();
my $blob = $t->random_blob(200000);
my $digest = $t->digest($blob);
my $none = 'sha256:' . '0' x 64;
my $good = { Authorization => 'Basic Z29vZDpnb29k' };

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($repo, $d) = $q->{uri} =~ m!^/v2/(.+)/blobs/(.+)$!;
    if (($q->{h}{authorization} // '') ne $good->{Authorization}) {
        return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
            'Basic realm="r"' }, '{"errors":[{"code":"UNAUTHORIZED"}]}');
    }
    return $t->reply_blob($c, $q, $blob)
        if $repo eq 'b' && $d eq $digest && !-e "$t->{dir}/gone";
    return $t->reply($c, $q, 404, { 'Content-Type' => 'application/json' },
        '{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}');
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }");
$t->start();

ok($t->get("/v2/b/blobs/$digest", $good)->{body} eq $blob, 'cached through b');

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

$t->done();
