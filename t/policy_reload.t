#!/usr/bin/perl

# A reload that fails late leaves the policy's document as it was; and a
# request whose client left while its secret was checked is not gone on with.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use IO::Socket::INET;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;

# ("post_action" has all that the client sent)

my $t = OCI->new(passes => 1);
my $d = $t->{dir};

my $doc = {
    version => 1,
    subjects => { alice => { secret => Policy::phc('alice-secret') },
        slow => { secret => Policy::phc('slow-secret', ln => 16) } },
    grants => { g => { role => 'guest', subjects => ['alice'],
        repositories => ['llm/**'] } },
};

Policy::write_doc($t, $doc);
delete $doc->{grants};
Policy::write_doc($t, $doc, 'other.json');

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    sleep 1 if $q->{uri} =~ /after/;
    return $t->reply($c, $q, 200, {}, '{}');
});

$t->conf(http => <<EOC, location => <<EOL);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
oci_policy team {
    source file:$d/policy.json; zone team:1m; identity basic;
}
EOC
location /v2/ {
    oci_pass demo; oci_access team;
    post_action \@after;
}
location \@after {
    proxy_pass http://127.0.0.1:$port;
    proxy_set_header X-After 1;
    proxy_ignore_client_abort on;
}
EOL
$t->start();

sub as { return { Policy::basic(@_) } }

my $uri = '/v2/llm/a/tags/list';
is($t->get($uri, as('alice', 'alice-secret'))->{status}, 200, 'a grant');

# the client leaves

sleep 0.2;
$t->forget_requests(0);
my $s = $t->connect();
$t->send_request($s, 'GET', '/v2/after/x/tags/list',
    as('slow', 'wrong'));
sleep 0.05;
close $s;
sleep 2.5;
is(scalar($t->requests(0)), 1, 'what comes after it comes once');

# another file, and a port that is taken

my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1,
    Proto => 'tcp') or die $!;
my $conf = $t->read_file('nginx.conf');
my $new = $conf =~ s/policy\.json/other.json/r;
my $number = $taken->sockport();
$new =~ s/http \{/http { server { listen 127.0.0.1:$number; }/ or die;
$t->write_file('nginx.conf', $new);
$t->signal('HUP');

my $failed;
for (1 .. 100) {
    $failed = $t->read_file('error.log') =~ /still could not bind/;
    last if $failed;
    sleep 0.1;
}
ok($failed, 'a reload fails');
sleep 1;
is($t->get($uri, as('alice', 'alice-secret'))->{status}, 200,
    'and the document is that of the configuration that is in force');

$t->allow(qr/bind\(\) to 127\.0\.0\.1:$number failed/,
    qr/still could not bind/);
$t->done();
