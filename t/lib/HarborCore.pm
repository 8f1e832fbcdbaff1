package HarborCore;

# Harbor for the tests, the half that the edge calls: core's /v2/ and its token
# service.  What it has are files below a directory, which several processes
# may change while it answers.
#
# The file harbor.state has words: "down": nothing but 503; "fail": GETs of
# manifests get 500; "hold": they wait until that is gone.

use warnings;
use strict;

use JSON::PP;
use MIME::Base64;
use Time::HiRes qw/ sleep time /;

use Login;
use OCI;


my $TYPE = $OCI::TYPE{manifest};
my %JSON = ('Content-Type' => 'application/json; charset=utf-8');


# tokens: only callers with a token that was made for the project, as token()
# makes them or the token service, for users (name => secret) of projects
# (name => [users])

sub new {
    my ($class, $t, %o) = @_;
    mkdir "$t->{dir}/tags" or die $!;
    Policy::signing_key($t, 'harbor.pem', 'RSA') if $o{tokens};
    return bless { t => $t, dir => "$t->{dir}/tags", %o }, $class;
}


sub start {
    my ($self, %o) = @_;
    my $t = $self->{t};
    return $t->upstream(sub {
        my ($c, $q) = @_;
        return $self->answer($c, $q);
    }, quiet => 1, %o);
}


sub file {
    my ($self, $repo, $ref) = @_;
    return "$self->{dir}/" . ($repo =~ s!/!_!gr) . "_$ref";
}


# a manifest or a blob, at once as a whole

sub put {
    my ($self, $repo, $ref, $body) = @_;
    $self->{t}->write_file("tags/new.$$", $body);
    rename "$self->{dir}/new.$$", $self->file($repo, $ref) or die $!;
}


# (manifest, digest) of a model with these layers; undef: without a tag

sub push_model {
    my ($self, $repo, $tag, @layers) = @_;
    my $t = $self->{t};
    my $m = encode_json({ schemaVersion => 2, mediaType => $TYPE,
        layers => [map { { mediaType => 'application/x', size => length $_,
            digest => $t->digest($_) } } @layers] });
    $self->put($repo, $t->digest($_), $_) for @layers;
    $self->put($repo, $t->digest($m), $m);
    $self->put($repo, $tag, $m) if defined $tag;
    return ($m, $t->digest($m));
}


sub remove {
    my ($self, $repo, @refs) = @_;
    unlink map { $self->file($repo, $_) } @refs;
}


# what it has; undef: nothing

sub has {
    my ($self, $repo, $ref) = @_;
    open my $f, '<:raw', $self->file($repo, $ref) or return;
    local $/;
    return <$f> // '';
}


sub state {
    my ($self, $words) = @_;
    $self->{t}->write_file('harbor.state', $words);
}


# What the edge says, when it says so from what is stored: three times in a row
# without a byte from the registry.  Files of what was taken back go a moment
# later, be they new or old.

sub settled {
    my ($self, $code) = @_;
    my $t = $self->{t};
    my ($n, $value) = (0);
    OCI::until_true(30, sub {
        my $mark = $t->upstream_bytes();
        $value = $code->();
        $n = $t->upstream_bytes() == $mark ? $n + 1 : 0;
        sleep 0.1;
        return $n == 3;
    });
    return $value;
}


# what core makes for a preheat: 30 minutes, this repository, pull

sub token {
    my ($self, $repo, %claims) = @_;
    return 'Bearer ' . Login::harbor_jwt($self->{t}, 'distributor',
        [{ type => 'repository', name => $repo, actions => ['pull'] }],
        %claims);
}


# which requests are pulls to Harbor: their webhook is fired, pull_time and
# the count change.  304 is none

sub counts {
    my ($q) = @_;
    return $q->{method} eq 'GET' && $q->{uri} =~ m!^/v2/.+/manifests/[^/]+$!
        && ($q->{h}{'user-agent'} // '') !~ /harbor-registry-client/
        && !defined $q->{h}{'if-none-match'};
}


sub error {
    my ($self, $c, $q, $status, $code, %h) = @_;
    return $self->{t}->reply($c, $q, $status, { %JSON, %h,
        'Docker-Distribution-Api-Version' => 'registry/2.0' },
        encode_json({ errors => [{ code => $code, message => lc $code }] }));
}


sub answer {
    my ($self, $c, $q) = @_;
    my $t = $self->{t};
    my $words = $t->read_file('harbor.state');
    my ($path, $query) = split /\?/, $q->{uri}, 2;
    my ($repo, $what, $ref)
        = $path =~ m!^/v2/(.+)/(manifests|blobs)/([^/]+)$!;

    return $self->error($c, $q, 503, 'UNKNOWN') if $words =~ /down/;
    return Login::harbor_token($t, $c, $q, $query, $self)
        if $self->{tokens} && $path eq '/service/token';
    return 1 if $self->{tokens} && $self->refused($c, $q, $repo);
    return $t->reply($c, $q, 200, {}, '{}') if $path eq '/v2/';
    return $self->error($c, $q, 404, 'NOT_FOUND') if !defined $repo;

    OCI::until_true(60, sub { $t->read_file('harbor.state') !~ /hold/ })
        if $words =~ /hold/ && $q->{method} eq 'GET' && $what eq 'manifests';

    return $self->error($c, $q, 500, 'UNKNOWN') if $words =~ /fail/
        && $q->{method} eq 'GET' && $what eq 'manifests';

    my $body = $self->has($repo, $ref);
    return $self->error($c, $q, 404, 'NOT_FOUND') if !defined $body;
    return $t->reply_blob($c, $q, $body) if $what eq 'blobs';

    my $digest = $t->digest($body);
    my %h = ('Content-Type' => $TYPE, 'Docker-Content-Digest' => $digest,
        Etag => "\"$digest\"");

    return $t->reply($c, $q, 304, { %h, 'Content-Length' => undef }, '')
        if ($q->{h}{'if-none-match'} // '') =~ /^"?\Q$digest\E"?$/;

    return $t->reply($c, $q, 200, \%h, $body);
}


# by challenge without a header, as Basic with one that is not enough, always
# 401; true: it was

sub refused {
    my ($self, $c, $q, $repo) = @_;
    my $given = $q->{h}{authorization};
    my ($text, $sig) = ($given // '') =~ /^Bearer ([^.]+\.[^.]+)\.([^.]+)$/;

    # robots and users may also come without a token

    if (($given // '') =~ /^Basic (\S+)$/) {
        my ($user, $secret) = split /:/, decode_base64($1), 2;
        return 0 if ($self->{users}{$user} // "\0") eq ($secret // '')
            && (!defined $repo || Login::harbor_may($self, $user, $repo));
    }

    if (defined $text && Login::harbor_sign($self->{t}, $text) eq $sig) {
        my (undef, $claims) = Policy::token("$text.$sig");
        my ($project) = ($repo // '') =~ m!^([^/]+)!;
        return 0 if $claims->{exp} + ($self->{leeway} // 60) > time()
            && (!defined $repo || grep { $_->{name} =~ m!^\Q$project\E/!
                && grep { $_ eq 'pull' } @{$_->{actions}} }
                @{$claims->{access}});
    }

    $self->error($c, $q, 401, 'UNAUTHORIZED', 'WWW-Authenticate' =>
        defined $given ? 'Basic realm="harbor"'
        : "Bearer realm=\"http://$q->{h}{host}/service/token\","
        . 'service="harbor-registry"' . (defined $repo
            ? ",scope=\"repository:$repo:pull\"" : ''));
    return 1;
}

1;
