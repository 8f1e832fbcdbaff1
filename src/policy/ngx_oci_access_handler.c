
/*
 * Copyright (C) The nginx-oci authors
 *
 * The decision, in the access phase: before anything is looked up in a cache
 * or asked of a registry, so that an answer tells nothing of what is there.
 */


#include "ngx_oci_policy.h"


typedef struct {
    ngx_uint_t   status;            /* 0: allowed */
    ngx_uint_t   code;              /* ngx_oci_error_e */
    const char  *reason;            /* for the log */
} ngx_oci_verdict_t;


static ngx_oci_policy_ctx_t *ngx_oci_policy_ctx(ngx_http_request_t *r,
    ngx_oci_policy_conf_t *pcf);
static ngx_int_t ngx_oci_policy_identify(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_str_t *user);
static ngx_int_t ngx_oci_policy_verify(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_str_t *user, ngx_str_t *secret);
static ngx_int_t ngx_oci_policy_decide(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_ctx_t *octx, ngx_str_t *user,
    ngx_oci_verdict_t *verdict);
static void ngx_oci_policy_right(ngx_oci_rbac_t *doc,
    ngx_oci_rbac_subject_t *subject, ngx_str_t *repository,
    ngx_uint_t action, ngx_oci_rbac_rule_t **rule,
    ngx_oci_verdict_t *verdict);
static ngx_uint_t ngx_oci_policy_catalog(ngx_http_request_t *r);
static void ngx_oci_policy_upload(ngx_http_request_t *r, ngx_oci_ctx_t *octx,
    ngx_oci_rbac_t *doc, ngx_oci_rbac_subject_t *subject,
    ngx_oci_verdict_t *verdict);
static ngx_uint_t ngx_oci_policy_form(ngx_http_request_t *r);
static ngx_int_t ngx_oci_policy_mounts(ngx_oci_rbac_t *doc,
    ngx_oci_rbac_subject_t *subject, ngx_str_t *args, ngx_uint_t *nowhere);
static ngx_int_t ngx_oci_policy_unescape(u_char *dst, size_t *len, u_char *p,
    u_char *last);
static ngx_int_t ngx_oci_policy_refuse(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_uint_t status, ngx_uint_t code,
    const char *reason);
static ngx_int_t ngx_oci_policy_pong(ngx_http_request_t *r);


ngx_int_t
ngx_oci_policy_handler(ngx_http_request_t *r)
{
    ngx_int_t               rc;
    ngx_str_t               user;
    ngx_uint_t              status, code;
    ngx_oci_ctx_t          *octx;
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
    octx->bare = 0;

    if (status) {
        return ngx_oci_policy_refuse(r, ctx, status, code, "no such route");
    }

    rc = ngx_oci_policy_identify(r, ctx, &user);

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (rc == NGX_BUSY) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "oci_policy \"%V\": too many secrets are to be "
                      "checked at once", &policy->name);

        ctx->decision = "deny";
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

    if (rc == NGX_DECLINED) {
        return ngx_oci_policy_refuse(r, ctx, NGX_HTTP_UNAUTHORIZED,
                                     NGX_OCI_ERR_UNAUTHORIZED,
                                     "wrong credentials");
    }

    if (ngx_oci_policy_decide(r, ctx, octx, &user, &verdict) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (verdict.status) {
        return ngx_oci_policy_refuse(r, ctx, verdict.status, verdict.code,
                                     verdict.reason);
    }

    ctx->decision = "allow";

    if (octx->route.route == NGX_OCI_ROUTE_PING) {
        ngx_http_finalize_request(r, ngx_oci_policy_pong(r));
        return NGX_DONE;
    }

    octx->allowed = policy;

    return NGX_OK;
}


static ngx_oci_policy_ctx_t *
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


/*
 * NGX_OK: it is user, or nobody ("").  NGX_DECLINED: it is not who it says.
 * Else as ngx_oci_identity_check().
 */

static ngx_int_t
ngx_oci_policy_identify(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_str_t *user)
{
    ngx_int_t  rc;
    ngx_str_t  secret;

    ngx_str_null(user);

    if (!ctx->policy->basic) {
        return NGX_OK;
    }

    rc = ngx_oci_identity_basic(r, user, &secret);

    if (rc == NGX_DECLINED) {
        ngx_str_null(user);
        return NGX_OK;
    }

    if (rc == NGX_ERROR) {
        return NGX_DECLINED;
    }

    rc = ngx_oci_policy_verify(r, ctx, user, &secret);

    ngx_explicit_memzero(secret.data, secret.len);

    return rc;
}


static ngx_int_t
ngx_oci_policy_verify(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
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

    if (subject && subject->secret) {
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


/* under the mutex; nothing in here takes long.  NGX_ERROR: no memory, or no
   document */

static ngx_int_t
ngx_oci_policy_decide(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_ctx_t *octx, ngx_str_t *user, ngx_oci_verdict_t *verdict)
{
    u_char                   rule[2 * NGX_OCI_RBAC_NAME_MAX];
    ngx_uint_t               action;
    ngx_oci_rbac_t          *doc;
    ngx_oci_rbac_rule_t     *by;
    ngx_oci_policy_conf_t   *pcf;
    ngx_oci_rbac_subject_t  *subject;

    pcf = ctx->policy;
    ngx_memzero(verdict, sizeof(ngx_oci_verdict_t));
    ctx->rule.len = 0;
    by = NULL;

    action = ngx_oci_rbac_action(octx->route.route, &r->method_name,
                                 ngx_oci_policy_catalog(r));

    ngx_shmtx_lock(&pcf->shpool->mutex);

    doc = ngx_oci_policy_doc(pcf);
    subject = NULL;

    if (doc == NULL) {
        ngx_shmtx_unlock(&pcf->shpool->mutex);
        return NGX_ERROR;
    }

    if (user->len) {
        subject = ngx_oci_rbac_subject(doc, user);

        if (subject == NULL || subject->disabled
            || subject->not_before > (int64_t) ngx_time())
        {
            verdict->status = NGX_HTTP_UNAUTHORIZED;
            verdict->code = NGX_OCI_ERR_UNAUTHORIZED;
            verdict->reason = "the subject is disabled";
        }
    }

    /* with "basic", whoever comes to /v2/ is to say who it is */

    if (subject == NULL && verdict->status == 0
        && (!pcf->anonymous || (pcf->basic && action == NGX_OCI_LOGIN)))
    {
        verdict->status = NGX_HTTP_UNAUTHORIZED;
        verdict->code = NGX_OCI_ERR_UNAUTHORIZED;
        verdict->reason = "no credentials";
    }

    if (verdict->status == 0) {
        ngx_oci_policy_right(doc, subject, &octx->route.repository, action,
                             &by, verdict);
    }

    if (verdict->status == 0 && octx->route.route == NGX_OCI_ROUTE_UPLOAD) {
        ngx_oci_policy_upload(r, octx, doc, subject, verdict);
    }

    if (by) {
        ctx->rule.len = ngx_min(by->name_len, sizeof(rule));
        ngx_memcpy(rule, ngx_oci_rbac_at(doc, by->name), ctx->rule.len);
    }

    ngx_shmtx_unlock(&pcf->shpool->mutex);

    if (ctx->rule.len) {
        ctx->rule.data = ngx_pnalloc(r->pool, ctx->rule.len);
        if (ctx->rule.data == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(ctx->rule.data, rule, ctx->rule.len);
    }

    if (subject) {
        ctx->subject = *user;
    }

    /* who has shown nothing yet may do so, whatever it is about */

    if (verdict->status && subject == NULL && user->len == 0 && pcf->basic) {
        verdict->status = NGX_HTTP_UNAUTHORIZED;
        verdict->code = NGX_OCI_ERR_UNAUTHORIZED;
        verdict->reason = "no credentials";
    }

    return NGX_OK;
}


/* a right on one repository, or on what concerns all */

static void
ngx_oci_policy_right(ngx_oci_rbac_t *doc, ngx_oci_rbac_subject_t *subject,
    ngx_str_t *repository, ngx_uint_t action, ngx_oci_rbac_rule_t **rule,
    ngx_oci_verdict_t *verdict)
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

    rights = ngx_oci_rbac_rights(doc, subject, repository, action, rule);

    if (*rule) {
        verdict->status = 0;
        return;
    }

    verdict->reason = "no such right";

    /* who has none at all doesn't learn that it is not a name of anything */

    if (rights == 0 && action != NGX_OCI_CATALOG) {
        verdict->status = NGX_HTTP_NOT_FOUND;
        verdict->code = NGX_OCI_ERR_NAME_UNKNOWN;
    }
}


static ngx_uint_t
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


/* a push may be a mount */

static void
ngx_oci_policy_upload(ngx_http_request_t *r, ngx_oci_ctx_t *octx,
    ngx_oci_rbac_t *doc, ngx_oci_rbac_subject_t *subject,
    ngx_oci_verdict_t *verdict)
{
    ngx_uint_t  nowhere;

    if (ngx_oci_policy_form(r)) {
        verdict->reason = "a form may name what is mounted";

    } else if (ngx_oci_policy_mounts(doc, subject, &octx->route.args,
                                     &nowhere)
               != NGX_OK)
    {
        verdict->reason = "no right to mount from there";

    } else {

        /*
         * Without "from" a registry may mount from wherever the edge's own
         * credentials reach.  The client gets an upload instead, as from a
         * registry that doesn't have the blob.
         */

        octx->bare = (nowhere && r->method == NGX_HTTP_POST);
        return;
    }

    verdict->status = NGX_HTTP_FORBIDDEN;
    verdict->code = NGX_OCI_ERR_DENIED;
}


/*
 * Registries, as distribution does, take a form in the body for arguments,
 * and before those of the URI.
 */

static ngx_uint_t
ngx_oci_policy_form(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (r->method != NGX_HTTP_POST || r->headers_in.content_length_n == 0
        || (r->headers_in.content_length_n < 0 && !r->headers_in.chunked
            && r->http_version < NGX_HTTP_VERSION_20))
    {
        return 0;
    }

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            part = part->next;

            if (part == NULL) {
                return 0;
            }

            h = part->elts;
            i = 0;
        }

        /* "application/x-www-form-urlencoded", "multipart/form-data" */

        if (h[i].key.len == sizeof("Content-Type") - 1
            && ngx_strncasecmp(h[i].key.data, (u_char *) "Content-Type",
                               sizeof("Content-Type") - 1)
               == 0
            && ngx_strlcasestrn(h[i].value.data,
                                h[i].value.data + h[i].value.len,
                                (u_char *) "form-", sizeof("form-") - 2)
               != NULL)
        {
            return 1;
        }
    }
}


/*
 * A blob is mounted from another repository, which has to be one that may be
 * pulled from.  The registry reads the arguments in its own way: there may be
 * one "from" only, in the way that all read alike.  nowhere: there is a
 * "mount", and no "from".
 */

static ngx_int_t
ngx_oci_policy_mounts(ngx_oci_rbac_t *doc, ngx_oci_rbac_subject_t *subject,
    ngx_str_t *args, ngx_uint_t *nowhere)
{
    size_t                len;
    u_char               *p, *last, *end, *eq, buf[NGX_OCI_NAME_MAX];
    ngx_str_t             from;
    ngx_uint_t            seen, mount;
    ngx_oci_rbac_rule_t  *rule;

    seen = 0;
    mount = 0;
    last = args->data + args->len;

    for (p = args->data; p < last; p = end + 1) {

        for (end = p; end < last && *end != '&' && *end != ';'; end++) {
            /* void */
        }

        for (eq = p; eq < end && *eq != '='; eq++) { /* void */ }

        if (ngx_oci_policy_unescape(buf, &len, p, eq) != NGX_OK) {
            continue;
        }

        if (len == 5 && ngx_strncasecmp(buf, (u_char *) "mount", 5) == 0) {
            mount = 1;
        }

        if (len != 4 || ngx_strncasecmp(buf, (u_char *) "from", 4) != 0) {
            continue;
        }

        if (seen++ || eq == end || ngx_memcmp(p, "from", 4) != 0
            || (p > args->data && p[-1] == ';')
            || (end < last && *end == ';')
            || ngx_oci_policy_unescape(buf, &len, eq + 1, end) != NGX_OK
            || ngx_oci_name_valid(buf, len) != NGX_OK)
        {
            return NGX_DECLINED;
        }

        from.data = buf;
        from.len = len;

        (void) ngx_oci_rbac_rights(doc, subject, &from, NGX_OCI_PULL, &rule);

        if (rule == NULL) {
            return NGX_DECLINED;
        }
    }

    *nowhere = (mount && !seen);

    return NGX_OK;
}


/* NGX_ERROR: longer than any name, or no escape */

static ngx_int_t
ngx_oci_policy_unescape(u_char *dst, size_t *len, u_char *p, u_char *last)
{
    ngx_int_t  ch;

    *len = 0;

    while (p < last) {

        if (*len == NGX_OCI_NAME_MAX) {
            return NGX_ERROR;
        }

        ch = *p++;

        if (ch == '%') {

            if (last - p < 2) {
                return NGX_ERROR;
            }

            ch = ngx_hextoi(p, 2);

            if (ch == NGX_ERROR) {
                return NGX_ERROR;
            }

            p += 2;
        }

        dst[(*len)++] = (u_char) ch;
    }

    return NGX_OK;
}


/* answers, and ends the request */

static ngx_int_t
ngx_oci_policy_refuse(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_uint_t status, ngx_uint_t code, const char *reason)
{
    ngx_table_elt_t  *h;

    ctx->decision = "deny";

    /* who it says to be isn't known, or may be a secret in the wrong place */

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "oci_policy \"%V\" denied it%s%V%s: %s",
                  &ctx->policy->policy.name, ctx->subject.len ? " to \"" : "",
                  &ctx->subject, ctx->subject.len ? "\"" : "", reason);

    if (status == NGX_HTTP_UNAUTHORIZED) {

        h = ngx_list_push(&r->headers_out.headers);
        if (h == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        h->hash = 1;
        ngx_oci_header_unlink(h);
        ngx_str_set(&h->key, "WWW-Authenticate");
        h->value = ctx->policy->challenge;

        r->headers_out.www_authenticate = h;
    }

    ngx_http_finalize_request(r, ngx_oci_core.error(r, status, code, NULL));

    return NGX_DONE;
}


/* GET /v2/ asks whether credentials are right: no registry knows better */

static ngx_int_t
ngx_oci_policy_pong(ngx_http_request_t *r)
{
    ngx_int_t         rc;
    ngx_buf_t        *b;
    ngx_chain_t       out;
    ngx_table_elt_t  *h;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    h = ngx_list_push(&r->headers_out.headers);

    if (b == NULL || h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "Docker-Distribution-Api-Version");
    ngx_str_set(&h->value, "registry/2.0");

    b->pos = (u_char *) "{}";
    b->last = b->pos + 2;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = 2;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    if (r->method == NGX_HTTP_HEAD) {
        r->header_only = 1;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}
