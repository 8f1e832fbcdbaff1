
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a compiled policy document says of artifacts: quarantined digests, and
 * the rules of projects.  Pure: needs libc and OpenSSL only.
 */


#ifndef _NGX_OCI_RULES_H_INCLUDED_
#define _NGX_OCI_RULES_H_INCLUDED_


#include "ngx_oci_format.h"
#include "ngx_oci_rbac.h"
#include "ngx_oci_route.h"


#define NGX_OCI_RULES_MAX         65536     /* bytes of a project's rules */
#define NGX_OCI_RULES_ID          16
#define NGX_OCI_RULES_TEXT        255       /* bytes of a pattern, reason */
#define NGX_OCI_RULES_LIST        64        /* patterns in a list */
#define NGX_OCI_RULES_KEYS        16

#define NGX_OCI_RULE_MEDIA        0x01
#define NGX_OCI_RULE_ARTIFACT     0x02
#define NGX_OCI_RULE_FORMAT       0x04
#define NGX_OCI_RULE_SIGNATURE    0x08
#define NGX_OCI_RULE_IMMUTABLE    0x10

/* a manifest is judged by these */
#define NGX_OCI_RULES_MANIFEST    (NGX_OCI_RULE_MEDIA|NGX_OCI_RULE_ARTIFACT   \
                                   |NGX_OCI_RULE_FORMAT                       \
                                   |NGX_OCI_RULE_SIGNATURE)


/*
 * A list of byte strings: n times a length of two bytes, the higher one
 * first, and that many bytes.  place: from the beginning of the rules.
 */

typedef struct {
    uint32_t    place;
    uint32_t    n;
} ngx_oci_rules_list_t;


/*
 * A project's rules: one piece of memory of its own within the document,
 * which may be copied out of it (NGX_OCI_RULES_MAX bytes at most).
 */

typedef struct {
    uint32_t              size;         /* of all */
    u_char                id[NGX_OCI_RULES_ID]; /* a hash of all: verdicts
                                           are remembered by it */
    uint32_t              rules;        /* NGX_OCI_RULE_...: that there are */
    uint32_t              dry_run;      /* and that are only logged */
    uint32_t              allow;        /* NGX_OCI_FORMAT_...; 0: all that
                                           aren't refused */
    uint32_t              refuse;
    uint32_t              opaque;       /* 1: what can't be looked into is
                                           allowed */
    ngx_oci_rules_list_t  media_allow;      /* patterns: "*" is any text */
    ngx_oci_rules_list_t  media_refuse;
    ngx_oci_rules_list_t  artifact_allow;
    ngx_oci_rules_list_t  artifact_refuse;
    ngx_oci_rules_list_t  immutable;        /* patterns of tags, as above */
    ngx_oci_rules_list_t  exempt;           /* patterns of repositories */
    ngx_oci_rules_list_t  exempt_digests;   /* texts of manifests' digests */
    ngx_oci_rules_list_t  keys;             /* DER, SubjectPublicKeyInfo, each
                                               one ECDSA on P-256, RSA of 2048
                                               to 8192 bits, or Ed25519 */
} ngx_oci_rules_t;


/* of a document */

typedef struct {
    uint32_t    next;               /* of the same hash value's place */
    uint32_t    name;
    uint32_t    name_len;
    uint32_t    rules;              /* a place; 0: none */
} ngx_oci_rules_project_t;


typedef struct {
    uint32_t    next;
    uint32_t    reason;
    uint32_t    reason_len;
    uint32_t    alg;                /* ngx_oci_digest_alg_e */
    int64_t     since;              /* seconds since the epoch; 0: not said */
    u_char      digest[NGX_OCI_DIGEST_BYTES];
} ngx_oci_rules_quarantine_t;


/* NULL: it is not in quarantine */
ngx_oci_rules_quarantine_t *ngx_oci_rules_quarantined(ngx_oci_rbac_t *doc,
    ngx_oci_digest_t *digest);

/* of the project of a repository; NULL: it has none */
ngx_oci_rules_t *ngx_oci_rules_find(ngx_oci_rbac_t *doc,
    ngx_str_t *repository);

/* an element of a list; NGX_DECLINED: there is none */
ngx_int_t ngx_oci_rules_element(ngx_oci_rules_t *rules,
    ngx_oci_rules_list_t *list, ngx_uint_t i, ngx_str_t *text);

/* does any pattern of the list match?  repositories: as grants have them */
ngx_uint_t ngx_oci_rules_match(ngx_oci_rules_t *rules,
    ngx_oci_rules_list_t *list, ngx_str_t *text, ngx_uint_t nocase);
ngx_uint_t ngx_oci_rules_match_repository(ngx_oci_rules_t *rules,
    ngx_oci_rules_list_t *list, ngx_str_t *repository);

/* "*" stands for any text, "/" as well */
ngx_uint_t ngx_oci_rules_glob(ngx_str_t *pattern, ngx_str_t *text,
    ngx_uint_t nocase);


#endif /* _NGX_OCI_RULES_H_INCLUDED_ */
