
/*
 * Copyright (C) The nginx-oci authors
 *
 * Records of a queue's files, and signatures.  A record is appended by one
 * write(); of one that was cut short the rest is missing, and others follow
 * it: whoever reads looks for the next one that is whole.  Pure: needs libc
 * and OpenSSL.
 */


#include "ngx_oci_header.h"
#include "ngx_oci_notify_record.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>


#define NGX_OCI_RECORD_MAGIC  "\x01OCN\x02\xfe\x00\x01"     /* is no text */
#define NGX_OCI_RECORD_MARK   8

#define NGX_OCI_NOTE_KEY      4096      /* bytes */


/* the numbers are the machine's own: the file is of no other one */

typedef struct {
    u_char      mark[NGX_OCI_RECORD_MARK];
    uint32_t    size;                   /* of all */
    uint32_t    crc;                    /* of what follows */
    int64_t     msec;
    uint32_t    body;                   /* bytes of it */
    uint16_t    repository;
    uint16_t    format;
    u_char      id[NGX_OCI_NOTE_ID];
    u_char      spare[4];
} ngx_oci_record_head_t;


static ngx_int_t ngx_oci_record_at(u_char *p, size_t len,
    ngx_oci_record_t *record, size_t *size);


u_char *
ngx_oci_record_write(u_char *p, ngx_oci_record_t *record)
{
    u_char                 *last;
    ngx_oci_record_head_t   head;

    memset(&head, 0, sizeof(ngx_oci_record_head_t));

    memcpy(head.mark, NGX_OCI_RECORD_MAGIC, NGX_OCI_RECORD_MARK);
    memcpy(head.id, record->id, NGX_OCI_NOTE_ID);

    head.size = (uint32_t) ngx_oci_record_size(record->repository.len,
                                               record->body.len);
    head.msec = record->msec;
    head.body = (uint32_t) record->body.len;
    head.repository = (uint16_t) record->repository.len;
    head.format = (uint16_t) record->format;

    last = p + NGX_OCI_RECORD_HEAD;

    if (record->repository.len) {
        memcpy(last, record->repository.data, record->repository.len);
        last += record->repository.len;
    }

    if (record->body.len) {
        memcpy(last, record->body.data, record->body.len);
        last += record->body.len;
    }

    memcpy(p, &head, NGX_OCI_RECORD_HEAD);

    head.crc = ngx_oci_crc32c(0, p + 16, head.size - 16);

    memcpy(p, &head, NGX_OCI_RECORD_HEAD);

    return last;
}


ngx_int_t
ngx_oci_record_read(u_char *p, size_t len, size_t *skip,
    ngx_oci_record_t *record, size_t *size)
{
    size_t      i, wait;
    u_char     *q;
    ngx_int_t   rc;

    wait = len;

    for (i = 0; i < len; i++) {

        q = memchr(p + i, NGX_OCI_RECORD_MAGIC[0], len - i);
        if (q == NULL) {
            break;
        }

        i = q - p;

        rc = ngx_oci_record_at(q, len - i, record, size);

        if (rc == NGX_OK) {
            *skip = i;
            return NGX_OK;
        }

        if (rc == NGX_AGAIN && wait == len) {
            wait = i;
        }
    }

    *skip = wait;

    return NGX_AGAIN;
}


/* NGX_DECLINED: it is none, and will be none */

static ngx_int_t
ngx_oci_record_at(u_char *p, size_t len, ngx_oci_record_t *record,
    size_t *size)
{
    size_t                  n;
    ngx_oci_record_head_t   head;

    n = (len < NGX_OCI_RECORD_MARK) ? len : NGX_OCI_RECORD_MARK;

    if (memcmp(p, NGX_OCI_RECORD_MAGIC, n) != 0) {
        return NGX_DECLINED;
    }

    if (len < NGX_OCI_RECORD_HEAD) {
        return NGX_AGAIN;
    }

    memcpy(&head, p, NGX_OCI_RECORD_HEAD);

    if (head.size > NGX_OCI_NOTE_RECORD || head.body > NGX_OCI_NOTE_BODY
        || head.format >= NGX_OCI_NOTE_FORMATS
        || head.size != ngx_oci_record_size((size_t) head.repository,
                                            (size_t) head.body))
    {
        return NGX_DECLINED;
    }

    if (len < head.size) {
        return NGX_AGAIN;
    }

    if (ngx_oci_crc32c(0, p + 16, head.size - 16) != head.crc) {
        return NGX_DECLINED;
    }

    *size = head.size;

    memcpy(record->id, head.id, NGX_OCI_NOTE_ID);
    record->format = head.format;
    record->msec = head.msec;
    record->repository.data = p + NGX_OCI_RECORD_HEAD;
    record->repository.len = head.repository;
    record->body.data = record->repository.data + head.repository;
    record->body.len = head.body;

    return NGX_OK;
}


ngx_int_t
ngx_oci_note_id(u_char *id)
{
    u_char       b[16];
    ngx_uint_t   i, n;

    static const char  hex[] = "0123456789abcdef";

    if (RAND_bytes(b, sizeof(b)) != 1) {
        return NGX_ERROR;
    }

    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;

    for (i = 0, n = 0; i < sizeof(b); i++) {

        if (i == 4 || i == 6 || i == 8 || i == 10) {
            id[n++] = '-';
        }

        id[n++] = hex[b[i] >> 4];
        id[n++] = hex[b[i] & 0x0f];
    }

    return NGX_OK;
}


ngx_int_t
ngx_oci_note_sign(ngx_str_t *key, u_char *id, int64_t timestamp,
    ngx_str_t *body, u_char *signature)
{
    int            n, pad;
    u_char        *p, *text, decoded[NGX_OCI_NOTE_KEY], md[EVP_MAX_MD_SIZE];
    size_t         len;
    ngx_str_t      k;
    unsigned int   size;

    k = *key;

    if (k.len > 6 && memcmp(k.data, "whsec_", 6) == 0) {

        len = k.len - 6;

        if (len % 4 || len / 4 * 3 > sizeof(decoded)) {
            return NGX_ERROR;
        }

        n = EVP_DecodeBlock(decoded, k.data + 6, (int) len);
        pad = (k.data[k.len - 1] == '=') + (k.data[k.len - 2] == '=');

        if (n - pad <= 0) {
            return NGX_ERROR;
        }

        k.data = decoded;
        k.len = n - pad;
    }

    text = malloc(NGX_OCI_NOTE_ID + body->len + 32);
    if (text == NULL) {
        return NGX_ERROR;
    }

    memcpy(text, id, NGX_OCI_NOTE_ID);
    p = text + NGX_OCI_NOTE_ID;
    p += snprintf((char *) p, 32, ".%lld.", (long long) timestamp);

    if (body->len) {
        memcpy(p, body->data, body->len);
        p += body->len;
    }

    len = p - text;

    p = HMAC(EVP_sha256(), k.data, (int) k.len, text, len, md, &size);

    OPENSSL_cleanse(decoded, sizeof(decoded));
    free(text);

    if (p == NULL || size != 32) {
        return NGX_ERROR;
    }

    memcpy(signature, "v1,", 3);

    /* 44 bytes, and a zero */

    EVP_EncodeBlock(decoded, md, 32);
    memcpy(signature + 3, decoded, NGX_OCI_SIGNATURE_LEN - 3);

    return NGX_OK;
}
