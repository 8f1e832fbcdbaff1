
/*
 * Copyright (C) The nginx-oci authors
 *
 * Who a Basic header is of, as a worker has it for a moment: most requests of
 * a pull come with the same one, and ask for the same repository.
 *
 * It goes by the document's generation, which is compared under the mutex, as
 * a part of the decision: with another document nothing of it counts.  There
 * is no secret here, only a keyed hash of the header; the key is the zone's,
 * so that it is of one policy.
 */


#include "ngx_oci_policy.h"


#define NGX_OCI_KNOWN_SETS  32
#define NGX_OCI_KNOWN_WAYS  4
#define NGX_OCI_KNOWN_MAX   512     /* bytes of a header; others are rare */
#define NGX_OCI_KNOWN_MS    1000    /* then what all workers remember is asked,
                                       and learns that it is in use; */
#define NGX_OCI_KNOWN_PART  8       /* or after this part of "valid" */


struct ngx_oci_known_s {
    u_char      mac[NGX_OCI_POLICY_MAC];
    uint64_t    expires;        /* ngx_current_msec; 0: free */
    uint64_t    generation;     /* of the document, */
    uint32_t    subject;        /* its place in there */
    uint32_t    rule;           /* likewise, by which it may do the last thing
                                   that it did: */
    uint16_t    action;         /* 0: nothing yet */
    uint16_t    repository_len;
    uint16_t    name_len;
    u_char      text[NGX_OCI_RBAC_NAME_MAX + NGX_OCI_NAME_MAX];
                                /* the name, then the repository */
};


static ngx_oci_known_t *ngx_oci_known_set(u_char *mac);


/* of a worker, for as long as it lives */

static ngx_oci_known_t
    ngx_oci_known_entries[NGX_OCI_KNOWN_SETS * NGX_OCI_KNOWN_WAYS];


/*
 * The header's length comes first, so that none is the beginning of another:
 * one hash that begins with the key will do.
 */

ngx_int_t
ngx_oci_known_mac(ngx_http_request_t *r, ngx_oci_policy_conf_t *pcf,
    u_char *mac)
{
    uint32_t          len;
    SHA256_CTX        sha;
    ngx_table_elt_t  *h;

    h = r->headers_in.authorization;

    if (h == NULL || h->value.len > NGX_OCI_KNOWN_MAX || pcf->valid == 0) {
        return NGX_DECLINED;
    }

    len = (uint32_t) h->value.len;
    sha = pcf->inner;

    (void) SHA256_Update(&sha, &len, sizeof(len));
    (void) SHA256_Update(&sha, h->value.data, h->value.len);
    (void) SHA256_Final(mac, &sha);

    return NGX_OK;
}


ngx_int_t
ngx_oci_known_find(ngx_http_request_t *r, u_char *mac,
    ngx_oci_caller_t *caller)
{
    ngx_uint_t        i;
    ngx_oci_known_t  *e;

    e = ngx_oci_known_set(mac);

    for (i = 0; i < NGX_OCI_KNOWN_WAYS; i++) {

        if (e[i].expires > ngx_current_msec
            && ngx_memcmp(e[i].mac, mac, NGX_OCI_POLICY_MAC) == 0)
        {
            break;
        }
    }

    if (i == NGX_OCI_KNOWN_WAYS) {
        return NGX_DECLINED;
    }

    /* the request may last longer than this place is of that caller */

    caller->subject.data = ngx_pnalloc(r->pool, e[i].name_len);
    if (caller->subject.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(caller->subject.data, e[i].text, e[i].name_len);
    caller->subject.len = e[i].name_len;
    caller->how = NGX_OCI_CALLER_BASIC;
    caller->known = &e[i];

    return NGX_OK;
}


void
ngx_oci_known_keep(ngx_oci_policy_ctx_t *ctx, u_char *mac,
    ngx_oci_caller_t *caller)
{
    ngx_uint_t        i;
    ngx_oci_known_t  *e, *old;

    if (ctx->place == 0 || caller->subject.len > NGX_OCI_RBAC_NAME_MAX) {
        return;
    }

    e = ngx_oci_known_set(mac);
    old = e;

    for (i = 0; i < NGX_OCI_KNOWN_WAYS; i++) {

        if (ngx_memcmp(e[i].mac, mac, NGX_OCI_POLICY_MAC) == 0) {
            old = &e[i];
            break;
        }

        if (e[i].expires < old->expires) {
            old = &e[i];
        }
    }

    ngx_memcpy(old->mac, mac, NGX_OCI_POLICY_MAC);
    old->expires = ngx_current_msec
                   + ngx_min(NGX_OCI_KNOWN_MS,
                             (uint64_t) ctx->policy->valid * 1000
                             / NGX_OCI_KNOWN_PART);
    old->generation = ctx->generation;
    old->subject = ctx->place;
    old->action = 0;
    old->name_len = (uint16_t) caller->subject.len;
    ngx_memcpy(old->text, caller->subject.data, caller->subject.len);

    caller->known = old;
}


ngx_int_t
ngx_oci_known_subject(ngx_oci_known_t *known, ngx_oci_policy_conf_t *pcf,
    ngx_oci_rbac_subject_t **subject)
{
    if (known->generation != pcf->sh->generation) {
        known->expires = 0;
        return NGX_DECLINED;
    }

    *subject = (ngx_oci_rbac_subject_t *)
                   ngx_oci_rbac_at(ngx_oci_policy_doc(pcf), known->subject);

    return NGX_OK;
}


ngx_oci_rbac_rule_t *
ngx_oci_known_rule(ngx_oci_known_t *known, ngx_oci_rbac_t *doc,
    ngx_str_t *repository, ngx_uint_t action)
{
    if (known->action != action || known->repository_len != repository->len
        || ngx_memcmp(known->text + known->name_len, repository->data,
                      repository->len)
           != 0)
    {
        return NULL;
    }

    return (ngx_oci_rbac_rule_t *) ngx_oci_rbac_at(doc, known->rule);
}


void
ngx_oci_known_allowed(ngx_oci_known_t *known, ngx_oci_rbac_t *doc,
    ngx_str_t *repository, ngx_uint_t action, ngx_oci_rbac_rule_t *rule)
{
    if (repository->len > NGX_OCI_NAME_MAX) {
        return;
    }

    known->rule = (uint32_t) ((u_char *) rule - (u_char *) doc);
    known->action = (uint16_t) action;
    known->repository_len = (uint16_t) repository->len;
    ngx_memcpy(known->text + known->name_len, repository->data,
               repository->len);
}


static ngx_oci_known_t *
ngx_oci_known_set(u_char *mac)
{
    return &ngx_oci_known_entries[(mac[0] & (NGX_OCI_KNOWN_SETS - 1))
                                  * NGX_OCI_KNOWN_WAYS];
}
