
/*
 * Copyright (C) The nginx-oci authors
 *
 * The policy's document: from its file into shared memory.
 */


#include "ngx_oci_policy.h"
#include "ngx_oci_policy_doc.h"

#include <openssl/rand.h>


#define NGX_OCI_POLICY_FILE_MAX   (64 * 1024 * 1024)
#define NGX_OCI_POLICY_PIECE      (16 * 1024)   /* copied under the mutex */
#define NGX_OCI_POLICY_GOOD_MIN   256
#define NGX_OCI_POLICY_GOOD_MAX   65536


static ngx_int_t ngx_oci_policy_layout(ngx_oci_policy_conf_t *pcf,
    ngx_log_t *log);
static ngx_int_t ngx_oci_policy_stat_of(struct stat *st,
    ngx_oci_policy_stat_t *ps);
static char *ngx_oci_policy_read_file(const char *file, size_t *len,
    ngx_oci_policy_text_t *text);


ngx_int_t
ngx_oci_policy_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_oci_policy_conf_t  *old = data;

    ngx_int_t               rc;
    ngx_oci_policy_conf_t  *pcf;
    ngx_oci_policy_stat_t   st;

    pcf = zone->data;
    pcf->shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (old) {
        pcf->sh = old->sh;

    } else if (zone->shm.exists) {
        pcf->sh = pcf->shpool->data;

    } else if (ngx_oci_policy_layout(pcf, zone->shm.log) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_oci_remember_key(pcf);

    if (ngx_oci_policy_redis_used(pcf)) {

        if (pcf->sh->generation == 0) {
            ngx_oci_policy_keep_read(pcf, zone->shm.log);
        }

        return NGX_OK;
    }

    if (pcf->first.doc == NULL) {
        return NGX_OK;
    }

    /*
     * The running workers may have a later one than what was read with the
     * configuration.  The new ones begin with a look at the file.
     */

    if (old && pcf->sh->generation
        && old->file.len == pcf->file.len
        && ngx_memcmp(old->file.data, pcf->file.data, pcf->file.len) == 0
        && (ngx_oci_policy_stat((char *) pcf->file.data, &st) != NGX_OK
            || ngx_memcmp(&st, &pcf->first.stat, sizeof(st)) != 0))
    {
        rc = NGX_OK;

    } else {
        rc = ngx_oci_policy_publish(pcf, &pcf->first);
    }

    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "\"%V\" of oci_policy \"%V\" has %uD bytes when "
                      "compiled, its zone holds %uz",
                      &pcf->file, &pcf->policy.name, pcf->first.doc->size,
                      pcf->sh->area_size);
    }

    free(pcf->first.doc);
    pcf->first.doc = NULL;

    return (rc == NGX_OK) ? NGX_OK : NGX_ERROR;
}


/* a sixteenth for outcomes, the rest for two documents */

static ngx_int_t
ngx_oci_policy_layout(ngx_oci_policy_conf_t *pcf, ngx_log_t *log)
{
    size_t                pages;
    ngx_slab_pool_t      *shpool;
    ngx_oci_policy_sh_t  *sh;

    shpool = pcf->shpool;

    sh = ngx_slab_calloc(shpool, sizeof(ngx_oci_policy_sh_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    sh->ngood = NGX_OCI_POLICY_GOOD_MIN;

    while (sh->ngood < NGX_OCI_POLICY_GOOD_MAX
           && 2 * sh->ngood * sizeof(ngx_oci_outcome_t)
              < pcf->zone->shm.size / 20)
    {
        sh->ngood *= 2;
    }

    sh->nbad = sh->ngood / 4;

    sh->good = ngx_slab_calloc(shpool,
                               sh->ngood * sizeof(ngx_oci_outcome_t));
    sh->bad = ngx_slab_calloc(shpool, sh->nbad * sizeof(ngx_oci_outcome_t));

    if (sh->good == NULL || sh->bad == NULL || shpool->pfree < 4) {
        return NGX_ERROR;
    }

    pages = shpool->pfree / 2;
    sh->area_size = pages * ngx_pagesize;

    sh->area[0] = ngx_slab_alloc(shpool, sh->area_size);
    sh->area[1] = ngx_slab_alloc(shpool, sh->area_size);

    if (sh->area[0] == NULL || sh->area[1] == NULL) {
        return NGX_ERROR;
    }

    if (RAND_bytes(sh->key, NGX_OCI_POLICY_KEY) != 1) {
        ngx_log_error(NGX_LOG_EMERG, log, 0, "no random bytes for a key");
        return NGX_ERROR;
    }

    shpool->data = sh;
    pcf->sh = sh;

    return NGX_OK;
}


/* NGX_OK; NGX_DECLINED: it is no regular file; NGX_ERROR: errno */

ngx_int_t
ngx_oci_policy_stat(const char *file, ngx_oci_policy_stat_t *ps)
{
    struct stat  st;

    if (stat(file, &st) == -1) {
        return NGX_ERROR;
    }

    return ngx_oci_policy_stat_of(&st, ps);
}


static ngx_int_t
ngx_oci_policy_stat_of(struct stat *st, ngx_oci_policy_stat_t *ps)
{
    ngx_memzero(ps, sizeof(ngx_oci_policy_stat_t));

    ps->dev = st->st_dev;
    ps->ino = st->st_ino;
    ps->size = st->st_size;
    ps->mtime = st->st_mtim;
    ps->ctime = st->st_ctim;

    return S_ISREG(st->st_mode) ? NGX_OK : NGX_DECLINED;
}


ngx_int_t
ngx_oci_policy_read(const char *file, u_char *digest,
    ngx_oci_policy_text_t *text)
{
    char       *p;
    size_t      len;
    ngx_int_t   rc;

    ngx_memzero(text, sizeof(ngx_oci_policy_text_t));

    p = ngx_oci_policy_read_file(file, &len, text);
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) SHA256((u_char *) p, len, text->digest);

    if (digest && ngx_memcmp(text->digest, digest, NGX_OCI_POLICY_DIGEST) == 0)
    {
        free(p);
        return NGX_DECLINED;
    }

    rc = ngx_oci_policy_parse(p, len, text);

    ngx_explicit_memzero(p, len);
    free(p);

    return rc;
}


ngx_int_t
ngx_oci_policy_parse(const char *p, size_t len, ngx_oci_policy_text_t *text)
{
    ngx_oci_policy_error_t  error;

    text->doc = ngx_oci_policy_compile_json(p, len, &text->json, &error);

    if (text->doc) {
        return NGX_OK;
    }

    if (error.line) {
        (void) snprintf(text->error, sizeof(text->error),
                        "%.512s in line %lu, column %lu", error.text,
                        (unsigned long) error.line,
                        (unsigned long) error.column);

    } else {
        (void) snprintf(text->error, sizeof(text->error), "%.512s",
                        error.text);
    }

    return NGX_ERROR;
}


void
ngx_oci_policy_parsed(ngx_oci_policy_text_t *text)
{
    json_decref(text->json);
    text->json = NULL;
}


static char *
ngx_oci_policy_read_file(const char *file, size_t *len,
    ngx_oci_policy_text_t *text)
{
    int           fd, err;
    char         *p;
    u_char        buf[64];
    size_t        size;
    ssize_t       n;
    struct stat   st;

    p = NULL;
    err = 0;

    fd = open(file, O_RDONLY|O_CLOEXEC|O_NONBLOCK);

    if (fd == -1 || fstat(fd, &st) == -1) {
        err = errno;
        goto failed;
    }

    if (ngx_oci_policy_stat_of(&st, &text->stat) != NGX_OK) {
        (void) snprintf(text->error, sizeof(text->error),
                        "it is no regular file");
        goto failed;
    }

    if (st.st_mode & S_IRWXO) {
        (void) snprintf(text->error, sizeof(text->error),
                        "it is open to everyone");
        goto failed;
    }

    if (st.st_size > NGX_OCI_POLICY_FILE_MAX) {
        (void) snprintf(text->error, sizeof(text->error),
                        "it has more than 64m");
        goto failed;
    }

    /* one byte more, to see that it doesn't grow meanwhile */

    size = (size_t) st.st_size + 1;
    p = malloc(size);

    if (p == NULL) {
        err = ENOMEM;
        goto failed;
    }

    for (*len = 0; *len < size; *len += n) {

        n = read(fd, p + *len, size - *len);

        if (n == 0) {
            break;
        }

        if (n == -1) {
            err = errno;
            goto failed;
        }
    }

    if (*len != size - 1) {
        (void) snprintf(text->error, sizeof(text->error),
                        "it changed while it was read");
        goto failed;
    }

    (void) close(fd);

    return p;

failed:

    if (err) {
        *ngx_strerror(err, buf, sizeof(buf) - 1) = '\0';
        (void) snprintf(text->error, sizeof(text->error),
                        "it can't be read (%d: %s)", err, buf);
    }

    if (fd != -1) {
        (void) close(fd);
    }

    free(p);

    return NULL;
}


ngx_int_t
ngx_oci_policy_publish(ngx_oci_policy_conf_t *pcf,
    ngx_oci_policy_text_t *text)
{
    size_t                n, size;
    u_char               *src, *dst;
    uint64_t              writer;
    ngx_shmtx_t          *mutex;
    ngx_oci_policy_sh_t  *sh;

    sh = pcf->sh;
    mutex = &pcf->shpool->mutex;
    src = (u_char *) text->doc;
    size = text->doc->size;

    if (size > sh->area_size) {
        return NGX_DECLINED;
    }

    ngx_shmtx_lock(mutex);

    writer = ++sh->writer;
    dst = sh->area[!sh->active];

    ngx_shmtx_unlock(mutex);

    while (size) {

        n = ngx_min(size, NGX_OCI_POLICY_PIECE);

        ngx_shmtx_lock(mutex);

        if (sh->writer != writer) {
            ngx_shmtx_unlock(mutex);
            return NGX_ABORT;
        }

        ngx_memcpy(dst, src, n);

        ngx_shmtx_unlock(mutex);

        dst += n;
        src += n;
        size -= n;
    }

    ngx_shmtx_lock(mutex);

    if (sh->writer != writer
        || (text->source
            && (text->epoch < sh->epoch
                || ngx_memcmp(sh->source, text->source,
                              NGX_OCI_POLICY_DIGEST)
                   != 0)))
    {
        ngx_shmtx_unlock(mutex);
        return NGX_ABORT;
    }

    if (text->source) {
        sh->epoch = text->epoch;
        sh->current = text->current;

    } else {
        ngx_memzero(sh->source, NGX_OCI_POLICY_DIGEST);
        sh->epoch = 0;
        sh->current = (int64_t) ngx_current_msec;
    }

    ngx_memcpy(sh->digest, text->digest, NGX_OCI_POLICY_DIGEST);

    /* a worker that dies here leaves no other document of that generation */

    sh->generation++;
    ngx_memory_barrier();

    sh->active = !sh->active;

    ngx_shmtx_unlock(mutex);

    return NGX_OK;
}


ngx_oci_rbac_t *
ngx_oci_policy_doc(ngx_oci_policy_conf_t *pcf)
{
    ngx_oci_policy_sh_t  *sh;

    sh = pcf->sh;

    return sh->generation ? (ngx_oci_rbac_t *) sh->area[sh->active] : NULL;
}
