#!/usr/bin/perl

# A scripted upstream that lies, stalls, resets and redirects.  The mode
# stands in the repository's name.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);

my $size = 20 * 1024 * 1024 + 777;
my $blob = $t->random_blob($size);
my $digest = $t->digest($blob);
my $heal = "$t->{dir}/heal";

# what a terminal, or whoever reads a log, takes for something else

my $junk = qq{\e]0;x\a\e[31m\b\x7f\x9b\xff"\\} . 'a' x 3000;

# the object store of redirects

my $store = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob);
});

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($mode) = $q->{uri} =~ m!^/v2/m/([a-z0-9]+)/!;
    my $bytes = $blob;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    my $many = !defined $q->{from} || $to - $from > 1;
    my $part = sub {
        my ($n, $h) = @_;
        print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
            . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n"
            . substr($blob, $from, $n);
    };

    if ($mode eq 'ignore') {
        return $t->reply($c, $q, 200, {}, $blob);
    }
    if ($mode eq 'html') {
        return $t->reply($c, $q, 200, { 'Content-Type' => 'text/html' },
            '<html>please log in</html>');
    }
    if ($mode eq 'flip' && !-e $heal) {
        substr($bytes, 12345678, 1) ^= "\1";
    }
    if ($mode eq 'moved' || $mode eq 'away' || $mode eq 'loop') {
        my $to = $mode eq 'moved' ? "http://127.0.0.1:$store/x?sig=secret"
            : $mode eq 'away' ? "http://127.0.0.2:$store/x?sig=secret"
            : $q->{uri};
        return $t->reply($c, $q, 307, { Location => $to }, '');
    }

    return $t->reply_blob($c, $q, $bytes) unless $many;

    if ($mode eq 'reset') {
        my $n = $to - $from > 3000001 ? 3000001 : $to - $from;
        $part->($n);
        sleep 0.05;
        return $n == $to - $from ? 1 : $t->reset($c);
    }
    if ($mode eq 'short') {
        my $n = int(($to - $from) / 2) + 1;
        $part->($n);
        return $n == $to - $from ? 1 : 0;
    }
    if ($mode eq 'stall' && $from == 0) {
        $part->(100000);
        sleep 4;
        return 0;
    }
    if ($mode eq 'err' && $q->{n} % 2 == 0) {
        return $t->reply($c, $q, 503, { 'Retry-After' => 1 }, 'busy');
    }
    if ($mode eq 'wrong') {
        return $t->reply($c, $q, 206, { 'Content-Range' =>
            sprintf('bytes %d-%d/%d', $from + 1, $to - 1, $size) },
            substr($blob, $from + 1, $to - $from - 1));
    }
    if ($mode eq 'total') {
        return $t->reply($c, $q, 206, { 'Content-Range' =>
            sprintf('bytes %d-%d/%d', $from, $to - 1, $size + 5) },
            substr($blob, $from, $to - $from));
    }
    if ($mode eq 'gzip') {
        return $t->reply_blob($c, $q, $bytes,
            { 'Content-Encoding' => 'gzip' });
    }
    if ($mode =~ /^esc(.*)/) {
        my %name = (length => 'Content-Length', coding => 'Content-Encoding',
            transfer => 'Transfer-Encoding');
        return $t->reply_blob($c, $q, $bytes, { 'Content-Length' => undef,
            $name{$1} => "5$junk" });
    }
    if ($mode eq 'garbage') {
        print $c "\x16\x03\x01 what is this\r\n\r\n";
        return 0;
    }
    if ($mode eq 'chunked') {
        print $c "HTTP/1.1 206 X\r\nTransfer-Encoding: chunked\r\n"
            . "Content-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";
        for (my $i = $from; $i < $to; $i += 70001) {
            my $piece = substr($blob, $i, $to - $i > 70001 ? 70001 : $to - $i);
            printf $c "%x\r\n", length $piece;
            print $c $piece, "\r\n";
        }
        print $c "0\r\n\r\n";
        return 1;
    }

    return $t->reply_blob($c, $q, $bytes);
});

my $closed = OCI::port();

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$port;
    stall_timeout 1s;
    redirect_allow 127.0.0.1:$store;
}
oci_registry closed { url http://127.0.0.1:$closed; }
map \$uri \$registry { ~^/v2/closed/ closed; default demo; }
EOC
location /v2/ { oci_pass \$registry; oci_cache models; }
EOL
$t->start();

sub pull { return $t->get("/v2/m/$_[0]/blobs/$digest", $_[1], 20) }

sub fresh {
    $t->stop();
    system("rm -rf $t->{dir}/cache");
    $t->start();
}

# it gets there in the end

for my $mode (qw/ ok ignore chunked reset short stall err moved /) {
    my $r = pull($mode, { Authorization => 'Basic c2VjcmV0OnNlY3JldA==' });
    is($r->{status}, 200, "$mode: status");
    ok($r->{body} eq $blob, "$mode: bytes");
    ok(pull($mode)->{body} eq $blob, "$mode: bytes again");
    fresh();
}

# a redirect carries nothing of the caller's

my @seen = $t->requests(0);
ok(@seen > 0, 'the object store was asked');
is(scalar(grep { exists $_->{h}{authorization} } @seen), 0,
    'and saw no credentials');
unlike($t->read_file('error.log'), qr/sig=secret/, 'no secret in the log');

# it fails cleanly, and the edge lives on

for my $mode (qw/ wrong total gzip garbage html loop /) {
    my $r = pull($mode);
    ok($r->{status} != 200 || $r->{cut} || $r->{body} ne $blob
        || $mode =~ /gzip|html/, "$mode: no wrong bytes") or diag($r->{status});
    ok(!($r->{status} == 200 && !$r->{cut} && $r->{body} ne $blob),
        "$mode: nothing wrong completes") or diag(length $r->{body});
    fresh();
}

# nothing of it is in the log as it came

for my $mode (qw/ esclength esccoding esctransfer /) {
    my $at = length $t->read_file('error.log');
    pull($mode);
    my $log = substr $t->read_file('error.log'), $at;
    my @lines = grep { /upstream sent .*\[31m/ } split /\n/, $log;
    ok(scalar @lines, "$mode: is said");
    ok(!grep({ /[^\x20-\x7e]/ } @lines), "$mode: without odd bytes");
    like($lines[0] // '', qr/"5\\x1B\]0;x\\x07\\x1B\[31m\\x08\\x7F\\x9B\\xFF\\x22\\x5Ca+\.\.\."/,
        "$mode: but escaped");
    cmp_ok(length($lines[0] // ''), '<', 700, "$mode: and cut");
    fresh();
}

my $r = pull('away');
is($r->{status}, 307, 'a redirect elsewhere is left to the client');
like($r->{h}{location}, qr/^http:\/\/127\.0\.0\.2:/, 'as it came');

$r = $t->get("/v2/closed/m/blobs/$digest");
is($r->{status}, 502, 'connect refused');

# one bit

for (1, 2) {
    $r = pull('flip');
    ok($r->{cut} || $r->{status} == 503,
        "flip: no client completes ($r->{status})");
}

is(scalar(grep { -f } glob "$t->{dir}/cache/blobs/sha256/*/*"), 0,
    'flip: the file is gone');
ok($t->status()->{counters}{verify_failures} > 0, 'flip: counted');

$t->write_file('heal', '');
sleep 3;
$r = pull('flip');
ok($r->{body} eq $blob, 'flip: right from a healed upstream');

$t->done();
