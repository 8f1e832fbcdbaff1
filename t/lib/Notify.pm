package Notify;

# A receiver of oci_notify's posts: what it does stands in the file "mode", and
# what it got is kept, in the order in which it came.

use warnings;
use strict;

use Fcntl qw/ :flock /;
use JSON::PP qw/ decode_json encode_json /;
use MIME::Base64;


# {port}, on which one was before; {addr}.  Returns its port

sub receiver {
    my ($t, %o) = @_;

    return $t->upstream(sub {
        my ($c, $q) = @_;
        my $mode = $t->read_file('mode') || '200';

        open my $f, '>>', "$t->{dir}/received" or die;
        flock $f, LOCK_EX;
        syswrite $f, encode_json({ mode => $mode, method => $q->{method},
            uri => $q->{uri}, h => $q->{h},
            body => encode_base64($q->{body}, '') }) . "\n";
        close $f;

        if ($mode eq 'hang') { sleep 30; return 0 }
        return 0 if $mode eq 'close';

        # whatever was taken twice is in "lost" once: the answer did not come

        if ($mode eq 'lose') { $t->reset($c); return 0 }

        my ($status, $to) = $mode =~ /^(\d+) ?(.*)$/;
        return $t->reply($c, $q, $status, $to ? { Location => $to } : {},
            $status == 204 ? undef : 'thanks');
    }, quiet => 1, %o);
}


sub mode {
    my ($t, $mode) = @_;
    $t->write_file('mode.new', $mode);
    rename "$t->{dir}/mode.new", "$t->{dir}/mode" or die;
}


# all of it, {json} is the body; with a status only what was answered so

sub received {
    my ($t, $mode) = @_;
    my @r = map { decode_json($_) } split /\n/, $t->read_file('received');
    for (@r) {
        $_->{body} = decode_base64($_->{body});
        $_->{json} = eval { decode_json($_->{body}) };
    }
    return grep { !defined $mode || $_->{mode} eq $mode } @r;
}


sub forget { unlink "$_[0]{dir}/received" }


# of Harbor's format: repository and tag of each

sub names {
    return map { my $d = $_->{json}{event_data};
        "$d->{repository}{repo_full_name}:$d->{resources}[0]{tag}" } @_;
}


# the queue's numbers

sub queue {
    my ($t, $dir) = @_;
    return $t->status()->{notify}{$dir // "$t->{dir}/queue"};
}


1;
