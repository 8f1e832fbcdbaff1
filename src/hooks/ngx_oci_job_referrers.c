
/*
 * Copyright (C) The nginx-oci authors
 *
 * Signatures, SBOMs and the like of what is preheated: by the referrers API,
 * where there is none of it by the tag that stands for it, and by cosign's
 * tags (distribution-spec, "Listing Referrers").  One level: nothing refers to
 * a referrer.  There need not be any.
 */


#include "ngx_oci_job_run.h"


#define NGX_OCI_JOB_SUBJECTS   256      /* each costs some requests */
#define NGX_OCI_JOB_REFERRERS  64       /* of a list */


static size_t ngx_oci_job_referrers_tag(ngx_str_t *digest, u_char *tag);
static ngx_int_t ngx_oci_job_referrers_tagged(ngx_oci_job_run_t *run,
    ngx_str_t *digest, const char *suffix);
static ngx_uint_t ngx_oci_job_referrers_none(ngx_uint_t status);


ngx_int_t
ngx_oci_job_referrers(ngx_oci_job_run_t *run, ngx_str_t *digest)
{
    ngx_int_t         rc;
    ngx_str_t         name;
    ngx_oci_digest_t  parsed;

    name = *digest;

    if (!run->conf->referrers || run->subjects == NGX_OCI_JOB_SUBJECTS
        || ngx_oci_digest_parse(&parsed, name.data, name.len) != NGX_OK)
    {
        return NGX_OK;
    }

    run->subjects++;

    rc = ngx_oci_job_piece_push(run, NGX_OCI_JOB_LIST,
                                NGX_OCI_PIECE_MANIFEST, &name, 0);

    if (rc == NGX_OK) {
        rc = ngx_oci_job_referrers_tagged(run, &name, ".sig");
    }

    if (rc == NGX_OK) {
        rc = ngx_oci_job_referrers_tagged(run, &name, ".att");
    }

    if (rc == NGX_OK) {
        rc = ngx_oci_job_referrers_tagged(run, &name, ".sbom");
    }

    return (rc == NGX_BUSY) ? NGX_OK : rc;
}


/* as in the digest: the tag has 64 digits of it at most */

static size_t
ngx_oci_job_referrers_tag(ngx_str_t *digest, u_char *tag)
{
    size_t  len;

    len = ngx_min(digest->len, sizeof("sha256:") - 1 + 64);

    ngx_memcpy(tag, digest->data, len);
    tag[sizeof("sha256") - 1] = '-';

    return len;
}


static ngx_int_t
ngx_oci_job_referrers_tagged(ngx_oci_job_run_t *run, ngx_str_t *digest,
    const char *suffix)
{
    u_char     tag[NGX_OCI_DIGEST_LEN + sizeof(".sbom")];
    ngx_str_t  name;

    name.data = tag;
    name.len = ngx_oci_job_referrers_tag(digest, tag);
    name.len = ngx_cpymem(tag + name.len, suffix, ngx_strlen(suffix)) - tag;

    return ngx_oci_job_piece_push(run, NGX_OCI_JOB_TAGGED,
                                  NGX_OCI_PIECE_MANIFEST, &name, 0);
}


ngx_int_t
ngx_oci_job_unreferred(ngx_oci_job_run_t *run, ngx_uint_t i,
    ngx_uint_t status)
{
    ngx_int_t             rc;
    ngx_oci_job_piece_t  *piece;

    piece = run->pieces.elts;
    piece += i;

    if (piece->role == NGX_OCI_JOB_PART
        || !ngx_oci_job_referrers_none(status))
    {
        return NGX_DECLINED;
    }

    rc = NGX_OK;

    if (piece->role == NGX_OCI_JOB_LIST) {
        rc = ngx_oci_job_referrers_tagged(run, &piece->reference, "");
    }

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    piece = run->pieces.elts;
    piece[i].missing = 1;

    return NGX_OK;
}


/* of the ways to say so registries know many, such as the way to their web
   site; 401 says that it does not know who asks */

static ngx_uint_t
ngx_oci_job_referrers_none(ngx_uint_t status)
{
    switch (status) {

    case NGX_HTTP_UNAUTHORIZED:
    case NGX_HTTP_REQUEST_TIME_OUT:
    case NGX_HTTP_MISDIRECTED_REQUEST:
    case NGX_HTTP_TOO_MANY_REQUESTS:
        return 0;

    case NGX_HTTP_NOT_IMPLEMENTED:
        return 1;

    default:
        return status >= NGX_HTTP_SPECIAL_RESPONSE
               && status < NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
}


ngx_int_t
ngx_oci_job_referred(ngx_oci_job_run_t *run, ngx_uint_t i,
    ngx_oci_job_parse_t *parse)
{
    uint64_t              room;
    ngx_int_t             rc;
    ngx_uint_t            n, role, manifests;
    ngx_oci_job_piece_t  *piece;

    piece = run->pieces.elts;
    role = piece[i].role;
    manifests = 0;
    room = ngx_oci_job_room();

    for (n = 0; n < parse->n; n++) {

        if (parse->found[n].kind == NGX_OCI_PIECE_MANIFEST
            && (role == NGX_OCI_JOB_REFERRER
                || manifests++ == NGX_OCI_JOB_REFERRERS))
        {
            break;
        }

        /* nothing that others attach to it keeps it from getting warm */

        if (run->info.bytes > room
            || (uint64_t) parse->found[n].size > room - run->info.bytes)
        {
            continue;
        }

        rc = ngx_oci_job_piece(run, NGX_OCI_JOB_REFERRER, &parse->found[n]);

        if (rc == NGX_BUSY) {
            break;
        }

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}
