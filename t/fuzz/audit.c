
/*
 * Copyright (C) The nginx-oci authors
 *
 * Lines of an audit log, and files of them: nothing is believed that was not
 * signed, and what is escaped is one line of printable ASCII.
 */


#include "ngx_oci_audit_verify.h"
#include "fuzz.h"


static void
fuzz_escape(const uint8_t *data, size_t size)
{
    u_char               buf[512];
    u_char              *p;
    ngx_str_t            s;
    ngx_oci_audit_out_t  out;

    s = fuzz_copy(data, size);

    out.pos = buf;
    out.last = buf + (size ? data[0] : 0);

    ngx_oci_audit_string(&out, "a", &s, size > 1 ? data[1] : 0);

    fuzz_check(out.pos <= out.last);

    for (p = buf; p < out.pos; p++) {
        fuzz_check(*p >= 0x20 && *p < 0x7f);
    }

    fuzz_check(out.pos == buf || out.pos[-1] == '"');

    free(s.data);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static EVP_PKEY  *key;

    size_t                   len;
    ngx_str_t                s;
    const uint8_t           *p, *end;
    ngx_oci_audit_line_t     line;
    ngx_oci_audit_verify_t  *v;
    ngx_oci_audit_result_t  *result;

    if (key == NULL) {
        key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    }

    fuzz_escape(data, size);

    v = ngx_oci_audit_verify_create(1, NULL, NULL);
    fuzz_check(v);

    EVP_PKEY_up_ref(key);
    fuzz_check(ngx_oci_audit_verify_key(v, key) == NGX_OK);
    fuzz_check(ngx_oci_audit_verify_file(v) == NGX_OK);

    for (p = data; size; p += len, size -= len) {

        end = memchr(p, '\n', size);
        len = end ? (size_t) (end - p) : size;

        s = fuzz_copy(p, len);
        (void) ngx_oci_audit_parse(&line, s.data, s.len);
        fuzz_check(ngx_oci_audit_verify_line(v, s.data, s.len, end == NULL)
                   == NGX_OK);
        free(s.data);

        len += (end != NULL);
    }

    result = ngx_oci_audit_verify_done(v);

    fuzz_check(result->lines == 0 || result->broken);

    ngx_oci_audit_verify_free(v);

    return 0;
}
