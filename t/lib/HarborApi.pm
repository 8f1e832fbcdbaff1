package HarborApi;

# Harbor for the tests: of its API v2.0 what an operator calls to make an edge
# known, with the checks that Harbor makes, and one more: no field that it does
# not have.  What was made lies in files, by kind and name.

use warnings;
use strict;

use JSON::PP;
use MIME::Base64;

use Harbor;
use HarborEvent;
use OCI;


my $NAME = qr/^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/;
my $URL = qr!^https?://[^/?#\s]+(?:/[^?#\s]*)?$!;

# fields by type: s(tring), i(nteger), b(oolean), j(SON in a string), o(bject),
# a(rray); "!": required

my %FIELDS = (
    robots => { name => 's!', description => 's', secret => 's',
        level => 's!', disable => 'b', duration => 'i!',
        permissions => 'a!' },
    'p2p/preheat/instances' => { name => 's!', description => 's',
        vendor => 's!', endpoint => 's!', auth_mode => 's!',
        auth_info => 'o', enabled => 'b', default => 'b', insecure => 'b' },
    'preheat/policies' => { name => 's!', description => 's',
        project_id => 'i', provider_id => 'i!', provider_name => 's',
        filters => 'j!', trigger => 'j!', enabled => 'b',
        extra_attrs => 'j' },
    'webhook/policies' => { name => 's!', description => 's',
        targets => 'a!', event_types => 'a!', enabled => 'b' },
    registries => { name => 's!', description => 's', url => 's!',
        type => 's!', insecure => 'b', credential => 'o',
        ca_certificate => 's' },
    'replication/policies' => { name => 's!', description => 's',
        src_registry => 'o', dest_registry => 'o', dest_namespace => 's',
        dest_namespace_replace_count => 'i', trigger => 'o', filters => 'a',
        replicate_deletion => 'b', deletion => 'b', override => 'b',
        enabled => 'b', speed => 'i', copy_by_chunk => 'b',
        single_active_replication => 'b' },
);
my %TARGET = (type => 's!', address => 's!', auth_header => 's',
    skip_cert_verify => 'b', payload_format => 's');


# user and secret: who may; projects: names.  edge: where calls to an instance
# go in the place of its name, { its URL => port }.  Returns the port

sub start {
    my ($t, %o) = @_;
    mkdir "$t->{dir}/api" or die $!;
    my $auth = 'Basic ' . encode_base64("$o{user}:$o{secret}", '');
    return $t->upstream(sub {
        my ($c, $q) = @_;
        return $t->reply($c, $q, 401, {}, '{"errors":[]}')
            if ($q->{h}{authorization} // '') ne $auth;
        my ($status, $json, $h) = eval { answer($t, $q, \%o) };
        ($status, $json) = (500, { errors => [{ code => 'UNKNOWN',
            message => "$@" }] }) if !$status;
        return $t->reply($c, $q, $status, { 'Content-Type' =>
            'application/json', %{$h || {}} },
            defined $json ? encode_json($json) . "\n" : '');
    });
}


sub refuse { return (400, { errors => [{ code => 'BAD_REQUEST',
    message => $_[0] }] }) }


sub answer {
    my ($t, $q, $o) = @_;
    my ($path, $query) = split /\?/, $q->{uri}, 2;
    $path =~ s!^/api/v2\.0/!! or return (404, { errors => [] });

    my $project;
    if ($path =~ s!^projects/([^/]+)/!!) {
        $project = $1;
        return (404, { errors => [] })
            if !grep { $_ eq $project } @{$o->{projects}};
    }
    return get($t, $path, $query) if $q->{method} eq 'GET';
    return (405, { errors => [] }) if $q->{method} ne 'POST';

    my $kind = $path =~ s!/ping$!!r;
    my $fields = $FIELDS{$kind};
    return (404, { errors => [] }) if !$fields
        || (defined $project) != ($kind =~ /^(?:preheat|webhook)/);
    return refuse('no JSON') if ($q->{h}{'content-type'} // '')
        ne 'application/json';
    my $json = eval { decode_json($q->{body}) };
    my $why = wrong_fields($json, $fields) // check($t, $kind, $json, $o);
    return refuse($why) if defined $why;

    return ping($t, $json, $o) if $path =~ m!/ping$!;
    return make($t, $kind, $project, $json);
}


# undef: they are right

sub wrong_fields {
    my ($json, $fields) = @_;
    return 'no object' if ref $json ne 'HASH';

    for my $name (sort keys %$json) {
        my ($v, $type) = ($json->{$name}, $fields->{$name}
            // return "there is no field $name");
        my $ok = $type =~ /^[sj]/ ? Harbor::is_text($v)
            : $type =~ /^i/ ? Harbor::is_int($v)
            : $type =~ /^b/ ? JSON::PP::is_bool($v)
            : ref $v eq ($type =~ /^o/ ? 'HASH' : 'ARRAY');
        return "the field $name is of another type" if !$ok;
        return "the field $name is no JSON" if $type =~ /^j/
            && !eval { ref decode_json($v) };
    }
    for my $name (sort keys %$fields) {
        return "$name is missing" if $fields->{$name} =~ /!/
            && !defined $json->{$name};
    }
    return;
}


sub check {
    my ($t, $kind, $json, $o) = @_;

    return 'the name is invalid' if $json->{name} !~ $NAME;
    return check_robot($json, $o) if $kind eq 'robots';
    return check_webhook($json) if $kind eq 'webhook/policies';
    return check_replication($t, $json) if $kind eq 'replication/policies';

    if ($kind eq 'p2p/preheat/instances') {
        return 'no such vendor' if $json->{vendor} !~ /^(?:dragonfly|kraken)$/;
        return 'no URL' if $json->{endpoint} !~ $URL;
        return 'no such auth_mode'
            if $json->{auth_mode} !~ /^(?:NONE|BASIC|OAUTH|CUSTOM)$/;
        return 'auth_info is empty' if $json->{auth_mode} ne 'NONE'
            && keys %{$json->{auth_info} // {}} != 1;
        return 'no token' if $json->{auth_mode} eq 'OAUTH'
            && !$json->{auth_info}{token};
    }
    if ($kind eq 'preheat/policies') {
        my $trigger = decode_json($json->{trigger});
        return 'no such provider' if !grep { $_->{id}
            == $json->{provider_id} } made($t, 'p2p/preheat/instances');
        return 'no such trigger' if ($trigger->{type} // '')
            !~ /^(?:manual|scheduled|event_based)$/
            || grep { !/^(?:type|trigger_setting)$/ } keys %$trigger;
        return 'no such filter' if grep { $_->{type}
            !~ /^(?:repository|tag|signature|vulnerability|label)$/
            || !defined $_->{value} } @{decode_json($json->{filters})};
    }
    if ($kind eq 'registries') {
        return 'no such type'
            if $json->{type} !~ /^(?:docker-registry|harbor)$/;
        return 'no URL' if $json->{url} !~ $URL;
        return wrong_fields($json->{credential}, { type => 's!',
            access_key => 's!', access_secret => 's!' })
            if $json->{credential};
    }
    return;
}


sub check_robot {
    my ($json, $o) = @_;
    return 'duration' if $json->{duration} < 1 && $json->{duration} != -1;
    return 'level' if $json->{level} !~ /^(?:system|project)$/;
    return 'a "+" in a name' if $json->{name} =~ /\+/;
    return 'permissions' if !@{$json->{permissions}}
        || ($json->{level} eq 'project' && @{$json->{permissions}} > 1);

    for my $p (@{$json->{permissions}}) {
        my $why = wrong_fields($p, { kind => 's!', namespace => 's!',
            access => 'a!' });
        return $why if defined $why;
        return 'no such project' if $p->{kind} eq 'project'
            && !grep { $_ eq $p->{namespace} } '*', @{$o->{projects}};
        return 'no access' if !@{$p->{access}};
        for my $a (@{$p->{access}}) {
            $why = wrong_fields($a, { resource => 's!', action => 's!',
                effect => 's' });
            return $why if defined $why;
        }
    }
    return;
}


sub check_webhook {
    my ($json) = @_;
    return 'no events' if !@{$json->{event_types}};
    return 'no targets' if !@{$json->{targets}};
    return 'no such event'
        if grep { !$HarborEvent::TYPE{$_} } @{$json->{event_types}};

    for my $target (@{$json->{targets}}) {
        my $why = wrong_fields($target, \%TARGET);
        return $why if defined $why;
        return 'no such type' if $target->{type} !~ /^(?:http|slack)$/;
        return 'no address' if $target->{address} !~ $URL;
        return 'no such format' if ($target->{payload_format} // '')
            !~ /^(?:|Default|CloudEvents)$/;
    }
    return;
}


sub check_replication {
    my ($t, $json) = @_;
    my @ends = grep { defined } @$json{qw/ src_registry dest_registry /};

    return 'one end is elsewhere' if @ends != 1;
    return 'no such registry'
        if !grep { $_->{id} == $ends[0]{id} } made($t, 'registries');
    for my $filter (@{$json->{filters} // []}) {
        my $why = wrong_fields($filter, { type => 's!', value => 's!',
            decoration => 's' });
        return $why if defined $why;
        return 'no such filter'
            if $filter->{type} !~ /^(?:resource|name|tag|label)$/
            || ($filter->{decoration} // 'matches')
                !~ /^(?:matches|excludes)$/;
    }
    my $trigger = $json->{trigger} // { type => 'manual' };
    return 'no such trigger'
        if $trigger->{type} !~ /^(?:manual|scheduled|event_based)$/;
    return 'only of what is here' if $trigger->{type} eq 'event_based'
        && $json->{src_registry};
    return 'no cron' if $trigger->{type} eq 'scheduled'
        && split(' ', $trigger->{trigger_settings}{cron} // '') != 6;
    return;
}


# as core does before it runs a policy

sub ping {
    my ($t, $json, $o) = @_;
    my $h = instance($t, $json, $o);
    my ($status) = $h->call('GET', $Harbor::PATH{$h->{vendor}}{health});
    return (200) if $status =~ /^2/;
    return (500, { errors => [{ code => 'UNKNOWN',
        message => "unhealthy: $status" }] });
}


# Harbor's driver for an instance that was made

sub instance {
    my ($t, $json, $o) = @_;
    my ($url, $path) = $json->{endpoint} =~ m!^(https?://[^/]+)(.*?)/?$!;
    return Harbor->new($t, vendor => $json->{vendor}, endpoint => $path,
        port => $o->{edge}{$url} // die("no edge at $url\n"),
        auth_mode => $json->{auth_mode}, auth_info => $json->{auth_info});
}


sub made {
    my ($t, $kind) = @_;
    $kind =~ s!/!_!g;
    return map { s!.*/!!; decode_json($t->read_file("api/$_")) }
        sort glob "$t->{dir}/api/$kind.*";
}


sub make {
    my ($t, $kind, $project, $json) = @_;
    my $file = ($kind =~ s!/!_!gr) . '.' . (defined $project
        ? "$project." : '') . $json->{name};
    my $id = 1 + scalar(my @all = glob "$t->{dir}/api/*");
    return (409, { errors => [{ code => 'CONFLICT', message =>
        'there is one' }] }) if -e "$t->{dir}/api/$file"
        || ($kind eq 'p2p/preheat/instances' && grep { $_->{endpoint}
            eq $json->{endpoint} } made($t, $kind));

    my %answer;
    if ($kind eq 'robots') {
        my $name = ($json->{level} eq 'project'
            ? "$json->{permissions}[0]{namespace}+" : '') . $json->{name};
        %answer = (id => $id, name => "robot\$$name", secret =>
            'Robot' . '0123456789abcdefghijklmno', creation_time =>
            '2026-08-21T05:58:10.000Z', expires_at => -1);
    }
    $t->write_file("api/$file", encode_json({ %$json, id => $id,
        defined $project ? (project => $project) : () }));
    return (201, %answer ? \%answer : undef,
        { Location => "/api/v2.0/$kind/$id" });
}


# one instance by its name, registries by q=name=

sub get {
    my ($t, $path, $query) = @_;

    if ($path =~ m!^p2p/preheat/instances/([^/]+)$!) {
        my ($one) = grep { $_->{name} eq $1 } made($t,
            'p2p/preheat/instances');
        return $one ? (200, { %$one, status => 'Healthy',
            setup_timestamp => 1755756000 }) : (404, { errors => [] });
    }
    if ($path eq 'registries') {
        my ($name) = ($query // '') =~ /^q=name(?:%3D|=)([^&]+)$/;
        return (200, [map { { %$_, credential => { type => 'basic',
            access_key => $_->{credential}{access_key}, access_secret =>
            '*****' }, status => 'healthy', creation_time =>
            '2026-08-21T05:58:10.000Z' } } grep { $_->{name} eq
            ($name // $_->{name}) } made($t, 'registries')]);
    }
    return (404, { errors => [] });
}

1;
