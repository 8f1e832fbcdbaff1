
/*
 * Copyright (C) The nginx-oci authors
 *
 * A document in Redis: the hash {PREFIX}:doc, whose fields are those of a
 * document with their JSON, the counter {PREFIX}:epoch, and the channel
 * {PREFIX}:changed.  Each change is one transaction over all of them, under
 * WATCH: it counts only if nobody else wrote since the document was loaded.
 */


#include "redis.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>


#define OP_REDIS_ROUNDS   1000000       /* of one HSCAN */
#define OP_REDIS_READS    10            /* of a document that changes */
#define OP_REDIS_QUIET    5             /* seconds without a message */


typedef struct {
    op_store_t     store;
    op_redis_at_t  at;
    op_conn_t      conn;
    op_conn_t      sub;         /* subscribed, while it is watched */
    int            watching;    /* WATCH is in force */
    char          *doc;         /* keys */
    char          *epoch;
    char          *channel;
} op_redis_t;


static int op_redis_prefix(op_redis_t *r, const char *prefix);
static int op_redis_load(op_store_t *s, int write);
static int op_redis_read(op_redis_t *r);
static int op_redis_epoch(op_redis_t *r, int64_t *epoch);
static int op_redis_scan(op_redis_t *r);
static int op_redis_scan_part(op_redis_t *r, redisReply *reply,
    size_t *total);
static int op_redis_field(op_redis_t *r, const char *field, size_t field_len,
    const char *value, size_t len);
static int op_redis_commit(op_store_t *s, json_t *changes, json_t *doc);
static int op_redis_queue(op_redis_t *r, json_t *changes, int removed);
static int op_redis_count(op_redis_t *r);
static int op_redis_publish(op_redis_t *r, json_t *changes);
static int op_redis_exec(op_redis_t *r);
static int op_redis_simple(op_redis_t *r, const char *command,
    const char *arg, const char *arg2);
static void op_redis_unlock(op_store_t *s);
static int op_redis_wait(op_store_t *s);
static int op_redis_subscribe(op_redis_t *r);
static int op_redis_message(op_redis_t *r, redisReply *reply);
static int op_redis_refresh(op_redis_t *r, char *fields);
static void op_redis_close(op_store_t *s);


int
op_redis_open(op_opts_t *o, op_store_t **store)
{
    int          rc;
    op_redis_t  *r;

    r = op_memory(calloc(1, sizeof(op_redis_t)));

    r->conn.fd = -1;
    r->sub.fd = -1;

    r->store.doc = op_doc_new();
    r->store.odd = op_memory(json_object());
    r->store.load = op_redis_load;
    r->store.commit = op_redis_commit;
    r->store.unlock = op_redis_unlock;
    r->store.wait = op_redis_wait;
    r->store.close = op_redis_close;

    rc = op_redis_at(&r->at, o);

    if (rc == OP_OK) {
        rc = op_redis_prefix(r, o->prefix ? o->prefix : "oci");
    }

    if (rc != OP_OK) {
        op_redis_close(&r->store);
        return rc;
    }

    r->store.name = r->at.name;
    *store = &r->store;

    return OP_OK;
}


static int
op_redis_prefix(op_redis_t *r, const char *prefix)
{
    const char  *p;

    for (p = prefix; *p; p++) {
        if (*p <= 0x20 || *p >= 0x7f || *p == '{' || *p == '}') {
            break;
        }
    }

    if (p == prefix || *p) {
        op_error("prefix \"%s\" is not made of letters, digits and such",
                 prefix);
        return OP_USAGE;
    }

    if (asprintf(&r->doc, "{%s}:doc", prefix) == -1
        || asprintf(&r->epoch, "{%s}:epoch", prefix) == -1
        || asprintf(&r->channel, "{%s}:changed", prefix) == -1)
    {
        (void) op_memory(NULL);
    }

    return OP_OK;
}


static int
op_redis_load(op_store_t *s, int write)
{
    int          rc, i;
    op_redis_t  *r = (op_redis_t *) s;

    if (r->conn.fd == -1) {
        rc = op_conn_open(&r->conn, &r->at);
        if (rc != OP_OK) {
            return rc;
        }
    }

    if (write) {
        if (op_redis_simple(r, "WATCH", r->epoch, r->doc) != OP_OK) {
            return OP_FAILED;
        }

        r->watching = 1;

        return op_redis_read(r);
    }

    for (i = 0; i < OP_REDIS_READS; i++) {

        rc = op_redis_read(r);

        if (rc != OP_AGAIN) {
            return rc;
        }
    }

    op_error("\"%s\" changes all the time", r->at.name);

    return OP_BUSY;
}


/* OP_AGAIN: it changed meanwhile */

static int
op_redis_read(op_redis_t *r)
{
    int64_t  before, after;

    if (op_redis_epoch(r, &before) != OP_OK
        || op_redis_scan(r) != OP_OK
        || op_redis_epoch(r, &after) != OP_OK)
    {
        return OP_FAILED;
    }

    r->store.epoch = after;

    return (before == after) ? OP_OK : OP_AGAIN;
}


static int
op_redis_epoch(op_redis_t *r, int64_t *epoch)
{
    int          rc;
    char        *end;
    redisReply  *reply;
    const char  *argv[2] = { "GET", r->epoch };

    reply = op_conn_call(&r->conn, 0, 2, argv, NULL);
    if (reply == NULL) {
        return OP_FAILED;
    }

    rc = OP_OK;
    *epoch = 0;

    if (reply->type == REDIS_REPLY_STRING) {

        *epoch = strtoll(reply->str, &end, 10);

        if (reply->len == 0 || *end || *epoch < 0) {
            op_error("\"%s\" in \"%s\" is no number", r->epoch, r->at.name);
            rc = OP_FAILED;
        }

    } else if (reply->type != REDIS_REPLY_NIL) {
        op_error("\"%s\" answers something else than is due to GET",
                 r->at.name);
        rc = OP_FAILED;
    }

    freeReplyObject(reply);

    return rc;
}


static int
op_redis_scan(op_redis_t *r)
{
    int          rc, rounds;
    char         cursor[32];
    size_t       total;
    redisReply  *reply;
    const char  *argv[5] = { "HSCAN", r->doc, cursor, "COUNT", "1000" };

    json_decref(r->store.doc);
    r->store.doc = op_doc_new();
    (void) json_object_clear(r->store.odd);

    strcpy(cursor, "0");
    total = 0;

    for (rounds = 0; rounds < OP_REDIS_ROUNDS; rounds++) {

        reply = op_conn_call(&r->conn, REDIS_REPLY_ARRAY, 5, argv, NULL);
        if (reply == NULL) {
            return OP_FAILED;
        }

        if (reply->elements != 2
            || reply->element[0]->type != REDIS_REPLY_STRING
            || (size_t) reply->element[0]->len >= sizeof(cursor)
            || reply->element[1]->type != REDIS_REPLY_ARRAY
            || reply->element[1]->elements % 2)
        {
            op_error("\"%s\" answers something else than is due to HSCAN",
                     r->at.name);
            rc = OP_FAILED;

        } else {
            strcpy(cursor, reply->element[0]->str);
            rc = op_redis_scan_part(r, reply->element[1], &total);
        }

        freeReplyObject(reply);

        if (rc != OP_OK) {
            return rc;
        }

        if (strcmp(cursor, "0") == 0) {
            r->store.found = (total != 0);
            return OP_OK;
        }
    }

    op_error("\"%s\" answers to HSCAN without end", r->at.name);

    return OP_FAILED;
}


static int
op_redis_scan_part(op_redis_t *r, redisReply *reply, size_t *total)
{
    size_t       i;
    redisReply  *field, *value;

    for (i = 0; i < reply->elements; i += 2) {

        field = reply->element[i];
        value = reply->element[i + 1];

        if (field->type != REDIS_REPLY_STRING
            || value->type != REDIS_REPLY_STRING)
        {
            op_error("\"%s\" answers something else than is due to HSCAN",
                     r->at.name);
            return OP_FAILED;
        }

        *total += (size_t) field->len + (size_t) value->len;

        if (*total > OP_DOC_MAX) {
            op_error("\"%s\" in \"%s\" has more than 64m", r->doc,
                     r->at.name);
            return OP_FAILED;
        }

        if (op_redis_field(r, field->str, (size_t) field->len, value->str,
                           (size_t) value->len)
            != OP_OK)
        {
            return OP_FAILED;
        }
    }

    return OP_OK;
}


/* what is none of a document is remembered: it can be removed */

static int
op_redis_field(op_redis_t *r, const char *field, size_t field_len,
    const char *value, size_t len)
{
    json_t      *json;
    const char  *why;

    if (strlen(field) != field_len) {
        op_error("\"%s\" in \"%s\" has a field with a NUL in its name, which "
                 "is to be removed", r->doc, r->at.name);
        return OP_FAILED;
    }

    json = json_loadb(value, len, JSON_REJECT_DUPLICATES|JSON_DECODE_ANY,
                      NULL);

    if (json && op_doc_set(r->store.doc, field, json) == OP_OK) {
        return OP_OK;
    }

    why = json ? "is none of a policy document" : "holds no JSON";

    if (json_object_set_new_nocheck(r->store.odd, field, json_string(why))
        != 0)
    {
        (void) op_memory(NULL);
    }

    return OP_OK;
}


static int
op_redis_commit(op_store_t *s, json_t *changes, json_t *doc)
{
    int          rc;
    op_redis_t  *r = (op_redis_t *) s;

    (void) doc;

    rc = OP_FAILED;

    if (op_redis_simple(r, "MULTI", NULL, NULL) == OP_OK
        && op_redis_queue(r, changes, 0) == OP_OK
        && op_redis_queue(r, changes, 1) == OP_OK
        && op_redis_count(r) == OP_OK
        && op_redis_publish(r, changes) == OP_OK)
    {
        rc = op_redis_exec(r);
    }

    r->watching = 0;

    if (rc == OP_FAILED) {

        /* what is queued goes with the connection */

        op_conn_close(&r->conn);
    }

    return rc;
}


/* HSET of what is there, or HDEL of what is not */

static int
op_redis_queue(op_redis_t *r, json_t *changes, int removed)
{
    int          argc, last, rc, i;
    char        *texts[OP_ARGS_MAX];
    size_t       lens[OP_ARGS_MAX], n, total;
    json_t      *pair, *value;
    redisReply  *reply;
    const char  *argv[OP_ARGS_MAX], *field;

    argv[0] = removed ? "HDEL" : "HSET";
    argv[1] = r->doc;
    lens[0] = 4;
    lens[1] = strlen(r->doc);

    argc = 2;
    n = 0;
    total = 0;
    rc = OP_OK;

    json_object_foreach(changes, field, pair) {

        value = json_array_get(pair, 1);
        last = (++n == json_object_size(changes));

        if (json_is_null(value) == removed) {

            argv[argc] = field;
            lens[argc] = strlen(field);
            texts[argc++] = NULL;

            if (!removed) {
                texts[argc] = op_memory(json_dumps(value,
                                          JSON_COMPACT|JSON_ENCODE_ANY));
                argv[argc] = texts[argc];
                lens[argc] = strlen(texts[argc]);
                total += lens[argc++];
            }
        }

        if (argc == 2
            || (!last && argc < OP_ARGS_MAX - 2 && total < 1024 * 1024))
        {
            continue;
        }

        reply = op_conn_call(&r->conn, REDIS_REPLY_STATUS, argc, argv, lens);

        for (i = 2; i < argc; i++) {
            if (texts[i]) {
                explicit_bzero(texts[i], lens[i]);
                free(texts[i]);
            }
        }

        argc = 2;
        total = 0;

        if (reply == NULL) {
            rc = OP_FAILED;
            break;
        }

        freeReplyObject(reply);
    }

    return rc;
}


/*
 * A counter that is not there begins with the time, in milliseconds: edges
 * that knew this Redis before it was flushed take no document with a smaller
 * one, and it grows by less than one in a millisecond.
 */

static int
op_redis_count(op_redis_t *r)
{
    char             text[32];
    struct timespec  ts;

    if (r->store.epoch > 0) {
        return op_redis_simple(r, "INCR", r->epoch, NULL);
    }

    (void) clock_gettime(CLOCK_REALTIME, &ts);
    (void) snprintf(text, sizeof(text), "%lld",
                    (long long) ts.tv_sec * 1000 + ts.tv_nsec / 1000000);

    return op_redis_simple(r, "INCRBY", r->epoch, text);
}


/* the names of the fields; "*", if they are too many */

static int
op_redis_publish(op_redis_t *r, json_t *changes)
{
    int          rc;
    char        *text, *p;
    size_t       len;
    json_t      *pair;
    const char  *field;

    len = 1;

    json_object_foreach(changes, field, pair) {
        len += strlen(field) + 1;
    }

    text = op_memory(malloc(len + 1));
    p = text;

    if (len > 65536 || json_object_size(changes) > 1000 || len == 1) {
        strcpy(text, "*");

    } else {

        json_object_foreach(changes, field, pair) {

            if (p != text) {
                *p++ = '\n';
            }

            p = stpcpy(p, field);
        }
    }

    rc = op_redis_simple(r, "PUBLISH", r->channel, text);
    free(text);

    return rc;
}


static int
op_redis_exec(op_redis_t *r)
{
    int          rc;
    size_t       i;
    redisReply  *reply;
    const char  *argv[1] = { "EXEC" };

    reply = op_conn_call(&r->conn, 0, 1, argv, NULL);

    if (reply == NULL) {
        op_error("whether the change was written is not known: \"show\" "
                 "tells");
        return OP_FAILED;
    }

    if (reply->type == REDIS_REPLY_NIL) {
        freeReplyObject(reply);
        return OP_AGAIN;
    }

    rc = OP_OK;

    for (i = 0; i < reply->elements; i++) {
        if (reply->element[i]->type == REDIS_REPLY_ERROR) {
            op_error("\"%s\" refuses a part of the change (%s)", r->at.name,
                     ngx_oci_redis_error(reply->element[i]));
            rc = OP_FAILED;
        }
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2) {
        op_error("\"%s\" answers something else than is due to EXEC",
                 r->at.name);
        rc = OP_FAILED;

    } else if (rc == OP_OK) {
        r->store.epoch = reply->element[reply->elements - 2]->integer;
    }

    freeReplyObject(reply);

    return rc;
}


/* OK, or QUEUED */

static int
op_redis_simple(op_redis_t *r, const char *command, const char *arg,
    const char *arg2)
{
    redisReply  *reply;
    const char  *argv[3] = { command, arg, arg2 };

    reply = op_conn_call(&r->conn, REDIS_REPLY_STATUS,
                         1 + (arg != NULL) + (arg2 != NULL), argv, NULL);
    if (reply == NULL) {
        return OP_FAILED;
    }

    freeReplyObject(reply);

    return OP_OK;
}


static void
op_redis_unlock(op_store_t *s)
{
    op_redis_t  *r = (op_redis_t *) s;

    if (r->watching && r->conn.fd != -1) {
        (void) op_redis_simple(r, "UNWATCH", NULL, NULL);
    }

    r->watching = 0;
}


static int
op_redis_wait(op_store_t *s)
{
    int          rc;
    int64_t      epoch;
    redisReply  *reply;
    op_redis_t  *r = (op_redis_t *) s;

    if (r->sub.fd == -1) {

        if (op_redis_subscribe(r) == OP_OK && op_redis_load(s, 0) == OP_OK) {
            return OP_OK;
        }

        rc = OP_FAILED;

    } else {

        rc = op_conn_reply(&r->sub, &reply, 1);

        if (rc == OP_OK) {
            rc = op_redis_message(r, reply);
            freeReplyObject(reply);

        } else if (rc == OP_AGAIN) {

            /* whoever wrote may not have told */

            rc = op_redis_epoch(r, &epoch);

            if (rc == OP_OK && epoch == s->epoch) {
                return OP_AGAIN;
            }

            if (rc == OP_OK) {
                rc = op_redis_load(s, 0);
            }
        }
    }

    if (rc != OP_OK) {
        op_conn_close(&r->sub);
        op_conn_close(&r->conn);
        (void) sleep(1);
        return OP_AGAIN;
    }

    return OP_OK;
}


static int
op_redis_subscribe(op_redis_t *r)
{
    redisReply  *reply;
    const char  *argv[2] = { "SUBSCRIBE", r->channel };

    if (op_conn_open(&r->sub, &r->at) != OP_OK) {
        return OP_FAILED;
    }

    reply = op_conn_call(&r->sub, REDIS_REPLY_ARRAY, 2, argv, NULL);
    if (reply == NULL) {
        return OP_FAILED;
    }

    freeReplyObject(reply);

    return op_conn_timeout(&r->sub, OP_REDIS_QUIET);
}


static int
op_redis_message(op_redis_t *r, redisReply *reply)
{
    redisReply  *text;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3
        || reply->element[2]->type != REDIS_REPLY_STRING)
    {
        op_error("\"%s\" sends something else than messages", r->at.name);
        return OP_FAILED;
    }

    text = reply->element[2];

    if (strlen(text->str) != (size_t) text->len || text->len > 1024 * 1024) {
        return op_redis_load(&r->store, 0);
    }

    return op_redis_refresh(r, text->str);
}


static int
op_redis_refresh(op_redis_t *r, char *fields)
{
    int          argc, i, rc;
    char        *p;
    redisReply  *reply, *value;
    const char  *argv[OP_ARGS_MAX];

    argv[0] = "HMGET";
    argv[1] = r->doc;
    argc = 2;

    for (p = strtok(fields, "\n"); p; p = strtok(NULL, "\n")) {

        if (argc == OP_ARGS_MAX || !op_doc_is_field(p)) {
            return op_redis_load(&r->store, 0);
        }

        argv[argc++] = p;
    }

    if (argc == 2) {
        return op_redis_load(&r->store, 0);
    }

    reply = op_conn_call(&r->conn, REDIS_REPLY_ARRAY, argc, argv, NULL);
    if (reply == NULL) {
        return OP_FAILED;
    }

    rc = (reply->elements == (size_t) argc - 2) ? OP_OK : OP_FAILED;

    for (i = 2; rc == OP_OK && i < argc; i++) {

        value = reply->element[i - 2];
        (void) json_object_del(r->store.odd, argv[i]);
        (void) op_doc_set(r->store.doc, argv[i], NULL);

        if (value->type == REDIS_REPLY_STRING) {
            rc = op_redis_field(r, argv[i], strlen(argv[i]), value->str,
                                (size_t) value->len);
        }
    }

    freeReplyObject(reply);

    return rc == OP_OK ? op_redis_epoch(r, &r->store.epoch) : rc;
}


static void
op_redis_close(op_store_t *s)
{
    op_redis_t  *r = (op_redis_t *) s;

    op_conn_close(&r->conn);
    op_conn_close(&r->sub);
    op_redis_at_free(&r->at);

    json_decref(s->doc);
    json_decref(s->odd);

    free(r->doc);
    free(r->epoch);
    free(r->channel);
    free(r);
}
