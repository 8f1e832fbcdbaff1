#!/usr/bin/perl

# Rules of projects: manifests by their types and by what names say, and what
# follows for their blobs.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

my $t = OCI->new(workers => 3);
my $d = $t->{dir};
my $registry = $t->registry();

my $MODEL = 'application/vnd.cncf.model.manifest.v1+json';
my $CONFIG = 'application/vnd.cncf.model.config.v1+json';
my $RAW = 'application/vnd.cncf.model.weight.v1.raw';
my $json = JSON::PP->new->canonical;
my $true = JSON::PP::true;

my %secret = (bob => 'bob-secret', dev => 'dev-secret');
my $doc = {
    version => 1,
    subjects => { map { $_ => { secret => Policy::phc($secret{$_}) } }
        keys %secret },
    grants => {
        g => { role => 'guest', subjects => ['bob'],
            repositories => ['**'] },
        d => { role => 'developer', subjects => ['dev'],
            repositories => ['**'] },
    },
    projects => {
        types => { rules => {
            artifact_types => { allow => [$MODEL] },
            media_types => { allow => ['application/vnd.oci.*',
                'application/vnd.cncf.model.*'],
                refuse => ['*.dataset.*'] },
            exempt => { repositories => ['types/free/**'] },
        } },
        dry => { rules => {
            artifact_types => { allow => [$MODEL], dry_run => $true } } },
        names => { rules => { formats => { refuse => ['pickle'],
            unknown => 'allow' } } },
        strict => { rules => { formats => { allow => ['safetensors'] } } },
        tags => { rules => { immutable => { tags => ['v*'] } } },
        none => {},
    },
};

Policy::write_doc($t, $doc);

my ($bare, $dry) = map { OCI::port() } 1 .. 2;

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$registry; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic;
}
log_format oci '\$request_method \$uri \$status \$oci_decision '
    '\$oci_policy_rule';
server {
    listen 127.0.0.1:$dry;
    location /v2/ {
        oci_pass demo; oci_cache models; oci_access dry_run team;
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
    my ($user, %h) = @_;
    return { Policy::basic($user, $secret{$user}),
        Accept => join(', ', values %OCI::TYPE), %h };
}

my %pushed;

sub push_blob {
    my ($repo, $text) = @_;
    return $pushed{"$repo $text"} //= $t->push_blob($repo, $text);
}

# a manifest of these layers: [text, media type, annotations]; its digest

sub push_it {
    my ($repo, $tag, $layers, %o) = @_;
    my $config = $o{config} // '{}';
    my $m = { schemaVersion => 2, mediaType => $OCI::TYPE{manifest},
        config => { mediaType => $o{config_type} // $CONFIG,
            digest => push_blob($repo, $config),
            size => length $config },
        layers => [map { { mediaType => $_->[1] // $RAW,
            digest => push_blob($repo, $_->[0]),
            size => length $_->[0],
            $_->[2] ? (annotations => $_->[2]) : () } } @$layers],
        exists $o{type} ? () : (artifactType => $MODEL) };
    $m->{artifactType} = $o{type} if $o{type};
    $m = $json->encode($m);
    $m = $o{edit}->($m) if $o{edit};
    return $t->push_manifest($repo, $tag, $m);
}

# status, and what it is refused for

sub pull {
    my ($repo, $ref, $user) = @_;
    my $r = $t->get("/v2/$repo/manifests/$ref", as($user // 'bob'));
    return $r->{status} if $r->{status} != 412;
    my $e = $json->decode($r->{body})->{errors}[0];
    return "412 $e->{code} $e->{message}";
}

my $V = '412 PROJECTPOLICYVIOLATION';

# types

my %d;
$d{good} = push_it('types/a', 'good', [['x']]);
$d{image} = push_it('types/a', 'image', [['x']], type => undef,
    config_type => 'application/vnd.oci.image.config.v1+json');
$d{data} = push_it('types/a', 'data', [['y',
    'application/vnd.cncf.model.dataset.v1.raw']]);
$d{other} = push_it('types/a', 'other', [['z', 'text/plain']]);

is(pull('types/a', 'good'), 200, 'a good one');
is(pull('types/a', $d{good}), 200, 'by digest');
like(pull('types/a', 'image'), qr/^$V artifact type "application\/vnd\.oci/,
    'another artifact type, of the config');
like(pull('types/a', $d{image}), qr/^$V artifact type/, 'by digest');
like(pull('types/a', 'data'), qr/^$V media type ".*dataset.* is not allowed/,
    'a media type that is refused');
like(pull('types/a', 'other'), qr/^$V media type "text\/plain" is not/,
    'one that is not allowed');
is($t->head("/v2/types/a/manifests/image", as('bob'))->{status}, 412,
    'HEAD is judged, too');
is($t->head("/v2/types/a/manifests/$d{good}", as('bob'))->{status}, 200,
    'HEAD of a good one');
is(pull('types/a', 'image', 'dev'), 200, 'who may push may have it');
is(pull('types/a', 'absent'), 404, 'what is not there is not there');

OCI::until_true(sub { $t->read_file('oci.log')
    =~ m!^GET \S+/image 412 deny projects/types/artifact_types$!m });
my $by = '"projects/types/artifact_types": artifact type';
like($t->read_file('error.log'), qr!refused "image" of "types/a" by $by!,
    'logged');

# on every worker, as remembered

my %s = $t->to_workers();

for my $pid (sort keys %s) {
    for my $c (['image', 412], ['good', 200]) {
        $t->send_request($s{$pid}, 'GET', "/v2/types/a/manifests/$c->[0]",
            as('bob'));
        my $r = $t->read_header($s{$pid});
        $t->read_body($s{$pid}, $r, 'GET');
        is($r->{status}, $c->[1], "$c->[0] on worker $pid");
    }
}

push_it('types/free/a', 'image', [['x']], type => 'text/x');
is(pull('types/free/a', 'image'), 200, 'an exempt repository');
push_it('none/a', 'image', [['x']], type => 'text/x');
is(pull('none/a', 'image'), 200, 'a project without rules');

# an index: its own type, if it has one; its manifests are judged themselves

my $index = $json->encode({ schemaVersion => 2, mediaType => $OCI::TYPE{index},
    manifests => [map { { mediaType => $OCI::TYPE{manifest},
        digest => $d{$_}, size => 1 } } qw/ good image /] });
$t->push_manifest('types/a', 'index', $index, $OCI::TYPE{index});
is(pull('types/a', 'index'), 200, 'an index');
like(pull('types/a', $d{image}), qr/^$V/, 'what it lists');

# a blob that only refused ones name

my $own = 'only in data ' x 10;
push_it('types/b', 'data', [['shared'], [$own,
    'application/vnd.cncf.model.dataset.v1.raw']]);
push_it('types/b', 'good', [['shared']]);
sub blob {
    my ($repo, $text, $user) = @_;
    return $t->get("/v2/$repo/blobs/" . $t->digest($text),
        as($user // 'bob'))->{status};
}
like(pull('types/b', 'data'), qr/^$V/, 'a manifest that is refused');
is(blob('types/b', $own), 412, 'so is what only it names');
is(blob('types/b', 'shared'), 412, 'and what is not known to be in others');
is(pull('types/b', 'good'), 200, 'another one');
is(blob('types/b', 'shared'), 200, 'and what both name');
is(blob('types/b', $own), 412, 'the first one stays refused');
is(blob('types/b', $own, 'dev'), 200, 'not to who may push');

# nor a manifest as a blob, which some registries have it as

for my $name (qw/ image good /) {
    my $m = $t->get("/v2/types/a/manifests/$d{$name}", as('dev'));
    $t->push_blob('types/a', $m->{body});
}

pull('types/a', 'image');
is($t->get("/v2/types/a/blobs/$d{image}", as('bob'))->{status}, 412,
    'a manifest that is refused, as a blob');
is($t->get("/v2/types/a/blobs/$d{good}", as('bob'))->{status}, 200,
    'one that is not');

# dry run

push_it('dry/a', 'image', [['x']], type => 'text/x');
is(pull('dry/a', 'image'), 200, 'a dry run');
is(pull('dry/a', 'image'), 200, 'again');
OCI::until_true(sub { 2 == (() = $t->read_file('error.log')
    =~ /would refuse "image" of "dry\/a" by "artifact_types": artifact/g) });
pass('is logged each time');

# names

sub named { return [$_[1] // 'x', $RAW, { $_[2]
    // 'org.cncf.model.filepath' => $_[0] }] }

for my $c (
    ['model.safetensors', 200], ['model.gguf', 200], ['README.md', 200],
    ['model.pt', 412], ['a/b/model.PKL', 412], ['pytorch_model.bin', 412],
    ['model.pt.', 412], ['model.ckpt ', 412], ['x.joblib', 412],
    ['x.llamafile', 412], ['x.keras', 412],
    ['model.pt', 412, 'org.opencontainers.image.title'],
    ['model.pt', 412, 'org.cnai.model.filepath'],
    ['{"name":"model.pt"}', 412, 'org.cncf.model.file.metadata+json'],
) {
    my ($name, $status, $annotation) = @$c;
    push_it('names/a', 'x', [named($name, 'x', $annotation)]);
    my $got = pull('names/a', 'x');
    is($got =~ s/ .*//sr, $status, "\"$name\"") or diag($got);
}

push_it('names/a', 'x', [named('model.pt')]);
like(pull('names/a', 'x'), qr/^$V "model\.pt" is pickle, which is not allowed/,
    'why');
push_it('names/a', 'x', [['x', 'application/x-pytorch']]);
like(pull('names/a', 'x'), qr/^$V "application\/x-pytorch" is pickle/,
    'a media type');

push_it('strict/a', 'x', [named('model.safetensors')]);
is(pull('strict/a', 'x'), 200, 'a format that is allowed');
push_it('strict/a', 'x', [named('model.gguf')]);
like(pull('strict/a', 'x'), qr/^$V "model.gguf" is gguf, which is not/,
    'one that is not');
push_it('strict/a', 'x', [['x',
    'application/vnd.cncf.model.doc.v1.tar+gzip']]);
like(pull('strict/a', 'x'), qr/^$V "\S+" can't be looked into/,
    'what is compressed');

# what clients read in different ways

for my $e (
    ['a name twice', '"layers":', '"layers":[],"layers":'],
    ['other letters', '"layers":', '"Layers":'],
    ['other letters within', '"layers":[{', '"layers":[{"Urls":[],'],
    ['an index as well', '"layers":', '"manifests":[],"layers":'],
    ['elsewhere', '"layers":[{', '"layers":[{"urls":["http://localhost/x"],',
        'strict/a'],
    ['within', '"layers":[{', '"layers":[{"data":"' . 'A' x 100 . '",',
        'strict/a'],
) {
    my ($what, $from, $to, $repo) = @$e;
    my $edit = sub { $_[0] =~ s/\Q$from\E/$to/r };
    $repo //= 'names/a';
    my $digest = eval { push_it($repo, 'x', [named('model.safetensors')],
        edit => $edit) };
    SKIP: {
        skip "the registry refuses it: $what", 1 unless $digest;
        like(pull($repo, 'x'), qr/^$V/, $what);
    }
}

# large ones are read in a thread

push_it('names/a', 'large', [map { named("model-$_.safetensors", 'x') }
    1 .. 400]);
is(pull('names/a', 'large'), 200, 'a large manifest');
push_it('names/a', 'large', [(map { named("model-$_.safetensors", 'x') }
    1 .. 400), named('model.pt')]);
like(pull('names/a', 'large'), qr/^$V "model\.pt" is pickle/,
    'a large one that is refused');

# a tag that moves

push_it('tags/a', 'v1', [['one']]);
is(pull('tags/a', 'v1'), 200, 'a tag');
push_it('tags/a', 'v1', [['two']]);
is(pull('tags/a', 'v1'), 200, 'that moved');
push_it('tags/a', 'latest', [['one']]);
pull('tags/a', 'latest');
push_it('tags/a', 'latest', [['two']]);
is(pull('tags/a', 'latest'), 200, 'one that may move');
OCI::until_true(sub { $t->read_file('error.log') =~ /tag\s"v1"\sof\s"tags\/a"
    \smoved\sfrom\s"sha256:\w+"\sto\s"sha256:\w+"\sat\sthe\sregistry/x });
unlike($t->read_file('error.log'), qr/tag "latest" of/, 'is not reported');

# without a cache

for my $c (["/v2/types/a/manifests/good", 412],
    ["/v2/none/a/manifests/image", 200])
{
    my $r = $t->http($bare, 'GET', $c->[0], as('bob'));
    is($r->{status}, $c->[1], "$c->[0] without a cache");
    is($r->{body}, '{"errors":[{"code":"PROJECTPOLICYVIOLATION",'
        . '"message":"what it is can\'t be seen here"}]}' . "\r\n",
        'as Harbor says it') if $c->[1] == 412;
}
is($t->http($bare, 'GET', '/v2/types/a/manifests/absent',
    as('bob'))->{status}, 404, 'the registry\'s own errors');
is($t->http($bare, 'GET', '/v2/types/a/manifests/good',
    as('dev'))->{status}, 200, 'and who may push');
OCI::until_true(sub { $t->read_file('error.log') =~ m!refused\s"good"\sof
    \s"types/a"\spast\sa\scache:\swhat\sit\sis\scan't\sbe\sseen!x });

# "oci_access dry_run" judges nothing

is($t->http($dry, 'GET', "/v2/types/a/manifests/$d{image}",
    as('bob'))->{status}, 200, 'what is refused, in a dry run');

# other rules, other verdicts

$doc->{projects}{types}{rules}{artifact_types}{allow} = ['*'];
Policy::write_doc($t, $doc);
OCI::until_true(sub { pull('types/a', 'image') eq '200' });
pass('a document with other rules');

$t->done();
