package Policy;

# Policy documents for the tests.

use warnings;
use strict;

use JSON::PP;
use MIME::Base64;


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
    return $i ? "\$pbkdf2-sha256\$i=$i\$$s\$$h"
        : "\$scrypt\$ln=$ln,r=8,p=1\$$s\$$h";
}


sub json { return JSON::PP->new->canonical->pretty->encode($_[0]) }


# writes it as a whole

sub write_doc {
    my ($t, $doc, $name) = @_;
    $name //= 'policy.json';
    $t->write_file("$name.new", ref $doc ? json($doc) : $doc, 0600);
    rename "$t->{dir}/$name.new", "$t->{dir}/$name" or die $!;
}


sub basic {
    my ($user, $secret) = @_;
    return (Authorization => 'Basic ' . encode_base64("$user:$secret", ''));
}

1;
