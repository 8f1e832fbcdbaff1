
/*
 * Copyright (C) The nginx-oci authors
 *
 * Ranges are served here and not by the core's filter: it can't read from a
 * file that is still growing, nor send a multipart over several buffers.
 */


#include "ngx_oci_reader.h"


#define NGX_OCI_SEND_HOLD         (256 * 1024)  /* bytes held back */
#define NGX_OCI_SEND_STRICT       20000         /* ms that strict waits */
#define NGX_OCI_SEND_RETRY_AFTER  "10"


static ngx_int_t ngx_oci_send_prepare(ngx_oci_reader_t *rd);
static ngx_int_t ngx_oci_send_strict(ngx_oci_reader_t *rd);
static void ngx_oci_send_strict_timer(ngx_http_request_t *r);
static void ngx_oci_send_unavailable(ngx_oci_reader_t *rd,
    const char *message);
static ngx_int_t ngx_oci_send_conditions(ngx_oci_reader_t *rd);
static ngx_uint_t ngx_oci_send_etag_match(ngx_str_t *list, ngx_str_t *etag);
static ngx_int_t ngx_oci_send_ranges(ngx_oci_reader_t *rd);
static ngx_int_t ngx_oci_send_multipart(ngx_oci_reader_t *rd,
    ngx_oci_range_t *ranges, ngx_uint_t n);
static ngx_uint_t ngx_oci_send_covers(ngx_oci_range_t *ranges, ngx_uint_t n,
    off_t size);
static int ngx_libc_cdecl ngx_oci_send_cmp(const void *a, const void *b);
static ngx_int_t ngx_oci_send_header(ngx_oci_reader_t *rd);
static ngx_int_t ngx_oci_send_add(ngx_http_request_t *r, const char *name,
    ngx_str_t *value);
static void ngx_oci_send_status(ngx_oci_reader_t *rd);
static ngx_int_t ngx_oci_send_piece(ngx_oci_reader_t *rd);
static ngx_int_t ngx_oci_send_text(ngx_oci_reader_t *rd, ngx_str_t *text,
    ngx_uint_t last);
static void ngx_oci_send_writable(ngx_http_request_t *r);


static ngx_str_t  ngx_oci_send_cache_hit = ngx_string("nginx-oci; hit");
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

    if (rc == NGX_AGAIN) {
        return;
    }

    if (rc == NGX_DECLINED) {
        ngx_oci_reader_pass(rd);
        return;
    }

    if (rc == NGX_BUSY) {
        ngx_oci_send_unavailable(rd, "the blob is not verified yet");
        return;
    }

    if (rc != NGX_OK) {
        ngx_oci_reader_finalize(rd, rc);
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
 * NGX_OK: the header can go out; NGX_AGAIN: waits; NGX_DECLINED: pass it
 * through; NGX_BUSY: unavailable; else a status to finalize with.
 */

static ngx_int_t
ngx_oci_send_prepare(ngx_oci_reader_t *rd)
{
    uint64_t          first, end;
    ngx_int_t         rc;
    ngx_uint_t        i, missing;
    ngx_oci_blob_t   *blob;
    ngx_oci_entry_t  *entry;

    blob = rd->blob;
    entry = blob->entry;

    if (blob->stale || blob->generation != entry->generation) {

        /* what was there went; strict has sent nothing yet */

        return (rd->parts == NULL) ? NGX_DECLINED : NGX_BUSY;
    }

    if (rd->parts == NULL) {

        rc = ngx_oci_send_conditions(rd);
        if (rc != NGX_OK) {
            return rc;
        }

        rc = ngx_oci_send_ranges(rd);
        if (rc != NGX_OK) {
            return rc;
        }

        rd->failed = entry->failed;
        rd->bytes = entry->bytes;

        ngx_oci_send_status(rd);

        rd->ctx->verify_status =
            rd->ocf->verify == NGX_OCI_VERIFY_MODE_OFF ? NGX_OCI_VERIFY_OFF
            : entry->verified ? NGX_OCI_VERIFY_VERIFIED
            : NGX_OCI_VERIFY_PENDING;
    }

    if (rd->r->method == NGX_HTTP_HEAD) {
        return NGX_OK;
    }

    /* is anything of it missing? */

    missing = 0;
    first = rd->parts[0].pos;
    end = 0;

    for (i = 0; i < rd->nparts; i++) {
        first = ngx_min(first, rd->parts[i].pos);
        end = ngx_max(end, rd->parts[i].end);

        if (ngx_oci_index_readable(blob->cache, entry, rd->parts[i].pos,
                                   rd->parts[i].end, 0)
            < rd->parts[i].end)
        {
            missing = 1;
        }
    }

    if (rd->ocf->verify != NGX_OCI_VERIFY_MODE_OFF && !entry->verified
        && (rd->whole || rd->ocf->verify == NGX_OCI_VERIFY_MODE_STRICT))
    {
        missing = 1;
    }

    if (rd->ocf->verify == NGX_OCI_VERIFY_MODE_STRICT && !entry->verified) {
        first = 0;
        end = blob->size;
    }

    if (missing && rd->want == NULL) {

        ngx_oci_index_source(rd->cache, entry, rd->ctx->registry,
                             &rd->ctx->repository, &rd->ctx->authorization);

        rd->want = ngx_oci_index_want(rd->cache, entry, first, end);
        if (rd->want == NULL) {
            return NGX_DECLINED;
        }

        rd->kicked = first;

        rc = ngx_oci_fill_kick(blob, rd->ocf);

        if (rc == NGX_DECLINED) {
            return NGX_BUSY;
        }

        if (rc != NGX_OK) {
            return NGX_DECLINED;
        }
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
        return NGX_DECLINED;
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


static void
ngx_oci_send_unavailable(ngx_oci_reader_t *rd, const char *message)
{
    ngx_str_t            value;
    ngx_http_request_t  *r;

    r = rd->r;

    ngx_str_set(&value, NGX_OCI_SEND_RETRY_AFTER);

    if (ngx_oci_send_add(r, "Retry-After", &value) != NGX_OK) {
        ngx_oci_reader_finalize(rd, NGX_ERROR);
        return;
    }

    ngx_oci_reader_finalize(rd,
                   ngx_oci_core.error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                      NGX_OCI_ERR_UNAVAILABLE, message));
}


/* RFC 9110, section 13: the entity tag is the quoted digest */

static ngx_int_t
ngx_oci_send_conditions(ngx_oci_reader_t *rd)
{
    ngx_str_t            etag;
    ngx_http_request_t  *r;

    r = rd->r;
    etag = rd->ctx->route.reference;

    if (r->headers_in.if_match
        && !ngx_oci_send_etag_match(&r->headers_in.if_match->value, &etag))
    {
        return ngx_oci_core.error(r, NGX_HTTP_PRECONDITION_FAILED,
                                  NGX_OCI_ERR_UNKNOWN,
                                  "the precondition failed");
    }

    if (r->headers_in.if_none_match
        && ngx_oci_send_etag_match(&r->headers_in.if_none_match->value,
                                   &etag))
    {
        r->headers_out.status = NGX_HTTP_NOT_MODIFIED;
        r->header_only = 1;
    }

    return NGX_OK;
}


/* "*", or a list of entity tags, weak or strong, that holds the digest */

static ngx_uint_t
ngx_oci_send_etag_match(ngx_str_t *list, ngx_str_t *etag)
{
    u_char  *p, *last;

    if (list->len == 1 && list->data[0] == '*') {
        return 1;
    }

    p = list->data;
    last = p + list->len;

    while (last - p >= (ssize_t) etag->len + 2) {

        if (*p == '"' && p[etag->len + 1] == '"'
            && ngx_strncmp(p + 1, etag->data, etag->len) == 0)
        {
            return 1;
        }

        p++;
    }

    return 0;
}


static ngx_int_t
ngx_oci_send_ranges(ngx_oci_reader_t *rd)
{
    off_t                size, sum;
    u_char              *p;
    ngx_int_t            n, i;
    ngx_str_t           *value, etag;
    ngx_table_elt_t     *h;
    ngx_oci_range_t     *ranges;
    ngx_http_request_t  *r;

    r = rd->r;
    size = rd->blob->size;

    rd->parts = ngx_pcalloc(rd->pool, sizeof(ngx_oci_part_t));
    if (rd->parts == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rd->nparts = 1;
    rd->parts[0].end = size;
    rd->whole = 1;

    r->headers_out.content_length_n = size;

    if (r->headers_out.status == NGX_HTTP_NOT_MODIFIED) {
        r->headers_out.content_length_n = -1;
        return NGX_OK;
    }

    r->headers_out.status = NGX_HTTP_OK;

    if (r->headers_in.range == NULL) {
        return NGX_OK;
    }

    etag = rd->ctx->route.reference;

    if (r->headers_in.if_range) {
        value = &r->headers_in.if_range->value;

        /* strong comparison only; dates never match: there are none here */

        if (value->len != etag.len + 2 || value->data[0] != '"'
            || ngx_strncmp(value->data + 1, etag.data, etag.len) != 0)
        {
            return NGX_OK;
        }
    }

    ranges = ngx_palloc(rd->pool,
                        NGX_OCI_RANGES_MAX * sizeof(ngx_oci_range_t));
    if (ranges == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    n = ngx_oci_range_parse(&r->headers_in.range->value, size, ranges,
                            NGX_OCI_RANGES_MAX);

    if (n == 0) {
        return NGX_OK;
    }

    sum = 0;

    for (i = 0; i < n; i++) {
        sum += ranges[i].end - ranges[i].start;

        if (sum > size) {
            n = NGX_ERROR;
        }
    }

    if (n == NGX_ERROR) {
        rd->parts = NULL;
        return ngx_oci_core.error(r, NGX_HTTP_BAD_REQUEST,
                                  NGX_OCI_ERR_SIZE_INVALID,
                                  "too many ranges");
    }

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->hash = 0;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "Content-Range");

    p = ngx_pnalloc(r->pool, sizeof("bytes -/") - 1 + 3 * NGX_OFF_T_LEN);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->value.data = p;
    r->headers_out.content_range = h;

    if (n == NGX_DECLINED) {
        h->hash = 1;
        h->value.len = ngx_sprintf(p, "bytes */%O", size) - p;
        rd->parts = NULL;

        return ngx_oci_core.error(r, NGX_HTTP_RANGE_NOT_SATISFIABLE,
                                  NGX_OCI_ERR_SIZE_INVALID,
                                  "the range is not satisfiable");
    }

    r->headers_out.status = NGX_HTTP_PARTIAL_CONTENT;
    rd->whole = ngx_oci_send_covers(ranges, n, size);

    if (n > 1) {
        r->headers_out.content_range = NULL;
        return ngx_oci_send_multipart(rd, ranges, n);
    }

    h->hash = 1;
    h->value.len = ngx_sprintf(p, "bytes %O-%O/%O", ranges[0].start,
                               ranges[0].end - 1, size)
                   - p;

    rd->parts[0].pos = ranges[0].start;
    rd->parts[0].end = ranges[0].end;
    r->headers_out.content_length_n = ranges[0].end - ranges[0].start;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_send_multipart(ngx_oci_reader_t *rd, ngx_oci_range_t *ranges,
    ngx_uint_t n)
{
    off_t                len;
    u_char              *p;
    ngx_uint_t           i;
    ngx_oci_part_t      *part;
    ngx_http_request_t  *r;

    static ngx_atomic_uint_t  boundary;

    r = rd->r;

    boundary += 1 + (ngx_random() & 0xffff);

    rd->parts = ngx_pcalloc(rd->pool, n * sizeof(ngx_oci_part_t));
    if (rd->parts == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rd->nparts = n;
    len = 0;

    for (i = 0; i < n; i++) {
        part = &rd->parts[i];

        part->text.data = ngx_pnalloc(rd->pool,
                       sizeof("\r\n--\r\nContent-Type: "
                              "application/octet-stream\r\n"
                              "Content-Range: bytes -/\r\n\r\n") - 1
                       + 20 + 3 * NGX_OFF_T_LEN);
        if (part->text.data == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        p = ngx_sprintf(part->text.data,
                        "\r\n--%020uA\r\n"
                        "Content-Type: application/octet-stream\r\n"
                        "Content-Range: bytes %O-%O/%uL\r\n\r\n",
                        boundary, ranges[i].start, ranges[i].end - 1,
                        rd->blob->size);

        part->text.len = p - part->text.data;
        part->pos = ranges[i].start;
        part->end = ranges[i].end;

        len += part->text.len + (ranges[i].end - ranges[i].start);
    }

    rd->tail.data = ngx_pnalloc(rd->pool, sizeof("\r\n----\r\n") + 20);
    r->headers_out.content_type.data = ngx_pnalloc(r->pool,
                      sizeof("multipart/byteranges; boundary=") - 1 + 20);

    if (rd->tail.data == NULL || r->headers_out.content_type.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = ngx_sprintf(rd->tail.data, "\r\n--%020uA--\r\n", boundary);
    rd->tail.len = p - rd->tail.data;

    p = ngx_sprintf(r->headers_out.content_type.data,
                    "multipart/byteranges; boundary=%020uA", boundary);
    r->headers_out.content_type.len = p - r->headers_out.content_type.data;
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_length_n = len + rd->tail.len;

    return NGX_OK;
}


static ngx_uint_t
ngx_oci_send_covers(ngx_oci_range_t *ranges, ngx_uint_t n, off_t size)
{
    off_t            end;
    ngx_uint_t       i;
    ngx_oci_range_t  sorted[NGX_OCI_RANGES_MAX];

    ngx_memcpy(sorted, ranges, n * sizeof(ngx_oci_range_t));
    ngx_qsort(sorted, n, sizeof(ngx_oci_range_t), ngx_oci_send_cmp);

    for (i = 0, end = 0; i < n; i++) {
        if (sorted[i].start > end) {
            return 0;
        }

        end = ngx_max(end, sorted[i].end);
    }

    return end == size;
}


static int ngx_libc_cdecl
ngx_oci_send_cmp(const void *a, const void *b)
{
    const ngx_oci_range_t *x = a;
    const ngx_oci_range_t *y = b;

    return (x->start > y->start) - (x->start < y->start);
}


static void
ngx_oci_send_status(ngx_oci_reader_t *rd)
{
    ngx_oci_ctx_t    *ctx;
    ngx_oci_entry_t  *entry;

    ctx = rd->ctx;
    entry = rd->blob->entry;

    if (entry->have == entry->slices) {
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
    u_char              *p;
    ngx_str_t            value, *status;
    ngx_table_elt_t     *h;
    ngx_http_request_t  *r;

    r = rd->r;

    if (r->headers_out.content_type.len == 0) {
        ngx_str_set(&r->headers_out.content_type,
                    "application/octet-stream");
        r->headers_out.content_type_len = r->headers_out.content_type.len;
    }

    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.last_modified_time = -1;
    r->disable_not_modified = 1;
    r->allow_ranges = 0;

    h = ngx_list_push(&r->headers_out.headers);
    p = ngx_pnalloc(r->pool, rd->ctx->route.reference.len + 2);

    if (h == NULL || p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "ETag");
    h->value.data = p;
    h->value.len = ngx_sprintf(p, "\"%V\"", &rd->ctx->route.reference) - p;
    r->headers_out.etag = h;

    value.data = p + 1;
    value.len = h->value.len - 2;

    switch (rd->ctx->cache_status) {
    case NGX_OCI_CACHE_HIT:
        status = &ngx_oci_send_cache_hit;
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

    if (ngx_oci_send_add(r, "Docker-Content-Digest", &value) != NGX_OK
        || ngx_oci_send_add(r, "Cache-Status", status) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&value, "registry/2.0");

    if (ngx_oci_send_add(r, "Docker-Distribution-Api-Version", &value)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&value, "max-age=31536000");

    if (ngx_oci_send_add(r, "Cache-Control", &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&value, "bytes");

    if (ngx_oci_send_add(r, "Accept-Ranges", &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r->method == NGX_HTTP_HEAD) {
        r->header_only = 1;
    }

    if (!r->header_only && rd->want) {

        /* the end of what is there must not stay in the socket */

        r->connection->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;
    }

    return ngx_http_send_header(r);
}


static ngx_int_t
ngx_oci_send_add(ngx_http_request_t *r, const char *name, ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value = *value;

    return NGX_OK;
}


/* sends what can be sent now; sleeps or waits for the socket, or ends */

void
ngx_oci_send_body(ngx_oci_reader_t *rd)
{
    ngx_int_t                  rc;
    ngx_event_t               *wev;
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = rd->r;
    c = r->connection;
    wev = c->write;

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

        rc = ngx_oci_send_piece(rd);

        if (rc == NGX_BUSY) {
            ngx_oci_reader_sleep(rd);
            return;
        }

        if (rc == NGX_ABORT) {
            return;
        }

        if (rc == NGX_ERROR || rc == NGX_DONE) {
            ngx_oci_reader_finalize(rd, rc == NGX_DONE ? NGX_OK : NGX_ERROR);
            return;
        }
    }
}


/*
 * NGX_OK or NGX_AGAIN: a piece was handed on; NGX_DONE: it was the last;
 * NGX_BUSY: there is none yet; NGX_ERROR; NGX_ABORT: the request was
 * finalized.
 */

static ngx_int_t
ngx_oci_send_piece(ngx_oci_reader_t *rd)
{
    uint64_t             limit, end;
    ngx_int_t            rc;
    ngx_uint_t           last;
    ngx_buf_t           *b;
    ngx_oci_blob_t      *blob;
    ngx_oci_part_t      *part;
    ngx_oci_entry_t     *entry;

    blob = rd->blob;
    entry = blob->entry;

    if (rd->part == rd->nparts) {

        if (rd->tail.len && !rd->text_sent) {
            rd->text_sent = 1;
            return ngx_oci_send_text(rd, &rd->tail, 1);
        }

        return NGX_DONE;
    }

    part = &rd->parts[rd->part];

    if (part->text.len && !rd->text_sent) {
        rd->text_sent = 1;
        rd->pos = part->pos;
        return ngx_oci_send_text(rd, &part->text, 0);
    }

    if (rd->pos < part->pos) {
        rd->pos = part->pos;
    }

    if (blob->generation != entry->generation) {
        rd->ctx->verify_status = NGX_OCI_VERIFY_MISMATCH;
        ngx_oci_reader_cut(rd, "the blob did not match its digest");
        return NGX_ABORT;
    }

    end = part->end;
    last = (rd->part == rd->nparts - 1 && rd->tail.len == 0);

    if (rd->whole && rd->part == rd->nparts - 1
        && rd->ocf->verify != NGX_OCI_VERIFY_MODE_OFF)
    {
        if (ngx_oci_index_verified(rd->cache, entry, 0)) {
            rd->ctx->verify_status = NGX_OCI_VERIFY_VERIFIED;

        } else {
            end -= ngx_min(NGX_OCI_SEND_HOLD, end - part->pos);
            end = ngx_max(end, rd->pos);
        }
    }

    /* never past the watermark: a hole of the sparse file would go out as
       zeros */

    limit = ngx_oci_index_readable(rd->cache, entry, rd->pos, end, 1);

    if (limit == rd->pos) {

        if (rd->pos == end
            && ngx_oci_index_verified(rd->cache, entry, 1)
            && blob->generation == entry->generation)
        {
            return NGX_OK;
        }

        if (entry->failed != rd->failed) {
            ngx_oci_reader_cut(rd, "the blob could not be fetched");
            return NGX_ABORT;
        }

        if (rd->want == NULL) {
            rd->want = ngx_oci_index_want(rd->cache, entry, rd->pos,
                                          part->end);
            ngx_oci_index_source(rd->cache, entry, rd->ctx->registry,
                                 &rd->ctx->repository,
                                 &rd->ctx->authorization);
        }

        if (rd->want) {
            ngx_oci_index_want_move(rd->cache, rd->want, rd->pos);
        }

        rd->kicked = rd->pos;

        rc = ngx_oci_fill_kick(blob, rd->ocf);

        if (rd->want == NULL || rc == NGX_ERROR || rc == NGX_DECLINED) {
            ngx_oci_reader_cut(rd, "the blob can't be fetched");
            return NGX_ABORT;
        }

        return NGX_BUSY;
    }

    b = &rd->out->buf;
    ngx_memzero(b, sizeof(ngx_buf_t));

    rd->out->file.fd = blob->store.fd;
    rd->out->file.log = rd->r->connection->log;
    rd->out->file.name = rd->ctx->route.reference;

    b->in_file = 1;
    b->file = &rd->out->file;
    b->file_pos = rd->pos;
    b->file_last = limit;
    b->flush = 1;
    b->last_in_chain = 1;
    b->last_buf = (last && limit == part->end);

    rd->out->chain.buf = b;
    rd->out->chain.next = NULL;

    rd->sent += limit - rd->pos;
    rd->pos = limit;

    if (limit == part->end) {
        rd->part++;
        rd->text_sent = 0;
        rd->pos = 0;

    } else if (rd->want && limit - rd->kicked >= rd->cache->slice) {

        /* the fill's window moves along */

        rd->kicked = limit;
        ngx_oci_index_want_move(rd->cache, rd->want, limit);
        (void) ngx_oci_fill_kick(blob, rd->ocf);
    }

    rc = ngx_http_output_filter(rd->r, &rd->out->chain);

    return (rc == NGX_ERROR) ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_oci_send_text(ngx_oci_reader_t *rd, ngx_str_t *text, ngx_uint_t last)
{
    ngx_buf_t  *b;

    b = &rd->out->buf;
    ngx_memzero(b, sizeof(ngx_buf_t));

    b->start = text->data;
    b->pos = text->data;
    b->last = text->data + text->len;
    b->end = b->last;
    b->memory = 1;
    b->last_buf = last;
    b->last_in_chain = 1;

    rd->out->chain.buf = b;
    rd->out->chain.next = NULL;

    return (ngx_http_output_filter(rd->r, &rd->out->chain) == NGX_ERROR)
           ? NGX_ERROR : NGX_OK;
}


static void
ngx_oci_send_writable(ngx_http_request_t *r)
{
    ngx_int_t          rc;
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
