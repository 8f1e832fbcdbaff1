
/*
 * Copyright (C) The nginx-oci authors
 *
 * The copies of pushes that are under way, in shared memory: few, so that a
 * table does.
 */


#include "ngx_oci_index_sh.h"
#include "ngx_oci_push.h"
#include <openssl/rand.h>


#define NGX_OCI_PUSH_SHARE  64          /* a part of the zone */
#define NGX_OCI_PUSH_KEEP   600         /* s between an upload's requests */


static ngx_oci_push_sh_t *ngx_oci_push_find(ngx_oci_cache_t *cache,
    u_char *key);
static ngx_oci_push_sh_t *ngx_oci_push_own(ngx_oci_push_t *up);
static ngx_oci_push_sh_t *ngx_oci_push_at(ngx_oci_cache_t *cache,
    ngx_uint_t place, uint64_t id);


static u_char  ngx_oci_push_alone[NGX_OCI_PUSH_KEY];


/* called from ngx_oci_index_init() */

ngx_int_t
ngx_oci_push_init(ngx_oci_cache_t *cache)
{
    size_t               n;
    ngx_oci_index_sh_t  *sh;

    sh = cache->index;

    n = cache->zone->shm.size / NGX_OCI_PUSH_SHARE / sizeof(ngx_oci_push_sh_t);

    sh->pushes_n = ngx_max(ngx_min(n, NGX_OCI_PUSH_MAX), 1);
    sh->pushes = ngx_slab_calloc(cache->shpool,
                                 sh->pushes_n * sizeof(ngx_oci_push_sh_t));

    return sh->pushes ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_oci_push_new(ngx_oci_push_t *up)
{
    uint64_t            id;
    ngx_int_t           rc, slot;
    ngx_uint_t          i;
    ngx_oci_cache_t    *cache;
    ngx_oci_push_sh_t  *sh;

    cache = up->cache;
    slot = ngx_oci_doorbell_slot(cache);

    if (slot < 0 || RAND_bytes((u_char *) &id, sizeof(id)) != 1 || id == 0) {
        return NGX_DECLINED;
    }

    rc = NGX_DECLINED;

    ngx_oci_index_lock(cache);

    for (i = 0; i < cache->index->pushes_n; i++) {

        sh = &cache->index->pushes[i];

        if (sh->id) {
            continue;
        }

        ngx_memzero(sh, sizeof(ngx_oci_push_sh_t));
        ngx_memcpy(sh->key, up->key, NGX_OCI_PUSH_KEY);

        sh->id = id;
        sh->slot = (int32_t) slot;
        sh->touched = ngx_time();

        up->place = i;
        up->id = id;

        rc = NGX_OK;
        break;
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


ngx_int_t
ngx_oci_push_take(ngx_oci_push_t *up)
{
    ngx_int_t           rc, slot;
    ngx_oci_cache_t    *cache;
    ngx_oci_push_sh_t  *sh;

    cache = up->cache;
    slot = ngx_oci_doorbell_slot(cache);
    rc = NGX_DECLINED;

    if (slot < 0) {
        return rc;
    }

    ngx_oci_index_lock(cache);

    sh = ngx_oci_push_find(cache, up->key);

    if (sh == NULL || sh->slot == NGX_OCI_PUSH_LEFT) {
        goto done;
    }

    if (sh->slot != NGX_OCI_PUSH_IDLE) {
        rc = sh->answered ? NGX_AGAIN : NGX_BUSY;
        sh->spoiled |= (rc == NGX_BUSY);
        goto done;
    }

    sh->slot = (int32_t) slot;
    sh->answered = 0;
    sh->touched = ngx_time();

    up->place = sh - cache->index->pushes;
    up->id = sh->id;
    up->written = sh->done;
    up->alg = sh->alg;
    up->crc = sh->crc;
    up->state = sh->state;

    rc = NGX_OK;

done:

    ngx_oci_index_unlock(cache);

    return rc;
}


void
ngx_oci_push_goes_on(ngx_oci_push_t *up, u_char *key)
{
    ngx_oci_push_sh_t  *sh;

    ngx_oci_index_lock(up->cache);

    sh = ngx_oci_push_own(up);

    if (sh) {
        ngx_memcpy(sh->key, key, NGX_OCI_PUSH_KEY);
        sh->answered = 1;
    }

    ngx_oci_index_unlock(up->cache);
}


ngx_int_t
ngx_oci_push_save(ngx_oci_push_t *up)
{
    ngx_int_t           rc;
    ngx_oci_push_sh_t  *sh;

    rc = NGX_DECLINED;

    ngx_oci_index_lock(up->cache);

    sh = ngx_oci_push_own(up);

    /* a copy of nothing has no files */

    if (sh && !sh->spoiled && up->known && sh->done == up->written) {
        sh->slot = NGX_OCI_PUSH_IDLE;
        sh->touched = ngx_time();
        sh->alg = up->alg;
        sh->crc = up->crc;
        sh->state = up->state;
        rc = NGX_OK;
    }

    ngx_oci_index_unlock(up->cache);

    return rc;
}


void
ngx_oci_push_leave(ngx_oci_push_t *up)
{
    ngx_oci_push_sh_t  *sh;

    ngx_oci_index_lock(up->cache);

    sh = ngx_oci_push_own(up);

    if (sh) {
        sh->slot = NGX_OCI_PUSH_LEFT;
    }

    ngx_oci_index_unlock(up->cache);
}


ngx_uint_t
ngx_oci_push_spoiled(ngx_oci_push_t *up)
{
    ngx_uint_t          spoiled;
    ngx_oci_push_sh_t  *sh;

    ngx_oci_index_lock(up->cache);

    sh = ngx_oci_push_own(up);
    spoiled = (sh == NULL || sh->spoiled);

    ngx_oci_index_unlock(up->cache);

    return spoiled;
}


void
ngx_oci_push_free(ngx_oci_cache_t *cache, ngx_uint_t place, uint64_t id)
{
    ngx_oci_push_sh_t  *sh;

    ngx_oci_index_lock(cache);

    sh = ngx_oci_push_at(cache, place, id);

    if (sh) {
        cache->index->pushed -= sh->taken;
        cache->index->pushed_done -= sh->done;
        cache->index->refused = 0;

        ngx_memzero(sh, sizeof(ngx_oci_push_sh_t));
    }

    ngx_oci_index_unlock(cache);
}


ngx_int_t
ngx_oci_push_reserve(ngx_oci_push_t *up, uint64_t bytes, uint64_t all,
    ngx_oci_shortage_t *shortage)
{
    ngx_int_t           rc;
    ngx_oci_cache_t    *cache;
    ngx_oci_push_sh_t  *sh;

    cache = up->cache;
    rc = NGX_DECLINED;
    shortage->bytes = 0;

    ngx_oci_index_lock(cache);

    sh = ngx_oci_push_at(cache, up->place, up->id);

    if (sh == NULL) {
        goto done;
    }

    if (sh->taken < bytes) {
        ngx_oci_index_shortage(cache, bytes - sh->taken, shortage);

        if (shortage->bytes && all < bytes) {

            /* its size is not known: nothing is had ahead of what came, which
               may have its place already */

            bytes = ngx_max(all, sh->taken);
            ngx_oci_index_shortage(cache, bytes - sh->taken, shortage);

            if (bytes == sh->taken) {
                shortage->bytes = 0;
            }
        }

        if (shortage->bytes) {
            ngx_oci_index_shortage(cache, ngx_max(all, bytes) - sh->taken,
                                   shortage);
            goto done;
        }

        cache->index->pushed += bytes - sh->taken;
        sh->taken = bytes;
    }

    rc = NGX_OK;

done:

    ngx_oci_index_unlock(cache);

    return rc;
}


void
ngx_oci_push_wrote(ngx_oci_push_t *up, uint64_t bytes)
{
    ngx_oci_push_sh_t  *sh;

    ngx_oci_index_lock(up->cache);

    sh = ngx_oci_push_at(up->cache, up->place, up->id);

    if (sh) {
        sh->done += bytes;
        up->cache->index->pushed_done += bytes;
    }

    ngx_oci_index_unlock(up->cache);
}


/* under the mutex: the slot's worker has gone */

void
ngx_oci_push_sweep(ngx_oci_cache_t *cache, ngx_int_t slot)
{
    ngx_uint_t          i;
    ngx_oci_push_sh_t  *sh;

    for (i = 0; i < cache->index->pushes_n; i++) {
        sh = &cache->index->pushes[i];

        if (sh->id && sh->slot == slot) {
            sh->slot = NGX_OCI_PUSH_LEFT;
        }
    }
}


ngx_int_t
ngx_oci_push_left(ngx_oci_cache_t *cache, ngx_uint_t *place, uint64_t *id)
{
    ngx_int_t           rc;
    ngx_uint_t          i;
    ngx_oci_push_sh_t  *sh;

    rc = NGX_DECLINED;

    ngx_oci_index_lock(cache);

    for (i = 0; i < cache->index->pushes_n; i++) {
        sh = &cache->index->pushes[i];

        if (sh->id == 0) {
            continue;
        }

        if (sh->slot == NGX_OCI_PUSH_LEFT
            || (sh->slot == NGX_OCI_PUSH_IDLE
                && ngx_time() - sh->touched > NGX_OCI_PUSH_KEEP))
        {
            sh->slot = NGX_OCI_PUSH_LEFT;

            *place = i;
            *id = sh->id;
            rc = NGX_OK;
            break;
        }
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


ngx_uint_t
ngx_oci_push_known(ngx_oci_cache_t *cache, uint64_t id)
{
    ngx_uint_t  i, known;

    known = 0;

    ngx_oci_index_lock(cache);

    for (i = 0; i < cache->index->pushes_n; i++) {
        known |= (cache->index->pushes[i].id == id);
    }

    ngx_oci_index_unlock(cache);

    return known;
}


/* under the mutex */

static ngx_oci_push_sh_t *
ngx_oci_push_find(ngx_oci_cache_t *cache, u_char *key)
{
    ngx_uint_t          i;
    ngx_oci_push_sh_t  *sh;

    if (ngx_memcmp(key, ngx_oci_push_alone, NGX_OCI_PUSH_KEY) == 0) {
        return NULL;
    }

    for (i = 0; i < cache->index->pushes_n; i++) {
        sh = &cache->index->pushes[i];

        if (sh->id && ngx_memcmp(sh->key, key, NGX_OCI_PUSH_KEY) == 0) {
            return sh;
        }
    }

    return NULL;
}


/* under the mutex: the place of what this worker has */

static ngx_oci_push_sh_t *
ngx_oci_push_own(ngx_oci_push_t *up)
{
    ngx_oci_push_sh_t  *sh;

    sh = ngx_oci_push_at(up->cache, up->place, up->id);

    return (sh && sh->slot >= 0) ? sh : NULL;
}


static ngx_oci_push_sh_t *
ngx_oci_push_at(ngx_oci_cache_t *cache, ngx_uint_t place, uint64_t id)
{
    ngx_oci_push_sh_t  *sh;

    sh = &cache->index->pushes[place];

    return (id && sh->id == id) ? sh : NULL;
}
