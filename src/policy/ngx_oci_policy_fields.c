
/*
 * Copyright (C) The nginx-oci authors
 *
 * A policy document in pieces.  Pure: needs libc and jansson only.
 */


#include "ngx_oci_policy_fields.h"

#include <jansson.h>
#include <search.h>


#define NGX_OCI_FIELDS_OVERHEAD  128    /* bytes beside a name and value */


/* Owner: the fields; with its name and value in one piece */

typedef struct ngx_oci_field_s  ngx_oci_field_t;

struct ngx_oci_field_s {
    ngx_oci_field_t   *next;
    ngx_oci_field_t  **prev;
    const char        *name;
    size_t             len;
    const char        *value;
    size_t             value_len;
    ngx_uint_t         checked;         /* its name and value are right */
};


struct ngx_oci_fields_s {
    void              *tree;            /* tsearch()'s: balanced, so that no
                                           names make it slow */
    ngx_oci_field_t   *first;
    size_t             count;
    size_t             bytes;
};


/* the members of the document, in the order of their fields' names */

static struct {
    const char  *prefix;
    size_t       len;
    const char  *member;
} ngx_oci_fields_kinds[] = {
    { "grants/", 7, "grants" },
    { "project/", 8, "projects" },
    { "quarantine/", 11, "quarantine" },
    { "role/", 5, "roles" },
    { "subject/", 8, "subjects" },
    { NULL, 0, NULL }
};


static int ngx_oci_fields_compare(const void *a, const void *b);
static int ngx_oci_fields_compare_places(const void *a, const void *b);
static void ngx_oci_fields_drop(ngx_oci_fields_t *f, ngx_oci_field_t *field);
static ngx_int_t ngx_oci_fields_check(ngx_oci_field_t *field, char *error);
static ngx_int_t ngx_oci_fields_kind(ngx_oci_field_t *field);
static void ngx_oci_fields_error(char *error, ngx_oci_field_t *field,
    const char *why, json_error_t *at);
static char *ngx_oci_fields_escape(char *p, const char *name, size_t len);


ngx_oci_fields_t *
ngx_oci_fields_create(void)
{
    return calloc(1, sizeof(ngx_oci_fields_t));
}


void
ngx_oci_fields_free(ngx_oci_fields_t *f)
{
    if (f == NULL) {
        return;
    }

    while (f->first) {
        ngx_oci_fields_drop(f, f->first);
    }

    free(f);
}


static int
ngx_oci_fields_compare(const void *a, const void *b)
{
    int                     rc;
    const ngx_oci_field_t  *x = a, *y = b;

    rc = memcmp(x->name, y->name, x->len < y->len ? x->len : y->len);

    if (rc) {
        return rc;
    }

    return (x->len > y->len) - (x->len < y->len);
}


static int
ngx_oci_fields_compare_places(const void *a, const void *b)
{
    return ngx_oci_fields_compare(*(ngx_oci_field_t *const *) a,
                                  *(ngx_oci_field_t *const *) b);
}


const char *
ngx_oci_fields_set(ngx_oci_fields_t *f, const char *name, size_t len,
    const char *value, size_t value_len)
{
    char              *p;
    size_t             size;
    ngx_oci_field_t   *field, **found, key;

    if (len > NGX_OCI_FIELDS_NAME) {
        return "a field's name has more than 512 bytes";
    }

    size = NGX_OCI_FIELDS_OVERHEAD + len + value_len;

    if (value_len > NGX_OCI_FIELDS_MAX || size > NGX_OCI_FIELDS_MAX - f->bytes)
    {
        return "all fields have more than 64m";
    }

    key.name = name;
    key.len = len;

    found = tfind(&key, &f->tree, ngx_oci_fields_compare);

    if (found && (*found)->value_len == value_len
        && (value_len == 0
            || memcmp((*found)->value, value, value_len) == 0))
    {
        return NULL;
    }

    field = malloc(sizeof(ngx_oci_field_t) + len + value_len);
    if (field == NULL) {
        return "no memory";
    }

    p = (char *) (field + 1);

    if (len) {
        memcpy(p, name, len);
    }

    if (value_len) {
        memcpy(p + len, value, value_len);
    }

    field->name = p;
    field->len = len;
    field->value = p + len;
    field->value_len = value_len;
    field->checked = 0;

    if (found) {
        ngx_oci_fields_drop(f, *found);
    }

    if (tsearch(field, &f->tree, ngx_oci_fields_compare) == NULL) {
        free(field);
        return "no memory";
    }

    field->next = f->first;
    field->prev = &f->first;

    if (f->first) {
        f->first->prev = &field->next;
    }

    f->first = field;
    f->count++;
    f->bytes += size;

    return NULL;
}


void
ngx_oci_fields_remove(ngx_oci_fields_t *f, const char *name, size_t len)
{
    ngx_oci_field_t  **found, key;

    key.name = name;
    key.len = len;

    found = tfind(&key, &f->tree, ngx_oci_fields_compare);

    if (found) {
        ngx_oci_fields_drop(f, *found);
    }
}


static void
ngx_oci_fields_drop(ngx_oci_fields_t *f, ngx_oci_field_t *field)
{
    (void) tdelete(field, &f->tree, ngx_oci_fields_compare);

    *field->prev = field->next;

    if (field->next) {
        field->next->prev = field->prev;
    }

    f->count--;
    f->bytes -= NGX_OCI_FIELDS_OVERHEAD + field->len + field->value_len;

    free(field);
}


size_t
ngx_oci_fields_count(ngx_oci_fields_t *f)
{
    return f->count;
}


ngx_oci_fields_name_t *
ngx_oci_fields_names(ngx_oci_fields_t *f)
{
    size_t                  i;
    ngx_oci_field_t        *field;
    ngx_oci_fields_name_t  *names;

    names = calloc(f->count + 1, sizeof(ngx_oci_fields_name_t));
    if (names == NULL) {
        return NULL;
    }

    for (i = 0, field = f->first; field; i++, field = field->next) {
        names[i].name = field->name;
        names[i].len = field->len;
    }

    return names;
}


char *
ngx_oci_fields_document(ngx_oci_fields_t *f, size_t *len, char *error)
{
    char              *text, *p;
    size_t             i, size;
    ngx_int_t          kind, last;
    ngx_oci_field_t   *field, **sorted;

    text = NULL;

    /* each has quotes, a colon, a comma and a newline; members are named */

    size = sizeof("{\"version\":1}") + 256;

    sorted = malloc((f->count + 1) * sizeof(ngx_oci_field_t *));

    if (sorted == NULL) {
        goto memory;
    }

    for (i = 0, field = f->first; field; i++, field = field->next) {

        if (!field->checked && ngx_oci_fields_check(field, error) != NGX_OK) {
            free(sorted);
            return NULL;
        }

        sorted[i] = field;
        size += 2 * field->len + field->value_len + 8;
    }

    qsort(sorted, f->count, sizeof(ngx_oci_field_t *),
          ngx_oci_fields_compare_places);

    text = malloc(size);

    if (text == NULL) {
        goto memory;
    }

    p = stpcpy(text, "{\"version\":1");
    last = NGX_ERROR;

    for (i = 0; i < f->count; i++) {
        field = sorted[i];
        kind = ngx_oci_fields_kind(field);

        if (kind != last) {
            p = stpcpy(p, (last == NGX_ERROR) ? ",\n\"" : "},\n\"");
            p = stpcpy(p, ngx_oci_fields_kinds[kind].member);
            p = stpcpy(p, "\":{\n\"");
            last = kind;

        } else {
            p = stpcpy(p, ",\n\"");
        }

        p = ngx_oci_fields_escape(p,
                                field->name + ngx_oci_fields_kinds[kind].len,
                                field->len - ngx_oci_fields_kinds[kind].len);
        p = stpcpy(p, "\":");

        memcpy(p, field->value, field->value_len);
        p += field->value_len;
    }

    p = stpcpy(p, (last == NGX_ERROR) ? "}\n" : "}}\n");

    *len = p - text;

    free(sorted);

    return text;

memory:

    (void) snprintf(error, NGX_OCI_FIELDS_ERROR, "no memory");
    free(sorted);

    return NULL;
}


/* what its JSON says is for who compiles the document */

static ngx_int_t
ngx_oci_fields_check(ngx_oci_field_t *field, char *error)
{
    size_t        i;
    json_t       *value;
    json_error_t  at;

    if (ngx_oci_fields_kind(field) == NGX_ERROR) {
        ngx_oci_fields_error(error, field, "unknown field", NULL);
        return NGX_ERROR;
    }

    for (i = 0; i < field->len; i++) {
        if ((u_char) field->name[i] < 0x20) {
            ngx_oci_fields_error(error, field, "control characters in its "
                                 "name", NULL);
            return NGX_ERROR;
        }
    }

    value = json_stringn(field->name, field->len);

    if (value == NULL) {
        ngx_oci_fields_error(error, field, "its name is no UTF-8", NULL);
        return NGX_ERROR;
    }

    json_decref(value);

    /* one value: none that would end the member that it is of */

    value = json_loadb(field->value, field->value_len,
                       JSON_REJECT_DUPLICATES, &at);

    if (value == NULL) {
        ngx_oci_fields_error(error, field, NULL, &at);
        return NGX_ERROR;
    }

    json_decref(value);

    field->checked = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_fields_kind(ngx_oci_field_t *field)
{
    ngx_int_t  i;

    for (i = 0; ngx_oci_fields_kinds[i].prefix; i++) {

        if (field->len >= ngx_oci_fields_kinds[i].len
            && memcmp(field->name, ngx_oci_fields_kinds[i].prefix,
                      ngx_oci_fields_kinds[i].len)
               == 0)
        {
            return i;
        }
    }

    return NGX_ERROR;
}


static void
ngx_oci_fields_error(char *error, ngx_oci_field_t *field, const char *why,
    json_error_t *at)
{
    char  *p, *near;

    if (why) {
        (void) snprintf(error, NGX_OCI_FIELDS_ERROR, "field \"%.*s\": %s",
                        (int) ngx_min(field->len, 128), field->name, why);

    } else {

        /* what stands there may be part of a secret */

        near = strstr(at->text, " near ");

        if (near) {
            *near = '\0';
        }

        (void) snprintf(error, NGX_OCI_FIELDS_ERROR,
                        "field \"%.*s\": %s in its line %d, column %d",
                        (int) ngx_min(field->len, 128), field->name,
                        at->text, at->line, at->column);
    }

    for (p = error; *p; p++) {
        if ((u_char) *p < 0x20 || (u_char) *p >= 0x7f) {
            *p = '?';
        }
    }
}


static char *
ngx_oci_fields_escape(char *p, const char *name, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {

        if (name[i] == '"' || name[i] == '\\') {
            *p++ = '\\';
        }

        *p++ = name[i];
    }

    return p;
}
