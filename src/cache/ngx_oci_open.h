
/*
 * Copyright (C) The nginx-oci authors
 *
 * The cache's directory and the names in it.  Nothing here follows a symbolic
 * link, nothing opens, truncates or removes what is not a file of the cache's
 * own: others may have planted something, or put another directory in the
 * place of this one.  All of it may wait for the disk, but for what says that
 * it doesn't.
 */


#ifndef _NGX_OCI_OPEN_H_INCLUDED_
#define _NGX_OCI_OPEN_H_INCLUDED_


#include "ngx_oci_cache.h"


/* an errno of the functions below: what failed was said already, or is the
   directory's state; there is nothing to be logged */

#define NGX_OCI_SAID           ECANCELED

#define NGX_OCI_DIR_OK         1
#define NGX_OCI_DIR_READONLY   2
#define NGX_OCI_DIR_GONE       3        /* or unusable */

#define NGX_OCI_DIR_CHECK      2000     /* ms between looks at the directory */


/* ngx_oci_open.c */

/*
 * openat() of a file of the cache in the subdirectory sub ("ab") of dir, one
 * of the cache's descriptors.  O_CREAT makes the subdirectory, too; modes are
 * 0700 and 0600.  The file is regular, the process's own, and has no second
 * name.  -1 with errno.
 */
int ngx_oci_open(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *name, int flags, ngx_log_t *log);

/* opens the subdirectory itself; -1 with errno */
int ngx_oci_open_sub(ngx_oci_cache_t *cache, int dir, const char *sub,
    ngx_uint_t create, ngx_log_t *log);

/* lstat(), unlink() and rename() of names in a subdirectory; 0, or -1 with
   errno */
int ngx_oci_stat(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *name, struct stat *sb, ngx_log_t *log);
int ngx_oci_unlink(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *name, ngx_log_t *log);
int ngx_oci_rename(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *from, const char *to, ngx_log_t *log);

/* the errno of what failed in a subdirectory, or NGX_OCI_SAID where that is
   the directory's state by now */
ngx_err_t ngx_oci_open_err(ngx_oci_cache_t *cache, ngx_err_t err,
    ngx_log_t *log);

/* says, once an hour and process, that a name (NULL: sub itself) is not of the
   cache; sb: what it is */
void ngx_oci_foreign(ngx_oci_cache_t *cache, int dir, const char *sub,
    const char *name, struct stat *sb, ngx_log_t *log);


/* ngx_oci_dir.c */

/* creates and opens the directories of a cache; in the master */
ngx_int_t ngx_oci_dir_init(ngx_oci_cache_t *cache, ngx_log_t *log);
void ngx_oci_dir_close(ngx_oci_cache_t *cache);

/*
 * Looks at the directory: if another one is in its place, the descriptors
 * lead there from here on.  What changed is logged, by one process.  Returns
 * NGX_OCI_DIR_...
 */
ngx_uint_t ngx_oci_dir_check(ngx_oci_cache_t *cache, ngx_log_t *log);

/* the same, if it is time to, or if another process has seen another one */
ngx_uint_t ngx_oci_dir_enter(ngx_oci_cache_t *cache, ngx_log_t *log);

/* what is known of it; does not wait.  Has a look taken if it is time to */
ngx_uint_t ngx_oci_dir_state(ngx_oci_cache_t *cache);

/* do two numbers mean the same directory, whatever its state? */
#define ngx_oci_dir_same(a, b)  (((a) ^ (b)) < 4)

/* a number of the directory and its state; does not wait */
#define ngx_oci_dir_now(cache)                                                \
    __atomic_load_n(&(cache)->index->dir, __ATOMIC_RELAXED)


#endif /* _NGX_OCI_OPEN_H_INCLUDED_ */
