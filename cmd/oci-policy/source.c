
/*
 * Copyright (C) The nginx-oci authors
 *
 * Where a document is, and how it is changed while others may do so, too.
 */


#include "op.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


static int op_update_once(op_opts_t *o, op_store_t *store, op_edit_pt edit,
    void *data, int whole);
static json_t *op_changes(op_store_t *store, json_t *doc);


int
op_store_open(op_opts_t *o, op_store_t **store)
{
    if (o->source == NULL || o->source[0] == '\0') {
        op_error("no --source, and no OCI_POLICY_SOURCE");
        return OP_USAGE;
    }

    if (strncmp(o->source, "file:", 5) == 0) {

        if (o->source[5] == '\0') {
            op_error("source \"%s\" has no path", o->source);
            return OP_USAGE;
        }

        *store = op_file_open(o, o->source + 5);

        return OP_OK;
    }

    if (strncmp(o->source, "redis://", 8) == 0
        || strncmp(o->source, "rediss://", 9) == 0
        || strncmp(o->source, "unix:", 5) == 0)
    {
        return op_redis_open(o, store);
    }

    op_error("the source is none of file:PATH, redis://HOST, rediss://HOST "
             "and unix:PATH");

    return OP_USAGE;
}


/* the first line of a file that others can't read */

int
op_secret_file(const char *file, char *buf, size_t size)
{
    int          fd;
    size_t       len;
    ssize_t      n;
    struct stat  st;

    fd = open(file, O_RDONLY|O_CLOEXEC);

    if (fd == -1 || fstat(fd, &st) == -1) {
        op_error("password file \"%s\" can't be read (%s)", file,
                 strerror(errno));

        if (fd != -1) {
            (void) close(fd);
        }

        return OP_FAILED;
    }

    if (S_ISREG(st.st_mode) && (st.st_mode & (S_IROTH|S_IWOTH))) {
        op_error("password file \"%s\" is open to everyone", file);
        (void) close(fd);
        return OP_FAILED;
    }

    len = 0;

    while (len < size - 1) {

        n = read(fd, buf + len, size - 1 - len);

        if (n == -1 && errno == EINTR) {
            continue;
        }

        if (n <= 0) {
            break;
        }

        len += (size_t) n;
    }

    (void) close(fd);

    buf[len] = '\0';
    buf[strcspn(buf, "\r\n")] = '\0';

    if (buf[0] == '\0') {
        op_error("password file \"%s\" has no password on its first line",
                 file);
        return OP_FAILED;
    }

    return OP_OK;
}


/* loads, has it edited, checks and writes what differs; again, if need be */

int
op_update(op_opts_t *o, op_edit_pt edit, void *data, int whole)
{
    int          i, rc;
    op_store_t  *store;

    rc = op_store_open(o, &store);
    if (rc != OP_OK) {
        return rc;
    }

    srandom((unsigned) getpid());
    rc = OP_AGAIN;

    for (i = 0; rc == OP_AGAIN && i < OP_TRIES; i++) {

        if (i) {
            (void) usleep((useconds_t) (1000 + random() % (10000 * i)));
        }

        rc = op_update_once(o, store, edit, data, whole);
        store->unlock(store);
    }

    if (rc == OP_AGAIN) {
        op_error("others changed \"%s\" at each of %d tries, nothing was "
                 "written", store->name, OP_TRIES);
        rc = OP_BUSY;
    }

    store->close(store);

    return rc;
}


static int
op_update_once(op_opts_t *o, op_store_t *store, op_edit_pt edit, void *data,
    int whole)
{
    int          rc;
    json_t      *doc, *changes;
    const char  *field;

    store->whole = whole;

    rc = store->load(store, !o->dry_run);
    if (rc != OP_OK) {
        return rc;
    }

    if (!whole && !store->found) {
        op_error("\"%s\" has no policy document, \"import\" makes one",
                 store->name);
        return OP_REFUSED;
    }

    if (whole != OP_WHOLE && json_object_size(store->odd)) {
        field = json_object_iter_key(json_object_iter(store->odd));
        op_error("field \"%s\" in \"%s\" %s: \"import\" of a whole document "
                 "mends it", field, store->name,
                 json_string_value(json_object_get(store->odd, field)));
        return OP_REFUSED;
    }

    doc = op_memory(json_deep_copy(store->doc));
    rc = edit(doc, data);

    if (rc == OP_OK) {
        rc = op_doc_check(doc, "the document as it would be", NULL);
    }

    if (rc != OP_OK) {
        json_decref(doc);
        return rc;
    }

    changes = op_changes(store, doc);

    if (json_object_size(changes) == 0 && store->found) {
        puts("nothing differs");

    } else if (o->dry_run) {
        op_print_changes("", changes);
        puts("nothing was written");

    } else {
        rc = store->commit(store, changes, doc);

        if (rc == OP_OK) {
            op_print_changes("", changes);
        }
    }

    json_decref(changes);
    json_decref(doc);

    return rc;
}


/* what is none of a document goes, or is written anew */

static json_t *
op_changes(op_store_t *store, json_t *doc)
{
    json_t      *changes, *why, *value, *pair;
    const char  *field;

    changes = op_doc_diff(store->doc, doc);

    json_object_foreach(store->odd, field, why) {

        value = op_doc_get(doc, field);
        pair = json_pack("[s, o]", "(none of a document)",
                         value ? json_incref(value) : json_null());

        /* its name may be no UTF-8 */

        if (json_object_set_new_nocheck(changes, field, op_memory(pair))
            != 0)
        {
            (void) op_memory(NULL);
        }
    }

    return changes;
}
