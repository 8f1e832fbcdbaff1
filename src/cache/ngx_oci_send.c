
/*
 * Copyright (C) The nginx-oci authors
 *
 * The response to a request for a blob: the header, then the body as it
 * comes into the file.
 */


#include "ngx_oci_reader.h"


#define NGX_OCI_SEND_HOLD         (256 * 1024)  /* bytes held back */

/*
 * Bytes of one event: of what is stored as many as nginx sends of a file.
 * Readers of a fill are at one place: what one was sent is still in the
 * processor's cache for the next if it is less.
 */

#define NGX_OCI_SEND_TURN         (2 * 1024 * 1024)
#define NGX_OCI_SEND_TURN_FILL    (512 * 1024)

#define NGX_OCI_SEND_STRICT       20000         /* ms that strict waits */
#define NGX_OCI_SEND_RETRY_AFTER  "10"


static ngx_int_t ngx_oci_send_prepare(ngx_oci_reader_t *rd);
static ngx_int_t ngx_oci_send_strict(ngx_oci_reader_t *rd);
static void ngx_oci_send_strict_timer(ngx_http_request_t *r);
static ngx_int_t ngx_oci_send_preheat(ngx_oci_reader_t *rd);
static void ngx_oci_send_unavailable(ngx_oci_reader_t *rd,
    const char *message);
static ngx_int_t ngx_oci_send_header(ngx_oci_reader_t *rd);
static void ngx_oci_send_status(ngx_oci_reader_t *rd);
static ngx_int_t ngx_oci_send_piece(ngx_oci_reader_t *rd);
static uint64_t ngx_oci_send_end(ngx_oci_reader_t *rd, ngx_oci_part_t *part);
static ngx_int_t ngx_oci_send_missing(ngx_oci_reader_t *rd,
    ngx_oci_part_t *part, uint64_t end);
static ngx_int_t ngx_oci_send_tail(ngx_oci_reader_t *rd, uint64_t end,
    const char *reason);
static ngx_int_t ngx_oci_send_cut(ngx_oci_reader_t *rd, const char *reason);
static uint64_t ngx_oci_send_turn(ngx_oci_reader_t *rd);
static ngx_int_t ngx_oci_send_file(ngx_oci_reader_t *rd,
    ngx_oci_part_t *part, uint64_t limit);
static ngx_int_t ngx_oci_send_text(ngx_oci_reader_t *rd, ngx_str_t *text,
    ngx_uint_t last);
static void ngx_oci_send_writable(ngx_http_request_t *r);


static ngx_str_t  ngx_oci_send_cache_hit = ngx_string("nginx-oci; hit");
static ngx_str_t  ngx_oci_send_cache_revalidated =
    ngx_string("nginx-oci; hit; detail=revalidated");
static ngx_str_t  ngx_oci_send_cache_stale =
    ngx_string("nginx-oci; hit; detail=stale");
static ngx_str_t  ngx_oci_send_cache_miss =
    ngx_string("nginx-oci; fwd=uri-miss; stored");
static ngx_str_t  ngx_oci_send_cache_partial =
    ngx_string("nginx-oci; fwd=partial; stored");
static ngx_str_t  ngx_oci_send_cache_join =
    ngx_string("nginx-oci; fwd=uri-miss; stored; collapsed");


void
ngx_oci_send_start(ngx_oci_reader_t *rd)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = rd->r;

    rc = ngx_oci_send_prepare(rd);

    switch (rc) {

    case NGX_OK:
        break;

    case NGX_AGAIN:
        return;

    case NGX_DONE:
        ngx_oci_reader_finalize(rd, rd->rc);
        return;

    case NGX_DECLINED:
        ngx_oci_reader_pass(rd);
        return;

    case NGX_BUSY:
        ngx_oci_send_unavailable(rd, "the blob is not verified yet");
        return;

    default:
        ngx_oci_reader_finalize(rd, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    rc = ngx_oci_send_header(rd);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        ngx_oci_reader_finalize(rd, rc);
        return;
    }

    rd->header_sent = 1;

    ngx_oci_send_body(rd);
}


/*
 * NGX_OK: the header can go out; NGX_AGAIN: waits; NGX_DONE: answered, with
 * rd->rc; NGX_DECLINED: pass it through; NGX_BUSY: unavailable; NGX_ERROR.
 */

static ngx_int_t
ngx_oci_send_prepare(ngx_oci_reader_t *rd)
{
    ngx_int_t         rc;
    ngx_oci_blob_t   *blob;
    ngx_oci_entry_t  *entry;

    blob = rd->blob;

    if (blob && (blob->stale || blob->generation != blob->entry->generation))
    {
        /* what was there went; who waited for its verdict has it */

        ngx_oci_blob_forget_size(blob, rd->ctx->registry,
                                 &rd->ctx->repository);

        return (rd->deadline || rd->preheat) ? NGX_BUSY : NGX_DECLINED;
    }

    if (blob) {
        rc = ngx_oci_judge_blob(rd);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (rd->ranges.parts == NULL) {

        /* HTTP/2 may still be sending a text after the reader has gone */

        rd->ranges.pool = rd->r->pool;
        rd->ranges.digest = rd->ctx->route.reference;
        rd->ranges.size = rd->size;
        ngx_str_set(&rd->ranges.type, "application/octet-stream");

        rc = ngx_oci_ranges_prepare(rd->r, &rd->ranges, &rd->rc);
        if (rc != NGX_OK) {
            return rc;
        }

        if (blob) {
            entry = blob->entry;

            rd->failed = entry->failed;
            rd->retracted = entry->retracted;
            rd->lost = entry->lost;
            rd->bytes = entry->bytes;

            ngx_oci_send_status(rd);

            rd->ctx->verify_status =
                rd->ocf->verify == NGX_OCI_VERIFY_MODE_OFF
                ? NGX_OCI_VERIFY_OFF
                : entry->verified ? NGX_OCI_VERIFY_VERIFIED
                                  : NGX_OCI_VERIFY_PENDING;
        }
    }

    if (rd->ranges.nparts == 0) {
        return NGX_OK;
    }

    rc = ngx_oci_want(rd);
    if (rc != NGX_OK) {
        return rc;
    }

    if (rd->preheat) {
        return ngx_oci_send_preheat(rd);
    }

    if (rd->ocf->verify == NGX_OCI_VERIFY_MODE_STRICT) {
        return ngx_oci_send_strict(rd);
    }

    return NGX_OK;
}


/* strict: not a byte before the verdict */

static ngx_int_t
ngx_oci_send_strict(ngx_oci_reader_t *rd)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = rd->r->connection;

    if (ngx_oci_index_verified(rd->cache, rd->blob->entry, 1)) {

        if (rd->timer) {
            rd->timer = 0;

            if (c->write->timer_set) {
                ngx_del_timer(c->write);
            }
        }

        rd->ctx->verify_status = NGX_OCI_VERIFY_VERIFIED;
        return NGX_OK;
    }

    if (rd->blob->entry->failed != rd->failed) {
        return NGX_BUSY;
    }

    ngx_oci_want_offer(rd);

    /* whoever filled it may have died */

    rc = ngx_oci_fill_kick(rd->blob, rd->ocf);

    if (rc != NGX_OK && rc != NGX_BUSY) {
        return NGX_BUSY;
    }

    if (rd->deadline == 0) {
        rd->deadline = ngx_current_msec + NGX_OCI_SEND_STRICT;
        rd->timer = 1;
        rd->r->write_event_handler = ngx_oci_send_strict_timer;
        ngx_add_timer(c->write, NGX_OCI_SEND_STRICT);
    }

    ngx_oci_reader_sleep(rd);

    return NGX_AGAIN;
}


static void
ngx_oci_send_strict_timer(ngx_http_request_t *r)
{
    ngx_oci_reader_t  *rd;

    if (!r->connection->write->timedout) {
        return;
    }

    r->connection->write->timedout = 0;

    rd = ((ngx_oci_ctx_t *) ngx_http_get_module_ctx(r, ngx_http_oci_module))
         ->cache;

    rd->timer = 0;
    ngx_oci_blob_unwait(&rd->waiter);

    ngx_oci_send_unavailable(rd, "the blob is not verified yet");
}


/* the answer is that all of it is stored, and right */

static ngx_int_t
ngx_oci_send_preheat(ngx_oci_reader_t *rd)
{
    ngx_int_t         rc;
    ngx_uint_t        verified;
    ngx_oci_blob_t   *blob;
    ngx_oci_entry_t  *entry;

    blob = rd->blob;
    entry = blob->entry;

    verified = (rd->ocf->verify == NGX_OCI_VERIFY_MODE_OFF)
               || ngx_oci_index_verified(rd->cache, entry, 1);

    if (ngx_oci_index_complete(rd->cache, entry) && verified) {

        rc = ngx_oci_pin_blob(rd);

        if (rc == NGX_OK) {
            rd->r->header_only = 1;
        }

        return rc;
    }

    if (entry->failed != rd->failed) {
        return NGX_BUSY;
    }

    ngx_oci_want_offer(rd);

    /* whoever filled it may have died */

    rc = ngx_oci_fill_kick(blob, rd->ocf);

    if (rc != NGX_OK && (rc != NGX_BUSY || ngx_oci_fill_locked(blob))) {
        return NGX_BUSY;
    }

    ngx_oci_reader_sleep(rd);

    return NGX_AGAIN;
}


static void
ngx_oci_send_unavailable(ngx_oci_reader_t *rd, const char *message)
{
    ngx_str_t            value;
    ngx_http_request_t  *r;

    r = rd->r;

    ngx_str_set(&value, NGX_OCI_SEND_RETRY_AFTER);

    if (ngx_oci_ranges_add(r, "Retry-After", &value) != NGX_OK) {
        ngx_oci_reader_finalize(rd, NGX_ERROR);
        return;
    }

    ngx_oci_reader_finalize(rd,
                   ngx_oci_core.error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                      NGX_OCI_ERR_UNAVAILABLE, message));
}


static void
ngx_oci_send_status(ngx_oci_reader_t *rd)
{
    ngx_oci_ctx_t    *ctx;
    ngx_oci_entry_t  *entry;

    ctx = rd->ctx;
    entry = rd->blob->entry;

    if (rd->stale) {
        ctx->cache_status = NGX_OCI_CACHE_STALE;

    } else if (entry->have == entry->slices) {
        ctx->cache_status = NGX_OCI_CACHE_HIT;

    } else if (entry->owner != -1) {
        ctx->cache_status = NGX_OCI_CACHE_JOIN;
        rd->joined = 1;
        ngx_oci_stat_add(NGX_OCI_STAT_JOINED, 1);

    } else if (entry->have) {
        ctx->cache_status = NGX_OCI_CACHE_PARTIAL;

    } else {
        ctx->cache_status = NGX_OCI_CACHE_MISS;
    }
}


static ngx_int_t
ngx_oci_send_header(ngx_oci_reader_t *rd)
{
    ngx_str_t           *status, control;
    ngx_http_request_t  *r;

    r = rd->r;

    switch (rd->ctx->cache_status) {
    case NGX_OCI_CACHE_HIT:
        status = &ngx_oci_send_cache_hit;
        break;
    case NGX_OCI_CACHE_REVALIDATED:
        status = &ngx_oci_send_cache_revalidated;
        break;
    case NGX_OCI_CACHE_STALE:
        status = &ngx_oci_send_cache_stale;
        break;
    case NGX_OCI_CACHE_JOIN:
        status = &ngx_oci_send_cache_join;
        break;
    case NGX_OCI_CACHE_PARTIAL:
        status = &ngx_oci_send_cache_partial;
        break;
    default:
        status = &ngx_oci_send_cache_miss;
    }

    /* what a digest names never changes */

    ngx_str_set(&control, "max-age=31536000");

    if (ngx_oci_ranges_add(r, "Cache-Control", &control) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!r->header_only && rd->want) {

        /* the end of what is there must not stay in the socket */

        r->connection->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;
    }

    return ngx_oci_ranges_send_header(r, &rd->ranges, status);
}


/* sends what can be sent now; sleeps or waits for the socket, or ends */

void
ngx_oci_send_body(ngx_oci_reader_t *rd)
{
    uint64_t                   sent;
    ngx_int_t                  rc;
    ngx_event_t               *wev;
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = rd->r;
    c = r->connection;
    wev = c->write;
    sent = rd->sent;

    for ( ;; ) {

        if (r->buffered || c->buffered || r->postponed) {

            clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

            r->write_event_handler = ngx_oci_send_writable;

            if (!wev->delayed) {
                ngx_add_timer(wev, clcf->send_timeout);
            }

            if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
                ngx_oci_reader_finalize(rd, NGX_ERROR);
            }

            return;
        }

        /* others have their turn, too */

        if (rd->sent - sent >= ngx_oci_send_turn(rd)
            && rd->part < rd->ranges.nparts)
        {
            clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

            r->write_event_handler = ngx_oci_send_writable;

            /* a worker that is about to exit goes by its timers */

            if (!wev->delayed) {
                ngx_add_timer(wev, clcf->send_timeout);
            }

            ngx_post_event(wev, &ngx_posted_next_events);
            return;
        }

        rc = ngx_oci_send_piece(rd);

        if (rc == NGX_BUSY) {

            /* the header must not wait for a slow registry */

            if (!rd->flushed && rd->sent == 0) {
                rd->flushed = 1;

                if (ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR) {
                    ngx_oci_reader_finalize(rd, NGX_ERROR);
                    return;
                }

                if (r->buffered || c->buffered) {
                    continue;
                }
            }

            ngx_oci_reader_sleep(rd);
            return;
        }

        if (rc == NGX_ABORT) {
            return;
        }

        if (rc == NGX_AGAIN) {
            (void) ngx_oci_reader_rest(rd);
            return;
        }

        if (rc == NGX_ERROR || rc == NGX_DONE) {
            ngx_oci_reader_finalize(rd, rc == NGX_DONE ? NGX_OK : NGX_ERROR);
            return;
        }
    }
}


/*
 * NGX_OK: a piece was handed on; NGX_DONE: there is no more; NGX_BUSY: there
 * is none yet; NGX_AGAIN: the disk, or an exchange of its own, brings it;
 * NGX_ERROR; NGX_ABORT: the request was finalized.
 */

static ngx_int_t
ngx_oci_send_piece(ngx_oci_reader_t *rd)
{
    uint64_t          limit, end;
    uint32_t          retracted;
    ngx_int_t         rc;
    ngx_oci_blob_t   *blob;
    ngx_oci_part_t   *part;

    blob = rd->blob;

    if (rd->part == rd->ranges.nparts) {

        if (rd->ranges.tail.len && !rd->text_sent) {
            rd->text_sent = 1;
            return ngx_oci_send_text(rd, &rd->ranges.tail, 1);
        }

        return NGX_DONE;
    }

    part = &rd->ranges.parts[rd->part];

    if (part->text.len && !rd->text_sent) {
        rd->text_sent = 1;
        rd->pos = part->pos;
        return ngx_oci_send_text(rd, &part->text, 0);
    }

    if (rd->pos < part->pos) {
        rd->pos = part->pos;
    }

    if (blob->generation != blob->entry->generation) {
        rd->ctx->verify_status = NGX_OCI_VERIFY_MISMATCH;

        /* its size was as wrong as the bytes, maybe */

        ngx_oci_blob_forget_size(blob, rd->ctx->registry,
                                 &rd->ctx->repository);
        ngx_oci_reader_cut(rd, "the blob did not match its digest");
        return NGX_ABORT;
    }

    /* a slice that did not survive may come from another registry now; a
       proof may have made room for others' meanwhile */

    rc = ngx_oci_index_claim(rd->cache, blob->entry,
                             ngx_oci_index_origin(rd->ctx->registry));

    if (rc == NGX_DECLINED || (rc == NGX_AGAIN && !rd->proven)) {
        ngx_oci_reader_cut(rd, "the blob is another registry's");
        return NGX_ABORT;
    }

    end = ngx_oci_send_end(rd, part);

    /* never past the watermark: a hole of the sparse file would go out as
       zeros */

    limit = ngx_oci_index_readable(rd->cache, blob->entry, rd->pos, end, 1);

    /* looked at when it is known what can be sent, which may be void, too */

    retracted = blob->entry->retracted;

    if (ngx_oci_send_retracted(rd)) {
        ngx_oci_reader_cut(rd, "a part of the blob was fetched again");
        return NGX_ABORT;
    }

    if (rd->retracted != retracted) {
        rd->retracted = retracted;
        return NGX_OK;
    }

    if (limit == rd->pos) {
        return ngx_oci_send_missing(rd, part, end);
    }

    return ngx_oci_send_file(rd, part, limit);
}


ngx_uint_t
ngx_oci_send_retracted(ngx_oci_reader_t *rd)
{
    ngx_oci_entry_t  *entry;

    entry = rd->blob->entry;

    if (!rd->ranges.whole || rd->sent == 0
        || rd->ocf->verify == NGX_OCI_VERIFY_MODE_OFF)
    {
        return 0;
    }

    if (rd->lost != entry->lost) {
        return 1;
    }

    /* who had a part of a slice stands in the middle of it, unless it was the
       end of a range */

    return rd->retracted != entry->retracted
           && (rd->pos % rd->cache->slice || rd->ranges.nparts > 1);
}


ngx_uint_t
ngx_oci_send_waits_for_bytes(ngx_oci_reader_t *rd)
{
    return rd->header_sent
           && rd->part < rd->ranges.nparts
           && ngx_oci_send_end(rd, &rd->ranges.parts[rd->part]) > rd->pos;
}


/* the end of what may go out of a part: the last piece of a whole blob waits
   for the verdict */

static uint64_t
ngx_oci_send_end(ngx_oci_reader_t *rd, ngx_oci_part_t *part)
{
    uint64_t  end;

    /* strict: also a slice that did not survive a reboot waits again */

    if (rd->ocf->verify == NGX_OCI_VERIFY_MODE_STRICT
        && !ngx_oci_index_verified(rd->cache, rd->blob->entry, 1))
    {
        return rd->pos;
    }

    if (!rd->ranges.whole || rd->part != rd->ranges.nparts - 1
        || rd->ocf->verify == NGX_OCI_VERIFY_MODE_OFF)
    {
        return part->end;
    }

    if (ngx_oci_index_verified(rd->cache, rd->blob->entry, 0)) {
        rd->ctx->verify_status = NGX_OCI_VERIFY_VERIFIED;
        return part->end;
    }

    end = part->end - ngx_min(NGX_OCI_SEND_HOLD, part->end - part->pos);

    return ngx_max(end, rd->pos);
}


/* nothing is readable at rd->pos: as ngx_oci_send_piece() */

static ngx_int_t
ngx_oci_send_missing(ngx_oci_reader_t *rd, ngx_oci_part_t *part,
    uint64_t end)
{
    ngx_int_t         rc;
    ngx_oci_blob_t   *blob;
    ngx_oci_entry_t  *entry;

    blob = rd->blob;
    entry = blob->entry;

    if (rd->pos == end
        && ngx_oci_index_verified(rd->cache, entry, 1)
        && blob->generation == entry->generation)
    {
        return NGX_OK;
    }

    if (entry->failed != rd->failed) {

        /* the registry was asked often enough, but the disk is not needed */

        if (ngx_oci_index_disk(rd->cache, entry)) {
            return ngx_oci_send_tail(rd, part->end,
                                     "the blob can't be stored");
        }

        return ngx_oci_send_cut(rd, "the blob could not be fetched");
    }

    if (rd->want == NULL) {
        rd->want = ngx_oci_index_want(rd->cache, entry, rd->pos, part->end,
                                      0);
    }

    if (rd->want) {
        ngx_oci_want_offer(rd);
        ngx_oci_index_want_move(rd->cache, rd->want, rd->pos);
    }

    rd->kicked = rd->pos;

    rc = ngx_oci_fill_kick(blob, rd->ocf);

    if (rc == NGX_DECLINED) {
        return ngx_oci_send_cut(rd, "the blob can't be fetched");
    }

    if (rd->want == NULL || rc == NGX_ERROR) {
        return ngx_oci_send_tail(rd, part->end, "the blob can't be fetched");
    }

    if (rc == NGX_BUSY && ngx_oci_fill_locked(blob) && ngx_oci_tail_may(rd)) {
        ngx_log_error(NGX_LOG_NOTICE, rd->r->connection->log, 0, "%s",
                      blob->deaf
                      ? "the worker that fills the blob does not answer"
                      : "another nginx, or one that is about to exit, fills "
                        "the blob");
        return ngx_oci_send_tail(rd, part->end, "the blob is being filled");
    }

    return NGX_BUSY;
}


/* as ngx_oci_send_piece(): the rest of the part comes past the file */

static ngx_int_t
ngx_oci_send_tail(ngx_oci_reader_t *rd, uint64_t end, const char *reason)
{
    if (ngx_oci_tail(rd, rd->pos, end) != NGX_OK) {
        return ngx_oci_send_cut(rd, reason);
    }

    return NGX_AGAIN;
}


static ngx_int_t
ngx_oci_send_cut(ngx_oci_reader_t *rd, const char *reason)
{
    ngx_oci_reader_cut(rd, reason);

    return NGX_ABORT;
}


static uint64_t
ngx_oci_send_turn(ngx_oci_reader_t *rd)
{
    return rd->want ? NGX_OCI_SEND_TURN_FILL : NGX_OCI_SEND_TURN;
}


/* hands on what is readable, up to limit */

static ngx_int_t
ngx_oci_send_file(ngx_oci_reader_t *rd, ngx_oci_part_t *part, uint64_t limit)
{
    ngx_int_t              rc;
    ngx_buf_t             *b;
    ngx_oci_reader_out_t  *out;

    limit = ngx_min(limit, rd->pos + ngx_oci_send_turn(rd));

    rc = ngx_oci_warm(rd, rd->pos, &limit);
    if (rc != NGX_OK) {
        return rc;
    }

    out = rd->out;
    b = &out->buf;

    ngx_memzero(b, sizeof(ngx_buf_t));

    out->file.fd = rd->blob->store.fd;
    out->file.log = rd->r->connection->log;
    out->file.name = rd->ctx->route.reference;

    b->in_file = 1;
    b->file = &out->file;
    b->file_pos = rd->pos;
    b->file_last = limit;
    b->flush = 1;
    b->last_in_chain = 1;
    b->last_buf = (limit == part->end
                   && rd->part == rd->ranges.nparts - 1
                   && rd->ranges.tail.len == 0);

    out->chain.buf = b;
    out->chain.next = NULL;

    rd->sent += limit - rd->pos;
    rd->pos = limit;

    if (b->last_buf && rd->ctx->verify_status == NGX_OCI_VERIFY_PENDING
        && !ngx_oci_send_retracted(rd)
        && ngx_oci_index_verified(rd->cache, rd->blob->entry, 0))
    {
        rd->ctx->verify_status = NGX_OCI_VERIFY_VERIFIED;
    }

    if (limit == part->end) {
        rd->part++;
        rd->text_sent = 0;
        rd->pos = 0;
        rd->warm = 0;

    } else if (rd->want && limit - rd->kicked >= rd->cache->slice) {

        /* the fill's window moves along */

        rd->kicked = limit;
        ngx_oci_want_offer(rd);
        ngx_oci_index_want_move(rd->cache, rd->want, limit);
        (void) ngx_oci_fill_kick(rd->blob, rd->ocf);
    }

    rc = ngx_http_output_filter(rd->r, &out->chain);

    return (rc == NGX_ERROR) ? NGX_ERROR : NGX_OK;
}


/* a buffer of its own: the output may keep it until the next flush */

static ngx_int_t
ngx_oci_send_text(ngx_oci_reader_t *rd, ngx_str_t *text, ngx_uint_t last)
{
    ngx_buf_t    *b;
    ngx_chain_t   out;

    b = ngx_calloc_buf(rd->r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->start = text->data;
    b->pos = text->data;
    b->last = text->data + text->len;
    b->end = b->last;
    b->memory = 1;
    b->last_buf = last;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return (ngx_http_output_filter(rd->r, &out) == NGX_ERROR) ? NGX_ERROR
                                                              : NGX_OK;
}


static void
ngx_oci_send_writable(ngx_http_request_t *r)
{
    ngx_event_t       *wev;
    ngx_connection_t  *c;
    ngx_oci_reader_t  *rd;

    c = r->connection;
    wev = c->write;
    rd = ((ngx_oci_ctx_t *) ngx_http_get_module_ctx(r, ngx_http_oci_module))
         ->cache;

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT,
                      "client timed out");
        c->timedout = 1;
        ngx_oci_reader_finalize(rd, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    if (rd->sleeping) {
        return;
    }

    ngx_oci_send_more(rd);
}


void
ngx_oci_send_more(ngx_oci_reader_t *rd)
{
    uint64_t             end;
    ngx_int_t            rc;
    ngx_buf_t           *b;
    ngx_event_t         *wev;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = rd->r;
    c = r->connection;
    wev = c->write;
    b = &rd->out->buf;

    /* a slow client's next bytes may have left memory meanwhile */

    if (b->in_file && b->file_pos < b->file_last) {
        end = b->file_last;

        rc = ngx_oci_warm(rd, b->file_pos, &end);

        if (rc == NGX_AGAIN) {
            (void) ngx_oci_reader_rest(rd);
            return;
        }

        if (rc == NGX_ERROR) {
            ngx_oci_reader_finalize(rd, NGX_ERROR);
            return;
        }
    }

    rc = ngx_http_output_filter(r, NULL);

    if (rc == NGX_ERROR) {
        ngx_oci_reader_finalize(rd, NGX_ERROR);
        return;
    }

    if (!r->buffered && !c->buffered && wev->timer_set && !wev->delayed) {
        ngx_del_timer(wev);
    }

    ngx_oci_send_body(rd);
}
