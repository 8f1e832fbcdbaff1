
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a policy has to judge, and has not seen, is not passed on: a registry's
 * answer becomes an error.
 */


#include "ngx_oci_core.h"


static ngx_int_t ngx_oci_unseen_digest(ngx_http_request_t *r,
    ngx_oci_digest_t *digest);
static ngx_int_t ngx_oci_unseen_body(ngx_http_request_t *r, ngx_chain_t *in);


static ngx_http_output_body_filter_pt  ngx_http_next_body_filter;


void
ngx_oci_unseen_init_filter(void)
{
    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_oci_unseen_body;
}


/* a HEAD of a blob tells nothing of what is in it */

ngx_uint_t
ngx_oci_unseen(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    ngx_oci_digest_t  digest, *known;

    if (r->headers_out.status >= NGX_HTTP_BAD_REQUEST
        || (r->method == NGX_HTTP_HEAD
            && ctx->route.route == NGX_OCI_ROUTE_BLOB))
    {
        return 0;
    }

    known = (ngx_oci_unseen_digest(r, &digest) == NGX_OK) ? &digest : NULL;

    ctx->unseen = ctx->allowed ? ctx->allowed->unseen(r, ctx, known)
                               : "nobody allowed it";

    return ctx->unseen != NULL;
}


/* that of the answer, as the registry says */

static ngx_int_t
ngx_oci_unseen_digest(ngx_http_request_t *r, ngx_oci_digest_t *digest)
{
    ngx_table_elt_t  *h;

    h = ngx_oci_header_find(&r->headers_out.headers, NULL,
                            "Docker-Content-Digest");

    return h ? ngx_oci_digest_parse(digest, h->value.data, h->value.len)
             : NGX_DECLINED;
}


/* of the error that nginx makes of it: its header, then its body */

ngx_int_t
ngx_oci_unseen_header(ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    ctx->unseen_body = ngx_oci_error_body(r, NGX_OCI_ERR_POLICY, ctx->unseen);

    return ctx->unseen_body ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_unseen_body(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_chain_t    *cl, out;
    ngx_oci_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    if (ctx == NULL || ctx->unseen_body == NULL || in == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    for (cl = in; cl; cl = cl->next) {
        cl->buf->pos = cl->buf->last;
    }

    if (ctx->unseen_sent) {
        return NGX_OK;
    }

    ctx->unseen_sent = 1;

    out.buf = ctx->unseen_body;
    out.next = NULL;

    return ngx_http_next_body_filter(r, &out);
}
