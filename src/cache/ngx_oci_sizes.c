
/*
 * Copyright (C) The nginx-oci authors
 */


#include "ngx_oci_sizes.h"
#include "ngx_oci_descriptor.h"
#include "ngx_oci_refs.h"


#define NGX_OCI_SIZES_WAYS   4          /* cells where a key may be */
#define NGX_OCI_SIZES_SHARE  64         /* a part of the zone */
#define NGX_OCI_SIZES_SETS   16384      /* at most; a power of two */
#define NGX_OCI_SIZES_LOCK   256        /* cells under one lock */
#define NGX_OCI_SIZES_DOUBT  60         /* s that what proved wrong is not
                                           believed */


typedef struct {
    uint64_t                key;        /* of registry, repository, digest */
    int64_t                 size;       /* bytes; 0: the cell is empty */
    uint32_t                used;       /* when, s */
    uint32_t                doubted;    /* likewise; 0: it is not */
} ngx_oci_sizes_cell_t;


struct ngx_oci_sizes_sh_s {
    ngx_uint_t              sets;       /* a power of two */
    ngx_oci_sizes_cell_t    cells[1];
};


typedef struct {
    ngx_oci_size_t         *elts;
    ngx_uint_t              n;
    ngx_uint_t              room;
} ngx_oci_sizes_list_t;


static ngx_int_t ngx_oci_sizes_add(void *data, ngx_oci_digest_t *digest,
    off_t size);
static uint64_t ngx_oci_sizes_short(ngx_oci_digest_t *digest);
static uint64_t ngx_oci_sizes_base(ngx_oci_cache_t *cache,
    ngx_oci_registry_t *registry, ngx_str_t *repository);
static ngx_oci_sizes_cell_t *ngx_oci_sizes_cell(ngx_oci_sizes_sh_t *sh,
    uint64_t key, ngx_oci_sizes_cell_t **oldest);


ngx_int_t
ngx_oci_sizes_init(ngx_oci_cache_t *cache)
{
    size_t               room;
    ngx_uint_t           sets;
    ngx_oci_sizes_sh_t  *sh;

    room = NGX_OCI_SIZES_WAYS * sizeof(ngx_oci_sizes_cell_t);

    for (sets = 1; sets < NGX_OCI_SIZES_SETS; sets *= 2) {
        if (sets * 2 * room > cache->zone->shm.size / NGX_OCI_SIZES_SHARE) {
            break;
        }
    }

    sh = ngx_slab_calloc(cache->shpool,
                         offsetof(ngx_oci_sizes_sh_t, cells) + sets * room);
    if (sh == NULL) {
        return NGX_ERROR;
    }

    sh->sets = sets;
    cache->refs->sizes = sh;

    return NGX_OK;
}


ngx_oci_size_t *
ngx_oci_sizes_list(u_char *p, size_t len, ngx_uint_t *n)
{
    ngx_oci_sizes_list_t  list;

    ngx_memzero(&list, sizeof(ngx_oci_sizes_list_t));

    /* of a broken text, what stands before that */

    (void) ngx_oci_descriptors(p, len, ngx_oci_sizes_add, &list);

    *n = list.n;

    return list.elts;
}


static ngx_int_t
ngx_oci_sizes_add(void *data, ngx_oci_digest_t *digest, off_t size)
{
    ngx_oci_sizes_list_t *list = data;

    ngx_uint_t       room;
    ngx_oci_size_t  *elts;

    if (list->n == list->room) {

        if (list->n == NGX_OCI_SIZES_MAX) {
            return NGX_DONE;
        }

        room = list->room ? list->room * 2 : 16;

        elts = realloc(list->elts, room * sizeof(ngx_oci_size_t));
        if (elts == NULL) {
            return NGX_DONE;
        }

        list->elts = elts;
        list->room = room;
    }

    list->elts[list->n].digest = ngx_oci_sizes_short(digest);
    list->elts[list->n].size = size;
    list->n++;

    return NGX_OK;
}


static uint64_t
ngx_oci_sizes_short(ngx_oci_digest_t *digest)
{
    uint64_t  n;

    ngx_memcpy(&n, digest->bytes, sizeof(uint64_t));

    return (digest->alg == NGX_OCI_SHA256) ? n : ~n;
}


/* salted, so that nobody who chooses digests knows whose place they take */

static uint64_t
ngx_oci_sizes_base(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository)
{
    u_char    key[NGX_OCI_REFS_KEY];
    uint64_t  base;

    ngx_oci_refs_key(key, 's', cache->refs->salt, registry, repository,
                     (u_char *) "", 0);

    ngx_memcpy(&base, key, sizeof(uint64_t));

    return base;
}


/* NULL: not there, *oldest gives way; under the lock */

static ngx_oci_sizes_cell_t *
ngx_oci_sizes_cell(ngx_oci_sizes_sh_t *sh, uint64_t key,
    ngx_oci_sizes_cell_t **oldest)
{
    ngx_uint_t             i;
    ngx_oci_sizes_cell_t  *cell;

    cell = &sh->cells[(key & (sh->sets - 1)) * NGX_OCI_SIZES_WAYS];

    *oldest = cell;

    for (i = 0; i < NGX_OCI_SIZES_WAYS; i++, cell++) {

        if (cell->size && cell->key == key) {
            return cell;
        }

        if (cell->used < (*oldest)->used) {
            *oldest = cell;
        }
    }

    return NULL;
}


void
ngx_oci_sizes_put(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_oci_size_t *sizes, ngx_uint_t n)
{
    uint64_t               base;
    ngx_uint_t             i, j;
    ngx_oci_sizes_sh_t    *sh;
    ngx_oci_sizes_cell_t  *cell, *oldest;

    sh = cache->refs->sizes;
    base = ngx_oci_sizes_base(cache, registry, repository);

    /* one manifest leaves most of a small table to others */

    n = ngx_min(n, ngx_max(sh->sets * NGX_OCI_SIZES_WAYS / 4, 1));

    for (i = 0; i < n; /* void */ ) {

        ngx_oci_refs_lock(cache);

        for (j = 0; j < NGX_OCI_SIZES_LOCK && i < n; i++, j++) {

            cell = ngx_oci_sizes_cell(sh, base ^ sizes[i].digest, &oldest);

            if (cell == NULL || cell->size != sizes[i].size) {
                cell = cell ? cell : oldest;
                cell->key = base ^ sizes[i].digest;
                cell->size = sizes[i].size;
                cell->doubted = 0;
            }

            cell->used = (uint32_t) ngx_time();
        }

        ngx_oci_refs_unlock(cache);
    }
}


off_t
ngx_oci_sizes_get(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_oci_digest_t *digest)
{
    off_t                  size;
    uint64_t               key;
    uint32_t               now;
    ngx_oci_sizes_cell_t  *cell, *oldest;

    key = ngx_oci_sizes_base(cache, registry, repository)
          ^ ngx_oci_sizes_short(digest);

    size = -1;
    now = (uint32_t) ngx_time();

    ngx_oci_refs_lock(cache);

    cell = ngx_oci_sizes_cell(cache->refs->sizes, key, &oldest);

    if (cell) {
        cell->used = now;

        if (cell->doubted == 0
            || now - cell->doubted >= NGX_OCI_SIZES_DOUBT)
        {
            cell->doubted = 0;
            size = (off_t) cell->size;
        }
    }

    ngx_oci_refs_unlock(cache);

    return size;
}


void
ngx_oci_sizes_doubt(ngx_oci_cache_t *cache, ngx_oci_registry_t *registry,
    ngx_str_t *repository, ngx_oci_digest_t *digest, off_t size)
{
    uint64_t               key;
    ngx_oci_sizes_cell_t  *cell, *oldest;

    key = ngx_oci_sizes_base(cache, registry, repository)
          ^ ngx_oci_sizes_short(digest);

    ngx_oci_refs_lock(cache);

    cell = ngx_oci_sizes_cell(cache->refs->sizes, key, &oldest);

    if (cell && cell->size == size) {
        cell->doubted = (uint32_t) ngx_time();
    }

    ngx_oci_refs_unlock(cache);
}
