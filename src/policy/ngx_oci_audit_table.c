
/*
 * Copyright (C) The nginx-oci authors
 *
 * What goes on in this worker.  The first request of an event is recorded when
 * its answer begins, the event when it was quiet for a minute: 16,700 ranges
 * of one layer are two records.
 */


#include "ngx_oci_audit.h"


#define NGX_OCI_AUDIT_QUIET  60000      /* ms */
#define NGX_OCI_AUDIT_TICK   1000       /* ms */
#define NGX_OCI_AUDIT_MANY   4096       /* events that are remembered; they
                                           have about 400 bytes each, and 3K
                                           at most */


/* of the worker */

static ngx_rbtree_t       ngx_oci_audit_tree;
static ngx_rbtree_node_t  ngx_oci_audit_sentinel;
static ngx_queue_t        ngx_oci_audit_quiet;      /* oldest first */
static ngx_queue_t        ngx_oci_audit_singles;    /* not in the tree */
static ngx_uint_t         ngx_oci_audit_n;
static ngx_event_t        ngx_oci_audit_timer;


static ngx_oci_audit_event_t *ngx_oci_audit_find(u_char *key);
static ngx_oci_audit_event_t *ngx_oci_audit_new(ngx_oci_audit_log_t *log,
    ngx_oci_audit_record_t *rec);
static void ngx_oci_audit_intent(ngx_oci_audit_event_t *e,
    ngx_oci_audit_record_t *rec);
static void ngx_oci_audit_over(ngx_oci_audit_event_t *e);
static const char *ngx_oci_audit_outcome(ngx_oci_audit_event_t *e);
static ngx_rbtree_key_t ngx_oci_audit_node_key(u_char *key);
static void ngx_oci_audit_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);
static void ngx_oci_audit_tick(ngx_event_t *ev);


ngx_int_t
ngx_oci_audit_table_init(ngx_cycle_t *cycle)
{
    ngx_rbtree_init(&ngx_oci_audit_tree, &ngx_oci_audit_sentinel,
                    ngx_oci_audit_insert);
    ngx_queue_init(&ngx_oci_audit_quiet);
    ngx_queue_init(&ngx_oci_audit_singles);

    ngx_oci_audit_n = 0;

    ngx_memzero(&ngx_oci_audit_timer, sizeof(ngx_event_t));
    ngx_oci_audit_timer.handler = ngx_oci_audit_tick;
    ngx_oci_audit_timer.log = cycle->log;
    ngx_oci_audit_timer.cancelable = 1;

    return NGX_OK;
}


ngx_oci_audit_event_t *
ngx_oci_audit_enter(ngx_oci_audit_log_t *log, ngx_oci_audit_record_t *rec)
{
    ngx_oci_audit_event_t  *e;

    e = rec->single ? NULL : ngx_oci_audit_find(rec->key);

    if (e == NULL) {
        e = ngx_oci_audit_new(log, rec);

        if (e == NULL) {
            return NULL;
        }

    } else if (e->active == 0) {
        ngx_queue_remove(&e->queue);
    }

    e->active++;
    e->requests++;

    if (e->seq == 0) {
        ngx_oci_audit_intent(e, rec);
    }

    return e;
}


static ngx_oci_audit_event_t *
ngx_oci_audit_find(u_char *key)
{
    ngx_int_t               rc;
    ngx_rbtree_key_t        k;
    ngx_rbtree_node_t      *node;
    ngx_oci_audit_event_t  *e;

    k = ngx_oci_audit_node_key(key);
    node = ngx_oci_audit_tree.root;

    while (node != &ngx_oci_audit_sentinel) {

        e = (ngx_oci_audit_event_t *) node;

        if (k != node->key) {
            node = (k < node->key) ? node->left : node->right;
            continue;
        }

        rc = ngx_memcmp(key, e->key, sizeof(e->key));

        if (rc == 0) {
            return e;
        }

        node = (rc < 0) ? node->left : node->right;
    }

    return NULL;
}


static ngx_oci_audit_event_t *
ngx_oci_audit_new(ngx_oci_audit_log_t *log, ngx_oci_audit_record_t *rec)
{
    size_t                  len;
    ngx_time_t             *tp;
    ngx_queue_t            *q;
    ngx_oci_audit_event_t  *e;

    if (!rec->single && ngx_oci_audit_n >= NGX_OCI_AUDIT_MANY) {

        /* the one that is quiet for longest ends earlier */

        if (ngx_queue_empty(&ngx_oci_audit_quiet)) {
            rec->single = 1;

        } else {
            q = ngx_queue_head(&ngx_oci_audit_quiet);
            ngx_oci_audit_over(ngx_queue_data(q, ngx_oci_audit_event_t,
                                              queue));
        }
    }

    len = rec->who.pos - rec->buf[0];

    e = ngx_alloc(sizeof(ngx_oci_audit_event_t) + len, ngx_cycle->log);
    if (e == NULL) {
        return NULL;
    }

    ngx_memzero(e, sizeof(ngx_oci_audit_event_t));

    tp = ngx_timeofday();

    e->log = log;
    e->sec = tp->sec;
    e->msec = tp->msec;
    e->single = rec->single;
    e->denied = rec->denied;
    e->len = len;
    ngx_memcpy(e->data, rec->buf[0], len);

    if (e->single) {
        ngx_queue_insert_tail(&ngx_oci_audit_singles, &e->queue);

    } else {
        ngx_memcpy(e->key, rec->key, sizeof(e->key));
        e->node.key = ngx_oci_audit_node_key(e->key);
        ngx_rbtree_insert(&ngx_oci_audit_tree, &e->node);
        ngx_oci_audit_n++;
    }

    return e;
}


static void
ngx_oci_audit_intent(ngx_oci_audit_event_t *e, ngx_oci_audit_record_t *rec)
{
    ngx_str_t  members[2];

    ngx_oci_audit_record_more(rec);

    members[0].data = e->data;
    members[0].len = e->len;
    members[1].data = rec->buf[1];
    members[1].len = rec->what.pos - rec->buf[1];

    if (ngx_oci_audit_write(e->log, e->denied ? "deny" : "intent", members, 2)
        == NGX_OK)
    {
        e->seq = e->log->said;
    }
}


void
ngx_oci_audit_leave(ngx_oci_audit_event_t *e)
{
    e->last = ngx_current_msec;

    if (--e->active) {
        return;
    }

    if (e->single) {
        ngx_oci_audit_over(e);
        return;
    }

    ngx_queue_insert_tail(&ngx_oci_audit_quiet, &e->queue);

    if (!ngx_oci_audit_timer.timer_set) {
        ngx_add_timer(&ngx_oci_audit_timer, NGX_OCI_AUDIT_TICK);
    }
}


/* its last record; then it is forgotten */

static void
ngx_oci_audit_over(ngx_oci_audit_event_t *e)
{
    u_char               buf[512], ts[32];
    ngx_str_t            members[2], s;
    ngx_oci_audit_out_t  out;

    if (e->single || e->active == 0) {
        ngx_queue_remove(&e->queue);
    }

    if (!e->single) {
        ngx_rbtree_delete(&ngx_oci_audit_tree, &e->node);
        ngx_oci_audit_n--;
    }

    /* there is no more to say of one that was denied once */

    if (!e->denied || e->requests > 1) {
        out.pos = buf;
        out.last = buf + sizeof(buf);

        s.data = ts;
        s.len = ngx_oci_audit_time(ts, e->sec, e->msec * 1000) - ts;

        ngx_oci_audit_number(&out, "intent", e->seq);
        ngx_oci_audit_string(&out, "since", &s, 64);
        ngx_oci_audit_number(&out, "requests", e->requests);
        ngx_oci_audit_number(&out, "bytes_sent", e->bytes);
        ngx_oci_audit_text(&out, "outcome", ngx_oci_audit_outcome(e));
        ngx_oci_audit_bool(&out, "complete",
                           e->active + e->aborted + e->failed == 0);
        ngx_oci_audit_number(&out, "aborted", e->aborted);
        ngx_oci_audit_number(&out, "failed", e->failed);
        ngx_oci_audit_number(&out, "status", e->status);
        ngx_oci_audit_text(&out, "cache", e->cache);
        ngx_oci_audit_text(&out, "verify", e->verify);
        ngx_oci_audit_number(&out, "latency_ms", e->latency);

        members[0].data = e->data;
        members[0].len = e->len;
        members[1].data = buf;
        members[1].len = out.pos - buf;

        (void) ngx_oci_audit_write(e->log, "end", members, 2);
    }

    ngx_free(e);
}


static const char *
ngx_oci_audit_outcome(ngx_oci_audit_event_t *e)
{
    return e->active ? "cut"
           : e->denied ? "denied"
           : e->revoked ? "revoked"
           : e->failed ? "failed"
           : e->aborted ? "aborted" : "complete";
}


void
ngx_oci_audit_leave_all(void)
{
    ngx_queue_t        *q;
    ngx_rbtree_node_t  *node;

    while (!ngx_queue_empty(&ngx_oci_audit_singles)) {
        q = ngx_queue_head(&ngx_oci_audit_singles);
        ngx_oci_audit_over(ngx_queue_data(q, ngx_oci_audit_event_t, queue));
    }

    while (ngx_oci_audit_tree.root != &ngx_oci_audit_sentinel) {
        node = ngx_rbtree_min(ngx_oci_audit_tree.root,
                              &ngx_oci_audit_sentinel);
        ngx_oci_audit_over((ngx_oci_audit_event_t *) node);
    }

    if (ngx_oci_audit_timer.timer_set) {
        ngx_del_timer(&ngx_oci_audit_timer);
    }
}


static void
ngx_oci_audit_tick(ngx_event_t *ev)
{
    ngx_queue_t            *q;
    ngx_oci_audit_event_t  *e;

    while (!ngx_queue_empty(&ngx_oci_audit_quiet)) {

        q = ngx_queue_head(&ngx_oci_audit_quiet);
        e = ngx_queue_data(q, ngx_oci_audit_event_t, queue);

        if ((ngx_msec_int_t) (ngx_current_msec - e->last)
            < NGX_OCI_AUDIT_QUIET)
        {
            ngx_add_timer(ev, NGX_OCI_AUDIT_TICK);
            return;
        }

        ngx_oci_audit_over(e);
    }
}


static ngx_rbtree_key_t
ngx_oci_audit_node_key(u_char *key)
{
    ngx_rbtree_key_t  k;

    ngx_memcpy(&k, key, sizeof(ngx_rbtree_key_t));

    return k;
}


static void
ngx_oci_audit_insert(ngx_rbtree_node_t *temp, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel)
{
    ngx_rbtree_node_t      **p;
    ngx_oci_audit_event_t   *e, *t;

    e = (ngx_oci_audit_event_t *) node;

    for ( ;; ) {

        t = (ngx_oci_audit_event_t *) temp;

        if (node->key != temp->key) {
            p = (node->key < temp->key) ? &temp->left : &temp->right;

        } else {
            p = (ngx_memcmp(e->key, t->key, sizeof(e->key)) < 0)
                ? &temp->left : &temp->right;
        }

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    *p = node;
    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}
