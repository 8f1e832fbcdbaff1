
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_fill.h"
#include "ngx_oci_room.h"


static ngx_oci_exchange_t *ngx_oci_run_ask(ngx_oci_run_t *run,
    ngx_oci_registry_t *registry, ngx_str_t *repository,
    ngx_str_t *authorization);
static ngx_int_t ngx_oci_run_header(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_run_partial(ngx_oci_run_t *run,
    ngx_oci_exchange_t *ex);
static void ngx_oci_run_accepted(ngx_oci_run_t *run, ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_run_buffer(ngx_oci_exchange_t *ex, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_run_received(ngx_oci_exchange_t *ex, size_t n,
    ngx_uint_t idle);
static void ngx_oci_run_exchange_done(ngx_oci_exchange_t *ex, ngx_int_t rc);
static ngx_uint_t ngx_oci_run_short(ngx_oci_run_t *run,
    ngx_oci_exchange_t *ex, ngx_int_t rc);
static time_t ngx_oci_run_retry_after(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_run_place(ngx_oci_run_t *run,
    ngx_oci_registry_t *registry);
static ngx_int_t ngx_oci_run_queue(ngx_oci_run_t *run,
    ngx_oci_registry_t *registry);
static void ngx_oci_run_leave(ngx_oci_run_t *run);
static ngx_int_t ngx_oci_run_cover(ngx_oci_run_t *run, uint64_t end);
static ngx_uint_t ngx_oci_run_slow(ngx_oci_run_t *run,
    ngx_oci_exchange_t *ex);


ngx_int_t
ngx_oci_run_start(ngx_oci_fill_t *fill, ngx_oci_span_t *span,
    ngx_uint_t check)
{
    ngx_uint_t      i;
    ngx_oci_run_t  *run;

    for (i = 0; i < NGX_OCI_INDEX_RUNS; i++) {
        if (!fill->runs[i].active) {
            break;
        }
    }

    if (i == NGX_OCI_INDEX_RUNS) {
        return NGX_ERROR;
    }

    run = &fill->runs[i];

    ngx_memzero(run, sizeof(ngx_oci_run_t));

    run->fill = fill;
    run->i = i;
    run->start = span->pos;
    run->end = span->end;
    run->pos = span->mark;
    run->written = span->mark;
    run->resumed = (span->mark != span->pos);
    run->task.data = run;

    if (check) {
        run->check = 1;
        if (ngx_oci_run_check(run) != NGX_OK) {
            return NGX_ERROR;
        }

        run->writing = 1;
        run->active = 1;
        fill->nruns++;

        return NGX_OK;
    }

    if (ngx_oci_run_cover(run, run->end) != NGX_OK) {

        if (!fill->disk) {
            ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                          "no room for the rest of a blob in \"%V\"",
                          &fill->blob->cache->path->name);
        }

        fill->disk = 1;
        return NGX_ERROR;
    }

    if (ngx_oci_run_exchange(run) != NGX_OK) {
        return NGX_ERROR;
    }

    run->active = 1;
    fill->nruns++;

    ngx_oci_stat_add(NGX_OCI_STAT_FILLS_STARTED, 1);

    return NGX_OK;
}


/* is there room for what all runs are about to write, and this one up to end?
   Readers reserved it, but for slices that were lost meanwhile */

static ngx_int_t
ngx_oci_run_cover(ngx_oci_run_t *run, uint64_t end)
{
    uint64_t         bytes;
    ngx_uint_t       i;
    ngx_oci_run_t   *other;
    ngx_oci_fill_t  *fill;

    fill = run->fill;
    bytes = end - run->written;

    for (i = 0; i < NGX_OCI_INDEX_RUNS; i++) {
        other = &fill->runs[i];

        if (other != run && other->active && !other->check) {
            bytes += other->end - other->written;
        }
    }

    return ngx_oci_index_cover(fill->blob->cache, fill->blob->entry, bytes);
}


ngx_int_t
ngx_oci_run_exchange(ngx_oci_run_t *run)
{
    ngx_int_t            rc;
    ngx_str_t            repository, authorization;
    ngx_msec_t           delay;
    ngx_uint_t           down;
    ngx_oci_fill_t      *fill;
    ngx_oci_registry_t  *registry;
    ngx_oci_exchange_t  *ex;

    fill = run->fill;

    rc = ngx_oci_fill_source(fill, &registry, &repository, &authorization);
    if (rc != NGX_OK) {
        return ngx_oci_fill_await(fill, run);
    }

    run->progress = run->pos;

    delay = ngx_oci_core.wait(registry, &repository, &authorization, &down);

    if (delay) {

        if (!down && registry->fill == NULL
            && registry->credentials == NGX_OCI_CREDENTIALS_CLIENT)
        {
            /* it is his limit: another reader may have none */

            ngx_oci_index_source_limited(fill->blob->cache, fill->blob->entry,
                                         &repository, &authorization);
        }

        ngx_explicit_memzero(authorization.data, authorization.len);
        return ngx_oci_fill_postpone(fill, run, registry, delay, down);
    }

    fill->down = 0;

    ex = ngx_oci_run_ask(run, registry, &repository, &authorization);

    ngx_explicit_memzero(authorization.data, authorization.len);

    if (ex == NULL) {
        return NGX_ERROR;
    }

    run->paused = 0;
    run->skip = 0;

    if (ngx_oci_run_place(run, registry) != NGX_OK) {
        ngx_oci_core.exchange_abort(ex);
        return ngx_oci_run_queue(run, registry);
    }

    fill->placeless = 0;

    /* to connect, and for the header, it has a turn more */

    run->looked = ngx_current_msec + registry->stall_timeout;
    run->brought = 0;
    run->held = 0;

    if (ngx_oci_core.exchange_start(ex) != NGX_OK) {
        ngx_oci_core.place_free(registry);
        return NGX_ERROR;
    }

    run->ex = ex;

    return NGX_OK;
}


/* the exchange that brings what the run misses, not started.  NULL: no
   memory */

static ngx_oci_exchange_t *
ngx_oci_run_ask(ngx_oci_run_t *run, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *authorization)
{
    u_char              *p;
    size_t               len;
    ngx_oci_exchange_t  *ex;

    ex = ngx_oci_core.exchange_create(registry, ngx_cycle->log);
    if (ex == NULL) {
        return NULL;
    }

    len = sizeof("/v2//blobs/") - 1 + repository->len + NGX_OCI_DIGEST_LEN;

    ex->uri.data = ngx_pnalloc(ex->pool, len);
    ex->repository.data = ngx_pstrdup(ex->pool, repository);
    ex->authorization.data = ngx_pstrdup(ex->pool, authorization);

    if (ex->uri.data == NULL || ex->repository.data == NULL
        || (authorization->len && ex->authorization.data == NULL))
    {
        ngx_oci_core.exchange_abort(ex);
        return NULL;
    }

    ex->repository.len = repository->len;
    ex->authorization.len = authorization->len;

    p = ngx_sprintf(ex->uri.data, "/v2/%V/blobs/", repository);
    p = ngx_oci_digest_print(p, &run->fill->blob->digest);
    ex->uri.len = p - ex->uri.data;

    if (registry->fill) {
        ex->credentials = NGX_OCI_CREDENTIALS_STORED;
        ex->stored = registry->fill;

    } else {
        ex->credentials = registry->credentials;
        ex->stored = registry->stored;
    }

    ex->method = NGX_HTTP_GET;
    ex->range_start = run->pos;
    ex->range_end = run->end;
    ex->data = run;
    ex->header = ngx_oci_run_header;
    ex->buffer = ngx_oci_run_buffer;
    ex->received = ngx_oci_run_received;
    ex->done = ngx_oci_run_exchange_done;

    ngx_oci_target_get(&run->fill->target, ex, run->source);

    return ex;
}


/* NGX_OK: the exchange's done() gives it back; NGX_AGAIN: not its turn yet */

static ngx_int_t
ngx_oci_run_place(ngx_oci_run_t *run, ngx_oci_registry_t *registry)
{
    if (run->registry != registry) {
        ngx_oci_run_leave(run);
        run->registry = registry;
    }

    return ngx_oci_core.place(registry, &run->ticket);
}


/*
 * It looks again.  A fill that has had no place for long does not keep its
 * readers: they go on past the cache, which takes no place.
 */

static ngx_int_t
ngx_oci_run_queue(ngx_oci_run_t *run, ngx_oci_registry_t *registry)
{
    ngx_uint_t       i;
    ngx_msec_t       now, patience;
    ngx_oci_fill_t  *fill;

    fill = run->fill;
    now = ngx_current_msec ? ngx_current_msec : 1;
    patience = ngx_max(registry->stall_timeout, NGX_OCI_RUN_PATIENCE);

    for (i = 0; i < NGX_OCI_INDEX_RUNS; i++) {
        if (fill->runs[i].active && fill->runs[i].ex) {
            fill->placeless = 0;
            break;
        }
    }

    if (i == NGX_OCI_INDEX_RUNS) {

        if (fill->placeless == 0) {
            fill->placeless = now;

        } else if (now - fill->placeless > patience
                   && ngx_oci_index_wanted(fill->blob->cache,
                                           fill->blob->entry))
        {
            ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                          "a fill gives up at %uL: none of max_connections "
                          "of oci_registry \"%V\" is free", run->pos,
                          &registry->name);

            ngx_oci_run_leave(run);
            fill->disk = 1;

            return NGX_ERROR;
        }
    }

    return ngx_oci_fill_postpone(fill, run, registry, NGX_OCI_RUN_QUEUE, 0);
}


static void
ngx_oci_run_leave(ngx_oci_run_t *run)
{
    if (run->ticket) {
        ngx_oci_core.place_leave(run->registry, &run->ticket);
    }
}


static ngx_int_t
ngx_oci_run_header(ngx_oci_exchange_t *ex)
{
    ngx_oci_run_t *run = ex->data;

    uint64_t         end;
    ngx_uint_t       i;
    ngx_oci_fill_t  *fill;

    fill = run->fill;

    if (ex->in.status == NGX_HTTP_OK
        && ngx_oci_type_is_page(&ex->in.content_type))
    {
        ngx_log_error(NGX_LOG_ERR, ex->log, 0,
                      "upstream sent a page, not \"%V\"", &ex->uri);
        return NGX_ERROR;
    }

    if (ex->in.status == NGX_HTTP_PARTIAL_CONTENT) {
        return ngx_oci_run_partial(run, ex);
    }

    if (ex->in.status != NGX_HTTP_OK) {
        ngx_log_error(NGX_LOG_ERR, ex->log, 0,
                      "upstream answered %ui to a range of \"%V\"",
                      ex->in.status, &ex->uri);
        return NGX_ERROR;
    }

    if (ex->in.content_length != -1
        && ex->in.content_length != (off_t) fill->blob->size)
    {
        ngx_log_error(NGX_LOG_ERR, ex->log, 0,
                      "upstream sent %O bytes, not %uL, \"%V\"",
                      ex->in.content_length, fill->blob->size, &ex->uri);
        ngx_oci_blob_forget_size(fill->blob, ex->registry, &ex->repository);
        return NGX_ERROR;
    }

    /* the whole blob, from its first byte: one run takes it as a stream */

    if (!fill->stream) {
        ngx_log_error(NGX_LOG_WARN, ex->log, 0,
                      "upstream ignores Range, \"%V\" is filled as one "
                      "stream", &ex->uri);
        fill->stream = 1;
    }

    for (i = 0; i < NGX_OCI_INDEX_RUNS; i++) {
        if (fill->runs[i].active && &fill->runs[i] != run
            && !fill->runs[i].check)
        {
            run->stop = 1;
            return NGX_ERROR;
        }
    }

    ngx_oci_target_set(&fill->target, ex, run->source);
    ngx_oci_run_accepted(run, ex);

    run->skip = run->pos;

    /* all that comes is kept, if there is room */

    end = ngx_oci_index_gap(fill->blob->cache, fill->blob->entry,
                            run->end - 1);

    if (ngx_oci_run_cover(run, end) == NGX_OK) {
        run->end = end;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_run_partial(ngx_oci_run_t *run, ngx_oci_exchange_t *ex)
{
    ngx_oci_fill_t  *fill;

    fill = run->fill;

    if (ex->in.range_start != (off_t) run->pos
        || ex->in.range_end <= ex->in.range_start
        || ex->in.range_end > (off_t) run->end
        || (ex->in.range_total != -1
            && ex->in.range_total != (off_t) fill->blob->size)
        || (ex->in.content_length != -1
            && ex->in.content_length
               != ex->in.range_end - ex->in.range_start))
    {
        ngx_log_error(NGX_LOG_ERR, ex->log, 0,
                      "upstream sent an unexpected Content-Range "
                      "%O-%O/%O, asked for %uL-%uL/%uL, \"%V\"",
                      ex->in.range_start, ex->in.range_end - 1,
                      ex->in.range_total, run->pos, run->end - 1,
                      fill->blob->size, &ex->uri);

        if (ex->in.range_total != -1
            && ex->in.range_total != (off_t) fill->blob->size)
        {
            ngx_oci_blob_forget_size(fill->blob, ex->registry,
                                     &ex->repository);
        }

        return NGX_ERROR;
    }

    ngx_oci_target_set(&fill->target, ex, run->source);
    ngx_oci_run_accepted(run, ex);

    return NGX_OK;
}


/* bytes come with these rights: a reader who comes later does not replace
   them at once */

static void
ngx_oci_run_accepted(ngx_oci_run_t *run, ngx_oci_exchange_t *ex)
{
    ngx_oci_blob_t  *blob;

    blob = run->fill->blob;

    ngx_oci_index_source_good(blob->cache, blob->entry, &ex->repository,
                              &ex->authorization);
}


static ngx_int_t
ngx_oci_run_buffer(ngx_oci_exchange_t *ex, u_char **p, size_t *size)
{
    ngx_oci_run_t *run = ex->data;

    size_t              slice;
    uint64_t            end;
    ngx_oci_run_buf_t  *b;

    b = &run->bufs[run->head % NGX_OCI_RUN_BUFFERS];

    if (run->stop) {
        return NGX_ERROR;
    }

    if (run->head - run->tail == NGX_OCI_RUN_BUFFERS
        || ngx_oci_verify_full(&run->fill->verify, run->written))
    {
        run->paused = 1;
        run->held = 1;
        return NGX_AGAIN;
    }

    if (b->data == NULL) {
        b->data = ngx_oci_verify_buffer(&run->fill->verify, ex->log);
        if (b->data == NULL) {
            return NGX_ERROR;
        }
    }

    if (run->skip) {
        *p = b->data;
        *size = ngx_min(run->skip, NGX_OCI_RUN_BUFFER);
        return NGX_OK;
    }

    if (run->pos == run->end) {

        /* a stream goes on past the run: that is all we wanted of it */

        return NGX_ERROR;
    }

    if (b->size == 0) {
        b->offset = run->pos;
    }

    /* a buffer never crosses the border of a slice */

    slice = run->fill->blob->cache->slice;
    end = (run->pos / slice + 1) * slice;
    end = ngx_min(end, run->end);

    *p = b->data + b->size;
    *size = ngx_min(end - run->pos, NGX_OCI_RUN_BUFFER - b->size);

    return NGX_OK;
}


static ngx_int_t
ngx_oci_run_received(ngx_oci_exchange_t *ex, size_t n, ngx_uint_t idle)
{
    ngx_oci_run_t *run = ex->data;

    size_t              slice;
    ngx_oci_run_buf_t  *b;

    if (run->stop || ngx_oci_run_slow(run, ex)) {
        return NGX_ERROR;
    }

    if (run->skip) {
        run->skip -= n;
        return NGX_OK;
    }

    slice = run->fill->blob->cache->slice;

    if (n) {
        b = &run->bufs[run->head % NGX_OCI_RUN_BUFFERS];
        b->size += n;
        run->pos += n;
        run->fill->failures = 0;
        run->sourceless = 0;

        if (b->size == NGX_OCI_RUN_BUFFER || run->pos % slice == 0
            || run->pos == run->end)
        {
            run->head++;
        }
    }

    ngx_oci_run_write(run, idle);

    return NGX_OK;
}


/*
 * Bytes that drip in keep a place for ever: who brings next to nothing in a
 * while gives his to others who wait, and waits for it again.  Unless it was
 * us who did not read.
 */

static ngx_uint_t
ngx_oci_run_slow(ngx_oci_run_t *run, ngx_oci_exchange_t *ex)
{
    off_t                bytes, least, share;
    ngx_uint_t           held;
    ngx_oci_registry_t  *registry;

    registry = ex->registry;

    if ((ngx_msec_int_t) (ngx_current_msec - run->looked)
        < (ngx_msec_int_t) registry->stall_timeout)
    {
        return 0;
    }

    held = run->held;
    bytes = ex->received_bytes - run->brought;

    run->held = run->paused;
    run->looked = ngx_current_msec;
    run->brought = ex->received_bytes;

    least = NGX_OCI_RUN_SLOW;

    if (registry->rate) {
        share = registry->rate / (off_t) registry->max_connections;
        least = ngx_min(least, share * (off_t) registry->stall_timeout / 4000);
    }

    if (held || bytes >= least || !ngx_oci_core.place_wanted(registry)) {
        return 0;
    }

    ngx_log_error(NGX_LOG_WARN, ex->log, 0,
                  "upstream sent %O bytes in %M ms while others wait, "
                  "\"%V\"", bytes, registry->stall_timeout, &ex->uri);

    return 1;
}


static void
ngx_oci_run_exchange_done(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_run_t *run = ex->data;

    time_t           after;
    ngx_oci_fill_t  *fill;

    fill = run->fill;
    run->ex = NULL;
    run->paused = 0;

    ngx_oci_core.place_free(ex->registry);

    if (run->stop) {
        if (!run->writing) {
            ngx_oci_run_end(run, NGX_OK);
        }

        return;
    }

    if (run->pos == run->end) {

        /* all there: the last write ends the run */

        if (!run->writing) {
            if (run->written == run->end) {
                ngx_oci_run_end(run, NGX_OK);

            } else {
                ngx_oci_run_write(run, 1);
            }
        }

        return;
    }

    if (ngx_oci_run_short(run, ex, rc)) {
        run->stop = 1;
        fill->failed = 1;

        if (!run->writing) {
            ngx_oci_run_end(run, NGX_ERROR);
        }

        return;
    }

    if (run->pos == run->progress
        && ngx_oci_target_is(&fill->target, ex))
    {
        /* the registry may know a better place by now */

        ngx_oci_target_forget(&fill->target);
    }

    if (rc == NGX_ABORT && ex->in.status >= 400 && ex->in.status < 500
        && ex->in.status != 408 && ex->in.status != 429)
    {
        /* not with this caller's rights: another reader's may do */

        if (ex->credentials == NGX_OCI_CREDENTIALS_CLIENT
            && !run->writing && run->head == run->tail
            && run->bufs[run->head % NGX_OCI_RUN_BUFFERS].size == 0)
        {
            ngx_oci_index_source_drop(fill->blob->cache, fill->blob->entry,
                                      &ex->repository, &ex->authorization);

            if (ngx_oci_fill_await(fill, run) == NGX_OK) {
                return;
            }
        }

        /* it will say no again: the token expired, the blob is gone */

        run->stop = 1;
        fill->failed = 1;

        if (!run->writing) {
            ngx_oci_run_end(run, NGX_ERROR);
        }

        return;
    }

    if (run->writing || run->head != run->tail
        || run->bufs[run->head % NGX_OCI_RUN_BUFFERS].size)
    {
        /* the retry begins where the last write ends */

        ngx_oci_run_write(run, 1);
        return;
    }

    after = ngx_oci_run_retry_after(ex);

    if (ngx_oci_fill_retry(fill, run, after) != NGX_OK) {
        ngx_oci_run_end(run, NGX_ERROR);
    }
}


/*
 * The registry has nothing at that place; or a body of no announced length has
 * ended before the blob's, and no later than the one before it: the size,
 * which a manifest told then, is wrong: 1.  Once may be a broken connection,
 * where its end is the body's.
 */

static ngx_uint_t
ngx_oci_run_short(ngx_oci_run_t *run, ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_blob_t  *blob;

    if (ex->in.status != NGX_HTTP_RANGE_NOT_SATISFIABLE
        && (rc != NGX_OK || ex->in.status != NGX_HTTP_OK
            || ex->in.content_length != -1 || run->pos != run->progress))
    {
        return 0;
    }

    blob = run->fill->blob;

    ngx_log_error(NGX_LOG_ERR, ex->log, 0,
                  "upstream's bytes end at %uL, not at %uL, \"%V\"",
                  run->pos, blob->size, &ex->uri);

    ngx_oci_blob_forget_size(blob, ex->registry, &ex->repository);

    return 1;
}


static time_t
ngx_oci_run_retry_after(ngx_oci_exchange_t *ex)
{
    ngx_int_t  n;

    if (ex->in.retry_after.len == 0) {
        return 0;
    }

    n = ngx_atoi(ex->in.retry_after.data, ex->in.retry_after.len);

    return (n == NGX_ERROR) ? 0 : ngx_min(n, 60);
}


void
ngx_oci_run_stop(ngx_oci_run_t *run)
{
    if (run->stop) {
        return;
    }

    run->stop = 1;
    run->retry = 0;

    if (run->ex) {
        ngx_oci_core.exchange_abort(run->ex);
        return;
    }

    if (!run->writing) {
        ngx_oci_run_end(run, NGX_OK);
    }
}


/* frees what the run holds, once neither exchange nor task is left */

void
ngx_oci_run_end(ngx_oci_run_t *run, ngx_int_t rc)
{
    ngx_uint_t       i;
    ngx_oci_fill_t  *fill;

    fill = run->fill;

    if (rc != NGX_OK) {
        fill->failed = 1;
    }

    if (run->ex) {
        run->stop = 1;
        ngx_oci_core.exchange_abort(run->ex);
        return;
    }

    ngx_oci_run_leave(run);

    for (i = 0; i < NGX_OCI_RUN_BUFFERS; i++) {
        if (run->bufs[i].data) {
            ngx_oci_verify_spare(&fill->verify, run->bufs[i].data);
            run->bufs[i].data = NULL;
        }
    }

    ngx_oci_fill_run_done(fill, run, fill->failed ? NGX_ERROR : rc);
}
