
/*
 * Copyright (C) The nginx-oci authors
 *
 * Secrets as PHC strings.  Pure: needs libc and OpenSSL only.
 */


#include "ngx_oci_phc.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>


/*
 * What a secret may cost: 256 MiB, and about a second.  The lower bounds keep
 * out what could as well be plain text.
 */

#define NGX_OCI_PHC_LN_MIN    10
#define NGX_OCI_PHC_LN_MAX    20
#define NGX_OCI_PHC_R_MAX     32
#define NGX_OCI_PHC_P_MAX     16
#define NGX_OCI_PHC_MEMORY    ((uint64_t) 256 * 1024 * 1024)
#define NGX_OCI_PHC_WORK      ((uint64_t) 1 << 22)      /* N * r * p */
#define NGX_OCI_PHC_I_MIN     1000
#define NGX_OCI_PHC_I_MAX     10000000

#define NGX_OCI_PHC_SALT_MIN  8
#define NGX_OCI_PHC_HASH_MIN  16


static const char *ngx_oci_phc_number(const char *p, const char *last,
    const char *name, uint64_t min, uint64_t max, uint64_t *n);
static const char *ngx_oci_phc_base64(const char *p, const char *last,
    u_char *dst, size_t max, size_t *len);


const char *
ngx_oci_phc_parse(ngx_oci_phc_t *phc, const char *text, size_t len)
{
    uint64_t     ln;
    const char  *p, *last;

    memset(phc, 0, sizeof(ngx_oci_phc_t));

    if (len > NGX_OCI_PHC_MAX) {
        return "too long";
    }

    last = text + len;

#define ngx_oci_phc_begins(s)                                                 \
    (len > sizeof(s) - 1 && memcmp(text, s, sizeof(s) - 1) == 0)

    if (ngx_oci_phc_begins("$scrypt$")) {

        phc->kind = NGX_OCI_PHC_SCRYPT;
        p = text + sizeof("$scrypt$") - 1;

        p = ngx_oci_phc_number(p, last, "ln=", NGX_OCI_PHC_LN_MIN,
                               NGX_OCI_PHC_LN_MAX, &ln);
        if (p == NULL) {
            return "\"ln\" is to be 10 to 20";
        }

        p = (p < last && *p == ',')
            ? ngx_oci_phc_number(p + 1, last, "r=", 1, NGX_OCI_PHC_R_MAX,
                                 &phc->r)
            : NULL;
        if (p == NULL) {
            return "\"r\" is to be 1 to 32";
        }

        p = (p < last && *p == ',')
            ? ngx_oci_phc_number(p + 1, last, "p=", 1, NGX_OCI_PHC_P_MAX,
                                 &phc->p)
            : NULL;
        if (p == NULL) {
            return "\"p\" is to be 1 to 16";
        }

        phc->n = (uint64_t) 1 << ln;

        if (128 * phc->r * phc->n > NGX_OCI_PHC_MEMORY
            || phc->n * phc->r * phc->p > NGX_OCI_PHC_WORK)
        {
            return "it costs too much";
        }

    } else if (ngx_oci_phc_begins("$pbkdf2-sha256$")) {

        phc->kind = NGX_OCI_PHC_PBKDF2;
        p = text + sizeof("$pbkdf2-sha256$") - 1;

        p = ngx_oci_phc_number(p, last, "i=", NGX_OCI_PHC_I_MIN,
                               NGX_OCI_PHC_I_MAX, &phc->n);
        if (p == NULL) {
            return "\"i\" is to be 1000 to 10000000";
        }

    } else {
        return "neither \"$scrypt$\" nor \"$pbkdf2-sha256$\"";
    }

    phc->params_len = p - text;

    p = ngx_oci_phc_base64(p, last, phc->salt, NGX_OCI_PHC_SALT,
                           &phc->salt_len);

    if (p == NULL || phc->salt_len < NGX_OCI_PHC_SALT_MIN) {
        return "the salt is to be 8 to 64 bytes in base64 without padding";
    }

    p = ngx_oci_phc_base64(p, last, phc->hash, NGX_OCI_PHC_HASH,
                           &phc->hash_len);

    if (p == NULL || phc->hash_len < NGX_OCI_PHC_HASH_MIN) {
        return "the hash is to be 16 to 64 bytes in base64 without padding";
    }

    return (p == last) ? NULL : "more after the hash";
}


static const char *
ngx_oci_phc_number(const char *p, const char *last, const char *name,
    uint64_t min, uint64_t max, uint64_t *n)
{
    size_t       len;
    const char  *begin;

    len = strlen(name);

    if ((size_t) (last - p) <= len || memcmp(p, name, len) != 0) {
        return NULL;
    }

    p += len;
    begin = p;
    *n = 0;

    while (p < last && *p >= '0' && *p <= '9') {

        if (p - begin >= 9) {
            return NULL;
        }

        *n = *n * 10 + (*p++ - '0');
    }

    if (p == begin || (*begin == '0' && p - begin > 1)
        || *n < min || *n > max)
    {
        return NULL;
    }

    return p;
}


/* "$<base64>", up to the next "$" or the end; the only way to write them */

static const char *
ngx_oci_phc_base64(const char *p, const char *last, u_char *dst, size_t max,
    size_t *len)
{
    uint32_t     bits;
    ngx_uint_t   n, v;

    *len = 0;

    if (p == last || *p++ != '$') {
        return NULL;
    }

    bits = 0;
    n = 0;

    for ( /* void */ ; p < last && *p != '$'; p++) {

        if (*p >= 'A' && *p <= 'Z') {
            v = *p - 'A';

        } else if (*p >= 'a' && *p <= 'z') {
            v = *p - 'a' + 26;

        } else if (*p >= '0' && *p <= '9') {
            v = *p - '0' + 52;

        } else if (*p == '+') {
            v = 62;

        } else if (*p == '/') {
            v = 63;

        } else {
            return NULL;
        }

        bits = (bits << 6) | v;
        n += 6;

        if (n >= 8) {
            if (*len == max) {
                return NULL;
            }

            n -= 8;
            dst[(*len)++] = (u_char) (bits >> n);
            bits &= (1u << n) - 1;
        }
    }

    return (n == 6 || bits) ? NULL : p;
}


/*
 * HMAC pads its key with zeros: a secret with some behind it would be the same
 * one.  None has any; who tries is not told so by the time it takes.
 */

ngx_int_t
ngx_oci_phc_verify(ngx_oci_phc_t *phc, const u_char *secret, size_t len)
{
    int     rc;
    u_char  hash[NGX_OCI_PHC_HASH];

    if (phc->kind == NGX_OCI_PHC_SCRYPT) {
        rc = EVP_PBE_scrypt((const char *) secret, len, phc->salt,
                            phc->salt_len, phc->n, phc->r, phc->p,
                            2 * NGX_OCI_PHC_MEMORY, hash, phc->hash_len);

    } else {
        rc = PKCS5_PBKDF2_HMAC((const char *) secret, (int) len, phc->salt,
                               (int) phc->salt_len, (int) phc->n,
                               EVP_sha256(), (int) phc->hash_len, hash);
    }

    if (rc != 1) {
        return NGX_ERROR;
    }

    rc = CRYPTO_memcmp(hash, phc->hash, phc->hash_len);

    OPENSSL_cleanse(hash, sizeof(hash));

    if (len && memchr(secret, '\0', len)) {
        return NGX_DECLINED;
    }

    return rc ? NGX_DECLINED : NGX_OK;
}
