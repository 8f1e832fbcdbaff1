
/*
 * Copyright (C) The nginx-oci authors
 *
 * Decisions by a compiled policy document.  Pure: needs libc only.
 */


#include "ngx_oci_rbac.h"
#include "ngx_oci_route.h"


#define ngx_oci_rbac_is(method, text)                                         \
    ((method)->len == sizeof(text) - 1                                        \
     && memcmp((method)->data, text, sizeof(text) - 1) == 0)


typedef struct {
    const char  *name;
    ngx_uint_t   actions;
} ngx_oci_rbac_role_t;


/*
 * Harbor's five, with what they may at its /v2/ (its "repository" resource),
 * and its system administrator.
 */

static ngx_oci_rbac_role_t  ngx_oci_rbac_roles[] = {
    { "projectAdmin", NGX_OCI_PULL|NGX_OCI_PUSH|NGX_OCI_DELETE },
    { "maintainer", NGX_OCI_PULL|NGX_OCI_PUSH|NGX_OCI_DELETE },
    { "developer", NGX_OCI_PULL|NGX_OCI_PUSH },
    { "guest", NGX_OCI_PULL },
    { "limitedGuest", NGX_OCI_PULL },
    { "systemAdmin", NGX_OCI_PULL|NGX_OCI_PUSH|NGX_OCI_DELETE
                     |NGX_OCI_PREHEAT|NGX_OCI_PURGE|NGX_OCI_STATUS
                     |NGX_OCI_CATALOG },
    { NULL, 0 }
};


static ngx_uint_t ngx_oci_rbac_add(ngx_oci_rbac_t *doc, uint32_t principal,
    ngx_str_t *repository, ngx_uint_t action, ngx_oci_rbac_rule_t **rule);
static ngx_uint_t ngx_oci_rbac_chain(ngx_oci_rbac_t *doc, uint32_t table,
    uint32_t mask, uint32_t principal, ngx_str_t *key, ngx_str_t *repository,
    ngx_uint_t action, ngx_oci_rbac_rule_t **rule);
static uint32_t ngx_oci_rbac_first(ngx_oci_rbac_t *doc, uint32_t principal,
    ngx_uint_t n);


/*
 * As Harbor has it: GET and HEAD pull, POST, PATCH and PUT push, DELETE
 * deletes; but only where the specification has that method.
 */

ngx_uint_t
ngx_oci_rbac_action(ngx_uint_t route, ngx_str_t *method, ngx_uint_t catalog)
{
    ngx_uint_t  read, post, put, patch, del;

    read = ngx_oci_rbac_is(method, "GET") || ngx_oci_rbac_is(method, "HEAD");
    post = ngx_oci_rbac_is(method, "POST");
    put = ngx_oci_rbac_is(method, "PUT");
    patch = ngx_oci_rbac_is(method, "PATCH");
    del = ngx_oci_rbac_is(method, "DELETE");

    switch (route) {

    case NGX_OCI_ROUTE_PING:
        return read ? NGX_OCI_LOGIN : 0;

    case NGX_OCI_ROUTE_BLOB:
        return read ? NGX_OCI_PULL : del ? NGX_OCI_DELETE : 0;

    case NGX_OCI_ROUTE_MANIFEST:
    case NGX_OCI_ROUTE_TAG:
        return read ? NGX_OCI_PULL
                    : put ? NGX_OCI_PUSH : del ? NGX_OCI_DELETE : 0;

    case NGX_OCI_ROUTE_REFERRERS:
    case NGX_OCI_ROUTE_TAGS_LIST:
        return read ? NGX_OCI_PULL : 0;

    case NGX_OCI_ROUTE_UPLOAD:
        return read ? NGX_OCI_PULL
                    : (post || put || patch) ? NGX_OCI_PUSH
                                             : del ? NGX_OCI_DELETE : 0;

    case NGX_OCI_ROUTE_OTHER:
        return (catalog && read) ? NGX_OCI_CATALOG : 0;
    }

    return 0;
}


ngx_oci_rbac_subject_t *
ngx_oci_rbac_subject(ngx_oci_rbac_t *doc, ngx_str_t *name)
{
    uint32_t                 place, *table;
    ngx_oci_rbac_subject_t  *s;

    table = (uint32_t *) ngx_oci_rbac_at(doc, doc->subjects);
    place = table[ngx_oci_rbac_hash(0, name->data, name->len)
                  & doc->subjects_mask];

    while (place) {
        s = (ngx_oci_rbac_subject_t *) ngx_oci_rbac_at(doc, place);

        if (s->name_len == name->len
            && memcmp(ngx_oci_rbac_at(doc, s->name), name->data, name->len)
               == 0)
        {
            return s;
        }

        place = s->next;
    }

    return NULL;
}


ngx_uint_t
ngx_oci_rbac_rights(ngx_oci_rbac_t *doc, ngx_oci_rbac_subject_t *subject,
    ngx_str_t *repository, ngx_uint_t action, ngx_oci_rbac_rule_t **rule)
{
    uint32_t    *groups;
    ngx_uint_t   i, rights;

    *rule = NULL;

    /* by name what others have, before what all have */

    rights = 0;

    if (subject) {
        rights |= ngx_oci_rbac_add(doc, subject->principal, repository,
                                   action, rule);

        groups = (uint32_t *) ngx_oci_rbac_at(doc, subject->groups);

        for (i = 0; i < subject->ngroups; i++) {
            rights |= ngx_oci_rbac_add(doc, groups[i], repository, action,
                                       rule);
        }
    }

    return rights | ngx_oci_rbac_add(doc, NGX_OCI_RBAC_ANYONE, repository,
                                     action, rule);
}


static ngx_uint_t
ngx_oci_rbac_add(ngx_oci_rbac_t *doc, uint32_t principal,
    ngx_str_t *repository, ngx_uint_t action, ngx_oci_rbac_rule_t **rule)
{
    ngx_str_t   first;
    ngx_uint_t  rights;

    rights = 0;

    if (repository->len) {
        rights |= ngx_oci_rbac_chain(doc, doc->exact, doc->exact_mask,
                                     principal, repository, repository,
                                     action, rule);

        first.data = repository->data;

        for (first.len = 0; first.len < repository->len; first.len++) {
            if (first.data[first.len] == '/') {
                break;
            }
        }

        rights |= ngx_oci_rbac_chain(doc, doc->globs, doc->globs_mask,
                                     principal, &first, repository, action,
                                     rule);
    }

    first.data = repository->data;
    first.len = 0;

    return rights | ngx_oci_rbac_chain(doc, doc->globs, doc->globs_mask,
                                       principal, &first, repository, action,
                                       rule);
}


static ngx_uint_t
ngx_oci_rbac_chain(ngx_oci_rbac_t *doc, uint32_t table, uint32_t mask,
    uint32_t principal, ngx_str_t *key, ngx_str_t *repository,
    ngx_uint_t action, ngx_oci_rbac_rule_t **rule)
{
    uint32_t              place, *places;
    ngx_str_t             pattern;
    ngx_uint_t            rights;
    ngx_oci_rbac_rule_t  *r;

    rights = 0;
    places = (uint32_t *) ngx_oci_rbac_at(doc, table);
    place = places[ngx_oci_rbac_hash(principal, key->data, key->len) & mask];

    for ( /* void */ ; place; place = r->next) {

        r = (ngx_oci_rbac_rule_t *) ngx_oci_rbac_at(doc, place);

        if (r->principal != principal || r->key_len != key->len) {
            continue;
        }

        pattern.data = ngx_oci_rbac_at(doc, r->pattern);
        pattern.len = r->pattern_len;

        if (key->len && memcmp(pattern.data, key->data, key->len) != 0) {
            continue;
        }

        if (!ngx_oci_pattern_match(&pattern, repository)) {
            continue;
        }

        rights |= r->actions;

        if (*rule == NULL && (r->actions & action)) {
            *rule = r;
        }
    }

    return rights;
}


ngx_uint_t
ngx_oci_rbac_duty(ngx_uint_t action)
{
    switch (action) {

    case NGX_OCI_PREHEAT:
        return 0;

    case NGX_OCI_PURGE:
        return 1;

    case NGX_OCI_STATUS:
        return 2;
    }

    return NGX_OCI_RBAC_DUTIES;
}


/* nobody has them unless it is named */

ngx_oci_rbac_rule_t *
ngx_oci_rbac_anywhere(ngx_oci_rbac_t *doc, ngx_oci_rbac_subject_t *subject,
    ngx_uint_t action)
{
    uint32_t     place, *groups;
    ngx_uint_t   i, n;

    n = ngx_oci_rbac_duty(action);

    if (subject == NULL || n == NGX_OCI_RBAC_DUTIES) {
        return NULL;
    }

    place = ngx_oci_rbac_first(doc, subject->principal, n);

    groups = (uint32_t *) ngx_oci_rbac_at(doc, subject->groups);

    for (i = 0; place == 0 && i < subject->ngroups; i++) {
        place = ngx_oci_rbac_first(doc, groups[i], n);
    }

    return place ? (ngx_oci_rbac_rule_t *) ngx_oci_rbac_at(doc, place) : NULL;
}


static uint32_t
ngx_oci_rbac_first(ngx_oci_rbac_t *doc, uint32_t principal, ngx_uint_t n)
{
    uint32_t              place, *places;
    ngx_oci_rbac_duty_t  *duty;

    places = (uint32_t *) ngx_oci_rbac_at(doc, doc->duties);
    place = places[ngx_oci_rbac_hash(principal, NULL, 0) & doc->duties_mask];

    for ( /* void */ ; place; place = duty->next) {

        duty = (ngx_oci_rbac_duty_t *) ngx_oci_rbac_at(doc, place);

        if (duty->principal == principal) {
            return duty->rule[n];
        }
    }

    return 0;
}


ngx_int_t
ngx_oci_rbac_role(const char *name, ngx_uint_t *actions)
{
    ngx_oci_rbac_role_t  *role;

    for (role = ngx_oci_rbac_roles; role->name; role++) {
        if (strcmp(role->name, name) == 0) {
            *actions = role->actions;
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


/* FNV-1a, and its bits mixed once more: only the low ones are used */

uint32_t
ngx_oci_rbac_hash(uint32_t seed, const u_char *p, size_t len)
{
    size_t    i;
    uint32_t  h;

    h = (2166136261u ^ seed) * 16777619u;
    h = (h ^ (seed >> 16)) * 16777619u;

    for (i = 0; i < len; i++) {
        h = (h ^ p[i]) * 16777619u;
    }

    h ^= h >> 15;
    h *= 0x2c1b3c6du;
    h ^= h >> 13;

    return h;
}
