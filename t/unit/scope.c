
/*
 * Copyright (C) The nginx-oci authors
 *
 * Requests for tokens, and claims.
 */


#include "ngx_oci_rbac.h"
#include "ngx_oci_scope.h"
#include "tap.h"

#include <jansson.h>


#define T_ALL  (NGX_OCI_PULL|NGX_OCI_PUSH|NGX_OCI_DELETE)


/* one scope; names NULL: none has come of it */

static struct {
    const char  *query;
    const char  *error;
    const char  *text;              /* of all, as if it were granted */
} t_queries[] = {
    { "", NULL, "" },
    { "&&", NULL, "" },
    { "scope", NULL, "" },
    { "scope=", NULL, "" },
    { "scope=repository:a/b:pull", NULL, "repository:a/b:pull" },
    { "scope=repository%3Aa%2fb%3Apull%2Cpush", NULL,
      "repository:a/b:pull,push" },
    { "scope=repository:a/b:push,pull", NULL, "repository:a/b:pull,push" },
    { "scope=repository:a/b:*", NULL, "repository:a/b:pull,push,delete" },
    { "scope=repository(plugin):a/b:pull", NULL, "repository:a/b:pull" },
    { "scope=repository:a:pull&scope=repository:b:push", NULL,
      "repository:a:pull repository:b:push" },
    { "scope=repository:a:pull+repository:b:push", NULL,
      "repository:a:pull repository:b:push" },
    { "scope=repository:a:pull%20%20repository:b:push+", NULL,
      "repository:a:pull repository:b:push" },
    { "scope=repository:a:pull&scope=repository:a:push", NULL,
      "repository:a:pull,push" },
    { "scope=registry:catalog:*", NULL, "registry:catalog:*" },
    { "scope=registry:catalog:pull", NULL, "" },
    { "scope=registry:other:*", NULL, "" },
    { "scope=repository:a:", NULL, "" },
    { "scope=repository:a:,,pull,", NULL, "repository:a:pull" },
    { "scope=repository:a:scanner-pull", NULL, "" },
    { "scope=repository:a:PULL", NULL, "" },
    { "scope=repository:a:pul", NULL, "" },
    { "scope=repository:A:pull", NULL, "" },
    { "scope=repository:..:pull", NULL, "" },
    { "scope=repository:host:5000/a:pull", NULL, "" },
    { "scope=aws:a:pull", NULL, "" },
    { "scope=repositories:a:pull", NULL, "" },
    { "service=x&client_id=y&account=z&offline_token=true&u%6eknown", NULL,
      "" },
    { "sc%6fpe=repository:a:pull", NULL, "repository:a:pull" },
    { "scope=repository", "a scope is malformed", NULL },
    { "scope=repository:a", "a scope is malformed", NULL },
    { "scope=:a:pull", "a scope is malformed", NULL },
    { "scope=(x):a:pull", "a scope is malformed", NULL },
    { "scope=repository(x:a:pull", "a scope is malformed", NULL },
    { "scope=%", "an escape is malformed", NULL },
    { "scope=%2", "an escape is malformed", NULL },
    { "scope=%2g", "an escape is malformed", NULL },
    { "scope=%g2", "an escape is malformed", NULL },
    { "%=a", "an escape is malformed", NULL },
    { "scope=a%00b", "a parameter has a control character", NULL },
    { "account=a%0ab", "a parameter has a control character", NULL },
    { "service=a%7f", "a parameter has a control character", NULL },
    { "service=a&service=a", "a parameter is duplicate", NULL },
    { "username=&username=", "a parameter is duplicate", NULL },
    { "password=a&password=b", "a parameter is duplicate", NULL },
    { "grant_type=a&grant_type=b", "a parameter is duplicate", NULL }
};


static const char *
t_parse(ngx_oci_scopes_t *scopes, const char *query, ngx_str_t *text)
{
    *text = tap_copy(query, strlen(query));

    return ngx_oci_scopes_parse(scopes, text);
}


static void
t_table(void)
{
    u_char             out[NGX_OCI_SCOPE_TEXT];
    size_t             n;
    ngx_str_t          text;
    ngx_uint_t         i;
    const char        *error;
    ngx_oci_scopes_t   scopes;

    for (i = 0; i < sizeof(t_queries) / sizeof(t_queries[0]); i++) {

        error = t_parse(&scopes, t_queries[i].query, &text);

        if (error || t_queries[i].error) {
            tap_ok(error && t_queries[i].error
                   && strcmp(error, t_queries[i].error) == 0,
                   t_queries[i].query);

        } else {
            n = ngx_oci_scopes_text(&scopes, out);
            tap_ok(n == strlen(t_queries[i].text)
                   && memcmp(out, t_queries[i].text, n) == 0,
                   t_queries[i].query);
        }

        free(text.data);
    }
}


static void
t_form(void)
{
    ngx_str_t          text;
    ngx_oci_scopes_t   scopes;

    tap_ok(t_parse(&scopes, "grant_type=password&username=al%20ice&password="
                   "a%26b%3D%00%0A+c&service=team&scope=repository:a:pull",
                   &text) == NULL, "a form");
    tap_ok(tap_eq(&scopes.grant_type, "password"), "its grant_type");
    tap_ok(tap_eq(&scopes.username, "al ice"), "username");
    tap_ok(scopes.password.len == 8
           && memcmp(scopes.password.data, "a&b=\0\n c", 8) == 0,
           "password, which may be anything");
    tap_ok(tap_eq(&scopes.service, "team"), "service");
    tap_ok(scopes.nscopes == 1, "and scope");
    free(text.data);

    tap_ok(t_parse(&scopes, "username=&password", &text) == NULL
           && scopes.username.data && scopes.username.len == 0
           && scopes.password.data && scopes.password.len == 0,
           "empty is not absent");
    free(text.data);
}


static void
t_bounds(void)
{
    char               buf[8192], *p;
    u_char             out[NGX_OCI_SCOPE_TEXT];
    size_t             n;
    ngx_str_t          text;
    ngx_uint_t         i, k;
    const char        *error;
    ngx_oci_scopes_t   scopes;

    for (k = NGX_OCI_SCOPE_MAX; k <= NGX_OCI_SCOPE_MAX + 1; k++) {

        for (i = 0, p = buf; i < k; i++) {
            p += sprintf(p, "scope=repository:%c%0*u:*&", 'a' + (int) i,
                         NGX_OCI_NAME_MAX - 1, 0);
        }

        error = t_parse(&scopes, buf, &text);

        if (k == NGX_OCI_SCOPE_MAX) {
            tap_ok(error == NULL && scopes.nscopes == k, "16 scopes");
            n = ngx_oci_scopes_text(&scopes, out);
            tap_ok(n == k * (sizeof("repository::pull,push,delete") - 1
                             + NGX_OCI_NAME_MAX) + k - 1,
                   "of the longest names fit into their text");

        } else {
            tap_ok(error && strcmp(error, "too many scopes") == 0,
                   "17 do not");
        }

        free(text.data);
    }

    for (k = NGX_OCI_SCOPE_PAIRS; k <= NGX_OCI_SCOPE_PAIRS + 1; k++) {

        for (i = 0, p = buf; i < k; i++) {
            p += sprintf(p, "a&");
        }

        error = t_parse(&scopes, buf, &text);
        tap_ok((error == NULL) == (k == NGX_OCI_SCOPE_PAIRS),
               "64 parameters at most");
        free(text.data);
    }
}


static void
t_claims(void)
{
    char              *claims;
    json_t            *json, *access;
    ngx_str_t          text, who, aud, id;
    ngx_oci_scopes_t   scopes;

    (void) t_parse(&scopes, "scope=repository:a/b:*&scope=repository:c:pull"
                   "&scope=registry:catalog:*", &text);

    scopes.scopes[0].actions &= NGX_OCI_PULL|NGX_OCI_DELETE;
    scopes.scopes[1].actions = 0;

    who = tap_copy("al\"ice\\", 7);
    aud = tap_copy("team", 4);
    id = tap_copy("x1", 2);

    claims = ngx_oci_scopes_claims(&scopes, &who, &aud, &id, 1000);
    json = claims ? json_loads(claims, 0, NULL) : NULL;

    tap_ok(json != NULL, "claims are JSON");
    tap_ok(strcmp(json_string_value(json_object_get(json, "sub")),
                  "al\"ice\\") == 0, "a subject is escaped");
    tap_ok(strcmp(json_string_value(json_object_get(json, "aud")), "team")
           == 0, "the audience");
    tap_ok(json_integer_value(json_object_get(json, "iat")) == 1000
           && json_integer_value(json_object_get(json, "nbf")) == 1000
           && json_integer_value(json_object_get(json, "exp")) == 1300,
           "times");

    access = json_object_get(json, "access");
    tap_ok(json_array_size(access) == 2, "what is not granted is not there");

    json_decref(json);
    free(claims);

    tap_ok(strstr(claims = ngx_oci_scopes_claims(&scopes, &who, &aud, &id, 1),
                  "\"access\":[{\"type\":\"repository\",\"name\":\"a/b\","
                  "\"actions\":[\"pull\",\"delete\"]},{\"type\":\"registry\","
                  "\"name\":\"catalog\",\"actions\":[\"*\"]}]") != NULL,
           "access has the form that registries have");
    free(claims);

    who.data[0] = 0xff;
    tap_ok(ngx_oci_scopes_claims(&scopes, &who, &aud, &id, 1) == NULL,
           "no claims for what is no UTF-8");

    free(who.data);
    who.len = 0;
    who.data = NULL;
    claims = ngx_oci_scopes_claims(&scopes, &who, &aud, &id, 1);
    tap_ok(claims && strstr(claims, "\"sub\":\"\"") != NULL, "nobody");

    free(claims);
    free(text.data);
    free(aud.data);
    free(id.data);
}


int
main(void)
{
    t_table();
    t_form();
    t_bounds();
    t_claims();

    return tap_done();
}
