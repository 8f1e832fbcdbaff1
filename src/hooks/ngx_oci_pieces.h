
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a manifest consists of (OCI image-spec, "Image Index" and "Image
 * Manifest").  Pure: needs libc and jansson only.
 */


#ifndef _NGX_OCI_PIECES_H_INCLUDED_
#define _NGX_OCI_PIECES_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_oci_route.h"
#include "ngx_oci_platform.h"


typedef enum {
    NGX_OCI_PIECE_MANIFEST = 0,
    NGX_OCI_PIECE_BLOB,
    NGX_OCI_PIECE_LEFT_OUT      /* of another platform, whose text is in the
                                   place of the digest */
} ngx_oci_piece_e;


/*
 * Calls piece() for all that a manifest's text names: an index's manifests,
 * a manifest's config and layers, but for what is to be had elsewhere only
 * ("urls" of layers that aren't distributed).  size: bytes.
 *
 * platforms: a list, or empty: all.  An index's manifests of others are left
 * out, with what was said of them by whoever built them (BuildKit's
 * attestations); those without a platform are not.
 *
 * NGX_OK; NGX_DECLINED: it is no manifest, or an index with nothing for these
 * platforms, error says why; or what piece() returned, which was not NGX_OK.
 */
ngx_int_t ngx_oci_pieces(const char *text, size_t len, ngx_str_t *platforms,
    ngx_int_t (*piece)(void *data, ngx_uint_t kind, const char *digest,
    size_t digest_len, off_t size), void *data, const char **error);


#endif /* _NGX_OCI_PIECES_H_INCLUDED_ */
