
/*
 * Copyright (C) The nginx-oci authors
 *
 * The chains of all workers are tied together: knots are written one at a
 * time, under the mutex of the log's zone, which is held for one signature
 * and one write() to a local file, as every worker makes them for itself.
 */


#include "ngx_oci_audit.h"


#define NGX_OCI_AUDIT_BACK   (64 * 1024 * 1024) /* bytes of a file's end in
                                                   which the last knot is
                                                   looked for */
#define NGX_OCI_AUDIT_BLOCK  65536


static const char  *ngx_oci_audit_knots[] = {
    NULL, NULL, "start", "open", "checkpoint", "gap", "rotate", "close"
};


static ngx_int_t ngx_oci_audit_tie(ngx_oci_audit_log_t *log,
    ngx_uint_t event, ngx_oci_audit_slot_t *dead);
static void ngx_oci_audit_file(ngx_oci_audit_log_t *log,
    ngx_oci_audit_knot_t *knot);
static void ngx_oci_audit_dead(ngx_oci_audit_out_t *out,
    ngx_oci_audit_slot_t *dead);
static void ngx_oci_audit_slot(ngx_oci_audit_log_t *log);
static ngx_uint_t ngx_oci_audit_is_dead(ngx_oci_audit_log_t *log,
    ngx_oci_audit_slot_t *slot);
static void ngx_oci_audit_before(ngx_oci_audit_log_t *log,
    ngx_oci_audit_sh_t *sh, ngx_log_t *l);
static ngx_uint_t ngx_oci_audit_before_block(ngx_oci_audit_sh_t *sh,
    u_char *p, size_t len);


ngx_int_t
ngx_oci_audit_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_oci_audit_log_t  *log;

    log = zone->data;
    log->shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (data || zone->shm.exists) {
        log->sh = log->shpool->data;
        return NGX_OK;
    }

    log->sh = ngx_slab_calloc(log->shpool, sizeof(ngx_oci_audit_sh_t));
    if (log->sh == NULL) {
        return NGX_ERROR;
    }

    log->shpool->data = log->sh;

    if (ngx_oci_audit_random_id(log->sh->spine) != NGX_OK
        || ngx_oci_audit_random_id(log->sh->file) != NGX_OK)
    {
        return NGX_ERROR;
    }

    log->sh->headless = 1;
    ngx_memset(log->sh->last[0].file, '0', NGX_OCI_AUDIT_ID);

    if (log->file) {
        ngx_oci_audit_before(log, log->sh, zone->shm.log);
    }

    return NGX_OK;
}


/*
 * A chain begins, or goes on in another file.  Whoever writes the first line
 * of a file gives it its id.
 */

ngx_int_t
ngx_oci_audit_knot_begin(ngx_oci_audit_log_t *log)
{
    ngx_int_t  rc;

    ngx_shmtx_lock(&log->shpool->mutex);

    if (!log->started && log->slot == NULL) {
        ngx_oci_audit_slot(log);
    }

    rc = ngx_oci_audit_tie(log, log->started ? NGX_OCI_AUDIT_OPEN
                                             : NGX_OCI_AUDIT_START, NULL);

    ngx_shmtx_unlock(&log->shpool->mutex);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    log->started = 1;
    log->opened = 1;

    ngx_oci_audit_knot_dead(log);

    return NGX_OK;
}


ngx_int_t
ngx_oci_audit_knot_tie(ngx_oci_audit_log_t *log, ngx_uint_t event)
{
    ngx_int_t  rc;

    if (log->timer.timer_set) {
        ngx_del_timer(&log->timer);
    }

    ngx_shmtx_lock(&log->shpool->mutex);
    rc = ngx_oci_audit_tie(log, event, NULL);
    ngx_shmtx_unlock(&log->shpool->mutex);

    return rc;
}


/* the caller holds the mutex */

static ngx_int_t
ngx_oci_audit_tie(ngx_oci_audit_log_t *log, ngx_uint_t event,
    ngx_oci_audit_slot_t *dead)
{
    u_char                buf[1 + NGX_OCI_AUDIT_GAP];
    u_char                from[NGX_OCI_AUDIT_ID];
    ngx_oci_audit_sh_t   *sh;
    ngx_oci_audit_out_t   out;
    ngx_oci_audit_knot_t  knot;
    ngx_oci_audit_last_t  *last;

    sh = log->sh;

    ngx_memzero(&knot, sizeof(ngx_oci_audit_knot_t));
    ngx_memcpy(from, log->file_id, NGX_OCI_AUDIT_ID);

    if (event == NGX_OCI_AUDIT_START || event == NGX_OCI_AUDIT_OPEN) {
        ngx_oci_audit_file(log, &knot);
    }

    ngx_memcpy(knot.file, log->file_id, NGX_OCI_AUDIT_ID);
    ngx_memcpy(knot.spine, sh->spine, NGX_OCI_AUDIT_ID);

    last = &sh->last[sh->now];
    knot.link = last->link + 1;
    ngx_memcpy(knot.prev, last->hash, NGX_OCI_AUDIT_HASH);
    ngx_memcpy(knot.prev_file, last->file, NGX_OCI_AUDIT_ID);
    knot.restart = sh->restart;

    out.pos = buf + 1;
    out.last = buf + sizeof(buf) - 1;

    ngx_oci_audit_head(log, &out, ngx_oci_audit_knots[event]);
    ngx_oci_audit_knot(&out, &knot);

    if (event == NGX_OCI_AUDIT_OPEN) {
        ngx_oci_audit_id(&out, "of_file", from);
    }

    if (event == NGX_OCI_AUDIT_START) {
        ngx_oci_audit_text(&out, "version", NGX_OCI_VERSION);
        ngx_oci_audit_number(&out, "pid", ngx_pid);
    }

    if (dead) {
        ngx_oci_audit_dead(&out, dead);
    }

    if (ngx_oci_audit_end(&out, buf + 1, log->key, log->key_id) != NGX_OK
        || ngx_oci_audit_emit(log, buf + 1, out.pos - buf - 1) != NGX_OK)
    {
        if (knot.header) {
            sh->headless = 1;
        }

        if (event == NGX_OCI_AUDIT_OPEN) {
            ngx_memcpy(log->file_id, from, NGX_OCI_AUDIT_ID);
        }

        return NGX_ERROR;
    }

    last = &sh->last[1 - sh->now];
    last->link = knot.link;
    ngx_memcpy(last->hash, log->chain.hash, NGX_OCI_AUDIT_HASH);
    ngx_memcpy(last->file, log->file_id, NGX_OCI_AUDIT_ID);
    ngx_memory_barrier();
    sh->now = 1 - sh->now;
    sh->restart = 0;

    log->since = 0;

    return NGX_OK;
}


/* which file is written to: the one that is known, or a new one */

static void
ngx_oci_audit_file(ngx_oci_audit_log_t *log, ngx_oci_audit_knot_t *knot)
{
    struct stat          st;
    ngx_oci_audit_sh_t  *sh;

    sh = log->sh;

    if (log->file && fstat(log->file->fd, &st) == 0
        && (st.st_size == 0 || st.st_dev != sh->dev || st.st_ino != sh->ino))
    {
        sh->dev = st.st_dev;
        sh->ino = st.st_ino;
        (void) ngx_oci_audit_random_id(sh->file);
        sh->headless = 1;
    }

    /* who dies after the write must not leave it to be written twice */

    knot->header = sh->headless;
    sh->headless = 0;

    ngx_memcpy(log->file_id, sh->file, NGX_OCI_AUDIT_ID);
}


static void
ngx_oci_audit_dead(ngx_oci_audit_out_t *out, ngx_oci_audit_slot_t *dead)
{
    ngx_oci_audit_at_t  *at;

    at = &dead->at[dead->now];

    ngx_oci_audit_id(out, "of", at->chain.id);
    ngx_oci_audit_id(out, "of_file", at->file);
    ngx_oci_audit_number(out, "last_seq", at->chain.seq);
    ngx_oci_audit_hex(out, "last_hash", at->chain.hash);

    if (dead->next_len) {
        ngx_oci_audit_hex(out, "next_hash", dead->next_hash);

        if (dead->next_len <= sizeof(dead->next)) {
            ngx_oci_audit_base64(out, "next_line", dead->next,
                                 dead->next_len);
        }
    }
}


ngx_uint_t
ngx_oci_audit_knot_any_dead(ngx_oci_audit_log_t *log)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_OCI_AUDIT_SLOTS; i++) {
        if (ngx_oci_audit_is_dead(log, &log->sh->slots[i])) {
            return 1;
        }
    }

    return 0;
}


void
ngx_oci_audit_knot_dead(ngx_oci_audit_log_t *log)
{
    ngx_int_t              rc;
    ngx_uint_t             i;
    ngx_oci_audit_slot_t  *slot;

    for (i = 0; i < NGX_OCI_AUDIT_SLOTS; i++) {
        slot = &log->sh->slots[i];

        if (!ngx_oci_audit_is_dead(log, slot)) {
            continue;
        }

        ngx_shmtx_lock(&log->shpool->mutex);

        rc = NGX_OK;

        if (ngx_oci_audit_is_dead(log, slot)) {

            /* it may have died in a line */

            if (slot->next_len) {
                log->unended = 1;
            }

            /* who never wrote anything, nor began to, leaves no gap */

            if (slot->at[slot->now].chain.seq || slot->next_len) {
                rc = ngx_oci_audit_tie(log, NGX_OCI_AUDIT_DIED, slot);
            }

            if (rc == NGX_OK) {
                slot->pid = 0;
            }
        }

        ngx_shmtx_unlock(&log->shpool->mutex);

        if (rc != NGX_OK) {
            return;
        }
    }
}


static ngx_uint_t
ngx_oci_audit_is_dead(ngx_oci_audit_log_t *log, ngx_oci_audit_slot_t *slot)
{
    ngx_pid_t  pid;

    pid = slot->pid;

    if (pid == 0 || slot == log->slot) {
        return 0;
    }

    /* a pid may come again */

    return pid == ngx_pid || (kill(pid, 0) == -1 && ngx_errno == NGX_ESRCH);
}


/* the caller holds the mutex */

static void
ngx_oci_audit_slot(ngx_oci_audit_log_t *log)
{
    ngx_uint_t             i;
    ngx_oci_audit_slot_t  *slot;

    for (i = 0; i < NGX_OCI_AUDIT_SLOTS; i++) {
        slot = &log->sh->slots[i];

        if (slot->pid) {
            continue;
        }

        slot->now = 0;
        slot->at[0].chain = log->chain;
        ngx_memset(slot->at[0].file, '0', NGX_OCI_AUDIT_ID);
        slot->next_len = 0;
        slot->pid = ngx_pid;

        log->slot = slot;
        return;
    }
}


void
ngx_oci_audit_knot_free(ngx_oci_audit_log_t *log)
{
    if (log->slot) {
        ngx_shmtx_lock(&log->shpool->mutex);
        log->slot->pid = 0;
        ngx_shmtx_unlock(&log->shpool->mutex);

        log->slot = NULL;
    }
}


/*
 * nginx begins, and there is a log: what it ended with is what the first knot
 * follows.
 */

static void
ngx_oci_audit_before(ngx_oci_audit_log_t *log, ngx_oci_audit_sh_t *sh,
    ngx_log_t *l)
{
    int            fd;
    off_t          at, end, stop;
    u_char        *buf;
    size_t         keep, size;
    ssize_t        n;
    struct stat    st;

    fd = open((char *) log->file->name.data,
              O_RDONLY|O_NONBLOCK|O_CLOEXEC);

    if (fd == -1) {
        return;
    }

    buf = ngx_alloc(NGX_OCI_AUDIT_BLOCK + NGX_OCI_AUDIT_GAP, l);

    if (buf == NULL || fstat(fd, &st) == -1 || !S_ISREG(st.st_mode)) {
        goto done;
    }

    end = st.st_size;
    stop = ngx_max(end - NGX_OCI_AUDIT_BACK, 0);

    /* blocks overlap by the longest line */

    for (at = end; at > stop; /* void */ ) {
        keep = ngx_min(end - at, NGX_OCI_AUDIT_GAP);
        size = ngx_min(at, NGX_OCI_AUDIT_BLOCK);
        at -= size;

        n = pread(fd, buf, size + keep, at);

        if (n <= 0) {
            break;
        }

        if (ngx_oci_audit_before_block(sh, buf, n)) {
            sh->dev = st.st_dev;
            sh->ino = st.st_ino;
            sh->headless = 0;
            break;
        }
    }

done:

    if (buf) {
        ngx_free(buf);
    }

    (void) close(fd);
}


static ngx_uint_t
ngx_oci_audit_before_block(ngx_oci_audit_sh_t *sh, u_char *p, size_t len)
{
    u_char                *s, *last;
    ngx_oci_audit_line_t   line;

    last = p + len;

    while (last > p) {

        /* a line, or a piece of one */

        for (s = last; s > p && s[-1] != '\n'; s--) { /* void */ }

        if (ngx_oci_audit_parse(&line, s, last - s) == NGX_OK
            && ngx_oci_audit_is_knot(line.event))
        {
            sh->restart = 1;
            sh->last[0].link = line.knot.link;
            ngx_oci_audit_hash(s, last - s, sh->last[0].hash);
            ngx_memcpy(sh->last[0].file, line.knot.file, NGX_OCI_AUDIT_ID);
            ngx_memcpy(sh->file, line.knot.file, NGX_OCI_AUDIT_ID);

            return 1;
        }

        last = (s > p) ? s - 1 : p;
    }

    return 0;
}
