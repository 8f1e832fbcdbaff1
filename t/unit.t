#!/usr/bin/perl

# The unit tests of the pure parsers, built by "make unit".

use warnings;
use strict;

use Test::More;
use Cwd qw/ abs_path /;
use File::Basename qw/ basename dirname /;

my $dir = abs_path(dirname(__FILE__) . '/../build/unit');
my @units = $dir ? grep { -x } glob "$dir/*" : ();

plan(skip_all => 'not built, see "make unit"') unless @units;

for my $unit (@units) {
    my @out = split /\n/, `$unit 2>&1`;
    my $status = $?;
    my @bad = grep { /^not ok/ } @out;
    my $ok = grep { /^ok/ } @out;
    my ($plan) = map { /^1\.\.(\d+)$/ ? $1 : () } @out;

    is(join("\n", @bad), '', basename($unit) . ': nothing failed');
    is($plan, $ok, basename($unit) . ': all of ' . ($plan // 'them') . ' ran');
    is($status, 0, basename($unit) . ': exit status');
}

done_testing();
