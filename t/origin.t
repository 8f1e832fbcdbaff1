#!/usr/bin/perl

# Two registries share a zone and one of them is hostile: until a blob is
# verified its bytes are that registry's word only.  And a whole blob that is
# passed through as a range is held back too.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $size = 3 * 1024 * 1024 + 11;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my $junk = 'x' x $size;

# another blob, and a registry that says another size for its digest

my $second = $t->random_blob(300 * 1024);
my $digest2 = $t->digest($second);

my $evil = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $junk);
});
my $good = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($d) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply_blob($c, $q, $d eq $digest2 ? $second
        : $d eq $digest ? $blob
        : $t->read_file("blob.$d"));
});

my $short = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, 'y' x 1000);
});

$t->conf(cache_args => 'slice=256k', http => <<EOC, location => <<EOL);
oci_registry evil { url http://127.0.0.1:$evil; }
oci_registry good { url http://127.0.0.1:$good; }
oci_registry short { url http://127.0.0.1:$short; }
map \$uri \$registry { ~^/v2/(?<r>evil|good|short)/ \$r; default good; }
EOC
location /v2/ { oci_pass \$registry; oci_cache models; }
location /v2/good/uncached/ { oci_pass \$registry; }
EOL
$t->start();

# the hostile one comes first, with a part of it

my $r = $t->get("/v2/evil/m/blobs/$digest", { Range => 'bytes=0-9' });
is($r->{status}, 206, 'a part from the hostile registry');
is($r->{body}, 'x' x 10, 'is its own word');

$r = $t->get("/v2/good/m/blobs/$digest", { Range => 'bytes=0-9' });
is($r->{status}, 206, 'the same part from the other');
is($r->{body}, substr($blob, 0, 10), 'is not the first one\'s');

$r = $t->get("/v2/good/m/blobs/$digest");
ok($r->{status} == 200 && $r->{body} eq $blob, 'nor is the whole');

# another size is another registry's word, also while the blob is open

for (1 .. 6) {
    $r = $t->get("/v2/good/m/blobs/$digest2");
    ok($r->{body} eq $second, 'open, and right');
    $r = $t->get("/v2/short/m/blobs/$digest2");
    unlike($r->{body}, qr/[^y]/, 'another size: nothing of it');
}

# the first touch of one registry does not keep the other out

my $third = $t->random_blob($size);
my $digest3 = $t->digest($third);
$t->write_file("blob.$digest3", $third);
is($t->get("/v2/evil/m/blobs/$digest3", { Range => 'bytes=0-9' })->{body},
    'x' x 10, 'touched by the hostile registry');

# another worker may have it open for some seconds

my $wrong = 0;
for (1 .. 40) {
    $r = $t->get("/v2/good/m/blobs/$digest3");
    $wrong++ if $r->{body} ne $third;
    last if ($r->{h}{'cache-status'} // '') =~ /hit/;
    sleep 0.5;
}
is($wrong, 0, 'the other one\'s are right');
like($r->{h}{'cache-status'} // 'none', qr/hit/, 'and stored soon');

# nor does its word undo what the other one has brought

my $fourth = $t->random_blob($size);
my $digest4 = $t->digest($fourth);
$t->write_file("blob.$digest4", $fourth);
$t->get("/v2/good/m/blobs/$digest4", { Range => 'bytes=0-2000000' });
my $before = $t->upstream_bytes('good');
is($t->get("/v2/$_/m/blobs/$digest4", { Range => 'bytes=0-9' })->{body},
    ($_ eq 'evil' ? 'x' : 'y') x 10, "another one: $_")
    for qw/ evil short evil /;
sleep 0.2;
ok($t->get("/v2/good/m/blobs/$digest4")->{body} eq $fourth, 'goes on');
cmp_ok($t->upstream_bytes('good') - $before, '<', $size - 1900000,
    'with what was there');

# it fails on its own digest; the other one is not made to wait for that

for (1 .. 3) {
    $r = $t->get("/v2/evil/m/blobs/$digest");
    ok($r->{cut} || $r->{status} != 200, "the hostile one's does not complete");
}

$r = $t->get("/v2/good/m/blobs/$digest");
ok($r->{status} == 200 && $r->{body} eq $blob, 'the other one\'s does');
$r = $t->get("/v2/good/m/blobs/$digest");
like($r->{h}{'cache-status'} // 'none', qr/hit/, 'and is stored');
ok($r->{body} eq $blob, 'right');

# once it is verified it is for who has it

$r = $t->get("/v2/evil/m/blobs/$digest", { Range => 'bytes=5-9' });
is($r->{body}, 'x' x 5, 'verified bytes are not for who has others');

# passed through

my $other = $t->digest('another');
$t->stop();
system("rm -rf $t->{dir}/cache");
(my $conf = $t->read_file('nginx.conf')) =~ s/oci_cache models;/oci_cache off;/;
$t->write_file('nginx.conf', $conf);
$t->start();

for my $range (undef, 'bytes=0-', "bytes=0-" . ($size - 1)) {
    my $h = defined $range ? { Range => $range } : {};
    my $name = $range // 'no range';
    $r = $t->get("/v2/evil/m/blobs/$digest", $h);
    ok($r->{cut}, "passed, $name: wrong bytes do not complete");
    $r = $t->get("/v2/good/m/blobs/$digest", $h);
    ok(!$r->{cut} && $r->{body} eq $blob, "passed, $name: right ones do");
}

$t->done();
