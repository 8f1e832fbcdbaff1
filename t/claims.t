#!/usr/bin/perl

# A hostile registry claims to have blobs of the largest size that there may
# be: each claim costs what the map of such a blob takes while it is opened,
# but all together have a bound, and what others have is served meanwhile.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

plan(skip_all => 'sanitizers keep what is freed') if $OCI::ASAN;

my $t = OCI->new(workers => 1, zone => '32m');
my $claim = (1 << 21) * 65536;      # bytes: so many slices
my $n = 100;
my $blob = $t->random_blob(200000);
my $digest = $t->digest($blob);

my $evil = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 206, { 'Content-Range' => "bytes 0-0/$claim" },
        'x') if ($q->{to} // 0) == 1;
    sleep 4;
    return 0;
}, quiet => 1);

my $good = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob);
});

$t->conf(cache_args => 'slice=64k', http => <<EOC, location => <<EOL);
oci_registry good { url http://127.0.0.1:$good; }
oci_registry evil { url http://127.0.0.1:$evil; }
map \$uri \$registry { ~^/v2/evil/ evil; default good; }
EOC
location /v2/ { oci_pass \$registry; oci_cache models; }
EOL
$t->allow(qr/the sidecar of a blob in .* (is unusable|failed)/);
$t->start();

is($t->get("/v2/m/a/blobs/$digest")->{body}, $blob, 'stored');

my ($pid) = $t->workers();
my @s;

# twice: made anew, and then found

for my $round (1, 2) {
    for my $i (1 .. $n) {
        my $s = $t->connect();
        $t->send_request($s, 'GET', '/v2/evil/m/blobs/' . $t->digest("no $i"),
            { Range => 'bytes=0-99' });
        push @s, $s;
    }
    sleep 2;
    my $r = $t->get("/v2/m/a/blobs/$digest");
    is($r->{body}, $blob, "$round: what is stored");
    like($r->{h}{'cache-status'} // 'none', qr/hit/, "$round: a hit");
    close $_ for splice @s;
    sleep 1;
}

open my $f, '<', "/proc/$pid/status" or die "status: $!";
my ($peak) = join('', <$f>) =~ /VmHWM:\s+(\d+)/;
close $f;
cmp_ok($peak, '<', 200 * 1024, "KiB at the most with $n claims");

$t->done();
