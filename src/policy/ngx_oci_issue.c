
/*
 * Copyright (C) The nginx-oci authors
 *
 * "oci_token policy=": tokens of the edge's own, for subjects of the document
 * and for nobody.  What a token names is what the document grants now; it is
 * looked up again with each request that comes with it.
 */


#include "ngx_oci_issue.h"

#include <openssl/rand.h>


#define NGX_OCI_ISSUE_ID  16            /* random bytes */


static ngx_int_t ngx_oci_issue_query(ngx_http_request_t *r,
    ngx_oci_issue_t *is);
static void ngx_oci_issue_resume(ngx_http_request_t *r);
static ngx_int_t ngx_oci_issue_grant(ngx_oci_issue_t *is);
static ngx_int_t ngx_oci_issue_token(ngx_http_request_t *r,
    ngx_oci_issue_t *is);
static char *ngx_oci_issue_sign(ngx_oci_issue_t *is, size_t *len);
static ngx_int_t ngx_oci_issue_send(ngx_http_request_t *r,
    ngx_oci_issue_t *is, ngx_str_t *token);
static ngx_int_t ngx_oci_issue_refuse(ngx_http_request_t *r,
    ngx_oci_issue_t *is, const char *reason);
static void ngx_oci_issue_wipe(void *data);


ngx_int_t
ngx_oci_issue_handler(ngx_http_request_t *r, ngx_oci_policy_t *policy)
{
    ngx_oci_issue_t       *is;
    ngx_pool_cleanup_t    *cln;
    ngx_oci_policy_ctx_t  *ctx;

    if (r != r->main) {
        return ngx_oci_core.error(r, NGX_HTTP_FORBIDDEN, NGX_OCI_ERR_DENIED,
                                  NULL);
    }

    ctx = ngx_oci_policy_ctx(r, policy->data);
    is = ngx_pcalloc(r->pool, sizeof(ngx_oci_issue_t));
    cln = ngx_pool_cleanup_add(r->pool, 0);

    if (ctx == NULL || is == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_oci_issue_wipe;
    cln->data = is;

    is->ctx = ctx;
    ctx->issue = is;
    ctx->resume = ngx_oci_issue_resume;

    return (r->method == NGX_HTTP_POST) ? ngx_oci_issue_form(r, is)
                                        : ngx_oci_issue_query(r, is);
}


static ngx_int_t
ngx_oci_issue_query(ngx_http_request_t *r, ngx_oci_issue_t *is)
{
    ngx_int_t    rc;
    ngx_str_t    text;
    const char  *error;

    if (r->headers_in.content_length_n > 0 || r->headers_in.chunked) {
        return ngx_oci_issue_bad(r, is, NGX_HTTP_BAD_REQUEST,
                                 "a body is not expected here");
    }

    text.len = r->args.len;
    text.data = ngx_pnalloc(r->pool, text.len + 1);

    if (text.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (text.len) {
        ngx_memcpy(text.data, r->args.data, text.len);
    }

    error = ngx_oci_scopes_parse(&is->scopes, &text);

    if (error) {
        return ngx_oci_issue_bad(r, is, NGX_HTTP_BAD_REQUEST, error);
    }

    rc = ngx_oci_identity_basic(r, &is->user, &is->secret);

    if (rc == NGX_ERROR) {
        return ngx_oci_issue_refuse(r, is, "no Basic credentials");
    }

    if (rc == NGX_DECLINED) {
        is->user.data = NULL;
    }

    rc = ngx_oci_issue_decide(r, is);

    if (!is->ctx->waiting) {
        return rc;
    }

    r->main->count++;

    return NGX_DONE;
}


static void
ngx_oci_issue_resume(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_oci_policy_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_policy_module);

    rc = ngx_oci_issue_decide(r, ctx->issue);

    if (!ctx->waiting) {
        ngx_http_finalize_request(r, rc);
    }
}


ngx_int_t
ngx_oci_issue_decide(ngx_http_request_t *r, ngx_oci_issue_t *is)
{
    ngx_int_t               rc;
    ngx_oci_policy_conf_t  *pcf;

    pcf = is->ctx->policy;

    if (ngx_oci_policy_current(pcf, &is->ctx->source) != NGX_OK) {
        return ngx_oci_policy_past(r, is->ctx);
    }

    if (is->scopes.service.len
        && (is->scopes.service.len != pcf->service.len
            || ngx_memcmp(is->scopes.service.data, pcf->service.data,
                          pcf->service.len)
               != 0))
    {
        return ngx_oci_issue_bad(r, is, NGX_HTTP_BAD_REQUEST,
                                 "tokens are issued for another service");
    }

    if (is->user.data == NULL && !pcf->anonymous) {
        return ngx_oci_issue_refuse(r, is, "no credentials");
    }

    if (is->user.data && !pcf->basic) {
        return ngx_oci_issue_refuse(r, is, "nobody logs in");
    }

    rc = NGX_OK;

    if (is->user.data) {
        rc = ngx_oci_policy_secret(r, is->ctx, &is->user,
                                   is->form ? &is->scopes.password
                                            : &is->secret);
    }

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (rc == NGX_BUSY) {
        is->ctx->decision = "deny";
        is->ctx->reason = "too many logins at once";

        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "oci_policy \"%V\": too many secrets are to be "
                      "checked at once", &pcf->policy.name);

        return ngx_oci_core.error_retry(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                        NGX_OCI_ERR_UNAVAILABLE,
                                        "too many logins at once", 1);
    }

    if (rc == NGX_OK) {
        rc = ngx_oci_issue_grant(is);
    }

    if (rc == NGX_DECLINED) {
        return ngx_oci_issue_refuse(r, is, "wrong credentials");
    }

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_oci_issue_token(r, is);
}


/*
 * What is asked for becomes what is granted.  NGX_OK; NGX_DECLINED: the
 * subject is disabled; NGX_ERROR: there is no document.
 */

static ngx_int_t
ngx_oci_issue_grant(ngx_oci_issue_t *is)
{
    ngx_int_t                rc;
    ngx_str_t                all;
    ngx_uint_t               i;
    ngx_oci_rbac_t          *doc;
    ngx_oci_scope_t         *scope;
    ngx_oci_rbac_rule_t     *rule;
    ngx_oci_policy_conf_t   *pcf;
    ngx_oci_rbac_subject_t  *subject;

    pcf = is->ctx->policy;
    subject = NULL;
    rc = NGX_OK;
    ngx_str_set(&all, "");

    ngx_shmtx_lock(&pcf->shpool->mutex);

    doc = ngx_oci_policy_doc(pcf);

    if (doc == NULL) {
        rc = NGX_ERROR;

    } else if (is->user.data) {
        subject = ngx_oci_rbac_subject(doc, &is->user);

        if (subject == NULL || subject->disabled
            || subject->not_before > (int64_t) ngx_time())
        {
            rc = NGX_DECLINED;
        }
    }

    for (i = 0; rc == NGX_OK && i < is->scopes.nscopes; i++) {
        scope = &is->scopes.scopes[i];

        scope->actions &= ngx_oci_rbac_rights(doc, subject,
                                   scope->kind == NGX_OCI_SCOPE_CATALOG
                                   ? &all : &scope->name,
                                   scope->actions, &rule);
    }

    ngx_shmtx_unlock(&pcf->shpool->mutex);

    return rc;
}


static ngx_int_t
ngx_oci_issue_token(ngx_http_request_t *r, ngx_oci_issue_t *is)
{
    char       *text;
    size_t      len;
    ngx_int_t   rc;
    ngx_str_t   token;

    if (is->user.data) {
        is->ctx->subject = is->user;
    }

    text = ngx_oci_issue_sign(is, &len);

    if (text == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "oci_policy \"%V\": a token can't be signed",
                      &is->ctx->policy->policy.name);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (len > NGX_OCI_JWT_MAX) {
        rc = ngx_oci_issue_bad(r, is, NGX_HTTP_BAD_REQUEST,
                               "too many scopes");

    } else {
        token.data = (u_char *) text;
        token.len = len;

        rc = ngx_oci_issue_send(r, is, &token);
    }

    ngx_explicit_memzero(text, len);
    free(text);

    return rc;
}


/* to be freed with free() */

static char *
ngx_oci_issue_sign(ngx_oci_issue_t *is, size_t *len)
{
    char                   *claims, *token;
    u_char                  random[NGX_OCI_ISSUE_ID];
    u_char                  hex[2 * NGX_OCI_ISSUE_ID];
    ngx_str_t               id, subject;
    ngx_oci_policy_conf_t  *pcf;

    pcf = is->ctx->policy;

    if (RAND_bytes(random, NGX_OCI_ISSUE_ID) != 1) {
        return NULL;
    }

    id.data = hex;
    id.len = ngx_hex_dump(hex, random, NGX_OCI_ISSUE_ID) - hex;

    subject.data = is->user.data;
    subject.len = is->user.data ? is->user.len : 0;

    claims = ngx_oci_scopes_claims(&is->scopes, &subject, &pcf->service, &id,
                                   ngx_time());
    if (claims == NULL) {
        return NULL;
    }

    token = ngx_oci_jwt_sign(pcf->signing->elts, claims, ngx_strlen(claims),
                             len);
    free(claims);

    return token;
}


/* "scope" is of the answer to a form only */

static ngx_int_t
ngx_oci_issue_send(ngx_http_request_t *r, ngx_oci_issue_t *is,
    ngx_str_t *token)
{
    size_t            n;
    u_char            scope[NGX_OCI_SCOPE_TEXT];
    ngx_tm_t          tm;
    ngx_buf_t        *b;
    ngx_table_elt_t  *h;

    n = is->form ? ngx_oci_scopes_text(&is->scopes, scope) : 0;

    b = ngx_create_temp_buf(r->pool, 256 + 2 * token->len + n);
    h = ngx_list_push(&r->headers_out.headers);

    if (b == NULL || h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "Cache-Control");
    ngx_str_set(&h->value, "no-store");

    ngx_gmtime(ngx_time(), &tm);

    b->last = ngx_sprintf(b->last,
                          "{\"token\":\"%V\",\"access_token\":\"%V\","
                          "\"expires_in\":%d,\"issued_at\":"
                          "\"%4d-%02d-%02dT%02d:%02d:%02dZ\"",
                          token, token, NGX_OCI_SCOPE_TOKEN,
                          tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                          tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec);

    if (is->form) {
        b->last = ngx_sprintf(b->last, ",\"scope\":\"%*s\"", n, scope);
    }

    *b->last++ = '}';

    is->ctx->decision = "allow";

    return ngx_oci_core.send(r, NGX_HTTP_OK, "application/json", b);
}


ngx_int_t
ngx_oci_issue_bad(ngx_http_request_t *r, ngx_oci_issue_t *is,
    ngx_uint_t status, const char *reason)
{
    is->ctx->decision = "deny";
    is->ctx->reason = reason;

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "oci_policy \"%V\" denied a token: %s",
                  &is->ctx->policy->policy.name, reason);

    return ngx_oci_core.error(r, status, NGX_OCI_ERR_UNSUPPORTED, reason);
}


/* what is wrong with credentials is not told */

static ngx_int_t
ngx_oci_issue_refuse(ngx_http_request_t *r, ngx_oci_issue_t *is,
    const char *reason)
{
    ngx_table_elt_t  *h;

    is->ctx->decision = "deny";
    is->ctx->reason = reason;

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "oci_policy \"%V\" denied a token: %s",
                  &is->ctx->policy->policy.name, reason);

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "WWW-Authenticate");
    h->value = is->ctx->policy->challenge;

    r->headers_out.www_authenticate = h;

    return ngx_oci_core.error(r, NGX_HTTP_UNAUTHORIZED,
                              NGX_OCI_ERR_UNAUTHORIZED, NULL);
}


/* the request ends */

static void
ngx_oci_issue_wipe(void *data)
{
    ngx_oci_issue_t *is = data;

    if (is->secret.data) {
        ngx_explicit_memzero(is->secret.data, is->secret.len);
    }
}
