#!/usr/bin/perl

# Attacks on the hooks' locations: oci_preheat, oci_webhook, and a /v2/ with
# oci_pull_accounting.
#
#   - who has no secret gets 401 and nothing else: by every method, on every
#     path, whatever comes as a body or is to come;
#   - S18: every endpoint by every method, with the secret: what is not in the
#     table is refused;
#   - S8: addresses in all forms, in all that Harbor, a forger or a registry
#     can name: nothing goes there;
#   - S16: control bytes in each field: no answer, line of a log or request
#     has them;
#   - S21: forged, replayed and outdated webhooks.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Select;
use IO::Socket::IP;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use Harbor;
use HarborCore;
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $type = $OCI::TYPE{manifest};

my $core = HarborCore->new($t);
my $up = $core->start(quiet => 0);
my ($manifest, $digest) = $core->push_model('llm/model', 'v1', 'a layer');
my $victim = OCI::port();

for my $family (4, 6) {
    my $l = IO::Socket::IP->new(LocalHost => $family == 4 ? '0.0.0.0' : '::1',
        LocalPort => $victim, Listen => 64, ReuseAddr => 1) or next;
    my $pid = fork() // die;
    if ($pid == 0) {
        while (my $c = $l->accept()) {
            open my $f, '>>', "$d/victim";
            syswrite $f, "$family\n";
            syswrite $c, "HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{}";
            close $c;
        }
        POSIX::_exit(0);
    }
    $t->{pids}{"victim$family"} = $pid;
}

sub visits { return scalar(() = $t->read_file('victim') =~ /\n/g) }

# a registry that points elsewhere: to hosts[i] of repository how/n<i>

my @hosts = ('127.0.0.1', '127.0.0.2', '2130706433', '0x7f000001',
    '017700000001', '127.1', '127.0.0.1.', '0.0.0.0', '0', '[::]', '[::1]',
    '[::ffff:127.0.0.1]', '[::127.0.0.1]', 'localhost', 'localhost.',
    'harbor.example.com@127.0.0.1', 'harbor.example.com:80@127.0.0.1',
    '127.0.0.1#harbor.example.com', '127.0.0.1\\@harbor.example.com',
    '127.0.0.1%2f@harbor.example.com', '127.0.0.1/harbor.example.com',
    "127.0.0.1\xe3\x80\x82", "127.0.0.1\tharbor.example.com");

my $odd = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($how, $i) = $q->{uri} =~ m!^/v2/odd/(\w+)/n(\d+)/!
        or return $t->reply($c, $q, 200, {}, '{}');
    my $url = "http://$hosts[$i]:$victim/v2/token";
    my $m = JSON::PP->new->canonical->encode({ schemaVersion => 2,
        layers => [map { { digest =>
        $t->digest($_), size => 1000, urls => [$url], mediaType => $_ } }
        'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
        'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
        'application/vnd.oci.image.layer.v1.tar'] });

    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        qq(Bearer realm="$url",service="x") }, '{}') if $how eq 'realm';
    return $t->reply($c, $q, 307, { Location => $url }, '')
        if $how eq 'moved' || ($how eq 'get' && $q->{method} eq 'GET'
            && -e "$d/moved");
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $t->digest($m) }, $m)
        if $q->{uri} =~ /manifests/;
    return $t->reply($c, $q, 404, {}, '{}');
}, quiet => 1);

$t->write_file('secret', "Bearer the-secret\nBearer the-next\n", 0600);
$t->write_file('key', "the-key\n", 0600);

my $h2 = OCI::port();

$t->conf(server => "listen 127.0.0.1:$h2 http2;", http => <<EOC,
oci_registry demo {
    url http://127.0.0.1:$up; credentials anonymous;
    public_url https://harbor.example.com;
}
oci_registry odd { url http://127.0.0.1:$odd; credentials anonymous; }
oci_cache_valid tag 1h;
oci_cache_valid manifest 1h;
oci_pull_accounting 1s;
keepalive_requests 100000;
client_body_in_file_only on;
EOC
    location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location /v2/odd/ { oci_pass odd; oci_cache models; oci_access open; }
location /p2p/ { oci_preheat registry=demo secret=$d/secret; }
location /named/ { oci_preheat registry=demo secret=$d/key header=X-Key; }
location /odd/ { oci_preheat registry=odd open jobs=16; }
location = /hook { oci_webhook registry=demo secret=$d/secret; }
location = /odd/hook { oci_webhook registry=odd open jobs=16; }
EOL
$t->start();

my $harbor = Harbor->new($t, endpoint => '/p2p', auth_mode => 'OAUTH',
    auth_info => { token => 'the-secret' });
my $hook = Harbor->new($t, address => '/hook',
    auth_header => 'Bearer the-secret');

my $id = $harbor->preheat()->{id};
is(($harbor->ends($id))[0], 'SUCCESS', 'a job');


# who has no secret

my @methods = qw/ GET HEAD POST PUT PATCH DELETE OPTIONS PROPFIND MKCOL LOCK
    SUBSCRIBE X /;
my @paths = ((map { "/p2p/$_" } '', 'healthy', '_ping', 'health',
    'oapi/v1/jobs', "oapi/v1/jobs/$id", 'oapi/v1/jobs/1', 'preheats',
    "preheats/$id", 'registry/notifications', 'jobs', "jobs/$id", 'jobs/1',
    'jobs?watch=1', 'none', 'a//b', './jobs', 'x/../jobs', '%6aobs', 'jobs;x',
    'jobs/%0d%0aX:1', 'jobs/%ff', '?', 'a' x 4000), "/named/jobs/$id",
    '/named/healthy', '/hook', '/hook?x=1', '/x/../hook', '//hook');

my %body = (
    none => '',
    json => "Content-Length: 2\r\n\r\n{}",
    huge => 'Content-Length: ' . 3e6 . "\r\n\r\n" . 'x' x 3e6,
    chunked => "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    'chunked, huge' => "Transfer-Encoding: chunked\r\n\r\n"
        . sprintf("%x\r\n%s\r\n", 3e6, 'x' x 3e6) . "0\r\n\r\n",
    'chunked, not so' => "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    'chunked, no end' => "Transfer-Encoding: chunked\r\n\r\n"
        . "fffffffffff\r\nx",
    expect => "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    'expect, huge' => "Expect: 100-continue\r\nContent-Length: 99999999999"
        . "\r\n\r\n",
    'expect, chunked' => "Expect: 100-continue\r\nTransfer-Encoding: chunked"
        . "\r\n\r\n",
    'expect what' => "Expect: x\r\nContent-Length: 2\r\n\r\n{}",
);

my @headers = ('', 'Authorization: Bearer the-secre',
    'Authorization: Bearer the-secret2', 'Authorization: bearer the-secret',
    'Authorization: Bearer  the-secret', 'Authorization: the-secret',
    'Authorization:', 'Proxy-Authorization: Bearer the-secret',
    'Cookie: Authorization=Bearer the-secret', 'X-Key: Bearer the-secret',
    'X-Key: the-kez', 'X_Key: the-kez', 'Authorization: the-key',
    'X-Original-URL: /p2p/healthy', 'X-HTTP-Method-Override: GET');

# an answer, without what differs by itself; the first one, if more come

sub refused {
    my ($method, $path, $headers, $body, $version) = @_;
    $body = "\r\n" if $body eq '';
    my $s = $t->connect();
    print $s "$method $path HTTP/@{[$version // '1.1']}\r\nHost: x\r\n"
        . "Connection: close\r\n" . ($headers ne '' ? "$headers\r\n" : '')
        . $body;
    my $r = $t->read_body($s, $t->read_header($s, 10), $method, 10);
    close $s;
    return join("\n", $r->{status_line} // 'nothing', (map { "$_->[0]: $_->[1]"
        } grep { $_->[0] !~ /^(?:Date|Connection)$/ } @{$r->{list}}), '', '')
        . ($method eq 'HEAD' ? $r->{rest} : $r->{body});
}

my $said = refused('GET', '/p2p/', '', '');
my ($head) = $said =~ /^(.*?\n\n)/s;
like($said, qr/^HTTP\/1\.1 401 .*\{"message":"not authorized"\}\n$/s,
    'it is 401');

my (%odd, $n);

sub same {
    my ($answer, $method, $name) = @_;
    $n++;
    $odd{$name} = substr $answer, 0, 300
        if $answer ne ($method eq 'HEAD' ? $head : $said);
}

for my $path (@paths) {
    same(refused($_, $path, '', ''), $_, "$_ $path") for @methods;
}

for my $path ('/p2p/jobs', "/p2p/jobs/$id", '/p2p/healthy', '/hook',
    '/p2p/oapi/v1/jobs', '/named/none')
{
    for my $header (@headers) {
        same(refused($_, $path, $header, ''), $_, "$_ $path, $header")
            for qw/ GET POST /;
    }
    for my $name (sort keys %body) {
        same(refused($_, $path, '', $body{$name}), $_, "$_ $path, $name")
            for qw/ GET POST PUT DELETE HEAD OPTIONS /;
    }
}
is_deeply(\%odd, {}, "$n requests, one answer");

like($t->raw("GET /p2p/healthy\r\n", 5), qr/not authorized/, 'HTTP/0.9');
is((refused('GET', '/p2p/jobs', '', '', '1.0'))
    =~ /^HTTP\/1\.1 401 /, 1, 'HTTP/1.0');

# nginx's own answer, before there is a location

like(refused($_, '/p2p/jobs', '', ''), qr/^HTTP\/1\.1 40[05] /, $_)
    for qw/ TRACE CONNECT /;

# HTTP/1.1 goes on after it, with the next request and no other

my $out = $t->raw("POST /p2p/jobs HTTP/1.1\r\nHost: x\r\n"
    . "Content-Length: 30\r\n\r\nGET /oci_status HTTP/1.1\r\n\r\n  "
    . "GET /p2p/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 10);
is(scalar(() = $out =~ /HTTP\/1\.1 401/g), 2, 'two requests, two answers');
unlike($out, qr/HTTP\/1\.1 [^4]/, 'and no third');

# a large body is refused to who has the secret, too, and one that fits is
# taken, chunked or not

for my $c (['huge', 413], ['chunked, huge', 413], ['chunked', 422],
    ['json', 422], ['chunked, not so', 400])
{
    my ($name, $status) = @$c;
    for my $path ('/p2p/jobs', '/hook') {
        like(refused('POST', $path, 'Authorization: Bearer the-secret',
            $body{$name}), qr/^HTTP\/1\.1 $status /, "$name: $path");
    }
}
# HTTP/2 has bodies without a length: as much of one as the window has room for
# is sent, and its end; the status

sub frame {
    my ($kind, $flags, $stream, $data) = @_;
    return substr(pack('N', length $data), 1)
        . pack('CCN', $kind, $flags, $stream) . $data;
}

sub post_h2 {
    my ($path, $secret, $left) = @_;
    my $s = $t->connect($h2);
    my ($buf, $window) = ('', 65535);
    print $s "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frame(4, 0, 0, ''),
        frame(1, 4, 1, join '', map { pack 'x C/a C/a', @$_ }
            [':method', 'POST'], [':scheme', 'http'], [':authority', 'x'],
            [':path', $path], ['authorization', "Bearer $secret"]);
    while (1) {
        while ($left && $window >= ($left < 16000 ? $left : 16000)) {
            my $n = $left < 16000 ? $left : 16000;
            ($left, $window) = ($left - $n, $window - $n);
            print $s frame(0, $left ? 0 : 1, 1, 'x' x $n) or return 0;
        }
        while (length $buf < 9 || length $buf
            < 9 + unpack 'N', "\0" . substr $buf, 0, 3)
        {
            IO::Select->new($s)->can_read(20) or return 0;
            sysread $s, $buf, 65536, length $buf or return 0;
        }
        my $size = unpack 'N', "\0" . substr $buf, 0, 3;
        my ($kind, $stream) = unpack 'x3 C x N', $buf;
        my $data = substr substr($buf, 0, 9 + $size, ''), 9;
        $window += unpack 'N', $data if $kind == 8 && $stream == 1;
        return $1 if $kind == 1 && $data =~ /\x48\x03(\d\d\d)/;
        return 0 if $kind == 1 || $kind == 3 || $kind == 7;
    }
}

for my $path ('/p2p/jobs', '/hook') {
    for my $c ([3e6, '', 401], [2, '', 401], [3e6, 'the-secret', 413],
        [2, 'the-secret', 422])
    {
        my ($size, $secret, $status) = @$c;
        is(post_h2($path, $secret, $size), $status,
            "HTTP/2: $path, $size bytes");
    }
}
is(scalar(my @files = glob "$d/body/*"), 0, 'nothing was written to a file');


# S18: what is there, by method; the rest is refused

my $sure = encode_json($harbor->job());
my %table = (
    healthy => { GET => 200, HEAD => 200 },
    _ping => { GET => 200, HEAD => 200 },
    health => { GET => 200, HEAD => 200 },
    'oapi/v1/jobs' => { POST => 200 },
    "oapi/v1/jobs/$id" => { GET => 200, HEAD => 200 },
    'oapi/v1/jobs/1' => { GET => 404, HEAD => 404 },
    preheats => { POST => 422 },
    "preheats/$id" => { GET => 200, HEAD => 200 },
    'registry/notifications' => { POST => 422 },
    jobs => { GET => 200, HEAD => 200, POST => 422 },
    "jobs/$id" => { GET => 200, HEAD => 200, DELETE => 200 },
    'jobs/1' => { GET => 404, HEAD => 404, DELETE => 404 },
);
my @cells;

for my $path (sort(keys %table), '', 'none', 'oapi', 'oapi/v1/jobs/', 'jobs/',
    "jobs/$id/x", "jobs/$id/", 'preheats/', 'Jobs', 'healthy/',
    'registry/notifications/', 'oapi/v1/users')
{
    for my $method (@methods) {
        my ($status) = $harbor->call($method, "/$path", $sure);
        my $right = $table{$path}{$method};
        push @cells, "$method $path: $status" if defined $right
            ? $status != $right : $status != 404 && $status != 405;
    }
}
for my $method (@methods) {
    my $r = $harbor->go($method, '/hook',
        { Authorization => 'Bearer the-secret' }, '{"type":"X"}');
    push @cells, "$method /hook: $r->{status}"
        if $r->{status} != ($method eq 'POST' ? 200 : 405);
}
is(join("\n", @cells), '', 'each endpoint by each method');

my (undef, undef, $r) = $harbor->call('DELETE', "/oapi/v1/jobs/$id");
is($r->{status}, 405, 'what is not done is not said to be');


# S8: the control, then all that can be named

$t->raw("GET / HTTP/1.0\r\n\r\n", 5, $victim);
is(visits(), 1, 'the victim listens');

my $open = Harbor->new($t, endpoint => '/odd');
my $oldest = Harbor->new($t, endpoint => '/p2p', vendor => 'old',
    auth_mode => 'OAUTH', auth_info => { token => 'the-secret' });
my $kraken = Harbor->new($t, endpoint => '/p2p', vendor => 'kraken',
    auth_mode => 'OAUTH', auth_info => { token => 'the-secret' });
my (@taken, @jobs);

for my $i (0 .. $#hosts) {
    for my $url ("http://$hosts[$i]:$victim/v2/llm/model/manifests/v1",
        "https://$hosts[$i]:$victim/v2/llm/model/manifests/v1",
        "//$hosts[$i]:$victim/v2/llm/model/manifests/v1",
        "ftp://$hosts[$i]:$victim/v2/llm/model/manifests/v1")
    {
        for my $c ([$harbor, '/oapi/v1/jobs'], [$oldest, '/preheats'],
            [$kraken, '/registry/notifications'])
        {
            my ($status) = $c->[0]->call('POST', $c->[1],
                $c->[0]->job(url => $url));
            push @taken, "$url: $status" if $status !~ /^4/;
        }
        my ($status) = $harbor->call('POST', '/jobs', { ref => $url });
        push @taken, "ref $url: $status" if $status !~ /^4/;
    }

    # by a webhook: what it says of places is nobody's address

    my $name = $hosts[$i] =~ s/[^ -~]/?/gr;
    my $push = HarborEvent::artifact('PUSH_ARTIFACT', 'llm/model', 'v1',
        $digest, resource_url => "http://$name:$victim/llm/model:v1");
    my $copy = HarborEvent::replication('Success', 'llm', 'llm', 'model',
        'v1');
    $copy->{event_data}{replication}{$_}{endpoint}
        = "http://$name:$victim" for qw/ src_resource dest_resource /;
    my $far = HarborEvent::artifact('PUSH_ARTIFACT', 'llm/model',
        "v1", $digest);
    $far->{event_data}{repository}{repo_full_name}
        = "$name:$victim/llm/model";
    is($hook->deliver($_)->{status}, 200, "$name: an event")
        for $push, $copy, $far;

    # by the registry: jobs that a driver, a notification, a webhook began

    push @jobs, map { $open->preheat(url => "/v2/odd/$_/n$i/manifests/v1")
        ->{id} } qw/ realm moved urls /;
    Harbor->new($t, address => '/odd/hook')->deliver(HarborEvent::artifact(
        'PUSH_ARTIFACT', "odd/$_/n$i", 'v2', $digest))
        for qw/ realm moved urls /;
}
is(join("\n", @taken), '', 'no address is taken');
isnt(($open->ends($_))[0], 'SUCCESS', 'a job fails') for @jobs;
until_true(60, sub { !grep { $_->{state} =~ /pending|running/ }
    @{($open->call('GET', '/jobs'))[1]{jobs}} });

# and by a registry that answers what is asked for accounting

my $accept = { Accept => $type };
$t->get("/v2/odd/get/n$_/manifests/v1", $accept) for 0 .. $#hosts;
$t->write_file('moved', '');
sleep 1.2;
is($t->get("/v2/odd/get/n$_/manifests/v1", $accept)->{status}, 200,
    'served') for 0 .. $#hosts;
until_true(sub { (() = $t->read_file('error.log')
    =~ /was not made known/g) >= @hosts });

is(visits(), 1, 'nothing has gone there');


# S16: control bytes in each field

my $inject = 'X-Injected: yes';
my @breaks = ("\r\n", "\n", "\r", "\0", "\x0b", "\x0c", "\x1b[2K", "\x7f",
    "\x{85}", "\x{2028}", "\x{560a}", ' ', "\t", '%0d%0a', '\\r\\n', '"', '<',
    '../');

sub fields {
    my ($b) = @_;
    my $url = 'https://harbor.example.com/v2/llm/model/manifests';
    my @k = map { $kraken->job() } 0 .. 4;
    my $i = 0;
    $k[$i++]{Events}[0]{Target}{$_} = "v1$b$inject"
        for qw/ Url Tag Repository Digest MediaType /;
    delete $k[$_]{Events}[0]{Target}{Url} for 1 .. 4;
    return ((map { ['/oapi/v1/jobs', $harbor->job(%$_)],
            ['/preheats', $oldest->job(%$_)] }
            { url => "$url/v1$b$inject" }, { url => "$url$b$inject/v1" },
            { token => "Bearer x$b$inject" }),
        (map { ['/registry/notifications', $_] } @k),
        (map { ['/jobs', $_] } { ref => "llm/model:v1$b$inject" },
            { ref => "llm/model$b$inject:v1" },
            { ref => 'llm/model:v1', registry => "demo$b$inject" },
            { ref => 'llm/model:v1', "x$b$inject" => 1 }));
}

sub events {
    my ($b) = @_;
    my $c = "$b$inject";
    return (HarborEvent::artifact('PUSH_ARTIFACT', "llm/model$c", 'v1',
            $digest),
        HarborEvent::artifact('PUSH_ARTIFACT', 'llm/model', "v1$c", $digest),
        HarborEvent::artifact('DELETE_ARTIFACT', 'llm/model', 'v1',
            "$digest$c"),
        HarborEvent::replication('Success', "llm$c", 'x', "model$c",
            "v1$c"),
        HarborEvent::retention("llm$c", "model$c:v1", "model:v1$c"),
        HarborEvent::event("PUSH_ARTIFACT$c"),
        HarborEvent::cloud(HarborEvent::quota('QUOTA_EXCEED',
            "llm/model$c", $digest)));
}

my (%bad, %seen);

for my $b (@breaks) {
    my $name = $b =~ s/([^ -~])/sprintf '\\x{%x}', ord $1/ger;
    my @answers;
    for my $f (fields($b)) {
        my (undef, undef, $r) = $harbor->call('POST', @$f);
        push @answers, ["$f->[0] $name", $r];
    }
    push @answers, map { ["hook $name", $hook->deliver($_)->{answer}] }
        events($b);
    for (@answers) {
        my ($what, $r) = @$_;
        $seen{$r->{status}}++;
        $bad{"$what: a header"} = 1
            if grep { $_->[0] =~ /injected/i } @{$r->{list}};
        $bad{"$what: $r->{status}"} = 1 if $r->{status} >= 500;
        $bad{"$what: a control byte"} = 1
            if $r->{body} =~ /[\0-\x08\x0b-\x1f\x7f]|\n./;
        $bad{"$what: no JSON"} = 1 if !eval { JSON::PP->new->allow_nonref
            ->decode($r->{body}); 1 };
    }
}
is(join("\n", sort keys %bad), '', 'no answer has what was injected');
ok($seen{422} && $seen{200}, 'refused, taken') or diag(explain(\%seen));

until_true(60, sub { !grep { $_->{state} =~ /pending|running/ }
    @{($harbor->call('GET', '/jobs'))[1]{jobs}} });
unlike(($harbor->call('GET', '/jobs'))[2]{body}, qr/Injected/,
    'nor has a job');

my @asked = $t->requests();
cmp_ok(scalar @asked, '>', 10, 'the registry was asked');
is(scalar(grep { exists $_->{h}{'x-injected'}
    || $_->{uri} =~ /[\0-\x20\x7f]|Injected/ } @asked), 0,
    'nor a request to the registry');

for my $name (qw/ error.log access.log /) {

    # (a sanitizer's notes about nginx itself stand there, too)

    next if $OCI::ASAN && $name eq 'error.log';
    my $start = $name eq 'error.log' ? qr!^\d{4}/\d\d/\d\d !
        : qr/^(?:127\.0\.0\.1|unix:) /;
    my @wrong = grep { $_ !~ $start || /[\0-\x08\x0a-\x1f\x7f]/ }
        grep { !/client sent invalid/ } split /\n/, $t->read_file($name);
    is(join("\n", @wrong[0 .. ($#wrong < 4 ? $#wrong : 4)]), '',
        "$name: an event is a line");
}


# S21: forged, replayed, outdated

sub tag { return $t->get('/v2/llm/model/manifests/v1', $accept)->{body} }

my $delete = HarborEvent::artifact('DELETE_ARTIFACT', 'llm/model', 'v1',
    $digest);
$hook->deliver($delete);
is($core->settled(\&tag), $manifest, 'there');
my ($next) = $core->push_model('llm/model', 'v1', 'another layer');
is(tag(), $manifest, 'as it is stored');

for my $secret (undef, '', 'Bearer', 'Bearer the-secre', 'Bearer the-secret2',
    'bearer the-secret', 'the-secret', 'Bearer the-next ,Bearer the-secret')
{
    my $forger = Harbor->new($t, address => '/hook', auth_header => $secret);
    is($forger->deliver($_)->{status}, 401, 'forged')
        for $delete, HarborEvent::cloud($delete);
}
is(tag(), $manifest, 'forged: of no consequence');

# with the right secret, too, an event decides nothing: the registry is asked

is($hook->deliver($delete)->{status}, 200, 'untrue');
is(tag(), $next, 'untrue: it is not gone');

# the same again costs a question at most, and not a copy

$core->settled(\&tag);
my $push = HarborEvent::cloud(HarborEvent::artifact('PUSH_ARTIFACT',
    'llm/model', 'v1', $t->digest($next)));
$hook->deliver($push);
until_true(60, sub { !grep { $_->{state} =~ /pending|running/ }
    @{($harbor->call('GET', '/jobs'))[1]{jobs}} });
my $blob = '/v2/llm/model/blobs/' . $t->digest('another layer');
is($t->get($blob)->{body}, 'another layer', 'the layer');
my $blobs = grep { $_->{uri} eq $blob } $t->requests();
is($hook->deliver($push)->{status}, 200, 'a replay') for 1 .. 30;
is($t->get($blob)->{body}, 'another layer', 'replayed: the layer');
is(scalar(grep { $_->{uri} eq $blob } $t->requests()), $blobs,
    'replayed: nothing is fetched again');

# secrets follow each other

my $later = Harbor->new($t, address => '/hook',
    auth_header => 'Bearer the-next');
is($later->deliver($delete)->{status}, 200, 'the next secret');
$t->write_file('secret', "Bearer the-next\n", 0600);
my @workers = $t->workers();
$t->signal('HUP');
until_true(sub { my %now = map { $_ => 1 } $t->workers();
    !grep { $now{$_} } @workers });
is($later->deliver($delete)->{status}, 200, 'the next one alone');
is($hook->deliver($delete)->{status}, 401, 'the one before is none');
is(($harbor->call('GET', '/jobs'))[0], 401, 'nowhere');

unlike($t->read_file($_), qr/the-(?:secret|next|key)/, "$_: no secret")
    for qw/ error.log access.log /;

$t->done();
