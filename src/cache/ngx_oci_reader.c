
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_reader.h"
#include "ngx_oci_sizes.h"
#include "ngx_oci_room.h"


static void ngx_oci_reader_looked_up(void *data, ngx_int_t rc);
static off_t ngx_oci_reader_verified(ngx_oci_reader_t *rd);
static off_t ngx_oci_reader_claimed(ngx_oci_reader_t *rd);
static void ngx_oci_reader_authorize(ngx_oci_reader_t *rd);
static void ngx_oci_reader_probed(void *data,
    ngx_oci_probe_result_t *result);
static ngx_uint_t ngx_oci_reader_stale(ngx_oci_reader_t *rd,
    ngx_oci_probe_result_t *result);
static void ngx_oci_reader_open(ngx_oci_reader_t *rd);
static void ngx_oci_reader_other_size(ngx_oci_reader_t *rd);
static void ngx_oci_reader_forget(ngx_oci_reader_t *rd);
static ngx_uint_t ngx_oci_reader_admit(ngx_oci_reader_t *rd);
static void ngx_oci_reader_opened(void *data, ngx_oci_blob_t *blob);
static void ngx_oci_reader_proved(void *data, ngx_int_t rc, off_t bytes);
static void ngx_oci_reader_woken(void *data);
static void ngx_oci_reader_cleanup(void *data);
static void ngx_oci_reader_release(void *data);
static void ngx_oci_reader_unref(ngx_oci_reader_t *rd);

ngx_int_t
ngx_oci_reader_handler(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_cache_loc_conf_t *ocf)
{
    ngx_int_t            rc;
    ngx_pool_t          *pool;
    ngx_oci_cache_t     *cache;
    ngx_oci_reader_t    *rd;
    ngx_pool_cleanup_t  *release;
    ngx_http_cleanup_t  *cln;

    cache = ocf->cache;

    if (r != r->main || ngx_oci_doorbell_slot(cache) < 0) {
        return NGX_DECLINED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    pool = ngx_create_pool(2048, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_DECLINED;
    }

    rd = ngx_pcalloc(pool, sizeof(ngx_oci_reader_t));
    release = ngx_pool_cleanup_add(r->pool, sizeof(ngx_oci_reader_out_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (rd == NULL || release == NULL || cln == NULL) {
        ngx_destroy_pool(pool);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(release->data, sizeof(ngx_oci_reader_out_t));
    release->handler = ngx_oci_reader_release;

    rd->out = release->data;

    cln->handler = ngx_oci_reader_cleanup;
    cln->data = rd;

    rd->pool = pool;
    rd->refs = 1;
    rd->r = r;
    rd->ctx = ctx;
    rd->ocf = ocf;
    rd->cache = cache;
    rd->size = -1;
    rd->told = -1;
    rd->preheat = (ngx_oci_core.pull_own(r) == NGX_OCI_PULL_PREHEAT);

    ctx->cache = rd;

    rd->probe.handler = ngx_oci_reader_probed;
    rd->probe.data = rd;
    rd->prove.handler = ngx_oci_reader_proved;
    rd->prove.data = rd;
    rd->opener.handler = ngx_oci_reader_opened;
    rd->opener.data = rd;
    rd->waiter.handler = ngx_oci_reader_woken;
    rd->waiter.data = rd;

    r->main->count++;

    /* a client that leaves is noticed while the request waits */

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    rd->refs++;

    rc = ngx_oci_refs_lookup(cache, NGX_OCI_REFS_BLOB, ctx->registry,
                             &ctx->repository, &ctx->route.reference,
                             &rd->ref, ngx_oci_reader_looked_up, rd);
    if (rc == NGX_AGAIN) {
        return NGX_DONE;
    }

    /* the core still holds the request: what was posted is its to run */

    rd->refs++;
    rd->handling = 1;

    ngx_oci_reader_looked_up(rd, rc);

    rd->handling = 0;
    ngx_oci_reader_unref(rd);

    return NGX_DONE;
}


static void
ngx_oci_reader_cleanup(void *data)
{
    ngx_oci_reader_t *rd = data;

    off_t     sent;
    uint64_t  bytes;

    /* of what was handed on, the socket may have taken less */

    sent = rd->r->connection->sent - (off_t) rd->r->header_size;

    rd->r = NULL;
    rd->ctx->cache = NULL;

    ngx_oci_probe_leave(&rd->probe);
    ngx_oci_prove_leave(&rd->prove);
    ngx_oci_tail_leave(rd->tail);
    ngx_oci_judge_leave(rd->look);
    ngx_oci_blob_unwait(&rd->waiter);

    if (rd->opening) {
        rd->opening = 0;
        ngx_queue_remove(&rd->opener.queue);
    }

    if (rd->want) {
        ngx_oci_index_unwant(rd->cache, rd->want);
        rd->want = NULL;
    }

    if (rd->sent && sent > 0) {
        ngx_oci_stat_add(rd->ctx->cache_status == NGX_OCI_CACHE_HIT
                         ? NGX_OCI_STAT_SENT_HIT : NGX_OCI_STAT_SENT_MISS,
                         sent);
    }

    if (rd->blob) {

        bytes = rd->blob->entry->bytes;

        if (!rd->joined && bytes > rd->bytes) {
            rd->ctx->upstream_bytes += bytes - rd->bytes;
        }

        /* a fill that lost its last reader looks what to do */

        (void) ngx_oci_index_ring_owner(rd->cache, rd->blob->entry);

        rd->out->blob = rd->blob;
        rd->blob = NULL;
    }

    ngx_oci_reader_unref(rd);
}


static void
ngx_oci_reader_release(void *data)
{
    ngx_oci_reader_out_t *out = data;

    if (out->blob) {
        ngx_oci_blob_unref(out->blob);
    }
}


static void
ngx_oci_reader_unref(ngx_oci_reader_t *rd)
{
    if (--rd->refs == 0) {
        ngx_destroy_pool(rd->pool);
    }
}


void
ngx_oci_reader_run(ngx_oci_reader_t *rd, ngx_connection_t *c)
{
    if (rd->handling) {
        c = NULL;
    }

    ngx_oci_reader_unref(rd);

    if (c) {
        ngx_http_run_posted_requests(c);
    }
}


static void
ngx_oci_reader_looked_up(void *data, ngx_int_t rc)
{
    ngx_oci_reader_t *rd = data;

    ngx_connection_t  *c;

    c = NULL;

    if (rd->r) {
        c = rd->r->connection;

        ngx_http_set_log_request(c->log, rd->r);

        if (rc == NGX_OK
            && ngx_oci_digest_equal(&rd->ref.digest,
                                    &rd->ctx->route.digest))
        {
            rd->told = (rd->ref.size > 0) ? rd->ref.size
                                          : ngx_oci_reader_verified(rd);
            rd->size = (rd->told > 0) ? rd->told : ngx_oci_reader_claimed(rd);
            rd->member = (rd->size > 0);
        }

        ngx_oci_reader_authorize(rd);
    }

    ngx_oci_reader_run(rd, c);
}


/* where the registry did not say it: the size of the bytes, or -1 */

static off_t
ngx_oci_reader_verified(ngx_oci_reader_t *rd)
{
    off_t       size;
    ngx_uint_t  verified;

    size = ngx_oci_index_size(rd->cache, &rd->ctx->route.digest,
                              ngx_oci_index_origin(rd->ctx->registry),
                              &verified);

    return verified ? size : -1;
}


/* what a descriptor says is proven by the digest only */

static off_t
ngx_oci_reader_claimed(ngx_oci_reader_t *rd)
{
    if (rd->ocf->verify == NGX_OCI_VERIFY_MODE_OFF) {
        return ngx_oci_reader_verified(rd);
    }

    return ngx_oci_sizes_get(rd->cache, rd->ctx->registry,
                             &rd->ctx->repository, &rd->ctx->route.digest);
}


/*
 * Is this caller known to be able to read this repository, and the digest
 * to belong to it?  Else the registry is asked, with the caller's own
 * credentials.
 */

static void
ngx_oci_reader_authorize(ngx_oci_reader_t *rd)
{
    time_t          age;
    ngx_oci_ctx_t  *ctx;

    ctx = rd->ctx;

    /* HEAD protects the blobs of a push from garbage collection there */

    if (rd->r->method == NGX_HTTP_HEAD) {

        if (ngx_oci_probe(rd->cache, ctx, NGX_HTTP_HEAD, rd->told, &rd->probe)
            != NGX_OK)
        {
            ngx_oci_reader_pass(rd);
        }

        return;
    }

    if (rd->member) {

        if (ctx->registry->credentials == NGX_OCI_CREDENTIALS_STORED) {
            ngx_oci_reader_open(rd);
            return;
        }

        if (ngx_oci_refs_right(rd->cache, ctx->registry, &ctx->repository,
                               &ctx->authorization, &age)
            == NGX_OK
            && age <= NGX_OCI_RIGHT_VALID)
        {
            ngx_oci_reader_open(rd);
            return;
        }
    }

    if (ngx_oci_probe(rd->cache, ctx, NGX_HTTP_GET, rd->told, &rd->probe)
        != NGX_OK)
    {
        ngx_oci_reader_pass(rd);
    }
}


static void
ngx_oci_reader_probed(void *data, ngx_oci_probe_result_t *result)
{
    ngx_oci_reader_t *rd = data;

    off_t              size;
    ngx_connection_t  *c;

    c = rd->r->connection;
    rd->refs++;

    ngx_http_set_log_request(c->log, rd->r);

    size = result->claimed ? ngx_oci_reader_claimed(rd) : result->size;

    if (rd->r->method == NGX_HTTP_HEAD) {

        if (result->rc == NGX_OK && size != -1) {
            rd->size = size;
            rd->ctx->cache_status = NGX_OCI_CACHE_REVALIDATED;
            ngx_oci_send_start(rd);

        } else if (ngx_oci_reader_stale(rd, result)) {
            rd->ctx->cache_status = NGX_OCI_CACHE_STALE;
            ngx_oci_send_start(rd);

        } else {
            ngx_oci_reader_pass(rd);
        }

    } else if (result->rc == NGX_OK && size != -1) {
        rd->size = size;
        rd->ctx->upstream_bytes += 1;
        ngx_oci_reader_open(rd);

    } else if (ngx_oci_reader_stale(rd, result)) {
        rd->stale = 1;
        ngx_oci_reader_open(rd);

    } else {

        /* the registry's own answer tells the client best */

        rd->refused = 1;
        ngx_oci_reader_pass(rd);
    }

    ngx_oci_reader_run(rd, c);
}


/* the registry is out of reach: may what is known be used? */

static ngx_uint_t
ngx_oci_reader_stale(ngx_oci_reader_t *rd, ngx_oci_probe_result_t *result)
{
    time_t          age;
    ngx_uint_t      mask;
    ngx_oci_ctx_t  *ctx;

    ctx = rd->ctx;

    if (result->status == 0) {
        mask = result->timedout ? NGX_OCI_STALE_TIMEOUT
                                : NGX_OCI_STALE_ERROR;

    } else if (result->status == NGX_HTTP_TOO_MANY_REQUESTS) {
        mask = NGX_OCI_STALE_HTTP_429;

    } else if (result->status >= NGX_HTTP_INTERNAL_SERVER_ERROR) {
        mask = NGX_OCI_STALE_HTTP_5XX;

    } else {
        return 0;
    }

    if (!rd->member || !(rd->ocf->use_stale & mask)) {
        return 0;
    }

    return ngx_oci_refs_right(rd->cache, ctx->registry, &ctx->repository,
                              &ctx->authorization, &age)
           == NGX_OK
           && age <= rd->ocf->stale_max;
}


static void
ngx_oci_reader_open(ngx_oci_reader_t *rd)
{
    ngx_int_t        rc;
    ngx_oci_blob_t  *blob;

    if (!ngx_oci_reader_admit(rd)) {
        ngx_oci_reader_pass(rd);
        return;
    }

    rc = ngx_oci_blob_open(rd->cache, &rd->ctx->route.digest, rd->size,
                           ngx_oci_index_origin(rd->ctx->registry),
                           &rd->opener, &blob);

    if (rc == NGX_AGAIN) {
        rd->opening = 1;
        return;
    }

    if (rc != NGX_OK) {
        ngx_oci_reader_pass(rd);
        return;
    }

    rd->blob = blob;

    /* a registry that says another size speaks of other bytes */

    if (blob->size != (uint64_t) rd->size) {
        ngx_oci_reader_other_size(rd);
        return;
    }

    ngx_oci_send_start(rd);
}


static void
ngx_oci_reader_other_size(ngx_oci_reader_t *rd)
{
    /* what is verified has the right one: it is not believed once more */

    if (rd->blob->entry->verified) {
        ngx_oci_reader_forget(rd);
    }

    ngx_oci_reader_pass(rd);
}


/* the size may be what a registry said once: it is asked the next time */

static void
ngx_oci_reader_forget(ngx_oci_reader_t *rd)
{
    ngx_oci_refs_remove(rd->cache, NGX_OCI_REFS_BLOB, rd->ctx->registry,
                        &rd->ctx->repository, &rd->ctx->route.reference,
                        rd->r->connection->log);
}


/* is there room for it?  What is stored already needs none */

static ngx_uint_t
ngx_oci_reader_admit(ngx_oci_reader_t *rd)
{
    ngx_int_t         rc;
    ngx_oci_cache_t  *cache;

    cache = rd->cache;

    if (rd->size > cache->max_size) {
        ngx_log_error(NGX_LOG_WARN, rd->r->connection->log, 0,
                      "a blob of %O bytes exceeds max_size of oci cache "
                      "zone \"%V\", it is passed through", rd->size,
                      &cache->zone->shm.name);
        ngx_oci_reader_forget(rd);
        return 0;
    }

    if (!ngx_oci_index_fits(cache, rd->size)) {
        ngx_log_error(NGX_LOG_WARN, rd->r->connection->log, 0,
                      "a blob of %O bytes is too large for oci cache zone "
                      "\"%V\", it is passed through", rd->size,
                      &cache->zone->shm.name);
        ngx_oci_reader_forget(rd);
        return 0;
    }

    rc = ngx_oci_index_admit(cache, &rd->ctx->route.digest,
                             rd->r->headers_in.range ? 0 : rd->size);

    if (rc == NGX_DECLINED) {
        ngx_log_error(NGX_LOG_INFO, rd->r->connection->log, 0,
                      "there was no room in oci cache zone \"%V\" just now, "
                      "the blob is passed through",
                      &cache->zone->shm.name);

    } else if (rc == NGX_BUSY) {
        ngx_log_error(NGX_LOG_INFO, rd->r->connection->log, 0,
                      "the disk of oci cache zone \"%V\" failed, the blob "
                      "is passed through", &cache->zone->shm.name);
    }

    return rc == NGX_OK;
}


static void
ngx_oci_reader_opened(void *data, ngx_oci_blob_t *blob)
{
    ngx_oci_reader_t *rd = data;

    ngx_connection_t  *c;

    c = rd->r->connection;
    rd->refs++;
    rd->opening = 0;

    ngx_http_set_log_request(c->log, rd->r);

    rd->blob = blob;

    if (blob == NULL) {
        ngx_oci_reader_pass(rd);

    } else if (blob->size != (uint64_t) rd->size) {
        ngx_oci_reader_other_size(rd);

    } else {
        ngx_oci_send_start(rd);
    }

    ngx_oci_reader_run(rd, c);
}


/* has the registry shown that it has what another one's callers stored? */

static void
ngx_oci_reader_proved(void *data, ngx_int_t rc, off_t bytes)
{
    ngx_oci_reader_t *rd = data;

    ngx_connection_t  *c;

    c = rd->r->connection;
    rd->refs++;

    ngx_http_set_log_request(c->log, rd->r);

    rd->ctx->upstream_bytes += bytes;

    if (rc == NGX_OK && !rd->blob->stale
        && rd->blob->generation == rd->blob->entry->generation)
    {
        ngx_oci_send_start(rd);

    } else {
        ngx_oci_reader_pass(rd);
    }

    ngx_oci_reader_run(rd, c);
}


void
ngx_oci_reader_pass(ngx_oci_reader_t *rd)
{
    ngx_http_request_t  *r;

    r = rd->r;

    if (rd->want) {
        ngx_oci_index_unwant(rd->cache, rd->want);
        rd->want = NULL;
    }

    if (rd->timer) {
        rd->timer = 0;

        if (r->connection->write->timer_set) {
            ngx_del_timer(r->connection->write);
        }
    }

    r->read_event_handler = ngx_http_block_reading;

    /* what is stored is not what is sent */

    ngx_oci_ranges_clear(r);
    rd->ctx->verify_status = NGX_OCI_VERIFY_NONE;

    /* nor is what nobody has looked at */

    if (rd->ctx->judge && r->method == NGX_HTTP_GET && !rd->refused) {
        ngx_http_finalize_request(r, ngx_oci_judge_unable(r));
        return;
    }

    ngx_oci_core.pass(r);
}


void
ngx_oci_reader_sleep(ngx_oci_reader_t *rd)
{
    if (ngx_oci_reader_rest(rd) == NGX_OK) {
        ngx_oci_blob_wait(rd->blob, &rd->waiter);
    }
}


/* NGX_ERROR: the request was finalized */

ngx_int_t
ngx_oci_reader_rest(ngx_oci_reader_t *rd)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = rd->r;
    c = r->connection;

    /* the timer of limit_rate: nothing is sent before it has expired */

    if (c->write->timer_set && !c->write->delayed && !rd->timer) {
        ngx_del_timer(c->write);
    }

    rd->sleeping = 1;

    r->read_event_handler = ngx_http_test_reading;

    if (!rd->timer) {
        r->write_event_handler = ngx_http_request_empty_handler;
    }

    if (r->stream == NULL && ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_oci_reader_finalize(rd, NGX_ERROR);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_oci_reader_woken(void *data)
{
    ngx_oci_reader_t *rd = data;

    ngx_connection_t  *c;

    c = rd->r->connection;
    rd->refs++;
    rd->sleeping = 0;

    ngx_http_set_log_request(c->log, rd->r);

    if (ngx_oci_blob_fallback()
        && ngx_oci_send_waits_for_bytes(rd)
        && ngx_oci_index_lost(rd->cache, rd->blob->entry, rd->pos))
    {
        ngx_oci_stat_add(NGX_OCI_STAT_WAKEUP_FALLBACKS, 1);
    }

    if (rd->header_sent) {
        ngx_oci_send_body(rd);

    } else {
        ngx_oci_send_start(rd);
    }

    ngx_oci_reader_run(rd, c);
}


void
ngx_oci_reader_finalize(ngx_oci_reader_t *rd, ngx_int_t rc)
{
    ngx_http_finalize_request(rd->r, rc);
}


void
ngx_oci_reader_cut(ngx_oci_reader_t *rd, const char *reason)
{
    ngx_http_request_t  *r;

    r = rd->r;

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "%s, the response is cut short after %uL bytes", reason,
                  rd->sent);

    r->keepalive = 0;

    ngx_http_finalize_request(r, NGX_ERROR);
}
