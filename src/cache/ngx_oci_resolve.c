
/*
 * Copyright (C) The nginx-oci authors
 *
 * HEAD of a manifest: where a tag leads, whether a digest still counts, and
 * whether this caller may read it.  Equal ones of a worker are one exchange.
 */


#include "ngx_oci_manifest.h"


/* Owner: its exchange, whose pool it lives in; done() lets go of it */

typedef struct {
    ngx_queue_t               queue;        /* of all of the worker */
    ngx_queue_t               waiters;
    ngx_oci_cache_t          *cache;
    uint32_t                  since;        /* the repository's changes when
                                               it was asked */
    ngx_oci_registry_t       *registry;
    ngx_str_t                 repository;
    ngx_str_t                 reference;
    ngx_str_t                 accept;
    ngx_str_t                 authorization;
    ngx_oci_exchange_t       *ex;
} ngx_oci_resolve_t;


static ngx_oci_resolve_t *ngx_oci_resolve_find(ngx_oci_manifest_t *mf);
static ngx_oci_resolve_t *ngx_oci_resolve_create(ngx_oci_manifest_t *mf);
static ngx_int_t ngx_oci_resolve_header(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_resolve_buffer(ngx_oci_exchange_t *ex, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_resolve_received(ngx_oci_exchange_t *ex, size_t n,
    ngx_uint_t idle);
static void ngx_oci_resolve_done(ngx_oci_exchange_t *ex, ngx_int_t rc);
static void ngx_oci_resolve_result(ngx_oci_exchange_t *ex,
    ngx_oci_resolve_result_t *result);


static ngx_queue_t  ngx_oci_resolves;       /* per process */


#define ngx_oci_resolve_same(a, b)                                            \
    ((a)->len == (b)->len && ngx_memcmp((a)->data, (b)->data, (a)->len) == 0)


ngx_int_t
ngx_oci_resolve(ngx_oci_manifest_t *mf)
{
    ngx_oci_resolve_t  *rs;

    if (ngx_oci_resolves.next == NULL) {
        ngx_queue_init(&ngx_oci_resolves);
    }

    rs = ngx_oci_resolve_find(mf);

    if (rs == NULL) {
        rs = ngx_oci_resolve_create(mf);
        if (rs == NULL) {
            return NGX_ERROR;
        }
    }

    mf->resolve.waiting = 1;
    ngx_queue_insert_tail(&rs->waiters, &mf->resolve.queue);

    return NGX_OK;
}


void
ngx_oci_resolve_leave(ngx_oci_resolve_waiter_t *waiter)
{
    if (waiter->waiting) {
        waiter->waiting = 0;
        ngx_queue_remove(&waiter->queue);
    }
}


static ngx_oci_resolve_t *
ngx_oci_resolve_find(ngx_oci_manifest_t *mf)
{
    uint32_t            since;
    ngx_queue_t        *q;
    ngx_oci_ctx_t      *ctx;
    ngx_oci_resolve_t  *rs;

    ctx = mf->ctx;

    /* one that began before a push or a purge may bring what was before */

    since = ngx_oci_refs_changes(mf->cache, ctx->registry, &ctx->repository);

    for (q = ngx_queue_head(&ngx_oci_resolves);
         q != ngx_queue_sentinel(&ngx_oci_resolves);
         q = ngx_queue_next(q))
    {
        rs = ngx_queue_data(q, ngx_oci_resolve_t, queue);

        if (rs->cache == mf->cache
            && rs->since == since
            && rs->registry == ctx->registry
            && ngx_oci_resolve_same(&rs->reference, &ctx->route.reference)
            && ngx_oci_resolve_same(&rs->repository, &ctx->repository)
            && ngx_oci_resolve_same(&rs->accept, &mf->accept)
            && ngx_oci_resolve_same(&rs->authorization, &ctx->authorization))
        {
            return rs;
        }
    }

    return NULL;
}


static ngx_oci_resolve_t *
ngx_oci_resolve_create(ngx_oci_manifest_t *mf)
{
    ngx_oci_ctx_t       *ctx;
    ngx_oci_resolve_t   *rs;
    ngx_oci_exchange_t  *ex;

    ctx = mf->ctx;

    ex = ngx_oci_core.exchange_create(ctx->registry, ngx_cycle->log);
    if (ex == NULL) {
        return NULL;
    }

    rs = ngx_pcalloc(ex->pool, sizeof(ngx_oci_resolve_t));
    if (rs == NULL) {
        goto failed;
    }

    ngx_queue_init(&rs->waiters);
    rs->cache = mf->cache;
    rs->since = ngx_oci_refs_changes(mf->cache, ctx->registry,
                                     &ctx->repository);
    rs->registry = ctx->registry;
    rs->ex = ex;

    ex->uri.data = ngx_pnalloc(ex->pool, sizeof("/v2//manifests/") - 1
                                         + ctx->repository.len
                                         + ctx->route.reference.len);

    if (ex->uri.data == NULL
        || ngx_oci_resolve_copy(ex->pool, &rs->repository, &ctx->repository)
           != NGX_OK
        || ngx_oci_resolve_copy(ex->pool, &rs->reference,
                                &ctx->route.reference)
           != NGX_OK
        || ngx_oci_resolve_copy(ex->pool, &rs->accept, &mf->accept)
           != NGX_OK
        || ngx_oci_resolve_copy(ex->pool, &rs->authorization,
                                &ctx->authorization)
           != NGX_OK)
    {
        goto failed;
    }

    ex->uri.len = ngx_sprintf(ex->uri.data, "/v2/%V/manifests/%V",
                              &rs->repository, &rs->reference)
                  - ex->uri.data;

    ex->method = NGX_HTTP_HEAD;
    ex->repository = rs->repository;
    ex->accept = rs->accept;
    ex->credentials = ctx->registry->credentials;
    ex->stored = ctx->registry->stored;
    ex->authorization = rs->authorization;
    ex->data = rs;
    ex->header = ngx_oci_resolve_header;
    ex->buffer = ngx_oci_resolve_buffer;
    ex->received = ngx_oci_resolve_received;
    ex->done = ngx_oci_resolve_done;

    if (ngx_oci_core.exchange_start(ex) != NGX_OK) {
        return NULL;
    }

    ngx_queue_insert_head(&ngx_oci_resolves, &rs->queue);

    return rs;

failed:

    ngx_oci_core.exchange_abort(ex);

    return NULL;
}


ngx_int_t
ngx_oci_resolve_copy(ngx_pool_t *pool, ngx_str_t *dst, ngx_str_t *src)
{
    if (src->len == 0) {
        ngx_str_set(dst, "");
        return NGX_OK;
    }

    dst->len = src->len;
    dst->data = ngx_pstrdup(pool, src);

    return dst->data ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_resolve_header(ngx_oci_exchange_t *ex)
{
    return NGX_OK;
}


/* HEAD has no body */

static ngx_int_t
ngx_oci_resolve_buffer(ngx_oci_exchange_t *ex, u_char **p, size_t *size)
{
    return NGX_ERROR;
}


static ngx_int_t
ngx_oci_resolve_received(ngx_oci_exchange_t *ex, size_t n, ngx_uint_t idle)
{
    return NGX_OK;
}


static void
ngx_oci_resolve_done(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_resolve_t *rs = ex->data;

    ngx_queue_t                list, *q;
    ngx_oci_resolve_result_t   result;
    ngx_oci_resolve_waiter_t  *waiter;

    ngx_queue_remove(&rs->queue);

    ngx_memzero(&result, sizeof(ngx_oci_resolve_result_t));

    if (rc == NGX_OK) {
        ngx_oci_resolve_result(ex, &result);
    }

    result.timedout = (rc == NGX_BUSY);

    ngx_queue_init(&list);

    if (!ngx_queue_empty(&rs->waiters)) {
        ngx_queue_add(&list, &rs->waiters);
    }

    while (!ngx_queue_empty(&list)) {
        q = ngx_queue_head(&list);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_oci_resolve_waiter_t, queue);
        waiter->waiting = 0;
        waiter->handler(waiter->data, &result);
    }
}


static void
ngx_oci_resolve_result(ngx_oci_exchange_t *ex,
    ngx_oci_resolve_result_t *result)
{
    ngx_int_t   rc;
    ngx_str_t  *digest;

    digest = &ex->in.docker_content_digest;

    rc = digest->len ? ngx_oci_digest_parse(&result->digest, digest->data,
                                            digest->len)
                     : NGX_DECLINED;

    /* neither a confirmation nor a refusal: as if nobody had answered */

    if (ex->in.status == NGX_HTTP_OK
        && (rc == NGX_ERROR || ngx_oci_type_is_page(&ex->in.content_type)))
    {
        ngx_log_error(NGX_LOG_WARN, ex->log, 0,
                      "upstream's answer to \"%V\" proves nothing: %s",
                      &ex->uri, (rc == NGX_ERROR) ? "a malformed digest"
                                                  : "it is a page");
        return;
    }

    result->status = ex->in.status;
    result->known = (rc == NGX_OK);
    result->type = ex->in.content_type;
    result->size = ex->in.content_length;

    /* some answer HEAD with 0, or with the length of another coding */

    if (result->size == 0 || ex->in.content_encoding.len) {
        result->size = -1;
    }
}
