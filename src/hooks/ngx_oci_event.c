
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_event.h"

#include <jansson.h>


typedef enum {
    NGX_OCI_EVENT_NOTHING = 0,
    NGX_OCI_EVENT_PUSHED,
    NGX_OCI_EVENT_CHANGED,
    NGX_OCI_EVENT_REPLICATED,
    NGX_OCI_EVENT_RETAINED
} ngx_oci_event_e;


typedef struct {
    const char  *type;              /* Harbor's own */
    const char  *cloud;             /* as a CloudEvent */
    ngx_uint_t   kind;
} ngx_oci_event_type_t;


typedef struct {
    ngx_int_t  (*name)(void *data, const char *repository,
                       const char *reference, ngx_uint_t pushed);
    void        *data;
    ngx_uint_t   n;
    ngx_uint_t   pushed;
} ngx_oci_event_ctx_t;


static ngx_int_t ngx_oci_event_name(ngx_oci_event_ctx_t *ctx,
    const char *repository, json_t *reference);
static ngx_int_t ngx_oci_event_resources(ngx_oci_event_ctx_t *ctx,
    json_t *data);
static ngx_int_t ngx_oci_event_replication(ngx_oci_event_ctx_t *ctx,
    json_t *replication);
static ngx_int_t ngx_oci_event_replicated(ngx_oci_event_ctx_t *ctx,
    json_t *resource, json_t *artifact);
static ngx_int_t ngx_oci_event_retention(ngx_oci_event_ctx_t *ctx,
    json_t *retention);
static const char *ngx_oci_event_text(json_t *object, const char *key);


static ngx_oci_event_type_t  ngx_oci_event_types[] = {
    { "PUSH_ARTIFACT", "harbor.artifact.pushed", NGX_OCI_EVENT_PUSHED },
    { "PULL_ARTIFACT", "harbor.artifact.pulled", NGX_OCI_EVENT_NOTHING },
    { "DELETE_ARTIFACT", "harbor.artifact.deleted", NGX_OCI_EVENT_CHANGED },
    { "SCANNING_COMPLETED", "harbor.scan.completed", NGX_OCI_EVENT_CHANGED },
    { "SCANNING_FAILED", "harbor.scan.failed", NGX_OCI_EVENT_CHANGED },
    { "SCANNING_STOPPED", "harbor.scan.stopped", NGX_OCI_EVENT_CHANGED },
    { "REPLICATION", "harbor.replication.status.changed",
      NGX_OCI_EVENT_REPLICATED },
    { "TAG_RETENTION", "harbor.tag_retention.finished",
      NGX_OCI_EVENT_RETAINED },
    { "QUOTA_EXCEED", "harbor.quota.exceeded", NGX_OCI_EVENT_NOTHING },
    { "QUOTA_WARNING", "harbor.quota.warned", NGX_OCI_EVENT_NOTHING },
    { NULL, NULL, 0 }
};


ngx_int_t
ngx_oci_event(const char *text, size_t len,
    ngx_int_t (*name)(void *data, const char *repository,
    const char *reference, ngx_uint_t pushed), void *data)
{
    json_t                *root, *event;
    ngx_int_t              rc;
    const char            *type;
    json_error_t           err;
    ngx_oci_event_ctx_t    ctx;
    ngx_oci_event_type_t  *t;

    ctx.name = name;
    ctx.data = data;
    ctx.n = 0;

    root = json_loadb(text, len, 0, &err);
    type = ngx_oci_event_text(root, "type");
    event = json_object_get(root, ngx_oci_event_text(root, "specversion")
                                  ? "data" : "event_data");

    if (type == NULL) {
        json_decref(root);
        return NGX_DECLINED;
    }

    for (t = ngx_oci_event_types; t->type; t++) {
        if (strcmp(t->type, type) == 0 || strcmp(t->cloud, type) == 0) {
            break;
        }
    }

    ctx.pushed = (t->kind == NGX_OCI_EVENT_PUSHED);

    switch (t->kind) {

    case NGX_OCI_EVENT_PUSHED:
    case NGX_OCI_EVENT_CHANGED:
        rc = ngx_oci_event_resources(&ctx, event);
        break;

    case NGX_OCI_EVENT_REPLICATED:
        rc = ngx_oci_event_replication(&ctx, json_object_get(event,
                                                         "replication"));
        break;

    case NGX_OCI_EVENT_RETAINED:
        rc = ngx_oci_event_retention(&ctx, json_object_get(event,
                                                           "retention"));
        break;

    default:
        rc = NGX_OK;
    }

    json_decref(root);

    return rc;
}


/* what is none is left out: the next event may have what a later Harbor
   writes there */

static ngx_int_t
ngx_oci_event_name(ngx_oci_event_ctx_t *ctx, const char *repository,
    json_t *reference)
{
    const char        *p;
    size_t             len;
    ngx_oci_digest_t   digest;

    if (!json_is_string(reference)
        || ngx_oci_name_valid((u_char *) repository, strlen(repository))
           != NGX_OK)
    {
        return NGX_OK;
    }

    p = json_string_value(reference);
    len = strlen(p);

    if (ngx_oci_tag_valid((u_char *) p, len) != NGX_OK
        && ngx_oci_digest_parse(&digest, (u_char *) p, len) != NGX_OK)
    {
        return NGX_OK;
    }

    if (ctx->n++ == NGX_OCI_EVENT_NAMES) {
        return NGX_DECLINED;
    }

    return ctx->name(ctx->data, repository, p, ctx->pushed);
}


/* of a push the tag comes first, if there is one: else it is the digest */

static ngx_int_t
ngx_oci_event_resources(ngx_oci_event_ctx_t *ctx, json_t *data)
{
    size_t       i;
    json_t      *resource, *tag, *digest;
    ngx_int_t    rc;
    const char  *repository;

    repository = ngx_oci_event_text(json_object_get(data, "repository"),
                                    "repo_full_name");
    if (repository == NULL) {
        return NGX_OK;
    }

    json_array_foreach(json_object_get(data, "resources"), i, resource) {

        tag = json_object_get(resource, "tag");
        digest = json_object_get(resource, "digest");

        rc = ngx_oci_event_name(ctx, repository, tag);

        if (rc == NGX_OK && !json_equal(tag, digest)) {
            rc = ngx_oci_event_name(ctx, repository, digest);
        }

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


/* one of the two ends is this registry */

static ngx_int_t
ngx_oci_event_replication(ngx_oci_event_ctx_t *ctx, json_t *replication)
{
    size_t       i, k, n;
    json_t      *artifact, *end;
    ngx_int_t    rc;

    static const char  *lists[] = { "successful_artifact", "failed_artifact" };
    static const char  *ends[] = { "src_resource", "dest_resource" };

    for (k = 0; k < 2; k++) {

        json_array_foreach(json_object_get(replication, lists[k]), i,
                           artifact)
        {
            for (n = 0; n < 2; n++) {
                end = json_object_get(replication, ends[n]);
                rc = ngx_oci_event_replicated(ctx, end, artifact);

                if (rc != NGX_OK) {
                    return rc;
                }
            }
        }
    }

    return NGX_OK;
}


/* "name_tag": "busybox [1 item(s) in total]", the tags are in "references" */

static ngx_int_t
ngx_oci_event_replicated(ngx_oci_event_ctx_t *ctx, json_t *resource,
    json_t *artifact)
{
    int          len;
    char         repository[NGX_OCI_NAME_MAX + 1];
    size_t       i;
    json_t      *reference;
    ngx_int_t    rc;
    const char  *namespace, *name;

    namespace = ngx_oci_event_text(resource, "namespace");
    name = ngx_oci_event_text(artifact, "name_tag");

    if (namespace == NULL || name == NULL) {
        return NGX_OK;
    }

    len = (int) strcspn(name, " :@");

    if (snprintf(repository, sizeof(repository), "%s/%.*s", namespace, len,
                 name)
        >= (int) sizeof(repository))
    {
        return NGX_OK;
    }

    json_array_foreach(json_object_get(artifact, "references"), i,
                       reference)
    {
        rc = ngx_oci_event_name(ctx, repository, reference);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


/* "name_tag": "busybox:v0" or "busybox@sha256:..." */

static ngx_int_t
ngx_oci_event_retention(ngx_oci_event_ctx_t *ctx, json_t *retention)
{
    int          len;
    char         repository[NGX_OCI_NAME_MAX + 1];
    size_t       i;
    json_t      *artifact, *reference;
    ngx_int_t    rc;
    const char  *project, *name;

    project = ngx_oci_event_text(retention, "project_name");

    if (project == NULL) {
        return NGX_OK;
    }

    json_array_foreach(json_object_get(retention, "deleted_artifact"), i,
                       artifact)
    {
        name = ngx_oci_event_text(artifact, "name_tag");

        if (name == NULL) {
            continue;
        }

        len = (int) strcspn(name, ":@");

        if (name[len] == '\0'
            || snprintf(repository, sizeof(repository), "%s/%.*s", project,
                        len, name)
               >= (int) sizeof(repository))
        {
            continue;
        }

        reference = json_string(name + len + 1);
        rc = ngx_oci_event_name(ctx, repository, reference);
        json_decref(reference);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


/* NULL: it is none, or has a NUL in it */

static const char *
ngx_oci_event_text(json_t *object, const char *key)
{
    json_t  *value;

    value = json_object_get(object, key);

    if (!json_is_string(value)
        || strlen(json_string_value(value)) != json_string_length(value))
    {
        return NULL;
    }

    return json_string_value(value);
}
