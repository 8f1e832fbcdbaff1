
/*
 * Copyright (C) The nginx-oci authors
 *
 * Formats by the first bytes of a file.
 */


#include "ngx_oci_format_look.h"


#define NGX_OCI_SAFETENSORS_MAX  100000000      /* bytes of its header */


/* what a file begins with */

static struct {
    size_t       len;
    const char  *bytes;
    ngx_uint_t   bits;
} ngx_oci_format_magics[] = {
    { 4, "GGUF", NGX_OCI_FORMAT_GGUF },
    { 4, "lmgg", NGX_OCI_FORMAT_GGML },
    { 4, "fmgg", NGX_OCI_FORMAT_GGML },
    { 4, "tjgg", NGX_OCI_FORMAT_GGML },
    { 4, "algg", NGX_OCI_FORMAT_GGML },

    { 4, "\177ELF", NGX_OCI_FORMAT_EXECUTABLE },
    { 2, "MZ", NGX_OCI_FORMAT_EXECUTABLE },
    { 2, "#!", NGX_OCI_FORMAT_EXECUTABLE },
    { 4, "\376\355\372\316", NGX_OCI_FORMAT_EXECUTABLE },
    { 4, "\376\355\372\317", NGX_OCI_FORMAT_EXECUTABLE },
    { 4, "\316\372\355\376", NGX_OCI_FORMAT_EXECUTABLE },
    { 4, "\317\372\355\376", NGX_OCI_FORMAT_EXECUTABLE },
    { 4, "\312\376\272\276", NGX_OCI_FORMAT_EXECUTABLE },
    { 4, "\0asm", NGX_OCI_FORMAT_EXECUTABLE },

    { 2, "\037\213", NGX_OCI_FORMAT_UNKNOWN },              /* gzip */
    { 2, "\037\235", NGX_OCI_FORMAT_UNKNOWN },              /* compress */
    { 3, "BZh", NGX_OCI_FORMAT_UNKNOWN },
    { 6, "\3757zXZ\0", NGX_OCI_FORMAT_UNKNOWN },
    { 4, "\050\265\057\375", NGX_OCI_FORMAT_UNKNOWN },      /* zstd */
    { 4, "\004\042\115\030", NGX_OCI_FORMAT_UNKNOWN },      /* lz4 */
    { 4, "LZIP", NGX_OCI_FORMAT_UNKNOWN },
    { 5, "\135\0\0\200\0", NGX_OCI_FORMAT_UNKNOWN },        /* lzma */
    { 6, "7z\274\257\047\034", NGX_OCI_FORMAT_UNKNOWN },
    { 6, "Rar!\032\007", NGX_OCI_FORMAT_UNKNOWN },
    { 0, NULL, 0 }
};


static ngx_uint_t ngx_oci_format_safetensors(const u_char *p, size_t n,
    uint64_t size);
static ngx_uint_t ngx_oci_format_numpy(const u_char *p, size_t n);
static ngx_uint_t ngx_oci_format_hdf5(const u_char *p, size_t n);
static ngx_uint_t ngx_oci_format_onnx(const u_char *p, size_t n,
    uint64_t size);


ngx_uint_t
ngx_oci_format_head(const u_char *p, size_t n, uint64_t size,
    ngx_uint_t *zip, ngx_uint_t *tar)
{
    ngx_uint_t  i, bits;

    *zip = (n >= 4 && memcmp(p, "PK\003\004", 4) == 0);
    *tar = ngx_oci_format_tar(p, n);

    bits = ngx_oci_format_safetensors(p, n, size);

    /* zlib; a safetensors' length may be just that */

    if (bits == 0 && n >= 2 && p[0] == 0x78
        && (p[1] == 0x01 || p[1] == 0x5e || p[1] == 0x9c || p[1] == 0xda))
    {
        bits |= NGX_OCI_FORMAT_UNKNOWN;
    }

    for (i = 0; ngx_oci_format_magics[i].bytes; i++) {

        if (n >= ngx_oci_format_magics[i].len
            && memcmp(p, ngx_oci_format_magics[i].bytes,
                      ngx_oci_format_magics[i].len)
               == 0)
        {
            bits |= ngx_oci_format_magics[i].bits;
        }
    }

    /* frames to skip: sixteen kinds */

    if (n >= 4 && (p[0] & 0xf0) == 0x50 && memcmp(p + 1, "\x2a\x4d\x18", 3)
                                           == 0)
    {
        bits |= NGX_OCI_FORMAT_UNKNOWN;
    }

    if (n >= 8 && memcmp(p + 4, "TFL3", 4) == 0) {
        bits |= NGX_OCI_FORMAT_TFLITE;
    }

    return bits | ngx_oci_format_numpy(p, n)
                | ngx_oci_format_hdf5(p, n)
                | ngx_oci_format_onnx(p, n, size)
                | ngx_oci_format_pickle(p, n, size);
}


/* the length of a JSON object, which is first, and tensors behind it */

static ngx_uint_t
ngx_oci_format_safetensors(const u_char *p, size_t n, uint64_t size)
{
    size_t    i;
    uint64_t  len;

    if (n < 10 || p[8] != '{') {
        return 0;
    }

    len = 0;

    for (i = 8; i; i--) {
        len = len << 8 | p[i - 1];
    }

    if (len < 2 || len > NGX_OCI_SAFETENSORS_MAX || len > size - 8) {
        return 0;
    }

    for (i = 9; i < n && i < len + 8; i++) {

        if (p[i] == ' ' || p[i] == '\t' || p[i] == '\n' || p[i] == '\r') {
            continue;
        }

        if (p[i] != '"' && p[i] != '}') {
            return 0;
        }

        break;
    }

    if (len > n - 8) {
        return NGX_OCI_FORMAT_SAFETENSORS;
    }

    /* all of it is there: spaces may stand behind it */

    for (i = (size_t) len + 7; i > 8 && p[i] == ' '; i--) { /* void */ }

    return (p[i] == '}') ? NGX_OCI_FORMAT_SAFETENSORS : 0;
}


/* arrays of objects are pickled */

static ngx_uint_t
ngx_oci_format_numpy(const u_char *p, size_t n)
{
    size_t  i, len;

    if (n < 10 || memcmp(p, "\223NUMPY", 6) != 0) {
        return 0;
    }

    len = (p[6] == 1) ? 10 + (p[8] | (size_t) p[9] << 8) : n;
    len = ngx_min(len, n);

    /* in 'descr', also among fields: '|O', 'O', '|O8' */

    for (i = 10; i + 1 < len; i++) {

        if ((p[i] == '\'' || p[i] == '"' || p[i] == '|' || p[i] == '<'
             || p[i] == '>' || p[i] == '=')
            && p[i + 1] == 'O')
        {
            return NGX_OCI_FORMAT_NPY|NGX_OCI_FORMAT_PICKLE;
        }
    }

    return NGX_OCI_FORMAT_NPY;
}


/* it may begin at 512, or at twice that, or at twice that ... */

static ngx_uint_t
ngx_oci_format_hdf5(const u_char *p, size_t n)
{
    size_t  i;

    for (i = 0; i + 8 <= n; i = i ? 2 * i : 512) {
        if (memcmp(p + i, "\211HDF\r\n\032\n", 8) == 0) {
            return NGX_OCI_FORMAT_HDF5;
        }
    }

    return 0;
}


/*
 * Protocol buffers have no magic: ir_version, field 1, from 3 on, then one of
 * the fields that follow it (TensorFlow's saved models have a 1 there).
 */

static ngx_uint_t
ngx_oci_format_onnx(const u_char *p, size_t n, uint64_t size)
{
    size_t      i;
    uint64_t    len;
    ngx_uint_t  shift;

    if (n < 4 || p[0] != 0x08 || p[1] < 3 || p[1] > 0x3f) {
        return 0;
    }

    switch (p[2]) {

    case 0x28:                      /* model_version */
        return NGX_OCI_FORMAT_ONNX;

    case 0x12:                      /* producer_name */
    case 0x1a:                      /* producer_version */
    case 0x22:                      /* domain */
    case 0x32:                      /* doc_string */
    case 0x3a:                      /* graph */
    case 0x42:                      /* opset_import */
    case 0x72:                      /* metadata_props */
        break;

    default:
        return 0;
    }

    len = 0;

    for (i = 3, shift = 0; i < n && shift < 63; i++, shift += 7) {

        len |= (uint64_t) (p[i] & 0x7f) << shift;

        if (!(p[i] & 0x80)) {
            return (len <= size - i - 1) ? NGX_OCI_FORMAT_ONNX : 0;
        }
    }

    return 0;
}


ngx_uint_t
ngx_oci_format_tar(const u_char *p, size_t n)
{
    size_t      i;
    ngx_uint_t  sum, want;

    if (n < NGX_OCI_LOOK_BLOCK) {
        return 0;
    }

    for (i = 148; i < 156 && p[i] == ' '; i++) { /* void */ }

    want = 0;

    if (i == 156 || p[i] < '0' || p[i] > '7') {
        return 0;
    }

    for ( /* void */ ; i < 156 && p[i] >= '0' && p[i] <= '7'; i++) {
        want = want * 8 + (p[i] - '0');
    }

    sum = 8 * ' ';

    for (i = 0; i < NGX_OCI_LOOK_BLOCK; i++) {
        sum += (i < 148 || i >= 156) ? p[i] : 0;
    }

    return sum == want;
}
