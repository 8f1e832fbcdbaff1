
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the files that compile a policy document share.
 */


#ifndef _NGX_OCI_POLICY_DOC_H_INCLUDED_
#define _NGX_OCI_POLICY_DOC_H_INCLUDED_


#include "ngx_oci_phc.h"
#include "ngx_oci_rbac.h"
#include "ngx_oci_route.h"

#include <jansson.h>


#define NGX_OCI_DOC_MAX     0x40000000  /* bytes, compiled */
#define NGX_OCI_DOC_NAME    64          /* of a name are quoted in errors */


/* Owner: ngx_oci_policy_compile() */

typedef struct {
    u_char                   *data;     /* becomes the document */
    size_t                    len;
    size_t                    size;
    uint32_t                 *rules;    /* places */
    size_t                    nrules;
    size_t                    rules_size;
    uint32_t                  principals;   /* given out, from 1 */
    json_t                   *root;
    json_t                   *groups;   /* name: principal */
    json_t                   *roles;    /* of the document, or NULL */
    json_t                   *params;   /* of secrets: how many have them */
    ngx_oci_policy_error_t   *error;
} ngx_oci_doc_t;


#define ngx_oci_doc_head(doc)  ((ngx_oci_rbac_t *) (doc)->data)
#define ngx_oci_doc_at(doc, type, place)  ((type *) ((doc)->data + (place)))


/* a group's principal; 0: no memory */
uint32_t ngx_oci_doc_group(ngx_oci_doc_t *doc, const char *name);

/* an object that has no other members than these; NGX_ERROR: said */
ngx_int_t ngx_oci_doc_keys(ngx_oci_doc_t *doc, json_t *value,
    const char *place, const char *name, const char **keys);

/* NULL, or what is wrong with a name */
const char *ngx_oci_doc_name(const char *name);

/* a place of zeroed bytes; 0: no memory */
uint32_t ngx_oci_doc_alloc(ngx_oci_doc_t *doc, size_t size);

/* that of a text: right behind the text before, if that was the last */
uint32_t ngx_oci_doc_text(ngx_oci_doc_t *doc, const char *text, size_t len);

/* of a table with a place for each of n */
uint32_t ngx_oci_doc_mask(size_t n);

/* a number, or a time of RFC 3339 without fractions; NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_doc_time(json_t *value, int64_t *t);

/* NGX_ERROR */
ngx_int_t ngx_oci_doc_error(ngx_oci_doc_t *doc, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));
ngx_int_t ngx_oci_doc_memory(ngx_oci_doc_t *doc);

/* ngx_oci_policy_grants.c: the subjects are there */
ngx_int_t ngx_oci_doc_rules(ngx_oci_doc_t *doc, json_t *grants,
    json_t *projects);

/* ngx_oci_policy_duties.c: the rules are there */
ngx_int_t ngx_oci_doc_duties(ngx_oci_doc_t *doc);

/* ngx_oci_policy_rules.c: the projects' names are good */
ngx_int_t ngx_oci_doc_artifacts(ngx_oci_doc_t *doc, json_t *projects,
    json_t *quarantine);

/*
 * As ngx_oci_policy_compile(); *json is the caller's, for json_decref(), also
 * where nothing was compiled.  Of a large document that takes a third as long
 * as the rest, and can wait until the document is in force.
 */
ngx_oci_rbac_t *ngx_oci_policy_compile_json(const char *text, size_t len,
    json_t **json, ngx_oci_policy_error_t *error);


#endif /* _NGX_OCI_POLICY_DOC_H_INCLUDED_ */
