
/*
 * Copyright (C) The nginx-oci authors
 *
 * Patterns of repository names.  Pure: needs libc only.
 */


#include "ngx_oci_route.h"


static ngx_uint_t ngx_oci_pattern_glob(const u_char *p, const u_char *end,
    const u_char *s, const u_char *last);


/*
 * "*" stands for any text within one component, also for an empty one beside
 * other text; "**", which is always the last component, for one or more
 * components.  An empty name is matched by "**" alone.
 */

ngx_uint_t
ngx_oci_pattern_match(ngx_str_t *pattern, ngx_str_t *name)
{
    u_char  *p, *end, *s, *last, *pe, *se;

    p = pattern->data;
    end = p + pattern->len;
    s = name->data;
    last = s + name->len;

    if (end - p == 2 && p[0] == '*' && p[1] == '*') {
        return 1;
    }

    if (name->len == 0) {
        return 0;
    }

    for ( ;; ) {

        if (end - p == 2 && p[0] == '*' && p[1] == '*') {
            return 1;
        }

        for (pe = p; pe < end && *pe != '/'; pe++) { /* void */ }
        for (se = s; se < last && *se != '/'; se++) { /* void */ }

        if (!ngx_oci_pattern_glob(p, pe, s, se)) {
            return 0;
        }

        if (pe == end || se == last) {
            return pe == end && se == last;
        }

        p = pe + 1;
        s = se + 1;
    }
}


/* the last "*" takes one more byte whenever what follows doesn't fit */

static ngx_uint_t
ngx_oci_pattern_glob(const u_char *p, const u_char *end, const u_char *s,
    const u_char *last)
{
    const u_char  *star, *from;

    star = NULL;
    from = s;

    while (s < last) {

        if (p < end && *p == '*') {
            star = ++p;
            from = s;
            continue;
        }

        if (p < end && *p == *s) {
            p++;
            s++;
            continue;
        }

        if (star == NULL) {
            return 0;
        }

        p = star;
        s = ++from;
    }

    while (p < end && *p == '*') {
        p++;
    }

    return p == end;
}


const char *
ngx_oci_pattern_check(const char *p, size_t len)
{
    size_t      i, begin;
    ngx_uint_t  stars;

    if (len == 0 || len > NGX_OCI_NAME_MAX) {
        return "a pattern has 1 to 255 bytes";
    }

    stars = 0;
    begin = 0;

    for (i = 0; i <= len; i++) {

        if (i < len && p[i] != '/') {

            if (p[i] == '*') {
                stars++;
                continue;
            }

            if ((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= '0' && p[i] <= '9')
                || p[i] == '.' || p[i] == '_' || p[i] == '-')
            {
                continue;
            }

            return "a pattern is made of lower-case letters, digits, \".\", "
                   "\"_\", \"-\", \"/\" and \"*\"";
        }

        if (i == begin) {
            return "a pattern has no empty components";
        }

        if (i - begin == 2 && p[begin] == '*' && p[begin + 1] == '*') {
            if (i < len) {
                return "\"**\" is the last component of a pattern";
            }

        } else if (memmem(p + begin, i - begin, "**", 2)) {
            return "\"**\" is a component of its own";
        }

        begin = i + 1;
    }

    if (stars > NGX_OCI_PATTERN_STARS) {
        return "a pattern has 8 \"*\" at most";
    }

    return NULL;
}
