
/*
 * Copyright (C) The nginx-oci authors
 *
 * One worker follows the Redis that has the policy's document: a connection
 * for commands, and one for the channel that names what changed.
 */


#include "ngx_oci_policy_redis.h"


#define NGX_OCI_FOLLOW_RETRY_MIN  50        /* ms */
#define NGX_OCI_FOLLOW_RETRY_MAX  1000
#define NGX_OCI_FOLLOW_PING       10000     /* ms: the channel is asked
                                               whether it is there */
#define NGX_OCI_FOLLOW_WHY        3000      /* ms, until another reason is
                                               said */
#define NGX_OCI_FOLLOW_DIRTY      512       /* fields fetched one by one */


static void ngx_oci_follow_commands_ready(ngx_oci_redis_t *rd);
static void ngx_oci_follow_commands_closed(ngx_oci_redis_t *rd,
    const char *why, ngx_err_t err);
static void ngx_oci_follow_commands_retry(ngx_event_t *ev);
static void ngx_oci_follow_channel_ready(ngx_oci_redis_t *rd);
static void ngx_oci_follow_channel_push(ngx_oci_redis_t *rd,
    redisReply *reply);
static void ngx_oci_follow_channel_closed(ngx_oci_redis_t *rd,
    const char *why, ngx_err_t err);
static void ngx_oci_follow_channel_retry(ngx_event_t *ev);
static void ngx_oci_follow_message(ngx_oci_follow_t *fw, redisReply *text);
static void ngx_oci_follow_poll(ngx_event_t *ev);
static void ngx_oci_follow_ask(ngx_oci_follow_t *fw);
static void ngx_oci_follow_epoch(ngx_oci_redis_t *rd, redisReply *reply);
static void ngx_oci_follow_age(ngx_oci_follow_t *fw);
static void ngx_oci_follow_stop(ngx_oci_follow_t *fw);
static ngx_msec_t ngx_oci_follow_delay(ngx_uint_t tries);
static void ngx_oci_follow_event(ngx_oci_follow_t *fw, ngx_event_t *ev,
    ngx_event_handler_pt handler);


ngx_int_t
ngx_oci_policy_follow(ngx_oci_policy_conf_t *pcf, ngx_cycle_t *cycle)
{
    ngx_oci_follow_t  *fw;

    fw = ngx_pcalloc(cycle->pool, sizeof(ngx_oci_follow_t));
    if (fw == NULL) {
        return NGX_ERROR;
    }

    fw->pcf = pcf;
    fw->log = cycle->log;
    fw->fields = ngx_oci_fields_create();
    fw->dirty = ngx_oci_fields_create();

    if (fw->fields == NULL || fw->dirty == NULL) {
        ngx_oci_fields_free(fw->fields);
        ngx_oci_fields_free(fw->dirty);
        return NGX_ERROR;
    }

    pcf->watch = fw;

    fw->dummy.fd = (ngx_socket_t) -1;
    fw->dummy.data = fw;

    ngx_oci_follow_event(fw, &fw->commands_retry,
                         ngx_oci_follow_commands_retry);
    ngx_oci_follow_event(fw, &fw->channel_retry,
                         ngx_oci_follow_channel_retry);
    ngx_oci_follow_event(fw, &fw->poll, ngx_oci_follow_poll);

    fw->commands.conf = &pcf->redis->redis;
    fw->commands.data = fw;
    fw->commands.ready = ngx_oci_follow_commands_ready;
    fw->commands.closed = ngx_oci_follow_commands_closed;

    fw->channel.conf = &pcf->redis->redis;
    fw->channel.data = fw;
    fw->channel.ready = ngx_oci_follow_channel_ready;
    fw->channel.push = ngx_oci_follow_channel_push;
    fw->channel.closed = ngx_oci_follow_channel_closed;

    ngx_oci_redis_init(&fw->commands, cycle->log);
    ngx_oci_redis_init(&fw->channel, cycle->log);
    ngx_oci_keep_init(&fw->keep, pcf, cycle->log);
    ngx_oci_follow_doc_init(fw);

    ngx_add_timer(&fw->commands_retry, 1);
    ngx_add_timer(&fw->channel_retry, 1);
    ngx_add_timer(&fw->poll, 1);

    return NGX_OK;
}


static void
ngx_oci_follow_event(ngx_oci_follow_t *fw, ngx_event_t *ev,
    ngx_event_handler_pt handler)
{
    ev->handler = handler;
    ev->data = &fw->dummy;
    ev->log = fw->log;
    ev->cancelable = 1;
}


/* the worker ends; its threads have */

void
ngx_oci_policy_unfollow(ngx_oci_policy_conf_t *pcf)
{
    ngx_oci_follow_t *fw = pcf->watch;

    if (fw == NULL || !pcf->redis->used) {
        return;
    }

    pcf->watch = NULL;

    ngx_oci_follow_stop(fw);
    ngx_oci_keep_free(&fw->keep);

    ngx_oci_fields_free(fw->fields);
    ngx_oci_fields_free(fw->old);
    ngx_oci_fields_free(fw->dirty);

    free(fw->text);
    free(fw->compiled.doc);
}


/* the workers of the next configuration go on */

static void
ngx_oci_follow_stop(ngx_oci_follow_t *fw)
{
    ngx_uint_t    i;
    ngx_event_t  *ev[3];

    ev[0] = &fw->commands_retry;
    ev[1] = &fw->channel_retry;
    ev[2] = &fw->poll;

    fw->stopped = 1;

    for (i = 0; i < 3; i++) {
        if (ev[i]->timer_set) {
            ngx_del_timer(ev[i]);
        }
    }

    ngx_oci_redis_close(&fw->commands);
    ngx_oci_redis_close(&fw->channel);
    ngx_oci_follow_drop(fw);
}


void
ngx_oci_follow_next(ngx_oci_follow_t *fw)
{
    if (fw->stopped || fw->busy || fw->step != NGX_OCI_FOLLOW_IDLE) {
        return;
    }

    if (fw->fresh) {
        if (ngx_oci_follow_compile(fw) == NGX_OK) {
            return;
        }

        /* the poll comes back here */

        return;
    }

    if (!ngx_oci_redis_is_ready(&fw->commands)) {
        return;
    }

    if (!fw->loaded || fw->reload) {
        ngx_oci_follow_load(fw);
        return;
    }

    if (ngx_oci_fields_count(fw->dirty)) {
        ngx_oci_follow_fetch(fw);
    }
}


static ngx_msec_t
ngx_oci_follow_delay(ngx_uint_t tries)
{
    ngx_msec_t  ms;

    ms = NGX_OCI_FOLLOW_RETRY_MIN << ngx_min(tries, 10);
    ms = ngx_min(ms, NGX_OCI_FOLLOW_RETRY_MAX);

    /* not all edges at once */

    return ms / 2 + (ngx_msec_t) ngx_random() % (ms / 2 + 1);
}


static void
ngx_oci_follow_commands_retry(ngx_event_t *ev)
{
    ngx_oci_follow_t  *fw;
    ngx_connection_t  *c;

    c = ev->data;
    fw = c->data;

    if (ngx_exiting || ngx_terminate) {
        return;
    }

    fw->commands.quiet = fw->down;

    ngx_oci_redis_open(&fw->commands);
}


static void
ngx_oci_follow_commands_ready(ngx_oci_redis_t *rd)
{
    ngx_oci_follow_next(rd->data);
}


static void
ngx_oci_follow_commands_closed(ngx_oci_redis_t *rd, const char *why,
    ngx_err_t err)
{
    int64_t                  age;
    ngx_oci_follow_t        *fw;
    ngx_oci_policy_conf_t   *pcf;

    fw = rd->data;
    pcf = fw->pcf;

    ngx_oci_follow_drop(fw);

    fw->loaded = 0;
    fw->polled = 0;

    if (ngx_exiting || ngx_terminate || fw->stopped) {
        return;
    }

    /* the first reason may say little, such as that the connection ended */

    if (!fw->down
        || (ngx_strcmp(fw->why, why) != 0
            && ngx_current_msec - fw->why_at > NGX_OCI_FOLLOW_WHY))
    {
        fw->down = 1;
        fw->why_at = ngx_current_msec;
        (void) ngx_cpystrn((u_char *) fw->why, (u_char *) why,
                           sizeof(fw->why));

        age = ngx_oci_policy_age(pcf);

        if (age < 0 || age > (int64_t) pcf->redis->stale) {
            ngx_log_error(NGX_LOG_ERR, fw->log, err,
                          "\"%V\" of oci_policy \"%V\" is out of reach, and "
                          "there is no document: all requests are refused: "
                          "%s", &pcf->redis->redis.source, &pcf->policy.name,
                          why);

        } else {
            ngx_log_error(NGX_LOG_ERR, fw->log, err,
                          "\"%V\" of oci_policy \"%V\" is out of reach, the "
                          "document that is known counts for %L s: %s",
                          &pcf->redis->redis.source, &pcf->policy.name,
                          ((int64_t) pcf->redis->stale - age) / 1000, why);
        }
    }

    ngx_add_timer(&fw->commands_retry,
                  ngx_oci_follow_delay(fw->commands_tries++));
}


static void
ngx_oci_follow_channel_retry(ngx_event_t *ev)
{
    ngx_oci_follow_t  *fw;
    ngx_connection_t  *c;

    c = ev->data;
    fw = c->data;

    if (ngx_exiting || ngx_terminate) {
        return;
    }

    /* the other connection has said it */

    fw->channel.quiet = 1;

    ngx_oci_redis_open(&fw->channel);
}


static void
ngx_oci_follow_channel_ready(ngx_oci_redis_t *rd)
{
    size_t             len[2];
    const char        *argv[2];
    ngx_oci_follow_t  *fw;

    fw = rd->data;

    argv[0] = "SUBSCRIBE";
    len[0] = 9;
    argv[1] = (char *) fw->pcf->redis->changed.data;
    len[1] = fw->pcf->redis->changed.len;

    ngx_oci_redis_command(rd, NULL, 2, argv, len);
}


static void
ngx_oci_follow_channel_closed(ngx_oci_redis_t *rd, const char *why,
    ngx_err_t err)
{
    ngx_oci_follow_t  *fw;

    fw = rd->data;

    fw->subscribed = 0;
    fw->pinged = 0;

    if (ngx_exiting || ngx_terminate || fw->stopped) {
        return;
    }

    if (ngx_oci_redis_is_ready(&fw->commands) && fw->channel_tries
        && !fw->deaf)
    {
        fw->deaf = 1;

        ngx_log_error(NGX_LOG_WARN, fw->log, err,
                      "the channel \"%V\" of oci_policy \"%V\" can't be had, "
                      "changes come with the poll: %s",
                      &fw->pcf->redis->changed, &fw->pcf->policy.name, why);
    }

    ngx_add_timer(&fw->channel_retry,
                  ngx_oci_follow_delay(fw->channel_tries++));

    if (fw->step == NGX_OCI_FOLLOW_SETTLING) {
        fw->step = NGX_OCI_FOLLOW_IDLE;
        fw->reload = 1;
        ngx_oci_follow_next(fw);
    }
}


/* what a subscription answers, and what the channel says */

static void
ngx_oci_follow_channel_push(ngx_oci_redis_t *rd, redisReply *reply)
{
    redisReply       **e;
    ngx_oci_follow_t  *fw;

    fw = rd->data;

    if (ngx_oci_redis_is(reply, REDIS_REPLY_ERROR)) {
        ngx_oci_redis_refused(rd, "the subscription", reply);
        return;
    }

    if (!ngx_oci_redis_is(reply, REDIS_REPLY_ARRAY) || reply->elements < 2
        || !ngx_oci_redis_is(reply->element[0], REDIS_REPLY_STRING))
    {
        goto nonsense;
    }

    e = reply->element;

    if (reply->elements == 3 && strcmp(e[0]->str, "message") == 0
        && fw->subscribed && ngx_oci_redis_is(e[2], REDIS_REPLY_STRING))
    {
        ngx_oci_follow_message(fw, e[2]);
        return;
    }

    if (reply->elements == 3 && strcmp(e[0]->str, "subscribe") == 0
        && !fw->subscribed)
    {
        fw->subscribed = 1;
        fw->channel_tries = 0;
        fw->ping = ngx_current_msec;

        if (fw->deaf) {
            fw->deaf = 0;
            ngx_log_error(NGX_LOG_NOTICE, fw->log, 0,
                          "the channel \"%V\" of oci_policy \"%V\" is there "
                          "again", &fw->pcf->redis->changed,
                          &fw->pcf->policy.name);
        }

        /* something may have changed before */

        ngx_oci_follow_ask(fw);
        return;
    }

    if (reply->elements == 2 && strcmp(e[0]->str, "pong") == 0
        && fw->pinged)
    {
        fw->pinged--;

        if (fw->pinged == 0 && fw->step == NGX_OCI_FOLLOW_SETTLING) {
            ngx_oci_follow_settled(fw);
        }

        return;
    }

nonsense:

    ngx_oci_redis_fail(rd, "it answered nonsense", 0);
}


/* names of fields, a line each; "*": all of them */

static void
ngx_oci_follow_message(ngx_oci_follow_t *fw, redisReply *text)
{
    char  *p, *end, *last;

    fw->messages++;

    p = text->str;
    last = p + text->len;

    do {
        for (end = p; end < last && *end != '\n'; end++) { /* void */ }

        if (end == p && end == last && p > text->str) {
            break;
        }

        if (end == p || (end - p == 1 && *p == '*')
            || ngx_oci_fields_count(fw->dirty) == NGX_OCI_FOLLOW_DIRTY
            || ngx_oci_fields_set(fw->dirty, p, end - p, "", 0))
        {
            fw->reload = 1;
            break;
        }

        p = end + 1;

    } while (end < last);

    ngx_oci_follow_next(fw);
}


static void
ngx_oci_follow_poll(ngx_event_t *ev)
{
    size_t             len;
    const char        *argv;
    ngx_oci_follow_t  *fw;
    ngx_connection_t  *c;

    c = ev->data;
    fw = c->data;

    if (ngx_exiting || ngx_terminate) {
        ngx_oci_follow_stop(fw);
        return;
    }

    if (fw->retry && (ngx_msec_int_t) (ngx_current_msec - fw->retry) >= 0
        && fw->loaded && !fw->reload && !fw->busy
        && fw->step == NGX_OCI_FOLLOW_IDLE)
    {
        fw->retry = 0;

        if (fw->retry_load) {
            fw->reload = 1;

        } else {
            fw->fresh = 1;
        }
    }

    ngx_oci_follow_ask(fw);
    ngx_oci_follow_next(fw);
    ngx_oci_follow_age(fw);

    if (fw->subscribed && fw->pinged == 0
        && ngx_current_msec - fw->ping > NGX_OCI_FOLLOW_PING)
    {
        argv = "PING";
        len = 4;

        fw->pinged++;
        fw->ping = ngx_current_msec;

        ngx_oci_redis_command(&fw->channel, NULL, 1, &argv, &len);
    }

    /* what it takes to load has a place in there, too */

    ngx_add_timer(&fw->poll, fw->pcf->redis->poll * 4 / 5);
}


static void
ngx_oci_follow_ask(ngx_oci_follow_t *fw)
{
    size_t       len[2];
    const char  *argv[2];

    if (!ngx_oci_redis_is_ready(&fw->commands) || fw->polled || !fw->loaded
        || fw->step == NGX_OCI_FOLLOW_LOADING)
    {
        return;
    }

    argv[0] = "GET";
    len[0] = 3;
    argv[1] = (char *) fw->pcf->redis->epoch.data;
    len[1] = fw->pcf->redis->epoch.len;

    fw->polled = 1;
    fw->polled_at = ngx_oci_follow_now();

    ngx_oci_redis_command(&fw->commands, ngx_oci_follow_epoch, 2, argv, len);
}


static void
ngx_oci_follow_epoch(ngx_oci_redis_t *rd, redisReply *reply)
{
    uint64_t           n;
    ngx_oci_follow_t  *fw;

    fw = rd->data;
    fw->polled = 0;

    if (ngx_oci_redis_is(reply, REDIS_REPLY_ERROR)) {
        ngx_oci_redis_refused(rd, "to tell the epoch", reply);
        return;
    }

    if (ngx_oci_redis_number(reply, &n) != NGX_OK) {
        ngx_oci_redis_fail(rd, "its epoch is no number", 0);
        return;
    }

    if (!fw->loaded || fw->reload || fw->step == NGX_OCI_FOLLOW_LOADING) {
        return;
    }

    if (n == fw->epoch) {

        /* "compiled" is the thread's while it is busy; the next poll tells */

        if (fw->current && !fw->busy) {
            ngx_oci_follow_confirm(fw, fw->polled_at);
        }

        return;
    }

    /* what the channel told is under way, or will be */

    if (fw->step != NGX_OCI_FOLLOW_IDLE || fw->busy
        || ngx_oci_fields_count(fw->dirty))
    {
        return;
    }

    if (n > fw->epoch && fw->subscribed) {

        /* it may be about to tell */

        fw->fetching_epoch = 0;
        ngx_oci_follow_settle(fw);
        return;
    }

    fw->reload = 1;
    ngx_oci_follow_next(fw);
}


/* past stale: that is said once */

static void
ngx_oci_follow_age(ngx_oci_follow_t *fw)
{
    int64_t                 age;
    ngx_oci_policy_conf_t  *pcf;

    pcf = fw->pcf;
    age = ngx_oci_policy_age(pcf);

    if (age < 0 || age <= (int64_t) pcf->redis->stale) {
        fw->over = 0;
        return;
    }

    if (!fw->over) {
        fw->over = 1;

        ngx_log_error(NGX_LOG_ERR, fw->log, 0,
                      "the document of oci_policy \"%V\" was known to be "
                      "current %L s ago, that is past \"stale\": all "
                      "requests are refused", &pcf->policy.name, age / 1000);
    }
}
