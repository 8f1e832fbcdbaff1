
/*
 * Copyright (C) The nginx-oci authors
 *
 * JSON Web Keys, and sets of them (RFC 7517, 7518, 8037).  Pure: needs libc,
 * OpenSSL and jansson only.
 */


#include "ngx_oci_jwt.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>


#define NGX_OCI_JWK_ED_LEN  32


static ngx_uint_t ngx_oci_jwk_use(json_t *jwk);
static const char *ngx_oci_jwk_key(json_t *jwk, EVP_PKEY **pkey);
static ngx_int_t ngx_oci_jwk_bytes(json_t *jwk, const char *name,
    u_char *dst, size_t max, size_t *len);
static EVP_PKEY *ngx_oci_jwk_rsa(json_t *jwk);
static EVP_PKEY *ngx_oci_jwk_ec(json_t *jwk);
static EVP_PKEY *ngx_oci_jwk_ed(json_t *jwk);
static EVP_PKEY *ngx_oci_jwk_from_data(const char *type,
    OSSL_PARAM_BLD *bld);
static size_t ngx_oci_jwk_encode(char *dst, const u_char *src, size_t len);


/* keys of other kinds, or for other purposes, are passed over (RFC 7517, 5) */

ngx_int_t
ngx_oci_jwk_set(ngx_oci_jwt_keys_t *keys, const char *text, size_t len,
    char *error)
{
    size_t       i;
    json_t      *root, *list, *jwk, *value;
    EVP_PKEY    *pkey;
    ngx_str_t    kid;
    ngx_uint_t   n;
    const char  *why;

    n = keys->nkeys;
    root = ngx_oci_jwt_json(text, len);
    list = json_object_get(root, "keys");
    why = json_is_array(list) ? NULL : "it is no JSON Web Key Set";

    json_array_foreach(list, i, jwk) {

        if (!json_is_object(jwk)) {
            why = "it is no JSON Web Key Set";
        }

        if (json_object_get(jwk, "d") || json_object_get(jwk, "k")) {
            why = "it has a secret key, only public ones belong here";
        }

        if (why) {
            break;
        }

        if (!ngx_oci_jwk_use(jwk)) {
            continue;
        }

        memset(&kid, 0, sizeof(ngx_str_t));
        value = json_object_get(jwk, "kid");

        if (value) {
            kid.data = (u_char *) json_string_value(value);
            kid.len = json_string_length(value);

            if (kid.data == NULL || kid.len > NGX_OCI_JWT_KID) {
                why = "a \"kid\" is no string of 255 bytes at most";
                break;
            }
        }

        why = ngx_oci_jwk_key(jwk, &pkey);

        if (why) {
            break;
        }

        if (ngx_oci_jwt_keys_add(keys, pkey, &kid, NULL, error) != NGX_OK) {
            EVP_PKEY_free(pkey);
            json_decref(root);
            return NGX_ERROR;
        }
    }

    json_decref(root);
    ERR_clear_error();

    if (why == NULL && keys->nkeys == n) {
        why = "it has no key for RS256, ES256 or EdDSA";
    }

    if (why) {
        (void) snprintf(error, NGX_OCI_JWT_ERROR, "%s", why);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_oci_jwk_use(json_t *jwk)
{
    size_t       i;
    json_t      *value, *ops, *op;
    ngx_uint_t   verify;
    const char  *kty, *crv, *alg, *s;

    kty = json_string_value(json_object_get(jwk, "kty"));
    crv = json_string_value(json_object_get(jwk, "crv"));

    alg = (kty == NULL) ? NULL
          : (strcmp(kty, "RSA") == 0) ? "RS256"
          : (strcmp(kty, "EC") == 0 && crv && strcmp(crv, "P-256") == 0)
            ? "ES256"
          : (strcmp(kty, "OKP") == 0 && crv && strcmp(crv, "Ed25519") == 0)
            ? "EdDSA" : NULL;

    if (alg == NULL) {
        return 0;
    }

    value = json_object_get(jwk, "alg");

    if (value) {
        s = json_string_value(value);

        if (s == NULL || strcmp(s, alg) != 0) {
            return 0;
        }
    }

    value = json_object_get(jwk, "use");

    if (value) {
        s = json_string_value(value);

        if (s == NULL || strcmp(s, "sig") != 0) {
            return 0;
        }
    }

    ops = json_object_get(jwk, "key_ops");

    if (ops == NULL) {
        return 1;
    }

    verify = 0;

    json_array_foreach(ops, i, op) {
        s = json_string_value(op);

        if (s && strcmp(s, "verify") == 0) {
            verify = 1;
        }
    }

    return verify;
}


static const char *
ngx_oci_jwk_key(json_t *jwk, EVP_PKEY **pkey)
{
    const char  *kty;

    kty = json_string_value(json_object_get(jwk, "kty"));

    *pkey = (strcmp(kty, "RSA") == 0) ? ngx_oci_jwk_rsa(jwk)
            : (strcmp(kty, "EC") == 0) ? ngx_oci_jwk_ec(jwk)
                                       : ngx_oci_jwk_ed(jwk);

    return *pkey ? NULL : "a key is no valid one";
}


static ngx_int_t
ngx_oci_jwk_bytes(json_t *jwk, const char *name, u_char *dst, size_t max,
    size_t *len)
{
    json_t  *value;

    value = json_object_get(jwk, name);

    if (!json_is_string(value)
        || json_string_length(value) == 0
        || json_string_length(value) > (max * 4 + 2) / 3)
    {
        return NGX_ERROR;
    }

    return ngx_oci_jwt_base64(dst, len, (u_char *) json_string_value(value),
                              json_string_length(value));
}


static EVP_PKEY *
ngx_oci_jwk_rsa(json_t *jwk)
{
    size_t           nlen, elen;
    u_char           n[NGX_OCI_JWT_SIGNATURE + 1], e[8];
    BIGNUM          *bn, *be;
    EVP_PKEY        *pkey;
    OSSL_PARAM_BLD  *bld;

    if (ngx_oci_jwk_bytes(jwk, "n", n, sizeof(n), &nlen) != NGX_OK
        || ngx_oci_jwk_bytes(jwk, "e", e, sizeof(e), &elen) != NGX_OK)
    {
        return NULL;
    }

    pkey = NULL;
    bn = BN_bin2bn(n, (int) nlen, NULL);
    be = BN_bin2bn(e, (int) elen, NULL);
    bld = OSSL_PARAM_BLD_new();

    if (bn && be && bld
        && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, bn) == 1
        && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, be) == 1)
    {
        pkey = ngx_oci_jwk_from_data("RSA", bld);
    }

    OSSL_PARAM_BLD_free(bld);
    BN_free(bn);
    BN_free(be);

    return pkey;
}


static EVP_PKEY *
ngx_oci_jwk_ec(json_t *jwk)
{
    size_t           len;
    u_char           point[65];
    EVP_PKEY        *pkey;
    OSSL_PARAM_BLD  *bld;

    point[0] = POINT_CONVERSION_UNCOMPRESSED;

    if (ngx_oci_jwk_bytes(jwk, "x", point + 1, 32, &len) != NGX_OK
        || len != 32
        || ngx_oci_jwk_bytes(jwk, "y", point + 33, 32, &len) != NGX_OK
        || len != 32)
    {
        return NULL;
    }

    pkey = NULL;
    bld = OSSL_PARAM_BLD_new();

    if (bld
        && OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME,
                                           "prime256v1", 0)
           == 1
        && OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY,
                                            point, sizeof(point))
           == 1)
    {
        pkey = ngx_oci_jwk_from_data("EC", bld);
    }

    OSSL_PARAM_BLD_free(bld);

    return pkey;
}


static EVP_PKEY *
ngx_oci_jwk_ed(json_t *jwk)
{
    size_t  len;
    u_char  raw[NGX_OCI_JWK_ED_LEN];

    if (ngx_oci_jwk_bytes(jwk, "x", raw, sizeof(raw), &len) != NGX_OK
        || len != sizeof(raw))
    {
        return NULL;
    }

    return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw, len);
}


static EVP_PKEY *
ngx_oci_jwk_from_data(const char *type, OSSL_PARAM_BLD *bld)
{
    EVP_PKEY      *pkey;
    OSSL_PARAM    *params;
    EVP_PKEY_CTX  *ctx;

    pkey = NULL;
    params = OSSL_PARAM_BLD_to_param(bld);
    ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);

    if (params == NULL || ctx == NULL
        || EVP_PKEY_fromdata_init(ctx) != 1
        || EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
    {
        pkey = NULL;
    }

    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);

    return pkey;
}


/* the members that are required, in their order, are hashed */

ngx_int_t
ngx_oci_jwt_thumbprint(EVP_PKEY *pkey, char *kid)
{
    int      rsa;
    char     text[2048], a[NGX_OCI_JWT_SIGNATURE * 2], b[64];
    size_t   n;
    u_char   raw[NGX_OCI_JWT_SIGNATURE + 1], md[32];
    BIGNUM  *x, *y;

    rsa = (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA);

    if (rsa && EVP_PKEY_get_bits(pkey) > NGX_OCI_JWT_SIGNATURE * 8) {
        return NGX_ERROR;
    }

    if (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED25519) {
        n = sizeof(raw);

        if (EVP_PKEY_get_raw_public_key(pkey, raw, &n) != 1) {
            return NGX_ERROR;
        }

        (void) ngx_oci_jwk_encode(a, raw, n);
        n = snprintf(text, sizeof(text),
                     "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"%s\"}", a);
        goto hash;
    }

    x = NULL;
    y = NULL;

    if (EVP_PKEY_get_bn_param(pkey, rsa ? OSSL_PKEY_PARAM_RSA_E
                                        : OSSL_PKEY_PARAM_EC_PUB_X, &x)
        != 1
        || EVP_PKEY_get_bn_param(pkey, rsa ? OSSL_PKEY_PARAM_RSA_N
                                           : OSSL_PKEY_PARAM_EC_PUB_Y, &y)
           != 1
        || BN_num_bytes(x) > 32)
    {
        BN_free(x);
        BN_free(y);
        ERR_clear_error();
        return NGX_ERROR;
    }

    if (rsa) {
        (void) ngx_oci_jwk_encode(b, raw, BN_bn2bin(x, raw));
        (void) ngx_oci_jwk_encode(a, raw, BN_bn2bin(y, raw));
        n = snprintf(text, sizeof(text),
                     "{\"e\":\"%s\",\"kty\":\"RSA\",\"n\":\"%s\"}", b, a);

    } else {
        (void) BN_bn2binpad(x, raw, 32);
        (void) ngx_oci_jwk_encode(a, raw, 32);
        (void) BN_bn2binpad(y, raw, 32);
        (void) ngx_oci_jwk_encode(b, raw, 32);
        n = snprintf(text, sizeof(text), "{\"crv\":\"P-256\",\"kty\":\"EC\","
                     "\"x\":\"%s\",\"y\":\"%s\"}", a, b);
    }

    BN_free(x);
    BN_free(y);

hash:

    if (EVP_Digest(text, n, md, NULL, EVP_sha256(), NULL) != 1) {
        return NGX_ERROR;
    }

    (void) ngx_oci_jwk_encode(kid, md, sizeof(md));

    return NGX_OK;
}


static size_t
ngx_oci_jwk_encode(char *dst, const u_char *src, size_t len)
{
    size_t              i;
    char               *p;
    uint32_t            bits;
    unsigned            have;
    static const char   text[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789-_";

    p = dst;
    bits = 0;
    have = 0;

    for (i = 0; i < len; i++) {
        bits = (bits << 8) | src[i];
        have += 8;

        while (have >= 6) {
            have -= 6;
            *p++ = text[(bits >> have) & 63];
        }
    }

    if (have) {
        *p++ = text[(bits << (6 - have)) & 63];
    }

    *p = '\0';

    return p - dst;
}
