
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a run has in its buffers is written in a thread, one task at a time.
 */


#include "ngx_oci_fill.h"
#include "ngx_oci_room.h"


static void ngx_oci_run_write_task(void *data, ngx_log_t *log);
static void ngx_oci_run_write_done(void *data);
static void ngx_oci_run_unwritten(ngx_oci_run_t *run);


/*
 * Posts what has gathered, in order, one task at a time: the slice's CRC is
 * continued in the task.  flush: also a buffer that is not full.
 */

void
ngx_oci_run_write(ngx_oci_run_t *run, ngx_uint_t flush)
{
    ngx_oci_run_buf_t  *b;

    if (run->writing) {
        run->flush = (flush != 0);
        return;
    }

    run->flush = 0;

    if (run->head == run->tail) {

        b = &run->bufs[run->head % NGX_OCI_RUN_BUFFERS];

        if (!flush || b->size == 0) {
            return;
        }

        run->head++;
    }

    run->posted = run->head - run->tail;

    run->task.run = ngx_oci_run_write_task;
    run->task.done = ngx_oci_run_write_done;
    run->task.bulk = 1;

    if (ngx_oci_io_post(run->fill->blob->cache, &run->task) != NGX_OK) {
        ngx_oci_run_stop(run);
        return;
    }

    run->writing = 1;
}


static void
ngx_oci_run_write_task(void *data, ngx_log_t *log)
{
    ngx_oci_run_t *run = data;

    size_t              slice;
    uint64_t            last;
    ngx_uint_t          i;
    ngx_oci_blob_t     *blob;
    ngx_oci_run_buf_t  *b;

    blob = run->fill->blob;
    slice = blob->cache->slice;

    run->task_rc = NGX_OK;

    if (run->resumed) {
        run->resumed = 0;

        /* another run wrote the beginning of the slice */

        if (ngx_oci_store_crc(blob->store.fd, run->start,
                              run->written - run->start, &run->crc)
            != NGX_OK)
        {
            goto failed;
        }
    }

    for (i = 0; i < run->posted; i++) {

        b = &run->bufs[(run->tail + i) % NGX_OCI_RUN_BUFFERS];

        run->task_rc = ngx_oci_room_write(blob->cache, blob->store.fd,
                                          b->data, b->size, b->offset);

        if (run->task_rc == NGX_DECLINED) {
            return;
        }

        if (run->task_rc != NGX_OK) {
            goto failed;
        }

        if (b->offset % slice == 0) {
            run->crc = 0;
        }

        run->crc = ngx_oci_crc32c(run->crc, b->data, b->size);
        last = b->offset + b->size;

        if (last % slice && last != blob->size) {
            continue;
        }

        if (ngx_oci_store_record(blob->store.map, b->offset / slice,
                                 run->crc, NGX_OCI_SLICE_PRESENT)
            != NGX_OK)
        {
            goto failed;
        }
    }

    return;

failed:

    run->err = ngx_errno;
    run->task_rc = NGX_ERROR;
}


static void
ngx_oci_run_write_done(void *data)
{
    ngx_oci_run_t *run = data;

    size_t              slice;
    uint64_t            last, bytes;
    ngx_uint_t          i;
    ngx_oci_blob_t     *blob;
    ngx_oci_fill_t     *fill;
    ngx_oci_run_buf_t  *b;

    fill = run->fill;
    blob = fill->blob;
    slice = blob->cache->slice;

    bytes = 0;
    run->writing = 0;

    if (run->task_rc != NGX_OK) {
        ngx_oci_run_unwritten(run);
        return;
    }

    for (i = 0; i < run->posted; i++) {

        b = &run->bufs[run->tail % NGX_OCI_RUN_BUFFERS];
        last = b->offset + b->size;

        if (last % slice == 0 || last == blob->size) {
            ngx_oci_index_slice(blob->cache, blob->entry, b->offset / slice,
                                1);
        }

        run->written = last;
        ngx_oci_index_publish(blob->cache, blob->entry, run->i, run->start,
                              run->written, b->size);

        bytes += b->size;

        ngx_oci_fill_take(fill, b);

        b->size = 0;
        run->tail++;
    }

    ngx_oci_fill_progress(fill, bytes);

    if (run->stop) {
        ngx_oci_run_end(run, NGX_OK);
        return;
    }

    if (run->written == run->end) {
        ngx_oci_run_end(run, NGX_OK);
        return;
    }

    if (run->ex == NULL && run->written == run->pos && !run->retry) {

        /* the exchange broke while this was written */

        if (ngx_oci_fill_retry(fill, run, 0) != NGX_OK) {
            ngx_oci_run_end(run, NGX_ERROR);
        }

        return;
    }

    if (run->ex == NULL) {
        ngx_oci_run_write(run, 1);
        return;
    }

    /* with an exchange a run does not end in here */

    ngx_oci_run_write(run, run->flush);

    if (run->paused && run->ex) {
        run->paused = 0;
        ngx_oci_core.exchange_resume(run->ex);
    }
}


/* what comes is not stored any more: readers go on without the disk */

static void
ngx_oci_run_unwritten(ngx_oci_run_t *run)
{
    ngx_uint_t        level;
    ngx_oci_fill_t   *fill;
    ngx_oci_cache_t  *cache;

    fill = run->fill;
    cache = fill->blob->cache;

    if (run->task_rc == NGX_DECLINED) {

        if (!fill->disk) {
            ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                          "less than min_free is left in \"%V\", no more of "
                          "a blob is stored", &cache->path->name);
        }

    } else {
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);

        /* others fail for the same reason */

        level = ngx_oci_index_bypass(cache, NGX_OCI_RUN_BYPASS)
                ? NGX_LOG_CRIT : NGX_LOG_INFO;

        ngx_log_error(level, ngx_cycle->log, run->err,
                      "writing a blob in \"%V\" failed", &cache->path->name);
    }

    fill->disk = 1;

    ngx_oci_run_end(run, NGX_ERROR);
}
