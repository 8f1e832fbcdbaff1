#!/usr/bin/perl

# Digests in quarantine: nobody gets them, by tag or by digest, from the cache
# or past it, on any worker, within a second.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

my $t = OCI->new(workers => 3);
my $d = $t->{dir};
my $registry = $t->registry();

my %pull = (bob => 'bob-secret', dev => 'dev-secret');
my $doc = {
    version => 1,
    subjects => { map { $_ => { secret => Policy::phc($pull{$_}) } }
        keys %pull },
    grants => {
        g => { role => 'guest', subjects => ['bob'],
            repositories => ['llm/**'] },
        d => { role => 'developer', subjects => ['dev'],
            repositories => ['llm/**'] },
    },
    projects => { llm => { public => JSON::PP::true } },
};

Policy::write_doc($t, $doc);

my ($bare, $slow) = map { OCI::port() } 1 .. 2;

Policy::signing_key($t, 'edge.pem');
$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$registry; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic anonymous;
    signing_key $d/edge.pem; realm http://edge.test/token;
    recheck 200ms;
}
log_format oci '\$request_method \$uri \$status \$oci_decision '
    '\$oci_policy_rule';
server {
    listen 127.0.0.1:$slow;
    location /v2/ {
        oci_pass demo; oci_cache models; oci_access team;
        limit_rate 100k; sendfile_max_chunk 16k;
    }
}
server {
    listen 127.0.0.1:$bare;
    location /v2/ { oci_pass demo; oci_access team; }
}
EOC
location /v2/ {
    oci_pass demo; oci_cache models; oci_access team;
    access_log $d/oci.log oci;
}
EOL
$t->start();

sub as {
    my ($user) = @_;
    return { Policy::basic($user, $pull{$user}),
        Accept => $OCI::TYPE{manifest} };
}

my %art;

for my $name (qw/ good bad /) {
    my $blob = $t->random_blob(100000);
    my ($m, $digest) = $t->push_artifact("llm/$name", 'v1', $blob);
    $art{$name} = { digest => $digest, blob => $t->digest($blob) };
}

my %url = map {
    my ($m, $b) = @{$art{$_}}{qw/ digest blob /};
    ("$_ tag" => "/v2/llm/$_/manifests/v1",
     "$_ digest" => "/v2/llm/$_/manifests/$m",
     "$_ blob" => "/v2/llm/$_/blobs/$b")
} qw/ good bad /;

for my $what (sort keys %url) {
    for my $port ($t->{edge}, $bare) {
        is($t->http($port, 'GET', $url{$what}, as('bob'))->{status}, 200,
            "$what");
    }
}

# a manifest

$doc->{quarantine} = { $art{bad}{digest} =>
    { reason => 'malware "x" in it', since => '2026-11-01T00:00:00Z' } };
Policy::write_doc($t, $doc);

my $begin = time();
OCI::until_true(sub { $t->http($t->{edge}, 'GET', $url{'bad digest'},
    as('bob'))->{status} == 412 });
cmp_ok(time() - $begin, '<', 3, 'soon in force');

my %s = $t->to_workers();
is(scalar(keys %s), 3, 'three workers');

for my $pid (sort keys %s) {
    $t->send_request($s{$pid}, 'GET', $url{'bad tag'}, as('bob'));
    my $r = $t->read_header($s{$pid});
    $t->read_body($s{$pid}, $r, 'GET');
    is($r->{status}, 412, 'on every worker, by tag');
}

for my $user (qw/ bob dev /) {
    for my $what ('bad tag', 'bad digest') {
        my $r = $t->get($url{$what}, as($user));
        is($r->{status}, 412, "$what: $user");
        is($r->{body}, '{"errors":[{"code":"PROJECTPOLICYVIOLATION",'
            . "\"message\":\"$art{bad}{digest} is in quarantine: "
            . "malware \\\"x\\\" in it\"}]}\r\n", 'as Harbor says it');
        is($r->{h}{'content-type'}, 'application/json', 'a type');
        $r = $t->head($url{$what}, as($user));
        is($r->{status}, 412, "HEAD: $user");
        $r = $t->http($bare, 'GET', $url{$what}, as($user));
        is($r->{status}, 412, "without a cache: $user");
        like($r->{body}, qr/^\{"errors":\[\{"code":"PROJECTPOLICYVIOLATION",
            "message":"$art{bad}{digest}\sis\sin\squarantine:\smalware/x,
            'in the same way');
        is($r->{h}{'content-type'}, 'application/json', 'with a type');
        $r = $t->http($bare, 'HEAD', $url{$what}, as($user));
        is($r->{status}, 412, "and HEAD: $user");
    }
}

is($t->get($url{$_}, as('bob'))->{status}, 200, "$_ goes on")
    for grep { /good/ } sort keys %url;
is($t->http($bare, 'GET', $url{'good tag'}, as('bob'))->{status}, 200,
    'and without a cache');
is($t->get($url{'bad digest'})->{status}, 412, 'nobody has to log in for it');
is($t->get($url{'bad tag'}, { Accept => $OCI::TYPE{manifest} })->{status}, 412,
    'by tag');
is($t->get($url{'bad digest'} =~ s/llm/other/r)->{status}, 401,
    'or learns of it elsewhere');

OCI::until_true(sub { $t->read_file('oci.log')
    =~ m!^GET \S+manifests/sha\S+ 412 deny quarantine/$art{bad}{digest}$!m });
like($t->read_file('oci.log'), qr!manifests/v1 412 deny quarantine/sha256!,
    'the log says which');
is($t->http($t->{edge}, 'DELETE', $url{'bad digest'}, as('dev'))->{status},
    403, 'what may be done besides is as it was');

# a blob

$doc->{quarantine} = { $art{bad}{blob} => { reason => 'a leak' } };
Policy::write_doc($t, $doc);
OCI::until_true(sub { $t->get($url{'bad blob'}, as('bob'))->{status} == 412 });

for my $h ({}, { Range => 'bytes=50000-50010' }) {
    my $r = $t->get($url{'bad blob'}, { %{as('bob')}, %$h });
    is($r->{status}, 412, 'a blob');
    like($r->{body}, qr/is in quarantine: a leak/, 'why');
}

is($t->head($url{'bad blob'}, as('bob'))->{status}, 412, 'and HEAD');
is($t->http($bare, 'GET', $url{'bad blob'}, as('bob'))->{status}, 412,
    'a blob without a cache');
is($t->get($url{'bad digest'}, as('bob'))->{status}, 200,
    'the manifest is out again');

# one that is being sent

my $large = $t->random_blob(2_000_000);
my $digest = $t->push_blob('llm/large', $large);
my $s = $t->connect($slow);
$t->send_request($s, 'GET', "/v2/llm/large/blobs/$digest", as('bob'));
my $header = $t->read_header($s);
is($header->{status}, 200, 'a slow one begins');
$doc->{quarantine}{$digest} = { reason => 'late' };
Policy::write_doc($t, $doc);
my ($got, $n) = (0, 1);
($n = read $s, my $piece, 65536) and $got += $n while $n;
cmp_ok($got, '<', 1_900_000, 'and is cut');
OCI::until_true(sub { $t->read_file('error.log')
    =~ /cut off a transfer of "bob".*is in quarantine: late/ });
pass('the log says why');

# nothing

delete $doc->{quarantine};
Policy::write_doc($t, $doc);
OCI::until_true(sub { $t->get($url{'bad blob'}, as('bob'))->{status} == 200 });

is($t->get($url{$_}, as('bob'))->{status}, 200, "$_ is out of quarantine")
    for sort keys %url;

# a document with an error keeps what there was

$doc->{quarantine} = { 'sha256:00' => { reason => 'x' } };
Policy::write_doc($t, $doc);
OCI::until_true(sub { $t->read_file('error.log')
    =~ /\$\.quarantine\.sha256:00: not a digest of sha256 or sha512/ });
is($t->get($url{'bad blob'}, as('bob'))->{status}, 200, 'the one before');

$t->stop();
$t->done();
