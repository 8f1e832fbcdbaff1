#!/usr/bin/perl

# oci_webhook: Harbor's events, in both of its formats.  None of them is
# believed: for what one names the registry is asked.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use List::Util qw/ shuffle /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $type = 'application/vnd.oci.image.manifest.v1+json';

# a registry whose tags are files: what isn't there is 404

mkdir "$d/tags" or die $!;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    my ($repo, $what, $ref) = $q->{uri} =~ m!^/v2/(.+)/(\w+)/([^/]+)$!
        or return $t->reply($c, $q, 404, {}, '{}');
    my $file = "$d/tags/" . ($repo =~ s!/!_!gr) . "_$ref";
    return $t->reply($c, $q, 404, {}, '{}') if !-e $file;
    my $body = $t->read_file("tags/" . basename($file));
    return $t->reply_blob($c, $q, $body) if $what eq 'blobs';
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $t->digest($body) }, $body);
}, quiet => 1);

sub basename { return $_[0] =~ s!.*/!!r }

sub put {
    my ($repo, $ref, $body) = @_;
    $t->write_file('tags/new', $body);
    rename "$d/tags/new", "$d/tags/" . ($repo =~ s!/!_!gr) . "_$ref"
        or die $!;
}

sub push_model {
    my ($repo, $tag, $layer) = @_;
    my $m = encode_json({ schemaVersion => 2, mediaType => $type, layers => [{
        mediaType => 'application/x', digest => $t->digest($layer),
        size => length $layer }] });
    put($repo, $t->digest($layer), $layer);
    put($repo, $t->digest($m), $m);
    put($repo, $tag, $m) if defined $tag;
    return ($m, $t->digest($m));
}

sub remove {
    my ($repo, @refs) = @_;
    unlink map { "$d/tags/" . ($repo =~ s!/!_!gr) . "_$_" } @refs;
}

$t->write_file('secret', "Bearer new\nBearer old\n", 0600);
$t->write_file('named', "key\n", 0600);

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$port; credentials anonymous;
    path mirror llm;
}
oci_cache_valid tag 1h;
oci_cache_valid manifest 1h;
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location = /hook { oci_webhook registry=demo secret=$d/secret; }
location = /mirrored { mirror /hook; mirror_request_body off; root $d; }
location = /included.html { ssi on; root $d; }
location = /status { oci_status; }
location = /named { oci_webhook registry=demo secret=$d/named header=X-Key; }
location = /cold { oci_webhook registry=demo secret=$d/secret warm=off; }
EOL
$t->start();


sub hook {
    my ($body, %o) = @_;
    my $r = $t->http($t->{edge}, $o{method} // 'POST', $o{uri} // '/hook', {
        'Content-Type' => $o{cloud} ? 'application/cloudevents+json'
            : 'application/json',
        Authorization => $o{secret} // 'Bearer new' },
        ref $body ? encode_json($body) : $body);
    return $r->{status};
}

sub event {
    my ($type, %data) = @_;
    return { type => $type, occur_at => 1755756000, operator => 'admin',
        event_data => \%data };
}

sub repository {
    my ($name) = @_;
    my ($ns, $rest) = $name =~ m!^([^/]+)/(.+)$!;
    return { date_created => 1677053165, name => $rest, namespace => $ns,
        repo_full_name => $name, repo_type => 'private' };
}

sub artifact {
    my ($type, $repo, $tag, $digest) = @_;
    return event($type, resources => [{ digest => $digest, tag => $tag,
        resource_url => "harbor.example/$repo:$tag" }],
        repository => repository($repo));
}

sub cloud {
    my ($type, $event) = @_;
    return { specversion => '1.0', id => 'f0f0', source =>
        '/projects/1/webhook/policies/1', type => "harbor.$type",
        time => '2026-08-21T05:58:10Z', datacontenttype =>
        'application/json', operator => 'admin',
        data => $event->{event_data} };
}

my $accept = { Accept => $type };

sub tag {
    my ($repo, $ref) = @_;
    my $r = $t->get("/v2/$repo/manifests/$ref", $accept);
    return $r->{status} == 200 ? $r->{body} : $r->{status};
}


# files of what was taken back go a moment later, be they new or old: three
# pulls in a row that ask the registry for nothing

sub there {
    my ($repo, $ref) = @_;
    my ($n, $body) = (0);
    until_true(30, sub {
        my $mark = $t->upstream_bytes();
        $body = tag($repo, $ref);
        $n = $t->upstream_bytes() == $mark ? $n + 1 : 0;
        sleep 0.1;
        return $n == 3;
    });
    return $body;
}


# of many names all of their repository is taken back

for my $tag ('zz', 'yy') {
    push_model('llm/many', $tag, $t->random_blob(1000));
    there('llm/many', $tag);
}
my $mark = $t->upstream_bytes();
hook(event('DELETE_ARTIFACT', repository => repository('llm/many'),
    resources => [map { { tag => "t$_" } } 1 .. 30]));
tag('llm/many', 'zz');
is($t->upstream_bytes(), $mark, 'some names: only these');
is(hook(event('DELETE_ARTIFACT', repository => repository('llm/many'),
    resources => [map { { tag => "t$_" } } 1 .. 3000])), 200, 'many names');
for my $tag ('zz', 'yy') {
    tag('llm/many', $tag);
    isnt($t->upstream_bytes(), $mark, "many names: $tag is asked for");
    $mark = $t->upstream_bytes();
}

# a tag that went is served for as long as it may be, or until the event

my ($one, $one_digest) = push_model('llm/a', 'v1', $t->random_blob(50000));

for my $how (
    ['deleted', artifact('DELETE_ARTIFACT', 'llm/a', 'v1', $one_digest)],
    ['deleted, by digest', artifact('DELETE_ARTIFACT', 'llm/a',
        $one_digest, $one_digest)],
    ['deleted, a cloud event', cloud('artifact.deleted',
        artifact('DELETE_ARTIFACT', 'llm/a', 'v1', $one_digest))],
    ['scanned', artifact('SCANNING_COMPLETED', 'llm/a', 'v1', $one_digest)],
    ['retention', event('TAG_RETENTION', retention => { total => 5,
        project_name => 'llm', result => 'SUCCESS', deleted_artifact => [
            { type => 'image', status => 'SUCCESS', name_tag => 'a:v1',
                references => undef }] })],
    ['retention, a cloud event', cloud('tag_retention.finished',
        event('TAG_RETENTION', retention => { project_name => 'llm',
        deleted_artifact => [{ name_tag => "a\@$one_digest" }] }))],
    ['replication', event('REPLICATION', replication => {
        job_status => 'Success', src_resource => { registry_type => 'harbor',
            endpoint => 'https://harbor.example', namespace => 'other' },
        dest_resource => { registry_type => 'harbor', endpoint => 'x',
            namespace => 'llm' },
        successful_artifact => [{ type => 'image', status => 'Success',
            name_tag => 'a [1 item(s) in total]',
            references => ['v1'] }] })],
) {
    my ($name, $event) = @$how;

    put('llm/a', 'v1', $one);
    put('llm/a', $one_digest, $one);
    is(hook(artifact('DELETE_ARTIFACT', 'llm/a', 'v1', $one_digest)), 200,
        "$name: from the beginning");
    is(there('llm/a', 'v1'), $one, "$name: there");
    remove('llm/a', 'v1', $one_digest);
    is(tag('llm/a', 'v1'), $one, "$name: is served on");
    is(hook($event, cloud => $event->{specversion}), 200, "$name: told");
    is(tag('llm/a', 'v1'), 404, "$name: gone");
}

# a subrequest has no body, or the end of the response is not its own

my @workers = sort { $a <=> $b } $t->workers();
is(hook(event('x'), uri => '/mirrored'), 404, 'a copy of a request');
$t->write_file('included.html',
    'begin <!--# include virtual="/hook" --> <!--# include virtual="/v2/" -->'
    . ' <!--# include virtual="/status" --> end');
my $r = $t->get('/included.html', { Authorization => 'Bearer new' });
like($r->{body}, qr/^begin .*no such method.*"upstream_bytes".* end$/s,
    'what is included is not the end');
is_deeply([ sort { $a <=> $b } $t->workers() ], \@workers,
    'and harms nobody');

# what others make up, or can't read, changes nothing

put('llm/a', 'v1', $one);
put('llm/a', $one_digest, $one);
hook(artifact('DELETE_ARTIFACT', 'llm/a', 'v1', $one_digest));
is(there('llm/a', 'v1'), $one, 'there');
remove('llm/a', 'v1', $one_digest);

for my $secret ('', 'Bearer', 'Bearer ne', 'Bearer new2', 'bearer new',
    'Basic bmV3')
{
    is(hook(artifact('DELETE_ARTIFACT', 'llm/a', 'v1', $one_digest),
        secret => $secret), 401, "not \"$secret\"");
}

# in a header of another name, once

for (['X-Key: key', 422], ['x-kEY: key', 422], ['X-Key: ke', 401],
    ["X-Key: key\r\nX-Key: key", 401], ['X-Keys: key', 401],
    ['Authorization: key', 401])
{
    my ($lines, $status) = @$_;
    my $answer = $t->raw("POST /named HTTP/1.1\r\nHost: h\r\n"
        . "Connection: close\r\nContent-Length: 2\r\n$lines\r\n\r\n{}");
    like($answer, qr/^HTTP\/1\.1 $status /, $lines =~ s/\r\n/, /r);
}

is(hook('', method => 'GET'), 405, 'no such method');
is(hook(artifact('DELETE_ARTIFACT', 'llm/b', 'v1', $one_digest)), 200,
    'of another repository');

for my $body ('', '{', '[]', '{}', '1', '{"type":1}', '{"type":"a\u0000b"}') {
    is(hook($body), 422, "no event: $body");
}

for my $body (
    event('PULL_ARTIFACT', repository => repository('llm/a')),
    event('QUOTA_EXCEED', custom_attributes => { Details => 'x' }),
    event('QUOTA_WARNING'), event('SCANNING_FAILED'),
    event('SCANNING_STOPPED', resources => [1, {}, undef],
        repository => repository('llm/a')),
    event('DELETE_ARTIFACT', resources => {}, repository => []),
    event('REPLICATION', replication => { successful_artifact => [undef] }),
    event('REPLICATION', replication => 1), event('TAG_RETENTION'),
    event('TAG_RETENTION', retention => { project_name => '../..',
        deleted_artifact => [{ name_tag => 'a:v1' }, {}, 1] }),
    artifact('DELETE_ARTIFACT', 'llm/../a', 'v1', $one_digest),
    artifact('DELETE_ARTIFACT', 'llm/a', '../v1', 'sha256:x'),
    event('ANYTHING_ELSE'), { type => 'harbor.new.kind', specversion =>
        '1.0', data => { x => 1 } },
) {
    is(hook($body), 200, 'an event: ' . substr encode_json($body), 0, 60);
}

is(hook('{"type":"' . 'x' x 300000 . '"}'), 413, 'too large');
is(tag('llm/a', 'v1'), $one, 'nothing of that was it');

is(hook(artifact('DELETE_ARTIFACT', 'llm/a', 'v1', $one_digest),
    secret => 'Bearer old'), 200, 'the secret before');
is(tag('llm/a', 'v1'), 404, 'that was');

# what is pushed is there before it is asked for

my $layer = $t->random_blob(3_000_000);
my ($two, $two_digest) = push_model('llm/model', 'v2', $layer);

is(hook(artifact('PUSH_ARTIFACT', 'llm/model', 'v2', $two_digest)), 200,
    'pushed');
until_true(30, sub { $t->read_file('error.log') =~
    /preheat job \d+ is done: "v2" of "(?:mirror\/)?llm\/model"/ });

$mark = $t->upstream_bytes();
$r = $t->get('/v2/llm/model/blobs/' . $t->digest($layer));
is($t->digest($r->{body}), $t->digest($layer), 'pushed: the bytes');
is($t->upstream_bytes(), $mark, 'pushed: nothing from upstream');

# without a tag

my $three = $t->random_blob(100_000);
my (undef, $three_digest) = push_model('llm/model', undef, $three);

is(hook(cloud('artifact.pushed', artifact('PUSH_ARTIFACT', 'llm/model',
    $three_digest, $three_digest)), cloud => 1), 200, 'pushed, no tag');
until_true(30, sub { $t->read_file('error.log') =~
    /preheat job \d+ is done: "\Q$three_digest\E"/ });

is(hook(artifact('PUSH_ARTIFACT', 'llm/model', 'v2', $two_digest),
    uri => '/cold'), 200, 'not to be warmed');

# many at once: what is left is what the registry has

my $n = $t->times(150, 1000);
my %has;
my @took;

sub change {
    my $i = int rand 12;
    my ($repo, $tag) = ("llm/r" . $i % 4, "t$i");
    my $was = $has{"$repo:$tag"};
    if ($was && rand() < 0.3) {
        remove($repo, $tag, $t->digest($was));
        delete $has{"$repo:$tag"};
        return artifact('DELETE_ARTIFACT', $repo, $tag, $t->digest($was));
    }
    my ($m, $digest) = push_model($repo, $tag, "layer $i " . rand);
    $has{"$repo:$tag"} = $m;
    return artifact('PUSH_ARTIFACT', $repo, $tag, $digest);
}

my @events;

for (1 .. $n) {
    push @events, change();
    tag("llm/r" . int(rand 4), "t" . int rand 12) if rand() < 0.5;
    push @events, artifact('DELETE_ARTIFACT', 'llm/r1', 't1', 'sha256:'
        . '0' x 64) if rand() < 0.1;
    next if rand() < 0.5;
    for my $e (shuffle(splice(@events), rand() < 0.3 ? change() : ())) {
        my $begin = time();
        my $status = hook($e, secret => rand() < 0.05 ? 'Bearer forged'
            : 'Bearer new');
        push @took, time() - $begin;
        push @events, $e if $status != 200;
    }
}

hook($_) for shuffle(@events, map { artifact('DELETE_ARTIFACT',
    "llm/r" . $_ % 4, "t$_", 'sha256:' . '0' x 64) } 0 .. 11);

my @wrong = grep {
    my ($repo, $tag) = ("llm/r" . $_ % 4, "t$_");
    tag($repo, $tag) ne ($has{"$repo:$tag"} // 404);
} 0 .. 11;
is("@wrong", '', 'the end is the registry\'s');

@took = sort { $a <=> $b } @took;
diag(sprintf '%d events, p99 of the answer %.1f ms', scalar @took,
    1000 * $took[@took * 0.99]);

$t->done();
