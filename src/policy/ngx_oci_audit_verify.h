
/*
 * Copyright (C) The nginx-oci authors
 *
 * Whether files of an audit log are what was written.  Pure: needs libc and
 * OpenSSL only.  Memory grows with the knots, about 200 bytes for each, not
 * with the lines.
 */


#ifndef _NGX_OCI_AUDIT_VERIFY_H_INCLUDED_
#define _NGX_OCI_AUDIT_VERIFY_H_INCLUDED_


#include "ngx_oci_audit_chain.h"


#define NGX_OCI_AUDIT_SAYS    256   /* bytes of a message */
#define NGX_OCI_AUDIT_KEYS    16    /* keys may change */
#define NGX_OCI_AUDIT_FILES   65536


typedef struct ngx_oci_audit_verify_s  ngx_oci_audit_verify_t;


typedef struct {
    ngx_uint_t   file;              /* from 0, in the order of their being
                                       given */
    uint64_t     line;              /* from 1 */
    char         says[NGX_OCI_AUDIT_SAYS];
} ngx_oci_audit_place_t;


typedef struct {
    ngx_uint_t             broken;  /* the first place that is: */
    ngx_oci_audit_place_t  first;
    uint64_t               lines;
    uint64_t               chains;
    uint64_t               knots;
    uint64_t               lost;    /* pieces of lines, accounted for */
    uint64_t               open;    /* chains without an end */
    uint64_t               loose;   /* lines of these after their last knot */
    uint64_t               last;    /* link of the last knot */
    char                   last_ts[28];     /* and when; "": there is none */
} ngx_oci_audit_result_t;


/*
 * note() gets what is not wrong, but good to know; may be NULL.  closed: a
 * chain that has no end is an error.  NULL: no memory.
 */
ngx_oci_audit_verify_t *ngx_oci_audit_verify_create(ngx_uint_t closed,
    void (*note)(void *data, ngx_oci_audit_place_t *place), void *data);
void ngx_oci_audit_verify_free(ngx_oci_audit_verify_t *v);

/* without any, signatures are not looked at.  The key is taken over.
   NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_audit_verify_key(ngx_oci_audit_verify_t *v, EVP_PKEY *key);

/* NGX_OK or NGX_ERROR: no memory, or too many files */
ngx_int_t ngx_oci_audit_verify_file(ngx_oci_audit_verify_t *v);

/* a line without its newline; torn: there was none.  NGX_OK or NGX_ERROR: no
   memory */
ngx_int_t ngx_oci_audit_verify_line(ngx_oci_audit_verify_t *v, u_char *p,
    size_t len, ngx_uint_t torn);

/* once, at the end */
ngx_oci_audit_result_t *ngx_oci_audit_verify_done(ngx_oci_audit_verify_t *v);


#endif /* _NGX_OCI_AUDIT_VERIFY_H_INCLUDED_ */
