
/*
 * Copyright (C) The nginx-oci authors
 *
 * Queues on disk.  A queue is a directory of files that have numbers; workers
 * append records to the last one, each by one write(), whoever they are: of
 * this configuration, of one before, of another nginx.  A record that begins
 * beyond NGX_OCI_NOTIFY_FILE bytes of its file counts for nobody, and so its
 * writer, who knows where it begins, writes it once more into the next file:
 * what is full stays as it is, without anybody having told others so.
 */


#include "ngx_oci_notify.h"

#include <dirent.h>


#define NGX_OCI_NOTIFY_SLACK  16        /* files beyond the queue's size, until
                                           whoever sends makes room */


static ngx_int_t ngx_oci_notify_last(ngx_oci_notify_t *notify);
static ngx_int_t ngx_oci_notify_write(ngx_oci_notify_t *notify, u_char *p,
    size_t len);
static void ngx_oci_notify_lose(ngx_oci_notify_t *notify, ngx_err_t err);
static int ngx_oci_notify_compare(const void *one, const void *two);


ngx_int_t
ngx_oci_notify_append(ngx_oci_notify_t *notify, ngx_oci_record_t *record)
{
    size_t      len;
    u_char      buf[NGX_OCI_NOTE_RECORD];
    ngx_int_t   rc;
    ngx_uint_t  i;

    len = ngx_oci_record_size(record->repository.len, record->body.len);

    if (len > sizeof(buf)) {
        ngx_oci_notify_lose(notify, NGX_EINVAL);
        return NGX_ERROR;
    }

    (void) ngx_oci_record_write(buf, record);

    for (i = 0; i < 4; i++) {

        if (notify->fd == NGX_INVALID_FILE
            && ngx_oci_notify_last(notify) != NGX_OK)
        {
            ngx_oci_notify_lose(notify, ngx_errno);
            return NGX_ERROR;
        }

        rc = ngx_oci_notify_write(notify, buf, len);

        if (rc == NGX_OK) {
            ngx_oci_notify_add(notify->sh->appended, 1);

            if (notify->lost) {
                notify->lost = 0;
                ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                              "events are written to \"%V\" again",
                              &notify->dir);
            }

            return NGX_OK;
        }

        if (rc == NGX_ERROR) {
            ngx_oci_notify_lose(notify, ngx_errno);
            return NGX_ERROR;
        }

        /* full, or somebody removed it */

        ngx_oci_notify_close(notify);
    }

    ngx_oci_notify_lose(notify, NGX_EBUSY);

    return NGX_ERROR;
}


/* NGX_DECLINED: the file has no place for it any more */

static ngx_int_t
ngx_oci_notify_write(ngx_oci_notify_t *notify, u_char *p, size_t len)
{
    off_t        end;
    ssize_t      n;
    struct stat  st;

    if (fstat(notify->fd, &st) == -1) {
        return NGX_ERROR;
    }

    if (st.st_nlink == 0 || st.st_size >= NGX_OCI_NOTIFY_FILE) {
        return NGX_DECLINED;
    }

    do {
        n = write(notify->fd, p, len);
    } while (n == -1 && ngx_errno == NGX_EINTR);

    if (n != (ssize_t) len) {

        if (n >= 0) {
            ngx_set_errno(NGX_ENOSPC);
        }

        return NGX_ERROR;
    }

    /* O_APPEND leaves the descriptor behind what it wrote */

    end = lseek(notify->fd, 0, SEEK_CUR);

    return (end != -1 && end - (off_t) len < NGX_OCI_NOTIFY_FILE)
           ? NGX_OK : NGX_DECLINED;
}


/* the last file, or a new one after it */

static ngx_int_t
ngx_oci_notify_last(ngx_oci_notify_t *notify)
{
    char         name[NGX_OCI_NOTIFY_NAME];
    uint64_t     last, *files;
    ngx_uint_t   n, i;
    struct stat  st;

    if (ngx_oci_notify_files((char *) notify->dir.data, &files, &n)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    last = n ? files[n - 1] : 1;

    free(files);

    for (i = 0; i < 2; i++) {

        if (n > (ngx_uint_t) (notify->size / NGX_OCI_NOTIFY_FILE)
                + NGX_OCI_NOTIFY_SLACK)
        {
            ngx_set_errno(NGX_ENOSPC);
            return NGX_ERROR;
        }

        ngx_oci_notify_file_name(name, last);

        notify->fd = ngx_oci_notify_open((char *) notify->dir.data, name,
                                         O_WRONLY|O_APPEND|O_CREAT);

        if (notify->fd == NGX_INVALID_FILE) {
            return NGX_ERROR;
        }

        if (fstat(notify->fd, &st) == 0 && st.st_size < NGX_OCI_NOTIFY_FILE)
        {
            return NGX_OK;
        }

        ngx_oci_notify_close(notify);

        last++;
        n++;
    }

    ngx_set_errno(NGX_EBUSY);

    return NGX_ERROR;
}


void
ngx_oci_notify_close(ngx_oci_notify_t *notify)
{
    if (notify->fd != NGX_INVALID_FILE) {
        (void) ngx_close_file(notify->fd);
        notify->fd = NGX_INVALID_FILE;
    }
}


static void
ngx_oci_notify_lose(ngx_oci_notify_t *notify, ngx_err_t err)
{
    ngx_oci_notify_add(notify->sh->dropped, 1);

    ngx_oci_notify_close(notify);

    if (notify->lost) {
        return;
    }

    notify->lost = 1;

    ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, err,
                  "events can't be written to \"%V\", they are dropped",
                  &notify->dir);
}


/* another nginx, which appends as well, counts in a memory of its own */

uint64_t
ngx_oci_notify_waiting(ngx_oci_notify_sh_t *sh)
{
    int64_t  n;

    n = (int64_t) (ngx_oci_notify_get(sh->appended)
                   - ngx_oci_notify_get(sh->gone));

    return (n > 0) ? n : 0;
}


void
ngx_oci_notify_file_name(char *name, uint64_t file)
{
    (void) snprintf(name, NGX_OCI_NOTIFY_NAME, "%016llx.events",
                    (unsigned long long) file);
}


ngx_int_t
ngx_oci_notify_files(const char *dir, uint64_t **files, ngx_uint_t *n)
{
    DIR                 *d;
    char                *end, name[NGX_OCI_NOTIFY_NAME];
    uint64_t            *list, *p;
    ngx_uint_t           room;
    struct dirent       *de;
    unsigned long long   v;

    d = opendir(dir);
    if (d == NULL) {
        return NGX_ERROR;
    }

    list = NULL;
    room = 0;
    *n = 0;

    while ((de = readdir(d)) != NULL) {

        v = strtoull(de->d_name, &end, 16);

        if (v == 0 || strcmp(end, ".events") != 0) {
            continue;
        }

        /* it is written in one way only */

        ngx_oci_notify_file_name(name, v);

        if (strcmp(de->d_name, name) != 0) {
            continue;
        }

        if (*n == room) {
            room = room ? 2 * room : 64;

            p = realloc(list, room * sizeof(uint64_t));
            if (p == NULL) {
                free(list);
                (void) closedir(d);
                ngx_set_errno(NGX_ENOMEM);
                return NGX_ERROR;
            }

            list = p;
        }

        list[(*n)++] = v;
    }

    (void) closedir(d);

    if (*n) {
        qsort(list, *n, sizeof(uint64_t), ngx_oci_notify_compare);
    }

    *files = list;

    return NGX_OK;
}


static int
ngx_oci_notify_compare(const void *one, const void *two)
{
    const uint64_t *a = one;
    const uint64_t *b = two;

    return (*a > *b) - (*a < *b);
}


ngx_fd_t
ngx_oci_notify_open(const char *dir, const char *name, int flags)
{
    int          n;
    char         path[NGX_MAX_PATH];
    ngx_fd_t     fd;
    struct stat  st;

    n = snprintf(path, sizeof(path), "%s/%s", dir, name);

    if (n < 0 || n >= (int) sizeof(path)) {
        ngx_set_errno(ENAMETOOLONG);
        return NGX_INVALID_FILE;
    }

    fd = open(path, flags|O_CLOEXEC|O_NOFOLLOW|O_NONBLOCK, 0600);

    if (fd == -1) {
        return NGX_INVALID_FILE;
    }

    if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode)) {
        (void) close(fd);
        ngx_set_errno(NGX_EINVAL);
        return NGX_INVALID_FILE;
    }

    return fd;
}
