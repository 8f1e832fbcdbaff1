#!/usr/bin/perl

# oci_policy: real clients, and the sequences of those that can't be run here,
# with docker's registry behind the edge.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use MIME::Base64;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

OCI->skip_all_unless('skopeo');

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my $up = $t->registry();
my $blob = $t->random_blob(3_000_000);
my ($manifest, $digest) = $t->push_artifact('llm/model', 'v1', $blob);
$t->push_artifact('public/model', 'v1', $blob);
$t->push_artifact('secret/model', 'v1', $blob);

Policy::write_doc($t, {
    version => 1,
    subjects => {
        alice => { secret => Policy::phc('alice-secret', ln => 12),
            groups => ['ml'] },
        'robot$llm+ci' => {
            secret => Policy::phc('robot:secret$', i => 5000) },
    },
    grants => {
        ml => { role => 'guest', groups => ['ml'],
            repositories => ['llm/**'] },
        ci => { role => 'developer', subjects => ['robot$llm+ci'],
            repositories => ['llm/**'] },
    },
    projects => { public => { public => JSON::PP::true } },
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$up; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic;
}
oci_policy public {
    source file:$d/policy.json; zone public:1m; identity anonymous;
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
location /v2/public/ { oci_pass demo; oci_cache models; oci_access public; }
EOL
$t->start();

my $edge = "127.0.0.1:$t->{edge}";

sub skopeo {
    my (@args) = @_;
    my $pid = open(my $f, '-|') // die;
    if (!$pid) {
        open STDERR, '>&', \*STDOUT;
        $ENV{HOME} = $d;
        delete $ENV{XDG_RUNTIME_DIR};
        exec('skopeo', '--insecure-policy', @args) or POSIX::_exit(127);
    }
    local $/;
    my $out = <$f> // '';
    close $f;
    return ($? >> 8, $out);
}

my @tls = ('--src-tls-verify=false');
my ($rc, $out);

Canary::mine("$d/auth.json");
($rc, $out) = skopeo('login', '--tls-verify=false', '--authfile',
    "$d/auth.json", '-u', 'alice', '-p', 'alice-secret', $edge);
is($rc, 0, 'skopeo logs in') or diag($out);

($rc, $out) = skopeo('login', '--tls-verify=false', '--authfile',
    "$d/wrong.json", '-u', 'alice', '-p', 'wrong', $edge);
isnt($rc, 0, 'not with a wrong secret');
like($out, qr/invalid username\/password|unauthorized|401/i, 'and says why');

($rc, $out) = skopeo('copy', @tls, '--authfile', "$d/auth.json",
    "docker://$edge/llm/model:v1", "dir:$d/one");
is($rc, 0, 'it pulls what it may') or diag($out);
is($t->read_file('one/manifest.json'), $manifest, 'the right manifest');
is(-s "$d/one/" . substr($t->digest($blob), 7), length $blob, 'and blob');

($rc, $out) = skopeo('copy', @tls, '--authfile', "$d/auth.json",
    "docker://$edge/secret/model:v1", "dir:$d/two");
isnt($rc, 0, 'and not what it may not');

($rc, $out) = skopeo('copy', @tls, '--src-no-creds',
    "docker://$edge/public/model:v1", "dir:$d/three");
is($rc, 0, 'without credentials it pulls what is public') or diag($out);

($rc, $out) = skopeo('copy', @tls, '--src-no-creds',
    "docker://$edge/llm/model:v1", "dir:$d/four");
isnt($rc, 0, 'and nothing else');

($rc, $out) = skopeo('copy', @tls, '--dest-tls-verify=false', '--src-creds',
    'alice:alice-secret', '--dest-creds', 'robot$llm+ci:robot:secret$',
    "docker://$edge/llm/model:v1", "docker://$edge/llm/pushed:v1");
is($rc, 0, 'a robot of Harbor\'s name pushes') or diag($out);
is($t->http($up, 'GET', '/v2/llm/pushed/manifests/v1',
    { Accept => $OCI::TYPE{manifest} })->{status}, 200, 'it is there');

($rc, $out) = skopeo('copy', '--dest-tls-verify=false', '--dest-creds',
    'alice:alice-secret', "dir:$d/one", "docker://$edge/llm/mine:v1");
isnt($rc, 0, 'a guest does not push');
is($t->http($up, 'GET', '/v2/llm/mine/manifests/v1',
    { Accept => $OCI::TYPE{manifest} })->{status}, 404, 'nothing is there');

# docker: /v2/ decides the scheme, then each request has the credentials

my $r = $t->get('/v2/');
is($r->{h}{'www-authenticate'}, 'Basic realm="team"', 'docker: the challenge');
my %alice = Policy::basic('alice', 'alice-secret');
is($t->get('/v2/', \%alice)->{status}, 200, 'docker: login');
my $accept = join ', ', values %OCI::TYPE;
$r = $t->head('/v2/llm/model/manifests/v1', { %alice, Accept => $accept });
is($r->{status}, 200, 'docker: HEAD of the tag');
is($r->{h}{'docker-content-digest'}, $digest, 'docker: its digest');
$r = $t->get("/v2/llm/model/manifests/$digest", { %alice,
    Accept => $accept });
is($r->{body}, $manifest, 'docker: the manifest by digest');
$r = $t->get('/v2/llm/model/blobs/' . $t->digest($blob), \%alice);
ok($r->{body} eq $blob, 'docker: the blob');

# containerd: no ping, a 401 on the first request tells the scheme

$r = $t->head('/v2/llm/model/manifests/v1', { Accept => $accept });
is($r->{status}, 401, 'containerd: HEAD of the tag');
is($r->{h}{'www-authenticate'}, 'Basic realm="team"', 'containerd: told');
$r = $t->head('/v2/llm/model/manifests/v1', { %alice, Accept => $accept });
is($r->{status}, 200, 'containerd: again');
$r = $t->get('/v2/llm/model/blobs/' . $t->digest($blob), { %alice,
    Range => 'bytes=0-' });
is($r->{status}, 206, 'containerd: an open range');
ok($r->{body} eq $blob, 'containerd: the blob');
$r = $t->get('/v2/public/model/blobs/' . $t->digest($blob), {
    Range => 'bytes=1000-' });
ok($r->{body} eq substr($blob, 1000), 'containerd: what is public');

# a blob that is in the cache is nobody's who may not pull it

for my $uri ('/v2/secret/model/blobs/' . $t->digest($blob),
             '/v2/secret/model/manifests/v1',
             '/v2/llm-x/model/blobs/' . $t->digest($blob))
{
    my $r = $t->get($uri, \%alice);
    is($r->{status}, 404, "$uri: not for her");
    is($r->{body}, $t->get('/v2/no/such/manifests/v1', \%alice)->{body},
        'as if it were not there');
    is($t->get($uri)->{status}, 401, 'nor for nobody');
}

$t->done();
