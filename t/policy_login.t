#!/usr/bin/perl

# The check of secrets: in threads, one for equal ones, bounded, and the same
# for subjects that are not there (S6).

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

my $t = OCI->new();
my $d = $t->{dir};

# about a tenth of a second each

my $slow = Policy::phc('slow-secret', ln => 15);
my $quick = Policy::phc('quick-secret');

Policy::write_doc($t, { version => 1,
    subjects => { alice => { secret => $slow }, bob => { secret => $slow },
        off => { secret => $slow, disabled => JSON::PP::true } },
    grants => { g => { role => 'guest', subjects => [qw/ alice bob off /],
        repositories => ['llm/**'] } } });

Policy::write_doc($t, { version => 1,
    subjects => { map { $_ => { secret => $quick } } qw/ alice bob / },
    grants => { g => { role => 'guest', subjects => [qw/ alice bob /],
        repositories => ['llm/**'] } },
    projects => { public => { public => JSON::PP::true } } }, 'quick.json');

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, $q->{uri} =~ /absent/ ? 404 : 200, {}, '{}');
}, quiet => 1);

my ($quick_port, $anew) = (OCI::port(), OCI::port());

Policy::signing_key($t, 'edge.pem');
$t->conf(http => <<EOC, location => <<EOL);
keepalive_requests 100000;
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic; valid 2s;
}
oci_policy quick {
    source file:$d/quick.json; zone quick:1m; identity basic anonymous;
    signing_key $d/edge.pem; realm http://edge.test/token;
}
oci_policy anew {
    source file:$d/quick.json; zone anew:1m; identity basic; valid 0;
}
server {
    listen 127.0.0.1:$quick_port;
    location /v2/ { oci_pass demo; oci_access quick; }
}
server {
    listen 127.0.0.1:$anew;
    location /v2/ { oci_pass demo; oci_access anew; }
}
EOC
location /v2/ { oci_pass demo; oci_access team; }
EOL
$t->start();

sub login {
    my ($user, $secret) = @_;
    my $begin = time();
    my $r = $t->get('/v2/', { Policy::basic($user, $secret) });
    return ($r->{status}, time() - $begin, $r);
}

# one check for all who come with the same

my ($status, $one) = login('alice', 'slow-secret');
is($status, 200, 'a login');
sleep 2.2;

my $begin = time();
my @out = $t->parallel(16, sub { return (login('alice', 'slow-secret'))[0] });
my $all = time() - $begin;
is(join(' ', @out), join(' ', (200) x 16), '16 at once');
cmp_ok($all, '<', 8 * $one + 1, 'with less than one check for each');
diag(sprintf 'one login %.0f ms, 16 at once %.0f ms', $one * 1e3,
    $all * 1e3);

for (1 .. 3) {
    sleep 0.9;
    cmp_ok((login('alice', 'slow-secret'))[1], '<', $one / 2,
        'who goes on is remembered');
}

my ($s1, $t1) = login('alice', 'slow-secret');
cmp_ok($t1, '<', $one / 2, 'what was checked is remembered');
is($s1, 200, 'as it was');
($s1, $t1) = login('alice', 'slow-secreT');
is($s1, 401, 'of another secret nothing is');
cmp_ok($t1, '>', $one / 4, 'it costs a check');
my ($s2, $t2) = login('alice', 'slow-secreT');
is($s2, 401, 'again');
cmp_ok($t2, '<', $one / 2, 'is remembered, too');

# it costs the same for whom there is not, and who is disabled

my %took;
for my $i (1 .. 6) {
    for my $u (['bob', "wrong-$i"], ["mallory-$i", 'slow-secret'],
               ['off', "wrong-$i"])
    {
        my ($s, $took) = login(@$u);
        is($s, 401, "$u->[0]: 401");
        push @{$took{$u->[0] =~ s/-\d+//r}}, $took;
    }
}
my %median = map { $_ => (sort { $a <=> $b } @{$took{$_}})[3] } keys %took;
for my $u (qw/ mallory off /) {
    my $ratio = $median{$u} / $median{bob};
    ok($ratio > 0.5 && $ratio < 2, "$u costs what a wrong secret costs")
        or diag($ratio);
}

# many who guess: bounded, others go on, and the event loop with them

my @guess = map {
    my $s = $t->connect();
    $t->send_request($s, 'GET', '/v2/', { Policy::basic('bob', "guess-$_") });
    $s;
} 1 .. 60;

my $worst = 0;
for (1 .. 40) {
    my $begin = time();
    my $r = $t->get('/oci_status');
    my $took = time() - $begin;
    $worst = $took if $took > $worst;
}
cmp_ok($worst, '<', 0.5, 'who asks for something else does not wait');
diag(sprintf 'a status request beside the checks: %.0f ms at most',
    $worst * 1e3);

# half of them leave meanwhile

close $_ for splice @guess, 0, 10;

my %count;
for my $s (@guess) {
    my $r = $t->read_header($s);
    $t->read_body($s, $r, 'GET');
    $count{$r->{status}}++;
    if ($r->{status} == 503 && $count{503} == 1) {
        is($r->{h}{'retry-after'}, 1, '503 says when to come again');
        like($r->{body}, qr/"UNAVAILABLE"/, 'in the form of an OCI error');
    }
    close $s;
}
is($count{401} + $count{503}, 50, 'all are answered') or diag(%count);
cmp_ok($count{401}, '<=', 32, '32 checks at most at a time');
cmp_ok($count{401}, '>=', 22, 'and no fewer');
is((login('bob', 'slow-secret'))[0], 200, 'and then the right one is let in');

# nor do they keep others out, who come from another address

@guess = map {
    my $s = $t->connect();
    $t->send_request($s, 'GET', '/v2/', { Policy::basic('bob', "more-$_") });
    $s;
} 1 .. 60;
$t->get('/oci_status');

my @others = map {
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $t->{edge}, LocalAddr => "127.0.0.$_->[0]") or die $!;
    $t->send_request($s, 'GET', '/v2/', { Policy::basic('alice', $_->[1]) });
    $s;
} [2, 'first'], [2, 'second'], [3, 'third'], [4, 'slow-secret'];
$t->get('/oci_status');
is(join(' ', map { my $r = $t->read_header($_); $r->{status} } @others),
    '401 401 401 200', 'others have theirs');
%count = ();
$count{$t->read_header($_)->{status}}++ for @guess;
is($count{401} + $count{503}, 60, 'all are answered') or diag(%count);
cmp_ok($count{503} // 0, '>', 0, 'not all of them are checked');
close $_ for @guess, @others;

# "valid 0": no outcome is kept

for my $secret ('quick-secret', 'wrong') {
    for (1 .. 2) {
        my $r = $t->http($anew, 'GET', '/v2/', { Policy::basic('bob',
            $secret) });
        is($r->{status}, $secret eq 'wrong' ? 401 : 200, "valid 0: $secret");
    }
}

# a worker that is told to stop ends its checks first

my $s = $t->connect();
$t->send_request($s, 'GET', '/v2/', { Policy::basic('alice', 'at-the-end') });
sleep 0.02;
$t->signal('HUP');
my $r = $t->read_header($s);
is($r->{status}, 401, 'a check goes on over a reload');
sleep 0.5;

# what is forbidden and there, and what is not there: time tells nothing

SKIP: {
    skip 'no times under sanitizers', 1 if $OCI::ASAN;

    my $c = $t->connect($quick_port);
    my %h = Policy::basic('alice', 'quick-secret');
    my (%times, %body);
    my $n = $ENV{TIMING_SAMPLES} || OCI->times(1000, 10000);

    for my $i (1 .. 2 * $n + 200) {
        my $kind = rand() < 0.5 ? 'there' : 'absent';
        my $begin = time();
        $t->send_request($c, 'GET', "/v2/secret/$kind/manifests/v1",
            \%h);
        my $r = $t->read_header($c);
        my $took = time() - $begin;
        $t->read_body($c, $r, 'GET');
        $body{$r->{body}} = 1;
        push @{$times{$kind}}, $took if $i > 200;
    }

    is(scalar(keys %body), 1, 'one body');

    my (%mean, %var, %n);
    for my $kind (keys %times) {
        my @x = sort { $a <=> $b } @{$times{$kind}};
        $#x = int(@x * 0.9);
        $n{$kind} = @x;
        $mean{$kind} += $_ / @x for @x;
        $var{$kind} += ($_ - $mean{$kind}) ** 2 / (@x - 1) for @x;
    }
    my $tt = ($mean{there} - $mean{absent})
        / sqrt($var{there} / $n{there} + $var{absent} / $n{absent});
    diag(sprintf '%d samples each, %.1f us and %.1f us, t = %.2f', $n,
        $mean{there} * 1e6, $mean{absent} * 1e6, $tt);
    cmp_ok(abs $tt, '<', 4.5, 'forbidden and absent take the same time');
}

$t->done();
