
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_index_sh.h"


#define NGX_OCI_INDEX_TRUST  3      /* failures, then a registry is doubted */
#define NGX_OCI_INDEX_DOUBT  600    /* s, doubled each time */
#define NGX_OCI_INDEX_WANTS  256    /* wants looked at by one plan() */


static ngx_int_t ngx_oci_index_plan_from(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint64_t pos, uint64_t end, uint64_t max,
    ngx_uint_t near, ngx_oci_span_t *busy, ngx_uint_t n,
    ngx_oci_span_t *span, ngx_uint_t *check);
static ngx_oci_doubt_t *ngx_oci_index_doubted(ngx_oci_entry_t *entry,
    uint32_t origin);
static void ngx_oci_index_proven(ngx_oci_entry_t *entry, uint32_t origin);
static uint64_t *ngx_oci_index_kept(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, size_t n);
static ngx_int_t ngx_oci_index_keep(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, ngx_oci_index_run_t *run);


ngx_oci_want_t *
ngx_oci_index_want(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos, uint64_t end, ngx_uint_t all)
{
    ngx_oci_want_t  *want;

    ngx_oci_index_lock(cache);

    want = ngx_oci_index_alloc(cache, sizeof(ngx_oci_want_t),
                               NGX_OCI_INDEX_FORGET);

    if (want) {
        want->entry = entry;
        want->pos = pos;
        want->end = end;
        want->all = all;
        want->slot = ngx_oci_doorbell_slot(cache);
        ngx_queue_insert_tail(&entry->wants, &want->queue);

    } else {
        ngx_oci_index_unneed(cache, entry);
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
    uint64_t          waiters;
    ngx_oci_entry_t  *entry;

    ngx_oci_index_lock(cache);

    entry = want->entry;

    waiters = ngx_oci_index_source_leave(entry, want);

    ngx_queue_remove(&want->queue);
    ngx_slab_free_locked(cache->shpool, want);

    ngx_oci_index_unneed(cache, entry);

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


static ngx_oci_doubt_t *
ngx_oci_index_doubted(ngx_oci_entry_t *entry, uint32_t origin)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_OCI_INDEX_DOUBTS; i++) {
        if (entry->doubts[i].n && entry->doubts[i].origin == origin) {
            return &entry->doubts[i];
        }
    }

    return NULL;
}


void
ngx_oci_index_doubt(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint32_t origin)
{
    ngx_uint_t        i;
    ngx_oci_doubt_t  *doubt;

    ngx_oci_index_lock(cache);

    doubt = ngx_oci_index_doubted(entry, origin);

    if (doubt == NULL) {
        doubt = &entry->doubts[0];

        for (i = 1; i < NGX_OCI_INDEX_DOUBTS; i++) {
            if (entry->doubts[i].until < doubt->until
                || entry->doubts[i].n == 0)
            {
                doubt = &entry->doubts[i];
            }
        }

        doubt->origin = origin;
        doubt->n = 0;
        doubt->until = 0;
    }

    if (doubt->until > ngx_time()) {

        /* asked before that was known */

        ngx_oci_index_unlock(cache);
        return;
    }

    doubt->n++;

    if (doubt->n >= NGX_OCI_INDEX_TRUST) {
        doubt->until = ngx_time() + (NGX_OCI_INDEX_DOUBT
                       << ngx_min(doubt->n - NGX_OCI_INDEX_TRUST, 2));
    }

    ngx_oci_index_unlock(cache);
}


static void
ngx_oci_index_proven(ngx_oci_entry_t *entry, uint32_t origin)
{
    ngx_oci_doubt_t  *doubt;

    ngx_oci_proven_add(&entry->proven, origin);

    doubt = ngx_oci_index_doubted(entry, origin);

    if (doubt) {
        ngx_memzero(doubt, sizeof(ngx_oci_doubt_t));
    }
}


void
ngx_oci_index_showed(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    uint32_t origin)
{
    ngx_oci_entry_t  *entry;

    if (ngx_oci_index_broken(cache)) {
        return;
    }

    ngx_oci_index_lock(cache);

    entry = ngx_oci_index_find(cache, digest);

    if (entry && entry->verified && entry->origin != origin) {
        ngx_oci_index_proven(entry, origin);
    }

    ngx_oci_index_unlock(cache);
}


ngx_int_t
ngx_oci_index_claim(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint32_t origin)
{
    ngx_int_t         rc;
    ngx_oci_doubt_t  *doubt;

    if (entry->origin == origin) {
        return NGX_OK;
    }

    rc = NGX_DECLINED;

    ngx_oci_index_lock(cache);

    if (entry->origin == origin) {
        rc = NGX_OK;

    } else if (entry->verified) {

        if (ngx_oci_proven_has(&entry->proven, origin)) {
            rc = NGX_OK;

        } else {
            doubt = ngx_oci_index_doubted(entry, origin);
            rc = (doubt && doubt->until > ngx_time()) ? NGX_DECLINED
                                                      : NGX_AGAIN;
        }

    } else if (entry->bytes == 0 && entry->owner == -1
               && ngx_queue_empty(&entry->wants))
    {
        entry->origin = origin;

        ngx_oci_index_source_free(cache, entry);

        rc = NGX_OK;
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


ngx_int_t
ngx_oci_index_prove(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint32_t generation, uint32_t origin)
{
    ngx_int_t  rc;

    rc = NGX_DECLINED;

    ngx_oci_index_lock(cache);

    if (entry->generation == generation && entry->verified) {
        ngx_oci_index_proven(entry, origin);
        rc = NGX_OK;
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


ngx_int_t
ngx_oci_index_plan(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t ahead, uint64_t max, ngx_uint_t near, ngx_uint_t all,
    ngx_oci_span_t *busy, ngx_uint_t n, ngx_oci_span_t *span,
    ngx_uint_t *check)
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

        end = want->all ? want->end : ngx_min(want->end, want->pos + ahead);

        rc = ngx_oci_index_plan_from(cache, entry, want->pos, end, max,
                                     near, busy, n, span, check);
        if (rc == NGX_OK) {

            /* the next plan begins with another reader */

            ngx_queue_remove(q);
            ngx_queue_insert_tail(&entry->wants, q);

            break;
        }
    }

    if (rc != NGX_OK && all) {
        rc = ngx_oci_index_plan_from(cache, entry, 0, entry->size, max,
                                     near, busy, n, span, check);
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


static ngx_int_t
ngx_oci_index_plan_from(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos, uint64_t end, uint64_t max, ngx_uint_t near,
    ngx_oci_span_t *busy, ngx_uint_t n, ngx_oci_span_t *span,
    ngx_uint_t *check)
{
    size_t      slice, last;
    u_char     *unchecked;
    uint64_t    at, *kept;
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

        /* readers may have had the beginning of a slice: it stays */

        kept = ngx_oci_index_kept(cache, entry, slice);

        if (found && kept) {
            break;
        }

        if (ngx_oci_bit_get(unchecked, slice)) {
            if (!found) {
                span->pos = at;
                span->mark = at;
                span->end = ngx_min(at + cache->slice, entry->size);
                *check = 1;
                return NGX_OK;
            }

            break;
        }

        if (!found) {

            if (near && slice != pos / cache->slice) {
                break;
            }

            span->pos = at;
            span->mark = kept ? *kept : at;
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
    size_t   n;
    u_char  *unchecked;

    ngx_oci_index_lock(cache);

    unchecked = entry->map + ngx_oci_index_half(entry);

    for (n = pos / cache->slice; n < entry->slices; n++) {
        if (ngx_oci_bit_get(entry->map, n) || ngx_oci_bit_get(unchecked, n)) {
            break;
        }

        if (n != pos / cache->slice && ngx_oci_index_kept(cache, entry, n)) {
            break;
        }
    }

    ngx_oci_index_unlock(cache);

    return ngx_min((uint64_t) n * cache->slice, entry->size);
}


ngx_int_t
ngx_oci_index_stored(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos, uint64_t end)
{
    size_t     n, last;
    u_char    *unchecked;
    ngx_int_t  rc;

    rc = NGX_OK;

    ngx_oci_index_lock(cache);

    if (entry->have == entry->slices || pos >= end) {
        goto done;
    }

    unchecked = entry->map + ngx_oci_index_half(entry);
    last = (end - 1) / cache->slice;

    for (n = pos / cache->slice; n <= last; n++) {

        if (n % 8 == 0 && n + 7 <= last && entry->map[n / 8] == 0xff) {
            n += 7;
            continue;
        }

        if (ngx_oci_bit_get(entry->map, n)) {
            continue;
        }

        if (!ngx_oci_bit_get(unchecked, n)) {
            rc = NGX_DECLINED;
            break;
        }

        rc = NGX_AGAIN;
    }

done:

    ngx_oci_index_unlock(cache);

    return rc;
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

    ngx_oci_index_add(cache, entry, added);

    waiters = 0;

    if (added) {
        waiters = entry->waiters;
        entry->waiters = 0;
    }

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


/* where the bytes of slice n end, if it is there in part; or NULL */

static uint64_t *
ngx_oci_index_kept(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry, size_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_OCI_INDEX_KEPT; i++) {
        if (entry->kept[i] && entry->kept[i] / cache->slice == n) {
            return &entry->kept[i];
        }
    }

    return NULL;
}


static ngx_int_t
ngx_oci_index_keep(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_oci_index_run_t *run)
{
    size_t      n, part;
    uint64_t    mark, *kept;
    ngx_uint_t  i;

    mark = run->mark;
    part = mark % cache->slice;
    n = mark / cache->slice;

    ngx_memzero(run, sizeof(ngx_oci_index_run_t));

    if (part == 0 || mark == entry->size || ngx_oci_bit_get(entry->map, n)) {
        return NGX_OK;
    }

    kept = ngx_oci_index_kept(cache, entry, n);

    for (i = 0; kept == NULL && i < NGX_OCI_INDEX_KEPT; i++) {
        if (entry->kept[i] == 0) {
            kept = &entry->kept[i];
        }
    }

    if (kept) {
        *kept = mark;
        return NGX_OK;
    }

    entry->retracted++;
    entry->bytes -= part;
    cache->index->bytes -= part;

    return NGX_DECLINED;
}


ngx_int_t
ngx_oci_index_run_end(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_uint_t i)
{
    ngx_int_t  rc;

    ngx_oci_index_lock(cache);
    rc = ngx_oci_index_keep(cache, entry, &entry->runs[i]);
    ngx_oci_index_unlock(cache);

    return rc;
}


void
ngx_oci_index_runs_end(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_OCI_INDEX_RUNS; i++) {
        (void) ngx_oci_index_keep(cache, entry, &entry->runs[i]);
    }
}


void
ngx_oci_index_slice(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    size_t n, ngx_uint_t present)
{
    u_char    *unchecked;
    uint64_t   waiters, *kept;

    ngx_oci_index_lock(cache);

    unchecked = entry->map + ngx_oci_index_half(entry);

    kept = ngx_oci_index_kept(cache, entry, n);

    if (kept) {
        *kept = 0;
    }

    if (present) {
        if (!ngx_oci_bit_get(entry->map, n)) {
            ngx_oci_bit_set(entry->map, n);
            entry->have++;
        }

        waiters = entry->waiters;
        entry->waiters = 0;

    } else {
        waiters = ngx_oci_index_lose(cache, entry, n);
    }

    ngx_oci_bit_clear(unchecked, n);

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


uint64_t
ngx_oci_index_lose(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry, size_t n)
{
    uint64_t  waiters, size;

    waiters = 0;

    if (ngx_oci_bit_get(entry->map, n)) {
        ngx_oci_bit_clear(entry->map, n);
        entry->have--;
    }

    size = ngx_min(entry->size - (uint64_t) n * cache->slice, cache->slice);
    size = ngx_min(size, entry->bytes);
    entry->bytes -= size;
    cache->index->bytes -= size;
    entry->verified = 0;

    /* from here on only the registry that it comes from is asked */

    if (entry->source && entry->source->registry != entry->origin) {
        ngx_oci_index_source_free(cache, entry);

        waiters = entry->waiters;
        entry->waiters = 0;
    }

    return waiters;
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
        entry->settled = 0;
        cache->index->fills++;
        rc = NGX_OK;

    } else {
        rc = NGX_BUSY;
    }

    ngx_oci_index_unlock(cache);

    return rc;
}


void
ngx_oci_index_disown(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_uint_t failed, ngx_uint_t disk)
{
    uint64_t  waiters;

    ngx_oci_index_lock(cache);

    if (entry->owner != -1) {
        entry->owner = -1;
        cache->index->fills--;
    }

    ngx_oci_index_runs_end(cache, entry);

    if (failed) {
        entry->failed++;
        entry->disk = disk ? 1 : 0;
    }

    ngx_oci_index_unneed(cache, entry);

    waiters = entry->waiters;
    entry->waiters = 0;

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


/* locked: another worker may just be telling */

ngx_uint_t
ngx_oci_index_disk(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    ngx_uint_t  disk;

    ngx_oci_index_lock(cache);
    disk = entry->disk;
    ngx_oci_index_unlock(cache);

    return disk;
}


void
ngx_oci_index_ring(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    uint64_t  waiters;

    ngx_oci_index_lock(cache);
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

    return ngx_oci_doorbell_deaf(cache, owner) ? NGX_BUSY : NGX_OK;
}


void
ngx_oci_index_set_verified(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    uint64_t  waiters;

    ngx_oci_index_lock(cache);

    entry->verified = 1;

    /* all of it is there */

    ngx_oci_index_source_free(cache, entry);
    ngx_oci_index_unreserve(cache, entry);

    entry->mismatches = 0;
    entry->backoff = 0;

    waiters = entry->waiters;
    entry->waiters = 0;

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


void
ngx_oci_index_clear(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    ngx_oci_index_spare(cache, entry);

    entry->generation++;
    entry->verified = 0;
    entry->proven.n = 0;
    entry->loaded = 0;
    entry->pinned = 0;
    entry->have = 0;
    ngx_memzero(entry->map, 2 * ngx_oci_index_half(entry));
    ngx_memzero(entry->runs, sizeof(entry->runs));
    ngx_memzero(entry->kept, sizeof(entry->kept));

    cache->index->bytes -= entry->bytes;
    entry->bytes = 0;

    ngx_oci_index_unreserve(cache, entry);
}


void
ngx_oci_index_reset(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    time_t backoff)
{
    uint64_t  waiters;

    ngx_oci_index_lock(cache);

    ngx_oci_index_clear(cache, entry);
    ngx_oci_index_source_free(cache, entry);

    if (backoff) {
        entry->mismatches++;
        entry->backoff_origin = entry->origin;

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


ngx_uint_t
ngx_oci_index_complete(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    ngx_int_t   slot;
    ngx_uint_t  complete;

    slot = ngx_oci_doorbell_slot(cache);

    ngx_oci_index_lock(cache);

    complete = (entry->have == entry->slices);

    if (!complete && slot >= 0) {
        entry->waiters |= (uint64_t) 1 << slot;
    }

    ngx_oci_index_unlock(cache);

    return complete;
}
