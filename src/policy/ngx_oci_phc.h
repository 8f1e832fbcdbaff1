
/*
 * Copyright (C) The nginx-oci authors
 *
 * Secrets as PHC strings.  Pure: needs libc and OpenSSL only.
 *
 *   $scrypt$ln=14,r=8,p=1$<salt>$<hash>
 *   $pbkdf2-sha256$i=600000$<salt>$<hash>
 *
 * Salt and hash are base64 without padding.
 */


#ifndef _NGX_OCI_PHC_H_INCLUDED_
#define _NGX_OCI_PHC_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_OCI_PHC_MAX       512   /* bytes of a string */
#define NGX_OCI_PHC_SALT      64    /* bytes, decoded */
#define NGX_OCI_PHC_HASH      64

#define NGX_OCI_PHC_DEFAULT   "$scrypt$ln=14,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$" \
                              "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


typedef enum {
    NGX_OCI_PHC_SCRYPT = 0,
    NGX_OCI_PHC_PBKDF2
} ngx_oci_phc_e;


typedef struct {
    ngx_uint_t    kind;             /* ngx_oci_phc_e */
    uint64_t      n;                /* scrypt's N, or iterations */
    uint64_t      r;
    uint64_t      p;
    size_t        params_len;       /* of the text before "$<salt>" */
    size_t        salt_len;
    size_t        hash_len;
    u_char        salt[NGX_OCI_PHC_SALT];
    u_char        hash[NGX_OCI_PHC_HASH];
} ngx_oci_phc_t;


/* NULL, or why it is none; the costs are limited: see the file */
const char *ngx_oci_phc_parse(ngx_oci_phc_t *phc, const char *text,
    size_t len);

/*
 * Is it the secret?  Takes long, for a thread.  NGX_OK; NGX_DECLINED: it is
 * not; NGX_ERROR: no memory, or OpenSSL has not got it.
 */
ngx_int_t ngx_oci_phc_verify(ngx_oci_phc_t *phc, const u_char *secret,
    size_t len);


#endif /* _NGX_OCI_PHC_H_INCLUDED_ */
