#!/usr/bin/perl

# oci_pull_accounting: the registry learns of pulls that the cache served, of
# each artifact once in a while, and no client waits for it.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 3);
my $d = $t->{dir};
my $type = 'application/vnd.oci.image.manifest.v1+json';

my %manifest = map { $_ => encode_json({ schemaVersion => 2,
    mediaType => $type, layers => [], annotations => { n => $_ } }) }
    qw/ v1 v2 v3 /;
my %by_digest = map { $t->digest($_) => $_ } values %manifest;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    my ($ref) = $q->{uri} =~ m!/manifests/(\S+)!;
    my $m = $manifest{$ref // ''} // $by_digest{$ref // ''}
        // return $t->reply($c, $q, 404, {}, '{}');
    my $state = $t->read_file('state') // '';
    if ($q->{method} eq 'GET' && $state =~ /hang/) {
        sleep 5;
        return 0;
    }
    return $t->reply($c, $q, 500, {}, '{}')
        if $q->{method} eq 'GET' && $state =~ /fail/;
    return $t->reply($c, $q, 200, { 'Content-Type' => $type,
        'Docker-Content-Digest' => $t->digest($m) }, $m);
});

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; oci_pull_accounting 1h; }
location = /none { oci_pull_accounting off; return 204; }
EOL
$t->start();

my $accept = { Accept => $type, Authorization => 'Basic Y2xpZW50OnNlY3JldA==' };

sub pull { return $t->get("/v2/m/$_[0]/manifests/$_[1]", $accept)->{status} }

sub gets {
    my ($name) = @_;
    return grep { $_->{method} eq 'GET' && $_->{uri} =~ m!^/v2/m/$name/! }
        $t->requests();
}

# the first one is the registry's own

is(pull('a', 'v1'), 200, 'a miss') for 1;
is(scalar(gets('a')), 1, 'one GET');
is(pull('a', 'v1'), 200, 'a hit') for 1 .. 20;
sleep 0.5;
is(scalar(gets('a')), 1, 'of this hour');

# after a restart nothing is known: pulls come from the cache, one is told

$t->stop();
$t->start();
$t->forget_requests();

pull('a', 'v1') for 1 .. 30;
until_true(sub { scalar gets('a') });
sleep 0.5;
my @gets = gets('a');
is(scalar @gets, 1, '30 pulls, one GET');
is($gets[0]{uri}, '/v2/m/a/manifests/v1', 'of the tag');
is($gets[0]{h}{authorization}, $accept->{Authorization},
    'with the right that the pull had');
unlike($gets[0]{h}{'user-agent'} // '', qr/harbor-registry-client/,
    'Harbor counts it');

# by its digest it is the same artifact

pull('a', $t->digest($manifest{v1})) for 1 .. 5;
sleep 0.5;
is(scalar(gets('a')), 1, 'the same artifact');

# another repository's is another one

pull('b', 'v1');
is(scalar(gets('b')), 1, 'another repository: a miss');

# HEAD is no pull

$t->forget_requests();
$t->head('/v2/m/a/manifests/v1', $accept) for 1 .. 3;
sleep 0.3;
is(scalar(gets('a')), 0, 'HEAD');

# the registry fails, or hangs: nobody waits

pull('c', $_) for qw/ v2 v3 /;
$t->stop();
$t->start();

for my $c (['fail', 'v2'], ['hang', 'v3']) {
    my ($state, $tag) = @$c;
    $t->write_file('state', $state);
    $t->forget_requests();
    my $begin = time();
    is(pull('c', $tag), 200, "$state: served") for 1 .. 5;
    ok(time() - $begin < 4, "$state: at once");
    until_true(sub { scalar gets('c') });
    is(scalar(gets('c')), 1, "$state: tried once");
}

like($t->read_file('error.log'),
    qr/\[info\].*a pull from "m\/c" was not made known to registry "demo"/,
    'and said');

$t->write_file('state', '');

# an interval that is over

my $conf = $t->read_file('nginx.conf');
$conf =~ s/accounting 1h/accounting 1s/;
$t->write_file('nginx.conf', $conf);
my @old = $t->workers();
$t->signal('HUP');
until_true(sub { my %n = map { $_ => 1 } $t->workers();
    !grep { $n{$_} } @old });

$t->stop();
$t->start();
$t->forget_requests();
pull('a', 'v1');
until_true(sub { gets('a') == 1 });
sleep 1.6;
pull('a', 'v1');
until_true(sub { gets('a') == 2 });
is(scalar(gets('a')), 2, 'once more after the interval');

for my $bad ('0', 'x', '1h 2h', '') {
    (my $c = $conf) =~ s/accounting 1s/accounting $bad/;
    my ($rc, $out) = $t->check($c);
    isnt($rc, 0, "refused: \"$bad\"");
    like($out, qr/oci_pull_accounting|is to be/, 'says so');
}

$t->done();
