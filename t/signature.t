#!/usr/bin/perl

# Required signatures, of cosign's two forms: found at the registry, checked
# at the edge, kept beside the manifest.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Cosign;
use Jwt;

my $t = OCI->new(workers => 3);
my $d = $t->{dir};
$t->registry();

my %key = map { $_->[0] => Cosign->new($t, @$_) } ['ec', 'ec'],
    ['rsa', 'rsa'], ['ed', 'ed25519'], ['stranger', 'ec'], ['late', 'ec'];

my %secret = map { $_ => "canary-$_-77c1" } qw/ reader dev /;

sub rules { return { signature => { keys => [map { $key{$_}{pem} } @_] } } }

sub document {
    my (@keys) = @_;
    return {
        version => 1,
        subjects => { map { $_ => { secret => Policy::phc($secret{$_}) } }
            keys %secret },
        grants => {
            read => { role => 'guest', subjects => ['reader'],
                repositories => ['**'] },
            write => { role => 'developer', subjects => ['dev'],
                repositories => ['**'] },
        },
        projects => {
            llm => { rules => rules(@keys) },
            api => { rules => rules(@keys) },
            alt => { rules => rules('late') },
            map { $_ => { rules => { signature => { dry_run => JSON::PP::true,
                keys => [map { $key{$_}{pem} } @keys] } } } } qw/ dry dryapi /,
        },
    };
}

my $doc = document(qw/ ec rsa ed /);
Policy::write_doc($t, $doc);
$t->write_file('robot', "robot:canary-robot\n", 0600);

# a registry that has the API of referrers, and troubles

my %blob;
my (%manifest, %tag, %referrers);
my $n = 0;

sub keep_manifest {
    my ($m, @tags) = @_;
    my $digest = $t->digest($m);
    $manifest{$digest} = $m;
    $tag{$_} = $digest for @tags;
    my $s = decode_json($m)->{subject};
    push @{$referrers{$s->{digest}}}, $m if $s;
    return $digest;
}

sub artifact {
    my ($tag) = @_;
    my $config = '{"n":' . $n++ . '}';
    $blob{$t->digest($config)} = $config;
    my $m = Cosign::json({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, config => { size => length $config,
        mediaType => 'application/vnd.oci.image.config.v1+json',
        digest => $t->digest($config) }, layers => [] });
    return ($m, keep_manifest($m, $tag));
}

sub bundled {
    my ($key, $digest, $statement) = @_;
    my $bundle = $key{$key}->bundle($statement // Cosign::statement($digest));
    $blob{$t->digest($bundle)} = $bundle;
    return keep_manifest(Cosign::referrer($t, $digest,
        length $manifest{$digest}, $bundle));
}

my %api = map { $_ => [artifact($_)] } qw/ signed bare other predicate moved
    broken unauthorized slow left page many /;
bundled('rsa', $api{signed}[1]);
bundled('stranger', $api{other}[1]);
bundled('ec', $api{predicate}[1], Cosign::statement($api{predicate}[1],
    predicate => 'https://slsa.dev/provenance/v1'));
bundled('ec', $api{moved}[1], Cosign::statement($api{signed}[1]));
bundled('stranger', $api{many}[1]) for 1 .. 5;
bundled('ed', $api{many}[1]);
my $trouble = { map { $api{$_}[1] => $_ } qw/ broken unauthorized page slow
    left / };
bundled('ec', $api{$_}[1]) for qw/ slow left /;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    if ($q->{uri} =~ m!/referrers/(sha256:\w+)\?artifactType=([^&]+)$!) {
        my $what = $trouble->{$1} // '';
        return $t->reply($c, $q, 503, {}, '{"errors":[]}')
            if $what eq 'broken';
        return $t->reply($c, $q, 403, {}, '{"errors":[]}')
            if $what eq 'unauthorized';
        return $t->reply($c, $q, 200, { 'Content-Type' => 'text/html' },
            '<html>log in</html>') if $what eq 'page';
        sleep 1 if $what eq 'slow' || $what eq 'left';
        return $t->reply($c, $q, 200, { 'Content-Type' => $Cosign::INDEX,
            'OCI-Filters-Applied' => 'artifactType' },
            Cosign::list($t, $Cosign::BUNDLE, @{$referrers{$1} || []}));
    }
    if ($q->{uri} =~ m!/blobs/(sha256:\w+)$! && $blob{$1}) {
        return $t->reply($c, $q, 200,
            { 'Content-Type' => 'application/octet-stream' }, $blob{$1});
    }
    if ($q->{uri} =~ m!/manifests/([\w:.-]+)$!) {
        my $digest = $tag{$1} // $1;
        return $t->reply($c, $q, 200, { 'Content-Type' =>
            decode_json($manifest{$digest})->{mediaType},
            'Docker-Content-Digest' => $digest }, $manifest{$digest})
            if $manifest{$digest};
    }
    return $t->reply($c, $q, 404, {}, '{"errors":[]}');
});

my $jwt = Jwt::key($t, 'jwt', 'EC');
my %edge = map { $_ => OCI::port() } qw/ token both /;
my $tokens = join '', map { <<EOC } qw/ token both /;
oci_policy $_ {
    source file:$d/policy.json; zone $_:1m; identity bearer;
    issuer service; audience edge; key jwt.pub; grants $_;
}
server {
    listen 127.0.0.1:$edge{$_};
    location /v2/ { oci_pass demo; oci_cache models; oci_access $_; }
}
EOC

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$t->{registry};
    credentials file $d/robot;
}
oci_registry api {
    url http://127.0.0.1:$port;
    credentials file $d/robot;
}
oci_policy team {
    source file:$d/policy.json;
    zone team:1m;
    identity basic;
    grants store;
}
$tokens
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
location /v2/api/ { oci_pass api; oci_cache models; oci_access team; }
location /v2/dryapi/ { oci_pass api; oci_cache models; oci_access team; }
location /purge/ {
    oci_cache_purge demo; oci_cache models;
}
EOL
$t->start();

sub as { my ($user) = @_; return { Policy::basic($user, $secret{$user}) } }

sub pull {
    my ($repo, $ref, $user, $method) = @_;
    return $t->http($t->{edge}, $method // 'GET',
        "/v2/$repo/manifests/$ref", { %{as($user // 'reader')},
        Accept => "$OCI::TYPE{manifest}, $Cosign::INDEX" });
}

sub code { return eval { decode_json($_[0]{body})->{errors}[0]{code} } // '' }

# by tag and by digest, in all workers

sub served {
    my ($repo, $tag, $digest, $name) = @_;
    my @s = map { pull($repo, $_)->{status} } ($tag, $digest) x 4;
    is("@s", join(' ', (200) x 8), $name);
}

sub refused {
    my ($repo, $tag, $digest, $name) = @_;
    my @r = map { pull($repo, $_) } ($tag, $digest) x 4;
    is(join(' ', map { $_->{status} } @r), join(' ', (412) x 8), $name);
    is(code($r[0]), 'PROJECTPOLICYVIOLATION', "$name: the error's code");
    is(pull($repo, $digest, 'reader', 'HEAD')->{status}, 412, "$name: HEAD");
}

my $i = 0;
sub image { return $t->push_artifact("llm/$_[0]", 'v1', 'layer ' . $i++) }

# simple signing

for my $name (qw/ ec rsa ed /) {
    my (undef, $digest) = image($name);
    $key{$name}->attach("llm/$name", $digest);
    served("llm/$name", 'v1', $digest, "simple signing, $name");
}

{
    my (undef, $digest) = image('bare');
    refused('llm/bare', 'v1', $digest, 'not signed');
    is(pull('llm/bare', 'v1', 'dev')->{status}, 200,
        'not signed: who may push has it');

    # who has another's token may push where that says so

    for (['token', 'dev', 412, 'pull'], ['token', 'dev', 200, 'pull', 'push'],
        ['both', 'dev', 412, 'pull'], ['both', 'dev', 200, 'pull', 'push'],
        ['both', 'reader', 412, 'pull', 'push'])
    {
        my ($policy, $user, $status, @actions) = @$_;
        my $token = Jwt::token($jwt, { iss => 'service', aud => 'edge',
            sub => $user, iat => time(), nbf => time(), exp => time() + 300,
            access => [Jwt::access('llm/bare', @actions)] });
        is($t->http($edge{$policy}, 'GET', "/v2/llm/bare/manifests/$digest",
            { %{Jwt::bearer($token)}, Accept => $OCI::TYPE{manifest} })
            ->{status}, $status,
            "not signed, grants $policy: $user with @actions");
    }

    (undef, $digest) = image('stranger');
    $key{stranger}->attach('llm/stranger', $digest);
    refused('llm/stranger', 'v1', $digest, 'another key');

    my (undef, $former) = image('former');
    $key{ec}->attach('llm/former', $former);
    (undef, $digest) = image('other');
    $key{ec}->attach('llm/other', $digest,
        payload => Cosign::payload($former));
    refused('llm/other', 'v1', $digest, 'of another digest');

    (undef, $digest) = image('swapped');
    $key{ec}->attach('llm/swapped', $digest,
        signed => Cosign::payload($former));
    refused('llm/swapped', 'v1', $digest, 'another payload');

    (undef, $digest) = image('two');
    my $payload = Cosign::payload($digest);
    Cosign::put_blob($t, 'llm/two', $_, $t->{registry}, {})
        for '{}', $payload;
    (my $sig = "$digest.sig") =~ s/:/-/;
    Cosign::put_manifest($t, 'llm/two', $sig, Cosign::simple_manifest($t,
        '{}', map { [$payload, $key{$_}->sign($payload)] } qw/ stranger ec
        stranger /), $OCI::TYPE{manifest}, $t->{registry}, {});
    served('llm/two', 'v1', $digest, 'three signatures, a good one');
}

# bundles, where the registry has no API of referrers

for my $name (qw/ ec rsa ed /) {
    my ($m, $digest) = image("b$name");
    $key{$name}->attach_bundle("llm/b$name", $digest, length $m);
    served("llm/b$name", 'v1', $digest, "a bundle, $name");
}

{
    my ($m, $digest) = image('bstranger');
    $key{stranger}->attach_bundle('llm/bstranger', $digest, length $m);
    refused('llm/bstranger', 'v1', $digest, 'a bundle, another key');

    ($m, $digest) = image('altered');
    $key{ec}->attach_bundle('llm/altered', $digest, length $m,
        payload => Cosign::statement($t->digest('x')));
    refused('llm/altered', 'v1', $digest, 'a bundle, another payload');
}

# and where it has it

served('api/x', 'signed', $api{signed}[1], 'a bundle among referrers');
served('api/x', 'many', $api{many}[1], 'a good one among many');
refused('api/x', $_, $api{$_}[1], "a referrer: $_")
    for qw/ bare other predicate moved /;

for my $name (qw/ broken unauthorized page /) {
    my $r = pull('api/x', $name);
    is($r->{status}, 503, "the registry fails: $name");
    ok($r->{h}{'retry-after'}, "the registry fails: $name: Retry-After");
    is(code($r), 'UNAVAILABLE', "the registry fails: $name: code");
}

# many wait for one look, which goes on without those who leave

{
    my @s = $t->parallel(24, sub { pull('api/x', $api{slow}[1])->{status} });
    is("@s", join(' ', (200) x 24), 'all who waited');
    my $asked = grep { $_->{uri} =~ /\Q$api{slow}[1]\E\?/ }
        $t->requests();
    ok($asked >= 1 && $asked <= 3, "one look in each worker: $asked");

    for (1 .. 6) {
        my $s = $t->connect();
        $t->send_request($s, 'GET', "/v2/api/x/manifests/$api{left}[1]",
            as('reader'));
        sleep 0.05;
        close $s;
    }
    my @before = sort $t->workers();
    $t->signal('HUP');
    until_true(sub { join(' ', sort $t->workers()) ne "@before" });
    served('api/x', 'left', $api{left}[1], 'those who left, and a reload');
}

# an index, and what it lists

{
    my ($m, $child) = $t->push_artifact('llm/index', 'child', 'a child');
    my $index = Cosign::list($t, undef, $m);
    my $digest = $t->push_manifest('llm/index', 'all', $index,
        $Cosign::INDEX);
    is(pull('llm/index', $child)->{status}, 412,
        'a child of an index, before that was asked for');
    refused('llm/index', 'all', $digest, 'an index without a signature');
    my ($m2, $child2) = $t->push_artifact('llm/index2', 'child', 'a child 2');
    $index = Cosign::list($t, undef, $m2);
    $digest = $t->push_manifest('llm/index2', 'all', $index, $Cosign::INDEX);
    $key{ec}->attach('llm/index2', $digest);
    served('llm/index2', 'all', $digest, 'a signed index');
    served('llm/index2', 'child', $child2, 'a child of a signed index');

    # what is exempt itself exempts nothing that it names

    ($m, $digest) = image('listed');
    $index = Cosign::list($t, $Cosign::BUNDLE, $m);
    $t->push_manifest('llm/listed', 'list', $index, $Cosign::INDEX);
    is(pull('llm/listed', 'list')->{status}, 200, 'a list of signatures');
    refused('llm/listed', 'v1', $digest, 'what it lists and is none');

    ($m, $digest) = image('named');
    Cosign::put_blob($t, 'llm/named', $_, $t->{registry}, {}) for '{}', $m;
    $t->push_manifest('llm/named', 'sig',
        Cosign::simple_manifest($t, '{}', [$m, 'AAAA']));
    is(pull('llm/named', 'sig')->{status}, 200, 'a signature of nothing');
    refused('llm/named', 'v1', $digest, 'what it names and is none');
}

# signatures themselves; signing through the edge

{
    my ($m, $digest) = image('sign');
    refused('llm/sign', 'v1', $digest, 'before it is signed');
    $key{ec}->attach('llm/sign', $digest, port => $t->{edge},
        h => as('dev'));
    (my $tag = $digest) =~ s/:/-/;
    is(pull('llm/sign', "$tag.sig")->{status}, 200,
        'a signature needs none itself');
    until_true(sub { pull('llm/sign', 'v1')->{status} == 200 });
    served('llm/sign', 'v1', $digest, 'signed through the edge');

    ($m, $digest) = image('bsign');
    my $referrer = $key{ed}->attach_bundle('llm/bsign', $digest, length $m,
        port => $t->{edge}, h => as('dev'));
    ($tag = $digest) =~ s/:/-/;
    is(pull('llm/bsign', $tag)->{status}, 200, 'nor does a list of them');
    is(pull('llm/bsign', $t->digest($referrer))->{status}, 200,
        'nor does a bundle');
    served('llm/bsign', 'v1', $digest, 'a bundle through the edge');
}

# the same manifest, in a project that has other keys

my $same;
{
    (my $m, $same) = image('same');
    $key{ec}->attach('llm/same', $same);
    $t->push_artifact('alt/same', 'v1', 'layer ' . ($i - 1));
    served('llm/same', 'v1', $same, 'one project');
    refused('alt/same', 'v1', $same, 'another one, with other keys');
    $key{late}->attach_bundle('alt/same', $same, length $m);
    until_true(sub { pull('alt/same', 'v1')->{status} == 200 });
    served('alt/same', 'v1', $same, 'another one, signed there');
}

# only logged

{
    my (undef, $digest) = $t->push_artifact('dry/x', 'v1', 'dry');
    is(pull('dry/x', 'v1')->{status}, 200, 'dry_run');
    like($t->read_file('error.log'),
        qr/would refuse "v1" of "dry\/x" by "signature"/,
        'dry_run: logged');
    is(pull('dryapi/x', 'broken')->{status}, 200,
        'dry_run, the registry fails');
}

# what is kept proves itself

my %of = map { $_ => $t->digest(pull("llm/$_", 'v1')->{body}) } qw/ ec rsa ed
    bed two /;

$of{index2} = $t->digest(pull('llm/index2', 'all')->{body});
$of{child2} = $t->digest(pull('llm/index2', 'child')->{body});

sub kept {
    my ($hex) = $of{$_[0]} =~ /:(.*)/;
    return "$d/cache/manifests/" . substr($hex, 0, 2) . "/$hex.kept";
}

sub slurp { open my $f, '<', $_[0] or return ''; local $/; return <$f> }

sub spill {
    my ($name, $text) = @_;
    open my $f, '>', kept($name) or die $!;
    print $f $text;
    close $f;
}

until_true(sub { -s kept('bed') });
is(join(' ', map { -s kept($_) ? $_ : () } sort keys %of),
    'bed ec ed index2 rsa two', 'evidence is kept');
is((stat kept('ec'))[2] & 0777, 0600, 'for nginx only');

spill('rsa', slurp(kept('ec')));
spill('ed', substr slurp(kept('ed')), 0, 300);
$t->stop_one('nginx');
$t->start();
is(pull('llm/rsa', $of{rsa})->{status}, 200,
    'what is kept of another one: looked for again');
is(pull('llm/ed', $of{ed})->{status}, 200,
    'what is kept is damaged: looked for again');
until_true(sub { slurp(kept('rsa')) =~ $of{rsa} });
like(slurp(kept('rsa')), qr/$of{rsa}/, 'and kept again');

is($t->http($t->{edge}, 'PURGE', "/purge/v2/llm/rsa/manifests/$of{rsa}")
    ->{status}, 200, 'a purge');
ok(!-e kept('rsa'), 'and what was kept has gone');

# without the registry

$t->stop_one('registry');

is(pull('llm/ec', $of{ec})->{status}, 200, 'the registry is down');

spill('two', slurp(kept('ec')));
$t->stop_one('nginx');
$t->start();

is(pull('llm/ec', $of{ec})->{status}, 200,
    'the registry is down, after a restart');
is(pull('llm/bed', $of{bed})->{status}, 200,
    'the registry is down, after a restart: a bundle');
is(pull('llm/index2', $of{index2})->{status}, 200,
    'the registry is down, after a restart: an index');
is(pull('llm/index2', $of{child2})->{status}, 200,
    'the registry is down, after a restart: a child of it');
is(pull("$_/same", $same)->{status}, 200,
    "the registry is down, after a restart: with the keys of $_")
    for qw/ llm alt /;
is(pull('llm/two', $of{two})->{status}, 503,
    'the registry is down, what is kept is of another one');

Policy::write_doc($t, document(qw/ rsa ed /));
until_true(sub { pull('llm/ec', $of{ec})->{status} != 200 });
is(pull('llm/ec', $of{ec})->{status}, 503,
    'the registry is down, the key is not trusted any more');
is(pull('llm/bed', $of{bed})->{status}, 200, 'another one still is');

Policy::write_doc($t, document(qw/ ec /));
until_true(sub { pull('llm/ec', $of{ec})->{status} == 200 });
is(pull('llm/ec', $of{ec})->{status}, 200, 'the key is trusted again');

unlike($t->read_file('error.log'), qr/canary/, 'no secret in the log');

$t->allow(qr/can't be had|is down|connect\(\) failed|upstream/);
$t->done();
