
/*
 * Copyright (C) The nginx-oci authors
 *
 * How much room there is, and for whom: what is stored, what fills may still
 * store, and what the file system has left.
 */


#include "ngx_oci_index_sh.h"
#include "ngx_oci_open.h"
#include "ngx_oci_room.h"


#define NGX_OCI_INDEX_LOOK_EVICT  8192  /* entries looked at under the mutex */
#define NGX_OCI_INDEX_STEPS       16    /* of the bound of small files */
#define NGX_OCI_INDEX_TIGHT       10    /* s that unused files are closed */
#define NGX_OCI_INDEX_REFUSED     2     /* s that others are refused at once */


static uint64_t ngx_oci_index_lacks(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint64_t pos, uint64_t end);
static ngx_int_t ngx_oci_index_raise(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint64_t goal, ngx_oci_shortage_t *shortage);
static uint64_t ngx_oci_index_quota(ngx_oci_cache_t *cache);
static ngx_msec_t ngx_oci_index_now(void);


ngx_int_t
ngx_oci_index_reserve(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos, uint64_t end, ngx_oci_shortage_t *shortage)
{
    uint64_t   goal;
    ngx_int_t  rc;

    ngx_oci_index_lock(cache);

    goal = entry->reserved + ngx_oci_index_lacks(cache, entry, pos, end);
    goal = ngx_min(goal, entry->size - ngx_min(entry->bytes, entry->size));

    rc = ngx_oci_index_raise(cache, entry, goal, shortage);

    ngx_oci_index_unlock(cache);

    return rc;
}


ngx_int_t
ngx_oci_index_cover(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t bytes)
{
    ngx_int_t           rc;
    ngx_oci_shortage_t  shortage;

    ngx_oci_index_lock(cache);
    rc = ngx_oci_index_raise(cache, entry, bytes, &shortage);
    ngx_oci_index_unlock(cache);

    return rc;
}


/* the bytes of slices of [pos, end) that are not stored */

static uint64_t
ngx_oci_index_lacks(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos, uint64_t end)
{
    size_t    n, last;
    u_char   *unchecked;
    uint64_t  lacks, at;

    end = ngx_min(end, entry->size);

    if (pos >= end) {
        return 0;
    }

    unchecked = entry->map + ngx_oci_index_half(entry);
    last = (end - 1) / cache->slice;
    lacks = 0;

    for (n = pos / cache->slice; n <= last; n++) {

        if (n % 8 == 0 && n + 7 < last) {

            if ((entry->map[n / 8] | unchecked[n / 8]) == 0xff) {
                n += 7;
                continue;
            }

            if ((entry->map[n / 8] | unchecked[n / 8]) == 0) {
                lacks += 8 * cache->slice;
                n += 7;
                continue;
            }
        }

        if (!ngx_oci_bit_get(entry->map, n)
            && !ngx_oci_bit_get(unchecked, n))
        {
            at = (uint64_t) n * cache->slice;
            lacks += ngx_min(entry->size - at, cache->slice);
        }
    }

    return lacks;
}


static ngx_int_t
ngx_oci_index_raise(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t goal, ngx_oci_shortage_t *shortage)
{
    uint64_t  need;

    if (goal <= entry->reserved) {
        return NGX_OK;
    }

    need = goal - entry->reserved;

    ngx_oci_index_shortage(cache, need, shortage);

    if (shortage->bytes) {
        return NGX_DECLINED;
    }

    entry->reserved += need;
    cache->index->reserved += need;

    return NGX_OK;
}


void
ngx_oci_index_shortage(ngx_oci_cache_t *cache, uint64_t need,
    ngx_oci_shortage_t *shortage)
{
    uint64_t             used, left;
    ngx_oci_index_sh_t  *sh;

    sh = cache->index;

    shortage->bytes = 0;
    shortage->disk = 0;

    used = ngx_oci_index_used(cache) + sh->reserved + need;

    if (used > (uint64_t) cache->max_size) {
        shortage->bytes = used - cache->max_size;
    }

    if (sh->free < 0) {

        /* nobody has looked, or the file system does not tell */

        return;
    }

    /* what was written since may not be in the file system's answer */

    left = cache->min_free + (sh->written - sh->looked) + sh->reserved
           + (sh->pushed - sh->pushed_done) + need;

    if (left > (uint64_t) sh->free
        && left - sh->free > shortage->bytes)
    {
        shortage->bytes = left - sh->free;
        shortage->disk = 1;
    }
}


uint64_t
ngx_oci_index_used(ngx_oci_cache_t *cache)
{
    ngx_oci_index_sh_t  *sh;

    sh = cache->index;

    return sh->bytes + sh->forgotten + sh->extra + sh->pushed
           + ngx_oci_index_quota(cache);
}


/* what small files may take just now: there is always some more for them, so
   that they need not wait for blobs to go */

static uint64_t
ngx_oci_index_quota(ngx_oci_cache_t *cache)
{
    uint64_t  step;

    step = ngx_max(cache->small_max / NGX_OCI_INDEX_STEPS, 1);

    return ngx_min((cache->index->small / step + 2) * step,
                   cache->small_max);
}


ngx_int_t
ngx_oci_index_small(ngx_oci_cache_t *cache, int64_t bytes)
{
    uint64_t             blobs;
    ngx_int_t            rc;
    ngx_oci_index_sh_t  *sh;

    sh = cache->index;
    rc = NGX_OK;

    ngx_oci_index_lock(cache);

    if (bytes <= 0) {
        sh->small -= ngx_min((uint64_t) -bytes, sh->small);
        goto done;
    }

    blobs = sh->bytes + sh->forgotten + sh->extra + sh->reserved
            + sh->pushed;

    if (sh->small + bytes > cache->small_max
        || sh->small + bytes + blobs > (uint64_t) cache->max_size)
    {
        rc = NGX_DECLINED;
        goto done;
    }

    sh->small += bytes;
    sh->added += bytes;

done:

    ngx_oci_index_unlock(cache);

    return rc;
}


void
ngx_oci_index_recount(ngx_oci_cache_t *cache, uint64_t counted,
    uint64_t before)
{
    ngx_oci_index_lock(cache);

    /* what came meanwhile may or may not have been found; what went may have
       been: rather too much until it is counted again */

    cache->index->small = counted + cache->index->added - before;

    ngx_oci_index_unlock(cache);
}


uint64_t
ngx_oci_index_added(ngx_oci_cache_t *cache)
{
    return __atomic_load_n(&cache->index->added, __ATOMIC_RELAXED);
}


uint64_t
ngx_oci_index_smalls(ngx_oci_cache_t *cache)
{
    return __atomic_load_n(&cache->index->small, __ATOMIC_RELAXED);
}


/* the sidecar, and what the end of the last block of either file takes */

uint64_t
ngx_oci_index_extra(ngx_oci_entry_t *entry)
{
    uint64_t  map;

    map = NGX_OCI_STORE_RECORDS
          + (uint64_t) entry->slices * sizeof(ngx_oci_store_record_t);

    return ngx_align(map, NGX_OCI_INDEX_BLOCK) + NGX_OCI_INDEX_BLOCK;
}


void
ngx_oci_index_add(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t bytes)
{
    uint64_t  n;

    entry->bytes += bytes;
    cache->index->bytes += bytes;

    n = ngx_min(bytes, entry->reserved);

    entry->reserved -= n;
    cache->index->reserved -= n;
}


void
ngx_oci_index_unreserve(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    if (entry->reserved) {
        cache->index->reserved -= entry->reserved;
        cache->index->refused = 0;
        entry->reserved = 0;
    }
}


void
ngx_oci_index_trim(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    uint64_t  lacks;

    lacks = entry->size - ngx_min(entry->bytes, entry->size);

    if (entry->reserved > lacks) {
        cache->index->reserved -= entry->reserved - lacks;
        cache->index->refused = 0;
        entry->reserved = lacks;
    }
}


void
ngx_oci_index_unneed(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    if (ngx_oci_index_unneeded(entry)) {
        ngx_oci_index_source_free(cache, entry);
        ngx_oci_index_unreserve(cache, entry);
    }
}


void
ngx_oci_index_settle(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    ngx_oci_index_lock(cache);
    ngx_oci_index_unneed(cache, entry);
    ngx_oci_index_unlock(cache);
}


ngx_int_t
ngx_oci_index_evictable(ngx_oci_cache_t *cache, ngx_oci_shortage_t *shortage)
{
    uint64_t          bytes;
    ngx_uint_t        looked;
    ngx_queue_t      *q;
    ngx_oci_entry_t  *entry;

    bytes = 0;
    looked = 0;

    ngx_oci_index_lock(cache);

    for (q = ngx_queue_last(&cache->index->queue);
         q != ngx_queue_sentinel(&cache->index->queue)
         && bytes < shortage->bytes && looked < NGX_OCI_INDEX_LOOK_EVICT;
         q = ngx_queue_prev(q))
    {
        entry = ngx_queue_data(q, ngx_oci_entry_t, queue);

        if (ngx_oci_index_idle(entry) && !entry->orphan) {
            bytes += entry->bytes + ngx_oci_index_extra(entry);
        }

        looked++;
    }

    ngx_oci_index_unlock(cache);

    return (bytes >= shortage->bytes || looked == NGX_OCI_INDEX_LOOK_EVICT)
           ? NGX_OK : NGX_DECLINED;
}


void
ngx_oci_index_skip(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    ngx_oci_entry_t  *entry;

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    /* (a mark stays: whoever has the lock may be removing it) */

    if (entry) {
        ngx_oci_index_touch(cache, entry);
    }

    ngx_oci_index_unlock(cache);
}


void
ngx_oci_index_look(ngx_oci_cache_t *cache, off_t free,
    uint64_t written)
{
    ngx_oci_index_lock(cache);
    cache->index->free = free;
    cache->index->looked = written;
    cache->index->looked_at = (uint32_t) ngx_oci_index_now();
    ngx_oci_index_unlock(cache);
}


off_t
ngx_oci_index_free(ngx_oci_cache_t *cache, ngx_msec_t *age)
{
    off_t                free;
    ngx_oci_index_sh_t  *sh;

    sh = cache->index;

    ngx_oci_index_lock(cache);

    free = sh->free;
    *age = (uint32_t) (ngx_oci_index_now() - sh->looked_at);

    if (free != -1) {
        free -= ngx_min(sh->written - sh->looked, (uint64_t) free);
    }

    ngx_oci_index_unlock(cache);

    return free;
}


/* a worker's own time does not go on while a thread of it works */

static ngx_msec_t
ngx_oci_index_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (ngx_msec_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}


uint64_t
ngx_oci_index_written(ngx_oci_cache_t *cache, uint64_t bytes)
{
    return __atomic_add_fetch(&cache->index->written, bytes, __ATOMIC_RELAXED);
}


ngx_uint_t
ngx_oci_index_set_tight(ngx_oci_cache_t *cache)
{
    ngx_uint_t  news;

    news = !ngx_oci_index_tight(cache);

    __atomic_store_n(&cache->index->tight, (uint32_t) ngx_time(),
                     __ATOMIC_RELAXED);

    return news;
}


ngx_uint_t
ngx_oci_index_tight(ngx_oci_cache_t *cache)
{
    time_t  since;

    since = __atomic_load_n(&cache->index->tight, __ATOMIC_RELAXED);

    return since && ngx_time() - since <= NGX_OCI_INDEX_TIGHT;
}


void
ngx_oci_index_refuse(ngx_oci_cache_t *cache, uint64_t size)
{
    ngx_oci_index_lock(cache);
    cache->index->refused = (uint32_t) ngx_time();
    cache->index->refused_size = size;
    ngx_oci_index_unlock(cache);
}


ngx_uint_t
ngx_oci_index_empty(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    ngx_uint_t        empty;
    ngx_oci_entry_t  *entry;

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);
    empty = (entry && ngx_oci_index_idle(entry) && entry->bytes == 0);

    ngx_oci_index_unlock(cache);

    return empty;
}


ngx_int_t
ngx_oci_index_admit(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    uint64_t bytes)
{
    ngx_int_t            rc;
    ngx_oci_entry_t     *entry;
    ngx_oci_index_sh_t  *sh;

    sh = cache->index;
    rc = NGX_OK;

    if (__atomic_load_n(&sh->bypass, __ATOMIC_RELAXED) > ngx_time()) {
        rc = NGX_BUSY;

    } else if (ngx_oci_dir_state(cache) != NGX_OCI_DIR_OK) {
        rc = NGX_BUSY;

    } else if (__atomic_load_n(&sh->refused, __ATOMIC_RELAXED)) {
        rc = NGX_DECLINED;
    }

    if (rc == NGX_OK) {
        return NGX_OK;
    }

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    if (rc == NGX_DECLINED) {

        /* of what has an entry less is missing, perhaps */

        if (entry || bytes < sh->refused_size
            || ngx_time() - sh->refused > NGX_OCI_INDEX_REFUSED)
        {
            rc = NGX_OK;
        }

    } else if (entry && entry->loaded && entry->have == entry->slices
               && (entry->verified || !entry->disk))
    {
        /* what is stored needs no room; if it could be read, to be verified */

        rc = NGX_OK;
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


ngx_uint_t
ngx_oci_index_bypass(ngx_oci_cache_t *cache, time_t time)
{
    return __atomic_exchange_n(&cache->index->bypass, ngx_time() + time,
                               __ATOMIC_RELAXED)
           <= ngx_time();
}


void
ngx_oci_index_totals(ngx_oci_cache_t *cache, ngx_oci_zone_info_t *info)
{
    int64_t  free;

    ngx_oci_index_lock(cache);
    free = cache->index->free;
    info->bytes = cache->index->bytes + cache->index->forgotten;
    info->reserved = cache->index->reserved + cache->index->pushed;
    info->blobs = cache->index->count;
    info->fills = cache->index->fills;
    ngx_oci_index_unlock(cache);

    info->room = cache->max_size;

    /* else the file system does not tell */

    if (free >= 0) {
        free = ngx_max(free - (int64_t) cache->min_free, 0);
        info->room = ngx_min(info->room, info->bytes + (uint64_t) free);
    }
}
