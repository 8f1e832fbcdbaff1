
/*
 * Copyright (C) The nginx-oci authors
 *
 * Differences between the nginx versions that are supported (1.22.1 and
 * newer), and between builds, nowhere else.
 */


#ifndef _NGX_OCI_COMPAT_H_INCLUDED_
#define _NGX_OCI_COMPAT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <nginx.h>


#if (nginx_version < 1022001)
#error nginx 1.22.1 or newer is required
#endif

#if !(NGX_THREADS)
#error nginx built --with-threads is required
#endif


/* exported, but in no header of nginx */

extern ngx_module_t  ngx_thread_pool_module;


/* since 1.23.0 headers of one name are linked through a "next" field */

#if (nginx_version >= 1023000)
#define ngx_oci_header_unlink(h)  (h)->next = NULL
#else
#define ngx_oci_header_unlink(h)
#endif


/* since 1.27.2 trailers may be kept */

#if (nginx_version >= 1027002)
#define ngx_oci_parse_chunked(r, b, ctx)  ngx_http_parse_chunked(r, b, ctx, 0)
#else
#define ngx_oci_parse_chunked(r, b, ctx)  ngx_http_parse_chunked(r, b, ctx)
#endif


#endif /* _NGX_OCI_COMPAT_H_INCLUDED_ */
