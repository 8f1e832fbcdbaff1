
/*
 * Copyright (C) The nginx-oci authors
 *
 * Patterns, the policy document's schema, and the matrix of route, method and
 * role.
 */


#include "ngx_oci_phc.h"
#include "ngx_oci_rbac.h"
#include "ngx_oci_route.h"
#include "tap.h"


#define T_SCRYPT  "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$"
#define T_ZERO_SCRYPT                                                         \
    T_SCRYPT "punalsgLVDmabDdlbwVieUjVAmz5/abwyjX3gfy3Xlo"

#define T_ZERO_PBKDF2                                                         \
    "$pbkdf2-sha256$i=1000$c2FsdHNhbHRzYWx0c2FsdA$"                           \
    "dClvKSmj66n6MdMWNv3Go4mvH1Ym2WIGiJvquqa+mfE"

#define T_PHC     T_SCRYPT "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


/* patterns */

static struct {
    const char  *pattern;
    const char  *name;
    ngx_uint_t   match;
} t_matches[] = {
    { "**", "a", 1 },
    { "**", "a/b/c", 1 },
    { "**", "", 1 },
    { "*", "a", 1 },
    { "*", "a/b", 0 },
    { "*", "", 0 },
    { "a", "a", 1 },
    { "a", "ab", 0 },
    { "ab", "a", 0 },
    { "a", "a/b", 0 },
    { "a/b", "a", 0 },
    { "llm/**", "llm/x", 1 },
    { "llm/**", "llm/x/y/z", 1 },
    { "llm/**", "llm", 0 },
    { "llm/**", "llmx/y", 0 },
    { "llm/*", "llm/x", 1 },
    { "llm/*", "llm/x/y", 0 },
    { "llm/*", "llm", 0 },
    { "*/x", "a/x", 1 },
    { "*/x", "a/b/x", 0 },
    { "*/x/**", "a/x/b", 1 },
    { "*/x/**", "a/x", 0 },
    { "team-*/m", "team-a/m", 1 },
    { "team-*/m", "team-/m", 1 },
    { "team-*/m", "team/m", 0 },
    { "team-*/m", "team-a/b/m", 0 },
    { "a*b*c", "abc", 1 },
    { "a*b*c", "axxbyybzzc", 1 },
    { "a*b*c", "axxbyyb", 0 },
    { "*-gguf", "x-gguf", 1 },
    { "*-gguf", "x-gguf-gguf", 1 },
    { "*-gguf", "x-gguf-", 0 },
    { "a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0 }
};


static struct {
    const char  *pattern;
    ngx_uint_t   good;
} t_patterns[] = {
    { "a", 1 }, { "a/b-c.d_e", 1 }, { "**", 1 }, { "a/**", 1 },
    { "*/*/x*", 1 }, { "*-*-*-*-*-*-*-*", 1 },
    { "", 0 }, { "/", 0 }, { "/a", 0 }, { "a/", 0 }, { "a//b", 0 },
    { "**/a", 0 }, { "a/**/b", 0 }, { "a**", 0 }, { "a/x**", 0 },
    { "***", 0 }, { "A", 0 }, { "a b", 0 }, { "a/../b%2f", 0 },
    { "*-*-*-*-*-*-*-*-*", 0 }, { "[a]", 0 }, { "a?", 0 }
};


/* the document: what is wrong, where; NULL: nothing */

static struct {
    const char  *json;
    const char  *error;
} t_docs[] = {
    { "{\"version\":1}", NULL },
    { "{\"version\":1,\"subjects\":{},\"grants\":{},\"roles\":{},"
      "\"projects\":{}}", NULL },
    { "", "'[' or '{' expected" },
    { "[]", "$: not an object" },
    { "{\"version\":1", "'}' expected" },
    { "{\"version\":1}x", "end of file expected" },
    { "{\"version\":1,\"version\":1}", "duplicate object key" },
    { "{}", "$.version: 1 is required" },
    { "{\"version\":2}", "$.version: 1 is required" },
    { "{\"version\":\"1\"}", "$.version: 1 is required" },
    { "{\"version\":1,\"subject\":{}}", "$.subject: unknown member" },
    { "{\"version\":1,\"subjects\":[]}", "$.subjects: not an object" },
    { "{\"version\":1,\"subjects\":{\"\":{}}}",
      "$.subjects.: a name has 1 to 255 bytes" },
    { "{\"version\":1,\"subjects\":{\"a b\":{}}}",
      "$.subjects.a b: a name has no spaces" },
    { "{\"version\":1,\"subjects\":{\"a\\u001b\":{}}}",
      "$.subjects.a?: a name has no spaces" },
    { "{\"version\":1,\"subjects\":{\"a:b\":{\"secret\":\"" T_PHC "\"}}}",
      "$.subjects.a:b: a subject whose name has \":\" has no secret" },
    { "{\"version\":1,\"subjects\":{\"system:serviceaccount:ml:x\":{}}}",
      NULL },
    { "{\"version\":1,\"subjects\":{\"a\":1}}",
      "$.subjects.a: not an object" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"secert\":\"x\"}}}",
      "$.subjects.a.secert: unknown member" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"secret\":1}}}",
      "$.subjects.a.secret: not a string" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"secret\":\"plain\"}}}",
      "$.subjects.a.secret: not a PHC string: neither" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"secret\":\"" T_PHC "\"}}}",
      NULL },
    { "{\"version\":1,\"subjects\":{\"a\":{\"disabled\":\"yes\"}}}",
      "$.subjects.a.disabled: neither true nor false" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"not_before\":1.5}}}",
      "$.subjects.a.not_before: neither seconds" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"not_before\":-1}}}",
      "$.subjects.a.not_before: neither seconds" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"not_before\":\"soon\"}}}",
      "$.subjects.a.not_before: neither seconds" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"not_before\":"
      "\"2026-13-01T00:00:00Z\"}}}", "$.subjects.a.not_before: neither" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"not_before\":"
      "\"2026-01-01T00:00:00\"}}}", "$.subjects.a.not_before: neither" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"not_before\":"
      "\"2026-01-01T00:00:00+01:00\"}}}", NULL },
    { "{\"version\":1,\"subjects\":{\"a\":{\"groups\":\"g\"}}}",
      "$.subjects.a.groups: not an array" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"groups\":[\"g\",1]}}}",
      "$.subjects.a.groups[1]: not a string" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"groups\":[\"g\",\"g\"]}}}",
      "$.subjects.a.groups[1]: given twice" },
    { "{\"version\":1,\"roles\":[]}", "$.roles: not an object" },
    { "{\"version\":1,\"roles\":{\"guest\":[\"push\"]}}",
      "$.roles.guest: a built-in role" },
    { "{\"version\":1,\"roles\":{\"x\":\"pull\"}}",
      "$.roles.x: not an array of actions" },
    { "{\"version\":1,\"roles\":{\"x\":[\"pull\",\"catalog\"]}}",
      "$.roles.x: an action is none of" },
    { "{\"version\":1,\"roles\":{\"x\":[1]}}",
      "$.roles.x: an action is none of" },
    { "{\"version\":1,\"grants\":[]}", "$.grants: not an object" },
    { "{\"version\":1,\"grants\":{\"x\":{\"role\":\"guest\"}}}",
      "$.grants.x.repositories: an array of patterns is required" },
    { "{\"version\":1,\"grants\":{\"x\":{\"repositories\":[\"a\"]}}}",
      "$.grants.x.role: a role's name is required" },
    { "{\"version\":1,\"grants\":{\"x\":{\"role\":\"owner\","
      "\"repositories\":[\"a\"]}}}",
      "$.grants.x.role: unknown role \"owner\"" },
    { "{\"version\":1,\"grants\":{\"x\":{\"role\":\"guest\","
      "\"subjects\":[\"b\"],\"repositories\":[\"a\"]}}}",
      "$.grants.x.subjects[0]: unknown subject \"b\"" },
    { "{\"version\":1,\"grants\":{\"x\":{\"role\":\"guest\","
      "\"subjects\":\"b\",\"repositories\":[\"a\"]}}}",
      "$.grants.x.subjects: not an array" },
    { "{\"version\":1,\"grants\":{\"x\":{\"role\":\"guest\","
      "\"groups\":[\"g\"],\"repositories\":[\"a\",\"a/**/b\"]}}}",
      "$.grants.x.repositories[1]: \"**\" is the last component" },
    { "{\"version\":1,\"grants\":{\"x\":{\"role\":\"systemAdmin\","
      "\"groups\":[\"g\"],\"repositories\":[\"a/**\"]}}}",
      "$.grants.x.repositories[0]: systemAdmin is granted on \"**\" only" },
    { "{\"version\":1,\"grants\":{\"x\":{\"role\":\"guest\",\"group\":[],"
      "\"repositories\":[\"a\"]}}}", "$.grants.x.group: unknown member" },
    { "{\"version\":1,\"projects\":[]}", "$.projects: not an object" },
    { "{\"version\":1,\"projects\":{\"a/b\":{}}}",
      "$.projects.a/b: a project is the first component" },
    { "{\"version\":1,\"projects\":{\"A\":{}}}",
      "$.projects.A: a project is the first component" },
    { "{\"version\":1,\"projects\":{\"a\":{\"public\":\"true\"}}}",
      "$.projects.a.public: neither true nor false" },
    { "{\"version\":1,\"projects\":{\"a\":{\"publik\":true}}}",
      "$.projects.a.publik: unknown member" },

    /* what stands in the document is in no message */

    { "{\"version\":1,\"subjects\":{\"a\":{\"secret\":\"canary-1",
      "premature end of input|unexpected newline|canary" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"secret\":\"x\" canary-2",
      "'}' expected" },
    { "{\"version\":1,\"subjects\":{\"a\":{\"secret\":\"$scrypt$canary\"}}}",
      "$.subjects.a.secret: not a PHC string: \"ln\"" }
};


static struct {
    const char  *phc;
    const char  *secret;
    ngx_int_t    rc;
} t_phcs[] = {
    { "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$"
      "punalsgLVDmabDdlbwVieUjVAmz5/abwyjX3gfy3Xlo", "secret", NGX_OK },
    { "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$"
      "punalsgLVDmabDdlbwVieUjVAmz5/abwyjX3gfy3Xlo", "Secret", NGX_DECLINED },
    { "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$"
      "punalsgLVDmabDdlbwVieUjVAmz5/abwyjX3gfy3Xlo", "", NGX_DECLINED },
    { "$pbkdf2-sha256$i=1000$c2FsdHNhbHRzYWx0c2FsdA$"
      "dClvKSmj66n6MdMWNv3Go4mvH1Ym2WIGiJvquqa+mfE", "secret", NGX_OK },
    { "$pbkdf2-sha256$i=1000$c2FsdHNhbHRzYWx0c2FsdA$"
      "dClvKSmj66n6MdMWNv3Go4mvH1Ym2WIGiJvquqa+mfE", "secret ", NGX_DECLINED },

    /* RFC 7914, section 12 */

    { "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$"
      "cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F"
      "3A1lHkDfzwF7RVdYhw", "pleaseletmein", NGX_OK },

    { NGX_OCI_PHC_DEFAULT, "", NGX_DECLINED },
    { "", NULL, 0 },
    { "$", NULL, 0 },
    { "$scrypt$", NULL, 0 },
    { "$scrypt", NULL, 0 },
    { "$2b$10$abc", NULL, 0 },
    { "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
      NULL, 0 },
    { "$scrypt$ln=9,r=8,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$scrypt$ln=21,r=8,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$scrypt$ln=20,r=32,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$scrypt$ln=17,r=8,p=16$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$scrypt$ln=010,r=8,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$scrypt$ln=10,r=0,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$scrypt$ln=10,r=8,p=17$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$scrypt$r=8,ln=10,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$scrypt$ln=10,r=8,p=1$c2FsdA$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHQ$AAAA", NULL, 0 },
    { "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAB", NULL, 0 },
    { "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA$x", NULL, 0 },
    { "$scrypt$ln=10,r=8,p=1$c2FsdHNhbHQ", NULL, 0 },
    { "$scrypt$ln=10,r=8,p=1$$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$pbkdf2-sha256$i=999$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 },
    { "$pbkdf2-sha256$i=10000001$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
      NULL, 0 },
    { "$pbkdf2-sha256$29000$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", NULL, 0 }
};


/*
 * The matrix.  What a route and a method need, as the specification's table of
 * endpoints and Harbor have it: p, w (push), d, l (any subject), c (catalog),
 * "-": nobody.
 */

static const char  *t_methods[] = {
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
    "CONNECT", "PROPFIND", "get", ""
};

static struct {
    const char  *name;
    ngx_uint_t   route;
    ngx_uint_t   catalog;
    const char  *needs;             /* by method */
} t_routes[] = {
    { "ping", NGX_OCI_ROUTE_PING, 0,           "ll----------" },
    { "blob", NGX_OCI_ROUTE_BLOB, 0,           "pp---d------" },
    { "manifest", NGX_OCI_ROUTE_MANIFEST, 0,   "pp-w-d------" },
    { "tag", NGX_OCI_ROUTE_TAG, 0,             "pp-w-d------" },
    { "referrers", NGX_OCI_ROUTE_REFERRERS, 0, "pp----------" },
    { "tags_list", NGX_OCI_ROUTE_TAGS_LIST, 0, "pp----------" },
    { "upload", NGX_OCI_ROUTE_UPLOAD, 0,       "ppwwwd------" },
    { "catalog", NGX_OCI_ROUTE_OTHER, 1,       "cc----------" },
    { "other", NGX_OCI_ROUTE_OTHER, 0,         "------------" },
    { "unknown", NGX_OCI_ROUTE_N, 0,           "------------" },
    { "unknown catalog", NGX_OCI_ROUTE_N, 1,   "------------" }
};

/* what a role has on the repositories that it is granted on, and on others */

static struct {
    const char  *name;
    const char  *has;
    const char  *elsewhere;
} t_roles[] = {
    { "projectAdmin", "pwdl", "l" },
    { "maintainer", "pwdl", "l" },
    { "developer", "pwl", "l" },
    { "guest", "pl", "l" },
    { "limitedGuest", "pl", "l" },
    { "systemAdmin", "pwdlc", "pwdlc" },
    { "writer", "wl", "l" },
    { "reaper", "dl", "l" },
    { "operator", "l", "l" },
    { "nothing", "l", "l" }
};


static const char  t_matrix[] =
    "{\"version\":1,"
    "\"subjects\":{"
    "\"projectAdmin\":{\"groups\":[\"a\"]},\"maintainer\":{},"
    "\"developer\":{},\"guest\":{},\"limitedGuest\":{},\"systemAdmin\":{},"
    "\"writer\":{},\"reaper\":{},\"operator\":{},\"nothing\":{}},"
    "\"roles\":{\"writer\":[\"push\"],\"reaper\":[\"delete\"],"
    "\"operator\":[\"preheat\",\"purge\",\"status\"]},"
    "\"grants\":{"
    "\"a\":{\"role\":\"projectAdmin\",\"groups\":[\"a\"],"
    "\"repositories\":[\"llm/**\"]},"
    "\"m\":{\"role\":\"maintainer\",\"subjects\":[\"maintainer\"],"
    "\"repositories\":[\"llm/**\"]},"
    "\"d\":{\"role\":\"developer\",\"subjects\":[\"developer\"],"
    "\"repositories\":[\"llm/*\"]},"
    "\"g\":{\"role\":\"guest\",\"subjects\":[\"guest\"],"
    "\"repositories\":[\"*/model\"]},"
    "\"l\":{\"role\":\"limitedGuest\",\"subjects\":[\"limitedGuest\"],"
    "\"repositories\":[\"llm/model\"]},"
    "\"s\":{\"role\":\"systemAdmin\",\"subjects\":[\"systemAdmin\"],"
    "\"repositories\":[\"**\"]},"
    "\"w\":{\"role\":\"writer\",\"subjects\":[\"writer\"],"
    "\"repositories\":[\"llm/m*l\"]},"
    "\"r\":{\"role\":\"reaper\",\"subjects\":[\"reaper\"],"
    "\"repositories\":[\"x/y\",\"llm/model\"]},"
    "\"o\":{\"role\":\"operator\",\"subjects\":[\"operator\"],"
    "\"repositories\":[\"**\"]}},"
    "\"projects\":{\"public\":{\"public\":true},\"llm\":{}}}";


static ngx_str_t
t_str(const char *text)
{
    ngx_str_t  s;

    s.data = (u_char *) text;
    s.len = strlen(text);

    return s;
}


/* one cell: may the subject (NULL: nobody) do that there? */

static ngx_uint_t
t_may(ngx_oci_rbac_t *doc, const char *name, ngx_uint_t route,
    ngx_uint_t catalog, const char *method, const char *repository)
{
    ngx_str_t                s, m;
    ngx_uint_t               action, rights;
    ngx_oci_rbac_rule_t     *rule;
    ngx_oci_rbac_subject_t  *subject;

    m = t_str(method);
    action = ngx_oci_rbac_action(route, &m, catalog);

    if (action == 0) {
        return 0;
    }

    subject = NULL;

    if (name) {
        s = t_str(name);
        subject = ngx_oci_rbac_subject(doc, &s);

        if (subject == NULL) {
            return 0;
        }
    }

    if (action == NGX_OCI_LOGIN) {
        return subject != NULL;
    }

    s = t_str(action == NGX_OCI_CATALOG ? "" : repository);
    rights = ngx_oci_rbac_rights(doc, subject, &s, action, &rule);

    if ((rule != NULL) != ((rights & action) != 0)) {
        return 2;
    }

    return rule != NULL;
}


static void
t_cells(void)
{
    ngx_uint_t               i, k, n, w, cells, wrong, want, got;
    const char              *has, *repository;
    ngx_oci_rbac_t          *doc;
    ngx_oci_policy_error_t   error;

    static const char  *where[] = { "llm/model", "other/thing", "public/x" };

    doc = ngx_oci_policy_compile(t_matrix, sizeof(t_matrix) - 1, &error);
    tap_ok(doc != NULL, doc ? "the matrix' document" : error.text);

    if (doc == NULL) {
        return;
    }

    cells = 0;
    wrong = 0;

    for (w = 0; w < 3; w++) {
        repository = where[w];

        for (n = 0; n <= sizeof(t_roles) / sizeof(t_roles[0]); n++) {

            /* the last one is nobody */

            for (i = 0; i < sizeof(t_routes) / sizeof(t_routes[0]); i++) {

                for (k = 0; k < sizeof(t_methods) / sizeof(t_methods[0]); k++)
                {
                    has = (n == sizeof(t_roles) / sizeof(t_roles[0])) ? ""
                          : w ? t_roles[n].elsewhere : t_roles[n].has;

                    want = strchr(has, t_routes[i].needs[k]) != NULL
                           || (w == 2 && t_routes[i].needs[k] == 'p');

                    got = t_may(doc, *has ? t_roles[n].name : NULL,
                                t_routes[i].route, t_routes[i].catalog,
                                t_methods[k], repository);

                    cells++;

                    if (want != got) {
                        wrong++;
                        printf("# %s %s %s at %s: %lu, want %lu\n",
                               *has ? t_roles[n].name : "nobody",
                               t_methods[k], t_routes[i].name, repository,
                               (unsigned long) got, (unsigned long) want);
                    }
                }
            }
        }
    }

    printf("# %lu cells of route, method, role and repository, %lu wrong\n",
           (unsigned long) cells, (unsigned long) wrong);

    tap_ok(wrong == 0, "the matrix");

    free(doc);
}


static void
t_schema(void)
{
    ngx_str_t                s;
    ngx_uint_t               i, ok;
    ngx_oci_rbac_t          *doc;
    ngx_oci_policy_error_t   error;

    for (i = 0; i < sizeof(t_docs) / sizeof(t_docs[0]); i++) {

        s = tap_copy(t_docs[i].json, strlen(t_docs[i].json));
        doc = ngx_oci_policy_compile((char *) s.data, s.len, &error);

        if (t_docs[i].error == NULL) {
            ok = doc != NULL && doc->magic == NGX_OCI_RBAC_MAGIC;

        } else {
            ok = doc == NULL
                 && (strncmp(error.text, t_docs[i].error,
                             strlen(t_docs[i].error)) == 0
                     || strstr(t_docs[i].error, "|") != NULL)
                 && strstr(error.text, "canary") == NULL;
        }

        tap_ok(ok, t_docs[i].json);

        if (!ok) {
            printf("# %s\n", doc ? "accepted" : error.text);
        }

        free(doc);
        free(s.data);
    }

    s = t_str("{\n \"version\": 1,\n \"subjects\": }\n");
    doc = ngx_oci_policy_compile((char *) s.data, s.len, &error);
    tap_ok(doc == NULL && error.line == 3, "the line of a syntax error");
}


static void
t_subjects(void)
{
    char                    *p, name[32];
    size_t                   len;
    ngx_str_t                s, repository;
    ngx_uint_t               i, wrong;
    ngx_oci_phc_t            phc;
    ngx_oci_rbac_t          *doc;
    ngx_oci_rbac_rule_t     *rule;
    ngx_oci_rbac_subject_t  *subject;
    ngx_oci_policy_error_t   error;

    p = malloc(1 << 20);
    len = sprintf(p, "{\"version\":1,\"subjects\":{");

    for (i = 0; i < 5000; i++) {
        len += sprintf(p + len, "%s\"s%lu\":{\"groups\":[\"g%lu\"],"
                       "\"disabled\":%s,\"not_before\":%lu}", i ? "," : "",
                       (unsigned long) i, (unsigned long) i % 7,
                       i % 2 ? "true" : "false", (unsigned long) i);
    }

    len += sprintf(p + len, "},\"grants\":{"
                   "\"three\":{\"role\":\"guest\",\"groups\":[\"g3\"],"
                   "\"repositories\":[\"a/b\",\"c/**\"]},"
                   "\"one\":{\"role\":\"developer\",\"subjects\":[\"s3\"],"
                   "\"repositories\":[\"c/*\"]}}}");

    doc = ngx_oci_policy_compile(p, len, &error);
    tap_ok(doc != NULL, doc ? "5000 subjects" : error.text);

    if (doc == NULL) {
        return;
    }

    wrong = 0;

    for (i = 0; i < 5001; i++) {
        s.data = (u_char *) name;
        s.len = sprintf(name, "s%lu", (unsigned long) i);
        subject = ngx_oci_rbac_subject(doc, &s);

        if (i == 5000) {
            wrong += (subject != NULL);
            break;
        }

        if (subject == NULL || subject->disabled != i % 2
            || subject->not_before != (int64_t) i)
        {
            wrong++;
            continue;
        }

        repository = t_str("c/x/y");
        (void) ngx_oci_rbac_rights(doc, subject, &repository, NGX_OCI_PULL,
                                   &rule);
        wrong += ((rule != NULL) != (i % 7 == 3));

        repository = t_str("a/b");
        (void) ngx_oci_rbac_rights(doc, subject, &repository, NGX_OCI_PULL,
                                   &rule);
        wrong += ((rule != NULL) != (i % 7 == 3));

        repository = t_str("a/c");
        wrong += (ngx_oci_rbac_rights(doc, subject, &repository,
                                      NGX_OCI_PULL, &rule)
                  != 0);
    }

    tap_ok(wrong == 0, "each has its own, and those of its group");

    s = t_str("s3");
    subject = ngx_oci_rbac_subject(doc, &s);
    repository = t_str("c/x");

    tap_ok(ngx_oci_rbac_rights(doc, subject, &repository, NGX_OCI_PUSH,
                               &rule)
           == (NGX_OCI_PULL|NGX_OCI_PUSH)
           && rule && rule->name_len == sizeof("grants/one") - 1
           && memcmp(ngx_oci_rbac_at(doc, rule->name), "grants/one",
                     rule->name_len)
              == 0, "which rule it is");

    tap_ok(ngx_oci_phc_parse(&phc, (char *) ngx_oci_rbac_at(doc, doc->dummy),
                             doc->dummy_len)
           == NULL, "what unknown subjects cost");

    free(doc);
    free(p);

    p = "{\"version\":1,\"subjects\":{"
        "\"a\":{\"secret\":\"$pbkdf2-sha256$i=1000$c2FsdHNhbHQ"
        "$AAAAAAAAAAAAAAAAAAAAAA\"},"
        "\"b\":{\"secret\":\"" T_PHC "\"},\"c\":{\"secret\":\"" T_PHC
        "\"}}}";

    doc = ngx_oci_policy_compile(p, strlen(p), &error);

    tap_ok(doc && doc->dummy_len == sizeof(T_PHC) - 1
           && memcmp(ngx_oci_rbac_at(doc, doc->dummy), T_SCRYPT,
                     sizeof(T_SCRYPT) - 1)
              == 0, "is what most cost");

    free(doc);
}


/* rights that concern no repository, or one that is not known yet */

static const char  t_duties[] =
    "{\"version\":1,"
    "\"subjects\":{\"a\":{\"groups\":[\"g\",\"none\"]},\"b\":{},"
    "\"c\":{\"groups\":[\"h\"]},\"d\":{}},"
    "\"roles\":{\"heat\":[\"preheat\"],\"two\":[\"purge\",\"status\"],"
    "\"none\":[]},"
    "\"grants\":{"
    "\"1\":{\"role\":\"heat\",\"subjects\":[\"b\"],\"groups\":[\"g\"],"
    "\"repositories\":[\"llm/a\",\"x/**\"]},"
    "\"2\":{\"role\":\"two\",\"subjects\":[\"b\"],\"repositories\":[\"y\"]},"
    "\"3\":{\"role\":\"two\",\"subjects\":[\"b\"],\"groups\":[\"h\"],"
    "\"repositories\":[\"*/z\"]},"
    "\"4\":{\"role\":\"none\",\"subjects\":[\"d\"],"
    "\"repositories\":[\"**\"]},"
    "\"5\":{\"role\":\"projectAdmin\",\"subjects\":[\"d\"],"
    "\"repositories\":[\"**\"]}},"
    "\"projects\":{\"public\":{\"public\":true}}}";

static struct {
    const char  *subject;
    const char  *preheat;           /* the grants */
    const char  *purge;
    const char  *status;
} t_somewhere[] = {
    { "a", "grants/1", "-", "-" },
    { "b", "grants/1", "grants/2", "grants/2" },
    { "c", "-", "grants/3", "grants/3" },
    { "d", "-", "-", "-" },
    { NULL, "-", "-", "-" }
};


static ngx_uint_t
t_first(ngx_oci_rbac_t *doc, ngx_oci_rbac_subject_t *subject,
    ngx_uint_t action, const char *want)
{
    ngx_oci_rbac_rule_t  *rule;

    rule = ngx_oci_rbac_anywhere(doc, subject, action);

    if (rule == NULL) {
        return *want == '-';
    }

    return rule->name_len == strlen(want)
           && memcmp(ngx_oci_rbac_at(doc, rule->name), want, strlen(want))
              == 0;
}


static void
t_anywhere(void)
{
    ngx_str_t                s;
    ngx_uint_t               i;
    const char              *name;
    ngx_oci_rbac_t          *doc;
    ngx_oci_rbac_subject_t  *subject;
    ngx_oci_policy_error_t   error;

    doc = ngx_oci_policy_compile(t_duties, sizeof(t_duties) - 1, &error);
    tap_ok(doc != NULL, doc ? "duties" : error.text);

    for (i = 0; doc && i < sizeof(t_somewhere) / sizeof(t_somewhere[0]); i++) {

        name = t_somewhere[i].subject;
        subject = NULL;

        if (name) {
            s = t_str(name);
            subject = ngx_oci_rbac_subject(doc, &s);
        }

        tap_ok(t_first(doc, subject, NGX_OCI_PREHEAT, t_somewhere[i].preheat)
               && t_first(doc, subject, NGX_OCI_PURGE, t_somewhere[i].purge)
               && t_first(doc, subject, NGX_OCI_STATUS,
                          t_somewhere[i].status)
               && t_first(doc, subject, NGX_OCI_PULL, "-")
               && t_first(doc, subject, NGX_OCI_CATALOG, "-"),
               name ? name : "nobody: no rights of that kind");
    }

    free(doc);
}


int
main(void)
{
    ngx_int_t      rc;
    ngx_str_t      a, b;
    ngx_uint_t     i;
    const char    *why;
    ngx_oci_phc_t  phc;

    for (i = 0; i < sizeof(t_matches) / sizeof(t_matches[0]); i++) {
        a = tap_copy(t_matches[i].pattern, strlen(t_matches[i].pattern));
        b = tap_copy(t_matches[i].name, strlen(t_matches[i].name));

        tap_ok(ngx_oci_pattern_match(&a, &b) == t_matches[i].match,
               t_matches[i].name);
        free(a.data);
        free(b.data);
    }

    for (i = 0; i < sizeof(t_patterns) / sizeof(t_patterns[0]); i++) {
        a = tap_copy(t_patterns[i].pattern, strlen(t_patterns[i].pattern));

        tap_ok((ngx_oci_pattern_check((char *) a.data, a.len) == NULL)
               == (t_patterns[i].good == 1), t_patterns[i].pattern);
        free(a.data);
    }

    for (i = 0; i < sizeof(t_phcs) / sizeof(t_phcs[0]); i++) {
        a = tap_copy(t_phcs[i].phc, strlen(t_phcs[i].phc));
        why = ngx_oci_phc_parse(&phc, (char *) a.data, a.len);

        if (t_phcs[i].secret == NULL) {
            tap_ok(why != NULL, t_phcs[i].phc);

        } else {
            rc = why ? NGX_ERROR
                     : ngx_oci_phc_verify(&phc, (u_char *) t_phcs[i].secret,
                                          strlen(t_phcs[i].secret));
            tap_ok(rc == t_phcs[i].rc, t_phcs[i].phc);
        }

        free(a.data);
    }

    /* a hash of the secret is the same with zeros behind it */

    for (i = 0; i < 2; i++) {
        why = ngx_oci_phc_parse(&phc, i ? T_ZERO_PBKDF2 : T_ZERO_SCRYPT,
                                strlen(i ? T_ZERO_PBKDF2 : T_ZERO_SCRYPT));

        tap_ok(why == NULL
               && ngx_oci_phc_verify(&phc, (u_char *) "secret\0", 6)
                  == NGX_OK
               && ngx_oci_phc_verify(&phc, (u_char *) "secret\0", 7)
                  == NGX_DECLINED,
               "a zero behind a secret makes it another one");
    }

    t_schema();
    t_subjects();
    t_cells();
    t_anywhere();

    return tap_done();
}
