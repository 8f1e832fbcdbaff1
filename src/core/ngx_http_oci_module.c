
/*
 * Copyright (C) The nginx-oci authors
 *
 * Directives, the request context, variables and the content handler.
 */


#include "ngx_oci_health.h"


static ngx_int_t ngx_oci_handler_refuse(ngx_http_request_t *r,
    ngx_uint_t status, ngx_uint_t code);
static ngx_int_t ngx_http_oci_map(ngx_http_request_t *r, ngx_oci_ctx_t *ctx);
static ngx_int_t ngx_http_oci_map_from(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_str_t *from, ngx_str_t *name);
static ngx_oci_path_map_t *ngx_http_oci_map_find(
    ngx_oci_registry_t *registry, ngx_str_t *name);
static ngx_int_t ngx_http_oci_map_name(ngx_oci_registry_t *registry,
    ngx_pool_t *pool, ngx_str_t *name, ngx_str_t *mapped);

static ngx_int_t ngx_http_oci_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_oci_upstream_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_oci_bytes_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

static ngx_int_t ngx_http_oci_init_process(ngx_cycle_t *cycle);
static void ngx_http_oci_exit_process(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_oci_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_oci_postconfiguration(ngx_conf_t *cf);
static void *ngx_http_oci_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_oci_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_oci_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);


static ngx_command_t  ngx_http_oci_commands[] = {

    { ngx_string("oci_registry"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_oci_registry_block,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_pass"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_oci_pass_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_token"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_oci_token_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_oci_status_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("oci_access"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_oci_access_directive,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_oci_module_ctx = {
    ngx_http_oci_preconfiguration,         /* preconfiguration */
    ngx_http_oci_postconfiguration,        /* postconfiguration */

    ngx_http_oci_create_main_conf,         /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_oci_group_create_conf,             /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_oci_create_loc_conf,          /* create location configuration */
    ngx_http_oci_merge_loc_conf            /* merge location configuration */
};


ngx_module_t  ngx_http_oci_module = {
    NGX_MODULE_V1,
    &ngx_http_oci_module_ctx,              /* module context */
    ngx_http_oci_commands,                 /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_oci_init_process,             /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_oci_exit_process,             /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


ngx_oci_core_t  ngx_oci_core = {
    NGX_OCI_ABI,
    NGX_OCI_BUILD,
    ngx_oci_exchange_create,
    ngx_oci_exchange_start,
    ngx_oci_exchange_resume,
    ngx_oci_exchange_abort,
    ngx_oci_pull_create,
    ngx_oci_pull_start,
    ngx_oci_pull_abort,
    ngx_oci_pull_own,
    ngx_oci_pull_pin,
    ngx_oci_pass_async,
    ngx_oci_error,
    ngx_oci_error_retry,
    ngx_oci_answer,
    ngx_oci_send,
    ngx_oci_request_ctx,
    ngx_oci_access_policy,
    ngx_oci_access_dry_run,
    ngx_oci_duty_set,
    ngx_oci_duty,
    ngx_oci_duty_decided,
    ngx_oci_duty_may,
    ngx_oci_realm,
    ngx_oci_thread_pool,
    ngx_oci_registry_find,
    ngx_oci_endpoint,
    ngx_oci_receiver,
    ngx_oci_receiver_server,
    ngx_oci_health_wait,
    ngx_oci_health_place,
    ngx_oci_health_place_free,
    ngx_oci_health_place_leave,
    ngx_oci_health_place_wanted,
    ngx_http_oci_map_name,
    ngx_oci_stats,
    ngx_oci_code_name,
    ngx_oci_route_name,
    ngx_oci_cache_name
};


typedef enum {
    NGX_HTTP_OCI_VAR_ROUTE = 0,
    NGX_HTTP_OCI_VAR_REPOSITORY,
    NGX_HTTP_OCI_VAR_REFERENCE,
    NGX_HTTP_OCI_VAR_DIGEST,
    NGX_HTTP_OCI_VAR_CACHE_STATUS,
    NGX_HTTP_OCI_VAR_VERIFY_STATUS
} ngx_http_oci_var_e;


static ngx_http_variable_t  ngx_http_oci_vars[] = {

    { ngx_string("oci_route"), NULL, ngx_http_oci_variable,
      NGX_HTTP_OCI_VAR_ROUTE, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_repository"), NULL, ngx_http_oci_variable,
      NGX_HTTP_OCI_VAR_REPOSITORY, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_reference"), NULL, ngx_http_oci_variable,
      NGX_HTTP_OCI_VAR_REFERENCE, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_digest"), NULL, ngx_http_oci_variable,
      NGX_HTTP_OCI_VAR_DIGEST, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_cache_status"), NULL, ngx_http_oci_variable,
      NGX_HTTP_OCI_VAR_CACHE_STATUS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_verify_status"), NULL, ngx_http_oci_variable,
      NGX_HTTP_OCI_VAR_VERIFY_STATUS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_upstream_bytes"), NULL, ngx_http_oci_bytes_variable,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    /* for the expansion of oci_pass */

    { ngx_string("oci_upstream_uri"), NULL, ngx_http_oci_upstream_variable,
      offsetof(ngx_oci_ctx_t, uri), NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("oci_upstream_authorization"), NULL,
      ngx_http_oci_upstream_variable,
      offsetof(ngx_oci_ctx_t, upstream_authorization),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


/*
 * The context of a request, made on first use.  *status is 0, or the status
 * of the error to report with *code.  NULL: no memory.
 */

ngx_oci_ctx_t *
ngx_oci_request_ctx(ngx_http_request_t *r, ngx_uint_t *status,
    ngx_uint_t *code)
{
    ngx_int_t       rc;
    ngx_oci_ctx_t  *ctx;

    *status = 0;
    *code = NGX_OCI_ERR_UNKNOWN;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    if (ctx == NULL) {
        ctx = ngx_pcalloc(r->pool, sizeof(ngx_oci_ctx_t));
        if (ctx == NULL) {
            return NULL;
        }

        ngx_http_set_ctx(r, ctx, ngx_http_oci_module);

        rc = ngx_oci_route_parse(&ctx->route, &r->unparsed_uri, ctx->buf,
                                 &ctx->code);

        if (rc != NGX_OK) {
            ngx_memzero(&ctx->route, sizeof(ngx_oci_route_t));
            ctx->status = (rc == NGX_DECLINED) ? NGX_HTTP_NOT_FOUND
                                               : NGX_HTTP_BAD_REQUEST;
        }
    }

    *status = ctx->status;
    *code = ctx->code;

    return ctx;
}


ngx_int_t
ngx_oci_handler(ngx_http_request_t *r)
{
    u_char               *p;
    ngx_int_t             rc;
    ngx_uint_t            status, code;
    ngx_oci_ctx_t        *ctx;
    ngx_oci_pass_t       *pass;
    ngx_oci_loc_conf_t   *olcf;
    ngx_oci_main_conf_t  *omcf;

    ctx = ngx_oci_request_ctx(r, &status, &code);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_oci_handler_refuse(r, status, code);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    pass = ngx_oci_pass_find(r, olcf);
    if (pass == NULL) {
        return ngx_oci_error(r, NGX_HTTP_NOT_FOUND,
                             NGX_OCI_ERR_NAME_UNKNOWN, "no such registry");
    }

    if (ngx_oci_access_undecided(r)) {
        return ngx_oci_error(r, NGX_HTTP_FORBIDDEN, NGX_OCI_ERR_DENIED, NULL);
    }

    ctx->registry = pass->registry;

#if (NGX_HTTP_GZIP)

    /* bytes are what their digest says, and ranges are of these */

    r->gzip_tested = 1;
    r->gzip_ok = 0;

#endif

    if (ngx_http_oci_map(r, ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->bare) {
        p = ngx_strlchr(ctx->uri.data, ctx->uri.data + ctx->uri.len, '?');

        if (p) {
            ctx->uri.len = p - ctx->uri.data;
        }
    }

    ngx_str_set(&ctx->authorization, "");

    /* what the edge itself accepts goes nowhere */

    if (r->headers_in.authorization && olcf->policy == NULL) {
        ctx->authorization = r->headers_in.authorization->value;

        if (ctx->authorization.len > NGX_OCI_AUTHORIZATION_MAX) {
            return ngx_oci_error(r, NGX_HTTP_BAD_REQUEST,
                                 NGX_OCI_ERR_UNAUTHORIZED,
                                 "the credential is too long");
        }
    }

    omcf = ngx_http_get_module_main_conf(r, ngx_http_oci_module);

    if (omcf->content
        && (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))
        && (ctx->route.route == NGX_OCI_ROUTE_BLOB
            || ctx->route.route == NGX_OCI_ROUTE_MANIFEST
            || ctx->route.route == NGX_OCI_ROUTE_TAG))
    {
        rc = omcf->content(r, ctx);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    return ngx_oci_pass_request(r);
}


/* what no registry has to be asked for.  NGX_DECLINED: it is not that */

static ngx_int_t
ngx_oci_handler_refuse(ngx_http_request_t *r, ngx_uint_t status,
    ngx_uint_t code)
{
    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_POST|NGX_HTTP_PUT
                       |NGX_HTTP_PATCH|NGX_HTTP_DELETE)))
    {
        return ngx_oci_error(r, NGX_HTTP_NOT_ALLOWED,
                             NGX_OCI_ERR_UNSUPPORTED, NULL);
    }

    if (status) {
        return ngx_oci_error(r, status, code, status == NGX_HTTP_NOT_FOUND
                             ? "no such endpoint" : NULL);
    }

    if ((r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))
        && (r->headers_in.content_length_n > 0 || r->headers_in.chunked))
    {
        return ngx_oci_error(r, NGX_HTTP_BAD_REQUEST,
                             NGX_OCI_ERR_UNSUPPORTED,
                             "a body is not expected here");
    }

    return NGX_DECLINED;
}


/* the repository and the URI at the upstream */

static ngx_int_t
ngx_http_oci_map(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    u_char              *p, *rest, *last;
    ngx_str_t           *name, from, mounted;
    ngx_oci_path_map_t  *map, *mount;

    name = &ctx->route.repository;

    ctx->repository = *name;
    ctx->uri = r->unparsed_uri;

    if (ctx->registry->paths == NULL || name->len == 0) {
        return NGX_OK;
    }

    map = ngx_http_oci_map_find(ctx->registry, name);

    /* a cross-repository mount names a second one */

    mount = NULL;

    if (ctx->route.route == NGX_OCI_ROUTE_UPLOAD) {

        if (ngx_http_oci_map_from(r, ctx, &from, &mounted) != NGX_OK) {
            return NGX_ERROR;
        }

        if (from.len) {
            mount = ngx_http_oci_map_find(ctx->registry, &mounted);
        }
    }

    rest = name->data + name->len;
    last = r->unparsed_uri.data + r->unparsed_uri.len;

    if (map == NULL && mount == NULL) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, sizeof("/v2/") - 1 + (last - name->data)
                             + (map ? map->to.len + 1 : 0)
                             + (mount ? mount->to.len + 1 : 0));
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->uri.data = p;
    p = ngx_cpymem(p, "/v2/", sizeof("/v2/") - 1);

    ctx->repository.data = p;

    if (map) {
        p = ngx_oci_path_replace(p, name, &map->from, &map->to);

    } else {
        p = ngx_cpymem(p, name->data, name->len);
    }

    ctx->repository.len = p - ctx->repository.data;

    if (mount) {
        p = ngx_cpymem(p, rest, from.data - rest);
        p = ngx_oci_path_replace(p, &mounted, &mount->from, &mount->to);
        rest = from.data + from.len;
    }

    p = ngx_cpymem(p, rest, last - rest);
    ctx->uri.len = p - ctx->uri.data;

    return NGX_OK;
}


/*
 * Where in the client's URI "from" stands, and what name it is: clients write
 * it as a form's value, with "%2F".  What is no name stays as it is.
 */

static ngx_int_t
ngx_http_oci_map_from(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_str_t *from, ngx_str_t *name)
{
    u_char     *dst, *src;
    ngx_int_t   rc;
    ngx_str_t   args;

    /* arguments that a rewrite made are not those that are passed on */

    args = r->args;
    r->args = ctx->route.args;

    rc = ngx_http_arg(r, (u_char *) "from", 4, from);

    r->args = args;

    if (rc != NGX_OK) {
        from->len = 0;
        return NGX_OK;
    }

    *name = *from;

    if (ngx_strlchr(from->data, from->data + from->len, '%') == NULL) {
        return NGX_OK;
    }

    dst = ngx_pnalloc(r->pool, from->len);
    if (dst == NULL) {
        return NGX_ERROR;
    }

    name->data = dst;
    src = from->data;

    ngx_unescape_uri(&dst, &src, from->len, 0);

    name->len = dst - name->data;

    if (ngx_oci_name_valid(name->data, name->len) != NGX_OK) {
        *name = *from;
    }

    return NGX_OK;
}


static ngx_oci_path_map_t *
ngx_http_oci_map_find(ngx_oci_registry_t *registry, ngx_str_t *name)
{
    ngx_uint_t           i;
    ngx_oci_path_map_t  *map;

    map = registry->paths->elts;

    for (i = 0; i < registry->paths->nelts; i++) {

        if (ngx_oci_path_match(name, &map[i].from)) {
            return &map[i];
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_oci_map_name(ngx_oci_registry_t *registry, ngx_pool_t *pool,
    ngx_str_t *name, ngx_str_t *mapped)
{
    u_char              *p;
    ngx_oci_path_map_t  *map;

    *mapped = *name;

    map = registry->paths ? ngx_http_oci_map_find(registry, name) : NULL;

    if (map == NULL) {
        return NGX_OK;
    }

    p = ngx_pnalloc(pool, name->len + map->to.len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    mapped->data = p;
    mapped->len = ngx_oci_path_replace(p, name, &map->from, &map->to) - p;

    return NGX_OK;
}


/* is prefix ("" matches all) the beginning of name, by whole components? */

ngx_uint_t
ngx_oci_path_match(ngx_str_t *name, ngx_str_t *prefix)
{
    if (prefix->len == 0) {
        return 1;
    }

    if (name->len < prefix->len
        || ngx_memcmp(name->data, prefix->data, prefix->len) != 0)
    {
        return 0;
    }

    return name->len == prefix->len || name->data[prefix->len] == '/';
}


/* writes name with the prefix "from" replaced by "to"; returns the end */

u_char *
ngx_oci_path_replace(u_char *p, ngx_str_t *name, ngx_str_t *from,
    ngx_str_t *to)
{
    u_char  *rest;
    size_t   len;

    rest = name->data + from->len;
    len = name->len - from->len;

    if (len && *rest == '/') {
        rest++;
        len--;
    }

    p = ngx_cpymem(p, to->data, to->len);

    if (to->len && len) {
        *p++ = '/';
    }

    return ngx_cpymem(p, rest, len);
}


static ngx_int_t
ngx_http_oci_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_str_t       text;
    ngx_uint_t      status, code;
    ngx_oci_ctx_t  *ctx;

    v->not_found = 1;

    ctx = ngx_oci_request_ctx(r->main, &status, &code);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_str_null(&text);

    switch (data) {

    case NGX_HTTP_OCI_VAR_ROUTE:
        if (status == 0) {
            text = ngx_oci_route_name(ctx->route.route);
        }

        break;

    case NGX_HTTP_OCI_VAR_REPOSITORY:
        text = ctx->route.repository;
        break;

    case NGX_HTTP_OCI_VAR_REFERENCE:
        text = ctx->route.reference;
        break;

    case NGX_HTTP_OCI_VAR_DIGEST:
        if (ctx->route.digest.alg != NGX_OCI_DIGEST_NONE) {
            text = ctx->route.reference;
        }

        break;

    case NGX_HTTP_OCI_VAR_CACHE_STATUS:
        text = ngx_oci_cache_name(ctx->cache_status);
        break;

    case NGX_HTTP_OCI_VAR_VERIFY_STATUS:
        text = ngx_oci_verify_name(ctx->verify_status);
        break;
    }

    if (text.len == 0) {
        return NGX_OK;
    }

    v->data = text.data;
    v->len = text.len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_oci_upstream_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t      *text;
    ngx_oci_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_oci_module);

    if (ctx == NULL || ctx->registry == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    text = (ngx_str_t *) ((u_char *) ctx + data);

    v->data = text->data;
    v->len = text->len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_oci_bytes_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_oci_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_oci_module);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = ngx_pnalloc(r->pool, NGX_OFF_T_LEN);
    if (v->data == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(v->data, "%O", ctx->upstream_bytes
                                        + ngx_oci_stats_passed(r->main))
             - v->data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_oci_init_process(ngx_cycle_t *cycle)
{
    ngx_oci_health_init_process(cycle);

    return ngx_oci_auth_init_process(cycle);
}


static void
ngx_http_oci_exit_process(ngx_cycle_t *cycle)
{
    ngx_oci_health_exit_process();
    ngx_oci_auth_exit_process(cycle);
}


static ngx_int_t
ngx_http_oci_preconfiguration(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_oci_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return ngx_oci_token_add_variables(cf);
}


static ngx_int_t
ngx_http_oci_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_oci_main_conf_t        *omcf;
    ngx_http_core_main_conf_t  *cmcf;

    omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);

    if (omcf->registries.nelts == 0) {
        return NGX_OK;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_oci_stats_log;

    ngx_oci_pass_init_filter();

    if (ngx_oci_pull_init(cf) != NGX_OK
        || ngx_oci_group_init(cf, omcf) != NGX_OK
        || ngx_oci_health_add_zone(cf, omcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_oci_stats_add_zone(cf, omcf);
}


static void *
ngx_http_oci_create_main_conf(ngx_conf_t *cf)
{
    ngx_oci_main_conf_t  *omcf;

    omcf = ngx_pcalloc(cf->pool, sizeof(ngx_oci_main_conf_t));
    if (omcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&omcf->registries, cf->pool, 4,
                       sizeof(ngx_oci_registry_t *))
        != NGX_OK)
    {
        return NULL;
    }

    if (ngx_array_init(&omcf->endpoints, cf->pool, 2,
                       sizeof(ngx_oci_registry_t *))
        != NGX_OK)
    {
        return NULL;
    }

    if (ngx_array_init(&omcf->policies, cf->pool, 2,
                       sizeof(ngx_oci_policy_t *))
        != NGX_OK)
    {
        return NULL;
    }

    return omcf;
}


static void *
ngx_http_oci_create_loc_conf(ngx_conf_t *cf)
{
    ngx_oci_loc_conf_t  *olcf;

    olcf = ngx_pcalloc(cf->pool, sizeof(ngx_oci_loc_conf_t));
    if (olcf == NULL) {
        return NULL;
    }

    olcf->access = NGX_CONF_UNSET_UINT;

    return olcf;
}


static char *
ngx_http_oci_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_oci_loc_conf_t *prev = parent;
    ngx_oci_loc_conf_t *conf = child;

    ngx_uint_t       i;
    ngx_oci_pass_t  *pass;

    ngx_oci_duty_merge(cf, prev, conf);

    if (ngx_oci_token_merge(cf, prev, conf) != NGX_OK
        || ngx_oci_access_merge(cf, prev, conf) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (conf->token && conf->token->registry
        && ngx_oci_names_check(cf, conf->token->registry, conf) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (conf->passes == NULL) {
        return NGX_CONF_OK;
    }

    pass = conf->passes->elts;

    for (i = 0; i < conf->passes->nelts; i++) {

        if (ngx_oci_access_check(cf, conf, pass[i].registry) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        if (ngx_oci_names_check(cf, pass[i].registry, conf) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}
