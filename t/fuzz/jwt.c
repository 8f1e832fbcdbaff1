
/*
 * Copyright (C) The nginx-oci authors
 *
 * Tokens and keys.  The input's first byte says what the rest is: a token as
 * it is, header and claims that are parted by "\n" and encoded here, keys in
 * PEM or as a JSON Web Key Set, or base64url.
 */


#include "ngx_oci_jwt.h"
#include "ngx_oci_rbac.h"
#include "fuzz.h"

#include <openssl/err.h>


#define FUZZ_NOW   1700000000
#define FUZZ_SIG   86               /* characters of 64 bytes */


static const char  fuzz_set[] =
    "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"ed\",\"x\":"
    "\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"},{\"kty\":\"EC\","
    "\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";

static ngx_oci_jwt_keys_t   fuzz_keys;
static ngx_str_t            fuzz_issuers[] = { ngx_string("i") };
static ngx_str_t            fuzz_audiences[] = { ngx_string("a") };
static ngx_str_t            fuzz_own = ngx_string("own");


static void
fuzz_token(ngx_str_t *token, ngx_uint_t remembered)
{
    size_t                i;
    ngx_str_t             name;
    ngx_uint_t            rights;
    const char           *why;
    ngx_oci_jwt_t         jwt;
    ngx_oci_jwt_check_t   check;

    memset(&check, 0, sizeof(ngx_oci_jwt_check_t));

    check.keys = &fuzz_keys;
    check.issuers = fuzz_issuers;
    check.nissuers = 1;
    check.audiences = fuzz_audiences;
    check.naudiences = 1;
    check.own = &fuzz_own;
    check.now = FUZZ_NOW;
    check.remembered = remembered;

    why = ngx_oci_jwt_verify(&jwt, token, &check);

    fuzz_check(ERR_peek_error() == 0);

    if (why) {
        fuzz_check(jwt.header == NULL && jwt.claims == NULL
                   && jwt.subject.len == 0);
        fuzz_check(why[0]);
        return;
    }

    /* nobody here has a key's other half */

    fuzz_check(remembered);

    fuzz_check(json_is_object(jwt.claims) && json_is_object(jwt.header));
    fuzz_check(json_object_get(jwt.header, "crit") == NULL);
    fuzz_check(jwt.issuer.len == 1 && jwt.issuer.data[0] == 'i');
    fuzz_check(jwt.expires + NGX_OCI_JWT_SKEW > FUZZ_NOW);
    fuzz_check(jwt.not_before <= FUZZ_NOW + NGX_OCI_JWT_SKEW);
    fuzz_check(jwt.issued <= FUZZ_NOW + NGX_OCI_JWT_SKEW);
    fuzz_check(jwt.subject.len <= NGX_OCI_RBAC_NAME_MAX && !jwt.wrong);

    for (i = 0; i < jwt.subject.len; i++) {
        fuzz_check(jwt.subject.data[i] >= 0x20
                   && jwt.subject.data[i] != 0x7f);
    }

    name.data = (u_char *) "x/y";
    name.len = 3;
    rights = ngx_oci_jwt_rights(&jwt, "repository", &name);
    fuzz_check((rights & ~(NGX_OCI_PULL|NGX_OCI_PUSH|NGX_OCI_DELETE)) == 0);
    fuzz_check(rights == 0 || jwt.access);

    name.data = (u_char *) "catalog";
    name.len = 7;
    rights = ngx_oci_jwt_rights(&jwt, "registry", &name);
    fuzz_check((rights & ~NGX_OCI_CATALOG) == 0);

    ngx_oci_jwt_free(&jwt);
}


static size_t
fuzz_encode(u_char *dst, const u_char *src, size_t len)
{
    size_t    n;
    uint32_t  v;

    static const char  basis[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    for (n = 0; len >= 3; len -= 3, src += 3) {
        v = (uint32_t) src[0] << 16 | (uint32_t) src[1] << 8 | src[2];
        dst[n++] = basis[v >> 18];
        dst[n++] = basis[(v >> 12) & 63];
        dst[n++] = basis[(v >> 6) & 63];
        dst[n++] = basis[v & 63];
    }

    if (len) {
        v = (uint32_t) src[0] << 16 | (len == 2 ? (uint32_t) src[1] << 8 : 0);
        dst[n++] = basis[v >> 18];
        dst[n++] = basis[(v >> 12) & 63];

        if (len == 2) {
            dst[n++] = basis[(v >> 6) & 63];
        }
    }

    return n;
}


/* header "\n" claims */

static void
fuzz_encoded(ngx_str_t *text)
{
    size_t      n;
    u_char     *p;
    ngx_str_t   token;

    p = memchr(text->data, '\n', text->len);
    n = p ? (size_t) (p - text->data) : text->len;

    token.data = malloc(text->len * 2 + FUZZ_SIG + 16);

    if (token.data == NULL) {
        abort();
    }

    token.len = fuzz_encode(token.data, text->data, n);
    token.data[token.len++] = '.';

    if (p) {
        token.len += fuzz_encode(token.data + token.len, p + 1,
                                 text->len - n - 1);
    }

    token.data[token.len++] = '.';
    memset(token.data + token.len, 'A', FUZZ_SIG);
    token.len += FUZZ_SIG;

    fuzz_token(&token, 1);
    fuzz_token(&token, 0);

    free(token.data);
}


static void
fuzz_key_set(ngx_str_t *text)
{
    char                 error[NGX_OCI_JWT_ERROR], kid[64];
    size_t               i;
    ngx_int_t            rc;
    ngx_oci_jwt_keys_t   keys;
    ngx_oci_jwt_key_t   *key;

    memset(&keys, 0, sizeof(ngx_oci_jwt_keys_t));
    error[0] = '\0';

    rc = ngx_oci_jwt_keys_text(&keys, (char *) text->data, text->len, error);

    fuzz_check(ERR_peek_error() == 0);
    fuzz_check(rc == NGX_OK ? keys.nkeys > 0 : error[0] != '\0');
    fuzz_check(keys.nkeys <= NGX_OCI_JWT_KEYS);

    for (i = 0; i < keys.nkeys; i++) {
        key = &keys.keys[i];

        fuzz_check(key->pkey && key->alg <= NGX_OCI_JWT_EDDSA);
        fuzz_check(key->alg == NGX_OCI_JWT_RS256
                   ? key->signature >= 256 && key->signature <= 512
                   : key->signature == 64);
        fuzz_check(key->issuer.len == 0 && key->kid.len <= NGX_OCI_JWT_KID);
        fuzz_check(ngx_oci_jwt_thumbprint(key->pkey, kid) == NGX_OK
                   && strlen(kid) == 43);
    }

    ngx_oci_jwt_keys_free(&keys);
}


/* there is one way to write it */

static void
fuzz_base64(ngx_str_t *text)
{
    size_t   n;
    u_char  *bytes, *again;

    bytes = malloc(text->len + 1);
    again = malloc(text->len * 2 + 8);

    if (bytes == NULL || again == NULL) {
        abort();
    }

    if (ngx_oci_jwt_base64(bytes, &n, text->data, text->len) == NGX_OK) {
        fuzz_check(n <= text->len * 3 / 4);
        fuzz_check(fuzz_encode(again, bytes, n) == text->len
                   && memcmp(again, text->data, text->len) == 0);
    }

    free(bytes);
    free(again);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char       error[NGX_OCI_JWT_ERROR];
    ngx_str_t  text;

    if (size == 0) {
        return 0;
    }

    if (fuzz_keys.nkeys == 0) {
        fuzz_check(ngx_oci_jwt_keys_text(&fuzz_keys, fuzz_set,
                                         sizeof(fuzz_set) - 1, error)
                   == NGX_OK);
    }

    text = fuzz_copy(data + 1, size - 1);

    switch (data[0] % 4) {

    case 0:
        fuzz_token(&text, 0);
        fuzz_token(&text, 1);
        break;

    case 1:
        fuzz_encoded(&text);
        break;

    case 2:
        fuzz_key_set(&text);
        break;

    default:
        fuzz_base64(&text);
    }

    free(text.data);

    return 0;
}
