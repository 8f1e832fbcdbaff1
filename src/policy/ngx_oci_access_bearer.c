
/*
 * Copyright (C) The nginx-oci authors
 *
 * Who asks, by a token, and what that counts for.
 */


#include "ngx_oci_policy.h"


#define NGX_OCI_BEARER_WHAT  "\0bearer"     /* is remembered */


static ngx_int_t ngx_oci_bearer_token(ngx_http_request_t *r,
    ngx_str_t *token);
static const char *ngx_oci_bearer_check(ngx_oci_policy_conf_t *pcf,
    ngx_str_t *token, ngx_oci_jwt_t *jwt);
static void ngx_oci_bearer_mac(ngx_oci_policy_conf_t *pcf, ngx_str_t *token,
    u_char *mac);


ngx_uint_t
ngx_oci_bearer_is(ngx_http_request_t *r)
{
    ngx_str_t  token;

    return ngx_oci_bearer_token(r, &token) == NGX_OK;
}


ngx_int_t
ngx_oci_bearer_identify(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_caller_t *caller)
{
    ngx_str_t    token;
    const char  *why;

    if (ngx_oci_bearer_token(r, &token) != NGX_OK) {
        return NGX_DECLINED;
    }

    why = ngx_oci_bearer_check(ctx->policy, &token, &caller->jwt);

    if (why == ngx_oci_jwt_memory) {
        return NGX_ERROR;
    }

    if (why) {
        ctx->error = "invalid_token";
        ctx->why = why;
        return NGX_DECLINED;
    }

    caller->how = NGX_OCI_CALLER_BEARER;

    /* it outlives the token's claims */

    if (caller->jwt.subject.len) {
        caller->subject.len = caller->jwt.subject.len;
        caller->subject.data = ngx_pstrdup(r->pool, &caller->jwt.subject);

        if (caller->subject.data == NULL) {
            ngx_oci_jwt_free(&caller->jwt);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* NULL: it is right; what is remembered is the signature, of all workers */

static const char *
ngx_oci_bearer_check(ngx_oci_policy_conf_t *pcf, ngx_str_t *token,
    ngx_oci_jwt_t *jwt)
{
    u_char                mac[NGX_OCI_POLICY_MAC];
    ngx_uint_t            known;
    const char           *why;
    ngx_oci_jwt_check_t   check;

    if (token->len > NGX_OCI_JWT_MAX) {
        return "the token is too long";
    }

    ngx_oci_bearer_mac(pcf, token, mac);

    if (ngx_oci_bearer_cached(pcf, mac, jwt)) {
        return NULL;
    }

    ngx_shmtx_lock(&pcf->shpool->mutex);
    known = ngx_oci_remember_find(pcf, mac);
    ngx_shmtx_unlock(&pcf->shpool->mutex);

    if (known == NGX_OCI_CHECKED_BAD) {
        return "the token's signature is wrong";
    }

    ngx_memzero(&check, sizeof(ngx_oci_jwt_check_t));

    check.keys = pcf->keys;
    check.own = &pcf->service;
    check.now = ngx_time();
    check.remembered = (known == NGX_OCI_CHECKED_GOOD);

    if (pcf->issuers && pcf->audiences) {
        check.issuers = pcf->issuers->elts;
        check.nissuers = pcf->issuers->nelts;
        check.audiences = pcf->audiences->elts;
        check.naudiences = pcf->audiences->nelts;
    }

    why = ngx_oci_jwt_verify(jwt, token, &check);

    if (!check.remembered && (why == NULL || jwt->wrong)) {
        ngx_oci_remember_put(pcf, mac, why == NULL);
    }

    if (why == NULL) {
        ngx_oci_bearer_keep(pcf, mac, token->len, jwt);
    }

    return why;
}


/* NGX_DECLINED: there is none */

static ngx_int_t
ngx_oci_bearer_token(ngx_http_request_t *r, ngx_str_t *token)
{
    ngx_table_elt_t  *h;

    h = r->headers_in.authorization;

    if (h == NULL || h->value.len < sizeof("Bearer ") - 1
        || ngx_strncasecmp(h->value.data, (u_char *) "Bearer ",
                           sizeof("Bearer ") - 1)
           != 0)
    {
        return NGX_DECLINED;
    }

    token->data = h->value.data + sizeof("Bearer ") - 1;
    token->len = h->value.len - (sizeof("Bearer ") - 1);

    while (token->len && token->data[0] == ' ') {
        token->data++;
        token->len--;
    }

    return NGX_OK;
}


/*
 * The whole token, and what the policy says of tokens: with other keys,
 * issuers or audiences it is void.
 */

static void
ngx_oci_bearer_mac(ngx_oci_policy_conf_t *pcf, ngx_str_t *token, u_char *mac)
{
    u_char     text[sizeof(NGX_OCI_BEARER_WHAT) + NGX_OCI_POLICY_DIGEST];
    ngx_str_t  nobody, what;

    ngx_memcpy(text, NGX_OCI_BEARER_WHAT, sizeof(NGX_OCI_BEARER_WHAT));
    ngx_memcpy(text + sizeof(NGX_OCI_BEARER_WHAT), pcf->tokens,
               NGX_OCI_POLICY_DIGEST);

    ngx_str_null(&nobody);
    what.data = text;
    what.len = sizeof(text);

    ngx_oci_remember_mac(pcf, &nobody, token, &what, mac);
}


/*
 * What the document has on the subject.  Where it grants rights it has to
 * know it; else it only takes them away.
 */

void
ngx_oci_bearer_subject(ngx_oci_policy_conf_t *pcf, ngx_oci_caller_t *caller,
    ngx_oci_rbac_subject_t *subject, ngx_oci_verdict_t *verdict)
{
    if (caller->subject.len == 0) {

        if (pcf->anonymous) {
            return;
        }

        verdict->reason = "the token is nobody's";

    } else if (subject == NULL) {

        if (!ngx_oci_bearer_store(pcf, caller)) {
            return;
        }

        verdict->reason = "the token's subject is not known";

    } else if (subject->disabled) {
        verdict->reason = "the subject is disabled";

    } else if (subject->not_before > (int64_t) ngx_time()
               || subject->not_before > caller->jwt.issued)
    {
        verdict->reason = "the token is from before the subject's time";

    } else {
        return;
    }

    verdict->status = NGX_HTTP_UNAUTHORIZED;
    verdict->code = NGX_OCI_ERR_UNAUTHORIZED;
    verdict->error = "invalid_token";
}


/* does the document grant anything? */

ngx_uint_t
ngx_oci_bearer_store(ngx_oci_policy_conf_t *pcf, ngx_oci_caller_t *caller)
{
    return caller->how != NGX_OCI_CALLER_BEARER
           || caller->jwt.own
           || pcf->grants != NGX_OCI_GRANTS_TOKEN;
}


/* does a token lack this? */

ngx_uint_t
ngx_oci_bearer_lacks(ngx_oci_policy_conf_t *pcf, ngx_oci_caller_t *caller,
    ngx_str_t *repository, ngx_uint_t action)
{
    ngx_str_t   catalog;
    ngx_uint_t  rights;

    /* the edge's own have what was asked for, whatever others count for */

    if (caller->how != NGX_OCI_CALLER_BEARER
        || (pcf->grants == NGX_OCI_GRANTS_STORE && !caller->jwt.own)
        || action == NGX_OCI_LOGIN || action == 0)
    {
        return 0;
    }

    if (action == NGX_OCI_CATALOG) {
        ngx_str_set(&catalog, "catalog");
        rights = ngx_oci_jwt_rights(&caller->jwt, "registry", &catalog);

    } else {
        rights = ngx_oci_jwt_rights(&caller->jwt, "repository", repository);
    }

    return (rights & action) == 0;
}


void
ngx_oci_bearer_insufficient(ngx_oci_verdict_t *verdict)
{
    verdict->status = NGX_HTTP_UNAUTHORIZED;
    verdict->code = NGX_OCI_ERR_UNAUTHORIZED;
    verdict->error = "insufficient_scope";
    verdict->insufficient = 1;
    verdict->reason = "the token has no such access";
}
