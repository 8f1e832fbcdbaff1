
/*
 * Copyright (C) The nginx-oci authors
 *
 * Where requests are recorded: before the first byte of an answer, and when
 * it is over.
 */


#include "ngx_oci_audit.h"


#define NGX_OCI_AUDIT_RETRY  5          /* s, that a refused client waits */


static ngx_int_t ngx_oci_audit_header_filter(ngx_http_request_t *r);
static void ngx_oci_audit_turned(ngx_http_request_t *r,
    ngx_oci_audit_ctx_t *ctx);
static ngx_int_t ngx_oci_audit_refuse(ngx_http_request_t *r);
static ngx_int_t ngx_oci_audit_preaccess(ngx_http_request_t *r);
static ngx_int_t ngx_oci_audit_log_handler(ngx_http_request_t *r);
static ngx_oci_audit_ctx_t *ngx_oci_audit_ctx(ngx_http_request_t *r);
static ngx_oci_audit_ctx_t *ngx_oci_audit_ctx_add(ngx_http_request_t *r);
static ngx_int_t ngx_oci_audit_request(ngx_http_request_t *r,
    ngx_oci_audit_log_t *log, ngx_oci_audit_ctx_t *ctx);
static void ngx_oci_audit_done(ngx_http_request_t *r,
    ngx_oci_audit_event_t *e);
static void ngx_oci_audit_cleanup(void *data);


static ngx_http_output_header_filter_pt  ngx_oci_audit_next_header;


/* nothing of it costs anything where there is no oci_audit_log */

ngx_int_t
ngx_oci_audit_install(ngx_conf_t *cf, ngx_oci_audit_main_conf_t *amcf)
{
    ngx_http_handler_pt        *log, *check;
    ngx_http_core_main_conf_t  *cmcf;

    if (amcf->logs.nelts == 0) {
        return NGX_OK;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    log = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    check = ngx_array_push(&cmcf->phases[NGX_HTTP_PREACCESS_PHASE].handlers);

    if (log == NULL || check == NULL) {
        return NGX_ERROR;
    }

    *log = ngx_oci_audit_log_handler;
    *check = ngx_oci_audit_preaccess;

    ngx_oci_audit_next_header = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_oci_audit_header_filter;

    return NGX_OK;
}


ngx_int_t
ngx_oci_audit_init_process(ngx_cycle_t *cycle,
    ngx_oci_audit_main_conf_t *amcf)
{
    ngx_uint_t             i;
    ngx_oci_audit_log_t  **log;

    if (amcf->logs.nelts == 0) {
        return NGX_OK;
    }

    if (ngx_oci_audit_table_init(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    log = amcf->logs.elts;

    for (i = 0; i < amcf->logs.nelts; i++) {
        ngx_oci_audit_log_init(log[i], cycle);
    }

    return NGX_OK;
}


void
ngx_oci_audit_exit_process(ngx_oci_audit_main_conf_t *amcf)
{
    ngx_uint_t             i;
    ngx_oci_audit_log_t  **log;

    if (amcf->logs.nelts == 0) {
        return;
    }

    ngx_oci_audit_leave_all();

    log = amcf->logs.elts;

    for (i = 0; i < amcf->logs.nelts; i++) {
        ngx_oci_audit_log_exit(log[i]);
    }
}


static ngx_int_t
ngx_oci_audit_header_filter(ngx_http_request_t *r)
{
    ngx_oci_audit_ctx_t       *ctx;
    ngx_oci_audit_loc_conf_t  *alcf;

    if (r != r->main) {
        return ngx_oci_audit_next_header(r);
    }

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_policy_module);

    if (alcf->log == NULL) {
        return ngx_oci_audit_next_header(r);
    }

    ctx = ngx_oci_audit_ctx(r);

    if (ctx && ctx->event) {
        ngx_oci_audit_turned(r, ctx);
    }

    if (ctx && (ctx->event || ctx->blocked)) {
        return ngx_oci_audit_next_header(r);
    }

    if (ctx == NULL) {
        ctx = ngx_oci_audit_ctx_add(r);
        if (ctx == NULL) {
            return NGX_ERROR;
        }
    }

    if (ngx_oci_audit_request(r, alcf->log, ctx) != NGX_OK && alcf->block) {
        ctx->blocked = 1;
        return ngx_oci_audit_refuse(r);
    }

    return ngx_oci_audit_next_header(r);
}


/*
 * An answer was about to begin, and has its record, when a filter after this
 * one had the policy refuse it: that is another one.
 */

static void
ngx_oci_audit_turned(ngx_http_request_t *r, ngx_oci_audit_ctx_t *ctx)
{
    ngx_oci_audit_event_t  *e;

    e = ctx->event;

    if (e->denied || !ngx_oci_audit_denied(r)) {
        return;
    }

    e->revoked = 1;
    e->aborted++;
    e->status = ngx_oci_audit_status(r);
    e->latency = ngx_oci_audit_latency(r);

    ctx->event = NULL;
    ngx_oci_audit_leave(e);
}


/*
 * In the place of an answer that was about to begin; whoever made it takes
 * it for one without a body, as those to HEAD are.
 */

static ngx_int_t
ngx_oci_audit_refuse(ngx_http_request_t *r)
{
    ngx_http_clean_header(r);

    r->err_status = 0;
    r->headers_out.status = NGX_HTTP_SERVICE_UNAVAILABLE;
    r->headers_out.status_line.len = 0;
    r->headers_out.content_length_n = 0;
    r->allow_ranges = 0;
    r->disable_not_modified = 1;
    r->header_only = 1;

    return ngx_oci_audit_next_header(r);
}


/* the log is known to fail: nothing is begun, unless it can be written */

static ngx_int_t
ngx_oci_audit_preaccess(ngx_http_request_t *r)
{
    ngx_oci_audit_ctx_t       *ctx;
    ngx_oci_audit_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_policy_module);

    if (alcf->log == NULL || !alcf->block || r != r->main
        || ngx_oci_audit_recover(alcf->log) == NGX_OK)
    {
        return NGX_DECLINED;
    }

    ctx = ngx_oci_audit_ctx(r);

    if (ctx == NULL) {
        ctx = ngx_oci_audit_ctx_add(r);
        if (ctx == NULL) {
            return NGX_ERROR;
        }
    }

    ctx->blocked = 1;

    ngx_http_finalize_request(r,
                     ngx_oci_core.error_retry(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       NGX_OCI_ERR_UNAVAILABLE,
                                       "no audit record can be written",
                                       NGX_OCI_AUDIT_RETRY));
    return NGX_DONE;
}


static ngx_int_t
ngx_oci_audit_log_handler(ngx_http_request_t *r)
{
    ngx_oci_audit_ctx_t       *ctx;
    ngx_oci_audit_event_t     *e;
    ngx_oci_audit_loc_conf_t  *alcf;

    /* a part has no record of its own, and is not the request's end */

    if (r != r->main) {
        return NGX_OK;
    }

    ctx = ngx_oci_audit_ctx(r);

    if (ctx == NULL) {

        /* it had no answer */

        alcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_policy_module);

        if (alcf->log == NULL) {
            return NGX_OK;
        }

        ctx = ngx_oci_audit_ctx_add(r);

        if (ctx == NULL) {
            ngx_oci_audit_miss(alcf->log);
            return NGX_ERROR;
        }

        (void) ngx_oci_audit_request(r, alcf->log, ctx);
    }

    e = ctx->event;

    if (e) {
        ctx->event = NULL;
        ngx_oci_audit_done(r, e);
        ngx_oci_audit_leave(e);
    }

    return NGX_OK;
}


/* NGX_OK: there is a record of it; NGX_ERROR: there is none */

static ngx_int_t
ngx_oci_audit_request(ngx_http_request_t *r, ngx_oci_audit_log_t *log,
    ngx_oci_audit_ctx_t *ctx)
{
    ngx_oci_audit_record_t  rec;

    ngx_oci_audit_record(r, log, &rec);

    ctx->event = ngx_oci_audit_enter(log, &rec);

    if (ctx->event == NULL) {
        ngx_oci_audit_miss(log);
        return NGX_ERROR;
    }

    return ctx->event->seq ? NGX_OK : NGX_ERROR;
}


/* what the end of a request adds to its event */

static void
ngx_oci_audit_done(ngx_http_request_t *r, ngx_oci_audit_event_t *e)
{
    off_t                  sent;
    ngx_uint_t             cut;
    ngx_connection_t      *c;
    ngx_oci_policy_ctx_t  *ctx;

    c = r->connection;
    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_policy_module);

    if (ctx && ctx->decision && ngx_strcmp(ctx->decision, "cut") == 0) {
        e->revoked = 1;
    }

    sent = r->header_sent ? c->sent - (off_t) r->header_size : 0;

    if (sent > 0 && !r->header_only) {
        e->bytes += sent;
    }

    e->status = ngx_oci_audit_status(r);
    e->cache = ngx_oci_audit_cache(r);
    e->verify = ngx_oci_audit_verify(r);
    e->latency = ngx_oci_audit_latency(r);

    cut = !r->header_sent || c->error || c->timedout
          || (!r->header_only && r->headers_out.content_length_n >= 0
              && sent < r->headers_out.content_length_n);

    if (cut) {
        e->aborted++;

    } else if (e->status >= 500) {
        e->failed++;
    }
}


/* not in the module's context, which redirects inside of nginx forget */

static ngx_oci_audit_ctx_t *
ngx_oci_audit_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t  *cln;

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_oci_audit_cleanup) {
            return cln->data;
        }
    }

    return NULL;
}


static ngx_oci_audit_ctx_t *
ngx_oci_audit_ctx_add(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t   *cln;
    ngx_oci_audit_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_oci_audit_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_oci_audit_ctx_t));

    cln->handler = ngx_oci_audit_cleanup;

    return ctx;
}


/* the log phase comes before, unless something failed */

static void
ngx_oci_audit_cleanup(void *data)
{
    ngx_oci_audit_ctx_t *ctx = data;

    if (ctx->event) {
        ctx->event->aborted++;
        ngx_oci_audit_leave(ctx->event);
        ctx->event = NULL;
    }
}
