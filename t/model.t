#!/usr/bin/perl

# Random operations on an edge, whose answers are compared with a model: a map
# of digests to bytes, and of tags to manifests.
#
# After each operation:
#
#   - a whole blob or a manifest that completes is right, whatever happens;
#   - a part is right, but where the registry sent wrong bytes, or somebody
#     changed the stored ones, and the blob was not verified since;
#   - while the registry answers, everything succeeds at once.  After wrong
#     bytes or damage, where a pull may be cut once, it succeeds in the end;
#     a tag leads to what it names now;
#   - while it doesn't, what comes is right, or an error.
#
# What is changed behind the edge's back is what README promises to notice: any
# file may go, or be cut short; bytes change in manifests, references and the
# headers of sidecars, in blobs only before they are verified.
#
# SEED= repeats a sequence (but not its timing), SOAK= is how many seconds it
# runs.  In a run of a minute and more ("make soak") the second half lets the
# workers live: from a fifth of it to its end they must not grow.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha256 /;
use File::Basename qw/ dirname /;
use File::Find;
use File::Path qw/ rmtree /;
use JSON::PP qw/ decode_json encode_json /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $seconds = $ENV{SOAK} || 15;
my $seed = $ENV{SEED} || int rand 1e9;

$| = 1;
print "# SEED=$seed SOAK=$seconds\n";

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $max_manifests = 6;

sub bytes {
    my ($name, $size) = @_;
    my ($out, $i) = ('', 0);
    $out .= sha256("$seed $name " . $i++) while length $out < $size;
    return substr $out, 0, $size;
}

# the model

my (%blob, %manifest, @digests, @manifests, %tag);

for my $size (1, 1000, 65535, 65536, 65537, 200_003, 524_288, 1_000_003,
    2_097_152, 3_145_745)
{
    my $b = bytes("blob $size", $size);
    push @digests, $t->digest($b);
    $blob{$digests[-1]} = $b;
}

for my $i (1 .. $max_manifests) {
    my $m = JSON::PP->new->canonical->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, annotations => { n => "$i" },
        layers => [map { { mediaType => 'application/octet-stream',
            digest => $_, size => length $blob{$_} } }
            @digests[$i - 1, -$i]] });
    push @manifests, $t->digest($m);
    $manifest{$manifests[-1]} = $m;
}

%tag = (latest => 0, stable => 1);

# The registry.  "tags" and "fault" tell it what there is to say; a fault is
# {kind, at, until}: a pull goes on for as long as it makes some progress, which
# with a few bytes an exchange would take forever

sub put {
    my ($name, $value) = @_;
    $t->write_file("$name.tmp", encode_json($value));
    rename "$d/$name.tmp", "$d/$name" or die "$name: $!";
}

sub answer {
    my ($c, $q) = @_;
    my $f = decode_json($t->read_file('fault') || '{}');
    my $kind = time() < ($f->{until} // 0) ? $f->{kind} : '';
    my ($what, $ref) = $q->{uri} =~ m!^/v2/m/[ab]/(blobs|manifests)/(.+)$!;

    return $t->reply($c, $q, 404) if !$what;
    return $t->reply($c, $q, 500) if $kind eq '500';
    return $t->reply($c, $q, 429, { 'Retry-After' => 1 }) if $kind eq '429';
    return $t->reset($c) if $kind eq 'reset' && !$f->{at};

    if ($what eq 'manifests') {
        my $tags = decode_json($t->read_file('tags'));
        my $digest = exists $tags->{$ref} ? $manifests[$tags->{$ref}] : $ref;
        my $body = $manifest{$digest} or return $t->reply($c, $q, 404);
        if ($kind eq 'stall') {
            sleep 2.5;
            return 0;
        }
        substr($body, $f->{at} % length $body, 1) ^= "\1"
            if $kind eq 'wrong';
        return $t->reply($c, $q, 200, {
            'Content-Type' => $OCI::TYPE{manifest},
            'Docker-Content-Digest' => $digest }, $body);
    }

    my $bytes = $blob{$ref} // return $t->reply($c, $q, 404);
    my $size = length $bytes;

    if (($q->{h}{range} // '') =~ /^bytes=-(\d+)$/) {
        $q->{from} = $size - $1;
    }

    return $t->reply($c, $q, 307, { Location =>
        "http://127.0.0.1:$f->{store}$q->{uri}" }) if $kind eq 'redirect';

    substr($bytes, $f->{at} % $size, 1) ^= "\1" if $kind eq 'wrong';

    return $t->reply_blob($c, $q, $bytes)
        if $kind !~ /reset|short|stall/ || $q->{method} eq 'HEAD';

    # a part of the answer, and then nothing

    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    $to = $size if $to > $size;
    my $n = $f->{at} % ($to - $from + 1);
    print $c 'HTTP/1.1 ' . (defined $q->{from} ? 206 : 200)
        . " X\r\nContent-Length: " . ($to - $from) . (defined $q->{from}
            ? "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size" : '')
        . "\r\n\r\n" . substr $bytes, $from, $n;
    sleep 2.5 if $kind eq 'stall';
    return $kind eq 'reset' ? $t->reset($c) : 0;
}

my $store = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($digest) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply_blob($c, $q, $blob{$digest});
}, quiet => 1);

my $port = $t->upstream(\&answer, quiet => 1);

put('tags', \%tag);
put('fault', {});

$t->conf(cache_args => 'slice=64k max_size=5m', http => <<EOC,
oci_registry demo {
    url http://127.0.0.1:$port;
    stall_timeout 1s;
    redirect_allow 127.0.0.1;
    breaker off;
}
EOC
    location => <<EOL);
location /v2/ {
    oci_pass demo;
    oci_cache models;
    oci_fill_abandoned stop after=500ms;
    oci_fill_ahead 1m;
}
EOL

$t->allow(qr/exited on signal 9/, qr/was left damaged by a process that died/,
    qr/reading a blob in|reading blob .* back failed/,
    qr/the sidecar of a blob in .* is unusable/,
    qr/manifest file .* was damaged and is removed/);
$t->start();


my ($ops, $bytes, $fault, %count, @bad, @trace) = (0, 0, '');
my %hurt;       # digest -> what is stored of it, or was sent, may be wrong

sub bad {
    push @bad, "operation $ops: $_[0]";
    print "# $bad[-1]\n";
    print "#     before: $_\n" for splice @trace, 0;
}

sub any { return $_[rand @_] }

sub path {
    my ($what, $ref) = @_;
    return '/v2/m/' . any('a', 'b') . "/$what/$ref";
}

my %errors = map { $_ => 1 } 0, 307, 404, 429, 500, 502, 503, 504;

# is a response what the model says?  cut: it may have been

sub compare {
    my ($name, $r, $status, $want, %o) = @_;

    $bytes += length $r->{body};

    return bad("$name: no end") if $r->{timeout};

    if ($r->{status} == $status) {
        my $right = $o{part} || $r->{body} eq $want;
        my $start = $r->{body} eq substr $want, 0, length $r->{body};

        return 1 if !$r->{cut} && $right && $start;
        return bad("$name: wrong bytes, " . length($r->{body}) . ' of '
            . length $want) if !$r->{cut} && !$o{word};
        return bad("$name: wrong bytes before it is cut")
            if $r->{cut} && !$start && !$o{word};
        return bad("$name: cut after " . length $r->{body})
            if $r->{cut} && !$o{cut};
        return 0;
    }

    # a redirect is followed, but for what is passed through

    return bad("$name: status $r->{status}, not $status")
        if !$o{cut} || !$errors{$r->{status}}
            || $fault eq 'redirect' && $r->{status} != 307;
    return 0;
}

sub hurt { return $fault eq 'wrong' || $hurt{$_[0]} }

# whole bodies: wrong bytes are no error if they are cut

sub pull {
    my ($digest, %o) = @_;
    my $r = $t->get(path('blobs', $digest), undef, 40);
    my $name = 'whole ' . length $blob{$digest};
    my $loose = $fault || hurt($digest) || $o{cut};

    if ($r->{status} == 200 && !$r->{cut} && $r->{body} ne $blob{$digest}) {
        return bad("$name: wrong, complete");
    }
    my $right = compare($name, $r, 200, $blob{$digest}, cut => $loose,
        word => hurt($digest));
    delete $hurt{$digest} if $right && !$fault
        && ($r->{h}{'cache-status'} // '') =~ /hit/;
    return $right;
}

sub range {
    my ($digest, %o) = @_;
    my $size = length $blob{$digest};
    my $from = int rand $size;
    my $to = $from + int rand($size - $from);
    my $how = int rand 4;
    my ($text, $want) = $how == 0 ? ("$from-", substr $blob{$digest}, $from)
        : $how == 1 ? ('-' . ($size - $from), substr $blob{$digest}, $from)
        : ("$from-$to", substr $blob{$digest}, $from, $to - $from + 1);
    my $r = $t->get(path('blobs', $digest), { Range => "bytes=$text" }, 40);
    return compare("range $text of $size", $r, 206, $want,
        cut => $fault || hurt($digest) || $o{cut}, word => hurt($digest));
}

sub aborted {
    my ($digest) = @_;
    my $size = length $blob{$digest};
    my $from = int rand $size;
    my $n = int rand($size - $from);
    my $s = $t->connect();
    $t->send_request($s, 'GET', path('blobs', $digest),
        { Range => "bytes=$from-" });
    my $r = $t->read_header($s, 40);
    eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm 40;
        while (length $r->{rest} < $n) {
            sysread $s, $r->{rest}, 65536, length $r->{rest} or last;
        }
        alarm 0;
    };
    alarm 0;
    $r->{body} = $r->{rest};
    close $s;
    return compare("aborted $from- of $size", $r, 206,
        substr($blob{$digest}, $from), cut => $fault || hurt($digest),
        word => hurt($digest), part => 1);
}

sub head {
    my ($digest) = @_;
    my $r = $t->http($t->{edge}, 'HEAD', path('blobs', $digest), {}, undef,
        40);
    return if !compare('HEAD', $r, 200, '', cut => $fault);
    bad('HEAD: length ' . ($r->{h}{'content-length'} // 'none'))
        if ($r->{h}{'content-length'} // -1) != length $blob{$digest};
}

my %named;      # what a tag has ever named

sub tagged {
    my ($tag, $method) = (any(sort keys %tag), any('GET', 'GET', 'HEAD'));
    my $uri = path('manifests', $tag);
    my $r = $t->http($t->{edge}, $method, $uri, {}, undef, 40);
    my $now = $manifests[$tag{$tag}];
    my $got = $r->{h}{'docker-content-digest'} // '';

    # a stale answer may be of another time

    $now = $got if $fault && $r->{status} == 200 && $named{$tag}{$got};
    compare("tag $tag, $method", $r, 200,
        $method eq 'GET' ? $manifest{$now} : '', cut => $fault);
    bad("tag $tag: names $got") if $r->{status} == 200 && $got ne $now;
}

sub by_digest {
    my $digest = any(@manifests);
    my $r = $t->get(path('manifests', $digest), undef, 40);
    compare('manifest', $r, 200, $manifest{$digest}, cut => $fault);
}

sub retag {
    my $tag = any(sort keys %tag);
    $named{$tag}{$manifests[$tag{$tag}]} = 1;
    $tag{$tag} = int rand @manifests;
    put('tags', \%tag);
    $named{$tag}{$manifests[$tag{$tag}]} = 1;
}

# readers at once; kill: a worker in the middle

sub many {
    my ($kill) = @_;
    my $digest = any(@digests);
    my $n = 2 + int rand 6;
    my @seeds = map { int rand 1e9 } 1 .. $n;
    my ($after, $which) = (rand 0.05, rand);
    my $killer;

    if ($kill) {
        $killer = fork() // die $!;
        if ($killer == 0) {
            sleep $after;
            my @w = sort { $a <=> $b } $t->workers();
            kill 'KILL', $w[$which * @w] if @w;
            POSIX::_exit(0);
        }
    }

    my @out = $t->parallel($n, sub {
        my ($i) = @_;
        srand $seeds[$i];
        @bad = @trace = ();
        $bytes = 0;
        local *STDOUT;
        open STDOUT, '>', '/dev/null';
        $i % 3 == 2 ? range($digest, cut => $kill)
                    : pull($digest, cut => $kill);
        return encode_json({ bad => \@bad, bytes => $bytes });
    });
    waitpid $killer, 0 if $killer;

    for (@out) {
        my $o = eval { decode_json($_) } // { bad => [$_], bytes => 0 };
        $bytes += $o->{bytes};
        bad("one of $n: $_") for @{$o->{bad}};
    }
}

# no fill is at work any more

sub settle {
    return until_true(sub {
        my $s = eval { $t->status() };
        return $s && $s->{counters}{fills_active} == 0;
    }) || bad('fills go on and on');
}

sub recover {
    my ($digest) = @_;
    my $end = time() + 30;
    while (1) {
        return 1 if pull($digest);
        last if time() > $end;
        sleep 0.25;
    }
    return bad('no pull succeeds: ' . length $blob{$digest});
}

sub faulty {
    my $kind = any(qw/ reset short 500 429 stall redirect wrong wrong /);
    my $digest = any(@digests);
    my @calls = map { int rand 5 } 1 .. 3;

    trace("fault $kind");
    put('fault', { kind => $kind, at => int rand 4e6, store => $store,
        until => time() + 3 });
    $fault = $kind;
    $count{"fault $kind"}++;
    $hurt{$digest} = 1 if $kind eq 'wrong';

    for (@calls) {
        $_ < 2 ? pull($digest) : $_ == 2 ? range($digest)
            : $_ == 3 ? tagged() : by_digest();
    }

    put('fault', {});
    settle();

    # what Retry-After asked for holds for its second

    sleep 1.2 if $fault eq '429';
    $fault = '';
    recover($digest) if $hurt{$digest};
}

# behind the edge's back

sub files {
    my ($like) = @_;
    my @files;
    find({ no_chdir => 1, wanted => sub {
        push @files, $_ if -f && /$like/;
    } }, "$d/cache");
    return sort @files;
}

sub digest_of {
    my ($file) = @_;
    return $file =~ m!/blobs/sha256/../([0-9a-f]{64})! ? "sha256:$1" : '';
}

sub flip {
    my ($file, $max) = @_;
    my $at = int rand($max || -s $file || 1);
    open my $f, '+<:raw', $file or return;
    sysseek $f, $at, 0;
    sysread $f, my $byte, 1 or return;
    sysseek $f, $at, 0;
    syswrite $f, $byte ^ chr(1 << int rand 8);
    trace("flipped $at of $file");
}

sub removed {
    my $file = any(files(qr/./)) // return;
    my $both = rand() < 0.3;
    trace("removed $file" . ($both ? ', both' : ''));
    settle();
    unlink $file;
    unlink $file =~ /^(.*)\.map$/ ? $1 : "$file.map" if $both;
}

sub damaged {
    settle();
    my $how = int rand 4;

    if ($how == 0) {
        my $file = any(files(qr!/(manifests|refs)/!)) // return;
        return flip($file);
    }

    my $file = any(files(qr!/blobs/.*/[0-9a-f]{64}$!)) // return;
    my $digest = digest_of($file);

    if ($how == 1) {
        my $to = int rand(-s $file || 1);
        trace("truncated $file to $to");
        truncate $file, $to;

    } elsif ($how == 2) {
        return if !-f "$file.map";
        flip("$file.map", 456);

    } else {
        open my $f, '<:raw', "$file.map" or return;
        my $n = sysread $f, my $head, 24;
        return if $n != 24 || unpack('x20 L', $head) & 1;
        flip($file);
    }

    $hurt{$digest} = 1;
    recover($digest);
}

sub killed {
    my $which = rand;
    my @w = sort { $a <=> $b } $t->workers();
    kill 'KILL', $w[$which * @w] if @w;
}

sub restarted {
    my $wipe = rand() < 0.3;
    trace('wiped') if $wipe;
    $t->stop() or bad('nginx did not stop');
    rmtree("$d/cache") if $wipe;
    $t->start();
}

# one that died in the middle of a change: nothing is cached until a restart

my $log_read = 0;

sub broken {
    open my $f, '<:raw', "$d/error.log" or return;
    seek $f, $log_read, 0;
    my $damaged = grep { /was left damaged/ } <$f>;
    $log_read = tell $f;
    return if !$damaged;
    $count{'zone left damaged'}++;
    restarted();
}

sub trace {
    push @trace, $_[0];
    shift @trace if @trace > 12;
}

my %op = (
    whole => [20, sub { pull(any(@digests)) }],
    range => [20, sub { range(any(@digests)) }],
    aborted => [8, sub { aborted(any(@digests)) }],
    head => [4, sub { head(any(@digests)) }],
    tag => [10, \&tagged],
    manifest => [6, \&by_digest],
    retag => [4, \&retag],
    many => [6, \&many],
    fault => [2, \&faulty],
    removed => [4, \&removed],
    damaged => [4, \&damaged],
    killed => [1, \&killed, 1],
    'many and kill' => [1, sub { many(1) }, 1],
    HUP => [0.5, sub { $t->signal('HUP') }, 1],
    restart => [0.5, \&restarted, 1],
);

# what ends a worker, or not

sub choose {
    my ($calm) = @_;
    my @names = grep { !$calm || !$op{$_}[2] } sort keys %op;
    my $sum = 0;
    $sum += $op{$_}[0] for @names;
    my $at = rand $sum;
    for (@names) {
        $at -= $op{$_}[0];
        return $_ if $at < 0;
    }
    return $names[-1];
}

# of all workers, in KiB, without what they share

sub memory {
    my $sum = 0;
    for my $pid ($t->workers()) {
        open my $f, '<', "/proc/$pid/status" or next;
        while (<$f>) {
            $sum += $1 if /^(?:RssAnon|RssFile):\s+(\d+)/;
        }
    }
    return $sum;
}

srand $seed;

my $started = time();
my $soak = $seconds >= 60;
my ($early, $calm) = (0, 0);

while (time() - $started < $seconds && @bad < 20) {
    my $passed = (time() - $started) / $seconds;

    if ($soak && !$calm && $passed > 0.5) {
        $calm = 1;
        restarted();
    }
    if ($calm && !$early && $passed > 0.6) {
        settle();
        $early = memory();
    }

    my $name = choose($calm);
    $ops++;
    $count{$name}++;
    trace("$ops $name");
    eval { $op{$name}[1]->(); 1 } or bad("$name: $@");
    broken();
}

settle();
my $late = memory();

print "# $ops operations, $bytes bytes, " . @bad . " differences\n";
print "# $_: $count{$_}\n" for sort keys %count;
print "# workers' memory: $early KiB, $late KiB at the end\n";

is(join("\n", @bad), '', "nothing differs from the model, SEED=$seed");
cmp_ok($ops, '>', 20, 'operations were done');

if ($soak && !$OCI::ASAN) {
    cmp_ok($late, '<=', $early * 1.05 + 4096, 'the workers do not grow');
}

$t->done();
