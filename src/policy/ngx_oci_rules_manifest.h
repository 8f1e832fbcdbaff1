
/*
 * Copyright (C) The nginx-oci authors
 *
 * A manifest, judged by its project's rules.  Pure: needs libc and jansson
 * only.
 */


#ifndef _NGX_OCI_RULES_MANIFEST_H_INCLUDED_
#define _NGX_OCI_RULES_MANIFEST_H_INCLUDED_


#include "ngx_oci_rules.h"


#define NGX_OCI_RULES_NAMED     8192   /* digests that it names */
#define NGX_OCI_RULES_WHY       320     /* bytes */
#define NGX_OCI_RULES_N         5       /* rules, by their bits */


/* what a manifest names */

typedef struct {
    ngx_oci_digest_t          digest;
    ngx_uint_t                weight;   /* it is said to be a model's weights,
                                           by a name or a media type */
} ngx_oci_rules_named_t;


/* Owner: who asked; ngx_oci_rules_verdict_free() */

typedef struct {
    ngx_uint_t                broken;   /* NGX_OCI_RULE_...: what it doesn't
                                           keep, also what is only logged */
    ngx_uint_t                index;
    ngx_uint_t                signature;    /* it is one, or a list of them:
                                           it needs none itself */
    ngx_oci_rules_named_t    *named;
    ngx_uint_t                nnamed;
    char                      why[NGX_OCI_RULES_N][NGX_OCI_RULES_WHY];
} ngx_oci_rules_verdict_t;


/*
 * By all rules but those of signatures and tags.  media_type: as the registry
 * says.  NGX_OK: verdict is filled; NGX_ERROR: no memory.
 */
ngx_int_t ngx_oci_rules_manifest(ngx_oci_rules_t *rules,
    ngx_str_t *media_type, u_char *body, size_t size,
    ngx_oci_rules_verdict_t *verdict);
void ngx_oci_rules_verdict_free(ngx_oci_rules_verdict_t *verdict);

/* the place of a rule in why[] */
ngx_uint_t ngx_oci_rules_place(ngx_uint_t rule);

/*
 * What a file's name, and a media type, say of its format: bits, 0: nothing.
 * *weight is set where it is said to be weights.
 */
ngx_uint_t ngx_oci_format_of_name(const char *name, ngx_uint_t *weight);
ngx_uint_t ngx_oci_format_of_type(const char *type, ngx_uint_t *weight);


#endif /* _NGX_OCI_RULES_MANIFEST_H_INCLUDED_ */
