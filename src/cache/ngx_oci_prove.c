
/*
 * Copyright (C) The nginx-oci authors
 *
 * A registry's word is not enough for bytes that came from another one: it
 * has to show that it has them.
 */


#define OPENSSL_SUPPRESS_DEPRECATED

#include "ngx_oci_prove.h"
#include <openssl/sha.h>


#define NGX_OCI_PROVE_BYTES     64      /* of the blob, or all of it */
#define NGX_OCI_PROVE_PLACES    4       /* one after the other */
#define NGX_OCI_PROVE_TIME      60      /* s for the answer at one place */
#define NGX_OCI_PROVE_DISTINCT  12      /* values among them, to be no guess */
#define NGX_OCI_PROVE_LOOK      4096    /* bytes looked through at a place */
#define NGX_OCI_PROVE_RECORDS   512     /* read at once */


/*
 * Owner: the task or the exchange that is out, one after the other; it holds
 * the blob, and with it the files and the entry.
 */

typedef struct {
    ngx_queue_t              queue;         /* of all of the worker */
    ngx_queue_t              waiters;
    ngx_pool_t              *pool;
    ngx_oci_blob_t          *blob;          /* referenced */
    ngx_oci_registry_t      *registry;
    ngx_str_t                repository;
    ngx_str_t                authorization;
    ngx_oci_task_t           task;
    ngx_int_t                rc;            /* of the task */
    uint64_t                 places[NGX_OCI_PROVE_PLACES]; /* a SHA-256 */
    ngx_uint_t               place;
    time_t                   started;       /* at this place */
    off_t                    bytes;         /* of all answers */
    uint64_t                 pos;
    size_t                   len;           /* bytes asked for */
    size_t                   received;
    u_char                   stored[NGX_OCI_PROVE_BYTES];
    u_char                   answer[NGX_OCI_PROVE_BYTES + 1];
} ngx_oci_prove_t;


static ngx_oci_prove_t *ngx_oci_prove_find(ngx_oci_blob_t *blob,
    ngx_oci_ctx_t *ctx);
static ngx_oci_prove_t *ngx_oci_prove_create(ngx_oci_blob_t *blob,
    ngx_oci_ctx_t *ctx);
static ngx_int_t ngx_oci_prove_copy(ngx_pool_t *pool, ngx_str_t *dst,
    ngx_str_t *src);
static void ngx_oci_prove_pick(void *data, ngx_log_t *log);
static ngx_int_t ngx_oci_prove_places(ngx_oci_prove_t *prove);
static ngx_int_t ngx_oci_prove_look(ngx_oci_prove_t *prove, uint64_t pos,
    uint64_t size);
static ngx_uint_t ngx_oci_prove_telling(u_char *p);
static ngx_int_t ngx_oci_prove_read(int fd, void *buf, size_t len,
    uint64_t pos);
static void ngx_oci_prove_picked(void *data);
static ngx_int_t ngx_oci_prove_ask(ngx_oci_prove_t *prove);
static ngx_int_t ngx_oci_prove_header(ngx_oci_exchange_t *ex);
static ngx_int_t ngx_oci_prove_buffer(ngx_oci_exchange_t *ex, u_char **p,
    size_t *size);
static ngx_int_t ngx_oci_prove_received(ngx_oci_exchange_t *ex, size_t n,
    ngx_uint_t idle);
static void ngx_oci_prove_done(ngx_oci_exchange_t *ex, ngx_int_t rc);
static void ngx_oci_prove_next(ngx_oci_prove_t *prove);
static void ngx_oci_prove_end(ngx_oci_prove_t *prove, ngx_int_t rc);
static void ngx_oci_prove_keep(ngx_oci_prove_t *prove);
static void ngx_oci_prove_keep_task(void *data, ngx_log_t *log);
static void ngx_oci_prove_kept(void *data);
static void ngx_oci_prove_free(ngx_oci_prove_t *prove);


static ngx_queue_t  ngx_oci_proves;     /* per process */


#define ngx_oci_prove_same(a, b)                                              \
    ((a)->len == (b)->len && ngx_memcmp((a)->data, (b)->data, (a)->len) == 0)


void
ngx_oci_prove_init_process(void)
{
    ngx_queue_init(&ngx_oci_proves);
}


ngx_int_t
ngx_oci_prove(ngx_oci_blob_t *blob, ngx_oci_ctx_t *ctx,
    ngx_oci_prove_waiter_t *waiter)
{
    ngx_oci_prove_t  *prove;

    prove = ngx_oci_prove_find(blob, ctx);

    if (prove == NULL) {
        prove = ngx_oci_prove_create(blob, ctx);
        if (prove == NULL) {
            return NGX_ERROR;
        }
    }

    waiter->waiting = 1;
    ngx_queue_insert_tail(&prove->waiters, &waiter->queue);

    return NGX_OK;
}


void
ngx_oci_prove_leave(ngx_oci_prove_waiter_t *waiter)
{
    if (waiter->waiting) {
        waiter->waiting = 0;
        ngx_queue_remove(&waiter->queue);
    }
}


/* a failure may be that caller's only: others ask for themselves */

static ngx_oci_prove_t *
ngx_oci_prove_find(ngx_oci_blob_t *blob, ngx_oci_ctx_t *ctx)
{
    ngx_queue_t      *q;
    ngx_oci_prove_t  *prove;

    for (q = ngx_queue_head(&ngx_oci_proves);
         q != ngx_queue_sentinel(&ngx_oci_proves);
         q = ngx_queue_next(q))
    {
        prove = ngx_queue_data(q, ngx_oci_prove_t, queue);

        if (prove->blob == blob
            && prove->registry == ctx->registry
            && ngx_oci_prove_same(&prove->repository, &ctx->repository)
            && ngx_oci_prove_same(&prove->authorization,
                                  &ctx->authorization))
        {
            return prove;
        }
    }

    return NULL;
}


static ngx_oci_prove_t *
ngx_oci_prove_create(ngx_oci_blob_t *blob, ngx_oci_ctx_t *ctx)
{
    ngx_pool_t       *pool;
    ngx_oci_prove_t  *prove;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    prove = ngx_pcalloc(pool, sizeof(ngx_oci_prove_t));
    if (prove == NULL) {
        goto failed;
    }

    ngx_queue_init(&prove->waiters);
    prove->pool = pool;
    prove->blob = blob;
    prove->registry = ctx->registry;

    if (ngx_oci_prove_copy(pool, &prove->repository, &ctx->repository)
        != NGX_OK
        || ngx_oci_prove_copy(pool, &prove->authorization,
                              &ctx->authorization)
           != NGX_OK)
    {
        goto failed;
    }

    prove->task.run = ngx_oci_prove_pick;
    prove->task.done = ngx_oci_prove_picked;
    prove->task.data = prove;

    if (ngx_oci_io_post(blob->cache, &prove->task) != NGX_OK) {
        goto failed;
    }

    blob->refs++;

    ngx_queue_insert_head(&ngx_oci_proves, &prove->queue);

    return prove;

failed:

    if (prove && prove->authorization.len) {
        ngx_explicit_memzero(prove->authorization.data,
                             prove->authorization.len);
    }

    ngx_destroy_pool(pool);

    return NULL;
}


static ngx_int_t
ngx_oci_prove_copy(ngx_pool_t *pool, ngx_str_t *dst, ngx_str_t *src)
{
    if (src->len == 0) {
        ngx_str_set(dst, "");
        return NGX_OK;
    }

    dst->data = ngx_pstrdup(pool, src);
    dst->len = dst->data ? src->len : 0;

    return dst->data ? NGX_OK : NGX_ERROR;
}


/*
 * In a thread: the place and its bytes.  rc: NGX_OK; NGX_DECLINED: nothing is
 * told there; NGX_ERROR: logged.
 */

static void
ngx_oci_prove_pick(void *data, ngx_log_t *log)
{
    ngx_oci_prove_t *prove = data;

    uint64_t  size;

    size = prove->blob->size;

    if (size <= NGX_OCI_PROVE_BYTES) {
        prove->pos = 0;
        prove->len = size;
        prove->rc = ngx_oci_prove_read(prove->blob->store.fd, prove->stored,
                                       prove->len, 0);

    } else {
        prove->len = NGX_OCI_PROVE_BYTES;
        prove->rc = prove->place ? NGX_OK : ngx_oci_prove_places(prove);

        if (prove->rc == NGX_OK) {
            prove->rc = ngx_oci_prove_look(prove,
                                           prove->places[prove->place]
                                           % (size - NGX_OCI_PROVE_BYTES + 1),
                                           size);
        }
    }

    if (prove->rc == NGX_ERROR) {
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "reading a blob in \"%V\" failed",
                      &prove->blob->cache->path->name);
    }
}


/*
 * Who has not got the blob can't foresee them: they follow from its checksums
 * (and differ between registries).  They are the same whenever it is tried
 * again, in any worker, after a restart, and after the blob was removed and
 * fetched again: who knows a part of it has no second throw.
 */

static ngx_int_t
ngx_oci_prove_places(ngx_oci_prove_t *prove)
{
    size_t                   i, n, slices;
    uint64_t                 pos;
    SHA256_CTX               sha;
    ngx_oci_blob_t          *blob;
    ngx_oci_store_record_t   records[NGX_OCI_PROVE_RECORDS];

    blob = prove->blob;
    pos = NGX_OCI_STORE_RECORDS;

    (void) SHA256_Init(&sha);
    (void) SHA256_Update(&sha, prove->registry->name.data,
                         prove->registry->name.len);
    (void) SHA256_Update(&sha, "", 1);
    (void) SHA256_Update(&sha, blob->digest.bytes, blob->digest.size);

    for (slices = blob->store.slices; slices; slices -= n) {

        n = ngx_min(slices, NGX_OCI_PROVE_RECORDS);

        if (ngx_oci_prove_read(blob->store.map, records,
                               n * sizeof(ngx_oci_store_record_t), pos)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        pos += n * sizeof(ngx_oci_store_record_t);

        for (i = 0; i < n; i++) {
            (void) SHA256_Update(&sha, &records[i].crc, sizeof(uint32_t));
        }
    }

    (void) SHA256_Final((u_char *) prove->places, &sha);

    return NGX_OK;
}


/*
 * As rc above: from the place on the first bytes that are not to be guessed.
 * Not from far away: what lies behind long runs of zeros would be asked for
 * rather than the rest, and may be all that somebody knows.
 */

static ngx_int_t
ngx_oci_prove_look(ngx_oci_prove_t *prove, uint64_t pos, uint64_t size)
{
    size_t  n, i;
    u_char  buf[NGX_OCI_PROVE_LOOK];

    n = ngx_min(size - pos, NGX_OCI_PROVE_LOOK);

    if (ngx_oci_prove_read(prove->blob->store.fd, buf, n, pos) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i + NGX_OCI_PROVE_BYTES <= n; i += NGX_OCI_PROVE_BYTES) {

        if (ngx_oci_prove_telling(buf + i)) {
            prove->pos = pos + i;
            ngx_memcpy(prove->stored, buf + i, NGX_OCI_PROVE_BYTES);
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


static ngx_uint_t
ngx_oci_prove_telling(u_char *p)
{
    u_char      seen[256];
    ngx_uint_t  i, n;

    ngx_memzero(seen, sizeof(seen));

    for (i = 0, n = 0; i < NGX_OCI_PROVE_BYTES; i++) {
        n += !seen[p[i]];
        seen[p[i]] = 1;
    }

    return n >= NGX_OCI_PROVE_DISTINCT;
}


static ngx_int_t
ngx_oci_prove_read(int fd, void *buf, size_t len, uint64_t pos)
{
    u_char   *p;
    ssize_t   n;

    p = buf;

    while (len) {
        n = pread(fd, p, len, pos);

        if (n == -1 && ngx_errno == NGX_EINTR) {
            continue;
        }

        if (n <= 0) {
            if (n == 0) {
                ngx_set_errno(ENODATA);
            }

            return NGX_ERROR;
        }

        p += n;
        len -= n;
        pos += n;
    }

    return NGX_OK;
}


static void
ngx_oci_prove_picked(void *data)
{
    ngx_oci_prove_t *prove = data;

    if (prove->rc == NGX_DECLINED) {
        ngx_log_error(NGX_LOG_INFO, ngx_cycle->log, 0,
                      "a blob with many equal bytes in \"%V\" is passed "
                      "through: who has it can't be told from who guesses",
                      &prove->blob->cache->path->name);
    }

    /* who asked for it may have left meanwhile */

    if (prove->rc != NGX_OK || ngx_queue_empty(&prove->waiters)
        || ngx_oci_prove_ask(prove) != NGX_OK)
    {
        ngx_oci_prove_end(prove, NGX_DECLINED);
    }
}


static ngx_int_t
ngx_oci_prove_ask(ngx_oci_prove_t *prove)
{
    u_char              *p;
    ngx_oci_registry_t  *registry;
    ngx_oci_exchange_t  *ex;

    registry = prove->registry;

    ex = ngx_oci_core.exchange_create(registry, ngx_cycle->log);
    if (ex == NULL) {
        return NGX_ERROR;
    }

    ex->uri.data = ngx_pnalloc(ex->pool, sizeof("/v2//blobs/") - 1
                                         + prove->repository.len
                                         + NGX_OCI_DIGEST_LEN);

    if (ex->uri.data == NULL
        || ngx_oci_prove_copy(ex->pool, &ex->repository, &prove->repository)
           != NGX_OK
        || ngx_oci_prove_copy(ex->pool, &ex->authorization,
                              &prove->authorization)
           != NGX_OK)
    {
        ngx_oci_core.exchange_abort(ex);
        return NGX_ERROR;
    }

    p = ngx_sprintf(ex->uri.data, "/v2/%V/blobs/", &prove->repository);
    p = ngx_oci_digest_print(p, &prove->blob->digest);
    ex->uri.len = p - ex->uri.data;

    ex->credentials = registry->credentials;
    ex->stored = registry->stored;
    prove->received = 0;
    prove->started = ngx_time();

    ex->range_start = prove->pos;
    ex->range_end = prove->pos + prove->len;
    ex->data = prove;
    ex->header = ngx_oci_prove_header;
    ex->buffer = ngx_oci_prove_buffer;
    ex->received = ngx_oci_prove_received;
    ex->done = ngx_oci_prove_done;

    return ngx_oci_core.exchange_start(ex);
}


static ngx_int_t
ngx_oci_prove_header(ngx_oci_exchange_t *ex)
{
    ngx_oci_prove_t *prove = ex->data;

    if (ex->in.status != NGX_HTTP_PARTIAL_CONTENT
        || ex->in.range_start != ex->range_start
        || ex->in.range_end != ex->range_end
        || ex->in.range_total != (off_t) prove->blob->size)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* one byte more than there should be, so that it is seen */

static ngx_int_t
ngx_oci_prove_buffer(ngx_oci_exchange_t *ex, u_char **p, size_t *size)
{
    ngx_oci_prove_t *prove = ex->data;

    if (prove->received > prove->len) {
        return NGX_ERROR;
    }

    *p = prove->answer + prove->received;
    *size = prove->len + 1 - prove->received;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_prove_received(ngx_oci_exchange_t *ex, size_t n, ngx_uint_t idle)
{
    ngx_oci_prove_t *prove = ex->data;

    prove->received += n;
    prove->bytes += n;

    return (ngx_time() - prove->started > NGX_OCI_PROVE_TIME) ? NGX_ERROR
                                                              : NGX_OK;
}


static void
ngx_oci_prove_done(ngx_oci_exchange_t *ex, ngx_int_t rc)
{
    ngx_oci_prove_t *prove = ex->data;

    u_char     text[NGX_OCI_DIGEST_LEN];
    ngx_str_t  digest;

    if (rc == NGX_OK
        && prove->received == prove->len
        && ngx_memcmp(prove->answer, prove->stored, prove->len) == 0)
    {
        ngx_oci_prove_next(prove);
        return;
    }

    /* an outage or a caller without rights says nothing about the registry */

    switch (ex->in.status) {

    case NGX_HTTP_OK:
    case NGX_HTTP_PARTIAL_CONTENT:
    case NGX_HTTP_NOT_FOUND:
    case NGX_HTTP_RANGE_NOT_SATISFIABLE:
        ngx_oci_index_doubt(prove->blob->cache, prove->blob->entry,
                            ngx_oci_index_origin(prove->registry));
    }

    digest.data = text;
    digest.len = ngx_oci_digest_print(text, &prove->blob->digest) - text;

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "registry \"%V\" did not show that it has \"%V\" "
                  "(status %ui), which another one's callers have stored: "
                  "it is passed through", &prove->registry->name, &digest,
                  ex->in.status);

    ngx_oci_prove_end(prove, NGX_DECLINED);
}


/* who knows a part of a blob may be lucky once */

static void
ngx_oci_prove_next(ngx_oci_prove_t *prove)
{
    if (prove->blob->size > NGX_OCI_PROVE_BYTES
        && prove->place + 1 < NGX_OCI_PROVE_PLACES)
    {
        prove->place++;

        if (ngx_oci_io_post(prove->blob->cache, &prove->task) != NGX_OK) {
            ngx_oci_prove_end(prove, NGX_DECLINED);
        }

        return;
    }

    ngx_oci_prove_end(prove, NGX_OK);
}


/* frees it, or hands it on */

static void
ngx_oci_prove_end(ngx_oci_prove_t *prove, ngx_int_t rc)
{
    off_t                    bytes;
    ngx_queue_t              list, *q;
    ngx_oci_prove_waiter_t  *waiter;

    ngx_queue_remove(&prove->queue);

    bytes = prove->bytes;

    ngx_queue_init(&list);

    if (!ngx_queue_empty(&prove->waiters)) {
        ngx_queue_add(&list, &prove->waiters);
    }

    if (rc == NGX_OK) {
        rc = ngx_oci_index_prove(prove->blob->cache, prove->blob->entry,
                                 prove->blob->generation,
                                 ngx_oci_index_origin(prove->registry));
    }

    if (rc == NGX_OK) {
        ngx_oci_prove_keep(prove);

    } else {
        ngx_oci_prove_free(prove);
    }

    /* a handler may lead to anything */

    while (!ngx_queue_empty(&list)) {
        q = ngx_queue_head(&list);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_oci_prove_waiter_t, queue);
        waiter->waiting = 0;
        waiter->handler(waiter->data, rc, bytes);
    }
}


/*
 * Into the sidecar.  Meanwhile the blob is owned, as a fill does it: both use
 * one descriptor, whose lock is theirs in common.  Where a fill is under way
 * only memory knows.
 */

static void
ngx_oci_prove_keep(ngx_oci_prove_t *prove)
{
    ngx_oci_blob_t  *blob;

    blob = prove->blob;

    if (ngx_oci_index_own(blob->cache, blob->entry) != NGX_OK) {
        ngx_oci_prove_free(prove);
        return;
    }

    prove->task.run = ngx_oci_prove_keep_task;
    prove->task.done = ngx_oci_prove_kept;

    if (ngx_oci_io_post(blob->cache, &prove->task) != NGX_OK) {
        ngx_oci_prove_kept(prove);
    }
}


static void
ngx_oci_prove_keep_task(void *data, ngx_log_t *log)
{
    ngx_oci_prove_t *prove = data;

    ngx_oci_blob_t  *blob;

    blob = prove->blob;

    /* another nginx may have the lock; what isn't kept is asked for again
       some day */

    if (ngx_oci_store_lock(blob->cache, &blob->digest, blob->store.map)
        != NGX_OK)
    {
        return;
    }

    if (ngx_oci_store_prove(blob->store.map,
                            ngx_oci_index_origin(prove->registry))
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "writing a blob's sidecar in \"%V\" failed",
                      &blob->cache->path->name);
    }

    ngx_oci_store_unlock(blob->store.map);
}


static void
ngx_oci_prove_kept(void *data)
{
    ngx_oci_prove_t *prove = data;

    ngx_oci_index_disown(prove->blob->cache, prove->blob->entry, 0, 0);

    ngx_oci_prove_free(prove);
}


static void
ngx_oci_prove_free(ngx_oci_prove_t *prove)
{
    ngx_oci_blob_unref(prove->blob);

    if (prove->authorization.len) {
        ngx_explicit_memzero(prove->authorization.data,
                             prove->authorization.len);
    }

    ngx_destroy_pool(prove->pool);
}
