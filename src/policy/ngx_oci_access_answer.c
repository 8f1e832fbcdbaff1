
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the policy answers by itself.
 */


#include "ngx_oci_policy.h"


#define NGX_OCI_POLICY_RETRY  5         /* s: it comes back any moment */


ngx_int_t
ngx_oci_policy_refuse(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_uint_t status, ngx_uint_t code, const char *reason)
{
    ngx_int_t  rc;

    if (ctx->dry_run) {
        return ngx_oci_policy_dry_run(r, ctx,
                       ngx_http_get_module_ctx(r, ngx_http_oci_module),
                       reason);
    }

    rc = ngx_oci_policy_deny(r, ctx, status, code, reason);

    if (rc == NGX_HTTP_INTERNAL_SERVER_ERROR) {
        return rc;
    }

    ngx_http_finalize_request(r, rc);

    return NGX_DONE;
}


ngx_int_t
ngx_oci_policy_deny(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_uint_t status, ngx_uint_t code, const char *reason)
{
    ngx_table_elt_t  *h;

    /* a 401 has to have a challenge, which is answered by other means */

    if (status == NGX_HTTP_UNAUTHORIZED
        && !ngx_oci_policy_challenges(ctx->policy))
    {
        status = NGX_HTTP_FORBIDDEN;
        code = NGX_OCI_ERR_DENIED;
    }

    ngx_oci_policy_denied(r, ctx, reason);

    if (status == NGX_HTTP_UNAUTHORIZED) {

        h = ngx_list_push(&r->headers_out.headers);
        if (h == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        h->hash = 0;
        ngx_oci_header_unlink(h);
        ngx_str_set(&h->key, "WWW-Authenticate");

        if (ngx_oci_policy_challenge(r, ctx, &h->value) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        h->hash = 1;
        r->headers_out.www_authenticate = h;
    }

    return ngx_oci_core.error(r, status, code, ctx->message);
}


void
ngx_oci_policy_denied(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    const char *reason)
{
    ctx->decision = "deny";
    ctx->reason = reason;

    /* who it says to be isn't known, or may be a secret in the wrong place */

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "oci_policy \"%V\" denied it%s%V%s: %s",
                  &ctx->policy->policy.name, ctx->subject.len ? " to \"" : "",
                  &ctx->subject, ctx->subject.len ? "\"" : "", reason);
}


ngx_int_t
ngx_oci_policy_past(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx)
{
    ctx->decision = "deny";
    ctx->reason = "its document is past \"stale\"";

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "oci_policy \"%V\" denied it: its document is past "
                  "\"stale\", or not there", &ctx->policy->policy.name);

    return ngx_oci_core.error_retry(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    NGX_OCI_ERR_UNAVAILABLE,
                                    "the policy is not known at the moment",
                                    NGX_OCI_POLICY_RETRY);
}


ngx_int_t
ngx_oci_policy_pong(ngx_http_request_t *r)
{
    ngx_str_t  json;

    ngx_str_set(&json, "{}");

    return ngx_oci_core.answer(r, NGX_HTTP_OK, &json);
}
