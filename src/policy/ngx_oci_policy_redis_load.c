
/*
 * Copyright (C) The nginx-oci authors
 *
 * How the fields come from Redis: all of them, or those that the channel
 * named.
 *
 * All: by HSCAN, between two looks at the counter, which has to stay; where
 * it never does, by HGETALL at once.
 *
 * Named ones: at once with the counter.  Then the channel is asked for an
 * answer: what it had to tell up to that counter has come before that, so
 * that either nothing did, and the fields are those of the counter, or it is
 * fetched, too.  As every change counts one and tells one message, more
 * changes than messages are such that weren't told, and all is loaded anew.
 */


#include "ngx_oci_policy_redis.h"


#define NGX_OCI_FOLLOW_COUNT  "500"     /* fields, or so, of an HSCAN */
#define NGX_OCI_FOLLOW_LOADS  3         /* then at once */
#define NGX_OCI_FOLLOW_LOOP   500       /* ms, of changes that don't end */


static void ngx_oci_follow_send(ngx_oci_follow_t *fw,
    ngx_oci_redis_pt handler, ngx_uint_t n, ...);
static void ngx_oci_follow_load_begin(ngx_oci_redis_t *rd,
    redisReply *reply);
static void ngx_oci_follow_load_scan(ngx_oci_redis_t *rd, redisReply *reply);
static void ngx_oci_follow_load_end(ngx_oci_redis_t *rd, redisReply *reply);
static void ngx_oci_follow_load_all(ngx_oci_redis_t *rd, redisReply *reply);
static ngx_int_t ngx_oci_follow_load_pairs(ngx_oci_follow_t *fw,
    redisReply *pairs);
static void ngx_oci_follow_load_done(ngx_oci_follow_t *fw);
static void ngx_oci_follow_ok(ngx_oci_redis_t *rd, redisReply *reply);
static void ngx_oci_follow_queued(ngx_oci_redis_t *rd, redisReply *reply);
static void ngx_oci_follow_fetched(ngx_oci_redis_t *rd, redisReply *reply);
static redisReply **ngx_oci_follow_both(ngx_oci_redis_t *rd,
    redisReply *reply, uint64_t *epoch);
static void ngx_oci_follow_refuse(ngx_oci_follow_t *fw, uint64_t epoch,
    const char *why);


void
ngx_oci_follow_drop(ngx_oci_follow_t *fw)
{
    ngx_oci_fields_free(fw->loading);
    fw->loading = NULL;

    ngx_oci_fields_free(fw->fetching);
    fw->fetching = NULL;

    free(fw->names);
    fw->names = NULL;

    fw->step = NGX_OCI_FOLLOW_IDLE;
    fw->settling_since = 0;
}


/* of strings that end with a zero */

static void
ngx_oci_follow_send(ngx_oci_follow_t *fw, ngx_oci_redis_pt handler,
    ngx_uint_t n, ...)
{
    size_t       len[5];
    va_list      args;
    ngx_uint_t   i;
    const char  *argv[5];

    va_start(args, n);

    for (i = 0; i < n; i++) {
        argv[i] = va_arg(args, const char *);
        len[i] = ngx_strlen(argv[i]);
    }

    va_end(args);

    ngx_oci_redis_command(&fw->commands, handler, n, argv, len);
}


void
ngx_oci_follow_load(ngx_oci_follow_t *fw)
{
    char                    *doc, *epoch;
    ngx_oci_fields_t        *dirty;
    ngx_oci_policy_redis_t  *prcf;

    prcf = fw->pcf->redis;
    doc = (char *) prcf->doc.data;
    epoch = (char *) prcf->epoch.data;

    ngx_oci_follow_drop(fw);

    dirty = ngx_oci_fields_create();
    fw->loading = ngx_oci_fields_create();

    if (dirty == NULL || fw->loading == NULL) {
        ngx_oci_fields_free(dirty);
        ngx_oci_redis_fail(&fw->commands, "no memory", 0);
        return;
    }

    ngx_oci_fields_free(fw->dirty);
    fw->dirty = dirty;

    fw->step = NGX_OCI_FOLLOW_LOADING;
    fw->loading_at = ngx_oci_follow_now();
    fw->loading_epoch = 0;
    fw->reload = 0;
    fw->current = 0;
    fw->messages = 0;
    fw->retry = 0;
    fw->retry_load = 0;

    if (fw->loads >= NGX_OCI_FOLLOW_LOADS) {
        ngx_oci_follow_send(fw, ngx_oci_follow_ok, 1, "MULTI");
        ngx_oci_follow_send(fw, ngx_oci_follow_queued, 2, "GET", epoch);
        ngx_oci_follow_send(fw, ngx_oci_follow_queued, 2, "HGETALL", doc);
        ngx_oci_follow_send(fw, ngx_oci_follow_load_all, 1, "EXEC");
        return;
    }

    ngx_oci_follow_send(fw, ngx_oci_follow_load_begin, 2, "GET", epoch);
    ngx_oci_follow_send(fw, ngx_oci_follow_load_scan, 5, "HSCAN", doc, "0",
                        "COUNT", NGX_OCI_FOLLOW_COUNT);
}


static void
ngx_oci_follow_load_begin(ngx_oci_redis_t *rd, redisReply *reply)
{
    ngx_oci_follow_t  *fw;

    fw = rd->data;

    if (ngx_oci_redis_is(reply, REDIS_REPLY_ERROR)) {
        ngx_oci_redis_refused(rd, "to tell the epoch", reply);
        return;
    }

    if (ngx_oci_redis_number(reply, &fw->loading_epoch) != NGX_OK) {
        ngx_oci_redis_fail(rd, "its epoch is no number", 0);
    }
}


static void
ngx_oci_follow_load_scan(ngx_oci_redis_t *rd, redisReply *reply)
{
    char                     cursor[NGX_OCI_REDIS_CURSOR];
    redisReply              *pairs;
    ngx_uint_t               last;
    ngx_oci_follow_t        *fw;
    ngx_oci_policy_redis_t  *prcf;

    fw = rd->data;
    prcf = fw->pcf->redis;

    if (ngx_oci_redis_is(reply, REDIS_REPLY_ERROR)) {
        ngx_oci_redis_refused(rd, "to tell the document", reply);
        return;
    }

    if (ngx_oci_redis_scan(reply, cursor, &last, &pairs) != NGX_OK) {
        ngx_oci_redis_fail(rd, "it answered nonsense", 0);
        return;
    }

    if (ngx_oci_follow_load_pairs(fw, pairs) != NGX_OK) {
        return;
    }

    if (last) {
        ngx_oci_follow_send(fw, ngx_oci_follow_load_end, 2, "GET",
                            prcf->epoch.data);
        return;
    }

    ngx_oci_follow_send(fw, ngx_oci_follow_load_scan, 5, "HSCAN",
                        prcf->doc.data, cursor, "COUNT",
                        NGX_OCI_FOLLOW_COUNT);
}


static ngx_int_t
ngx_oci_follow_load_pairs(ngx_oci_follow_t *fw, redisReply *pairs)
{
    size_t        i;
    redisReply  **e;
    const char   *why;

    e = pairs->element;

    for (i = 0; i < pairs->elements; i += 2) {

        why = ngx_oci_fields_set(fw->loading, e[i]->str, e[i]->len,
                                 e[i + 1]->str, e[i + 1]->len);

        if (why) {
            ngx_oci_follow_refuse(fw, fw->loading_epoch, why);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_oci_follow_load_end(ngx_oci_redis_t *rd, redisReply *reply)
{
    uint64_t           n;
    ngx_oci_follow_t  *fw;

    fw = rd->data;

    if (ngx_oci_redis_number(reply, &n) != NGX_OK) {
        ngx_oci_redis_fail(rd, "its epoch is no number", 0);
        return;
    }

    if (n == fw->loading_epoch) {
        ngx_oci_follow_load_done(fw);
        return;
    }

    fw->loads++;
    fw->reload = 1;

    ngx_oci_follow_drop(fw);
    ngx_oci_follow_next(fw);
}


static void
ngx_oci_follow_load_all(ngx_oci_redis_t *rd, redisReply *reply)
{
    redisReply        **e;
    ngx_oci_follow_t   *fw;

    fw = rd->data;

    e = ngx_oci_follow_both(rd, reply, &fw->loading_epoch);
    if (e == NULL) {
        return;
    }

    if (!ngx_oci_redis_pairs(e[1])) {
        ngx_oci_redis_fail(rd, "it answered nonsense", 0);
        return;
    }

    if (ngx_oci_follow_load_pairs(fw, e[1]) == NGX_OK) {
        ngx_oci_follow_load_done(fw);
    }
}


static void
ngx_oci_follow_load_done(ngx_oci_follow_t *fw)
{
    /* a large one takes long to free: the thread does, which comes next */

    if (fw->old) {
        ngx_oci_fields_free(fw->fields);

    } else {
        fw->old = fw->fields;
    }

    fw->fields = fw->loading;
    fw->loading = NULL;

    fw->epoch = fw->loading_epoch;
    fw->at = fw->loading_at;
    fw->step = NGX_OCI_FOLLOW_IDLE;
    fw->loads = 0;
    fw->commands_tries = 0;
    fw->loaded = 1;
    fw->fresh = 1;

    ngx_oci_follow_next(fw);
}


/* the fields can't be had: that of the counter's value is no document */

static void
ngx_oci_follow_refuse(ngx_oci_follow_t *fw, uint64_t epoch, const char *why)
{
    ngx_oci_follow_drop(fw);

    fw->epoch = epoch;
    fw->loaded = 1;
    fw->fresh = 0;
    fw->current = 0;
    fw->commands_tries = 0;
    fw->retry_load = 1;

    ngx_oci_follow_say(fw, why);
}


void
ngx_oci_follow_fetch(ngx_oci_follow_t *fw)
{
    size_t                   i, n, *len;
    const char             **argv;
    ngx_oci_fields_t        *dirty;
    ngx_oci_policy_redis_t  *prcf;

    prcf = fw->pcf->redis;

    ngx_oci_follow_drop(fw);

    n = ngx_oci_fields_count(fw->dirty);
    argv = calloc(n + 2, sizeof(char *));
    len = calloc(n + 2, sizeof(size_t));
    dirty = ngx_oci_fields_create();
    fw->names = ngx_oci_fields_names(fw->dirty);

    if (argv == NULL || len == NULL || dirty == NULL || fw->names == NULL) {
        ngx_oci_fields_free(dirty);
        ngx_oci_redis_fail(&fw->commands, "no memory", 0);
        goto done;
    }

    fw->fetching = fw->dirty;
    fw->dirty = dirty;
    fw->fetching_at = ngx_oci_follow_now();
    fw->step = NGX_OCI_FOLLOW_FETCHING;

    if (fw->settling_since == 0) {
        fw->settling_since = fw->fetching_at;
    }

    argv[0] = "HMGET";
    len[0] = 5;
    argv[1] = (char *) prcf->doc.data;
    len[1] = prcf->doc.len;

    for (i = 0; i < n; i++) {
        argv[i + 2] = fw->names[i].name;
        len[i + 2] = fw->names[i].len;
    }

    ngx_oci_follow_send(fw, ngx_oci_follow_ok, 1, "MULTI");
    ngx_oci_follow_send(fw, ngx_oci_follow_queued, 2, "GET",
                        prcf->epoch.data);
    ngx_oci_redis_command(&fw->commands, ngx_oci_follow_queued, n + 2, argv,
                          len);
    ngx_oci_follow_send(fw, ngx_oci_follow_fetched, 1, "EXEC");

done:

    free(argv);
    free(len);
}


static void
ngx_oci_follow_ok(ngx_oci_redis_t *rd, redisReply *reply)
{
    if (ngx_oci_redis_is(reply, REDIS_REPLY_ERROR)) {
        ngx_oci_redis_refused(rd, "MULTI", reply);
        return;
    }

    if (!ngx_oci_redis_status(reply, "OK")) {
        ngx_oci_redis_fail(rd, "it answered nonsense", 0);
    }
}


static void
ngx_oci_follow_queued(ngx_oci_redis_t *rd, redisReply *reply)
{
    if (ngx_oci_redis_is(reply, REDIS_REPLY_ERROR)) {
        ngx_oci_redis_refused(rd, "to tell fields", reply);
        return;
    }

    if (!ngx_oci_redis_status(reply, "QUEUED")) {
        ngx_oci_redis_fail(rd, "it answered nonsense", 0);
    }
}


/* the counter and something else; NULL: it is neither, the connection goes */

static redisReply **
ngx_oci_follow_both(ngx_oci_redis_t *rd, redisReply *reply, uint64_t *epoch)
{
    size_t  i;

    if (ngx_oci_redis_is(reply, REDIS_REPLY_ERROR)) {
        ngx_oci_redis_refused(rd, "EXEC", reply);
        return NULL;
    }

    if (!ngx_oci_redis_is(reply, REDIS_REPLY_ARRAY) || reply->elements != 2) {
        ngx_oci_redis_fail(rd, "it answered nonsense", 0);
        return NULL;
    }

    for (i = 0; i < 2; i++) {
        if (ngx_oci_redis_is(reply->element[i], REDIS_REPLY_ERROR)) {
            ngx_oci_redis_refused(rd, "to tell fields", reply->element[i]);
            return NULL;
        }
    }

    if (ngx_oci_redis_number(reply->element[0], epoch) != NGX_OK) {
        ngx_oci_redis_fail(rd, "its epoch is no number", 0);
        return NULL;
    }

    return reply->element;
}


static void
ngx_oci_follow_fetched(ngx_oci_redis_t *rd, redisReply *reply)
{
    size_t                   i, n;
    uint64_t                 epoch;
    redisReply             **e, *values, *v;
    const char              *why;
    ngx_oci_follow_t        *fw;
    ngx_oci_fields_name_t   *name;

    fw = rd->data;

    e = ngx_oci_follow_both(rd, reply, &epoch);
    if (e == NULL) {
        return;
    }

    values = e[1];
    n = ngx_oci_fields_count(fw->fetching);

    if (!ngx_oci_redis_is(values, REDIS_REPLY_ARRAY) || values->elements != n)
    {
        ngx_oci_redis_fail(rd, "it answered nonsense", 0);
        return;
    }

    /* from here on they are not those of the epoch before */

    fw->current = 0;

    for (i = 0; i < n; i++) {
        v = values->element[i];
        name = &fw->names[i];

        if (ngx_oci_redis_is(v, REDIS_REPLY_NIL)) {
            ngx_oci_fields_remove(fw->fields, name->name, name->len);
            continue;
        }

        if (!ngx_oci_redis_is(v, REDIS_REPLY_STRING)) {
            fw->loaded = 0;
            ngx_oci_redis_fail(rd, "it answered nonsense", 0);
            return;
        }

        why = ngx_oci_fields_set(fw->fields, name->name, name->len, v->str,
                                 v->len);

        if (why) {
            fw->reload = 1;
            ngx_oci_follow_refuse(fw, epoch, why);
            return;
        }
    }

    ngx_oci_fields_free(fw->fetching);
    fw->fetching = NULL;
    free(fw->names);
    fw->names = NULL;

    fw->fetching_epoch = epoch;

    ngx_oci_follow_settle(fw);
}


void
ngx_oci_follow_settle(ngx_oci_follow_t *fw)
{
    size_t       len;
    const char  *argv;

    if (!fw->subscribed) {
        fw->step = NGX_OCI_FOLLOW_IDLE;
        fw->reload = 1;
        ngx_oci_follow_next(fw);
        return;
    }

    fw->step = NGX_OCI_FOLLOW_SETTLING;

    argv = "PING";
    len = 4;

    fw->pinged++;
    fw->ping = ngx_current_msec;

    ngx_oci_redis_command(&fw->channel, NULL, 1, &argv, &len);
}


void
ngx_oci_follow_settled(ngx_oci_follow_t *fw)
{
    fw->step = NGX_OCI_FOLLOW_IDLE;

    if (ngx_oci_fields_count(fw->dirty)) {

        if (fw->settling_since
            && ngx_oci_follow_now() - fw->settling_since
               > NGX_OCI_FOLLOW_LOOP)
        {
            fw->loads = NGX_OCI_FOLLOW_LOADS;
            fw->reload = 1;
        }

        ngx_oci_follow_next(fw);
        return;
    }

    fw->settling_since = 0;

    if (fw->fetching_epoch < fw->epoch || fw->fetching_epoch == 0
        || fw->fetching_epoch - fw->epoch > fw->messages)
    {
        fw->reload = 1;

    } else {
        fw->epoch = fw->fetching_epoch;
        fw->at = fw->fetching_at;
        fw->messages = 0;
        fw->fresh = 1;
    }

    ngx_oci_follow_next(fw);
}
