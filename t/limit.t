#!/usr/bin/perl

# nginx's own limits of a response's rate, beside a registry that pauses.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $size = 2 * 1024 * 1024;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);

# answers with the first bytes, then after a pause with the rest

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($from, $to) = (0, $size - 1);

    if (($q->{h}{range} // '') =~ /^bytes=(\d+)-(\d*)$/) {
        ($from, $to) = ($1, length $2 ? $2 : $to);
    }

    my $n = $to - $from + 1;
    my $first = $n > 600_000 ? 600_000 : $n;

    print $c "HTTP/1.1 206 Partial Content\r\nContent-Length: $n\r\n",
        "Content-Range: bytes $from-$to/$size\r\n\r\n",
        substr $blob, $from, $first;
    $c->flush();

    if ($n > $first) {
        sleep 3;
        print $c substr $blob, $from + $first, $n - $first;
    }

    return 1;
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; }
EOC
location /v2/ {
    limit_rate 500k;
    oci_pass demo;
    oci_cache models;
}
EOL
$t->start();

# all that is there has gone out, at the limit, while the registry pauses

my $r = $t->get("/v2/m/blobs/$digest", undef, 30);
is($r->{status}, 200, 'limited: status');
ok(!$r->{timeout} && !$r->{cut}, 'limited: whole');
ok($r->{body} eq $blob, 'limited: bytes');

$r = $t->get("/v2/m/blobs/$digest", undef, 30);
ok($r->{body} eq $blob, 'limited: bytes of a hit');

$t->done();
