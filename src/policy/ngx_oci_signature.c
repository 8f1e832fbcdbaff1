
/*
 * Copyright (C) The nginx-oci authors
 *
 * Signatures as cosign makes them.  Pure: needs libc, jansson and OpenSSL
 * only.
 *
 * What was signed is looked at after its signature was found good, and never
 * what stands around it: neither a tag, nor an annotation, nor a hint says
 * what is signed, or by whom.
 */


#include "ngx_oci_signature.h"

#include <openssl/err.h>


#define NGX_OCI_COSIGN_TYPE       "cosign container image signature"
#define NGX_OCI_IN_TOTO           "application/vnd.in-toto+json"
#define NGX_OCI_IN_TOTO_TYPE      "https://in-toto.io/Statement/v1"
#define NGX_OCI_COSIGN_PREDICATE  "https://sigstore.dev/cosign/sign/v1"


static ngx_int_t ngx_oci_signature_verify(ngx_oci_signature_t *s,
    ngx_str_t *message, ngx_str_t *signature);
static ngx_int_t ngx_oci_signature_ask(ngx_oci_signature_key_t *key,
    ngx_str_t *message, ngx_str_t *signature);
static ngx_int_t ngx_oci_signature_simple_subject(ngx_oci_signature_t *s,
    json_t *root);
static ngx_int_t ngx_oci_signature_envelope(ngx_oci_signature_t *s,
    json_t *root);
static ngx_int_t ngx_oci_signature_dsse(ngx_oci_signature_t *s,
    ngx_str_t *payload, ngx_str_t *signature);
static ngx_int_t ngx_oci_signature_statement(ngx_oci_signature_t *s,
    ngx_str_t *payload);
static ngx_int_t ngx_oci_signature_subject(ngx_oci_signature_t *s,
    json_t *root);
static ngx_int_t ngx_oci_signature_decode(ngx_oci_signature_t *s,
    json_t *object, const char *name, ngx_str_t *out);
static ngx_int_t ngx_oci_signature_no(ngx_oci_signature_t *s,
    const char *why);


#define ngx_oci_signature_eq(text, expected)                                  \
    ((text) && strcmp(text, expected) == 0)


static const char  *ngx_oci_signature_bundles[] = {
    NGX_OCI_SIGSTORE_BUNDLE,
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
    NULL
};


ngx_int_t
ngx_oci_signature_simple(ngx_oci_signature_t *s, ngx_str_t *payload,
    ngx_str_t *signature)
{
    json_t     *root;
    ngx_int_t   rc;
    ngx_str_t   raw;

    if (signature->len > NGX_OCI_SIGNATURE_BASE64) {
        return ngx_oci_signature_no(s, "the signature is too long");
    }

    if (payload->len > NGX_OCI_SIGNATURE_TEXT) {
        return ngx_oci_signature_no(s, "too long");
    }

    rc = ngx_oci_signature_base64((char *) signature->data, signature->len,
                                  &raw);
    if (rc != NGX_OK) {
        return rc == NGX_ERROR ? rc
               : ngx_oci_signature_no(s, "the signature is not base64");
    }

    rc = ngx_oci_signature_verify(s, payload, &raw);

    free(raw.data);

    if (rc != NGX_OK) {
        return rc;
    }

    root = ngx_oci_signature_json(payload, NGX_OCI_SIGNATURE_TEXT, &s->why);
    if (root == NULL) {
        return s->why ? NGX_DECLINED : NGX_ERROR;
    }

    rc = ngx_oci_signature_simple_subject(s, root);

    json_decref(root);

    return rc;
}


/* docker-reference is a claim that cosign too does not look at */

static ngx_int_t
ngx_oci_signature_simple_subject(ngx_oci_signature_t *s, json_t *root)
{
    json_t      *critical;
    const char  *digest;

    critical = json_object_get(root, "critical");

    if (!ngx_oci_signature_eq(ngx_oci_signature_string(critical, "type"),
                              NGX_OCI_COSIGN_TYPE))
    {
        return ngx_oci_signature_no(s, "its type is not cosign's");
    }

    digest = ngx_oci_signature_string(json_object_get(critical, "image"),
                                      "docker-manifest-digest");

    if (digest == NULL || strlen(digest) != s->subject.len
        || memcmp(digest, s->subject.data, s->subject.len) != 0)
    {
        return ngx_oci_signature_no(s, "it is of another digest");
    }

    return NGX_OK;
}


ngx_int_t
ngx_oci_signature_bundle(ngx_oci_signature_t *s, ngx_str_t *bundle)
{
    json_t       *root;
    ngx_int_t     rc;
    const char   *type, **known;

    root = ngx_oci_signature_json(bundle, NGX_OCI_SIGNATURE_TEXT, &s->why);
    if (root == NULL) {
        return s->why ? NGX_DECLINED : NGX_ERROR;
    }

    type = ngx_oci_signature_string(root, "mediaType");

    for (known = ngx_oci_signature_bundles; *known; known++) {
        if (ngx_oci_signature_eq(type, *known)) {
            break;
        }
    }

    rc = *known ? ngx_oci_signature_envelope(s, root)
                : ngx_oci_signature_no(s, "it is no bundle");

    json_decref(root);

    return rc;
}


static ngx_int_t
ngx_oci_signature_envelope(ngx_oci_signature_t *s, json_t *root)
{
    json_t     *material, *dsse, *signatures;
    ngx_int_t   rc;
    ngx_str_t   payload, signature;

    material = json_object_get(root, "verificationMaterial");

    if (!json_is_object(json_object_get(material, "publicKey"))) {
        return ngx_oci_signature_no(s, "it is not by a public key");
    }

    dsse = json_object_get(root, "dsseEnvelope");

    if (!json_is_object(dsse) || json_object_get(root, "messageSignature")) {
        return ngx_oci_signature_no(s, "it has no DSSE envelope");
    }

    if (!ngx_oci_signature_eq(ngx_oci_signature_string(dsse, "payloadType"),
                              NGX_OCI_IN_TOTO))
    {
        return ngx_oci_signature_no(s, "its payload is no in-toto statement");
    }

    signatures = json_object_get(dsse, "signatures");

    if (!json_is_array(signatures) || json_array_size(signatures) != 1) {
        return ngx_oci_signature_no(s, "it has not one signature");
    }

    rc = ngx_oci_signature_decode(s, dsse, "payload", &payload);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_oci_signature_decode(s, json_array_get(signatures, 0), "sig",
                                  &signature);
    if (rc == NGX_OK) {

        rc = ngx_oci_signature_dsse(s, &payload, &signature);

        if (rc == NGX_OK) {
            rc = ngx_oci_signature_statement(s, &payload);
        }

        free(signature.data);
    }

    free(payload.data);

    return rc;
}


/* what is signed: DSSE's "pre-authentication encoding" */

static ngx_int_t
ngx_oci_signature_dsse(ngx_oci_signature_t *s, ngx_str_t *payload,
    ngx_str_t *signature)
{
    int        n;
    char       head[sizeof("DSSEv1   ") + 2 * NGX_INT64_LEN
                    + sizeof(NGX_OCI_IN_TOTO)];
    ngx_int_t  rc;
    ngx_str_t  pae;

    n = snprintf(head, sizeof(head), "DSSEv1 %zu %s %zu ",
                 sizeof(NGX_OCI_IN_TOTO) - 1, NGX_OCI_IN_TOTO, payload->len);

    pae.len = n + payload->len;
    pae.data = malloc(pae.len);

    if (pae.data == NULL) {
        return NGX_ERROR;
    }

    memcpy(pae.data, head, n);
    memcpy(pae.data + n, payload->data, payload->len);

    rc = ngx_oci_signature_verify(s, &pae, signature);

    free(pae.data);

    return rc;
}


static ngx_int_t
ngx_oci_signature_statement(ngx_oci_signature_t *s, ngx_str_t *payload)
{
    json_t     *root;
    ngx_int_t   rc;

    root = ngx_oci_signature_json(payload, NGX_OCI_SIGNATURE_TEXT, &s->why);
    if (root == NULL) {
        return s->why ? NGX_DECLINED : NGX_ERROR;
    }

    if (!ngx_oci_signature_eq(ngx_oci_signature_string(root, "_type"),
                              NGX_OCI_IN_TOTO_TYPE))
    {
        rc = ngx_oci_signature_no(s, "it is no statement of in-toto's v1");

    } else if (!ngx_oci_signature_eq(ngx_oci_signature_string(root,
                                                              "predicateType"),
                                     NGX_OCI_COSIGN_PREDICATE))
    {
        /* who says what is in it, or how it was built, does not sign it */

        rc = ngx_oci_signature_no(s, "its predicate is no signature");

    } else {
        rc = ngx_oci_signature_subject(s, root);
    }

    json_decref(root);

    return rc;
}


/* one of the statement's subjects has the digest */

static ngx_int_t
ngx_oci_signature_subject(ngx_oci_signature_t *s, json_t *root)
{
    char        alg[sizeof("sha512")];
    size_t      i, n;
    json_t     *subjects, *value;
    ngx_str_t   hex;

    n = sizeof(alg) - 1;

    if (s->subject.len < n + 2 || s->subject.data[n] != ':') {
        return ngx_oci_signature_no(s, "it is of another digest");
    }

    memcpy(alg, s->subject.data, n);
    alg[n] = '\0';

    hex.data = s->subject.data + n + 1;
    hex.len = s->subject.len - n - 1;

    subjects = json_object_get(root, "subject");

    json_array_foreach(subjects, i, value) {

        value = json_object_get(json_object_get(value, "digest"), alg);

        if (json_is_string(value)
            && json_string_length(value) == hex.len
            && memcmp(json_string_value(value), hex.data, hex.len) == 0)
        {
            return NGX_OK;
        }
    }

    return ngx_oci_signature_no(s, "it is of another digest");
}


static ngx_int_t
ngx_oci_signature_verify(ngx_oci_signature_t *s, ngx_str_t *message,
    ngx_str_t *signature)
{
    ngx_int_t   rc;
    ngx_uint_t  i;

    for (i = 0; i < s->nkeys; i++) {

        rc = ngx_oci_signature_ask(&s->keys[i], message, signature);

        if (rc != NGX_DECLINED) {
            s->key = i;
            return rc;
        }
    }

    return ngx_oci_signature_no(s, "it is by none of the keys");
}


/* the key says how it signs: ECDSA and RSA (PKCS #1 1.5) a SHA-256 */

static ngx_int_t
ngx_oci_signature_ask(ngx_oci_signature_key_t *key, ngx_str_t *message,
    ngx_str_t *signature)
{
    int            rc;
    EVP_MD_CTX    *ctx;
    const EVP_MD  *md;

    ctx = EVP_MD_CTX_new();
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    md = EVP_PKEY_is_a(key->pkey, "ED25519") ? NULL : EVP_sha256();

    rc = EVP_DigestVerifyInit(ctx, NULL, md, NULL, key->pkey);

    if (rc == 1) {
        rc = EVP_DigestVerify(ctx, signature->data, signature->len,
                              message->data, message->len);
        rc = (rc == 1) ? NGX_OK : NGX_DECLINED;

    } else {
        rc = NGX_ERROR;
    }

    EVP_MD_CTX_free(ctx);
    ERR_clear_error();

    return rc;
}


/*
 * The tree of a text of two bytes for a value may take a hundred times that,
 * and jansson goes as deep as 2048: both are bounded before.
 */

json_t *
ngx_oci_signature_json(ngx_str_t *text, size_t max, const char **why)
{
    json_t        *root;
    u_char        *p, *last;
    ngx_int_t      depth;
    ngx_uint_t     values;
    json_error_t   err;

    if (text->len > max) {
        *why = "too long";
        return NULL;
    }

    depth = 0;
    values = 0;
    last = text->data + text->len;

    for (p = text->data; p < last; p++) {

        switch (*p) {

        case '"':
            for (p++; p < last && *p != '"'; p++) {
                if (*p == '\\') {
                    p++;
                }
            }

            break;

        case '{':
        case '[':
            depth++;
            values++;
            break;

        case '}':
        case ']':
            depth--;
            break;

        case ',':
            values++;
            break;
        }

        if (depth > NGX_OCI_SIGNATURE_DEPTH
            || values > NGX_OCI_SIGNATURE_VALUES)
        {
            *why = "too deep, or too many values";
            return NULL;
        }
    }

    root = json_loadb((char *) text->data, text->len, JSON_REJECT_DUPLICATES,
                      &err);

    if (root == NULL) {
        *why = (json_error_code(&err) == json_error_out_of_memory)
               ? NULL : "not well-formed JSON";
        return NULL;
    }

    if (!json_is_object(root)) {
        *why = "not an object";
        json_decref(root);
        return NULL;
    }

    return root;
}


const char *
ngx_oci_signature_string(json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}


ngx_int_t
ngx_oci_signature_base64(const char *text, size_t len, ngx_str_t *out)
{
    int     n;
    char    c;
    size_t  i, pad;

    out->data = NULL;
    out->len = 0;

    if (len == 0 || len % 4 || len > 2 * NGX_OCI_SIGNATURE_TEXT) {
        return NGX_DECLINED;
    }

    pad = (text[len - 1] == '=') + (text[len - 1] == '='
                                    && text[len - 2] == '=');

    for (i = 0; i < len - pad; i++) {
        c = text[i];

        if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z')
            && !(c >= '0' && c <= '9') && c != '+' && c != '/')
        {
            return NGX_DECLINED;
        }
    }

    out->data = malloc(len / 4 * 3);
    if (out->data == NULL) {
        return NGX_ERROR;
    }

    n = EVP_DecodeBlock(out->data, (const unsigned char *) text, (int) len);

    /* bits that stand for nothing have to be zero: one text for one value */

    if (n != (int) (len / 4 * 3)
        || (pad && out->data[n - 1]) || (pad == 2 && out->data[n - 2]))
    {
        free(out->data);
        out->data = NULL;
        return NGX_DECLINED;
    }

    out->len = n - pad;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_signature_decode(ngx_oci_signature_t *s, json_t *object,
    const char *name, ngx_str_t *out)
{
    json_t     *value;
    ngx_int_t   rc;

    value = json_object_get(object, name);

    if (!json_is_string(value)) {
        return ngx_oci_signature_no(s, "a part of its envelope is missing");
    }

    rc = ngx_oci_signature_base64(json_string_value(value),
                                  json_string_length(value), out);

    return rc != NGX_DECLINED ? rc
           : ngx_oci_signature_no(s, "a part of its envelope is not base64");
}


static ngx_int_t
ngx_oci_signature_no(ngx_oci_signature_t *s, const char *why)
{
    s->why = why;

    return NGX_DECLINED;
}
