#!/usr/bin/perl

# How a policy's Redis is connected to: TLS and certificates, unix sockets,
# users and passwords, names, and what an ACL refuses.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Redis;

my $t = OCI->new();
my $d = $t->{dir};

my $doc = { subjects => { alice => { secret => Policy::phc('canary-alice') } },
    grants => { g => { role => 'guest', subjects => ['alice'],
        repositories => ['llm/**'] } } };

my ($good, $bad) = ('canary-good-11fe', 'canary-bad-22ab');
my $redis = Redis->new($t, tls => 'redis.test',
    password => 'canary-default-90', conf => <<EOC);
user default on >canary-default-90 ~* &* +\@all
user deaf on >$good ~* resetchannels +\@all
user poor on >$good ~* &* -\@all +ping +get +subscribe
user edge on >$good ~{oci}:* &{oci}:* +get +hmget +hscan +hgetall +multi +exec +subscribe +ping +select
EOC
$redis->import_doc($doc);

my $mutual = Redis->new($t, name => 'mutual', tls => 'localhost',
    mutual => 1);
$mutual->import_doc($doc);

# another authority

rename "$d/ca.$_", "$d/first.$_" for qw/ pem key /;
my ($cert, $key) = $t->certificate('client.test');
rename "$d/ca.pem", "$d/second.pem";
rename "$d/first.$_", "$d/ca.$_" for qw/ pem key /;
$t->certificate('client.test');

my $dns = $t->dns();
$t->dns_says('127.0.0.1 1');

$t->write_file('good', "$good\n", 0600);
$t->write_file('bad', "$bad\r\n", 0600);
$t->write_file('default', 'canary-default-90', 0600);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}');
});

my $edge = 'user edge; password_file good;';
my $plain = "source redis://127.0.0.1:$redis->{port};";
my $tls = "source rediss://127.0.0.1:$redis->{tls}; $edge";
my $named = "trusted_certificate ca.pem; ssl_name redis.test;";
my $client = 'certificate client.test.pem;'
    . ' certificate_key client.test.key;';
my $both = "source rediss://127.0.0.1:$mutual->{tls}; ssl_name localhost;"
    . ' trusted_certificate ca.pem;';

# what, parameters, what the log says; nothing: it is well

my @policies = (
    ['a user', "$plain $edge"],
    ['the default user', "$plain password_file default;"],
    ['a unix socket', "source unix:$redis->{path}; $edge"],
    ['the same', "source redis://unix:$redis->{path}; $edge"],
    ['TLS', "$tls $named"],
    ['TLS, unverified', "$tls ssl_verify off;"],
    ['a name, and TLS',
        "source rediss://redis.test:$redis->{tls}; $edge"
        . ' trusted_certificate ca.pem;'],
    ['a name', "source redis://redis.test:$redis->{port}; $edge"],
    ['a certificate of the edge\'s', "$both $client"],
    ['a channel that is denied',
        "$plain user deaf; password_file good;", undef,
        qr/the channel "\{oci\}:changed" of oci_policy "p9" can't be had, changes come with the poll: it refused the subscription \(NOPERM\)/],
    ['no password', $plain,
        qr/it refused (the login|to tell the epoch) \(NOAUTH\)/],
    ['a wrong password', "$plain user edge; password_file bad;",
        qr/it refused the login \(WRONGPASS\)/],
    ['an unknown user', "$plain user nobody; password_file good;",
        qr/it refused the login \(WRONGPASS\)/],
    ['a password without TLS at a TLS port',
        "source redis://127.0.0.1:$redis->{tls}; $edge",
        qr/it closed the connection|the connection broke/],
    ['TLS at a port without', "source rediss://127.0.0.1:$redis->{port};"
        . " $edge $named", qr/the TLS handshake failed|it could not be/],
    ['too few commands', "$plain user poor; password_file good;",
        qr/it refused to tell the document \(NOPERM\)/],
    ['an untrusted certificate', "$tls trusted_certificate second.pem;"
        . ' ssl_name redis.test;', qr/its certificate is not trusted/],
    ['one of another name', "$tls trusted_certificate ca.pem;"
        . ' ssl_name other.test;', qr/its certificate is of another name/],
    ['one of no address', "$tls trusted_certificate ca.pem;",
        qr/its certificate is of another name/],
    ['no certificate of the edge\'s', $both,
        qr/the TLS handshake failed|it closed the connection|the connection broke/],
    ['a socket that is not there', "source unix:$d/nothing.sock;",
        qr/it can't be connected to \(2: No such file/],
    ['a port that nobody has', 'source redis://127.0.0.1:1;',
        qr/it can't be connected to \(111: Connection refused/],
    ['a database that is none', "$plain $edge" =~ s!;!/99;!r,
        qr/it refused the login \(ERR\)/],
    ['a name that is none', "source redis://none.test:$redis->{port}; $edge",
        undef],
);

my ($conf, $servers) = ('', '');
my @ports;

for my $i (0 .. $#policies) {
    push @ports, OCI::port();
    $conf .= <<EOC;
oci_policy p$i {
    $policies[$i][1]
    zone p$i:256k; identity basic; state_file off; poll 500ms;
    timeout 3s; connect_timeout 3s;
}
server {
    listen 127.0.0.1:$ports[$i];
    location /v2/ { oci_pass demo; oci_access p$i; }
}
EOC
}

$t->conf(location => '', http => <<EOC);
resolver 127.0.0.1:$dns valid=1s ipv6=off;
resolver_timeout 2s;
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
$conf
EOC
$t->start();

my $alice = { Policy::basic('alice', 'canary-alice') };

sub status {
    my ($i) = @_;
    return $t->http($ports[$i], 'GET', '/v2/llm/a/tags/list',
        $alice)->{status};
}

for my $i (0 .. $#policies) {
    my ($what, undef, $says, $warns) = @{$policies[$i]};
    next if $what eq 'a name that is none';
    if ($says) {
        ok(until_true(10, sub { $t->read_file('error.log')
            =~ /of oci_policy "p$i" is out of reach, and there is no document: all requests are refused: $says/ }),
            "$what: it says so")
            or diag(grep { /"p$i"/ } split /^/, $t->read_file('error.log'));
        is(status($i), 503, 'nobody gets anything');
        next;
    }
    ok(until_true(10, sub { status($i) == 200 }), $what)
        or diag(grep { /"p$i"/ } split /^/, $t->read_file('error.log'));
    ok(!$warns || until_true(10, sub { $t->read_file('error.log')
        =~ $warns }), 'and what it says');
}

# changes come over any of them

my %off = (%{$doc->{subjects}{alice}}, disabled => JSON::PP::true);
$redis->change('subject/alice' => \%off);
$mutual->change('subject/alice' => \%off);

for my $i (grep { !$policies[$_][2] } 0 .. $#policies - 1) {
    ok(until_true(5, sub { status($i) == 401 }),
        "a change: $policies[$i][0]");
}

# the name servers go: the address that was known is used

my ($by_name) = grep { $policies[$_][0] eq 'a name' } 0 .. $#policies;
$t->dns_says('servfail');
sleep 1.5;
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
$redis->command('CLIENT', 'KILL', 'TYPE', 'pubsub');
$redis->change('subject/alice' => $doc->{subjects}{alice});
ok(until_true(10, sub { status($by_name) == 200 }), 'without name servers');

# a name that is gone is an answer

$t->dns_says('nxdomain');
sleep 1.5;
$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
ok(until_true(10, sub { $t->read_file('error.log')
    =~ /"p$by_name" is out of reach, the document that is known counts for \d+ s: there is no such name/ }),
    'without the name') or diag(grep { /"p$by_name"/ } split /^/,
    $t->read_file('error.log'));
is(status($by_name), 200, 'the document decides');

# and again, at another address

$t->dns_says('127.0.0.1 1');
ok(until_true(10, sub { $t->read_file('error.log')
    =~ /"p$by_name" has the document that is in force/ }), 'and with it');

my $text = join '', map { $t->read_file($_) } qw/ error.log nginx.log
    access.log upstream0.requests /;
unlike($text, qr/canary/, 'no secret in a log');

$t->allow(qr/alert certificate required/);
$t->done();
