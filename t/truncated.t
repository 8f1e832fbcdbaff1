#!/usr/bin/perl

# Answers that end after each tenth of what they should be, with and without a
# length, as a part and as a whole, once or each time: a client has the right
# bytes or sees that they are cut, and a registry that is well again is enough.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use POSIX qw/ ceil /;
use Time::HiRes qw/ sleep /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $size = 600_001;

# range: 206 with a length; whole: 200 with one, whatever range is asked for;
# the rest without: cut in a chunk, after the last chunk, by closing

my @modes = qw/ range whole chunk chunks close /;
my (@names, %blob, %digest, %of, %manifest);

for my $mode (@modes) {
    for my $often (qw/ once always /) {
        for my $k ($often eq 'once' ? 0 .. 9 : (0, 1, 5, 9)) {
            my $name = "$mode-$often-$k";
            my $bytes = $t->random_blob($size);
            push @names, $name;
            $digest{$name} = $t->digest($bytes);
            $blob{$name} = $bytes;
            $of{$digest{$name}} = $name;
            $manifest{$name} = JSON::PP->new->canonical->pretty->encode({
                schemaVersion => 2, mediaType => $OCI::TYPE{manifest},
                layers => [{ digest => $digest{$name}, size => $size }] });
        }
    }
}

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($repo, $kind, $ref) =
        $q->{uri} =~ m!^/v2/(\S+)/(blobs|manifests)/(.+)$!
        or return $t->reply($c, $q, 404);
    my $name = $kind eq 'blobs' ? $of{$ref} : $repo =~ s/.*\///r;
    my ($mode, $often, $k) = split /-/, $name;
    my $bytes = $kind eq 'blobs' ? $blob{$name} : $manifest{$name};
    my $part = $mode eq 'range' && $kind eq 'blobs' && defined $q->{from};
    my $head = 'HTTP/1.' . ($mode eq 'close' ? 0 : 1)
        . ($part ? ' 206' : ' 200') . " X\r\n";

    if ($part) {
        my $to = defined $q->{to} && $q->{to} < $size ? $q->{to} : $size;
        $head .= "Content-Range: bytes $q->{from}-" . ($to - 1) . "/$size\r\n";
        $bytes = substr $bytes, $q->{from}, $to - $q->{from};
    }

    $head .= 'Content-Length: ' . length($bytes) . "\r\n"
        if $mode =~ /range|whole/;
    $head .= "Transfer-Encoding: chunked\r\n" if $mode =~ /chunk/;
    $head .= "Content-Type: $OCI::TYPE{manifest}\r\n"
        . 'Docker-Content-Digest: ' . $t->digest($manifest{$name}) . "\r\n"
        if $kind eq 'manifests';

    my $cut = $q->{method} eq 'GET' && !-e "$d/healed"
        && ($often eq 'always' || count("$repo$kind" =~ s/\W/-/gr) <= 2)
        && ($kind eq 'blobs' || $repo =~ /^cut/);
    my $n = $cut ? ceil(length($bytes) * $k / 10) : length $bytes;

    $cut = 0 if $n == length $bytes;
    $bytes = substr $bytes, 0, $n;

    print $c "$head\r\n";
    return $mode ne 'close' if $q->{method} eq 'HEAD';

    if ($mode =~ /chunk/) {
        printf $c "%x\r\n%s", $n + ($cut && $mode eq 'chunk' ? 9 : 0), $bytes
            if $n;
        print $c $n ? "\r\n0\r\n\r\n" : "0\r\n\r\n"
            unless $cut && $mode eq 'chunk';
        return !($cut && $mode eq 'chunk');
    }

    print $c $bytes;
    return $mode ne 'close' && !$cut;
}, quiet => 1);

# the how manieth request of that name

sub count {
    open my $f, '>>', "$d/count-$_[0]" or die;
    syswrite $f, 'x';
    return -s $f;
}

$t->conf(cache_args => 'slice=64k', http => <<EOC);
oci_registry demo { url http://127.0.0.1:$port; breaker off; }
EOC
$t->start();

sub right {
    my ($r, $bytes) = @_;
    return $r->{status} == 200 && !$r->{cut} && $r->{body} eq $bytes;
}

sub seen {
    my ($r, $bytes) = @_;
    return right($r, $bytes) ? 'right'
        : $r->{timeout} ? 'slow'
        : $r->{cut} || $r->{status} == 0 || $r->{status} >= 400 ? 'cut'
        : "wrong ($r->{status}, " . length($r->{body}) . ' bytes)';
}

# of each name in all of the same repository: "name what" where it is bad

sub all {
    my ($n, $code) = @_;
    my @out = $t->parallel($n, sub {
        my ($i) = @_;
        my @o;
        for (my $j = $i; $j < @names; $j += $n) {
            push @o, "$names[$j] " . $code->($names[$j]);
        }
        return join "\n", @o;
    });
    return map { split / /, $_, 2 } map { split /\n/ } @out;
}

sub bad {
    my ($what, $good, %is) = @_;
    is(scalar keys %is, scalar @names, "$what: all of them");
    is(join("\n", map { "$_: $is{$_}" }
        grep { $is{$_} !~ $good } sort keys %is), '',
        "$what: not one is wrong");
    return %is;
}

# manifests first

bad('manifests', qr/^(right|cut)$/, all(20, sub {
    my ($name) = @_;
    return seen($t->get("/v2/cut/$name/manifests/x", {}, 40),
        $manifest{$name});
}));
bad('manifests by digest', qr/^(right|cut)$/, all(20, sub {
    my ($name) = @_;
    return seen($t->get("/v2/cutd/$name/manifests/"
        . $t->digest($manifest{$name}), {}, 40), $manifest{$name});
}));

# blobs of which nothing is known, blobs with a manifest

my %is;

for my $repo (qw/ none m /) {
    if ($repo eq 'm') {
        bad('whole manifests', qr/^right$/, all(20, sub {
            my ($name) = @_;
            return seen($t->get("/v2/m/$name/manifests/x", {}, 40),
                $manifest{$name});
        }));
    }

    %is = bad("blobs, $repo", qr/^(right|cut)$/, all(25, sub {
        my ($name) = @_;
        return seen($t->get("/v2/$repo/$name/blobs/$digest{$name}", {}, 50),
            $blob{$name});
    }));
}

# parts go on where they ended; what begins anew does if it comes to the end

is(join(' ', grep { $is{$_} ne 'right' && !/-0$/ } grep { /^range/ }
    sort keys %is), '', 'parts: all but nothing is enough');
is(join(' ', grep { $is{$_} eq 'right' }
    grep { /^(chunk|close|whole).*always/ } sort keys %is), '',
    'wholes: what never ends is never complete');

# a registry that is well again

$t->write_file('healed', '');

bad('healed', qr/^right$/, all(20, sub {
    my ($name) = @_;
    my $is;
    for (1 .. 40) {
        $is = seen($t->get("/v2/m/$name/blobs/$digest{$name}", {}, 30),
            $blob{$name});
        return $is if $is =~ /right|wrong/;
        sleep 0.25;
    }
    return $is;
}));

bad('healed manifests', qr/^right$/, all(20, sub {
    my ($name) = @_;
    return seen($t->get("/v2/cut/$name/manifests/x", {}, 30),
        $manifest{$name});
}));

is(scalar(grep { /exited on signal/ } split /\n/, $t->read_file('error.log')),
    0, 'no worker died');
is($t->status()->{counters}{wakeup_fallbacks}, 0, 'no lost wake-ups');

$t->done();
