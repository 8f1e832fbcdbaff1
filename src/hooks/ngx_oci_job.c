
/*
 * Copyright (C) The nginx-oci authors
 *
 * Jobs in shared memory.  A worker that takes one says once a second that it
 * is there; if it isn't seen for long, or gives the job back, another one
 * takes it: what is stored by then is not fetched again.  Credentials are
 * here only, for as long as the job needs them.
 */


#include "ngx_oci_hooks.h"


#define NGX_OCI_JOB_ZONE     (4 * 1024 * 1024)
#define NGX_OCI_JOBS         1024       /* finished ones are among these */
#define NGX_OCI_JOBS_OPEN    256        /* unfinished */
#define NGX_OCI_JOB_SEEN     10         /* s, then its runner is gone */
#define NGX_OCI_JOB_KEPT     86400      /* s, after its end */
#define NGX_OCI_JOB_PLACES   64         /* that are known to be restored */


/*
 * Owner: the table.  Everything is read and written under the zone's mutex
 * only.
 */

typedef struct {
    ngx_queue_t                 queue;      /* of the table, oldest first */
    uint64_t                    id;
    uint64_t                    run;
    uint32_t                    place;
    ngx_uint_t                  state;
    time_t                      seen;
    time_t                      created;
    time_t                      updated;
    ngx_uint_t                  pieces;
    ngx_uint_t                  pieces_done;
    uint64_t                    bytes;
    uint64_t                    bytes_done;
    uint64_t                    rate;       /* bytes/s */
    ngx_uint_t                  slices;
    ngx_uint_t                  slices_done;
    ngx_uint_t                  errors;
    time_t                      pin;        /* 0: none */
    ngx_uint_t                  peers;
    ngx_uint_t                  peers_done;
    size_t                      repository_len;
    size_t                      reference_len;
    size_t                      platforms_len;
    ngx_uint_t                  alone;
    u_char                     *authorization;  /* a slab of its own, or
                                                   NULL */
    size_t                      authorization_len;
    ngx_uint_t                  again;      /* it was asked for once more
                                               since it runs */
    char                        error[NGX_OCI_JOB_ERROR];
    char                        left_out[NGX_OCI_JOB_ERROR];
    u_char                      names[1];   /* repository, reference,
                                               platforms */
} ngx_oci_job_t;


typedef struct {
    ngx_queue_t                 jobs;
    uint32_t                    restored[NGX_OCI_JOB_PLACES];
    ngx_uint_t                  nrestored;
    ngx_uint_t                  n;
    ngx_uint_t                  open;
    uint64_t                    last;       /* id */
    uint64_t                    runs;
} ngx_oci_job_sh_t;


static ngx_int_t ngx_oci_job_init_zone(ngx_shm_zone_t *zone, void *data);
static void ngx_oci_job_platforms(ngx_oci_hook_conf_t *conf,
    ngx_oci_job_ask_t *ask, ngx_str_t *platforms);
static ngx_oci_job_t *ngx_oci_job_find(uint32_t place,
    ngx_oci_job_ask_t *ask, ngx_str_t *platforms);
static ngx_uint_t ngx_oci_job_same(ngx_oci_job_t *job,
    ngx_oci_job_ask_t *ask, ngx_str_t *platforms);
static ngx_oci_job_t *ngx_oci_job_by_id(uint64_t id);
static ngx_int_t ngx_oci_job_info(ngx_oci_job_t *job, ngx_pool_t *pool,
    ngx_oci_job_info_t *info);
static ngx_oci_job_t *ngx_oci_job_alloc(ngx_oci_hook_conf_t *conf,
    ngx_oci_job_ask_t *ask, ngx_str_t *platforms);
static void ngx_oci_job_credential(ngx_oci_job_t *job,
    ngx_str_t *authorization);
static void ngx_oci_job_wipe(ngx_oci_job_t *job);
static void ngx_oci_job_free(ngx_oci_job_t *job);
static void ngx_oci_job_expire(void);
static void ngx_oci_job_over_locked(ngx_oci_job_t *job, ngx_uint_t state,
    const char *error);
static ngx_int_t ngx_oci_job_names(ngx_oci_job_t *job, ngx_pool_t *pool,
    ngx_str_t *repository, ngx_str_t *reference, ngx_str_t *platforms);
static ngx_int_t ngx_oci_job_copy(ngx_pool_t *pool, ngx_str_t *dst,
    u_char *data, size_t len);


/* of this cycle's zone */

static ngx_slab_pool_t   *ngx_oci_job_shpool;
static ngx_oci_job_sh_t  *ngx_oci_job_sh;


#define ngx_oci_job_open(job)  ((job)->state <= NGX_OCI_JOB_RUNNING)


ngx_int_t
ngx_oci_job_add_zone(ngx_conf_t *cf, ngx_oci_hooks_main_conf_t *hmcf)
{
    ngx_str_t  name;

    ngx_str_set(&name, "nginx_oci_jobs");

    hmcf->zone = ngx_shared_memory_add(cf, &name, NGX_OCI_JOB_ZONE,
                                       &ngx_http_oci_hooks_module);
    if (hmcf->zone == NULL) {
        return NGX_ERROR;
    }

    hmcf->zone->init = ngx_oci_job_init_zone;
    hmcf->zone->data = hmcf;

    return NGX_OK;
}


static ngx_int_t
ngx_oci_job_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_oci_job_sh_t  *sh;

    ngx_oci_job_shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (data || zone->shm.exists) {
        ngx_oci_job_sh = ngx_oci_job_shpool->data;
        return NGX_OK;
    }

    sh = ngx_slab_calloc(ngx_oci_job_shpool, sizeof(ngx_oci_job_sh_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    ngx_queue_init(&sh->jobs);

    /* an id of before a restart is no other job's */

    sh->last = (uint64_t) ngx_time() << 16;

    ngx_oci_job_shpool->data = sh;
    ngx_oci_job_shpool->log_nomem = 0;
    ngx_oci_job_sh = sh;

    return NGX_OK;
}


ngx_int_t
ngx_oci_job_add(ngx_oci_hook_conf_t *conf, ngx_oci_job_ask_t *ask,
    uint64_t *id)
{
    ngx_int_t       rc;
    ngx_str_t       platforms;
    ngx_uint_t      news;
    ngx_oci_job_t  *job;

    rc = NGX_BUSY;
    news = 0;

    ngx_oci_job_platforms(conf, ask, &platforms);

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    ngx_oci_job_expire();

    job = ngx_oci_job_find(conf->place, ask, &platforms);

    if (job == NULL && ngx_oci_job_sh->open < NGX_OCI_JOBS_OPEN) {

        job = ngx_oci_job_alloc(conf, ask, &platforms);
        news = (job != NULL);
    }

    if (job) {

        /* what it found may be what there was before */

        job->again = (job->state == NGX_OCI_JOB_RUNNING);

        /* the one that comes last is good for longest */

        ngx_oci_job_credential(job, &ask->authorization);

        if (ask->authorization.len == 0 || job->authorization) {
            *id = job->id;
            rc = NGX_OK;

        } else if (news) {
            ngx_oci_job_free(job);
        }
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);

    if (rc == NGX_OK && (news || ask->authorization.len)) {
        ngx_oci_job_state_sync(conf, *id);
    }

    return rc;
}


/* what it comes to: "" is all */

static void
ngx_oci_job_platforms(ngx_oci_hook_conf_t *conf, ngx_oci_job_ask_t *ask,
    ngx_str_t *platforms)
{
    *platforms = ask->platforms.len ? ask->platforms : conf->platforms;

    if (platforms->len == 3
        && ngx_strncmp(platforms->data, "all", 3) == 0)
    {
        platforms->len = 0;
    }
}


static ngx_oci_job_t *
ngx_oci_job_find(uint32_t place, ngx_oci_job_ask_t *ask,
    ngx_str_t *platforms)
{
    ngx_queue_t    *q;
    ngx_oci_job_t  *job;

    for (q = ngx_queue_last(&ngx_oci_job_sh->jobs);
         q != ngx_queue_sentinel(&ngx_oci_job_sh->jobs);
         q = ngx_queue_prev(q))
    {
        job = ngx_queue_data(q, ngx_oci_job_t, queue);

        if (ngx_oci_job_open(job) && job->place == place
            && ngx_oci_job_same(job, ask, platforms))
        {
            return job;
        }
    }

    return NULL;
}


/* of two edges, each of which is the other's peer, none waits for what waits
   for itself: what comes from a peer is a job of its own */

static ngx_uint_t
ngx_oci_job_same(ngx_oci_job_t *job, ngx_oci_job_ask_t *ask,
    ngx_str_t *platforms)
{
    u_char  *p;

    p = job->names;

    if (job->alone != ask->alone
        || job->repository_len != ask->repository.len
        || job->reference_len != ask->reference.len
        || job->platforms_len != platforms->len
        || ngx_memcmp(p, ask->repository.data, ask->repository.len) != 0)
    {
        return 0;
    }

    p += ask->repository.len;

    if (ngx_memcmp(p, ask->reference.data, ask->reference.len) != 0) {
        return 0;
    }

    p += ask->reference.len;

    return platforms->len == 0
           || ngx_memcmp(p, platforms->data, platforms->len) == 0;
}


static ngx_oci_job_t *
ngx_oci_job_by_id(uint64_t id)
{
    ngx_queue_t    *q;
    ngx_oci_job_t  *job;

    for (q = ngx_queue_last(&ngx_oci_job_sh->jobs);
         q != ngx_queue_sentinel(&ngx_oci_job_sh->jobs);
         q = ngx_queue_prev(q))
    {
        job = ngx_queue_data(q, ngx_oci_job_t, queue);

        if (job->id == id) {
            return job;
        }
    }

    return NULL;
}


/* a pending one, in the table; NULL: there is no room */

static ngx_oci_job_t *
ngx_oci_job_alloc(ngx_oci_hook_conf_t *conf, ngx_oci_job_ask_t *ask,
    ngx_str_t *platforms)
{
    u_char         *p;
    ngx_oci_job_t  *job;

    job = ngx_slab_calloc_locked(ngx_oci_job_shpool,
                                 offsetof(ngx_oci_job_t, names)
                                 + ask->repository.len + ask->reference.len
                                 + platforms->len);
    if (job == NULL) {
        return NULL;
    }

    job->id = ++ngx_oci_job_sh->last;
    job->created = ngx_time();
    job->updated = job->created;
    job->place = conf->place;
    job->alone = ask->alone;
    job->repository_len = ask->repository.len;
    job->reference_len = ask->reference.len;
    job->platforms_len = platforms->len;

    p = ngx_cpymem(job->names, ask->repository.data, ask->repository.len);
    p = ngx_cpymem(p, ask->reference.data, ask->reference.len);

    if (platforms->len) {
        ngx_memcpy(p, platforms->data, platforms->len);
    }

    ngx_queue_insert_tail(&ngx_oci_job_sh->jobs, &job->queue);

    ngx_oci_job_sh->n++;
    ngx_oci_job_sh->open++;

    return job;
}


/* NULL afterwards: there was none, or no room */

static void
ngx_oci_job_credential(ngx_oci_job_t *job, ngx_str_t *authorization)
{
    u_char  *p;

    if (authorization->len == 0) {
        return;
    }

    p = ngx_slab_alloc_locked(ngx_oci_job_shpool, authorization->len);
    if (p == NULL) {
        return;
    }

    ngx_oci_job_wipe(job);

    ngx_memcpy(p, authorization->data, authorization->len);
    job->authorization = p;
    job->authorization_len = authorization->len;
}


static void
ngx_oci_job_wipe(ngx_oci_job_t *job)
{
    if (job->authorization) {
        ngx_explicit_memzero(job->authorization, job->authorization_len);
        ngx_slab_free_locked(ngx_oci_job_shpool, job->authorization);
        job->authorization = NULL;
        job->authorization_len = 0;
    }
}


static void
ngx_oci_job_free(ngx_oci_job_t *job)
{
    ngx_oci_job_wipe(job);

    ngx_queue_remove(&job->queue);
    ngx_oci_job_sh->n--;

    if (ngx_oci_job_open(job)) {
        ngx_oci_job_sh->open--;
    }

    ngx_slab_free_locked(ngx_oci_job_shpool, job);
}


/* the oldest that are over; and those that nobody asked for in a day */

static void
ngx_oci_job_expire(void)
{
    ngx_uint_t      n;
    ngx_queue_t    *q, *next;
    ngx_oci_job_t  *job;

    n = ngx_oci_job_sh->n;

    for (q = ngx_queue_head(&ngx_oci_job_sh->jobs);
         q != ngx_queue_sentinel(&ngx_oci_job_sh->jobs);
         q = next)
    {
        next = ngx_queue_next(q);
        job = ngx_queue_data(q, ngx_oci_job_t, queue);

        if (ngx_oci_job_open(job)) {
            continue;
        }

        if (n < NGX_OCI_JOBS
            && job->updated + NGX_OCI_JOB_KEPT > ngx_time())
        {
            return;
        }

        ngx_oci_job_free(job);
        n--;
    }
}


ngx_int_t
ngx_oci_job_get(ngx_oci_hook_conf_t *conf, uint64_t id, ngx_pool_t *pool,
    ngx_oci_job_info_t *info)
{
    ngx_int_t       rc;
    ngx_oci_job_t  *job;

    rc = NGX_DECLINED;

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    job = ngx_oci_job_by_id(id);

    if (job && job->place == conf->place) {
        rc = ngx_oci_job_info(job, pool, info);
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);

    return rc;
}


/* under the mutex */

static ngx_int_t
ngx_oci_job_info(ngx_oci_job_t *job, ngx_pool_t *pool,
    ngx_oci_job_info_t *info)
{
    info->id = job->id;
    info->state = job->state;
    info->created = job->created;
    info->updated = job->updated;
    info->pieces = job->pieces;
    info->pieces_done = job->pieces_done;
    info->bytes = job->bytes;
    info->bytes_done = job->bytes_done;
    info->rate = (job->state == NGX_OCI_JOB_RUNNING) ? job->rate : 0;
    info->slices = job->slices;
    info->slices_done = job->slices_done;
    info->errors = job->errors;
    info->pin = job->pin;
    info->token = (job->authorization != NULL);

    info->alone = job->alone;
    info->peers = job->peers;
    info->peers_done = job->peers_done;

    if (ngx_oci_job_names(job, pool, &info->repository, &info->reference,
                          &info->platforms)
        != NGX_OK
        || ngx_oci_job_copy(pool, &info->left_out, (u_char *) job->left_out,
                            ngx_strlen(job->left_out))
           != NGX_OK
        || ngx_oci_job_copy(pool, &info->error, (u_char *) job->error,
                            ngx_strlen(job->error))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_oci_job_list(ngx_oci_hook_conf_t *conf, uint64_t before,
    ngx_pool_t *pool, ngx_oci_job_info_t *info, ngx_uint_t *n)
{
    ngx_int_t       rc;
    ngx_uint_t      max;
    ngx_queue_t    *q;
    ngx_oci_job_t  *job;

    rc = NGX_OK;
    max = *n;
    *n = 0;

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    for (q = ngx_queue_last(&ngx_oci_job_sh->jobs);
         q != ngx_queue_sentinel(&ngx_oci_job_sh->jobs);
         q = ngx_queue_prev(q))
    {
        job = ngx_queue_data(q, ngx_oci_job_t, queue);

        if (job->place != conf->place || job->id >= before) {
            continue;
        }

        if (*n == max) {
            rc = NGX_AGAIN;
            break;
        }

        if (ngx_oci_job_info(job, pool, &info[*n]) != NGX_OK) {
            rc = NGX_ERROR;
            break;
        }

        (*n)++;
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);

    return rc;
}


void
ngx_oci_job_pin(ngx_oci_hook_conf_t *conf, uint64_t id, time_t until)
{
    ngx_oci_job_t  *job;

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    job = ngx_oci_job_by_id(id);

    if (job && job->place == conf->place && ngx_oci_job_open(job)
        && job->pin < until)
    {
        job->pin = until;

        /* what it has stored so far has another one, or none */

        job->again = (job->state == NGX_OCI_JOB_RUNNING);
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);

    ngx_oci_job_state_sync(conf, id);
}


ngx_uint_t
ngx_oci_job_restore(ngx_oci_hook_conf_t *conf, ngx_oci_job_info_t *info,
    const char *error)
{
    ngx_queue_t        *q;
    ngx_uint_t          made;
    ngx_oci_job_t      *job, *other;
    ngx_oci_job_ask_t   ask;

    ngx_memzero(&ask, sizeof(ngx_oci_job_ask_t));

    ask.repository = info->repository;
    ask.reference = info->reference;
    ask.alone = info->alone;

    made = 0;

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    if (ngx_oci_job_by_id(info->id)
        || info->id > (uint64_t) (ngx_time() + NGX_OCI_JOB_KEPT) << 16
        || ngx_oci_job_sh->open >= NGX_OCI_JOBS_OPEN)
    {
        goto done;
    }

    job = ngx_oci_job_alloc(conf, &ask, &info->platforms);

    if (job == NULL) {
        goto done;
    }

    made = 1;
    job->id = info->id;
    ngx_oci_job_sh->last = ngx_max(ngx_oci_job_sh->last, job->id);
    job->created = info->created;
    job->pin = info->pin;

    /* the ids in the table go up */

    ngx_queue_remove(&job->queue);

    for (q = ngx_queue_head(&ngx_oci_job_sh->jobs);
         q != ngx_queue_sentinel(&ngx_oci_job_sh->jobs);
         q = ngx_queue_next(q))
    {
        other = ngx_queue_data(q, ngx_oci_job_t, queue);

        if (other->id > job->id) {
            break;
        }
    }

    ngx_queue_insert_tail(q, &job->queue);

    if (error) {
        ngx_oci_job_over_locked(job, NGX_OCI_JOB_FAILURE, error);
    }

done:

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);

    return made;
}


ngx_uint_t
ngx_oci_job_restored(ngx_oci_hook_conf_t *conf)
{
    ngx_uint_t  i, restored;

    restored = 0;

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    for (i = 0; i < ngx_oci_job_sh->nrestored; i++) {
        restored |= (ngx_oci_job_sh->restored[i] == conf->place);
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);

    return restored;
}


void
ngx_oci_job_set_restored(ngx_oci_hook_conf_t *conf)
{
    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    if (ngx_oci_job_sh->nrestored < NGX_OCI_JOB_PLACES) {
        ngx_oci_job_sh->restored[ngx_oci_job_sh->nrestored++] = conf->place;
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);
}


void
ngx_oci_job_cancel(ngx_oci_hook_conf_t *conf, uint64_t id)
{
    ngx_oci_job_t  *job;

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    job = ngx_oci_job_by_id(id);

    if (job && job->place == conf->place && ngx_oci_job_open(job)) {
        ngx_oci_job_over_locked(job, NGX_OCI_JOB_FAILURE, "it was cancelled");
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);

    ngx_oci_job_state_sync(conf, id);
}


/* a reload may have taken the location of some away: nobody else would end
   them, or forget their credentials */

void
ngx_oci_job_orphans(ngx_oci_hooks_main_conf_t *hmcf, ngx_log_t *log)
{
    ngx_uint_t             i, n;
    ngx_queue_t           *q;
    ngx_oci_job_t         *job;
    ngx_oci_hook_conf_t  **conf;

    n = 0;
    conf = hmcf->hooks.elts;

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    for (q = ngx_queue_head(&ngx_oci_job_sh->jobs);
         q != ngx_queue_sentinel(&ngx_oci_job_sh->jobs);
         q = ngx_queue_next(q))
    {
        job = ngx_queue_data(q, ngx_oci_job_t, queue);

        if (!ngx_oci_job_open(job)) {
            continue;
        }

        for (i = 0; i < hmcf->hooks.nelts; i++) {
            if (conf[i]->place == job->place) {
                break;
            }
        }

        if (i == hmcf->hooks.nelts) {
            ngx_oci_job_over_locked(job, NGX_OCI_JOB_FAILURE,
                                    "its location is gone");
            n++;
        }
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);

    if (n) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "%ui preheat jobs failed: their location is gone", n);
    }
}


static ngx_int_t
ngx_oci_job_names(ngx_oci_job_t *job, ngx_pool_t *pool,
    ngx_str_t *repository, ngx_str_t *reference, ngx_str_t *platforms)
{
    u_char  *p;

    p = job->names;

    if (ngx_oci_job_copy(pool, repository, p, job->repository_len)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    p += job->repository_len;

    if (ngx_oci_job_copy(pool, reference, p, job->reference_len) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_oci_job_copy(pool, platforms, p + job->reference_len,
                            job->platforms_len);
}


static ngx_int_t
ngx_oci_job_copy(ngx_pool_t *pool, ngx_str_t *dst, u_char *data, size_t len)
{
    dst->data = ngx_pnalloc(pool, len + 1);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    if (len) {
        ngx_memcpy(dst->data, data, len);
    }

    dst->data[len] = '\0';
    dst->len = len;

    return NGX_OK;
}


ngx_int_t
ngx_oci_job_take(ngx_oci_hook_conf_t *conf, ngx_pool_t *pool,
    ngx_oci_job_task_t *task)
{
    ngx_int_t       rc;
    ngx_queue_t    *q;
    ngx_oci_job_t  *job;

    rc = NGX_DECLINED;

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    for (q = ngx_queue_head(&ngx_oci_job_sh->jobs);
         q != ngx_queue_sentinel(&ngx_oci_job_sh->jobs);
         q = ngx_queue_next(q))
    {
        job = ngx_queue_data(q, ngx_oci_job_t, queue);

        if (!ngx_oci_job_open(job) || job->place != conf->place
            || (job->state == NGX_OCI_JOB_RUNNING
                && job->seen + NGX_OCI_JOB_SEEN > ngx_time()))
        {
            continue;
        }

        task->id = job->id;
        task->alone = job->alone;

        rc = (ngx_oci_job_names(job, pool, &task->repository,
                                &task->reference, &task->platforms)
              != NGX_OK
              || ngx_oci_job_copy(pool, &task->authorization,
                                  job->authorization,
                                  job->authorization_len)
                 != NGX_OK)
             ? NGX_ERROR : NGX_OK;

        if (rc == NGX_OK) {
            job->state = NGX_OCI_JOB_RUNNING;
            job->seen = ngx_time();
            job->run = ++ngx_oci_job_sh->runs;
            job->again = 0;
            task->run = job->run;
            task->pin = job->pin;
        }

        break;
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);

    return rc;
}


ngx_int_t
ngx_oci_job_progress(ngx_oci_job_task_t *task, ngx_oci_job_info_t *info)
{
    ngx_int_t       rc;
    ngx_oci_job_t  *job;

    rc = NGX_DECLINED;

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    job = ngx_oci_job_by_id(task->id);

    if (job && job->run == task->run && ngx_oci_job_open(job)) {
        job->seen = ngx_time();
        job->updated = ngx_time();
        job->pieces = info->pieces;
        job->pieces_done = info->pieces_done;
        job->bytes = info->bytes;
        job->bytes_done = info->bytes_done;
        job->rate = info->rate;
        job->slices = info->slices;
        job->slices_done = info->slices_done;
        job->errors = info->errors;
        (void) ngx_cpystrn((u_char *) job->error, info->error.data
                           ? info->error.data : (u_char *) "",
                           NGX_OCI_JOB_ERROR);
        job->peers = info->peers;
        job->peers_done = info->peers_done;

        if (info->left_out.len) {
            (void) ngx_cpystrn((u_char *) job->left_out, info->left_out.data,
                               ngx_min(info->left_out.len + 1,
                                       NGX_OCI_JOB_ERROR));
        }

        rc = NGX_OK;
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);

    return rc;
}


void
ngx_oci_job_release(ngx_oci_job_task_t *task)
{
    ngx_oci_job_t  *job;

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    job = ngx_oci_job_by_id(task->id);

    if (job && job->run == task->run && ngx_oci_job_open(job)) {
        job->state = NGX_OCI_JOB_PENDING;
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);
}


void
ngx_oci_job_end(ngx_oci_job_task_t *task, ngx_uint_t state,
    const char *error)
{
    ngx_oci_job_t  *job;

    ngx_shmtx_lock(&ngx_oci_job_shpool->mutex);

    job = ngx_oci_job_by_id(task->id);

    if (job && job->run == task->run && ngx_oci_job_open(job)) {

        /* a failure, too: who asked once more may have brought a token that
           is still good */

        if (job->again) {
            job->state = NGX_OCI_JOB_PENDING;

        } else {
            ngx_oci_job_over_locked(job, state, error);
        }
    }

    ngx_shmtx_unlock(&ngx_oci_job_shpool->mutex);
}


static void
ngx_oci_job_over_locked(ngx_oci_job_t *job, ngx_uint_t state,
    const char *error)
{
    job->state = state;
    job->updated = ngx_time();
    ngx_oci_job_sh->open--;
    ngx_oci_job_wipe(job);

    (void) ngx_cpystrn((u_char *) job->error, (u_char *) error,
                       NGX_OCI_JOB_ERROR);
}
