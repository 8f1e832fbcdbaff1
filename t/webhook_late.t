#!/usr/bin/perl

# A reference whose file comes to the disk late, when an event has taken it
# back already: it goes, and who looks for the reference meanwhile does not
# find it there.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha256_hex /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use Fault;
use Harbor;
use HarborCore;
use OCI;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $core = HarborCore->new($t);
my $up = $core->start();

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$up; credentials anonymous; }
oci_cache_valid tag 1h;
oci_cache_valid manifest 1h;
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location = /hook { oci_webhook registry=demo open; }
EOL

my $fault = Fault->new($t);
$fault->start();

sub fired { return $fault->fired() }

my %hex = (repository => sha256_hex("pdemo\0m/a\0"),
    tag => sha256_hex("rdemo\0m/a\0v1"));

sub file {
    my ($name) = @_;
    return "$d/cache/refs/" . substr($hex{$name}, 0, 2) . "/$hex{$name}";
}

sub tag {
    return $t->get('/v2/m/a/manifests/v1',
        { Accept => $OCI::TYPE{manifest} })->{body};
}

my $hook = Harbor->new($t, address => '/hook');

sub event {
    my $event = HarborEvent::artifact('DELETE_ARTIFACT', 'm/a', 'v1',
        'sha256:' . '0' x 64);
    is($hook->deliver($event)->{status}, 200, 'an event');
}

my ($old) = $core->push_model('m/a', 'v1', 'old');

is(tag(), $old, 'stored');
ok(until_true(sub { -e file('tag') }), 'on disk');
event();
ok(until_true(sub { !-e file('tag') }), 'taken back');
sleep 0.3;

# it is stored again, but its file has to wait: for that of its repository

$fault->arm('open', 1, 0, name => $hex{repository}, on => 1, hang => 1);
is(tag(), $old, 'stored again');
ok(until_true(\&fired), 'its file waits');

my ($new) = $core->push_model('m/a', 'v1', 'new');
event();
sleep 0.5;

# now it comes, and waits to go

$fault->arm('unlink', 1, 0, name => $hex{tag}, hang => 2);
$fault->release(1);
ok(until_true(\&fired), 'it is to go');
ok(-e file('tag'), 'and is there');

is(tag(), $new, 'it is not believed');
$fault->release(3);
$fault->disarm();
sleep 0.5;
is(tag(), $new, 'nor afterwards');

my $mark = $t->upstream_bytes();
is($core->settled(\&tag), $new, 'the new one is stored');

$t->done();
