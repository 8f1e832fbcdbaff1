
/*
 * Copyright (C) The nginx-oci authors
 *
 * Who asks: a subject and its secret, which is checked in a thread.
 */


#include "ngx_oci_policy.h"
#include "ngx_oci_work.h"


#define NGX_OCI_CHECK_THREADS  2
#define NGX_OCI_CHECK_MAX      32       /* of a worker, at a time */


/*
 * One secret that is checked, for all requests of the worker that wait for
 * it.  Owner: the thread pool's task; freed when it has come back, whether
 * anybody still waits or not.
 *
 * There is a place for so many only.  Where all are taken, a client that has
 * fewer than another one gets the last of that one's: so that who guesses
 * keeps nobody out.
 */

struct ngx_oci_check_s {
    ngx_queue_t             queue;          /* unless dropped */
    ngx_queue_t             waiters;        /* of ngx_oci_policy_ctx_t */
    uint64_t                client;         /* who came with it first */
    ngx_atomic_t            dropped;        /* the thread looks at it, too */
    ngx_event_t             drop;           /* posted then */
    ngx_oci_policy_conf_t  *pcf;
    ngx_oci_phc_t           phc;
    ngx_int_t               rc;
    ngx_oci_work_t          work;
    u_char                  mac[NGX_OCI_POLICY_MAC];
    size_t                  len;
    u_char                  secret[1];
};


static ngx_oci_check_t *ngx_oci_check_find(ngx_oci_policy_conf_t *pcf,
    u_char *mac);
static uint64_t ngx_oci_check_client(ngx_connection_t *c);
static ngx_oci_check_t *ngx_oci_check_last(uint64_t client);
static void ngx_oci_check_dropped(ngx_event_t *ev);
static void ngx_oci_check_resume_all(ngx_oci_check_t *check, ngx_int_t rc);
static ngx_oci_check_t *ngx_oci_check_create(ngx_oci_policy_conf_t *pcf,
    u_char *mac, ngx_oci_phc_t *phc, ngx_str_t *secret);
static void ngx_oci_check_thread(void *data);
static void ngx_oci_check_done(void *data);
static void ngx_oci_check_resume(ngx_oci_policy_ctx_t *ctx, ngx_int_t rc);
static void ngx_oci_check_free(ngx_oci_check_t *check);
static void ngx_oci_identity_leave(void *data);


static ngx_str_t           ngx_oci_check_pool = ngx_string("oci_policy");
static ngx_thread_pool_t  *ngx_oci_check_threads;
static ngx_queue_t         ngx_oci_checks;
static ngx_uint_t          ngx_oci_nchecks;


ngx_int_t
ngx_oci_identity_init_module(ngx_cycle_t *cycle)
{
    return ngx_oci_core.thread_pool(cycle, &ngx_oci_check_pool,
                                    NGX_OCI_CHECK_THREADS);
}


void
ngx_oci_identity_init_process(ngx_cycle_t *cycle)
{
    ngx_queue_init(&ngx_oci_checks);
    ngx_oci_nchecks = 0;
    ngx_oci_check_threads = ngx_thread_pool_get(cycle, &ngx_oci_check_pool);
}


ngx_int_t
ngx_oci_identity_basic(ngx_http_request_t *r, ngx_str_t *user,
    ngx_str_t *secret)
{
    size_t            i;
    ngx_str_t         text, value;
    ngx_table_elt_t  *h;

    h = r->headers_in.authorization;

    if (h == NULL) {
        return NGX_DECLINED;
    }

    value = h->value;

    if (value.len > NGX_OCI_AUTHORIZATION_MAX
        || value.len < sizeof("Basic ") - 1
        || ngx_strncasecmp(value.data, (u_char *) "Basic ",
                           sizeof("Basic ") - 1)
           != 0)
    {
        return NGX_ERROR;
    }

    value.data += sizeof("Basic ") - 1;
    value.len -= sizeof("Basic ") - 1;

    while (value.len && value.data[0] == ' ') {
        value.data++;
        value.len--;
    }

    if (value.len == 0) {
        return NGX_ERROR;
    }

    text.data = ngx_pnalloc(r->pool, ngx_base64_decoded_length(value.len));
    if (text.data == NULL) {
        return NGX_ERROR;
    }

    if (ngx_decode_base64(&text, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i < text.len; i++) {
        if (text.data[i] == ':') {
            break;
        }
    }

    if (i == text.len) {
        ngx_explicit_memzero(text.data, text.len);
        return NGX_ERROR;
    }

    user->data = text.data;
    user->len = i;
    secret->data = text.data + i + 1;
    secret->len = text.len - i - 1;

    /* so do clients that were told "Basic" and have no credentials */

    return (user->len || secret->len) ? NGX_OK : NGX_DECLINED;
}


ngx_int_t
ngx_oci_identity_check(ngx_http_request_t *r, ngx_oci_policy_ctx_t *ctx,
    ngx_oci_phc_t *phc, ngx_str_t *secret)
{
    uint64_t             client;
    ngx_oci_check_t     *check, *last;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    check = ngx_oci_check_find(ctx->policy, ctx->mac);

    if (check == NULL) {

        client = ngx_oci_check_client(r->connection);
        last = NULL;

        if (ngx_oci_nchecks >= NGX_OCI_CHECK_MAX) {
            last = ngx_oci_check_last(client);

            if (last == NULL) {
                return NGX_BUSY;
            }
        }

        check = ngx_oci_check_create(ctx->policy, ctx->mac, phc, secret);
        if (check == NULL) {
            return NGX_ERROR;
        }

        if (ngx_oci_work_post(ngx_oci_check_threads, &check->work) != NGX_OK)
        {
            ngx_oci_check_free(check);
            return NGX_BUSY;
        }

        if (last) {
            last->dropped = 1;
            ngx_queue_remove(&last->queue);
            ngx_oci_nchecks--;
            ngx_post_event(&last->drop, &ngx_posted_events);
        }

        check->client = client;

        ngx_queue_insert_tail(&ngx_oci_checks, &check->queue);
        ngx_oci_nchecks++;
    }

    ngx_queue_insert_tail(&check->waiters, &ctx->queue);
    ctx->request = r;
    ctx->waiting = 1;

    cln->handler = ngx_oci_identity_leave;
    cln->data = ctx;

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_AGAIN;
}


/* the request ends while it waits */

static void
ngx_oci_identity_leave(void *data)
{
    ngx_oci_policy_ctx_t *ctx = data;

    if (ctx->waiting) {
        ngx_queue_remove(&ctx->queue);
        ctx->waiting = 0;
    }
}


static ngx_oci_check_t *
ngx_oci_check_find(ngx_oci_policy_conf_t *pcf, u_char *mac)
{
    ngx_queue_t      *q;
    ngx_oci_check_t  *check;

    for (q = ngx_queue_head(&ngx_oci_checks);
         q != ngx_queue_sentinel(&ngx_oci_checks);
         q = ngx_queue_next(q))
    {
        check = ngx_queue_data(q, ngx_oci_check_t, queue);

        if (check->pcf == pcf
            && ngx_memcmp(check->mac, mac, NGX_OCI_POLICY_MAC) == 0)
        {
            return check;
        }
    }

    return NULL;
}


/* an address, or the network of one of IPv6 */

static uint64_t
ngx_oci_check_client(ngx_connection_t *c)
{
    uint64_t              client;
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    client = 0;

    switch (c->sockaddr->sa_family) {

#if (NGX_HAVE_INET6)
    case AF_INET6:
        sin6 = (struct sockaddr_in6 *) c->sockaddr;

        if (IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr)) {
            ngx_memcpy(&client, &sin6->sin6_addr.s6_addr[12], 4);

        } else {
            ngx_memcpy(&client, sin6->sin6_addr.s6_addr, 8);
        }

        break;
#endif

    case AF_INET:
        sin = (struct sockaddr_in *) c->sockaddr;
        ngx_memcpy(&client, &sin->sin_addr, 4);
        break;
    }

    return client;
}


/* the last one of who has most, and two more than this client; or NULL */

static ngx_oci_check_t *
ngx_oci_check_last(uint64_t client)
{
    ngx_uint_t        n, most, mine;
    ngx_queue_t      *q, *p;
    ngx_oci_check_t  *check, *other, *last;

    most = 0;
    mine = 0;
    last = NULL;

    for (q = ngx_queue_head(&ngx_oci_checks);
         q != ngx_queue_sentinel(&ngx_oci_checks);
         q = ngx_queue_next(q))
    {
        check = ngx_queue_data(q, ngx_oci_check_t, queue);
        mine += (check->client == client);

        /* how many has its client up to here? */

        n = 0;

        for (p = ngx_queue_head(&ngx_oci_checks);
             p != ngx_queue_next(q);
             p = ngx_queue_next(p))
        {
            other = ngx_queue_data(p, ngx_oci_check_t, queue);
            n += (other->client == check->client);
        }

        if (n > most) {
            most = n;
            last = check;
        }
    }

    return (most >= mine + 2) ? last : NULL;
}


static void
ngx_oci_check_dropped(ngx_event_t *ev)
{
    ngx_oci_check_resume_all(ev->data, NGX_BUSY);
}


static ngx_oci_check_t *
ngx_oci_check_create(ngx_oci_policy_conf_t *pcf, u_char *mac,
    ngx_oci_phc_t *phc, ngx_str_t *secret)
{
    ngx_oci_check_t  *check;

    check = ngx_calloc(sizeof(ngx_oci_check_t) + secret->len,
                       ngx_cycle->log);
    if (check == NULL) {
        return NULL;
    }

    ngx_queue_init(&check->waiters);

    check->pcf = pcf;
    check->phc = *phc;
    ngx_memcpy(check->mac, mac, NGX_OCI_POLICY_MAC);
    ngx_memcpy(check->secret, secret->data, secret->len);
    check->len = secret->len;

    check->drop.handler = ngx_oci_check_dropped;
    check->drop.data = check;
    check->drop.log = ngx_cycle->log;

    check->work.run = ngx_oci_check_thread;
    check->work.done = ngx_oci_check_done;
    check->work.data = check;
    check->work.slow = "the check of a secret takes longer than a minute";

    return check;
}


static void
ngx_oci_check_free(ngx_oci_check_t *check)
{
    ngx_explicit_memzero(check->secret, check->len);
    ngx_free(check);
}


static void
ngx_oci_check_thread(void *data)
{
    ngx_oci_check_t *check = data;

    if (check->dropped) {
        check->rc = NGX_BUSY;
        return;
    }

    check->rc = ngx_oci_phc_verify(&check->phc, check->secret, check->len);
}


static void
ngx_oci_check_done(void *data)
{
    ngx_oci_check_t *check = data;

    ngx_int_t  rc;

    rc = check->rc;

    if (check->dropped) {
        rc = NGX_BUSY;

        if (check->drop.posted) {
            ngx_delete_posted_event(&check->drop);
        }

    } else {
        ngx_queue_remove(&check->queue);
        ngx_oci_nchecks--;
    }

    if (rc == NGX_ERROR) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "a secret can't be checked: no memory?");

    } else if (rc != NGX_BUSY) {
        ngx_oci_remember_put(check->pcf, check->mac, rc == NGX_OK);
    }

    ngx_oci_check_resume_all(check, rc);

    ngx_oci_check_free(check);
}


/* any of them may end others, which then leave the queue */

static void
ngx_oci_check_resume_all(ngx_oci_check_t *check, ngx_int_t rc)
{
    ngx_queue_t           *q;
    ngx_oci_policy_ctx_t  *ctx;

    while (!ngx_queue_empty(&check->waiters)) {
        q = ngx_queue_head(&check->waiters);
        ngx_queue_remove(q);

        ctx = ngx_queue_data(q, ngx_oci_policy_ctx_t, queue);
        ngx_oci_check_resume(ctx, rc);
    }
}


static void
ngx_oci_check_resume(ngx_oci_policy_ctx_t *ctx, ngx_int_t rc)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    ctx->waiting = 0;
    ctx->checked = (rc == NGX_OK) ? NGX_OCI_CHECKED_GOOD
                   : (rc == NGX_DECLINED) ? NGX_OCI_CHECKED_BAD
                   : (rc == NGX_BUSY) ? NGX_OCI_CHECKED_BUSY
                                      : NGX_OCI_CHECKED_FAILED;

    /* the client left, and "post_action" has the request do something else */

    if (ngx_http_get_module_ctx(r, ngx_http_oci_policy_module) != ctx) {
        return;
    }

    ngx_http_set_log_request(c->log, r);

    r->read_event_handler = ngx_http_block_reading;

    if (ctx->resume) {
        ctx->resume(r);

    } else {
        r->write_event_handler = ngx_http_core_run_phases;
        ngx_http_core_run_phases(r);
    }

    ngx_http_run_posted_requests(c);
}
