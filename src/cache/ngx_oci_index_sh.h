
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the files of the index share: ngx_oci_index.c has the entries,
 * ngx_oci_index_fill.c what readers want and what a fill does,
 * ngx_oci_index_source.c from where and with whose rights it fetches,
 * ngx_oci_index_lru.c what goes to make room, ngx_oci_index_room.c how much
 * room there is.
 */


#ifndef _NGX_OCI_INDEX_SH_H_INCLUDED_
#define _NGX_OCI_INDEX_SH_H_INCLUDED_


#include "ngx_oci_index.h"
#include "ngx_oci_room.h"


#define ngx_oci_index_entry(n)                                                \
    ((ngx_oci_entry_t *) ((u_char *) (n) - offsetof(ngx_oci_entry_t, node)))

#define ngx_oci_index_half(e)     (((e)->slices + 7) / 8)

#define ngx_oci_index_idle(e)                                                 \
    ((e)->users == 0 && ngx_queue_empty(&(e)->wants))

#define ngx_oci_index_pinned(e)                                               \
    ((e)->pinned > ngx_time())

/* nobody wants anything, and nobody fetches */

#define ngx_oci_index_unneeded(e)                                             \
    ((e)->owner == -1 && ngx_queue_empty(&(e)->wants))

#define ngx_oci_bit_get(map, n)   ((map)[(n) >> 3] & (1 << ((n) & 7)))
#define ngx_oci_bit_set(map, n)   (map)[(n) >> 3] |= (u_char) (1 << ((n) & 7))
#define ngx_oci_bit_clear(map, n)                                             \
    (map)[(n) >> 3] &= (u_char) ~(1 << ((n) & 7))


/* the zone's mutex: nothing slow, and only *_locked allocations, under it */
void ngx_oci_index_lock(ngx_oci_cache_t *cache);
void ngx_oci_index_unlock(ngx_oci_cache_t *cache);

/* all of these under the mutex */

ngx_oci_entry_t *ngx_oci_index_find(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest);
/* an entry without files; for it, forgets up to so many others.  NULL: no
   memory */
ngx_oci_entry_t *ngx_oci_index_new(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, uint64_t size, ngx_uint_t forget);
void ngx_oci_index_delete(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);
/* it was used now */
void ngx_oci_index_touch(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);
/* of what is forgotten, bytes have an entry again, or are gone */
void ngx_oci_index_recall(ngx_oci_cache_t *cache, uint64_t bytes);

/* the runs of an owner that is gone, under the mutex */
void ngx_oci_index_runs_end(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);

/* under the mutex: nothing is stored of it any more */
void ngx_oci_index_clear(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);

/* under the mutex: is somebody about to unlink the files?  The mark of a dead
   process is taken off */
ngx_uint_t ngx_oci_index_marked(ngx_oci_entry_t *entry);

/* under the mutex: it is not doomed any more */
void ngx_oci_index_spare(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);

/* under the mutex: wipes the source, it has a caller's credentials */
void ngx_oci_index_source_free(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);

/* under the mutex: slice n, which was readable or to be checked, is missing;
   returns the slots to be rung */
uint64_t ngx_oci_index_lose(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    size_t n);
/* under the mutex: if nobody needs it, wipes the source and gives back what
   is reserved */
void ngx_oci_index_unneed(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);
void ngx_oci_index_unreserve(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);
/* under the mutex: no more stays reserved than is lacking */
void ngx_oci_index_trim(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);
/* under the mutex: so many bytes more are stored, of those reserved */
void ngx_oci_index_add(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t bytes);
/* under the mutex: what lacks of so many more bytes; 0: nothing */
void ngx_oci_index_shortage(ngx_oci_cache_t *cache, uint64_t need,
    ngx_oci_shortage_t *shortage);
/* bytes of an entry's files beside those of the blob, about */
uint64_t ngx_oci_index_extra(ngx_oci_entry_t *entry);

#define NGX_OCI_INDEX_BLOCK       4096  /* bytes, of a file system, about */

/* under the mutex: a want goes, with its reader's credentials; the slots to
   ring */
uint64_t ngx_oci_index_source_leave(ngx_oci_entry_t *entry,
    ngx_oci_want_t *want);

/* zeroed memory, under the mutex; for it, forgets up to so many entries that
   nobody uses */
void *ngx_oci_index_alloc(ngx_oci_cache_t *cache, size_t size,
    ngx_uint_t forget);

#define NGX_OCI_INDEX_FORGET      32


/* ngx_oci_push_index.c; the latter under the mutex */
ngx_int_t ngx_oci_push_init(ngx_oci_cache_t *cache);
void ngx_oci_push_sweep(ngx_oci_cache_t *cache, ngx_int_t slot);


#endif /* _NGX_OCI_INDEX_SH_H_INCLUDED_ */
