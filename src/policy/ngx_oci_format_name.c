
/*
 * Copyright (C) The nginx-oci authors
 *
 * What names of files and media types say of a format.  They may lie: what
 * they say is refused if it is to be, but allows nothing by itself.
 */


#include "ngx_oci_rules_manifest.h"

#include <strings.h>


typedef struct {
    const char  *text;
    ngx_uint_t   bits;
} ngx_oci_format_text_t;


/* what a name ends with; 0: weights, of some format */

static ngx_oci_format_text_t  ngx_oci_format_suffixes[] = {
    { ".safetensors", NGX_OCI_FORMAT_SAFETENSORS },
    { ".gguf", NGX_OCI_FORMAT_GGUF },
    { ".ggml", NGX_OCI_FORMAT_GGML },
    { ".onnx", NGX_OCI_FORMAT_ONNX },
    { ".tflite", NGX_OCI_FORMAT_TFLITE },
    { ".npy", NGX_OCI_FORMAT_NPY },
    { ".npz", NGX_OCI_FORMAT_NPZ },
    { ".h5", NGX_OCI_FORMAT_HDF5 },
    { ".hdf5", NGX_OCI_FORMAT_HDF5 },
    { ".keras", NGX_OCI_FORMAT_KERAS },
    { ".pt", NGX_OCI_FORMAT_PICKLE },
    { ".pt2", NGX_OCI_FORMAT_PICKLE },
    { ".pth", NGX_OCI_FORMAT_PICKLE },
    { ".ptl", NGX_OCI_FORMAT_PICKLE },
    { ".ckpt", NGX_OCI_FORMAT_PICKLE },
    { ".pkl", NGX_OCI_FORMAT_PICKLE },
    { ".pickle", NGX_OCI_FORMAT_PICKLE },
    { ".joblib", NGX_OCI_FORMAT_PICKLE },
    { ".dill", NGX_OCI_FORMAT_PICKLE },
    { ".torchscript", NGX_OCI_FORMAT_PICKLE },
    { ".mar", NGX_OCI_FORMAT_PICKLE },
    { ".nemo", NGX_OCI_FORMAT_PICKLE },
    { "pytorch_model.bin", NGX_OCI_FORMAT_PICKLE },
    { "adapter_model.bin", NGX_OCI_FORMAT_PICKLE },
    { "training_args.bin", NGX_OCI_FORMAT_PICKLE },
    { ".llamafile", NGX_OCI_FORMAT_EXECUTABLE },
    { ".exe", NGX_OCI_FORMAT_EXECUTABLE },
    { ".dll", NGX_OCI_FORMAT_EXECUTABLE },
    { ".so", NGX_OCI_FORMAT_EXECUTABLE },
    { ".dylib", NGX_OCI_FORMAT_EXECUTABLE },
    { ".dduf", NGX_OCI_FORMAT_ZIP },
    { ".bin", 0 },
    { ".pb", 0 },
    { ".msgpack", 0 },
    { ".engine", 0 },
    { ".plan", 0 },
    { NULL, 0 }
};


/* what a media type has in it */

static ngx_oci_format_text_t  ngx_oci_format_types[] = {
    { "safetensors", NGX_OCI_FORMAT_SAFETENSORS },
    { "gguf", NGX_OCI_FORMAT_GGUF },
    { "docker.ai.mmproj", NGX_OCI_FORMAT_GGUF },
    { "docker.ai.dduf", NGX_OCI_FORMAT_ZIP },
    { "onnx", NGX_OCI_FORMAT_ONNX },
    { "tflite", NGX_OCI_FORMAT_TFLITE },
    { "pickle", NGX_OCI_FORMAT_PICKLE },
    { "pytorch", NGX_OCI_FORMAT_PICKLE },
    { "torchscript", NGX_OCI_FORMAT_PICKLE },
    { "joblib", NGX_OCI_FORMAT_PICKLE },
    { "hdf5", NGX_OCI_FORMAT_HDF5 },
    { "keras", NGX_OCI_FORMAT_KERAS },
    { "gzip", NGX_OCI_FORMAT_UNKNOWN },
    { "zstd", NGX_OCI_FORMAT_UNKNOWN },
    { NULL, 0 }
};


/* and those of weights */

static const char  *ngx_oci_format_weights[] = {
    ".cncf.model.weight.v",
    ".cnai.model.weight.v",
    ".kitops.modelkit.model.",
    ".kitops.modelkit.modelpart.",
    ".ollama.image.model",
    ".ollama.image.adapter",
    ".ollama.image.projector",
    ".ollama.image.tensor",
    ".ollama.image.embed",
    ".ollama.image.draft",
    ".docker.ai.model.file",
    NULL
};


ngx_uint_t
ngx_oci_format_of_name(const char *name, ngx_uint_t *weight)
{
    size_t      len, n;
    ngx_uint_t  i;

    len = strlen(name);

    /* what some file systems take away */

    while (len && (name[len - 1] == ' ' || name[len - 1] == '.')) {
        len--;
    }

    for (i = 0; ngx_oci_format_suffixes[i].text; i++) {

        n = strlen(ngx_oci_format_suffixes[i].text);

        if (len >= n
            && strncasecmp(name + len - n, ngx_oci_format_suffixes[i].text, n)
               == 0)
        {
            *weight = 1;
            return ngx_oci_format_suffixes[i].bits;
        }
    }

    return 0;
}


ngx_uint_t
ngx_oci_format_of_type(const char *type, ngx_uint_t *weight)
{
    ngx_uint_t  i, bits;

    bits = 0;

    for (i = 0; ngx_oci_format_types[i].text; i++) {

        if (strcasestr(type, ngx_oci_format_types[i].text)) {
            bits |= ngx_oci_format_types[i].bits;
        }
    }

    if (bits & ~NGX_OCI_FORMAT_UNKNOWN) {
        *weight = 1;
    }

    for (i = 0; ngx_oci_format_weights[i]; i++) {

        if (strcasestr(type, ngx_oci_format_weights[i])) {
            *weight = 1;
        }
    }

    return bits;
}
