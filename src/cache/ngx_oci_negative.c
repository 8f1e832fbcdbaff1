
/*
 * Copyright (C) The nginx-oci authors
 */


#define OPENSSL_SUPPRESS_DEPRECATED

#include "ngx_oci_negative.h"
#include "ngx_oci_refs.h"
#include <openssl/sha.h>


#define NGX_OCI_NEGATIVE_SHARE  64      /* a part of the zone */
#define NGX_OCI_NEGATIVE_CELLS  8192    /* at most; a power of two */
#define NGX_OCI_NEGATIVE_WAYS   4       /* cells where a key may be */
#define NGX_OCI_NEGATIVE_TYPE   72      /* bytes of a media type */
#define NGX_OCI_NEGATIVE_BODY   416     /* bytes */


typedef struct {
    int32_t                     length;     /* that was announced; -1 */
    uint16_t                    type_len;
    uint16_t                    len;        /* of the body; HEAD: 0 */
    u_char                      type[NGX_OCI_NEGATIVE_TYPE];
    u_char                      body[NGX_OCI_NEGATIVE_BODY];
} ngx_oci_negative_answer_t;


typedef struct {
    uint64_t                    key;
    uint32_t                    since;      /* the repository's changes */
    uint32_t                    said;       /* when, s; 0: empty */
    ngx_oci_negative_answer_t   answer;
} ngx_oci_negative_cell_t;


struct ngx_oci_negative_sh_s {
    ngx_uint_t                  cells_n;    /* a power of two */
    ngx_oci_negative_cell_t     cells[1];
};


static uint64_t ngx_oci_negative_key(ngx_oci_manifest_t *mf);
static ngx_oci_negative_cell_t *ngx_oci_negative_cell(
    ngx_oci_negative_sh_t *sh, uint64_t key);
static ngx_int_t ngx_oci_negative_respond(ngx_http_request_t *r,
    ngx_oci_negative_answer_t *a);
static ngx_int_t ngx_oci_negative_header_filter(ngx_http_request_t *r);
static ngx_oci_manifest_t *ngx_oci_negative_passed(ngx_http_request_t *r);
static ngx_int_t ngx_oci_negative_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static void ngx_oci_negative_put(ngx_oci_manifest_t *mf);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


ngx_int_t
ngx_oci_negative_init(ngx_oci_cache_t *cache)
{
    size_t                  room;
    ngx_uint_t              n;
    ngx_oci_negative_sh_t  *sh;

    room = sizeof(ngx_oci_negative_cell_t);

    for (n = NGX_OCI_NEGATIVE_WAYS; n < NGX_OCI_NEGATIVE_CELLS; n *= 2) {
        if (n * 2 * room > cache->zone->shm.size / NGX_OCI_NEGATIVE_SHARE) {
            break;
        }
    }

    sh = ngx_slab_calloc(cache->shpool,
                         offsetof(ngx_oci_negative_sh_t, cells) + n * room);
    if (sh == NULL) {
        return NGX_ERROR;
    }

    sh->cells_n = n;
    cache->refs->negative = sh;

    return NGX_OK;
}


/* what may make a registry answer otherwise; salted, so that nobody finds two
   requests with the same key */

static uint64_t
ngx_oci_negative_key(ngx_oci_manifest_t *mf)
{
    u_char               key[NGX_OCI_REFS_KEY], md[NGX_OCI_REFS_KEY];
    uint64_t             n;
    ngx_uint_t           i;
    SHA256_CTX           sha;
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h;
    ngx_http_request_t  *r;

    r = mf->r;

    (void) SHA256_Init(&sha);
    (void) SHA256_Update(&sha, &r->method, sizeof(r->method));
    (void) SHA256_Update(&sha, mf->ctx->uri.data, mf->ctx->uri.len);

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if ((h[i].key.len == 6
             && (ngx_strncasecmp(h[i].key.data, (u_char *) "Accept", 6) == 0
                 || ngx_strncasecmp(h[i].key.data, (u_char *) "Cookie", 6)
                    == 0))
            || (h[i].key.len == 13
                && ngx_strncasecmp(h[i].key.data, (u_char *) "Authorization",
                                   13)
                   == 0))
        {
            (void) SHA256_Update(&sha, "", 1);
            (void) SHA256_Update(&sha, h[i].lowcase_key, h[i].key.len);
            (void) SHA256_Update(&sha, h[i].value.data, h[i].value.len);
        }
    }

    (void) SHA256_Final(md, &sha);

    ngx_oci_refs_key(key, 'n', mf->cache->refs->salt, mf->ctx->registry,
                     &mf->ctx->repository, md, sizeof(md));

    ngx_explicit_memzero(md, sizeof(md));
    ngx_explicit_memzero(&sha, sizeof(sha));

    ngx_memcpy(&n, key, sizeof(uint64_t));

    return n;
}


/* the one of that key, or the oldest of those that may have it; under the
   lock */

static ngx_oci_negative_cell_t *
ngx_oci_negative_cell(ngx_oci_negative_sh_t *sh, uint64_t key)
{
    ngx_uint_t                i;
    ngx_oci_negative_cell_t  *cell, *oldest;

    cell = &sh->cells[(key & (sh->cells_n - 1))
                      / NGX_OCI_NEGATIVE_WAYS * NGX_OCI_NEGATIVE_WAYS];
    oldest = cell;

    for (i = 0; i < NGX_OCI_NEGATIVE_WAYS; i++, cell++) {

        if (cell->said && cell->key == key) {
            return cell;
        }

        if (cell->said < oldest->said) {
            oldest = cell;
        }
    }

    return oldest;
}


ngx_uint_t
ngx_oci_negative_send(ngx_oci_manifest_t *mf)
{
    uint64_t                    key;
    uint32_t                    passed;
    ngx_uint_t                  found;
    ngx_oci_negative_cell_t    *cell;
    ngx_oci_negative_answer_t  *a;

    if (mf->ocf->valid_negative == 0) {
        return 0;
    }

    a = ngx_palloc(mf->pool, sizeof(ngx_oci_negative_answer_t));
    if (a == NULL) {
        return 0;
    }

    key = ngx_oci_negative_key(mf);

    ngx_oci_refs_lock(mf->cache);

    cell = ngx_oci_negative_cell(mf->cache->refs->negative, key);
    passed = (uint32_t) ngx_time() - cell->said;

    found = cell->said && cell->key == key && cell->since == mf->since
            && passed < (uint32_t) mf->ocf->valid_negative;

    if (found) {
        ngx_memcpy(a, &cell->answer, sizeof(ngx_oci_negative_answer_t));
    }

    ngx_oci_refs_unlock(mf->cache);

    if (!found) {
        return 0;
    }

    mf->ctx->cache_status = NGX_OCI_CACHE_HIT;

    ngx_http_finalize_request(mf->r, ngx_oci_negative_respond(mf->r, a));

    return 1;
}


static ngx_int_t
ngx_oci_negative_respond(ngx_http_request_t *r, ngx_oci_negative_answer_t *a)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_str_t     status, version;
    ngx_chain_t   out;

    ngx_str_set(&status, "nginx-oci; hit; detail=negative");
    ngx_str_set(&version, "registry/2.0");

    b = ngx_create_temp_buf(r->pool, NGX_OCI_NEGATIVE_TYPE
                                     + NGX_OCI_NEGATIVE_BODY);

    if (b == NULL
        || ngx_oci_ranges_add(r, "Docker-Distribution-Api-Version", &version)
           != NGX_OK
        || ngx_oci_ranges_add(r, "Cache-Status", &status) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = NGX_HTTP_NOT_FOUND;
    r->headers_out.content_length_n = a->length;
    r->headers_out.last_modified_time = -1;
    r->headers_out.content_type.data = b->pos;
    r->headers_out.content_type.len = a->type_len;
    r->headers_out.content_type_len = a->type_len;
    r->headers_out.content_type_lowcase = NULL;
    r->disable_not_modified = 1;
    r->allow_ranges = 0;

    b->pos = ngx_cpymem(b->pos, a->type, a->type_len);
    b->last = ngx_cpymem(b->pos, a->body, a->len);
    b->memory = (a->len != 0);
    b->temporary = 0;
    b->last_buf = 1;
    b->last_in_chain = 1;

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


void
ngx_oci_negative_init_filter(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_oci_negative_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_oci_negative_body_filter;
}


static ngx_int_t
ngx_oci_negative_header_filter(ngx_http_request_t *r)
{
    ngx_str_t                  *type;
    ngx_oci_manifest_t         *mf;
    ngx_oci_negative_answer_t  *a;

    mf = ngx_oci_negative_passed(r);
    type = &r->headers_out.content_type;

    /* a page is somebody else's word */

    if (mf == NULL || mf->ocf->valid_negative == 0
        || r->headers_out.status != NGX_HTTP_NOT_FOUND
        || r->headers_out.content_encoding
        || r->headers_out.content_length_n > NGX_OCI_NEGATIVE_BODY
        || type->len > NGX_OCI_NEGATIVE_TYPE
        || ngx_oci_type_is_page(type))
    {
        return ngx_http_next_header_filter(r);
    }

    a = ngx_pcalloc(r->pool, sizeof(ngx_oci_negative_answer_t));
    if (a == NULL) {
        return NGX_ERROR;
    }

    a->length = (int32_t) r->headers_out.content_length_n;
    a->type_len = (uint16_t) type->len;

    if (type->len) {
        ngx_memcpy(a->type, type->data, type->len);
    }

    mf->absent = a;

    if (r->method == NGX_HTTP_HEAD) {
        ngx_oci_negative_put(mf);

    } else {
        r->main_filter_need_in_memory = 1;
    }

    return ngx_http_next_header_filter(r);
}


/* the request for a manifest that a registry answers itself; or NULL */

static ngx_oci_manifest_t *
ngx_oci_negative_passed(ngx_http_request_t *r)
{
    ngx_oci_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    if (r != r->main
        || r->upstream == NULL
        || ctx == NULL
        || ctx->cache_status != NGX_OCI_CACHE_BYPASS
        || (ctx->route.route != NGX_OCI_ROUTE_MANIFEST
            && ctx->route.route != NGX_OCI_ROUTE_TAG)
        || (r->method != NGX_HTTP_GET && r->method != NGX_HTTP_HEAD))
    {
        return NULL;
    }

    return ctx->cache;
}


static ngx_int_t
ngx_oci_negative_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    size_t                      n;
    ngx_buf_t                  *b;
    ngx_chain_t                *cl;
    ngx_oci_manifest_t         *mf;
    ngx_oci_negative_answer_t  *a;

    mf = ngx_oci_negative_passed(r);

    if (mf == NULL || mf->absent == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    a = mf->absent;

    for (cl = in; cl && mf->absent; cl = cl->next) {

        b = cl->buf;
        n = ngx_buf_in_memory(b) ? (size_t) (b->last - b->pos) : 0;

        if (n > NGX_OCI_NEGATIVE_BODY - (size_t) a->len
            || (n == 0 && b->in_file))
        {
            mf->absent = NULL;
            break;
        }

        if (n) {
            ngx_memcpy(a->body + a->len, b->pos, n);
            a->len += n;
        }

        if (b->last_buf) {
            if (a->length == -1 || a->length == a->len) {
                ngx_oci_negative_put(mf);
            }

            mf->absent = NULL;
        }
    }

    return ngx_http_next_body_filter(r, in);
}


static void
ngx_oci_negative_put(ngx_oci_manifest_t *mf)
{
    uint64_t                  key;
    ngx_oci_negative_cell_t  *cell;

    key = ngx_oci_negative_key(mf);

    ngx_oci_refs_lock(mf->cache);

    cell = ngx_oci_negative_cell(mf->cache->refs->negative, key);

    cell->key = key;
    cell->since = mf->since;
    cell->said = (uint32_t) ngx_time();

    ngx_memcpy(&cell->answer, mf->absent, sizeof(ngx_oci_negative_answer_t));

    ngx_oci_refs_unlock(mf->cache);

    mf->absent = NULL;
}
