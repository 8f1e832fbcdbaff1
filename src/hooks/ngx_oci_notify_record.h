
/*
 * Copyright (C) The nginx-oci authors
 *
 * Notifications: what is told of an event, in three forms; records of a
 * queue's files; signatures.  Pure: needs libc, OpenSSL and jansson.
 */


#ifndef _NGX_OCI_NOTIFY_RECORD_H_INCLUDED_
#define _NGX_OCI_NOTIFY_RECORD_H_INCLUDED_


#include "ngx_oci_route.h"


#define NGX_OCI_NOTE_ID        36       /* bytes of a UUID's text */
#define NGX_OCI_NOTE_BODY      12288    /* of a body at most */
#define NGX_OCI_NOTE_RECORD    16384    /* and of a record */


typedef enum {
    NGX_OCI_NOTE_PULL = 0,
    NGX_OCI_NOTE_PUSH,
    NGX_OCI_NOTE_VERIFY_FAILURE,
    NGX_OCI_NOTE_QUARANTINE,
    NGX_OCI_NOTE_REFUSAL,
    NGX_OCI_NOTE_PREHEAT,
    NGX_OCI_NOTE_N
} ngx_oci_note_e;


typedef enum {
    NGX_OCI_NOTE_HARBOR = 0,
    NGX_OCI_NOTE_CLOUDEVENTS,
    NGX_OCI_NOTE_DISTRIBUTION,
    NGX_OCI_NOTE_DISTRIBUTION_V2,
    NGX_OCI_NOTE_FORMATS
} ngx_oci_note_format_e;


/* an event; whatever isn't known is empty.  Strings may be anything */

typedef struct {
    ngx_uint_t      event;              /* ngx_oci_note_e */
    u_char          id[NGX_OCI_NOTE_ID];
    int64_t         msec;               /* since 1970 */
    ngx_str_t       node;               /* the edge's name */
    ngx_str_t       scheme;             /* as the client addressed the edge */
    ngx_str_t       host;
    ngx_str_t       repository;         /* at the edge */
    ngx_str_t       tag;
    ngx_str_t       digest;
    ngx_str_t       media_type;
    int64_t         size;               /* of what was sent; -1 */
    ngx_str_t       subject;
    ngx_str_t       details;
    ngx_str_t       request;            /* its id, */
    ngx_str_t       address;            /* the client's */
    ngx_str_t       method;
    ngx_str_t       agent;
} ngx_oci_note_t;


/* "pull", ...; NULL beyond the last one */
const char *ngx_oci_note_name(ngx_uint_t event);
const char *ngx_oci_note_format(ngx_uint_t format);
/* its Content-Type */
const char *ngx_oci_note_type(ngx_uint_t format);

/* a new UUID.  NGX_OK or NGX_ERROR */
ngx_int_t ngx_oci_note_id(u_char *id);

/*
 * The event's text in a format, which is to be freed with free(), *len bytes;
 * NULL: no memory, or it were too long.
 */
char *ngx_oci_note_body(ngx_oci_note_t *note, ngx_uint_t format, size_t *len);


/* what stands in a file; the strings point into the file's text */

typedef struct {
    u_char          id[NGX_OCI_NOTE_ID];
    uint32_t        format;
    int64_t         msec;
    ngx_str_t       repository;
    ngx_str_t       body;
} ngx_oci_record_t;


#define ngx_oci_record_size(repository_len, body_len)                         \
    (NGX_OCI_RECORD_HEAD + (repository_len) + (body_len))

#define NGX_OCI_RECORD_HEAD    72       /* bytes before the strings */


/* the place has ngx_oci_record_size(), at most NGX_OCI_NOTE_RECORD; returns
   the end */
u_char *ngx_oci_record_write(u_char *p, ngx_oci_record_t *record);

/*
 * The first record in a text, wherever it begins.  NGX_OK: *skip bytes stand
 * before it, *size are its own; NGX_AGAIN: there is none that is complete,
 * *skip bytes are nothing, and what follows them may become one.
 */
ngx_int_t ngx_oci_record_read(u_char *p, size_t len, size_t *skip,
    ngx_oci_record_t *record, size_t *size);


#define NGX_OCI_SIGNATURE_LEN  47       /* bytes of "v1," and base64 */

/*
 * "v1," and the HMAC-SHA256 of "id.timestamp.body" in base64, as Standard
 * Webhooks have it.  A key of "whsec_" and base64 is what that stands for.
 * NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_oci_note_sign(ngx_str_t *key, u_char *id, int64_t timestamp,
    ngx_str_t *body, u_char *signature);


#endif /* _NGX_OCI_NOTIFY_RECORD_H_INCLUDED_ */
