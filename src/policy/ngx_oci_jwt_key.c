
/*
 * Copyright (C) The nginx-oci authors
 *
 * Keys by which tokens are checked: what they may be, and PEM.  Pure: needs
 * libc, OpenSSL and jansson only.
 */


#include "ngx_oci_jwt.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>


#define NGX_OCI_JWT_RSA_MIN  2048       /* bits */
#define NGX_OCI_JWT_RSA_MAX  4096
#define NGX_OCI_JWT_ED_LEN   32


static const char *ngx_oci_jwt_key_kind(EVP_PKEY *pkey,
    ngx_oci_jwt_key_t *key);
static const char *ngx_oci_jwt_key_rsa(EVP_PKEY *pkey,
    ngx_oci_jwt_key_t *key);
static const char *ngx_oci_jwt_key_ec(EVP_PKEY *pkey,
    ngx_oci_jwt_key_t *key);
static const char *ngx_oci_jwt_key_ed(EVP_PKEY *pkey,
    ngx_oci_jwt_key_t *key);
static ngx_int_t ngx_oci_jwt_key_digest(ngx_oci_jwt_keys_t *keys,
    ngx_oci_jwt_key_t *key);
static ngx_int_t ngx_oci_jwt_key_copy(ngx_str_t *dst, ngx_str_t *src);
static ngx_int_t ngx_oci_jwt_pem(ngx_oci_jwt_keys_t *keys, const char *text,
    size_t len, char *error);
static EVP_PKEY *ngx_oci_jwt_pem_key(const char *name, const u_char *data,
    long len);


/*
 * Points of Ed25519 whose order is small, without the bit for the sign of x:
 * of such a key there are signatures for any text.
 */

static const u_char  ngx_oci_jwt_small[][NGX_OCI_JWT_ED_LEN] = {
    { 0x00 },
    { 0x01 },
    { 0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f },
    { 0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f },
    { 0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f },
    { 0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
      0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
      0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05 },
    { 0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b,
      0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
      0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a }
};


ngx_int_t
ngx_oci_jwt_keys_add(ngx_oci_jwt_keys_t *keys, EVP_PKEY *pkey,
    ngx_str_t *kid, ngx_str_t *issuer, char *error)
{
    const char         *why;
    ngx_oci_jwt_key_t  *key;

    if (keys->nkeys == NGX_OCI_JWT_KEYS) {
        (void) snprintf(error, NGX_OCI_JWT_ERROR, "there are more than %d "
                        "keys", NGX_OCI_JWT_KEYS);
        return NGX_ERROR;
    }

    key = &keys->keys[keys->nkeys];
    memset(key, 0, sizeof(ngx_oci_jwt_key_t));

    why = ngx_oci_jwt_key_kind(pkey, key);

    if (why) {
        (void) snprintf(error, NGX_OCI_JWT_ERROR, "%s", why);
        ERR_clear_error();
        return NGX_ERROR;
    }

    if ((kid && ngx_oci_jwt_key_copy(&key->kid, kid) != NGX_OK)
        || (issuer && ngx_oci_jwt_key_copy(&key->issuer, issuer) != NGX_OK))
    {
        goto failed;
    }

    key->pkey = pkey;

    if (ngx_oci_jwt_key_digest(keys, key) != NGX_OK) {
        goto failed;
    }

    keys->nkeys++;

    return NGX_OK;

failed:

    free(key->kid.data);
    free(key->issuer.data);
    ERR_clear_error();

    (void) snprintf(error, NGX_OCI_JWT_ERROR, "no memory");

    return NGX_ERROR;
}


void
ngx_oci_jwt_keys_free(ngx_oci_jwt_keys_t *keys)
{
    ngx_uint_t  i;

    for (i = 0; i < keys->nkeys; i++) {
        EVP_PKEY_free(keys->keys[i].pkey);
        free(keys->keys[i].kid.data);
        free(keys->keys[i].issuer.data);
    }

    memset(keys, 0, sizeof(ngx_oci_jwt_keys_t));
}


/* what a key is decides of what it may be used for */

static const char *
ngx_oci_jwt_key_kind(EVP_PKEY *pkey, ngx_oci_jwt_key_t *key)
{
    int            rc;
    const char    *why;
    EVP_PKEY_CTX  *ctx;

    switch (EVP_PKEY_get_base_id(pkey)) {

    case EVP_PKEY_RSA:
        why = ngx_oci_jwt_key_rsa(pkey, key);
        break;

    case EVP_PKEY_EC:
        why = ngx_oci_jwt_key_ec(pkey, key);
        break;

    case EVP_PKEY_ED25519:
        why = ngx_oci_jwt_key_ed(pkey, key);
        break;

    default:
        why = "a key is neither RSA, nor EC, nor Ed25519";
    }

    if (why) {
        return why;
    }

    ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);

    rc = ctx ? EVP_PKEY_public_check(ctx) : 0;

    EVP_PKEY_CTX_free(ctx);

    return (rc == 1) ? NULL : "a key is no valid one";
}


static const char *
ngx_oci_jwt_key_rsa(EVP_PKEY *pkey, ngx_oci_jwt_key_t *key)
{
    int      bits;
    BIGNUM  *e;

    bits = EVP_PKEY_get_bits(pkey);

    if (bits < NGX_OCI_JWT_RSA_MIN || bits > NGX_OCI_JWT_RSA_MAX) {
        return "an RSA key has not 2048 to 4096 bits";
    }

    /* with a large one a check would take as long as signing */

    e = NULL;

    if (EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) != 1) {
        return "a key is no valid one";
    }

    bits = (BN_is_odd(e) && !BN_is_one(e)) ? BN_num_bits(e) : 0;

    BN_free(e);

    if (bits == 0 || bits > 32) {
        return "an RSA key has an unusual exponent";
    }

    key->alg = NGX_OCI_JWT_RS256;
    key->signature = (size_t) EVP_PKEY_get_size(pkey);

    return NULL;
}


static const char *
ngx_oci_jwt_key_ec(EVP_PKEY *pkey, ngx_oci_jwt_key_t *key)
{
    int   is_explicit;
    char  name[64];

    /* parameters of its own can make a key fit any signature */

    is_explicit = 0;

    if (EVP_PKEY_get_int_param(pkey,
                               OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS,
                               &is_explicit)
        == 1
        && is_explicit)
    {
        return "an EC key has parameters of its own";
    }

    if (EVP_PKEY_get_group_name(pkey, name, sizeof(name), NULL) != 1
        || strcmp(name, "prime256v1") != 0)
    {
        return "an EC key is not of P-256";
    }

    key->alg = NGX_OCI_JWT_ES256;
    key->signature = 64;

    return NULL;
}


static const char *
ngx_oci_jwt_key_ed(EVP_PKEY *pkey, ngx_oci_jwt_key_t *key)
{
    size_t      len;
    u_char      raw[NGX_OCI_JWT_ED_LEN];
    ngx_uint_t  i;

    len = sizeof(raw);

    if (EVP_PKEY_get_raw_public_key(pkey, raw, &len) != 1
        || len != sizeof(raw))
    {
        return "a key is no valid one";
    }

    raw[NGX_OCI_JWT_ED_LEN - 1] &= 0x7f;

    for (i = 0; i < sizeof(ngx_oci_jwt_small) / NGX_OCI_JWT_ED_LEN; i++) {
        if (memcmp(raw, ngx_oci_jwt_small[i], NGX_OCI_JWT_ED_LEN) == 0) {
            return "a key is no valid one";
        }
    }

    key->alg = NGX_OCI_JWT_EDDSA;
    key->signature = 64;

    return NULL;
}


/* each key is hashed with the digest of those before it */

static ngx_int_t
ngx_oci_jwt_key_digest(ngx_oci_jwt_keys_t *keys, ngx_oci_jwt_key_t *key)
{
    int          len, rc;
    u_char      *der;
    uint32_t     lens[4];
    unsigned     n;
    EVP_MD_CTX  *ctx;

    der = NULL;
    len = i2d_PUBKEY(key->pkey, &der);

    if (len <= 0) {
        return NGX_ERROR;
    }

    lens[0] = (uint32_t) key->alg;
    lens[1] = (uint32_t) key->kid.len;
    lens[2] = (uint32_t) key->issuer.len;
    lens[3] = (uint32_t) len;

    ctx = EVP_MD_CTX_new();

    rc = ctx
         && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1
         && EVP_DigestUpdate(ctx, keys->digest, NGX_OCI_JWT_DIGEST) == 1
         && EVP_DigestUpdate(ctx, lens, sizeof(lens)) == 1
         && EVP_DigestUpdate(ctx, key->kid.data, key->kid.len) == 1
         && EVP_DigestUpdate(ctx, key->issuer.data, key->issuer.len) == 1
         && EVP_DigestUpdate(ctx, der, len) == 1
         && EVP_DigestFinal_ex(ctx, keys->digest, &n) == 1;

    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);

    return rc ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_jwt_key_copy(ngx_str_t *dst, ngx_str_t *src)
{
    if (src->len == 0) {
        return NGX_OK;
    }

    dst->data = malloc(src->len);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    memcpy(dst->data, src->data, src->len);
    dst->len = src->len;

    return NGX_OK;
}


ngx_int_t
ngx_oci_jwt_keys_text(ngx_oci_jwt_keys_t *keys, const char *text, size_t len,
    char *error)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r'
            && text[i] != '\n')
        {
            break;
        }
    }

    return (i < len && text[i] == '{')
           ? ngx_oci_jwk_set(keys, text, len, error)
           : ngx_oci_jwt_pem(keys, text, len, error);
}


static ngx_int_t
ngx_oci_jwt_pem(ngx_oci_jwt_keys_t *keys, const char *text, size_t len,
    char *error)
{
    BIO         *bio;
    char        *name, *header;
    long         n;
    u_char      *data;
    EVP_PKEY    *pkey;
    ngx_int_t    rc;
    ngx_uint_t   found;
    const char  *why;

    bio = BIO_new_mem_buf(text, (int) len);
    if (bio == NULL) {
        (void) snprintf(error, NGX_OCI_JWT_ERROR, "no memory");
        return NGX_ERROR;
    }

    rc = NGX_OK;
    found = 0;

    while (rc == NGX_OK
           && PEM_read_bio(bio, &name, &header, &data, &n) == 1)
    {
        found = 1;
        why = NULL;

        pkey = ngx_oci_jwt_pem_key(name, data, n);

        if (pkey == NULL) {
            why = strstr(name, "PRIVATE KEY")
                  ? "it has a private key, only the public one belongs here"
                  : "it has something that is neither a public key nor a "
                    "certificate";
            (void) snprintf(error, NGX_OCI_JWT_ERROR, "%s", why);
            rc = NGX_ERROR;

        } else {
            rc = ngx_oci_jwt_keys_add(keys, pkey, NULL, NULL, error);

            if (rc != NGX_OK) {
                EVP_PKEY_free(pkey);
            }
        }

        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(data, n);
    }

    /* what is left has to be nothing, not half a key */

    if (rc == NGX_OK
        && (!found
            || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE))
    {
        (void) snprintf(error, NGX_OCI_JWT_ERROR, "it is neither PEM with "
                        "public keys or certificates nor a JSON Web Key Set");
        rc = NGX_ERROR;
    }

    BIO_free(bio);
    ERR_clear_error();

    return rc;
}


static EVP_PKEY *
ngx_oci_jwt_pem_key(const char *name, const u_char *data, long len)
{
    X509          *cert;
    EVP_PKEY      *pkey;
    const u_char  *p;

    p = data;
    pkey = NULL;

    if (strcmp(name, PEM_STRING_PUBLIC) == 0) {
        pkey = d2i_PUBKEY(NULL, &p, len);

    } else if (strcmp(name, PEM_STRING_X509) == 0) {

        cert = d2i_X509(NULL, &p, len);

        if (cert) {
            pkey = X509_get_pubkey(cert);
            X509_free(cert);
        }
    }

    if (pkey && p != data + len) {
        EVP_PKEY_free(pkey);
        return NULL;
    }

    return pkey;
}
