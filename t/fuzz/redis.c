
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a Redis answers, in pieces, and the document that its fields make.
 * The input's first byte is the size of the pieces.
 */


#include "ngx_oci_policy_fields.h"
#include "ngx_oci_redis_reply.h"
#include "fuzz.h"

#include <jansson.h>


/* names and values of a scan: their document is JSON, and says the same */

static void
fuzz_fields(redisReply *pairs)
{
    char               error[NGX_OCI_FIELDS_ERROR], *text, *again;
    size_t             i, n, len, len2;
    json_t            *root;
    ngx_oci_fields_t  *f, *g;

    f = ngx_oci_fields_create();
    g = ngx_oci_fields_create();

    if (f == NULL || g == NULL) {
        abort();
    }

    n = pairs->elements;

    for (i = 0; i < n; i += 2) {
        (void) ngx_oci_fields_set(f, pairs->element[i]->str,
                                  pairs->element[i]->len,
                                  pairs->element[i + 1]->str,
                                  pairs->element[i + 1]->len);
    }

    fuzz_check(ngx_oci_fields_count(f) <= n / 2);

    text = ngx_oci_fields_document(f, &len, error);

    if (text == NULL) {
        for (i = 0; error[i]; i++) {
            fuzz_check(error[i] >= 0x20 && error[i] < 0x7f);
        }

        goto done;
    }

    root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

    fuzz_check(root && json_object_size(root) <= 6);
    fuzz_check(json_integer_value(json_object_get(root, "version")) == 1);

    json_decref(root);

    /* in whatever order they came, without what has gone */

    (void) ngx_oci_fields_set(g, "role/gone", 9, "{", 1);

    for (i = n; i >= 2; i -= 2) {

        /* the last one counts */

        ngx_oci_fields_remove(g, pairs->element[i - 2]->str,
                              pairs->element[i - 2]->len);
    }

    for (i = 0; i < n; i += 2) {
        (void) ngx_oci_fields_set(g, pairs->element[i]->str,
                                  pairs->element[i]->len,
                                  pairs->element[i + 1]->str,
                                  pairs->element[i + 1]->len);
    }

    if (ngx_oci_fields_count(g) == ngx_oci_fields_count(f) + 1) {
        ngx_oci_fields_remove(g, "role/gone", 9);
    }

    again = ngx_oci_fields_document(g, &len2, error);

    fuzz_check(again && len2 == len && memcmp(text, again, len) == 0);

    free(again);
    free(text);

done:

    ngx_oci_fields_free(f);
    ngx_oci_fields_free(g);
}


static void
fuzz_reply(redisReply *reply)
{
    char         cursor[NGX_OCI_REDIS_CURSOR];
    uint64_t     n;
    ngx_uint_t   last;
    redisReply  *pairs;

    if (ngx_oci_redis_number(reply, &n) == NGX_OK) {
        fuzz_check(n <= INT64_MAX);
    }

    if (reply->type == REDIS_REPLY_ERROR) {
        fuzz_check(strlen(ngx_oci_redis_error(reply)) < 16);
    }

    (void) ngx_oci_redis_status(reply, "OK");

    if (ngx_oci_redis_scan(reply, cursor, &last, &pairs) == NGX_OK) {
        fuzz_check(strspn(cursor, "0123456789") == strlen(cursor));
        fuzz_check(pairs->elements % 2 == 0);
        fuzz_fields(pairs);
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t                   n, piece;
    ngx_int_t                rc;
    ngx_str_t                s;
    redisReply              *reply;
    ngx_oci_redis_reader_t   rr;

    if (size == 0) {
        return 0;
    }

    piece = data[0] ? data[0] : 4096;
    data++;
    size--;

    if (ngx_oci_redis_reader_init(&rr) != NGX_OK) {
        abort();
    }

    while (size) {
        n = ngx_min(piece, size);
        s = fuzz_copy(data, n);
        data += n;
        size -= n;

        rc = ngx_oci_redis_reader_feed(&rr, s.data, n);

        free(s.data);

        while (rc == NGX_OK) {
            rc = ngx_oci_redis_reader_next(&rr, &reply);

            if (rc == NGX_OK) {
                fuzz_reply(reply);
                freeReplyObject(reply);
            }
        }

        if (rc == NGX_ERROR) {
            fuzz_check(rr.error != NULL);
            break;
        }
    }

    ngx_oci_redis_reader_done(&rr);

    return 0;
}
