
/*
 * Copyright (C) The nginx-oci authors
 *
 * Requests for tokens, and the claims of those that are given.
 */


#include "ngx_oci_scope.h"
#include "ngx_oci_rbac.h"

#include <jansson.h>


#define NGX_OCI_SCOPE_ALL  (NGX_OCI_PULL|NGX_OCI_PUSH|NGX_OCI_DELETE)


#define ngx_oci_scope_is(p, last, text)                                       \
    ((size_t) ((last) - (p)) == sizeof(text) - 1                              \
     && memcmp(p, text, sizeof(text) - 1) == 0)


typedef struct {
    const char  *name;
    size_t       offset;            /* in ngx_oci_scopes_t */
} ngx_oci_scope_param_t;


typedef struct {
    const char  *name;
    ngx_uint_t   action;
} ngx_oci_scope_action_t;


static ngx_oci_scope_param_t  ngx_oci_scope_params[] = {
    { "service", offsetof(ngx_oci_scopes_t, service) },
    { "grant_type", offsetof(ngx_oci_scopes_t, grant_type) },
    { "username", offsetof(ngx_oci_scopes_t, username) },
    { "password", offsetof(ngx_oci_scopes_t, password) },
    { NULL, 0 }
};


static ngx_oci_scope_action_t  ngx_oci_scope_actions[] = {
    { "pull", NGX_OCI_PULL },
    { "push", NGX_OCI_PUSH },
    { "delete", NGX_OCI_DELETE },
    { NULL, 0 }
};


static const char *ngx_oci_scopes_pair(ngx_oci_scopes_t *scopes, u_char *p,
    u_char *last);
static u_char *ngx_oci_scopes_unescape(u_char *p, u_char *last);
static ngx_str_t *ngx_oci_scopes_param(ngx_oci_scopes_t *scopes, u_char *p,
    u_char *last);
static const char *ngx_oci_scopes_list(ngx_oci_scopes_t *scopes, u_char *p,
    u_char *last);
static const char *ngx_oci_scopes_add(ngx_oci_scopes_t *scopes, u_char *p,
    u_char *last);
static ngx_uint_t ngx_oci_scope_asked(ngx_uint_t kind, u_char *p,
    u_char *last);
static json_t *ngx_oci_scope_access(ngx_oci_scope_t *scope);


const char *
ngx_oci_scopes_parse(ngx_oci_scopes_t *scopes, ngx_str_t *text)
{
    u_char      *p, *end, *last;
    ngx_uint_t   n;
    const char  *error;

    memset(scopes, 0, sizeof(ngx_oci_scopes_t));

    n = 0;
    last = text->data + text->len;

    for (p = text->data; p < last; p = end + 1) {

        for (end = p; end < last && *end != '&'; end++) { /* void */ }

        if (end == p) {
            continue;
        }

        if (++n > NGX_OCI_SCOPE_PAIRS) {
            return "too many parameters";
        }

        error = ngx_oci_scopes_pair(scopes, p, end);

        if (error) {
            return error;
        }
    }

    return NULL;
}


static const char *
ngx_oci_scopes_pair(ngx_oci_scopes_t *scopes, u_char *p, u_char *last)
{
    u_char     *q, *eq, *name, *value;
    ngx_str_t  *param;

    for (eq = p; eq < last && *eq != '='; eq++) { /* void */ }

    value = (eq < last) ? eq + 1 : last;

    name = ngx_oci_scopes_unescape(p, eq);
    last = ngx_oci_scopes_unescape(value, last);

    if (name == NULL || last == NULL) {
        return "an escape is malformed";
    }

    /* a secret may be anything */

    if (!ngx_oci_scope_is(p, name, "password")) {

        for (q = value; q < last; q++) {
            if (*q < 0x20 || *q == 0x7f) {
                return "a parameter has a control character";
            }
        }
    }

    if (ngx_oci_scope_is(p, name, "scope")) {
        return ngx_oci_scopes_list(scopes, value, last);
    }

    param = ngx_oci_scopes_param(scopes, p, name);

    if (param == NULL) {
        return NULL;
    }

    if (param->data) {
        return "a parameter is duplicate";
    }

    param->data = value;
    param->len = last - value;

    return NULL;
}


/* decodes in place; NULL: an escape is malformed */

static u_char *
ngx_oci_scopes_unescape(u_char *p, u_char *last)
{
    u_char      *dst, ch;
    ngx_uint_t   i, n;

    for (dst = p; p < last; p++) {

        if (*p == '+') {
            *dst++ = ' ';
            continue;
        }

        if (*p != '%') {
            *dst++ = *p;
            continue;
        }

        if (last - p < 3) {
            return NULL;
        }

        for (i = 0, n = 0; i < 2; i++) {
            ch = *++p;

            if (ch >= '0' && ch <= '9') {
                n = n * 16 + (ch - '0');
                continue;
            }

            ch |= 0x20;

            if (ch < 'a' || ch > 'f') {
                return NULL;
            }

            n = n * 16 + (ch - 'a' + 10);
        }

        *dst++ = (u_char) n;
    }

    return dst;
}


static ngx_str_t *
ngx_oci_scopes_param(ngx_oci_scopes_t *scopes, u_char *p, u_char *last)
{
    size_t                  len;
    ngx_oci_scope_param_t  *param;

    len = last - p;

    for (param = ngx_oci_scope_params; param->name; param++) {

        if (strlen(param->name) == len && memcmp(param->name, p, len) == 0) {
            return (ngx_str_t *) ((u_char *) scopes + param->offset);
        }
    }

    return NULL;
}


/* one parameter may have several, parted by spaces */

static const char *
ngx_oci_scopes_list(ngx_oci_scopes_t *scopes, u_char *p, u_char *last)
{
    u_char      *end;
    const char  *error;

    for ( /* void */ ; p < last; p = end + 1) {

        for (end = p; end < last && *end != ' '; end++) { /* void */ }

        if (end == p) {
            continue;
        }

        error = ngx_oci_scopes_add(scopes, p, end);

        if (error) {
            return error;
        }
    }

    return NULL;
}


/*
 * type[(class)]:name:action[,action], where the name may have colons.  One
 * name is one entry, however often it is asked for.
 */

static const char *
ngx_oci_scopes_add(ngx_oci_scopes_t *scopes, u_char *p, u_char *last)
{
    u_char           *type, *name, *end;
    ngx_uint_t        i, kind, actions;
    ngx_oci_scope_t  *scope;

    for (type = p; type < last && *type != ':' && *type != '('; type++) {
        /* void */
    }

    for (name = type; name < last && *name != ':'; name++) { /* void */ }
    for (end = last; end > name && *--end != ':'; /* void */) { /* void */ }

    if (end <= name || type == p || (*type == '(' && name[-1] != ')')) {
        return "a scope is malformed";
    }

    name++;
    kind = NGX_OCI_SCOPE_OTHER;

    if (ngx_oci_scope_is(p, type, "repository")) {

        if (ngx_oci_name_valid(name, end - name) == NGX_OK) {
            kind = NGX_OCI_SCOPE_REPOSITORY;
        }

    } else if (ngx_oci_scope_is(p, type, "registry")
               && ngx_oci_scope_is(name, end, "catalog"))
    {
        kind = NGX_OCI_SCOPE_CATALOG;
    }

    if (kind == NGX_OCI_SCOPE_OTHER) {
        return NULL;
    }

    actions = ngx_oci_scope_asked(kind, end + 1, last);

    for (i = 0; i < scopes->nscopes; i++) {
        scope = &scopes->scopes[i];

        if (scope->kind == kind && scope->name.len == (size_t) (end - name)
            && memcmp(scope->name.data, name, end - name) == 0)
        {
            scope->actions |= actions;
            return NULL;
        }
    }

    if (scopes->nscopes == NGX_OCI_SCOPE_MAX) {
        return "too many scopes";
    }

    scope = &scopes->scopes[scopes->nscopes++];
    scope->kind = kind;
    scope->name.data = name;
    scope->name.len = end - name;
    scope->actions = actions;

    return NULL;
}


static ngx_uint_t
ngx_oci_scope_asked(ngx_uint_t kind, u_char *p, u_char *last)
{
    u_char                  *end;
    ngx_uint_t               actions;
    ngx_oci_scope_action_t  *a;

    actions = 0;

    for ( /* void */ ; p < last; p = end + 1) {

        for (end = p; end < last && *end != ','; end++) { /* void */ }

        if (ngx_oci_scope_is(p, end, "*")) {
            actions |= (kind == NGX_OCI_SCOPE_CATALOG) ? NGX_OCI_CATALOG
                                                       : NGX_OCI_SCOPE_ALL;
            continue;
        }

        if (kind == NGX_OCI_SCOPE_CATALOG) {
            continue;
        }

        for (a = ngx_oci_scope_actions; a->name; a++) {

            if (strlen(a->name) == (size_t) (end - p)
                && memcmp(a->name, p, end - p) == 0)
            {
                actions |= a->action;
            }
        }
    }

    return actions;
}


char *
ngx_oci_scopes_claims(ngx_oci_scopes_t *scopes, ngx_str_t *subject,
    ngx_str_t *audience, ngx_str_t *id, time_t now)
{
    char        *text;
    json_t      *claims, *access;
    ngx_uint_t   i;

    access = json_array();

    /* a reference that is taken over is dropped where that fails */

    for (i = 0; access && i < scopes->nscopes; i++) {

        if (scopes->scopes[i].actions == 0) {
            continue;
        }

        if (json_array_append_new(access,
                                  ngx_oci_scope_access(&scopes->scopes[i]))
            != 0)
        {
            json_decref(access);
            access = NULL;
        }
    }

    if (access == NULL) {
        return NULL;
    }

    claims = json_pack("{s:s, s:s%, s:s%, s:I, s:I, s:I, s:s%, s:o}",
                       "iss", NGX_OCI_SCOPE_ISSUER,
                       "sub", subject->len ? (char *) subject->data : "",
                       subject->len,
                       "aud", (char *) audience->data, audience->len,
                       "exp", (json_int_t) now + NGX_OCI_SCOPE_TOKEN,
                       "nbf", (json_int_t) now,
                       "iat", (json_int_t) now,
                       "jti", (char *) id->data, id->len,
                       "access", access);

    text = claims ? json_dumps(claims, JSON_COMPACT) : NULL;

    json_decref(claims);

    return text;
}


static json_t *
ngx_oci_scope_access(ngx_oci_scope_t *scope)
{
    json_t                  *actions;
    ngx_oci_scope_action_t  *a;

    if (scope->kind == NGX_OCI_SCOPE_CATALOG) {
        return json_pack("{s:s, s:s, s:[s]}", "type", "registry",
                         "name", "catalog", "actions", "*");
    }

    actions = json_array();

    for (a = ngx_oci_scope_actions; actions && a->name; a++) {

        if ((scope->actions & a->action)
            && json_array_append_new(actions, json_string(a->name)) != 0)
        {
            json_decref(actions);
            return NULL;
        }
    }

    if (actions == NULL) {
        return NULL;
    }

    return json_pack("{s:s, s:s%, s:o}", "type", "repository",
                     "name", (char *) scope->name.data, scope->name.len,
                     "actions", actions);
}


size_t
ngx_oci_scopes_text(ngx_oci_scopes_t *scopes, u_char *text)
{
    u_char                  *p, *list;
    ngx_uint_t               i;
    ngx_oci_scope_t         *scope;
    ngx_oci_scope_action_t  *a;

    p = text;

    for (i = 0; i < scopes->nscopes; i++) {

        scope = &scopes->scopes[i];

        if (scope->actions == 0) {
            continue;
        }

        if (p > text) {
            *p++ = ' ';
        }

        if (scope->kind == NGX_OCI_SCOPE_CATALOG) {
            p = ngx_cpymem(p, "registry:catalog:*",
                           sizeof("registry:catalog:*") - 1);
            continue;
        }

        p = ngx_cpymem(p, "repository:", sizeof("repository:") - 1);
        p = ngx_cpymem(p, scope->name.data, scope->name.len);
        *p++ = ':';

        for (a = ngx_oci_scope_actions, list = p; a->name; a++) {

            if (scope->actions & a->action) {

                if (p > list) {
                    *p++ = ',';
                }

                p = ngx_cpymem(p, a->name, strlen(a->name));
            }
        }
    }

    return p - text;
}
