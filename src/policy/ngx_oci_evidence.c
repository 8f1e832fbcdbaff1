
/*
 * Copyright (C) The nginx-oci authors
 *
 * The manifests and lists that lead to signatures, and the text that keeps
 * them.  Pure: needs libc, jansson and OpenSSL only.
 *
 * Nothing in here is believed: what is found is only what is looked at.  The
 * text that is kept needs no protection either, each piece proves itself.
 */


#include "ngx_oci_evidence.h"


#define NGX_OCI_EVIDENCE_SIGNATURE  "dev.cosignproject.cosign/signature"
#define NGX_OCI_EVIDENCE_PREDICATE  "dev.sigstore.bundle.predicateType"
#define NGX_OCI_EVIDENCE_SIGNS      "https://sigstore.dev/cosign/sign/v1"

#define NGX_OCI_EVIDENCE_EMPTY      "application/vnd.oci.empty.v1+json"

#define NGX_OCI_EVIDENCE_VERSION    1
#define NGX_OCI_EVIDENCE_ROOM       128     /* of a piece beside its texts */


static ngx_uint_t ngx_oci_evidence_other(json_t *object);
static ngx_int_t ngx_oci_evidence_ref(ngx_oci_evidence_refs_t *refs,
    json_t *descriptor, off_t max, json_t *signature);
static json_t *ngx_oci_evidence_base64(ngx_str_t *data);
static ngx_int_t ngx_oci_evidence_piece(json_t *piece,
    ngx_oci_signature_t *s);


#define ngx_oci_evidence_eq(text, expected)                                   \
    ((text) && strcmp(text, expected) == 0)


size_t
ngx_oci_evidence_sig_tag(ngx_oci_digest_t *subject, u_char *tag)
{
    u_char  *p;
    size_t   len;

    /* a tag has 128 bytes at most */

    if (subject->alg != NGX_OCI_SHA256) {
        return 0;
    }

    p = ngx_oci_digest_print(tag, subject);
    tag[sizeof("sha256") - 1] = '-';

    memcpy(p, ".sig", sizeof(".sig") - 1);
    len = p - tag + sizeof(".sig") - 1;

    return len;
}


size_t
ngx_oci_evidence_referrers_tag(ngx_oci_digest_t *subject, u_char *tag)
{
    u_char  *p, text[NGX_OCI_DIGEST_LEN];
    size_t   len;

    /* distribution-spec, "Referrers Tag Schema": 64 bytes of the digest */

    p = ngx_oci_digest_print(text, subject);
    len = p - text;

    if (len > sizeof("sha256:") - 1 + 64) {
        len = sizeof("sha256:") - 1 + 64;
    }

    memcpy(tag, text, len);
    tag[sizeof("sha256") - 1] = '-';

    return len;
}


ngx_int_t
ngx_oci_evidence_signatures(ngx_str_t *manifest,
    ngx_oci_evidence_refs_t *refs, const char **why)
{
    json_t      *root, *layers, *layer, *signature;
    size_t       i;
    const char  *type;

    refs->n = 0;

    root = ngx_oci_signature_json(manifest, NGX_OCI_SIGNATURE_TEXT, why);
    if (root == NULL) {
        return *why ? NGX_DECLINED : NGX_ERROR;
    }

    layers = json_object_get(root, "layers");

    for (i = json_array_size(layers); i > 0; i--) {

        layer = json_array_get(layers, i - 1);
        type = ngx_oci_signature_string(layer, "mediaType");

        if (!ngx_oci_evidence_eq(type, NGX_OCI_SIMPLE_SIGNING)) {
            continue;
        }

        signature = json_object_get(json_object_get(layer, "annotations"),
                                    NGX_OCI_EVIDENCE_SIGNATURE);

        if (json_string_length(signature)
            && ngx_oci_evidence_ref(refs, layer, NGX_OCI_EVIDENCE_PAYLOAD,
                                    signature)
               != NGX_OK)
        {
            break;
        }
    }

    json_decref(root);

    return NGX_OK;
}


ngx_int_t
ngx_oci_evidence_referrers(ngx_str_t *index, ngx_oci_evidence_refs_t *refs,
    const char **why)
{
    size_t       i;
    json_t      *root, *list, *value;
    const char  *type;

    refs->n = 0;

    root = ngx_oci_signature_json(index, NGX_OCI_SIGNATURE_TEXT, why);
    if (root == NULL) {
        return *why ? NGX_DECLINED : NGX_ERROR;
    }

    list = json_object_get(root, "manifests");

    for (i = json_array_size(list); i > 0; i--) {

        value = json_array_get(list, i - 1);
        type = ngx_oci_signature_string(value, "artifactType");

        /*
         * A list that cosign itself keeps, where the registry has no such
         * API, has the type of the empty configuration there.
         */

        if (type && strcmp(type, NGX_OCI_SIGSTORE_BUNDLE) != 0
            && strcmp(type, NGX_OCI_EVIDENCE_EMPTY) != 0)
        {
            continue;
        }

        if (ngx_oci_evidence_other(value)) {
            continue;
        }

        if (ngx_oci_evidence_ref(refs, value, NGX_OCI_SIGNATURE_TEXT, NULL)
            != NGX_OK)
        {
            break;
        }
    }

    json_decref(root);

    return NGX_OK;
}


ngx_int_t
ngx_oci_evidence_bundle(ngx_str_t *manifest, ngx_str_t *subject,
    ngx_oci_evidence_refs_t *refs, const char **why)
{
    size_t       i;
    json_t      *root, *layers, *value;
    const char  *type, *digest;

    refs->n = 0;

    root = ngx_oci_signature_json(manifest, NGX_OCI_SIGNATURE_TEXT, why);
    if (root == NULL) {
        return *why ? NGX_DECLINED : NGX_ERROR;
    }

    digest = ngx_oci_signature_string(json_object_get(root, "subject"),
                                      "digest");

    if (digest && strlen(digest) == subject->len
        && memcmp(digest, subject->data, subject->len) == 0
        && !ngx_oci_evidence_other(root))
    {
        layers = json_object_get(root, "layers");

        json_array_foreach(layers, i, value) {

            type = ngx_oci_signature_string(value, "mediaType");

            if (i || !ngx_oci_evidence_eq(type, NGX_OCI_SIGSTORE_BUNDLE)) {
                refs->n = 0;
                break;
            }

            (void) ngx_oci_evidence_ref(refs, value, NGX_OCI_SIGNATURE_TEXT,
                                        NULL);
        }
    }

    json_decref(root);

    if (refs->n == 0) {
        *why = "it is no signature of this digest";
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* attestations, of which there may be many, and large ones */

static ngx_uint_t
ngx_oci_evidence_other(json_t *object)
{
    const char  *predicate;

    predicate = ngx_oci_signature_string(json_object_get(object,
                                                         "annotations"),
                                         NGX_OCI_EVIDENCE_PREDICATE);

    return predicate && strcmp(predicate, NGX_OCI_EVIDENCE_SIGNS) != 0;
}


/* NGX_DONE: there is no room for more */

static ngx_int_t
ngx_oci_evidence_ref(ngx_oci_evidence_refs_t *refs, json_t *descriptor,
    off_t max, json_t *signature)
{
    json_t                  *size;
    json_int_t               n;
    const char              *digest;
    ngx_oci_evidence_ref_t  *ref;

    if (refs->n == NGX_OCI_EVIDENCE_REFS) {
        return NGX_DONE;
    }

    ref = &refs->refs[refs->n];

    digest = ngx_oci_signature_string(descriptor, "digest");
    size = json_object_get(descriptor, "size");

    if (digest == NULL || !json_is_integer(size)) {
        return NGX_OK;
    }

    n = json_integer_value(size);

    if (n <= 0 || n > max
        || ngx_oci_digest_parse(&ref->digest, (u_char *) digest,
                                strlen(digest))
           != NGX_OK)
    {
        return NGX_OK;
    }

    ref->size = (off_t) n;
    ref->signature_len = json_string_length(signature);

    if (ref->signature_len > NGX_OCI_SIGNATURE_BASE64) {
        return NGX_OK;
    }

    if (ref->signature_len) {
        memcpy(ref->signature, json_string_value(signature),
               ref->signature_len);
    }

    refs->n++;

    return NGX_OK;
}


ngx_int_t
ngx_oci_evidence_init(ngx_oci_evidence_t *evidence, ngx_str_t *subject)
{
    evidence->root = json_pack("{s:i, s:s%, s:[]}",
                               "version", NGX_OCI_EVIDENCE_VERSION,
                               "subject", subject->data, subject->len,
                               "signatures");

    evidence->size = NGX_OCI_EVIDENCE_ROOM + subject->len;

    return evidence->root ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_oci_evidence_add(ngx_oci_evidence_t *evidence, ngx_str_t *payload,
    ngx_str_t *signature)
{
    size_t      size;
    json_t     *piece, *value;
    ngx_int_t   rc;
    ngx_str_t   raw;

    if (signature) {
        rc = ngx_oci_signature_base64((char *) signature->data,
                                      signature->len, &raw);
        if (rc != NGX_OK) {
            return rc;
        }

        free(raw.data);
    }

    size = NGX_OCI_EVIDENCE_ROOM + (payload->len + 2) / 3 * 4
           + (signature ? signature->len : 0);

    if (payload->len > NGX_OCI_SIGNATURE_TEXT
        || evidence->size + size > NGX_OCI_EVIDENCE_MAX)
    {
        return NGX_DECLINED;
    }

    piece = json_object();
    value = ngx_oci_evidence_base64(payload);

    if (json_object_set_new(piece, signature ? "payload" : "bundle", value)
        != 0)
    {
        json_decref(piece);
        return NGX_ERROR;
    }

    if (signature) {
        value = json_stringn((char *) signature->data, signature->len);

        if (json_object_set_new(piece, "signature", value) != 0) {
            json_decref(piece);
            return NGX_ERROR;
        }
    }

    if (json_array_append_new(json_object_get(evidence->root, "signatures"),
                              piece)
        != 0)
    {
        return NGX_ERROR;
    }

    evidence->size += size;

    return NGX_OK;
}


static json_t *
ngx_oci_evidence_base64(ngx_str_t *data)
{
    int             n;
    json_t         *value;
    unsigned char  *text;

    text = malloc((data->len + 2) / 3 * 4 + 1);
    if (text == NULL) {
        return NULL;
    }

    n = EVP_EncodeBlock(text, data->data, (int) data->len);
    value = json_stringn_nocheck((char *) text, n);

    free(text);

    return value;
}


ngx_int_t
ngx_oci_evidence_merge(ngx_oci_evidence_t *evidence,
    ngx_oci_evidence_t *older)
{
    size_t   i, k, n, size;
    json_t  *list, *old, *piece;

    list = json_object_get(evidence->root, "signatures");
    old = json_object_get(older->root, "signatures");

    n = json_array_size(old);

    if (n > 2 * NGX_OCI_EVIDENCE_REFS) {
        n = 2 * NGX_OCI_EVIDENCE_REFS;
    }

    for (i = 0; i < n; i++) {

        piece = json_array_get(old, i);

        for (k = 0; k < json_array_size(list); k++) {
            if (json_equal(json_array_get(list, k), piece)) {
                break;
            }
        }

        if (k < json_array_size(list)) {
            continue;
        }

        size = NGX_OCI_EVIDENCE_ROOM + json_dumpb(piece, NULL, 0,
                                                  JSON_COMPACT);

        if (k >= 2 * NGX_OCI_EVIDENCE_REFS
            || evidence->size + size > NGX_OCI_EVIDENCE_MAX)
        {
            break;
        }

        if (json_array_append(list, piece) != 0) {
            return NGX_ERROR;
        }

        evidence->size += size;
    }

    return NGX_OK;
}


char *
ngx_oci_evidence_print(ngx_oci_evidence_t *evidence)
{
    return json_dumps(evidence->root, JSON_COMPACT);
}


void
ngx_oci_evidence_free(ngx_oci_evidence_t *evidence)
{
    json_decref(evidence->root);
    evidence->root = NULL;
}


ngx_int_t
ngx_oci_evidence_parse(ngx_oci_evidence_t *evidence, ngx_str_t *text,
    ngx_str_t *subject)
{
    json_t      *version;
    const char  *digest, *why;

    evidence->size = text->len;
    evidence->root = ngx_oci_signature_json(text, NGX_OCI_EVIDENCE_MAX, &why);

    if (evidence->root == NULL) {
        return why ? NGX_DECLINED : NGX_ERROR;
    }

    version = json_object_get(evidence->root, "version");
    digest = ngx_oci_signature_string(evidence->root, "subject");

    if (json_integer_value(version) == NGX_OCI_EVIDENCE_VERSION
        && digest && strlen(digest) == subject->len
        && memcmp(digest, subject->data, subject->len) == 0
        && json_is_array(json_object_get(evidence->root, "signatures")))
    {
        return NGX_OK;
    }

    ngx_oci_evidence_free(evidence);

    return NGX_DECLINED;
}


ngx_int_t
ngx_oci_evidence_judge(ngx_oci_evidence_t *evidence, ngx_oci_signature_t *s)
{
    size_t      i, n;
    json_t     *list;
    ngx_int_t   rc;

    s->why = "there is none";

    list = json_object_get(evidence->root, "signatures");
    n = json_array_size(list);

    if (n > 2 * NGX_OCI_EVIDENCE_REFS) {
        n = 2 * NGX_OCI_EVIDENCE_REFS;
    }

    for (i = 0; i < n; i++) {

        rc = ngx_oci_evidence_piece(json_array_get(list, i), s);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_oci_evidence_piece(json_t *piece, ngx_oci_signature_t *s)
{
    json_t     *value, *signature;
    ngx_int_t   rc;
    ngx_str_t   data, text;

    signature = json_object_get(piece, "signature");
    value = json_object_get(piece, signature ? "payload" : "bundle");

    if (!json_is_string(value) || (signature && !json_is_string(signature))) {
        s->why = "it is not well-formed";
        return NGX_DECLINED;
    }

    rc = ngx_oci_signature_base64(json_string_value(value),
                                  json_string_length(value), &data);
    if (rc != NGX_OK) {
        s->why = "it is not well-formed";
        return rc;
    }

    if (signature) {
        text.data = (u_char *) json_string_value(signature);
        text.len = json_string_length(signature);

        rc = ngx_oci_signature_simple(s, &data, &text);

    } else {
        rc = ngx_oci_signature_bundle(s, &data);
    }

    free(data.data);

    return rc;
}
