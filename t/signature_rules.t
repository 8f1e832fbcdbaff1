#!/usr/bin/perl

# Required signatures, and rules that change or that refuse anyway.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Cosign;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my %key = map { $_ => Cosign->new($t, $_) } qw/ one two /;

# a registry; where signatures should be it may fail

my (%object, %type, %fails);
my $serial = 0;

sub object {
    my ($data, $type, $name) = @_;
    my $digest = $t->digest($data);
    for ($digest, $name // ()) {
        $object{$_} = $data;
        $type{$_} = $type;
    }
    return $digest;
}

sub artifact {
    my ($type) = @_;
    my $config = '{"n":' . $serial++ . '}';
    return Cosign::json({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, config => { size => length $config,
        mediaType => $type // 'application/vnd.oci.image.config.v1+json',
        digest => object($config, 'application/octet-stream') },
        layers => [] });
}

sub put { return object($_[0], decode_json($_[0])->{mediaType}) }

sub sign {
    my ($key, $digest) = @_;
    (my $tag = "$digest.sig") =~ s/:/-/;
    my $payload = Cosign::payload($digest);
    object($payload, 'application/octet-stream');
    object(Cosign::simple_manifest($t, '{}',
        [$payload, $key{$key}->sign($payload)]), $OCI::TYPE{manifest}, $tag);
}

# the same child in many indexes, each of which is signed

my $child = artifact();
my @index = map { my $digest = put(Cosign::list($t, undef, $child,
    artifact())); sign('one', $digest); $digest } 1 .. 5;
$child = put($child);

my $probe = put(artifact());
sign('two', $probe);

my $refused = put(artifact('text/x'));
my $asked = put(artifact());
for ($refused, $asked) {
    (my $tag = "$_.sig") =~ s/:/-/;
    $fails{$tag} = 1;
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($ref) = $q->{uri} =~ m!/(?:manifests|blobs)/([\w:.-]+)$!;
    return $t->reply($c, $q, 403, {}, '{"errors":[]}')
        if $ref && $fails{$ref};
    return $t->reply($c, $q, 404, {}, '{"errors":[]}')
        if !$ref || !exists $object{$ref};
    return $t->reply($c, $q, 200, { 'Content-Type' => $type{$ref} },
        $object{$ref});
}, quiet => 1);

sub rules {
    my (@keys) = @_;
    Policy::write_doc($t, {
        version => 1,
        subjects => { reader => { secret => Policy::phc('canary-secret') } },
        grants => { read => { role => 'guest', subjects => ['reader'],
            repositories => ['**'] } },
        projects => { llm => { rules => {
            media_types => { refuse => ['text/x'] },
            signature => { keys => [map { $key{$_}{pem} } @keys] } } } },
    });
}

rules('one');

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic;
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
EOL
$t->start();

sub pull {
    my ($digest) = @_;
    return $t->get("/v2/llm/x/manifests/$digest",
        { Policy::basic('reader', 'canary-secret'),
        Accept => "$OCI::TYPE{manifest}, $Cosign::INDEX" })->{status};
}

is(pull($_), 200, 'a signed index') for @index[0 .. 3];
is(pull($child), 200, 'a child of four of them');
is(pull($probe), 412, 'what another key signed');

# what the former rules have found is in the way of nothing

rules('one', 'two');
OCI::until_true(sub { pull($probe) == 200 });
is(pull($probe), 200, 'other rules');
is(pull($index[4]), 200, 'a fifth index, by those');
is(pull($child), 200, 'and its child');

# nobody has to know whether it is signed

is(pull($asked), 503, 'the registry does not tell whether it is signed');
is(pull($refused), 412, 'nor of what is refused anyway');

$t->done();
