
/*
 * Copyright (C) The nginx-oci authors
 *
 * import-harbor: projects, members and robots of a Harbor become entries of
 * a document.  Its grants and roles are those whose names begin with
 * "harbor:": they are made anew each time, nothing else is ever removed.
 */


#include "op.h"
#include "ngx_oci_policy_doc.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


#define OP_HARBOR_OURS  "harbor:"


typedef struct {
    json_t  *projects;          /* name: {"public": ...} */
    json_t  *subjects;          /* name: true, if it is kept out */
    json_t  *robots;            /* name: true; of these subjects */
    json_t  *grants;
    json_t  *roles;
    json_t  *notes;             /* array of texts, of the mapping */
    json_t  *told;              /* likewise, of the last edit */
} op_map_t;


static void op_map_project(op_map_t *map, json_t *project);
static void op_map_member(op_map_t *map, const char *project,
    json_t *member);
static void op_map_grant(op_map_t *map, const char *project,
    const char *role, const char *list, const char *who);
static void op_map_robot(op_map_t *map, json_t *robot);
static void op_map_permission(op_map_t *map, const char *name,
    json_t *permission, int system);
static unsigned op_map_actions(json_t *access, int system);
static unsigned op_map_bit(const char *action);
static json_t *op_map_patterns(op_map_t *map, const char *space);
static void op_map_robot_grant(op_map_t *map, const char *name,
    const char *space, unsigned actions);
static const char *op_map_subject(const char *name);
static int op_map_edit(json_t *doc, void *data);
static void op_map_vanished(op_map_t *map, json_t *doc);
static void op_map_vanished_one(op_map_t *map, json_t *doc,
    const char *name, int robot);
static void op_map_kept(op_map_t *map, json_t *doc);
static void op_map_ours(json_t *doc, const char *section, json_t *made);
static json_t *op_map_section(json_t *doc, const char *name);
static void op_map_note(json_t *notes, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));
static void op_map_notes(json_t *notes);
static void op_map_set(json_t *object, const char *name, json_t *value);
static char *op_map_text(const char *a, const char *b, const char *c,
    const char *d);


int
op_cmd_import_harbor(op_opts_t *o, int argc, char **argv)
{
    int           rc;
    size_t        i;
    json_t       *value;
    op_map_t      map;
    op_harbor_t   harbor;

    (void) argc;

    rc = op_harbor_fetch(o, argv[0], &harbor);

    if (rc != OP_OK) {
        op_harbor_free(&harbor);
        return rc;
    }

    if (json_array_size(harbor.projects) == 0) {
        op_error("Harbor shows no project to that account: nothing was "
                 "changed");
        op_harbor_free(&harbor);
        return OP_FAILED;
    }

    map.projects = op_memory(json_object());
    map.subjects = op_memory(json_object());
    map.robots = op_memory(json_object());
    map.grants = op_memory(json_object());
    map.roles = op_memory(json_object());
    map.notes = op_memory(json_array());
    map.told = op_memory(json_array());

    json_array_foreach(harbor.projects, i, value) {
        op_map_project(&map, value);
    }

    json_array_foreach(harbor.robots, i, value) {
        op_map_robot(&map, value);
    }

    op_harbor_free(&harbor);

    rc = op_update(o, op_map_edit, &map, OP_CREATE);

    op_map_notes(map.notes);
    op_map_notes(map.told);

    if (rc == OP_OK) {
        op_note("Harbor does not give away secrets of robots and passwords "
                "of users (\"oci-policy secret\" sets them here, where they "
                "are needed), who is in which group, who is system "
                "administrator, and rules of projects on signatures and "
                "vulnerabilities");
    }

    json_decref(map.projects);
    json_decref(map.subjects);
    json_decref(map.robots);
    json_decref(map.grants);
    json_decref(map.roles);
    json_decref(map.notes);
    json_decref(map.told);

    return rc;
}


static void
op_map_project(op_map_t *map, json_t *project)
{
    int          public;
    size_t       i;
    json_t      *value, *meta;
    const char  *name, *why, *text;

    name = json_string_value(json_object_get(project, "name"));

    why = ngx_oci_pattern_check(name, strlen(name));

    if (why || strpbrk(name, "/*")) {
        op_map_note(map->notes, "project \"%s\" is left out: it is no first "
                    "component of repositories' names", name);
        return;
    }

    /* "true" or "1", as Harbor has it */

    meta = json_object_get(json_object_get(project, "metadata"), "public");
    text = json_string_value(meta);
    public = text && (strcasecmp(text, "true") == 0
                      || strcmp(text, "1") == 0);

    op_map_set(map->projects, name,
               json_pack("{s:b}", "public", public));

    json_array_foreach(json_object_get(project, "members"), i, value) {
        op_map_member(map, name, value);
    }

    json_array_foreach(json_object_get(project, "robots"), i, value) {
        op_map_robot(map, value);
    }
}


static void
op_map_member(op_map_t *map, const char *project, json_t *member)
{
    int          group;
    json_t      *id;
    const char  *name, *type, *why;

    static const char  *roles[] = {
        NULL, "projectAdmin", "developer", "guest", "maintainer",
        "limitedGuest"
    };

    name = json_string_value(json_object_get(member, "entity_name"));
    type = json_string_value(json_object_get(member, "entity_type"));
    id = json_object_get(member, "role_id");

    if (name == NULL || type == NULL || !json_is_integer(id)) {
        op_map_note(map->notes, "a member of project \"%s\" without name, "
                    "type and role is left out", project);
        return;
    }

    if (json_integer_value(id) < 1 || json_integer_value(id) > 5) {
        op_map_note(map->notes, "\"%s\" of project \"%s\" is left out: its "
                    "role has number %lld", name, project,
                    (long long) json_integer_value(id));
        return;
    }

    group = (strcmp(type, "g") == 0);
    why = group ? ngx_oci_doc_name(name) : op_map_subject(name);

    if (why) {
        op_map_note(map->notes, "\"%s\" of project \"%s\" is left out: %s",
                    name, project, why);
        return;
    }

    if (!group && json_object_get(map->subjects, name) == NULL) {
        op_map_set(map->subjects, name, json_false());
    }

    op_map_grant(map, project, roles[json_integer_value(id)],
                 group ? "groups" : "subjects", name);
}


/* one for each project and role */

static void
op_map_grant(op_map_t *map, const char *project, const char *role,
    const char *list, const char *who)
{
    char    *name, *pattern;
    json_t  *grant, *names;

    name = op_map_text(OP_HARBOR_OURS, project, ":", role);
    grant = json_object_get(map->grants, name);

    if (grant == NULL) {
        pattern = op_map_text(project, "/**", "", "");
        grant = json_pack("{s:s, s:[s]}", "role", role, "repositories",
                          pattern);
        op_map_set(map->grants, name, grant);
        free(pattern);
    }

    names = json_object_get(grant, list);

    if (names == NULL) {
        names = json_array();
        op_map_set(grant, list, names);
    }

    if (json_array_append_new(names, json_string(who)) != 0) {
        (void) op_memory(NULL);
    }

    free(name);
}


static void
op_map_robot(op_map_t *map, json_t *robot)
{
    int          system, out;
    size_t       i;
    json_t      *value, *expires;
    const char  *name, *level, *why;

    name = json_string_value(json_object_get(robot, "name"));
    level = json_string_value(json_object_get(robot, "level"));
    expires = json_object_get(robot, "expires_at");

    if (name == NULL || level == NULL) {
        op_map_note(map->notes, "a robot without name and level is left "
                    "out");
        return;
    }

    why = op_map_subject(name);

    if (why) {
        op_map_note(map->notes, "robot \"%s\" is left out: %s", name, why);
        return;
    }

    system = (strcmp(level, "project") != 0);
    out = json_is_true(json_object_get(robot, "disable"));

    if (json_is_integer(expires) && json_integer_value(expires) > 0) {

        if (json_integer_value(expires) <= (json_int_t) time(NULL)) {
            out = 1;

        } else {
            op_map_note(map->notes, "robot \"%s\" expires at Harbor in %lld "
                        "hours; here it counts until the next import after "
                        "that", name,
                        ((long long) json_integer_value(expires)
                         - (long long) time(NULL)) / 3600);
        }
    }

    op_map_set(map->subjects, name, out ? json_true() : json_false());
    op_map_set(map->robots, name, json_true());

    json_array_foreach(json_object_get(robot, "permissions"), i, value) {
        op_map_permission(map, name, value, system);
    }
}


static void
op_map_permission(op_map_t *map, const char *name, json_t *permission,
    int system)
{
    unsigned     actions;
    const char  *kind, *space;

    kind = json_string_value(json_object_get(permission, "kind"));
    space = json_string_value(json_object_get(permission, "namespace"));

    /* what is about the system is nothing that the edge decides */

    if (kind == NULL || space == NULL || strcmp(kind, "project") != 0) {
        return;
    }

    if (strcmp(space, "*") == 0
        ? json_object_size(map->projects) == 0
        : json_object_get(map->projects, space) == NULL)
    {
        op_map_note(map->notes, "what robot \"%s\" may in project \"%s\" is "
                    "left out, as there is none of that name", name, space);
        return;
    }

    actions = op_map_actions(json_object_get(permission, "access"), system);

    if (actions) {
        op_map_robot_grant(map, name, space, actions);
    }
}


/* of "repository"; "deny" goes before others */

static unsigned
op_map_actions(json_t *list, int system)
{
    size_t       i;
    json_t      *access;
    unsigned     bits, allowed, denied;
    const char  *resource, *action, *effect;

    allowed = 0;
    denied = 0;

    json_array_foreach(list, i, access) {

        resource = json_string_value(json_object_get(access, "resource"));
        action = json_string_value(json_object_get(access, "action"));
        effect = json_string_value(json_object_get(access, "effect"));

        if (resource == NULL || action == NULL
            || strcmp(resource, "repository") != 0)
        {
            continue;
        }

        bits = op_map_bit(action);

        if (effect && strcmp(effect, "deny") == 0) {
            denied |= bits;

        } else if (effect == NULL || effect[0] == '\0'
                   || strcmp(effect, "allow") == 0)
        {
            allowed |= bits;
        }
    }

    /* in a project, who may push may pull; in the system not */

    if (!system && (allowed & 2)) {
        allowed |= 1;
    }

    return allowed & ~denied;
}


static unsigned
op_map_bit(const char *action)
{
    return strcmp(action, "pull") == 0 ? 1
           : strcmp(action, "push") == 0 ? 2
           : strcmp(action, "delete") == 0 ? 4
           : strcmp(action, "*") == 0 ? 7 : 0;
}


/* a robot may have several permissions in one project */

static void
op_map_robot_grant(op_map_t *map, const char *name, const char *space,
    unsigned actions)
{
    char    *grant, *role;
    size_t   i;
    json_t  *list, *old;

    static const char  *names[] = { "pull", "push", "delete" };

    grant = op_map_text(OP_HARBOR_OURS, name, ":", space);
    old = json_object_get(json_object_get(map->grants, grant), "role");
    old = old ? json_object_get(map->roles, json_string_value(old)) : NULL;

    for (i = 0; i < json_array_size(old); i++) {
        actions |= op_map_bit(json_string_value(json_array_get(old, i)));
    }

    role = op_map_text(OP_HARBOR_OURS, (actions & 1) ? "pull+" : "",
                       (actions & 2) ? "push+" : "",
                       (actions & 4) ? "delete+" : "");
    role[strlen(role) - 1] = '\0';

    if (ngx_oci_doc_name(grant)) {
        op_map_note(map->notes, "what robot \"%s\" may in project \"%s\" is "
                    "left out: the names are too long", name, space);
        free(grant);
        free(role);
        return;
    }

    list = json_array();

    for (i = 0; i < 3; i++) {
        if (actions & (1u << i)) {
            (void) json_array_append_new(list, json_string(names[i]));
        }
    }

    op_map_set(map->roles, role, list);
    op_map_set(map->grants, grant,
               json_pack("{s:s, s:[s], s:o}", "role", role, "subjects", name,
                         "repositories", op_map_patterns(map, space)));

    free(grant);
    free(role);
}


/* "*": all projects there are by now, not what else the edge may have */

static json_t *
op_map_patterns(op_map_t *map, const char *space)
{
    char        *pattern;
    json_t      *list, *value;
    const char  *name;

    list = op_memory(json_array());

    json_object_foreach(map->projects, name, value) {

        if (strcmp(space, "*") == 0 || strcmp(space, name) == 0) {
            pattern = op_map_text(name, "/**", "", "");
            (void) json_array_append_new(list, json_string(pattern));
            free(pattern);
        }
    }

    return list;
}


static const char *
op_map_subject(const char *name)
{
    return strchr(name, ':') ? "a subject's name has no \":\""
                             : ngx_oci_doc_name(name);
}


/* may run several times: each on the document as it then is */

static int
op_map_edit(json_t *doc, void *data)
{
    json_t      *section, *value, *own;
    op_map_t    *map = data;
    const char  *name;

    (void) json_array_clear(map->told);

    section = op_map_section(doc, "projects");

    json_object_foreach(map->projects, name, value) {

        own = json_object_get(section, name);

        if (!json_is_object(own)) {
            op_map_set(section, name, json_deep_copy(value));
            continue;
        }

        if (json_is_true(json_object_get(own, "public"))
            != json_is_true(json_object_get(value, "public")))
        {
            op_map_set(own, "public",
                       json_incref(json_object_get(value, "public")));
        }
    }

    section = op_map_section(doc, "subjects");

    json_object_foreach(map->subjects, name, value) {

        own = json_object_get(section, name);

        if (!json_is_object(own)) {
            own = json_object();
            op_map_set(section, name, own);
        }

        if (json_is_true(value)) {
            op_map_set(own, "disabled", json_true());
        }
    }

    op_map_vanished(map, doc);
    op_map_kept(map, doc);

    op_map_ours(doc, "roles", map->roles);
    op_map_ours(doc, "grants", map->grants);

    return OP_OK;
}


/* subjects of the grants of before: by roles of ours it was a robot */

static void
op_map_vanished(op_map_t *map, json_t *doc)
{
    int          robot;
    size_t       i;
    json_t      *grant, *who;
    const char  *name, *role;

    json_object_foreach(json_object_get(doc, "grants"), name, grant) {

        if (strncmp(name, OP_HARBOR_OURS, sizeof(OP_HARBOR_OURS) - 1) != 0) {
            continue;
        }

        role = json_string_value(json_object_get(grant, "role"));
        robot = role && strncmp(role, OP_HARBOR_OURS,
                                sizeof(OP_HARBOR_OURS) - 1)
                        == 0;

        json_array_foreach(json_object_get(grant, "subjects"), i, who) {
            if (json_is_string(who)) {
                op_map_vanished_one(map, doc, json_string_value(who), robot);
            }
        }
    }
}


static void
op_map_vanished_one(op_map_t *map, json_t *doc, const char *name, int robot)
{
    json_t  *own;

    own = json_object_get(json_object_get(doc, "subjects"), name);

    if (json_object_get(map->subjects, name) || !json_is_object(own)) {
        return;
    }

    if (!robot) {
        op_map_note(map->told, "subject \"%s\" is in no project of Harbor "
                    "any more: what it had from there is gone", name);
        return;
    }

    if (!json_is_true(json_object_get(own, "disabled"))) {
        op_map_note(map->told, "robot \"%s\" is not at Harbor any more: it "
                    "is disabled", name);
        op_map_set(own, "disabled", json_true());
    }
}


/* what is left as it is, though Harbor says something else */

static void
op_map_kept(op_map_t *map, json_t *doc)
{
    json_t      *value, *own;
    const char  *name;

    json_object_foreach(json_object_get(doc, "projects"), name, value) {

        if (json_object_get(map->projects, name) == NULL) {
            op_map_note(map->told, "project \"%s\" is not at Harbor, or not "
                        "shown to the account: it stays as it is%s", name,
                        json_is_true(json_object_get(value, "public"))
                        ? ", public" : "");
        }
    }

    json_object_foreach(map->subjects, name, value) {

        own = json_object_get(json_object_get(doc, "subjects"), name);

        if (json_is_false(value)
            && json_is_true(json_object_get(own, "disabled")))
        {
            op_map_note(map->told, "subject \"%s\" is not disabled at "
                        "Harbor, but here: it stays so until \"enable\"",
                        name);
        }
    }
}


static void
op_map_ours(json_t *doc, const char *section, json_t *made)
{
    void        *next;
    json_t      *object, *value;
    const char  *name;

    object = op_map_section(doc, section);

    json_object_foreach_safe(object, next, name, value) {

        if (strncmp(name, OP_HARBOR_OURS, sizeof(OP_HARBOR_OURS) - 1) == 0
            && json_object_get(made, name) == NULL)
        {
            (void) json_object_del(object, name);
        }
    }

    json_object_foreach(made, name, value) {
        op_map_set(object, name, json_deep_copy(value));
    }
}


static json_t *
op_map_section(json_t *doc, const char *name)
{
    json_t  *section;

    section = json_object_get(doc, name);

    if (section == NULL) {
        section = op_memory(json_object());
        (void) json_object_set_new(doc, name, section);
    }

    return section;
}


static void
op_map_note(json_t *notes, const char *fmt, ...)
{
    char     *text;
    va_list   args;

    va_start(args, fmt);

    if (vasprintf(&text, fmt, args) == -1) {
        text = NULL;
    }

    va_end(args);

    if (json_array_append_new(notes, json_string(op_memory(text))) != 0) {
        (void) op_memory(NULL);
    }

    free(text);
}


static void
op_map_notes(json_t *notes)
{
    size_t   i;
    json_t  *note;

    json_array_foreach(notes, i, note) {
        op_note("%s", json_string_value(note));
    }
}


/* takes value */

static void
op_map_set(json_t *object, const char *name, json_t *value)
{
    if (json_object_set_new(object, name, value) != 0) {
        (void) op_memory(NULL);
    }
}


static char *
op_map_text(const char *a, const char *b, const char *c, const char *d)
{
    char  *text;

    if (asprintf(&text, "%s%s%s%s", a, b, c, d) == -1) {
        text = NULL;
    }

    return op_memory(text);
}
