
/*
 * Copyright (C) The nginx-oci authors
 *
 * A log's lines go out: one write() each, at once, as several workers append
 * to one file.
 */


#include "ngx_oci_audit.h"


#define NGX_OCI_AUDIT_EVERY  1000       /* lines between two checkpoints, or */
#define NGX_OCI_AUDIT_AFTER  10000      /* ms */
#define NGX_OCI_AUDIT_AGAIN  1000       /* ms, until a log that failed is
                                           tried again */


static ngx_str_t  ngx_oci_audit_node;


static ngx_int_t ngx_oci_audit_ready(ngx_oci_audit_log_t *log);
static ngx_int_t ngx_oci_audit_lost(ngx_oci_audit_log_t *log);
static void ngx_oci_audit_checkpoint(ngx_event_t *ev);
static ssize_t ngx_oci_audit_send(ngx_oci_audit_log_t *log, u_char *p,
    size_t len);
static void ngx_oci_audit_cut(ngx_oci_audit_log_t *log, u_char *p,
    size_t len, size_t written);
static void ngx_oci_audit_failed(ngx_oci_audit_log_t *log, ngx_err_t err);


void
ngx_oci_audit_log_init(ngx_oci_audit_log_t *log, ngx_cycle_t *cycle)
{
    ngx_oci_audit_node = cycle->hostname;

    log->timer.handler = ngx_oci_audit_checkpoint;
    log->timer.data = log;
    log->timer.log = cycle->log;
    log->timer.cancelable = 1;

    if (ngx_oci_audit_random_id(log->chain.id) != NGX_OK) {
        ngx_sprintf(log->chain.id, "%08xD%08xD", (uint32_t) ngx_pid,
                    (uint32_t) ngx_random());
    }

    /* a worker that died has a successor, which says so without delay */

    if (log->chained && ngx_oci_audit_knot_any_dead(log)) {
        (void) ngx_oci_audit_ready(log);
    }
}


ngx_int_t
ngx_oci_audit_write(ngx_oci_audit_log_t *log, const char *event,
    ngx_str_t *members, ngx_uint_t n)
{
    u_char               buf[1 + NGX_OCI_AUDIT_LINE];
    ngx_uint_t           i;
    ngx_oci_audit_out_t  out;

    if (ngx_oci_audit_recover(log) != NGX_OK
        || ngx_oci_audit_ready(log) != NGX_OK)
    {
        goto lost;
    }

    out.pos = buf + 1;
    out.last = buf + sizeof(buf) - 1;

    ngx_oci_audit_head(log, &out, event);

    for (i = 0; i < n; i++) {
        ngx_oci_audit_raw(&out, members[i].data, members[i].len);
    }

    if (ngx_oci_audit_end(&out, buf + 1, NULL, NULL) != NGX_OK
        || ngx_oci_audit_emit(log, buf + 1, out.pos - buf - 1) != NGX_OK)
    {
        goto lost;
    }

    log->said = log->chain.seq;

    if (!log->chained) {
        return NGX_OK;
    }

    if (++log->since >= NGX_OCI_AUDIT_EVERY) {
        (void) ngx_oci_audit_knot_tie(log, NGX_OCI_AUDIT_CHECKPOINT);

    } else if (!log->timer.timer_set) {
        ngx_add_timer(&log->timer, NGX_OCI_AUDIT_AFTER);
    }

    return NGX_OK;

lost:

    log->lost++;
    ngx_oci_stat_add(NGX_OCI_STAT_AUDIT_LOST, 1);

    return NGX_ERROR;
}


void
ngx_oci_audit_miss(ngx_oci_audit_log_t *log)
{
    log->lost++;
    ngx_oci_stat_add(NGX_OCI_STAT_AUDIT_LOST, 1);

    ngx_oci_audit_failed(log, NGX_ENOMEM);
}


/* whatever has to stand before the next line does so */

static ngx_int_t
ngx_oci_audit_ready(ngx_oci_audit_log_t *log)
{
    if (log->chained && !log->opened
        && ngx_oci_audit_knot_begin(log) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return log->failed ? ngx_oci_audit_lost(log) : NGX_OK;
}


ngx_int_t
ngx_oci_audit_recover(ngx_oci_audit_log_t *log)
{
    if (!log->failed) {
        return NGX_OK;
    }

    /* a disk that is nearly full would get a piece of each line */

    if (log->ntorn && (ngx_msec_int_t) (log->again - ngx_current_msec) > 0) {
        return NGX_ERROR;
    }

    return ngx_oci_audit_ready(log);
}


/* what is lost is said */

static ngx_int_t
ngx_oci_audit_lost(ngx_oci_audit_log_t *log)
{
    u_char               buf[1 + NGX_OCI_AUDIT_LINE];
    ngx_str_t            text;
    ngx_oci_audit_out_t  out;

    out.pos = buf + 1;
    out.last = buf + sizeof(buf) - 1;

    ngx_oci_audit_head(log, &out, "lost");

    ngx_oci_audit_hexes(&out, "torn", log->torn, log->ntorn);
    ngx_oci_audit_number(&out, "lost", log->lost);

    text.data = (u_char *) strerror(log->err);
    text.len = ngx_strlen(text.data);
    ngx_oci_audit_string(&out, "error", &text, 128);

    if (ngx_oci_audit_end(&out, buf + 1, NULL, NULL) != NGX_OK
        || ngx_oci_audit_emit(log, buf + 1, out.pos - buf - 1) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "oci_audit_log \"%V\" is written again, %uL of its records "
                  "are lost", &log->name, log->lost);

    log->failed = 0;
    log->lost = 0;
    log->ntorn = 0;

    if (log->chained) {
        log->since++;

        if (!log->timer.timer_set) {
            ngx_add_timer(&log->timer, NGX_OCI_AUDIT_AFTER);
        }
    }

    return NGX_OK;
}


void
ngx_oci_audit_head(ngx_oci_audit_log_t *log, ngx_oci_audit_out_t *out,
    const char *event)
{
    u_char      ts[32];
    ngx_time_t  now;

    struct timespec  t;

    /* the time that nginx keeps has no microseconds */

    if (clock_gettime(CLOCK_REALTIME, &t) == 0) {
        ngx_oci_audit_time(ts, t.tv_sec, t.tv_nsec / 1000);

    } else {
        now = *ngx_timeofday();
        ngx_oci_audit_time(ts, now.sec, now.msec * 1000);
    }

    ngx_oci_audit_begin(out, ts, &ngx_oci_audit_node, &log->chain,
                        log->chained, event);
}


ngx_int_t
ngx_oci_audit_emit(ngx_oci_audit_log_t *log, u_char *p, size_t len)
{
    u_char                *start;
    size_t                 size;
    ssize_t                n;
    u_char                 hash[NGX_OCI_AUDIT_HASH];
    ngx_uint_t             i, unended;
    ngx_oci_audit_slot_t  *slot;

    slot = log->slot;

    if (log->chained) {
        ngx_oci_audit_hash(p, len, hash);
    }

    if (slot) {
        if (len <= sizeof(slot->next)) {
            ngx_memcpy(slot->next, p, len);
        }

        ngx_memcpy(slot->next_hash, hash, NGX_OCI_AUDIT_HASH);
        ngx_memory_barrier();
        slot->next_len = len;
    }

    unended = log->unended || (log->sh && log->sh->torn);

    start = p;
    size = len + 1;
    p[len] = '\n';

    if (unended) {
        *--start = '\n';
        size++;
    }

    n = ngx_oci_audit_send(log, start, size);

    if (n != (ssize_t) size) {
        ngx_oci_audit_cut(log, start, size, n > 0 ? n : 0);

        if (slot) {
            slot->next_len = 0;
        }

        return NGX_ERROR;
    }

    if (unended) {
        log->unended = 0;

        if (log->sh) {
            log->sh->torn = 0;
        }
    }

    log->chain.seq++;

    if (log->chained) {
        ngx_memcpy(log->chain.hash, hash, NGX_OCI_AUDIT_HASH);
    }

    if (slot) {
        i = 1 - slot->now;
        slot->at[i].chain = log->chain;
        ngx_memcpy(slot->at[i].file, log->file_id, NGX_OCI_AUDIT_ID);
        ngx_memory_barrier();
        slot->now = i;
        ngx_memory_barrier();
        slot->next_len = 0;
    }

    return NGX_OK;
}


static ssize_t
ngx_oci_audit_send(ngx_oci_audit_log_t *log, u_char *p, size_t len)
{
    u_char     buf[512 + NGX_OCI_AUDIT_GAP];
    u_char    *last;
    ssize_t    n;
    ngx_err_t  err;

    if (log->syslog) {

        /* a datagram has no newline */

        last = ngx_syslog_add_header(log->syslog, buf);
        last = ngx_cpymem(last, p, len - 1);

        n = ngx_syslog_send(log->syslog, buf, last - buf);

        if (n == last - buf) {
            return len;
        }

        ngx_oci_audit_failed(log, ngx_socket_errno);
        return NGX_ERROR;
    }

    do {
        n = write(log->file->fd, p, len);
        err = (n == -1) ? ngx_errno : NGX_ENOSPC;
    } while (n == -1 && err == NGX_EINTR);

    if (n != (ssize_t) len) {
        ngx_oci_audit_failed(log, err);
    }

    return n;
}


/* a piece of a line stands there, and can't be taken back: others append */

static void
ngx_oci_audit_cut(ngx_oci_audit_log_t *log, u_char *p, size_t len,
    size_t written)
{
    if (written && *p == '\n') {
        p++;
        written--;
    }

    if (written == 0) {
        return;
    }

    log->unended = 1;
    log->again = ngx_current_msec + NGX_OCI_AUDIT_AGAIN;

    if (log->sh) {
        log->sh->torn = 1;
    }

    if (log->ntorn < NGX_OCI_AUDIT_TORN) {
        ngx_oci_audit_hash(p, written, log->torn[log->ntorn++]);
    }
}


/* said once, until it is written again */

static void
ngx_oci_audit_failed(ngx_oci_audit_log_t *log, ngx_err_t err)
{
    log->err = err;

    if (log->failed) {
        return;
    }

    log->failed = 1;

    if (log->timer.timer_set) {
        ngx_del_timer(&log->timer);
    }

    ngx_add_timer(&log->timer, NGX_OCI_AUDIT_AGAIN);

    ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, err,
                  "oci_audit_log \"%V\" can't be written", &log->name);
}


/* the timer: of a checkpoint, of a log that failed, of a file that is new */

static void
ngx_oci_audit_checkpoint(ngx_event_t *ev)
{
    ngx_oci_audit_log_t *log = ev->data;

    if (log->failed || (log->started && !log->opened)) {

        if (ngx_oci_audit_ready(log) != NGX_OK) {
            ngx_add_timer(&log->timer, NGX_OCI_AUDIT_AGAIN);
        }

        return;
    }

    if (log->since) {
        (void) ngx_oci_audit_knot_tie(log, NGX_OCI_AUDIT_CHECKPOINT);
    }
}


/* nginx opens its files anew; called by the master too, which has no chain */

void
ngx_oci_audit_flush(ngx_open_file_t *file, ngx_log_t *l)
{
    ngx_oci_audit_log_t *log = file->data;

    if (!log->opened) {
        return;
    }

    if (log->failed) {
        (void) ngx_oci_audit_ready(log);
    }

    (void) ngx_oci_audit_knot_tie(log, NGX_OCI_AUDIT_ROTATE);

    log->opened = 0;

    /* the new file says at once what it follows */

    if (log->timer.timer_set) {
        ngx_del_timer(&log->timer);
    }

    ngx_add_timer(&log->timer, 1);
}


void
ngx_oci_audit_log_exit(ngx_oci_audit_log_t *log)
{
    if (log->failed) {
        (void) ngx_oci_audit_ready(log);
    }

    if (!log->chained) {
        return;
    }

    if (log->opened) {
        if (ngx_oci_audit_knot_tie(log, NGX_OCI_AUDIT_CLOSE) != NGX_OK) {
            return;                     /* another one will tell */
        }
    }

    ngx_oci_audit_knot_free(log);
}
