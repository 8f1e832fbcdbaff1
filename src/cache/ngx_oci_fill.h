
/*
 * Copyright (C) The nginx-oci authors
 *
 * The fill of a blob, as ngx_oci_fill.c (what next, from whom) and
 * ngx_oci_run*.c (one run of slices: exchange and buffers, writes, checks)
 * share it.
 */


#ifndef _NGX_OCI_FILL_H_INCLUDED_
#define _NGX_OCI_FILL_H_INCLUDED_


#include "ngx_oci_blob.h"
#include "ngx_oci_pace.h"


#define NGX_OCI_RUN_BUFFERS    4
#define NGX_OCI_RUN_BUFFER     NGX_OCI_VERIFY_BUFFER
#define NGX_OCI_RUN_MAX        (64 * 1024 * 1024)   /* bytes of one exchange */
#define NGX_OCI_RUN_MIN        (16 * 1024 * 1024)
#define NGX_OCI_FILL_AHEAD_MIN (1024 * 1024)  /* bytes: more than a reader
                                               holds back */
#define NGX_OCI_RUN_BYPASS     10           /* s without fills after a disk's
                                               failure */
#define NGX_OCI_FILL_RETRIES   5            /* in a row, without a byte */
#define NGX_OCI_RUN_QUEUE      100          /* ms from look to look whether it
                                               is a run's turn */
#define NGX_OCI_RUN_PATIENCE   10000        /* ms at least that a fill waits
                                               for a place */
#define NGX_OCI_RUN_SLOW       65536        /* bytes: less in stall_timeout
                                               does not keep a place that
                                               others wait for */


typedef struct {
    u_char                 *data;       /* NULL: none now */
    size_t                  size;       /* bytes gathered */
    uint64_t                offset;     /* in the blob */
} ngx_oci_run_buf_t;


#define NGX_OCI_TARGET_SOURCE  32           /* bytes of a SHA-256 */


/* where the exchanges of a fill are redirected.  Owner: the fill */

typedef struct {
    ngx_str_t               url;        /* malloc'ed; "": not known */
    u_char                  source[NGX_OCI_TARGET_SOURCE];  /* to whom */
    time_t                  since;
} ngx_oci_target_t;


/*
 * One exchange's stretch of missing slices.  Owner: the fill.  An exchange
 * and a task hold it: it ends when both are gone (ngx_oci_run_end()).
 */

typedef struct {
    ngx_oci_fill_t         *fill;
    ngx_uint_t              i;          /* place in the index's runs */
    ngx_oci_exchange_t     *ex;         /* NULL: none is running */
    uint64_t                start;      /* a slice's first byte; some bytes
                                           from there on may be written */
    uint64_t                end;
    uint64_t                pos;        /* received up to here */
    uint64_t                written;    /* and written */
    uint64_t                skip;       /* bytes of a 200 still to drop */
    uint64_t                progress;   /* pos when the exchange began */
    u_char                  source[NGX_OCI_TARGET_SOURCE];  /* of it */
    uint32_t                crc;        /* of the slice being written */
    ngx_msec_t              due;        /* with retry: when, ms */
    ngx_msec_t              sourceless; /* without rights that are good since
                                           (ms); 0: it is not */
    ngx_oci_registry_t     *registry;   /* whose place it waits for */
    uint64_t                ticket;     /* its turn; 0: has none */
    ngx_msec_t              looked;     /* how fast its exchange is, at */
    off_t                   brought;    /* by then, bytes */

    ngx_oci_run_buf_t       bufs[NGX_OCI_RUN_BUFFERS];
    ngx_uint_t              head;       /* the one being filled */
    ngx_uint_t              tail;       /* the oldest not written */
    ngx_uint_t              posted;     /* how many the task writes */
    ngx_uint_t              resumed;    /* crc is of bytes not read yet */
    ngx_int_t               task_rc;
    ngx_err_t               err;
    ngx_oci_task_t          task;

    unsigned                active:1;
    unsigned                check:1;    /* re-reads a slice, no exchange */
    unsigned                writing:1;  /* a task is out */
    unsigned                flush:1;    /* then also what fills no buffer:
                                           there was no more */
    unsigned                paused:1;
    unsigned                held:1;     /* it was, since "looked" */
    unsigned                stop:1;     /* ends at once, whatever is left */
    unsigned                retry:1;    /* waits for the fill's timer */
} ngx_oci_run_t;


/*
 * Owner: the blob, while this worker has the sidecar's lock.  Freed by
 * ngx_oci_fill_end() when no run, no check and no verification is left.
 */

struct ngx_oci_fill_s {
    ngx_oci_blob_t         *blob;
    ngx_oci_run_t           runs[NGX_OCI_INDEX_RUNS];
    ngx_uint_t              nruns;
    ngx_uint_t              connections;    /* at most */
    ngx_oci_pace_t          pace;       /* how many of them help */
    uint64_t                ahead;      /* bytes */
    ngx_uint_t              finish;
    ngx_msec_t              abandoned_after;
    ngx_msec_t              abandoned;  /* since when; 0: wanted */
    ngx_uint_t              failures;   /* in a row */
    ngx_msec_t              down;       /* the registry is out of reach since
                                           (ms); 0: it is not */
    ngx_msec_t              placeless;  /* no exchange has had a place since
                                           (ms); 0: one has */
    ngx_event_t             timer;      /* retries, abandonment */
    ngx_connection_t        dummy;      /* for the timer's debug lines */
    ngx_oci_verify_t        verify;
    ngx_oci_target_t        target;
    ngx_oci_task_t          adopt;      /* what the sidecar says now */
    uint32_t                origin;     /* as the index has it */
    ngx_int_t               adopt_rc;
    ngx_err_t               adopt_err;  /* 0: it makes no sense */
    uint64_t                found;      /* who wrote last */
    uint64_t                writer;     /* and who does now */

    unsigned                verifying:1;
    unsigned                stream:1;   /* the upstream ignores Range */
    unsigned                failed:1;
    unsigned                disk:1;     /* for the disk's sake, or for want of
                                           a place: readers go on past it */
    unsigned                mismatch:1;
    unsigned                adopting:1;
    unsigned                planning:1;
};


/* ngx_oci_adopt.c: ngx_oci_fill_adopted() follows; NGX_ERROR: it does not */
ngx_int_t ngx_oci_adopt(ngx_oci_fill_t *fill);

/* ngx_oci_run.c */

/* begins a run over span; NGX_ERROR: nothing was begun */
ngx_int_t ngx_oci_run_start(ngx_oci_fill_t *fill, ngx_oci_span_t *span,
    ngx_uint_t check);
/* an exchange for what is left of it, or a later look at whether it may
   begin */
ngx_int_t ngx_oci_run_exchange(ngx_oci_run_t *run);
/* stops it as soon as its task is back */
void ngx_oci_run_stop(ngx_oci_run_t *run);
/* it ends once neither an exchange nor a task holds it */
void ngx_oci_run_end(ngx_oci_run_t *run, ngx_int_t rc);

/* ngx_oci_run_write.c */

/* posts what has gathered, with flush also what fills no buffer yet */
void ngx_oci_run_write(ngx_oci_run_t *run, ngx_uint_t flush);

/* ngx_oci_run_check.c */

/* begins to check its slice; NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_run_check(ngx_oci_run_t *run);


/* ngx_oci_fill.c */

/* the sidecar is what the index says, and the fill can begin; or, if rc is not
   NGX_OK, ends */
void ngx_oci_fill_adopted(ngx_oci_fill_t *fill, ngx_int_t rc);

/* ngx_oci_fill.c, called by runs */

/* the run is over and forgotten; rc: NGX_OK, NGX_ERROR (the fill fails) */
void ngx_oci_fill_run_done(ngx_oci_fill_t *fill, ngx_oci_run_t *run,
    ngx_int_t rc);
/* an exchange broke: NGX_OK if the timer will begin another one */
ngx_int_t ngx_oci_fill_retry(ngx_oci_fill_t *fill, ngx_oci_run_t *run,
    time_t after);
/* its exchange was refused, or there is nobody's rights for one: NGX_OK if
   the timer will look whether a reader offers some.  NGX_ERROR: none did for
   too long, or the run need not begin */
ngx_int_t ngx_oci_fill_await(ngx_oci_fill_t *fill, ngx_oci_run_t *run);
/* its exchange can't begin now: it looks again after delay (ms).  down: as
   the registry is out of reach; NGX_ERROR: for too long */
ngx_int_t ngx_oci_fill_postpone(ngx_oci_fill_t *fill, ngx_oci_run_t *run,
    ngx_oci_registry_t *registry, ngx_msec_t delay, ngx_uint_t down);
/* a buffer's bytes were written: hashes them, or leaves it as it is */
void ngx_oci_fill_take(ngx_oci_fill_t *fill, ngx_oci_run_buf_t *b);
/* bytes were written: hash on, perhaps with more exchanges; no run ends */
void ngx_oci_fill_progress(ngx_oci_fill_t *fill, uint64_t bytes);
/* where and with what to fetch now, good until the next call; NGX_OK: the
   caller wipes authorization; or NGX_DECLINED */
ngx_int_t ngx_oci_fill_source(ngx_oci_fill_t *fill,
    ngx_oci_registry_t **registry, ngx_str_t *repository,
    ngx_str_t *authorization);



/* ngx_oci_target.c */

/* an exchange that begins, with its source, which is left in source: sets
   ex->target if one is remembered for that; another source's is forgotten */
void ngx_oci_target_get(ngx_oci_target_t *target, ngx_oci_exchange_t *ex,
    u_char *source);
/* remembers where an exchange got its bytes */
void ngx_oci_target_set(ngx_oci_target_t *target, ngx_oci_exchange_t *ex,
    u_char *source);
/* is it what is remembered? */
ngx_uint_t ngx_oci_target_is(ngx_oci_target_t *target,
    ngx_oci_exchange_t *ex);
void ngx_oci_target_forget(ngx_oci_target_t *target);


#endif /* _NGX_OCI_FILL_H_INCLUDED_ */
