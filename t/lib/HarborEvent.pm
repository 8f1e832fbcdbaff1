package HarborEvent;

# Events of Harbor's webhooks: all ten types, with the fields that Harbor has
# in them, as its Default payload and as CloudEvents.

use warnings;
use strict;

use JSON::PP qw//;


our %TYPE = (
    PUSH_ARTIFACT => 'artifact.pushed', PULL_ARTIFACT => 'artifact.pulled',
    DELETE_ARTIFACT => 'artifact.deleted', QUOTA_EXCEED => 'quota.exceeded',
    QUOTA_WARNING => 'quota.warned',
    REPLICATION => 'replication.status.changed',
    SCANNING_FAILED => 'scan.failed', SCANNING_COMPLETED => 'scan.completed',
    SCANNING_STOPPED => 'scan.stopped',
    TAG_RETENTION => 'tag_retention.finished',
);

# keys as Harbor's structures have them

our @ORDER = qw/ specversion id source type occur_at operator event_data time
    datacontenttype requestid data resources digest tag resource_url
    scan_overview sbom_overview repository date_created name namespace
    repo_full_name repo_type replication harbor_hostname job_status
    description artifact_type authentication_type override_mode trigger_type
    policy_creator execution_timestamp src_resource dest_resource
    registry_name registry_type endpoint provider successful_artifact
    failed_artifact status name_tag references fail_reason execution_id
    task_id retention total retained project_name retention_policy_id
    retention_rule template params tag_selectors scope_selectors result
    deleted_artifact scan scan_type custom_attributes /;


sub event {
    my ($type, %data) = @_;
    return { type => $type, occur_at => 1755756000, operator => 'admin',
        event_data => \%data };
}


sub repository {
    my ($name) = @_;
    my ($ns, $rest) = $name =~ m!^([^/]+)/(.+)$!s;
    return { date_created => 1677053165, name => $rest, namespace => $ns,
        repo_full_name => $name, repo_type => 'private' };
}


# of a push, a pull, a delete, a scan: without a tag Harbor has the digest in
# its place

sub artifact {
    my ($type, $repo, $tag, $digest, %resource) = @_;
    my $at = $tag =~ /:/ ? '@' : ':';
    return event($type, resources => [{ digest => $digest, tag => $tag,
        resource_url => "harbor.example/$repo$at$tag", %resource }],
        repository => repository($repo));
}


# type: SCANNING_COMPLETED, _FAILED, _STOPPED; a report that isn't there is
# left out

sub scan {
    my ($type, $repo, $tag, $digest, $kind) = @_;
    my %time = (start_time => '2026-08-21T05:58:10Z', end_time =>
        '2026-08-21T05:58:17Z', duration => 7, report_id => 'uuid',
        scanner => { name => 'Trivy', vendor => 'Aqua Security',
            version => 'v0.x' });
    my %report = $type ne 'SCANNING_COMPLETED' ? ()
        : ($kind // '') eq 'sbom' ? (sbom_overview => { %time,
            scan_status => 'Success', sbom_digest => $digest,
            sbom_repository => $repo })
        : (scan_overview => { 'application/vnd.security.vulnerability.report'
            . '; version=1.1' => { %time, scan_status => 'Success',
            severity => 'High', complete_percent => 100, summary => {
                total => 3, fixable => 2, summary => { High => 1,
                    Low => 2 } } } });
    my $event = artifact($type, $repo, $tag, $digest, %report);
    $event->{operator} = 'auto';
    $event->{event_data}{scan} = { scan_type => $kind // 'vulnerability' };
    return $event;
}


sub quota {
    my ($type, $repo, $digest) = @_;
    return event($type, defined $digest
            ? (resources => [{ digest => $digest }]) : (),
        repository => repository($repo), custom_attributes => { Details =>
            $type eq 'QUOTA_WARNING' ? 'quota usage reach 85%: resource '
            . 'storage used 85.0 GiB of 100.0 GiB' : 'adding 10.0 GiB of '
            . 'storage resource, which when updated to current usage of '
            . '101.0 GiB will exceed the configured upper limit of 100.0 '
            . 'GiB.' });
}


# one for each change of a task's status; artifacts only at its end.  push: the
# local end is the source

sub replication {
    my ($status, $from, $to, $name, @refs) = @_;
    my %end = (Success => 'successful_artifact', Error => 'failed_artifact');
    my $artifact = { type => 'image', status => $status,
        name_tag => "$name [" . scalar(@refs) . ' item(s) in total]',
        references => \@refs };
    return event('REPLICATION', replication => {
        harbor_hostname => 'harbor.example', job_status => $status,
        artifact_type => 'image', authentication_type => 'basic',
        override_mode => JSON::PP::true, trigger_type => 'manual',
        policy_creator => 'admin', execution_timestamp => 1755755990,
        src_resource => { registry_type => 'harbor', endpoint =>
            'https://harbor.example', namespace => $from },
        dest_resource => { registry_name => 'edge-1', registry_type =>
            'docker-registry', endpoint => 'https://edge-1',
            namespace => $to },
        $end{$status} ? ($end{$status} => [$artifact]) : (),
        execution_id => 12, task_id => 34 });
}


# names: "repository:tag" or "repository@digest", without the project

sub retention {
    my ($project, @names) = @_;
    return event('TAG_RETENTION', retention => { total => 5, retained => 3,
        harbor_hostname => 'harbor.example', project_name => $project,
        retention_policy_id => 1, retention_rule => [{
            template => 'latestPushedK', params => { latestPushedK => 3 },
            tag_selectors => [{ kind => 'doublestar', decoration => 'matches',
                pattern => '**', extras => '{"untagged":true}' }],
            scope_selectors => { repository => [{ kind => 'doublestar',
                decoration => 'repoMatches', pattern => '**' }] } }],
        result => 'SUCCESS', deleted_artifact => [map { { type => 'image',
            status => 'SUCCESS', name_tag => $_, references => undef } }
            @names] });
}


# the same as a CloudEvent; its id is the same over all tries, as Harbor keeps
# the text

sub cloud {
    my ($event) = @_;
    return { specversion => '1.0', id => join('-', map {
            sprintf "%0${_}x", rand 16 ** $_ } 8, 4, 4, 4, 12),
        source => '/projects/1/webhook/policies/1',
        type => "harbor.$TYPE{$event->{type}}",
        time => '2026-08-21T05:58:10Z', datacontenttype =>
        'application/json', operator => $event->{operator}, requestid => '',
        data => $event->{event_data} };
}


# (Content-Type, body) in a policy's format: Default, "" or CloudEvents; what
# is a CloudEvent already stays one, and a text as it is

sub payload {
    my ($event, $format) = @_;
    return ('application/json', $event) if !ref $event;
    $event = cloud($event) if ($format // '') eq 'CloudEvents'
        && !$event->{specversion};
    return ($event->{specversion} ? 'application/cloudevents+json'
        : 'application/json', Harbor::go_json($event));
}


# one of each type for an artifact, in Harbor's order of them

sub all {
    my ($repo, $tag, $digest) = @_;
    my ($project, $name) = split m!/!, $repo, 2;
    return ((map { artifact($_, $repo, $tag, $digest) }
            qw/ PUSH_ARTIFACT PULL_ARTIFACT DELETE_ARTIFACT /),
        (map { quota($_, $repo, $digest) } qw/ QUOTA_EXCEED QUOTA_WARNING /),
        (map { scan($_, $repo, $tag, $digest) } qw/ SCANNING_FAILED
            SCANNING_STOPPED SCANNING_COMPLETED /),
        replication('Success', $project, 'other', $name, $tag),
        retention($project, "$name:$tag"));
}

1;
