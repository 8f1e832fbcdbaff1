#!/usr/bin/perl

# Tags and manifests: verified, byte-exact, revalidated, withdrawn, stale.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('docker-registry');

my $t = OCI->new(workers => 2);
my $port = $t->registry();

my ($m, $digest) = $t->push_artifact('llm/a', 'v1', 'weights one');

# a second upstream is scripted: it lies, counts, goes down

my $bad = '{"schemaVersion":2}';
my $big = '{"x":"' . 'y' x (4 * 1024 * 1024) . '"}';
my $cut = '{"cut":"' . 'z' x 100000 . '"}';
my $odd = 'application/x.unheard-of+json; v="1"';

my $scripted = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($ref) = $q->{uri} =~ m!/manifests/(.+)$!;
    my %h = ('Content-Type' => $OCI::TYPE{manifest});

    if ($q->{uri} =~ m!/lie/!) {
        return $t->reply($c, $q, 200, { %h, 'Docker-Content-Digest' =>
            $t->digest('something else') }, $bad);
    }
    if ($q->{uri} =~ m!/nohead/!) {
        return $t->reply($c, $q, 405, {}, '') if $q->{method} eq 'HEAD';
        return $t->reply($c, $q, 200, \%h, $bad);
    }
    if ($q->{uri} =~ m!/big/!) {
        return $t->reply($c, $q, 200, { %h, 'Docker-Content-Digest' =>
            $t->digest($big) }, $big);
    }
    if ($q->{uri} =~ m!/slow/!) {
        sleep 0.5 if $q->{method} eq 'HEAD';
        return $t->reply($c, $q, 200, { %h, 'Docker-Content-Digest' =>
            $t->digest($bad), Warning => '299 - "old"' }, $bad);
    }
    if ($q->{uri} =~ m!/cut/! && $q->{method} eq 'GET') {
        print $c "HTTP/1.1 200 OK\r\nContent-Type: $h{'Content-Type'}\r\n"
            . 'Content-Length: ' . length($cut) . "\r\n\r\n"
            . substr($cut, 0, $q->{n} > 1 ? length $cut : 1000);
        return $q->{n} > 1;
    }
    if ($q->{uri} =~ m!/cut/!) {
        return $t->reply($c, $q, 200, { %h, 'Docker-Content-Digest' =>
            $t->digest($cut), 'Content-Length' => length $cut }, '');
    }
    return $t->reply($c, $q, 500, {}, 'down') if -e "$t->{dir}/down";
    if ($q->{uri} =~ m!/open/!) {
        return $t->reply($c, $q, 404, {}, '{}') if -e "$t->{dir}/gone";
        return $t->reply($c, $q, 403, {}, '{}') if -e "$t->{dir}/denied";
        return $t->reply($c, $q, 200, { 'Content-Type' => $odd,
            'Docker-Content-Digest' => $t->digest($bad) }, $bad);
    }
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    if (($q->{h}{authorization} // '') ne 'Basic Z29vZDpnb29k') {
        return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
            'Basic realm="x"' }, '{"errors":[{"code":"UNAUTHORIZED"}]}');
    }
    return $t->reply($c, $q, 200, { %h, 'Docker-Content-Digest' =>
        $t->digest($bad) }, $bad);
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; }
oci_registry scripted { url http://127.0.0.1:$scripted; }
oci_registry stored { url http://127.0.0.1:$scripted; credentials anonymous; }
map \$uri \$registry {
    ~^/v2/s/ scripted;
    ~^/v2/stored/ stored;
    default demo;
}
log_format oci '\$request_method \$uri \$status \$oci_cache_status';
access_log $t->{dir}/oci.log oci;
EOC
location /v2/ { oci_pass \$registry; oci_cache models; oci_access open; }
location /v2/s/open/valid/ {
    oci_pass scripted;
    oci_cache models;
    oci_cache_valid tag 1h;
}
EOL
$t->start();

# what clients send

my $accept = { Accept => [ $OCI::TYPE{manifest}, "$OCI::TYPE{index}, */*" ] };

sub pull {
    my ($uri, $h) = @_;
    return $t->get($uri, { %$accept, %{$h || {}} });
}

# tags

my $r = pull('/v2/llm/a/manifests/v1');
is($r->{status}, 200, 'tag');
is($r->{body}, $m, 'tag: byte-exact');
is($r->{h}{'docker-content-digest'}, $digest, 'tag: digest');
is($r->{h}{'content-type'}, $OCI::TYPE{manifest}, 'tag: media type');
is($r->{h}{etag}, "\"$digest\"", 'tag: ETag');
is($r->{h}{'content-length'}, length $m, 'tag: length');
like($r->{h}{'cache-status'}, qr/fwd=uri-miss/, 'tag: miss');

$r = pull('/v2/llm/a/manifests/v1');
is($r->{body}, $m, 'tag again');
like($r->{h}{'cache-status'}, qr/hit; detail=revalidated/, 'revalidated');

my %get = map { $_ => $r->{h}{$_} } grep { !/^(date|connection|cache-status)$/ }
    keys %{$r->{h}};
my $h = $t->head('/v2/llm/a/manifests/v1', $accept);
is($h->{status}, 200, 'HEAD');
is_deeply({ map { $_ => $h->{h}{$_} }
    grep { !/^(date|connection|cache-status)$/ } keys %{$h->{h}} }, \%get,
    'HEAD has the headers of GET');

# by digest

$r = pull("/v2/llm/a/manifests/$digest");
is($r->{body}, $m, 'by digest');
like($r->{h}{'cache-status'}, qr/^nginx-oci; hit$/, 'by digest: hit');

$r = pull("/v2/llm/a/manifests/$digest",
    { 'If-None-Match' => "\"$digest\"" });
is($r->{status}, 304, 'If-None-Match');

$r = pull("/v2/llm/a/manifests/$digest", { Range => 'bytes=0-' });
is($r->{status}, 206, 'range on a manifest');
is($r->{body}, $m, 'range: bytes');

$r = pull('/v2/llm/a/manifests/v1', { Range => 'bytes=3-6' });
is($r->{status}, 206, 'range on a tag');
is($r->{body}, substr($m, 3, 4), 'range on a tag: bytes');

$r = pull("/v2/llm/a/manifests/$digest", { Range => 'bytes=1-2,5-8' });
is($r->{status}, 206, 'multipart of a manifest');
like($r->{body}, qr/\r\n\Q${\ substr($m, 5, 4) }\E\r\n--/, 'its parts');

# another repository has to prove it for itself

$r = pull("/v2/llm/b/manifests/$digest");
is($r->{status}, 404, 'not in another repository');

# retagged, deleted

my ($m2, $digest2) = $t->push_artifact('llm/a', 'v1', 'weights two');
$r = pull('/v2/llm/a/manifests/v1');
is($r->{h}{'docker-content-digest'}, $digest2, 'a moved tag is seen');

# the registry's answers for what is not there

$r = pull('/v2/llm/a/manifests/none');
is($r->{status}, 404, 'no such tag');
like($r->{body}, qr/MANIFEST_UNKNOWN/, 'in the registry\'s words');

# scripted

$r = $t->get('/v2/s/lie/manifests/x');
is($r->{status}, 502, 'a lie about the digest');
like($r->{body}, qr/MANIFEST_INVALID/, 'an OCI error');
is(scalar(grep { -f } glob "$t->{dir}/cache/manifests/*/*"), 2,
    'nothing of it is kept');

$r = $t->get('/v2/s/lie/manifests/' . $t->digest('whatever'));
is($r->{status}, 502, 'a lie by digest');
is(scalar(grep { -f } glob "$t->{dir}/cache/manifests/*/*"), 2,
    'nothing of it is kept either');

$r = $t->get('/v2/s/cut/manifests/x');
isnt($r->{body}, $cut, 'a body that was cut short');
is(scalar(grep { -f } glob "$t->{dir}/cache/manifests/*/*"), 2,
    'is not kept');
$r = $t->get('/v2/s/cut/manifests/x');
ok($r->{body} eq $cut, 'the next is whole');

$r = $t->get('/v2/s/nohead/manifests/x');
is($r->{status}, 200, 'no HEAD, no digest');
is($r->{h}{'docker-content-digest'}, $t->digest($bad), 'computed here');

$r = $t->get('/v2/s/big/manifests/x');
is($r->{status}, 200, 'over 4 MiB');
ok($r->{body} eq $big, 'passed through');

$t->forget_requests();
my @r = $t->parallel(6, sub {
    my $x = $t->get('/v2/s/slow/manifests/x');
    return "$x->{status} $x->{body} " . ($x->{h}{warning} // '');
});
is(scalar(grep { /^200 \Q$bad\E/ } @r), 6, 'six at once');
my @heads = grep { $_->{method} eq 'HEAD' } $t->requests();
ok(@heads <= 2, 'equal HEADs are one in a worker') or diag(scalar @heads);

# stale, for those whose right is known

my $good = { Authorization => 'Basic Z29vZDpnb29k' };

$r = $t->get('/v2/s/auth/manifests/x', $good);
is($r->{status}, 200, 'good credentials');
$r = $t->get('/v2/s/auth/manifests/x');
is($r->{status}, 401, 'none');
is($r->{h}{'www-authenticate'}, 'Basic realm="x"', 'the challenge passes');

$t->write_file('down', '');
$r = $t->get('/v2/s/auth/manifests/x', $good);
is($r->{status}, 200, 'down: stale');
like($r->{h}{'cache-status'}, qr/detail=stale/, 'down: said so');
is($r->{body}, $bad, 'down: bytes');
$r = $t->get('/v2/s/auth/manifests/x', { Authorization => 'Basic eDp5' });
is($r->{status}, 500, 'down: not for others');

unlink "$t->{dir}/down";

# a media type that nobody has heard of; a tag that need not be asked for

$t->forget_requests();
$r = $t->get('/v2/s/open/valid/manifests/x');
is($r->{h}{'content-type'}, $odd, 'an unknown media type is left alone');
$t->forget_requests();
$r = $t->get('/v2/s/open/valid/manifests/x');
like($r->{h}{'cache-status'}, qr/^nginx-oci; hit$/, 'a valid tag: hit');
is(scalar($t->requests()), 0, 'a valid tag: not asked for');
$r = $t->get('/v2/s/open/valid/manifests/x', $good);
is(scalar(grep { $_->{method} eq 'HEAD' } $t->requests()), 1,
    'a valid tag: asked for another caller');

# a damaged file is fetched again

$t->allow(qr/manifest file .* was damaged and is removed/);
my ($name) = $t->digest($bad) =~ /:(.+)/;
my ($file) = glob "$t->{dir}/cache/manifests/*/$name";

# the response before may have its body in memory for a moment still, or the
# file be written once more

for (1 .. 50) {
    if (open my $f, '+<', $file) {
        print $f 'X';
        close $f;
    }
    $r = $t->get('/v2/s/open/valid/manifests/x');
    last if $r->{body} ne $bad || $r->{h}{'cache-status'} =~ /miss/;
    select undef, undef, undef, 0.1;
}

is($r->{body}, $bad, 'damaged on disk: the right bytes');
like($r->{h}{'cache-status'}, qr/fwd=uri-miss/, 'damaged on disk: a miss');

# what the registry has taken back is not served stale, whoever asks

for my $c (qw/s stored/) {
    for my $how (qw/denied gone/) {
        my $status = $how eq 'gone' ? 404 : 403;
        my $uri = "/v2/$c/open/$how/manifests/x";

        is($t->get($uri)->{status}, 200, "$c, $how: there");
        $t->write_file('down', '');
        like($t->get($uri)->{h}{'cache-status'}, qr/detail=stale/,
            "$c, $how: stale while down");
        isnt($t->get($uri, { Accept => 'text/plain' })->{status}, 200,
            "$c, $how: not to who does not accept its type");
        unlink "$t->{dir}/down";

        $t->write_file($how, '');
        is($t->get($uri)->{status}, $status, "$c, $how: taken back");
        unlink "$t->{dir}/$how";

        $t->write_file('down', '');
        isnt($t->get($uri)->{status}, 200, "$c, $how: not stale after that");
        unlink "$t->{dir}/down";
    }
}

# withdrawn

$t->http($port, 'DELETE', "/v2/llm/a/manifests/$digest2", {});
$r = pull('/v2/llm/a/manifests/v1');
is($r->{status}, 404, 'a deleted tag is gone');

# the registry is not there at all

$t->push_artifact('llm/a', 'v3', 'weights three');
my $up = pull('/v2/llm/a/manifests/v3');
is($up->{status}, 200, 'another tag');
$t->stop_one('registry');
$r = pull('/v2/llm/a/manifests/v3');
is($r->{body}, $up->{body}, 'stopped: bytes');
like($r->{h}{'cache-status'}, qr/detail=stale/, 'stopped: stale');
$h = $t->head('/v2/llm/a/manifests/v3', $accept);
is($h->{h}{'content-length'}, length $up->{body}, 'stopped: HEAD');
$r = pull('/v2/llm/a/manifests/v3', { Authorization => 'Basic eDp5' });
isnt($r->{status}, 200, 'stopped: not for others');

$t->done();
