
/*
 * Copyright (C) The nginx-oci authors
 *
 * The Authorization value of requests that are passed on.
 */


#include "ngx_oci_auth.h"


/* a request that waits; in its pool */

typedef struct {
    ngx_oci_auth_waiter_t     waiter;
    ngx_http_request_t       *request;
    ngx_oci_ctx_t            *ctx;
    ngx_str_t                 scope;
    void                    (*handler)(ngx_http_request_t *r, ngx_int_t rc);
} ngx_oci_auth_request_t;


static ngx_int_t ngx_oci_auth_request_scope(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_str_t *scope);
static ngx_int_t ngx_oci_auth_mount(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_str_t *from);
static ngx_int_t ngx_oci_auth_request_value(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_str_t *scope);
static void ngx_oci_auth_request_done(void *data, ngx_int_t rc);
static void ngx_oci_auth_request_cleanup(void *data);


ngx_int_t
ngx_oci_auth_request(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    void (*handler)(ngx_http_request_t *r, ngx_int_t rc))
{
    ngx_int_t                rc;
    ngx_str_t                challenge;
    ngx_http_cleanup_t      *cln;
    ngx_oci_auth_key_t       key;
    ngx_oci_auth_request_t  *wait;

    wait = ngx_pcalloc(r->pool, sizeof(ngx_oci_auth_request_t));

    if (wait == NULL
        || ngx_oci_auth_request_scope(r, ctx, &wait->scope) != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_oci_auth_request_value(r, ctx, &wait->scope);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_oci_auth_request_cleanup;
    cln->data = wait;

    wait->request = r;
    wait->ctx = ctx;
    wait->handler = handler;
    wait->waiter.handler = ngx_oci_auth_request_done;
    wait->waiter.data = wait;

    ngx_memzero(&key, sizeof(ngx_oci_auth_key_t));
    ngx_str_null(&challenge);

    key.registry = ctx->registry;
    key.credentials = ctx->registry->stored;
    key.scope = wait->scope;

    return ngx_oci_auth_start(&key, &challenge, &wait->waiter);
}


static ngx_int_t
ngx_oci_auth_request_scope(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_str_t *scope)
{
    u_char      *p;
    ngx_int_t    rc;
    ngx_str_t    from;
    const char  *actions;

    ngx_str_set(scope, "");

    if (ctx->repository.len == 0) {

        if (ctx->route.route == NGX_OCI_ROUTE_OTHER
            && r->unparsed_uri.len >= sizeof("/v2/_catalog") - 1
            && ngx_strncmp(r->unparsed_uri.data, "/v2/_catalog",
                           sizeof("/v2/_catalog") - 1)
               == 0)
        {
            *scope = ngx_oci_auth_catalog;
        }

        return NGX_OK;
    }

    ngx_str_null(&from);

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        actions = "pull";

    } else if (r->method & NGX_HTTP_DELETE) {
        actions = "pull,push,delete";

    } else {
        actions = "pull,push";

        rc = ngx_oci_auth_mount(r, ctx, &from);
        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    p = ngx_pnalloc(r->pool, sizeof("repository::pull,push,delete"
                                    " repository::pull")
                             + ctx->repository.len + from.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    scope->data = p;
    p = ngx_sprintf(p, "repository:%V:%s", &ctx->repository, actions);

    if (from.len) {
        p = ngx_sprintf(p, " repository:%V:pull", &from);
    }

    scope->len = p - scope->data;

    return NGX_OK;
}


/* the other repository of a mount, at the upstream; NGX_DECLINED: none */

static ngx_int_t
ngx_oci_auth_mount(ngx_http_request_t *r, ngx_oci_ctx_t *ctx, ngx_str_t *from)
{
    u_char              *dst, *src;
    ngx_str_t            value;
    ngx_uint_t           i;
    ngx_oci_path_map_t  *map;

    if (ctx->route.route != NGX_OCI_ROUTE_UPLOAD
        || r->method != NGX_HTTP_POST
        || ngx_http_arg(r, (u_char *) "from", 4, &value) != NGX_OK
        || value.len == 0
        || value.len > 3 * NGX_OCI_NAME_MAX)
    {
        return NGX_DECLINED;
    }

    src = value.data;
    dst = ngx_pnalloc(r->pool, value.len);
    if (dst == NULL) {
        return NGX_ERROR;
    }

    value.data = dst;
    ngx_unescape_uri(&dst, &src, value.len, 0);
    value.len = dst - value.data;

    if (ngx_oci_name_valid(value.data, value.len) != NGX_OK) {
        return NGX_DECLINED;
    }

    *from = value;

    if (ctx->registry->paths == NULL) {
        return NGX_OK;
    }

    map = ctx->registry->paths->elts;

    for (i = 0; i < ctx->registry->paths->nelts; i++) {

        if (!ngx_oci_path_match(&value, &map[i].from)) {
            continue;
        }

        from->data = ngx_pnalloc(r->pool, value.len + map[i].to.len + 1);
        if (from->data == NULL) {
            return NGX_ERROR;
        }

        from->len = ngx_oci_path_replace(from->data, &value, &map[i].from,
                                         &map[i].to)
                    - from->data;
        break;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_auth_request_value(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_str_t *scope)
{
    ngx_int_t              rc;
    ngx_oci_auth_value_t  *v;

    v = ngx_oci_auth_find(ctx->registry, ctx->registry->stored, scope);
    if (v == NULL) {
        return NGX_DECLINED;
    }

    rc = ngx_oci_auth_copy(v, r->pool, &ctx->upstream_authorization);

    if (rc == NGX_OK) {
        ctx->authorized = 1;
    }

    return rc;
}


static void
ngx_oci_auth_request_done(void *data, ngx_int_t rc)
{
    ngx_oci_auth_request_t *wait = data;

    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = wait->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (rc == NGX_OK) {
        rc = ngx_oci_auth_request_value(r, wait->ctx, &wait->scope);

        if (rc == NGX_DECLINED) {
            rc = NGX_ERROR;
        }

    } else if (rc == NGX_ERROR && wait->scope.len == 0) {

        /* a token service may give nobody a token without a scope: the
           registry's own challenge is the answer to GET /v2/ then */

        ngx_str_null(&wait->ctx->upstream_authorization);
        wait->ctx->authorized = 1;
        rc = NGX_OK;
    }

    wait->handler(r, rc);

    ngx_http_run_posted_requests(c);
}


static void
ngx_oci_auth_request_cleanup(void *data)
{
    ngx_oci_auth_request_t *wait = data;

    ngx_oci_auth_leave(&wait->waiter);
}
