
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the two files of the references share: ngx_oci_refs.c has those in
 * memory, ngx_oci_refs_file.c those on disk.
 */


#ifndef _NGX_OCI_REFS_H_INCLUDED_
#define _NGX_OCI_REFS_H_INCLUDED_


#include "ngx_oci_index.h"


#define NGX_OCI_REFS_VERSION    3
#define NGX_OCI_REFS_KEY        32              /* bytes */
#define NGX_OCI_REFS_NAME       (NGX_OCI_REFS_KEY * 2 + 1)
#define NGX_OCI_REFS_TMP        (NGX_OCI_REFS_NAME + 2 * NGX_INT64_LEN       \
                                 + sizeof("..tmp"))

#define NGX_OCI_REFS_KEEP       (7 * 86400)     /* s, unused in memory */
#define NGX_OCI_REFS_FRESH      86400           /* s, then a used file's
                                                   mtime is renewed */
#define NGX_OCI_REFS_AGAIN      60              /* s between equal writes */
#define NGX_OCI_REFS_GONE       120             /* s a removal is known */
#define NGX_OCI_REFS_SLOW       60              /* s, then what the disk said
                                                   may precede a removal */
#define NGX_OCI_REFS_EVICT      32              /* nodes for one */
#define NGX_OCI_REFS_ROOM       128             /* bytes, smallest chunk */
#define NGX_OCI_REFS_MARKS      448             /* repositories share them */

#define NGX_OCI_REFS_HOUR       3600            /* s between expirations, and
                                                   the age of leftovers */
#define NGX_OCI_REFS_PAUSE      5               /* ms between directories */


typedef enum {
    NGX_OCI_REFS_REF = 1,
    NGX_OCI_REFS_RIGHT,
    NGX_OCI_REFS_REMOVED        /* was a reference: the disk isn't asked */
} ngx_oci_refs_type_e;


typedef enum {
    NGX_OCI_REFS_READ = 1,
    NGX_OCI_REFS_WRITE,
    NGX_OCI_REFS_UNLINK,
    NGX_OCI_REFS_PURGE,         /* reads, to tell what was there; unlinks */
    NGX_OCI_REFS_VOID           /* the same of a whole repository */
} ngx_oci_refs_op_e;


/*
 * What was taken back from a repository, and from those that share its place:
 * who began to ask before learned nothing that is still worth remembering.
 */

typedef struct {
    uint32_t                  changes;      /* raised with each reference, and
                                               when its file has gone */
    uint32_t                  epoch;        /* raised with all of them: what
                                               memory has of it is void */
    uint32_t                  purged;       /* s since 1970, the last
                                               reference: a file that was
                                               posted before may come to the
                                               disk after it */
    uint32_t                  reference;    /* of its key, or 0: others have
                                               been just before it */
} ngx_oci_refs_mark_t;


/* where a reference is kept */

typedef struct {
    u_char                    key[NGX_OCI_REFS_KEY];
    u_char                    repo[NGX_OCI_REFS_KEY];   /* of the repository's
                                               own file: without it, or with
                                               another one, the files of its
                                               references are void */
    ngx_oci_refs_mark_t       seen;         /* the repository's, as it was when
                                               this began */
} ngx_oci_refs_place_t;


/* in shared memory; freed by eviction.  Allocated up to media_type and its
   length, rights and removals up to stored only */

typedef struct {
    ngx_rbtree_node_t         node;
    ngx_queue_t               queue;        /* LRU */
    u_char                    key[NGX_OCI_REFS_KEY];
    time_t                    accessed;
    time_t                    checked;      /* of a removal: when */
    uint32_t                  epoch;        /* of its repository; of a removal:
                                               the changes at that time */
    unsigned                  room:8;       /* it takes, in smallest chunks */
    unsigned                  type:4;       /* ..._type_e */
    unsigned                  alg:4;
    unsigned                  sent:8;
    unsigned                  media_type_len:8;
    time_t                    stored;       /* mtime of the file, about */
    int64_t                   size;
    u_char                    digest[NGX_OCI_DIGEST_BYTES];
    u_char                    media_type[1];
} ngx_oci_refs_node_t;


struct ngx_oci_refs_sh_s {
    uint32_t                  layout;       /* sizes of the structs here */
    ngx_rbtree_t              rbtree;
    ngx_rbtree_node_t         sentinel;
    ngx_queue_t               queue;        /* LRU, most recent first */
    uint64_t                  bytes;        /* of all nodes */
    uint64_t                  max;          /* the rest is the index's */
    time_t                    expired;      /* when files were last looked
                                               through */
    u_char                    salt[NGX_OCI_REFS_KEY];   /* of rights' keys, of
                                               marks, and of sizes' */
    ngx_oci_sizes_sh_t       *sizes;
    ngx_oci_negative_sh_t    *negative;
    ngx_oci_refs_mark_t       marks[NGX_OCI_REFS_MARKS];
};


/* is it a reference that was not voided with its repository? */

#define ngx_oci_refs_live(cache, place, node)                                 \
    ((node)->type == NGX_OCI_REFS_REF                                         \
     && (node)->epoch == ngx_oci_refs_mark(cache, place)->epoch)


/* ngx_oci_refs.c: under the mutex but for the first four */
void ngx_oci_refs_place(ngx_oci_refs_place_t *place, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository,
    ngx_str_t *reference);
void ngx_oci_refs_key(u_char *key, u_char kind, u_char *salt,
    ngx_oci_registry_t *registry, ngx_str_t *repository, u_char *p,
    size_t len);
void ngx_oci_refs_lock(ngx_oci_cache_t *cache);
void ngx_oci_refs_unlock(ngx_oci_cache_t *cache);
ngx_oci_refs_node_t *ngx_oci_refs_find(ngx_oci_cache_t *cache,
    u_char *key);
void ngx_oci_refs_delete(ngx_oci_cache_t *cache, ngx_oci_refs_node_t *node);
/* the repository's mark: which others share it can't be told from outside */
ngx_oci_refs_mark_t *ngx_oci_refs_mark(ngx_oci_cache_t *cache,
    ngx_oci_refs_place_t *place);
/* of this moment's epoch */
ngx_oci_refs_node_t *ngx_oci_refs_put_ref(ngx_oci_cache_t *cache,
    ngx_oci_refs_place_t *place, ngx_oci_ref_t *ref, time_t stored);
void ngx_oci_refs_get(ngx_oci_refs_node_t *node, ngx_oci_ref_t *ref);
ngx_uint_t ngx_oci_refs_equal(ngx_oci_refs_node_t *node,
    ngx_oci_ref_t *ref);

/* what was taken back of the repository so far */
void ngx_oci_refs_seen(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_oci_refs_mark_t *seen);
/* as ngx_oci_refs_store(), of what a registry took after that was seen.  Only
   the removal of just this reference, or of the repository, has it not
   recorded, and another target that is known of it by now */
void ngx_oci_refs_pushed(ngx_oci_cache_t *cache, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository, ngx_str_t *reference,
    ngx_oci_ref_t *ref, ngx_oci_refs_mark_t *seen, ngx_log_t *log);

/* ngx_oci_refs_file.c: disk tasks; failures are logged.  rc: what the handler
   of a purge is told if nothing is on disk */
ngx_int_t ngx_oci_refs_post(ngx_oci_cache_t *cache,
    ngx_oci_refs_place_t *place, ngx_uint_t kind, ngx_oci_ref_t *ref,
    ngx_int_t rc, void (*handler)(void *data, ngx_int_t rc), void *data);
void ngx_oci_refs_write(ngx_oci_cache_t *cache, ngx_oci_refs_place_t *place,
    ngx_oci_ref_t *ref, ngx_log_t *log);


#endif /* _NGX_OCI_REFS_H_INCLUDED_ */
