#!/usr/bin/perl

# S12: bombs.  A registry, its token service and a pusher send what grows: a
# manifest of 4 MiB and a byte, bodies without an end, JSON that is deep, wide,
# or of odd numbers and keys, gzip of 1000:1, headers without measure, answers
# of 32 MiB to lists, probes and pushes.
#
#   - a worker's memory does not follow them: its peak grows by less than 48
#     MiB whatever comes, a few of each at a time;
#   - what is no more than a large document comes through byte for byte, and is
#     stored; what is beyond 4 MiB comes through and is not; nothing is
#     unpacked;
#   - who sends without an end is left when the client leaves;
#   - a bomb for a token is an error, and the next token is good;
#   - each costs a worker less than a second of processor time: nothing that is
#     worse than linear.
#
# The edge reads no manifest; token services' answers, 64 KiB of them, are the
# only JSON that it parses.  See also slow.t, fuzz/ (the parsers).

use warnings;
use strict;

use Test::More;
use Compress::Zlib;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $mib = 1024 * 1024;
my $large = 32 * $mib;
my $clients = 5;
my $max = 4 * $mib;

sub filled {
    my ($size, $start, $end) = @_;
    return $start . ' ' x ($size - length($start) - length $end) . $end;
}

my $gzip = Compress::Zlib::memGzip("\0" x (32 * $mib));

my %manifest = (
    most => filled($max, '{"schemaVersion":2', '}'),
    over => filled($max + 1, '{"schemaVersion":2', '}'),
    deep => '[' x 100_000 . ']' x 100_000,
    deeper => '{"a":' x 700_000,
    wide => '{"layers":[' . '{},' x 1_000_000 . '{}]}',
    keys => '{' . '"layers":[],' x 300_000 . '"layers":[]}',
    numbers => '{"schemaVersion":1e400,"layers":[{"size":-1e999},'
        . '{"size":99999999999999999999999999}]}',
    surrogates => '{"\ud800":"\udfff\u0000\ud800\ud800"}',
    junk => "\0" x 1000 . "\xff\xfe" x 1000,
    gzip => $gzip,
);
my @documents = sort keys %manifest;
my %digest = map { $_ => $t->digest($manifest{$_}) } @documents;

my %token = (
    deep => '{"a":' . '[' x 60_000,
    wide => '{"a":[' . '[],' x 20_000 . '[]]}',
    keys => '{' . join(',', map { qq("k$_":1) } 1 .. 5000) . '}',
    over => filled(65537, '{"token":"right"', '}'),
    huge => '',
    number => '{"token":1e400}',
    expires => '{"token":"right","expires_in":1e400}',
    surrogate => '{"token":"\ud800"}',
    nul => '{"token":"a\u0000b"}',
    none => '{"token":null,"access_token":[]}',
    cut => '{"token":"right',
    text => 'right',
    gzip => $gzip,
);
my %fine = (
    twice => '{"token":"wrong","token":"right","expires_in":1}',
    ages => '{"token":"right","expires_in":9223372036854775807}',
    minus => '{"token":"right","expires_in":-9223372036854775808}',
    most => filled(65536, '{"token":"right"', '}'),
);

# without an end; what got off is noted when the edge closes

sub endless {
    my ($c, $name, $head) = @_;
    my $piece = 'x' x 65536;
    my $sent = 0;
    print $c $head;
    for (1 .. 16384) {
        print $c sprintf("%x\r\n", length $piece), $piece, "\r\n" or last;
        $sent += length $piece;
    }
    open my $f, '>>', "$d/endless" or die;
    syswrite $f, "$name $sent\n";
    close $f;
    return 0;
}

sub huge {
    my ($c, $q, $status, $left) = @_;
    my $piece = 'x' x 65536;
    print $c "HTTP/1.1 $status X\r\nContent-Length: $left\r\n\r\n";
    return 1 if $q->{method} eq 'HEAD';
    for (1 .. $left / 65536) {
        print $c $piece or return 0;
    }
    return 1;
}

my $chunked = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n"
    . "Content-Type: $OCI::TYPE{manifest}\r\n";

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($name, $rest) = $q->{uri} =~ m!^/v2/(?:m/)?(\w+)/?(.*)$!;
    my $type = { 'Content-Type' => $OCI::TYPE{manifest} };

    if ($q->{uri} =~ m!^/token/(\w+)!) {
        my $text = -e "$d/healed" ? '{"token":"right"}'
            : $token{$1} // $fine{$1};
        return huge($c, $q, 200, $large) if $1 eq 'huge' && !-e "$d/healed";
        return $t->reply($c, $q, 200, { 'Content-Type' => 'application/json',
            $text eq $gzip ? ('Content-Encoding' => 'gzip') : () }, $text)
            if $1 ne 'endless' || -e "$d/healed";
        return endless($c, 'token', $chunked . "\r\n");
    }
    if ($name =~ s/^t_//) {
        return $t->reply($c, $q, 200, $type, $manifest{numbers})
            if ($q->{h}{authorization} // '') eq 'Bearer right';
        return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
            "Bearer realm=\"http://127.0.0.1/token/$name\"" }, '');
    }
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' => 'Bearer '
        . join(',', map { "a$_=\"b\"" } 1 .. 3000) . ',realm="x' }, '')
        if $name eq 'challenge';
    return $t->reply($c, $q, 200, { 'X-Long' => 'x' x $mib }, '{}')
        if $name eq 'header';
    return $t->reply($c, $q, 200, { map { ("X-$_" => 'y') } 1 .. 20_000 },
        '{}') if $name eq 'headers';
    return endless($c, $name, "HTTP/1.1 200 X\r\n" . 'X-Y: z' x $mib)
        if $name eq 'line';
    return endless($c, $name, $chunked . "\r\n")
        if $name =~ /^endless/ && $q->{method} eq 'GET';
    return $t->reply($c, $q, 200, $type, '') if $name =~ /^endless/;
    return huge($c, $q, 500, $large) if $name eq 'error';
    return huge($c, $q, 200, $large)
        if $q->{uri} =~ /_catalog|tags|referrers/;
    return $t->reply($c, $q, 201, {}, '') if $q->{method} eq 'PUT';

    return $t->reply($c, $q, 404, {}, '') if !exists $manifest{$name};
    return $t->reply($c, $q, 200, { %$type,
        'Docker-Content-Digest' => $digest{$name},
        $name eq 'gzip' ? ('Content-Encoding' => 'gzip') : () },
        $manifest{$name});
}, quiet => 1);

my @dances = (sort(keys %token), sort(keys %fine), 'endless');
my $realm = "url http://127.0.0.1:$port; host 127.0.0.1;";

$t->conf(http => join("\n",
    "oci_registry demo { url http://127.0.0.1:$port; breaker off; }",
    (map { "oci_registry t_$_ { $realm credentials anonymous; breaker off; }" }
        @dances),
    'map $uri $registry { ~^/v2/m/(?<name>t_\w+)/ $name; default demo; }'),
    location => 'location /v2/ { oci_pass $registry; oci_cache models;'
        . ' oci_access open; }');
$t->allow(qr/another one is passed through/);
$t->start();

my ($worker) = $t->workers();

sub peak {
    my ($mb) = `grep VmHWM /proc/$worker/status` =~ /(\d+)/;
    return $mb / 1024;
}

sub cpu {
    my ($stat) = `cat /proc/$worker/stat` =~ /\) (.*)/;
    my @f = split / /, $stat;
    return ($f[11] + $f[12]) / 100;
}

# the peak from here on

sub from_here {
    open my $f, '>', "/proc/$worker/clear_refs" or return;
    print $f 5;
    close $f;
}

sub cheap {
    my ($name, $n, $before, $cpu) = @_;
    SKIP: {
        skip 'sanitizers keep what is freed', 2 if $OCI::ASAN;
        cmp_ok(peak() - $before, '<', 48, "$name: memory");
        cmp_ok((cpu() - $cpu) / $n, '<', 1, "$name: processor time");
    }
}

sub bomb {
    my ($name, $n, $code) = @_;
    from_here();
    my ($before, $cpu) = (peak(), cpu());
    my @out = $t->parallel($n, $code);
    cheap($name, $n, $before, $cpu);
    return @out;
}

sub right {
    my ($r, $what) = @_;
    return $r->{status} == 200 && $r->{body} eq $what ? 'right'
        : "$r->{status} " . length $r->{body};
}

# documents

for my $name (@documents) {
    for my $ref ('v1', $digest{$name}) {
        my @out = bomb("$name, " . substr($ref, 0, 6), $clients, sub {
            my $r = $t->get("/v2/m/$name/manifests/$ref");
            return right($r, $manifest{$name})
                . ($r->{h}{'content-encoding'} // '');
        });
        my $want = $name eq 'gzip' ? 'rightgzip' : 'right';
        is(join(',', @out), join(',', ($want) x $clients),
            "$name: byte for byte");
    }
    my $kept = 0;
    for (1 .. 40) {
        $kept = grep { -s $_ >= length $manifest{$name} }
            glob "$d/cache/manifests/*/*"
            . substr $digest{$name}, length 'sha256:xx';
        last if $kept || $name =~ /over|gzip/;
        sleep 0.1;
    }
    is($kept, $name =~ /over|gzip/ ? 0 : 1, "$name: kept or not");
}

# without an end: a client that leaves after 1 MiB

for my $name (qw/ endlessa endlessb /) {
    my $uri = $name =~ /a$/ ? 'manifests/v1'
        : 'manifests/sha256:' . 'a' x 64;
    bomb($name, 4, sub {
        my $s = $t->connect();
        $t->send_request($s, 'GET', "/v2/m/$name$_[0]/$uri");
        my $got = length $t->read_header($s, 10)->{rest};
        while ($got < $mib && sysread $s, my $buf, 65536) {
            $got += length $buf;
        }
        close $s;
        return '';
    });
}

my @sent;
for (1 .. 100) {
    @sent = split /\n/, $t->read_file('endless');
    last if @sent >= 16;
    sleep 0.1;
}
cmp_ok(scalar(@sent), '>=', 8, 'they were sent') or diag("@sent");
is(join(', ', grep { /(\d+)$/ && $1 > $large } @sent), '',
    'and left when the client left');

# tokens

for my $name (@dances) {
    next if $name eq 'endless' && !unlink "$d/endless";
    my @out = bomb("token, $name", 4, sub {
        return right($t->get("/v2/m/t_$name/manifests/v1"),
            $manifest{numbers});
    });
    my @right = grep { $_ eq 'right' } @out;
    my @error = grep { /^50[234] / } @out;
    is(scalar($fine{$name} ? @right : @error), 4, "token, $name: an answer")
        or diag("@out");
}

$t->write_file('healed', '');
for my $name (@dances) {
    my $r = $t->get("/v2/m/t_$name/manifests/v1");
    is(right($r, $manifest{numbers}), 'right', "token, $name: the next one");
}

# headers

for my $name (qw/ challenge header headers line /) {
    my @out = bomb($name, 4, sub {
        return $t->get("/v2/m/$name/manifests/v1")->{status};
    });
    is(scalar(grep { /^(?:401|502)$/ } @out), 4, "$name: refused")
        or diag("@out");
}

# what is passed on, both ways

for my $uri ('/v2/_catalog?n=1000000000', '/v2/m/x/tags/list?n=-1',
    '/v2/m/x/referrers/sha256:' . 'a' x 64,
    '/v2/m/error/blobs/sha256:' . 'a' x 64, '/v2/m/error/manifests/v1')
{
    my ($path, $status) = ($uri, $uri =~ /error/ ? 500 : 200);
    my @out = bomb($uri, 2, sub {
        my $s = $t->connect();
        $t->send_request($s, 'GET', $path, { Connection => 'close' });
        my $r = $t->read_header($s);
        my $got = length $r->{rest};
        while (sysread $s, my $buf, 65536) {
            $got += length $buf;
        }
        return "$r->{status} $got";
    });
    is(join(', ', @out), "$status $large, $status $large", "$uri: passed on");
}

my @out = bomb('a push', 2, sub {
    return $t->http($t->{edge}, 'PUT', "/v2/m/x/manifests/v$_[0]",
        { 'Content-Type' => $OCI::TYPE{manifest} }, 'x' x $large)->{status};
});
is(join(', ', @out), '201, 201', 'a push: passed on');

is(($t->workers())[0], $worker, 'the worker lives');
is(right($t->get('/v2/m/deep/manifests/v1'), $manifest{deep}), 'right',
    'and answers');

$t->done();
