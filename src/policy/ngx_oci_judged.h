
/*
 * Copyright (C) The nginx-oci authors
 *
 * What is remembered of artifacts, for all workers: verdicts on manifests,
 * which manifests of a repository name a blob, and of which formats it is.
 */


#ifndef _NGX_OCI_JUDGED_H_INCLUDED_
#define _NGX_OCI_JUDGED_H_INCLUDED_


#include "ngx_oci_policy.h"
#include "ngx_oci_rules_manifest.h"


#define NGX_OCI_JUDGED_NAMERS   4       /* manifests known of a blob */
#define NGX_OCI_JUDGED_WHY      216

/* what was found */
#define NGX_OCI_JUDGED_GOOD     1
#define NGX_OCI_JUDGED_DRY      2       /* good, but for what is only logged */
#define NGX_OCI_JUDGED_BAD      3


/* by whom something is named: one that may not be sent; one that may; a
   signature, which may without being signed itself; one that somebody has
   looked at */
#define NGX_OCI_NAMED_BAD       0
#define NGX_OCI_NAMED_GOOD      1
#define NGX_OCI_NAMED_SIGNATURE 2
#define NGX_OCI_NAMED_EXEMPT    3


/* a digest in a repository, and by which rules */

typedef struct {
    ngx_oci_registry_t       *registry;
    ngx_str_t                *repository;
    ngx_oci_digest_t         *digest;
    u_char                   *rules;    /* their id */
} ngx_oci_judged_place_t;


typedef struct {
    ngx_uint_t                found;    /* NGX_OCI_JUDGED_...; 0: nothing */
    ngx_uint_t                was;      /* likewise, before it expired */
    ngx_uint_t                rule;     /* NGX_OCI_RULE_...: which one was
                                           broken */
    time_t                    valid;    /* s; 0: as long as there is room */
    char                      why[NGX_OCI_JUDGED_WHY];
} ngx_oci_judged_verdict_t;


typedef struct {
    u_char                    digest[NGX_OCI_DIGEST_BYTES];
    uint16_t                  alg;
    uint16_t                  size;
    uint32_t                  rules;    /* bytes of the id of those by which it
                                           was judged */
    uint32_t                  good;     /* NGX_OCI_NAMED_... */
} ngx_oci_judged_namer_t;


typedef struct {
    uint32_t                  formats;  /* NGX_OCI_FORMAT_... */
    uint32_t                  looked;   /* these are known */
    uint32_t                  weight;   /* a manifest says that it is */
    uint32_t                  many;     /* more that may be served name it
                                           than are known here */
    uint32_t                  n;
    ngx_oci_judged_namer_t    namers[NGX_OCI_JUDGED_NAMERS];
} ngx_oci_judged_blob_t;


/* adds the zone of a policy whose own zone is known */
ngx_int_t ngx_oci_judged_conf(ngx_conf_t *cf, ngx_oci_policy_conf_t *pcf);

void ngx_oci_judged_find(ngx_oci_policy_conf_t *pcf,
    ngx_oci_judged_place_t *place, ngx_oci_judged_verdict_t *verdict);
void ngx_oci_judged_put(ngx_oci_policy_conf_t *pcf,
    ngx_oci_judged_place_t *place, ngx_oci_judged_verdict_t *verdict);

/* the manifest at place, which is good (NGX_OCI_NAMED_...), names these */
void ngx_oci_judged_names(ngx_oci_policy_conf_t *pcf,
    ngx_oci_judged_place_t *place, ngx_oci_rules_named_t *named,
    ngx_uint_t n, ngx_uint_t good);

/* NGX_OK; NGX_DECLINED: nothing is known, *blob is zeroed */
ngx_int_t ngx_oci_judged_blob(ngx_oci_policy_conf_t *pcf,
    ngx_oci_judged_place_t *place, ngx_oci_judged_blob_t *blob);
void ngx_oci_judged_looked(ngx_oci_policy_conf_t *pcf,
    ngx_oci_judged_place_t *place, ngx_uint_t formats);


#endif /* _NGX_OCI_JUDGED_H_INCLUDED_ */
