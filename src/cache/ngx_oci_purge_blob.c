
/*
 * Copyright (C) The nginx-oci authors
 *
 * The files of a blob go by order, not for want of room.  The rules are those
 * of eviction: the sidecar's lock keeps away who writes them, the mark in the
 * index who opens them.  But those who have them open and need no fill read
 * on from unlinked files, with an entry that no digest leads to any more; and
 * what is being filled goes when its fill has ended, after its readers.
 */


#include "ngx_oci_index.h"
#include "ngx_oci_purge.h"


#define NGX_OCI_PURGE_TRIES  3
#define NGX_OCI_PURGE_PAUSE  5      /* ms */


/* Owner: its disk task, whose done() frees it */

typedef struct {
    ngx_oci_cache_t   *cache;
    ngx_oci_digest_t   digest;
    ngx_oci_task_t     task;
} ngx_oci_purge_op_t;


static ngx_int_t ngx_oci_purge_open(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, ngx_oci_store_t *st, ngx_log_t *log);
static ngx_int_t ngx_oci_purge_files(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, ngx_oci_store_t *st, uint64_t bytes,
    ngx_log_t *log);
static uint64_t ngx_oci_purge_bytes(ngx_oci_store_t *st);
static void ngx_oci_purge_doomed_task(void *data, ngx_log_t *log);
static void ngx_oci_purge_doomed_done(void *data);


ngx_int_t
ngx_oci_purge_blob(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    uint32_t origin, ngx_uint_t any, uint64_t *bytes, ngx_log_t *log)
{
    ngx_int_t        rc;
    ngx_uint_t       tries;
    ngx_oci_store_t  st;

    for (tries = 0; tries < NGX_OCI_PURGE_TRIES; tries++) {

        rc = ngx_oci_purge_open(cache, digest, &st, log);

        if (rc != NGX_OK) {
            return rc;
        }

        if (!any && st.header.origin != origin
            && !ngx_oci_proven_has(&st.header.proven, origin))
        {
            ngx_oci_store_close(&st);
            return NGX_DECLINED;
        }

        *bytes = ngx_oci_purge_bytes(&st);

        rc = ngx_oci_store_lock(cache, digest, st.map);

        if (rc == NGX_OK) {
            rc = ngx_oci_purge_files(cache, digest, &st, *bytes, log);
            ngx_oci_store_unlock(st.map);

        } else if (rc == NGX_BUSY
                   && ngx_oci_index_doom(cache, digest) == NGX_OK)
        {
            rc = NGX_AGAIN;
        }

        ngx_oci_store_close(&st);

        if (rc != NGX_DECLINED) {
            return rc;
        }

        /* others have taken the place of these files */
    }

    return NGX_ERROR;
}


static ngx_int_t
ngx_oci_purge_open(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_oci_store_t *st, ngx_log_t *log)
{
    ngx_int_t   rc;
    ngx_uint_t  tries;

    /* a sidecar's header may be seen half written */

    for (tries = 0; tries < NGX_OCI_PURGE_TRIES; tries++) {

        rc = ngx_oci_store_open(cache, digest, -1, 0, st, log);

        if (rc != NGX_DECLINED || !ngx_oci_index_known(cache, digest)) {
            return rc;
        }

        ngx_msleep(NGX_OCI_PURGE_PAUSE);
    }

    /* somebody else removed them: the entry is just forgotten */

    if (ngx_oci_index_is_doomed(cache, digest)
        && ngx_oci_index_evict(cache, digest) == NGX_OK)
    {
        ngx_oci_index_evicted(cache, digest, 1);
    }

    return NGX_DECLINED;
}


/* the lock is held; NGX_OK, NGX_AGAIN or NGX_ERROR */

static ngx_int_t
ngx_oci_purge_files(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_oci_store_t *st, uint64_t bytes, ngx_log_t *log)
{
    ngx_int_t    rc;
    struct stat  sb;

    rc = ngx_oci_index_purge(cache, digest);

    if (rc == NGX_BUSY) {
        return NGX_AGAIN;
    }

    ngx_oci_store_unlink(cache, digest, log);

    if (fstat(st->map, &sb) == -1 || sb.st_nlink != 0) {
        ngx_oci_index_evicted(cache, digest, 0);
        return NGX_ERROR;
    }

    if (rc == NGX_OK) {
        ngx_oci_index_evicted(cache, digest, 1);

    } else {
        ngx_oci_index_found(cache, bytes);
    }

    return NGX_OK;
}


static uint64_t
ngx_oci_purge_bytes(ngx_oci_store_t *st)
{
    size_t    i;
    uint64_t  bytes;

    bytes = 0;

    for (i = 0; i < st->slices; i++) {
        if (st->records[i].state != NGX_OCI_SLICE_ABSENT) {
            bytes += st->header.slice;
        }
    }

    return ngx_min(bytes, st->header.size);
}


void
ngx_oci_purge_doomed(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    ngx_oci_purge_op_t  *op;

    op = ngx_calloc(sizeof(ngx_oci_purge_op_t), ngx_cycle->log);
    if (op == NULL) {

        /* the manager looks too */

        return;
    }

    op->cache = cache;
    op->digest = *digest;
    op->task.run = ngx_oci_purge_doomed_task;
    op->task.done = ngx_oci_purge_doomed_done;
    op->task.data = op;

    if (ngx_oci_io_post(cache, &op->task) != NGX_OK) {
        ngx_free(op);
    }
}


static void
ngx_oci_purge_doomed_task(void *data, ngx_log_t *log)
{
    ngx_oci_purge_op_t *op = data;

    uint64_t  bytes;

    (void) ngx_oci_purge_blob(op->cache, &op->digest, 0, 1, &bytes, log);
}


static void
ngx_oci_purge_doomed_done(void *data)
{
    ngx_free(data);
}
