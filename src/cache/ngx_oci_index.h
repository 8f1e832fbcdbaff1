
/*
 * Copyright (C) The nginx-oci authors
 *
 * The shared-memory index of a cache: an entry a blob, which slices of it
 * are there, how far running exchanges have come, who waits for what.  The
 * zone's mutex is taken for it in ngx_oci_index*.c only.
 */


#ifndef _NGX_OCI_INDEX_H_INCLUDED_
#define _NGX_OCI_INDEX_H_INCLUDED_


#include "ngx_oci_cache.h"
#include "ngx_oci_store.h"


#define NGX_OCI_INDEX_RUNS    16      /* exchanges of one blob at a time */
#define NGX_OCI_INDEX_DOUBTS  4       /* registries that did not show a blob */
#define NGX_OCI_INDEX_KEPT    8       /* slices that are there in part */
#define NGX_OCI_INDEX_INLINE  64      /* bytes of an entry's own map */
#define NGX_OCI_SLOTS         64      /* workers, old and new together */


#define NGX_OCI_SOURCE_MAX    (1024 + NGX_OCI_AUTHORIZATION_MAX)


typedef struct ngx_oci_want_s  ngx_oci_want_t;
typedef struct ngx_oci_push_sh_s  ngx_oci_push_sh_t;


typedef struct {
    uint64_t                  start;
    uint64_t                  mark;     /* bytes [start, mark) are written;
                                           equal: the run is not active */
} ngx_oci_index_run_t;


/* a registry that did not show that it has a verified blob */

typedef struct {
    uint32_t                  origin;
    uint32_t                  n;            /* failures in a row; 0: free */
    time_t                    until;        /* it is not asked again before */
} ngx_oci_doubt_t;


/* from where and with whose rights a blob may be fetched */

typedef struct ngx_oci_source_s  ngx_oci_source_t;

struct ngx_oci_source_s {
    ngx_oci_source_t         *next;         /* the one before, until bytes came
                                               with this one; or NULL */
    uint32_t                  id;           /* of those of a zone; not 0 */
    uint32_t                  registry;     /* crc32 of the name */
    u_char                    place[16];    /* its health_key: where that is, as
                                               the lender's worker knows it */
    uint16_t                  repository_len;
    uint16_t                  authorization_len;
    uint32_t                  good;         /* bytes came with it */
    uint32_t                  lenders;      /* wants whose readers have these
                                               credentials, and not gone */
    uint32_t                  borrowed;     /* it is with them that a fill
                                               fetches */
    time_t                    since;        /* when it was offered */
    u_char                    data[1];      /* both, one after the other */
};


/* in shared memory; freed by eviction when no slot uses it */

typedef struct {
    ngx_rbtree_node_t         node;
    ngx_queue_t               queue;        /* LRU */
    ngx_oci_digest_t          digest;
    uint64_t                  size;         /* bytes */
    uint64_t                  bytes;        /* on disk */
    uint64_t                  reserved;     /* bytes that may come to them */
    uint32_t                  slices;
    uint32_t                  have;         /* slices that are readable */
    uint32_t                  generation;   /* raised when the files went */
    uint32_t                  origin;       /* the registry that unverified
                                               bytes come from */
    uint32_t                  backoff_origin;
    ngx_oci_proven_t          proven;       /* other registries that have it,
                                               once it is verified */
    uint32_t                  mismatches;   /* in a row */
    time_t                    backoff;      /* no fill before this time */
    time_t                    accessed;
    time_t                    pinned;       /* all else goes before it until
                                               then */
    uint64_t                  users;        /* mask of slots */
    uint64_t                  waiters;      /* mask of slots */
    int32_t                   owner;        /* slot, -1: nobody */
    int32_t                   evictor;      /* pid, with evicting */
    uint32_t                  failed;       /* raised when a fill gave up */
    uint32_t                  retracted;    /* raised when the bytes of a slice
                                               that was there in part, which
                                               readers may have had, were
                                               forgotten */
    uint32_t                  lost;         /* likewise, of a whole slice */
    uint64_t                  uniq[3];      /* inodes of data and sidecar that
                                               map is about, and their nonce */
    uint64_t                  writer;       /* what the last fill of this zone
                                               left in the sidecar */
    ngx_oci_doubt_t           doubts[NGX_OCI_INDEX_DOUBTS];
    unsigned                  verified:1;
    unsigned                  disk:1;       /* it was the disk's fault that the
                                               last one did, or want of a
                                               place */
    unsigned                  ask:1;        /* readers offer sources, though
                                               there is one */
    unsigned                  loaded:1;     /* map tells what the disk has */
    unsigned                  settled:1;    /* its owner has seen what the disk
                                               has: nobody else writes */
    unsigned                  evicting:1;   /* somebody is about to unlink the
                                               files */
    unsigned                  doomed:1;     /* they will be when nobody fills
                                               them: nobody else gets it */
    unsigned                  orphan:1;     /* they were: no digest leads here
                                               any more, its users are the last
                                               ones */
    ngx_oci_index_run_t       runs[NGX_OCI_INDEX_RUNS];
    uint64_t                  kept[NGX_OCI_INDEX_KEPT];
                                            /* marks of runs that ended in the
                                               middle of a slice: whoever goes
                                               on begins there; 0: none.  Not
                                               readable before, others may be
                                               fetching the slice anew */
    ngx_queue_t               wants;
    ngx_oci_source_t         *source;
    u_char                   *map;          /* bits "readable", then bits
                                               "to be checked" */
    u_char                    inline_map[NGX_OCI_INDEX_INLINE];
} ngx_oci_entry_t;


/* what a reader waits for; in shared memory, freed by its reader or, when
   its worker died, with the slot */

struct ngx_oci_want_s {
    ngx_queue_t               queue;
    ngx_oci_entry_t          *entry;
    uint64_t                  pos;
    uint64_t                  end;
    int32_t                   slot;
    uint32_t                  all;          /* however far ahead */
    uint32_t                  lent;         /* id of its reader's source; 0:
                                               none */
    uint32_t                  refused;      /* by the registry, that was */
};


struct ngx_oci_index_sh_s {
    uint32_t                  layout;       /* sizes of the structs here */
    uint32_t                  mutating;     /* pid inside the mutex */
    uint32_t                  broken;       /* its owner died there: nothing
                                               is looked at any more */
    uint32_t                  tight;        /* when there was little room, s */
    ngx_rbtree_t              rbtree;
    ngx_rbtree_node_t         sentinel;
    ngx_queue_t               queue;        /* LRU, most recent first */
    uint64_t                  bytes;        /* on disk, all entries */
    uint64_t                  reserved;     /* that may come, all entries */
    uint64_t                  extra;        /* sidecars, and the like */
    uint64_t                  small;        /* of refs/ and manifests/ */
    uint64_t                  added;        /* to it, since the zone was made */
    uint64_t                  forgotten;    /* bytes on disk of entries that
                                               went for want of memory; about,
                                               the manager finds out */
    uint32_t                  forgets;      /* raised when files were left
                                               without an entry */
    uint32_t                  recalls;      /* raised when such files got one
                                               again */
    uint32_t                  counted;      /* all files were looked through
                                               once */
    uint32_t                  sources;      /* the last id */
    uint64_t                  count;
    uint64_t                  fills;        /* entries with an owner */
    uint64_t                  doomed;       /* entries that are */
    time_t                    bypass;       /* no new fills before: the disk
                                               failed */
    uint64_t                  dir;          /* what is in the directory's
                                               place, see ngx_oci_dir.c */
    ngx_msec_t                dir_checked;
    uint32_t                  scrub_place;  /* the directory that is looked
                                               through, see ngx_oci_scrub.c */
    uint32_t                  scrub_left;   /* of this round */
    time_t                    scrub_begun;
    int64_t                   free;         /* bytes on the file system when
                                               somebody last looked; -1 */
    uint64_t                  written;      /* bytes, since the beginning */
    uint64_t                  looked;       /* of them, before that look, */
    uint32_t                  looked_at;    /* which was then, ms */
    uint32_t                  refused;      /* when there was no room, s, since
                                               when nothing was released; 0 */
    uint64_t                  refused_size;     /* for this */
    ngx_oci_push_sh_t        *pushes;       /* copies of pushes, */
    ngx_uint_t                pushes_n;     /* so many at most */
    uint64_t                  pushed;       /* bytes that they may take, */
    uint64_t                  pushed_done;  /* and written of them */
};


typedef struct {
    uint64_t                  pos;          /* a slice's first byte */
    uint64_t                  mark;         /* the first that is missing */
    uint64_t                  end;
} ngx_oci_span_t;


/* is it worth while to open this blob, for so many bytes?  NGX_OK; NGX_BUSY:
   the disk failed, and not all is stored; NGX_DECLINED: there was no room for
   as much just now */
ngx_int_t ngx_oci_index_admit(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, uint64_t bytes);
/* bytes on disk that max_size bounds */
uint64_t ngx_oci_index_used(ngx_oci_cache_t *cache);
/*
 * The size that is known of a blob, in bytes: of a verified one, or of one
 * that is this registry's own word; -1: none.  *verified: the digest says so.
 */
off_t ngx_oci_index_size(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    uint32_t origin, ngx_uint_t *verified);

/* can a blob of this size be cached at all?  A registry may say anything */
ngx_uint_t ngx_oci_index_fits(ngx_oci_cache_t *cache, uint64_t size);
/* writing failed, or reading back: new fills are refused for a while (s).  1:
   they were not */
ngx_uint_t ngx_oci_index_bypass(ngx_oci_cache_t *cache, time_t time);

/* another directory is in the place of the one that the entries are about:
   forgets those that nobody uses */
void ngx_oci_index_moved(ngx_oci_cache_t *cache);

/* did a process die in the middle of a change, so that nothing here can be
   relied on?  Logged now and then */
ngx_uint_t ngx_oci_index_broken(ngx_oci_cache_t *cache);

/* of all together: bytes on disk (also of what has no entry), those that are
   reserved, entries, and those that are being filled */
void ngx_oci_index_totals(ngx_oci_cache_t *cache,
    ngx_oci_zone_info_t *info);

ngx_int_t ngx_oci_index_init(ngx_oci_cache_t *cache, ngx_uint_t existing);

/*
 * Finds the entry of a digest, or makes one of the opened files (st not
 * NULL), and marks it as used by this worker's slot until
 * ngx_oci_index_release().  An entry which is not loaded, or which nobody
 * used, takes its map from st.  NULL: there is none, no memory even after
 * forgetting others, this worker has no slot, or st is not what the entry's
 * users have open: unlinked files, or newer ones.
 */
ngx_oci_entry_t *ngx_oci_index_acquire(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, ngx_oci_store_t *st);
void ngx_oci_index_release(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);

/*
 * What the sidecar says, for the owner who has its lock: another zone's
 * workers may have had it before.  found: who wrote last; unless it was this
 * zone's last fill, what was not recorded is not what it was.  writer: who
 * does now.
 */
void ngx_oci_index_adopt(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_oci_store_header_t *h, ngx_oci_store_record_t *records,
    uint64_t found, uint64_t writer);

/* NGX_OK if the map is known and the size is this one */
ngx_uint_t ngx_oci_index_usable(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);

/*
 * The end of the readable bytes from pos on, at most end; pos itself if
 * there are none.  With wait set and nothing readable, the worker's slot is
 * marked as waiting in the same critical section.
 */
uint64_t ngx_oci_index_readable(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint64_t pos, uint64_t end, ngx_uint_t wait);

/* NGX_OK: all slices of [pos, end) are there; NGX_AGAIN: some have to be
   checked first, none is missing; NGX_DECLINED: some are */
ngx_int_t ngx_oci_index_stored(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint64_t pos, uint64_t end);

/*
 * 1 if bytes are readable at pos while the slot's mark of waiting still
 * stands: whoever wrote them did not see the mark, a wake-up was lost.
 */
ngx_uint_t ngx_oci_index_lost(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint64_t pos);

/* are all slices readable?  If not, the slot is marked as waiting */
ngx_uint_t ngx_oci_index_complete(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);

/* verified?  With wait set and it is not, the slot is marked as waiting */
ngx_uint_t ngx_oci_index_verified(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, ngx_uint_t wait);

/* wants; all: however far ahead of pos.  NULL where memory is short */
ngx_oci_want_t *ngx_oci_index_want(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint64_t pos, uint64_t end, ngx_uint_t all);
void ngx_oci_index_want_move(ngx_oci_cache_t *cache, ngx_oci_want_t *want,
    uint64_t pos);
void ngx_oci_index_unwant(ngx_oci_cache_t *cache, ngx_oci_want_t *want);

/* what stands for a registry in shared memory and in files */
#define ngx_oci_index_origin(registry)                                        \
    ngx_crc32_long((registry)->name.data, (registry)->name.len)

/*
 * May readers of this registry have the blob's bytes?  NGX_OK: they come from
 * there, or they are verified and it has shown that it has them; an entry
 * without bytes, owner and readers changes hands.  NGX_AGAIN: it has not
 * shown that yet.  NGX_DECLINED: they are another registry's, not verified.
 */
ngx_int_t ngx_oci_index_claim(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint32_t origin);
/* it has.  NGX_OK; NGX_DECLINED: the bytes are no longer those of this
   generation, or no longer verified */
ngx_int_t ngx_oci_index_prove(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, uint32_t generation, uint32_t origin);
/* this registry failed: after some times it is not asked for a while */
void ngx_oci_index_doubt(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint32_t origin);
/* it sent all of a blob, and the digest was right */
void ngx_oci_index_showed(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    uint32_t origin);

/*
 * Offers a source (its reader's credentials, which go when he goes and another
 * one has some), of a want if that is there already (else NULL).  NGX_OK:
 * it is what is fetched with; NGX_DECLINED: another
 * one is, with which bytes have come lately, or it can't be had, which is
 * harmless.  Another registry's is refused until the blob is verified.  It is
 * wiped when the blob is, and when nobody wants or fetches anything: then a
 * want comes first.
 */
ngx_int_t ngx_oci_index_source(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_oci_registry_t *registry, ngx_str_t *repository,
    ngx_str_t *authorization, ngx_oci_want_t *want);
/* the registry asks whoever it is to wait, if it is still this one: another's
   may go before */
void ngx_oci_index_source_limited(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, ngx_str_t *repository, ngx_str_t *authorization);
/* bytes came with it, if it is still this one */
void ngx_oci_index_source_good(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, ngx_str_t *repository, ngx_str_t *authorization);
/* forgets it if it is still this one: the registry refused it.  The one before
   it has its place again, if there is one */
void ngx_oci_index_source_drop(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, ngx_str_t *repository, ngx_str_t *authorization);
/* copies it into buf of NGX_OCI_SOURCE_MAX bytes; NGX_DECLINED: none */
ngx_int_t ngx_oci_index_source_get(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, u_char *buf, u_char *place,
    ngx_str_t *repository, ngx_str_t *authorization);

/*
 * What the owner of a fill does.  span: the first missing slices that some
 * want asks for within ahead bytes of its place, at most max bytes, none of
 * them covered by busy[n].  near: only slices that begin where a want waits,
 * or those to check.  *check is set if the span is one slice that is
 * on disk but has to be checked.  NGX_OK or NGX_DECLINED (nothing to do).
 */
ngx_int_t ngx_oci_index_plan(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t ahead, uint64_t max, ngx_uint_t near, ngx_uint_t all,
    ngx_oci_span_t *busy, ngx_uint_t n, ngx_oci_span_t *span,
    ngx_uint_t *check);

/* the end of the missing bytes that begin at pos */
uint64_t ngx_oci_index_gap(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    uint64_t pos);

ngx_uint_t ngx_oci_index_wanted(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);

/* run i now covers [start, mark); the waiting slots are rung */
void ngx_oci_index_publish(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_uint_t i, uint64_t start, uint64_t mark, uint64_t added);
/* run i is over.  NGX_OK: what it wrote stays readable; NGX_DECLINED: there
   was no place to note a slice that is there in part, it was forgotten */
ngx_int_t ngx_oci_index_run_end(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, ngx_uint_t i);
/* slice n is readable, or is not (any more) */
void ngx_oci_index_slice(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    size_t n, ngx_uint_t present);
/* slice n of these files is not what it was: it is missing, and the blob is
   not verified; the sidecar says so already, its lock is held */
void ngx_oci_index_rotten(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_oci_store_t *st, size_t n);
ngx_uint_t ngx_oci_index_has(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    size_t n);

/* takes the place of owner for this slot; NGX_OK or NGX_BUSY */
ngx_int_t ngx_oci_index_own(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);
/* gives it back; failed: the fill gave up; disk: because of the disk, or of
   something else that readers don't need */
void ngx_oci_index_disown(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_uint_t failed, ngx_uint_t disk);
/* was it the disk that the last fill gave up for, or something else that its
   readers don't need? */
ngx_uint_t ngx_oci_index_disk(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);
/* rings whoever waits */
void ngx_oci_index_ring(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry);
/* rings the owner; NGX_DECLINED: there is none; NGX_BUSY: it has not heard the
   last ring for so long that it seems to be stopped */
ngx_int_t ngx_oci_index_ring_owner(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);

void ngx_oci_index_set_verified(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry);
/* the files are gone: forget what they held */
void ngx_oci_index_reset(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    time_t backoff);

/* frees what a dead or exiting worker's slot held */
void ngx_oci_index_sweep(ngx_oci_cache_t *cache, ngx_int_t slot);

/* the least recently used entry that nobody uses and nobody removes now; all:
   if there is no other, one that is pinned.  NGX_DECLINED: none.  NGX_BUSY:
   likewise, but there is one that is pinned */
ngx_int_t ngx_oci_index_oldest(ngx_oci_cache_t *cache, ngx_uint_t all,
    ngx_oci_digest_t *digest, uint64_t *bytes, time_t *accessed);
/* its sidecar says so, or is about to */
void ngx_oci_index_pin(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    time_t until);
/* NGX_OK, or NGX_DECLINED: there is no entry */
ngx_int_t ngx_oci_index_blob_info(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, ngx_oci_blob_info_t *info);

/*
 * What whoever unlinks a blob's files for good calls before, with the
 * sidecar's lock: an unused entry can't be acquired from here on.  NGX_OK;
 * NGX_DECLINED: there is none; NGX_BUSY: it is used.  After unlinking, the
 * entry is freed; not gone: it may be used again, as the most recent one,
 * unless another process is about to unlink them.
 */
ngx_int_t ngx_oci_index_evict(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest);
void ngx_oci_index_evicted(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_uint_t gone);
/* the same after unlinking to make the files anew: the entry and what it
   remembers of mismatches stays */
void ngx_oci_index_emptied(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest);

/*
 * For a purge, with the sidecar's lock.  NGX_OK: as ngx_oci_index_evict() had
 * marked it, but it may be used, by those who need no more than is there;
 * NGX_DECLINED: there is no entry; NGX_BUSY: somebody needs a fill: the entry
 * is doomed.  ngx_oci_index_evicted() follows on NGX_OK: an entry that is
 * used goes with its last user, who reads on from unlinked files.
 */
ngx_int_t ngx_oci_index_purge(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest);
/* without the lock: whoever fills it has that.  NGX_OK or NGX_DECLINED */
ngx_int_t ngx_oci_index_doom(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest);
ngx_uint_t ngx_oci_index_is_doomed(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest);
/* the n-th of the doomed entries; NGX_OK or NGX_DECLINED */
ngx_int_t ngx_oci_index_doomed(ngx_oci_cache_t *cache, ngx_uint_t n,
    ngx_oci_digest_t *digest);

/*
 * Makes an entry that is not loaded, for the loader.  found: for the manager,
 * which found files without one: no other entry is forgotten for it.  NGX_OK;
 * NGX_DECLINED: no room.
 */
ngx_int_t ngx_oci_index_note(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, uint64_t size, uint64_t bytes, time_t accessed,
    time_t pinned, ngx_uint_t verified, ngx_uint_t found);
ngx_uint_t ngx_oci_index_known(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest);

/* a file may have been left without an entry: the manager looks for it */
void ngx_oci_index_stray(ngx_oci_cache_t *cache);
/* bytes of files without an entry are gone */
void ngx_oci_index_found(ngx_oci_cache_t *cache, uint64_t bytes);
/* all files were looked at: so many bytes have no entry, unless something was
   forgotten meanwhile */
void ngx_oci_index_counted(ngx_oci_cache_t *cache, uint32_t forgets,
    uint32_t recalls, uint64_t bytes);


/*
 * ngx_oci_manager.c: unlinks the files of a blob that nobody uses; in a
 * thread or in the manager.  create: there is no sidecar, one is made.
 * NGX_OK; NGX_BUSY: it is used; NGX_DECLINED: they had gone; NGX_ERROR.
 */
ngx_int_t ngx_oci_manager_drop(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, ngx_uint_t create);


/* ngx_oci_doorbell.c */

struct ngx_oci_doorbell_sh_s {
    int32_t                   fds[NGX_OCI_SLOTS];
    int32_t                   pids[NGX_OCI_SLOTS];  /* 0: free */
    uint64_t                  rung[NGX_OCI_SLOTS];  /* us, 0: not rung */
    uint32_t                  ready;
};

ngx_int_t ngx_oci_doorbell_init(ngx_oci_cache_t *cache, ngx_uint_t existing);
ngx_int_t ngx_oci_doorbell_open(ngx_oci_cache_t *cache, ngx_log_t *log);
ngx_int_t ngx_oci_doorbell_claim(ngx_oci_cache_t *cache, ngx_cycle_t *cycle,
    void (*handler)(ngx_oci_cache_t *cache));
void ngx_oci_doorbell_free(ngx_oci_cache_t *cache);
void ngx_oci_doorbell_ring(ngx_oci_cache_t *cache, uint64_t slots);
/* all workers; in any thread */
void ngx_oci_doorbell_ring_all(ngx_oci_cache_t *cache);
/* has a slot been rung that has not heard it yet? */
ngx_uint_t ngx_oci_doorbell_pending(ngx_oci_cache_t *cache, ngx_int_t slot);
/* for so long that its worker is stopped, or dead and not replaced? */
ngx_uint_t ngx_oci_doorbell_deaf(ngx_oci_cache_t *cache, ngx_int_t slot);
/* frees what the slots of dead workers held */
void ngx_oci_doorbell_reap(ngx_oci_cache_t *cache);
/* this worker's slot; -1: none, it polls */
ngx_int_t ngx_oci_doorbell_slot(ngx_oci_cache_t *cache);


#endif /* _NGX_OCI_INDEX_H_INCLUDED_ */
