
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the files of the cache module share: the zone's configuration and
 * the functions that one file offers the others.
 */


#ifndef _NGX_OCI_CACHE_H_INCLUDED_
#define _NGX_OCI_CACHE_H_INCLUDED_


#include "ngx_oci.h"
#include <ngx_thread_pool.h>


#define NGX_OCI_CACHE_SLICE_DEFAULT  (8 * 1024 * 1024)

#define NGX_OCI_VERIFY_MODE_OFF      0
#define NGX_OCI_VERIFY_MODE_ON       1
#define NGX_OCI_VERIFY_MODE_STRICT   2

#define NGX_OCI_STALE_OFF            0x0002
#define NGX_OCI_STALE_ERROR          0x0004
#define NGX_OCI_STALE_TIMEOUT        0x0008
#define NGX_OCI_STALE_HTTP_5XX       0x0010
#define NGX_OCI_STALE_HTTP_429       0x0020


typedef struct ngx_oci_index_sh_s  ngx_oci_index_sh_t;
typedef struct ngx_oci_refs_sh_s   ngx_oci_refs_sh_t;
typedef struct ngx_oci_sizes_sh_s  ngx_oci_sizes_sh_t;
typedef struct ngx_oci_size_s      ngx_oci_size_t;
typedef struct ngx_oci_negative_sh_s  ngx_oci_negative_sh_t;
typedef struct ngx_oci_doorbell_sh_s  ngx_oci_doorbell_sh_t;
typedef struct ngx_oci_purge_conf_s  ngx_oci_purge_conf_t;


/* one oci_cache_path; per cycle, shm_zone->data */

typedef struct {
    ngx_shm_zone_t                 *zone;
    ngx_slab_pool_t                *shpool;
    ngx_oci_index_sh_t             *index;      /* in shared memory */
    ngx_oci_refs_sh_t              *refs;       /* in shared memory */
    ngx_oci_doorbell_sh_t          *doorbell;   /* in shared memory */

    ngx_path_t                     *path;
    ngx_thread_pool_t              *threads;    /* both set in init_process */
    ngx_thread_pool_t              *bulk;
    int                             dir;        /* fd of path */
    int                             blobs;      /* of "blobs/" */
    int                             algs[3];    /* of "blobs/sha256/" and
                                                   "blobs/sha512/", by
                                                   ngx_oci_digest_alg_e */
    int                             refs_dir;   /* of "refs/" */
    int                             manifests;  /* of "manifests/" */
    int                             uploads;    /* of "uploads/" */
    uint64_t                        dir_id;     /* what they lead to, see
                                                   ngx_oci_dir.c */
    uid_t                           owner;      /* of path */

    size_t                          slice;      /* bytes */
    off_t                           max_size;   /* bytes; NGX_MAX_OFF_T */
    off_t                           min_free;   /* bytes */
    uint64_t                        small_max;  /* bytes of manifests/ and
                                                   refs/, of max_size */
    time_t                          inactive;   /* seconds */
    ngx_uint_t                      manager_files;
    ngx_msec_t                      manager_sleep;
    ngx_msec_t                      manager_threshold;
    off_t                           scrub;      /* bytes per second; 0: off */

    /* the manager's own: its walk for files without an entry */

    ngx_uint_t                      walk;       /* the next directory */
    unsigned                        walking:1;
    unsigned                        walk_all:1; /* not only while there is too
                                                   much */
    unsigned                        walk_pins:1;    /* what is pinned goes, too
                                                     */
    uint32_t                        walk_forgets;   /* when it began */
    uint32_t                        walk_recalls;
    uint64_t                        walk_dir;   /* which directory */
    uint64_t                        walk_left;  /* bytes that it left */
    uint64_t                        walk_kept;  /* the last one, for there was
                                                   room */
    uint64_t                        walk_pinned;    /* likewise, for that */
    time_t                          walked;
    ngx_msec_t                      pins_since; /* only what is pinned could
                                                   go; 0: it is not so */
    time_t                          uploads_looked;     /* at, for what was
                                                   left there */
    void                           *scrubbing;  /* of ngx_oci_scrub.c */

    char                            boot_id[40];    /* of the kernel */
} ngx_oci_cache_t;


typedef struct {
    ngx_oci_cache_t                *cache;      /* NULL: off */
    ngx_shm_zone_t                 *zone;
    u_char                         *file;       /* of oci_cache, for errors */
    ngx_uint_t                      line;
    time_t                          valid_tag;  /* all times: seconds */
    time_t                          valid_manifest;
    time_t                          valid_negative;
    ngx_uint_t                      use_stale;  /* NGX_OCI_STALE_... */
    time_t                          stale_max;
    ngx_uint_t                      verify;     /* NGX_OCI_VERIFY_MODE_... */
    ngx_uint_t                      fill_connections;
    off_t                           fill_ahead;
    ngx_uint_t                      abandoned_finish;
    ngx_msec_t                      abandoned_after;
    ngx_uint_t                      push;       /* is what is pushed copied? */
    u_char                         *push_file;  /* of oci_push, for errors;
                                                   NULL: it is not set here */
    ngx_uint_t                      push_line;
    ngx_oci_purge_conf_t           *purge;      /* NULL: no oci_cache_purge
                                                   here */
} ngx_oci_cache_loc_conf_t;


typedef struct {
    ngx_array_t     caches;             /* of ngx_oci_cache_t * */
} ngx_oci_cache_main_conf_t;


extern ngx_module_t  ngx_http_oci_cache_module;


/* ngx_oci_cache_path.c */
char *ngx_oci_cache_path(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* ngx_http_oci_cache_module.c: a zone's init callback */
ngx_int_t ngx_oci_cache_init_zone(ngx_shm_zone_t *zone, void *data);


/*
 * ngx_oci_manifest.c: GET and HEAD of manifests, by digest and by tag.
 * What a content handler returns; NGX_DECLINED: pass it through.
 */
ngx_int_t ngx_oci_manifest_handler(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_cache_loc_conf_t *ocf);


/* ngx_oci_judge.c: what has to be judged can't be; answers, returns what a
   content handler returns */
ngx_int_t ngx_oci_judge_unable(ngx_http_request_t *r);


/*
 * ngx_oci_refs*.c: what is known about a repository: which digests were
 * proven to belong to it, which tags lead where, and who may read it.
 * In shared memory (LRU), membership and tags also in files under refs/.
 *
 * registry and repository are the upstream's names.
 */

typedef struct {
    ngx_oci_digest_t    digest;     /* the tag's target, or the member */
    off_t               size;       /* of the object, bytes; -1: the registry
                                       did not say */
    time_t              checked;    /* when the upstream last confirmed it */
    u_char              sent;       /* of a manifest: and sent its body */
    u_char              media_type_len;
    u_char              media_type[127];
} ngx_oci_ref_t;

/* a digest may be a blob's and a manifest's at the same time */
#define NGX_OCI_REFS_MANIFEST  'r'     /* and tags */
#define NGX_OCI_REFS_BLOB      'b'

/*
 * Looks a reference (a tag, or the text of a digest) up in shared memory,
 * then on disk.  NGX_OK: *ref is filled.  NGX_DECLINED: not known.
 * NGX_AGAIN: the disk is asked in a thread; handler(data, NGX_OK or
 * NGX_DECLINED) follows from the event loop, with *ref filled on NGX_OK: ref
 * must stay until then, the lookup can't be withdrawn (so ref and data
 * belong to something that outlives the request).
 */
ngx_int_t ngx_oci_refs_lookup(ngx_oci_cache_t *cache, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository, ngx_str_t *reference,
    ngx_oci_ref_t *ref, void (*handler)(void *data, ngx_int_t rc),
    void *data);

/*
 * Changes whenever something was taken back from the repository, by a purge or
 * by a push or a removal that went through here: what the registry was asked
 * before is no news any more.
 */
uint32_t ngx_oci_refs_changes(ngx_oci_cache_t *cache,
    ngx_oci_registry_t *registry, ngx_str_t *repository);

/*
 * Records or replaces it; the file follows in a thread, failures are logged.
 * since: what ngx_oci_refs_changes() said before the registry was asked;
 * nothing is recorded if that has changed.  ref->sent is set if it was known
 * to be so in memory.
 */
void ngx_oci_refs_store(ngx_oci_cache_t *cache, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository, ngx_str_t *reference,
    ngx_oci_ref_t *ref, uint32_t since, ngx_log_t *log);

/* forgets it, in memory and on disk */
void ngx_oci_refs_remove(ngx_oci_cache_t *cache, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository, ngx_str_t *reference,
    ngx_log_t *log);

/*
 * Forgets it on somebody's order; without a reference, all of the repository
 * (not the callers' rights).  No look-up that begins when this has returned
 * finds it, in any worker, and whatever was under way does not bring it back.
 * handler (or NULL) follows from the event loop when it has gone from the
 * disk too, with NGX_OK, NGX_DECLINED: nothing was known, or NGX_ERROR.
 * NGX_OK; NGX_ERROR: no memory, no handler follows.
 */
ngx_int_t ngx_oci_refs_purge(ngx_oci_cache_t *cache, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository, ngx_str_t *reference,
    void (*handler)(void *data, ngx_int_t rc), void *data);

/*
 * The caller's right to read a repository, remembered per hash of the
 * Authorization value ("" is anonymous).  age: of the last confirmation, in
 * seconds.  NGX_OK or NGX_DECLINED.
 */
#define NGX_OCI_RIGHT_VALID  60     /* seconds without asking again */

ngx_int_t ngx_oci_refs_right(ngx_oci_cache_t *cache,
    ngx_oci_registry_t *registry, ngx_str_t *repository,
    ngx_str_t *authorization, time_t *age);
void ngx_oci_refs_grant(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *authorization);
void ngx_oci_refs_revoke(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *authorization);

/* called from the zone's init callback; existing: the zone is reused */
ngx_int_t ngx_oci_refs_init(ngx_oci_cache_t *cache, ngx_uint_t existing);

/*
 * ngx_oci_refs_expire.c: files under refs/ and manifests/ that were not used
 * for cache->inactive seconds go, and those that were not used for longest
 * when all of them take too much; called in the cache manager process now and
 * then.
 */
void ngx_oci_refs_expire(ngx_oci_cache_t *cache);

/*
 * In a thread, before a file of size bytes is written there.  NGX_OK: what it
 * takes is counted; NGX_DECLINED: there is no room for it.
 */
ngx_int_t ngx_oci_refs_room(ngx_oci_cache_t *cache, size_t size,
    ngx_log_t *log);
/* it was not written, or was unlinked: that is not taken any more */
void ngx_oci_refs_unroom(ngx_oci_cache_t *cache, size_t size);
/* unlinks dir/sub/name, which is to be written anew: an error is of no account,
   the new file replaces it.  Until when it was pinned, or 0 */
time_t ngx_oci_refs_replace(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *name, ngx_log_t *log);

/* ngx_oci_pin.c: a file of theirs does not expire before; 0: nothing is done */
void ngx_oci_pin_fd(int fd, time_t until);

/* at what level to log that one could not be written: a full disk is said now
   and then only */
ngx_uint_t ngx_oci_refs_level(ngx_err_t err);

/* what a file of size bytes takes, about */
#define ngx_oci_refs_takes(size)  (int64_t) ngx_align((off_t) (size), 4096)


/*
 * ngx_oci_changed.c: the core's hook; a registry has accepted a PUT or a
 * DELETE, which takes back what was known of that reference.
 */
void ngx_oci_changed(ngx_http_request_t *r, ngx_oci_ctx_t *ctx);


/*
 * ngx_oci_beside.c: the core's hooks; forget(): in a thread, what is beside a
 * manifest that is purged
 */
void *ngx_oci_beside_place(ngx_http_request_t *r);
ngx_int_t ngx_oci_beside(void *place, ngx_oci_beside_t *beside);
void ngx_oci_beside_forget(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_log_t *log);


/*
 * ngx_oci_manager.c: the cache manager's and loader's callbacks of
 * ngx_path_t; data is the ngx_oci_cache_t.  The manager returns the
 * milliseconds until its next call.
 */
ngx_msec_t ngx_oci_manager(void *data);
void ngx_oci_loader(void *data);


/*
 * ngx_oci_scrub.c: reads on, in the manager, in what is stored, comparing it
 * with its CRC.  When to call it again, in ms.
 */
ngx_msec_t ngx_oci_scrub(ngx_oci_cache_t *cache);


/*
 * ngx_oci_io.c: a function in the pool's thread, its completion in the event
 * loop.  run() must touch only what data owns; done() runs in the worker
 * that posted, also when the pool's queue was full (then run() ran at once).
 * A timer holds a gracefully exiting worker until done().
 */
typedef struct {
    void              (*run)(void *data, ngx_log_t *log);
    void              (*done)(void *data);
    void               *data;
    ngx_uint_t          bulk;       /* much to write or to compute */
} ngx_oci_task_t;

/* makes the thread pool "oci" of bulk tasks, unless the operator did: few
   threads, so that cores are not handed from one to the next; to be called
   when the whole configuration is known */
ngx_int_t ngx_oci_io_init(ngx_cycle_t *cycle);

/* finds the cache's pools, in a worker */
void ngx_oci_io_pools(ngx_oci_cache_t *cache, ngx_cycle_t *cycle);

/* NGX_OK: done() follows from the event loop; NGX_ERROR: no memory, nothing
   was run */
ngx_int_t ngx_oci_io_post(ngx_oci_cache_t *cache, ngx_oci_task_t *task);

#endif /* _NGX_OCI_CACHE_H_INCLUDED_ */
