
/*
 * Copyright (C) The nginx-oci authors
 *
 * What else than the registry's API a policy has rights for: the status, which
 * is no repository's, preheating and purging.
 */


#include "ngx_oci_policy.h"


static ngx_uint_t  ngx_oci_policy_duties[] = {
    NGX_OCI_STATUS, NGX_OCI_PREHEAT, NGX_OCI_PURGE
};


/* whatever the URI looks like, it is nothing that a registry has */

ngx_uint_t
ngx_oci_policy_duty(ngx_http_request_t *r, ngx_oci_ctx_t *octx)
{
    ngx_str_t              name;
    const ngx_oci_duty_t  *duty;

    duty = ngx_oci_core.duty(r);

    if (duty == NULL) {
        return 0;
    }

    ngx_memzero(&octx->route, sizeof(ngx_oci_route_t));
    ngx_str_set(&octx->route.repository, "");

    if (duty->repository && duty->repository(r, &name) == NGX_OK) {
        octx->route.repository = name;
    }

    return 1;
}


ngx_uint_t
ngx_oci_policy_action(ngx_http_request_t *r, ngx_oci_ctx_t *octx)
{
    const ngx_oci_duty_t  *duty;

    duty = ngx_oci_core.duty(r);

    if (duty) {
        return ngx_oci_policy_duties[duty->what];
    }

    return ngx_oci_rbac_action(octx->route.route, &r->method_name,
                               ngx_oci_policy_catalog(r));
}


/*
 * Whoever was let in has the right somewhere.  From here on, and when it is
 * decided again, the request is one for this repository.
 */

ngx_int_t
ngx_oci_policy_may_do(ngx_http_request_t *r, ngx_oci_policy_t *policy,
    ngx_str_t *repository, ngx_uint_t quiet)
{
    ngx_int_t              rc;
    ngx_str_t              rule, before;
    ngx_oci_ctx_t         *octx;
    ngx_oci_verdict_t      verdict;
    ngx_oci_policy_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_policy_module);
    octx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    /* past the access phase nobody was let in */

    if (ctx == NULL || octx == NULL || octx->allowed != policy
        || ctx->caller == NULL)
    {
        return (quiet == NGX_OCI_MAY_ANSWER) ? NGX_HTTP_FORBIDDEN : NGX_ERROR;
    }

    rule = ctx->rule;
    before = octx->route.repository;
    octx->route.repository = *repository;

    if (quiet != NGX_OCI_MAY_QUIET) {
        octx->route.repository.data = ngx_pstrdup(r->pool, repository);

        if (octx->route.repository.data == NULL) {
            octx->route.repository = before;
            return (quiet == NGX_OCI_MAY_ANSWER)
                   ? NGX_HTTP_INTERNAL_SERVER_ERROR : NGX_ERROR;
        }
    }

    rc = ngx_oci_policy_decide(r, ctx, octx, ctx->caller, &verdict);

    if (quiet == NGX_OCI_MAY_QUIET) {
        octx->route.repository = before;
        ctx->rule = rule;
        return (rc != NGX_OK || verdict.status) ? NGX_ERROR : NGX_DECLINED;
    }

    if (rc != NGX_OK) {
        octx->route.repository = before;
        return (quiet == NGX_OCI_MAY_ANSWER) ? NGX_HTTP_INTERNAL_SERVER_ERROR
                                             : NGX_ERROR;
    }

    if (verdict.status == 0) {
        return NGX_DECLINED;
    }

    if (quiet == NGX_OCI_MAY_HIDE) {
        ngx_oci_policy_denied(r, ctx, verdict.reason);
        return NGX_ERROR;
    }

    ctx->error = verdict.error;

    return ngx_oci_policy_deny(r, ctx, verdict.status, verdict.code,
                               verdict.reason);
}
