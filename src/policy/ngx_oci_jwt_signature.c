
/*
 * Copyright (C) The nginx-oci authors
 *
 * The signature of a token: by which key, and whether it is right.  Pure:
 * needs libc, OpenSSL and jansson only.
 */


#include "ngx_oci_jwt.h"

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>


static ngx_int_t ngx_oci_jwt_by(ngx_oci_jwt_key_t *key, ngx_str_t *input,
    ngx_str_t *signature);
static u_char *ngx_oci_jwt_der(ngx_str_t *raw, int *len);


/*
 * A key has to be of the token's issuer, of its algorithm, which is the key's
 * own, and of its "kid" where both have one.
 */

const char *
ngx_oci_jwt_signed(ngx_oci_jwt_t *jwt, ngx_str_t *input,
    ngx_str_t *signature, ngx_uint_t alg, ngx_oci_jwt_check_t *check)
{
    ngx_int_t           rc;
    ngx_uint_t          i, tried;
    ngx_oci_jwt_key_t  *key;

    tried = 0;

    for (i = 0; i < check->keys->nkeys; i++) {
        key = &check->keys->keys[i];

        if (key->alg != alg
            || (jwt->own ? !ngx_oci_jwt_is(&jwt->issuer, &key->issuer)
                         : key->issuer.len != 0)
            || (jwt->kid.len && key->kid.len
                && !ngx_oci_jwt_is(&jwt->kid, &key->kid)))
        {
            continue;
        }

        tried = 1;

        rc = ngx_oci_jwt_by(key, input, signature);

        if (rc == NGX_OK) {
            return NULL;
        }

        if (rc == NGX_ERROR) {
            return ngx_oci_jwt_memory;
        }
    }

    if (!tried) {
        return "there is no key of the token's algorithm and \"kid\"";
    }

    jwt->wrong = 1;

    return "the token's signature is wrong";
}


/* NGX_OK; NGX_DECLINED: it is not; NGX_ERROR: no memory to tell */

static ngx_int_t
ngx_oci_jwt_by(ngx_oci_jwt_key_t *key, ngx_str_t *input, ngx_str_t *signature)
{
    int            len;
    u_char        *der, *sig;
    ngx_int_t      ok;
    unsigned long  err;
    EVP_MD_CTX    *ctx;
    const EVP_MD  *md;

    if (signature->len != key->signature) {
        return NGX_DECLINED;
    }

    der = NULL;
    sig = signature->data;
    len = (int) signature->len;

    if (key->alg == NGX_OCI_JWT_ES256) {
        der = ngx_oci_jwt_der(signature, &len);
        if (der == NULL) {
            ERR_clear_error();
            return NGX_ERROR;
        }

        sig = der;
    }

    /* PKCS #1 v1.5 is what RSA is used with by default */

    md = (key->alg == NGX_OCI_JWT_EDDSA) ? NULL : EVP_sha256();
    ok = NGX_ERROR;

    ctx = EVP_MD_CTX_new();

    if (ctx && EVP_DigestVerifyInit(ctx, NULL, md, NULL, key->pkey) == 1) {
        ok = (EVP_DigestVerify(ctx, sig, len, input->data, input->len) == 1)
             ? NGX_OK : NGX_DECLINED;
    }

    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);

    /* nginx would report what is left as that of a connection */

    while ((err = ERR_get_error()) != 0) {
        if (ok != NGX_OK && ERR_GET_REASON(err) == ERR_R_MALLOC_FAILURE) {
            ok = NGX_ERROR;
        }
    }

    return ok;
}


/* r and s of 32 bytes each, which are in 1 .. n - 1: OpenSSL sees to that */

static u_char *
ngx_oci_jwt_der(ngx_str_t *raw, int *len)
{
    BIGNUM     *r, *s;
    u_char     *der;
    ECDSA_SIG  *sig;

    sig = ECDSA_SIG_new();
    r = BN_bin2bn(raw->data, 32, NULL);
    s = BN_bin2bn(raw->data + 32, 32, NULL);

    if (sig == NULL || r == NULL || s == NULL
        || ECDSA_SIG_set0(sig, r, s) != 1)
    {
        BN_free(r);
        BN_free(s);
        ECDSA_SIG_free(sig);
        return NULL;
    }

    der = NULL;
    *len = i2d_ECDSA_SIG(sig, &der);

    ECDSA_SIG_free(sig);

    return (*len > 0) ? der : NULL;
}
