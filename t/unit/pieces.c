
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_pieces.h"
#include "tap.h"


#define T_A   "\"sha256:1111111111111111111111111111111111111111111111111111" \
              "111111111111\""
#define T_B   "\"sha256:2222222222222222222222222222222222222222222222222222" \
              "222222222222\""
#define T_DA  "{\"digest\":" T_A ",\"size\":7}"
#define T_DB  "{\"digest\":" T_B ",\"size\":8}"
#define T_FAR "{\"digest\":" T_B ",\"size\":8,\"urls\":[\"http://x/\"],"      \
              "\"mediaType\":\"application/vnd.docker.image.rootfs.foreign."  \
              "diff.tar.gzip\"}"


#define T_P(digest, os, arch, more)                                           \
    "{\"digest\":" digest ",\"size\":7,\"platform\":{\"os\":\"" os "\","      \
    "\"architecture\":\"" arch "\"" more "}}"
#define T_ATTESTATION(digest, of)                                             \
    "{\"digest\":" digest ",\"size\":9,\"platform\":{\"os\":\"unknown\","     \
    "\"architecture\":\"unknown\"},\"annotations\":"                          \
    "{\"vnd.docker.reference.digest\":" of "}}"
#define T_C   "\"sha256:3333333333333333333333333333333333333333333333333333" \
              "333333333333\""


typedef struct {
    const char  *text;
    ngx_int_t    rc;
    const char  *found;             /* kind, first digit, size; ... */
} t_case_t;


typedef struct {
    const char  *platforms;
    const char  *manifests;
    ngx_int_t    rc;
    const char  *found;
} t_platform_t;


static char  t_found[256];


static t_case_t  t_cases[] = {

    { "", NGX_DECLINED, "" },
    { "[]", NGX_DECLINED, "" },
    { "null", NGX_DECLINED, "" },
    { "{}", NGX_DECLINED, "" },
    { "{\"layers\":[]}", NGX_OK, "" },
    { "{\"layers\":[" T_DA "," T_DB "]}", NGX_OK, "b17;b28;" },
    { "{\"config\":" T_DB ",\"layers\":[" T_DA "]}", NGX_OK, "b28;b17;" },
    { "{\"layers\":[" T_DA "],\"config\":" T_DB "}", NGX_OK, "b28;b17;" },
    { "{\"blobs\":[" T_DA "]}", NGX_OK, "b17;" },
    { "{\"manifests\":[" T_DA "," T_DB "]}", NGX_OK, "m17;m28;" },
    { "{\"manifests\":[]}", NGX_OK, "" },

    /* elsewhere */

    { "{\"layers\":[" T_FAR "," T_DA "]}", NGX_OK, "b17;" },

    /* what is none */

    { "{\"config\":" T_DA "}", NGX_DECLINED, "" },
    { "{\"manifests\":[],\"layers\":[]}", NGX_DECLINED, "" },
    { "{\"manifests\":[],\"config\":{}}", NGX_DECLINED, "" },
    { "{\"layers\":{}}", NGX_DECLINED, "" },
    { "{\"layers\":[1]}", NGX_DECLINED, "" },
    { "{\"layers\":[{}]}", NGX_DECLINED, "" },
    { "{\"layers\":[],\"layers\":[]}", NGX_DECLINED, "" },
    { "{\"layers\":[{\"digest\":" T_A "}]}", NGX_DECLINED, "" },
    { "{\"layers\":[{\"digest\":" T_A ",\"size\":-1}]}", NGX_DECLINED, "" },
    { "{\"layers\":[{\"digest\":" T_A ",\"size\":\"7\"}]}", NGX_DECLINED,
      "" },
    { "{\"layers\":[{\"digest\":\"sha256:../../x\",\"size\":7}]}",
      NGX_DECLINED, "" },
    { "{\"layers\":[{\"digest\":\"md5:11\",\"size\":7}]}", NGX_DECLINED,
      "" },
    { "{\"layers\":[" T_DA ",{}]}", NGX_DECLINED, "b17;" },
    { NULL, 0, NULL }
};


static t_platform_t  t_platforms[] = {

    { "linux/amd64", T_P(T_A, "linux", "amd64", "") ","
                     T_P(T_B, "linux", "arm64", ""), NGX_OK,
      "m17;-linux/arm64;" },
    { "linux/arm64", T_P(T_A, "linux", "amd64", "") ","
                     T_P(T_B, "linux", "arm64", ""), NGX_OK,
      "-linux/amd64;m27;" },
    { "linux/amd64,linux/arm64", T_P(T_A, "linux", "amd64", "") ","
                                 T_P(T_B, "linux", "arm64", ""), NGX_OK,
      "m17;m27;" },
    { "linux/s390x", T_P(T_A, "linux", "amd64", "") ","
                     T_P(T_B, "linux", "arm64", ""), NGX_DECLINED,
      "-linux/amd64;-linux/arm64;" },
    { "linux/amd64", "", NGX_OK, "" },

    /* without a platform it is of any */

    { "linux/amd64", T_DA "," T_P(T_B, "linux", "arm64", ""), NGX_OK,
      "m17;-linux/arm64;" },
    { "linux/amd64", "{\"digest\":" T_A ",\"size\":7,\"platform\":{}}",
      NGX_OK, "m17;" },
    { "linux/amd64", "{\"digest\":" T_A ",\"size\":7,\"platform\":"
                     "{\"os\":\"linux\",\"architecture\":7}}",
      NGX_OK, "m17;" },

    /* variants */

    { "linux/arm", T_P(T_A, "linux", "arm", ",\"variant\":\"v7\""), NGX_OK,
      "m17;" },
    { "linux/arm/v7", T_P(T_A, "linux", "arm", ",\"variant\":\"v7\"") ","
                      T_P(T_B, "linux", "arm", ",\"variant\":\"v6\""),
      NGX_OK, "m17;-linux/arm/v6;" },
    { "linux/arm/v7", T_P(T_A, "linux", "arm", ""), NGX_DECLINED,
      "-linux/arm;" },
    { "linux/arm64/v8", T_P(T_A, "linux", "arm64", ""), NGX_OK, "m17;" },
    { "linux/arm64/v9", T_P(T_A, "linux", "arm64", ""), NGX_DECLINED,
      "-linux/arm64;" },

    /* what BuildKit says of another one */

    { "linux/amd64", T_P(T_A, "linux", "amd64", "") ","
                     T_P(T_B, "linux", "arm64", "") ","
                     T_ATTESTATION(T_C, T_A), NGX_OK,
      "m17;-linux/arm64;m39;" },
    { "linux/amd64", T_ATTESTATION(T_C, T_A) ","
                     T_P(T_A, "linux", "amd64", ""), NGX_OK, "m39;m17;" },
    { "linux/arm64", T_P(T_A, "linux", "amd64", "") ","
                     T_P(T_B, "linux", "arm64", "") ","
                     T_ATTESTATION(T_C, T_A), NGX_OK,
      "-linux/amd64;m27;" },
    { "linux/arm64", T_P(T_A, "linux", "amd64", "") ","
                     T_ATTESTATION(T_C, T_A), NGX_DECLINED,
      "-linux/amd64;" },

    /* nothing that could be taken for more than one */

    { "linux/arm64", T_P(T_A, "li,nux\\n", "a\\\"b", ""), NGX_DECLINED,
      "-li?nux?/a?b;" },

    { "linux/amd64", "1", NGX_DECLINED, "" },
    { "linux/amd64", "{}", NGX_DECLINED, "" },
    { "linux/amd64", "{\"digest\":1,\"size\":7}", NGX_DECLINED, "" },
    { "linux/amd64", T_P("\"sha256:1\"", "linux", "amd64", ""), NGX_DECLINED,
      "" },
    { NULL, NULL, 0, NULL }
};


static struct {
    const char  *list;
    ngx_int_t    rc;
} t_lists[] = {
    { "linux/amd64", NGX_OK },
    { "linux/arm/v7,windows/amd64", NGX_OK },
    { "a/b,c/d,e/f/g", NGX_OK },
    { "", NGX_ERROR },
    { ",", NGX_ERROR },
    { "linux", NGX_ERROR },
    { "linux/", NGX_ERROR },
    { "/amd64", NGX_ERROR },
    { "linux//v7", NGX_ERROR },
    { "linux/arm/", NGX_ERROR },
    { "linux/arm/v7/x", NGX_ERROR },
    { "linux/amd64,", NGX_ERROR },
    { ",linux/amd64", NGX_ERROR },
    { "linux/amd64,,linux/arm64", NGX_ERROR },
    { "linux/amd64 ", NGX_ERROR },
    { "linux/am\"64", NGX_ERROR },
    { NULL, 0 }
};


static ngx_int_t
t_piece(void *data, ngx_uint_t kind, const char *digest, size_t digest_len,
    off_t size)
{
    char  *p;

    p = t_found + strlen(t_found);

    if (kind == NGX_OCI_PIECE_LEFT_OUT) {
        (void) snprintf(p, t_found + sizeof(t_found) - p, "-%.*s;",
                        (int) digest_len, digest);
        return NGX_OK;
    }

    (void) snprintf(p, t_found + sizeof(t_found) - p, "%c%c%d;",
                    kind == NGX_OCI_PIECE_MANIFEST ? 'm' : 'b', digest[7],
                    (int) size);

    return data ? NGX_BUSY : NGX_OK;
}


static void
t_chosen(void)
{
    char           text[2048];
    ngx_int_t      rc;
    ngx_str_t      list;
    ngx_uint_t     i;
    const char    *error;
    t_platform_t  *c;

    for (c = t_platforms; c->platforms; c++) {

        t_found[0] = '\0';
        error = NULL;

        list = tap_copy(c->platforms, strlen(c->platforms));

        (void) snprintf(text, sizeof(text), "{\"manifests\":[%s]}",
                        c->manifests);

        rc = ngx_oci_pieces(text, strlen(text), &list, t_piece, NULL, &error);

        tap_ok(rc == c->rc && strcmp(t_found, c->found) == 0
               && (rc == NGX_OK || error != NULL), text);

        free(list.data);
    }

    for (i = 0; t_lists[i].list; i++) {

        list = tap_copy(t_lists[i].list, strlen(t_lists[i].list));

        tap_ok(ngx_oci_platforms_valid((char *) list.data, list.len)
               == t_lists[i].rc, t_lists[i].list);

        free(list.data);
    }

    memset(text, 'a', sizeof(text));
    text[1] = '/';

    tap_ok(ngx_oci_platforms_valid(text, NGX_OCI_PLATFORMS) == NGX_OK
           && ngx_oci_platforms_valid(text, NGX_OCI_PLATFORMS + 1)
              == NGX_ERROR, "a long list");

    text[sizeof(text) - 1] = '\0';

    tap_ok(ngx_oci_platform_text(t_found, text, text, text)
           == strlen(t_found) && strlen(t_found) == 90, "a long platform");
}


/* a tree of it would have a hundred times its bytes */

static void
t_bomb(void)
{
    char        *text, *p;
    ngx_int_t    rc;
    ngx_str_t    all;
    ngx_uint_t   i;
    const char  *error;

    ngx_str_null(&all);

    text = malloc(NGX_OCI_JSON_VALUES * 3 + 64);
    p = text + sprintf(text, "{\"layers\":[],\"x\":[");

    for (i = 0; i < NGX_OCI_JSON_VALUES; i++) {
        p += sprintf(p, "{},");
    }

    p += sprintf(p, "{}]}");

    error = NULL;
    rc = ngx_oci_pieces(text, p - text, &all, t_piece, NULL, &error);

    tap_ok(rc == NGX_DECLINED && error
           && strcmp(error, "it has too many values") == 0, "a bomb");

    free(text);
}


int
main(void)
{
    ngx_int_t    rc;
    t_case_t    *c;
    ngx_str_t    all;
    const char  *error;

    ngx_str_null(&all);

    for (c = t_cases; c->text; c++) {

        t_found[0] = '\0';
        error = NULL;

        rc = ngx_oci_pieces(c->text, strlen(c->text), &all, t_piece, NULL,
                            &error);

        tap_ok(rc == c->rc && strcmp(t_found, c->found) == 0
               && (rc == NGX_OK || error != NULL), c->text);
    }

    t_found[0] = '\0';

    rc = ngx_oci_pieces("{\"layers\":[" T_DA "," T_DB "]}",
                        strlen("{\"layers\":[" T_DA "," T_DB "]}"), &all,
                        t_piece, t_found, &error);

    tap_ok(rc == NGX_BUSY && strcmp(t_found, "b17;") == 0,
           "the handler's end");

    t_chosen();
    t_bomb();

    return tap_done();
}
