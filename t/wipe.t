#!/usr/bin/perl

# A caller's credentials are not kept longer than they are of use: what a
# worker, and the zone that all of them share, still hold of them is looked for
# in their memory.  nginx's own copy, of the client's request as it was read,
# is not ours to wipe.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1, zone => '1m');
my $size = 3 * 1024 * 1024 + 5;
my @blobs = map { $t->random_blob($size) } 0 .. 3;
my %by = map { $t->digest($_) => $_ } @blobs;
my @digests = map { $t->digest($_) } @blobs;
my $manifest = '{"schemaVersion":2}';

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;

    if (($q->{h}{authorization} // '') !~ /^Bearer /) {
        return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
            'Bearer realm="http://127.0.0.1:1/t"' }, '{"errors":[]}');
    }
    if (!defined $digest) {
        return $t->reply($c, $q, 200,
            { 'Content-Type' => $OCI::TYPE{manifest} }, $manifest);
    }
    if (-e "$t->{dir}/broken" && ($q->{to} // 0) != 1) {
        return $t->reply($c, $q, 500);
    }
    return $t->reply_blob($c, $q, $by{$digest});
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=256k',
    location => <<EOL);
location /v2/ {
    oci_pass demo;
    oci_cache models;
    oci_fill_ahead 1m;
    oci_fill_abandoned stop after=200ms;
}
EOL
$t->start();

my ($worker) = $t->workers();

# the writable memory of the worker: (shared, of our modules, all the other)

sub memory {
    my ($pid) = @_;
    my ($shared, $ours, $other, $last) = ('', '', '', -1);

    open my $maps, '<', "/proc/$pid/maps" or return;
    open my $mem, '<:raw', "/proc/$pid/mem" or return;

    while (<$maps>) {
        my ($from, $to, $mode, $name) =
            /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)$/ or next;
        no warnings 'portable';
        ($from, $to) = (hex $from, hex $to);

        my $module = $name =~ /ngx_http_oci/ || ($name eq '' && $from == $last);
        $last = $to if $module;

        next if $mode !~ /^rw/ || $name =~ /^\[v/;
        sysseek $mem, $from, 0 or next;

        my $data = '';
        while (length $data < $to - $from) {
            sysread $mem, $data, $to - $from - length $data, length $data
                or last;
        }

        ($mode =~ /s$/ ? $shared : $module ? $ours : $other) .= "$data\0";
    }
    return ($shared, $ours, $other);
}

if ($OCI::ASAN || !defined((memory($worker))[0])) {
    $t->stop();
    plan(skip_all => 'memory can\'t be read here');
}

sub clean {
    my ($secret, $what) = @_;
    my ($shared, $ours, $other) = memory($worker);

    # (memory is not for the output)

    ok($shared !~ /$secret/, "$what: not in the zone");
    ok($ours !~ /$secret/, "$what: not in a static buffer");

    # nginx's own has the header's name before it

    ok($other !~ /nginx-oci[^\0]{0,300}Bearer $secret/,
        "$what: not in what was sent");
    ok($other !~ /(?<!Authorization..)Bearer $secret/s,
        "$what: not in a copy");
}

sub get {
    my ($i, $secret, $h) = @_;
    return $t->get("/v2/m/a/blobs/$digests[$i]",
        { Authorization => "Bearer $secret", %{$h || {}} });
}

# while it is of use it is there: the test sees what it looks for

my $secret = 'seen' . 'a' x 60;
my $s = $t->connect();
$t->write_file('broken', '');
$t->send_request($s, 'GET', "/v2/m/a/blobs/$digests[3]",
    { Authorization => "Bearer $secret" });
sleep 1;
ok((memory($worker))[0] =~ /$secret/, 'it is there while it is of use');
close $s;
unlink "$t->{dir}/broken";
sleep 6;
clean($secret, 'a fill that failed');

$secret = 'full' . 'b' x 60;
my $r = get(0, $secret);
ok($r->{body} eq $blobs[0], 'a pull');
sleep 0.5;
clean($secret, 'verified');

$secret = 'part' . 'c' x 60;
$r = get(1, $secret, { Range => 'bytes=0-9' });
is($r->{status}, 206, 'a part');
sleep 1;
clean($secret, 'a part');

# replaced by another's, both are gone at the end

my @secrets = map { $_ x 64 } qw/ d e /;
$r = get(2, $secrets[0], { Range => 'bytes=0-9' });
$r = get(2, $secrets[1], { Range => 'bytes=2000000-2000009' });
is($r->{status}, 206, 'two of two');
sleep 1;
clean($_, 'replaced') for @secrets;

$secret = 'mani' . 'f' x 60;
$r = $t->get('/v2/m/a/manifests/latest',
    { Authorization => "Bearer $secret" });
ok($r->{body} eq $manifest, 'a manifest');
clean($secret, 'a manifest');

$t->done();
