
/*
 * Copyright (C) The nginx-oci authors
 *
 * The decision, in the access phase: before anything is looked up in a cache
 * or asked of a registry, so that an answer tells nothing of what is there.
 */


#include "ngx_oci_policy.h"


static ngx_int_t ngx_oci_policy_unknown(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_ctx_t *octx, ngx_int_t rc);
static ngx_int_t ngx_oci_policy_decided(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_ctx_t *octx, ngx_oci_caller_t *caller,
    ngx_oci_verdict_t *verdict, ngx_int_t rc);


ngx_int_t
ngx_oci_policy_handler(ngx_http_request_t *r)
{
    ngx_int_t               rc;
    ngx_uint_t              status, code;
    ngx_oci_ctx_t          *octx;
    ngx_oci_caller_t        caller;
    ngx_oci_policy_t       *policy;
    ngx_oci_verdict_t       verdict;
    ngx_oci_policy_ctx_t   *ctx;

    policy = ngx_oci_core.policy(r);

    if (policy == NULL) {
        return NGX_DECLINED;
    }

    ctx = ngx_oci_policy_ctx(r, policy->data);
    octx = ngx_oci_core.request(r, &status, &code);

    if (ctx == NULL || octx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->waiting) {
        return NGX_AGAIN;
    }

    octx->allowed = NULL;
    octx->judge = 0;
    octx->bare = 0;
    ctx->dry_run = (ngx_oci_core.dry_run(r) != 0);

    if (ngx_oci_policy_current(ctx->policy, &ctx->source) != NGX_OK) {

        if (ctx->dry_run) {
            return ngx_oci_policy_dry_run(r, ctx, octx,
                                          "its document is past \"stale\"");
        }

        ngx_http_finalize_request(r, ngx_oci_policy_past(r, ctx));
        return NGX_DONE;
    }

    if (!ngx_oci_policy_duty(r, octx) && status) {
        return ngx_oci_policy_refuse(r, ctx, status, code, "no such route");
    }

    rc = ngx_oci_policy_identify(r, ctx, &caller);

    if (rc != NGX_OK) {
        return ngx_oci_policy_unknown(r, ctx, octx, rc);
    }

    rc = ngx_oci_policy_decide(r, ctx, octx, &caller, &verdict);

    if (rc == NGX_AGAIN) {

        /* it was known by a document that is no longer in force: once only */

        rc = ngx_oci_policy_identify(r, ctx, &caller);

        if (rc != NGX_OK) {
            return ngx_oci_policy_unknown(r, ctx, octx, rc);
        }

        caller.known = NULL;

        rc = ngx_oci_policy_decide(r, ctx, octx, &caller, &verdict);
    }

    return ngx_oci_policy_decided(r, ctx, octx, &caller, &verdict, rc);
}


/* rc of ngx_oci_policy_identify(), but NGX_OK: what the phase returns */

static ngx_int_t
ngx_oci_policy_unknown(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_ctx_t *octx, ngx_int_t rc)
{
    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (ctx->dry_run && (rc == NGX_BUSY || rc == NGX_ERROR)) {
        return ngx_oci_policy_dry_run(r, ctx, octx,
                                      "it can't be said who asks");
    }

    if (rc == NGX_BUSY) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "oci_policy \"%V\": too many secrets are to be "
                      "checked at once", &ctx->policy->policy.name);

        ctx->decision = "deny";
        ctx->reason = "too many logins at once";
        ngx_http_finalize_request(r,
                         ngx_oci_core.error_retry(r,
                                       NGX_HTTP_SERVICE_UNAVAILABLE,
                                       NGX_OCI_ERR_UNAVAILABLE,
                                       "too many logins at once", 1));
        return NGX_DONE;
    }

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_oci_policy_refuse(r, ctx, NGX_HTTP_UNAUTHORIZED,
                                 NGX_OCI_ERR_UNAUTHORIZED,
                                 ctx->why ? ctx->why : "wrong credentials");
}


/* rc of ngx_oci_policy_decide(): likewise */

static ngx_int_t
ngx_oci_policy_decided(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_ctx_t *octx, ngx_oci_caller_t *caller, ngx_oci_verdict_t *verdict,
    ngx_int_t rc)
{
    /* a transfer that is decided again keeps what its token says */

    if (rc != NGX_OK || verdict->status || ctx->dry_run
        || octx->route.route == NGX_OCI_ROUTE_PING)
    {
        ngx_oci_jwt_free(&caller->jwt);
    }

    if (rc != NGX_OK) {
        return ctx->dry_run
               ? ngx_oci_policy_dry_run(r, ctx, octx, "it can't be decided")
               : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (verdict->status) {
        ctx->error = verdict->error;

        return ngx_oci_policy_refuse(r, ctx, verdict->status, verdict->code,
                                     verdict->reason);
    }

    if (ctx->dry_run) {
        return ngx_oci_policy_dry_run(r, ctx, octx, NULL);
    }

    ctx->decision = "allow";

    if (octx->route.route == NGX_OCI_ROUTE_PING) {
        ngx_http_finalize_request(r, ngx_oci_policy_pong(r));
        return NGX_DONE;
    }

    if (ngx_oci_recheck_add(r, ctx, caller) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    octx->allowed = &ctx->policy->policy;

    return NGX_OK;
}


ngx_oci_policy_ctx_t *
ngx_oci_policy_ctx(ngx_http_request_t *r, ngx_oci_policy_conf_t *pcf)
{
    ngx_oci_policy_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_policy_module);

    if (ctx == NULL) {
        ctx = ngx_pcalloc(r->pool, sizeof(ngx_oci_policy_ctx_t));
        if (ctx == NULL) {
            return NULL;
        }

        ngx_http_set_ctx(r, ctx, ngx_http_oci_policy_module);
    }

    if (ctx->policy != pcf) {
        ctx->policy = pcf;
        ctx->checked = NGX_OCI_CHECKED_NOT;
    }

    return ctx;
}
