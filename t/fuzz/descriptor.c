
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_descriptor.h"
#include "fuzz.h"


static ngx_uint_t  fuzz_found;


static ngx_int_t
fuzz_handler(void *data, ngx_oci_digest_t *digest, off_t size)
{
    fuzz_check(data == &fuzz_found);
    fuzz_check(size > 0);
    fuzz_check(digest->alg == NGX_OCI_SHA256 || digest->alg == NGX_OCI_SHA512);
    fuzz_check(digest->size == (digest->alg == NGX_OCI_SHA256 ? 32 : 64));

    return (++fuzz_found == 100) ? NGX_DONE : NGX_OK;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_int_t  rc;
    ngx_str_t  s;

    s = fuzz_copy(data, size);

    fuzz_found = 0;

    rc = ngx_oci_descriptors(s.data, s.len, fuzz_handler, &fuzz_found);

    fuzz_check(rc == NGX_OK || rc == NGX_ERROR);
    fuzz_check(fuzz_found <= size / 80);

    free(s.data);

    return 0;
}
