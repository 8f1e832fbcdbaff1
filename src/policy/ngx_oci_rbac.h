
/*
 * Copyright (C) The nginx-oci authors
 *
 * May they: a compiled policy document, and decisions by it.  Pure: needs
 * libc only.
 *
 * The document is one piece of memory without pointers, so that it may stand
 * anywhere, such as in shared memory: places in it are offsets from its
 * beginning.  It is never changed.  A decision costs the same for any number
 * of subjects, grants and projects; it grows with the groups of the subject,
 * and with the patterns that grants of these have for one first component.
 */


#ifndef _NGX_OCI_RBAC_H_INCLUDED_
#define _NGX_OCI_RBAC_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_OCI_PULL            0x01
#define NGX_OCI_PUSH            0x02
#define NGX_OCI_DELETE          0x04
#define NGX_OCI_PREHEAT         0x08
#define NGX_OCI_PURGE           0x10
#define NGX_OCI_STATUS          0x20
#define NGX_OCI_CATALOG         0x40    /* of systemAdmin only */
#define NGX_OCI_LOGIN           0x80    /* of every subject; no right */

#define NGX_OCI_RBAC_NAME_MAX   255     /* bytes of a subject, group, role,
                                           grant */
#define NGX_OCI_RBAC_GROUPS     64      /* of one subject */

#define NGX_OCI_RBAC_ANYONE     0       /* the principal of public projects */

#define NGX_OCI_RBAC_DUTIES     3       /* preheat, purge and status */


/* places are offsets; 0: none */

typedef struct {
    uint32_t    next;               /* of the same hash value's place */
    uint32_t    name;
    uint32_t    secret;             /* a PHC string, or none */
    uint32_t    groups;             /* uint32_t principals */
    int64_t     not_before;         /* seconds since the epoch */
    uint32_t    principal;
    uint16_t    name_len;
    uint16_t    secret_len;
    uint16_t    ngroups;
    uint16_t    disabled;
} ngx_oci_rbac_subject_t;


typedef struct {
    uint32_t    next;               /* of the same hash value's place */
    uint32_t    principal;
    uint32_t    pattern;
    uint32_t    name;               /* of the rule, for the logs */
    uint16_t    pattern_len;
    uint16_t    name_len;
    uint16_t    key_len;            /* of the pattern: what is hashed; 0: a
                                       pattern of any first component */
    uint16_t    actions;
} ngx_oci_rbac_rule_t;


/* a principal with a right to look after the edge, somewhere */

typedef struct {
    uint32_t    next;               /* of the same hash value's place */
    uint32_t    principal;
    uint32_t    rule[NGX_OCI_RBAC_DUTIES];  /* by which it has each, the first
                                       one of the document, or none */
} ngx_oci_rbac_duty_t;


typedef struct {
    uint32_t    magic;
    uint32_t    size;               /* of all */
    uint32_t    nsubjects;
    uint32_t    nrules;
    uint32_t    subjects;           /* uint32_t places by hash of the name */
    uint32_t    subjects_mask;
    uint32_t    exact;              /* likewise of rules, by principal and
                                       repository */
    uint32_t    exact_mask;
    uint32_t    globs;              /* and by principal and first component */
    uint32_t    globs_mask;
    uint32_t    dummy;              /* a PHC string as most subjects have, */
    uint32_t    dummy_len;          /* of no secret */
    uint32_t    duties;             /* uint32_t places by principal */
    uint32_t    duties_mask;
    uint32_t    nprojects;          /* with rules, see ngx_oci_rules.h */
    uint32_t    projects;
    uint32_t    projects_mask;
    uint32_t    nquarantine;
    uint32_t    quarantine;         /* uint32_t places by hash of the digest */
    uint32_t    quarantine_mask;
} ngx_oci_rbac_t;


#define NGX_OCI_RBAC_MAGIC      0x4f435034      /* changes with the form */

#define ngx_oci_rbac_at(doc, place)  ((u_char *) (doc) + (place))


/*
 * The right that a request needs: the route (ngx_oci_route_e, of
 * ngx_oci_route.h) by the HTTP method's name.  catalog: the route is
 * NGX_OCI_ROUTE_OTHER, and the path is that of the catalog.  0: nobody has it.
 */
ngx_uint_t ngx_oci_rbac_action(ngx_uint_t route, ngx_str_t *method,
    ngx_uint_t catalog);

/* NULL: not known */
ngx_oci_rbac_subject_t *ngx_oci_rbac_subject(ngx_oci_rbac_t *doc,
    ngx_str_t *name);

/*
 * All rights that a subject (NULL: nobody, only what is public) has on a
 * repository.  *rule is set to one by which it has the right action, NULL:
 * it has not.  An empty repository: what concerns all of them.
 */
ngx_uint_t ngx_oci_rbac_rights(ngx_oci_rbac_t *doc,
    ngx_oci_rbac_subject_t *subject, ngx_str_t *repository,
    ngx_uint_t action, ngx_oci_rbac_rule_t **rule);

/*
 * The rule by which a subject has the right to preheat, to purge or to see the
 * status in any repository.  NULL: it has it in none.
 */
ngx_oci_rbac_rule_t *ngx_oci_rbac_anywhere(ngx_oci_rbac_t *doc,
    ngx_oci_rbac_subject_t *subject, ngx_uint_t action);
/* the place of such a right in ngx_oci_rbac_duty_t; NGX_OCI_RBAC_DUTIES: it is
   another one */
ngx_uint_t ngx_oci_rbac_duty(ngx_uint_t action);

/* a built-in role's rights; NGX_DECLINED: there is none of that name */
ngx_int_t ngx_oci_rbac_role(const char *name, ngx_uint_t *actions);

uint32_t ngx_oci_rbac_hash(uint32_t seed, const u_char *p, size_t len);


/* where the document is wrong: "$.grants.x.role: unknown role ..." */

#define NGX_OCI_POLICY_ERROR  512

typedef struct {
    ngx_uint_t      line;           /* 0: not known */
    ngx_uint_t      column;
    char            text[NGX_OCI_POLICY_ERROR];
} ngx_oci_policy_error_t;

/*
 * ngx_oci_policy_doc.c: compiles a document's JSON.  NULL: error says why,
 * without any value of the document.  The result is to be freed with free().
 */
ngx_oci_rbac_t *ngx_oci_policy_compile(const char *text, size_t len,
    ngx_oci_policy_error_t *error);


#endif /* _NGX_OCI_RBAC_H_INCLUDED_ */
