
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a job's manifest names, found by a thread: a large one takes longer
 * than the event loop may stand still.
 */


#include "ngx_oci_hooks.h"
#include "ngx_oci_pieces.h"


static void ngx_oci_job_parse_thread(void *data, ngx_log_t *log);
static ngx_int_t ngx_oci_job_parse_piece(void *data, ngx_uint_t kind,
    const char *digest, size_t digest_len, off_t size);
static void ngx_oci_job_parse_inline(ngx_event_t *ev);
static void ngx_oci_job_parse_done(ngx_event_t *ev);


static ngx_str_t  ngx_oci_job_parse_pool = ngx_string("default");


ngx_int_t
ngx_oci_job_parse(ngx_oci_pull_t *pull, ngx_str_t *platforms,
    ngx_uint_t max,
    void (*done)(ngx_oci_job_parse_t *parse, void *data, ngx_uint_t i),
    void *data, ngx_uint_t i)
{
    ngx_thread_pool_t    *threads;
    ngx_oci_job_parse_t  *parse;

    parse = ngx_calloc(sizeof(ngx_oci_job_parse_t), ngx_cycle->log);
    if (parse == NULL) {
        return NGX_ERROR;
    }

    parse->text = (char *) pull->body;
    parse->size = pull->size;
    parse->max = max;
    parse->platforms = platforms;
    parse->done = done;
    parse->data = data;
    parse->i = i;

    pull->body = NULL;

    parse->thread.ctx = parse;
    parse->thread.handler = ngx_oci_job_parse_thread;
    parse->thread.event.data = parse;
    parse->thread.event.handler = ngx_oci_job_parse_done;
    parse->thread.event.log = ngx_cycle->log;

    threads = ngx_thread_pool_get((ngx_cycle_t *) ngx_cycle,
                                  &ngx_oci_job_parse_pool);

    if (threads == NULL
        || ngx_thread_task_post(threads, &parse->thread) != NGX_OK)
    {
        /* the queue is full: slower, but it goes on */

        parse->thread.event.handler = ngx_oci_job_parse_inline;
        ngx_post_event(&parse->thread.event, &ngx_posted_events);
    }

    return NGX_OK;
}


/* in a thread: nothing of the worker's is touched */

static void
ngx_oci_job_parse_thread(void *data, ngx_log_t *log)
{
    ngx_oci_job_parse_t *parse = data;

    parse->rc = ngx_oci_pieces(parse->text ? parse->text : "", parse->size,
                               parse->platforms, ngx_oci_job_parse_piece,
                               parse, &parse->error);
}


static ngx_int_t
ngx_oci_job_parse_piece(void *data, ngx_uint_t kind, const char *digest,
    size_t digest_len, off_t size)
{
    ngx_oci_job_parse_t *parse = data;

    ngx_uint_t            room;
    ngx_oci_job_found_t  *found;

    if (parse->n == parse->max) {
        return NGX_BUSY;
    }

    if (parse->n == parse->room) {
        room = parse->room ? 2 * parse->room : 16;
        found = realloc(parse->found, room * sizeof(ngx_oci_job_found_t));

        if (found == NULL) {
            return NGX_ERROR;
        }

        parse->found = found;
        parse->room = room;
    }

    found = &parse->found[parse->n++];

    found->kind = kind;
    found->size = size;
    found->len = ngx_min(digest_len, NGX_OCI_DIGEST_LEN);
    ngx_memcpy(found->digest, digest, found->len);
    found->hash = ngx_crc32_short(found->digest, found->len);

    return NGX_OK;
}


static void
ngx_oci_job_parse_inline(ngx_event_t *ev)
{
    ngx_oci_job_parse_t *parse = ev->data;

    ngx_oci_job_parse_thread(parse, ev->log);
    ngx_oci_job_parse_done(ev);
}


static void
ngx_oci_job_parse_done(ngx_event_t *ev)
{
    ngx_oci_job_parse_t *parse = ev->data;

    parse->done(parse, parse->data, parse->i);

    free(parse->text);
    free(parse->found);
    ngx_free(parse);
}
