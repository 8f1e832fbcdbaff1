#!/usr/bin/perl

# oci_pull_accounting: the registry learns of pulls that the cache served, of
# each artifact once in a while, and no client waits for it.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use HarborCore;
use OCI;

my $t = OCI->new(workers => 3);
my $d = $t->{dir};
my $type = 'application/vnd.oci.image.manifest.v1+json';

my $core = HarborCore->new($t);
my %manifest = map { $_ => encode_json({ schemaVersion => 2,
    mediaType => $type, layers => [], annotations => { n => $_ } }) }
    qw/ v1 v2 v3 /;

for my $repo (qw! m/a m/b m/c m/n gone/a !) {
    for my $tag (sort keys %manifest) {
        $core->put($repo, $_, $manifest{$tag})
            for $tag, $t->digest($manifest{$tag});
    }
}

my $port = $core->start(quiet => 0);
my $gone = $core->start();

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; }
oci_registry gone { url http://127.0.0.1:$gone; }
EOC
location /v2/ { oci_pass demo; oci_cache models; oci_pull_accounting 1h; }
location /v2/gone/ {
    oci_pass gone; oci_cache models; oci_pull_accounting 1s;
    oci_cache_valid tag 1h; oci_cache_valid manifest 1h;
}
location = /none { oci_pull_accounting off; return 204; }
EOL
$t->start();

my $accept = { Accept => $type,
    Authorization => 'Basic Y2xpZW50OnNlY3JldA==' };

sub pull { return $t->get("/v2/m/$_[0]/manifests/$_[1]", $accept)->{status} }

sub gets {
    my ($name) = @_;
    return grep { HarborCore::counts($_) && $_->{uri} =~ m!^/v2/m/$name/! }
        $t->requests();
}

# the first one is the registry's own

is(pull('a', 'v1'), 200, 'a miss') for 1;
is(scalar(gets('a')), 1, 'one GET');
is(pull('a', 'v1'), 200, 'a hit') for 1 .. 20;
sleep 0.5;
is(scalar(gets('a')), 1, 'of this hour');

# after a restart nothing is known: pulls come from the cache, one is told

$t->stop();
$t->start();
$t->forget_requests();

pull('a', 'v1') for 1 .. 30;
until_true(sub { scalar gets('a') });
sleep 0.5;
my @gets = gets('a');
is(scalar @gets, 1, '30 pulls, one GET');
is($gets[0]{uri}, '/v2/m/a/manifests/v1', 'of the tag');
is($gets[0]{h}{authorization}, $accept->{Authorization},
    'with the right that the pull had');
unlike($gets[0]{h}{'user-agent'} // '', qr/harbor-registry-client/,
    'Harbor counts it');

# by its digest it is the same artifact

pull('a', $t->digest($manifest{v1})) for 1 .. 5;
sleep 0.5;
is(scalar(gets('a')), 1, 'the same artifact');

# another repository's is another one

pull('b', 'v1');
is(scalar(gets('b')), 1, 'another repository: a miss');

# many clients at once, of three artifacts, by tags and digests

pull('n', $_) for qw/ v1 v2 v3 /;
$t->stop();
$t->start();
$t->forget_requests();

my @out = $t->parallel(8, sub {
    return join '', map { pull('n', $_) . ' ' } map { $_,
        $t->digest($manifest{$_}) } (qw/ v1 v2 v3 /) x 4;
});
is(join('', @out), '200 ' x 192, '192 pulls by 8 clients');
until_true(sub { gets('n') >= 3 });
sleep 0.5;
is(scalar(gets('n')), 3, 'one GET of each artifact');

# HEAD is no pull

$t->forget_requests();
$t->head('/v2/m/a/manifests/v1', $accept) for 1 .. 3;
sleep 0.3;
is(scalar(gets('a')), 0, 'HEAD');

# the registry fails, or hangs: nobody waits

pull('c', $_) for qw/ v2 v3 /;
$t->stop();
$t->start();

for my $c (['fail', 'v2'], ['hold', 'v3']) {
    my ($state, $tag) = @$c;
    $core->state($state);
    $t->forget_requests();
    my $begin = time();
    is(pull('c', $tag), 200, "$state: served") for 1 .. 5;
    ok(time() - $begin < 4, "$state: at once");
    until_true(sub { scalar gets('c') });
    is(scalar(gets('c')), 1, "$state: tried once");
}

like($t->read_file('error.log'),
    qr/\[info\].*a pull from "m\/c" was not made known to registry "demo"/,
    'and said');

$core->state('');

# it can't be reached, and then it is a hole: pulls are served, while nothing
# is answered at all

is($t->get("/v2/gone/a/manifests/$_", $accept)->{status}, 200,
    "$_: a miss") for qw/ v1 v2 v3 /;
sleep 1.2;
$t->stop_one('upstream1');

sub not_known {
    return scalar(() = $t->read_file('error.log')
        =~ /from "gone\/a" was not made known/g);
}

is($t->get('/v2/gone/a/manifests/v1', $accept)->{body}, $manifest{v1},
    'refused: served') for 1 .. 10;
until_true(\&not_known);
is(not_known(), 1, 'refused: tried once');

my $hole = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
    LocalPort => $gone, Listen => 8, ReuseAddr => 1, Timeout => 30) or die $!;

is($t->get('/v2/gone/a/manifests/v2', $accept)->{body}, $manifest{v2},
    'a hole: served') for 1 .. 10;
my $tried = $hole->accept();
ok($tried, 'a hole: it was asked');
is(not_known(), 1, 'a hole: it has not answered');
is($t->get('/v2/gone/a/manifests/v2', $accept)->{body}, $manifest{v2},
    'a hole: served on');
close $_ for $tried, $hole;

# an interval that is over

my $conf = $t->read_file('nginx.conf');
$conf =~ s/accounting 1h/accounting 1s/;
$t->write_file('nginx.conf', $conf);
my @old = $t->workers();
$t->signal('HUP');
until_true(sub { my %n = map { $_ => 1 } $t->workers();
    !grep { $n{$_} } @old });

$t->stop();
$t->start();
$t->forget_requests();
pull('a', 'v1');
until_true(sub { gets('a') == 1 });
sleep 1.6;
pull('a', 'v1');
until_true(sub { gets('a') == 2 });
is(scalar(gets('a')), 2, 'once more after the interval');

for my $bad ('0', 'x', '1h 2h', '') {
    (my $c = $conf) =~ s/accounting 1s/accounting $bad/;
    my ($rc, $out) = $t->check($c);
    isnt($rc, 0, "refused: \"$bad\"");
    like($out, qr/oci_pull_accounting|is to be/, 'says so');
}

$t->done();
