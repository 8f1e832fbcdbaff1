#!/usr/bin/perl

# S17: confusion of tokens.  The edge checks no signature: who may read is
# what the registry says to a token as it is.  So what can be confused are
# tokens, in what the edge remembers of them.
#
# A registry that knows its tokens byte by byte; everything is cached, and the
# right of one token is remembered.  Tokens that are like it: alg none, another
# key id, another key type, a jwk, jku, x5u in the header, a kid that is a
# path, a longer and a shorter one, other cases and blanks, the same text as
# Basic, a refresh token, one for another repository, registry or action, one
# in a query, a cookie or a second header; 8 KiB that differ at the end.
#
#   - none of them gets a byte of a blob, a manifest or a tag from the cache,
#     before or after the right one, also while the registry is down: they have
#     the registry's own 401 or 403, or an error;
#   - each is sent to the registry as it came, and to nobody else; the edge's
#     own tokens, one for each scope and credential, never are mixed up with
#     callers' or among each other, nor given to callers;
#   - a right ends: after a refusal nobody is served with that token.
#
# Tokens that the edge itself checks or issues come with its policy module.
# See also s05_membership.t, token.t, source.t, wipe.t.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use MIME::Base64 qw/ encode_base64 encode_base64url decode_base64 /;

use lib dirname(__FILE__) . '/lib';
use OCI;

# nginx tells a header that came twice, and the URI

my $t = OCI->new(workers => 2, told => [
    qr/client sent duplicate header line: "Authorization/,
    qr/[?]access_token=/ ]);
my $d = $t->{dir};
my $blob = 'the blob, ' x 20_000;
my $bdigest = $t->digest($blob);
my $manifest = '{"schemaVersion":2}';
my $digest = $t->digest($manifest);

sub jwt {
    my ($head, $body, $sign) = @_;
    return join '.', encode_base64url($head), encode_base64url($body), $sign;
}

my $claims = '{"sub":"alice","iss":"i","aud":"r","exp":4102444800,"access":'
    . '[{"type":"repository","name":"one","actions":["pull"]}]}';
my $alice = jwt('{"alg":"RS256","kid":"k1"}', $claims, 'c2lnbmF0dXJl' x 20);
my ($h, $b, $s) = split /\./, $alice;
my $long = 'x' x 8100;
my %right = ("Bearer $alice" => 'one', "Bearer ${long}1" => 'one',
    'Bearer bob' => 'two', 'Basic ' . encode_base64('carl:p', '') => 'one');

sub other {
    my ($from, $to) = @_;
    (my $x = $claims) =~ s/\Q$from\E/$to/ or die;
    return encode_base64url($x);
}

my %like = (
    'alg none' => jwt('{"alg":"none"}', $claims, ''),
    'alg none, signed' => jwt('{"alg":"none","kid":"k1"}', $claims, $s),
    'HS256' => jwt('{"alg":"HS256","kid":"k1"}', $claims, $s),
    'jwk' => jwt('{"alg":"RS256","jwk":{"kty":"RSA"}}', $claims, $s),
    'jku' => jwt('{"alg":"RS256","jku":"http://127.0.0.1/k"}', $claims, $s),
    'x5u' => jwt('{"alg":"RS256","x5u":"http://127.0.0.1/k"}', $claims, $s),
    'kid, a path' => jwt('{"alg":"RS256","kid":"../null"}', $claims, $s),
    'kid, SQL' => jwt(q({"alg":"RS256","kid":"k1' OR 1=1"}), $claims, $s),
    'another sub' => "$h." . other('alice', 'root') . ".$s",
    'another aud' => "$h." . other('"r"', '"x"') . ".$s",
    'another iss' => "$h." . other('"i"', '"x"') . ".$s",
    'expired' => "$h." . other('4102444800', '1') . ".$s",
    'another repository' => "$h." . other('"one"', '"two"') . ".$s",
    'another action' => "$h." . other('pull', 'push') . ".$s",
    'no signature' => "$h.$b.", 'no body' => "$h..$s", 'two parts' => "$h.$b",
    'a part more' => "$alice.$s", 'a byte less' => substr($alice, 0, -1),
    'a byte more' => "${alice}A", 'its prefix' => substr($alice, 0, 32),
    'other case' => lc $alice, 'a bit' => "$h.$b." . ucfirst lc $s,
    'refresh' => 'refresh.' . $alice, 'quoted' => "\"$alice\"",
    'padded' => "$alice==", '8 KiB' => "${long}2", '9 KiB' => 'x' x 9000,
    'bob\'s' => 'bob', 'two tokens' => "$alice,$alice", 'x' => 'x',
);
my @names = sort keys %like;

# another form of the right one: the registry says who that is

my %form = (
    'as Basic' => "Basic $alice", 'as Token' => "Token $alice",
    'lower case' => "bearer $alice", 'upper case' => "BEARER $alice",
    'no scheme' => $alice, 'a tab' => "Bearer\t$alice",
    'blanks' => "Bearer  $alice", 'twice' => "Bearer Bearer $alice",
    'Basic of it' => 'Basic ' . encode_base64("alice:$alice", ''),
    'carl, as Bearer' => 'Bearer ' . encode_base64('carl:p', ''),
    'carl, another password' => 'Basic ' . encode_base64('carl:q', ''),
    'carl, shorter' => 'Basic ' . encode_base64('carl:', ''),
    'nothing' => '', 'a scheme' => 'Bearer',
);

# who knows what, and what was asked with what

my $registry = sub {
    my ($me) = @_;
    return sub {
        my ($c, $q) = @_;
        my $a = $q->{h}{authorization} // '';
        my ($repo, $kind) = $q->{uri} =~ m!^/v2/(\w+)/(blobs|manifests)/!;
        $repo //= 'x';
        Canary::mine("$d/asked.$me");
        open my $f, '>>', "$d/asked.$me" or die;
        syswrite $f, "$a\t$q->{uri}\n";
        close $f;
        return 0 if -e "$d/down";

        if ($q->{uri} =~ m!^/token!) {
            my ($who) = $a =~ /^Basic (.+)/ ? decode_base64($1) =~ /^(\w+):/
                : ();
            my ($scope) = $q->{uri} =~ /scope=([^&]*)/;
            $scope =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
            return $t->reply($c, $q, 200, {}, '{"token":"edge-' . ($who // '')
                . "-$scope\",\"access_token\":\"wrong\","
                . "\"refresh_token\":\"wrong\"}");
        }
        my $ok = $me eq 'first' ? ($right{$a} // '') eq $repo
            && !-e "$d/revoked"
            : $a =~ /^Bearer edge-(\w+)-repository:\Q$repo\E:pull$/
            && $q->{uri} =~ /who=$1/ || $a eq 'Bearer second';
        my $realm = $me eq 'first' ? 'http://127.0.0.1:9/none'
            : "http://$q->{h}{host}/token";
        return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
            "Bearer realm=\"$realm\",service=\"s\"" }, '{"errors":[]}')
            unless $ok;
        return $t->reply_blob($c, $q, $blob) if $kind eq 'blobs';
        return $t->reply($c, $q, 200, { 'Content-Type' =>
            $OCI::TYPE{manifest}, 'Docker-Content-Digest' => $digest },
            $manifest);
    };
};
my $one = $t->upstream($registry->('first'), quiet => 1);
my $two = $t->upstream($registry->('second'), quiet => 1);

$t->conf(http => <<EOC, location => <<EOL, cache_args => 'slice=64k');
oci_registry first { url http://127.0.0.1:$one; breaker off; }
oci_registry second { url http://127.0.0.1:$two; breaker off; }
map \$arg_r \$registry { ~. \$arg_r; default first; }
large_client_header_buffers 4 32k;
EOC
location /v2/ {
    oci_pass \$registry;
    oci_cache models;
    oci_cache_valid tag 1h;
    oci_cache_valid manifest 1h;
}
EOL
$t->start();

sub asked {
    my ($who) = @_;
    return map { [ split /\t/ ] } split /\n/, $t->read_file("asked.$who");
}

my @uris = ("blobs/$bdigest", 'manifests/v1', "manifests/$digest");

sub all {
    my ($auth, $repo, $query) = @_;
    return map {
        my $uri = "/v2/" . ($repo // 'one') . "/$_" . ($query // '');
        map { $t->http($t->{edge}, $_, $uri,
            { defined $auth ? (Authorization => $auth) : () }, undef, 20) }
            'GET', 'HEAD';
    } @uris;
}

sub served {
    my (@r) = @_;
    return scalar grep {
        $_->{status} =~ /^2/ || $_->{body} =~ /the blob|schemaVersion/
            || ($_->{h}{'content-length'} // 0) == length $blob
            || ($_->{h}{'docker-content-digest'} // '') ne ''
    } @r;
}

sub none {
    my ($when) = @_;
    my @cases = ((map { [ $_, "Bearer $like{$_}" ] } @names),
        map { [ $_, $form{$_} ] } sort keys %form);
    my @out = $t->parallel(8, sub {
        my ($i) = @_;
        return join "\n", grep { $_ ne '' } map {
            my ($name, $auth) = @{$cases[$_]};
            served(all($auth, 'one')) ? $name : ''
        } grep { $_ % 8 == $i } 0 .. $#cases;
    });
    is(join("\n", grep { $_ ne '' } @out), '', "$when: none is served");
    is(served(all(undef)), 0, "$when: nor without");
    is(served(all("Bearer $alice", 'two')), 0,
        "$when: nor in another repository");
    is(served(all("Bearer $alice", 'one', '?r=second')), 0,
        "$when: nor from another registry");
    is(served(all(undef, 'one', "?access_token=$alice")), 0,
        "$when: nor by a query");
    is(served($t->get("/v2/one/$uris[0]", { Cookie => "token=$alice",
        'X-Authorization' => "Bearer $alice",
        'Proxy-Authorization' => "Bearer $alice" })), 0,
        "$when: nor by other headers");
}

none('cold');
for (1, 2) {
    is(served(all($_)), 6, 'the right ones are')
        for grep { $right{$_} eq 'one' } sort keys %right;
    is(served(all('Bearer bob', 'two')), 6, 'and bob\'s, where it is right');
}
none('warm');

# two headers: the first, or none

my $r = $t->get("/v2/one/$uris[0]",
    { Authorization => [ 'Bearer x', "Bearer $alice" ] });
isnt($r->{status}, 200, 'two headers: not the second');

# what the registry was asked with

my %sent = map { ("Bearer $_" => 1) } values %like;
$sent{$_} = 1 for values %form, keys %right, 'Bearer x',
    "Bearer x, Bearer $alice", map { s/\s+$//r } values %form;
my @strange = grep { !$sent{$_->[0]} } asked('first');
is(join("\n", map { "@$_" } @strange[0 .. ($#strange < 4 ? $#strange : 4)]),
    '', 'tokens go as they came');
my %leaked = map { $_->[0] => 1 } asked('second');
delete @leaked{"Bearer $alice", ''};
is(join(' ', sort keys %leaked), '', 'and to nobody else');

# while it is down: who has the right, by the whole of it

$t->write_file('down', '');
is(served(all("Bearer $alice")), 6, 'down: the right one is served');
none('down');
unlink "$d/down";

# taken back

$t->write_file('revoked', '');
$t->stop();
$t->start();
none('revoked');
is(served(all("Bearer $alice")), 0, 'revoked: nor the right one');
is(served(all("Bearer ${long}1")), 0, 'nor the long one');
$t->write_file('down', '');
is(served(all("Bearer $alice")), 0, 'nor while it is down');
unlink "$d/down";
$t->stop();

# the edge's own tokens: one for each credential and scope

$t->write_file("robot.$_", "$_:canary-secret\n", 0600) for qw/ ann ben /;
$t->conf(http => <<EOC, location => <<EOL);
oci_registry ann { url http://127.0.0.1:$two; credentials file $d/robot.ann; }
oci_registry ben { url http://127.0.0.1:$two; credentials file $d/robot.ben; }
map \$arg_r \$registry { ~. \$arg_r; default ann; }
EOC
location /v2/ { oci_pass \$registry; oci_access open; }
EOL
unlink "$d/asked.second";
$t->start();

my @wrong;
for (1 .. 3) {
    for my $who (qw/ ann ben /) {
        for my $repo (qw/ one two tw one /) {
            $r = $t->get("/v2/$repo/manifests/v1?r=$who&who=$who",
                { Authorization => 'Bearer callers' });
            push @wrong, "$who $repo $r->{status}" if $r->{status} != 200;
            push @wrong, "$who: a token came back"
                if "@{[%{$r->{h}}]} $r->{body}" =~ /edge-|secret/;
        }
    }
}
is(join("\n", @wrong), '', 'own tokens: each for what it is');
my @own = asked('second');
ok(!grep({ $_->[0] =~ /callers|wrong/ } @own), 'and no other one is sent');
cmp_ok(scalar(grep { $_->[1] =~ /^.token/ } @own), '<=', 16,
    'they are kept');

$t->done();
