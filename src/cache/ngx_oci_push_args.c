
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the requests of an upload say.
 */


#define OPENSSL_SUPPRESS_DEPRECATED

#include "ngx_oci_push.h"
#include <openssl/sha.h>


static u_char *ngx_oci_push_value(ngx_str_t *args, const char *name,
    u_char **last, ngx_uint_t *n);
static u_char *ngx_oci_push_number(u_char *p, u_char *last, off_t *n);


ngx_int_t
ngx_oci_push_digest(ngx_str_t *args, ngx_oci_digest_t *digest)
{
    size_t       len;
    u_char      *p, *last, *dst, *src, text[3 * NGX_OCI_DIGEST_LEN];
    ngx_uint_t   n;

    p = ngx_oci_push_value(args, "digest", &last, &n);

    if (p == NULL || (size_t) (last - p) > sizeof(text)) {
        return NGX_DECLINED;
    }

    len = last - p;
    dst = text;
    src = p;

    ngx_unescape_uri(&dst, &src, len, 0);

    return ngx_oci_digest_parse(digest, text, dst - text) == NGX_OK
           ? NGX_OK : NGX_DECLINED;
}


ngx_uint_t
ngx_oci_push_arg(ngx_str_t *args, const char *name)
{
    u_char      *last;
    ngx_uint_t   n;

    (void) ngx_oci_push_value(args, name, &last, &n);

    return n != 0;
}


/* a registry that decodes names, or has other separators, may see what is not
   seen here */

ngx_uint_t
ngx_oci_push_plain(ngx_str_t *args)
{
    u_char      c;
    size_t      i;
    ngx_uint_t  name;

    name = 1;

    for (i = 0; i < args->len; i++) {

        c = args->data[i];

        if (c == ';' || (name && (c == '%' || c == '+'))) {
            return 0;
        }

        if (c == '&') {
            name = 1;

        } else if (c == '=') {
            name = 0;
        }
    }

    return 1;
}


/* of the only argument of that name, as registries may take any of them; NULL:
   it is not there, or more than once.  n: how often */

static u_char *
ngx_oci_push_value(ngx_str_t *args, const char *name, u_char **last,
    ngx_uint_t *n)
{
    size_t   len;
    u_char  *p, *end, *stop, *value;

    *n = 0;
    len = ngx_strlen(name);
    value = NULL;
    stop = args->data + args->len;

    for (p = args->data; p < stop; p = end + 1) {

        end = ngx_strlchr(p, stop, '&');
        if (end == NULL) {
            end = stop;
        }

        if ((size_t) (end - p) <= len || p[len] != '='
            || ngx_strncasecmp(p, (u_char *) name, len) != 0)
        {
            continue;
        }

        value = p + len + 1;
        *last = end;

        (*n)++;
    }

    return (*n == 1) ? value : NULL;
}


/* the query is a state that changes with each answer */

void
ngx_oci_push_key(u_char *key, ngx_oci_registry_t *registry, ngx_str_t *uri)
{
    u_char      *end;
    SHA256_CTX   sha;

    end = ngx_strlchr(uri->data, uri->data + uri->len, '?');
    if (end == NULL) {
        end = uri->data + uri->len;
    }

    (void) SHA256_Init(&sha);
    (void) SHA256_Update(&sha, registry->name.data, registry->name.len);
    (void) SHA256_Update(&sha, "", 1);
    (void) SHA256_Update(&sha, uri->data, end - uri->data);
    (void) SHA256_Final(key, &sha);
}


ngx_int_t
ngx_oci_push_range(ngx_str_t *value, off_t *start, off_t *end)
{
    u_char  *p, *last;

    p = value->data;
    last = p + value->len;

    if (last - p > 6 && ngx_strncasecmp(p, (u_char *) "bytes", 5) == 0
        && (p[5] == ' ' || p[5] == '='))
    {
        p += 6;
    }

    p = ngx_oci_push_number(p, last, start);

    if (p == NULL || p == last || *p != '-') {
        return NGX_ERROR;
    }

    p = ngx_oci_push_number(p + 1, last, end);

    if (p == NULL || (p < last && *p != '/') || *end < *start) {
        return NGX_ERROR;
    }

    *end += 1;

    return NGX_OK;
}


static u_char *
ngx_oci_push_number(u_char *p, u_char *last, off_t *n)
{
    u_char  *digits;

    digits = p;

    while (p < last && *p >= '0' && *p <= '9') {
        p++;
    }

    *n = ngx_atoof(digits, p - digits);

    return (*n == NGX_ERROR || *n == NGX_MAX_OFF_T_VALUE) ? NULL : p;
}
