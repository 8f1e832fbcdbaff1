#!/usr/bin/perl

# Registries that do not say how long a blob is: bodies in chunks, or up to the
# connection's end, HEAD without a length, ranges ignored or without a total.
# The size stands in the manifest then; where that is wrong nothing wrong
# completes, and nothing stays wrong.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $size = 3 * 1024 * 1024 + 77;

my (%digest, %blob, %manifest);

# a blob and a manifest that says a size of it

sub artifact {
    my ($name, %o) = @_;
    my $bytes = $blob{$digest{$name} // ''} // $t->random_blob($size);
    $digest{$name} = $t->digest($bytes);
    $blob{$digest{$name}} = $bytes;

    my %desc = (mediaType => 'application/octet-stream',
        digest => $digest{$name}, size => $size + ($o{off} // 0));
    my %m = (schemaVersion => 2, mediaType => $o{type} // $OCI::TYPE{manifest},
        annotations => { digest => 'sha256:x', size => '7' });
    my $place = $o{place} // 'layers';
    $m{$place} = $place eq 'config' ? \%desc
        : $place eq 'nested' ? { a => [{ b => [\%desc] }] } : [\%desc];
    $manifest{$o{tag} // $name} = [$m{mediaType}, JSON::PP->new->canonical
        ->pretty->encode(\%m)];
}

my @right = qw/ chunked close star total /;
my @wrong = qw/ chunkedmore closemore starmore
    chunkedless closeless starless /;

artifact($_) for @right, qw/ off docker config index nested range heads big
    restart flip cutonce closeonce none /;
artifact('docker', type => $OCI::TYPE{docker});
artifact('index', type => $OCI::TYPE{index}, place => 'manifests');
artifact('config', place => 'config');
artifact('nested', place => 'nested');
artifact('big', off => 9e15);
artifact('totalwrong', off => 1000);

for (@wrong) {
    artifact($_, off => /more/ ? 1000 : -1000);
    artifact($_, tag => "$_.right");
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($mode, $kind, $ref) =
        $q->{uri} =~ m!^/v2/(\w+)/m/(blobs|manifests)/(.+)$!;

    return $t->reply($c, $q, 404) if !defined $ref;

    if ($kind eq 'manifests') {
        my ($m) = grep { $ref eq $t->digest($_->[1]) } values %manifest;
        $m = $manifest{$ref} // $m;
        return $t->reply($c, $q, 200, { 'Content-Type' => $m->[0],
            'Docker-Content-Digest' => $t->digest($m->[1]) }, $m->[1]);
    }

    my $bytes = $blob{$ref} // return $t->reply($c, $q, 404);
    my $whole = !defined $q->{to} || $q->{to} - $q->{from} > 1;

    substr($bytes, 1234567, 1) ^= "\1" if $mode eq 'flip' && -e "$d/hurt";
    $bytes = substr $bytes, 0, 1000001
        if $mode =~ /once/ && $whole && $q->{n} == 2;

    if ($q->{method} eq 'HEAD') {
        print $c "HTTP/1.1 200 X\r\n\r\n";
        return 1;
    }

    if ($mode =~ /^close/) {
        print $c "HTTP/1.0 200 X\r\nContent-Type: application/octet-stream\r\n"
            . "\r\n", $bytes;
        return 0;
    }

    my $head = 'HTTP/1.1 200 X';

    if ($mode =~ /^(star|total)/ && defined $q->{from}) {
        my $to = defined $q->{to} && $q->{to} < $size ? $q->{to} : $size;
        return $t->reply($c, $q, 416, {}, '') if $q->{from} >= $size;
        $bytes = substr $bytes, $q->{from}, $to - $q->{from};
        $head = "HTTP/1.1 206 X\r\nContent-Range: bytes $q->{from}-"
            . ($to - 1) . '/' . ($1 eq 'star' ? '*' : $size);
    }

    print $c "$head\r\nTransfer-Encoding: chunked\r\n\r\n";

    while (length $bytes) {
        my $piece = substr $bytes, 0, 70001, '';
        printf $c "%x\r\n%s\r\n", length $piece, $piece;
    }

    return 0 if $mode eq 'cutonce' && $whole && $q->{n} == 2;

    print $c "0\r\n\r\n";
    return 1;
});

$t->conf(cache_args => 'slice=256k', http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; }
EOC
location /v2/ { oci_pass demo; oci_cache models; }
location /v2/off/ { oci_pass demo; oci_cache models; oci_verify off; }
EOL
$t->start();

sub uri { return "/v2/$_[0]/m/blobs/" . $digest{$_[1] // $_[0]} }
sub blob { return $blob{$digest{$_[0]}} }
sub pull { return $t->get(uri(@_), {}, 30) }

sub manifest {
    my ($mode, $tag) = @_;
    $tag //= $mode;
    my $r = $t->get("/v2/$mode/m/manifests/$tag");
    is($r->{body}, $manifest{$tag}[1], "$mode, $tag: the manifest");
}

# GETs of a blob that were more than a probe

sub fetched {
    my ($mode) = @_;
    return scalar grep { $_->{method} eq 'GET'
        && $_->{uri} =~ m!/$mode/m/blobs!
        && ($_->{h}{range} // '') ne 'bytes=0-0' } $t->requests();
}

sub right {
    my ($r, $name, $what) = @_;
    ok($r->{status} == 200 && !$r->{cut} && $r->{body} eq blob($name),
        "$what: right") or diag("$r->{status} " . length $r->{body});
}

sub passed {
    my ($mode, $name, $what) = @_;
    my $r = pull($mode, $name);
    right($r, $name, $what);
    is($r->{h}{'cache-status'}, undef, "$what: passed through");
}

sub cached {
    my ($mode, $name, $what) = @_;

    my $r = pull($mode, $name);
    right($r, $name, $what);
    is($r->{h}{'cache-status'}, 'nginx-oci; fwd=uri-miss; stored',
        "$what: stored");
    is($r->{h}{'content-length'}, $size, "$what: its length");

    my $n = fetched($mode);
    $r = pull($mode, $name);
    right($r, $name, "$what, again");
    is($r->{h}{'cache-status'}, 'nginx-oci; hit', "$what: a hit");
    is(fetched($mode), $n, "$what: nothing more is fetched");
}

# without a manifest, with one

passed($_, $_, "$_, no manifest") for grep { $_ ne 'total' } @right;

for (@right, qw/ docker config index nested /) {
    manifest($_);
    cached($_, $_, $_);
}

# other repositories' manifests say nothing of this one's blobs

passed('none', 'chunked', 'another repository');

# ranges and HEAD of what is not there yet

manifest('range');
my $r = $t->get(uri('range'), { Range => 'bytes=2000000-2000099' });
is($r->{status}, 206, 'a range');
is($r->{h}{'content-range'}, "bytes 2000000-2000099/$size", 'its place');
is($r->{body}, substr(blob('range'), 2000000, 100), 'its bytes');
right(pull('range'), 'range', 'then the whole');

is($t->head(uri('heads'))->{h}{'content-length'}, undef, 'HEAD: no length');
manifest('heads');
$r = $t->head(uri('heads'));
is($r->{h}{'content-length'}, $size, 'HEAD: the length of the manifest');
is($r->{status}, 200, 'HEAD: status');

# a broken connection, once: it goes on

for (qw/ cutonce closeonce /) {
    manifest($_);
    cached($_, $_, $_);
}

# who does not verify has nothing that proves a size

manifest('off');
passed('off', 'off', 'verify off');
passed('off', 'off', 'verify off, again');

# the same bytes verified, elsewhere: the size is known

manifest('none', 'off');
right(pull('none', 'off'), 'off', 'verified elsewhere');
$r = pull('off', 'off');
right($r, 'off', 'verify off, verified elsewhere');

# sizes that are wrong: cut, then as if there were none; then a right one

for my $name (@wrong) {
    manifest($name);

    my $r = pull($name);
    ok($r->{cut} || $r->{status} >= 500, "$name: cut")
        or diag("$r->{status} " . length $r->{body});
    ok(length $r->{body} < $size || $r->{cut}, "$name: and not whole");

    passed($name, $name, "$name, then");
    manifest($name);
    passed($name, $name, "$name, and with the manifest again");

}

# files of another size are in the way while a worker has them open

for my $name (@wrong) {
    manifest($name, "$name.right");

    my ($r, $bad);
    for (1 .. 60) {
        $r = pull($name);
        $bad = $r->{status} != 200 || $r->{cut} || $r->{body} ne blob($name);
        last if $bad || $r->{h}{'cache-status'};
        sleep 0.3;
    }

    ok(!$bad, "$name, a manifest that is right: right each time");
    like($r->{h}{'cache-status'} // '', qr/stored/, "$name: stored");
    like(pull($name)->{h}{'cache-status'} // '', qr/hit/, "$name: a hit");
}

# the registry's own word counts more

manifest('totalwrong');
cached('totalwrong', 'totalwrong', 'totalwrong');

# one that no disk has room for

manifest('big');
passed('big', 'big', 'big');

# wrong bytes

manifest('flip');
$t->write_file('hurt', '');
$r = pull('flip');
ok($r->{cut} || $r->{status} >= 500, 'flip: cut');
unlink "$d/hurt";
right(pull('flip'), 'flip', 'flip: right when it is healed');

# what was there before a restart

manifest('restart');
cached('restart', 'restart', 'before a restart');
$t->stop();
$t->start();
manifest('restart');
$r = pull('restart');
right($r, 'restart', 'after a restart');
is($r->{h}{'cache-status'}, 'nginx-oci; hit', 'after a restart: a hit');

is(scalar(grep { /exited on signal/ } split /\n/, $t->read_file('error.log')),
    0, 'no worker died');

$t->done();
