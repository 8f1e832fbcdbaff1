#!/usr/bin/perl

# oci_cache_purge: a tag, a manifest, a blob, a repository.  What was under
# way does not bring it back, readers are not cut, nothing is left over, and
# no other registry's is touched.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP qw/ decode_json /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my %manifests = map { $t->digest($_) => $_ }
    map { "{\"schemaVersion\":2,\"n\":$_}" } 1 .. 4;
my @m = sort keys %manifests;
my %blobs = map { $t->digest($_) => $_ }
    map { $t->random_blob(3 * 1024 * 1024 + $_) } 1 .. 4;
my @b = sort keys %blobs;

# where a tag leads stands in a file; what is asked for before "hold" has gone
# is answered with what was true then

sub lead { $t->write_file('lead.tmp', $_[0]); rename "$d/lead.tmp", "$d/lead" }

sub held {
    my ($name) = @_;
    my $end = time() + 30;
    sleep 0.05 while -e "$d/$name" && time() < $end;
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($what, $ref) = $q->{uri} =~ m!/(manifests|blobs)/([^?]+)!;

    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';

    if ($what eq 'manifests') {
        my $digest = $ref =~ /:/ ? $ref : $t->read_file('lead');
        held('hold') if $q->{uri} =~ m!/flight/! && $q->{method} eq 'HEAD'
            && $q->{n} == 1;
        return $t->reply($c, $q, 200, { 'Content-Type' =>
            $OCI::TYPE{manifest}, 'Docker-Content-Digest' => $digest },
            $manifests{$digest});
    }

    my $blob = $blobs{$ref};
    my ($from, $to) = ($q->{from} // 0, $q->{to} // length $blob);

    if ($q->{uri} =~ m!/slow/! && defined $q->{from} && $to - $from > 1
        && -e "$d/hold")
    {
        $to = length $blob if $to > length $blob;
        print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
            . "\r\nContent-Range: bytes $from-" . ($to - 1) . '/'
            . length($blob) . "\r\n\r\n", substr($blob, $from, 1500000);
        held('hold');
        print $c substr($blob, $from + 1500000, $to - $from - 1500000);
        return 1;
    }

    return $t->reply_blob($c, $q, $blob);
});

$t->conf(http => <<EOC, cache_args => 'slice=1m', location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_registry other { url http://127.0.0.1:$port; credentials anonymous; }
oci_registry mapped { url http://127.0.0.1:$port; credentials anonymous;
    path edge up; }
oci_access open;
oci_cache models;
oci_cache_valid tag 10m;
oci_cache_valid manifest 10m;
EOC
location /v2/ { oci_pass demo; }
location /v2/other/ { oci_pass other; }
location /v2/edge/ { oci_pass mapped; }
location /v2/held/ {
    limit_rate 300k;
    limit_rate_after 1m;
    send_timeout 300s;
    oci_pass demo;
}
location /v2/finish/ { oci_pass demo; oci_fill_abandoned finish; }
location /purge/ { oci_cache_purge demo; }
location /purge-by { oci_cache_purge \$arg_r; }
location /purge-if/ { oci_cache_purge demo; if (\$arg_x) { set \$y 1; } }
location /purge-for/ {
    oci_cache_purge demo; limit_except GET { allow 127.0.0.1; deny all; }
}
EOL
lead($m[0]);
$t->start();

sub purge {
    my ($uri, $method, $at) = @_;
    my $r = $t->http($t->{edge}, $method || 'DELETE', ($at // '/purge')
        . "/v2/$uri");
    $r->{json} = eval { decode_json($r->{body}) } || {};
    return $r;
}

# the digest that comes, and how many requests it took at the registry

sub pull {
    my ($uri) = @_;
    $t->forget_requests();
    my $r = $t->get("/v2/$uri");
    my @q = grep { $_->{uri} ne '/v2/' } $t->requests();
    return ($r->{status} == 200 ? $t->digest($r->{body}) : $r->{status},
        scalar @q, $r);
}

sub file {
    my ($digest, $dir) = @_;
    my ($hex) = $digest =~ /:(.+)/;
    return "$d/cache/" . ($dir // 'blobs/sha256') . '/' . substr($hex, 0, 2)
        . "/$hex";
}

sub files { return scalar grep { -e } file($_[0]), file($_[0]) . '.map' }
sub zone { return $t->status()->{zones}{models} }

# a tag

is_deeply([ (pull('m/a/manifests/v1'))[0] ], [ $m[0] ], 'tag');

# (it may be on its way to the disk yet)

ok(until_true(sub { (pull('m/a/manifests/v1'))[1] == 0 }), 'tag: kept');
is_deeply([ (pull('m/a/manifests/v1'))[0, 1] ], [ $m[0], 0 ], 'tag: valid');

lead($m[1]);
is((pull('m/a/manifests/v1'))[0], $m[0], 'tag: moved, and still valid');

my $r = purge('m/a/manifests/v1');
is($r->{status}, 200, 'a tag is purged');
is_deeply($r->{json}, { registry => 'demo', repository => 'm/a',
    purged => 'tag', reference => 'v1' }, 'which is said');
is(purge('m/a/manifests/v1')->{status}, 404, 'once');

my @seen = $t->parallel(8, sub { (pull('m/a/manifests/v1'))[0] });
is(scalar(grep { $_ eq $m[1] } @seen), 8, 'the registry is asked, by all');
is_deeply([ (pull('m/a/manifests/v1'))[0, 1] ], [ $m[1], 0 ],
    'and is believed again');

# by a rule of the location

for my $c (['', '/purge-if'], ['?x=1', '/purge-if'], ['', '/purge-for']) {
    my ($args, $at) = @$c;
    pull('m/a/manifests/v1');
    is(purge("m/a/manifests/v1$args", 'PURGE', $at)->{status}, 200,
        "a rule: $at$args");
    is(purge('m/a/manifests/v1')->{status}, 404, 'it is gone');
}
pull('m/a/manifests/v1');

# one that was only on the disk

$t->stop();
$t->start();
is(purge('m/a/manifests/v1', 'PURGE')->{status}, 200, 'a tag on the disk');
lead($m[2]);
is((pull('m/a/manifests/v1'))[0], $m[2], 'is not found there any more');
$t->stop();
$t->start();
is_deeply([ (pull('m/a/manifests/v1'))[0, 1] ], [ $m[2], 0 ],
    'what came since is');

# a HEAD that is under way learned nothing, and nobody joins it

lead($m[0]);
$t->write_file('hold', '');
$t->forget_requests();

@seen = $t->parallel(2, sub {
    my ($i) = @_;
    return $t->get('/v2/m/flight/manifests/v1')->{status} if $i == 0;

    until_true(sub { scalar grep { $_->{method} eq 'HEAD' } $t->requests() });
    purge('m/flight/manifests/v1');
    lead($m[1]);
    my $out = join ' ', map {
        $t->digest($t->get('/v2/m/flight/manifests/v1', undef, 10)->{body})
    } 1 .. 4;
    unlink "$d/hold";
    return $out;
});
is($seen[0], 200, 'a HEAD under way');
is($seen[1], join(' ', ($m[1]) x 4), 'later ones do not wait for it');
is((pull('m/flight/manifests/v1'))[0], $m[1], 'nor believe it');

# the same with the answer as the only one

lead($m[2]);
$t->write_file('hold', '');
$t->forget_requests();
@seen = $t->parallel(2, sub {
    my ($i) = @_;
    return $t->get('/v2/m/flight/manifests/v2')->{status} if $i == 0;
    until_true(sub { scalar grep { $_->{method} eq 'HEAD' } $t->requests() });
    my $status = purge('m/flight/manifests/v2')->{status};
    lead($m[3]);
    unlink "$d/hold";
    return $status;
});
is_deeply(\@seen, [ 200, 404 ], 'purged before it was known');
is((pull('m/flight/manifests/v2'))[0], $m[3], 'and not brought back');

# nor by a HEAD when it is a repository that is purged

lead($m[2]);
$t->write_file('hold', '');
$t->forget_requests();
@seen = $t->parallel(2, sub {
    my ($i) = @_;
    return $t->get('/v2/m/flight/manifests/v3')->{status} if $i == 0;
    until_true(sub { scalar grep { $_->{method} eq 'HEAD' } $t->requests() });
    my $status = purge('m/flight/')->{status};
    lead($m[3]);
    unlink "$d/hold";
    return $status;
});
is_deeply(\@seen, [ 200, 200 ], 'a repository is purged meanwhile');
is((pull('m/flight/manifests/v3'))[0], $m[3], 'not brought back either');

# a manifest

lead($m[3]);
purge('m/a/manifests/v1');
is((pull($_))[0], $m[3], $_) for 'm/a/manifests/v1', "m/b/manifests/$m[3]";
ok(until_true(sub { -f file($m[3], 'manifests') }), 'its body is kept');

$r = purge("m/a/manifests/$m[3]");
is($r->{status}, 200, 'a manifest is purged');
is($r->{json}{bytes}, length $manifests{$m[3]}, 'its body too');
ok(!-e file($m[3], 'manifests'), 'the file is gone');
is_deeply([ (pull("m/b/manifests/$m[3]"))[0, 1] ], [ $m[3], 1 ],
    'another repository fetches it again');
lead($m[1]);
is((pull('m/a/manifests/v1'))[0], $m[1], 'its tag is not believed any more');
is(purge("m/a/manifests/$m[3]")->{status}, 404, 'a manifest, again');
is((pull("m/a/manifests/$m[3]"))[1], 1, 'the registry is asked');

# a blob

my $size = length $blobs{$b[0]};
is((pull("m/a/blobs/$b[0]"))[0], $b[0], 'blob');
is_deeply([ (pull("m/a/blobs/$b[0]"))[0, 1] ], [ $b[0], 0 ], 'blob: stored');

$r = purge("m/a/blobs/$b[0]?r=other", undef, '/purge-by');
is($r->{status}, 404, 'another registry\'s purge');
is(files($b[0]), 2, 'leaves it');
is((pull("m/a/blobs/$b[0]"))[1], 0, 'and what is known of it');

$r = purge("m/a/blobs/$b[0]", 'POST');
is($r->{status}, 200, 'a blob is purged');
is_deeply($r->{json}, { registry => 'demo', repository => 'm/a',
    purged => 'blob', reference => $b[0], bytes => $size,
    pending => JSON::PP::false }, 'which is said');
is(files($b[0]), 0, 'the files are gone');
is(purge("m/a/blobs/$b[0]")->{status}, 404, 'again');
ok(until_true(sub { zone()->{bytes} == 0 && zone()->{blobs} == 0 }),
    'and the entry') or diag(explain(zone()));

my ($got, $n) = pull("m/a/blobs/$b[0]");
is($got, $b[0], 'it is fetched again');
ok($n > 1, 'from the registry');
is((pull("m/a/blobs/$b[0]"))[1], 0, 'and stored');

# by way of another repository of the same registry

is(purge("m/b/blobs/$b[0]")->{status}, 200, 'by another repository');
is(files($b[0]), 0, 'of the registry that it came from');
is((pull("m/a/blobs/$b[0]"))[0], $b[0], 'it is fetched again');

# one that is being read

my $s = $t->connect();
$t->send_request($s, 'GET', "/v2/held/blobs/$b[0]");
my $slow = $t->read_header($s);
is($slow->{status}, 200, 'a slow reader');

is(purge("held/blobs/$b[0]")->{status}, 200, 'what it reads is purged');
is(files($b[0]), 0, 'at once');
is((pull("m/c/blobs/$b[0]"))[0], $b[0], 'another one fetches it');
is(files($b[0]), 2, 'and has it stored');
is((pull("m/c/blobs/$b[0]"))[1], 0, 'for the next');
cmp_ok(zone()->{bytes}, '>=', 2 * $size, 'both count');

$t->read_body($s, $slow, 'GET', 120);
ok($slow->{body} eq $blobs{$b[0]}, 'the slow reader has all of it');
close $s;
ok(until_true(sub { zone()->{bytes} == $size && zone()->{blobs} == 1 }),
    'then one is left') or diag(explain(zone()));

# one that is being filled

$t->write_file('hold', '');
$s = $t->connect();
$t->send_request($s, 'GET', "/v2/m/slow/blobs/$b[1]");
$slow = $t->read_header($s);
is($slow->{status}, 200, 'a blob that is being fetched');

$r = purge("m/slow/blobs/$b[1]");
is($r->{status}, 202, 'is not purged yet');
ok($r->{json}{pending}, 'which is said');
is(files($b[1]), 2, 'its fill has its files');

($got, $n, $r) = pull("m/d/blobs/$b[1]");
is($got, $b[1], 'another reader');
ok(!exists $r->{h}{'cache-status'}, 'is passed through');

unlink "$d/hold";
$t->read_body($s, $slow, 'GET', 60);
ok($slow->{body} eq $blobs{$b[1]}, 'its reader has all of it');
close $s;
ok(until_true(sub { files($b[1]) == 0 }), 'then it goes');
ok(until_true(sub { zone()->{bytes} == $size && zone()->{blobs} == 1 }),
    'with its entry') or diag(explain(zone()));
is((pull("m/d/blobs/$b[1]"))[0], $b[1], 'it is fetched again');
is(files($b[1]), 2, 'and stored');

# one that is being filled for nobody any more

$t->write_file('hold', '');
$s = $t->connect();
$t->send_request($s, 'GET', "/v2/finish/slow/blobs/$b[2]");
is($t->read_header($s)->{status}, 200, 'a fill that is to be finished');
close $s;
is(purge("finish/slow/blobs/$b[2]")->{status}, 202, 'is not purged yet');
unlink "$d/hold";
ok(until_true(sub { files($b[2]) == 0 }), 'it goes soon');

# a repository

lead($m[0]);
for my $repo (qw! r/a r/a/b r/b !) {
    pull("$repo/manifests/v1");
    pull("$repo/blobs/$b[0]");
}
lead($m[1]);
is((pull("$_/manifests/v1"))[1] + (pull("$_/blobs/$b[0]"))[1], 0, "$_: known")
    for qw! r/a r/a/b r/b !;

$r = purge('r/a/');
is($r->{status}, 200, 'a repository is purged');
is_deeply($r->{json}, { registry => 'demo', repository => 'r/a',
    purged => 'repository' }, 'which is said');
is(purge('r/a/')->{status}, 404, 'once');
is(purge('r/none/')->{status}, 404, 'one that nobody knows');

is((pull("$_/manifests/v1"))[1] + (pull("$_/blobs/$b[0]"))[1], 0,
    "$_: still known") for qw! r/a/b r/b !;
is((pull('r/a/manifests/v1'))[0], $m[1], 'its tag is asked for');
is_deeply([ (pull("r/a/blobs/$b[0]"))[0, 1] ], [ $b[0], 1 ],
    'its blob too, once, and comes from the cache');
is((pull('r/a/manifests/v1'))[1] + (pull("r/a/blobs/$b[0]"))[1], 0,
    'and both are known again');

# also on the disk

$t->stop();
$t->start();
is((pull("$_/manifests/v1"))[1], 0, "$_: known after a restart")
    for qw! r/a r/a/b !;
is(purge("r/b/")->{status}, 200, 'a repository that is on the disk only');
is((pull('r/b/manifests/v1'))[0], $m[1], 'is asked for');
is(purge('r/a/')->{status}, 200, 'purged');
lead($m[2]);
$t->stop();
$t->start();
is_deeply([ (pull('r/b/manifests/v1'))[0, 1] ], [ $m[1], 0 ],
    'what came after a purge is known after a restart');

# (what was not purged by name is still in a file, of no number that counts)

$t->get("/v2/r/a/manifests/$m[2]");
is((pull('r/a/manifests/v1'))[0], $m[2], 'what was purged is not');

# one reference is purged, of which the registry is asked; others are known
# from their files

lead($m[0]);
pull("one/manifests/$_") for qw/ v1 v2 /, $m[0];
$t->stop();
$t->start();
is(purge('one/manifests/v1')->{status}, 200, 'one of three');
is((pull("one/manifests/$_"))[1], 0, "$_ is known") for 'v2', $m[0];
is((pull('one/manifests/v1'))[1], 1, 'the one is not');
lead($m[2]);

# a name that the registry has another for

is((pull('edge/x/manifests/v1'))[0], $m[2], 'a mapped name');
ok((grep { $_->{uri} =~ m!^/v2/up/x/! } $t->requests()), 'is mapped');
is(purge('edge/x/manifests/v1')->{status}, 404, 'not in another registry');
is(purge('edge/x/manifests/v1?r=mapped', undef, '/purge-by')->{status}, 200,
    'a mapped name is purged');
is(purge('x/manifests/v1?r=nobody', undef, '/purge-by')->{status}, 404,
    'no such registry');

# what is refused

$r = purge('m/a/manifests/v1', 'GET');
is($r->{status}, 405, 'GET');
is($r->{h}{allow}, 'DELETE, POST, PURGE', 'says what is allowed');
is(purge('m/a/manifests/v1', 'HEAD')->{status}, 405, 'HEAD');
like($r->{body}, qr/"UNSUPPORTED"/, 'in OCI form');

for (['A/', 400, 'NAME_INVALID'], ['m/../a/', 400, 'NAME_INVALID'],
    ['m//a/', 400, 'NAME_INVALID'], ['m%2fa/', 400, 'NAME_INVALID'],
    ['/', 400, 'NAME_INVALID'], ['', 404, 'NAME_UNKNOWN'],
    ['A/manifests/v1', 400, 'NAME_INVALID'],
    ['m/a/manifests/-v1', 400, 'MANIFEST_INVALID'],
    ['m/a/blobs/sha256:12', 400, 'DIGEST_INVALID'],
    ['m/a/blobs/v1', 400, 'DIGEST_INVALID'],
    ['_catalog', 404, 'NAME_UNKNOWN'], ['m/a/tags/list', 404,
    'NAME_UNKNOWN'], ['m/a', 404, 'NAME_UNKNOWN'])
{
    my ($uri, $status, $code) = @$_;
    $r = purge($uri);
    is($r->{status}, $status, "\"$uri\"");
    like($r->{body}, qr/"$code"/, "\"$uri\": $code");
}

$t->done();
