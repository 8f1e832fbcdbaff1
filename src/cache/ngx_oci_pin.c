
/*
 * Copyright (C) The nginx-oci authors
 *
 * What a preheat job pins: all else is evicted before it until a time.  Of a
 * blob that stands in its sidecar, and in the index; files of references and
 * bodies of manifests have that time for their mtime, as if they were used
 * then.
 */


#include "ngx_oci_manifest.h"
#include "ngx_oci_open.h"
#include "ngx_oci_reader.h"
#include "ngx_oci_refs.h"


#define NGX_OCI_PIN_TRIES  100  /* for a file that is about to be written, */
#define NGX_OCI_PIN_PAUSE  10   /* ms */
#define NGX_OCI_PIN_FILES  3


/* of a sidecar, in the host's byte order */

typedef struct {
    uint64_t                 until;         /* s since 1970 */
    uint32_t                 crc;           /* of that */
    uint32_t                 zero;
} ngx_oci_pin_record_t;


/* Owner: its disk task, whose done() frees it; it holds the reader and the
   blob, or the manifest */

typedef struct {
    ngx_oci_cache_t         *cache;
    ngx_oci_reader_t        *rd;
    ngx_oci_blob_t          *blob;
    ngx_oci_manifest_t      *mf;
    ngx_oci_digest_t         manifest;      /* with mf */
    int                      map;           /* with rd: of the sidecar */
    time_t                   until;
    ngx_uint_t               tries;         /* for each file */
    ngx_uint_t               n;
    u_char                   keys[NGX_OCI_PIN_FILES][NGX_OCI_REFS_KEY];
    ngx_int_t                rc;
    ngx_oci_task_t           task;
} ngx_oci_pin_op_t;


static ngx_oci_pin_op_t *ngx_oci_pin_op(ngx_oci_cache_t *cache,
    ngx_oci_ctx_t *ctx, ngx_uint_t kind, time_t until);
static void ngx_oci_pin_blob_task(void *data, ngx_log_t *log);
static void ngx_oci_pin_blob_done(void *data);
static void ngx_oci_pin_manifest_task(void *data, ngx_log_t *log);
static void ngx_oci_pin_manifest_done(void *data);
static void ngx_oci_pin_refs(ngx_oci_pin_op_t *op, ngx_log_t *log);
static void ngx_oci_pin_file(ngx_oci_pin_op_t *op, int dir, char *sub,
    char *name, ngx_log_t *log);


ngx_int_t
ngx_oci_pin_blob(ngx_oci_reader_t *rd)
{
    time_t             until;
    ngx_oci_pin_op_t  *op;

    if (rd->pinned) {
        return rd->pin;
    }

    until = ngx_oci_core.pull_pin(rd->r);

    /* (nothing is evicted from a directory that can't be written to) */

    if (until == 0 || rd->blob->store.readonly) {
        return NGX_OK;
    }

    op = ngx_oci_pin_op(rd->cache, rd->ctx, NGX_OCI_REFS_BLOB, until);
    if (op == NULL) {
        return NGX_BUSY;
    }

    op->rd = rd;
    op->blob = rd->blob;
    op->map = rd->blob->store.map;
    op->task.run = ngx_oci_pin_blob_task;
    op->task.done = ngx_oci_pin_blob_done;

    if (ngx_oci_io_post(rd->cache, &op->task) != NGX_OK) {
        ngx_free(op);
        return NGX_BUSY;
    }

    rd->refs++;
    rd->blob->refs++;

    return NGX_AGAIN;
}


static ngx_oci_pin_op_t *
ngx_oci_pin_op(ngx_oci_cache_t *cache, ngx_oci_ctx_t *ctx, ngx_uint_t kind,
    time_t until)
{
    ngx_oci_pin_op_t      *op;
    ngx_oci_refs_place_t   place;

    op = ngx_calloc(sizeof(ngx_oci_pin_op_t), ngx_cycle->log);
    if (op == NULL) {
        return NULL;
    }

    ngx_oci_refs_place(&place, kind, ctx->registry, &ctx->repository,
                       &ctx->route.reference);

    ngx_memcpy(op->keys[0], place.key, NGX_OCI_REFS_KEY);
    ngx_memcpy(op->keys[1], place.repo, NGX_OCI_REFS_KEY);

    op->n = 2;
    op->tries = 1;
    op->cache = cache;
    op->until = until;
    op->task.data = op;

    return op;
}


static void
ngx_oci_pin_blob_task(void *data, ngx_log_t *log)
{
    ngx_oci_pin_op_t *op = data;

    op->rc = NGX_OK;

    if (ngx_oci_store_pinned(op->map) < op->until
        && ngx_oci_store_pin(op->map, op->until) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "pinning a blob in \"%V\" failed",
                      &op->cache->path->name);
        op->rc = NGX_BUSY;
        return;
    }

    ngx_oci_pin_refs(op, log);
}


static void
ngx_oci_pin_blob_done(void *data)
{
    ngx_oci_pin_op_t *op = data;

    ngx_connection_t  *c;
    ngx_oci_reader_t  *rd;

    rd = op->rd;
    c = NULL;

    if (op->rc == NGX_OK) {
        ngx_oci_index_pin(op->cache, op->blob->entry, op->until);

    } else {
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
    }

    rd->pinned = 1;
    rd->pin = op->rc;

    ngx_oci_blob_unref(op->blob);
    ngx_free(op);

    if (rd->r) {
        c = rd->r->connection;

        ngx_http_set_log_request(c->log, rd->r);
        ngx_oci_send_start(rd);
    }

    ngx_oci_reader_run(rd, c);
}


ngx_int_t
ngx_oci_pin_manifest(ngx_oci_manifest_t *mf)
{
    u_char                 text[NGX_OCI_DIGEST_LEN];
    time_t                 until;
    ngx_str_t              reference;
    ngx_oci_pin_op_t      *op;
    ngx_oci_refs_place_t   place;

    until = ngx_oci_core.pull_pin(mf->r);

    if (until == 0 || ngx_oci_dir_state(mf->cache) != NGX_OCI_DIR_OK) {
        return NGX_OK;
    }

    op = ngx_oci_pin_op(mf->cache, mf->ctx, NGX_OCI_REFS_MANIFEST, until);
    if (op == NULL) {
        return NGX_OK;
    }

    reference.data = text;
    reference.len = ngx_oci_digest_print(text, &mf->digest) - text;

    ngx_oci_refs_place(&place, NGX_OCI_REFS_MANIFEST, mf->ctx->registry,
                       &mf->ctx->repository, &reference);
    ngx_memcpy(op->keys[op->n++], place.key, NGX_OCI_REFS_KEY);

    op->mf = mf;
    op->manifest = mf->digest;
    op->tries = NGX_OCI_PIN_TRIES;
    op->task.run = ngx_oci_pin_manifest_task;
    op->task.done = ngx_oci_pin_manifest_done;

    if (ngx_oci_io_post(mf->cache, &op->task) != NGX_OK) {
        ngx_free(op);
        return NGX_OK;
    }

    mf->refs++;

    return NGX_AGAIN;
}


static void
ngx_oci_pin_manifest_task(void *data, ngx_log_t *log)
{
    ngx_oci_pin_op_t *op = data;

    char  sub[3], name[NGX_OCI_STORE_NAME];

    ngx_oci_store_names(&op->manifest, sub, name);
    ngx_oci_pin_file(op, op->cache->manifests, sub, name, log);

    ngx_oci_pin_refs(op, log);
}


static void
ngx_oci_pin_manifest_done(void *data)
{
    ngx_oci_pin_op_t *op = data;

    ngx_connection_t    *c;
    ngx_oci_manifest_t  *mf;

    mf = op->mf;
    c = NULL;

    ngx_free(op);

    if (mf->r) {
        c = mf->r->connection;

        ngx_http_set_log_request(c->log, mf->r);
        ngx_oci_manifest_respond(mf);
    }

    ngx_oci_manifest_run(mf, c);
}


static void
ngx_oci_pin_refs(ngx_oci_pin_op_t *op, ngx_log_t *log)
{
    char        sub[3], name[NGX_OCI_REFS_NAME];
    ngx_uint_t  i;

    for (i = 0; i < op->n; i++) {

        *ngx_hex_dump((u_char *) name, op->keys[i], NGX_OCI_REFS_KEY) = '\0';

        sub[0] = name[0];
        sub[1] = name[1];
        sub[2] = '\0';

        ngx_oci_pin_file(op, op->cache->refs_dir, sub, name, log);
    }
}


/* a manifest's may be being written by another thread.  What isn't there in
   the end is asked for again when it is needed: no harm is done */

static void
ngx_oci_pin_file(ngx_oci_pin_op_t *op, int dir, char *sub, char *name,
    ngx_log_t *log)
{
    int          fd;
    ngx_uint_t   i;
    struct stat  sb;

    for (i = 1; /* void */; i++) {

        fd = ngx_oci_open(op->cache, dir, sub, name, O_RDONLY, log);

        if (fd != -1) {

            if (fstat(fd, &sb) == 0 && sb.st_mtime < op->until) {
                ngx_oci_pin_fd(fd, op->until);
            }

            close(fd);
            return;
        }

        if (i >= op->tries || ngx_errno != ENOENT || ngx_quit
            || ngx_terminate)
        {
            return;
        }

        ngx_msleep(NGX_OCI_PIN_PAUSE);
    }
}


void
ngx_oci_pin_fd(int fd, time_t until)
{
    struct timespec  ts[2];

    if (until == 0) {
        return;
    }

    ts[0].tv_sec = 0;
    ts[0].tv_nsec = UTIME_OMIT;
    ts[1].tv_sec = until;
    ts[1].tv_nsec = 0;

    (void) futimens(fd, ts);
}


ngx_int_t
ngx_oci_store_pin(int map, time_t until)
{
    ngx_oci_pin_record_t  record;

    record.until = until;
    record.crc = ngx_oci_crc32c(0, (u_char *) &record.until,
                                sizeof(record.until));
    record.zero = 0;

    return ngx_oci_store_write(map, (u_char *) &record, sizeof(record),
                               NGX_OCI_STORE_PIN);
}


time_t
ngx_oci_store_pinned(int map)
{
    ngx_oci_pin_record_t  record;

    if (pread(map, &record, sizeof(record), NGX_OCI_STORE_PIN)
        != sizeof(record)
        || record.until == 0
        || record.crc != ngx_oci_crc32c(0, (u_char *) &record.until,
                                        sizeof(record.until)))
    {
        return 0;
    }

    return (time_t) record.until;
}
