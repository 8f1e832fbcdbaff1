package Policy;

# Policy documents for the tests.

use warnings;
use strict;

use Digest::SHA qw/ sha256 /;
use JSON::PP;
use MIME::Base64;

use Canary;


# a PHC string; cheap, but for what is to take long

sub phc {
    my ($secret, %o) = @_;
    my $salt = $o{salt} // 'saltsaltsaltsalt';
    my $ln = $o{ln} // 10;
    my $i = $o{i};
    my @args = $i
        ? ('-kdfopt', 'digest:SHA256', '-kdfopt', "iter:$i", 'PBKDF2')
        : ('-kdfopt', 'n:' . (1 << $ln), '-kdfopt', 'r:8', '-kdfopt', 'p:1',
            '-kdfopt', 'maxmem_bytes:536870912', 'SCRYPT');
    open my $f, '-|', 'openssl', 'kdf', '-binary', '-keylen', '32',
        '-kdfopt', "pass:$secret", '-kdfopt', "salt:$salt", @args or die $!;
    binmode $f;
    local $/;
    my $hash = <$f>;
    die 'openssl kdf' if length $hash != 32;
    my ($s, $h) = map { my $b = encode_base64($_, ''); $b =~ s/=+$//; $b }
        $salt, $hash;
    Canary::secret($secret);
    Canary::note('policy', $secret);
    Canary::secret($h, 'hash');
    return $i ? "\$pbkdf2-sha256\$i=$i\$$s\$$h"
        : "\$scrypt\$ln=$ln,r=8,p=1\$$s\$$h";
}


sub json { return JSON::PP->new->canonical->pretty->encode($_[0]) }


# writes it as a whole

sub write_doc {
    my ($t, $doc, $name) = @_;
    $name //= 'policy.json';
    $t->write_file("$name.new", ref $doc ? json($doc) : $doc, 0600);
    Canary::mine("$t->{dir}/$name");
    rename "$t->{dir}/$name.new", "$t->{dir}/$name" or die $!;
}


sub basic {
    my ($user, $secret) = @_;
    return (Authorization => 'Basic ' . encode_base64("$user:$secret", ''));
}


# a private key: "EC", of P-256 unless said otherwise, "ED25519" or "RSA"

sub signing_key {
    my ($t, $name, $type, @args) = @_;
    $type //= 'EC';
    @args = ('-pkeyopt', 'ec_paramgen_curve:P-256') if $type eq 'EC' && !@args;
    my $file = "$t->{dir}/$name";
    system('openssl', 'genpkey', '-quiet', '-algorithm', $type, @args, '-out',
        $file) == 0 or die 'openssl genpkey';
    chmod 0600, $file;
    Canary::key($file);
    return $file;
}


sub base64url {
    my ($text) = @_;
    $text =~ tr!-_!+/!;
    return decode_base64($text . '=' x (-length($text) % 4));
}


# header and claims of a token

sub token {
    my ($token) = @_;
    my @p = split /\./, $token // '', -1;
    return if @p != 3;
    return map { decode_json(base64url($_)) } @p[0, 1];
}


# the name that RFC 7638 gives to a key

sub thumbprint {
    my ($file) = @_;
    my $der = `openssl pkey -in $file -pubout -outform DER`;
    my $b64 = sub {
        my $x = encode_base64($_[0], '');
        $x =~ tr!+/=!-_!d;
        return $x;
    };
    my $text = length $der == 44
        ? '{"crv":"Ed25519","kty":"OKP","x":"' . $b64->(substr $der, 12) . '"}'
        : '{"crv":"P-256","kty":"EC","x":"' . $b64->(substr $der, -64, 32)
            . '","y":"' . $b64->(substr $der, -32) . '"}';
    return $b64->(sha256($text));
}


# is the token signed by the key of this file?  Asked of openssl

sub signed {
    my ($t, $file, $token) = @_;
    my ($text, $sig) = $token =~ /^(.*)\.([^.]*)$/;
    $sig = base64url($sig);
    my $ed = `openssl pkey -in $file -noout -text` =~ /ED25519/i;
    if (!$ed) {
        my @int = map { s/^\0+//r } unpack 'a32a32', $sig;
        my $body = join '', map { my $i = ord($_) & 0x80 ? "\0$_" : $_;
            "\x02" . chr(length $i) . $i } @int;
        $sig = "\x30" . chr(length $body) . $body;
    }
    $t->write_file('signed.txt', $text);
    $t->write_file('signed.sig', $sig);
    my $d = $t->{dir};
    system("openssl pkey -in $file -pubout -out $d/signed.pub") == 0 or die;
    return system("openssl pkeyutl -verify -pubin -inkey $d/signed.pub"
        . " -sigfile $d/signed.sig -rawin -in $d/signed.txt"
        . ($ed ? '' : ' -digest sha256') . ' >/dev/null 2>&1') == 0;
}

1;
