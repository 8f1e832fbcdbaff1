#!/usr/bin/perl

# oci_access dry_run: everybody is served as with "open"; what the policy
# would have done is said.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use MIME::Base64;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

my $t = OCI->new();
my $d = $t->{dir};

my %secret = map { $_ => "canary-$_-51c7" } qw/ alice off slow /;
my %subject = map { $_ => { secret => Policy::phc($secret{$_}) } }
    qw/ alice off /;
$subject{off}{disabled} = JSON::PP::true;
my $doc = {
    version => 1,
    subjects => \%subject,
    grants => { devs => { role => 'developer', subjects => ['alice', 'off'],
        repositories => ['llm/**'] } },
    projects => { public => { public => JSON::PP::true } },
};
Policy::write_doc($t, $doc);

# costly secrets, of which more are asked for than are checked at once

Policy::write_doc($t, { version => 1, subjects => { slow =>
    { secret => Policy::phc($secret{slow}, ln => 16) } } }, 'slow.json');

my $blob = $t->random_blob(100000);
my $digest = $t->digest($blob);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        'Basic realm="upstream"' }, '{"errors":[]}')
        if ($q->{h}{authorization} // '')
            ne 'Basic ' . encode_base64('robot:robot-secret', '')
        || $q->{uri} =~ /refused/;
    return $t->reply_blob($c, $q, $blob) if $q->{uri} =~ m!/blobs/sha!;
    return $t->reply($c, $q, 202, { Location => '/v2/x/blobs/uploads/1',
        'X-Uri' => $q->{uri} })
        if $q->{method} =~ /^(POST|PATCH|DELETE)$/;
    return $t->reply($c, $q, 200, { 'X-Uri' => $q->{uri} }, '{}');
});

my ($guard, $slow, $open) = map { OCI::port() } 1 .. 3;
my $passwd = `openssl passwd -apr1 door`;

$t->write_file('robot', "robot:robot-secret\n", 0600);
$t->write_file('htpasswd', "door:$passwd");
Policy::signing_key($t, 'edge.pem');
$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo {
    url http://127.0.0.1:$port;
    credentials file $d/robot;
}
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic anonymous;
    signing_key $d/edge.pem; realm http://edge.test/token;
}
oci_policy closed {
    source file:$d/policy.json; zone closed:1m; identity basic;
    recheck 100ms;
}
oci_policy slow {
    source file:$d/slow.json; zone slow:1m; identity basic; valid 0;
}
log_format oci '\$request_method \$request_uri \$status \$oci_subject '
    '\$oci_decision \$oci_policy_rule';
access_log $d/oci.log oci;
server {
    listen 127.0.0.1:$guard;
    oci_access dry_run closed;
    location /v2/ {
        oci_pass demo; oci_cache models; auth_basic door;
        auth_basic_user_file $d/htpasswd;
    }
    location /v2/closed/ { oci_pass demo; oci_access closed; }
    location /v2/paced/ { oci_pass demo; limit_rate 40k; }
    location /files/ { root $d; }
}
server {
    listen 127.0.0.1:$slow;
    location /v2/ { oci_pass demo; oci_access dry_run slow; }
}
server {
    listen 127.0.0.1:$open;
    location /v2/ { oci_pass demo; oci_access open; }
}
EOC
location /v2/ {
    oci_pass demo; oci_cache models; oci_access dry_run team;
    mirror /inner;
}
location = /inner { internal; oci_pass demo; oci_access dry_run team; }
EOL
$t->start();

sub as { my ($u) = @_; return $u ? { Policy::basic($u, $secret{$u}) } : {} }

# who, method, where, what is logged

my @cells = (
    ['', 'GET', '/v2/', '- dry_run_deny -', 'no credentials'],
    ['alice', 'GET', '/v2/', 'alice dry_run_allow -'],
    ['alice', 'GET', '/v2/llm/a/manifests/v1',
        'alice dry_run_allow grants/devs'],
    ['alice', 'GET', "/v2/llm/a/blobs/$digest",
        'alice dry_run_allow grants/devs'],
    ['alice', 'GET', '/v2/other/a/tags/list', 'alice dry_run_deny -',
        'no such right', 'alice'],
    ['alice', 'DELETE', '/v2/llm/a/manifests/v1', 'alice dry_run_deny -',
        'no such right', 'alice'],
    ['off', 'GET', '/v2/llm/b/tags/list', 'off dry_run_deny -',
        'the subject is disabled', 'off'],
    ['wrong', 'GET', '/v2/llm/c/tags/list', '- dry_run_deny -',
        'wrong credentials'],
    ['', 'GET', '/v2/llm/d/tags/list', '- dry_run_deny -', 'no credentials'],
    ['', 'GET', '/v2/public/x/tags/list', '- dry_run_allow projects/public'],
    ['', 'POST', '/v2/public/x/blobs/uploads/?mount=sha256:00',
        '- dry_run_deny -', 'no credentials'],
    ['alice', 'POST', '/v2/llm/a/blobs/uploads/?mount=sha256:00',
        'alice dry_run_allow grants/devs'],
    ['', 'PUT', '/v2/public/x/manifests/v1', '- dry_run_deny -',
        'no credentials'],
);

for my $c (@cells) {
    my ($user, $method, $uri, $logged, $reason, $who) = @$c;
    my $name = ($user || 'nobody') . " $method $uri";
    my $h = $user eq 'wrong' ? { Policy::basic('alice', 'wrong') }
        : as($user);
    my $body = $method eq 'PUT' ? '{}' : undef;
    my @r = map { $t->http($_, $method, $uri, $h, $body) } $t->{edge}, $open;
    is($r[0]{status}, $r[1]{status}, "$name: as with open");
    isnt($r[0]{status}, 401, 'no 401');
    is($r[0]{body}, $r[1]{body}, 'the same answer');
    is($r[0]{h}{'x-uri'}, $r[1]{h}{'x-uri'}, 'to the same request');
    is($r[0]{h}{'www-authenticate'}, undef, 'no challenge');
    ok(until_true(sub { $t->read_file('oci.log')
        =~ /^\Q$method $uri $r[0]{status} $logged\E$/m }), 'in the log');
    next if !$reason;
    my $to = $who ? " to \"$who\"" : '';
    my $said = "oci_policy \"team\" would have denied it$to: $reason,";
    like($t->read_file('error.log'),
        qr/\[notice\].*\Q$said\E.*\Q$method $uri \E/, 'and why');
}
unlike($t->read_file('error.log'), qr/denied it.*public\/x\/tags/,
    'nothing of what is allowed');
is(scalar(grep { $_->{uri} =~ m!uploads/\?mount! } $t->requests(0)), 6,
    'a mount is passed on as it is, and so are subrequests');

# what the client brings goes nowhere; what the registry says does not
# reach it

my $sent = join "\n", grep { defined } map { $_->{h}{authorization} }
    $t->requests(0);
my $robot = 'Basic ' . encode_base64('robot:robot-secret', '');
unlike($sent, qr/^(?!\Q$robot\E$)/m,
    'the registry saw the edge\'s credentials only');
my $r = $t->get('/v2/llm/refused/tags/list', as('alice'));
is($r->{status}, 502, 'credentials that the registry refuses');
is($r->{h}{'www-authenticate'}, undef, 'are not asked of the client');

# nothing but the policy is left out

my %door = (Authorization => 'Basic ' . encode_base64('door:door', ''));
is($t->http($guard, 'GET', '/v2/llm/a/tags/list')->{status}, 401,
    'auth_basic is asked');
is($t->http($guard, 'GET', '/v2/llm/a/tags/list', \%door)->{status}, 200,
    'and has its say');
is($t->http($guard, 'GET', '/v2/closed/a/tags/list')->{status}, 401,
    'a location inside enforces');
$t->write_file('files', '');
is($t->http($guard, 'GET', '/files/x')->{status}, 404,
    'what is of no registry');

# a transfer is not cut

my $s = $t->connect($guard);
$t->send_request($s, 'GET', "/v2/paced/a/blobs/$digest", as('alice'));
$r = $t->read_header($s);
$subject{alice}{disabled} = JSON::PP::true;
Policy::write_doc($t, $doc);
ok(until_true(sub { $t->get('/v2/llm/a/tags/list', as('alice'));
    $t->read_file('oci.log') =~ /alice dry_run_deny/ }), 'disabled');
$r = $t->read_body($s, $r, 'GET');
ok($r->{body} eq $blob, 'a transfer goes on');

# more secrets than can be checked

my @out = $t->parallel(40, sub {
    my ($i) = @_;
    return $t->http($slow, 'GET', '/v2/llm/s/tags/list',
        { Policy::basic('slow', "wrong$i") })->{status};
});
is(join(' ', @out), join(' ', (200) x 40), 'all are served');

my $text = join '', map { $t->read_file($_) } qw/ error.log nginx.log
    oci.log upstream0.requests /;
$text .= $_ for map { decode_base64($_) }
    $text =~ /Basic ([A-Za-z0-9+\/=]+)/g;
unlike($text, qr/canary/, 'no secret in a log or at the registry');

$t->done();
