
/*
 * Copyright (C) The nginx-oci authors
 *
 * Formats of model files.  Pure: needs libc only.
 */


#ifndef _NGX_OCI_FORMAT_H_INCLUDED_
#define _NGX_OCI_FORMAT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* bits: bytes may be of several formats at once, and are then all of them */

#define NGX_OCI_FORMAT_SAFETENSORS  0x0001
#define NGX_OCI_FORMAT_GGUF         0x0002
#define NGX_OCI_FORMAT_GGML         0x0004  /* before GGUF */
#define NGX_OCI_FORMAT_ONNX         0x0008
#define NGX_OCI_FORMAT_TFLITE       0x0010
#define NGX_OCI_FORMAT_NPY          0x0020
#define NGX_OCI_FORMAT_NPZ          0x0040
#define NGX_OCI_FORMAT_HDF5         0x0080
#define NGX_OCI_FORMAT_KERAS        0x0100
#define NGX_OCI_FORMAT_PICKLE       0x0200  /* also within torch's zip */
#define NGX_OCI_FORMAT_EXECUTABLE   0x0400
#define NGX_OCI_FORMAT_ZIP          0x0800  /* of something else */
#define NGX_OCI_FORMAT_UNKNOWN      0x8000  /* it can't be looked into */

/* what "pickle" in a "refuse" means: all that may carry pickles or code */

#define NGX_OCI_FORMAT_UNSAFE       (NGX_OCI_FORMAT_PICKLE                    \
                                     |NGX_OCI_FORMAT_NPZ                      \
                                     |NGX_OCI_FORMAT_HDF5                     \
                                     |NGX_OCI_FORMAT_KERAS                    \
                                     |NGX_OCI_FORMAT_EXECUTABLE)


/* the bit of a format's name; 0: there is none of that name */
ngx_uint_t ngx_oci_format_bit(const char *name);

/* those of the bits that are not allowed; allow: 0: all that aren't refused;
   opaque: what is unknown is */
ngx_uint_t ngx_oci_format_refused(ngx_uint_t bits, ngx_uint_t allow,
    ngx_uint_t refuse, ngx_uint_t opaque);

/* a name for the first one of the bits, for logs and answers */
const char *ngx_oci_format_name(ngx_uint_t bits);


#endif /* _NGX_OCI_FORMAT_H_INCLUDED_ */
