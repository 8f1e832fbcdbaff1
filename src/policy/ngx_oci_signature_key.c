
/*
 * Copyright (C) The nginx-oci authors
 *
 * Public keys that are trusted.  Pure: needs libc and OpenSSL only.
 */


#include "ngx_oci_signature.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>


#define NGX_OCI_SIGNATURE_RSA_MIN  2048
#define NGX_OCI_SIGNATURE_RSA_MAX  8192
#define NGX_OCI_SIGNATURE_RSA_E    32       /* bits of the exponent: what a
                                               check costs grows with it */

#define NGX_OCI_SIGNATURE_BEGIN    "-----BEGIN PUBLIC KEY-----"


static const char *ngx_oci_signature_kind(EVP_PKEY *pkey);
static const char *ngx_oci_signature_rsa(EVP_PKEY *pkey);


const char *
ngx_oci_signature_pem(const char *pem, size_t len, u_char *der, size_t *size)
{
    BIO                      *bio;
    int                       rc;
    long                      n;
    char                     *name, *header;
    size_t                    i;
    const char               *why;
    unsigned char            *data;
    ngx_oci_signature_key_t   key;

    if (len > NGX_OCI_SIGNATURE_PEM) {
        return "the key is too long";
    }

    if (len < sizeof(NGX_OCI_SIGNATURE_BEGIN) - 1
        || memcmp(pem, NGX_OCI_SIGNATURE_BEGIN,
                  sizeof(NGX_OCI_SIGNATURE_BEGIN) - 1)
           != 0)
    {
        return "the key does not begin with \"" NGX_OCI_SIGNATURE_BEGIN "\"";
    }

    /* one key, and nothing beside it */

    for (i = 1, n = 0; i < len; i++) {
        n += (memcmp(&pem[i - 1], "\n-", 2) == 0);
    }

    if (n != 1) {
        return "there has to be one key in PEM";
    }

    bio = BIO_new_mem_buf(pem, (int) len);
    if (bio == NULL) {
        return "no memory";
    }

    rc = PEM_read_bio(bio, &name, &header, &data, &n);

    BIO_free(bio);

    if (rc != 1) {
        ERR_clear_error();
        return "the key is not well-formed PEM";
    }

    why = NULL;

    if (strcmp(name, "PUBLIC KEY") != 0 || header[0] != '\0') {
        why = "the key is not a public key in PEM";

    } else if (n > NGX_OCI_SIGNATURE_DER) {
        why = "the key is too long";

    } else {
        why = ngx_oci_signature_key(&key, data, n);
    }

    if (why == NULL) {
        ngx_oci_signature_key_free(&key);
        memcpy(der, data, n);
        *size = n;
    }

    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(data);

    return why;
}


const char *
ngx_oci_signature_key(ngx_oci_signature_key_t *key, const u_char *der,
    size_t size)
{
    const char           *why;
    const unsigned char  *p;

    if (size > NGX_OCI_SIGNATURE_DER) {
        return "the key is too long";
    }

    p = der;
    key->pkey = d2i_PUBKEY(NULL, &p, (long) size);

    if (key->pkey == NULL) {
        ERR_clear_error();
        return "the key is not a public key";
    }

    why = (p == der + size) ? ngx_oci_signature_kind(key->pkey)
                            : "something follows the key";

    if (why) {
        ngx_oci_signature_key_free(key);
        ERR_clear_error();
        return why;
    }

    SHA256(der, size, key->id);

    return NULL;
}


void
ngx_oci_signature_key_free(ngx_oci_signature_key_t *key)
{
    EVP_PKEY_free(key->pkey);
    key->pkey = NULL;
}


static const char *
ngx_oci_signature_kind(EVP_PKEY *pkey)
{
    char    group[32];
    size_t  len;

    if (EVP_PKEY_is_a(pkey, "ED25519")) {
        return NULL;
    }

    if (EVP_PKEY_is_a(pkey, "RSA")) {
        return ngx_oci_signature_rsa(pkey);
    }

    if (!EVP_PKEY_is_a(pkey, "EC")) {
        return "the key is neither ECDSA, RSA nor Ed25519";
    }

    if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), &len) != 1
        || strcmp(group, "prime256v1") != 0)
    {
        return "the key's curve is not P-256";
    }

    return NULL;
}


static const char *
ngx_oci_signature_rsa(EVP_PKEY *pkey)
{
    int      bits, exponent;
    BIGNUM  *e;

    bits = EVP_PKEY_get_bits(pkey);

    if (bits < NGX_OCI_SIGNATURE_RSA_MIN || bits > NGX_OCI_SIGNATURE_RSA_MAX) {
        return "the key has not 2048 to 8192 bits";
    }

    e = NULL;

    if (EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) != 1) {
        return "the key has no exponent";
    }

    exponent = BN_is_odd(e) ? BN_num_bits(e) : 0;

    BN_free(e);

    if (exponent < 2 || exponent > NGX_OCI_SIGNATURE_RSA_E) {
        return "the key's exponent is none";
    }

    return NULL;
}
