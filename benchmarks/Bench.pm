package Bench;

# The benchmark's servers and clients: all on loopback, all in one directory,
# started and ended by pid.

use warnings;
use strict;

use Fcntl qw/ SEEK_SET /;
use File::Path qw/ make_path /;
use IO::Socket::INET;
use JSON::PP qw/ decode_json /;
use POSIX qw/ :sys_wait_h /;
use Socket qw/ SOL_SOCKET SO_RCVTIMEO /;
use Time::HiRes qw/ sleep time /;

use File::Basename qw/ dirname /;
use lib dirname(__FILE__) . '/../t/lib';
use Policy;

my %ports;


sub new {
    my ($class, %o) = @_;
    my $self = bless { %o, pids => {}, wakeup => {}, notes => [] }, $class;
    make_path($self->{dir});
    chmod 0755, $self->{dir};
    return $self;
}


sub port {
    for (1 .. 500) {
        my $p = 25000 + int(rand(5000));
        next if $ports{$p};
        my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
            LocalPort => $p, Listen => 1, ReuseAddr => 1) or next;
        close $s;
        $ports{$p} = 1;
        return $p;
    }
    die "no free port\n";
}


sub write_file {
    my ($self, $name, $text, $mode) = @_;
    open my $f, '>', "$self->{dir}/$name" or die "$name: $!\n";
    chmod $mode, $f if $mode;
    print $f $text;
    close $f or die "$name: $!\n";
}


sub spawn {
    my ($self, $name, $port, @cmd) = @_;

    die "$name runs already\n" if $self->{pids}{$name};

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP /;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{dir}/$name.log";
        open STDERR, '>>', "$self->{dir}/$name.log";
        exec @cmd or POSIX::_exit(127);
    }

    $self->{pids}{$name} = $pid;

    for (1 .. 400) {
        my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port");
        return close $s if $s;
        if (waitpid($pid, WNOHANG) == $pid) {
            delete $self->{pids}{$name};
            last;
        }
        sleep 0.02;
    }

    die "$name did not start:\n" . `tail -n 5 $self->{dir}/$name.log`;
}


sub stop {
    my ($self, $name) = @_;

    my $pid = delete $self->{pids}{$name} or return;

    for my $s (['TERM', 10], ['KILL', 5]) {
        kill $s->[0], $pid;
        my $end = time() + $s->[1];
        while (time() < $end) {
            return if waitpid($pid, WNOHANG) != 0;
            sleep 0.01;
        }
        $self->note("$name had to be killed") if $s->[0] eq 'TERM';
    }
}


sub stop_all {
    my ($self) = @_;
    $self->stop($_) for keys %{$self->{pids}};
}


sub note {
    my ($self, $text) = @_;
    print STDERR "  note: $text\n";
    push @{$self->{notes}}, $text
        unless grep { $_ eq $text } @{$self->{notes}};
}


sub remove {
    my ($self, $name) = @_;
    system('rm', '-rf', "$self->{dir}/$name") == 0 or die "rm: $name\n";
}


# a blob of random bytes, made once; returns its digest in hex

sub blob {
    my ($self, $name, $size) = @_;

    my $d = "$self->{dir}/blobs";
    make_path($d);

    if (open my $f, '<', "$self->{dir}/$name.digest") {
        my ($hex, $n) = split ' ', <$f> // '';
        return $hex if ($n // 0) == $size && (-s "$d/$hex" // -1) == $size;
        unlink "$d/$hex" if $hex;
    }

    system("head -c $size /dev/urandom > $d/new") == 0 or die "blob: $!\n";
    my ($hex) = `openssl dgst -sha256 -r $d/new` =~ /^([0-9a-f]{64})/
        or die "openssl dgst failed\n";
    rename "$d/new", "$d/$hex" or die "rename: $!\n";
    $self->write_file("$name.digest", "$hex $size\n");
    return $hex;
}


# a blob of zeros that takes no space, under a digest that nobody checks

sub sparse {
    my ($self, $digit, $size) = @_;
    my $hex = $digit x 64;
    open my $f, '>', "$self->{dir}/blobs/$hex" or die "sparse: $!\n";
    truncate $f, $size or die "a sparse file of $size: $!\n";
    push @{$self->{sparse}}, "$self->{dir}/blobs/$hex";
    return $hex;
}


sub sparse_remove {
    my ($self) = @_;
    unlink splice @{$self->{sparse} || []};
}


sub path { return "/v2/bench/model/blobs/sha256:$_[1]" }


sub nginx {
    my ($self, $name, $port, %c) = @_;

    my $d = "$self->{dir}/$name.d";
    my $user = $> == 0 ? 'user root;' : '';
    my $log = $c{log} ? "access_log $self->{dir}/$name.access bench;"
                      : 'access_log off;';

    make_path($d);

    $self->write_file("$name.conf", <<EOC);
@{[ $c{modules} // '' ]}
$user
daemon off;
worker_processes @{[ $c{workers} // 2 ]};
worker_rlimit_nofile 8192;
pid $d/nginx.pid;
error_log $self->{dir}/$name.error.log warn;
events { worker_connections 2048; }
http {
    log_format bench '\$body_bytes_sent \$status \$request_method '
                     '\$http_range \$uri';
    $log
    client_body_temp_path $d/body; proxy_temp_path $d/proxy;
    fastcgi_temp_path $d/fcgi; uwsgi_temp_path $d/uwsgi;
    scgi_temp_path $d/scgi;
    sendfile on;
    keepalive_requests 10000000;
    keepalive_timeout 600s;
    default_type application/octet-stream;
    $c{http}
}
EOC
    $self->spawn($name, $port, $self->{nginx}, '-p', "$d/", '-c',
        "$self->{dir}/$name.conf", '-e', "$self->{dir}/$name.error.log");
}


sub blob_location {
    my ($self) = @_;
    return <<EOC;
        location = /v2/ {
            add_header Docker-Distribution-Api-Version registry/2.0;
            default_type application/json;
            return 200 '{}';
        }
        location ~ ^/v2/bench/model/blobs/sha256:(?<hex>[0-9a-f]+)\$ {
            alias $self->{dir}/blobs/\$hex;
        }
EOC
}


# the origin, and the same bytes served statically in both ways

sub start_origin {
    my ($self) = @_;

    $self->{$_} = port() for qw/ origin nopush_on nopush_off /;

    $self->nginx('origin', $self->{origin}, log => 1, http => <<EOC);
    server {
        listen 127.0.0.1:$self->{origin};
@{[ $self->blob_location() ]}
    }
EOC

    $self->nginx('static', $self->{nopush_on}, http => join '', map { <<EOC }
    server {
        listen 127.0.0.1:$self->{"nopush_$_"};
        tcp_nopush $_;
@{[ $self->blob_location() ]}
    }
EOC
        qw/ on off /);
}


# each start of a subject is cold: what it stored before is removed

sub start_edge {
    my ($self, %o) = @_;

    $self->stop_edge();
    $self->remove('edge.cache');
    $self->{edge} ||= port();

    my $verify = $o{verify} // 'on';
    my $slice = $o{slice} // '8m';
    my $origin = $o{origin} // $self->{origin};
    my $fill = $o{connections}
        ? "oci_fill_connections $o{connections}; oci_fill_ahead 2g;" : '';

    $self->nginx('edge', $self->{edge}, workers => $o{workers},
        modules => <<EOM, http => <<EOC);
load_module $self->{modules}/ngx_http_oci_module.so;
load_module $self->{modules}/ngx_http_oci_cache_module.so;
EOM
    oci_cache_path $self->{dir}/edge.cache keys_zone=bench:32m slice=$slice;
    oci_registry origin { url http://127.0.0.1:$origin; }
    server {
        listen 127.0.0.1:$self->{edge};
        location /v2/ {
            oci_pass origin;
            oci_cache bench;
            oci_verify $verify;
            $fill
        }
        location = /metrics { oci_status prometheus; }
    }
EOC
    $self->{name}{$self->{edge}} = 'edge';
    return $self->{edge};
}


# the histogram of wake-ups is taken before it goes

sub stop_edge {
    my ($self, $keep) = @_;

    return unless $self->{pids}{edge};

    for (split /\n/, $self->fetch($self->{edge}, '/metrics')) {
        next unless $self->{count_wakeups};
        $self->{wakeup}{$1} += $2
            if /^nginx_oci_wakeup_seconds_bucket\{.*le="([^"]+)"\} (\d+)/;
        $self->{fallbacks} += $1
            if /^nginx_oci_wakeup_fallbacks_total (\d+)/;
    }

    $self->stop('edge');
}


# An edge of one worker, with credentials of its own, whose server has the
# access "open", or "policy": that of a document for as many subjects.  Without
# a policy there is no module of it, either.

sub start_access {
    my ($self, $access, $n) = @_;

    $self->stop($access);
    $self->remove("$access.cache");
    $self->{$access} ||= port();

    $self->write_file('robot', "bench:bench\n", 0600);

    my ($module, $policy) = ('', '');

    if ($access eq 'policy') {
        my $zone = 4 * (-s $self->policy_doc($n)) + (1 << 20);
        $module = "load_module "
            . "$self->{modules}/ngx_http_oci_policy_module.so;";
        $policy = "oci_policy policy {
        source file:$self->{dir}/policy.$n.json;
        zone policy:$zone;
        identity basic;
    }";
    }

    $self->nginx($access, $self->{$access}, workers => 1, modules => <<EOM,
load_module $self->{modules}/ngx_http_oci_module.so;
load_module $self->{modules}/ngx_http_oci_cache_module.so;
$module
EOM
        http => <<EOC);
    oci_cache_path $self->{dir}/$access.cache keys_zone=bench:32m;
    oci_registry origin {
        url http://127.0.0.1:$self->{origin};
        credentials file $self->{dir}/robot;
    }
    $policy
    server {
        listen 127.0.0.1:$self->{$access};
        location /v2/ {
            oci_pass origin;
            oci_cache bench;
            oci_access $access;
        }
    }
EOC
    return $self->{$access};
}


# A document of n subjects, with a tenth as many groups, grants and projects;
# "bench", in the middle of all, may pull the blobs.  decide.c knows the names.

sub policy_doc {
    my ($self, $n) = @_;

    my $name = "policy.$n.json";

    return "$self->{dir}/$name" if $self->{policy_doc}{$n}++;

    my $projects = int($n / 10) || 1;
    my $some = '"secret": "$scrypt$ln=14,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$'
        . 'A' x 43 . '"';

    my @subjects = map { qq("robot\$p$_+ci": {$some, "groups": ["g)
        . $_ % $projects . '", "h' . $_ % 7 . '", "all"]}' } 0 .. $n - 1;

    splice @subjects, $n / 2, 0, '"bench": {"secret": "'
        . Policy::phc('bench') . '", "groups": ["all", "bench"]}';

    my @grants = map { qq("d$_": {"role": "developer", "groups": ["g$_"], )
        . qq("repositories": ["p$_/**"]}) } 0 .. $projects - 1;

    my @projects = map { qq("p$_": {"public": )
        . ($_ % 10 ? 'false' : 'true') . '}' } 0 .. $projects - 1;

    local $" = ",\n";
    $self->write_file($name, <<EOD, 0600);
{"version": 1, "subjects": {
@subjects
}, "grants": {
"bench": {"role": "guest", "groups": ["bench"], "repositories": ["bench/**"]},
"all": {"role": "guest", "groups": ["all"],
        "repositories": ["base/*", "*-public/**"]},
@grants
}, "projects": {
@projects
}}
EOD
    return "$self->{dir}/$name";
}


sub start_slice {
    my ($self) = @_;

    $self->stop('slice');
    $self->remove('slice.cache');
    $self->{slice} ||= port();

    $self->nginx('slice', $self->{slice}, http => <<EOC);
    proxy_cache_path $self->{dir}/slice.cache keys_zone=bench:32m
                     levels=1:2 use_temp_path=off;
    upstream origin { server 127.0.0.1:$self->{origin}; keepalive 32; }
    server {
        listen 127.0.0.1:$self->{slice};
        location / {
            slice 4m;
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_set_header Range \$slice_range;
            proxy_cache bench;
            proxy_cache_key \$uri\$slice_range;
            proxy_cache_valid 200 206 1d;
            proxy_cache_lock on;
        }
    }
EOC
    return $self->{slice};
}


# docker-registry as a pull-through cache; undef without it

sub start_docker {
    my ($self) = @_;

    my $bin = $self->{docker} or return;

    $self->stop('docker');
    $self->remove('docker.cache');
    $self->{docker_port} ||= port();

    $self->write_file('docker.yml', <<EOC);
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: $self->{dir}/docker.cache}
http: {addr: "127.0.0.1:$self->{docker_port}", secret: bench}
proxy: {remoteurl: "http://127.0.0.1:$self->{origin}"}
EOC
    $self->spawn('docker', $self->{docker_port}, $bin, 'serve',
        "$self->{dir}/docker.yml");
    return $self->{docker_port};
}


# whether its background copy got there in time

sub docker_stored {
    my ($self, $hex, $size, $seconds) = @_;

    my $name = "$self->{dir}/docker.cache/docker/registry/v2/blobs/sha256/"
        . substr($hex, 0, 2) . "/$hex/data";

    for (my $end = time() + $seconds; time() < $end; sleep 0.5) {
        return 1 if (-s $name // -1) == $size;
    }

    return 0;
}


sub start_floor {
    my ($self, @o) = @_;

    $self->stop('floor');
    $self->remove('floor.file');
    $self->{floor} ||= port();
    $self->spawn('floor', $self->{floor}, "$self->{dir}/bin/floor", @o,
        $self->{floor}, $self->{origin}, "$self->{dir}/floor.file");
    return $self->{floor};
}


sub start_paced {
    my ($self, $rate) = @_;

    $self->stop('paced');
    $self->{paced} ||= port();
    $self->spawn('paced', $self->{paced}, "$self->{dir}/bin/paced",
        $self->{paced}, $rate, "$self->{dir}/blobs");
    return $self->{paced};
}


# memory for a cold run, see client.c; some may be taken by others meanwhile

sub touch {
    my ($self, $size) = @_;

    open my $f, '<', '/proc/meminfo' or return;
    my ($room) = map { /^MemAvailable:\s+(\d+)/ ? $1 * 1024 : () } <$f>;

    $size = 2 * $size < $room / 2 ? 2 * $size : $room / 2;

    system("$self->{dir}/bin/client", 'touch', int $size) == 0
        or die "no memory for a cold run\n";
}


# one GET, or several at once; wall seconds

sub get {
    my ($self, $port, $hex, %o) = @_;

    my $n = $o{connections} // 1;
    my @cmd = ("$self->{dir}/bin/client", 'get', '-c', $n);
    push @cmd, '-r', $o{range} if $o{range};

    my $out = $self->client(@cmd, $port, $self->path($hex))->answer();
    my $r = decode_json($out // '{}');
    my $want = $o{bytes} // (-s "$self->{dir}/blobs/$hex") * $n;

    if (($r->{failed} // 1) || $r->{bytes} != $want) {
        die "a GET from port $port failed: " . ($out // 'no answer') . "\n";
    }

    return $r->{wall};
}


# the latency client; ended by stop_latency() where no number is given

sub start_latency {
    my ($self, $port, $hex, %o) = @_;

    my @o = $o{n} ? ('-n', $o{n}) : ();
    my $size = -s "$self->{dir}/blobs/$hex";

    return $self->client("$self->{dir}/bin/client", 'latency', @o,
        '-b', $o{bytes} // 4096, '-s', $size, $port, $self->path($hex));
}


# the whole of a small blob, again and again: requests a second, and the
# processor's microseconds that one costs the server of this name

sub rate {
    my ($self, $name, $hex, @o) = @_;

    my $cpu = $self->worker_cpu($name);
    my $out = $self->client("$self->{dir}/bin/client", 'rate', @o,
        $self->{$name}, $self->path($hex))->answer();
    my $r = decode_json($out // '{}');

    die "requests of $name failed: " . ($out // 'no answer') . "\n"
        if ($r->{failed} // 1) || $r->{n} < 1;

    return ($r->{n} / $r->{wall},
        ($self->worker_cpu($name) - $cpu) / $r->{n} * 1e6);
}


# closing the pipe waits for the client: one that is forgotten, by a die() or
# a signal, is ended first

sub client {
    my ($self, @cmd) = @_;
    my $pid = open my $p, '-|', @cmd or die "client: $!\n";
    return bless { pid => $pid, out => $p }, 'Bench::Client';
}


sub stop_latency {
    my ($self, $l, $wait) = @_;

    kill 'TERM', $l->{pid} unless $wait;
    my $out = $l->answer();
    my $r = decode_json($out // '{}');
    die "the latency client got nothing\n" unless $r->{n};
    die "$r->{failed} requests of the latency client failed\n"
        if $r->{failed};

    return $r;
}


sub fetch {
    my ($self, $port, $uri) = @_;

    my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") or return '';
    setsockopt $s, SOL_SOCKET, SO_RCVTIMEO, pack 'l!l!', 10, 0;
    print $s "GET $uri HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
    local $/;
    my $text = <$s> // '';
    $text =~ s/^.*?\r\n\r\n//s;
    return $text;
}


# bytes of bodies that left the origin since the mark

sub mark {
    my ($self) = @_;
    return -s "$self->{dir}/origin.access" // 0;
}


# the exchanges that a subject aborted are logged a moment later

sub upstream_bytes {
    my ($self, $mark) = @_;

    my ($sum, $last, $end, $settled) = (0, -1, time() + 15);

    while (time() < $end) {
        sleep 0.5;
        my $size = $self->mark();
        $settled = $size == $last && $self->origin_idle();
        last if $settled;
        $last = $size;
    }

    $self->note('the origin still sends: upstream bytes are a lower bound')
        unless $settled;

    open my $f, '<', "$self->{dir}/origin.access" or return 0;
    seek $f, $mark, SEEK_SET;

    while (<$f>) {
        $sum += $1 if /^(\d+) 20[06] GET \S+ \/v2\/bench\//;
    }

    return $sum;
}


# no socket of the origin has bytes that wait to be sent

sub origin_idle {
    my ($self) = @_;

    my $port = sprintf ':%04X', $self->{origin};

    open my $f, '<', '/proc/net/tcp' or return 1;

    while (<$f>) {
        my @w = split;
        next unless $w[1] =~ /\Q$port\E$/ && $w[3] eq '01';
        return 0 if $w[4] !~ /^00000000:/;
    }

    return 1;
}


# the largest peak of resident memory of the edge's workers, in KiB

sub worker_rss {
    my ($self) = @_;

    my $max = 0;

    for my $d (glob '/proc/[0-9]*') {
        open my $f, '<', "$d/status" or next;
        my %v = map { /^(\w+):\s+(\d+)/ ? ($1, $2) : () } <$f>;
        next unless ($v{PPid} // 0) == $self->{pids}{edge};
        $max = $v{VmHWM} if ($v{VmHWM} // 0) > $max;
    }

    return $max;
}


# seconds of a processor that the workers of a server have had

sub worker_cpu {
    my ($self, $name) = @_;

    my $ticks = 0;

    for my $d (glob '/proc/[0-9]*') {
        open my $f, '<', "$d/stat" or next;
        my @v = split ' ', (<$f> // '') =~ s/^.*\) //sr;
        next unless ($v[1] // 0) == $self->{pids}{$name};
        $ticks += $v[11] + $v[12];
    }

    return $ticks / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}


sub alerts {
    my ($self) = @_;

    for my $name (qw/ edge open policy /) {
        open my $f, '<', "$self->{dir}/$name.error.log" or next;
        my @lines = grep { /\[(error|alert|emerg|crit)\]/ } <$f>;
        next unless @lines;
        chomp @lines;
        $self->note(@lines . " errors in the log of $name, first: $lines[0]");
    }
}


package Bench::Client;


sub answer {
    my ($self) = @_;
    my $fh = $self->{out};
    my $out = <$fh>;
    close $fh;
    $self->{pid} = 0;
    return $out;
}


sub DESTROY {
    my ($self) = @_;
    kill 'TERM', $self->{pid} if $self->{pid};
}


1;
