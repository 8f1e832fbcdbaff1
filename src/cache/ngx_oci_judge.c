
/*
 * Copyright (C) The nginx-oci authors
 *
 * Where a policy has rules for artifacts, it judges what is about to be sent:
 * manifests when they are there as a whole, blobs by a look at some of their
 * bytes, which are brought here before any is sent.
 */


#include "ngx_oci_manifest.h"
#include "ngx_oci_reader.h"


/* Owner: the reader; the task while that is out, whose done() may free it */

struct ngx_oci_look_s {
    ngx_oci_judge_t     judge;
    ngx_oci_task_t      task;
    ngx_oci_reader_t   *rd;             /* NULL: the client has gone */
    ngx_oci_reader_t   *holder;         /* of the task: referenced */
    ngx_oci_blob_t     *blob;           /* likewise */
    int                 fd;
    ngx_err_t           err;            /* 0: read; ENODATA: it is short */
    uint32_t            failed;         /* entry's count at the start */
    ngx_oci_part_t      part;           /* what is wanted */
    unsigned            wanted:1;
    unsigned            reading:1;
    unsigned            read:1;
    unsigned            verified:1;     /* all that was read */
    u_char              buf[NGX_OCI_JUDGE_MAX];
};


static void ngx_oci_judge_manifest_again(ngx_oci_judge_t *j);
static ngx_int_t ngx_oci_judge_look_at(ngx_oci_reader_t *rd,
    ngx_oci_look_t *look);
static ngx_oci_look_t *ngx_oci_judge_look(ngx_oci_reader_t *rd);
static ngx_int_t ngx_oci_judge_bring(ngx_oci_reader_t *rd,
    ngx_oci_look_t *look);
static ngx_int_t ngx_oci_judge_want(ngx_oci_reader_t *rd,
    ngx_oci_look_t *look);
static void ngx_oci_judge_unwant(ngx_oci_reader_t *rd);
static ngx_int_t ngx_oci_judge_read(ngx_oci_reader_t *rd,
    ngx_oci_look_t *look);
static void ngx_oci_judge_task(void *data, ngx_log_t *log);
static void ngx_oci_judge_done(void *data);
static void ngx_oci_judge_blob_again(ngx_oci_judge_t *j);


ngx_int_t
ngx_oci_judge_manifest(ngx_oci_manifest_t *mf)
{
    ngx_int_t         rc;
    ngx_oci_judge_t  *j;

    if (!mf->ctx->judge || mf->judged) {
        return NGX_OK;
    }

    j = &mf->judge;

    if (j->handler == NULL) {
        j->request = mf->r;
        j->ctx = mf->ctx;
        j->handler = ngx_oci_judge_manifest_again;
        j->data = mf;
        j->former = (mf->tag && mf->known) ? &mf->ref.digest : NULL;
    }

    j->digest = mf->digest;
    j->media_type = mf->type;
    j->body = mf->body;
    j->size = mf->size;

    rc = (mf->ctx->allowed && mf->body) ? mf->ctx->allowed->manifest(j)
                                        : NGX_ERROR;

    switch (rc) {

    case NGX_OK:
        mf->judged = 1;
        return NGX_OK;

    case NGX_AGAIN:
        return NGX_AGAIN;

    case NGX_DECLINED:
        ngx_http_finalize_request(mf->r, j->rc);
        return NGX_DONE;
    }

    ngx_http_finalize_request(mf->r, ngx_oci_judge_unable(mf->r));

    return NGX_DONE;
}


static void
ngx_oci_judge_manifest_again(ngx_oci_judge_t *j)
{
    ngx_oci_manifest_t *mf = j->data;

    ngx_connection_t  *c;

    c = mf->r->connection;
    mf->refs++;

    ngx_http_set_log_request(c->log, mf->r);

    ngx_oci_manifest_send(mf);

    ngx_oci_manifest_run(mf, c);
}


ngx_int_t
ngx_oci_judge_unable(ngx_http_request_t *r)
{
    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "what the policy has rules for can't be judged now, it is "
                  "not sent");

    return ngx_oci_core.error_retry(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    NGX_OCI_ERR_UNAVAILABLE,
                                    "the artifact can't be judged now", 10);
}


ngx_int_t
ngx_oci_judge_blob(ngx_oci_reader_t *rd)
{
    ngx_int_t         rc;
    ngx_oci_look_t   *look;

    if (!rd->ctx->judge || rd->judged || rd->r->method != NGX_HTTP_GET) {
        return NGX_OK;
    }

    look = rd->look ? rd->look : ngx_oci_judge_look(rd);

    rc = (look && rd->ctx->allowed) ? ngx_oci_judge_look_at(rd, look)
                                    : NGX_ERROR;

    switch (rc) {

    case NGX_OK:
        ngx_oci_judge_unwant(rd);
        rd->judged = 1;

        /* its buffer is not kept for as long as a client takes */

        rd->look = NULL;
        ngx_oci_judge_leave(look);

        return NGX_OK;

    case NGX_DONE:
        rd->rc = look->judge.rc;
        return NGX_DONE;

    case NGX_AGAIN:
    case NGX_DECLINED:
        return rc;
    }

    rd->rc = ngx_oci_judge_unable(rd->r);

    return NGX_DONE;
}


/* NGX_OK; NGX_DONE: refused; NGX_AGAIN; NGX_DECLINED: what is wanted can't be
   had; NGX_ERROR */

static ngx_int_t
ngx_oci_judge_look_at(ngx_oci_reader_t *rd, ngx_oci_look_t *look)
{
    ngx_int_t  rc;

    for ( ;; ) {

        if (look->wanted) {

            rc = ngx_oci_judge_bring(rd, look);

            if (rc != NGX_OK) {
                return rc;
            }

            look->wanted = 0;
            look->judge.body = look->buf;
            look->judge.size = (size_t) (look->part.end - look->part.pos);
            look->judge.verified = look->verified;
        }

        rc = rd->ctx->allowed->blob(&look->judge);

        if (rc != NGX_BUSY) {
            return (rc == NGX_DECLINED) ? NGX_DONE : rc;
        }

        look->part.pos = (uint64_t) look->judge.start;
        look->part.end = (uint64_t) look->judge.end;

        if (look->part.pos >= look->part.end
            || look->part.end > rd->blob->size
            || look->part.end - look->part.pos > NGX_OCI_JUDGE_MAX)
        {
            return NGX_ERROR;
        }

        look->wanted = 1;
        look->read = 0;

        ngx_oci_judge_unwant(rd);
    }
}


static ngx_oci_look_t *
ngx_oci_judge_look(ngx_oci_reader_t *rd)
{
    ngx_oci_look_t  *look;

    look = ngx_alloc(sizeof(ngx_oci_look_t), rd->r->connection->log);
    if (look == NULL) {
        return NULL;
    }

    ngx_memzero(look, offsetof(ngx_oci_look_t, buf));

    look->rd = rd;
    look->verified = 1;
    look->failed = rd->blob->entry->failed;
    look->task.run = ngx_oci_judge_task;
    look->task.done = ngx_oci_judge_done;
    look->task.data = look;

    look->judge.request = rd->r;
    look->judge.ctx = rd->ctx;
    look->judge.digest = rd->ctx->route.digest;
    look->judge.blob_size = (off_t) rd->blob->size;
    look->judge.handler = ngx_oci_judge_blob_again;
    look->judge.data = rd;

    rd->look = look;

    return look;
}


void
ngx_oci_judge_leave(ngx_oci_look_t *look)
{
    if (look == NULL) {
        return;
    }

    look->rd = NULL;

    if (!look->reading) {
        ngx_free(look);
    }
}


/*
 * Bytes that are wanted: NGX_OK: they are in look->buf; NGX_AGAIN: waits;
 * NGX_DECLINED: they can't be had.
 */

static ngx_int_t
ngx_oci_judge_bring(ngx_oci_reader_t *rd, ngx_oci_look_t *look)
{
    ngx_int_t  rc;

    if (look->reading) {
        return NGX_AGAIN;
    }

    if (look->read) {
        return look->err ? NGX_DECLINED : NGX_OK;
    }

    rc = ngx_oci_judge_want(rd, look);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_oci_judge_read(rd, look);
}


/* NGX_OK: they are readable */

static ngx_int_t
ngx_oci_judge_want(ngx_oci_reader_t *rd, ngx_oci_look_t *look)
{
    uint64_t          pos, limit;
    ngx_int_t         rc;
    ngx_oci_blob_t   *blob;
    ngx_oci_entry_t  *entry;
    ngx_oci_ranges_t  ranges;

    blob = rd->blob;
    entry = blob->entry;

    /* as if the client had asked for them, and for nothing else */

    ranges = rd->ranges;

    rd->ranges.parts = &look->part;
    rd->ranges.nparts = 1;
    rd->ranges.whole = 0;

    rc = ngx_oci_want(rd);

    rd->ranges = ranges;

    if (rc != NGX_OK) {
        return (rc == NGX_BUSY) ? NGX_DECLINED : rc;
    }

    if (ngx_oci_index_readable(rd->cache, entry, look->part.pos,
                               look->part.end, 0)
        >= look->part.end)
    {
        return NGX_OK;
    }

    if (entry->failed != look->failed) {
        return NGX_DECLINED;
    }

    if (rd->want == NULL) {
        return NGX_DECLINED;
    }

    ngx_oci_want_offer(rd);

    /* whoever filled it may have died */

    rc = ngx_oci_fill_kick(blob, rd->ocf);

    if ((rc != NGX_OK && rc != NGX_BUSY)
        || (rc == NGX_BUSY && ngx_oci_fill_locked(blob)))
    {
        return NGX_DECLINED;
    }

    /* who finds nothing is marked as one who waits in the same moment */

    for (pos = look->part.pos; pos < look->part.end; pos = limit) {

        limit = ngx_oci_index_readable(rd->cache, entry, pos, look->part.end,
                                       1);
        if (limit == pos) {
            ngx_oci_reader_sleep(rd);
            return NGX_AGAIN;
        }
    }

    return NGX_OK;
}


static void
ngx_oci_judge_unwant(ngx_oci_reader_t *rd)
{
    if (rd->want) {
        ngx_oci_index_unwant(rd->cache, rd->want);
        rd->want = NULL;
    }

    rd->roomed = 0;
    rd->reserved = 0;
}


static ngx_int_t
ngx_oci_judge_read(ngx_oci_reader_t *rd, ngx_oci_look_t *look)
{
    look->holder = rd;
    look->blob = rd->blob;
    look->fd = rd->blob->store.fd;
    look->err = 0;

    if (!ngx_oci_index_verified(rd->cache, rd->blob->entry, 0)) {
        look->verified = 0;
    }

    if (ngx_oci_io_post(rd->cache, &look->task) != NGX_OK) {
        return NGX_ERROR;
    }

    look->reading = 1;
    rd->refs++;
    rd->blob->refs++;

    return NGX_AGAIN;
}


static void
ngx_oci_judge_task(void *data, ngx_log_t *log)
{
    ngx_oci_look_t *look = data;

    size_t   n, size;
    ssize_t  rc;

    size = (size_t) (look->part.end - look->part.pos);

    for (n = 0; n < size; n += rc) {

        rc = pread(look->fd, look->buf + n, size - n,
                   (off_t) (look->part.pos + n));

        if (rc == -1 && ngx_errno == NGX_EINTR) {
            rc = 0;
            continue;
        }

        if (rc <= 0) {
            look->err = rc ? ngx_errno : ENODATA;
            return;
        }
    }
}


static void
ngx_oci_judge_done(void *data)
{
    ngx_oci_look_t *look = data;

    ngx_connection_t  *c;
    ngx_oci_reader_t  *rd;

    look->reading = 0;
    look->read = 1;

    ngx_oci_blob_unref(look->blob);

    rd = look->holder;
    c = NULL;

    if (look->rd == NULL) {
        ngx_free(look);

    } else {
        c = rd->r->connection;

        ngx_http_set_log_request(c->log, rd->r);

        if (look->err) {
            ngx_log_error(NGX_LOG_CRIT, c->log, look->err,
                          "reading a blob in \"%V\" failed",
                          &rd->cache->path->name);
            ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
            rd->blob->suspect = 1;
        }

        ngx_oci_send_start(rd);
    }

    ngx_oci_reader_run(rd, c);
}


static void
ngx_oci_judge_blob_again(ngx_oci_judge_t *j)
{
    ngx_oci_reader_t *rd = j->data;

    ngx_connection_t  *c;

    c = rd->r->connection;
    rd->refs++;

    ngx_http_set_log_request(c->log, rd->r);

    ngx_oci_send_start(rd);

    ngx_oci_reader_run(rd, c);
}
