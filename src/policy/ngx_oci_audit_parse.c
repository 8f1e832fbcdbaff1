
/*
 * Copyright (C) The nginx-oci authors
 *
 * Lines of an audit log are read.  They are as they were written, or they are
 * none: no other order of members, no spaces.
 */


#include "ngx_oci_audit_chain.h"


#define NGX_OCI_AUDIT_HEX     (2 * NGX_OCI_AUDIT_HASH)
#define NGX_OCI_AUDIT_BASE64  88    /* digits of a signature */


/* in the order of ngx_oci_audit_event_e, but for plain lines */

static const char  *ngx_oci_audit_events[] = {
    "", "lost", "start", "open", "checkpoint", "gap", "rotate", "close", NULL
};


static ngx_uint_t ngx_oci_audit_word(u_char **p, u_char *last,
    const char *word);
static ngx_uint_t ngx_oci_audit_read_string(u_char **p, u_char *last,
    ngx_str_t *value);
static ngx_uint_t ngx_oci_audit_read_number(u_char **p, u_char *last,
    uint64_t *value);
static ngx_uint_t ngx_oci_audit_read_hex(u_char **p, u_char *last,
    u_char *hash);
static ngx_uint_t ngx_oci_audit_read_id(u_char **p, u_char *last, u_char *id);
static ngx_uint_t ngx_oci_audit_read_bool(u_char **p, u_char *last,
    ngx_uint_t *value);
static ngx_uint_t ngx_oci_audit_read_knot(ngx_oci_audit_line_t *line,
    u_char **p, u_char *last);
static ngx_uint_t ngx_oci_audit_read_dead(ngx_oci_audit_dead_t *dead,
    u_char **p, u_char *last);
static ngx_uint_t ngx_oci_audit_read_torn(ngx_oci_audit_line_t *line,
    u_char **p, u_char *last);
static ngx_uint_t ngx_oci_audit_read_sig(ngx_oci_audit_line_t *line,
    u_char *p, u_char *last);


ngx_int_t
ngx_oci_audit_parse(ngx_oci_audit_line_t *line, u_char *p, size_t len)
{
    u_char      *last;
    ngx_str_t    text, event;
    ngx_uint_t   i;

    last = p + len;

    ngx_memzero(line, sizeof(ngx_oci_audit_line_t));

    if (len == 0 || last[-1] != '}') {
        return NGX_DECLINED;
    }

    /* nothing but printable ASCII was ever written */

    for (i = 0; i < len; i++) {
        if (p[i] < 0x20 || p[i] > 0x7e) {
            return NGX_DECLINED;
        }
    }

    line->signed_len = len;

    if (!ngx_oci_audit_word(&p, last, "{\"ts\":")
        || !ngx_oci_audit_read_string(&p, last, &text)
        || text.len != 27
        || !ngx_oci_audit_word(&p, last, ",\"node\":")
        || !ngx_oci_audit_read_string(&p, last, &text)
        || !ngx_oci_audit_word(&p, last, ",\"chain\":")
        || !ngx_oci_audit_read_id(&p, last, line->chain)
        || !ngx_oci_audit_word(&p, last, ",\"seq\":")
        || !ngx_oci_audit_read_number(&p, last, &line->seq)
        || !ngx_oci_audit_word(&p, last, ",\"prev\":")
        || !ngx_oci_audit_read_hex(&p, last, line->prev)
        || !ngx_oci_audit_word(&p, last, ",\"event\":")
        || !ngx_oci_audit_read_string(&p, last, &event)
        || p == last)
    {
        return NGX_DECLINED;
    }

    for (i = NGX_OCI_AUDIT_LOST; ngx_oci_audit_events[i]; i++) {
        if (strlen(ngx_oci_audit_events[i]) == event.len
            && ngx_memcmp(ngx_oci_audit_events[i], event.data, event.len)
               == 0)
        {
            line->event = i;
            break;
        }
    }

    if (line->event == NGX_OCI_AUDIT_LOST) {
        return ngx_oci_audit_read_torn(line, &p, last) ? NGX_OK
                                                       : NGX_DECLINED;
    }

    if (!ngx_oci_audit_is_knot(line->event)) {
        return NGX_OK;
    }

    line->signed_len = len - (NGX_OCI_AUDIT_BASE64 + sizeof(",\"sig\":\"\"}")
                              - 1);

    return (ngx_oci_audit_read_knot(line, &p, last)
            && ngx_oci_audit_read_sig(line, p, last)) ? NGX_OK
                                                      : NGX_DECLINED;
}


static ngx_uint_t
ngx_oci_audit_word(u_char **p, u_char *last, const char *word)
{
    size_t  len;

    len = strlen(word);

    if ((size_t) (last - *p) < len || ngx_memcmp(*p, word, len) != 0) {
        return 0;
    }

    *p += len;

    return 1;
}


static ngx_uint_t
ngx_oci_audit_read_string(u_char **p, u_char *last, ngx_str_t *value)
{
    u_char  *s;

    s = *p;

    if (s == last || *s++ != '"') {
        return 0;
    }

    value->data = s;

    for ( /* void */ ; s < last && *s != '"'; s++) {
        if (*s == '\\' && ++s == last) {
            return 0;
        }
    }

    if (s == last) {
        return 0;
    }

    value->len = s - value->data;
    *p = s + 1;

    return 1;
}


static ngx_uint_t
ngx_oci_audit_read_number(u_char **p, u_char *last, uint64_t *value)
{
    u_char    *s;
    uint64_t   n;

    n = 0;

    for (s = *p; s < last && *s >= '0' && *s <= '9'; s++) {
        if (s - *p >= 19) {
            return 0;
        }

        n = n * 10 + (*s - '0');
    }

    if (s == *p || (**p == '0' && s - *p > 1)) {
        return 0;
    }

    *value = n;
    *p = s;

    return 1;
}


static ngx_uint_t
ngx_oci_audit_read_hex(u_char **p, u_char *last, u_char *hash)
{
    u_char       ch, d[2];
    ngx_str_t    text;
    ngx_uint_t   i, j;

    if (!ngx_oci_audit_read_string(p, last, &text)
        || text.len != NGX_OCI_AUDIT_HEX)
    {
        return 0;
    }

    for (i = 0; i < NGX_OCI_AUDIT_HASH; i++) {

        for (j = 0; j < 2; j++) {
            ch = text.data[2 * i + j];

            if (ch >= '0' && ch <= '9') {
                d[j] = ch - '0';

            } else if (ch >= 'a' && ch <= 'f') {
                d[j] = ch - 'a' + 10;

            } else {
                return 0;
            }
        }

        hash[i] = (d[0] << 4) | d[1];
    }

    return 1;
}


static ngx_uint_t
ngx_oci_audit_read_id(u_char **p, u_char *last, u_char *id)
{
    ngx_str_t   text;
    ngx_uint_t  i;

    if (!ngx_oci_audit_read_string(p, last, &text)
        || text.len != NGX_OCI_AUDIT_ID)
    {
        return 0;
    }

    for (i = 0; i < text.len; i++) {
        if ((text.data[i] < '0' || text.data[i] > '9')
            && (text.data[i] < 'a' || text.data[i] > 'f'))
        {
            return 0;
        }
    }

    ngx_memcpy(id, text.data, NGX_OCI_AUDIT_ID);

    return 1;
}


static ngx_uint_t
ngx_oci_audit_read_bool(u_char **p, u_char *last, ngx_uint_t *value)
{
    *value = ngx_oci_audit_word(p, last, "true");

    return *value || ngx_oci_audit_word(p, last, "false");
}


static ngx_uint_t
ngx_oci_audit_read_knot(ngx_oci_audit_line_t *line, u_char **p, u_char *last)
{
    ngx_uint_t             header, restart;
    ngx_oci_audit_knot_t  *knot;

    knot = &line->knot;

    if (!ngx_oci_audit_word(p, last, ",\"file\":")
        || !ngx_oci_audit_read_id(p, last, knot->file)
        || !ngx_oci_audit_word(p, last, ",\"header\":")
        || !ngx_oci_audit_read_bool(p, last, &header)
        || !ngx_oci_audit_word(p, last, ",\"spine\":")
        || !ngx_oci_audit_read_id(p, last, knot->spine)
        || !ngx_oci_audit_word(p, last, ",\"link\":")
        || !ngx_oci_audit_read_number(p, last, &knot->link)
        || !ngx_oci_audit_word(p, last, ",\"link_prev\":")
        || !ngx_oci_audit_read_hex(p, last, knot->prev)
        || !ngx_oci_audit_word(p, last, ",\"link_file\":")
        || !ngx_oci_audit_read_id(p, last, knot->prev_file)
        || !ngx_oci_audit_word(p, last, ",\"restart\":")
        || !ngx_oci_audit_read_bool(p, last, &restart))
    {
        return 0;
    }

    knot->header = header;
    knot->restart = restart;

    if (line->event == NGX_OCI_AUDIT_OPEN) {
        return ngx_oci_audit_word(p, last, ",\"of_file\":")
               && ngx_oci_audit_read_id(p, last, line->dead.file);
    }

    return line->event != NGX_OCI_AUDIT_DIED
           || ngx_oci_audit_read_dead(&line->dead, p, last);
}


static ngx_uint_t
ngx_oci_audit_read_dead(ngx_oci_audit_dead_t *dead, u_char **p, u_char *last)
{
    if (!ngx_oci_audit_word(p, last, ",\"of\":")
        || !ngx_oci_audit_read_id(p, last, dead->of)
        || !ngx_oci_audit_word(p, last, ",\"of_file\":")
        || !ngx_oci_audit_read_id(p, last, dead->file)
        || !ngx_oci_audit_word(p, last, ",\"last_seq\":")
        || !ngx_oci_audit_read_number(p, last, &dead->seq)
        || !ngx_oci_audit_word(p, last, ",\"last_hash\":")
        || !ngx_oci_audit_read_hex(p, last, dead->hash))
    {
        return 0;
    }

    if (!ngx_oci_audit_word(p, last, ",\"next_hash\":")) {
        return 1;
    }

    dead->next = 1;

    return ngx_oci_audit_read_hex(p, last, dead->next_hash)
           && (!ngx_oci_audit_word(p, last, ",\"next_line\":")
               || ngx_oci_audit_read_string(p, last, &dead->next_line));
}


static ngx_uint_t
ngx_oci_audit_read_torn(ngx_oci_audit_line_t *line, u_char **p, u_char *last)
{
    if (!ngx_oci_audit_word(p, last, ",\"torn\":[")) {
        return 1;
    }

    for ( ;; ) {
        if (line->ntorn == NGX_OCI_AUDIT_TORN
            || !ngx_oci_audit_read_hex(p, last, line->torn[line->ntorn++]))
        {
            return 0;
        }

        if (ngx_oci_audit_word(p, last, "]")) {
            return 1;
        }

        if (!ngx_oci_audit_word(p, last, ",")) {
            return 0;
        }
    }
}


/* at the line's end; what stands before it goes from p */

static ngx_uint_t
ngx_oci_audit_read_sig(ngx_oci_audit_line_t *line, u_char *p, u_char *last)
{
    u_char      sig[NGX_OCI_AUDIT_BASE64 / 4 * 3];
    u_char      again[NGX_OCI_AUDIT_BASE64 + 1];
    u_char     *s;
    ngx_str_t   text;

    s = last - (sizeof(",\"key\":\"\",\"sig\":\"\"}") - 1 + NGX_OCI_AUDIT_ID
                + NGX_OCI_AUDIT_BASE64);

    if (s < p
        || !ngx_oci_audit_word(&s, last, ",\"key\":")
        || !ngx_oci_audit_read_id(&s, last, line->key)
        || !ngx_oci_audit_word(&s, last, ",\"sig\":")
        || !ngx_oci_audit_read_string(&s, last, &text)
        || text.len != NGX_OCI_AUDIT_BASE64
        || s != last - 1
        || EVP_DecodeBlock(sig, text.data, text.len) != sizeof(sig))
    {
        return 0;
    }

    /* bits of the last digit that say nothing */

    EVP_EncodeBlock(again, sig, NGX_OCI_AUDIT_SIG);

    if (ngx_memcmp(again, text.data, NGX_OCI_AUDIT_BASE64) != 0) {
        return 0;
    }

    ngx_memcpy(line->sig, sig, NGX_OCI_AUDIT_SIG);

    return 1;
}
