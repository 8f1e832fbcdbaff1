
/*
 * Copyright (C) The nginx-oci authors
 *
 * Copies of what is pushed through the edge: ngx_oci_push.c tells which
 * requests, ngx_oci_push_args.c what they say, ngx_oci_push_body.c has what
 * they bring, and ngx_oci_push_answer.c what they lead to.
 * ngx_oci_push_index.c knows, for all workers, which uploads are copied,
 * ngx_oci_push_copy.c writes the files, ngx_oci_push_place.c makes a copy a
 * blob of the cache, and ngx_oci_push_clean.c removes what came to no end.
 * ngx_oci_push_manifest.c keeps manifests.
 *
 * A copy is two files in uploads/, of a number that was made up: the bytes,
 * and a sidecar that gets the slices' records as they are written.  Nothing
 * here may fail a push: what doesn't fit is not copied any more.
 */


#ifndef _NGX_OCI_PUSH_H_INCLUDED_
#define _NGX_OCI_PUSH_H_INCLUDED_


#include "ngx_oci_blob.h"
#include "ngx_oci_refs.h"
#include "ngx_oci_room.h"


#define NGX_OCI_PUSH_MAX      32            /* copies of a zone at a time */
#define NGX_OCI_PUSH_BUFFER   (256 * 1024)  /* bytes */
#define NGX_OCI_PUSH_BUFFERS  8             /* of a request */
#define NGX_OCI_PUSH_KEY      32            /* bytes */
#define NGX_OCI_PUSH_NAME     (16 + sizeof(".map"))

#define NGX_OCI_PUSH_PATIENCE 5000          /* ms that a client waits */

#define NGX_OCI_PUSH_IDLE     -1            /* between two requests */
#define NGX_OCI_PUSH_LEFT     -2            /* its worker died, or can't remove
                                               it */


/* a copy, in shared memory: what the next request of an upload goes on with,
   in whatever worker */

struct ngx_oci_push_sh_s {
    u_char                    key[NGX_OCI_PUSH_KEY];    /* of the upload, see
                                               ngx_oci_push_key(); zeros: one
                                               request is all of it */
    uint64_t                  id;           /* of its files; 0: free */
    uint64_t                  taken;        /* bytes that are reserved, */
    uint64_t                  done;         /* and written of them */
    time_t                    touched;
    int32_t                   slot;         /* whose worker has it, or
                                               NGX_OCI_PUSH_... */
    unsigned                  answered:1;   /* its last bytes are on their way
                                               to the file */
    unsigned                  spoiled:1;    /* two requests at once */
    uint32_t                  crc;          /* of a slice's beginning */
    ngx_uint_t                alg;
    ngx_oci_verify_state_t    state;
};


typedef struct {
    u_char                   *data;         /* malloc()ed */
    size_t                    size;
} ngx_oci_push_buf_t;


typedef enum {
    NGX_OCI_PUSH_UNDECIDED = 0,
    NGX_OCI_PUSH_DROP,
    NGX_OCI_PUSH_SAVE,                      /* another request follows */
    NGX_OCI_PUSH_FINISH
} ngx_oci_push_outcome_e;


/* of a request, the core's ctx->push; owner: its pool */

typedef struct {
    struct ngx_oci_push_s    *upload;       /* until its cleanup */
    void                     *manifest;     /* ngx_oci_push_manifest.c's */
} ngx_oci_push_ctx_t;


/*
 * A request that is copied.  Owner: its references: the request's cleanup,
 * and what is still to be done (until ngx_oci_push_end()); the last one frees
 * pool and buffers.  A task touches what stands below "task" only.
 */

typedef struct ngx_oci_push_s  ngx_oci_push_t;

struct ngx_oci_push_s {
    ngx_pool_t               *pool;
    ngx_uint_t                refs;
    ngx_http_request_t       *r;            /* NULL: it has gone */
    ngx_oci_push_ctx_t       *pctx;
    ngx_oci_registry_t       *registry;
    ngx_str_t                 repository;   /* at the upstream */
    ngx_oci_refs_mark_t       seen;         /* of the repository, when this
                                               began */
    u_char                    key[NGX_OCI_PUSH_KEY];

    off_t                     start;        /* Content-Range; -1: none */
    ngx_uint_t                outcome;      /* ngx_oci_push_outcome_e */

    ngx_chain_t              *held;         /* not given to the upstream yet */
    u_char                   *at;           /* what is next in its first */
    ngx_msec_t                since_held;
    ngx_event_t               timer;
    ngx_connection_t          dummy;        /* of the timer's */

    ngx_oci_push_buf_t        bufs[NGX_OCI_PUSH_BUFFERS];
    ngx_uint_t                head;         /* that is filled, */
    ngx_uint_t                tail;         /* and written, next */
    uint64_t                  pos;          /* bytes of the upload in files and
                                               buffers */

    unsigned                  begun:1;      /* it has a place in the index */
    unsigned                  waiting:1;    /* for the request before this */
    unsigned                  failed:1;
    unsigned                  body:1;       /* all of it has come */
    unsigned                  running:1;    /* a task is out */
    unsigned                  ended:1;

    /* of the task */

    ngx_oci_task_t            task;
    ngx_oci_cache_t          *cache;
    ngx_uint_t                place;        /* in the index */
    uint64_t                  id;
    ngx_oci_digest_t          digest;       /* alg NONE: not known */
    ngx_uint_t                alg;          /* that it is hashed by */
    ngx_uint_t                first;        /* buffers from here */
    ngx_uint_t                last;         /* to here are to be written */
    ngx_uint_t                known;        /* the files are there */
    uint64_t                  written;      /* bytes of the upload */
    uint64_t                  expected;     /* bytes with this request; 0: it
                                               is not known */
    int                       fd;
    int                       map;
    uint32_t                  crc;
    uint32_t                  origin;       /* the registry's */
    ngx_oci_verify_state_t    state;
    ngx_int_t                 rc;           /* NGX_DECLINED: no room, or it is
                                               of no use any more; NGX_ERROR */
    ngx_err_t                 err;
};


/* ngx_oci_push.c */

/* oci_push */
char *ngx_oci_push_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
/* the core's hook */
void ngx_oci_push_begin(ngx_http_request_t *r, ngx_oci_ctx_t *ctx);
/* it does not wait for the request before it any more; the caller has another
   reference */
void ngx_oci_push_unwait(ngx_oci_push_t *up);
void ngx_oci_push_unref(ngx_oci_push_t *up);


/* ngx_oci_push_body.c */

void ngx_oci_push_init_filter(void);
/* posts what has gathered */
void ngx_oci_push_write(ngx_oci_push_t *up);
/* it is not copied any more; what is held goes on */
void ngx_oci_push_fail(ngx_oci_push_t *up);
/* that up->rc, and why */
void ngx_oci_push_say(ngx_oci_push_t *up);
/* what is held may go on, as if more of the body had come */
void ngx_oci_push_release(ngx_oci_push_t *up);


/* ngx_oci_push_answer.c */

/* the core's hook */
void ngx_oci_push_answered(ngx_http_request_t *r, ngx_oci_ctx_t *ctx);
/* it is to be dropped */
void ngx_oci_push_over(ngx_oci_push_t *up);
/* does what the outcome is, once all that came is written */
void ngx_oci_push_go_on(ngx_oci_push_t *up);
/* Docker-Content-Digest of an answer.  NGX_OK: it is this, or there is none */
ngx_int_t ngx_oci_push_agrees(ngx_http_request_t *r,
    ngx_oci_digest_t *digest);


/* ngx_oci_push_args.c */

/* the digest among the arguments; NGX_OK, NGX_DECLINED: there is none, or
   what it is can't be told */
ngx_int_t ngx_oci_push_digest(ngx_str_t *args, ngx_oci_digest_t *digest);
/* is there one, or more? */
ngx_uint_t ngx_oci_push_arg(ngx_str_t *args, const char *name);
/* do all read them alike? */
ngx_uint_t ngx_oci_push_plain(ngx_str_t *args);
/* what identifies an upload: its registry and the path at the upstream */
void ngx_oci_push_key(u_char *key, ngx_oci_registry_t *registry,
    ngx_str_t *uri);
/* "a-b", or "bytes a-b/...": NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_push_range(ngx_str_t *value, off_t *start, off_t *end);


/* ngx_oci_push_copy.c; in a thread, but for the first two */

/* a copy from its beginning */
void ngx_oci_push_hash_init(ngx_oci_push_t *up);
void ngx_oci_push_names(uint64_t id, char *data, char *map);
void ngx_oci_push_write_task(void *data, ngx_log_t *log);
void ngx_oci_push_finish_task(void *data, ngx_log_t *log);
void ngx_oci_push_drop_task(void *data, ngx_log_t *log);


/* ngx_oci_room.c; in a thread: room for the first so many bytes of all.
   Nothing is evicted where all could not have it.  NGX_OK or NGX_DECLINED */
ngx_int_t ngx_oci_room_push(ngx_oci_push_t *up, uint64_t bytes, uint64_t all);


/*
 * ngx_oci_push_place.c; in a thread: the files become those of the blob, whose
 * digest they have.  NGX_OK: or it was there already; NGX_DECLINED: somebody
 * else brings it; NGX_ERROR: logged.
 */
ngx_int_t ngx_oci_push_place(ngx_oci_push_t *up, ngx_log_t *log);


/* ngx_oci_push_index.c */

/* a new copy, of this worker.  NGX_OK or NGX_DECLINED */
ngx_int_t ngx_oci_push_new(ngx_oci_push_t *up);
/*
 * Takes the copy of the upload up->key for this worker.  NGX_OK; NGX_AGAIN:
 * the request before is about to give it back; NGX_BUSY: another one is being
 * received, it is spoiled; NGX_DECLINED: there is none.
 */
ngx_int_t ngx_oci_push_take(ngx_oci_push_t *up);
/* the upload goes on with key, once this has been saved; zeros: it does not */
void ngx_oci_push_goes_on(ngx_oci_push_t *up, u_char *key);
/* NGX_OK: it waits for the next request; NGX_DECLINED: it is spoiled */
ngx_int_t ngx_oci_push_save(ngx_oci_push_t *up);
/* it is removed by the manager */
void ngx_oci_push_leave(ngx_oci_push_t *up);
ngx_uint_t ngx_oci_push_spoiled(ngx_oci_push_t *up);
/* the files are gone, or a blob's */
void ngx_oci_push_free(ngx_oci_cache_t *cache, ngx_uint_t place, uint64_t id);
/* room for the first so many bytes; in any thread.  NGX_OK, or NGX_DECLINED:
   shortage is what lacks of all */
ngx_int_t ngx_oci_push_reserve(ngx_oci_push_t *up, uint64_t bytes,
    uint64_t all, ngx_oci_shortage_t *shortage);
void ngx_oci_push_wrote(ngx_oci_push_t *up, uint64_t bytes);
/* one that its worker or its client left, NGX_OK or NGX_DECLINED; nobody else
   gets it */
ngx_int_t ngx_oci_push_left(ngx_oci_cache_t *cache, ngx_uint_t *place,
    uint64_t *id);
ngx_uint_t ngx_oci_push_known(ngx_oci_cache_t *cache, uint64_t id);


/* ngx_oci_push_clean.c; in the manager */
void ngx_oci_push_clean(ngx_oci_cache_t *cache);


/* ngx_oci_push_manifest.c: PUT of a manifest, which is kept in memory until it
   is answered */

/* NULL: it is not kept */
void *ngx_oci_push_manifest(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_cache_t *cache);
void ngx_oci_push_manifest_body(void *data, ngx_chain_t *in);
void ngx_oci_push_manifest_answered(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, void *data);


#endif /* _NGX_OCI_PUSH_H_INCLUDED_ */
