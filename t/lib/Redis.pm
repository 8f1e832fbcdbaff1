package Redis;

# A redis-server for the tests, what writes policy documents to it as
# "oci-policy" does, and one that answers what a test wants.

use warnings;
use strict;

use Carp qw/ croak /;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX qw//;
use Time::HiRes qw/ sleep time /;

use OCI;
use Policy;


# a server of the test's directory; port and path stay for start() again.
# {tls}: the name of a certificate of OCI's; {acl}: lines of users

sub new {
    my ($class, $t, %o) = @_;
    my $bin = OCI->skip_all_unless('redis-server');
    my $name = $o{name} || 'redis';
    my $self = bless {
        t => $t, bin => $bin, name => $name, prefix => $o{prefix} || 'oci',
        port => $o{port} || OCI::port(), path => "$t->{dir}/$name.sock",
        conf => $o{conf} || '', user => $o{user},
        password => $o{password},
    }, $class;

    Canary::secret($o{password});
    Canary::mine("$t->{dir}/$name.d");

    if ($o{tls}) {
        my ($cert, $key) = $t->certificate($o{tls});
        $self->{tls} = OCI::port();
        $self->{conf} .= "tls-port $self->{tls}\ntls-cert-file $cert\n"
            . "tls-key-file $key\ntls-ca-cert-file $t->{dir}/ca.pem\n"
            . 'tls-auth-clients ' . ($o{mutual} ? 'yes' : 'no') . "\n";
    }

    return $self->start();
}


sub start {
    my ($self) = @_;
    my $d = $self->{t}{dir};
    mkdir "$d/$self->{name}.d";
    $self->{t}->write_file("$self->{name}.conf", <<EOC);
bind 127.0.0.1
port $self->{port}
unixsocket $self->{path}
dir $d/$self->{name}.d
save ""
appendonly no
daemonize no
$self->{conf}
EOC
    $self->{t}->spawn($self->{name}, $self->{bin}, "$d/$self->{name}.conf");
    for (1 .. 200) {
        delete $self->{s};
        return $self if eval { $self->command('PING'); 1 };
        sleep 0.05;
    }
    croak 'redis-server does not answer: '
        . $self->{t}->read_file("$self->{name}.log");
}


sub kill {
    my ($self) = @_;
    my $pid = delete $self->{t}{pids}{$self->{name}} or return;
    CORE::kill 'KILL', $pid;
    waitpid $pid, 0;
    unlink $self->{path};
    delete $self->{s};
}


# sent and read by RESP

sub write_command {
    my ($s, @words) = @_;
    my $text = '*' . @words . "\r\n"
        . join '', map { '$' . length($_) . "\r\n$_\r\n" } @words;
    print $s $text;
}

sub read_reply {
    my ($s) = @_;
    my $line = <$s> // croak 'redis: closed';
    $line =~ s/\r\n$// or croak "redis: $line";
    my $type = substr $line, 0, 1, '';
    return $line if $type eq '+' || $type eq ':';
    die "redis: $line\n" if $type eq '-';
    return undef if $line == -1;
    if ($type eq '$') {
        my $data = '';
        while (length $data < $line + 2) {
            read $s, $data, $line + 2 - length $data, length $data
                or croak 'redis: closed';
        }
        return substr $data, 0, $line;
    }
    return [map { read_reply($s) } 1 .. $line];
}


sub command {
    my ($self, @words) = @_;
    if (!$self->{s}) {
        $self->{s} = IO::Socket::UNIX->new(Peer => $self->{path})
            or croak "redis: $!";
        $self->{s}->autoflush(1);
        binmode $self->{s};
        if (defined $self->{password}) {
            write_command($self->{s}, 'AUTH', $self->{user} // (),
                $self->{password});
            read_reply($self->{s});
        }
    }
    write_command($self->{s}, @words);
    return read_reply($self->{s});
}


# one change: fields with values (undef: none); nothing: as a whole

sub change {
    my ($self, %fields) = @_;
    my $p = "{$self->{prefix}}";
    my $s = $self->{s};
    $self->command('MULTI');
    $s = $self->{s};
    my $n = 0;
    for my $f (sort keys %fields) {
        my $v = $fields{$f};
        $v = JSON::PP->new->canonical->encode($v) if ref $v;
        write_command($s, defined $v ? ('HSET', "$p:doc", $f, $v)
            : ('HDEL', "$p:doc", $f));
        read_reply($s);
        $n++;
    }
    $self->command('INCR', "$p:epoch");
    $self->command('PUBLISH', "$p:changed",
        $n > 200 ? '*' : join "\n", sort keys %fields);
    my $r = $self->command('EXEC');
    return $r->[$n];
}


# a document as a file has it, in fields

sub fields {
    my ($doc) = @_;
    my %kind = (subjects => 'subject', grants => 'grants', roles => 'role',
        projects => 'project', quarantine => 'quarantine');
    my %f;
    for my $k (keys %kind) {
        $f{"$kind{$k}/$_"} = $doc->{$k}{$_} for keys %{$doc->{$k} || {}};
    }
    return %f;
}

sub import_doc {
    my ($self, $doc) = @_;
    return $self->change(fields($doc));
}


# a server that answers with what code makes of a command: a text, or undef
# to close.  {port}: where it listens.  Returns its port

sub scripted {
    my ($t, $code, %o) = @_;
    my $port = $o{port} || OCI::port();
    my $name = 'upstream' . scalar grep { /^upstream/ } keys %{$t->{pids}};
    my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $port, Listen => 64, ReuseAddr => 1) or croak $!;
    my $pid = fork() // croak $!;
    if ($pid) {
        close $l;
        $t->{pids}{$name} = $pid;
        return wantarray ? ($port, $name) : $port;
    }

    setpgrp;
    $SIG{CHLD} = 'IGNORE';
    $SIG{TERM} = 'DEFAULT';
    while (my $c = $l->accept()) {
        my $child = fork();
        if (!defined $child || $child) {
            close $c;
            next;
        }
        close $l;
        $c->autoflush(1);
        binmode $c;
        eval {
            while (1) {
                my $q = read_reply($c);
                my $text = $code->(@$q);
                last if !defined $text;
                print $c $text;
            }
        };
        close $c;
        POSIX::_exit(0);
    }
    POSIX::_exit(0);
}

1;
