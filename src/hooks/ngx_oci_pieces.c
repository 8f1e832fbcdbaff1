
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_pieces.h"

#include <jansson.h>


typedef ngx_int_t (*ngx_oci_pieces_pt)(void *data, ngx_uint_t kind,
    const char *digest, size_t digest_len, off_t size);


static ngx_int_t ngx_oci_pieces_array(json_t *array, ngx_uint_t kind,
    ngx_oci_pieces_pt piece, void *data, const char **error);
static ngx_int_t ngx_oci_pieces_descriptor(json_t *descriptor,
    ngx_uint_t kind, ngx_oci_pieces_pt piece, void *data,
    const char **error);


ngx_int_t
ngx_oci_pieces(const char *text, size_t len,
    ngx_oci_pieces_pt piece, void *data, const char **error)
{
    json_t        *root, *manifests, *config, *layers, *blobs;
    ngx_int_t      rc;
    json_error_t   err;

    root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &err);

    if (!json_is_object(root)) {
        json_decref(root);
        *error = "it is no JSON object";
        return NGX_DECLINED;
    }

    manifests = json_object_get(root, "manifests");
    config = json_object_get(root, "config");
    layers = json_object_get(root, "layers");
    blobs = json_object_get(root, "blobs");

    if (manifests && (config || layers || blobs)) {
        *error = "it is an index and a manifest at once";
        rc = NGX_DECLINED;

    } else if (manifests == NULL && layers == NULL && blobs == NULL) {
        *error = "it names neither manifests nor layers";
        rc = NGX_DECLINED;

    } else {
        rc = ngx_oci_pieces_array(manifests, NGX_OCI_PIECE_MANIFEST, piece,
                                    data, error);

        if (rc == NGX_OK && config) {
            rc = ngx_oci_pieces_descriptor(config, NGX_OCI_PIECE_BLOB,
                                             piece, data, error);
        }

        if (rc == NGX_OK) {
            rc = ngx_oci_pieces_array(layers, NGX_OCI_PIECE_BLOB, piece,
                                        data, error);
        }

        if (rc == NGX_OK) {
            rc = ngx_oci_pieces_array(blobs, NGX_OCI_PIECE_BLOB, piece,
                                        data, error);
        }
    }

    json_decref(root);

    return rc;
}


static ngx_int_t
ngx_oci_pieces_array(json_t *array, ngx_uint_t kind,
    ngx_oci_pieces_pt piece, void *data, const char **error)
{
    size_t      i;
    json_t     *descriptor;
    ngx_int_t   rc;

    if (array == NULL) {
        return NGX_OK;
    }

    if (!json_is_array(array)) {
        *error = "descriptors are to be an array";
        return NGX_DECLINED;
    }

    json_array_foreach(array, i, descriptor) {

        rc = ngx_oci_pieces_descriptor(descriptor, kind, piece, data,
                                         error);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_pieces_descriptor(json_t *descriptor, ngx_uint_t kind,
    ngx_oci_pieces_pt piece, void *data, const char **error)
{
    json_t            *digest, *size, *urls, *type;
    ngx_oci_digest_t   parsed;

    digest = json_object_get(descriptor, "digest");
    size = json_object_get(descriptor, "size");
    urls = json_object_get(descriptor, "urls");
    type = json_object_get(descriptor, "mediaType");

    if (!json_is_string(digest) || !json_is_integer(size)
        || json_integer_value(size) < 0
        || ngx_oci_digest_parse(&parsed, (u_char *) json_string_value(digest),
                                json_string_length(digest))
           != NGX_OK)
    {
        *error = "a descriptor has no right digest and size";
        return NGX_DECLINED;
    }

    /* registries need not have such layers */

    if (json_array_size(urls) && json_is_string(type)
        && (strstr(json_string_value(type), "nondistributable")
            || strstr(json_string_value(type), ".foreign.")))
    {
        return NGX_OK;
    }

    return piece(data, kind, json_string_value(digest),
                 json_string_length(digest), json_integer_value(size));
}
