#!/usr/bin/perl

# S16: injection into headers.  CR, LF, NUL and other control bytes, raw and
# escaped, folded lines, blanks: in each header of a registry that the edge
# reads, keeps, or makes another text of; in realms, tokens and redirects that
# become requests; and in what clients send.
#
#   - no answer to a client has a header or a status line that was in another
#     one's value: not of the answer itself, not of what was kept of it; what
#     is no HTTP/1 is 502;
#   - no request to the registry, its token service or its store has one;
#   - the log and the status page have each event on one line, without control
#     bytes, and nothing that was injected stands at the beginning of a line;
#   - what is kept in refs/ and manifests/ is given back as it was, or refused.
#
# See also s09_smuggling.t, hostile.t (what is logged).

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;

use lib dirname(__FILE__) . '/lib';
use OCI;

my $t = OCI->new(workers => 2);
my $d = $t->{dir};
my $manifest = '{"schemaVersion":2}';
my $digest = $t->digest($manifest);
my $blob = 'the blob, ' x 30_000;
my $bdigest = $t->digest($blob);
my $inject = 'X-Injected: yes';

# between a value and what is injected

my %break = (
    crlf => "\r\n", lf => "\n", cr => "\r", nul => "\0", crcr => "\r\r",
    lfcr => "\n\r", nulcrlf => "\0\r\n", fold => "\r\n ", vt => "\x0b",
    ff => "\x0c", nel => "\xc2\x85", nel8 => "\x85", ls => "\xe2\x80\xa8",
    esc => "\e[2K\e[1G", del => "\x7f", bs => "\b\b\b", blank => ' ',
    tab => "\t", escaped => '%0d%0a', twice => '%250d%250a',
    entity => '&#13;&#10;', backslash => '\r\n', uni => "\xe5\x98\x8a",
);
my @breaks = sort keys %break;

# headers that the edge reads, by what they are in

my %value = (
    'content-type' => $OCI::TYPE{manifest}, 'docker-content-digest' => $digest,
    etag => "\"$digest\"", warning => '299 - "old"', link => '</v2/x>; rel=x',
    location => '/v2/m/blobs/uploads/1', 'retry-after' => '1',
    'www-authenticate' => 'Bearer realm="http://127.0.0.1/token",service="s"',
    'content-range' => 'bytes 0-0/' . length $blob,
    'oci-subject' => $digest, 'docker-upload-uuid' => 'u',
);
my @fields = sort keys %value;

# raw: a line of the header is as it is given

sub raw_reply {
    my ($c, $q, $status, $lines, $body) = @_;
    print $c "HTTP/1.1 $status\r\n", (map { "$_\r\n" } @$lines),
        'Content-Length: ' . length($body) . "\r\n\r\n",
        $q->{method} eq 'HEAD' ? '' : $body;

    # what is left of an injected answer is not read as one

    return 0;
}

# what is asked of whom: how often, and what is odd

sub note_request {
    my ($who, $q) = @_;
    open my $f, '>>', "$d/asked.$who" or die;
    syswrite $f, ((exists $q->{h}{'x-injected'}
        || $q->{uri} =~ /[\0-\x20\x7f]/) ? "$q->{method} $q->{uri}\n" : "\n");
    close $f;
}

my $service = $t->upstream(sub {
    my ($c, $q) = @_;
    note_request('service', $q);
    my ($name) = $q->{uri} =~ m!/token/(\w+)!;
    return raw_reply($c, $q, "200 OK$break{$1}$inject", [], '{}')
        if $q->{uri} =~ /[?]reason=(\w+)/;
    my $text = $break{$name // ''} // '';
    $text = join '', map { sprintf '\u%04x', ord } split //, "t$text$inject";
    return $t->reply($c, $q, 200, {}, qq({"token":"$text"}));
}, quiet => 1);

my $store = $t->upstream(sub {
    my ($c, $q) = @_;
    note_request('store', $q);
    return $t->reply_blob($c, $q, $blob);
}, quiet => 1);

# /v2/<place>/<field>/<break>/...: what is wrong, and where

my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    note_request('registry', $q);
    my ($place, $field, $break, $kind, $ref)
        = $q->{uri} =~ m!^/v2/(\w+)/([\w-]+)/(\w+)/(\w+)/(\S*)!;
    if (!defined $kind) {
        return $t->reply($c, $q, 200, {}, '{}');
    }
    my $b = $break{$break} // '';
    my @lines = $kind eq 'manifests'
        ? ("Content-Type: $OCI::TYPE{manifest}",
            "Docker-Content-Digest: $digest") : ();
    my ($status, $body) = (200, $kind eq 'manifests' ? $manifest : '{}');

    if ($place eq 'token') {
        return $t->reply($c, $q, 200, { map { split /: / } @lines }, $body)
            if ($q->{h}{authorization} // '') =~ /^Bearer/;
        my $realm = "http://127.0.0.1:$service/token";
        my %text = (realm => "$realm/x$b${inject}\",service=\"s\"",
            service => "$realm\",service=\"s$b$inject\"",
            scope => "$realm\",scope=\"repository:x:pull$b$inject\"",
            token => "$realm/$break\"");
        return raw_reply($c, $q, 401, [ 'WWW-Authenticate: Bearer realm="'
            . $text{$field} ], '{}');
    }
    if ($place eq 'garbage') {
        print $c "${b}HTTP/1.1 200 X\r\n$inject\r\n\r\n";
        return 0;
    }
    if ($place eq 'moved') {
        return raw_reply($c, $q, 307,
            [ "Location: http://127.0.0.1:$store/x$b$inject" ], '');
    }
    if ($field eq 'status') {
        return raw_reply($c, $q, "200 OK$b$inject", \@lines, $body);
    }
    if ($field eq 'name') {
        return raw_reply($c, $q, 200, [ @lines, "X-A${b}X-Injected: yes" ],
            $body);
    }
    return $t->reply_blob($c, $q, $blob, { })
        if $kind eq 'blobs' && $place eq 'good';
    my $line = "$field: $value{$field}$b$inject";
    @lines = grep { !/^\Q$field\E:/i } @lines;
    $status = 401 if $field eq 'www-authenticate';
    $status = 429 if $field eq 'retry-after' && $place eq 'limit';
    $status = 202 if $q->{method} eq 'POST';
    $status = 206 if $field eq 'content-range';
    return raw_reply($c, $q, $status, [ @lines, $line ],
        $status == 206 ? 'x' : $body);
}, quiet => 1);

my $h2port = OCI::port();

$t->conf(server => "listen 127.0.0.1:$h2port http2;", http => <<EOC,
log_format oci '\$remote_addr \$status \$oci_route \$oci_repository '
    '\$oci_reference \$oci_digest \$oci_cache_status "\$request" '
    '"\$http_user_agent" "\$sent_http_content_type"';
access_log $d/oci.log oci;
oci_registry demo {
    url http://127.0.0.1:$port;
    breaker off;
    redirect_allow 127.0.0.1:$store;
}
oci_registry robot {
    url http://127.0.0.1:$port;
    breaker off;
    credentials anonymous;
    realm_allow 127.0.0.1:$service;
}
oci_registry mapped {
    url http://127.0.0.1:$port;
    breaker off;
    path here pass;
}
map \$uri \$registry {
    ~^/v2/token/ robot; ~^/v2/here/ mapped; default demo;
}
EOC
    location => <<EOL);
location /v2/ {
    oci_pass \$registry;
    oci_cache models;
    oci_access open;
    oci_cache_valid manifest 1h;
}
location = /token { oci_token robot; }
EOL
$t->start();

# the registry itself may send two lines: that is a header of its own

sub own { return $_[0] =~ /^(?:crlf|lf|lfcr|nulcrlf)$/ }

my (%bad, %seen);
my $h2 = `curl -V 2>/dev/null` =~ /HTTP2/;

sub look {
    my ($what, $break, $text) = @_;
    my ($head) = split /\r?\n\r?\n/, $text;
    $bad{"$what: $break: a header"} = 1
        if !own($break) && ($head // '') =~ /(?:^|[\r\n\0])X-Injected/im;
    $bad{"$what: $break: a status"} = 1
        if ($head // '') !~ m!^HTTP/1\.1 \d\d\d\b!;
    $bad{"$what: $break: a control byte"} = 1
        if ($head // '') =~ /\r[^\n]|\0/;
    $seen{$1 // 'none'}++ if ($head // '') =~ m!^HTTP/1\.1 (\d+)!;
}

sub ask {
    my ($method, $uri) = @_;
    my $length = $method eq 'POST' ? "Content-Length: 0\r\n" : '';
    return $t->raw("$method $uri HTTP/1.1\r\nHost: edge.test\r\n"
        . "Connection: close\r\n$length\r\n", 20);
}

# each field, in what is passed, kept and read; twice, as what was kept comes
# back

my @cases;
for my $break (@breaks) {
    for my $field (@fields, qw/ status name /) {
        push @cases, [ 'GET', "/v2/pass/$field/$break/tags/list", $break ],
            [ 'GET', "/v2/keep/$field/$break/manifests/v1", $break ],
            [ 'GET', "/v2/keep/$field/$break/manifests/$digest", $break ],
            [ 'GET', "/v2/keep/$field/$break/manifests/v1", $break ];
        push @cases, [ 'GET', "/v2/keep/$field/$break/blobs/"
            . $t->digest("$field $break"), $break ]
            if $field =~ /content-range|location|status/
                && $break =~ /^(?:cr|lf|nul|blank|esc)$/;
        push @cases, [ 'POST', "/v2/here/$field/$break/blobs/uploads/",
            $break ] if $field =~ /location|link/;
    }
    push @cases, [ 'GET', "/v2/moved/x/$break/blobs/$bdigest", $break ];
    push @cases, map { [ 'GET', "/v2/token/$_/$break/manifests/v1", $break ] }
        qw/ realm service scope token /;
    push @cases, [ 'GET', "/token?reason=$break", $break ],
        [ 'GET', "/v2/garbage/x/$break/tags/list", $break ];
}

my $clients = 8;
my @out = map { split /=SPLIT=/ } $t->parallel($clients, sub {
    my ($i) = @_;
    return join '=SPLIT=', map { "$_=" . ask(@{$cases[$_]}[0, 1]) }
        grep { $_ % $clients == $i } 0 .. $#cases;
});
is(scalar(@out), scalar(@cases), 'all were tried');
for (@out) {
    my ($i, $text) = /^(\d+)=(.*)/s;

    # a blob that is wrong is cut, before its header if it is short

    next if $text eq '' && $cases[$i][1] =~ /keep.*blobs/;
    look("$cases[$i][0] $cases[$i][1]", $cases[$i][2], $text);
}
ok($seen{200} && $seen{401} && $seen{502}, 'passed, refused')
    or diag(explain(\%seen));

# what is no HTTP/1 is nobody's answer, over HTTP/2 as well

SKIP: {
    skip 'curl has no HTTP/2', 1 unless $h2;
    my $url = "http://127.0.0.1:$h2port/v2/garbage/x/cr/tags/list";
    my $curl = "curl -s --http2-prior-knowledge -o $d/x";
    my $code = `$curl -w '%{http_code}' $url`;
    is($code, 502, 'HTTP/2: no HTTP/1 from the registry');
}

# what clients send: the request line, queries, headers

my @lines;
for my $break (@breaks) {
    my $b = $break{$break};
    my %line = (
        query => "GET /v2/pass/x/x/tags/list?n=1$b$inject HTTP/1.1\r\n",
        path => "GET /v2/pass/x$b$inject/x/tags/list HTTP/1.1\r\n",
        last => "GET /v2/_catalog?last=a${b}HTTP/1.1$b$inject HTTP/1.1\r\n",
        mount => "POST /v2/pass/x/blobs/uploads/?mount=$bdigest&from=a$b"
            . "$inject HTTP/1.1\r\nContent-Length: 0\r\n",
        token => "GET /token?scope=a$b$inject HTTP/1.1\r\n",
        (map { ($_ => "GET /v2/keep/etag/none/manifests/v1 HTTP/1.1\r\n"
            . "$_: a$b$inject\r\n") } qw/ Accept Authorization Range If-Range
            If-None-Match If-Match User-Agent Cookie X-Forwarded-For /),
    );

    # a client that sends CRLF sends two lines

    push @lines, map { [ $_, $break, $line{$_} ] } grep {
        !own($break) && $break ne 'fold' } sort keys %line;
}

@out = map { split /=SPLIT=/ } $t->parallel($clients, sub {
    my ($i) = @_;
    return join '=SPLIT=', map {
        "$_=" . $t->raw("$lines[$_][2]Host: e\r\nConnection: close\r\n"
            . "\r\n", 2)
    } grep { $_ % $clients == $i } 0 .. $#lines;
});
is(scalar(@out), scalar(@lines), 'all were sent');
for (@out) {
    my ($i, $text) = /^(\d+)=(.*)/s;
    look("client, $lines[$i][0]", $lines[$i][1], $text) if $text ne '';
}

is(join("\n", sort keys %bad), '', 'no answer has what was injected');

# requests: the registry's, the token service's, the store's

for my $who (qw/ registry service store /) {
    my @asked = split /\n/, $t->read_file("asked.$who"), -1;
    my @odd = grep { $_ ne '' } @asked;
    is(join("\n", @odd[0 .. ($#odd < 9 ? $#odd : 9)]), '',
        "$who: no request has it");
    cmp_ok(scalar(@asked), '>', 2, "$who: was asked");
}

# logs

for my $name (qw/ error.log access.log oci.log /) {
    my $text = $t->read_file($name);

    # nginx's own lines about what is no request have it as it came

    my @lines = grep { !/client sent invalid/ } split /\n/, $text;

    # and what sanitizers say of its own files, of three lines

    if ($OCI::ASAN && $name eq 'error.log') {
        @lines = grep { !m!^src/\S+: runtime error: ! && !/^0x\w+: note: /
            && !/^ ?[\da-f ]+$/ && !/^\s*\^\s*$/ } @lines;
    }

    my $start = $name eq 'error.log' ? qr!^\d{4}/\d\d/\d\d !
        : qr/^127\.0\.0\.1 /;
    my @wrong = grep { $_ !~ $start } @lines;
    is(join("\n", @wrong[0 .. ($#wrong < 4 ? $#wrong : 4)]), '',
        "$name: an event is a line");
    @wrong = grep { /[\0-\x08\x0a-\x1f\x7f]/ } @lines;
    is(join("\n", @wrong[0 .. ($#wrong < 4 ? $#wrong : 4)]), '',
        "$name: no control bytes");
}
unlike($t->get('/oci_status')->{body} . $t->get('/metrics')->{body},
    qr/Injected/, 'nothing of it in the status');

# somebody else is not concerned

my $r = $t->get("/v2/good/x/x/blobs/$bdigest");
ok($r->{body} eq $blob, 'the edge lives');
$r = $t->get('/v2/keep/etag/none/manifests/new');
is($r->{body}, $manifest, 'a manifest');

$t->done();
