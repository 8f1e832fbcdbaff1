#!/usr/bin/perl

# The n-th allocation fails while a policy decides: secrets, tokens, the
# edge's own token service, "dry_run", transfers that are decided again, and a
# document that changes.  Whatever fails, nobody gets what isn't his, no worker
# dies, and all is well afterwards.  FAULTS=all tries every n.

use warnings;
use strict;

use Test::More;
use Errno qw/ ENOMEM /;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Fault;
use Jwt;
use Policy;

my $all = ($ENV{FAULTS} // '') eq 'all';
my $t = OCI->new(workers => 1);
my $fault = Fault->new($t);
my $d = $t->{dir};

my %doc = (version => 1, subjects => {
        alice => { secret => Policy::phc('canary-alice') },
        bob => { secret => Policy::phc('canary-bob') } },
    grants => { g => { role => 'guest', subjects => ['alice'],
        repositories => ['llm/**'] } },
    projects => { public => { public => JSON::PP::true } });

sub document {
    my ($n) = @_;
    $doc{roles} = { "r$n" => ['pull'] };
    Policy::write_doc($t, \%doc);
}

document(0);
Policy::signing_key($t, 'one.pem');
my $foreign = Jwt::key($t, 'foreign', 'EC');

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{"tags":["canary"]}');
}, quiet => 1);

# secrets are checked anew each time

$t->conf(cache => '', http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic anonymous;
    signing_key $d/one.pem; valid 0; recheck 100ms;
    issuer issuer; audience audience; key $d/foreign.pub; grants token;
}
EOC
location /v2/ { oci_pass demo; oci_access team; }
location = /token { oci_token policy=team; }
location /v2/dry/ { oci_pass demo; oci_access dry_run team; }
EOL
$fault->start();

my $uri = '/v2/llm/x/tags/list';

sub foreign {
    my ($sub, $name) = @_;
    return Jwt::bearer(Jwt::token($foreign, { iss => 'issuer',
        aud => 'audience', sub => $sub, iat => int(time()),
        nbf => int(time()), exp => int(time()) + 300, jti => rand,
        access => [Jwt::access($name, 'pull')] }));
}

sub ask { return $t->get($_[0], ref $_[1] ? $_[1] : { @_[1 .. $#_] }) }

sub token {
    my ($user) = @_;
    return ask('/token?service=team&scope=repository:llm/x:pull',
        Policy::basic($user, "canary-$user"));
}

my $own = decode_json(token('alice')->{body})->{token};

# (what is asked, what is right; while something fails an answer of 5xx is, too,
# and 401 to a token that jansson had no memory for, as it can't tell that)

my @asked = (
    [alice => 200, sub { ask($uri, Policy::basic('alice', 'canary-alice')) }],
    [bob => 404, sub { ask($uri, Policy::basic('bob', 'canary-bob')) }],
    [wrong => 401, sub { ask($uri, Policy::basic('alice', 'wrong')) }],
    [nobody => 401, sub { ask($uri) }],
    [public => 200, sub { ask('/v2/public/x/tags/list') }],
    [foreign => 200, sub { ask($uri, foreign('carol', 'llm/x')) }],
    ['other scope' => 401, sub { ask($uri, foreign('carol', 'llm/y')) }],
    [own => 200, sub { ask($uri, { Authorization => "Bearer $own" }) }],
    ['no token' => 401, sub { ask($uri, { Authorization => 'Bearer x.y.z' })
        }],
    [issued => 200, sub { token('alice') }],
    ['not issued' => 401, sub { ask('/token?service=team',
        Policy::basic('alice', 'wrong')) }],
    ['a form' => 200, sub { $t->http($t->{edge}, 'POST', '/token', {
        'Content-Type' => 'application/x-www-form-urlencoded' },
        'grant_type=password&service=team&username=alice'
        . '&password=canary-alice') }],
    ['dry run' => 200, sub { ask('/v2/dry/x/tags/list') }],
    [mount => 404, sub { $t->http($t->{edge}, 'POST',
        '/v2/llm/x/blobs/uploads/?mount=sha256:' . 'a' x 64 . '&from=other/x',
        { Policy::basic('bob', 'canary-bob') }, '') }],
    [ping => 401, sub { ask('/v2/') }],
);

sub differ {
    my ($loose) = @_;
    my @bad;
    for my $c (@asked) {
        my ($name, $right, $code) = @$c;
        my $r = $code->();
        my $s = $r->{status};
        push @bad, "$name: $s" if $s != $right
            && !($loose && ($s == 0 || $s >= 500
                || ($s == 401 && $name =~ /^(foreign|own)$/)));
        push @bad, "$name: something" if $right >= 400
            && $r->{body} =~ /canary|"token":/;
    }
    return @bad;
}

is(join(', ', differ()), '', 'as it is to be');

my $workers = join ' ', $t->workers();
my ($tries, $n, @bad) = (0, 0);

for my $c (@asked) {
    my ($name, $right, $code) = @$c;

    for my $on (0, 1) {
        for ($n = 1; $n <= 300; $n += $all ? 1 : 1 + int rand 4) {
            last if !$all && $n > 40;
            $fault->arm('memory', $n, ENOMEM, on => $on);
            my $r = $code->();
            my (undef, $fired) = $fault->disarm();
            my $s = $r->{status};
            $tries++;
            push @bad, "$name, call $n: $s"
                if $s != $right && $s != 0 && $s < 500
                && !($s == 401 && $name =~ /^(foreign|own)$/);
            push @bad, "$name, call $n: something"
                if $right >= 400 && $r->{body} =~ /canary|"token":/;
            last if !$fired;
        }
    }
}

is(join("\n", @bad), '', 'nobody gets what is not his');
diag("$tries tries");
is(join(', ', differ()), '', 'all is well afterwards');

# a document that changes, whatever fails: the one before it counts, or this
# one, and in the end this one

for ($n = 1; $n <= 60; $n += $all ? 1 : 1 + int rand 6) {
    $doc{subjects}{bob}{disabled} = $n % 2 ? JSON::PP::true : JSON::PP::false;
    $fault->arm('memory', $n, ENOMEM);
    document($n);
    sleep 0.3;
    push @bad, "$n: $_" for grep { !/^(bob|mount):/ } differ(1);
    $fault->disarm();
    until_true(20, sub {
        ask($uri, Policy::basic('bob', 'canary-bob'))->{status}
            == ($n % 2 ? 401 : 404) }) or push @bad, "$n: is not in force";
}

is(join("\n", @bad), '', 'a document is in force in the end');
is(join(' ', $t->workers()), $workers, 'no worker died');

$t->allow(qr/(malloc|posix_memalign|calloc)\(.*\) failed/,
    qr/could not allocate/, qr/\(12: Cannot allocate memory\)/);
$t->done();
