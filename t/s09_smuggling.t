#!/usr/bin/perl

# S9: request smuggling and desynchronised connections.
#
# Towards clients: a corpus of requests whose end two parsers may see at
# different places (CL.TE, TE.CL, TE in odd spellings, several lengths, signs,
# obs-fold, bare LF and CR, chunk sizes that are none, bodies with GET and HEAD
# of blobs).  Each hides a request for /v2/smuggled/ that would follow: the
# upstream never hears of it, and what comes on the connection afterwards, if it
# lives, is the answer to what was asked.
#
# Towards the upstream: answers that are followed by another answer (behind a
# body, a chunked one, HEAD, 204, 304, an interim one), at once or late.  Every
# answer has a nonce of its request: no client gets another one's.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $blob = 'the blob, ' x 100;
my $digest = $t->digest($blob);

# one connection, one request: what is left is not read as another one

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    if ($q->{uri} =~ m!/blobs/\Q$digest!) {
        $t->reply_blob($c, $q, $blob);
    } elsif ($q->{uri} =~ m!/tags/!) {
        $t->reply($c, $q, 200, {}, 'tags');
    } else {
        $t->reply($c, $q, 404, {}, '{}');
    }
    return $q->{method} =~ /GET|HEAD/;
});

# poison: answers twice, in one piece or after a while

my $twice = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($mode, $nonce) = $q->{uri} =~ m!^/v2/(\w+)/(\w+)/!;
    my $evil = "HTTP/1.1 200 X\r\nContent-Length: 6\r\n"
        . "Docker-Content-Digest: $digest\r\n"
        . "Content-Type: $OCI::TYPE{manifest}\r\n\r\npoison";
    my $late = $mode =~ s/^late//;
    my $body = qq({"schemaVersion":2,"nonce":"$nonce"});
    my $type = "Content-Type: $OCI::TYPE{manifest}\r\n";
    my $plain = "HTTP/1.1 200 X\r\n${type}Content-Length: " . length($body)
        . "\r\n\r\n" . ($q->{method} eq 'HEAD' ? '' : $body);
    my %text = (
        plain => $plain,
        chunked => "HTTP/1.1 200 X\r\n${type}Transfer-Encoding: chunked\r\n"
            . "\r\n" . ($q->{method} eq 'HEAD' ? ''
            : sprintf "%x\r\n%s\r\n0\r\n\r\n", length $body, $body),
        interim => "HTTP/1.1 103 X\r\nLink: <x>\r\n\r\n$plain",
        none => "HTTP/1.1 204 X\r\n\r\n",
        same => "HTTP/1.1 304 X\r\n\r\n",
    );

    syswrite $c, $text{$mode} . ($late ? '' : $evil);
    if ($late) {
        sleep 0.02;
        syswrite $c, $evil;
    }
    return 1;
}, quiet => 1);

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; }
oci_registry twice { url http://127.0.0.1:$twice; stall_timeout 2s; }
map \$arg_r \$registry { ~. \$arg_r; default demo; }
EOC
location /v2/ { oci_pass \$registry; oci_cache models; client_body_timeout 1s; }
EOL
$t->start();

my $b = "/v2/m/blobs/$digest";
my $u = '/v2/m/blobs/uploads/1?_x=1';
my $x = "GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: e\r\n\r\n";
my $n = length $x;
my $h = "HTTP/1.1\r\nHost: e\r\n";
my $te = 'Transfer-Encoding';
my $c0 = "0\r\n\r\n$x";

my %corpus = (
    'GET of a blob with a body' => "GET $b ${h}Content-Length: $n\r\n\r\n$x",
    'HEAD of a blob with a body' => "HEAD $b ${h}Content-Length: $n\r\n\r\n$x",
    'GET of a blob, chunked' => "GET $b ${h}$te: chunked\r\n\r\n"
        . sprintf("%x\r\n%s\r\n0\r\n\r\n", $n, $x),
    'GET of a tag with a body' =>
        "GET /v2/m/manifests/x ${h}Content-Length: $n\r\n\r\n$x",
    'CL.TE' => "POST $u ${h}Content-Length: " . length($c0)
        . "\r\n$te: chunked\r\n\r\n$c0",
    'TE.CL' => "POST $u ${h}$te: chunked\r\nContent-Length: 3\r\n\r\n"
        . sprintf("%x\r\n%s\r\n0\r\n\r\n", $n, $x),
    'CL.TE on a blob' => "GET $b ${h}Content-Length: " . length($c0)
        . "\r\n$te: chunked\r\n\r\n$c0",
    (map { ("TE as \"$_\"" => "POST $u ${h}Content-Length: " . length($c0)
        . "\r\n$_\r\n\r\n$c0") } "$te : chunked", "$te:\tchunked",
        "$te: xchunked", "$te: chunked, identity", "$te: identity, chunked",
        "$te: identity", "$te: \"chunked\"", "$te: chunked\r\n$te: x",
        "$te:\x0bchunked", " $te: chunked", "X: y\r\n $te: chunked",
        "X: y\n$te: chunked", "X: y\r$te: chunked", "${te}\0: chunked",
        "transfer_encoding: chunked", "$te: CHUNKED", "$te:chunked ",
        "$te: chunked;x=y"),
    (map { ("length \"$_\"" => "POST $u ${h}Content-Length: $_\r\n\r\n$x") }
        '+5', '-1', "5\r\nContent-Length: 6", "5\r\nContent-Length: 5",
        '5, 5', '5 5', '0x5', '5.0', "\x0b5", "5\0", '', '05x', '1e1',
        '99999999999999999999', '9223372036854775808'),
    (map { ("chunk \"$_->[0]\"" => "POST $u ${h}$te: chunked\r\n\r\n"
        . "$_->[1]") }
        [ '0x', "0x5\r\nhello\r\n$c0" ], [ 'minus', "-5\r\nhello\r\n$c0" ],
        [ 'plus', "+5\r\nhello\r\n$c0" ], [ 'space', "5 x\r\nhello\r\n$c0" ],
        [ 'huge', "fffffffffffffffff\r\nhello\r\n$c0" ],
        [ 'wraps', "10000000000000005\r\nhello\r\n$c0" ],
        [ 'negative', "8000000000000000\r\nhello\r\n$c0" ],
        [ 'no CRLF', "5\r\nhelloX\r\n$c0" ],
        [ 'bare CR', "5\rhello\r\n$c0" ], [ 'empty', "\r\n$c0" ],
        [ 'extension', "5;a=\"\r\n\"\r\nhello\r\n$c0" ],
        [ 'short', "ff\r\n$x" ]),
    'obs-fold' => "GET $b ${h}X: y\r\n Content-Length: $n\r\n\r\n$x",
    'obs-fold, first' => "GET $b HTTP/1.1\r\n Host: e\r\n\r\n$x",
    'a header without a colon' => "GET $b ${h}X\r\n\r\n$x",
    'CR in the line' => "GET $b\rX HTTP/1.1\r\nHost: e\r\n\r\n",
    'two hosts' => "GET $b ${h}Host: f\r\n\r\n",
    'no host' => "GET $b HTTP/1.1\r\n\r\n",
    'HTTP/0.9' => "GET $b\r\n$x",
    'HTTP/2.0' => "GET $b HTTP/2.0\r\nHost: e\r\n\r\n$x",
    'HTTP/1.1 with a letter' => "GET $b HTTP/1.1x\r\nHost: e\r\n\r\n$x",
    'HTTP/1.0, chunked' => "POST $u HTTP/1.0\r\n$te: chunked\r\n\r\n$c0",
    'Upgrade' => "GET $b ${h}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    'h2c' => "GET $b ${h}Connection: Upgrade, HTTP2-Settings\r\n"
        . "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    'hop by hop' => "GET $b ${h}Connection: close, Host, Authorization\r\n\r\n",
    'Expect' => "POST $u ${h}Expect: 100-continue\r\nContent-Length: $n\r\n\r\n"
        . $x,
    'a trailer' => "POST $u ${h}$te: chunked\r\nTrailer: Host\r\n\r\n"
        . "5\r\nhello\r\n0\r\nHost: f\r\nContent-Length: 5\r\n\r\n",
);

# no length at all, to anybody, and a chunk that nginx lets have a blank: what
# follows is a request of its own

my %asked = map { $_ => 1 } ('a header without a colon', 'obs-fold',
    'obs-fold, first', 'chunk "space"');

my $tail = "GET /v2/m/tags/list ${h}Connection: close\r\n\r\n";
my @names = sort keys %corpus;
my $clients = 16;

# the name of a case stands in its hidden request

my @answers = map { split /\0\0/ } $t->parallel($clients, sub {
    my ($i) = @_;
    return join "\0\0", map {
        my $text = $corpus{$names[$_]} . $tail;
        my $case = sprintf 's%07d', $_;
        $text =~ s/smuggled/$case/g;
        "$_ " . $t->raw($text, 1);
    } grep { $_ % $clients == $i } 0 .. $#names;
});

is(scalar(@answers), scalar(@names), 'all were tried');

for (@answers) {
    my ($i, $after) = /^(\d+) (.*)/s;
    my $name = $names[$i];
    (my $print = $name) =~ s/([^ -~])/sprintf '\x%02x', ord $1/ge;
    my $max = $asked{$name} ? 3 : 2;
    my @status = $after =~ m!^HTTP/1\.1 (\d+)!mg;

    cmp_ok(scalar(@status), '<=', $max, "$print: no more answers than requests")
        or diag($after);
    like($after, qr!^HTTP/1\.1 400!, "$print: 400")
        if $name =~ /(?:blob|tag) with a body|blob, chunked|CL\.TE|TE\.CL/;
}

my @smuggled = map { $names[$_] } grep { !$asked{$names[$_]} }
    map { $_->{uri} =~ m!^/v2/s(\d{7})/! ? $1 : () } $t->requests();
is(join(', ', @smuggled), '', 'the upstream heard of none that was hidden');
ok(!grep({ OCI::encode_json($_->{h}) =~ /s\d{7}/ } $t->requests()),
    'in no header either');

my @lengths = grep { exists $_->{h}{'transfer-encoding'}
    && exists $_->{h}{'content-length'} } $t->requests();
is(scalar(@lengths), 0, 'nor of two lengths at once');

is($t->get($b)->{body}, $blob, 'the edge lives, and its blob is right');

# poisoned connections

my $nonce = 0;
my (%wrong, %right);
my @modes = qw/ plain chunked interim none same /;

# what comes late can't be told from an answer if a request of the same client
# was sent meanwhile: only requests that are one at the upstream are asked then

for my $round (1 .. $t->times(4, 200)) {
    for my $mode (@modes, map { "late$_" } @modes) {
        for my $way ([ 'GET', 'manifests/x' ], [ 'HEAD', 'manifests/x' ],
            [ 'GET', 'tags/list' ], [ 'HEAD', "blobs/$digest" ],
            [ 'DELETE', 'manifests/x' ])
        {
            my $passed = $way->[1] =~ /tags/ || $way->[0] eq 'DELETE';
            next if $mode =~ /^late/ && !$passed;

            # nginx's own proxy takes an interim answer for the last one

            next if $mode =~ /interim/ && $passed;
            $nonce++;
            my $r = $t->http($t->{edge}, $way->[0],
                "/v2/$mode/n$nonce/$way->[1]?r=twice", {}, undef, 8);
            sleep 0.1 if $mode =~ /^late/;
            my ($its) = $r->{body} =~ /"nonce":"(\w+)"/;
            $right{$mode}++ if ($its // '') eq "n$nonce";
            $wrong{"$mode @$way"}++ if $r->{body} =~ /poison/
                || (defined $its && $its ne "n$nonce")
                || ($r->{h}{'content-length'} // '') eq '6';
        }
    }
}

is(join(', ', sort keys %wrong), '', 'nobody gets what was sent for another');
ok($right{$_}, "$_: answers come") for qw/ plain chunked lateplain /;

my ($alike, $tried) = (0, 0);
for (1 .. 20) {
    my $r = $t->get($b);
    $alike++ if $r->{body} eq $blob;
    $tried++;
}
is($alike, $tried, 'and the other registry is as before');

$t->done();
