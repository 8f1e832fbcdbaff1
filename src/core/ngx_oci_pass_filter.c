
/*
 * Copyright (C) The nginx-oci authors
 *
 * The answers to what oci_pass passes on: what has to change in them, so that
 * clients stay on the edge, and what they tell of the registry.
 */


#include "ngx_oci_health.h"


static void ngx_oci_pass_answer(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_str_t *retry_after);
static void ngx_oci_pass_changed(ngx_http_request_t *r, ngx_oci_ctx_t *ctx);
static ngx_int_t ngx_oci_pass_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_oci_pass_header_line(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_table_elt_t *h);
static void ngx_oci_pass_refused(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_loc_conf_t *olcf);
static ngx_int_t ngx_oci_pass_challenge(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_oci_loc_conf_t *olcf, ngx_table_elt_t *h);
static ngx_int_t ngx_oci_pass_rewrite(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_str_t *value);
static ngx_int_t ngx_oci_pass_rewrite_link(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_str_t *value);
static ngx_uint_t ngx_oci_pass_own_origin(ngx_oci_registry_t *registry,
    ngx_oci_url_t *url);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;


/* what the registry's header tells of it; a limit, if it was a pull */

static void
ngx_oci_pass_answer(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_str_t *retry_after)
{
    /* else it is an error of the core's own */

    if (r->upstream->headers_in.status_n == 0) {
        return;
    }

    ngx_oci_health_answered(ctx->registry);

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))
        || (ctx->route.route != NGX_OCI_ROUTE_BLOB
            && ctx->route.route != NGX_OCI_ROUTE_MANIFEST
            && ctx->route.route != NGX_OCI_ROUTE_TAG))
    {
        return;
    }

    ngx_oci_health_answer(ctx->registry,
                    ngx_oci_health_account(ctx->registry,
                                           ctx->registry->credentials, NULL,
                                           &ctx->authorization),
                    &ctx->repository, r->headers_out.status, retry_after);
}


void
ngx_oci_pass_init_filter(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_oci_pass_header_filter;

    ngx_oci_unseen_init_filter();
}


/* what the registry accepted is news for a cache before it is for a client */

static void
ngx_oci_pass_changed(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    ngx_oci_main_conf_t  *omcf;

    if (!(r->method & (NGX_HTTP_PUT|NGX_HTTP_DELETE))
        || r->headers_out.status < NGX_HTTP_OK
        || r->headers_out.status >= NGX_HTTP_SPECIAL_RESPONSE)
    {
        return;
    }

    omcf = ngx_http_get_module_main_conf(r, ngx_http_oci_module);

    if (omcf->changed == NULL) {
        return;
    }

    switch (ctx->route.route) {

    case NGX_OCI_ROUTE_BLOB:
    case NGX_OCI_ROUTE_MANIFEST:
    case NGX_OCI_ROUTE_TAG:
        omcf->changed(r, ctx);
        break;
    }
}


/* what was known before goes first */

static void
ngx_oci_pass_pushed(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    ngx_oci_main_conf_t  *omcf;

    ngx_oci_pass_changed(r, ctx);

    omcf = ngx_http_get_module_main_conf(r, ngx_http_oci_module);

    if (omcf->pushed
        && (r->method & (NGX_HTTP_POST|NGX_HTTP_PUT|NGX_HTTP_PATCH
                         |NGX_HTTP_DELETE)))
    {
        omcf->pushed(r, ctx);
    }
}


/* URLs; NGX_OK, NGX_DECLINED: it is something else, or NGX_ERROR */

static ngx_int_t
ngx_oci_pass_header_line(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_table_elt_t *h)
{
    ngx_int_t  rc;

    if (h->key.len == 8
        && ngx_strncasecmp(h->key.data, (u_char *) "Location", 8) == 0)
    {
        rc = ngx_oci_pass_rewrite(r, ctx, &h->value);

        if (h->value.len && h->value.data[0] == '/') {
            r->headers_out.location = NULL;
        }

        return rc;
    }

    /* the edge's own pulls go by this one: it says what is stored here */

    if (h->key.len == 12
        && ngx_strncasecmp(h->key.data, (u_char *) "Cache-Status", 12) == 0
        && ngx_oci_pull_own(r) != NGX_OCI_PULL_NOT)
    {
        h->hash = 0;
        return NGX_OK;
    }

    if (h->key.len == 4
        && ngx_strncasecmp(h->key.data, (u_char *) "Link", 4) == 0)
    {
        return ngx_oci_pass_rewrite_link(r, ctx, &h->value);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_oci_pass_header_filter(ngx_http_request_t *r)
{
    ngx_str_t            retry_after, challenge;
    ngx_uint_t           i, challenges;
    ngx_oci_ctx_t       *ctx;
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h;
    ngx_oci_loc_conf_t  *olcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    if (ctx && ctx->unseen) {
        return (ngx_oci_unseen_header(r, ctx) == NGX_OK)
               ? ngx_http_next_header_filter(r) : NGX_ERROR;
    }

    if (ngx_oci_response_passed(r) != NGX_OK) {
        r->upstream->headers_in.status_n = 0;
        ngx_http_clean_header(r);
        return NGX_HTTP_BAD_GATEWAY;
    }

    if (r != r->main || ctx == NULL
        || ctx->cache_status != NGX_OCI_CACHE_BYPASS || r->upstream == NULL)
    {
        return ngx_http_next_header_filter(r);
    }

    if (ctx->judge && ngx_oci_unseen(r, ctx)) {
        ngx_http_clean_header(r);
        return NGX_HTTP_PRECONDITION_FAILED;
    }

    ngx_str_null(&retry_after);
    ngx_str_null(&challenge);
    challenges = 0;

    ngx_oci_pass_pushed(r, ctx);

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    part = &r->headers_out.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].hash == 0) {
            continue;
        }

        if (h[i].key.len == 16
            && ngx_strncasecmp(h[i].key.data,
                               (u_char *) "WWW-Authenticate", 16)
               == 0)
        {
            challenge = h[i].value;
            challenges++;

            if (ngx_oci_pass_challenge(r, ctx, olcf, &h[i]) != NGX_OK) {
                return NGX_ERROR;
            }

        } else if (h[i].key.len == 11
                   && ngx_strncasecmp(h[i].key.data,
                                      (u_char *) "Retry-After", 11)
                      == 0)
        {
            retry_after = h[i].value;

        } else if (ngx_oci_pass_header_line(r, ctx, &h[i]) == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    ngx_oci_pass_answer(r, ctx, &retry_after);

    if (r->upstream->headers_in.status_n && challenges <= 1) {
        ngx_oci_ping_remember(r, ctx, &challenge);
    }

    if (r->headers_out.status == NGX_HTTP_UNAUTHORIZED
        && ctx->registry->credentials == NGX_OCI_CREDENTIALS_STORED)
    {
        ngx_oci_pass_refused(r, ctx, olcf);
    }

    if (ngx_oci_ping_stale(r, ctx, r->headers_out.status) == NGX_ERROR) {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


/* a token that was revoked is not used again */

static void
ngx_oci_pass_refused(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_loc_conf_t *olcf)
{
    ngx_oci_auth_refused(ctx->registry, &ctx->upstream_authorization);

    /* (nobody's may be refused, as often as clients like) */

    if (olcf->policy || ctx->registry->stored) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "oci_registry \"%V\" refuses the edge's own "
                      "credentials", &ctx->registry->name);
    }

    if (olcf->policy == NULL) {
        return;
    }

    /* the client's own were right */

    r->headers_out.status = NGX_HTTP_BAD_GATEWAY;
    r->headers_out.status_line.len = 0;
}


/* the realm is pointed at the edge */

static ngx_int_t
ngx_oci_pass_challenge(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_loc_conf_t *olcf, ngx_table_elt_t *h)
{
    if (olcf->policy == NULL) {
        return ngx_oci_token_rewrite(r, ctx->registry, &h->value);
    }

    /* it isn't for the client, who would take its own credentials there */

    h->hash = 0;
    r->headers_out.www_authenticate = NULL;

    return NGX_OK;
}


/* a request that was passed on has ended; as ngx_oci_health_hop_done() */

void
ngx_oci_pass_log(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u == NULL || u->state == NULL || u->headers_in.status_n) {
        return;
    }

    /* a client that left has no status here */

    if (u->state->status == NGX_HTTP_GATEWAY_TIME_OUT) {
        ngx_oci_health_failed(ctx->registry, ctx->passed, 1);

    } else if (u->state->status == NGX_HTTP_BAD_GATEWAY
               && ngx_oci_health_unconnected(u))
    {
        ngx_oci_health_failed(ctx->registry, ctx->passed, 0);
    }
}


/*
 * A URL of the registry's API becomes a path, with the repository's name at
 * the edge.  NGX_OK; NGX_DECLINED: not one of those; NGX_ERROR: no memory.
 */

static ngx_int_t
ngx_oci_pass_rewrite(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_str_t *value)
{
    u_char              *p, buf[NGX_OCI_DIGEST_LEN], *rest;
    ngx_str_t            uri, path;
    ngx_uint_t           i, code;
    ngx_oci_url_t        url;
    ngx_oci_route_t      route;
    ngx_oci_path_map_t  *map;

    if (ngx_oci_url_parse(value, &url) != NGX_OK) {
        return NGX_DECLINED;
    }

    uri = url.uri;

    if (uri.len < 4 || ngx_strncmp(uri.data, "/v2/", 4) != 0) {
        return NGX_DECLINED;
    }

    if (url.absolute && !ngx_oci_pass_own_origin(ctx->registry, &url)) {
        return NGX_DECLINED;
    }

    *value = uri;

    if (ctx->registry->paths == NULL
        || ngx_oci_route_parse(&route, &uri, buf, &code) != NGX_OK
        || route.repository.len == 0)
    {
        return NGX_OK;
    }

    map = ctx->registry->paths->elts;

    for (i = 0; i < ctx->registry->paths->nelts; i++) {
        if (ngx_oci_path_match(&route.repository, &map[i].to)) {
            break;
        }
    }

    if (i == ctx->registry->paths->nelts) {
        return NGX_OK;
    }

    path.data = ngx_pnalloc(r->pool, uri.len + map[i].from.len + 2);
    if (path.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(path.data, "/v2/", 4);
    p = ngx_oci_path_replace(p, &route.repository, &map[i].to, &map[i].from);

    rest = route.repository.data + route.repository.len;
    p = ngx_cpymem(p, rest, uri.data + uri.len - rest);

    path.len = p - path.data;
    *value = path;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_pass_rewrite_link(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_str_t *value)
{
    u_char     *p, *rest;
    ngx_int_t   rc;
    ngx_str_t   target, link;

    if (ngx_oci_link_parse(value, &target) != NGX_OK) {
        return NGX_DECLINED;
    }

    rest = target.data + target.len;

    rc = ngx_oci_pass_rewrite(r, ctx, &target);

    if (rc != NGX_OK) {
        return rc;
    }

    link.len = 1 + target.len + (value->data + value->len - rest);
    link.data = ngx_pnalloc(r->pool, link.len);
    if (link.data == NULL) {
        return NGX_ERROR;
    }

    link.data[0] = '<';
    p = ngx_cpymem(link.data + 1, target.data, target.len);
    ngx_memcpy(p, rest, value->data + value->len - rest);

    *value = link;

    return NGX_OK;
}


/* is it the registry, as we call it, under its own name or public_url?  One
   behind a TLS proxy may not know that it is https */

static ngx_uint_t
ngx_oci_pass_own_origin(ngx_oci_registry_t *registry, ngx_oci_url_t *url)
{
    ngx_oci_url_t  other;

    if (ngx_oci_auth_own_origin(registry, url)) {
        return 1;
    }

    other = *url;

    if (url->scheme.len == 5) {
        ngx_str_set(&other.scheme, "http");
        other.port = (url->port == 443) ? 80 : url->port;

    } else {
        ngx_str_set(&other.scheme, "https");
        other.port = (url->port == 80) ? 443 : url->port;
    }

    return ngx_oci_auth_own_origin(registry, &other);
}
