#!/usr/bin/perl

# S12, of what oci_preheat reads: manifests of 4 MiB that would become a
# hundred times as much.  A worker's memory doesn't follow them, a job says why
# it failed, and the next one is done.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $max = 4 * 1024 * 1024;

sub filled {
    my ($start, $piece, $end) = @_;
    my $n = int(($max - length($start) - length $end) / length $piece);
    return $start . $piece x $n . $end;
}

my $right = $t->random_blob(1000);
my $layer = JSON::PP->new->canonical->encode({ size => length $right,
    digest => $t->digest($right), mediaType => 'application/x' });

my %manifest = (
    objects => filled('{"layers":[],"x":[', '{},', '{}]}'),
    arrays => filled('{"layers":[],"x":[', '[],', '[]]}'),
    layers => filled('{"layers":[', '{},', '{}]}'),
    index => filled('{"manifests":[', '{},', '{}]}'),
    pairs => filled('{"layers":[],"x":[', '{"":{}},', '{}]}'),
    cut => filled('{"layers":[],"x":[', '{},', ''),
    deep => filled('', '{"a":', ''),
    right => "{\"schemaVersion\":2,\"layers\":[$layer]}",
);
my %referred;

# each of them, as what refers to something, too

my %host = map { $_ => "{\"schemaVersion\":2,\"layers\":[$layer],\"x\":\"$_\"}"
    } sort keys %manifest;
$referred{$t->digest($host{$_})} = $manifest{$_} for keys %host;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    my ($repo, $what, $ref) = $q->{uri}
        =~ m!^/v2/m/(\w+)/(manifests|blobs|referrers)/(\S+)$!
        or return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply_blob($c, $q, $right) if $what eq 'blobs';
    my $body = $what eq 'referrers' ? $referred{$ref}
        : $repo =~ /^host_(\w+)/ ? $host{$1} : $manifest{$repo};
    return $t->reply($c, $q, 404, {}, '{}')
        if !defined $body || $ref =~ /^sha256-/;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($body) }, $body);
}, quiet => 1);

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location /p2p/ { oci_preheat registry=demo open jobs=8; }
EOL
$t->start();

my ($worker) = $t->workers();

sub peak {
    my ($kb) = `grep VmHWM /proc/$worker/status` =~ /(\d+)/;
    return $kb / 1024;
}

sub from_here {
    open my $f, '>', "/proc/$worker/clear_refs" or return;
    print $f 5;
    close $f;
}

sub job {
    my ($name) = @_;
    my $job = decode_json($t->http($t->{edge}, 'POST', '/p2p/jobs', {},
        encode_json({ ref => "m/$name:v1" }))->{body});
    until_true(60, sub {
        $job = decode_json($t->get("/p2p/jobs/$job->{id}")->{body});
        $job->{state} !~ /pending|running/ });
    return $job;
}

for my $name (sort keys %manifest) {
    for my $way ('', 'host_') {
        from_here();
        my $before = peak();
        my $job = job("$way$name");

        SKIP: {
            skip 'sanitizers keep what is freed', 1 if $OCI::ASAN;
            cmp_ok(peak() - $before, '<', 48, "$way$name: memory");
        }

        is($job->{state}, $way || $name eq 'right' ? 'success' : 'failure',
            "$way$name: the job") or diag($job->{error});
        like($job->{error}, qr/can't be used: it (?:has too many values|(?#
            )is no JSON object)/, "$way$name: why")
            if $job->{state} eq 'failure';
    }
}

is(($t->workers())[0], $worker, 'the worker lives');

$t->done();
