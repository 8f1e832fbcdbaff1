#!/usr/bin/perl

# conf.example/harbor-fronting.conf and harbor-setup.sh: the calls are those of
# Harbor's API, and with what Harbor then has its drivers, webhooks and
# replication work with that edge, by rights no larger than needed.

use warnings;
use strict;

use Test::More;
use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use JSON::PP;
use MIME::Base64;

use lib dirname(__FILE__) . '/lib';
use Harbor;
use HarborApi;
use HarborCore;
use OCI;

OCI->skip_all_unless('curl');

my $t = OCI->new();
my $d = $t->{dir};
my $top = abs_path(dirname(__FILE__) . '/..');

$t->{edge} = OCI::port();
my $secret = 'Robot0123456789abcdefghijklmno';
my $core = HarborCore->new($t, tokens => 1,
    users => { 'robot$edge-1' => $secret },
    projects => { llm => ['robot$edge-1'], other => [] });
my $up = $core->start(quiet => 0);
my %edge = (edge => { 'https://edge-1.example.com' => $t->{edge} });
my $api = HarborApi::start($t, user => 'admin', secret => 'admin-secret',
    projects => [qw/ llm other /], %edge);

mkdir "$d/etc" or die $!;
Canary::mine("$d/etc");
$t->write_file('netrc', "machine 127.0.0.1 login admin password "
    . "admin-secret\n", 0600);

sub setup {
    my ($args, %env) = @_;
    local %ENV = (%ENV, HARBOR => "http://127.0.0.1:$api", DIR => "$d/etc",
        EDGE => 'https://edge-1.example.com', NETRC => "$d/netrc", %env);
    my $out = `sh $top/conf.example/harbor-setup.sh $args 2>&1`;
    return ($? >> 8, $out);
}

sub made { return HarborApi::made($t, $_[0]) }

sub works {
    my ($args) = @_;
    my ($rc, $out) = setup($args);
    is($rc, 0, $args) or diag($out);
}


# a robot, and what nginx reads

works('robot edge-1 llm');

my ($robot) = made('robots');
is_deeply($robot->{permissions}, [{ kind => 'project', namespace => 'llm',
    access => [{ resource => 'repository', action => 'pull' }] }],
    'the robot may pull from the project, and nothing else');
is($t->read_file('etc/harbor-robot'), "robot\$edge-1:$secret\n",
    'as oci_registry reads it');

for my $name (qw/ preheat webhook /) {
    like($t->read_file("etc/$name.secret"), qr/^Bearer [0-9a-f]{64}\n$/,
        "$name.secret");
}
is(sprintf('%o', (stat "$d/etc/$_")[2] & 07777), '600', "$_: nobody else's")
    for qw/ harbor-robot preheat.secret webhook.secret /;
isnt($t->read_file('etc/preheat.secret'), $t->read_file('etc/webhook.secret'),
    'two secrets');

# the edge, without TLS, at other places

open my $f, '<', "$top/conf.example/harbor-fronting.conf" or die $!;
my $conf = do { local $/; <$f> };
$conf =~ s/^load_module .*$//mg;
$conf =~ s!^error_log .*$!error_log $d/error.log info;!m;
$conf =~ s/^(?:user|worker_processes) .*$//mg;
$conf =~ s!/var/cache/nginx!$d!;
$conf =~ s!/etc/nginx/!$d/etc/!g;
$conf =~ s/min_free=100g/min_free=1m/;
$conf =~ s/server 192\.0\.2\.10:443/server 127.0.0.1:$up/;
$conf =~ s!https://harbor;!http://harbor;!g;
$conf =~ s/listen 443 ssl http2/listen 127.0.0.1:$t->{edge}/;
$conf =~ s/^\s*(?:proxy_)?ssl_.*$//mg;
$conf =~ s!(http \{)!$1 access_log $d/access.log;!;
$t->write_file('nginx.conf', $t->modules() . ($> == 0 ? "\nuser root;" : '')
    . "\nworker_processes 2;\ndaemon off;\npid $d/nginx.pid;\n$conf");

my ($rc, $out) = $t->check();
is($rc, 0, 'the configuration') or diag($out);

# nobody is told of an edge that does not answer

($rc, $out) = setup('preheat edge-1 llm');
isnt($rc, 0, 'the edge is not there');
is(scalar(made('p2p/preheat/instances')), 0, 'Harbor has no instance');

$t->start();

works('preheat edge-1 llm other');
works('webhook edge-1 llm other');
works('replication edge-1 llm/model llm/two');

# what can't be

for my $c (['preheat edge-1 llm', qr/CONFLICT/], ['webhook edge-1 none',
    qr/404/], ['robot edge-1 none', qr/no such project/], ['', qr/export/],
    ['robot edge-2', qr/export/], ['field x y', qr/export/])
{
    my ($args, $why) = @$c;
    ($rc, $out) = setup($args);
    isnt($rc, 0, "\"$args\" fails");
    like($out, $why, "\"$args\": why");
}
($rc, $out) = setup('webhook edge-1 llm', NETRC => "$d/none");
isnt($rc, 0, 'nobody');
is($t->read_file('etc/harbor-robot'), "robot\$edge-1:$secret\n",
    'what was there stays');

# preheats, by what Harbor has of it

my ($instance) = made('p2p/preheat/instances');
my $harbor = HarborApi::instance($t, $instance, \%edge);
my $layer = $t->random_blob(200_000);
my @policies = made('preheat/policies');

is_deeply([map { "$_->{project} $_->{provider_id}" } @policies],
    ["llm $instance->{id}", "other $instance->{id}"], 'its policies');
is(decode_json($policies[0]{trigger})->{type}, 'event_based', 'by events');

$core->push_model('llm/model', 'v1', $layer);
is(($harbor->run(repository => 'llm/model', token =>
    $core->token('llm/model')))[0], 'SUCCESS', 'a preheat');

$harbor->{auth_info} = { token => 'another' };
is(($harbor->call('GET', '/healthy'))[0], 401, 'by its token');

# webhooks

my ($hook) = grep { $_->{project} eq 'llm' } made('webhook/policies');
my $target = $hook->{targets}[0];
my $path = $target->{address} =~ s!^https://edge-1\.example\.com!!r;
my $sender = Harbor->new($t, address => $path, auth_header =>
    $target->{auth_header}, payload_format => $target->{payload_format});
my $two = $t->random_blob(100_000);
my (undef, $digest) = $core->push_model('llm/two', 'v1', $two);

for my $event (HarborEvent::all('llm/two', 'v1', $digest)) {
    next if !grep { $_ eq $event->{type} } @{$hook->{event_types}};
    is($sender->deliver($event)->{status}, 200, "webhook: $event->{type}");
}
like(join(' ', @{$hook->{event_types}}), qr/PUSH.*DELETE/, 'these at least');

# what was pushed is warm, without anybody's token

ok(until_true(60, sub { $t->read_file('error.log')
    =~ /preheat job \d+ is done: "v1" of "llm\/two"/ }), 'and warmed');

# a client of the site: from the challenge on, all by Harbor's name

my %site = (Host => 'harbor.example.com');
my $r = $t->get('/v2/llm/two/manifests/v1', \%site);
is($r->{status}, 401, 'a client');
like($r->{h}{'www-authenticate'},
    qr!^Bearer realm="http://harbor\.example\.com/service/token",!,
    'is sent here for its token');
$r = $t->get('/service/token?service=harbor-registry'
    . '&scope=repository:llm/two:pull', { %site, Authorization => 'Basic '
    . encode_base64("robot\$edge-1:$secret", '') });
my $token = 'Bearer ' . decode_json($r->{body})->{token};
my $blob = '/v2/llm/two/blobs/' . $t->digest($two);
# (a byte of it shows that the token's owner may have it)

sub fetched {
    return scalar grep { $_->{uri} eq $blob && $_->{method} eq 'GET'
        && ($_->{h}{range} // '') ne 'bytes=0-0' } $t->requests();
}

my $mark = fetched();
$r = $t->get($blob, { %site, Authorization => $token });
is($r->{body}, $two, 'the blob');
is(fetched(), $mark, 'from here');
is($t->get($blob, \%site)->{status}, 401, 'not for nobody');

# the portal and the API have the same name

$t->get('/api/v2.0/systeminfo', \%site);
my ($seen) = grep { $_->{uri} eq '/api/v2.0/systeminfo' } $t->requests();
is($seen->{h}{host}, 'harbor.example.com', 'the API');

# replication: as Harbor's adapter pulls, with the robot

my ($registry) = made('registries');
my ($rule) = made('replication/policies');
is($registry->{url}, 'https://edge-1.example.com', 'replication: the edge');
is($rule->{src_registry}{id}, $registry->{id}, 'replication: from there');
is($rule->{filters}[0]{value}, '{llm/model,llm/two}', 'replication: names');

my %agent = ('User-Agent' => 'harbor-registry-client');
$r = $t->get('/v2/', \%agent);
is($r->{status}, 401, 'replication: a challenge');
my ($realm) = $r->{h}{'www-authenticate'} =~ m!realm="http://[^/]+(/[^"]*)"!;
$r = $t->get("$realm?service=harbor-registry"
    . '&scope=repository:llm/model:pull', { %agent, Authorization =>
    'Basic ' . encode_base64("$registry->{credential}{access_key}:"
        . $registry->{credential}{access_secret}, '') });
$agent{Authorization} = 'Bearer ' . decode_json($r->{body})->{token};
$r = $t->get('/v2/llm/model/manifests/v1', { %agent,
    Accept => $OCI::TYPE{manifest} });
is($r->{status}, 200, 'replication: the manifest');
$r = $t->get('/v2/llm/model/blobs/' . $t->digest($layer), { %agent,
    'Accept-Encoding' => 'identity', Range => 'bytes=1000-1999' });
is("$r->{status} $r->{h}{'content-range'}", '206 bytes 1000-1999/200000',
    'replication: a chunk');
is($r->{body}, substr($layer, 1000, 1000), 'replication: its bytes');

$t->done();
