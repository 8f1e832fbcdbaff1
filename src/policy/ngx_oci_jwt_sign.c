
/*
 * Copyright (C) The nginx-oci authors
 *
 * Tokens of the edge's own: RFC 7515 in its compact form, by ES256 (RFC 7518,
 * section 3.4) or EdDSA (RFC 8037).
 */


#include "ngx_oci_jwt.h"

#include <openssl/ec.h>


#define NGX_OCI_JWT_HALF  32            /* bytes of r and s, of P-256 */


static ngx_int_t ngx_oci_jwt_signature(ngx_oci_jwt_key_t *key,
    const char *text, size_t len, u_char *signature);
static ngx_int_t ngx_oci_jwt_raw(const u_char *der, size_t len,
    u_char *signature);
static char *ngx_oci_jwt_encode(char *p, const u_char *src, size_t len);


char *
ngx_oci_jwt_sign(ngx_oci_jwt_key_t *key, const char *claims, size_t len,
    size_t *token_len)
{
    int     n;
    char   *p, *token;
    char    header[NGX_OCI_JWT_KID + 64];
    size_t  i;
    u_char  signature[NGX_OCI_JWT_SIGNATURE], ch;

    if (key->alg == NGX_OCI_JWT_RS256 || key->kid.len > NGX_OCI_JWT_KID
        || len > NGX_OCI_JWT_MAX)
    {
        return NULL;
    }

    for (i = 0; i < key->kid.len; i++) {
        ch = key->kid.data[i];

        if (ch < 0x20 || ch >= 0x7f || ch == '"' || ch == '\\') {
            return NULL;
        }
    }

    n = snprintf(header, sizeof(header),
                 "{\"alg\":\"%s\",\"kid\":\"%.*s\",\"typ\":\"JWT\"}",
                 key->alg == NGX_OCI_JWT_ES256 ? "ES256" : "EdDSA",
                 (int) key->kid.len, (char *) key->kid.data);

    if (n < 0 || (size_t) n >= sizeof(header)) {
        return NULL;
    }

    token = malloc(((size_t) n + 2) / 3 * 4 + (len + 2) / 3 * 4
                   + (2 * NGX_OCI_JWT_HALF + 2) / 3 * 4 + sizeof(".."));
    if (token == NULL) {
        return NULL;
    }

    p = ngx_oci_jwt_encode(token, (u_char *) header, (size_t) n);
    *p++ = '.';
    p = ngx_oci_jwt_encode(p, (const u_char *) claims, len);

    if (ngx_oci_jwt_signature(key, token, p - token, signature) != NGX_OK) {
        free(token);
        return NULL;
    }

    *p++ = '.';
    p = ngx_oci_jwt_encode(p, signature, 2 * NGX_OCI_JWT_HALF);
    *p = '\0';

    *token_len = p - token;

    return token;
}


/* both algorithms have 64 bytes of it */

static ngx_int_t
ngx_oci_jwt_signature(ngx_oci_jwt_key_t *key, const char *text, size_t len,
    u_char *signature)
{
    size_t         n;
    u_char         buf[128];
    ngx_int_t      rc;
    EVP_MD_CTX    *ctx;
    const EVP_MD  *md;

    ctx = EVP_MD_CTX_new();
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    md = (key->alg == NGX_OCI_JWT_ES256) ? EVP_sha256() : NULL;
    n = sizeof(buf);
    rc = NGX_ERROR;

    if (EVP_DigestSignInit(ctx, NULL, md, NULL, key->pkey) == 1
        && EVP_DigestSign(ctx, buf, &n, (const u_char *) text, len) == 1)
    {
        if (key->alg == NGX_OCI_JWT_ES256) {
            rc = ngx_oci_jwt_raw(buf, n, signature);

        } else if (n == 2 * NGX_OCI_JWT_HALF) {
            memcpy(signature, buf, n);
            rc = NGX_OK;
        }
    }

    EVP_MD_CTX_free(ctx);

    return rc;
}


/* r and s, of the same length each, as they stand in a token */

static ngx_int_t
ngx_oci_jwt_raw(const u_char *der, size_t len, u_char *signature)
{
    ngx_int_t      rc;
    ECDSA_SIG     *sig;
    const BIGNUM  *r, *s;

    sig = d2i_ECDSA_SIG(NULL, &der, (long) len);
    if (sig == NULL) {
        return NGX_ERROR;
    }

    ECDSA_SIG_get0(sig, &r, &s);

    rc = (BN_bn2binpad(r, signature, NGX_OCI_JWT_HALF) == NGX_OCI_JWT_HALF
          && BN_bn2binpad(s, signature + NGX_OCI_JWT_HALF, NGX_OCI_JWT_HALF)
             == NGX_OCI_JWT_HALF)
         ? NGX_OK : NGX_ERROR;

    ECDSA_SIG_free(sig);

    return rc;
}


/* base64url without padding; returns the end */

static char *
ngx_oci_jwt_encode(char *p, const u_char *src, size_t len)
{
    uint32_t  v;

    static const char  basis[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    for ( /* void */ ; len >= 3; len -= 3, src += 3) {
        v = (uint32_t) src[0] << 16 | (uint32_t) src[1] << 8 | src[2];

        *p++ = basis[v >> 18];
        *p++ = basis[(v >> 12) & 0x3f];
        *p++ = basis[(v >> 6) & 0x3f];
        *p++ = basis[v & 0x3f];
    }

    if (len) {
        v = (uint32_t) src[0] << 16 | (len == 2 ? (uint32_t) src[1] << 8 : 0);

        *p++ = basis[v >> 18];
        *p++ = basis[(v >> 12) & 0x3f];

        if (len == 2) {
            *p++ = basis[(v >> 6) & 0x3f];
        }
    }

    return p;
}
