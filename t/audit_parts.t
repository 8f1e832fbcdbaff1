#!/usr/bin/perl

# What else oci_audit_log has to get right: reasons that come from documents
# and artifacts, parts of requests, callers of one name in two policies, ends
# that come early, and logs that are configured twice.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Select;
use IO::Socket::INET;
use JSON::PP qw/ decode_json /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use Audit;
use OCI;
use Policy;

Audit::need();

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $log = "$d/audit.log";
my $key = Audit::key($t);

my $blob = $t->random_blob(2000);
my $digest = $t->digest($blob);
my $empty = $t->digest('{}');
my $evil = qq{"x\\",\x{c3}\x{a9}"};
my $quarantined = $t->digest('quarantined');

sub manifest {
    my ($type) = @_;
    $type =~ s/"/\\"/g;
    return qq/{"schemaVersion":2,"mediaType":"$OCI::TYPE{manifest}",/
        . qq/"config":{"mediaType":"application\\\/$type",/
        . qq/"digest":"$empty","size":2},"layers":[]}/;
}

my %manifest = map { $_ => manifest($_) } 'x.bad', 'x"bad';
my %by_digest = map { $t->digest($_) => $_ } values %manifest;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    if ($q->{method} eq 'DELETE') {
        syswrite $c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin";
        return sleep 20;
    }
    if ($q->{uri} =~ m!/manifests/(.*)!) {
        my $m = $by_digest{$1} // $manifest{'x.bad'};
        return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
            'Docker-Content-Digest' => $t->digest($m) }, $m);
    }
    return $t->reply_blob($c, $q, $blob);
}, quiet => 1);

$t->write_file('robot', "robot:robot-secret\n", 0600);
Policy::write_doc($t, {
    version => 1,
    subjects => { alice => { secret => Policy::phc('canary-secret') } },
    grants => {
        up => { role => 'maintainer', subjects => ['alice'],
            repositories => ['llm/**'] },
        down => { role => 'guest', subjects => ['alice'],
            repositories => ['types/**'] },
    },
    projects => { types => { rules => {
        artifact_types => { allow => ['application/vnd.oci.*'] } } } },
    quarantine => { $quarantined => { reason => "it says $evil" } },
});

my $syslog = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'udp')
    or die $!;
my $syslog_to = 'syslog:server=127.0.0.1:' . $syslog->sockport . ',tag=oci';

my ($second, $past, @twice) = map { OCI::port() } 1 .. 4;

my $policies = join '', map { <<EOC } qw/ team other /;
oci_policy $_ {
    source file:$d/policy.json;
    zone $_:1m;
    identity basic;
}
EOC

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$port;
    credentials file $d/robot;
}
$policies
oci_audit_log $log chain key=$key;
log_subrequest on;
server {
    listen 127.0.0.1:$second;
    location /v2/ { oci_pass demo; oci_cache models; oci_access other; }
}
server {
    listen 127.0.0.1:$past;
    location /v2/ { oci_pass demo; oci_access team; }
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
location = /whole {
    add_after_body /part; addition_types *; alias $d/whole;
}
location = /part { alias $d/part; }
EOL
$t->write_file('whole', 'a whole one, ');
$t->write_file('part', 'and a part');
$t->start();

my %alice = Policy::basic('alice', 'canary-secret');

sub reason {
    my ($port, $uri) = @_;
    my $r = $t->http($port, 'GET', $uri, {%alice});
    is($r->{status}, 412, "$uri is refused");
    my ($said) = $r->{body} =~ /"message":"((?:[^"\\]|\\.)*)"/;
    my $deny = (Audit::grep_records($log, event => 'deny'))[-1];
    return ($deny->{reason}, decode_json(qq/["$said"]/)->[0]);
}

# why an artifact is refused

my ($why, $said) = reason($t->{edge}, "/v2/llm/x/blobs/$quarantined");
is($why, $said, 'a digest in quarantine: the reason');
like($why, qr/it says "x/, 'as the document says');

for my $type (sort keys %manifest) {
    my $of = $t->digest($manifest{$type});
    for my $n (1 .. 2) {
        ($why, $said) = reason($t->{edge}, "/v2/types/$n/manifests/$of");
        is($why, $said, "a manifest by its rules, $type: the reason");
        like($why, qr/\Q$type/, 'which names it');
    }
}

($why, $said) = reason($past, '/v2/types/past/manifests/v1');
ok($why, 'past a cache: a reason');
like($why, qr/can't be seen here/, 'which is that');
my @past = Audit::grep_records($log, repository => 'types/past');
is(join(' ', map { "$_->{event} $_->{status}" } @past), 'intent 200 deny 412',
    'after the record of the answer that was about to begin');

# callers of one name, of two policies

for my $port ($t->{edge}, $second) {
    $t->http($port, 'GET', "/v2/llm/both/blobs/$digest", {%alice});
}
is(join(' ', map { $_->{policy} } Audit::grep_records($log, event => 'intent',
    repository => 'llm/both')), 'team other', 'one name in two policies');

# a part of an answer, and its end, are the request's

my $r = $t->get('/whole');
is($r->{body}, 'a whole one, and a part', 'an answer with a part');

# what is recorded one by one goes on when the worker has to end

my $s = $t->connect();
$t->send_request($s, 'DELETE', '/v2/llm/x/manifests/v1', {%alice});
is($t->read_header($s)->{status}, 200, 'an answer begins');

my ($worker) = $t->workers();
kill 'TERM', $worker;
ok(until_true(sub { my @w = $t->workers(); @w && $w[0] != $worker }),
    'a worker is told to end');

my @end = Audit::grep_records($log, event => 'end', uri => '/whole');
is(scalar(@end), 1, 'one end with a part');
is($end[0]{requests}, 1, 'of one request');
is($end[0]{outcome}, 'complete', 'which is complete');
my ($i) = Audit::grep_records($log, event => 'end',
    repository => 'types/past');
is("$i->{outcome} $i->{bytes_sent}", 'revoked 0', 'nothing of it was sent');
is(scalar(Audit::grep_records($log, uri => '/part')), 0, 'its part has none');
@end = Audit::grep_records($log, event => 'end', action => 'delete');
is(scalar(@end), 1, 'what goes on one by one has an end');
is($end[0]{outcome}, 'cut', 'which came early');

my ($rc, $out) = Audit::verify('-k', "$d/audit.pub", $log);
is($rc, 0, 'all is verified') or diag($out);

close $s;

# a syslog with parameters, in two places

$t->stop();
$t->conf(http => <<EOC, location => 'location / { return 204; }');
server {
    listen 127.0.0.1:$twice[0];
    oci_audit_log $syslog_to chain key=$key;
    location / { return 204; }
}
server {
    listen 127.0.0.1:$twice[1];
    oci_audit_log $syslog_to chain key=$key;
    location / { return 204; }
}
EOC
$t->start();

my @lines;

for my $port (@twice) {
    is($t->http($port, 'GET', "/$port")->{status}, 204, 'syslog, twice');
}

while (@lines < 3 && IO::Select->new($syslog)->can_read(3)) {
    $syslog->recv(my $datagram, 65536);
    push @lines, decode_json($1) if $datagram =~ /(\{.*\})$/;
}

is(join(' ', map { "$_->{event} $_->{seq}" } @lines),
    'start 1 intent 2 intent 3', 'is one chain');

$t->done();
