
/*
 * Copyright (C) The nginx-oci authors
 *
 * From where, and with whose rights, a fill fetches: the source of an entry.
 */


#include "ngx_oci_index_sh.h"


#define NGX_OCI_INDEX_FRESH  30     /* s, then a newer source replaces one
                                       that is good */


static ngx_uint_t ngx_oci_index_source_is(ngx_oci_source_t *src,
    ngx_str_t *repository, ngx_str_t *authorization);
static void ngx_oci_index_source_keep(ngx_oci_cache_t *cache,
    ngx_oci_entry_t *entry, ngx_oci_source_t *src);
static void ngx_oci_index_source_lend(ngx_oci_source_t *src,
    ngx_oci_want_t *want);
static uint64_t ngx_oci_index_source_ask(ngx_oci_entry_t *entry);
static void ngx_oci_index_source_wipe(ngx_oci_cache_t *cache,
    ngx_oci_source_t *src);


static ngx_uint_t
ngx_oci_index_source_is(ngx_oci_source_t *src, ngx_str_t *repository,
    ngx_str_t *authorization)
{
    return src
           && src->repository_len == repository->len
           && src->authorization_len == authorization->len
           && ngx_memcmp(src->data, repository->data, repository->len) == 0
           && ngx_memcmp(src->data + repository->len, authorization->data,
                         authorization->len)
              == 0;
}


ngx_int_t
ngx_oci_index_source(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_oci_registry_t *registry, ngx_str_t *repository,
    ngx_str_t *authorization, ngx_oci_want_t *want)
{
    size_t             len;
    ngx_int_t          rc;
    uint32_t           id;
    ngx_oci_source_t  *src;

    if (authorization->len + repository->len > NGX_OCI_SOURCE_MAX) {
        return NGX_DECLINED;
    }

    id = ngx_crc32_long(registry->name.data, registry->name.len);
    len = offsetof(ngx_oci_source_t, data) + repository->len
          + authorization->len;

    rc = NGX_DECLINED;

    ngx_oci_index_lock(cache);

    if (!entry->verified && entry->origin != id) {
        goto done;
    }

    src = entry->source;

    /* after a reload the same name may lead elsewhere, and whoever fetches may
       be a worker of before: it needs a source of its own */

    if (src && src->registry == id && entry->owner != -1
        && ngx_memcmp(src->place, registry->health_key, sizeof(src->place))
           != 0)
    {
        goto done;
    }

    if (src && src->registry == id
        && ngx_memcmp(src->place, registry->health_key, sizeof(src->place))
           == 0
        && ngx_oci_index_source_is(src, repository, authorization))
    {
        entry->ask = 0;
        ngx_oci_index_source_lend(src, want);
        rc = NGX_OK;
        goto done;
    }

    /* tokens expire: the newest is likely to last longest */

    if (src && src->good && ngx_time() - src->since < NGX_OCI_INDEX_FRESH) {
        goto done;
    }

    src = ngx_oci_index_alloc(cache, len, NGX_OCI_INDEX_FORGET);

    if (src) {
        src->since = ngx_time();
        src->registry = id;
        ngx_memcpy(src->place, registry->health_key, sizeof(src->place));
        src->borrowed = (registry->fill == NULL
                         && registry->credentials
                            == NGX_OCI_CREDENTIALS_CLIENT
                         && authorization->len);
        src->repository_len = (uint16_t) repository->len;
        src->authorization_len = (uint16_t) authorization->len;
        ngx_memcpy(src->data, repository->data, repository->len);
        ngx_memcpy(src->data + repository->len, authorization->data,
                   authorization->len);

        src->id = ++cache->index->sources;
        src->id = src->id ? src->id : ++cache->index->sources;

        ngx_oci_index_source_keep(cache, entry, src);
        ngx_oci_index_source_lend(src, want);

        rc = NGX_OK;
    }

done:

    ngx_oci_index_unlock(cache);

    return rc;
}


/*
 * src becomes the source.  What is only asked for a better one stays behind
 * it: the registry may refuse that, and nobody is to be worse off.
 */

static void
ngx_oci_index_source_keep(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_oci_source_t *src)
{
    ngx_oci_source_t  *old, *next;

    old = entry->source;
    next = NULL;

    if (old) {
        next = old->next;
        old->next = NULL;

        if (entry->ask) {
            ngx_oci_index_source_wipe(cache, next);
            next = old;

        } else {
            ngx_oci_index_source_wipe(cache, old);
        }
    }

    src->next = next;

    entry->source = src;
    entry->ask = 0;
}


static void
ngx_oci_index_source_lend(ngx_oci_source_t *src, ngx_oci_want_t *want)
{
    if (want && want->lent != src->id) {
        want->lent = src->id;
        want->refused = 0;
        src->lenders++;
    }
}


/*
 * Credentials do not work on for others after their lender has gone, if one of
 * those has his own: they are asked.  Only if there are none that the registry
 * takes, the fill ends with what it began with: nobody is cut for a client's
 * leaving.
 */

uint64_t
ngx_oci_index_source_leave(ngx_oci_entry_t *entry, ngx_oci_want_t *want)
{
    uint64_t           waiters;
    ngx_oci_source_t  *src;

    waiters = 0;

    for (src = entry->source; src; src = src->next) {

        if (src->id != want->lent) {
            continue;
        }

        src->lenders--;

        if (src->lenders == 0 && src->borrowed && src == entry->source) {
            waiters = ngx_oci_index_source_ask(entry);
        }
    }

    return waiters;
}


/* the slots to ring */

static uint64_t
ngx_oci_index_source_ask(ngx_oci_entry_t *entry)
{
    uint64_t  waiters;

    entry->source->good = 0;

    if (entry->ask) {
        return 0;
    }

    entry->ask = 1;

    waiters = entry->waiters;
    entry->waiters = 0;

    return waiters;
}


void
ngx_oci_index_source_limited(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_str_t *repository, ngx_str_t *authorization)
{
    uint64_t  waiters;

    waiters = 0;

    ngx_oci_index_lock(cache);

    if (ngx_oci_index_source_is(entry->source, repository, authorization)) {
        waiters = ngx_oci_index_source_ask(entry);
    }

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


void
ngx_oci_index_source_good(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_str_t *repository, ngx_str_t *authorization)
{
    ngx_oci_index_lock(cache);

    if (ngx_oci_index_source_is(entry->source, repository, authorization)
        && (entry->source->lenders || !entry->source->borrowed))
    {
        entry->source->good = 1;
        entry->ask = 0;

        ngx_oci_index_source_wipe(cache, entry->source->next);
        entry->source->next = NULL;
    }

    ngx_oci_index_unlock(cache);
}


void
ngx_oci_index_source_free(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry)
{
    ngx_oci_source_t  *src;

    src = entry->source;

    if (src) {
        entry->source = NULL;
        entry->ask = 0;

        ngx_oci_index_source_wipe(cache, src->next);
        ngx_oci_index_source_wipe(cache, src);
    }
}


/* one of them; NULL: none */

static void
ngx_oci_index_source_wipe(ngx_oci_cache_t *cache, ngx_oci_source_t *src)
{
    if (src) {
        ngx_explicit_memzero(src, offsetof(ngx_oci_source_t, data)
                                  + src->repository_len
                                  + src->authorization_len);
        ngx_slab_free_locked(cache->shpool, src);
    }
}


void
ngx_oci_index_source_drop(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_str_t *repository, ngx_str_t *authorization)
{
    uint64_t           waiters;
    ngx_queue_t       *q;
    ngx_oci_want_t    *want;
    ngx_oci_source_t  *src;

    waiters = 0;

    ngx_oci_index_lock(cache);

    src = entry->source;

    if (ngx_oci_index_source_is(src, repository, authorization)) {
        for (q = ngx_queue_head(&entry->wants);
             q != ngx_queue_sentinel(&entry->wants);
             q = ngx_queue_next(q))
        {
            want = ngx_queue_data(q, ngx_oci_want_t, queue);

            if (want->lent == src->id) {
                want->refused = 1;
            }
        }

        entry->source = src->next;
        entry->ask = (src->next != NULL);

        ngx_oci_index_source_wipe(cache, src);

        waiters = entry->waiters;
        entry->waiters = 0;
    }

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


ngx_int_t
ngx_oci_index_source_get(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    u_char *buf, u_char *place, ngx_str_t *repository,
    ngx_str_t *authorization)
{
    ngx_oci_source_t  *src;

    ngx_oci_index_lock(cache);

    src = entry->source;

    if (src == NULL || (!entry->verified && src->registry != entry->origin)) {
        ngx_oci_index_unlock(cache);
        return NGX_DECLINED;
    }

    ngx_memcpy(place, src->place, sizeof(src->place));
    repository->len = src->repository_len;
    authorization->len = src->authorization_len;

    /* index_source() keeps nothing longer than NGX_OCI_SOURCE_MAX */

    ngx_memcpy(buf, src->data, repository->len + authorization->len);

    ngx_oci_index_unlock(cache);

    repository->data = buf;
    authorization->data = buf + repository->len;

    return NGX_OK;
}
