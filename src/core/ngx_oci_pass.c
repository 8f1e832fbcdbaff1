
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci_pass: what is not answered here goes through the proxy module, with a
 * configuration that is made from the registry.
 */


#include "ngx_oci_health.h"
#include <ngx_thread_pool.h>


typedef struct {
    ngx_str_t  name;
    ngx_str_t  value;           /* "": made in ngx_oci_pass_text() */
} ngx_oci_pass_default_t;


static char *ngx_oci_pass_one(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_oci_pass_t *pass);
static char *ngx_oci_pass_child(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_oci_pass_t *pass);
static char *ngx_oci_pass_expand(ngx_conf_t *cf,
    ngx_oci_registry_t *registry);
static ngx_uint_t ngx_oci_pass_overridden(ngx_oci_registry_t *registry,
    const char *name);
static void ngx_oci_pass_authorized(ngx_http_request_t *r, ngx_int_t rc);
static ngx_int_t ngx_oci_pass_limited(ngx_http_request_t *r);
static void ngx_oci_pass_push(ngx_http_request_t *r, ngx_oci_ctx_t *ctx);


char *
ngx_oci_pass_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_loc_conf_t *olcf = conf;

    ngx_str_t                         *value;
    ngx_uint_t                         i;
    ngx_oci_pass_t                    *pass;
    ngx_oci_registry_t               **registries;
    ngx_oci_main_conf_t               *omcf;
    ngx_http_core_loc_conf_t          *clcf;
    ngx_http_compile_complex_value_t   ccv;

    if (olcf->passes) {
        return "is duplicate";
    }

    value = cf->args->elts;
    omcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_oci_module);
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "conflicts with another handler of this location";
    }

    if (omcf->registries.nelts == 0) {
        return "needs an \"oci_registry\" before it";
    }

    olcf->file = cf->conf_file->file.name.data;
    olcf->line = cf->conf_file->line;
    olcf->passes = ngx_array_create(cf->pool, omcf->registries.nelts,
                                    sizeof(ngx_oci_pass_t));
    if (olcf->passes == NULL) {
        return NGX_CONF_ERROR;
    }

    registries = omcf->registries.elts;

    if (ngx_http_script_variables_count(&value[1]) == 0) {

        pass = ngx_array_push(olcf->passes);
        pass->registry = ngx_oci_registry_find(omcf, &value[1]);

        if (pass->registry == NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "unknown oci_registry \"%V\" (it has to stand "
                               "before oci_pass)", &value[1]);
            return NGX_CONF_ERROR;
        }

        if (ngx_oci_pass_one(cf, pass->registry, pass) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

    } else {

        olcf->name = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
        if (olcf->name == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));
        ccv.cf = cf;
        ccv.value = &value[1];
        ccv.complex_value = olcf->name;

        if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        for (i = 0; i < omcf->registries.nelts; i++) {
            pass = ngx_array_push(olcf->passes);
            pass->registry = registries[i];

            if (ngx_oci_pass_child(cf, registries[i], pass) != NGX_CONF_OK) {
                return NGX_CONF_ERROR;
            }
        }
    }

    clcf->handler = ngx_oci_handler;

    /* "/v2" is not "/v2/": the registry's own answer tells */

    clcf->auto_redirect = 0;

    if (clcf->client_max_body_size == NGX_CONF_UNSET) {
        clcf->client_max_body_size = 0;
    }

    if (clcf->sendfile == NGX_CONF_UNSET) {
        clcf->sendfile = 1;
    }

    return NGX_CONF_OK;
}


/* expands in the location of cf */

static char *
ngx_oci_pass_one(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_oci_pass_t *pass)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (ngx_oci_pass_expand(cf, registry) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    pass->proxy = clcf->handler;
    pass->loc_conf = NULL;

    registry->ctx = ngx_pcalloc(cf->pool, sizeof(ngx_http_conf_ctx_t));
    if (registry->ctx == NULL) {
        return NGX_CONF_ERROR;
    }

    *registry->ctx = *(ngx_http_conf_ctx_t *) cf->ctx;

    return NGX_CONF_OK;
}


/* a nameless location below the one of cf, as limit_except makes it */

static char *
ngx_oci_pass_child(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_oci_pass_t *pass)
{
    char                      *rv;
    void                      *mconf;
    ngx_uint_t                 i;
    ngx_conf_t                 save;
    ngx_http_module_t         *module;
    ngx_http_conf_ctx_t       *ctx, *pctx;
    ngx_http_core_loc_conf_t  *clcf, *pclcf;

    ctx = ngx_pcalloc(cf->pool, sizeof(ngx_http_conf_ctx_t));
    if (ctx == NULL) {
        return NGX_CONF_ERROR;
    }

    pctx = cf->ctx;
    ctx->main_conf = pctx->main_conf;
    ctx->srv_conf = pctx->srv_conf;

    ctx->loc_conf = ngx_pcalloc(cf->pool, sizeof(void *) * ngx_http_max_module);
    if (ctx->loc_conf == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; cf->cycle->modules[i]; i++) {
        if (cf->cycle->modules[i]->type != NGX_HTTP_MODULE) {
            continue;
        }

        module = cf->cycle->modules[i]->ctx;

        if (module->create_loc_conf) {

            mconf = module->create_loc_conf(cf);
            if (mconf == NULL) {
                return NGX_CONF_ERROR;
            }

            ctx->loc_conf[cf->cycle->modules[i]->ctx_index] = mconf;
        }
    }

    pclcf = pctx->loc_conf[ngx_http_core_module.ctx_index];
    clcf = ctx->loc_conf[ngx_http_core_module.ctx_index];
    clcf->loc_conf = ctx->loc_conf;
    clcf->name = pclcf->name;
    clcf->noname = 1;

    if (ngx_http_add_location(cf, &pclcf->locations, clcf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    save = *cf;
    cf->ctx = ctx;
    cf->cmd_type = NGX_HTTP_LOC_CONF;

    rv = ngx_oci_pass_one(cf, registry, pass);

    *cf = save;

    pass->loc_conf = ctx->loc_conf;

    return rv;
}


static char *
ngx_oci_pass_expand(ngx_conf_t *cf, ngx_oci_registry_t *registry)
{
    u_char     *p;
    size_t      host;
    ngx_str_t   text, name;

    text.data = ngx_pnalloc(cf->pool, 2048 + registry->group.len
                                      + 2 * registry->host.len
                                      + registry->trusted_certificate.len
                                      + ngx_oci_pass_own_size(registry));
    if (text.data == NULL) {
        return NGX_CONF_ERROR;
    }

    name = registry->host;

    for (host = name.len; host && name.data[host - 1] != ':'; host--) {
        if (name.data[host - 1] == ']') {
            host = 0;
            break;
        }
    }

    if (host) {
        name.len = host - 1;
    }

    p = ngx_sprintf(text.data, "proxy_pass %V://%V$oci_upstream_uri;",
                    &registry->scheme, &registry->group);

    p = ngx_oci_pass_line(p, registry, "proxy_http_version", "1.1");
    p = ngx_oci_pass_line(p, registry, "proxy_request_buffering", "off");
    p = ngx_oci_pass_line(p, registry, "proxy_buffering", "off");
    p = ngx_oci_pass_line(p, registry, "proxy_buffer_size", "64k");
    p = ngx_oci_pass_line(p, registry, "proxy_buffers", "4 64k");
    p = ngx_oci_pass_line(p, registry, "proxy_busy_buffers_size", "128k");
    p = ngx_oci_pass_line(p, registry, "proxy_redirect", "off");
    p = ngx_oci_pass_line(p, registry, "proxy_store", "off");
    p = ngx_oci_pass_line(p, registry, "proxy_intercept_errors", "off");
#if (NGX_HTTP_CACHE)
    p = ngx_oci_pass_line(p, registry, "proxy_cache", "off");
#endif

    /* a registry has no say in what this nginx does */

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

    if (registry->ssl) {
        p = ngx_oci_pass_line(p, registry, "proxy_ssl_server_name", "on");
        p = ngx_oci_pass_line(p, registry, "proxy_ssl_name", "%V", &name);

        if (registry->ssl_verify) {
            p = ngx_oci_pass_line(p, registry, "proxy_ssl_verify", "on");
            p = ngx_oci_pass_line(p, registry, "proxy_ssl_verify_depth", "4");
            p = ngx_oci_pass_line(p, registry,
                                  "proxy_ssl_trusted_certificate", "\"%V\"",
                                  &registry->trusted_certificate);
        }
    }

    /* own lines of these directives add to these */

    p = ngx_sprintf(p, "proxy_set_header Host \"%V\";"
                       "proxy_set_header Connection \"\";"
                       "proxy_set_header Accept-Encoding \"\";"
                       "proxy_set_header Authorization "
                       "$oci_upstream_authorization;"
                       "proxy_hide_header Set-Cookie;"
                       "proxy_hide_header Upgrade;", &registry->host);

    /* beside the edge's own credentials none of the client's go there */

    if (registry->credentials == NGX_OCI_CREDENTIALS_STORED) {
        p = ngx_sprintf(p, "proxy_set_header Cookie \"\";"
                           "proxy_set_header Proxy-Authorization \"\";");
    }

    p = ngx_oci_pass_own_lines(p, registry);

    text.len = p - text.data;

    return ngx_oci_conf_text(cf, &text);
}


u_char *
ngx_oci_pass_line(u_char *p, ngx_oci_registry_t *registry, const char *name,
    const char *fmt, ...)
{
    va_list  args;

    if (ngx_oci_pass_overridden(registry, name)) {
        return p;
    }

    p = ngx_sprintf(p, "%s ", name);

    va_start(args, fmt);
    p = ngx_vslprintf(p, (void *) -1, fmt, args);
    va_end(args);

    *p++ = ';';

    return p;
}


static ngx_uint_t
ngx_oci_pass_overridden(ngx_oci_registry_t *registry, const char *name)
{
    ngx_str_t     *value;
    ngx_uint_t     i;
    ngx_array_t  **line;

    if (registry->proxy == NULL) {
        return 0;
    }

    line = registry->proxy->elts;

    for (i = 0; i < registry->proxy->nelts; i++) {
        value = line[i]->elts;

        if (value->len == ngx_strlen(name)
            && ngx_strncmp(value->data, name, value->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


size_t
ngx_oci_pass_own_size(ngx_oci_registry_t *registry)
{
    size_t         size;
    ngx_str_t     *value;
    ngx_uint_t     i, n;
    ngx_array_t  **line;

    if (registry->proxy == NULL) {
        return 0;
    }

    size = 0;
    line = registry->proxy->elts;

    for (i = 0; i < registry->proxy->nelts; i++) {
        value = line[i]->elts;

        for (n = 0; n < line[i]->nelts; n++) {
            size += 2 * value[n].len + 4;
        }
    }

    return size;
}


/* the registry's proxy_* lines, quoted again */

u_char *
ngx_oci_pass_own_lines(u_char *p, ngx_oci_registry_t *registry)
{
    size_t         k;
    ngx_str_t     *value;
    ngx_uint_t     i, n;
    ngx_array_t  **line;

    if (registry->proxy == NULL) {
        return p;
    }

    line = registry->proxy->elts;

    for (i = 0; i < registry->proxy->nelts; i++) {
        value = line[i]->elts;

        for (n = 0; n < line[i]->nelts; n++) {
            *p++ = '"';

            for (k = 0; k < value[n].len; k++) {
                if (value[n].data[k] == '"' || value[n].data[k] == '\\') {
                    *p++ = '\\';
                }

                *p++ = value[n].data[k];
            }

            *p++ = '"';
            *p++ = ' ';
        }

        *p++ = ';';
    }

    return p;
}


/* where a request goes; NULL: the variable names no registry */

ngx_oci_pass_t *
ngx_oci_pass_find(ngx_http_request_t *r, ngx_oci_loc_conf_t *olcf)
{
    ngx_str_t        name;
    ngx_uint_t       i;
    ngx_oci_pass_t  *pass;

    if (olcf->passes == NULL) {
        return NULL;
    }

    pass = olcf->passes->elts;

    if (olcf->name == NULL) {
        return &pass[0];
    }

    if (ngx_http_complex_value(r, olcf->name, &name) != NGX_OK) {
        return NULL;
    }

    for (i = 0; i < olcf->passes->nelts; i++) {
        if (pass[i].registry->name.len == name.len
            && ngx_memcmp(pass[i].registry->name.data, name.data, name.len)
               == 0)
        {
            return &pass[i];
        }
    }

    return NULL;
}


/* passes a request on; returns what a content handler returns */

ngx_int_t
ngx_oci_pass_request(ngx_http_request_t *r)
{
    ngx_int_t            rc;
    ngx_oci_ctx_t       *ctx;
    ngx_oci_pass_t      *pass;
    ngx_oci_loc_conf_t  *olcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);
    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    pass = ngx_oci_pass_find(r, olcf);
    if (pass == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_oci_health_gate(ctx->registry);

    if (rc != NGX_OK) {

        rc = ngx_oci_ping_stale(r, ctx, rc == NGX_BUSY
                                        ? NGX_HTTP_GATEWAY_TIME_OUT
                                        : NGX_HTTP_BAD_GATEWAY);
        if (rc != NGX_DECLINED) {
            return (rc == NGX_OK) ? ngx_http_send_header(r)
                                  : NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return ngx_oci_error_retry(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                   NGX_OCI_ERR_UNAVAILABLE,
                                   "the registry does not answer",
                                   NGX_OCI_HEALTH_RETRY_AFTER);
    }

    ctx->cache_status = NGX_OCI_CACHE_BYPASS;
    ctx->passed = ngx_current_msec;

    if (ngx_oci_pull_own(r) == NGX_OCI_PULL_PREHEAT) {

        /* nobody wants the bytes, only what the registry says of them */

        r->method = NGX_HTTP_HEAD;
        ngx_str_set(&r->method_name, "HEAD");
        r->header_only = 1;
    }

    if (ctx->registry->credentials == NGX_OCI_CREDENTIALS_CLIENT) {
        ctx->upstream_authorization = ctx->authorization;

    } else if (!ctx->authorized) {

        rc = ngx_oci_auth_request(r, ctx, ngx_oci_pass_authorized);

        if (rc == NGX_AGAIN) {
            r->main->count++;
            r->read_event_handler = ngx_http_block_reading;
            return NGX_DONE;
        }

        if (rc != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (pass->loc_conf) {
        r->loc_conf = pass->loc_conf;
        ngx_http_update_location_config(r);
    }

    ngx_oci_pass_push(r, ctx);

    return pass->proxy(r);
}


/* a body may be worth to be looked at on its way */

static void
ngx_oci_pass_push(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    ngx_oci_main_conf_t  *omcf;

    omcf = ngx_http_get_module_main_conf(r, ngx_http_oci_module);

    if (omcf->push
        && (r->method & (NGX_HTTP_POST|NGX_HTTP_PUT|NGX_HTTP_PATCH
                         |NGX_HTTP_DELETE)))
    {
        omcf->push(r, ctx);
    }
}


static void
ngx_oci_pass_authorized(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_oci_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    if (rc != NGX_OK
        && ngx_oci_ping_stale(r, ctx, NGX_HTTP_BAD_GATEWAY) == NGX_OK)
    {
        ngx_http_finalize_request(r, ngx_http_send_header(r));
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r,
                ngx_oci_error(r, NGX_HTTP_BAD_GATEWAY, NGX_OCI_ERR_UNAVAILABLE,
                              "the registry can't be asked with the edge's "
                              "own credentials, see the edge's error log"));
        return;
    }

    ngx_http_finalize_request(r, ngx_oci_pass_request(r));
}


void
ngx_oci_pass_async(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    r->write_event_handler = ngx_http_request_empty_handler;

    rc = ngx_oci_pass_limited(r);

    if (rc == NGX_DECLINED) {
        rc = ngx_oci_pass_request(r);
    }

    ngx_http_finalize_request(r, rc);
}


/* what the cache would have asked for, the registry is not asked for either
   before the time is over; NGX_DECLINED: it may be */

static ngx_int_t
ngx_oci_pass_limited(ngx_http_request_t *r)
{
    ngx_msec_t      ms;
    ngx_uint_t      status;
    ngx_oci_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    /* who comes without credentials may be told to bring some: clients begin
       like that */

    if (ctx->registry->credentials == NGX_OCI_CREDENTIALS_CLIENT
        && ctx->authorization.len == 0)
    {
        return NGX_DECLINED;
    }

    ms = ngx_oci_health_limited(ctx->registry,
                    ngx_oci_health_account(ctx->registry,
                                           ctx->registry->credentials, NULL,
                                           &ctx->authorization),
                    &ctx->repository, &status);

    if (ms == 0) {
        return NGX_DECLINED;
    }

    return ngx_oci_error_retry(r, status,
                               status == NGX_HTTP_TOO_MANY_REQUESTS
                               ? NGX_OCI_ERR_TOOMANYREQUESTS
                               : NGX_OCI_ERR_UNAVAILABLE,
                               "the registry asks to wait",
                               (time_t) (ms / 1000 + 1));
}
