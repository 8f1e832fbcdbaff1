
/*
 * Copyright (C) The nginx-oci authors
 *
 * GET /v2/, which many clients ask for before anything else, and without
 * credentials: what the registry said last is remembered, so that they come to
 * what the cache has while the registry can't be asked.
 */


#include "ngx_oci_health.h"


static ngx_uint_t ngx_oci_ping_plain(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx);
static ngx_int_t ngx_oci_ping_challenge(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_str_t *challenge);


/* whoever else asks the same is answered the same */

static ngx_uint_t
ngx_oci_ping_plain(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    return ctx->route.route == NGX_OCI_ROUTE_PING
           && (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))
           && (ctx->registry->credentials == NGX_OCI_CREDENTIALS_STORED
               || ctx->authorization.len == 0);
}


void
ngx_oci_ping_remember(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_str_t *challenge)
{
    ngx_uint_t         status;
    ngx_oci_health_t  *h;

    status = r->headers_out.status;

    if (!ngx_oci_ping_plain(r, ctx)
        || challenge->len > NGX_OCI_HEALTH_CHALLENGE
        || (status == NGX_HTTP_UNAUTHORIZED ? challenge->len == 0
                                            : status != NGX_HTTP_OK))
    {
        return;
    }

    h = ngx_oci_health_lock(ctx->registry);
    if (h == NULL) {
        return;
    }

    h->ping.status = 0;
    h->ping.len = (uint32_t) challenge->len;

    if (challenge->len) {
        ngx_memcpy(h->ping.challenge, challenge->data, challenge->len);
    }

    h->ping.when = ngx_time();
    h->ping.status = (uint32_t) status;

    ngx_oci_health_unlock();
}


ngx_int_t
ngx_oci_ping_stale(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_uint_t status)
{
    u_char                text[NGX_OCI_HEALTH_CHALLENGE];
    time_t                age, max;
    ngx_str_t             challenge;
    ngx_uint_t            known;
    ngx_oci_health_t     *h;
    ngx_oci_main_conf_t  *omcf;

    omcf = ngx_http_get_module_main_conf(r, ngx_http_oci_module);

    if (r != r->main || omcf->stale == NULL || !ngx_oci_ping_plain(r, ctx)) {
        return NGX_DECLINED;
    }

    max = omcf->stale(r, status);

    h = max ? ngx_oci_health_lock(ctx->registry) : NULL;
    if (h == NULL) {
        return NGX_DECLINED;
    }

    known = h->ping.status;
    age = ngx_time() - h->ping.when;
    challenge.data = text;
    challenge.len = ngx_min(h->ping.len, NGX_OCI_HEALTH_CHALLENGE);
    ngx_memcpy(text, h->ping.challenge, challenge.len);

    ngx_oci_health_unlock();

    if (known == 0 || age > max) {
        return NGX_DECLINED;
    }

    if (ngx_oci_ping_challenge(r, ctx, &challenge) != NGX_OK) {
        return NGX_ERROR;
    }

    ctx->cache_status = NGX_OCI_CACHE_STALE;

    /* (an error page may be about to be sent: this is its header, and all of
       it) */

    if (r->err_status) {
        r->err_status = known;
    }

    r->headers_out.status = known;
    r->headers_out.status_line.len = 0;
    r->headers_out.content_length_n = 0;
    r->header_only = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_ping_challenge(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_str_t *challenge)
{
    ngx_str_t         value;
    ngx_table_elt_t  *h;

    ngx_http_clean_header(r);

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "Docker-Distribution-Api-Version");
    ngx_str_set(&h->value, "registry/2.0");

    if (challenge->len == 0) {
        return NGX_OK;
    }

    value.len = challenge->len;
    value.data = ngx_pstrdup(r->pool, challenge);

    if (value.data == NULL
        || ngx_oci_token_rewrite(r, ctx->registry, &value) != NGX_OK)
    {
        return NGX_ERROR;
    }

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "WWW-Authenticate");
    h->value = value;

    return NGX_OK;
}
