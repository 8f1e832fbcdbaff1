#!/usr/bin/perl

# A preheat on a disk that is full, or becomes so in the middle of a blob:
# Harbor hears of a failure, by each dialect, and nothing half-warm is called
# warm.  When there is room again, the same job ends well.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use Harbor;
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

OCI->skip_all_unless('unshare');
plan(skip_all => 'no mount namespace here')
    if system("unshare -m mount -t tmpfs none /mnt >/dev/null 2>&1") != 0;

my %blob = (half => $t->random_blob(6 * 1024 * 1024 + 99),
    large => $t->random_blob(24 * 1024 * 1024));
my %manifest = map { $_ => encode_json({ schemaVersion => 2, mediaType =>
    $OCI::TYPE{manifest}, layers => [{ digest => $t->digest($blob{$_}),
    size => length $blob{$_}, mediaType => 'application/x' }] }) }
    keys %blob;
my %by_digest = map { $t->digest($_) => $_ } values %blob, values %manifest;

# "half" stops there until the file "go" is there

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($what, $ref) = $q->{uri} =~ m!/(manifests|blobs)/(\S+)!
        or return $t->reply($c, $q, 200, {}, '{}');
    my $body = $manifest{$ref} // $by_digest{$ref}
        // return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($body) }, $body)
        if $what eq 'manifests';

    if ($body eq $blob{half} && !-e "$d/go" && ($q->{to} // 0) > 1) {
        my ($from, $to) = ($q->{from}, $q->{to});
        my $n = int(($to - $from) / 2);
        print $c "HTTP/1.1 206 X\r\nContent-Length: ", $to - $from, "\r\n",
            "Content-Range: bytes $from-", $to - 1, '/', length $body,
            "\r\n\r\n", substr $body, $from, $n;
        $t->write_file('half', '');
        until_true(60, sub { -e "$d/go" });
        print $c substr $body, $from + $n, $to - $from - $n;
        return 1;
    }
    return $t->reply_blob($c, $q, $body);
});

$t->conf(cache_args => 'slice=1m', http => <<EOC, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$port; public_url https://harbor.example.com;
}
EOC
location /v2/ { oci_pass demo; oci_cache models; }
location /p2p/ { oci_preheat registry=demo open; }
EOL
$t->allow(qr/No space left|writing a blob/);

mkdir "$d/cache";
$t->spawn('nginx', 'unshare', '-m', 'sh', '-c',
    "mount -t tmpfs -o size=12m,mode=0700 none $d/cache && exec $OCI::BINARY"
    . " -p $d/ -c $d/nginx.conf -e $d/error.log");
$t->wait_port($t->{edge});

my $cache = "/proc/$t->{pids}{nginx}/root$d/cache";
my %harbor = map { $_ => Harbor->new($t, endpoint => '/p2p', vendor => $_) }
    qw/ dragonfly old kraken /;

# more than there is

for my $vendor (qw/ dragonfly old /) {
    my ($status, $error) = $harbor{$vendor}->run(tag => 'large');
    is($status, 'FAIL', "$vendor: too large");
    like($error, qr/can't be stored here/, "$vendor: why");
}
is(($harbor{kraken}->run(tag => 'large'))[0], 'SUCCESS', 'kraken: taken');
until_true(60, sub { !grep { $_->{state} =~ /pending|running/ }
    @{($harbor{kraken}->call('GET', '/jobs'))[1]{jobs}} });
is_deeply([grep { $_->{state} eq 'success' }
    @{($harbor{kraken}->call('GET', '/jobs'))[1]{jobs}}], [],
    'kraken: a failure for who looks');

SKIP: {
    skip 'no way to the file system', 4 if !-d $cache;

    # somebody else fills the disk when half of it is there

    my $p = $harbor{dragonfly}->preheat(tag => 'half');
    until_true(sub { -e "$d/half" });
    open my $f, '>', "$cache/junk" or die "junk: $!";
    while (syswrite $f, 'x' x 65536) { }
    while (syswrite $f, 'x' x 512) { }
    close $f;
    $t->write_file('go', '');

    my ($status, $error) = $harbor{dragonfly}->ends($p->{id});
    is($status, 'FAIL', 'full at half: a failure');
    isnt($error, '', 'full at half: it says why') && diag($error);

    # there is room again; fills keep away for a moment

    unlink "$cache/junk";
    ok(until_true(60, sub { sleep 1;
        ($harbor{dragonfly}->run(tag => 'half'))[0] eq 'SUCCESS' }),
        'room: a success');
    my $mark = $t->upstream_bytes();
    my $r = $t->get('/v2/llm/model/blobs/' . $t->digest($blob{half}));
    is($r->{body}, $blob{half}, 'room: the bytes');
    is($t->upstream_bytes(), $mark, 'room: all here');
}

$t->done();
