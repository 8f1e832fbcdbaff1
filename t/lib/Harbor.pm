package Harbor;

# Harbor for the tests, the half that calls the edge: its preheat drivers
# (Dragonfly's open API, the one before, Kraken) with the job around them, and
# its webhook jobs.  Requests are what Harbor sends, header by header; answers
# are taken as Go takes them, and one on which Harbor would fail fails the
# test.  Events are made by HarborEvent.pm, what the edge sees of Harbor as a
# registry by HarborCore.pm.
#
# Times are Harbor's, divided: a poll every 10 s of 1801, a retry after 16 to
# 118 s.

use warnings;
use strict;

use B;
use IO::Uncompress::Gunzip qw/ gunzip /;
use JSON::PP;
use MIME::Base64;
use Test::More qw//;
use Time::HiRes qw/ sleep time /;

use HarborEvent;
use OCI;


our %PATH = (
    dragonfly => { health => '/healthy', jobs => '/oapi/v1/jobs' },
    old => { health => '/_ping', jobs => '/preheats' },
    kraken => { health => '/health', jobs => '/registry/notifications' },
);


# vendor: dragonfly (Harbor 2.12 and later), old (before), kraken; endpoint:
# the path of it; auth_mode and auth_info: as in an instance of Harbor's;
# external: Harbor's own URL

sub new {
    my ($class, $t, %o) = @_;
    return bless { t => $t, vendor => 'dragonfly', endpoint => '',
        auth_mode => 'NONE', auth_info => {}, external =>
        'https://harbor.example.com', poll => 0.05, timeout => 90, %o },
        $class;
}


sub wrong {
    my ($self, $why, $r) = @_;
    Test::More::ok(0, "Harbor ($self->{vendor}): $why");
    Test::More::diag(substr $r->{body} // '', 0, 600) if $r;
    return;
}


# what an instance's auth_mode adds to each call, the health probe as well

sub auth {
    my ($self) = @_;
    my ($mode, $info) = @$self{qw/ auth_mode auth_info /};
    my ($name) = sort keys %$info;

    return () if $mode eq 'NONE';
    die "auth_info is empty: Harbor refuses the job" if !defined $name;
    return (Authorization => 'Basic '
        . encode_base64("$name:$info->{$name}", '')) if $mode eq 'BASIC';
    return (Authorization => "Bearer $info->{token}") if $mode eq 'OAUTH';
    return ($name => $info->{$name}) if $mode eq 'CUSTOM';
    die "auth_mode $mode";
}


# Go's client: its headers in its order, redirects, 30 s for all of it.
# Headers beyond Go's own are in %$h

sub go {
    my ($self, $method, $path, $h, $body, $timeout) = @_;
    my $t = $self->{t};
    my $port = $self->{port} // $t->{edge};

    for (0 .. 10) {
        my $s = $t->connect($port);
        my $text = "$method $path HTTP/1.1\r\nHost: 127.0.0.1:$port\r\n"
            . "User-Agent: Go-http-client/1.1\r\n";
        $text .= 'Content-Length: ' . length($body) . "\r\n"
            if defined $body;
        $text .= "$_: $h->{$_}\r\n" for sort keys %$h;
        print $s "${text}Accept-Encoding: gzip\r\n\r\n", $body // '';

        my $r = $t->read_header($s, $timeout // 30);
        $t->read_body($s, $r, $method, $timeout // 30);
        close $s;
        $r->{status} = 0 if $r->{timeout} || $r->{cut};

        if (($r->{h}{'content-encoding'} // '') eq 'gzip') {
            gunzip(\(my $in = $r->{body}), \$r->{body});
        }

        my $to = $r->{h}{location};
        return $r if $r->{status} !~ /^30[12378]$/ || !defined $to;
        $to =~ s!^https?://127\.0\.0\.1:$port(?=/)!!;
        return $r if $to !~ m!^/!;
        ($method, $body) = ('GET', undef)
            if $r->{status} < 304 && $method ne 'HEAD';
        $path = $to;
    }
    return { status => 0, h => {}, body => 'stopped after 10 redirects' };
}


# a call of a driver's, or one that no driver makes: (status, JSON, answer).
# anonymous: without what auth_mode adds

sub call {
    my ($self, $method, $path, $body, %o) = @_;
    my %h = (Accept => 'application/json', $o{anonymous} ? ()
        : $self->auth(), %{$o{h} || {}});
    $body = go_json($body) if ref $body;
    $h{'Content-Type'} = 'application/json' if defined $body;
    my $r = $self->go($method, "$self->{endpoint}$path", \%h, $body);
    return ($r->{status}, parse($r->{body}), $r);
}


sub parse { return scalar eval { JSON::PP->new->utf8->allow_nonref
    ->decode($_[0]) } }


# as Go's encoding/json writes it; keys in the order of Harbor's structures

my @ORDER = (qw/ type args url headers image tag digest
    filtered_query_params scope concurrent_count timeout
    scheduler_cluster_ids Events Id TimeStamp Action Target MediaType Digest
    Repository Url Tag Request Actor /, @HarborEvent::ORDER);
my %order;
$order{$ORDER[$_]} //= $_ for 0 .. $#ORDER;

sub go_json {
    my ($value) = @_;
    my $json = JSON::PP->new->utf8->allow_nonref->sort_by(sub {
        ($order{$JSON::PP::a} // 999) <=> ($order{$JSON::PP::b} // 999)
            || $JSON::PP::a cmp $JSON::PP::b })->encode($value);
    $json =~ s/([<>&])/sprintf '\u%04x', ord $1/ge;
    return $json;
}


# what Go's json.Unmarshal takes for an int, a string, a time

sub is_int {
    my ($v) = @_;
    return defined $v && !ref $v && $v =~ /^-?\d{1,19}$/
        && !(B::svref_2object(\$v)->FLAGS & B::SVf_POK);
}

sub is_text {
    my ($v) = @_;
    return defined $v && !ref $v
        && (B::svref_2object(\$v)->FLAGS & B::SVf_POK);
}

sub is_time {
    my ($v) = @_;
    return is_text($v) && $v =~ /^\d{4}-(0[1-9]|1[0-2])-([0-2]\d|3[01])T
        ([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/x;
}


# names of JSON are those of Go's fields in any case

sub field {
    my ($object, $name) = @_;
    my ($key) = grep { lc $_ eq lc $name } sort keys %$object;
    return defined $key ? $object->{$key} : undef;
}


# GetHealth(): any 2xx

sub health {
    my ($self) = @_;
    my ($status, undef, $r) = $self->call('GET',
        $PATH{$self->{vendor}}{health});
    return 1 if $status =~ /^2/;
    return $self->wrong("unhealthy: $status", $r);
}


# the body of a driver's POST; url: instead of that of repository and tag;
# token: the registry's, with its scheme

sub job {
    my ($self, %o) = @_;
    my ($repo, $tag) = ($o{repository} // 'llm/model', $o{tag} // 'v1');
    my $url = $o{url} // "$self->{external}/v2/$repo/manifests/$tag";
    my $headers = { Authorization => $o{token} // 'Bearer registry' };

    return { type => 'image', url => $url, headers => $headers,
        image => $repo, tag => $tag, digest => $o{digest} // '' }
        if $self->{vendor} eq 'old';

    return { Events => [{ Id => sprintf('%08x', rand 2 ** 32), TimeStamp =>
        '2026-08-21T05:58:10.123456789Z', Action => 'push', Target => {
            MediaType =>
                'application/vnd.docker.distribution.manifest.v2+json',
            Digest => $o{digest} // '', Repository => $repo, Url => $url,
            Tag => $tag }, Request => undef, Actor => undef }] }
        if $self->{vendor} eq 'kraken';

    return { type => 'preheat', args => { type => 'image', url => $url,
        tag => '', filtered_query_params => '', headers => $headers,
        scope => $o{scope} // '', concurrent_count => 0, timeout => 0 },
        scheduler_cluster_ids => $o{cluster_ids} };
}


# Preheat(): { status, id }, of Harbor's own states; undef: Harbor would have
# failed

sub preheat {
    my ($self, %o) = @_;
    my ($status, $json, $r) = $self->call('POST',
        $PATH{$self->{vendor}}{jobs}, $self->job(%o));

    return $self->wrong("POST: $status", $r) if $status !~ /^2/;
    return { status => 'SUCCESS' } if $self->{vendor} eq 'kraken';
    return $self->wrong('no JSON object', $r) if ref $json ne 'HASH';

    my $id = field($json, 'id');

    if ($self->{vendor} eq 'old') {
        return $self->wrong('"ID" is no string', $r)
            if !is_text($id) || $id eq '';
        return { status => $status == 208 ? 'SUCCESS' : 'PENDING',
            id => $id };
    }

    return $self->wrong('208 is an error', $r) if $status == 208;
    $self->job_is_right($json, $r) or return;
    return { status => 'PENDING', id => $id };
}


# the fields that Go would decode

sub job_is_right {
    my ($self, $job, $r) = @_;

    return $self->wrong('"id" is no integer', $r)
        if !is_int(field($job, 'id'));

    for my $name (qw/ created_at updated_at /) {
        my $v = field($job, $name);
        return $self->wrong("\"$name\" is no time", $r)
            if defined $v && !is_time($v);
    }

    return $self->wrong('"state" is no string', $r)
        if defined field($job, 'state') && !is_text(field($job, 'state'));

    my $result = field($job, 'result') // {};
    return $self->wrong('"result" is no object', $r)
        if ref $result ne 'HASH';

    my $states = field($result, 'job_states') // [];
    return $self->wrong('"job_states" is no array', $r)
        if ref $states ne 'ARRAY';

    for my $s (@$states) {
        return $self->wrong('a job state is no object', $r)
            if ref $s ne 'HASH' || ref(field($s, 'results') // []) ne 'ARRAY'
                || !is_text(field($s, 'error') // '');
        for (@{field($s, 'results') // []}) {
            $self->result_is_right($_, $r) or return;
        }
    }
    return 1;
}


sub result_is_right {
    my ($self, $result, $r) = @_;

    return $self->wrong('a result is no object', $r) if ref $result ne 'HASH';
    my $cluster = field($result, 'scheduler_cluster_id') // 0;
    return $self->wrong('"scheduler_cluster_id" is no uint', $r)
        if !is_int($cluster) || $cluster < 0;

    for my $name (qw/ success_tasks failure_tasks /) {
        my $tasks = field($result, $name) // [];
        return $self->wrong("\"$name\" is no array", $r)
            if ref $tasks ne 'ARRAY';

        # Harbor's table of them takes each one for an object: null is a panic

        for my $task (@$tasks) {
            return $self->wrong("one of \"$name\" is null, or none", $r)
                if ref $task ne 'HASH';
            return $self->wrong("a field of \"$name\" is no string", $r)
                if grep { !is_text(field($task, $_) // '') }
                    qw/ url hostname ip description /;
        }
    }
    return 1;
}


# CheckProgress(): { status, error, job }; undef: Harbor would have failed

sub progress {
    my ($self, $id) = @_;
    my ($status, $json, $r) = $self->call('GET',
        "$PATH{$self->{vendor}}{jobs}/$id");

    return $self->wrong("poll: $status", $r) if $status !~ /^2/;
    return $self->wrong('no JSON object', $r) if ref $json ne 'HASH';
    return $self->progress_old($json, $r) if $self->{vendor} eq 'old';

    $self->job_is_right($json, $r) or return;
    return $self->wrong('another job\'s answer', $r)
        if field($json, 'id') != $id;

    my $state = field($json, 'state') // '';
    my $states = field(field($json, 'result') // {}, 'job_states') // [];

    return { status => 'RUNNING', job => $json } if $state eq 'PENDING';
    return { status => 'SUCCESS', job => $json } if $state eq 'SUCCESS';
    return { status => 'FAIL', job => $json, error => join ',',
        map { field($_, 'error') // '' } @$states } if $state eq 'FAILURE';
    return $self->wrong("unknown state \"$state\"", $r);
}


sub progress_old {
    my ($self, $json, $r) = @_;
    my $state = field($json, 'Status');

    for my $name (qw/ ID startTime finishTime errorMsg Status /) {
        return $self->wrong("\"$name\" is no string", $r)
            if defined field($json, $name) && !is_text(field($json, $name));
    }

    my %states = (WAITING => 'PENDING', FAILED => 'FAIL', RUNNING =>
        'RUNNING', SUCCESS => 'SUCCESS');
    return $self->wrong('unknown state', $r)
        if !defined $state || !$states{$state};
    return { status => $states{$state}, job => $json,
        error => field($json, 'errorMsg') // '' };
}


# polls until the end: (SUCCESS or FAIL, why, the last answer)

sub ends {
    my ($self, $id) = @_;
    my $end = time() + $self->{timeout};

    while (time() < $end) {
        my $p = $self->progress($id) or return ('FAIL', 'a wrong answer', {});
        return ($p->{status}, $p->{error} // '', $p->{job})
            if $p->{status} !~ /^(?:PENDING|RUNNING)$/;
        sleep $self->{poll};
    }
    $self->wrong('a job has not ended in time');
    return ('FAIL', 'overtime', {});
}


# Harbor's job, of one tag: health, Preheat(), the polls

sub run {
    my ($self, %o) = @_;
    $self->health() or return ('FAIL', 'unhealthy', {});
    my $p = $self->preheat(%o) or return ('FAIL', 'refused', {});
    return ($p->{status}, '', {})
        if $p->{status} !~ /^(?:PENDING|RUNNING)$/;
    return $self->ends($p->{id});
}


# A webhook's target: address (a path), auth_header, payload_format.  Its job:
# three failures and the event is dropped; 3 s for an answer; a wait of
# fails^4 + 15 + rand(30) * (fails + 1) s, as many times shorter as {hurry}
# says.  Returns { status: the last one, tries, took: s of each }

sub deliver {
    my ($self, $event, %o) = @_;
    my ($type, $body) = HarborEvent::payload($event,
        $self->{payload_format});
    my %h = ('Content-Type' => $type, defined $self->{auth_header}
        ? (Authorization => $self->{auth_header}) : ());
    my $d = { tries => 0, took => [] };

    for my $fails (1 .. 3) {
        my $begin = time();
        my $r = $self->go('POST', $self->{address}, \%h, $body, 3);
        push @{$d->{took}}, time() - $begin;
        $d->{tries}++;
        $d->{status} = $r->{status};
        $d->{answer} = $r;
        return $d if $d->{status} =~ /^2/ || $fails == 3;
        sleep(($fails ** 4 + 15 + int(rand 30) * ($fails + 1))
            / ($self->{hurry} // 1000));
    }
    return $d;
}

1;
