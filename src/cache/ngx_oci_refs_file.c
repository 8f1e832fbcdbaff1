
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_open.h"
#include "ngx_oci_refs.h"
#include <openssl/rand.h>


/* a file, in the host's byte order; there is no padding */

typedef struct {
    u_char                    magic[8];
    uint32_t                  version;
    uint32_t                  crc;          /* of all with crc 0 */
    u_char                    key[NGX_OCI_REFS_KEY];
    uint32_t                  alg;
    uint32_t                  sent;
    u_char                    digest[NGX_OCI_DIGEST_BYTES];
    int64_t                   size;
    int64_t                   checked;      /* s since 1970 */
    int64_t                   epoch;        /* of its repository's file: what
                                               has another one is void */
    u_char                    media_type_len;
    u_char                    media_type[127];
} ngx_oci_refs_record_t;


/* Owner: its disk task, whose done() frees it */

typedef struct {
    ngx_oci_cache_t          *cache;
    ngx_oci_task_t            task;
    ngx_uint_t                kind;         /* ..._op_e */
    ngx_uint_t                number;       /* of the temporary file */
    ngx_oci_refs_place_t      place;
    time_t                    started;
    time_t                    mtime;
    ngx_int_t                 rc;
    ngx_uint_t                failed;       /* more than "not there" */
    ngx_uint_t                found;        /* what is purged */
    ngx_oci_refs_record_t     record;
    ngx_oci_ref_t            *ref;          /* the caller's */
    void                    (*handler)(void *data, ngx_int_t rc);
    void                     *data;
} ngx_oci_refs_op_t;


static ngx_int_t ngx_oci_refs_read(ngx_oci_refs_op_t *op, u_char *key,
    ngx_oci_refs_record_t *record, int *fdp, ngx_log_t *log);
static void ngx_oci_refs_renew(ngx_oci_refs_op_t *op, int fd);
static void ngx_oci_refs_read_task(void *data, ngx_log_t *log);
static void ngx_oci_refs_read_done(void *data);
static void ngx_oci_refs_write_task(void *data, ngx_log_t *log);
static void ngx_oci_refs_unlink_task(void *data, ngx_log_t *log);
static void ngx_oci_refs_purge_task(void *data, ngx_log_t *log);
static void ngx_oci_refs_unlink(ngx_oci_refs_op_t *op, u_char *key,
    ngx_log_t *log);
static ngx_int_t ngx_oci_refs_epoch(ngx_oci_refs_op_t *op, int64_t *epoch,
    ngx_uint_t create, ngx_log_t *log);
static ngx_int_t ngx_oci_refs_epoch_create(ngx_oci_refs_op_t *op,
    ngx_log_t *log);
static ngx_int_t ngx_oci_refs_create(ngx_oci_refs_op_t *op, u_char *key,
    ngx_oci_refs_record_t *record, ngx_uint_t replace, ngx_log_t *log);
static ngx_uint_t ngx_oci_refs_valid(ngx_oci_refs_record_t *record,
    u_char *key);
static void ngx_oci_refs_settle(void *data);
static ngx_uint_t ngx_oci_refs_slow(ngx_oci_refs_op_t *op);
static ngx_uint_t ngx_oci_refs_late(ngx_oci_refs_op_t *op, ngx_oci_ref_t *ref);
static void ngx_oci_refs_encode(ngx_oci_refs_record_t *record, u_char *key,
    ngx_oci_ref_t *ref);
static ngx_int_t ngx_oci_refs_decode(ngx_oci_refs_record_t *record,
    u_char *key, ngx_oci_ref_t *ref);
static uint32_t ngx_oci_refs_record_crc(ngx_oci_refs_record_t *record);
static void ngx_oci_refs_names(u_char *key, char sub[3], char *name);


typedef char ngx_oci_refs_record_is_packed[
                          (sizeof(ngx_oci_refs_record_t) == 272) ? 1 : -1];


#define NGX_OCI_REFS_TRIES  3     /* for a repository's file */


static u_char  ngx_oci_refs_magic[8] = { 'n', 'g', 'x', 'o', 'c', 'i', 'r',
                                         '\n' };


ngx_int_t
ngx_oci_refs_post(ngx_oci_cache_t *cache, ngx_oci_refs_place_t *place,
    ngx_uint_t kind, ngx_oci_ref_t *ref, ngx_int_t rc,
    void (*handler)(void *data, ngx_int_t rc), void *data)
{
    ngx_oci_refs_op_t  *op;

    static ngx_uint_t   number;

    op = ngx_calloc(sizeof(ngx_oci_refs_op_t), ngx_cycle->log);
    if (op == NULL) {
        return NGX_ERROR;
    }

    if (number == 0) {

        /* a process of this id may have left a file */

        number = (ngx_uint_t) ngx_random();
    }

    op->cache = cache;
    op->kind = kind;
    op->number = ++number;
    op->place = *place;
    op->started = ngx_time();
    op->rc = rc;
    op->handler = handler;
    op->data = data;

    op->task.data = op;
    op->task.done = ngx_oci_refs_settle;

    switch (kind) {

    case NGX_OCI_REFS_READ:
        op->ref = ref;
        op->task.run = ngx_oci_refs_read_task;
        op->task.done = ngx_oci_refs_read_done;
        break;

    case NGX_OCI_REFS_WRITE:
        ngx_oci_refs_encode(&op->record, place->key, ref);
        op->task.run = ngx_oci_refs_write_task;
        break;

    case NGX_OCI_REFS_UNLINK:
        op->task.run = ngx_oci_refs_unlink_task;
        break;

    default:
        op->task.run = ngx_oci_refs_purge_task;
    }

    if (ngx_oci_io_post(cache, &op->task) != NGX_OK) {
        ngx_free(op);
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_oci_refs_write(ngx_oci_cache_t *cache, ngx_oci_refs_place_t *place,
    ngx_oci_ref_t *ref, ngx_log_t *log)
{
    if (ngx_oci_refs_post(cache, place, NGX_OCI_REFS_WRITE, ref, NGX_DECLINED,
                          NULL, NULL)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "a reference was not written to \"%V\"",
                      &cache->path->name);
    }
}


/*
 * Reads the record of a key.  NGX_OK; NGX_DECLINED: there is none, or a part
 * of one; NGX_ERROR: logged.
 */

static ngx_int_t
ngx_oci_refs_read(ngx_oci_refs_op_t *op, u_char *key,
    ngx_oci_refs_record_t *record, int *fdp, ngx_log_t *log)
{
    int          fd;
    char         sub[3], name[NGX_OCI_REFS_NAME];
    ssize_t      n;
    struct stat  sb;

    ngx_oci_refs_names(key, sub, name);

    fd = ngx_oci_open(op->cache, op->cache->refs_dir, sub, name, O_RDONLY,
                      log);
    if (fd == -1) {

        if (ngx_errno == ENOENT || ngx_errno == NGX_OCI_SAID) {
            return NGX_DECLINED;
        }

        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "open() \"%V/refs/%s/%s\" failed",
                      &op->cache->path->name, sub, name);
        return NGX_ERROR;
    }

    if (fstat(fd, &sb) == -1) {
        close(fd);
        return NGX_DECLINED;
    }

    n = pread(fd, record, sizeof(ngx_oci_refs_record_t), 0);

    if (n == -1) {
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "pread() \"%V/refs/%s/%s\" failed",
                      &op->cache->path->name, sub, name);
        close(fd);
        return NGX_ERROR;
    }

    if (n != sizeof(ngx_oci_refs_record_t)) {
        close(fd);
        return NGX_DECLINED;
    }

    op->mtime = sb.st_mtime;
    *fdp = fd;

    return NGX_OK;
}


/* what is used must not expire; closes fd */

static void
ngx_oci_refs_renew(ngx_oci_refs_op_t *op, int fd)
{
    if (op->started - op->mtime > NGX_OCI_REFS_FRESH
        && futimens(fd, NULL) == 0)
    {
        op->mtime = op->started;
    }

    close(fd);
}


static void
ngx_oci_refs_read_task(void *data, ngx_log_t *log)
{
    ngx_oci_refs_op_t *op = data;

    int        fd;
    int64_t    epoch;
    ngx_int_t  rc;

    rc = ngx_oci_refs_read(op, op->place.key, &op->record, &fd, log);

    if (rc == NGX_ERROR) {
        op->failed = 1;
    }

    if (rc != NGX_OK) {
        return;
    }

    if (op->record.version != NGX_OCI_REFS_VERSION) {

        /* of another build */

        close(fd);
        return;
    }

    if (ngx_oci_refs_valid(&op->record, op->place.key)) {

        rc = ngx_oci_refs_epoch(op, &epoch, 0, log);

        if (rc != NGX_OK || op->record.epoch != epoch) {
            op->failed = (rc == NGX_ERROR);
            close(fd);
            return;
        }
    }

    op->rc = NGX_OK;
    ngx_oci_refs_renew(op, fd);
}


static void
ngx_oci_refs_read_done(void *data)
{
    ngx_oci_refs_op_t *op = data;

    void                 *d;
    ngx_int_t             rc;
    ngx_oci_ref_t         ref;
    ngx_oci_refs_node_t  *node;
    void                (*handler)(void *data, ngx_int_t rc);

    rc = op->rc;

    if (rc == NGX_OK) {
        rc = ngx_oci_refs_decode(&op->record, op->place.key, &ref);

        if (rc != NGX_OK) {
            ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                          "a file in \"%V/refs\" is damaged, it is ignored",
                          &op->cache->path->name);
        }
    }

    if (op->failed) {
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
    }

    ngx_oci_refs_lock(op->cache);

    /* what came meanwhile counts; a removal is older than the reading if it
       isn't known any more, a purge is told by the mark */

    node = ngx_oci_refs_find(op->cache, op->place.key);

    if (node && ngx_oci_refs_live(op->cache, &op->place, node)) {
        ngx_oci_refs_get(node, &ref);
        rc = NGX_OK;

    } else if (ngx_oci_refs_slow(op)
               || ngx_oci_refs_mark(op->cache, &op->place)->changes
                  != op->place.seen.changes
               || (node && node->type == NGX_OCI_REFS_REMOVED
                   && ngx_time() - node->checked < NGX_OCI_REFS_GONE))
    {
        rc = NGX_DECLINED;

    } else if (rc == NGX_OK && ngx_oci_refs_late(op, &ref)) {
        rc = NGX_DECLINED;

    } else if (rc == NGX_OK) {
        (void) ngx_oci_refs_put_ref(op->cache, &op->place, &ref, op->mtime);
    }

    ngx_oci_refs_unlock(op->cache);

    if (rc == NGX_OK) {
        *op->ref = ref;
    }

    handler = op->handler;
    d = op->data;
    ngx_free(op);

    handler(d, rc);
}


static void
ngx_oci_refs_write_task(void *data, ngx_log_t *log)
{
    ngx_oci_refs_op_t *op = data;

    int64_t               epoch;
    ngx_int_t             rc;
    ngx_oci_refs_mark_t  *mark;

    rc = ngx_oci_refs_epoch(op, &epoch, 1, log);

    if (rc != NGX_OK) {
        op->failed = (rc == NGX_ERROR);

        /* an older record could be wrong by now */

        ngx_oci_refs_unlink(op, op->place.key, log);
        op->rc = NGX_DECLINED;
        return;
    }

    /* of a repository that was purged since: its file was read or made after
       that perhaps, and this is from before */

    mark = ngx_oci_refs_mark(op->cache, &op->place);

    if (__atomic_load_n(&mark->epoch, __ATOMIC_ACQUIRE)
        != op->place.seen.epoch)
    {
        return;
    }

    op->record.epoch = epoch;
    op->record.crc = ngx_oci_refs_record_crc(&op->record);

    rc = ngx_oci_refs_create(op, op->place.key, &op->record, 1, log);

    if (rc != NGX_OK) {
        op->failed = (rc == NGX_ERROR);
        ngx_oci_refs_unlink(op, op->place.key, log);
        op->rc = NGX_DECLINED;
        return;
    }

    op->rc = NGX_OK;
}


/*
 * Writes a record by way of a temporary file.  NGX_OK; NGX_BUSY: not to be
 * replaced, and it is there; NGX_DECLINED: no room for it; NGX_ERROR: logged.
 */

static ngx_int_t
ngx_oci_refs_create(ngx_oci_refs_op_t *op, u_char *key,
    ngx_oci_refs_record_t *record, ngx_uint_t replace, ngx_log_t *log)
{
    int        fd, dir;
    char       sub[3], name[NGX_OCI_REFS_NAME], tmp[NGX_OCI_REFS_TMP];
    time_t     pinned;
    ngx_err_t  err;

    pinned = 0;

    ngx_oci_refs_names(key, sub, name);
    (void) ngx_sprintf((u_char *) tmp, "%s.%P.%ui.tmp%Z", name, ngx_pid,
                       op->number);

    if (replace) {
        pinned = ngx_oci_refs_replace(op->cache, op->cache->refs_dir, sub,
                                      name, log);
    }

    if (ngx_oci_refs_room(op->cache, sizeof(ngx_oci_refs_record_t), log)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    err = 0;

    fd = ngx_oci_open(op->cache, op->cache->refs_dir, sub, tmp,
                      O_WRONLY|O_CREAT|O_EXCL, log);
    if (fd == -1) {
        err = ngx_errno;

    } else {
        if (ngx_oci_store_write(fd, (u_char *) record,
                                sizeof(ngx_oci_refs_record_t), 0)
            != NGX_OK)
        {
            err = ngx_errno;
        }

        ngx_oci_pin_fd(fd, pinned);

        if (close(fd) == -1 && err == 0) {
            err = ngx_errno;
        }
    }

    dir = ngx_oci_open_sub(op->cache, op->cache->refs_dir, sub, 0, log);

    if (dir == -1) {
        err = err ? err : ngx_errno;

    } else {
        if (err == 0
            && (replace ? renameat(dir, tmp, dir, name)
                        : linkat(dir, tmp, dir, name, 0))
               == -1)
        {
            err = ngx_errno;
        }

        if (fd != -1 && (err || !replace)) {
            (void) unlinkat(dir, tmp, 0);
        }

        close(dir);
    }

    if (err == 0) {
        return NGX_OK;
    }

    ngx_oci_refs_unroom(op->cache, sizeof(ngx_oci_refs_record_t));

    if (err == EEXIST && !replace) {
        return NGX_BUSY;
    }

    if (err != NGX_OCI_SAID) {
        ngx_log_error(ngx_oci_refs_level(err), log, err,
                      "writing \"%V/refs/%s/%s\" failed",
                      &op->cache->path->name, sub, name);
    }

    return NGX_ERROR;
}


/*
 * The number that the repository's file has, and all files of its references
 * that are not void.  NGX_OK; NGX_DECLINED: it has none, and so no reference,
 * or there is no room for one; NGX_ERROR: logged.
 */

static ngx_int_t
ngx_oci_refs_epoch(ngx_oci_refs_op_t *op, int64_t *epoch, ngx_uint_t create,
    ngx_log_t *log)
{
    int                    fd;
    time_t                 mtime;
    ngx_int_t              rc;
    ngx_uint_t             tries;
    ngx_oci_refs_record_t  record;

    mtime = op->mtime;

    for (tries = 0; tries < NGX_OCI_REFS_TRIES; tries++) {

        rc = ngx_oci_refs_read(op, op->place.repo, &record, &fd, log);

        if (rc == NGX_OK) {
            ngx_oci_refs_renew(op, fd);
        }

        op->mtime = mtime;

        if (rc == NGX_ERROR) {
            return rc;
        }

        if (rc == NGX_OK && ngx_oci_refs_valid(&record, op->place.repo)) {
            *epoch = record.epoch;
            return NGX_OK;
        }

        if (!create) {
            return NGX_DECLINED;
        }

        if (tries) {

            /* damaged, or of another build */

            ngx_oci_refs_unlink(op, op->place.repo, log);
        }

        rc = ngx_oci_refs_epoch_create(op, log);

        if (rc == NGX_ERROR || rc == NGX_DECLINED) {
            return rc;
        }
    }

    return NGX_ERROR;
}


static ngx_int_t
ngx_oci_refs_epoch_create(ngx_oci_refs_op_t *op, ngx_log_t *log)
{
    ngx_oci_refs_record_t  record;

    ngx_memzero(&record, sizeof(ngx_oci_refs_record_t));

    ngx_memcpy(record.magic, ngx_oci_refs_magic, 8);
    record.version = NGX_OCI_REFS_VERSION;
    ngx_memcpy(record.key, op->place.repo, NGX_OCI_REFS_KEY);

    if (RAND_bytes((u_char *) &record.epoch, sizeof(record.epoch)) != 1) {
        ngx_log_error(NGX_LOG_ALERT, log, 0, "RAND_bytes() failed");
        return NGX_ERROR;
    }

    record.crc = ngx_oci_refs_record_crc(&record);

    return ngx_oci_refs_create(op, op->place.repo, &record, 0, log);
}


static void
ngx_oci_refs_unlink_task(void *data, ngx_log_t *log)
{
    ngx_oci_refs_op_t *op = data;

    ngx_oci_refs_unlink(op, op->place.key, log);
}


/* op->rc: NGX_OK: it is not there any more */

static void
ngx_oci_refs_unlink(ngx_oci_refs_op_t *op, u_char *key, ngx_log_t *log)
{
    int        dir;
    char       sub[3], name[NGX_OCI_REFS_NAME];
    ngx_err_t  err;

    ngx_oci_refs_names(key, sub, name);

    err = 0;
    dir = ngx_oci_open_sub(op->cache, op->cache->refs_dir, sub, 0, log);

    if (dir == -1) {
        err = ngx_errno;

    } else if (unlinkat(dir, name, 0) == -1) {
        err = ngx_oci_open_err(op->cache, ngx_errno, log);

    } else {
        ngx_oci_refs_unroom(op->cache, sizeof(ngx_oci_refs_record_t));
    }

    if (dir != -1) {
        close(dir);
    }

    if (err && err != ENOENT) {
        op->failed = 1;
        op->rc = NGX_ERROR;

        if (err != NGX_OCI_SAID) {
            ngx_log_error(NGX_LOG_CRIT, log, err,
                          "unlinkat() \"%V/refs/%s/%s\" failed",
                          &op->cache->path->name, sub, name);
        }

        return;
    }

    op->rc = NGX_OK;
}


/* op->found: there was something */

static void
ngx_oci_refs_purge_task(void *data, ngx_log_t *log)
{
    ngx_oci_refs_op_t *op = data;

    u_char   *key;
    int64_t   epoch;

    if (op->kind == NGX_OCI_REFS_VOID) {
        op->found = (ngx_oci_refs_epoch(op, &epoch, 0, log) == NGX_OK);
        key = op->place.repo;

    } else {
        op->found = (op->rc == NGX_OK);
        op->rc = NGX_DECLINED;

        ngx_oci_refs_read_task(op, log);

        if (op->rc == NGX_OK
            && ngx_oci_refs_valid(&op->record, op->place.key))
        {
            op->found = 1;
        }

        key = op->place.key;
    }

    ngx_oci_refs_unlink(op, key, log);
}


/*
 * A file was written or unlinked.  Others may have come to it before or
 * since, in another order than to memory: now it is made what memory says.
 */

static void
ngx_oci_refs_settle(void *data)
{
    ngx_oci_refs_op_t *op = data;

    ngx_uint_t            next;
    ngx_oci_ref_t         ref;
    ngx_oci_refs_mark_t  *mark;
    ngx_oci_refs_node_t  *node;

    next = 0;

    if (op->failed) {
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
    }

    ngx_oci_refs_lock(op->cache);

    mark = ngx_oci_refs_mark(op->cache, &op->place);

    /* who read the file before it went learned what is void */

    if (op->kind == NGX_OCI_REFS_PURGE || op->kind == NGX_OCI_REFS_VOID) {
        mark->changes++;
    }

    if (op->kind == NGX_OCI_REFS_VOID) {
        mark->epoch++;
    }

    node = ngx_oci_refs_find(op->cache, op->place.key);

    if (op->kind == NGX_OCI_REFS_VOID) {

        /* (nothing is kept in memory of a repository itself) */

    } else if (op->rc != NGX_OK) {

        /* not tried again by itself: the disk may be full */

        if (node && node->type == NGX_OCI_REFS_REF) {
            node->stored = 0;
        }

    } else if (op->kind == NGX_OCI_REFS_PURGE && node
               && node->type == NGX_OCI_REFS_REMOVED)
    {
        /* the file is gone, nothing else needs the disk not to be asked:
           who pushes may name any number of references */

        ngx_oci_refs_delete(op->cache, node);

    } else if (node && ngx_oci_refs_live(op->cache, &op->place, node)) {

        if (op->kind != NGX_OCI_REFS_WRITE
            || ngx_oci_refs_decode(&op->record, op->place.key, &ref) != NGX_OK
            || !ngx_oci_refs_equal(node, &ref))
        {
            ngx_oci_refs_get(node, &ref);
            node->stored = ngx_time();
            next = NGX_OCI_REFS_WRITE;
        }

    } else if (op->kind == NGX_OCI_REFS_WRITE
               && (node || ngx_oci_refs_slow(op)
                   || mark->changes != op->place.seen.changes))
    {
        next = NGX_OCI_REFS_UNLINK;
    }

    op->place.seen = *mark;

    ngx_oci_refs_unlock(op->cache);

    if (next
        && ngx_oci_refs_post(op->cache, &op->place, next, &ref, NGX_DECLINED,
                             NULL, NULL)
           != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "the file of a reference in \"%V\" is out of date",
                      &op->cache->path->name);
    }

    if (op->handler) {
        op->handler(op->data, (op->rc != NGX_OK) ? NGX_ERROR
                              : op->found ? NGX_OK : NGX_DECLINED);
    }

    ngx_free(op);
}


/* the clock may have been set meanwhile */

static ngx_uint_t
ngx_oci_refs_slow(ngx_oci_refs_op_t *op)
{
    return ngx_time() - op->started >= NGX_OCI_REFS_SLOW
           || ngx_time() < op->started;
}


/*
 * A file that was on its way when its reference was purged, and came after
 * that had found none: it goes as soon as who wrote it compares it with
 * memory, which says nothing any more.  What was learned at the time of the
 * purge, or before, is not believed until then; clocks of workers differ by
 * less than a second.
 */

static ngx_uint_t
ngx_oci_refs_late(ngx_oci_refs_op_t *op, ngx_oci_ref_t *ref)
{
    time_t                purged;
    ngx_oci_refs_mark_t  *mark;

    mark = ngx_oci_refs_mark(op->cache, &op->place);
    purged = mark->purged;

    return ngx_time() - purged < NGX_OCI_REFS_GONE
           && ref->checked <= purged + 1
           && (mark->reference == 0
               || ngx_memcmp(&mark->reference, op->place.key,
                             sizeof(uint32_t))
                  == 0);
}


static void
ngx_oci_refs_encode(ngx_oci_refs_record_t *record, u_char *key,
    ngx_oci_ref_t *ref)
{
    ngx_memzero(record, sizeof(ngx_oci_refs_record_t));

    ngx_memcpy(record->magic, ngx_oci_refs_magic, 8);
    record->version = NGX_OCI_REFS_VERSION;
    ngx_memcpy(record->key, key, NGX_OCI_REFS_KEY);
    record->alg = (uint32_t) ref->digest.alg;
    ngx_memcpy(record->digest, ref->digest.bytes, ref->digest.size);
    record->size = ref->size;
    record->checked = ref->checked;
    record->sent = ref->sent;
    record->media_type_len = ref->media_type_len;
    ngx_memcpy(record->media_type, ref->media_type, ref->media_type_len);

    record->crc = ngx_oci_refs_record_crc(record);
}


static ngx_int_t
ngx_oci_refs_decode(ngx_oci_refs_record_t *record, u_char *key,
    ngx_oci_ref_t *ref)
{
    if (!ngx_oci_refs_valid(record, key)
        || (record->alg != NGX_OCI_SHA256 && record->alg != NGX_OCI_SHA512)
        || record->size < -1
        || record->media_type_len > sizeof(ref->media_type))
    {
        return NGX_DECLINED;
    }

    ngx_memzero(ref, sizeof(ngx_oci_ref_t));

    ref->digest.alg = record->alg;
    ref->digest.size = (record->alg == NGX_OCI_SHA256) ? 32 : 64;
    ngx_memcpy(ref->digest.bytes, record->digest, ref->digest.size);
    ref->size = (off_t) record->size;
    ref->checked = (time_t) ngx_min(record->checked, (int64_t) ngx_time());
    ref->sent = (record->sent != 0);
    ref->media_type_len = record->media_type_len;
    ngx_memcpy(ref->media_type, record->media_type, ref->media_type_len);

    return NGX_OK;
}


static ngx_uint_t
ngx_oci_refs_valid(ngx_oci_refs_record_t *record, u_char *key)
{
    return ngx_memcmp(record->magic, ngx_oci_refs_magic, 8) == 0
           && record->version == NGX_OCI_REFS_VERSION
           && record->crc == ngx_oci_refs_record_crc(record)
           && ngx_memcmp(record->key, key, NGX_OCI_REFS_KEY) == 0;
}


static uint32_t
ngx_oci_refs_record_crc(ngx_oci_refs_record_t *record)
{
    ngx_oci_refs_record_t  copy;

    ngx_memcpy(&copy, record, sizeof(ngx_oci_refs_record_t));
    copy.crc = 0;

    return ngx_oci_crc32c(0, (u_char *) &copy, sizeof(copy));
}


static void
ngx_oci_refs_names(u_char *key, char sub[3], char *name)
{
    u_char  *p;

    p = ngx_hex_dump((u_char *) name, key, NGX_OCI_REFS_KEY);
    *p = '\0';

    sub[0] = name[0];
    sub[1] = name[1];
    sub[2] = '\0';
}
