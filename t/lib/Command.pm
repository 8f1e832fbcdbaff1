package Command;

# The command oci-policy, and redis-server for it.

use warnings;
use strict;

use Carp qw/ croak /;
use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use Time::HiRes qw/ sleep /;

use OCI;

our $BINARY = $ENV{TEST_OCI_POLICY} || abs_path(dirname(__FILE__) . '/../..')
    . ($OCI::ASAN ? '/build/bin-asan/oci-policy' : '/build/bin/oci-policy');

my $n = 0;


# runs it; {rc, out, err}.  {in}: standard input, {env}: more environment

sub policy {
    my ($t, @args) = @_;
    my %o = ref $args[-1] ? %{pop @args} : ();
    my $name = "command$$-" . $n++;
    $t->write_file("$name.in", $o{in} // '');

    my $pid = fork() // croak "fork: $!";

    if ($pid == 0) {
        open STDIN, '<', "$t->{dir}/$name.in";
        open STDOUT, '>', "$t->{dir}/$name.out";
        open STDERR, '>', "$t->{dir}/$name.err";
        delete $ENV{$_} for grep { /^OCI_POLICY_|_proxy$/i } keys %ENV;
        $ENV{$_} = $o{env}{$_} for keys %{$o{env} || {}};
        $SIG{PIPE} = 'DEFAULT';
        exec $BINARY, @args or POSIX::_exit(127);
    }

    waitpid $pid, 0;
    my $rc = $? & 127 ? "signal $?" : $? >> 8;
    my %r = (rc => $rc, out => $t->read_file("$name.out"),
        err => $t->read_file("$name.err"));
    $rc = $r{rc} = 'sanitizer' if $r{err} =~ /Sanitizer|runtime error/;
    print STDERR $r{err} if $rc eq 'sanitizer';
    Canary::answered($t->{dir}, (grep { /^(--secrets|hash)$/ } @args)
        ? $r{err} : "$r{out}$r{err}");
    unlink map { "$t->{dir}/$name.$_" } qw/ in out err /;
    return \%r;
}


# starts a redis-server on a port and on a unix socket; its directory.
# {conf}: more lines

sub redis {
    my ($t, %o) = @_;
    my $bin = OCI->skip_all_unless('redis-server');
    my $name = $o{name} // 'redis';
    my $port = OCI::port();
    my $dir = "$t->{dir}/$name";
    mkdir $dir;
    Canary::mine($dir);
    $o{conf} //= '';
    $t->write_file("$name.conf", <<EOC);
port $port
bind 127.0.0.1
unixsocket $dir/socket
dir $dir
save ""
daemonize no
$o{conf}
EOC
    $t->spawn($name, $bin, "$t->{dir}/$name.conf");
    $t->wait_port($port);
    until_true(sub { -S "$dir/socket" }) or croak 'no socket';
    return ($port, "$dir/socket");
}


# redis-cli by a unix socket; what it prints

sub cli {
    my ($socket, @args) = @_;
    open my $f, '-|', 'redis-cli', '--raw', '-s', $socket, @args or croak $!;
    local $/;
    my $out = <$f> // '';
    $out =~ s{\n\z}{};
    return $out;
}

1;
