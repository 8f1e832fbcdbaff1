
/*
 * Copyright (C) The nginx-oci authors
 *
 * Tokens of the edge's own: what is signed is accepted, by OpenSSL and by
 * what checks tokens, and is bound to its key, audience and time.
 */


#include "ngx_oci_jwt.h"
#include "ngx_oci_rbac.h"
#include "ngx_oci_scope.h"
#include "tap.h"

#include <openssl/ec.h>


#define T_NOW  1800000000


/* RFC 8037, appendix A: a key, and its thumbprint */

static const u_char  t_secret[32] = {
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60,
    0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19,
    0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60
};

static const char  t_thumbprint[] =
    "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";


static ngx_str_t
t_str(const char *text)
{
    ngx_str_t  s;

    s.data = (u_char *) text;
    s.len = strlen(text);

    return s;
}


static void
t_key(ngx_oci_jwt_key_t *key, ngx_uint_t alg, EVP_PKEY *pkey, char *kid)
{
    memset(key, 0, sizeof(ngx_oci_jwt_key_t));

    if (pkey == NULL || ngx_oci_jwt_thumbprint(pkey, kid) != NGX_OK) {
        abort();
    }

    key->alg = alg;
    key->pkey = pkey;
    key->kid = t_str(kid);
    key->signature = 64;
}


/* the signature, checked without what is tested */

static int
t_verify(ngx_oci_jwt_key_t *key, const char *token, size_t len)
{
    int            rc;
    size_t         n;
    u_char         raw[96], *der;
    ECDSA_SIG     *sig;
    const char    *dot;
    EVP_MD_CTX    *ctx;

    dot = strrchr(token, '.');

    if (dot == NULL
        || ngx_oci_jwt_base64(raw, &n, (const u_char *) dot + 1,
                              len - (dot + 1 - token)) != NGX_OK
        || n != 64)
    {
        return 0;
    }

    ctx = EVP_MD_CTX_new();
    EVP_DigestVerifyInit(ctx, NULL, key->alg == NGX_OCI_JWT_ES256
                                    ? EVP_sha256() : NULL, NULL, key->pkey);

    if (key->alg == NGX_OCI_JWT_ES256) {
        sig = ECDSA_SIG_new();
        ECDSA_SIG_set0(sig, BN_bin2bn(raw, 32, NULL),
                       BN_bin2bn(raw + 32, 32, NULL));
        der = NULL;
        rc = i2d_ECDSA_SIG(sig, &der);
        rc = EVP_DigestVerify(ctx, der, (size_t) rc, (const u_char *) token,
                              dot - token);
        OPENSSL_free(der);
        ECDSA_SIG_free(sig);

    } else {
        rc = EVP_DigestVerify(ctx, raw, n, (const u_char *) token,
                              dot - token);
    }

    EVP_MD_CTX_free(ctx);

    return rc == 1;
}


static char *
t_token(ngx_oci_jwt_key_t *key, ngx_oci_scopes_t *scopes, const char *who,
    size_t *len)
{
    char       *claims, *token;
    ngx_str_t   subject, audience, id;

    subject = t_str(who);
    audience = t_str("team");
    id = t_str("0123456789abcdef");

    claims = ngx_oci_scopes_claims(scopes, &subject, &audience, &id, T_NOW);
    token = ngx_oci_jwt_sign(key, claims, strlen(claims), len);
    free(claims);

    return token;
}


/* accepted by who checks tokens? */

static int
t_check(ngx_oci_jwt_key_t *key, const char *text, size_t len,
    const char *audience, int64_t now, ngx_uint_t *rights)
{
    char                  error[NGX_OCI_JWT_ERROR];
    ngx_str_t             token, aud, issuer, name;
    ngx_oci_jwt_t         jwt;
    ngx_oci_jwt_keys_t    keys;
    ngx_oci_jwt_check_t   check;

    memset(&keys, 0, sizeof(keys));
    memset(&check, 0, sizeof(check));

    issuer = t_str(NGX_OCI_SCOPE_ISSUER);
    aud = t_str(audience);
    token.data = (u_char *) text;
    token.len = len;

    EVP_PKEY_up_ref(key->pkey);

    if (ngx_oci_jwt_keys_add(&keys, key->pkey, &key->kid, &issuer, error)
        != NGX_OK)
    {
        printf("# %s\n", error);
        EVP_PKEY_free(key->pkey);
        return 0;
    }

    check.keys = &keys;
    check.own = &aud;
    check.now = now;

    if (ngx_oci_jwt_verify(&jwt, &token, &check) != NULL) {
        ngx_oci_jwt_keys_free(&keys);
        return 0;
    }

    name = t_str("llm/model");
    *rights = ngx_oci_jwt_rights(&jwt, "repository", &name);

    ngx_oci_jwt_free(&jwt);
    ngx_oci_jwt_keys_free(&keys);

    return 1;
}


static void
t_one(ngx_oci_jwt_key_t *key, ngx_oci_jwt_key_t *other)
{
    char              *token, *again, *end;
    size_t             len, n;
    ngx_str_t          text;
    ngx_uint_t         rights;
    ngx_oci_scopes_t   scopes;
    char               query[] = "scope=repository:llm/model:pull,push";

    text = t_str(query);
    tap_ok(ngx_oci_scopes_parse(&scopes, &text) == NULL, "a scope");

    token = t_token(key, &scopes, "al\"ice", &len);
    tap_ok(token && strlen(token) == len, "a token");
    tap_ok(t_verify(key, token, len), "of a right signature");
    tap_ok(t_verify(key, token, len) && !t_verify(other, token, len),
           "by this key only");
    tap_ok(t_check(key, token, len, "team", T_NOW, &rights), "is accepted");
    tap_ok(rights == (NGX_OCI_PULL|NGX_OCI_PUSH), "for what it is for");
    tap_ok(t_check(key, token, len, "team", T_NOW + NGX_OCI_SCOPE_TOKEN - 1,
                   &rights), "for five minutes");
    tap_ok(!t_check(key, token, len, "team",
                    T_NOW + NGX_OCI_SCOPE_TOKEN + NGX_OCI_JWT_SKEW + 1,
                    &rights), "and no longer");
    tap_ok(!t_check(key, token, len, "others", T_NOW, &rights),
           "not by others");
    tap_ok(!t_check(other, token, len, "team", T_NOW, &rights),
           "not by another key");

    end = strrchr(token, '.') + 10;
    *end = (*end == 'A') ? 'B' : 'A';
    tap_ok(!t_verify(key, token, len), "a changed signature is not one");
    tap_ok(!t_check(key, token, len, "team", T_NOW, &rights),
           "nor accepted");

    again = t_token(key, &scopes, "", &n);
    tap_ok(again && t_check(key, again, n, "team", T_NOW, &rights),
           "a token of nobody's");

    free(token);
    free(again);
}


/* lengths of r and s vary: each is padded */

static void
t_many(ngx_oci_jwt_key_t *key)
{
    char    *token;
    size_t   len;
    int      i, ok;
    char     claims[32];

    for (i = 0, ok = 0; i < 600; i++) {
        sprintf(claims, "{\"jti\":\"%d\"}", i);
        token = ngx_oci_jwt_sign(key, claims, strlen(claims), &len);
        ok += token && t_verify(key, token, len);
        free(token);
    }

    tap_ok(ok == 600, "600 signatures, all of 64 bytes");
}


int
main(void)
{
    char                kid[64], kid2[64], bad[NGX_OCI_JWT_KID + 2];
    char               *big;
    size_t              len;
    EVP_PKEY           *ed;
    ngx_oci_jwt_key_t   key, key2, rsa;

    ed = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, t_secret, 32);

    t_key(&key, NGX_OCI_JWT_EDDSA, ed, kid);
    tap_ok(strcmp(kid, t_thumbprint) == 0, "the thumbprint of RFC 8037");

    t_key(&key2, NGX_OCI_JWT_ES256, EVP_EC_gen("P-256"), kid2);

    t_one(&key, &key2);
    t_one(&key2, &key);
    t_many(&key2);

    rsa = key;
    rsa.alg = NGX_OCI_JWT_RS256;
    tap_ok(ngx_oci_jwt_sign(&rsa, "{}", 2, &len) == NULL,
           "RS256 signs nothing");

    rsa = key;
    rsa.kid = t_str("a\"b");
    tap_ok(ngx_oci_jwt_sign(&rsa, "{}", 2, &len) == NULL,
           "nor does a name with a quote");

    memset(bad, 'a', sizeof(bad));
    rsa.kid.data = (u_char *) bad;
    rsa.kid.len = NGX_OCI_JWT_KID + 1;
    tap_ok(ngx_oci_jwt_sign(&rsa, "{}", 2, &len) == NULL, "or a long one");

    big = calloc(1, NGX_OCI_JWT_MAX + 1);
    tap_ok(ngx_oci_jwt_sign(&key, big, NGX_OCI_JWT_MAX + 1, &len) == NULL,
           "nor are very many claims signed");
    free(big);

    EVP_PKEY_free(key.pkey);
    EVP_PKEY_free(key2.pkey);

    return tap_done();
}
