package Cosign;

# Keys, and signatures in both of cosign's forms, made by OpenSSL.

use warnings;
use strict;

use Digest::SHA qw/ sha256_hex /;
use JSON::PP;
use MIME::Base64;
use OCI;

our $SIMPLE = 'application/vnd.dev.cosign.simplesigning.v1+json';
our $BUNDLE = 'application/vnd.dev.sigstore.bundle.v0.3+json';
our $EMPTY = 'application/vnd.oci.empty.v1+json';
our $INDEX = 'application/vnd.oci.image.index.v1+json';
our $SIGN = 'https://sigstore.dev/cosign/sign/v1';

my %algorithm = (
    ec => [qw/ EC -pkeyopt ec_paramgen_curve:P-256 /],
    rsa => [qw/ RSA -pkeyopt rsa_keygen_bits:2048 /],
    ed25519 => [qw/ ED25519 /],
);


# a key of a kind, in the test's directory; its public half in PEM

sub new {
    my ($class, $t, $name, $kind) = @_;
    $kind //= 'ec';
    my $file = "$t->{dir}/$name.key";
    system('openssl', 'genpkey', '-quiet', '-algorithm',
        @{$algorithm{$kind}}, '-out', $file) == 0
        or system("openssl genpkey -algorithm @{$algorithm{$kind}} -out $file "
            . '2>/dev/null') == 0 or die 'openssl genpkey';
    my $pem = `openssl pkey -in $file -pubout`;
    return bless { t => $t, file => $file, kind => $kind, pem => $pem },
        $class;
}


sub json { return JSON::PP->new->canonical->encode($_[0]) }


# raw, in base64

sub sign {
    my ($self, $text) = @_;
    my $t = $self->{t};
    $t->write_file('tbs', $text);
    my @how = $self->{kind} eq 'ed25519'
        ? ('pkeyutl', '-sign', '-rawin', '-inkey', $self->{file}, '-in',
            "$t->{dir}/tbs")
        : ('dgst', '-sha256', '-sign', $self->{file}, "$t->{dir}/tbs");
    open my $f, '-|', 'openssl', @how or die $!;
    binmode $f;
    local $/;
    my $sig = <$f>;
    close $f or die 'openssl';
    return encode_base64($sig, '');
}


# what simple signing signs

sub payload {
    my ($digest, %o) = @_;
    return json({ critical => {
        identity => { 'docker-reference' => $o{reference} // 'a/b' },
        image => { 'docker-manifest-digest' => $digest },
        type => $o{type} // 'cosign container image signature' },
        optional => undef });
}


# (payload, signature) pairs, as the manifest under cosign's tag

sub simple_manifest {
    my ($t, $config, @signatures) = @_;
    return json({ schemaVersion => 2, mediaType => $OCI::TYPE{manifest},
        config => { mediaType => 'application/vnd.oci.image.config.v1+json',
            size => length $config, digest => $t->digest($config) },
        layers => [map { { mediaType => $SIMPLE, size => length $_->[0],
            digest => $t->digest($_->[0]), annotations => {
                'dev.cosignproject.cosign/signature' => $_->[1] } } }
            @signatures] });
}


sub statement {
    my ($digest, %o) = @_;
    my ($alg, $hex) = split /:/, $digest;
    return json({ _type => 'https://in-toto.io/Statement/v1',
        subject => [{ digest => { $alg => $hex } }],
        predicateType => $o{predicate} // $SIGN, predicate => {} });
}


sub bundle {
    my ($self, $statement, %o) = @_;
    my $type = 'application/vnd.in-toto+json';
    my $pae = join ' ', 'DSSEv1', length $type, $type, length $statement,
        $statement;
    return json({ mediaType => $BUNDLE, verificationMaterial => {
        publicKey => { hint => 'x' }, tlogEntries => [] },
        dsseEnvelope => { payload => encode_base64($o{payload} // $statement,
            ''), payloadType => $o{type} // $type,
            signatures => [{ sig => $self->sign($pae) }] } });
}


# a bundle's manifest

sub referrer {
    my ($t, $subject, $size, $bundle, %o) = @_;
    return json({ schemaVersion => 2, mediaType => $OCI::TYPE{manifest},
        artifactType => $BUNDLE,
        config => { mediaType => $EMPTY, size => 2,
            digest => $t->digest('{}') },
        layers => [{ mediaType => $BUNDLE, size => length $bundle,
            digest => $t->digest($bundle) }],
        subject => { mediaType => $OCI::TYPE{manifest}, size => $size,
            digest => $subject },
        annotations => {
            'dev.sigstore.bundle.content' => 'dsse-envelope',
            'dev.sigstore.bundle.predicateType' => $o{predicate} // $SIGN } });
}


# a list of manifests; of a type, as referrers are

sub list {
    my ($t, $type, @manifests) = @_;
    return json({ schemaVersion => 2, mediaType => $INDEX,
        manifests => [map { { mediaType => $OCI::TYPE{manifest},
            size => length $_, digest => $t->digest($_),
            $type ? (artifactType => $type) : () } } @manifests] });
}


# as cosign does it where there is no API of referrers; repository on port

sub attach {
    my ($self, $repo, $digest, %o) = @_;
    my $t = $self->{t};
    my @to = ($o{port} || $t->{registry}, $o{h} || {});
    my $payload = $o{payload} // payload($digest);
    my $config = '{}';
    put_blob($t, $repo, $_, @to) for $config, $payload;
    (my $tag = "$digest.sig") =~ s/:/-/;
    my $m = simple_manifest($t, $config,
        [$payload, $self->sign($o{signed} // $payload)]);
    put_manifest($t, $repo, $tag, $m, $OCI::TYPE{manifest}, @to);
    return $m;
}


sub attach_bundle {
    my ($self, $repo, $digest, $size, %o) = @_;
    my $t = $self->{t};
    my @to = ($o{port} || $t->{registry}, $o{h} || {});
    my $bundle = $self->bundle($o{statement} // statement($digest), %o);
    put_blob($t, $repo, $_, @to) for '{}', $bundle;
    my $m = referrer($t, $digest, $size, $bundle);
    put_manifest($t, $repo, $t->digest($m), $m, $OCI::TYPE{manifest}, @to);
    (my $tag = $digest) =~ s/:/-/;
    put_manifest($t, $repo, $tag, list($t, $EMPTY, $m), $INDEX, @to);
    return $m;
}


sub put_blob {
    my ($t, $repo, $data, $port, $h) = @_;
    my $r = $t->http($port, 'POST', "/v2/$repo/blobs/uploads/",
        { 'Content-Length' => 0, %$h });
    die "POST: $r->{status} $r->{body}" if $r->{status} != 202;
    my $l = $r->{h}{location};
    $l =~ s!^https?://[^/]+!!;
    $l .= ($l =~ /\?/ ? '&' : '?') . 'digest=' . $t->digest($data);
    $r = $t->http($port, 'PUT', $l,
        { 'Content-Type' => 'application/octet-stream', %$h }, $data);
    die "PUT: $r->{status} $r->{body}" if $r->{status} != 201;
}


sub put_manifest {
    my ($t, $repo, $ref, $body, $type, $port, $h) = @_;
    my $r = $t->http($port, 'PUT', "/v2/$repo/manifests/$ref",
        { 'Content-Type' => $type, %$h }, $body);
    die "PUT manifest: $r->{status} $r->{body}" if $r->{status} != 201;
}

1;
