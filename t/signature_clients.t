#!/usr/bin/perl

# Required signatures: skopeo says why it can't pull what is not signed, and
# does once that has been signed through the edge.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Cosign;

OCI->skip_all_unless('skopeo');

my $t = OCI->new(workers => 2);
my $d = $t->{dir};

my $up = $t->registry();
my $key = Cosign->new($t, 'cosign');
my $blob = $t->random_blob(300_000);
my (undef, $digest) = $t->push_artifact('llm/model', 'v1', $blob);

Policy::write_doc($t, {
    version => 1,
    subjects => { map { $_ => { secret => Policy::phc("$_-secret") } }
        qw/ alice ci / },
    grants => {
        guests => { role => 'guest', subjects => ['alice'],
            repositories => ['llm/**'] },
        ci => { role => 'developer', subjects => ['ci'],
            repositories => ['llm/**'] },
    },
    projects => { llm => { rules => { signature => {
        keys => [$key->{pem}] } } } },
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$up; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic;
}
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
EOL
$t->start();

my $edge = "127.0.0.1:$t->{edge}";

sub skopeo {
    my (@args) = @_;
    my $pid = open(my $f, '-|') // die;
    if (!$pid) {
        open STDERR, '>&', \*STDOUT;
        $ENV{HOME} = $d;
        delete $ENV{XDG_RUNTIME_DIR};
        exec('skopeo', '--insecure-policy', @args) or POSIX::_exit(127);
    }
    local $/;
    my $out = <$f> // '';
    close $f;
    return ($? >> 8, $out);
}

my $n = 0;

sub pull {
    my ($user) = @_;
    return skopeo('copy', '--src-tls-verify=false', '--src-creds',
        "$user:$user-secret", "docker://$edge/llm/model:v1",
        "dir:$d/pulled" . $n++);
}

my ($rc, $out) = pull('alice');
isnt($rc, 0, 'what is not signed is not pulled');
like($out, qr/not signed/, 'and skopeo says why') or diag($out);

($rc, $out) = pull('ci');
is($rc, 0, 'who may push pulls it') or diag($out);

$key->attach('llm/model', $digest, port => $t->{edge},
    h => { Policy::basic('ci', 'ci-secret') });

until_true(sub { ($rc, $out) = pull('alice'); return $rc == 0 });
is($rc, 0, 'what is signed is pulled') or diag($out);
ok($t->read_file('pulled' . ($n - 1) . '/' . substr($t->digest($blob), 7))
    eq $blob, 'as it is');

$t->done();
