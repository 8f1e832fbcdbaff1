
/*
 * Copyright (C) The nginx-oci authors
 *
 * Policy documents, patterns and PHC strings.  The input's first byte says
 * which; "\n" parts a pattern from a name, and a document from a name.
 */


#include "ngx_oci_phc.h"
#include "ngx_oci_rbac.h"
#include "ngx_oci_route.h"
#include "fuzz.h"


/* "*" in the simplest way there is; few stars and short names only */

static int
fuzz_match(const u_char *p, size_t plen, const u_char *s, size_t slen)
{
    size_t  i;

    if (plen == 2 && p[0] == '*' && p[1] == '*') {
        return slen > 0;
    }

    if (plen == 0) {
        return slen == 0;
    }

    if (*p == '*') {
        for (i = 0; i <= slen; i++) {
            if (fuzz_match(p + 1, plen - 1, s + i, slen - i)) {
                return 1;
            }

            if (i < slen && s[i] == '/') {
                break;
            }
        }

        return 0;
    }

    return slen && *p == *s
           && fuzz_match(p + 1, plen - 1, s + 1, slen - 1);
}


static void
fuzz_pattern(ngx_str_t *pattern, ngx_str_t *name)
{
    int         match;
    size_t      i;
    ngx_uint_t  stars;

    if (ngx_oci_pattern_check((char *) pattern->data, pattern->len)
        || ngx_oci_name_valid(name->data, name->len) != NGX_OK)
    {
        (void) ngx_oci_pattern_match(pattern, name);
        return;
    }

    match = ngx_oci_pattern_match(pattern, name);

    for (i = 0, stars = 0; i < pattern->len; i++) {
        stars += (pattern->data[i] == '*');
    }

    if (stars < 5 && name->len < 40) {
        fuzz_check(match == fuzz_match(pattern->data, pattern->len,
                                       name->data, name->len));
    }
}


static void
fuzz_subject(ngx_oci_rbac_t *doc, ngx_oci_rbac_subject_t *subject,
    ngx_str_t *name)
{
    ngx_uint_t            i, rights;
    ngx_oci_rbac_rule_t  *rule, *first;

    for (i = 1; i < NGX_OCI_LOGIN; i *= 2) {

        rights = ngx_oci_rbac_rights(doc, subject, name, i, &rule);

        fuzz_check((rule != NULL) == ((rights & i) != 0));
        fuzz_check(subject || (rights & ~(ngx_uint_t) NGX_OCI_PULL) == 0);

        /* what one has here one has somewhere */

        first = ngx_oci_rbac_anywhere(doc, subject, i);

        fuzz_check(first == NULL || (first->actions & i));
        fuzz_check(first || rule == NULL
                   || ngx_oci_rbac_duty(i) == NGX_OCI_RBAC_DUTIES);

        if (rule) {
            fuzz_check(rule->actions & i);
            fuzz_check(rule->name + rule->name_len < doc->size);
        }
    }
}


static void
fuzz_document(ngx_str_t *text, ngx_str_t *name)
{
    uint32_t                  i, n, *place, chain;
    ngx_str_t                 s;
    ngx_oci_phc_t             phc;
    ngx_oci_rbac_t           *doc;
    ngx_oci_rbac_subject_t   *subject;
    ngx_oci_policy_error_t    error;

    doc = ngx_oci_policy_compile((char *) text->data, text->len, &error);

    if (doc == NULL) {
        fuzz_check(error.text[0]);

        for (i = 0; error.text[i]; i++) {
            fuzz_check(error.text[i] >= 0x20 && error.text[i] < 0x7f);
        }

        return;
    }

    fuzz_check(ngx_oci_phc_parse(&phc,
                                 (char *) ngx_oci_rbac_at(doc, doc->dummy),
                                 doc->dummy_len)
               == NULL);

    fuzz_subject(doc, NULL, name);

    /* each subject is found by its name */

    place = (uint32_t *) ngx_oci_rbac_at(doc, doc->subjects);

    for (i = 0, n = 0; i <= doc->subjects_mask; i++) {
        for (chain = place[i]; chain; chain = subject->next) {

            fuzz_check(chain < doc->size);
            subject = (ngx_oci_rbac_subject_t *) ngx_oci_rbac_at(doc, chain);

            s.data = ngx_oci_rbac_at(doc, subject->name);
            s.len = subject->name_len;

            fuzz_check(ngx_oci_rbac_subject(doc, &s) == subject);
            fuzz_subject(doc, subject, name);
            n++;
        }
    }

    fuzz_check(n == doc->nsubjects);

    free(doc);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t          n;
    const char     *why;
    ngx_str_t       a, b;
    ngx_oci_phc_t   phc;
    const uint8_t  *p;

    if (size == 0) {
        return 0;
    }

    p = memrchr(data + 1, '\n', size - 1);
    n = p ? (size_t) (p - data - 1) : size - 1;

    a = fuzz_copy(data + 1, n);
    b = p ? fuzz_copy(p + 1, size - n - 2) : fuzz_copy(data, 0);

    switch (data[0] % 3) {

    case 0:
        fuzz_document(&a, &b);
        break;

    case 1:
        fuzz_pattern(&a, &b);
        break;

    default:
        why = ngx_oci_phc_parse(&phc, (char *) a.data, a.len);

        if (why == NULL) {
            fuzz_check(phc.salt_len >= 8
                       && phc.salt_len <= NGX_OCI_PHC_SALT);
            fuzz_check(phc.hash_len >= 16
                       && phc.hash_len <= NGX_OCI_PHC_HASH);
            fuzz_check(phc.params_len < a.len);
        }
    }

    free(a.data);
    free(b.data);

    return 0;
}
