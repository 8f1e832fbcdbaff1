
/*
 * Copyright (C) The nginx-oci authors
 *
 * "oci_access dry_run": what would have been done is said, nothing is.
 */


#include "ngx_oci_policy.h"


/* the phase goes on as if there were no policy */

ngx_int_t
ngx_oci_policy_dry_run(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_ctx_t *octx, const char *reason)
{
    octx->judge = 0;
    octx->bare = 0;

    if (reason == NULL) {
        ctx->decision = "dry_run_allow";
        return NGX_DECLINED;
    }

    ctx->decision = "dry_run_deny";
    ctx->reason = reason;

    ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                  "oci_policy \"%V\" would have denied it%s%V%s: %s",
                  &ctx->policy->policy.name, ctx->subject.len ? " to \"" : "",
                  &ctx->subject, ctx->subject.len ? "\"" : "", reason);

    return NGX_DECLINED;
}
