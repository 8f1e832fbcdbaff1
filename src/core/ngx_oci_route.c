
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_route.h"


#define NGX_OCI_UPLOAD_MAX  1024


typedef struct {
    const char  *name;
    size_t       len;
    ngx_uint_t   alg;
    size_t       size;
} ngx_oci_digest_name_t;


static ngx_int_t ngx_oci_route_path(ngx_oci_route_t *route, u_char *p,
    u_char *last, u_char *buf, ngx_uint_t *code);
static ngx_int_t ngx_oci_route_object(ngx_oci_route_t *route, u_char *p,
    u_char *ref, u_char *last, u_char *buf, ngx_uint_t *code);
static ngx_int_t ngx_oci_route_extension(ngx_oci_route_t *route, u_char *p,
    u_char *last, ngx_uint_t *code);
static ngx_int_t ngx_oci_route_name(ngx_oci_route_t *route, u_char *p,
    u_char *last, ngx_uint_t *code);
static ngx_int_t ngx_oci_route_digest(ngx_oci_route_t *route, u_char *p,
    u_char *last, u_char *buf, ngx_uint_t *code);
static ngx_int_t ngx_oci_route_upload(ngx_oci_route_t *route, u_char *p,
    u_char *last, ngx_uint_t *code);
static u_char *ngx_oci_route_rfind(u_char *p, u_char *last, const char *s,
    size_t len);
static ngx_int_t ngx_oci_component_valid(u_char *p, u_char *last);


static ngx_oci_digest_name_t  ngx_oci_digest_names[] = {
    { "sha256:", 7, NGX_OCI_SHA256, 32 },
    { "sha512:", 7, NGX_OCI_SHA512, 64 },
    { NULL, 0, 0, 0 }
};


#define ngx_oci_alnum(c)                                                      \
    (((c) >= 'a' && (c) <= 'z') || ((c) >= '0' && (c) <= '9'))

#define ngx_oci_upper(c)  ((c) >= 'A' && (c) <= 'Z')


ngx_int_t
ngx_oci_route_parse(ngx_oci_route_t *route, ngx_str_t *target, u_char *buf,
    ngx_uint_t *code)
{
    u_char  *p, *last, *q;

    memset(route, 0, sizeof(ngx_oci_route_t));

    p = target->data;
    last = p + target->len;

    *code = NGX_OCI_ERR_NAME_UNKNOWN;

    for (q = p; q < last; q++) {

        if (*q == '?') {
            route->args.data = q + 1;
            route->args.len = last - q - 1;
            last = q;
            break;
        }

        if (*q <= 0x20 || *q >= 0x7f || *q == '#' || *q == '\\') {
            *code = NGX_OCI_ERR_NAME_INVALID;
            return NGX_ERROR;
        }
    }

    for (q = last; q < target->data + target->len; q++) {

        if (*q <= 0x20 || *q == 0x7f || *q == '#') {
            *code = NGX_OCI_ERR_NAME_INVALID;
            return NGX_ERROR;
        }
    }

    if (last - p < 3 || memcmp(p, "/v2", 3) != 0) {
        return NGX_DECLINED;
    }

    p += 3;

    if (p == last || (last - p == 1 && *p == '/')) {
        route->route = NGX_OCI_ROUTE_PING;
        return NGX_OK;
    }

    if (*p != '/') {
        return NGX_DECLINED;
    }

    /* "//", "." and ".." are nowhere legal */

    for (q = p; q < last; q++) {

        if (*q != '/') {
            continue;
        }

        if ((q + 1 < last && q[1] == '/')
            || (q + 1 < last && q[1] == '.'
                && (q + 2 == last || q[2] == '/'
                    || (q[2] == '.' && (q + 3 == last || q[3] == '/')))))
        {
            *code = NGX_OCI_ERR_NAME_INVALID;
            return NGX_ERROR;
        }
    }

    return ngx_oci_route_path(route, p + 1, last, buf, code);
}


/*
 * A component of a name may itself be called "blobs" or "manifests": the
 * path is read from the right.
 */

static ngx_int_t
ngx_oci_route_path(ngx_oci_route_t *route, u_char *p, u_char *last,
    u_char *buf, ngx_uint_t *code)
{
    u_char     *q, *ref;
    ngx_int_t   rc;

    if (*p == '_') {

        /* "_catalog" and extensions of the registry */

        return ngx_oci_route_extension(route, p, last, code);
    }

    if (last - p > 10 && memcmp(last - 10, "/tags/list", 10) == 0) {
        route->route = NGX_OCI_ROUTE_TAGS_LIST;
        return ngx_oci_route_name(route, p, last - 10, code);
    }

    if (last - p > 14 && memcmp(last - 14, "/blobs/uploads", 14) == 0) {
        route->route = NGX_OCI_ROUTE_UPLOAD;
        return ngx_oci_route_name(route, p, last - 14, code);
    }

    for (ref = last; ref > p && ref[-1] != '/'; ref--) { /* void */ }

    if (ref > p && ref < last) {
        rc = ngx_oci_route_object(route, p, ref, last, buf, code);
        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    /*
     * an upload's id may hold slashes; one that ends as the path of a
     * manifest does is none: the upstream could see the manifest of a
     * repository "<name>/blobs/uploads/..." there
     */

    q = ngx_oci_route_rfind(p, last, "/blobs/uploads/", 15);

    if (q) {
        rc = ngx_oci_route_name(route, p, q, code);
        if (rc != NGX_OK) {
            return rc;
        }

        return ngx_oci_route_upload(route, q + 15, last, code);
    }

    if (ref == last) {
        return NGX_DECLINED;
    }

    /* "<name>/_<extension>/<component>/<module>" */

    q = ngx_oci_route_rfind(p, last, "/_", 2);

    if (q && ngx_oci_route_name(route, p, q, code) == NGX_OK) {
        return ngx_oci_route_extension(route, q, last, code);
    }

    *code = NGX_OCI_ERR_NAME_UNKNOWN;

    return NGX_DECLINED;
}


/* "<name>/blobs/", "/referrers/" or "/manifests/" before the reference */

static ngx_int_t
ngx_oci_route_object(ngx_oci_route_t *route, u_char *p, u_char *ref,
    u_char *last, u_char *buf, ngx_uint_t *code)
{
    u_char      *q;
    ngx_int_t    rc;
    ngx_uint_t   type;

    q = ref - 1;

    if (q - p > 6 && memcmp(q - 6, "/blobs", 6) == 0) {
        type = NGX_OCI_ROUTE_BLOB;
        q -= 6;

    } else if (q - p > 10 && memcmp(q - 10, "/referrers", 10) == 0) {
        type = NGX_OCI_ROUTE_REFERRERS;
        q -= 10;

    } else if (q - p > 10 && memcmp(q - 10, "/manifests", 10) == 0) {
        type = NGX_OCI_ROUTE_MANIFEST;
        q -= 10;

    } else {
        return NGX_DECLINED;
    }

    route->route = type;

    rc = ngx_oci_route_name(route, p, q, code);
    if (rc != NGX_OK) {
        return rc;
    }

    if (type == NGX_OCI_ROUTE_MANIFEST) {

        if (ngx_oci_tag_valid(ref, last - ref) == NGX_OK) {
            route->route = NGX_OCI_ROUTE_TAG;
            route->reference.data = ref;
            route->reference.len = last - ref;
            return NGX_OK;
        }

        if (memchr(ref, ':', last - ref) == NULL
            && memchr(ref, '%', last - ref) == NULL)
        {
            *code = NGX_OCI_ERR_TAG_INVALID;
            return NGX_ERROR;
        }
    }

    return ngx_oci_route_digest(route, ref, last, buf, code);
}


static ngx_int_t
ngx_oci_route_extension(ngx_oci_route_t *route, u_char *p, u_char *last,
    ngx_uint_t *code)
{
    if (memchr(p, '%', last - p)) {
        *code = NGX_OCI_ERR_NAME_INVALID;
        return NGX_ERROR;
    }

    route->route = NGX_OCI_ROUTE_OTHER;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_route_name(ngx_oci_route_t *route, u_char *p, u_char *last,
    ngx_uint_t *code)
{
    if (ngx_oci_name_valid(p, last - p) != NGX_OK) {
        *code = NGX_OCI_ERR_NAME_INVALID;
        return NGX_ERROR;
    }

    route->repository.data = p;
    route->repository.len = last - p;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_route_digest(ngx_oci_route_t *route, u_char *p, u_char *last,
    u_char *buf, ngx_uint_t *code)
{
    size_t     len;
    u_char    *q;
    ngx_int_t  rc;

    *code = NGX_OCI_ERR_DIGEST_INVALID;

    q = memchr(p, '%', last - p);

    if (q) {
        if (last - q < 3 || q[1] != '3' || (q[2] != 'A' && q[2] != 'a')
            || (size_t) (last - p - 2) > NGX_OCI_DIGEST_LEN)
        {
            return NGX_ERROR;
        }

        len = q - p;
        memcpy(buf, p, len);
        buf[len++] = ':';
        memcpy(buf + len, q + 3, last - q - 3);
        len += last - q - 3;

        p = buf;
        last = buf + len;
    }

    rc = ngx_oci_digest_parse(&route->digest, p, last - p);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    route->reference.data = p;
    route->reference.len = last - p;

    if (rc == NGX_DECLINED) {
        route->route = NGX_OCI_ROUTE_OTHER;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_route_upload(ngx_oci_route_t *route, u_char *p, u_char *last,
    ngx_uint_t *code)
{
    u_char  c, *q;

    *code = NGX_OCI_ERR_NAME_INVALID;

    if (last - p > NGX_OCI_UPLOAD_MAX) {
        return NGX_ERROR;
    }

    for (q = p; q < last; q++) {
        c = *q;

        if (!ngx_oci_alnum(c) && !ngx_oci_upper(c)
            && memchr("-._~=+:/", c, 8) == NULL)
        {
            return NGX_ERROR;
        }
    }

    route->route = NGX_OCI_ROUTE_UPLOAD;
    route->reference.data = p;
    route->reference.len = last - p;

    return NGX_OK;
}


static u_char *
ngx_oci_route_rfind(u_char *p, u_char *last, const char *s, size_t len)
{
    u_char  *q;

    if ((size_t) (last - p) < len) {
        return NULL;
    }

    for (q = last - len; q > p; q--) {
        if (memcmp(q, s, len) == 0) {
            return q;
        }
    }

    return NULL;
}


ngx_int_t
ngx_oci_digest_parse(ngx_oci_digest_t *digest, u_char *p, size_t len)
{
    u_char                 *last, *q, c;
    size_t                  i, n;
    ngx_uint_t              hi;
    ngx_oci_digest_name_t  *name;

    memset(digest, 0, sizeof(ngx_oci_digest_t));

    last = p + len;

    for (name = ngx_oci_digest_names; name->name; name++) {

        if (len < name->len || memcmp(p, name->name, name->len) != 0) {
            continue;
        }

        if (len != name->len + 2 * name->size) {
            return NGX_ERROR;
        }

        q = p + name->len;

        for (i = 0; i < 2 * name->size; i++) {
            c = q[i];

            if (c >= '0' && c <= '9') {
                n = c - '0';

            } else if (c >= 'a' && c <= 'f') {
                n = c - 'a' + 10;

            } else {
                memset(digest, 0, sizeof(ngx_oci_digest_t));
                return NGX_ERROR;
            }

            hi = (i & 1) ? digest->bytes[i / 2] : 0;
            digest->bytes[i / 2] = (u_char) (hi * 16 + n);
        }

        digest->alg = name->alg;
        digest->size = name->size;

        return NGX_OK;
    }

    /* algorithm: components of [a-z0-9]+ between one of [+._-] */

    for (q = p; q < last && *q != ':'; q++) {
        c = *q;

        if (ngx_oci_alnum(c)) {
            continue;
        }

        if (memchr("+._-", c, 4) == NULL || q == p || q + 1 == last
            || !ngx_oci_alnum(q[1]))
        {
            return NGX_ERROR;
        }
    }

    if (q == p || q >= last - 1 || len > NGX_OCI_DIGEST_LEN) {
        return NGX_ERROR;
    }

    for (q++; q < last; q++) {
        c = *q;

        if (!ngx_oci_alnum(c) && !ngx_oci_upper(c)
            && memchr("=_-", c, 3) == NULL)
        {
            return NGX_ERROR;
        }
    }

    return NGX_DECLINED;
}


u_char *
ngx_oci_digest_print(u_char *p, ngx_oci_digest_t *digest)
{
    size_t                  i;
    ngx_oci_digest_name_t  *name;

    static const u_char     hex[] = "0123456789abcdef";

    for (name = ngx_oci_digest_names; name->name; name++) {
        if (name->alg == digest->alg) {
            memcpy(p, name->name, name->len);
            p += name->len;
            break;
        }
    }

    for (i = 0; i < digest->size; i++) {
        *p++ = hex[digest->bytes[i] >> 4];
        *p++ = hex[digest->bytes[i] & 0xf];
    }

    return p;
}


ngx_int_t
ngx_oci_name_valid(u_char *p, size_t len)
{
    u_char  *last, *q;

    if (len == 0 || len > NGX_OCI_NAME_MAX) {
        return NGX_ERROR;
    }

    last = p + len;

    for ( ;; ) {
        for (q = p; q < last && *q != '/'; q++) { /* void */ }

        if (ngx_oci_component_valid(p, q) != NGX_OK) {
            return NGX_ERROR;
        }

        if (q == last) {
            return NGX_OK;
        }

        p = q + 1;
    }
}


/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* */

static ngx_int_t
ngx_oci_component_valid(u_char *p, u_char *last)
{
    u_char  *q;

    if (p == last || !ngx_oci_alnum(*p) || !ngx_oci_alnum(last[-1])) {
        return NGX_ERROR;
    }

    while (p < last) {

        if (ngx_oci_alnum(*p)) {
            p++;
            continue;
        }

        for (q = p; q < last && !ngx_oci_alnum(*q); q++) {
            if (*q != *p) {
                return NGX_ERROR;
            }
        }

        switch (*p) {

        case '-':
            break;

        case '_':
            if (q - p > 2) {
                return NGX_ERROR;
            }
            break;

        case '.':
            if (q - p > 1) {
                return NGX_ERROR;
            }
            break;

        default:
            return NGX_ERROR;
        }

        p = q;
    }

    return NGX_OK;
}


ngx_int_t
ngx_oci_tag_valid(u_char *p, size_t len)
{
    size_t  i;
    u_char  c;

    if (len == 0 || len > NGX_OCI_TAG_MAX) {
        return NGX_ERROR;
    }

    for (i = 0; i < len; i++) {
        c = p[i];

        if (ngx_oci_alnum(c) || ngx_oci_upper(c) || c == '_'
            || (i && (c == '.' || c == '-')))
        {
            continue;
        }

        return NGX_ERROR;
    }

    return NGX_OK;
}
