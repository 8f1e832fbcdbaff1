#!/usr/bin/perl

# oci_preheat with peers: one that is started again and keeps its jobs, but no
# token, one whose answers never end, one that was warm long ago, and what is
# told while peers are waited for.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $far = OCI->new(workers => 2);
my $d = $t->{dir};
my $json = JSON::PP->new->canonical;

my (%blobs, %manifests);

sub image {
    my ($tag, $blob) = @_;
    my $digest = $t->digest($blob);
    $blobs{$digest} = $blob;
    my $m = $json->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, layers => [{ digest => $digest,
            mediaType => 'application/x', size => length $blob }] });
    $manifests{$_} = $m for $tag, $t->digest($m);
    return $digest;
}

my $digest = image('v1', $t->random_blob(4_000_000));
my $other = image('v2', $t->random_blob(100_000));

sub answer {
    my ($c, $q) = @_;
    my ($what, $ref) = $q->{uri} =~ m!/(manifests|blobs)/(\S+)$!
        or return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        'Basic realm="x"' }, '{}')
        if ($q->{h}{authorization} // '') ne 'Bearer good';
    my $body = ($what eq 'blobs' ? \%blobs : \%manifests)->{$ref}
        // return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply_slowly($c, $q, $body, 0.15) if $what eq 'blobs';
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($body) }, $body);
}

# a blob comes to this edge long after the other one has it

my $port = $t->upstream(\&answer);
my $near = $t->upstream(sub {
    my ($c, $q) = @_;
    until_true(100, sub { -e "$d/go" }) if $q->{uri} =~ /\Q$other\E/;
    return answer($c, $q);
});

# a byte a second

my $tardy = $t->upstream(sub {
    my ($c, $q) = @_;
    print $c "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
    for (1 .. 100) {
        print $c ' ' or return 0;
        sleep 1;
    }
    return 0;
});

$_->{edge} = OCI::port() for $t, $far;
my $there = "http://127.0.0.1:$far->{edge}/p2p/";
my $dead = 'http://127.0.0.1:' . OCI::port() . '/p2p/';

sub conf {
    my ($e, $location) = @_;
    return $e->conf(http =>
        "oci_registry demo { url http://127.0.0.1:"
            . ($e == $t ? $near : $port) . '; stall_timeout 120s; }',
        location => "location /v2/ { oci_pass demo; oci_cache models; }"
            . $location);
}

conf($t, <<EOL)->start();
location /p2p/ { oci_preheat registry=demo open peers=$there; }
location /two/ { oci_preheat registry=demo open peers=$dead,$there; }
location /tardy/ {
    oci_preheat registry=demo open peers=http://127.0.0.1:$tardy/p2p/;
}
EOL
mkdir "$far->{dir}/jobs";
conf($far, <<EOL)->start();
location /p2p/ { oci_preheat registry=demo open state=$far->{dir}/jobs; }
EOL

sub call {
    my ($e, $method, $path, $body) = @_;
    my $r = $e->http($e->{edge}, $method, $path, { 'Content-Type' =>
        'application/json' }, $body ? encode_json($body) : undef);
    return ($r->{status}, eval { decode_json($r->{body}) });
}

sub create {
    my ($place, $repo, %o) = @_;
    my $tag = $o{tag} // 'v1';
    my ($status, $job) = call($t, 'POST', "$place/oapi/v1/jobs", {
        type => 'preheat', args => { type => 'image',
            url => "/v2/m/$repo/manifests/$tag", scope => $o{scope} // '',
            headers => { Authorization => 'Bearer good' } } });
    return $job->{id};
}

sub jobs { return @{(call($_[0], 'GET', '/p2p/jobs'))[1]{jobs}} }

sub ends {
    my ($id, $place) = @_;
    my $job;
    until_true(90, sub {
        $job = (call($t, 'GET', "$place/jobs/$id"))[1];
        return $job->{state} !~ /pending|running/;
    });
    return $job;
}


# its answers have no end: it is asked once more

my $late = create('/tardy', 'x');

# for long it is warm there, and not here

my $held = create('/p2p', 'held', tag => 'v2');
ok(until_true(60, sub { grep { $_->{peers_done} } jobs($t) }),
    'a peer is warm');
my $since = time();

# it comes back with its jobs, and without their token

my $id = create('/p2p', 'a');
ok(until_true(sub { (jobs($far))[0] && (jobs($far))[0]{bytes} }),
    'a job there');
my $master = delete $far->{pids}{nginx};
kill 'TERM', $master;
ok(until_true(sub { $far->ended($master) }), 'it ends');
unlink "$far->{dir}/nginx.pid";
$far->start();
my $job = ends($id, '/p2p');
is($job->{state}, 'success', 'restarted, with state: success')
    or diag($job->{error});
is($job->{peers_done}, 1, 'the peer is warm');
is_deeply([map { $_->{state} } grep { $_->{repository} eq 'm/a' }
    jobs($far)], ['success', 'failure'], 'it was told again');
my $mark = $far->upstream_bytes();
is($far->digest($far->get("/v2/m/a/blobs/$digest", { Authorization =>
    'Bearer good' })->{body}), $digest, 'a client there');
is($far->upstream_bytes(), $mark, 'nothing from upstream');

# it is warm here, the peer is slow, the other one is dead

create('/p2p', 'b', scope => 'single_seed_peer');
ok(until_true(60, sub { !grep { $_->{state} =~ /pending|running/
    && $_->{repository} eq 'm/b' } jobs($t) }), 'warm here');
$far->stop();
unlink "$far->{dir}/nginx.pid";
system("rm -rf $far->{dir}/cache");
$far->start();

$id = create('/two', 'b');
my $s = $t->connect();
$t->send_request($s, 'GET', "/two/jobs/$id?watch=1");
my $r = $t->read_header($s);
$t->read_body($s, $r, 'GET', 60);
my @lines = map { decode_json($_) } split /\n/, $r->{body};
is($lines[-1]{state}, 'failure', 'a dead peer');
ok((grep { $_->{state} eq 'running' && $_->{peers_done} == 1 } @lines),
    'that the other one is warm is told at once');
ok((grep { $_->{state} eq 'running' && $_->{errors} } @lines),
    'so are tries that fail');
like((grep { $_->{state} eq 'running' } @lines)[-1]{error},
    qr/^peer "\Q$dead\E": it can't be reached$/, 'and why');

ok(until_true(60, sub { 2 <= grep { $_->{method} eq 'POST' }
    $t->requests(2) }), 'one that does not end is asked once more');
like((call($t, 'GET', "/tardy/jobs/$late"))[1]{error},
    qr/it does not answer in time/, 'and it is told why');
is((call($t, 'DELETE', "/tardy/jobs/$late"))[1]{state}, 'failure',
    'nobody waits for it');

# what was warm there has gone since, and now it is warm here

until_true(60, sub { time() > $since + 32 });
$t->write_file('go', '');
$job = ends($held, '/p2p');
is($job->{state}, 'success', 'long ago: success') or diag($job->{error});
$mark = $far->upstream_bytes();
is(join(' ', grep { $_ ne $other } $far->parallel(8, sub {
    $far->digest($far->get("/v2/m/held/blobs/$other", { Authorization =>
        'Bearer good' })->{body}) })), '', 'long ago: clients there');
is($far->upstream_bytes(), $mark, 'long ago: nothing from upstream');

ok($far->stop(), 'the other edge stopped');
is(join("\n", grep { /\[(alert|emerg|crit)\]|Sanitizer/ } split /\n/,
    $far->read_file('error.log') . $far->read_file('nginx.log')), '',
    'no alerts there');

$t->done();
