
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_event.h"
#include "fuzz.h"


static ngx_uint_t  fuzz_found;


static ngx_int_t
fuzz_name(void *data, const char *repository, const char *reference,
    ngx_uint_t pushed)
{
    size_t            len;
    ngx_oci_digest_t  digest;

    len = strlen(reference);

    fuzz_check(data == &fuzz_found);
    fuzz_check(pushed < 2);
    fuzz_check(ngx_oci_name_valid((u_char *) repository, strlen(repository))
               == NGX_OK);
    fuzz_check(ngx_oci_tag_valid((u_char *) reference, len) == NGX_OK
               || ngx_oci_digest_parse(&digest, (u_char *) reference, len)
                  == NGX_OK);

    return (++fuzz_found == 100) ? NGX_BUSY : NGX_OK;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_int_t  rc;
    ngx_str_t  s;

    s = fuzz_copy(data, size);

    fuzz_found = 0;

    rc = ngx_oci_event((char *) s.data, s.len, fuzz_name, &fuzz_found);

    fuzz_check(rc == NGX_OK || rc == NGX_BUSY || rc == NGX_DECLINED);

    free(s.data);

    return 0;
}
