
/*
 * Copyright (C) The nginx-oci authors
 *
 * Tokens and their keys: the vectors of RFC 7515, 7638 and 8037; what tokens
 * say; and those that somebody made up.
 */


#include "ngx_oci_jwt.h"
#include "ngx_oci_rbac.h"
#include "tap.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>


#define T_NOW     1700000000
#define T_JOE     "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6"  \
                  "Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

#define T_RSA_N                                                               \
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddx"              \
    "HmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMs"              \
    "D1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSH"              \
    "SXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV"              \
    "MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8"              \
    "NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"

#define T_RSA     "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"" T_RSA_N              \
                  "\",\"e\":\"AQAB\"}]}"
#define T_EC      "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","             \
                  "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","    \
                  "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}"
#define T_ED_X    "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
#define T_ED      "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\","          \
                  "\"x\":\"" T_ED_X "\"}]}"


static struct {
    const char  *name;
    const char  *keys;
    ngx_uint_t   alg;
    const char  *input;
    const char  *signature;
} t_vectors[] = {
    { "RFC 7515, A.2", T_RSA, NGX_OCI_JWT_RS256,
      "eyJhbGciOiJSUzI1NiJ9." T_JOE,
      "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7"
      "AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4"
      "BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K"
      "0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqv"
      "hJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrB"
      "p0igcN_IoypGlUPQGe77Rw" },
    { "RFC 7515, A.3", T_EC, NGX_OCI_JWT_ES256,
      "eyJhbGciOiJFUzI1NiJ9." T_JOE,
      "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSA"
      "pmWQxfKTUJqPP3-Kg6NU1Q" },
    { "RFC 8037, A.4", T_ED, NGX_OCI_JWT_EDDSA,
      "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
      "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5B"
      "hVsPt9g7sVvpAr_MuM0KAg" }
};


/* keys of the tests, made anew each time; the first three are configured */

typedef enum {
    T_KEY_RSA = 0,
    T_KEY_EC,
    T_KEY_ED,
    T_KEY_OWN,
    T_KEY_OTHER_RSA,
    T_KEY_OTHER_EC,
    T_KEY_OTHER_ED,
    T_KEY_N
} t_key_e;

#define T_KEY_NONE  T_KEY_N             /* no signature */


static EVP_PKEY            *t_keys[T_KEY_N];
static ngx_oci_jwt_keys_t   t_set;
static ngx_str_t            t_issuers[] = {
    ngx_string("harbor-token-issuer"), ngx_string("https://auth.example/")
};
static size_t               t_left;    /* calls; 0: none fails */

static ngx_str_t            t_service = ngx_string("edge-service");
static ngx_str_t            t_audiences[] = {
    ngx_string("harbor-registry"), ngx_string("edge.example")
};


#define T_CLAIMS  "\"iss\":\"harbor-token-issuer\","                      \
                  "\"aud\":\"harbor-registry\",\"exp\":1700000300,"         \
                  "\"nbf\":1699999700,\"iat\":1700000000"
#define T_ACCESS  "\"access\":[{\"type\":\"repository\",\"name\":\"llm/a\","  \
                  "\"actions\":[\"pull\"]}]"
#define T_GOOD    "{" T_CLAIMS ",\"sub\":\"alice\"," T_ACCESS "}"
#define T_RS256   "{\"alg\":\"RS256\",\"typ\":\"JWT\"}"
#define T_ES256   "{\"alg\":\"ES256\",\"typ\":\"JWT\"}"
#define T_EDDSA   "{\"alg\":\"EdDSA\",\"typ\":\"JWT\"}"
#define T_ISS     "\"iss\":\"harbor-token-issuer\""
#define T_AUD     "\"aud\":\"harbor-registry\""
#define T_EXP     "\"exp\":1700000300"


/* header, claims and key; NULL: it is right */

static struct {
    const char  *name;
    const char  *header;
    const char  *claims;
    ngx_uint_t   key;
    const char  *error;
} t_tokens[] = {
    { "RS256", T_RS256, T_GOOD, T_KEY_RSA, NULL },
    { "ES256", T_ES256, T_GOOD, T_KEY_EC, NULL },
    { "EdDSA", T_EDDSA, T_GOOD, T_KEY_ED, NULL },
    { "no type", "{\"alg\":\"RS256\"}", T_GOOD, T_KEY_RSA, NULL },
    { "an access token", "{\"alg\":\"RS256\",\"typ\":\"at+jwt\"}", T_GOOD,
      T_KEY_RSA, NULL },
    { "a \"kid\" of a key without one",
      "{\"alg\":\"RS256\",\"kid\":\"AAAA:BBBB\"}", T_GOOD, T_KEY_RSA, NULL },
    { "an audience of many", T_RS256, "{" T_ISS ",\"aud\":[\"x\","
      "\"edge.example\"]," T_EXP "}", T_KEY_RSA, NULL },
    { "another issuer of those", T_RS256, "{\"iss\":"
      "\"https://auth.example/\"," T_AUD "," T_EXP "}", T_KEY_RSA, NULL },
    { "without access", T_RS256, "{" T_CLAIMS "}", T_KEY_RSA, NULL },
    { "null", T_RS256, "{" T_CLAIMS ",\"access\":null,\"sub\":null}",
      T_KEY_RSA, NULL },
    { "actions: null", T_RS256, "{" T_CLAIMS ",\"access\":[{\"type\":\"x\","
      "\"name\":\"y\",\"actions\":null}]}", T_KEY_RSA, NULL },
    { "expired, within the skew", T_RS256, "{" T_ISS "," T_AUD
      ",\"exp\":1699999941}", T_KEY_RSA, NULL },
    { "a fraction", T_RS256, "{" T_ISS "," T_AUD ",\"exp\":1.7000003e9}",
      T_KEY_RSA, NULL },
    { "of the edge", T_ES256, "{\"iss\":\"edge\",\"aud\":\"edge-service\","
      T_EXP "}", T_KEY_OWN, NULL },
    { "of the edge, for another policy", T_ES256, "{\"iss\":\"edge\","
      "\"aud\":\"edge.example\"," T_EXP "}", T_KEY_OWN,
      "the token is for another audience" },
    { "with the edge's audience", T_ES256, "{" T_ISS ",\"aud\":"
      "\"edge-service\"," T_EXP "}", T_KEY_EC,
      "the token is for another audience" },

    /* the key decides of the algorithm */

    { "none", "{\"alg\":\"none\"}", T_GOOD, T_KEY_RSA,
      "the token's algorithm is none of" },
    { "None", "{\"alg\":\"None\"}", T_GOOD, T_KEY_RSA,
      "the token's algorithm is none of" },
    { "nONE", "{\"alg\":\"nONE\"}", T_GOOD, T_KEY_NONE,
      "a part of the token is empty" },
    { "no algorithm", "{\"typ\":\"JWT\"}", T_GOOD, T_KEY_RSA,
      "the token's header has no algorithm" },
    { "a number", "{\"alg\":256}", T_GOOD, T_KEY_RSA,
      "the token's header has no algorithm" },
    { "HS256", "{\"alg\":\"HS256\"}", T_GOOD, T_KEY_RSA,
      "the token's algorithm is none of" },
    { "RS512", "{\"alg\":\"RS512\"}", T_GOOD, T_KEY_RSA,
      "the token's algorithm is none of" },
    { "PS256", "{\"alg\":\"PS256\"}", T_GOOD, T_KEY_RSA,
      "the token's algorithm is none of" },
    { "rs256", "{\"alg\":\"rs256\"}", T_GOOD, T_KEY_RSA,
      "the token's algorithm is none of" },
    { "RS256 by EC", T_RS256, T_GOOD, T_KEY_EC,
      "the token's signature is wrong" },
    { "ES256 by RSA", T_ES256, T_GOOD, T_KEY_RSA,
      "the token's signature is wrong" },
    { "ES256 by Ed25519", T_ES256, T_GOOD, T_KEY_ED,
      "the token's signature is wrong" },
    { "EdDSA by EC", T_EDDSA, T_GOOD, T_KEY_EC,
      "the token's signature is wrong" },
    { "another's RSA", T_RS256, T_GOOD, T_KEY_OTHER_RSA,
      "the token's signature is wrong" },
    { "another's EC", T_ES256, T_GOOD, T_KEY_OTHER_EC,
      "the token's signature is wrong" },
    { "another's Ed25519", T_EDDSA, T_GOOD, T_KEY_OTHER_ED,
      "the token's signature is wrong" },

    /* issuers have keys of their own */

    { "the edge's, by a configured key", T_RS256, "{\"iss\":\"edge\","
      "\"aud\":\"edge-service\"," T_EXP "}", T_KEY_RSA, "there is no key" },
    { "the edge's, by such a key of its kind", T_ES256, "{\"iss\":\"edge\","
      "\"aud\":\"edge-service\"," T_EXP "}", T_KEY_EC,
      "the token's signature is wrong" },
    { "another's, by the edge's key", T_ES256, T_GOOD, T_KEY_OWN,
      "the token's signature is wrong" },

    /* nothing of the header is a key */

    { "a \"kid\" of the other key", "{\"alg\":\"ES256\",\"kid\":\"ed\"}",
      T_GOOD, T_KEY_EC, NULL },
    { "a \"kid\" that there is not", "{\"alg\":\"EdDSA\",\"kid\":\"xx\"}",
      T_GOOD, T_KEY_ED, "there is no key" },
    { "a \"kid\" that is a prefix", "{\"alg\":\"EdDSA\",\"kid\":\"e\"}",
      T_GOOD, T_KEY_ED, "there is no key" },
    { "a \"kid\" of other case", "{\"alg\":\"EdDSA\",\"kid\":\"ED\"}",
      T_GOOD, T_KEY_ED, "there is no key" },
    { "a \"kid\" that is a path",
      "{\"alg\":\"EdDSA\",\"kid\":\"../../../../dev/null\"}", T_GOOD,
      T_KEY_ED, "there is no key" },
    { "a \"kid\" that is SQL",
      "{\"alg\":\"EdDSA\",\"kid\":\"ed' OR '1'='1\"}", T_GOOD, T_KEY_ED,
      "there is no key" },
    { "a \"kid\" with a zero", "{\"alg\":\"EdDSA\",\"kid\":\"ed\\u0000\"}",
      T_GOOD, T_KEY_ED, "the token's header is no JSON object" },
    { "a \"kid\" that is none", "{\"alg\":\"EdDSA\",\"kid\":7}", T_GOOD,
      T_KEY_ED, "the token's \"kid\" is no string" },
    { "a jku", "{\"alg\":\"RS256\",\"jku\":\"http://127.0.0.1/jwks\"}",
      T_GOOD, T_KEY_OTHER_RSA, "the token's signature is wrong" },
    { "an x5u", "{\"alg\":\"RS256\",\"x5u\":\"http://127.0.0.1/crt\"}",
      T_GOOD, T_KEY_OTHER_RSA, "the token's signature is wrong" },
    { "a crit", "{\"alg\":\"RS256\",\"crit\":[\"exp\"]}", T_GOOD, T_KEY_RSA,
      "the token's header has \"crit\"" },
    { "an empty crit", "{\"alg\":\"RS256\",\"crit\":[]}", T_GOOD, T_KEY_RSA,
      "the token's header has \"crit\"" },
    { "a payload that is not encoded",
      "{\"alg\":\"RS256\",\"b64\":false,\"crit\":[\"b64\"]}", T_GOOD,
      T_KEY_RSA, "the token's header has \"crit\"" },
    { "a token of another type", "{\"alg\":\"RS256\",\"typ\":\"dpop+jwt\"}",
      T_GOOD, T_KEY_RSA, "the token's type is neither" },
    { "an event", "{\"alg\":\"RS256\",\"typ\":\"secevent+jwt\"}", T_GOOD,
      T_KEY_RSA, "the token's type is neither" },
    { "a type that is none", "{\"alg\":\"RS256\",\"typ\":[]}", T_GOOD,
      T_KEY_RSA, "the token's type is neither" },

    /* JSON */

    { "two algorithms", "{\"alg\":\"none\",\"alg\":\"RS256\"}", T_GOOD,
      T_KEY_RSA, "the token's header is no JSON object" },
    { "two subjects", T_RS256, "{" T_CLAIMS ",\"sub\":\"alice\","
      "\"sub\":\"root\"}", T_KEY_RSA,
      "the token's claims are no JSON object" },
    { "an array", T_RS256, "[]", T_KEY_RSA,
      "the token's claims are no JSON object" },
    { "a string", T_RS256, "\"x\"", T_KEY_RSA,
      "the token's claims are no JSON object" },
    { "half of it", T_RS256, "{" T_CLAIMS, T_KEY_RSA,
      "the token's claims are no JSON object" },
    { "more than it", T_RS256, T_GOOD "x", T_KEY_RSA,
      "the token's claims are no JSON object" },
    { "two of them", T_RS256, T_GOOD T_GOOD, T_KEY_RSA,
      "the token's claims are no JSON object" },
    { "deep", T_RS256, "{\"x\":[[[[[[[[]]]]]]]]," T_CLAIMS "}", T_KEY_RSA,
      "the token's claims are no JSON object" },
    { "brackets in a text", T_RS256, "{\"x\":\"[[[[[[[[[[[\\\"[[\","
      T_CLAIMS "}", T_KEY_RSA, NULL },
    { "no UTF-8", T_RS256, "{\"x\":\"\xff\"," T_CLAIMS "}", T_KEY_RSA,
      "the token's claims are no JSON object" },
    { "half a surrogate", T_RS256, "{\"x\":\"\\ud800\"," T_CLAIMS "}",
      T_KEY_RSA, "the token's claims are no JSON object" },
    { "a byte order mark", T_RS256, "\xef\xbb\xbf" T_GOOD, T_KEY_RSA,
      "the token's claims are no JSON object" },

    /* from whom, for whom */

    { "no issuer", T_RS256, "{" T_AUD "," T_EXP "}", T_KEY_RSA,
      "the token has no issuer" },
    { "an empty issuer", T_RS256, "{\"iss\":\"\"," T_AUD "," T_EXP "}",
      T_KEY_RSA, "the token has no issuer" },
    { "another issuer", T_RS256, "{\"iss\":\"x\"," T_AUD "," T_EXP "}",
      T_KEY_RSA, "the token is of another issuer" },
    { "an issuer's prefix", T_RS256, "{\"iss\":\"https://auth.example\","
      T_AUD "," T_EXP "}", T_KEY_RSA, "the token is of another issuer" },
    { "issuers", T_RS256, "{\"iss\":[\"harbor-token-issuer\"]," T_AUD ","
      T_EXP "}", T_KEY_RSA, "the token has no issuer" },
    { "no audience", T_RS256, "{" T_ISS "," T_EXP "}", T_KEY_RSA,
      "the token is for another audience" },
    { "another audience", T_RS256, "{" T_ISS ",\"aud\":\"x\"," T_EXP "}",
      T_KEY_RSA, "the token is for another audience" },
    { "other audiences", T_RS256, "{" T_ISS ",\"aud\":[\"x\",\"\"]," T_EXP
      "}", T_KEY_RSA, "the token is for another audience" },
    { "no audiences", T_RS256, "{" T_ISS ",\"aud\":[]," T_EXP "}",
      T_KEY_RSA, "the token is for another audience" },
    { "audiences that are none", T_RS256, "{" T_ISS ",\"aud\":"
      "[\"harbor-registry\",1]," T_EXP "}", T_KEY_RSA,
      "the token is for another audience" },
    { "an audience's prefix", T_RS256, "{" T_ISS ",\"aud\":\"harbor\","
      T_EXP "}", T_KEY_RSA, "the token is for another audience" },

    /* when */

    { "no end", T_RS256, "{" T_ISS "," T_AUD "}", T_KEY_RSA,
      "the token does not say when it expires" },
    { "the end is null", T_RS256, "{" T_ISS "," T_AUD ",\"exp\":null}",
      T_KEY_RSA, "one of the token's times is none" },
    { "the end is a text", T_RS256, "{" T_ISS "," T_AUD
      ",\"exp\":\"1700000300\"}", T_KEY_RSA,
      "one of the token's times is none" },
    { "the end is 0", T_RS256, "{" T_ISS "," T_AUD ",\"exp\":0}", T_KEY_RSA,
      "one of the token's times is none" },
    { "the end is before 1970", T_RS256, "{" T_ISS "," T_AUD ",\"exp\":-1}",
      T_KEY_RSA, "one of the token's times is none" },
    { "the end is very late", T_RS256, "{" T_ISS "," T_AUD
      ",\"exp\":9223372036854775807}", T_KEY_RSA,
      "one of the token's times is none" },
    { "the end is later yet", T_RS256, "{" T_ISS "," T_AUD
      ",\"exp\":92233720368547758070}", T_KEY_RSA,
      "the token's claims are no JSON object" },
    { "the end is 1e400", T_RS256, "{" T_ISS "," T_AUD ",\"exp\":1e400}",
      T_KEY_RSA, "the token's claims are no JSON object" },
    { "the end is 1e300", T_RS256, "{" T_ISS "," T_AUD ",\"exp\":1e300}",
      T_KEY_RSA, "one of the token's times is none" },
    { "expired", T_RS256, "{" T_ISS "," T_AUD ",\"exp\":1699999940}",
      T_KEY_RSA, "the token is expired" },
    { "not yet valid", T_RS256, "{" T_ISS "," T_AUD "," T_EXP
      ",\"nbf\":1700000061}", T_KEY_RSA, "the token is not valid yet" },
    { "of tomorrow", T_RS256, "{" T_ISS "," T_AUD "," T_EXP
      ",\"iat\":1700000061}", T_KEY_RSA, "the token is issued in the future" },
    { "soon valid", T_RS256, "{" T_ISS "," T_AUD "," T_EXP
      ",\"nbf\":1700000060,\"iat\":1700000060}", T_KEY_RSA, NULL },

    /* who and what */

    { "a subject with a line", T_RS256, "{" T_CLAIMS ",\"sub\":\"a\\nb\"}",
      T_KEY_RSA, "the token's subject is no name" },
    { "a subject with an escape", T_RS256, "{" T_CLAIMS
      ",\"sub\":\"a\\u001b[2J\"}", T_KEY_RSA,
      "the token's subject is no name" },
    { "a subject with a control", T_RS256, "{" T_CLAIMS
      ",\"sub\":\"a\\u009b2J\"}", T_KEY_RSA,
      "the token's subject is no name" },
    { "a subject that is written backwards", T_RS256, "{" T_CLAIMS
      ",\"sub\":\"a\\u202ecba\"}", T_KEY_RSA,
      "the token's subject is no name" },
    { "a subject with an isolate", T_RS256, "{" T_CLAIMS
      ",\"sub\":\"a\\u2066b\"}", T_KEY_RSA,
      "the token's subject is no name" },
    { "a subject with a separator of lines", T_RS256, "{" T_CLAIMS
      ",\"sub\":\"a\\u2028b\"}", T_KEY_RSA,
      "the token's subject is no name" },
    { "a subject with a dash", T_RS256, "{" T_CLAIMS
      ",\"sub\":\"a\\u2014b\\u2060c\"}", T_KEY_RSA, NULL },
    { "a subject that is none", T_RS256, "{" T_CLAIMS ",\"sub\":[\"a\"]}",
      T_KEY_RSA, "the token's subject is no name" },
    { "a robot", T_RS256, "{" T_CLAIMS ",\"sub\":\"robot$llm+ci\"}",
      T_KEY_RSA, NULL },
    { "access that is none", T_RS256, "{" T_CLAIMS ",\"access\":{}}",
      T_KEY_RSA, "the token's \"access\" is no array" },
    { "access to nothing", T_RS256, "{" T_CLAIMS ",\"access\":[{}]}",
      T_KEY_RSA, "the token's \"access\" has no type" },
    { "access of a text", T_RS256, "{" T_CLAIMS ",\"access\":[\"x\"]}",
      T_KEY_RSA, "the token's \"access\" has no type" },
    { "actions that are none", T_RS256, "{" T_CLAIMS ",\"access\":"
      "[{\"type\":\"repository\",\"name\":\"a\",\"actions\":\"pull\"}]}",
      T_KEY_RSA, "the token's \"access\" has no type" },
    { "an action that is none", T_RS256, "{" T_CLAIMS ",\"access\":"
      "[{\"type\":\"repository\",\"name\":\"a\",\"actions\":[\"pull\",1]}]}",
      T_KEY_RSA, "the token's \"access\" has no type" }
};


static char *
t_encode(const u_char *src, size_t len)
{
    char      *dst, *p;
    size_t     i;

    dst = malloc(len * 4 / 3 + 8);

    if (dst == NULL) {
        abort();
    }

    p = dst + EVP_EncodeBlock((u_char *) dst, src, (int) len);

    while (p > dst && p[-1] == '=') {
        p--;
    }

    *p = '\0';

    for (i = 0; dst[i]; i++) {
        dst[i] = (dst[i] == '+') ? '-' : (dst[i] == '/') ? '_' : dst[i];
    }

    return dst;
}


/* raw: 64 bytes of an ECDSA signature */

static void
t_raw(const u_char *der, size_t len, u_char *raw)
{
    ECDSA_SIG  *sig;

    sig = d2i_ECDSA_SIG(NULL, &der, (long) len);

    if (sig == NULL) {
        abort();
    }

    (void) BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32);
    (void) BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32);
    ECDSA_SIG_free(sig);
}


/* sig: NGX_OCI_JWT_SIGNATURE bytes; der: as OpenSSL writes them */

static size_t
t_sign(EVP_PKEY *pkey, const char *input, u_char *sig, int der)
{
    size_t       n;
    u_char       buf[NGX_OCI_JWT_SIGNATURE];
    EVP_MD_CTX  *ctx;

    n = sizeof(buf);
    ctx = EVP_MD_CTX_new();

    if (EVP_DigestSignInit(ctx, NULL,
                           EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED25519
                           ? NULL : EVP_sha256(), NULL, pkey)
        != 1
        || EVP_DigestSign(ctx, buf, &n, (u_char *) input, strlen(input)) != 1)
    {
        abort();
    }

    EVP_MD_CTX_free(ctx);

    if (!der && EVP_PKEY_get_base_id(pkey) == EVP_PKEY_EC) {
        t_raw(buf, n, sig);
        return 64;
    }

    memcpy(sig, buf, n);

    return n;
}


static char *
t_join(const char *a, const char *b)
{
    char  *p;

    p = malloc(strlen(a) + strlen(b) + 2);

    if (p == NULL) {
        abort();
    }

    (void) sprintf(p, "%s.%s", a, b);

    return p;
}


static char *
t_input(const char *header, const char *claims)
{
    char  *h, *c, *input;

    h = t_encode((u_char *) header, strlen(header));
    c = t_encode((u_char *) claims, strlen(claims));
    input = t_join(h, c);

    free(h);
    free(c);

    return input;
}


static char *
t_token(const char *header, const char *claims, ngx_uint_t key)
{
    char    *input, *sig, *token;
    u_char   buf[NGX_OCI_JWT_SIGNATURE];

    input = t_input(header, claims);
    sig = (key == T_KEY_NONE)
          ? t_encode((u_char *) "", 0)
          : t_encode(buf, t_sign(t_keys[key], input, buf, 0));
    token = t_join(input, sig);

    free(input);
    free(sig);

    return token;
}


static const char *
t_verify(ngx_oci_jwt_t *jwt, const char *text, size_t len, ngx_uint_t known)
{
    ngx_str_t             token;
    const char           *why;
    ngx_oci_jwt_check_t   check;

    memset(&check, 0, sizeof(check));

    check.keys = &t_set;
    check.issuers = t_issuers;
    check.nissuers = 2;
    check.audiences = t_audiences;
    check.naudiences = 2;
    check.own = &t_service;
    check.now = T_NOW;
    check.remembered = known;

    token = tap_copy(text, len);
    why = ngx_oci_jwt_verify(jwt, &token, &check);
    free(token.data);

    return why;
}


static void
t_is(const char *text, size_t len, const char *error, const char *name)
{
    int             ok;
    char            line[256];
    const char     *why;
    ngx_oci_jwt_t   jwt;

    why = t_verify(&jwt, text, len, 0);

    ok = error ? why && strstr(why, error) : why == NULL;
    (void) snprintf(line, sizeof(line), "%s: %s", name, why ? why : "right");
    tap_ok(ok && ERR_peek_error() == 0
           && (why == NULL || jwt.claims == NULL), line);

    ngx_oci_jwt_free(&jwt);
}


static void
t_setup(void)
{
    char       error[NGX_OCI_JWT_ERROR];
    ngx_str_t  kid = ngx_string("ed"), edge = ngx_string("edge");

    t_keys[T_KEY_RSA] = EVP_RSA_gen(2048);
    t_keys[T_KEY_EC] = EVP_EC_gen("P-256");
    t_keys[T_KEY_ED] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    t_keys[T_KEY_OWN] = EVP_EC_gen("P-256");
    t_keys[T_KEY_OTHER_RSA] = EVP_RSA_gen(2048);
    t_keys[T_KEY_OTHER_EC] = EVP_EC_gen("P-256");
    t_keys[T_KEY_OTHER_ED] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    tap_ok(ngx_oci_jwt_keys_add(&t_set, t_keys[T_KEY_RSA], NULL, NULL, error)
           == NGX_OK
           && ngx_oci_jwt_keys_add(&t_set, t_keys[T_KEY_EC], NULL, NULL,
                                   error)
              == NGX_OK
           && ngx_oci_jwt_keys_add(&t_set, t_keys[T_KEY_ED], &kid, NULL,
                                   error)
              == NGX_OK
           && ngx_oci_jwt_keys_add(&t_set, t_keys[T_KEY_OWN], NULL, &edge,
                                   error)
              == NGX_OK, "four keys");
}


static void
t_rfc(void)
{
    char                  error[NGX_OCI_JWT_ERROR];
    size_t                i, k;
    u_char                buf[NGX_OCI_JWT_SIGNATURE];
    ngx_str_t             input, sig;
    ngx_uint_t            bad;
    ngx_oci_jwt_t         jwt;
    ngx_oci_jwt_keys_t    keys;
    ngx_oci_jwt_check_t   check;

    for (i = 0; i < sizeof(t_vectors) / sizeof(t_vectors[0]); i++) {

        memset(&keys, 0, sizeof(keys));
        memset(&check, 0, sizeof(check));
        memset(&jwt, 0, sizeof(jwt));
        check.keys = &keys;

        tap_ok(ngx_oci_jwt_keys_text(&keys, t_vectors[i].keys,
                                     strlen(t_vectors[i].keys), error)
               == NGX_OK, "a key");

        input = tap_copy(t_vectors[i].input, strlen(t_vectors[i].input));
        sig.data = buf;

        tap_ok(ngx_oci_jwt_base64(buf, &sig.len,
                                  (u_char *) t_vectors[i].signature,
                                  strlen(t_vectors[i].signature))
               == NGX_OK, "a signature");

        tap_ok(ngx_oci_jwt_signed(&jwt, &input, &sig, t_vectors[i].alg,
                                  &check)
               == NULL, t_vectors[i].name);

        /* any one bit */

        for (k = 0, bad = 0; k < sig.len * 8; k += 5) {
            buf[k / 8] ^= 1u << (k % 8);
            bad += (ngx_oci_jwt_signed(&jwt, &input, &sig, t_vectors[i].alg,
                                       &check)
                    == NULL);
            buf[k / 8] ^= 1u << (k % 8);
        }

        for (k = 0; k < input.len * 8; k += 5) {
            input.data[k / 8] ^= 1u << (k % 8);
            bad += (ngx_oci_jwt_signed(&jwt, &input, &sig, t_vectors[i].alg,
                                       &check)
                    == NULL);
            input.data[k / 8] ^= 1u << (k % 8);
        }

        tap_ok(bad == 0, "and no other one");

        for (k = 0; k <= NGX_OCI_JWT_EDDSA; k++) {
            if (k != t_vectors[i].alg) {
                tap_ok(ngx_oci_jwt_signed(&jwt, &input, &sig, k, &check)
                       != NULL, "nor by another algorithm");
            }
        }

        free(input.data);
        ngx_oci_jwt_keys_free(&keys);
    }
}


static void
t_tokens_are(void)
{
    char            *token;
    size_t           i;
    const char      *why;
    ngx_oci_jwt_t    jwt;

    for (i = 0; i < sizeof(t_tokens) / sizeof(t_tokens[0]); i++) {

        token = t_token(t_tokens[i].header, t_tokens[i].claims,
                        t_tokens[i].key);

        t_is(token, strlen(token), t_tokens[i].error, t_tokens[i].name);

        /* what is remembered is the signature, and nothing else */

        why = t_verify(&jwt, token, strlen(token), 1);

        if (t_tokens[i].error
            && strstr(t_tokens[i].error, "signature") == NULL
            && strstr(t_tokens[i].error, "no key") == NULL
            && why == NULL)
        {
            tap_ok(0, "it is not, remembered or not");
        }

        ngx_oci_jwt_free(&jwt);
        free(token);
    }
}


static void
t_says(void)
{
    char           *token;
    const char     *why;
    ngx_str_t       a = ngx_string("llm/a"), b = ngx_string("llm/b"),
                    c = ngx_string("llm"), catalog = ngx_string("catalog");
    ngx_oci_jwt_t   jwt, other;

    /* as Harbor issues them */

    token = t_token("{\"alg\":\"RS256\",\"kid\":\"QG6R:IXSK:T7JM:5IKW:ZV3A:"
                    "5N2Q:X6KB:RQ5P:ZSVD:VWOU:2KOR:PXIF\",\"typ\":\"JWT\"}",
                    "{\"iss\":\"harbor-token-issuer\",\"sub\":\"robot$llm+ci"
                    "\",\"aud\":[\"harbor-registry\"],\"exp\":1700001800,"
                    "\"nbf\":1700000000,\"iat\":1700000000,\"jti\":"
                    "\"Q8bJz9wJr2rCk1Pm\",\"access\":[{\"type\":\"repository"
                    "\",\"name\":\"llm/a\",\"actions\":[\"delete\",\"pull\","
                    "\"push\",\"scanner-pull\"]},{\"type\":\"repository\","
                    "\"name\":\"llm/b\",\"actions\":[]}]}", T_KEY_RSA);
    why = t_verify(&jwt, token, strlen(token), 0);

    tap_ok(why == NULL, "a token of Harbor's");
    tap_ok(tap_eq(&jwt.subject, "robot$llm+ci"), "its subject");
    tap_ok(tap_eq(&jwt.issuer, "harbor-token-issuer"), "its issuer");
    tap_ok(jwt.expires == 1700001800 && jwt.issued == 1700000000
           && jwt.not_before == 1700000000, "its times");
    tap_ok(!jwt.own, "not the edge's");
    tap_ok(ngx_oci_jwt_rights(&jwt, "repository", &a)
           == (NGX_OCI_PULL|NGX_OCI_PUSH|NGX_OCI_DELETE), "its rights");
    tap_ok(ngx_oci_jwt_rights(&jwt, "repository", &b) == 0
           && ngx_oci_jwt_rights(&jwt, "repository", &c) == 0,
           "and no others");
    tap_ok(ngx_oci_jwt_rights(&jwt, "registry", &a) == 0
           && ngx_oci_jwt_rights(&jwt, "registry", &catalog) == 0,
           "nor the catalog");

    ngx_oci_jwt_free(&jwt);
    free(token);

    /* as distribution's specification has them */

    token = t_token(T_ES256, "{\"iss\":\"https://auth.example/\",\"sub\":"
                    "\"jlhawn\",\"aud\":\"edge.example\",\"exp\":1700000300,"
                    "\"access\":[{\"type\":\"repository\",\"class\":\"\","
                    "\"name\":\"llm/a\",\"actions\":[\"pull\"]},{\"type\":"
                    "\"repository\",\"name\":\"llm/a\",\"actions\":[\"push\"]"
                    "},{\"type\":\"repository\",\"name\":\"llm/b\","
                    "\"actions\":[\"*\"]},{\"type\":\"registry\",\"name\":"
                    "\"catalog\",\"actions\":[\"*\"]},{\"type\":\"Repository"
                    "\",\"name\":\"llm\",\"actions\":[\"pull\"]},{\"type\":"
                    "\"repository\",\"name\":\"*\",\"actions\":[\"*\"]},{"
                    "\"type\":\"repository\",\"name\":\"\",\"actions\":"
                    "[\"*\"]}]}", T_KEY_EC);
    why = t_verify(&jwt, token, strlen(token), 0);

    tap_ok(why == NULL && tap_eq(&jwt.subject, "jlhawn")
           && jwt.issued == 0, "a token of distribution's");
    tap_ok(ngx_oci_jwt_rights(&jwt, "repository", &a)
           == (NGX_OCI_PULL|NGX_OCI_PUSH), "entries add up");
    tap_ok(ngx_oci_jwt_rights(&jwt, "repository", &b)
           == (NGX_OCI_PULL|NGX_OCI_PUSH|NGX_OCI_DELETE), "all actions");
    tap_ok(ngx_oci_jwt_rights(&jwt, "repository", &c) == 0,
           "\"*\" is no repository, types have a case");
    c.len = 0;
    tap_ok(ngx_oci_jwt_rights(&jwt, "repository", &c) == 0,
           "nor is nothing one");
    tap_ok(ngx_oci_jwt_rights(&jwt, "registry", &catalog)
           == NGX_OCI_CATALOG, "the catalog");

    ngx_oci_jwt_free(&jwt);
    free(token);

    token = t_token(T_ES256, "{\"iss\":\"edge\",\"aud\":\"edge-service\","
                    T_EXP "}", T_KEY_OWN);
    why = t_verify(&jwt, token, strlen(token), 0);
    tap_ok(why == NULL && jwt.own && jwt.subject.len == 0, "the edge's own");
    ngx_oci_jwt_free(&jwt);
    free(token);

    token = t_token(T_RS256, T_GOOD, T_KEY_OTHER_RSA);
    why = t_verify(&jwt, token, strlen(token), 0);
    tap_ok(why && jwt.wrong, "a wrong signature is said to be one");
    why = t_verify(&jwt, token, strlen(token), 1);
    tap_ok(why == NULL && tap_eq(&jwt.subject, "alice"),
           "what is remembered is not checked again");
    ngx_oci_jwt_copy(&other, &jwt);
    ngx_oci_jwt_free(&jwt);
    tap_ok(tap_eq(&other.subject, "alice")
           && ngx_oci_jwt_rights(&other, "repository", &a) == NGX_OCI_PULL,
           "a reference of its own");
    tap_ok(ngx_oci_jwt_timely(&other, T_NOW + 359) == NULL
           && ngx_oci_jwt_timely(&other, T_NOW + 360)
           && ngx_oci_jwt_timely(&other, T_NOW - 61), "and its times");
    ngx_oci_jwt_free(&other);
    free(token);
}


/* the public key's text as an HMAC's secret; what stands in the header */

static void
t_confused(void)
{
    int         len;
    BIO        *bio;
    char       *input, *sig, *token, *pem, *jwk, header[2048];
    long        n;
    u_char      mac[32], *der;
    size_t      size;
    unsigned    m;

    bio = BIO_new(BIO_s_mem());
    (void) PEM_write_bio_PUBKEY(bio, t_keys[T_KEY_RSA]);
    n = BIO_get_mem_data(bio, &pem);

    input = t_input("{\"alg\":\"HS256\",\"typ\":\"JWT\"}", T_GOOD);
    m = sizeof(mac);
    (void) HMAC(EVP_sha256(), pem, (int) n, (u_char *) input, strlen(input),
                mac, &m);
    sig = t_encode(mac, m);
    token = t_join(input, sig);
    t_is(token, strlen(token), "the token's algorithm is none of",
         "HS256 with the public key's PEM");
    free(token);
    free(sig);
    free(input);
    BIO_free(bio);

    der = NULL;
    len = i2d_PUBKEY(t_keys[T_KEY_RSA], &der);
    input = t_input("{\"alg\":\"HS256\",\"typ\":\"JWT\"}", T_GOOD);
    (void) HMAC(EVP_sha256(), der, len, (u_char *) input, strlen(input), mac,
                &m);
    sig = t_encode(mac, m);
    token = t_join(input, sig);
    t_is(token, strlen(token), "the token's algorithm is none of",
         "HS256 with the public key's DER");
    free(token);
    free(sig);
    free(input);
    OPENSSL_free(der);

    /* a key of its own, also with the name of a known one */

    size = sizeof(mac);
    (void) EVP_PKEY_get_raw_public_key(t_keys[T_KEY_OTHER_ED], mac, &size);
    jwk = t_encode(mac, size);

    (void) snprintf(header, sizeof(header), "{\"alg\":\"EdDSA\",\"kid\":"
                    "\"ed\",\"jwk\":{\"kty\":\"OKP\",\"crv\":\"Ed25519\","
                    "\"kid\":\"ed\",\"x\":\"%s\"},\"x5c\":[\"%s\"]}", jwk,
                    jwk);
    token = t_token(header, T_GOOD, T_KEY_OTHER_ED);
    t_is(token, strlen(token), "the token's signature is wrong",
         "a key in the header");
    free(token);

    token = t_token(header, T_GOOD, T_KEY_ED);
    t_is(token, strlen(token), NULL, "which is not looked at");
    free(token);
    free(jwk);
}


/* how a token is written */

static void
t_written(void)
{
    char         *token, *more, *dot;
    size_t        len, i, bad;
    static const char  tails[] = ".=+/ \n\t\r%~\\\"A";

    token = t_token(T_RS256, T_GOOD, T_KEY_RSA);
    len = strlen(token);
    more = malloc(2 * len + NGX_OCI_JWT_MAX + 16);

    t_is("", 0, "a part of the token is empty", "nothing");
    t_is("..", 2, "a part of the token is empty", "two dots");
    t_is("...", 3, "a part of the token is empty", "three dots");
    t_is("a.b", 3, "less than three parts", "two parts");

    for (i = 0; tails[i]; i++) {
        (void) sprintf(more, "%s%c", token, tails[i]);
        t_is(more, len + 1, "", "a character behind it");
        (void) sprintf(more, "%c%s", tails[i], token);
        t_is(more, len + 1, "", "before it");
    }

    (void) sprintf(more, "%s.%s", token, token);
    t_is(more, 2 * len + 1, "more than three parts", "two tokens");
    (void) sprintf(more, "%s==", token);
    t_is(more, len + 2, "not base64url", "padding");
    t_is(token, len + 1, "not base64url", "a zero behind it");

    memset(more, 'A', NGX_OCI_JWT_MAX + 1);
    t_is(more, NGX_OCI_JWT_MAX + 1, "the token is too long",
         "8 KiB and a byte");

    for (i = 1, bad = 0; i < len; i++) {
        ngx_oci_jwt_t  jwt;

        bad += (t_verify(&jwt, token, i, 0) == NULL);
    }

    tap_ok(bad == 0, "none of its beginnings is one");

    /* 256 bytes leave 4 bits of the last character to nobody */

    (void) memcpy(more, token, len + 1);
    more[len - 1] = (more[len - 1] == 'A') ? 'B' : more[len - 1] + 1;
    t_is(more, len, "", "another way to write the last byte");

    dot = strrchr(token, '.');
    (void) sprintf(more, "%.*s.", (int) (dot - token), token);
    t_is(more, strlen(more), "a part of the token is empty", "no signature");
    (void) sprintf(more, "%.*s.AA", (int) (dot - token), token);
    t_is(more, strlen(more), "the token's signature is wrong",
         "one of one byte");
    (void) sprintf(more, "%.*s.%.*s", (int) (dot - token), token,
                   (int) (len - (dot - token) - 3), dot + 1);
    t_is(more, strlen(more), "", "one that lacks a byte");
    (void) sprintf(more, "%sAAAA", token);
    t_is(more, strlen(more), "the token's signature is wrong",
         "one with 3 more");

    free(more);
    free(token);
}


/* ECDSA signatures as an attacker writes them */

static void
t_ecdsa(void)
{
    char         *input, *sig, *token;
    size_t        i, n;
    u_char        good[64], raw[160], order[32];
    BIGNUM       *s, *q;
    const char   *what, *error;

    static const u_char  p256[32] = {
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
        0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51
    };

    input = t_input(T_ES256, T_GOOD);
    (void) t_sign(t_keys[T_KEY_EC], input, good, 0);
    memcpy(order, p256, 32);

    for (i = 0; i < 16; i++) {

        memcpy(raw, good, 64);
        n = 64;
        error = "the token's signature is wrong";

        switch (i) {

        case 0:
            what = "as it is";
            error = NULL;
            break;

        case 1:
            what = "DER";
            n = t_sign(t_keys[T_KEY_EC], input, raw, 1);
            break;

        case 2:
            what = "r = 0, s = 0";
            memset(raw, 0, 64);
            break;

        case 3:
            what = "r = 0";
            memset(raw, 0, 32);
            break;

        case 4:
            what = "s = 0";
            memset(raw + 32, 0, 32);
            break;

        case 5:
            what = "r = n, s = n";
            memcpy(raw, order, 32);
            memcpy(raw + 32, order, 32);
            break;

        case 6:
            what = "r = n";
            memcpy(raw, order, 32);
            break;

        case 7:
            what = "s = n";
            memcpy(raw + 32, order, 32);
            break;

        case 8:
            what = "r = 1, s = 1";
            memset(raw, 0, 64);
            raw[31] = raw[63] = 1;
            break;

        case 9:
            what = "all ones";
            memset(raw, 0xff, 64);
            break;

        case 10:
            what = "s and r";
            memcpy(raw, good + 32, 32);
            memcpy(raw + 32, good, 32);
            break;

        case 11:
            what = "a zero before each";
            memset(raw, 0, 66);
            memcpy(raw + 1, good, 32);
            memcpy(raw + 34, good + 32, 32);
            n = 66;
            break;

        case 12:
            what = "r alone";
            n = 32;
            break;

        case 13:
            what = "a zero behind it";
            raw[64] = 0;
            n = 65;
            break;

        case 14:

            /* of the same value modulo n, but out of range */

            what = "s + n";
            s = BN_bin2bn(good + 32, 32, NULL);
            q = BN_bin2bn(order, 32, NULL);
            (void) BN_add(s, s, q);
            n = 32 + BN_num_bytes(s);
            (void) BN_bn2bin(s, raw + 32);
            BN_free(s);
            BN_free(q);
            break;

        default:
            what = "of another text";
            (void) t_sign(t_keys[T_KEY_EC], "x", raw, 0);
        }

        sig = t_encode(raw, n);
        token = t_join(input, sig);
        t_is(token, strlen(token), error, what);
        free(token);
        free(sig);
    }

    free(input);
}


/* of Ed25519: s is below the order */

static void
t_eddsa(void)
{
    int     carry;
    char   *input, *sig, *token;
    size_t  i;
    u_char  raw[64];

    static const u_char  order[32] = {
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7,
        0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0x10
    };

    input = t_input(T_EDDSA, T_GOOD);
    (void) t_sign(t_keys[T_KEY_ED], input, raw, 0);

    for (i = 0, carry = 0; i < 32; i++) {
        carry += raw[32 + i] + order[i];
        raw[32 + i] = (u_char) carry;
        carry >>= 8;
    }

    sig = t_encode(raw, 64);
    token = t_join(input, sig);
    t_is(token, strlen(token), "the token's signature is wrong", "s + l");
    free(token);
    free(sig);

    memset(raw, 0, 64);
    raw[0] = 1;
    sig = t_encode(raw, 64);
    token = t_join(input, sig);
    t_is(token, strlen(token), "the token's signature is wrong",
         "the neutral point, and s = 0");
    free(token);
    free(sig);
    free(input);
}


static struct {
    const char  *text;
    const char  *error;
    ngx_uint_t   n;
} t_sets[] = {
    { T_RSA, NULL, 1 },
    { T_EC, NULL, 1 },
    { T_ED, NULL, 1 },
    { " \r\n\t" T_ED, NULL, 1 },
    { "", "it is neither PEM", 0 },
    { "x", "it is neither PEM", 0 },
    { "{}", "it is no JSON Web Key Set", 0 },
    { "{\"keys\":{}}", "it is no JSON Web Key Set", 0 },
    { "{\"keys\":[]}", "it has no key for", 0 },
    { "{\"keys\":[1]}", "it is no JSON Web Key Set", 0 },
    { "{\"keys\":[{}]}", "it has no key for", 0 },
    { "{\"keys\":[],\"keys\":[]}", "it is no JSON Web Key Set", 0 },
    { "{\"keys\":[{\"kty\":\"oct\"}]}", "it has no key for", 0 },
    { "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "a secret key", 0 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" T_ED_X
      "\",\"d\":\"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\"}]}",
      "a secret key", 0 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"x\":\"AA\"}]}",
      "it has no key for", 0 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" T_ED_X
      "\",\"use\":\"enc\"}]}", "it has no key for", 0 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" T_ED_X
      "\",\"use\":\"sig\",\"alg\":\"EdDSA\",\"key_ops\":[\"verify\"],"
      "\"kid\":\"k\"}]}", NULL, 1 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" T_ED_X
      "\",\"key_ops\":[\"sign\"]}]}", "it has no key for", 0 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" T_ED_X
      "\",\"alg\":\"HS256\"}]}", "it has no key for", 0 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" T_ED_X
      "\",\"kid\":1}]}", "a \"kid\" is no string", 0 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" T_ED_X
      "=\"}]}", "no valid one", 0 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}",
      "no valid one", 0 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":"
      "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}",
      "no valid one", 0 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":"
      "\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIA\"}]}",
      "no valid one", 0 },
    { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":"
      "\"JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_IU\"}]}",
      "no valid one", 0 },
    { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":"
      "\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
      "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a4\"}]}",
      "no valid one", 0 },
    { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":"
      "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\","
      "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}",
      "no valid one", 0 },
    { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\"}]}",
      "no valid one", 0 },
    { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
      "2048 to 4096 bits", 0 },
    { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"" T_RSA_N "\",\"e\":\"AQ\"}]}",
      "exponent", 0 },
    { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"" T_RSA_N "\",\"e\":\"Ag\"}]}",
      "exponent", 0 },
    { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"" T_RSA_N
      "\",\"e\":\"_________w8\"}]}", "", 0 },
    { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"" T_RSA_N T_RSA_N T_RSA_N
      "\",\"e\":\"AQAB\"}]}", "no valid one", 0 },
    { "{\"keys\":[{\"kty\":\"oct\"},{\"kty\":\"OKP\",\"crv\":\"Ed25519\","
      "\"x\":\"" T_ED_X "\"},{\"kty\":\"new\"},{\"kty\":\"OKP\",\"crv\":"
      "\"Ed25519\",\"x\":\"" T_ED_X "\",\"kid\":\"b\"}]}", NULL, 2 }
};


static void
t_key_sets(void)
{
    char                 error[NGX_OCI_JWT_ERROR];
    size_t               i;
    ngx_int_t            rc;
    ngx_str_t            text;
    ngx_oci_jwt_keys_t   keys;

    for (i = 0; i < sizeof(t_sets) / sizeof(t_sets[0]); i++) {

        memset(&keys, 0, sizeof(keys));
        error[0] = '\0';
        text = tap_copy(t_sets[i].text, strlen(t_sets[i].text));

        rc = ngx_oci_jwt_keys_text(&keys, (char *) text.data, text.len,
                                   error);

        tap_ok(t_sets[i].error
               ? rc == NGX_ERROR && error[0] && strstr(error, t_sets[i].error)
               : rc == NGX_OK && keys.nkeys == t_sets[i].n, error);
        tap_ok(ERR_peek_error() == 0, "no error is left");

        free(text.data);
        ngx_oci_jwt_keys_free(&keys);
    }
}


static void
t_pem_is(const char *text, size_t len, ngx_uint_t n, const char *want,
    const char *name)
{
    char                 error[NGX_OCI_JWT_ERROR];
    ngx_int_t            rc;
    ngx_str_t            copy;
    ngx_oci_jwt_keys_t   keys;

    memset(&keys, 0, sizeof(keys));
    error[0] = '\0';
    copy = tap_copy(text, len);

    rc = ngx_oci_jwt_keys_text(&keys, (char *) copy.data, copy.len, error);

    tap_ok((want ? rc == NGX_ERROR && strstr(error, want)
                 : rc == NGX_OK && keys.nkeys == n)
           && ERR_peek_error() == 0, name);

    free(copy.data);
    ngx_oci_jwt_keys_free(&keys);
}


static void
t_pem(void)
{
    int         i;
    BIO        *bio;
    X509       *cert;
    char       *p, *half;
    long        n;
    EVP_PKEY   *key;

    bio = BIO_new(BIO_s_mem());

    for (i = 0; i < 3; i++) {
        (void) PEM_write_bio_PUBKEY(bio, t_keys[i]);
    }

    n = BIO_get_mem_data(bio, &p);
    t_pem_is(p, n, 3, NULL, "three public keys");
    t_pem_is(p, n - 40, 0, "neither PEM", "the last one is cut");
    half = malloc(n + 16);
    (void) sprintf(half, "text\n%.*s\ntext\n", (int) n, p);
    t_pem_is(half, strlen(half), 3, NULL, "text around them");
    free(half);

    cert = X509_new();
    (void) X509_set_pubkey(cert, t_keys[T_KEY_EC]);
    (void) X509_gmtime_adj(X509_getm_notBefore(cert), -20);
    (void) X509_gmtime_adj(X509_getm_notAfter(cert), -10);
    (void) X509_sign(cert, t_keys[T_KEY_EC], EVP_sha256());
    (void) PEM_write_bio_X509(bio, cert);
    X509_free(cert);

    n = BIO_get_mem_data(bio, &p);
    t_pem_is(p, n, 4, NULL, "and a certificate");

    (void) PEM_write_bio_PrivateKey(bio, t_keys[T_KEY_EC], NULL, NULL, 0,
                                    NULL, NULL);
    n = BIO_get_mem_data(bio, &p);
    t_pem_is(p, n, 0, "a private key", "and a private key");
    BIO_free(bio);

#define t_pem_key(k, want, name)                                              \
    key = k;                                                                  \
    bio = BIO_new(BIO_s_mem());                                               \
    (void) PEM_write_bio_PUBKEY(bio, key);                                    \
    n = BIO_get_mem_data(bio, &p);                                            \
    t_pem_is(p, n, 1, want, name);                                            \
    BIO_free(bio);                                                            \
    EVP_PKEY_free(key)

    t_pem_key(EVP_EC_gen("P-384"), "not of P-256", "P-384");
    t_pem_key(EVP_EC_gen("secp256k1"), "not of P-256", "secp256k1");
    t_pem_key(EVP_RSA_gen(1024), "2048 to 4096", "RSA of 1024 bits");
    t_pem_key(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), "neither RSA",
              "X25519");
    t_pem_key(EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), "neither RSA", "Ed448");
    t_pem_key(EVP_RSA_gen(3072), NULL, "RSA of 3072 bits");

    /* parameters of its own */

    key = EVP_EC_gen("P-256");
    (void) EVP_PKEY_set_utf8_string_param(key, "encoding", "explicit");
    bio = BIO_new(BIO_s_mem());
    (void) PEM_write_bio_PUBKEY(bio, key);
    n = BIO_get_mem_data(bio, &p);
    t_pem_is(p, n, 1, "parameters of its own", "explicit parameters");
    BIO_free(bio);
    EVP_PKEY_free(key);

    /* too many */

    bio = BIO_new(BIO_s_mem());

    for (i = 0; i < NGX_OCI_JWT_KEYS + 1; i++) {
        (void) PEM_write_bio_PUBKEY(bio, t_keys[T_KEY_ED]);
    }

    n = BIO_get_mem_data(bio, &p);
    t_pem_is(p, n, 0, "more than 16", "17 keys");
    BIO_free(bio);
}


static const char  t_7638[] =
    "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"0vx7agoebGcQSuuPiLJXZptN9nndrQm"
    "bXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXj"
    "BZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-6"
    "5YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n"
    "91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBn"
    "iIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw\",\"e\":\"AQAB\",\"alg\":"
    "\"RS256\",\"kid\":\"2011-04-29\"}]}";


static void
t_digests(void)
{
    char                 error[NGX_OCI_JWT_ERROR], kid[64];
    u_char               before[NGX_OCI_JWT_DIGEST];
    ngx_uint_t           same;
    ngx_oci_jwt_keys_t   keys;

    memset(&keys, 0, sizeof(keys));
    memset(before, 0, sizeof(before));
    same = 0;

    (void) ngx_oci_jwt_keys_text(&keys, T_ED, strlen(T_ED), error);
    same += (memcmp(before, keys.digest, sizeof(before)) == 0);
    memcpy(before, keys.digest, sizeof(before));
    tap_ok(ngx_oci_jwt_thumbprint(keys.keys[0].pkey, kid) == NGX_OK
           && strcmp(kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
              == 0, "RFC 8037, A.3");

    (void) ngx_oci_jwt_keys_text(&keys, T_EC, strlen(T_EC), error);
    same += (memcmp(before, keys.digest, sizeof(before)) == 0);
    tap_ok(same == 0, "other keys, another digest");
    tap_ok(ngx_oci_jwt_thumbprint(keys.keys[1].pkey, kid) == NGX_OK
           && strlen(kid) == 43, "a thumbprint of P-256");
    ngx_oci_jwt_keys_free(&keys);

    (void) ngx_oci_jwt_keys_text(&keys, T_ED, strlen(T_ED), error);
    tap_ok(memcmp(before, keys.digest, sizeof(before)) == 0,
           "the same keys, the same digest");
    ngx_oci_jwt_keys_free(&keys);

    (void) ngx_oci_jwt_keys_text(&keys, t_7638, strlen(t_7638), error);
    tap_ok(keys.nkeys == 1
           && ngx_oci_jwt_thumbprint(keys.keys[0].pkey, kid) == NGX_OK
           && strcmp(kid, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
              == 0, "RFC 7638, 3.1");
    ngx_oci_jwt_keys_free(&keys);
}


/*
 * The n-th allocation of OpenSSL's fails: mostly it is said that there was no
 * memory (OpenSSL doesn't tell it in all cases), a wrong signature is never
 * right, and all is well with memory.
 */

static void *
t_malloc(size_t size, const char *file, int line)
{
    return (t_left && --t_left == 0) ? NULL : malloc(size);
}


static void *
t_realloc(void *p, size_t size, const char *file, int line)
{
    return (t_left && --t_left == 0) ? NULL : realloc(p, size);
}


static void
t_free(void *p, const char *file, int line)
{
    free(p);
}


static void
t_memory(void)
{
    int             ok;
    char           *token, *wrong;
    ngx_uint_t      i, n, failed, told;
    const char     *why;
    ngx_oci_jwt_t   jwt;

    static struct {
        const char  *header;
        ngx_uint_t   key;
        const char  *name;
    } keys[] = {
        { T_RS256, T_KEY_RSA, "RS256, without memory" },
        { T_ES256, T_KEY_EC, "ES256, without memory" },
        { T_EDDSA, T_KEY_ED, "EdDSA, without memory" }
    };

    for (i = 0; i < 3; i++) {

        token = t_token(keys[i].header, T_GOOD, keys[i].key);
        wrong = strdup(token);
        wrong[strlen(wrong) - 20] ^= 1;

        ok = 1;
        failed = 0;
        told = 0;

        for (n = 1; n < 1000; n++) {

            t_left = n;
            why = t_verify(&jwt, wrong, strlen(wrong), 0);
            ok = ok && why != NULL;
            ngx_oci_jwt_free(&jwt);

            t_left = n;
            why = t_verify(&jwt, token, strlen(token), 0);
            failed += (why != NULL);
            told += (why == ngx_oci_jwt_memory && !jwt.wrong);
            ngx_oci_jwt_free(&jwt);

            if (t_left) {
                break;
            }
        }

        t_left = 0;

        tap_ok(ok && n < 1000 && why == NULL && told > failed - told,
               keys[i].name);

        free(token);
        free(wrong);
    }
}


int
main(void)
{
    /* before anything is allocated */

    tap_ok(CRYPTO_set_mem_functions(t_malloc, t_realloc, t_free) == 1,
           "OpenSSL's memory");

    t_setup();
    t_rfc();
    t_tokens_are();
    t_says();
    t_confused();
    t_written();
    t_ecdsa();
    t_eddsa();
    t_key_sets();
    t_pem();
    t_digests();
    t_memory();

    return tap_done();
}
