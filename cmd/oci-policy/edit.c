
/*
 * Copyright (C) The nginx-oci authors
 *
 * Commands that change a document.
 */


#include "op.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>


typedef struct {
    const char  *name;
    const char  *member;
    json_t      *value;         /* NULL: the member is removed */
    int          create;
} op_subject_t;


static int op_subject_edit(json_t *doc, void *data);
static int op_quarantine_edit(json_t *doc, void *data);
static int op_release_edit(json_t *doc, void *data);
static int op_digest(const char *digest);


int
op_cmd_import(op_opts_t *o, int argc, char **argv)
{
    int      rc;
    json_t  *doc;

    (void) argc;

    rc = op_doc_read(argv[0], -1, &doc);

    if (rc == OP_OK) {
        rc = op_update(o, op_import_edit, doc, OP_WHOLE);
        json_decref(doc);
    }

    return rc;
}


/* what is in quarantine stays there, unless that is given, too */

int
op_import_edit(json_t *doc, void *data)
{
    json_t  *kept;

    kept = json_object_get(doc, "quarantine");

    if (kept) {
        json_incref(kept);
    }

    (void) json_object_clear(doc);

    if (kept) {
        (void) json_object_set_new(doc, "quarantine", kept);
    }

    if (json_object_update(doc, data) != 0) {
        (void) op_memory(NULL);
    }

    return OP_OK;
}


int
op_cmd_disable(op_opts_t *o, int argc, char **argv)
{
    op_subject_t  edit = { argv[0], "disabled", json_true(), o->create };

    (void) argc;

    return op_update(o, op_subject_edit, &edit, 0);
}


int
op_cmd_enable(op_opts_t *o, int argc, char **argv)
{
    op_subject_t  edit = { argv[0], "disabled", NULL, 0 };

    (void) argc;

    return op_update(o, op_subject_edit, &edit, 0);
}


int
op_cmd_secret(op_opts_t *o, int argc, char **argv)
{
    int           rc;
    char         *phc;
    op_subject_t  edit = { argv[0], "secret", NULL, o->create };

    (void) argc;

    phc = op_hash_stdin(o, &rc);

    if (phc) {
        edit.value = op_memory(json_string(phc));
        rc = op_update(o, op_subject_edit, &edit, 0);
        json_decref(edit.value);
        free(phc);
    }

    return rc;
}


static int
op_subject_edit(json_t *doc, void *data)
{
    char          *field;
    json_t        *subject;
    op_subject_t  *edit = data;

    if (asprintf(&field, "subject/%s", edit->name) == -1) {
        field = NULL;
    }

    subject = op_doc_get(doc, op_memory(field));

    if (subject == NULL) {

        if (!edit->create) {
            op_error("there is no subject \"%s\"%s", edit->name,
                     edit->value ? ", --create makes it" : "");
            free(field);
            return OP_REFUSED;
        }

        subject = op_memory(json_object());

        if (op_doc_set(doc, field, subject) != OP_OK) {
            op_error("\"%s\" is no subject's name", edit->name);
            free(field);
            return OP_REFUSED;
        }
    }

    free(field);

    if (!json_is_object(subject)) {
        op_error("$.subjects.%s is no object", edit->name);
        return OP_REFUSED;
    }

    if (edit->value == NULL) {
        (void) json_object_del(subject, edit->member);

    } else if (json_object_set(subject, edit->member, edit->value) != 0) {
        (void) op_memory(NULL);
    }

    return OP_OK;
}


int
op_cmd_quarantine(op_opts_t *o, int argc, char **argv)
{
    const char  *args[2] = { argv[0], o->reason };

    (void) argc;

    if (o->reason == NULL || o->reason[0] == '\0') {
        op_error("usage: oci-policy quarantine DIGEST --reason TEXT");
        return OP_USAGE;
    }

    if (op_digest(argv[0]) != OP_OK) {
        return OP_USAGE;
    }

    return op_update(o, op_quarantine_edit, args, 0);
}


/* since the first time */

static int
op_quarantine_edit(json_t *doc, void *data)
{
    char         *field, since[32];
    json_t       *old, *value, *t;
    time_t        now;
    struct tm     tm;
    const char  **args = data;

    if (asprintf(&field, "quarantine/%s", args[0]) == -1) {
        field = NULL;
    }

    old = op_doc_get(doc, op_memory(field));
    t = json_object_get(old, "since");

    now = time(NULL);
    (void) gmtime_r(&now, &tm);
    (void) strftime(since, sizeof(since), "%Y-%m-%dT%H:%M:%SZ", &tm);

    value = json_pack("{s:s, s:o}", "reason", args[1], "since",
                      t ? json_incref(t) : json_string(since));

    if (value == NULL) {
        op_error("the reason is no UTF-8");
        free(field);
        return OP_REFUSED;
    }

    (void) op_doc_set(doc, field, value);
    free(field);

    return OP_OK;
}


int
op_cmd_release(op_opts_t *o, int argc, char **argv)
{
    (void) argc;

    if (op_digest(argv[0]) != OP_OK) {
        return OP_USAGE;
    }

    return op_update(o, op_release_edit, argv[0], 0);
}


static int
op_release_edit(json_t *doc, void *data)
{
    int    rc;
    char  *field;

    if (asprintf(&field, "quarantine/%s", (char *) data) == -1) {
        field = NULL;
    }

    rc = op_doc_get(doc, op_memory(field)) ? OP_OK : OP_REFUSED;

    if (rc == OP_OK) {
        (void) op_doc_set(doc, field, NULL);

    } else {
        op_error("\"%s\" is not in quarantine", (char *) data);
    }

    free(field);

    return rc;
}


static int
op_digest(const char *digest)
{
    size_t  len;

    len = strlen(digest);

    if ((strncmp(digest, "sha256:", 7) == 0 && len == 7 + 64)
        || (strncmp(digest, "sha512:", 7) == 0 && len == 7 + 128))
    {
        if (strspn(digest + 7, "0123456789abcdef") == len - 7) {
            return OP_OK;
        }
    }

    op_error("\"%s\" is no digest, as \"sha256:\" and 64 hex digits",
             digest);

    return OP_USAGE;
}
