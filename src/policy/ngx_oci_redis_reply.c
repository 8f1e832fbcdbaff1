
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a Redis answers, read within bounds.  Pure: needs libc and hiredis
 * only.
 */


#include "ngx_oci_redis_reply.h"


#if (HIREDIS_MAJOR >= 1)
typedef size_t  ngx_oci_redis_count_t;
#else
typedef int     ngx_oci_redis_count_t;
#endif


static void *ngx_oci_redis_create_string(const redisReadTask *task,
    char *p, size_t len);
static void *ngx_oci_redis_create_array(const redisReadTask *task,
    ngx_oci_redis_count_t n);
static void *ngx_oci_redis_create_integer(const redisReadTask *task,
    long long n);
static void *ngx_oci_redis_create_nil(const redisReadTask *task);


ngx_int_t
ngx_oci_redis_reader_init(ngx_oci_redis_reader_t *rr)
{
    memset(rr, 0, sizeof(ngx_oci_redis_reader_t));

    rr->reader = redisReaderCreate();

    if (rr->reader == NULL) {
        rr->error = "no memory";
        return NGX_ERROR;
    }

    rr->base = *rr->reader->fn;
    rr->fn = rr->base;

    rr->fn.createString = ngx_oci_redis_create_string;
    rr->fn.createArray = ngx_oci_redis_create_array;
    rr->fn.createInteger = ngx_oci_redis_create_integer;
    rr->fn.createNil = ngx_oci_redis_create_nil;

    rr->reader->fn = &rr->fn;
    rr->reader->privdata = rr;

    return NGX_OK;
}


void
ngx_oci_redis_reader_done(ngx_oci_redis_reader_t *rr)
{
    if (rr->reader) {
        redisReaderFree(rr->reader);
        rr->reader = NULL;
    }
}


ngx_int_t
ngx_oci_redis_reader_feed(ngx_oci_redis_reader_t *rr, const u_char *p,
    size_t len)
{
    if (rr->error) {
        return NGX_ERROR;
    }

    if (redisReaderFeed(rr->reader, (const char *) p, len) != REDIS_OK) {
        rr->error = "no memory";
        return NGX_ERROR;
    }

    rr->fed += len;
    rr->value += len;

    return NGX_OK;
}


ngx_int_t
ngx_oci_redis_reader_next(ngx_oci_redis_reader_t *rr, redisReply **reply)
{
    void  *p;

    if (rr->error) {
        return NGX_ERROR;
    }

    p = NULL;

    if (redisReaderGetReply(rr->reader, &p) != REDIS_OK) {

        if (rr->error == NULL) {
            rr->error = "it answered what is not of Redis' protocol";
        }

        return NGX_ERROR;
    }

    if (p) {
        rr->fed = 0;
        rr->value = 0;
        rr->elements = 0;

        *reply = p;

        return NGX_OK;
    }

    /* what is here is less than an element */

    if (rr->value > NGX_OCI_REDIS_VALUE_MAX) {
        rr->error = "a value has more than 4m";
        return NGX_ERROR;
    }

    if (rr->fed > NGX_OCI_REDIS_REPLY_MAX) {
        rr->error = "an answer has more than 72m";
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}


static ngx_oci_redis_reader_t *
ngx_oci_redis_count(const redisReadTask *task, size_t n)
{
    ngx_oci_redis_reader_t  *rr;

    rr = task->privdata;

    rr->value = 0;

    if (n > NGX_OCI_REDIS_ELEMENTS_MAX - rr->elements) {
        rr->error = "an answer has more than two million elements";
        return NULL;
    }

    rr->elements += n;

    return rr;
}


static void *
ngx_oci_redis_create_string(const redisReadTask *task, char *p, size_t len)
{
    ngx_oci_redis_reader_t  *rr;

    rr = ngx_oci_redis_count(task, 1);

    if (rr && len > NGX_OCI_REDIS_VALUE_MAX) {
        rr->error = "a value has more than 4m";
        return NULL;
    }

    return rr ? rr->base.createString(task, p, len) : NULL;
}


static void *
ngx_oci_redis_create_array(const redisReadTask *task, ngx_oci_redis_count_t n)
{
    ngx_oci_redis_reader_t  *rr;

    rr = ngx_oci_redis_count(task, (size_t) n);

    return rr ? rr->base.createArray(task, n) : NULL;
}


static void *
ngx_oci_redis_create_integer(const redisReadTask *task, long long n)
{
    ngx_oci_redis_reader_t  *rr;

    rr = ngx_oci_redis_count(task, 1);

    return rr ? rr->base.createInteger(task, n) : NULL;
}


static void *
ngx_oci_redis_create_nil(const redisReadTask *task)
{
    ngx_oci_redis_reader_t  *rr;

    rr = ngx_oci_redis_count(task, 1);

    return rr ? rr->base.createNil(task) : NULL;
}


const char *
ngx_oci_redis_error(redisReply *reply)
{
    size_t       len;
    ngx_uint_t   i;

    static const char  *words[] = {
        "BUSY", "CLUSTERDOWN", "CROSSSLOT", "DENIED", "ERR", "EXECABORT",
        "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH", "NOPERM",
        "NOPROTO", "OOM", "READONLY", "TRYAGAIN", "UNKILLABLE", "WRONGPASS",
        "WRONGTYPE", NULL
    };

    for (i = 0; words[i]; i++) {
        len = strlen(words[i]);

        if ((size_t) reply->len >= len
            && memcmp(reply->str, words[i], len) == 0
            && ((size_t) reply->len == len || reply->str[len] == ' '))
        {
            return words[i];
        }
    }

    return "an error";
}


ngx_uint_t
ngx_oci_redis_is(redisReply *reply, int type)
{
    return reply && reply->type == type;
}


ngx_uint_t
ngx_oci_redis_status(redisReply *reply, const char *text)
{
    return ngx_oci_redis_is(reply, REDIS_REPLY_STATUS)
           && (size_t) reply->len == strlen(text)
           && memcmp(reply->str, text, reply->len) == 0;
}


ngx_int_t
ngx_oci_redis_number(redisReply *reply, uint64_t *n)
{
    size_t  i, len;

    *n = 0;

    if (ngx_oci_redis_is(reply, REDIS_REPLY_NIL)) {
        return NGX_OK;
    }

    if (!ngx_oci_redis_is(reply, REDIS_REPLY_STRING)) {
        return NGX_ERROR;
    }

    /* INCR goes up to 2^63 - 1, which has 19 digits */

    len = reply->len;

    if (len == 0 || len > 19) {
        return NGX_ERROR;
    }

    for (i = 0; i < len; i++) {

        if (reply->str[i] < '0' || reply->str[i] > '9') {
            return NGX_ERROR;
        }

        *n = *n * 10 + (reply->str[i] - '0');
    }

    return (*n <= INT64_MAX) ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_oci_redis_scan(redisReply *reply, char *cursor, ngx_uint_t *last,
    redisReply **pairs)
{
    size_t       i, len;
    redisReply  *next;

    if (!ngx_oci_redis_is(reply, REDIS_REPLY_ARRAY) || reply->elements != 2
        || !ngx_oci_redis_is(reply->element[0], REDIS_REPLY_STRING)
        || !ngx_oci_redis_pairs(reply->element[1]))
    {
        return NGX_ERROR;
    }

    next = reply->element[0];
    len = next->len;

    if (len == 0 || len >= NGX_OCI_REDIS_CURSOR) {
        return NGX_ERROR;
    }

    for (i = 0; i < len; i++) {
        if (next->str[i] < '0' || next->str[i] > '9') {
            return NGX_ERROR;
        }
    }

    memcpy(cursor, next->str, len);
    cursor[len] = '\0';

    *last = (strcmp(cursor, "0") == 0);
    *pairs = reply->element[1];

    return NGX_OK;
}


ngx_uint_t
ngx_oci_redis_pairs(redisReply *reply)
{
    size_t  i;

    if (!ngx_oci_redis_is(reply, REDIS_REPLY_ARRAY) || reply->elements % 2) {
        return 0;
    }

    for (i = 0; i < reply->elements; i++) {
        if (!ngx_oci_redis_is(reply->element[i], REDIS_REPLY_STRING)) {
            return 0;
        }
    }

    return 1;
}
