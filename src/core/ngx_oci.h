
/*
 * Copyright (C) The nginx-oci authors
 *
 * What the modules share: the request context, the registries, upstream
 * exchanges and the core's table of functions.  Modules meet only here.
 */


#ifndef _NGX_OCI_H_INCLUDED_
#define _NGX_OCI_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>

#include "ngx_oci_compat.h"
#include "ngx_oci_route.h"
#include "ngx_oci_header.h"

#include <openssl/crypto.h>


#define NGX_OCI_VERSION             "0.1.0"
#define NGX_OCI_ABI                 15
#define NGX_OCI_BUILD               "nginx-oci/" NGX_OCI_VERSION " for "      \
                                    NGINX_VER

#define NGX_OCI_AUTHORIZATION_MAX   8192    /* bytes of a credential */
#define NGX_OCI_MANIFEST_MAX        (4 * 1024 * 1024)
#define NGX_OCI_JUDGE_MAX           (128 * 1024)    /* bytes at once */


/*
 * Ends each task of a thread pool in which OpenSSL may be used: frees what
 * OpenSSL keeps for the thread.  Else the thread frees that when it ends, and
 * an exiting worker does not wait for this: exit() frees it, too.
 */

#define ngx_oci_thread_leave()      OPENSSL_thread_stop()


typedef struct ngx_oci_registry_s  ngx_oci_registry_t;
typedef struct ngx_oci_exchange_s  ngx_oci_exchange_t;
typedef struct ngx_oci_names_s     ngx_oci_names_t;
typedef struct ngx_oci_ctx_s       ngx_oci_ctx_t;
typedef struct ngx_oci_judge_s     ngx_oci_judge_t;
typedef struct ngx_oci_pull_s      ngx_oci_pull_t;


/* whose credentials go upstream */

typedef enum {
    NGX_OCI_CREDENTIALS_CLIENT = 0,     /* the caller's Authorization */
    NGX_OCI_CREDENTIALS_STORED          /* the registry's own, token dance */
} ngx_oci_credentials_e;


typedef struct {
    ngx_str_t                       user;
    ngx_str_t                       password;
    ngx_str_t                       basic;      /* "Basic <base64>" */
} ngx_oci_credentials_t;


typedef struct {
    ngx_str_t                       from;   /* repository prefix at the edge */
    ngx_str_t                       to;     /* and at the upstream */
} ngx_oci_path_map_t;


typedef struct {
    ngx_str_t                       host;   /* lower case, without port */
    in_port_t                       port;   /* 0: any */
} ngx_oci_host_t;


/* one oci_registry{} block; lives as long as the cycle */

struct ngx_oci_registry_s {
    ngx_str_t                       name;
    ngx_uint_t                      index;      /* into the core's array */

    ngx_str_t                       scheme;     /* "http" or "https" */
    ngx_str_t                       host;       /* Host, SNI, verified name */
    ngx_str_t                       authority;  /* of url, as written */
    ngx_str_t                       group;      /* authority for proxy_pass:
                                                   the upstream{} to use, or
                                                   the name to resolve */
    ngx_str_t                       public_url;

    ngx_http_upstream_srv_conf_t   *upstream;   /* of group; NULL: names */
    ngx_oci_names_t                *names;      /* of a host that is resolved
                                                   at run time, or NULL */
    ngx_oci_url_t                  *receiver;   /* of an endpoint by
                                                   receiver(); or NULL */
    ngx_http_upstream_conf_t        conf;       /* of exchanges to group */
    ngx_http_upstream_conf_t        redirect_conf;  /* to other hosts */
    ngx_http_conf_ctx_t            *ctx;        /* of a location that passes
                                                   here: for exchanges; NULL
                                                   if there is none */

    ngx_uint_t                      credentials;    /* ..._credentials_e */
    ngx_oci_credentials_t          *stored;         /* or NULL */
    ngx_oci_credentials_t          *fill;           /* or NULL */

    ngx_array_t                    *paths;      /* of ngx_oci_path_map_t */
    ngx_array_t                    *realm_allow;    /* of ngx_oci_host_t */
    ngx_array_t                    *redirect_allow; /* of ngx_oci_host_t */
    ngx_array_t                    *address_allow;  /* of ngx_cidr_t: what
                                                   these names may be; or
                                                   NULL */

    ngx_msec_t                      connect_timeout;
    ngx_msec_t                      stall_timeout;  /* no progress for */
    ngx_uint_t                      max_connections;    /* of fills, over all
                                                   workers */
    off_t                           rate;       /* bytes/s, likewise; 0: no
                                                   limit */

    ngx_str_t                       trusted_certificate;
    ngx_array_t                    *proxy;      /* of ngx_array_t * of
                                                   ngx_str_t: proxy_* lines */

    u_char                          health_key[16];
    void                           *health;     /* ngx_oci_health.c's record
                                                   in shared memory, or NULL */
    void                           *watch;      /* and what a worker does
                                                   while the breaker is open */

    unsigned                        ssl:1;
    unsigned                        ssl_verify:1;
    unsigned                        breaker:1;
    unsigned                        endpoint:1; /* none: a URL for exchanges,
                                                   by endpoint() or
                                                   receiver() */
};


typedef enum {
    NGX_OCI_CACHE_NONE = 0,         /* not a cacheable request */
    NGX_OCI_CACHE_HIT,
    NGX_OCI_CACHE_MISS,
    NGX_OCI_CACHE_PARTIAL,
    NGX_OCI_CACHE_JOIN,
    NGX_OCI_CACHE_STALE,
    NGX_OCI_CACHE_REVALIDATED,
    NGX_OCI_CACHE_BYPASS,
    NGX_OCI_CACHE_N
} ngx_oci_cache_status_e;


typedef enum {
    NGX_OCI_VERIFY_NONE = 0,
    NGX_OCI_VERIFY_OFF,
    NGX_OCI_VERIFY_PENDING,
    NGX_OCI_VERIFY_VERIFIED,
    NGX_OCI_VERIFY_MISMATCH
} ngx_oci_verify_status_e;


/*
 * An oci_policy{} block of the policy module, which "oci_access" names; lives
 * as long as the cycle.
 *
 * What a cache is about to send is judged by it, where ctx->judge says so:
 * both functions return NGX_OK: it may be sent; NGX_DECLINED: it was refused,
 * and the request is to be finalized with j->rc; NGX_AGAIN: handler() follows
 * from the event loop, unless the request ends first, and then the same
 * function is to be called again.
 */

typedef struct ngx_oci_policy_s  ngx_oci_policy_t;

struct ngx_oci_policy_s {
    ngx_str_t                       name;
    void                           *data;       /* the policy module's */

    /* since its document was known to be current, in ms; -1: there is none;
       NULL: it always is */
    int64_t                       (*age)(ngx_oci_policy_t *policy);
    /* all of a manifest, verified */
    ngx_int_t                     (*manifest)(ngx_oci_judge_t *j);

    /*
     * A blob, before its first byte: any, or all, of it may be asked for.
     * NGX_BUSY: bytes start to end are to be brought to body, and blob() to be
     * called again.
     */
    ngx_int_t                     (*blob)(ngx_oci_judge_t *j);

    /*
     * Of what a registry answers past any cache only the digest may be known,
     * or nothing (NULL).  NULL: it may be sent; else what the client is told,
     * which is constant or in the request's pool.
     */
    const char                   *(*unseen)(ngx_http_request_t *r,
                                      ngx_oci_ctx_t *ctx,
                                      ngx_oci_digest_t *digest);

    /* of a location with oci_pass: NULL, or why it can't be used there; NULL:
       always */
    const char                   *(*check)(ngx_conf_t *cf,
                                      ngx_oci_policy_t *policy);

    /* of a request that was let in: see ngx_oci_core.may() */
    ngx_int_t                     (*may)(ngx_http_request_t *r,
                                      ngx_oci_policy_t *policy,
                                      ngx_str_t *repository,
                                      ngx_uint_t quiet);

    /* content handler of "oci_token policy=": NULL: it issues no tokens */
    ngx_int_t                     (*token)(ngx_http_request_t *r,
                                      ngx_oci_policy_t *policy);

    ngx_uint_t                      unmapped;   /* repositories have the same
                                                   names at the registry:
                                                   whoever issues tokens has
                                                   no others */
    ngx_uint_t                      mixed;      /* somebody or nobody may come:
                                                   only tokens are for both */
    ngx_uint_t                      foreign;    /* the registry's are taken */
};


/* what else than the registry's API a location is for: a right of its own */

typedef enum {
    NGX_OCI_DUTY_STATUS = 0,
    NGX_OCI_DUTY_PREHEAT,
    NGX_OCI_DUTY_PURGE
} ngx_oci_duty_e;


/* what becomes of a denial */

typedef enum {
    NGX_OCI_MAY_ANSWER = 0,
    NGX_OCI_MAY_QUIET,          /* NGX_ERROR instead, and nothing is said */
    NGX_OCI_MAY_HIDE            /* NGX_ERROR instead, which logs tell; the
                                   answer is that of what is not there */
} ngx_oci_may_e;


typedef struct {
    ngx_uint_t                      what;       /* ngx_oci_duty_e */
    ngx_http_handler_pt             handler;    /* of the content, where a
                                                   policy allows it or there
                                                   is none */
    /* the one that the URI names, which lives as long as the request.  NULL,
       or NGX_DECLINED: it names none */
    ngx_int_t                     (*repository)(ngx_http_request_t *r,
                                      ngx_str_t *repository);
} ngx_oci_duty_t;


/* Owner: who asks; it stays as long as the request */

struct ngx_oci_judge_s {
    ngx_http_request_t             *request;
    ngx_oci_ctx_t                  *ctx;
    ngx_oci_digest_t                digest;
    ngx_str_t                       media_type; /* of a manifest */
    ngx_oci_digest_t               *former;     /* where its tag led before;
                                                   NULL: not known */
    u_char                         *body;
    size_t                          size;       /* bytes of it */
    off_t                           start;      /* of a blob: what is wanted, */
    off_t                           end;        /* NGX_OCI_JUDGE_MAX at most */
    off_t                           blob_size;  /* bytes */
    ngx_uint_t                      verified;   /* is the blob now? */

    void                          (*handler)(ngx_oci_judge_t *j);
    void                           *data;

    ngx_int_t                       rc;
    void                           *state;      /* the policy module's; NULL
                                                   at first */
};


/* the request context, r->ctx of ngx_http_oci_module */

struct ngx_oci_ctx_s {
    ngx_oci_route_t                 route;
    ngx_oci_registry_t             *registry;
    ngx_str_t                       repository; /* at the upstream, mapped */
    ngx_str_t                       uri;        /* at the upstream, with
                                                   query */
    ngx_str_t                       authorization;  /* the caller's value or
                                                       "" */
    ngx_uint_t                      cache_status;   /* ..._cache_status_e */
    ngx_uint_t                      verify_status;  /* ..._verify_status_e */
    off_t                           upstream_bytes; /* body bytes fetched on
                                                       behalf of this */
    ngx_str_t                       upstream_authorization; /* passed on:
                                        what proxy_set_header sends */
    void                           *cache;      /* the cache module's state, */
    void                           *push;       /* and that of a push */
    ngx_oci_policy_t               *allowed;    /* this request, or NULL */
    ngx_uint_t                      judge;      /* with it: what is sent has
                                                   to be judged first */
    const char                     *unseen;     /* why an answer is not passed
                                                   on, or NULL */
    ngx_buf_t                      *unseen_body;    /* instead of it */
    ngx_uint_t                      unseen_sent;
    ngx_uint_t                      bare;       /* with it: the query is not
                                                   passed on */
    ngx_uint_t                      authorized; /* that is known */
    ngx_msec_t                      passed;     /* on, at (ms) */
    ngx_uint_t                      status;     /* of a malformed URI, or
                                                   0 */
    ngx_uint_t                      code;       /* and what is wrong */
    u_char                          buf[NGX_OCI_DIGEST_LEN];
};


/*
 * Exchanges.  One logical exchange with a registry: a request, the token
 * dance (stored credentials only), redirects under redirect_allow, the
 * response's body.  Detached from any client; runs on a fake request of its
 * own with ngx_http_upstream.
 *
 * Owner: whoever called exchange_create(), until done() was called, after
 * which the exchange is freed by itself; its pool goes with it.  Neither
 * header() nor body() is called after exchange_abort().
 */

typedef struct {
    ngx_uint_t                      status;
    off_t                           content_length; /* -1: not sent */
    off_t                           range_start;    /* 206: parsed and well */
    off_t                           range_end;      /* formed, else -1; one */
    off_t                           range_total;    /* past the last; "*" -1 */
    ngx_str_t                       content_type;
    ngx_str_t                       content_encoding;
    ngx_str_t                       docker_content_digest;
    ngx_str_t                       etag;
    ngx_str_t                       www_authenticate;
    ngx_str_t                       location;
    ngx_str_t                       retry_after;
    ngx_str_t                       link;
    ngx_str_t                       warning;
    unsigned                        redirected:1;   /* from another host */
} ngx_oci_response_t;


struct ngx_oci_exchange_s {
    /* set by exchange_create() */
    ngx_pool_t                     *pool;
    ngx_oci_registry_t             *registry;
    ngx_log_t                      *log;

    /* set by the owner before exchange_start(); strings must live in pool
       (exchange_create() sets everything to "none") */
    ngx_uint_t                      method;     /* NGX_HTTP_GET, _HEAD, _POST,
                                                   which has a body */
    ngx_str_t                       uri;        /* path and query */
    ngx_str_t                       repository; /* at the upstream; for the
                                                   scope of the dance */
    ngx_uint_t                      credentials;    /* ..._credentials_e */
    ngx_oci_credentials_t          *stored;     /* with ..._STORED; NULL:
                                                   anonymous dance */
    ngx_str_t                       authorization;  /* with ..._CLIENT; in
                                                       pool, wiped with it */
    ngx_str_t                       accept;     /* "": not sent */
    ngx_str_t                       headers;    /* more lines, each with its
                                                   CRLF; wiped with pool */
    ngx_str_t                       body;       /* of POST; likewise */
    ngx_msec_t                      timeout;    /* ms, of all of it, then
                                                   done(NGX_BUSY); 0: none */
    ngx_uint_t                      quiet;      /* nothing is logged */
    off_t                           range_start;    /* -1: no Range */
    off_t                           range_end;  /* one past the last byte;
                                                   -1: open-ended */
    /*
     * Where a former exchange for the same was redirected to, or "".  That is
     * asked first, without credentials; where it does not answer, or with a
     * 4xx (but 408 and 429), the registry is asked after all, once.  From
     * header() on: the URL of the last redirect that was followed to another
     * host, "" if there was none.  It may be a secret.
     */
    ngx_str_t                       target;

    void                           *data;

    /*
     * The response's header is there (of the last HTTP exchange: neither a
     * redirect that was followed nor a 401 that was answered).  NGX_OK goes
     * on with the body, anything else ends the exchange with NGX_ABORT.
     */
    ngx_int_t                     (*header)(ngx_oci_exchange_t *ex);

    /*
     * Gives a place for body bytes: *p and *size (> 0).  NGX_OK; NGX_AGAIN
     * pauses reading until exchange_resume() (back-pressure; stall_timeout
     * stops meanwhile); NGX_ERROR ends the exchange with NGX_ABORT.
     */
    ngx_int_t                     (*buffer)(ngx_oci_exchange_t *ex,
                                      u_char **p, size_t *size);

    /*
     * n bytes stand at the place given last.  idle: the socket has nothing
     * more for now, a good time to write out what has gathered.  Also called
     * with n == 0 and idle 1.  NGX_OK or NGX_ERROR as above.
     */
    ngx_int_t                     (*received)(ngx_oci_exchange_t *ex,
                                      size_t n, ngx_uint_t idle);

    /*
     * Called exactly once, from the event loop, never from inside
     * exchange_start() or any other function of this table.
     * NGX_OK: the body ended as announced.  NGX_ERROR: connect failed, reset,
     * short body, TLS failure, malformed response.  NGX_BUSY: stalled or
     * timed out.  NGX_ABORT: the owner ended it, by exchange_abort() or a
     * callback's return.  in.status is 0 if there was no response.
     */
    void                          (*done)(ngx_oci_exchange_t *ex,
                                      ngx_int_t rc);

    ngx_oci_response_t              in;
    off_t                           received_bytes; /* of the body, so far */

    void                           *priv;       /* ngx_oci_exchange.c's */
};


/*
 * Pulls by the edge itself: one request, as a client's, to a server{} of this
 * configuration, past its access phase.
 *
 * Owner: whoever called pull_create(), until done() returned, after which it
 * is freed by itself, with what it gives.
 */

typedef enum {
    NGX_OCI_PULL_NOT = 0,           /* a client's request */
    NGX_OCI_PULL_BODY,
    NGX_OCI_PULL_PREHEAT
} ngx_oci_pull_e;


struct ngx_oci_pull_s {
    /* set by pull_create() */
    ngx_pool_t                     *pool;
    ngx_log_t                      *log;
    ngx_http_core_srv_conf_t       *server;

    /* set by the owner before pull_start(); strings must live until then */
    ngx_oci_registry_t             *registry;   /* the one that it is for: 421
                                        if the server passes it elsewhere */
    ngx_uint_t                      method;     /* NGX_HTTP_GET or _HEAD */
    ngx_str_t                       uri;
    ngx_str_t                       host;
    ngx_str_t                       accept;     /* "": not sent */
    ngx_str_t                       authorization;  /* "": not sent */
    size_t                          max;        /* bytes of the body */
    ngx_uint_t                      ssl;        /* $scheme is https, as it
                                        would be for a client */
    ngx_uint_t                      preheat;    /* of a blob: the answer comes
                                        without a body, once all of it is
                                        stored and verified; its cache_status
                                        says whether it is */
    time_t                          pin;        /* what it brings is kept until
                                        then, if it can be; 0: as all else */
    void                           *data;

    /*
     * Called exactly once, from the event loop.  NGX_OK: status and what
     * follows; NGX_DECLINED: the body has more than max bytes; NGX_ERROR: the
     * answer came to no end; NGX_ABORT: by pull_abort().
     */
    void                          (*done)(ngx_oci_pull_t *pull,
                                      ngx_int_t rc);

    ngx_uint_t                      status;
    off_t                           content_length; /* -1: not sent */
    ngx_str_t                       content_type;
    ngx_str_t                       digest;     /* Docker-Content-Digest */
    ngx_str_t                       cache_status;   /* RFC 9211 */
    ngx_str_t                       retry_after;
    u_char                         *body;
    size_t                          size;       /* bytes of it */

    void                           *priv;       /* ngx_oci_pull.c's */
};


/* statistics, in shared memory of the core, summed over all workers */

typedef enum {
    NGX_OCI_STAT_VERIFY_FAILURES = 0,
    NGX_OCI_STAT_JOINED,
    NGX_OCI_STAT_WAKEUP_FALLBACKS,
    NGX_OCI_STAT_FILLS_STARTED,
    NGX_OCI_STAT_FILLS_DONE,
    NGX_OCI_STAT_FILLS_FAILED,
    NGX_OCI_STAT_SENT_HIT,              /* bytes by cache status */
    NGX_OCI_STAT_SENT_MISS,
    NGX_OCI_STAT_SENT_BYPASS,
    NGX_OCI_STAT_EVICTED_BYTES,
    NGX_OCI_STAT_DISK_ERRORS,
    NGX_OCI_STAT_SCRUBBED_BYTES,
    NGX_OCI_STAT_SCRUB_ROTTEN,          /* slices */
    NGX_OCI_STAT_AUDIT_LOST,            /* records */
    NGX_OCI_STAT_N
} ngx_oci_stat_e;

#define NGX_OCI_STAT_REGISTRIES     64
#define NGX_OCI_STAT_CODES          24
#define NGX_OCI_STAT_BUCKETS        16

typedef struct {
    uint32_t                        abi;
    uint32_t                        size;       /* sizeof of this struct */
    uint64_t                        counters[NGX_OCI_STAT_N];
    uint64_t                        upstream_bytes[NGX_OCI_STAT_REGISTRIES];
    uint64_t                        requests[NGX_OCI_ROUTE_N]
                                            [NGX_OCI_STAT_CODES]
                                            [NGX_OCI_CACHE_N];
    uint64_t                        wakeup_buckets[NGX_OCI_STAT_BUCKETS];
    uint64_t                        wakeup_sum_us;
    uint64_t                        wakeup_count;
} ngx_oci_stats_t;


/*
 * The cache module's hook: called for GET and HEAD of blobs and manifests.
 * Returns NGX_DECLINED to have the request passed through, or what a content
 * handler returns.
 */
typedef ngx_int_t (*ngx_oci_content_pt)(ngx_http_request_t *r,
    ngx_oci_ctx_t *ctx);


/*
 * The cache module's hook: a registry answered 2xx to PUT or DELETE of a
 * manifest, or to DELETE of a blob, that was passed on; called before the
 * client sees the answer.
 */
typedef void (*ngx_oci_changed_pt)(ngx_http_request_t *r, ngx_oci_ctx_t *ctx);


/*
 * The cache module's hooks: POST, PUT, PATCH or DELETE is about to be passed
 * on, its body is still to be read; and has been answered by the registry, or
 * by an error: what it said is as it came, and changed() was called.
 */
typedef void (*ngx_oci_push_pt)(ngx_http_request_t *r, ngx_oci_ctx_t *ctx);


/*
 * The cache module's hook: how old, in s, may what is known be that is used
 * in place of this answer of the registry's, an error (502, 504: of the
 * core's own)?  0: it may not be used.
 */
typedef time_t (*ngx_oci_stale_pt)(ngx_http_request_t *r, ngx_uint_t status);


/* a cache zone, for oci_status */

typedef struct {
    ngx_str_t                       name;
    uint64_t                        bytes;      /* stored */
    uint64_t                        reserved;   /* that fills may store */
    uint64_t                        max_size;   /* bytes; 0: no limit */
    uint64_t                        room;       /* for all that is stored, in
                                                   bytes, at most */
    uint64_t                        blobs;
    uint64_t                        fills;      /* under way */
} ngx_oci_zone_info_t;

/* what stands in zone i.  NGX_OK, or NGX_DECLINED: there is no such zone */
typedef ngx_int_t (*ngx_oci_zone_info_pt)(ngx_uint_t i,
    ngx_oci_zone_info_t *info);


/* how much of a blob is there, in whatever zone.  NGX_OK, or NGX_DECLINED: no
   zone knows it */

typedef struct {
    uint64_t                        bytes;      /* stored */
    uint64_t                        slice;      /* bytes */
    ngx_uint_t                      slices;
    ngx_uint_t                      have;       /* of them */
} ngx_oci_blob_info_t;

typedef ngx_int_t (*ngx_oci_blob_info_pt)(ngx_oci_digest_t *digest,
    ngx_oci_blob_info_t *info);


/* a queue of notifications, for oci_status */

typedef struct {
    ngx_str_t                       name;
    uint64_t                        events;     /* that wait */
    uint64_t                        bytes;      /* of its files */
    uint64_t                        sent;       /* events that were taken */
    uint64_t                        failed;     /* tries that failed */
    uint64_t                        dropped;    /* events */
} ngx_oci_queue_info_t;

/* of queue i.  NGX_OK, or NGX_DECLINED: there is no such one */
typedef ngx_int_t (*ngx_oci_queue_info_pt)(ngx_uint_t i,
    ngx_oci_queue_info_t *info);


/*
 * The cache module's hooks: a text of the policy module's beside a manifest.
 * beside_place(): where those of the request's location are kept, NULL:
 * nowhere; it lives as long as the cycle.  beside() reads or writes; NGX_OK:
 * handler() follows from the event loop, with a copy; NGX_ERROR: it does not.
 */

#define NGX_OCI_BESIDE_MAX  (1024 * 1024)   /* bytes */

typedef struct ngx_oci_beside_s  ngx_oci_beside_t;

struct ngx_oci_beside_s {
    ngx_oci_digest_t                digest;     /* of the manifest */
    ngx_uint_t                      write;
    u_char                         *text;       /* written: the caller's, it
                                                   stays until then; read:
                                                   malloc()ed, handler()'s */
    size_t                          len;
    ngx_int_t                       rc;     /* NGX_OK; NGX_DECLINED: there is
                                               none, or no place for it;
                                               NGX_ERROR: logged */
    void                          (*handler)(ngx_oci_beside_t *beside);
    void                           *data;
};

typedef void *(*ngx_oci_beside_place_pt)(ngx_http_request_t *r);
typedef ngx_int_t (*ngx_oci_beside_pt)(void *place,
    ngx_oci_beside_t *beside);


typedef struct {
    ngx_array_t                     registries; /* of ngx_oci_registry_t * */
    ngx_array_t                     endpoints;  /* likewise */
    ngx_array_t                     policies;   /* of ngx_oci_policy_t *: set
                                                   by the policy module */
    ngx_oci_content_pt              content;    /* set by the cache module in
                                                   its postconfiguration */
    ngx_oci_changed_pt              changed;    /* likewise */
    ngx_oci_stale_pt                stale;      /* likewise */
    ngx_oci_zone_info_pt            zone_info;  /* likewise */
    ngx_oci_blob_info_pt            blob_info;  /* likewise */
    ngx_oci_beside_place_pt         beside_place;   /* likewise */
    ngx_oci_beside_pt               beside;     /* likewise */
    ngx_oci_push_pt                 push;       /* likewise */
    ngx_oci_push_pt                 pushed;     /* likewise */
    ngx_oci_queue_info_pt           queue_info; /* by the hooks module */
    ngx_shm_zone_t                 *stats_zone;
    ngx_shm_zone_t                 *health_zone;
} ngx_oci_main_conf_t;


typedef struct {
    ngx_uint_t                      abi;
    const char                     *build;

    /* NULL where memory is short; log: of the cycle or the worker */
    ngx_oci_exchange_t           *(*exchange_create)(
                                      ngx_oci_registry_t *registry,
                                      ngx_log_t *log);
    /* NGX_OK: done() will be called; NGX_ERROR: it will not, the exchange
       is freed */
    ngx_int_t                     (*exchange_start)(ngx_oci_exchange_t *ex);
    /* reading goes on after buffer() said NGX_AGAIN; harmless otherwise */
    void                          (*exchange_resume)(ngx_oci_exchange_t *ex);
    /* ends it; done(NGX_ABORT) follows from the event loop.  Before
       exchange_start(): frees it at once, without done() */
    void                          (*exchange_abort)(ngx_oci_exchange_t *ex);

    /* NULL: no memory; log: of the cycle or the worker */
    ngx_oci_pull_t               *(*pull_create)(
                                      ngx_http_core_srv_conf_t *server,
                                      ngx_log_t *log);
    /* NGX_OK: done() will be called; NGX_ERROR: it will not, it is freed */
    ngx_int_t                     (*pull_start)(ngx_oci_pull_t *pull);
    /* ends it; done(NGX_ABORT) follows from the event loop.  Before
       pull_start(): frees it at once, without done() */
    void                          (*pull_abort)(ngx_oci_pull_t *pull);
    /* is a request one of these?  ngx_oci_pull_e */
    ngx_uint_t                    (*pull_own)(ngx_http_request_t *r);
    /* its pin, 0 also for a client's */
    time_t                        (*pull_pin)(ngx_http_request_t *r);

    /*
     * Hands a request that a content handler holds (NGX_DONE returned,
     * r->main->count raised) to the pass-through.  May finalize r: return
     * at once; from an event, ngx_http_run_posted_requests() follows.
     */
    void                          (*pass)(ngx_http_request_t *r);

    /*
     * Answers with an OCI error body (distribution-spec, "Error Codes");
     * returns what a content handler returns.  message: plain text, is
     * escaped; NULL: the code's own text.
     */
    ngx_int_t                     (*error)(ngx_http_request_t *r,
                                      ngx_uint_t status, ngx_uint_t code,
                                      const char *message);

    /* the same with "Retry-After", in s */
    ngx_int_t                     (*error_retry)(ngx_http_request_t *r,
                                      ngx_uint_t status, ngx_uint_t code,
                                      const char *message, time_t after);

    /* answers with such a body, which is not copied; returns the same */
    ngx_int_t                     (*answer)(ngx_http_request_t *r,
                                      ngx_uint_t status, ngx_str_t *json);

    /* answers with what is in b, of that content type (a literal), where the
       request's body is read or discarded; returns the same */
    ngx_int_t                     (*send)(ngx_http_request_t *r,
                                      ngx_uint_t status, const char *type,
                                      ngx_buf_t *b);

    /*
     * The context of a request, made on first use.  *status is 0, or that of
     * the error to report with *code: then there is no route.  NULL: no
     * memory.
     */
    ngx_oci_ctx_t                *(*request)(ngx_http_request_t *r,
                                      ngx_uint_t *status, ngx_uint_t *code);

    /*
     * The policy of the request's location, NULL: none.  Without
     * ctx->allowed the request is refused there.
     */
    ngx_oci_policy_t             *(*policy)(ngx_http_request_t *r);
    /* with one: it only says what it would do, nobody is refused */
    ngx_uint_t                    (*dry_run)(ngx_http_request_t *r);

    /*
     * From a directive: the location is for that, and its content too; duty is
     * constant.  duty(): that of a request's location, NULL: it has none.
     * decided(), from a location's merging: does a policy decide there, not in
     * a dry run?
     */
    void                          (*duty_set)(ngx_conf_t *cf,
                                      const ngx_oci_duty_t *duty);
    const ngx_oci_duty_t         *(*duty)(ngx_http_request_t *r);
    ngx_uint_t                    (*decided)(ngx_conf_t *cf);

    /*
     * With a duty, of which more than the URI tells: is it for this repository
     * that the caller has the right?  NGX_DECLINED: it is, or no policy
     * decides; else the request was answered, as a content handler returns.
     * quiet: an ngx_oci_may_e.
     */
    ngx_int_t                     (*may)(ngx_http_request_t *r,
                                      ngx_str_t *repository,
                                      ngx_uint_t quiet);

    /*
     * The URL of the server's oci_token location, as the client addresses the
     * server, in the request's pool: that of the policy, or with NULL that of
     * the registry which the request is for.  NGX_OK; NGX_DECLINED: there is
     * none; NGX_ERROR: no memory.
     */
    ngx_int_t                     (*realm)(ngx_http_request_t *r,
                                      ngx_oci_policy_t *policy,
                                      ngx_str_t *realm);

    /* as "thread_pool name threads=n;", unless there is one of that name;
       from init_module.  NGX_OK or NGX_ERROR, which was logged */
    ngx_int_t                     (*thread_pool)(ngx_cycle_t *cycle,
                                      ngx_str_t *name, ngx_int_t n);

    /* the one of that name in a configuration, also in one that is being
       read; NULL: there is none */
    ngx_oci_registry_t           *(*registry)(ngx_oci_main_conf_t *omcf,
                                      ngx_str_t *name);

    /*
     * A URL that exchanges may be made with which are no registry's, from a
     * location's directive: in that location, to that address only, and
     * nowhere that is redirected to.  *uri: its path.  trusted: a file with
     * certificates; "": those of the system.  NULL: logged.
     */
    ngx_oci_registry_t           *(*endpoint)(ngx_conf_t *cf, ngx_str_t *url,
                                      ngx_str_t *trusted, ngx_str_t *uri);

    /*
     * The same of a directive that is in no location: its host is resolved at
     * run time, and a name that leads to the edge itself or to link-local
     * addresses is not used.  url and the strings stay.  NULL: logged.
     */
    ngx_oci_registry_t           *(*receiver)(ngx_conf_t *cf, ngx_str_t *name,
                                      ngx_oci_url_t *url, ngx_str_t *trusted,
                                      ngx_msec_t timeout);
    /* when all of the configuration was read: the server whose resolver is
       used.  NGX_OK; NGX_DECLINED: it would need one, and has none */
    ngx_int_t                     (*receiver_server)(
                                      ngx_oci_registry_t *receiver,
                                      ngx_http_conf_ctx_t *server);

    /*
     * Does a fill from this registry's repository, with the caller's
     * credentials, have to wait before it asks for anything?  In ms, 0: no.
     * *down: the registry is out of reach, it is not known for how long.
     */
    ngx_msec_t                    (*wait)(ngx_oci_registry_t *registry,
                                      ngx_str_t *repository,
                                      ngx_str_t *authorization,
                                      ngx_uint_t *down);

    /*
     * A place for a fill's exchange among the registry's max_connections, to
     * be given back by place_free().  NGX_OK; NGX_AGAIN: none is free, and
     * *ticket (0 at first) keeps the caller's turn, who asks again every 100
     * ms or gives it up by place_leave().
     */
    ngx_int_t                     (*place)(ngx_oci_registry_t *registry,
                                      uint64_t *ticket);
    void                          (*place_free)(ngx_oci_registry_t *registry);
    void                          (*place_leave)(ngx_oci_registry_t *registry,
                                      uint64_t *ticket);
    /* does anybody wait for one? */
    ngx_uint_t                    (*place_wanted)(
                                      ngx_oci_registry_t *registry);

    /* a repository's name at the registry: *mapped is name, or in pool.
       NGX_OK or NGX_ERROR */
    ngx_int_t                     (*map)(ngx_oci_registry_t *registry,
                                      ngx_pool_t *pool, ngx_str_t *name,
                                      ngx_str_t *mapped);

    /* NULL before the zone is there */
    ngx_oci_stats_t              *(*stats)(void);

    /* what the statistics' places stand for */
    ngx_str_t                     (*code_name)(ngx_uint_t i);
    ngx_str_t                     (*route_name)(ngx_uint_t route);
    ngx_str_t                     (*cache_name)(ngx_uint_t status);
} ngx_oci_core_t;


extern ngx_module_t    ngx_http_oci_module;
extern ngx_oci_core_t  ngx_oci_core;


#define ngx_oci_stat_add(id, n)                                               \
    do {                                                                      \
        ngx_oci_stats_t  *st_ = ngx_oci_core.stats();                         \
        if (st_) {                                                            \
            (void) __atomic_fetch_add(&st_->counters[id], (uint64_t) (n),     \
                                      __ATOMIC_RELAXED);                      \
        }                                                                     \
    } while (0)


#endif /* _NGX_OCI_H_INCLUDED_ */
