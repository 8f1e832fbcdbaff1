#!/usr/bin/perl

# A worker dies in the middle of a purge, when it has said that the files go:
# the blob is fetched anew and stored, and can be purged.  While it lives nobody
# else opens them, also when the manager wants to remove them, too.

use warnings;
use strict;

use Test::More;
use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $library = abs_path(dirname(__FILE__) . '/../build/faults/fault.so');

plan(skip_all => 'not built, see "make preloads"')
    unless $library && -e $library;

my ($UNLINK, $DEATH, $STOP) = (9, 4095, 4094);

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $deaths = 4;
my @blobs = map { $t->random_blob(200_000 + $_) } 0 .. $deaths;
my %by = map { $t->digest($_) => $_ } @blobs;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply($c, $q, 404) if !$digest || !$by{$digest};
    return $t->reply_blob($c, $q, $by{$digest});
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    cache_args => 'slice=64k inactive=1h', location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; }
location /purge/ { oci_cache_purge demo; oci_cache models; }
EOL
$t->allow(qr/exited on signal 9/);

my $control = $t->write_file('fault', "\0" x 4096);

sub control {
    my ($offset, @values) = @_;
    open my $f, '+<:raw', $control or die "$control: $!";
    sysseek $f, 4 * $offset, 0;
    syswrite $f, pack 'L*', @values;
    close $f;
}

{
    local $ENV{FAULT_FILE} = $control;
    local $ENV{FAULT_DIR} = "$d/cache";
    local $ENV{LD_PRELOAD} = join ' ', $OCI::ASAN
        ? (split ' ', `gcc -print-file-name=libasan.so`) : (), $library;
    $t->start();
}

my $died = 0;

for my $i (1 .. $deaths) {
    my $uri = '/v2/m/a/blobs/' . $t->digest($blobs[$i]);
    my $hit = sub { ($t->get($uri)->{h}{'cache-status'} // '') =~ /hit/ };

    ok($t->get($uri)->{body} eq $blobs[$i], "blob $i: stored");

    # at the n-th name that goes

    control(7, 0, 0);
    control(1, $UNLINK, $i, 0, $DEATH, 0);
    control(0, 1);
    $t->http($t->{edge}, 'DELETE', "/purge$uri");
    control(0, 0);
    $died += (unpack 'L*', $t->read_file('fault'))[8];

    # (the first one may be passed on beside files that go just now)

    my $r = $t->get($uri);
    ok($r->{body} eq $blobs[$i], "blob $i: is right");

    my $end = time() + 8;
    sleep 0.1 while !$hit->() && time() < $end;
    ok($hit->(), "blob $i: is stored again");
    is($t->http($t->{edge}, 'DELETE', "/purge$uri")->{status}, 200,
        "blob $i: is purged");
}

cmp_ok($died, '>=', 2, 'some of them died');

# stopped before the data goes: the second name, after that of the reference

{
    my $uri = '/v2/m/a/blobs/' . $t->digest($blobs[0]);
    my $end = time() + 10;
    sleep 0.05 while $t->workers() < 2 && time() < $end;

    ok($t->get($uri)->{body} eq $blobs[0], 'a blob');

    # workers close what nobody uses

    control(6, 10);
    $end = time() + 15;

    while (time() < $end) {
        my %s = $t->to_workers();
        close $_ for values %s;
        last if !grep { (readlink($_) // '') =~ m!/blobs/.*[0-9a-f]{64}! }
            map { glob "/proc/$_/fd/*" } $t->workers();
        sleep 0.1;
    }

    control(7, 0, 0);
    control(1, $UNLINK, 2, 0, $STOP, 0);
    control(0, 1);
    my $s = $t->connect();
    $t->send_request($s, 'DELETE', "/purge$uri");
    $end = time() + 10;
    my $stopped;
    until ($stopped || time() > $end) {
        sleep 0.05;
        ($stopped) = grep { `cat /proc/$_/stat` =~ /\) T/ } $t->workers();
    }
    ok($stopped, 'a worker purges it');
    control(0, 0);

    # it is old by now, and the manager looks every two seconds

    control(6, 2 * 3600);
    sleep 6;
    my $r = $t->get($uri);
    ok($r->{body} eq $blobs[0], 'it is passed through');
    unlike($r->{h}{'cache-status'} // '', qr/hit/, 'not from the cache');

    kill 'CONT', $stopped;
    is($t->read_header($s)->{status}, 200, 'it is purged');
    ok($t->get($uri)->{body} eq $blobs[0], 'and fetched again');
}

$t->done();
