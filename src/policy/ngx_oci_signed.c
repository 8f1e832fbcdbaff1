
/*
 * Copyright (C) The nginx-oci authors
 *
 * Is a manifest signed by one of these keys?  The evidence beside the manifest
 * comes first, which is checked again, with the keys of now and without the
 * registry; then the registry is asked.  A signature that was taken away there
 * is still one: what is to be refused belongs into quarantine.
 */


#include "ngx_oci_signed.h"


#define NGX_OCI_SIGNED_MAX   64         /* of a worker, at a time */


static ngx_oci_signed_t *ngx_oci_signed_lookup(ngx_oci_signed_ask_t *ask);
static ngx_uint_t ngx_oci_signed_same(ngx_str_t *a, ngx_str_t *b);
static ngx_oci_signed_t *ngx_oci_signed_create(ngx_oci_signed_ask_t *ask);
static ngx_int_t ngx_oci_signed_dup(ngx_pool_t *pool, ngx_str_t *dst,
    ngx_str_t *src);
static ngx_int_t ngx_oci_signed_begin(ngx_oci_signed_t *s);
static void ngx_oci_signed_read(ngx_oci_beside_t *beside);
static void ngx_oci_signed_event(ngx_event_t *ev);
static void ngx_oci_signed_thread(void *data);
static void ngx_oci_signed_ask(ngx_oci_signed_t *s,
    ngx_oci_evidence_t *evidence);
static void ngx_oci_signed_completed(void *data);
static void ngx_oci_signed_good(ngx_oci_signed_t *s);
static void ngx_oci_signed_written(ngx_oci_beside_t *beside);
static void ngx_oci_signed_tell(ngx_oci_signed_t *s, ngx_int_t rc,
    const char *why);
static void ngx_oci_signed_free(ngx_oci_signed_t *s);


static ngx_thread_pool_t  *ngx_oci_signed_threads;
static ngx_queue_t         ngx_oci_signeds;
static ngx_uint_t          ngx_oci_nsigneds;


void
ngx_oci_signed_init_process(ngx_cycle_t *cycle)
{
    ngx_str_t  name;

    ngx_str_set(&name, "default");

    ngx_queue_init(&ngx_oci_signeds);
    ngx_oci_nsigneds = 0;
    ngx_oci_signed_threads = ngx_thread_pool_get(cycle, &name);
}


ngx_int_t
ngx_oci_signed(ngx_oci_signed_ask_t *ask, ngx_oci_signed_waiter_t *waiter)
{
    ngx_oci_signed_t  *s;

    s = ngx_oci_signed_lookup(ask);

    if (s == NULL) {

        if (ngx_oci_nsigneds >= NGX_OCI_SIGNED_MAX) {
            return NGX_BUSY;
        }

        s = ngx_oci_signed_create(ask);
        if (s == NULL) {
            return NGX_ERROR;
        }

        if (ngx_oci_signed_begin(s) != NGX_OK) {
            ngx_oci_signed_free(s);
            return NGX_ERROR;
        }
    }

    ngx_queue_insert_tail(&s->waiters, &waiter->queue);
    waiter->waiting = 1;

    return NGX_AGAIN;
}


/* the waiter's request ends */

void
ngx_oci_signed_leave(ngx_oci_signed_waiter_t *waiter)
{
    if (waiter->waiting) {
        ngx_queue_remove(&waiter->queue);
        waiter->waiting = 0;
    }
}


/* with the same credentials: another caller may see another registry */

static ngx_oci_signed_t *
ngx_oci_signed_lookup(ngx_oci_signed_ask_t *ask)
{
    ngx_uint_t         i;
    ngx_queue_t       *q;
    ngx_oci_signed_t  *s;

    for (q = ngx_queue_head(&ngx_oci_signeds);
         q != ngx_queue_sentinel(&ngx_oci_signeds);
         q = ngx_queue_next(q))
    {
        s = ngx_queue_data(q, ngx_oci_signed_t, queue);

        if (s->told || s->registry != ask->registry || s->place != ask->place
            || !ngx_oci_digest_equal(&s->digest, &ask->digest)
            || !ngx_oci_signed_same(&s->repository, &ask->repository)
            || !ngx_oci_signed_same(&s->authorization, &ask->authorization)
            || s->keys.n != ask->keys->n)
        {
            continue;
        }

        for (i = 0; i < s->keys.n; i++) {
            if (!ngx_oci_signed_same(&s->keys.der[i], &ask->keys->der[i])) {
                break;
            }
        }

        if (i == s->keys.n) {
            return s;
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_oci_signed_same(ngx_str_t *a, ngx_str_t *b)
{
    return a->len == b->len && CRYPTO_memcmp(a->data, b->data, a->len) == 0;
}


static ngx_oci_signed_t *
ngx_oci_signed_create(ngx_oci_signed_ask_t *ask)
{
    u_char            *p;
    ngx_uint_t         i;
    ngx_pool_t        *pool;
    ngx_oci_signed_t  *s;

    pool = ngx_create_pool(4096, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    s = ngx_pcalloc(pool, sizeof(ngx_oci_signed_t));
    p = ngx_pnalloc(pool, NGX_OCI_DIGEST_LEN);

    if (s == NULL || p == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    s->pool = pool;
    s->registry = ask->registry;
    s->place = ask->place;
    s->digest = ask->digest;
    s->keys.n = ask->keys->n;
    s->subject.data = p;
    s->subject.len = ngx_oci_digest_print(p, &ask->digest) - p;

    ngx_queue_init(&s->waiters);
    ngx_queue_insert_tail(&ngx_oci_signeds, &s->queue);
    ngx_oci_nsigneds++;

    s->event.handler = ngx_oci_signed_event;
    s->event.data = s;
    s->event.log = ngx_cycle->log;

    s->work.run = ngx_oci_signed_thread;
    s->work.done = ngx_oci_signed_completed;
    s->work.data = s;
    s->work.slow = "the check of a signature takes longer than a minute";

    if (ngx_oci_signed_dup(pool, &s->repository, &ask->repository) != NGX_OK
        || ngx_oci_signed_dup(pool, &s->authorization, &ask->authorization)
           != NGX_OK
        || ngx_oci_evidence_init(&s->evidence, &s->subject) != NGX_OK)
    {
        ngx_oci_signed_free(s);
        return NULL;
    }

    for (i = 0; i < s->keys.n; i++) {
        if (ngx_oci_signed_dup(pool, &s->keys.der[i], &ask->keys->der[i])
            != NGX_OK)
        {
            ngx_oci_signed_free(s);
            return NULL;
        }
    }

    return s;
}


static ngx_int_t
ngx_oci_signed_dup(ngx_pool_t *pool, ngx_str_t *dst, ngx_str_t *src)
{
    dst->data = ngx_pnalloc(pool, src->len + 1);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    dst->len = src->len;
    ngx_memcpy(dst->data, src->data, src->len);

    return NGX_OK;
}


/* nothing of it happens before this returns */

static ngx_int_t
ngx_oci_signed_begin(ngx_oci_signed_t *s)
{
    ngx_oci_beside_t      beside;
    ngx_oci_main_conf_t  *omcf;

    if (s->place == NULL) {
        ngx_post_event(&s->event, &ngx_posted_events);
        return NGX_OK;
    }

    omcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_oci_module);

    ngx_memzero(&beside, sizeof(ngx_oci_beside_t));

    beside.digest = s->digest;
    beside.handler = ngx_oci_signed_read;
    beside.data = s;

    return omcf->beside(s->place, &beside);
}


static void
ngx_oci_signed_event(ngx_event_t *ev)
{
    ngx_oci_signed_find(ev->data);
}


static void
ngx_oci_signed_read(ngx_oci_beside_t *beside)
{
    ngx_oci_signed_t *s = beside->data;

    if (beside->rc != NGX_OK) {
        ngx_oci_signed_find(s);
        return;
    }

    s->kept = beside->text;
    s->kept_len = beside->len;
    s->reading = 1;

    ngx_oci_signed_judge(s);
}


void
ngx_oci_signed_judge(ngx_oci_signed_t *s)
{
    s->rc = NGX_ERROR;
    s->reason = NULL;

    if (ngx_oci_work_post(ngx_oci_signed_threads, &s->work) == NGX_OK) {
        return;
    }

    /* the queue is full */

    ngx_oci_signed_end(s, NGX_ERROR, "too much is to be checked at once");
}


/* touches what is s's own, which waits for it */

static void
ngx_oci_signed_thread(void *data)
{
    ngx_oci_signed_t *s = data;

    ngx_str_t  text;

    if (!s->reading) {
        ngx_oci_signed_ask(s, &s->evidence);

        if (s->rc == NGX_OK && s->place) {

            if (s->older.root) {
                (void) ngx_oci_evidence_merge(&s->evidence, &s->older);
            }

            /* it is good without being kept */

            s->kept = (u_char *) ngx_oci_evidence_print(&s->evidence);
            s->kept_len = s->kept ? ngx_strlen(s->kept) : 0;
        }

        return;
    }

    text.data = s->kept;
    text.len = s->kept_len;

    s->rc = ngx_oci_evidence_parse(&s->older, &text, &s->subject);

    if (s->rc == NGX_OK) {
        ngx_oci_signed_ask(s, &s->older);
    }
}


static void
ngx_oci_signed_ask(ngx_oci_signed_t *s, ngx_oci_evidence_t *evidence)
{
    const char               *why;
    ngx_uint_t                i;
    ngx_oci_signature_t       check;
    ngx_oci_signature_key_t   keys[NGX_OCI_SIGNATURE_KEYS];

    ngx_memzero(&check, sizeof(ngx_oci_signature_t));

    check.keys = keys;
    check.subject = s->subject;

    for (i = 0; i < s->keys.n; i++) {

        why = ngx_oci_signature_key(&keys[i], s->keys.der[i].data,
                                    s->keys.der[i].len);
        if (why) {
            break;
        }

        check.nkeys++;
    }

    if (i == s->keys.n) {
        s->rc = ngx_oci_evidence_judge(evidence, &check);
        s->reason = check.why;
        s->key = check.key;

    } else {
        s->rc = NGX_ERROR;
    }

    for (i = 0; i < check.nkeys; i++) {
        ngx_oci_signature_key_free(&keys[i]);
    }
}


static void
ngx_oci_signed_completed(void *data)
{
    ngx_oci_signed_t *s = data;

    ngx_uint_t  reading;

    reading = s->reading;

    if (reading) {
        free(s->kept);
        s->kept = NULL;
        s->reading = 0;
    }

    if (s->rc == NGX_ERROR) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "the signatures of \"%V\" can't be checked: no memory?",
                      &s->subject);
        ngx_oci_signed_end(s, NGX_ERROR, "no memory");
        return;
    }

    if (s->rc == NGX_OK) {
        ngx_oci_signed_good(s);
        return;
    }

    if (reading) {

        /* other keys, or it was damaged: there may be another one now */

        ngx_oci_signed_find(s);
        return;
    }

    s->why = s->reason;
    ngx_oci_signed_judged(s);
}


/* those who wait need not wait for the disk */

static void
ngx_oci_signed_good(ngx_oci_signed_t *s)
{
    ngx_oci_beside_t      beside;
    ngx_oci_main_conf_t  *omcf;

    ngx_log_error(NGX_LOG_INFO, ngx_cycle->log, 0,
                  "\"%V\" of \"%V\" is signed, by key %ui of its project",
                  &s->subject, &s->repository, s->key + 1);

    ngx_oci_signed_tell(s, NGX_OK, NULL);

    if (s->kept) {

        omcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                                   ngx_http_oci_module);

        ngx_memzero(&beside, sizeof(ngx_oci_beside_t));

        beside.digest = s->digest;
        beside.write = 1;
        beside.text = s->kept;
        beside.len = s->kept_len;
        beside.handler = ngx_oci_signed_written;
        beside.data = s;

        if (omcf->beside(s->place, &beside) == NGX_OK) {
            return;
        }
    }

    ngx_oci_signed_free(s);
}


static void
ngx_oci_signed_written(ngx_oci_beside_t *beside)
{
    ngx_oci_signed_free(beside->data);
}


void
ngx_oci_signed_end(ngx_oci_signed_t *s, ngx_int_t rc, const char *why)
{
    if (rc == NGX_DECLINED && s->failed) {
        rc = NGX_ERROR;
        why = "the registry does not tell";
    }

    ngx_oci_signed_tell(s, rc, why);
    ngx_oci_signed_free(s);
}


/* any of them may end others, which then leave the queue */

static void
ngx_oci_signed_tell(ngx_oci_signed_t *s, ngx_int_t rc, const char *why)
{
    ngx_queue_t              *q;
    ngx_oci_signed_waiter_t  *waiter;

    s->told = 1;

    while (!ngx_queue_empty(&s->waiters)) {
        q = ngx_queue_head(&s->waiters);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_oci_signed_waiter_t, queue);
        waiter->waiting = 0;
        waiter->handler(waiter->data, rc, why);
    }
}


static void
ngx_oci_signed_free(ngx_oci_signed_t *s)
{
    ngx_queue_remove(&s->queue);
    ngx_oci_nsigneds--;

    ngx_explicit_memzero(s->authorization.data, s->authorization.len);

    ngx_oci_evidence_free(&s->evidence);
    ngx_oci_evidence_free(&s->older);

    free(s->kept);
    free(s->body);
    free(s->payload.data);

    ngx_destroy_pool(s->pool);
}
