
/*
 * Copyright (C) The nginx-oci authors
 *
 * The request grammar of the OCI distribution specification 1.1, section
 * "Endpoints".  Pure: needs ngx_string and libc only.
 */


#ifndef _NGX_OCI_ROUTE_H_INCLUDED_
#define _NGX_OCI_ROUTE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_OCI_NAME_MAX      255   /* bytes of a repository name */
#define NGX_OCI_TAG_MAX       128   /* bytes of a tag */
#define NGX_OCI_DIGEST_BYTES  64    /* largest binary digest */
#define NGX_OCI_DIGEST_LEN    (sizeof("sha512:") - 1 + 128)


typedef enum {
    NGX_OCI_DIGEST_NONE = 0,
    NGX_OCI_SHA256,
    NGX_OCI_SHA512
} ngx_oci_digest_alg_e;


typedef struct {
    ngx_uint_t    alg;              /* ngx_oci_digest_alg_e */
    size_t        size;             /* bytes used: 32 or 64 */
    u_char        bytes[NGX_OCI_DIGEST_BYTES];
} ngx_oci_digest_t;


typedef enum {
    NGX_OCI_ROUTE_OTHER = 0,        /* _catalog, extensions */
    NGX_OCI_ROUTE_PING,             /* /v2/ */
    NGX_OCI_ROUTE_BLOB,             /* /v2/<name>/blobs/<digest> */
    NGX_OCI_ROUTE_MANIFEST,         /* /v2/<name>/manifests/<digest> */
    NGX_OCI_ROUTE_TAG,              /* /v2/<name>/manifests/<tag> */
    NGX_OCI_ROUTE_REFERRERS,        /* /v2/<name>/referrers/<digest> */
    NGX_OCI_ROUTE_TAGS_LIST,        /* /v2/<name>/tags/list */
    NGX_OCI_ROUTE_UPLOAD,           /* /v2/<name>/blobs/uploads/[...] */
    NGX_OCI_ROUTE_N
} ngx_oci_route_e;


typedef enum {
    NGX_OCI_ERR_NAME_INVALID = 0,
    NGX_OCI_ERR_NAME_UNKNOWN,
    NGX_OCI_ERR_DIGEST_INVALID,
    NGX_OCI_ERR_TAG_INVALID,        /* sent as MANIFEST_INVALID */
    NGX_OCI_ERR_MANIFEST_UNKNOWN,
    NGX_OCI_ERR_MANIFEST_INVALID,
    NGX_OCI_ERR_BLOB_UNKNOWN,
    NGX_OCI_ERR_SIZE_INVALID,
    NGX_OCI_ERR_UNAUTHORIZED,
    NGX_OCI_ERR_DENIED,
    NGX_OCI_ERR_UNSUPPORTED,
    NGX_OCI_ERR_TOOMANYREQUESTS,
    NGX_OCI_ERR_UNAVAILABLE,
    NGX_OCI_ERR_UNKNOWN,
    NGX_OCI_ERR_POLICY              /* of an artifact; as Harbor has it */
} ngx_oci_error_e;


typedef struct {
    ngx_uint_t        route;        /* ngx_oci_route_e */
    ngx_str_t         repository;   /* points into the URI; "" for none */
    ngx_str_t         reference;    /* tag, digest or upload id; "" for none */
    ngx_oci_digest_t  digest;       /* alg NONE unless reference is one */
    ngx_str_t         args;         /* after "?", without it */
} ngx_oci_route_t;


/*
 * Parses the raw (undecoded) request target, path and query, into *route.
 * The path is read from the right: names and upload ids may hold any of the
 * API's words, and what ends as the path of a manifest, blob or referrers
 * list is one, not an upload's id.  The query is checked for control bytes,
 * spaces and "#" only.
 * The one escape that is accepted is "%3A" (any case) for the colon of a
 * digest: then and only then route->reference is a decoded copy in buf,
 * which must hold NGX_OCI_DIGEST_LEN bytes.
 *
 * Returns NGX_OK; NGX_DECLINED where the path is not an endpoint of the API
 * (404); NGX_ERROR where a part of it is malformed (400).  In the latter
 * two *code is the error to report.
 */
ngx_int_t ngx_oci_route_parse(ngx_oci_route_t *route, ngx_str_t *target,
    u_char *buf, ngx_uint_t *code);

/*
 * Parses "<alg>:<hex>" of a registered algorithm (OCI image-spec,
 * descriptor, "Digests"): sha256 with 64, sha512 with 128 lower-case hex
 * digits.  NGX_OK; NGX_DECLINED for a well-formed digest of an algorithm
 * that is not known here; NGX_ERROR for anything else.
 */
ngx_int_t ngx_oci_digest_parse(ngx_oci_digest_t *digest, u_char *p,
    size_t len);

/* Writes "<alg>:<hex>" (at most NGX_OCI_DIGEST_LEN bytes), returns the end. */
u_char *ngx_oci_digest_print(u_char *p, ngx_oci_digest_t *digest);

/* NGX_OK if the text is a repository name / a tag of the grammar. */
ngx_int_t ngx_oci_name_valid(u_char *p, size_t len);
ngx_int_t ngx_oci_tag_valid(u_char *p, size_t len);

/* does a repository's name match a pattern? */

#define NGX_OCI_PATTERN_STARS  8    /* in one pattern */

ngx_uint_t ngx_oci_pattern_match(ngx_str_t *pattern, ngx_str_t *name);

/* NULL: it is a pattern, else why it is none */
const char *ngx_oci_pattern_check(const char *p, size_t len);

/*
 * About how many values a JSON text has: as many as there are signs that part
 * or begin one.  A tree of them takes a hundred times the text: it is looked
 * at before there is one.
 */
ngx_uint_t ngx_oci_json_values(const u_char *p, size_t len);

#define NGX_OCI_JSON_VALUES    131072   /* in a manifest */

#define ngx_oci_digest_equal(a, b)                                            \
    ((a)->alg == (b)->alg                                                     \
     && ngx_memcmp((a)->bytes, (b)->bytes, (a)->size) == 0)


#endif /* _NGX_OCI_ROUTE_H_INCLUDED_ */
