
/*
 * Copyright (C) The nginx-oci authors
 *
 * A run that fetches nothing: it reads a slice of an earlier boot again.
 */


#include "ngx_oci_fill.h"


static void ngx_oci_run_check_task(void *data, ngx_log_t *log);
static ngx_int_t ngx_oci_run_check_slice(ngx_oci_run_t *run, size_t slice,
    uint32_t *crc);
static void ngx_oci_run_check_done(void *data);


ngx_int_t
ngx_oci_run_check(ngx_oci_run_t *run)
{
    run->task.run = ngx_oci_run_check_task;
    run->task.done = ngx_oci_run_check_done;

    return ngx_oci_io_post(run->fill->blob->cache, &run->task);
}


static void
ngx_oci_run_check_task(void *data, ngx_log_t *log)
{
    ngx_oci_run_t *run = data;

    int       map;
    size_t    slice;
    uint32_t  crc;

    map = run->fill->blob->store.map;
    slice = run->start / run->fill->blob->cache->slice;

    run->task_rc = ngx_oci_run_check_slice(run, slice, &crc);

    if (run->task_rc == NGX_OK
        && ngx_oci_store_record(map, slice, crc, NGX_OCI_SLICE_PRESENT)
           == NGX_OK)
    {
        return;
    }

    /* whatever it was, what is fetched instead has to be verified again */

    if (ngx_oci_store_unverify(map) != NGX_OK) {
        run->err = ngx_errno;
        run->task_rc = NGX_ERROR;
        return;
    }

    if (run->task_rc == NGX_DECLINED) {
        (void) ngx_oci_store_record(map, slice, crc, NGX_OCI_SLICE_ABSENT);
    }

    run->task_rc = NGX_DECLINED;
}


/* NGX_OK: the slice is what was recorded; NGX_DECLINED: it is not;
   NGX_ERROR: it can't be told */

static ngx_int_t
ngx_oci_run_check_slice(ngx_oci_run_t *run, size_t slice, uint32_t *crc)
{
    ngx_oci_blob_t          *blob;
    ngx_oci_store_record_t   record;

    blob = run->fill->blob;

    if (pread(blob->store.map, &record, sizeof(record),
              NGX_OCI_STORE_RECORDS + (off_t) (slice * sizeof(record)))
        != sizeof(record)
        || record.state != NGX_OCI_SLICE_UNCHECKED
        || ngx_oci_store_crc(blob->store.fd, run->start,
                             run->end - run->start, crc)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return (*crc == record.crc) ? NGX_OK : NGX_DECLINED;
}


static void
ngx_oci_run_check_done(void *data)
{
    ngx_oci_run_t *run = data;

    ngx_oci_blob_t  *blob;

    blob = run->fill->blob;
    run->writing = 0;

    if (run->task_rc == NGX_ERROR) {

        /* the sidecar says "verified": nothing may be written */

        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, run->err,
                      "writing the sidecar of a blob in \"%V\" failed",
                      &blob->cache->path->name);
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
        ngx_oci_index_bypass(blob->cache, NGX_OCI_RUN_BYPASS);
        run->fill->disk = 1;
        ngx_oci_run_end(run, NGX_ERROR);
        return;
    }

    if (run->task_rc != NGX_OK) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "a slice at %uL did not survive, it is fetched again",
                      run->start);
        run->fill->verify.header.flags &= ~NGX_OCI_STORE_VERIFIED;
    }

    ngx_oci_index_slice(blob->cache, blob->entry,
                        run->start / blob->cache->slice,
                        run->task_rc == NGX_OK);

    ngx_oci_run_end(run, NGX_OK);
}
