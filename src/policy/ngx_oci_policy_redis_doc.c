
/*
 * Copyright (C) The nginx-oci authors
 *
 * From the fields to the document that is in force; in a thread.
 *
 * Another document is taken only with a greater epoch: a Redis that was
 * flushed, or is replaced by an older one, does not give back what was
 * revoked, nor take from everybody what they have.
 */


#include "ngx_oci_policy_redis.h"

#include <openssl/sha.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif


#define NGX_OCI_FOLLOW_RETRY  10000     /* ms, for what is wrong; memory may
                                           come back any moment */
#define NGX_OCI_FOLLOW_LARGE  (1024 * 1024)
#define NGX_OCI_FOLLOW_HOLD   60000     /* ms; renewed while a task is out */


static void ngx_oci_follow_thread(void *data, ngx_log_t *log);
static ngx_uint_t ngx_oci_follow_judge(ngx_oci_follow_t *fw);
static void ngx_oci_follow_done(ngx_event_t *ev);
static void ngx_oci_follow_tell(ngx_oci_follow_t *fw);
static void ngx_oci_follow_in_force(ngx_oci_follow_t *fw);
static void ngx_oci_follow_hold(ngx_event_t *ev);
static time_t ngx_oci_follow_time(int64_t at);


void
ngx_oci_follow_doc_init(ngx_oci_follow_t *fw)
{
    fw->hold.handler = ngx_oci_follow_hold;
    fw->hold.data = &fw->dummy;
    fw->hold.log = fw->log;

    fw->task.ctx = fw;
    fw->task.handler = ngx_oci_follow_thread;
    fw->task.event.handler = ngx_oci_follow_done;
    fw->task.event.data = fw;
    fw->task.event.log = fw->log;

    ngx_oci_policy_own(fw->pcf);
}


ngx_int_t
ngx_oci_follow_compile(ngx_oci_follow_t *fw)
{
    if (ngx_thread_task_post(fw->pcf->threads, &fw->task) != NGX_OK) {
        return NGX_ERROR;
    }

    fw->busy = 1;
    fw->fresh = 0;
    fw->retry = 0;

    ngx_add_timer(&fw->hold, NGX_OCI_FOLLOW_HOLD);

    return NGX_OK;
}


static void
ngx_oci_follow_hold(ngx_event_t *ev)
{
    ngx_oci_follow_t  *fw;
    ngx_connection_t  *c;

    c = ev->data;
    fw = c->data;

    ngx_log_error(NGX_LOG_ERR, ev->log, 0,
                  "compiling the document of oci_policy \"%V\" takes longer "
                  "than a minute, changes wait for it",
                  &fw->pcf->policy.name);

    ngx_add_timer(ev, NGX_OCI_FOLLOW_HOLD);
}


static void
ngx_oci_follow_thread(void *data, ngx_log_t *log)
{
    ngx_oci_follow_t *fw = data;

    ngx_oci_fields_free(fw->old);
    fw->old = NULL;

    ngx_memzero(&fw->compiled, sizeof(ngx_oci_policy_text_t));

    fw->compiled.source = fw->pcf->redis->source;
    fw->compiled.epoch = fw->epoch;
    fw->compiled.current = fw->at;

    fw->count = ngx_oci_fields_count(fw->fields);
    fw->text = ngx_oci_fields_document(fw->fields, &fw->len,
                                       fw->compiled.error);

    fw->outcome = fw->text ? ngx_oci_follow_judge(fw)
                           : NGX_OCI_FOLLOW_BROKEN;

    ngx_oci_policy_parsed(&fw->compiled);

#ifdef __GLIBC__

    /* what a large document's JSON took would stay with the worker */

    if (fw->text && fw->len > NGX_OCI_FOLLOW_LARGE) {
        (void) malloc_trim(0);
    }

#endif

    ngx_oci_thread_leave();
}


static ngx_uint_t
ngx_oci_follow_judge(ngx_oci_follow_t *fw)
{
    ngx_uint_t               same;
    ngx_oci_policy_sh_t     *sh;
    ngx_oci_policy_text_t   *compiled;

    sh = fw->pcf->sh;
    compiled = &fw->compiled;

    (void) SHA256((u_char *) fw->text, fw->len, compiled->digest);

    ngx_shmtx_lock(&fw->pcf->shpool->mutex);

    fw->before = sh->epoch;
    same = (sh->generation
            && ngx_memcmp(sh->digest, compiled->digest, NGX_OCI_POLICY_DIGEST)
               == 0);

    ngx_shmtx_unlock(&fw->pcf->shpool->mutex);

    if (fw->epoch == 0) {
        return NGX_OCI_FOLLOW_NONE;
    }

    if (fw->epoch < fw->before) {
        return NGX_OCI_FOLLOW_BACK;
    }

    if (same) {
        return (ngx_oci_policy_date(fw->pcf, compiled) == NGX_OK)
               ? NGX_OCI_FOLLOW_SAME : NGX_OCI_FOLLOW_AGAIN;
    }

    if (fw->epoch == fw->before) {
        return NGX_OCI_FOLLOW_SILENT;
    }

    if (ngx_oci_policy_parse(fw->text, fw->len, compiled) != NGX_OK) {
        return NGX_OCI_FOLLOW_BROKEN;
    }

    switch (ngx_oci_policy_publish(fw->pcf, compiled)) {

    case NGX_OK:
        return NGX_OCI_FOLLOW_TAKEN;

    case NGX_DECLINED:
        return NGX_OCI_FOLLOW_LARGE_DOC;

    default:
        return NGX_OCI_FOLLOW_AGAIN;
    }
}


static void
ngx_oci_follow_done(ngx_event_t *ev)
{
    ngx_oci_follow_t *fw = ev->data;

    if (fw->hold.timer_set) {
        ngx_del_timer(&fw->hold);
    }

    fw->busy = 0;

    switch (fw->outcome) {

    case NGX_OCI_FOLLOW_TAKEN:
    case NGX_OCI_FOLLOW_SAME:
        ngx_oci_follow_in_force(fw);
        break;

    case NGX_OCI_FOLLOW_AGAIN:

        /* what there was before may be another configuration's */

        if (!fw->stopped && !ngx_exiting && !ngx_terminate) {
            ngx_oci_policy_own(fw->pcf);
            fw->reload = 1;
        }

        break;

    default:
        ngx_oci_follow_tell(fw);
    }

    free(fw->text);
    fw->text = NULL;

    free(fw->compiled.doc);
    fw->compiled.doc = NULL;

    ngx_oci_follow_next(fw);
}


static void
ngx_oci_follow_in_force(ngx_oci_follow_t *fw)
{
    ngx_str_t       *name, *source;
    ngx_oci_rbac_t  *doc;

    name = &fw->pcf->policy.name;
    source = &fw->pcf->redis->redis.source;
    doc = fw->compiled.doc;

    fw->current = 1;

    if (doc) {
        ngx_log_error(NGX_LOG_NOTICE, fw->log, 0,
                      "\"%V\" of oci_policy \"%V\" is in force: epoch %uL, "
                      "%uD subjects, %uD rules, %uD bytes", source, name,
                      fw->epoch, doc->nsubjects, doc->nrules, doc->size);

    } else if (fw->down || fw->said[0]) {
        ngx_log_error(NGX_LOG_NOTICE, fw->log, 0,
                      "\"%V\" of oci_policy \"%V\" has the document that "
                      "is in force: epoch %uL", source, name, fw->epoch);
    }

    fw->down = 0;
    fw->over = 0;
    fw->said[0] = '\0';

    if (doc == NULL && fw->kept_at && fw->before == fw->epoch
        && !fw->keep.lost)
    {
        return;
    }

    fw->kept_at = fw->at;

    ngx_oci_keep_put(&fw->keep, fw->text, fw->len, fw->compiled.digest,
                     fw->epoch, ngx_oci_follow_time(fw->at));
    fw->text = NULL;
}


/* why it is not in force */

static void
ngx_oci_follow_tell(ngx_oci_follow_t *fw)
{
    char  why[sizeof(fw->compiled.error)], *what;

    what = fw->compiled.error;

    switch (fw->outcome) {

    case NGX_OCI_FOLLOW_BACK:
        (void) snprintf(why, sizeof(why), "its epoch is %llu, that of the "
                        "document in force %llu: it was flushed, or is an "
                        "older one",
                        (unsigned long long) fw->epoch,
                        (unsigned long long) fw->before);
        what = why;
        break;

    case NGX_OCI_FOLLOW_SILENT:
        (void) snprintf(why, sizeof(why), "its epoch is %llu as before, but "
                        "it is another one%s",
                        (unsigned long long) fw->epoch,
                        fw->count ? "" : ", and empty");
        what = why;
        break;

    case NGX_OCI_FOLLOW_NONE:
        (void) snprintf(why, sizeof(why), "it has no epoch%s",
                        fw->count ? "" : ", and no fields");
        what = why;
        break;

    case NGX_OCI_FOLLOW_LARGE_DOC:
        (void) snprintf(why, sizeof(why), "it has %lu bytes when compiled, "
                        "the zone holds %lu",
                        (unsigned long) fw->compiled.doc->size,
                        (unsigned long) fw->pcf->sh->area_size);
        what = why;
        break;
    }

    ngx_oci_follow_say(fw, what);
}


void
ngx_oci_follow_say(ngx_oci_follow_t *fw, const char *why)
{
    int64_t                  age;
    ngx_str_t               *name, *source;
    ngx_oci_policy_redis_t  *prcf;

    prcf = fw->pcf->redis;
    name = &fw->pcf->policy.name;
    source = &prcf->redis.source;

    fw->down = 0;
    fw->retry = ngx_current_msec + 1;

    if (ngx_strstr(why, "no memory") == NULL) {
        fw->retry += NGX_OCI_FOLLOW_RETRY;
    }

    if (ngx_strcmp(fw->said, why) == 0) {
        return;
    }

    (void) ngx_cpystrn((u_char *) fw->said, (u_char *) why,
                       sizeof(fw->said));

    age = ngx_oci_policy_age(fw->pcf);

    if (age < 0) {
        ngx_log_error(NGX_LOG_ERR, fw->log, 0,
                      "\"%V\" of oci_policy \"%V\" is refused, and there is "
                      "no document before it: all requests are refused: %s",
                      source, name, why);
        return;
    }

    ngx_log_error(NGX_LOG_ERR, fw->log, 0,
                  "\"%V\" of oci_policy \"%V\" is refused, the document "
                  "before it counts for %L s: %s", source, name,
                  (age > (int64_t) prcf->stale)
                  ? (int64_t) 0 : ((int64_t) prcf->stale - age) / 1000, why);
}


void
ngx_oci_follow_confirm(ngx_oci_follow_t *fw, int64_t at)
{
    int64_t  every;

    fw->compiled.epoch = fw->epoch;
    fw->compiled.current = at;

    if (ngx_oci_policy_date(fw->pcf, &fw->compiled) != NGX_OK) {

        /* a configuration that failed late came between */

        fw->current = 0;
        fw->reload = 1;

        ngx_oci_policy_own(fw->pcf);
        ngx_oci_follow_next(fw);
        return;
    }

    every = (int64_t) fw->pcf->redis->stale / 60;
    every = ngx_min(ngx_max(every, 1000), 30000);

    if (at - fw->kept_at < every) {
        return;
    }

    if (fw->keep.lost) {
        fw->fresh = 1;
        fw->kept_at = at;
        ngx_oci_follow_next(fw);
        return;
    }

    fw->kept_at = at;

    ngx_oci_keep_touch(&fw->keep, fw->compiled.digest, fw->epoch,
                       ngx_oci_follow_time(at));
}


/* of the clock on the wall */

static time_t
ngx_oci_follow_time(int64_t at)
{
    return ngx_time() - (time_t) ((ngx_oci_follow_now() - at + 999) / 1000);
}
