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
use Harbor;
use HarborCore;
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $type = 'application/vnd.oci.image.manifest.v1+json';

my $core = HarborCore->new($t);
my $port = $core->start();

sub put { return $core->put(@_) }
sub push_model { return $core->push_model(@_) }
sub remove { return $core->remove(@_) }

$t->write_file('secret', "Bearer canary-new\nBearer canary-old\n", 0600);
$t->write_file('named', "canary-key\n", 0600);

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


my $harbor = Harbor->new($t);

sub hook {
    my ($body, %o) = @_;
    my $r = $harbor->go($o{method} // 'POST', $o{uri} // '/hook', {
        'Content-Type' => $o{cloud} ? 'application/cloudevents+json'
            : 'application/json',
        Authorization => $o{secret} // 'Bearer canary-new' },
        ref $body ? Harbor::go_json($body) : $body);
    return $r->{status};
}

sub event { return HarborEvent::event(@_) }
sub repository { return HarborEvent::repository(@_) }
sub artifact { return HarborEvent::artifact(@_) }
sub cloud { return HarborEvent::cloud(@_) }

my $accept = { Accept => $type };

sub tag {
    my ($repo, $ref) = @_;
    my $r = $t->get("/v2/$repo/manifests/$ref", $accept);
    return $r->{status} == 200 ? $r->{body} : $r->{status};
}


sub there {
    my (@name) = @_;
    return $core->settled(sub { tag(@name) });
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
    ['deleted, a cloud event', cloud(artifact('DELETE_ARTIFACT', 'llm/a',
        'v1', $one_digest))],
    ['scanned', HarborEvent::scan('SCANNING_COMPLETED', 'llm/a', 'v1',
        $one_digest)],
    ['retention', HarborEvent::retention('llm', 'a:v1')],
    ['retention, a cloud event', cloud(HarborEvent::retention('llm',
        "a\@$one_digest"))],
    ['replication', HarborEvent::replication('Success', 'other', 'llm', 'a',
        'v1')],
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
my $r = $t->get('/included.html', { Authorization => 'Bearer canary-new' });
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

for my $secret ('', 'Bearer', 'Bearer canary-ne', 'Bearer canary-new2',
    'bearer canary-new',
    'Basic bmV3')
{
    is(hook(artifact('DELETE_ARTIFACT', 'llm/a', 'v1', $one_digest),
        secret => $secret), 401, "not \"$secret\"");
}

# in a header of another name, once

for (['X-Key: canary-key', 422], ['x-kEY: canary-key', 422],
    ['X-Key: canary-ke', 401],
    ["X-Key: canary-key\r\nX-Key: canary-key", 401],
    ['X-Keys: canary-key', 401],
    ['Authorization: canary-key', 401])
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
    secret => 'Bearer canary-old'), 200, 'the secret before');
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

is(hook(cloud(artifact('PUSH_ARTIFACT', 'llm/model',
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
            : 'Bearer canary-new');
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
