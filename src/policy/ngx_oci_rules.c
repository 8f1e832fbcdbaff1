
/*
 * Copyright (C) The nginx-oci authors
 *
 * Look-ups in what a compiled policy document says of artifacts.
 */


#include "ngx_oci_rules.h"


static u_char ngx_oci_rules_lower(u_char c);


ngx_oci_rules_quarantine_t *
ngx_oci_rules_quarantined(ngx_oci_rbac_t *doc, ngx_oci_digest_t *digest)
{
    uint32_t                     place, *table;
    ngx_oci_rules_quarantine_t  *q;

    if (doc->nquarantine == 0 || digest->alg == NGX_OCI_DIGEST_NONE) {
        return NULL;
    }

    table = (uint32_t *) ngx_oci_rbac_at(doc, doc->quarantine);
    place = table[ngx_oci_rbac_hash((uint32_t) digest->alg, digest->bytes,
                                    digest->size)
                  & doc->quarantine_mask];

    for ( /* void */ ; place; place = q->next) {

        q = (ngx_oci_rules_quarantine_t *) ngx_oci_rbac_at(doc, place);

        if (q->alg == digest->alg
            && memcmp(q->digest, digest->bytes, digest->size) == 0)
        {
            return q;
        }
    }

    return NULL;
}


ngx_oci_rules_t *
ngx_oci_rules_find(ngx_oci_rbac_t *doc, ngx_str_t *repository)
{
    size_t                    len;
    uint32_t                  place, *table;
    ngx_oci_rules_project_t  *project;

    if (doc->nprojects == 0) {
        return NULL;
    }

    for (len = 0; len < repository->len; len++) {
        if (repository->data[len] == '/') {
            break;
        }
    }

    table = (uint32_t *) ngx_oci_rbac_at(doc, doc->projects);
    place = table[ngx_oci_rbac_hash(0, repository->data, len)
                  & doc->projects_mask];

    for ( /* void */ ; place; place = project->next) {

        project = (ngx_oci_rules_project_t *) ngx_oci_rbac_at(doc, place);

        if (project->name_len == len
            && memcmp(ngx_oci_rbac_at(doc, project->name), repository->data,
                      len)
               == 0)
        {
            return (ngx_oci_rules_t *) ngx_oci_rbac_at(doc, project->rules);
        }
    }

    return NULL;
}


ngx_int_t
ngx_oci_rules_element(ngx_oci_rules_t *rules, ngx_oci_rules_list_t *list,
    ngx_uint_t i, ngx_str_t *text)
{
    u_char  *p;

    if (i >= list->n) {
        return NGX_DECLINED;
    }

    p = (u_char *) rules + list->place;

    for ( ;; ) {

        text->len = (size_t) p[0] << 8 | p[1];
        text->data = p + 2;

        if (i-- == 0) {
            return NGX_OK;
        }

        p += 2 + text->len;
    }
}


ngx_uint_t
ngx_oci_rules_match(ngx_oci_rules_t *rules, ngx_oci_rules_list_t *list,
    ngx_str_t *text, ngx_uint_t nocase)
{
    ngx_str_t   pattern;
    ngx_uint_t  i;

    for (i = 0; ngx_oci_rules_element(rules, list, i, &pattern) == NGX_OK; i++)
    {
        if (ngx_oci_rules_glob(&pattern, text, nocase)) {
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_oci_rules_match_repository(ngx_oci_rules_t *rules,
    ngx_oci_rules_list_t *list, ngx_str_t *repository)
{
    ngx_str_t   pattern;
    ngx_uint_t  i;

    for (i = 0; ngx_oci_rules_element(rules, list, i, &pattern) == NGX_OK; i++)
    {
        if (ngx_oci_pattern_match(&pattern, repository)) {
            return 1;
        }
    }

    return 0;
}


/* the last "*" takes one more byte whenever what follows doesn't fit */

ngx_uint_t
ngx_oci_rules_glob(ngx_str_t *pattern, ngx_str_t *text, ngx_uint_t nocase)
{
    size_t      p, s, star, from;
    ngx_uint_t  any;

    p = 0;
    star = 0;
    from = 0;
    any = 0;

    for (s = 0; s < text->len; /* void */ ) {

        if (p < pattern->len && pattern->data[p] == '*') {
            star = ++p;
            from = s;
            any = 1;
            continue;
        }

        if (p < pattern->len
            && (pattern->data[p] == text->data[s]
                || (nocase && ngx_oci_rules_lower(pattern->data[p])
                              == ngx_oci_rules_lower(text->data[s]))))
        {
            p++;
            s++;
            continue;
        }

        if (!any) {
            return 0;
        }

        p = star;
        s = ++from;
    }

    while (p < pattern->len && pattern->data[p] == '*') {
        p++;
    }

    return p == pattern->len;
}


static u_char
ngx_oci_rules_lower(u_char c)
{
    return (c >= 'A' && c <= 'Z') ? (u_char) (c | 0x20) : c;
}
