
/*
 * Copyright (C) The nginx-oci authors
 *
 * May they?  Decided by the very code that nginx has.
 */


#include "op.h"
#include "ngx_oci_rbac.h"
#include "ngx_oci_route.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>


typedef struct {
    const char   *subject;
    ngx_uint_t    action;
    ngx_str_t     repository;
    const char   *digest;       /* or NULL */
} op_check_t;


static int op_check_args(op_check_t *check, char **argv);
static int op_check_decide(op_check_t *check, json_t *doc,
    ngx_oci_rbac_t *rbac);
static int op_check_quarantine(op_check_t *check, json_t *doc);
static int op_check_subject(ngx_oci_rbac_subject_t *s, const char *name);


int
op_cmd_check(op_opts_t *o, int argc, char **argv)
{
    int          rc;
    void        *rbac;
    op_store_t  *store;
    op_check_t   check;

    (void) argc;

    if (op_check_args(&check, argv) != OP_OK) {
        return OP_USAGE;
    }

    rc = op_store_open(o, &store);
    if (rc != OP_OK) {
        return rc;
    }

    rc = store->load(store, 0);

    if (rc == OP_OK) {
        rc = op_doc_check(store->doc, "the document", &rbac);
    }

    if (rc == OP_OK) {
        rc = op_check_decide(&check, store->doc, rbac);
        free(rbac);
    }

    store->close(store);

    return rc;
}


static int
op_check_args(op_check_t *check, char **argv)
{
    char        *digest;
    ngx_uint_t   i;

    static const struct {
        const char  *name;
        ngx_uint_t   action;
    } actions[] = {
        { "pull", NGX_OCI_PULL },
        { "push", NGX_OCI_PUSH },
        { "delete", NGX_OCI_DELETE },
        { "preheat", NGX_OCI_PREHEAT },
        { "purge", NGX_OCI_PURGE },
        { "status", NGX_OCI_STATUS },
        { "catalog", NGX_OCI_CATALOG },
        { NULL, 0 }
    };

    check->subject = argv[0];

    for (i = 0; actions[i].name; i++) {
        if (strcmp(actions[i].name, argv[1]) == 0) {
            break;
        }
    }

    if (actions[i].name == NULL) {
        op_error("action \"%s\" is none of pull, push, delete, preheat, "
                 "purge, status and catalog", argv[1]);
        return OP_USAGE;
    }

    check->action = actions[i].action;

    digest = strchr(argv[2], '@');

    if (digest) {
        *digest++ = '\0';
    }

    check->digest = digest;
    check->repository.data = (u_char *) argv[2];
    check->repository.len = strlen(argv[2]);

    if (check->action == NGX_OCI_CATALOG || check->action == NGX_OCI_STATUS) {
        check->repository.len = 0;
        return OP_OK;
    }

    if (ngx_oci_name_valid(check->repository.data, check->repository.len)
        != NGX_OK)
    {
        op_error("\"%s\" is no repository's name (a tag is not part of it)",
                 argv[2]);
        return OP_USAGE;
    }

    return OP_OK;
}


static int
op_check_decide(op_check_t *check, json_t *doc, ngx_oci_rbac_t *rbac)
{
    ngx_str_t                name;
    ngx_uint_t               rights;
    ngx_oci_rbac_rule_t     *rule;
    ngx_oci_rbac_subject_t  *subject;

    rights = 0;
    subject = NULL;

    if (strcmp(check->subject, "-") != 0) {

        name.data = (u_char *) check->subject;
        name.len = strlen(check->subject);

        subject = ngx_oci_rbac_subject(rbac, &name);

        if (op_check_subject(subject, check->subject) != OP_OK) {
            return OP_NO;
        }
    }

    if (check->action == NGX_OCI_STATUS) {
        rule = ngx_oci_rbac_anywhere(rbac, subject, check->action);

        if (rule == NULL) {
            puts("deny: no such right in any repository");
            return OP_NO;
        }

    } else {
        rights = ngx_oci_rbac_rights(rbac, subject, &check->repository,
                                     check->action, &rule);
    }

    if (rule == NULL) {
        puts(rights ? "deny: no such right in that repository"
                    : "deny: no right at all in that repository");
        return OP_NO;
    }

    if (op_check_quarantine(check, doc) != OP_OK) {
        return OP_NO;
    }

    /* both are of a checked document, and end with a zero byte or not */

    printf("allow: by %.*s, on ", (int) rule->name_len,
           ngx_oci_rbac_at(rbac, rule->name));
    printf("%.*s\n", (int) rule->pattern_len,
           ngx_oci_rbac_at(rbac, rule->pattern));

    return OP_OK;
}


static int
op_check_subject(ngx_oci_rbac_subject_t *s, const char *name)
{
    char       text[32];
    time_t     t;
    struct tm  tm;

    if (s == NULL) {
        fputs("deny: there is no subject ", stdout);
        op_text(stdout, name);
        fputc('\n', stdout);
        return OP_NO;
    }

    if (s->disabled) {
        puts("deny: the subject is disabled");
        return OP_NO;
    }

    if (s->not_before > (int64_t) time(NULL)) {

        t = (time_t) s->not_before;

        if (gmtime_r(&t, &tm) == NULL
            || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        {
            strcpy(text, "a time far off");
        }

        printf("deny: not before %s\n", text);
        return OP_NO;
    }

    return OP_OK;
}


static int
op_check_quarantine(op_check_t *check, json_t *doc)
{
    char        *text;
    json_t      *entry;

    entry = check->digest ? json_object_get(json_object_get(doc,
                                                            "quarantine"),
                                            check->digest)
                          : NULL;
    if (entry == NULL) {
        return OP_OK;
    }

    text = op_json(json_object_get(entry, "reason"), JSON_COMPACT);

    fputs("deny: by quarantine/", stdout);
    op_text(stdout, check->digest);
    printf(", reason %s\n", text);
    free(text);

    return OP_NO;
}
