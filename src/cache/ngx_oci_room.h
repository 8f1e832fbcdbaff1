
/*
 * Copyright (C) The nginx-oci authors
 *
 * Room on the disk is reserved before a fill begins: ngx_oci_index_room.c
 * counts it in shared memory, ngx_oci_room.c makes it.
 */


#ifndef _NGX_OCI_ROOM_H_INCLUDED_
#define _NGX_OCI_ROOM_H_INCLUDED_


#include "ngx_oci_reader.h"


/* what is missing for a reservation */

typedef struct {
    uint64_t                  bytes;
    ngx_uint_t                disk;     /* of the file system's free space;
                                           else of max_size */
} ngx_oci_shortage_t;


/* ngx_oci_index_room.c */

/*
 * Reserves what is not stored of the slices of [pos, end), beside what is
 * reserved for the entry already, but never more than it lacks.  It becomes
 * what is stored as bytes are published, and is given back when nobody needs
 * or fetches the entry.  NGX_OK; NGX_DECLINED: there is no room, *shortage
 * tells how much is missing.
 */
ngx_int_t ngx_oci_index_reserve(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint64_t pos, uint64_t end,
    ngx_oci_shortage_t *shortage);
/* the same until so many bytes are, of runs that are about to write them */
ngx_int_t ngx_oci_index_cover(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t bytes);
/* gives it back if nobody needs it */
void ngx_oci_index_settle(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);

/* can the shortage be ended by removing what nobody uses?  NGX_OK: it seems
   so; NGX_DECLINED */
ngx_int_t ngx_oci_index_evictable(ngx_oci_cache_t *cache,
    ngx_oci_shortage_t *shortage);
/* its turn comes again after all others */
void ngx_oci_index_skip(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest);

/* the file system has so many free bytes; written: what
   ngx_oci_index_written() said before it was asked */
void ngx_oci_index_look(ngx_oci_cache_t *cache, off_t free,
    uint64_t written);
/* so many more bytes were written; all since the zone was made */
uint64_t ngx_oci_index_written(ngx_oci_cache_t *cache, uint64_t bytes);
/* the free bytes, as far as is known: as last seen, less what was written
   since; *age: of that look, ms.  -1: nobody has looked yet */
off_t ngx_oci_index_free(ngx_oci_cache_t *cache, ngx_msec_t *age);

/* files of refs/ and manifests/ come to take so much more.  NGX_DECLINED: that
   is too much; NGX_OK, also where it is less */
ngx_int_t ngx_oci_index_small(ngx_oci_cache_t *cache, int64_t bytes);
/* they were counted, in bytes; before: what ngx_oci_index_added() said at the
   beginning */
void ngx_oci_index_recount(ngx_oci_cache_t *cache, uint64_t counted,
    uint64_t before);
/* all that came since the zone was made */
uint64_t ngx_oci_index_added(ngx_oci_cache_t *cache);
/* what they take, about */
uint64_t ngx_oci_index_smalls(ngx_oci_cache_t *cache);

/* there is little room: for a while nothing is kept open for nobody.  1: that
   is news to workers */
ngx_uint_t ngx_oci_index_set_tight(ngx_oci_cache_t *cache);
ngx_uint_t ngx_oci_index_tight(ngx_oci_cache_t *cache);
/* none was found for so much: who needs as much of a new blob is refused at
   once until something is released, for a moment at most */
void ngx_oci_index_refuse(ngx_oci_cache_t *cache, uint64_t size);
/* is nothing stored of it, and does nobody use it? */
ngx_uint_t ngx_oci_index_empty(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest);


/* ngx_oci_room.c */

/*
 * Room for what a reader misses of [pos, end).  NGX_OK: reserved; NGX_AGAIN:
 * others are removed first, then ngx_oci_send_start() follows; NGX_DECLINED:
 * there is none, the reader's blob is gone.
 */
ngx_int_t ngx_oci_room(ngx_oci_reader_t *rd, uint64_t pos, uint64_t end);

/*
 * In a thread: writes n bytes of a blob, if at least min_free is left then,
 * for which what nobody uses is removed.  NGX_OK; NGX_DECLINED: there would be
 * less; NGX_ERROR with errno.
 */
ngx_int_t ngx_oci_room_write(ngx_oci_cache_t *cache, int fd, u_char *p,
    size_t n, off_t offset);

/* asks the file system, in a thread or in the manager; the free bytes, or -1:
   not known */
off_t ngx_oci_room_look(ngx_oci_cache_t *cache);


#endif /* _NGX_OCI_ROOM_H_INCLUDED_ */
