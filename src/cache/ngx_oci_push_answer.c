
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the registry said to a part of a push, and what becomes of the copy.
 */


#include "ngx_oci_push.h"


static ngx_uint_t ngx_oci_push_decide(ngx_http_request_t *r,
    ngx_oci_push_t *up, u_char *key);
static ngx_int_t ngx_oci_push_took(ngx_http_request_t *r,
    ngx_oci_push_t *up);
static ngx_int_t ngx_oci_push_next_key(ngx_http_request_t *r,
    ngx_oci_push_t *up, u_char *key);
static void ngx_oci_push_end(ngx_oci_push_t *up,
    void (*run)(void *data, ngx_log_t *log));
static void ngx_oci_push_ended(void *data);
static void ngx_oci_push_remember(ngx_oci_push_t *up);


/* the registry's answer, as it came */

void
ngx_oci_push_answered(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    u_char               key[NGX_OCI_PUSH_KEY];
    ngx_oci_push_t      *up;
    ngx_oci_push_ctx_t  *pctx;

    pctx = ctx->push;

    if (pctx == NULL) {
        return;
    }

    if (pctx->manifest) {
        ngx_oci_push_manifest_answered(r, ctx, pctx->manifest);
        pctx->manifest = NULL;
        return;
    }

    up = pctx->upload;

    if (up == NULL || up->outcome != NGX_OCI_PUSH_UNDECIDED) {
        return;
    }

    up->outcome = ngx_oci_push_decide(r, up, key);

    if (up->outcome == NGX_OCI_PUSH_SAVE) {
        ngx_memcpy(up->key, key, NGX_OCI_PUSH_KEY);
        ngx_oci_push_goes_on(up, key);
    }

    up->refs++;

    if (up->outcome == NGX_OCI_PUSH_DROP) {
        ngx_oci_push_over(up);
    }

    ngx_oci_push_go_on(up);
    ngx_oci_push_unref(up);
}


static ngx_uint_t
ngx_oci_push_decide(ngx_http_request_t *r, ngx_oci_push_t *up, u_char *key)
{
    ngx_uint_t  status;

    status = r->headers_out.status;

    /* an answer before the whole question was heard */

    if (r->upstream->headers_in.status_n != status
        || up->failed || !up->body || up->held)
    {
        return NGX_OCI_PUSH_DROP;
    }

    if (r->method == NGX_HTTP_PATCH) {

        /* (who waits still has nothing to be given on: what is to follow
           would wait for it) */

        return (status == NGX_HTTP_ACCEPTED && !up->waiting
                && ngx_oci_push_took(r, up) == NGX_OK
                && ngx_oci_push_next_key(r, up, key) == NGX_OK)
               ? NGX_OCI_PUSH_SAVE : NGX_OCI_PUSH_DROP;
    }

    return (status == NGX_HTTP_CREATED && up->digest.alg
            && ngx_oci_push_agrees(r, &up->digest) == NGX_OK)
           ? NGX_OCI_PUSH_FINISH : NGX_OCI_PUSH_DROP;
}


/* "Range: 0-N": has the registry as much as was copied? */

static ngx_int_t
ngx_oci_push_took(ngx_http_request_t *r, ngx_oci_push_t *up)
{
    off_t             start, end;
    ngx_table_elt_t  *h;

    h = ngx_oci_header_find(&r->headers_out.headers, NULL, "Range");

    if (h == NULL) {
        return NGX_OK;
    }

    return (ngx_oci_push_range(&h->value, &start, &end) == NGX_OK
            && start == 0 && (uint64_t) end == up->pos)
           ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_oci_push_next_key(ngx_http_request_t *r, ngx_oci_push_t *up, u_char *key)
{
    ngx_oci_url_t     url;
    ngx_table_elt_t  *h;

    h = ngx_oci_header_find(&r->headers_out.headers, NULL, "Location");

    if (h == NULL) {
        ngx_memcpy(key, up->key, NGX_OCI_PUSH_KEY);
        return NGX_OK;
    }

    if (ngx_oci_url_parse(&h->value, &url) != NGX_OK) {
        return NGX_DECLINED;
    }

    ngx_oci_push_key(key, up->registry, &url.uri);

    return NGX_OK;
}


ngx_int_t
ngx_oci_push_agrees(ngx_http_request_t *r, ngx_oci_digest_t *digest)
{
    ngx_table_elt_t   *h;
    ngx_oci_digest_t   said;

    h = ngx_oci_header_find(&r->headers_out.headers, NULL,
                            "Docker-Content-Digest");

    if (h == NULL) {
        return NGX_OK;
    }

    return (ngx_oci_digest_parse(&said, h->value.data, h->value.len) == NGX_OK
            && ngx_oci_digest_equal(&said, digest))
           ? NGX_OK : NGX_DECLINED;
}


/* whoever tries again begins anew, however long it takes to remove this */

void
ngx_oci_push_over(ngx_oci_push_t *up)
{
    u_char  key[NGX_OCI_PUSH_KEY];

    up->outcome = NGX_OCI_PUSH_DROP;

    if (up->begun) {
        ngx_memzero(key, NGX_OCI_PUSH_KEY);
        ngx_oci_push_goes_on(up, key);
    }

    ngx_oci_push_fail(up);
}


/* the outcome, once all that came is written */

void
ngx_oci_push_go_on(ngx_oci_push_t *up)
{
    if (up->outcome == NGX_OCI_PUSH_UNDECIDED
        || up->running || up->waiting || up->ended)
    {
        return;
    }

    if (!up->failed && up->outcome != NGX_OCI_PUSH_DROP
        && up->written != up->pos)
    {
        ngx_oci_push_write(up);

        if (up->running) {
            return;
        }

        up->failed = 1;
    }

    up->ended = 1;

    if (up->timer.timer_set) {
        ngx_del_timer(&up->timer);
    }

    if (!up->begun) {
        return;
    }

    if (up->failed || up->outcome == NGX_OCI_PUSH_DROP
        || ngx_oci_push_spoiled(up))
    {
        ngx_oci_push_end(up, ngx_oci_push_drop_task);
        return;
    }

    if (up->outcome == NGX_OCI_PUSH_FINISH) {
        ngx_oci_push_end(up, ngx_oci_push_finish_task);
        return;
    }

    /* the lock goes first */

    if (up->map != -1) {
        close(up->map);
        close(up->fd);
        up->map = -1;
        up->fd = -1;
    }

    if (ngx_oci_push_save(up) != NGX_OK) {
        ngx_oci_push_end(up, ngx_oci_push_drop_task);
    }
}


static void
ngx_oci_push_end(ngx_oci_push_t *up, void (*run)(void *data, ngx_log_t *log))
{
    up->task.run = run;
    up->task.done = ngx_oci_push_ended;

    if (ngx_oci_io_post(up->cache, &up->task) != NGX_OK) {

        /* the manager finds it */

        ngx_oci_push_leave(up);
        return;
    }

    up->running = 1;
    up->refs++;
}


static void
ngx_oci_push_ended(void *data)
{
    ngx_oci_push_t *up = data;

    up->running = 0;

    if (up->task.run == ngx_oci_push_finish_task) {

        if (up->rc == NGX_OK) {
            ngx_oci_push_remember(up);

        } else if (up->rc == NGX_ERROR) {
            ngx_oci_push_say(up);
        }
    }

    ngx_oci_push_free(up->cache, up->place, up->id);
    ngx_oci_push_unref(up);
}


/* the registry has said that the blob is there, in this repository */

static void
ngx_oci_push_remember(ngx_oci_push_t *up)
{
    u_char         text[NGX_OCI_DIGEST_LEN];
    ngx_str_t      reference;
    ngx_oci_ref_t  ref;

    reference.data = text;
    reference.len = ngx_oci_digest_print(text, &up->digest) - text;

    ngx_memzero(&ref, sizeof(ngx_oci_ref_t));

    ref.digest = up->digest;
    ref.size = up->written;
    ref.checked = ngx_time();

    ngx_oci_index_showed(up->cache, &up->digest, up->origin);

    /* (it does not follow that who may push may read) */

    ngx_oci_refs_pushed(up->cache, NGX_OCI_REFS_BLOB, up->registry,
                        &up->repository, &reference, &ref, &up->seen,
                        ngx_cycle->log);
}
