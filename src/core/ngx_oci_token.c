
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci_token: a location that stands for a registry's token service, so that
 * clients which trust no other host, or can't reach it, log in at the edge.
 * The realm is known at run time only: the proxy module's URL is made of
 * variables, and leads to the registry's group where the realm is its own.
 */


#include "ngx_oci_core.h"


/* where a request goes; in its pool, found by its cleanup handler */

typedef struct {
    ngx_oci_auth_waiter_t     waiter;
    ngx_http_request_t       *request;
    ngx_oci_token_t          *token;
    ngx_str_t                 scheme;
    ngx_str_t                 authority;    /* or the registry's group */
    ngx_str_t                 host;         /* Host, SNI, verified name */
    ngx_str_t                 uri;
    ngx_str_t                 name;         /* of another host; or empty */
    in_port_t                 port;
    ngx_resolver_ctx_t       *resolver;     /* NULL: nothing is under way */
    ngx_int_t                 rc;           /* of resolving */
    ngx_uint_t                starting;     /* it: nothing is done yet with
                                               what comes of it */
} ngx_oci_token_ctx_t;


static char *ngx_oci_token_expand(ngx_conf_t *cf,
    ngx_oci_registry_t *registry);
static ngx_int_t ngx_oci_token_handler(ngx_http_request_t *r);
static ngx_int_t ngx_oci_token_pass(ngx_oci_token_ctx_t *ctx, ngx_int_t rc);
static ngx_int_t ngx_oci_token_answer(ngx_oci_token_ctx_t *ctx,
    ngx_int_t rc);
static ngx_int_t ngx_oci_token_target(ngx_oci_token_ctx_t *ctx,
    ngx_str_t *realm);
static ngx_int_t ngx_oci_token_resolve(ngx_oci_token_ctx_t *ctx);
static void ngx_oci_token_resolved(ngx_resolver_ctx_t *rctx);
static ngx_int_t ngx_oci_token_address(ngx_oci_token_ctx_t *ctx,
    ngx_resolver_ctx_t *rctx);
static void ngx_oci_token_discovered(void *data, ngx_int_t rc);
static void ngx_oci_token_cleanup(void *data);
static ngx_int_t ngx_oci_token_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);


static ngx_http_variable_t  ngx_oci_token_vars[] = {

    { ngx_string("oci_token_scheme"), NULL, ngx_oci_token_variable,
      offsetof(ngx_oci_token_ctx_t, scheme), NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_token_authority"), NULL, ngx_oci_token_variable,
      offsetof(ngx_oci_token_ctx_t, authority), NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_token_host"), NULL, ngx_oci_token_variable,
      offsetof(ngx_oci_token_ctx_t, host), NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_token_uri"), NULL, ngx_oci_token_variable,
      offsetof(ngx_oci_token_ctx_t, uri), NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_oci_token_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_oci_token_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


char *
ngx_oci_token_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_loc_conf_t *olcf = conf;

    ngx_str_t                 *value;
    ngx_oci_token_t           *token;
    ngx_oci_registry_t        *registry;
    ngx_oci_main_conf_t       *omcf;
    ngx_http_core_loc_conf_t  *clcf;

    if (olcf->token) {
        return "is duplicate";
    }

    value = cf->args->elts;
    omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "conflicts with another handler of this location";
    }

    if (ngx_strncmp(value[1].data, "policy=", 7) == 0) {
        value[1].data += 7;
        value[1].len -= 7;

        return ngx_oci_token_policy(cf, olcf, &value[1]);
    }

    registry = ngx_oci_registry_find(omcf, &value[1]);

    if (registry == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "unknown oci_registry \"%V\" (it has to stand "
                           "before oci_token)", &value[1]);
        return NGX_CONF_ERROR;
    }

    token = ngx_pcalloc(cf->pool, sizeof(ngx_oci_token_t));
    if (token == NULL) {
        return NGX_CONF_ERROR;
    }

    token->registry = registry;
    token->name = clcf->name;

    olcf->file = cf->conf_file->file.name.data;
    olcf->line = cf->conf_file->line;

    if (ngx_oci_token_expand(cf, registry) != NGX_CONF_OK
        || ngx_oci_realm_list(cf, token, clcf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    token->proxy = clcf->handler;
    olcf->token = token;

    clcf->handler = ngx_oci_token_handler;
    clcf->auto_redirect = 0;

    /* hops need a location; one of oci_pass replaces this one */

    if (registry->ctx == NULL) {
        registry->ctx = ngx_pcalloc(cf->pool, sizeof(ngx_http_conf_ctx_t));
        if (registry->ctx == NULL) {
            return NGX_CONF_ERROR;
        }

        *registry->ctx = *(ngx_http_conf_ctx_t *) cf->ctx;
    }

    return NGX_CONF_OK;
}


/* nothing of it is written to a disk: it may be secret */

static char *
ngx_oci_token_expand(ngx_conf_t *cf, ngx_oci_registry_t *registry)
{
    u_char     *p;
    ngx_str_t   text;

    text.data = ngx_pnalloc(cf->pool, 2048
                                      + registry->trusted_certificate.len
                                      + ngx_oci_pass_own_size(registry));
    if (text.data == NULL) {
        return NGX_CONF_ERROR;
    }

    p = ngx_sprintf(text.data, "proxy_pass $oci_token_scheme://"
                               "$oci_token_authority$oci_token_uri;");

    p = ngx_oci_pass_line(p, registry, "proxy_http_version", "1.1");
    p = ngx_oci_pass_line(p, registry, "proxy_request_buffering", "off");
    p = ngx_oci_pass_line(p, registry, "proxy_buffering", "off");
    p = ngx_oci_pass_line(p, registry, "proxy_buffer_size", "32k");
    p = ngx_oci_pass_line(p, registry, "proxy_buffers", "4 32k");
    p = ngx_oci_pass_line(p, registry, "proxy_redirect", "off");
    p = ngx_oci_pass_line(p, registry, "proxy_store", "off");
#if (NGX_HTTP_CACHE)
    p = ngx_oci_pass_line(p, registry, "proxy_cache", "off");
#endif
    p = ngx_oci_pass_line(p, registry, "proxy_ignore_headers",
                          "X-Accel-Redirect X-Accel-Buffering "
                          "X-Accel-Limit-Rate X-Accel-Charset "
                          "X-Accel-Expires");
    p = ngx_oci_pass_line(p, registry, "proxy_connect_timeout", "%Mms",
                          registry->connect_timeout);
    p = ngx_oci_pass_line(p, registry, "proxy_read_timeout", "%Mms",
                          registry->stall_timeout);
    p = ngx_oci_pass_line(p, registry, "proxy_send_timeout", "%Mms",
                          registry->stall_timeout);

    /* the realm of a registry without TLS may have it */

#if (NGX_HTTP_SSL)
    p = ngx_oci_pass_line(p, registry, "proxy_ssl_server_name", "on");
    p = ngx_oci_pass_line(p, registry, "proxy_ssl_name", "$oci_token_host");

    if (registry->ssl_verify && registry->trusted_certificate.len) {
        p = ngx_oci_pass_line(p, registry, "proxy_ssl_verify", "on");
        p = ngx_oci_pass_line(p, registry, "proxy_ssl_verify_depth", "4");
        p = ngx_oci_pass_line(p, registry, "proxy_ssl_trusted_certificate",
                              "\"%V\"", &registry->trusted_certificate);
    }
#endif

    p = ngx_sprintf(p, "proxy_set_header Host $oci_token_host;"
                       "proxy_set_header Connection \"\";"
                       "proxy_set_header Accept-Encoding \"\";"
                       "proxy_set_header Cookie \"\";"
                       "proxy_hide_header Set-Cookie;"
                       "proxy_hide_header Upgrade;");

    p = ngx_oci_pass_own_lines(p, registry);

    text.len = p - text.data;

    return ngx_oci_conf_text(cf, &text);
}


static ngx_int_t
ngx_oci_token_handler(ngx_http_request_t *r)
{
    ngx_int_t             rc;
    ngx_http_cleanup_t   *cln;
    ngx_oci_loc_conf_t   *olcf;
    ngx_oci_token_ctx_t  *ctx;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_POST))) {
        return ngx_oci_token_not_allowed(r);
    }

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_oci_token_ctx_t));
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_oci_token_cleanup;
    cln->data = ctx;

    ctx->request = r;
    ctx->token = olcf->token;
    ctx->waiter.handler = ngx_oci_token_discovered;
    ctx->waiter.data = ctx;

    rc = ngx_oci_token_pass(ctx, NGX_OK);

    if (rc != NGX_AGAIN) {
        return rc;
    }

    r->main->count++;
    r->read_event_handler = ngx_http_block_reading;

    return NGX_DONE;
}


ngx_int_t
ngx_oci_token_not_allowed(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "Allow");
    ngx_str_set(&h->value, "GET, HEAD, POST");

    return ngx_oci_error(r, NGX_HTTP_NOT_ALLOWED, NGX_OCI_ERR_UNSUPPORTED,
                         NULL);
}


/*
 * What a content handler returns, or NGX_AGAIN: the realm is being asked
 * for, or its address; rc: how the first went before.
 */

static ngx_int_t
ngx_oci_token_pass(ngx_oci_token_ctx_t *ctx, ngx_int_t rc)
{
    ngx_str_t            realm;
    ngx_http_request_t  *r;

    r = ctx->request;

    if (rc == NGX_OK) {

        rc = ngx_oci_auth_realm(ctx->token->registry, r->pool, &realm);

        if (rc == NGX_DECLINED) {
            rc = ngx_oci_auth_discover(ctx->token->registry, &ctx->waiter);

            if (rc == NGX_AGAIN) {
                return NGX_AGAIN;
            }
        }

        if (rc == NGX_OK) {
            rc = ngx_oci_token_target(ctx, &realm);
        }

        if (rc == NGX_OK) {
            rc = ngx_oci_token_resolve(ctx);

            if (rc == NGX_AGAIN) {
                return NGX_AGAIN;
            }
        }
    }

    return ngx_oci_token_answer(ctx, rc);
}


static ngx_int_t
ngx_oci_token_answer(ngx_oci_token_ctx_t *ctx, ngx_int_t rc)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    switch (rc) {

    case NGX_OK:
        return ctx->token->proxy(r);

    case NGX_DONE:
        return ngx_oci_error(r, NGX_HTTP_NOT_FOUND, NGX_OCI_ERR_UNSUPPORTED,
                             "the registry has no token service");

    case NGX_BUSY:
        return ngx_oci_error(r, NGX_HTTP_GATEWAY_TIME_OUT,
                             NGX_OCI_ERR_UNAVAILABLE,
                             "the registry doesn't answer");
    }

    return ngx_oci_error(r, NGX_HTTP_BAD_GATEWAY, NGX_OCI_ERR_UNAVAILABLE,
                         "the registry's token service can't be used");
}


static ngx_int_t
ngx_oci_token_target(ngx_oci_token_ctx_t *ctx, ngx_str_t *realm)
{
    u_char              *p;
    ngx_oci_url_t        url;
    ngx_oci_registry_t  *registry;
    ngx_http_request_t  *r;

    r = ctx->request;
    registry = ctx->token->registry;

    if (ngx_oci_url_parse(realm, &url) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_oci_auth_own_origin(registry, &url)) {
        ctx->scheme = registry->scheme;
        ctx->authority = registry->group;
        ctx->host = registry->host;

    } else {
        ctx->scheme = url.scheme;
        ctx->authority = url.authority;
        ctx->host = url.authority;
        ctx->name = url.host;
        ctx->port = url.port;
    }

    if (ctx->scheme.len == 5
        && registry->ssl_verify && registry->trusted_certificate.len == 0)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "token service \"%V\" can't be verified without "
                      "\"trusted_certificate\" in oci_registry \"%V\"",
                      &ctx->host, &registry->name);
        return NGX_ERROR;
    }

    ctx->uri = url.uri;

    if (r->args.len == 0) {
        return NGX_OK;
    }

    ctx->uri.data = ngx_pnalloc(r->pool, url.uri.len + 1 + r->args.len);
    if (ctx->uri.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(ctx->uri.data, url.uri.data, url.uri.len);

    if (ngx_strlchr(url.uri.data, url.uri.data + url.uri.len, '?') == NULL) {
        *p++ = '?';

    } else if (p[-1] != '?' && p[-1] != '&') {
        *p++ = '&';
    }

    p = ngx_cpymem(p, r->args.data, r->args.len);
    ctx->uri.len = p - ctx->uri.data;

    return NGX_OK;
}


/*
 * Another host's name is resolved here, and the proxy module given one of the
 * addresses, as the name may not have any.  NGX_OK; NGX_AGAIN: it is being
 * resolved; NGX_BUSY, NGX_ERROR, both logged.
 */

static ngx_int_t
ngx_oci_token_resolve(ngx_oci_token_ctx_t *ctx)
{
    ngx_int_t                  rc;
    ngx_addr_t                 addr;
    ngx_http_request_t        *r;
    ngx_resolver_ctx_t        *rctx, temp;
    ngx_http_core_loc_conf_t  *clcf;

    r = ctx->request;

    if (ctx->name.len == 0 || ctx->name.data[0] == '[') {
        return NGX_OK;
    }

    rc = ngx_parse_addr(r->pool, &addr, ctx->name.data, ctx->name.len);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    temp.name = ctx->name;

    rctx = ngx_resolve_start(clcf->resolver, &temp);
    if (rctx == NULL) {
        return NGX_ERROR;
    }

    if (rctx == NGX_NO_RESOLVER) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "no resolver defined to resolve \"%V\"", &ctx->name);
        return NGX_ERROR;
    }

    rctx->name = ctx->name;
    rctx->handler = ngx_oci_token_resolved;
    rctx->data = ctx;
    rctx->timeout = clcf->resolver_timeout;

    ctx->resolver = rctx;
    ctx->starting = 1;

    if (ngx_resolve_name(rctx) != NGX_OK) {
        ctx->resolver = NULL;
        return NGX_ERROR;
    }

    ctx->starting = 0;

    return ctx->resolver ? NGX_AGAIN : ctx->rc;
}


static void
ngx_oci_token_resolved(ngx_resolver_ctx_t *rctx)
{
    ngx_int_t             rc;
    ngx_connection_t     *c;
    ngx_http_request_t   *r;
    ngx_oci_token_ctx_t  *ctx;

    ctx = rctx->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (rctx->state) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "\"%V\" could not be resolved (%i: %s)", &rctx->name,
                      rctx->state, ngx_resolver_strerror(rctx->state));
        ctx->rc = (rctx->state == NGX_RESOLVE_TIMEDOUT) ? NGX_BUSY
                                                        : NGX_ERROR;

    } else {
        ctx->rc = ngx_oci_token_address(ctx, rctx);
    }

    ngx_resolve_name_done(rctx);
    ctx->resolver = NULL;

    if (ctx->starting) {
        return;
    }

    rc = ngx_oci_token_answer(ctx, ctx->rc);

    ngx_http_finalize_request(r, rc);

    ngx_http_run_posted_requests(c);
}


/* IPv4 is reached from anywhere, IPv6 is not */

static ngx_int_t
ngx_oci_token_address(ngx_oci_token_ctx_t *ctx, ngx_resolver_ctx_t *rctx)
{
    u_char               *p;
    ngx_uint_t            i, start;
    ngx_sockaddr_t        sa;
    ngx_oci_registry_t   *registry;
    ngx_resolver_addr_t  *addr, *found;

    registry = ctx->token->registry;
    found = NULL;
    start = (ngx_uint_t) ngx_random();

    for (i = 0; i < rctx->naddrs; i++) {
        addr = &rctx->addrs[(start + i) % rctx->naddrs];

        if (!ngx_oci_private_allowed(registry, &ctx->name, addr->sockaddr,
                                     addr->socklen))
        {
            ngx_oci_private_log(registry, &ctx->name, addr->sockaddr,
                                addr->socklen, ctx->request->connection->log);
            continue;
        }

        if (found == NULL || (found->sockaddr->sa_family != AF_INET
                              && addr->sockaddr->sa_family == AF_INET))
        {
            found = addr;
        }
    }

    if (found == NULL) {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(ctx->request->pool, NGX_SOCKADDR_STRLEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(&sa, found->sockaddr, found->socklen);
    ngx_inet_set_port(&sa.sockaddr, ctx->port);

    ctx->authority.data = p;
    ctx->authority.len = ngx_sock_ntop(&sa.sockaddr, found->socklen, p,
                                       NGX_SOCKADDR_STRLEN, 1);

    return NGX_OK;
}


static void
ngx_oci_token_discovered(void *data, ngx_int_t rc)
{
    ngx_oci_token_ctx_t *ctx = data;

    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    rc = ngx_oci_token_pass(ctx, rc);

    if (rc != NGX_AGAIN) {
        ngx_http_finalize_request(r, rc);
    }

    ngx_http_run_posted_requests(c);
}


static void
ngx_oci_token_cleanup(void *data)
{
    ngx_oci_token_ctx_t *ctx = data;

    ngx_oci_auth_leave(&ctx->waiter);

    if (ctx->resolver) {
        ngx_resolve_name_done(ctx->resolver);
        ctx->resolver = NULL;
    }
}


static ngx_int_t
ngx_oci_token_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_str_t           *text;
    ngx_http_cleanup_t  *cln;

    /* the request context of the module is that of oci_pass */

    for (cln = r->main->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_oci_token_cleanup) {
            break;
        }
    }

    if (cln == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    text = (ngx_str_t *) ((u_char *) cln->data + data);

    v->data = text->data;
    v->len = text->len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


ngx_int_t
ngx_oci_token_rewrite(ngx_http_request_t *r, ngx_oci_registry_t *registry,
    ngx_str_t *challenge)
{
    u_char               *p, *rest, *last;
    ngx_int_t             rc;
    ngx_str_t             text, realm;
    ngx_oci_token_t      *token;
    ngx_oci_challenge_t   ch;

    token = ngx_oci_realm_find(r, NULL, registry);

    if (token == NULL
        || ngx_oci_challenge_parse(challenge, &ch) != NGX_OK
        || ch.scheme.len != 6)
    {
        return NGX_OK;
    }

    /* a realm that may not be called is left to the client (logged) */

    if (ngx_oci_auth_learn(registry, challenge, &ch, r->connection->log)
        != NGX_OK)
    {
        return NGX_OK;
    }

    rc = ngx_oci_realm_url(r, token, &realm);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_OK : NGX_ERROR;
    }

    text.data = ngx_pnalloc(r->pool, realm.len + challenge->len);
    if (text.data == NULL) {
        return NGX_ERROR;
    }

    last = challenge->data + challenge->len;
    rest = ch.realm.data + ch.realm.len;

    p = ngx_cpymem(text.data, challenge->data,
                   ch.realm.data - challenge->data);
    p = ngx_cpymem(p, realm.data, realm.len);
    p = ngx_cpymem(p, rest, last - rest);

    text.len = p - text.data;
    *challenge = text;

    return NGX_OK;
}
