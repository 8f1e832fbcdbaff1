#!/usr/bin/perl

# The n-th call of a function fails, for n = 1, 2, ... until a pull passes in
# which nothing failed any more (t/faults/fault.c fails them, in workers only).
#
# Whatever fails, a body that is complete is right, and nothing is left: no
# worker died, no connection, descriptor or lock stays, and the manager finds
# everything that lies in the cache.  What fails on the disk no client sees.
#
# FAULTS=all tries every n ("make faults"); FAULTS=name only those of a case,
# FAULTS=name:n or name:n-m only those.  The number of calls of each is
# printed; with FAULT_TRACE also what was logged where something went wrong,
# and where the call came from.

use warnings;
use strict;

use Test::More;
use Errno qw/ EIO ENOSPC ENOMEM EMFILE EAGAIN ENOLCK ECONNRESET
    ECONNREFUSED /;
use Fcntl qw/ F_UNLCK /;
use File::Basename qw/ dirname /;
use File::Find qw/ find /;
use Time::HiRes qw/ time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Fault;

my $NEVER = 0xffffffff;
my $SLICE = 256 * 1024;
my $SIZE = 8 * $SLICE + 4711;
my ($FROM, $TO) = (5 * $SLICE + 100, 7 * $SLICE);

# on: all calls from the n-th on fail.  any: a client may see it, as an error
# or a body that is visibly cut (whole, again: only those that read all of
# it, whose beginning can't be hashed once more); rarely: so in one of five tries
# at most (what was handed to a slow client's socket as a piece of the file
# can't come from elsewhere); else nobody may.  net: only connections to the
# registry.  few: about how many calls are tried in "make test".  log: alerts
# that come with it, beside those with its own errno.

my $unusable = qr/the sidecar of a blob in ".*" is unusable/;
my $damaged = qr/manifest file ".*" was damaged and is removed/;

my @cases = (
    { name => 'open', errno => EIO },
    { name => 'open', errno => EMFILE, on => 1, few => 3 },
    { name => 'mkdir', errno => ENOSPC },
    { name => 'write', errno => EIO, log => $unusable },
    { name => 'write', errno => ENOSPC, on => 1, log => $unusable },
    { name => 'write', errno => $SHORT, few => 5 },
    { name => 'read', errno => EIO, log => qr/$unusable|$damaged/ },
    { name => 'read', errno => EIO, cold => 1, few => 12, rarely => 1,
        text => ' of what is not in memory', log => qr/$unusable|$damaged/ },
    { name => 'read', errno => EIO, cold => 1, on => 1, any => 1, few => 6,
        text => ' of what is not in memory', log => qr/$unusable|$damaged/ },
    { name => 'read', errno => EIO, on => 1, any => 'whole|again', few => 8,
        log => qr/$unusable|$damaged/ },
    { name => 'stat', errno => EIO, on => 1, few => 4,
        log => qr/can't be used any more/ },
    { name => 'rename', errno => ENOSPC, on => 1, few => 2 },
    { name => 'read', errno => $SHORT, log => qr/$unusable|$damaged/ },
    { name => 'read', errno => EIO, prepare => \&boot,
        text => ' after a reboot', few => 12,
        log => qr/$unusable|$damaged/ },
    { name => 'write', errno => EIO, prepare => \&boot,
        text => ' after a reboot', few => 6,
        log => $unusable },
    { name => 'sync', errno => EIO, prepare => \&boot,
        text => ' after a reboot', log => $unusable },
    { name => 'probe', errno => EAGAIN, few => 3 },
    { name => 'probe', errno => EIO, on => 1, few => 2 },
    { name => 'probe', errno => $SHORT, few => 2 },
    { name => 'truncate', errno => ENOSPC },
    { name => 'rename', errno => EIO },
    { name => 'unlink', errno => EIO, kind => 'bad',
        text => ' of a bad blob' },
    { name => 'stat', errno => EIO, log => qr/can't be used any more/ },
    { name => 'lock', errno => ENOLCK },
    { name => 'lock', errno => EAGAIN, on => 1, few => 2 },
    { name => 'recv', errno => ECONNRESET, net => 1 },
    { name => 'recv', errno => ECONNRESET, net => 1, on => 1, any => 1,
        few => 2 },
    { name => 'recv', errno => ECONNRESET, any => 1, few => 5 },
    { name => 'connect', errno => ECONNREFUSED, net => 1, kind => 'new',
        prepare => \&disconnect },
    { name => 'connect', errno => ECONNREFUSED, net => 1, kind => 'new',
        prepare => \&disconnect, on => 1, any => 1, few => 2 },
    { name => 'bell', errno => EIO, few => 3 },
    { name => 'memory', errno => ENOMEM, any => 1, few => 40,
        log => qr/no memory to keep manifest/ },
    { name => 'memory', errno => ENOMEM, any => 1, on => 1, few => 10,
        log => qr/no memory to keep manifest/ },
);

my $t = OCI->new(workers => 2, zone => '32m');
my $fault = Fault->new($t);
my $d = $t->{dir};
my $base = $t->random_blob($SIZE);

sub blob { return pack('N', $_[0]) . substr $base, 4 }

sub manifest {
    return qq/{"schemaVersion":2,"mediaType":"$OCI::TYPE{manifest}",/
        . qq/"annotations":{"n":"$_[0]"},"layers":[]}/;
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($kind, $n, $what) = $q->{uri}
        =~ m!^/v2/m/([a-z]+)(\d+)/(blobs|manifests)/!
        or return $t->reply($c, $q, 404);

    if ($what eq 'manifests') {
        my $m = manifest($n);
        return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
            'Docker-Content-Digest' => $t->digest($m) }, $m);
    }

    my $b = blob($n);
    substr($b, 3 * $SLICE, 1) ^= "\1" if $kind eq 'bad';
    $t->reply_blob($c, $q, $b, $kind eq 'new' ? { Connection => 'close' }
        : {});
    return $kind ne 'new';
}, quiet => 1);

# each worker has its own queue of connections

$t->{edge} = OCI->port();

$t->conf(listen => "listen 127.0.0.1:$t->{edge} reuseport;",
    http => "oci_registry demo { url http://127.0.0.1:$port; breaker off; }",
    cache_args => 'slice=256k max_size=256m', location => <<EOL);
location /v2/ { oci_pass demo; oci_cache models; }
location = /pid { return 200 "\$pid"; }
location = /stub { stub_status; }
EOL

$fault->start();

my @workers = $t->workers();
my ($offset, @trace) = (0);

# a connection to that worker

sub worker {
    my ($pid) = @_;
    for (1 .. 500) {
        my $s = $t->connect();
        $t->send_request($s, 'GET', '/pid');
        my $r = $t->read_header($s);
        $t->read_body($s, $r, 'GET');
        return $s if $r->{body} eq $pid;
        close $s;
    }
    die "no connection to worker $pid";
}

sub answer {
    my ($s) = @_;
    my $r = $t->read_header($s, 20);
    return $t->read_body($s, $r, 'GET', 20);
}

sub ask {
    my ($uri, $h) = @_;
    my $s = $t->connect();
    $t->send_request($s, 'GET', $uri, { Connection => 'close', %{$h || {}} });
    return answer($s);
}

# "ok", "cut", "error" or what is wrong with it

sub verdict {
    my ($r, $body, $bad) = @_;
    return 'it hangs' if $r->{timeout};
    return 'error' if $r->{status} == 0 || $r->{status} >= 400;
    return "status $r->{status}" if $r->{status} !~ /^20[06]$/;
    return 'ok' if $r->{body} eq $body;
    return 'cut' if $r->{cut} && ($bad
        || $r->{body} eq substr $body, 0, length $r->{body});
    return 'wrong bytes';
}

# two readers of two workers at once, another one afterwards, and manifests;
# name => verdict

sub pulls {
    my ($kind, $n, $arm) = @_;
    my $repo = "/v2/m/$kind$n";
    my ($b, $m) = (blob($n), manifest($n));
    my $uri = "$repo/blobs/" . $t->digest($b);
    my @s = map { worker($_) } @workers;
    my %v;

    $arm->() if $arm;

    $t->send_request($s[0], 'GET', $uri);
    $t->send_request($s[1], 'GET', $uri,
        { Range => "bytes=$FROM-" . ($TO - 1) });

    $v{whole} = verdict(answer($s[0]), $b, $kind eq 'bad');
    $v{range} = verdict(answer($s[1]), substr $b, $FROM, $TO - $FROM);
    close $_ for @s;
    $v{again} = verdict(ask($uri), $b, $kind eq 'bad');
    $v{manifest} = verdict(ask("$repo/manifests/" . $t->digest($m)), $m);
    $v{tag} = verdict(ask("$repo/manifests/v1"), $m);

    return %v;
}

# alerts that are new in the log and that the case does not explain

sub alerts {
    my ($case) = @_;
    open my $f, '<', "$d/error.log" or die;
    seek $f, $offset, 0;
    my @bad;
    @trace = ();
    while (<$f>) {
        push @trace, $_ if /\[0x[0-9a-f]+\]$|\[error\]|\[warn\]|\[crit\]/;
        next unless /\[(alert|emerg|crit)\]/;
        chomp;
        if ($case && (/ failed \($case->{errno}: /
            || ($case->{log} && /$case->{log}/)))
        {
            push @{$t->{allow}}, qr/\Q$_\E/;
            next;
        }
        push @bad, $_;
    }
    $offset = tell $f;
    return @bad;
}

my $serial = 0;

sub crc32c {
    my $crc = 0xffffffff;
    for my $c (unpack 'C*', $_[0]) {
        $crc ^= $c;
        $crc = $crc & 1 ? ($crc >> 1) ^ 0x82f63b78 : $crc >> 1 for 1 .. 8;
    }
    return $crc ^ 0xffffffff;
}

# files of blobs that workers have open

sub opened {
    return map { my $l = readlink($_) // '';
        $l =~ m!^\Q$d/cache/blobs\E/.*/[0-9a-f]{64}! ? $l : () }
        map { glob "/proc/$_/fd/*" } @workers;
}

# workers close what nobody uses

sub closed {
    $fault->later(6);
    return until_true(15, sub {
        close worker($_) for @workers;
        return !opened();
    });
}

# the blob is stored, by an earlier boot (ngx_oci_store.h has the header)

sub boot {
    pulls('ok', $serial);
    closed() or die 'a blob stays open';
    my $hex = substr $t->digest(blob($serial)), 7;
    my $name = "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex.map";
    open my $f, '+<:raw', $name or die "$name: $!";
    sysread $f, my $header, 456;
    substr($header, 112, 36) = 'x' x 36;
    substr($header, 12, 4) = pack 'L', 0;
    substr($header, 12, 4) = pack 'L', crc32c($header);
    sysseek $f, 0, 0;
    syswrite $f, $header;
    close $f;
}

# no connection to the registry is kept any longer

sub disconnect {
    $fault->later(70);
    close worker($_) for @workers;
}

# one pull with the n-th call failing; (calls, failed calls, what is wrong)

sub try {
    my ($case, $n) = @_;
    my $kind = $case->{kind} || 'ok';
    my @wrong;

    $serial++;
    $case->{prepare}->() if $case->{prepare};

    my %v = pulls($kind, $serial, sub {
        $fault->arm($case->{name}, $n, $case->{errno}, on => $case->{on} || 0,
            port => $case->{net} ? $port : 0, cold => $case->{cold} || 0);
    });
    my ($calls, $failed) = $fault->disarm();

    for (sort keys %v) {
        next if $v{$_} eq 'ok' && ($kind ne 'bad' || !/whole|again/);
        next if $v{$_} =~ /^(cut|error)$/
            && ($kind eq 'bad' || ($case->{any} // '') =~ /\b(1|$_)\b/);
        next if $v{$_} eq 'cut' && $case->{rarely} && ++$case->{cut};
        push @wrong, "$_: $v{$_}";
    }

    my @w = $t->workers();
    push @wrong, "workers @w, were @workers" if "@w" ne "@workers";
    @workers = @w;
    push @wrong, alerts($failed ? $case : undef);
    my @from = @trace;

    # when the disk is believed again, all is well

    $fault->later(11) if $failed;
    $fault->later(60) if $kind eq 'bad';
    $kind = 'ok' if $kind eq 'bad';

    %v = pulls($kind, $serial);
    push @wrong, map { $v{$_} eq 'ok' ? () : "then $_: $v{$_}" }
        sort keys %v;

    my $r = ask("/v2/m/$kind$serial/blobs/" . $t->digest(blob($serial)),
        { Range => 'bytes=1000-1999' });
    push @wrong, 'then not from the cache'
        if ($r->{h}{'cache-status'} // '') !~ /hit/;

    # (what failed after the last answer may be said only now)

    push @wrong, map { "then $_" } alerts($failed ? $case : undef);

    diag($n, ' ', @from) if @wrong && $ENV{FAULT_TRACE};

    return ($calls, $failed, @wrong);
}

sub label {
    my ($case) = @_;
    local $! = $case->{errno};
    my ($errno) = grep { $!{$_} } qw/ EIO ENOSPC ENOMEM EMFILE EAGAIN ENOLCK
        ECONNRESET ECONNREFUSED /;
    return $case->{name} . ' ' . ($errno // 'short')
        . ($case->{on} ? ' from there on' : '')
        . ($case->{net} ? ' of the registry' : '')
        . ($case->{text} // '');
}

# which calls to try, beside "make faults", which tries all

sub some {
    my ($case, $calls) = @_;
    my $few = $case->{few} || 8;
    return 1 .. $calls if $calls <= $few;
    my $first = int(($few + 1) / 2);
    my $step = ($calls - $first) / ($few - $first || 1);
    return 1 .. $first, map { int($first + $step * $_) } 1 .. $few - $first;
}

my ($wanted, $only) = split /:/, $ENV{FAULTS} // '';
my $all = $wanted && !$only;
my @only = ($only // '') =~ /^(\d+)-(\d+)$/ ? $1 .. $2 : $only || ();

for my $case (@cases) {
    next if $wanted && $wanted ne 'all' && $wanted ne $case->{name};

    # they come from the sanitizer's own functions there

    next if $OCI::ASAN && $case->{name} =~ /^(memory|bell)$/;

    my $started = time();
    my ($calls, undef, @wrong) = try($case, $NEVER);
    my @failures = map { "nothing failed: $_" } @wrong;
    my ($tried, $missed) = (0, 0);

    my @some = @only ? @only : some($case, $calls);

    for (my $i = 1; $all || @some; $i++) {
        my $n = $all ? $i : shift @some;
        my (undef, $failed, @wrong) = try($case, $n);

        # one pull has some more or less calls than another

        last if !$failed && ++$missed == 3;
        $tried++ if $failed;
        push @failures, map { "$n: $_" } @wrong;
        last if @failures > 20;
    }

    push @failures, "$case->{cut} were cut"
        if ($case->{cut} || 0) * 5 > $tried;

    is(join("\n", @failures), '',
        sprintf '%s: %d calls, %d failed, %.1f s', label($case), $calls,
        $tried, time() - $started);
    cmp_ok($tried, '>', 0, 'at least one of them') if $calls;
    ok($calls, label($case) . ' is called');
}

# nothing is left

ok(closed(), 'no file is left open') or diag(join "\n", opened());

my $conns;
until_true(15, sub {
    ($conns) = ask('/stub')->{body} =~ /Active connections: (\d+)/;
    return $conns == 1;
});
is($conns, 1, 'no connection is left');

my $status = $t->status();
is($status->{counters}{fills_active}, 0, 'no fill is left');
cmp_ok($status->{counters}{disk_errors}, '>', 0, 'the disk was at fault')
    if !$wanted || $wanted eq 'all';

# struct flock: type, whence, start, len, pid; F_OFD_GETLK is 36

sub files {
    my @f;
    find({ no_chdir => 1, wanted => sub { push @f, $_ if -f } },
        map { "$d/cache/$_" } qw/ blobs refs manifests /);
    return @f;
}

my @locked = grep {
    open my $f, '+<', $_ or die "$_: $!";
    my $lock = pack 's s x4 q q i x4', 1, 0, 0, 0, 0;
    fcntl $f, 36, $lock or die "fcntl: $!";
    (unpack 's', $lock)[0] != F_UNLCK;
} grep { /\.map$/ } files();
is(join("\n", @locked), '', 'no lock is left');

# what is not used for two months goes: all of it, if nobody holds it and the
# manager knows it

$fault->later(61 * 86400);
ok(until_true(20, sub {
    my ($manager) = grep { `cat /proc/$_/cmdline` =~ /cache manager/ }
        split /\s+/, `pgrep -P $t->{pids}{nginx}`;
    kill 'USR1', $manager if $manager;      # wakes it
    return !files();
}), 'the manager removes everything') or diag(join "\n", files());

$t->done();
