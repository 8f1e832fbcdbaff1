
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a client asks of a token service: the query of a GET, or the form of a
 * POST (distribution, "Token Authentication Specification" and "OAuth2
 * Token Authentication").  Pure: needs libc and jansson only.
 */


#ifndef _NGX_OCI_SCOPE_H_INCLUDED_
#define _NGX_OCI_SCOPE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_oci_route.h"


#define NGX_OCI_SCOPE_MAX     16    /* names: the token has to fit into a
                                       header of 8k */
#define NGX_OCI_SCOPE_PAIRS   64    /* of a query or a form */
#define NGX_OCI_SCOPE_TOKEN   300   /* s that a token counts for */
#define NGX_OCI_SCOPE_ISSUER  "nginx-oci"


typedef enum {
    NGX_OCI_SCOPE_REPOSITORY = 0,
    NGX_OCI_SCOPE_CATALOG,
    NGX_OCI_SCOPE_OTHER             /* nobody has rights on it here */
} ngx_oci_scope_e;


typedef struct {
    ngx_uint_t       kind;          /* ngx_oci_scope_e */
    ngx_str_t        name;          /* of a repository */
    ngx_uint_t       actions;       /* bits of ngx_oci_rbac.h that are asked
                                       for, and then those that are granted */
} ngx_oci_scope_t;


/* texts are decoded, and point into what was parsed; data NULL: not there */

typedef struct {
    ngx_str_t        service;
    ngx_str_t        grant_type;
    ngx_str_t        username;
    ngx_str_t        password;
    ngx_oci_scope_t  scopes[NGX_OCI_SCOPE_MAX];
    ngx_uint_t       nscopes;
} ngx_oci_scopes_t;


/*
 * Parses application/x-www-form-urlencoded text, which is written over.  What
 * has no meaning here is skipped.  NULL, or what is wrong with it: nothing of
 * the text is in there.
 */
const char *ngx_oci_scopes_parse(ngx_oci_scopes_t *scopes, ngx_str_t *text);

/*
 * The claims of a token (JSON) for what is granted.  subject: "": nobody; id:
 * a text that no other token has.  To be freed with free(); NULL: no memory,
 * or the subject is no UTF-8.
 */
char *ngx_oci_scopes_claims(ngx_oci_scopes_t *scopes, ngx_str_t *subject,
    ngx_str_t *audience, ngx_str_t *id, time_t now);

/* "repository:a/b:pull,push ...", what is granted, into text; its length */

#define NGX_OCI_SCOPE_TEXT                                                    \
    (NGX_OCI_SCOPE_MAX * (sizeof("repository::pull,push,delete ")            \
                          + NGX_OCI_NAME_MAX))

size_t ngx_oci_scopes_text(ngx_oci_scopes_t *scopes, u_char *text);


#endif /* _NGX_OCI_SCOPE_H_INCLUDED_ */
