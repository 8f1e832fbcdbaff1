
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci_status: the counters of all workers, as JSON or in Prometheus' text
 * format.  No label ever carries a repository or a digest.
 */


#include "ngx_oci_core.h"


#define NGX_OCI_STATUS_LINE  192        /* bytes of a line without names */


typedef struct {
    ngx_uint_t   id;                    /* ngx_oci_stat_e */
    const char  *json;
    const char  *metric;                /* with labels */
    const char  *type;                  /* NULL: one more of the last name */
} ngx_oci_status_counter_t;


static ngx_int_t ngx_oci_status_handler(ngx_http_request_t *r);
static size_t ngx_oci_status_size(ngx_oci_main_conf_t *omcf);
static uint64_t ngx_oci_status_fills(ngx_oci_main_conf_t *omcf);
static u_char *ngx_oci_status_json(u_char *p, ngx_oci_main_conf_t *omcf,
    ngx_oci_stats_t *st);
static u_char *ngx_oci_status_json_requests(u_char *p, ngx_oci_stats_t *st);
static u_char *ngx_oci_status_json_wakeup(u_char *p, ngx_oci_stats_t *st);
static u_char *ngx_oci_status_prometheus(u_char *p,
    ngx_oci_main_conf_t *omcf, ngx_oci_stats_t *st);
static u_char *ngx_oci_status_requests(u_char *p, ngx_oci_stats_t *st);
static u_char *ngx_oci_status_zones(u_char *p, ngx_oci_main_conf_t *omcf);
static u_char *ngx_oci_status_wakeup(u_char *p, ngx_oci_stats_t *st);
static u_char *ngx_oci_status_policies(u_char *p, ngx_oci_main_conf_t *omcf);
static u_char *ngx_oci_status_json_policies(u_char *p,
    ngx_oci_main_conf_t *omcf);
static u_char *ngx_oci_status_queues(u_char *p, ngx_oci_main_conf_t *omcf);
static u_char *ngx_oci_status_json_queues(u_char *p,
    ngx_oci_main_conf_t *omcf);


#define ngx_oci_status_get(v)  __atomic_load_n(&(v), __ATOMIC_RELAXED)


static ngx_oci_status_counter_t  ngx_oci_status_counters[] = {
    { NGX_OCI_STAT_VERIFY_FAILURES, "verify_failures",
      "verify_failures_total", "counter" },
    { NGX_OCI_STAT_JOINED, "joined", "joined_total", "counter" },
    { NGX_OCI_STAT_WAKEUP_FALLBACKS, "wakeup_fallbacks",
      "wakeup_fallbacks_total", "counter" },
    { NGX_OCI_STAT_FILLS_STARTED, "fills_started",
      "fills{state=\"started\"}", "gauge" },
    { NGX_OCI_STAT_FILLS_DONE, "fills_done",
      "fills{state=\"done\"}", NULL },
    { NGX_OCI_STAT_FILLS_FAILED, "fills_failed",
      "fills{state=\"failed\"}", NULL },
    { NGX_OCI_STAT_SENT_HIT, "sent_bytes_hit",
      "sent_bytes_total{cache=\"hit\"}", "counter" },
    { NGX_OCI_STAT_SENT_MISS, "sent_bytes_miss",
      "sent_bytes_total{cache=\"miss\"}", NULL },
    { NGX_OCI_STAT_SENT_BYPASS, "sent_bytes_bypass",
      "sent_bytes_total{cache=\"bypass\"}", NULL },
    { NGX_OCI_STAT_EVICTED_BYTES, "evicted_bytes",
      "evicted_bytes_total", "counter" },
    { NGX_OCI_STAT_DISK_ERRORS, "disk_errors",
      "disk_errors_total", "counter" },
    { NGX_OCI_STAT_SCRUBBED_BYTES, "scrubbed_bytes",
      "scrubbed_bytes_total", "counter" },
    { NGX_OCI_STAT_SCRUB_ROTTEN, "scrub_rotten",
      "scrub_rotten_slices_total", "counter" },
    { NGX_OCI_STAT_AUDIT_LOST, "audit_lost",
      "audit_lost_total", "counter" },
    { 0, NULL, NULL, NULL }
};


static const ngx_oci_duty_t  ngx_oci_status_duty = {
    NGX_OCI_DUTY_STATUS, ngx_oci_status_handler, NULL
};


char *
ngx_oci_status_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_oci_loc_conf_t *olcf = conf;

    ngx_str_t                 *value;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "conflicts with another handler of this location";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2) {

        if (ngx_strcmp(value[1].data, "prometheus") == 0) {
            olcf->prometheus = 1;

        } else if (ngx_strcmp(value[1].data, "json") != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid oci_status format \"%V\"",
                               &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    ngx_oci_duty_set(cf, &ngx_oci_status_duty);

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_oci_status_handler(ngx_http_request_t *r)
{
    ngx_int_t             rc;
    ngx_buf_t            *b;
    ngx_oci_stats_t      *st;
    ngx_oci_loc_conf_t   *olcf;
    ngx_oci_main_conf_t  *omcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    omcf = ngx_http_get_module_main_conf(r, ngx_http_oci_module);
    olcf = ngx_http_get_module_loc_conf(r, ngx_http_oci_module);
    st = ngx_oci_stats();

    if (st == NULL) {
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    b = ngx_create_temp_buf(r->pool, ngx_oci_status_size(omcf));
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (olcf->prometheus) {
        b->last = ngx_oci_status_prometheus(b->last, omcf, st);

        return ngx_oci_send(r, NGX_HTTP_OK, "text/plain; version=0.0.4", b);
    }

    b->last = ngx_oci_status_json(b->last, omcf, st);

    return ngx_oci_send(r, NGX_HTTP_OK, "application/json", b);
}


/* more than enough for either format, also if a counter begins meanwhile */

static size_t
ngx_oci_status_size(ngx_oci_main_conf_t *omcf)
{
    size_t                 lines, names;
    ngx_uint_t             i;
    ngx_oci_policy_t     **policy;
    ngx_oci_registry_t   **registry;
    ngx_oci_zone_info_t    info;
    ngx_oci_queue_info_t   queue;

    lines = NGX_OCI_ROUTE_N * NGX_OCI_STAT_CODES * NGX_OCI_CACHE_N
            + NGX_OCI_STAT_N * 2 + NGX_OCI_STAT_BUCKETS + 32;
    names = 0;

    registry = omcf->registries.elts;

    for (i = 0; i < omcf->registries.nelts; i++) {
        names += NGX_OCI_STATUS_LINE + 6 * registry[i]->name.len;
    }

    for (i = 0; omcf->zone_info && omcf->zone_info(i, &info) == NGX_OK; i++)
    {
        names += 4 * (NGX_OCI_STATUS_LINE + 6 * info.name.len);
    }

    policy = omcf->policies.elts;

    for (i = 0; i < omcf->policies.nelts; i++) {
        names += NGX_OCI_STATUS_LINE + 6 * policy[i]->name.len;
    }

    for (i = 0;
         omcf->queue_info && omcf->queue_info(i, &queue) == NGX_OK;
         i++)
    {
        names += 5 * (NGX_OCI_STATUS_LINE + 6 * queue.name.len);
    }

    return lines * NGX_OCI_STATUS_LINE + names;
}


/* blobs that are being filled, in all zones */

static uint64_t
ngx_oci_status_fills(ngx_oci_main_conf_t *omcf)
{
    uint64_t             fills;
    ngx_uint_t           i;
    ngx_oci_zone_info_t  info;

    fills = 0;

    for (i = 0; omcf->zone_info && omcf->zone_info(i, &info) == NGX_OK; i++)
    {
        fills += info.fills;
    }

    return fills;
}


static u_char *
ngx_oci_status_name(u_char *p, ngx_str_t *name)
{
    return (u_char *) ngx_escape_json(p, name->data, name->len);
}


static u_char *
ngx_oci_status_json(u_char *p, ngx_oci_main_conf_t *omcf,
    ngx_oci_stats_t *st)
{
    ngx_uint_t                  i;
    ngx_oci_registry_t        **registry;
    ngx_oci_zone_info_t         info;
    ngx_oci_status_counter_t   *c;

    p = ngx_sprintf(p, "{\"version\":\"%s\",\"counters\":{",
                    NGX_OCI_VERSION);

    for (c = ngx_oci_status_counters; c->json; c++) {
        p = ngx_sprintf(p, "%s\"%s\":%L",
                        c == ngx_oci_status_counters ? "" : ",", c->json,
                        (int64_t) ngx_oci_status_get(st->counters[c->id]));
    }

    p = ngx_sprintf(p, ",\"fills_active\":%uL},\"upstream_bytes\":{",
                    ngx_oci_status_fills(omcf));
    registry = omcf->registries.elts;

    for (i = 0;
         i < omcf->registries.nelts && i < NGX_OCI_STAT_REGISTRIES;
         i++)
    {
        p = ngx_sprintf(p, i ? ",\"" : "\"");
        p = ngx_oci_status_name(p, &registry[i]->name);
        p = ngx_sprintf(p, "\":%uL",
                        ngx_oci_status_get(st->upstream_bytes[i]));
    }

    p = ngx_sprintf(p, "},\"zones\":{");

    for (i = 0; omcf->zone_info && omcf->zone_info(i, &info) == NGX_OK; i++)
    {
        p = ngx_sprintf(p, i ? ",\"" : "\"");
        p = ngx_oci_status_name(p, &info.name);
        p = ngx_sprintf(p, "\":{\"bytes\":%uL,\"reserved\":%uL,"
                        "\"max_size\":%uL,\"blobs\":%uL}", info.bytes,
                        info.reserved, info.max_size, info.blobs);
    }

    p = ngx_sprintf(p, "},");
    p = ngx_oci_status_json_policies(p, omcf);
    p = ngx_oci_status_json_queues(p, omcf);
    p = ngx_oci_status_json_requests(p, st);
    p = ngx_oci_status_json_wakeup(p, st);

    return ngx_sprintf(p, "}\n");
}


static u_char *
ngx_oci_status_json_requests(u_char *p, ngx_oci_stats_t *st)
{
    uint64_t    n;
    ngx_str_t   route, code, cache;
    ngx_uint_t  i, j, k, first;

    p = ngx_sprintf(p, "\"requests\":[");
    first = 1;

    for (i = 0; i < NGX_OCI_ROUTE_N; i++) {
        for (j = 0; j < NGX_OCI_STAT_CODES; j++) {
            for (k = 0; k < NGX_OCI_CACHE_N; k++) {

                n = ngx_oci_status_get(st->requests[i][j][k]);

                if (n == 0) {
                    continue;
                }

                route = ngx_oci_route_name(i);
                code = ngx_oci_code_name(j);
                cache = ngx_oci_cache_name(k);

                p = ngx_sprintf(p, "%s{\"route\":\"%V\",\"code\":\"%V\","
                                "\"cache\":\"%V\",\"n\":%uL}",
                                first ? "" : ",", &route, &code, &cache, n);
                first = 0;
            }
        }
    }

    return ngx_sprintf(p, "],");
}


static u_char *
ngx_oci_status_json_wakeup(u_char *p, ngx_oci_stats_t *st)
{
    ngx_uint_t  i;

    p = ngx_sprintf(p, "\"wakeup\":{\"count\":%uL,\"sum_us\":%uL,"
                    "\"buckets_us\":{",
                    ngx_oci_status_get(st->wakeup_count),
                    ngx_oci_status_get(st->wakeup_sum_us));

    for (i = 0; i < NGX_OCI_STAT_BUCKETS; i++) {

        if (i == NGX_OCI_STAT_BUCKETS - 1) {
            p = ngx_sprintf(p, ",\"inf\":");

        } else {
            p = ngx_sprintf(p, "%s\"%uL\":", i ? "," : "",
                            (uint64_t) 16 << i);
        }

        p = ngx_sprintf(p, "%uL",
                        ngx_oci_status_get(st->wakeup_buckets[i]));
    }

    return ngx_sprintf(p, "}}");
}


static u_char *
ngx_oci_status_prometheus(u_char *p, ngx_oci_main_conf_t *omcf,
    ngx_oci_stats_t *st)
{
    ngx_str_t                   name;
    ngx_uint_t                  i;
    ngx_oci_registry_t        **registry;
    ngx_oci_status_counter_t   *c;

    p = ngx_oci_status_requests(p, st);

    p = ngx_sprintf(p, "# TYPE nginx_oci_upstream_bytes_total counter\n");
    registry = omcf->registries.elts;

    for (i = 0;
         i < omcf->registries.nelts && i < NGX_OCI_STAT_REGISTRIES;
         i++)
    {
        p = ngx_sprintf(p, "nginx_oci_upstream_bytes_total{registry=\"");
        p = ngx_oci_status_name(p, &registry[i]->name);
        p = ngx_sprintf(p, "\"} %uL\n",
                        ngx_oci_status_get(st->upstream_bytes[i]));
    }

    for (c = ngx_oci_status_counters; c->metric; c++) {

        if (c->type) {
            name.data = (u_char *) c->metric;
            name.len = strcspn(c->metric, "{");
            p = ngx_sprintf(p, "# TYPE nginx_oci_%V %s\n", &name, c->type);
        }

        p = ngx_sprintf(p, "nginx_oci_%s %L\n", c->metric,
                        (int64_t) ngx_oci_status_get(st->counters[c->id]));

        if (c->id == NGX_OCI_STAT_FILLS_STARTED) {
            p = ngx_sprintf(p, "nginx_oci_fills{state=\"active\"} %uL\n",
                            ngx_oci_status_fills(omcf));
        }
    }

    p = ngx_oci_status_zones(p, omcf);
    p = ngx_oci_status_policies(p, omcf);
    p = ngx_oci_status_queues(p, omcf);

    return ngx_oci_status_wakeup(p, st);
}


static u_char *
ngx_oci_status_requests(u_char *p, ngx_oci_stats_t *st)
{
    uint64_t    n;
    ngx_str_t   route, code, cache;
    ngx_uint_t  i, j, k;

    p = ngx_sprintf(p, "# TYPE nginx_oci_requests_total counter\n");

    for (i = 0; i < NGX_OCI_ROUTE_N; i++) {
        for (j = 0; j < NGX_OCI_STAT_CODES; j++) {
            for (k = 0; k < NGX_OCI_CACHE_N; k++) {

                n = ngx_oci_status_get(st->requests[i][j][k]);

                if (n == 0) {
                    continue;
                }

                route = ngx_oci_route_name(i);
                code = ngx_oci_code_name(j);
                cache = ngx_oci_cache_name(k);

                p = ngx_sprintf(p, "nginx_oci_requests_total{route=\"%V\","
                                "code=\"%V\",cache=\"%V\"} %uL\n",
                                &route, &code, &cache, n);
            }
        }
    }

    return p;
}


static u_char *
ngx_oci_status_zones(u_char *p, ngx_oci_main_conf_t *omcf)
{
    ngx_uint_t           i, n;
    ngx_oci_zone_info_t  info;

    static const char   *names[] = { "cache_bytes", "cache_max_bytes",
                                     "cache_blobs",
                                     "cache_reserved_bytes" };

    for (n = 0; n < 4; n++) {

        p = ngx_sprintf(p, "# TYPE nginx_oci_%s gauge\n", names[n]);

        for (i = 0;
             omcf->zone_info && omcf->zone_info(i, &info) == NGX_OK;
             i++)
        {
            p = ngx_sprintf(p, "nginx_oci_%s{zone=\"", names[n]);
            p = ngx_oci_status_name(p, &info.name);
            p = ngx_sprintf(p, "\"} %uL\n",
                            n == 0 ? info.bytes
                            : n == 1 ? info.max_size
                            : n == 2 ? info.blobs : info.reserved);
        }
    }

    return p;
}


/* since their documents were known to be current */

static u_char *
ngx_oci_status_policies(u_char *p, ngx_oci_main_conf_t *omcf)
{
    int64_t             age;
    ngx_uint_t          i, n;
    ngx_oci_policy_t  **policy;

    policy = omcf->policies.elts;
    n = 0;

    for (i = 0; i < omcf->policies.nelts; i++) {

        if (policy[i]->age == NULL) {
            continue;
        }

        age = policy[i]->age(policy[i]);

        if (n++ == 0) {
            p = ngx_sprintf(p, "# TYPE nginx_oci_policy_age_seconds gauge\n");
        }

        p = ngx_sprintf(p, "nginx_oci_policy_age_seconds{policy=\"");
        p = ngx_oci_status_name(p, &policy[i]->name);

        if (age < 0) {
            p = ngx_sprintf(p, "\"} +Inf\n");

        } else {
            p = ngx_sprintf(p, "\"} %L.%03L\n", age / 1000, age % 1000);
        }
    }

    return p;
}


static u_char *
ngx_oci_status_json_policies(u_char *p, ngx_oci_main_conf_t *omcf)
{
    int64_t             age;
    ngx_uint_t          i, n;
    ngx_oci_policy_t  **policy;

    policy = omcf->policies.elts;
    n = 0;

    p = ngx_sprintf(p, "\"policies\":{");

    for (i = 0; i < omcf->policies.nelts; i++) {

        if (policy[i]->age == NULL) {
            continue;
        }

        age = policy[i]->age(policy[i]);

        p = ngx_sprintf(p, n++ ? ",\"" : "\"");
        p = ngx_oci_status_name(p, &policy[i]->name);

        if (age < 0) {
            p = ngx_sprintf(p, "\":{\"age_ms\":null}");

        } else {
            p = ngx_sprintf(p, "\":{\"age_ms\":%L}", age);
        }
    }

    return ngx_sprintf(p, "},");
}


/* of oci_notify */

static u_char *
ngx_oci_status_queues(u_char *p, ngx_oci_main_conf_t *omcf)
{
    ngx_uint_t            i, n;
    ngx_oci_queue_info_t  info;

    static struct {
        const char  *name;
        const char  *type;
        size_t       offset;
    } metrics[] = {
        { "notify_events", "gauge",
          offsetof(ngx_oci_queue_info_t, events) },
        { "notify_bytes", "gauge", offsetof(ngx_oci_queue_info_t, bytes) },
        { "notify_sent_total", "counter",
          offsetof(ngx_oci_queue_info_t, sent) },
        { "notify_failed_total", "counter",
          offsetof(ngx_oci_queue_info_t, failed) },
        { "notify_dropped_total", "counter",
          offsetof(ngx_oci_queue_info_t, dropped) }
    };

    for (n = 0; omcf->queue_info && n < 5; n++) {

        p = ngx_sprintf(p, "# TYPE nginx_oci_%s %s\n", metrics[n].name,
                        metrics[n].type);

        for (i = 0; omcf->queue_info(i, &info) == NGX_OK; i++) {

            p = ngx_sprintf(p, "nginx_oci_%s{queue=\"", metrics[n].name);
            p = ngx_oci_status_name(p, &info.name);
            p = ngx_sprintf(p, "\"} %uL\n",
                            *(uint64_t *) ((u_char *) &info
                                           + metrics[n].offset));
        }
    }

    return p;
}


static u_char *
ngx_oci_status_json_queues(u_char *p, ngx_oci_main_conf_t *omcf)
{
    ngx_uint_t            i;
    ngx_oci_queue_info_t  info;

    p = ngx_sprintf(p, "\"notify\":{");

    for (i = 0;
         omcf->queue_info && omcf->queue_info(i, &info) == NGX_OK;
         i++)
    {
        p = ngx_sprintf(p, i ? ",\"" : "\"");
        p = ngx_oci_status_name(p, &info.name);
        p = ngx_sprintf(p, "\":{\"events\":%uL,\"bytes\":%uL,\"sent\":%uL,"
                        "\"failed\":%uL,\"dropped\":%uL}", info.events,
                        info.bytes, info.sent, info.failed, info.dropped);
    }

    return ngx_sprintf(p, "},");
}


static u_char *
ngx_oci_status_wakeup(u_char *p, ngx_oci_stats_t *st)
{
    uint64_t    n, us;
    ngx_uint_t  i;

    p = ngx_sprintf(p, "# TYPE nginx_oci_wakeup_seconds histogram\n");
    n = 0;

    for (i = 0; i < NGX_OCI_STAT_BUCKETS; i++) {

        n += ngx_oci_status_get(st->wakeup_buckets[i]);

        if (i == NGX_OCI_STAT_BUCKETS - 1) {
            p = ngx_sprintf(p, "nginx_oci_wakeup_seconds_bucket"
                            "{le=\"+Inf\"} %uL\n", n);
            break;
        }

        us = (uint64_t) 16 << i;

        p = ngx_sprintf(p, "nginx_oci_wakeup_seconds_bucket"
                        "{le=\"%uL.%06uL\"} %uL\n",
                        us / 1000000, us % 1000000, n);
    }

    us = ngx_oci_status_get(st->wakeup_sum_us);

    return ngx_sprintf(p, "nginx_oci_wakeup_seconds_sum %uL.%06uL\n"
                       "nginx_oci_wakeup_seconds_count %uL\n",
                       us / 1000000, us % 1000000, n);
}
