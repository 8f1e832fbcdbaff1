
/*
 * Copyright (C) The nginx-oci authors
 *
 * The response to a request for a manifest, out of memory.
 */


#include "ngx_oci_manifest.h"


static ngx_chain_t *ngx_oci_manifest_chain(ngx_oci_manifest_t *mf);
static ngx_chain_t *ngx_oci_manifest_buf(ngx_oci_manifest_t *mf,
    ngx_chain_t **last, u_char *p, size_t len);


static ngx_str_t  ngx_oci_manifest_cache_hit = ngx_string("nginx-oci; hit");
static ngx_str_t  ngx_oci_manifest_cache_revalidated =
    ngx_string("nginx-oci; hit; detail=revalidated");
static ngx_str_t  ngx_oci_manifest_cache_stale =
    ngx_string("nginx-oci; hit; detail=stale");
static ngx_str_t  ngx_oci_manifest_cache_miss =
    ngx_string("nginx-oci; fwd=uri-miss; stored");


void
ngx_oci_manifest_send(ngx_oci_manifest_t *mf)
{
    if (ngx_oci_judge_manifest(mf) != NGX_OK) {
        return;
    }

    mf->ctx->verify_status = NGX_OCI_VERIFY_VERIFIED;

    ngx_oci_manifest_learn(mf);

    if (ngx_oci_pin_manifest(mf) != NGX_OK) {
        return;
    }

    ngx_oci_manifest_respond(mf);
}


void
ngx_oci_manifest_respond(ngx_oci_manifest_t *mf)
{
    ngx_int_t            rc, status;
    ngx_str_t           *cache_status;
    ngx_chain_t         *out;
    ngx_http_request_t  *r;

    r = mf->r;

    mf->ranges.pool = mf->pool;
    mf->ranges.digest = mf->digest_text;
    mf->ranges.type = mf->type;
    mf->ranges.size = mf->size;

    rc = ngx_oci_ranges_prepare(r, &mf->ranges, &status);

    if (rc == NGX_DONE) {
        ngx_http_finalize_request(r, status);
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    switch (mf->ctx->cache_status) {
    case NGX_OCI_CACHE_HIT:
        cache_status = &ngx_oci_manifest_cache_hit;
        break;
    case NGX_OCI_CACHE_REVALIDATED:
        cache_status = &ngx_oci_manifest_cache_revalidated;
        break;
    case NGX_OCI_CACHE_STALE:
        cache_status = &ngx_oci_manifest_cache_stale;
        break;
    default:
        cache_status = &ngx_oci_manifest_cache_miss;
    }

    if (mf->warning.len
        && ngx_oci_ranges_add(r, "Warning", &mf->warning) != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    rc = ngx_oci_ranges_send_header(r, &mf->ranges, cache_status);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    out = ngx_oci_manifest_chain(mf);

    if (out == NULL) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    ngx_http_finalize_request(r, ngx_http_output_filter(r, out));
}


static ngx_chain_t *
ngx_oci_manifest_chain(ngx_oci_manifest_t *mf)
{
    ngx_uint_t       i;
    ngx_chain_t     *first, *last, *cl;
    ngx_oci_part_t  *part;

    first = NULL;
    last = NULL;

    for (i = 0; i < mf->ranges.nparts; i++) {
        part = &mf->ranges.parts[i];

        if (part->text.len) {
            cl = ngx_oci_manifest_buf(mf, &last, part->text.data,
                                      part->text.len);
            if (cl == NULL) {
                return NULL;
            }

            first = first ? first : cl;
        }

        cl = ngx_oci_manifest_buf(mf, &last, mf->body + part->pos,
                                  part->end - part->pos);
        if (cl == NULL) {
            return NULL;
        }

        first = first ? first : cl;
    }

    if (mf->ranges.tail.len
        && ngx_oci_manifest_buf(mf, &last, mf->ranges.tail.data,
                                mf->ranges.tail.len)
           == NULL)
    {
        return NULL;
    }

    last->buf->last_buf = 1;
    last->buf->last_in_chain = 1;

    return first;
}


static ngx_chain_t *
ngx_oci_manifest_buf(ngx_oci_manifest_t *mf, ngx_chain_t **last, u_char *p,
    size_t len)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = ngx_calloc_buf(mf->r->pool);
    cl = ngx_alloc_chain_link(mf->r->pool);

    if (b == NULL || cl == NULL) {
        return NULL;
    }

    b->start = p;
    b->pos = p;
    b->last = p + len;
    b->end = b->last;
    b->memory = 1;

    cl->buf = b;
    cl->next = NULL;

    if (*last) {
        (*last)->next = cl;
    }

    *last = cl;

    return cl;
}
