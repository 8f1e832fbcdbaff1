
/*
 * Copyright (C) The nginx-oci authors
 *
 * Kraken's notifications as Harbor's driver sends them: GET health, and POST
 * registry/notifications, which is also the envelope of distribution's
 * registry.  No credential comes along: the registry's own one is needed.
 */


#include "ngx_oci_hooks.h"


#define NGX_OCI_KRAKEN_EVENTS  64


static json_t *ngx_oci_kraken_get(json_t *object, const char *name);
static ngx_int_t ngx_oci_kraken_event(ngx_http_request_t *r,
    ngx_oci_hook_conf_t *conf, json_t *event, ngx_int_t *answered);
static ngx_int_t ngx_oci_kraken_names(ngx_oci_hook_conf_t *conf,
    json_t *target, ngx_pool_t *pool, ngx_str_t *repository,
    ngx_str_t *reference);


ngx_int_t
ngx_oci_kraken(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    ngx_str_t *path, ngx_str_t *text)
{
    json_t        *root, *events;
    size_t         i, n;
    ngx_int_t      rc, answered;
    json_error_t   err;

    if (ngx_oci_path_is(path, "health")) {
        return (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))
               ? ngx_oci_hook_send(r, NGX_HTTP_OK, "\"OK\"")
               : ngx_oci_hook_message(r, NGX_HTTP_NOT_ALLOWED,
                                      "no such method");
    }

    if (!ngx_oci_path_is(path, "registry/notifications")) {
        return NGX_DECLINED;
    }

    if (!(r->method & NGX_HTTP_POST)) {
        return ngx_oci_hook_message(r, NGX_HTTP_NOT_ALLOWED,
                                    "no such method");
    }

    root = json_loadb((char *) text->data, text->len, 0, &err);
    events = ngx_oci_kraken_get(root, "events");

    if (!json_is_array(events)
        || json_array_size(events) > NGX_OCI_KRAKEN_EVENTS)
    {
        json_decref(root);
        return ngx_oci_hook_message(r, 422,
                                    "the body is no array of events");
    }

    rc = NGX_OK;
    answered = NGX_DECLINED;
    n = json_array_size(events);

    /* all of them may be, or none is */

    for (i = 0; i < n && rc == NGX_OK && answered == NGX_DECLINED; i++) {
        rc = ngx_oci_kraken_event(r, conf, json_array_get(events, i),
                                  &answered);
    }

    for (i = 0; i < n && rc == NGX_OK && answered == NGX_DECLINED; i++) {
        rc = ngx_oci_kraken_event(r, conf, json_array_get(events, i), NULL);
    }

    json_decref(root);

    if (answered != NGX_DECLINED) {
        return answered;
    }

    if (rc == NGX_BUSY) {
        return ngx_oci_hook_message(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "too many jobs");
    }

    if (rc == NGX_DECLINED) {
        return ngx_oci_hook_message(r, 422,
                                    "it is no manifest of this registry");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_oci_job_run_soon();

    return ngx_oci_hook_send(r, NGX_HTTP_OK, "{}");
}


/* Harbor's names are those of Go's structures: "Events", "Url" */

static json_t *
ngx_oci_kraken_get(json_t *object, const char *name)
{
    json_t      *value;
    const char  *key;

    json_object_foreach(object, key, value) {
        if (ngx_strcasecmp((u_char *) key, (u_char *) name) == 0) {
            return value;
        }
    }

    return NULL;
}


/* what is no push is nothing to be done; answered: it is only asked whether
   that may be, as ngx_oci_core.may() says */

static ngx_int_t
ngx_oci_kraken_event(ngx_http_request_t *r, ngx_oci_hook_conf_t *conf,
    json_t *event, ngx_int_t *answered)
{
    json_t             *action, *target, *type;
    uint64_t            id;
    ngx_int_t           rc;
    const char         *media;
    ngx_oci_job_ask_t   ask;

    action = ngx_oci_kraken_get(event, "action");
    target = ngx_oci_kraken_get(event, "target");
    type = ngx_oci_kraken_get(target, "mediatype");

    if (!json_is_string(action) || !json_is_object(target)) {
        return NGX_DECLINED;
    }

    media = json_is_string(type) ? json_string_value(type) : "";

    if (strcmp(json_string_value(action), "push") != 0
        || (strstr(media, "manifest") == NULL
            && strstr(media, "index") == NULL))
    {
        return NGX_OK;
    }

    ngx_memzero(&ask, sizeof(ngx_oci_job_ask_t));

    rc = ngx_oci_kraken_names(conf, target, r->pool, &ask.repository,
                              &ask.reference);
    if (rc != NGX_OK) {
        return rc;
    }

    if (answered) {
        *answered = ngx_oci_core.may(r, &ask.repository, 0);
        return NGX_OK;
    }

    return ngx_oci_job_add(conf, &ask, &id);
}


/* by the URL, where there is one; that of a tag keeps the tag warm, too */

static ngx_int_t
ngx_oci_kraken_names(ngx_oci_hook_conf_t *conf, json_t *target,
    ngx_pool_t *pool, ngx_str_t *repository, ngx_str_t *reference)
{
    u_char     *p;
    json_t     *url, *name, *tag, *digest;
    ngx_str_t   s;

    url = ngx_oci_kraken_get(target, "url");
    name = ngx_oci_kraken_get(target, "repository");
    tag = ngx_oci_kraken_get(target, "tag");
    digest = ngx_oci_kraken_get(target, "digest");

    if (json_is_string(url) && json_string_length(url)) {
        s.data = (u_char *) json_string_value(url);
        s.len = json_string_length(url);

        return ngx_oci_preheat_find(conf, &s, pool, repository, reference);
    }

    if (!json_is_string(tag) || json_string_length(tag) == 0) {
        tag = digest;
    }

    if (!json_is_string(name) || !json_is_string(tag)) {
        return NGX_DECLINED;
    }

    s.len = sizeof("/v2//manifests/") - 1 + json_string_length(name)
            + json_string_length(tag);
    p = ngx_pnalloc(pool, s.len + 1);

    if (p == NULL) {
        return NGX_ERROR;
    }

    s.data = p;
    (void) ngx_sprintf(p, "/v2/%s/manifests/%s%Z", json_string_value(name),
                       json_string_value(tag));

    return ngx_oci_preheat_find(conf, &s, pool, repository, reference);
}
