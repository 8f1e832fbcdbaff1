
/*
 * Copyright (C) The nginx-oci authors
 *
 * A response that has begun and can't go on from the file, because the disk
 * or the zone has no room or fails, goes on from an exchange of its own: with
 * its caller's rights, straight to the client, and not stored.
 *
 * Of a whole blob what was sent before is hashed first, out of the file; the
 * last bytes go out when the digest is right.
 */


#define OPENSSL_SUPPRESS_DEPRECATED

#include "ngx_oci_reader.h"
#include <openssl/sha.h>


#define NGX_OCI_TAIL_BUFFER  (64 * 1024)
#define NGX_OCI_TAIL_PIECE   (8 * 1024 * 1024)  /* bytes hashed by one task */
#define NGX_OCI_TAIL_TRIES   3                  /* without a byte */


/* what the output may still have; in the request's pool */

typedef struct {
    ngx_buf_t               buf;
    ngx_chain_t             chain;
    u_char                  data[NGX_OCI_TAIL_BUFFER];
} ngx_oci_tail_out_t;


/*
 * Owner: the reader, in whose pool it is.  A task or an exchange that is out
 * holds the reader; the task also the blob's file.
 */

struct ngx_oci_tail_s {
    ngx_oci_reader_t       *rd;
    ngx_oci_blob_t         *blob;
    ngx_oci_exchange_t     *ex;         /* NULL: none is running */
    ngx_oci_tail_out_t     *out;
    uint64_t                pos;        /* handed on up to here */
    uint64_t                end;
    uint64_t                skip;       /* bytes of a 200 still to drop */
    uint64_t                progress;   /* pos when the exchange began */
    uint64_t                hashed;     /* bytes in sha */
    ngx_uint_t              alg;
    ngx_uint_t              tries;
    ngx_oci_task_t          task;
    ngx_err_t               err;        /* of the task */
    uint64_t                writer;     /* as the zone has it */
    uint64_t                found;      /* and the sidecar, last */

    union {
        SHA256_CTX          sha256;
        SHA512_CTX          sha512;
    } sha;

    unsigned                whole:1;    /* it is hashed */
    unsigned                part:1;     /* pos was in a slice that was there in
                                           part */
    unsigned                paused:1;
};


static ngx_int_t ngx_oci_tail_hash(ngx_oci_tail_t *tail);
static void ngx_oci_tail_hash_task(void *data, ngx_log_t *log);
static void ngx_oci_tail_hash_done(void *data);
static ngx_uint_t ngx_oci_tail_rewritten(ngx_oci_tail_t *tail);
static void ngx_oci_tail_update(ngx_oci_tail_t *tail, u_char *p, size_t n);
static ngx_uint_t ngx_oci_tail_right(ngx_oci_tail_t *tail);
static ngx_int_t ngx_oci_tail_exchange(ngx_oci_tail_t *tail);
static ngx_int_t ngx_oci_tail_copy(ngx_pool_t *pool, ngx_str_t *dst,
    ngx_str_t *src);
static ngx_int_t ngx_oci_tail_header(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_tail_buffer(ngx_oci_exchange_t *ex, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_tail_received(ngx_oci_exchange_t *ex, size_t n,
    ngx_uint_t idle);
static void ngx_oci_tail_send(ngx_oci_tail_t *tail, size_t n);
static void ngx_oci_tail_done(ngx_oci_exchange_t *ex, ngx_int_t rc);
static ngx_uint_t ngx_oci_tail_refused(ngx_oci_exchange_t *ex);
static void ngx_oci_tail_writable(ngx_http_request_t *r);
static void ngx_oci_tail_drained(ngx_oci_tail_t *tail);


ngx_int_t
ngx_oci_tail(ngx_oci_reader_t *rd, uint64_t pos, uint64_t end)
{
    ngx_oci_tail_t  *tail;

    if (!ngx_oci_tail_may(rd)) {
        return NGX_ERROR;
    }

    tail = rd->tail;

    if (tail == NULL) {
        tail = ngx_pcalloc(rd->pool, sizeof(ngx_oci_tail_t));
        if (tail == NULL) {
            return NGX_ERROR;
        }

        tail->out = ngx_palloc(rd->r->pool, sizeof(ngx_oci_tail_out_t));
        if (tail->out == NULL) {
            return NGX_ERROR;
        }

        tail->rd = rd;
        rd->tail = tail;
    }

    if (rd->want) {
        ngx_oci_index_unwant(rd->cache, rd->want);
        rd->want = NULL;
    }

    ngx_log_error(NGX_LOG_WARN, rd->r->connection->log, 0,
                  "the rest of a blob from %uL on is passed through", pos);

    tail->pos = pos;
    tail->end = end;
    tail->tries = 0;
    tail->hashed = 0;
    tail->whole = rd->ranges.whole
                  && rd->ocf->verify != NGX_OCI_VERIFY_MODE_OFF;

    if (!tail->whole) {
        return ngx_oci_tail_exchange(tail);
    }

    rd->ctx->verify_status = NGX_OCI_VERIFY_PENDING;

    tail->alg = rd->ctx->route.digest.alg;

    if (tail->alg == NGX_OCI_SHA256) {
        (void) SHA256_Init(&tail->sha.sha256);

    } else {
        (void) SHA512_Init(&tail->sha.sha512);
    }

    if (pos == 0) {
        return ngx_oci_tail_exchange(tail);
    }

    tail->writer = rd->blob->entry->writer;
    tail->part = (pos % rd->cache->slice
                  && !ngx_oci_index_has(rd->cache, rd->blob->entry,
                                        pos / rd->cache->slice));

    return ngx_oci_tail_hash(tail);
}


ngx_uint_t
ngx_oci_tail_may(ngx_oci_reader_t *rd)
{
    switch (rd->ocf->verify) {

    case NGX_OCI_VERIFY_MODE_OFF:
        return 1;

    case NGX_OCI_VERIFY_MODE_STRICT:

        /* nothing that is not verified, and this can't be before */

        return 0;

    default:

        /* parts that make up a blob may come in any order */

        return !rd->ranges.whole || rd->ranges.nparts == 1;
    }
}


void
ngx_oci_tail_leave(ngx_oci_tail_t *tail)
{
    if (tail && tail->ex) {
        ngx_oci_core.exchange_abort(tail->ex);
    }
}


/* what was sent out of the file, piece by piece */

static ngx_int_t
ngx_oci_tail_hash(ngx_oci_tail_t *tail)
{
    ngx_oci_reader_t  *rd;

    rd = tail->rd;

    tail->blob = rd->blob;
    tail->err = 0;
    tail->task.run = ngx_oci_tail_hash_task;
    tail->task.done = ngx_oci_tail_hash_done;
    tail->task.data = tail;
    tail->task.bulk = 1;

    if (ngx_oci_io_post(rd->cache, &tail->task) != NGX_OK) {
        return NGX_ERROR;
    }

    rd->refs++;
    rd->blob->refs++;

    return NGX_OK;
}


static void
ngx_oci_tail_hash_task(void *data, ngx_log_t *log)
{
    ngx_oci_tail_t *tail = data;

    u_char    *buf;
    size_t     size;
    ssize_t    n;
    uint64_t   end;

    buf = malloc(NGX_OCI_TAIL_BUFFER);
    if (buf == NULL) {
        tail->err = NGX_ENOMEM;
        return;
    }

    end = ngx_min(tail->pos, tail->hashed + NGX_OCI_TAIL_PIECE);

    while (tail->hashed < end) {

        size = ngx_min(end - tail->hashed, NGX_OCI_TAIL_BUFFER);

        n = pread(tail->blob->store.fd, buf, size, tail->hashed);

        if (n == -1 && ngx_errno == NGX_EINTR) {
            continue;
        }

        if (n <= 0) {
            tail->err = n ? ngx_errno : EIO;
            break;
        }

        ngx_oci_tail_update(tail, buf, n);
    }

    free(buf);

    /* whoever writes says so first: looked at when all is read */

    if (tail->err == 0
        && ngx_oci_store_writer(tail->blob->store.map, &tail->found)
           != NGX_OK)
    {
        tail->err = ngx_errno;
    }
}


static void
ngx_oci_tail_hash_done(void *data)
{
    ngx_oci_tail_t *tail = data;

    ngx_connection_t  *c;
    ngx_oci_reader_t  *rd;

    rd = tail->rd;
    c = NULL;

    ngx_oci_blob_unref(tail->blob);

    if (rd->r) {
        c = rd->r->connection;

        ngx_http_set_log_request(c->log, rd->r);

        if (tail->err) {
            ngx_log_error(NGX_LOG_CRIT, c->log, tail->err,
                          "reading a blob in \"%V\" failed",
                          &rd->cache->path->name);
            ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
            ngx_oci_reader_cut(rd, "the blob can't be read");

        } else if (tail->hashed < tail->pos) {

            if (ngx_oci_tail_hash(tail) != NGX_OK) {
                ngx_oci_reader_cut(rd, "the blob can't be read");
            }

        } else if (ngx_oci_tail_rewritten(tail)) {
            ngx_oci_reader_cut(rd, "a part of the blob was fetched again");

        } else if (ngx_oci_tail_exchange(tail) != NGX_OK) {
            ngx_oci_reader_cut(rd, "the blob could not be fetched");
        }
    }

    ngx_oci_reader_run(rd, c);
}


/* may what was sent be other bytes than those that were hashed? */

static ngx_uint_t
ngx_oci_tail_rewritten(ngx_oci_tail_t *tail)
{
    ngx_oci_reader_t  *rd;

    rd = tail->rd;

    if (ngx_oci_send_retracted(rd)) {
        return 1;
    }

    /* another fill of this zone may have begun meanwhile */

    return tail->part && tail->found != tail->writer
           && tail->found != rd->blob->entry->writer;
}


static void
ngx_oci_tail_update(ngx_oci_tail_t *tail, u_char *p, size_t n)
{
    if (tail->alg == NGX_OCI_SHA256) {
        (void) SHA256_Update(&tail->sha.sha256, p, n);

    } else {
        (void) SHA512_Update(&tail->sha.sha512, p, n);
    }

    tail->hashed += n;
}


static ngx_uint_t
ngx_oci_tail_right(ngx_oci_tail_t *tail)
{
    u_char             md[NGX_OCI_DIGEST_BYTES];
    ngx_oci_digest_t  *digest;

    digest = &tail->rd->ctx->route.digest;

    if (tail->alg == NGX_OCI_SHA256) {
        (void) SHA256_Final(md, &tail->sha.sha256);

    } else {
        (void) SHA512_Final(md, &tail->sha.sha512);
    }

    return ngx_memcmp(md, digest->bytes, digest->size) == 0;
}


/* as a probe: this caller's rights, or the registry's own */

static ngx_int_t
ngx_oci_tail_exchange(ngx_oci_tail_t *tail)
{
    u_char              *p;
    ngx_oci_ctx_t       *ctx;
    ngx_oci_registry_t  *registry;
    ngx_oci_exchange_t  *ex;

    ctx = tail->rd->ctx;
    registry = ctx->registry;

    ex = ngx_oci_core.exchange_create(registry, ngx_cycle->log);
    if (ex == NULL) {
        return NGX_ERROR;
    }

    ex->uri.data = ngx_pnalloc(ex->pool, sizeof("/v2//blobs/") - 1
                                         + ctx->repository.len
                                         + NGX_OCI_DIGEST_LEN);

    if (ex->uri.data == NULL
        || ngx_oci_tail_copy(ex->pool, &ex->repository, &ctx->repository)
           != NGX_OK
        || ngx_oci_tail_copy(ex->pool, &ex->authorization,
                             &ctx->authorization)
           != NGX_OK)
    {
        ngx_oci_core.exchange_abort(ex);
        return NGX_ERROR;
    }

    p = ngx_sprintf(ex->uri.data, "/v2/%V/blobs/", &ctx->repository);
    p = ngx_oci_digest_print(p, &ctx->route.digest);
    ex->uri.len = p - ex->uri.data;

    ex->method = NGX_HTTP_GET;
    ex->credentials = registry->credentials;
    ex->stored = registry->stored;
    ex->range_start = tail->pos;
    ex->range_end = tail->end;
    ex->data = tail;
    ex->header = ngx_oci_tail_header;
    ex->buffer = ngx_oci_tail_buffer;
    ex->received = ngx_oci_tail_received;
    ex->done = ngx_oci_tail_done;

    tail->progress = tail->pos;
    tail->skip = 0;
    tail->paused = 0;

    if (ngx_oci_core.exchange_start(ex) != NGX_OK) {
        return NGX_ERROR;
    }

    tail->ex = ex;
    tail->rd->refs++;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_tail_copy(ngx_pool_t *pool, ngx_str_t *dst, ngx_str_t *src)
{
    if (src->len == 0) {
        ngx_str_set(dst, "");
        return NGX_OK;
    }

    dst->data = ngx_pstrdup(pool, src);
    dst->len = dst->data ? src->len : 0;

    return dst->data ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_tail_header(ngx_oci_exchange_t *ex)
{
    ngx_oci_tail_t *tail = ex->data;

    off_t  size;

    size = tail->rd->size;

    if (ex->in.status == NGX_HTTP_PARTIAL_CONTENT
        && ex->in.range_start == (off_t) tail->pos
        && ex->in.range_end > ex->in.range_start
        && ex->in.range_end <= (off_t) tail->end
        && ex->in.range_total == size)
    {
        return NGX_OK;
    }

    /* a registry that ignores Range */

    if (ex->in.status == NGX_HTTP_OK
        && !ngx_oci_type_is_page(&ex->in.content_type)
        && (ex->in.content_length == -1 || ex->in.content_length == size))
    {
        tail->skip = tail->pos;
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_ERR, ex->log, 0,
                  "upstream answered %ui to a range of \"%V\"",
                  ex->in.status, &ex->uri);

    return NGX_ERROR;
}


static ngx_int_t
ngx_oci_tail_buffer(ngx_oci_exchange_t *ex, u_char **p, size_t *size)
{
    ngx_oci_tail_t *tail = ex->data;

    ngx_http_request_t  *r;

    r = tail->rd->r;

    if (r == NULL || tail->pos == tail->end) {
        return NGX_ERROR;
    }

    if (r->buffered || r->connection->buffered) {
        tail->paused = 1;
        return NGX_AGAIN;
    }

    *p = tail->out->data;
    *size = ngx_min(tail->skip ? tail->skip : tail->end - tail->pos,
                    NGX_OCI_TAIL_BUFFER);

    return NGX_OK;
}


static ngx_int_t
ngx_oci_tail_received(ngx_oci_exchange_t *ex, size_t n, ngx_uint_t idle)
{
    ngx_oci_tail_t *tail = ex->data;

    ngx_connection_t  *c;
    ngx_oci_reader_t  *rd;

    rd = tail->rd;

    if (rd->r == NULL) {
        return NGX_ERROR;
    }

    if (n == 0) {
        return NGX_OK;
    }

    if (tail->skip) {
        tail->skip -= n;
        return NGX_OK;
    }

    c = rd->r->connection;
    rd->refs++;

    ngx_http_set_log_request(c->log, rd->r);

    rd->ctx->upstream_bytes += n;

    ngx_oci_tail_send(tail, n);

    /* the exchange, too, holds the reader */

    ngx_oci_reader_run(rd, c);

    return rd->r ? NGX_OK : NGX_ERROR;
}


/* may finalize the request */

static void
ngx_oci_tail_send(ngx_oci_tail_t *tail, size_t n)
{
    ngx_buf_t           *b;
    ngx_oci_reader_t    *rd;
    ngx_oci_tail_out_t  *out;

    rd = tail->rd;
    out = tail->out;

    tail->pos += n;
    tail->tries = 0;

    if (tail->whole) {
        ngx_oci_tail_update(tail, out->data, n);

        if (tail->pos == tail->end) {

            if (!ngx_oci_tail_right(tail)) {
                rd->ctx->verify_status = NGX_OCI_VERIFY_MISMATCH;
                ngx_oci_stat_add(NGX_OCI_STAT_VERIFY_FAILURES, 1);
                ngx_oci_reader_cut(rd, "the blob did not match its digest");
                return;
            }

            rd->ctx->verify_status = NGX_OCI_VERIFY_VERIFIED;
        }
    }

    b = &out->buf;

    ngx_memzero(b, sizeof(ngx_buf_t));

    b->start = out->data;
    b->pos = out->data;
    b->last = out->data + n;
    b->end = out->data + NGX_OCI_TAIL_BUFFER;
    b->memory = 1;
    b->flush = 1;
    b->last_in_chain = 1;
    b->last_buf = (tail->pos == tail->end
                   && rd->part == rd->ranges.nparts - 1
                   && rd->ranges.tail.len == 0);

    out->chain.buf = b;
    out->chain.next = NULL;

    rd->sent += n;
    rd->pos = tail->pos;

    if (ngx_http_output_filter(rd->r, &out->chain) == NGX_ERROR) {
        ngx_oci_reader_finalize(rd, NGX_ERROR);
        return;
    }

    ngx_oci_tail_drained(tail);
}


/* waits for the socket, goes on, or ends; may finalize the request */

static void
ngx_oci_tail_drained(ngx_oci_tail_t *tail)
{
    ngx_event_t               *wev;
    ngx_connection_t          *c;
    ngx_oci_reader_t          *rd;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    rd = tail->rd;
    r = rd->r;
    c = r->connection;
    wev = c->write;

    if (r->buffered || c->buffered) {

        clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

        r->write_event_handler = ngx_oci_tail_writable;

        if (!wev->delayed) {
            ngx_add_timer(wev, clcf->send_timeout);
        }

        if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
            ngx_oci_reader_finalize(rd, NGX_ERROR);
        }

        return;
    }

    if (tail->ex) {

        if (ngx_oci_reader_rest(rd) == NGX_OK && tail->paused) {
            tail->paused = 0;
            ngx_oci_core.exchange_resume(tail->ex);
        }

        return;
    }

    if (tail->pos < tail->end) {
        return;
    }

    /* the part is over */

    rd->part++;
    rd->text_sent = 0;
    rd->pos = 0;
    rd->warm = 0;
    rd->sleeping = 0;

    ngx_oci_send_body(rd);
}


static void
ngx_oci_tail_done(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_tail_t *tail = ex->data;

    ngx_connection_t  *c;
    ngx_oci_reader_t  *rd;

    rd = tail->rd;
    tail->ex = NULL;
    c = NULL;

    if (rd->r) {
        c = rd->r->connection;

        ngx_http_set_log_request(c->log, rd->r);

        if (tail->pos == tail->end) {
            ngx_oci_tail_drained(tail);

        } else if (ngx_oci_tail_refused(ex)
                   || ++tail->tries > NGX_OCI_TAIL_TRIES
                   || ngx_oci_tail_exchange(tail) != NGX_OK)
        {
            ngx_oci_reader_cut(rd, "the blob could not be fetched");
        }
    }

    ngx_oci_reader_run(rd, c);
}


/* it would say no again */

static ngx_uint_t
ngx_oci_tail_refused(ngx_oci_exchange_t *ex)
{
    return ex->in.status >= 400 && ex->in.status < 500
           && ex->in.status != NGX_HTTP_REQUEST_TIME_OUT
           && ex->in.status != NGX_HTTP_TOO_MANY_REQUESTS;
}


static void
ngx_oci_tail_writable(ngx_http_request_t *r)
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

    if (ngx_http_output_filter(r, NULL) == NGX_ERROR) {
        ngx_oci_reader_finalize(rd, NGX_ERROR);
        return;
    }

    ngx_oci_tail_drained(rd->tail);
}
