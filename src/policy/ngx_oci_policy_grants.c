
/*
 * Copyright (C) The nginx-oci authors
 *
 * The policy document's roles, grants and projects, compiled to rules.
 */


#include "ngx_oci_policy_doc.h"


static ngx_int_t ngx_oci_doc_roles(ngx_oci_doc_t *doc);
static ngx_int_t ngx_oci_doc_grants(ngx_oci_doc_t *doc, json_t *grants);
static ngx_int_t ngx_oci_doc_grant(ngx_oci_doc_t *doc, const char *name,
    json_t *value);
static ngx_int_t ngx_oci_doc_whom(ngx_oci_doc_t *doc, const char *name,
    json_t *value, const char *field);
static ngx_int_t ngx_oci_doc_patterns(ngx_oci_doc_t *doc, const char *name,
    json_t *value, ngx_uint_t all);
static ngx_int_t ngx_oci_doc_role(ngx_oci_doc_t *doc, const char *grant,
    json_t *value, ngx_uint_t *actions);
static ngx_int_t ngx_oci_doc_projects(ngx_oci_doc_t *doc, json_t *projects);
static ngx_int_t ngx_oci_doc_rule(ngx_oci_doc_t *doc, uint32_t principal,
    uint32_t pattern, uint32_t name, uint16_t name_len, ngx_uint_t actions);
static ngx_int_t ngx_oci_doc_link(ngx_oci_doc_t *doc);


ngx_int_t
ngx_oci_doc_rules(ngx_oci_doc_t *doc, json_t *grants, json_t *projects)
{
    if (ngx_oci_doc_roles(doc) != NGX_OK
        || ngx_oci_doc_grants(doc, grants) != NGX_OK
        || ngx_oci_doc_projects(doc, projects) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_oci_doc_link(doc);
}


static ngx_int_t
ngx_oci_doc_roles(ngx_oci_doc_t *doc)
{
    json_t      *value;
    ngx_uint_t   actions;
    const char  *key, *why;

    if (doc->roles && !json_is_object(doc->roles)) {
        return ngx_oci_doc_error(doc, "$.roles: not an object");
    }

    json_object_foreach(doc->roles, key, value) {

        why = ngx_oci_doc_name(key);

        if (why == NULL && ngx_oci_rbac_role(key, &actions) == NGX_OK) {
            why = "a built-in role";
        }

        if (why) {
            return ngx_oci_doc_error(doc, "$.roles.%.*s: %s",
                                     NGX_OCI_DOC_NAME, key, why);
        }

        if (!json_is_array(value)) {
            return ngx_oci_doc_error(doc, "$.roles.%.*s: not an array of "
                                     "actions", NGX_OCI_DOC_NAME, key);
        }

        if (ngx_oci_doc_role(doc, NULL, json_object_get(doc->roles, key),
                             &actions)
            != NGX_OK)
        {
            return ngx_oci_doc_error(doc, "$.roles.%.*s: an action is none "
                                     "of pull, push, delete, preheat, "
                                     "purge and status",
                                     NGX_OCI_DOC_NAME, key);
        }
    }

    return NGX_OK;
}


/* the rights of a role's array, or of the role that a grant names */

static ngx_int_t
ngx_oci_doc_role(ngx_oci_doc_t *doc, const char *grant, json_t *value,
    ngx_uint_t *actions)
{
    size_t   i, k;
    json_t  *action;

    static struct {
        const char  *name;
        ngx_uint_t   action;
    } names[] = {
        { "pull", NGX_OCI_PULL },
        { "push", NGX_OCI_PUSH },
        { "delete", NGX_OCI_DELETE },
        { "preheat", NGX_OCI_PREHEAT },
        { "purge", NGX_OCI_PURGE },
        { "status", NGX_OCI_STATUS },
        { NULL, 0 }
    };

    if (grant) {

        if (!json_is_string(value)) {
            return ngx_oci_doc_error(doc, "$.grants.%.*s.role: a role's name "
                                     "is required", NGX_OCI_DOC_NAME, grant);
        }

        if (ngx_oci_rbac_role(json_string_value(value), actions) == NGX_OK) {
            return NGX_OK;
        }

        action = json_object_get(doc->roles, json_string_value(value));

        if (action == NULL) {
            return ngx_oci_doc_error(doc, "$.grants.%.*s.role: unknown role "
                                     "\"%.*s\"", NGX_OCI_DOC_NAME, grant,
                                     NGX_OCI_DOC_NAME,
                                     json_string_value(value));
        }

        value = action;
    }

    *actions = 0;

    json_array_foreach(value, i, action) {

        for (k = 0; names[k].name; k++) {
            if (json_is_string(action)
                && strcmp(names[k].name, json_string_value(action)) == 0)
            {
                *actions |= names[k].action;
                break;
            }
        }

        if (names[k].name == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_grants(ngx_oci_doc_t *doc, json_t *grants)
{
    json_t      *value;
    const char  *key, *why;

    if (grants && !json_is_object(grants)) {
        return ngx_oci_doc_error(doc, "$.grants: not an object");
    }

    json_object_foreach(grants, key, value) {

        why = ngx_oci_doc_name(key);

        if (why) {
            return ngx_oci_doc_error(doc, "$.grants.%.*s: %s",
                                     NGX_OCI_DOC_NAME, key, why);
        }

        if (ngx_oci_doc_grant(doc, key, value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* to whom a grant is: NULL, or an array of names */

static ngx_int_t
ngx_oci_doc_whom(ngx_oci_doc_t *doc, const char *name, json_t *value,
    const char *field)
{
    size_t                   i;
    json_t                  *who;
    ngx_str_t                s;
    const char              *why;

    if (value == NULL) {
        return NGX_OK;
    }

    if (!json_is_array(value)) {
        return ngx_oci_doc_error(doc, "$.grants.%.*s.%s: not an array",
                                 NGX_OCI_DOC_NAME, name, field);
    }

    json_array_foreach(value, i, who) {

        why = json_is_string(who) ? ngx_oci_doc_name(json_string_value(who))
                                  : "not a string";

        if (why) {
            return ngx_oci_doc_error(doc, "$.grants.%.*s.%s[%zu]: %s",
                                     NGX_OCI_DOC_NAME, name, field, i, why);
        }

        if (*field != 's') {
            continue;
        }

        s.data = (u_char *) json_string_value(who);
        s.len = json_string_length(who);

        if (ngx_oci_rbac_subject(ngx_oci_doc_head(doc), &s) == NULL) {
            return ngx_oci_doc_error(doc, "$.grants.%.*s.%s[%zu]: unknown "
                                     "subject \"%.*s\"",
                                     NGX_OCI_DOC_NAME, name, field, i,
                                     NGX_OCI_DOC_NAME,
                                     json_string_value(who));
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_patterns(ngx_oci_doc_t *doc, const char *name, json_t *value,
    ngx_uint_t all)
{
    size_t       i;
    json_t      *pattern;
    const char  *why;

    if (!json_is_array(value) || json_array_size(value) == 0) {
        return ngx_oci_doc_error(doc, "$.grants.%.*s.repositories: an array "
                                 "of patterns is required",
                                 NGX_OCI_DOC_NAME, name);
    }

    json_array_foreach(value, i, pattern) {

        why = json_is_string(pattern)
              ? ngx_oci_pattern_check(json_string_value(pattern),
                                      json_string_length(pattern))
              : "not a string";

        if (why == NULL && all
            && strcmp(json_string_value(pattern), "**") != 0)
        {
            why = "systemAdmin is granted on \"**\" only";
        }

        if (why) {
            return ngx_oci_doc_error(doc, "$.grants.%.*s.repositories[%zu]: "
                                     "%s", NGX_OCI_DOC_NAME, name, i, why);
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_grant(ngx_oci_doc_t *doc, const char *name, json_t *value)
{
    size_t                   i, k;
    json_t                  *subjects, *groups, *patterns, *who, *pattern;
    uint32_t                 text, rule, id;
    ngx_str_t                s;
    uint16_t                 len;
    ngx_uint_t               actions;

    static const char  *keys[] = {
        "role", "subjects", "groups", "repositories", NULL
    };

    if (ngx_oci_doc_keys(doc, value, "$.grants.", name, keys) != NGX_OK) {
        return NGX_ERROR;
    }

    subjects = json_object_get(value, "subjects");
    groups = json_object_get(value, "groups");
    patterns = json_object_get(value, "repositories");

    if (ngx_oci_doc_role(doc, name, json_object_get(value, "role"), &actions)
        != NGX_OK
        || ngx_oci_doc_whom(doc, name, subjects, "subjects") != NGX_OK
        || ngx_oci_doc_whom(doc, name, groups, "groups") != NGX_OK
        || ngx_oci_doc_patterns(doc, name, patterns,
                                actions & NGX_OCI_CATALOG)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    rule = ngx_oci_doc_text(doc, "grants/", sizeof("grants/") - 1);
    text = ngx_oci_doc_text(doc, name, strlen(name));
    len = (uint16_t) (sizeof("grants/") - 1 + strlen(name));

    if (rule == 0 || text == 0) {
        return ngx_oci_doc_memory(doc);
    }

    json_array_foreach(patterns, i, pattern) {

        text = ngx_oci_doc_text(doc, json_string_value(pattern),
                                json_string_length(pattern) + 1);
        if (text == 0) {
            return ngx_oci_doc_memory(doc);
        }

        json_array_foreach(subjects, k, who) {

            s.data = (u_char *) json_string_value(who);
            s.len = json_string_length(who);
            id = ngx_oci_rbac_subject(ngx_oci_doc_head(doc), &s)->principal;

            if (ngx_oci_doc_rule(doc, id, text, rule, len, actions)
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }

        json_array_foreach(groups, k, who) {

            id = ngx_oci_doc_group(doc, json_string_value(who));

            if (id == 0) {
                return ngx_oci_doc_memory(doc);
            }

            if (ngx_oci_doc_rule(doc, id, text, rule, len, actions)
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_doc_projects(ngx_oci_doc_t *doc, json_t *projects)
{
    size_t       len;
    json_t      *value, *public;
    uint32_t     text, rule;
    uint16_t     name_len;
    const char  *key;

    static const char  *keys[] = { "public", "rules", NULL };

    if (projects && !json_is_object(projects)) {
        return ngx_oci_doc_error(doc, "$.projects: not an object");
    }

    json_object_foreach(projects, key, value) {

        len = strlen(key);

        if (len > NGX_OCI_NAME_MAX - 3 || strchr(key, '/')
            || ngx_oci_name_valid((u_char *) key, len) != NGX_OK)
        {
            return ngx_oci_doc_error(doc, "$.projects.%.*s: a project is the "
                                     "first component of repositories' names",
                                     NGX_OCI_DOC_NAME, key);
        }

        if (ngx_oci_doc_keys(doc, value, "$.projects.", key, keys)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        public = json_object_get(value, "public");

        if (public && !json_is_boolean(public)) {
            return ngx_oci_doc_error(doc, "$.projects.%.*s.public: neither "
                                     "true nor false", NGX_OCI_DOC_NAME,
                                     key);
        }

        if (!json_is_true(public)) {
            continue;
        }

        rule = ngx_oci_doc_text(doc, "projects/", sizeof("projects/") - 1);
        text = ngx_oci_doc_text(doc, key, len);
        name_len = (uint16_t) (sizeof("projects/") - 1 + len);

        if (rule == 0 || text == 0) {
            return ngx_oci_doc_memory(doc);
        }

        /* what is in it, and a repository of just that name */

        text = ngx_oci_doc_text(doc, key, len);

        if (text == 0
            || ngx_oci_doc_text(doc, "/**", sizeof("/**")) == 0)
        {
            return ngx_oci_doc_memory(doc);
        }

        if (ngx_oci_doc_rule(doc, NGX_OCI_RBAC_ANYONE, text, rule, name_len,
                             NGX_OCI_PULL)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        text = ngx_oci_doc_text(doc, key, len + 1);

        if (text == 0) {
            return ngx_oci_doc_memory(doc);
        }

        if (ngx_oci_doc_rule(doc, NGX_OCI_RBAC_ANYONE, text, rule, name_len,
                             NGX_OCI_PULL)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* pattern: the place of a text that ends with a zero byte */

static ngx_int_t
ngx_oci_doc_rule(ngx_oci_doc_t *doc, uint32_t principal, uint32_t pattern,
    uint32_t name, uint16_t name_len, ngx_uint_t actions)
{
    char                 *p;
    size_t                size;
    uint32_t              place, *rules;
    ngx_oci_rbac_rule_t  *rule;

    if (doc->nrules == doc->rules_size) {

        size = doc->rules_size ? doc->rules_size * 2 : 64;
        rules = realloc(doc->rules, size * sizeof(uint32_t));

        if (rules == NULL) {
            return ngx_oci_doc_memory(doc);
        }

        doc->rules = rules;
        doc->rules_size = size;
    }

    place = ngx_oci_doc_alloc(doc, sizeof(ngx_oci_rbac_rule_t));
    if (place == 0) {
        return ngx_oci_doc_memory(doc);
    }

    doc->rules[doc->nrules++] = place;

    p = ngx_oci_doc_at(doc, char, pattern);
    rule = ngx_oci_doc_at(doc, ngx_oci_rbac_rule_t, place);

    rule->principal = principal;
    rule->pattern = pattern;
    rule->pattern_len = (uint16_t) strlen(p);
    rule->name = name;
    rule->name_len = name_len;
    rule->actions = (uint16_t) actions;

    if (strchr(p, '*') == NULL) {
        rule->key_len = rule->pattern_len;

    } else {
        rule->key_len = (uint16_t) strcspn(p, "/");

        if (strcspn(p, "*") < rule->key_len) {
            rule->key_len = 0;
        }
    }

    return NGX_OK;
}


/* the last first, so that they stand in the document's order */

static ngx_int_t
ngx_oci_doc_link(ngx_oci_doc_t *doc)
{
    size_t                i, exacts;
    uint32_t              exact, globs, exact_mask, globs_mask, *head, h;
    ngx_oci_rbac_t       *rbac;
    ngx_oci_rbac_rule_t  *rule;

    exacts = 0;

    for (i = 0; i < doc->nrules; i++) {
        rule = ngx_oci_doc_at(doc, ngx_oci_rbac_rule_t, doc->rules[i]);
        exacts += (rule->key_len == rule->pattern_len);
    }

    exact_mask = ngx_oci_doc_mask(exacts);
    globs_mask = ngx_oci_doc_mask(doc->nrules - exacts);

    exact = ngx_oci_doc_alloc(doc, ((size_t) exact_mask + 1)
                                   * sizeof(uint32_t));
    globs = ngx_oci_doc_alloc(doc, ((size_t) globs_mask + 1)
                                   * sizeof(uint32_t));

    if (exact == 0 || globs == 0) {
        return ngx_oci_doc_memory(doc);
    }

    rbac = ngx_oci_doc_head(doc);
    rbac->exact = exact;
    rbac->exact_mask = exact_mask;
    rbac->globs = globs;
    rbac->globs_mask = globs_mask;
    rbac->nrules = (uint32_t) doc->nrules;

    for (i = doc->nrules; i; i--) {

        rule = ngx_oci_doc_at(doc, ngx_oci_rbac_rule_t, doc->rules[i - 1]);

        h = ngx_oci_rbac_hash(rule->principal,
                              ngx_oci_doc_at(doc, u_char, rule->pattern),
                              rule->key_len);

        head = (rule->key_len == rule->pattern_len)
               ? ngx_oci_doc_at(doc, uint32_t, exact) + (h & exact_mask)
               : ngx_oci_doc_at(doc, uint32_t, globs) + (h & globs_mask);

        rule->next = *head;
        *head = doc->rules[i - 1];
    }

    return NGX_OK;
}
