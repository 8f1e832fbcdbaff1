#!/usr/bin/perl

# Real clients log in and pull, unchanged: with Basic, with tokens of the
# edge's own, with those of a token service like Harbor's behind "oci_token",
# and as nobody.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use File::Path qw/ rmtree /;
use JSON::PP;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Login;
use Policy;

OCI->skip_all_unless('docker-registry');

$ENV{PATH} .= ":$ENV{HOME}/go/bin" if $ENV{HOME};
$ENV{PATH} = "$ENV{TEST_CLIENTS}:$ENV{PATH}" if $ENV{TEST_CLIENTS};

my $t = OCI->new(workers => 2, passes => 1);
my $d = $t->{dir};
my $up = $t->registry();

# an image that those can pull, too, which unpack it

mkdir "$d/rootfs";
$t->write_file('rootfs/weights', $t->random_blob(100_000));
system("tar -C $d/rootfs -cf $d/layer.tar weights") == 0 or die;
my $layer = $t->read_file('layer.tar');
my $config = encode_json({ architecture => 'amd64', os => 'linux',
    config => {}, rootfs => { type => 'layers',
        diff_ids => [$t->digest($layer)] } });
my $manifest = JSON::PP->new->canonical->encode({ schemaVersion => 2,
    mediaType => $OCI::TYPE{manifest},
    config => { mediaType => 'application/vnd.oci.image.config.v1+json',
        digest => $t->digest($config), size => length $config },
    layers => [{ mediaType => 'application/vnd.oci.image.layer.v1.tar',
        digest => $t->digest($layer), size => length $layer }] });
my %blobs = map { $t->digest($_) => $_ } $config, $layer;
my @repos = qw! llm/model public/model secret/model !;

for my $repo (@repos) {
    $t->push_blob($repo, $_) for values %blobs;
    $t->push_manifest($repo, 'v1', $manifest);
}

my %secrets = (alice => 'alice-secret', 'robot$llm+ci' => 'robot:secret&');

Policy::write_doc($t, {
    version => 1,
    subjects => {
        map { $_ => { secret => Policy::phc($secrets{$_}) } } keys %secrets },
    grants => { ml => { role => 'guest', subjects => [keys %secrets],
        repositories => ['llm/**'] },
        ci => { role => 'developer', subjects => ['robot$llm+ci'],
            repositories => ['llm/**'] } },
    projects => { public => { public => JSON::PP::true } },
});
Policy::signing_key($t, 'edge.pem');
$t->write_file('robot', "edge:edge-secret\n", 0600);

my $harbor = Login::harbor($t, users => { %secrets, edge => 'edge-secret' },
    projects => { llm => [keys %secrets, 'edge'], public => ['*'],
        secret => ['edge'] },
    repos => { map { $_ => { v1 => $manifest } } @repos }, blobs => \%blobs);

my @ways = qw/ basic tokens passed checked /;
my %port = map { $_ => OCI::port() } @ways;

$t->conf(http => Login::servers($t, $up, $harbor, %port), location => '');
$t->start();

# each has a place of its own

mkdir "$d/home";
mkdir "$d/home/$_" for qw! .config .config/containers !;
$t->write_file('home/.config/containers/policy.json',
    '{"default":[{"type":"insecureAcceptAnything"}]}');

sub run {
    my (@cmd) = @_;
    my $pid = open(my $f, '-|') // die;
    if (!$pid) {
        open STDERR, '>&', \*STDOUT;
        open STDIN, '<', '/dev/null';
        $ENV{HOME} = "$d/home";
        $ENV{DOCKER_CONFIG} = "$d/home/docker";
        delete @ENV{qw/ XDG_RUNTIME_DIR XDG_CONFIG_HOME REGISTRY_AUTH_FILE /};
        chdir $d;
        exec('timeout', '60', @cmd) or POSIX::_exit(127);
    }
    local $/;
    my $out = <$f> // '';
    close $f;
    return ($? >> 8, $out);
}

# is it all below a directory?

sub complete {
    my ($dir) = @_;
    my $have = OCI::files_of($dir);
    return !grep { !$have->{$_} } keys %blobs;
}

sub storage {
    return ('--root', "$d/storage", '--runroot', "$d/run", '--storage-driver',
        'vfs');
}

sub in_storage {
    my ($what) = @_;
    my ($rc, $out) = run($what, storage(), 'images', '--format', '{{.ID}}');
    my $id = substr $t->digest($config), 7, 12;
    return $rc == 0 && $out =~ /^$id/m;
}

# login: (host, user, secret), what is remembered in a file of that name;
# pull: (host, repository, that file or undef, directory); ok: is it there?

my %client = (

    skopeo => {
        login => sub {
            my ($host, $user, $secret, $auth) = @_;
            return run(qw/ skopeo login --tls-verify=false --authfile /,
                "$auth.json", '-u', $user, '-p', $secret, $host);
        },
        pull => sub {
            my ($host, $repo, $auth, $dir) = @_;
            return run(qw/ skopeo copy --insecure-policy /,
                '--src-tls-verify=false',
                $auth ? ('--src-authfile', "$auth.json") : '--src-no-creds',
                "docker://$host/$repo:v1", "dir:$dir");
        },
        ok => \&complete,
    },

    oras => {
        login => sub {
            my ($host, $user, $secret, $auth) = @_;
            return run(qw/ oras login --plain-http --registry-config /,
                "$auth.json", '-u', $user, '-p', $secret, $host);
        },
        pull => sub {
            my ($host, $repo, $auth, $dir) = @_;
            return run(qw/ oras copy --from-plain-http --to-oci-layout /,
                '--from-registry-config', $auth ? "$auth.json"
                : "$d/nobody.json", "$host/$repo:v1", "$dir:v1");
        },
        ok => \&complete,
    },

    crane => {
        login => sub {
            my ($host, $user, $secret, $auth) = @_;
            local $ENV{CRANE} = $auth;
            return run('env', "DOCKER_CONFIG=$auth.crane", 'crane', 'auth',
                'login', '-u', $user, '-p', $secret, $host);
        },
        pull => sub {
            my ($host, $repo, $auth, $dir) = @_;
            $auth //= "$d/nobody";
            return run('env', "DOCKER_CONFIG=$auth.crane", 'crane', 'pull',
                '--insecure', '--format', 'oci', "$host/$repo:v1", $dir);
        },
        ok => \&complete,
        quiet => 1,             # its login asks nobody
    },

    curl => {
        login => sub {
            my ($host, $user, $secret, $auth) = @_;
            $t->write_file('curlrc', "user = \"$user:$secret\"\n", 0600);
            Canary::mine("$auth.curl");
            rename "$d/curlrc", "$auth.curl";
            my ($rc, $token) = curl_token($host, "$auth.curl", '');
            return ($rc, 'no token') if $rc;
            return run('curl', '-sf', curl_auth($token, "$auth.curl"),
                "http://$host/v2/");
        },
        pull => sub {
            my ($host, $repo, $auth, $dir) = @_;
            my ($rc, $out, $token);
            mkdir $dir;
            ($rc, $token) = curl_token($host, $auth && "$auth.curl",
                "repository:$repo:pull");
            return ($rc, 'no token') if $rc;
            my @auth = curl_auth($token, $auth && "$auth.curl");
            ($rc, $out) = run('curl', '-sf', @auth, '-H',
                "Accept: $OCI::TYPE{manifest}", '-o', "$dir/manifest",
                "http://$host/v2/$repo/manifests/v1");
            for my $digest (keys %blobs) {
                my $url = "http://$host/v2/$repo/blobs/$digest";
                ($rc, $out) = run('curl', '-sf', @auth, '-o', "$dir/"
                    . substr($digest, 7), $url) if !$rc;
            }
            return ($rc, $out);
        },
        ok => \&complete,
    },

    map {
        my $name = $_;
        $name => {
            login => sub {
                my ($host, $user, $secret, $auth) = @_;
                return run($name, storage(), 'login', '--tls-verify=false',
                    '--authfile', "$auth.json", '-u', $user, '-p', $secret,
                    $host);
            },
            pull => sub {
                my ($host, $repo, $auth, $dir) = @_;
                run($name, storage(), 'rmi', '-f', '-a');
                return run($name, storage(), 'pull', '--tls-verify=false',
                    '--authfile', $auth ? "$auth.json" : "$d/nobody.json",
                    "$host/$repo:v1");
            },
            ok => sub { in_storage($name) },
        } } qw/ buildah podman /,
);

# what a script does: the challenge's realm is asked, if there is one

sub curl_token {
    my ($host, $auth, $scope) = @_;
    my ($rc, $out) = run('curl', '-s', '-D', '-', '-o', "$d/null",
        "http://$host/v2/");
    my ($realm) = $out =~ /^www-authenticate: Bearer realm="([^"]+)"/mi;
    return (0, '') if !$realm;
    my ($service) = $out =~ /service="([^"]+)"/;
    ($rc, $out) = run('curl', '-sf', $auth ? ('-K', $auth) : (), '-G',
        '--data-urlencode', "service=$service", $scope ? ('--data-urlencode',
        "scope=$scope") : (), $realm);
    return ($rc, '') if $rc;
    return (0, decode_json($out)->{token});
}

sub curl_auth {
    my ($token, $auth) = @_;
    return $token ? ('-H', "Authorization: Bearer $token")
        : $auth ? ('-K', $auth) : ();
}

$t->write_file('nobody.json', '{"auths":{}}', 0600);

for my $name (sort keys %client) {
    SKIP: {
        skip "$name is not installed", 1 unless OCI::installed($name);

        my $c = $client{$name};

        for my $way (@ways) {
            my $host = "127.0.0.1:$port{$way}";
            my $n = "$name, $way";
            my ($rc, $out);

            for my $user (sort keys %secrets) {
                (my $auth = "$d/$name.$way.$user") =~ tr/$+/__/;
                ($rc, $out) = $c->{login}->($host, $user, $secrets{$user},
                    $auth);
                is($rc, 0, "$n: $user logs in") or diag($out);
                my $dir = "$auth.dir";
                ($rc, $out) = $c->{pull}->($host, 'llm/model', $auth, $dir);
                is($rc, 0, "$n: $user pulls") or diag($out);
                ok($c->{ok}->($dir), "$n: $user has it");
                ($rc, $out) = $c->{pull}->($host, 'secret/model', $auth,
                    "$dir.secret");
                isnt($rc, 0, "$n: not what is secret");
            }

            my $auth = "$d/$name.$way.wrong";
            ($rc, $out) = $c->{login}->($host, 'alice', 'wrong', $auth);
            isnt($rc, 0, "$n: a wrong password") unless $c->{quiet};
            ($rc, $out) = $c->{pull}->($host, 'llm/model', $auth,
                "$auth.dir") if -f "$auth.json" || -d "$auth.crane"
                || -f "$auth.curl";
            isnt($rc, 0, "$n: pulls nothing");

            ($rc, $out) = $c->{pull}->($host, 'public/model', undef,
                "$d/$name.$way.public");
            if ($way eq 'basic') {
                isnt($rc, 0, "$n: nobody pulls anything");
            } else {
                is($rc, 0, "$n: nobody pulls what is public") or diag($out);
                ok($c->{ok}->("$d/$name.$way.public"), "$n: nobody has it");
            }
            ($rc, $out) = $c->{pull}->($host, 'llm/model', undef,
                "$d/$name.$way.none");
            isnt($rc, 0, "$n: and nothing else");
        }
    }
}

# pushes, for which they ask for more; a token to push is nobody's who may not

my %push = (
    skopeo => sub {
        my ($host, $auth, $to) = @_;
        return run(qw/ skopeo copy --insecure-policy --src-tls-verify=false /,
            '--dest-tls-verify=false', '--authfile', "$auth.json",
            "docker://$host/llm/model:v1", "docker://$host/$to:v1");
    },
    oras => sub {
        my ($host, $auth, $to) = @_;
        return run(qw/ oras copy --from-plain-http --to-plain-http /,
            '--from-registry-config', "$auth.json", '--to-registry-config',
            "$auth.json", "$host/llm/model:v1", "$host/$to:v1");
    },
    crane => sub {
        my ($host, $auth, $to) = @_;
        return run('env', "DOCKER_CONFIG=$auth.crane", 'crane', 'copy',
            '--insecure', "$host/llm/model:v1", "$host/$to:v1");
    },
);

for my $name (sort keys %push) {
    SKIP: {
        skip "$name is not installed", 1 unless OCI::installed($name);

        for my $way (qw/ basic tokens /) {
            my $host = "127.0.0.1:$port{$way}";
            for my $user (sort keys %secrets) {
                (my $auth = "$d/$name.$way.$user") =~ tr/$+/__/;
                my $to = 'llm/' . lc "$name-$way-" . ($user =~ s/\W/-/gr);
                my ($rc, $out) = $push{$name}->($host, $auth, $to);
                my $there = $t->http($up, 'GET', "/v2/$to/manifests/v1",
                    { Accept => $OCI::TYPE{manifest} })->{status} == 200;
                if ($user eq 'alice') {
                    isnt($rc, 0, "$name, $way: a guest does not push");
                    ok(!$there, "$name, $way: nothing is there");
                } else {
                    is($rc, 0, "$name, $way: a developer pushes")
                        or diag($out);
                    ok($there, "$name, $way: it is there");
                }
            }
        }
    }
}

my $log = $t->read_file('error.log') . $t->read_file('access.log');
unlike($log, qr/alice-secret|robot:secret|edge-secret/, 'no secret in a log');

$t->done();
