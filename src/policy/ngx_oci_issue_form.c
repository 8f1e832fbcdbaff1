
/*
 * Copyright (C) The nginx-oci authors
 *
 * A request for a token by a form.  It has a secret, which is to be in memory
 * only: so its length is known, and bounded.
 */


#include "ngx_oci_issue.h"


#define NGX_OCI_ISSUE_FORM  16384       /* bytes */


static ngx_uint_t ngx_oci_issue_is_form(ngx_http_request_t *r);
static void ngx_oci_issue_body(ngx_http_request_t *r);
static ngx_int_t ngx_oci_issue_gather(ngx_http_request_t *r,
    ngx_str_t *text);
static const char *ngx_oci_issue_check_form(ngx_http_request_t *r,
    ngx_oci_issue_t *is, ngx_str_t *text);


ngx_int_t
ngx_oci_issue_form(ngx_http_request_t *r, ngx_oci_issue_t *is)
{
    ngx_int_t  rc;

    if (!ngx_oci_issue_is_form(r)) {
        return ngx_oci_issue_bad(r, is, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                 "a form is expected");
    }

    if (r->headers_in.content_length_n < 0) {
        return ngx_oci_issue_bad(r, is, NGX_HTTP_LENGTH_REQUIRED,
                                 "a Content-Length is expected");
    }

    if (r->headers_in.content_length_n > NGX_OCI_ISSUE_FORM) {
        return ngx_oci_issue_bad(r, is, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                 "the form is too large");
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_oci_issue_body);

    return (rc >= NGX_HTTP_SPECIAL_RESPONSE) ? rc : NGX_DONE;
}


static ngx_uint_t
ngx_oci_issue_is_form(ngx_http_request_t *r)
{
    size_t            len;
    ngx_table_elt_t  *h;

    h = r->headers_in.content_type;
    len = sizeof("application/x-www-form-urlencoded") - 1;

    return h && h->value.len >= len
           && ngx_strncasecmp(h->value.data,
                              (u_char *) "application/x-www-form-urlencoded",
                              len)
              == 0
           && (h->value.len == len || h->value.data[len] == ';'
               || h->value.data[len] == ' ');
}


static void
ngx_oci_issue_body(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_str_t              text;
    const char            *error;
    ngx_oci_issue_t       *is;
    ngx_oci_policy_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_policy_module);
    is = ctx->issue;

    rc = ngx_oci_issue_gather(r, &text);

    if (rc == NGX_OK) {
        error = ngx_oci_issue_check_form(r, is, &text);

        rc = error ? ngx_oci_issue_bad(r, is, NGX_HTTP_BAD_REQUEST, error)
                   : ngx_oci_issue_decide(r, is);
    }

    if (!ctx->waiting) {
        ngx_http_finalize_request(r, rc);
    }
}


/* NGX_OK, or a status; what is read is not left anywhere else */

static ngx_int_t
ngx_oci_issue_gather(ngx_http_request_t *r, ngx_str_t *text)
{
    size_t        n;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    text->len = 0;
    text->data = ngx_pnalloc(r->pool, NGX_OCI_ISSUE_FORM);

    if (text->data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r->request_body == NULL) {
        return NGX_OK;
    }

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;
        n = ngx_buf_in_memory(b) ? (size_t) (b->last - b->pos) : 0;

        if (b->in_file || n > NGX_OCI_ISSUE_FORM - text->len) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (n == 0) {
            continue;
        }

        ngx_memcpy(text->data + text->len, b->pos, n);
        ngx_explicit_memzero(b->pos, n);
        text->len += n;
    }

    return NGX_OK;
}


/* NULL, or what is wrong with it */

static const char *
ngx_oci_issue_check_form(ngx_http_request_t *r, ngx_oci_issue_t *is,
    ngx_str_t *text)
{
    ngx_str_t         *type;
    const char        *error;
    ngx_oci_scopes_t  *scopes;

    is->form = 1;
    is->secret = *text;         /* all of it is wiped */
    scopes = &is->scopes;

    error = ngx_oci_scopes_parse(scopes, text);

    if (error) {
        return error;
    }

    if (r->headers_in.authorization) {
        return "credentials are expected in the form only";
    }

    type = &scopes->grant_type;

    if (type->len == sizeof("refresh_token") - 1
        && ngx_memcmp(type->data, "refresh_token", type->len) == 0)
    {
        return "no refresh tokens are issued here: log in with a name and a "
               "password";
    }

    if (type->len != sizeof("password") - 1
        || ngx_memcmp(type->data, "password", type->len) != 0)
    {
        return "grant_type is not \"password\"";
    }

    if (scopes->username.data == NULL || scopes->password.data == NULL) {
        return "no username, or no password";
    }

    is->user = scopes->username;

    return NULL;
}
