
/*
 * Copyright (C) The nginx-oci authors
 *
 * Of which formats are a blob's bytes?  Pure: needs libc only.
 *
 * Few bytes of it are looked at: those at its beginning, those at its end,
 * a zip's directory, and likewise those of the files in a tar.  Whoever asks
 * brings them.
 */


#ifndef _NGX_OCI_FORMAT_LOOK_H_INCLUDED_
#define _NGX_OCI_FORMAT_LOOK_H_INCLUDED_


#include "ngx_oci_format.h"


#define NGX_OCI_LOOK_HEAD      65536    /* bytes at the beginning */
#define NGX_OCI_LOOK_TAIL      66560    /* and at the end: a zip's last record
                                           begins within 65557 bytes */
#define NGX_OCI_LOOK_DIRECTORY 65536    /* of a zip's directory */
#define NGX_OCI_LOOK_BLOCK     512      /* of a tar */
#define NGX_OCI_LOOK_PAX       4096     /* bytes of an extended header */
#define NGX_OCI_LOOK_MEMBERS   64       /* of a tar */
#define NGX_OCI_LOOK_ZIPS      4        /* places where a directory may be */

#define NGX_OCI_LOOK_MAX       NGX_OCI_LOOK_TAIL    /* bytes at once */


typedef enum {
    NGX_OCI_LOOK_AT_HEAD = 0,
    NGX_OCI_LOOK_AT_TAIL,
    NGX_OCI_LOOK_AT_ZIP,
    NGX_OCI_LOOK_AT_MEMBER,
    NGX_OCI_LOOK_AT_PAX
} ngx_oci_look_at_e;


typedef struct {
    uint64_t      size;                 /* bytes of all */
    uint64_t      start;                /* what is wanted next */
    uint64_t      end;
    ngx_uint_t    bits;                 /* NGX_OCI_FORMAT_... so far */

    ngx_uint_t    at;                   /* ngx_oci_look_at_e: what it is */
    uint64_t      base;                 /* the file that is looked at */
    uint64_t      file;                 /* bytes of it */
    ngx_uint_t    own;                  /* NGX_OCI_FORMAT_... of it so far */
    ngx_uint_t    weight;               /* its name says that it is weights */
    uint64_t      zips[NGX_OCI_LOOK_ZIPS];
    ngx_uint_t    nzips;
    ngx_uint_t    zip;                  /* the next of these */
    ngx_uint_t    zipped;               /* it begins as a zip, whose directory
                                           has not been found */

    ngx_uint_t    tar;                  /* it is in one */
    ngx_uint_t    members;              /* of that, so far */
    uint64_t      next;                 /* where the next one's header is */
    uint64_t      pax;                  /* the next one's size; -1: its own */
} ngx_oci_look_t;


/* begins; bytes start to end of the look are wanted */
void ngx_oci_look_init(ngx_oci_look_t *look, uint64_t size);

/*
 * Takes bytes start to end.  NGX_OK: look->bits is all, 0: nothing that is
 * known; NGX_AGAIN: others are wanted.
 */
ngx_int_t ngx_oci_look(ngx_oci_look_t *look, const u_char *p);


/*
 * ngx_oci_format_head.c: the first n bytes of a file of size bytes.  Neither
 * the directory of a zip nor what is in a tar is seen there: *zip and *tar
 * say that it is one.
 */
ngx_uint_t ngx_oci_format_head(const u_char *p, size_t n, uint64_t size,
    ngx_uint_t *zip, ngx_uint_t *tar);

/* is it a tar's header?  Its checksum says so */
ngx_uint_t ngx_oci_format_tar(const u_char *p, size_t n);

/*
 * ngx_oci_format_pickle.c: do they begin a pickle?  NGX_OCI_FORMAT_PICKLE;
 * NGX_OCI_FORMAT_UNKNOWN: it may be one, it goes on beyond these bytes; 0.
 */
ngx_uint_t ngx_oci_format_pickle(const u_char *p, size_t n, uint64_t size);


#endif /* _NGX_OCI_FORMAT_LOOK_H_INCLUDED_ */
