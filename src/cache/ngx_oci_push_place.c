
/*
 * Copyright (C) The nginx-oci authors
 *
 * A copy that is complete and right becomes a blob: both files get its names,
 * in the place of what is there of it, which nobody may be using.
 */


#include "ngx_oci_push.h"
#include "ngx_oci_open.h"


#define NGX_OCI_PUSH_TRIES  3


static ngx_int_t ngx_oci_push_replace(ngx_oci_push_t *up, int former,
    ngx_log_t *log);
static ngx_int_t ngx_oci_push_there(ngx_oci_push_t *up, ngx_log_t *log);
static ngx_int_t ngx_oci_push_move(ngx_oci_push_t *up, ngx_log_t *log);
static ngx_int_t ngx_oci_push_rename(ngx_oci_push_t *up, int to,
    const char *from, const char *name);


/*
 * Whoever may write or unlink a blob's files has the lock of the sidecar that
 * stands under their name: the former one's, or that of the copy, which is
 * ours since it was made.
 */

ngx_int_t
ngx_oci_push_place(ngx_oci_push_t *up, ngx_log_t *log)
{
    int               former;
    char              sub[3], name[NGX_OCI_STORE_NAME];
    ngx_int_t         rc;
    ngx_uint_t        i;
    ngx_oci_cache_t  *cache;

    cache = up->cache;
    rc = NGX_DECLINED;

    ngx_oci_store_names(&up->digest, sub, name);
    ngx_memcpy(name + up->digest.size * 2, ".map", sizeof(".map"));

    for (i = 0; i < NGX_OCI_PUSH_TRIES; i++) {

        former = ngx_oci_open(cache, cache->algs[up->digest.alg], sub, name,
                              O_RDWR, log);

        if (former == -1 && ngx_errno != ENOENT) {
            return NGX_DECLINED;
        }

        if (former != -1) {
            rc = ngx_oci_store_lock(cache, &up->digest, former);

            if (rc == NGX_DECLINED) {
                close(former);
                continue;
            }

            if (rc != NGX_OK) {

                /* somebody is filling it, or about to */

                close(former);
                return NGX_DECLINED;
            }
        }

        rc = ngx_oci_push_replace(up, former, log);

        if (former != -1) {
            ngx_oci_store_unlock(former);
            close(former);
        }

        if (rc != NGX_AGAIN) {
            return rc;
        }
    }

    return NGX_DECLINED;
}


/* NGX_AGAIN: others have just been made */

static ngx_int_t
ngx_oci_push_replace(ngx_oci_push_t *up, int former, ngx_log_t *log)
{
    time_t            pinned;
    ngx_int_t         rc, marked;
    ngx_oci_cache_t  *cache;

    cache = up->cache;
    pinned = 0;

    if (former != -1 && ngx_oci_push_there(up, log) == NGX_OK) {

        /* it is, whoever brought it */

        if (ngx_oci_store_prove(former, up->origin) != NGX_OK) {
            ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                          "writing a blob's sidecar in \"%V\" failed",
                          &cache->path->name);
        }

        return NGX_OK;
    }

    if (former != -1) {
        pinned = ngx_oci_store_pinned(former);

        if (pinned && ngx_oci_store_pin(up->map, pinned) != NGX_OK) {
            up->err = ngx_errno;
            return NGX_ERROR;
        }
    }

    marked = ngx_oci_index_evict(cache, &up->digest);

    if (marked == NGX_BUSY) {

        /* a reader is about to have it filled */

        return NGX_DECLINED;
    }

    if (former != -1) {
        ngx_oci_store_unlink(cache, &up->digest, log);
    }

    rc = ngx_oci_push_move(up, log);

    if (marked == NGX_OK) {
        ngx_oci_index_evicted(cache, &up->digest, 1);
    }

    if (rc == NGX_OK) {
        (void) ngx_oci_index_note(cache, &up->digest, up->written,
                                  up->written, ngx_time(), pinned, 1, 0);
    }

    return rc;
}


/* is all of it there, and verified?  Its lock is held */

static ngx_int_t
ngx_oci_push_there(ngx_oci_push_t *up, ngx_log_t *log)
{
    size_t           i;
    ngx_int_t        rc;
    ngx_oci_store_t  st;

    if (ngx_oci_store_open(up->cache, &up->digest, -1, up->origin, &st, log)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    rc = (st.header.flags & NGX_OCI_STORE_VERIFIED) ? NGX_OK : NGX_DECLINED;

    for (i = 0; i < st.slices && rc == NGX_OK; i++) {
        if (st.records[i].state == NGX_OCI_SLICE_ABSENT) {
            rc = NGX_DECLINED;
        }
    }

    ngx_oci_store_close(&st);

    return rc;
}


/* the sidecar first, whose lock keeps others from the data until that is
   there */

static ngx_int_t
ngx_oci_push_move(ngx_oci_push_t *up, ngx_log_t *log)
{
    int               to;
    char              sub[3], name[NGX_OCI_STORE_NAME];
    char              data[NGX_OCI_PUSH_NAME], map[NGX_OCI_PUSH_NAME];
    ngx_int_t         rc;
    ngx_oci_cache_t  *cache;

    cache = up->cache;

    ngx_oci_store_names(&up->digest, sub, name);
    ngx_oci_push_names(up->id, data, map);

    to = ngx_oci_open_sub(cache, cache->algs[up->digest.alg], sub, 1, log);
    if (to == -1) {
        up->err = ngx_errno;
        return (ngx_errno == NGX_OCI_SAID) ? NGX_DECLINED : NGX_ERROR;
    }

    ngx_memcpy(name + up->digest.size * 2, ".map", sizeof(".map"));

    rc = ngx_oci_push_rename(up, to, map, name);

    if (rc != NGX_OK) {
        goto done;
    }

    name[up->digest.size * 2] = '\0';

    rc = ngx_oci_push_rename(up, to, data, name);

    if (rc == NGX_AGAIN) {

        /* of one who began to make the pair, or was left by one */

        (void) ngx_oci_store_unlink_data(cache, &up->digest, log);
        rc = ngx_oci_push_rename(up, to, data, name);
    }

    if (rc != NGX_OK) {
        ngx_oci_store_unlink(cache, &up->digest, log);
    }

done:

    close(to);

    return rc;
}


/* NGX_AGAIN: there is such a name; NGX_ERROR with up->err */

static ngx_int_t
ngx_oci_push_rename(ngx_oci_push_t *up, int to, const char *from,
    const char *name)
{
    int  rc;

    rc = renameat2(up->cache->uploads, from, to, name, RENAME_NOREPLACE);

    if (rc == -1 && (ngx_errno == EINVAL || ngx_errno == ENOSYS)) {

        /* some file systems can't: the next best */

        if (faccessat(to, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            return NGX_AGAIN;
        }

        rc = renameat(up->cache->uploads, from, to, name);
    }

    if (rc == 0) {
        return NGX_OK;
    }

    if (ngx_errno == EEXIST) {
        return NGX_AGAIN;
    }

    up->err = ngx_errno;

    return NGX_ERROR;
}
