
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_fill.h"
#include "ngx_oci_purge.h"


#define NGX_OCI_FILL_RETRY_DELAY   100      /* ms, doubled each time */
#define NGX_OCI_FILL_AWAIT         10000    /* ms for a reader's rights */
#define NGX_OCI_FILL_GRACE         10000    /* ms for the end of a slice that
                                               nobody wants */
#define NGX_OCI_FILL_BACKOFF       2        /* s, after a second mismatch */
#define NGX_OCI_FILL_LOCKED        1000     /* ms that a lock is waited for */
#define NGX_OCI_FILL_LOOKED        5000     /* ms, then it is another one */


static ngx_int_t ngx_oci_fill_owned(ngx_oci_blob_t *blob);
static ngx_int_t ngx_oci_fill_create(ngx_oci_blob_t *blob,
    ngx_oci_cache_loc_conf_t *ocf);
static void ngx_oci_fill_conf(ngx_oci_fill_t *fill,
    ngx_oci_cache_loc_conf_t *ocf);
static void ngx_oci_fill_start_runs(ngx_oci_fill_t *fill);
static ngx_uint_t ngx_oci_fill_exchanges(ngx_oci_fill_t *fill,
    ngx_uint_t *settled);
static void ngx_oci_fill_verify(ngx_oci_fill_t *fill);
static void ngx_oci_fill_resume(ngx_oci_fill_t *fill);
static void ngx_oci_fill_abandon(ngx_oci_fill_t *fill);
static void ngx_oci_fill_timer(ngx_event_t *ev);
static ngx_uint_t ngx_oci_fill_limited(ngx_oci_fill_t *fill,
    ngx_oci_run_t *run);
static void ngx_oci_fill_wake(ngx_oci_fill_t *fill, ngx_oci_run_t *run,
    ngx_msec_t delay);
static void ngx_oci_fill_stop_runs(ngx_oci_fill_t *fill);
static ngx_uint_t ngx_oci_fill_complete(ngx_oci_fill_t *fill);
static ngx_uint_t ngx_oci_fill_try_end(ngx_oci_fill_t *fill);


ngx_int_t
ngx_oci_fill_kick(ngx_oci_blob_t *blob, ngx_oci_cache_loc_conf_t *ocf)
{
    ngx_int_t  rc;

    if (blob->stale || blob->generation != blob->entry->generation) {
        return NGX_ERROR;
    }

    if (blob->fill) {
        ngx_oci_fill_conf(blob->fill, ocf);
        ngx_oci_fill_plan(blob->fill);
        return NGX_OK;
    }

    if (blob->entry->backoff > ngx_time()
        && blob->entry->backoff_origin == blob->entry->origin)
    {
        return NGX_DECLINED;
    }

    rc = ngx_oci_fill_owned(blob);

    if (rc != NGX_DECLINED) {
        return (rc == NGX_AGAIN) ? NGX_OK : NGX_BUSY;
    }

    /* the lock first: who was the owner for as long as it takes to see that it
       is not free would ring all that wait, when he is none any more, and
       they would do the same */

    rc = ngx_oci_store_lock(blob->cache, &blob->digest, blob->store.map);

    if (rc != NGX_BUSY) {
        blob->locked = 0;

    } else {

        if (blob->locked == 0
            || ngx_current_msec - blob->looked > NGX_OCI_FILL_LOOKED)
        {
            blob->locked = ngx_current_msec ? ngx_current_msec : 1;
        }

        blob->looked = ngx_current_msec;
    }

    if (rc == NGX_DECLINED) {
        blob->stale = 1;
        return NGX_ERROR;
    }

    if (rc == NGX_BUSY && !ngx_oci_fill_locked(blob)) {
        ngx_oci_blob_soon(blob);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_oci_index_own(blob->cache, blob->entry) != NGX_OK) {

        /* somebody has just become it, or is about to be none */

        ngx_oci_store_unlock(blob->store.map);
        (void) ngx_oci_index_ring_owner(blob->cache, blob->entry);

        return NGX_OK;
    }

    rc = ngx_oci_fill_create(blob, ocf);

    if (rc != NGX_OK) {
        ngx_oci_store_unlock(blob->store.map);
        ngx_oci_index_disown(blob->cache, blob->entry, 0, 0);
    }

    return rc;
}


/* NGX_AGAIN: somebody is the owner, and knows; NGX_BUSY: his worker is
   stopped, with the lock: when it goes on, it may write at once;
   NGX_DECLINED: nobody is */

static ngx_int_t
ngx_oci_fill_owned(ngx_oci_blob_t *blob)
{
    ngx_int_t  rc;

    blob->deaf = 0;

    rc = ngx_oci_index_ring_owner(blob->cache, blob->entry);

    if (rc == NGX_BUSY) {

        /* a dead one may have nobody who replaces it */

        ngx_oci_doorbell_reap(blob->cache);

        rc = ngx_oci_index_ring_owner(blob->cache, blob->entry);
    }

    if (rc == NGX_OK) {
        blob->locked = 0;
        return NGX_AGAIN;
    }

    blob->deaf = (rc == NGX_BUSY);

    return rc;
}


ngx_uint_t
ngx_oci_fill_locked(ngx_oci_blob_t *blob)
{
    if (blob->deaf) {
        return 1;
    }

    return blob->locked
           && ngx_current_msec - blob->locked >= NGX_OCI_FILL_LOCKED;
}


static ngx_int_t
ngx_oci_fill_create(ngx_oci_blob_t *blob, ngx_oci_cache_loc_conf_t *ocf)
{
    ngx_oci_fill_t  *fill;

    fill = ngx_calloc(sizeof(ngx_oci_fill_t), ngx_cycle->log);
    if (fill == NULL) {
        return NGX_ERROR;
    }

    fill->blob = blob;
    fill->origin = blob->entry->origin;
    fill->dummy.fd = (ngx_socket_t) -1;
    fill->timer.handler = ngx_oci_fill_timer;
    fill->timer.data = &fill->dummy;
    fill->timer.log = ngx_cycle->log;
    fill->dummy.data = fill;

    ngx_oci_pace_init(&fill->pace);
    ngx_oci_fill_conf(fill, ocf);

    if (ngx_oci_adopt(fill) != NGX_OK) {
        ngx_free(fill);
        return NGX_ERROR;
    }

    fill->adopting = 1;

    blob->fill = fill;
    blob->refs++;

    return NGX_OK;
}


static void
ngx_oci_fill_conf(ngx_oci_fill_t *fill, ngx_oci_cache_loc_conf_t *ocf)
{
    fill->connections = ngx_min(ocf->fill_connections, NGX_OCI_INDEX_RUNS);
    fill->ahead = ngx_max(ocf->fill_ahead, NGX_OCI_FILL_AHEAD_MIN);
    fill->finish = ocf->abandoned_finish;
    fill->abandoned_after = ocf->abandoned_after;

    if (ocf->verify != NGX_OCI_VERIFY_MODE_OFF) {
        fill->verifying = 1;
    }
}


void
ngx_oci_fill_adopted(ngx_oci_fill_t *fill, ngx_int_t rc)
{
    fill->adopting = 0;

    if (rc != NGX_OK) {

        /* the disk is not needed */

        fill->disk = 1;
        fill->failed = 1;
        fill->blob->stale = 1;
        (void) ngx_oci_fill_try_end(fill);
        return;
    }

    ngx_oci_verify_init(&fill->verify, fill, fill->blob);

    ngx_oci_fill_plan(fill);
}


/* may free the fill */

void
ngx_oci_fill_plan(ngx_oci_fill_t *fill)
{
    ngx_oci_blob_t  *blob;

    if (fill->adopting || fill->planning) {
        return;
    }

    blob = fill->blob;
    blob->refs++;

    fill->planning = 1;

    if (blob->entry->doomed) {

        /* nothing is fetched but for its readers */

        fill->finish = 0;
    }

    if (!fill->failed && !fill->mismatch) {

        if (fill->finish || ngx_oci_index_wanted(blob->cache, blob->entry)) {
            fill->abandoned = 0;
            ngx_oci_fill_start_runs(fill);

        } else {
            ngx_oci_fill_abandon(fill);
        }

        ngx_oci_fill_verify(fill);
    }

    fill->planning = 0;

    if (fill->nruns == 0) {
        ngx_oci_pace_pause(&fill->pace);
    }

    (void) ngx_oci_fill_try_end(fill);

    ngx_oci_blob_unref(blob);
}


static void
ngx_oci_fill_start_runs(ngx_oci_fill_t *fill)
{
    uint64_t          max, ahead, slice;
    ngx_uint_t        i, n, check, near, settled;
    ngx_oci_blob_t   *blob;
    ngx_oci_span_t    span, busy[NGX_OCI_INDEX_RUNS];

    blob = fill->blob;
    slice = blob->cache->slice;
    ahead = ngx_min(fill->ahead, blob->size);

    if (ngx_exiting && ngx_queue_empty(&blob->waiters)) {

        /* another worker goes on */

        return;
    }

    /* connections share what is missing, in pieces worth a round trip that
       become smaller towards the end, so that all of them end together */

    max = (uint64_t) (blob->entry->slices - blob->entry->have) * slice
          / (2 * fill->pace.width);
    max = ngx_max(max, NGX_OCI_RUN_MIN);
    max = ngx_min(max, NGX_OCI_RUN_MAX);

    if (ngx_oci_pace_trying(&fill->pace)) {
        max = NGX_OCI_RUN_MIN;
    }

    max = ngx_max(max / slice, 1) * slice;

    while (fill->nruns < (fill->stream ? 1 : fill->connections)) {

        for (i = 0, n = 0; i < NGX_OCI_INDEX_RUNS; i++) {
            if (fill->runs[i].active) {
                busy[n].pos = fill->runs[i].start;
                busy[n].end = fill->runs[i].end;
                n++;
            }
        }

        /* a reader at a place that no run comes to need not wait for it */

        near = ngx_oci_fill_exchanges(fill, &settled) >= fill->pace.width;

        if (ngx_oci_index_plan(blob->cache, blob->entry, ahead, max, near,
                               fill->finish, busy, n, &span, &check)
            != NGX_OK)
        {
            return;
        }

        if (ngx_oci_run_start(fill, &span, check) != NGX_OK) {
            if (fill->nruns == 0) {
                fill->failed = 1;
            }

            return;
        }
    }
}


/* how many run; *settled: all of them have brought bytes */

static ngx_uint_t
ngx_oci_fill_exchanges(ngx_oci_fill_t *fill, ngx_uint_t *settled)
{
    ngx_uint_t      i, n;
    ngx_oci_run_t  *run;

    n = 0;
    *settled = 1;

    for (i = 0; i < NGX_OCI_INDEX_RUNS; i++) {
        run = &fill->runs[i];

        if (!run->active || run->check) {
            continue;
        }

        n++;

        if (run->pos == run->progress) {
            *settled = 0;
        }
    }

    return n;
}


static void
ngx_oci_fill_verify(ngx_oci_fill_t *fill)
{
    uint64_t        end;
    ngx_oci_blob_t  *blob;

    blob = fill->blob;

    if (!fill->verifying || fill->verify.running || blob->entry->verified
        || fill->mismatch)
    {
        return;
    }

    end = 0;

    if (fill->verify.nqueue == 0) {
        end = ngx_oci_index_readable(blob->cache, blob->entry,
                                     fill->verify.pos, blob->size, 0);

        /* what is not recorded is not worth reading back */

        if (end < blob->size) {
            end -= end % blob->cache->slice;
        }
    }

    if (ngx_oci_verify_run(&fill->verify, end) != NGX_OK) {
        fill->failed = 1;
    }
}


void
ngx_oci_fill_take(ngx_oci_fill_t *fill, ngx_oci_run_buf_t *b)
{
    if (!fill->verifying || fill->mismatch || fill->blob->entry->verified) {
        return;
    }

    if (ngx_oci_verify_take(&fill->verify, b->offset, b->data, b->size)
        == NGX_OK)
    {
        b->data = NULL;
    }
}


/* runs that waited for the hash */

static void
ngx_oci_fill_resume(ngx_oci_fill_t *fill)
{
    ngx_uint_t      i;
    ngx_oci_run_t  *run;

    fill->planning = 1;

    for (i = 0; i < NGX_OCI_INDEX_RUNS; i++) {
        run = &fill->runs[i];

        if (run->active && run->paused && run->ex) {
            run->paused = 0;
            ngx_oci_core.exchange_resume(run->ex);
        }
    }

    fill->planning = 0;
}


/* nobody reads any more: what runs goes on for a while, then to the end of its
   slices, if that comes soon; nothing begins */

static void
ngx_oci_fill_abandon(ngx_oci_fill_t *fill)
{
    ngx_uint_t      i;
    ngx_msec_t      now, passed, after;
    ngx_oci_run_t  *run;

    if (fill->nruns == 0) {
        return;
    }

    now = ngx_current_msec ? ngx_current_msec : 1;

    if (fill->abandoned == 0) {
        fill->abandoned = now;
    }

    passed = now - fill->abandoned;
    after = (ngx_exiting || fill->blob->entry->doomed)
            ? 0 : fill->abandoned_after;

    if (passed < after) {
        if (!fill->timer.timer_set) {
            ngx_add_timer(&fill->timer, after - passed);
        }

        return;
    }

    after += NGX_OCI_FILL_GRACE;

    if (passed >= after) {
        ngx_oci_fill_stop_runs(fill);
        return;
    }

    if (!fill->timer.timer_set) {
        ngx_add_timer(&fill->timer, after - passed);
    }

    for (i = 0; i < NGX_OCI_INDEX_RUNS; i++) {
        run = &fill->runs[i];

        if (!run->active || run->check) {
            continue;
        }

        if (run->retry || run->skip || run->ex == NULL
            || run->pos % fill->blob->cache->slice == 0)
        {
            if (!run->writing && run->head == run->tail) {
                ngx_oci_run_stop(run);
                continue;
            }
        }

        /* it ends at the border of the slice that it is in */

        run->end = ngx_min(run->end,
                           (run->pos / fill->blob->cache->slice + 1)
                           * fill->blob->cache->slice);
    }
}


static void
ngx_oci_fill_timer(ngx_event_t *ev)
{
    ngx_uint_t         i;
    ngx_connection_t  *c;
    ngx_msec_int_t     left;
    ngx_oci_fill_t    *fill;
    ngx_oci_run_t     *run;

    c = ev->data;
    fill = c->data;

    fill->planning = 1;

    for (i = 0; i < NGX_OCI_INDEX_RUNS; i++) {
        run = &fill->runs[i];

        if (!run->active || !run->retry) {
            continue;
        }

        left = (ngx_msec_int_t) (run->due - ngx_current_msec);

        if (left > 0 && !fill->failed) {
            ngx_oci_fill_wake(fill, run, left);
            continue;
        }

        run->retry = 0;

        if (fill->failed || ngx_oci_run_exchange(run) != NGX_OK) {
            fill->failed = 1;
            ngx_oci_run_stop(run);
        }
    }

    fill->planning = 0;

    ngx_oci_fill_plan(fill);
}


ngx_int_t
ngx_oci_fill_retry(ngx_oci_fill_t *fill, ngx_oci_run_t *run, time_t after)
{
    ngx_msec_t  delay;

    if (fill->failed || fill->mismatch) {
        return NGX_ERROR;
    }

    if (run->pos > run->progress) {
        delay = 1;

    } else if (ngx_oci_fill_limited(fill, run)) {
        return NGX_OK;

    } else {
        if (fill->failures >= NGX_OCI_FILL_RETRIES) {
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                          "a fill gives up at %uL after %ui tries",
                          run->pos, fill->failures);
            return NGX_ERROR;
        }

        delay = after ? (ngx_msec_t) after * 1000
                      : (ngx_msec_t) NGX_OCI_FILL_RETRY_DELAY
                        << fill->failures;
        fill->failures++;
    }

    ngx_oci_fill_wake(fill, run, delay);

    return NGX_OK;
}


/* refused, or nobody's rights are there: readers that wait are asked for
   theirs, which is no try */

ngx_int_t
ngx_oci_fill_await(ngx_oci_fill_t *fill, ngx_oci_run_t *run)
{
    ngx_oci_blob_t  *blob;

    if (fill->failed || fill->mismatch) {
        return NGX_ERROR;
    }

    /* it would wait beside others, which do the same or do fetch */

    if (!run->active && fill->nruns) {
        return NGX_ERROR;
    }

    blob = fill->blob;

    if (run->sourceless == 0) {
        run->sourceless = ngx_current_msec ? ngx_current_msec : 1;

    } else if (ngx_current_msec - run->sourceless > NGX_OCI_FILL_AWAIT) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "a fill gives up at %uL: no reader has credentials "
                      "that the registry takes", run->pos);
        return NGX_ERROR;
    }

    if (blob->entry->source == NULL) {
        ngx_oci_index_ring(blob->cache, blob->entry);
    }

    ngx_oci_fill_wake(fill, run, NGX_OCI_FILL_RETRY_DELAY);

    return NGX_OK;
}


/* the registry asks to wait, which is no failure: 1, and it looks again */

static ngx_uint_t
ngx_oci_fill_limited(ngx_oci_fill_t *fill, ngx_oci_run_t *run)
{
    ngx_str_t            repository, authorization;
    ngx_msec_t           delay;
    ngx_uint_t           down;
    ngx_oci_registry_t  *registry;

    if (ngx_oci_fill_source(fill, &registry, &repository, &authorization)
        != NGX_OK)
    {
        return 0;
    }

    delay = ngx_oci_core.wait(registry, &repository, &authorization, &down);

    ngx_explicit_memzero(authorization.data, authorization.len);

    if (delay == 0 || down) {
        return 0;
    }

    ngx_oci_fill_wake(fill, run, delay);

    return 1;
}


/* nothing was asked: it is no try.  An outage is sat out as long as a
   connection may stall */

ngx_int_t
ngx_oci_fill_postpone(ngx_oci_fill_t *fill, ngx_oci_run_t *run,
    ngx_oci_registry_t *registry, ngx_msec_t delay, ngx_uint_t down)
{
    if (!down) {
        fill->down = 0;

    } else if (fill->down == 0) {
        fill->down = ngx_current_msec ? ngx_current_msec : 1;

    } else if (ngx_current_msec - fill->down > registry->stall_timeout) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "a fill gives up at %uL: oci_registry \"%V\" does not "
                      "answer", run->pos, &registry->name);
        return NGX_ERROR;
    }

    ngx_oci_fill_wake(fill, run, delay);

    return NGX_OK;
}


static void
ngx_oci_fill_wake(ngx_oci_fill_t *fill, ngx_oci_run_t *run, ngx_msec_t delay)
{
    run->retry = 1;
    run->due = ngx_current_msec + delay;

    if (fill->timer.timer_set) {

        if ((ngx_msec_int_t) (fill->timer.timer.key - run->due) <= 0) {
            return;
        }

        ngx_del_timer(&fill->timer);
    }

    ngx_add_timer(&fill->timer, delay);
}


void
ngx_oci_fill_run_done(ngx_oci_fill_t *fill, ngx_oci_run_t *run, ngx_int_t rc)
{
    uint64_t         whole;
    ngx_oci_blob_t  *blob;

    blob = fill->blob;

    if (blob->generation == blob->entry->generation
        && ngx_oci_index_run_end(blob->cache, blob->entry, run->i) != NGX_OK)
    {
        whole = run->written - run->written % blob->cache->slice;
        ngx_oci_verify_discard(&fill->verify, whole, run->written);
    }

    if (!run->check) {
        ngx_oci_stat_add(rc == NGX_OK ? NGX_OCI_STAT_FILLS_DONE
                                      : NGX_OCI_STAT_FILLS_FAILED, 1);
    }

    run->active = 0;
    fill->nruns--;

    if (rc != NGX_OK) {
        fill->failed = 1;
    }

    if (fill->failed || fill->mismatch) {
        ngx_oci_fill_stop_runs(fill);
    }

    ngx_oci_fill_plan(fill);
}


static void
ngx_oci_fill_stop_runs(ngx_oci_fill_t *fill)
{
    ngx_uint_t  i, planning;

    planning = fill->planning;
    fill->planning = 1;

    for (i = 0; i < NGX_OCI_INDEX_RUNS; i++) {
        if (fill->runs[i].active && !fill->runs[i].stop) {
            ngx_oci_run_stop(&fill->runs[i]);
        }
    }

    fill->planning = planning;
}


void
ngx_oci_fill_progress(ngx_oci_fill_t *fill, uint64_t bytes)
{
    ngx_uint_t  settled;

    (void) ngx_oci_fill_exchanges(fill, &settled);

    if (ngx_oci_pace(&fill->pace, ngx_current_msec, bytes, fill->connections,
                     settled)
        && !fill->failed && !fill->mismatch
        && (fill->finish
            || ngx_oci_index_wanted(fill->blob->cache, fill->blob->entry)))
    {
        ngx_oci_fill_start_runs(fill);
    }

    ngx_oci_fill_verify(fill);
}


void
ngx_oci_fill_verified(ngx_oci_fill_t *fill, ngx_int_t rc)
{
    u_char           text[NGX_OCI_DIGEST_LEN];
    ngx_str_t        digest;
    ngx_oci_blob_t  *blob;

    blob = fill->blob;

    if (rc == NGX_OK) {

        if (fill->verify.pos == blob->size) {
            ngx_oci_index_set_verified(blob->cache, blob->entry);
        }

        ngx_oci_fill_verify(fill);
        ngx_oci_fill_resume(fill);
        ngx_oci_fill_plan(fill);
        return;
    }

    digest.data = text;
    digest.len = ngx_oci_digest_print(text, &blob->digest) - text;

    if (rc == NGX_DONE) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "the registry's bytes do not match digest \"%V\", "
                      "what was stored is removed", &digest);

        ngx_oci_stat_add(NGX_OCI_STAT_VERIFY_FAILURES, 1);

        fill->mismatch = 1;
        blob->stale = 1;

        ngx_oci_index_reset(blob->cache, blob->entry, NGX_OCI_FILL_BACKOFF);

    } else {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, fill->verify.err,
                      "reading blob \"%V\" back failed", &digest);

        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
        ngx_oci_index_bypass(blob->cache, NGX_OCI_RUN_BYPASS);
        fill->disk = 1;
        fill->failed = 1;
    }

    ngx_oci_fill_stop_runs(fill);
    ngx_oci_fill_plan(fill);
}


static ngx_uint_t
ngx_oci_fill_complete(ngx_oci_fill_t *fill)
{
    ngx_oci_entry_t  *entry;

    entry = fill->blob->entry;

    return entry->have == entry->slices;
}


/* frees the fill if nothing is left to do; 1 if it did */

static ngx_uint_t
ngx_oci_fill_try_end(ngx_oci_fill_t *fill)
{
    ngx_uint_t       failed;
    ngx_oci_blob_t  *blob;

    blob = fill->blob;

    if (fill->nruns || fill->adopting || fill->planning
        || fill->verify.running)
    {
        return 0;
    }

    failed = fill->failed || fill->mismatch;

    if (!failed) {

        if (ngx_oci_fill_complete(fill)) {
            if (fill->verifying && !blob->entry->verified) {
                return 0;
            }

        } else if (ngx_oci_index_wanted(blob->cache, blob->entry)
                   && !(ngx_exiting && ngx_queue_empty(&blob->waiters)))
        {
            return 0;
        }
    }

    if (fill->timer.timer_set) {
        ngx_del_timer(&fill->timer);
    }

    ngx_oci_verify_done(&fill->verify);
    ngx_oci_target_forget(&fill->target);

    blob->fill = NULL;
    ngx_oci_store_unlock(blob->store.map);
    ngx_oci_index_disown(blob->cache, blob->entry, failed, fill->disk);

    if (blob->entry->doomed) {
        ngx_oci_purge_doomed(blob->cache, &blob->digest);
    }

    ngx_free(fill);

    ngx_oci_blob_wake(blob);
    ngx_oci_blob_unref(blob);

    return 1;
}


ngx_int_t
ngx_oci_fill_source(ngx_oci_fill_t *fill, ngx_oci_registry_t **registry,
    ngx_str_t *repository, ngx_str_t *authorization)
{
    u_char                   place[16];
    ngx_int_t                rc;
    ngx_uint_t               i;
    ngx_oci_blob_t          *blob;
    ngx_oci_registry_t     **r;
    ngx_oci_main_conf_t     *omcf;

    static u_char            buf[NGX_OCI_SOURCE_MAX];

    blob = fill->blob;

    rc = ngx_oci_index_source_get(blob->cache, blob->entry, buf, place,
                                  repository, authorization);
    if (rc != NGX_OK) {
        return rc;
    }

    omcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_oci_module);
    r = omcf->registries.elts;

    for (i = 0; i < omcf->registries.nelts; i++) {
        if (ngx_memcmp(r[i]->health_key, place, sizeof(place)) == 0) {
            *registry = r[i];
            return NGX_OK;
        }
    }

    ngx_explicit_memzero(buf, sizeof(buf));

    return NGX_DECLINED;
}
