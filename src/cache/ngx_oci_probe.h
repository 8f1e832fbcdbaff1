
/*
 * Copyright (C) The nginx-oci authors
 */


#ifndef _NGX_OCI_PROBE_H_INCLUDED_
#define _NGX_OCI_PROBE_H_INCLUDED_


#include "ngx_oci_cache.h"


/* what a probe found */

typedef struct {
    ngx_int_t            rc;        /* NGX_OK: the caller may read the blob */
    ngx_uint_t           status;    /* the registry's; 0: none, or one that
                                       can't be a registry's */
    off_t                size;      /* bytes; -1 unknown */
    ngx_uint_t           claimed;   /* not the registry says it, but only a
                                       manifest */
    ngx_uint_t           timedout;
} ngx_oci_probe_result_t;


/* one who waits for a probe; the place is the waiter's own */

typedef struct {
    ngx_queue_t          queue;
    ngx_uint_t           waiting;
    void               (*handler)(void *data, ngx_oci_probe_result_t *result);
    void                *data;
} ngx_oci_probe_waiter_t;


/*
 * Asks the registry for the blob's first byte with the caller's credentials:
 * a 2xx proves that the digest belongs to the repository and that this
 * caller may read it, both of which are remembered, and tells its size.
 * With method HEAD it only tells the size; nothing is remembered.  size: what
 * the registry said of it before, or the bytes, where they are verified; or
 * -1.  An answer that contradicts proves nothing; one without a size needs a
 * manifest of the repository that told it.
 * Equal probes of a worker are one exchange.  handler() follows from the
 * event loop.  NGX_OK or NGX_ERROR (no handler() then).
 */
ngx_int_t ngx_oci_probe(ngx_oci_cache_t *cache, ngx_oci_ctx_t *ctx,
    ngx_uint_t method, off_t size, ngx_oci_probe_waiter_t *waiter);
void ngx_oci_probe_leave(ngx_oci_probe_waiter_t *waiter);


void ngx_oci_probe_init_process(void);


#endif /* _NGX_OCI_PROBE_H_INCLUDED_ */
