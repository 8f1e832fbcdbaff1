#!/usr/bin/perl

# nginx accepts what conf.example/ has, and the configuration of the README.

use warnings;
use strict;

use Test::More;
use Cwd qw/ abs_path /;
use File::Basename qw/ basename dirname /;

use lib dirname(__FILE__) . '/lib';
use Jwt;
use OCI;

my $t = OCI->new();
my $top = abs_path(dirname(__FILE__) . '/..');
my ($cert, $key) = $t->certificate('edge');

$t->write_file('robot', "robot:secret\n", 0600);
$t->write_file('policy.json', '{"version":1}', 0600);
Jwt::key($t, 'harbor', 'RSA');

my %conf;

for my $file (glob "$top/conf.example/*.conf") {
    next if $file =~ /podman|redis/;
    open my $f, '<', $file or die $!;
    local $/;
    $conf{basename($file)} = <$f>;
}

open my $f, '<', "$top/README.md" or die $!;
{
    local $/;
    ($conf{'README.md'}) = <$f> =~ /```nginx\n(.*?)```/s;
}

is(scalar(keys %conf), 7, 'examples');

for my $name (sort keys %conf) {
    my $c = $conf{$name};

    # other places, and hosts that can be resolved here

    $c =~ s/^load_module .*$//mg;
    $c =~ s!/var/(cache|log)/nginx!$t->{dir}!g;
    $c =~ s!/etc/nginx/(harbor-robot|redis-password)!$t->{dir}/robot!g;
    $c =~ s!/etc/nginx/(policy\.json|harbor\.pub)!$t->{dir}/$1!g;
    $c =~ s!/var/lib/nginx-oci!$t->{dir}/state!;
    $c =~ s!(ssl_certificate\s+)\S+;!$1$cert;!;
    $c =~ s!(ssl_certificate_key\s+)\S+;!$1$key;!;
    $c =~ s!(server\s+|https?://)[a-z0-9.-]*(example\.com|docker\.io)!${1}127.0.0.1!g;
    $c =~ s!listen (\d+)!'listen 127.0.0.1:' . OCI::port()!e;

    my ($rc, $out) = $t->check($t->modules() . "\npid $t->{dir}/x.pid;\n"
        . "error_log $t->{dir}/x.log;\n$c");
    is($rc, 0, $name) or diag($out);
}

$t->cleanup();
done_testing();
