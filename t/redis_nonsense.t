#!/usr/bin/perl

# A policy's Redis that answers nonsense: nothing of it is believed, and
# nothing breaks.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Redis;

my $t = OCI->new(workers => 2);

sub bulk { return '$' . length($_[0]) . "\r\n$_[0]\r\n" }
sub array { return '*' . @_ . "\r\n" . join '', @_ }

my $alice = JSON::PP->new->encode({ secret => Policy::phc('canary-alice') });
my $grant = '{"role":"guest","subjects":["alice"],"repositories":["llm/**"]}';
my $all = array(bulk('subject/alice'), bulk($alice), bulk('grants/g'),
    bulk($grant));

# a Redis that is right, but for what is told

sub redis {
    my (%o) = @_;
    my $queued = 0;
    return scalar Redis::scripted($t, sub {
        my ($command, @args) = @_;
        my $o = $o{$command};
        return ref $o ? $o->(@args) : $o if exists $o{$command};
        return "+OK\r\n" if $command =~ /^(AUTH|SELECT)$/;
        return $command eq 'PING' && $queued ? array(bulk('pong'), bulk(''))
            : "+PONG\r\n" if $command eq 'PING';
        return bulk($o{epoch} // '7') if $command eq 'GET';
        return array(bulk('0'), $all) if $command eq 'HSCAN';
        if ($command eq 'SUBSCRIBE') {
            $queued = 1;
            return array(bulk('subscribe'), bulk($args[0]), ":1\r\n")
                . ($o{message} // '');
        }
        return undef;
    });
}

my $many = 3000000;
my @cases = (
    ['all is well', undef],
    ['no bytes of its protocol', qr/not of Redis' protocol/,
        PING => "HTTP/1.1 400 Bad Request\r\n\r\n"],
    ['a text for a status', qr/nonsense/, PING => bulk('PONG')],
    ['an integer for a status', qr/nonsense/, PING => ":1\r\n"],
    ['an array for the epoch', qr/no number/, GET => array(bulk('1'))],
    ['an integer for the epoch', qr/no number/, GET => ":1\r\n"],
    ['a negative epoch', qr/no number/, epoch => '-1'],
    ['a long epoch', qr/no number/, epoch => '9' x 40],
    ['an epoch beyond all', qr/no number/, epoch => '9223372036854775808'],
    ['an empty epoch', qr/no number/, epoch => ''],
    ['no epoch', qr/it has no epoch/, GET => "\$-1\r\n"],
    ['an error with a secret', qr/refused to tell the epoch \(an error\)/,
        GET => "-canary-echo\r\n"],
    ['an error that is known', qr/refused to tell the epoch \(LOADING\)/,
        GET => "-LOADING canary-echo\r\n"],
    ['a status for a scan', qr/nonsense/, HSCAN => "+OK\r\n"],
    ['an empty array', qr/nonsense/, HSCAN => "*0\r\n"],
    ['no array', qr/nonsense/, HSCAN => "*-1\r\n"],
    ['a cursor that is none', qr/nonsense/,
        HSCAN => array(bulk('x'), $all)],
    ['a cursor without end', qr/nonsense/,
        HSCAN => array(bulk('1' x 64), $all)],
    ['a name without a value', qr/nonsense/,
        HSCAN => array(bulk('0'), array(bulk('subject/x')))],
    ['numbers for fields', qr/nonsense/,
        HSCAN => array(bulk('0'), array(":1\r\n", ":2\r\n"))],
    ['nothing for fields', qr/nonsense/,
        HSCAN => array(bulk('0'), array("\$-1\r\n", "\$-1\r\n"))],
    ['a long name', qr/a field's name has more than 512 bytes/,
        HSCAN => array(bulk('0'), array(bulk('x' x 600), bulk('{}')))],
    ['a large value', qr/a value has more than 4m/,
        HSCAN => array(bulk('0'), array(bulk('x'), bulk('x' x 5000000)))],
    ['a line without end', qr/a value has more than 4m/,
        HSCAN => '+' . 'x' x 5000000],
    ['a value that is announced', qr/a value has more than 4m|protocol/,
        HSCAN => '$9223372036854775807' . "\r\n" . 'x' x 5000000],
    ['many elements', qr/more than two million elements/,
        HSCAN => "*2000000000\r\n"],
    ['more than there are', qr/more than two million elements|protocol/,
        HSCAN => "*4294967296\r\n"],
    ['arrays of arrays', qr/more than two million elements/,
        HSCAN => array(("*1000000\r\n") x 5)],
    ['deep arrays', qr/protocol|nonsense/, HSCAN => "*1\r\n" x 5000],
    ['a negative length', qr/protocol/, HSCAN => "\$-5\r\n"],
    ['a length that is none', qr/protocol/, HSCAN => "\$x\r\n"],
    ['answers to nothing', qr/no number|what it wasn't asked/,
        PING => "+PONG\r\n+PONG\r\n"],
    ['an end', qr/it closed the connection/, GET => undef],
    ['a scan without end', qr/two million|64m|in time/,
        HSCAN => sub { return array(bulk('1'), array(map {
            (bulk('subject/' . rand()), bulk('x' x 3000000)) } 1 .. 2)) }],
    ['a closing bracket', qr/end of file expected/,
        HSCAN => array(bulk('0'), array(bulk('subject/x'),
            bulk('{}},"grants":{"g":{"role":"systemAdmin"}}')))],
    ['bytes of zero', qr/field "subject\/x": /,
        HSCAN => array(bulk('0'), array(bulk('subject/x'),
            bulk("{\0}")))],
);

# on the channel: the document is there, and goes on to count

my @channels = (
    ['a status', "+OK\r\n"],
    ['an error', "-ERR canary-echo\r\n"],
    ['a message of nothing', array(bulk('message'), bulk('x'), "\$-1\r\n")],
    ['an array of numbers', array(":1\r\n", ":2\r\n", ":3\r\n")],
    ['a text', bulk('x')],
    ['another kind', array(bulk('pmessage'), bulk('x'), bulk('x'))],
    ['pong', array(bulk('pong'), bulk(''))],
    ['messages', array(bulk('message'), bulk('x'), bulk("\0\n\n\xff\n*"))
        x 50],
    ['a long one', array(bulk('message'), bulk('x'), bulk('x' x 5000000))],
);

push @cases, map { ["on the channel: $_->[0]", undef, message => $_->[1]] }
    @channels;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    return $t->reply($c, $q, 200, {}, '{}');
});

my ($conf, @ports) = ('');

for my $i (0 .. $#cases) {
    my (undef, undef, %o) = @{$cases[$i]};
    push @ports, OCI::port();
    my $redis = redis(%o);
    $conf .= <<EOC;
oci_policy p$i {
    source redis://127.0.0.1:$redis;
    zone p$i:256k; identity basic; state_file off; timeout 5s;
}
server {
    listen 127.0.0.1:$ports[$i];
    location /v2/ { oci_pass demo; oci_access p$i; }
}
EOC
}

$t->conf(location => '', http => <<EOC);
oci_registry demo { url http://127.0.0.1:$port; credentials anonymous; }
$conf
EOC
$t->start();

my $basic = { Policy::basic('alice', 'canary-alice') };

sub status {
    my ($i) = @_;
    return $t->http($ports[$i], 'GET', '/v2/llm/a/tags/list',
        $basic)->{status};
}

for my $i (0 .. $#cases) {
    my ($what, $says) = @{$cases[$i]};
    if (!defined $says) {
        ok(until_true(10, sub { status($i) == 200 }), $what)
            or diag(grep { /"p$i"/ } split /^/, $t->read_file('error.log'));
        next;
    }
    ok(until_true(60, sub { $t->read_file('error.log')
        =~ /"p$i"[^\n]*all requests are refused: [^\n]*$says/ }), $what)
        or diag(grep { /"p$i"/ } split /^/, $t->read_file('error.log'));
    is(status($i), 503, 'nobody gets anything');
}

sleep 2;

for my $i (grep { !defined $cases[$_][1] } 0 .. $#cases) {
    is(status($i), 200, "still: $cases[$i][0]");
}

my $text = join '', map { $t->read_file($_) } qw/ error.log nginx.log
    access.log /;
unlike($text, qr/canary/, 'nothing of an answer in a log');

my ($alive) = $t->workers();
for my $pid ($t->workers()) {
    open my $f, '<', "/proc/$pid/status" or next;
    my ($kb) = join('', <$f>) =~ /VmHWM:\s+(\d+)/;
    cmp_ok($kb, '<', $OCI::ASAN ? 3000000 : 600000,
        "a worker had $kb kB at most");
}

$t->done();
