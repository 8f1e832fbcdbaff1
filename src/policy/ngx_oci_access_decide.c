
/*
 * Copyright (C) The nginx-oci authors
 *
 * May they: a request, by the document that is in force.
 */


#include "ngx_oci_policy.h"


static void ngx_oci_policy_token(ngx_oci_policy_conf_t *pcf,
    ngx_oci_caller_t *caller, ngx_str_t *repository, ngx_uint_t action);
static ngx_int_t ngx_oci_policy_by(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_str_t *before, u_char *rule, size_t len);
static void ngx_oci_policy_nobody(ngx_oci_policy_conf_t *pcf,
    ngx_oci_caller_t *caller, ngx_oci_verdict_t *verdict);
static void ngx_oci_policy_who(ngx_oci_policy_conf_t *pcf,
    ngx_oci_caller_t *caller, ngx_oci_rbac_subject_t *subject,
    ngx_uint_t action, ngx_oci_verdict_t *verdict);
static void ngx_oci_policy_may(ngx_oci_policy_conf_t *pcf,
    ngx_oci_rbac_t *doc, ngx_oci_caller_t *caller,
    ngx_oci_rbac_subject_t *subject, ngx_str_t *repository,
    ngx_uint_t action, ngx_oci_rbac_rule_t **rule,
    ngx_oci_verdict_t *verdict);
static void ngx_oci_policy_right(ngx_oci_rbac_t *doc, ngx_oci_known_t *known,
    ngx_oci_rbac_subject_t *subject, ngx_str_t *repository,
    ngx_uint_t action, ngx_oci_rbac_rule_t **rule,
    ngx_oci_verdict_t *verdict);


ngx_int_t
ngx_oci_policy_decide(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_ctx_t *octx, ngx_oci_caller_t *caller,
    ngx_oci_verdict_t *verdict)
{
    u_char                   rule[2 * NGX_OCI_RBAC_NAME_MAX];
    size_t                   by_len;
    ngx_str_t                before;
    ngx_uint_t               action;
    ngx_oci_rbac_t          *doc;
    ngx_oci_rbac_rule_t     *by;
    ngx_oci_policy_conf_t   *pcf;
    ngx_oci_rbac_subject_t  *subject;

    pcf = ctx->policy;
    ngx_memzero(verdict, sizeof(ngx_oci_verdict_t));
    before = ctx->rule;
    ctx->rule.len = 0;
    ctx->how = NULL;
    ctx->message = NULL;
    by = NULL;
    by_len = 0;

    action = ngx_oci_policy_action(r, octx);

    ngx_oci_policy_token(pcf, caller, &octx->route.repository, action);

    ngx_shmtx_lock(&pcf->shpool->mutex);

    doc = ngx_oci_policy_doc(pcf);
    subject = NULL;

    if (doc == NULL) {
        ngx_shmtx_unlock(&pcf->shpool->mutex);
        return NGX_ERROR;
    }

    ctx->epoch = pcf->sh->epoch ? pcf->sh->epoch : pcf->sh->generation;

    if (caller->known) {

        if (ngx_oci_known_subject(caller->known, pcf, &subject) != NGX_OK) {
            ngx_shmtx_unlock(&pcf->shpool->mutex);
            ctx->rule = before;
            return NGX_AGAIN;
        }

    } else if (caller->subject.len) {
        subject = ngx_oci_rbac_subject(doc, &caller->subject);
    }

    ngx_oci_policy_who(pcf, caller, subject, action, verdict);

    if (verdict->status == 0) {
        ngx_oci_policy_may(pcf, doc, caller, subject,
                           &octx->route.repository, action, &by, verdict);
    }

    if (verdict->status == 0 && octx->route.route == NGX_OCI_ROUTE_UPLOAD) {
        ngx_oci_policy_upload(r, octx, doc, subject, pcf, caller, verdict);
    }

    if (verdict->status == 0 && action == NGX_OCI_PULL) {
        ngx_oci_policy_artifact(r, ctx, octx, doc, subject, caller, verdict);
    }

    ctx->by_token = verdict->status ? verdict->insufficient
                                    : !ngx_oci_bearer_store(pcf, caller);

    /* (unless another one decided) */

    if (by && ctx->rule.len == 0) {
        by_len = ngx_min(by->name_len, sizeof(rule));
        ngx_memcpy(rule, ngx_oci_rbac_at(doc, by->name), by_len);
    }

    ngx_shmtx_unlock(&pcf->shpool->mutex);

    if (by_len && ngx_oci_policy_by(r, ctx, &before, rule, by_len) != NGX_OK) {
        return NGX_ERROR;
    }

    if (subject || caller->how == NGX_OCI_CALLER_BEARER) {
        ctx->subject = caller->subject;
        ctx->how = (caller->how == NGX_OCI_CALLER_BASIC) ? "basic"
                   : (caller->how == NGX_OCI_CALLER_BEARER) ? "bearer"
                   : "certificate";
    }

    if (verdict->status && caller->subject.len == 0) {
        ngx_oci_policy_nobody(pcf, caller, verdict);
    }

    return NGX_OK;
}


/* a token may have many entries: not under the mutex */

static void
ngx_oci_policy_token(ngx_oci_policy_conf_t *pcf, ngx_oci_caller_t *caller,
    ngx_str_t *repository, ngx_uint_t action)
{
    caller->lacking = ngx_oci_bearer_lacks(pcf, caller, repository, action);
    caller->pull_only = (action == NGX_OCI_PULL && !caller->jwt.own)
                        && ngx_oci_bearer_lacks(pcf, caller, repository,
                                                NGX_OCI_PUSH);
}


/* the rule's name; of a running transfer it is the same as before, mostly */

static ngx_int_t
ngx_oci_policy_by(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_str_t *before, u_char *rule, size_t len)
{
    if (len == before->len && ngx_memcmp(rule, before->data, len) == 0) {
        ctx->rule = *before;
        return NGX_OK;
    }

    ctx->rule.data = ngx_pnalloc(r->pool, len);
    if (ctx->rule.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(ctx->rule.data, rule, len);
    ctx->rule.len = len;

    return NGX_OK;
}


/* a denial of who is not known by name */

static void
ngx_oci_policy_nobody(ngx_oci_policy_conf_t *pcf, ngx_oci_caller_t *caller,
    ngx_oci_verdict_t *verdict)
{
    /* nobody is given what is in quarantine */

    if (verdict->code == NGX_OCI_ERR_POLICY) {
        return;
    }

    /* who has shown nothing yet may do so, whatever it is about */

    if (pcf->basic || pcf->bearer) {
        verdict->status = NGX_HTTP_UNAUTHORIZED;
        verdict->code = NGX_OCI_ERR_UNAUTHORIZED;

        if (caller->how == NGX_OCI_CALLER_NOBODY) {
            verdict->reason = "no credentials";

        } else if (verdict->error == NULL) {
            verdict->error = "insufficient_scope";
        }
    }

    /* and so may who has a token of nobody's */

    if (caller->how == NGX_OCI_CALLER_BEARER
        && verdict->status != NGX_HTTP_UNAUTHORIZED)
    {
        ngx_oci_bearer_insufficient(verdict);
    }
}


/* may this caller come at all? */

static void
ngx_oci_policy_who(ngx_oci_policy_conf_t *pcf, ngx_oci_caller_t *caller,
    ngx_oci_rbac_subject_t *subject, ngx_uint_t action,
    ngx_oci_verdict_t *verdict)
{
    if (caller->how == NGX_OCI_CALLER_BEARER) {
        ngx_oci_bearer_subject(pcf, caller, subject, verdict);
        return;
    }

    if (caller->how == NGX_OCI_CALLER_NOBODY) {

        /* with others, whoever comes to /v2/ is to say who it is */

        if (pcf->anonymous
            && !((pcf->basic || pcf->bearer) && action == NGX_OCI_LOGIN))
        {
            return;
        }

        verdict->reason = "no credentials";

    } else if (subject == NULL || subject->disabled
               || subject->not_before > (int64_t) ngx_time())
    {
        verdict->reason = "the subject is disabled";

    } else {
        return;
    }

    verdict->status = NGX_HTTP_UNAUTHORIZED;
    verdict->code = NGX_OCI_ERR_UNAUTHORIZED;
}


/* what a token has, what the document has, or both */

static void
ngx_oci_policy_may(ngx_oci_policy_conf_t *pcf, ngx_oci_rbac_t *doc,
    ngx_oci_caller_t *caller, ngx_oci_rbac_subject_t *subject,
    ngx_str_t *repository, ngx_uint_t action, ngx_oci_rbac_rule_t **rule,
    ngx_oci_verdict_t *verdict)
{
    /* another one of the edge's own would have no more than the document */

    if (caller->lacking && !caller->jwt.own) {
        ngx_oci_bearer_insufficient(verdict);
        return;
    }

    if (action == 0 || ngx_oci_bearer_store(pcf, caller)) {
        ngx_oci_policy_right(doc, caller->known, subject, repository, action,
                             rule, verdict);
    }

    if (verdict->status == 0 && caller->lacking) {
        ngx_oci_bearer_insufficient(verdict);
    }
}


/* a right on one repository, or on what concerns all */

static void
ngx_oci_policy_right(ngx_oci_rbac_t *doc, ngx_oci_known_t *known,
    ngx_oci_rbac_subject_t *subject, ngx_str_t *repository, ngx_uint_t action,
    ngx_oci_rbac_rule_t **rule, ngx_oci_verdict_t *verdict)
{
    ngx_uint_t  rights;
    ngx_str_t   all;

    verdict->status = NGX_HTTP_FORBIDDEN;
    verdict->code = NGX_OCI_ERR_DENIED;

    if (action == 0) {
        verdict->reason = "nobody may do that";
        return;
    }

    if (action == NGX_OCI_LOGIN) {
        verdict->status = 0;
        return;
    }

    if (action == NGX_OCI_CATALOG) {
        ngx_str_set(&all, "");
        repository = &all;
    }

    *rule = known ? ngx_oci_known_rule(known, doc, repository, action) : NULL;

    if (*rule) {
        verdict->status = 0;
        return;
    }

    rights = 1;

    if (repository->len == 0 && action != NGX_OCI_CATALOG) {
        *rule = ngx_oci_rbac_anywhere(doc, subject, action);

    } else {
        rights = ngx_oci_rbac_rights(doc, subject, repository, action, rule);
    }

    if (*rule) {
        verdict->status = 0;

        if (known) {
            ngx_oci_known_allowed(known, doc, repository, action, *rule);
        }

        return;
    }

    verdict->reason = "no such right";

    /* who has none at all doesn't learn that it is not a name of anything */

    if (rights == 0 && action != NGX_OCI_CATALOG) {
        verdict->status = NGX_HTTP_NOT_FOUND;
        verdict->code = NGX_OCI_ERR_NAME_UNKNOWN;
    }
}


ngx_uint_t
ngx_oci_policy_catalog(ngx_http_request_t *r)
{
    u_char  *p;
    size_t   len;

    p = r->unparsed_uri.data;
    len = r->unparsed_uri.len;

    return len >= sizeof("/v2/_catalog") - 1
           && ngx_memcmp(p, "/v2/_catalog", sizeof("/v2/_catalog") - 1) == 0
           && (len == sizeof("/v2/_catalog") - 1
               || p[sizeof("/v2/_catalog") - 1] == '?');
}
