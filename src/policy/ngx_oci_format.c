
/*
 * Copyright (C) The nginx-oci authors
 *
 * What formats there are.
 */


#include "ngx_oci_format.h"


static struct {
    const char  *name;
    ngx_uint_t   bit;
} ngx_oci_formats[] = {

    /* the worst first: names are found in this order */

    { "pickle", NGX_OCI_FORMAT_PICKLE },
    { "executable", NGX_OCI_FORMAT_EXECUTABLE },
    { "keras", NGX_OCI_FORMAT_KERAS },
    { "hdf5", NGX_OCI_FORMAT_HDF5 },
    { "npz", NGX_OCI_FORMAT_NPZ },
    { "zip", NGX_OCI_FORMAT_ZIP },
    { "npy", NGX_OCI_FORMAT_NPY },
    { "ggml", NGX_OCI_FORMAT_GGML },
    { "tflite", NGX_OCI_FORMAT_TFLITE },
    { "onnx", NGX_OCI_FORMAT_ONNX },
    { "gguf", NGX_OCI_FORMAT_GGUF },
    { "safetensors", NGX_OCI_FORMAT_SAFETENSORS },
    { NULL, 0 }
};


ngx_uint_t
ngx_oci_format_bit(const char *name)
{
    ngx_uint_t  i;

    for (i = 0; ngx_oci_formats[i].name; i++) {
        if (strcmp(ngx_oci_formats[i].name, name) == 0) {
            return ngx_oci_formats[i].bit;
        }
    }

    return 0;
}


const char *
ngx_oci_format_name(ngx_uint_t bits)
{
    ngx_uint_t  i;

    for (i = 0; ngx_oci_formats[i].name; i++) {
        if (ngx_oci_formats[i].bit & bits) {
            return ngx_oci_formats[i].name;
        }
    }

    return "an unknown format";
}


ngx_uint_t
ngx_oci_format_refused(ngx_uint_t bits, ngx_uint_t allow, ngx_uint_t refuse,
    ngx_uint_t opaque)
{
    ngx_uint_t  bad;

    bad = bits & refuse;

    if (allow) {
        bad |= bits & ~allow;
    }

    if (opaque) {
        return bad & ~NGX_OCI_FORMAT_UNKNOWN;
    }

    return bad | (bits & NGX_OCI_FORMAT_UNKNOWN);
}
