
/*
 * Copyright (C) The nginx-oci authors
 *
 * What is told: events are seen when a request is over, and by preheat jobs.
 */


#include "ngx_oci_notify.h"


#define NGX_OCI_NOTIFY_DETAILS  700     /* bytes */


static ngx_uint_t ngx_oci_notify_event(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx, ngx_uint_t status);
static ngx_uint_t ngx_oci_notify_refused(ngx_http_request_t *r,
    ngx_uint_t status);
static ngx_uint_t ngx_oci_notify_wanted(ngx_array_t *list, ngx_uint_t event,
    ngx_str_t *repository);
static ngx_uint_t ngx_oci_notify_wants(ngx_oci_notify_t *notify,
    ngx_uint_t event, ngx_str_t *repository);
static ngx_uint_t ngx_oci_notify_again(ngx_http_request_t *r,
    ngx_oci_note_t *note);
static void ngx_oci_notify_request(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_note_t *note);
static void ngx_oci_notify_details(ngx_http_request_t *r, ngx_uint_t status,
    ngx_oci_note_t *note, u_char *buf);
static void ngx_oci_notify_tell(ngx_array_t *list, ngx_oci_note_t *note);
static ngx_str_t ngx_oci_notify_variable(ngx_http_request_t *r,
    const char *name);


ngx_int_t
ngx_oci_notify_log(ngx_http_request_t *r)
{
    u_char                     details[NGX_OCI_NOTIFY_DETAILS];
    u_char                     digest[NGX_OCI_DIGEST_LEN];
    ngx_uint_t                 event, status;
    ngx_oci_ctx_t             *ctx;
    ngx_oci_note_t             note;
    ngx_table_elt_t           *h;
    ngx_oci_hooks_srv_conf_t  *hscf;

    hscf = ngx_http_get_module_srv_conf(r, ngx_http_oci_hooks_module);
    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    if (hscf->notify == NULL || r != r->main || ctx == NULL
        || ctx->route.repository.len == 0)
    {
        return NGX_OK;
    }

    status = r->err_status ? r->err_status : r->headers_out.status;
    event = ngx_oci_notify_event(r, ctx, status);

    if (!ngx_oci_notify_wanted(hscf->notify, event, &ctx->route.repository)) {
        return NGX_OK;
    }

    ngx_memzero(&note, sizeof(ngx_oci_note_t));

    note.event = event;
    note.size = -1;
    note.repository = ctx->route.repository;

    if (ctx->route.route == NGX_OCI_ROUTE_TAG) {
        note.tag = ctx->route.reference;
    }

    h = ngx_oci_header_find(&r->headers_out.headers, NULL,
                            "Docker-Content-Digest");

    if (h && (event == NGX_OCI_NOTE_PULL || event == NGX_OCI_NOTE_PUSH)) {
        note.digest = h->value;

    } else if (ctx->route.digest.alg != NGX_OCI_DIGEST_NONE) {
        note.digest.data = digest;
        note.digest.len = ngx_oci_digest_print(digest, &ctx->route.digest)
                          - digest;
    }

    ngx_oci_notify_request(r, ctx, &note);
    ngx_oci_notify_details(r, status, &note, details);

    if (!ngx_oci_notify_again(r, &note)) {
        ngx_oci_notify_tell(hscf->notify, &note);
    }

    return NGX_OK;
}


/* NGX_OCI_NOTE_N: none */

static ngx_uint_t
ngx_oci_notify_event(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_uint_t status)
{
    ngx_str_t        *agent;
    ngx_uint_t        event;
    ngx_oci_route_t  *route;

    if (ctx->verify_status == NGX_OCI_VERIFY_MISMATCH) {
        return NGX_OCI_NOTE_VERIFY_FAILURE;
    }

    if (ngx_oci_core.pull_own(r) != NGX_OCI_PULL_NOT) {
        return NGX_OCI_NOTE_N;
    }

    event = ngx_oci_notify_refused(r, status);

    if (event != NGX_OCI_NOTE_N) {
        return event;
    }

    route = &ctx->route;

    if (route->route != NGX_OCI_ROUTE_TAG
        && route->route != NGX_OCI_ROUTE_MANIFEST)
    {
        return NGX_OCI_NOTE_N;
    }

    if (r->method == NGX_HTTP_PUT && status == NGX_HTTP_CREATED) {
        return NGX_OCI_NOTE_PUSH;
    }

    if (r->method != NGX_HTTP_GET || status != NGX_HTTP_OK) {
        return NGX_OCI_NOTE_N;
    }

    /* Harbor's replication is no pull, as Harbor itself counts */

    if (r->headers_in.user_agent) {
        agent = &r->headers_in.user_agent->value;

        if (ngx_oci_path_is(agent, "harbor-registry-client")) {
            return NGX_OCI_NOTE_N;
        }
    }

    return NGX_OCI_NOTE_PULL;
}


static ngx_uint_t
ngx_oci_notify_refused(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_str_t  decision, rule;

    if (ngx_oci_core.policy(r) == NULL) {
        return NGX_OCI_NOTE_N;
    }

    decision = ngx_oci_notify_variable(r, "oci_decision");

    /* a challenge is nobody's refusal, nor is a policy that is not there */

    if (!ngx_oci_path_is(&decision, "cut")
        && (!ngx_oci_path_is(&decision, "deny")
            || status < 400 || status >= 500
            || (status == NGX_HTTP_UNAUTHORIZED
                && r->headers_in.authorization == NULL)))
    {
        return NGX_OCI_NOTE_N;
    }

    rule = ngx_oci_notify_variable(r, "oci_policy_rule");

    return ngx_oci_path_begins(&rule, "quarantine/")
           ? NGX_OCI_NOTE_QUARANTINE : NGX_OCI_NOTE_REFUSAL;
}


static ngx_uint_t
ngx_oci_notify_wanted(ngx_array_t *list, ngx_uint_t event,
    ngx_str_t *repository)
{
    ngx_uint_t          i;
    ngx_oci_notify_t  **notify;

    notify = list->elts;

    for (i = 0; i < list->nelts; i++) {
        if (ngx_oci_notify_wants(notify[i], event, repository)) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_oci_notify_wants(ngx_oci_notify_t *notify, ngx_uint_t event,
    ngx_str_t *repository)
{
    ngx_str_t   *pattern;
    ngx_uint_t   i;

    if (!(notify->events & ((ngx_uint_t) 1 << event))) {
        return 0;
    }

    if (notify->patterns == NULL) {
        return 1;
    }

    pattern = notify->patterns->elts;

    for (i = 0; i < notify->patterns->nelts; i++) {
        if (ngx_oci_pattern_match(&pattern[i], repository)) {
            return 1;
        }
    }

    return 0;
}


/* what goes on and on is told once in a while */

static ngx_uint_t
ngx_oci_notify_again(ngx_http_request_t *r, ngx_oci_note_t *note)
{
    u_char      *p;
    uint32_t     crc;
    u_char       buf[1024];

    if (note->event == NGX_OCI_NOTE_PULL || note->event == NGX_OCI_NOTE_PUSH)
    {
        return 0;
    }

    p = ngx_snprintf(buf, sizeof(buf), "%ui %V %V %V %V %V", note->event,
                     &note->repository, &note->tag, &note->digest,
                     &note->subject, &note->details);

    crc = ngx_oci_crc32c(0, buf, p - buf);

    return ngx_oci_notify_seen((uint64_t) ngx_murmur_hash2(buf, p - buf) << 32
                               | crc);
}


/* who asked for what */

static void
ngx_oci_notify_request(ngx_http_request_t *r, ngx_oci_ctx_t *ctx,
    ngx_oci_note_t *note)
{
    if (note->event == NGX_OCI_NOTE_PULL) {
        note->media_type = r->headers_out.content_type;
        note->size = r->headers_out.content_length_n;

    } else if (note->event == NGX_OCI_NOTE_PUSH) {
        note->size = r->headers_in.content_length_n;

        if (r->headers_in.content_type) {
            note->media_type = r->headers_in.content_type->value;
        }
    }

    note->subject = ngx_oci_notify_variable(r, "oci_subject");
    note->request = ngx_oci_notify_variable(r, "request_id");
    note->address = r->connection->addr_text;
    note->method = r->method_name;

    if (r->headers_in.host) {
        note->host = r->headers_in.host->value;
    }

    if (r->headers_in.user_agent) {
        note->agent = r->headers_in.user_agent->value;
    }

    ngx_str_set(&note->scheme, "http");

#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        ngx_str_set(&note->scheme, "https");
    }
#endif
}


static void
ngx_oci_notify_details(ngx_http_request_t *r, ngx_uint_t status,
    ngx_oci_note_t *note, u_char *buf)
{
    u_char     *p;
    ngx_str_t   rule;

    switch (note->event) {

    case NGX_OCI_NOTE_VERIFY_FAILURE:
        ngx_str_set(&note->details,
                    "the registry's bytes do not match the digest");
        return;

    case NGX_OCI_NOTE_QUARANTINE:
    case NGX_OCI_NOTE_REFUSAL:

        rule = ngx_oci_notify_variable(r, "oci_policy_rule");

        p = ngx_snprintf(buf, NGX_OCI_NOTIFY_DETAILS,
                         "%V was answered with %ui%s%V", &r->method_name,
                         status, rule.len ? " by " : "", &rule);

        note->details.data = buf;
        note->details.len = p - buf;
        return;
    }
}


void
ngx_oci_notify_job(ngx_oci_hook_conf_t *hook, ngx_str_t *repository,
    ngx_str_t *reference, const char *error)
{
    ngx_oci_note_t             note;
    ngx_oci_digest_t           digest;
    ngx_oci_hooks_srv_conf_t  *hscf;

    hscf = hook->server->ctx->srv_conf[ngx_http_oci_hooks_module.ctx_index];

    if (hscf->notify == NULL
        || !ngx_oci_notify_wanted(hscf->notify, NGX_OCI_NOTE_PREHEAT,
                                  repository))
    {
        return;
    }

    ngx_memzero(&note, sizeof(ngx_oci_note_t));

    note.event = NGX_OCI_NOTE_PREHEAT;
    note.size = -1;
    note.repository = *repository;

    if (ngx_oci_digest_parse(&digest, reference->data, reference->len)
        == NGX_OK)
    {
        note.digest = *reference;

    } else {
        note.tag = *reference;
    }

    if (error == NULL) {
        error = "SUCCESS";
    }

    note.details.data = (u_char *) error;
    note.details.len = ngx_strlen(error);

    ngx_oci_notify_tell(hscf->notify, &note);
}


static void
ngx_oci_notify_tell(ngx_array_t *list, ngx_oci_note_t *note)
{
    char                *body[NGX_OCI_NOTE_FORMATS];
    size_t               len[NGX_OCI_NOTE_FORMATS];
    ngx_uint_t           i, f;
    ngx_time_t          *tp;
    ngx_oci_notify_t   **n;
    ngx_oci_record_t     record;

    tp = ngx_timeofday();

    note->node = ngx_cycle->hostname;
    note->msec = (int64_t) tp->sec * 1000 + tp->msec;

    if (ngx_oci_note_id(note->id) != NGX_OK) {
        ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, 0,
                      "no random bytes for an event's id");
        return;
    }

    ngx_memzero(body, sizeof(body));

    n = list->elts;

    for (i = 0; i < list->nelts; i++) {

        if (!ngx_oci_notify_wants(n[i], note->event, &note->repository)) {
            continue;
        }

        f = n[i]->format;

        if (body[f] == NULL) {
            body[f] = ngx_oci_note_body(note, f, &len[f]);
        }

        if (body[f] == NULL) {
            ngx_oci_notify_add(n[i]->sh->dropped, 1);
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                          "an event for \"%V\" is dropped: no memory",
                          &n[i]->dir);
            continue;
        }

        ngx_memcpy(record.id, note->id, NGX_OCI_NOTE_ID);
        record.format = (uint32_t) f;
        record.msec = note->msec;
        record.repository = note->repository;
        record.body.data = (u_char *) body[f];
        record.body.len = len[f];

        if (ngx_oci_notify_append(n[i], &record) == NGX_OK) {
            ngx_oci_notify_kick(n[i]);
        }
    }

    for (f = 0; f < NGX_OCI_NOTE_FORMATS; f++) {
        free(body[f]);
    }
}


/* empty: it is not there */

static ngx_str_t
ngx_oci_notify_variable(ngx_http_request_t *r, const char *name)
{
    ngx_str_t                   s;
    ngx_http_variable_value_t  *v;

    s.data = (u_char *) name;
    s.len = ngx_strlen(name);

    v = ngx_http_get_variable(r, &s, ngx_hash_key(s.data, s.len));

    if (v == NULL || v->not_found || !v->valid) {
        ngx_str_set(&s, "");
        return s;
    }

    s.data = v->data;
    s.len = v->len;

    return s;
}
