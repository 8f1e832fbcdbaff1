
/*
 * Copyright (C) The nginx-oci authors
 *
 * What is told of an event: as Harbor's webhooks tell it (Default and
 * CloudEvents), and as distribution's registry does.  What neither has a word
 * for gets one in the same form.  Pure: needs libc and jansson.
 */


#include "ngx_oci_notify_record.h"

#include <jansson.h>


#define NGX_OCI_NOTE_TEXT  512          /* bytes of a string from outside */


typedef struct {
    const char  *name;                  /* in the configuration */
    const char  *harbor;
    const char  *cloud;
} ngx_oci_note_word_t;


static json_t *ngx_oci_note_harbor(ngx_oci_note_t *note);
static json_t *ngx_oci_note_cloud(ngx_oci_note_t *note);
static json_t *ngx_oci_note_distribution(ngx_oci_note_t *note);
static json_t *ngx_oci_note_data(ngx_oci_note_t *note);
static int ngx_oci_note_resources(json_t *data, ngx_oci_note_t *note);
static int ngx_oci_note_repository(json_t *data, ngx_oci_note_t *note);
static int ngx_oci_note_target(json_t *target, ngx_oci_note_t *note);
static int ngx_oci_note_set(json_t *object, const char *key,
    ngx_str_t *value);
static json_t *ngx_oci_note_string(const u_char *p, size_t len);
static int ngx_oci_note_format_set(json_t *object, const char *key,
    const char *fmt, ...);
static size_t ngx_oci_note_time(char *buf, size_t size, int64_t msec,
    ngx_uint_t fine);


static ngx_oci_note_word_t  ngx_oci_note_words[NGX_OCI_NOTE_N] = {
    { "pull", "PULL_ARTIFACT", "harbor.artifact.pulled" },
    { "push", "PUSH_ARTIFACT", "harbor.artifact.pushed" },
    { "verify_failure", "VERIFY_FAILURE", "nginx-oci.verify.failed" },
    { "quarantine", "QUARANTINE", "nginx-oci.quarantine.refused" },
    { "refusal", "REFUSAL", "nginx-oci.policy.refused" },
    { "preheat", "PREHEAT", "nginx-oci.preheat.finished" }
};


static const char  *ngx_oci_note_formats[NGX_OCI_NOTE_FORMATS][2] = {
    { "harbor", "application/json" },
    { "cloudevents", "application/cloudevents+json" },
    { "distribution",
      "application/vnd.docker.distribution.events.v1+json" },
    { "distribution_v2",
      "application/vnd.docker.distribution.events.v2+json" }
};


const char *
ngx_oci_note_name(ngx_uint_t event)
{
    return (event < NGX_OCI_NOTE_N) ? ngx_oci_note_words[event].name : NULL;
}


const char *
ngx_oci_note_format(ngx_uint_t format)
{
    return (format < NGX_OCI_NOTE_FORMATS) ? ngx_oci_note_formats[format][0]
                                           : NULL;
}


const char *
ngx_oci_note_type(ngx_uint_t format)
{
    return (format < NGX_OCI_NOTE_FORMATS) ? ngx_oci_note_formats[format][1]
                                           : NULL;
}


char *
ngx_oci_note_body(ngx_oci_note_t *note, ngx_uint_t format, size_t *len)
{
    char    *text;
    json_t  *body;

    switch (format) {

    case NGX_OCI_NOTE_HARBOR:
        body = ngx_oci_note_harbor(note);
        break;

    case NGX_OCI_NOTE_CLOUDEVENTS:
        body = ngx_oci_note_cloud(note);
        break;

    default:
        body = ngx_oci_note_distribution(note);
    }

    if (body == NULL) {
        return NULL;
    }

    text = json_dumps(body, JSON_COMPACT|JSON_ENSURE_ASCII);

    json_decref(body);

    if (text == NULL) {
        return NULL;
    }

    *len = strlen(text);

    if (*len > NGX_OCI_NOTE_BODY) {
        free(text);
        return NULL;
    }

    return text;
}


static json_t *
ngx_oci_note_harbor(ngx_oci_note_t *note)
{
    json_t  *body;

    body = json_object();

    /* "operator" is there, also of nobody */

    if (json_object_set_new(body, "type",
               json_string(ngx_oci_note_words[note->event].harbor))
        || json_object_set_new(body, "occur_at",
                               json_integer(note->msec / 1000))
        || json_object_set_new(body, "operator",
                               ngx_oci_note_string(note->subject.data,
                                                   note->subject.len))
        || json_object_set_new(body, "event_data", ngx_oci_note_data(note)))
    {
        json_decref(body);
        return NULL;
    }

    return body;
}


static json_t *
ngx_oci_note_cloud(ngx_oci_note_t *note)
{
    char     time[40];
    json_t  *body;

    (void) ngx_oci_note_time(time, sizeof(time), note->msec, 0);

    body = json_object();

    if (json_object_set_new(body, "specversion", json_string("1.0"))
        || json_object_set_new(body, "id",
                               json_stringn((char *) note->id,
                                            NGX_OCI_NOTE_ID))
        || ngx_oci_note_format_set(body, "source", "/nginx-oci/%.*s",
                                   (int) note->node.len, note->node.data)
        || json_object_set_new(body, "type",
               json_string(ngx_oci_note_words[note->event].cloud))
        || json_object_set_new(body, "time", json_string(time))
        || json_object_set_new(body, "datacontenttype",
                               json_string("application/json"))
        || ngx_oci_note_set(body, "requestid", &note->request)
        || ngx_oci_note_set(body, "operator", &note->subject)
        || json_object_set_new(body, "data", ngx_oci_note_data(note)))
    {
        json_decref(body);
        return NULL;
    }

    return body;
}


static json_t *
ngx_oci_note_distribution(ngx_oci_note_t *note)
{
    int      rc;
    char     time[40];
    json_t  *body, *events, *event, *target, *request, *actor, *source;

    (void) ngx_oci_note_time(time, sizeof(time), note->msec, 1);

    body = json_object();
    events = json_array();
    event = json_object();
    target = json_object();
    request = json_object();
    actor = json_object();
    source = json_object();

    /* whatever is NULL is refused by the function that takes it */

    rc = ngx_oci_note_target(target, note)
         || ngx_oci_note_set(request, "id", &note->request)
         || ngx_oci_note_set(request, "addr", &note->address)
         || ngx_oci_note_set(request, "host", &note->host)
         || ngx_oci_note_set(request, "method", &note->method)
         || ngx_oci_note_set(request, "useragent", &note->agent)
         || ngx_oci_note_set(actor, "name", &note->subject)
         || ngx_oci_note_set(source, "addr", &note->node)
         || json_object_set_new(event, "id",
                                json_stringn((char *) note->id,
                                             NGX_OCI_NOTE_ID))
         || json_object_set_new(event, "timestamp", json_string(time))
         || json_object_set_new(event, "action",
                json_string(ngx_oci_note_words[note->event].name));

    /* each of these takes its reference, also if it fails */

    rc |= json_object_set_new(event, "target", target);
    rc |= json_object_set_new(event, "request", request);
    rc |= json_object_set_new(event, "actor", actor);
    rc |= json_object_set_new(event, "source", source);
    rc |= json_array_append_new(events, event);
    rc |= json_object_set_new(body, "events", events);

    if (rc) {
        json_decref(body);
        return NULL;
    }

    return body;
}


static int
ngx_oci_note_target(json_t *target, ngx_oci_note_t *note)
{
    ngx_str_t  *reference;

    if (ngx_oci_note_set(target, "mediaType", &note->media_type)
        || ngx_oci_note_set(target, "digest", &note->digest)
        || ngx_oci_note_set(target, "repository", &note->repository)
        || ngx_oci_note_set(target, "tag", &note->tag))
    {
        return -1;
    }

    if (note->size >= 0
        && (json_object_set_new(target, "size", json_integer(note->size))
            || json_object_set_new(target, "length",
                                   json_integer(note->size))))
    {
        return -1;
    }

    reference = note->digest.len ? &note->digest : &note->tag;

    if (note->host.len == 0 || note->repository.len == 0
        || reference->len == 0)
    {
        return 0;
    }

    return ngx_oci_note_format_set(target, "url", "%.*s://%.*s/v2/%.*s/"
                                   "manifests/%.*s",
                                   (int) note->scheme.len, note->scheme.data,
                                   (int) note->host.len, note->host.data,
                                   (int) note->repository.len,
                                   note->repository.data,
                                   (int) reference->len, reference->data);
}


/* "event_data", of both of Harbor's formats */

static json_t *
ngx_oci_note_data(ngx_oci_note_t *note)
{
    int      rc;
    json_t  *data, *custom;

    data = json_object();

    rc = ngx_oci_note_resources(data, note)
         || ngx_oci_note_repository(data, note);

    if (rc == 0 && note->details.len) {
        custom = json_object();
        rc = ngx_oci_note_set(custom, "Details", &note->details);
        rc |= json_object_set_new(data, "custom_attributes", custom);
    }

    if (rc) {
        json_decref(data);
        return NULL;
    }

    return data;
}


static int
ngx_oci_note_resources(json_t *data, ngx_oci_note_t *note)
{
    int         rc;
    json_t     *list, *resource;
    ngx_str_t  *name;

    if (note->digest.len == 0 && note->tag.len == 0) {
        return 0;
    }

    list = json_array();
    resource = json_object();

    /* without a tag the digest stands for it */

    name = note->tag.len ? &note->tag : &note->digest;

    rc = ngx_oci_note_set(resource, "digest", &note->digest)
         || ngx_oci_note_set(resource, "tag", name);

    if (rc == 0 && note->host.len) {
        rc = ngx_oci_note_format_set(resource, "resource_url",
                                     "%.*s/%.*s%s%.*s",
                                     (int) note->host.len, note->host.data,
                                     (int) note->repository.len,
                                     note->repository.data,
                                     note->tag.len ? ":" : "@",
                                     (int) name->len, name->data);
    }

    rc |= json_array_append_new(list, resource);
    rc |= json_object_set_new(data, "resources", list);

    return rc;
}


static int
ngx_oci_note_repository(json_t *data, ngx_oci_note_t *note)
{
    int         rc;
    u_char     *p;
    json_t     *repository;
    ngx_str_t   space, name;

    if (note->repository.len == 0) {
        return 0;
    }

    /* a project's name is the first component's */

    space.data = note->repository.data;
    space.len = 0;
    name = note->repository;

    p = memchr(name.data, '/', name.len);

    if (p) {
        space.len = p - space.data;
        name.len -= space.len + 1;
        name.data = p + 1;
    }

    repository = json_object();

    /* whether it is public only the registry knows */

    rc = json_object_set_new(repository, "name",
                             ngx_oci_note_string(name.data, name.len))
         || json_object_set_new(repository, "namespace",
                                ngx_oci_note_string(space.data, space.len))
         || json_object_set_new(repository, "repo_full_name",
                                ngx_oci_note_string(note->repository.data,
                                                    note->repository.len))
         || json_object_set_new(repository, "repo_type", json_string(""));

    rc |= json_object_set_new(data, "repository", repository);

    return rc;
}


/* unless it is empty */

static int
ngx_oci_note_set(json_t *object, const char *key, ngx_str_t *value)
{
    if (value->len == 0) {
        return 0;
    }

    return json_object_set_new(object, key,
                               ngx_oci_note_string(value->data, value->len));
}


/* anything, which may be no text, and may have no end */

static json_t *
ngx_oci_note_string(const u_char *p, size_t len)
{
    char     buf[NGX_OCI_NOTE_TEXT];
    size_t   i;
    json_t  *value;

    if (len > NGX_OCI_NOTE_TEXT) {
        len = NGX_OCI_NOTE_TEXT;
    }

    value = json_stringn(len ? (const char *) p : "", len);

    if (value) {
        return value;
    }

    for (i = 0; i < len; i++) {
        buf[i] = (p[i] >= 0x20 && p[i] < 0x7f) ? p[i] : '?';
    }

    return json_stringn(buf, len);
}


static int
ngx_oci_note_format_set(json_t *object, const char *key, const char *fmt, ...)
{
    int      n;
    char     buf[NGX_OCI_NOTE_TEXT];
    va_list  args;

    va_start(args, fmt);
    n = vsnprintf(buf, sizeof(buf), fmt, args);
    va_end(args);

    if (n < 0) {
        return -1;
    }

    n = (n < (int) sizeof(buf)) ? n : (int) sizeof(buf) - 1;

    return json_object_set_new(object, key,
                               ngx_oci_note_string((u_char *) buf, n));
}


static size_t
ngx_oci_note_time(char *buf, size_t size, int64_t msec, ngx_uint_t fine)
{
    size_t     n;
    time_t     sec;
    struct tm  tm;

    sec = (time_t) (msec / 1000);

    if (gmtime_r(&sec, &tm) == NULL) {
        memset(&tm, 0, sizeof(struct tm));
    }

    n = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);

    if (fine) {
        n += snprintf(buf + n, size - n, ".%03d", (int) (msec % 1000));
    }

    return n + snprintf(buf + n, size - n, "Z");
}
