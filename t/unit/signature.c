
/*
 * Copyright (C) The nginx-oci authors
 *
 * Signatures of cosign's two forms, made here by OpenSSL as cosign makes
 * them, and what a stranger may do to them.
 */


#include "ngx_oci_evidence.h"
#include "tap.h"

#include <openssl/pem.h>


#define T_HEX      "11111111111111111111111111111111"                        \
                   "11111111111111111111111111111111"
#define T_OTHER    "22222222222222222222222222222222"                        \
                   "22222222222222222222222222222222"
#define T_SUBJECT  "sha256:" T_HEX

#define T_BEGIN    "-----BEGIN PUBLIC KEY-----"

#define T_IN_TOTO  "application/vnd.in-toto+json"

#define T_CRITICAL(type, digest)                                              \
    "{\"critical\":{\"identity\":{\"docker-reference\":\"h/r\"},"             \
    "\"image\":{\"docker-manifest-digest\":\"" digest "\"},"                  \
    "\"type\":\"" type "\"},\"optional\":null}"

#define T_COSIGN   "cosign container image signature"
#define T_PAYLOAD  T_CRITICAL(T_COSIGN, T_SUBJECT)

#define T_STATEMENT(type, alg, hex, predicate)                                \
    "{\"_type\":\"" type "\",\"subject\":[{\"digest\":{\"" alg "\":\""        \
    hex "\"}}],\"predicateType\":\"" predicate "\",\"predicate\":{}}"

#define T_V1       "https://in-toto.io/Statement/v1"
#define T_SIGN     "https://sigstore.dev/cosign/sign/v1"
#define T_GOOD     T_STATEMENT(T_V1, "sha256", T_HEX, T_SIGN)

#define T_TYPE     NGX_OCI_SIGSTORE_BUNDLE
#define T_KEY      "{\"publicKey\":{\"hint\":\"x\"},\"tlogEntries\":[]}"


enum { T_EC = 0, T_EC2, T_RSA, T_ED, T_KEYS };

static EVP_PKEY                 *t_private[T_KEYS];
static ngx_oci_signature_key_t   t_keys[T_KEYS];


static char *
t_pem(EVP_PKEY *pkey)
{
    BIO   *bio;
    char  *data, *text;
    long   n;

    bio = BIO_new(BIO_s_mem());

    if (bio == NULL || PEM_write_bio_PUBKEY(bio, pkey) != 1) {
        abort();
    }

    n = BIO_get_mem_data(bio, &data);
    text = strndup(data, n);
    BIO_free(bio);

    return text;
}


static char *
t_base64(const void *data, size_t len)
{
    char  *text;

    text = malloc((len + 2) / 3 * 4 + 1);

    if (text == NULL) {
        abort();
    }

    EVP_EncodeBlock((unsigned char *) text, data, (int) len);

    return text;
}


/* the signature in base64 */

static char *
t_sign(ngx_uint_t key, const char *message, size_t len)
{
    char           *text;
    size_t          n;
    EVP_MD_CTX     *ctx;
    const EVP_MD   *md;
    unsigned char   sig[1024];

    n = sizeof(sig);
    ctx = EVP_MD_CTX_new();
    md = (key == T_ED) ? NULL : EVP_sha256();

    if (EVP_DigestSignInit(ctx, NULL, md, NULL, t_private[key]) != 1
        || EVP_DigestSign(ctx, sig, &n, (u_char *) message, len) != 1)
    {
        abort();
    }

    text = t_base64(sig, n);
    EVP_MD_CTX_free(ctx);

    return text;
}


static char *
t_format(const char *fmt, ...)
{
    char     *text;
    va_list   args;

    va_start(args, fmt);

    if (vasprintf(&text, fmt, args) < 0) {
        abort();
    }

    va_end(args);

    return text;
}


/* the signature of a DSSE envelope */

static char *
t_dsse(ngx_uint_t key, const char *type, const char *payload)
{
    char  *pae, *sig;

    pae = t_format("DSSEv1 %zu %s %zu %s", strlen(type), type,
                   strlen(payload), payload);
    sig = t_sign(key, pae, strlen(pae));
    free(pae);

    return sig;
}


static char *
t_bundle(const char *type, const char *material, const char *ptype,
    const char *payload, const char *sig)
{
    char  *text, *encoded;

    encoded = t_base64(payload, strlen(payload));

    text = t_format("{\"mediaType\":\"%s\",\"verificationMaterial\":%s,"
                    "\"dsseEnvelope\":{\"payload\":\"%s\","
                    "\"payloadType\":\"%s\",\"signatures\":[{\"sig\":\"%s\","
                    "\"keyid\":\"\"}]}}", type, material, encoded, ptype,
                    sig);
    free(encoded);

    return text;
}


static ngx_int_t
t_check(ngx_oci_signature_t *s, const char *text, const char *signature)
{
    ngx_int_t  rc;
    ngx_str_t  a, b;

    a = tap_copy(text, strlen(text));
    s->key = 99;

    if (signature) {
        b = tap_copy(signature, strlen(signature));
        rc = ngx_oci_signature_simple(s, &a, &b);
        free(b.data);

    } else {
        rc = ngx_oci_signature_bundle(s, &a);
    }

    free(a.data);

    return rc;
}


static void
t_setup(void)
{
    char        *pem;
    size_t       size;
    u_char       der[NGX_OCI_SIGNATURE_DER];
    ngx_uint_t   i;

    t_private[T_EC] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    t_private[T_EC2] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    t_private[T_RSA] = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) 2048);
    t_private[T_ED] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    for (i = 0; i < T_KEYS; i++) {
        pem = t_pem(t_private[i]);

        if (ngx_oci_signature_pem(pem, strlen(pem), der, &size) != NULL
            || ngx_oci_signature_key(&t_keys[i], der, size) != NULL)
        {
            abort();
        }

        free(pem);
    }
}


static ngx_oci_signature_t
t_trust(ngx_uint_t first, ngx_uint_t n)
{
    ngx_oci_signature_t  s;

    memset(&s, 0, sizeof(s));

    s.keys = &t_keys[first];
    s.nkeys = n;
    s.subject.data = (u_char *) T_SUBJECT;
    s.subject.len = sizeof(T_SUBJECT) - 1;

    return s;
}


static void
t_key(EVP_PKEY *pkey, const char *expected, const char *name)
{
    char        *pem;
    size_t       size;
    u_char       der[NGX_OCI_SIGNATURE_DER];
    const char  *why;

    pem = t_pem(pkey);
    why = ngx_oci_signature_pem(pem, strlen(pem), der, &size);

    tap_ok(expected ? why && strcmp(why, expected) == 0 : why == NULL, name);

    free(pem);
    EVP_PKEY_free(pkey);
}


static void
t_test_keys(void)
{
    char                     *pem, *text;
    size_t                    size, i, bad;
    u_char                    der[NGX_OCI_SIGNATURE_DER + 1];
    const char               *why;
    ngx_oci_signature_key_t   key;

    t_key(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384"),
          "the key's curve is not P-256", "P-384");
    t_key(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "secp256k1"),
          "the key's curve is not P-256", "secp256k1");
    t_key(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) 1024),
          "the key has not 2048 to 8192 bits", "RSA of 1024 bits");
    t_key(EVP_PKEY_Q_keygen(NULL, NULL, "ED448"),
          "the key is neither ECDSA, RSA nor Ed25519", "Ed448");
    t_key(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"),
          "the key is neither ECDSA, RSA nor Ed25519", "X25519");

    pem = t_pem(t_private[T_EC]);

    why = ngx_oci_signature_pem(pem, strlen(pem) - 1, der, &size);
    tap_ok(why == NULL, "a key without the last newline");

    text = t_format("%s%s", pem, pem);
    why = ngx_oci_signature_pem(text, strlen(text), der, &size);
    tap_ok(why && strcmp(why, "there has to be one key in PEM") == 0,
           "two keys");
    free(text);

    text = t_format(" %s", pem);
    why = ngx_oci_signature_pem(text, strlen(text), der, &size);
    tap_ok(why && strncmp(why, "the key does not begin", 22) == 0,
           "something before the key");
    free(text);

    text = t_format("-----BEGIN EC PRIVATE KEY-----%s", pem);
    why = ngx_oci_signature_pem(text, strlen(text), der, &size);
    tap_ok(why && strncmp(why, "the key does not begin", 22) == 0,
           "a private key");
    free(text);

    for (i = 0, bad = 0; i < strlen(pem) - 1; i++) {
        bad += (ngx_oci_signature_pem(pem, i, der, &size) == NULL);
    }

    tap_ok(bad == 0, "a key that is cut off");

    (void) ngx_oci_signature_pem(pem, strlen(pem), der, &size);
    der[size] = 0;
    why = ngx_oci_signature_key(&key, der, size + 1);
    tap_ok(why && strcmp(why, "something follows the key") == 0,
           "bytes after a key");

    tap_ok(ngx_oci_signature_key(&key, der, 0) != NULL, "no key");

    text = malloc(NGX_OCI_SIGNATURE_PEM + 1);
    memset(text, 'A', NGX_OCI_SIGNATURE_PEM + 1);
    memcpy(text, T_BEGIN "\n", sizeof(T_BEGIN));
    tap_ok(ngx_oci_signature_pem(text, NGX_OCI_SIGNATURE_PEM + 1, der, &size)
           != NULL, "a key that is too long");
    free(text);
    free(pem);
}


static void
t_test_simple(void)
{
    char                 *sig, *text;
    size_t                i, bad;
    ngx_uint_t            k;
    ngx_oci_signature_t   s;

    static const char  *payloads[][2] = {
        { T_CRITICAL(T_COSIGN, "sha256:" T_OTHER), "it is of another digest" },
        { T_CRITICAL(T_COSIGN, T_SUBJECT "1"), "it is of another digest" },
        { T_CRITICAL(T_COSIGN, "SHA256:" T_HEX), "it is of another digest" },
        { T_CRITICAL(T_COSIGN, T_HEX), "it is of another digest" },
        { T_CRITICAL(T_COSIGN, ""), "it is of another digest" },
        { T_CRITICAL("atomic container signature", T_SUBJECT),
          "its type is not cosign's" },
        { T_CRITICAL("", T_SUBJECT), "its type is not cosign's" },
        { "{}", "its type is not cosign's" },
        { "[]", "not an object" },
        { "", "not well-formed JSON" },
        { T_PAYLOAD "x", "not well-formed JSON" },
        { T_PAYLOAD "{}", "not well-formed JSON" },
        { "{\"critical\":{},\"critical\":{}}", "not well-formed JSON" },
        { "{\"critical\":{\"type\":\"" T_COSIGN "\",\"image\":"
          "{\"Docker-manifest-digest\":\"" T_SUBJECT "\"}}}",
          "it is of another digest" },
        { "{\"critical\":{\"type\":\"" T_COSIGN "\",\"image\":"
          "{\"docker-manifest-digest\":[\"" T_SUBJECT "\"]}}}",
          "it is of another digest" },
        { "{\"critical\":{\"type\":\"" T_COSIGN "\",\"image\":\""
          T_SUBJECT "\"}}", "it is of another digest" },
        { "{\"critical\":{\"type\":\"" T_COSIGN "\",\"image\":"
          "{\"docker-manifest-digest\":\"" T_SUBJECT "\\u0000\"}}}",
          "not well-formed JSON" },
        { NULL, NULL }
    };

    for (k = 0; k < T_KEYS; k++) {
        s = t_trust(0, T_KEYS);
        sig = t_sign(k, T_PAYLOAD, strlen(T_PAYLOAD));

        tap_ok(t_check(&s, T_PAYLOAD, sig) == NGX_OK && s.key == k,
               "simple signing, by one of the keys");

        s = t_trust(k, 1);
        tap_ok(t_check(&s, T_PAYLOAD, sig) == NGX_OK && s.key == 0,
               "simple signing, by the only key");

        s = t_trust(k == T_EC ? T_EC2 : T_EC, 1);
        tap_ok(t_check(&s, T_PAYLOAD, sig) == NGX_DECLINED
               && strcmp(s.why, "it is by none of the keys") == 0,
               "simple signing, by another key");

        s = t_trust(0, T_KEYS);

        text = strdup(T_PAYLOAD);

        for (i = 0, bad = 0; text[i]; i++) {
            text[i] ^= 1;
            bad += (t_check(&s, text, sig) != NGX_DECLINED);
            text[i] ^= 1;
        }

        tap_ok(bad == 0, "simple signing, one byte of the payload altered");

        for (i = 0, bad = 0; i < strlen(text); i++) {
            text[strlen(text) - 1] = '\0';
            bad += (t_check(&s, text, sig) != NGX_DECLINED);
        }

        tap_ok(bad == 0, "simple signing, the payload cut off");
        free(text);

        for (i = 0, bad = 0; sig[i]; i++) {
            sig[i] ^= 1;
            bad += (t_check(&s, T_PAYLOAD, sig) != NGX_DECLINED);
            sig[i] ^= 1;
        }

        tap_ok(bad == 0, "simple signing, one byte of the signature altered");

        for (i = strlen(sig), bad = 0; i > 0; i--) {
            sig[i - 1] = '\0';
            bad += (t_check(&s, T_PAYLOAD, sig) != NGX_DECLINED);
        }

        tap_ok(bad == 0, "simple signing, the signature cut off");
        free(sig);
    }

    s = t_trust(0, T_KEYS);

    for (i = 0; payloads[i][0]; i++) {
        sig = t_sign(T_EC, payloads[i][0], strlen(payloads[i][0]));
        tap_ok(t_check(&s, payloads[i][0], sig) == NGX_DECLINED
               && strcmp(s.why, payloads[i][1]) == 0, payloads[i][0]);
        free(sig);
    }

    s = t_trust(0, 0);
    sig = t_sign(T_EC, T_PAYLOAD, strlen(T_PAYLOAD));
    tap_ok(t_check(&s, T_PAYLOAD, sig) == NGX_DECLINED, "no key at all");

    s = t_trust(0, T_KEYS);
    text = t_format(" %s", sig);
    tap_ok(t_check(&s, T_PAYLOAD, text) == NGX_DECLINED
           && strcmp(s.why, "the signature is not base64") == 0,
           "white space before a signature");
    free(text);

    text = t_format("%s\n", sig);
    tap_ok(t_check(&s, T_PAYLOAD, text) == NGX_DECLINED
           && strcmp(s.why, "the signature is not base64") == 0,
           "a newline after a signature");
    free(text);

    text = malloc(NGX_OCI_SIGNATURE_BASE64 + 2);
    memset(text, 'A', NGX_OCI_SIGNATURE_BASE64 + 1);
    text[NGX_OCI_SIGNATURE_BASE64 + 1] = '\0';
    tap_ok(t_check(&s, T_PAYLOAD, text) == NGX_DECLINED
           && strcmp(s.why, "the signature is too long") == 0,
           "a signature that is too long");
    free(text);
    free(sig);
}


static void
t_bad_bundle(const char *expected, char *text, const char *name)
{
    ngx_oci_signature_t  s;

    s = t_trust(0, T_KEYS);

    tap_ok(t_check(&s, text, NULL) == NGX_DECLINED
           && strcmp(s.why, expected) == 0, name);
    free(text);
}


static void
t_test_bundle(void)
{
    char                 *sig, *text, *other, *p;
    size_t                i, bad;
    ngx_uint_t            k;
    ngx_oci_signature_t   s;

    static const char  *statements[][2] = {
        { T_STATEMENT(T_V1, "sha256", T_OTHER, T_SIGN),
          "it is of another digest" },
        { T_STATEMENT(T_V1, "sha256", T_HEX "1", T_SIGN),
          "it is of another digest" },
        { T_STATEMENT(T_V1, "sha512", T_HEX, T_SIGN),
          "it is of another digest" },
        { T_STATEMENT(T_V1, "sha256", "sha256:" T_HEX, T_SIGN),
          "it is of another digest" },
        { T_STATEMENT(T_V1, "sha256", "", T_SIGN), "it is of another digest" },
        { T_STATEMENT(T_V1, "sha256", T_HEX,
                      "https://slsa.dev/provenance/v1"),
          "its predicate is no signature" },
        { T_STATEMENT(T_V1, "sha256", T_HEX, ""),
          "its predicate is no signature" },
        { T_STATEMENT("https://in-toto.io/Statement/v0.1", "sha256", T_HEX,
                      T_SIGN), "it is no statement of in-toto's v1" },
        { T_PAYLOAD, "it is no statement of in-toto's v1" },
        { "{\"_type\":\"" T_V1 "\",\"predicateType\":\"" T_SIGN "\"}",
          "it is of another digest" },
        { "{\"_type\":\"" T_V1 "\",\"predicateType\":\"" T_SIGN "\","
          "\"subject\":{\"digest\":{\"sha256\":\"" T_HEX "\"}}}",
          "it is of another digest" },
        { "{\"_type\":\"" T_V1 "\",\"predicateType\":\"x\","
          "\"predicateType\":\"" T_SIGN "\",\"subject\":[]}",
          "not well-formed JSON" },
        { T_GOOD " x", "not well-formed JSON" },
        { NULL, NULL }
    };

    for (k = 0; k < T_KEYS; k++) {
        s = t_trust(0, T_KEYS);
        sig = t_dsse(k, T_IN_TOTO, T_GOOD);
        text = t_bundle(T_TYPE, T_KEY, T_IN_TOTO, T_GOOD, sig);

        tap_ok(t_check(&s, text, NULL) == NGX_OK && s.key == k,
               "a bundle, by one of the keys");

        s = t_trust(k == T_EC ? T_EC2 : T_EC, 1);
        tap_ok(t_check(&s, text, NULL) == NGX_DECLINED
               && strcmp(s.why, "it is by none of the keys") == 0,
               "a bundle, by another key");

        s = t_trust(0, T_KEYS);
        p = strstr(text, "\"payload\":\"") + sizeof("\"payload\":\"") - 1;

        for (bad = 0; *p != '"'; p++) {
            *p ^= 1;
            bad += (t_check(&s, text, NULL) != NGX_DECLINED);
            *p ^= 1;
        }

        tap_ok(bad == 0, "a bundle, one byte of the payload altered");

        for (i = strlen(text), bad = 0; i > 0; i -= (i > 40) ? 7 : 1) {
            text[i - 1] = '\0';
            bad += (t_check(&s, text, NULL) != NGX_DECLINED);
        }

        tap_ok(bad == 0, "a bundle, cut off");
        free(text);
        free(sig);
    }

    s = t_trust(0, T_KEYS);
    sig = t_dsse(T_EC, T_IN_TOTO, T_GOOD);

    text = t_bundle("application/vnd.dev.sigstore.bundle+json;version=0.2",
                    T_KEY, T_IN_TOTO, T_GOOD, sig);
    tap_ok(t_check(&s, text, NULL) == NGX_OK, "a bundle of version 0.2");
    free(text);

    t_bad_bundle("it is no bundle",
                 t_bundle("application/json", T_KEY, T_IN_TOTO, T_GOOD, sig),
                 "a bundle of another type");

    t_bad_bundle("it is not by a public key",
                 t_bundle(T_TYPE, "{\"certificate\":{\"rawBytes\":\"\"}}",
                          T_IN_TOTO, T_GOOD, sig),
                 "a bundle by a certificate");

    t_bad_bundle("its payload is no in-toto statement",
                 t_bundle(T_TYPE, T_KEY, "application/json", T_GOOD, sig),
                 "another payload type");

    other = t_dsse(T_EC, "application/json", T_GOOD);
    t_bad_bundle("its payload is no in-toto statement",
                 t_bundle(T_TYPE, T_KEY, "application/json", T_GOOD, other),
                 "another payload type, that was signed");
    t_bad_bundle("it is by none of the keys",
                 t_bundle(T_TYPE, T_KEY, T_IN_TOTO, T_GOOD, other),
                 "a payload type that was not signed");
    free(other);

    other = t_sign(T_EC, T_GOOD, strlen(T_GOOD));
    t_bad_bundle("it is by none of the keys",
                 t_bundle(T_TYPE, T_KEY, T_IN_TOTO, T_GOOD, other),
                 "the payload signed, not its envelope");
    free(other);

    /* DSSEv1 28 type 5 payload, with other lengths or another word */

    p = t_format("DSSEv1 %zu %s %zu %s", sizeof(T_IN_TOTO) - 1, T_IN_TOTO,
                 strlen(T_GOOD) + 1, T_GOOD);
    other = t_sign(T_EC, p, strlen(p));
    t_bad_bundle("it is by none of the keys",
                 t_bundle(T_TYPE, T_KEY, T_IN_TOTO, T_GOOD, other),
                 "another length in the envelope");
    free(other);
    memcpy(p, "DSSEV1", 6);
    other = t_sign(T_EC, p, strlen(p));
    t_bad_bundle("it is by none of the keys",
                 t_bundle(T_TYPE, T_KEY, T_IN_TOTO, T_GOOD, other),
                 "another version of the envelope");
    free(other);
    free(p);

    /* its envelope and another's payload */

    t_bad_bundle("it is by none of the keys",
                 t_bundle(T_TYPE, T_KEY, T_IN_TOTO, statements[0][0], sig),
                 "a payload that was swapped");

    text = t_bundle(T_TYPE, T_KEY, T_IN_TOTO, T_GOOD, sig);

    p = strstr(text, "[{\"sig\"");
    other = t_format("%.*s{\"sig\":\"AAAA\"},%s", (int) (p + 1 - text), text,
                     p + 1);
    t_bad_bundle("it has not one signature", other, "two signatures in one");

    other = t_format("{\"messageSignature\":{},%s", text + 1);
    t_bad_bundle("it has no DSSE envelope", other, "two contents");

    other = t_format("{\"dsseEnvelope\":{},%s", text + 1);
    t_bad_bundle("not well-formed JSON", other, "two envelopes");

    other = t_format("{\"x\":[%.*s[%s", 40,
                     "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", text);
    t_bad_bundle("too deep, or too many values", other, "a deep bundle");

    other = malloc(100000 + strlen(text));
    memset(other, ',', 100000);
    strcpy(other + 99999, text);
    t_bad_bundle("too deep, or too many values", other, "many values");

    other = malloc(NGX_OCI_SIGNATURE_TEXT + 2 + strlen(text));
    memset(other, ' ', NGX_OCI_SIGNATURE_TEXT + 1);
    strcpy(other + NGX_OCI_SIGNATURE_TEXT, text);
    t_bad_bundle("too long", other, "a large bundle");

    free(text);
    free(sig);

    for (i = 0; statements[i][0]; i++) {
        sig = t_dsse(T_RSA, T_IN_TOTO, statements[i][0]);
        t_bad_bundle(statements[i][1],
                     t_bundle(T_TYPE, T_KEY, T_IN_TOTO, statements[i][0], sig),
                     statements[i][0]);
        free(sig);
    }
}


/* lists and manifests */

#define T_LAYER(type, size, rest)                                             \
    "{\"mediaType\":\"" type "\",\"digest\":\"" T_SUBJECT "\",\"size\":"      \
    size rest "}"

#define T_SIGNED   ",\"annotations\":{\"dev.cosignproject.cosign/signature\"" \
                   ":\"AAAA\"}"
#define T_BUNDLED  ",\"artifactType\":\"" T_TYPE "\""
#define T_PREDICATE(type)                                                     \
    ",\"annotations\":{\"dev.sigstore.bundle.predicateType\":\"" type "\"}"
#define T_OF(digest)  "\"subject\":{\"digest\":\"" digest "\"}"
#define T_IMAGE    "application/vnd.oci.image.manifest.v1+json"
#define T_REF(rest)  "{\"manifests\":[" T_LAYER(T_IMAGE, "9", rest) "]}"
#define T_TEN(s)   s s s s s s s s s s


typedef struct {
    u_char       kind;          /* 's', 'r', 'b' */
    ngx_int_t    rc;
    ngx_uint_t   n;
    const char  *text;
} t_list_t;


static t_list_t  t_lists[] = {

    { 's', NGX_OK, 0, "{}" },
    { 's', NGX_OK, 0, "{\"layers\":{}}" },
    { 's', NGX_OK, 0, "{\"layers\":[1,null,\"x\",[],{}]}" },
    { 's', NGX_DECLINED, 0, "{\"layers\":[}" },
    { 's', NGX_OK, 1, "{\"layers\":["
      T_LAYER(NGX_OCI_SIMPLE_SIGNING, "9", T_SIGNED) "]}" },
    { 's', NGX_OK, 2, "{\"layers\":["
      T_LAYER(NGX_OCI_SIMPLE_SIGNING, "9", T_SIGNED) ",{},"
      T_LAYER(NGX_OCI_SIMPLE_SIGNING, "65536", T_SIGNED) "]}" },
    { 's', NGX_OK, 0, "{\"layers\":["
      T_LAYER(NGX_OCI_SIMPLE_SIGNING, "9", "") "]}" },
    { 's', NGX_OK, 0, "{\"layers\":["
      T_LAYER(NGX_OCI_SIMPLE_SIGNING, "9", ",\"annotations\":{"
      "\"dev.cosignproject.cosign/signature\":\"\"}") "]}" },
    { 's', NGX_OK, 0, "{\"layers\":["
      T_LAYER(NGX_OCI_SIMPLE_SIGNING, "65537", T_SIGNED) "]}" },
    { 's', NGX_OK, 0, "{\"layers\":["
      T_LAYER(NGX_OCI_SIMPLE_SIGNING, "-1", T_SIGNED) "]}" },
    { 's', NGX_OK, 0, "{\"layers\":["
      T_LAYER(NGX_OCI_SIMPLE_SIGNING, "1.5", T_SIGNED) "]}" },
    { 's', NGX_OK, 0, "{\"layers\":["
      T_LAYER("text/plain", "9", T_SIGNED) "]}" },
    { 's', NGX_OK, 0, "{\"layers\":[{\"mediaType\":\"" NGX_OCI_SIMPLE_SIGNING
      "\",\"digest\":\"sha256:../../x\",\"size\":1" T_SIGNED "}]}" },
    { 's', NGX_OK, NGX_OCI_EVIDENCE_REFS, "{\"layers\":["
      T_TEN(T_LAYER(NGX_OCI_SIMPLE_SIGNING, "9", T_SIGNED) ",")
      T_TEN(T_LAYER(NGX_OCI_SIMPLE_SIGNING, "9", T_SIGNED) ",") "{}]}" },

    { 'r', NGX_OK, 0, "{\"manifests\":[]}" },
    { 'r', NGX_OK, 1, T_REF(T_BUNDLED) },
    { 'r', NGX_OK, 1, T_REF("") },
    { 'r', NGX_OK, 1,
      T_REF(",\"artifactType\":\"application/vnd.oci.empty.v1+json\"") },
    { 'r', NGX_OK, 0, T_REF(",\"artifactType\":\"application/x\"") },
    { 'r', NGX_OK, 1, T_REF(T_BUNDLED T_PREDICATE(T_SIGN)) },
    { 'r', NGX_OK, 0,
      T_REF(T_BUNDLED T_PREDICATE("https://slsa.dev/provenance/v1")) },

    { 'b', NGX_OK, 1, "{" T_OF(T_SUBJECT) ",\"layers\":["
      T_LAYER(T_TYPE, "9", "") "]}" },
    { 'b', NGX_DECLINED, 0, "{" T_OF("sha256:" T_OTHER) ",\"layers\":["
      T_LAYER(T_TYPE, "9", "") "]}" },
    { 'b', NGX_DECLINED, 0, "{\"layers\":[" T_LAYER(T_TYPE, "9", "") "]}" },
    { 'b', NGX_DECLINED, 0, "{" T_OF(T_SUBJECT) ",\"layers\":["
      T_LAYER(T_TYPE, "9", "") "," T_LAYER(T_TYPE, "9", "") "]}" },
    { 'b', NGX_DECLINED, 0, "{" T_OF(T_SUBJECT) ",\"layers\":["
      T_LAYER(T_IMAGE, "9", "") "]}" },
    { 'b', NGX_DECLINED, 0, "{" T_OF(T_SUBJECT) ",\"layers\":["
      T_LAYER(T_TYPE, "9", "") "]" T_PREDICATE("x") "}" },
    { 'b', NGX_DECLINED, 0, "{" T_OF(T_SUBJECT) ",\"layers\":["
      T_LAYER(T_TYPE, "9999999999", "") "]}" },

    { 0, 0, 0, NULL }
};


static void
t_test_lists(void)
{
    u_char                    tag[NGX_OCI_EVIDENCE_TAG];
    size_t                    len;
    t_list_t                 *t;
    ngx_int_t                 rc;
    ngx_str_t                 text, subject;
    const char               *why;
    ngx_oci_digest_t          digest;
    ngx_oci_evidence_refs_t   refs;

    subject.data = (u_char *) T_SUBJECT;
    subject.len = sizeof(T_SUBJECT) - 1;

    for (t = t_lists; t->kind; t++) {

        text = tap_copy(t->text, strlen(t->text));
        why = NULL;

        switch (t->kind) {
        case 's':
            rc = ngx_oci_evidence_signatures(&text, &refs, &why);
            break;
        case 'r':
            rc = ngx_oci_evidence_referrers(&text, &refs, &why);
            break;
        default:
            rc = ngx_oci_evidence_bundle(&text, &subject, &refs, &why);
        }

        tap_ok(rc == t->rc && refs.n == t->n
               && (rc != NGX_DECLINED || why != NULL), t->text);
        free(text.data);
    }

    ngx_oci_digest_parse(&digest, subject.data, subject.len);

    len = ngx_oci_evidence_sig_tag(&digest, tag);
    tap_ok(len == sizeof("sha256-" T_HEX ".sig") - 1
           && memcmp(tag, "sha256-" T_HEX ".sig", len) == 0, "cosign's tag");

    len = ngx_oci_evidence_referrers_tag(&digest, tag);
    tap_ok(len == sizeof("sha256-" T_HEX) - 1
           && memcmp(tag, "sha256-" T_HEX, len) == 0, "referrers' tag");

    ngx_oci_digest_parse(&digest, (u_char *) "sha512:" T_HEX T_OTHER,
                         sizeof("sha512:" T_HEX T_OTHER) - 1);

    tap_ok(ngx_oci_evidence_sig_tag(&digest, tag) == 0,
           "cosign's tag of a SHA-512");

    len = ngx_oci_evidence_referrers_tag(&digest, tag);
    tap_ok(len == sizeof("sha512-" T_HEX) - 1
           && memcmp(tag, "sha512-" T_HEX, len) == 0,
           "referrers' tag of a SHA-512");
}


static void
t_add(ngx_oci_evidence_t *evidence, const char *payload,
    const char *signature)
{
    ngx_str_t  a, b;

    a = tap_copy(payload, strlen(payload));
    b = tap_copy(signature ? signature : "", signature ? strlen(signature)
                                                       : 0);

    if (ngx_oci_evidence_add(evidence, &a, signature ? &b : NULL) != NGX_OK) {
        abort();
    }

    free(a.data);
    free(b.data);
}


static void
t_test_evidence(void)
{
    char                 *text, *good, *dsse, *bundle;
    size_t                n, size;
    ngx_int_t             rc;
    ngx_str_t             subject, s, large;
    ngx_uint_t            i;
    ngx_oci_evidence_t    evidence, again;
    ngx_oci_signature_t   check;

    subject.data = (u_char *) T_SUBJECT;
    subject.len = sizeof(T_SUBJECT) - 1;

    good = t_sign(T_EC, T_PAYLOAD, strlen(T_PAYLOAD));
    dsse = t_dsse(T_ED, T_IN_TOTO, T_GOOD);
    bundle = t_bundle(T_TYPE, T_KEY, T_IN_TOTO, T_GOOD, dsse);

    (void) ngx_oci_evidence_init(&evidence, &subject);

    check = t_trust(0, T_KEYS);
    tap_ok(ngx_oci_evidence_judge(&evidence, &check) == NGX_DECLINED
           && strcmp(check.why, "there is none") == 0, "no evidence");

    t_add(&evidence, T_PAYLOAD, "AAAA");
    tap_ok(ngx_oci_evidence_judge(&evidence, &check) == NGX_DECLINED,
           "a bad signature");

    t_add(&evidence, "{}", NULL);
    tap_ok(ngx_oci_evidence_judge(&evidence, &check) == NGX_DECLINED,
           "two bad signatures");

    t_add(&evidence, T_PAYLOAD, good);
    tap_ok(ngx_oci_evidence_judge(&evidence, &check) == NGX_OK
           && check.key == T_EC, "bad ones, and a good one");

    t_add(&evidence, T_PAYLOAD, "AAAA");
    tap_ok(ngx_oci_evidence_judge(&evidence, &check) == NGX_OK
           && check.key == T_EC, "and a bad one behind it");

    check = t_trust(T_EC2, 2);
    tap_ok(ngx_oci_evidence_judge(&evidence, &check) == NGX_DECLINED,
           "other keys");

    t_add(&evidence, bundle, NULL);

    /* what is there already is not added again */

    (void) ngx_oci_evidence_init(&again, &subject);
    t_add(&again, "{}", NULL);
    (void) ngx_oci_evidence_merge(&again, &evidence);
    (void) ngx_oci_evidence_merge(&again, &evidence);
    tap_ok(json_array_size(json_object_get(again.root, "signatures")) == 4
           && json_array_size(json_object_get(evidence.root, "signatures"))
              == 5, "older evidence is added, once");
    check = t_trust(T_ED, 1);
    tap_ok(ngx_oci_evidence_judge(&again, &check) == NGX_OK, "and counts");
    size = again.size;
    text = ngx_oci_evidence_print(&again);
    tap_ok(strlen(text) <= size, "and its size");
    free(text);

    for (i = 0; i < 2 * NGX_OCI_EVIDENCE_REFS; i++) {
        t_add(&again, "{}", NULL);
    }

    n = json_array_size(json_object_get(again.root, "signatures"));
    ngx_oci_evidence_free(&evidence);
    (void) ngx_oci_evidence_init(&evidence, &subject);
    t_add(&evidence, "[]", NULL);
    (void) ngx_oci_evidence_merge(&again, &evidence);
    tap_ok(json_array_size(json_object_get(again.root, "signatures")) == n,
           "no more than can be judged");
    ngx_oci_evidence_free(&again);

    ngx_oci_evidence_free(&evidence);
    (void) ngx_oci_evidence_init(&evidence, &subject);
    t_add(&evidence, T_PAYLOAD, good);
    t_add(&evidence, bundle, NULL);

    text = ngx_oci_evidence_print(&evidence);
    s = tap_copy(text, strlen(text));
    rc = ngx_oci_evidence_parse(&again, &s, &subject);
    tap_ok(rc == NGX_OK && strlen(text) <= evidence.size,
           "evidence is read again");

    check = t_trust(T_ED, 1);
    tap_ok(ngx_oci_evidence_judge(&again, &check) == NGX_OK,
           "and judged again, the bundle");
    check = t_trust(T_EC, 1);
    tap_ok(ngx_oci_evidence_judge(&again, &check) == NGX_OK,
           "and the other one");
    ngx_oci_evidence_free(&again);

    subject.data = (u_char *) "sha256:" T_OTHER;
    tap_ok(ngx_oci_evidence_parse(&again, &s, &subject) == NGX_DECLINED,
           "evidence of another digest");
    subject.data = (u_char *) T_SUBJECT;

    for (i = 0, rc = NGX_DECLINED; i < s.len && rc == NGX_DECLINED; i++) {
        large.data = s.data;
        large.len = i;
        rc = ngx_oci_evidence_parse(&again, &large, &subject);
    }

    tap_ok(rc == NGX_DECLINED, "evidence that is cut off");

    large.len = NGX_OCI_SIGNATURE_TEXT;
    large.data = malloc(large.len);
    memset(large.data, 'x', large.len);

    for (i = 0; i < 9; i++) {
        rc = ngx_oci_evidence_add(&evidence, &large, NULL);
        if (rc != NGX_OK) {
            break;
        }
    }

    tap_ok(rc == NGX_DECLINED && i == 2
           && evidence.size <= NGX_OCI_EVIDENCE_MAX, "too much evidence");

    large.len = 4;
    memset(large.data, 0xff, 4);
    tap_ok(ngx_oci_evidence_add(&evidence, &subject, &large) == NGX_DECLINED,
           "a signature that is no text");

    free(large.data);
    ngx_oci_evidence_free(&evidence);
    free(text);
    free(s.data);
    free(good);
    free(dsse);
    free(bundle);
}


static void
t_test_base64(void)
{
    size_t      i;
    ngx_str_t   out;

    static const char  *good[][2] = {
        { "AA==", "\0" }, { "YQ==", "a" }, { "YWI=", "ab" },
        { "YWJj", "abc" }, { "+/+/", "\xfb\xff\xbf" }, { NULL, NULL }
    };

    static const char  *bad[] = {
        "", "A", "AA", "AAA", "AA=", "A===", "====", "YR==", "YWJ=", "Y=Jj",
        "YQ==YQ==", " YWJ", "YWJ ", "YW\nJ", "-_-_", "YWJj=", "AAA\xc3", NULL
    };

    for (i = 0; good[i][0]; i++) {
        tap_ok(ngx_oci_signature_base64(good[i][0], strlen(good[i][0]), &out)
               == NGX_OK && memcmp(out.data, good[i][1], out.len) == 0
               && out.len == (i ? strlen(good[i][1]) : 1), good[i][0]);
        free(out.data);
    }

    for (i = 0; bad[i]; i++) {
        tap_ok(ngx_oci_signature_base64(bad[i], strlen(bad[i]), &out)
               == NGX_DECLINED, bad[i]);
    }
}


int
main(void)
{
    ngx_uint_t  i;

    t_setup();

    t_test_keys();
    t_test_base64();
    t_test_simple();
    t_test_bundle();
    t_test_lists();
    t_test_evidence();

    for (i = 0; i < T_KEYS; i++) {
        ngx_oci_signature_key_free(&t_keys[i]);
        EVP_PKEY_free(t_private[i]);
    }

    return tap_done();
}
