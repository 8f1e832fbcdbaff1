
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_hop.h"


typedef struct {
    ngx_str_t    name;
    size_t       offset;        /* in ngx_oci_response_t */
} ngx_oci_response_header_t;


static ngx_int_t ngx_oci_response_status(ngx_oci_hop_t *hop,
    ngx_http_request_t *r);
static ngx_int_t ngx_oci_response_line(ngx_oci_hop_t *hop,
    ngx_http_request_t *r);
static ngx_int_t ngx_oci_response_framing(ngx_oci_hop_t *hop,
    ngx_str_t *name, ngx_str_t *value);
static ngx_int_t ngx_oci_response_end(ngx_oci_hop_t *hop,
    ngx_http_request_t *r);


static ngx_oci_response_header_t  ngx_oci_response_headers[] = {
    { ngx_string("content-type"),
      offsetof(ngx_oci_response_t, content_type) },
    { ngx_string("content-encoding"),
      offsetof(ngx_oci_response_t, content_encoding) },
    { ngx_string("docker-content-digest"),
      offsetof(ngx_oci_response_t, docker_content_digest) },
    { ngx_string("etag"), offsetof(ngx_oci_response_t, etag) },
    { ngx_string("www-authenticate"),
      offsetof(ngx_oci_response_t, www_authenticate) },
    { ngx_string("location"), offsetof(ngx_oci_response_t, location) },
    { ngx_string("retry-after"),
      offsetof(ngx_oci_response_t, retry_after) },
    { ngx_string("link"), offsetof(ngx_oci_response_t, link) },
    { ngx_string("warning"), offsetof(ngx_oci_response_t, warning) },
    { ngx_null_string, 0 }
};


void
ngx_oci_response_init(ngx_oci_hop_t *hop)
{
    ngx_memzero(&hop->in, sizeof(ngx_oci_response_t));
    ngx_memzero(&hop->status, sizeof(ngx_http_status_t));

    hop->in.content_length = -1;
    hop->in.range_start = -1;
    hop->in.range_end = -1;
    hop->in.range_total = -1;
    hop->status_parsed = 0;
    hop->chunked = 0;
    hop->connection_close = 0;
    hop->length_seen = 0;
    hop->malformed = 0;
}


ngx_int_t
ngx_oci_response_parse(ngx_oci_hop_t *hop, ngx_http_request_t *r)
{
    ngx_int_t  rc;

    for ( ;; ) {

        if (!hop->status_parsed) {
            rc = ngx_oci_response_status(hop, r);
            if (rc != NGX_OK) {
                return rc;
            }
        }

        rc = ngx_http_parse_header_line(r, &r->upstream->buffer, 1);

        if (rc == NGX_OK) {
            rc = ngx_oci_response_line(hop, r);
            if (rc != NGX_OK) {
                return rc;
            }

            continue;
        }

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        if (rc != NGX_HTTP_PARSE_HEADER_DONE) {
            ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                          "upstream sent invalid header");
            return NGX_HTTP_UPSTREAM_INVALID_HEADER;
        }

        if (hop->in.status < 200 && hop->in.status != 101) {

            /* an interim response, RFC 9110, section 15.2 */

            ngx_oci_response_init(hop);
            r->state = 0;
            continue;
        }

        return ngx_oci_response_end(hop, r);
    }
}


static ngx_int_t
ngx_oci_response_status(ngx_oci_hop_t *hop, ngx_http_request_t *r)
{
    ngx_int_t  rc;

    rc = ngx_http_parse_status_line(r, &r->upstream->buffer, &hop->status);

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (rc != NGX_OK || hop->status.code < 100 || hop->status.code > 599) {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "upstream sent no valid HTTP/1.1 status line");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    hop->in.status = hop->status.code;
    hop->status_parsed = 1;

    if (r->upstream->state && r->upstream->state->status == 0) {
        r->upstream->state->status = hop->status.code;
    }

    if (hop->status.http_version < NGX_HTTP_VERSION_11) {
        hop->connection_close = 1;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_response_line(ngx_oci_hop_t *hop, ngx_http_request_t *r)
{
    u_char                     *p;
    size_t                      len;
    ngx_int_t                   rc;
    ngx_str_t                   name, value, *dst;
    ngx_oci_response_header_t  *h;

    name.len = r->header_name_end - r->header_name_start;
    value.len = r->header_end - r->header_start;

    p = ngx_pnalloc(hop->pool, name.len + value.len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    name.data = p;
    ngx_strlow(name.data, r->header_name_start, name.len);

    value.data = p + name.len;
    ngx_memcpy(value.data, r->header_start, value.len);
    value.data[value.len] = '\0';

    rc = ngx_oci_response_framing(hop, &name, &value);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    for (h = ngx_oci_response_headers; h->name.len; h++) {

        if (h->name.len != name.len
            || ngx_memcmp(h->name.data, name.data, name.len) != 0)
        {
            continue;
        }

        dst = (ngx_str_t *) ((u_char *) &hop->in + h->offset);

        if (dst->data == NULL) {
            *dst = value;

        } else if (h->offset == offsetof(ngx_oci_response_t,
                                         www_authenticate))
        {
            /* several challenges are one list, RFC 9110, section 11.6.1 */

            len = dst->len + 2 + value.len;
            p = ngx_pnalloc(hop->pool, len);
            if (p == NULL) {
                return NGX_ERROR;
            }

            name.data = p;
            p = ngx_cpymem(p, dst->data, dst->len);
            p = ngx_cpymem(p, ", ", 2);
            ngx_memcpy(p, value.data, value.len);
            dst->data = name.data;
            dst->len = len;
        }

        break;
    }

    return NGX_OK;
}


/* what says where the body ends; NGX_DECLINED: it is another header */

static ngx_int_t
ngx_oci_response_framing(ngx_oci_hop_t *hop, ngx_str_t *name,
    ngx_str_t *value)
{
    off_t      n;
    u_char     buf[NGX_OCI_LOG_TEXT];
    ngx_str_t  text;

#define ngx_oci_is(s)                                                         \
    (name->len == sizeof(s) - 1                                               \
     && ngx_memcmp(name->data, s, sizeof(s) - 1) == 0)

    if (ngx_oci_is("content-length")) {

        n = ngx_atoof(value->data, value->len);

        if (n == NGX_ERROR
            || (hop->length_seen && n != hop->in.content_length))
        {
            ngx_oci_log_text(&text, buf, value);
            ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                          "upstream sent invalid Content-Length \"%V\"",
                          &text);
            return NGX_HTTP_UPSTREAM_INVALID_HEADER;
        }

        hop->in.content_length = n;
        hop->length_seen = 1;

        return NGX_OK;
    }

    if (ngx_oci_is("transfer-encoding")) {

        if (value->len != 7
            || ngx_strncasecmp(value->data, (u_char *) "chunked", 7) != 0)
        {
            ngx_oci_log_text(&text, buf, value);
            ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                          "upstream sent unknown Transfer-Encoding \"%V\"",
                          &text);
            return NGX_HTTP_UPSTREAM_INVALID_HEADER;
        }

        hop->chunked = 1;

        return NGX_OK;
    }

    if (ngx_oci_is("connection")) {

        if (ngx_strlcasestrn(value->data, value->data + value->len,
                             (u_char *) "close", 5 - 1)
            != NULL)
        {
            hop->connection_close = 1;
        }

        return NGX_OK;
    }

    if (ngx_oci_is("content-range")) {

        if (ngx_oci_content_range_parse(value, &hop->in.range_start,
                                        &hop->in.range_end,
                                        &hop->in.range_total)
            != NGX_OK)
        {
            hop->malformed = 1;
        }

        return NGX_OK;
    }

#undef ngx_oci_is

    return NGX_DECLINED;
}


static ngx_int_t
ngx_oci_response_end(ngx_oci_hop_t *hop, ngx_http_request_t *r)
{
    u_char               buf[NGX_OCI_LOG_TEXT];
    ngx_str_t            text;
    ngx_oci_response_t  *in;

    in = &hop->in;

    if (hop->chunked && hop->length_seen) {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "upstream sent Content-Length and Transfer-Encoding");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (in->status == 101
        || (in->status == NGX_HTTP_PARTIAL_CONTENT
            && (hop->malformed || in->range_start < 0)))
    {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "upstream sent status %ui without a valid "
                      "Content-Range", in->status);
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (in->content_encoding.len
        && hop->method == NGX_HTTP_GET
        && (in->content_encoding.len != 8
            || ngx_strncasecmp(in->content_encoding.data,
                               (u_char *) "identity", 8)
               != 0))
    {
        ngx_oci_log_text(&text, buf, &in->content_encoding);
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "upstream sent Content-Encoding \"%V\" that was not "
                      "asked for", &text);
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    if (hop->method == NGX_HTTP_HEAD
        || in->status == NGX_HTTP_NO_CONTENT
        || in->status == NGX_HTTP_NOT_MODIFIED)
    {
        hop->length = 0;
        hop->chunked = 0;

    } else {
        hop->length = hop->length_seen ? in->content_length : -1;
    }

    if (in->status == NGX_HTTP_PARTIAL_CONTENT && hop->length_seen
        && in->content_length != in->range_end - in->range_start
        && hop->method == NGX_HTTP_GET)
    {
        ngx_log_error(NGX_LOG_ERR, hop->log, 0,
                      "upstream sent Content-Length %O with a range of %O "
                      "bytes", in->content_length,
                      in->range_end - in->range_start);
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    return NGX_OK;
}


/* of nginx before 1.28.2 an event loop's turn may read it, CVE-2026-1642 */

ngx_uint_t
ngx_oci_response_plain(ngx_http_upstream_t *u)
{
#if (NGX_HTTP_SSL)
    ngx_connection_t  *c;

    c = u->peer.connection;

    return u->ssl && c && (c->ssl == NULL || !c->ssl->handshaked);
#else
    return 0;
#endif
}


/*
 * What is no HTTP/1 the proxy module takes for HTTP/0.9, and sends it to the
 * client as it is, without a header.  A reason is passed on as it came, with
 * NUL and others: not from here.
 */

ngx_int_t
ngx_oci_response_passed(ngx_http_request_t *r)
{
    size_t               i;
    u_char              *p;
    ngx_str_t           *line;
    ngx_oci_loc_conf_t  *olcf;

    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);

    if (r->upstream == NULL
        || (olcf->token == NULL
            && ngx_http_get_module_ctx(r, ngx_http_oci_module) == NULL))
    {
        return NGX_OK;
    }

    /* unless the client speaks it */

    p = r->http_protocol.data;

    if (r->http_version == NGX_HTTP_VERSION_9
        && r->http_protocol.len == sizeof("HTTP/1.1") - 1)
    {
        r->http_version = (p[5] - '0') * 1000 + (p[7] - '0');
        return NGX_ERROR;
    }

    if (r->upstream->headers_in.status_n
        && ngx_oci_response_plain(r->upstream))
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "upstream sent an answer before the TLS handshake");
        return NGX_ERROR;
    }

    line = &r->headers_out.status_line;

    for (i = 0; i < line->len; i++) {
        if (line->data[i] < 0x20 || line->data[i] == 0x7f) {
            ngx_str_null(line);
            break;
        }
    }

    return NGX_OK;
}
