
/*
 * Copyright (C) The nginx-oci authors
 *
 * Policy documents as JSON: their fields, what differs, and what nginx says
 * to them.
 */


#include "op.h"
#include "ngx_oci_rbac.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


static const struct {
    const char  *kind;          /* of a field */
    const char  *section;       /* of the document */
} op_sections[] = {
    { "subject", "subjects" },
    { "role", "roles" },
    { "grants", "grants" },
    { "project", "projects" },
    { "quarantine", "quarantine" },
    { NULL, NULL }
};


static const char *op_doc_split(const char *field, const char **name);
static void op_doc_changed(json_t *changes, const char *kind,
    const char *name, json_t *from, json_t *to);
static char *op_doc_text(const char *file, int fd, size_t *len);
static int op_doc_compile(const char *text, size_t len, const char *what,
    void **rbac);


json_t *
op_doc_new(void)
{
    return op_memory(json_pack("{s:i}", "version", 1));
}


const char *
op_doc_section(size_t i, const char **kind)
{
    if (op_sections[i].kind && kind) {
        *kind = op_sections[i].kind;
    }

    return op_sections[i].section;
}


/* the section of a field; NULL: it is none of a document */

static const char *
op_doc_split(const char *field, const char **name)
{
    size_t  i, len;

    len = strcspn(field, "/");

    if (field[len] == '\0' || field[len + 1] == '\0') {
        return NULL;
    }

    *name = field + len + 1;

    for (i = 0; op_sections[i].kind; i++) {
        if (strlen(op_sections[i].kind) == len
            && strncmp(op_sections[i].kind, field, len) == 0)
        {
            return op_sections[i].section;
        }
    }

    return NULL;
}


int
op_doc_is_field(const char *field)
{
    const char  *name;

    return op_doc_split(field, &name) != NULL;
}


json_t *
op_doc_get(json_t *doc, const char *field)
{
    const char  *section, *name;

    section = op_doc_split(field, &name);

    return section ? json_object_get(json_object_get(doc, section), name)
                   : NULL;
}


/* takes value, NULL: none; OP_REFUSED: no such field, or no UTF-8 */

int
op_doc_set(json_t *doc, const char *field, json_t *value)
{
    json_t      *object;
    const char  *section, *name;

    section = op_doc_split(field, &name);

    if (section == NULL) {
        json_decref(value);
        return OP_REFUSED;
    }

    object = json_object_get(doc, section);

    if (value == NULL) {
        (void) json_object_del(object, name);
        return OP_OK;
    }

    if (object == NULL) {
        object = op_memory(json_object());
        (void) json_object_set_new(doc, section, object);
    }

    return json_object_set_new(object, name, value) == 0 ? OP_OK
                                                         : OP_REFUSED;
}


json_t *
op_doc_diff(json_t *from, json_t *to)
{
    size_t       i;
    json_t      *changes, *a, *b, *value, *other;
    const char  *name;

    changes = op_memory(json_object());

    for (i = 0; op_sections[i].kind; i++) {

        a = json_object_get(from, op_sections[i].section);
        b = json_object_get(to, op_sections[i].section);

        json_object_foreach(a, name, value) {

            other = json_object_get(b, name);

            if (other == NULL || !json_equal(value, other)) {
                op_doc_changed(changes, op_sections[i].kind, name, value,
                               other);
            }
        }

        json_object_foreach(b, name, value) {
            if (json_object_get(a, name) == NULL) {
                op_doc_changed(changes, op_sections[i].kind, name, NULL,
                               value);
            }
        }
    }

    return changes;
}


static void
op_doc_changed(json_t *changes, const char *kind, const char *name,
    json_t *from, json_t *to)
{
    char    *field;
    json_t  *pair;

    if (asprintf(&field, "%s/%s", kind, name) == -1) {
        field = NULL;
    }

    (void) op_memory(field);

    pair = json_pack("[o, o]", from ? json_incref(from) : json_null(),
                     to ? json_incref(to) : json_null());

    if (json_object_set_new(changes, field, op_memory(pair)) != 0) {
        (void) op_memory(NULL);
    }

    free(field);
}


/*
 * A copy without hashes of secrets: what they are made with stays, and nginx
 * refuses the rest.
 */

json_t *
op_doc_hide(json_t *doc)
{
    json_t      *copy, *subjects, *value;
    const char  *name;

    copy = op_memory(json_copy(doc));
    subjects = json_object_get(doc, "subjects");

    if (!json_is_object(subjects)) {
        return copy;
    }

    subjects = op_memory(json_copy(subjects));
    (void) json_object_set_new(copy, "subjects", subjects);

    json_object_foreach(subjects, name, value) {
        (void) json_object_set_new(subjects, name,
                                   op_doc_hide_value("subject/", value));
    }

    return copy;
}


json_t *
op_doc_hide_value(const char *field, json_t *value)
{
    char        *text;
    size_t       len, n;
    json_t      *copy, *secret;
    const char  *p;

    secret = json_object_get(value, "secret");

    if (secret == NULL || strncmp(field, "subject/", 8) != 0) {
        return json_incref(value);
    }

    copy = op_memory(json_copy(value));
    p = json_is_string(secret) ? json_string_value(secret) : "";
    len = 0;

    if (strncmp(p, "$scrypt$", 8) == 0
        || strncmp(p, "$pbkdf2-sha256$", 15) == 0)
    {
        for (n = 0; p[len] && n < 3; len++) {
            n += (p[len] == '$');
        }
    }

    if (asprintf(&text, "%.*s***", (int) len, p) == -1) {
        text = NULL;
    }

    (void) op_memory(text);

    if (json_object_set_new(copy, "secret", json_string(text)) != 0) {
        (void) op_memory(NULL);
    }

    free(text);

    return copy;
}


/*
 * Checked as nginx does it.  fd: of the file, or -1; "-": standard input.
 * OP_FAILED: it can't be read; OP_REFUSED: it is wrong
 */

int
op_doc_read(const char *file, int fd, json_t **doc)
{
    int     rc;
    char   *text;
    size_t  len;

    text = op_doc_text(file, fd, &len);
    if (text == NULL) {
        return OP_FAILED;
    }

    rc = op_doc_compile(text, len, file, NULL);

    if (rc == OP_OK) {
        *doc = op_memory(json_loadb(text, len, JSON_REJECT_DUPLICATES,
                                    NULL));
    }

    explicit_bzero(text, len);
    free(text);

    return rc;
}


static char *
op_doc_text(const char *file, int fd, size_t *len)
{
    char    *text, *p;
    size_t   size;
    ssize_t  n;

    fd = (fd != -1) ? dup(fd)
         : (strcmp(file, "-") == 0) ? dup(STDIN_FILENO)
                                    : open(file, O_RDONLY|O_CLOEXEC);

    if (fd == -1) {
        op_error("\"%s\" can't be read (%s)", file, strerror(errno));
        return NULL;
    }

    size = 65536;
    text = op_memory(malloc(size));
    *len = 0;

    for ( ;; ) {

        if (*len == size) {
            p = op_memory(malloc(size * 2));
            memcpy(p, text, size);
            explicit_bzero(text, size);
            free(text);

            text = p;
            size *= 2;
        }

        n = read(fd, text + *len, size - *len);

        if (n == -1 && errno == EINTR) {
            continue;
        }

        if (n > 0 && (*len += (size_t) n) <= OP_DOC_MAX) {
            continue;
        }

        break;
    }

    if (n == 0) {
        (void) close(fd);
        return text;
    }

    if (n == -1) {
        op_error("\"%s\" can't be read (%s)", file, strerror(errno));

    } else {
        op_error("\"%s\" has more than 64m", file);
    }

    (void) close(fd);
    explicit_bzero(text, size);
    free(text);

    return NULL;
}


/* rbac: NULL, or what is compiled, to be freed */

int
op_doc_check(json_t *doc, const char *what, void **rbac)
{
    int    rc;
    char  *text;

    text = op_memory(json_dumps(doc, JSON_COMPACT));

    if (strlen(text) > OP_DOC_MAX) {
        op_error("%s has more than 64m", what);
        rc = OP_REFUSED;

    } else {
        rc = op_doc_compile(text, strlen(text), what, rbac);
    }

    explicit_bzero(text, strlen(text));
    free(text);

    return rc;
}


static int
op_doc_compile(const char *text, size_t len, const char *what, void **rbac)
{
    ngx_oci_rbac_t          *doc;
    ngx_oci_policy_error_t   error;

    doc = ngx_oci_policy_compile(text, len, &error);

    if (doc == NULL) {

        if (error.line) {
            op_error("%s is refused: %s in line %lu, column %lu", what,
                     error.text, (unsigned long) error.line,
                     (unsigned long) error.column);

        } else {
            op_error("%s is refused: %s", what, error.text);
        }

        return OP_REFUSED;
    }

    if (rbac) {
        *rbac = doc;

    } else {
        free(doc);
    }

    return OP_OK;
}
