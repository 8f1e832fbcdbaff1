
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a fill begins with: the sidecar as it is now that its lock is ours.
 * An earlier boot may have left it, or workers with another zone, as they are
 * there after an upgrade, may have had it in between.
 */


#include "ngx_oci_fill.h"
#include <sys/random.h>


static void ngx_oci_adopt_task(void *data, ngx_log_t *log);
static ngx_int_t ngx_oci_adopt_header(ngx_oci_fill_t *fill,
    ngx_oci_store_header_t *h, ngx_oci_store_record_t *records,
    size_t slices);
static uint64_t ngx_oci_adopt_writer(void);
static void ngx_oci_adopt_done(void *data);


ngx_int_t
ngx_oci_adopt(ngx_oci_fill_t *fill)
{
    fill->adopt.run = ngx_oci_adopt_task;
    fill->adopt.done = ngx_oci_adopt_done;
    fill->adopt.data = fill;

    return ngx_oci_io_post(fill->blob->cache, &fill->adopt);
}


static void
ngx_oci_adopt_task(void *data, ngx_log_t *log)
{
    ngx_oci_fill_t *fill = data;

    ngx_oci_blob_t          *blob;
    ngx_oci_store_header_t  *h;

    blob = fill->blob;
    h = &blob->store.header;

    fill->adopt_rc = NGX_ERROR;

    if (pread(blob->store.map, h, sizeof(ngx_oci_store_header_t), 0)
        != sizeof(ngx_oci_store_header_t)
        || h->size != blob->size)
    {
        return;
    }

    if (ngx_oci_store_records(&blob->store) != NGX_OK) {
        fill->adopt_err = NGX_ENOMEM;
        return;
    }

    if (ngx_oci_store_read(&blob->store) != NGX_OK) {
        return;
    }

    if (ngx_oci_store_writer(blob->store.map, &fill->found) == NGX_OK) {
        fill->adopt_rc = ngx_oci_adopt_header(fill, h, blob->store.records,
                                              blob->store.slices);
    }
}


/*
 * What an earlier boot recorded becomes "unchecked" on disk before anything is
 * recorded under this one, and a mark that can't be right is gone before what
 * is missing is fetched: a power cut must not find one without the other.
 * NGX_DECLINED: what is there is another registry's.
 */

static ngx_int_t
ngx_oci_adopt_header(ngx_oci_fill_t *fill, ngx_oci_store_header_t *h,
    ngx_oci_store_record_t *records, size_t slices)
{
    int              map;
    size_t           i;
    ngx_uint_t       earlier, distrusted, missing, stored;
    ngx_oci_blob_t  *blob;

    blob = fill->blob;
    map = blob->store.map;

    earlier = (ngx_memcmp(h->boot_id, blob->cache->boot_id,
                          sizeof(h->boot_id))
               != 0);

    distrusted = ngx_oci_store_distrust(blob->cache, h, records, slices);

    missing = 0;
    stored = 0;

    for (i = 0; i < slices; i++) {
        missing |= (records[i].state != NGX_OCI_SLICE_PRESENT);
        stored |= (records[i].state != NGX_OCI_SLICE_ABSENT);
    }

    if (stored && h->origin != fill->origin) {
        return NGX_DECLINED;
    }

    fill->writer = fill->found;

    if (missing) {

        /* something will be written */

        fill->writer = ngx_oci_adopt_writer();

        if (ngx_oci_store_set_writer(map, fill->writer) != NGX_OK) {
            goto failed;
        }
    }

    if (!earlier && !distrusted && h->origin == fill->origin) {
        return NGX_OK;
    }

    h->origin = fill->origin;

    if (earlier) {
        ngx_memcpy(h->boot_id, blob->cache->boot_id, sizeof(h->boot_id));
        h->hashed = 0;
        h->hash_len = 0;

        if (ngx_oci_store_write(map, (u_char *) records,
                                slices * sizeof(ngx_oci_store_record_t),
                                NGX_OCI_STORE_RECORDS)
            != NGX_OK
            || fdatasync(map) == -1)
        {
            goto failed;
        }
    }

    if (ngx_oci_store_header(map, h) != NGX_OK
        || (distrusted && fdatasync(map) == -1))
    {
        goto failed;
    }

    return NGX_OK;

failed:

    fill->adopt_err = ngx_errno;

    return NGX_ERROR;
}


/* a number that nobody else has; never 0 */

static uint64_t
ngx_oci_adopt_writer(void)
{
    uint64_t         writer;
    struct timespec  ts;

    if (getrandom(&writer, sizeof(writer), GRND_NONBLOCK)
        != (ssize_t) sizeof(writer))
    {
        (void) clock_gettime(CLOCK_REALTIME, &ts);

        writer = (uint64_t) ts.tv_sec << 32 | (uint64_t) ts.tv_nsec;
        writer ^= (uint64_t) ngx_pid << 30;
    }

    return writer ? writer : 1;
}


static void
ngx_oci_adopt_done(void *data)
{
    ngx_oci_fill_t *fill = data;

    ngx_oci_blob_t  *blob;

    blob = fill->blob;

    if (fill->adopt_rc == NGX_OK) {
        ngx_oci_index_adopt(blob->cache, blob->entry, &blob->store.header,
                            blob->store.records, fill->found, fill->writer);

    } else if (fill->adopt_rc == NGX_DECLINED) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "a blob in \"%V\" is another registry's by now",
                      &blob->cache->path->name);

    } else {

        if (fill->adopt_err) {
            ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, fill->adopt_err,
                          "taking over the sidecar of a blob in \"%V\" failed",
                          &blob->cache->path->name);
        } else {
            ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                          "the sidecar of a blob in \"%V\" is unusable",
                          &blob->cache->path->name);
        }

        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
    }

    ngx_oci_store_forget(&blob->store);

    ngx_oci_fill_adopted(fill, fill->adopt_rc);
}
