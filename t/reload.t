#!/usr/bin/perl

# Reloads and binary upgrades are not seen by clients.
#
# Many clients, each with a new connection for each request, read blobs of
# 4 KiB to 64 MiB, cold and hot, whole and in parts, tags and manifests, while
# the configuration is loaded again every 200 ms and the binary is replaced
# now and then (USR2, the old master ended by QUIT).  No request fails, no byte
# is wrong, nothing is an alert.
#
# RELOAD=full: a minute, 5 upgrades, 32 clients ("make reload"), else 5
# seconds, one upgrade, 8 clients.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $full = ($ENV{RELOAD} // '') eq 'full';
my $seed = $ENV{RELOAD_SEED} || time() ^ $$;
my ($seconds, $upgrades, $clients) = $full ? (60, 5, 32) : (5, 1, 8);

srand($seed);
diag("RELOAD_SEED=$seed") if $ENV{TEST_VERBOSE};

my $t = OCI->new(workers => 2, daemon => 1, zone => '16m');

# blobs: size in KiB and how many; they differ in their first bytes

my @sorts = $full
    ? ([4, 2000], [60, 1000], [1024, 200], [9000, 30], [65536, 6])
    : ([4, 200], [60, 100], [1024, 30], [9000, 4], [65536, 1]);

my $base = $t->random_blob(65536 * 1024);
my (@blobs, %by);

for (@sorts) {
    my ($kib, $n) = @$_;
    my @of;
    for my $i (1 .. $n) {
        my $b = { head => pack('NN', $kib, $i), size => $kib * 1024 + $i };
        $b->{size} = length $base if $b->{size} > length $base;
        $b->{digest} = $t->digest($b->{head}
            . substr $base, 8, $b->{size} - 8);
        $by{$b->{digest}} = $b;
        push @of, $b;
    }
    push @blobs, \@of;
}

# bytes of a blob

sub piece {
    my ($b, $from, $n) = @_;
    return substr $base, $from, $n if $from >= 8;
    return substr $b->{head} . substr($base, 8, $n), $from, $n;
}

my %manifest = map {
    my $m = JSON::PP->new->canonical->encode({ schemaVersion => 2,
        mediaType => $OCI::TYPE{manifest}, annotations => { n => $_ },
        layers => [] });
    ("v$_" => $m, $t->digest($m) => $m)
} 1 .. 8;

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($kind, $ref) = $q->{uri} =~ m!^/v2/m/a/(blobs|manifests)/(.+)$!
        or return $t->reply($c, $q, 404);

    return $t->reply($c, $q, 200, { 'Content-Type' => $OCI::TYPE{manifest},
        'Docker-Content-Digest' => $t->digest($manifest{$ref}) },
        $manifest{$ref}) if $kind eq 'manifests';

    my $b = $by{$ref};
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $b->{size});
    $to = $b->{size} if $to > $b->{size};

    return $t->reply($c, $q, defined $q->{from} ? 206 : 200, {
        'Content-Length' => $to - $from, defined $q->{from}
        ? ('Content-Range' => "bytes $from-" . ($to - 1) . "/$b->{size}")
        : () }, '') if $q->{method} eq 'HEAD';

    print $c defined $q->{from}
        ? "HTTP/1.1 206 X\r\nContent-Range: bytes $from-" . ($to - 1)
            . "/$b->{size}\r\n" : "HTTP/1.1 200 X\r\n",
        'Content-Length: ' . ($to - $from) . "\r\n\r\n";
    while ($from < $to) {
        my $n = $to - $from < 262144 ? $to - $from : 262144;
        print $c piece($b, $from, $n) or return 0;
        $from += $n;
    }
    return 1;
}, quiet => 1);

$t->conf(http => "oci_registry demo { url http://127.0.0.1:$port; }",
    shutdown_timeout => '60s', cache_args => 'slice=4m');
$t->start();

# one request: '' or what was wrong; and how many bytes came

sub request {
    my ($uri, $h, $status, $expect) = @_;
    my $s = eval { $t->connect() } or return ("$uri: no connection: $@", 0);
    $t->send_request($s, 'GET', $uri, { Connection => 'close', %$h });
    my $r = $t->read_header($s, 60);
    return ("$uri: status $r->{status}"
        . ($r->{timeout} ? ', timeout' : ''), 0) if $r->{status} != $status;

    my ($pos, $buf) = (0, $r->{rest});
    eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm 60;
        do {
            die "wrong bytes at $pos, "
                if $buf ne $expect->($pos, length $buf);
            $pos += length $buf;
        } while (sysread $s, $buf, 1 << 19);
        alarm 0;
    };
    alarm 0;
    my $len = $r->{h}{'content-length'};
    my $wrong = $@;
    $wrong .= "$pos of $len" if $pos != $len;
    $wrong =~ s/\n/, /g;
    return ($wrong && "$uri, " . join(' ', %$h) . ": $wrong", $pos);
}

sub client {
    my ($end) = @_;
    my ($n, $bytes, @wrong) = (0, 0);

    while (time() < $end) {
        my ($uri, %h, $status, $expect);

        if (rand() < 0.1) {
            my $ref = (keys %manifest)[rand keys %manifest];
            ($uri, $status) = ("/v2/m/a/manifests/$ref", 200);
            %h = (Accept => $OCI::TYPE{manifest});
            $expect = sub { substr $manifest{$ref}, $_[0], $_[1] };

        } else {
            my $k = rand() ** 2.5 * @blobs;
            my $b = $blobs[$k][rand @{$blobs[$k]}];
            my $from = 0;
            ($uri, $status) = ("/v2/m/a/blobs/$b->{digest}", 200);
            if (rand() < 0.4) {
                $from = int rand $b->{size};
                my $to = $from + int rand(rand() < 0.5 ? 5000 : 3_000_000);
                $to = $b->{size} - 1 if $to >= $b->{size};
                $h{Range} = rand() < 0.2 && $b->{size} - $from < 10_000_000
                    ? "bytes=$from-" : "bytes=$from-$to";
                $status = 206;
            }
            $expect = sub { piece($b, $from + $_[0], $_[1]) };
        }

        my ($wrong, $got) = request($uri, \%h, $status, $expect);
        $n++;
        $bytes += $got;
        push @wrong, $wrong if $wrong;
    }

    return "$n $bytes\n" . join("\n", @wrong);
}

# reloads and upgrades; (how often, masters that were replaced)

sub storm {
    my ($end) = @_;
    my ($n, @old) = (0);
    my $began = time();

    while (time() < $end) {
        sleep 0.2;
        $t->signal('HUP');
        $n++;

        if (@old < $upgrades
            && time() - $began > $seconds * (@old + 0.5) / $upgrades)
        {
            push @old, $t->upgrade();
            kill 'QUIT', $old[-1];
        }
    }

    return ($n, @old);
}

my $end = time() + $seconds;
pipe my $rd, my $wr or die $!;
my $pid = fork() // die $!;

if ($pid == 0) {
    close $rd;
    print $wr join "\n", $t->parallel($clients, sub { client($end) });
    close $wr;
    POSIX::_exit(0);
}

close $wr;

my ($reloads, @old) = storm($end);
my $out = do { local $/; <$rd> };
waitpid $pid, 0;

my ($requests, $bytes, @wrong) = (0, 0);

for (split /\n/, $out) {
    if (/^(\d+) (\d+)$/) {
        $requests += $1;
        $bytes += $2;
    } elsif (length) {
        push @wrong, $_;
    }
}

is(scalar @wrong, 0, 'no request failed, no byte was wrong')
    or diag(join "\n", @wrong[0 .. ($#wrong < 19 ? $#wrong : 19)]);
cmp_ok($requests, '>', 2 * $clients, 'there were many');
is(scalar @old, $upgrades, 'upgrades');
ok(until_true(70, sub { !grep { !$t->ended($_) } @old }),
    'the masters of before ended');

diag("$requests requests, $bytes bytes, $reloads reloads, " . @old
    . ' upgrades') if $full || $ENV{TEST_VERBOSE};

$t->done();
