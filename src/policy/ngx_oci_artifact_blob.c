
/*
 * Copyright (C) The nginx-oci authors
 *
 * Blobs, judged by the manifests that name them and by a look at their bytes,
 * before the first one is sent.
 */


#include "ngx_oci_artifact.h"


static ngx_int_t ngx_oci_artifact_blob_begin(ngx_oci_artifact_t *a);
static ngx_uint_t ngx_oci_artifact_namers(ngx_oci_artifact_t *a,
    ngx_oci_judged_blob_t *blob);
static ngx_uint_t ngx_oci_artifact_exempt(ngx_oci_artifact_t *a,
    ngx_oci_judged_blob_t *blob);
static ngx_int_t ngx_oci_artifact_formats(ngx_oci_artifact_t *a,
    ngx_uint_t bits);


ngx_int_t
ngx_oci_artifact_blob(ngx_oci_judge_t *j)
{
    ngx_int_t                rc;
    ngx_oci_artifact_t      *a;
    ngx_oci_judged_place_t   place;

    a = j->state ? j->state : ngx_oci_artifact_create(j);

    if (a == NULL || a->ctx == NULL) {
        return NGX_ERROR;
    }

    if (a->step == NGX_OCI_ARTIFACT_BEGIN) {
        rc = ngx_oci_artifact_blob_begin(a);

        if (rc != NGX_AGAIN) {
            return rc;
        }

        a->step = NGX_OCI_ARTIFACT_LOOK;
        ngx_oci_look_init(&a->look, (uint64_t) j->blob_size);

    } else if (j->body) {

        /* those that were wanted */

        if (ngx_oci_look(&a->look, j->body) == NGX_OK) {

            if (j->verified) {
                ngx_oci_artifact_place(a, &place);
                ngx_oci_judged_looked(a->policy, &place, a->look.bits);
            }

            return ngx_oci_artifact_formats(a, a->look.bits);
        }
    }

    j->body = NULL;
    j->start = (off_t) a->look.start;
    j->end = (off_t) a->look.end;

    return NGX_BUSY;
}


/* NGX_AGAIN: its bytes have to be looked at; else as above */

static ngx_int_t
ngx_oci_artifact_blob_begin(ngx_oci_artifact_t *a)
{
    ngx_int_t                 rc;
    ngx_oci_judged_blob_t     blob;
    ngx_oci_judged_place_t    place;
    ngx_oci_judged_verdict_t  v;

    rc = ngx_oci_artifact_begin(a);

    if (rc != NGX_OK) {
        return rc;
    }

    if (a->rules == NULL || !a->ctx->judged
        || !(a->rules->rules & NGX_OCI_RULES_MANIFEST))
    {
        return NGX_OK;
    }

    ngx_oci_artifact_place(a, &place);

    /* registries have manifests among their blobs */

    ngx_oci_judged_find(a->policy, &place, &v);

    if (v.found == NGX_OCI_JUDGED_BAD) {
        return ngx_oci_artifact_refuse(a, v.rule, v.why);
    }

    (void) ngx_oci_judged_blob(a->policy, &place, &blob);

    if (ngx_oci_artifact_namers(a, &blob)) {
        return ngx_oci_artifact_refuse(a, 0,
                                       "every manifest that names it is "
                                       "refused");
    }

    if (!(a->rules->rules & NGX_OCI_RULE_FORMAT)
        || ngx_oci_artifact_exempt(a, &blob))
    {
        return NGX_OK;
    }

    a->weight = blob.weight;

    if (a->judge->blob_size == 0) {
        return NGX_OK;
    }

    if (blob.looked) {
        return ngx_oci_artifact_formats(a, blob.formats);
    }

    return NGX_AGAIN;
}


/* is every manifest that is known to name it refused? */

static ngx_uint_t
ngx_oci_artifact_namers(ngx_oci_artifact_t *a, ngx_oci_judged_blob_t *blob)
{
    uint32_t                 rules;
    ngx_uint_t               i, bad;
    ngx_oci_rbac_t          *doc;
    ngx_oci_digest_t         digest;
    ngx_oci_judged_namer_t  *namer;

    if (blob->n == 0 || blob->many) {
        return 0;
    }

    ngx_memcpy(&rules, a->rules->id, sizeof(uint32_t));
    ngx_memzero(&digest, sizeof(ngx_oci_digest_t));

    bad = 0;

    ngx_shmtx_lock(&a->policy->shpool->mutex);

    doc = ngx_oci_policy_doc(a->policy);

    for (i = 0; doc && i < blob->n; i++) {

        namer = &blob->namers[i];

        if (!namer->good && namer->rules == rules) {
            bad++;
            continue;
        }

        digest.alg = namer->alg;
        digest.size = namer->size;
        ngx_memcpy(digest.bytes, namer->digest, digest.size);

        bad += (ngx_oci_rules_quarantined(doc, &digest) != NULL);
    }

    ngx_shmtx_unlock(&a->policy->shpool->mutex);

    return bad == blob->n;
}


/* does a manifest name it that somebody has looked at? */

static ngx_uint_t
ngx_oci_artifact_exempt(ngx_oci_artifact_t *a, ngx_oci_judged_blob_t *blob)
{
    uint32_t    rules;
    ngx_uint_t  i;

    ngx_memcpy(&rules, a->rules->id, sizeof(uint32_t));

    for (i = 0; i < blob->n; i++) {
        if (blob->namers[i].good == NGX_OCI_NAMED_EXEMPT
            && blob->namers[i].rules == rules)
        {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_oci_artifact_formats(ngx_oci_artifact_t *a, ngx_uint_t bits)
{
    u_char       why[NGX_OCI_JUDGED_WHY];
    ngx_uint_t   bad;

    /* weights are something that is known, or nobody knows what they are */

    if (bits == 0 && a->weight) {
        bits = NGX_OCI_FORMAT_UNKNOWN;
    }

    bad = ngx_oci_format_refused(bits, a->rules->allow, a->rules->refuse,
                                 a->rules->opaque);

    if (bad == 0) {
        return NGX_OK;
    }

    if (bad == NGX_OCI_FORMAT_UNKNOWN) {
        *ngx_snprintf(why, sizeof(why) - 1,
                      "the blob can't be looked into") = '\0';

    } else {
        *ngx_snprintf(why, sizeof(why) - 1,
                      "the blob is %s, which is not allowed",
                      ngx_oci_format_name(bad)) = '\0';
    }

    if (a->rules->dry_run & NGX_OCI_RULE_FORMAT) {
        ngx_oci_artifact_dry(a, NGX_OCI_RULE_FORMAT, (char *) why);
        return NGX_OK;
    }

    return ngx_oci_artifact_refuse(a, NGX_OCI_RULE_FORMAT, (char *) why);
}
