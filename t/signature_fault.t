#!/usr/bin/perl

# Required signatures while memory fails in the worker, one allocation after
# the other: what is not signed is never served, what is signed may fail, and
# is served when there is memory again.  FAULTS=all tries all of them.
#
# And some time later: what was found to be signed still is.

use warnings;
use strict;

use Test::More;
use Errno qw/ ENOMEM /;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Cosign;
use Fault;

plan(skip_all => 'memory does not fail under a sanitizer') if $OCI::ASAN;

my $ALL = ($ENV{FAULTS} // '') =~ /all|signature/;
my $MAX = $ALL ? 800 : 240;
my $STEP = $ALL ? 1 : 14;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $fault = Fault->new($t);
my $key = Cosign->new($t, 'ec');

# a registry; every fourth manifest has a signature of each form, or none

my (%object, %type, @signed, @bare);
my $serial = 0;

sub object {
    my ($data, $name, $type) = @_;
    my $digest = $t->digest($data);
    for ($digest, $name // ()) {
        $object{$_} = $data;
        $type{$_} = $type // 'application/octet-stream';
    }
    return $digest;
}

sub artifact {
    my $config = '{"n":' . $serial++ . '}';
    my $m = Cosign::json({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, config => { size => length $config,
        mediaType => 'application/vnd.oci.image.config.v1+json',
        digest => object($config) }, layers => [] });
    return ($m, object($m, undef, $OCI::TYPE{manifest}));
}

for my $i (0 .. $MAX / $STEP) {
    push @bare, (artifact())[1];
    my ($m, $digest) = artifact();
    push @signed, $digest;
    (my $tag = $digest) =~ s/:/-/;
    if ($i % 2) {
        my $payload = Cosign::payload($digest);
        object($payload);
        object(Cosign::simple_manifest($t, '{}', [$payload,
            $key->sign($payload)]), "$tag.sig", $OCI::TYPE{manifest});
        next;
    }
    my $bundle = $key->bundle(Cosign::statement($digest));
    object($bundle);
    my $r = Cosign::referrer($t, $digest, length $m, $bundle);
    object($r, undef, $OCI::TYPE{manifest});
    object(Cosign::list($t, $Cosign::BUNDLE, $r), $tag, $Cosign::INDEX);
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($ref) = $q->{uri} =~ m!/(?:manifests|blobs)/([\w:.-]+)$!;
    return $t->reply($c, $q, 404, {}, '{"errors":[]}')
        if !$ref || !exists $object{$ref};
    return $t->reply($c, $q, 200, { 'Content-Type' => $type{$ref} },
        $object{$ref});
}, quiet => 1);

Policy::write_doc($t, {
    version => 1,
    subjects => { reader => { secret => Policy::phc('canary-secret') } },
    grants => { read => { role => 'guest', subjects => ['reader'],
        repositories => ['**'] } },
    projects => { llm => { rules => { signature => {
        keys => [$key->{pem}] } } } },
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic;
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
EOL
$fault->start();

my %reader = Policy::basic('reader', 'canary-secret');

# 0: no answer, as where there is no memory for a connection

sub pull {
    my ($digest) = @_;
    my $r = eval { $t->get("/v2/llm/x/manifests/$digest", { %reader,
        Accept => $OCI::TYPE{manifest} }, 20) };
    return $r && $r->{status} || 0;
}

my @workers = $t->workers();
my (@open, @shut, @then, %seen);
my ($calls, $failed) = (0, 1);

for my $n (map { 1 + $_ * $STEP } 0 .. $MAX / $STEP - 1) {
    my ($bare, $signed) = (shift @bare, shift @signed);

    for ($bare, $signed) {
        $fault->arm('memory', $n, ENOMEM);
        my $status = pull($_);
        ($calls, $failed) = $fault->disarm();
        $seen{$status}++;
        push @open, "$n: $status" if $_ eq $bare && $status == 200;
        push @shut, "$n: $status" if $_ eq $signed && !$failed
            && $status != 200;
    }

    $fault->later(20);
    push @then, "$n: not 412" if pull($bare) != 412;
    push @then, "$n: not 200" if pull($signed) != 200;
    last if !$failed;
}

diag('statuses ' . join ', ', map { "$_: $seen{$_}" } sort keys %seen);

is("@open", '', 'what is not signed was never served');
is("@shut", '', 'what is signed was, where nothing failed');
is("@then", '', 'all is right when there is memory again');
is("@{[$t->workers()]}", "@workers", 'no worker died');
is($failed, 0, "all $calls calls were tried");

# what was found stays, also where nothing could be kept of it

my ($signed, $bare) = (shift @signed, shift @bare);
is(pull($signed), 200, 'signed');
is(pull($bare), 412, 'not signed');

sleep 1;
$t->stop_one('upstream0');
unlink glob "$d/cache/manifests/*/*.kept";
$fault->later(90);

is(pull($signed), 200, 'signed, later, without a registry');
is(pull($bare), 503, 'not signed, later, without a registry');

$t->allow(qr/\(12: |memory/);
$t->done();
