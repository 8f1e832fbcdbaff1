
/*
 * Copyright (C) The nginx-oci authors
 *
 * Redis' answers, and a policy document in pieces.
 */


#include "ngx_oci_policy_fields.h"
#include "ngx_oci_rbac.h"
#include "ngx_oci_redis_reply.h"
#include "tap.h"


static const char *
set(ngx_oci_fields_t *f, const char *name, const char *value)
{
    return ngx_oci_fields_set(f, name, strlen(name), value, strlen(value));
}


/* is the document that text, or is it refused with an error that has it? */

static void
document(ngx_oci_fields_t *f, const char *text, const char *why)
{
    char     error[NGX_OCI_FIELDS_ERROR], *p;
    size_t   len;

    error[0] = '\0';
    p = ngx_oci_fields_document(f, &len, error);

    if (why) {
        tap_ok(p == NULL && strstr(error, why) != NULL, why);

        if (p == NULL && strstr(error, why) == NULL) {
            printf("# %s\n", error);
        }

    } else {
        tap_ok(p && len == strlen(text) && memcmp(p, text, len) == 0, text);
    }

    free(p);
}


static void
one(const char *name, const char *value, const char *why)
{
    ngx_oci_fields_t  *f;

    f = ngx_oci_fields_create();
    (void) set(f, name, value);
    document(f, "", why);
    ngx_oci_fields_free(f);
}


static void
test_fields(void)
{
    char                    name[64], *p, error[NGX_OCI_FIELDS_ERROR];
    size_t                  len;
    ngx_uint_t              i;
    ngx_oci_rbac_t         *doc;
    ngx_oci_fields_t       *f;
    ngx_oci_policy_error_t  err;

    f = ngx_oci_fields_create();

    document(f, "{\"version\":1}\n", NULL);

    tap_ok(set(f, "subject/a", "{}") == NULL, "a field");
    document(f, "{\"version\":1,\n\"subjects\":{\n\"a\":{}}}\n", NULL);

    (void) set(f, "subject/a", "{ }");
    (void) set(f, "grants/x", "{}");
    (void) set(f, "subject/A", "{}");
    (void) set(f, "project/\"\\", "{\"public\":true}");
    (void) set(f, "role/r", "[]");
    (void) set(f, "quarantine/sha256:0", "{}");

    tap_ok(ngx_oci_fields_count(f) == 6, "six fields");
    document(f, "{\"version\":1,\n\"grants\":{\n\"x\":{}},\n"
             "\"projects\":{\n\"\\\"\\\\\":{\"public\":true}},\n"
             "\"quarantine\":{\n\"sha256:0\":{}},\n"
             "\"roles\":{\n\"r\":[]},\n"
             "\"subjects\":{\n\"A\":{},\n\"a\":{ }}}\n", NULL);

    ngx_oci_fields_remove(f, "grants/x", 8);
    ngx_oci_fields_remove(f, "grants/x", 8);
    ngx_oci_fields_remove(f, "quarantine/sha256:0", 19);
    ngx_oci_fields_remove(f, "project/\"\\", 10);
    tap_ok(ngx_oci_fields_count(f) == 3, "three of them went");
    document(f, "{\"version\":1,\n\"roles\":{\n\"r\":[]},\n"
             "\"subjects\":{\n\"A\":{},\n\"a\":{ }}}\n", NULL);

    ngx_oci_fields_free(f);

    one("", "{}", "field \"\": unknown field");
    one("subjects/x", "{}", "field \"subjects/x\": unknown field");
    one("version", "1", "field \"version\": unknown field");
    one("subject/\x01", "{}", "control characters in its name");
    one("subject/\xc3", "{}", "field \"subject/?\": its name is no UTF-8");
    one("subject/a", "", "field \"subject/a\": '[' or '{' expected in its "
        "line 1, column 0");
    one("subject/a", "1", "'[' or '{' expected");
    one("subject/a", "{}}", "end of file expected in its line 1");
    one("subject/a", "{},\"b\":{}", "end of file expected");
    one("subject/a", "{\n\"x\": secret }", "in its line 2, column");
    one("subject/a", "{\"a\":1,\"a\":2}", "duplicate object key");
    one("subject/a", "{\"a\":\"\\u0000\"}", "\\u0000 is not allowed");

    /* nothing of a value is told */

    f = ngx_oci_fields_create();
    (void) set(f, "subject/a", "{\"secret\": canary}");
    p = ngx_oci_fields_document(f, &len, error);
    tap_ok(p == NULL && strstr(error, "canary") == NULL, "no value is told");

    /* bounds */

    p = calloc(1, NGX_OCI_FIELDS_MAX + 1);
    tap_ok(ngx_oci_fields_set(f, p, NGX_OCI_FIELDS_NAME + 1, "", 0) != NULL,
           "a long name");
    tap_ok(ngx_oci_fields_set(f, "x", 1, p, NGX_OCI_FIELDS_MAX + 1) != NULL,
           "a large value");
    tap_ok(ngx_oci_fields_set(f, "x", 1, p, NGX_OCI_FIELDS_MAX / 2) == NULL,
           "one of 32m");
    tap_ok(ngx_oci_fields_set(f, "y", 1, p, NGX_OCI_FIELDS_MAX / 2) != NULL,
           "another one");
    ngx_oci_fields_remove(f, "x", 1);
    tap_ok(ngx_oci_fields_set(f, "y", 1, p, NGX_OCI_FIELDS_MAX / 2) == NULL,
           "in place of the first one");
    free(p);
    ngx_oci_fields_free(f);

    /* many, in any order */

    f = ngx_oci_fields_create();

    for (i = 0; i < 5000; i++) {
        (void) sprintf(name, "subject/%lu", (unsigned long) i * 7919 % 5000);
        (void) set(f, name, "{}");
    }

    p = ngx_oci_fields_document(f, &len, error);
    doc = ngx_oci_policy_compile(p, len, &err);
    tap_ok(doc && doc->nsubjects == 5000, "five thousand subjects");
    free(doc);
    free(p);
    ngx_oci_fields_free(f);
    ngx_oci_fields_free(NULL);
}


/* what comes of a text, in pieces of n bytes: replies, then how it ends */

static ngx_int_t
replies(const char *text, size_t size, size_t n, ngx_uint_t *count)
{
    size_t                   k;
    ngx_int_t                rc;
    redisReply              *reply;
    ngx_oci_redis_reader_t   rr;

    *count = 0;

    if (ngx_oci_redis_reader_init(&rr) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = NGX_AGAIN;

    while (size && rc != NGX_ERROR) {
        k = ngx_min(n, size);
        rc = ngx_oci_redis_reader_feed(&rr, (const u_char *) text, k);
        text += k;
        size -= k;

        while (rc == NGX_OK) {
            rc = ngx_oci_redis_reader_next(&rr, &reply);

            if (rc == NGX_OK) {
                (*count)++;
                freeReplyObject(reply);
            }
        }
    }

    ngx_oci_redis_reader_done(&rr);
    ngx_oci_redis_reader_done(&rr);

    return rc;
}


static void
reads(const char *text, ngx_uint_t want, ngx_int_t end, const char *name)
{
    size_t      n;
    ngx_int_t   rc;
    ngx_uint_t  count, ok;

    ok = 1;

    for (n = 1; n <= strlen(text); n++) {
        rc = replies(text, strlen(text), n, &count);
        ok &= (rc == end && (end == NGX_ERROR || count == want));
    }

    tap_ok(ok, name);
}


static redisReply *
parse(const char *text)
{
    redisReply              *reply;
    ngx_oci_redis_reader_t   rr;

    reply = NULL;

    if (ngx_oci_redis_reader_init(&rr) == NGX_OK
        && ngx_oci_redis_reader_feed(&rr, (const u_char *) text,
                                     strlen(text))
           == NGX_OK
        && ngx_oci_redis_reader_next(&rr, &reply) != NGX_OK)
    {
        reply = NULL;
    }

    ngx_oci_redis_reader_done(&rr);

    return reply;
}


static void
number(const char *text, ngx_int_t want, uint64_t n)
{
    uint64_t     value;
    ngx_int_t    rc;
    redisReply  *reply;

    reply = parse(text);
    rc = ngx_oci_redis_number(reply, &value);

    tap_ok(rc == want && (rc != NGX_OK || value == n), text);

    if (reply) {
        freeReplyObject(reply);
    }
}


static void
scan(const char *text, ngx_int_t want, ngx_uint_t end, size_t n)
{
    char         cursor[NGX_OCI_REDIS_CURSOR];
    ngx_int_t    rc;
    redisReply  *reply, *pairs;
    ngx_uint_t   last;

    reply = parse(text);
    rc = ngx_oci_redis_scan(reply, cursor, &last, &pairs);

    tap_ok(rc == want
           && (rc != NGX_OK || (last == end && pairs->elements == n)), text);

    if (reply) {
        freeReplyObject(reply);
    }
}


static void
error(const char *text, const char *want)
{
    redisReply  *reply;

    reply = parse(text);

    tap_ok(reply && reply->type == REDIS_REPLY_ERROR
           && strcmp(ngx_oci_redis_error(reply), want) == 0, text);

    if (reply) {
        freeReplyObject(reply);
    }
}


static void
test_replies(void)
{
    char        *p;
    size_t       size;
    ngx_int_t    rc;
    redisReply  *reply;
    ngx_uint_t   count;

    reads("+OK\r\n", 1, NGX_AGAIN, "a status");
    reads("+OK\r\n:5\r\n$2\r\nab\r\n$-1\r\n*-1\r\n*2\r\n:1\r\n$0\r\n\r\n",
          6, NGX_AGAIN, "some of each");
    reads("+OK", 0, NGX_AGAIN, "half of one");
    reads("$5\r\nab", 0, NGX_AGAIN, "half of a text");
    reads("OK\r\n", 0, NGX_ERROR, "no type");
    reads("$-2\r\n", 0, NGX_ERROR, "a length that is none");
    reads("*-2\r\n", 0, NGX_ERROR, "a number of elements that is none");
    reads("*2147483647\r\n", 0, NGX_ERROR, "too many elements");
    reads("*2\r\n*1500000\r\n", 0, NGX_AGAIN, "many elements");
    reads("*3000\r\n*2097152\r\n", 0, NGX_ERROR, "too many in all");
    reads("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", 1, NGX_AGAIN, "depth");

    /* too many elements, one after the other */

    size = 4 * (NGX_OCI_REDIS_ELEMENTS_MAX + 10);
    p = malloc(size);

    for (count = 0; count < size / 4; count++) {
        memcpy(p + 4 * count, "*1\r\n", 4);
    }

    memcpy(p, "*9\r\n", 4);
    tap_ok(replies(p, size, 65536, &count) == NGX_ERROR, "without end");

    memset(p, 'x', size);
    p[0] = '+';
    tap_ok(replies(p, size, 65536, &count) == NGX_ERROR, "a line without "
           "end");
    memcpy(p, "$8000000\r\n", 10);
    tap_ok(replies(p, size, 65536, &count) == NGX_ERROR, "a large value");
    memcpy(p, "$4000000\r\n", 10);
    rc = replies(p, 4000000, 65536, &count);
    tap_ok(rc == NGX_AGAIN && count == 0, "one that is not too large");
    free(p);

    number("$1\r\n0\r\n", NGX_OK, 0);
    number("$19\r\n9223372036854775807\r\n", NGX_OK, INT64_MAX);
    number("$-1\r\n", NGX_OK, 0);
    number("$19\r\n9223372036854775808\r\n", NGX_ERROR, 0);
    number("$20\r\n18446744073709551616\r\n", NGX_ERROR, 0);
    number("$0\r\n\r\n", NGX_ERROR, 0);
    number("$2\r\n-1\r\n", NGX_ERROR, 0);
    number("$2\r\n 1\r\n", NGX_ERROR, 0);
    number(":1\r\n", NGX_ERROR, 0);
    number("*0\r\n", NGX_ERROR, 0);
    number("", NGX_ERROR, 0);

    scan("*2\r\n$1\r\n0\r\n*0\r\n", NGX_OK, 1, 0);
    scan("*2\r\n$2\r\n17\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n", NGX_OK, 0, 2);
    scan("*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n", NGX_ERROR, 0, 0);
    scan("*2\r\n$1\r\nx\r\n*0\r\n", NGX_ERROR, 0, 0);
    scan("*2\r\n$0\r\n\r\n*0\r\n", NGX_ERROR, 0, 0);
    scan("*2\r\n$24\r\n012345678901234567890123\r\n*0\r\n", NGX_ERROR, 0, 0);
    scan("*2\r\n:0\r\n*0\r\n", NGX_ERROR, 0, 0);
    scan("*2\r\n$1\r\n0\r\n*2\r\n$-1\r\n$1\r\na\r\n", NGX_ERROR, 0, 0);
    scan("*2\r\n$1\r\n0\r\n$1\r\n0\r\n", NGX_ERROR, 0, 0);
    scan("*1\r\n$1\r\n0\r\n", NGX_ERROR, 0, 0);
    scan("*0\r\n", NGX_ERROR, 0, 0);
    scan("*-1\r\n", NGX_ERROR, 0, 0);
    scan("", NGX_ERROR, 0, 0);

    error("-ERR unknown command 'AUTH', with args beginning with: 'x'\r\n",
          "ERR");
    error("-NOPERM this user has no permissions\r\n", "NOPERM");
    error("-WRONGPASS\r\n", "WRONGPASS");
    error("-secret\r\n", "an error");
    error("-ERRsecret\r\n", "an error");
    error("-\r\n", "an error");

    reply = parse("+QUEUED\r\n");
    tap_ok(ngx_oci_redis_status(reply, "QUEUED"), "a status that is asked "
           "for");
    tap_ok(!ngx_oci_redis_status(reply, "QUEUE"), "and not another one");
    freeReplyObject(reply);
}


int
main(void)
{
    test_fields();
    test_replies();

    return tap_done();
}
