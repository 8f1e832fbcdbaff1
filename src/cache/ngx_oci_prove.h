
/*
 * Copyright (C) The nginx-oci authors
 */


#ifndef _NGX_OCI_PROVE_H_INCLUDED_
#define _NGX_OCI_PROVE_H_INCLUDED_


#include "ngx_oci_blob.h"


/* one who waits for a proof; the place is the waiter's own */

typedef struct {
    ngx_queue_t          queue;
    ngx_uint_t           waiting;
    /* NGX_OK: proven, and remembered; bytes: of the registry's answer */
    void               (*handler)(void *data, ngx_int_t rc, off_t bytes);
    void                *data;
} ngx_oci_prove_waiter_t;


/*
 * Does the request's registry have a verified blob that came from another
 * one?  It is asked for ranges at places that can't be foreseen, with the
 * caller's credentials, as a probe is; only 206 with exactly the stored bytes
 * at each of them proves it.  Equal questions of a worker are one.  handler()
 * follows from the event loop.  NGX_OK or NGX_ERROR (no handler() then).
 */
ngx_int_t ngx_oci_prove(ngx_oci_blob_t *blob, ngx_oci_ctx_t *ctx,
    ngx_oci_prove_waiter_t *waiter);
void ngx_oci_prove_leave(ngx_oci_prove_waiter_t *waiter);

void ngx_oci_prove_init_process(void);


#endif /* _NGX_OCI_PROVE_H_INCLUDED_ */
