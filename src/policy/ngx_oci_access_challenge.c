
/*
 * Copyright (C) The nginx-oci authors
 *
 * The challenge of a 401.  There is one, as clients that find two choose in
 * different ways: Bearer where there is a token service, else Basic.
 */


#include "ngx_oci_policy.h"


#define NGX_OCI_CHALLENGE_SCOPE                                               \
    (sizeof("repository::pull,push repository::pull") + 2 * NGX_OCI_NAME_MAX)


static ngx_int_t ngx_oci_challenge_realm(ngx_http_request_t *r,
    ngx_oci_policy_conf_t *pcf, ngx_str_t *realm, ngx_str_t *service);
static size_t ngx_oci_challenge_scope(ngx_http_request_t *r, u_char *text);
static u_char *ngx_oci_challenge_mount(ngx_oci_ctx_t *octx, u_char *p);


ngx_int_t
ngx_oci_policy_challenge(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_str_t *value)
{
    u_char                 *p, scope[NGX_OCI_CHALLENGE_SCOPE];
    size_t                  n, len;
    ngx_int_t               rc;
    ngx_str_t               realm, service;
    ngx_oci_policy_conf_t  *pcf;

    pcf = ctx->policy;

    rc = ngx_oci_challenge_realm(r, pcf, &realm, &service);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED) {

        if (!pcf->bearer || (pcf->basic && ctx->error == NULL)) {
            *value = pcf->challenge;
            return NGX_OK;
        }

        /* tokens come from elsewhere, the client knows where */

        realm = pcf->policy.name;
    }

    n = ngx_oci_challenge_scope(r, scope);

    len = sizeof("Bearer realm=\"\",service=\"\",scope=\"\",error=\"\"")
          + realm.len + service.len + n
          + (ctx->error ? ngx_strlen(ctx->error) : 0);

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;

    p = ngx_sprintf(p, "Bearer realm=\"%V\",service=\"%V\"", &realm,
                    &service);

    if (n) {
        p = ngx_sprintf(p, ",scope=\"%*s\"", n, scope);
    }

    if (ctx->error) {
        p = ngx_sprintf(p, ",error=\"%s\"", ctx->error);
    }

    value->len = p - value->data;

    return NGX_OK;
}


/* NGX_DECLINED: nobody can get a token here */

static ngx_int_t
ngx_oci_challenge_realm(ngx_http_request_t *r, ngx_oci_policy_conf_t *pcf,
    ngx_str_t *realm, ngx_str_t *service)
{
    ngx_int_t  rc;

    *service = pcf->service;

    if (pcf->realm.len) {
        *realm = pcf->realm;
        return NGX_OK;
    }

    if (pcf->signing) {
        rc = ngx_oci_core.realm(r, &pcf->policy, realm);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    /* that of the registry, whose tokens are taken */

    if (!pcf->foreign) {
        return NGX_DECLINED;
    }

    *service = *(ngx_str_t *) pcf->audiences->elts;

    return ngx_oci_core.realm(r, NULL, realm);
}


/*
 * What the request needs; who may push may pull.  Names are those of the
 * grammar, so that nothing has to be escaped.
 */

static size_t
ngx_oci_challenge_scope(ngx_http_request_t *r, u_char *text)
{
    u_char         *p;
    ngx_uint_t      status, code, action;
    const char     *actions;
    ngx_oci_ctx_t  *octx;

    octx = ngx_oci_core.request(r, &status, &code);

    if (octx == NULL || status) {
        return 0;
    }

    action = ngx_oci_rbac_action(octx->route.route, &r->method_name,
                                 ngx_oci_policy_catalog(r));

    switch (action) {

    case NGX_OCI_PULL:
        actions = "pull";
        break;

    case NGX_OCI_PUSH:
        actions = "pull,push";
        break;

    case NGX_OCI_DELETE:
        actions = "delete";
        break;

    case NGX_OCI_CATALOG:
        return ngx_sprintf(text, "registry:catalog:*") - text;

    default:
        return 0;
    }

    p = ngx_sprintf(text, "repository:%V:%s", &octx->route.repository,
                    actions);

    if (octx->route.route == NGX_OCI_ROUTE_UPLOAD
        && r->method == NGX_HTTP_POST)
    {
        p = ngx_oci_challenge_mount(octx, p);
    }

    return p - text;
}


/* where a blob is mounted from has to be pulled */

static u_char *
ngx_oci_challenge_mount(ngx_oci_ctx_t *octx, u_char *p)
{
    size_t   len;
    u_char  *q, *end, *last, from[NGX_OCI_NAME_MAX];

    last = octx->route.args.data + octx->route.args.len;

    for (q = octx->route.args.data; q < last; q = end + 1) {

        for (end = q; end < last && *end != '&'; end++) { /* void */ }

        if (end - q > 5 && ngx_memcmp(q, "from=", 5) == 0
            && ngx_oci_policy_unescape(from, &len, q + 5, end) == NGX_OK
            && ngx_oci_name_valid(from, len) == NGX_OK)
        {
            return ngx_sprintf(p, " repository:%*s:pull", len, from);
        }
    }

    return p;
}
