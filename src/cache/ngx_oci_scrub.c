
/*
 * Copyright (C) The nginx-oci authors
 *
 * Stored slices of verified blobs are read again from the disk, slowly, in the
 * manager's process, and compared with their CRC: what has rotted is marked
 * missing, so that it is fetched again, and the blob is not called verified
 * until it was hashed with what came.
 *
 * It is the disk that is asked, not memory: by O_DIRECT, which leaves the page
 * cache to the readers, or, where a file system has none, by reading and
 * dropping what was read.
 *
 * A round goes through all directories, from one made up at the first start,
 * and no more than one begins in a day.
 */


#include "ngx_oci_index.h"
#include "ngx_oci_open.h"


#define NGX_OCI_SCRUB_DIRS    512       /* 256 of both algorithms */
#define NGX_OCI_SCRUB_ROUND   86400     /* s between beginnings */
#define NGX_OCI_SCRUB_LOOK    60000     /* ms, when there is nothing to do */
#define NGX_OCI_SCRUB_PIECE   (4 * 1024 * 1024)     /* bytes at most */
#define NGX_OCI_SCRUB_ALIGN   4096
#define NGX_OCI_SCRUB_FILES   100       /* names looked at in one turn */
#define NGX_OCI_SCRUB_FAILED  16        /* errors of the disk, then the round
                                           is over */


/* Owner: the cache, in the manager's process */

typedef struct {
    DIR               *dir;             /* NULL: none is open */
    char               sub[3];
    ngx_uint_t         alg;
    ngx_msec_t         due;
    ngx_uint_t         failed;          /* in this round */
    uint64_t           where;           /* of the cache's directory */

    ngx_uint_t         opened;          /* a blob is */
    ngx_uint_t         rotten;          /* slices of it */
    ngx_oci_digest_t   digest;
    ngx_oci_store_t    st;
    int                direct;          /* a descriptor with O_DIRECT; -1 */
    size_t             slice;           /* the one that is being read */
    uint64_t           pos;             /* up to here */
    uint32_t           crc;
    ngx_oci_store_record_t  record;     /* what it should be */

    u_char            *buf;             /* of NGX_OCI_SCRUB_PIECE bytes */
} ngx_oci_scrub_t;


static ngx_oci_scrub_t *ngx_oci_scrub_get(ngx_oci_cache_t *cache);
static ngx_int_t ngx_oci_scrub_round(ngx_oci_cache_t *cache,
    ngx_oci_scrub_t *sc);
static ngx_int_t ngx_oci_scrub_dir(ngx_oci_cache_t *cache,
    ngx_oci_scrub_t *sc);
static ngx_int_t ngx_oci_scrub_next(ngx_oci_cache_t *cache,
    ngx_oci_scrub_t *sc);
static ngx_int_t ngx_oci_scrub_digest(ngx_oci_scrub_t *sc, const char *name);
static ngx_int_t ngx_oci_scrub_open(ngx_oci_cache_t *cache,
    ngx_oci_scrub_t *sc);
static size_t ngx_oci_scrub_piece(ngx_oci_cache_t *cache,
    ngx_oci_scrub_t *sc);
static ssize_t ngx_oci_scrub_read(ngx_oci_scrub_t *sc, size_t len,
    uint64_t pos);
static void ngx_oci_scrub_forth(ngx_oci_scrub_t *sc);
static void ngx_oci_scrub_bad(ngx_oci_cache_t *cache, ngx_oci_scrub_t *sc);
static ngx_int_t ngx_oci_scrub_again(ngx_oci_scrub_t *sc, uint32_t *crc,
    ngx_err_t *err);
static ngx_int_t ngx_oci_scrub_mark(ngx_oci_cache_t *cache,
    ngx_oci_scrub_t *sc);
static void ngx_oci_scrub_close(ngx_oci_scrub_t *sc);
static void ngx_oci_scrub_end(ngx_oci_cache_t *cache, ngx_oci_scrub_t *sc);


ngx_msec_t
ngx_oci_scrub(ngx_oci_cache_t *cache)
{
    size_t            n;
    ngx_msec_int_t    left;
    ngx_oci_scrub_t  *sc;

    if (cache->scrub == 0) {
        return NGX_OCI_SCRUB_LOOK;
    }

    sc = ngx_oci_scrub_get(cache);
    if (sc == NULL) {
        return NGX_OCI_SCRUB_LOOK;
    }

    left = (ngx_msec_int_t) (sc->due - ngx_current_msec);

    if (left > 0) {
        return left;
    }

    if (!ngx_oci_dir_same(sc->where, cache->dir_id)) {

        /* another directory was put in its place */

        ngx_oci_scrub_end(cache, sc);
        sc->where = cache->dir_id;
    }

    if (!sc->opened) {

        switch (ngx_oci_scrub_next(cache, sc)) {

        case NGX_OK:
            break;

        case NGX_AGAIN:
            return cache->manager_sleep;

        default:
            return NGX_OCI_SCRUB_LOOK;
        }
    }

    n = ngx_oci_scrub_piece(cache, sc);

    ngx_oci_stat_add(NGX_OCI_STAT_SCRUBBED_BYTES, n);

    left = (ngx_msec_int_t) ((uint64_t) n * 1000 / cache->scrub);
    sc->due = ngx_current_msec + left;

    return left;
}


static ngx_oci_scrub_t *
ngx_oci_scrub_get(ngx_oci_cache_t *cache)
{
    ngx_oci_scrub_t  *sc;

    if (cache->scrubbing) {
        return cache->scrubbing;
    }

    sc = ngx_calloc(sizeof(ngx_oci_scrub_t), ngx_cycle->log);
    if (sc == NULL) {
        return NULL;
    }

    sc->buf = ngx_memalign(NGX_OCI_SCRUB_ALIGN, NGX_OCI_SCRUB_PIECE,
                           ngx_cycle->log);
    if (sc->buf == NULL) {
        ngx_free(sc);
        return NULL;
    }

    sc->st.fd = -1;
    sc->st.map = -1;
    sc->direct = -1;
    sc->where = cache->dir_id;

    cache->scrubbing = sc;

    return sc;
}


/* is there a round, or is it time for one?  Its place is in the zone: a reload
   goes on there */

static ngx_int_t
ngx_oci_scrub_round(ngx_oci_cache_t *cache, ngx_oci_scrub_t *sc)
{
    time_t               now;
    ngx_oci_index_sh_t  *sh;

    sh = cache->index;
    now = ngx_time();

    if (sh->scrub_left) {
        return NGX_OK;
    }

    if (sh->scrub_begun && now >= sh->scrub_begun
        && now - sh->scrub_begun < NGX_OCI_SCRUB_ROUND)
    {
        return NGX_DECLINED;
    }

    if (sh->scrub_begun == 0) {
        sh->scrub_place = (uint32_t) ngx_random() % NGX_OCI_SCRUB_DIRS;
    }

    sh->scrub_begun = now;
    sh->scrub_left = NGX_OCI_SCRUB_DIRS;
    sc->failed = 0;

    return NGX_OK;
}


/* opens the next directory that is there; NGX_DECLINED: the round is over */

static ngx_int_t
ngx_oci_scrub_dir(ngx_oci_cache_t *cache, ngx_oci_scrub_t *sc)
{
    int                  fd;
    ngx_oci_index_sh_t  *sh;

    sh = cache->index;

    while (ngx_oci_scrub_round(cache, sc) == NGX_OK) {

        sc->alg = (sh->scrub_place < NGX_OCI_SCRUB_DIRS / 2)
                  ? NGX_OCI_SHA256 : NGX_OCI_SHA512;

        (void) ngx_sprintf((u_char *) sc->sub, "%02xi%Z",
                           (ngx_int_t) (sh->scrub_place
                                        % (NGX_OCI_SCRUB_DIRS / 2)));

        fd = ngx_oci_open_sub(cache, cache->algs[sc->alg], sc->sub, 0,
                              ngx_cycle->log);

        if (fd != -1) {
            sc->dir = fdopendir(fd);

            if (sc->dir) {
                return NGX_OK;
            }

            close(fd);
        }

        ngx_oci_scrub_end(cache, sc);
    }

    return NGX_DECLINED;
}


/* the next blob: NGX_OK: it is opened; NGX_AGAIN: later; NGX_DECLINED: the
   round is over */

static ngx_int_t
ngx_oci_scrub_next(ngx_oci_cache_t *cache, ngx_oci_scrub_t *sc)
{
    ngx_uint_t      i;
    struct dirent  *de;

    for (i = 0; i < NGX_OCI_SCRUB_FILES; i++) {

        if (sc->dir == NULL && ngx_oci_scrub_dir(cache, sc) != NGX_OK) {
            return NGX_DECLINED;
        }

        de = readdir(sc->dir);

        if (de == NULL) {
            ngx_oci_scrub_end(cache, sc);
            continue;
        }

        if (ngx_oci_scrub_digest(sc, de->d_name) == NGX_OK
            && ngx_oci_scrub_open(cache, sc) == NGX_OK)
        {
            return NGX_OK;
        }
    }

    return NGX_AGAIN;
}


/* of the name of a data file */

static ngx_int_t
ngx_oci_scrub_digest(ngx_oci_scrub_t *sc, const char *name)
{
    size_t   len;
    u_char   buf[NGX_OCI_DIGEST_LEN], *p;

    len = (sc->alg == NGX_OCI_SHA256) ? 64 : 128;

    if (ngx_strlen(name) != len || ngx_strncmp(name, sc->sub, 2) != 0) {
        return NGX_DECLINED;
    }

    p = ngx_cpymem(buf, (sc->alg == NGX_OCI_SHA256) ? "sha256:" : "sha512:",
                   7);
    p = ngx_cpymem(p, name, len);

    return ngx_oci_digest_parse(&sc->digest, buf, p - buf);
}


static ngx_int_t
ngx_oci_scrub_open(ngx_oci_cache_t *cache, ngx_oci_scrub_t *sc)
{
    int          dir;
    char         sub[3], name[NGX_OCI_STORE_NAME];
    struct stat  a, b;

    if (ngx_oci_store_open(cache, &sc->digest, -1, 0, &sc->st,
                           ngx_cycle->log)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    ngx_oci_store_forget(&sc->st);

    sc->opened = 1;
    sc->rotten = 0;
    sc->slice = 0;
    sc->pos = 0;
    sc->crc = 0;

    if (!(sc->st.header.flags & NGX_OCI_STORE_VERIFIED)) {
        ngx_oci_scrub_close(sc);
        return NGX_DECLINED;
    }

    dir = cache->algs[sc->alg];
    ngx_oci_store_names(&sc->digest, sub, name);

    sc->direct = ngx_oci_open(cache, dir, sub, name, O_RDONLY|O_DIRECT,
                              ngx_cycle->log);

    if (sc->direct != -1
        && (fstat(sc->direct, &a) == -1 || fstat(sc->st.fd, &b) == -1
            || a.st_ino != b.st_ino || a.st_dev != b.st_dev))
    {
        ngx_oci_scrub_close(sc);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* reads on in the opened blob; how many bytes */

static size_t
ngx_oci_scrub_piece(ngx_oci_cache_t *cache, ngx_oci_scrub_t *sc)
{
    size_t       size, slice;
    ssize_t      n;
    uint64_t     end;
    struct stat  sb;

    slice = sc->st.header.slice;

    if (fstat(sc->st.map, &sb) == -1 || sb.st_nlink == 0) {

        /* removed meanwhile: the disk gets its bytes when it is closed */

        ngx_oci_scrub_close(sc);
        return 0;
    }

    if (sc->pos == (uint64_t) sc->slice * slice) {

        if (sc->slice == sc->st.slices
            || pread(sc->st.map, &sc->record, sizeof(sc->record),
                     NGX_OCI_STORE_RECORDS
                     + (off_t) (sc->slice * sizeof(sc->record)))
               != sizeof(sc->record)
            || sc->record.state == NGX_OCI_SLICE_ABSENT)
        {
            /* all of it, or somebody else has found one that is lost */

            ngx_oci_scrub_close(sc);
            return 0;
        }

        sc->crc = 0;
    }

    end = ngx_min((uint64_t) (sc->slice + 1) * slice, sc->st.header.size);

    /* (in pieces of about a quarter of a second) */

    size = ngx_min(cache->scrub / 4, NGX_OCI_SCRUB_PIECE);
    size -= size % NGX_OCI_SCRUB_ALIGN;
    size = ngx_min(size, end - sc->pos);

    n = ngx_oci_scrub_read(sc, size, sc->pos);

    if (n <= 0) {
        ngx_oci_scrub_bad(cache, sc);
        return size;
    }

    n = ngx_min((size_t) n, size);

    sc->crc = ngx_oci_crc32c(sc->crc, sc->buf, n);
    sc->pos += n;

    if (sc->pos == end) {

        if (sc->crc != sc->record.crc) {
            ngx_oci_scrub_bad(cache, sc);

        } else {
            ngx_oci_scrub_forth(sc);
        }
    }

    return n;
}


static void
ngx_oci_scrub_forth(ngx_oci_scrub_t *sc)
{
    sc->slice++;
    sc->pos = (uint64_t) sc->slice * sc->st.header.slice;
}


/* len bytes, or a few more, into buf */

static ssize_t
ngx_oci_scrub_read(ngx_oci_scrub_t *sc, size_t len, uint64_t pos)
{
    size_t   whole;
    ssize_t  n;

    if (sc->direct != -1 && pos % NGX_OCI_SCRUB_ALIGN == 0) {

        whole = (len + NGX_OCI_SCRUB_ALIGN - 1)
                / NGX_OCI_SCRUB_ALIGN * NGX_OCI_SCRUB_ALIGN;

        do {
            n = pread(sc->direct, sc->buf, whole, pos);
        } while (n == -1 && ngx_errno == NGX_EINTR);

        if (n != -1 || ngx_errno != EINVAL) {
            return n;
        }

        close(sc->direct);
        sc->direct = -1;
    }

    /* what is in memory says nothing, and is not to stay there for this */

    (void) posix_fadvise(sc->st.fd, pos, len, POSIX_FADV_DONTNEED);

    do {
        n = pread(sc->st.fd, sc->buf, len, pos);
    } while (n == -1 && ngx_errno == NGX_EINTR);

    if (n > 0) {
        (void) posix_fadvise(sc->st.fd, pos, n, POSIX_FADV_DONTNEED);
    }

    return n;
}


/*
 * The slice is not what was recorded, or can't be read.  It is read once more
 * with the lock: a fill may have been there.
 */

static void
ngx_oci_scrub_bad(ngx_oci_cache_t *cache, ngx_oci_scrub_t *sc)
{
    u_char     text[NGX_OCI_DIGEST_LEN];
    uint32_t   crc;
    ngx_int_t  rc;
    ngx_err_t  err;
    ngx_str_t  digest;

    digest.data = text;
    digest.len = ngx_oci_digest_print(text, &sc->digest) - text;

    if (ngx_oci_store_lock(cache, &sc->digest, sc->st.map) != NGX_OK) {

        /* filled, or removed: the next round comes by again */

        ngx_oci_scrub_close(sc);
        return;
    }

    err = 0;
    crc = 0;

    rc = ngx_oci_scrub_again(sc, &crc, &err);

    if (rc == NGX_OK && err == 0 && crc == sc->record.crc) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "scrub: a slice at %uL of blob \"%V\" in \"%V\" was "
                      "read wrong once, and right again",
                      (uint64_t) sc->slice * sc->st.header.slice, &digest,
                      &cache->path->name);

    } else if (rc == NGX_OK) {

        rc = ngx_oci_scrub_mark(cache, sc);

        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, err,
                      "scrub: a slice at %uL of blob \"%V\" in \"%V\" has "
                      "rotted on the disk, %s",
                      (uint64_t) sc->slice * sc->st.header.slice, &digest,
                      &cache->path->name, rc == NGX_OK
                      ? "it will be fetched again"
                      : "and its sidecar can't be written");

        ngx_oci_stat_add(NGX_OCI_STAT_SCRUB_ROTTEN, 1);
        sc->rotten++;

        if (err || rc != NGX_OK) {
            ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
            sc->failed++;
        }
    }

    ngx_oci_store_unlock(sc->st.map);

    /* whoever fetches it hashes all of the blob: others should be found
       before that */

    if (rc == NGX_OK) {
        ngx_oci_scrub_forth(sc);

    } else {
        ngx_oci_scrub_close(sc);
    }

    if (sc->failed >= NGX_OCI_SCRUB_FAILED) {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                      "scrub: the disk of \"%V\" fails, it is looked at again "
                      "tomorrow", &cache->path->name);
        ngx_oci_scrub_end(cache, sc);
        cache->index->scrub_left = 0;
        sc->failed = 0;
    }
}


/* NGX_DECLINED: nothing is to be said about the slice any more */

static ngx_int_t
ngx_oci_scrub_again(ngx_oci_scrub_t *sc, uint32_t *crc, ngx_err_t *err)
{
    ssize_t                  n;
    uint64_t                 pos, end;
    ngx_oci_store_header_t   h;

    if (pread(sc->st.map, &h, sizeof(h), 0) != sizeof(h)
        || h.nonce != sc->st.header.nonce
        || (!(h.flags & NGX_OCI_STORE_VERIFIED) && sc->rotten == 0)
        || pread(sc->st.map, &sc->record, sizeof(sc->record),
                 NGX_OCI_STORE_RECORDS
                 + (off_t) (sc->slice * sizeof(sc->record)))
           != sizeof(sc->record)
        || sc->record.state == NGX_OCI_SLICE_ABSENT)
    {
        return NGX_DECLINED;
    }

    pos = (uint64_t) sc->slice * h.slice;
    end = ngx_min(pos + h.slice, h.size);

    while (pos < end) {
        n = ngx_oci_scrub_read(sc, ngx_min(end - pos, NGX_OCI_SCRUB_PIECE),
                               pos);
        if (n <= 0) {
            *err = n ? ngx_errno : EIO;
            return NGX_OK;
        }

        n = ngx_min((uint64_t) n, end - pos);

        *crc = ngx_oci_crc32c(*crc, sc->buf, n);
        pos += n;
    }

    return NGX_OK;
}


/* with the lock: first the mark of the blob goes, on the disk, then the
   slice's */

static ngx_int_t
ngx_oci_scrub_mark(ngx_oci_cache_t *cache, ngx_oci_scrub_t *sc)
{
    if (ngx_oci_store_unverify(sc->st.map) != NGX_OK
        || ngx_oci_store_record(sc->st.map, sc->slice, sc->record.crc,
                                NGX_OCI_SLICE_ABSENT)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_oci_index_rotten(cache, &sc->digest, &sc->st, sc->slice);

    return NGX_OK;
}


static void
ngx_oci_scrub_close(ngx_oci_scrub_t *sc)
{
    ngx_oci_store_close(&sc->st);

    if (sc->direct != -1) {
        close(sc->direct);
        sc->direct = -1;
    }

    sc->opened = 0;
}


/* of the directory; the next one follows */

static void
ngx_oci_scrub_end(ngx_oci_cache_t *cache, ngx_oci_scrub_t *sc)
{
    ngx_oci_index_sh_t  *sh;

    sh = cache->index;

    if (sc->opened) {
        ngx_oci_scrub_close(sc);
    }

    if (sc->dir) {
        closedir(sc->dir);
        sc->dir = NULL;
    }

    if (sh->scrub_left) {
        sh->scrub_left--;
        sh->scrub_place = (sh->scrub_place + 1) % NGX_OCI_SCRUB_DIRS;
    }
}
