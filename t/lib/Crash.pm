package Crash;

# What a crash can leave of a recorded sequence of operations on files: reads
# what t/faults/record.c wrote, builds directories in memory, and writes them
# to the disk.
#
# A state is {dirs: path -> 1, names: path -> number of a file, data: number
# -> bytes}.  States are values: nothing that was returned is changed later.

use warnings;
use strict;

use Carp qw/ croak /;
use Digest::SHA qw/ sha1_hex /;
use File::Basename qw/ dirname /;
use File::Path qw/ make_path /;

my @OPS = qw/ none create write truncate allocate rename link unlink mkdir
    sync /;

my $files = 0;


sub empty { return { dirs => {}, names => {}, data => {} } }


# the operations of a log; inodes: inode -> number of a file that was there

sub read_log {
    my ($name, %inodes) = @_;

    open my $f, '<:raw', $name or croak "$name: $!";
    local $/;
    my $log = <$f>;
    my ($at, @ops) = (0);

    while ($at < length $log) {
        my ($op, $len, $other, undef, $ino, $offset, $size) =
            unpack 'L4 Q3', substr $log, $at, 40;
        $at += 40;
        my $o = { op => $OPS[$op], offset => $offset, size => $size };
        $o->{path} = substr $log, $at, $len;
        $o->{other} = substr $log, $at + $len, $other;
        $at += $len + $other;
        if ($o->{op} eq 'write') {
            $o->{data} = substr $log, $at, $size;
            $at += $size;
        }

        # an inode is used again when its file is gone

        $inodes{$ino} = ++$files if $o->{op} eq 'create';
        $o->{file} = $inodes{$ino} if $ino;
        croak "$o->{op} of an unknown file" if $ino && !$o->{file};
        push @ops, $o;
    }
    return @ops;
}


# The state after the operations; lost: index -> 1, or [from, to] of the bytes
# of a write that did get there.

sub apply {
    my ($base, $ops, $lost) = @_;

    my %dirs = %{$base->{dirs}};
    my %names = %{$base->{names}};
    my %data = %{$base->{data}};

    for my $i (0 .. $#$ops) {
        my $o = $ops->[$i];
        my $lost = $lost->{$i};
        my ($op, $path) = @$o{qw/ op path /};
        my $there = $path !~ m!/! || $dirs{dirname($path)};

        next if $lost && !ref $lost;

        if ($op eq 'mkdir') {
            $dirs{$path} = 1 if $there;

        } elsif ($op eq 'create') {
            $names{$path} = $o->{file} if $there;
            $data{$o->{file}} //= '';

        } elsif ($op eq 'write') {
            my ($from, $to) = ref $lost ? @$lost : (0, $o->{size});
            my $d = \$data{$o->{file}};
            $$d //= '';
            my $end = $o->{offset} + $to;
            $$d .= "\0" x ($end - length $$d) if length $$d < $end;
            substr($$d, $o->{offset} + $from, $to - $from) =
                substr $o->{data}, $from, $to - $from;

        } elsif ($op eq 'truncate') {
            my $d = \$data{$o->{file}};
            $$d //= '';
            $$d = length $$d < $o->{size}
                ? $$d . "\0" x ($o->{size} - length $$d)
                : substr $$d, 0, $o->{size};

        } elsif ($op eq 'rename') {
            my $n = delete $names{$path};
            $names{$o->{other}} = $n if defined $n;

        } elsif ($op eq 'link') {
            $names{$o->{other}} = $names{$path}
                if defined $names{$path} && $dirs{dirname($o->{other})};

        } elsif ($op eq 'unlink') {
            delete $names{$path};

        } elsif ($op ne 'sync') {
            croak "nothing is known of $op";
        }
    }

    return { dirs => \%dirs, names => \%names, data => \%data };
}


sub id {
    my ($state) = @_;
    return sha1_hex(join "\n", (sort keys %{$state->{dirs}}), map {
        "$_ " . sha1_hex($state->{data}{$state->{names}{$_}})
    } sort keys %{$state->{names}});
}


# what a power cut can take: all that was not synced

sub unsynced {
    my (@ops) = @_;
    my %open;
    for my $i (0 .. $#ops) {
        my $o = $ops[$i];
        if ($o->{op} eq 'sync') {
            delete @open{grep { ($ops[$_]{file} // 0) == $o->{file} }
                keys %open};
            next;
        }
        $open{$i} = 1;
    }
    return sort { $a <=> $b } keys %open;
}


# The states after each operation: [kind, text, state], each of them once.
# kind: "death", of the process; "cut", of the power.

sub states {
    my ($base, @ops) = @_;
    my (@states, %seen);

    my $add = sub {
        my ($kind, $text, $n, $lost) = @_;
        my $s = apply($base, [@ops[0 .. $n - 1]], $lost);
        return if $seen{$kind . id($s)}++;
        push @states, [$kind, "$text, $n of " . @ops, $s];
    };

    for my $n (0 .. @ops) {
        my @open = unsynced(@ops[0 .. $n - 1]);
        my @bytes = grep { $ops[$_]{op} =~ /write|truncate/ } @open;
        my @writes = grep { $ops[$_]{op} eq 'write' } @open;
        my $side = sub { ($ops[$_[0]]{path} // '') =~ /\.map/ };
        my $head = sub { $side->($_[0]) && $ops[$_[0]]{offset} < 4096 };

        $add->('death', 'all', $n, {});

        my $lose = sub {
            my ($text, @i) = @_;
            $add->('cut', $text, $n, { map { $_ => 1 } @i });
        };

        $lose->('all kept');
        $lose->('all lost', @open);
        $lose->('all bytes lost', @bytes);
        $lose->('all writes lost', @writes);
        $lose->('data lost', grep { !$side->($_) } @bytes);
        $lose->('data zero', grep { !$side->($_) } @writes);
        $lose->('sidecar lost', grep { $side->($_) } @bytes);
        $lose->('sidecar zero', grep { $side->($_) } @writes);

        # the header and the records are pages of their own

        my @heads = grep { $head->($_) } @writes;
        my @records = grep { $side->($_) && !$head->($_) } @writes;

        for my $k (1 .. @heads) {
            $lose->("headers from $k on lost", @heads[$k - 1 .. $#heads]);
        }
        for my $k (1 .. @records) {
            $lose->("records from $k on lost",
                @records[$k - 1 .. $#records]);
            $lose->("records and data from $k on lost",
                grep { $_ >= $records[$k - 1] && !$head->($_) } @writes);
        }

        $lose->("$ops[$_]{op} $_ lost", $_) for @open;

        # the last write is torn between sectors

        my $last = $n - 1;
        next if $n == 0 || $ops[$last]{op} ne 'write';

        my ($from, $size) = @{$ops[$last]}{qw/ offset size /};
        my $half = int(($from + $size / 2) / 512) * 512 - $from;

        if ($half > 0) {
            $add->('cut', 'first half', $n, { $last => [0, $half] });
            $add->('cut', 'second half', $n, { $last => [$half, $size] });
        }
    }

    return @states;
}


# writes a state below a directory, as if long ago; path -> number

sub write_state {
    my ($state, $dir, $ago) = @_;
    my $then = time() - $ago;
    my %at;

    make_path($dir, { mode => 0700 });
    mkdir "$dir/$_", 0700 for sort keys %{$state->{dirs}};

    for my $path (keys %{$state->{names}}) {
        my $file = $state->{names}{$path};

        # one file may have two names, for a moment

        if (defined $at{$file}) {
            link "$dir/$at{$file}", "$dir/$path" or croak "$dir/$path: $!";
            next;
        }
        $at{$file} = $path;

        open my $f, '>:raw', "$dir/$path" or croak "$dir/$path: $!";
        print $f $state->{data}{$file};
        close $f or croak "$dir/$path: $!";
        chmod 0600, "$dir/$path";
        utime $then, $then, "$dir/$path";
    }
}

1;
