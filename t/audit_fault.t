#!/usr/bin/perl

# oci_audit_log while memory fails in the worker, one allocation after the
# other: whoever got a byte has a record, or its loss is said; with fail=block
# there is a record.  FAULTS=all tries all of them.

use warnings;
use strict;

use Test::More;
use Errno qw/ ENOMEM /;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use Audit;
use Fault;
use OCI;

Audit::need();

plan(skip_all => 'memory does not fail under a sanitizer') if $OCI::ASAN;

my $MAX = 300;
my $STEP = ($ENV{FAULTS} // '') =~ /all|audit/ ? 1 : 2;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $fault = Fault->new($t);
my $log = "$d/audit.log";
my $key = Audit::key($t);
my $block = OCI::port();

my $blob = $t->random_blob(1000);
my $digest = $t->digest($blob);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply_blob($c, $q, $blob);
}, quiet => 1);

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; }
oci_audit_log $log chain key=$key;
server {
    listen 127.0.0.1:$block;
    oci_audit_log $log chain key=$key fail=block;
    location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
    location /plain/ { return 200 plain; }
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location /plain/ { return 200 plain; }
EOL
$t->allow(qr/oci_audit_log ".*" can't be written/, qr/\(12: |memory/);
$fault->start();

my $serial = 0;

# 0: no answer, as where there is no memory for a connection

sub ask {
    my ($port, $uri) = @_;
    my $r = eval { $t->http($port, 'GET', $uri) };
    return $r && $r->{status} || 0;
}

sub lost {
    my $n = 0;
    $n += $_->{lost} for Audit::grep_records($log, event => 'lost');
    return $n;
}

my (%seen, @silent, @hanging);
my $losses = 0;

for my $kind ("/v2/r%d/x/blobs/$digest", '/plain/r%d/x') {
    for my $p ($t->{edge}, $block) {
        my $failed = 1;

        for (my $n = 1; $n <= $MAX && $failed; $n += $STEP) {
            my $name = 'r' . ++$serial;
            my $before = lost();

            $fault->arm('memory', $n, ENOMEM);
            my $status = ask($p, sprintf $kind, $serial);
            (undef, $failed) = $fault->disarm();

            $seen{$status}++;
            push @hanging, "$n of $p"
                if ask($p, sprintf $kind, ++$serial) != 200;
            $losses += lost() - $before;

            next if $status == 0 || Audit::raw($log) =~ m!/?\b$name/x"!;
            push @silent, "$n of $p: $status" if $status == 200
                && ($p == $block || lost() == $before);
        }

        is($failed, 0, 'all calls were tried');
    }
}

diag('statuses ' . join ', ', map { "$_: $seen{$_}" } sort keys %seen);

is("@silent", '', 'nobody gets a byte in silence');
is("@hanging", '', 'and the next one is served');
cmp_ok($losses, '>', 0, 'what had no record is counted');
cmp_ok($t->status()->{counters}{audit_lost}, '>=', $losses,
    'in the metrics, too');

my ($rc, $out) = Audit::verify('-k', "$d/audit.pub", $log);
is($rc, 0, 'all is verified') or diag($out);

$t->done();
