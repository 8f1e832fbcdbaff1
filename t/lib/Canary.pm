package Canary;

# Nothing secret in any log, error body or stored file, nor in a request that
# a registry gets for another caller.
#
# What a test takes or hands out as a secret is noted here, by the functions
# of t/lib that make it, send it or write it down: of credentials the secret,
# and the form that is sent.  leaks() then searches all that a test left in its
# directory, which done() of OCI does for each test.  What a test wrote there
# itself, or says to be mine(), may have secrets; so may requests that a
# scripted upstream recorded, but only in "Authorization", and only the
# caller's own.
#
# Only what is recognisable counts: of 8 bytes or more, four of them
# different.  Files of 64M or more are not searched.

use warnings;
use strict;

use Digest::SHA qw/ sha1_hex /;
use Fcntl qw/ O_RDWR O_CREAT O_EXCL O_APPEND /;
use File::Find qw/ find /;
use File::Temp qw/ tempdir tmpnam /;
use JSON::PP qw/ decode_json /;
use MIME::Base64;

my $SHORTEST = 8;
my $LONGEST = 64;           # of a pattern
my $LARGEST = 64 << 20;     # of a file

# A header that goes through the edge to the registry: who asks.

our $CALLER = 'X-Test-Caller';

# other headers that have one

my $CREDENTIAL = qr/^(cookie|(proxy|x)-authorization)$|key|token|secret/i;

# Forms that are secret whoever made them: tokens that a client got by itself,
# private keys, hashed secrets.

my $FORMS = 'eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.'
    . '|-----BEGIN ([A-Z]+ )?PRIVATE KEY'
    . '|\$(scrypt|pbkdf2-sha256)\$[a-z0-9=,]+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]';

my (%noted, $notes);


# One file for all processes of a test, which has no name any more: a line is
# "what text", in hexadecimal.

sub note {
    my ($what, $text) = @_;

    return if $noted{"$what $text"}++;

    if (!$notes) {
        my $name = tmpnam();
        sysopen $notes, $name, O_RDWR|O_CREAT|O_EXCL|O_APPEND, 0600
            or die "$name: $!";
        unlink $name;
    }

    utf8::encode($text) if utf8::is_utf8($text);
    syswrite $notes, "$what " . unpack('H*', $text) . "\n";
}


sub noted {
    my ($what) = @_;
    return if !$notes;
    open my $f, '<', '/proc/self/fd/' . fileno $notes or die $!;
    return map { /^\Q$what\E (.*)$/ ? pack 'H*', $1 : () } <$f>;
}

note('begin', '');    # before any process


# Of a long one its beginning is told, where a log is cut; but tokens may have
# that in common.

sub secret {
    my ($text, $what) = @_;

    return if !defined $text || length $text < $SHORTEST;

    if (length $text > $LONGEST) {
        secret(substr $text, -43);
        $text = substr $text, 0, $LONGEST;
    }

    my %bytes = map { $_ => 1 } split //, $text;
    note($what // 'secret', $text) if keys %bytes >= 4 && $text !~ /[\r\n\0]/;
}


# a value of "Authorization", or a line of a file; in the form that is sent,
# too: secret() of both

sub credentials {
    my ($value) = @_;

    if ($value =~ /^Basic +(\S+)$/i) {
        my $b64 = $1;
        my ($secret) = decode_base64($b64) =~ /^[^\0-\x1f:]*:(.*)$/s or return;
        secret($secret);
        secret($b64) if length $secret;

    } elsif ($value =~ /^Bearer +(\S+)$/i) {
        secret($1);

    } elsif ($value =~ /^[^:\s]+:(.*)$/) {
        secret($1);
        secret(encode_base64($value, ''));

    } elsif ($value !~ /\s/) {
        secret($value);
    }
}


# A header's lines that are sent to a URI; who it is.  What is sent elsewhere
# than to a registry's API or token service is nothing that a registry gets.

sub sent {
    my ($uri, %h) = @_;
    my $caller;

    for my $name (keys %h) {
        for my $value (ref $h{$name} ? @{$h{$name}} : $h{$name}) {
            if ($name =~ /^(proxy-|x-)?authorization$/i) {
                credentials($value);
                next if $name !~ /^authorization$/i;
                $caller = id($value);
                note($uri =~ m!^/(v2|v2/.*|.*token.*|.*auth.*)$!
                    ? 'sent' : 'own', $caller);

            } elsif ($name =~ /^cookie$/i) {
                secret($_) for $value =~ /=([^;]*)/g;

            } elsif ($name =~ /$CREDENTIAL/) {
                secret($value);
            }
        }
    }

    return $caller;
}

sub id { return substr sha1_hex($_[0]), 0, 12 }


# the same of a request's text

sub sent_text {
    my ($text) = @_;
    while ($text =~ /^[A-Z]+ (\S+) HTTP\/1\.\d\r\n(.*?)\r\n\r\n/msg) {
        my ($uri, $head) = ($1, $2);
        sent($uri, map { split /: */, $_, 2 } grep { /^[\w-]+: *\S/ }
            split /\r\n/, $head);
    }
}


# tokens that a service hands out, and links that are as good as one

sub given {
    my ($body, $location) = @_;

    if (length $body < 65536) {
        secret($_) for $body =~ /"(?:\w+_)?token"\s*:\s*"([^"]+)"/g;
    }

    secret($_) for ($location // '') =~
        /[?&](?:sig|signature|token|X-Amz-Signature)=([^&#]+)/gi;
}


# a private key's file: its lines

sub key {
    my ($file) = @_;
    mine($file);
    open my $f, '<', $file or return;
    my $text = do { local $/; <$f> };
    while ($text =~ /^-----BEGIN [A-Z ]*PRIVATE KEY-----\n(.*?)^-----END/msg) {
        my @lines = split /\n/, $1;

        # (the first one has what all of this kind have)

        secret($_) for @lines > 1 ? @lines[1 .. $#lines]
            : substr $lines[0], 24;
    }
}


# a file or directory that has secrets, because a test, or a client or server
# of its, keeps them there

sub mine {
    my ($path) = @_;
    note('mine', $path);
}


# what a test writes is its own; what nobody else may read has secrets

sub wrote {
    my ($path, $content, $mode) = @_;

    mine($path);

    # (the last one: what the edge has kept)

    return if !defined $mode || $mode & 07 || length $content > 1 << 20
        || $content =~ /^nginx-oci policy /;

    if ($content =~ /PRIVATE KEY/) {
        key($path);

    } elsif ($content !~ /^\s*[{\[]/) {
        credentials($_) for grep { length } split /\r?\n/, $content;
    }
}


# Text that came back, in the test's directory, to be searched.  Appended by
# any process.

sub answered {
    my ($dir, $text) = @_;
    return if !-d $dir;
    open my $f, '>>', "$dir/canary.answers" or return;
    binmode $f;
    utf8::encode($text) if utf8::is_utf8($text);
    syswrite $f, substr($text, 0, 65536) . "\n";
}


# What is wrong, a line each.  $passes: subjects' own secrets may go to the
# registry; @told: patterns of lines that are as they are to be.

sub leaks {
    my ($dir, $passes, @told) = @_;

    my $own = tempdir('nginx-oci-canary-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    my @secrets = noted('secret');
    my @hashes = noted('hash');
    my @leaks = requests($dir, $own, $passes);
    my (@logs, @files, @private);

    for my $f (files($dir), -s "$own/requests" ? "$own/requests" : ()) {
        my @stat = stat $f;
        if ($f =~ /\.(log|answers)$/ || $f eq "$own/requests") {
            push @logs, $f;
        } elsif ($stat[2] & 077) {
            push @files, $f;
        } else {
            push @private, $f;
        }
    }

    write_patterns("$own/all", @secrets, @hashes);
    write_patterns("$own/secrets", @secrets);

    # hashes of secrets are for who may read the document

    push @leaks, lines("$own/all", @logs);
    push @leaks, grep_files('-aoHnF', "$own/all", @files);
    push @leaks, grep_files('-aoHnF', "$own/secrets", @private);

    s/^(\Q$dir\E|\Q$own\E\/requests:\d+:)\/?// for @leaks;

    my %seen;
    return grep { my $l = $_; !$seen{$l}++ && !grep { $l =~ $_ } @told }
        @leaks;
}


sub write_patterns {
    my ($file, @patterns) = @_;
    my %seen;
    open my $f, '>:raw', $file or die "$file: $!";
    print $f map { "$_\n" } grep { !$seen{$_}++ } @patterns;
    close $f;
}


# files of a test's directory that are not its own

sub files {
    my ($dir) = @_;
    my %mine = map { $_ => 1 } noted('mine');
    my @files;

    find({ no_chdir => 1, wanted => sub {
        my @s = lstat $_ or return;
        if ($mine{$_}) {
            $File::Find::prune = 1;
            return;
        }
        push @files, $_ if -f _ && $s[7] && $s[7] < $LARGEST
            && !/\.requests$/;
    } }, $dir) if -d $dir;

    return sort @files;
}


# a line of a log may be shown as a whole; debug lines of nginx's own have all
# headers

sub lines {
    my ($patterns, @logs) = @_;
    return grep { !/ \[debug\] .*http2?( proxy)? header/ }
        grep_files('-aHnF', $patterns, @logs),
        grep_files('-aHnE', $FORMS, @logs);
}


sub grep_files {
    my ($options, $patterns, @files) = @_;

    return if !@files || ($options =~ /F/ && !-s $patterns);

    my @out;
    my @what = $options =~ /F/ ? ('-f', $patterns) : ('-e', $patterns);

    push @what, '-m', 20 if $options =~ /o/;

    while (my @some = splice @files, 0, 500) {
        local $ENV{LC_ALL} = 'C';
        open my $p, '-|', 'grep', $options, @what, '--', @some
            or die "grep: $!";
        binmode $p;
        while (<$p>) {
            chomp;
            push @out, length > 400 ? substr($_, 0, 400) . '...' : $_;
        }
        close $p;
    }

    return @out;
}


# What scripted upstreams recorded: "Authorization" is looked at here, all
# else is in $own/requests for the search.

sub requests {
    my ($dir, $own, $passes) = @_;
    my %sent = map { $_ => 1 } noted('sent');
    my %own = map { $_ => 1 } noted('own');
    my %secret = map { $_ => 1 } noted('policy');
    my @leaks;

    open my $out, '>:raw', "$own/requests" or die $!;

    for my $file (glob "$dir/*.requests") {
        my ($name) = $file =~ m!([^/]+)$!;
        open my $f, '<:raw', $file or next;
        while (<$f>) {
            my $q = eval { decode_json($_) } or next;
            my $value = delete $q->{h}{authorization};
            my $from = delete $q->{h}{lc $CALLER};
            my $what = "$name:$.: $q->{method} $q->{uri}:";

            # what else the client sent as a credential goes the same way

            if (defined $value && defined $from && id($value) eq $from) {
                delete $q->{h}{$_} for grep { /$CREDENTIAL/ } keys %{$q->{h}};
            }

            print $out join(' ', $what, map { "$_: $q->{h}{$_}" }
                sort keys %{$q->{h}}), "\n";
            next if !defined $value;

            my $id = id($value);
            my ($secret) = $value =~ /^Basic +(\S+)$/i
                ? decode_base64($1) =~ /:(.*)$/s : ();

            push @leaks, "$what another caller's credentials"
                if defined $from && $from ne $id && $sent{$id};
            push @leaks, "$what credentials that are for the edge"
                if $own{$id} && !$sent{$id};
            push @leaks, "$what a subject's secret"
                if defined $secret && $secret{$secret} && !$passes;
        }
    }
    close $out;

    return @leaks;
}

1;
