#!/usr/bin/perl

# A fill borrows its readers' credentials.  When the registry refuses those of
# one of them in the middle, the others' go on: nobody is cut who may read.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $size = 24 * 1024 * 1024 + 5;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);

# slow, in ranges of its own size; who stands in "revoked" is refused

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my $who = $q->{h}{authorization} // '';
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    my $revoked = -e "$t->{dir}/revoked" ? $t->read_file('revoked') : '';

    if ($who !~ /^Bearer canary-(alice|bob)$/ || $revoked =~ /$1/) {
        return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
            'Bearer realm="http://127.0.0.1:1/t"' }, '{"errors":[]}');
    }
    return $t->reply_blob($c, $q, $blob) if $to - $from < 2;

    # "probes": nothing but the first byte

    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        'Bearer realm="http://127.0.0.1:1/t"' }, '')
        if $who =~ /bob/ && -e "$t->{dir}/probes";

    # a connection of one who is refused by now is cut

    return $t->reply_slowly($c, $q, $blob, 0.02, go => sub {
        $revoked = -e "$t->{dir}/revoked" ? $t->read_file('revoked') : '';
        return !($who =~ /Bearer canary-(\w+)/ && $revoked =~ /$1/);
    });
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=1m',
    location => <<EOL);
location /v2/ {
    oci_pass demo;
    oci_cache models;
    oci_fill_connections 2;
    oci_fill_ahead 4m;
}
location /v2/slow/ {
    limit_rate 4m;
    limit_rate_after 1m;
    oci_pass demo;
    oci_cache models;
    oci_fill_connections 2;
    oci_fill_ahead 4m;
}
EOL
$t->start();

# bob comes last: the fill uses his

my @out = $t->parallel(3, sub {
    my ($i) = @_;
    if ($i == 2) {
        sleep 1.2;
        $t->write_file('revoked', 'bob');
        return '';
    }
    sleep 0.3 if $i == 1;
    my $r = $t->get("/v2/m/a/blobs/$digest", { Authorization =>
        $i == 0 ? 'Bearer canary-alice' : 'Bearer canary-bob' }, 50);
    return ($r->{status} // 0) . ($r->{cut} ? ' cut ' : ' ')
        . ($r->{body} eq $blob ? 'right' : 'wrong ' . length $r->{body});
});

is($out[0], '200 right', 'who may read has all of it');
diag("the other: $out[1]") if $ENV{TEST_VERBOSE};

# with nobody left who may, it ends

$t->stop();
system("rm -rf $t->{dir}/cache");
unlink "$t->{dir}/revoked";
$t->start();

@out = $t->parallel(2, sub {
    my ($i) = @_;
    if ($i == 1) {
        sleep 0.8;
        $t->write_file('revoked', 'alice bob');
        return '';
    }
    my $start = time();
    my $r = $t->get("/v2/m/a/blobs/$digest",
        { Authorization => 'Bearer canary-alice' }, 50);
    return ($r->{cut} ? 'cut' : 'whole') . (time() - $start < 40 ? '' : ' late');
});
is($out[0], 'cut', 'nobody left: cut short, soon');

# who comes later with rights that are none does not disturb the others

$t->stop();
system("rm -rf $t->{dir}/cache");
unlink "$t->{dir}/revoked";
$t->write_file('probes', '1');
$t->start();
$t->forget_requests();

@out = $t->parallel(2, sub {
    my ($i) = @_;
    for (my $end = time() + 20; $i && time() < $end; sleep 0.02) {
        last if $t->requests() >= 2;
    }
    sleep 0.3 if $i;
    my $r = $t->get("/v2/m/a/blobs/$digest", { Authorization =>
        $i == 0 ? 'Bearer canary-alice' : 'Bearer canary-bob' }, 50);
    return $r->{body} eq $blob ? 'right' : 'wrong ' . length $r->{body};
});
is("@out", 'right right', 'a later caller without rights: both have all');
is((grep { $_->{h}{authorization} =~ /bob/ && $_->{h}{range} ne 'bytes=0-0' }
    $t->requests()), 0, 'and his were not needed');
unlink "$t->{dir}/probes";

# A reader who is behind what is stored is not waiting when another one's
# rights go, with him: the fill waits for him to come.

$t->stop();
system("rm -rf $t->{dir}/cache");
$t->start();
$t->forget_requests();

@out = $t->parallel(2, sub {
    my ($i) = @_;

    if ($i == 0) {
        my $s = $t->connect();
        $t->send_request($s, 'GET', "/v2/m/a/blobs/$digest",
            { Authorization => 'Bearer canary-bob' });
        my $n = 0;
        while ($n < 14 * 1024 * 1024) {
            $n += sysread($s, my $buf, 1 << 20) || last;
        }
        $t->write_file('revoked', 'bob');
        close $s;
        return '';
    }

    for (my $end = time() + 20; time() < $end; sleep 0.02) {
        last if $t->requests() >= 2;
    }
    sleep 0.3;
    my $r = $t->get("/v2/slow/a/blobs/$digest",
        { Authorization => 'Bearer canary-alice' }, 50);
    return ($r->{cut} ? 'cut ' : '')
        . ($r->{body} eq $blob ? 'right' : 'wrong ' . length $r->{body});
});
is($out[1], 'right', 'a reader behind goes on with his own');

unlink "$t->{dir}/revoked";
my $r = $t->get("/v2/m/a/blobs/$digest",
    { Authorization => 'Bearer canary-alice' },
    50);
ok($r->{body} eq $blob, 'and right afterwards');

$t->done();
