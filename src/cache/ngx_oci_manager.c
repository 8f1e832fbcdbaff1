
/*
 * Copyright (C) The nginx-oci authors
 *
 * What runs beside the workers: the cache manager's eviction and the cache
 * loader, which tells the index what is on disk.  Both may wait for it.
 */


#include "ngx_oci_index.h"
#include "ngx_oci_open.h"
#include "ngx_oci_purge.h"
#include "ngx_oci_push.h"


#define NGX_OCI_MANAGER_IDLE      10000     /* ms */
#define NGX_OCI_MANAGER_BUSY      1000      /* ms, too full, all in use */
#define NGX_OCI_MANAGER_FAILURES  16        /* entries of one round */
#define NGX_OCI_MANAGER_DOOMED    16        /* likewise */
#define NGX_OCI_MANAGER_WARN      60        /* s between equal warnings */

#define NGX_OCI_MANAGER_PINS      2000      /* ms that others are given to be
                                               no longer in use, before what is
                                               pinned goes */
#define NGX_OCI_MANAGER_WALK      3600      /* s between walks */
#define NGX_OCI_MANAGER_DIRS      256       /* of an algorithm */

#define NGX_OCI_LOADER_FILES      100       /* looked at without a pause */
#define NGX_OCI_LOADER_SLEEP      50        /* ms */
#define NGX_OCI_LOADER_ORPHAN     3600      /* s */


typedef struct {
    ngx_oci_cache_t  *cache;
    ngx_uint_t        alg;
    ngx_uint_t        files;
    off_t            *free;     /* NULL: it is the loader, not the manager */
} ngx_oci_loader_t;


static ngx_msec_t ngx_oci_manager_round(ngx_oci_cache_t *cache);
static void ngx_oci_manager_moved(ngx_oci_cache_t *cache);
static ngx_uint_t ngx_oci_manager_doomed(ngx_oci_cache_t *cache);
static ngx_uint_t ngx_oci_manager_over(ngx_oci_cache_t *cache, off_t free);
static ngx_uint_t ngx_oci_manager_walks(ngx_oci_cache_t *cache,
    ngx_uint_t over);
static ngx_int_t ngx_oci_manager_oldest(ngx_oci_cache_t *cache,
    ngx_uint_t over, ngx_oci_digest_t *digest, uint64_t *bytes,
    time_t *accessed);
static ngx_uint_t ngx_oci_manager_pins(ngx_oci_cache_t *cache);
static void ngx_oci_manager_walk(ngx_oci_cache_t *cache, off_t *free);
static void ngx_oci_manager_unknown(ngx_oci_loader_t *ld,
    ngx_oci_digest_t *digest, uint64_t bytes, time_t used, time_t pinned);
static void ngx_oci_manager_warn(ngx_oci_cache_t *cache);
static ngx_int_t ngx_oci_manager_drop_locked(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, int map);
static void ngx_oci_loader_alg(ngx_oci_loader_t *ld);
static void ngx_oci_loader_sub(ngx_oci_loader_t *ld, const char *sub,
    int fd);
static void ngx_oci_loader_file(ngx_oci_loader_t *ld, int fd,
    const char *name, ngx_oci_digest_t *digest);
static void ngx_oci_loader_note(ngx_oci_loader_t *ld,
    ngx_oci_digest_t *digest, time_t used);
static ngx_int_t ngx_oci_loader_digest(ngx_oci_loader_t *ld, const char *sub,
    const char *name, ngx_oci_digest_t *digest);
static time_t ngx_oci_loader_stat(ngx_oci_loader_t *ld, int fd,
    const char *name, time_t *atime);
static void ngx_oci_loader_pause(ngx_oci_loader_t *ld);
static off_t ngx_oci_manager_free(ngx_oci_cache_t *cache);
static ngx_msec_t ngx_oci_manager_stuck(ngx_oci_cache_t *cache,
    ngx_uint_t over);


ngx_msec_t
ngx_oci_manager(void *data)
{
    ngx_oci_cache_t *cache = data;

    ngx_msec_t  next;

    if (ngx_oci_index_broken(cache)) {
        return NGX_OCI_MANAGER_IDLE;
    }

    /* nobody replaces a worker that died when it was about to exit */

    ngx_oci_doorbell_reap(cache);

    if (ngx_oci_dir_check(cache, ngx_cycle->log) != NGX_OCI_DIR_OK) {

        /* nothing can be removed, and what is there may be another's */

        return NGX_OCI_DIR_CHECK;
    }

    ngx_oci_manager_moved(cache);
    ngx_oci_push_clean(cache);

    next = ngx_oci_manager_round(cache);

    if (!ngx_quit && !ngx_terminate) {
        next = ngx_min(next, ngx_oci_scrub(cache));
    }

    return ngx_min(next, NGX_OCI_DIR_CHECK);
}


static ngx_msec_t
ngx_oci_manager_round(ngx_oci_cache_t *cache)
{
    off_t             free;
    time_t            accessed;
    uint64_t          bytes;
    ngx_int_t         rc;
    ngx_msec_t        started, next;
    ngx_uint_t        over, files, failures, walked;
    ngx_oci_digest_t  digest;

    started = ngx_current_msec;
    next = NGX_OCI_MANAGER_IDLE;
    files = 0;
    failures = 0;
    walked = 0;

    /* what is unlinked below is added: file systems may free it later */

    free = ngx_oci_manager_free(cache);

    while (!ngx_quit && !ngx_terminate) {

        over = ngx_oci_manager_over(cache, free);

        /* what has no entry was used before all that has one; whose turn it
           is then, also if something is forgotten all the time */

        if (!walked && ngx_oci_manager_walks(cache, over)) {
            ngx_oci_manager_walk(cache, &free);
            walked = !cache->walking;

            ngx_time_update();

            if (ngx_current_msec - started >= cache->manager_threshold) {
                next = cache->manager_sleep;
                break;
            }

            continue;
        }

        rc = ngx_oci_manager_oldest(cache, over, &digest, &bytes, &accessed);

        if (rc != NGX_OK) {
            if (rc == NGX_DECLINED && over && ngx_oci_manager_pins(cache)) {
                continue;
            }

            next = (rc == NGX_BUSY && over)
                   ? NGX_OCI_MANAGER_BUSY
                   : ngx_oci_manager_stuck(cache, over);
            break;
        }

        if (!over && ngx_time() - accessed < cache->inactive) {
            accessed += cache->inactive - ngx_time();
            next = ngx_min((ngx_msec_t) accessed * 1000,
                           NGX_OCI_MANAGER_IDLE);
            break;
        }

        if (ngx_oci_manager_drop(cache, &digest, 0) == NGX_OK) {

            ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                           "oci cache evicted %uL bytes, over:%ui", bytes,
                           over);
            ngx_oci_stat_add(NGX_OCI_STAT_EVICTED_BYTES, bytes);

            if (free != -1) {
                free += bytes;
            }

        } else if (++failures == NGX_OCI_MANAGER_FAILURES) {
            next = ngx_oci_manager_stuck(cache, over);
            break;
        }

        ngx_time_update();

        if (++files >= cache->manager_files
            || ngx_current_msec - started >= cache->manager_threshold)
        {
            next = cache->manager_sleep;
            break;
        }
    }

    if (ngx_oci_manager_doomed(cache)) {
        next = ngx_min(next, NGX_OCI_MANAGER_BUSY);
    }

    if (files) {
        (void) ngx_oci_manager_free(cache);
    }

    if (!ngx_quit && !ngx_terminate) {
        ngx_oci_refs_expire(cache);     /* once an hour */
    }

    return next;
}


/* as ngx_oci_index_oldest(): where there is too much, what is pinned goes when
   nothing else did for a while */

static ngx_int_t
ngx_oci_manager_oldest(ngx_oci_cache_t *cache, ngx_uint_t over,
    ngx_oci_digest_t *digest, uint64_t *bytes, time_t *accessed)
{
    ngx_int_t  rc;

    rc = ngx_oci_index_oldest(cache, 0, digest, bytes, accessed);

    if (rc != NGX_BUSY || !over) {
        cache->pins_since = 0;
        return rc;
    }

    if (cache->pins_since == 0) {

        /* workers keep files open for a while after their last reader */

        cache->pins_since = ngx_current_msec ? ngx_current_msec : 1;

        if (ngx_oci_index_set_tight(cache)) {
            ngx_oci_doorbell_ring_all(cache);
        }
    }

    if (ngx_current_msec - cache->pins_since < NGX_OCI_MANAGER_PINS) {
        return rc;
    }

    return ngx_oci_index_oldest(cache, 1, digest, bytes, accessed);
}


/* another directory: it is looked through for files without an entry */

static void
ngx_oci_manager_moved(ngx_oci_cache_t *cache)
{
    if (!ngx_oci_dir_same(cache->walk_dir, cache->dir_id)
        && cache->walk_dir)
    {
        cache->walking = 0;
        cache->walked = 0;
    }

    cache->walk_dir = cache->dir_id;
}


/* purges that waited for a fill, whose worker may have died; 1: some still
   do */

static ngx_uint_t
ngx_oci_manager_doomed(ngx_oci_cache_t *cache)
{
    uint64_t          bytes;
    ngx_uint_t        n, i;
    ngx_oci_digest_t  digest;

    for (n = 0, i = 0; i < NGX_OCI_MANAGER_DOOMED; i++) {

        if (ngx_oci_index_doomed(cache, n, &digest) != NGX_OK) {
            break;
        }

        if (ngx_oci_purge_blob(cache, &digest, 0, 1, &bytes, ngx_cycle->log)
            != NGX_OK)
        {
            n++;
        }
    }

    return n != 0;
}


static off_t
ngx_oci_manager_free(ngx_oci_cache_t *cache)
{
    return ngx_oci_room_look(cache);
}


/* nothing can go; when to look again */

static ngx_msec_t
ngx_oci_manager_stuck(ngx_oci_cache_t *cache, ngx_uint_t over)
{
    if (!over) {
        return NGX_OCI_MANAGER_IDLE;
    }

    ngx_oci_manager_warn(cache);

    return NGX_OCI_MANAGER_BUSY;
}


static ngx_uint_t
ngx_oci_manager_over(ngx_oci_cache_t *cache, off_t free)
{
    if (ngx_oci_index_used(cache) > (uint64_t) cache->max_size) {
        return 1;
    }

    return free != -1 && free < cache->min_free;
}


/*
 * Is a walk for files without an entry to go on, or to begin?  When there is
 * too much, once for all that was forgotten by then, so that entries' turn
 * comes too; else now and then.
 */

static ngx_uint_t
ngx_oci_manager_walks(ngx_oci_cache_t *cache, ngx_uint_t over)
{
    uint32_t  forgets;

    if (cache->walking && (over || cache->walk_all)) {
        return 1;
    }

    forgets = __atomic_load_n(&cache->index->forgets, __ATOMIC_RELAXED);

    if (ngx_time() - cache->walked >= NGX_OCI_MANAGER_WALK) {

        cache->walked = ngx_time();

        if (cache->walk_forgets == forgets && cache->walk_kept == 0) {
            return 0;
        }

        cache->walk_all = 1;

        if (cache->walking) {
            return 1;
        }

    } else if (cache->walking || !over
               || (cache->walk_forgets == forgets && cache->walk_kept == 0))
    {
        return 0;
    }

    cache->walking = 1;
    cache->walk = 0;
    cache->walk_forgets = forgets;
    cache->walk_recalls = __atomic_load_n(&cache->index->recalls,
                                          __ATOMIC_RELAXED);
    cache->walk_left = 0;
    cache->walk_kept = 0;
    cache->walk_pinned = 0;

    return 1;
}


/* all that has an entry is in use: now also files without one go that are
   pinned, if the last walk saw any */

static ngx_uint_t
ngx_oci_manager_pins(ngx_oci_cache_t *cache)
{
    if (cache->walking || cache->walk_pinned == 0) {
        return 0;
    }

    cache->walking = 1;
    cache->walk = 0;
    cache->walk_pins = 1;
    cache->walk_left = 0;
    cache->walk_kept = 0;
    cache->walk_pinned = 0;

    return 1;
}


/* one directory */

static void
ngx_oci_manager_walk(ngx_oci_cache_t *cache, off_t *free)
{
    int               fd;
    char              sub[3];
    ngx_oci_loader_t  ld;

    ngx_memzero(&ld, sizeof(ngx_oci_loader_t));

    ld.cache = cache;
    ld.free = free;
    ld.alg = NGX_OCI_SHA256 + cache->walk / NGX_OCI_MANAGER_DIRS;

    (void) ngx_sprintf((u_char *) sub, "%02xi%Z",
                       (ngx_int_t) (cache->walk % NGX_OCI_MANAGER_DIRS));

    fd = ngx_oci_open_sub(cache, cache->algs[ld.alg], sub, 0,
                          ngx_cycle->log);

    if (fd != -1) {
        ngx_oci_loader_sub(&ld, sub, fd);
    }

    if (ld.alg < NGX_OCI_SHA512
        || cache->walk % NGX_OCI_MANAGER_DIRS < NGX_OCI_MANAGER_DIRS - 1)
    {
        cache->walk++;
        return;
    }

    cache->walking = 0;
    cache->walk_all = 0;
    cache->walk_pins = 0;

    ngx_oci_index_counted(cache, cache->walk_forgets, cache->walk_recalls,
                          cache->walk_left);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "oci cache walked, left %uL bytes, kept %uL",
                   cache->walk_left, cache->walk_kept);
}


/* files without an entry, and without room for one */

static void
ngx_oci_manager_unknown(ngx_oci_loader_t *ld, ngx_oci_digest_t *digest,
    uint64_t bytes, time_t used, time_t pinned)
{
    time_t            now;
    ngx_oci_cache_t  *cache;

    cache = ld->cache;
    now = ngx_time();

    if (pinned > now && !cache->walk_pins) {
        cache->walk_left += bytes;
        cache->walk_pinned += bytes;
        return;
    }

    if (!ngx_oci_manager_over(cache, *ld->free)
        && now - used < cache->inactive
        && (bytes || now - used < NGX_OCI_LOADER_ORPHAN))
    {
        cache->walk_left += bytes;
        cache->walk_kept += bytes;
        return;
    }

    if (ngx_oci_manager_drop(cache, digest, 0) != NGX_OK) {
        cache->walk_left += bytes;
        return;
    }

    ngx_oci_index_found(cache, bytes);
    ngx_oci_stat_add(NGX_OCI_STAT_EVICTED_BYTES, bytes);

    if (*ld->free != -1) {
        *ld->free += bytes;
    }
}


static void
ngx_oci_manager_warn(ngx_oci_cache_t *cache)
{
    static time_t  warned;

    if (ngx_time() - warned < NGX_OCI_MANAGER_WARN) {
        return;
    }

    warned = ngx_time();

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "oci cache \"%V\" is over its limits, but nothing can be "
                  "removed: max_size is %O, %uL bytes are stored, min_free "
                  "is %O, %L bytes are free", &cache->path->name,
                  cache->max_size,
                  cache->index->bytes + cache->index->forgotten,
                  cache->min_free,
                  cache->index->free);
}


/*
 * Unlinks the files of a blob that nobody uses.  The lock keeps away who
 * writes them; the mark in the index who opens them; and who had them open
 * already finds them unlinked when the mark is gone.  create: there is no
 * sidecar, it is made to have something to lock.
 */

ngx_int_t
ngx_oci_manager_drop(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_uint_t create)
{
    int        map, flags;
    char       sub[3], name[NGX_OCI_STORE_NAME];
    ngx_int_t  rc;

    ngx_oci_store_names(digest, sub, name);
    ngx_memcpy(name + digest->size * 2, ".map", sizeof(".map"));

    flags = O_RDWR;

    if (create) {
        flags |= O_CREAT|O_EXCL;
    }

    map = ngx_oci_open(cache, cache->algs[digest->alg], sub, name, flags,
                       ngx_cycle->log);

    if (map == -1 && create) {
        return NGX_BUSY;
    }

    if (map == -1 && ngx_errno == ENOENT) {

        /* somebody else removed it: just forgotten */

        if (ngx_oci_index_evict(cache, digest) == NGX_OK) {
            ngx_oci_index_evicted(cache, digest, 1);
        }

        return NGX_DECLINED;
    }

    if (map == -1) {
        if (ngx_errno != NGX_OCI_SAID) {
            ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                          "open() \"%V/blobs/.../%s\" failed",
                          &cache->path->name, name);
        }

        /* nothing was marked here; another thread, with the same pid, may
           have */

        ngx_oci_index_skip(cache, digest);
        return NGX_ERROR;
    }

    rc = ngx_oci_store_lock(cache, digest, map);

    if (rc == NGX_OK) {
        rc = ngx_oci_manager_drop_locked(cache, digest, map);

        if (rc == NGX_BUSY && create) {
            (void) ngx_oci_unlink(cache, cache->algs[digest->alg], sub, name,
                                  ngx_cycle->log);
        }

        ngx_oci_store_unlock(map);

    } else {

        /* busy: who fills it may be another nginx */

        ngx_oci_index_skip(cache, digest);
    }

    close(map);

    return rc;
}


static ngx_int_t
ngx_oci_manager_drop_locked(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    int map)
{
    ngx_int_t    rc;
    struct stat  sb;

    rc = ngx_oci_index_evict(cache, digest);

    if (rc == NGX_BUSY) {
        return rc;
    }

    /* data that stays without a sidecar would be nobody's */

    if (ngx_oci_store_unlink_data(cache, digest, ngx_cycle->log) != NGX_OK) {
        ngx_oci_index_evicted(cache, digest, 0);
        return NGX_ERROR;
    }

    ngx_oci_store_unlink(cache, digest, ngx_cycle->log);

    if (fstat(map, &sb) == -1 || sb.st_nlink != 0) {
        ngx_oci_index_evicted(cache, digest, 0);
        return NGX_ERROR;
    }

    ngx_oci_index_evicted(cache, digest, 1);

    return NGX_OK;
}


void
ngx_oci_loader(void *data)
{
    ngx_oci_loader_t  ld;

    ngx_memzero(&ld, sizeof(ngx_oci_loader_t));

    ld.cache = data;

    if (ngx_oci_dir_check(ld.cache, ngx_cycle->log) == NGX_OCI_DIR_GONE) {
        return;
    }

    for (ld.alg = NGX_OCI_SHA256; ld.alg <= NGX_OCI_SHA512; ld.alg++) {
        ngx_oci_loader_alg(&ld);
    }

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "oci cache \"%V\": %uL blobs, %uL bytes",
                  &ld.cache->path->name, ld.cache->index->count,
                  ld.cache->index->bytes);
}


static void
ngx_oci_loader_alg(ngx_oci_loader_t *ld)
{
    int             fd, sub;
    DIR            *d;
    struct dirent  *de;

    /* a descriptor with a place of its own */

    fd = openat(ld->cache->algs[ld->alg], ".",
                O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    d = (fd == -1) ? NULL : fdopendir(fd);

    if (d == NULL) {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                      "opening a directory of \"%V/blobs\" failed",
                      &ld->cache->path->name);

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

        sub = ngx_oci_open_sub(ld->cache, ld->cache->algs[ld->alg],
                               de->d_name, 0, ngx_cycle->log);

        if (sub != -1) {
            ngx_oci_loader_sub(ld, de->d_name, sub);
        }
    }

    closedir(d);
}


/* closes fd */

static void
ngx_oci_loader_sub(ngx_oci_loader_t *ld, const char *sub, int fd)
{
    DIR               *d;
    struct dirent     *de;
    ngx_oci_digest_t   digest;

    d = fdopendir(fd);
    if (d == NULL) {
        close(fd);
        return;
    }

    for ( ;; ) {
        de = readdir(d);

        if (de == NULL || ngx_quit || ngx_terminate) {
            break;
        }

        if (ngx_oci_loader_digest(ld, sub, de->d_name, &digest) != NGX_OK) {
            continue;
        }

        if (ld->free == NULL) {
            ngx_oci_loader_file(ld, fd, de->d_name, &digest);
            ngx_oci_loader_pause(ld);

        } else if (!ngx_oci_index_known(ld->cache, &digest)) {
            ngx_oci_loader_file(ld, fd, de->d_name, &digest);
        }
    }

    closedir(d);
}


static void
ngx_oci_loader_file(ngx_oci_loader_t *ld, int fd, const char *name,
    ngx_oci_digest_t *digest)
{
    char     other[NGX_OCI_STORE_NAME];
    size_t   len;
    time_t   map, data, atime;

    len = digest->size * 2;
    ngx_memcpy(other, name, len);
    other[len] = '\0';

    /* only readers touch the data's atime, the loader reads sidecars */

    data = ngx_oci_loader_stat(ld, fd, other, &atime);

    ngx_memcpy(other + len, ".map", sizeof(".map"));

    if (name[len] == '.') {
        map = ngx_oci_loader_stat(ld, fd, other, NULL);

        if (map != -1) {
            data = ngx_max(data, atime);
            ngx_oci_loader_note(ld, digest, ngx_max(data, map));
        }

        return;
    }

    /* data without a sidecar: of no use to anybody, but it may be about to
       be made */

    data = ngx_max(data, atime);

    if (data == -1 || ngx_time() - data <= NGX_OCI_LOADER_ORPHAN
        || faccessat(fd, other, F_OK, AT_SYMLINK_NOFOLLOW) == 0
        || ngx_errno != ENOENT)
    {
        return;
    }

    if (ngx_oci_manager_drop(ld->cache, digest, 1) == NGX_OK) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "removed \"%V/blobs/.../%s\", which had no sidecar",
                      &ld->cache->path->name, name);
    }
}


static void
ngx_oci_loader_note(ngx_oci_loader_t *ld, ngx_oci_digest_t *digest,
    time_t used)
{
    size_t            i;
    uint64_t          bytes;
    ngx_int_t         rc;
    ngx_oci_store_t   st;

    rc = ngx_oci_store_open(ld->cache, digest, -1, 0, &st, ngx_cycle->log);

    if (rc == NGX_DECLINED && ngx_time() - used > ld->cache->inactive) {

        /* unusable, and no entry would ever expire */

        (void) ngx_oci_manager_drop(ld->cache, digest, 0);
        return;
    }

    if (rc != NGX_OK) {
        return;
    }

    bytes = 0;

    for (i = 0; i < st.slices; i++) {
        if (st.records[i].state != NGX_OCI_SLICE_ABSENT) {
            bytes += st.header.slice;
        }
    }

    bytes = ngx_min(bytes, st.header.size);

    rc = ngx_oci_index_note(ld->cache, digest, st.header.size, bytes,
                            ngx_min(used, ngx_time()), st.pinned,
                            st.header.flags & NGX_OCI_STORE_VERIFIED ? 1 : 0,
                            ld->free != NULL);

    ngx_oci_store_close(&st);

    if (rc == NGX_DECLINED && ld->free) {
        ngx_oci_manager_unknown(ld, digest, bytes, used, st.pinned);
    }
}


/* of the names "<hex>" and "<hex>.map" in the directory of their first two
   digits */

static ngx_int_t
ngx_oci_loader_digest(ngx_oci_loader_t *ld, const char *sub,
    const char *name, ngx_oci_digest_t *digest)
{
    size_t   len;
    u_char   buf[NGX_OCI_DIGEST_LEN], *p;

    len = (ld->alg == NGX_OCI_SHA256) ? 64 : 128;

    if (ngx_strlen(name) < len
        || (name[len] != '\0' && ngx_strcmp(name + len, ".map") != 0)
        || ngx_strncmp(name, sub, 2) != 0)
    {
        return NGX_DECLINED;
    }

    p = ngx_cpymem(buf, (ld->alg == NGX_OCI_SHA256) ? "sha256:" : "sha512:",
                   7);
    p = ngx_cpymem(p, name, len);

    return ngx_oci_digest_parse(digest, buf, p - buf);
}


/* the mtime of a regular file; -1: it is none */

static time_t
ngx_oci_loader_stat(ngx_oci_loader_t *ld, int fd, const char *name,
    time_t *atime)
{
    char         sub[3];
    struct stat  sb;

    if (fstatat(fd, name, &sb, AT_SYMLINK_NOFOLLOW) == -1) {
        sb.st_atime = -1;
        sb.st_mtime = -1;

    } else if (!S_ISREG(sb.st_mode)) {
        (void) ngx_cpystrn((u_char *) sub, (u_char *) name, sizeof(sub));
        ngx_oci_foreign(ld->cache, ld->cache->algs[ld->alg], sub, name, &sb,
                        ngx_cycle->log);
        sb.st_atime = -1;
        sb.st_mtime = -1;
    }

    if (atime) {
        *atime = sb.st_atime;
    }

    return sb.st_mtime;
}


static void
ngx_oci_loader_pause(ngx_oci_loader_t *ld)
{
    if (++ld->files % NGX_OCI_LOADER_FILES == 0) {
        ngx_msleep(NGX_OCI_LOADER_SLEEP);
        ngx_time_update();
    }
}
