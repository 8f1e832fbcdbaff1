
/*
 * Copyright (C) The nginx-oci authors
 *
 * A push on its way through: which of its requests are copied, as parts of
 * what.
 */


#include "ngx_oci_push.h"
#include "ngx_oci_open.h"


#define NGX_OCI_PUSH_POLL    5          /* ms between looks whether the request
                                           before is done */


static void ngx_oci_push_upload(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_cache_t *cache);
static ngx_oci_push_t *ngx_oci_push_create(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_oci_cache_t *cache);
static ngx_int_t ngx_oci_push_ask(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_push_t *up);
static ngx_int_t ngx_oci_push_attach(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_oci_push_t *up);
static ngx_int_t ngx_oci_push_get(ngx_oci_push_t *up);
static void ngx_oci_push_wait(ngx_event_t *ev);
static void ngx_oci_push_look(ngx_oci_push_t *up);
static void ngx_oci_push_cleanup(void *data);


char *
ngx_oci_push_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_cache_loc_conf_t *ocf = conf;

    ngx_str_t  *value;

    if (ocf->push != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "upstream") == 0) {
        ocf->push = 0;

    } else if (ngx_strcmp(value[1].data, "both") == 0) {
        ocf->push = 1;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid value \"%V\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    ocf->push_file = cf->conf_file->file.name.data;
    ocf->push_line = cf->conf_file->line;

    return NGX_CONF_OK;
}


/* a request with a body is about to be passed on */

void
ngx_oci_push_begin(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    ngx_oci_cache_t           *cache;
    ngx_oci_push_ctx_t        *pctx;
    ngx_oci_cache_loc_conf_t  *ocf;

    ocf = ngx_http_get_module_loc_conf(r, ngx_http_oci_cache_module);
    cache = ocf->cache;

    if (!ocf->push || cache == NULL || r != r->main
        || ngx_oci_index_broken(cache)
        || ngx_oci_doorbell_slot(cache) < 0
        || ngx_oci_dir_state(cache) != NGX_OCI_DIR_OK
        || __atomic_load_n(&cache->index->bypass, __ATOMIC_RELAXED)
           > ngx_time()
        || ctx->push)
    {
        return;
    }

    switch (ctx->route.route) {

    case NGX_OCI_ROUTE_UPLOAD:
        ngx_oci_push_upload(r, ctx, cache);
        break;

    case NGX_OCI_ROUTE_MANIFEST:
    case NGX_OCI_ROUTE_TAG:
        if (r->method != NGX_HTTP_PUT) {
            break;
        }

        pctx = ngx_pcalloc(r->pool, sizeof(ngx_oci_push_ctx_t));

        if (pctx) {
            pctx->manifest = ngx_oci_push_manifest(r, ctx, cache);
            ctx->push = pctx;
        }

        break;
    }
}


static void
ngx_oci_push_upload(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_cache_t *cache)
{
    ngx_oci_push_t  *up;

    /* what only begins an upload, or mounts, has nothing to be copied */

    if (r->method == NGX_HTTP_POST
        && ((r->headers_in.content_length_n <= 0 && !r->headers_in.chunked)
            || ngx_oci_push_arg(&ctx->route.args, "mount")))
    {
        return;
    }

    up = ngx_oci_push_create(r, ctx, cache);
    if (up == NULL) {
        return;
    }

    if (ngx_oci_push_ask(r, ctx, up) != NGX_OK
        || ngx_oci_push_attach(r, ctx, up) != NGX_OK)
    {
        ngx_destroy_pool(up->pool);
        return;
    }

    switch (ngx_oci_push_get(up)) {

    case NGX_OK:
        break;

    case NGX_AGAIN:
        up->waiting = 1;
        up->refs++;
        up->since_held = ngx_current_msec;
        ngx_add_timer(&up->timer, NGX_OCI_PUSH_POLL);
        break;

    default:
        up->failed = 1;
    }
}


static ngx_oci_push_t *
ngx_oci_push_create(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_cache_t *cache)
{
    ngx_pool_t      *pool;
    ngx_oci_push_t  *up;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    up = ngx_pcalloc(pool, sizeof(ngx_oci_push_t));
    if (up == NULL) {
        goto failed;
    }

    up->pool = pool;
    up->refs = 1;
    up->r = r;
    up->cache = cache;
    up->registry = ctx->registry;
    up->origin = ngx_oci_index_origin(ctx->registry);
    up->fd = -1;
    up->map = -1;
    up->start = -1;

    up->repository.len = ctx->repository.len;
    up->repository.data = ngx_pstrdup(pool, &ctx->repository);
    if (up->repository.data == NULL) {
        goto failed;
    }

    ngx_oci_refs_seen(cache, ctx->registry, &ctx->repository, &up->seen);

    up->dummy.fd = (ngx_socket_t) -1;
    up->dummy.data = up;
    up->timer.data = &up->dummy;
    up->timer.handler = ngx_oci_push_wait;
    up->timer.log = ngx_cycle->log;

    up->task.data = up;
    up->task.bulk = 1;

    return up;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


/* what the request says of itself; NGX_DECLINED: it can't be copied */

static ngx_int_t
ngx_oci_push_ask(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_push_t *up)
{
    off_t             end;
    ngx_table_elt_t  *h;

    if (!ngx_oci_push_plain(&ctx->route.args)) {
        return NGX_DECLINED;
    }

    /* of a form registries take the arguments first, and have no blob */

    h = r->headers_in.content_type;

    if (h && ngx_strlcasestrn(h->value.data, h->value.data + h->value.len,
                              (u_char *) "form-", sizeof("form-") - 2)
             != NULL)
    {
        return NGX_DECLINED;
    }

    if ((r->method & (NGX_HTTP_POST|NGX_HTTP_PUT))
        && ngx_oci_push_digest(&ctx->route.args, &up->digest) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    if (r->method != NGX_HTTP_POST) {
        ngx_oci_push_key(up->key, ctx->registry, &ctx->uri);
    }

    h = ngx_oci_header_find(&r->headers_in.headers, NULL, "Content-Range");

    if (h && (ngx_oci_push_range(&h->value, &up->start, &end) != NGX_OK
              || (r->headers_in.content_length_n > 0
                  && end - up->start != r->headers_in.content_length_n)))
    {
        return NGX_DECLINED;
    }

    /* then no filter is called */

    up->body = (r->headers_in.content_length_n < 0 && !r->headers_in.chunked);

    up->alg = up->digest.alg ? up->digest.alg : NGX_OCI_SHA256;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_push_attach(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_push_t *up)
{
    ngx_http_cleanup_t  *cln;
    ngx_oci_push_ctx_t  *pctx;

    pctx = ngx_pcalloc(r->pool, sizeof(ngx_oci_push_ctx_t));
    cln = pctx ? ngx_http_cleanup_add(r, 0) : NULL;

    if (cln == NULL) {
        return NGX_ERROR;
    }

    pctx->upload = up;
    up->pctx = pctx;
    ctx->push = pctx;

    cln->handler = ngx_oci_push_cleanup;
    cln->data = up;

    return NGX_OK;
}


/*
 * What it is a part of, or a new copy.  NGX_OK; NGX_AGAIN: the request before
 * it is not done yet; NGX_DECLINED: it is not copied.
 */

static ngx_int_t
ngx_oci_push_get(ngx_oci_push_t *up)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = up->r;
    rc = NGX_DECLINED;

    if (r == NULL || r->method != NGX_HTTP_POST) {
        rc = ngx_oci_push_take(up);
    }

    if (rc == NGX_AGAIN || rc == NGX_BUSY) {
        return rc;
    }

    if (rc == NGX_OK) {
        up->begun = 1;
        up->known = 1;
        up->pos = up->written;

        if (up->start != -1 && (uint64_t) up->start != up->pos) {

            /* out of order, or sent again */

            return NGX_DECLINED;
        }

    } else {

        if (r == NULL || up->start > 0
            || (r->headers_in.content_length_n <= 0
                && !r->headers_in.chunked))
        {
            return NGX_DECLINED;
        }

        if (ngx_oci_push_new(up) != NGX_OK) {
            return NGX_DECLINED;
        }

        up->begun = 1;
        ngx_oci_push_hash_init(up);
    }

    if (up->digest.alg && up->digest.alg != up->alg) {
        return NGX_DECLINED;
    }

    if (r && r->headers_in.content_length_n > 0) {
        up->expected = up->pos + r->headers_in.content_length_n;
    }

    return NGX_OK;
}


/* a timer: has the request before this one ended?  Is it held for too long? */

static void
ngx_oci_push_wait(ngx_event_t *ev)
{
    ngx_msec_t         held;
    ngx_oci_push_t    *up;
    ngx_connection_t  *c;

    c = ev->data;
    up = c->data;

    if (up->waiting) {
        up->refs++;
        ngx_oci_push_look(up);
        ngx_oci_push_unref(up);
        return;
    }

    if (up->held == NULL || up->failed) {
        return;
    }

    held = ngx_current_msec - up->since_held;

    if (held < NGX_OCI_PUSH_PATIENCE) {
        ngx_add_timer(ev, NGX_OCI_PUSH_PATIENCE - held);
        return;
    }

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "the copy of a push in \"%V\" takes too long: it goes to "
                  "the registry only", &up->cache->path->name);

    ngx_oci_push_fail(up);
}


static void
ngx_oci_push_look(ngx_oci_push_t *up)
{
    ngx_int_t  rc;

    rc = ngx_oci_push_get(up);

    if (rc == NGX_AGAIN
        && ngx_current_msec - up->since_held < NGX_OCI_PUSH_PATIENCE)
    {
        ngx_add_timer(&up->timer, NGX_OCI_PUSH_POLL);
        return;
    }

    ngx_oci_push_unwait(up);

    if (rc != NGX_OK) {
        ngx_oci_push_fail(up);

    } else if (up->held) {
        up->since_held = ngx_current_msec;
        ngx_add_timer(&up->timer, NGX_OCI_PUSH_PATIENCE);
        ngx_oci_push_release(up);
    }

    ngx_oci_push_go_on(up);
}


/* the caller has another reference */

void
ngx_oci_push_unwait(ngx_oci_push_t *up)
{
    if (!up->waiting) {
        return;
    }

    up->waiting = 0;
    up->refs--;

    if (up->timer.timer_set) {
        ngx_del_timer(&up->timer);
    }
}


static void
ngx_oci_push_cleanup(void *data)
{
    ngx_oci_push_t *up = data;

    up->pctx->upload = NULL;

    up->r = NULL;
    up->held = NULL;

    if (up->outcome == NGX_OCI_PUSH_UNDECIDED) {

        /* the client left, or nobody answered */

        ngx_oci_push_over(up);
    }

    ngx_oci_push_go_on(up);
    ngx_oci_push_unref(up);
}


void
ngx_oci_push_unref(ngx_oci_push_t *up)
{
    ngx_uint_t  i;

    if (--up->refs) {
        return;
    }

    if (up->timer.timer_set) {
        ngx_del_timer(&up->timer);
    }

    if (up->map != -1) {
        close(up->map);
    }

    if (up->fd != -1) {
        close(up->fd);
    }

    for (i = 0; i < NGX_OCI_PUSH_BUFFERS; i++) {
        if (up->bufs[i].data) {
            ngx_free(up->bufs[i].data);
        }
    }

    ngx_destroy_pool(up->pool);
}
