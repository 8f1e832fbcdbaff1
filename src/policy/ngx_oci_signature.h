
/*
 * Copyright (C) The nginx-oci authors
 *
 * Who signed this digest: cosign's simple signing and its bundles (DSSE), by
 * public keys that are trusted, offline.  Pure: needs libc, jansson and
 * OpenSSL only.
 *
 * Certificates, transparency logs and time stamps are not looked at.
 */


#ifndef _NGX_OCI_SIGNATURE_H_INCLUDED_
#define _NGX_OCI_SIGNATURE_H_INCLUDED_


#include "ngx_oci_route.h"

#include <jansson.h>
#include <openssl/evp.h>


#define NGX_OCI_SIGNATURE_KEYS     16       /* are asked at most */
#define NGX_OCI_SIGNATURE_PEM      4096     /* bytes of a key */
#define NGX_OCI_SIGNATURE_DER      2048     /* and as DER */
#define NGX_OCI_SIGNATURE_ID       32

#define NGX_OCI_SIGNATURE_TEXT     262144   /* bytes of a JSON text */
#define NGX_OCI_SIGNATURE_DEPTH    32       /* of it */
#define NGX_OCI_SIGNATURE_VALUES   16384    /* in it */
#define NGX_OCI_SIGNATURE_BASE64   1400     /* bytes of a signature: RSA 8192
                                               has 1368 */

#define NGX_OCI_SIMPLE_SIGNING                                                \
    "application/vnd.dev.cosign.simplesigning.v1+json"
#define NGX_OCI_SIGSTORE_BUNDLE                                               \
    "application/vnd.dev.sigstore.bundle.v0.3+json"


/* pkey: the owner's, to be freed by ngx_oci_signature_key_free() */

typedef struct {
    EVP_PKEY                 *pkey;
    u_char                    id[NGX_OCI_SIGNATURE_ID];     /* SHA-256 of its
                                                    SubjectPublicKeyInfo */
} ngx_oci_signature_key_t;


typedef struct {
    ngx_oci_signature_key_t  *keys;
    ngx_uint_t                nkeys;
    ngx_str_t                 subject;      /* "sha256:...": what is to be
                                               signed */

    ngx_uint_t                key;          /* whose signature it is */
    const char               *why;          /* it is none */
} ngx_oci_signature_t;


/*
 * A public key: ECDSA on P-256, RSA of 2048 to 8192 bits, or Ed25519.  pem():
 * "-----BEGIN PUBLIC KEY-----", to DER (in der[NGX_OCI_SIGNATURE_DER]); key():
 * of DER.  NULL: it is good, else what is wrong with it.
 */
const char *ngx_oci_signature_pem(const char *pem, size_t len, u_char *der,
    size_t *size);
const char *ngx_oci_signature_key(ngx_oci_signature_key_t *key,
    const u_char *der, size_t size);
void ngx_oci_signature_key_free(ngx_oci_signature_key_t *key);

/*
 * NGX_OK: s->key signed s->subject; NGX_DECLINED: nobody who is trusted did,
 * s->why; NGX_ERROR: no memory.
 *
 * simple(): a payload of simple signing, and its signature in base64;
 * bundle(): a sigstore bundle.
 */
ngx_int_t ngx_oci_signature_simple(ngx_oci_signature_t *s,
    ngx_str_t *payload, ngx_str_t *signature);
ngx_int_t ngx_oci_signature_bundle(ngx_oci_signature_t *s,
    ngx_str_t *bundle);

/*
 * JSON of strangers: one object, no name twice, of bounded size, depth and
 * number of values.  NULL: *why says what is wrong with it, NULL: no memory.
 */
json_t *ngx_oci_signature_json(ngx_str_t *text, size_t max,
    const char **why);

/* a member that is a string; NULL: there is none */
const char *ngx_oci_signature_string(json_t *object, const char *name);

/*
 * Base64 with padding and nothing else, such as white space.  *out is to be
 * freed with free().  NGX_OK, NGX_DECLINED: it is none, NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_signature_base64(const char *text, size_t len,
    ngx_str_t *out);


#endif /* _NGX_OCI_SIGNATURE_H_INCLUDED_ */
