#!/usr/bin/perl

# The n-th call of a function fails while a policy's document is loaded,
# followed and kept (t/faults/fault.c): nothing breaks, and what Redis has is
# in force in the end.  FAULTS=all tries every n.

use warnings;
use strict;

use Test::More;
use Errno qw/ EIO ENOSPC ENOMEM EMFILE ECONNRESET ECONNREFUSED /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Fault;
use Policy;
use Redis;

my $all = ($ENV{FAULTS} // '') eq 'all';
my $t = OCI->new();
my $fault = Fault->new($t);
my $d = $t->{dir};

my $doc = { subjects => { alice => { secret => Policy::phc('canary-alice') } },
    grants => { g => { role => 'guest', subjects => ['alice'],
        repositories => ['llm/**'] } } };

my $redis = Redis->new($t);
$redis->import_doc($doc);

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}');
}, quiet => 1);

# what is failed of files is what lies in "cache"

$t->conf(cache => '', http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source redis://127.0.0.1:$redis->{port};
    zone team:1m; identity anonymous; poll 100ms; stale 1h;
    state_file $d/cache/team;
}
EOC
location /v2/ { oci_pass demo; oci_access team; }
EOL
$fault->start();

my $uri = '/v2/public/x/tags/list';
my $public = 0;
my $epoch = 1;

sub change {
    $public = !$public;
    $epoch = $redis->change('project/public' => { public => $public
        ? JSON::PP::true : JSON::PP::false });
}

sub is_in_force {
    return until_true(20, sub {
        ($t->get($uri)->{status} == 200) == !!$public });
}

sub is_kept {
    return until_true(90, sub { $t->read_file('cache/team')
        =~ /^epoch 0*$epoch$/m });
}

change();
ok(is_in_force(), 'a document');
ok(is_kept(), 'which is kept');

my $workers = join ' ', $t->workers();

# as above, and after the connections were lost

my @cases = (
    ['memory', ENOMEM, 24], ['memory', ENOMEM, 4, on => 1],
    ['recv', ECONNRESET, 8, port => $redis->{port}],
    ['connect', ECONNREFUSED, 3, port => $redis->{port}],
    ['open', EMFILE, 3], ['write', ENOSPC, 4], ['write', $SHORT, 4],
    ['sync', EIO, 3], ['rename', EIO, 2],
);

for my $c (@cases) {
    my ($function, $error, $few, %o) = @$c;
    my ($tried, $failed, $last) = (0, 0, 0);
    for my $lost (0, 1) {
        for (my $n = 1; $n <= 400; $n += $all ? 1 : 1 + int rand(3)) {
            last if !$all && $n > $few;
            $fault->arm($function, $n, $error, %o);
            if ($lost) {
                $redis->command('CLIENT', 'KILL', 'TYPE', $_,
                    'SKIPME', 'yes') for qw/ pubsub normal /;
            }
            change();
            sleep 0.3;
            my ($count, $fired) = $fault->disarm();
            $tried++;
            $last = $n if $fired;
            if (!is_in_force()) {
                $failed++;
                diag("$function $n of $count, "
                    . ($lost ? 'connections lost' : 'connected'));
            }
            last if !$fired;
        }
    }
    is($failed, 0, "$function, error $error: in force in the end");
    diag("$function, error $error: $tried tries, up to call $last");
    ok(is_kept(), 'and kept') if $function =~ /^(open|write|sync|rename)$/;
}

is(join(' ', $t->workers()), $workers, 'no worker died');

$t->allow(qr/(malloc|posix_memalign|calloc)\(.*\) failed/,
    qr/could not allocate/, qr/\(12: Cannot allocate memory\)/);
$t->done();
