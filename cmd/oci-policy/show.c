
/*
 * Copyright (C) The nginx-oci authors
 *
 * Commands that only read a document.
 */


#include "op.h"

#include <stdlib.h>
#include <string.h>


static op_store_t *op_show_load(op_opts_t *o, int *rc);
static int op_show_summary(op_store_t *store);
static int op_show_part(op_store_t *store, json_t *part, const char *name);
static void op_show_subject(json_t *doc, json_t *part, const char *name,
    json_t *subject);
static int op_show_named(json_t *list, const char *name);
static int op_show_common(json_t *list, json_t *other);
static void op_show_copy(json_t *part, json_t *doc, const char *kind,
    const char *name);
static void op_show_json(op_opts_t *o, json_t *doc);


int
op_cmd_export(op_opts_t *o, int argc, char **argv)
{
    int          rc;
    op_store_t  *store;

    (void) argc;
    (void) argv;

    store = op_show_load(o, &rc);
    if (store == NULL) {
        return rc;
    }

    op_show_json(o, store->doc);
    store->close(store);

    return OP_OK;
}


int
op_cmd_show(op_opts_t *o, int argc, char **argv)
{
    int          i, rc;
    json_t      *part;
    op_store_t  *store;

    store = op_show_load(o, &rc);
    if (store == NULL) {
        return rc;
    }

    if (argc == 0) {
        rc = op_show_summary(store);
        store->close(store);
        return rc;
    }

    part = op_doc_new();

    for (i = 0; i < argc; i++) {
        if (op_show_part(store, part, argv[i]) != OP_OK) {
            rc = OP_NO;
        }
    }

    op_show_json(o, part);
    json_decref(part);
    store->close(store);

    return rc;
}


int
op_cmd_diff(op_opts_t *o, int argc, char **argv)
{
    int          rc;
    json_t      *doc, *to, *changes;
    op_store_t  *store;

    (void) argc;

    rc = op_doc_read(argv[0], -1, &doc);
    if (rc != OP_OK) {
        return rc;
    }

    store = op_show_load(o, &rc);

    if (store == NULL) {
        json_decref(doc);
        return rc;
    }

    to = op_memory(json_deep_copy(store->doc));
    (void) op_import_edit(to, doc);

    changes = op_doc_diff(store->doc, to);
    op_print_changes("", changes);

    if (json_object_size(changes) || json_object_size(store->odd)) {
        rc = OP_NO;
    }

    json_decref(changes);
    json_decref(to);
    json_decref(doc);
    store->close(store);

    return rc;
}


static op_store_t *
op_show_load(op_opts_t *o, int *rc)
{
    json_t      *why;
    op_store_t  *store;
    const char  *field;

    *rc = op_store_open(o, &store);

    if (*rc != OP_OK) {
        return NULL;
    }

    *rc = store->load(store, 0);

    if (*rc != OP_OK) {
        store->close(store);
        return NULL;
    }

    json_object_foreach(store->odd, field, why) {
        op_note("field \"%s\" in \"%s\" %s", field, store->name,
                json_string_value(why));
    }

    if (!store->found) {
        op_note("\"%s\" has no policy document", store->name);
    }

    return store;
}


static int
op_show_summary(op_store_t *store)
{
    size_t       i, n, disabled, secrets, public;
    json_t      *section, *value;
    const char  *name, *key;

    fputs("source: ", stdout);
    op_text(stdout, store->name);
    fputc('\n', stdout);

    if (store->epoch >= 0) {
        printf("epoch: %lld\n", (long long) store->epoch);
    }

    for (i = 0; (name = op_doc_section(i, NULL)) != NULL; i++) {

        section = json_object_get(store->doc, name);
        disabled = 0;
        secrets = 0;
        public = 0;
        n = json_object_size(section);

        json_object_foreach(section, key, value) {
            disabled += json_is_true(json_object_get(value, "disabled"));
            secrets += (json_object_get(value, "secret") != NULL);
            public += json_is_true(json_object_get(value, "public"));
        }

        printf("%s: %zu", name, n);

        if (i == 0) {
            printf(" (%zu with a secret, %zu disabled)", secrets, disabled);
        }

        if (strcmp(name, "projects") == 0) {
            printf(" (%zu public)", public);
        }

        fputc('\n', stdout);
    }

    return op_doc_check(store->doc, "the document", NULL);
}


/* a field's name, or a subject's, with all that is granted to it */

static int
op_show_part(op_store_t *store, json_t *part, const char *name)
{
    char    *field;
    json_t  *value;

    value = op_doc_get(store->doc, name);

    if (value) {
        (void) op_doc_set(part, name, json_incref(value));
        return OP_OK;
    }

    if (asprintf(&field, "subject/%s", name) == -1) {
        field = NULL;
    }

    value = op_doc_get(store->doc, op_memory(field));

    if (value) {
        (void) op_doc_set(part, field, json_incref(value));
        op_show_subject(store->doc, part, name, value);

    } else {
        op_error("there is no \"%s\"", name);
    }

    free(field);

    return value ? OP_OK : OP_NO;
}


static void
op_show_subject(json_t *doc, json_t *part, const char *name,
    json_t *subject)
{
    json_t      *grant;
    const char  *key, *role;

    json_object_foreach(json_object_get(doc, "grants"), key, grant) {

        if (!op_show_named(json_object_get(grant, "subjects"), name)
            && !op_show_common(json_object_get(grant, "groups"),
                               json_object_get(subject, "groups")))
        {
            continue;
        }

        op_show_copy(part, doc, "grants", key);

        role = json_string_value(json_object_get(grant, "role"));

        if (role) {
            op_show_copy(part, doc, "role", role);
        }
    }
}


static int
op_show_named(json_t *list, const char *name)
{
    size_t       i;
    json_t      *value;
    const char  *text;

    json_array_foreach(list, i, value) {

        text = json_string_value(value);

        if (text && strcmp(text, name) == 0) {
            return 1;
        }
    }

    return 0;
}


static int
op_show_common(json_t *list, json_t *other)
{
    size_t   i;
    json_t  *value;

    json_array_foreach(other, i, value) {
        if (json_is_string(value)
            && op_show_named(list, json_string_value(value)))
        {
            return 1;
        }
    }

    return 0;
}


static void
op_show_copy(json_t *part, json_t *doc, const char *kind, const char *name)
{
    char    *field;
    json_t  *value;

    if (asprintf(&field, "%s/%s", kind, name) == -1) {
        field = NULL;
    }

    value = op_doc_get(doc, op_memory(field));

    if (value) {
        (void) op_doc_set(part, field, json_incref(value));
    }

    free(field);
}


static void
op_show_json(op_opts_t *o, json_t *doc)
{
    json_t  *hidden;

    if (o->secrets) {
        op_print_json(doc);
        return;
    }

    hidden = op_doc_hide(doc);
    op_print_json(hidden);
    json_decref(hidden);
}
