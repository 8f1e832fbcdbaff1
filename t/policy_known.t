#!/usr/bin/perl

# A worker knows for a moment who came with a header: that is true of this
# header and this policy only, and of no other document or configuration.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use MIME::Base64;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

OCI->skip_all_unless('openssl');

my $many = 200;
my $t = OCI->new(workers => 2);
my $d = $t->{dir};

# many: more than a worker knows at a time, each with what is its own

my $shared = Policy::phc('shared-secret');
my %subject = map { ("many$_" => { secret => $shared }) } 1 .. $many;
$subject{$_} = { secret => Policy::phc("$_-secret") } for qw/ alice bob
    canary /;
my %all = %{$subject{alice}};

my %grants = map { ("many$_" => { role => 'guest', subjects => ["many$_"],
    repositories => ["many$_/*"] }) } 1 .. $many;
$grants{llm} = { role => 'guest', subjects => ['alice', 'canary'],
    repositories => ['llm/*'] };
$grants{open} = { role => 'developer', subjects => ['bob'],
    repositories => ['llm/open', 'ml/*'] };
my $doc = { version => 1, subjects => \%subject, grants => \%grants };

my $other = { version => 1,
    subjects => { alice => { secret => Policy::phc('other-secret') },
        bob => { secret => $subject{bob}{secret} } },
    grants => { g => { role => 'guest', subjects => ['alice'],
        repositories => ['other/*'] } } };

Policy::write_doc($t, $doc);
Policy::write_doc($t, $other, 'other.json');

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}');
}, quiet => 1);

my $h2 = OCI::port();
my ($cert, $key) = $t->certificate('edge.test');

$t->write_file('robot', "robot:robot-secret\n", 0600);
$t->conf(http => <<EOC, location => <<EOL);
keepalive_requests 100000;
oci_registry demo {
    url http://127.0.0.1:$port;
    credentials file $d/robot;
}
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic;
}
oci_policy other {
    source file:$d/other.json; zone other:1m; identity basic;
}
log_format oci '\$request_method \$uri \$status \$oci_subject '
    '\$oci_policy_rule';
access_log $d/oci.log oci;
server {
    listen 127.0.0.1:$h2 ssl http2;
    ssl_certificate $cert;
    ssl_certificate_key $key;
    access_log $d/h2.log oci;
    location /v2/ { oci_pass demo; oci_access team; }
}
EOC
location /v2/ { oci_pass demo; oci_access team; }
location /v2/other/ { oci_pass demo; oci_access other; }
EOL
$t->start();

my $llm = '/v2/llm/a/tags/list';

sub as { return { Policy::basic($_[0], $_[1] // "$_[0]-secret") } }

# of log lines what re captures, once there are so many of it

sub logged {
    my ($name, $n, $re) = @_;
    my @found;
    until_true(sub { @found = $t->read_file($name) =~ /$re/mg; @found >= $n });
    return @found;
}

sub ask {
    my ($s, $h, $uri, $method) = @_;
    $method //= 'GET';
    $t->send_request($s, $method, $uri // $llm, $h);
    return $t->read_body($s, $t->read_header($s), $method)->{status};
}

# on one connection, each of them twice in a row and then mixed

my %kept = $t->to_workers();
my @kept = values %kept;
is(scalar(@kept), 2, 'a connection to each worker');

my $alice = as('alice');
my $text = encode_base64('alice:alice-secret', '');

my @ask = (
    ['alice', 200, $alice],
    ['another subject', 404, as('bob')],
    ['another subject, elsewhere', 200, as('bob'), '/v2/llm/open/tags/list'],
    ['another secret', 401, as('alice', 'bob-secret')],
    ['a longer secret', 401, as('alice', 'alice-secret2')],
    ['a shorter secret', 401, as('alice', 'alice-secre')],
    ['no secret', 401, as('alice', '')],
    ['nobody', 401, {}],
    ['another scheme', 401, { Authorization => "Bearer $text" }],
    ['what is no scheme', 401, { Authorization => $text }],
    ['more in the header', 401, { Authorization => "Basic $text x" }],
    ['the scheme in other letters', 200, { Authorization => "bAsic $text" }],
    ['two spaces', 200, { Authorization => "Basic  $text" }],
    ['another repository', 200, $alice, '/v2/llm/b/tags/list'],
    ['without a right there', 404, $alice, '/v2/ml/a/tags/list'],
    ['with a right', 200, $alice],
    ['another method', 403, $alice, '/v2/llm/a/manifests/x', 'DELETE'],
    ['to pull', 200, $alice, '/v2/llm/open/tags/list'],
    ['a push', 403, $alice, '/v2/llm/open/blobs/uploads/', 'POST'],
    ['who may push', 200, as('bob'), '/v2/llm/open/blobs/uploads/', 'POST'],
    ['the catalog', 403, $alice, '/v2/_catalog'],
    ['a login', 200, $alice, '/v2/'],
    ['another policy', 401, $alice, '/v2/other/a/tags/list'],
    ['of which the secret is', 200, as('alice', 'other-secret'),
        '/v2/other/a/tags/list'],
    ['and not here', 401, as('alice', 'other-secret')],
    ['the same secret in both', 404, as('bob'), '/v2/other/a/tags/list'],
);

for my $q (@ask) {
    my ($name, $status, @args) = @$q;
    is(join(' ', map { ask($_, @args) } @kept, @kept, @kept),
        join(' ', ($status) x 6), $name);
}

my @mixed = map { [$kept[rand @kept], $ask[rand @ask]] } 1 .. 400;
my @wrong = grep { my ($s, $q) = @$_; ask($s, @$q[2 .. $#$q]) != $q->[1] }
    @mixed;
is(join(', ', map { $_->[1][0] } @wrong), '', 'mixed');

# the log has who it was

my %who = map { $_ => 1 } logged('oci.log', 18,
    qr!^GET \Q$llm\E 200 (\S+ \S+)$!m);
is(join(' ', keys %who), 'alice grants/llm', 'the subject and the rule');
%who = map { $_ => 1 } logged('oci.log', 12,
    qr!^GET /v2/llm/open/\S+ 200 (\S+ \S+)$!m);
is(join(' ', sort keys %who), 'alice grants/llm bob grants/open', 'of both');

# more of them than places, who take these from each other

my @again = map { [$kept[rand @kept], 1 + int rand $many] } 1 .. 3 * $many;
@wrong = ();
for ((map { [$kept[$_ % 2], $_] } 1 .. $many), @again) {
    my ($s, $n) = @$_;
    my $next = $n % $many + 1;
    push @wrong, $n if ask($s, as("many$n", 'shared-secret'),
            "/v2/many$n/a/tags/list") != 200
        || ask($s, as("many$n", 'shared-secret'),
            "/v2/many$next/a/tags/list") != 404
        || ask($s, as("many$n", 'shared-secreT'),
            "/v2/many$n/a/tags/list") != 401;
}
is("@wrong", '', 'many');
my @who = logged('oci.log', 2 * 4 * $many,
    qr!^GET /v2/(many\d+)/a/tags/list 200 (\S+ \S+)$!m);
is(scalar(@who), 2 * 4 * $many, 'all of them are in the log');
is(scalar(grep { $who[2 * $_ + 1] ne "$who[2 * $_] grants/$who[2 * $_]" }
    0 .. $#who / 2), 0, 'each by its own name and rule');

# streams of one connection of HTTP/2

SKIP: {
    skip 'no curl with HTTP/2', 3
        if !OCI::installed('curl') || `curl -V` !~ /HTTP2/;

    my @users = (qw/ alice bob /) x 4;
    my $config = join "next\n", map { <<EOC } @users;
url = "https://edge.test:$h2/v2/llm/open/tags/list"
resolve = "edge.test:$h2:127.0.0.1"
cacert = "$d/ca.pem"
http2
user = "$_:$_-secret"
write-out = "%{http_code} %{http_version} %{local_port}\\n"
output = "/dev/null"
EOC
    $t->write_file('curl', $config);
    my @out = split /\n/, `curl -sS -K $d/curl 2>&1`;
    my %port = map { (split)[2] // '' => 1 } @out;
    is(scalar(keys %port), 1, 'one connection') or diag("@out");
    is(join(' ', map { join ' ', (split)[0, 1] } @out),
        join(' ', ('200 2') x @users), 'streams');
    is(join(' ', logged('h2.log', scalar(@users), qr!200 (\S+) !)), "@users",
        'each has its own subject');
}

# another document: who it was is known all the time until it is in force,
# which "canary" tells

my $documents = 0;

sub in_force {
    my $canary = 'canary-' . ++$documents;
    $subject{canary} = { secret => Policy::phc($canary) };
    Policy::write_doc($t, $doc);
    return until_true(sub {
        ask($_, $alice) for @kept;
        return ask($kept[$documents % 2], as('canary', $canary)) == 200;
    });
}

sub statuses { return join ' ', map { ask($_, $alice, @_) } @kept }

ok(in_force(), 'a document with the same subject');
is(statuses(), '200 200', 'it is still the same one');

for my $c (
    ['disabled', '401 401', sub { $subject{alice}{disabled} = \1 }],
    ['too early', '401 401', sub { $subject{alice}{not_before}
        = int(time()) + 3600 }],
    ['another secret', '401 401', sub { $subject{alice}{secret}
        = Policy::phc('new-secret') }],
    ['without a secret', '401 401', sub { delete $subject{alice}{secret} }],
    ['gone', '401 401', sub { delete $subject{alice};
        $grants{llm}{subjects} = ['canary'] }],
    ['no grant', '404 404', sub { $grants{llm}{subjects} = ['canary'] }],
    ['another grant', '404 404', sub { $grants{llm}{subjects} = ['canary'];
        $grants{none} = { role => 'guest', subjects => ['alice'],
            repositories => ['ml/*'] } }],
)
{
    my ($name, $expected, $code) = @$c;
    $code->();
    ok(in_force(), "$name: in force");
    is(statuses(), $expected, $name);
    $subject{alice} = { %all };
    $grants{llm}{subjects} = ['alice', 'canary'];
    delete $grants{none};
    ok(in_force(), "$name: taken back");
    is(statuses(), '200 200', "$name: no more");
}

# places in it are others: subjects before it, and another rule

$subject{"a$_"} = { secret => $shared } for 1 .. 50;
delete $subject{"many$_"} for 1 .. 100;
delete $grants{"many$_"} for 1 .. 100;
$grants{moved} = delete $grants{llm};
$grants{moved}{repositories} = ['llm/*', 'other/*'];
ok(in_force(), 'a document of another form');
is(statuses(), '200 200', 'and the same subject');
ok(logged('oci.log', 2, qr!(^GET \Q$llm\E 200 alice grants/moved$)!m) >= 2,
    'by the rule of this document');

# a reload: another file for the same policy and zone; and back

sub reload {
    my ($conf) = @_;
    close $_ for @kept;
    my %old = map { $_ => 1 } $t->workers();
    $t->write_file('nginx.conf', $conf);
    $t->signal('HUP');
    my $done = until_true(sub {
        my @new = $t->workers();
        return @new == 2 && !grep { $old{$_} } @new;
    });
    my %to = $t->to_workers();
    @kept = values %to;
    return $done;
}

my $conf = $t->read_file('nginx.conf');
my %file = (policy => 'other', other => 'policy');

# (those of before may have put their file back, as they ended)

sub comes_to {
    my ($expected, $name, @args) = @_;
    until_true(sub { statuses(@args) eq $expected });
    is(join(' ', map { statuses(@args) } 1 .. 5), join(' ', ($expected) x 5),
        $name);
}

ok(reload($conf =~ s!(file:\S+/)(policy|other)\.json!$1$file{$2}.json!gr),
    'a reload');
comes_to('401 401', 'of another file');
comes_to('200 200', 'and so the other one', '/v2/other/a/tags/list');

ok(reload($conf), 'and back');
comes_to('200 200', 'it is known again');
comes_to('401 401', 'and not by the other one', '/v2/other/a/tags/list');

# and one after which nobody logs in

ok(reload($conf =~ s/(zone team:1m; identity) basic/$1 anonymous/r),
    'nobody logs in');
comes_to('404 404', 'whoever it was');
close $_ for @kept;

$t->done();
