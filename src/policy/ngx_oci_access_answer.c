
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the policy answers by itself.
 */


#include "ngx_oci_policy.h"


ngx_int_t
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

        h->hash = 0;
        ngx_oci_header_unlink(h);
        ngx_str_set(&h->key, "WWW-Authenticate");

        if (ngx_oci_policy_challenge(r, ctx, &h->value) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        h->hash = 1;
        r->headers_out.www_authenticate = h;
    }

    ngx_http_finalize_request(r, ngx_oci_core.error(r, status, code, NULL));

    return NGX_DONE;
}


ngx_int_t
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
