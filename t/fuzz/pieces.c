
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_pieces.h"
#include "fuzz.h"


static ngx_uint_t  fuzz_found;


static ngx_int_t
fuzz_piece(void *data, ngx_uint_t kind, const char *digest,
    size_t digest_len, off_t size)
{
    fuzz_check(data == &fuzz_found);

    if (kind == NGX_OCI_PIECE_LEFT_OUT) {
        fuzz_check(digest_len == strlen(digest));
        fuzz_check(digest_len < NGX_OCI_PLATFORM_TEXT);
        return NGX_OK;
    }

    fuzz_check(kind == NGX_OCI_PIECE_MANIFEST || kind == NGX_OCI_PIECE_BLOB);
    fuzz_check(digest_len == 71 || digest_len == 135);
    fuzz_check(size >= 0);

    return (++fuzz_found == 100) ? NGX_BUSY : NGX_OK;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t       n;
    ngx_int_t    rc;
    ngx_str_t    s, list;
    const char  *error;

    /* a list of platforms may stand before the text */

    for (n = 0; n < size && data[n] != '{'; n++) { /* void */ }

    list = fuzz_copy(data, n);

    if (ngx_oci_platforms_valid((char *) list.data, list.len) != NGX_OK) {
        list.len = 0;
        n = 0;
    }

    s = fuzz_copy(data + n, size - n);

    fuzz_found = 0;
    error = NULL;

    rc = ngx_oci_pieces((char *) s.data, s.len, &list, fuzz_piece,
                        &fuzz_found, &error);

    fuzz_check(rc == NGX_OK || rc == NGX_BUSY
               || (rc == NGX_DECLINED && error));

    free(list.data);

    free(s.data);

    return 0;
}
