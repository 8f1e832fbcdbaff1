#!/usr/bin/perl

# Nobody keeps the places of a registry's max_connections from others by being
# slow, and who finds none for long goes on without.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);

my @blobs = map { $t->random_blob(4 * 1024 * 1024 + $_) } 0 .. 6;
my @digest = map { $t->digest($_) } @blobs;
my %blob = map { $t->digest($_) => $_ } @blobs;

# the second component of the repository tells how it sends

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($how, $ref) = $q->{uri} =~ m!^/v2/\w+/(\w+)/blobs/(.+)$!;
    my $blob = $blob{$ref};
    my ($from, $to) = ($q->{from}, $q->{to} // length $blob);

    return $t->reply_blob($c, $q, $blob)
        if $how eq 'good' || $to - $from == 1 || -e "$t->{dir}/good";

    my $head = sprintf "HTTP/1.1 206 X\r\nContent-Length: %d\r\n"
        . "Content-Range: bytes %d-%d/%d\r\n", $to - $from, $from, $to - 1,
        length $blob;

    $t->write_file("begun.$how.$$", '');

    if ($how eq 'header') {
        $t->write_file('good', '');
        print $c $head;
        print $c "X-$_: x\r\n" and sleep 0.3 for 1 .. 200;
        return 0;
    }

    # drip: next to nothing; steady: always enough

    my $n = $how eq 'drip' ? 1 : 65536;

    print $c "$head\r\n";

    while ($from < $to) {
        $n = $to - $from if $to - $from < $n || -e "$t->{dir}/good";
        print $c substr($blob, $from, $n) or return 0;
        $from += $n;
        sleep 0.3 if $from < $to;
    }

    return 1;
}, quiet => 1);

$t->conf(cache_args => 'slice=64k', http => "oci_registry two {"
    . " url http://127.0.0.1:$port; max_connections 2; stall_timeout 1s; }\n",
    location => 'location /v2/ { oci_pass two; oci_cache models; }');
$t->start();

sub pull {
    my ($how, $i, $timeout) = @_;
    my $r = $t->get("/v2/a/$how/blobs/$digest[$i]", {}, $timeout || 60);
    return 'timed out' if $r->{timeout};
    return $r->{status} == 200 && $r->{body} eq $blobs[$i] ? 'right'
        : "$r->{status} " . length $r->{body};
}

sub begun {
    my ($how, $n) = @_;
    for (my $end = time() + 20; time() < $end; sleep 0.05) {
        return 1 if (() = glob "$t->{dir}/begun.$how.*") >= $n;
    }
    return 0;
}


# a header that never ends is no progress

is(pull('header', 0), 'right', 'after a header that drips in');
like($t->read_file('error.log'), qr/timed out.* reading response header/,
    'was given up');
unlink "$t->{dir}/good";


# bytes that drip in: as long as nobody waits

my @s = map {
    my $s = $t->connect();
    $t->send_request($s, 'GET', "/v2/a/drip/blobs/$digest[$_]");
    $s;
} 1, 2;
ok(begun('drip', 2), 'two drip');
sleep 3;
unlike($t->read_file('error.log'), qr/while others wait/, 'nobody minds');

is(pull('good', 3), 'right', 'another one has a place after all');
like($t->read_file('error.log'), qr/while others wait/, 'of one of them');

close $_ for @s;


# all places are taken, and rightly

my @out = $t->parallel(3, sub {
    my ($i) = @_;
    return pull('steady', 4 + $i) if $i < 2;
    begun('steady', 2);
    my $got = pull('good', 6);
    $t->write_file('good', '');
    return $got;
});
is($out[2], 'right', 'who has none goes on without');
is("$out[0] $out[1]", 'right right', 'who have some are not disturbed');

my $log = $t->read_file('error.log');
like($log, qr/none of max_connections of oci_registry "two" is free/,
    'a fill gave up');
like($log, qr/the rest of a blob from \d+ on is passed through/,
    'its reader did not');
is((() = $log =~ /is passed through/g), 1, 'one of them');

$t->done();
