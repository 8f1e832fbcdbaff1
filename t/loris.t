#!/usr/bin/perl

# Registries that take their time, or never come to the point: headers and
# framing that drip, framing without end, connections where nobody is any more.
# A client sees an end, and others do not notice.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $size = 400_000;

my @modes = qw/ header extension trailer flood silent halfopen tls /;
my (%blob, %digest);

for (@modes, 'other') {
    my $bytes = $t->random_blob($size);
    $digest{$_} = $t->digest($bytes);
    $blob{$_} = $bytes;
}

# a byte now and then, as long as somebody listens, or a minute

sub drip {
    my ($c, $what) = @_;
    for (1 .. 600) {
        syswrite $c, 'a' or return 0;
        sleep 0.1;
    }
    open my $f, '>', "$d/finished-$what";
    return 0;
}

my %served;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($mode, $kind, $ref) =
        $q->{uri} =~ m!^/v2/(\w+)/m/(blobs|manifests)/(.+)$!
        or return $t->reply($c, $q, 404, {}, '');
    my $bytes = $kind eq 'blobs' ? $blob{$mode} : '{"schemaVersion":2}';
    my ($from, $to) = ($q->{from} // 0, $q->{to} // length $bytes);
    my $probe = $kind eq 'blobs' && $to - $from == 1;

    if ($mode eq 'header') {
        syswrite $c, "HTTP/1.1 200 X\r\nX-Slow: ";
        return drip($c, $mode);
    }
    if ($mode eq 'silent' || ($mode eq 'halfopen' && $served{$c}++)) {
        sleep 0.1 while !-e "$d/over";
        return 0;
    }
    if ($mode eq 'halfopen' && !-e "$d/halfopen") {

        # all that are kept alive are half open from now on

        open my $f, '>', "$d/halfopen" or die;
    }
    if ($kind eq 'blobs' && !$probe && $mode =~ /extension|trailer|flood/) {
        $bytes = substr $bytes, $from, $to - $from;
        syswrite $c, "HTTP/1.1 206 X\r\nTransfer-Encoding: chunked\r\n"
            . "Content-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";

        if ($mode eq 'trailer') {
            printf $c "%x\r\n%s\r\n0\r\nX-T: ", length $bytes, $bytes;
            return drip($c, $mode);
        }

        print $c "3e8;a=";
        return drip($c, $mode) if $mode eq 'extension';

        for (1 .. 20000) {
            syswrite $c, 'a' x 65536 or return 0;
        }
        open my $f, '>', "$d/finished-$mode";
        return 0;
    }

    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($bytes) }, $bytes)
        if $kind eq 'manifests';
    return $t->reply_blob($c, $q, $bytes);
}, quiet => 1);

# nobody accepts, and no handshake ends

my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64)
    or die $!;
my $tls = $mute->sockport;

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$port; stall_timeout 1s; connect_timeout 1s;
    breaker off;
}
oci_registry tls {
    url https://127.0.0.1:$tls; stall_timeout 1s; connect_timeout 1s;
    breaker off;
}
map \$uri \$registry { ~^/v2/tls/ tls; default demo; }
EOC
location /v2/ { oci_pass \$registry; oci_cache models; }
EOL
$t->start();

sub uri { return "/v2/$_[0]/m/" . ($_[1] // "blobs/$digest{$_[0]}") }

sub seen {
    my ($r, $bytes) = @_;
    return 'slow' if $r->{timeout};
    return 'right' if $r->{status} == 200 && !$r->{cut}
        && $r->{body} eq $bytes;
    return 'cut' if $r->{cut} || $r->{status} == 0 || $r->{status} >= 500;
    return "wrong $r->{status}";
}

# idle connections to the registry

is($t->get(uri('halfopen', "manifests/$_"))->{status}, 200, "halfopen $_")
    for 1 .. 2;

my %want = (header => 'cut', extension => 'cut', trailer => 'right',
    flood => 'cut', silent => 'cut', halfopen => 'right', tls => 'cut');

my @jobs = ((map { [$_, 'blobs'] } @modes),
    map { [$_, 'manifests'] } qw/ header silent halfopen tls /);

my @out = $t->parallel(@jobs + 2, sub {
    my ($i) = @_;

    if ($i >= @jobs) {

        # others, meanwhile

        my %is;
        for (1 .. 20) {
            $is{seen($t->get(uri('other'), {}, 20), $blob{other})}++;
            sleep 0.1;
        }
        return join ' ', %is;
    }

    my ($mode, $kind) = @{$jobs[$i]};
    return seen($t->get(uri($mode, $kind eq 'blobs' ? () : 'manifests/x'), {},
        50), $kind eq 'blobs' ? $blob{$mode} : '{"schemaVersion":2}');
});

for my $i (0 .. $#jobs) {
    my ($mode, $kind) = @{$jobs[$i]};
    is($out[$i], $want{$mode}, "$mode, $kind: $want{$mode}");
    ok(!-e "$d/finished-$mode", "$mode: before the registry came to an end");
}

is($out[$_], 'right 20', 'others do not notice')
    for scalar @jobs, @jobs + 1;

$t->write_file('over', '');

my $idle;
for (1 .. 100) {
    $idle = $t->status()->{counters}{fills_active} == 0;
    last if $idle;
    sleep 0.1;
}
ok($idle, 'no fill goes on');

$t->done();
