
/*
 * Copyright (C) The nginx-oci authors
 *
 * What is passed through is verified too: blobs and manifests that are asked
 * for by digest, and tags where the registry names theirs, are hashed as they
 * go by, and the last piece is held back until the digest is right.
 */


#include "ngx_oci_hold.h"
#include "ngx_oci_index.h"
#include <openssl/evp.h>


/* Owner: the request's pool */

typedef struct {
    EVP_MD_CTX        *md;
    ngx_oci_digest_t   digest;
    off_t              left;        /* bytes; -1: the response's end tells */
    unsigned           done:1;
    unsigned           failed:1;
} ngx_oci_hold_ctx_t;


static ngx_int_t ngx_oci_hold_header_filter(ngx_http_request_t *r);
static ngx_uint_t ngx_oci_hold_whole(ngx_http_request_t *r);
static ngx_int_t ngx_oci_hold_digest(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_oci_digest_t *digest);
static ngx_int_t ngx_oci_hold_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_oci_hold_update(ngx_http_request_t *r,
    ngx_oci_hold_ctx_t *hold, ngx_buf_t *b);
static ngx_int_t ngx_oci_hold_final(ngx_http_request_t *r,
    ngx_oci_hold_ctx_t *hold);
static void ngx_oci_hold_cleanup(void *data);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


void
ngx_oci_hold_init(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_oci_hold_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_oci_hold_body_filter;
}


static ngx_int_t
ngx_oci_hold_header_filter(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_oci_ctx_t             *ctx;
    ngx_oci_digest_t           digest;
    ngx_oci_hold_ctx_t        *hold;
    ngx_pool_cleanup_t        *cln;
    ngx_oci_cache_loc_conf_t  *ocf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    if (r != r->main
        || ctx == NULL
        || ctx->cache_status != NGX_OCI_CACHE_BYPASS
        || r->method != NGX_HTTP_GET
        || (r->headers_out.status != NGX_HTTP_OK
            && r->headers_out.status != NGX_HTTP_PARTIAL_CONTENT)
        || r->upstream == NULL
        || ngx_oci_hold_digest(r, ctx, &digest) != NGX_OK)
    {
        return ngx_http_next_header_filter(r);
    }

    ocf = ngx_http_get_module_loc_conf(r, ngx_http_oci_cache_module);

    if (ocf->verify == NGX_OCI_VERIFY_MODE_OFF) {
        ctx->verify_status = NGX_OCI_VERIFY_OFF;
        return ngx_http_next_header_filter(r);
    }

    /* strict: what goes by can't wait for its digest; and where a client
       takes the connection's end for the body's, nothing can be held back */

    if (ocf->verify == NGX_OCI_VERIFY_MODE_STRICT
        || (r->headers_out.content_length_n == -1
            && r->http_version < NGX_HTTP_VERSION_11))
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "\"%V\" can't be verified before it is sent",
                      &ctx->route.reference);
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    if (!ngx_oci_hold_whole(r)) {
        ctx->verify_status = NGX_OCI_VERIFY_PENDING;
        return ngx_http_next_header_filter(r);
    }

    hold = ngx_pcalloc(r->pool, sizeof(ngx_oci_hold_ctx_t));
    cln = ngx_pool_cleanup_add(r->pool, 0);

    if (hold == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    hold->md = EVP_MD_CTX_new();

    if (hold->md == NULL
        || EVP_DigestInit_ex(hold->md, digest.alg == NGX_OCI_SHA256
                                       ? EVP_sha256() : EVP_sha512(), NULL)
           != 1)
    {
        EVP_MD_CTX_free(hold->md);
        return NGX_ERROR;
    }

    cln->handler = ngx_oci_hold_cleanup;
    cln->data = hold;

    hold->digest = digest;
    hold->left = r->headers_out.content_length_n;

    ctx->verify_status = NGX_OCI_VERIFY_PENDING;

    ngx_http_set_ctx(r, hold, ngx_http_oci_cache_module);

    r->main_filter_need_in_memory = 1;

    rc = ngx_http_next_header_filter(r);

    if (rc > NGX_OK) {

        /* it was no answer of the registry, an error is sent instead */

        ngx_http_set_ctx(r, NULL, ngx_http_oci_cache_module);
        ctx->verify_status = NGX_OCI_VERIFY_NONE;
    }

    return rc;
}


/* is it every byte, as 200 or as a range from the first to the last? */

static ngx_uint_t
ngx_oci_hold_whole(ngx_http_request_t *r)
{
    off_t             start, end, total;
    ngx_table_elt_t  *h;

    if (r->headers_out.status == NGX_HTTP_OK) {
        return 1;
    }

    h = ngx_oci_header_find(&r->headers_out.headers, NULL, "Content-Range");

    return h
           && ngx_oci_content_range_parse(&h->value, &start, &end, &total)
              == NGX_OK
           && start == 0 && end == total;
}


/* the digest that was asked for, or that the registry says a tag leads to */

static ngx_int_t
ngx_oci_hold_digest(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_digest_t *digest)
{
    ngx_table_elt_t  *h;

    switch (ctx->route.route) {

    case NGX_OCI_ROUTE_BLOB:
    case NGX_OCI_ROUTE_MANIFEST:
        *digest = ctx->route.digest;

        return (digest->alg == NGX_OCI_DIGEST_NONE) ? NGX_DECLINED : NGX_OK;

    case NGX_OCI_ROUTE_TAG:
        h = ngx_oci_header_find(&r->headers_out.headers, NULL,
                                "Docker-Content-Digest");

        return h ? ngx_oci_digest_parse(digest, h->value.data, h->value.len)
                 : NGX_DECLINED;

    default:
        return NGX_DECLINED;
    }
}


static ngx_int_t
ngx_oci_hold_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_chain_t         *cl;
    ngx_oci_hold_ctx_t  *hold;

    hold = ngx_http_get_module_ctx(r, ngx_http_oci_cache_module);

    if (hold == NULL || in == NULL || r != r->main || hold->done) {
        return ngx_http_next_body_filter(r, in);
    }

    if (hold->failed) {
        return NGX_ERROR;
    }

    for (cl = in; cl; cl = cl->next) {

        if (ngx_oci_hold_update(r, hold, cl->buf) != NGX_OK) {
            hold->failed = 1;
            r->keepalive = 0;
            return NGX_ERROR;
        }
    }

    return ngx_http_next_body_filter(r, in);
}


static ngx_int_t
ngx_oci_hold_update(ngx_http_request_t *r, ngx_oci_hold_ctx_t *hold,
    ngx_buf_t *b)
{
    size_t  n;

    if (hold->done) {
        return NGX_OK;
    }

    if (ngx_buf_in_memory(b)) {
        n = b->last - b->pos;

        if (n && EVP_DigestUpdate(hold->md, b->pos, n) != 1) {
            return NGX_ERROR;
        }

        if (hold->left > 0) {
            hold->left -= ngx_min((off_t) n, hold->left);
        }

    } else if (b->in_file) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "a file buffer can't be verified");
        return NGX_ERROR;
    }

    if (hold->left == 0 || (b->last_buf && hold->left == -1)) {
        return ngx_oci_hold_final(r, hold);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_hold_final(ngx_http_request_t *r, ngx_oci_hold_ctx_t *hold)
{
    u_char                     md[EVP_MAX_MD_SIZE];
    unsigned int               len;
    ngx_oci_ctx_t             *ctx;
    ngx_oci_cache_loc_conf_t  *ocf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    if (EVP_DigestFinal_ex(hold->md, md, &len) != 1) {
        return NGX_ERROR;
    }

    if (len != hold->digest.size
        || ngx_memcmp(md, hold->digest.bytes, len) != 0)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the registry's bytes do not match digest \"%V\", the "
                      "response is cut short", &ctx->route.reference);

        ngx_oci_stat_add(NGX_OCI_STAT_VERIFY_FAILURES, 1);
        ctx->verify_status = NGX_OCI_VERIFY_MISMATCH;

        return NGX_ERROR;
    }

    ctx->verify_status = NGX_OCI_VERIFY_VERIFIED;
    hold->done = 1;

    /* whoever sent all of a blob has it */

    ocf = ngx_http_get_module_loc_conf(r, ngx_http_oci_cache_module);

    if (ocf->cache && ctx->registry
        && ctx->route.route == NGX_OCI_ROUTE_BLOB)
    {
        ngx_oci_index_showed(ocf->cache, &ctx->route.digest,
                             ngx_oci_index_origin(ctx->registry));
    }

    return NGX_OK;
}


static void
ngx_oci_hold_cleanup(void *data)
{
    ngx_oci_hold_ctx_t *hold = data;

    EVP_MD_CTX_free(hold->md);
}
