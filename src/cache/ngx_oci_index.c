
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_index.h"


#define NGX_OCI_INDEX_LOOK   64     /* slices looked at by one readable() */
#define NGX_OCI_INDEX_WANTS  256    /* wants looked at by one plan() */


static ngx_oci_entry_t *ngx_oci_index_find(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest);
static ngx_oci_entry_t *ngx_oci_index_new(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, uint64_t size);
static void *ngx_oci_index_alloc(ngx_oci_cache_t *cache, size_t size);
static void ngx_oci_index_delete(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);
static ngx_int_t ngx_oci_index_uniq(ngx_oci_store_t *st, uint64_t *uniq);
static void ngx_oci_index_touch(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);
static void ngx_oci_index_load(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, ngx_oci_store_t *st, uint64_t *uniq);
static uint64_t ngx_oci_index_end(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint64_t pos, uint64_t end);
static ngx_int_t ngx_oci_index_plan_from(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint64_t pos, uint64_t end, uint64_t max,
    ngx_oci_span_t *busy, ngx_uint_t n, ngx_oci_span_t *span,
    ngx_uint_t *check);
static void ngx_oci_index_lock(ngx_oci_cache_t *cache);
static void ngx_oci_index_unlock(ngx_oci_cache_t *cache);
static void ngx_oci_index_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);


#define ngx_oci_index_entry(n)                                                \
    ((ngx_oci_entry_t *) ((u_char *) (n) - offsetof(ngx_oci_entry_t, node)))

#define ngx_oci_index_half(e)     (((e)->slices + 7) / 8)

#define ngx_oci_index_idle(e)                                                 \
    ((e)->users == 0 && ngx_queue_empty(&(e)->wants))

#define ngx_oci_bit_get(map, n)   ((map)[(n) >> 3] & (1 << ((n) & 7)))
#define ngx_oci_bit_set(map, n)   (map)[(n) >> 3] |= (u_char) (1 << ((n) & 7))
#define ngx_oci_bit_clear(map, n)                                             \
    (map)[(n) >> 3] &= (u_char) ~(1 << ((n) & 7))


ngx_int_t
ngx_oci_index_init(ngx_oci_cache_t *cache, ngx_uint_t existing)
{
    uint32_t             layout;
    ngx_oci_index_sh_t  *sh;

    layout = sizeof(ngx_oci_index_sh_t) * 65536 + sizeof(ngx_oci_entry_t);

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
    ngx_rbtree_init(&sh->rbtree, &sh->sentinel, ngx_oci_index_insert);
    ngx_queue_init(&sh->queue);

    cache->index = sh;

    return NGX_OK;
}


static void
ngx_oci_index_lock(ngx_oci_cache_t *cache)
{
    ngx_shmtx_lock(&cache->shpool->mutex);
    cache->index->mutating = ngx_pid;
}


static void
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


static ngx_oci_entry_t *
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
    uint64_t          uniq[2];
    ngx_int_t         slot;
    ngx_oci_entry_t  *entry;

    slot = ngx_oci_doorbell_slot(cache);

    if (slot < 0) {

        /* nothing would keep the entry from being freed under the caller */

        return NULL;
    }

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    /* looked at here, as whoever unlinks does that before the entry goes */

    if ((entry && entry->evicting)
        || (st && ngx_oci_index_uniq(st, uniq) != NGX_OK))
    {
        ngx_oci_index_unlock(cache);
        return NULL;
    }

    if (entry && st && ngx_oci_index_idle(entry)) {

        /* nobody has the files open: what the disk says counts, they may
           have been removed or made anew meanwhile */

        if (entry->size != st->header.size) {
            ngx_oci_index_delete(cache, entry);
            entry = NULL;

        } else {
            entry->loaded = 0;
        }

    } else if (entry && st && entry->loaded
               && (entry->uniq[0] != uniq[0] || entry->uniq[1] != uniq[1]))
    {
        /* the map is of files that lost their names but are in use */

        ngx_oci_index_unlock(cache);
        return NULL;
    }

    if (entry == NULL && st) {
        entry = ngx_oci_index_new(cache, digest, st->header.size);
    }

    if (entry) {
        if (!entry->loaded && st) {
            ngx_oci_index_load(cache, entry, st, uniq);
        }

        entry->users |= (uint64_t) 1 << slot;
        ngx_oci_index_touch(cache, entry);
    }

    ngx_oci_index_unlock(cache);

    return entry;
}


/* the inodes of both files; no disk is asked: they are open */

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

    return NGX_OK;
}


static void
ngx_oci_index_touch(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    entry->accessed = ngx_time();
    ngx_queue_remove(&entry->queue);
    ngx_queue_insert_head(&cache->index->queue, &entry->queue);
}


static ngx_oci_entry_t *
ngx_oci_index_new(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    uint64_t size)
{
    size_t            len;
    u_char           *map;
    ngx_oci_entry_t  *entry;

    entry = ngx_oci_index_alloc(cache, sizeof(ngx_oci_entry_t));
    if (entry == NULL) {
        return NULL;
    }

    entry->size = size;
    entry->slices = (size + cache->slice - 1) / cache->slice;

    len = 2 * ngx_oci_index_half(entry);

    if (len > NGX_OCI_INDEX_INLINE) {
        map = ngx_oci_index_alloc(cache, len);
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

    return entry;
}


/* zeroed memory; forgets entries that nobody uses to get it.  Their files
   stay and are found again on disk */

static void *
ngx_oci_index_alloc(ngx_oci_cache_t *cache, size_t size)
{
    void             *p;
    ngx_uint_t        tries;
    ngx_queue_t      *q;
    ngx_oci_entry_t  *entry;

    for (tries = 0; /* void */; tries++) {

        p = ngx_slab_calloc_locked(cache->shpool, size);
        if (p || tries == 32) {
            return p;
        }

        for (q = ngx_queue_last(&cache->index->queue);
             q != ngx_queue_sentinel(&cache->index->queue);
             q = ngx_queue_prev(q))
        {
            entry = ngx_queue_data(q, ngx_oci_entry_t, queue);

            if (ngx_oci_index_idle(entry) && !entry->evicting) {
                break;
            }
        }

        if (q == ngx_queue_sentinel(&cache->index->queue)) {
            return NULL;
        }

        ngx_oci_index_delete(cache, entry);
    }
}


static void
ngx_oci_index_delete(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    ngx_queue_remove(&entry->queue);
    ngx_rbtree_delete(&cache->index->rbtree, &entry->node);

    cache->index->bytes -= entry->bytes;
    cache->index->count--;

    if (entry->source) {
        ngx_slab_free_locked(cache->shpool, entry->source);
    }

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
    entry->uniq[0] = uniq[0];
    entry->uniq[1] = uniq[1];
    entry->loaded = 1;
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

        if (i == NGX_OCI_INDEX_RUNS) {
            break;
        }

        pos = run[i].mark;
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


ngx_oci_want_t *
ngx_oci_index_want(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos, uint64_t end)
{
    ngx_oci_want_t  *want;

    ngx_oci_index_lock(cache);

    want = ngx_oci_index_alloc(cache, sizeof(ngx_oci_want_t));

    if (want) {
        want->entry = entry;
        want->pos = pos;
        want->end = end;
        want->slot = ngx_oci_doorbell_slot(cache);
        ngx_queue_insert_tail(&entry->wants, &want->queue);
    }

    ngx_oci_index_unlock(cache);

    return want;
}


void
ngx_oci_index_want_move(ngx_oci_cache_t *cache, ngx_oci_want_t *want,
    uint64_t pos)
{
    ngx_oci_index_lock(cache);
    want->pos = pos;
    ngx_oci_index_unlock(cache);
}


void
ngx_oci_index_unwant(ngx_oci_cache_t *cache, ngx_oci_want_t *want)
{
    ngx_oci_index_lock(cache);
    ngx_queue_remove(&want->queue);
    ngx_slab_free_locked(cache->shpool, want);
    ngx_oci_index_unlock(cache);
}


void
ngx_oci_index_source(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_oci_registry_t *registry, ngx_str_t *repository,
    ngx_str_t *authorization)
{
    size_t             len;
    uint32_t           id;
    ngx_oci_source_t  *src;

    if (authorization->len + repository->len > NGX_OCI_SOURCE_MAX) {
        return;
    }

    id = ngx_crc32_long(registry->name.data, registry->name.len);
    len = offsetof(ngx_oci_source_t, data) + repository->len
          + authorization->len;

    ngx_oci_index_lock(cache);

    src = entry->source;

    if (src && src->registry == id
        && src->repository_len == repository->len
        && src->authorization_len == authorization->len
        && ngx_memcmp(src->data, repository->data, repository->len) == 0
        && ngx_memcmp(src->data + repository->len, authorization->data,
                      authorization->len) == 0)
    {
        ngx_oci_index_unlock(cache);
        return;
    }

    src = ngx_slab_alloc_locked(cache->shpool, len);

    if (src) {
        src->registry = id;
        src->repository_len = (uint16_t) repository->len;
        src->authorization_len = (uint16_t) authorization->len;
        ngx_memcpy(src->data, repository->data, repository->len);
        ngx_memcpy(src->data + repository->len, authorization->data,
                   authorization->len);

        if (entry->source) {
            ngx_slab_free_locked(cache->shpool, entry->source);
        }

        entry->source = src;
    }

    ngx_oci_index_unlock(cache);
}


ngx_int_t
ngx_oci_index_source_get(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    u_char *buf, uint32_t *registry, ngx_str_t *repository,
    ngx_str_t *authorization)
{
    ngx_oci_source_t  *src;

    ngx_oci_index_lock(cache);

    src = entry->source;

    if (src == NULL) {
        ngx_oci_index_unlock(cache);
        return NGX_DECLINED;
    }

    *registry = src->registry;
    repository->len = src->repository_len;
    authorization->len = src->authorization_len;

    /* index_source() keeps nothing longer than NGX_OCI_SOURCE_MAX */

    ngx_memcpy(buf, src->data, repository->len + authorization->len);

    ngx_oci_index_unlock(cache);

    repository->data = buf;
    authorization->data = buf + repository->len;

    return NGX_OK;
}


ngx_int_t
ngx_oci_index_plan(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t ahead, uint64_t max, ngx_uint_t all, ngx_oci_span_t *busy,
    ngx_uint_t n, ngx_oci_span_t *span, ngx_uint_t *check)
{
    uint64_t         end;
    ngx_int_t        rc;
    ngx_uint_t       i;
    ngx_queue_t     *q;
    ngx_oci_want_t  *want;

    rc = NGX_DECLINED;

    ngx_oci_index_lock(cache);

    for (q = ngx_queue_head(&entry->wants), i = 0;
         q != ngx_queue_sentinel(&entry->wants) && i < NGX_OCI_INDEX_WANTS;
         q = ngx_queue_next(q), i++)
    {
        want = ngx_queue_data(q, ngx_oci_want_t, queue);

        end = ngx_min(want->end, want->pos + ahead);

        rc = ngx_oci_index_plan_from(cache, entry, want->pos, end, max,
                                     busy, n, span, check);
        if (rc == NGX_OK) {

            /* the next plan begins with another reader */

            ngx_queue_remove(q);
            ngx_queue_insert_tail(&entry->wants, q);

            break;
        }
    }

    if (rc != NGX_OK && all) {
        rc = ngx_oci_index_plan_from(cache, entry, 0, entry->size, max,
                                     busy, n, span, check);
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


static ngx_int_t
ngx_oci_index_plan_from(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos, uint64_t end, uint64_t max, ngx_oci_span_t *busy,
    ngx_uint_t n, ngx_oci_span_t *span, ngx_uint_t *check)
{
    size_t      slice, last;
    u_char     *unchecked;
    uint64_t    at;
    ngx_uint_t  i, found;

    end = ngx_min(end, entry->size);

    if (pos >= end) {
        return NGX_DECLINED;
    }

    unchecked = entry->map + ngx_oci_index_half(entry);
    last = (end - 1) / cache->slice;
    found = 0;

    for (slice = pos / cache->slice; slice <= last; slice++) {

        at = (uint64_t) slice * cache->slice;

        for (i = 0; i < n; i++) {
            if (at < busy[i].end && busy[i].pos < at + cache->slice) {
                break;
            }
        }

        if (i < n || ngx_oci_bit_get(entry->map, slice)) {
            if (found) {
                break;
            }

            continue;
        }

        if (ngx_oci_bit_get(unchecked, slice)) {
            if (!found) {
                span->pos = at;
                span->end = ngx_min(at + cache->slice, entry->size);
                *check = 1;
                return NGX_OK;
            }

            break;
        }

        if (!found) {
            span->pos = at;
            *check = 0;
            found = 1;
        }

        span->end = ngx_min(at + cache->slice, entry->size);

        if (span->end - span->pos >= max) {
            break;
        }
    }

    return found ? NGX_OK : NGX_DECLINED;
}


uint64_t
ngx_oci_index_gap(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos)
{
    size_t  n;

    ngx_oci_index_lock(cache);

    for (n = pos / cache->slice; n < entry->slices; n++) {
        if (ngx_oci_bit_get(entry->map, n)) {
            break;
        }
    }

    ngx_oci_index_unlock(cache);

    return ngx_min((uint64_t) n * cache->slice, entry->size);
}


ngx_uint_t
ngx_oci_index_wanted(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    ngx_uint_t  wanted;

    ngx_oci_index_lock(cache);
    wanted = !ngx_queue_empty(&entry->wants);
    ngx_oci_index_unlock(cache);

    return wanted;
}


void
ngx_oci_index_publish(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_uint_t i, uint64_t start, uint64_t mark, uint64_t added)
{
    uint64_t  waiters;

    ngx_oci_index_lock(cache);

    entry->runs[i].start = start;
    entry->runs[i].mark = mark;

    entry->bytes += added;
    cache->index->bytes += added;

    waiters = 0;

    if (added) {
        waiters = entry->waiters;
        entry->waiters = 0;
    }

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


void
ngx_oci_index_slice(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    size_t n, ngx_uint_t present)
{
    u_char    *unchecked;
    uint64_t   waiters, size;

    ngx_oci_index_lock(cache);

    unchecked = entry->map + ngx_oci_index_half(entry);
    waiters = 0;

    if (present) {
        if (!ngx_oci_bit_get(entry->map, n)) {
            ngx_oci_bit_set(entry->map, n);
            entry->have++;
        }

        waiters = entry->waiters;
        entry->waiters = 0;

    } else {
        if (ngx_oci_bit_get(entry->map, n)) {
            ngx_oci_bit_clear(entry->map, n);
            entry->have--;
        }

        size = ngx_min(cache->slice, entry->bytes);
        entry->bytes -= size;
        cache->index->bytes -= size;
        entry->verified = 0;
    }

    ngx_oci_bit_clear(unchecked, n);

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


ngx_uint_t
ngx_oci_index_has(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry, size_t n)
{
    ngx_uint_t  has;

    ngx_oci_index_lock(cache);
    has = ngx_oci_bit_get(entry->map, n) ? 1 : 0;
    ngx_oci_index_unlock(cache);

    return has;
}


ngx_int_t
ngx_oci_index_own(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    ngx_int_t  rc, slot;

    slot = ngx_oci_doorbell_slot(cache);

    if (slot < 0) {
        return NGX_BUSY;
    }

    ngx_oci_index_lock(cache);

    if (entry->owner == -1) {
        entry->owner = (int32_t) slot;
        ngx_memzero(entry->runs, sizeof(entry->runs));
        rc = NGX_OK;

    } else {
        rc = NGX_BUSY;
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


void
ngx_oci_index_disown(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_uint_t failed)
{
    uint64_t  waiters;

    ngx_oci_index_lock(cache);

    entry->owner = -1;
    ngx_memzero(entry->runs, sizeof(entry->runs));

    if (failed) {
        entry->failed++;
    }

    waiters = entry->waiters;
    entry->waiters = 0;

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


ngx_int_t
ngx_oci_index_ring_owner(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    int32_t  owner;

    ngx_oci_index_lock(cache);
    owner = entry->owner;
    ngx_oci_index_unlock(cache);

    if (owner < 0) {
        return NGX_DECLINED;
    }

    ngx_oci_doorbell_ring(cache, (uint64_t) 1 << owner);

    return NGX_OK;
}


void
ngx_oci_index_set_verified(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    uint64_t  waiters;

    ngx_oci_index_lock(cache);

    entry->verified = 1;
    entry->mismatches = 0;
    entry->backoff = 0;

    waiters = entry->waiters;
    entry->waiters = 0;

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


void
ngx_oci_index_reset(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    time_t backoff)
{
    uint64_t  waiters;

    ngx_oci_index_lock(cache);

    entry->generation++;
    entry->verified = 0;
    entry->loaded = 0;
    entry->have = 0;
    ngx_memzero(entry->map, 2 * ngx_oci_index_half(entry));
    ngx_memzero(entry->runs, sizeof(entry->runs));

    cache->index->bytes -= entry->bytes;
    entry->bytes = 0;

    if (backoff) {
        entry->mismatches++;

        /* the first is forgiven, then 2, 4, 8 ... times */

        if (entry->mismatches > 1) {
            entry->backoff = ngx_time()
                             + (backoff << ngx_min(entry->mismatches - 2, 8));
        }
    }

    waiters = entry->waiters;
    entry->waiters = 0;

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


void
ngx_oci_index_sweep(ngx_oci_cache_t *cache, ngx_int_t slot)
{
    uint64_t          bit, waiters;
    ngx_queue_t      *q, *w, *next;
    ngx_oci_want_t   *want;
    ngx_oci_entry_t  *entry;

    bit = (uint64_t) 1 << slot;
    waiters = 0;

    ngx_oci_index_lock(cache);

    for (q = ngx_queue_head(&cache->index->queue);
         q != ngx_queue_sentinel(&cache->index->queue);
         q = ngx_queue_next(q))
    {
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
                ngx_queue_remove(w);
                ngx_slab_free_locked(cache->shpool, want);
            }
        }

        if (entry->owner == slot) {
            entry->owner = -1;
            ngx_memzero(entry->runs, sizeof(entry->runs));
            waiters |= entry->waiters;
            entry->waiters = 0;
        }

        entry->users &= ~bit;
        entry->waiters &= ~bit;
    }

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters & ~bit);
}


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

        if (ngx_oci_index_idle(entry)) {
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
        entry->evicting = 1;
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

        if (entry->evicting) {
            ngx_oci_index_delete(cache, entry);
        }

    } else if (entry) {
        entry->evicting = 0;
        ngx_oci_index_touch(cache, entry);
    }

    ngx_oci_index_unlock(cache);
}


void
ngx_oci_index_note(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    uint64_t size, uint64_t bytes, time_t accessed, ngx_uint_t verified)
{
    ngx_queue_t      *q;
    ngx_oci_entry_t  *entry, *e;

    ngx_oci_index_lock(cache);

    if (ngx_oci_index_find(cache, digest) == NULL) {

        entry = ngx_oci_index_new(cache, digest, size);

        if (entry) {
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
        }
    }

    ngx_oci_index_unlock(cache);
}


void
ngx_oci_index_totals(ngx_oci_cache_t *cache, uint64_t *bytes,
    uint64_t *blobs)
{
    ngx_oci_index_lock(cache);
    *bytes = cache->index->bytes;
    *blobs = cache->index->count;
    ngx_oci_index_unlock(cache);
}
