
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_index.h"
#include "ngx_oci_open.h"
#include <sys/statvfs.h>


#define NGX_OCI_STORE_VERSION    3
#define NGX_OCI_STORE_TRIES      3
#define NGX_OCI_STORE_LITTLE     2        /* slices */
#define NGX_OCI_STORE_GIVEN_UP   3600     /* s without another slice */
#define NGX_OCI_STORE_INIT_WAIT  1000     /* ms, for another's creation */
#define NGX_OCI_STORE_CRC_BUF    (256 * 1024)
#define NGX_OCI_STORE_BYPASS     10       /* s without fills on a full disk */

#ifndef F_OFD_SETLK
#define F_OFD_SETLK              37
#endif


static ngx_int_t ngx_oci_store_open_files(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, off_t size, ngx_oci_store_t *st,
    ngx_log_t *log);
static ngx_int_t ngx_oci_store_load(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, ngx_oci_store_t *st, ngx_log_t *log);
static ngx_uint_t ngx_oci_store_complete(ngx_oci_store_t *st, off_t size);
static ngx_int_t ngx_oci_store_replace(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, off_t size, uint32_t origin,
    ngx_oci_store_t *st, ngx_log_t *log);
static ngx_uint_t ngx_oci_store_replaceable(ngx_oci_store_t *st, off_t size,
    uint32_t origin);
static ngx_int_t ngx_oci_store_create(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, off_t size, uint32_t origin,
    ngx_oci_store_t *st, ngx_log_t *log);
static uint32_t ngx_oci_store_nonce(void);
static ngx_int_t ngx_oci_store_write_new(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, off_t size, uint32_t origin,
    ngx_oci_store_t *st, ngx_log_t *log);
static ngx_int_t ngx_oci_store_setlk(int fd, int type);
static uint32_t ngx_oci_store_header_crc(ngx_oci_store_header_t *header);
static ngx_int_t ngx_oci_store_unlink_name(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, char *sub, char *name, ngx_log_t *log);


static u_char  ngx_oci_store_magic[8] = { 'n', 'g', 'x', 'o', 'c', 'i',
                                          '\r', '\n' };


void
ngx_oci_store_names(ngx_oci_digest_t *digest, char sub[3], char *name)
{
    u_char  *p;

    p = ngx_hex_dump((u_char *) name, digest->bytes, digest->size);
    *p = '\0';

    sub[0] = name[0];
    sub[1] = name[1];
    sub[2] = '\0';
}


static void
ngx_oci_store_map_name(char *name)
{
    ngx_memcpy(name + ngx_strlen(name), ".map", sizeof(".map"));
}


ngx_int_t
ngx_oci_store_open(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    off_t size, uint32_t origin, ngx_oci_store_t *st, ngx_log_t *log)
{
    ngx_int_t   rc;
    ngx_uint_t  tries;

    for (tries = 0; tries < NGX_OCI_STORE_TRIES; tries++) {

        rc = ngx_oci_store_open_files(cache, digest, size, st, log);

        if (rc == NGX_AGAIN) {
            ngx_oci_store_close(st);
            continue;
        }

        if (rc != NGX_OK) {
            return rc;
        }

        rc = ngx_oci_store_load(cache, digest, st, log);

        if (st->readonly) {
            if (rc == NGX_OK && size >= 0
                && !ngx_oci_store_complete(st, size))
            {
                rc = NGX_DECLINED;
            }

        } else if (rc == NGX_OK && size >= 0) {
            rc = ngx_oci_store_replace(cache, digest, size, origin, st, log);

        } else if (rc == NGX_DECLINED && size >= 0) {
            rc = ngx_oci_store_create(cache, digest, size, origin, st, log);
        }

        if (rc == NGX_DONE) {

            /* unusable files went: new ones are made */

            ngx_oci_store_close(st);
            continue;
        }

        if (rc != NGX_OK) {
            ngx_oci_store_close(st);
        }

        return rc;
    }

    ngx_log_error(NGX_LOG_ERR, log, 0,
                  "a blob's files in \"%V\" come and go",
                  &cache->path->name);

    return NGX_ERROR;
}


/* as ngx_oci_store_open(); NGX_AGAIN: they were unlinked meanwhile */

static ngx_int_t
ngx_oci_store_open_files(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    off_t size, ngx_oci_store_t *st, ngx_log_t *log)
{
    int          dir, flags;
    char         sub[3], name[NGX_OCI_STORE_NAME];
    ngx_err_t    err;
    struct stat  sb, named;

    ngx_memzero(st, sizeof(ngx_oci_store_t));
    st->fd = -1;
    st->map = -1;

    dir = cache->algs[digest->alg];
    st->readonly = (ngx_oci_dir_enter(cache, log) == NGX_OCI_DIR_READONLY);
    flags = st->readonly ? O_RDONLY : size < 0 ? O_RDWR : O_RDWR|O_CREAT;

    ngx_oci_store_names(digest, sub, name);

    st->fd = ngx_oci_open(cache, dir, sub, name, flags, log);

    if (st->fd != -1) {
        ngx_oci_store_map_name(name);
        st->map = ngx_oci_open(cache, dir, sub, name, flags, log);
    }

    if (st->fd == -1 || st->map == -1) {
        err = ngx_errno;

        if (err == ENOENT && !(flags & O_CREAT)) {
            ngx_oci_store_close(st);
            return NGX_DECLINED;
        }

        if (err == NGX_OCI_SAID && !st->readonly
            && ngx_oci_dir_enter(cache, log) == NGX_OCI_DIR_READONLY)
        {
            return NGX_AGAIN;
        }

        if (err != NGX_OCI_SAID) {
            ngx_log_error(NGX_LOG_CRIT, log, err,
                          "open() \"%V/blobs/.../%s\" failed",
                          &cache->path->name, name);
        }

        ngx_oci_store_close(st);
        return NGX_ERROR;
    }

    /* the sidecar of a successor must not vouch for unlinked data */

    ngx_oci_store_names(digest, sub, name);

    if (ngx_oci_stat(cache, dir, sub, name, &named, log) == -1
        || fstat(st->fd, &sb) == -1
        || sb.st_ino != named.st_ino || sb.st_dev != named.st_dev)
    {
        return NGX_AGAIN;
    }

    if (fstat(st->map, &sb) == -1) {
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "fstat() \"%V/blobs/.../%s.map\" failed",
                      &cache->path->name, name);
        ngx_oci_store_close(st);
        return NGX_ERROR;
    }

    st->uniq = sb.st_ino;
    st->written = sb.st_mtime;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_store_load(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_oci_store_t *st, ngx_log_t *log)
{
    ssize_t                  n;
    struct stat              sb;
    ngx_oci_store_header_t  *h;

    h = &st->header;

    n = pread(st->map, h, sizeof(ngx_oci_store_header_t), 0);

    if (n == -1) {
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno, "pread() failed");
        return NGX_ERROR;
    }

    if (n != sizeof(ngx_oci_store_header_t)
        || ngx_memcmp(h->magic, ngx_oci_store_magic, 8) != 0
        || h->version != NGX_OCI_STORE_VERSION
        || h->crc != ngx_oci_store_header_crc(h)
        || h->alg != digest->alg
        || ngx_memcmp(h->digest, digest->bytes, digest->size) != 0
        || h->slice != cache->slice
        || h->hash_len > NGX_OCI_STORE_HASH_MAX
        || h->proven.n > NGX_OCI_STORE_PROVEN
        || h->size == 0 || h->size > (uint64_t) NGX_MAX_OFF_T_VALUE
        || (h->size - 1) / h->slice >= NGX_OCI_STORE_SLICES)
    {
        return NGX_DECLINED;
    }

    if (fstat(st->fd, &sb) == -1 || (uint64_t) sb.st_size != h->size) {
        return NGX_DECLINED;
    }

    st->slices = (h->size + h->slice - 1) / h->slice;

    if (ngx_oci_store_records(st) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, log, ngx_errno,
                      "no memory to open a blob of %uL bytes in \"%V\"",
                      h->size, &cache->path->name);
        return NGX_ERROR;
    }

    if (ngx_oci_store_read(st) != NGX_OK) {
        return NGX_DECLINED;
    }

    (void) ngx_oci_store_distrust(cache, h, st->records, st->slices);

    st->pinned = ngx_oci_store_pinned(st->map);

    return NGX_OK;
}


ngx_uint_t
ngx_oci_store_distrust(ngx_oci_cache_t *cache, ngx_oci_store_header_t *h,
    ngx_oci_store_record_t *records, size_t slices)
{
    size_t      i;
    ngx_uint_t  earlier, missing;

    earlier = (ngx_memcmp(h->boot_id, cache->boot_id, sizeof(h->boot_id))
               != 0);
    missing = 0;

    for (i = 0; i < slices; i++) {

        if (records[i].state == NGX_OCI_SLICE_PRESENT) {

            if (earlier) {
                records[i].state = NGX_OCI_SLICE_UNCHECKED;
            }

        } else if (records[i].state != NGX_OCI_SLICE_UNCHECKED) {
            missing = 1;
        }
    }

    if (!missing || !(h->flags & NGX_OCI_STORE_VERIFIED)) {
        return 0;
    }

    h->flags &= ~NGX_OCI_STORE_VERIFIED;
    h->hashed = 0;
    h->hash_len = 0;

    return 1;
}


/* does it need nothing but to be read? */

static ngx_uint_t
ngx_oci_store_complete(ngx_oci_store_t *st, off_t size)
{
    size_t  i;

    if (!(st->header.flags & NGX_OCI_STORE_VERIFIED)
        || (off_t) st->header.size != size)
    {
        return 0;
    }

    for (i = 0; i < st->slices; i++) {
        if (st->records[i].state != NGX_OCI_SLICE_PRESENT) {
            return 0;
        }
    }

    return 1;
}


/*
 * What is not verified is the word of the registry that it comes from: it
 * makes way for another size, and for another registry's.  NGX_OK: it stays;
 * NGX_DONE: unlinked; NGX_ERROR: it stays, and is of no use for this size.
 */

static ngx_int_t
ngx_oci_store_replace(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    off_t size, uint32_t origin, ngx_oci_store_t *st, ngx_log_t *log)
{
    ngx_int_t  rc;

    if (ngx_oci_store_replaceable(st, size, origin)) {

        rc = ngx_oci_store_lock(cache, digest, st->map);

        if (rc == NGX_DECLINED) {
            return NGX_DONE;
        }

        if (rc == NGX_OK) {
            rc = ngx_oci_store_load(cache, digest, st, log);

            if (rc == NGX_DECLINED
                || (rc == NGX_OK
                    && ngx_oci_store_replaceable(st, size, origin)))
            {
                if (ngx_oci_index_evict(cache, digest) != NGX_BUSY) {
                    ngx_log_error(NGX_LOG_NOTICE, log, 0,
                                  "removed what another answer brought of a "
                                  "blob in \"%V\", %uL bytes, the registry "
                                  "says %O", &cache->path->name,
                                  st->header.size, size);

                    ngx_oci_store_unlink(cache, digest, log);
                    ngx_oci_index_emptied(cache, digest);
                    ngx_oci_store_unlock(st->map);

                    return NGX_DONE;
                }
            }

            ngx_oci_store_unlock(st->map);

            if (rc != NGX_OK) {
                return NGX_ERROR;
            }
        }
    }

    if ((off_t) st->header.size == size) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_ERR, log, 0,
                  "a blob in \"%V\" has size %uL, the registry says %O",
                  &cache->path->name, st->header.size, size);

    return NGX_ERROR;
}


static ngx_uint_t
ngx_oci_store_replaceable(ngx_oci_store_t *st, off_t size, uint32_t origin)
{
    size_t  i, n;

    if (st->header.flags & NGX_OCI_STORE_VERIFIED) {
        return 0;
    }

    if (st->header.origin == origin) {
        return (off_t) st->header.size != size;
    }

    /* nobody's word undoes what another registry is bringing */

    for (i = 0, n = 0; i < st->slices; i++) {
        n += (st->records[i].state != NGX_OCI_SLICE_ABSENT);
    }

    if (n == st->slices && (off_t) st->header.size == size) {
        return 0;
    }

    return n <= NGX_OCI_STORE_LITTLE
           || ngx_time() - st->written > NGX_OCI_STORE_GIVEN_UP;
}


/* NGX_DONE: the files were unusable and are unlinked, or others are there */

static ngx_int_t
ngx_oci_store_create(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    off_t size, uint32_t origin, ngx_oci_store_t *st, ngx_log_t *log)
{
    ngx_int_t    rc;
    ngx_uint_t   waited;
    struct stat  sb;

    /* another worker may be creating the same pair: then its header is soon
       there */

    for (waited = 0; /* void */; waited += 5) {
        rc = ngx_oci_store_lock(cache, digest, st->map);

        if (rc == NGX_OK) {
            break;
        }

        if (rc == NGX_DECLINED) {
            return NGX_DONE;
        }

        if (rc == NGX_ERROR || waited >= NGX_OCI_STORE_INIT_WAIT) {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "a blob's sidecar is unusable and locked");
            return NGX_ERROR;
        }

        ngx_msleep(5);

        rc = ngx_oci_store_load(cache, digest, st, log);

        if (rc != NGX_DECLINED) {
            return (rc == NGX_OK && (off_t) st->header.size != size)
                   ? NGX_DONE : rc;
        }
    }

    rc = ngx_oci_store_load(cache, digest, st, log);

    if (rc == NGX_OK) {
        ngx_oci_store_unlock(st->map);
        return ((off_t) st->header.size == size) ? NGX_OK : NGX_DONE;
    }

    if (rc == NGX_ERROR) {
        ngx_oci_store_unlock(st->map);
        return NGX_ERROR;
    }

    /* never written over: somebody may still read from them */

    if (fstat(st->map, &sb) == -1 || sb.st_size
        || fstat(st->fd, &sb) == -1 || sb.st_size)
    {
        ngx_oci_store_unlink(cache, digest, log);
        ngx_oci_store_unlock(st->map);
        return NGX_DONE;
    }

    rc = ngx_oci_store_write_new(cache, digest, size, origin, st, log);

    if (rc != NGX_OK) {

        /* empty files would stay for good */

        ngx_oci_store_unlink(cache, digest, log);
    }

    ngx_oci_store_unlock(st->map);

    return rc;
}


/* threads of several processes may call it in the same moment */

static uint32_t
ngx_oci_store_nonce(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_REALTIME, &ts);

    return (uint32_t) ngx_random() ^ (uint32_t) ts.tv_nsec
           ^ ((uint32_t) ngx_pid << 16);
}


void
ngx_oci_store_header_init(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    off_t size, uint32_t origin, ngx_oci_store_header_t *h)
{
    ngx_memzero(h, sizeof(ngx_oci_store_header_t));

    ngx_memcpy(h->magic, ngx_oci_store_magic, 8);
    h->version = NGX_OCI_STORE_VERSION;
    h->alg = digest->alg;
    h->origin = origin;
    h->nonce = ngx_oci_store_nonce();
    h->size = size;
    h->slice = cache->slice;
    ngx_memcpy(h->digest, digest->bytes, digest->size);
    ngx_memcpy(h->boot_id, cache->boot_id, sizeof(h->boot_id));
}


static ngx_int_t
ngx_oci_store_write_new(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    off_t size, uint32_t origin, ngx_oci_store_t *st, ngx_log_t *log)
{
    off_t                    len;
    ngx_err_t                err;
    ngx_uint_t               level;
    ngx_oci_store_header_t  *h;

    h = &st->header;
    ngx_oci_store_header_init(cache, digest, size, origin, h);

    st->slices = (h->size + h->slice - 1) / h->slice;
    len = NGX_OCI_STORE_RECORDS
          + st->slices * sizeof(ngx_oci_store_record_t);

    /* the header last: what was there before is unusable until then */

    if (ngx_oci_store_records(st) != NGX_OK
        || ftruncate(st->fd, size) == -1
        || ftruncate(st->map, len) == -1
        || ngx_oci_store_header(st->map, h) != NGX_OK)
    {
        err = ngx_errno;

        /* a registry may say any size */

        level = (err == EFBIG || err == ENOMEM) ? NGX_LOG_ERR
                                                : NGX_LOG_CRIT;

        if (err == NGX_ENOSPC
            && !ngx_oci_index_bypass(cache, NGX_OCI_STORE_BYPASS))
        {
            level = NGX_LOG_INFO;
        }

        ngx_log_error(level, log, err,
                      "creating a blob of %O bytes in \"%V\" failed",
                      size, &cache->path->name);

        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_oci_store_close(ngx_oci_store_t *st)
{
    if (st->fd != -1) {
        close(st->fd);
        st->fd = -1;
    }

    if (st->map != -1) {
        close(st->map);
        st->map = -1;
    }

    ngx_oci_store_forget(st);
}


static ngx_int_t
ngx_oci_store_setlk(int fd, int type)
{
    struct flock  fl;

    ngx_memzero(&fl, sizeof(struct flock));
    fl.l_type = type;
    fl.l_whence = SEEK_SET;

    if (fcntl(fd, F_OFD_SETLK, &fl) == -1) {
        return (ngx_errno == EAGAIN || ngx_errno == EACCES) ? NGX_BUSY
                                                            : NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_oci_store_lock(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest, int map)
{
    char         sub[3], name[NGX_OCI_STORE_NAME];
    ngx_int_t    rc;
    struct stat  a, b;

    rc = ngx_oci_store_setlk(map, F_WRLCK);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_oci_store_names(digest, sub, name);
    ngx_oci_store_map_name(name);

    if (fstat(map, &a) == -1
        || ngx_oci_stat(cache, cache->algs[digest->alg], sub, name, &b,
                        ngx_cycle->log)
           == -1
        || a.st_ino != b.st_ino || a.st_dev != b.st_dev)
    {
        ngx_oci_store_unlock(map);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


ngx_int_t
ngx_oci_store_trylock(int map)
{
    return ngx_oci_store_setlk(map, F_WRLCK);
}


void
ngx_oci_store_unlock(int map)
{
    (void) ngx_oci_store_setlk(map, F_UNLCK);
}


ngx_int_t
ngx_oci_store_writer(int map, uint64_t *writer)
{
    ssize_t  n;

    n = pread(map, writer, sizeof(uint64_t), NGX_OCI_STORE_WRITER);

    if (n == sizeof(uint64_t)) {
        return NGX_OK;
    }

    if (n != -1) {
        ngx_set_errno(EIO);
    }

    return NGX_ERROR;
}


ngx_int_t
ngx_oci_store_set_writer(int map, uint64_t writer)
{
    return ngx_oci_store_write(map, (u_char *) &writer, sizeof(uint64_t),
                               NGX_OCI_STORE_WRITER);
}


ngx_int_t
ngx_oci_store_record(int map, size_t n, uint32_t crc, uint32_t state)
{
    ngx_oci_store_record_t  record;

    record.crc = crc;
    record.state = state;

    return ngx_oci_store_write(map, (u_char *) &record, sizeof(record),
                               NGX_OCI_STORE_RECORDS
                               + (off_t) (n * sizeof(record)));
}


ngx_int_t
ngx_oci_store_header(int map, ngx_oci_store_header_t *header)
{
    header->crc = ngx_oci_store_header_crc(header);

    return ngx_oci_store_write(map, (u_char *) header,
                               sizeof(ngx_oci_store_header_t), 0);
}


ngx_int_t
ngx_oci_store_unverify(int map)
{
    ngx_oci_store_header_t  h;

    if (pread(map, &h, sizeof(ngx_oci_store_header_t), 0)
        != sizeof(ngx_oci_store_header_t))
    {
        return NGX_ERROR;
    }

    if (!(h.flags & NGX_OCI_STORE_VERIFIED)) {
        return NGX_OK;
    }

    h.flags &= ~NGX_OCI_STORE_VERIFIED;
    h.hashed = 0;
    h.hash_len = 0;

    /* nothing that is recorded from now on may be there without this */

    if (ngx_oci_store_header(map, &h) != NGX_OK || fdatasync(map) == -1) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_oci_store_prove(int map, uint32_t origin)
{
    ssize_t                 n;
    ngx_oci_store_header_t  h;

    n = pread(map, &h, sizeof(ngx_oci_store_header_t), 0);

    if (n != sizeof(ngx_oci_store_header_t)
        || h.proven.n > NGX_OCI_STORE_PROVEN)
    {
        if (n != -1) {
            ngx_set_errno(EIO);
        }

        return NGX_ERROR;
    }

    if (ngx_oci_proven_has(&h.proven, origin)) {
        return NGX_OK;
    }

    ngx_oci_proven_add(&h.proven, origin);

    return ngx_oci_store_header(map, &h);
}


ngx_uint_t
ngx_oci_proven_has(ngx_oci_proven_t *proven, uint32_t origin)
{
    ngx_uint_t  i;

    for (i = 0; i < proven->n; i++) {
        if (proven->origins[i] == origin) {
            return 1;
        }
    }

    return 0;
}


void
ngx_oci_proven_add(ngx_oci_proven_t *proven, uint32_t origin)
{
    if (ngx_oci_proven_has(proven, origin)) {
        return;
    }

    if (proven->n == NGX_OCI_STORE_PROVEN) {
        proven->n--;
        ngx_memmove(proven->origins, proven->origins + 1,
                    proven->n * sizeof(proven->origins[0]));
    }

    proven->origins[proven->n++] = origin;
}


static uint32_t
ngx_oci_store_header_crc(ngx_oci_store_header_t *header)
{
    ngx_oci_store_header_t  h;

    ngx_memcpy(&h, header, sizeof(ngx_oci_store_header_t));
    h.crc = 0;

    return ngx_oci_crc32c(0, (u_char *) &h, sizeof(ngx_oci_store_header_t));
}


ngx_int_t
ngx_oci_store_write(int fd, u_char *p, size_t n, off_t offset)
{
    ssize_t  rc;

    while (n) {
        rc = pwrite(fd, p, n, offset);

        if (rc == -1) {
            if (ngx_errno == NGX_EINTR) {
                continue;
            }

            return NGX_ERROR;
        }

        if (rc == 0) {
            ngx_set_errno(EIO);
            return NGX_ERROR;
        }

        p += rc;
        n -= rc;
        offset += rc;
    }

    return NGX_OK;
}


void
ngx_oci_store_unlink(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_log_t *log)
{
    char  sub[3], name[NGX_OCI_STORE_NAME];

    /* the data first: a sidecar without data is unusable, never wrong */

    if (ngx_oci_store_unlink_data(cache, digest, log) != NGX_OK) {
        ngx_oci_index_stray(cache);
    }

    ngx_oci_store_names(digest, sub, name);
    ngx_oci_store_map_name(name);

    (void) ngx_oci_store_unlink_name(cache, digest, sub, name, log);
}


ngx_int_t
ngx_oci_store_unlink_data(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_log_t *log)
{
    char  sub[3], name[NGX_OCI_STORE_NAME];

    ngx_oci_store_names(digest, sub, name);

    return ngx_oci_store_unlink_name(cache, digest, sub, name, log);
}


/* what is not ours stays, and is no file of this blob */

static ngx_int_t
ngx_oci_store_unlink_name(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    char *sub, char *name, ngx_log_t *log)
{
    if (ngx_oci_unlink(cache, cache->algs[digest->alg], sub, name, log) == -1
        && ngx_errno != ENOENT && ngx_errno != NGX_OCI_SAID)
    {
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "unlinkat() \"%s/%s\" failed", sub, name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_oci_store_crc(int fd, off_t offset, size_t len, uint32_t *crc)
{
    u_char   *buf;
    ssize_t   n;

    buf = malloc(NGX_OCI_STORE_CRC_BUF);
    if (buf == NULL) {
        ngx_set_errno(ENOMEM);
        return NGX_ERROR;
    }

    *crc = 0;

    while (len) {
        n = pread(fd, buf, ngx_min(len, NGX_OCI_STORE_CRC_BUF), offset);

        if (n <= 0) {
            if (n == -1 && ngx_errno == NGX_EINTR) {
                continue;
            }

            if (n == 0) {
                ngx_set_errno(EIO);
            }

            free(buf);
            return NGX_ERROR;
        }

        *crc = ngx_oci_crc32c(*crc, buf, n);
        offset += n;
        len -= n;
    }

    free(buf);

    return NGX_OK;
}


off_t
ngx_oci_store_free(ngx_oci_cache_t *cache)
{
    struct statvfs  fs;

    if (fstatvfs(cache->dir, &fs) == -1) {
        return -1;
    }

    if (fs.f_blocks == 0) {

        /* it does not tell */

        return -1;
    }

    return (off_t) fs.f_bavail * (off_t) fs.f_frsize;
}
