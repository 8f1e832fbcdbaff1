
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a disk would have to bring first is read in a thread, then sent from
 * the event loop; what is in memory already is sent at once.
 */


#include "ngx_oci_reader.h"


#define NGX_OCI_WARM_STRIDE  (128 * 1024)   /* bytes from probe to probe */
#define NGX_OCI_WARM_AHEAD   (4 * 1024 * 1024)
#define NGX_OCI_WARM_BUFFER  (64 * 1024)


/* Owner: the task that is out; it holds the reader and the blob's file */

typedef struct {
    ngx_oci_task_t      task;
    ngx_oci_reader_t   *rd;
    ngx_oci_blob_t     *blob;
    int                 fd;
    uint64_t            pos;
    uint64_t            end;
    ngx_err_t           err;        /* 0: read, ENODATA: the file is short */
} ngx_oci_warm_t;


static ngx_int_t ngx_oci_warm_resident(int fd, uint64_t pos, uint64_t end);
static void ngx_oci_warm_task(void *data, ngx_log_t *log);
static void ngx_oci_warm_done(void *data);
static void ngx_oci_warm_failed(ngx_oci_reader_t *rd);


ngx_int_t
ngx_oci_warm(ngx_oci_reader_t *rd, uint64_t pos, uint64_t *end)
{
    ngx_int_t        rc;
    ngx_oci_warm_t  *warm;

    rc = ngx_oci_warm_resident(rd->blob->store.fd, pos, *end);

    /* what was just read goes out, even if memory is so short that it has
       left again; later too where nobody can tell */

    if (rc != NGX_OK && pos < rd->warm
        && (rd->warmed || rc == NGX_DECLINED))
    {
        *end = ngx_min(*end, rd->warm);
        rc = NGX_OK;
    }

    rd->warmed = 0;

    if (rc == NGX_OK) {
        return NGX_OK;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, rd->r->connection->log, 0,
                   "oci warm: %uL-%uL", pos, *end);

    warm = ngx_calloc(sizeof(ngx_oci_warm_t), rd->r->connection->log);
    if (warm == NULL) {
        return NGX_ERROR;
    }

    warm->rd = rd;
    warm->blob = rd->blob;
    warm->fd = rd->blob->store.fd;
    warm->pos = pos;
    warm->end = *end;
    warm->task.run = ngx_oci_warm_task;
    warm->task.done = ngx_oci_warm_done;
    warm->task.data = warm;

    if (ngx_oci_io_post(rd->cache, &warm->task) != NGX_OK) {
        ngx_free(warm);
        return NGX_ERROR;
    }

    rd->refs++;
    rd->blob->refs++;

    return NGX_AGAIN;
}


/*
 * Asks for a page of each stride: a page cache is filled and emptied in larger
 * units.  NGX_OK, NGX_AGAIN (not in memory), NGX_DECLINED (the file system
 * can't tell).
 */

static ngx_int_t
ngx_oci_warm_resident(int fd, uint64_t pos, uint64_t end)
{
    u_char        byte;
    ssize_t       n;
    struct iovec  iov;

    iov.iov_base = &byte;
    iov.iov_len = 1;

    for ( ;; ) {
        n = preadv2(fd, &iov, 1, pos, RWF_NOWAIT);

        if (n == -1 && ngx_errno == NGX_EINTR) {
            continue;
        }

        if (n != 1) {
            return (n == -1 && ngx_errno == NGX_EAGAIN) ? NGX_AGAIN
                                                        : NGX_DECLINED;
        }

        if (pos == end - 1) {
            return NGX_OK;
        }

        pos = ngx_min(pos + NGX_OCI_WARM_STRIDE, end - 1);
    }
}


static void
ngx_oci_warm_task(void *data, ngx_log_t *log)
{
    ngx_oci_warm_t *warm = data;

    u_char    *buf;
    ssize_t    n;
    uint64_t   pos;

    buf = malloc(NGX_OCI_WARM_BUFFER);
    if (buf == NULL) {
        warm->err = NGX_ENOMEM;
        return;
    }

    /* the disk goes on while this piece is sent */

    (void) posix_fadvise(warm->fd, warm->pos, NGX_OCI_WARM_AHEAD,
                         POSIX_FADV_WILLNEED);

    for (pos = warm->pos; pos < warm->end; /* void */ ) {

        n = pread(warm->fd, buf, ngx_min(warm->end - pos,
                                         NGX_OCI_WARM_BUFFER), pos);

        if (n == -1 && ngx_errno == NGX_EINTR) {
            continue;
        }

        if (n <= 0) {
            warm->err = n ? ngx_errno : ENODATA;
            break;
        }

        pos += n;
    }

    free(buf);
}


static void
ngx_oci_warm_done(void *data)
{
    ngx_oci_warm_t *warm = data;

    ngx_err_t          err;
    ngx_connection_t  *c;
    ngx_oci_reader_t  *rd;

    rd = warm->rd;
    err = warm->err;

    rd->warm = warm->end;
    rd->warmed = 1;
    rd->sleeping = 0;

    ngx_oci_blob_unref(warm->blob);
    ngx_free(warm);

    c = NULL;

    if (rd->r) {
        c = rd->r->connection;

        ngx_http_set_log_request(c->log, rd->r);

        if (err) {
            ngx_log_error(NGX_LOG_CRIT, c->log, err,
                          "reading a blob in \"%V\" failed",
                          &rd->cache->path->name);
            ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);

            /* whoever comes next looks at the files again; who is there, and
               the fill, go on: it may have been this place only */

            rd->blob->suspect = 1;

            ngx_oci_warm_failed(rd);

        } else {
            ngx_oci_send_more(rd);
        }
    }

    ngx_oci_reader_run(rd, c);
}


/* what the disk does not bring comes from the registry, unless it was handed
   on as a part of the file */

static void
ngx_oci_warm_failed(ngx_oci_reader_t *rd)
{
    ngx_buf_t  *b;

    b = &rd->out->buf;

    if ((b->in_file && b->file_pos < b->file_last)
        || ngx_oci_tail(rd, rd->pos, rd->ranges.parts[rd->part].end)
           != NGX_OK)
    {
        ngx_oci_reader_cut(rd, "the blob can't be read");
        return;
    }

    (void) ngx_oci_reader_rest(rd);
}
