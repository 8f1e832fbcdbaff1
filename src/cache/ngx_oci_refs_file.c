
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_refs.h"


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
    int64_t                   checked;      /* s since the epoch */
    u_char                    media_type_len;
    u_char                    media_type[127];
} ngx_oci_refs_record_t;


/* Owner: its disk task, whose done() frees it */

typedef struct {
    ngx_oci_cache_t          *cache;
    ngx_oci_task_t            task;
    ngx_uint_t                kind;         /* ..._op_e */
    ngx_uint_t                number;       /* of the temporary file */
    u_char                    key[NGX_OCI_REFS_KEY];
    time_t                    started;
    time_t                    mtime;
    ngx_int_t                 rc;
    ngx_uint_t                failed;       /* more than "not there" */
    ngx_oci_refs_record_t     record;
    ngx_oci_ref_t            *ref;          /* the caller's */
    void                    (*handler)(void *data, ngx_int_t rc);
    void                     *data;
} ngx_oci_refs_op_t;


static void ngx_oci_refs_read_task(void *data, ngx_log_t *log);
static void ngx_oci_refs_read_done(void *data);
static void ngx_oci_refs_write_task(void *data, ngx_log_t *log);
static void ngx_oci_refs_unlink_task(void *data, ngx_log_t *log);
static void ngx_oci_refs_settle(void *data);
static ngx_uint_t ngx_oci_refs_slow(ngx_oci_refs_op_t *op);
static void ngx_oci_refs_encode(ngx_oci_refs_record_t *record, u_char *key,
    ngx_oci_ref_t *ref);
static ngx_int_t ngx_oci_refs_decode(ngx_oci_refs_record_t *record,
    u_char *key, ngx_oci_ref_t *ref);
static uint32_t ngx_oci_refs_record_crc(ngx_oci_refs_record_t *record);
static void ngx_oci_refs_names(u_char *key, char sub[3], char *name);
static int ngx_oci_refs_sub(ngx_oci_cache_t *cache, char *sub);
static void ngx_oci_refs_expire_dir(ngx_oci_cache_t *cache, int dir,
    const char *what);
static void ngx_oci_refs_expire_sub(ngx_oci_cache_t *cache, int fd);
static ngx_uint_t ngx_oci_refs_expirable(const char *name, ngx_uint_t *tmp);


typedef char ngx_oci_refs_record_is_packed[
                          (sizeof(ngx_oci_refs_record_t) == 264) ? 1 : -1];


static u_char  ngx_oci_refs_magic[8] = { 'n', 'g', 'x', 'o', 'c', 'i', 'r',
                                         '\n' };


ngx_int_t
ngx_oci_refs_post(ngx_oci_cache_t *cache, u_char *key, ngx_uint_t kind,
    ngx_oci_ref_t *ref, void (*handler)(void *data, ngx_int_t rc), void *data)
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
    op->started = ngx_time();
    op->rc = NGX_DECLINED;
    op->handler = handler;
    op->data = data;
    ngx_memcpy(op->key, key, NGX_OCI_REFS_KEY);

    op->task.data = op;
    op->task.done = ngx_oci_refs_settle;

    if (kind == NGX_OCI_REFS_READ) {
        op->ref = ref;
        op->task.run = ngx_oci_refs_read_task;
        op->task.done = ngx_oci_refs_read_done;

    } else if (kind == NGX_OCI_REFS_WRITE) {
        ngx_oci_refs_encode(&op->record, key, ref);
        op->task.run = ngx_oci_refs_write_task;

    } else {
        op->task.run = ngx_oci_refs_unlink_task;
    }

    if (ngx_oci_io_post(cache, &op->task) != NGX_OK) {
        ngx_free(op);
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_oci_refs_write(ngx_oci_cache_t *cache, u_char *key, ngx_oci_ref_t *ref,
    ngx_log_t *log)
{
    if (ngx_oci_refs_post(cache, key, NGX_OCI_REFS_WRITE, ref, NULL, NULL)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "a reference was not written to \"%V\"",
                      &cache->path->name);
    }
}


static void
ngx_oci_refs_read_task(void *data, ngx_log_t *log)
{
    ngx_oci_refs_op_t *op = data;

    int          fd;
    char         sub[3], name[NGX_OCI_REFS_NAME];
    ssize_t      n;
    struct stat  sb;

    ngx_oci_refs_names(op->key, sub, name);

    fd = ngx_oci_io_open(op->cache->refs_dir, sub, name,
                         O_RDONLY|O_NONBLOCK);
    if (fd == -1) {
        if (ngx_errno != ENOENT) {
            op->failed = 1;
            ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                          "open() \"%V/refs/%s/%s\" failed",
                          &op->cache->path->name, sub, name);
        }

        return;
    }

    if (fstat(fd, &sb) == -1 || !S_ISREG(sb.st_mode)) {
        close(fd);
        return;
    }

    n = pread(fd, &op->record, sizeof(ngx_oci_refs_record_t), 0);

    if (n == -1) {
        op->failed = 1;
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "pread() \"%V/refs/%s/%s\" failed",
                      &op->cache->path->name, sub, name);
        close(fd);
        return;
    }

    op->mtime = sb.st_mtime;

    if (n == sizeof(ngx_oci_refs_record_t)) {
        op->rc = NGX_OK;

        if (op->started - op->mtime > NGX_OCI_REFS_FRESH
            && futimens(fd, NULL) == 0)
        {
            op->mtime = op->started;
        }
    }

    close(fd);
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
        rc = ngx_oci_refs_decode(&op->record, op->key, &ref);

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
       isn't known any more */

    node = ngx_oci_refs_find(op->cache, op->key);

    if (node && node->type == NGX_OCI_REFS_REF) {
        ngx_oci_refs_get(node, &ref);
        rc = NGX_OK;

    } else if (ngx_oci_refs_slow(op)
               || (node && ngx_time() - node->checked < NGX_OCI_REFS_GONE))
    {
        rc = NGX_DECLINED;

    } else if (rc == NGX_OK) {
        (void) ngx_oci_refs_put_ref(op->cache, op->key, &ref, op->mtime);
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

    int        fd, dir;
    char       sub[3], name[NGX_OCI_REFS_NAME], tmp[NGX_OCI_REFS_TMP];
    ngx_err_t  err;

    ngx_oci_refs_names(op->key, sub, name);
    (void) ngx_sprintf((u_char *) tmp, "%s.%P.%ui.tmp%Z", name, ngx_pid,
                       op->number);

    err = 0;

    fd = ngx_oci_io_open(op->cache->refs_dir, sub, tmp,
                         O_WRONLY|O_CREAT|O_EXCL);
    if (fd == -1) {
        err = ngx_errno;

    } else {
        if (ngx_oci_store_write(fd, (u_char *) &op->record,
                                sizeof(ngx_oci_refs_record_t), 0)
            != NGX_OK)
        {
            err = ngx_errno;
        }

        if (close(fd) == -1 && err == 0) {
            err = ngx_errno;
        }
    }

    dir = ngx_oci_refs_sub(op->cache, sub);

    if (err == 0
        && (dir == -1 || renameat(dir, tmp, dir, name) == -1))
    {
        err = ngx_errno;
    }

    if (err) {
        op->failed = 1;
        ngx_log_error(NGX_LOG_CRIT, log, err,
                      "writing \"%V/refs/%s/%s\" failed",
                      &op->cache->path->name, sub, name);

        /* an older record could be wrong by now */

        if (dir != -1) {
            if (fd != -1) {
                (void) unlinkat(dir, tmp, 0);
            }

            (void) unlinkat(dir, name, 0);
        }

    } else {
        op->rc = NGX_OK;
    }

    if (dir != -1) {
        close(dir);
    }
}


static void
ngx_oci_refs_unlink_task(void *data, ngx_log_t *log)
{
    ngx_oci_refs_op_t *op = data;

    int        dir;
    char       sub[3], name[NGX_OCI_REFS_NAME];
    ngx_err_t  err;

    ngx_oci_refs_names(op->key, sub, name);

    err = 0;
    dir = ngx_oci_refs_sub(op->cache, sub);

    if (dir == -1 || unlinkat(dir, name, 0) == -1) {
        err = ngx_errno;
    }

    if (dir != -1) {
        close(dir);
    }

    if (err && err != ENOENT) {
        op->failed = 1;
        ngx_log_error(NGX_LOG_CRIT, log, err,
                      "unlinkat() \"%V/refs/%s/%s\" failed",
                      &op->cache->path->name, sub, name);
        return;
    }

    op->rc = NGX_OK;
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
    ngx_oci_refs_node_t  *node;

    next = 0;

    if (op->failed) {
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
    }

    ngx_oci_refs_lock(op->cache);

    node = ngx_oci_refs_find(op->cache, op->key);

    if (op->rc != NGX_OK) {

        /* not tried again by itself: the disk may be full */

        if (node && node->type == NGX_OCI_REFS_REF) {
            node->stored = 0;
        }

    } else if (node && node->type == NGX_OCI_REFS_REF) {

        if (op->kind == NGX_OCI_REFS_UNLINK
            || ngx_oci_refs_decode(&op->record, op->key, &ref) != NGX_OK
            || !ngx_oci_refs_equal(node, &ref))
        {
            ngx_oci_refs_get(node, &ref);
            node->stored = ngx_time();
            next = NGX_OCI_REFS_WRITE;
        }

    } else if (op->kind == NGX_OCI_REFS_WRITE
               && (node || ngx_oci_refs_slow(op)))
    {
        next = NGX_OCI_REFS_UNLINK;
    }

    ngx_oci_refs_unlock(op->cache);

    if (next
        && ngx_oci_refs_post(op->cache, op->key, next, &ref, NULL, NULL)
           != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "the file of a reference in \"%V\" is out of date",
                      &op->cache->path->name);
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
    if (ngx_memcmp(record->magic, ngx_oci_refs_magic, 8) != 0
        || record->version != NGX_OCI_REFS_VERSION
        || record->crc != ngx_oci_refs_record_crc(record)
        || ngx_memcmp(record->key, key, NGX_OCI_REFS_KEY) != 0
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


static int
ngx_oci_refs_sub(ngx_oci_cache_t *cache, char *sub)
{
    return openat(cache->refs_dir, sub,
                  O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);
}


void
ngx_oci_refs_expire(ngx_oci_cache_t *cache)
{
    time_t      now;
    ngx_uint_t  due;

    /* once an hour, whichever process manages the zone */

    due = 0;
    now = ngx_time();

    ngx_oci_refs_lock(cache);

    if (now - cache->refs->expired >= NGX_OCI_REFS_HOUR
        || now < cache->refs->expired)
    {
        cache->refs->expired = now;
        due = 1;
    }

    ngx_oci_refs_unlock(cache);

    if (due) {
        ngx_oci_refs_expire_dir(cache, cache->refs_dir, "refs");
        ngx_oci_refs_expire_dir(cache, cache->manifests, "manifests");
    }
}


static void
ngx_oci_refs_expire_dir(ngx_oci_cache_t *cache, int dir, const char *what)
{
    int             fd, sub;
    DIR            *d;
    struct dirent  *de;

    /* a descriptor with a place of its own */

    fd = openat(dir, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    d = (fd == -1) ? NULL : fdopendir(fd);

    if (d == NULL) {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                      "opening the directory \"%V/%s\" failed",
                      &cache->path->name, what);

        if (fd != -1) {
            close(fd);
        }

        return;
    }

    for ( ;; ) {
        de = readdir(d);

        if (de == NULL || ngx_quit || ngx_terminate) {
            break;
        }

        if (ngx_strlen(de->d_name) != 2
            || ngx_hextoi((u_char *) de->d_name, 2) == NGX_ERROR)
        {
            continue;
        }

        sub = openat(fd, de->d_name,
                     O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);

        if (sub != -1) {
            ngx_oci_refs_expire_sub(cache, sub);
            ngx_msleep(NGX_OCI_REFS_PAUSE);
        }
    }

    closedir(d);
    ngx_time_update();
}


/* closes fd */

static void
ngx_oci_refs_expire_sub(ngx_oci_cache_t *cache, int fd)
{
    DIR            *d;
    time_t          now, used;
    ngx_uint_t      tmp;
    struct stat     sb;
    struct dirent  *de;

    d = fdopendir(fd);
    if (d == NULL) {
        close(fd);
        return;
    }

    now = ngx_time();

    for ( ;; ) {
        de = readdir(d);

        if (de == NULL || ngx_quit || ngx_terminate) {
            break;
        }

        if (!ngx_oci_refs_expirable(de->d_name, &tmp)
            || fstatat(fd, de->d_name, &sb, AT_SYMLINK_NOFOLLOW) == -1
            || !S_ISREG(sb.st_mode))
        {
            continue;
        }

        used = ngx_max(sb.st_atime, sb.st_mtime);

        if (now - used <= (tmp ? NGX_OCI_REFS_HOUR : cache->inactive)) {
            continue;
        }

        if (unlinkat(fd, de->d_name, 0) == -1 && ngx_errno != ENOENT) {
            ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                          "unlinkat() \"%V/.../%s\" failed",
                          &cache->path->name, de->d_name);
            break;
        }
    }

    closedir(d);
}


/* hex digits of a digest, alone or before a "."; *tmp: a leftover's name */

static ngx_uint_t
ngx_oci_refs_expirable(const char *name, ngx_uint_t *tmp)
{
    size_t  n, len;

    for (n = 0; name[n]; n++) {
        if (!((name[n] >= '0' && name[n] <= '9')
              || (name[n] >= 'a' && name[n] <= 'f')))
        {
            break;
        }
    }

    if ((n != 64 && n != 128) || (name[n] != '\0' && name[n] != '.')) {
        return 0;
    }

    len = ngx_strlen(name);

    *tmp = len - n >= sizeof(".tmp") - 1
           && ngx_strcmp(name + len - (sizeof(".tmp") - 1), ".tmp") == 0;

    return 1;
}
