#!/usr/bin/perl

# identity certificate: a client certificate that nginx verified, for the
# server that has the request, names the subject.
#
# S25, CVE-2025-23419: neither Host nor a session of another server, with
# another CA, brings an identity; nor does a certificate that is not verified.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

OCI->skip_all_unless('openssl');
OCI->skip_all_unless('curl');

my $t = OCI->new(workers => 1, unwind => 1);
my $d = $t->{dir};
my ($cert, $key) = $t->certificate('edge.test');

sub run {
    my $out = `cd $d; @_ 2>&1`;
    die "@_: $out" if $?;
}

sub ca {
    my ($name) = @_;
    run("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$name"
        . " -keyout $name.key -out $name.pem");
}

# a certificate of a CA; %o: subject, san, ca

sub issue {
    my ($name, %o) = @_;
    my $ca = $o{ca} // 'ca-a';
    my $subject = $o{subject} // "/CN=$name";
    run("openssl req -newkey rsa:2048 -nodes -subj '$subject'"
        . " -keyout $name.key -out $name.csr");
    $t->write_file("$name.ext", join '',
        $o{san} ? "subjectAltName=$o{san}\n" : '',
        $o{isca} ? "basicConstraints=critical,CA:TRUE\n" : '');
    run("openssl x509 -req -days 2 -in $name.csr -CA $ca.pem -CAkey $ca.key"
        . " -CAcreateserial -extfile $name.ext -out $name.pem");
}

ca($_) for qw/ ca-a ca-b /;
issue($_) for qw/ alice off stranger bob /;
issue('alice-b', subject => '/CN=alice', ca => 'ca-b');
issue('inter', isca => 1);
issue('alice-i', subject => '/CN=alice', ca => 'inter');
run('cat inter.pem >> alice-i.pem');
issue('twice', subject => '/CN=alice/CN=alice');
issue('none', subject => '/O=none');
issue('empty', subject => '/O=x/CN=');
issue('dn', subject => '/O=models/OU=a,b/CN=node-1');
issue('mail', san => 'email:carol@edge.test,DNS:carol.edge.test,'
    . 'URI:spiffe://edge.test/carol');
issue('mails', san => 'email:carol@edge.test,email:dave@edge.test,'
    . 'DNS:carol.edge.test,DNS:x.test,URI:a:b,URI:spiffe://edge.test/carol');
run('openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=alice'
    . ' -keyout self.key -out self.pem');

my @subjects = ('alice', 'bob', 'off', 'carol', 'carol@edge.test',
    'carol.edge.test', 'spiffe://edge.test/carol',
    'CN=node-1,OU=a\\,b,O=models', 'node:node-1');
my %subject = map { $_ => { groups => ['all'] } } @subjects;
$subject{bob}{secret} = Policy::phc('bob-secret');
$subject{alice}{secret} = Policy::phc('alice-secret');
$subject{off}{disabled} = JSON::PP::true;
Policy::write_doc($t, {
    version => 1,
    subjects => \%subject,
    grants => { all => { role => 'developer', groups => ['all'],
        repositories => ['llm/**'] } },
    projects => { public => { public => JSON::PP::true } },
});

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, $q->{uri});
});

my ($tls, $other, $plain) = map { OCI::port() } 1 .. 3;
Policy::signing_key($t, 'edge.pem');
my @policies = map { <<EOP } (
oci_policy $_->[0] {
    source file:$d/policy.json; zone $_->[0]:256k; identity $_->[1];
    @{[$_->[2] ? "certificate_subject $_->[2];" : '']}
}
EOP
    ['certs', 'certificate'], ['mixed', 'certificate basic'],
    ['guests', 'anonymous certificate', 'cn'],
    ['all', "basic certificate anonymous; signing_key $d/edge.pem;"
        . ' realm http://edge.test/token'], ['dn', 'certificate', 'dn'],
    ['email', 'certificate', 'san:email'], ['dns', 'certificate', 'san:dns'],
    ['uri', 'certificate', 'san:uri'], ['mapped', 'certificate', '$node'],
    ['text', 'certificate', '"node:$oci_test_cn"'],
);

sub server {
    my ($listen, $names, $ca, $verify, $policy) = @_;
    my $client = $ca ? "ssl_client_certificate $d/$ca.pem;" : '';
    return <<EOS;
server {
    listen 127.0.0.1:$listen ssl http2;
    server_name $names;
    $client ssl_verify_client $verify;
    ssl_verify_depth 3;
    oci_access $policy;
    location /v2/ { oci_pass demo; }
}
EOS
}

$t->conf(http => join("\n", @policies, <<EOC), location =>
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
map \$ssl_client_s_dn \$node {
    CN=alice alice;
    CN=bob bob;
    default '';
}
map \$ssl_client_s_dn \$oci_test_cn { ~CN=(?<cn>[^,]+) \$cn; }
log_format oci '\$request_uri \$status \$oci_subject \$oci_decision';
access_log $d/oci.log oci;
ssl_certificate $cert;
ssl_certificate_key $key;
ssl_session_cache shared:tls:1m;
ssl_session_tickets on;
ssl_protocols TLSv1.2 TLSv1.3;
@{[server($tls, 'a.test', 'ca-a', 'optional', 'certs'),
   server($tls, 'b.test', 'ca-b', 'optional', 'certs'),
   server($tls, 'b2.test', 'ca-b', 'on', 'certs'),
   server($tls, 'c.test', '', 'off', 'guests'),
   server($tls, 'noca.test', 'ca-a', 'optional_no_ca', 'certs'),
   server($tls, 'mixed.test', 'ca-a', 'optional', 'mixed'),
   server($tls, 'guests.test', 'ca-a', 'optional', 'guests'),
   server($tls, 'all.test', 'ca-a', 'optional', 'all'),
   (map { server($tls, "$_.test", 'ca-a', 'optional', $_) }
        qw/ dn email dns uri mapped text /),
   server($other, 'a.test', 'ca-b', 'optional', 'certs')]}
server {
    listen 127.0.0.1:$plain;
    oci_access guests;
    location /v2/ { oci_pass demo; }
}
EOC
    '');
$t->start();

my $n = 0;
my $h2 = `curl -V` =~ /HTTP2/;

# "status subject decision", as the edge has logged it; and the answer

sub ask {
    my ($host, $who, %o) = @_;
    my $id = ++$n;
    my $uri = '/v2/' . ($o{repo} // 'llm/a') . "/tags/list?$id";
    $uri = "/v2/?$id" if $o{ping};
    my $name = $o{sni} // $host;
    my $base = $name eq '' ? "https://127.0.0.1:$tls" : "https://$name:$tls";
    my @cmd = ('curl -sk -i', '--' . ($o{v} // 'http1.1'),
        $name ? "--resolve $name:$tls:127.0.0.1" : '', "-H 'Host: $host'",
        $who ? "--cert $who.pem --key $who.key" : '',
        $o{basic} ? "-u $o{basic}" : '', $o{args} // '', "'$base$uri'");
    my $answer = `cd $d; @cmd`;
    my $line;
    until_true(10, sub { ($line) = $t->read_file('oci.log')
        =~ /^\S*\?$id (.*)$/m });
    return wantarray ? ($line // 'nothing', $answer) : $line // 'nothing';
}

for my $v ('http1.1', $h2 ? 'http2' : ()) {
    is(ask('a.test', 'alice', v => $v), '200 alice allow', "$v: alice");
    is(ask('a.test', 'bob', v => $v), '200 bob allow', "$v: bob");
    is(ask('a.test', '', v => $v), '403 - deny', "$v: nobody");
    is(ask('a.test', 'off', v => $v), '403 off deny', "$v: disabled");
    is(ask('a.test', 'stranger', v => $v), '403 - deny', "$v: not known");
    is(ask('a.test', 'alice-i', v => $v), '200 alice allow',
        "$v: by an intermediate CA");
}
my ($line, $answer) = ask('a.test', '', ping => 1);
is($line, '403 - deny', 'without a certificate no login');
like($answer, qr/"code":"DENIED"/, 'an OCI error');
unlike($answer, qr/www-authenticate/i, 'which asks for nothing');
is(ask('a.test', 'alice', ping => 1), '200 alice allow', 'a login');
is(ask('a.test', 'alice', repo => 'x/y'), '404 alice deny', 'no right');

# not verified, or by whom another server trusts

like(ask('a.test', 'alice-b'), qr/^400 - /, 'another CA: refused by nginx');
is(ask('b.test', 'alice-b'), '200 alice allow', 'where it is the one');
like(ask('a.test', 'self'), qr/^400 - /, 'self-signed');
is(ask('noca.test', 'alice'), '200 alice allow', 'optional_no_ca: verified');
is(ask('noca.test', 'self'), '403 - deny', 'optional_no_ca: self-signed');
is(ask('noca.test', 'alice-b'), '403 - deny', 'optional_no_ca: another CA');

is(ask('c.test', 'alice'), '404 - deny', 'a server that asks for none');
is(ask('c.test', 'alice', sni => 'a.test'), '404 - deny',
    'by Host, to one that asks for none');
unlike(ask('b.test', 'alice', sni => 'a.test'), qr/^200|alice/,
    'to one with another CA');
unlike(ask('a.test', 'alice-b', sni => 'b.test'), qr/^200|alice/,
    'to the default one');
unlike(ask('b.test', 'alice', sni => ''), qr/^200|alice/, 'without SNI');
unlike(ask('b2.test', 'alice', sni => ''), qr/^200|alice/,
    'to one that requires one');
unlike(ask('b.test', 'alice', sni => 'unknown.test'), qr/^200|alice/,
    'with a name of no server');
is(ask('a.test', 'alice', sni => ''), '200 alice allow',
    'the default one without SNI');
is(ask('a.test', 'alice', args => "-H 'X-SSL-Client-Verify: SUCCESS'"),
    '200 alice allow', 'headers don\'t matter');

# beside other identities

my %basic = (bob => 'bob:bob-secret', wrong => 'bob:wrong', empty => ':');
for my $p ('mixed', 'all') {
    my $h = "$p.test";
    is(ask($h, 'alice'), '200 alice allow', "$p: a certificate");
    is(ask($h, '', basic => $basic{bob}), '200 bob allow', "$p: a secret");
    is(ask($h, 'alice', basic => $basic{bob}), '200 bob allow',
        "$p: a secret comes first");
    is(ask($h, 'off', basic => $basic{bob}), '200 bob allow',
        "$p: whatever the certificate");
    is(ask($h, 'alice', basic => $basic{wrong}), '401 - deny',
        "$p: a wrong one is not made up for");
    is(ask($h, 'alice', basic => $basic{empty}), '200 alice allow',
        "$p: none is none");
    is(ask($h, 'alice', args => '-H "Authorization: Bearer x"'),
        '401 - deny', "$p: a token is something wrong");
    is(ask($h, 'off'), '401 off deny', "$p: disabled");
    is(ask($h, 'stranger'), '401 - deny', "$p: not known");
    is(ask($h, 'alice', ping => 1), '200 alice allow', "$p: a login");
    ($line, $answer) = ask($h, '', ping => 1);
    is($line, '401 - deny', "$p: none");
    like($answer, $p eq 'all' ? qr!^www-authenticate: Bearer realm="http://!mi
        : qr/^www-authenticate: Basic realm="$p"/mi, 'a challenge');
}
is(ask('all.test', 'stranger', repo => 'public/x'), '200 - allow',
    'who is not known is anybody');
is(ask('all.test', 'alice', repo => 'public/x'), '200 alice allow',
    'who is, is not');
is(ask('all.test', 'off', repo => 'public/x'), '401 off deny',
    'nor who is disabled');
is(ask('guests.test', '', ping => 1), '200 - allow', 'guests');
is(ask('guests.test', '', repo => 'public/x'), '200 - allow', 'guests pull');
is(ask('guests.test', ''), '404 - deny', 'not all');
is(ask('guests.test', 'alice'), '200 alice allow', 'a subject');
is(ask('guests.test', 'alice', basic => $basic{wrong}), '200 alice allow',
    'where no secret is looked at');
is(ask('guests.test', 'off'), '403 off deny', 'a disabled one');
is($t->http($plain, 'GET', '/v2/llm/a/tags/list')->{status}, 404,
    'no TLS, no identity');

# what of it is the subject

for my $c (['a', 'twice', '403 - deny'], ['a', 'none', '403 - deny'],
    ['a', 'empty', '403 - deny'], ['a', 'dn', '403 - deny'],
    ['dn', 'dn', '200 CN=node-1,OU=a\\x5C,b,O=models allow'],
    ['dn', 'alice', '403 - deny'],
    ['email', 'mail', '200 carol@edge.test allow'],
    ['email', 'mails', '403 - deny'], ['email', 'alice', '403 - deny'],
    ['dns', 'mail', '200 carol.edge.test allow'],
    ['dns', 'mails', '403 - deny'],
    ['uri', 'mail', '200 spiffe://edge.test/carol allow'],
    ['uri', 'mails', '403 - deny'], ['mapped', 'alice', '200 alice allow'],
    ['mapped', 'dn', '403 - deny'], ['mapped', '', '403 - deny'],
    ['text', 'dn', '200 node:node-1 allow'], ['text', 'alice', '403 - deny'],
    ['text', '', '403 - deny'])
{
    my $got = ask("$c->[0].test", $c->[1]);
    is($got, $c->[2], "$c->[0] of " . ($c->[1] || 'none'));
}

# sessions

sub session {
    my ($sni, $host, $args, $port) = @_;
    my $id = ++$n;
    my $get = "printf 'GET /v2/llm/a/tags/list?$id HTTP/1.1\\r\\n"
        . "Host: $host\\r\\nConnection: close\\r\\n\\r\\n'";
    my $run = "timeout 10 openssl s_client -ign_eof -CAfile ca.pem -connect"
        . " 127.0.0.1:@{[$port // $tls]} "
        . ($sni ? "-servername $sni" : '-noservername') . " $args";
    my $out = `cd $d; ($get; sleep 0.3) | $run 2>/dev/null`;
    my ($reused) = $out =~ /^(New|Reused), /m;
    my ($line) = $t->read_file('oci.log') =~ /^\S*\?$id (.*)$/m;
    return ($line // 'nothing', ($reused // '') eq 'Reused' ? 1 : 0);
}

my $with = '-cert alice.pem -key alice.key';

for my $v ('-tls1_2', '-tls1_3') {
    my ($line, $reused);

    ($line) = session('a.test', 'a.test', "$v -sess_out s.a $with");
    is($line, '200 alice allow', "$v: a session of the one");
    ($line, $reused) = session('a.test', 'a.test', "$v -sess_in s.a");
    is($reused, 1, "$v: goes on there");
    is($line, '200 alice allow', "$v: with its identity");

    # before TLS 1.3 a session that goes on has its name with it

    for my $c (['b.test', 'b.test'], ['b2.test', 'b2.test'],
        ['c.test', 'c.test'], $v eq '-tls1_3' ? ['b.test', 'a.test'] : (),
        ['a.test', 'b.test'], ['a.test', 'c.test'], ['', 'b.test'],
        ['unknown.test', 'b.test'])
    {
        ($line, $reused) = session(@$c, "$v -sess_in s.a");
        unlike($line, qr/^200|alice/, "$v: not with SNI \"$c->[0]\", Host "
            . "\"$c->[1]\"" . ($reused ? ', resumed' : ''));
    }
    ($line, $reused) = session('a.test', 'a.test', "$v -sess_in s.a",
        $other);
    unlike($line, qr/^200|alice/, "$v: nor at another port"
        . ($reused ? ', resumed' : ''));

    ($line) = session('a.test', 'a.test',
        "$v -sess_out s.i -cert alice-i.pem -key alice-i.key"
        . ' -cert_chain inter.pem');
    is($line, '200 alice allow', "$v: by an intermediate CA");
}

$t->done();
