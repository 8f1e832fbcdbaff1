#!/usr/bin/perl

# S25: TLS.
#
# Towards registries (the class of CVE-2026-1642): a server, or somebody on the
# way to it, that sends a plain answer before the handshake, at once or in the
# same moment as the connection opens; instead of it; ahead of a certificate
# that is wrong; behind a handshake that is cut.
#
#   - nothing that was not in a verified session reaches a client, grants a
#     right or is kept, for a blob, a tag, a manifest, a list, a push, a token;
#     and of what the edge sends, credentials first, nobody sees anything.
#
# Towards clients (CVE-2025-23419): two servers of one address, of which one
# wants a client certificate: a session of the one is no entrance to the other,
# with the same name or another one in Host and SNI, over HTTP/1.1 and HTTP/2.
#
# See also tls.t (certificates and their names), s08_ssrf.t.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Socket::INET;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('openssl');
OCI->skip_all_unless('curl');

my $t = OCI->new(workers => 1, unwind => 1);
my $d = $t->{dir};
my $secret = 'canary' . 'x' x 30;
my ($cert, $key) = $t->certificate('registry.test');
my ($ecert, $ekey) = $t->certificate('edge.test');
my ($ccert, $ckey) = $t->certificate('client.test');
my $manifest = '{"schemaVersion":2,"from":"poison"}';
my $blob = 'the poison, ' x 10_000;
my ($digest, $bdigest) = ($t->digest($manifest), $t->digest($blob));

# what a client must not see: right answers, but for who sends them

my $head = "HTTP/1.1 200 OK\r\nContent-Type: $OCI::TYPE{manifest}\r\n"
    . "Docker-Content-Digest: $digest\r\nX-Poison: poison\r\n";
my %plain = (
    manifest => "${head}Content-Length: " . length($manifest)
        . "\r\n\r\n$manifest",
    byte => "HTTP/1.1 206 X\r\nContent-Range: bytes 0-0/" . length($blob)
        . "\r\nContent-Length: 1\r\n\r\nt",
    token => "HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n"
        . '{"token":"poison"}',
    created => "HTTP/1.1 201 Created\r\nX-Poison: poison\r\n"
        . "Content-Length: 0\r\n\r\n",
    half => $head,
);

# sends at once, reads what comes, keeps it

sub plain_server {
    my ($text, $late) = @_;
    my $port = OCI::port();
    my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $port, Listen => 64, ReuseAddr => 1) or die $!;
    my $pid = fork() // die;
    if ($pid) {
        $t->{pids}{"upstream_$port"} = $pid;
        return $port;
    }
    setpgrp;
    $SIG{TERM} = 'DEFAULT';
    $SIG{CHLD} = 'IGNORE';
    while (my $c = $l->accept()) {
        syswrite $c, $text if !$late;
        next if fork();
        my $got = '';
        eval {
            local $SIG{ALRM} = sub { die };
            alarm 2;
            sysread $c, $got, 65536, length $got;

            # in the place of a handshake

            syswrite $c, $text;
            1 while sysread $c, $got, 65536, length $got;
        };
        open my $f, '>>', "$d/seen";
        syswrite $f, $got;
        POSIX::_exit(0);
    }
    POSIX::_exit(0);
}

my @kinds = sort keys %plain;
my %port = map { ($_ => plain_server($plain{$_}),
    "${_}late" => plain_server($plain{$_}, 1)) } @kinds;
my @names = sort keys %port;

# a registry behind the second server's TLS

my $good = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, $q->{uri}) if $q->{uri} !~ /blobs/;
    return $t->reply_blob($c, $q, $blob);
});

my ($edge, $tls) = (OCI::port(), OCI::port());

$t->write_file('robot', "robot:$secret\n", 0600);
$t->conf(http => join("\n", (map { <<EOR } @names), <<EOC),
oci_registry $_ {
    url https://127.0.0.1:$port{$_};
    host registry.test;
    trusted_certificate $d/ca.pem;
    connect_timeout 3s;
    stall_timeout 3s;
    breaker off;
}
oci_registry ${_}robot {
    url https://127.0.0.1:$port{$_};
    host registry.test;
    trusted_certificate $d/ca.pem;
    connect_timeout 3s;
    stall_timeout 3s;
    breaker off;
    credentials file $d/robot;
}
EOR
oci_registry good { url http://127.0.0.1:$good; }
map \$arg_r \$registry { ~. \$arg_r; default good; }
ssl_session_cache shared:tls:1m;
ssl_session_tickets on;
ssl_protocols TLSv1.2 TLSv1.3;
server {
    listen 127.0.0.1:$edge ssl http2;
    server_name open.test;
    ssl_certificate $ecert;
    ssl_certificate_key $ekey;
    location /v2/ { oci_pass good; oci_cache models; }
}
server {
    listen 127.0.0.1:$edge ssl http2;
    server_name closed.test;
    ssl_certificate $ecert;
    ssl_certificate_key $ekey;
    ssl_verify_client on;
    ssl_client_certificate $d/ca.pem;
    location /v2/ { oci_pass good; oci_cache models; }
}
EOC
    location => <<EOL);
location /v2/ { oci_pass \$registry; oci_cache models; oci_access open; }
@{[map { "location = /token/$_ { oci_token $_; }\n" } @names]}
EOL
$t->start();

# plain answers, as they come, and where the edge is slow between connect()
# and its next look at the connection: so that the answer is there before it

sub trial {
    my ($how) = @_;
    my %bad;
    my @all = map { my $name = $_; map { [ $name, @$_ ] }
        [ 'GET', "/v2/m/manifests/v1?r=$name" ],
        [ 'GET', "/v2/m/manifests/$digest?r=$name" ],
        [ 'GET', "/v2/m/blobs/$bdigest?r=$name" ],
        [ 'GET', "/v2/m/tags/list?r=$name" ],
        [ 'GET', "/v2/m/manifests/v1?r=${name}robot" ],
        [ 'PUT', "/v2/m/manifests/v1?r=$name" ],
        [ 'GET', "/token/$name?scope=x" ] } @names;
    my $n = 14;
    my @out = $t->parallel($n, sub {
        my ($i) = @_;
        my @wrong;
        for my $k (grep { $_ % $n == $i } 0 .. $#all) {
            my ($name, $method, $uri) = @{$all[$k]};
            my $r = $t->http($t->{edge}, $method, $uri,
                { Authorization => "Basic $secret" },
                $method eq 'PUT' ? 'x' : undef, 60);
            push @wrong, "$method $uri: $r->{status}"
                if $r->{status} !~ /^50[24]$/
                || "$r->{body}@{[%{$r->{h}}]}" =~ /poison/i;
        }
        return join "\n", @wrong;
    });
    is(join("\n", grep { $_ ne '' } @out), '',
        "$how: no plain answer counts");
}

trial('as they come');

SKIP: {
    my ($worker) = $t->workers();
    my $strace = (grep { -x } map { "$_/strace" } split /:/, $ENV{PATH})[0];
    skip 'strace is not there, or can\'t attach', 1 unless $strace;
    my $pid = $t->spawn('strace', $strace, '-f', '-qq', '-o', "$d/strace.out",
        '-e', 'trace=connect', '-e', 'inject=connect:delay_exit=5000',
        '-p', $worker);
    for (1 .. 50) {
        last if `grep TracerPid /proc/$worker/status` =~ /[1-9]/;
        sleep 0.1;
    }
    skip 'strace can\'t attach', 1
        if `grep TracerPid /proc/$worker/status` !~ /[1-9]/;
    trial('before the handshake');
    $t->stop_one('strace');
}

my @kept = grep { -f } glob "$d/cache/{manifests,blobs/*,refs}/*/*";
is(join(' ', @kept), '', 'nothing is kept');
my $seen = $t->read_file('seen');
cmp_ok(length($seen), '>', 1000, 'the servers were asked');
unlike($seen, qr/HTTP|$secret|Basic|poison/, 'for nothing but a handshake');

# sessions of clients


sub client {
    my ($sni, $host, $args) = @_;
    my $get = "printf 'GET /v2/m/tags/list HTTP/1.1\\r\\nHost: $host\\r\\n"
        . "Connection: close\\r\\n\\r\\n'";
    my $run = "timeout 10 openssl s_client -ign_eof -quiet -CAfile ca.pem"
        . " -connect 127.0.0.1:$edge -servername $sni $args";
    my $out = `cd $d; ($get; sleep 0.2) | $run 2>/dev/null`;
    my ($status) = $out =~ m!^HTTP/1\.1 (\d+)!m;
    return $status // 0;
}

my $with = "-cert $ccert -key $ckey";

for my $v ('-tls1_2', '-tls1_3') {
    is(client('open.test', 'open.test', "$v -sess_out s.open"), 200,
        "$v: the open server");
    is(client('closed.test', 'closed.test', "$v -sess_out s.closed $with"),
        200, "$v: the closed one, with a certificate");
    isnt(client('closed.test', 'closed.test', $v), 200,
        "$v: not without");
    isnt(client('closed.test', 'closed.test', "$v -sess_in s.open"), 200,
        "$v: not with the other one's session");
    isnt(client('open.test', 'closed.test', "$v -sess_in s.open"), 200,
        "$v: not by Host");
    isnt(client('none.test', 'closed.test', $v), 200, "$v: by no name");
}

my $h2 = `curl -V` =~ /HTTP2/;
my $curl = "curl -s -o $d/out -w '%{http_code}' --cacert $d/ca.pem"
    . " --connect-to ::127.0.0.1:$edge -k";
for my $v ('http1.1', $h2 ? 'http2' : ()) {
    isnt(`$curl --$v -H 'Host: closed.test' https://open.test/v2/m/tags/list`,
        200, "$v: not by Host");
    isnt(`$curl --$v https://closed.test/v2/m/tags/list`, 200,
        "$v: not at all");
    is(`$curl --$v https://open.test/v2/m/tags/list`, 200, "$v: the open one");
}

$t->done();
