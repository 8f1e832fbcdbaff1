
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_probe.h"
#include "ngx_oci_index.h"
#include "ngx_oci_sizes.h"


#define NGX_OCI_PROBE_TIME  60      /* s for a byte, after the header too */


/* Owner: its exchange, whose pool it lives in; done() lets go of it */

typedef struct {
    ngx_queue_t              queue;         /* of all probes of the worker */
    ngx_queue_t              waiters;
    ngx_oci_cache_t         *cache;
    uint32_t                 since;         /* the repository's changes when
                                               it was asked */
    ngx_oci_registry_t      *registry;
    ngx_str_t                repository;
    ngx_str_t                reference;     /* the digest's text */
    ngx_str_t                authorization;
    ngx_oci_digest_t         digest;
    off_t                    size;          /* remembered; -1: unknown */
    ngx_oci_exchange_t      *ex;
    u_char                   byte[64];
    time_t                   started;
    ngx_oci_probe_result_t   result;
} ngx_oci_probe_t;


static ngx_oci_probe_t *ngx_oci_probe_find(ngx_oci_cache_t *cache,
    ngx_oci_ctx_t *ctx, ngx_uint_t method);
static ngx_oci_probe_t *ngx_oci_probe_create(ngx_oci_cache_t *cache,
    ngx_oci_ctx_t *ctx, ngx_uint_t method, off_t size);
static ngx_int_t ngx_oci_probe_header(ngx_oci_exchange_t *ex);
static ngx_uint_t ngx_oci_probe_fits(ngx_oci_probe_t *probe, off_t size);
static ngx_int_t ngx_oci_probe_refuse(ngx_oci_probe_t *probe,
    const char *reason);
static ngx_int_t ngx_oci_probe_buffer(ngx_oci_exchange_t *ex, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_probe_received(ngx_oci_exchange_t *ex, size_t n,
    ngx_uint_t idle);
static void ngx_oci_probe_done(ngx_oci_exchange_t *ex, ngx_int_t rc);
static void ngx_oci_probe_remember(ngx_oci_probe_t *probe);
static ngx_int_t ngx_oci_probe_dup(ngx_pool_t *pool, ngx_str_t *dst,
    ngx_str_t *src);


static ngx_queue_t  ngx_oci_probes;     /* per process */


void
ngx_oci_probe_init_process(void)
{
    ngx_queue_init(&ngx_oci_probes);
}


ngx_int_t
ngx_oci_probe(ngx_oci_cache_t *cache, ngx_oci_ctx_t *ctx, ngx_uint_t method,
    off_t size, ngx_oci_probe_waiter_t *waiter)
{
    ngx_oci_probe_t  *probe;

    probe = ngx_oci_probe_find(cache, ctx, method);

    if (probe == NULL) {
        probe = ngx_oci_probe_create(cache, ctx, method, size);
        if (probe == NULL) {
            return NGX_ERROR;
        }
    }

    waiter->waiting = 1;
    ngx_queue_insert_tail(&probe->waiters, &waiter->queue);

    return NGX_OK;
}


void
ngx_oci_probe_leave(ngx_oci_probe_waiter_t *waiter)
{
    if (waiter->waiting) {
        waiter->waiting = 0;
        ngx_queue_remove(&waiter->queue);
    }
}


static ngx_oci_probe_t *
ngx_oci_probe_find(ngx_oci_cache_t *cache, ngx_oci_ctx_t *ctx,
    ngx_uint_t method)
{
    uint32_t          since;
    ngx_queue_t      *q;
    ngx_oci_probe_t  *probe;

    since = ngx_oci_refs_changes(cache, ctx->registry, &ctx->repository);

    for (q = ngx_queue_head(&ngx_oci_probes);
         q != ngx_queue_sentinel(&ngx_oci_probes);
         q = ngx_queue_next(q))
    {
        probe = ngx_queue_data(q, ngx_oci_probe_t, queue);

        if (probe->cache == cache
            && probe->since == since
            && probe->ex->method == method
            && probe->registry == ctx->registry
            && ngx_oci_digest_equal(&probe->digest, &ctx->route.digest)
            && probe->repository.len == ctx->repository.len
            && probe->authorization.len == ctx->authorization.len
            && ngx_memcmp(probe->repository.data, ctx->repository.data,
                          ctx->repository.len)
               == 0
            && ngx_memcmp(probe->authorization.data, ctx->authorization.data,
                          ctx->authorization.len)
               == 0)
        {
            return probe;
        }
    }

    return NULL;
}


static ngx_oci_probe_t *
ngx_oci_probe_create(ngx_oci_cache_t *cache, ngx_oci_ctx_t *ctx,
    ngx_uint_t method, off_t size)
{
    u_char              *p;
    ngx_oci_probe_t     *probe;
    ngx_oci_registry_t  *registry;
    ngx_oci_exchange_t  *ex;

    registry = ctx->registry;

    ex = ngx_oci_core.exchange_create(registry, ngx_cycle->log);
    if (ex == NULL) {
        return NULL;
    }

    probe = ngx_pcalloc(ex->pool, sizeof(ngx_oci_probe_t));
    if (probe == NULL) {
        goto failed;
    }

    ngx_queue_init(&probe->waiters);
    probe->cache = cache;
    probe->since = ngx_oci_refs_changes(cache, registry, &ctx->repository);
    probe->registry = registry;
    probe->digest = ctx->route.digest;
    probe->size = size;
    probe->result.rc = NGX_DECLINED;
    probe->result.size = -1;
    probe->started = ngx_time();

    if (ngx_oci_probe_dup(ex->pool, &probe->repository, &ctx->repository)
        != NGX_OK
        || ngx_oci_probe_dup(ex->pool, &probe->reference,
                             &ctx->route.reference)
           != NGX_OK
        || ngx_oci_probe_dup(ex->pool, &probe->authorization,
                             &ctx->authorization)
           != NGX_OK)
    {
        goto failed;
    }

    ex->uri.data = ngx_pnalloc(ex->pool, sizeof("/v2//blobs/") - 1
                                         + probe->repository.len
                                         + NGX_OCI_DIGEST_LEN);
    if (ex->uri.data == NULL) {
        goto failed;
    }

    p = ngx_sprintf(ex->uri.data, "/v2/%V/blobs/", &probe->repository);
    p = ngx_oci_digest_print(p, &probe->digest);
    ex->uri.len = p - ex->uri.data;

    ex->method = method;
    ex->repository = probe->repository;
    ex->credentials = registry->credentials;
    ex->stored = registry->stored;
    ex->authorization = probe->authorization;
    ex->data = probe;
    ex->header = ngx_oci_probe_header;
    ex->buffer = ngx_oci_probe_buffer;
    ex->received = ngx_oci_probe_received;
    ex->done = ngx_oci_probe_done;

    if (method == NGX_HTTP_GET) {
        ex->range_start = 0;
        ex->range_end = 1;
    }

    probe->ex = ex;

    if (ngx_oci_core.exchange_start(ex) != NGX_OK) {
        return NULL;
    }

    ngx_queue_insert_head(&ngx_oci_probes, &probe->queue);

    return probe;

failed:

    ngx_oci_core.exchange_abort(ex);

    return NULL;
}


static ngx_int_t
ngx_oci_probe_dup(ngx_pool_t *pool, ngx_str_t *dst, ngx_str_t *src)
{
    dst->len = 0;

    if (src->len == 0) {
        dst->data = (u_char *) "";
        return NGX_OK;
    }

    dst->data = ngx_pstrdup(pool, src);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    dst->len = src->len;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_probe_header(ngx_oci_exchange_t *ex)
{
    ngx_oci_probe_t *probe = ex->data;

    off_t  size;

    probe->result.status = ex->in.status;

    if (ex->in.status != NGX_HTTP_OK
        && (ex->in.status != NGX_HTTP_PARTIAL_CONTENT
            || ex->method == NGX_HTTP_HEAD))
    {
        return NGX_ERROR;
    }

    /* who knows ranges is the registry, whatever it says of the type */

    if (ex->in.status == NGX_HTTP_OK
        && ngx_oci_type_is_page(&ex->in.content_type))
    {
        return ngx_oci_probe_refuse(probe, "it is a page");
    }

    size = ex->in.content_length;

    if (ex->in.status == NGX_HTTP_PARTIAL_CONTENT) {

        if (ex->in.range_start != 0 || ex->in.range_end != 1
            || ex->in.range_total == 0)
        {
            return ngx_oci_probe_refuse(probe, "another Content-Range");
        }

        size = ex->in.range_total;
    }

    if (size == -1) {
        size = probe->size;
    }

    if (size == -1) {
        size = ngx_oci_sizes_get(probe->cache, probe->registry,
                                 &probe->repository, &probe->digest);
        probe->result.claimed = 1;
    }

    if (size <= 0 && !(size == 0 && ex->method == NGX_HTTP_HEAD)) {

        if (ex->in.status == NGX_HTTP_PARTIAL_CONTENT) {
            return ngx_oci_probe_refuse(probe, "no size");
        }

        return NGX_ERROR;
    }

    if (!ngx_oci_probe_fits(probe, size)) {
        return ngx_oci_probe_refuse(probe, "another size");
    }

    probe->result.rc = NGX_OK;
    probe->result.size = size;

    /* the byte is taken, so that the connection is kept; where Range is
       ignored the body is not wanted here */

    return (ex->method == NGX_HTTP_HEAD
            || (ex->in.status == NGX_HTTP_PARTIAL_CONTENT
                && ex->in.content_length > 0
                && ex->in.content_length <= (off_t) sizeof(probe->byte)))
           ? NGX_OK : NGX_ERROR;
}


/*
 * The size of a verified blob is its digest's word.  Who answers a range with
 * a whole something, be it a registry or not, has to know what else is known.
 */

static ngx_uint_t
ngx_oci_probe_fits(ngx_oci_probe_t *probe, off_t size)
{
    off_t       known;
    ngx_uint_t  verified;

    known = ngx_oci_index_size(probe->cache, &probe->digest,
                               ngx_oci_index_origin(probe->registry),
                               &verified);
    if (verified) {
        return size == known;
    }

    /* what a manifest says is no word of the registry's, nor against it */

    if (probe->ex->in.status == NGX_HTTP_PARTIAL_CONTENT
        || probe->result.claimed)
    {
        return 1;
    }

    return (known == -1 || size == known)
           && (probe->size == -1 || size == probe->size);
}


/* neither a proof nor a refusal: as if nobody had answered */

static ngx_int_t
ngx_oci_probe_refuse(ngx_oci_probe_t *probe, const char *reason)
{
    ngx_log_error(NGX_LOG_WARN, probe->ex->log, 0,
                  "upstream's answer to \"%V\" proves nothing: %s",
                  &probe->ex->uri, reason);

    probe->result.status = 0;

    return NGX_ERROR;
}


static ngx_int_t
ngx_oci_probe_buffer(ngx_oci_exchange_t *ex, u_char **p, size_t *size)
{
    ngx_oci_probe_t *probe = ex->data;

    *p = probe->byte;
    *size = sizeof(probe->byte);

    return NGX_OK;
}


static ngx_int_t
ngx_oci_probe_received(ngx_oci_exchange_t *ex, size_t n, ngx_uint_t idle)
{
    ngx_oci_probe_t *probe = ex->data;

    return (ngx_time() - probe->started > NGX_OCI_PROBE_TIME) ? NGX_ERROR
                                                              : NGX_OK;
}


static void
ngx_oci_probe_done(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_probe_t *probe = ex->data;

    ngx_queue_t             list, *q;
    ngx_oci_probe_result_t  result;
    ngx_oci_probe_waiter_t *waiter;

    ngx_queue_remove(&probe->queue);

    if (rc == NGX_BUSY) {
        probe->result.timedout = 1;
    }

    ngx_oci_probe_remember(probe);

    result = probe->result;

    ngx_queue_init(&list);

    if (!ngx_queue_empty(&probe->waiters)) {
        ngx_queue_add(&list, &probe->waiters);
    }

    while (!ngx_queue_empty(&list)) {
        q = ngx_queue_head(&list);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_oci_probe_waiter_t, queue);
        waiter->waiting = 0;
        waiter->handler(waiter->data, &result);
    }
}


static void
ngx_oci_probe_remember(ngx_oci_probe_t *probe)
{
    time_t         age;
    ngx_oci_ref_t  ref;

    if (probe->result.rc == NGX_OK) {

        /* HEAD proves nothing where a registry is itself a proxy */

        if (probe->ex->method == NGX_HTTP_HEAD) {
            return;
        }

        ngx_memzero(&ref, sizeof(ngx_oci_ref_t));

        ref.digest = probe->digest;
        ref.size = probe->result.claimed ? -1 : probe->result.size;
        ref.checked = ngx_time();

        ngx_oci_refs_store(probe->cache, NGX_OCI_REFS_BLOB, probe->registry,
                           &probe->repository, &probe->reference, &ref,
                           probe->since, ngx_cycle->log);

        /* the registry's own credentials prove nothing for a caller */

        if (probe->registry->credentials == NGX_OCI_CREDENTIALS_CLIENT) {
            ngx_oci_refs_grant(probe->cache, probe->registry,
                               &probe->repository, &probe->authorization);
        }

        return;
    }

    switch (probe->result.status) {

    case NGX_HTTP_NOT_FOUND:
    case 410:

        /* to strangers it may only be hidden */

        if (probe->registry->credentials == NGX_OCI_CREDENTIALS_CLIENT
            && ngx_oci_refs_right(probe->cache, probe->registry,
                                  &probe->repository, &probe->authorization,
                                  &age)
               != NGX_OK)
        {
            break;
        }

        ngx_oci_refs_remove(probe->cache, NGX_OCI_REFS_BLOB, probe->registry,
                            &probe->repository, &probe->reference,
                            ngx_cycle->log);
        break;

    case NGX_HTTP_UNAUTHORIZED:
    case NGX_HTTP_FORBIDDEN:
        ngx_oci_refs_revoke(probe->cache, probe->registry,
                            &probe->repository, &probe->authorization);
        break;
    }
}
