
/*
 * Copyright (C) The nginx-oci authors
 *
 * A registry's word that it has no such manifest, for a few seconds: so that
 * a fleet that asks for what is not there yet does not ask the registry each
 * time.  Its answer is remembered per request as the registry saw it (method,
 * URI, Accept, Authorization, Cookie), if it is short, in a table of a size
 * that depends on the zone's only.  Void after a push, a removal or a purge in
 * the repository.
 */


#ifndef _NGX_OCI_NEGATIVE_H_INCLUDED_
#define _NGX_OCI_NEGATIVE_H_INCLUDED_


#include "ngx_oci_manifest.h"


/* called from ngx_oci_refs_init() */
ngx_int_t ngx_oci_negative_init(ngx_oci_cache_t *cache);

/* from the postconfiguration: the filters that see what is passed on */
void ngx_oci_negative_init_filter(void);

/* 1: the registry said so not long ago, the request was finalized with that */
ngx_uint_t ngx_oci_negative_send(ngx_oci_manifest_t *mf);


#endif /* _NGX_OCI_NEGATIVE_H_INCLUDED_ */
