
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a manifest says of what it names.
 */


#ifndef _NGX_OCI_DESCRIPTOR_H_INCLUDED_
#define _NGX_OCI_DESCRIPTOR_H_INCLUDED_


#include "ngx_oci_route.h"


#define NGX_OCI_DESCRIPTOR_DEPTH  32    /* of objects and arrays */


/* one descriptor; size: in bytes, > 0.  NGX_OK, anything else ends the walk */

typedef ngx_int_t (*ngx_oci_descriptor_pt)(void *data,
    ngx_oci_digest_t *digest, off_t size);

/*
 * Walks through the JSON text of a manifest or an index, OCI's or Docker's,
 * and calls the handler for each object, wherever it stands, that has a
 * "digest" of a known algorithm and a positive "size".  Takes no memory;
 * NGX_ERROR: the text is not JSON from some place on, or too deep: what stands
 * before was handed out.
 */
ngx_int_t ngx_oci_descriptors(u_char *p, size_t len,
    ngx_oci_descriptor_pt handler, void *data);


#endif /* _NGX_OCI_DESCRIPTOR_H_INCLUDED_ */
