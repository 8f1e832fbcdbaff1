
/*
 * Copyright (C) The nginx-oci authors
 *
 * Bodies of manifests in a worker's memory: one for all requests that send
 * it, and all together no more than a budget, however slow the clients are.
 */


#include "ngx_oci_manifest.h"
#include "ngx_oci_sizes.h"


#define NGX_OCI_MANIFEST_BUCKETS  64
#define NGX_OCI_MANIFEST_BUDGET   (64 * 1024 * 1024)    /* bytes */


/* Owner: the requests that send it, by refs */

struct ngx_oci_manifest_body_s {
    ngx_queue_t             queue;
    ngx_oci_digest_t        digest;
    u_char                 *data;       /* malloc()ed */
    size_t                  size;
    size_t                  reserved;   /* of the budget */
    ngx_oci_size_t         *sizes;      /* malloc()ed, or NULL; less than a
                                           fourth of data */
    ngx_uint_t              nsizes;
    ngx_uint_t              refs;
};


/* per process */

static ngx_queue_t  ngx_oci_manifest_bodies[NGX_OCI_MANIFEST_BUCKETS];
static size_t       ngx_oci_manifest_reserved;


void
ngx_oci_manifest_init_process(void)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_OCI_MANIFEST_BUCKETS; i++) {
        ngx_queue_init(&ngx_oci_manifest_bodies[i]);
    }
}


static ngx_queue_t *
ngx_oci_manifest_bucket(ngx_oci_digest_t *digest)
{
    return &ngx_oci_manifest_bodies[digest->bytes[0]
                                    % NGX_OCI_MANIFEST_BUCKETS];
}


ngx_int_t
ngx_oci_manifest_reserve(ngx_oci_manifest_t *mf, size_t size)
{
    size_t  others, budget;

    others = ngx_oci_manifest_reserved - mf->reserved;

    /* large ones leave a fourth to the others */

    budget = (size > NGX_OCI_MANIFEST_ROOM) ? NGX_OCI_MANIFEST_BUDGET / 4 * 3
                                            : NGX_OCI_MANIFEST_BUDGET;

    if (size > budget - ngx_min(others, budget)) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "manifests of %uz bytes are being sent, another one is "
                      "passed through", others);
        return NGX_ERROR;
    }

    ngx_oci_manifest_reserved = others + size;
    mf->reserved = size;

    return NGX_OK;
}


ngx_int_t
ngx_oci_manifest_alloc(ngx_oci_manifest_t *mf, size_t size)
{
    u_char  *body;

    if (ngx_oci_manifest_reserve(mf, size) != NGX_OK) {
        return NGX_ERROR;
    }

    body = realloc(mf->body, size);
    if (body == NULL) {
        return NGX_ERROR;
    }

    mf->body = body;
    mf->room = size;

    return NGX_OK;
}


ngx_uint_t
ngx_oci_manifest_find(ngx_oci_manifest_t *mf)
{
    ngx_queue_t               *q, *bucket;
    ngx_oci_manifest_body_t   *body;

    bucket = ngx_oci_manifest_bucket(&mf->digest);

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        body = ngx_queue_data(q, ngx_oci_manifest_body_t, queue);

        if (ngx_oci_digest_equal(&body->digest, &mf->digest)) {
            ngx_oci_manifest_free(mf);

            body->refs++;

            mf->shared = body;
            mf->body = body->data;
            mf->size = body->size;

            return 1;
        }
    }

    return 0;
}


void
ngx_oci_manifest_share(ngx_oci_manifest_t *mf)
{
    ngx_oci_manifest_body_t  *body;

    if (mf->shared || ngx_oci_manifest_find(mf)) {
        return;
    }

    body = ngx_alloc(sizeof(ngx_oci_manifest_body_t), ngx_cycle->log);
    if (body == NULL) {

        /* it stays this request's own */

        return;
    }

    body->digest = mf->digest;
    body->data = mf->body;
    body->size = mf->size;
    body->reserved = mf->reserved;
    body->sizes = mf->sizes;
    body->nsizes = mf->nsizes;
    body->refs = 1;

    ngx_queue_insert_head(ngx_oci_manifest_bucket(&mf->digest), &body->queue);

    mf->shared = body;
    mf->reserved = 0;
    mf->sizes = NULL;
    mf->nsizes = 0;
}


void
ngx_oci_manifest_free(ngx_oci_manifest_t *mf)
{
    ngx_oci_manifest_body_t  *body;

    body = mf->shared;

    if (body == NULL) {
        free(mf->body);

    } else if (--body->refs == 0) {
        ngx_queue_remove(&body->queue);
        ngx_oci_manifest_reserved -= body->reserved;
        free(body->data);
        free(body->sizes);
        ngx_free(body);
    }

    ngx_oci_manifest_reserved -= mf->reserved;

    free(mf->sizes);

    mf->sizes = NULL;
    mf->nsizes = 0;
    mf->shared = NULL;
    mf->body = NULL;
    mf->size = 0;
    mf->room = 0;
    mf->reserved = 0;
}


void
ngx_oci_manifest_learn(ngx_oci_manifest_t *mf)
{
    ngx_uint_t       n;
    ngx_oci_size_t  *sizes;

    sizes = mf->shared ? mf->shared->sizes : mf->sizes;
    n = mf->shared ? mf->shared->nsizes : mf->nsizes;

    if (n) {
        ngx_oci_sizes_put(mf->cache, mf->ctx->registry, &mf->ctx->repository,
                          sizes, n);
    }
}
