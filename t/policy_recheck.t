#!/usr/bin/perl

# Running transfers are decided again: who lost a right is cut off, whatever
# the transfer waits for, in a way that no client takes for its end.  Others
# go on.

use warnings;
use strict;

use Test::More;
use Errno qw/ ECONNRESET /;
use File::Basename qw/ dirname /;
use IO::Select;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

OCI->skip_all_unless('openssl');
OCI->skip_all_unless('curl');

my $many = 300;
my $t = OCI->new(workers => 2, unwind => 1);
my $d = $t->{dir};
my ($cert, $key) = $t->certificate('edge.test');

my @users = qw/ off gone nogrant later gets stays other /;
my %subject = map { $_ => { secret => Policy::phc("$_-secret"),
    groups => ['ml'] } } @users;
$subject{gets}{groups} = ['pushers'];
my $doc = {
    version => 1,
    subjects => \%subject,
    grants => {
        ml => { role => 'developer', groups => ['ml'],
            repositories => ['llm/**'] },
        one => { role => 'guest', subjects => ['nogrant'],
            repositories => ['one/x'] },
        pushers => { role => 'developer', groups => ['pushers'],
            repositories => ['llm/**'] },
    },
    projects => { public => { public => JSON::PP::true },
        open => { public => JSON::PP::true } },
};
Policy::write_doc($t, $doc);
Policy::write_doc($t, $doc, 'slow.json');

my $blob = $t->random_blob(4_000_000);
my $digest = $t->digest($blob);
my $half = $t->random_blob(3_000_000);
my $hdigest = $t->digest($half);

# "half": a registry that stops in the middle until it is told to go on

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    if ($q->{uri} =~ /\Q$hdigest\E/) {
        my ($from, $to) = ($q->{from} // 0, $q->{to} // length $half);
        $to = length $half if $to > length $half;
        print $c "HTTP/1.1 206 X\r\nContent-Length: @{[$to - $from]}\r\n"
            . "Content-Range: bytes $from-@{[$to - 1]}/@{[length $half]}"
            . "\r\n\r\n";
        for (my $p = $from; $p < $to; $p += 65536) {
            until_true(60, sub { -e "$d/go" }) if $p >= 2_000_000;
            print $c substr $half, $p, $to - $p < 65536 ? $to - $p : 65536;
        }
        return 1;
    }
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ m!/blobs/sha!;
    if ($q->{uri} =~ m!/(chunked|close)/!) {
        print $c "HTTP/1.1 200 X\r\nContent-Type: application/json\r\n"
            . ($1 eq 'chunked' ? "Transfer-Encoding: chunked\r\n\r\n"
                : "Connection: close\r\n\r\n");
        while (!-e "$d/go") {
            print $c $1 eq 'chunked' ? "5\r\nhello\r\n" : 'hello' or last;
            sleep 0.05;
        }
        print $c "0\r\n\r\n" if $1 eq 'chunked';
        return 0;
    }
    return $t->reply($c, $q, 202, { Location => '/v2/x/blobs/uploads/1' })
        if $q->{method} =~ /^(POST|PATCH)$/;
    return $t->reply($c, $q, 200, {}, '{}');
});

my ($tls, $slow, $small) = map { OCI::port() } 1 .. 3;

$t->write_file('robot', "robot:robot-secret\n", 0600);
Policy::signing_key($t, 'edge.pem');
$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$port;
    credentials file $d/robot;
}
oci_policy team {
    source file:$d/policy.json;
    zone team:1m;
    identity basic anonymous;
    signing_key $d/edge.pem; realm http://edge.test/token;
    recheck 300ms;
}
oci_policy slow {
    source file:$d/slow.json;
    zone slow:1m;
    identity basic;
    recheck 1h;
}
log_format oci '\$request_uri \$status \$oci_subject \$oci_decision '
    '\$oci_policy_rule';
access_log $d/oci.log oci;
server {
    listen 127.0.0.1:$tls ssl http2;
    ssl_certificate $cert;
    ssl_certificate_key $key;
    location /v2/ {
        oci_pass demo; oci_cache models; oci_access team; limit_rate 100k;
    }
}
server {
    listen 127.0.0.1:$small sndbuf=32k;
    location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
}
server {
    listen 127.0.0.1:$slow;
    location /v2/ {
        oci_pass demo; oci_cache models; oci_access slow; limit_rate 1m;
    }
}
EOC
location /v2/ {
    oci_pass demo; oci_cache models; oci_access team;
    limit_rate 100k;
}
location = /after { internal; proxy_pass http://127.0.0.1:$port; }
location /v2/llm/fast/ {
    oci_pass demo; oci_cache models; oci_access team;
}
location /v2/llm/paced/ {
    oci_pass demo; oci_cache models; oci_access team;
    limit_rate 500k;
}
location /v2/one/ {
    oci_pass demo; oci_cache models; oci_access team;
    limit_rate 100k;
    post_action /after;
}
EOL
$t->start();

sub as { my ($u) = @_; return $u ? { Policy::basic($u, "$u-secret") } : {} }

# all who log in do so now, and the blobs are there

for my $u (@users) {
    is($t->get('/v2/', as($u))->{status}, 200, "$u logs in");
}
is($t->http($slow, 'GET', '/v2/', as('off'))->{status}, 200, 'elsewhere too');
is($t->get("/v2/llm/fast/blobs/$digest", as('stays'))->{body}, $blob,
    'a blob');

# transfers, each with what takes its right away

my %run;

sub begin {
    my ($name, $user, $uri, %o) = @_;
    my $s = $t->connect($o{port});
    if ($o{raw}) {
        print $s $o{raw};
    } else {
        $t->send_request($s, $o{method} // 'GET', $uri, { %{as($user)},
            %{$o{h} // {}} });
    }
    print $s 'x' x 1000 if $o{push};
    $run{$name} = { s => $s, got => '' };
    if (!$o{push}) {
        $run{$name}{r} = $t->read_header($s);
        is($run{$name}{r}{status}, $o{status} // 200, "$name began");
        $run{$name}{got} = $run{$name}{r}{rest};
    }
}

my $x = "blobs/$digest";
my ($auth) = values %{as('off')};
begin('disabled', 'off', "/v2/llm/a/$x");
begin('range', 'off', "/v2/llm/b/$x", h => { Range => 'bytes=100-' },
    status => 206);
begin('removed', 'gone', "/v2/llm/a/$x");
begin('grant', 'nogrant', "/v2/one/x/$x");
begin('later', 'later', "/v2/llm/a/$x");
begin('unread', 'off', "/v2/llm/unread/$x", port => $small);
begin('filling', 'off', "/v2/llm/fast/blobs/$hdigest");
begin('nobody', '', "/v2/public/a/$x");
begin('chunked', 'off', '/v2/llm/chunked/tags/list');
begin('close', 'off', '', raw =>
    "GET /v2/llm/close/tags/list HTTP/1.0\r\nHost: x\r\n"
    . "Authorization: $auth\r\n\r\n");
begin('push', 'gets', '/v2/llm/a/blobs/uploads/1', method => 'PATCH',
    h => { 'Content-Length' => 10_000_000 }, push => 1);
begin('stays', 'stays', "/v2/llm/paced/$x");
begin('joins', 'stays', "/v2/llm/fast/blobs/$hdigest");
begin('pushes', 'stays', '/v2/llm/a/blobs/uploads/1', method => 'PATCH',
    h => { 'Content-Length' => 2000 }, push => 1);
begin('public', '', "/v2/open/a/$x");
begin('policy', 'off', "/v2/llm/a/$x", port => $slow);
begin("many$_", 'other', "/v2/llm/a/$x") for 1 .. $many;

# over TLS, HTTP/1.1 and HTTP/2

my $h2 = `curl -V` =~ /HTTP2/;
my %curl;
for my $v ('http1.1', $h2 ? 'http2' : ()) {
    for my $u ('off', 'stays') {
        $curl{"$v-$u"} = $t->spawn("curl-$v-$u", 'curl', '-sS', "--$v",
            '-o', "$d/curl.$v.$u", '--cacert', "$d/ca.pem", '--resolve',
            "edge.test:$tls:127.0.0.1", '-u', "$u:$u-secret",
            '-w', '%{http_version} %{http_code} %{size_download}\n',
            "https://edge.test:$tls/v2/llm/a/$x");
    }
}
ok(until_true(sub { !grep { !-s "$d/curl.$_" } map { s/-/./r }
    keys %curl }), 'curl began');
is(scalar(grep { $_->{r}{status} == 200 } map { $run{"many$_"} } 1 .. $many),
    $many, 'many began');
sleep 0.7;
unlike($t->read_file('error.log'), qr/cut off/, 'nobody is cut');

# what comes by a socket, without waiting

sub drain {
    my ($name, $wait) = @_;
    my $c = $run{$name};
    my $sel = IO::Select->new($c->{s});
    while (!$c->{end} && $sel->can_read($wait // 0)) {
        my $n = sysread $c->{s}, $c->{got}, 1 << 20, length $c->{got};
        $c->{end} = defined $n ? 'end' : $! == ECONNRESET ? 'reset' : "$!"
            if !$n;
    }
    return $c->{end};
}

my @cut = qw/ disabled range removed grant later filling nobody chunked close
    push /;
my @others = qw/ stays joins pushes public policy /;

drain($_) for @cut;
is(join(' ', grep { $run{$_}{end} } @cut, @others), '', 'all go on');

delete $subject{gone};
$subject{off}{disabled} = JSON::PP::true;
$subject{other}{disabled} = JSON::PP::true;
$subject{later}{not_before} = int(time()) + 3600;
delete $doc->{grants}{one};
delete $doc->{grants}{pushers};
delete $doc->{projects}{public};
Policy::write_doc($t, $doc);

for my $name (@cut) {
    ok(until_true(sub { drain($name) }), "$name: cut off");
    is($run{$name}{end}, 'reset', "$name: by a reset");
    unlike($run{$name}{got}, qr/\r\n0\r\n\r\n$/, "$name: without an end")
        if $name eq 'chunked';
    my $r = $run{$name}{r};
    cmp_ok(length $run{$name}{got}, '<', $r->{h}{'content-length'},
        "$name: short") if $r && defined $r->{h}{'content-length'};
}
ok(until_true(sub { !grep { !drain("many$_") } 1 .. $many }),
    'many are cut off');
is(scalar(grep { $run{"many$_"}{end} eq 'reset' } 1 .. $many), $many,
    'by resets');

# who reads nothing: the rest is not even in the kernel any more

ok(until_true(sub { $t->read_file('error.log')
    =~ m!cut off a transfer of "llm/unread"! }), 'who does not read, too');
ok(until_true(sub { drain('unread', 0.1) }), 'and sees it');
cmp_ok(length $run{unread}{got}, '<', length $blob, 'short');

for my $v ('http1.1', $h2 ? 'http2' : ()) {
    my $pid = delete $t->{pids}{"curl-$v-off"};
    ok(until_true(sub { $t->ended($pid) }), "$v: curl ended");
    my $out = $t->read_file("curl-$v-off.log");
    like($out, $v eq 'http2' ? qr/stream/ : qr/curl: \(56\)|errno 104/,
        "$v: with an error");
    my ($size) = $out =~ /^[\d.]+ 200 (\d+)$/m;
    cmp_ok($size // 1e9, '<', length $blob, "$v: short");
}

# others go on

drain($_) for @others;
is(join(' ', grep { $run{$_}{end} } qw/ joins pushes public /), '',
    'others go on');
ok(!$t->ended($t->{pids}{$_}), "$_ goes on") for grep { /curl.*stays/ }
    sort keys %{$t->{pids}};
my $p = $run{pushes};
print {$p->{s}} 'x' x 1000;
is($t->read_header($p->{s})->{status}, 202, 'a push comes to its end');
$t->write_file('go', '');
for my $c (['stays', $blob], ['joins', $half], ['policy', $blob]) {
    my $r = $run{$c->[0]};
    ok(until_true(sub { drain($c->[0]);
        length $r->{got} >= length $c->[1] || $r->{end} }),
        "$c->[0]: comes to an end");
    ok($r->{got} eq $c->[1], "$c->[0]: all of it");
}

# the log

my $log = $t->read_file('error.log');
for my $l ('"llm/a" of "off" after \d+ bytes: the subject is disabled',
    '"llm/a" of "gone" after \d+ bytes: the subject is disabled',
    '"one/x" of "nogrant" after \d+ bytes: no such right',
    '"public/a" after \d+ bytes: no credentials',
    '"llm/a" of "gets" after 0 bytes: no such right')
{
    like($log, qr/\[warn\].*oci_policy "team" cut off a transfer of $l/,
        "said: $l");
}
unlike($log, qr/cut off.*"stays"/, 'but not of others');
my @cuts = $log =~ /cut off a transfer of "llm\/a" of "other"/g;
is(scalar(@cuts), $many, 'once for each');
my $access = $t->read_file('oci.log');
like($access, qr!^/v2/llm/a/\Q$x\E 200 off cut grants/ml$!m, 'and access log');
is(scalar(grep { m!^/after! } map { $_->{uri} } $t->requests(0)), 0,
    'nothing goes on with what was cut');

is($t->get("/v2/llm/a/$x", as('off'))->{status}, 401, 'refused from now on');

close $run{$_}{s} for keys %run;
$t->stop_one("curl-$_") for keys %curl;
$t->done();
