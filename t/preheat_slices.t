#!/usr/bin/perl

# A preheat ends, whatever number of slices a blob has.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new();
my @blobs = map { $t->random_blob(65536 * $_ + 1) } 0, 62, 63, 64, 199;
my %by = map { $t->digest($_) => $_ } @blobs;
my $manifest = encode_json({ schemaVersion => 2, layers => [map {
    { mediaType => 'application/y', size => length $by{$_}, digest => $_ } }
    sort keys %by] });

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($ref) = $q->{uri} =~ m!/v2/m/a/\w+/(\S+)!;
    return $t->reply_blob($c, $q, $by{$ref}) if $by{$ref // ''};
    return $t->reply($c, $q, 200, { 'Docker-Content-Digest' =>
        $t->digest($manifest), 'Content-Type' =>
        'application/vnd.oci.image.manifest.v1+json' }, $manifest);
});

$t->conf(http => <<EOC, cache_args => 'slice=64k', location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
EOC
location /v2/ { oci_pass demo; oci_access open; oci_cache models; }
location /p2p/ { oci_preheat registry=demo open; }
EOL
$t->start();

for my $again (0, 1) {
    my $r = $t->http($t->{edge}, 'POST', '/p2p/jobs', {},
        '{"ref": "m/a:v1"}');
    my $id = decode_json($r->{body})->{id};
    my $job;
    ok(until_true(30, sub {
        $job = decode_json($t->get("/p2p/jobs/$id")->{body});
        return $job->{state} =~ /success|failure/;
    }), 'the end') or diag(explain($job));
    is($job->{state}, 'success', $again ? 'of what is there' : 'of a job');
}

my $mark = $t->upstream_bytes();
for (sort keys %by) {
    ok($t->get("/v2/m/a/blobs/$_")->{body} eq $by{$_},
        length($by{$_}) . ' bytes');
}
is($t->upstream_bytes(), $mark, 'nothing was fetched');

$t->done();
