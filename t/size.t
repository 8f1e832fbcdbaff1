#!/usr/bin/perl

# A registry says a wrong size for a digest: the pair of files that was made
# with it does not keep the blob out of the cache for ever; sizes beyond reason
# do no harm and leave nothing.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new();
my $d = $t->{dir};
my $size = 3 * 1024 * 1024 + 11;

my @names = qw/ two once broken fewer reload restart used keeps probe huge
                eib efbig own owneib /;
my (%blob, %digest, %by);

for (@names) {
    $blob{$_} = $t->random_blob($size);
    $digest{$_} = $t->digest($blob{$_});
    $by{$digest{$_}} = $blob{$_};
}

# answers a probe with another size while the file "lie" says one; what is
# asked for after that is answered as it is, "hang" and "gone": or not at all

my $liar = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($hex) = $q->{uri} =~ m!/blobs/(.+)$!;
    my $lie = $t->read_file('lie');

    return $t->reply($c, $q, 200) if $q->{uri} eq '/v2/';
    return $t->reply($c, $q, 404) if !$by{$hex};

    if ($lie && ($q->{h}{range} // '') eq 'bytes=0-0') {
        return $t->reply($c, $q, 206,
            { 'Content-Range' => "bytes 0-0/$lie" },
            substr($by{$hex}, 0, 1));
    }

    if ($lie && defined $q->{from}) {
        sleep 3 if -e "$d/hang";
        return $t->reply($c, $q, 404, {}) if -e "$d/gone";
    }

    return $t->reply_blob($c, $q, $by{$hex});
});

my $good = $t->upstream(sub {
    my ($c, $q) = @_;
    my ($hex) = $q->{uri} =~ m!/blobs/(.+)$!;
    return $t->reply($c, $q, 404) if !$by{$hex};
    return $t->reply_blob($c, $q, $by{$hex});
});

sub conf {
    my ($slice) = @_;
    $t->conf(cache_args => "slice=$slice", http => <<EOC, location => <<EOL);
oci_registry liar { url http://127.0.0.1:$liar; }
oci_registry own { url http://127.0.0.1:$liar; credentials anonymous; }
oci_registry good { url http://127.0.0.1:$good; }
map \$uri \$registry { ~^/v2/(?<r>liar|good|own)/ \$r; default good; }
EOC
location /v2/ { oci_pass \$registry; oci_cache models; oci_access open;
               oci_fill_abandoned stop after=1s; }
EOL
}

conf('256k');
$t->start();

sub pull {
    my ($registry, $name) = @_;
    return $t->get("/v2/$registry/m/blobs/$digest{$name}");
}

sub lie { $t->write_file('lie', $_[0]) }
sub truth { unlink map { "$d/$_" } qw/ lie hang gone / }

sub files {
    my $hex = substr $digest{$_[0]}, 7;
    return glob "$d/cache/blobs/sha256/" . substr($hex, 0, 2) . "/$hex*";
}

# cached by the next pull, and then served without the registry

sub cached {
    my ($registry, $name, $what) = @_;
    my $i = $registry eq 'good' ? 1 : 0;

    my $r = pull($registry, $name);
    ok($r->{status} == 200 && !$r->{cut} && $r->{body} eq $blob{$name},
        "$what: right");
    like($r->{h}{'cache-status'} // 'none', qr/fwd/, "$what: through the cache");

    $t->forget_requests($i);

    $r = pull($registry, $name);
    ok($r->{body} eq $blob{$name}, "$what: right again");
    like($r->{h}{'cache-status'} // 'none', qr/hit/, "$what: a hit");

    my @asked = grep { ($_->{h}{range} // '') ne 'bytes=0-0' }
        $t->requests($i);
    is(scalar @asked, 0, "$what: no more was fetched");
}

# another registry's word

lie($size + 1000);
$t->write_file('gone', '');
pull('liar', 'two');
truth();
cached('good', 'two', 'the other registry');

# the same registry, which lied once

lie($size + 1000);
pull('liar', 'once');
truth();
cached('liar', 'once', 'the same registry');

lie($size + 1000);
$t->write_file('gone', '');
pull('liar', 'broken');
truth();
$t->get("/v2/liar/m/blobs/$digest{broken}");    # forgets the size that it said
cached('liar', 'broken', 'after a fill that failed');

lie($size - 1000);
pull('liar', 'fewer');
truth();
cached('liar', 'fewer', 'a size that was too small');

# where only the edge's own credentials count nothing expires by itself

for (['own', $size + 1000], ['owneib', '4611686018427387904']) {
    my ($name, $claim) = @$_;
    lie($claim);
    pull('own', $name);
    truth();
    cached('own', $name, "own credentials, $claim");
}

# the index is made anew, or read from the disk

for (qw/ reload restart /) {
    lie($size + 300 * 1024);
    pull('liar', $_);
    truth();

    if ($_ eq 'reload') {
        my @old = $t->workers();
        $t->signal('HUP');
        for my $i (1 .. 100) {
            my @now = $t->workers();
            last if @now && !grep { my $w = $_; grep { $w == $_ } @old } @now;
            sleep 0.1;
        }
    } else {
        is($t->status()->{zones}{models}{bytes}, 7 * $size,
            'what is stored is counted');
        $t->stop();
        $t->start();
        sleep 0.5;
    }

    cached('good', $_, "after a $_");
}

# while somebody waits for it, it stays; the other registry's is passed through

lie($size + 1000);
$t->write_file('hang', '');
my $s = $t->connect();
$t->send_request($s, 'GET', "/v2/liar/m/blobs/$digest{used}");
sleep 1;
my @before = map { (stat $_)[1] } files('used');
my $r = pull('good', 'used');
ok($r->{body} eq $blob{used}, 'while it is used: right');
ok(!exists $r->{h}{'cache-status'}, 'while it is used: passed through');
is_deeply([map { (stat $_)[1] } files('used')], \@before,
    'while it is used: its files stay');
close $s;
truth();
sleep 8;
cached('good', 'used', 'when it is not any more');

# verified bytes have the right size

cached('good', 'keeps', 'verified');
@before = map { (stat $_)[1] } files('keeps');
lie($size + 1000);
$r = pull('liar', 'keeps');
truth();
ok($r->{body} eq $blob{keeps}, 'verified: another size is passed through');
is_deeply([map { (stat $_)[1] } files('keeps')], \@before,
    'verified: the files stay');
$r = pull('good', 'keeps');
like($r->{h}{'cache-status'} // 'none', qr/hit/, 'verified: still a hit');

# the registry that said it is asked again, not believed for ever

$t->forget_requests(0);
$r = pull('liar', 'keeps');
ok($r->{body} eq $blob{keeps}, 'verified: right from the first one');
like($r->{h}{'cache-status'} // 'none', qr/hit/, 'verified: a hit for it too');

# sizes that no disk and no zone has room for

sub refused {
    my ($name, $claim) = @_;
    lie($claim);
    my $at = length $t->read_file('error.log');
    $r = pull('liar', $name);
    ok($r->{body} eq $blob{$name}, "$name: passed through");
    ok(!exists $r->{h}{'cache-status'}, "$name: not from the cache");
    my $log = substr $t->read_file('error.log'), $at;
    is(scalar(grep { /\[(warn|error|crit)\]/ } split /\n/, $log), 1,
        "$name: one line") or diag($log);
    is_deeply([files($name)], [], "$name: no files");
    truth();
    sleep 0.1;
    cached('good', $name, $name);
}

for ([huge => 40 * 2 ** 40], [eib => '4611686018427387904']) {
    refused(@$_);
}

# and one that the file system has no room for in one file

my $claim = 40 * 2 ** 40;

SKIP: {
    open my $f, '>', "$d/try";
    skip 'files may be of any size here', 10 if truncate $f, $claim;

    $t->stop();
    conf('32m');
    $t->start();
    refused('efbig', $claim);
    like($t->read_file('error.log'), qr/File too large/, 'efbig: said');
}

$t->done();
