
/*
 * Copyright (C) The nginx-oci authors
 *
 * Makes room for a fill before it begins: what was not used for longest and
 * is not in use goes, in a thread.  Where that is not enough the blob is
 * passed through, and nothing is removed for it.
 */


#include "ngx_oci_push.h"


#define NGX_OCI_ROOM_FAILURES  64       /* of removals, by one task */
#define NGX_OCI_ROOM_WAITS     20       /* times that a file system is given */
#define NGX_OCI_ROOM_WAIT      10       /* ms, to free what was unlinked */
#define NGX_OCI_ROOM_SHED      50       /* ms that workers are given to close
                                           what nobody uses, */
#define NGX_OCI_ROOM_SHEDS     3        /* so often; before what is pinned
                                           goes, */
#define NGX_OCI_ROOM_PINS      20       /* while not all files were looked
                                           through */
#define NGX_OCI_ROOM_LOOK      20       /* ms between looks, if all is well */
#define NGX_OCI_ROOM_WARN      60       /* s between equal warnings */


/*
 * Owner: its task, whose done() frees it; it holds the reader and the blob,
 * and with that the entry.  Of a discarded blob only the digest is used.
 */

typedef struct {
    ngx_oci_cache_t        *cache;
    ngx_oci_reader_t       *rd;
    ngx_oci_blob_t         *blob;
    ngx_oci_digest_t        digest;
    uint64_t                pos;
    uint64_t                end;
    ngx_int_t               rc;
    ngx_oci_task_t          task;
} ngx_oci_room_op_t;


/* what one task has done to make room */

typedef struct {
    ngx_uint_t              failures;   /* of removals */
    ngx_uint_t              sheds;
    ngx_uint_t              pins;
} ngx_oci_room_tries_t;


static void ngx_oci_room_task(void *data, ngx_log_t *log);
static ngx_int_t ngx_oci_room_evict(ngx_oci_cache_t *cache,
    ngx_oci_shortage_t *shortage, ngx_oci_room_tries_t *tries);
static void ngx_oci_room_shed(ngx_oci_cache_t *cache);
static ngx_int_t ngx_oci_room_evict_one(ngx_oci_cache_t *cache,
    ngx_oci_shortage_t *shortage, ngx_uint_t all);
static ngx_int_t ngx_oci_room_check(ngx_oci_cache_t *cache, size_t n);
static void ngx_oci_room_done(void *data);
static void ngx_oci_room_refuse(ngx_oci_reader_t *rd);
static void ngx_oci_room_discard(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest);
static void ngx_oci_room_discard_task(void *data, ngx_log_t *log);
static void ngx_oci_room_discard_done(void *data);


ngx_int_t
ngx_oci_room(ngx_oci_reader_t *rd, uint64_t pos, uint64_t end)
{
    ngx_oci_blob_t      *blob;
    ngx_oci_room_op_t   *op;
    ngx_oci_shortage_t   shortage;

    blob = rd->blob;

    if (rd->ocf->abandoned_finish) {
        pos = 0;
        end = blob->size;
    }

    /* what was reserved is still there, unless an end of its own want, or
       somebody else's, gave it back */

    if (rd->reserved && blob->entry->reserved) {
        return NGX_OK;
    }

    if ((!rd->roomed || rd->room == NGX_OK)
        && ngx_oci_index_reserve(rd->cache, blob->entry, pos, end, &shortage)
           == NGX_OK)
    {
        rd->reserved = 1;
        return NGX_OK;
    }

    if (rd->roomed) {
        ngx_oci_room_refuse(rd);
        return NGX_DECLINED;
    }

    op = ngx_calloc(sizeof(ngx_oci_room_op_t), ngx_cycle->log);
    if (op == NULL) {
        return NGX_DECLINED;
    }

    op->cache = rd->cache;
    op->rd = rd;
    op->blob = blob;
    op->pos = pos;
    op->end = end;
    op->task.run = ngx_oci_room_task;
    op->task.done = ngx_oci_room_done;
    op->task.data = op;

    if (ngx_oci_io_post(rd->cache, &op->task) != NGX_OK) {
        ngx_free(op);
        return NGX_DECLINED;
    }

    rd->roomed = 1;
    rd->reserved = 0;
    rd->refs++;
    blob->refs++;

    return NGX_AGAIN;
}


static void
ngx_oci_room_task(void *data, ngx_log_t *log)
{
    ngx_oci_room_op_t *op = data;

    ngx_oci_shortage_t    shortage;
    ngx_oci_room_tries_t  tries;

    ngx_memzero(&tries, sizeof(ngx_oci_room_tries_t));

    (void) ngx_oci_room_look(op->cache);

    for ( ;; ) {
        op->rc = ngx_oci_index_reserve(op->cache, op->blob->entry, op->pos,
                                       op->end, &shortage);

        if (op->rc == NGX_OK) {
            return;
        }

        if (ngx_terminate) {

            /* who exits waits for this thread */

            return;
        }

        if (ngx_oci_room_evict(op->cache, &shortage, &tries) != NGX_OK) {
            ngx_oci_index_refuse(op->cache, op->end - op->pos);
            return;
        }
    }
}


/* something is done against a shortage.  NGX_OK: it may be over; NGX_DECLINED:
   nothing can be */

static ngx_int_t
ngx_oci_room_evict(ngx_oci_cache_t *cache, ngx_oci_shortage_t *shortage,
    ngx_oci_room_tries_t *tries)
{
    ngx_int_t  rc;

    if (tries->failures < NGX_OCI_ROOM_FAILURES
        && ngx_oci_index_evictable(cache, shortage) == NGX_OK)
    {
        rc = ngx_oci_room_evict_one(cache, shortage,
                                    tries->pins >= NGX_OCI_ROOM_SHEDS);

        if (rc == NGX_BUSY && tries->pins < NGX_OCI_ROOM_PINS) {

            /* all else is in use, or is just not known yet */

            tries->pins++;
            ngx_oci_room_shed(cache);

        } else if (rc != NGX_OK) {
            tries->failures++;
        }

        return NGX_OK;
    }

    if (tries->sheds++ == NGX_OCI_ROOM_SHEDS) {
        return NGX_DECLINED;
    }

    ngx_oci_room_shed(cache);

    return NGX_OK;
}


/* workers keep files open for a while after their last reader */

static void
ngx_oci_room_shed(ngx_oci_cache_t *cache)
{
    if (ngx_oci_index_set_tight(cache)) {
        ngx_oci_doorbell_ring_all(cache);
    }

    ngx_msleep(NGX_OCI_ROOM_SHED);
}


static ngx_int_t
ngx_oci_room_evict_one(ngx_oci_cache_t *cache, ngx_oci_shortage_t *shortage,
    ngx_uint_t all)
{
    off_t             free, before;
    time_t            accessed;
    uint64_t          bytes;
    ngx_int_t         rc;
    ngx_uint_t        i;
    ngx_oci_digest_t  digest;

    rc = ngx_oci_index_oldest(cache, all, &digest, &bytes, &accessed);
    if (rc != NGX_OK) {
        return rc;
    }

    before = ngx_oci_room_look(cache);

    if (ngx_oci_manager_drop(cache, &digest, 0) != NGX_OK) {
        return NGX_DECLINED;
    }

    ngx_oci_stat_add(NGX_OCI_STAT_EVICTED_BYTES, bytes);

    /* some file systems free it later: no more goes meanwhile */

    for (i = 0; i < NGX_OCI_ROOM_WAITS; i++) {

        free = ngx_oci_room_look(cache);

        if (!shortage->disk || free == -1
            || free - before >= (off_t) (bytes / 2))
        {
            break;
        }

        ngx_msleep(NGX_OCI_ROOM_WAIT);
    }

    return NGX_OK;
}


static void
ngx_oci_room_done(void *data)
{
    ngx_oci_room_op_t *op = data;

    ngx_connection_t  *c;
    ngx_oci_reader_t  *rd;

    rd = op->rd;
    c = NULL;

    rd->room = op->rc;
    rd->reserved = (op->rc == NGX_OK);

    if (rd->r) {
        c = rd->r->connection;

        ngx_http_set_log_request(c->log, rd->r);

        ngx_oci_blob_unref(op->blob);
        ngx_oci_send_start(rd);

    } else {
        ngx_oci_index_settle(op->cache, op->blob->entry);
        ngx_oci_blob_unref(op->blob);
    }

    ngx_free(op);

    ngx_oci_reader_run(rd, c);
}


ngx_int_t
ngx_oci_room_push(ngx_oci_push_t *up, uint64_t bytes, uint64_t all)
{
    ngx_oci_shortage_t    shortage;
    ngx_oci_room_tries_t  tries;

    if (ngx_oci_push_reserve(up, bytes, all, &shortage) == NGX_OK) {
        return NGX_OK;
    }

    ngx_memzero(&tries, sizeof(ngx_oci_room_tries_t));

    (void) ngx_oci_room_look(up->cache);

    for ( ;; ) {
        if (ngx_oci_push_reserve(up, bytes, all, &shortage) == NGX_OK) {
            return NGX_OK;
        }

        if (shortage.bytes == 0 || ngx_terminate
            || ngx_oci_room_evict(up->cache, &shortage, &tries) != NGX_OK)
        {
            return NGX_DECLINED;
        }
    }
}


/* without room: its files are not kept open, nor kept if they are empty */

static void
ngx_oci_room_refuse(ngx_oci_reader_t *rd)
{
    ngx_uint_t         level;
    ngx_oci_blob_t    *blob;
    ngx_oci_digest_t   digest;

    static time_t      warned;

    blob = rd->blob;

    level = NGX_LOG_INFO;

    if (ngx_time() - warned >= NGX_OCI_ROOM_WARN) {
        warned = ngx_time();
        level = NGX_LOG_WARN;
    }

    ngx_log_error(level, rd->r->connection->log, 0,
                  "no room for a blob of %uL bytes in \"%V\", all else is in "
                  "use: it is passed through", blob->size,
                  &rd->cache->path->name);

    digest = blob->digest;

    rd->blob = NULL;
    ngx_oci_blob_unref(blob);

    ngx_oci_room_discard(rd->cache, &digest);
}


static void
ngx_oci_room_discard(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest)
{
    ngx_oci_room_op_t  *op;

    if (!ngx_oci_index_empty(cache, digest)) {
        return;
    }

    op = ngx_calloc(sizeof(ngx_oci_room_op_t), ngx_cycle->log);
    if (op == NULL) {
        return;
    }

    op->cache = cache;
    op->digest = *digest;
    op->task.run = ngx_oci_room_discard_task;
    op->task.done = ngx_oci_room_discard_done;
    op->task.data = op;

    if (ngx_oci_io_post(cache, &op->task) != NGX_OK) {
        ngx_free(op);
    }
}


static void
ngx_oci_room_discard_task(void *data, ngx_log_t *log)
{
    ngx_oci_room_op_t *op = data;

    if (ngx_oci_index_empty(op->cache, &op->digest)) {
        (void) ngx_oci_manager_drop(op->cache, &op->digest, 0);
    }
}


static void
ngx_oci_room_discard_done(void *data)
{
    ngx_free(data);
}


ngx_int_t
ngx_oci_room_write(ngx_oci_cache_t *cache, int fd, u_char *p, size_t n,
    off_t offset)
{
    off_t                 free;
    ngx_int_t             rc;
    ngx_oci_shortage_t    shortage;
    ngx_oci_room_tries_t  tries;

    rc = ngx_oci_room_check(cache, n);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_memzero(&tries, sizeof(ngx_oci_room_tries_t));
    shortage.bytes = n;
    shortage.disk = 1;

    for ( ;; ) {
        rc = ngx_oci_store_write(fd, p, n, offset);

        if (rc == NGX_OK) {
            (void) ngx_oci_index_written(cache, n);
            return NGX_OK;
        }

        if (ngx_errno != NGX_ENOSPC) {
            return NGX_ERROR;
        }

        /* it may be something else than bytes that it has not enough of */

        free = ngx_oci_room_look(cache);

        if (free == -1 || free > (off_t) n * 2
            || ngx_oci_room_evict(cache, &shortage, &tries) != NGX_OK)
        {
            ngx_set_errno(NGX_ENOSPC);
            return NGX_ERROR;
        }
    }
}


/* was it reserved in vain, since somebody else fills the disk? */

static ngx_int_t
ngx_oci_room_check(ngx_oci_cache_t *cache, size_t n)
{
    off_t                 free;
    ngx_msec_t            age;
    ngx_oci_shortage_t    shortage;
    ngx_oci_room_tries_t  tries;

    if (cache->min_free == 0) {
        return NGX_OK;
    }

    free = ngx_oci_index_free(cache, &age);

    if (free - (off_t) n >= cache->min_free && age < NGX_OCI_ROOM_LOOK) {
        return NGX_OK;
    }

    ngx_memzero(&tries, sizeof(ngx_oci_room_tries_t));

    for ( ;; ) {
        free = ngx_oci_room_look(cache);

        if (free == -1 || free - (off_t) n >= cache->min_free) {
            return NGX_OK;
        }

        shortage.bytes = cache->min_free + n - free;
        shortage.disk = 1;

        if (ngx_oci_room_evict(cache, &shortage, &tries) != NGX_OK) {
            return NGX_DECLINED;
        }
    }
}


off_t
ngx_oci_room_look(ngx_oci_cache_t *cache)
{
    off_t     free;
    uint64_t  written;

    written = ngx_oci_index_written(cache, 0);

    free = ngx_oci_store_free(cache);

    ngx_oci_index_look(cache, free, written);

    return free;
}
