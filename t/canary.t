#!/usr/bin/perl

# The search for secrets that ends each test (t/lib/Canary.pm) finds what is
# planted: in logs, stored files, answers, and requests to a registry; and
# nothing where secrets may be.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use MIME::Base64;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Jwt;
use Policy;

OCI->skip_all_unless('openssl');

my $t = OCI->new();
my $d = $t->{dir};
my %secret = map { $_ => "canary-$_-27c0" } qw/ alice bob carol hook /;
my $link = 'canarysignature1';

my $registry = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 403, {}, "{\"a\":\"$q->{h}{authorization}\"}")
        if $q->{uri} =~ /echo/;
    return $t->reply($c, $q, 200, {}, '{"token":"canary-token-handed-out"}')
        if $q->{uri} =~ /token/;
    return $t->reply($c, $q, 307, { Location => "/x?sig=$link" }, '')
        if $q->{uri} =~ /moved/;
    return $t->reply($c, $q, 200, {}, '{}');
});

my ($alice, $bob, $carol) = map { { Policy::basic($_, $secret{$_}) } }
    qw/ alice bob carol /;
my $from = $alice->{Authorization};

$t->conf(location => <<EOC, http => <<EOH);
location / { proxy_pass http://127.0.0.1:$registry; }
location /v2/another/ {
    proxy_pass http://127.0.0.1:$registry;
    proxy_set_header Authorization "$from";
}
location /v2/copied/ {
    proxy_pass http://127.0.0.1:$registry;
    proxy_set_header X-Copy \$http_authorization;
}
location /v2/logged/ {
    access_log $d/seen.log seen;
    return 204;
}
EOC
log_format seen "\$http_authorization \$remote_user";
EOH

$t->start();


# what is found since the last time

my %before;

sub found {
    my @found = grep { !$before{$_}++ } Canary::leaks($d, $t->{passes});
    return join "\n", @found;
}

# (a log's line may come after the answer)

sub finds {
    my ($like, $name) = @_;
    my $found = '';
    until_true(10, sub { $found .= found(); $found =~ $like });
    like($found, $like, $name);
}


# where they may be

$t->write_file('robot', "robot:canary-robot-27c0\n", 0600);
$t->get('/v2/', $alice);
$t->get('/v2/', $bob);
$t->get('/token');
$t->get('/moved');
$t->get('/v2/', { Policy::basic('dave', 'short') });
$t->write_file('short.txt', 'short');
$t->write_file('input', "canary-robot-27c0 $secret{alice}\n");
Canary::mine("$d/home");
mkdir "$d/home";
plant('home/config', $secret{alice});
is(found(), '', 'nothing where nothing is');


# by somebody else than the test: not by write_file()

sub plant {
    my ($name, $text, $mode) = @_;
    open my $f, '>', "$d/$name" or die $!;
    print $f "some text, $text and more\n";
    close $f;
    chmod $mode, "$d/$name" if defined $mode;
}


# logs

$t->get('/v2/logged/x', $alice);
finds(qr/^seen\.log:1:Basic \S+ alice$/, 'a credential in a log');
plant('other.log', $secret{alice});
finds(qr/^other\.log:1:some text/, 'a secret there');
plant('robot.log', 'canary-robot-27c0');
finds(qr/^robot\.log/, 'what a file has');
plant('robot64.log', encode_base64('robot:canary-robot-27c0', ''));
finds(qr/^robot64\.log/, 'and as it is sent');
plant('token.log', 'canary-token-handed-out');
finds(qr/^token\.log/, 'a token that was handed out');
plant('link.log', $link);
finds(qr/^link\.log/, 'a link');
plant('jwt.log', 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.');
finds(qr/^jwt\.log/, 'any token of that form');
plant('debug.log', "[debug] http header: \"Authorization: $from\"");
is(found(), '', 'nginx tells headers in debug logs');

# files

mkdir "$d/cache/deep";
plant('cache/deep/blob', "\0\1$secret{bob}");
finds(qr/^cache\/deep\/blob:\d+:\Q$secret{bob}\E$/, 'a stored file');
plant('private', $secret{bob}, 0600);
finds(qr/^private:/, 'also one that nobody else reads');
open my $f, '>:raw', "$d/long" or die $!;
print $f 'x' x (1 << 20), $secret{bob}, 'x' x (1 << 20);
close $f;
finds(qr/^long:/, 'a large one');

my $phc = Policy::phc($secret{carol});
plant('doc', $phc, 0600);
is(found(), '', 'a hashed secret may be where nobody else reads');
plant('public', $phc);
finds(qr/^public:/, 'but nowhere else');
plant('hidden.log', '$scrypt$ln=10,r=8,p=1$***');
is(found(), '', 'without the hash it is none');
plant('phc.log', '$scrypt$ln=10,r=8,p=1$c2FsdA$aGFzaA');
finds(qr/^phc\.log/, 'nor in a log');

my $key = Jwt::key($t, 'token', 'EC');
is(found(), '', 'a key in its file');
system("cp $d/token.key $d/copy") == 0 or die;
finds(qr/^copy:/, 'a copy of it');

# answers

is($t->get('/v2/echo', $bob)->{status}, 403, 'a refusal');
finds(qr/^canary\.answers:\d+:\{"a":"Basic/, 'that has it');

# a registry

$t->get('/v2/another/x', $bob);
finds(qr!: GET /v2/another/x: another caller's credentials$!,
    'alice\'s for bob');
$t->get('/v2/copied/x', $alice);
finds(qr/requests:\d+: GET \/v2\/copied\/x: .*x-copy: Basic/,
    'in another header');
$t->get("/v2/x?of=$secret{alice}", $alice);
finds(qr!^(?=.*access\.log)(?=.*requests:\d+: GET /v2/x\?of=)!s,
    'in a URI');
$t->get('/p2p/jobs', { Authorization => "Bearer $secret{hook}" });
finds(qr!: GET /p2p/jobs: credentials that are for the edge$!,
    'an edge\'s own');
$t->get('/v2/', $carol);
finds(qr!: GET /v2/: a subject's secret$!, 'a policy\'s');
$t->{passes} = 1;
%before = ();
unlike(found(), qr/a subject's secret/, 'unless it is to be so');


# by all processes of a test

$t->parallel(1, sub {
    $t->get('/v2/logged/x', { Policy::basic('erin', 'canary-erin-27c0') });
});
finds(qr/^seen\.log:\d+:Basic \S+ erin$/, 'another process\'s');

# and a test fails by it

my $lib = dirname(__FILE__) . '/lib';
$t->write_file('inner.t', <<'EOT');
use Test::More;
use OCI;
use Policy;
my $t = OCI->new();
$t->conf(location => 'location / { return 204; }',
    http => "log_format bare \$http_authorization;",
    server => "access_log $t->{dir}/bare.log bare;")->start();
$t->get('/', { Policy::basic('alice', 'canary-inner-27c0') }) if $ARGV[0];
$t->done();
EOT
my $out = `$^X -I$lib $d/inner.t 2>&1`;
is($?, 0, 'a test passes') or diag($out);
$out = `$^X -I$lib $d/inner.t 1 2>&1`;
isnt($?, 0, 'and fails');
like($out, qr/^not ok \d+ - nothing secret.*bare\.log:1:Basic/ms, 'of that');


# what was planted here is not this test's own result

unlink grep { !/error/ } glob "$d/*.log $d/*.requests $d/cache/deep/*";
unlink map { "$d/$_" } qw/ private long public copy canary.answers /;
$t->done();
