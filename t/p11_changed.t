#!/usr/bin/perl

# Complaint 11 (distribution#4957, #4352): what is stored keeps the lifetime of
# its day, whatever the configuration says later, or is never removed.
#
# A reload with a shorter "inactive", and with a smaller "max_size", counts for
# what was stored before it, without a restart and without asking anybody.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my %blob = map { $t->digest($_) => $_ }
    map { $t->random_blob(900_000) } 1 .. 6;
my @digests = sort keys %blob;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply_blob($c, $q, $blob{$digest});
});

sub conf {
    my ($args) = @_;
    $t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
        cache_args => "slice=64k $args");
}

sub reload {
    my ($args) = @_;
    my ($old) = $t->workers();
    conf($args);
    $t->signal('HUP');
    for (1 .. 200) {
        my @w = $t->workers();
        return if @w == 1 && $w[0] != $old;
        sleep 0.1;
    }
    fail('a reload');
}

sub files { return scalar grep { -f && !/\.map$/ }
    glob "$t->{dir}/cache/blobs/sha256/*/*" }

sub pull {
    my ($name) = @_;
    is(scalar(grep { $t->get("/v2/m/blobs/$_")->{body} eq $blob{$_} }
        @digests), 6, "$name: pulls");
}

conf('inactive=60d');
$t->start();
pull('stored');
is(files(), 6, 'all are there');

reload('inactive=60d max_size=2m');
ok(until_true(40, sub { files() <= 2 }), 'a smaller max_size counts');
cmp_ok($t->status()->{zones}{models}{bytes}, '<=', 2 * 1024 * 1024,
    'for the zone, too');

reload('inactive=60d');
pull('without it again');
is(files(), 6, 'all are there again');

reload('inactive=1s');
ok(until_true(40, sub { files() == 0 }), 'a shorter inactive counts');
is($t->status()->{zones}{models}{blobs}, 0, 'for the zone, too');

$t->done();
