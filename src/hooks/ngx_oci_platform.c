
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_platform.h"

#include <stdio.h>


static ngx_uint_t ngx_oci_platform_char(char ch);
static ngx_uint_t ngx_oci_platform_is(const char *p, size_t len,
    const char *os, const char *architecture, const char *variant);
static ngx_uint_t ngx_oci_platform_part(const char **p, const char *last,
    const char *value);


static ngx_uint_t
ngx_oci_platform_char(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
           || (ch >= '0' && ch <= '9') || ch == '.' || ch == '-'
           || ch == '_';
}


ngx_int_t
ngx_oci_platforms_valid(const char *list, size_t len)
{
    size_t      i;
    ngx_uint_t  slashes, chars;

    if (len == 0 || len > NGX_OCI_PLATFORMS) {
        return NGX_ERROR;
    }

    slashes = 0;
    chars = 0;

    for (i = 0; i <= len; i++) {

        if (i < len && ngx_oci_platform_char(list[i])) {
            chars++;
            continue;
        }

        /* each part has something */

        if (chars == 0) {
            return NGX_ERROR;
        }

        chars = 0;

        if (i < len && list[i] == '/' && slashes < 2) {
            slashes++;
            continue;
        }

        if ((i < len && list[i] != ',') || slashes == 0) {
            return NGX_ERROR;
        }

        slashes = 0;
    }

    return NGX_OK;
}


ngx_uint_t
ngx_oci_platforms_have(ngx_str_t *list, const char *os,
    const char *architecture, const char *variant)
{
    const char  *p, *end, *last;

    p = (const char *) list->data;
    last = p + list->len;

    for ( /* void */ ; p < last; p = end + 1) {

        end = memchr(p, ',', last - p);

        if (end == NULL) {
            end = last;
        }

        if (ngx_oci_platform_is(p, end - p, os, architecture, variant)) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_oci_platform_is(const char *p, size_t len, const char *os,
    const char *architecture, const char *variant)
{
    const char  *last;

    last = p + len;

    if (!ngx_oci_platform_part(&p, last, os)
        || !ngx_oci_platform_part(&p, last, architecture))
    {
        return 0;
    }

    if (p == last) {
        return 1;
    }

    if (variant == NULL || variant[0] == '\0') {

        if (strcmp(architecture, "arm64") != 0) {
            return 0;
        }

        variant = "v8";
    }

    return ngx_oci_platform_part(&p, last, variant);
}


/* the next one of a list's entry, and what parts it from the one that
   follows */

static ngx_uint_t
ngx_oci_platform_part(const char **p, const char *last, const char *value)
{
    size_t       len;
    const char  *start, *end;

    start = *p;
    end = memchr(start, '/', last - start);

    if (end == NULL) {
        end = last;
    }

    len = end - start;
    *p = (end == last) ? last : end + 1;

    return strlen(value) == len && memcmp(start, value, len) == 0;
}


ngx_uint_t
ngx_oci_platforms_listed(ngx_str_t *list, ngx_str_t *text)
{
    u_char  *p, *end, *last;

    last = list->data + list->len;

    for (p = list->data; p < last; p = end + 1) {

        end = memchr(p, ',', last - p);

        if (end == NULL) {
            end = last;
        }

        if ((size_t) (end - p) == text->len
            && memcmp(p, text->data, text->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


size_t
ngx_oci_platform_text(char *buf, const char *os, const char *architecture,
    const char *variant)
{
    char  *p;
    int    n;

    n = snprintf(buf, NGX_OCI_PLATFORM_TEXT, "%.32s/%.32s%s%.24s", os,
                 architecture, (variant && variant[0]) ? "/" : "",
                 variant ? variant : "");

    for (p = buf; *p; p++) {
        if (!ngx_oci_platform_char(*p) && *p != '/') {
            *p = '?';
        }
    }

    return (size_t) n;
}
