
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_route.h"
#include "fuzz.h"


static void fuzz_route(ngx_oci_route_t *route, ngx_str_t *target,
    ngx_str_t *buf);
static int fuzz_segment(u_char *p, u_char *last);
static void fuzz_rebuilt(ngx_oci_route_t *route, ngx_str_t *target);
static void fuzz_text(ngx_str_t *text);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_int_t        rc;
    ngx_str_t        target, buf;
    ngx_uint_t       code;
    ngx_oci_route_t  route;

    target = fuzz_copy(data, size);
    buf.len = NGX_OCI_DIGEST_LEN;
    buf.data = malloc(buf.len);

    if (buf.data == NULL) {
        abort();
    }

    code = NGX_OCI_ERR_UNKNOWN;

    rc = ngx_oci_route_parse(&route, &target, buf.data, &code);

    fuzz_check(rc == NGX_OK || rc == NGX_DECLINED || rc == NGX_ERROR);
    fuzz_check(fuzz_inside(&route.args, &target));
    fuzz_check(fuzz_inside(&route.repository, &target));

    switch (rc) {

    case NGX_OK:
        fuzz_route(&route, &target, &buf);
        break;

    case NGX_DECLINED:
        fuzz_check(code == NGX_OCI_ERR_NAME_UNKNOWN);
        break;

    default:
        fuzz_check(code == NGX_OCI_ERR_NAME_INVALID
                   || code == NGX_OCI_ERR_DIGEST_INVALID
                   || code == NGX_OCI_ERR_TAG_INVALID);
    }

    fuzz_text(&target);

    free(buf.data);
    free(target.data);

    return 0;
}


static void
fuzz_route(ngx_oci_route_t *route, ngx_str_t *target, ngx_str_t *buf)
{
    u_char     *p, *last;
    ngx_str_t   print;

    fuzz_check(route->route < NGX_OCI_ROUTE_N);

    if (route->repository.len) {
        fuzz_check(ngx_oci_name_valid(route->repository.data,
                                      route->repository.len)
                   == NGX_OK);
    }

    fuzz_check(fuzz_inside(&route->reference, target)
               || fuzz_inside(&route->reference, buf));

    /* what goes upstream holds no escape and stays below "/v2" */

    last = target->data + target->len - route->args.len;

    for (p = target->data; p < last && *p != '?'; p++) {
        fuzz_check(*p > 0x20 && *p < 0x7f && *p != '#' && *p != '\\');
        fuzz_check(*p != '%' || route->reference.data == buf->data);
        fuzz_check(!fuzz_segment(p, last));
    }

    switch (route->route) {

    case NGX_OCI_ROUTE_BLOB:
    case NGX_OCI_ROUTE_MANIFEST:
    case NGX_OCI_ROUTE_REFERRERS:
        fuzz_check(route->repository.len);
        fuzz_check(route->digest.alg != NGX_OCI_DIGEST_NONE);

        print.data = malloc(NGX_OCI_DIGEST_LEN);

        if (print.data == NULL) {
            abort();
        }

        print.len = ngx_oci_digest_print(print.data, &route->digest)
                    - print.data;

        fuzz_check(fuzz_equal(&print, &route->reference));

        free(print.data);
        break;

    case NGX_OCI_ROUTE_TAG:
        fuzz_check(route->repository.len);
        fuzz_check(ngx_oci_tag_valid(route->reference.data,
                                     route->reference.len)
                   == NGX_OK);
        break;

    case NGX_OCI_ROUTE_TAGS_LIST:
    case NGX_OCI_ROUTE_UPLOAD:
        fuzz_check(route->repository.len);
        break;

    default:
        fuzz_check(route->digest.alg == NGX_OCI_DIGEST_NONE);
        return;
    }

    fuzz_rebuilt(route, target);
}


/* "//", "/./" or "/../" at p, the latter two also at the end */

static int
fuzz_segment(u_char *p, u_char *last)
{
    size_t  len;

    if (*p++ != '/') {
        return 0;
    }

    for (len = 0; p + len < last; len++) {
        if (p[len] == '/' || p[len] == '?') {
            break;
        }
    }

    if (p + len < last && p[len] == '/' && len == 0) {
        return 1;
    }

    return (len == 1 && p[0] == '.')
           || (len == 2 && p[0] == '.' && p[1] == '.');
}


/* the parts together are the target again, and parse to the same */

static void
fuzz_rebuilt(ngx_oci_route_t *route, ngx_str_t *target)
{
    u_char           *p, buf[NGX_OCI_DIGEST_LEN];
    ngx_str_t         path, given;
    ngx_uint_t        code;
    ngx_oci_route_t   again;

    static const char  *middle[] = {
        "", "", "/blobs/", "/manifests/", "/manifests/", "/referrers/",
        "/tags/list", "/blobs/uploads/"
    };

    path.data = malloc(target->len + sizeof("/"));
    path.len = 0;

    if (path.data == NULL) {
        abort();
    }

    fuzz_add_text(&path, "/v2/");
    fuzz_add_str(&path, &route->repository);
    fuzz_add_text(&path, middle[route->route]);
    fuzz_add_str(&path, &route->reference);

    given.data = target->data;
    p = memchr(target->data, '?', target->len);
    given.len = p ? (size_t) (p - target->data) : target->len;

    if (memchr(given.data, '%', given.len)) {

        /* "%3A" */

        fuzz_check(path.len == given.len - 2);

    } else if (path.len == given.len + 1) {
        fuzz_check(route->route == NGX_OCI_ROUTE_UPLOAD
                   && route->reference.len == 0);

    } else {
        fuzz_check(fuzz_equal(&path, &given));
    }

    fuzz_check(ngx_oci_route_parse(&again, &path, buf, &code) == NGX_OK);
    fuzz_check(again.route == route->route);
    fuzz_check(fuzz_equal(&again.repository, &route->repository));
    fuzz_check(fuzz_equal(&again.reference, &route->reference));
    fuzz_check(ngx_oci_digest_equal(&again.digest, &route->digest));

    free(path.data);
}


/* the parsers of a part, on any text */

static void
fuzz_text(ngx_str_t *text)
{
    u_char            *p, print[NGX_OCI_DIGEST_LEN];
    ngx_int_t          rc;
    ngx_oci_digest_t   digest;

    rc = ngx_oci_digest_parse(&digest, text->data, text->len);

    fuzz_check((rc == NGX_OK) == (digest.alg != NGX_OCI_DIGEST_NONE));

    if (rc == NGX_OK) {
        p = ngx_oci_digest_print(print, &digest);

        fuzz_check((size_t) (p - print) == text->len);
        fuzz_check(memcmp(print, text->data, text->len) == 0);

    } else if (rc == NGX_DECLINED) {
        fuzz_check(text->len <= NGX_OCI_DIGEST_LEN);
        fuzz_check(memchr(text->data, ':', text->len) != NULL);
    }

    if (ngx_oci_tag_valid(text->data, text->len) == NGX_OK) {
        fuzz_check(text->len <= NGX_OCI_TAG_MAX);
        fuzz_check(rc == NGX_ERROR);
    }

    if (ngx_oci_name_valid(text->data, text->len) == NGX_OK) {
        fuzz_check(text->len <= NGX_OCI_NAME_MAX);
        fuzz_check(text->data[0] != '/' && text->data[0] != '.');
        fuzz_check(text->data[text->len - 1] != '/');
    }
}
