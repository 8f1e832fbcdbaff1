#!/usr/bin/perl

# S11: confusion of media types.  A document that may be read as two things
# (manifests and layers, a mediaType that is not the Content-Type) goes through
# byte for byte, with the type that the registry gave it for that repository
# and reference, cold, warm and after another one's was seen; another registry
# or repository that says another type for the same digest changes nobody
# else's; a type that the registry changes is asked for and seen once it is
# revalidated; nobody is sent a type that he doesn't accept from the cache.
#
# The edge doesn't read manifests: which of two meanings counts is the
# client's to refuse.  See also manifest.t, body.t.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $x = 'sha256:' . 'b' x 64;
my $both = qq({"schemaVersion":2,"mediaType":"$OCI::TYPE{index}",)
    . qq("manifests":[{"mediaType":"$OCI::TYPE{manifest}","digest":"$x",)
    . qq("size":7}],"config":{"digest":"$x","size":7},)
    . qq("layers":[{"digest":"$x","size":7}]}\n );
my $digest = $t->digest($both);

my %type = (one => $OCI::TYPE{manifest}, two => $OCI::TYPE{index},
    odd => 'application/vnd.docker.distribution.manifest.v1+prettyjws');

my $registry = sub {
    my ($shift) = @_;
    return sub {
        my ($c, $q) = @_;
        my ($repo) = $q->{uri} =~ m!^/v2/(\w+)/manifests/!;
        my $type = $type{$repo};
        $type = $OCI::TYPE{docker} if $shift;
        $type = $OCI::TYPE{docker} if $repo eq 'one' && -e "$t->{dir}/changed";
        return $t->reply($c, $q, 200, { 'Content-Type' => $type,
            'Docker-Content-Digest' => $digest }, $both);
    };
};

my ($a, $b) = ($t->upstream($registry->(0)), $t->upstream($registry->(1)));

$t->conf(http => <<EOC, location => <<EOL);
oci_registry a { url http://127.0.0.1:$a; }
oci_registry b { url http://127.0.0.1:$b; }
map \$arg_ns \$registry { b b; default a; }
oci_cache_valid manifest 0;
EOC
location /v2/ { oci_pass \$registry; oci_cache models; }
location /v2/odd/ {
    oci_pass \$registry;
    oci_cache models;
    oci_cache_valid tag 1h;
    oci_cache_valid manifest 1h;
}
EOL
$t->start();

for my $round (1 .. 4) {
    for my $repo (qw/ one two odd /) {
        for my $ref ('x', $digest) {
            for my $ns ('', '?ns=b') {
                my $r = $t->get("/v2/$repo/manifests/$ref$ns");
                my $name = "$round, $repo$ns, " . substr $ref, 0, 6;
                is($r->{h}{'content-type'}, $ns ? $OCI::TYPE{docker}
                    : $type{$repo}, "$name: its own type");
                ok($r->{body} eq $both, "$name: byte for byte");
                is($r->{h}{'docker-content-digest'}, $digest,
                    "$name: the digest");
                is(scalar(grep { lc $_->[0] eq 'content-type' }
                    @{$r->{list}}), 1, "$name: one type");
                my $h = $t->head("/v2/$repo/manifests/$ref$ns");
                is($h->{h}{'content-type'}, $r->{h}{'content-type'},
                    "$name: HEAD says the same");
            }
        }
    }
}

# changed at the registry between two pulls of the same digest

$t->write_file('changed', '');
for my $ref ('x', $digest) {
    for (1, 2) {
        my $r = $t->get("/v2/one/manifests/$ref");
        is($r->{h}{'content-type'}, $OCI::TYPE{docker},
            'a type that changed is seen');
        ok($r->{body} eq $both, 'the bytes are the same');
    }
    is($t->get("/v2/two/manifests/$ref")->{h}{'content-type'}, $type{two},
        'and is nobody else\'s');
}

# stale answers are of what was stored

$t->stop_one('upstream0');
my $r = $t->get("/v2/two/manifests/$digest");
is($r->{h}{'content-type'}, $type{two}, 'stale: the type that was stored');
ok($r->{body} eq $both, 'stale: the bytes');
is($t->get('/v2/two/manifests/x')->{h}{'content-type'}, $type{two},
    'stale: a tag');
$r = $t->get('/v2/two/manifests/x', { Accept => $type{one} });
ok($r->{status} != 200 || $r->{h}{'content-type'} eq $type{one},
    'stale: not to who does not accept it') or diag($r->{status});

$t->done();
