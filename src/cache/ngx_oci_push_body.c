
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a push brings is copied as it passes the filters of request bodies.
 * Bytes that find no free buffer are held there, so that the client waits for
 * the disk, but not for long: then it is not copied any more.
 */


#include "ngx_oci_push.h"


#define NGX_OCI_PUSH_BYPASS  10         /* s without copies after a disk's
                                           failure */
#define NGX_OCI_PUSH_WARN    60         /* s between equal warnings */


static ngx_int_t ngx_oci_push_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_oci_push_hold(ngx_http_request_t *r, ngx_oci_push_t *up,
    ngx_chain_t *in, ngx_uint_t n);
static ngx_uint_t ngx_oci_push_bufs(ngx_oci_push_t *up, ngx_chain_t **in);
static u_char *ngx_oci_push_bytes(ngx_oci_push_t *up, u_char *p,
    u_char *last);
static void ngx_oci_push_written(void *data);


static ngx_http_request_body_filter_pt  ngx_http_next_request_body_filter;


void
ngx_oci_push_init_filter(void)
{
    ngx_http_next_request_body_filter = ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = ngx_oci_push_body_filter;
}


static ngx_int_t
ngx_oci_push_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    size_t               bytes;
    ngx_uint_t           n;
    ngx_chain_t         *cl, *rest;
    ngx_oci_ctx_t       *ctx;
    ngx_oci_push_t      *up;
    ngx_oci_push_ctx_t  *pctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);
    pctx = ctx ? ctx->push : NULL;

    if (pctx && pctx->manifest) {
        ngx_oci_push_manifest_body(pctx->manifest, in);
    }

    if (pctx == NULL || pctx->upload == NULL) {
        return ngx_http_next_request_body_filter(r, in);
    }

    up = pctx->upload;
    r->request_body->filter_need_buffering = 1;

    bytes = 0;

    for (cl = in; cl; cl = cl->next) {
        up->body |= cl->buf->last_buf;
        bytes += cl->buf->last - cl->buf->pos;
    }

    n = 0;

    if (up->held == NULL) {

        if (up->failed || bytes == 0) {
            ngx_oci_push_write(up);
            return ngx_http_next_request_body_filter(r, in);
        }

        rest = in;

        if (!up->waiting && ngx_oci_push_bufs(up, &rest)) {
            return ngx_http_next_request_body_filter(r, in);
        }

        for (cl = in; cl != rest; cl = cl->next) {
            n++;
        }
    }

    return ngx_oci_push_hold(r, up, in, n);
}


/* keeps what could not be copied, the first n could, and passes on the rest */

static ngx_int_t
ngx_oci_push_hold(ngx_http_request_t *r, ngx_oci_push_t *up, ngx_chain_t *in,
    ngx_uint_t n)
{
    ngx_int_t     rc;
    ngx_uint_t    fresh;
    ngx_chain_t  *out, *cl, *next, **ll;

    fresh = (up->held == NULL);

    if (ngx_chain_add_copy(r->pool, &up->held, in) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cl = up->held;

    if (up->failed) {
        cl = NULL;
        up->at = NULL;

    } else if (fresh) {
        for ( /* void */ ; n; n--) {
            cl = cl->next;
        }

    } else if (!up->waiting) {
        (void) ngx_oci_push_bufs(up, &cl);
    }

    /* (a chain of its own: the caller's stays as it is) */

    out = up->held;

    for (ll = &out; *ll != cl; ll = &(*ll)->next) { /* void */ }
    *ll = NULL;

    up->held = cl;

    if (fresh || out) {
        up->since_held = ngx_current_msec;
    }

    if (up->held && !up->timer.timer_set) {
        ngx_add_timer(&up->timer, NGX_OCI_PUSH_PATIENCE);
    }

    ngx_oci_push_write(up);

    rc = ngx_http_next_request_body_filter(r, out);

    for (cl = out; cl; cl = next) {
        next = cl->next;
        ngx_free_chain(r->pool, cl);
    }

    return rc;
}


/*
 * Copies; *in: the first that could not be, or not as a whole.  1: all of
 * them were.
 */

static ngx_uint_t
ngx_oci_push_bufs(ngx_oci_push_t *up, ngx_chain_t **in)
{
    u_char       *p;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    for (cl = *in; cl && !up->failed; cl = cl->next) {

        b = cl->buf;

        if (ngx_buf_special(b) || b->in_file) {
            continue;
        }

        p = up->at ? up->at : b->pos;
        up->at = NULL;

        p = ngx_oci_push_bytes(up, p, b->last);

        if (p < b->last && !up->failed) {
            up->at = p;
            break;
        }
    }

    if (up->failed) {
        cl = NULL;
    }

    *in = cl;

    if (cl == NULL) {
        ngx_oci_push_write(up);
    }

    return cl == NULL;
}


/* the first that has no place */

static u_char *
ngx_oci_push_bytes(ngx_oci_push_t *up, u_char *p, u_char *last)
{
    size_t               n;
    ngx_oci_push_buf_t  *b;

    while (p < last && up->head - up->tail < NGX_OCI_PUSH_BUFFERS) {

        b = &up->bufs[up->head % NGX_OCI_PUSH_BUFFERS];

        if (b->data == NULL) {
            b->data = ngx_alloc(NGX_OCI_PUSH_BUFFER, ngx_cycle->log);

            if (b->data == NULL) {
                ngx_oci_push_fail(up);
                return p;
            }
        }

        n = ngx_min((size_t) (last - p), NGX_OCI_PUSH_BUFFER - b->size);
        ngx_memcpy(b->data + b->size, p, n);

        b->size += n;
        up->pos += n;
        p += n;

        if (b->size == NGX_OCI_PUSH_BUFFER) {
            up->head++;
            ngx_oci_push_write(up);
        }
    }

    return p;
}


/* one task at a time: the digest is of bytes in order */

void
ngx_oci_push_write(ngx_oci_push_t *up)
{
    ngx_oci_push_buf_t  *b;

    if (up->running || up->failed || up->ended) {
        return;
    }

    if (up->head == up->tail) {
        b = &up->bufs[up->head % NGX_OCI_PUSH_BUFFERS];

        if (b->size == 0 || !up->body || up->held) {
            return;
        }

        up->head++;
    }

    up->first = up->tail;
    up->last = up->head;
    up->task.run = ngx_oci_push_write_task;
    up->task.done = ngx_oci_push_written;

    if (ngx_oci_io_post(up->cache, &up->task) != NGX_OK) {
        ngx_oci_push_fail(up);
        return;
    }

    up->running = 1;
    up->refs++;
}


static void
ngx_oci_push_written(void *data)
{
    ngx_oci_push_t *up = data;

    up->running = 0;

    for ( /* void */ ; up->tail != up->last; up->tail++) {
        up->bufs[up->tail % NGX_OCI_PUSH_BUFFERS].size = 0;
    }

    if (up->rc != NGX_OK) {
        ngx_oci_push_say(up);
        ngx_oci_push_fail(up);
    }

    ngx_oci_push_write(up);
    ngx_oci_push_release(up);
    ngx_oci_push_go_on(up);

    ngx_oci_push_unref(up);
}


/* it is not copied any more; what is held goes on */

void
ngx_oci_push_fail(ngx_oci_push_t *up)
{
    up->failed = 1;

    ngx_oci_push_unwait(up);
    ngx_oci_push_release(up);
}


void
ngx_oci_push_say(ngx_oci_push_t *up)
{
    ngx_uint_t     level;

    static time_t  warned;

    if (up->rc == NGX_ERROR) {
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);

        level = ngx_oci_index_bypass(up->cache, NGX_OCI_PUSH_BYPASS)
                ? NGX_LOG_CRIT : NGX_LOG_INFO;

        ngx_log_error(level, ngx_cycle->log, up->err,
                      "writing the copy of a push in \"%V\" failed",
                      &up->cache->path->name);
        return;
    }

    level = NGX_LOG_INFO;

    if (ngx_time() - warned >= NGX_OCI_PUSH_WARN) {
        warned = ngx_time();
        level = NGX_LOG_WARN;
    }

    ngx_log_error(level, ngx_cycle->log, 0,
                  "no room for the copy of a push in \"%V\": it goes to the "
                  "registry only", &up->cache->path->name);
}


/* the request's body is read on, as if more of it had come */

void
ngx_oci_push_release(ngx_oci_push_t *up)
{
    if (up->r == NULL || up->held == NULL || up->waiting) {
        return;
    }

    ngx_post_event(up->r->connection->read, &ngx_posted_events);
}
