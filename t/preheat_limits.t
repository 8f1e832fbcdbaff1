#!/usr/bin/perl

# oci_preheat: what does not fit, registries that ask for patience, and
# locations that are no good for it.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $json = JSON::PP->new->canonical;

my (%blobs, %manifests);

sub image {
    my ($tag, @sizes) = @_;
    my @layers = map { $t->random_blob($_) } @sizes;
    $blobs{$t->digest($_)} = $_ for @layers;
    my $m = $json->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, layers => [map { { digest =>
            $t->digest($_), size => length $_, mediaType => 'application/x'
        } } @layers] });
    $manifests{$_} = $m for $tag, $t->digest($m);
    return map { $t->digest($_) } @layers;
}

my @tight = image('tight', (1_000_000) x 4);
my @large = image('large', (1_500_000) x 3);
my @small = image('small', (300_000) x 3);
my ($later) = image('later', 100_000);
my ($dated) = image('dated', 100_000);

# which blob is to be asked for later, and how that is said

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    my ($what, $ref) = $q->{uri} =~ m!/(manifests|blobs)/(\S+)$!
        or return $t->reply($c, $q, 404, {}, '{}');
    if ($ref eq $later || $ref eq $dated) {
        my $until = $t->read_file('until')
            || $t->write_file('until', time() + 17) && time() + 17;
        my $after = $ref eq $later ? 17 : do {
            my @g = gmtime $until + 1;
            sprintf '%s, %02d %s %d %02d:%02d:%02d GMT',
                qw/ Sun Mon Tue Wed Thu Fri Sat /[$g[6]], $g[3],
                qw/ Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec /[$g[4]],
                $g[5] + 1900, @g[2, 1, 0] };
        return $t->reply($c, $q, 503, { 'Retry-After' => $after }, '')
            if time() < $until;
    }
    my $body = ($what eq 'blobs' ? \%blobs : \%manifests)->{$ref}
        // return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply_blob($c, $q, $body) if $what eq 'blobs';
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($body) }, $body);
});

my ($plain, $tls) = (OCI::port(), OCI::port());
my ($cert, $key) = $t->certificate('edge.test');

$t->conf(cache_args => 'max_size=4m slice=64k', http => <<EOC,
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
client_body_in_file_only on;
server {
    listen 127.0.0.1:$plain;
    listen 127.0.0.1:$tls ssl;
    ssl_certificate $cert;
    ssl_certificate_key $key;
    set \$by "\$scheme\$https\$http_x_test";
    if (\$by = http) { return 301 https://\$host\$request_uri; }
    location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
    location /p2p/ { oci_preheat registry=demo open; }
}
EOC
    location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location /p2p/ { oci_preheat registry=demo open referrers=off; }
location /cut/ { rewrite ^ /x?123preheats/1 break;
    oci_preheat registry=demo open; }
location = /hook { oci_webhook registry=demo open; }
EOL
$t->start();

sub job {
    my ($ref, $edge) = @_;
    $edge //= $t->{edge};
    my $r = $t->http($edge, 'POST', '/p2p/jobs', { 'X-Test' => 1 },
        encode_json({ ref => $ref }));
    return { state => $r->{status} } if $r->{status} != 202;
    my $job = decode_json($r->{body});
    until_true(90, sub {
        $job = decode_json($t->http($edge, 'GET', "/p2p/jobs/$job->{id}",
            { 'X-Test' => 1 })->{body});
        $job->{state} !~ /pending|running/ });
    return $job;
}


# a body that others would have in a file

my $job = job('m/m:small');
is($job->{state}, 'success', 'a body in memory');
is($t->http($t->{edge}, 'POST', '/hook', {}, encode_json({
    type => 'PULL_ARTIFACT', occur_at => 1, operator => 'x', event_data =>
    { resources => [], repository => { name => 'm', namespace => 'm',
        repo_full_name => 'm/m', repo_type => 'public' } } }))->{status}, 200,
    'a webhook\'s, too');

# what a rule made of the URI has no place there

like($t->get('/cut/a')->{body}, qr/no such endpoint/, 'rewritten');

# a server that sends clients to https, where these come by it

is($t->http($plain, 'GET', '/v2/')->{status}, 301, 'a client by http');
$job = job('m/m:small', $plain);
is($job->{state}, 'success', 'a job of that server') or diag($job->{error});

# more than there could ever be: nothing is fetched

$t->forget_requests();
$job = job('m/m:large');
is($job->{state}, 'failure', 'too large: failure');
like($job->{error}, qr/has 4500000 bytes, which can't be stored here/,
    'too large: why');
is(scalar(grep { $_->{uri} =~ m!/blobs/! } $t->requests()), 0,
    'too large: no layer was asked for');

# each of them fits, and there would be room for all, but there is something
# else: what was fetched first has gone when the last one comes

$job = job('m/m:tight');
is($job->{state}, 'failure', 'too tight: failure');
like($job->{error}, qr/does not stay|stored/, 'too tight: why');

# registries that want to be asked later

for my $c (['later', $later], ['dated', $dated]) {
    my ($tag, $digest) = @$c;
    unlink "$d/until";
    $t->forget_requests();
    $job = job("m/$tag:$tag");
    is($job->{state}, 'success', "$tag: success") or diag($job->{error});
    cmp_ok(scalar(grep { $_->{uri} =~ m!/blobs/! } $t->requests()), '<', 7,
        "$tag: it had its time");
}

# one location, one handler

for my $c (
    ['oci_pass demo; oci_preheat registry=demo open;', qr/another handler/],
    ['oci_preheat registry=demo open; oci_pass demo;', qr/another handler/],
    ['oci_webhook registry=demo open; proxy_pass http://127.0.0.1:1;',
        qr/"oci_webhook" stands in .*another handler/],
    ['stub_status; oci_webhook registry=demo open;', qr/another handler/],
) {
    my ($text, $error) = @$c;
    my $conf = $t->read_file('nginx.conf');
    $conf =~ s!location /p2p/ \{.*\}!location /p2p/ { $text }!;
    my ($rc, $out) = $t->check($conf);
    isnt($rc, 0, "refused: $text");
    like($out, $error, 'why');
    like($out, qr/check\.conf:\d+/, 'and where');
}

$t->done();
