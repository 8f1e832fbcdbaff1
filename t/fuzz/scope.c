
/*
 * Copyright (C) The nginx-oci authors
 *
 * Requests for tokens: what comes of them stays within the text and the
 * bounds, and makes claims.
 */


#include "ngx_oci_rbac.h"
#include "ngx_oci_route.h"
#include "ngx_oci_scope.h"
#include "fuzz.h"


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char              *claims;
    u_char             text[NGX_OCI_SCOPE_TEXT], again[NGX_OCI_SCOPE_TEXT];
    size_t             n, m;
    ngx_str_t          input, who, aud;
    ngx_uint_t         i;
    ngx_oci_scope_t   *scope;
    ngx_oci_scopes_t   scopes;

    if (size > 16384) {
        return 0;
    }

    input = fuzz_copy(data, size);

    if (ngx_oci_scopes_parse(&scopes, &input) != NULL) {
        free(input.data);
        return 0;
    }

    fuzz_check(fuzz_inside(&scopes.service, &input));
    fuzz_check(fuzz_inside(&scopes.grant_type, &input));
    fuzz_check(fuzz_inside(&scopes.username, &input));
    fuzz_check(fuzz_inside(&scopes.password, &input));
    fuzz_check(scopes.nscopes <= NGX_OCI_SCOPE_MAX);

    for (i = 0; i < scopes.nscopes; i++) {
        scope = &scopes.scopes[i];

        fuzz_check(fuzz_inside(&scope->name, &input));

        if (scope->kind == NGX_OCI_SCOPE_CATALOG) {
            fuzz_check((scope->actions & ~(ngx_uint_t) NGX_OCI_CATALOG) == 0);
            continue;
        }

        fuzz_check(scope->kind == NGX_OCI_SCOPE_REPOSITORY);
        fuzz_check(ngx_oci_name_valid(scope->name.data, scope->name.len)
                   == NGX_OK);
        fuzz_check((scope->actions & ~(ngx_uint_t) (NGX_OCI_PULL
                                       |NGX_OCI_PUSH|NGX_OCI_DELETE)) == 0);
    }

    who.data = (u_char *) "a";
    who.len = 1;
    aud = who;

    claims = ngx_oci_scopes_claims(&scopes, &who, &aud, &who, 1);
    fuzz_check(claims != NULL);
    fuzz_check(strlen(claims) < 8192);
    free(claims);

    /* the text of them is a request for the same */

    n = ngx_oci_scopes_text(&scopes, text);
    fuzz_check(n <= sizeof(text));

    free(input.data);

    input.len = n + 6;
    input.data = malloc(input.len);
    memcpy(input.data, "scope=", 6);
    memcpy(input.data + 6, text, n);

    fuzz_check(ngx_oci_scopes_parse(&scopes, &input) == NULL);

    m = ngx_oci_scopes_text(&scopes, again);
    fuzz_check(m == n && memcmp(text, again, n) == 0);

    free(input.data);

    return 0;
}
