
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_header.h"
#include "fuzz.h"


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t     i;
    ngx_int_t  rc;
    ngx_str_t  value, target;

    value = fuzz_copy(data, size);

    rc = ngx_oci_link_parse(&value, &target);

    fuzz_check(rc == NGX_OK || rc == NGX_ERROR);

    if (rc == NGX_OK) {
        fuzz_check(target.len > 0);
        fuzz_check(fuzz_inside(&target, &value));
        fuzz_check(target.data > value.data && target.data[-1] == '<');
        fuzz_check(target.data + target.len < value.data + value.len);
        fuzz_check(target.data[target.len] == '>');

        for (i = 0; i < target.len; i++) {
            fuzz_check(target.data[i] > 0x20 && target.data[i] != 0x7f
                       && target.data[i] != '<' && target.data[i] != '>'
                       && target.data[i] != '"');
        }
    }

    free(value.data);

    return 0;
}
