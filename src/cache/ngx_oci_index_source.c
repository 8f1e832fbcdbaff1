
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
    ngx_str_t *authorization)
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

    if (src && src->registry == id
        && ngx_oci_index_source_is(src, repository, authorization))
    {
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
        src->repository_len = (uint16_t) repository->len;
        src->authorization_len = (uint16_t) authorization->len;
        ngx_memcpy(src->data, repository->data, repository->len);
        ngx_memcpy(src->data + repository->len, authorization->data,
                   authorization->len);

        ngx_oci_index_source_free(cache, entry);

        entry->source = src;
        rc = NGX_OK;
    }

done:

    ngx_oci_index_unlock(cache);

    return rc;
}


void
ngx_oci_index_source_good(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    ngx_str_t *repository, ngx_str_t *authorization)
{
    ngx_oci_index_lock(cache);

    if (ngx_oci_index_source_is(entry->source, repository, authorization)) {
        entry->source->good = 1;
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
    uint64_t  waiters;

    waiters = 0;

    ngx_oci_index_lock(cache);

    if (ngx_oci_index_source_is(entry->source, repository, authorization)) {
        ngx_oci_index_source_free(cache, entry);

        waiters = entry->waiters;
        entry->waiters = 0;
    }

    ngx_oci_index_unlock(cache);

    ngx_oci_doorbell_ring(cache, waiters);
}


ngx_int_t
ngx_oci_index_source_get(ngx_oci_cache_t *cache, ngx_oci_entry_t *entry,
    u_char *buf, uint32_t *registry, ngx_str_t *repository,
    ngx_str_t *authorization)
{
    ngx_oci_source_t  *src;

    ngx_oci_index_lock(cache);

    src = entry->source;

    if (src == NULL || (!entry->verified && src->registry != entry->origin)) {
        ngx_oci_index_unlock(cache);
        return NGX_DECLINED;
    }

    *registry = src->registry;
    repository->len = src->repository_len;
    authorization->len = src->authorization_len;

    /* index_source() keeps nothing longer than NGX_OCI_SOURCE_MAX */

    ngx_memcpy(buf, src->data, repository->len + authorization->len);

    ngx_oci_index_unlock(cache);

    repository->data = buf;
    authorization->data = buf + repository->len;

    return NGX_OK;
}
