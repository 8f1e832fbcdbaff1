
/*
 * Copyright (C) The nginx-oci authors
 *
 * Where signatures of a digest are, and all of them in one text that can be
 * kept: the evidence.  Pure: needs libc, jansson and OpenSSL only.
 */


#ifndef _NGX_OCI_EVIDENCE_H_INCLUDED_
#define _NGX_OCI_EVIDENCE_H_INCLUDED_


#include "ngx_oci_signature.h"


#define NGX_OCI_EVIDENCE_REFS     16        /* signatures of each kind */
#define NGX_OCI_EVIDENCE_MAX      1048576   /* bytes of the kept text */
#define NGX_OCI_EVIDENCE_PAYLOAD  65536     /* bytes of what is signed */
#define NGX_OCI_EVIDENCE_TAG      (NGX_OCI_TAG_MAX + 1)


/* an object to fetch: a payload, a bundle's manifest, a bundle */

typedef struct {
    ngx_oci_digest_t            digest;
    off_t                       size;
    size_t                      signature_len;
    u_char                      signature[NGX_OCI_SIGNATURE_BASE64];
} ngx_oci_evidence_ref_t;


typedef struct {
    ngx_uint_t                  n;
    ngx_oci_evidence_ref_t      refs[NGX_OCI_EVIDENCE_REFS];
} ngx_oci_evidence_refs_t;


/* owner of root: ngx_oci_evidence_free() */

typedef struct {
    json_t                     *root;
    size_t                      size;       /* of the text, about */
} ngx_oci_evidence_t;


/*
 * The tags where cosign puts signatures ("sha256-<hex>.sig"), and where
 * referrers are without that API ("sha256-<hex>"), in
 * tag[NGX_OCI_EVIDENCE_TAG].  The length; 0: there is no such tag.
 */
size_t ngx_oci_evidence_sig_tag(ngx_oci_digest_t *subject, u_char *tag);
size_t ngx_oci_evidence_referrers_tag(ngx_oci_digest_t *subject,
    u_char *tag);

/*
 * What is named by the manifest under cosign's tag; by a list of referrers;
 * by a referrer's manifest, which is one bundle of the subject.  The last
 * ones where there are too many: new signatures are appended.  NGX_OK;
 * NGX_DECLINED: *why; NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_evidence_signatures(ngx_str_t *manifest,
    ngx_oci_evidence_refs_t *refs, const char **why);
ngx_int_t ngx_oci_evidence_referrers(ngx_str_t *index,
    ngx_oci_evidence_refs_t *refs, const char **why);
ngx_int_t ngx_oci_evidence_bundle(ngx_str_t *manifest, ngx_str_t *subject,
    ngx_oci_evidence_refs_t *refs, const char **why);

/*
 * The evidence.  init() and add(): NGX_OK or NGX_ERROR (no memory); add() of
 * what has no room any more, or is no signature, NGX_DECLINED.  signature: of
 * simple signing, else NULL: a bundle.  print(): to be freed with free(),
 * NULL: no memory.
 */
ngx_int_t ngx_oci_evidence_init(ngx_oci_evidence_t *evidence,
    ngx_str_t *subject);
ngx_int_t ngx_oci_evidence_add(ngx_oci_evidence_t *evidence,
    ngx_str_t *payload, ngx_str_t *signature);
/* adds what is in older evidence of the same subject, where there is room:
   other keys may need it.  NGX_OK or NGX_ERROR (no memory) */
ngx_int_t ngx_oci_evidence_merge(ngx_oci_evidence_t *evidence,
    ngx_oci_evidence_t *older);
char *ngx_oci_evidence_print(ngx_oci_evidence_t *evidence);
void ngx_oci_evidence_free(ngx_oci_evidence_t *evidence);

/*
 * Reads such a text again.  NGX_OK; NGX_DECLINED: it is none of this subject;
 * NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_evidence_parse(ngx_oci_evidence_t *evidence,
    ngx_str_t *text, ngx_str_t *subject);

/*
 * As ngx_oci_signature_bundle(), of all signatures that there are: one that
 * is good is enough.  s->why is then of the last one.
 */
ngx_int_t ngx_oci_evidence_judge(ngx_oci_evidence_t *evidence,
    ngx_oci_signature_t *s);


#endif /* _NGX_OCI_EVIDENCE_H_INCLUDED_ */
