
/*
 * Copyright (C) The nginx-oci authors
 *
 * A round of whoever sends a queue's events, in a thread: files that are done
 * are removed, the oldest ones make room where there are too many, and the
 * next events are read.
 */


#include "ngx_oci_notify.h"


#define NGX_OCI_NOTIFY_BUFFER  (NGX_OCI_NOTIFY_FILE + NGX_OCI_NOTE_RECORD)
#define NGX_OCI_NOTIFY_QUIET   5        /* s: nobody writes the rest of a
                                           record that late */
#define NGX_OCI_NOTIFY_COUNTS  16       /* tries, while others append */
#define NGX_OCI_NOTIFY_CURSOR  "%016llx %08x"
#define NGX_OCI_NOTIFY_SAVED   35       /* bytes of the file "cursor" */


/* of one round */

typedef struct {
    ngx_oci_notify_round_t  *round;
    uint64_t                *files;
    ngx_uint_t               n;
    ngx_uint_t               i;         /* the first that is there */
    u_char                  *buf;
    size_t                   len;       /* bytes in it */
    off_t                    size;      /* of the file that they are from */
    ngx_uint_t               quiet;     /* it was not written for a while */
} ngx_oci_notify_work_t;


static ngx_int_t ngx_oci_notify_work(ngx_oci_notify_work_t *w);
static void ngx_oci_notify_cursor(ngx_oci_notify_round_t *round);
static ngx_int_t ngx_oci_notify_unlink(ngx_oci_notify_work_t *w,
    uint64_t file);
static ngx_int_t ngx_oci_notify_remove(ngx_oci_notify_work_t *w);
static ngx_int_t ngx_oci_notify_room(ngx_oci_notify_work_t *w);
static ngx_int_t ngx_oci_notify_all(ngx_oci_notify_work_t *w);
static ngx_int_t ngx_oci_notify_end(ngx_oci_notify_work_t *w, size_t *end);
static size_t ngx_oci_notify_size(ngx_oci_notify_work_t *w, uint64_t file);
static uint64_t ngx_oci_notify_count(ngx_oci_notify_work_t *w,
    uint64_t file, size_t pos, size_t end);
static ngx_int_t ngx_oci_notify_load(ngx_oci_notify_work_t *w,
    uint64_t file, size_t pos);
static ngx_int_t ngx_oci_notify_read(ngx_oci_notify_work_t *w);
static ngx_int_t ngx_oci_notify_take(ngx_oci_notify_round_t *round,
    u_char *p, size_t size);
static ngx_int_t ngx_oci_notify_next(ngx_oci_notify_work_t *w);


void
ngx_oci_notify_round(void *data, ngx_log_t *log)
{
    ngx_oci_notify_round_t *round = data;

    ngx_oci_notify_work_t  w;

    round->n = 0;
    round->more = 0;
    round->bytes = 0;
    round->counted = 0;
    round->dropped = 0;
    round->since = ngx_oci_notify_get(*round->appended);
    round->failed = NULL;

    ngx_memzero(&w, sizeof(ngx_oci_notify_work_t));

    w.round = round;
    w.buf = malloc(NGX_OCI_NOTIFY_BUFFER);

    if (w.buf == NULL) {
        round->failed = "malloc()";
        round->err = NGX_ENOMEM;
        return;
    }

    if (ngx_oci_notify_work(&w) != NGX_OK) {
        round->err = ngx_errno;
    }

    free(w.files);
    free(w.buf);
}


static ngx_int_t
ngx_oci_notify_work(ngx_oci_notify_work_t *w)
{
    ngx_uint_t               i;
    ngx_oci_notify_round_t  *round;

    round = w->round;

    if (ngx_oci_notify_files(round->dir, &w->files, &w->n) != NGX_OK) {
        round->failed = "reading the directory";
        return NGX_ERROR;
    }

    if (round->begin) {
        ngx_oci_notify_cursor(round);

    } else if (ngx_oci_notify_save(round) != NGX_OK
               || ngx_oci_notify_remove(w) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (w->i == w->n) {
        round->next.file = 0;
        round->next.pos = 0;
        return NGX_OK;
    }

    /* of others there is nothing: the directory was emptied, for instance */

    for (i = w->i; i < w->n && w->files[i] != round->next.file; i++) {
        /* void */
    }

    if (i == w->n) {
        round->next.file = w->files[w->i];
        round->next.pos = 0;
    }

    if (ngx_oci_notify_room(w) != NGX_OK) {
        return NGX_ERROR;
    }

    if (round->begin && ngx_oci_notify_all(w) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_oci_notify_read(w);
}


/* where a former sender was; what it says is not trusted */

static void
ngx_oci_notify_cursor(ngx_oci_notify_round_t *round)
{
    char                 buf[NGX_OCI_NOTIFY_SAVED + 1];
    ssize_t              n;
    ngx_fd_t             fd;
    unsigned int         pos, crc;
    unsigned long long   file;

    round->next.file = 0;
    round->next.pos = 0;

    fd = ngx_oci_notify_open(round->dir, "cursor", O_RDONLY);
    if (fd == NGX_INVALID_FILE) {
        return;
    }

    n = pread(fd, buf, NGX_OCI_NOTIFY_SAVED, 0);

    (void) ngx_close_file(fd);

    if (n != NGX_OCI_NOTIFY_SAVED) {
        return;
    }

    buf[n] = '\0';

    if (sscanf(buf, "%16llx %8x %8x", &file, &pos, &crc) != 3
        || crc != ngx_oci_crc32c(0, (u_char *) buf, 25)
        || pos > NGX_OCI_NOTIFY_BUFFER)
    {
        return;
    }

    round->next.file = file;
    round->next.pos = pos;
}


ngx_int_t
ngx_oci_notify_save(ngx_oci_notify_round_t *round)
{
    char      buf[NGX_OCI_NOTIFY_SAVED + 1];
    ssize_t   n;
    ngx_fd_t  fd;

    if (round->done.file == 0) {
        return NGX_OK;
    }

    fd = ngx_oci_notify_open(round->dir, "cursor", O_WRONLY|O_CREAT);

    if (fd == NGX_INVALID_FILE) {
        round->failed = "opening \"cursor\"";
        return NGX_ERROR;
    }

    (void) snprintf(buf, sizeof(buf), NGX_OCI_NOTIFY_CURSOR,
                    (unsigned long long) round->done.file,
                    (unsigned int) round->done.pos);
    (void) snprintf(buf + 25, sizeof(buf) - 25, " %08x\n",
                    ngx_oci_crc32c(0, (u_char *) buf, 25));

    /* its bytes have their places already, but once */

    n = pwrite(fd, buf, NGX_OCI_NOTIFY_SAVED, 0);

    (void) ngx_close_file(fd);

    if (n != NGX_OCI_NOTIFY_SAVED) {
        round->failed = "writing \"cursor\"";
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_notify_unlink(ngx_oci_notify_work_t *w, uint64_t file)
{
    int   n;
    char  path[NGX_MAX_PATH], name[NGX_OCI_NOTIFY_NAME];

    ngx_oci_notify_file_name(name, file);

    n = snprintf(path, sizeof(path), "%s/%s", w->round->dir, name);

    if (n >= (int) sizeof(path) || (unlink(path) == -1
                                    && ngx_errno != NGX_ENOENT))
    {
        w->round->failed = "removing a file";
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* all of them is done; the last one is there for whoever appends */

static ngx_int_t
ngx_oci_notify_remove(ngx_oci_notify_work_t *w)
{
    while (w->i + 1 < w->n && w->files[w->i] < w->round->done.file) {

        if (ngx_oci_notify_unlink(w, w->files[w->i]) != NGX_OK) {
            return NGX_ERROR;
        }

        w->i++;
    }

    return NGX_OK;
}


/* the oldest go, unread or not */

static ngx_int_t
ngx_oci_notify_room(ngx_oci_notify_work_t *w)
{
    uint64_t                 file;
    ngx_uint_t               i;
    ngx_oci_notify_round_t  *round;

    round = w->round;

    for (i = w->i; i < w->n; i++) {
        round->bytes += ngx_oci_notify_size(w, w->files[i]);
    }

    while (round->bytes > round->size && w->i + 1 < w->n) {

        file = w->files[w->i];

        if (ngx_oci_notify_load(w, file, 0) == NGX_ERROR) {
            return NGX_ERROR;
        }

        round->bytes -= ngx_min(round->bytes, (uint64_t) w->size);

        if (file >= round->next.file) {
            round->dropped += ngx_oci_notify_count(w, file,
                              (file == round->next.file) ? round->next.pos : 0,
                              NGX_OCI_NOTIFY_BUFFER);
        }

        if (ngx_oci_notify_unlink(w, file) != NGX_OK) {
            return NGX_ERROR;
        }

        w->i++;

        if (file >= round->next.file) {
            round->next.file = w->files[w->i];
            round->next.pos = 0;
        }
    }

    return NGX_OK;
}


/* all that waits, but for what is appended meanwhile */

static ngx_int_t
ngx_oci_notify_all(ngx_oci_notify_work_t *w)
{
    size_t                   end;
    ngx_uint_t               i;
    ngx_oci_notify_round_t  *round;

    round = w->round;

    if (ngx_oci_notify_end(w, &end) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i < w->n; i++) {

        if (w->files[i] < round->next.file) {
            continue;
        }

        round->counted += ngx_oci_notify_count(w, w->files[i],
                          (w->files[i] == round->next.file) ? round->next.pos
                                                            : 0,
                          (i + 1 == w->n) ? end : NGX_OCI_NOTIFY_BUFFER);

        if (round->failed) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * The files, and the end of the last of them, when so many were appended.
 * Nothing is read here, so that nobody appends meanwhile, but now and then.
 */

static ngx_int_t
ngx_oci_notify_end(ngx_oci_notify_work_t *w, size_t *end)
{
    ngx_uint_t               tries;
    ngx_oci_notify_round_t  *round;

    round = w->round;

    for (tries = 0; tries < NGX_OCI_NOTIFY_COUNTS; tries++) {

        round->since = ngx_oci_notify_get(*round->appended);

        free(w->files);
        w->files = NULL;
        w->i = 0;

        if (ngx_oci_notify_files(round->dir, &w->files, &w->n) != NGX_OK) {
            w->n = 0;
            round->failed = "reading the directory";
            return NGX_ERROR;
        }

        *end = w->n ? ngx_oci_notify_size(w, w->files[w->n - 1]) : 0;

        if (round->since == ngx_oci_notify_get(*round->appended)) {
            break;
        }
    }

    return NGX_OK;
}


/* bytes; 0: it is gone */

static size_t
ngx_oci_notify_size(ngx_oci_notify_work_t *w, uint64_t file)
{
    char         path[NGX_MAX_PATH], name[NGX_OCI_NOTIFY_NAME];
    struct stat  st;

    ngx_oci_notify_file_name(name, file);

    (void) snprintf(path, sizeof(path), "%s/%s", w->round->dir, name);

    return (stat(path, &st) == 0) ? st.st_size : 0;
}


/* records from there on, up to an end */

static uint64_t
ngx_oci_notify_count(ngx_oci_notify_work_t *w, uint64_t file, size_t pos,
    size_t end)
{
    size_t            i, skip, size;
    uint64_t          n;
    ngx_oci_record_t  record;

    if (ngx_oci_notify_load(w, file, pos) != NGX_OK) {
        return 0;
    }

    n = 0;
    w->len = ngx_min(w->len, (end > pos) ? end - pos : 0);

    for (i = 0; /* void */ ; i += skip + size) {

        if (ngx_oci_record_read(w->buf + i, w->len - i, &skip, &record, &size)
            != NGX_OK
            || pos + i + skip >= NGX_OCI_NOTIFY_FILE)
        {
            return n;
        }

        n++;
    }
}


/* a file's bytes from there on.  NGX_DECLINED: it is gone */

static ngx_int_t
ngx_oci_notify_load(ngx_oci_notify_work_t *w, uint64_t file, size_t pos)
{
    char         name[NGX_OCI_NOTIFY_NAME];
    ssize_t      n;
    ngx_fd_t     fd;
    struct stat  st;

    w->len = 0;
    w->size = 0;

    ngx_oci_notify_file_name(name, file);

    fd = ngx_oci_notify_open(w->round->dir, name, O_RDONLY);

    if (fd == NGX_INVALID_FILE) {

        if (ngx_errno == NGX_ENOENT) {

            /* nobody adds to it */

            w->size = NGX_OCI_NOTIFY_FILE;
            w->quiet = 1;
            return NGX_DECLINED;
        }

        w->round->failed = "opening a file";
        return NGX_ERROR;
    }

    /* the size first: what is read may be more */

    if (fstat(fd, &st) == -1) {
        st.st_size = 0;
        st.st_mtime = 0;
    }

    n = pread(fd, w->buf, NGX_OCI_NOTIFY_BUFFER, pos);

    (void) ngx_close_file(fd);

    if (n == -1) {
        w->round->failed = "reading a file";
        return NGX_ERROR;
    }

    w->len = n;
    w->size = st.st_size;
    w->quiet = (time(NULL) > st.st_mtime + NGX_OCI_NOTIFY_QUIET);

    return NGX_OK;
}


static ngx_int_t
ngx_oci_notify_read(ngx_oci_notify_work_t *w)
{
    size_t                   i, skip, size;
    ngx_int_t                rc;
    ngx_oci_record_t         record;
    ngx_oci_notify_round_t  *round;

    round = w->round;

    for ( ;; ) {

        rc = ngx_oci_notify_load(w, round->next.file, round->next.pos);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        for (i = 0; /* void */ ; i += skip + size) {

            if (ngx_oci_record_read(w->buf + i, w->len - i, &skip, &record,
                                    &size)
                != NGX_OK)
            {
                round->next.pos += skip;
                size = w->len - i - skip;
                break;
            }

            if (round->next.pos + skip >= NGX_OCI_NOTIFY_FILE) {
                size = 0;
                break;
            }

            if (round->n == round->room) {
                round->more = 1;
                return NGX_OK;
            }

            round->next.pos += skip;

            if (ngx_oci_notify_take(round, w->buf + i + skip, size)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

            round->next.pos += size;
        }

        /* size: of what may become a record, by somebody who is writing it */

        if (size && !w->quiet && round->next.pos < NGX_OCI_NOTIFY_FILE) {
            return NGX_OK;
        }

        rc = ngx_oci_notify_next(w);

        if (rc != NGX_OK) {
            return (rc == NGX_DONE) ? NGX_OK : rc;
        }
    }
}


/* a copy: the sender has it for as long as it takes */

static ngx_int_t
ngx_oci_notify_take(ngx_oci_notify_round_t *round, u_char *p, size_t size)
{
    size_t                   skip, n;
    ngx_oci_notify_event_t  *e;

    e = &round->events[round->n];

    ngx_memzero(e, sizeof(ngx_oci_notify_event_t));

    e->text = malloc(size);

    if (e->text == NULL) {
        round->failed = "malloc()";
        ngx_set_errno(NGX_ENOMEM);
        return NGX_ERROR;
    }

    ngx_memcpy(e->text, p, size);

    (void) ngx_oci_record_read(e->text, size, &skip, &e->record, &n);

    e->place = round->next;
    round->n++;

    return NGX_OK;
}


/* after the end of a file.  NGX_DONE: it is the end of all */

static ngx_int_t
ngx_oci_notify_next(ngx_oci_notify_work_t *w)
{
    char                     name[NGX_OCI_NOTIFY_NAME];
    ngx_fd_t                 fd;
    ngx_uint_t               i, full;
    ngx_oci_notify_round_t  *round;

    round = w->round;

    for (i = w->i; i < w->n && w->files[i] <= round->next.file; i++) {
        /* void */
    }

    /*
     * Not to be missed is who opened a file when it was the last one, and
     * writes now.
     */

    full = (w->size >= NGX_OCI_NOTIFY_FILE);

    if (!full && (i == w->n || !w->quiet)) {
        return NGX_DONE;
    }

    if (i < w->n) {
        round->next.file = w->files[i];
        round->next.pos = 0;
        return NGX_OK;
    }

    /* numbers go on from what is there */

    ngx_oci_notify_file_name(name, round->next.file + 1);

    fd = ngx_oci_notify_open(round->dir, name, O_WRONLY|O_CREAT);

    if (fd == NGX_INVALID_FILE) {
        round->failed = "opening a file";
        return NGX_ERROR;
    }

    (void) ngx_close_file(fd);

    round->next.file++;
    round->next.pos = 0;

    return NGX_DONE;
}
