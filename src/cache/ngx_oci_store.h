
/*
 * Copyright (C) The nginx-oci authors
 *
 * The files of a blob: the sparse data file and its sidecar, the slice map.
 * Everything here may wait for the disk: call it in a thread.
 */


#ifndef _NGX_OCI_STORE_H_INCLUDED_
#define _NGX_OCI_STORE_H_INCLUDED_


#include "ngx_oci_cache.h"


#define NGX_OCI_STORE_HASH_MAX    256     /* bytes of a digest's state */
#define NGX_OCI_STORE_WRITER      512     /* offset of who wrote last */
#define NGX_OCI_STORE_PIN         528     /* offset of the pin */
#define NGX_OCI_STORE_RECORDS     4096    /* offset of the records, bytes */

#define NGX_OCI_STORE_SLICES      (2 * 1024 * 1024)   /* of a blob at most:
                                             16 MiB of records */

#define NGX_OCI_STORE_VERIFIED    0x01
#define NGX_OCI_STORE_PROVEN      8

#define NGX_OCI_SLICE_ABSENT      0
#define NGX_OCI_SLICE_PRESENT     1       /* written under header's boot id */
#define NGX_OCI_SLICE_UNCHECKED   2       /* under an earlier one */


/* the registries, other than the origin, that have shown that they have the
   blob: crc32 of their names, the oldest proof first */

typedef struct {
    uint32_t                        n;
    uint32_t                        origins[NGX_OCI_STORE_PROVEN];
} ngx_oci_proven_t;


/* the sidecar's header, in the host's byte order */

typedef struct {
    u_char                          magic[8];
    uint32_t                        version;
    uint32_t                        crc;        /* of all with crc 0 */
    uint32_t                        alg;
    uint32_t                        flags;
    uint32_t                        origin;     /* of the registry that it
                                                   comes from, crc32 of its
                                                   name */
    uint32_t                        nonce;      /* tells them from files that
                                                   had the same inodes */
    uint64_t                        size;       /* of the blob, bytes */
    uint64_t                        slice;      /* bytes */
    u_char                          digest[NGX_OCI_DIGEST_BYTES];
    char                            boot_id[40];
    uint64_t                        hashed;     /* bytes in hash_state */
    uint32_t                        hash_len;
    u_char                          hash_state[NGX_OCI_STORE_HASH_MAX];
    ngx_oci_proven_t                proven;
} ngx_oci_store_header_t;


typedef struct {
    uint32_t                        crc;        /* CRC32C of the slice */
    uint32_t                        state;      /* NGX_OCI_SLICE_... */
} ngx_oci_store_record_t;


/* open files of a blob; owned by whoever opened it */

typedef struct {
    int                             fd;         /* data */
    int                             map;        /* sidecar */
    ngx_oci_store_header_t          header;
    ngx_oci_store_record_t         *records;    /* or NULL; owned, freed by
                                                   ngx_oci_store_forget() */
    size_t                          len;        /* of records, bytes */
    size_t                          slices;
    uint64_t                        uniq;       /* inode of the sidecar */
    time_t                          written;    /* its mtime */
    time_t                          pinned;     /* until; 0: it is not */
    ngx_uint_t                      readonly;   /* as the directory is */
} ngx_oci_store_t;


/*
 * Opens the files of a blob; with size >= 0 creates them where there are
 * none or where they are unusable.  Records of an earlier boot are turned
 * into "unchecked", those of a foreign slice size make the pair unusable, as
 * does another size of a pair that is not verified and that nobody uses, and
 * another registry's, if little of it is there or nothing came for an hour.
 * NGX_OK; NGX_DECLINED: there are none; NGX_ERROR: logged.  Of a read-only
 * directory those that are complete and verified can be had with size >= 0.
 */
ngx_int_t ngx_oci_store_open(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, off_t size, uint32_t origin,
    ngx_oci_store_t *st, ngx_log_t *log);
void ngx_oci_store_close(ngx_oci_store_t *st);

/*
 * Zeroed records of all slices.  A registry may say any size, and of blobs
 * that are being opened they are kept until the event loop comes to them: what
 * those of more than 32768 slices take together has a bound.  NGX_OK, or
 * NGX_ERROR with errno.
 */
ngx_int_t ngx_oci_store_records(ngx_oci_store_t *st);
/* reads them from the sidecar; just made, zeroed.  NGX_OK, or NGX_ERROR with
   errno, 0: the file is too short */
ngx_int_t ngx_oci_store_read(ngx_oci_store_t *st);

/* frees the records, once they are in the index: those of all blobs that a
   process has open would be too many */
void ngx_oci_store_forget(ngx_oci_store_t *st);

/*
 * The exclusive, non-blocking lock of the sidecar, which whoever writes or
 * unlinks must hold; does not wait.  NGX_OK; NGX_BUSY: somebody has it;
 * NGX_DECLINED: got it, but the name no longer leads to this file (it was
 * dropped again); NGX_ERROR.
 */
ngx_int_t ngx_oci_store_lock(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, int map);
void ngx_oci_store_unlock(int map);
/* the same of a sidecar that has another name; NGX_OK, NGX_BUSY, NGX_ERROR */
ngx_int_t ngx_oci_store_trylock(int map);

/* which fill wrote last: a number that it made up, 0: none.  NGX_OK or
   NGX_ERROR (errno) */
ngx_int_t ngx_oci_store_writer(int map, uint64_t *writer);
/* the lock must be held; NGX_OK or NGX_ERROR (errno) */
ngx_int_t ngx_oci_store_set_writer(int map, uint64_t writer);

/* until when it is kept if anything else can go; no lock is needed, nobody
   relies on it.  NGX_OK or NGX_ERROR (errno) */
ngx_int_t ngx_oci_store_pin(int map, time_t until);
/* 0: it is not, or can't be read */
time_t ngx_oci_store_pinned(int map);

/* records slice n; the lock must be held.  NGX_OK or NGX_ERROR (errno) */
ngx_int_t ngx_oci_store_record(int map, size_t n, uint32_t crc,
    uint32_t state);

/* the header of a blob of which nothing is known; origin: see above */
void ngx_oci_store_header_init(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, off_t size, uint32_t origin,
    ngx_oci_store_header_t *header);

/* writes the header; the lock must be held */
ngx_int_t ngx_oci_store_header(int map, ngx_oci_store_header_t *header);

/* adds a registry to those that have the blob; the lock must be held.  NGX_OK,
   or NGX_ERROR with errno */
ngx_int_t ngx_oci_store_prove(int map, uint32_t origin);

ngx_uint_t ngx_oci_proven_has(ngx_oci_proven_t *proven, uint32_t origin);
/* the oldest goes where there is no room */
void ngx_oci_proven_add(ngx_oci_proven_t *proven, uint32_t origin);

/*
 * What header and records say, as far as it can be believed: records of an
 * earlier boot become "unchecked", and a header that says "verified" of a blob
 * of which slices are missing is of another time than its records, as a power
 * cut leaves them: the mark is taken off, here only.  Returns 1 if it was.
 */
ngx_uint_t ngx_oci_store_distrust(ngx_oci_cache_t *cache,
    ngx_oci_store_header_t *header, ngx_oci_store_record_t *records,
    size_t slices);

/* takes the verified mark off the header, on the disk as well when it returns;
   the lock must be held */
ngx_int_t ngx_oci_store_unverify(int map);

/* pwrite() of all n bytes; NGX_ERROR with errno */
ngx_int_t ngx_oci_store_write(int fd, u_char *p, size_t n, off_t offset);

/* unlinks both files; errors other than ENOENT are logged */
void ngx_oci_store_unlink(ngx_oci_cache_t *cache, ngx_oci_digest_t *digest,
    ngx_log_t *log);
/* the data only, which has to go first: NGX_OK, also if there was none */
ngx_int_t ngx_oci_store_unlink_data(ngx_oci_cache_t *cache,
    ngx_oci_digest_t *digest, ngx_log_t *log);

/* the CRC32C of a part of the file; NGX_OK or NGX_ERROR (errno) */
ngx_int_t ngx_oci_store_crc(int fd, off_t offset, size_t len, uint32_t *crc);

/* the bytes that are free for us on the file system, or -1 */
off_t ngx_oci_store_free(ngx_oci_cache_t *cache);

/* the names of a blob's files: "ab" and hex digits; name holds 128 + 5 */
void ngx_oci_store_names(ngx_oci_digest_t *digest, char sub[3], char *name);

#define NGX_OCI_STORE_NAME  (128 + sizeof(".map"))


#endif /* _NGX_OCI_STORE_H_INCLUDED_ */
