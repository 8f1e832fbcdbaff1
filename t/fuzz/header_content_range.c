
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_header.h"
#include "fuzz.h"


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int        len;
    char       text[128];
    off_t      start, end, total, start2, end2, total2;
    ngx_int_t  rc;
    ngx_str_t  value, again;

    value = fuzz_copy(data, size);

    rc = ngx_oci_content_range_parse(&value, &start, &end, &total);

    fuzz_check(rc == NGX_OK || rc == NGX_ERROR);

    if (rc == NGX_OK) {

        if (start == -1) {
            fuzz_check(end == -1);
            fuzz_check(total >= 0);

            len = snprintf(text, sizeof(text), "bytes */%lld",
                           (long long) total);

        } else {
            fuzz_check(start >= 0);
            fuzz_check(start < end);
            fuzz_check(total == -1 || end <= total);

            if (total == -1) {
                len = snprintf(text, sizeof(text), "bytes %lld-%lld/*",
                               (long long) start, (long long) end - 1);

            } else {
                len = snprintf(text, sizeof(text), "bytes %lld-%lld/%lld",
                               (long long) start, (long long) end - 1,
                               (long long) total);
            }
        }

        again = fuzz_copy((uint8_t *) text, len);

        fuzz_check(ngx_oci_content_range_parse(&again, &start2, &end2,
                                               &total2)
                   == NGX_OK);
        fuzz_check(start2 == start && end2 == end && total2 == total);

        free(again.data);
    }

    free(value.data);

    return 0;
}
