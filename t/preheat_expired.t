#!/usr/bin/perl

# oci_preheat: the token expires while the last blob comes.  What is stored
# need not be asked for with it again.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Fault;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $fault = Fault->new($t);

my $blob = $t->random_blob(2_000_000);
my $digest = $t->digest($blob);
my $manifest = encode_json({ schemaVersion => 2,
    mediaType => $OCI::TYPE{manifest}, layers => [{ digest => $digest,
        mediaType => 'application/x', size => length $blob }] });

my $index = encode_json({ schemaVersion => 2,
    mediaType => $OCI::TYPE{index}, manifests => [{ size => length $manifest,
        digest => $t->digest($manifest),
        mediaType => $OCI::TYPE{manifest} }] });

# a blob's second half comes when it may

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my $token = $q->{h}{authorization} // '';
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        'Basic realm="x"' }, '{}') if $token ne 'Bearer new'
        && ($token ne 'Bearer good' || -e "$d/expired");
    my ($what, $ref) = $q->{uri} =~ m!/(manifests|blobs)/(\S+)$!
        or return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply_slowly($c, $q, $blob, 0, go => sub {
        $t->write_file('half', '');
        return until_true(60, sub { -e "$d/go" });
    }) if $what eq 'blobs';
    my ($m, $type) = $ref eq $t->digest($manifest)
        ? ($manifest, 'manifest') : ($index, 'index');
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{$type},
        'Docker-Content-Digest' => $t->digest($m) }, $m);
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; stall_timeout 600s; }
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_fill_connections 1; }
location /p2p/ { oci_preheat registry=demo open referrers=off; }
EOL
mkdir "$d/cache";
$fault->start();

my $r = $t->http($t->{edge}, 'POST', '/p2p/oapi/v1/jobs', {}, encode_json({
    type => 'preheat', args => { type => 'image',
        url => '/v2/m/m/manifests/v1',
        headers => { Authorization => 'Bearer good' } } }));
my $job = decode_json($r->{body});

sub look {
    $job = decode_json($t->get("/p2p/jobs/$job->{id}")->{body});
    return $job->{state} !~ /pending|running/;
}

ok(until_true(30, sub { look(); -e "$d/half" && $job->{pieces_done} }),
    'the last blob comes');
sleep 3;

# rights that were seen not long ago are not asked for

$t->write_file('expired', '');
$fault->later(100);
look();
$t->write_file('go', '');
ok(until_true(60, \&look), 'the job has ended');
is($job->{state}, 'success', 'it is one') or diag($job->{error});

my $sent = $t->sent();
is(join(' ', grep { $_ ne $digest } $t->parallel(8, sub {
    $t->digest($t->get("/v2/m/m/blobs/$digest", { Authorization =>
        'Bearer new' })->{body}) })), '', 'clients');
is($t->sent(), $sent, 'nothing of it was fetched');

$t->done();
