
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_header.h"


static u_char *ngx_oci_header_number(u_char *p, u_char *last, off_t *n);
static u_char *ngx_oci_header_ows(u_char *p, u_char *last);
static u_char *ngx_oci_header_token(u_char *p, u_char *last);
static u_char *ngx_oci_challenge_token68(u_char *p, u_char *last);
static u_char *ngx_oci_challenge_params(u_char *p, u_char *last,
    ngx_oci_challenge_t *ch);
static ngx_int_t ngx_oci_url_authority(ngx_oci_url_t *url, u_char *p,
    u_char *last);
static ngx_int_t ngx_oci_url_ipv6(u_char *p, size_t len);
static ngx_int_t ngx_oci_url_host(u_char *p, size_t len);


#define NGX_OCI_OFF_MAX  0x7fffffffffffffffLL


/* digits; NULL if there are none; a number that is too large is the
   largest */

static u_char *
ngx_oci_header_number(u_char *p, u_char *last, off_t *n)
{
    off_t    v, cutoff, cutlim;
    u_char  *start;

    cutoff = NGX_OCI_OFF_MAX / 10;
    cutlim = NGX_OCI_OFF_MAX % 10;

    start = p;
    v = 0;

    for ( /* void */ ; p < last && *p >= '0' && *p <= '9'; p++) {

        if (v > cutoff || (v == cutoff && *p - '0' > cutlim)) {
            v = NGX_OCI_OFF_MAX;
            continue;
        }

        v = v * 10 + (*p - '0');
    }

    if (p == start) {
        return NULL;
    }

    *n = v;

    return p;
}


static u_char *
ngx_oci_header_ows(u_char *p, u_char *last)
{
    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    return p;
}


ngx_table_elt_t *
ngx_oci_header_find(ngx_list_t *headers, ngx_oci_header_at_t *at,
    const char *name)
{
    size_t                len;
    ngx_table_elt_t      *h;
    ngx_oci_header_at_t   first;

    if (at == NULL) {
        at = &first;
        at->part = NULL;
    }

    if (at->part == NULL) {
        at->part = &headers->part;
        at->i = 0;
    }

    len = ngx_strlen(name);

    for ( ;; ) {

        if (at->i >= at->part->nelts) {

            if (at->part->next == NULL) {
                return NULL;
            }

            at->part = at->part->next;
            at->i = 0;
            continue;
        }

        h = at->part->elts;
        h += at->i++;

        /* of a hash that is 0: taken back */

        if (h->hash && h->key.len == len
            && strncasecmp((char *) h->key.data, name, len) == 0)
        {
            return h;
        }
    }
}


ngx_int_t
ngx_oci_range_parse(ngx_str_t *value, off_t size, ngx_oci_range_t *ranges,
    ngx_uint_t max)
{
    off_t        start, end;
    u_char      *p, *last;
    ngx_uint_t   n, named, many;

    p = value->data;
    last = p + value->len;

    if (value->len < 7
        || (p[0] | 0x20) != 'b' || (p[1] | 0x20) != 'y'
        || (p[2] | 0x20) != 't' || (p[3] | 0x20) != 'e'
        || (p[4] | 0x20) != 's' || p[5] != '=')
    {
        return 0;
    }

    p += 6;
    n = 0;
    named = 0;
    many = 0;

    for ( ;; ) {

        p = ngx_oci_header_ows(p, last);

        if (p < last && *p == '-') {

            /* the last bytes */

            p = ngx_oci_header_number(p + 1, last, &end);
            if (p == NULL) {
                return 0;
            }

            start = (end > size) ? 0 : size - end;
            end = (start == size) ? 0 : size;

        } else {

            p = ngx_oci_header_number(p, last, &start);
            if (p == NULL || p == last || *p != '-') {
                return 0;
            }

            p++;

            if (p < last && *p >= '0' && *p <= '9') {
                p = ngx_oci_header_number(p, last, &end);
                if (p == NULL) {
                    return 0;
                }

                end = (end >= size) ? size : end + 1;

            } else {
                end = size;
            }
        }

        if (named++ == max) {
            many = 1;
        }

        if (start < end && !many) {
            ranges[n].start = start;
            ranges[n].end = end;
            n++;
        }

        p = ngx_oci_header_ows(p, last);

        if (p == last) {
            break;
        }

        if (*p++ != ',') {
            return 0;
        }
    }

    if (many) {
        return NGX_ERROR;
    }

    return n ? (ngx_int_t) n : NGX_DECLINED;
}


ngx_int_t
ngx_oci_content_range_parse(ngx_str_t *value, off_t *start, off_t *end,
    off_t *total)
{
    u_char  *p, *last;

    p = value->data;
    last = p + value->len;

    *start = -1;
    *end = -1;
    *total = -1;

    if (value->len < 9 || strncasecmp((char *) p, "bytes ", 6) != 0) {
        return NGX_ERROR;
    }

    p += 6;

    if (*p == '*') {
        p++;

        if (p == last || *p++ != '/') {
            return NGX_ERROR;
        }

        p = ngx_oci_header_number(p, last, total);

        return (p == last && *total != NGX_OCI_OFF_MAX) ? NGX_OK : NGX_ERROR;
    }

    p = ngx_oci_header_number(p, last, start);
    if (p == NULL || p == last || *p++ != '-') {
        return NGX_ERROR;
    }

    p = ngx_oci_header_number(p, last, end);
    if (p == NULL || p == last || *p++ != '/' || *end == NGX_OCI_OFF_MAX
        || *end < *start)
    {
        return NGX_ERROR;
    }

    (*end)++;

    if (last - p == 1 && *p == '*') {
        return NGX_OK;
    }

    p = ngx_oci_header_number(p, last, total);

    if (p != last || *total == NGX_OCI_OFF_MAX || *end > *total) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static u_char *
ngx_oci_header_token(u_char *p, u_char *last)
{
    while (p < last
           && ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')
               || (*p >= '0' && *p <= '9')
               || (*p && memchr("!#$%&'*+-.^_`|~", *p, 15) != NULL)))
    {
        p++;
    }

    return p;
}


ngx_int_t
ngx_oci_challenge_parse(ngx_str_t *value, ngx_oci_challenge_t *ch)
{
    u_char               *p, *last, *q;
    ngx_uint_t            found, bearer;
    ngx_oci_challenge_t   c, basic;

    memset(ch, 0, sizeof(ngx_oci_challenge_t));
    memset(&basic, 0, sizeof(ngx_oci_challenge_t));

    p = value->data;
    last = p + value->len;
    found = 0;

    while (p < last) {

        p = ngx_oci_header_ows(p, last);

        if (p < last && *p == ',') {
            p++;
            continue;
        }

        if (p == last) {
            break;
        }

        memset(&c, 0, sizeof(ngx_oci_challenge_t));

        q = ngx_oci_header_token(p, last);
        if (q == p) {
            return NGX_ERROR;
        }

        c.scheme.data = p;
        c.scheme.len = q - p;

        bearer = (c.scheme.len == 6
                  && strncasecmp((char *) p, "Bearer", 6) == 0);

        if (!bearer
            && !(c.scheme.len == 5
                 && strncasecmp((char *) p, "Basic", 5) == 0))
        {
            p = ngx_oci_challenge_token68(q, last);
            p = ngx_oci_challenge_params(p, last, &c);

            if (p == NULL) {
                return NGX_ERROR;
            }

            continue;
        }

        p = ngx_oci_challenge_params(q, last, &c);
        if (p == NULL) {
            return NGX_ERROR;
        }

        if (bearer) {
            *ch = c;
            return NGX_OK;
        }

        if (!found) {
            basic = c;
            found = 1;
        }
    }

    if (found) {
        *ch = basic;
        return NGX_OK;
    }

    return NGX_DECLINED;
}


/*
 * Skips " <token68>", which may end in "=", where a comma or the end
 * follows: else it's the name of a parameter.
 */

static u_char *
ngx_oci_challenge_token68(u_char *p, u_char *last)
{
    u_char  *q, *start;

    start = ngx_oci_header_ows(p, last);

    for (q = start; q < last; q++) {

        if (!((*q >= 'a' && *q <= 'z') || (*q >= 'A' && *q <= 'Z')
              || (*q >= '0' && *q <= '9')
              || memchr("-._~+/", *q, 6) != NULL))
        {
            break;
        }
    }

    if (start == p || q == start) {
        return p;
    }

    while (q < last && *q == '=') {
        q++;
    }

    q = ngx_oci_header_ows(q, last);

    return (q == last || *q == ',') ? q : p;
}


/* name=value pairs up to the next scheme; NULL if malformed */

static u_char *
ngx_oci_challenge_params(u_char *p, u_char *last, ngx_oci_challenge_t *ch)
{
    u_char     *q, *start;
    ngx_str_t   name, text;

    for ( ;; ) {

        start = p;
        p = ngx_oci_header_ows(p, last);

        while (p < last && *p == ',') {
            p = ngx_oci_header_ows(p + 1, last);
        }

        if (p == last) {
            return p;
        }

        q = ngx_oci_header_token(p, last);
        if (q == p) {
            return NULL;
        }

        name.data = p;
        name.len = q - p;

        p = ngx_oci_header_ows(q, last);

        if (p == last || *p != '=') {

            /* the next challenge's scheme */

            return (start == name.data) ? NULL : name.data;
        }

        p = ngx_oci_header_ows(p + 1, last);

        if (p < last && *p == '"') {
            text.data = ++p;

            while (p < last && *p != '"') {
                if (*p == '\\' || *p < 0x20 || *p == 0x7f) {
                    return NULL;
                }

                p++;
            }

            if (p == last) {
                return NULL;
            }

            text.len = p++ - text.data;

        } else {
            text.data = p;
            p = ngx_oci_header_token(p, last);
            text.len = p - text.data;

            if (text.len == 0) {
                return NULL;
            }
        }

        if (p < last && *p != ',' && *p != ' ' && *p != '\t') {
            return NULL;
        }

        if (name.len == 5
            && strncasecmp((char *) name.data, "realm", 5) == 0)
        {
            ch->realm = text;

        } else if (name.len == 7
                   && strncasecmp((char *) name.data, "service", 7) == 0)
        {
            ch->service = text;

        } else if (name.len == 5
                   && strncasecmp((char *) name.data, "scope", 5) == 0)
        {
            ch->scope = text;

        } else if (name.len == 5
                   && strncasecmp((char *) name.data, "error", 5) == 0)
        {
            ch->error = text;
        }
    }
}


ngx_uint_t
ngx_oci_type_is_page(ngx_str_t *value)
{
    size_t       len;
    ngx_uint_t   i;

    static ngx_str_t  pages[] = {
        ngx_string("text/html"),
        ngx_string("application/xhtml+xml")
    };

    /* parameters follow */

    for (len = 0; len < value->len; len++) {
        if (value->data[len] == ';' || value->data[len] == ' '
            || value->data[len] == '\t')
        {
            break;
        }
    }

    for (i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (len == pages[i].len
            && strncasecmp((char *) value->data, (char *) pages[i].data, len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_oci_link_parse(ngx_str_t *value, ngx_str_t *target)
{
    u_char  *p, *q, *last;

    p = value->data;
    last = p + value->len;

    p = ngx_oci_header_ows(p, last);

    if (p == last || *p != '<') {
        return NGX_ERROR;
    }

    for (q = ++p; q < last && *q != '>'; q++) {
        if (*q <= 0x20 || *q == 0x7f || *q == '<' || *q == '"') {
            return NGX_ERROR;
        }
    }

    if (q == last || q == p) {
        return NGX_ERROR;
    }

    target->data = p;
    target->len = q - p;

    return NGX_OK;
}


ngx_int_t
ngx_oci_url_parse(ngx_str_t *value, ngx_oci_url_t *url)
{
    u_char  *p, *q, *last;

    memset(url, 0, sizeof(ngx_oci_url_t));

    p = value->data;
    last = p + value->len;

    for (q = p; q < last; q++) {
        if (*q <= 0x20 || *q >= 0x7f || *q == '\\' || *q == '#') {
            return NGX_ERROR;
        }
    }

    if (value->len && *p == '/') {

        /* "//host" would leave the origin */

        if (value->len > 1 && p[1] == '/') {
            return NGX_ERROR;
        }

        url->uri = *value;
        return NGX_OK;
    }

    if (value->len > 7 && strncasecmp((char *) p, "http://", 7) == 0) {
        ngx_str_set(&url->scheme, "http");
        url->port = 80;
        p += 7;

    } else if (value->len > 8 && strncasecmp((char *) p, "https://", 8) == 0)
    {
        ngx_str_set(&url->scheme, "https");
        url->port = 443;
        p += 8;

    } else {
        return NGX_ERROR;
    }

    url->absolute = 1;

    for (q = p; q < last && *q != '/' && *q != '?'; q++) { /* void */ }

    if (ngx_oci_url_authority(url, p, q) != NGX_OK) {
        return NGX_ERROR;
    }

    if (q == last) {
        ngx_str_set(&url->uri, "/");
        return NGX_OK;
    }

    if (*q == '?') {

        /* a request target begins with a path */

        return NGX_ERROR;
    }

    url->uri.data = q;
    url->uri.len = last - q;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_url_authority(ngx_oci_url_t *url, u_char *p, u_char *last)
{
    off_t    port;
    u_char  *q;

    if (p == last || memchr(p, '@', last - p)) {
        return NGX_ERROR;
    }

    url->host.data = p;
    url->authority.data = p;
    url->authority.len = last - p;

    if (*p == '[') {

        q = memchr(p, ']', last - p);

        if (q == NULL || ngx_oci_url_ipv6(p + 1, q - p - 1) != NGX_OK) {
            return NGX_ERROR;
        }

        q++;

    } else {
        for (q = p; q < last && *q != ':'; q++) { /* void */ }

        if (ngx_oci_url_host(p, q - p) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    url->host.len = q - p;

    if (q == last) {
        return NGX_OK;
    }

    if (*q != ':' || last - q > 6) {
        return NGX_ERROR;
    }

    q = ngx_oci_header_number(q + 1, last, &port);

    if (q != last || port < 1 || port > 65535) {
        return NGX_ERROR;
    }

    url->port = (in_port_t) port;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_url_ipv6(u_char *p, size_t len)
{
    char             text[sizeof("ffff:ffff:ffff:ffff:ffff:ffff:"
                                 "255.255.255.255")];
    struct in6_addr  addr;

    if (len >= sizeof(text)) {
        return NGX_ERROR;
    }

    memcpy(text, p, len);
    text[len] = '\0';

    return (inet_pton(AF_INET6, text, &addr) == 1) ? NGX_OK : NGX_ERROR;
}


/*
 * A name, or a canonical dotted quad: a last label of digits, or one that
 * begins with "0x", is a number to inet_aton().
 */

static ngx_int_t
ngx_oci_url_host(u_char *p, size_t len)
{
    off_t        n;
    u_char      *last, *q, *label;
    ngx_uint_t   numbers, labels, digits;

    if (len == 0 || len > 253) {
        return NGX_ERROR;
    }

    last = p + len;
    numbers = 0;
    labels = 0;
    digits = 0;

    for ( ;; ) {
        label = p;
        digits = 1;

        for ( /* void */ ; p < last && *p != '.'; p++) {
            if (*p >= '0' && *p <= '9') {
                continue;
            }

            digits = 0;

            if (!((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z')
                && *p != '-' && *p != '_')
            {
                return NGX_ERROR;
            }
        }

        if (p == label) {
            return NGX_ERROR;
        }

        labels++;

        if (digits) {
            q = ngx_oci_header_number(label, p, &n);

            if (q != p || n > 255 || (p - label > 1 && *label == '0')) {
                n = -1;
            }

            numbers += (n >= 0);

        } else if (p - label > 1 && label[0] == '0'
                   && (label[1] | 0x20) == 'x')
        {
            digits = 1;
        }

        if (p == last) {
            break;
        }

        if (++p == last) {

            /* one dot at the end is that of the root */

            return digits ? NGX_ERROR : NGX_OK;
        }
    }

    if (!digits) {
        return NGX_OK;
    }

    return (numbers == 4 && labels == 4) ? NGX_OK : NGX_ERROR;
}


void
ngx_oci_log_text(ngx_str_t *text, u_char *buf, ngx_str_t *value)
{
    u_char         c, *p, *last;
    size_t         i;

    static u_char  hex[] = "0123456789ABCDEF";

    p = buf;
    last = buf + NGX_OCI_LOG_TEXT - 3;

    for (i = 0; i < value->len; i++) {
        c = value->data[i];

        if (last - p < 4) {
            memcpy(p, "...", 3);
            p += 3;
            break;
        }

        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\') {
            *p++ = '\\';
            *p++ = 'x';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 0xf];

        } else {
            *p++ = c;
        }
    }

    text->data = buf;
    text->len = p - buf;
}
