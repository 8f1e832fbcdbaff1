
/*
 * Copyright (C) The nginx-oci authors
 *
 * A document in a file.  Writers exclude each other by a lock on the file
 * itself, which counts only as long as its name leads to it: a new one takes
 * its place by rename, whole and on the disk, with its owner and mode.
 */


#include "op.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>


#define OP_FILE_POLL  200       /* ms, while it is watched */


typedef struct {
    op_store_t    store;
    char         *path;         /* no symbolic link, if it is there */
    int           fd;           /* locked, -1: not there */
    int           timeout;      /* seconds, for the lock */
    struct stat   st;           /* of what was loaded */
} op_file_t;


static int op_file_load(op_store_t *s, int write);
static int op_file_lock(op_file_t *f, int write);
static int op_file_parse(op_file_t *f);
static int op_file_commit(op_store_t *s, json_t *changes, json_t *doc);
static int op_file_write(op_file_t *f, const char *tmp, const char *text);
static int op_file_place(op_file_t *f, const char *tmp);
static int op_file_same(op_file_t *f);
static void op_file_unlock(op_store_t *s);
static int op_file_wait(op_store_t *s);
static void op_file_close(op_store_t *s);


op_store_t *
op_file_open(op_opts_t *o, const char *path)
{
    char       *real;
    op_file_t  *f;

    f = op_memory(calloc(1, sizeof(op_file_t)));

    /* a link stays one: what it leads to is replaced */

    real = realpath(path, NULL);

    f->path = real ? real : op_memory(strdup(path));
    f->fd = -1;
    f->timeout = o->timeout;

    f->store.name = f->path;
    f->store.epoch = -1;
    f->store.doc = op_doc_new();
    f->store.odd = op_memory(json_object());
    f->store.load = op_file_load;
    f->store.commit = op_file_commit;
    f->store.unlock = op_file_unlock;
    f->store.wait = op_file_wait;
    f->store.close = op_file_close;

    return &f->store;
}


static int
op_file_load(op_store_t *s, int write)
{
    int         rc;
    op_file_t  *f = (op_file_t *) s;

    op_file_unlock(s);

    rc = op_file_lock(f, write);
    if (rc != OP_OK) {
        return rc;
    }

    if (f->fd == -1) {

        if (!s->whole) {
            op_error("\"%s\" is not there", f->path);
            return OP_FAILED;
        }

        json_decref(s->doc);
        s->doc = op_doc_new();
        s->found = 0;

        return OP_OK;
    }

    rc = op_file_parse(f);

    if (!write) {
        op_file_unlock(s);
    }

    return rc;
}


/* opens it, and for writing waits until it is the only one to do so */

static int
op_file_lock(op_file_t *f, int write)
{
    int     tries;

    for (tries = f->timeout * 50; tries > 0; tries--) {

        f->fd = open(f->path, O_RDONLY|O_CLOEXEC|O_NONBLOCK);

        if (f->fd == -1) {

            if (errno == ENOENT) {
                return OP_OK;
            }

            op_error("\"%s\" can't be read (%s)", f->path, strerror(errno));
            return OP_FAILED;
        }

        if (fstat(f->fd, &f->st) == -1 || !S_ISREG(f->st.st_mode)) {
            op_error("\"%s\" is no regular file", f->path);
            return OP_FAILED;
        }

        if (!write) {
            return OP_OK;
        }

        if (flock(f->fd, LOCK_EX|LOCK_NB) == 0 && op_file_same(f)) {
            return OP_OK;
        }

        (void) close(f->fd);
        f->fd = -1;

        (void) usleep(20000);
    }

    op_error("others have written \"%s\" for %d seconds", f->path,
             f->timeout);

    return OP_BUSY;
}


/* does the name lead to the file that is open, unchanged? */

static int
op_file_same(op_file_t *f)
{
    struct stat  st;

    return stat(f->path, &st) == 0
           && st.st_dev == f->st.st_dev
           && st.st_ino == f->st.st_ino
           && st.st_size == f->st.st_size
           && st.st_mtim.tv_sec == f->st.st_mtim.tv_sec
           && st.st_mtim.tv_nsec == f->st.st_mtim.tv_nsec;
}


static int
op_file_parse(op_file_t *f)
{
    int      rc;
    json_t  *doc;

    rc = op_doc_read(f->path, f->fd, &doc);

    if (rc == OP_REFUSED && f->store.whole == OP_WHOLE) {
        op_note("it is replaced");
        doc = op_doc_new();

    } else if (rc != OP_OK) {
        return OP_FAILED;
    }

    json_decref(f->store.doc);
    f->store.doc = doc;
    f->store.found = (rc == OP_OK);

    return OP_OK;
}


static int
op_file_commit(op_store_t *s, json_t *changes, json_t *doc)
{
    int         rc;
    char       *text, *tmp;
    op_file_t  *f = (op_file_t *) s;

    (void) changes;

    text = op_memory(json_dumps(doc, JSON_INDENT(2)));

    if (asprintf(&tmp, "%s.XXXXXX", f->path) == -1) {
        tmp = NULL;
    }

    (void) op_memory(tmp);

    rc = op_file_write(f, tmp, text);

    if (rc == OP_OK) {
        rc = op_file_place(f, tmp);

        if (rc != OP_OK) {
            (void) unlink(tmp);
        }
    }

    explicit_bzero(text, strlen(text));
    free(text);
    free(tmp);

    return rc;
}


static int
op_file_write(op_file_t *f, const char *tmp, const char *text)
{
    int          fd, err;
    size_t       len, done;
    ssize_t      n;
    struct stat  st;

    fd = mkstemp((char *) tmp);

    if (fd == -1) {
        op_error("a file beside \"%s\" can't be made (%s)", f->path,
                 strerror(errno));
        return OP_FAILED;
    }

    err = 0;

    if (f->fd != -1
        && (fstat(fd, &st) == -1
            || ((st.st_uid != f->st.st_uid || st.st_gid != f->st.st_gid)
                && fchown(fd, f->st.st_uid, f->st.st_gid) == -1)
            || fchmod(fd, f->st.st_mode & 0777) == -1))
    {
        err = errno;
        op_error("a new \"%s\" can't be given to the owner of the old one "
                 "(%s)", f->path, strerror(err));
        goto failed;
    }

    len = strlen(text);

    for (done = 0; done < len; done += (size_t) n) {

        n = write(fd, text + done, len - done);

        if (n == -1 && errno == EINTR) {
            n = 0;

        } else if (n == -1) {
            err = errno;
            break;
        }
    }

    if (err == 0 && (write(fd, "\n", 1) != 1 || fsync(fd) == -1)) {
        err = errno ? errno : ENOSPC;
    }

    if (err == 0 && close(fd) == 0) {
        return OP_OK;
    }

    op_error("\"%s\" can't be written (%s)", tmp,
             strerror(err ? err : errno));

failed:

    (void) close(fd);
    (void) unlink(tmp);

    return OP_FAILED;
}


static int
op_file_place(op_file_t *f, const char *tmp)
{
    int   fd;
    char *copy;

    if (f->fd == -1) {

        /* nobody else has made one meanwhile */

        if (link(tmp, f->path) == -1) {

            if (errno == EEXIST) {
                return OP_AGAIN;
            }

            op_error("\"%s\" can't be made (%s)", f->path, strerror(errno));
            return OP_FAILED;
        }

        (void) unlink(tmp);

    } else {

        /* an editor does not know of the lock */

        if (!op_file_same(f)) {
            return OP_AGAIN;
        }

        if (rename(tmp, f->path) == -1) {
            op_error("\"%s\" can't be replaced (%s)", f->path,
                     strerror(errno));
            return OP_FAILED;
        }
    }

    copy = op_memory(strdup(f->path));
    fd = open(dirname(copy), O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    free(copy);

    if (fd == -1 || fsync(fd) == -1) {
        op_note("\"%s\" is written, but may not outlive a power cut (%s)",
                f->path, strerror(errno));
    }

    if (fd != -1) {
        (void) close(fd);
    }

    return OP_OK;
}


static void
op_file_unlock(op_store_t *s)
{
    op_file_t  *f = (op_file_t *) s;

    if (f->fd != -1) {
        (void) close(f->fd);
        f->fd = -1;
    }
}


/* a document with an error is not loaded: nginx does not load it either */

static int
op_file_wait(op_store_t *s)
{
    int          i;
    struct stat  st;
    op_file_t   *f = (op_file_t *) s;

    for (i = 0; i < 50; i++) {

        (void) usleep(OP_FILE_POLL * 1000);

        /* what is not there for a moment has not changed yet */

        if (stat(f->path, &st) == -1 || op_file_same(f)) {
            continue;
        }

        f->st = st;

        if (op_file_load(s, 0) == OP_OK) {
            return OP_OK;
        }
    }

    return OP_AGAIN;
}


static void
op_file_close(op_store_t *s)
{
    op_file_t  *f = (op_file_t *) s;

    op_file_unlock(s);

    json_decref(s->doc);
    json_decref(s->odd);
    free(f->path);
    free(f);
}
