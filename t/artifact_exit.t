#!/usr/bin/perl

# A worker that is to exit while a thread judges a manifest for it, and has
# nothing else to do any more: it waits for that.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

my $t = OCI->new(workers => 1);
my $d = $t->{dir};
my $registry = $t->registry();

Policy::write_doc($t, {
    version => 1,
    subjects => { bob => { secret => Policy::phc('canary-bob') },
        dev => { secret => Policy::phc('canary-dev') },
        map { $_ => { secret => Policy::phc("canary-$_", i => 2_000_000) } }
            qw/ slow-good slow-bad / },
    grants => {
        g => { role => 'guest', subjects => ['bob'],
            repositories => ['**'] },
        d => { role => 'developer', subjects => ['dev'],
            repositories => ['**'] },
    },
    projects => { llm => { rules => {
        media_types => { refuse => ['text/x'] } } } },
});

$t->conf(main => "thread_pool oci_policy threads=1;",
    http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$registry; credentials anonymous; }
oci_policy team { source file:$d/policy.json; zone team:1m; identity basic; }
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_access team; }
EOL
$t->start();

sub as {
    my ($user) = @_;
    return { Policy::basic($user, "canary-$user"),
        Accept => $OCI::TYPE{manifest} };
}

# large ones are judged in a thread; it has many values

my %digest;

for my $name (qw/ good bad /) {
    my $config = '{}';
    my $m = JSON::PP->new->canonical->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest},
        config => { size => length $config,
            mediaType => $name eq 'bad' ? 'text/x' : 'application/json',
            digest => $t->push_blob('llm/a', $config) }, layers => [],
        annotations => { map { ("key-$_" => 'value') } 1 .. 50000 } });
    $digest{$name} = $t->push_manifest('llm/a', $name, $m);
    is($t->get("/v2/llm/a/manifests/$digest{$name}", as('dev'))->{status},
        200, "$name is in the cache");
}

# (now it is known who bob is)

is($t->get('/v2/llm/a/manifests/absent', as('bob'))->{status}, 404, 'bob');

# the thread is busy with a secret first, for which the worker waits anyway

for my $c (['good', 200], ['bad', 412]) {
    my ($name, $status) = @$c;
    my @before = sort $t->workers();

    my $slow = $t->connect();
    $t->send_request($slow, 'GET', '/v2/', as("slow-$name"));
    sleep 0.1;

    my $s = $t->connect();
    $t->send_request($s, 'GET', "/v2/llm/a/manifests/$digest{$name}",
        as('bob'));
    sleep 0.1;

    $t->signal('HUP');

    my $r = $t->read_header($s);
    is($r->{status}, $status, "judged while the worker was to exit: $name");

    close $_ for $s, $slow;

    ok(OCI::until_true(sub {
        my %now = map { $_ => 1 } $t->workers();
        return !grep { $now{$_} } @before;
    }), "and then it did: $name");
}

$t->done();
