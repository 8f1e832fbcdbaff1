
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


typedef struct {
    const char  *text;
    ngx_int_t    rc;
    const char  *found;             /* kind, first digit, size; ... */
} t_case_t;


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


static ngx_int_t
t_piece(void *data, ngx_uint_t kind, const char *digest, size_t digest_len,
    off_t size)
{
    char  *p;

    p = t_found + strlen(t_found);

    (void) snprintf(p, t_found + sizeof(t_found) - p, "%c%c%d;",
                    kind == NGX_OCI_PIECE_MANIFEST ? 'm' : 'b', digest[7],
                    (int) size);

    return data ? NGX_BUSY : NGX_OK;
}


int
main(void)
{
    ngx_int_t    rc;
    t_case_t    *c;
    const char  *error;

    for (c = t_cases; c->text; c++) {

        t_found[0] = '\0';
        error = NULL;

        rc = ngx_oci_pieces(c->text, strlen(c->text), t_piece, NULL,
                                     &error);

        tap_ok(rc == c->rc && strcmp(t_found, c->found) == 0
           && (rc == NGX_OK || error != NULL), c->text);
    }

    t_found[0] = '\0';

    rc = ngx_oci_pieces("{\"layers\":[" T_DA "," T_DB "]}",
                                 strlen("{\"layers\":[" T_DA "," T_DB "]}"),
                                 t_piece, t_found, &error);

    tap_ok(rc == NGX_BUSY && strcmp(t_found, "b17;") == 0, "the handler's end");

    return tap_done();
}
