package Login;

# What clients do from GET /v2/ on, request by request, and a registry with a
# token service like Harbor's.

use warnings;
use strict;

use Digest::SHA qw/ sha256_hex /;
use JSON::PP;
use MIME::Base64;
use Test::More;

use OCI;
use Policy;


sub escape {
    my ($text) = @_;
    utf8::encode($text) if utf8::is_utf8($text);
    $text =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ge;
    return $text;
}


# the one challenge of a 401: (scheme, { realm, service, scope, error })

sub challenge {
    my ($r) = @_;
    my @c = map { $_->[1] } grep { lc $_->[0] eq 'www-authenticate' }
        @{$r->{list}};
    return ('none', {}) if @c != 1;
    my ($scheme, $rest) = $c[0] =~ /^(\w+) (.*)$/;
    return ($scheme, { $rest =~ /(\w+)="([^"]*)"/g });
}


# a realm has to be at the place that the client knows

sub realm {
    my ($c) = @_;
    return $c->{realm} =~ m!^http://edge\.test(/[^?]*)$! ? $1 : undef;
}


# by GET, with Basic or as nobody; (status, token)

sub get_token {
    my ($t, $port, $c, $user, $secret, %o) = @_;
    my $path = realm($c) // return (0);
    my @q;
    push @q, 'account=' . escape($user) if defined $user;
    push @q, "client_id=$o{client_id}" if $o{client_id};
    push @q, 'offline_token=true' if $o{offline};
    push @q, map { 'scope=' . escape($_) } @{$o{scopes} || []};
    push @q, 'service=' . escape($c->{service});
    my $r = $t->http($port, 'GET', "$path?" . join('&', @q),
        { defined $user ? Policy::basic($user, $secret) : () });
    my $json = $r->{status} == 200 ? decode_json($r->{body}) : {};
    return ($r->{status}, $json->{token} || $json->{access_token}, $json);
}


# and by POST

sub post_token {
    my ($t, $port, $c, $user, $secret, %o) = @_;
    my $path = realm($c) // return (0);
    my @q = ("client_id=$o{client_id}", 'grant_type=password',
        'password=' . escape($secret),
        $o{scopes} ? 'scope=' . escape(join ' ', @{$o{scopes}}) : (),
        'service=' . escape($c->{service}), 'username=' . escape($user));
    my $r = $t->http($port, 'POST', $path, { 'Content-Type' =>
        'application/x-www-form-urlencoded; charset=utf-8' }, join '&', @q);
    my $json = $r->{status} == 200 ? decode_json($r->{body}) : {};
    return ($r->{status}, $json->{access_token} || $json->{token}, $json);
}


# "docker login": the status that the user sees

sub docker_login {
    my ($t, $port, $user, $secret) = @_;
    my $r = $t->http($port, 'GET', '/v2/');
    return $r->{status} if $r->{status} != 401;
    my ($scheme, $c) = challenge($r);
    my %auth;
    if ($scheme eq 'Basic') {
        %auth = Policy::basic($user, $secret);
    } else {
        my ($status, $token) = get_token($t, $port, $c, $user, $secret,
            client_id => 'docker', offline => 1);
        return $status if $status != 200;
        %auth = (Authorization => "Bearer $token");
    }
    return $t->http($port, 'GET', '/v2/', \%auth)->{status};
}


# "docker pull": /v2/ says once and for all how; without a 401 there nothing is
# ever sent.  Returns (status of what failed or 200, { blobs })

sub docker_pull {
    my ($t, $port, $repo, $tag, $user, $secret) = @_;
    my $r = $t->http($port, 'GET', '/v2/');
    my %auth;
    if ($r->{status} == 401) {
        my ($scheme, $c) = challenge($r);
        if ($scheme eq 'Bearer') {
            my ($status, $token) = get_token($t, $port, $c, $user, $secret,
                scopes => ["repository:$repo:pull"]);
            return ($status, {}) if $status != 200;
            %auth = (Authorization => "Bearer $token");
        } elsif (defined $user) {
            %auth = Policy::basic($user, $secret);
        } else {

            # "no basic auth credentials"

            return (401, {});
        }
    } elsif ($r->{status} != 200) {
        return ($r->{status}, {});
    }
    return pull($t, $port, $repo, $tag, sub { %auth }, 'docker/27.3.1');
}


# containerd: asks, and does what a 401 says; with a name and a secret it tries
# the form first, and a GET where that is refused

sub containerd_pull {
    my ($t, $port, $repo, $tag, $user, $secret) = @_;
    my (%auth, $refused);
    my $authorize = sub {
        my ($r) = @_;
        my ($scheme, $c) = challenge($r);
        if (!%auth && $scheme eq 'Basic' && defined $user) {
            %auth = Policy::basic($user, $secret);
            return 1;
        }

        # "error" on what had a token is the end of it

        return 0 if $scheme ne 'Bearer' || (%auth && $c->{error});
        my @scopes = split / /, $c->{scope} // '';
        @scopes = ("repository:$repo:pull") if !@scopes;
        my ($status, $token) = (0);
        if (defined $user) {
            ($status, $token) = post_token($t, $port, $c, $user, $secret,
                client_id => 'containerd-client', scopes => \@scopes);
            ($status, $token) = get_token($t, $port, $c, $user, $secret,
                scopes => \@scopes) if grep { $status == $_ }
                400, 401, 404, 405;
        } else {
            ($status, $token) = get_token($t, $port, $c, undef, undef,
                scopes => \@scopes);
        }
        return 0 if $status != 200;
        %auth = (Authorization => "Bearer $token");
        return 1;
    };
    return pull($t, $port, $repo, $tag, sub { %auth }, 'containerd/v2.0.0',
        $authorize);
}


# HEAD of the tag, the manifest by its digest, and its blobs; $authorize: is
# it worth asking again after this 401?

sub pull {
    my ($t, $port, $repo, $tag, $auth, $agent, $authorize) = @_;
    my $accept = join ', ', values %OCI::TYPE;
    my $ask = sub {
        my ($method, $what, %h) = @_;
        for (1 .. 3) {
            my $r = $t->http($port, $method, "/v2/$repo/$what",
                { 'User-Agent' => $agent, Accept => $accept, %h, $auth->() });
            return $r if $r->{status} != 401 || !$authorize
                || !$authorize->($r);
        }
        return { status => 401, h => {} };
    };
    my $r = $ask->('HEAD', "manifests/$tag");
    return ($r->{status}, {}) if $r->{status} != 200;
    my $digest = $r->{h}{'docker-content-digest'} // '';
    $r = $ask->('GET', "manifests/$digest");
    return ($r->{status}, {}) if $r->{status} != 200;
    return (0, {}) if 'sha256:' . sha256_hex($r->{body}) ne $digest;
    my %blobs;
    my $m = decode_json($r->{body});
    for my $d (map { $_->{digest} } $m->{config}, @{$m->{layers}}) {
        $r = $ask->('GET', "blobs/$d", $authorize
            ? (Range => 'bytes=0-') : ());
        return ($r->{status}, \%blobs) if $r->{status} !~ /^20[06]$/;
        return (0, \%blobs) if 'sha256:' . sha256_hex($r->{body}) ne $d;
        $blobs{$d} = $r->{body};
    }
    return (200, \%blobs);
}


# An edge that clients log in to: a server for each way that %port has a port
# of.  basic, tokens (the edge's own), closed (the same, not for nobody): by
# the policy of policy.json and the key edge.pem, in front of $up.  passed: as
# the registry like Harbor at $harbor has it; checked: with its tokens checked
# here, and the credentials of the file robot.

sub servers {
    my ($t, $up, $harbor, %port) = @_;
    my $d = $t->{dir};

    my $file = "source file:$d/policy.json; zone";
    my %policy = (
        basic => "$file basic:1m; identity basic;",
        tokens => "$file tokens:1m; identity basic anonymous;"
            . " signing_key $d/edge.pem;",
        closed => "$file closed:1m; identity basic;"
            . " signing_key $d/edge.pem;",
        checked => "$file checked:1m; identity bearer anonymous;"
            . ' issuer harbor-token-issuer; audience harbor-registry;'
            . " key $d/harbor.pub; grants token;",
    );
    my %token = (tokens => '= /token { oci_token policy=tokens; }',
        closed => '= /token { oci_token policy=closed; }',
        passed => '= /service/token { oci_token harbor; }',
        checked => '= /service/token { oci_token stored; }');
    my %registry = (passed => 'harbor', checked => 'stored');

    my $conf = <<EOC;
oci_registry demo { url http://127.0.0.1:$up; credentials anonymous; }
oci_registry harbor { url http://127.0.0.1:$harbor; }
oci_registry stored {
    url http://127.0.0.1:$harbor; credentials file $d/robot;
}
oci_cache models;
EOC

    for my $way (sort keys %port) {
        my $pass = 'oci_pass ' . ($registry{$way} // 'demo') . ';';
        if ($policy{$way}) {
            $conf .= "oci_policy $way { $policy{$way} }\n";
            $pass .= " oci_access $way;";
        }
        $conf .= "server {\n    listen 127.0.0.1:$port{$way};\n"
            . "    location /v2/ { $pass }\n"
            . ($token{$way} ? "    location $token{$way}\n" : '') . "}\n";
    }

    return $conf;
}


# A registry like Harbor: its token service and its challenges.  users: name =>
# secret; projects: name => [who may pull; "*": everybody]; repos: name => {
# tag => manifest }; blobs: digest => bytes.  Tokens are by the RSA key of the
# file harbor.pem.  Returns its port.

sub harbor {
    my ($t, %o) = @_;

    Policy::signing_key($t, 'harbor.pem', 'RSA');
    system("openssl pkey -in $t->{dir}/harbor.pem -pubout"
        . " -out $t->{dir}/harbor.pub") == 0 or die;

    return $t->upstream(sub {
        my ($c, $q) = @_;
        my ($path, $query) = split /\?/, $q->{uri}, 2;
        return harbor_token($t, $c, $q, $query, \%o)
            if $path eq '/service/token';
        return harbor_v2($t, $c, $q, $path, \%o);
    });
}


sub harbor_sign {
    my ($t, $text) = @_;
    my $file = $t->write_file("harbor.$$.txt", $text);
    my $sig = `openssl dgst -sha256 -sign $t->{dir}/harbor.pem $file`;
    unlink $file;
    return encode64($sig);
}


sub encode64 {
    my $b = encode_base64($_[0], '');
    $b =~ tr!+/=!-_!d;
    return $b;
}


# a token, of these claims instead of the usual ones

sub harbor_jwt {
    my ($t, $who, $access, %claims) = @_;
    my $text = encode64(encode_json({ alg => 'RS256', typ => 'JWT',
        kid => 'ABCD:EFGH' })) . '.' . encode64(encode_json({
            iss => 'harbor-token-issuer', sub => $who,
            aud => 'harbor-registry', exp => time() + 1800, nbf => time(),
            iat => time(), jti => sprintf('%016x', rand(2 ** 52)),
            access => $access, %claims }));
    return $text . '.' . harbor_sign($t, $text);
}


sub harbor_may {
    my ($o, $who, $repo) = @_;
    my ($project) = $repo =~ m!^([^/]+)!;
    return scalar grep { $_ eq '*' || ($who ne '' && $_ eq $who) }
        @{$o->{projects}{$project} || []};
}


sub harbor_token {
    my ($t, $c, $q, $query, $o) = @_;

    return $t->reply($c, $q, 405, {}, '') if $q->{method} eq 'POST';

    my @scopes = map { s/\+/ /gr =~ s/%(..)/chr hex $1/ger }
        ($query // '') =~ /(?:^|&)scope=([^&]*)/g;
    my $who = '';

    if (($q->{h}{authorization} // '') =~ /^Basic (\S+)/) {
        my ($user, $secret) = split /:/, decode_base64($1), 2;
        $who = $user if ($o->{users}{$user} // "\0") eq ($secret // '');
    }

    return $t->reply($c, $q, 401, { 'Content-Type' => 'application/json' },
        '{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized"}]}')
        if $who eq '' && (!@scopes || $q->{h}{authorization});

    my @access = map { my ($type, $name) = /^(\w+):(.*):[^:]*$/;
        { type => $type, name => $name, actions =>
            [harbor_may($o, $who, $name) ? 'pull' : ()] }
        } map { split / / } @scopes;
    my $token = harbor_jwt($t, $who, \@access);

    return $t->reply($c, $q, 200, { 'Content-Type' => 'application/json' },
        encode_json({ token => $token, access_token => '',
            expires_in => 1800, issued_at => '2026-01-01T00:00:00Z' }));
}


sub harbor_v2 {
    my ($t, $c, $q, $path, $o) = @_;

    my ($repo, $kind, $ref) = $path =~ m!^/v2/(.+)/(blobs|manifests)/(.+)$!;
    my ($text, $sig) = ($q->{h}{authorization} // '')
        =~ /^Bearer ([^.]+\.[^.]+)\.([^.]+)$/;
    my $ok = defined $text && harbor_sign($t, $text) eq $sig;

    if ($ok && defined $repo) {
        my (undef, $claims) = Policy::token("$text.$sig");
        my ($project) = $repo =~ m!^([^/]+)!;
        $ok = grep { $_->{name} =~ m!^\Q$project\E/! && @{$_->{actions}} }
            @{$claims->{access}};
    }

    return $t->reply($c, $q, 401, { 'WWW-Authenticate' =>
        "Bearer realm=\"http://$q->{h}{host}/service/token\","
        . 'service="harbor-registry"'
        . (defined $repo ? ",scope=\"repository:$repo:pull\"" : ''),
        'Docker-Distribution-Api-Version' => 'registry/2.0',
        'Content-Type' => 'application/json' },
        '{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized"}]}')
        unless $ok;

    return $t->reply($c, $q, 200, { 'Docker-Distribution-Api-Version' =>
        'registry/2.0' }, '') if $path eq '/v2/';
    return $t->reply($c, $q, 404, {}, '{"errors":[]}') if !defined $repo;

    if ($kind eq 'blobs') {
        my $blob = $o->{blobs}{$ref};
        return $t->reply($c, $q, 404, {}, '{"errors":[]}') if !defined $blob;
        return $t->reply_blob($c, $q, $blob, { 'Docker-Content-Digest' =>
            $ref, 'Content-Type' => 'application/octet-stream' });
    }

    my $tags = $o->{repos}{$repo} || {};
    my $m = $tags->{$ref} // (grep { 'sha256:' . sha256_hex($_) eq $ref }
        values %$tags)[0];
    return $t->reply($c, $q, 404, { 'Content-Type' => 'application/json' },
        '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}') if !$m;
    return $t->reply($c, $q, 200, { 'Content-Type' =>
        decode_json($m)->{mediaType}, 'Docker-Content-Digest' => 'sha256:'
        . sha256_hex($m) }, $m);
}

1;
