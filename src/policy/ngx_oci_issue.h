
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the files that issue tokens share.
 */


#ifndef _NGX_OCI_ISSUE_H_INCLUDED_
#define _NGX_OCI_ISSUE_H_INCLUDED_


#include "ngx_oci_policy.h"


/* in the request's pool */

typedef struct {
    ngx_oci_policy_ctx_t  *ctx;
    ngx_oci_scopes_t       scopes;
    ngx_str_t              user;        /* data NULL: nobody */
    ngx_str_t              secret;      /* wiped with the request */
    ngx_uint_t             form;
} ngx_oci_issue_t;


/* ngx_oci_issue_form.c: what a content handler returns */
ngx_int_t ngx_oci_issue_form(ngx_http_request_t *r, ngx_oci_issue_t *is);

/*
 * ngx_oci_issue.c: the same.  decide(): with ctx->waiting a secret is being
 * checked, and the request goes on from the event loop; bad(): what is asked
 * for makes no sense.
 */
ngx_int_t ngx_oci_issue_decide(ngx_http_request_t *r, ngx_oci_issue_t *is);
ngx_int_t ngx_oci_issue_bad(ngx_http_request_t *r, ngx_oci_issue_t *is,
    ngx_uint_t status, const char *reason);


#endif /* _NGX_OCI_ISSUE_H_INCLUDED_ */
