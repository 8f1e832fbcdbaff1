
/*
 * Copyright (C) The nginx-oci authors
 *
 * Membership, tags and the callers' rights.  Memory counts: a file is what
 * memory is filled from, and whoever is done with a file compares it with
 * memory and writes or unlinks it again where they differ.  So a removal, a
 * store and a look-up of one reference in any workers end in the order in
 * which they came to the mutex.
 *
 * A purge has to hold against what others learned before it and are about to
 * store: they say since when, and a count per repository tells whether that
 * is too old.  All of a repository is purged without knowing what there is:
 * its references' files are good only as long as the repository's own file
 * has their number, and that file goes; nodes have the number of an epoch,
 * which is raised.  A node whose epoch has passed, perhaps only for another
 * repository's sake that shares the count, is as good as none: the disk tells.
 */


#define OPENSSL_SUPPRESS_DEPRECATED

#include "ngx_oci_refs.h"
#include "ngx_oci_negative.h"
#include "ngx_oci_sizes.h"
#include <openssl/rand.h>
#include <openssl/sha.h>


static void ngx_oci_refs_right_key(ngx_oci_cache_t *cache, u_char *key,
    ngx_oci_registry_t *registry, ngx_str_t *repository,
    ngx_str_t *authorization);
static void ngx_oci_refs_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);
static ngx_oci_refs_node_t *ngx_oci_refs_put(ngx_oci_cache_t *cache,
    u_char *key, ngx_uint_t type, size_t size);
static void ngx_oci_refs_purged(ngx_oci_refs_mark_t *mark, u_char *key);
static ngx_oci_refs_node_t *ngx_oci_refs_gone(ngx_oci_cache_t *cache,
    ngx_oci_refs_place_t *place);
static void ngx_oci_refs_touch(ngx_oci_cache_t *cache,
    ngx_oci_refs_node_t *node);


#define ngx_oci_refs_node(n)                                                  \
    ((ngx_oci_refs_node_t *)                                                  \
     ((u_char *) (n) - offsetof(ngx_oci_refs_node_t, node)))

#define ngx_oci_refs_oldest(sh)                                               \
    ngx_queue_data(ngx_queue_last(&(sh)->queue), ngx_oci_refs_node_t, queue)

#define NGX_OCI_REFS_SHORT  offsetof(ngx_oci_refs_node_t, stored)


ngx_int_t
ngx_oci_refs_init(ngx_oci_cache_t *cache, ngx_uint_t existing)
{
    uint32_t            layout;
    ngx_oci_refs_sh_t  *sh;

    layout = sizeof(ngx_oci_refs_sh_t) * 65536 + sizeof(ngx_oci_refs_node_t);

    if (existing) {
        if (cache->refs == NULL || cache->refs->layout != layout) {
            ngx_log_error(NGX_LOG_EMERG, cache->zone->shm.log, 0,
                          "oci cache zone \"%V\" was made by another build",
                          &cache->zone->shm.name);
            return NGX_ERROR;
        }

        return NGX_OK;
    }

    sh = ngx_slab_calloc(cache->shpool, sizeof(ngx_oci_refs_sh_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    if (RAND_bytes(sh->salt, sizeof(sh->salt)) != 1) {
        ngx_log_error(NGX_LOG_EMERG, cache->zone->shm.log, 0,
                      "RAND_bytes() failed");
        return NGX_ERROR;
    }

    sh->layout = layout;
    sh->max = cache->zone->shm.size / 2;
    ngx_rbtree_init(&sh->rbtree, &sh->sentinel, ngx_oci_refs_insert);
    ngx_queue_init(&sh->queue);

    cache->refs = sh;

    if (ngx_oci_sizes_init(cache) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_oci_negative_init(cache);
}


/* low-level contexts: they need no memory, so that a key can't fail */

void
ngx_oci_refs_key(u_char *key, u_char kind, u_char *salt,
    ngx_oci_registry_t *registry, ngx_str_t *repository, u_char *p,
    size_t len)
{
    SHA256_CTX  sha;

    (void) SHA256_Init(&sha);
    (void) SHA256_Update(&sha, &kind, 1);

    if (salt) {
        (void) SHA256_Update(&sha, salt, NGX_OCI_REFS_KEY);
    }

    (void) SHA256_Update(&sha, registry->name.data, registry->name.len);
    (void) SHA256_Update(&sha, "", 1);
    (void) SHA256_Update(&sha, repository->data, repository->len);
    (void) SHA256_Update(&sha, "", 1);
    (void) SHA256_Update(&sha, p, len);
    (void) SHA256_Final(key, &sha);
}


void
ngx_oci_refs_place(ngx_oci_refs_place_t *place, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository, ngx_str_t *reference)
{
    ngx_memzero(&place->seen, sizeof(ngx_oci_refs_mark_t));

    ngx_oci_refs_key(place->key, kind, NULL, registry, repository,
                     reference->data, reference->len);

    ngx_oci_refs_key(place->repo, 'p', NULL, registry, repository,
                     (u_char *) "", 0);
}


static void
ngx_oci_refs_right_key(ngx_oci_cache_t *cache, u_char *key,
    ngx_oci_registry_t *registry, ngx_str_t *repository,
    ngx_str_t *authorization)
{
    u_char      md[NGX_OCI_REFS_KEY];
    SHA256_CTX  sha;

    (void) SHA256_Init(&sha);
    (void) SHA256_Update(&sha, authorization->data, authorization->len);
    (void) SHA256_Final(md, &sha);

    ngx_oci_refs_key(key, 'a', cache->refs->salt, registry, repository, md,
                     sizeof(md));

    ngx_explicit_memzero(md, sizeof(md));
    ngx_explicit_memzero(&sha, sizeof(sha));
}


/* the zone's mutex is the index's */

void
ngx_oci_refs_lock(ngx_oci_cache_t *cache)
{
    ngx_shmtx_lock(&cache->shpool->mutex);

    if (cache->index->mutating) {
        cache->index->broken = 1;
    }

    cache->index->mutating = ngx_pid;
}


void
ngx_oci_refs_unlock(ngx_oci_cache_t *cache)
{
    cache->index->mutating = 0;
    ngx_shmtx_unlock(&cache->shpool->mutex);
}


ngx_oci_refs_mark_t *
ngx_oci_refs_mark(ngx_oci_cache_t *cache, ngx_oci_refs_place_t *place)
{
    u_char  key[2 * NGX_OCI_REFS_KEY];

    ngx_memcpy(key, cache->refs->salt, NGX_OCI_REFS_KEY);
    ngx_memcpy(key + NGX_OCI_REFS_KEY, place->repo, NGX_OCI_REFS_KEY);

    return &cache->refs->marks[ngx_murmur_hash2(key, sizeof(key))
                               % NGX_OCI_REFS_MARKS];
}


static void
ngx_oci_refs_insert(ngx_rbtree_node_t *temp, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel)
{
    ngx_int_t            rc;
    ngx_rbtree_node_t  **p;

    for ( ;; ) {

        if (node->key != temp->key) {
            p = (node->key < temp->key) ? &temp->left : &temp->right;

        } else {
            rc = ngx_memcmp(ngx_oci_refs_node(node)->key,
                            ngx_oci_refs_node(temp)->key, NGX_OCI_REFS_KEY);

            p = (rc < 0) ? &temp->left : &temp->right;
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


ngx_oci_refs_node_t *
ngx_oci_refs_find(ngx_oci_cache_t *cache, u_char *key)
{
    ngx_int_t             rc;
    ngx_rbtree_key_t      k;
    ngx_rbtree_node_t    *node, *sentinel;
    ngx_oci_refs_node_t  *rn;

    ngx_memcpy(&k, key, sizeof(ngx_rbtree_key_t));

    node = cache->refs->rbtree.root;
    sentinel = cache->refs->rbtree.sentinel;

    while (node != sentinel) {

        if (k != node->key) {
            node = (k < node->key) ? node->left : node->right;
            continue;
        }

        rn = ngx_oci_refs_node(node);

        rc = ngx_memcmp(key, rn->key, NGX_OCI_REFS_KEY);

        if (rc == 0) {
            return rn;
        }

        node = (rc < 0) ? node->left : node->right;
    }

    return NULL;
}


/*
 * The node of a key, made or changed to be of this type, as the most recent
 * one.  NULL: no memory; then there is no node of this key any more.
 */

static ngx_oci_refs_node_t *
ngx_oci_refs_put(ngx_oci_cache_t *cache, u_char *key, ngx_uint_t type,
    size_t size)
{
    size_t                room;
    ngx_uint_t            tries;
    ngx_oci_refs_sh_t    *sh;
    ngx_oci_refs_node_t  *node, *old;

    sh = cache->refs;
    node = ngx_oci_refs_find(cache, key);

    if (node && node->room * NGX_OCI_REFS_ROOM >= size) {
        node->type = type;
        ngx_oci_refs_touch(cache, node);
        return node;
    }

    if (node) {
        ngx_oci_refs_delete(cache, node);
    }

    for (room = NGX_OCI_REFS_ROOM; room < size; room <<= 1) { /* void */ }

    for (tries = 0; /* void */; tries++) {

        node = NULL;

        if (sh->bytes + room <= sh->max) {
            node = ngx_slab_calloc_locked(cache->shpool, room);
        }

        if (node) {
            break;
        }

        if (tries == NGX_OCI_REFS_EVICT || ngx_queue_empty(&sh->queue)) {
            return NULL;
        }

        ngx_oci_refs_delete(cache, ngx_oci_refs_oldest(sh));
    }

    /* one comes, two that nobody used for long go */

    for (tries = 0; tries < 2 && !ngx_queue_empty(&sh->queue); tries++) {

        old = ngx_oci_refs_oldest(sh);

        if (ngx_time() - old->accessed <= NGX_OCI_REFS_KEEP) {
            break;
        }

        ngx_oci_refs_delete(cache, old);
    }

    node->room = room / NGX_OCI_REFS_ROOM;
    node->type = type;
    ngx_memcpy(node->key, key, NGX_OCI_REFS_KEY);
    ngx_memcpy(&node->node.key, key, sizeof(ngx_rbtree_key_t));

    ngx_rbtree_insert(&sh->rbtree, &node->node);

    node->accessed = ngx_time();
    ngx_queue_insert_head(&sh->queue, &node->queue);
    sh->bytes += room;

    return node;
}


ngx_oci_refs_node_t *
ngx_oci_refs_put_ref(ngx_oci_cache_t *cache, ngx_oci_refs_place_t *place,
    ngx_oci_ref_t *ref, time_t stored)
{
    ngx_oci_refs_node_t  *node;

    node = ngx_oci_refs_put(cache, place->key, NGX_OCI_REFS_REF,
                            offsetof(ngx_oci_refs_node_t, media_type)
                            + ref->media_type_len);
    if (node == NULL) {
        return NULL;
    }

    node->epoch = ngx_oci_refs_mark(cache, place)->epoch;
    node->alg = ref->digest.alg;
    node->sent = ref->sent;
    node->size = ref->size;
    node->checked = ref->checked;
    node->stored = stored;
    ngx_memcpy(node->digest, ref->digest.bytes, ref->digest.size);
    node->media_type_len = ref->media_type_len;
    ngx_memcpy(node->media_type, ref->media_type, ref->media_type_len);

    return node;
}


static void
ngx_oci_refs_touch(ngx_oci_cache_t *cache, ngx_oci_refs_node_t *node)
{
    node->accessed = ngx_time();
    ngx_queue_remove(&node->queue);
    ngx_queue_insert_head(&cache->refs->queue, &node->queue);
}


void
ngx_oci_refs_delete(ngx_oci_cache_t *cache, ngx_oci_refs_node_t *node)
{
    ngx_queue_remove(&node->queue);
    ngx_rbtree_delete(&cache->refs->rbtree, &node->node);
    cache->refs->bytes -= node->room * NGX_OCI_REFS_ROOM;
    ngx_slab_free_locked(cache->shpool, node);
}


void
ngx_oci_refs_get(ngx_oci_refs_node_t *node, ngx_oci_ref_t *ref)
{
    ngx_memzero(ref, sizeof(ngx_oci_ref_t));

    ref->digest.alg = node->alg;
    ref->digest.size = (node->alg == NGX_OCI_SHA256) ? 32 : 64;
    ngx_memcpy(ref->digest.bytes, node->digest, ref->digest.size);
    ref->size = node->size;
    ref->checked = node->checked;
    ref->sent = node->sent;
    ref->media_type_len = node->media_type_len;
    ngx_memcpy(ref->media_type, node->media_type, node->media_type_len);
}


ngx_uint_t
ngx_oci_refs_equal(ngx_oci_refs_node_t *node, ngx_oci_ref_t *ref)
{
    return node->alg == ref->digest.alg
           && node->size == ref->size
           && node->sent == ref->sent
           && node->media_type_len == ref->media_type_len
           && ngx_memcmp(node->digest, ref->digest.bytes, ref->digest.size)
              == 0
           && ngx_memcmp(node->media_type, ref->media_type,
                         ref->media_type_len)
              == 0;
}


ngx_int_t
ngx_oci_refs_lookup(ngx_oci_cache_t *cache, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository, ngx_str_t *reference,
    ngx_oci_ref_t *ref, void (*handler)(void *data, ngx_int_t rc), void *data)
{
    ngx_int_t              rc;
    ngx_uint_t             renew;
    ngx_oci_refs_node_t   *node;
    ngx_oci_refs_place_t   place;

    ngx_oci_refs_place(&place, kind, registry, repository, reference);

    rc = NGX_AGAIN;
    renew = 0;

    ngx_oci_refs_lock(cache);

    place.seen = *ngx_oci_refs_mark(cache, &place);
    node = ngx_oci_refs_find(cache, place.key);

    if (node && ngx_oci_refs_live(cache, &place, node)) {
        rc = NGX_OK;
        ngx_oci_refs_get(node, ref);
        ngx_oci_refs_touch(cache, node);

        /* or the file of a reference that memory answers would expire */

        if (ngx_time() - node->stored > NGX_OCI_REFS_FRESH) {
            node->stored = ngx_time();
            renew = 1;
        }

    } else if (node && node->type == NGX_OCI_REFS_REMOVED
               && ngx_time() - node->checked < NGX_OCI_REFS_GONE)
    {
        rc = NGX_DECLINED;
    }

    ngx_oci_refs_unlock(cache);

    if (renew) {
        ngx_oci_refs_write(cache, &place, ref, ngx_cycle->log);
    }

    if (rc != NGX_AGAIN) {
        return rc;
    }

    if (ngx_oci_refs_post(cache, &place, NGX_OCI_REFS_READ, ref, NGX_DECLINED,
                          handler, data)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    return NGX_AGAIN;
}


uint32_t
ngx_oci_refs_changes(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository)
{
    ngx_str_t             none;
    ngx_oci_refs_place_t  place;

    ngx_str_set(&none, "");

    ngx_oci_refs_place(&place, NGX_OCI_REFS_MANIFEST, registry, repository,
                       &none);

    return __atomic_load_n(&ngx_oci_refs_mark(cache, &place)->changes,
                           __ATOMIC_ACQUIRE);
}


void
ngx_oci_refs_store(ngx_oci_cache_t *cache, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository, ngx_str_t *reference,
    ngx_oci_ref_t *ref, uint32_t since, ngx_log_t *log)
{
    time_t                 now, stored;
    ngx_oci_refs_node_t   *node;
    ngx_oci_refs_place_t   place;

    if (ref->digest.alg == NGX_OCI_DIGEST_NONE
        || ref->media_type_len > sizeof(ref->media_type))
    {
        return;
    }

    ngx_oci_refs_place(&place, kind, registry, repository, reference);

    now = ngx_time();
    stored = 0;

    ngx_oci_refs_lock(cache);

    place.seen = *ngx_oci_refs_mark(cache, &place);

    if (place.seen.changes != since) {

        /* it may be what was taken back meanwhile */

        ngx_oci_refs_unlock(cache);
        return;
    }

    node = ngx_oci_refs_find(cache, place.key);

    if (node && !ngx_oci_refs_live(cache, &place, node)) {
        node = NULL;
    }

    if (node && node->sent
        && node->alg == ref->digest.alg
        && ngx_memcmp(node->digest, ref->digest.bytes, ref->digest.size) == 0)
    {
        ref->sent = 1;
    }

    if (node
        && ngx_oci_refs_equal(node, ref)
        && now - node->stored < NGX_OCI_REFS_AGAIN && node->stored <= now)
    {
        stored = node->stored;
    }

    (void) ngx_oci_refs_put_ref(cache, &place, ref, stored ? stored : now);

    ngx_oci_refs_unlock(cache);

    if (stored == 0) {
        ngx_oci_refs_write(cache, &place, ref, log);
    }
}


void
ngx_oci_refs_seen(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_oci_refs_mark_t *seen)
{
    ngx_str_t             none;
    ngx_oci_refs_place_t  place;

    ngx_str_set(&none, "");

    ngx_oci_refs_place(&place, NGX_OCI_REFS_MANIFEST, registry, repository,
                       &none);

    ngx_oci_refs_lock(cache);
    *seen = *ngx_oci_refs_mark(cache, &place);
    ngx_oci_refs_unlock(cache);
}


/*
 * What a push made true is not undone by what was taken back of others, nor by
 * the end of its own removal of what was there before.
 */

void
ngx_oci_refs_pushed(ngx_oci_cache_t *cache, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository, ngx_str_t *reference,
    ngx_oci_ref_t *ref, ngx_oci_refs_mark_t *seen, ngx_log_t *log)
{
    ngx_oci_refs_node_t   *node;
    ngx_oci_refs_place_t   place;

    ngx_oci_refs_place(&place, kind, registry, repository, reference);

    ngx_oci_refs_lock(cache);

    place.seen = *ngx_oci_refs_mark(cache, &place);
    node = ngx_oci_refs_find(cache, place.key);

    if (place.seen.epoch != seen->epoch
        || (node && node->type == NGX_OCI_REFS_REMOVED
            && (int32_t) (node->epoch - seen->changes) > 0)
        || (node && ngx_oci_refs_live(cache, &place, node)
            && (node->alg != ref->digest.alg
                || ngx_memcmp(node->digest, ref->digest.bytes,
                              ref->digest.size)
                   != 0)))
    {
        /* it was removed, or leads somewhere else, since then */

        ngx_oci_refs_unlock(cache);
        return;
    }

    (void) ngx_oci_refs_put_ref(cache, &place, ref, ngx_time());

    ngx_oci_refs_unlock(cache);

    ngx_oci_refs_write(cache, &place, ref, log);
}


void
ngx_oci_refs_remove(ngx_oci_cache_t *cache, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository, ngx_str_t *reference,
    ngx_log_t *log)
{
    ngx_oci_refs_node_t   *node;
    ngx_oci_refs_place_t   place;

    ngx_oci_refs_place(&place, kind, registry, repository, reference);

    ngx_oci_refs_lock(cache);

    place.seen = *ngx_oci_refs_mark(cache, &place);

    /* whoever asked looked it up before: what is on disk is in memory.  What
       is not must not cost a place for every digest that somebody makes up */

    node = ngx_oci_refs_find(cache, place.key);

    if (node == NULL || node->type != NGX_OCI_REFS_REF) {
        ngx_oci_refs_unlock(cache);
        return;
    }

    (void) ngx_oci_refs_gone(cache, &place);

    ngx_oci_refs_unlock(cache);

    if (ngx_oci_refs_post(cache, &place, NGX_OCI_REFS_UNLINK, NULL,
                          NGX_DECLINED, NULL, NULL)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "the file of a reference in \"%V\" was not removed",
                      &cache->path->name);
    }
}


/* one of them is known by its key, more are all of those with this mark */

static void
ngx_oci_refs_purged(ngx_oci_refs_mark_t *mark, u_char *key)
{
    uint32_t  reference;

    ngx_memcpy(&reference, key, sizeof(uint32_t));

    if (ngx_time() - (time_t) mark->purged <= NGX_OCI_REFS_GONE
        && mark->reference != reference)
    {
        reference = 0;
    }

    mark->purged = (uint32_t) ngx_time();
    mark->reference = reference;
}


static ngx_oci_refs_node_t *
ngx_oci_refs_gone(ngx_oci_cache_t *cache, ngx_oci_refs_place_t *place)
{
    ngx_oci_refs_node_t  *node;

    node = ngx_oci_refs_put(cache, place->key, NGX_OCI_REFS_REMOVED,
                            NGX_OCI_REFS_SHORT);
    if (node) {
        node->checked = ngx_time();
        node->epoch = ngx_oci_refs_mark(cache, place)->changes;
    }

    return node;
}


ngx_int_t
ngx_oci_refs_purge(ngx_oci_cache_t *cache, ngx_uint_t kind,
    ngx_oci_registry_t *registry, ngx_str_t *repository, ngx_str_t *reference,
    void (*handler)(void *data, ngx_int_t rc), void *data)
{
    ngx_int_t              rc;
    ngx_uint_t             op;
    ngx_str_t              none;
    ngx_oci_refs_mark_t   *mark;
    ngx_oci_refs_node_t   *node;
    ngx_oci_refs_place_t   place;

    ngx_str_set(&none, "");

    ngx_oci_refs_place(&place, kind, registry, repository,
                       reference ? reference : &none);

    rc = NGX_DECLINED;
    op = reference ? NGX_OCI_REFS_PURGE : NGX_OCI_REFS_VOID;

    ngx_oci_refs_lock(cache);

    mark = ngx_oci_refs_mark(cache, &place);
    mark->changes++;

    if (reference == NULL) {
        mark->epoch++;

    } else {
        ngx_oci_refs_purged(mark, place.key);
        node = ngx_oci_refs_find(cache, place.key);

        if (node && ngx_oci_refs_live(cache, &place, node)) {
            rc = NGX_OK;
        }

        if (ngx_oci_refs_gone(cache, &place) == NULL) {

            /* nothing would keep the others from the file */

            ngx_oci_refs_unlock(cache);
            return NGX_ERROR;
        }
    }

    place.seen = *mark;

    ngx_oci_refs_unlock(cache);

    return ngx_oci_refs_post(cache, &place, op, NULL, rc, handler, data);
}


ngx_int_t
ngx_oci_refs_right(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *authorization, time_t *age)
{
    u_char                key[NGX_OCI_REFS_KEY];
    ngx_int_t             rc;
    ngx_oci_refs_node_t  *node;

    ngx_oci_refs_right_key(cache, key, registry, repository, authorization);

    rc = NGX_DECLINED;

    ngx_oci_refs_lock(cache);

    node = ngx_oci_refs_find(cache, key);

    if (node && node->type == NGX_OCI_REFS_RIGHT) {
        rc = NGX_OK;
        *age = ngx_max(ngx_time() - node->checked, 0);
        ngx_oci_refs_touch(cache, node);
    }

    ngx_oci_refs_unlock(cache);

    return rc;
}


void
ngx_oci_refs_grant(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *authorization)
{
    u_char                key[NGX_OCI_REFS_KEY];
    ngx_oci_refs_node_t  *node;

    ngx_oci_refs_right_key(cache, key, registry, repository, authorization);

    ngx_oci_refs_lock(cache);

    node = ngx_oci_refs_put(cache, key, NGX_OCI_REFS_RIGHT,
                            NGX_OCI_REFS_SHORT);
    if (node) {
        node->checked = ngx_time();
    }

    ngx_oci_refs_unlock(cache);
}


void
ngx_oci_refs_revoke(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *authorization)
{
    u_char                key[NGX_OCI_REFS_KEY];
    ngx_oci_refs_node_t  *node;

    ngx_oci_refs_right_key(cache, key, registry, repository, authorization);

    ngx_oci_refs_lock(cache);

    node = ngx_oci_refs_find(cache, key);

    if (node) {
        ngx_oci_refs_delete(cache, node);
    }

    ngx_oci_refs_unlock(cache);
}
