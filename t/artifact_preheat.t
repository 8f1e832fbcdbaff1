#!/usr/bin/perl

# What the edge pulls by itself is not judged: nobody sees it.  It is judged
# when a client asks for it.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $registry = $t->registry();

my $pickle = "\x80\4\x95\x14\0\0\0\0\0\0\0\x8c\2os\x8c\6system\x93\x8c\2id"
    . "\x85R.";
my %art;

for my $name (qw/ good pickle bad /) {
    my $blob = ($name eq 'pickle' ? $pickle : pack('Q<', 2) . '{}')
        . $t->random_blob(200_000);
    my ($manifest, $digest) = $t->push_artifact("llm/$name", 'v1', $blob);
    $art{$name} = { digest => $digest, blob => $t->digest($blob) };
}

Policy::write_doc($t, {
    version => 1,
    subjects => { bob => { secret => Policy::phc('bob-secret') } },
    grants => { g => { role => 'guest', subjects => ['bob'],
        repositories => ['llm/**'] } },
    projects => { llm => { rules => { media_types => {
        refuse => ['*.pickle.*'] }, formats => { refuse => ['pickle'],
        allow => ['safetensors'], unknown => 'allow' } } } },
    quarantine => { map { $_ => { reason => 'malware' } }
        $art{bad}{digest}, $art{bad}{blob} },
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$registry; credentials anonymous; }
oci_policy team { source file:$d/policy.json; zone team:1m; identity basic; }
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
location /p2p/ { oci_preheat registry=demo open; }
EOL
$t->start();


sub preheat {
    my ($ref) = @_;
    my ($r, $job);

    $r = $t->http($t->{edge}, 'POST', '/p2p/jobs',
        { 'Content-Type' => 'application/json' },
        encode_json({ ref => $ref }));
    is($r->{status}, 202, "$ref: taken");
    my $id = decode_json($r->{body})->{id};

    until_true(60, sub {
        $job = decode_json($t->get("/p2p/jobs/$id")->{body});
        return $job->{state} !~ /pending|running/;
    });

    return $job;
}


sub as_bob {
    return { Policy::basic('bob', 'bob-secret'),
        Accept => $OCI::TYPE{manifest} };
}


for my $name (sort keys %art) {
    my $job = preheat("llm/$name:v1");
    is($job->{state}, 'success', "$name: preheated") or diag(explain($job));
}

my $mark = $t->upstream_bytes();

my $r = $t->get("/v2/llm/good/blobs/$art{good}{blob}", as_bob());
is($r->{status}, 200, 'good: pulled');
is($t->digest($r->{body}), $art{good}{blob}, 'good: the bytes');

for my $name (qw/ pickle bad /) {
    $r = $t->get("/v2/llm/$name/blobs/$art{$name}{blob}", as_bob());
    is($r->{status}, 412, "$name: not the client's");
}

$r = $t->get('/v2/llm/bad/manifests/v1', as_bob());
is($r->{status}, 412, 'bad: nor its manifest');
like($r->{body}, qr/malware/, 'bad: why');

is($t->upstream_bytes(), $mark, 'all was there');

unlike($t->read_file('error.log'), qr/\[(alert|emerg)\]|exited on signal/,
    'nobody died');

$t->done();
