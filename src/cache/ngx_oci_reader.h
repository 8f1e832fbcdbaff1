
/*
 * Copyright (C) The nginx-oci authors
 *
 * A client's request for a blob: ngx_oci_reader.c (who asks, may they, what
 * is there), ngx_oci_want.c (what is missing), ngx_oci_send.c (header, ranges,
 * body), ngx_oci_warm.c (what only the disk has) and ngx_oci_tail.c (what
 * can't be stored) share it.
 */


#ifndef _NGX_OCI_READER_H_INCLUDED_
#define _NGX_OCI_READER_H_INCLUDED_


#include "ngx_oci_blob.h"
#include "ngx_oci_probe.h"
#include "ngx_oci_prove.h"
#include "ngx_oci_ranges.h"


/* what a thread of the core may still read from; in the request's pool, which
   outlives its threads, and with it the blob's descriptor */

typedef struct {
    ngx_file_t                  file;
    ngx_buf_t                   buf;
    ngx_chain_t                 chain;
    ngx_oci_blob_t             *blob;       /* referenced; NULL: none yet */
} ngx_oci_reader_out_t;


typedef struct ngx_oci_tail_s  ngx_oci_tail_t;
typedef struct ngx_oci_look_s  ngx_oci_look_t;


/*
 * Owner: its references: the request's cleanup, a lookup of refs or a read of
 * the disk that is under way, an exchange of its own.  The last one frees
 * pool, and with it the reader.
 */

typedef struct {
    ngx_pool_t                 *pool;
    ngx_uint_t                  refs;
    ngx_http_request_t         *r;          /* NULL: the client has gone */
    ngx_oci_ctx_t              *ctx;
    ngx_oci_cache_loc_conf_t   *ocf;
    ngx_oci_cache_t            *cache;
    ngx_oci_ref_t               ref;
    off_t                       size;       /* -1: unknown */
    off_t                       told;       /* by the registry once, or by
                                               verified bytes; -1 */

    ngx_oci_probe_waiter_t      probe;
    ngx_oci_prove_waiter_t      prove;
    ngx_oci_opener_t            opener;
    ngx_oci_waiter_t            waiter;
    ngx_oci_want_t             *want;       /* NULL: nothing is missing */
    ngx_oci_blob_t             *blob;       /* referenced; NULL: not open */
    uint32_t                    failed;     /* entry's counts at the start */
    uint32_t                    retracted;
    uint32_t                    lost;
    uint64_t                    bytes;      /* entry's at the start */
    uint64_t                    kicked;     /* place of the last kick */
    ngx_int_t                   room;       /* NGX_OK: it was made */
    ngx_int_t                   pin;        /* NGX_OK, or NGX_BUSY */
    ngx_msec_t                  deadline;   /* of strict's waiting */
    ngx_msec_t                  yield;      /* until then others' rights come
                                               first; 0: not set */

    ngx_oci_ranges_t            ranges;
    ngx_int_t                   rc;         /* of an answer to finalize */
    ngx_uint_t                  part;
    uint64_t                    pos;
    uint64_t                    warm;       /* read from the disk up to here */
    uint64_t                    sent;       /* body bytes handed on */

    ngx_oci_reader_out_t       *out;
    ngx_oci_tail_t             *tail;       /* NULL: there was no need */
    ngx_oci_look_t             *look;       /* likewise */

    unsigned                    handling:1; /* in the content handler */
    unsigned                    member:1;
    unsigned                    stale:1;    /* the registry is out of reach */
    unsigned                    opening:1;
    unsigned                    asked:1;    /* the registry, for a proof */
    unsigned                    proven:1;   /* it gave one, then or before */
    unsigned                    roomed:1;   /* room was made, or tried to */
    unsigned                    reserved:1; /* it has been found */
    unsigned                    header_sent:1;
    unsigned                    text_sent:1;
    unsigned                    flushed:1;  /* the header, before any body */
    unsigned                    sleeping:1; /* for bytes, or for the disk */
    unsigned                    warmed:1;   /* just now */
    unsigned                    joined:1;
    unsigned                    offered:1;  /* a fill had its rights once */
    unsigned                    timer:1;    /* strict: c->write's */
    unsigned                    preheat:1;  /* all is to be stored, nobody wants
                                               the bytes now */
    unsigned                    judged:1;   /* it may be sent */
    unsigned                    pinned:1;   /* that was tried, with this: */
    unsigned                    refused:1;  /* by the registry */
} ngx_oci_reader_t;


/* ngx_oci_want.c */

/*
 * Registers what is missing, if anything is.  NGX_OK; NGX_AGAIN: the registry
 * is asked first to show that it has the blob, or room is made;
 * NGX_BUSY: a back-off is on; NGX_DECLINED: not from the cache.
 */
ngx_int_t ngx_oci_want(ngx_oci_reader_t *rd);
/* offers the caller's rights, if the fill needs somebody's */
void ngx_oci_want_offer(ngx_oci_reader_t *rd);

/* ngx_oci_send.c: all of these may finalize the request */

/* the blob is open (or, for HEAD, its size is known): header, body */
void ngx_oci_send_start(ngx_oci_reader_t *rd);
void ngx_oci_send_body(ngx_oci_reader_t *rd);
/* what was handed on already, then as ngx_oci_send_body() */
void ngx_oci_send_more(ngx_oci_reader_t *rd);
/* may what was sent be other bytes than those that are verified?  Not in the
   middle of a piece */
ngx_uint_t ngx_oci_send_retracted(ngx_oci_reader_t *rd);
/* is it bytes that it sleeps for, and not the verdict?  Finalizes nothing */
ngx_uint_t ngx_oci_send_waits_for_bytes(ngx_oci_reader_t *rd);

/*
 * ngx_oci_warm.c.  NGX_OK: bytes pos to *end, which may be lowered, can be
 * sent without waiting for a disk.  NGX_AGAIN: they are read first, then
 * ngx_oci_send_more() follows.  NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_warm(ngx_oci_reader_t *rd, uint64_t pos, uint64_t *end);

/*
 * ngx_oci_tail.c.  NGX_OK: bytes pos to end of the part that is being sent
 * come from the registry, straight to the client, then ngx_oci_send_body()
 * follows; nothing handed on before is left to be sent.  NGX_ERROR: it can't
 * be, the response has to be cut.
 */
ngx_int_t ngx_oci_tail(ngx_oci_reader_t *rd, uint64_t pos, uint64_t end);
/* is that possible for what was asked? */
ngx_uint_t ngx_oci_tail_may(ngx_oci_reader_t *rd);
/* the request ends; tail may be NULL */
void ngx_oci_tail_leave(ngx_oci_tail_t *tail);

/*
 * ngx_oci_judge.c: as ngx_oci_send_prepare(), before it, with rd->rc of what
 * was refused.
 */
ngx_int_t ngx_oci_judge_blob(ngx_oci_reader_t *rd);
/* the request ends; look may be NULL */
void ngx_oci_judge_leave(ngx_oci_look_t *look);

/*
 * ngx_oci_pin.c: what the edge's own pull has to pin.  NGX_OK: it is, or need
 * not be; NGX_AGAIN: ngx_oci_send_start() follows; NGX_BUSY: it can't be.
 */
ngx_int_t ngx_oci_pin_blob(ngx_oci_reader_t *rd);

/* ngx_oci_reader.c */
/* drops a reference, then runs what was posted for c, if not NULL; the end of
   every continuation, for the request may be gone */
void ngx_oci_reader_run(ngx_oci_reader_t *rd, ngx_connection_t *c);
void ngx_oci_reader_pass(ngx_oci_reader_t *rd);
/* lets the socket be until something else goes on with the reader */
ngx_int_t ngx_oci_reader_rest(ngx_oci_reader_t *rd);
/* waits for bytes or the verdict */
void ngx_oci_reader_sleep(ngx_oci_reader_t *rd);
void ngx_oci_reader_finalize(ngx_oci_reader_t *rd, ngx_int_t rc);
/* cuts the connection: what was promised can't be sent */
void ngx_oci_reader_cut(ngx_oci_reader_t *rd, const char *reason);


#endif /* _NGX_OCI_READER_H_INCLUDED_ */
