
/*
 * Copyright (C) The nginx-oci authors
 *
 * GET of a manifest: complete and verified before its first byte goes on.
 */


#include "ngx_oci_manifest.h"


#define NGX_OCI_MANIFEST_TIME  300          /* s for a body */


static ngx_int_t ngx_oci_manifest_header(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_manifest_expect(ngx_oci_manifest_t *mf,
    ngx_str_t *text);
static ngx_int_t ngx_oci_manifest_buffer(ngx_oci_exchange_t *ex, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_manifest_received(ngx_oci_exchange_t *ex, size_t n,
    ngx_uint_t idle);
static void ngx_oci_manifest_done(ngx_oci_exchange_t *ex, ngx_int_t rc);
static void ngx_oci_manifest_failed(ngx_oci_manifest_t *mf,
    ngx_oci_exchange_t *ex, ngx_int_t rc);
static void ngx_oci_manifest_checked(ngx_oci_manifest_t *mf, ngx_int_t rc);
static void ngx_oci_manifest_fetched(ngx_oci_manifest_t *mf);
static void ngx_oci_manifest_mismatch(ngx_oci_manifest_t *mf);


ngx_int_t
ngx_oci_manifest_fetch(ngx_oci_manifest_t *mf)
{
    ngx_str_t           *reference;
    ngx_oci_ctx_t       *ctx;
    ngx_oci_exchange_t  *ex;

    ctx = mf->ctx;

    /* a body from disk may be others' too */

    ngx_oci_manifest_free(mf);

    if (mf->digest.alg != NGX_OCI_DIGEST_NONE) {

        if (ngx_oci_manifest_text(mf) != NGX_OK) {
            return NGX_ERROR;
        }

        reference = &mf->digest_text;

    } else {
        reference = &ctx->route.reference;
    }

    ex = ngx_oci_core.exchange_create(ctx->registry, ngx_cycle->log);
    if (ex == NULL) {
        return NGX_ERROR;
    }

    ex->uri.data = ngx_pnalloc(ex->pool, sizeof("/v2//manifests/") - 1
                                         + ctx->repository.len
                                         + reference->len);

    if (ex->uri.data == NULL
        || ngx_oci_resolve_copy(ex->pool, &ex->repository, &ctx->repository)
           != NGX_OK
        || ngx_oci_resolve_copy(ex->pool, &ex->accept, &mf->accept) != NGX_OK
        || ngx_oci_resolve_copy(ex->pool, &ex->authorization,
                                &ctx->authorization)
           != NGX_OK)
    {
        ngx_oci_core.exchange_abort(ex);
        return NGX_ERROR;
    }

    ex->uri.len = ngx_sprintf(ex->uri.data, "/v2/%V/manifests/%V",
                              &ctx->repository, reference)
                  - ex->uri.data;

    ex->credentials = ctx->registry->credentials;
    ex->stored = ctx->registry->stored;
    ex->data = mf;
    ex->header = ngx_oci_manifest_header;
    ex->buffer = ngx_oci_manifest_buffer;
    ex->received = ngx_oci_manifest_received;
    ex->done = ngx_oci_manifest_done;

    if (ngx_oci_core.exchange_start(ex) != NGX_OK) {
        return NGX_ERROR;
    }

    mf->size = 0;
    mf->started = ngx_time();
    mf->ex = ex;
    mf->refs++;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_manifest_header(ngx_oci_exchange_t *ex)
{
    ngx_oci_manifest_t *mf = ex->data;

    size_t  room;

    if (ex->in.status != NGX_HTTP_OK
        || ex->in.content_length > NGX_OCI_MANIFEST_MAX
        || ex->in.content_length == 0
        || ex->in.content_type.len == 0)
    {
        return NGX_ERROR;
    }

    if (ngx_oci_type_is_page(&ex->in.content_type)
        || ngx_oci_manifest_expect(mf, &ex->in.docker_content_digest)
           != NGX_OK)
    {
        ngx_log_error(NGX_LOG_WARN, ex->log, 0,
                      "upstream's answer to \"%V\" proves nothing: it is a "
                      "page, or a malformed digest", &ex->uri);
        mf->page = 1;
        return NGX_ERROR;
    }

    mf->type.data = ngx_pstrdup(mf->pool, &ex->in.content_type);
    if (mf->type.data == NULL) {
        return NGX_ERROR;
    }

    mf->type.len = ex->in.content_type.len;

    if (ex->in.warning.len) {
        mf->warning.data = ngx_pstrdup(mf->pool, &ex->in.warning);
        mf->warning.len = mf->warning.data ? ex->in.warning.len : 0;
    }

    /* what is announced need not come: room is made for what does */

    room = NGX_OCI_MANIFEST_ROOM;

    if (ex->in.content_length > 0) {
        room = ngx_min(ex->in.content_length, NGX_OCI_MANIFEST_ROOM);
    }

    return ngx_oci_manifest_alloc(mf, room);
}


/* the digest that the registry names, if it does; NGX_ERROR: malformed */

static ngx_int_t
ngx_oci_manifest_expect(ngx_oci_manifest_t *mf, ngx_str_t *text)
{
    ngx_int_t         rc;
    ngx_oci_digest_t  digest;

    if (text->len == 0) {
        return NGX_OK;
    }

    rc = ngx_oci_digest_parse(&digest, text->data, text->len);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_OK : NGX_ERROR;
    }

    if (mf->digest.alg == NGX_OCI_DIGEST_NONE) {

        /* of a tag that HEAD could not resolve */

        mf->digest = digest;

    } else if (mf->digest.alg == digest.alg
               && !ngx_oci_digest_equal(&mf->digest, &digest))
    {
        mf->other = 1;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_manifest_buffer(ngx_oci_exchange_t *ex, u_char **p, size_t *size)
{
    ngx_oci_manifest_t *mf = ex->data;

    if (mf->size == mf->room
        && (mf->room >= NGX_OCI_MANIFEST_MAX
            || ngx_oci_manifest_alloc(mf, mf->room * 2) != NGX_OK))
    {
        return NGX_ERROR;
    }

    *p = mf->body + mf->size;
    *size = mf->room - mf->size;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_manifest_received(ngx_oci_exchange_t *ex, size_t n, ngx_uint_t idle)
{
    ngx_oci_manifest_t *mf = ex->data;

    mf->size += n;

    return (ngx_time() - mf->started > NGX_OCI_MANIFEST_TIME) ? NGX_ERROR
                                                              : NGX_OK;
}


static void
ngx_oci_manifest_done(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_manifest_t *mf = ex->data;

    ngx_connection_t  *c;

    mf->ex = NULL;
    c = NULL;

    if (mf->r) {
        c = mf->r->connection;
        ngx_http_set_log_request(c->log, mf->r);

        mf->ctx->upstream_bytes += ex->received_bytes;

        if (rc != NGX_OK || mf->size == 0
            || ngx_oci_manifest_check(mf, ngx_oci_manifest_checked) != NGX_OK)
        {
            ngx_oci_manifest_failed(mf, ex, rc);
        }
    }

    ngx_oci_manifest_run(mf, c);
}


static void
ngx_oci_manifest_failed(ngx_oci_manifest_t *mf, ngx_oci_exchange_t *ex,
    ngx_int_t rc)
{
    ngx_uint_t  status;

    status = (mf->page || rc == NGX_ERROR || rc == NGX_BUSY) ? 0
                                                             : ex->in.status;

    if (ngx_oci_manifest_use_stale(mf, status, rc == NGX_BUSY)) {
        return;
    }

    ngx_oci_manifest_forget(mf, status);

    /* too large, refused, gone, broken: the registry's own answer */

    ngx_oci_manifest_pass(mf);
}


static void
ngx_oci_manifest_checked(ngx_oci_manifest_t *mf, ngx_int_t rc)
{
    ngx_connection_t  *c;

    c = NULL;

    if (mf->r) {
        c = mf->r->connection;
        ngx_http_set_log_request(c->log, mf->r);

        if (rc == NGX_ERROR || ngx_oci_manifest_text(mf) != NGX_OK) {
            ngx_http_finalize_request(mf->r, NGX_HTTP_INTERNAL_SERVER_ERROR);

        } else if (rc == NGX_DECLINED) {
            ngx_oci_manifest_mismatch(mf);

        } else if (mf->other) {

            /* the bytes are right, but the registry does not stand by them */

            ngx_oci_manifest_pass(mf);

        } else {
            ngx_oci_manifest_fetched(mf);
        }
    }

    ngx_oci_manifest_run(mf, c);
}


static void
ngx_oci_manifest_fetched(ngx_oci_manifest_t *mf)
{
    mf->fetched = 1;

    ngx_oci_manifest_share(mf);

    ngx_oci_manifest_write(mf);
    ngx_oci_manifest_remember(mf, mf->size);

    ngx_oci_manifest_send(mf);
}


static void
ngx_oci_manifest_mismatch(ngx_oci_manifest_t *mf)
{
    ngx_http_request_t  *r;

    r = mf->r;

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "the registry's bytes do not match digest \"%V\" of "
                  "manifest \"%V\"", &mf->digest_text,
                  &mf->ctx->route.reference);

    ngx_oci_stat_add(NGX_OCI_STAT_VERIFY_FAILURES, 1);
    mf->ctx->verify_status = NGX_OCI_VERIFY_MISMATCH;

    ngx_http_finalize_request(r,
                      ngx_oci_core.error(r, NGX_HTTP_BAD_GATEWAY,
                                         NGX_OCI_ERR_MANIFEST_INVALID,
                                         "the manifest does not match its "
                                         "digest"));
}
