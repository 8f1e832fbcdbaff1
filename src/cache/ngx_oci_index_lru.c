
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the index knows for those who make room: which blobs go first, and
 * what is on the disk without an entry.
 */


#include "ngx_oci_index_sh.h"
#include "ngx_oci_open.h"


static ngx_uint_t ngx_oci_index_leaves(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);
static void ngx_oci_index_evicting(ngx_oci_entry_t *entry);
static void ngx_oci_index_set_doomed(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);


ngx_int_t
ngx_oci_index_oldest(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    uint64_t *bytes, time_t *accessed)
{
    ngx_int_t         rc;
    ngx_queue_t      *q;
    ngx_oci_entry_t  *entry;

    rc = NGX_DECLINED;

    ngx_oci_index_lock(cache);

    for (q = ngx_queue_last(&cache->index->queue);
         q != ngx_queue_sentinel(&cache->index->queue);
         q = ngx_queue_prev(q))
    {
        entry = ngx_queue_data(q, ngx_oci_entry_t, queue);

        if (ngx_oci_index_idle(entry) && !entry->orphan
            && !ngx_oci_index_leaves(cache, entry))
        {
            *digest = entry->digest;
            *bytes = entry->bytes;
            *accessed = entry->accessed;
            rc = NGX_OK;
            break;
        }
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


/*
 * Does somebody remove it now?  Whoever died before may have had the pid of
 * another process: what is old enough to go anyway is tried, the sidecar's
 * lock tells.
 */

static ngx_uint_t
ngx_oci_index_leaves(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    return ngx_oci_index_marked(entry)
           && ngx_time() - entry->accessed < cache->inactive;
}


static void
ngx_oci_index_evicting(ngx_oci_entry_t *entry)
{
    entry->evicting = 1;
    entry->evictor = (int32_t) ngx_pid;
}


ngx_uint_t
ngx_oci_index_marked(ngx_oci_entry_t *entry)
{
    if (!entry->evicting) {
        return 0;
    }

    if (kill(entry->evictor, 0) == -1 && ngx_errno == ESRCH) {

        /* what it has not unlinked is as good as it was */

        entry->evicting = 0;
    }

    return entry->evicting;
}


ngx_int_t
ngx_oci_index_evict(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    ngx_int_t         rc;
    ngx_oci_entry_t  *entry;

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    if (entry == NULL) {
        rc = NGX_DECLINED;

    } else if (ngx_oci_index_idle(entry)) {
        ngx_oci_index_evicting(entry);
        rc = NGX_OK;

    } else {
        rc = NGX_BUSY;
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


void
ngx_oci_index_evicted(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_uint_t gone)
{
    ngx_oci_entry_t  *entry;

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    if (entry && gone) {

        /* another one if it is not marked */

        if (entry->evicting && ngx_oci_index_idle(entry)) {
            ngx_oci_index_delete(cache, entry);

        } else if (entry->evicting) {
            ngx_oci_index_spare(cache, entry);

            entry->evicting = 0;
            entry->orphan = 1;
            ngx_rbtree_delete(&cache->index->rbtree, &entry->node);
        }

    } else if (entry) {

        if (entry->evictor == ngx_pid) {
            entry->evicting = 0;
        }

        ngx_oci_index_touch(cache, entry);
    }

    ngx_oci_index_unlock(cache);
}


void
ngx_oci_index_emptied(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    ngx_oci_entry_t  *entry;

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    if (entry && entry->evicting) {
        ngx_oci_index_clear(cache, entry);
        entry->evicting = 0;
    }

    ngx_oci_index_unlock(cache);
}


ngx_int_t
ngx_oci_index_purge(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    ngx_int_t         rc;
    ngx_oci_entry_t  *entry;

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    if (entry == NULL) {
        rc = NGX_DECLINED;

    } else if (entry->evicting) {

        /* the lock is the caller's: whoever marked it died */

        ngx_oci_index_evicting(entry);
        rc = NGX_OK;

    } else if (ngx_oci_index_idle(entry)
               || (entry->owner == -1
                   && (ngx_queue_empty(&entry->wants)
                       || (entry->loaded && entry->verified
                           && entry->have == entry->slices))))
    {
        ngx_oci_index_evicting(entry);
        rc = NGX_OK;

    } else {
        ngx_oci_index_set_doomed(cache, entry);
        rc = NGX_BUSY;
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


static void
ngx_oci_index_set_doomed(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    if (!entry->doomed) {
        entry->doomed = 1;
        cache->index->doomed++;
    }
}


void
ngx_oci_index_spare(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    if (entry->doomed) {
        entry->doomed = 0;
        cache->index->doomed--;
    }
}


ngx_int_t
ngx_oci_index_doom(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    uint64_t          owner;
    ngx_oci_entry_t  *entry;

    owner = 0;

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    if (entry) {
        ngx_oci_index_set_doomed(cache, entry);

        if (entry->owner != -1) {
            owner = (uint64_t) 1 << entry->owner;
        }
    }

    ngx_oci_index_unlock(cache);

    /* it may be filling for nobody */

    ngx_oci_doorbell_ring(cache, owner);

    return entry ? NGX_OK : NGX_DECLINED;
}


ngx_uint_t
ngx_oci_index_is_doomed(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    ngx_uint_t        doomed;
    ngx_oci_entry_t  *entry;

    if (__atomic_load_n(&cache->index->doomed, __ATOMIC_RELAXED) == 0) {
        return 0;
    }

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);
    doomed = (entry && entry->doomed);

    ngx_oci_index_unlock(cache);

    return doomed;
}


ngx_int_t
ngx_oci_index_doomed(ngx_oci_cache_t *cache, ngx_uint_t n,
    ngx_oci_digest_t *digest)
{
    ngx_int_t         rc;
    ngx_queue_t      *q;
    ngx_oci_entry_t  *entry;

    if (__atomic_load_n(&cache->index->doomed, __ATOMIC_RELAXED) <= n) {
        return NGX_DECLINED;
    }

    rc = NGX_DECLINED;

    ngx_oci_index_lock(cache);

    for (q = ngx_queue_head(&cache->index->queue);
         q != ngx_queue_sentinel(&cache->index->queue);
         q = ngx_queue_next(q))
    {
        entry = ngx_queue_data(q, ngx_oci_entry_t, queue);

        if (entry->doomed && n-- == 0) {
            *digest = entry->digest;
            rc = NGX_OK;
            break;
        }
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


ngx_int_t
ngx_oci_index_note(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    uint64_t size, uint64_t bytes, time_t accessed, ngx_uint_t verified,
    ngx_uint_t found)
{
    ngx_queue_t      *q;
    ngx_oci_entry_t  *entry, *e;

    ngx_oci_index_lock(cache);

    if (ngx_oci_index_find(cache, digest)) {
        ngx_oci_index_unlock(cache);
        return NGX_OK;
    }

    entry = ngx_oci_index_new(cache, digest, size,
                              found ? 0 : NGX_OCI_INDEX_FORGET);
    if (entry == NULL) {

        if (!found) {
            cache->index->forgotten += bytes;
            cache->index->forgets++;
        }

        ngx_oci_index_unlock(cache);
        return NGX_DECLINED;
    }

    if (found) {
        ngx_oci_index_recall(cache, bytes);
    }

    entry->bytes = bytes;
    cache->index->bytes += bytes;
    entry->verified = verified;
    entry->accessed = accessed;

    /* the LRU is ordered by time of use */

    ngx_queue_remove(&entry->queue);

    for (q = ngx_queue_last(&cache->index->queue);
         q != ngx_queue_sentinel(&cache->index->queue);
         q = ngx_queue_prev(q))
    {
        e = ngx_queue_data(q, ngx_oci_entry_t, queue);

        if (e->accessed >= accessed) {
            break;
        }
    }

    ngx_queue_insert_after(q, &entry->queue);

    ngx_oci_index_unlock(cache);

    return NGX_OK;
}


ngx_uint_t
ngx_oci_index_known(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    ngx_uint_t  known;

    ngx_oci_index_lock(cache);
    known = ngx_oci_index_find(cache, digest) ? 1 : 0;
    ngx_oci_index_unlock(cache);

    return known;
}


/* of what is forgotten, bytes have an entry again, or are gone */

void
ngx_oci_index_recall(ngx_oci_cache_t *cache, uint64_t bytes)
{
    cache->index->forgotten -= ngx_min(bytes, cache->index->forgotten);
}


void
ngx_oci_index_stray(ngx_oci_cache_t *cache)
{
    ngx_oci_index_lock(cache);
    cache->index->forgets++;
    ngx_oci_index_unlock(cache);
}


void
ngx_oci_index_found(ngx_oci_cache_t *cache, uint64_t bytes)
{
    ngx_oci_index_lock(cache);
    ngx_oci_index_recall(cache, bytes);
    ngx_oci_index_unlock(cache);
}


void
ngx_oci_index_counted(ngx_oci_cache_t *cache, uint32_t forgets,
    uint32_t recalls, uint64_t bytes)
{
    ngx_oci_index_lock(cache);

    if (cache->index->forgets == forgets
        && cache->index->recalls == recalls)
    {
        cache->index->forgotten = bytes;
    }

    ngx_oci_index_unlock(cache);
}
