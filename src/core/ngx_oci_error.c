
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_core.h"


typedef struct {
    ngx_str_t  code;
    ngx_str_t  message;
} ngx_oci_error_text_t;


static ngx_int_t ngx_oci_error_text(ngx_http_request_t *r, ngx_uint_t code,
    const char *message, ngx_str_t *json);
static ngx_buf_t *ngx_oci_answer_body(ngx_http_request_t *r,
    ngx_str_t *json);
static void ngx_oci_content(ngx_http_request_t *r, const char *type,
    ngx_buf_t *b);


/* in the order of ngx_oci_error_e */

static ngx_oci_error_text_t  ngx_oci_error_texts[] = {
    { ngx_string("NAME_INVALID"), ngx_string("invalid repository name") },
    { ngx_string("NAME_UNKNOWN"),
      ngx_string("repository name not known to registry") },
    { ngx_string("DIGEST_INVALID"), ngx_string("invalid digest") },
    { ngx_string("MANIFEST_INVALID"), ngx_string("invalid tag") },
    { ngx_string("MANIFEST_UNKNOWN"), ngx_string("manifest unknown") },
    { ngx_string("MANIFEST_INVALID"), ngx_string("manifest invalid") },
    { ngx_string("BLOB_UNKNOWN"), ngx_string("blob unknown to registry") },
    { ngx_string("SIZE_INVALID"), ngx_string("invalid size or range") },
    { ngx_string("UNAUTHORIZED"), ngx_string("authentication required") },
    { ngx_string("DENIED"), ngx_string("access denied") },
    { ngx_string("UNSUPPORTED"), ngx_string("operation unsupported") },
    { ngx_string("TOOMANYREQUESTS"), ngx_string("too many requests") },
    { ngx_string("UNAVAILABLE"), ngx_string("service unavailable") },
    { ngx_string("UNKNOWN"), ngx_string("unknown error") },
    { ngx_string("PROJECTPOLICYVIOLATION"),
      ngx_string("the project's policy forbids it") }
};


ngx_int_t
ngx_oci_error(ngx_http_request_t *r, ngx_uint_t status, ngx_uint_t code,
    const char *message)
{
    ngx_str_t  json;

    if (ngx_oci_error_text(r, code, message, &json) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_oci_answer(r, status, &json);
}


ngx_buf_t *
ngx_oci_error_body(ngx_http_request_t *r, ngx_uint_t code,
    const char *message)
{
    ngx_str_t  json;

    if (ngx_oci_error_text(r, code, message, &json) != NGX_OK) {
        return NULL;
    }

    return ngx_oci_answer_body(r, &json);
}


static ngx_int_t
ngx_oci_error_text(ngx_http_request_t *r, ngx_uint_t code,
    const char *message, ngx_str_t *json)
{
    size_t                 len;
    u_char                *p;
    ngx_str_t              text;
    ngx_oci_error_text_t  *e;

    e = &ngx_oci_error_texts[code];
    text = e->message;

    if (message) {
        text.data = (u_char *) message;
        text.len = ngx_strlen(message);
    }

    len = sizeof("{\"errors\":[{\"code\":\"\",\"message\":\"\"}]}" CRLF) - 1
          + e->code.len + text.len
          + ngx_escape_json(NULL, text.data, text.len);

    json->data = ngx_pnalloc(r->pool, len);
    if (json->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(json->data, "{\"errors\":[{\"code\":\"%V\",\"message\":\"",
                    &e->code);
    p = (u_char *) ngx_escape_json(p, text.data, text.len);
    p = ngx_cpymem(p, "\"}]}" CRLF, sizeof("\"}]}" CRLF) - 1);

    json->len = p - json->data;

    return NGX_OK;
}


ngx_int_t
ngx_oci_answer(ngx_http_request_t *r, ngx_uint_t status, ngx_str_t *json)
{
    ngx_int_t   rc;
    ngx_buf_t  *b;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    b = ngx_oci_answer_body(r, json);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_oci_send(r, status, "application/json", b);
}


ngx_int_t
ngx_oci_send(ngx_http_request_t *r, ngx_uint_t status, const char *type,
    ngx_buf_t *b)
{
    ngx_int_t    rc;
    ngx_chain_t  out;

    ngx_oci_content(r, type, b);

    r->headers_out.status = status;
    r->headers_out.last_modified_time = -1;
    r->disable_not_modified = 1;
    r->allow_ranges = 0;

    if (r->method == NGX_HTTP_HEAD) {
        r->header_only = 1;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


/* a body, and its headers; NULL: no memory */

static ngx_buf_t *
ngx_oci_answer_body(ngx_http_request_t *r, ngx_str_t *json)
{
    ngx_buf_t        *b;
    ngx_table_elt_t  *h;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NULL;
    }

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NULL;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "Docker-Distribution-Api-Version");
    ngx_str_set(&h->value, "registry/2.0");

    b->pos = json->data;
    b->last = json->data + json->len;
    b->memory = 1;

    ngx_oci_content(r, "application/json", b);

    return b;
}


static void
ngx_oci_content(ngx_http_request_t *r, const char *type, ngx_buf_t *b)
{
    b->last_buf = (r == r->main);   /* what includes it goes on */
    b->last_in_chain = 1;

    r->headers_out.content_length_n = b->last - b->pos;
    r->headers_out.content_type.data = (u_char *) type;
    r->headers_out.content_type.len = ngx_strlen(type);
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
}


ngx_int_t
ngx_oci_error_retry(ngx_http_request_t *r, ngx_uint_t status,
    ngx_uint_t code, const char *message, time_t after)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->hash = 0;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "Retry-After");

    h->value.data = ngx_pnalloc(r->pool, NGX_TIME_T_LEN);
    if (h->value.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    h->value.len = ngx_sprintf(h->value.data, "%T", after) - h->value.data;
    h->hash = 1;

    return ngx_oci_error(r, status, code, message);
}
