
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a record says of a request.  Whatever came from outside has bounds,
 * and is escaped; neither "Authorization" nor a query gets in, nor where a
 * registry redirects to.
 */


#include "ngx_oci_audit.h"

#include <openssl/rand.h>


typedef struct {
    ngx_str_t   forwarded;
    ngx_str_t   hostname;
    ngx_str_t   traceparent;
} ngx_oci_audit_headers_t;


static u_char  ngx_oci_audit_secret[32];    /* of the worker, for keys */
static ngx_uint_t  ngx_oci_audit_has_secret;


static const char *ngx_oci_audit_action(ngx_http_request_t *r,
    ngx_oci_route_t *route, ngx_uint_t *single);
static const char *ngx_oci_audit_duty(ngx_http_request_t *r,
    ngx_oci_ctx_t *octx, ngx_oci_route_t *route, ngx_uint_t *single);
static void ngx_oci_audit_who(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_audit_record_t *rec);
static void ngx_oci_audit_digest(ngx_http_request_t *r,
    ngx_oci_route_t *route, ngx_oci_audit_out_t *out);
static ngx_int_t ngx_oci_audit_arg(ngx_http_request_t *r, const char *name,
    u_char *buf, size_t size, ngx_str_t *value);
static void ngx_oci_audit_client(ngx_http_request_t *r,
    ngx_oci_audit_out_t *out);
static void ngx_oci_audit_header(ngx_oci_audit_headers_t *in,
    ngx_table_elt_t *h);
static void ngx_oci_audit_trace(ngx_oci_audit_out_t *out, ngx_str_t *value);
static void ngx_oci_audit_decision(ngx_http_request_t *r,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_audit_out_t *out);
static void ngx_oci_audit_answer(ngx_http_request_t *r,
    ngx_oci_audit_out_t *out);
static void ngx_oci_audit_variable(ngx_http_request_t *r,
    ngx_oci_audit_out_t *out, const char *member, const char *name,
    size_t max);
static void ngx_oci_audit_key_of(ngx_oci_audit_log_t *log,
    ngx_oci_policy_ctx_t *ctx, ngx_oci_audit_record_t *rec);


void
ngx_oci_audit_record(ngx_http_request_t *r, ngx_oci_audit_log_t *log,
    ngx_oci_audit_record_t *rec)
{
    ngx_oci_policy_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_policy_module);

    rec->request = r;

    rec->denied = ngx_oci_audit_denied(r);

    rec->who.pos = rec->buf[0];
    rec->who.last = rec->buf[0] + sizeof(rec->buf[0]);

    ngx_oci_audit_who(r, ctx, rec);
    ngx_oci_audit_key_of(log, ctx, rec);
}


ngx_uint_t
ngx_oci_audit_denied(ngx_http_request_t *r)
{
    ngx_oci_policy_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_policy_module);

    return ctx && ctx->decision && ngx_strcmp(ctx->decision, "deny") == 0;
}


void
ngx_oci_audit_record_more(ngx_oci_audit_record_t *rec)
{
    ngx_http_request_t    *r;
    ngx_oci_audit_out_t   *out;
    ngx_oci_policy_ctx_t  *ctx;

    r = rec->request;
    ctx = ngx_http_get_module_ctx(r, ngx_http_oci_policy_module);

    out = &rec->what;
    out->pos = rec->buf[1];
    out->last = rec->buf[1] + sizeof(rec->buf[1]);

    ngx_oci_audit_number(out, "status", ngx_oci_audit_status(r));
    ngx_oci_audit_decision(r, ctx, out);
    ngx_oci_audit_client(r, out);
    ngx_oci_audit_answer(r, out);
}


/* members that all records of an event have */

static void
ngx_oci_audit_who(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_audit_record_t *rec)
{
    u_char                buf[NGX_OCI_DIGEST_LEN];
    ngx_str_t             subject;
    ngx_uint_t            code, known;
    const char           *action, *duty;
    ngx_oci_ctx_t        *octx;
    ngx_oci_route_t       route;
    ngx_oci_audit_out_t  *out;

    out = &rec->who;
    octx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    if (octx) {
        route = octx->route;
        known = (octx->status == 0);

    } else {
        known = r->unparsed_uri.len
                && ngx_oci_route_parse(&route, &r->unparsed_uri, buf, &code)
                   == NGX_OK;
    }

    if (!known) {
        ngx_memzero(&route, sizeof(ngx_oci_route_t));
    }

    ngx_str_set(&subject, "-");

    if (ctx && ctx->subject.len) {
        subject = ctx->subject;
    }

    action = ngx_oci_audit_action(r, &route, &rec->single);
    duty = ngx_oci_audit_duty(r, octx, &route, &rec->single);

    if (duty) {
        action = duty;

    } else if (ctx && ctx->issue) {
        action = "token";
    }

    ngx_oci_audit_text(out, "action", action);
    ngx_oci_audit_string(out, "method", &r->method_name, 32);
    ngx_oci_audit_string(out, "subject", &subject, 512);
    ngx_oci_audit_string(out, "client", &r->connection->addr_text, 64);

    if (octx && octx->registry) {
        ngx_oci_audit_string(out, "registry", &octx->registry->name, 128);
    }

    ngx_oci_audit_string(out, "repository", &route.repository,
                         NGX_OCI_NAME_MAX);

    if (route.route == NGX_OCI_ROUTE_TAG) {
        ngx_oci_audit_string(out, "reference", &route.reference,
                             NGX_OCI_TAG_MAX);
    }

    ngx_oci_audit_digest(r, &route, out);

    if (route.route == NGX_OCI_ROUTE_OTHER) {
        ngx_oci_audit_string(out, "uri", &r->uri, 512);
    }
}


/* single: requests for it are not put together */

static const char *
ngx_oci_audit_action(ngx_http_request_t *r, ngx_oci_route_t *route,
    ngx_uint_t *single)
{
    *single = 0;

    if (r->method_name.len == sizeof("PURGE") - 1
        && ngx_strncmp(r->method_name.data, "PURGE", sizeof("PURGE") - 1)
           == 0)
    {
        *single = 1;
        return "purge";
    }

    if (route->route == NGX_OCI_ROUTE_UPLOAD) {
        *single = (r->method == NGX_HTTP_PUT);
        return "push";
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        *single = 1;

        return (route->route == NGX_OCI_ROUTE_OTHER) ? "other"
               : (r->method == NGX_HTTP_DELETE) ? "delete"
               : (r->method == NGX_HTTP_PUT) ? "push" : "other";
    }

    switch (route->route) {

    case NGX_OCI_ROUTE_PING:
        return "login";

    case NGX_OCI_ROUTE_BLOB:
    case NGX_OCI_ROUTE_MANIFEST:
    case NGX_OCI_ROUTE_TAG:
        return (r->method == NGX_HTTP_HEAD) ? "head" : "pull";

    case NGX_OCI_ROUTE_REFERRERS:
        return "referrers";

    case NGX_OCI_ROUTE_TAGS_LIST:
        return "list";
    }

    return "other";
}


/* in a location that a policy decides by a right of its own, or NULL */

static const char *
ngx_oci_audit_duty(ngx_http_request_t *r, ngx_oci_ctx_t *octx,
    ngx_oci_route_t *route, ngx_uint_t *single)
{
    const ngx_oci_duty_t  *duty;

    static const char  *names[] = { "status", "preheat", "purge" };

    duty = ngx_oci_core.duty(r);

    if (duty == NULL || ngx_oci_core.policy(r) == NULL || octx == NULL) {
        return NULL;
    }

    ngx_memzero(route, sizeof(ngx_oci_route_t));
    route->repository = octx->route.repository;

    *single = (duty->what == NGX_OCI_DUTY_PURGE
               || !(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)));

    return names[duty->what];
}


/* of the URI, of the answer for a tag, of the query for a blob pushed */

static void
ngx_oci_audit_digest(ngx_http_request_t *r, ngx_oci_route_t *route,
    ngx_oci_audit_out_t *out)
{
    u_char             buf[NGX_OCI_NAME_MAX + 1];
    ngx_str_t          value;
    ngx_uint_t         i;
    ngx_list_part_t   *part;
    ngx_table_elt_t   *h;
    ngx_oci_digest_t   digest;

    if (route->digest.alg) {
        ngx_oci_audit_string(out, "digest", &route->reference,
                             NGX_OCI_DIGEST_LEN + 4);
        return;
    }

    if (route->route == NGX_OCI_ROUTE_UPLOAD) {

        if (ngx_oci_audit_arg(r, "digest", buf, sizeof(buf), &value) == NGX_OK
            || ngx_oci_audit_arg(r, "mount", buf, sizeof(buf), &value)
               == NGX_OK)
        {
            if (ngx_oci_digest_parse(&digest, value.data, value.len)
                == NGX_OK)
            {
                ngx_oci_audit_string(out, "digest", &value,
                                     NGX_OCI_DIGEST_LEN + 4);
            }
        }

        if (ngx_oci_audit_arg(r, "from", buf, sizeof(buf), &value) == NGX_OK
            && ngx_oci_name_valid(value.data, value.len) == NGX_OK)
        {
            ngx_oci_audit_string(out, "from", &value, NGX_OCI_NAME_MAX + 4);
        }

        return;
    }

    if (route->route != NGX_OCI_ROUTE_TAG) {
        return;
    }

    part = &r->headers_out.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            part = part->next;

            if (part == NULL) {
                return;
            }

            h = part->elts;
            i = 0;
        }

        if (h[i].hash
            && h[i].key.len == sizeof("Docker-Content-Digest") - 1
            && ngx_strncasecmp(h[i].key.data,
                               (u_char *) "Docker-Content-Digest",
                               sizeof("Docker-Content-Digest") - 1)
               == 0
            && ngx_oci_digest_parse(&digest, h[i].value.data, h[i].value.len)
               == NGX_OK)
        {
            ngx_oci_audit_string(out, "digest", &h[i].value,
                                 NGX_OCI_DIGEST_LEN + 4);
            return;
        }
    }
}


/* an argument, unescaped, in buf; NGX_DECLINED: there is none that fits */

static ngx_int_t
ngx_oci_audit_arg(ngx_http_request_t *r, const char *name, u_char *buf,
    size_t size, ngx_str_t *value)
{
    u_char     *src, *dst;
    ngx_str_t   arg;

    if (ngx_http_arg(r, (u_char *) name, ngx_strlen(name), &arg) != NGX_OK
        || arg.len == 0 || arg.len > size)
    {
        return NGX_DECLINED;
    }

    src = arg.data;
    dst = buf;

    ngx_unescape_uri(&dst, &src, arg.len, NGX_UNESCAPE_URI);

    value->data = buf;
    value->len = dst - buf;

    return NGX_OK;
}


static void
ngx_oci_audit_client(ngx_http_request_t *r, ngx_oci_audit_out_t *out)
{
    ngx_uint_t                i;
    ngx_list_part_t          *part;
    ngx_table_elt_t          *h;
    ngx_oci_audit_headers_t   in;

    ngx_memzero(&in, sizeof(ngx_oci_audit_headers_t));

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            part = part->next;

            if (part == NULL) {
                break;
            }

            h = part->elts;
            i = 0;
        }

        ngx_oci_audit_header(&in, &h[i]);
    }

    ngx_oci_audit_number(out, "port",
                         r->connection->sockaddr
                         ? ngx_inet_get_port(r->connection->sockaddr) : 0);

    ngx_oci_audit_variable(r, out, "req_id", "request_id", 64);
    ngx_oci_audit_string(out, "forwarded_for", &in.forwarded, 256);

    if (r->headers_in.user_agent) {
        ngx_oci_audit_string(out, "user_agent",
                             &r->headers_in.user_agent->value, 256);
    }

    ngx_oci_audit_string(out, "hostname", &in.hostname, 128);
    ngx_oci_audit_trace(out, &in.traceparent);

    if (r->headers_in.range) {
        ngx_oci_audit_string(out, "range", &r->headers_in.range->value, 128);
    }

#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        ngx_oci_audit_variable(r, out, "tls_version", "ssl_protocol", 16);
        ngx_oci_audit_variable(r, out, "client_cert_fp",
                               "ssl_client_fingerprint", 64);
    }
#endif
}


static void
ngx_oci_audit_header(ngx_oci_audit_headers_t *in, ngx_table_elt_t *h)
{
    ngx_uint_t  i;

    struct {
        ngx_str_t   name;
        ngx_str_t  *value;
    } known[] = {
        { ngx_string("X-Forwarded-For"), &in->forwarded },
        { ngx_string("X-Hostname"), &in->hostname },
        { ngx_string("traceparent"), &in->traceparent }
    };

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (h->key.len == known[i].name.len
            && ngx_strncasecmp(h->key.data, known[i].name.data, h->key.len)
               == 0)
        {
            *known[i].value = h->value;
        }
    }
}


/* W3C trace context: 00-<32 hex>-<16 hex>-<2 hex> */

static void
ngx_oci_audit_trace(ngx_oci_audit_out_t *out, ngx_str_t *value)
{
    u_char      ch;
    ngx_str_t   id;
    ngx_uint_t  i;

    if (value->len < 55) {
        return;
    }

    for (i = 0; i < 55; i++) {
        ch = value->data[i];

        if (i == 2 || i == 35 || i == 52) {
            if (ch != '-') {
                return;
            }

        } else if ((ch < '0' || ch > '9') && (ch < 'a' || ch > 'f')) {
            return;
        }
    }

    id.data = value->data + 3;
    id.len = 32;
    ngx_oci_audit_string(out, "trace_id", &id, 64);

    id.data = value->data + 36;
    id.len = 16;
    ngx_oci_audit_string(out, "span_id", &id, 64);
}


static void
ngx_oci_audit_decision(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_audit_out_t *out)
{
    ngx_str_t  reason;

    if (ctx == NULL || ctx->decision == NULL) {
        return;
    }

    ngx_oci_audit_text(out, "decision", ctx->decision);

    /* of a document, or of an artifact: anything may stand there */

    if (ctx->reason) {
        reason.data = (u_char *) ctx->reason;
        reason.len = ngx_strlen(ctx->reason);
        ngx_oci_audit_string(out, "reason", &reason, 384);
    }

    ngx_oci_audit_string(out, "policy", &ctx->policy->policy.name, 128);
    ngx_oci_audit_variable(r, out, "policy_source", "oci_decision_source",
                           32);
    ngx_oci_audit_number(out, "policy_epoch", ctx->epoch);
    ngx_oci_audit_string(out, "rule_id", &ctx->rule, 512);

    ngx_oci_audit_text(out, "auth_method", ctx->how);
}


static void
ngx_oci_audit_answer(ngx_http_request_t *r, ngx_oci_audit_out_t *out)
{
    off_t                        size;
    u_char                      *p;
    ngx_str_t                    type, range;
    ngx_http_upstream_state_t   *state;

    ngx_oci_audit_text(out, "cache", ngx_oci_audit_cache(r));
    ngx_oci_audit_text(out, "verify", ngx_oci_audit_verify(r));

    type = r->headers_out.content_type;
    ngx_oci_audit_string(out, "media_type", &type, 128);

    size = r->headers_out.content_length_n;

    if (r->headers_out.content_range) {
        range = r->headers_out.content_range->value;
        p = ngx_strlchr(range.data, range.data + range.len, '/');
        size = p ? ngx_atoof(p + 1, range.data + range.len - p - 1)
                 : NGX_ERROR;
    }

    if (size >= 0 && !r->header_only) {
        ngx_oci_audit_number(out, "size", size);
    }

    if (r->upstream_states && r->upstream_states->nelts) {
        state = r->upstream_states->elts;
        state += r->upstream_states->nelts - 1;

        if (state->status) {
            ngx_oci_audit_number(out, "upstream_status", state->status);
        }
    }

    ngx_oci_audit_text(out, "edge_version", NGX_OCI_VERSION);
    ngx_oci_audit_number(out, "latency_ms", ngx_oci_audit_latency(r));
}


const char *
ngx_oci_audit_cache(ngx_http_request_t *r)
{
    ngx_oci_ctx_t  *octx;

    static const char  *names[] = {
        NULL, "hit", "miss", "partial", "join", "stale", "revalidated",
        "bypass"
    };

    octx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    return (octx && octx->cache_status < sizeof(names) / sizeof(names[0]))
           ? names[octx->cache_status] : NULL;
}


const char *
ngx_oci_audit_verify(ngx_http_request_t *r)
{
    ngx_oci_ctx_t  *octx;

    static const char  *names[] = {
        NULL, "off", "pending", "verified", "mismatch"
    };

    octx = ngx_http_get_module_ctx(r, ngx_http_oci_module);

    return (octx && octx->verify_status < sizeof(names) / sizeof(names[0]))
           ? names[octx->verify_status] : NULL;
}


ngx_uint_t
ngx_oci_audit_status(ngx_http_request_t *r)
{
    return r->err_status ? r->err_status : r->headers_out.status;
}


ngx_msec_t
ngx_oci_audit_latency(ngx_http_request_t *r)
{
    ngx_time_t       *tp;
    ngx_msec_int_t    ms;

    tp = ngx_timeofday();

    ms = (ngx_msec_int_t) ((tp->sec - r->start_sec) * 1000
                           + (tp->msec - r->start_msec));

    return ngx_max(ms, 0);
}


static void
ngx_oci_audit_variable(ngx_http_request_t *r, ngx_oci_audit_out_t *out,
    const char *member, const char *name, size_t max)
{
    ngx_str_t                   s;
    ngx_http_variable_value_t  *v;

    s.data = (u_char *) name;
    s.len = ngx_strlen(name);

    v = ngx_http_get_variable(r, &s, ngx_hash_key(s.data, s.len));

    if (v && !v->not_found) {
        s.data = v->data;
        s.len = v->len;
        ngx_oci_audit_string(out, member, &s, max);
    }
}


/*
 * Requests of one key are recorded once.  Those that are allowed to have
 * something, and those that are not, are two, and a name means somebody else
 * in another policy; nobody can choose names that have one key, as that
 * depends on a secret.
 */

static void
ngx_oci_audit_key_of(ngx_oci_audit_log_t *log, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_audit_record_t *rec)
{
    u_char      hash[SHA256_DIGEST_LENGTH];
    SHA256_CTX  sha;
    ngx_uint_t  kind, status;

    if (!ngx_oci_audit_has_secret) {
        if (RAND_bytes(ngx_oci_audit_secret, sizeof(ngx_oci_audit_secret))
            != 1)
        {
            rec->single = 1;
            return;
        }

        ngx_oci_audit_has_secret = 1;
    }

    status = ngx_oci_audit_status(rec->request);
    kind = (status < 400) ? 0 : status;

    if (rec->denied) {
        kind |= 1 << 16;
        rec->single = 0;
    }

    SHA256_Init(&sha);
    SHA256_Update(&sha, ngx_oci_audit_secret, sizeof(ngx_oci_audit_secret));
    SHA256_Update(&sha, &log, sizeof(log));
    SHA256_Update(&sha, &kind, sizeof(kind));

    if (ctx && ctx->decision) {
        SHA256_Update(&sha, ctx->decision, ngx_strlen(ctx->decision) + 1);
        SHA256_Update(&sha, &ctx->policy, sizeof(ctx->policy));
    }

    SHA256_Update(&sha, rec->buf[0], rec->who.pos - rec->buf[0]);
    SHA256_Final(hash, &sha);

    ngx_memcpy(rec->key, hash, sizeof(rec->key));
}
