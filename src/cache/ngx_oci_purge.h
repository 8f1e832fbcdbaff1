
/*
 * Copyright (C) The nginx-oci authors
 *
 * What is taken back by a request to an oci_cache_purge location:
 * ngx_oci_purge.c, with ngx_oci_purge_blob.c for files.
 */


#ifndef _NGX_OCI_PURGE_H_INCLUDED_
#define _NGX_OCI_PURGE_H_INCLUDED_


#include "ngx_oci_cache.h"


/* an oci_cache_purge location */

struct ngx_oci_purge_conf_s {
    ngx_oci_registry_t         *registry;   /* NULL: name tells */
    ngx_http_complex_value_t    name;
    ngx_str_t                   prefix;     /* of URIs, before "/v2/" */
    u_char                     *file;       /* of the directive, for errors */
    ngx_uint_t                  line;
};


/* "oci_cache_purge name | $variable" */
char *ngx_oci_purge_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/*
 * Unlinks the files of a blob; waits for the disk: call it in a thread.
 * Readers go on.  origin: only if it came from this registry, or this one has
 * shown that it has it, unless any is set.  NGX_OK: gone, *bytes were stored;
 * NGX_AGAIN: they go when nobody fills it any more; NGX_DECLINED: there are
 * none; NGX_BUSY: another nginx fills it; NGX_ERROR: logged.
 */
ngx_int_t ngx_oci_purge_blob(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, uint32_t origin, ngx_uint_t any,
    uint64_t *bytes, ngx_log_t *log);

/* tries it again, in a thread, for an entry that waited for its fill's end */
void ngx_oci_purge_doomed(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest);


#endif /* _NGX_OCI_PURGE_H_INCLUDED_ */
