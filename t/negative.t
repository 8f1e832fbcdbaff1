#!/usr/bin/perl

# A manifest that the registry does not have is not asked for again and again:
# its 404 counts for a few seconds, for the same request by the same caller,
# until something is pushed.  No other answer does.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my $manifest = '{"schemaVersion":2}';
my $md = $t->digest($manifest);
my $absent = '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"own"}]}';

# what is there is a file; others answer with what their name says

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($repo, $ref) = $q->{uri} =~ m!^/v2/\w+/(\w+)/manifests/([^?]+)!
        or return $t->reply($c, $q, 404, {}, '{}');
    my $there = "$d/there-$repo-" . ($ref =~ s/\W/-/gr);

    if ($q->{method} eq 'PUT') {
        open my $f, '>', $there or die;
        return $t->reply($c, $q, 201, { Location => '/x' }, '');
    }

    my $status = $repo =~ /^s(\d+)/ ? $1 : -e $there ? 200 : 404;

    if ($repo eq 'slow' && !-e "$d/go") {
        open my $f, '>', "$d/asked" or die;
        for (1 .. 1000) { last if -e "$d/go"; sleep 0.02; }
    }

    return $t->reply($c, $q, 404, { 'Content-Type' => 'text/html' }, '<p>')
        if $repo eq 'page';
    return $t->reply($c, $q, 404, { 'Content-Type' => 'application/json' },
        'x' x 417) if $repo eq 'wordy';
    return $t->reply($c, $q, 404, { 'Content-Type' => 'application/json',
        'Content-Length' => 400 }, 'x' x 399) && 0 if $repo eq 'cut';

    if ($repo eq 'chunked') {
        print $c "HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n";
        print $c "1\r\nx\r\n18e\r\n", 'y' x 398, "\r\n0\r\n\r\n"
            if $q->{method} ne 'HEAD';
        return 1;
    }
    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $md }, $manifest) if $status == 200;
    return $t->reply($c, $q, $status, { 'Content-Type' => 'application/json' },
        $absent);
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; breaker off; }
EOC
location /v2/long/ {
    oci_pass demo; oci_cache models; oci_cache_valid negative 1h;
}
location /v2/off/ {
    oci_pass demo; oci_cache models; oci_cache_valid negative 0;
}
location /v2/ { oci_pass demo; oci_cache models; }
EOL
$t->start();

sub uri { return "/v2/$_[0]/manifests/" . ($_[1] // 'x') }
sub asked { return scalar grep { $_->{method} ne 'PUT' } $t->requests() }

my $r;

# the registry's own answer, then the edge's

sub own {
    my ($what, $method, @a) = @_;
    my $n = asked();
    $r = $t->http($t->{edge}, $method, @a);
    is($r->{status}, 404, "$what: 404");
    is($r->{h}{'cache-status'}, undef, "$what: the registry's own");
    is($r->{body}, $absent, "$what: its body") if $method eq 'GET';
    cmp_ok(asked(), '>', $n, "$what: it was asked");
}

sub ours {
    my ($what, $method, @a) = @_;
    my $n = asked();
    $r = $t->http($t->{edge}, $method, @a);
    is($r->{status}, 404, "$what: 404");
    is($r->{h}{'cache-status'}, 'nginx-oci; hit; detail=negative',
        "$what: remembered");
    is($r->{body}, $absent, "$what: as the registry said it")
        if $method eq 'GET';
    is($r->{h}{'content-length'}, length $absent, "$what: its length");
    is($r->{h}{'content-type'}, 'application/json', "$what: its type");
    is(asked(), $n, "$what: nobody was asked");
}

for my $ref ('x', $md) {
    own("GET $ref", 'GET', uri('long/a', $ref), {});
    ours("GET $ref, again $_", 'GET', uri('long/a', $ref), {}) for 1 .. 8;
    own("HEAD $ref", 'HEAD', uri('long/a', $ref), {});
    ours("HEAD $ref, again", 'HEAD', uri('long/a', $ref), {});
}

# another request

own('another repository', 'GET', uri('long/b'), {});
own('another tag', 'GET', uri('long/a', 'y'), {});
own('a query', 'GET', uri('long/a') . '?ns=z', {});

for (qw/ Authorization Accept Cookie /) {
    own("another $_", 'GET', uri('long/a'), { $_ => 'Basic eDp5' });
    ours("the same $_", 'GET', uri('long/a'), { $_ => 'Basic eDp5' });
    own("a third $_", 'GET', uri('long/a'), { $_ => 'Basic eDp6' });
}

ours('the first one', 'GET', uri('long/a'), {});

# other answers

for my $repo (qw/ s401 s403 s410 s400 s500 s503 s429a page wordy cut /) {
    for (1 .. 3) {
        my $n = asked();
        $r = $t->get(uri("long/$repo"), { Authorization => "Basic $repo" });
        is($r->{h}{'cache-status'}, undef, "$repo: not remembered");
        cmp_ok(asked(), '>', $n, "$repo: asked") if $repo !~ /429/;
    }
}

for (1, 2) {
    my $n = asked();
    is($t->get('/v2/long/a/blobs/' . $t->digest('x'))->{status}, 404,
        'a blob');
    cmp_ok(asked(), '>', $n, 'is asked for');
}

own("off $_", 'GET', uri('off/a'), {}) for 1 .. 3;

for (1, 2) {
    $r = $t->get(uri('long/chunked'));
    ok($r->{body} eq 'x' . 'y' x 398 && !$r->{cut}, 'without a length');
}
is($r->{h}{'cache-status'}, 'nginx-oci; hit; detail=negative',
    'without a length: remembered');

# a push

is($t->http($t->{edge}, 'PUT', uri('long/a'),
    { 'Content-Type' => $OCI::TYPE{manifest} }, $manifest)->{status}, 201,
    'a push');
$r = $t->get(uri('long/a'));
is($r->{status}, 200, 'is seen at once');
is($r->{body}, $manifest, 'as it is');

# it goes, and comes back

unlink "$d/there-a-x";
own('gone', 'GET', uri('long/a'), {});
ours('gone, again', 'GET', uri('long/a'), {});
$t->write_file('there-a-x', '');
ours('back, unnoticed', 'GET', uri('long/a'), {});
is($t->http($t->{edge}, 'PUT', uri('long/a', 'other'),
    { 'Content-Type' => $OCI::TYPE{manifest} }, $manifest)->{status}, 201,
    'a push beside it');
is($t->get(uri('long/a'))->{status}, 200, 'the registry is asked again');

# a push while the registry is about to say no

my $s = $t->connect();
$t->send_request($s, 'GET', uri('long/slow'));
for (1 .. 500) { last if -e "$d/asked"; sleep 0.02; }
is($t->http($t->{edge}, 'PUT', uri('long/slow'),
    { 'Content-Type' => $OCI::TYPE{manifest} }, $manifest)->{status}, 201,
    'a push meanwhile');
unlink "$d/there-slow-x";
$t->write_file('go', '');
is($t->read_header($s)->{status}, 404, 'the answer of before');
close $s;
$t->write_file('there-slow-x', '');
is($t->get(uri('long/slow'))->{status}, 200, 'is not remembered');

# by itself: a few seconds

own('default', 'GET', uri('default/c'), {});
$t->write_file('there-c-x', '');

for (1 .. 100) {
    $r = $t->get(uri('default/c'));
    last if $r->{status} == 200;
    sleep 0.2;
}

is($r->{status}, 200, 'default: it is over soon');

$t->done();
