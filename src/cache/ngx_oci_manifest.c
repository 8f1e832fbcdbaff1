
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_manifest.h"
#include "ngx_oci_negative.h"


static ngx_int_t ngx_oci_manifest_init(ngx_oci_manifest_t *mf,
    ngx_http_request_t *r);
static ngx_int_t ngx_oci_manifest_accept(ngx_oci_manifest_t *mf,
    ngx_http_request_t *r);
static void ngx_oci_manifest_cleanup(void *data);
static void ngx_oci_manifest_release(void *data);
static void ngx_oci_manifest_looked_up(void *data, ngx_int_t rc);
static ngx_int_t ngx_oci_manifest_target(ngx_oci_manifest_t *mf);
static void ngx_oci_manifest_targeted(void *data, ngx_int_t rc);
static void ngx_oci_manifest_decide(ngx_oci_manifest_t *mf);
static void ngx_oci_manifest_use_ref(ngx_oci_manifest_t *mf);
static ngx_uint_t ngx_oci_manifest_fresh(ngx_oci_manifest_t *mf);
static ngx_uint_t ngx_oci_manifest_may(ngx_oci_manifest_t *mf, time_t max);
static ngx_uint_t ngx_oci_manifest_acceptable(ngx_oci_manifest_t *mf);
static void ngx_oci_manifest_resolved(void *data,
    ngx_oci_resolve_result_t *result);
static void ngx_oci_manifest_answer(ngx_oci_manifest_t *mf,
    ngx_oci_resolve_result_t *result);
static void ngx_oci_manifest_confirmed(ngx_oci_manifest_t *mf,
    ngx_oci_resolve_result_t *result);
static ngx_uint_t ngx_oci_manifest_stale(ngx_oci_manifest_t *mf,
    ngx_uint_t status, ngx_uint_t timedout);
static ngx_uint_t ngx_oci_manifest_sent(ngx_oci_manifest_t *mf);
static void ngx_oci_manifest_serve(ngx_oci_manifest_t *mf);
static void ngx_oci_manifest_from_disk(ngx_oci_manifest_t *mf, ngx_int_t rc);
static void ngx_oci_manifest_get(ngx_oci_manifest_t *mf);


ngx_int_t
ngx_oci_manifest_handler(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_cache_loc_conf_t *ocf)
{
    ngx_int_t            rc;
    ngx_pool_t          *pool;
    ngx_oci_manifest_t  *mf;

    if (r != r->main) {
        return NGX_DECLINED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    pool = ngx_create_pool(2048, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_DECLINED;
    }

    mf = ngx_pcalloc(pool, sizeof(ngx_oci_manifest_t));
    if (mf == NULL) {
        ngx_destroy_pool(pool);
        return NGX_DECLINED;
    }

    mf->pool = pool;
    mf->refs = 1;
    mf->ctx = ctx;
    mf->ocf = ocf;
    mf->cache = ocf->cache;
    mf->tag = (ctx->route.route == NGX_OCI_ROUTE_TAG);

    if (ngx_oci_manifest_init(mf, r) != NGX_OK) {
        ngx_destroy_pool(pool);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->main->count++;

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    mf->since = ngx_oci_refs_changes(mf->cache, ctx->registry,
                                     &ctx->repository);
    mf->refs++;

    rc = ngx_oci_refs_lookup(mf->cache, NGX_OCI_REFS_MANIFEST, ctx->registry,
                             &ctx->repository, &ctx->route.reference,
                             &mf->ref, ngx_oci_manifest_looked_up, mf);
    if (rc == NGX_AGAIN) {
        return NGX_DONE;
    }

    /* the core still holds the request: what was posted is its to run */

    mf->refs++;
    mf->handling = 1;

    ngx_oci_manifest_looked_up(mf, rc);

    mf->handling = 0;
    ngx_oci_manifest_unref(mf);

    return NGX_DONE;
}


static ngx_int_t
ngx_oci_manifest_init(ngx_oci_manifest_t *mf, ngx_http_request_t *r)
{
    ngx_pool_cleanup_t  *release;
    ngx_http_cleanup_t  *cln;

    if (ngx_oci_manifest_accept(mf, r) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!mf->tag) {
        mf->digest = mf->ctx->route.digest;

        if (ngx_oci_manifest_text(mf) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    release = ngx_pool_cleanup_add(r->pool, 0);
    cln = ngx_http_cleanup_add(r, 0);

    if (release == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    release->handler = ngx_oci_manifest_release;
    release->data = mf;
    mf->refs++;

    cln->handler = ngx_oci_manifest_cleanup;
    cln->data = mf;

    mf->ctx->cache = mf;
    mf->r = r;
    mf->resolve.handler = ngx_oci_manifest_resolved;
    mf->resolve.data = mf;

    return NGX_OK;
}


/* several Accept lines are one list, RFC 9110, section 5.3 */

static ngx_int_t
ngx_oci_manifest_accept(ngx_oci_manifest_t *mf, ngx_http_request_t *r)
{
    u_char           *p;
    size_t            len;
    ngx_uint_t        i, pass;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = 0;
    p = NULL;

    for (pass = 0; pass < 2; pass++) {

        part = &r->headers_in.headers.part;
        h = part->elts;

        for (i = 0; /* void */; i++) {

            if (i >= part->nelts) {
                if (part->next == NULL) {
                    break;
                }

                part = part->next;
                h = part->elts;
                i = 0;
            }

            if (h[i].key.len != 6 || h[i].value.len == 0
                || ngx_strncasecmp(h[i].key.data, (u_char *) "Accept", 6)
                   != 0)
            {
                continue;
            }

            if (pass == 0) {
                len += h[i].value.len + 2;
                continue;
            }

            if (p != mf->accept.data) {
                *p++ = ',';
                *p++ = ' ';
            }

            p = ngx_cpymem(p, h[i].value.data, h[i].value.len);
        }

        if (len == 0) {
            ngx_str_set(&mf->accept, "");
            return NGX_OK;
        }

        if (pass == 0) {
            p = ngx_pnalloc(mf->pool, len);
            if (p == NULL) {
                return NGX_ERROR;
            }

            mf->accept.data = p;
        }
    }

    mf->accept.len = p - mf->accept.data;

    return NGX_OK;
}


ngx_int_t
ngx_oci_manifest_text(ngx_oci_manifest_t *mf)
{
    u_char  *p;

    p = ngx_pnalloc(mf->pool, NGX_OCI_DIGEST_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    mf->digest_text.data = p;
    mf->digest_text.len = ngx_oci_digest_print(p, &mf->digest) - p;

    return NGX_OK;
}


static void
ngx_oci_manifest_cleanup(void *data)
{
    ngx_oci_manifest_t *mf = data;

    off_t  sent;

    sent = mf->r->connection->sent - (off_t) mf->r->header_size;

    if (mf->body && mf->ranges.nparts && sent > 0) {
        ngx_oci_stat_add(mf->fetched ? NGX_OCI_STAT_SENT_MISS
                                     : NGX_OCI_STAT_SENT_HIT, sent);
    }

    mf->r = NULL;
    mf->ctx->cache = NULL;

    ngx_oci_resolve_leave(&mf->resolve);

    if (mf->ex) {
        ngx_oci_core.exchange_abort(mf->ex);
    }

    ngx_oci_manifest_unref(mf);
}


static void
ngx_oci_manifest_release(void *data)
{
    ngx_oci_manifest_t *mf = data;

    ngx_oci_manifest_unref(mf);
}


void
ngx_oci_manifest_unref(ngx_oci_manifest_t *mf)
{
    if (--mf->refs) {
        return;
    }

    ngx_oci_manifest_free(mf);
    ngx_destroy_pool(mf->pool);
}


void
ngx_oci_manifest_run(ngx_oci_manifest_t *mf, ngx_connection_t *c)
{
    if (mf->handling) {
        c = NULL;
    }

    ngx_oci_manifest_unref(mf);

    if (c) {
        ngx_http_run_posted_requests(c);
    }
}


static void
ngx_oci_manifest_looked_up(void *data, ngx_int_t rc)
{
    ngx_oci_manifest_t *mf = data;

    ngx_connection_t  *c;

    c = NULL;

    if (mf->r) {
        c = mf->r->connection;
        ngx_http_set_log_request(c->log, mf->r);

        mf->known = (rc == NGX_OK
                     && (mf->tag || ngx_oci_digest_equal(&mf->ref.digest,
                                                         &mf->digest)));

        if (mf->known && mf->tag) {
            rc = ngx_oci_manifest_target(mf);
        }

        if (rc != NGX_AGAIN) {
            mf->known = (mf->known && rc == NGX_OK);
            ngx_oci_manifest_decide(mf);
        }
    }

    ngx_oci_manifest_run(mf, c);
}


/* a tag leads nowhere if what it led to was taken back */

static ngx_int_t
ngx_oci_manifest_target(ngx_oci_manifest_t *mf)
{
    u_char          text[NGX_OCI_DIGEST_LEN];
    ngx_int_t       rc;
    ngx_str_t       reference;
    ngx_oci_ctx_t  *ctx;

    ctx = mf->ctx;

    reference.data = text;
    reference.len = ngx_oci_digest_print(text, &mf->ref.digest) - text;

    rc = ngx_oci_refs_lookup(mf->cache, NGX_OCI_REFS_MANIFEST, ctx->registry,
                             &ctx->repository, &reference, &mf->target,
                             ngx_oci_manifest_targeted, mf);
    if (rc == NGX_AGAIN) {
        mf->refs++;
    }

    return rc;
}


static void
ngx_oci_manifest_targeted(void *data, ngx_int_t rc)
{
    ngx_oci_manifest_t *mf = data;

    ngx_connection_t  *c;

    c = NULL;

    if (mf->r) {
        c = mf->r->connection;
        ngx_http_set_log_request(c->log, mf->r);

        mf->known = (rc == NGX_OK);
        ngx_oci_manifest_decide(mf);
    }

    ngx_oci_manifest_run(mf, c);
}


static void
ngx_oci_manifest_decide(ngx_oci_manifest_t *mf)
{
    ngx_uint_t  own;

    /* the edge's own pull is there because something may have changed */

    own = (ngx_oci_core.pull_own(mf->r) != NGX_OCI_PULL_NOT);

    if (!(own && mf->tag) && ngx_oci_manifest_fresh(mf)) {
        ngx_oci_manifest_use_ref(mf);
        mf->ctx->cache_status = NGX_OCI_CACHE_HIT;
        ngx_oci_manifest_serve(mf);
        return;
    }

    if (!own && !mf->known && ngx_oci_negative_send(mf)) {
        return;
    }

    /* nothing to revalidate: its GET proves the caller's right as well */

    if (!mf->tag && !mf->known && mf->r->method == NGX_HTTP_GET) {
        ngx_oci_manifest_get(mf);
        return;
    }

    if (ngx_oci_resolve(mf) != NGX_OK) {
        ngx_oci_manifest_pass(mf);
    }
}


/* digest and media type as they were remembered */

static void
ngx_oci_manifest_use_ref(ngx_oci_manifest_t *mf)
{
    mf->digest = mf->ref.digest;
    mf->type.data = mf->ref.media_type;
    mf->type.len = mf->ref.media_type_len;
}


static ngx_uint_t
ngx_oci_manifest_fresh(ngx_oci_manifest_t *mf)
{
    time_t  valid;

    valid = mf->tag ? mf->ocf->valid_tag : mf->ocf->valid_manifest;

    return mf->known
           && valid
           && ngx_time() - mf->ref.checked <= valid
           && ngx_oci_manifest_acceptable(mf)
           && ngx_oci_manifest_may(mf, NGX_OCI_RIGHT_VALID);
}


/* was the caller's right confirmed in the last max seconds? */

static ngx_uint_t
ngx_oci_manifest_may(ngx_oci_manifest_t *mf, time_t max)
{
    time_t          age;
    ngx_oci_ctx_t  *ctx;

    ctx = mf->ctx;

    if (ctx->registry->credentials == NGX_OCI_CREDENTIALS_STORED) {
        return 1;
    }

    return ngx_oci_refs_right(mf->cache, ctx->registry, &ctx->repository,
                              &ctx->authorization, &age)
           == NGX_OK
           && age <= max;
}


/* a tag may lead somebody else to another type of manifest */

static ngx_uint_t
ngx_oci_manifest_acceptable(ngx_oci_manifest_t *mf)
{
    u_char      type[sizeof(mf->ref.media_type) + 1];
    ngx_str_t  *accept;

    accept = &mf->accept;

    if (!mf->tag || accept->len == 0
        || ngx_strlcasestrn(accept->data, accept->data + accept->len,
                            (u_char *) "*/*", 3 - 1)
           != NULL)
    {
        return 1;
    }

    if (mf->ref.media_type_len == 0) {
        return 0;
    }

    ngx_memcpy(type, mf->ref.media_type, mf->ref.media_type_len);
    type[mf->ref.media_type_len] = '\0';

    return ngx_strlcasestrn(accept->data, accept->data + accept->len, type,
                            mf->ref.media_type_len - 1)
           != NULL;
}


static void
ngx_oci_manifest_resolved(void *data, ngx_oci_resolve_result_t *result)
{
    ngx_oci_manifest_t *mf = data;

    ngx_connection_t  *c;

    c = mf->r->connection;
    mf->refs++;

    ngx_http_set_log_request(c->log, mf->r);

    ngx_oci_manifest_answer(mf, result);

    ngx_oci_manifest_run(mf, c);
}


static void
ngx_oci_manifest_answer(ngx_oci_manifest_t *mf,
    ngx_oci_resolve_result_t *result)
{
    if (result->status == NGX_HTTP_OK) {
        ngx_oci_manifest_confirmed(mf, result);
        return;
    }

    if (result->status == NGX_HTTP_NOT_ALLOWED) {

        /* HEAD is not known there */

        ngx_oci_manifest_get(mf);
        return;
    }

    if (ngx_oci_manifest_use_stale(mf, result->status, result->timedout)) {
        return;
    }

    ngx_oci_manifest_forget(mf, result->status);

    /* the registry's own answer tells the client best */

    ngx_oci_manifest_pass(mf);
}


void
ngx_oci_manifest_forget(ngx_oci_manifest_t *mf, ngx_uint_t status)
{
    time_t          age;
    ngx_oci_ctx_t  *ctx;

    ctx = mf->ctx;

    switch (status) {

    case NGX_HTTP_NOT_FOUND:
    case NGX_HTTP_PRECONDITION_FAILED:
    case 410:

        /* deleted, or no longer to be used: withdrawn; but to strangers it
           may only be hidden */

        if (mf->known
            && (ctx->registry->credentials != NGX_OCI_CREDENTIALS_CLIENT
                || ngx_oci_refs_right(mf->cache, ctx->registry,
                                      &ctx->repository, &ctx->authorization,
                                      &age)
                   == NGX_OK))
        {
            ngx_oci_refs_remove(mf->cache, NGX_OCI_REFS_MANIFEST,
                                ctx->registry, &ctx->repository,
                                &ctx->route.reference,
                                mf->r->connection->log);
        }

        break;

    case NGX_HTTP_UNAUTHORIZED:
    case NGX_HTTP_FORBIDDEN:

        /* nobody's right is asked for with the registry's own credentials:
           what they may not read is withdrawn from all */

        if (ctx->registry->credentials == NGX_OCI_CREDENTIALS_STORED
            && mf->known)
        {
            ngx_oci_refs_remove(mf->cache, NGX_OCI_REFS_MANIFEST,
                                ctx->registry, &ctx->repository,
                                &ctx->route.reference,
                                mf->r->connection->log);
        }

        ngx_oci_refs_revoke(mf->cache, ctx->registry, &ctx->repository,
                            &ctx->authorization);
        break;
    }
}


static void
ngx_oci_manifest_confirmed(ngx_oci_manifest_t *mf,
    ngx_oci_resolve_result_t *result)
{
    if (mf->tag && !result->known) {
        ngx_oci_manifest_get(mf);
        return;
    }

    if (!mf->tag && result->known
        && !ngx_oci_digest_equal(&result->digest, &mf->digest))
    {
        ngx_log_error(NGX_LOG_ERR, mf->r->connection->log, 0,
                      "the registry names another digest than \"%V\"",
                      &mf->digest_text);

        /* by another algorithm it may be right: GET tells */

        if (result->digest.alg != mf->digest.alg
            || !ngx_oci_manifest_use_stale(mf, 0, 0))
        {
            ngx_oci_manifest_get(mf);
        }

        return;
    }

    if (mf->tag) {
        mf->digest = result->digest;
    }

    mf->type.data = ngx_pstrdup(mf->pool, &result->type);
    mf->type.len = mf->type.data ? result->type.len : 0;

    if (result->size > NGX_OCI_MANIFEST_MAX
        || ngx_oci_manifest_text(mf) != NGX_OK)
    {
        ngx_oci_manifest_pass(mf);
        return;
    }

    /* GET has its length from the body */

    if (mf->type.len == 0
        || (result->size < 0 && mf->r->method == NGX_HTTP_HEAD))
    {
        ngx_oci_manifest_get(mf);
        return;
    }

    ngx_oci_manifest_remember(mf, result->size);

    mf->ctx->cache_status = NGX_OCI_CACHE_REVALIDATED;

    /* (what is judged has to be there as a whole) */

    if (mf->r->method == NGX_HTTP_HEAD && !mf->ctx->judge) {
        mf->size = result->size;
        ngx_oci_manifest_send(mf);
        return;
    }

    ngx_oci_manifest_serve(mf);
}


void
ngx_oci_manifest_remember(ngx_oci_manifest_t *mf, off_t size)
{
    ngx_oci_ctx_t  *ctx;
    ngx_oci_ref_t   ref;

    ctx = mf->ctx;

    /* what the registry's own credentials may proves nothing for a caller */

    if (ctx->registry->credentials == NGX_OCI_CREDENTIALS_CLIENT) {
        ngx_oci_refs_grant(mf->cache, ctx->registry, &ctx->repository,
                           &ctx->authorization);
    }

    if (mf->type.len > sizeof(ref.media_type)) {
        return;
    }

    ngx_memzero(&ref, sizeof(ngx_oci_ref_t));

    ref.digest = mf->digest;
    ref.size = size;
    ref.checked = ngx_time();
    ref.sent = mf->fetched || ngx_oci_manifest_sent(mf);
    ref.media_type_len = (u_char) mf->type.len;
    ngx_memcpy(ref.media_type, mf->type.data, mf->type.len);

    if (mf->tag) {
        ngx_oci_refs_store(mf->cache, NGX_OCI_REFS_MANIFEST, ctx->registry,
                           &ctx->repository, &mf->digest_text, &ref,
                           mf->since, ngx_cycle->log);
    }

    ngx_oci_refs_store(mf->cache, NGX_OCI_REFS_MANIFEST, ctx->registry,
                       &ctx->repository, &ctx->route.reference, &ref,
                       mf->since, ngx_cycle->log);

    mf->sent = ref.sent;
}


/* the registry is out of reach: may what is known be used? */

static ngx_uint_t
ngx_oci_manifest_stale(ngx_oci_manifest_t *mf, ngx_uint_t status,
    ngx_uint_t timedout)
{
    ngx_uint_t  mask;

    /* what is to be warm is what the registry has now */

    if (ngx_oci_core.pull_own(mf->r) != NGX_OCI_PULL_NOT) {
        return 0;
    }

    if (status == 0) {
        mask = timedout ? NGX_OCI_STALE_TIMEOUT : NGX_OCI_STALE_ERROR;

    } else if (status == NGX_HTTP_TOO_MANY_REQUESTS) {
        mask = NGX_OCI_STALE_HTTP_429;

    } else if (status >= NGX_HTTP_INTERNAL_SERVER_ERROR) {
        mask = NGX_OCI_STALE_HTTP_5XX;

    } else {
        return 0;
    }

    /* of what was only named nothing is stored */

    return mf->known
           && (mf->sent || mf->ref.sent)
           && (mf->ocf->use_stale & mask)
           && ngx_time() - mf->ref.checked <= mf->ocf->stale_max
           && ngx_oci_manifest_acceptable(mf)
           && ngx_oci_manifest_may(mf, mf->ocf->stale_max);
}


ngx_uint_t
ngx_oci_manifest_use_stale(ngx_oci_manifest_t *mf, ngx_uint_t status,
    ngx_uint_t timedout)
{
    if (!ngx_oci_manifest_stale(mf, status, timedout)) {
        return 0;
    }

    ngx_oci_manifest_use_ref(mf);
    mf->ctx->cache_status = NGX_OCI_CACHE_STALE;
    ngx_oci_manifest_serve(mf);

    return 1;
}


/* bodies are stored by digest for all registries: has this one sent it? */

static ngx_uint_t
ngx_oci_manifest_sent(ngx_oci_manifest_t *mf)
{
    return mf->sent
           || (mf->known && mf->ref.sent
               && ngx_oci_digest_equal(&mf->ref.digest, &mf->digest));
}


/* digest and type are known: the body from disk, or from the registry */

static void
ngx_oci_manifest_serve(ngx_oci_manifest_t *mf)
{
    if (ngx_oci_manifest_text(mf) != NGX_OK) {
        ngx_oci_manifest_pass(mf);
        return;
    }

    if (!ngx_oci_manifest_sent(mf)) {

        /* stale: GET has failed, or would; asking again would never end */

        if (mf->ctx->cache_status == NGX_OCI_CACHE_STALE) {
            ngx_oci_manifest_pass(mf);

        } else {
            ngx_oci_manifest_get(mf);
        }

        return;
    }

    /* the edge's own pull wants to know that it is on the disk */

    if (mf->type.len
        && ngx_oci_core.pull_own(mf->r) == NGX_OCI_PULL_NOT
        && ngx_oci_manifest_find(mf))
    {
        ngx_oci_manifest_send(mf);
        return;
    }

    if (ngx_oci_manifest_read(mf, ngx_oci_manifest_from_disk) != NGX_OK) {
        ngx_oci_manifest_pass(mf);
    }
}


static void
ngx_oci_manifest_from_disk(ngx_oci_manifest_t *mf, ngx_int_t rc)
{
    ngx_connection_t  *c;

    c = NULL;

    if (mf->r) {
        c = mf->r->connection;
        ngx_http_set_log_request(c->log, mf->r);

        if (rc == NGX_OK && mf->type.len) {
            ngx_oci_manifest_send(mf);

        } else if (rc == NGX_BUSY
                   || mf->ctx->cache_status == NGX_OCI_CACHE_STALE)
        {
            ngx_oci_manifest_pass(mf);

        } else {
            ngx_oci_manifest_get(mf);
        }
    }

    ngx_oci_manifest_run(mf, c);
}


static void
ngx_oci_manifest_get(ngx_oci_manifest_t *mf)
{
    mf->ctx->cache_status = NGX_OCI_CACHE_MISS;

    if ((mf->r->method == NGX_HTTP_HEAD && !mf->ctx->judge)
        || ngx_oci_manifest_fetch(mf) != NGX_OK)
    {
        ngx_oci_manifest_pass(mf);
    }
}


void
ngx_oci_manifest_pass(ngx_oci_manifest_t *mf)
{
    mf->r->read_event_handler = ngx_http_block_reading;

    ngx_oci_manifest_free(mf);

    ngx_oci_core.pass(mf->r);
}
