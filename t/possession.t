#!/usr/bin/perl

# A verified blob that came from one registry is served to another one's
# callers only when that one has shown that it has the blob: some ranges of it,
# with the caller's own rights.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Fcntl qw/ F_SETLK F_WRLCK F_UNLCK SEEK_SET /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $size = 600 * 1024 + 11;

# most of the last one is the same byte, which says nothing; the small one is
# asked for as a whole

my @modes = qw/ junk whole denied error reset place total short long
    stall /;
my %blob = map { $t->digest($_) => $_ } map { $t->random_blob($size) }
    1 .. 9 + @modes;
my @digest = sort keys %blob;
my %fail = map { $_ => pop @digest } @modes;
my $mixed = "\0" x 3000000 . $t->random_blob(4096) . "\0" x 1000000;
my $small = 'a small one';
my $flat = 'x' x 100000;
my $d_mixed = $t->digest($mixed);
my $d_small = $t->digest($small);
my $d_flat = $t->digest($flat);
@blob{$d_mixed, $d_small, $d_flat} = ($mixed, $small, $flat);

sub mode { $t->write_file('mode', $_[0]) }

sub challenged {
    my ($q) = @_;
    return $q->{method} eq 'GET'
        && ($q->{h}{range} // '') =~ /^bytes=\d+-\d+$/
        && $q->{h}{range} !~ /^bytes=(0-0|1000-1999)$/;
}

my $a = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply_blob($c, $q, $blob{$digest});
});

# it knows the size, and how to answer the first byte

my $b = $t->upstream(sub {
    my ($c, $q) = @_;
    my $mode = $t->read_file('mode');
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my $blob = $blob{$digest};
    my $junk = 'j' x length $blob;

    if ($q->{uri} =~ m!/auth/!
        && ($q->{h}{authorization} // '') ne 'Basic Z29vZDpnb29k')
    {
        return $t->reply($c, $q, 401, {}, '{}');
    }

    if ($mode eq 'have' || $mode eq 'slow') {
        sleep 0.5 if $mode eq 'slow' && challenged($q);
        return $t->reply_blob($c, $q, $blob);
    }

    if (!challenged($q)) {
        return $t->reply_blob($c, $q, $junk);
    }

    return $t->reply($c, $q, 200, {}, $blob) if $mode eq 'whole';
    return $t->reply($c, $q, 403, {}, '{}') if $mode eq 'denied';
    return $t->reply($c, $q, 503, {}, '{}') if $mode eq 'error';
    return $t->reset($c) if $mode eq 'reset';
    if ($mode eq 'place' || $mode eq 'total') {
        my $d = $mode eq 'place' ? 1 : 0;
        return $t->reply($c, $q, 206, { 'Content-Range' =>
            sprintf('bytes %d-%d/%d', $q->{from} - $d, $q->{to} - 1 - $d,
                $size + ($mode eq 'total' ? 1 : 0)) },
            substr($blob, $q->{from}, $q->{to} - $q->{from}));
    }
    if ($mode eq 'short' || $mode eq 'long') {
        my $n = $q->{to} - $q->{from} + ($mode eq 'short' ? -1 : 1);
        print $c "HTTP/1.1 206 X\r\nTransfer-Encoding: chunked\r\n"
            . "Content-Range: bytes $q->{from}-" . ($q->{to} - 1)
            . "/$size\r\n\r\n";
        printf $c "%x\r\n%s\r\n0\r\n\r\n", $n, substr($blob, $q->{from}, $n);
        return 1;
    }
    if ($mode eq 'stall') {
        sleep 3;
        return 0;
    }
    return $t->reply_blob($c, $q, $junk);
});

my @more = map { "c$_" } 1 .. 9;

$t->conf(cache_args => 'slice=256k', http => <<EOC, location => <<EOL);
oci_registry a { url http://127.0.0.1:$a; }
oci_registry b { url http://127.0.0.1:$b; stall_timeout 1s; }
${\ join "\n", map { "oci_registry $_ { url http://127.0.0.1:$b; }" } @more }
map \$uri \$registry { ~^/v2/(?<r>a|b|c\\d)/ \$r; default a; }
EOC
location /v2/ { oci_pass \$registry; oci_cache models; }
location ~ ^/v2/b/strict/ {
    oci_pass b;
    oci_cache models;
    oci_verify strict;
}
EOL
$t->start();

sub challenges { return grep { challenged($_) } $t->requests(1) }

for my $d (keys %blob) {
    is($t->get("/v2/a/m/blobs/$d")->{status}, 200, 'cached through a');
    is($t->get("/v2/a/m/blobs/$d")->{h}{'cache-status'}, 'nginx-oci; hit',
        'a hit');
}

is(scalar(grep { ($_->{h}{range} // '') eq 'bytes=0-63' } $t->requests(0)), 0,
    'a shows nothing');

# what does not prove

my %places;
my $uri = "/v2/b/m/blobs/$digest[0]";

for my $mode (@modes) {
    mode($mode);
    $t->forget_requests(1);
    my $r = $t->get("/v2/b/m/blobs/$fail{$mode}", { Range => 'bytes=1000-1999' });
    my @c = challenges();

    is($r->{status}, 206, "$mode: status");
    is($r->{body}, 'j' x 1000, "$mode: nothing of a's");
    is(join(' ', map { $_->[1] } grep { lc $_->[0] eq 'content-range' }
        @{$r->{list}}), "bytes 1000-1999/$size", "$mode: its own header");
    is($r->{h}{'cache-status'}, undef, "$mode: passed");

    my ($from, $to) = (@c ? $c[0]{h}{range} : '') =~ /(\d+)-(\d+)/;
    ok(defined $from && $to - $from == 63 && $to < $size, "$mode: asked");
    $places{$from // -1} = 1;
    is(scalar(@c), 1, "$mode: once") unless $mode eq 'reset';
}

ok(keys %places > 5, 'at different places');
like($t->read_file('error.log'),
    qr/\[warn\].*registry "b" did not show that it has "\Q$fail{junk}\E"/,
    'it is said in the log');

mode('junk');
$t->forget_requests(1);
my $r = $t->head($uri);
is($r->{status}, 200, 'HEAD');
is(scalar(challenges()), 0, 'HEAD: nothing is asked for');

$r = $t->get($uri);
ok($r->{cut}, 'its own bytes do not complete');
ok($r->{body} !~ /[^j]/, 'and are its own');

$r = $t->get("/v2/b/strict/blobs/$digest[0]");
is($r->{status}, 503, 'strict: unavailable');

# what does

mode('slow');
$t->forget_requests(1);

my @r = $t->parallel(8, sub {
    my $r = $t->get($uri);
    return "$r->{status} " . ($r->{body} eq $blob{$digest[0]} ? 'right' : '');
});
is(scalar(grep { $_ eq '200 right' } @r), 8, 'eight at once');
my @c = challenges();
ok(@c == 4 || @c == 8, 'one challenge in a worker') or diag(scalar @c);

$t->forget_requests(1);
$r = $t->get($uri, { Range => 'bytes=5-9,20-29' });
is($r->{status}, 206, 'ranges');
like($r->{body}, qr/\r\n\Q${\ substr($blob{$digest[0]}, 5, 5) }\E\r\n--/,
    'a\'s bytes');
$r = $t->get("/v2/b/strict/blobs/$digest[0]");
ok($r->{body} eq $blob{$digest[0]}, 'strict');
is(scalar(challenges()), 0, 'nothing more is asked for');

# by whose rights

mode('have');
my $good = { Authorization => 'Basic Z29vZDpnb29k' };
$t->forget_requests(1);
is($t->get("/v2/b/auth/blobs/$digest[1]")->{status}, 401, 'nobody');
is(scalar(challenges()), 0, 'is not asked for');
ok($t->get("/v2/b/auth/blobs/$digest[1]", $good)->{body}
    eq $blob{$digest[1]}, 'who may');
@c = challenges();
is(scalar(@c), 4, 'is, at four places');
is($c[0]{h}{authorization}, $good->{Authorization}, 'as the caller');
is($t->get("/v2/b/auth/blobs/$digest[1]")->{status}, 401, 'nobody still');

# where one of the places says nothing, nothing is shown

$r = $t->get("/v2/c1/m/blobs/$d_mixed");
ok($r->{body} eq $mixed, 'mixed');
is($r->{h}{'cache-status'}, undef, 'mixed: passed through');
is($t->get("/v2/c1/m/blobs/$d_mixed")->{h}{'cache-status'},
    'nginx-oci; hit', 'mixed: who sends all of it has it');

$t->forget_requests(1);
$r = $t->get("/v2/b/m/blobs/$d_small");
is($r->{body}, $small, 'a small one');
is((map { $_->{h}{range} } challenges())[0], 'bytes=0-10', 'as a whole');

# equal bytes say nothing, but who sends all of it has it

$t->forget_requests(1);
$r = $t->get("/v2/b/m/blobs/$d_flat");
ok($r->{body} eq $flat, 'of equal bytes');
is($r->{h}{'cache-status'}, undef, 'passed through');
is(scalar(challenges()), 0, 'not asked for a part');
$r = $t->get("/v2/b/m/blobs/$d_flat", { Range => 'bytes=7-9' });
is($r->{body}, 'xxx', 'a part');
is($r->{h}{'cache-status'}, 'nginx-oci; hit', 'a hit');

# who fails three times is not asked for a while, and nobody else is harmed

mode('junk');
$t->forget_requests(1);
for (1 .. 6) {
    $r = $t->get("/v2/b/m/blobs/$digest[8]", { Range => 'bytes=1000-1999' });
    is($r->{body}, 'j' x 1000, 'not shown');
}
is(scalar(challenges()), 3, 'asked three times only');
mode('have');
$t->forget_requests(1);
$r = $t->get("/v2/c1/m/blobs/$digest[8]", { Range => 'bytes=1000-1999' });
is($r->{h}{'cache-status'}, 'nginx-oci; hit', 'another one shows it');
$r = $t->get("/v2/b/m/blobs/$digest[8]");
ok($r->{body} eq $blob{$digest[8]}, 'it sends all of it');
is($r->{h}{'cache-status'}, undef, 'passed through');
$r = $t->get("/v2/b/m/blobs/$digest[8]", { Range => 'bytes=1000-1999' });
is($r->{h}{'cache-status'}, 'nginx-oci; hit', 'so it has it');

# a restart forgets the rights, not what was shown

$t->stop();
$t->start();
$t->forget_requests(1);
$r = $t->get($uri);
ok($r->{body} eq $blob{$digest[0]}, 'after a restart');
is($r->{h}{'cache-status'}, 'nginx-oci; hit', 'a hit');
is(join(' ', map { $_->{h}{range} } $t->requests(1)), 'bytes=0-0',
    'one byte was asked for');

# eight registries are remembered, the oldest goes

for (1, 2) {
    for my $c (@more) {
        ok($t->get("/v2/$c/m/blobs/$digest[2]")->{body} eq $blob{$digest[2]},
            "$c");
    }
}
$t->forget_requests(1);
$t->get("/v2/c9/m/blobs/$digest[2]");
is(scalar(challenges()), 0, 'the newest is known');
for my $c (@more) {
    $t->forget_requests(1);
    $t->get("/v2/$c/m/blobs/$digest[3]");
}
$t->forget_requests(1);
$t->get("/v2/c2/m/blobs/$digest[3]");
is(scalar(challenges()), 0, 'the second is known');
$t->get("/v2/c1/m/blobs/$digest[3]");
is(scalar(challenges()), 4, 'the first is not');

# somebody else writes the sidecar: only memory knows then

$t->get("/v2/a/m/blobs/$digest[4]");
my ($hex) = $digest[4] =~ /:(.+)/;
my ($map) = glob "$t->{dir}/cache/blobs/sha256/*/$hex.map";
open my $f, '+<', $map or die $!;
my $lock = pack('s s x4 l! l! i', F_WRLCK, SEEK_SET, 0, 0, 0);
fcntl($f, F_SETLK, $lock) or die $!;
ok($t->get("/v2/b/m/blobs/$digest[4]")->{body} eq $blob{$digest[4]},
    'a busy sidecar');
$t->forget_requests(1);
$r = $t->get("/v2/b/m/blobs/$digest[4]");
is($r->{h}{'cache-status'}, 'nginx-oci; hit', 'a hit');
is(scalar(challenges()), 0, 'is known');
close $f;
$t->stop();
$t->start();
$t->forget_requests(1);
ok($t->get("/v2/b/m/blobs/$digest[4]")->{body} eq $blob{$digest[4]},
    'after a restart');
is(scalar(challenges()), 4, 'asked again');

# a client that leaves; a reload, while the answer is out

mode('slow');
$t->forget_requests(1);
my $s = $t->connect();
$t->send_request($s, 'GET', "/v2/b/m/blobs/$digest[5]");
until_true(\&challenges);
close $s;
sleep 1;
$t->forget_requests(1);
$r = $t->get("/v2/b/m/blobs/$digest[5]");
is($r->{h}{'cache-status'}, 'nginx-oci; hit', 'a client left');
is(scalar(challenges()), 4, 'who comes next asks again');

$t->forget_requests(1);
$s = $t->connect();
$t->send_request($s, 'GET', "/v2/b/m/blobs/$digest[6]",
    { Connection => 'close' });
until_true(\&challenges);
$t->signal('HUP');
$r = $t->read_body($s, $t->read_header($s), 'GET');
ok($r->{body} eq $blob{$digest[6]}, 'a reload');
close $s;

$t->forget_requests(1);
$s = $t->connect();
$t->send_request($s, 'GET', "/v2/b/m/blobs/$digest[7]");
until_true(\&challenges);
close $s;

$t->done();
