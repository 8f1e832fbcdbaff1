
/*
 * Copyright (C) The nginx-oci authors
 *
 * Runs jobs: pulls a manifest, then all that it names, as a client of this
 * server would, and throws it away.  What a job says is there was so when it
 * was asked for.
 */


#include "ngx_oci_job_run.h"


#define NGX_OCI_JOB_TICK     500        /* ms */


static void ngx_oci_job_tick(ngx_event_t *ev);
static ngx_uint_t ngx_oci_job_running(ngx_oci_hook_conf_t *conf);
static ngx_int_t ngx_oci_job_begin(ngx_oci_hook_conf_t *conf);
static void ngx_oci_job_forget(void *data);
static ngx_int_t ngx_oci_job_whole(ngx_oci_job_run_t *run);
static ngx_int_t ngx_oci_job_pull(ngx_oci_job_run_t *run, ngx_uint_t i);
static const char *ngx_oci_job_route(ngx_oci_job_piece_t *piece);
static void ngx_oci_job_pulled(ngx_oci_pull_t *pull, ngx_int_t rc);
static void ngx_oci_job_answered(ngx_oci_job_run_t *run,
    ngx_oci_pull_t *pull, ngx_uint_t i);
static ngx_int_t ngx_oci_job_refused(ngx_oci_job_run_t *run,
    ngx_oci_pull_t *pull, ngx_uint_t i);
static void ngx_oci_job_manifest(ngx_oci_job_run_t *run,
    ngx_oci_pull_t *pull, ngx_uint_t i);
static void ngx_oci_job_parsed(ngx_oci_job_parse_t *parse, void *data,
    ngx_uint_t i);
static void ngx_oci_job_done(ngx_oci_job_run_t *run, ngx_uint_t i);
static void ngx_oci_job_measure(ngx_oci_job_run_t *run);
static ngx_int_t ngx_oci_job_look(ngx_oci_job_run_t *run,
    ngx_oci_job_piece_t *piece, ngx_oci_blob_info_t *info);
static void ngx_oci_job_tag(ngx_oci_job_run_t *run, ngx_oci_pull_t *pull,
    ngx_uint_t i);
static ngx_uint_t ngx_oci_job_status(ngx_oci_pull_t *pull, const char *text);
static ngx_uint_t ngx_oci_job_stored(ngx_oci_job_piece_t *piece,
    ngx_oci_pull_t *pull);
static void ngx_oci_job_again(ngx_oci_job_run_t *run, ngx_uint_t i,
    ngx_msec_t wait, const char *why);
static const char *ngx_oci_job_what(ngx_oci_job_piece_t *piece);
static void ngx_oci_job_fail(ngx_oci_job_run_t *run, const char *fmt, ...);
static void ngx_oci_job_stop(ngx_oci_job_run_t *run);


/* of this worker */

static ngx_queue_t                 ngx_oci_job_runs;
static ngx_event_t                 ngx_oci_job_timer;
static ngx_connection_t            ngx_oci_job_dummy;
static ngx_oci_hooks_main_conf_t  *ngx_oci_job_conf;


ngx_int_t
ngx_oci_job_run_init(ngx_cycle_t *cycle, ngx_oci_hooks_main_conf_t *hmcf)
{
    ngx_queue_init(&ngx_oci_job_runs);

    ngx_oci_job_conf = hmcf;
    ngx_oci_job_dummy.fd = (ngx_socket_t) -1;

    ngx_memzero(&ngx_oci_job_timer, sizeof(ngx_event_t));

    ngx_oci_job_timer.handler = ngx_oci_job_tick;
    ngx_oci_job_timer.data = &ngx_oci_job_dummy;
    ngx_oci_job_timer.log = cycle->log;
    ngx_oci_job_timer.cancelable = 1;

    ngx_add_timer(&ngx_oci_job_timer, NGX_OCI_JOB_TICK);

    ngx_oci_job_orphans(hmcf, cycle->log);
    ngx_oci_job_state_init(hmcf);

    return NGX_OK;
}


void
ngx_oci_job_run_soon(void)
{
    if (!ngx_exiting && !ngx_oci_job_timer.posted) {
        ngx_post_event(&ngx_oci_job_timer, &ngx_posted_next_events);
    }
}


static void
ngx_oci_job_tick(ngx_event_t *ev)
{
    ngx_uint_t                i, n;
    ngx_queue_t              *q, *next;
    ngx_oci_job_run_t        *run;
    ngx_oci_hook_conf_t     **conf;

    for (q = ngx_queue_head(&ngx_oci_job_runs);
         q != ngx_queue_sentinel(&ngx_oci_job_runs);
         q = next)
    {
        next = ngx_queue_next(q);
        run = ngx_queue_data(q, ngx_oci_job_run_t, queue);

        /* a worker that is to exit leaves it to the others */

        if (ngx_exiting && !run->released) {
            ngx_oci_job_release(&run->task);
            run->released = 1;
        }

        if (!run->released) {
            ngx_oci_job_measure(run);
        }

        if (!run->released
            && ngx_oci_job_progress(&run->task, &run->info) != NGX_OK)
        {
            run->released = 1;
        }

        if (run->released) {
            ngx_oci_job_stop(run);
            continue;
        }

        ngx_oci_job_go(run);
    }

    ngx_oci_job_peers_turn(&ngx_oci_job_runs);

    if (!ngx_exiting) {

        conf = ngx_oci_job_conf->hooks.elts;

        for (i = 0; i < ngx_oci_job_conf->hooks.nelts; i++) {
            n = ngx_oci_job_running(conf[i]);

            while (n < conf[i]->jobs
                   && ngx_oci_job_begin(conf[i]) == NGX_OK)
            {
                n++;
            }
        }
    }

    ev->cancelable = ngx_queue_empty(&ngx_oci_job_runs);

    if (!ngx_exiting || !ev->cancelable) {
        ngx_add_timer(ev, NGX_OCI_JOB_TICK);
    }
}


/* how many of a location's jobs: one waits for no other location's, nor for
   one that waits for peers, which may wait for it */

static ngx_uint_t
ngx_oci_job_running(ngx_oci_hook_conf_t *conf)
{
    ngx_uint_t          n;
    ngx_queue_t        *q;
    ngx_oci_job_run_t  *run;

    n = 0;

    for (q = ngx_queue_head(&ngx_oci_job_runs);
         q != ngx_queue_sentinel(&ngx_oci_job_runs);
         q = ngx_queue_next(q))
    {
        run = ngx_queue_data(q, ngx_oci_job_run_t, queue);
        n += (run->conf == conf && !run->waiting);
    }

    return n;
}


static ngx_int_t
ngx_oci_job_begin(ngx_oci_hook_conf_t *conf)
{
    ngx_int_t            rc;
    ngx_uint_t           i;
    ngx_pool_t          *pool;
    ngx_oci_job_run_t   *run;
    ngx_pool_cleanup_t  *cln;

    pool = ngx_create_pool(4096, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    run = ngx_pcalloc(pool, sizeof(ngx_oci_job_run_t));
    cln = ngx_pool_cleanup_add(pool, 0);

    if (run == NULL || cln == NULL
        || ngx_array_init(&run->pieces, pool, 64, sizeof(ngx_oci_job_piece_t))
           != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NGX_ERROR;
    }

    ngx_rbtree_init(&run->tree, &run->sentinel, ngx_str_rbtree_insert_value);

    cln->handler = ngx_oci_job_forget;
    cln->data = &run->task.authorization;

    run->pool = pool;
    run->conf = conf;

    for (i = 0; i < NGX_OCI_JOB_PULLS; i++) {
        run->pulls[i].run = run;
    }

    rc = ngx_oci_job_take(conf, pool, &run->task);

    if (rc != NGX_OK) {
        ngx_destroy_pool(pool);
        return rc;
    }

    if (ngx_oci_job_piece_push(run, NGX_OCI_JOB_PART, NGX_OCI_PIECE_MANIFEST,
                               &run->task.reference, 0)
        != NGX_OK
        || ngx_oci_job_peers_init(run) != NGX_OK)
    {
        ngx_oci_job_release(&run->task);
        ngx_destroy_pool(pool);
        return NGX_ERROR;
    }

    run->info.error.data = (u_char *) run->error;

    ngx_queue_insert_tail(&ngx_oci_job_runs, &run->queue);

    ngx_log_error(NGX_LOG_INFO, ngx_cycle->log, 0,
                  "preheat job %uL begins: \"%V\" of \"%V\"",
                  run->task.id, &run->task.reference, &run->task.repository);

    ngx_oci_job_go(run);

    return NGX_OK;
}


static void
ngx_oci_job_forget(void *data)
{
    ngx_str_t *authorization = data;

    ngx_explicit_memzero(authorization->data, authorization->len);
}


void
ngx_oci_job_go(ngx_oci_job_run_t *run)
{
    ngx_uint_t            i;
    ngx_oci_job_piece_t  *piece;

    if (run->ending) {
        return;
    }

    piece = run->pieces.elts;

    while (run->first < run->pieces.nelts
           && piece[run->first].done && !piece[run->first].unchecked)
    {
        run->first++;
    }

    if (ngx_oci_job_whole(run) == NGX_OK) {
        ngx_oci_job_over(run);
        return;
    }

    for (i = run->first;
         i < run->pieces.nelts
         && run->active - run->asking < NGX_OCI_JOB_PULLS;
         i++)
    {
        if ((piece[i].done && !piece[i].unchecked) || piece[i].pulled
            || (piece[i].due
                && (ngx_msec_int_t) (piece[i].due - ngx_current_msec) > 0))
        {
            continue;
        }

        if (ngx_oci_job_pull(run, i) != NGX_OK) {
            ngx_oci_job_again(run, i, 0, "no memory or connection for it");

            if (run->ending) {
                ngx_oci_job_over(run);
                return;
            }
        }
    }
}


/* NGX_OK: it is, here and at the peers, or can't be: it ends; NGX_AGAIN */

static ngx_int_t
ngx_oci_job_whole(ngx_oci_job_run_t *run)
{
    ngx_int_t    rc;
    ngx_uint_t   left;
    const char  *error;

    left = ngx_oci_job_peers_go(run);

    if (run->first < run->pieces.nelts) {
        return NGX_AGAIN;
    }

    run->waiting = (left != 0);

    if (left) {
        return NGX_AGAIN;
    }

    if (run->peer_error[0]) {
        ngx_oci_job_fail(run, "%s", run->peer_error);
        return NGX_OK;
    }

    rc = ngx_oci_job_check(run, &error);

    if (rc == NGX_DECLINED) {
        ngx_oci_job_fail(run, "%s", error);
        return NGX_OK;
    }

    if (rc == NGX_AGAIN || ngx_oci_job_peers_again(run)) {
        return NGX_AGAIN;
    }

    run->ending = 1;
    run->state = NGX_OCI_JOB_SUCCESS;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_job_pull(ngx_oci_job_run_t *run, ngx_uint_t i)
{
    u_char               *p;
    ngx_uint_t            n;
    ngx_str_t            *reference;
    ngx_oci_pull_t       *pull;
    ngx_oci_job_piece_t  *piece;

    piece = run->pieces.elts;
    piece += i;
    reference = &piece->reference;

    for (n = 0; n < NGX_OCI_JOB_PULLS && run->pulls[n].pull; n++) {
        /* void */
    }

    if (n == NGX_OCI_JOB_PULLS) {
        return NGX_ERROR;
    }

    pull = ngx_oci_core.pull_create(run->conf->server, ngx_cycle->log);
    if (pull == NULL) {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(pull->pool, sizeof("/v2//manifests/")       /* longest */
                                + run->task.repository.len + reference->len);
    if (p == NULL) {
        ngx_oci_core.pull_abort(pull);
        return NGX_ERROR;
    }

    pull->uri.data = p;
    pull->uri.len = ngx_sprintf(p, "/v2/%V/%s/%V", &run->task.repository,
                                ngx_oci_job_route(piece), reference)
                    - p;

    pull->host = run->conf->server->server_name;

    if (pull->host.len == 0) {
        ngx_str_set(&pull->host, "localhost");
    }

    pull->ssl = run->conf->ssl;
    pull->registry = run->conf->registry;
    pull->authorization = run->task.authorization;
    pull->pin = run->task.pin;

    /* no token came along: whoever is to fill is the next best */

    if (pull->authorization.len == 0 && pull->registry->fill
        && pull->registry->credentials == NGX_OCI_CREDENTIALS_CLIENT)
    {
        pull->authorization = pull->registry->fill->basic;
    }

    if (piece->kind == NGX_OCI_PIECE_MANIFEST) {
        ngx_str_set(&pull->accept, NGX_OCI_HOOK_ACCEPT);
        pull->max = NGX_OCI_MANIFEST_MAX;

    } else {
        pull->preheat = 1;
    }

    pull->data = &run->pulls[n];
    pull->done = ngx_oci_job_pulled;

    if (ngx_oci_core.pull_start(pull) != NGX_OK) {
        return NGX_ERROR;
    }

    run->pulls[n].pull = pull;
    run->pulls[n].piece = i;
    run->active++;
    piece->pulled = 1;

    return NGX_OK;
}


static const char *
ngx_oci_job_route(ngx_oci_job_piece_t *piece)
{
    return (piece->role == NGX_OCI_JOB_LIST) ? "referrers"
           : (piece->kind == NGX_OCI_PIECE_MANIFEST) ? "manifests" : "blobs";
}


static void
ngx_oci_job_pulled(ngx_oci_pull_t *pull, ngx_int_t rc)
{
    ngx_oci_job_pull_t *place = pull->data;

    ngx_uint_t            i;
    ngx_oci_job_run_t    *run;
    ngx_oci_job_piece_t  *piece;

    run = place->run;
    i = place->piece;

    place->pull = NULL;
    run->active--;

    piece = run->pieces.elts;
    piece[i].pulled = 0;

    if (run->ending) {
        ngx_oci_job_over(run);
        return;
    }

    if (rc == NGX_OK) {
        ngx_oci_job_answered(run, pull, i);

    } else if (rc == NGX_DECLINED && piece[i].role == NGX_OCI_JOB_PART) {
        ngx_oci_job_fail(run, "the manifest \"%V\" is too large",
                         &piece[i].reference);

    } else if (rc == NGX_DECLINED) {
        piece[i].missing = 1;
        ngx_oci_job_done(run, i);

    } else {
        ngx_oci_job_again(run, i, 0, "the answer was cut short");
    }

    if (run->ending) {
        ngx_oci_job_over(run);
        return;
    }

    ngx_oci_job_go(run);
}


static void
ngx_oci_job_answered(ngx_oci_job_run_t *run, ngx_oci_pull_t *pull,
    ngx_uint_t i)
{
    ngx_int_t             rc;
    ngx_oci_job_piece_t  *piece;

    if (pull->status != NGX_HTTP_OK) {

        rc = ngx_oci_job_refused(run, pull, i);

        if (rc != NGX_OK && rc != NGX_DECLINED) {
            ngx_oci_job_fail(run, "no memory for what refers to it");
        }

        return;
    }

    piece = run->pieces.elts;
    piece += i;

    if (piece->role == NGX_OCI_JOB_LIST) {
        ngx_oci_job_manifest(run, pull, i);
        return;
    }

    /* the disk may have failed just now, or all that is there be in use */

    if (!ngx_oci_job_stored(piece, pull)) {
        ngx_oci_job_again(run, i,
                          (ngx_msec_t) NGX_OCI_JOB_UNSTORED << piece->tries,
                          "it can't be stored here");
        return;
    }

    /* (of no bytes nothing is stored) */

    if (!ngx_oci_job_status(pull, "; hit")
        && (piece->kind == NGX_OCI_PIECE_MANIFEST || piece->size))
    {
        run->fetched = 1;
        run->losing |= (piece->unchecked
                        && piece->kind == NGX_OCI_PIECE_BLOB);

    } else {
        piece->hit = 1;
    }

    if (piece->unchecked) {
        piece->unchecked = 0;

    } else if (piece->kind == NGX_OCI_PIECE_BLOB) {
        ngx_oci_job_done(run, i);

    } else if (i == 0 || piece->role == NGX_OCI_JOB_TAGGED) {
        ngx_oci_job_tag(run, pull, i);

    } else {
        ngx_oci_job_manifest(run, pull, i);
    }
}


/* where a tag leads is looked for by its digest instead: a registry need not
   say again that the tag is the same.  What a list has is there only */

static void
ngx_oci_job_tag(ngx_oci_job_run_t *run, ngx_oci_pull_t *pull, ngx_uint_t i)
{
    ngx_int_t  rc;

    rc = ngx_oci_job_tagged(run, i, &pull->digest);

    if (rc == NGX_OK && i == 0) {
        ngx_oci_job_done(run, i);

    } else if (rc != NGX_ERROR) {
        ngx_oci_job_manifest(run, pull, i);

    } else {
        ngx_oci_job_again(run, i, 0, "no memory");
    }
}


/* NGX_OK: it may be so; NGX_DECLINED: it may not; or as
   ngx_oci_job_piece() */

static ngx_int_t
ngx_oci_job_refused(ngx_oci_job_run_t *run, ngx_oci_pull_t *pull,
    ngx_uint_t i)
{
    ngx_int_t             rc;
    ngx_oci_job_piece_t  *piece;

    rc = ngx_oci_job_unreferred(run, i, pull->status);

    if (rc != NGX_DECLINED) {

        piece = run->pieces.elts;
        piece += i;

        if (piece->unchecked) {

            /* the registry had it a moment ago */

            piece->unchecked = 0;

        } else if (rc == NGX_OK) {
            ngx_oci_job_done(run, i);
        }

        return rc;
    }

    piece = run->pieces.elts;
    piece += i;

    if (pull->status == NGX_HTTP_UNAUTHORIZED
        && ngx_oci_job_kept(piece))
    {
        /* the token has expired since */

        piece->unchecked = 0;
        return NGX_OK;
    }

    if (pull->status == NGX_HTTP_TOO_MANY_REQUESTS || pull->status >= 500) {
        ngx_oci_job_again(run, i, ngx_oci_job_retry_after(&pull->retry_after),
                          pull->status == 503
                          ? "it can't be fetched or stored now"
                          : "the registry failed");

    } else if (pull->status == NGX_HTTP_MISDIRECTED_REQUEST) {
        ngx_oci_job_fail(run, "the server does not pass \"%V\" to this "
                         "registry", &piece->reference);

    } else {
        ngx_oci_job_fail(run, "the registry answered %ui for %s\"%V\"%s",
                         pull->status, ngx_oci_job_what(piece),
                         &piece->reference,
                         pull->status != NGX_HTTP_UNAUTHORIZED ? ""
                         : run->task.authorization.len
                           ? ": the token is not accepted, or expired"
                           : ": it wants credentials");
    }

    return NGX_DECLINED;
}


static void
ngx_oci_job_manifest(ngx_oci_job_run_t *run, ngx_oci_pull_t *pull,
    ngx_uint_t i)
{
    ngx_str_t            *platforms;
    ngx_oci_job_piece_t  *piece;

    static ngx_str_t  all = ngx_null_string;

    piece = run->pieces.elts;
    piece += i;

    platforms = (piece->role == NGX_OCI_JOB_PART) ? &run->task.platforms
                                                  : &all;

    if (ngx_oci_job_parse(pull, platforms, NGX_OCI_JOB_PIECES,
                          ngx_oci_job_parsed, run, i)
        != NGX_OK)
    {
        ngx_oci_job_again(run, i, 0, "no memory");
        return;
    }

    /* the run stays until it is parsed */

    run->active++;
    piece->pulled = 1;
}


static void
ngx_oci_job_parsed(ngx_oci_job_parse_t *parse, void *data, ngx_uint_t i)
{
    ngx_oci_job_run_t *run = data;

    ngx_int_t             rc;
    ngx_oci_job_piece_t  *piece;

    run->active--;

    piece = run->pieces.elts;
    piece[i].pulled = 0;

    if (run->ending) {
        ngx_oci_job_over(run);
        return;
    }

    rc = ngx_oci_job_named(run, i, parse);

    if (rc == NGX_OK) {
        ngx_oci_job_done(run, i);

        if (ngx_oci_job_too_large(run)) {
            ngx_oci_job_fail(run, "it has %uL bytes, which can't be stored "
                             "here", run->parts);
        }

    } else {
        piece = run->pieces.elts;

        ngx_oci_job_fail(run, "the manifest \"%V\" can't be used: %s%s%s",
                         &piece[i].reference,
                         rc == NGX_DECLINED ? parse->error
                         : rc == NGX_BUSY ? "it names too much"
                                          : "no memory",
                         run->left_out[0] ? ", there is " : "",
                         run->left_out);
    }

    if (run->ending) {
        ngx_oci_job_over(run);
        return;
    }

    ngx_oci_job_go(run);
}


static void
ngx_oci_job_done(ngx_oci_job_run_t *run, ngx_uint_t i)
{
    ngx_oci_job_piece_t  *piece;
    ngx_oci_blob_info_t   info;

    piece = run->pieces.elts;
    piece += i;

    piece->done = 1;

    if (piece->role == NGX_OCI_JOB_LIST) {
        return;
    }

    if (piece->role == NGX_OCI_JOB_TAGGED) {

        if (!piece->missing && !piece->tag) {
            run->info.pieces++;
            run->info.pieces_done++;
        }

        return;
    }

    if (piece->missing) {
        run->info.pieces--;
        run->info.bytes -= piece->size;
        return;
    }

    run->info.pieces_done += !piece->tag;

    if (run->slice == 0) {
        (void) ngx_oci_job_look(run, piece, &info);
    }
}


/* what is there, and how fast it comes */

static void
ngx_oci_job_measure(ngx_oci_job_run_t *run)
{
    uint64_t              bytes, slices, rate;
    ngx_uint_t            i;
    ngx_msec_t            passed;
    ngx_oci_job_piece_t  *piece;
    ngx_oci_job_info_t   *info;
    ngx_oci_blob_info_t   blob;

    info = &run->info;
    piece = run->pieces.elts;

    info->bytes_done = 0;
    info->slices = 0;
    info->slices_done = 0;

    for (i = 0; i < run->pieces.nelts; i++) {

        if (piece[i].missing) {
            continue;
        }

        bytes = piece[i].done ? piece[i].size : 0;
        slices = 0;

        if (piece[i].pulled
            && ngx_oci_job_look(run, &piece[i], &blob) == NGX_OK)
        {
            bytes = ngx_min(blob.bytes, (uint64_t) piece[i].size);
            slices = blob.have;
        }

        info->bytes_done += bytes;

        if (run->slice && piece[i].kind == NGX_OCI_PIECE_BLOB) {
            info->slices += (piece[i].size + run->slice - 1) / run->slice;
            info->slices_done += piece[i].done
                                 ? (piece[i].size + run->slice - 1)
                                   / run->slice
                                 : slices;
        }
    }

    passed = ngx_current_msec - run->measured_at;

    if (run->measured_at && passed) {

        rate = (info->bytes_done > run->measured)
               ? (info->bytes_done - run->measured) * 1000 / passed : 0;
        info->rate = (info->rate * 3 + rate) / 4;
    }

    run->measured = info->bytes_done;
    run->measured_at = ngx_current_msec;
}


/* of a blob.  NGX_OK or NGX_DECLINED */

static ngx_int_t
ngx_oci_job_look(ngx_oci_job_run_t *run, ngx_oci_job_piece_t *piece,
    ngx_oci_blob_info_t *info)
{
    ngx_oci_digest_t      digest;
    ngx_oci_main_conf_t  *omcf;

    omcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_oci_module);

    if (piece->kind != NGX_OCI_PIECE_BLOB
        || ngx_oci_digest_parse(&digest, piece->reference.data,
                                piece->reference.len)
           != NGX_OK
        || omcf->blob_info(&digest, info) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    run->slice = info->slice;

    return NGX_OK;
}


static ngx_uint_t
ngx_oci_job_status(ngx_oci_pull_t *pull, const char *text)
{
    ngx_str_t  *status;

    status = &pull->cache_status;

    return status->len
           && ngx_strlcasestrn(status->data, status->data + status->len,
                               (u_char *) text, ngx_strlen(text) - 1)
              != NULL;
}


static ngx_uint_t
ngx_oci_job_stored(ngx_oci_job_piece_t *piece, ngx_oci_pull_t *pull)
{
    /* of no bytes nothing is stored, nor sent */

    if (piece->kind == NGX_OCI_PIECE_BLOB && piece->size == 0
        && pull->content_length <= 0)
    {
        return 1;
    }

    return ngx_oci_job_status(pull, "; stored")
           || ngx_oci_job_status(pull, "; hit");
}


/* once more, later: 1, 2, 4 ... s, and not before what was said */

static void
ngx_oci_job_again(ngx_oci_job_run_t *run, ngx_uint_t i, ngx_msec_t wait,
    const char *why)
{
    ngx_oci_job_piece_t  *piece;

    piece = run->pieces.elts;
    piece += i;

    run->info.errors++;

    if (++piece->tries == NGX_OCI_JOB_TRIES) {
        ngx_oci_job_fail(run, "%s\"%V\": %s", ngx_oci_job_what(piece),
                         &piece->reference, why);
        return;
    }

    piece->due = ngx_current_msec
                 + ngx_max(wait, (ngx_msec_t) 1000 << (piece->tries - 1));

    *ngx_snprintf((u_char *) run->error, NGX_OCI_JOB_ERROR - 1, "%s\"%V\": %s",
                  ngx_oci_job_what(piece), &piece->reference, why)
        = '\0';
}


/* for an error's text */

static const char *
ngx_oci_job_what(ngx_oci_job_piece_t *piece)
{
    return (piece->role == NGX_OCI_JOB_LIST) ? "the referrers of " : "";
}


static void
ngx_oci_job_fail(ngx_oci_job_run_t *run, const char *fmt, ...)
{
    u_char   *p;
    va_list   args;

    va_start(args, fmt);
    p = ngx_vslprintf((u_char *) run->error,
                      (u_char *) run->error + NGX_OCI_JOB_ERROR - 1, fmt,
                      args);
    va_end(args);

    *p = '\0';

    run->state = NGX_OCI_JOB_FAILURE;

    ngx_oci_job_stop(run);
}


/* nothing of it begins any more; who called it sees to its end */

static void
ngx_oci_job_stop(ngx_oci_job_run_t *run)
{
    ngx_uint_t  i;

    if (run->ending) {
        return;
    }

    run->ending = 1;

    for (i = 0; i < NGX_OCI_JOB_PULLS; i++) {
        if (run->pulls[i].pull) {
            ngx_oci_core.pull_abort(run->pulls[i].pull);
        }
    }

    ngx_oci_job_peers_abort(run);

    if (run->active == 0 && run->released) {
        ngx_oci_job_over(run);
    }
}


void
ngx_oci_job_over(ngx_oci_job_run_t *run)
{
    if (run->active) {
        return;
    }

    if (!run->released) {

        if (run->state == NGX_OCI_JOB_SUCCESS) {
            run->error[0] = '\0';
        }

        ngx_oci_job_measure(run);
        (void) ngx_oci_job_progress(&run->task, &run->info);
        ngx_oci_job_end(&run->task, run->state, run->error);
        ngx_oci_job_state_sync(run->conf, run->task.id);

        if (run->state == NGX_OCI_JOB_SUCCESS) {
            ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                          "preheat job %uL is done: \"%V\" of \"%V\", %ui "
                          "manifests and blobs, %uL bytes, %ui peers%s%s",
                          run->task.id, &run->task.reference,
                          &run->task.repository, run->info.pieces,
                          run->info.bytes, run->info.peers,
                          run->left_out[0] ? ", left out: " : "",
                          run->left_out);

        } else {
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                          "preheat job %uL failed: \"%V\" of \"%V\": %s",
                          run->task.id, &run->task.reference,
                          &run->task.repository, run->error);
        }

        ngx_oci_notify_job(run->conf, &run->task.repository,
                           &run->task.reference,
                           run->state == NGX_OCI_JOB_SUCCESS ? NULL
                                                             : run->error);
    }

    ngx_queue_remove(&run->queue);
    ngx_destroy_pool(run->pool);
}
