package OCI;

# nginx-oci's tests: nginx, a registry, a scripted upstream, an HTTP client; in
# Dns, a resolver.
#
# Everything listens on loopback, lives in a temporary directory and is ended
# by pid.  done() of this module fails the test on any alert in the error log,
# on any report of a sanitizer, on processes that stay, and on secrets where
# they don't belong (Canary).

use warnings;
use strict;

use Test::More qw//;
use Carp qw/ croak /;
use Cwd qw/ abs_path /;
use Digest::SHA qw/ sha256_hex sha512_hex /;
use Fcntl qw/ :flock /;
use File::Basename qw/ dirname /;
use File::Path qw/ rmtree /;
use File::Temp qw/ tempdir /;
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP qw/ decode_json encode_json /;
use POSIX qw/ :sys_wait_h /;
use Socket qw/ SOL_SOCKET SO_LINGER IPPROTO_TCP TCP_NODELAY /;
use Time::HiRes qw/ sleep time /;

use Canary;
use Dns;

our $BINARY = $ENV{TEST_NGINX_BINARY} || '/usr/sbin/nginx';
our $MODULES = $ENV{TEST_NGINX_MODULES}
    || abs_path(dirname(__FILE__) . '/../../build/modules');
our $ASAN = $ENV{TEST_NGINX_ASAN};
our $FULL = ($ENV{ATTACK} // '') eq 'full';

our %TYPE = (
    manifest => 'application/vnd.oci.image.manifest.v1+json',
    index => 'application/vnd.oci.image.index.v1+json',
    docker => 'application/vnd.docker.distribution.manifest.v2+json',
);

my %ports;

$SIG{PIPE} = 'IGNORE';


# tests have until_true() as their own

sub import {
    my $caller = caller;
    no strict 'refs';
    *{"${caller}::until_true"} = \&until_true;
}


# waits until code returns something true, and returns that; 0: it never did

sub until_true {
    my $code = pop;
    my ($seconds) = @_;
    my $end = time() + ($seconds // 30);

    while (1) {
        my $value = $code->();
        return $value if $value;
        return 0 if time() >= $end;
        sleep 0.05;
    }
}


# {passes}: secrets of a policy's subjects may go to a registry; {told}: lines
# with secrets that are nginx's own

sub new {
    my ($class, %o) = @_;

    my $self = bless {
        workers => 1, allow => [], told => [], pids => {}, zone => '8m', %o,
        dir => tempdir('nginx-oci-XXXXXX', TMPDIR => 1), owner => $$,
    }, $class;

    chmod 0755, $self->{dir};
    mkdir "$self->{dir}/logs";

    return $self;
}


# how large a test of an attack is: by itself, and with ATTACK=full

sub times { return $FULL ? $_[2] : $_[1] }


sub skip_all_unless {
    my ($class, $command) = @_;

    for my $d (split /:/, "$ENV{PATH}:/usr/sbin") {
        return "$d/$command" if -x "$d/$command";
    }

    Test::More::plan(skip_all => "$command is not installed");
}


# may a test start this client?

sub installed {
    my ($name) = @_;
    return scalar grep { -x "$_/$name" } split /:/, $ENV{PATH};
}


# what a client stored below a directory: digest => bytes

sub files_of {
    my ($dir) = @_;
    my %have;
    for my $f (grep { -f } glob "$dir/* $dir/*/* $dir/*/*/*") {
        open my $h, '<:raw', $f or next;
        local $/;
        $have{'sha256:' . sha256_hex(<$h> // '')} = -s $f;
    }
    return \%have;
}


sub port {
    for (1 .. 200) {
        my $p = 20000 + int(rand(8000));
        next if $ports{$p};

        # other tests may run beside this one: a name that goes with the last
        # of our processes tells them

        my $taken = IO::Socket::UNIX->new(Listen => 1,
            Local => "\0nginx-oci-test-port-$p") or next;
        my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
            LocalPort => $p, Listen => 1, ReuseAddr => 1) or next;
        close $s;
        $ports{$p} = $taken;
        return $p;
    }
    croak 'no free port';
}


sub write_file {
    my ($self, $name, $content, $mode) = @_;
    open my $f, '>:raw', "$self->{dir}/$name" or croak "$name: $!";
    print $f $content;
    close $f;
    chmod $mode, "$self->{dir}/$name" if defined $mode;
    Canary::wrote("$self->{dir}/$name", $content, $mode);
    return "$self->{dir}/$name";
}


sub read_file {
    my ($self, $name) = @_;
    open my $f, '<:raw', "$self->{dir}/$name" or return '';
    local $/;
    return <$f> // '';
}


# the configuration: main, http, server and location texts are added to the
# usual ones; an http text is required to have the registries.  {daemon}: of a
# master that is nobody's child

sub conf {
    my ($self, %c) = @_;

    $self->{edge} ||= port();
    my $d = $self->{dir};

    $c{cache} //= "oci_cache_path $d/cache keys_zone=models:$self->{zone}"
        . ' ' . ($c{cache_args} // '') . ';';
    $c{location} //= 'location /v2/ { oci_pass demo; oci_cache models; }';
    $c{listen} //= "listen 127.0.0.1:$self->{edge};";
    $c{shutdown_timeout} //= '10s';
    $c{$_} //= '' for qw/main events http server/;

    my $user = $> == 0 ? 'user root;' : '';
    my $modules = $self->modules();
    my $daemon = $self->{daemon} ? 'on' : 'off';

    $self->write_file('nginx.conf', <<EOC);
$modules
$user
daemon $daemon;
worker_processes $self->{workers};
pid $d/nginx.pid;
error_log $d/error.log info;
worker_shutdown_timeout $c{shutdown_timeout};
$c{main}
events { worker_connections 1024; $c{events} }
http {
    access_log $d/access.log;
    client_body_temp_path $d/body; proxy_temp_path $d/proxy;
    fastcgi_temp_path $d/fcgi; uwsgi_temp_path $d/uwsgi;
    scgi_temp_path $d/scgi;
    $c{cache}
    $c{http}
    server {
        $c{listen}
        $c{server}
        $c{location}
        location = /oci_status { oci_status json; }
        location = /metrics { oci_status prometheus; }
    }
}
EOC
    return $self;
}


sub modules {
    my ($self) = @_;
    return "load_module $MODULES/ngx_http_oci_module.so;\n"
        . "load_module $MODULES/ngx_http_oci_cache_module.so;\n"
        . "load_module $MODULES/ngx_http_oci_policy_module.so;\n"
        . "load_module $MODULES/ngx_http_oci_hooks_module.so;";
}


# nginx -t of a whole configuration; (exit status, output)

sub check {
    my ($self, $conf) = @_;
    $self->write_file('check.conf', $conf) if defined $conf;
    my $file = defined $conf ? 'check.conf' : 'nginx.conf';
    local $ENV{ASAN_OPTIONS} = 'detect_leaks=0';
    my $out = `$BINARY -t -p $self->{dir}/ -c $self->{dir}/$file -e $self->{dir}/check.log 2>&1`;
    my $rc = $? >> 8;
    Canary::answered($self->{dir}, $out);
    return ($rc, $out);
}


sub spawn {
    my ($self, $name, @cmd) = @_;

    my $pid = fork() // croak "fork: $!";

    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{dir}/$name.log";
        open STDERR, '>>', "$self->{dir}/$name.log";
        $ENV{ASAN_OPTIONS} = 'detect_leaks=1:abort_on_error=0'
            . ($self->{unwind} ? ':fast_unwind_on_malloc=0' : '')
            . ($ENV{LD_PRELOAD} ? ':verify_asan_link_order=0' : '');
        $ENV{LSAN_OPTIONS} = 'print_suppressions=0:suppressions='
            . dirname(abs_path(__FILE__)) . '/../lsan.supp';
        $ENV{UBSAN_OPTIONS} = 'print_stacktrace=0';
        exec @cmd or POSIX::_exit(127);
    }

    $self->{pids}{$name} = $pid;

    return $pid;
}


sub start {
    my ($self) = @_;

    $self->spawn('nginx', $BINARY, '-p', "$self->{dir}/", '-c',
        "$self->{dir}/nginx.conf", '-e', "$self->{dir}/error.log");

    for (1 .. 200) {
        last if -s "$self->{dir}/nginx.pid";
        sleep 0.05;
        if (waitpid($self->{pids}{nginx}, WNOHANG) > 0
            && !($self->{daemon} && $? == 0))
        {
            delete $self->{pids}{nginx};
            croak "nginx did not start:\n" . $self->read_file('nginx.log')
                . $self->read_file('error.log');
        }
    }

    if ($self->{daemon}) {
        waitpid $self->{pids}{nginx}, 0;
        chomp($self->{pids}{nginx} = $self->read_file('nginx.pid'));
    }

    $self->wait_port($self->{edge});

    # the first worker answers before the last one is there

    my ($n) = $self->read_file('nginx.conf') =~ /worker_processes (\d+)/;
    for (1 .. 200) {
        last if !$n || $self->workers() >= $n;
        sleep 0.05;
    }

    return $self;
}


# USR2: a new master beside the old one, whose pid is returned, to be ended by
# the caller.  An nginx whose parent lives would ignore it: see {daemon}

sub upgrade {
    my ($self) = @_;
    my $old = $self->{pids}{nginx};

    kill 'USR2', $old;

    for (1 .. 400) {
        my ($pid) = $self->read_file('nginx.pid') =~ /^(\d+)\n/;
        if ($pid && $pid != $old) {
            $self->{pids}{nginx} = $pid;
            return $old;
        }
        sleep 0.05;
    }
    croak "no new master:\n" . $self->read_file('error.log');
}


sub wait_port {
    my ($self, $port) = @_;
    for (1 .. 600) {
        my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port");
        return close $s if $s;
        sleep 0.05;
    }
    croak "nothing listens on $port";
}


sub signal {
    my ($self, $sig, $name) = @_;
    kill $sig, $self->{pids}{$name || 'nginx'};
}


# has a process ended, a child or another one?

sub ended {
    my ($self, $pid) = @_;
    my $rc = waitpid $pid, WNOHANG;
    return $rc > 0 if $rc != -1;
    open my $f, '<', "/proc/$pid/stat" or return 1;
    return (<$f> // ') Z') =~ /\) Z/;
}


# true if it ended in time

sub stop_one {
    my ($self, $name) = @_;

    my $pid = delete $self->{pids}{$name} or return 1;
    my @sigs = $name eq 'nginx' ? (['QUIT', 12], ['TERM', 5], ['KILL', 5])
                                : (['TERM', 5], ['KILL', 5]);

    for my $s (@sigs) {
        kill $s->[0], ($name =~ /^upstream/ ? -$pid : $pid);
        my $end = time() + $s->[1];
        while (time() < $end) {
            return $s->[0] ne 'KILL' if $self->ended($pid);
            sleep 0.02;
        }
    }
    return 0;
}


sub stop {
    my ($self) = @_;
    return $self->stop_one('nginx');
}


sub workers {
    my ($self) = @_;
    return grep {
        open my $f, '<', "/proc/$_/cmdline";
        (($f && <$f>) // '') =~ /worker process/;
    } $self->children();
}


# all processes of nginx's master

sub children {
    my ($self) = @_;
    my $pid = $self->{pids}{nginx};
    open my $f, '<', "/proc/$pid/task/$pid/children"
        or return `pgrep -P $pid` =~ /(\d+)/g;
    return (<$f> // '') =~ /(\d+)/g;
}


# the worker that has a connection of ours; 0: nobody yet

sub worker_of {
    my ($self, $s) = @_;
    open my $f, '<', '/proc/net/tcp' or croak $!;
    my ($inode) = map { (split)[9] } grep { /^ *\d+: \w+:(\w+) \w+:(\w+) /
        && hex $1 == $self->{edge} && hex $2 == $s->sockport() } <$f>;
    for my $pid ($inode ? $self->workers() : ()) {
        return $pid if grep { (readlink($_) // '') eq "socket:[$inode]" }
            glob "/proc/$pid/fd/*";
    }
    return 0;
}


# a connection to each worker, by pid

sub to_workers {
    my ($self) = @_;
    my %s;
    my $end = time() + 20;
    while (keys %s < $self->{workers} && time() < $end) {
        my $s = $self->connect();
        $self->send_request($s, 'GET', '/oci_status');
        $self->read_body($s, $self->read_header($s), 'GET');
        my $pid = $self->worker_of($s) or next;
        $s{$pid} = $s;
    }
    return %s;
}


# the worker that has most connections to a port; 0: none has any

sub worker_to {
    my ($self, $port) = @_;
    open my $f, '<', '/proc/net/tcp' or croak $!;
    my %inode = map { my @f = split; ("socket:[$f[9]]" => 1) }
        grep { /^ *\d+: \w+:\w+ \w+:(\w+) 01/ && hex $1 == $port } <$f>;
    my ($best, $most) = (0, 0);
    for my $pid ($self->workers()) {
        my $n = grep { $inode{readlink($_) // ''} } glob "/proc/$pid/fd/*";
        ($best, $most) = ($pid, $n) if $n > $most;
    }
    return $best;
}


# a real registry; returns its port

sub registry {
    my ($self, %o) = @_;

    my $bin = OCI->skip_all_unless('docker-registry');
    my $name = $o{name} || 'registry';
    my $port = port();
    my $extra = $o{extra} || '';
    mkdir "$self->{dir}/$name";

    $self->write_file("$name.yml", <<EOC);
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: $self->{dir}/$name}
  delete: {enabled: true}
http: {addr: "127.0.0.1:$port", secret: test, relativeurls: false}
$extra
EOC
    $self->spawn($name, $bin, 'serve', "$self->{dir}/$name.yml");
    $self->wait_port($port);
    $self->{registry} //= $port;

    return $port;
}


sub digest { return 'sha256:' . sha256_hex($_[1]) }


sub random_blob {
    my ($self, $size) = @_;
    open my $f, '<:raw', '/dev/urandom' or croak $!;
    my $data = '';
    while (length $data < $size) {
        read $f, $data, $size - length $data, length $data or croak $!;
    }
    return $data;
}


sub push_blob {
    my ($self, $repo, $data, $port) = @_;
    $port ||= $self->{registry};
    my $digest = $self->digest($data);
    my $r = $self->http($port, 'POST', "/v2/$repo/blobs/uploads/",
        { 'Content-Length' => 0 });
    croak "POST: $r->{status}" if $r->{status} != 202;
    my $l = $r->{h}{location};
    $l =~ s!^https?://[^/]+!!;
    $l .= ($l =~ /\?/ ? '&' : '?') . "digest=$digest";
    $r = $self->http($port, 'PUT', $l,
        { 'Content-Type' => 'application/octet-stream' }, $data);
    croak "PUT: $r->{status} $r->{body}" if $r->{status} != 201;
    return $digest;
}


sub push_manifest {
    my ($self, $repo, $ref, $body, $type, $port) = @_;
    my $r = $self->http($port || $self->{registry}, 'PUT',
        "/v2/$repo/manifests/$ref",
        { 'Content-Type' => $type || $TYPE{manifest} }, $body);
    croak "PUT manifest: $r->{status} $r->{body}" if $r->{status} != 201;
    return $self->digest($body);
}


# a small artifact: config and layers; returns (manifest, digest)

sub push_artifact {
    my ($self, $repo, $tag, @layers) = @_;
    my $config = '{"descriptor":{"name":"test"}}';
    my $c = $self->push_blob($repo, $config);
    my @l = map {
        { mediaType => 'application/vnd.cncf.model.weight.v1.raw',
          digest => $self->push_blob($repo, $_), size => length $_ }
    } @layers;
    my $m = JSON::PP->new->canonical->encode({ schemaVersion => 2,
        mediaType => $TYPE{manifest},
        artifactType => 'application/vnd.cncf.model.manifest.v1+json',
        config => { mediaType => 'application/vnd.cncf.model.config.v1+json',
            digest => $c, size => length $config },
        layers => \@l });
    return ($m, $self->push_manifest($repo, $tag, $m));
}


# the client

sub connect {
    my ($self, $port) = @_;
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $port || $self->{edge}, Proto => 'tcp')
        or croak "connect: $!";
    $s->autoflush(1);
    binmode $s;
    return $s;
}


sub send_request {
    my ($self, $s, $method, $uri, $h, $body) = @_;
    my %h = (Host => 'edge.test', %{$h || {}});
    my $caller = Canary::sent($uri, %h);
    $h{$Canary::CALLER} = $caller if defined $caller;
    $h{'Content-Length'} = length $body if defined $body;
    my $text = "$method $uri HTTP/1.1\r\n";
    for my $k (sort keys %h) {
        $text .= "$k: $_\r\n" for ref $h{$k} ? @{$h{$k}} : $h{$k};
    }
    print $s "$text\r\n", $body // '';
}


# reads a response's header; what came beyond it stands in {rest}

sub read_header {
    my ($self, $s, $timeout) = @_;
    my $buf = '';
    my $r = { status => 0, h => {}, list => [], body => '', rest => '' };
    eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm($timeout || 30);
        while ($buf !~ /\r\n\r\n/) {
            my $n = sysread $s, $buf, 65536, length $buf;
            last unless $n;
        }
        alarm 0;
    };
    alarm 0;
    $r->{timeout} = 1 if $@;
    my ($head, $rest) = split /\r\n\r\n/, $buf, 2;
    return $r unless defined $rest;
    my @lines = split /\r\n/, $head;
    $r->{status_line} = shift @lines;
    ($r->{status}) = $r->{status_line} =~ m!^HTTP/1\.[01] (\d+)!;
    for (@lines) {
        my ($k, $v) = split /: */, $_, 2;
        push @{$r->{list}}, [$k, $v];
        $r->{h}{lc $k} = $v;
    }
    $r->{rest} = $rest;
    Canary::answered($self->{dir}, $buf) if $r->{status} >= 400;
    return $r;
}


# the rest of the body; {cut}: it ended before what was promised

sub read_body {
    my ($self, $s, $r, $method, $timeout) = @_;
    my $body = $r->{rest};
    my $len = $r->{h}{'content-length'};
    my $chunked = ($r->{h}{'transfer-encoding'} // '') =~ /chunked/;
    if ($method eq 'HEAD' || $r->{status} == 204 || $r->{status} == 304) {
        return $r;
    }
    eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm($timeout || 60);
        while ($chunked ? $body !~ /(^|\r\n)0\r\n\r\n$/
                        : !defined $len || length $body < $len)
        {
            my $n = sysread $s, $body, 1 << 20, length $body;
            last unless $n;
        }
        alarm 0;
    };
    alarm 0;
    $r->{timeout} = 1 if $@;
    if ($chunked) {
        my $out = '';
        $r->{cut} = 1 if $body !~ /(^|\r\n)0\r\n\r\n$/;
        while ($body =~ s/^([0-9a-fA-F]+)[^\r\n]*\r\n//) {
            my $n = hex $1;
            last if $n == 0;
            $out .= substr $body, 0, $n, '';
            $body =~ s/^\r\n//;
        }
        $body = $out;
    }
    $r->{cut} = 1 if !$chunked && defined $len && length $body < $len;
    $r->{body} = $body;
    Canary::answered($self->{dir}, $body) if $r->{status} >= 400;
    Canary::given($body);
    return $r;
}


sub http {
    my ($self, $port, $method, $uri, $h, $body, $timeout) = @_;
    my $s = $self->connect($port);
    $self->send_request($s, $method, $uri, { Connection => 'close',
        %{$h || {}} }, $body);
    my $r = $self->read_header($s, $timeout);
    $self->read_body($s, $r, $method, $timeout);
    close $s;
    return $r;
}


sub get {
    my ($self, $uri, $h, $timeout) = @_;
    return $self->http($self->{edge}, 'GET', $uri, $h, undef, $timeout);
}

sub head {
    my ($self, $uri, $h) = @_;
    return $self->http($self->{edge}, 'HEAD', $uri, $h);
}


# sends a text as it is, returns all that comes until the end, or for so long

sub raw {
    my ($self, $text, $timeout, $port) = @_;
    my $s = $self->connect($port);
    my $out = '';
    Canary::sent_text($text);
    eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm($timeout || 5);
        print $s $text;
        while (sysread $s, $out, 65536, length $out) { }
        alarm 0;
    };
    alarm 0;
    close $s;
    Canary::answered($self->{dir}, $out) if $out =~ /^HTTP\S+ [45]/;
    return $out;
}


# runs code in n processes at once; each returns a text, all are returned

sub parallel {
    my ($self, $n, $code) = @_;
    my @p;
    for my $i (0 .. $n - 1) {
        pipe my $rd, my $wr or croak $!;
        my $pid = fork() // croak $!;
        if ($pid == 0) {
            close $rd;
            srand($$ + $i);
            my $out = eval { $code->($i) } // "died: $@";
            print $wr $out;
            close $wr;
            POSIX::_exit(0);
        }
        close $wr;
        push @p, [$pid, $rd];
    }
    my @out;
    for (@p) {
        my $fh = $_->[1];
        local $/;
        push @out, scalar <$fh>;
        waitpid $_->[0], 0;
    }
    return @out;
}


sub status {
    my ($self) = @_;
    return decode_json($self->get('/oci_status')->{body});
}

sub upstream_bytes {
    my ($self, $name) = @_;
    return $self->status()->{upstream_bytes}{$name || 'demo'};
}


# A scripted upstream: code gets (connection, request) for each request and
# answers with reply() and friends; false closes the connection.  Each
# connection is a process.  quiet: requests are not recorded; addr, port:
# where it listens.  Returns its port.

sub upstream {
    my ($self, $code, %o) = @_;

    my $name = 'upstream' . scalar grep { /^upstream/ } keys %{$self->{pids}};
    my $port = $o{port} || port();
    my $l = IO::Socket::INET->new(LocalAddr => $o{addr} || '127.0.0.1',
        LocalPort => $port, Listen => 256, ReuseAddr => 1) or croak $!;

    my $pid = fork() // croak $!;

    if ($pid) {
        close $l;
        $self->{pids}{$name} = $pid;
        return $port;
    }

    setpgrp;
    $SIG{CHLD} = 'IGNORE';
    $SIG{TERM} = 'DEFAULT';
    $self->{log} = "$self->{dir}/$name.requests";
    $self->{quiet} = $o{quiet};

    while (my $c = $l->accept()) {
        my $child = fork();
        if (!defined $child || $child) {
            close $c;
            next;
        }
        close $l;
        $c->autoflush(1);
        binmode $c;
        setsockopt $c, IPPROTO_TCP, TCP_NODELAY, 1;
        eval { $self->serve($c, $code) };
        close $c;
        POSIX::_exit(0);
    }
    POSIX::_exit(0);
}


sub serve {
    my ($self, $c, $code) = @_;
    my $buf = '';

    while (1) {
        while ($buf !~ /\r\n\r\n/) {
            sysread $c, $buf, 65536, length $buf or return;
        }
        my ($head, $rest) = split /\r\n\r\n/, $buf, 2;
        my ($line, @lines) = split /\r\n/, $head;
        my ($method, $uri) = split / /, $line;
        my %h = map { my ($k, $v) = split /: */, $_, 2; (lc $k, $v) } @lines;
        my $len = $h{'content-length'} || 0;
        while (length $rest < $len) {
            sysread $c, $rest, 1 << 20, length $rest or return;
        }
        my $q = { method => $method, uri => $uri, h => \%h, head => $head,
            body => substr($rest, 0, $len), sent => 0 };
        $buf = substr $rest, $len;

        if (($h{range} // '') =~ /^bytes=(\d+)-(\d*)$/) {
            $q->{from} = $1;
            $q->{to} = length $2 ? $2 + 1 : undef;
        }

        $q->{n} = $self->record($q);
        return unless $code->($c, $q);
    }
}


# appends to the log of requests; the number of this one among those of the
# same method and URI, from 1

sub record {
    my ($self, $q) = @_;
    return 0 if $self->{quiet};
    open my $f, '+>>', $self->{log} or die;
    flock $f, LOCK_EX;
    seek $f, 0, 0;
    my $n = 1;
    while (<$f>) {
        my $o = decode_json($_);
        $n++ if $o->{method} eq $q->{method} && $o->{uri} eq $q->{uri};
    }
    seek $f, 0, 2;
    print $f encode_json({ method => $q->{method}, uri => $q->{uri},
        h => $q->{h} }), "\n";
    close $f;
    return $n;
}


# what a scripted upstream has seen: list of {method, uri, h}

sub requests {
    my ($self, $i) = @_;
    $i //= 0;
    return map { decode_json($_) }
        split /\n/, $self->read_file("upstream$i.requests");
}

sub forget_requests {
    my ($self, $i) = @_;
    $i //= 0;
    unlink "$self->{dir}/upstream$i.requests";
}


sub reply {
    my ($self, $c, $q, $status, $h, $body) = @_;
    $body //= '';
    my %h = ('Content-Length' => length $body, %{$h || {}});
    my $text = "HTTP/1.1 $status X\r\n";
    Canary::given($body, $h{Location});
    $text .= "$_: $h{$_}\r\n" for grep { defined $h{$_} } sort keys %h;
    print $c "$text\r\n", $q->{method} eq 'HEAD' ? '' : $body;
    return 1;
}


# answers a request for a blob as a well-behaved registry does

sub reply_blob {
    my ($self, $c, $q, $blob, $h) = @_;
    my ($from, $to) = ($q->{from}, $q->{to});
    my $size = length $blob;

    if (!defined $from) {
        return $self->reply($c, $q, 200, $h, $blob);
    }
    if ($from >= $size) {
        return $self->reply($c, $q, 416,
            { 'Content-Range' => "bytes */$size" }, '');
    }
    $to = $size if !defined $to || $to > $size;
    return $self->reply($c, $q, 206, { 'Content-Range' =>
        sprintf('bytes %d-%d/%d', $from, $to - 1, $size), %{$h || {}} },
        substr($blob, $from, $to - $from));
}


# The same, in pieces with a pause after each, in s.  Options: piece (bytes);
# go: asked before each one, false: the connection ends there.  A blob's first
# byte, which proves something, comes at once, and does not count in sent().

sub reply_slowly {
    my ($self, $c, $q, $blob, $pause, %o) = @_;
    my $size = length $blob;
    my ($from, $to) = ($q->{from} // 0, $q->{to} // $size);
    my $piece = $o{piece} // 131072;

    return $self->reply_blob($c, $q, $blob) if $to - $from <= 1;

    print $c "HTTP/1.1 206 X\r\nContent-Length: " . ($to - $from)
        . "\r\nContent-Range: bytes $from-" . ($to - 1) . "/$size\r\n\r\n";

    for (my $i = $from; $i < $to; $i += $piece) {
        my $n = $to - $i > $piece ? $piece : $to - $i;
        return 0 if $o{go} && !$o{go}->();
        print $c substr($blob, $i, $n) or return 0;
        open my $f, '>>', "$self->{dir}/sent" or die;
        syswrite $f, '.' x ($n / 1024);
        close $f;
        sleep $pause;
    }
    return 1;
}


# bytes that were sent so, to within 1k a piece

sub sent { return (-s "$_[0]{dir}/sent" || 0) * 1024 }


# closes with a reset

sub reset {
    my ($self, $c) = @_;
    setsockopt $c, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
    close $c;
    return 0;
}


# certificates: a CA, and a server's for the names, which expires in so many
# days

sub certificate {
    my ($self, $name, $days) = @_;
    $days //= 2;
    my $d = $self->{dir};
    my $q = '>/dev/null 2>&1';
    if (!-f "$d/ca.pem") {
        system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 "
            . "-subj /CN=test-ca -keyout $d/ca.key -out $d/ca.pem $q") == 0
            or croak 'openssl';
        Canary::key("$d/ca.key");
    }
    system("openssl req -newkey rsa:2048 -nodes -subj /CN=$name "
        . "-keyout $d/$name.key -out $d/$name.csr $q") == 0
        or croak 'openssl';
    $self->write_file("$name.ext", "subjectAltName=DNS:$name\n");
    system("openssl x509 -req -days $days -in $d/$name.csr -CA $d/ca.pem "
        . "-CAkey $d/ca.key -CAcreateserial -extfile $d/$name.ext "
        . "-out $d/$name.pem $q") == 0 or croak 'openssl';
    Canary::key("$d/$name.key");
    return ("$d/$name.pem", "$d/$name.key");
}


sub allow {
    my ($self, @patterns) = @_;
    push @{$self->{allow}}, @patterns;
}


# the checks at the end, and the plan

sub done {
    my ($self) = @_;

    my $ended = $self->stop();
    Test::More::ok($ended, 'nginx stopped');

    my $log = $self->read_file('error.log');
    my @bad;

    # whoever kills a worker at any time may kill one that has a mutex

    my %killed = map { $_ => 1 } $log =~ /process (\d+) exited on signal 9/g;
    for my $l (split /\n/, $log) {
        next unless $l =~ /\[(alert|emerg|crit)\]/;
        next if $l =~ /shared memory zone ".*" was locked by (\d+)$/
            && $killed{$1};
        next if grep { $l =~ $_ } @{$self->{allow}};
        push @bad, $l;
    }
    Test::More::is(join("\n", @bad), '', 'no alerts');

    my $all = $log . $self->read_file('nginx.log');
    my @s = grep { /AddressSanitizer|LeakSanitizer/
        || (/runtime error/ && /ngx_(http_)?oci/) } split /\n/, $all;
    Test::More::is(join("\n", @s[0 .. ($#s < 5 ? $#s : 5)]), '',
        'no sanitizer reports');

    Test::More::is(join("\n", Canary::leaks($self->{dir}, $self->{passes},
        @{$self->{told}})), '', 'nothing secret where it does not belong');

    Test::More::diag(substr $all, -6000)
        if $ENV{TEST_VERBOSE} && (@bad || @s || !$ended);

    $self->cleanup();
    Test::More::done_testing();
}


sub cleanup {
    my ($self) = @_;
    return if $self->{owner} != $$;
    $self->stop_one($_) for keys %{$self->{pids}};
    rmtree($self->{dir}) unless $ENV{TEST_LEAVE};
}


sub DESTROY {
    my ($self) = @_;
    local ($?, $@, $!);
    $self->cleanup() if $self->{owner} == $$;
}

1;
