#!/usr/bin/perl

# oci_preheat: many jobs that wait for their peers leave clients their
# connections.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $far = OCI->new(workers => 1);
my $jobs = 100;

my $blob = $t->random_blob(1000);
my $manifest = encode_json({ schemaVersion => 2,
    mediaType => $OCI::TYPE{manifest}, layers => [{ size => length $blob,
        digest => $t->digest($blob), mediaType => 'application/x' }] });

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}') if $q->{uri} eq '/v2/';
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ m!/blobs/!;
    return $t->reply($c, $q, 404, {}, '{}') if $q->{uri} !~ m!/manifests/!;
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($manifest) }, $manifest);
}, quiet => 1);

# peers whose jobs do not end before they are told to

sub state { $far->write_file('state.json', qq!{"id":1,"state":"$_[0]"}!) }

state('PENDING');
$far->conf(location => <<EOL, cache => '')->start();
location = /p2p/oapi/v1/jobs { return 200 '{"id":1}'; }
location /p2p/oapi/v1/jobs/ {
    root $far->{dir}; try_files /state.json =404;
}
EOL

my $peers = join ',', ("http://127.0.0.1:$far->{edge}/p2p/") x 3;

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location /p2p/ {
    oci_preheat registry=demo open referrers=off jobs=4 peers=$peers;
}
EOL
my $conf = $t->read_file('nginx.conf');
$conf =~ s/worker_connections 1024/worker_connections 160/ or die;
$t->write_file('nginx.conf', $conf);
$t->start();

sub jobs {
    my @jobs;
    my $next = '';
    while (defined $next) {
        my $r = eval { decode_json($t->get('/p2p/jobs' . ($next
            ? "?before=$next" : ''))->{body}) } // return ();
        push @jobs, @{$r->{jobs}};
        $next = $r->{next};
    }
    return @jobs;
}

for (1 .. $jobs) {
    my $r = $t->http($t->{edge}, 'POST', '/p2p/jobs', {},
        encode_json({ ref => "m/m$_:v1" }));
    is($r->{status}, 202, "job $_") if $r->{status} != 202;
}
ok(until_true(60, sub { $jobs == grep { $_->{pieces_done} == 2 } jobs() }),
    'all are warm here');
sleep 3;
is(scalar(grep { $_->{state} eq 'running' } jobs()), $jobs, 'and wait');
unlike($t->read_file('error.log'), qr/worker_connections are not enough/,
    'there are connections for others');
is(join(' ', grep { $_ ne '200' } $t->parallel(8, sub {
    $t->get('/v2/m/m1/manifests/v1')->{status} })), '', 'clients');

state('SUCCESS');
ok(until_true(60, sub { $jobs == grep { $_->{state} eq 'success'
    && $_->{peers_done} == 3 } jobs() }), 'all of them are asked');

ok($far->stop(), 'the other edge stopped');
$t->done();
