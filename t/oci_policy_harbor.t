#!/usr/bin/perl

# oci-policy import-harbor: projects, members and robots of a Harbor whose API
# is scripted.

use warnings;
use strict;

use Test::More;
use File::Basename qw/ dirname /;
use JSON::PP;
use MIME::Base64;
use Time::HiRes qw/ sleep time /;

use lib dirname(__FILE__) . '/lib';
use OCI;
use Policy;
use Command;

plan(skip_all => 'oci-policy is not built, see "make commands"')
    unless -x $Command::BINARY;

my $t = OCI->new();
my $d = $t->{dir};
my $source = "file:$d/policy.json";
my ($true, $false) = (JSON::PP::true, JSON::PP::false);


# the API: what it has is read from a file, for each connection

my $harbor;
my $port = $t->upstream(sub {
    my ($c, $q) = @_;
    $harbor //= decode_json($t->read_file('harbor.json'));

    return $t->reply($c, $q, 401, {}, JSON::PP->new->encode({ errors => [{
        code => 'UNAUTHORIZED', message => "unauthorized \x1b[31m" }] }))
        if ($q->{h}{authorization} // '')
            ne 'Basic ' . encode_base64('robot$edge:canary-harbor', '');

    my ($path, $args) = split /\?/, $q->{uri}, 2;
    my %arg = map { my ($k, $v) = split /=/, $_, 2;
        $v =~ s/%([0-9A-F]{2})/chr hex $1/gie; ($k, $v) } split /&/, $args;
    my $list;

    return $t->reply($c, $q, 302, { Location => 'http://127.0.0.1:1/' })
        if $harbor->{mode} eq 'redirect';
    return $t->reply($c, $q, 200, {}, 'no JSON')
        if $harbor->{mode} eq 'nonsense';
    return $t->reply($c, $q, 200, {}, '{"projects":[]}')
        if $harbor->{mode} eq 'object';

    if ($path eq '/api/v2.0/projects') {
        $list = $harbor->{projects};

    } elsif ($path =~ m!^/api/v2.0/projects/(\d+)/members$!) {
        $list = $harbor->{members}{$1} // [];
        return $t->reply($c, $q, 403, {}, '{"errors":[{"code":"FORBIDDEN",'
            . '"message":"forbidden"}]}')
            if $harbor->{mode} eq 'forbidden' && $1 == 2;

    } elsif ($path eq '/api/v2.0/robots') {
        my ($id) = ($arg{q} // '') =~ /^Level=project,ProjectID=(\d+)$/;
        $list = $harbor->{robots}{$id // 0} // [];
    }

    return $t->reply($c, $q, 404, {}, '{"errors":[]}') unless $list;

    # pages as Harbor's

    my ($page, $size) = ($arg{page} || 1, $arg{page_size} || 10);
    return $t->reply($c, $q, 422, {}, '{}') if $size > 100;
    my $total = @$list;
    my @part = grep { defined } @$list[($page - 1) * $size
        .. $page * $size - 1];
    my @link;
    my $self = "$path?" . ($arg{q} ? "q=$arg{q}&" : '') . "page_size=$size";
    push @link, "<$self&page=" . ($page - 1) . '>; rel="prev"' if $page > 1;
    push @link, "<$self&page=" . ($page + 1) . '>; rel="next"'
        if $page * $size < $total;
    @part = () if $harbor->{mode} eq 'short' && $page > 1;
    my %h = ('Content-Type' => 'application/json',
        'X-Total-Count' => $total);
    $h{Link} = join ' , ', @link if @link;
    delete $h{'X-Total-Count'} if $harbor->{mode} eq 'links';
    return $t->reply($c, $q, 200, \%h, encode_json(\@part));
}, quiet => 1);


sub member {
    my ($name, $role, $type) = @_;
    return { id => 1, entity_name => $name, entity_type => $type // 'u',
        role_id => $role, entity_id => 5, role_name => 'x' };
}


sub robot {
    my ($name, $level, $permissions, %o) = @_;
    return { id => 7, name => $name, level => $level, duration => -1,
        editable => $true, disable => $false, expires_at => -1, %o,
        permissions => [ map { my ($space, @a) = @$_; {
            kind => $space eq '/' ? 'system' : 'project',
            namespace => $space, access => [ map { {
                resource => /^(\w+):/ ? $1 : 'repository',
                action => s/^\w+://r } } @a ] } } @$permissions ] };
}


$harbor = {
    mode => '',
    projects => [
        { project_id => 1, name => 'library',
            metadata => { public => 'true' } },
        { project_id => 2, name => 'llm', metadata => { public => 'false',
            prevent_vul => 'true' } },
        map { { project_id => $_, name => "p$_",
            metadata => { public => 'false' } } } 3 .. 120,
    ],
    members => {
        1 => [member('admin', 1)],
        2 => [member('alice', 1), member('bob', 2), member('carol', 3),
            member('dave', 4), member('erin', 5), member('ml', 2, 'g'),
            member('with space', 2), member('frank', 9),
            (map { member("u$_", 3) } 1 .. 205)],
    },
    robots => {
        0 => [robot('robot$mirror', 'system', [['*', 'pull'],
                ['/', 'catalog:read']]),
            robot('robot$pusher', 'system', [['llm', 'push'],
                ['p3', 'pull', 'push', 'delete', 'artifact:read']])],
        2 => [robot('robot$llm+ci', 'project', [['llm', 'push']]),
            robot('robot$llm+off', 'project', [['llm', 'pull']],
                disable => $true),
            robot('robot$llm+old', 'project', [['llm', 'pull']],
                expires_at => 1700000000),
            robot('robot$llm+soon', 'project', [['llm', '*']],
                expires_at => int(time()) + 36000)],
    },
};

sub harbor {
    my ($mode) = @_;
    $harbor->{mode} = $mode // '';
    $t->write_file('harbor.new', encode_json($harbor));
    rename "$d/harbor.new", "$d/harbor.json" or die $!;
}

$t->write_file('harbor.pass', "canary-harbor\n", 0600);
$t->write_file('wrong.pass', "canary-wrong\n", 0600);

my @user = ('--harbor-user', 'robot$edge', '--harbor-password-file',
    "$d/harbor.pass");

my @all;

sub import_harbor {
    my $r = Command::policy($t, '--source', $source, 'import-harbor',
        "http://127.0.0.1:$port", @user, @_);
    push @all, $r;
    return $r;
}

sub of_file { return decode_json($t->read_file('policy.json')) }

sub check {
    my ($who, $action, $repository) = @_;
    return Command::policy($t, '--source', $source, 'check', $who, $action,
        $repository)->{rc};
}


harbor();
my $r = import_harbor('--dry-run');
is($r->{rc}, 0, 'a dry run') or diag $r->{err};
ok(!-e "$d/policy.json", 'writes nothing');

$r = import_harbor();
is($r->{rc}, 0, 'import') or diag $r->{err};
my $doc = of_file();

is(scalar keys %{$doc->{projects}}, 120, 'all pages of projects');
is_deeply($doc->{projects}{library}, { public => $true }, 'a public one');
is_deeply($doc->{projects}{llm}, { public => $false }, 'a private one');

my %role = (alice => 'projectAdmin', bob => 'developer', carol => 'guest',
    dave => 'maintainer', erin => 'limitedGuest');
for (sort keys %role) {
    my $grant = $doc->{grants}{"harbor:llm:$role{$_}"};
    is($grant->{role}, $role{$_}, "$role{$_}: the role");
    my $who = $_;
    ok((grep { $_ eq $who } @{$grant->{subjects}}), "$role{$_}: who");
    is_deeply($grant->{repositories}, ['llm/**'], "$role{$_}: what");
}

is_deeply($doc->{grants}{'harbor:llm:developer'}{groups}, ['ml'], 'a group');
is(scalar @{$doc->{grants}{'harbor:llm:guest'}{subjects}}, 206,
    'all pages of members');
is_deeply($doc->{subjects}{bob}, {}, 'a user is a subject');
like($r->{err}, qr/"with space" of project "llm" is left out: a name has no/,
    'a name that is none here is told');
like($r->{err}, qr/"frank" of project "llm" is left out: its role has/,
    'a role that is not known, too');
like($r->{err}, qr/Harbor does not give away secrets/, 'what is not there');

is_deeply($doc->{roles}{'harbor:pull+push'}, ['pull', 'push'],
    'a role for robots');

for (
    ['robot$llm+ci', 'push', 'llm/a', 0, 'a robot of a project'],
    ['robot$llm+ci', 'pull', 'llm/a', 0, 'there "push" has "pull"'],
    ['robot$llm+ci', 'delete', 'llm/a', 1, 'but not "delete"'],
    ['robot$llm+ci', 'pull', 'p3/a', 1, 'nor another project'],
    ['robot$pusher', 'push', 'llm/a', 0, 'a robot of the system'],
    ['robot$pusher', 'pull', 'llm/a', 1, 'there "push" has no "pull"'],
    ['robot$pusher', 'delete', 'p3/a', 0, 'in several projects'],
    ['robot$mirror', 'pull', 'p120/a/b', 0, 'in all projects'],
    ['robot$mirror', 'push', 'p250/a', 1, 'only what is granted'],
    ['robot$mirror', 'pull', 'elsewhere/a', 1, 'no others of the edge'],
    ['robot$llm+off', 'pull', 'llm/a', 1, 'a disabled one'],
    ['robot$llm+old', 'pull', 'llm/a', 1, 'an expired one'],
    ['robot$llm+soon', 'delete', 'llm/a', 0, '"*" is all'],
    ['erin', 'pull', 'llm/a', 0, 'a limited guest'],
    ['erin', 'push', 'llm/a', 1, 'may not push'],
    ['bob', 'delete', 'llm/a', 1, 'a developer may not delete'],
    ['dave', 'delete', 'llm/a', 0, 'a maintainer may'],
    ['-', 'pull', 'library/a', 0, 'anybody in a public project'],
    ['-', 'pull', 'llm/a', 1, 'not in a private one'],
) {
    my ($who, $action, $repository, $rc, $name) = @$_;
    is(check($who, $action, $repository), $rc, $name);
}

is(import_harbor()->{out}, "nothing differs\n", 'once more');


# what was set here stays

Command::policy($t, '--source', $source, 'secret', 'robot$llm+ci',
    '--pbkdf2', '--cost', '1000', { in => 'x' });
Command::policy($t, '--source', $source, 'disable', 'bob');
$doc = of_file();
$doc->{subjects}{local} = { groups => ['ml'] };
$doc->{grants}{own} = { role => 'guest', subjects => ['local'],
    repositories => ['elsewhere/**'] };
$doc->{projects}{elsewhere} = { public => $true };
Policy::write_doc($t, $doc);

push @{$harbor->{members}{1}}, member('grace', 3);
$harbor->{projects}[2]{metadata}{public} = 'true';
harbor();
$r = import_harbor();
is($r->{rc}, 0, 'import of what changed') or diag $r->{err};
is_deeply([sort split /\n/, $r->{out}], [
    '+ grants/harbor:library:guest {"repositories":["library/**"],'
        . '"role":"guest","subjects":["grace"]}',
    '+ subject/grace {}',
    '~ project/p3 public: false -> true',
], 'changes that only') or diag $r->{out};
ok(of_file()->{subjects}{'robot$llm+ci'}{secret}, 'a secret stays');
ok(of_file()->{subjects}{bob}{disabled}, 'disabled stays so');
like($r->{err}, qr/"bob" is not disabled at Harbor, but here/, 'and is told');
is_deeply(of_file()->{grants}{own}, $doc->{grants}{own}, 'a grant stays');
like($r->{err}, qr/project "elsewhere" is not at Harbor.* public/,
    'what is not of Harbor is told');


# what is gone

$harbor->{robots}{2} = [grep { $_->{name} !~ /ci$/ }
    @{$harbor->{robots}{2}}];
$harbor->{members}{2} = [grep { $_->{entity_name} ne 'carol' }
    @{$harbor->{members}{2}}];
harbor();
$r = import_harbor();
is($r->{rc}, 0, 'import without a robot and a member') or diag $r->{err};
ok(of_file()->{subjects}{'robot$llm+ci'}{disabled},
    'a robot that is gone is disabled');
like($r->{err}, qr/robot "robot\$llm\+ci" is not at Harbor any more/, 'told');
is(check('carol', 'pull', 'llm/a'), 1, 'a member that is gone has nothing');
like($r->{err}, qr/subject "carol" is in no project of Harbor/, 'told');


# pages

harbor('links');
is(import_harbor()->{out}, "nothing differs\n", 'pages by Link only');
harbor('short');
my $before = $t->read_file('policy.json');
$r = import_harbor();
is($r->{rc}, 4, 'fewer than there are');
like($r->{err}, qr/Harbor has 120 projects, and lists 100/, 'why');


# what can't be read is not guessed

harbor('forbidden');
$r = import_harbor();
is($r->{rc}, 4, 'members that are not shown');
like($r->{err}, qr/403 to a request for members of project "llm"/, 'whose');
{
    local $harbor->{projects} = [];
    harbor();
    is(import_harbor()->{rc}, 4, 'no projects at all');
}
harbor('nonsense');
is(import_harbor()->{rc}, 4, 'no JSON');
harbor('object');
is(import_harbor()->{rc}, 4, 'no array');
harbor('redirect');
$r = import_harbor();
is($r->{rc}, 4, 'a redirect');
like($r->{err}, qr/answers 302/, 'is not followed');
harbor();
my @right = @user;
$user[3] = "$d/wrong.pass";
$r = import_harbor();
is($r->{rc}, 4, 'a wrong password');
like($r->{err}, qr/401.*unauthorized \\x1b\[31m.*that user and password/s,
    'why');
@user = ();
is(import_harbor()->{rc}, 2, 'no user');
@user = @right;
is($t->read_file('policy.json'), $before, 'nothing was written');

for ('ftp://h', 'http://harbor.example', 'https://u:canary-p@h', 'https://',
    'https://h/?x')
{
    $r = Command::policy($t, '--source', $source, 'import-harbor', $_, @user);
    is($r->{rc}, 2, "URL $_");
    push @all, $r;
}

unlike(join('', map { "$_->{out}$_->{err}" } @all), qr/canary/,
    'no secret is shown');
unlike(join('', map { "$_->{out}$_->{err}" } @all), qr/[^\x20-\x7e\n]/,
    'nothing raw is printed');

$t->done();
