#!/usr/bin/perl

# Harbor's webhooks: each of the ten types in both formats, as its jobs send
# them; and 1,000 of them in any order, some twice, some never, some forged,
# while clients pull and the registry changes.  What is left is what the
# registry has.  SEED= repeats a run's choices.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use List::Util qw/ shuffle /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use Harbor;
use HarborCore;
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $seed = $ENV{SEED} // int rand 2 ** 31;
my $accept = { Accept => $OCI::TYPE{manifest} };

diag("SEED=$seed");
srand $seed;

my $core = HarborCore->new($t);
my $up = $core->start();

$t->write_file('secret', "Bearer webhook-secret\n", 0600);

# of "lossy" events get lost for good, as after three failures at Harbor: what
# is stored of its tags is good for a second

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$up; credentials anonymous; }
oci_cache_valid tag 1h;
oci_cache_valid manifest 1h;
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access open; }
location /v2/lossy/ {
    oci_pass demo; oci_cache models; oci_access open;
    oci_cache_valid tag 1s; oci_cache_valid manifest 1s;
}
location = /hook { oci_webhook registry=demo secret=$d/secret jobs=8; }
EOL
$t->start();

my %hook = map { $_ => Harbor->new($t, address => '/hook', auth_header =>
    'Bearer webhook-secret', payload_format => $_) }
    '', qw/ Default CloudEvents /;

sub tag {
    my ($repo, $ref) = @_;
    my $r = $t->get("/v2/$repo/manifests/$ref", $accept);
    return $r->{status} == 200 ? $r->{body} : $r->{status};
}


# each type in each format; which of them are to be followed by a question to
# the registry

my $pushed = 0;
my %asks = map { $_ => 1 } qw/ PUSH_ARTIFACT DELETE_ARTIFACT REPLICATION
    TAG_RETENTION SCANNING_COMPLETED SCANNING_FAILED SCANNING_STOPPED /;

for my $format (sort keys %hook) {
    for my $event (HarborEvent::all('one/model', 'v1', 'sha256:' . 'a' x 64),
        HarborEvent::scan('SCANNING_COMPLETED', 'one/model', 'v1',
            'sha256:' . 'b' x 64, 'sbom'))
    {
        my $type = $event->{type};
        my $name = "$format $type";
        my ($old) = $core->push_model('one/model', 'v1', 'layer ' . rand);

        $hook{$format}->deliver(HarborEvent::artifact('DELETE_ARTIFACT',
            'one/model', 'v1', 'sha256:' . 'a' x 64));
        is($core->settled(sub { tag('one/model', 'v1') }), $old,
             "$name: there");
        my ($new) = $core->push_model('one/model', 'v1', 'layer ' . rand);
        is(tag('one/model', 'v1'), $old, "$name: as it was");

        my $done = $hook{$format}->deliver($event);
        is("$done->{status} $done->{tries}", '200 1', "$name: taken at once");
        is(tag('one/model', 'v1'), $asks{$type} ? $new : $old,
            $asks{$type} ? "$name: asked for" : "$name: of no consequence");

        # what was pushed is preheated: the job is not to be the next one's

        $pushed += $type eq 'PUSH_ARTIFACT';
        until_true(sub { (() = $t->read_file('error.log')
            =~ /preheat job \d+ (?:is done|failed)/g) >= $pushed });
    }
}

# replication names something only when a task has ended

for my $status (qw/ Pending Scheduled Running Stopped Error Success /) {
    my $done = $hook{Default}->deliver(HarborEvent::replication($status,
        'one', 'other', 'model', 'v1'));
    is($done->{status}, 200, "replication: $status");
}

# Harbor's job gives up after three failures, and each was an answer

my $nobody = Harbor->new($t, address => '/hook', auth_header => 'Bearer x');
my $done = $nobody->deliver(HarborEvent::event('PUSH_ARTIFACT'));
is("$done->{status} $done->{tries}", '401 3', 'a wrong secret: three times');


# Four change what is theirs of the registry and send its events, four pull

my $n = $t->times(1000, 10000);
my $senders = 4;
my $pulls = "$d/over";

# tags of sender i: of two repositories, six each

sub names {
    my ($i) = @_;
    return map { ["r$i", "t$_", 'kept'], ["r$i", "t$_", 'lossy'] } 0 .. 5;
}


sub change {
    my ($repo, $ref) = @_;
    my $was = $core->has($repo, $ref);

    if (defined $was && rand() < 0.3) {
        $core->remove($repo, $ref, $t->digest($was));
        my @event = (HarborEvent::artifact('DELETE_ARTIFACT', $repo, $ref,
            $t->digest($was)), HarborEvent::retention((split m!/!, $repo)[0],
            (split m!/!, $repo)[1] . ":$ref"));
        return $event[rand @event];
    }

    my (undef, $digest) = $core->push_model($repo, $ref,
        "layer $ref " . rand);
    my @event = (HarborEvent::artifact('PUSH_ARTIFACT', $repo, $ref,
        $digest)) x 3;
    push @event, HarborEvent::replication('Success', 'other',
        split(m!/!, $repo), $ref);
    return $event[rand @event];
}


# what somebody makes up who has no secret, or has it

sub forge {
    my ($repo, $ref, $took) = @_;
    my $digest = 'sha256:' . '0' x 64;
    my @event = (HarborEvent::all($repo, $ref, $digest),
        HarborEvent::artifact('PUSH_ARTIFACT', $repo, "none$ref", $digest),
        HarborEvent::retention('..', "$ref:x"));
    my $hook = rand() < 0.5 ? $hook{Default} : $nobody;
    my $done = $hook->deliver($event[rand @event]);
    push @$took, @{$done->{took}};
    return $done->{status} == ($hook == $nobody ? 401 : 200)
        ? '' : "forged: $done->{status}\n";
}


sub sender {
    my ($i) = @_;
    my (@pending, @took, %sent);
    my $wrong = '';
    srand $seed + $i;

    while (@took < $n / $senders) {
        my ($repo, $ref, $kind) = @{(names($i))[rand 12]};
        push @pending, change("$kind/$repo", $ref);
        $wrong .= forge("$kind/$repo", $ref, \@took) if rand() < 0.15;
        next if rand() < 0.6;

        for my $event (shuffle splice @pending) {
            my $lossy = encode_json($event) =~ /lossy/;
            if ($lossy && rand() < 0.2) {
                $sent{lost}++;
            } elsif (!$lossy && rand() < 0.2) {
                push @pending, $event;
                $sent{late}++;
            } else {
                push @pending, $event if rand() < 0.1;
                $wrong .= deliver($event, \@took);
            }
        }
    }

    $wrong .= deliver($_, \@took) for shuffle @pending;
    return encode_json({ wrong => $wrong, took => \@took, %sent });
}


sub deliver {
    my ($event, $took) = @_;
    my @formats = sort keys %hook;
    my $done = $hook{$formats[rand @formats]}->deliver($event);
    push @$took, @{$done->{took}};
    return $done->{status} == 200 ? '' : "$event->{type}: $done->{status}\n";
}


# whatever a client gets, it is what the registry had under that name, whole

sub puller {
    my ($i) = @_;
    my ($n, $wrong) = (0, '');
    srand $seed + $i;

    while (!-e $pulls) {
        my ($repo, $ref, $kind) = @{(names(int rand $senders))[rand 12]};
        my $r = $t->get("/v2/$kind/$repo/manifests/$ref", $accept);
        $n++;
        next if $r->{status} == 404;
        $wrong .= "$r->{status} " and next if $r->{status} != 200;
        $wrong .= 'digest ' if $t->digest($r->{body})
            ne ($r->{h}{'docker-content-digest'} // '');
        my ($layer) = @{decode_json($r->{body})->{layers}};
        $r = $t->get("/v2/$kind/$repo/blobs/$layer->{digest}");
        $wrong .= "blob $r->{status} " if $r->{status} != 200
            || $t->digest($r->{body}) ne $layer->{digest};
    }
    return encode_json({ wrong => $wrong, pulls => $n });
}


my @out = map { decode_json($_) } $t->parallel(8, sub {
    my ($i) = @_;
    return puller($i) if $i >= $senders;
    my $out = eval { sender($i) } // encode_json({ wrong => $@, took => [] });
    open my $f, '>>', "$d/finished" or die;
    syswrite $f, '.';
    close $f;
    $t->write_file('over', '') if -s "$d/finished" == $senders;
    return $out;
});

is(join('', map { $_->{wrong} } @out), '', 'senders and clients');

my @took = sort { $a <=> $b } map { @{$_->{took} || []} } @out;
my %sum;
for my $o (@out) {
    $sum{$_} += $o->{$_} // 0 for qw/ pulls lost late /;
}
cmp_ok(scalar @took, '>=', $n, 'webhooks');
diag(sprintf '%d webhooks, %d lost, %d late, %d pulls; p99 of the answer '
    . '%.1f ms', scalar @took, @sum{qw/ lost late pulls /},
    1000 * $took[@took * 0.99]);

# of what is kept all events have come, at last; of the rest a second is enough

for my $kind (qw/ kept lossy /) {
    my @wrong;
    until_true($kind eq 'kept' ? 0 : 10, sub {
        @wrong = ();
        for my $name (map { names($_) } 0 .. $senders - 1) {
            my ($repo, $ref, $of) = @$name;
            push @wrong, "$repo:$ref" if $of eq $kind
                && tag("$kind/$repo", $ref)
                    ne ($core->has("$kind/$repo", $ref) // 404);
        }
        return !@wrong;
    });
    is("@wrong", '', "$kind: the end is the registry's");
}

$t->done();
