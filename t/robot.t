#!/usr/bin/perl

# A robot's password that the registry does not take any more: the error log
# says so, whoever asked for what; clients are not told of token services that
# there may not be.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new();
my $d = $t->{dir};

my $up = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 401, { 'WWW-Authenticate' => 'Basic realm="r"' },
        '{"errors":[]}');
});

$t->write_file('robot', "robot:canary-robot\n", 0600);

my $gone = OCI::port();

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$up; credentials file $d/robot; }
oci_registry none { url http://127.0.0.1:$up; credentials anonymous; }
oci_registry gone { url http://127.0.0.1:$gone; credentials anonymous;
                    breaker off; }
map \$uri \$where { ~/none/ none; ~/gone/ gone; default demo; }
EOC
location /v2/ { oci_pass \$where; oci_cache models; oci_access open; }
EOL
$t->start();

my $why = qr/oci_registry "demo" refuses the edge's own credentials/;

is($t->get('/v2/llm/x/manifests/v1')->{status}, 401, 'a wrong password');
ok(until_true(5, sub { $t->read_file('error.log') =~ $why }), 'is said');
unlike($t->read_file('error.log'), qr/canary-robot/, 'but not which');

for my $name (qw/ none gone /) {
    my $r = $t->get("/v2/llm/$name/manifests/v1");
    is($r->{status}, 502, "$name: no credentials can be had");
    like($r->{body}, qr/with the edge's own credentials, see the edge's error log/,
        "$name: where it stands why");
}

unlike($t->read_file('error.log'), qr/"(none|gone)" refuses/,
    'nobody is refused who has none');

$t->done();
