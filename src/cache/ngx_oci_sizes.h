
/*
 * Copyright (C) The nginx-oci authors
 *
 * What manifests said of the sizes of blobs, for registries that do not say
 * it: claims, of which only a digest knows whether they are right.  In shared
 * memory, in a table of a size that depends on the zone's only; what was not
 * used for longest gives way.
 */


#ifndef _NGX_OCI_SIZES_H_INCLUDED_
#define _NGX_OCI_SIZES_H_INCLUDED_


#include "ngx_oci_cache.h"


#define NGX_OCI_SIZES_MAX  4096         /* descriptors of one manifest */


/* a descriptor; takes less memory than its text */

struct ngx_oci_size_s {
    uint64_t    digest;                 /* its first bytes */
    int64_t     size;                   /* bytes */
};


/* called from ngx_oci_refs_init() */
ngx_int_t ngx_oci_sizes_init(ngx_oci_cache_t *cache);

/*
 * The descriptors in a manifest's text, in any thread.  malloc()ed, the
 * caller's; NULL: there are none, or there is no memory.
 */
ngx_oci_size_t *ngx_oci_sizes_list(u_char *p, size_t len, ngx_uint_t *n);

/* a manifest with these was served from the repository */
void ngx_oci_sizes_put(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_oci_size_t *sizes, ngx_uint_t n);

/* -1: no manifest of the repository said it, or it proved wrong lately */
off_t ngx_oci_sizes_get(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_oci_digest_t *digest);

/* bytes of this size were not the blob, or did not come */
void ngx_oci_sizes_doubt(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_oci_digest_t *digest, off_t size);


#endif /* _NGX_OCI_SIZES_H_INCLUDED_ */
