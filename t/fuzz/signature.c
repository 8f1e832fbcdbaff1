
/*
 * Copyright (C) The nginx-oci authors
 *
 * Keys, lists of signatures, envelopes, what is kept of them.  The input's
 * first byte says which.  For envelopes, the payload is signed here, so that
 * what follows a good signature is reached.
 */


#include "ngx_oci_evidence.h"
#include "fuzz.h"

#include <openssl/x509.h>


#define FUZZ_HEX      "1111111111111111111111111111111111111111111111111111" \
                      "111111111111"
#define FUZZ_SUBJECT  "sha256:" FUZZ_HEX
#define FUZZ_IN_TOTO  "application/vnd.in-toto+json"


static EVP_PKEY                 *fuzz_pkey;
static ngx_oci_signature_key_t   fuzz_key;


static void
fuzz_setup(void)
{
    int             n;
    unsigned char  *der;

    if (fuzz_pkey) {
        return;
    }

    der = NULL;
    fuzz_pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    n = i2d_PUBKEY(fuzz_pkey, &der);

    fuzz_check(ngx_oci_signature_key(&fuzz_key, der, n) == NULL);
    OPENSSL_free(der);
}


static char *
fuzz_base64(const u_char *data, size_t len)
{
    char  *text;

    text = malloc((len + 2) / 3 * 4 + 1);
    EVP_EncodeBlock((unsigned char *) text, data, (int) len);

    return text;
}


static char *
fuzz_sign(const u_char *message, size_t len)
{
    size_t          n;
    EVP_MD_CTX     *ctx;
    unsigned char   sig[64];

    n = sizeof(sig);
    ctx = EVP_MD_CTX_new();

    fuzz_check(EVP_DigestSignInit(ctx, NULL, NULL, NULL, fuzz_pkey) == 1);
    fuzz_check(EVP_DigestSign(ctx, sig, &n, message, len) == 1);
    EVP_MD_CTX_free(ctx);

    return fuzz_base64(sig, n);
}


static void
fuzz_trust(ngx_oci_signature_t *s)
{
    memset(s, 0, sizeof(ngx_oci_signature_t));

    s->keys = &fuzz_key;
    s->nkeys = 1;
    s->subject.data = (u_char *) FUZZ_SUBJECT;
    s->subject.len = sizeof(FUZZ_SUBJECT) - 1;
}


static void
fuzz_result(ngx_oci_signature_t *s, ngx_int_t rc, ngx_str_t *payload)
{
    if (rc == NGX_OK) {
        fuzz_check(s->key == 0);

        /* escapes may hide the text itself */

        fuzz_check(memchr(payload->data, '\\', payload->len)
                   || memmem(payload->data, payload->len, FUZZ_HEX,
                             sizeof(FUZZ_HEX) - 1));
        return;
    }

    fuzz_check(rc == NGX_DECLINED);
    fuzz_check(s->why && s->why[0]);
}


static void
fuzz_keys(ngx_str_t *text)
{
    size_t                    size;
    u_char                    der[NGX_OCI_SIGNATURE_DER];
    ngx_oci_signature_key_t   key;

    if (ngx_oci_signature_pem((char *) text->data, text->len, der, &size)
        == NULL)
    {
        fuzz_check(size <= sizeof(der));
        fuzz_check(ngx_oci_signature_key(&key, der, size) == NULL);
        ngx_oci_signature_key_free(&key);
    }

    if (ngx_oci_signature_key(&key, text->data, text->len) == NULL) {
        ngx_oci_signature_key_free(&key);
    }
}


static void
fuzz_simple(ngx_str_t *text)
{
    char                 *sig;
    ngx_int_t             rc;
    ngx_str_t             signature;
    ngx_oci_signature_t   s;

    fuzz_trust(&s);

    sig = fuzz_sign(text->data, text->len);
    signature.data = (u_char *) sig;
    signature.len = strlen(sig);

    rc = ngx_oci_signature_simple(&s, text, &signature);
    fuzz_result(&s, rc, text);
    free(sig);

    /* what anybody may put there is nobody's signature */

    fuzz_check(ngx_oci_signature_simple(&s, text, text) == NGX_DECLINED);
}


static void
fuzz_dsse(ngx_str_t *text)
{
    int                   n;
    char                 *pae, *sig, *payload, *bundle;
    size_t                len;
    ngx_int_t             rc;
    ngx_str_t             value;
    ngx_oci_signature_t   s;

    fuzz_trust(&s);

    pae = malloc(text->len + 100);
    len = sprintf(pae, "DSSEv1 %zu %s %zu ", sizeof(FUZZ_IN_TOTO) - 1,
                  FUZZ_IN_TOTO, text->len);
    memcpy(pae + len, text->data, text->len);

    sig = fuzz_sign((u_char *) pae, len + text->len);
    payload = fuzz_base64(text->data, text->len);

    n = asprintf(&bundle, "{\"mediaType\":\"" NGX_OCI_SIGSTORE_BUNDLE "\","
                 "\"verificationMaterial\":{\"publicKey\":{}},"
                 "\"dsseEnvelope\":{\"payload\":\"%s\",\"payloadType\":\""
                 FUZZ_IN_TOTO "\",\"signatures\":[{\"sig\":\"%s\"}]}}",
                 payload, sig);
    fuzz_check(n > 0);

    value.data = (u_char *) bundle;
    value.len = n;

    rc = ngx_oci_signature_bundle(&s, &value);
    fuzz_result(&s, rc, text);

    free(bundle);
    free(payload);
    free(sig);
    free(pae);
}


static void
fuzz_refs(ngx_str_t *text, ngx_uint_t kind)
{
    ngx_int_t                 rc;
    ngx_str_t                 subject;
    ngx_uint_t                i;
    const char               *why;
    ngx_oci_evidence_refs_t   refs;

    subject.data = (u_char *) FUZZ_SUBJECT;
    subject.len = sizeof(FUZZ_SUBJECT) - 1;

    why = NULL;

    rc = (kind == 0) ? ngx_oci_evidence_signatures(text, &refs, &why)
         : (kind == 1) ? ngx_oci_evidence_referrers(text, &refs, &why)
         : ngx_oci_evidence_bundle(text, &subject, &refs, &why);

    fuzz_check(rc == NGX_OK || (rc == NGX_DECLINED && why && why[0]));
    fuzz_check(refs.n <= NGX_OCI_EVIDENCE_REFS);

    for (i = 0; i < refs.n; i++) {
        fuzz_check(refs.refs[i].size > 0
                   && refs.refs[i].size <= NGX_OCI_SIGNATURE_TEXT);
        fuzz_check(refs.refs[i].digest.alg != NGX_OCI_DIGEST_NONE);
        fuzz_check(refs.refs[i].signature_len <= NGX_OCI_SIGNATURE_BASE64);
    }
}


static void
fuzz_evidence(ngx_str_t *text)
{
    char                 *out;
    ngx_int_t             rc;
    ngx_str_t             subject, again;
    ngx_oci_evidence_t    evidence, older;
    ngx_oci_signature_t   s;

    subject.data = (u_char *) FUZZ_SUBJECT;
    subject.len = sizeof(FUZZ_SUBJECT) - 1;

    fuzz_trust(&s);

    rc = ngx_oci_evidence_parse(&older, text, &subject);

    if (rc == NGX_OK) {

        /* nobody signed anything in here */

        fuzz_check(ngx_oci_evidence_judge(&older, &s) == NGX_DECLINED);
    }

    fuzz_check(ngx_oci_evidence_init(&evidence, &subject) == NGX_OK);
    fuzz_check(ngx_oci_evidence_merge(&evidence, &older) == NGX_OK);
    ngx_oci_evidence_free(&older);
    fuzz_check(ngx_oci_evidence_add(&evidence, text, NULL) != NGX_ERROR);
    fuzz_check(ngx_oci_evidence_add(&evidence, text, text) != NGX_ERROR);

    out = ngx_oci_evidence_print(&evidence);
    again.data = (u_char *) out;
    again.len = strlen(out);

    fuzz_check(again.len <= evidence.size);
    ngx_oci_evidence_free(&evidence);

    fuzz_check(ngx_oci_evidence_parse(&evidence, &again, &subject) == NGX_OK);
    fuzz_check(ngx_oci_evidence_judge(&evidence, &s) == NGX_DECLINED);
    ngx_oci_evidence_free(&evidence);
    free(out);
}


static void
fuzz_decode(ngx_str_t *text)
{
    char       *again;
    ngx_str_t   out;

    if (ngx_oci_signature_base64((char *) text->data, text->len, &out)
        != NGX_OK)
    {
        return;
    }

    again = fuzz_base64(out.data, out.len);

    fuzz_check(strlen(again) == text->len
               && memcmp(again, text->data, text->len) == 0);
    free(again);
    free(out.data);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_str_t            text;
    ngx_oci_signature_t  s;

    if (size == 0) {
        return 0;
    }

    fuzz_setup();

    text = fuzz_copy(data + 1, size - 1);

    switch (data[0] % 9) {

    case 0:
        fuzz_keys(&text);
        break;

    case 1:
        fuzz_simple(&text);
        break;

    case 2:
        fuzz_dsse(&text);
        break;

    case 3:
        fuzz_trust(&s);
        fuzz_check(ngx_oci_signature_bundle(&s, &text) == NGX_DECLINED);
        break;

    case 4:
        fuzz_evidence(&text);
        break;

    case 5:
        fuzz_decode(&text);
        break;

    default:
        fuzz_refs(&text, data[0] % 9 - 6);
    }

    free(text.data);

    return 0;
}
