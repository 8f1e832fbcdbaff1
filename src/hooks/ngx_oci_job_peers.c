
/*
 * Copyright (C) The nginx-oci authors
 *
 * The same job at other edges: posted to each of them as Harbor would, for
 * that edge only, and asked for until it has ended there.  So it comes back
 * from nowhere, and is a success when all of them have said that it is.
 */


#include "ngx_oci_job_run.h"


#define NGX_OCI_JOB_POLL    1000        /* ms */
#define NGX_OCI_JOB_ANSWER  16384       /* bytes of a peer's */
#define NGX_OCI_JOB_ASKED   32          /* at once, by a worker */
#define NGX_OCI_JOB_IN_TIME 30000       /* ms, for all of it */
#define NGX_OCI_JOB_AGO     30000       /* ms, then what was warm may have
                                           gone */


typedef enum {
    NGX_OCI_FAR_NEW = 0,        /* the peer does not know of it */
    NGX_OCI_FAR_THERE,
    NGX_OCI_FAR_WARM,
    NGX_OCI_FAR_FAILED
} ngx_oci_far_state_e;


/* at one peer.  Owner: the run, in whose pool it is */

struct ngx_oci_job_far_s {
    ngx_oci_job_run_t     *run;
    ngx_oci_job_peer_t    *peer;
    ngx_oci_exchange_t    *exchange;    /* NULL: none is under way */
    u_char                *answer;      /* in its pool */
    size_t                 size;        /* bytes of it */
    ngx_uint_t             state;       /* ngx_oci_far_state_e */
    json_int_t             id;          /* once it is there */
    ngx_uint_t             tries;       /* in a row, that failed */
    ngx_msec_t             due;         /* ms */
    ngx_msec_t             warm;        /* ms, when it was */
    ngx_uint_t             again;       /* it was told once more since */
};


static void ngx_oci_job_far_ask(ngx_oci_job_far_t *far);
static ngx_oci_exchange_t *ngx_oci_job_far_exchange(ngx_oci_job_far_t *far);
static ngx_int_t ngx_oci_job_far_post(ngx_oci_job_far_t *far,
    ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_job_far_header(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_job_far_buffer(ngx_oci_exchange_t *ex, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_job_far_received(ngx_oci_exchange_t *ex, size_t n,
    ngx_uint_t idle);
static void ngx_oci_job_far_done(ngx_oci_exchange_t *ex, ngx_int_t rc);
static void ngx_oci_job_far_answered(ngx_oci_job_far_t *far,
    ngx_oci_exchange_t *ex);
static void ngx_oci_job_far_refused(ngx_oci_job_far_t *far,
    ngx_oci_exchange_t *ex);
static void ngx_oci_job_far_state(ngx_oci_job_far_t *far, json_t *job);
static const char *ngx_oci_job_far_error(json_t *job);
static void ngx_oci_job_far_again(ngx_oci_job_far_t *far, ngx_msec_t wait,
    const char *why);
static void ngx_oci_job_far_fail(ngx_oci_job_far_t *far, const char *why);


/* exchanges of this worker: jobs that wait may be many, and connections are
   for clients */

static ngx_uint_t  ngx_oci_job_asked;


ngx_int_t
ngx_oci_job_peers_init(ngx_oci_job_run_t *run)
{
    ngx_uint_t           i;
    ngx_array_t         *peers;
    ngx_oci_job_peer_t  *peer;

    peers = run->conf->peers;

    if (peers == NULL || run->task.alone) {
        return NGX_OK;
    }

    run->far = ngx_pcalloc(run->pool,
                           peers->nelts * sizeof(ngx_oci_job_far_t));
    if (run->far == NULL) {
        return NGX_ERROR;
    }

    peer = peers->elts;

    for (i = 0; i < peers->nelts; i++) {
        run->far[i].run = run;
        run->far[i].peer = &peer[i];
        run->far[i].due = ngx_current_msec;
    }

    run->info.peers = peers->nelts;

    return NGX_OK;
}


ngx_uint_t
ngx_oci_job_peers_go(ngx_oci_job_run_t *run)
{
    ngx_uint_t          i, left;
    ngx_oci_job_far_t  *far;

    left = 0;
    run->behind = 0;

    for (i = 0; i < run->info.peers; i++) {

        far = &run->far[i];

        if (far->state != NGX_OCI_FAR_NEW && far->state != NGX_OCI_FAR_THERE)
        {
            continue;
        }

        if (far->exchange == NULL
            && (ngx_msec_int_t) (far->due - ngx_current_msec) <= 0)
        {
            if (ngx_oci_job_asked < NGX_OCI_JOB_ASKED) {
                ngx_oci_job_far_ask(far);

            } else {
                run->behind = 1;
            }
        }

        left += (far->state != NGX_OCI_FAR_FAILED);
    }

    return left;
}


void
ngx_oci_job_peers_turn(ngx_queue_t *runs)
{
    ngx_queue_t        *q;
    ngx_oci_job_run_t  *run;

    for (q = ngx_queue_head(runs);
         q != ngx_queue_sentinel(runs);
         q = ngx_queue_next(q))
    {
        run = ngx_queue_data(q, ngx_oci_job_run_t, queue);

        if (run->behind) {
            ngx_queue_remove(runs);
            ngx_queue_insert_tail(q, runs);
            return;
        }
    }
}


ngx_uint_t
ngx_oci_job_peers_again(ngx_oci_job_run_t *run)
{
    ngx_uint_t          i, n;
    ngx_oci_job_far_t  *far;

    n = 0;

    for (i = 0; i < run->info.peers; i++) {

        far = &run->far[i];

        if (far->state == NGX_OCI_FAR_WARM && !far->again
            && ngx_current_msec - far->warm > NGX_OCI_JOB_AGO)
        {
            far->state = NGX_OCI_FAR_NEW;
            far->again = 1;
            far->tries = 0;
            far->due = ngx_current_msec;
            run->info.peers_done--;
            n++;
        }
    }

    return n;
}


void
ngx_oci_job_peers_abort(ngx_oci_job_run_t *run)
{
    ngx_uint_t  i;

    for (i = 0; i < run->info.peers; i++) {
        if (run->far[i].exchange) {
            ngx_oci_core.exchange_abort(run->far[i].exchange);
        }
    }
}


static void
ngx_oci_job_far_ask(ngx_oci_job_far_t *far)
{
    ngx_oci_exchange_t  *ex;

    ex = ngx_oci_job_far_exchange(far);

    if (ex == NULL || ngx_oci_core.exchange_start(ex) != NGX_OK) {
        ngx_oci_job_far_again(far, 0, "no memory or connection for it");
        return;
    }

    far->exchange = ex;
    far->run->active++;
    far->run->asking++;
    ngx_oci_job_asked++;
}


static ngx_oci_exchange_t *
ngx_oci_job_far_exchange(ngx_oci_job_far_t *far)
{
    u_char              *p;
    ngx_str_t           *uri, *header;
    ngx_oci_exchange_t  *ex;

    uri = &far->peer->uri;
    header = &far->peer->header;

    ex = ngx_oci_core.exchange_create(far->peer->endpoint, ngx_cycle->log);
    if (ex == NULL) {
        return NULL;
    }

    ex->uri.data = ngx_pnalloc(ex->pool, uri->len + sizeof("oapi/v1/jobs/")
                                         + NGX_INT64_LEN);
    p = ngx_pnalloc(ex->pool, header->len
                              + sizeof("Content-Type: application/json" CRLF));
    far->answer = ngx_pnalloc(ex->pool, NGX_OCI_JOB_ANSWER);

    if (ex->uri.data == NULL || p == NULL || far->answer == NULL) {
        ngx_oci_core.exchange_abort(ex);
        return NULL;
    }

    far->size = 0;

    ex->headers.data = p;
    p = ngx_sprintf(p, "%V", header);

    if (far->state == NGX_OCI_FAR_NEW) {
        p = ngx_sprintf(p, "Content-Type: application/json" CRLF);
        ex->uri.len = ngx_sprintf(ex->uri.data, "%Voapi/v1/jobs", uri)
                      - ex->uri.data;
        ex->method = NGX_HTTP_POST;

    } else {
        ex->uri.len = ngx_sprintf(ex->uri.data, "%Voapi/v1/jobs/%L", uri,
                                  (int64_t) far->id)
                      - ex->uri.data;
        ex->method = NGX_HTTP_GET;
    }

    ex->headers.len = p - ex->headers.data;

    ngx_str_set(&ex->accept, "application/json");
    ngx_str_set(&ex->repository, "");
    ngx_str_set(&ex->authorization, "");
    ex->timeout = NGX_OCI_JOB_IN_TIME;
    ex->data = far;
    ex->header = ngx_oci_job_far_header;
    ex->buffer = ngx_oci_job_far_buffer;
    ex->received = ngx_oci_job_far_received;
    ex->done = ngx_oci_job_far_done;

    if (ex->method == NGX_HTTP_POST && ngx_oci_job_far_post(far, ex) != NGX_OK)
    {
        ngx_oci_core.exchange_abort(ex);
        return NULL;
    }

    return ex;
}


/*
 * As Harbor's driver sends it, with the registry's own names.  Names and
 * platforms have nothing that would have to be escaped; the token, if one came
 * along, is for the peer what it is here, and goes nowhere else.
 */

static ngx_int_t
ngx_oci_job_far_post(ngx_oci_job_far_t *far, ngx_oci_exchange_t *ex)
{
    u_char              *p;
    size_t               len;
    ngx_str_t            name, platforms, *token;
    ngx_oci_job_run_t   *run;
    ngx_oci_job_task_t  *task;

    run = far->run;
    task = &run->task;
    token = &task->authorization;
    platforms = task->platforms;

    if (platforms.len == 0) {
        ngx_str_set(&platforms, "all");
    }

    if (ngx_oci_core.map(run->conf->registry, ex->pool, &task->repository,
                         &name)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    len = sizeof("{\"type\":\"preheat\",\"args\":{\"type\":\"image\","
                 "\"scope\":\"single_seed_peer\",\"url\":\"/v2//manifests/\","
                 "\"platform\":\"\",\"headers\":{\"Authorization\":\"\"}}}")
          + name.len + task->reference.len + platforms.len + token->len
          + ngx_escape_json(NULL, token->data, token->len);

    p = ngx_pnalloc(ex->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ex->body.data = p;

    p = ngx_sprintf(p, "{\"type\":\"preheat\",\"args\":{\"type\":\"image\","
                    "\"scope\":\"single_seed_peer\","
                    "\"url\":\"/v2/%V/manifests/%V\",\"platform\":\"%V\","
                    "\"headers\":{", &name, &task->reference, &platforms);

    if (token->len) {
        p = ngx_sprintf(p, "\"Authorization\":\"");
        p = (u_char *) ngx_escape_json(p, token->data, token->len);
        *p++ = '"';
    }

    ex->body.len = ngx_sprintf(p, "}}}") - ex->body.data;

    return NGX_OK;
}


/* an error's text is for people, but here they are who reads it */

static ngx_int_t
ngx_oci_job_far_header(ngx_oci_exchange_t *ex)
{
    return NGX_OK;
}


static ngx_int_t
ngx_oci_job_far_buffer(ngx_oci_exchange_t *ex, u_char **p, size_t *size)
{
    ngx_oci_job_far_t *far = ex->data;

    *p = far->answer + far->size;
    *size = NGX_OCI_JOB_ANSWER - far->size;

    return *size ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_oci_job_far_received(ngx_oci_exchange_t *ex, size_t n, ngx_uint_t idle)
{
    ngx_oci_job_far_t *far = ex->data;

    far->size += n;

    return NGX_OK;
}


static void
ngx_oci_job_far_done(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_job_far_t *far = ex->data;

    ngx_oci_job_run_t  *run;

    run = far->run;

    far->exchange = NULL;
    run->active--;
    run->asking--;
    ngx_oci_job_asked--;

    if (run->ending) {
        ngx_oci_job_over(run);
        return;
    }

    if (rc != NGX_OK) {
        ngx_oci_job_far_again(far, 0, rc == NGX_BUSY
                                      ? "it does not answer in time"
                                      : "it can't be reached");

    } else if (ex->in.status < NGX_HTTP_OK
               || ex->in.status >= NGX_HTTP_SPECIAL_RESPONSE)
    {
        ngx_oci_job_far_refused(far, ex);

    } else {
        ngx_oci_job_far_answered(far, ex);
    }

    ngx_oci_job_go(run);
}


static void
ngx_oci_job_far_answered(ngx_oci_job_far_t *far, ngx_oci_exchange_t *ex)
{
    json_t        *job, *id;
    json_error_t   err;

    job = json_loadb((char *) far->answer, far->size, 0, &err);
    id = json_object_get(job, "id");

    if (!json_is_integer(id) || json_integer_value(id) < 0) {
        ngx_oci_job_far_again(far, 0, "its answer is no job");

    } else if (far->state == NGX_OCI_FAR_NEW) {
        far->state = NGX_OCI_FAR_THERE;
        far->id = json_integer_value(id);
        far->due = ngx_current_msec + NGX_OCI_JOB_POLL;

    } else {
        ngx_oci_job_far_state(far, job);
    }

    json_decref(job);
}


static void
ngx_oci_job_far_refused(ngx_oci_job_far_t *far, ngx_oci_exchange_t *ex)
{
    u_char      text[sizeof("it answered ") + NGX_INT_T_LEN];
    ngx_uint_t  status;

    status = ex->in.status;

    /* it was started again, and knows nothing any more */

    if (status == NGX_HTTP_NOT_FOUND && far->state == NGX_OCI_FAR_THERE) {
        far->state = NGX_OCI_FAR_NEW;
        ngx_oci_job_far_again(far, 0, "it forgets its jobs");
        return;
    }

    if (status == NGX_HTTP_UNAUTHORIZED) {
        ngx_oci_job_far_fail(far, "it does not accept the secret");
        return;
    }

    *ngx_sprintf(text, "it answered %ui", status) = '\0';

    if (status == NGX_HTTP_TOO_MANY_REQUESTS
        || status == NGX_HTTP_REQUEST_TIME_OUT
        || status >= NGX_HTTP_INTERNAL_SERVER_ERROR)
    {
        ngx_oci_job_far_again(far,
                              ngx_oci_job_retry_after(&ex->in.retry_after),
                              (char *) text);
        return;
    }

    ngx_oci_job_far_fail(far, (char *) text);
}


static void
ngx_oci_job_far_state(ngx_oci_job_far_t *far, json_t *job)
{
    json_t      *value;
    const char  *state, *error;

    value = json_object_get(job, "state");
    state = json_is_string(value) ? json_string_value(value) : "";

    if (strcmp(state, "SUCCESS") == 0) {
        far->state = NGX_OCI_FAR_WARM;
        far->warm = ngx_current_msec;
        far->run->info.peers_done++;

    } else if (strcmp(state, "FAILURE") == 0) {
        error = ngx_oci_job_far_error(job);

        /* it was started again, and would go on: the token is here */

        if (strcmp(error, NGX_OCI_JOB_NO_TOKEN) == 0) {
            far->state = NGX_OCI_FAR_NEW;
            ngx_oci_job_far_again(far, 0, NGX_OCI_JOB_NO_TOKEN);

        } else {
            ngx_oci_job_far_fail(far, error);
        }

    } else if (strcmp(state, "PENDING") == 0) {
        far->tries = 0;
        far->due = ngx_current_msec + NGX_OCI_JOB_POLL;

    } else {
        ngx_oci_job_far_again(far, 0, "its answer is no job");
    }
}


static const char *
ngx_oci_job_far_error(json_t *job)
{
    json_t  *value;

    value = json_object_get(json_object_get(job, "result"), "job_states");
    value = json_object_get(json_array_get(value, 0), "error");

    return json_is_string(value) ? json_string_value(value) : "it failed";
}


static void
ngx_oci_job_far_again(ngx_oci_job_far_t *far, ngx_msec_t wait,
    const char *why)
{
    ngx_oci_job_run_t  *run;

    run = far->run;
    run->info.errors++;

    if (++far->tries == NGX_OCI_JOB_TRIES) {
        ngx_oci_job_far_fail(far, why);
        return;
    }

    far->due = ngx_current_msec
               + ngx_max(wait, (ngx_msec_t) 1000 << (far->tries - 1));

    *ngx_snprintf((u_char *) run->error, NGX_OCI_JOB_ERROR - 1,
                  "peer \"%V\": %s", &far->peer->url, why)
        = '\0';
}


/* the others go on, and so does this edge: what can be warm will be; the first
   one that can't is told */

static void
ngx_oci_job_far_fail(ngx_oci_job_far_t *far, const char *why)
{
    u_char             *p, text[NGX_OCI_JOB_ERROR];
    ngx_oci_job_run_t  *run;

    run = far->run;
    far->state = NGX_OCI_FAR_FAILED;

    (void) ngx_cpystrn(text, (u_char *) why, sizeof(text));

    for (p = text; *p; p++) {
        if (*p < 0x20 || *p >= 0x7f) {
            *p = '?';
        }
    }

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "preheat job %uL failed at peer \"%V\": %s", run->task.id,
                  &far->peer->url, text);

    if (run->peer_error[0]) {
        return;
    }

    p = ngx_slprintf((u_char *) run->peer_error,
                     (u_char *) run->peer_error + NGX_OCI_JOB_ERROR - 1,
                     "peer \"%V\": %s", &far->peer->url, text);
    *p = '\0';
}
