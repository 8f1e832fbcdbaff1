package Jwt;

# Tokens for the tests: keys and signatures are made by the openssl command.

use warnings;
use strict;

use Digest::SHA qw/ hmac_sha256 /;
use JSON::PP;
use MIME::Base64 qw/ encode_base64url decode_base64url /;

use Canary;


my %ALG = (RSA => 'RS256', EC => 'ES256', ED25519 => 'EdDSA');


sub run {
    my (@cmd) = @_;
    open my $f, '-|', @cmd or die "@cmd: $!";
    binmode $f;
    local $/;
    my $out = <$f>;
    close $f or die "@cmd";
    return $out;
}


# a pair of keys in $dir/$name.key and, the public one, $dir/$name.pub

sub key {
    my ($t, $name, $type, @options) = @_;
    my $file = "$t->{dir}/$name";
    @options = ('-pkeyopt', 'ec_paramgen_curve:P-256')
        if !@options && $type eq 'EC';
    system("openssl genpkey -algorithm $type @options -out $file.key"
        . ' 2>/dev/null') == 0 or die 'openssl genpkey';
    run('openssl', 'pkey', '-in', "$file.key", '-pubout', '-out',
        "$file.pub");
    Canary::key("$file.key");
    return { name => $name, file => "$file.key", pub => "$file.pub",
        alg => $ALG{$type}, type => $type, dir => $t->{dir} };
}


sub certificate {
    my ($key) = @_;
    my $file = "$key->{dir}/$key->{name}.crt";
    run('openssl', 'req', '-x509', '-new', '-key', $key->{file}, '-subj',
        '/CN=token', '-days', '1', '-out', $file);
    return $file;
}


# what the key's public part is as a JSON Web Key

sub jwk {
    my ($key, %more) = @_;
    my $der = run('openssl', 'pkey', '-in', $key->{file}, '-pubout',
        '-outform', 'DER');
    return { kty => 'OKP', crv => 'Ed25519',
        x => encode_base64url(substr $der, -32), %more }
        if $key->{type} eq 'ED25519';
    return { kty => 'EC', crv => 'P-256',
        x => encode_base64url(substr $der, -64, 32),
        y => encode_base64url(substr $der, -32), %more }
        if $key->{type} eq 'EC';
    my $n = run('openssl', 'pkey', '-in', $key->{file}, '-pubout', '-text',
        '-noout');
    my ($hex) = $n =~ /Modulus:\s*([0-9a-f:\s]+?)\n\S/;
    $hex =~ s/[:\s]//g;
    return { kty => 'RSA', n => encode_base64url(pack 'H*', $hex =~ s/^00//r),
        e => 'AQAB', %more };
}


sub signature {
    my ($key, $input) = @_;
    my $file = "$key->{dir}/jwt.input.$$";
    open my $f, '>', $file or die;
    print $f $input;
    close $f;
    my $sig = $key->{type} eq 'ED25519'
        ? run('openssl', 'pkeyutl', '-sign', '-rawin', '-inkey',
            $key->{file}, '-in', $file)
        : run('openssl', 'dgst', '-sha256', '-sign', $key->{file}, $file);
    unlink $file;
    return $sig;
}


# an ECDSA signature's two numbers, of 32 bytes each

sub raw {
    my ($der) = @_;
    my ($r, $s) = unpack 'x2 x C/a x C/a', $der;
    return join '', map { substr "\0" x 32 . $_, -32 } $r, $s;
}


# header and claims are hashes or texts; key: NULL for no signature

sub token {
    my ($key, $claims, $header, %o) = @_;
    my $json = JSON::PP->new->canonical;
    $header = { alg => $key->{alg}, typ => 'JWT', %{$header || {}} }
        unless defined $header && !ref $header;
    my $input = join '.', map { encode_base64url(ref $_
        ? $json->encode($_) : $_) } $header, $claims;
    my $sig = $o{der} || $key->{type} ne 'EC' ? signature($key, $input)
        : raw(signature($key, $input));
    return $input . '.' . encode_base64url($o{sig} ? $o{sig}->($sig) : $sig);
}


# by a secret that both sides have, which the edge has none of

sub hmac {
    my ($secret, $claims, $header) = @_;
    my $json = JSON::PP->new->canonical;
    my $input = join '.', map { encode_base64url($json->encode($_)) }
        { alg => 'HS256', typ => 'JWT', %{$header || {}} }, $claims;
    return $input . '.' . encode_base64url(hmac_sha256($input, $secret));
}


sub bearer { return { Authorization => "Bearer $_[0]" } }


# one entry of "access"

sub access {
    my ($name, @actions) = @_;
    return { type => 'repository', name => $name, actions => \@actions };
}

1;
