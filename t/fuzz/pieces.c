
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
    fuzz_check(kind == NGX_OCI_PIECE_MANIFEST || kind == NGX_OCI_PIECE_BLOB);
    fuzz_check(digest_len == 71 || digest_len == 135);
    fuzz_check(size >= 0);

    return (++fuzz_found == 100) ? NGX_BUSY : NGX_OK;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_int_t    rc;
    ngx_str_t    s;
    const char  *error;

    s = fuzz_copy(data, size);

    fuzz_found = 0;
    error = NULL;

    rc = ngx_oci_pieces((char *) s.data, s.len, fuzz_piece,
                                 &fuzz_found, &error);

    fuzz_check(rc == NGX_OK || rc == NGX_BUSY
               || (rc == NGX_DECLINED && error));

    free(s.data);

    return 0;
}
