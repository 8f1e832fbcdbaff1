#!/usr/bin/perl

# oci_preheat with peers: a job is done when it is done at all of them.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2, unwind => 1);
my $far = OCI->new(workers => 2, unwind => 1);
my $d = $t->{dir};
my $json = JSON::PP->new->canonical;

my (%blobs, %manifests);

sub image {
    my ($tag, @layers) = @_;
    my @d = map { { mediaType => 'application/x', digest => $t->digest($_),
        size => length $_ } } @layers;
    $blobs{$t->digest($_)} = $_ for @layers;
    my $m = $json->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, layers => \@d });
    $manifests{$tag} = $m;
    $manifests{$t->digest($m)} = $m;
    return $m;
}

my @layers = map { $t->random_blob(400_000) } 1 .. 5;
my $image = image('v1', @layers);
image('slow', my $slow = $t->random_blob(4_000_000));
image('large', map { $t->random_blob(3_000_000) } 1, 2);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($what, $ref) = $q->{uri} =~ m!/(manifests|blobs)/(\S+)$!
        or return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        'Basic realm="x"' }, '{}')
        if ($q->{h}{authorization} // '') ne 'Bearer good "\\';
    my $body = ($what eq 'blobs' ? \%blobs : \%manifests)->{$ref}
        // return $t->reply($c, $q, 404, {}, '{}');
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($body) }, $body)
        if $what eq 'manifests';
    return $t->reply_slowly($c, $q, $body, 0.1) if length $body == 4_000_000;
    return $t->reply_blob($c, $q, $body);
});

$_->{edge} = OCI::port() for $t, $far;

for my $e ($t, $far) {
    $e->write_file('secret', "Bearer this\nBearer next\n", 0600);
    $e->write_file('peer', "Bearer this\n", 0600);
    $e->write_file('wrong', "Bearer that\n", 0600);
}

my %url = (near => "http://127.0.0.1:$t->{edge}",
    far => "http://127.0.0.1:$far->{edge}");
my $tls = OCI::port();
my ($cert, $key) = $t->certificate('edge.test');
$far->certificate('other.test');
my $dead = 'http://127.0.0.1:' . OCI::port();

sub conf {
    my ($e, %o) = @_;
    my $dir = $e->{dir};
    my $other = $e == $t ? 'far' : 'near';
    $o{name} = $e == $t ? 'near' : 'far';
    return $e->conf(cache_args => $o{cache} // '', http => <<EOC,
oci_registry demo { url http://127.0.0.1:$port; path $o{name}/m m; }
upstream edge.test { server 127.0.0.1:$tls; keepalive 4; }
EOC
        listen => "listen 127.0.0.1:$e->{edge};" . ($e == $t ? '' : <<EOS),
listen 127.0.0.1:$tls ssl;
ssl_certificate $cert;
ssl_certificate_key $key;
EOS
        location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; }
location /p2p/ {
    oci_preheat registry=demo secret=$dir/secret jobs=1
                peers=$url{$other}/p2p/ peer_secret=$dir/peer;
}
location /wrong/ {
    oci_preheat registry=demo open peers=$url{$other}/p2p/
                peer_secret=$dir/wrong;
}
location /none/ {
    oci_preheat registry=demo open peers=$url{$other}/none-such/;
}
location /moved/ {
    oci_preheat registry=demo open peers=$url{$other}/301/;
}
location /odd/ { oci_preheat registry=demo open peers=$url{$other}/200/; }
location /dead/ {
    oci_preheat registry=demo open
        peers=$dead/p2p/,$url{$other}/p2p/ peer_secret=$dir/peer;
}
location /tls/ {
    oci_preheat registry=demo open peers=https://edge.test/p2p/
                peer_secret=$dir/peer peer_trusted=$t->{dir}/ca.pem;
}
location /untrusted/ {
    oci_preheat registry=demo open peers=https://edge.test/p2p/
                peer_secret=$dir/peer peer_trusted=$far->{dir}/ca.pem;
}
location /301/ { return 301 $url{$other}/p2p/oapi/v1/jobs; }
location /200/ { return 200 '{"id":"1"}'; }
EOL
}


sub fresh {
    my (%o) = @_;
    for my $e ($t, $far) {
        $e->stop() if $e->{pids}{nginx};
        system("rm -rf $e->{dir}/cache");
        conf($e, %{$o{$e == $t ? 'near' : 'far'} || {}})->start();
    }
    $t->forget_requests();
    unlink "$d/sent";
}

sub call {
    my ($e, $method, $path, $body, $secret) = @_;
    my $r = $e->http($e->{edge}, $method, $path, { 'Content-Type' =>
        'application/json', Authorization => $secret // 'Bearer next' },
        $body ? encode_json($body) : undef);
    return ($r->{status}, eval { decode_json($r->{body}) });
}

sub create {
    my ($e, $tag, %o) = @_;
    my $place = $o{place} // '/p2p';
    my ($status, $job) = call($e, 'POST', "$place/oapi/v1/jobs", {
        type => 'preheat', args => { type => 'image',
            url => "/v2/m/@{[$o{repo} // 'x']}/manifests/$tag",
            headers => { Authorization => 'Bearer good "\\' },
            scope => $o{scope} // '' } });
    return $job->{id};
}

sub ends {
    my ($e, $id, $place) = @_;
    $place //= '/p2p';
    my $job;
    until_true(90, sub {
        (my $status, $job) = call($e, 'GET', "$place/oapi/v1/jobs/$id");
        return $status == 200 && $job->{state} ne 'PENDING';
    });
    return wantarray ? ($job->{state},
        $job->{result}{job_states}[0]{error}) : $job->{state};
}


# jobs of a location, as they are shown to people

sub jobs { return @{(call($_[0], 'GET', ($_[1] // '/p2p')
    . '/jobs'))[1]{jobs}} }


# cold clients at once: what is wrong with what they had

sub pull {
    my ($e, $repo) = @_;
    my %h = (Authorization => 'Bearer good "\\');
    return join ' ', grep { $_ ne '' } $e->parallel(8, sub {
        my $m = $e->get("/v2/$repo/manifests/v1", \%h);
        return "manifest $m->{status}" if $m->{body} ne $image;
        for my $l (@{decode_json($m->{body})->{layers}}) {
            my $r = $e->get("/v2/$repo/blobs/$l->{digest}", \%h);
            return "blob $r->{status}"
                if $e->digest($r->{body}) ne $l->{digest};
        }
        return '';
    });
}


# a job here is one there, and nothing comes back

fresh();
my $id = create($t, 'v1');
my ($state, $error) = ends($t, $id);
is($state, 'SUCCESS', 'both are warm') or diag($error);

my ($job) = jobs($t);
is_deeply([@$job{qw/ state peers peers_done /}], ['success', 1, 1],
    'a peer, which is warm');
is(scalar(jobs($t)), 1, 'one job here');
is_deeply([map { [@$_{qw/ state peers repository /}] } jobs($far)],
    [['success', 0, 'far/m/x']], 'one job there, of no peers');

my @bytes = map { $_->upstream_bytes() } $t, $far;
my $blobs = grep { $_->{uri} =~ m!/blobs/! } $t->requests();
is(pull($t, 'near/m/x'), '', 'clients here');
is(pull($far, 'far/m/x'), '', 'clients there');
is_deeply([map { $_->upstream_bytes() } $t, $far], \@bytes,
    'nothing from upstream');
is(scalar(grep { $_->{method} eq 'GET' && $_->{uri} =~ m!/blobs/! }
    $t->requests()), $blobs, 'no blob was asked for');

# for this edge only

$id = create($t, 'v1', scope => 'single_seed_peer', repo => 'y');
is(ends($t, $id), 'SUCCESS', 'one edge');
is(scalar(jobs($far)), 1, 'one edge: nothing there');
is((jobs($t))[0]{peers}, 0, 'one edge: no peers');

$id = create($t, 'v1', scope => 'all_seed_peers', repo => 'z');
is(ends($t, $id), 'SUCCESS', 'all edges');
is(scalar(jobs($far)), 2, 'all edges: one more there');

my ($status, $r) = call($t, 'POST', '/p2p/jobs', { ref => 'near/m/x:v1',
    peers => JSON::PP::false });
is($r->{peers}, 0, 'a person: one edge');
ends($t, $r->{id});
is((call($t, 'POST', '/p2p/jobs', { ref => 'near/m/x:v1', peers => 1 }))[0],
    422, 'a person: neither true nor false');
($status) = call($t, 'POST', '/p2p/oapi/v1/jobs', { type => 'preheat', args =>
    { url => '/v2/m/x/manifests/v1', scope => 'some' } });
is($status, 422, 'no such scope');

# each of them is the other's peer, and has one place for jobs only

fresh();
my @ids = map { my $tag = $_; map { [$_, create($_, $tag)] } $t, $far }
    'v1', 'slow';
is(ends(@$_), 'SUCCESS', 'at once: success') for @ids;
is(scalar(jobs($_)), 4, 'at once: two of its own, two of the other')
    for $t, $far;

# platforms are the same there

is((call($t, 'POST', '/p2p/oapi/v1/jobs', { type => 'preheat', args => {
    type => 'image', url => '/v2/m/x/manifests/v1', platform => 'a/b,c/d',
    headers => { Authorization => 'Bearer good "\\' } } }))[0], 200,
    'platforms');
until_true(60, sub { (jobs($t))[0]{state} eq 'success' });
is_deeply((jobs($far))[0]{platforms}, ['a/b', 'c/d'], 'platforms: there');

# a peer can't store it

fresh(far => { cache => 'max_size=4m' });
($state, $error) = ends($t, create($t, 'large'));
is($state, 'FAILURE', 'too large there: failure');
like($error, qr!^peer "\Q$url{far}\E/p2p/": .*bytes, which can't be!,
    'too large there: who and why');
is((jobs($t))[0]{peers_done}, 0, 'too large there: not called warm');
is((jobs($far))[0]{state}, 'failure', 'too large there: nor there');
is((grep { $_->{uri} =~ m!/blobs/! && ($_->{h}{'user-agent'} // '') }
    $t->requests()) > 0, 1, 'too large there: stored here');

# or here

fresh(near => { cache => 'max_size=4m' });
($state, $error) = ends($t, create($t, 'large'));
is($state, 'FAILURE', 'too large here: failure');
like($error, qr!^it has 6000000 bytes, which can't be stored here!,
    'too large here: why');

# no such thing, no right

fresh();
($state, $error) = ends($t, create($t, 'v9'));
is($state, 'FAILURE', 'no such tag');
like($error, qr/404/, 'no such tag: why');

for my $c (
    ['/wrong', qr/does not accept the secret/],
    ['/none', qr/it answered 40[45]/],
    ['/moved', qr/it answered 301/],
    ['/odd', qr/its answer is no job/],
) {
    my ($place, $why) = @$c;
    ($state, $error) = ends($t, create($t, 'v1', place => $place,
        repo => $place =~ s!/!!r), $place);
    is($state, 'FAILURE', "$place: failure");
    like($error, qr!^peer "\Q$url{far}\E/[^"]+": !, "$place: who");
    like($error, $why, "$place: why");
}
is(scalar(grep { $_->{repository} !~ m!/x$! } jobs($far)), 0,
    'nothing was begun there');

# by TLS, verified

is(ends($t, create($t, 'v1', place => '/tls', repo => 'tls'), '/tls'),
    'SUCCESS', 'TLS');
is((jobs($far))[0]{repository}, 'far/m/tls', 'TLS: there');

($state, $error) = ends($t, create($t, 'v1', place => '/untrusted',
    repo => 'untrusted'), '/untrusted');
is($state, 'FAILURE', 'TLS, not trusted: failure');
like($error, qr!^peer "https://edge.test/p2p/": it can't be reached$!,
    'TLS, not trusted: why');
is((jobs($far))[0]{repository}, 'far/m/tls', 'TLS, not trusted: not there');
$t->allow(qr/certificate verify error/);

# one is down: the others get warm, and it is no success

($state, $error) = ends($t, create($t, 'v1', place => '/dead', repo => 'dead'),
    '/dead');
is($state, 'FAILURE', 'down: failure');
like($error, qr!^peer "\Q$dead\E/p2p/": it can't be reached$!, 'down: who');
is((jobs($t, '/dead'))[0]{peers_done}, 1, 'down: the other one is warm');
is((jobs($far))[0]{state}, 'success', 'down: as it says itself');

# it comes back, and has forgotten everything

fresh();
$id = create($t, 'slow');
until_true(sub { (jobs($far))[0] && (jobs($far))[0]{bytes} });
my $master = delete $far->{pids}{nginx};
kill 'TERM', $master;
until_true(sub { $far->ended($master) });
$far->start();
is(ends($t, $id), 'SUCCESS', 'restarted: success');
is((jobs($far))[0]{state}, 'success', 'restarted: it was told again');

# a worker dies here, the configuration is read again

fresh();
$id = create($t, 'slow');
until_true(sub { (jobs($far))[0] });
my $victim = $t->worker_to($port);
kill 'KILL', $victim;
$t->allow(qr/process $victim exited on signal 9/);
is(ends($t, $id), 'SUCCESS', 'killed: another worker goes on');
is((jobs($t))[0]{peers_done}, 1, 'killed: the peer is warm');

fresh();
$id = create($t, 'slow');
until_true(sub { (jobs($far))[0] });
$t->signal('HUP');
is(ends($t, $id), 'SUCCESS', 'reload: the new workers go on');

# nobody learns secrets

my $log = join '', map { my $e = $_; map { $e->read_file($_) }
    qw/ error.log access.log / } $t, $far;
unlike($log, qr/Bearer|good|"this|"that/, 'no secret in a log');

# wrong settings

for my $c (
    ['peers=/p2p/', qr!invalid URL "/p2p/"!],
    ['peers=ftp://h/p2p/', qr/invalid URL/],
    ["peers=http://u:p\@127.0.0.1/p2p/", qr/invalid URL/],
    ['peers=http://127.0.0.1/p2p', qr!peer "\S+" is no location that ends!],
    ['peers=http://127.0.0.1/p2p/?x/', qr!is no location that ends in "/"!],
    ['peers=http://127.0.0.1/p2p/,', qr/invalid URL ""/],
    ["peer_secret=$d/peer", qr/has no "peers="/],
    ["peer_trusted=$d/peer", qr/has no "peers="/],
    ["peers=http://127.0.0.1/p2p/ peer_secret=$d/secret",
        qr/one line in "peer_secret=", or as many/],
    ["peers=http://127.0.0.1/p2p/ peer_secret=$d/none", qr/"\S+none" failed/],
    ["peers=https://127.0.0.1/p2p/ peer_trusted=$d/none", qr/none/],
    ['peers=' . join(',', ('http://127.0.0.1/p2p/') x 65), qr/too many/],
) {
    my ($args, $error) = @$c;
    my $conf = $t->read_file('nginx.conf');
    $conf =~ s!(registry=demo open) peers=[^;]+/301/;!$1 $args;! or die;
    my ($rc, $out) = $t->check($conf);
    isnt($rc, 0, 'refused: ' . substr $args, 0, 60);
    like($out, $error, 'why');
    like($out, qr/check\.conf:\d+/, 'and where');
}

my $conf = $t->read_file('nginx.conf');
$conf =~ s!location /301/ \{!location = /h { oci_webhook registry=demo open
    peers=http://127.0.0.1/p2p/; }$&!;
my ($rc, $out) = $t->check($conf);
like($out, qr/invalid parameter "peers=/, 'a webhook has no peers');

ok($far->stop(), 'the other edge stopped');
is(join("\n", grep { /\[(alert|emerg|crit)\]|Sanitizer/ } split /\n/,
    $far->read_file('error.log') . $far->read_file('nginx.log')), '',
    'no alerts there');

$t->done();
