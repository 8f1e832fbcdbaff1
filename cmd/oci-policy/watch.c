
/*
 * Copyright (C) The nginx-oci authors
 *
 * Changes as they come, until somebody ends it.
 */


#include "op.h"

#include <time.h>


static json_t *op_watch_copy(json_t *doc);
static void op_watch_before(op_store_t *store, char *buf, size_t size);


int
op_cmd_watch(op_opts_t *o, int argc, char **argv)
{
    int          rc;
    char         before[64];
    json_t      *last, *changes;
    op_store_t  *store;

    (void) argc;
    (void) argv;

    rc = op_store_open(o, &store);
    if (rc != OP_OK) {
        return rc;
    }

    rc = store->load(store, 0);

    if (rc != OP_OK) {
        store->close(store);
        return rc;
    }

    op_watch_before(store, before, sizeof(before));
    printf("%sis what it begins with\n", before);

    while (op_flush() == OP_OK) {

        last = op_watch_copy(store->doc);

        if (store->wait(store) == OP_OK) {

            changes = op_doc_diff(last, store->doc);
            op_watch_before(store, before, sizeof(before));
            op_print_changes(before, changes);
            json_decref(changes);
        }

        json_decref(last);
    }

    store->close(store);

    return OP_FAILED;
}


/* entries are replaced, never changed: two levels are enough */

static json_t *
op_watch_copy(json_t *doc)
{
    size_t       i;
    json_t      *copy, *section;
    const char  *name;

    copy = op_memory(json_copy(doc));

    for (i = 0; (name = op_doc_section(i, NULL)) != NULL; i++) {

        section = json_object_get(doc, name);

        if (section) {
            (void) json_object_set_new(copy, name,
                                       op_memory(json_copy(section)));
        }
    }

    return copy;
}


/* the time, and Redis' epoch */

static void
op_watch_before(op_store_t *store, char *buf, size_t size)
{
    char       text[32];
    time_t     now;
    struct tm  tm;

    now = time(NULL);
    (void) gmtime_r(&now, &tm);
    (void) strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);

    if (store->epoch >= 0) {
        (void) snprintf(buf, size, "%s epoch %lld ", text,
                        (long long) store->epoch);

    } else {
        (void) snprintf(buf, size, "%s ", text);
    }
}
