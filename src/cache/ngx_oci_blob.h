
/*
 * Copyright (C) The nginx-oci authors
 *
 * A blob as one worker has it open, its fill if this worker owns that, and
 * the readers that wait.
 */


#ifndef _NGX_OCI_BLOB_H_INCLUDED_
#define _NGX_OCI_BLOB_H_INCLUDED_


#include "ngx_oci_cache.h"
#include "ngx_oci_index.h"


typedef struct ngx_oci_blob_s    ngx_oci_blob_t;
typedef struct ngx_oci_fill_s    ngx_oci_fill_t;
typedef struct ngx_oci_verify_s  ngx_oci_verify_t;


/*
 * One per digest and worker.  Owner: its references (readers, the fill, a
 * task that opens it); without any it is kept for a while and then closed
 * and freed by ngx_oci_blob.c's timer.
 */

struct ngx_oci_blob_s {
    ngx_queue_t             queue;      /* of all blobs of the worker */
    ngx_queue_t             idle;
    ngx_oci_cache_t        *cache;
    ngx_oci_digest_t        digest;
    ngx_oci_entry_t        *entry;      /* NULL until opened */
    ngx_oci_store_t         store;
    off_t                   create;     /* size to create with; -1 */
    uint32_t                origin;     /* and registry */
    uint64_t                size;
    ngx_int_t               rc;         /* of opening */
    uint32_t                generation; /* of entry when opened */
    uint64_t                dir;        /* where and how, see ngx_oci_dir.c */
    ngx_uint_t              refs;
    ngx_msec_t              used;
    ngx_msec_t              locked;     /* by somebody who is not in the index
                                           since then (ms); 0: it is not */
    ngx_msec_t              looked;     /* and was so then */
    ngx_queue_t             openers;    /* of ngx_oci_opener_t */
    ngx_queue_t             waiters;    /* of ngx_oci_waiter_t */
    ngx_oci_fill_t         *fill;       /* NULL: not owned here */
    ngx_oci_task_t          task;
    unsigned                opening:1;
    unsigned                ready:1;
    unsigned                stale:1;    /* its files were dropped */
    unsigned                suspect:1;  /* they could not be read once: who
                                           comes next opens them anew */
    unsigned                deaf:1;     /* whoever owns its fill does not hear */
    unsigned                soon:1;     /* who waits is about to be woken */
    unsigned                foreign:1;  /* somebody else may want to have them
                                           made anew: not kept open */
};


/* one who waits for a blob to be opened; the place is the waiter's own, who
   removes it from the queue when it goes away */

typedef struct {
    ngx_queue_t             queue;
    void                  (*handler)(void *data, ngx_oci_blob_t *blob);
    void                   *data;
} ngx_oci_opener_t;


/* one who waits for bytes or for the verdict */

typedef struct {
    ngx_queue_t             queue;
    ngx_uint_t              waiting;    /* in the queue */
    void                  (*handler)(void *data);
    void                   *data;
} ngx_oci_waiter_t;


/*
 * Finds or opens a blob, creating its files if size >= 0.  NGX_OK: *blob,
 * referenced for the caller; NGX_AGAIN: opener->handler() follows, with the
 * blob referenced, or NULL where there is none or opening failed; NGX_ERROR.
 */
ngx_int_t ngx_oci_blob_open(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, off_t size, uint32_t origin,
    ngx_oci_opener_t *opener, ngx_oci_blob_t **blob);
void ngx_oci_blob_unref(ngx_oci_blob_t *blob);
/* what is known of the blob in a repository has another size than the bytes:
   the registry is asked the next time, and a manifest not believed for now */
void ngx_oci_blob_forget_size(ngx_oci_blob_t *blob,
    ngx_oci_registry_t *registry, ngx_str_t *repository);

/* puts a waiter into the blob's queue; woken once, in the event loop */
void ngx_oci_blob_wait(ngx_oci_blob_t *blob, ngx_oci_waiter_t *waiter);
void ngx_oci_blob_unwait(ngx_oci_waiter_t *waiter);
/* somebody has its lock: those who wait for it are woken soon */
void ngx_oci_blob_soon(ngx_oci_blob_t *blob);
/* wakes all waiters of the blob */
void ngx_oci_blob_wake(ngx_oci_blob_t *blob);
/* is a waiter woken by the timer, because no doorbell rang in a second? */
ngx_uint_t ngx_oci_blob_fallback(void);

ngx_int_t ngx_oci_blob_init_process(ngx_cycle_t *cycle);
void ngx_oci_blob_exit_process(ngx_cycle_t *cycle);
/* closes what is kept open for nobody */
void ngx_oci_blob_shed(ngx_oci_cache_t *cache);
/* the doorbell's handler: wakes waiters, lets fills plan */
void ngx_oci_blob_rung(ngx_oci_cache_t *cache);


/* ngx_oci_fill.c */

/*
 * Somebody registered a want: lets the owner know, or becomes it.  NGX_OK;
 * NGX_BUSY: the file is locked by somebody who is not in this zone's index, or
 * the owner's worker is stopped; NGX_DECLINED: a back-off is on; NGX_ERROR.
 */
ngx_int_t ngx_oci_fill_kick(ngx_oci_blob_t *blob,
    ngx_oci_cache_loc_conf_t *ocf);
/* was it so for a while, so that what is missing should not be waited for?
   Whoever evicts or creates files has the lock for a moment */
ngx_uint_t ngx_oci_fill_locked(ngx_oci_blob_t *blob);
/* the owner looks again what is wanted */
void ngx_oci_fill_plan(ngx_oci_fill_t *fill);

/* what ngx_oci_verify.c tells the fill, whose task it was */
void ngx_oci_fill_verified(ngx_oci_fill_t *fill, ngx_int_t rc);


/*
 * ngx_oci_verify.c: the digest, in order behind the fill.
 *
 * Bytes that come in order are hashed out of the buffers that they were
 * written from; all others are read back from the file.  The state of the
 * last border between slices is kept: the bytes of a slice that is not
 * recorded may be fetched again, and be others.
 */

#define NGX_OCI_VERIFY_BUFFER   (512 * 1024)    /* bytes */
#define NGX_OCI_VERIFY_BUFFERS  8


typedef union {
    uint64_t                align;
    u_char                  bytes[NGX_OCI_STORE_HASH_MAX];
} ngx_oci_verify_state_t;


typedef struct {
    u_char                 *data;       /* of NGX_OCI_VERIFY_BUFFER bytes */
    size_t                  size;
} ngx_oci_verify_buf_t;


/* Owner: its fill.  A task touches the state, safe, header and work only */

struct ngx_oci_verify_s {
    ngx_oci_fill_t         *fill;
    ngx_oci_cache_t        *cache;
    ngx_oci_digest_t       *digest;
    int                     fd;
    int                     map;
    ngx_oci_store_header_t  header;     /* as last written */
    uint64_t                size;
    uint64_t                pos;        /* bytes hashed */
    uint64_t                end;        /* of the running task */
    uint64_t                next;       /* pos, or end, and what waits */
    uint64_t                safe;       /* bytes in safe_state: whole slices */
    ngx_int_t               rc;         /* of the task; NGX_DONE: mismatch */
    ngx_err_t               err;
    ngx_uint_t              running;
    ngx_uint_t              discard;    /* what the task hashes is void */
    ngx_oci_task_t          task;
    ngx_oci_verify_state_t  state;
    ngx_oci_verify_state_t  safe_state;

    ngx_oci_verify_buf_t    queue[NGX_OCI_VERIFY_BUFFERS];
    ngx_uint_t              nqueue;     /* they wait for the task */
    ngx_oci_verify_buf_t    work[NGX_OCI_VERIFY_BUFFERS];
    ngx_uint_t              nwork;      /* the task's; 0: it reads the file */
    u_char                 *spare[NGX_OCI_VERIFY_BUFFERS];
    ngx_uint_t              nspare;
};

/* begins at the checkpoint of the header, or at 0 */
void ngx_oci_verify_init(ngx_oci_verify_t *v, ngx_oci_fill_t *fill,
    ngx_oci_blob_t *blob);
/* frees the buffers; no task is out */
void ngx_oci_verify_done(ngx_oci_verify_t *v);

/* posts the next piece, if there is one; end: readable bytes from pos on, in
   whole slices.  NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_verify_run(ngx_oci_verify_t *v, uint64_t end);

/* a buffer of NGX_OCI_VERIFY_BUFFER bytes, the caller's until he gives it
   back by verify_take() or verify_spare(); NULL: no memory */
u_char *ngx_oci_verify_buffer(ngx_oci_verify_t *v, ngx_log_t *log);
void ngx_oci_verify_spare(ngx_oci_verify_t *v, u_char *data);

/* bytes that were written to the file.  NGX_OK: they are next, the buffer is
   v's now; NGX_DECLINED: they will be read back */
ngx_int_t ngx_oci_verify_take(ngx_oci_verify_t *v, uint64_t offset,
    u_char *data, size_t size);

/* 1: whoever brings the bytes from offset on should wait for the task */
ngx_uint_t ngx_oci_verify_full(ngx_oci_verify_t *v, uint64_t offset);

/* the bytes of [start, end), less than a slice, will be fetched again */
void ngx_oci_verify_discard(ngx_oci_verify_t *v, uint64_t start,
    uint64_t end);


/* ngx_oci_reader.c */

ngx_int_t ngx_oci_reader_handler(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_cache_loc_conf_t *ocf);


#endif /* _NGX_OCI_BLOB_H_INCLUDED_ */
