
/*
 * Copyright (C) The nginx-oci authors
 *
 * Looks for signatures: first under cosign's tag, then among the referrers,
 * and no further than to a good one.  What is not there is not there; what
 * can't be had for another reason may be the one that is needed.
 */


#include "ngx_oci_signed.h"


#define NGX_OCI_SIGNED_MANIFEST                                               \
    "application/vnd.oci.image.manifest.v1+json, "                            \
    "application/vnd.docker.distribution.manifest.v2+json"
#define NGX_OCI_SIGNED_INDEX    "application/vnd.oci.image.index.v1+json"
#define NGX_OCI_SIGNED_BLOB     "application/octet-stream, */*"
#define NGX_OCI_SIGNED_FILTER                                                 \
    "?artifactType=application%2Fvnd.dev.sigstore.bundle.v0.3%2Bjson"


typedef ngx_int_t (*ngx_oci_signed_parse_pt)(ngx_str_t *text,
    ngx_oci_evidence_refs_t *refs, const char **why);


static void ngx_oci_signed_listed(ngx_oci_signed_t *s, ngx_uint_t status,
    ngx_oci_signed_parse_pt parse);
static void ngx_oci_signed_payload(ngx_oci_signed_t *s, ngx_uint_t status);
static void ngx_oci_signed_referrers(ngx_oci_signed_t *s, ngx_uint_t status);
static void ngx_oci_signed_referrer(ngx_oci_signed_t *s, ngx_uint_t status);
static void ngx_oci_signed_bundle(ngx_oci_signed_t *s, ngx_uint_t status);
static void ngx_oci_signed_next(ngx_oci_signed_t *s);
static ngx_uint_t ngx_oci_signed_again(ngx_oci_signed_t *s);
static void ngx_oci_signed_list(ngx_oci_signed_t *s, ngx_uint_t step);
static void ngx_oci_signed_object(ngx_oci_signed_t *s, ngx_uint_t step,
    ngx_oci_evidence_ref_t *ref);
static void ngx_oci_signed_get(ngx_oci_signed_t *s, ngx_uint_t step,
    const char *what, ngx_str_t *name, const char *accept, size_t max);
static ngx_int_t ngx_oci_signed_add(ngx_oci_signed_t *s, ngx_str_t *text,
    ngx_str_t *signature);
static void ngx_oci_signed_missed(ngx_oci_signed_t *s, ngx_uint_t status);
static void ngx_oci_signed_memory(ngx_oci_signed_t *s);


void
ngx_oci_signed_find(ngx_oci_signed_t *s)
{
    u_char     tag[NGX_OCI_EVIDENCE_TAG];
    ngx_str_t  name;

    s->started = ngx_time();
    s->why = NULL;

    name.data = tag;
    name.len = ngx_oci_evidence_sig_tag(&s->digest, tag);

    if (name.len == 0) {
        ngx_oci_signed_list(s, NGX_OCI_SIGNED_REFERRERS);
        return;
    }

    ngx_oci_signed_get(s, NGX_OCI_SIGNED_TAG, "manifests", &name,
                       NGX_OCI_SIGNED_MANIFEST, NGX_OCI_SIGNATURE_TEXT);
}


void
ngx_oci_signed_fetched(ngx_oci_signed_t *s, ngx_uint_t status)
{
    switch (s->step) {

    case NGX_OCI_SIGNED_TAG:
        ngx_oci_signed_listed(s, status, ngx_oci_evidence_signatures);
        break;

    case NGX_OCI_SIGNED_PAYLOAD:
        ngx_oci_signed_payload(s, status);
        break;

    case NGX_OCI_SIGNED_REFERRERS:
    case NGX_OCI_SIGNED_FALLBACK:
        ngx_oci_signed_referrers(s, status);
        break;

    case NGX_OCI_SIGNED_REFERRER:
        ngx_oci_signed_referrer(s, status);
        break;

    default: /* NGX_OCI_SIGNED_BUNDLE */
        ngx_oci_signed_bundle(s, status);
    }
}


void
ngx_oci_signed_judged(ngx_oci_signed_t *s)
{
    s->added = 0;

    if (s->step == NGX_OCI_SIGNED_TAG || s->step == NGX_OCI_SIGNED_PAYLOAD) {
        ngx_oci_signed_list(s, NGX_OCI_SIGNED_REFERRERS);
        return;
    }

    ngx_oci_signed_end(s, NGX_DECLINED, s->why);
}


/* what a list names, one after the other */

static void
ngx_oci_signed_listed(ngx_oci_signed_t *s, ngx_uint_t status,
    ngx_oci_signed_parse_pt parse)
{
    ngx_int_t    rc;
    ngx_str_t    text;
    const char  *why;

    s->i = 0;
    s->refs.n = 0;

    if (status == NGX_HTTP_OK) {

        text.data = s->body;
        text.len = s->size;

        rc = parse(&text, &s->refs, &why);

        if (rc == NGX_ERROR) {
            ngx_oci_signed_memory(s);
            return;
        }

        if (rc == NGX_DECLINED) {
            ngx_oci_signed_missed(s, 0);
        }

    } else {
        ngx_oci_signed_missed(s, status);
    }

    ngx_oci_signed_next(s);
}


static void
ngx_oci_signed_payload(ngx_oci_signed_t *s, ngx_uint_t status)
{
    if (status == NGX_HTTP_OK) {

        free(s->payload.data);

        s->payload.data = s->body;
        s->payload.len = s->size;
        s->of = s->refs.refs[s->i].digest;

        s->body = NULL;
        s->room = 0;

        if (!ngx_oci_signed_again(s)) {
            ngx_oci_signed_memory(s);
            return;
        }

    } else {
        ngx_oci_signed_missed(s, status);
        s->i++;
    }

    ngx_oci_signed_next(s);
}


static void
ngx_oci_signed_referrers(ngx_oci_signed_t *s, ngx_uint_t status)
{
    if (s->step == NGX_OCI_SIGNED_REFERRERS
        && (status == NGX_HTTP_NOT_FOUND
            || status == NGX_HTTP_BAD_REQUEST
            || status == NGX_HTTP_NOT_ALLOWED
            || status == NGX_HTTP_NOT_IMPLEMENTED))
    {
        /* the registry doesn't have this API */

        ngx_oci_signed_list(s, NGX_OCI_SIGNED_FALLBACK);
        return;
    }

    ngx_oci_signed_listed(s, status, ngx_oci_evidence_referrers);
}


static void
ngx_oci_signed_referrer(ngx_oci_signed_t *s, ngx_uint_t status)
{
    ngx_int_t    rc;
    ngx_str_t    text;
    const char  *why;

    if (status == NGX_HTTP_OK) {

        text.data = s->body;
        text.len = s->size;

        rc = ngx_oci_evidence_bundle(&text, &s->subject, &s->bundle, &why);

        if (rc == NGX_ERROR) {
            ngx_oci_signed_memory(s);
            return;
        }

        if (rc == NGX_OK) {
            ngx_oci_signed_object(s, NGX_OCI_SIGNED_BUNDLE,
                                  &s->bundle.refs[0]);
            return;
        }

        s->why = why;

    } else {
        ngx_oci_signed_missed(s, status);
    }

    s->i++;
    ngx_oci_signed_next(s);
}


static void
ngx_oci_signed_bundle(ngx_oci_signed_t *s, ngx_uint_t status)
{
    ngx_str_t  text;

    if (status == NGX_HTTP_OK) {

        text.data = s->body;
        text.len = s->size;

        if (ngx_oci_signed_add(s, &text, NULL) != NGX_OK) {
            ngx_oci_signed_memory(s);
            return;
        }

    } else {
        ngx_oci_signed_missed(s, status);
    }

    s->i++;
    ngx_oci_signed_next(s);
}


/* the next one of the list, or what there is is judged */

static void
ngx_oci_signed_next(ngx_oci_signed_t *s)
{
    ngx_oci_evidence_ref_t  *ref;

    if (s->i < s->refs.n && ngx_time() - s->started > NGX_OCI_SIGNED_TIME) {
        s->failed = 1;
        s->i = s->refs.n;
    }

    if (s->i < s->refs.n) {

        ref = &s->refs.refs[s->i];

        ngx_oci_signed_object(s, ref->signature_len ? NGX_OCI_SIGNED_PAYLOAD
                                                    : NGX_OCI_SIGNED_REFERRER,
                              ref);
        return;
    }

    if (s->added) {
        ngx_oci_signed_judge(s);
        return;
    }

    ngx_oci_signed_judged(s);
}


/* all signatures that follow, and are of what was fetched; 0: no memory */

static ngx_uint_t
ngx_oci_signed_again(ngx_oci_signed_t *s)
{
    ngx_str_t                signature;
    ngx_oci_evidence_ref_t  *ref;

    while (s->i < s->refs.n) {

        ref = &s->refs.refs[s->i];

        if (!ngx_oci_digest_equal(&ref->digest, &s->of)) {
            break;
        }

        signature.data = ref->signature;
        signature.len = ref->signature_len;

        if (ngx_oci_signed_add(s, &s->payload, &signature) != NGX_OK) {
            return 0;
        }

        s->i++;
    }

    return 1;
}


static void
ngx_oci_signed_list(ngx_oci_signed_t *s, ngx_uint_t step)
{
    u_char     *p, buf[NGX_OCI_DIGEST_LEN + sizeof(NGX_OCI_SIGNED_FILTER)];
    ngx_str_t   name;

    name.data = buf;

    if (step == NGX_OCI_SIGNED_FALLBACK) {
        name.len = ngx_oci_evidence_referrers_tag(&s->digest, buf);

        ngx_oci_signed_get(s, step, "manifests", &name,
                           NGX_OCI_SIGNED_INDEX, NGX_OCI_SIGNATURE_TEXT);
        return;
    }

    p = ngx_oci_digest_print(buf, &s->digest);
    p = ngx_cpymem(p, NGX_OCI_SIGNED_FILTER,
                   sizeof(NGX_OCI_SIGNED_FILTER) - 1);
    name.len = p - buf;

    ngx_oci_signed_get(s, step, "referrers", &name, NGX_OCI_SIGNED_INDEX,
                       NGX_OCI_SIGNATURE_TEXT);
}


static void
ngx_oci_signed_object(ngx_oci_signed_t *s, ngx_uint_t step,
    ngx_oci_evidence_ref_t *ref)
{
    u_char     buf[NGX_OCI_DIGEST_LEN];
    ngx_str_t  name;

    name.data = buf;
    name.len = ngx_oci_digest_print(buf, &ref->digest) - buf;

    if (step == NGX_OCI_SIGNED_REFERRER) {
        ngx_oci_signed_get(s, step, "manifests", &name,
                           NGX_OCI_SIGNED_MANIFEST, (size_t) ref->size);
        return;
    }

    ngx_oci_signed_get(s, step, "blobs", &name, NGX_OCI_SIGNED_BLOB,
                       (size_t) ref->size);
}


static void
ngx_oci_signed_get(ngx_oci_signed_t *s, ngx_uint_t step, const char *what,
    ngx_str_t *name, const char *accept, size_t max)
{
    s->step = step;

    if (ngx_oci_signed_fetch(s, what, name, accept, max) != NGX_OK) {
        ngx_oci_signed_memory(s);
    }
}


/* NGX_ERROR: no memory */

static ngx_int_t
ngx_oci_signed_add(ngx_oci_signed_t *s, ngx_str_t *text, ngx_str_t *signature)
{
    ngx_int_t  rc;

    rc = ngx_oci_evidence_add(&s->evidence, text, signature);

    if (rc == NGX_OK) {
        s->added = 1;
    }

    return (rc == NGX_ERROR) ? NGX_ERROR : NGX_OK;
}


/* a signature that isn't there, or is no good as it is, is none */

static void
ngx_oci_signed_missed(ngx_oci_signed_t *s, ngx_uint_t status)
{
    if (status != NGX_HTTP_NOT_FOUND
        && status != NGX_HTTP_REQUEST_ENTITY_TOO_LARGE)
    {
        s->failed = 1;
    }
}


static void
ngx_oci_signed_memory(ngx_oci_signed_t *s)
{
    ngx_oci_signed_end(s, NGX_ERROR, "no memory");
}
