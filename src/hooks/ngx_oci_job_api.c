
/*
 * Copyright (C) The nginx-oci authors
 *
 * Jobs for people and scripts:
 *
 *   POST   jobs  {"ref": "project/repository:tag", "platforms": [...],
 *                 "peers": false, "pin": "7d"}        202
 *   GET    jobs[?n=<number>][&before=<id>]             the last ones
 *   GET    jobs/<id>[?watch=1]
 *   DELETE jobs/<id>                                   ends it
 */


#include "ngx_oci_hooks.h"
#include "ngx_oci_platform.h"


#define NGX_OCI_JOB_LIST  64            /* of one answer */
#define NGX_OCI_JOB_PIN   (366 * 86400) /* s */


static ngx_int_t ngx_oci_job_api_create(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, ngx_str_t *text);
static const char *ngx_oci_job_api_ref(json_t *root,
    ngx_oci_hook_conf_t *conf, ngx_str_t *repository, ngx_str_t *reference);
static const char *ngx_oci_job_api_pin(json_t *root, time_t *until);
static const char *ngx_oci_job_api_where(json_t *root, ngx_pool_t *pool,
    ngx_oci_job_ask_t *ask);
static ngx_int_t ngx_oci_job_api_platforms(json_t *array, ngx_pool_t *pool,
    ngx_str_t *platforms);
static ngx_int_t ngx_oci_job_api_list(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf);
static ngx_int_t ngx_oci_job_api_page(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, uint64_t *before, ngx_uint_t max,
    json_t *jobs);
static ngx_int_t ngx_oci_job_api_turn(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, ngx_oci_job_info_t *info, ngx_uint_t n,
    uint64_t *last, ngx_uint_t max, json_t *jobs);
static ngx_int_t ngx_oci_job_api_one(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, ngx_str_t *number);
static ngx_int_t ngx_oci_job_api_show(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, uint64_t id, ngx_uint_t status);
static json_t *ngx_oci_job_api_array(ngx_str_t *list);


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
    json_t             *root;
    time_t              pin;
    uint64_t            id;
    ngx_int_t           rc;
    const char         *error;
    json_error_t        err;
    ngx_oci_job_ask_t   ask;

    ngx_memzero(&ask, sizeof(ngx_oci_job_ask_t));

    root = json_loadb((char *) text->data, text->len, JSON_REJECT_DUPLICATES,
                      &err);
    error = ngx_oci_job_api_ref(root, conf, &ask.repository, &ask.reference);

    if (error == NULL) {
        error = ngx_oci_job_api_where(root, r->pool, &ask);
    }

    if (error == NULL) {
        error = ngx_oci_job_api_pin(root, &pin);
    }

    if (error) {
        json_decref(root);
        return ngx_oci_hook_message(r, 422, error);
    }

    rc = ngx_oci_core.may(r, &ask.repository, 0);

    if (rc != NGX_DECLINED) {
        json_decref(root);
        return rc;
    }

    rc = ngx_oci_job_add(conf, &ask, &id);

    json_decref(root);

    if (rc != NGX_OK) {
        return ngx_oci_hook_message(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "too many jobs");
    }

    if (pin) {
        ngx_oci_job_pin(conf, id, pin);
    }

    ngx_oci_job_run_soon();

    return ngx_oci_job_api_show(r, conf, id, NGX_HTTP_ACCEPTED);
}


/* NULL, or what is wrong; 0: there is none */

static const char *
ngx_oci_job_api_pin(json_t *root, time_t *until)
{
    time_t      time;
    json_t     *value;
    ngx_str_t   text;

    *until = 0;
    value = json_object_get(root, "pin");

    if (value == NULL) {
        return NULL;
    }

    text.data = (u_char *) json_string_value(value);
    text.len = json_string_length(value);

    time = text.len ? ngx_parse_time(&text, 1) : (time_t) NGX_ERROR;

    if (time == (time_t) NGX_ERROR || time == 0 || time > NGX_OCI_JOB_PIN) {
        return "\\\"pin\\\" is to be a time of a year at most";
    }

    *until = ngx_time() + time;

    return NULL;
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
        return "the body is no JSON object";
    }

    json_object_foreach(root, key, member) {
        if (strcmp(key, "ref") != 0 && strcmp(key, "registry") != 0
            && strcmp(key, "platforms") != 0 && strcmp(key, "peers") != 0
            && strcmp(key, "pin") != 0)
        {
            return "the body has other members than \\\"ref\\\", "
                   "\\\"registry\\\", \\\"platforms\\\", \\\"peers\\\" and "
                   "\\\"pin\\\"";
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
        return "\\\"ref\\\" has neither a tag nor a digest";
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
        return "\\\"ref\\\" is neither name:tag nor name@digest, without a "
               "host";
    }

    return NULL;
}


/* for which platforms, and on which edges; NULL, or what is wrong */

static const char *
ngx_oci_job_api_where(json_t *root, ngx_pool_t *pool, ngx_oci_job_ask_t *ask)
{
    json_t  *value;

    value = json_object_get(root, "peers");

    if (value && !json_is_boolean(value)) {
        return "\\\"peers\\\" is neither true nor false";
    }

    ask->alone = json_is_false(value);

    value = json_object_get(root, "platforms");

    if (value
        && ngx_oci_job_api_platforms(value, pool, &ask->platforms) != NGX_OK)
    {
        return "\\\"platforms\\\" is no array of platforms";
    }

    return NULL;
}


/* as a list */

static ngx_int_t
ngx_oci_job_api_platforms(json_t *array, ngx_pool_t *pool,
    ngx_str_t *platforms)
{
    u_char  *p;
    size_t   i, len;
    json_t  *value;

    len = 0;

    json_array_foreach(array, i, value) {

        if (!json_is_string(value)) {
            return NGX_ERROR;
        }

        len += json_string_length(value) + 1;
    }

    if (len == 0 || len > NGX_OCI_PLATFORMS) {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    platforms->data = p;

    json_array_foreach(array, i, value) {

        p = ngx_cpymem(p, json_string_value(value),
                       json_string_length(value));
        *p++ = ',';
    }

    platforms->len = len - 1;

    if (platforms->len == 3
        && ngx_strncmp(platforms->data, "all", 3) == 0)
    {
        return NGX_OK;
    }

    return ngx_oci_platforms_valid((char *) platforms->data, platforms->len);
}


/* a list as an array */

static json_t *
ngx_oci_job_api_array(ngx_str_t *list)
{
    u_char  *p, *end, *last;
    json_t  *array;

    array = json_array();
    last = list->data + list->len;

    for (p = list->data; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, ',');

        if (end == NULL) {
            end = last;
        }

        if (json_array_append_new(array, json_stringn((char *) p, end - p))
            != 0)
        {
            json_decref(array);
            return NULL;
        }
    }

    return array;
}


/* a page: the others are to be asked for with "next" as "before" */

static ngx_int_t
ngx_oci_job_api_list(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf)
{
    off_t       from;
    json_t     *jobs, *all;
    uint64_t    before;
    ngx_int_t   rc, max;
    ngx_str_t   value;

    from = NGX_MAX_OFF_T_VALUE;
    max = NGX_OCI_JOB_LIST;

    if (ngx_http_arg(r, (u_char *) "before", 6, &value) == NGX_OK) {
        from = ngx_atoof(value.data, value.len);
    }

    if (ngx_http_arg(r, (u_char *) "n", 1, &value) == NGX_OK) {
        max = ngx_atoi(value.data, value.len);
    }

    if (from == NGX_ERROR || max < 1) {
        return ngx_oci_hook_message(r, NGX_HTTP_BAD_REQUEST,
                                    "no such page");
    }

    before = from;
    jobs = json_array();

    rc = ngx_oci_job_api_page(r, conf, &before,
                              ngx_min(max, NGX_OCI_JOB_LIST), jobs);

    if (rc == NGX_ERROR) {
        json_decref(jobs);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    all = json_pack("{s:o}", "jobs", jobs);

    if (rc == NGX_AGAIN
        && json_object_set_new(all, "next", json_integer(before)) != 0)
    {
        json_decref(all);
        all = NULL;
    }

    return ngx_oci_hook_json(r, NGX_HTTP_OK, all);
}


/*
 * Those that the caller may have only: of the others neither numbers nor how
 * many there are is told.  NGX_OK; NGX_AGAIN: there are more, before the last
 * one of these; NGX_ERROR: no memory.
 */

static ngx_int_t
ngx_oci_job_api_page(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    uint64_t *before, ngx_uint_t max, json_t *jobs)
{
    uint64_t             from;
    ngx_int_t            rc, list;
    ngx_uint_t           n;
    ngx_pool_t          *pool;
    ngx_oci_job_info_t  *info;

    info = ngx_palloc(r->pool, NGX_OCI_JOB_LIST * sizeof(ngx_oci_job_info_t));
    if (info == NULL) {
        return NGX_ERROR;
    }

    from = *before;

    do {
        /* not the request's: there may be many, of which few are shown */

        pool = ngx_create_pool(4096, r->connection->log);
        if (pool == NULL) {
            return NGX_ERROR;
        }

        n = NGX_OCI_JOB_LIST;
        list = ngx_oci_job_list(conf, from, pool, info, &n);

        rc = (list == NGX_ERROR)
             ? NGX_ERROR : ngx_oci_job_api_turn(r, conf, info, n, before, max,
                                                jobs);
        if (n) {
            from = info[n - 1].id;
        }

        ngx_destroy_pool(pool);

    } while (rc == NGX_OK && list == NGX_AGAIN);

    return rc;
}


/* n of them; *last: of what is shown.  NGX_OK; NGX_AGAIN: there is no room for
   one of them; NGX_ERROR: no memory */

static ngx_int_t
ngx_oci_job_api_turn(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_oci_job_info_t *info, ngx_uint_t n, uint64_t *last, ngx_uint_t max,
    json_t *jobs)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {

        if (ngx_oci_core.may(r, &info[i].repository, NGX_OCI_MAY_QUIET)
            != NGX_DECLINED)
        {
            continue;
        }

        if (json_array_size(jobs) == max) {
            return NGX_AGAIN;
        }

        if (json_array_append_new(jobs, ngx_oci_job_api_json(conf, &info[i]))
            != 0)
        {
            return NGX_ERROR;
        }

        *last = info[i].id;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_job_api_one(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *number)
{
    off_t                id;
    ngx_int_t            rc;
    ngx_str_t            value;
    ngx_oci_job_info_t   info;

    id = ngx_atoof(number->data, number->len);

    if (id == NGX_ERROR) {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_FOUND, "no such job");
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_DELETE))) {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_ALLOWED,
                                    "no such method");
    }

    rc = ngx_oci_job_api_get(r, conf, id, &info);

    if (rc == NGX_DECLINED) {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_FOUND, "no such job");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r->method == NGX_HTTP_DELETE) {
        ngx_oci_job_cancel(conf, id);

    } else if (ngx_http_arg(r, (u_char *) "watch", 5, &value) == NGX_OK
               && value.len == 1 && value.data[0] == '1')
    {
        return ngx_oci_job_watch(r, conf, id);
    }

    return ngx_oci_job_api_show(r, conf, id, NGX_HTTP_OK);
}


ngx_int_t
ngx_oci_job_api_get(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    uint64_t id, ngx_oci_job_info_t *info)
{
    ngx_int_t  rc;

    rc = ngx_oci_job_get(conf, id, r->pool, info);

    if (rc != NGX_OK) {
        return rc;
    }

    /* ids follow one another: who guesses one is not told that it is there */

    return (ngx_oci_core.may(r, &info->repository, NGX_OCI_MAY_HIDE)
            == NGX_DECLINED)
           ? NGX_OK : NGX_DECLINED;
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


json_t *
ngx_oci_job_api_json(ngx_oci_hook_conf_t *conf, ngx_oci_job_info_t *info)
{
    static const char  *states[] = {
        "pending", "running", "success", "failure"
    };

    return json_pack("{s:I,s:s%,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,"
                     "s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:s}",
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
                     "rate", (json_int_t) info->rate,
                     "slices", (json_int_t) info->slices,
                     "slices_done", (json_int_t) info->slices_done,
                     "pin", (json_int_t) info->pin,
                     "errors", (json_int_t) info->errors,
                     "peers", (json_int_t) info->peers,
                     "peers_done", (json_int_t) info->peers_done,
                     "platforms", ngx_oci_job_api_array(&info->platforms),
                     "left_out", ngx_oci_job_api_array(&info->left_out),
                     "error", (char *) info->error.data);
}
