
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_pieces.h"

#include <jansson.h>


typedef ngx_int_t (*ngx_oci_pieces_pt)(void *data, ngx_uint_t kind,
    const char *digest, size_t digest_len, off_t size);


/* what an index says of one of its manifests */

typedef struct {
    const char  *os;                /* NULL: it has no platform */
    const char  *architecture;
    const char  *variant;
    const char  *subject;           /* whose attestation it is, or NULL */
} ngx_oci_pieces_platform_t;


static ngx_int_t ngx_oci_pieces_index(json_t *array, ngx_str_t *platforms,
    ngx_oci_pieces_pt piece, void *data, const char **error);
static ngx_int_t ngx_oci_pieces_chosen(json_t *array, json_t *chosen,
    ngx_oci_pieces_pt piece, void *data, const char **error);
static json_t *ngx_oci_pieces_choose(json_t *array, ngx_str_t *platforms);
static void ngx_oci_pieces_platform(json_t *descriptor,
    ngx_oci_pieces_platform_t *platform);
static ngx_int_t ngx_oci_pieces_array(json_t *array, ngx_uint_t kind,
    ngx_oci_pieces_pt piece, void *data, const char **error);
static ngx_int_t ngx_oci_pieces_descriptor(json_t *descriptor,
    ngx_uint_t kind, ngx_oci_pieces_pt piece, void *data,
    const char **error);


ngx_int_t
ngx_oci_pieces(const char *text, size_t len, ngx_str_t *platforms,
    ngx_oci_pieces_pt piece, void *data, const char **error)
{
    json_t        *root, *manifests, *config, *layers, *blobs;
    ngx_int_t      rc;
    json_error_t   err;

    if (ngx_oci_json_values((u_char *) text, len) > NGX_OCI_JSON_VALUES) {
        *error = "it has too many values";
        return NGX_DECLINED;
    }

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
        rc = platforms->len
             ? ngx_oci_pieces_index(manifests, platforms, piece, data, error)
             : ngx_oci_pieces_array(manifests, NGX_OCI_PIECE_MANIFEST, piece,
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
ngx_oci_pieces_index(json_t *array, ngx_str_t *platforms,
    ngx_oci_pieces_pt piece, void *data, const char **error)
{
    json_t     *chosen;
    ngx_int_t   rc;

    if (array == NULL) {
        return NGX_OK;
    }

    if (!json_is_array(array)) {
        *error = "descriptors are to be an array";
        return NGX_DECLINED;
    }

    chosen = ngx_oci_pieces_choose(array, platforms);
    if (chosen == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_oci_pieces_chosen(array, chosen, piece, data, error);

    if (rc == NGX_OK && json_array_size(array)
        && json_object_size(chosen) == 0)
    {
        *error = "it has nothing for these platforms";
        rc = NGX_DECLINED;
    }

    json_decref(chosen);

    return rc;
}


static ngx_int_t
ngx_oci_pieces_chosen(json_t *array, json_t *chosen, ngx_oci_pieces_pt piece,
    void *data, const char **error)
{
    char                        text[NGX_OCI_PLATFORM_TEXT];
    size_t                      i, len;
    json_t                     *descriptor;
    ngx_int_t                   rc;
    const char                 *digest;
    ngx_oci_pieces_platform_t   platform;

    json_array_foreach(array, i, descriptor) {

        ngx_oci_pieces_platform(descriptor, &platform);

        digest = json_string_value(json_object_get(descriptor, "digest"));

        if (json_object_get(chosen, platform.subject ? platform.subject
                                                     : digest))
        {
            rc = ngx_oci_pieces_descriptor(descriptor, NGX_OCI_PIECE_MANIFEST,
                                           piece, data, error);

        } else if (digest == NULL) {
            *error = "a descriptor has no right digest and size";
            rc = NGX_DECLINED;

        } else if (platform.os && platform.subject == NULL) {
            len = ngx_oci_platform_text(text, platform.os,
                                        platform.architecture,
                                        platform.variant);

            rc = piece(data, NGX_OCI_PIECE_LEFT_OUT, text, len, 0);

        } else {
            rc = NGX_OK;
        }

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


/* digests of manifests, but for attestations; NULL: no memory */

static json_t *
ngx_oci_pieces_choose(json_t *array, ngx_str_t *platforms)
{
    size_t                      i;
    json_t                     *descriptor, *chosen;
    const char                 *digest;
    ngx_oci_pieces_platform_t   p;

    chosen = json_object();

    json_array_foreach(array, i, descriptor) {

        ngx_oci_pieces_platform(descriptor, &p);

        digest = json_string_value(json_object_get(descriptor, "digest"));

        if (digest == NULL || p.subject
            || (p.os && !ngx_oci_platforms_have(platforms, p.os,
                                                p.architecture, p.variant)))
        {
            continue;
        }

        if (json_object_set_new(chosen, digest, json_true()) != 0) {
            json_decref(chosen);
            return NULL;
        }
    }

    return chosen;
}


static void
ngx_oci_pieces_platform(json_t *descriptor,
    ngx_oci_pieces_platform_t *platform)
{
    json_t  *p, *annotations;

    p = json_object_get(descriptor, "platform");
    annotations = json_object_get(descriptor, "annotations");

    platform->os = json_string_value(json_object_get(p, "os"));
    platform->architecture = json_string_value(json_object_get(p,
                                                   "architecture"));
    platform->variant = json_string_value(json_object_get(p, "variant"));
    platform->subject = json_string_value(json_object_get(annotations,
                                              "vnd.docker.reference.digest"));

    if (platform->architecture == NULL) {
        platform->os = NULL;
    }

    if (platform->os == NULL || strcmp(platform->os, "unknown") != 0) {
        platform->subject = NULL;
    }
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
