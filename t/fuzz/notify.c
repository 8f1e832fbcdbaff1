
/*
 * Copyright (C) The nginx-oci authors
 *
 * A queue's file as it may be found: read to its end, as whoever sends does.
 */


#include "ngx_oci_notify_record.h"
#include "fuzz.h"


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t             i, skip, n;
    u_char             copy[NGX_OCI_NOTE_RECORD];
    ngx_str_t          s;
    ngx_oci_record_t   record;

    s = fuzz_copy(data, size);

    for (i = 0; /* void */ ; i += skip + n) {

        if (ngx_oci_record_read(s.data + i, s.len - i, &skip, &record, &n)
            != NGX_OK)
        {
            fuzz_check(skip <= s.len - i);
            break;
        }

        fuzz_check(n >= NGX_OCI_RECORD_HEAD && n <= NGX_OCI_NOTE_RECORD);
        fuzz_check(skip + n <= s.len - i);
        fuzz_check(fuzz_inside(&record.repository, &s));
        fuzz_check(fuzz_inside(&record.body, &s));
        fuzz_check(ngx_oci_note_type(record.format) != NULL);

        /* what was read is written in the same way */

        fuzz_check(ngx_oci_record_size(record.repository.len,
                                       record.body.len)
                   == n);
        fuzz_check(ngx_oci_record_write(copy, &record) == copy + n);
    }

    free(s.data);

    return 0;
}
