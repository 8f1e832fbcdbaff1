
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_index_sh.h"


#define NGX_OCI_INDEX_LOOK   64     /* slices looked at by one readable() */
#define NGX_OCI_INDEX_SAY    60     /* s between equal log lines */
#define NGX_OCI_INDEX_MOVED  1000   /* entries forgotten at a time */
#define NGX_OCI_INDEX_SHARE  4      /* a blob's map may take a fourth of the
                                       zone */


static ngx_oci_entry_t *ngx_oci_index_replace(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, ngx_oci_digest_t *digest, uint64_t size);
static ngx_int_t ngx_oci_index_uniq(ngx_oci_store_t *st, uint64_t *uniq);
static void ngx_oci_index_load(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, ngx_oci_store_t *st, uint64_t *uniq);
static uint64_t ngx_oci_index_end(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint64_t pos, uint64_t end);
static void ngx_oci_index_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);


ngx_int_t
ngx_oci_index_init(ngx_oci_cache_t *cache, ngx_uint_t existing)
{
    uint32_t             layout;
    ngx_oci_index_sh_t  *sh;

    layout = sizeof(ngx_oci_source_t) * 16777216
             + sizeof(ngx_oci_index_sh_t) * 65536 + sizeof(ngx_oci_entry_t);

    if (existing) {
        if (cache->index->layout != layout) {
            ngx_log_error(NGX_LOG_EMERG, cache->zone->shm.log, 0,
                          "oci cache zone \"%V\" was made by another build",
                          &cache->zone->shm.name);
            return NGX_ERROR;
        }

        return NGX_OK;
    }

    sh = ngx_slab_calloc(cache->shpool, sizeof(ngx_oci_index_sh_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    sh->layout = layout;
    sh->free = -1;

    /* the manager looks at once what is there, the loader after a minute */

    sh->forgets = 1;
    ngx_rbtree_init(&sh->rbtree, &sh->sentinel, ngx_oci_index_insert);
    ngx_queue_init(&sh->queue);

    cache->index = sh;

    return ngx_oci_push_init(cache);
}


void
ngx_oci_index_lock(ngx_oci_cache_t *cache)
{
    ngx_shmtx_lock(&cache->shpool->mutex);

    if (cache->index->mutating) {
        cache->index->broken = 1;
    }

    cache->index->mutating = ngx_pid;
}


void
ngx_oci_index_unlock(ngx_oci_cache_t *cache)
{
    cache->index->mutating = 0;
    ngx_shmtx_unlock(&cache->shpool->mutex);
}


static void
ngx_oci_index_insert(ngx_rbtree_node_t *temp, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel)
{
    ngx_int_t           rc;
    ngx_oci_entry_t    *a, *b;
    ngx_rbtree_node_t **p;

    for ( ;; ) {

        if (node->key != temp->key) {
            p = (node->key < temp->key) ? &temp->left : &temp->right;

        } else {
            a = ngx_oci_index_entry(node);
            b = ngx_oci_index_entry(temp);

            rc = ngx_memcmp(a->digest.bytes, b->digest.bytes,
                            NGX_OCI_DIGEST_BYTES);

            p = (rc < 0) ? &temp->left : &temp->right;
        }

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    *p = node;
    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}


static ngx_rbtree_key_t
ngx_oci_index_key(ngx_oci_digest_t *digest)
{
    ngx_rbtree_key_t  key;

    ngx_memcpy(&key, digest->bytes, sizeof(ngx_rbtree_key_t));

    return key;
}


ngx_oci_entry_t *
ngx_oci_index_find(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    ngx_int_t           rc;
    ngx_oci_entry_t    *entry;
    ngx_rbtree_key_t    key;
    ngx_rbtree_node_t  *node, *sentinel;

    key = ngx_oci_index_key(digest);
    node = cache->index->rbtree.root;
    sentinel = cache->index->rbtree.sentinel;

    while (node != sentinel) {

        if (key != node->key) {
            node = (key < node->key) ? node->left : node->right;
            continue;
        }

        entry = ngx_oci_index_entry(node);

        rc = ngx_memcmp(digest->bytes, entry->digest.bytes,
                        NGX_OCI_DIGEST_BYTES);

        if (rc == 0 && entry->digest.alg == digest->alg) {
            return entry;
        }

        node = (rc < 0) ? node->left : node->right;
    }

    return NULL;
}


ngx_oci_entry_t *
ngx_oci_index_acquire(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_oci_store_t *st)
{
    uint64_t          uniq[3];
    ngx_int_t         slot;
    ngx_uint_t        found;
    ngx_oci_entry_t  *entry;

    slot = ngx_oci_doorbell_slot(cache);

    if (slot < 0) {

        /* nothing would keep the entry from being freed under the caller */

        return NULL;
    }

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    /* looked at here, as whoever unlinks does that before the entry goes */

    if ((entry && ngx_oci_index_marked(entry))
        || (st && ngx_oci_index_uniq(st, uniq) != NGX_OK))
    {
        ngx_oci_index_unlock(cache);
        return NULL;
    }

    if (entry && st && ngx_oci_index_idle(entry)) {

        /* nobody has the files open: what the disk says counts, they may
           have been removed or made anew meanwhile */

        if (entry->size == st->header.size) {
            entry->loaded = 0;

        } else {
            entry = ngx_oci_index_replace(cache, entry, digest,
                                          st->header.size);
            if (entry == NULL) {
                cache->index->forgets++;
                ngx_oci_index_unlock(cache);
                return NULL;
            }
        }

    } else if (entry && st && entry->loaded
               && ngx_memcmp(entry->uniq, uniq, sizeof(entry->uniq)) != 0)
    {
        /* the map is of files that lost their names but are in use, or were
           until their last user died, of which the sweep is yet to come */

        ngx_oci_index_unlock(cache);
        return NULL;
    }

    found = 0;

    if (entry == NULL && st) {
        entry = ngx_oci_index_new(cache, digest, st->header.size,
                                  NGX_OCI_INDEX_FORGET);
        found = 1;

        if (entry == NULL) {
            cache->index->forgets++;
        }
    }

    if (entry) {
        if (!entry->loaded && st) {
            ngx_oci_index_load(cache, entry, st, uniq);
        }

        if (found) {
            ngx_oci_index_recall(cache, entry->bytes);

            /* a walk that is under way may have counted them */

            cache->index->recalls += (entry->bytes != 0);
        }

        entry->users |= (uint64_t) 1 << slot;
        ngx_oci_index_touch(cache, entry);
    }

    ngx_oci_index_unlock(cache);

    return entry;
}


/* the inodes of both files, which others may have been given since, and what
   was made up for these; no disk is asked: they are open */

static ngx_int_t
ngx_oci_index_uniq(ngx_oci_store_t *st, uint64_t *uniq)
{
    struct stat  data, map;

    if (fstat(st->fd, &data) == -1 || data.st_nlink == 0
        || fstat(st->map, &map) == -1 || map.st_nlink == 0)
    {
        return NGX_DECLINED;
    }

    uniq[0] = data.st_ino;
    uniq[1] = map.st_ino;
    uniq[2] = st->header.nonce;

    return NGX_OK;
}


void
ngx_oci_index_touch(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    entry->accessed = ngx_time();
    ngx_queue_remove(&entry->queue);
    ngx_queue_insert_head(&cache->index->queue, &entry->queue);
}


ngx_oci_entry_t *
ngx_oci_index_new(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    uint64_t size, ngx_uint_t forget)
{
    size_t            len;
    u_char           *map;
    ngx_oci_entry_t  *entry;

    entry = ngx_oci_index_alloc(cache, sizeof(ngx_oci_entry_t), forget);
    if (entry == NULL) {
        return NULL;
    }

    entry->size = size;
    entry->slices = (size + cache->slice - 1) / cache->slice;

    len = 2 * ngx_oci_index_half(entry);

    if (len > NGX_OCI_INDEX_INLINE) {
        map = ngx_oci_index_alloc(cache, len, forget);
        if (map == NULL) {
            ngx_slab_free_locked(cache->shpool, entry);
            return NULL;
        }

        entry->map = map;

    } else {
        entry->map = entry->inline_map;
    }

    entry->digest.alg = digest->alg;
    entry->digest.size = digest->size;
    ngx_memcpy(entry->digest.bytes, digest->bytes, digest->size);

    entry->owner = -1;
    entry->accessed = ngx_time();
    ngx_queue_init(&entry->wants);

    entry->node.key = ngx_oci_index_key(digest);
    ngx_rbtree_insert(&cache->index->rbtree, &entry->node);
    ngx_queue_insert_head(&cache->index->queue, &entry->queue);
    cache->index->count++;
    cache->index->extra += ngx_oci_index_extra(entry);

    return entry;
}


/* of another size: the map is a new one; who failed to fill it is kept */

static ngx_oci_entry_t *
ngx_oci_index_replace(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_oci_digest_t *digest, uint64_t size)
{
    time_t    backoff;
    uint32_t  generation, failed, mismatches, origin;

    generation = entry->generation;
    failed = entry->failed;
    mismatches = entry->mismatches;
    origin = entry->backoff_origin;
    backoff = entry->backoff;

    ngx_oci_index_delete(cache, entry);

    entry = ngx_oci_index_new(cache, digest, size, NGX_OCI_INDEX_FORGET);

    if (entry) {
        entry->generation = generation + 1;
        entry->failed = failed;
        entry->mismatches = mismatches;
        entry->backoff_origin = origin;
        entry->backoff = backoff;
    }

    return entry;
}


ngx_uint_t
ngx_oci_index_fits(ngx_oci_cache_t *cache, uint64_t size)
{
    uint64_t  slices;

    if (size == 0) {
        return 1;
    }

    /* (two bits a slice) */

    slices = (size - 1) / cache->slice + 1;

    return slices <= NGX_OCI_STORE_SLICES
           && slices / 4 <= cache->zone->shm.size / NGX_OCI_INDEX_SHARE;
}


/* zeroed memory; forgets entries that nobody uses to get it.  Their files
   stay, are counted all together, and are found again on disk */

void *
ngx_oci_index_alloc(ngx_oci_cache_t *cache, size_t size, ngx_uint_t forget)
{
    void             *p;
    ngx_uint_t        tries;
    ngx_queue_t      *q;
    ngx_oci_entry_t  *entry, *pinned;

    for (tries = 0; /* void */; tries++) {

        p = ngx_slab_calloc_locked(cache->shpool, size);
        if (p || tries == forget) {
            return p;
        }

        pinned = NULL;

        for (q = ngx_queue_last(&cache->index->queue);
             q != ngx_queue_sentinel(&cache->index->queue);
             q = ngx_queue_prev(q))
        {
            entry = ngx_queue_data(q, ngx_oci_entry_t, queue);

            if (!ngx_oci_index_idle(entry)
                || entry->evicting || entry->doomed)
            {
                continue;
            }

            if (!ngx_oci_index_pinned(entry)) {
                break;
            }

            if (pinned == NULL) {
                pinned = entry;
            }
        }

        if (q == ngx_queue_sentinel(&cache->index->queue)) {
            entry = pinned;
        }

        if (entry == NULL) {
            return NULL;
        }

        cache->index->forgotten += entry->bytes;
        cache->index->forgets++;

        ngx_oci_index_delete(cache, entry);
    }
}


void
ngx_oci_index_delete(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    ngx_queue_remove(&entry->queue);

    if (!entry->orphan) {
        ngx_rbtree_delete(&cache->index->rbtree, &entry->node);
    }

    ngx_oci_index_spare(cache, entry);

    ngx_oci_index_unreserve(cache, entry);

    cache->index->bytes -= entry->bytes;
    cache->index->extra -= ngx_oci_index_extra(entry);
    cache->index->count--;

    ngx_oci_index_source_free(cache, entry);

    if (entry->map != entry->inline_map) {
        ngx_slab_free_locked(cache->shpool, entry->map);
    }

    ngx_slab_free_locked(cache->shpool, entry);
}


static void
ngx_oci_index_load(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_oci_store_t *st, uint64_t *uniq)
{
    size_t    i;
    u_char   *check;
    uint64_t  bytes;

    if (entry->size != st->header.size || st->records == NULL) {
        return;
    }

    check = entry->map + ngx_oci_index_half(entry);
    bytes = 0;
    entry->have = 0;
    ngx_memzero(entry->map, 2 * ngx_oci_index_half(entry));
    ngx_memzero(entry->kept, sizeof(entry->kept));

    for (i = 0; i < st->slices; i++) {

        if (st->records[i].state == NGX_OCI_SLICE_PRESENT) {
            ngx_oci_bit_set(entry->map, i);
            entry->have++;
            bytes += cache->slice;

        } else if (st->records[i].state == NGX_OCI_SLICE_UNCHECKED) {
            ngx_oci_bit_set(check, i);
            bytes += cache->slice;
        }
    }

    bytes = ngx_min(bytes, entry->size);

    cache->index->bytes += bytes - entry->bytes;
    entry->bytes = bytes;

    entry->verified = (st->header.flags & NGX_OCI_STORE_VERIFIED) ? 1 : 0;
    entry->origin = st->header.origin;
    entry->proven = st->header.proven;
    ngx_memcpy(entry->uniq, uniq, sizeof(entry->uniq));
    entry->pinned = st->pinned;
    entry->writer = 0;
    entry->loaded = 1;
}


void
ngx_oci_index_adopt(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_oci_store_header_t *h, ngx_oci_store_record_t *records,
    uint64_t found, uint64_t writer)
{
    size_t      n;
    u_char     *check;
    uint64_t    at, bytes, waiters;
    ngx_uint_t  i, lost, retracted;

    bytes = 0;
    lost = 0;
    retracted = 0;

    ngx_oci_index_lock(cache);

    check = entry->map + ngx_oci_index_half(entry);

    for (n = 0; n < entry->slices; n++) {

        if (records[n].state == NGX_OCI_SLICE_PRESENT) {

            if (!ngx_oci_bit_get(entry->map, n)) {
                ngx_oci_bit_set(entry->map, n);
                entry->have++;
            }

        } else if (ngx_oci_bit_get(entry->map, n)) {
            ngx_oci_bit_clear(entry->map, n);
            entry->have--;
            lost = 1;
        }

        if (records[n].state == NGX_OCI_SLICE_UNCHECKED) {
            ngx_oci_bit_set(check, n);

        } else {
            ngx_oci_bit_clear(check, n);
        }

        if (records[n].state != NGX_OCI_SLICE_ABSENT) {
            at = (uint64_t) n * cache->slice;
            bytes += ngx_min(entry->size - at, cache->slice);
        }
    }

    for (i = 0; i < NGX_OCI_INDEX_KEPT; i++) {

        if (entry->kept[i] == 0) {
            continue;
        }

        n = entry->kept[i] / cache->slice;

        /* readers may have had a part of a slice that others fetched anew */

        retracted |= (found != entry->writer);

        if (found != entry->writer
            || records[n].state != NGX_OCI_SLICE_ABSENT)
        {
            entry->kept[i] = 0;
            continue;
        }

        bytes += entry->kept[i] % cache->slice;
    }

    entry->writer = writer;
    entry->settled = 1;

    cache->index->bytes += bytes - entry->bytes;
    entry->bytes = bytes;

    ngx_oci_index_trim(cache, entry);

    entry->retracted += retracted;
    entry->lost += lost;

    entry->verified = (h->flags & NGX_OCI_STORE_VERIFIED) ? 1 : 0;

    /* what is not verified comes from one registry only */

    if (!entry->verified && entry->source
        && entry->source->registry != entry->origin)
    {
        ngx_oci_index_source_free(cache, entry);
    }

    for (i = 0; i < h->proven.n; i++) {
        ngx_oci_proven_add(&entry->proven, h->proven.origins[i]);
    }

    waiters = entry->waiters;
    entry->waiters = 0;

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


void
ngx_oci_index_release(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    ngx_int_t  slot;

    slot = ngx_oci_doorbell_slot(cache);

    if (slot < 0) {
        return;
    }

    ngx_oci_index_lock(cache);
    entry->users &= ~((uint64_t) 1 << slot);

    if (ngx_oci_index_idle(entry) && entry->orphan) {
        ngx_oci_index_delete(cache, entry);
        ngx_oci_index_unlock(cache);
        return;
    }

    if (ngx_oci_index_idle(entry)) {
        ngx_oci_index_unneed(cache, entry);

        if (entry->bytes) {
            cache->index->refused = 0;
        }
    }

    ngx_oci_index_touch(cache, entry);
    ngx_oci_index_unlock(cache);
}


ngx_uint_t
ngx_oci_index_usable(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    return entry->loaded;
}


static uint64_t
ngx_oci_index_end(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos, uint64_t end)
{
    size_t                n;
    ngx_uint_t            i, looked;
    ngx_oci_index_run_t  *run;

    end = ngx_min(end, entry->size);

    for (looked = 0; pos < end && looked < NGX_OCI_INDEX_LOOK; looked++) {

        n = pos / cache->slice;

        if (ngx_oci_bit_get(entry->map, n)) {
            pos = (uint64_t) (n + 1) * cache->slice;
            continue;
        }

        run = entry->runs;

        for (i = 0; i < NGX_OCI_INDEX_RUNS; i++) {
            if (run[i].start <= pos && pos < run[i].mark) {
                break;
            }
        }

        if (i < NGX_OCI_INDEX_RUNS) {
            pos = run[i].mark;
            continue;
        }

        if (entry->owner == -1 || !entry->settled) {
            break;
        }

        for (i = 0; i < NGX_OCI_INDEX_KEPT; i++) {
            if (entry->kept[i] > pos && entry->kept[i] / cache->slice == n) {
                break;
            }
        }

        if (i == NGX_OCI_INDEX_KEPT) {
            break;
        }

        pos = entry->kept[i];
    }

    return ngx_min(pos, end);
}


uint64_t
ngx_oci_index_readable(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos, uint64_t end, ngx_uint_t wait)
{
    uint64_t   last;
    ngx_int_t  slot;

    slot = ngx_oci_doorbell_slot(cache);

    ngx_oci_index_lock(cache);

    last = ngx_oci_index_end(cache, entry, pos, end);

    if (last == pos && wait && slot >= 0) {
        entry->waiters |= (uint64_t) 1 << slot;
    }

    ngx_oci_index_unlock(cache);

    return last;
}


ngx_uint_t
ngx_oci_index_verified(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_uint_t wait)
{
    ngx_int_t   slot;
    ngx_uint_t  verified;

    slot = ngx_oci_doorbell_slot(cache);

    ngx_oci_index_lock(cache);

    verified = entry->verified;

    if (!verified && wait && slot >= 0) {
        entry->waiters |= (uint64_t) 1 << slot;
    }

    ngx_oci_index_unlock(cache);

    return verified;
}


void
ngx_oci_index_sweep(ngx_oci_cache_t *cache, ngx_int_t slot)
{
    uint64_t          bit, waiters;
    ngx_queue_t      *q, *w, *next, *after;
    ngx_oci_want_t   *want;
    ngx_oci_entry_t  *entry;

    bit = (uint64_t) 1 << slot;
    waiters = 0;

    ngx_oci_index_lock(cache);

    for (q = ngx_queue_head(&cache->index->queue);
         q != ngx_queue_sentinel(&cache->index->queue);
         q = after)
    {
        after = ngx_queue_next(q);
        entry = ngx_queue_data(q, ngx_oci_entry_t, queue);

        if (!(entry->users & bit)) {
            continue;
        }

        for (w = ngx_queue_head(&entry->wants);
             w != ngx_queue_sentinel(&entry->wants);
             w = next)
        {
            next = ngx_queue_next(w);
            want = ngx_queue_data(w, ngx_oci_want_t, queue);

            if (want->slot == slot) {
                waiters |= ngx_oci_index_source_leave(entry, want);

                ngx_queue_remove(w);
                ngx_slab_free_locked(cache->shpool, want);
            }
        }

        if (entry->owner == slot) {
            entry->owner = -1;
            cache->index->fills--;
            ngx_oci_index_runs_end(cache, entry);
            waiters |= entry->waiters;
            entry->waiters = 0;
        }

        entry->users &= ~bit;
        entry->waiters &= ~bit;

        ngx_oci_index_unneed(cache, entry);

        if (entry->orphan && ngx_oci_index_idle(entry)) {
            ngx_oci_index_delete(cache, entry);
        }
    }

    ngx_oci_push_sweep(cache, slot);

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters & ~bit);
}


off_t
ngx_oci_index_size(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    uint32_t origin, ngx_uint_t *verified)
{
    off_t             size;
    ngx_oci_entry_t  *entry;

    size = -1;
    *verified = 0;

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    if (entry && (entry->verified || entry->origin == origin)) {
        size = entry->size;
        *verified = entry->verified;
    }

    ngx_oci_index_unlock(cache);

    return size;
}


ngx_uint_t
ngx_oci_index_lost(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos)
{
    ngx_int_t   slot;
    ngx_uint_t  lost;

    slot = ngx_oci_doorbell_slot(cache);

    if (slot < 0) {
        return 0;
    }

    ngx_oci_index_lock(cache);

    /* another reader of this worker may have set the mark anew, with the ring
       for this one still to be heard */

    lost = (entry->waiters & ((uint64_t) 1 << slot))
           && !ngx_oci_doorbell_pending(cache, slot)
           && ngx_oci_index_end(cache, entry, pos, pos + 1) > pos;

    ngx_oci_index_unlock(cache);

    return lost;
}


void
ngx_oci_index_rotten(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_oci_store_t *st, size_t n)
{
    u_char           *unchecked;
    uint64_t          waiters, uniq[3];
    ngx_oci_entry_t  *entry;

    waiters = 0;

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    if (entry && !entry->loaded) {

        /* whoever opens it next reads the sidecar */

        entry->verified = 0;

    } else if (entry && n < entry->slices
               && ngx_oci_index_uniq(st, uniq) == NGX_OK
               && ngx_memcmp(entry->uniq, uniq, sizeof(entry->uniq)) == 0)
    {
        unchecked = entry->map + ngx_oci_index_half(entry);

        /* readers may have had it as it is now */

        entry->lost += (ngx_oci_bit_get(entry->map, n) != 0);

        if (ngx_oci_bit_get(entry->map, n) || ngx_oci_bit_get(unchecked, n)) {
            waiters = ngx_oci_index_lose(cache, entry, n);
            ngx_oci_bit_clear(unchecked, n);
        }
    }

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


void
ngx_oci_index_moved(ngx_oci_cache_t *cache)
{
    ngx_uint_t        n;
    ngx_queue_t      *q, *next;
    ngx_oci_entry_t  *entry;

    do {
        n = 0;

        ngx_oci_index_lock(cache);

        for (q = ngx_queue_head(&cache->index->queue);
             q != ngx_queue_sentinel(&cache->index->queue)
             && n < NGX_OCI_INDEX_MOVED;
             q = next)
        {
            next = ngx_queue_next(q);
            entry = ngx_queue_data(q, ngx_oci_entry_t, queue);

            if (ngx_oci_index_idle(entry)
                && !entry->evicting && !entry->doomed)
            {
                ngx_oci_index_delete(cache, entry);
                n++;
            }
        }

        /* the manager looks what is there */

        cache->index->forgotten = 0;
        cache->index->forgets++;

        ngx_oci_index_unlock(cache);

    } while (n == NGX_OCI_INDEX_MOVED);
}


ngx_uint_t
ngx_oci_index_broken(ngx_oci_cache_t *cache)
{
    static time_t  logged;

    if (!cache->index->broken) {
        return 0;
    }

    if (ngx_time() - logged > NGX_OCI_INDEX_SAY) {
        logged = ngx_time();
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                      "oci cache zone \"%V\" was left damaged by a process "
                      "that died, requests are passed through until nginx is "
                      "reloaded", &cache->zone->shm.name);
    }

    return 1;
}
