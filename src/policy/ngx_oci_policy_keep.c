
/*
 * Copyright (C) The nginx-oci authors
 *
 * The state file: the document of a Redis, for a restart while that can't be
 * reached.  It is written aside and put in place whole; what is written into
 * it afterwards is the time at which it was known to be current.
 *
 *     nginx-oci policy 1           another form of the same fields: another one
 *     time 00000000001764500000    seconds since 1970
 *     epoch 00000000000000000042
 *     source <SHA-256>             of where it is from
 *     digest <SHA-256>             of what follows the empty line
 */


#include "ngx_oci_policy_redis.h"

#include <openssl/sha.h>
#include <dirent.h>
#include <inttypes.h>


#define NGX_OCI_KEEP_FORM    "nginx-oci policy 1\ntime "
#define NGX_OCI_KEEP_FORM_LEN  (sizeof(NGX_OCI_KEEP_FORM) - 1)
#define NGX_OCI_KEEP_NUMBER  20         /* digits */
#define NGX_OCI_KEEP_HEX     (2 * NGX_OCI_POLICY_DIGEST)
#define NGX_OCI_KEEP_HEADER  (NGX_OCI_KEEP_FORM_LEN + NGX_OCI_KEEP_NUMBER     \
                              + sizeof("\nepoch ") - 1 + NGX_OCI_KEEP_NUMBER  \
                              + sizeof("\nsource ") - 1 + NGX_OCI_KEEP_HEX    \
                              + sizeof("\ndigest ") - 1 + NGX_OCI_KEEP_HEX    \
                              + sizeof("\n\n") - 1)
#define NGX_OCI_KEEP_SOURCE  (NGX_OCI_KEEP_FORM_LEN + NGX_OCI_KEEP_NUMBER     \
                              + sizeof("\nepoch ") - 1 + NGX_OCI_KEEP_NUMBER  \
                              + sizeof("\nsource ") - 1)
#define NGX_OCI_KEEP_MAX     (80 * 1024 * 1024)
#define NGX_OCI_KEEP_HOLD    60000      /* ms; renewed while a task is out */
#define NGX_OCI_KEEP_AHEAD   60         /* s: clocks differ */


static void ngx_oci_keep_post(ngx_oci_keep_t *keep);
static void ngx_oci_keep_thread(void *data, ngx_log_t *log);
static void ngx_oci_keep_sweep(const char *file);
static ngx_int_t ngx_oci_keep_write(ngx_oci_keep_t *keep);
static ngx_int_t ngx_oci_keep_time(ngx_oci_keep_t *keep);
static ngx_int_t ngx_oci_keep_all(int fd, const char *p, size_t len);
static void ngx_oci_keep_header(ngx_oci_keep_t *keep, char *p);
static void ngx_oci_keep_done(ngx_event_t *ev);
static void ngx_oci_keep_hold(ngx_event_t *ev);
static char *ngx_oci_keep_text(ngx_oci_policy_conf_t *pcf,
    ngx_oci_policy_text_t *text, size_t *len, time_t *t);
static char *ngx_oci_keep_read_file(ngx_oci_policy_conf_t *pcf,
    size_t *size, const char **why, ngx_err_t *err);


void
ngx_oci_keep_init(ngx_oci_keep_t *keep, ngx_oci_policy_conf_t *pcf,
    ngx_log_t *log)
{
    keep->pcf = pcf;
    keep->log = log;

    keep->dummy.fd = (ngx_socket_t) -1;
    keep->dummy.data = keep;

    keep->hold.handler = ngx_oci_keep_hold;
    keep->hold.data = &keep->dummy;
    keep->hold.log = log;

    keep->task.ctx = keep;
    keep->task.handler = ngx_oci_keep_thread;
    keep->task.event.handler = ngx_oci_keep_done;
    keep->task.event.data = keep;
    keep->task.event.log = log;
}


void
ngx_oci_keep_free(ngx_oci_keep_t *keep)
{
    free(keep->text);
    free(keep->next);

    keep->text = NULL;
    keep->next = NULL;
}


void
ngx_oci_keep_put(ngx_oci_keep_t *keep, char *text, size_t len,
    u_char *digest, uint64_t epoch, time_t t)
{
    if (keep->pcf->redis->state_file.len == 0) {
        free(text);
        return;
    }

    free(keep->next);

    keep->next = text;
    keep->next_len = len;
    keep->next_epoch = epoch;
    keep->next_time = t;
    ngx_memcpy(keep->next_digest, digest, NGX_OCI_POLICY_DIGEST);

    ngx_oci_keep_post(keep);
}


void
ngx_oci_keep_touch(ngx_oci_keep_t *keep, u_char *digest, uint64_t epoch,
    time_t t)
{
    if (keep->pcf->redis->state_file.len == 0 || keep->busy || keep->next) {
        return;
    }

    keep->text = NULL;
    keep->epoch = epoch;
    keep->time = t;
    ngx_memcpy(keep->digest, digest, NGX_OCI_POLICY_DIGEST);

    ngx_oci_keep_post(keep);
}


static void
ngx_oci_keep_post(ngx_oci_keep_t *keep)
{
    if (keep->busy) {
        return;
    }

    if (keep->next) {
        keep->text = keep->next;
        keep->len = keep->next_len;
        keep->epoch = keep->next_epoch;
        keep->time = keep->next_time;
        ngx_memcpy(keep->digest, keep->next_digest, NGX_OCI_POLICY_DIGEST);

        keep->next = NULL;
    }

    if (ngx_thread_task_post(keep->pcf->threads, &keep->task) != NGX_OK) {
        free(keep->text);
        keep->text = NULL;
        keep->lost = 1;
        return;
    }

    keep->busy = 1;

    ngx_add_timer(&keep->hold, NGX_OCI_KEEP_HOLD);
}


static void
ngx_oci_keep_hold(ngx_event_t *ev)
{
    ngx_oci_keep_t    *keep;
    ngx_connection_t  *c;

    c = ev->data;
    keep = c->data;

    ngx_log_error(NGX_LOG_ERR, ev->log, 0,
                  "writing \"%V\" takes longer than a minute",
                  &keep->pcf->redis->state_file);

    ngx_add_timer(ev, NGX_OCI_KEEP_HOLD);
}


static void
ngx_oci_keep_thread(void *data, ngx_log_t *log)
{
    ngx_oci_keep_t *keep = data;

    if (!keep->swept) {
        keep->swept = 1;
        ngx_oci_keep_sweep((const char *) keep->pcf->redis->state_file.data);
    }

    keep->err = 0;
    keep->rc = keep->text ? ngx_oci_keep_write(keep)
                          : ngx_oci_keep_time(keep);
}


/*
 * What workers that were killed had written aside, "FILE.PID.tmp".  One of
 * another worker that runs stays.
 */

static void
ngx_oci_keep_sweep(const char *file)
{
    DIR            *d;
    char            dir[NGX_MAX_PATH], *end;
    long            pid;
    size_t          len;
    const char     *name, *p;
    struct dirent  *de;

    name = strrchr(file, '/');

    if (name == NULL
        || snprintf(dir, sizeof(dir), "%.*s", (int) (++name - file), file)
           >= (int) sizeof(dir))
    {
        return;
    }

    d = opendir(dir);

    if (d == NULL) {
        return;
    }

    len = strlen(name);

    while ((de = readdir(d)) != NULL) {

        p = de->d_name;

        if (strncmp(p, name, len) != 0 || p[len] != '.'
            || p[len + 1] < '1' || p[len + 1] > '9')
        {
            continue;
        }

        pid = strtol(p + len + 1, &end, 10);

        if (strcmp(end, ".tmp") == 0 && pid <= INT32_MAX
            && kill((pid_t) pid, 0) == -1 && errno == ESRCH)
        {
            (void) unlinkat(dirfd(d), p, 0);
        }
    }

    (void) closedir(d);
}


static void
ngx_oci_keep_header(ngx_oci_keep_t *keep, char *p)
{
    u_char  source[NGX_OCI_KEEP_HEX], digest[NGX_OCI_KEEP_HEX];

    (void) ngx_hex_dump(source, keep->pcf->redis->source,
                        NGX_OCI_POLICY_DIGEST);
    (void) ngx_hex_dump(digest, keep->digest, NGX_OCI_POLICY_DIGEST);

    (void) snprintf(p, NGX_OCI_KEEP_HEADER + 1,
                    NGX_OCI_KEEP_FORM "%020lld\nepoch %020llu\n"
                    "source %.64s\ndigest %.64s\n\n",
                    (long long) keep->time,
                    (unsigned long long) keep->epoch, source, digest);
}


static ngx_int_t
ngx_oci_keep_write(ngx_oci_keep_t *keep)
{
    int          fd;
    char         tmp[NGX_MAX_PATH], header[NGX_OCI_KEEP_HEADER + 1], *slash;
    const char  *file;

    file = (const char *) keep->pcf->redis->state_file.data;

    keep->what = "open()";

    if (snprintf(tmp, sizeof(tmp), "%s.%ld.tmp", file, (long) ngx_pid)
        >= (int) sizeof(tmp))
    {
        keep->err = ENAMETOOLONG;
        return NGX_ERROR;
    }

    (void) unlink(tmp);

    fd = open(tmp, O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600);

    if (fd == -1) {
        keep->err = errno;
        return NGX_ERROR;
    }

    ngx_oci_keep_header(keep, header);

    keep->what = "write()";

    if (ngx_oci_keep_all(fd, header, NGX_OCI_KEEP_HEADER) != NGX_OK
        || ngx_oci_keep_all(fd, keep->text, keep->len) != NGX_OK
        || fsync(fd) == -1)
    {
        keep->err = errno;
        (void) close(fd);
        (void) unlink(tmp);
        return NGX_ERROR;
    }

    keep->what = "close()";

    if (close(fd) == -1) {
        keep->err = errno;
        (void) unlink(tmp);
        return NGX_ERROR;
    }

    keep->what = "rename()";

    if (rename(tmp, file) == -1) {
        keep->err = errno;
        (void) unlink(tmp);
        return NGX_ERROR;
    }

    /* that it is in place is to last, too */

    slash = strrchr(tmp, '/');

    if (slash) {
        *slash = '\0';
        fd = open(tmp[0] ? tmp : "/", O_RDONLY|O_DIRECTORY|O_CLOEXEC);

        if (fd != -1) {
            (void) fsync(fd);
            (void) close(fd);
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_oci_keep_all(int fd, const char *p, size_t len)
{
    ssize_t  n;

    while (len) {
        n = write(fd, p, len);

        if (n == -1) {
            return NGX_ERROR;
        }

        p += n;
        len -= n;
    }

    return NGX_OK;
}


/* NGX_DECLINED: it is not the same document's */

static ngx_int_t
ngx_oci_keep_time(ngx_oci_keep_t *keep)
{
    int      fd;
    char     header[NGX_OCI_KEEP_HEADER + 1];
    char     there[NGX_OCI_KEEP_HEADER + 1];
    size_t   after;
    ssize_t  n;

    keep->what = "open()";

    fd = open((const char *) keep->pcf->redis->state_file.data,
              O_RDWR|O_NOFOLLOW|O_CLOEXEC|O_NONBLOCK);

    if (fd == -1) {
        keep->err = errno;
        return NGX_ERROR;
    }

    ngx_oci_keep_header(keep, header);

    keep->what = "pread()";
    after = NGX_OCI_KEEP_FORM_LEN + NGX_OCI_KEEP_NUMBER;

    n = pread(fd, there, NGX_OCI_KEEP_HEADER, 0);

    if (n == -1) {
        keep->err = errno;
        (void) close(fd);
        return NGX_ERROR;
    }

    if (n != (ssize_t) NGX_OCI_KEEP_HEADER
        || memcmp(there, header, NGX_OCI_KEEP_FORM_LEN) != 0
        || memcmp(there + after, header + after, NGX_OCI_KEEP_HEADER - after)
           != 0)
    {
        (void) close(fd);
        return NGX_DECLINED;
    }

    keep->what = "pwrite()";

    n = pwrite(fd, header + NGX_OCI_KEEP_FORM_LEN, NGX_OCI_KEEP_NUMBER,
               NGX_OCI_KEEP_FORM_LEN);

    if (n != NGX_OCI_KEEP_NUMBER) {
        keep->err = (n == -1) ? errno : ENOSPC;
        (void) close(fd);
        return NGX_ERROR;
    }

    (void) close(fd);

    return NGX_OK;
}


static void
ngx_oci_keep_done(ngx_event_t *ev)
{
    ngx_oci_keep_t *keep = ev->data;

    if (keep->hold.timer_set) {
        ngx_del_timer(&keep->hold);
    }

    keep->busy = 0;
    keep->lost = (keep->rc != NGX_OK);

    free(keep->text);
    keep->text = NULL;

    if (keep->rc == NGX_ERROR && !keep->failing) {
        keep->failing = 1;

        ngx_log_error(NGX_LOG_ERR, keep->log, keep->err,
                      "%s \"%V\" failed, a restart without \"%V\" would know "
                      "nothing, or something old, of oci_policy \"%V\"",
                      keep->what, &keep->pcf->redis->state_file,
                      &keep->pcf->redis->redis.source,
                      &keep->pcf->policy.name);
    }

    if (keep->rc == NGX_OK) {
        keep->failing = 0;
    }

    if (keep->next) {
        ngx_oci_keep_post(keep);
    }
}


/* of a zone that has none yet; before the workers are there */

void
ngx_oci_policy_keep_read(ngx_oci_policy_conf_t *pcf, ngx_log_t *log)
{
    char                   *p;
    time_t                  t, now;
    size_t                  len;
    ngx_str_t              *file;
    ngx_oci_policy_text_t   text;

    file = &pcf->redis->state_file;

    if (file->len == 0) {
        return;
    }

    ngx_memzero(&text, sizeof(ngx_oci_policy_text_t));

    p = ngx_oci_keep_text(pcf, &text, &len, &t);

    if (p) {
        now = time(NULL);

        if (t > now + NGX_OCI_KEEP_AHEAD) {
            (void) snprintf(text.error, sizeof(text.error),
                            "it is of a time to come");

        } else {
            t = ngx_max(now - t, 0);

            text.source = pcf->redis->source;
            text.current = (int64_t) ngx_current_msec - (int64_t) t * 1000;

            ngx_oci_policy_own(pcf);

            if (ngx_oci_policy_parse(p + NGX_OCI_KEEP_HEADER, len, &text)
                == NGX_OK
                && ngx_oci_policy_publish(pcf, &text) != NGX_OK)
            {
                (void) snprintf(text.error, sizeof(text.error),
                                "the zone is too small for it");
            }

            ngx_oci_policy_parsed(&text);
        }

        ngx_explicit_memzero(p, NGX_OCI_KEEP_HEADER + len);
        free(p);
    }

    if (text.error[0]) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "\"%V\" of oci_policy \"%V\" is not used: %s", file,
                      &pcf->policy.name, text.error);

    } else if (text.doc) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "\"%V\" of oci_policy \"%V\" is in force as it was "
                      "%T s ago: epoch %uL", file, &pcf->policy.name, t,
                      text.epoch);
    }

    free(text.doc);
}


/* NULL: there is none, or error says what is wrong */

static char *
ngx_oci_keep_text(ngx_oci_policy_conf_t *pcf, ngx_oci_policy_text_t *text,
    size_t *len, time_t *t)
{
    char            *p, *begin;
    size_t           size;
    ngx_err_t        err;
    const char      *why;
    ngx_oci_keep_t   keep;
    char             header[NGX_OCI_KEEP_HEADER + 1];
    u_char           buf[64];

    err = 0;
    why = NULL;

    p = ngx_oci_keep_read_file(pcf, &size, &why, &err);

    if (p == NULL) {

        if (err && err != ENOENT) {
            *ngx_strerror(err, buf, sizeof(buf) - 1) = '\0';
            (void) snprintf(text->error, sizeof(text->error),
                            "it can't be read (%d: %s)", (int) err, buf);

        } else if (why) {
            (void) snprintf(text->error, sizeof(text->error), "%s", why);
        }

        return NULL;
    }

    why = "it is no state file, or a damaged one";

    if (size < NGX_OCI_KEEP_HEADER
        || sscanf(p, NGX_OCI_KEEP_FORM "%20ld\nepoch %20" SCNu64 "\n", t,
                  &text->epoch)
           != 2
        || *t < 0 || text->epoch == 0)
    {
        goto refused;
    }

    begin = p + NGX_OCI_KEEP_HEADER;
    *len = size - NGX_OCI_KEEP_HEADER;

    (void) SHA256((u_char *) begin, *len, text->digest);

    ngx_memzero(&keep, sizeof(ngx_oci_keep_t));
    keep.pcf = pcf;
    keep.time = *t;
    keep.epoch = text->epoch;
    ngx_memcpy(keep.digest, text->digest, NGX_OCI_POLICY_DIGEST);

    ngx_oci_keep_header(&keep, header);

    if (memcmp(header, p, NGX_OCI_KEEP_HEADER) != 0) {

        /* is it all right but for the source? */

        memcpy(header + NGX_OCI_KEEP_SOURCE, p + NGX_OCI_KEEP_SOURCE,
               NGX_OCI_KEEP_HEX);

        if (memcmp(header, p, NGX_OCI_KEEP_HEADER) == 0) {
            why = "it is of another source";
        }

        goto refused;
    }

    return p;

refused:

    (void) snprintf(text->error, sizeof(text->error), "%s", why);

    ngx_explicit_memzero(p, size);
    free(p);

    return NULL;
}


/* the master's user, or the workers', has written it */

static char *
ngx_oci_keep_read_file(ngx_oci_policy_conf_t *pcf, size_t *size,
    const char **why, ngx_err_t *err)
{
    int               fd;
    char             *p;
    size_t            n;
    ssize_t           rc;
    struct stat       st;
    ngx_core_conf_t  *ccf;

    p = NULL;

    fd = open((char *) pcf->redis->state_file.data,
              O_RDONLY|O_NOFOLLOW|O_CLOEXEC|O_NONBLOCK);

    if (fd == -1) {
        *err = errno;
        return NULL;
    }

    if (fstat(fd, &st) == -1) {
        *err = errno;
        goto failed;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(pcf->redis->cycle->conf_ctx,
                                           ngx_core_module);

    if (!S_ISREG(st.st_mode) || (st.st_mode & (S_IRWXG|S_IRWXO))
        || (st.st_uid != geteuid() && st.st_uid != 0
            && st.st_uid != ccf->user))
    {
        *why = "others than the workers' user may have written it";
        goto failed;
    }

    if (st.st_size > NGX_OCI_KEEP_MAX) {
        *why = "it has more than 80m";
        goto failed;
    }

    *size = (size_t) st.st_size;
    p = malloc(*size + 1);

    if (p == NULL) {
        *err = ENOMEM;
        goto failed;
    }

    for (n = 0; n < *size; n += rc) {
        rc = read(fd, p + n, *size - n);

        if (rc <= 0) {
            *err = (rc == 0) ? EIO : errno;
            goto failed;
        }
    }

    p[*size] = '\0';

    (void) close(fd);

    return p;

failed:

    (void) close(fd);
    free(p);

    return NULL;
}
