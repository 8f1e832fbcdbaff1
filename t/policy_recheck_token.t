#!/usr/bin/perl

# Running transfers of who came with a token: one that expires cuts nothing;
# what the document has against its subject does.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Select;
use Time::HiRes qw/ time /;

use lib dirname(__FILE__) . '/lib';
use Jwt;
use OCI;
use Policy;

OCI->skip_all_unless('openssl');

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $key = Jwt::key($t, 'ec', 'EC');
my $doc = { version => 1, subjects => { off => {}, later => {},
    stays => {} } };
Policy::write_doc($t, $doc);

my $blob = $t->random_blob(2_000_000);
my $digest = $t->digest($blob);
my $port = $t->upstream(sub { $t->reply_blob(@_, $blob) });

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m;
    identity bearer; grants token;
    issuer harbor; audience registry; key ec.pub;
    recheck 100ms;
}
log_format oci '\$oci_subject \$status \$oci_decision \$oci_decision_source';
access_log $d/oci.log oci;
EOC
location /v2/ {
    oci_pass demo; oci_cache models; oci_access team; limit_rate 200k;
}
EOL
$t->start();

# a minute too old counts as right

my $exp = int(time()) - 60 + 4;
my $uri = "/v2/llm/a/blobs/$digest";
my %h = map { $_ => Jwt::bearer(Jwt::token($key, { iss => 'harbor',
    aud => 'registry', sub => $_, exp => $exp, iat => int(time()) - 70,
    access => [ Jwt::access('llm/a', 'pull') ] })) }
    qw/ off later stays unlisted /;
my @names = sort keys %h;

my %s;
for my $name (@names) {
    $s{$name} = { s => $t->connect() };
    $t->send_request($s{$name}{s}, 'GET', $uri, $h{$name});
    my $r = $t->read_header($s{$name}{s});
    is($r->{status}, 200, "$name: began");
    $s{$name}{got} = $r->{rest};
}

sub drain {
    my ($c) = @_;
    my $sel = IO::Select->new($c->{s});
    while (!$c->{end} && $sel->can_read(0)) {
        my $n = sysread $c->{s}, $c->{got}, 1 << 20, length $c->{got};
        $c->{end} = 1 if !$n;
    }
    return $c->{end};
}

ok(until_true(sub { $t->get('/v2/', $h{stays})->{status} == 401 }),
    'the tokens expire');
drain($s{$_}) for @names;
is(join(' ', grep { $s{$_}{end} } @names), '', 'which cuts nothing');

$doc->{subjects}{off}{disabled} = JSON::PP::true;
$doc->{subjects}{later}{not_before} = int(time()) - 10;
Policy::write_doc($t, $doc);
for my $name (qw/ off later /) {
    ok(until_true(sub { drain($s{$name}) }), "$name: cut off");
    cmp_ok(length $s{$name}{got}, '<', length $blob, 'short');
}
for my $name (qw/ stays unlisted /) {
    my $c = $s{$name};
    ok(until_true(sub { drain($c) || length $c->{got} >= length $blob }),
        "$name: comes to its end");
    ok($c->{got} eq $blob, 'all of it');
}
like($t->read_file('error.log'),
    qr/cut off a transfer of "llm\/a" of "$_->[0]" after \d+ bytes: $_->[1]/,
    "said of $_->[0]")
    for ['off', 'the subject is disabled'],
        ['later', 'the token is from before the subject\'s time'];
my $log = $t->read_file('oci.log');
like($log, qr/^off 200 cut file$/m, 'and in the access log');

close $_->{s} for values %s;
$t->done();
