#!/usr/bin/perl

# oci_preheat: where the memory for jobs has an end, nobody loses what waits
# there already.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    until_true(120, sub { -e "$t->{dir}/go" }) if $q->{uri} =~ m!/slow/!;
    return $t->reply($c, $q, 404, {}, '{}');
}, quiet => 1);

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; stall_timeout 300s; }
EOC
location /v2/ { oci_pass demo; oci_cache models; }
location /one/ { oci_preheat registry=demo open jobs=1 referrers=off; }
location /many/ { oci_preheat registry=demo open jobs=64 referrers=off; }
EOL
$t->start();

# what takes as much room as it can

my $long = join '/', 'm', 'x' x 250;
my @platforms = ('a/b') x 128;
my $token = 't' x 8100;
my $n = 0;

sub tag { return sprintf 'v%0127d', $n++ }

sub post {
    my ($uri, $body) = @_;
    my $r = $t->http($t->{edge}, 'POST', $uri, {}, encode_json($body));
    return ($r->{status}, $r->{status} < 300 && decode_json($r->{body}));
}

sub with_token {
    my ($name, $tag) = @_;
    return (post('/one/oapi/v1/jobs', { type => 'preheat', args => {
        type => 'image', url => "/v2/$name/manifests/$tag",
        $name eq $long ? (platform => join ',', @platforms) : (),
        headers => { Authorization => $token } } }))[0];
}

# jobs that are over, as many as are remembered

for (1 .. 1024) {
    until_true(sub { (post('/many/jobs', { ref => "$long:" . tag(),
        platforms => \@platforms }))[0] == 202 }) or last;
}
is($n >= 1024, 1, 'jobs');
ok(until_true(60, sub { $t->get('/many/jobs')->{body}
    !~ /"state":"(?:pending|running)"/ }), 'they are over');

# one runs, one waits behind it, and others bring their tokens

my ($status, $job) = post('/one/jobs', { ref => 'slow/m:v1' });
is($status, 202, 'a job');
ok(until_true(sub { decode_json($t->get("/one/jobs/$job->{id}")->{body})
    ->{state} eq 'running' }), 'it runs');
($status, $job) = post('/one/jobs', { ref => 'slow/m:v2' });
is($status, 202, 'a job that waits');

my $others = 0;
$others++ while $others < 256 && with_token($long, tag()) == 200;
cmp_ok($others, '>', 200, 'others, with tokens');
cmp_ok($others, '<', 254, 'no memory') or diag($others);

is(with_token('slow/m', 'v2'), 503, 'the same, with a token: no memory');
is($t->get("/one/jobs/$job->{id}")->{status}, 200, 'it waits');

$t->write_file('go', '');
ok(until_true(60, sub { decode_json($t->get("/one/jobs/$job->{id}")->{body})
    ->{state} eq 'failure' }), 'and has its turn');

$t->done();
