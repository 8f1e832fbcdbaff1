
/*
 * Copyright (C) The nginx-oci authors
 *
 * Who asks: the request's credentials, and what they show.
 */


#include "ngx_oci_policy.h"


ngx_int_t
ngx_oci_policy_identify(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_caller_t *caller)
{
    u_char     mac[NGX_OCI_POLICY_MAC];
    ngx_int_t  rc, known;
    ngx_str_t  user, secret;

    ngx_memzero(caller, sizeof(ngx_oci_caller_t));

    ctx->error = NULL;
    ctx->why = NULL;

    if (ctx->policy->bearer && ngx_oci_bearer_is(r)) {
        return ngx_oci_bearer_identify(r, ctx, caller);
    }

    if (!ctx->policy->basic && !ctx->policy->bearer) {
        return ngx_oci_certificate(r, ctx->policy, caller);
    }

    known = NGX_DECLINED;

    if (ctx->policy->basic) {
        known = ngx_oci_known_mac(r, ctx->policy, mac);
    }

    if (known == NGX_OK) {
        rc = ngx_oci_known_find(r, mac, caller);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    rc = ngx_oci_identity_basic(r, &user, &secret);

    /* what a client says expressly comes before what it always sends */

    if (rc == NGX_DECLINED) {
        return ngx_oci_certificate(r, ctx->policy, caller);
    }

    if (rc == NGX_ERROR) {
        return NGX_DECLINED;
    }

    if (!ctx->policy->basic) {
        ngx_explicit_memzero(secret.data, secret.len);
        return NGX_DECLINED;
    }

    rc = ngx_oci_policy_secret(r, ctx, &user, &secret);

    ngx_explicit_memzero(secret.data, secret.len);

    if (rc == NGX_OK) {
        caller->how = NGX_OCI_CALLER_BASIC;
        caller->subject = user;

        if (known == NGX_OK) {
            ngx_oci_known_keep(ctx, mac, caller);
        }
    }

    return rc;
}


ngx_int_t
ngx_oci_policy_secret(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_str_t *user, ngx_str_t *secret)
{
    u_char                   buf[NGX_OCI_PHC_MAX], mac[NGX_OCI_POLICY_MAC];
    ngx_str_t                text;
    ngx_uint_t               checked;
    ngx_oci_phc_t            phc;
    ngx_oci_rbac_t          *doc;
    ngx_oci_policy_conf_t   *pcf;
    ngx_oci_rbac_subject_t  *subject;

    pcf = ctx->policy;

    ngx_shmtx_lock(&pcf->shpool->mutex);

    doc = ngx_oci_policy_doc(pcf);

    if (doc == NULL) {
        ngx_shmtx_unlock(&pcf->shpool->mutex);
        return NGX_ERROR;
    }

    subject = ngx_oci_rbac_subject(doc, user);

    text.data = buf;
    ctx->generation = pcf->sh->generation;
    ctx->place = 0;

    if (subject && subject->secret) {
        ctx->place = (uint32_t) ((u_char *) subject - (u_char *) doc);
        text.len = subject->secret_len;
        ngx_memcpy(buf, ngx_oci_rbac_at(doc, subject->secret), text.len);

    } else {
        text.len = doc->dummy_len;
        ngx_memcpy(buf, ngx_oci_rbac_at(doc, doc->dummy), text.len);
    }

    ngx_shmtx_unlock(&pcf->shpool->mutex);

    ngx_oci_remember_mac(pcf, user, secret, &text, mac);

    /* what was checked for this request counts, remembered or not */

    if (ctx->checked
        && ngx_memcmp(ctx->mac, mac, NGX_OCI_POLICY_MAC) == 0)
    {
        checked = ctx->checked;

    } else {
        ngx_shmtx_lock(&pcf->shpool->mutex);
        checked = ngx_oci_remember_find(pcf, mac);
        ngx_shmtx_unlock(&pcf->shpool->mutex);
    }

    switch (checked) {

    case NGX_OCI_CHECKED_GOOD:
        return NGX_OK;

    case NGX_OCI_CHECKED_BAD:
        return NGX_DECLINED;

    case NGX_OCI_CHECKED_BUSY:
        return NGX_BUSY;

    case NGX_OCI_CHECKED_FAILED:
        return NGX_ERROR;
    }

    if (ngx_oci_phc_parse(&phc, (char *) text.data, text.len)) {
        return NGX_ERROR;
    }

    ngx_memcpy(ctx->mac, mac, NGX_OCI_POLICY_MAC);
    ctx->checked = NGX_OCI_CHECKED_NOT;

    return ngx_oci_identity_check(r, ctx, &phc, secret);
}
