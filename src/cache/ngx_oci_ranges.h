
/*
 * Copyright (C) The nginx-oci authors
 *
 * Conditions, ranges and the usual headers of a blob or a manifest, whose
 * entity tag is its quoted digest.
 */


#ifndef _NGX_OCI_RANGES_H_INCLUDED_
#define _NGX_OCI_RANGES_H_INCLUDED_


#include "ngx_oci_cache.h"


#define NGX_OCI_RANGES_MAX    1024


/* a piece of the response: text (of a multipart) and a stretch of the object */

typedef struct {
    ngx_str_t                   text;
    uint64_t                    pos;
    uint64_t                    end;
} ngx_oci_part_t;


typedef struct {
    /* set by the caller */
    ngx_pool_t                 *pool;       /* for parts and texts */
    ngx_str_t                   digest;     /* text */
    ngx_str_t                   type;       /* Content-Type of the object */
    uint64_t                    size;       /* bytes */

    ngx_oci_part_t             *parts;      /* NULL: not prepared */
    ngx_uint_t                  nparts;     /* 0: nothing but a header */
    ngx_str_t                   tail;       /* after the last part */
    ngx_uint_t                  whole;      /* every byte of it */
} ngx_oci_ranges_t;


/*
 * RFC 9110, sections 13 and 14: evaluates If-Match, If-None-Match, Range and
 * If-Range and sets status, length, type and Content-Range of the response.
 * NGX_OK: send the header and the parts; NGX_DONE: answered with an error,
 * finalize the request with *rc; NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_ranges_prepare(ngx_http_request_t *r,
    ngx_oci_ranges_t *rg, ngx_int_t *rc);

/* takes back what ngx_oci_ranges_prepare() set: somebody else answers */
void ngx_oci_ranges_clear(ngx_http_request_t *r);

/*
 * Adds ETag, Docker-Content-Digest, Docker-Distribution-Api-Version,
 * Accept-Ranges and Cache-Status (RFC 9211) and sends the header: returns
 * what ngx_http_send_header() does.
 */
ngx_int_t ngx_oci_ranges_send_header(ngx_http_request_t *r,
    ngx_oci_ranges_t *rg, ngx_str_t *cache_status);

/* adds a header; name and value must stay.  NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_ranges_add(ngx_http_request_t *r, const char *name,
    ngx_str_t *value);


#endif /* _NGX_OCI_RANGES_H_INCLUDED_ */
