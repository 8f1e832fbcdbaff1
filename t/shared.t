#!/usr/bin/perl

# An upstream{} that a registry and a proxy_pass share: a kept TLS connection,
# or a session, of one that checked another name, or none, is not used with the
# registry's credentials.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

OCI->skip_all_unless('openssl');

# unwind: as in tls.t

my $t = OCI->new(workers => 1, unwind => 1);
my $d = $t->{dir};
my $port = OCI::port();
my %cert = map { my ($c, $k) = $t->certificate("$_.test");
    ($_ => "ssl_certificate $c; ssl_certificate_key $k;") } qw/ a b /;

my $servers = join "\n", map { <<EOC } qw/ a b /;
server {
    listen 127.0.0.1:$port ssl;
    server_name $_.test;
    $cert{$_}
    ssl_session_cache shared:s:1m;
    access_log $d/seen.log seen;
    location / { return 200 ok; }
}
EOC

my $plain = <<EOC;
proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_set_header Host b.test;
proxy_set_header Authorization "";
proxy_ssl_server_name on;
proxy_ssl_name b.test;
EOC

$t->conf(http => <<EOH, location => <<EOL);
upstream kept { server 127.0.0.1:$port; keepalive 8; }
upstream single { server 127.0.0.1:$port; }
oci_registry kept {
    url https://kept;
    host a.test;
    trusted_certificate $d/ca.pem;
}
oci_registry single {
    url https://single;
    host a.test;
    trusted_certificate $d/ca.pem;
}
log_format seen '\$ssl_server_name \$http_host "\$http_authorization"'
    ' \$connection_requests \$ssl_session_reused';
$servers
EOH
location /v2/kept/ { oci_pass kept; oci_cache models; }
location /v2/single/ { oci_pass single; }
location /plain/kept/ { $plain proxy_pass https://kept; }
location /plain/single/ { $plain proxy_pass https://single; }
EOL
$t->start();

my $auth = { Authorization => 'Basic YTph' };
my $list = '/x/tags/list';

# the backend's log: sni, Host, credentials, requests on the connection, reused

sub seen {
    my $end = time() + 10;
    my @seen;
    do {
        @seen = split /\n/, $t->read_file('seen.log');
        select undef, undef, undef, 0.02;
    } while (@seen < $_[0] && time() < $end);
    return @seen;
}

for my $i (1, 2) {
    is($t->get('/plain/kept/')->{status}, 200, 'a proxy_pass');
    is($t->get("/v2/kept$list", $auth)->{status}, 200, 'the registry');
    is($t->get('/plain/single/')->{status}, 200, 'not kept: a proxy_pass');
    is($t->get("/v2/single$list", $auth)->{status}, 200,
        'not kept: the registry');
}

my @seen = seen(8);
is(scalar(grep { /^a\.test a\.test "Basic YTph"/ } @seen), 4,
    'it was called by its name');
is(scalar(grep { /^b\.test b\.test "-"/ } @seen), 4, 'as was the other');
is(scalar(grep { / 1 \S+$/ } @seen), 8, 'over a connection of its own');

# alone it keeps them, what is passed and what is fetched alike

$t->get("/v2/kept$list", $auth) for 1 .. 3;
$t->get('/v2/kept/x/manifests/v1', $auth);
@seen = seen(12);
is(scalar(grep { /^a\.test.* [2-9] \S+$/ } @seen[8 .. $#seen]), @seen - 8,
    'its own connection is kept') or diag(join "\n", @seen);

# and sessions, where no connection is

$t->get("/v2/single$list", $auth) for 1 .. 3;
my $n = @seen + 3;
@seen = seen($n);
is(scalar(grep { / r$/ } @seen[$n - 2, $n - 1]), 2, 'its session is used')
    or diag(join "\n", @seen);

$t->done();
