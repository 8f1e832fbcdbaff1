
/*
 * Copyright (C) The nginx-oci authors
 *
 * How tokens and keys are written: base64url and JSON.  Pure: needs libc and
 * jansson only.
 */


#include "ngx_oci_jwt.h"


ngx_int_t
ngx_oci_jwt_base64(u_char *dst, size_t *len, const u_char *src, size_t n)
{
    size_t    i;
    u_char    ch;
    uint32_t  bits, v;
    unsigned  have;

    *len = 0;
    bits = 0;
    have = 0;

    for (i = 0; i < n; i++) {
        ch = src[i];

        if (ch >= 'A' && ch <= 'Z') {
            v = ch - 'A';

        } else if (ch >= 'a' && ch <= 'z') {
            v = ch - 'a' + 26;

        } else if (ch >= '0' && ch <= '9') {
            v = ch - '0' + 52;

        } else if (ch == '-') {
            v = 62;

        } else if (ch == '_') {
            v = 63;

        } else {
            return NGX_ERROR;
        }

        bits = (bits << 6) | v;
        have += 6;

        if (have >= 8) {
            have -= 8;
            dst[(*len)++] = (u_char) (bits >> have);
            bits &= (1u << have) - 1;
        }
    }

    /* a last character that gives no byte, or has bits of none */

    return (have == 6 || bits) ? NGX_ERROR : NGX_OK;
}


/* jansson's own limit is 2048 levels, each of which takes stack */

json_t *
ngx_oci_jwt_json(const char *text, size_t len)
{
    size_t      i;
    ngx_uint_t  depth, quoted;

    depth = 0;
    quoted = 0;

    for (i = 0; i < len; i++) {

        if (quoted) {

            if (text[i] == '\\') {
                i++;

            } else if (text[i] == '"') {
                quoted = 0;
            }

            continue;
        }

        switch (text[i]) {

        case '"':
            quoted = 1;
            break;

        case '{':
        case '[':
            if (++depth > NGX_OCI_JWT_DEPTH) {
                return NULL;
            }

            break;

        case '}':
        case ']':
            if (depth == 0) {
                return NULL;
            }

            depth--;
            break;
        }
    }

    return json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
}


ngx_uint_t
ngx_oci_jwt_is(ngx_str_t *s, ngx_str_t *to)
{
    return s->len && s->len == to->len
           && memcmp(s->data, to->data, s->len) == 0;
}
