#!/usr/bin/perl

# oci_audit_log: what is recorded, when, and what isn't.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Select;
use IO::Socket::INET;
use JSON::PP qw/ decode_json /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use Audit;
use OCI;
use Policy;

open my $readme, '<', dirname(__FILE__) . '/../README.md' or die $!;
my $t_readme = join '', <$readme>;
close $readme;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $log = "$d/audit.log";

my %secret = map { $_ => "canary-$_-77ab" } qw/ alice bob /;

my $doc = {
    version => 1,
    subjects => { map { $_ => { secret => Policy::phc($secret{$_}) } }
        qw/ alice bob / },
    grants => {
        devs => { role => 'maintainer', subjects => ['alice'],
            repositories => ['llm/**'] },
    },
    projects => { public => { public => JSON::PP::true } },
};

my $blob = $t->random_blob(300000);
my $digest = $t->digest($blob);
my $large = 'x' x 40_000_000;
my $large_digest = $t->digest($large);
my $manifest = '{"schemaVersion":2}';
my $uploaded = $t->digest('uploaded');

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 404, {}, '{"errors":[]}')
        if $q->{uri} =~ /absent/;
    return $t->reply_blob($c, $q, $large)
        if $q->{uri} =~ m!/blobs/\Q$large_digest!;
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ m!/blobs/sha!;
    return $t->reply($c, $q, 202, { Location =>
        '/v2/llm/x/blobs/uploads/1?_state=canary-state' })
        if $q->{method} =~ /^(POST|PATCH|DELETE)$/;
    return $t->reply($c, $q, 201, {}) if $q->{method} eq 'PUT';
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($manifest) }, $manifest)
        if $q->{uri} =~ m!/manifests/!;
    return $t->reply($c, $q, 200, { 'Content-Type' => 'application/json' },
        '{}');
});

# a syslog server

my $syslog = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'udp')
    or die $!;
my $syslog_port = $syslog->sockport;

$t->write_file('robot', "robot:canary-robot\n", 0600);
Policy::write_doc($t, $doc);

my ($open, $off, $other, $tls, $issuing) = map { OCI::port() } 1 .. 5;
Policy::signing_key($t, 'signing.pem');
my ($cert, $cert_key) = $t->certificate('edge.test');

my $policy = <<EOC;
oci_registry demo {
    url http://127.0.0.1:$port;
    credentials file $d/robot;
}
oci_policy team {
    source file:$d/policy.json;
    zone team:1m;
    identity basic anonymous;
    signing_key $d/edge.pem; realm http://edge.test/token;
}
EOC

my %conf = (http => <<EOC, location => <<EOL);
$policy
large_client_header_buffers 4 2m;
keepalive_requests 100000;
client_header_buffer_size 2m;
oci_audit_log $log;
server {
    listen 127.0.0.1:$open;
    location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
    location /denied/ { deny all; }
    location /many/ { oci_audit_log $d/many.log; return 204; }
    location /files/ { alias $d/; }
    location /silent/ { return 444; }
    location /moved/ { error_page 404 /files/robot.txt; return 404; }
}
oci_policy issuing {
    source file:$d/policy.json;
    zone issuing:1m;
    identity basic bearer;
    signing_key $d/signing.pem;
}
server {
    listen 127.0.0.1:$issuing;
    location /v2/ { oci_pass demo; oci_cache models; oci_access issuing; }
    location = /token { oci_token policy=issuing; }
}
server {
    listen 127.0.0.1:$tls ssl http2;
    ssl_certificate $cert;
    ssl_certificate_key $cert_key;
    ssl_verify_client optional;
    ssl_client_certificate $d/ca.pem;
    location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
}
server {
    listen 127.0.0.1:$off;
    oci_audit_log off;
    location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
}
server {
    listen 127.0.0.1:$other;
    oci_audit_log syslog:server=127.0.0.1:$syslog_port,tag=oci;
    location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
EOL

Policy::signing_key($t, 'edge.pem');
$t->conf(%conf);
$t->start();

sub as { my ($user) = @_; return { Policy::basic($user, $secret{$user}) } }

# a pull

my $r = $t->get("/v2/llm/x/blobs/$digest?token=canary-query", {
    %{as('alice')}, 'User-Agent' => "containerd/v2\t1", 'X-Hostname' => 'n7',
    'X-Forwarded-For' => '192.0.2.9',
    traceparent => '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
});
is($r->{status}, 200, 'a blob');

my ($i) = Audit::grep_records($log, event => 'intent', digest => $digest);
ok($i, 'is recorded at once');
is($i->{action}, 'pull', 'action');
is($i->{method}, 'GET', 'method');
is($i->{subject}, 'alice', 'subject');
is($i->{auth_method}, 'basic', 'auth_method');
is($i->{client}, '127.0.0.1', 'client');
like($i->{port}, qr/^\d+$/, 'port');
is($i->{registry}, 'demo', 'registry');
is($i->{repository}, 'llm/x', 'repository');
is($i->{decision}, 'allow', 'decision');
is($i->{rule_id}, 'grants/devs', 'rule');
is($i->{policy}, 'team', 'policy');
is($i->{policy_source}, 'file', 'source');
is($i->{policy_epoch}, 1, 'epoch');
is($i->{status}, 200, 'status');
is($i->{cache}, 'miss', 'cache');
is($i->{size}, 300000, 'size');
is($i->{user_agent}, "containerd/v2\t1", 'user agent');
is($i->{hostname}, 'n7', 'hostname');
is($i->{forwarded_for}, '192.0.2.9', 'forwarded');
is($i->{trace_id}, '0af7651916cd43dd8448eb211c80319c', 'trace id');
is($i->{span_id}, 'b7ad6b7169203331', 'span id');
is($i->{edge_version}, '0.1.0', 'version');
like($i->{req_id}, qr/^[0-9a-f]{32}$/, 'request id');
like($i->{ts}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/, 'time');
like($i->{chain}, qr/^[0-9a-f]{16}$/, 'chain');
ok($i->{node}, 'node');
is($i->{seq}, 1, 'the first one');
ok(!exists $i->{prev}, 'without "chain" there are no hashes');

# the record is there before the answer: a client that reads nothing

my $s = $t->connect();
setsockopt $s, Socket::SOL_SOCKET(), Socket::SO_RCVBUF(), 4096;
$t->send_request($s, 'GET', "/v2/llm/big/blobs/$large_digest", as('alice'));
$r = $t->read_header($s);
is($r->{status}, 200, 'an answer begins');
is(scalar(Audit::grep_records($log, event => 'intent',
    digest => $large_digest)), 1, 'it is recorded by then');
close $s;

# denials

$r = $t->get("/v2/llm/x/blobs/$digest", as('bob'));
is($r->{status}, 404, 'who has no right');
($i) = Audit::grep_records($log, event => 'deny', subject => 'bob');
is($i->{decision}, 'deny', 'is recorded');
is($i->{reason}, 'no such right', 'with the reason');
is($i->{digest}, $digest, 'and what it was about');
is($i->{status}, 404, 'and the answer');

$r = $t->get("/v2/llm/x/blobs/$digest");
is($r->{status}, 401, 'without credentials');
($i) = Audit::grep_records($log, event => 'deny', subject => '-',
    digest => $digest);
is($i->{reason}, 'no credentials', 'is recorded');

$r = $t->get("/v2/llm/x/blobs/$digest", { Policy::basic('alice', 'wrong') });
is($r->{status}, 401, 'wrong credentials');
$r = $t->get('/v2/llm/x/manifests/guess', { Policy::basic('alice', 'wrong') });
($i) = Audit::grep_records($log, event => 'deny', reference => 'guess');
is($i->{subject}, '-', 'are nobody\'s');
is($i->{reason}, 'wrong credentials', 'with the reason');

# other requests

$t->get('/v2/', as('alice'));
is(scalar(Audit::grep_records($log, event => 'intent', action => 'login',
    subject => 'alice')), 1, 'login');

$t->head("/v2/llm/x/blobs/$digest", as('alice'));
is(scalar(Audit::grep_records($log, event => 'intent', action => 'head',
    digest => $digest)), 1, 'head');

$t->get('/v2/llm/x/manifests/v1', as('alice'));
($i) = Audit::grep_records($log, event => 'intent', reference => 'v1');
is($i->{digest}, $t->digest($manifest), 'a tag has its digest');
is($i->{media_type}, $OCI::TYPE{manifest}, 'and the media type');

$t->get('/v2/llm/x/tags/list', as('alice'));
is(scalar(Audit::grep_records($log, event => 'intent', action => 'list')), 1,
    'list');
$t->get("/v2/llm/x/referrers/$digest", as('alice'));
is(scalar(Audit::grep_records($log, event => 'intent',
    action => 'referrers')), 1, 'referrers');

my $e = $t->{edge};
$t->http($e, 'POST', '/v2/llm/x/blobs/uploads/', as('alice'), '');
$t->http($e, 'PATCH', '/v2/llm/x/blobs/uploads/1?_state=canary-state',
    as('alice'), 'up');
$t->http($e, 'PATCH', '/v2/llm/x/blobs/uploads/1?_state=canary-state',
    as('alice'), 'loaded');
is(scalar(Audit::grep_records($log, event => 'intent', method => 'PATCH')), 1,
    'pieces of an upload are put together');
(my $escaped = $uploaded) =~ s/:/%3A/;
$t->http($e, 'PUT', "/v2/llm/x/blobs/uploads/1?_state=canary-state"
    . "&digest=$escaped", as('alice'), '');
($i) = Audit::grep_records($log, event => 'intent', action => 'push',
    method => 'PUT');
is($i->{digest}, $uploaded, 'push of a blob');
until_true(sub { ($i) = Audit::grep_records($log, event => 'end',
    action => 'push', method => 'PUT') });
is($i->{outcome}, 'complete', 'which ends at once');
$t->http($e, 'POST', "/v2/llm/x/blobs/uploads/?mount=$uploaded&from=llm/y",
    as('alice'), '');
($i) = Audit::grep_records($log, event => 'intent', from => 'llm/y');
is($i->{digest}, $uploaded, 'mount');

for (1 .. 2) {
    $t->http($e, 'DELETE', '/v2/llm/x/manifests/v1', as('alice'));
}
is(scalar(Audit::grep_records($log, event => 'intent', action => 'delete')),
    2, 'each delete is recorded');
is(scalar(Audit::grep_records($log, event => 'end', action => 'delete')),
    2, 'and its end');

# many ranges

$s = $t->connect();
for my $n (0 .. 299) {
    $t->send_request($s, 'GET', "/v2/llm/storm/blobs/$digest", {
        %{as('alice')}, Range => sprintf 'bytes=%d-%d', $n * 1000,
        $n * 1000 + 999 });
    $r = $t->read_body($s, $t->read_header($s), 'GET');
    last if $r->{status} != 206;
}
close $s;
is($r->{status}, 206, 'many ranges');
my @storm = Audit::grep_records($log, repository => 'llm/storm');
is(scalar(@storm), 1, 'are one record');
is($storm[0]{size}, 300000, 'with the size of all');
is($storm[0]{range}, 'bytes=0-999', 'and the first range');

# another client, subject or failure is something else

$r = $t->get("/v2/llm/absent/blobs/$digest", as('alice'));
is(scalar(Audit::grep_records($log, repository => 'llm/absent')), 1,
    'what is not there');

# what is not decided by a policy

$t->http($open, 'GET', "/v2/llm/x/blobs/$digest");
($i) = Audit::grep_records($log, event => 'intent', subject => '-',
    repository => 'llm/x', action => 'pull');
ok($i, 'a location without a policy');
ok(!exists $i->{decision}, 'has no decision');
$t->http($open, 'GET', '/v2/Bad/blobs/x?a=canary-query');
($i) = Audit::grep_records($log, uri => '/v2/Bad/blobs/x');
is($i->{status}, 400, 'a bad name');
$t->http($open, 'GET', '/denied/x');
($i) = Audit::grep_records($log, uri => '/denied/x');
is($i->{status}, 403, 'denied by nginx itself');
$t->http($open, 'GET', '/moved/x');
is(scalar(grep { ($_->{uri} // '') =~ /robot.txt/ } Audit::records($log)), 1,
    'redirected within nginx: one record');
$t->http($open, 'GET', '/silent/x');
ok(until_true(sub { Audit::grep_records($log, uri => '/silent/x') }),
    'without an answer');
$t->raw("GARBAGE\x1b[31m\r\n\r\n");
ok(until_true(sub { Audit::grep_records($log, status => 400) }),
    'garbage is recorded, too');

# tokens of the edge's own

$r = $t->http($issuing, 'GET', '/token?account=alice'
    . '&scope=repository:llm/token:pull&service=canary-query', as('bob'));
$r = $t->http($issuing, 'GET', '/token?scope=repository:llm/token:pull',
    as('alice'));
my $token = decode_json($r->{body})->{token};
($i) = Audit::grep_records($log, event => 'intent', action => 'token');
is($i->{subject}, 'alice', 'a token');
is($i->{uri}, '/token', 'without the query');
$t->http($issuing, 'GET', "/v2/llm/token/blobs/$digest",
    { Authorization => "Bearer $token" });
($i) = Audit::grep_records($log, event => 'intent',
    repository => 'llm/token');
is($i->{auth_method}, 'bearer', 'is the method');
is($i->{subject}, 'alice', 'of its subject');
$t->http($issuing, 'GET', "/v2/llm/token/blobs/$digest",
    { Authorization => "Bearer x$token" });
($i) = Audit::grep_records($log, event => 'deny', repository => 'llm/token');
like($i->{reason}, qr/token/, 'a wrong one is refused, with the reason');

# HTTP/2 with a client's certificate

is(system("curl -s --http2 -k --cert $cert --key $cert_key -o $d/curled "
    . "https://127.0.0.1:$tls/v2/llm/h2/blobs/$digest"), 0, 'HTTP/2');
($i) = Audit::grep_records($log, repository => 'llm/h2');
like($i->{tls_version}, qr/^TLSv1\.\d$/, 'has the version of TLS');
like($i->{client_cert_fp}, qr/^[0-9a-f]{40}$/, 'and the certificate');

my $lines = () = Audit::raw($log) =~ /\n/g;
$t->http($off, 'GET', "/v2/llm/x/blobs/$digest");
is(scalar(() = Audit::raw($log) =~ /\n/g), $lines, 'not where it is off');

$t->http($other, 'GET', "/v2/llm/x/blobs/$digest");
my $datagram = '';
if (IO::Select->new($syslog)->can_read(10)) {
    $syslog->recv($datagram, 65536);
}
like($datagram, qr/^<190>.* oci: (\{.*\})$/, 'syslog');
$i = decode_json($datagram =~ /(\{.*\})$/ ? $1 : '{}');
is($i->{digest}, $digest, 'has the record');

# hostile bytes

my $last;
for my $evil ("\x1b]0;owned\x07", "\xe2\x80\xaegpj.exe", "a\"},{\"x\":\"b",
    "\xff\xfe\x80", "\x7f\x01\\u0022", 'A' x 1_000_000, "\xc2\x9b31m",
    "\xf0\x9f\x98\x80" x 1000)
{
    my $n = $last = () = Audit::raw($log) =~ /\n/g;
    $r = $t->get("/v2/llm/e$n/blobs/$digest", { %{as('alice')},
        'User-Agent' => $evil, 'X-Forwarded-For' => $evil,
        'X-Hostname' => $evil, Range => $evil, traceparent => $evil });
    is(scalar(() = Audit::raw($log) =~ /\n/g), $n + 1, 'one line');
}
unlike(Audit::raw($log), qr/[^\x20-\x7e\n]/, 'printable ASCII');
my @records = eval { map { decode_json($_) } split /\n/, Audit::raw($log) };
is($@, '', 'JSON');
cmp_ok((sort { $b <=> $a } map { length } split /\n/, Audit::raw($log))[0],
    '<', 6144, 'lines are bounded');

# nginx's files are opened again

my $before = () = Audit::raw($log) =~ /\n/g;
rename $log, "$log.1" or die;
$t->signal('USR1');
ok(until_true(sub { -e $log }), 'a new file');
ok(until_true(sub {
    $t->get('/v2/llm/x/manifests/r' . int(rand(1e9)), as('alice'));
    return -s $log;
}), 'is written to');
cmp_ok(scalar(() = Audit::raw("$log.1") =~ /\n/g), '>=', $before,
    'the old one stays');

# a reload: the old worker's events end

$t->signal('HUP');
ok(until_true(sub { Audit::grep_records($log, event => 'end',
    repository => 'llm/e' . $last) }), 'with the worker its events end');
($i) = Audit::grep_records($log, event => 'end', repository => 'llm/storm');
is($i->{requests}, 300, 'all requests');
is($i->{bytes_sent}, 300000, 'all bytes');
is($i->{outcome}, 'complete', 'outcome');
ok($i->{complete}, 'complete');
is($i->{intent}, $storm[0]{seq}, 'the record that it belongs to');
is($i->{chain}, $storm[0]{chain}, 'of the same chain');
is($i->{digest}, $digest, 'what it was');
ok($i->{since} le $i->{ts}, 'since when');
($i) = map { Audit::grep_records($_, event => 'end', repository => 'llm/h2') }
    "$log.1", $log;
is($i->{bytes_sent}, 300000, 'all bytes with HTTP/2');
($i) = map { Audit::grep_records($_, event => 'end',
    digest => $large_digest) } "$log.1", $log;
is($i->{outcome}, 'aborted', 'the client that left');
cmp_ok($i->{bytes_sent}, '<', length $large, 'did not get all');
($i) = Audit::grep_records($log, event => 'end', repository => 'llm/absent');
is($i->{status}, 404, 'what is not there');

$t->get("/v2/llm/reloaded/blobs/$digest", as('alice'));
ok(until_true(sub { Audit::grep_records($log, event => 'intent',
    repository => 'llm/reloaded') }), 'the new worker writes');

# what the README asks of it

SKIP: {
    my $jq = `jq --version 2>/dev/null`;
    skip 'jq is not installed', 5 if !$jq;

    my ($text) = $t_readme =~ /^# who pulled a digest.*?\n(.*?)\n```$/ms;
    my @recipes = map { s/^#.*\n//r } split /\n\n/, $text;
    is(scalar(@recipes), 4, 'recipes');
    my @out = map {
        s/sha256:\.\.\./$digest/;
        s/\$\(date [^)]*\)/2020-01-01/;
        s/robot\$ci/alice/;
        s!(audit\.log\.1 )?audit\.log!$d/audit.log.1 $d/audit.log!;
        scalar `$_`;
    } @recipes;
    like($out[0], qr!^\S+Z\talice\t127\.0\.0\.1\tllm/storm$!m,
        'who pulled it');
    like($out[1], qr!^llm/x\tdelete\t2$!m, 'what they touched');
    like($out[2], qr!^\S+Z\tbob\t127\.0\.0\.1\tllm/x\tno such right$!m,
        'who was refused');
    like($out[3], qr!^alice\t\d{6,}$!m, 'how much they got');
}

# nothing secret

my $all = Audit::raw($log) . Audit::raw("$log.1") . $datagram;
unlike($all, qr/canary/, 'no secrets');
unlike($all, qr/Basic |Bearer |\Q$token/, 'no credentials');

# more than are remembered

$s = $t->connect($open);
for my $n (1 .. 4200) {
    $t->send_request($s, 'GET', "/many/x-$n");
    $t->read_body($s, $t->read_header($s), 'GET');
}
close $s;
my $many = Audit::raw("$d/many.log");
is(scalar(() = $many =~ /"event":"intent"/g), 4200, 'very many events');
like($many, qr!"event":"end".*"uri":"/many/x-1"!, 'the oldest end earlier');
unlike($many, qr!"event":"end".*"uri":"/many/x-4000"!, 'others later');

# configuration

my $key = Audit::key($t);
Audit::key($t, 'open');
chmod 0640, "$d/open.key";
system("umask 077; openssl genpkey -algorithm x25519 -out $d/other.key");
$t->write_file('garbage.key', 'x', 0600);

sub refused {
    my ($line, $re, $name) = @_;
    my ($rc, $out) = $t->check($t->modules() . <<EOC);

error_log $d/check.log;
pid $d/check.pid;
events { }
http {
    access_log $d/buffered.log combined buffer=4k;
    $line
}
EOC
    isnt($rc, 0, "$name: refused");
    like($out, qr/$re.* in .*check.conf:\d+/, "$name: why, and where");
}

refused("oci_audit_log $d/a fail=maybe;", 'invalid parameter "fail=maybe"',
    'fail');
refused("oci_audit_log $d/a block;", 'invalid parameter "block"', 'unknown');
refused("oci_audit_log off chain;", 'invalid parameter "chain"', 'off');
refused("oci_audit_log $d/a chain;", '"chain" needs "key=file"', 'no key');
refused("oci_audit_log $d/a key=$key;", '"key" is for "chain"', 'no chain');
refused("oci_audit_log $d/a chain chain key=$key;",
    'invalid parameter "chain"', 'twice');
refused("oci_audit_log $d/a fail=drop fail=block;",
    'invalid parameter "fail=block"', 'fail twice');
refused("oci_audit_log syslog:server=127.0.0.1:1 fail=block;",
    '"fail=block" can\'t be had with syslog', 'syslog');
refused("oci_audit_log syslog:bad;", 'unknown syslog parameter', 'bad syslog');
refused("oci_audit_log $d/a; oci_audit_log $d/b;", 'is duplicate',
    'duplicate');
refused("oci_audit_log $d/\$host;", 'invalid path', 'variables');
refused("oci_audit_log $d/a chain key=$d/none.key;", 'No such file',
    'key is not there');
refused("oci_audit_log $d/a chain key=$d/open.key;",
    'is accessible to others', 'key of all');
refused("oci_audit_log $d/a chain key=$d/other.key;",
    'is not an Ed25519 private key', 'other key');
refused("oci_audit_log $d/a chain key=$d/garbage.key;",
    'is not an Ed25519 private key', 'no key');
refused("oci_audit_log $d/a chain key=$d;", 'is not a regular file',
    'directory');
refused("oci_audit_log $d/a; server { oci_audit_log $d/a chain key=$key; }",
    'has another "chain" or "key" elsewhere', 'two of one file');
refused("oci_audit_log $d/buffered.log;", 'is the file of another log',
    'access_log');

$t->done();
