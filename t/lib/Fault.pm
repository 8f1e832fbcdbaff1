package Fault;

# Makes calls fail in nginx's workers, by t/faults/fault.c: what the file has
# that it looks at.

use warnings;
use strict;

use Test::More qw//;
use Carp qw/ croak /;
use Cwd qw/ abs_path /;
use Exporter qw/ import /;
use File::Basename qw/ dirname /;

use OCI;

our @EXPORT = qw/ $SHORT $DEATH $STOP $TORN $LATE /;

# in the place of an errno: a short count, or the process dies, or is stopped;
# for lines of a log also: it dies when half of it is written, or all

our ($SHORT, $DEATH, $STOP, $TORN, $LATE) = (0, 4095, 4094, 4093, 4092);

my $LIBRARY = abs_path(dirname(__FILE__) . '/../../build/faults/fault.so');

# fault_t and fault_function_e

my %FIELD;
@FIELD{qw/ armed function n on error port skew count fired cold from hang
    released name /} = 0 .. 13;

my %FUNCTION;
@FUNCTION{qw/ open mkdir write read probe truncate sync rename unlink stat
    lock recv connect bell memory pair /} = 1 .. 16;


# for the nginx of an OCI; files are those of its cache, or of another
# directory

sub new {
    my ($class, $t, %o) = @_;

    Test::More::plan(skip_all => 'not built, see "make preloads"')
        unless $LIBRARY && -e $LIBRARY;

    return bless { t => $t, skew => 0, dir => $o{dir} || "$t->{dir}/cache",
        file => $t->write_file('fault', "\0" x 4096) }, $class;
}


sub start {
    my ($self) = @_;

    local $ENV{FAULT_FILE} = $self->{file};
    local $ENV{FAULT_DIR} = $self->{dir};
    local $ENV{LD_PRELOAD} = join ' ', $OCI::ASAN
        ? (split ' ', `gcc -print-file-name=libasan.so`) : (), $LIBRARY;

    return $self->{t}->start();
}


sub set {
    my ($self, %values) = @_;

    open my $f, '+<:raw', $self->{file} or croak "$self->{file}: $!";

    for my $name (keys %values) {
        my $field = $FIELD{$name} // croak "no such field: $name";
        sysseek $f, 4 * $field, 0;
        syswrite $f, pack $name eq 'name' ? 'a160' : 'L', $values{$name};
    }

    close $f;
}


# The n-th call of the function fails with the error.  on: also those after
# it; port: only connections to that; cold: no file is in memory; from: reads
# before this place of a file don't count; name: nor does any other file, of
# which this is the end; hang: its thread waits there until release(), and then
# goes on as it would, if there is no error: a bit, so that several can wait.

sub arm {
    my ($self, $function, $n, $error, %o) = @_;

    $self->set(armed => 0);
    $self->set(on => 0, port => 0, cold => 0, from => 0, hang => 0,
        released => 0, name => '', %o, n => $n,
        function => $FUNCTION{$function} // croak("no function $function"),
        error => $error, count => 0, fired => 0);
    $self->set(armed => 1);
}


sub release { $_[0]->set(released => $_[1] // 1) }


# how many calls failed, or began to wait, so far

sub fired {
    my ($self) = @_;
    return (unpack 'L*', $self->{t}->read_file('fault'))[$FIELD{fired}];
}


# (calls that counted, calls that failed)

sub disarm {
    my ($self) = @_;

    $self->set(armed => 0);

    return (unpack 'L*', $self->{t}->read_file('fault'))
        [@FIELD{qw/ count fired /}];
}


# the clocks of all processes go on; who is asleep hears of it by a request

sub later {
    my ($self, $seconds) = @_;

    $self->{skew} += $seconds;
    $self->set(skew => $self->{skew});
}

1;
