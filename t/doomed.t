#!/usr/bin/perl

# A blob that is purged while it is filled goes, too, when the worker that
# fills it dies: the manager sees to that.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $blob = $t->random_blob(3 * 1024 * 1024 + 5);
my $digest = $t->digest($blob);
my ($hex) = $digest =~ /:(.+)/;
my $file = "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex";

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // length $blob);

    return $t->reply_blob($c, $q, $blob)
        if !defined $q->{from} || $to - $from <= 1 || !-e "$d/hold";

    $to = length $blob if $to > length $blob;
    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . '/'
        . length($blob) . "\r\n\r\n", substr($blob, $from, 1500000);
    until_true(60, sub { !-e "$d/hold" });
    return 0;
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=1m', location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; }
location /purge/ { oci_cache_purge demo; oci_cache models; }
EOL
$t->allow(qr/exited on signal 9/);
$t->write_file('hold', '');
$t->start();

my $s = $t->connect();
$t->send_request($s, 'GET', "/v2/m/a/blobs/$digest");
is($t->read_header($s)->{status}, 200, 'a blob that is being fetched');

my $r = $t->http($t->{edge}, 'DELETE', "/purge/v2/m/a/blobs/$digest");
is($r->{status}, 202, 'is purged later');
ok(-e $file, 'it is there');

my @old = $t->workers();
kill 9, @old;
ok(until_true(60, sub { !grep { kill 0, $_ } @old }), 'the workers died');
close $s;

ok(until_true(60, sub { !-e $file && !-e "$file.map" }), 'it goes');

unlink "$d/hold";
$r = $t->get("/v2/m/a/blobs/$digest");
ok($r->{body} eq $blob, 'it is fetched again');
ok(-e $file, 'and stored');
is($t->status()->{zones}{models}{blobs}, 1, 'once');

$t->done();
