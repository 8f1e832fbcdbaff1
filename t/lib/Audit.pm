package Audit;

# Audit logs for the tests.

use warnings;
use strict;

use Carp qw/ croak /;
use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use JSON::PP qw/ decode_json /;
use Test::More qw//;

our $VERIFY = abs_path(dirname(__FILE__) . '/../../build/bin')
    . '/oci-audit-verify';


# audit.key and audit.pub

sub key {
    my ($t, $name) = @_;
    $name //= 'audit';
    my $d = $t->{dir};
    system("umask 077; openssl genpkey -algorithm ed25519 -out $d/$name.key"
        . " && openssl pkey -in $d/$name.key -pubout -out $d/$name.pub") == 0
        or croak 'openssl';
    return "$d/$name.key";
}


sub raw {
    my ($file) = @_;
    open my $f, '<:raw', $file or return '';
    local $/;
    return <$f> // '';
}


# the records, in order; a piece of a line may stand before one of them

sub records {
    my ($file) = @_;
    return map { s/^.+(?=\{"ts":")//s; eval { decode_json($_) } // () }
        split /\n/, raw($file);
}


# those with the given members

sub grep_records {
    my ($file, %want) = @_;
    return grep {
        my $r = $_;
        !grep { ($r->{$_} // '') ne $want{$_} } keys %want;
    } records($file);
}


# (exit status, what was printed)

sub verify {
    my (@args) = @_;
    open my $f, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh', $VERIFY, @args
        or croak $!;
    local $/;
    my $out = <$f> // '';
    close $f;
    return ($? >> 8, $out);
}


# not built: nothing can be tested

sub need {
    Test::More::plan(skip_all => 'not built, see "make commands"')
        unless -x $VERIFY;
}

1;
