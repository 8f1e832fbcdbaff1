
/*
 * Copyright (C) The nginx-oci authors
 *
 * Ranges are served here and not by the core's filter: it can't read from a
 * file that is still growing, nor send a multipart over several buffers.
 */


#include "ngx_oci_ranges.h"


#define NGX_OCI_RANGES_BOUNDARY  20     /* digits */


static ngx_int_t ngx_oci_ranges_conditions(ngx_http_request_t *r,
    ngx_oci_ranges_t *rg);
static ngx_uint_t ngx_oci_ranges_etag_match(ngx_str_t *list,
    ngx_str_t *digest);
static ngx_uint_t ngx_oci_ranges_wanted(ngx_http_request_t *r,
    ngx_oci_ranges_t *rg);
static ngx_int_t ngx_oci_ranges_evaluate(ngx_http_request_t *r,
    ngx_oci_ranges_t *rg, ngx_int_t *rc);
static ngx_int_t ngx_oci_ranges_content_range(ngx_http_request_t *r,
    ngx_oci_ranges_t *rg, ngx_oci_range_t *range);
static ngx_int_t ngx_oci_ranges_multipart(ngx_http_request_t *r,
    ngx_oci_ranges_t *rg, ngx_oci_range_t *ranges, ngx_uint_t n);
static ngx_int_t ngx_oci_ranges_part(ngx_oci_ranges_t *rg,
    ngx_oci_part_t *part, ngx_oci_range_t *range, ngx_atomic_uint_t boundary);
static ngx_uint_t ngx_oci_ranges_cover(ngx_oci_range_t *ranges, ngx_uint_t n,
    off_t size);
static int ngx_libc_cdecl ngx_oci_ranges_cmp(const void *a, const void *b);


ngx_int_t
ngx_oci_ranges_prepare(ngx_http_request_t *r, ngx_oci_ranges_t *rg,
    ngx_int_t *rc)
{
    ngx_int_t  status;

    rg->parts = ngx_pcalloc(rg->pool, sizeof(ngx_oci_part_t));
    if (rg->parts == NULL) {
        return NGX_ERROR;
    }

    rg->nparts = 1;
    rg->parts[0].end = rg->size;
    rg->whole = 1;

    status = ngx_oci_ranges_conditions(r, rg);

    if (status == NGX_HTTP_PRECONDITION_FAILED) {
        *rc = ngx_oci_core.error(r, NGX_HTTP_PRECONDITION_FAILED,
                                 NGX_OCI_ERR_UNKNOWN,
                                 "the precondition failed");
        return NGX_DONE;
    }

    r->headers_out.content_type = rg->type;
    r->headers_out.content_type_len = rg->type.len;
    r->headers_out.content_type_lowcase = NULL;

    if (status == NGX_HTTP_NOT_MODIFIED) {
        r->headers_out.status = NGX_HTTP_NOT_MODIFIED;
        r->headers_out.content_length_n = -1;
        r->header_only = 1;
        rg->nparts = 0;
        return NGX_OK;
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = rg->size;

    if (r->method == NGX_HTTP_HEAD) {
        r->header_only = 1;
        rg->nparts = 0;
        return NGX_OK;
    }

    if (!ngx_oci_ranges_wanted(r, rg)) {
        return NGX_OK;
    }

    return ngx_oci_ranges_evaluate(r, rg, rc);
}


void
ngx_oci_ranges_clear(ngx_http_request_t *r)
{
    if (r->headers_out.content_range) {
        r->headers_out.content_range->hash = 0;
        r->headers_out.content_range = NULL;
    }

    r->headers_out.status = 0;
    r->headers_out.content_length_n = -1;
    r->headers_out.content_type_len = 0;
    r->headers_out.content_type_lowcase = NULL;
    ngx_str_null(&r->headers_out.content_type);
}


static ngx_int_t
ngx_oci_ranges_conditions(ngx_http_request_t *r, ngx_oci_ranges_t *rg)
{
    if (r->headers_in.if_match
        && !ngx_oci_ranges_etag_match(&r->headers_in.if_match->value,
                                      &rg->digest))
    {
        return NGX_HTTP_PRECONDITION_FAILED;
    }

    if (r->headers_in.if_none_match
        && ngx_oci_ranges_etag_match(&r->headers_in.if_none_match->value,
                                     &rg->digest))
    {
        return NGX_HTTP_NOT_MODIFIED;
    }

    return NGX_OK;
}


/* "*", or a list of entity tags, weak or strong, that holds the digest */

static ngx_uint_t
ngx_oci_ranges_etag_match(ngx_str_t *list, ngx_str_t *digest)
{
    u_char  *p, *last;

    if (list->len == 1 && list->data[0] == '*') {
        return 1;
    }

    p = list->data;
    last = p + list->len;

    while (last - p >= (ssize_t) digest->len + 2) {

        if (*p == '"' && p[digest->len + 1] == '"'
            && ngx_memcmp(p + 1, digest->data, digest->len) == 0)
        {
            return 1;
        }

        p++;
    }

    return 0;
}


static ngx_uint_t
ngx_oci_ranges_wanted(ngx_http_request_t *r, ngx_oci_ranges_t *rg)
{
    ngx_str_t  *value;

    if (r->headers_in.range == NULL) {
        return 0;
    }

    if (r->headers_in.if_range == NULL) {
        return 1;
    }

    /* strong comparison only; dates never match: there are none here */

    value = &r->headers_in.if_range->value;

    return value->len == rg->digest.len + 2
           && value->data[0] == '"'
           && value->data[value->len - 1] == '"'
           && ngx_memcmp(value->data + 1, rg->digest.data, rg->digest.len)
              == 0;
}


static ngx_int_t
ngx_oci_ranges_evaluate(ngx_http_request_t *r, ngx_oci_ranges_t *rg,
    ngx_int_t *rc)
{
    off_t             sum;
    ngx_int_t         n, i;
    ngx_oci_range_t  *ranges;

    ranges = ngx_palloc(rg->pool,
                        NGX_OCI_RANGES_MAX * sizeof(ngx_oci_range_t));
    if (ranges == NULL) {
        return NGX_ERROR;
    }

    n = ngx_oci_range_parse(&r->headers_in.range->value, rg->size, ranges,
                            NGX_OCI_RANGES_MAX);

    if (n == 0) {
        return NGX_OK;
    }

    if (n == NGX_DECLINED) {

        if (ngx_oci_ranges_content_range(r, rg, NULL) != NGX_OK) {
            return NGX_ERROR;
        }

        *rc = ngx_oci_core.error(r, NGX_HTTP_RANGE_NOT_SATISFIABLE,
                                 NGX_OCI_ERR_SIZE_INVALID,
                                 "the range is not satisfiable");
        return NGX_DONE;
    }

    for (i = 0, sum = 0; i < n && sum <= (off_t) rg->size; i++) {
        sum += ranges[i].end - ranges[i].start;
    }

    if (n == NGX_ERROR || sum > (off_t) rg->size) {
        *rc = ngx_oci_core.error(r, NGX_HTTP_BAD_REQUEST,
                                 NGX_OCI_ERR_SIZE_INVALID,
                                 "too many ranges");
        return NGX_DONE;
    }

    r->headers_out.status = NGX_HTTP_PARTIAL_CONTENT;
    rg->whole = ngx_oci_ranges_cover(ranges, n, rg->size);

    if (n > 1) {
        return ngx_oci_ranges_multipart(r, rg, ranges, n);
    }

    rg->parts[0].pos = ranges[0].start;
    rg->parts[0].end = ranges[0].end;
    r->headers_out.content_length_n = ranges[0].end - ranges[0].start;

    return ngx_oci_ranges_content_range(r, rg, &ranges[0]);
}


/* range NULL: of an answer 416 */

static ngx_int_t
ngx_oci_ranges_content_range(ngx_http_request_t *r, ngx_oci_ranges_t *rg,
    ngx_oci_range_t *range)
{
    u_char           *p;
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    p = ngx_pnalloc(r->pool, sizeof("bytes -/") - 1 + 3 * NGX_OFF_T_LEN);

    if (h == NULL || p == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "Content-Range");
    h->value.data = p;

    if (range) {
        p = ngx_sprintf(p, "bytes %O-%O/%uL", range->start, range->end - 1,
                        rg->size);
    } else {
        p = ngx_sprintf(p, "bytes */%uL", rg->size);
    }

    h->value.len = p - h->value.data;

    r->headers_out.content_range = h;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_ranges_multipart(ngx_http_request_t *r, ngx_oci_ranges_t *rg,
    ngx_oci_range_t *ranges, ngx_uint_t n)
{
    off_t                     len;
    u_char                   *p, *type;
    ngx_uint_t                i;
    static ngx_atomic_uint_t  boundary;

    boundary += 1 + (ngx_random() & 0xffff);

    rg->parts = ngx_pcalloc(rg->pool, n * sizeof(ngx_oci_part_t));
    if (rg->parts == NULL) {
        return NGX_ERROR;
    }

    rg->nparts = n;
    len = 0;

    for (i = 0; i < n; i++) {

        if (ngx_oci_ranges_part(rg, &rg->parts[i], &ranges[i], boundary)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        len += rg->parts[i].text.len + (ranges[i].end - ranges[i].start);
    }

    rg->tail.data = ngx_pnalloc(rg->pool, sizeof("\r\n----\r\n")
                                          + NGX_OCI_RANGES_BOUNDARY);
    type = ngx_pnalloc(r->pool, sizeof("multipart/byteranges; boundary=")
                                + NGX_OCI_RANGES_BOUNDARY);

    if (rg->tail.data == NULL || type == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(rg->tail.data, "\r\n--%020uA--\r\n", boundary);
    rg->tail.len = p - rg->tail.data;

    p = ngx_sprintf(type, "multipart/byteranges; boundary=%020uA", boundary);
    r->headers_out.content_type.data = type;
    r->headers_out.content_type.len = p - type;
    r->headers_out.content_type_len = p - type;

    r->headers_out.content_length_n = len + rg->tail.len;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_ranges_part(ngx_oci_ranges_t *rg, ngx_oci_part_t *part,
    ngx_oci_range_t *range, ngx_atomic_uint_t boundary)
{
    u_char  *p;

    part->text.data = ngx_pnalloc(rg->pool,
                                  sizeof("\r\n--\r\nContent-Type: \r\n"
                                         "Content-Range: bytes -/\r\n\r\n")
                                  + NGX_OCI_RANGES_BOUNDARY + rg->type.len
                                  + 3 * NGX_OFF_T_LEN);
    if (part->text.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(part->text.data,
                    "\r\n--%020uA\r\n"
                    "Content-Type: %V\r\n"
                    "Content-Range: bytes %O-%O/%uL\r\n\r\n",
                    boundary, &rg->type, range->start, range->end - 1,
                    rg->size);

    part->text.len = p - part->text.data;
    part->pos = range->start;
    part->end = range->end;

    return NGX_OK;
}


static ngx_uint_t
ngx_oci_ranges_cover(ngx_oci_range_t *ranges, ngx_uint_t n, off_t size)
{
    off_t            end;
    ngx_uint_t       i;
    ngx_oci_range_t  sorted[NGX_OCI_RANGES_MAX];

    ngx_memcpy(sorted, ranges, n * sizeof(ngx_oci_range_t));
    ngx_qsort(sorted, n, sizeof(ngx_oci_range_t), ngx_oci_ranges_cmp);

    for (i = 0, end = 0; i < n; i++) {
        if (sorted[i].start > end) {
            return 0;
        }

        end = ngx_max(end, sorted[i].end);
    }

    return end == size;
}


static int ngx_libc_cdecl
ngx_oci_ranges_cmp(const void *a, const void *b)
{
    const ngx_oci_range_t *x = a;
    const ngx_oci_range_t *y = b;

    return (x->start > y->start) - (x->start < y->start);
}


ngx_int_t
ngx_oci_ranges_send_header(ngx_http_request_t *r, ngx_oci_ranges_t *rg,
    ngx_str_t *cache_status)
{
    u_char           *p;
    ngx_str_t         digest, version, unit;
    ngx_table_elt_t  *h;

    r->headers_out.last_modified_time = -1;
    r->disable_not_modified = 1;
    r->allow_ranges = 0;

    h = ngx_list_push(&r->headers_out.headers);
    p = ngx_pnalloc(r->pool, rg->digest.len + 2);

    if (h == NULL || p == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    ngx_str_set(&h->key, "ETag");
    h->value.data = p;
    h->value.len = ngx_sprintf(p, "\"%V\"", &rg->digest) - p;
    r->headers_out.etag = h;

    digest.data = p + 1;
    digest.len = rg->digest.len;

    ngx_str_set(&version, "registry/2.0");
    ngx_str_set(&unit, "bytes");

    if (ngx_oci_ranges_add(r, "Docker-Content-Digest", &digest) != NGX_OK
        || ngx_oci_ranges_add(r, "Docker-Distribution-Api-Version", &version)
           != NGX_OK
        || ngx_oci_ranges_add(r, "Accept-Ranges", &unit) != NGX_OK
        || ngx_oci_ranges_add(r, "Cache-Status", cache_status) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_send_header(r);
}


ngx_int_t
ngx_oci_ranges_add(ngx_http_request_t *r, const char *name, ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_oci_header_unlink(h);
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value = *value;

    return NGX_OK;
}
