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
    return $t->reply($c, $q, 500, {}, 'down') if -e "$t->{dir}/down";
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
map \$uri \$registry { ~^/v2/s/ scripted; default demo; }
log_format oci '\$request_method \$uri \$status \$oci_cache_status';
access_log $t->{dir}/oci.log oci;
EOC
location /v2/ { oci_pass \$registry; oci_cache models; }
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

# withdrawn

$t->http($port, 'DELETE', "/v2/llm/a/manifests/$digest2", {});
$r = pull('/v2/llm/a/manifests/v1');
is($r->{status}, 404, 'a deleted tag is gone');

$t->done();
