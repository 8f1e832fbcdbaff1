#!/usr/bin/perl

# nginx accepts what conf.example/ has, and what the README shows: the
# configuration, parts of one, and a policy document.

use warnings;
use strict;

use Test::More;
use Cwd qw/ abs_path /;
use File::Basename qw/ basename dirname /;

use lib dirname(__FILE__) . '/lib';
use Jwt;
use OCI;
use Policy;

my $t = OCI->new();
my $top = abs_path(dirname(__FILE__) . '/..');
my ($cert, $key) = $t->certificate('edge');

$t->write_file('robot', "robot:canary-robot\n", 0600);
$t->write_file('policy.json', '{"version":1}', 0600);
Jwt::key($t, 'harbor', 'RSA');
$t->write_file("$_.secret", "Bearer x\n", 0600) for qw/ preheat webhook
    notify peers /;
Policy::signing_key($t, $_, 'ED25519') for qw! token.pem audit.key !;

my %conf;

for my $file (glob "$top/conf.example/*.conf") {
    next if $file =~ /podman|redis/;
    open my $f, '<', $file or die $!;
    local $/;
    $conf{basename($file)} = <$f>;
}

open my $f, '<', "$top/README.md" or die $!;
my $readme = do { local $/; <$f> };
my ($first, @blocks) = $readme =~ /^```nginx\n(.*?)```/gms;
$conf{'README.md'} = $first;

is(scalar(keys %conf), 9, 'examples');

for my $name (sort keys %conf) {
    my $c = $conf{$name};

    # other places, and hosts that can be resolved here

    $c =~ s/^load_module .*$//mg;
    $c =~ s!/var/(cache|log)/nginx!$t->{dir}!g;
    $c =~ s!/etc/nginx/(harbor-robot|redis-password)!$t->{dir}/robot!g;
    $c =~ s!/etc/nginx/(policy\.json|token\.pem|audit\.key|harbor\.pub|\w+\.secret)!$t->{dir}/$1!g;
    $c =~ s!/var/lib/nginx-oci!$t->{dir}/state!;
    $c =~ s!(ssl_certificate\s+)\S+;!$1$cert;!;
    $c =~ s!(ssl_certificate_key\s+)\S+;!$1$key;!;
    $c =~ s!(server\s+|https?://)[a-z0-9.-]*(example\.com|docker\.io)!${1}127.0.0.1!g;
    $c =~ s!listen (\d+)!'listen 127.0.0.1:' . OCI::port()!e;

    my ($rc, $out) = $t->check($t->modules() . "\npid $t->{dir}/x.pid;\n"
        . "error_log $t->{dir}/x.log;\n$c");
    is($rc, 0, $name) or diag($out);
}

# what else the README shows, each by itself, with what it takes for granted

my $given = <<"EOC";
oci_cache_path $t->{dir}/given keys_zone=models:1m;
oci_registry harbor { url http://127.0.0.1:1; %s }
EOC


cmp_ok(scalar(@blocks), '>=', 8, 'parts of a configuration');

for my $c (@blocks) {
    my ($name) = $c =~ /^(.*)/;

    $c =~ s!/etc/nginx/(policy\.json|token\.pem|\w+\.secret)!$t->{dir}/$1!g;
    $c =~ s!/etc/nginx/redis\.password!$t->{dir}/robot!g;
    $c =~ s!edge-2\.example\.com!127.0.0.1!g;
    $c =~ s!/var/(lib/nginx-oci|(log|spool)/nginx)!$t->{dir}!g;
    $c =~ s!listen \S+ ssl;!'listen 127.0.0.1:' . OCI::port() . ';'!e;
    $c = 'server { listen 127.0.0.1:' . OCI::port() . "; $c }"
        if $c !~ /^(server|oci_policy|log_format) /m;

    my $http = sprintf($given,
        $c =~ /oci_access/ ? 'credentials anonymous;' : '') . $c;
    my ($rc, $out) = $t->check($t->modules() . "\npid $t->{dir}/x.pid;\n"
        . "error_log $t->{dir}/x.log;\nevents { }\nhttp {\n$http\n}\n");
    is($rc, 0, "part: $name") or diag($out);
}

# and the policy document that it shows

my ($doc) = $readme =~ /^### Policy document\n.*?^```json\n(.*?)```/ms;
my $pad = 'A' x 43;
$doc =~ s/\$\.\.\.\$\.\.\./\$c2FsdHNhbHQ\$$pad/g;
$doc =~ s/(sha256:\w+)\.\.\./substr($1 . '0' x 64, 0, 71)/ge;
$t->write_file('shown.json', $doc, 0600);
my $printed = `$top/build/bin/oci-policy --source file:$t->{dir}/new.json \\
    import $t->{dir}/shown.json --dry-run 2>&1`;
is($?, 0, 'the document') or diag($printed);

$t->done();
