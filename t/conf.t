#!/usr/bin/perl

# nginx -t refuses every semantic error of every directive, with file and
# line.  A row: what is wrong, the text that is in the place, the message,
# and whether the place is http (h), a server (s), a registry (r), a location
# (l), the arguments of oci_cache_path (c), a policy (p).

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use Jwt;
use OCI;
use Policy;

my $t = OCI->new();
my $d = $t->{dir};

$t->write_file('open', "user:canary-user\n", 0644);
$t->write_file('none', "nothing here\n", 0600);
$t->write_file('good', "user:canary-user\n", 0600);
$t->write_file('junk.pem', "junk\n");
$t->write_file('policy.json', '{"version":1}', 0640);
$t->write_file('open.json', '{"version":1}', 0644);
$t->write_file('broken.json', "{\n \"version\": 1\n", 0600);
$t->write_file('typo.json', '{"version":1,"grants":{"x":{"role":"ownr",'
    . '"repositories":["**"]}}}', 0600);
$t->write_file('large.pub', 'x' x 300_000);
Jwt::key($t, 'ed', 'ED25519');
Jwt::key($t, 'p384', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384');

my $p = "source file:$d/policy.json; zone tried:1m; identity basic;";
my $b = "source file:$d/policy.json; zone tried:1m; identity bearer;";
my $mixed = 'identity bearer basic anonymous;';

# keys that sign tokens; "params": as "openssl ecparam" writes it

Policy::signing_key($t, 'ec.pem');
Policy::signing_key($t, 'ed.pem', 'ED25519');
Policy::signing_key($t, 'rsa.pem', 'RSA');
Policy::signing_key($t, 'p384.pem', 'EC', '-pkeyopt',
    'ec_paramgen_curve:P-384');
$t->write_file('open.pem', $t->read_file('ec.pem'), 0644);
$t->write_file('large.pem', '# ' . 'x' x 16384, 0600);
system("openssl pkey -in $d/ec.pem -aes128 -passout pass:x"
    . " -out $d/password.pem && chmod 600 $d/password.pem"
    . " && umask 077 && openssl ecparam -name prime256v1 -genkey"
    . " -out $d/params.pem") == 0 or die;

my @rows = (
    [ r => 'url ftp://x;', 'invalid registry url "ftp://x"' ],
    [ r => 'url http://u:p@x;', 'invalid registry url' ],
    [ r => 'url http://x/path;', 'invalid registry url' ],
    [ r => 'url x;', 'invalid registry url' ],
    [ r => 'url http://127.1;', 'invalid registry url' ],
    [ r => 'url http://127.0.0.1 more;', 'invalid parameter "more"' ],
    [ r => 'url http://a.test resolve more;', 'invalid number of arguments' ],
    [ r => 'url http://127.0.0.1:5000 resolve;',
        'is an address, it has nothing to "resolve"' ],
    [ r => 'url http://[::1] resolve;',
        'is an address, it has nothing to "resolve"' ],
    [ r => 'url http://group resolve;',
        'upstream "group" is a group of servers' ],
    [ r => 'url http://127.0.0.1; url http://127.0.0.1;',
        '"url" parameter is duplicate' ],
    [ r => '', 'no "url" in oci_registry' ],
    [ r => 'url http://127.0.0.1; nonsense on;',
        'unknown oci_registry parameter "nonsense"' ],
    [ r => 'url http://no-such-host.invalid;', 'host not found' ],
    [ r => 'url http://127.0.0.1; host x/y;', 'invalid host "x/y"' ],
    [ r => 'url http://127.0.0.1; public_url x;', 'invalid public_url' ],
    [ r => 'url http://127.0.0.1; credentials some;',
        'invalid credentials' ],
    [ r => "url http://127.0.0.1; credentials file $d/missing;",
        'open\(\) ".*missing" failed' ],
    [ r => "url http://127.0.0.1; credentials file $d/open;",
        'open to everyone' ],
    [ r => "url http://127.0.0.1; credentials file $d/none;",
        'no "user:password" in' ],
    [ r => 'url http://127.0.0.1; fill_credentials anonymous;',
        'invalid fill_credentials' ],
    [ r => 'url http://127.0.0.1; path A b;', 'invalid path "A"' ],
    [ r => 'url http://127.0.0.1; path a ../b;', 'invalid path' ],
    [ r => 'url http://127.0.0.1; realm_allow http://x;', 'invalid host' ],
    [ r => 'url http://127.0.0.1; redirect_allow x/y;', 'invalid host' ],
    [ r => 'url http://127.0.0.1; redirect_allow 0x7f000001;',
        'invalid host' ],
    [ r => 'url http://127.0.0.1; address_allow minio.internal;',
        'invalid address "minio.internal"' ],
    [ r => 'url http://127.0.0.1; address_allow 10.0.0.0/33;',
        'invalid address "10.0.0.0/33"' ],
    [ r => 'url https://127.0.0.1; trusted_certificate missing.pem;',
        'missing.pem' ],
    [ r => "url https://127.0.0.1; trusted_certificate $d/junk.pem;",
        'junk.pem' ],
    [ r => 'url http://127.0.0.1; ssl_verify maybe;', 'invalid ssl_verify' ],
    [ r => 'url http://127.0.0.1; connect_timeout 0;',
        'invalid connect_timeout' ],
    [ r => 'url http://127.0.0.1; stall_timeout soon;',
        'invalid stall_timeout' ],
    [ r => 'url http://127.0.0.1; max_connections 0;',
        'invalid max_connections' ],
    [ r => 'url http://127.0.0.1; max_connections 65536;',
        'invalid max_connections' ],
    [ r => 'url http://127.0.0.1; rate fast;', 'invalid rate "fast"' ],
    [ r => 'url http://127.0.0.1; rate 1023;', 'invalid rate "1023"' ],
    [ r => 'url http://127.0.0.1; rate 1m; rate 1m;',
        '"rate" parameter is duplicate' ],
    [ r => 'url http://127.0.0.1; breaker maybe;', 'invalid breaker' ],
    [ r => 'url http://127.0.0.1; breaker on; breaker on;',
        '"breaker" parameter is duplicate' ],
    [ r => 'url http://127.0.0.1; proxy_nonsense on;',
        'unknown directive "proxy_nonsense"' ],
    [ l => 'oci_pass wrong;', 'invalid value "perhaps"' ],
    [ h => 'oci_registry "" { url http://127.0.0.1; }',
        'invalid oci_registry name ""' ],
    [ h => 'oci_registry "a b" { url http://127.0.0.1; }',
        'invalid oci_registry name "a b"' ],
    [ h => 'oci_registry $x { url http://127.0.0.1; }',
        'invalid oci_registry name' ],
    [ r => 'url http://127.0.0.1; proxy_pass http://127.0.0.1;',
        '"proxy_pass" is not for an oci_registry' ],
    [ r => 'url http://127.0.0.1; proxy_cache x;',
        '"proxy_cache" is not for an oci_registry' ],
    [ h => 'oci_registry demo { url http://127.0.0.1; }',
        'duplicate oci_registry "demo"' ],

    # whose connections to one group's servers can't be each other's

    [ h => 'oci_registry x { url https://group; host a.test; }'
        . ' oci_registry y { url https://group; host b.test; }',
        'oci_registry "y" has another "host" than "x", whose upstream'
        . ' "group" it names' ],
    [ h => 'oci_registry x { url https://group; host a.test; }'
        . ' oci_registry y { url https://group; host A.test:5000;'
        . ' ssl_verify off; }', 'another "ssl_verify" than "x"' ],
    [ h => 'oci_registry x { url https://group; host a.test; }'
        . ' oci_registry z { url http://127.0.0.1; }'
        . ' oci_registry y { url https://group; host a.test;'
        . ' trusted_certificate'
        . ' /etc/ssl/certs/../certs/ca-certificates.crt; }',
        'another "trusted_certificate" than "x"' ],
    [ h => 'oci_registry x { url https://group; host a.test; }'
        . ' oci_registry y { url http://group; host a.test; }',
        'another scheme than "x"' ],

    [ h => 'oci_registry tried { url http://late resolve; }'
        . ' upstream late { server 127.0.0.1:1; }'
        . ' server { listen 127.0.0.1:1; resolver 127.0.0.1;'
        . ' location / { oci_pass tried; } }',
        'upstream "late" stands behind oci_registry "tried"' ],
    [ l => 'oci_pass named;', '"resolver" is required with "oci_pass"' ],
    [ l => 'oci_token named;', '"resolver" is required with "oci_token"' ],

    [ l => 'oci_pass nobody;', 'unknown oci_registry "nobody"' ],
    [ l => 'oci_pass demo; oci_pass demo;', 'is duplicate' ],
    [ l => 'proxy_pass http://127.0.0.1; oci_pass demo;',
        'conflicts with another handler' ],
    [ l => 'oci_pass demo; proxy_read_timeout 5s;', 'is duplicate' ],
    [ l => 'oci_pass stored;', 'oci_access open" is required' ],
    [ l => 'oci_pass demo; oci_access sometimes;',
        'unknown oci_policy "sometimes"' ],
    [ l => 'oci_token nobody;', 'unknown oci_registry "nobody"' ],
    [ l => 'proxy_pass http://127.0.0.1; oci_token demo;', 'conflicts' ],
    [ l => 'oci_token demo; oci_token demo;', 'duplicate|conflicts' ],
    [ l => 'oci_status xml;', 'invalid oci_status format "xml"' ],
    [ l => 'oci_pass demo; oci_status;', 'conflicts' ],

    [ c => '', 'must have "keys_zone"|invalid number of arguments' ],
    [ c => 'max_size=1g', 'must have "keys_zone"' ],
    [ c => 'keys_zone=x', 'invalid parameter "keys_zone=x"' ],
    [ c => 'keys_zone=x:1k', 'invalid parameter' ],
    [ c => 'keys_zone=x:32k', 'invalid parameter' ],
    [ c => 'keys_zone=:8m', 'invalid parameter' ],
    [ c => 'keys_zone=x:8m slice=5000', 'invalid parameter "slice=5000"' ],
    [ c => 'keys_zone=x:8m slice=4k', 'invalid parameter' ],
    [ c => 'keys_zone=x:8m max_size=much', 'invalid parameter' ],
    [ c => 'keys_zone=x:8m max_size=-1', 'invalid parameter' ],
    [ c => 'keys_zone=x:8m min_free=x', 'invalid parameter' ],
    [ c => 'keys_zone=x:8m inactive=0', 'invalid parameter' ],
    [ c => 'keys_zone=x:8m inactive=x', 'invalid parameter' ],
    [ c => 'keys_zone=x:8m manager_files=0', 'invalid parameter' ],
    [ c => 'keys_zone=x:8m manager_sleep=x', 'invalid parameter' ],
    [ c => 'keys_zone=x:8m scrub=', 'invalid parameter "scrub="' ],
    [ c => 'keys_zone=x:8m scrub=on', 'invalid parameter "scrub=on"' ],
    [ c => 'keys_zone=x:8m scrub=0', 'invalid parameter "scrub=0"' ],
    [ c => 'keys_zone=x:8m scrub=63k', 'invalid parameter "scrub=63k"' ],
    [ c => 'keys_zone=x:8m manager_threshold=x', 'invalid parameter' ],
    [ c => 'keys_zone=x:8m levels=1:2', 'invalid parameter' ],
    [ c => 'keys_zone=x:8m keys_zone=y:8m', 'invalid parameter' ],
    [ c => 'keys_zone=models:8m', 'duplicate zone|already' ],

    [ l => 'oci_cache nowhere;', '"oci_cache" zone "nowhere" is unknown' ],
    [ l => 'oci_cache models; oci_cache models;', 'is duplicate' ],
    [ l => 'oci_cache_valid blob 5m;', 'invalid oci_cache_valid object' ],
    [ l => 'oci_cache_valid negative never;', 'invalid time value "never"' ],
    [ l => 'oci_cache_valid negative 1s; oci_cache_valid negative 0;',
        'is duplicate' ],
    [ l => 'oci_cache_valid tag soon;', 'invalid time value "soon"' ],
    [ l => 'oci_cache_valid tag 1s; oci_cache_valid tag 2s;',
        'is duplicate' ],
    [ l => 'oci_cache_use_stale never;', 'invalid parameter "never"' ],
    [ l => 'oci_cache_use_stale error error;', 'invalid parameter' ],
    [ l => 'oci_cache_use_stale error max=x;', 'invalid parameter' ],
    [ l => 'oci_cache_use_stale error; oci_cache_use_stale off;',
        'is duplicate' ],
    [ l => 'oci_cache_use_stale off error;', 'invalid parameter' ],
    [ l => 'oci_cache_use_stale max=1d;', 'invalid parameter' ],
    [ h => 'oci_cache_path "" keys_zone=x:8m;', 'invalid path ""' ],
    [ l => 'oci_verify perhaps;', 'invalid value "perhaps"' ],
    [ l => 'oci_fill_connections 0;', 'must be between 1 and 16' ],
    [ l => 'oci_fill_connections 17;', 'must be between 1 and 16' ],
    [ l => 'oci_fill_connections x;', 'invalid number' ],
    [ l => 'oci_fill_ahead x;', 'invalid value' ],
    [ l => 'oci_fill_abandoned never;', 'invalid parameter "never"' ],
    [ l => 'oci_fill_abandoned stop later;', 'invalid parameter "later"' ],
    [ l => 'oci_fill_abandoned stop after=x;', 'invalid parameter' ],
    [ l => 'oci_fill_abandoned finish after=1s;', 'invalid parameter' ],
    [ l => 'oci_fill_abandoned stop; oci_fill_abandoned stop;',
        'is duplicate' ],

    # policies

    [ p => '', 'no "source" in oci_policy "tried"' ],
    [ p => "source file:$d/policy.json; zone tried:1m;",
        'no "identity" in oci_policy "tried"' ],
    [ p => "source file:$d/policy.json; identity basic;",
        'no "zone" in oci_policy "tried"' ],
    [ p => 'source;', 'invalid number of arguments in "source"' ],
    [ p => 'source http://127.0.0.1;', 'invalid source "http://127.0.0.1"' ],
    [ p => 'source file:;', 'invalid source "file:"' ],
    [ p => 'source file:a; source file:b;',
        '"source" parameter is duplicate' ],
    [ p => 'zone tried;', 'invalid zone "tried"' ],
    [ p => 'zone :1m;', 'invalid zone ":1m"' ],
    [ p => 'zone tried:x;', 'invalid zone "tried:x"' ],
    [ p => 'zone tried:64k;', 'invalid zone "tried:64k"' ],
    [ p => 'zone team:1m;', 'duplicate zone "team"' ],
    [ p => 'zone models:8m;', 'already' ],
    [ p => 'identity token;', 'invalid identity "token"' ],
    [ p => 'identity bearer bearer;', 'invalid identity "bearer"' ],
    [ p => 'identity basic basic;', 'invalid identity "basic"' ],
    [ p => 'identity basic anonymous bearer certificate basic x;',
        'invalid number of arguments in "identity"' ],
    [ p => 'identity certificate certificate;',
        'invalid identity "certificate"' ],
    [ p => 'identity certificate; certificate_subject cn dn;',
        'invalid number of arguments in "certificate_subject"' ],
    [ p => 'certificate_subject email;',
        'invalid certificate_subject "email"' ],
    [ p => 'certificate_subject "";', 'invalid certificate_subject ""' ],
    [ p => 'certificate_subject cn; certificate_subject dn;',
        '"certificate_subject" parameter is duplicate' ],
    [ p => "source file:$d/policy.json; zone tried:1m; identity basic;"
        . ' certificate_subject cn;', 'no "identity certificate" in' ],
    [ h => "oci_policy c { source file:$d/policy.json; zone c:1m;"
        . ' identity certificate; } server { listen 127.0.0.1:2;'
        . ' location /v2/ { oci_pass stored; oci_access c; } }',
        'oci_policy "c" takes client certificates only, and'
        . ' "ssl_verify_client" is off' ],
    (map { [ h => "oci_policy c { source file:$d/policy.json; zone c:1m;"
        . " $_->[0] } server { listen 127.0.0.1:2; location /v2/ {"
        . " oci_pass stored; oci_access $_->[1]; } $_->[2] }",
        'oci_policy "c" has "identity basic anonymous", by which docker could'
        . ' pull nothing without logging in: "oci_token policy=c" is required'
        . ' in the server of "oci_pass", or "realm", in [^"]+:\d+' ] }
        ['identity basic anonymous;', 'c', ''],
        ['identity anonymous basic certificate;', 'dry_run c', ''],
        ['identity basic anonymous; realm http://a/;', 'c', ''],
        ["identity basic anonymous; signing_key $d/ec.pem;", 'c',
            '} server { listen 127.0.0.1:3; location /t {'
            . ' oci_token policy=c; }'],
        ["$mixed issuer x; audience x; key ed.pub;", 'c',
            'location /t { oci_token demo; }']),
    [ p => 'grants tokens;', 'invalid grants "tokens"' ],
    [ p => 'grants token; grants both;', '"grants" parameter is duplicate' ],
    [ p => "$p grants token;", '"grants" without "identity bearer"' ],
    [ p => "$p grants both;", '"grants" without "identity bearer"' ],
    [ p => "$p issuer x;", '"issuer" without "identity bearer"' ],
    [ p => "$p audience x;", '"audience" without "identity bearer"' ],
    [ p => "$p key ed.pub;", '"key" without "identity bearer"' ],
    [ p => 'issuer;', 'invalid number of arguments in "issuer"' ],
    [ p => 'issuer "";', 'invalid issuer ""' ],
    [ p => 'issuer "a b";', 'invalid issuer "a b"' ],
    [ p => 'issuer x; issuer x;', 'duplicate issuer "x"' ],
    [ p => "audience 'a\"b';", 'invalid audience "a"b"' ],
    [ p => 'audience x; audience x;', 'duplicate audience "x"' ],
    [ p => "$b issuer x; audience x;", 'no "key" with "identity bearer"' ],
    [ p => "$b audience x; key ed.pub;",
        'no "issuer" with "identity bearer"' ],
    [ p => "$b issuer x; key ed.pub;",
        'no "audience" with "identity bearer"' ],
    [ p => "$b issuer nginx-oci; audience x; key ed.pub;",
        'issuer "nginx-oci" is the edge itself' ],
    [ p => 'key none.pub;', 'key "[^"]*none.pub" can.t be read .2: No such' ],
    [ p => "key $d;", 'key "[^"]*" is no regular file' ],
    [ p => 'key open.json;', 'open.json": it is no JSON Web Key Set' ],
    [ p => 'key broken.json;', 'broken.json": it is no JSON Web Key Set' ],
    [ p => 'key large.pub;', 'key "[^"]*large.pub" is larger than 256k' ],
    [ p => 'key ed.key;',
        'ed.key": it has a private key, only the public one belongs here' ],
    [ p => 'key p384.pub;', 'p384.pub": an EC key is not of P-256' ],
    [ p => 'key ed.pub; ' x 17, 'ed.pub": there are more than 16 keys' ],
    [ h => "oci_registry up { url http://127.0.0.1:1; path '' up; "
        . "credentials anonymous; } oci_policy tried { $b issuer x; "
        . 'audience x; key ed.pub; } server { listen 127.0.0.1:1; location '
        . '/v2/ { oci_pass up; oci_access tried; } }',
        '"oci_access tried" grants what tokens name: oci_registry "up" ' .
        'can.t have "path" in' ],
    [ p => 'valid soon;', 'invalid valid "soon"' ],
    [ p => 'valid 2d;', 'invalid valid "2d"' ],
    [ p => 'recheck soon;', 'invalid recheck "soon"' ],
    [ p => 'recheck 99ms;', 'invalid recheck "99ms"' ],
    [ p => 'recheck 2h;', 'invalid recheck "2h"' ],
    [ p => 'recheck;', 'invalid number of arguments in "recheck"' ],
    [ p => 'recheck 1s; recheck 1s;', '"recheck" parameter is duplicate' ],
    [ p => 'secret x;', 'unknown oci_policy parameter "secret"' ],
    [ p => "source file:$d/missing; zone tried:1m; identity basic;",
        'missing" of oci_policy "tried" is refused: it can.t be read .2: No' ],
    [ p => "source file:$d/broken.json; zone tried:1m; identity basic;",
        'refused: \'}\' expected in line 3, column 0' ],
    [ p => "source file:$d/typo.json; zone tried:1m; identity basic;",
        'refused: \$\.grants\.x\.role: unknown role "ownr"' ],
    [ p => "source file:$d/open.json; zone tried:1m; identity basic;",
        'it is open to everyone' ],
    [ p => "source file:$d; zone tried:1m; identity basic;",
        'it is no regular file' ],
    [ p => 'signing_key;', 'invalid number of arguments in "signing_key"' ],
    [ p => "signing_key $d/missing;",
        'signing_key "\S*missing" can.t be read .2: No' ],
    [ p => "signing_key $d;", 'is no regular file' ],
    [ p => "signing_key $d/open.pem;", 'open\.pem" is open to everyone' ],
    [ p => "signing_key $d/good;", 'has no private key in PEM form' ],
    [ p => "signing_key $d/password.pem;", 'or one with a password' ],
    [ p => "signing_key $d/rsa.pem;", 'is neither one of P-256 nor Ed25519' ],
    [ p => "signing_key $d/p384.pem;", 'is neither one of P-256 nor Ed' ],
    [ p => "signing_key $d/large.pem;", 'is too large' ],
    [ p => 'realm x;', 'invalid realm "x", it must be a URL' ],
    [ p => 'realm /token;', 'invalid realm "/token"' ],
    [ p => 'realm https://a/b"c;', 'invalid realm' ],
    [ p => 'realm http://a/; realm http://a/;',
        '"realm" parameter is duplicate' ],
    [ l => 'oci_token policy=nobody;', 'unknown oci_policy "nobody"' ],
    [ l => 'oci_token policy=;', 'unknown oci_policy ""' ],
    [ l => 'oci_token policy=team;',
        'oci_policy "team" has no "signing_key" for "oci_token"' ],
    [ l => 'oci_token policy=team; oci_token policy=team;', 'is duplicate' ],
    [ l => 'oci_pass demo; oci_token policy=team;', 'conflicts' ],
    [ l => 'oci_token policy=team; oci_access team;',
        '"oci_access" is not for a location with "oci_token"' ],
    [ s => 'location = "/a b" { oci_token policy=team; }',
        'may have only letters' ],
    [ h => 'oci_policy "a b" { }', 'invalid oci_policy name "a b"' ],
    [ h => 'oci_policy off { }', 'invalid oci_policy name "off"' ],
    [ h => 'oci_policy open { }', 'invalid oci_policy name "open"' ],
    [ h => 'oci_policy dry_run { }', 'invalid oci_policy name "dry_run"' ],
    [ h => 'oci_policy team { }', 'duplicate oci_policy "team"' ],
    [ h => 'oci_policy;', 'has no opening' ],
    [ h => 'oci_policy { }', 'invalid number of arguments' ],
    [ s => 'oci_policy x { }', 'is not allowed here' ],
    [ l => 'oci_pass stored; oci_access nobody;',
        'unknown oci_policy "nobody"' ],
    [ l => 'oci_access open; oci_access team;', 'is duplicate' ],
    [ l => 'oci_pass demo; oci_access team;',
        'oci_registry "demo" needs "credentials" of its own' ],
    [ l => 'satisfy any; oci_pass stored; oci_access team;',
        '"satisfy any" would let others past "oci_access team"' ],
    [ s => 'oci_access team; location /x { satisfy any; }',
        '"satisfy any" would let others past "oci_access team"' ],
    [ l => 'oci_pass stored; oci_access dry_run;',
        'needs the name of an oci_policy with "dry_run"' ],
    [ l => 'oci_pass stored; oci_access dry_run nobody;',
        'unknown oci_policy "nobody"' ],
    [ l => 'oci_pass stored; oci_access team dry_run;',
        '"oci_access" directive has an invalid number of arguments' ],
    [ l => 'oci_pass stored; oci_access dry_run team team;',
        'invalid number of arguments in "oci_access"' ],
    [ l => 'oci_pass demo; oci_access dry_run team;',
        'oci_registry "demo" needs "credentials" of its own' ],
    [ l => 'satisfy any; oci_pass stored; oci_access dry_run team;',
        '"satisfy any" would let others past "oci_access team"' ],
    [ l => 'oci_token demo; oci_access dry_run team;',
        '"oci_access team" is not for a location with "oci_token"' ],
    [ l => 'oci_token demo; oci_access team;',
        '"oci_access team" is not for a location with "oci_token"' ],
    [ s => 'oci_access team; location = /token { oci_token demo; }',
        '"oci_access team" is not for a location with "oci_token"' ],

    [ l => 'oci_cache_purge;', 'invalid number of arguments' ],
    [ l => 'oci_cache models; oci_cache_purge nobody;',
        'unknown oci_registry "nobody"' ],
    [ l => 'oci_cache models; oci_cache_purge demo; oci_cache_purge demo;',
        'is duplicate' ],
    [ l => 'oci_cache_purge demo;', '"oci_cache_purge" needs "oci_cache"' ],
    [ l => 'oci_cache off; oci_cache_purge demo;',
        '"oci_cache_purge" needs "oci_cache"' ],
    [ l => 'oci_pass demo; oci_cache models; oci_cache_purge demo;',
        'conflicts with another handler' ],
    [ l => 'oci_cache models; oci_cache_purge demo; oci_pass demo;',
        'conflicts with another handler' ],
    [ s => 'location = /p { oci_cache models; oci_cache_purge demo; }',
        'needs a location of a prefix' ],
    [ s => 'location ~ ^/p { oci_cache models; oci_cache_purge demo; }',
        'needs a location of a prefix' ],
    [ s => 'location @p { oci_cache models; oci_cache_purge demo; }',
        'needs a location of a prefix' ],
    [ s => 'oci_cache_purge demo;', 'is not allowed here' ],
);

sub conf {
    my ($place, $text) = @_;
    my %in = ($place => $text);
    my $location = $in{l} // '';
    my $server = $in{s} // '';
    my $extra = $place eq 'r' ? "oci_registry tried { $text }"
        : $place eq 'p' ? "oci_policy tried { $text }"
        : $place eq 'c' ? "oci_cache_path $d/tried $text;"
        : $in{h} // '';
    my $modules = $t->modules();
    return <<EOC;
$modules
pid $d/check.pid; error_log $d/check.log;
events { }
http {
    access_log off;
    oci_cache_path $d/cache keys_zone=models:8m;
    upstream group { server 127.0.0.1:1; }
    upstream plain { server 127.0.0.1:1; }
    oci_registry demo { url http://127.0.0.1:1; }
    oci_registry named { url http://no-such-host.invalid resolve; }
    oci_registry wrong { url http://127.0.0.1:1; proxy_buffering perhaps; }
    oci_registry stored { url http://127.0.0.1:1; credentials anonymous; }
    oci_policy team {
        source file:$d/policy.json; zone team:1m; identity basic;
    }
    $extra
    server {
        listen 127.0.0.1:1;
        $server
        location /v2/ {
            $location
        }
    }
}
EOC
}

for my $row (@rows) {
    my ($place, $text, $message) = @$row;
    my ($rc, $out) = $t->check(conf($place, $text));
    my $name = $text eq '' ? "nothing in $place" : $text;
    $name =~ s/\Q$d\E/DIR/g;

    isnt($rc, 0, "$name: refused");
    like($out, qr/\[emerg\].*?(?:$message)/s, "$name: why") ;
    like($out, qr/\[emerg\].*check\.conf:\d+/, "$name: where")
        or diag($out);
}

# the order of the modules

for my $module (qw/ cache policy /) {
    my ($rc, $out) = $t->check("load_module $OCI::MODULES/"
        . "ngx_http_oci_${module}_module.so;\nevents { }\n");
    isnt($rc, 0, "the $module module alone");
    like($out, qr/undefined symbol/, 'says what it lacks');
}

# and what is right is accepted

my @good = (
    [ l => 'oci_pass demo; oci_cache models; oci_verify strict;'
        . ' oci_cache_valid tag 10s; oci_cache_valid manifest 1m;'
        . ' oci_cache_valid negative 0;'
        . ' oci_cache_use_stale error max=1h; oci_fill_connections 16;'
        . ' oci_fill_ahead 1g; oci_fill_abandoned finish;' ],
    [ l => 'client_max_body_size 1m; aio off; oci_pass demo; oci_cache off;' ],
    [ l => 'oci_pass stored; oci_access open;' ],
    [ l => 'oci_pass stored; oci_cache models; oci_access team;' ],
    [ s => 'oci_access team; location /x/ { oci_token demo; oci_access off; }'
        . ' location /y/ { oci_pass stored; satisfy all; }' ],
    [ l => 'oci_pass stored; oci_access dry_run team;' ],
    [ s => 'oci_access dry_run team; location /x/ { oci_pass stored; }'
        . ' location /y/ { oci_pass stored; oci_access team; }' ],
    [ h => "oci_policy c { source file:$d/policy.json; zone c:1m;"
        . ' identity basic certificate; certificate_subject san:uri; }'
        . " oci_policy d { source file:$d/policy.json; zone d:1m;"
        . ' identity certificate; certificate_subject "x:$ssl_client_s_dn"; }'
        . ' server { listen 127.0.0.1:2; oci_access d; location / { }'
        . ' location /v2/ { oci_pass stored; oci_access c; } }' ],
    [ p => "source file:$d/policy.json; zone tried:256k; valid 10m;"
        . ' identity anonymous basic; grants store; recheck 100ms;' ],
    [ p => "$b issuer x; issuer https://y/; audience z; audience https://y/;"
        . " key ed.pub; key $d/ed.pub;" ],
    [ p => "$b issuer x; audience x; key ed.pub; grants both;" ],
    [ h => "oci_registry up { url http://127.0.0.1:1; path '' up; "
        . "credentials anonymous; } oci_policy tried { $b issuer x; "
        . 'audience x; key ed.pub; grants store; } server { listen '
        . '127.0.0.1:1; location /v2/ { oci_pass up; oci_access tried; } }' ],
    (map { [ h => "oci_policy c { source file:$d/policy.json; zone c:1m;"
        . " $_->[0] } server { listen 127.0.0.1:2; location /v2/ {"
        . " oci_pass stored; oci_access c; } $_->[1] }" ] }
        ["identity basic anonymous; signing_key $d/ec.pem;",
            'location = /t { oci_token policy=c; }'],
        ["identity basic anonymous; signing_key $d/ec.pem; realm http://a/;",
            ''],
        ["$mixed issuer x; audience x; key ed.pub;",
            'location /t { oci_token stored; }'],
        ['identity basic;', ''], ['identity anonymous;', '']),
    [ p => "source file:$d/policy.json; zone tried:256k; identity basic;"
        . " signing_key $d/ec.pem; signing_key $d/ed.pem;"
        . " signing_key $d/params.pem; realm https://a.example/token;" ],
    [ h => "oci_policy x { source file:$d/policy.json; zone x:256k;"
        . " identity basic; signing_key $d/ec.pem; } server {"
        . ' listen 127.0.0.1:1; oci_access x; location /v2/ { oci_pass stored;'
        . ' } location = /t { oci_token policy=x; if ($arg_a) { set $b 1; } }'
        . ' location @t { oci_token policy=x; } }' ],
    [ l => 'resolver 127.0.0.1; oci_pass named;' ],
    [ l => 'oci_cache_purge demo; oci_cache models; allow 127.0.0.1;' ],
    [ s => 'location /p/ { oci_cache models; oci_cache_purge $arg_r; }' ],
    [ r => 'url http://127.0.0.1:1; proxy_read_timeout 5s;'
        . ' proxy_set_header X-From edge; path a ""; path "" b;'
        . ' realm_allow a.example:443 b.example; public_url https://x;'
        . ' address_allow 10.0.0.0/8 fd00::/8; address_allow 127.0.0.1;'
        . ' breaker off; rate 10g; max_connections 65535;'
        . " fill_credentials file $d/good;" ],
    [ h => 'oci_registry x { url https://group; host a.test; }'
        . ' oci_registry y { url https://group; host A.TEST:443; path b c; }'
        . ' oci_registry p { url http://plain; host a.test; }'
        . ' oci_registry q { url http://plain; host b.test; }'
        . ' oci_registry r { url https://127.0.0.1:1; host a.test; }'
        . ' oci_registry s { url https://127.0.0.1:1; host b.test; }' ],
    [ c => 'keys_zone=x:8m slice=64k max_size=2t min_free=1g inactive=1d'
        . ' manager_files=5 manager_sleep=1s manager_threshold=1s'
        . ' scrub=16m' ],
    [ c => 'keys_zone=x:8m scrub=off' ],
);

for my $row (@good) {
    my ($rc, $out) = $t->check(conf(@$row));
    (my $name = $row->[1]) =~ s/\Q$d\E/DIR/g;
    is($rc, 0, "accepted: $name") or diag($out);
}

$t->done();
