#!/usr/bin/perl

# The rights "status", "purge" and "preheat": who may see the edge's status,
# take back what is cached, and have something fetched; nobody learns anything
# without credentials.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Jwt;
use Policy;

OCI->skip_all_unless('openssl');

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my $blob = $t->random_blob(70000);
my $manifest = encode_json({ schemaVersion => 2,
    mediaType => $OCI::TYPE{manifest}, layers => [{ size => length $blob,
        mediaType => 'application/octet-stream',
        digest => $t->digest($blob) }] });
my $digest = $t->digest($manifest);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ m!/blobs/!;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $digest }, $manifest);
});

my @subjects = qw/ admin ops member heat cook sweep watch guest nothing
    off /;
my $doc = {
    version => 1,
    subjects => {
        (map { $_ => { secret => Policy::phc("canary-$_-11f0") } } @subjects),
        robot => {},
    },
    roles => { operator => [qw/ preheat purge status /],
        heater => ['preheat'], sweeper => ['purge'], watcher => ['status'] },
    grants => {
        admin => { role => 'systemAdmin', subjects => ['admin'],
            repositories => ['**'] },
        ops => { role => 'operator', subjects => [qw/ ops off robot /],
            groups => ['ops'], repositories => ['llm/*'] },
        heat => { role => 'heater', subjects => [qw/ heat cook /],
            repositories => ['llm/a'] },
        sweep => { role => 'sweeper', subjects => ['sweep'],
            repositories => ['llm/a'] },
        watch => { role => 'watcher', subjects => ['watch'],
            repositories => ['other/x*'] },
        guest => { role => 'guest', subjects => [qw/ guest cook /],
            repositories => ['llm/**'] },
    },
    projects => { public => { public => JSON::PP::true } },
};
$doc->{subjects}{off}{disabled} = JSON::PP::true;
$doc->{subjects}{member}{groups} = ['ops'];
Policy::write_doc($t, $doc);
Policy::signing_key($t, 'edge.pem');
my $key = Jwt::key($t, 'issuer', 'EC');
my ($public, $tokens, $store, $access) = map { OCI::port() } 1 .. 4;

my $places = <<EOC;
    location /v2/ { oci_pass demo; }
    location = /status { oci_status; }
    location = /numbers { oci_status prometheus; }
    location /p2p/ { oci_preheat registry=demo; }
    location /if/ {
        oci_preheat registry=demo; if (\$arg_x) { set \$y 1; }
    }
    location /purge/ { oci_cache_purge demo; }
    location /purge-if/ {
        oci_cache_purge demo; if (\$arg_x) { set \$y 1; }
    }
    location = /files { root $d; }
EOC
my $foreign = 'issuer x; audience x; key issuer.pub;';

$t->conf(http => <<EOC, server => 'oci_access team;', location => $places);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic;
}
oci_policy public {
    source file:$d/policy.json; zone public:1m; identity anonymous;
}
oci_policy tokens {
    source file:$d/policy.json; zone tokens:1m; identity basic anonymous;
    signing_key $d/edge.pem;
}
oci_policy store {
    source file:$d/policy.json; zone store:1m; identity bearer;
    $foreign grants store;
}
oci_policy access {
    source file:$d/policy.json; zone access:1m; identity bearer;
    $foreign grants token;
}
oci_cache models;
oci_cache_valid tag 10m;
oci_audit_log $d/audit.log;
log_format oci '\$request_method \$uri \$status \$oci_subject '
    '\$oci_decision \$oci_policy_rule \$oci_repository';
access_log $d/oci.log oci;
server { listen 127.0.0.1:$public; oci_access public; $places }
server {
    listen 127.0.0.1:$tokens; oci_access tokens; $places
    location = /token { oci_token policy=tokens; }
    location = /dry { oci_status; oci_access dry_run team; }
    location = /off { oci_status; oci_access off; }
    location = /included.html { ssi on; root $d; oci_access off; }
}
server { listen 127.0.0.1:$store; oci_access store; $places }
server { listen 127.0.0.1:$access; oci_access access; $places }
EOC
$t->start();

sub as {
    my ($user) = @_;
    return $user ? { Policy::basic($user, "canary-$user-11f0") } : {};
}

sub ask {
    my ($user, $method, $uri, $body, $to) = @_;
    return $t->http($to // $t->{edge}, $method, $uri, as($user), $body);
}

sub json { return decode_json($_[0]{body}) }

sub code { return ($_[0]{body} =~ /"code":"(\w+)"/)[0] // '' }


# the status

my %status = (admin => 200, ops => 200, member => 200, watch => 200,
    heat => 403, sweep => 403, guest => 403, nothing => 403, off => 401,
    '' => 401);

for my $user (sort keys %status) {
    for my $uri ('/status', '/numbers') {
        my $r = ask($user, 'GET', $uri);
        is($r->{status}, $status{$user}, "$uri: " . ($user || 'nobody'));
        is(code($r), $status{$user} == 401 ? 'UNAUTHORIZED' : 'DENIED',
            'an OCI error') if $r->{status} != 200;
        unlike($r->{body}, qr/counters|nginx_oci/, 'and nothing else')
            if $r->{status} != 200;
    }
}

like(ask('watch', 'GET', '/numbers')->{body}, qr/^nginx_oci_/m, 'the metrics');
ok(json(ask('watch', 'GET', '/status'))->{counters}, 'the counters');
is(ask('', 'GET', '/status')->{h}{'www-authenticate'}, 'Basic realm="team"',
    'a challenge');
is($t->get('/status', { Policy::basic('watch', 'wrong') })->{status}, 401,
    'a wrong secret');
is(ask('watch', 'POST', '/status', 'x')->{status}, 405, 'another method');
is(ask('', 'POST', '/status', 'x')->{status}, 401, 'not for nobody');
is(ask('admin', 'GET', '/files')->{status}, 404, 'nothing else is served');

# purging

my $v1 = '/v2/llm/a/manifests/v1';

sub pulls {
    my $before = $t->requests(0);
    is($t->get($v1, as('guest'))->{status}, 200, 'pulled');
    return $t->requests(0) - $before;
}

cmp_ok(pulls(), '>', 0, 'from the registry');
is(pulls(), 0, 'and from the cache');

my %purge = (admin => [200, 200], ops => [200, 200], member => [200, 200],
    sweep => [200, 404], heat => [403, 404], watch => [404, 404],
    guest => [403, 403], nothing => [404, 404], off => [401, 401],
    '' => [401, 401]);

for my $user (sort keys %purge) {
    my $n = $user || 'nobody';

    pulls();

    my $r = ask($user, 'DELETE', "/purge$v1");
    is($r->{status}, $purge{$user}[0], "purge: $n");
    is(json($r)->{reference}, 'v1', 'it is gone') if $r->{status} == 200;
    is(code($r), { 401 => 'UNAUTHORIZED', 403 => 'DENIED',
        404 => 'NAME_UNKNOWN' }->{$r->{status}}, 'an OCI error')
        if $r->{status} != 200;
    is(pulls() > 0, $purge{$user}[0] == 200, 'purged, or not');

    # of another repository in the same project

    is($t->get('/v2/llm/b/manifests/v1', as('guest'))->{status}, 200, 'b');
    is(ask($user, 'PURGE', '/purge/v2/llm/b/')->{status}, $purge{$user}[1],
        "purge: $n, another repository");

    # what is wrong is told to whom may purge something

    my $may = $user =~ /admin|ops|member|sweep/;
    my $no = $user eq '' || $user eq 'off' ? 401 : 403;
    for ([GET => "/purge$v1", 405], [DELETE => '/purge/v2/A/', 400],
        [DELETE => '/purge/x', 404], [DELETE => '/purge/v2/', 404])
    {
        my ($method, $uri, $status) = @$_;
        my $want = $may ? $status : $no;

        # (the method is looked at last)

        $want = $purge{$user}[0] if !$may && $method eq 'GET';
        is(ask($user, $method, $uri)->{status}, $want,
            "purge: $n, $method $uri");
    }
}

# the same right, whatever rules a location has

for my $c (['llm/a', 200], ['llm/b', 404]) {
    my ($name, $status) = @$c;
    $t->get("/v2/$name/manifests/v1", as('guest'));
    is(ask('sweep', 'PURGE', "/purge-if/v2/$name/manifests/v1?x=1")->{status},
        $status, "purge, by a rule: $name");
}

# preheating, in all dialects

my @create = (
    ['jobs', 202, sub { { ref => "$_[0]:v1" } }],
    ['oapi/v1/jobs', 200, sub { { type => 'preheat', args => { type =>
        'image', url => "http://127.0.0.1:$port/v2/$_[0]/manifests/v1" } } }],
    ['preheats', 200, sub { { type => 'image', url =>
        "http://127.0.0.1:$port/v2/$_[0]/manifests/v1" } }],
    ['registry/notifications', 200, sub { { events => [ map { { action =>
        'push', target => { repository => $_, tag => 'v1', mediaType =>
        $OCI::TYPE{manifest} } } } @_ ] } }],
);

my %preheat = (admin => [0, 0], ops => [0, 0], member => [0, 0],
    heat => [0, 404], sweep => [403, 403], watch => [403, 403],
    guest => [403, 403], nothing => [403, 403], off => [401, 401],
    '' => [401, 401]);

for my $user (sort keys %preheat) {
    my $n = $user || 'nobody';
    my ($here, $there) = @{$preheat{$user}};

    for my $c (@create) {
        my ($uri, $done, $job) = @$c;
        is(ask($user, 'POST', "/p2p/$uri", encode_json($job->('llm/a')))
            ->{status}, $here || $done, "preheat by $uri: $n");
        is(ask($user, 'POST', "/p2p/$uri", encode_json($job->('llm/b')))
            ->{status}, $there || $done, "preheat by $uri: $n, another one");
        is(ask($user, 'POST', "/p2p/$uri", 'nonsense')->{status},
            $here || 422, "preheat by $uri: $n, no job");
    }

    for ([GET => '_ping'], [GET => 'healthy'], [GET => 'health'],
        [GET => 'jobs'])
    {
        is(ask($user, $_->[0], "/p2p/$_->[1]")->{status}, $here || 200,
            "$_->[1]: $n");
    }
    is(ask($user, 'GET', '/p2p/jobs/4711')->{status}, $here || 404,
        "an unknown job: $n");
    is(ask($user, 'PUT', '/p2p/jobs', '{}')->{status}, $here || 405,
        "another method: $n");
}

# jobs are those of repositories

my $a = json(ask('ops', 'POST', '/p2p/jobs', '{"ref":"llm/a:v2"}'))->{id};
my $b = json(ask('ops', 'POST', '/p2p/jobs', '{"ref":"llm/b:v2"}'))->{id};

my %seen = map { my $user = $_; $user => { map { $_->{repository} => 1 }
    @{json(ask($user, 'GET', '/p2p/jobs'))->{jobs}} } } qw/ ops heat admin /;
is_deeply($seen{heat}, { 'llm/a' => 1 }, 'one sees the jobs that it may have');
is_deeply($seen{ops}, { 'llm/a' => 1, 'llm/b' => 1 }, 'another one all');
is_deeply($seen{admin}, $seen{ops}, 'as who may everything');
is(ask('heat', 'GET', "/p2p/jobs/$a")->{status}, 200, 'its own');
is(ask('heat', 'GET', "/p2p/$_/$b")->{status}, 404, "another's, by $_")
    for qw! jobs oapi/v1/jobs preheats !;
ok(until_true(sub {
    json(ask('heat', 'GET', "/p2p/jobs/$a"))->{state} eq 'success' }),
    'it was done');
ok(until_true(sub {
    json(ask('ops', 'GET', "/p2p/jobs/$b"))->{state} eq 'success' }),
    'and so was the other one');
is(ask('heat', 'DELETE', "/p2p/jobs/$b")->{status}, 404, 'not ended');

# who guesses a number doesn't learn whether it is one, whatever else it may do
# with that repository

sub told {
    my ($user, $method, $uri) = @_;
    my $r = ask($user, $method, $uri);
    my %h = %{$r->{h}};
    delete $h{date};
    return [$r->{status}, \%h, $r->{body}];
}

for my $user (qw/ heat cook /) {
    for my $place (qw! jobs oapi/v1/jobs preheats !) {
        for my $method (qw/ GET HEAD DELETE /) {
            is_deeply(told($user, $method, "/p2p/$place/$b"),
                told($user, $method, "/p2p/$place/4711"),
                "$user, $method $place: as if there was none");
        }
    }
    is_deeply(told($user, 'GET', "/p2p/jobs/$b?watch=1"),
        told($user, 'GET', '/p2p/jobs/4711?watch=1'), "$user: nor watched");

    my ($before, %numbers) = ('');
    for (1 .. 100) {
        my $page = json(ask($user, 'GET', "/p2p/jobs?n=1$before"));
        is(scalar @{$page->{jobs}}, 1, "$user: a page has something");
        my $one = $page->{jobs}[0];
        $numbers{$one->{id}} = $one->{repository};
        last if !$page->{next};
        is($page->{next}, $one->{id}, "$user: the next one is after that");
        $before = "&before=$page->{next}";
    }
    is_deeply([sort keys %numbers], [sort map { $_->{id} }
        @{json(ask($user, 'GET', '/p2p/jobs'))->{jobs}}], "$user: all pages");
    is(scalar(grep { $_ ne 'llm/a' } values %numbers), 0, "$user: its own");
}
is(ask('heat', 'DELETE', "/p2p/jobs/$a")->{status}, 200, 'but one\'s own');

# a notification is one thing

my $jobs = @{json(ask('ops', 'GET', '/p2p/jobs'))->{jobs}};
is(ask('heat', 'POST', '/p2p/registry/notifications', encode_json(
    { events => [ map { { action => 'push', target => { repository => $_,
        tag => 'both', mediaType => $OCI::TYPE{manifest} } } }
        qw! llm/a llm/b ! ] }))->{status}, 404, 'one of two is refused');
is(scalar(@{json(ask('ops', 'GET', '/p2p/jobs'))->{jobs}}), $jobs,
    'and nothing of it is done');

# nobody, where nobody is asked for anything

for my $c ([GET => '/status'], [DELETE => "/purge$v1"],
    [POST => '/p2p/jobs', '{"ref":"llm/a:v1"}'], [GET => '/p2p/_ping'])
{
    my $r = ask('', @$c[0, 1, 2], $public);
    is($r->{status}, $c->[1] =~ /purge/ ? 404 : 403, "anonymous: $c->[1]");
}

# the edge's own tokens are for pulls and pushes, a secret is accepted, too

sub bearer { return { Authorization => "Bearer $_[0]" } }

my $token = json($t->http($tokens, 'GET',
    '/token?service=tokens&scope=repository:llm/a:pull,push,*', as('ops')))
    ->{token};
ok($token, 'a token');
for my $c ([GET => '/status'], [DELETE => "/purge$v1"], [GET => '/p2p/jobs']) {
    my $r = $t->http($tokens, $c->[0], $c->[1], bearer($token));
    is($r->{status}, 401, "a token: $c->[1]");
    like($r->{h}{'www-authenticate'}, qr/error="insufficient_scope"/,
        'it is not for that');
    isnt(ask('ops', $c->[0], $c->[1], undef, $tokens)->{status}, 401,
        'but the secret');
    like(ask('', $c->[0], $c->[1], undef, $tokens)->{h}{'www-authenticate'},
        qr!^Bearer realm="http://edge.test/token",service="tokens"$!,
        'and nobody is told to log in');
}

# others' tokens: where they say who it is the document decides

for my $c (['ops', $access, 401], ['robot', $access, 401],
    ['robot', $store, 200], ['guest', $store, 403], ['off', $store, 401],
    ['stranger', $store, 401])
{
    my ($user, $to, $want) = @$c;
    my $other = Jwt::token($key, { iss => 'x', aud => 'x', sub => $user,
        exp => time() + 600, iat => time(),
        access => [Jwt::access('llm/a', '*')] });
    is($t->http($to, 'GET', '/status', bearer($other))->{status}, $want,
        "another's token, of $user: status");
    my $r = $t->http($to, 'POST', '/p2p/jobs', bearer($other),
        '{"ref":"llm/a:v1"}');
    is($r->{status}, $want == 200 ? 202 : $want, 'a job');
}

# without a policy, and in a dry run

is($t->http($tokens, 'GET', $_)->{status}, 200, $_) for qw! /dry /off !;

# what nobody has decided, as it came past the access phase

is(ask('ops', 'POST', '/p2p/jobs', '{"ref":"llm/a:v4"}', $tokens)->{status},
    202, 'a job there');
$t->write_file('included.html', join ' ', 'begin', (map {
    "<!--# include virtual=\"$_\" -->" } qw! /status /p2p/jobs /if/_ping?x=1
    /off !), 'end');
my $page = $t->http($tokens, 'GET', '/included.html', as('admin'))->{body};
like($page, qr/^begin (?:\{"errors":\[\{"code":"DENIED".*?\}\]\}\s+){3}(?#
    )\{.*"counters".*\send$/s, 'subrequests are refused');
unlike($page, qr!llm/a!, 'and tell nothing');

# a right that is taken away, and another document

delete $doc->{grants}{heat};
$doc->{grants}{ops}{repositories} = ['llm/b'];
push @{$doc->{subjects}{guest}{groups}}, 'ops';
Policy::write_doc($t, $doc);
ok(until_true(sub { ask('heat', 'GET', '/p2p/_ping')->{status} == 403 }),
    'no more preheating');
is(ask('guest', 'GET', '/status')->{status}, 200, 'a new member');
is(ask('ops', 'DELETE', "/purge$v1")->{status}, 404, 'not there any more');
is(ask('ops', 'POST', '/p2p/jobs', '{"ref":"llm/b:v3"}')->{status}, 202,
    'but here');

# what is said of it

my $log = $t->read_file('oci.log');
like($log, qr!^GET /status 200 watch allow grants/watch -$!m, 'by what rule');
like($log, qr!^GET /status 403 guest deny - -$!m, 'or none');
like($log, qr!^DELETE /purge\Q$v1\E 200 sweep allow grants/sweep llm/a$!m,
    'purged');
like($log, qr!^POST /p2p/jobs 202 heat allow grants/heat llm/a$!m,
    'preheated');
like($log, qr!^POST /p2p/jobs 404 heat deny - llm/b$!m, 'or not');

my @audit = map { decode_json($_) } split /\n/, $t->read_file('audit.log');
for my $c (['status', 'watch', 'intent'], ['status', 'guest', 'deny'],
    ['purge', 'sweep', 'intent', 'llm/a'], ['purge', 'guest', 'deny', 'llm/a'],
    ['preheat', 'heat', 'intent', 'llm/a'],
    ['preheat', 'heat', 'deny', 'llm/b'], ['preheat', 'cook', 'deny', 'llm/b'])
{
    my ($action, $user, $event, $repository) = @$c;
    ok((grep { $_->{event} eq $event && ($_->{action} // '') eq $action
        && $_->{subject} eq $user
        && ($_->{repository} // '') eq ($repository // '') } @audit),
        "audit: $event, $action by $user");
}

# settings

sub refused {
    my ($line, $like) = @_;
    my ($rc, $out) = $t->check($t->modules() . <<EOC);
error_log $d/check.log;
events { }
http {
    oci_cache_path $d/cache2 keys_zone=models:1m;
    oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
    oci_policy team {
        source file:$d/policy.json; zone team:1m; identity basic;
    }
    server { listen 127.0.0.1:$t->{edge}; $line }
}
EOC
    like("$rc $out", $like, $line);
}

my $hook = "secret=$d/hook";
$t->write_file('hook', "Bearer canary-hook\n", 0600);
my $either = qr/^1 .*"oci_preheat" needs either "secret=" or "open", or (?#
    )"oci_access" with an oci_policy, in [^"]+:\d+/s;
refused('location /p/ { oci_preheat registry=demo; }', $either);
refused('location /p/ { oci_preheat registry=demo; oci_access open; }',
    $either);
refused('oci_access dry_run team; location /p/ { oci_preheat registry=demo; }',
    $either);
refused('oci_access team; location /p/ { oci_preheat registry=demo;'
    . ' oci_access off; }', $either);
refused("location /p/ { oci_preheat registry=demo $hook; oci_access team; }",
    qr/^1 .*"oci_access" looks at "Authorization": "secret=" needs another(?#
    ) "header=" in/s);
refused('oci_access team; location /h { oci_webhook registry=demo; }',
    qr/^1 .*needs either "secret=" or "open"/s);
refused("location /p/ { oci_preheat registry=demo $hook header=X-Key;"
    . ' oci_access team; }', qr/^0 /);
refused('oci_access team; location /p/ { oci_preheat registry=demo;'
    . ' if ($arg_x) { set $y 1; } limit_except GET { deny all; } }', qr/^0 /);

$t->done();
