
/*
 * Copyright (C) The nginx-oci authors
 *
 * Dragonfly's API as Harbor's drivers speak it:
 *
 *   GET  healthy               POST oapi/v1/jobs    GET oapi/v1/jobs/<id>
 *   GET  _ping                 POST preheats        GET preheats/<id>
 *
 * The first three are the open API (Harbor 2.12 and later), the others the
 * one before.
 */


#include "ngx_oci_hooks.h"
#include "ngx_oci_platform.h"


#define NGX_OCI_DRAGONFLY_TIME  sizeof("1970-01-01T00:00:00Z")


static ngx_int_t ngx_oci_dragonfly_create(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, ngx_str_t *text, ngx_uint_t old);
static const char *ngx_oci_dragonfly_add(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, json_t *args, uint64_t *id,
    ngx_uint_t *status, ngx_int_t *rc);
static const char *ngx_oci_dragonfly_where(json_t *args,
    ngx_oci_job_ask_t *ask);
static ngx_int_t ngx_oci_dragonfly_token(ngx_oci_hook_conf_t *conf,
    json_t *headers, ngx_str_t *token);
static ngx_int_t ngx_oci_dragonfly_poll(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, ngx_str_t *number, ngx_uint_t old);
static json_t *ngx_oci_dragonfly_job(ngx_oci_hook_conf_t *conf,
    ngx_oci_job_info_t *info);
static json_t *ngx_oci_dragonfly_result(ngx_oci_hook_conf_t *conf,
    ngx_oci_job_info_t *info);
static json_t *ngx_oci_dragonfly_preheat(ngx_oci_job_info_t *info);
static char *ngx_oci_dragonfly_time(time_t sec, char *buf);


ngx_int_t
ngx_oci_dragonfly(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *path, ngx_str_t *text)
{
    size_t      prefix;
    ngx_str_t   number;
    ngx_uint_t  post, read, old;

    post = (r->method & NGX_HTTP_POST);
    read = (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD));

    if (ngx_oci_path_is(path, "healthy") || ngx_oci_path_is(path, "_ping")) {
        return read ? ngx_oci_hook_send(r, NGX_HTTP_OK, "\"OK\"")
                    : ngx_oci_hook_message(r, NGX_HTTP_NOT_ALLOWED,
                                           "no such method");
    }

    old = ngx_oci_path_is(path, "preheats");

    if (old || ngx_oci_path_is(path, "oapi/v1/jobs")) {
        return post ? ngx_oci_dragonfly_create(r, conf, text, old)
                    : ngx_oci_hook_message(r, NGX_HTTP_NOT_ALLOWED,
                                           "no such method");
    }

    old = ngx_oci_path_begins(path, "preheats/");

    if (!old && !ngx_oci_path_begins(path, "oapi/v1/jobs/")) {
        return NGX_DECLINED;
    }

    if (!read) {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_ALLOWED,
                                    "no such method");
    }

    prefix = old ? sizeof("preheats/") - 1 : sizeof("oapi/v1/jobs/") - 1;
    number.data = path->data + prefix;
    number.len = path->len - prefix;

    return ngx_oci_dragonfly_poll(r, conf, &number, old);
}


static ngx_int_t
ngx_oci_dragonfly_create(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *text, ngx_uint_t old)
{
    char           number[NGX_INT64_LEN + 1];
    json_t        *root, *args, *type;
    uint64_t       id;
    ngx_int_t      rc;
    ngx_str_t      job;
    ngx_uint_t     status;
    const char    *error;
    json_error_t   err;

    root = json_loadb((char *) text->data, text->len, 0, &err);
    args = old ? root : json_object_get(root, "args");
    type = json_object_get(root, "type");

    if (!json_is_object(args)) {
        json_decref(root);
        return ngx_oci_hook_message(r, 422, "the body is no job");
    }

    if (!json_is_string(type)
        || strcmp(json_string_value(type), old ? "image" : "preheat") != 0)
    {
        json_decref(root);
        return ngx_oci_hook_message(r, 422, "no such type of jobs");
    }

    error = ngx_oci_dragonfly_add(r, conf, args, &id, &status, &rc);

    json_decref(root);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (error) {
        return ngx_oci_hook_message(r, status, error);
    }

    *ngx_sprintf((u_char *) number, "%uL", id) = '\0';

    if (old) {
        return ngx_oci_hook_json(r, NGX_HTTP_OK,
                                 json_pack("{s:s}", "ID", number));
    }

    job.data = (u_char *) number;
    job.len = ngx_strlen(number);

    return ngx_oci_dragonfly_poll(r, conf, &job, 0);
}


/* NULL, or why not, with the status; *answered is what a content handler
   returns if it was answered here, else NGX_DECLINED */

static const char *
ngx_oci_dragonfly_add(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    json_t *args, uint64_t *id, ngx_uint_t *status, ngx_int_t *answered)
{
    json_t             *value;
    ngx_int_t           rc;
    ngx_str_t           url;
    const char         *error;
    ngx_oci_job_ask_t   ask;

    ngx_memzero(&ask, sizeof(ngx_oci_job_ask_t));

    *answered = NGX_DECLINED;
    *status = 422;
    value = json_object_get(args, "url");

    if (!json_is_string(value)) {
        return "no \\\"url\\\"";
    }

    url.data = (u_char *) json_string_value(value);
    url.len = json_string_length(value);

    rc = ngx_oci_preheat_find(conf, &url, r->pool, &ask.repository,
                              &ask.reference);

    if (rc == NGX_DECLINED) {
        return "it is no manifest of this registry";
    }

    if (rc == NGX_OK
        && ngx_oci_dragonfly_token(conf, json_object_get(args, "headers"),
                                   &ask.authorization)
           != NGX_OK)
    {
        return "\\\"headers\\\" make no sense";
    }

    error = ngx_oci_dragonfly_where(args, &ask);
    if (error) {
        return error;
    }

    *status = NGX_HTTP_SERVICE_UNAVAILABLE;

    if (rc != NGX_OK) {
        return "no memory";
    }

    *answered = ngx_oci_core.may(r, &ask.repository, 0);

    if (*answered != NGX_DECLINED) {
        return NULL;
    }

    if (ngx_oci_job_add(conf, &ask, id) != NGX_OK) {
        return "too many jobs";
    }

    ngx_oci_job_run_soon();

    return NULL;
}


/* Harbor's "scope", and "platform", which Harbor has not, Dragonfly has.
   NULL, or what is wrong */

static const char *
ngx_oci_dragonfly_where(json_t *args, ngx_oci_job_ask_t *ask)
{
    json_t      *value;
    const char  *scope;

    value = json_object_get(args, "scope");
    scope = json_is_string(value) ? json_string_value(value) : "";

    if (strcmp(scope, "single_seed_peer") == 0) {
        ask->alone = 1;

    } else if (scope[0] != '\0' && strcmp(scope, "all_seed_peers") != 0
               && strcmp(scope, "all_peers") != 0)
    {
        return "no such \\\"scope\\\"";
    }

    value = json_object_get(args, "platform");

    if (!json_is_string(value) || json_string_length(value) == 0) {
        return NULL;
    }

    ask->platforms.data = (u_char *) json_string_value(value);
    ask->platforms.len = json_string_length(value);

    if (strcmp(json_string_value(value), "all") != 0
        && ngx_oci_platforms_valid(json_string_value(value),
                                   json_string_length(value))
           != NGX_OK)
    {
        return "\\\"platform\\\" is none";
    }

    return NULL;
}


/* the registry's token, as a header */

static ngx_int_t
ngx_oci_dragonfly_token(ngx_oci_hook_conf_t *conf, json_t *headers,
    ngx_str_t *token)
{
    size_t                      max;
    u_char                     *p, *last;
    json_t                     *value;
    const char                 *name;
    ngx_http_core_srv_conf_t   *cscf;

    ngx_str_null(token);

    /* a header that is longer than that stands in the error log, half of it */

    cscf = conf->server;
    max = cscf->large_client_header_buffers.size;
    max -= ngx_min(max, sizeof("Authorization: " CRLF));
    max = ngx_min(max, NGX_OCI_JOB_TOKEN_MAX);

    if (headers == NULL || json_is_null(headers)) {
        return NGX_OK;
    }

    if (!json_is_object(headers)) {
        return NGX_ERROR;
    }

    json_object_foreach(headers, name, value) {

        if (ngx_strcasecmp((u_char *) name, (u_char *) "Authorization")
            != 0)
        {
            continue;
        }

        if (!json_is_string(value) || token->len
            || json_string_length(value) > max)
        {
            return NGX_ERROR;
        }

        token->data = (u_char *) json_string_value(value);
        token->len = json_string_length(value);
    }

    last = token->data + token->len;

    for (p = token->data; p < last; p++) {
        if (*p < 0x20 || *p >= 0x7f) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_dragonfly_poll(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *number, ngx_uint_t old)
{
    off_t                id;
    ngx_int_t            rc;
    ngx_oci_job_info_t   info;

    id = ngx_atoof(number->data, number->len);

    if (id == NGX_ERROR) {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_FOUND, "no such job");
    }

    rc = ngx_oci_job_api_get(r, conf, id, &info);

    if (rc == NGX_DECLINED) {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_FOUND, "no such job");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_oci_hook_json(r, NGX_HTTP_OK,
                             old ? ngx_oci_dragonfly_preheat(&info)
                                 : ngx_oci_dragonfly_job(conf, &info));
}


/* "state" is one of three: Harbor takes any other one for a failure */

static json_t *
ngx_oci_dragonfly_job(ngx_oci_hook_conf_t *conf, ngx_oci_job_info_t *info)
{
    char         created[NGX_OCI_DRAGONFLY_TIME];
    char         updated[NGX_OCI_DRAGONFLY_TIME];
    const char  *state;

    state = (info->state == NGX_OCI_JOB_SUCCESS) ? "SUCCESS"
            : (info->state == NGX_OCI_JOB_FAILURE) ? "FAILURE" : "PENDING";

    return json_pack("{s:I,s:s,s:s,s:s,s:s,s:o}",
                     "id", (json_int_t) info->id,
                     "created_at",
                     ngx_oci_dragonfly_time(info->created, created),
                     "updated_at",
                     ngx_oci_dragonfly_time(info->updated, updated),
                     "type", "preheat",
                     "state", state,
                     "result", ngx_oci_dragonfly_result(conf, info));
}


static json_t *
ngx_oci_dragonfly_result(ngx_oci_hook_conf_t *conf,
    ngx_oci_job_info_t *info)
{
    json_t       *task, *tasks, *none;
    const char   *host;
    ngx_uint_t    failed;

    if (info->state <= NGX_OCI_JOB_RUNNING) {
        return json_object();
    }

    failed = (info->state == NGX_OCI_JOB_FAILURE);
    host = (const char *) ngx_cycle->hostname.data;

    task = json_object();

    (void) json_object_set_new(task, "url",
               json_sprintf("/v2/%.*s/manifests/%.*s",
                            (int) info->repository.len, info->repository.data,
                            (int) info->reference.len,
                            info->reference.data));
    (void) json_object_set_new(task, "hostname",
               json_stringn(host, ngx_cycle->hostname.len));
    (void) json_object_set_new(task, "ip", json_string(""));

    if (failed) {
        (void) json_object_set_new(task, "description",
                                   json_string((char *) info->error.data));
    }

    tasks = json_array();
    none = json_array();

    (void) json_array_append_new(tasks, task);

    return json_pack("{s:[{s:s,s:[{s:o,s:o,s:i}]}]}",
                     "job_states",
                     "error", failed ? (char *) info->error.data : "",
                     "results",
                     "success_tasks", failed ? none : tasks,
                     "failure_tasks", failed ? tasks : none,
                     "scheduler_cluster_id", 1);
}


static json_t *
ngx_oci_dragonfly_preheat(ngx_oci_job_info_t *info)
{
    char         id[NGX_INT64_LEN + 1];
    char         begun[NGX_OCI_DRAGONFLY_TIME], ended[NGX_OCI_DRAGONFLY_TIME];
    const char  *status;

    *ngx_sprintf((u_char *) id, "%uL", info->id) = '\0';

    status = (info->state == NGX_OCI_JOB_SUCCESS) ? "SUCCESS"
             : (info->state == NGX_OCI_JOB_FAILURE) ? "FAILED"
             : (info->state == NGX_OCI_JOB_RUNNING) ? "RUNNING" : "WAITING";

    if (info->state <= NGX_OCI_JOB_RUNNING) {
        ended[0] = '\0';

    } else {
        (void) ngx_oci_dragonfly_time(info->updated, ended);
    }

    return json_pack("{s:s,s:s,s:s,s:s,s:s}",
                     "ID", id,
                     "startTime",
                     ngx_oci_dragonfly_time(info->created, begun),
                     "finishTime", ended,
                     "errorMsg", (char *) info->error.data,
                     "Status", status);
}


/* RFC 3339 */

static char *
ngx_oci_dragonfly_time(time_t sec, char *buf)
{
    ngx_tm_t  tm;

    ngx_gmtime(sec, &tm);

    *ngx_sprintf((u_char *) buf, "%4d-%02d-%02dT%02d:%02d:%02dZ",
                 tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                 tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec) = '\0';

    return buf;
}
