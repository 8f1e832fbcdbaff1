#!/usr/bin/perl

# A registry that knows a part of a blob which another one's callers have
# stored answers where it knows the bytes, and fails elsewhere: it is asked at
# the same places whenever somebody tries again, and gets nothing of the rest.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha512 /;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);

# always the same, so the places are: with others one in 16 would do

my $size = 640 * 1024;
my $blob = join '', map { sha512("bytes $_") } 1 .. $size / 64;
my $d = $t->digest($blob);

# two short telling parts among zeros, of which one is known

my $disk = substr($blob, 0, 4096) . "\0" x (12 << 20)
    . substr($blob, 8192, 4096) . "\0" x (12 << 20);
my $d_disk = $t->digest($disk);
my %blob = ($d => $blob, $d_disk => $disk);
my %known = ($d => $size / 2, $d_disk => 4096);

my $a = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply_blob($c, $q, $blob{$digest});
}, quiet => 1);

my $evil = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    open my $f, '>>', "$t->{dir}/ranges" or die $!;
    syswrite $f, ($q->{h}{range} // '') . "\n";
    close $f;
    return $t->reply_blob($c, $q, $blob{$digest})
        if defined $q->{to} && $q->{to} <= $known{$digest};
    return $t->reply($c, $q, 503, {}, '{}');
}, quiet => 1);

$t->conf(zone => '8m', cache_args => 'slice=256k',
    http => <<EOC, location => <<EOL);
oci_registry a { url http://127.0.0.1:$a; }
oci_registry evil { url http://127.0.0.1:$evil; }
map \$uri \$registry { ~^/v2/evil/ evil; default a; }
EOC
location /v2/ { oci_pass \$registry; oci_cache models; }
EOL
$t->start();

sub stored {
    ok($t->get("/v2/a/m/blobs/$_")->{body} eq $blob{$_}, 'cached through a')
        for keys %blob;
}

# of what isn't known: the statuses, and the places asked for

sub try {
    my ($digest, $from, $n) = @_;
    my %status;
    unlink "$t->{dir}/ranges";
    for (1 .. $n) {
        my $r = $t->get("/v2/evil/m/blobs/$digest",
            { Range => "bytes=$from-" . ($from + 63) });
        $status{$r->{status}}++;
    }
    my %range = map { $_ => 1 } split /\n/, $t->read_file('ranges');
    delete @range{'bytes=0-0', "bytes=$from-" . ($from + 63)};
    return join(' ', sort keys %status), sort keys %range;
}

stored();

my ($status, @ranges) = try($d, $size - 100, 100);
is($status, '503', 'nothing of the other half');
ok(@ranges >= 1 && @ranges <= 4, 'asked at the same places')
    or diag("@ranges");

($status) = try($d_disk, (12 << 20) + 4096, 30);
is($status, '503', 'nothing from among the zeros');

# another worker, a restart, and the blob fetched again change nothing

$t->stop();
$t->start();
stored();

my ($again, @same) = try($d, $size - 100, 20);
is("$again @same", "503 @ranges", 'after a restart');

$t->stop();
unlink glob "$t->{dir}/cache/blobs/sha256/*/*";
$t->start();
stored();

($again, @same) = try($d, $size - 100, 20);
is("$again @same", "503 @ranges", 'fetched again');

$t->done();
