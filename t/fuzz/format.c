
/*
 * Copyright (C) The nginx-oci authors
 *
 * Bytes of blobs, and manifests by a project's rules.  The input's first byte
 * says which, and by how much a blob goes on with zeros.
 */


#include "ngx_oci_format_look.h"
#include "ngx_oci_rules_manifest.h"
#include "fuzz.h"


static const char  fuzz_doc[] =
    "{\"version\":1,\"projects\":{\"p\":{\"rules\":{"
    "\"media_types\":{\"allow\":[\"application/*\"],\"refuse\":[\"*.x*\"]},"
    "\"artifact_types\":{\"allow\":[\"application/vnd.*\"]},"
    "\"formats\":{\"allow\":[\"safetensors\"],\"refuse\":[\"pickle\"]},"
    "\"signature\":{\"keys\":[\"-----BEGIN PUBLIC KEY-----\\n"
    "MCowBQYDK2VwAyEABeux8VloXrB+4IfFb51tJ5DTwMIBkJBKUPNlc5ME4xg="
    "\\n-----END PUBLIC KEY-----\\n\"]}}}}}";


static void
fuzz_look(const uint8_t *data, size_t size, uint64_t all)
{
    size_t           n;
    u_char          *p;
    ngx_int_t        rc;
    ngx_uint_t       looks;
    ngx_oci_look_t   look;

    looks = 0;

    ngx_oci_look_init(&look, all);

    do {
        fuzz_check(look.start <= look.end && look.end <= all
                   && look.end - look.start <= NGX_OCI_LOOK_MAX
                   && ++looks < 1000);

        n = (size_t) (look.end - look.start);
        p = calloc(1, n ? n : 1);

        if (p == NULL) {
            abort();
        }

        if (look.start < size) {
            memcpy(p, data + look.start, ngx_min(n, size - look.start));
        }

        rc = ngx_oci_look(&look, p);
        free(p);

        fuzz_check(rc == NGX_OK || rc == NGX_AGAIN);

    } while (rc == NGX_AGAIN);

    /* what carries a pickle at its beginning is found */

    if (all == size && size >= 4 && data[0] == 0x80 && data[1] == 2
        && data[2] == 'N' && data[3] == '.')
    {
        fuzz_check(look.bits & NGX_OCI_FORMAT_PICKLE);
    }
}


static void
fuzz_manifest(const uint8_t *data, size_t size)
{
    ngx_str_t                 type, name, body;
    ngx_uint_t                i, k;
    ngx_oci_rules_verdict_t   v;

    static ngx_oci_rbac_t    *doc;
    static ngx_oci_rules_t   *rules;
    ngx_oci_policy_error_t    error;

    if (doc == NULL) {
        doc = ngx_oci_policy_compile(fuzz_doc, sizeof(fuzz_doc) - 1, &error);
        fuzz_check(doc != NULL);

        ngx_str_set(&name, "p/x");
        rules = ngx_oci_rules_find(doc, &name);
        fuzz_check(rules != NULL);
    }

    ngx_str_set(&type, "application/vnd.oci.image.manifest.v1+json");

    body = fuzz_copy(data, size);

    fuzz_check(ngx_oci_rules_manifest(rules, &type, body.data, body.len, &v)
               == NGX_OK);

    fuzz_check((v.broken & ~(ngx_uint_t) NGX_OCI_RULES_MANIFEST) == 0);

    for (i = 0; i < NGX_OCI_RULES_N; i++) {

        fuzz_check(((v.broken >> i) & 1) == (v.why[i][0] != '\0'));

        for (k = 0; v.why[i][k]; k++) {
            fuzz_check(v.why[i][k] >= 0x20 && v.why[i][k] < 0x7f);
        }
    }

    ngx_oci_rules_verdict_free(&v);
    free(body.data);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }

    if (data[0] & 1) {
        fuzz_manifest(data + 1, size - 1);

    } else {
        fuzz_look(data + 1, size - 1,
                  size - 1 + ((data[0] & 2) ? (uint64_t) data[0] << 10 : 0)
                           + ((data[0] & 4) ? (uint64_t) 1 << 40 : 0));
    }

    return 0;
}
