
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_blob.h"
#include "ngx_oci_open.h"
#include "ngx_oci_sizes.h"
#include "ngx_oci_room.h"


#define NGX_OCI_BLOB_IDLE      5000     /* ms an unused blob stays open */
#define NGX_OCI_BLOB_FALLBACK  1000     /* ms between looks of waiters */
#define NGX_OCI_BLOB_SOON      20       /* likewise, while a lock is waited
                                           for */


static ngx_oci_blob_t *ngx_oci_blob_find(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest);
static void ngx_oci_blob_open_task(void *data, ngx_log_t *log);
static void ngx_oci_blob_opened(void *data);
static void ngx_oci_blob_close(ngx_oci_blob_t *blob);
static void ngx_oci_blob_timer(ngx_event_t *ev);
static void ngx_oci_blob_soon_timer(ngx_event_t *ev);
static void ngx_oci_blob_arm(ngx_msec_t delay);


/* per process */

static struct {
    ngx_queue_t       blobs;
    ngx_queue_t       idle;         /* least recently used last */
    ngx_uint_t        fallback;     /* the timer wakes, not the doorbell */
    ngx_event_t       timer;        /* holds an exiting worker while there
                                       are waiters */
    ngx_event_t       soon;
    ngx_connection_t  dummy;
} ngx_oci_blobs;


ngx_int_t
ngx_oci_blob_init_process(ngx_cycle_t *cycle)
{
    ngx_queue_init(&ngx_oci_blobs.blobs);
    ngx_queue_init(&ngx_oci_blobs.idle);

    ngx_oci_blobs.dummy.fd = (ngx_socket_t) -1;

    ngx_oci_blobs.timer.handler = ngx_oci_blob_timer;
    ngx_oci_blobs.timer.data = &ngx_oci_blobs.dummy;
    ngx_oci_blobs.timer.log = cycle->log;

    ngx_oci_blobs.soon.handler = ngx_oci_blob_soon_timer;
    ngx_oci_blobs.soon.data = &ngx_oci_blobs.dummy;
    ngx_oci_blobs.soon.log = cycle->log;

    return NGX_OK;
}


void
ngx_oci_blob_exit_process(ngx_cycle_t *cycle)
{
    ngx_queue_t     *q;
    ngx_oci_blob_t  *blob;

    if (ngx_oci_blobs.blobs.next == NULL) {
        return;
    }

    while (!ngx_queue_empty(&ngx_oci_blobs.idle)) {
        q = ngx_queue_head(&ngx_oci_blobs.idle);
        blob = ngx_queue_data(q, ngx_oci_blob_t, idle);
        ngx_queue_remove(&blob->idle);
        ngx_oci_blob_close(blob);
    }
}


static ngx_oci_blob_t *
ngx_oci_blob_find(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    ngx_queue_t     *q;
    ngx_oci_blob_t  *blob;

    for (q = ngx_queue_head(&ngx_oci_blobs.blobs);
         q != ngx_queue_sentinel(&ngx_oci_blobs.blobs);
         q = ngx_queue_next(q))
    {
        blob = ngx_queue_data(q, ngx_oci_blob_t, queue);

        if (blob->cache != cache || blob->stale || blob->suspect
            || !ngx_oci_digest_equal(&blob->digest, digest))
        {
            continue;
        }

        if (blob->ready && (blob->generation != blob->entry->generation
                            || blob->entry->orphan))
        {
            blob->stale = 1;
            continue;
        }

        /* of a directory that is another one now, or read-only */

        if (blob->ready && blob->dir != ngx_oci_dir_now(cache)) {
            continue;
        }

        /* purged, and still being filled for those who have it */

        if (blob->ready && blob->entry->doomed) {
            continue;
        }

        return blob;
    }

    return NULL;
}


ngx_int_t
ngx_oci_blob_open(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    off_t size, uint32_t origin, ngx_oci_opener_t *opener,
    ngx_oci_blob_t **blobp)
{
    ngx_oci_blob_t  *blob;

    blob = ngx_oci_blob_find(cache, digest);

    if (blob && blob->ready && blob->refs == 0
        && size >= 0 && !blob->entry->verified
        && (blob->size != (uint64_t) size || blob->entry->origin != origin))
    {
        /* kept open for nobody: it must not keep another one away */

        ngx_queue_remove(&blob->idle);
        ngx_oci_blob_close(blob);
        blob = NULL;
    }

    if (blob && blob->ready) {

        if (blob->refs++ == 0) {
            ngx_queue_remove(&blob->idle);
        }

        *blobp = blob;
        return NGX_OK;
    }

    if (blob == NULL) {

        if (ngx_oci_index_is_doomed(cache, digest)) {
            return NGX_ERROR;
        }

        blob = ngx_calloc(sizeof(ngx_oci_blob_t), ngx_cycle->log);
        if (blob == NULL) {
            return NGX_ERROR;
        }

        blob->cache = cache;
        blob->digest = *digest;
        blob->create = size;
        blob->origin = origin;
        blob->opening = 1;
        blob->refs = 1;
        blob->store.fd = -1;
        blob->store.map = -1;

        ngx_queue_init(&blob->openers);
        ngx_queue_init(&blob->waiters);

        blob->task.run = ngx_oci_blob_open_task;
        blob->task.done = ngx_oci_blob_opened;
        blob->task.data = blob;

        if (ngx_oci_io_post(cache, &blob->task) != NGX_OK) {
            ngx_free(blob);
            return NGX_ERROR;
        }

        ngx_queue_insert_head(&ngx_oci_blobs.blobs, &blob->queue);
    }

    ngx_queue_insert_tail(&blob->openers, &opener->queue);

    return NGX_AGAIN;
}


void
ngx_oci_blob_forget_size(ngx_oci_blob_t *blob, ngx_oci_registry_t *registry,
    ngx_str_t *repository)
{
    u_char     text[NGX_OCI_DIGEST_LEN];
    ngx_str_t  reference;

    reference.data = text;
    reference.len = ngx_oci_digest_print(text, &blob->digest) - text;

    ngx_oci_refs_remove(blob->cache, NGX_OCI_REFS_BLOB, registry, repository,
                        &reference, ngx_cycle->log);

    ngx_oci_sizes_doubt(blob->cache, registry, repository, &blob->digest,
                        blob->size);
}


static void
ngx_oci_blob_open_task(void *data, ngx_log_t *log)
{
    ngx_oci_blob_t  *blob = data;

    blob->dir = ngx_oci_dir_now(blob->cache);
    blob->rc = ngx_oci_store_open(blob->cache, &blob->digest, blob->create,
                                  blob->origin, &blob->store, log);
}


static void
ngx_oci_blob_opened(void *data)
{
    ngx_oci_blob_t  *blob = data;

    ngx_queue_t        list, *q;
    ngx_oci_opener_t  *opener;

    blob->opening = 0;

    if (blob->rc == NGX_OK) {

        blob->entry = ngx_oci_index_acquire(blob->cache, &blob->digest,
                                            &blob->store);

        /* another boot's or another size's files are no use to the index */

        if (blob->entry && blob->entry->loaded
            && blob->entry->size == blob->store.header.size)
        {
            blob->ready = 1;
            blob->size = blob->store.header.size;
            blob->generation = blob->entry->generation;

        } else {
            ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                          "%s oci cache zone \"%V\", the blob is passed "
                          "through", blob->entry == NULL
                          ? "no room for a blob in"
                          : "a blob's files are not those known to",
                          &blob->cache->zone->shm.name);
        }
    }

    ngx_oci_store_forget(&blob->store);

    if (!blob->ready) {
        blob->stale = 1;
    }

    /* an opener's handler may lead to anything, also to new openers */

    ngx_queue_init(&list);

    if (!ngx_queue_empty(&blob->openers)) {
        ngx_queue_add(&list, &blob->openers);
        ngx_queue_init(&blob->openers);
    }

    while (!ngx_queue_empty(&list)) {
        q = ngx_queue_head(&list);
        ngx_queue_remove(q);

        opener = ngx_queue_data(q, ngx_oci_opener_t, queue);
        opener->queue.next = NULL;

        if (blob->ready) {
            blob->refs++;
        }

        opener->handler(opener->data, blob->ready ? blob : NULL);
    }

    ngx_oci_blob_unref(blob);
}


void
ngx_oci_blob_unref(ngx_oci_blob_t *blob)
{
    if (--blob->refs) {
        return;
    }

    if (!blob->ready || blob->stale || blob->suspect || blob->foreign
        || ngx_exiting || ngx_oci_index_tight(blob->cache))
    {
        ngx_oci_blob_close(blob);
        return;
    }

    blob->used = ngx_current_msec;
    ngx_queue_insert_head(&ngx_oci_blobs.idle, &blob->idle);

    ngx_oci_blob_arm(NGX_OCI_BLOB_IDLE);
}


static void
ngx_oci_blob_close(ngx_oci_blob_t *blob)
{
    ngx_queue_t     *q;
    ngx_oci_blob_t  *b;

    ngx_queue_remove(&blob->queue);

    if (blob->entry) {

        /* a stale object and its successor may share the slot's mark */

        for (q = ngx_queue_head(&ngx_oci_blobs.blobs);
             q != ngx_queue_sentinel(&ngx_oci_blobs.blobs);
             q = ngx_queue_next(q))
        {
            b = ngx_queue_data(q, ngx_oci_blob_t, queue);

            if (b->entry == blob->entry) {
                break;
            }
        }

        if (q == ngx_queue_sentinel(&ngx_oci_blobs.blobs)) {
            ngx_oci_index_release(blob->cache, blob->entry);
        }
    }

    ngx_oci_store_close(&blob->store);
    ngx_free(blob);
}


void
ngx_oci_blob_shed(ngx_oci_cache_t *cache)
{
    ngx_queue_t     *q, *next;
    ngx_oci_blob_t  *blob;

    for (q = ngx_queue_head(&ngx_oci_blobs.idle);
         q != ngx_queue_sentinel(&ngx_oci_blobs.idle);
         q = next)
    {
        next = ngx_queue_next(q);
        blob = ngx_queue_data(q, ngx_oci_blob_t, idle);

        if (blob->cache == cache) {
            ngx_queue_remove(&blob->idle);
            ngx_oci_blob_close(blob);
        }
    }
}


void
ngx_oci_blob_wait(ngx_oci_blob_t *blob, ngx_oci_waiter_t *waiter)
{
    if (!waiter->waiting) {
        waiter->waiting = 1;
        ngx_queue_insert_tail(&blob->waiters, &waiter->queue);
    }

    ngx_oci_blob_arm(NGX_OCI_BLOB_FALLBACK);
}


void
ngx_oci_blob_unwait(ngx_oci_waiter_t *waiter)
{
    if (waiter->waiting) {
        waiter->waiting = 0;
        ngx_queue_remove(&waiter->queue);
    }
}


void
ngx_oci_blob_wake(ngx_oci_blob_t *blob)
{
    ngx_queue_t        list, *q;
    ngx_oci_waiter_t  *waiter;

    if (ngx_queue_empty(&blob->waiters)) {
        return;
    }

    ngx_queue_init(&list);
    ngx_queue_add(&list, &blob->waiters);
    ngx_queue_init(&blob->waiters);

    blob->refs++;

    while (!ngx_queue_empty(&list)) {
        q = ngx_queue_head(&list);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_oci_waiter_t, queue);
        waiter->waiting = 0;
        waiter->handler(waiter->data);
    }

    ngx_oci_blob_unref(blob);
}


/*
 * Handlers may close blobs and open others: the list is walked by marking
 * what was visited with the turn's number.
 */

void
ngx_oci_blob_rung(ngx_oci_cache_t *cache)
{
    ngx_queue_t     *q, *next;
    ngx_oci_blob_t  *blob;

    if (ngx_oci_index_tight(cache)) {
        ngx_oci_blob_shed(cache);
    }

    for (q = ngx_queue_head(&ngx_oci_blobs.blobs);
         q != ngx_queue_sentinel(&ngx_oci_blobs.blobs);
         q = next)
    {
        blob = ngx_queue_data(q, ngx_oci_blob_t, queue);

        if (blob->cache != cache || !blob->ready
            || (blob->fill == NULL && ngx_queue_empty(&blob->waiters)))
        {
            next = ngx_queue_next(q);
            continue;
        }

        blob->refs++;

        if (blob->fill) {
            ngx_oci_fill_plan(blob->fill);
        }

        ngx_oci_blob_wake(blob);

        /* still in the list: it is referenced */

        next = ngx_queue_next(q);

        ngx_oci_blob_unref(blob);
    }
}


void
ngx_oci_blob_soon(ngx_oci_blob_t *blob)
{
    blob->soon = 1;

    if (!ngx_oci_blobs.soon.timer_set) {
        ngx_add_timer(&ngx_oci_blobs.soon, NGX_OCI_BLOB_SOON);
    }
}


/* wakes those who may wait for a lock, which no doorbell tells of */

static void
ngx_oci_blob_soon_timer(ngx_event_t *ev)
{
    ngx_queue_t     *q, *next;
    ngx_oci_blob_t  *blob;

    for (q = ngx_queue_head(&ngx_oci_blobs.blobs);
         q != ngx_queue_sentinel(&ngx_oci_blobs.blobs);
         q = next)
    {
        blob = ngx_queue_data(q, ngx_oci_blob_t, queue);

        /* (who waited may have left: then nobody has it, or it is idle) */

        if (!blob->ready || !blob->soon || ngx_queue_empty(&blob->waiters)) {
            blob->soon = 0;
            next = ngx_queue_next(q);
            continue;
        }

        blob->soon = 0;
        blob->refs++;

        ngx_oci_blob_wake(blob);

        next = ngx_queue_next(q);

        ngx_oci_blob_unref(blob);
    }
}


static void
ngx_oci_blob_arm(ngx_msec_t delay)
{
    if (!ngx_oci_blobs.timer.timer_set) {
        ngx_add_timer(&ngx_oci_blobs.timer,
                      ngx_min(delay, NGX_OCI_BLOB_FALLBACK));
    }
}


static void
ngx_oci_blob_timer(ngx_event_t *ev)
{
    ngx_uint_t       waiting;
    ngx_queue_t     *q, *next;
    ngx_oci_blob_t  *blob;

    while (!ngx_queue_empty(&ngx_oci_blobs.idle)) {
        q = ngx_queue_last(&ngx_oci_blobs.idle);
        blob = ngx_queue_data(q, ngx_oci_blob_t, idle);

        if (!blob->stale && !ngx_exiting
            && blob->dir == ngx_oci_dir_now(blob->cache)
            && !ngx_oci_index_tight(blob->cache)
            && (ngx_msec_int_t) (ngx_current_msec - blob->used)
               < NGX_OCI_BLOB_IDLE)
        {
            break;
        }

        ngx_queue_remove(&blob->idle);
        ngx_oci_blob_close(blob);
    }

    /* what no doorbell told: a dead owner, a lost wake-up (counted by the
       reader that finds bytes) */

    waiting = 0;

    for (q = ngx_queue_head(&ngx_oci_blobs.blobs);
         q != ngx_queue_sentinel(&ngx_oci_blobs.blobs);
         q = next)
    {
        blob = ngx_queue_data(q, ngx_oci_blob_t, queue);

        if (!blob->ready || ngx_queue_empty(&blob->waiters)) {
            next = ngx_queue_next(q);
            continue;
        }

        blob->refs++;

        ngx_oci_blobs.fallback = 1;
        ngx_oci_blob_wake(blob);
        ngx_oci_blobs.fallback = 0;

        waiting |= !ngx_queue_empty(&blob->waiters);

        next = ngx_queue_next(q);

        ngx_oci_blob_unref(blob);
    }

    if (waiting || !ngx_queue_empty(&ngx_oci_blobs.idle)) {
        ngx_oci_blob_arm(NGX_OCI_BLOB_FALLBACK);
    }
}


ngx_uint_t
ngx_oci_blob_fallback(void)
{
    return ngx_oci_blobs.fallback;
}
