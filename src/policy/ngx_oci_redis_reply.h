
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a Redis answers, read within bounds: hiredis is the parser, and what
 * it allocates is counted first.  Pure: needs libc and hiredis only.
 */


#ifndef _NGX_OCI_REDIS_REPLY_H_INCLUDED_
#define _NGX_OCI_REDIS_REPLY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include <hiredis/hiredis.h>


#define NGX_OCI_REDIS_VALUE_MAX     (4 * 1024 * 1024)   /* bytes of one */
#define NGX_OCI_REDIS_REPLY_MAX     (72 * 1024 * 1024)  /* of a reply */
#define NGX_OCI_REDIS_ELEMENTS_MAX  (2 * 1024 * 1024)   /* of a reply */


/* Owner: whoever called init(), until done(), which may be called twice */

typedef struct {
    redisReader                *reader;
    redisReplyObjectFunctions   fn;
    redisReplyObjectFunctions   base;       /* hiredis' own */
    size_t                      fed;        /* bytes, of this reply */
    size_t                      value;      /* and since its last element */
    size_t                      elements;
    const char                 *error;      /* for the log */
} ngx_oci_redis_reader_t;


/* NGX_ERROR: no memory */
ngx_int_t ngx_oci_redis_reader_init(ngx_oci_redis_reader_t *rr);
void ngx_oci_redis_reader_done(ngx_oci_redis_reader_t *rr);

/* NGX_ERROR: error says why, and there is nothing more to be had */
ngx_int_t ngx_oci_redis_reader_feed(ngx_oci_redis_reader_t *rr,
    const u_char *p, size_t len);

/* NGX_OK: *reply is the caller's, for freeReplyObject(); NGX_AGAIN;
   NGX_ERROR as above */
ngx_int_t ngx_oci_redis_reader_next(ngx_oci_redis_reader_t *rr,
    redisReply **reply);


/*
 * An error's first word if it is one of Redis' own: what follows, or stands
 * there instead, may be what Redis was sent, a password for instance.
 */
const char *ngx_oci_redis_error(redisReply *reply);

ngx_uint_t ngx_oci_redis_is(redisReply *reply, int type);

/* a simple string, such as "OK" */
ngx_uint_t ngx_oci_redis_status(redisReply *reply, const char *text);

/* a counter: its text; nothing: 0.  NGX_ERROR: it is none */
ngx_int_t ngx_oci_redis_number(redisReply *reply, uint64_t *n);

/*
 * An answer to HSCAN: *last is set if it is the last one, else cursor to the
 * next; *pairs to names and values in turn.  NGX_ERROR: it is no such answer.
 */
#define NGX_OCI_REDIS_CURSOR  24

ngx_int_t ngx_oci_redis_scan(redisReply *reply, char *cursor,
    ngx_uint_t *last, redisReply **pairs);

/* is it an array of names and values in turn? */
ngx_uint_t ngx_oci_redis_pairs(redisReply *reply);


#endif /* _NGX_OCI_REDIS_REPLY_H_INCLUDED_ */
