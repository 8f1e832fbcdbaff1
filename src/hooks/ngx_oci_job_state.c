
/*
 * Copyright (C) The nginx-oci authors
 *
 * Jobs that a restart does not end: a file for each that is not over, in the
 * directory of state=, written and read by threads.  There is no credential in
 * it: a job that needs the one that came along has failed after a restart.
 */


#include "ngx_oci_hooks.h"
#include "ngx_oci_platform.h"

#include <dirent.h>


#define NGX_OCI_JOB_STATE_FILE   8192       /* bytes */
#define NGX_OCI_JOB_STATE_FILES  1024
#define NGX_OCI_JOB_STATE_OLD    (7 * 86400)    /* s, then what has no location
                                               any more goes */
#define NGX_OCI_JOB_STATE_LEFT   60         /* s, then nobody writes it */
#define NGX_OCI_JOB_STATE_NAME   (NGX_INT64_LEN + sizeof(".job"))
#define NGX_OCI_JOB_STATE_FORM   "%uL.job%Z"


/* Owner: its thread's task, whose completion frees it, and text */

typedef struct {
    ngx_thread_task_t       thread;
    ngx_oci_hook_conf_t    *conf;
    uint64_t                id;
    char                   *text;       /* malloc()ed; NULL: it goes */
    ngx_err_t               err;
} ngx_oci_job_state_op_t;


typedef struct {
    ngx_thread_task_t       thread;
    ngx_array_t            *hooks;      /* of ngx_oci_hook_conf_t * */
    ngx_oci_hook_conf_t    *conf;
    ngx_uint_t              n;
    json_t                 *files[NGX_OCI_JOB_STATE_FILES];
} ngx_oci_job_state_load_t;


static char *ngx_oci_job_state_text(ngx_oci_hook_conf_t *conf,
    ngx_oci_job_info_t *info);
static ngx_int_t ngx_oci_job_state_post(ngx_thread_task_t *thread);
static void ngx_oci_job_state_task(void *data, ngx_log_t *log);
static ngx_err_t ngx_oci_job_state_write(int dir, const char *name,
    const char *text);
static void ngx_oci_job_state_done(ngx_event_t *ev);
static ngx_uint_t ngx_oci_job_state_stale(ngx_oci_job_state_op_t *op);
static void ngx_oci_job_state_load(ngx_oci_hooks_main_conf_t *hmcf,
    ngx_oci_hook_conf_t *conf);
static void ngx_oci_job_state_load_task(void *data, ngx_log_t *log);
static ngx_uint_t ngx_oci_job_state_nobodys(ngx_oci_job_state_load_t *load,
    json_t *file);
static void ngx_oci_job_state_leftover(int dir, const char *name);
static json_t *ngx_oci_job_state_read(int dir, const char *name);
static ngx_uint_t ngx_oci_job_state_named(json_t *file, const char *name);
static void ngx_oci_job_state_loaded(ngx_event_t *ev);
static ngx_uint_t ngx_oci_job_state_restore(ngx_oci_hook_conf_t *conf,
    json_t *file);


static ngx_str_t  ngx_oci_job_state_pool = ngx_string("default");


char *
ngx_oci_job_state_conf(ngx_conf_t *cf, ngx_oci_hook_conf_t *conf,
    ngx_str_t *value)
{
    ngx_path_t  *path;

    if (conf->state) {
        return "has two directories of \"state\"";
    }

    path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));
    if (path == NULL) {
        return NGX_CONF_ERROR;
    }

    path->name = *value;

    if (path->name.len > 1
        && path->name.data[path->name.len - 1] == '/')
    {
        path->name.len--;
        path->name.data[path->name.len] = '\0';
    }

    if (ngx_conf_full_name(cf->cycle, &path->name, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    path->conf_file = cf->conf_file->file.name.data;
    path->line = cf->conf_file->line;

    /* (made with the owner that the workers are) */

    if (ngx_add_path(cf, &path) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    conf->state = path;

    return NGX_CONF_OK;
}


void
ngx_oci_job_state_sync(ngx_oci_hook_conf_t *conf, uint64_t id)
{
    ngx_int_t                rc;
    ngx_pool_t              *pool;
    ngx_oci_job_info_t       info;
    ngx_oci_job_state_op_t  *op;

    if (conf->state == NULL) {
        return;
    }

    op = ngx_calloc(sizeof(ngx_oci_job_state_op_t), ngx_cycle->log);
    pool = ngx_create_pool(2048, ngx_cycle->log);

    if (op == NULL || pool == NULL) {
        goto failed;
    }

    op->conf = conf;
    op->id = id;

    rc = ngx_oci_job_get(conf, id, pool, &info);

    if (rc == NGX_OK && info.state <= NGX_OCI_JOB_RUNNING) {
        op->text = ngx_oci_job_state_text(conf, &info);
        rc = op->text ? NGX_OK : NGX_ERROR;
    }

    if (rc == NGX_ERROR) {
        goto failed;
    }

    ngx_destroy_pool(pool);

    op->thread.ctx = op;
    op->thread.handler = ngx_oci_job_state_task;
    op->thread.event.data = op;
    op->thread.event.handler = ngx_oci_job_state_done;

    if (ngx_oci_job_state_post(&op->thread) == NGX_OK) {
        return;
    }

    pool = NULL;

failed:

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "preheat job %uL is not kept for a restart: no memory", id);

    if (pool) {
        ngx_destroy_pool(pool);
    }

    if (op) {
        free(op->text);
        ngx_free(op);
    }
}


static char *
ngx_oci_job_state_text(ngx_oci_hook_conf_t *conf, ngx_oci_job_info_t *info)
{
    char    *text;
    json_t  *json;

    json = json_pack("{s:i,s:I,s:I,s:I,s:I,s:b,s:b,s:s,s:s,s:s}",
                     "version", 1,
                     "place", (json_int_t) conf->place,
                     "id", (json_int_t) info->id,
                     "created", (json_int_t) info->created,
                     "pin", (json_int_t) info->pin,
                     "token", (int) info->token,
                     "alone", (int) info->alone,
                     "platforms", (char *) info->platforms.data,
                     "repository", (char *) info->repository.data,
                     "reference", (char *) info->reference.data);

    text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);

    return text;
}


static ngx_int_t
ngx_oci_job_state_post(ngx_thread_task_t *thread)
{
    ngx_thread_pool_t  *threads;

    thread->event.log = ngx_cycle->log;

    threads = ngx_thread_pool_get((ngx_cycle_t *) ngx_cycle,
                                  &ngx_oci_job_state_pool);

    return threads ? ngx_thread_task_post(threads, thread) : NGX_ERROR;
}


/* in a thread */

static void
ngx_oci_job_state_task(void *data, ngx_log_t *log)
{
    ngx_oci_job_state_op_t *op = data;

    int   dir;
    char  name[NGX_OCI_JOB_STATE_NAME];

    (void) ngx_sprintf((u_char *) name, NGX_OCI_JOB_STATE_FORM, op->id);

    dir = open((char *) op->conf->state->name.data,
               O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (dir == -1) {
        op->err = ngx_errno;
        return;
    }

    if (op->text) {
        op->err = ngx_oci_job_state_write(dir, name, op->text);

    } else if (unlinkat(dir, name, 0) == -1 && ngx_errno != ENOENT) {
        op->err = ngx_errno;
    }

    (void) close(dir);
}


/* by way of another name: what is there is whole */

static ngx_err_t
ngx_oci_job_state_write(int dir, const char *name, const char *text)
{
    int        fd;
    char       tmp[NGX_OCI_JOB_STATE_NAME + 2 * NGX_INT64_LEN];
    size_t     len;
    ssize_t    n;
    ngx_err_t  err;

    len = strlen(text);

    (void) ngx_sprintf((u_char *) tmp, "%s.%P.%xL%Z", name, ngx_pid,
                       (int64_t) (intptr_t) text & 0xffffff);

    fd = openat(dir, tmp, O_WRONLY|O_CREAT|O_TRUNC|O_NOFOLLOW|O_CLOEXEC,
                0600);
    if (fd == -1) {
        return ngx_errno;
    }

    err = 0;
    n = write(fd, text, len);

    if (n != (ssize_t) len) {
        err = (n == -1) ? ngx_errno : NGX_ENOSPC;
    }

    if (close(fd) == -1 && err == 0) {
        err = ngx_errno;
    }

    if (err == 0 && renameat(dir, tmp, dir, name) == -1) {
        err = ngx_errno;
    }

    if (err) {
        (void) unlinkat(dir, tmp, 0);
    }

    return err;
}


static void
ngx_oci_job_state_done(ngx_event_t *ev)
{
    ngx_oci_job_state_op_t *op = ev->data;

    if (op->err) {
        ngx_log_error(NGX_LOG_CRIT, ev->log, op->err,
                      "keeping preheat job %uL in \"%V\" failed", op->id,
                      &op->conf->state->name);
    }

    /* what was written last, or removed, may have come before */

    if (op->text && op->err == 0 && ngx_oci_job_state_stale(op)) {
        ngx_oci_job_state_sync(op->conf, op->id);
    }

    free(op->text);
    ngx_free(op);
}


static ngx_uint_t
ngx_oci_job_state_stale(ngx_oci_job_state_op_t *op)
{
    char                *text;
    ngx_int_t            rc;
    ngx_uint_t           stale;
    ngx_pool_t          *pool;
    ngx_oci_job_info_t   info;

    pool = ngx_create_pool(2048, ngx_cycle->log);
    if (pool == NULL) {
        return 0;
    }

    rc = ngx_oci_job_get(op->conf, op->id, pool, &info);
    stale = (rc == NGX_DECLINED);

    if (rc == NGX_OK) {
        text = (info.state <= NGX_OCI_JOB_RUNNING)
               ? ngx_oci_job_state_text(op->conf, &info) : NULL;

        stale = (text == NULL || strcmp(text, op->text) != 0);
        free(text);
    }

    ngx_destroy_pool(pool);

    return stale;
}


void
ngx_oci_job_state_init(ngx_oci_hooks_main_conf_t *hmcf)
{
    ngx_uint_t             i;
    ngx_oci_hook_conf_t  **conf;

    conf = hmcf->hooks.elts;

    for (i = 0; i < hmcf->hooks.nelts; i++) {
        if (conf[i]->state && !ngx_oci_job_restored(conf[i])) {
            ngx_oci_job_state_load(hmcf, conf[i]);
        }
    }
}


static void
ngx_oci_job_state_load(ngx_oci_hooks_main_conf_t *hmcf,
    ngx_oci_hook_conf_t *conf)
{
    ngx_oci_job_state_load_t  *load;

    load = ngx_calloc(sizeof(ngx_oci_job_state_load_t), ngx_cycle->log);
    if (load == NULL) {
        return;
    }

    load->hooks = &hmcf->hooks;
    load->conf = conf;

    load->thread.ctx = load;
    load->thread.handler = ngx_oci_job_state_load_task;
    load->thread.event.data = load;
    load->thread.event.handler = ngx_oci_job_state_loaded;

    if (ngx_oci_job_state_post(&load->thread) != NGX_OK) {
        ngx_free(load);
    }
}


/* in a thread */

static void
ngx_oci_job_state_load_task(void *data, ngx_log_t *log)
{
    ngx_oci_job_state_load_t *load = data;

    int             fd;
    DIR            *dir;
    size_t          len;
    json_t         *file;
    struct dirent  *de;

    fd = open((char *) load->conf->state->name.data,
              O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    dir = (fd == -1) ? NULL : fdopendir(fd);

    if (dir == NULL) {
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "opening the directory \"%V\" of preheat jobs failed",
                      &load->conf->state->name);

        if (fd != -1) {
            (void) close(fd);
        }

        return;
    }

    while (load->n < NGX_OCI_JOB_STATE_FILES
           && (de = readdir(dir)) != NULL)
    {
        len = strspn(de->d_name, "0123456789");

        if (len && strncmp(de->d_name + len, ".job.", 5) == 0) {
            ngx_oci_job_state_leftover(dirfd(dir), de->d_name);
            continue;
        }

        if (len == 0 || strcmp(de->d_name + len, ".job") != 0) {
            continue;
        }

        file = ngx_oci_job_state_read(dirfd(dir), de->d_name);

        if (file == NULL) {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "\"%V/%s\" is no preheat job, it is ignored",
                          &load->conf->state->name, de->d_name);
            continue;
        }

        if (json_integer_value(json_object_get(file, "place"))
            != load->conf->place)
        {
            /* another location's, or of one that is no more */

            if (ngx_oci_job_state_nobodys(load, file)) {
                (void) unlinkat(dirfd(dir), de->d_name, 0);
            }

            json_decref(file);
            continue;
        }

        load->files[load->n++] = file;
    }

    (void) closedir(dir);
}


/* it has had no location for long */

static ngx_uint_t
ngx_oci_job_state_nobodys(ngx_oci_job_state_load_t *load, json_t *file)
{
    json_int_t             place;
    ngx_uint_t             i;
    ngx_oci_hook_conf_t  **conf;

    place = json_integer_value(json_object_get(file, "place"));
    conf = load->hooks->elts;

    for (i = 0; i < load->hooks->nelts; i++) {
        if (conf[i]->place == place) {
            return 0;
        }
    }

    return json_integer_value(json_object_get(file, "created"))
           < ngx_time() - NGX_OCI_JOB_STATE_OLD;
}


/* of who was killed while he wrote it */

static void
ngx_oci_job_state_leftover(int dir, const char *name)
{
    struct stat  sb;

    if (fstatat(dir, name, &sb, AT_SYMLINK_NOFOLLOW) == 0
        && ngx_time() - sb.st_mtime > NGX_OCI_JOB_STATE_LEFT)
    {
        (void) unlinkat(dir, name, 0);
    }
}


static json_t *
ngx_oci_job_state_read(int dir, const char *name)
{
    int            fd;
    char           buf[NGX_OCI_JOB_STATE_FILE];
    json_t        *file;
    ssize_t        n;
    json_error_t   err;

    fd = openat(dir, name, O_RDONLY|O_NOFOLLOW|O_NONBLOCK|O_CLOEXEC);
    if (fd == -1) {
        return NULL;
    }

    n = read(fd, buf, sizeof(buf));
    (void) close(fd);

    if (n <= 0 || n == sizeof(buf)) {
        return NULL;
    }

    file = json_loadb(buf, n, JSON_REJECT_DUPLICATES, &err);

    /* that of another name would never be removed */

    if (!json_is_object(file)
        || json_integer_value(json_object_get(file, "version")) != 1
        || !ngx_oci_job_state_named(file, name))
    {
        json_decref(file);
        return NULL;
    }

    return file;
}


static ngx_uint_t
ngx_oci_job_state_named(json_t *file, const char *name)
{
    u_char    buf[NGX_OCI_JOB_STATE_NAME];
    uint64_t  id;

    id = json_integer_value(json_object_get(file, "id"));
    (void) ngx_sprintf(buf, NGX_OCI_JOB_STATE_FORM, id);

    return ngx_strcmp(buf, name) == 0;
}


static void
ngx_oci_job_state_loaded(ngx_event_t *ev)
{
    ngx_oci_job_state_load_t *load = ev->data;

    ngx_uint_t  i, n;

    n = 0;

    for (i = 0; i < load->n; i++) {
        n += ngx_oci_job_state_restore(load->conf, load->files[i]);
        json_decref(load->files[i]);
    }

    ngx_oci_job_set_restored(load->conf);

    if (n) {
        ngx_log_error(NGX_LOG_NOTICE, ev->log, 0,
                      "%ui preheat jobs of before the restart go on", n);
        ngx_oci_job_run_soon();
    }

    ngx_free(load);
}


/* does it go on? */

static ngx_uint_t
ngx_oci_job_state_restore(ngx_oci_hook_conf_t *conf, json_t *file)
{
    uint64_t             id;
    ngx_str_t            repository, reference;
    ngx_uint_t           made;
    const char          *p, *error;
    ngx_oci_digest_t     digest;
    ngx_oci_job_info_t   info;

    ngx_memzero(&info, sizeof(ngx_oci_job_info_t));

    p = json_string_value(json_object_get(file, "repository"));
    repository.data = (u_char *) (p ? p : "");
    repository.len = ngx_strlen(repository.data);

    p = json_string_value(json_object_get(file, "reference"));
    reference.data = (u_char *) (p ? p : "");
    reference.len = ngx_strlen(reference.data);

    p = json_string_value(json_object_get(file, "platforms"));
    info.platforms.data = (u_char *) (p ? p : "");
    info.platforms.len = ngx_strlen(info.platforms.data);

    id = json_integer_value(json_object_get(file, "id"));

    if (id == 0
        || (info.platforms.len
            && ngx_oci_platforms_valid((char *) info.platforms.data,
                                       info.platforms.len)
               != NGX_OK)
        || ngx_oci_name_valid(repository.data, repository.len) != NGX_OK
        || (ngx_oci_tag_valid(reference.data, reference.len) != NGX_OK
            && ngx_oci_digest_parse(&digest, reference.data, reference.len)
               != NGX_OK))
    {
        return 0;
    }

    info.id = id;
    info.alone = json_is_true(json_object_get(file, "alone"));
    info.repository = repository;
    info.reference = reference;
    info.created = json_integer_value(json_object_get(file, "created"));
    info.pin = json_integer_value(json_object_get(file, "pin"));

    error = NULL;

    if (json_is_true(json_object_get(file, "token"))
        && conf->registry->credentials == NGX_OCI_CREDENTIALS_CLIENT
        && conf->registry->fill == NULL)
    {
        error = NGX_OCI_JOB_NO_TOKEN;
    }

    made = ngx_oci_job_restore(conf, &info, error);

    if (error) {
        ngx_oci_job_state_sync(conf, id);
        return 0;
    }

    return made;
}
