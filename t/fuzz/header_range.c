
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_header.h"
#include "fuzz.h"


/* the first byte picks the size, the second how many ranges there may be */

static off_t  fuzz_sizes[] = {
    0, 1, 2, 10, 1000, 4294967296LL, 1LL << 50, 0x7ffffffffffffffeLL
};


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    off_t             total;
    size_t            i, commas;
    ngx_int_t         rc, n;
    ngx_str_t         value;
    ngx_uint_t        max;
    ngx_oci_range_t  *ranges;

    if (size < 2) {
        return 0;
    }

    total = fuzz_sizes[data[0] % 8];
    max = 1 + data[1] % 8;

    value = fuzz_copy(data + 2, size - 2);
    ranges = malloc(max * sizeof(ngx_oci_range_t));

    if (ranges == NULL) {
        abort();
    }

    rc = ngx_oci_range_parse(&value, total, ranges, max);

    fuzz_check(rc >= 0 || rc == NGX_ERROR || rc == NGX_DECLINED);
    fuzz_check(rc <= (ngx_int_t) max);

    commas = 0;

    for (i = 0; i < value.len; i++) {
        commas += (value.data[i] == ',');
    }

    if (rc != 0) {
        fuzz_check(value.len > 6
                   && strncasecmp((char *) value.data, "bytes=", 6) == 0);
        fuzz_check(memchr(value.data, '-', value.len) != NULL);
        fuzz_check((rc == NGX_ERROR) == (commas + 1 > max));
    }

    for (n = 0; n < rc; n++) {
        fuzz_check(ranges[n].start >= 0);
        fuzz_check(ranges[n].start < ranges[n].end);
        fuzz_check(ranges[n].end <= total);
    }

    if (rc > 0) {
        fuzz_check((size_t) rc <= commas + 1);
    }

    free(ranges);
    free(value.data);

    return 0;
}
