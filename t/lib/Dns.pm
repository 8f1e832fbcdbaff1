package OCI;

# More of OCI: a name server.

use warnings;
use strict;

use Carp qw/ croak /;
use IO::Socket::INET;
use POSIX qw//;
use Socket qw/ inet_aton /;


# A scripted DNS server on UDP.  Each query is answered by what dns_says()
# was told last: "<address> <ttl>" for every A query, or every AAAA one,
# "servfail", "nxdomain" or "silent".  Returns its port.

sub dns {
    my ($self) = @_;

    my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'udp')
        or croak $!;
    my $pid = fork() // croak $!;

    if ($pid) {
        $self->{pids}{dns} = $pid;
        return $s->sockport;
    }

    $SIG{TERM} = 'DEFAULT';

    while (defined $s->recv(my $query, 4096)) {
        my $says = $self->read_file('dns.says');
        my ($name) = substr($query, 12) =~ /^((?:[^\0][^\0]*)\0)/s or next;
        my $question = substr $query, 12, length($name) + 4;
        my ($type) = unpack 'n', substr $question, -4;
        my ($rcode, $answer) = (0, '');

        next if $says eq 'silent';
        $rcode = 2 if $says eq 'servfail';
        $rcode = 3 if $says eq 'nxdomain';

        if ($type == 1 && $says =~ /^([\d.]+) (\d+)$/) {
            $answer = pack 'nnnNn/a', 0xc00c, 1, 1, $2, inet_aton($1);
        }
        if ($type == 28 && $says =~ /^(\S*:\S*) (\d+)$/) {
            $answer = pack 'nnnNn/a', 0xc00c, 28, 1, $2,
                Socket::inet_pton(Socket::AF_INET6(), $1);
        }

        $s->send(substr($query, 0, 2) . pack('nnnnn', 0x8180 | $rcode, 1,
            $answer ne '' ? 1 : 0, 0, 0) . $question . $answer);
    }

    POSIX::_exit(0);
}


# takes effect at once, as a whole

sub dns_says {
    my ($self, $text) = @_;
    $self->write_file('dns.new', $text);
    rename "$self->{dir}/dns.new", "$self->{dir}/dns.says" or croak $!;
}

1;
