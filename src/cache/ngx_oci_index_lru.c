
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the index knows for those who make room: which blobs go first, and
 * what is on the disk without an entry.
 */


#include "ngx_oci_index_sh.h"
#include "ngx_oci_open.h"


#define NGX_OCI_INDEX_RECENT  4096  /* entries moved under the mutex */


static void ngx_oci_index_recent(ngx_oci_cache_t *cache, ngx_queue_t *place);
static ngx_uint_t ngx_oci_index_leaves(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);
static void ngx_oci_index_evicting(ngx_oci_entry_t *entry);
static void ngx_oci_index_set_doomed(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);


ngx_int_t
ngx_oci_index_oldest(ngx_oci_cache_t *cache, ngx_uint_t all,
    ngx_oci_digest_t *digest, uint64_t *bytes, time_t *accessed)
{
    ngx_queue_t      *q;
    ngx_oci_entry_t  *entry, *found, *pinned;

    found = NULL;
    pinned = NULL;

    ngx_oci_index_lock(cache);

    for (q = ngx_queue_last(&cache->index->queue);
         q != ngx_queue_sentinel(&cache->index->queue);
         q = ngx_queue_prev(q))
    {
        entry = ngx_queue_data(q, ngx_oci_entry_t, queue);

        if (!ngx_oci_index_idle(entry) || entry->orphan
            || ngx_oci_index_leaves(cache, entry))
        {
            continue;
        }

        if (!ngx_oci_index_pinned(entry)) {
            found = entry;
            break;
        }

        if (pinned == NULL) {
            pinned = entry;
        }
    }

    if (found && pinned) {
        ngx_oci_index_recent(cache, &found->queue);
    }

    /* what has no entry yet may be nothing of the kind */

    if (found == NULL && all && cache->index->counted) {
        found = pinned;
    }

    if (found) {
        *digest = found->digest;
        *bytes = found->bytes;
        *accessed = found->accessed;
    }

    ngx_oci_index_unlock(cache);

    return found ? NGX_OK : pinned ? NGX_BUSY : NGX_DECLINED;
}


/* what is pinned behind this one is not looked at again soon: as long as it
   is, its place tells nothing */

static void
ngx_oci_index_recent(ngx_oci_cache_t *cache, ngx_queue_t *place)
{
    ngx_uint_t        n;
    ngx_queue_t      *q, *next;
    ngx_oci_entry_t  *entry;

    for (q = ngx_queue_next(place), n = 0;
         q != ngx_queue_sentinel(&cache->index->queue)
         && n < NGX_OCI_INDEX_RECENT;
         q = next)
    {
        next = ngx_queue_next(q);
        entry = ngx_queue_data(q, ngx_oci_entry_t, queue);

        if (ngx_oci_index_pinned(entry)) {
            ngx_queue_remove(q);
            ngx_queue_insert_head(&cache->index->queue, q);
            n++;
        }
    }
}


void
ngx_oci_index_pin(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    time_t until)
{
    ngx_oci_index_lock(cache);
    entry->pinned = ngx_max(entry->pinned, until);
    ngx_oci_index_unlock(cache);
}


ngx_int_t
ngx_oci_index_blob_info(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_oci_blob_info_t *info)
{
    ngx_oci_entry_t  *entry;

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    if (entry) {
        info->bytes = entry->bytes;
        info->slice = cache->slice;
        info->slices = entry->slices;
        info->have = entry->have;
    }

    ngx_oci_index_unlock(cache);

    return entry ? NGX_OK : NGX_DECLINED;
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
    uint64_t size, uint64_t bytes, time_t accessed, time_t pinned,
    ngx_uint_t verified, ngx_uint_t found)
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
    entry->pinned = pinned;

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

    cache->index->counted = 1;

    if (cache->index->forgets == forgets
        && cache->index->recalls == recalls)
    {
        cache->index->forgotten = bytes;
    }

    ngx_oci_index_unlock(cache);
}
