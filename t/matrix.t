#!/usr/bin/perl

# S18: every route, by every method, for every role, through nginx.  What each
# cell has to be follows from two tables: what the specification's endpoints
# need by method, and what a role has.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

my $t = OCI->new();
my $d = $t->{dir};

my @methods = qw/ GET HEAD POST PUT PATCH DELETE OPTIONS PROPFIND /;
my $hex = 'a' x 64;

# by method: p(ull), w (push), d(elete), l(ogin), c(atalog), "-" nobody

my @routes = (
    ['/v2/', 'll------'],
    ['/v2/%s/blobs/sha256:' . $hex, 'pp---d--'],
    ['/v2/%s/manifests/sha256:' . $hex, 'pp-w-d--'],
    ['/v2/%s/manifests/v1', 'pp-w-d--'],
    ['/v2/%s/referrers/sha256:' . $hex, 'pp------'],
    ['/v2/%s/tags/list', 'pp------'],
    ['/v2/%s/blobs/uploads/', 'ppwwwd--'],
    ['/v2/%s/blobs/uploads/some-id', 'ppwwwd--'],
    ['/v2/_catalog', 'cc------'],
    ['/v2/%s/_oci/artifacts', '--------'],
);

# what it has on llm/model, and elsewhere

my %roles = (
    projectAdmin => ['pwd', ''], maintainer => ['pwd', ''],
    developer => ['pw', ''], guest => ['p', ''], limitedGuest => ['p', ''],
    systemAdmin => ['pwdc', 'pwdc'], writer => ['w', ''],
    operator => ['', ''], nothing => [undef, undef],
);

my %has = map { $_ => 1 } grep { defined $roles{$_}[0] } keys %roles;
my $phc = Policy::phc('canary-secret');

Policy::write_doc($t, {
    version => 1,
    subjects => { map { $_ => { secret => $phc } } keys %roles },
    roles => { writer => ['push'], operator => [qw/ preheat purge status /] },
    grants => { map { $_ => { role => $_, subjects => [$_], repositories =>
        [$_ eq 'systemAdmin' ? '**' : 'llm/**'] } } keys %has },
    projects => { public => { public => JSON::PP::true } },
});

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 299, {}, '');
}, quiet => 1);

Policy::signing_key($t, 'edge.pem');
$t->conf(http => <<EOC, location => <<EOL);
keepalive_requests 100000;
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic anonymous;
    signing_key $d/edge.pem; realm http://edge.test/token;
    valid 1h;
}
EOC
location /v2/ { oci_pass demo; oci_access team; }
EOL
$t->start();

my ($cells, $wrong) = (0, 0);

for my $role (undef, sort keys %roles) {
    my $s = $t->connect();
    my %auth = $role ? Policy::basic($role, 'canary-secret') : ();

    for my $where (['llm/model', 0], ['other/model', 1], ['public/x', 2]) {
        for my $route (@routes) {
            my $uri = $route->[0] =~ s/%s/$where->[0]/r;

            for my $i (0 .. $#methods) {
                my $need = substr $route->[1], $i, 1;
                my $has = $role ? $roles{$role}[!!$where->[1]] // '' : '';
                $has .= 'p' if $where->[1] == 2;
                my $rights = $has;
                $rights .= ' operator' if ($role // '') eq 'operator'
                    && !$where->[1];
                $has .= 'l' if $role;
                my $want = index($has, $need) >= 0 ? 200
                    : !$role ? 401
                    : $need eq '-' || $need eq 'c' ? 403
                    : $rights ne '' ? 403 : 404;

                $t->send_request($s, $methods[$i], $uri, \%auth,
                    $methods[$i] =~ /^P(OST|UT|ATCH)/ ? '' : undef);
                my $r = $t->read_header($s);
                $t->read_body($s, $r, $methods[$i]);
                $cells++;

                my $got = $r->{status} == 299 ? 200 : $r->{status};
                next if $got == $want && ($r->{status} == 299 ||
                    $route->[0] eq '/v2/' || $r->{status} >= 400);
                $wrong++;
                diag(($role // 'nobody') . " $methods[$i] $uri: $got, "
                    . "want $want") if $wrong < 10;
            }
        }
    }
    close $s;
}

diag("$cells cells, $wrong wrong");
is($cells, 8 * 10 * 3 * 10, 'all cells');
is($wrong, 0, 'each is what the tables say');

$t->done();
