
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_descriptor.h"
#include "tap.h"


#define T_A    "11111111111111111111111111111111"                            \
               "11111111111111111111111111111111"
#define T_B    "22222222222222222222222222222222"                            \
               "22222222222222222222222222222222"
#define T_DA   "\"sha256:" T_A "\""
#define T_DB   "\"sha256:" T_B "\""
#define T_512  "\"sha512:" T_A T_B "\""
#define T_10(s)  s s s s s s s s s s
#define T_30(s)  T_10(s) T_10(s) T_10(s)


typedef struct {
    const char  *text;
    ngx_int_t    rc;
    const char  *found;             /* first digit of the digest, size; ... */
} t_case_t;


static t_case_t  t_cases[] = {

    { "", NGX_OK, "" },
    { "{}", NGX_OK, "" },
    { "[]", NGX_OK, "" },
    { "null", NGX_OK, "" },
    { "{\"digest\":" T_DA ",\"size\":7}", NGX_OK, "1 7;" },
    { "{\"size\":7,\"digest\":" T_DA "}", NGX_OK, "1 7;" },
    { " { \"size\" :\t7 ,\r\n \"digest\" : " T_DA " } ", NGX_OK, "1 7;" },
    { "{\"digest\":" T_512 ",\"size\":8}", NGX_OK, "1 8;" },

    /* a manifest, an index, and deeper */

    { "{\"schemaVersion\":2,\"config\":{\"digest\":" T_DA ",\"size\":1},"
      "\"layers\":[{\"size\":2,\"digest\":" T_DB ",\"urls\":[\"a\",\"b\"]},"
      "{\"digest\":" T_DA ",\"size\":3,\"annotations\":{\"size\":\"4\"}}]}",
      NGX_OK, "1 1;2 2;1 3;" },
    { "{\"manifests\":[{\"digest\":" T_DB ",\"platform\":{\"os\":\"x\"},"
      "\"size\":5}]}", NGX_OK, "2 5;" },
    { "[[{\"a\":{\"b\":[{\"digest\":" T_DA ",\"size\":6}]}}]]", NGX_OK,
      "1 6;" },
    { "{\"digest\":" T_DA ",\"x\":{\"digest\":" T_DB ",\"size\":1},"
      "\"size\":2}", NGX_OK, "2 1;1 2;" },

    /* the last one counts */

    { "{\"digest\":" T_DA ",\"digest\":" T_DB ",\"size\":1,\"size\":2}",
      NGX_OK, "2 2;" },
    { "{\"digest\":" T_DA ",\"size\":1,\"size\":\"2\"}", NGX_OK, "" },
    { "{\"digest\":" T_DA ",\"size\":1,\"digest\":null}", NGX_OK, "" },
    { "{\"digest\":" T_DA ",\"size\":1,\"digest\":[]}", NGX_OK, "" },

    /* no sizes, no digests */

    { "{\"digest\":" T_DA "}", NGX_OK, "" },
    { "{\"size\":1}", NGX_OK, "" },
    { "{\"digest\":" T_DA ",\"size\":0}", NGX_OK, "" },
    { "{\"digest\":" T_DA ",\"size\":-1}", NGX_OK, "" },
    { "{\"digest\":" T_DA ",\"size\":1.0}", NGX_OK, "" },
    { "{\"digest\":" T_DA ",\"size\":1e3}", NGX_OK, "" },
    { "{\"digest\":" T_DA ",\"size\":\"1\"}", NGX_OK, "" },
    { "{\"digest\":" T_DA ",\"size\":[1]}", NGX_OK, "" },
    { "{\"digest\":" T_DA ",\"size\":true}", NGX_OK, "" },
    { "{\"digest\":" T_DA ",\"size\":999999999999999999}", NGX_OK,
      "1 999999999999999999;" },
    { "{\"digest\":" T_DA ",\"size\":9999999999999999999}", NGX_OK, "" },
    { "{\"digest\":[" T_DA "],\"size\":1}", NGX_OK, "" },
    { "{\"digest\":\"sha256:" T_A "0\",\"size\":1}", NGX_OK, "" },
    { "{\"digest\":\"sha1:11\",\"size\":1}", NGX_OK, "" },
    { "{\"Digest\":" T_DA ",\"size\":1}", NGX_OK, "" },
    { "{\"di\\u0067est\":" T_DA ",\"size\":1}", NGX_OK, "" },
    { "[\"digest\"," T_DA ",\"size\",1]", NGX_OK, "" },

    /* what is in a string is no structure */

    { "{\"a\":\"{\\\"digest\\\":\\\"x\\\"}\",\"digest\":" T_DA
      ",\"size\":1}", NGX_OK, "1 1;" },
    { "{\"a\\\"b\":\"\\\\\",\"digest\":" T_DA ",\"size\":1}", NGX_OK,
      "1 1;" },
    { "\"{\"", NGX_OK, "" },

    /* broken: what stands before */

    { "{", NGX_ERROR, "" },
    { "}", NGX_ERROR, "" },
    { "[}", NGX_ERROR, "" },
    { "{]", NGX_ERROR, "" },
    { "{\"a\"}", NGX_ERROR, "" },
    { "{\"a\":}", NGX_ERROR, "" },
    { "{\"a", NGX_ERROR, "" },
    { "{\"a\\", NGX_ERROR, "" },
    { "{\"a\\\"", NGX_ERROR, "" },
    { "{1:2}", NGX_ERROR, "" },
    { "{{}}", NGX_ERROR, "" },
    { "{[]}", NGX_ERROR, "" },
    { "\x01", NGX_ERROR, "" },
    { "[{\"digest\":" T_DA ",\"size\":1},#", NGX_ERROR, "1 1;" },
    { "[{\"digest\":" T_DA ",\"size\":1},{\"digest\":" T_DB ",\"size\":2",
      NGX_ERROR, "1 1;" },

    /* deep */

    { T_30("[") "[{\"digest\":" T_DA ",\"size\":1}]" T_30("]"), NGX_OK,
      "1 1;" },
    { T_30("[") "[[{\"digest\":" T_DA ",\"size\":1}]]" T_30("]"), NGX_ERROR,
      "" },

    { NULL, 0, NULL }
};


static char  t_many[] = "[{\"digest\":" T_DA ",\"size\":1},"
                        "{\"digest\":" T_DB ",\"size\":2},";


typedef struct {
    char        found[512];
    ngx_uint_t  n;
    ngx_uint_t  max;
} t_found_t;


static ngx_int_t
t_handler(void *data, ngx_oci_digest_t *digest, off_t size)
{
    t_found_t *f = data;

    size_t  len;

    len = strlen(f->found);

    snprintf(f->found + len, sizeof(f->found) - len, "%x %ld;",
             digest->bytes[0] >> 4, (long) size);

    return (++f->n == f->max) ? NGX_DONE : NGX_OK;
}


int
main(void)
{
    t_case_t   *c;
    ngx_str_t   s;
    ngx_int_t   rc;
    t_found_t   f;

    for (c = t_cases; c->text; c++) {
        memset(&f, 0, sizeof(f));

        s = tap_copy(c->text, strlen(c->text));
        rc = ngx_oci_descriptors(s.data, s.len, t_handler, &f);

        tap_ok(rc == c->rc && strcmp(f.found, c->found) == 0, c->text);

        free(s.data);
    }

    /* enough */

    memset(&f, 0, sizeof(f));
    f.max = 1;

    s = tap_copy(t_many, sizeof(t_many) - 1);
    rc = ngx_oci_descriptors(s.data, s.len, t_handler, &f);

    tap_ok(rc == NGX_OK && strcmp(f.found, "1 1;") == 0, "enough");

    free(s.data);

    return tap_done();
}
