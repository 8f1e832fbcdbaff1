#!/usr/bin/perl

# Pulls that outlive what they began with: the tokens of the edge's own
# credentials, the URLs that the registry redirects to, the tokens of callers.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use List::Util qw/ sum0 /;
use MIME::Base64;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $rate = 4 * 1024 * 1024;
my $piece = 256 * 1024;
my $token_valid = 0.2;
my $url_valid = 0.06;

my @kinds = qw/ stored filled callers /;
my (%blob, %digest, %kind);

for my $kind (@kinds) {
    my $blob = $t->random_blob($kind eq 'callers' ? 8 * 1024 * 1024 + 77
        : 36 * 1024 * 1024 + 77);
    my $digest = $t->digest($blob);
    ($blob{$digest}, $digest{$kind}, $kind{$digest}) = ($blob, $digest, $kind);
}

# an event of a kind, kept by the servers; how many there were

sub note_event {
    my ($name, $text) = @_;
    open my $f, '>>', "$d/events.$name" or die;
    syswrite $f, ($text // '-') . "\n";
    close $f;
    return scalar events($name);
}

sub events {
    my ($name) = @_;
    return split /\n/, $t->read_file("events.$name");
}

# The store: each answer ends after a piece, so that a fill takes many
# exchanges; a URL expires, but for its first request.

my $store = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest, $kind, $n, $at) = $q->{uri}
        =~ m!^/data/([^?]+)\?sig=(\w+)-(\d+)-([\d.]+)$!;
    my $blob = $blob{$digest};
    my ($from, $to) = ($q->{from}, $q->{to} // length $blob);

    note_event("leaked", $kind) if defined $q->{h}{authorization};

    if (note_event("$kind.get.$n") > 1 && time() - $at > $url_valid) {
        note_event("$kind.url.expired", $n);
        return $t->reply($c, $q, 403, {}, '');
    }

    my $last = $to - $from > $piece ? $from + $piece : $to;

    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . '/'
        . length($blob) . "\r\n\r\n";
    print $c substr $blob, $from, $last - $from;
    note_event("$kind.sent", "$from $last");
    return $last == $to;
}, quiet => 1);

my $service = $t->upstream(sub {
    my ($c, $q) = @_;
    my $basic = $q->{h}{authorization} // '';
    $basic =~ s/^Basic //;
    my ($kind, $password) = split /:/, decode_base64($basic);
    return $t->reply($c, $q, 401, {}, '')
        if ($password // '') ne 'canary-secret';
    my $n = note_event("$kind.token");
    my $body = sprintf '{"token":"%s-%d-%.3f","expires_in":300}', $kind, $n,
        time();
    note_event("$kind.token.bytes", length $body);
    return $t->reply($c, $q, 200, { 'Content-Type' => 'application/json' },
        $body);
}, quiet => 1);

# The registry: a token of the edge's expires, but for its first three
# requests; a caller's is good for six.  A first byte is given to any caller.

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    my $token = $q->{h}{authorization} // '';
    my $kind = $kind{$digest};
    my $probe = ($q->{h}{range} // '') eq 'bytes=0-0';
    my $ok = 0;

    $token =~ s/^Bearer //;

    if ($token =~ /^caller-/ && $probe) {
        return $t->reply_blob($c, $q, $blob{$digest});
    }

    if ($token =~ /^$kind-(\d+)-([\d.]+)$/ && $kind ne 'callers') {
        my ($n, $at) = ($1, $2);
        my $uses = note_event("$kind.use.$n");
        $ok = $uses <= 3 || time() - $at <= $token_valid;
        note_event("$kind.token.expired", $n) unless $ok;

    } elsif ($token =~ /^caller-(\w+)$/ && $kind eq 'callers') {
        my $who = $1;
        my $uses = note_event("$kind.use.$who");
        $ok = $uses <= 6 || $who eq 'last';
        note_event("$kind.token.expired", $who) unless $ok;

    } elsif ($token ne '') {
        note_event('strange', "$kind $token $q->{uri}");
    }

    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        "Bearer realm=\"http://127.0.0.1:$service/token\",service=\"r\"" },
        '') unless $ok;

    my $n = note_event("$kind.url");

    return $t->reply($c, $q, 307, { Location => sprintf
        'http://127.0.0.1:%d/data/%s?sig=%s-%d-%.3f', $store, $digest, $kind,
        $n, time() }, '');
}, quiet => 1);

$t->write_file("robot.$_", "$_:canary-secret\n", 0600) for qw/ stored filled /;

my $r = "url http://127.0.0.1:$port; realm_allow 127.0.0.1:$service;"
    . ' redirect_allow 127.0.0.1;';

$t->conf(cache_args => 'slice=256k', http => <<EOC, location => <<EOL);
oci_registry stored { $r rate $rate; credentials file $d/robot.stored; }
oci_registry filled { $r rate $rate; fill_credentials file $d/robot.filled; }
oci_registry callers { $r rate $rate; }
map \$arg_r \$registry { ~. \$arg_r; }
EOC
location /v2/ {
    oci_pass \$registry;
    oci_cache models;
    oci_fill_connections 2;
    oci_access open;
}
EOL
$t->start();

sub pull {
    my ($kind, $who) = @_;
    my $s = $t->get("/v2/m/blobs/$digest{$kind}?r=$kind",
        $who ? { Authorization => "Bearer caller-$who" } : {}, 60);
    return "$s->{status}" . ($s->{cut} ? ' cut ' : ' ')
        . ($s->{body} eq $blob{$digest{$kind}} ? 'right'
                                               : length $s->{body});
}

# the bytes that the store sent, but for a first byte that proves something:
# each once, and nothing else

sub sent_once {
    my ($kind) = @_;
    my $pos = 0;
    for my $e (sort { $a->[0] <=> $b->[0] } map { [ split ] }
        grep { $_ ne '0 1' } events("$kind.sent"))
    {
        return "$e->[0] after $pos" if $e->[0] != $pos;
        $pos = $e->[1];
    }
    return $pos;
}

# the edge's own credentials

my @out = $t->parallel(2, sub {
    my ($i) = @_;
    my $start = time();
    my $got = pull($i ? ('filled', 'me') : 'stored');
    return sprintf '%s in %.3f', $got, time() - $start;
});

my $bytes = $t->status()->{upstream_bytes};

for my $i (0, 1) {
    my $kind = qw/ stored filled /[$i];
    my $size = length $blob{$digest{$kind}};
    my ($got, $passed) = $out[$i] =~ /^(.*) in (.*)$/;

    is($got, '200 right', "$kind: right bytes");
    cmp_ok($passed, '>=', 20 * $token_valid, "$kind: 20 tokens' lifetimes");
    cmp_ok($passed, '>=', 40 * $url_valid, "$kind: 40 URLs' lifetimes");

    # a new one is asked for when the last one has expired, not before

    my @tokens = events("$kind.token");
    my @urls = events("$kind.url");
    my @refused = events("$kind.token.expired");
    cmp_ok(scalar @tokens, '>', 20, "$kind: 20 tokens expired");
    cmp_ok(scalar @urls, '>', 40, "$kind: 40 URLs expired");
    cmp_ok(scalar @refused, '>=', @tokens - 1, "$kind: each was refused");
    cmp_ok(scalar @refused, '<=', 2 * @tokens,
        "$kind: by each of two exchanges at most");
    my %seen;
    cmp_ok(scalar(grep { !$seen{$_}++ } events("$kind.url.expired")), '>=',
        40, "$kind: expired URLs were refused");
    diag(sprintf '%s: %.1f s, %d tokens, %d refusals, %d URLs', $kind,
        $passed, scalar @tokens, scalar @refused, scalar @urls)
        if $ENV{TEST_VERBOSE};

    is(sent_once($kind), $size, "$kind: each byte comes once");
    my $probes = grep { $_ eq '0 1' } events("$kind.sent");
    $probes++ if $kind eq 'filled';
    is($bytes->{$kind}, $size + $probes + sum0(events("$kind.token.bytes")),
        "$kind: the edge counts them, and the tokens");
}

# Callers' own tokens: each is good for six URLs, the last one's for more.
# Whoever's is refused, the fill goes on with another one's.

my @who = qw/ a b c d last /;

@out = $t->parallel(scalar @who, sub {
    my ($i) = @_;
    for (my $end = time() + 20; $i && time() < $end; sleep 0.02) {
        last if events('callers.sent') >= 2 * $i;
    }
    return pull('callers', $who[$i]);
});

is(join(', ', @out), join(', ', map { '200 right' } @who),
    'callers: all have all of it');
is(sent_once('callers'), length $blob{$digest{callers}},
    'callers: each byte comes once');

my @refused = events('callers.token.expired');
cmp_ok(scalar @refused, '>', 0, 'callers: tokens were refused');
my %n;
$n{$_}++ for @refused;
is(join(' ', grep { $n{$_} > 2 } sort keys %n), '',
    'callers: and not tried again while another one\'s are good');
diag("refused: @refused; first use: "
    . join ' ', map { "$_=" . events("callers.use.$_") } @who)
    if $ENV{TEST_VERBOSE};

# what nobody gets

is(join(' ', events('leaked')), '', 'the store gets no credentials');
is(join("\n", events('strange')), '', 'the registry gets what is for it');
unlike($t->read_file('error.log') . $t->read_file('access.log'),
    qr/sig=|Bearer|gives up/, 'nothing is logged of them');

$t->done();
