
/*
 * Copyright (C) The nginx-oci authors
 *
 * The policy document: its JSON is checked and compiled.  Pure: needs libc,
 * jansson and OpenSSL only.
 */


#include "ngx_oci_policy_doc.h"

#include <stdarg.h>


static ngx_int_t ngx_oci_doc_root(ngx_oci_doc_t *doc);
static ngx_int_t ngx_oci_doc_subjects(ngx_oci_doc_t *doc, json_t *subjects);
static ngx_int_t ngx_oci_doc_subject(ngx_oci_doc_t *doc, const char *name,
    json_t *value, uint32_t place);
static ngx_int_t ngx_oci_doc_secret(ngx_oci_doc_t *doc, const char *name,
    json_t *value, uint32_t place);
static ngx_int_t ngx_oci_doc_groups(ngx_oci_doc_t *doc, const char *name,
    json_t *value, uint32_t place);
static ngx_int_t ngx_oci_doc_dummy(ngx_oci_doc_t *doc, json_t *subjects);


ngx_oci_rbac_t *
ngx_oci_policy_compile(const char *text, size_t len,
    ngx_oci_policy_error_t *error)
{
    json_t          *json;
    ngx_oci_rbac_t  *rbac;

    rbac = ngx_oci_policy_compile_json(text, len, &json, error);

    json_decref(json);

    return rbac;
}


ngx_oci_rbac_t *
ngx_oci_policy_compile_json(const char *text, size_t len, json_t **json,
    ngx_oci_policy_error_t *error)
{
    char           *near;
    ngx_int_t       rc;
    json_error_t    err;
    ngx_oci_doc_t   doc;

    memset(error, 0, sizeof(ngx_oci_policy_error_t));
    memset(&doc, 0, sizeof(ngx_oci_doc_t));

    doc.error = error;
    doc.root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &err);
    *json = doc.root;

    if (doc.root == NULL) {

        /* what stands there may be part of a secret */

        near = strstr(err.text, " near ");

        if (near) {
            *near = '\0';
        }

        (void) ngx_oci_doc_error(&doc, "%s", err.text);
        error->line = (err.line > 0) ? err.line : 0;
        error->column = (err.column > 0) ? err.column : 0;

        return NULL;
    }

    doc.groups = json_object();
    doc.params = json_object();

    if (doc.groups == NULL || doc.params == NULL
        || ngx_oci_doc_alloc(&doc, sizeof(ngx_oci_rbac_t)) != 0
        || doc.data == NULL)
    {
        rc = ngx_oci_doc_memory(&doc);

    } else {
        rc = ngx_oci_doc_root(&doc);
    }

    json_decref(doc.params);
    json_decref(doc.groups);
    free(doc.rules);

    if (rc != NGX_OK) {
        free(doc.data);
        return NULL;
    }

    return (ngx_oci_rbac_t *) doc.data;
}


static ngx_int_t
ngx_oci_doc_root(ngx_oci_doc_t *doc)
{
    json_t  *version, *subjects, *grants, *projects;

    static const char  *keys[] = {
        "version", "subjects", "roles", "grants", "projects", "quarantine",
        NULL
    };

    if (ngx_oci_doc_keys(doc, doc->root, "$", NULL, keys) != NGX_OK) {
        return NGX_ERROR;
    }

    version = json_object_get(doc->root, "version");

    if (!json_is_integer(version) || json_integer_value(version) != 1) {
        return ngx_oci_doc_error(doc, "$.version: 1 is required");
    }

    subjects = json_object_get(doc->root, "subjects");
    grants = json_object_get(doc->root, "grants");
    projects = json_object_get(doc->root, "projects");
    doc->roles = json_object_get(doc->root, "roles");

    if (ngx_oci_doc_subjects(doc, subjects) != NGX_OK
        || ngx_oci_doc_dummy(doc, subjects) != NGX_OK
        || ngx_oci_doc_rules(doc, grants, projects) != NGX_OK
        || ngx_oci_doc_duties(doc) != NGX_OK
        || ngx_oci_doc_artifacts(doc, projects,
                                 json_object_get(doc->root, "quarantine"))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_oci_doc_head(doc)->magic = NGX_OCI_RBAC_MAGIC;
    ngx_oci_doc_head(doc)->size = (uint32_t) doc->len;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_subjects(ngx_oci_doc_t *doc, json_t *subjects)
{
    json_t                  *value;
    size_t                   n;
    uint32_t                 table, mask, first, place, *head, text;
    const char              *key, *why;
    ngx_oci_rbac_subject_t  *s;

    if (subjects && !json_is_object(subjects)) {
        return ngx_oci_doc_error(doc, "$.subjects: not an object");
    }

    n = json_object_size(subjects);
    mask = ngx_oci_doc_mask(n);
    table = ngx_oci_doc_alloc(doc, ((size_t) mask + 1) * sizeof(uint32_t));
    first = ngx_oci_doc_alloc(doc, (n + 1) * sizeof(ngx_oci_rbac_subject_t));

    if (table == 0 || first == 0) {
        return ngx_oci_doc_memory(doc);
    }

    ngx_oci_doc_head(doc)->subjects = table;
    ngx_oci_doc_head(doc)->subjects_mask = mask;
    ngx_oci_doc_head(doc)->nsubjects = (uint32_t) n;

    place = first;

    json_object_foreach(subjects, key, value) {

        why = ngx_oci_doc_name(key);

        /* of tokens and certificates there are, Basic can't tell them from the
           secret */

        if (why == NULL && strchr(key, ':')
            && json_object_get(value, "secret"))
        {
            why = "a subject whose name has \":\" has no secret";
        }

        if (why) {
            return ngx_oci_doc_error(doc, "$.subjects.%.*s: %s",
                                     NGX_OCI_DOC_NAME, key, why);
        }

        text = ngx_oci_doc_text(doc, key, strlen(key));
        if (text == 0) {
            return ngx_oci_doc_memory(doc);
        }

        s = ngx_oci_doc_at(doc, ngx_oci_rbac_subject_t, place);
        s->name = text;
        s->name_len = (uint16_t) strlen(key);
        s->principal = ++doc->principals;

        head = ngx_oci_doc_at(doc, uint32_t, table)
               + (ngx_oci_rbac_hash(0, (u_char *) key, strlen(key)) & mask);
        s->next = *head;
        *head = place;

        if (ngx_oci_doc_subject(doc, key, value, place) != NGX_OK) {
            return NGX_ERROR;
        }

        place += sizeof(ngx_oci_rbac_subject_t);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_subject(ngx_oci_doc_t *doc, const char *name, json_t *value,
    uint32_t place)
{
    json_t   *field;
    int64_t   t;

    static const char  *keys[] = {
        "secret", "disabled", "not_before", "groups", NULL
    };

    if (ngx_oci_doc_keys(doc, value, "$.subjects.", name, keys) != NGX_OK) {
        return NGX_ERROR;
    }

    field = json_object_get(value, "disabled");

    if (field && !json_is_boolean(field)) {
        return ngx_oci_doc_error(doc, "$.subjects.%.*s.disabled: neither "
                                 "true nor false", NGX_OCI_DOC_NAME, name);
    }

    ngx_oci_doc_at(doc, ngx_oci_rbac_subject_t, place)->disabled =
                                                   json_is_true(field);

    field = json_object_get(value, "not_before");
    t = 0;

    if (field && ngx_oci_doc_time(field, &t) != NGX_OK) {
        return ngx_oci_doc_error(doc, "$.subjects.%.*s.not_before: neither "
                                 "seconds since 1970 nor a time as "
                                 "\"2026-01-31T00:00:00Z\"",
                                 NGX_OCI_DOC_NAME, name);
    }

    ngx_oci_doc_at(doc, ngx_oci_rbac_subject_t, place)->not_before = t;

    if (ngx_oci_doc_secret(doc, name, json_object_get(value, "secret"),
                           place)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_oci_doc_groups(doc, name, json_object_get(value, "groups"),
                              place);
}


static ngx_int_t
ngx_oci_doc_secret(ngx_oci_doc_t *doc, const char *name, json_t *value,
    uint32_t place)
{
    char                     params[NGX_OCI_PHC_MAX + 1];
    size_t                   len;
    json_t                  *n;
    uint32_t                 text;
    const char              *p, *why;
    ngx_oci_phc_t            phc;
    ngx_oci_rbac_subject_t  *s;

    if (value == NULL) {
        return NGX_OK;
    }

    if (!json_is_string(value)) {
        return ngx_oci_doc_error(doc, "$.subjects.%.*s.secret: not a string",
                                 NGX_OCI_DOC_NAME, name);
    }

    p = json_string_value(value);
    len = json_string_length(value);
    why = ngx_oci_phc_parse(&phc, p, len);

    if (why) {
        return ngx_oci_doc_error(doc, "$.subjects.%.*s.secret: not a PHC "
                                 "string: %s", NGX_OCI_DOC_NAME, name, why);
    }

    text = ngx_oci_doc_text(doc, p, len);
    if (text == 0) {
        return ngx_oci_doc_memory(doc);
    }

    s = ngx_oci_doc_at(doc, ngx_oci_rbac_subject_t, place);
    s->secret = text;
    s->secret_len = (uint16_t) len;

    memcpy(params, p, phc.params_len);
    params[phc.params_len] = '\0';

    n = json_object_get(doc->params, params);

    if (n) {
        (void) json_integer_set(n, json_integer_value(n) + 1);
        return NGX_OK;
    }

    if (json_object_set_new(doc->params, params, json_integer(1)) != 0) {
        return ngx_oci_doc_memory(doc);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_groups(ngx_oci_doc_t *doc, const char *name, json_t *value,
    uint32_t place)
{
    size_t                   i, k, n;
    json_t                  *group;
    uint32_t                 groups, *ids, id;
    const char              *why;
    ngx_oci_rbac_subject_t  *s;

    if (value == NULL) {
        return NGX_OK;
    }

    n = json_array_size(value);

    if (!json_is_array(value) || n > NGX_OCI_RBAC_GROUPS) {
        return ngx_oci_doc_error(doc, "$.subjects.%.*s.groups: not an array "
                                 "of 64 groups at most",
                                 NGX_OCI_DOC_NAME, name);
    }

    if (n == 0) {
        return NGX_OK;
    }

    groups = ngx_oci_doc_alloc(doc, n * sizeof(uint32_t));
    if (groups == 0) {
        return ngx_oci_doc_memory(doc);
    }

    ids = ngx_oci_doc_at(doc, uint32_t, groups);

    json_array_foreach(value, i, group) {

        why = json_is_string(group)
              ? ngx_oci_doc_name(json_string_value(group))
              : "not a string";

        if (why) {
            return ngx_oci_doc_error(doc, "$.subjects.%.*s.groups[%zu]: %s",
                                     NGX_OCI_DOC_NAME, name, i, why);
        }

        id = ngx_oci_doc_group(doc, json_string_value(group));
        if (id == 0) {
            return ngx_oci_doc_memory(doc);
        }

        for (k = 0; k < i; k++) {
            if (ids[k] == id) {
                return ngx_oci_doc_error(doc, "$.subjects.%.*s.groups[%zu]: "
                                         "given twice",
                                         NGX_OCI_DOC_NAME, name, i);
            }
        }

        ids[i] = id;
    }

    s = ngx_oci_doc_at(doc, ngx_oci_rbac_subject_t, place);
    s->groups = groups;
    s->ngroups = (uint16_t) n;

    return NGX_OK;
}


/*
 * Who isn't known has to cost what a wrong secret of the others costs: a
 * secret as most have, with a hash that nothing is known to give.
 */

static ngx_int_t
ngx_oci_doc_dummy(ngx_oci_doc_t *doc, json_t *subjects)
{
    char            text[NGX_OCI_PHC_MAX + 1], *p;
    size_t          len;
    json_t         *value, *n, *secret;
    uint32_t        place;
    json_int_t      most;
    const char     *key, *params;
    ngx_oci_phc_t   phc;

    params = NULL;
    most = 0;

    json_object_foreach(doc->params, key, n) {
        if (json_integer_value(n) > most) {
            most = json_integer_value(n);
            params = key;
        }
    }

    len = sizeof(NGX_OCI_PHC_DEFAULT) - 1;
    memcpy(text, NGX_OCI_PHC_DEFAULT, len);

    json_object_foreach(subjects, key, value) {

        secret = json_object_get(value, "secret");

        if (params == NULL || secret == NULL
            || ngx_oci_phc_parse(&phc, json_string_value(secret),
                                 json_string_length(secret))
            || strlen(params) != phc.params_len
            || memcmp(params, json_string_value(secret), phc.params_len) != 0)
        {
            continue;
        }

        len = json_string_length(secret);
        memcpy(text, json_string_value(secret), len);

        for (p = text + len - 1; *p != '$'; p--) {
            *p = 'A';
        }

        break;
    }

    place = ngx_oci_doc_text(doc, text, len);
    if (place == 0) {
        return ngx_oci_doc_memory(doc);
    }

    ngx_oci_doc_head(doc)->dummy = place;
    ngx_oci_doc_head(doc)->dummy_len = (uint32_t) len;

    return NGX_OK;
}


/* a group's principal; 0: no memory */

uint32_t
ngx_oci_doc_group(ngx_oci_doc_t *doc, const char *name)
{
    json_t  *id;

    id = json_object_get(doc->groups, name);

    if (id == NULL) {
        id = json_integer(++doc->principals);

        if (json_object_set_new(doc->groups, name, id) != 0) {
            return 0;
        }
    }

    return (uint32_t) json_integer_value(id);
}


/* an object that has no other members than these */

ngx_int_t
ngx_oci_doc_keys(ngx_oci_doc_t *doc, json_t *value, const char *place,
    const char *name, const char **keys)
{
    json_t      *member;
    ngx_uint_t   i;
    const char  *key;

    name = name ? name : "";

    if (!json_is_object(value)) {
        return ngx_oci_doc_error(doc, "%s%.*s: not an object", place,
                                 NGX_OCI_DOC_NAME, name);
    }

    json_object_foreach(value, key, member) {

        for (i = 0; keys[i]; i++) {
            if (strcmp(keys[i], key) == 0) {
                break;
            }
        }

        if (keys[i] == NULL) {
            return ngx_oci_doc_error(doc, "%s%.*s.%.*s: unknown member",
                                     place, NGX_OCI_DOC_NAME, name,
                                     NGX_OCI_DOC_NAME, key);
        }
    }

    return NGX_OK;
}


/* NULL, or what is wrong with it */

const char *
ngx_oci_doc_name(const char *name)
{
    size_t  len;

    len = strlen(name);

    if (len == 0 || len > NGX_OCI_RBAC_NAME_MAX) {
        return "a name has 1 to 255 bytes";
    }

    for ( /* void */ ; *name; name++) {
        if ((u_char) *name <= 0x20 || *name == 0x7f) {
            return "a name has no spaces and no control characters";
        }
    }

    return NULL;
}


ngx_int_t
ngx_oci_doc_time(json_t *value, int64_t *t)
{
    int          n, hours, minutes;
    char         sign;
    time_t       sec;
    struct tm    tm;
    const char  *p;

    if (json_is_integer(value)) {
        *t = json_integer_value(value);
        return (*t >= 0) ? NGX_OK : NGX_ERROR;
    }

    if (!json_is_string(value)) {
        return NGX_ERROR;
    }

    p = json_string_value(value);
    memset(&tm, 0, sizeof(struct tm));
    n = 0;

    if (strspn(p, "0123456789-T:Z+") != strlen(p)
        || sscanf(p, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon,
                  &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &n) != 6
        || n != sizeof("2026-01-31T00:00:00") - 1
        || tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12
        || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour < 0
        || tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59
        || tm.tm_sec < 0 || tm.tm_sec > 60)
    {
        return NGX_ERROR;
    }

    tm.tm_year -= 1900;
    tm.tm_mon--;

    sec = timegm(&tm);
    p += n;

    if (strcmp(p, "Z") == 0) {
        *t = sec;
        return NGX_OK;
    }

    n = 0;

    if (sscanf(p, "%c%2d:%2d%n", &sign, &hours, &minutes, &n) != 3
        || n != sizeof("+00:00") - 1 || p[n] != '\0'
        || (sign != '+' && sign != '-')
        || hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
    {
        return NGX_ERROR;
    }

    *t = sec - (sign == '+' ? 1 : -1) * (hours * 3600 + minutes * 60);

    return NGX_OK;
}


/* zeroed; 0: no memory, except for the first one */

uint32_t
ngx_oci_doc_alloc(ngx_oci_doc_t *doc, size_t size)
{
    size_t   place, want;
    u_char  *p;

    place = (doc->len + 7) & ~(size_t) 7;

    if (size > NGX_OCI_DOC_MAX - place) {
        return 0;
    }

    if (place + size > doc->size) {

        want = doc->size + doc->size / 2;

        if (want < place + size) {
            want = place + size + 4096;
        }

        p = realloc(doc->data, want);
        if (p == NULL) {
            return 0;
        }

        doc->data = p;
        doc->size = want;
    }

    memset(doc->data + doc->len, 0, place + size - doc->len);
    doc->len = place + size;

    return (uint32_t) place;
}


/* right behind the text before, if there was one: no alignment */

uint32_t
ngx_oci_doc_text(ngx_oci_doc_t *doc, const char *text, size_t len)
{
    size_t    place;

    place = doc->len;

    if (ngx_oci_doc_alloc(doc, len + 7) == 0) {
        return 0;
    }

    memcpy(doc->data + place, text, len);
    memset(doc->data + place + len, 0, doc->len - place - len);
    doc->len = place + len;

    return (uint32_t) place;
}


/* of a table with a place for each */

uint32_t
ngx_oci_doc_mask(size_t n)
{
    uint32_t  size;

    for (size = 1; size < n && size < 0x1000000; size *= 2) { /* void */ }

    return size - 1;
}


ngx_int_t
ngx_oci_doc_error(ngx_oci_doc_t *doc, const char *fmt, ...)
{
    char     *p;
    va_list   args;

    va_start(args, fmt);
    (void) vsnprintf(doc->error->text, NGX_OCI_POLICY_ERROR, fmt, args);
    va_end(args);

    for (p = doc->error->text; *p; p++) {
        if ((u_char) *p < 0x20 || (u_char) *p >= 0x7f) {
            *p = '?';
        }
    }

    return NGX_ERROR;
}


ngx_int_t
ngx_oci_doc_memory(ngx_oci_doc_t *doc)
{
    return ngx_oci_doc_error(doc, "no memory, or the document is too large");
}
