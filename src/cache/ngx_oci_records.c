
/*
 * Copyright (C) The nginx-oci authors
 *
 * The records of a sidecar's slices, in memory while they are looked at: of a
 * blob of 1 TiB in slices of 1m they are 8 MiB.
 */


#include "ngx_oci_store.h"
#include <sys/mman.h>


#define NGX_OCI_STORE_FEW        (256 * 1024)         /* bytes of records that
                                           are not counted there */
#define NGX_OCI_STORE_MEMORY     (64 * 1024 * 1024)   /* bytes of records, of
                                           all blobs that a process opens */
#define NGX_OCI_STORE_CHUNK      65536                /* bytes read at once */
#define NGX_OCI_STORE_PAGE       4096


static ngx_atomic_t  ngx_oci_store_memory;


ngx_int_t
ngx_oci_store_records(ngx_oci_store_t *st)
{
    size_t  len, counted;

    ngx_oci_store_forget(st);

    len = st->slices * sizeof(ngx_oci_store_record_t);

    counted = (len > NGX_OCI_STORE_FEW) ? len : 0;

    if (ngx_atomic_fetch_add(&ngx_oci_store_memory, counted) + counted
        > NGX_OCI_STORE_MEMORY
        && counted)
    {
        (void) ngx_atomic_fetch_add(&ngx_oci_store_memory,
                                    - (ngx_atomic_int_t) counted);
        ngx_set_errno(NGX_ENOMEM);
        return NGX_ERROR;
    }

    /* (threads' arenas would keep what is freed) */

    st->records = counted ? mmap(NULL, len, PROT_READ|PROT_WRITE,
                                 MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)
                          : calloc(1, len);

    if (st->records == NULL || st->records == MAP_FAILED) {
        st->records = NULL;
        (void) ngx_atomic_fetch_add(&ngx_oci_store_memory,
                                    - (ngx_atomic_int_t) counted);
        ngx_set_errno(NGX_ENOMEM);
        return NGX_ERROR;
    }

    st->len = len;

    return NGX_OK;
}


void
ngx_oci_store_forget(ngx_oci_store_t *st)
{
    if (st->records == NULL) {
        return;
    }

    if (st->len > NGX_OCI_STORE_FEW) {
        (void) munmap(st->records, st->len);
        (void) ngx_atomic_fetch_add(&ngx_oci_store_memory,
                                    - (ngx_atomic_int_t) st->len);

    } else {
        free(st->records);
    }

    st->records = NULL;
}


ngx_int_t
ngx_oci_store_read(ngx_oci_store_t *st)
{
    size_t   len, pos, page, n;
    u_char   buf[NGX_OCI_STORE_CHUNK], *p;
    ssize_t  size;

    static u_char  zeroes[NGX_OCI_STORE_PAGE];

    for (pos = 0; pos < st->len; pos += size) {

        len = ngx_min(st->len - pos, NGX_OCI_STORE_CHUNK);

        size = pread(st->map, buf, len, NGX_OCI_STORE_RECORDS + (off_t) pos);

        if (size == -1) {
            return NGX_ERROR;
        }

        if (size != (ssize_t) len) {
            ngx_set_errno(0);
            return NGX_ERROR;
        }

        /* pages of what is not stored yet are not touched: they take none */

        for (page = 0; page < len; page += n) {
            n = ngx_min(len - page, NGX_OCI_STORE_PAGE);
            p = buf + page;

            if (ngx_memcmp(p, zeroes, n) != 0) {
                ngx_memcpy((u_char *) st->records + pos + page, p, n);
            }
        }
    }

    return NGX_OK;
}
