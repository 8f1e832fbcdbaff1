
/*
 * Copyright (C) The nginx-oci authors
 *
 * A manifest that is pushed: kept in memory as it passes, and on disk once the
 * registry has taken it.  Its tags lead there from then on.
 */


#include "ngx_oci_push.h"
#include "ngx_oci_manifest.h"


/*
 * Owner: the references of mf, whose pool this is in: the request's cleanup,
 * and the tasks of ngx_oci_manifest_file.c.
 */

typedef struct {
    ngx_oci_manifest_t    mf;       /* without request and location */
    ngx_oci_registry_t   *registry;
    ngx_str_t             repository;   /* at the upstream */
    ngx_oci_refs_mark_t   seen;         /* of it, when it was answered */
    ngx_str_t             reference;    /* a tag, or a digest */
    ngx_str_t             type;
    ngx_uint_t            complete;
    ngx_uint_t            failed;
} ngx_oci_push_manifest_t;


static ngx_int_t ngx_oci_push_manifest_init(ngx_oci_push_manifest_t *pm,
    ngx_http_request_t *r, ngx_oci_ctx_t *ctx);
static void ngx_oci_push_manifest_cleanup(void *data);
static void ngx_oci_push_manifest_checked(ngx_oci_manifest_t *mf,
    ngx_int_t rc);
static void ngx_oci_push_manifest_remember(ngx_oci_push_manifest_t *pm);
static void ngx_oci_push_manifest_store(ngx_oci_push_manifest_t *pm,
    ngx_str_t *reference, ngx_oci_ref_t *ref);


void *
ngx_oci_push_manifest(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_cache_t *cache)
{
    ngx_pool_t               *pool;
    ngx_http_cleanup_t       *cln;
    ngx_oci_push_manifest_t  *pm;

    if (r->headers_in.content_length_n > NGX_OCI_MANIFEST_MAX) {
        return NULL;
    }

    pool = ngx_create_pool(2048, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    pm = ngx_pcalloc(pool, sizeof(ngx_oci_push_manifest_t));
    cln = pm ? ngx_http_cleanup_add(r, 0) : NULL;

    if (cln == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    pm->mf.pool = pool;
    pm->mf.refs = 1;
    pm->mf.cache = cache;

    if (ngx_oci_push_manifest_init(pm, r, ctx) != NGX_OK) {
        pm->failed = 1;
    }

    cln->handler = ngx_oci_push_manifest_cleanup;
    cln->data = pm;

    return pm;
}


static ngx_int_t
ngx_oci_push_manifest_init(ngx_oci_push_manifest_t *pm,
    ngx_http_request_t *r, ngx_oci_ctx_t *ctx)
{
    ngx_pool_t       *pool;
    ngx_table_elt_t  *h;

    pool = pm->mf.pool;
    h = r->headers_in.content_type;

    /* it is to be sent with it later: a plain type */

    if (h == NULL || h->value.len == 0
        || h->value.len > sizeof(((ngx_oci_ref_t *) 0)->media_type)
        || ngx_strlchr(h->value.data, h->value.data + h->value.len, ';'))
    {
        return NGX_DECLINED;
    }

    pm->registry = ctx->registry;
    pm->mf.tag = (ctx->route.route == NGX_OCI_ROUTE_TAG);

    if (!pm->mf.tag) {
        pm->mf.digest = ctx->route.digest;
    }

    if (ngx_oci_resolve_copy(pool, &pm->repository, &ctx->repository)
        != NGX_OK
        || ngx_oci_resolve_copy(pool, &pm->reference, &ctx->route.reference)
           != NGX_OK
        || ngx_oci_resolve_copy(pool, &pm->type, &h->value) != NGX_OK)
    {
        return NGX_ERROR;
    }

    pm->mf.type = pm->type;

    return NGX_OK;
}


static void
ngx_oci_push_manifest_cleanup(void *data)
{
    ngx_oci_push_manifest_t *pm = data;

    ngx_oci_manifest_unref(&pm->mf);
}


void
ngx_oci_push_manifest_body(void *data, ngx_chain_t *in)
{
    ngx_oci_push_manifest_t *pm = data;

    size_t               n, room;
    ngx_chain_t         *cl;
    ngx_oci_manifest_t  *mf;

    mf = &pm->mf;

    for (cl = in; cl && !pm->failed; cl = cl->next) {

        n = ngx_buf_in_memory(cl->buf) ? cl->buf->last - cl->buf->pos : 0;
        pm->complete |= cl->buf->last_buf;

        if (mf->size + n > NGX_OCI_MANIFEST_MAX) {
            pm->failed = 1;
            break;
        }

        room = ngx_max(mf->room, NGX_OCI_MANIFEST_ROOM);

        while (room < mf->size + n) {
            room *= 2;
        }

        if (n == 0
            || (room > mf->room && ngx_oci_manifest_alloc(mf, room) != NGX_OK))
        {
            pm->failed = (n != 0);
            continue;
        }

        ngx_memcpy(mf->body + mf->size, cl->buf->pos, n);
        mf->size += n;
    }
}


void
ngx_oci_push_manifest_answered(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    void *data)
{
    ngx_oci_push_manifest_t *pm = data;

    ngx_table_elt_t     *h;
    ngx_oci_digest_t     said;
    ngx_oci_manifest_t  *mf;

    mf = &pm->mf;

    if (pm->failed || !pm->complete || mf->size == 0
        || r->headers_out.status != NGX_HTTP_CREATED
        || r->upstream->headers_in.status_n != NGX_HTTP_CREATED)
    {
        return;
    }

    /* the registry names what it has made of it */

    h = ngx_oci_header_find(&r->headers_out.headers, NULL,
                            "Docker-Content-Digest");
    if (h) {
        if (ngx_oci_digest_parse(&said, h->value.data, h->value.len)
            != NGX_OK)
        {
            return;
        }

        if (mf->digest.alg == NGX_OCI_DIGEST_NONE) {
            mf->digest = said;

        } else if (!ngx_oci_digest_equal(&mf->digest, &said)) {
            return;
        }
    }

    /* what was known before was taken back just now */

    ngx_oci_refs_seen(mf->cache, pm->registry, &pm->repository, &pm->seen);

    (void) ngx_oci_manifest_check(mf, ngx_oci_push_manifest_checked);
}


static void
ngx_oci_push_manifest_checked(ngx_oci_manifest_t *mf, ngx_int_t rc)
{
    ngx_oci_push_manifest_t  *pm;

    pm = (ngx_oci_push_manifest_t *) (void *) mf;

    if (rc == NGX_OK && ngx_oci_manifest_text(mf) == NGX_OK) {

        ngx_oci_manifest_share(mf);
        ngx_oci_manifest_write(mf);

        ngx_oci_push_manifest_remember(pm);
    }

    ngx_oci_manifest_unref(mf);
}


static void
ngx_oci_push_manifest_remember(ngx_oci_push_manifest_t *pm)
{
    ngx_oci_ref_t        ref;
    ngx_oci_manifest_t  *mf;

    mf = &pm->mf;

    ngx_memzero(&ref, sizeof(ngx_oci_ref_t));

    ref.digest = mf->digest;
    ref.size = mf->size;
    ref.checked = ngx_time();
    ref.sent = 1;
    ref.media_type_len = (u_char) pm->type.len;
    ngx_memcpy(ref.media_type, pm->type.data, pm->type.len);

    ngx_oci_push_manifest_store(pm, &mf->digest_text, &ref);

    /* (which tags of "?tag=" it took a registry need not say: they are asked
       for by the next pull) */

    if (mf->tag) {
        ngx_oci_push_manifest_store(pm, &pm->reference, &ref);
    }
}


static void
ngx_oci_push_manifest_store(ngx_oci_push_manifest_t *pm,
    ngx_str_t *reference, ngx_oci_ref_t *ref)
{
    ngx_oci_refs_pushed(pm->mf.cache, NGX_OCI_REFS_MANIFEST, pm->registry,
                        &pm->repository, reference, ref, &pm->seen,
                        ngx_cycle->log);
}
