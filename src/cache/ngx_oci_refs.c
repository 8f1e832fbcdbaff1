
/*
 * Copyright (C) The nginx-oci authors
 *
 * Membership, tags and the callers' rights.  Memory counts: a file is what
 * memory is filled from, and whoever is done with a file compares it with
 * memory and writes or unlinks it again where they differ.  So a removal, a
 * store and a look-up of one reference in any workers end in the order in
 * which they came to the mutex.
 */


#define OPENSSL_SUPPRESS_DEPRECATED

#include "ngx_oci_index.h"
#include <openssl/rand.h>
#include <openssl/sha.h>


#define NGX_OCI_REFS_VERSION    1
#define NGX_OCI_REFS_KEY        32              /* bytes */
#define NGX_OCI_REFS_NAME       (NGX_OCI_REFS_KEY * 2 + 1)
#define NGX_OCI_REFS_TMP        (NGX_OCI_REFS_NAME + 2 * NGX_INT64_LEN       \
                                 + sizeof("..tmp"))

#define NGX_OCI_REFS_KEEP       (7 * 86400)     /* s, unused in memory */
#define NGX_OCI_REFS_FRESH      86400           /* s, then a used file's
                                                   mtime is renewed */
#define NGX_OCI_REFS_AGAIN      60              /* s between equal writes */
#define NGX_OCI_REFS_GONE       120             /* s a removal is known */
#define NGX_OCI_REFS_SLOW       60              /* s, then what the disk said
                                                   may precede a removal */
#define NGX_OCI_REFS_EVICT      32              /* nodes for one */
#define NGX_OCI_REFS_ROOM       128             /* bytes, smallest chunk */

#define NGX_OCI_REFS_HOUR       3600            /* s between expirations, and
                                                   the age of leftovers */
#define NGX_OCI_REFS_PAUSE      5               /* ms between directories */


typedef enum {
    NGX_OCI_REFS_REF = 1,
    NGX_OCI_REFS_RIGHT,
    NGX_OCI_REFS_REMOVED        /* was a reference: the disk isn't asked */
} ngx_oci_refs_type_e;


typedef enum {
    NGX_OCI_REFS_READ = 1,
    NGX_OCI_REFS_WRITE,
    NGX_OCI_REFS_UNLINK
} ngx_oci_refs_op_e;


/* in shared memory; freed by eviction.  Allocated up to media_type and its
   length, rights and removals up to stored only */

typedef struct {
    ngx_rbtree_node_t         node;
    ngx_queue_t               queue;        /* LRU */
    u_char                    key[NGX_OCI_REFS_KEY];
    time_t                    accessed;
    time_t                    checked;      /* of a removal: when */
    uint32_t                  room;         /* bytes it takes */
    u_char                    type;         /* ..._type_e */
    u_char                    alg;
    u_char                    media_type_len;
    time_t                    stored;       /* mtime of the file, about */
    int64_t                   size;
    u_char                    digest[NGX_OCI_DIGEST_BYTES];
    u_char                    media_type[1];
} ngx_oci_refs_node_t;


struct ngx_oci_refs_sh_s {
    uint32_t                  layout;       /* sizes of the structs here */
    ngx_rbtree_t              rbtree;
    ngx_rbtree_node_t         sentinel;
    ngx_queue_t               queue;        /* LRU, most recent first */
    uint64_t                  bytes;        /* of all nodes */
    uint64_t                  max;          /* the rest is the index's */
    time_t                    expired;      /* when files were last looked
                                               through */
    u_char                    salt[NGX_OCI_REFS_KEY];   /* of rights' keys */
};


/* a file, in the host's byte order; there is no padding */

typedef struct {
    u_char                    magic[8];
    uint32_t                  version;
    uint32_t                  crc;          /* of all with crc 0 */
    u_char                    key[NGX_OCI_REFS_KEY];
    uint32_t                  alg;
    uint32_t                  reserved;
    u_char                    digest[NGX_OCI_DIGEST_BYTES];
    int64_t                   size;
    int64_t                   checked;      /* s since the epoch */
    u_char                    media_type_len;
    u_char                    media_type[127];
} ngx_oci_refs_record_t;


/* Owner: its disk task, whose done() frees it */

typedef struct {
    ngx_oci_cache_t          *cache;
    ngx_oci_task_t            task;
    ngx_uint_t                kind;         /* ..._op_e */
    ngx_uint_t                number;       /* of the temporary file */
    u_char                    key[NGX_OCI_REFS_KEY];
    time_t                    started;
    time_t                    mtime;
    ngx_int_t                 rc;
    ngx_uint_t                failed;       /* more than "not there" */
    ngx_oci_refs_record_t     record;
    ngx_oci_ref_t            *ref;          /* the caller's */
    void                    (*handler)(void *data, ngx_int_t rc);
    void                     *data;
} ngx_oci_refs_op_t;


static void ngx_oci_refs_key(u_char *key, u_char kind, u_char *salt,
    ngx_oci_registry_t *registry, ngx_str_t *repository, u_char *p,
    size_t len);
static void ngx_oci_refs_ref_key(u_char *key, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *reference);
static void ngx_oci_refs_right_key(ngx_oci_cache_t *cache, u_char *key,
    ngx_oci_registry_t *registry, ngx_str_t *repository,
    ngx_str_t *authorization);
static void ngx_oci_refs_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);
static void ngx_oci_refs_lock(ngx_oci_cache_t *cache);
static void ngx_oci_refs_unlock(ngx_oci_cache_t *cache);
static ngx_oci_refs_node_t *ngx_oci_refs_find(ngx_oci_cache_t *cache,
    u_char *key);
static ngx_oci_refs_node_t *ngx_oci_refs_put(ngx_oci_cache_t *cache,
    u_char *key, ngx_uint_t type, size_t size);
static ngx_oci_refs_node_t *ngx_oci_refs_put_ref(ngx_oci_cache_t *cache,
    u_char *key, ngx_oci_ref_t *ref, time_t stored);
static void ngx_oci_refs_touch(ngx_oci_cache_t *cache,
    ngx_oci_refs_node_t *node);
static void ngx_oci_refs_delete(ngx_oci_cache_t *cache,
    ngx_oci_refs_node_t *node);
static void ngx_oci_refs_get(ngx_oci_refs_node_t *node, ngx_oci_ref_t *ref);
static ngx_uint_t ngx_oci_refs_equal(ngx_oci_refs_node_t *node,
    ngx_oci_ref_t *ref);

static ngx_int_t ngx_oci_refs_post(ngx_oci_cache_t *cache, u_char *key,
    ngx_uint_t kind, ngx_oci_ref_t *ref,
    void (*handler)(void *data, ngx_int_t rc), void *data);
static void ngx_oci_refs_write(ngx_oci_cache_t *cache, u_char *key,
    ngx_oci_ref_t *ref, ngx_log_t *log);
static void ngx_oci_refs_read_task(void *data, ngx_log_t *log);
static void ngx_oci_refs_read_done(void *data);
static void ngx_oci_refs_write_task(void *data, ngx_log_t *log);
static void ngx_oci_refs_unlink_task(void *data, ngx_log_t *log);
static void ngx_oci_refs_settle(void *data);
static ngx_uint_t ngx_oci_refs_slow(ngx_oci_refs_op_t *op);
static void ngx_oci_refs_encode(ngx_oci_refs_record_t *record, u_char *key,
    ngx_oci_ref_t *ref);
static ngx_int_t ngx_oci_refs_decode(ngx_oci_refs_record_t *record,
    u_char *key, ngx_oci_ref_t *ref);
static uint32_t ngx_oci_refs_record_crc(ngx_oci_refs_record_t *record);
static void ngx_oci_refs_names(u_char *key, char sub[3], char *name);
static int ngx_oci_refs_sub(ngx_oci_cache_t *cache, char *sub);

static void ngx_oci_refs_expire_dir(ngx_oci_cache_t *cache, int dir,
    const char *what);
static void ngx_oci_refs_expire_sub(ngx_oci_cache_t *cache, int fd);
static ngx_uint_t ngx_oci_refs_expirable(const char *name, ngx_uint_t *tmp);


#define ngx_oci_refs_node(n)                                                  \
    ((ngx_oci_refs_node_t *)                                                  \
     ((u_char *) (n) - offsetof(ngx_oci_refs_node_t, node)))

#define ngx_oci_refs_oldest(sh)                                               \
    ngx_queue_data(ngx_queue_last(&(sh)->queue), ngx_oci_refs_node_t, queue)

#define NGX_OCI_REFS_SHORT  offsetof(ngx_oci_refs_node_t, stored)


typedef char ngx_oci_refs_record_is_packed[
                          (sizeof(ngx_oci_refs_record_t) == 264) ? 1 : -1];


static u_char  ngx_oci_refs_magic[8] = { 'n', 'g', 'x', 'o', 'c', 'i', 'r',
                                         '\n' };


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

    return NGX_OK;
}


/* low-level contexts: they need no memory, so that a key can't fail */

static void
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


static void
ngx_oci_refs_ref_key(u_char *key, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *reference)
{
    ngx_oci_refs_key(key, 'r', NULL, registry, repository, reference->data,
                     reference->len);
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

static void
ngx_oci_refs_lock(ngx_oci_cache_t *cache)
{
    ngx_shmtx_lock(&cache->shpool->mutex);
    cache->index->mutating = ngx_pid;
}


static void
ngx_oci_refs_unlock(ngx_oci_cache_t *cache)
{
    cache->index->mutating = 0;
    ngx_shmtx_unlock(&cache->shpool->mutex);
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


static ngx_oci_refs_node_t *
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

    if (node && node->room >= size) {
        node->type = (u_char) type;
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

    node->room = (uint32_t) room;
    node->type = (u_char) type;
    ngx_memcpy(node->key, key, NGX_OCI_REFS_KEY);
    ngx_memcpy(&node->node.key, key, sizeof(ngx_rbtree_key_t));

    ngx_rbtree_insert(&sh->rbtree, &node->node);

    node->accessed = ngx_time();
    ngx_queue_insert_head(&sh->queue, &node->queue);
    sh->bytes += room;

    return node;
}


static ngx_oci_refs_node_t *
ngx_oci_refs_put_ref(ngx_oci_cache_t *cache, u_char *key, ngx_oci_ref_t *ref,
    time_t stored)
{
    ngx_oci_refs_node_t  *node;

    node = ngx_oci_refs_put(cache, key, NGX_OCI_REFS_REF,
                            offsetof(ngx_oci_refs_node_t, media_type)
                            + ref->media_type_len);
    if (node == NULL) {
        return NULL;
    }

    node->alg = (u_char) ref->digest.alg;
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


static void
ngx_oci_refs_delete(ngx_oci_cache_t *cache, ngx_oci_refs_node_t *node)
{
    ngx_queue_remove(&node->queue);
    ngx_rbtree_delete(&cache->refs->rbtree, &node->node);
    cache->refs->bytes -= node->room;
    ngx_slab_free_locked(cache->shpool, node);
}


static void
ngx_oci_refs_get(ngx_oci_refs_node_t *node, ngx_oci_ref_t *ref)
{
    ngx_memzero(ref, sizeof(ngx_oci_ref_t));

    ref->digest.alg = node->alg;
    ref->digest.size = (node->alg == NGX_OCI_SHA256) ? 32 : 64;
    ngx_memcpy(ref->digest.bytes, node->digest, ref->digest.size);
    ref->size = node->size;
    ref->checked = node->checked;
    ref->media_type_len = node->media_type_len;
    ngx_memcpy(ref->media_type, node->media_type, node->media_type_len);
}


static ngx_uint_t
ngx_oci_refs_equal(ngx_oci_refs_node_t *node, ngx_oci_ref_t *ref)
{
    return node->alg == ref->digest.alg
           && node->size == ref->size
           && node->media_type_len == ref->media_type_len
           && ngx_memcmp(node->digest, ref->digest.bytes, ref->digest.size)
              == 0
           && ngx_memcmp(node->media_type, ref->media_type,
                         ref->media_type_len)
              == 0;
}


ngx_int_t
ngx_oci_refs_lookup(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *reference, ngx_oci_ref_t *ref,
    void (*handler)(void *data, ngx_int_t rc), void *data)
{
    u_char                key[NGX_OCI_REFS_KEY];
    ngx_int_t             rc;
    ngx_uint_t            renew;
    ngx_oci_refs_node_t  *node;

    ngx_oci_refs_ref_key(key, registry, repository, reference);

    rc = NGX_AGAIN;
    renew = 0;

    ngx_oci_refs_lock(cache);

    node = ngx_oci_refs_find(cache, key);

    if (node && node->type == NGX_OCI_REFS_REF) {
        rc = NGX_OK;
        ngx_oci_refs_get(node, ref);
        ngx_oci_refs_touch(cache, node);

        /* or the file of a reference that memory answers would expire */

        if (ngx_time() - node->stored > NGX_OCI_REFS_FRESH) {
            node->stored = ngx_time();
            renew = 1;
        }

    } else if (node && ngx_time() - node->checked < NGX_OCI_REFS_GONE) {
        rc = NGX_DECLINED;
    }

    ngx_oci_refs_unlock(cache);

    if (renew) {
        ngx_oci_refs_write(cache, key, ref, ngx_cycle->log);
    }

    if (rc != NGX_AGAIN) {
        return rc;
    }

    if (ngx_oci_refs_post(cache, key, NGX_OCI_REFS_READ, ref, handler, data)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    return NGX_AGAIN;
}


void
ngx_oci_refs_store(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *reference, ngx_oci_ref_t *ref,
    ngx_log_t *log)
{
    u_char                key[NGX_OCI_REFS_KEY];
    time_t                now, stored;
    ngx_oci_refs_node_t  *node;

    if (ref->digest.alg == NGX_OCI_DIGEST_NONE
        || ref->media_type_len > sizeof(ref->media_type))
    {
        return;
    }

    ngx_oci_refs_ref_key(key, registry, repository, reference);

    now = ngx_time();
    stored = 0;

    ngx_oci_refs_lock(cache);

    node = ngx_oci_refs_find(cache, key);

    if (node && node->type == NGX_OCI_REFS_REF
        && ngx_oci_refs_equal(node, ref)
        && now - node->stored < NGX_OCI_REFS_AGAIN && node->stored <= now)
    {
        stored = node->stored;
    }

    (void) ngx_oci_refs_put_ref(cache, key, ref, stored ? stored : now);

    ngx_oci_refs_unlock(cache);

    if (stored == 0) {
        ngx_oci_refs_write(cache, key, ref, log);
    }
}


void
ngx_oci_refs_remove(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_str_t *reference, ngx_log_t *log)
{
    u_char                key[NGX_OCI_REFS_KEY];
    ngx_oci_refs_node_t  *node;

    ngx_oci_refs_ref_key(key, registry, repository, reference);

    ngx_oci_refs_lock(cache);

    node = ngx_oci_refs_put(cache, key, NGX_OCI_REFS_REMOVED,
                            NGX_OCI_REFS_SHORT);
    if (node) {
        node->checked = ngx_time();
    }

    ngx_oci_refs_unlock(cache);

    if (ngx_oci_refs_post(cache, key, NGX_OCI_REFS_UNLINK, NULL, NULL, NULL)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "the file of a reference in \"%V\" was not removed",
                      &cache->path->name);
    }
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


static ngx_int_t
ngx_oci_refs_post(ngx_oci_cache_t *cache, u_char *key, ngx_uint_t kind,
    ngx_oci_ref_t *ref, void (*handler)(void *data, ngx_int_t rc), void *data)
{
    ngx_oci_refs_op_t  *op;

    static ngx_uint_t   number;

    op = ngx_calloc(sizeof(ngx_oci_refs_op_t), ngx_cycle->log);
    if (op == NULL) {
        return NGX_ERROR;
    }

    if (number == 0) {

        /* a process of this id may have left a file */

        number = (ngx_uint_t) ngx_random();
    }

    op->cache = cache;
    op->kind = kind;
    op->number = ++number;
    op->started = ngx_time();
    op->rc = NGX_DECLINED;
    op->handler = handler;
    op->data = data;
    ngx_memcpy(op->key, key, NGX_OCI_REFS_KEY);

    op->task.data = op;
    op->task.done = ngx_oci_refs_settle;

    if (kind == NGX_OCI_REFS_READ) {
        op->ref = ref;
        op->task.run = ngx_oci_refs_read_task;
        op->task.done = ngx_oci_refs_read_done;

    } else if (kind == NGX_OCI_REFS_WRITE) {
        ngx_oci_refs_encode(&op->record, key, ref);
        op->task.run = ngx_oci_refs_write_task;

    } else {
        op->task.run = ngx_oci_refs_unlink_task;
    }

    if (ngx_oci_io_post(cache, &op->task) != NGX_OK) {
        ngx_free(op);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_oci_refs_write(ngx_oci_cache_t *cache, u_char *key, ngx_oci_ref_t *ref,
    ngx_log_t *log)
{
    if (ngx_oci_refs_post(cache, key, NGX_OCI_REFS_WRITE, ref, NULL, NULL)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "a reference was not written to \"%V\"",
                      &cache->path->name);
    }
}


static void
ngx_oci_refs_read_task(void *data, ngx_log_t *log)
{
    ngx_oci_refs_op_t *op = data;

    int          fd;
    char         sub[3], name[NGX_OCI_REFS_NAME];
    ssize_t      n;
    struct stat  sb;

    ngx_oci_refs_names(op->key, sub, name);

    fd = ngx_oci_io_open(op->cache->refs_dir, sub, name,
                         O_RDONLY|O_NONBLOCK);
    if (fd == -1) {
        if (ngx_errno != ENOENT) {
            op->failed = 1;
            ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                          "open() \"%V/refs/%s/%s\" failed",
                          &op->cache->path->name, sub, name);
        }

        return;
    }

    if (fstat(fd, &sb) == -1 || !S_ISREG(sb.st_mode)) {
        close(fd);
        return;
    }

    n = pread(fd, &op->record, sizeof(ngx_oci_refs_record_t), 0);

    if (n == -1) {
        op->failed = 1;
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "pread() \"%V/refs/%s/%s\" failed",
                      &op->cache->path->name, sub, name);
        close(fd);
        return;
    }

    op->mtime = sb.st_mtime;

    if (n == sizeof(ngx_oci_refs_record_t)) {
        op->rc = NGX_OK;

        if (op->started - op->mtime > NGX_OCI_REFS_FRESH
            && futimens(fd, NULL) == 0)
        {
            op->mtime = op->started;
        }
    }

    close(fd);
}


static void
ngx_oci_refs_read_done(void *data)
{
    ngx_oci_refs_op_t *op = data;

    void                 *d;
    ngx_int_t             rc;
    ngx_oci_ref_t         ref;
    ngx_oci_refs_node_t  *node;
    void                (*handler)(void *data, ngx_int_t rc);

    rc = op->rc;

    if (rc == NGX_OK) {
        rc = ngx_oci_refs_decode(&op->record, op->key, &ref);

        if (rc != NGX_OK) {
            ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                          "a file in \"%V/refs\" is damaged, it is ignored",
                          &op->cache->path->name);
        }
    }

    if (op->failed) {
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
    }

    ngx_oci_refs_lock(op->cache);

    /* what came meanwhile counts; a removal is older than the reading if it
       isn't known any more */

    node = ngx_oci_refs_find(op->cache, op->key);

    if (node && node->type == NGX_OCI_REFS_REF) {
        ngx_oci_refs_get(node, &ref);
        rc = NGX_OK;

    } else if (ngx_oci_refs_slow(op)
               || (node && ngx_time() - node->checked < NGX_OCI_REFS_GONE))
    {
        rc = NGX_DECLINED;

    } else if (rc == NGX_OK) {
        (void) ngx_oci_refs_put_ref(op->cache, op->key, &ref, op->mtime);
    }

    ngx_oci_refs_unlock(op->cache);

    if (rc == NGX_OK) {
        *op->ref = ref;
    }

    handler = op->handler;
    d = op->data;
    ngx_free(op);

    handler(d, rc);
}


static void
ngx_oci_refs_write_task(void *data, ngx_log_t *log)
{
    ngx_oci_refs_op_t *op = data;

    int        fd, dir;
    char       sub[3], name[NGX_OCI_REFS_NAME], tmp[NGX_OCI_REFS_TMP];
    ngx_err_t  err;

    ngx_oci_refs_names(op->key, sub, name);
    (void) ngx_sprintf((u_char *) tmp, "%s.%P.%ui.tmp%Z", name, ngx_pid,
                       op->number);

    err = 0;

    fd = ngx_oci_io_open(op->cache->refs_dir, sub, tmp,
                         O_WRONLY|O_CREAT|O_EXCL);
    if (fd == -1) {
        err = ngx_errno;

    } else {
        if (ngx_oci_store_write(fd, (u_char *) &op->record,
                                sizeof(ngx_oci_refs_record_t), 0)
            != NGX_OK)
        {
            err = ngx_errno;
        }

        if (close(fd) == -1 && err == 0) {
            err = ngx_errno;
        }
    }

    dir = ngx_oci_refs_sub(op->cache, sub);

    if (err == 0
        && (dir == -1 || renameat(dir, tmp, dir, name) == -1))
    {
        err = ngx_errno;
    }

    if (err) {
        op->failed = 1;
        ngx_log_error(NGX_LOG_CRIT, log, err,
                      "writing \"%V/refs/%s/%s\" failed",
                      &op->cache->path->name, sub, name);

        /* an older record could be wrong by now */

        if (dir != -1) {
            if (fd != -1) {
                (void) unlinkat(dir, tmp, 0);
            }

            (void) unlinkat(dir, name, 0);
        }

    } else {
        op->rc = NGX_OK;
    }

    if (dir != -1) {
        close(dir);
    }
}


static void
ngx_oci_refs_unlink_task(void *data, ngx_log_t *log)
{
    ngx_oci_refs_op_t *op = data;

    int        dir;
    char       sub[3], name[NGX_OCI_REFS_NAME];
    ngx_err_t  err;

    ngx_oci_refs_names(op->key, sub, name);

    err = 0;
    dir = ngx_oci_refs_sub(op->cache, sub);

    if (dir == -1 || unlinkat(dir, name, 0) == -1) {
        err = ngx_errno;
    }

    if (dir != -1) {
        close(dir);
    }

    if (err && err != ENOENT) {
        op->failed = 1;
        ngx_log_error(NGX_LOG_CRIT, log, err,
                      "unlinkat() \"%V/refs/%s/%s\" failed",
                      &op->cache->path->name, sub, name);
        return;
    }

    op->rc = NGX_OK;
}


/*
 * A file was written or unlinked.  Others may have come to it before or
 * since, in another order than to memory: now it is made what memory says.
 */

static void
ngx_oci_refs_settle(void *data)
{
    ngx_oci_refs_op_t *op = data;

    ngx_uint_t            next;
    ngx_oci_ref_t         ref;
    ngx_oci_refs_node_t  *node;

    next = 0;

    if (op->failed) {
        ngx_oci_stat_add(NGX_OCI_STAT_DISK_ERRORS, 1);
    }

    ngx_oci_refs_lock(op->cache);

    node = ngx_oci_refs_find(op->cache, op->key);

    if (op->rc != NGX_OK) {

        /* not tried again by itself: the disk may be full */

        if (node && node->type == NGX_OCI_REFS_REF) {
            node->stored = 0;
        }

    } else if (node && node->type == NGX_OCI_REFS_REF) {

        if (op->kind == NGX_OCI_REFS_UNLINK
            || ngx_oci_refs_decode(&op->record, op->key, &ref) != NGX_OK
            || !ngx_oci_refs_equal(node, &ref))
        {
            ngx_oci_refs_get(node, &ref);
            node->stored = ngx_time();
            next = NGX_OCI_REFS_WRITE;
        }

    } else if (op->kind == NGX_OCI_REFS_WRITE
               && (node || ngx_oci_refs_slow(op)))
    {
        next = NGX_OCI_REFS_UNLINK;
    }

    ngx_oci_refs_unlock(op->cache);

    if (next
        && ngx_oci_refs_post(op->cache, op->key, next, &ref, NULL, NULL)
           != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "the file of a reference in \"%V\" is out of date",
                      &op->cache->path->name);
    }

    ngx_free(op);
}


/* the clock may have been set meanwhile */

static ngx_uint_t
ngx_oci_refs_slow(ngx_oci_refs_op_t *op)
{
    return ngx_time() - op->started >= NGX_OCI_REFS_SLOW
           || ngx_time() < op->started;
}


static void
ngx_oci_refs_encode(ngx_oci_refs_record_t *record, u_char *key,
    ngx_oci_ref_t *ref)
{
    ngx_memzero(record, sizeof(ngx_oci_refs_record_t));

    ngx_memcpy(record->magic, ngx_oci_refs_magic, 8);
    record->version = NGX_OCI_REFS_VERSION;
    ngx_memcpy(record->key, key, NGX_OCI_REFS_KEY);
    record->alg = (uint32_t) ref->digest.alg;
    ngx_memcpy(record->digest, ref->digest.bytes, ref->digest.size);
    record->size = ref->size;
    record->checked = ref->checked;
    record->media_type_len = ref->media_type_len;
    ngx_memcpy(record->media_type, ref->media_type, ref->media_type_len);

    record->crc = ngx_oci_refs_record_crc(record);
}


static ngx_int_t
ngx_oci_refs_decode(ngx_oci_refs_record_t *record, u_char *key,
    ngx_oci_ref_t *ref)
{
    if (ngx_memcmp(record->magic, ngx_oci_refs_magic, 8) != 0
        || record->version != NGX_OCI_REFS_VERSION
        || record->crc != ngx_oci_refs_record_crc(record)
        || ngx_memcmp(record->key, key, NGX_OCI_REFS_KEY) != 0
        || (record->alg != NGX_OCI_SHA256 && record->alg != NGX_OCI_SHA512)
        || record->size < -1
        || record->media_type_len > sizeof(ref->media_type))
    {
        return NGX_DECLINED;
    }

    ngx_memzero(ref, sizeof(ngx_oci_ref_t));

    ref->digest.alg = record->alg;
    ref->digest.size = (record->alg == NGX_OCI_SHA256) ? 32 : 64;
    ngx_memcpy(ref->digest.bytes, record->digest, ref->digest.size);
    ref->size = (off_t) record->size;
    ref->checked = (time_t) ngx_min(record->checked, (int64_t) ngx_time());
    ref->media_type_len = record->media_type_len;
    ngx_memcpy(ref->media_type, record->media_type, ref->media_type_len);

    return NGX_OK;
}


static uint32_t
ngx_oci_refs_record_crc(ngx_oci_refs_record_t *record)
{
    ngx_oci_refs_record_t  copy;

    ngx_memcpy(&copy, record, sizeof(ngx_oci_refs_record_t));
    copy.crc = 0;

    return ngx_oci_crc32c(0, (u_char *) &copy, sizeof(copy));
}


static void
ngx_oci_refs_names(u_char *key, char sub[3], char *name)
{
    u_char  *p;

    p = ngx_hex_dump((u_char *) name, key, NGX_OCI_REFS_KEY);
    *p = '\0';

    sub[0] = name[0];
    sub[1] = name[1];
    sub[2] = '\0';
}


static int
ngx_oci_refs_sub(ngx_oci_cache_t *cache, char *sub)
{
    return openat(cache->refs_dir, sub,
                  O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);
}


void
ngx_oci_refs_expire(ngx_oci_cache_t *cache)
{
    time_t      now;
    ngx_uint_t  due;

    /* once an hour, whichever process manages the zone */

    due = 0;
    now = ngx_time();

    ngx_oci_refs_lock(cache);

    if (now - cache->refs->expired >= NGX_OCI_REFS_HOUR
        || now < cache->refs->expired)
    {
        cache->refs->expired = now;
        due = 1;
    }

    ngx_oci_refs_unlock(cache);

    if (due) {
        ngx_oci_refs_expire_dir(cache, cache->refs_dir, "refs");
        ngx_oci_refs_expire_dir(cache, cache->manifests, "manifests");
    }
}


static void
ngx_oci_refs_expire_dir(ngx_oci_cache_t *cache, int dir, const char *what)
{
    int             fd, sub;
    DIR            *d;
    struct dirent  *de;

    /* a descriptor with a place of its own */

    fd = openat(dir, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    d = (fd == -1) ? NULL : fdopendir(fd);

    if (d == NULL) {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                      "opening the directory \"%V/%s\" failed",
                      &cache->path->name, what);

        if (fd != -1) {
            close(fd);
        }

        return;
    }

    for ( ;; ) {
        de = readdir(d);

        if (de == NULL || ngx_quit || ngx_terminate) {
            break;
        }

        if (ngx_strlen(de->d_name) != 2
            || ngx_hextoi((u_char *) de->d_name, 2) == NGX_ERROR)
        {
            continue;
        }

        sub = openat(fd, de->d_name,
                     O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);

        if (sub != -1) {
            ngx_oci_refs_expire_sub(cache, sub);
            ngx_msleep(NGX_OCI_REFS_PAUSE);
        }
    }

    closedir(d);
    ngx_time_update();
}


/* closes fd */

static void
ngx_oci_refs_expire_sub(ngx_oci_cache_t *cache, int fd)
{
    DIR            *d;
    time_t          now, used;
    ngx_uint_t      tmp;
    struct stat     sb;
    struct dirent  *de;

    d = fdopendir(fd);
    if (d == NULL) {
        close(fd);
        return;
    }

    now = ngx_time();

    for ( ;; ) {
        de = readdir(d);

        if (de == NULL || ngx_quit || ngx_terminate) {
            break;
        }

        if (!ngx_oci_refs_expirable(de->d_name, &tmp)
            || fstatat(fd, de->d_name, &sb, AT_SYMLINK_NOFOLLOW) == -1
            || !S_ISREG(sb.st_mode))
        {
            continue;
        }

        used = ngx_max(sb.st_atime, sb.st_mtime);

        if (now - used <= (tmp ? NGX_OCI_REFS_HOUR : cache->inactive)) {
            continue;
        }

        if (unlinkat(fd, de->d_name, 0) == -1 && ngx_errno != ENOENT) {
            ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, ngx_errno,
                          "unlinkat() \"%V/.../%s\" failed",
                          &cache->path->name, de->d_name);
            break;
        }
    }

    closedir(d);
}


/* hex digits of a digest, alone or before a "."; *tmp: a leftover's name */

static ngx_uint_t
ngx_oci_refs_expirable(const char *name, ngx_uint_t *tmp)
{
    size_t  n, len;

    for (n = 0; name[n]; n++) {
        if (!((name[n] >= '0' && name[n] <= '9')
              || (name[n] >= 'a' && name[n] <= 'f')))
        {
            break;
        }
    }

    if ((n != 64 && n != 128) || (name[n] != '\0' && name[n] != '.')) {
        return 0;
    }

    len = ngx_strlen(name);

    *tmp = len - n >= sizeof(".tmp") - 1
           && ngx_strcmp(name + len - (sizeof(".tmp") - 1), ".tmp") == 0;

    return 1;
}
