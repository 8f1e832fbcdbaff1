#!/usr/bin/perl

# Complaint 4 (harbor#22393, harbor-helm#2366): a pull that takes longer than
# some time-out is ended, and the manifest is forgotten with it.
#
# A blob comes in pieces, each of them in time, all of them together much later
# than every time-out there is: all readers have all of it, each byte is sent
# once.  The manifest that names it is served before, meanwhile, and when a
# blob of it fails for good.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $pieces = 14;
my $size = $pieces * 65536;
my $blob = $t->random_blob($size);
my ($digest, $bad) = ($t->digest($blob), $t->digest('bad'));
my $manifest = JSON::PP->new->canonical->encode({ schemaVersion => 2,
    layers => [ map { { digest => $_, size => $size } } $digest, $bad ] });
my $mdigest = $t->digest($manifest);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $mdigest }, $manifest)
        if $q->{uri} =~ /manifests/;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    return $t->reply_blob($c, $q, $blob) if $to - $from == 1;
    printf $c "HTTP/1.1 206 X\r\nContent-Length: %d\r\n"
        . "Content-Range: bytes %d-%d/%d\r\n\r\n", $to - $from, $from,
        $to - 1, $size;
    return 0 if $q->{uri} =~ /\Q$bad\E/;
    for (my $pos = $from; $pos < $to; $pos += 65536) {
        my $n = $to - $pos < 65536 ? $to - $pos : 65536;
        print $c substr $blob, $pos, $n or return 0;
        sleep 0.5;
    }
    return 1;
});

$t->conf(http => <<EOC, location => <<EOL, cache_args => 'slice=64k');
oci_registry demo {
    url http://127.0.0.1:$port;
    connect_timeout 2s;
    stall_timeout 2s;
}
send_timeout 2s;
keepalive_timeout 2s;
client_header_timeout 2s;
client_body_timeout 2s;
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_fill_connections 1; }
EOL
$t->start();

sub manifests {
    my ($when) = @_;
    is($t->get("/v2/m/manifests/$_")->{body}, $manifest, "$when: manifest")
        for 'v1', $mdigest;
}

manifests('before');
my $begin = time();
my @out = $t->parallel(4, sub {
    my ($i) = @_;
    if ($i == 3) {
        my $ok = 0;
        for (1 .. 10) {
            $ok++ if $t->get("/v2/m/manifests/$mdigest")->{body} eq $manifest;
            sleep 0.3;
        }
        return "manifest $ok";
    }
    my $r = $t->get("/v2/m/blobs/$digest", undef, 120);
    return $r->{body} eq $blob ? 'right' : "$r->{status} " . length $r->{body};
});
is(join(', ', @out), 'right, right, right, manifest 10', 'all of it');
cmp_ok(time() - $begin, '>', 6, 'after more than three time-outs');
cmp_ok($t->upstream_bytes(), '<=', $size + 1 + 4 * length $manifest,
    'each byte was sent once');

my $r = $t->get("/v2/m/blobs/$bad", undef, 60);
ok($r->{cut} || $r->{status} != 200, 'a blob that fails');
manifests('after it');

$t->done();
