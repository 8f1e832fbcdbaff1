
/*
 * Copyright (C) The nginx-oci authors
 *
 * Jobs for people and scripts:
 *
 *   POST   jobs  {"ref": "project/repository:tag"}     202
 *   GET    jobs                                        all that are known
 *   GET    jobs/<id>
 *   DELETE jobs/<id>                                   ends it
 */


#include "ngx_oci_hooks.h"


#define NGX_OCI_JOB_LIST  1024


static ngx_int_t ngx_oci_job_api_create(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, ngx_str_t *text);
static const char *ngx_oci_job_api_ref(json_t *root,
    ngx_oci_hook_conf_t *conf, ngx_str_t *repository, ngx_str_t *reference);
static ngx_int_t ngx_oci_job_api_list(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf);
static ngx_int_t ngx_oci_job_api_one(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, ngx_str_t *number);
static ngx_int_t ngx_oci_job_api_show(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, uint64_t id, ngx_uint_t status);
static json_t *ngx_oci_job_api_json(ngx_oci_hook_conf_t *conf,
    ngx_oci_job_info_t *info);


ngx_int_t
ngx_oci_job_api(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *path, ngx_str_t *text)
{
    ngx_str_t  number;

    if (ngx_oci_path_is(path, "jobs")) {

        if (r->method & NGX_HTTP_POST) {
            return ngx_oci_job_api_create(r, conf, text);
        }

        if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
            return ngx_oci_job_api_list(r, conf);
        }

        return ngx_oci_hook_message(r, NGX_HTTP_NOT_ALLOWED,
                                    "no such method");
    }

    if (!ngx_oci_path_begins(path, "jobs/")) {
        return NGX_DECLINED;
    }

    number.data = path->data + sizeof("jobs/") - 1;
    number.len = path->len - (sizeof("jobs/") - 1);

    return ngx_oci_job_api_one(r, conf, &number);
}


static ngx_int_t
ngx_oci_job_api_create(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *text)
{
    json_t        *root;
    uint64_t       id;
    ngx_int_t      rc;
    ngx_str_t      repository, reference, none;
    const char    *error;
    json_error_t   err;

    root = json_loadb((char *) text->data, text->len, JSON_REJECT_DUPLICATES,
                      &err);
    error = ngx_oci_job_api_ref(root, conf, &repository, &reference);

    if (error) {
        json_decref(root);
        return ngx_oci_hook_message(r, 422, error);
    }

    ngx_str_null(&none);

    rc = ngx_oci_job_add(conf, &repository, &reference, &none, &id);

    json_decref(root);

    if (rc != NGX_OK) {
        return ngx_oci_hook_message(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "too many jobs");
    }

    ngx_oci_job_run_soon();

    return ngx_oci_job_api_show(r, conf, id, NGX_HTTP_ACCEPTED);
}


/* NULL, or what is wrong; names are the edge's own, and root's */

static const char *
ngx_oci_job_api_ref(json_t *root, ngx_oci_hook_conf_t *conf,
    ngx_str_t *repository, ngx_str_t *reference)
{
    size_t             len;
    json_t            *value, *member;
    const char        *p, *at, *key;
    ngx_oci_digest_t   digest;

    if (!json_is_object(root)) {
        return "the body is no object";
    }

    json_object_foreach(root, key, member) {
        if (strcmp(key, "ref") != 0 && strcmp(key, "registry") != 0) {
            return "the body has members that are not known";
        }
    }

    value = json_object_get(root, "registry");

    if (value
        && (!json_is_string(value)
            || json_string_length(value) != conf->registry->name.len
            || ngx_memcmp(json_string_value(value),
                          conf->registry->name.data,
                          conf->registry->name.len)
               != 0))
    {
        return "it is not this location's registry";
    }

    value = json_object_get(root, "ref");

    if (!json_is_string(value)) {
        return "no \\\"ref\\\"";
    }

    p = json_string_value(value);
    len = json_string_length(value);

    at = memchr(p, '@', len);

    if (at == NULL) {
        at = memrchr(p, ':', len);
    }

    if (at == NULL) {
        return "the ref has neither a tag nor a digest";
    }

    repository->data = (u_char *) p;
    repository->len = at - p;
    reference->data = (u_char *) at + 1;
    reference->len = p + len - at - 1;

    if (ngx_oci_name_valid(repository->data, repository->len) != NGX_OK
        || (*at == ':'
            && ngx_oci_tag_valid(reference->data, reference->len) != NGX_OK)
        || (*at == '@'
            && ngx_oci_digest_parse(&digest, reference->data,
                                    reference->len)
               != NGX_OK))
    {
        return "the ref is none";
    }

    return NULL;
}


static ngx_int_t
ngx_oci_job_api_list(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf)
{
    json_t              *jobs;
    uint64_t            *ids;
    ngx_int_t            rc;
    ngx_uint_t           i, n;
    ngx_oci_job_info_t   info;

    ids = ngx_palloc(r->pool, NGX_OCI_JOB_LIST * sizeof(uint64_t));
    jobs = json_array();

    if (ids == NULL || jobs == NULL) {
        json_decref(jobs);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    n = ngx_oci_job_ids(conf, ids, NGX_OCI_JOB_LIST);

    for (i = 0; i < n; i++) {

        rc = ngx_oci_job_get(conf, ids[i], r->pool, &info);

        if (rc == NGX_DECLINED) {
            continue;
        }

        if (rc != NGX_OK
            || json_array_append_new(jobs,
                                     ngx_oci_job_api_json(conf, &info))
               != 0)
        {
            json_decref(jobs);
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_oci_hook_json(r, NGX_HTTP_OK,
                                  json_pack("{s:o}", "jobs", jobs));
}


static ngx_int_t
ngx_oci_job_api_one(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *number)
{
    off_t  id;

    id = ngx_atoof(number->data, number->len);

    if (id == NGX_ERROR) {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_FOUND, "no such job");
    }

    if (r->method == NGX_HTTP_DELETE) {
        ngx_oci_job_cancel(conf, id);

    } else if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_ALLOWED,
                                    "no such method");
    }

    return ngx_oci_job_api_show(r, conf, id, NGX_HTTP_OK);
}


static ngx_int_t
ngx_oci_job_api_show(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    uint64_t id, ngx_uint_t status)
{
    ngx_int_t            rc;
    ngx_oci_job_info_t   info;

    rc = ngx_oci_job_get(conf, id, r->pool, &info);

    if (rc == NGX_DECLINED) {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_FOUND, "no such job");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_oci_hook_json(r, status,
                                  ngx_oci_job_api_json(conf, &info));
}


static json_t *
ngx_oci_job_api_json(ngx_oci_hook_conf_t *conf, ngx_oci_job_info_t *info)
{
    static const char  *states[] = {
        "pending", "running", "success", "failure"
    };

    return json_pack("{s:I,s:s%,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:s}",
                     "id", (json_int_t) info->id,
                     "registry", (char *) conf->registry->name.data,
                     conf->registry->name.len,
                     "repository", (char *) info->repository.data,
                     "reference", (char *) info->reference.data,
                     "state", states[info->state],
                     "created", (json_int_t) info->created,
                     "updated", (json_int_t) info->updated,
                     "pieces", (json_int_t) info->pieces,
                     "pieces_done", (json_int_t) info->pieces_done,
                     "bytes", (json_int_t) info->bytes,
                     "bytes_done", (json_int_t) info->bytes_done,
                     "error", (char *) info->error.data);
}
