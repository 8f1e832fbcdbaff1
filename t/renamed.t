#!/usr/bin/perl

# The name of a registry leads elsewhere after a reload, while a worker of
# before still fetches a blob: what callers of now show is for the registry of
# now, and never goes to the one of before.  That one's fill ends when nobody has
# credentials for it, and those who wait for it with it: they come again.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 1);
my $size = 2 * 1024 * 1024 + 3;
my $blob = $t->random_blob($size);
my ($before, $now) = ('YmVmb3JlOng=', 'bm93Ong=');
my $uri = '/v2/m/a/blobs/' . $t->digest($blob);

# the first one that is asked for more than a byte says nothing for a while, and
# refuses after that what it was asked with, as if it had expired

sub answer {
    my ($c, $q) = @_;
    if (defined $q->{from} && ($q->{to} // $size) - $q->{from} > 1
        && !-e "$t->{dir}/held")
    {
        $t->write_file('held', '');
        my $end = time() + 20;
        sleep 0.05 while !-e "$t->{dir}/go" && time() < $end;
    }
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' => 'Basic realm="r"' })
        if ($q->{h}{authorization} // '') =~ /$before/ && -e "$t->{dir}/go";
    return $t->reply_blob($c, $q, $blob);
}

my @port = ($t->upstream(\&answer), $t->upstream(\&answer));

sub conf {
    my ($port) = @_;
    $t->conf(cache_args => 'slice=64k',
        http => "oci_registry demo { url http://127.0.0.1:$port; }"
            . ' oci_fill_connections 1;');
}

conf($port[0]);
$t->start();

sub account { return { Authorization => "Basic $_[0]" } }

my @old = $t->workers();

sub reloaded {
    my $end = time() + 20;
    sleep 0.05 while time() < $end && !grep { $_ != $old[0] } $t->workers();
}

my @out = $t->parallel(3, sub {
    my ($i) = @_;

    if ($i) {
        my $end = time() + 20;
        sleep 0.05 while !-e "$t->{dir}/held" && time() < $end;
    }
    if ($i == 2) {
        conf($port[1]);
        $t->signal('HUP');
        reloaded();
        sleep 2.5;
        $t->write_file('go', '');
        return 'right';
    }
    reloaded(), sleep 0.5 if $i == 1;

    for (1 .. 3) {
        my $r = $t->get($uri, account($i ? $now : $before), 60);
        return 'right'
            if $r->{status} == 200 && !$r->{cut} && $r->{body} eq $blob;
        last if !$i;
    }
    return 'not right';
});

is($out[1], 'right', 'one who comes now');

my @seen = grep { ($_->{h}{authorization} // '') =~ /$now/ } $t->requests(0);
is(scalar @seen, 0, 'the registry of before sees nothing of theirs');
cmp_ok(scalar(grep { ($_->{h}{authorization} // '') =~ /$now/ }
    $t->requests(1)), '>', 0, 'that of now does');

$t->done();
