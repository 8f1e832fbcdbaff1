#!/usr/bin/perl

# oci_policy and oci_access: who may pull what, decided at the edge.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use MIME::Base64;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

my $t = OCI->new(workers => 3);
my $d = $t->{dir};

my %secret = map { $_ => "canary-$_-9d41" } qw/ alice bob carol root off
    later pb/;
my %subject = map { $_ => { secret => Policy::phc($secret{$_}) } } qw/ alice
    bob carol root off later /;
$subject{pb} = { secret => Policy::phc($secret{pb}, i => 2000) };
$subject{alice}{groups} = ['ml'];
$subject{off}{disabled} = JSON::PP::true;
$subject{later}{not_before} = int(time()) + 3600;
$subject{nosecret} = {};

my $doc = {
    version => 1,
    subjects => \%subject,
    roles => { mirror => ['pull', 'delete'] },
    grants => {
        'llm-devs' => { role => 'developer', groups => ['ml'],
            repositories => ['llm/**'] },
        guests => { role => 'guest', subjects => ['bob', 'off', 'later',
            'pb'], repositories => ['llm/open', 'team-*/models/*'] },
        mirrors => { role => 'mirror', subjects => ['carol'],
            repositories => ['**'] },
        admins => { role => 'systemAdmin', subjects => ['root'],
            repositories => ['**'] },
    },
    projects => { public => { public => JSON::PP::true },
        llm => { public => JSON::PP::false } },
};

my $blob = $t->random_blob(100000);
my $digest = $t->digest($blob);
my $manifest = '{"schemaVersion":2}';

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        'Basic realm="upstream"' }, '{"errors":[]}')
        if ($q->{h}{authorization} // '')
            ne 'Basic ' . encode_base64('robot:robot-secret', '')
        || $q->{uri} =~ /refused/;
    return $t->reply($c, $q, 404, {}, '{"errors":[]}')
        if $q->{uri} =~ /absent/;
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ m!/blobs/sha!;
    return $t->reply($c, $q, 202, { Location => '/v2/x/blobs/uploads/1' })
        if $q->{method} =~ /^(POST|PATCH|DELETE)$/;
    return $t->reply($c, $q, 201, {}) if $q->{method} eq 'PUT';
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($manifest) }, $manifest)
        if $q->{uri} =~ m!/manifests/!;
    return $t->reply($c, $q, 200, { 'Content-Type' => 'application/json' },
        '{}');
});

$t->write_file('robot', "robot:robot-secret\n", 0600);
Policy::write_doc($t, $doc);
Policy::write_doc($t, $doc, 'quick.json');

my ($closed, $public, $mapped) = map { OCI::port() } 1 .. 3;

Policy::signing_key($t, 'edge.pem');
$t->conf(http => <<EOC, location => <<EOL, server => <<EOS);
oci_registry demo {
    url http://127.0.0.1:$port;
    credentials file $d/robot;
}
oci_policy team {
    source file:$d/policy.json;
    zone team:1m;
    identity basic anonymous;
    signing_key $d/edge.pem; realm http://edge.test/token;
    grants store;
}
oci_policy closed {
    source file:policy.json;
    zone closed:1m;
    identity basic;
    valid 0;
}
oci_policy public {
    source file:$d/policy.json;
    zone public:1m;
    identity anonymous;
}
log_format oci '\$request_method \$uri \$status \$oci_subject '
    '\$oci_decision \$oci_decision_source \$oci_policy_rule';
server {
    listen 127.0.0.1:$closed;
    oci_access closed;
    location /v2/ { oci_pass demo; oci_cache models; }
    location /files/ { root $d; }
    location = /open { oci_access off; return 200 open; }
}
oci_registry mapped {
    url http://127.0.0.1:$port;
    credentials file $d/robot;
    path "" up;
}
server {
    listen 127.0.0.1:$mapped;
    location /v2/ { oci_pass mapped; oci_access team; }
}
server {
    listen 127.0.0.1:$public;
    location /v2/ { oci_pass demo; oci_cache models; oci_access public; }
}
EOC
location /v2/ {
    oci_pass demo; oci_cache models; oci_access team;
    access_log $d/oci.log oci;
}
location /v2/public/mirrored/ {
    oci_pass demo; oci_access team;
    mirror /inner;
}
location = /inner {
    internal;
    oci_pass demo; oci_access public;
}
EOL
EOS
$t->start();

sub as { my ($user) = @_; return { Policy::basic($user, $secret{$user}) } }

# login

my $bearer = 'Bearer realm="http://edge.test/token",service="team"';

my $r = $t->get('/v2/');
is($r->{status}, 401, 'who asks at /v2/ is told to log in');
is($r->{h}{'www-authenticate'}, $bearer, 'with one challenge');
is(scalar(grep { lc $_->[0] eq 'www-authenticate' } @{$r->{list}}), 1,
    'and just one');
like($r->{body}, qr/"code":"UNAUTHORIZED"/, 'an OCI error');
is($r->{h}{'docker-distribution-api-version'}, 'registry/2.0', 'version');

$r = $t->get('/v2/', as('alice'));
is($r->{status}, 200, 'a subject logs in');
is($r->{body}, '{}', 'with the API version check');
$r = $t->head('/v2/', as('pb'));
is($r->{status}, 200, 'one with PBKDF2, by HEAD');
is(scalar($t->requests(0)), 0, 'no registry was asked');

my @wrong = (
    ['a wrong secret', { Policy::basic('alice', 'wrong') }],
    ['an empty secret', { Policy::basic('alice', '') }],
    ['another\'s secret', { Policy::basic('bob', $secret{alice}) }],
    ['an unknown subject', { Policy::basic('mallory', 'wrong') }],
    ['no subject', { Policy::basic('', 'wrong') }],
    ['a subject without a secret', { Policy::basic('nosecret', '') }],
    ['a disabled subject', as('off')],
    ['a subject before its time', as('later')],
    ['a group\'s name', { Policy::basic('ml', '') }],
    ['no base64', { Authorization => 'Basic ***' }],
    ['no colon', { Authorization => 'Basic ' . encode_base64('alice', '') }],
    ['Basic alone', { Authorization => 'Basic ' }],
    ['a token', { Authorization => 'Bearer x.y.z' }],
    ['junk', { Authorization => 'x' }],
);

for my $w (@wrong) {
    for my $uri ('/v2/', '/v2/public/x/manifests/v1') {
        my $r = $t->get($uri, $w->[1]);
        is($r->{status}, 401, "$w->[0] at $uri");
        like($r->{body}, qr/"UNAUTHORIZED","message":"authentication req/,
            'says no more');
        like($r->{h}{'www-authenticate'}, qr/^\Q$bearer\E/, 'a challenge');
    }
}

is(scalar($t->requests(0)), 0, 'no registry was asked');

# rights

my $m = '/manifests/v1';
my @cells = (
    ['alice', 'GET', "/v2/llm/a$m", 200, 'grants/llm-devs'],
    ['alice', 'GET', "/v2/llm/a/b/blobs/$digest", 200, 'grants/llm-devs'],
    ['alice', 'PUT', "/v2/llm/a$m", 201, 'grants/llm-devs'],
    ['alice', 'DELETE', "/v2/llm/a$m", 403],
    ['alice', 'GET', "/v2/llm$m", 404],
    ['alice', 'GET', "/v2/other/a$m", 404],
    ['alice', 'PUT', "/v2/other/a$m", 404],
    ['alice', 'GET', '/v2/_catalog', 403],
    ['alice', 'GET', '/v2/llm/a/tags/list', 200, 'grants/llm-devs'],
    ['alice', 'GET', "/v2/llm/a/referrers/$digest", 200, 'grants/llm-devs'],
    ['alice', 'POST', '/v2/llm/a/blobs/uploads/', 202, 'grants/llm-devs'],
    ['alice', 'DELETE', '/v2/llm/a/blobs/uploads/1', 403],
    ['alice', 'GET', "/v2/public/x$m", 200, 'projects/public'],
    ['alice', 'PUT', "/v2/public/x$m", 403],
    ['bob', 'GET', "/v2/llm/open$m", 200, 'grants/guests'],
    ['bob', 'GET', "/v2/llm/open/deeper$m", 404],
    ['bob', 'PUT', "/v2/llm/open$m", 403],
    ['bob', 'GET', "/v2/team-x/models/y$m", 200, 'grants/guests'],
    ['bob', 'GET', "/v2/team-x/models/y/z$m", 404],
    ['bob', 'GET', "/v2/public$m", 200, 'projects/public'],
    ['carol', 'DELETE', "/v2/any/thing$m", 202, 'grants/mirrors'],
    ['carol', 'PUT', "/v2/any/thing$m", 403],
    ['carol', 'GET', '/v2/_catalog', 403],
    ['root', 'GET', '/v2/_catalog', 200, 'grants/admins'],
    ['root', 'GET', '/v2/_catalog?n=5', 200, 'grants/admins'],
    ['root', 'PUT', "/v2/any$m", 201, 'grants/admins'],
    ['root', 'OPTIONS', "/v2/any$m", 403],
    ['root', 'PUT', '/v2/any/tags/list', 403],
    ['root', 'POST', '/v2/_catalog', 403],
    ['root', 'GET', '/v2/_catalog/x', 403],
    ['root', 'GET', '/v2/LLM/manifests/v1', 400],
    [undef, 'GET', "/v2/public/x$m", 200, 'projects/public'],
    [undef, 'GET', "/v2/public/x/blobs/$digest", 200, 'projects/public'],
    [undef, 'PUT', "/v2/public/x$m", 401],
    [undef, 'GET', "/v2/llm/open$m", 401],
    [undef, 'GET', "/v2/nowhere$m", 401],
    [undef, 'GET', '/v2/_catalog', 401],
);

$t->forget_requests(0);

for my $c (@cells) {
    my ($user, $method, $uri, $status, $rule) = @$c;
    my $logged = length $t->read_file('oci.log');
    my $r = $t->http($t->{edge}, $method, $uri, $user ? as($user) : {},
        $method =~ /^P/ ? '' : undef);
    my $who = $user // 'nobody';
    is($r->{status}, $status, "$who $method $uri") or diag($r->{body});
    my $code = { 400 => 'NAME_INVALID', 401 => 'UNAUTHORIZED',
        403 => 'DENIED', 404 => 'NAME_UNKNOWN' }->{$status};
    like($r->{body}, qr/"code":"$code"/, 'why') if $code;
    my $last = '';
    for (1 .. 100) {
        last if ($last = substr $t->read_file('oci.log'), $logged) =~ s/\n$//;
        sleep 0.02;
    }
    my $decision = $status < 400 ? 'allow' : 'deny';
    my $u = $uri =~ s/\?.*//r;
    my $known = $status == 400 ? '-' : $user // '-';
    is($last, "$method $u $status $known $decision file "
        . ($rule // '-'), 'and the log says so');
}

is(join(' ', grep { $_ ne 'Basic ' . encode_base64('robot:robot-secret', '') }
    map { $_->{h}{authorization} // () } $t->requests(0)), '',
    'the registry sees no credentials but its own');

# what does not exist, and what may not be known: the same answer

my $one = $t->get("/v2/other/a$m", as('alice'));
my $two = $t->get("/v2/other/absent$m", as('alice'));
is($one->{body}, $two->{body}, 'absent and forbidden: one body');
my @h = map { join ' ', map { "$_->[0]:$_->[1]" }
    grep { $_->[0] ne 'Date' } @{$_->{list}} } $one, $two;
is($h[0], $h[1], 'one header');

# mounts

$t->forget_requests(0);
my $mount = "/v2/llm/a/blobs/uploads/?mount=$digest";

for my $c (
    ['', 202], ['&from=llm/b', 202], ['&from=llm%2Fb', 202],
    ['&from=public/x', 202], ['&from=other/a', 403], ['&from=other%2fa', 403],
    ['&from=llm/b&from=other/a', 403], ['&from=other/a&from=llm/b', 403],
    ['&from=llm/b&from=llm/b', 403], ['&%66rom=llm/b', 403],
    ['&from=llm/b;x=y', 403], ['&x=y;from=llm/b', 403], ['&fro%6d', 403],
    ['&%66rom=other/a', 403], ['&from=llm/b;from=other/a', 403],
    ['&From=other/a', 403], ['&from=', 403], ['&from', 403],
    ['&from=%zz', 403], ['&from=../x', 403], ['&x=from=other/a', 202],
) {
    my $r = $t->http($t->{edge}, 'POST', "$mount$c->[0]", as('alice'), '');
    is($r->{status}, $c->[1], "a mount with \"$c->[0]\"");
}

is(scalar(grep { $_->{uri} =~ /other/ && $_->{uri} !~ /x=from/ }
    $t->requests(0)), 0, 'none of the refused went on');

# a registry may choose by itself where it mounts from, with what the edge may

$t->forget_requests(0);

for my $query ("mount=$digest", "x=y&%6dount=$digest", "Mount=$digest&ns=x") {
    my $r = $t->http($t->{edge}, 'POST', "/v2/llm/a/blobs/uploads/?$query",
        as('alice'), '');
    is($r->{status}, 202, "a mount from anywhere: $query");
    my ($q) = reverse $t->requests(0);
    is($q->{uri}, '/v2/llm/a/blobs/uploads/', 'is a plain upload');
}

# nor is anything mounted by a form: registries read it before the query

$t->forget_requests(0);

for my $c (
    ['application/x-www-form-urlencoded', 403],
    ['Application/X-WWW-Form-URLEncoded; charset=utf-8', 403],
    ['multipart/form-data; boundary=x', 403],
    ['application/octet-stream', 202], ['application/json', 202],
) {
    my $r = $t->http($t->{edge}, 'POST', '/v2/llm/a/blobs/uploads/',
        { %{as('alice')}, 'Content-Type' => $c->[0] },
        "mount=$digest&from=other/a");
    is($r->{status}, $c->[1], "a body of $c->[0]");
}

$r = $t->http($t->{edge}, 'POST', '/v2/llm/a/blobs/uploads/',
    { %{as('alice')}, 'Content-Type' => 'application/x-www-form-urlencoded' },
    '');
is($r->{status}, 202, 'an empty form names nothing');
is(scalar($t->requests(0)), 3, 'the others did not go on');

# with names that the registry has under others

$t->forget_requests(0);

for my $c (['llm/b', 202, 'up/llm/b'], ['llm%2Fb', 202, 'up/llm/b'],
    ['other/a', 403])
{
    my $r = $t->http($mapped, 'POST', "/v2/llm/a/blobs/uploads/?from=$c->[0]"
        . "&mount=$digest", as('alice'), '');
    is($r->{status}, $c->[1], "a mount from \"$c->[0]\" with a map");
    my ($q) = reverse $t->requests(0);
    is($q->{uri}, "/v2/up/llm/a/blobs/uploads/?from=$c->[2]&mount=$digest",
        'is one from what was decided') if $c->[2];
}

# a registry that refuses the edge: nothing for the client

$r = $t->http($mapped, 'GET', '/v2/llm/refused/tags/list', as('alice'));
is($r->{status}, 502, 'a registry that refuses the edge is an error of both');
is($r->{h}{'www-authenticate'}, undef, 'and its challenge stays here');

# nor are there others of the client's that a registry could take

$t->forget_requests(0);
$r = $t->get('/v2/llm/a/tags/list', { %{as('alice')}, Cookie => 'sid=canary-s',
    'Proxy-Authorization' => 'Basic canary-p' });
is($r->{status}, 200, 'a request with a cookie');
my ($sent) = $t->requests(0);
is(join(' ', map { $sent->{h}{$_} // () } qw/ cookie proxy-authorization /),
    '', 'which stays here');

# empty credentials are none: what skopeo sends where it has none

$r = $t->get("/v2/public/x$m", { Policy::basic('', '') });
is($r->{status}, 200, 'empty credentials: nobody');
$r = $t->get('/v2/', { Policy::basic('', '') });
is($r->{status}, 401, 'who has to log in');

# "identity basic", and every check anew

$r = $t->http($closed, 'GET', "/v2/public/x$m");
is($r->{status}, 401, 'nobody without "anonymous"') or diag($r->{body});
is($r->{h}{'www-authenticate'}, 'Basic realm="closed"', 'with Basic');
$r = $t->http($closed, 'GET', "/v2/public/x$m", as('bob'));
is($r->{status}, 200, 'a subject has what is public');
$r = $t->http($closed, 'GET', "/v2/llm/open/blobs/$digest", as('bob'));
ok($r->{status} == 200 && $r->{body} eq $blob, 'and a blob with "valid 0"');
$r = $t->http($closed, 'GET', '/files/policy.json', as('root'));
is($r->{status}, 404, 'what is no API is nobody\'s');
$r = $t->http($closed, 'GET', '/open');
is($r->{body}, 'open', 'unless "oci_access off"');

# "identity anonymous"

$r = $t->http($public, 'GET', '/v2/');
is($r->{status}, 200, 'nobody needs to log in');
$r = $t->http($public, 'GET', "/v2/public/x$m");
is($r->{status}, 200, 'what is public');
$r = $t->http($public, 'GET', "/v2/llm/open$m");
is($r->{status}, 404, 'what is not');
is($r->{h}{'www-authenticate'}, undef, 'without a challenge');
$r = $t->http($public, 'PUT', "/v2/public/x$m", {}, '');
is($r->{status}, 403, 'no push');
$r = $t->http($public, 'GET', "/v2/llm/open$m", as('root'));
is($r->{status}, 404, 'credentials are not looked at');

# a subrequest was never decided

$t->forget_requests(0);
$r = $t->get('/v2/public/mirrored/tags/list', as('alice'));
is($r->{status}, 200, 'a request with a subrequest');
sleep 0.3;
is(scalar($t->requests(0)), 1, 'which reaches nothing');

# a document that changed, on every worker

my %s = $t->to_workers();
is(scalar(keys %s), 3, 'three workers');

sub ask {
    my ($user, $uri) = @_;
    my %status;
    for my $pid (sort keys %s) {
        $t->send_request($s{$pid}, 'GET', $uri, as($user));
        my $r = $t->read_header($s{$pid});
        $t->read_body($s{$pid}, $r, 'GET');
        $status{$r->{status}}++;
    }
    return join ' ', map { "$_:$status{$_}" } sort keys %status;
}

sub until_all {
    my ($want, @ask) = @_;
    my $begin = time();
    while (time() < $begin + 10) {
        return time() - $begin if ask(@ask) eq $want;
        sleep 0.02;
    }
    return 99;
}

my $bob = "/v2/llm/open/blobs/$digest";
is(ask('bob', $bob), '200:3', 'all let him');

my @times;
for my $i (1 .. 6) {
    $subject{bob}{disabled} = $i % 2 ? JSON::PP::true : JSON::PP::false;
    Policy::write_doc($t, $doc);
    push @times, until_all($i % 2 ? '401:3' : '200:3', 'bob', $bob);
}
my ($max) = sort { $b <=> $a } @times;
cmp_ok($max, '<', 1.2, 'a change is in force on all workers within a second');
diag(sprintf 'changes took %s s', join ' ', map { sprintf '%.2f', $_ }
    @times);

# another secret: what is remembered of the old one counts no longer

delete $subject{bob}{disabled};
my $old = { %{$subject{bob}} };
$subject{bob}{secret} = Policy::phc('canary-new-77aa');
Policy::write_doc($t, $doc);
cmp_ok(until_all('401:3', 'bob', $bob), '<', 1.5, 'the old secret is void');
{
    local $secret{bob} = 'canary-new-77aa';
    is(ask('bob', $bob), '200:3', 'the new one counts');
}
$subject{bob} = $old;
Policy::write_doc($t, $doc);
cmp_ok(until_all('200:3', 'bob', $bob), '<', 1.5, 'and back');

# broken documents

for my $bad (
    ['no JSON', "{\n\"version\": 1,\n\"subjects\": { canary-json }\n}",
        qr/expected in line 3, column \d+/],
    ['a typo', Policy::json({ %$doc, grant => {} }),
        qr/\$\.grant: unknown member/],
    ['nothing', '', qr/expected in line 1/],
) {
    Policy::write_doc($t, $bad->[1]);
    my $seen;
    for (1 .. 60) {
        $seen = $t->read_file('error.log') =~ $bad->[2];
        last if $seen;
        sleep 0.05;
    }
    ok($seen, "$bad->[0]: the log says where");
    is(ask('alice', "/v2/llm/a/blobs/$digest"), '200:3',
        'the document before it is in force');
    is(ask('alice', "/v2/other/a$m"), '404:3', 'as it was');
}

unlink "$d/policy.json";
sleep 1.2;
like($t->read_file('error.log'),
    qr/policy\.json" of oci_policy "team" is not there/,
    'so it says when the file is gone');
is(ask('alice', "/v2/llm/a/blobs/$digest"), '200:3', 'still in force');

# a reload: with a broken document, and with a good one

Policy::write_doc($t, '{}');
$t->signal('HUP');
for (1 .. 100) {
    last if grep { !$s{$_} } $t->workers();
    sleep 0.05;
}
sleep 0.5;
%s = $t->to_workers();
is(ask('alice', "/v2/llm/a/blobs/$digest"), '200:3',
    'a reload with a broken document keeps the one before');

$subject{alice}{disabled} = JSON::PP::true;
Policy::write_doc($t, $doc);
$t->signal('HUP');
until_true(20, sub {
    my @w = $t->workers();
    return @w >= 3 && !grep { $s{$_} } @w;
});
%s = $t->to_workers();
is(ask('alice', "/v2/llm/a/blobs/$digest"), '401:3',
    'one with a good one takes it');
delete $subject{alice}{disabled};
Policy::write_doc($t, $doc);
cmp_ok(until_all('200:3', 'alice', "/v2/llm/a/blobs/$digest"), '<', 1.5,
    'and the watch goes on');

# the watching worker dies

kill 'KILL', $_ for $t->workers();
sleep 1;
%s = $t->to_workers();
$subject{bob}{disabled} = JSON::PP::true;
Policy::write_doc($t, $doc);
cmp_ok(until_all('401:3', 'bob', $bob), '<', 1.5, 'its successor watches');

# no secret anywhere

my $text = join '', map { $t->read_file($_) } qw/ error.log nginx.log
    access.log oci.log upstream0.requests /;
$text .= $_ for map { decode_base64($_) }
    $text =~ /Basic ([A-Za-z0-9+\/=]+)/g;
unlike($text, qr/canary/, 'no secret in a log or at the registry');
unlike($text, qr/\$scrypt\$/, 'nor what the document has of one');
$text = '';
$text .= $_ for map { $t->read_file(s!^\Q$d/!!r) } grep { -f }
    split /\0/, `find $d/cache -type f -print0`;
unlike($text, qr/canary/, 'nor in the cache');

$t->allow(qr/worker process \d+ exited on signal 9/);
$t->done();
