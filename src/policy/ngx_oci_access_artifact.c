
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the access phase knows of an artifact: its digest may be in
 * quarantine, and its project may have rules.
 */


#include "ngx_oci_policy.h"


#define NGX_OCI_POLICY_QUARANTINE  "quarantine/"
#define NGX_OCI_POLICY_IS          " is in quarantine: "


static ngx_uint_t ngx_oci_policy_judged(ngx_oci_policy_ctx_t *ctx,
    ngx_oci_ctx_t *octx, ngx_oci_rbac_t *doc,
    ngx_oci_rbac_subject_t *subject, ngx_oci_caller_t *caller);
static ngx_uint_t ngx_oci_policy_immutable(ngx_oci_ctx_t *octx,
    ngx_oci_rbac_t *doc);


void
ngx_oci_policy_artifact(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_ctx_t *octx, ngx_oci_rbac_t *doc,
    ngx_oci_rbac_subject_t *subject, ngx_oci_caller_t *caller,
    ngx_oci_verdict_t *verdict)
{
    switch (octx->route.route) {

    case NGX_OCI_ROUTE_TAG:
    case NGX_OCI_ROUTE_MANIFEST:
    case NGX_OCI_ROUTE_BLOB:
        break;

    default:
        return;
    }

    if (octx->route.digest.alg != NGX_OCI_DIGEST_NONE
        && ngx_oci_policy_quarantine(r, ctx, doc, &octx->route.digest))
    {
        verdict->status = NGX_HTTP_PRECONDITION_FAILED;
        verdict->code = NGX_OCI_ERR_POLICY;
        verdict->reason = ctx->message ? ctx->message : "quarantine";
        return;
    }

    ctx->judged = ngx_oci_policy_judged(ctx, octx, doc, subject, caller);

    /* where a tag leads to is found out later */

    octx->judge = ctx->judged
                  || (octx->route.route == NGX_OCI_ROUTE_TAG
                      && (doc->nquarantine
                          || ngx_oci_policy_immutable(octx, doc)));
}


/* 1: ctx->message says why */

ngx_uint_t
ngx_oci_policy_quarantine(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_rbac_t *doc, ngx_oci_digest_t *digest)
{
    u_char                      *p;
    ngx_oci_rules_quarantine_t  *q;

    q = ngx_oci_rules_quarantined(doc, digest);

    if (q == NULL) {
        return 0;
    }

    p = ngx_pnalloc(r->pool, 2 * NGX_OCI_DIGEST_LEN + NGX_OCI_RULES_TEXT
                             + sizeof(NGX_OCI_POLICY_QUARANTINE)
                             + sizeof(NGX_OCI_POLICY_IS));
    if (p == NULL) {
        return 1;
    }

    ctx->rule.data = p;
    p = ngx_cpymem(p, NGX_OCI_POLICY_QUARANTINE,
                   sizeof(NGX_OCI_POLICY_QUARANTINE) - 1);
    p = ngx_oci_digest_print(p, digest);
    ctx->rule.len = p - ctx->rule.data;

    ctx->message = (char *) p;
    p = ngx_oci_digest_print(p, digest);
    p = ngx_cpymem(p, NGX_OCI_POLICY_IS, sizeof(NGX_OCI_POLICY_IS) - 1);
    p = ngx_cpymem(p, ngx_oci_rbac_at(doc, q->reason), q->reason_len);
    *p = '\0';

    return 1;
}


/* has it to be judged by its project's rules? */

static ngx_uint_t
ngx_oci_policy_judged(ngx_oci_policy_ctx_t *ctx, ngx_oci_ctx_t *octx,
    ngx_oci_rbac_t *doc, ngx_oci_rbac_subject_t *subject,
    ngx_oci_caller_t *caller)
{
    ngx_uint_t            rights;
    ngx_oci_rules_t      *rules;
    ngx_oci_rbac_rule_t  *rule;

    rules = ngx_oci_rules_find(doc, &octx->route.repository);

    if (rules == NULL || !(rules->rules & NGX_OCI_RULES_MANIFEST)) {
        return 0;
    }

    if (ngx_oci_rules_match_repository(rules, &rules->exempt,
                                       &octx->route.repository))
    {
        return 0;
    }

    /*
     * Who may push there has to be able to work on it.  A token of the edge's
     * own has what was asked for: its subject may ask for more.
     */

    if (caller->pull_only) {
        return 1;
    }

    if (!ngx_oci_bearer_store(ctx->policy, caller)) {
        return 0;
    }

    rights = ngx_oci_rbac_rights(doc, subject, &octx->route.repository,
                                 NGX_OCI_PUSH, &rule);

    return !(rights & NGX_OCI_PUSH);
}


/* a tag that should not move is reported when it does */

static ngx_uint_t
ngx_oci_policy_immutable(ngx_oci_ctx_t *octx, ngx_oci_rbac_t *doc)
{
    ngx_oci_rules_t  *rules;

    rules = ngx_oci_rules_find(doc, &octx->route.repository);

    return rules && (rules->rules & NGX_OCI_RULE_IMMUTABLE);
}
