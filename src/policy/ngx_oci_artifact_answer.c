
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a client, and the log, is told of an artifact that is refused.
 */


#include "ngx_oci_artifact.h"


static ngx_str_t  ngx_oci_artifact_rules[] = {
    ngx_string("media_types"),
    ngx_string("artifact_types"),
    ngx_string("formats"),
    ngx_string("signature"),
    ngx_string("immutable")
};


static void ngx_oci_artifact_denied(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, const char *why);


/* rule: 0: none of the project's; what decided stands in the context */

ngx_int_t
ngx_oci_artifact_refuse(ngx_oci_artifact_t *a, ngx_uint_t rule,
    const char *why)
{
    u_char              *p;
    size_t               len;
    ngx_str_t           *repository, *name;
    ngx_http_request_t  *r;

    r = a->judge->request;
    ngx_oci_artifact_denied(r, a->ctx, why);

    repository = &a->judge->ctx->route.repository;

    if (rule) {
        name = &ngx_oci_artifact_rules[ngx_oci_rules_place(rule)];

        for (len = 0; len < repository->len; len++) {
            if (repository->data[len] == '/') {
                break;
            }
        }

        p = ngx_pnalloc(r->pool, sizeof("projects//") + len + name->len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        a->ctx->rule.data = p;
        a->ctx->rule.len = ngx_sprintf(p, "projects/%*s/%V", len,
                                       repository->data, name)
                           - p;
    }

    ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                  "oci_policy \"%V\" refused \"%V\" of \"%V\" by \"%V\": %s",
                  &a->policy->policy.name, &a->judge->ctx->route.reference,
                  repository, &a->ctx->rule, why);

    a->judge->rc = ngx_oci_core.error(r, NGX_HTTP_PRECONDITION_FAILED,
                                      NGX_OCI_ERR_POLICY, why);

    return NGX_DECLINED;
}


void
ngx_oci_artifact_dry(ngx_oci_artifact_t *a, ngx_uint_t rule, const char *why)
{
    ngx_http_request_t  *r;

    r = a->judge->request;

    ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                  "oci_policy \"%V\" would refuse \"%V\" of \"%V\" by "
                  "\"%V\": %s", &a->policy->policy.name,
                  &a->judge->ctx->route.reference,
                  &a->judge->ctx->route.repository,
                  &ngx_oci_artifact_rules[ngx_oci_rules_place(rule)], why);
}


/* NULL: it may be sent without having been seen */

const char *
ngx_oci_artifact_unseen(ngx_http_request_t *r, ngx_oci_ctx_t *octx,
    ngx_oci_digest_t *digest)
{
    const char             *why;
    ngx_oci_rbac_t         *doc;
    ngx_oci_policy_ctx_t   *ctx;
    ngx_oci_policy_conf_t  *pcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_policy_module);
    pcf = octx->allowed->data;
    why = "what it is can't be seen here";

    if (ctx == NULL) {
        return why;
    }

    if (!ctx->judged) {

        ngx_shmtx_lock(&pcf->shpool->mutex);

        doc = ngx_oci_policy_doc(pcf);

        if (doc && doc->nquarantine == 0) {
            why = NULL;

        } else if (doc && digest) {
            why = ngx_oci_policy_quarantine(r, ctx, doc, digest)
                  ? (ctx->message ? ctx->message : "it is in quarantine")
                  : NULL;
        }

        ngx_shmtx_unlock(&pcf->shpool->mutex);
    }

    if (why) {
        ngx_oci_artifact_denied(r, ctx, why);

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "oci_policy \"%V\" refused \"%V\" of \"%V\" past a "
                      "cache: %s",
                      &pcf->policy.name, &octx->route.reference,
                      &octx->route.repository, why);
    }

    return why;
}


/* for the log: what the caller has may be gone before the record is made */

static void
ngx_oci_artifact_denied(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    const char *why)
{
    size_t   len;
    u_char  *p;

    ctx->decision = "deny";
    ctx->reason = "an artifact is refused";

    len = ngx_strlen(why) + 1;
    p = ngx_pnalloc(r->pool, len);

    if (p) {
        ngx_memcpy(p, why, len);
        ctx->reason = (char *) p;
    }
}
