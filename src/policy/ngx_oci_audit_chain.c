
/*
 * Copyright (C) The nginx-oci authors
 *
 * Lines of an audit log are written.
 */


#include "ngx_oci_audit_chain.h"

#include <openssl/rand.h>
#include <openssl/sha.h>
#include <time.h>


#define NGX_OCI_AUDIT_HEX  (2 * NGX_OCI_AUDIT_HASH)


static size_t ngx_oci_audit_utf8(const u_char *p, size_t len, uint32_t *ch);
static void ngx_oci_audit_member(ngx_oci_audit_out_t *out, const char *name,
    const void *value, size_t len, ngx_uint_t quoted);
static void ngx_oci_audit_digits(u_char *p, const u_char *hash);

/* bytes of a character, 0: it is not one */

static size_t
ngx_oci_audit_utf8(const u_char *p, size_t len, uint32_t *ch)
{
    size_t    i, n;
    uint32_t  c;

    c = p[0];

    if (c < 0x80) {
        *ch = c;
        return 1;
    }

    n = (c >= 0xc2 && c < 0xe0) ? 2 : (c >= 0xe0 && c < 0xf0) ? 3
        : (c >= 0xf0 && c < 0xf5) ? 4 : 0;

    if (n == 0 || n > len) {
        return 0;
    }

    c &= 0xff >> (n + 1);

    for (i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }

        c = (c << 6) | (p[i] & 0x3f);
    }

    if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000)))
        || (n == 4 && (c < 0x10000 || c > 0x10ffff)))
    {
        return 0;
    }

    *ch = c;

    return n;
}


void
ngx_oci_audit_string(ngx_oci_audit_out_t *out, const char *name,
    ngx_str_t *value, size_t max)
{
    char                 text[16];
    size_t               i, n, len, left;
    uint32_t             ch;
    ngx_oci_audit_out_t  o;

    if (value->len == 0) {
        return;
    }

    o = *out;
    ngx_oci_audit_member(&o, name, "\"", 1, 0);

    if (o.pos == out->pos) {
        return;
    }

    left = ngx_min(max, (size_t) (o.last - o.pos));

    for (i = 0; i < value->len; i += n) {

        n = ngx_oci_audit_utf8(value->data + i, value->len - i, &ch);

        if (n == 0) {
            n = 1;
            ch = 0xfffd;
        }

        if (ch == '"' || ch == '\\') {
            len = snprintf(text, sizeof(text), "\\%c", (int) ch);

        } else if (ch >= 0x20 && ch < 0x7f) {
            text[0] = ch;
            len = 1;

        } else if (ch < 0x10000) {
            len = snprintf(text, sizeof(text), "\\u%04x", (unsigned) ch);

        } else {
            ch -= 0x10000;
            len = snprintf(text, sizeof(text), "\\u%04x\\u%04x",
                           (unsigned) (0xd800 | (ch >> 10)),
                           (unsigned) (0xdc00 | (ch & 0x3ff)));
        }

        /* "..." and the quote must fit too */

        if (left < len + 4) {
            if (left < 4) {
                return;
            }

            o.pos = ngx_cpymem(o.pos, "...", 3);
            break;
        }

        o.pos = ngx_cpymem(o.pos, text, len);
        left -= len;
    }

    if (o.pos == o.last) {
        return;
    }

    *o.pos++ = '"';
    *out = o;
}


static void
ngx_oci_audit_member(ngx_oci_audit_out_t *out, const char *name,
    const void *value, size_t len, ngx_uint_t quoted)
{
    size_t   n;
    u_char  *p;

    n = strlen(name);

    if ((size_t) (out->last - out->pos)
        < n + len + sizeof(",\"\":\"\"") - 1)
    {
        return;
    }

    p = out->pos;

    *p++ = ',';
    *p++ = '"';
    p = ngx_cpymem(p, name, n);
    *p++ = '"';
    *p++ = ':';

    if (quoted) {
        *p++ = '"';
    }

    p = ngx_cpymem(p, value, len);

    if (quoted) {
        *p++ = '"';
    }

    out->pos = p;
}


void
ngx_oci_audit_text(ngx_oci_audit_out_t *out, const char *name,
    const char *value)
{
    if (value) {
        ngx_oci_audit_member(out, name, value, strlen(value), 1);
    }
}


void
ngx_oci_audit_number(ngx_oci_audit_out_t *out, const char *name,
    uint64_t value)
{
    int   len;
    char  text[24];

    len = snprintf(text, sizeof(text), "%llu", (unsigned long long) value);

    ngx_oci_audit_member(out, name, text, len, 0);
}


void
ngx_oci_audit_bool(ngx_oci_audit_out_t *out, const char *name,
    ngx_uint_t value)
{
    ngx_oci_audit_member(out, name, value ? "true" : "false",
                         value ? 4 : 5, 0);
}


void
ngx_oci_audit_hex(ngx_oci_audit_out_t *out, const char *name,
    const u_char *hash)
{
    u_char  hex[NGX_OCI_AUDIT_HEX];

    ngx_oci_audit_digits(hex, hash);
    ngx_oci_audit_member(out, name, hex, sizeof(hex), 1);
}


void
ngx_oci_audit_hexes(ngx_oci_audit_out_t *out, const char *name,
    u_char (*hashes)[NGX_OCI_AUDIT_HASH], ngx_uint_t n)
{
    u_char      text[2 + NGX_OCI_AUDIT_TORN * (NGX_OCI_AUDIT_HEX + 3)];
    u_char     *p;
    ngx_uint_t  i;

    if (n == 0) {
        return;
    }

    p = text;

    for (i = 0; i < ngx_min(n, NGX_OCI_AUDIT_TORN); i++) {
        *p++ = i ? ',' : '[';
        *p++ = '"';
        ngx_oci_audit_digits(p, hashes[i]);
        p += NGX_OCI_AUDIT_HEX;
        *p++ = '"';
    }

    *p++ = ']';

    ngx_oci_audit_member(out, name, text, p - text, 0);
}


static void
ngx_oci_audit_digits(u_char *p, const u_char *hash)
{
    static const u_char  digits[] = "0123456789abcdef";

    ngx_uint_t  i;

    for (i = 0; i < NGX_OCI_AUDIT_HASH; i++) {
        p[2 * i] = digits[hash[i] >> 4];
        p[2 * i + 1] = digits[hash[i] & 0xf];
    }
}


void
ngx_oci_audit_id(ngx_oci_audit_out_t *out, const char *name, const u_char *id)
{
    ngx_oci_audit_member(out, name, id, NGX_OCI_AUDIT_ID, 1);
}


void
ngx_oci_audit_base64(ngx_oci_audit_out_t *out, const char *name,
    const u_char *p, size_t len)
{
    u_char  text[(NGX_OCI_AUDIT_LINE + 2) / 3 * 4 + 1];

    if (len > NGX_OCI_AUDIT_LINE) {
        return;
    }

    ngx_oci_audit_member(out, name, text, EVP_EncodeBlock(text, p, len), 1);
}


void
ngx_oci_audit_raw(ngx_oci_audit_out_t *out, const u_char *p, size_t len)
{
    if (len <= (size_t) (out->last - out->pos)) {
        out->pos = ngx_cpymem(out->pos, p, len);
    }
}


u_char *
ngx_oci_audit_time(u_char *p, time_t sec, ngx_uint_t usec)
{
    char       text[64];
    struct tm  tm;

    gmtime_r(&sec, &tm);

    snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ",
             tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
             tm.tm_min, tm.tm_sec, (unsigned) usec);

    return ngx_cpymem(p, text, 27);
}


void
ngx_oci_audit_begin(ngx_oci_audit_out_t *out, const u_char *ts,
    ngx_str_t *node, ngx_oci_audit_chain_t *chain, ngx_uint_t chained,
    const char *event)
{
    u_char     *start;
    ngx_str_t   s;

    start = out->pos;

    s.data = (u_char *) ts;
    s.len = 27;

    ngx_oci_audit_string(out, "ts", &s, 64);

    if (out->pos == start) {
        return;
    }

    *start = '{';

    ngx_oci_audit_string(out, "node", node, 128);
    ngx_oci_audit_id(out, "chain", chain->id);
    ngx_oci_audit_number(out, "seq", chain->seq + 1);

    if (chained) {
        ngx_oci_audit_hex(out, "prev", chain->hash);
    }

    ngx_oci_audit_text(out, "event", event);
}


void
ngx_oci_audit_knot(ngx_oci_audit_out_t *out, ngx_oci_audit_knot_t *knot)
{
    ngx_oci_audit_id(out, "file", knot->file);
    ngx_oci_audit_bool(out, "header", knot->header);
    ngx_oci_audit_id(out, "spine", knot->spine);
    ngx_oci_audit_number(out, "link", knot->link);
    ngx_oci_audit_hex(out, "link_prev", knot->prev);
    ngx_oci_audit_id(out, "link_file", knot->prev_file);
    ngx_oci_audit_bool(out, "restart", knot->restart);
}


ngx_int_t
ngx_oci_audit_end(ngx_oci_audit_out_t *out, u_char *start, EVP_PKEY *key,
    const u_char *key_id)
{
    int          rc;
    size_t       len;
    u_char       sig[NGX_OCI_AUDIT_SIG];
    EVP_MD_CTX  *md;

    if (key) {
        md = EVP_MD_CTX_new();
        if (md == NULL) {
            return NGX_ERROR;
        }

        ngx_oci_audit_id(out, "key", key_id);

        len = sizeof(sig);
        rc = EVP_DigestSignInit(md, NULL, NULL, NULL, key) == 1
             && EVP_DigestSign(md, sig, &len, start, out->pos - start) == 1
             && len == sizeof(sig);

        EVP_MD_CTX_free(md);

        if (!rc) {
            return NGX_ERROR;
        }

        ngx_oci_audit_base64(out, "sig", sig, sizeof(sig));
    }

    if (out->pos == out->last) {
        return NGX_ERROR;
    }

    *out->pos++ = '}';

    return NGX_OK;
}


void
ngx_oci_audit_hash(const u_char *p, size_t len, u_char *hash)
{
    (void) SHA256(p, len, hash);
}


ngx_int_t
ngx_oci_audit_random_id(u_char *id)
{
    char        text[NGX_OCI_AUDIT_ID + 1];
    u_char      bytes[NGX_OCI_AUDIT_ID / 2];
    ngx_uint_t  i;

    if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
        return NGX_ERROR;
    }

    for (i = 0; i < sizeof(bytes); i++) {
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }

    ngx_memcpy(id, text, NGX_OCI_AUDIT_ID);

    return NGX_OK;
}


/* of the SHA-256 of the public key's 32 bytes */

ngx_int_t
ngx_oci_audit_key_id(EVP_PKEY *key, u_char *id)
{
    char        text[NGX_OCI_AUDIT_ID + 1];
    size_t      len;
    u_char      raw[32], hash[NGX_OCI_AUDIT_HASH];
    ngx_uint_t  i;

    len = sizeof(raw);

    if (EVP_PKEY_id(key) != EVP_PKEY_ED25519
        || EVP_PKEY_get_raw_public_key(key, raw, &len) != 1
        || len != sizeof(raw))
    {
        return NGX_ERROR;
    }

    ngx_oci_audit_hash(raw, len, hash);

    for (i = 0; i < NGX_OCI_AUDIT_ID / 2; i++) {
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
    }

    ngx_memcpy(id, text, NGX_OCI_AUDIT_ID);

    return NGX_OK;
}
