
/*
 * Copyright (C) The nginx-oci authors
 *
 * oci-audit-verify: see man/oci-audit-verify.1.
 */


#include "ngx_oci_audit_verify.h"

#include <openssl/pem.h>


#define VERIFY_OK      0
#define VERIFY_BROKEN  1
#define VERIFY_ERROR   2


typedef struct {
    char       **names;
    ngx_uint_t   quiet;
} verify_files_t;


static int verify_usage(void);
static int verify_key(ngx_oci_audit_verify_t *v, const char *name);
static int verify_file(ngx_oci_audit_verify_t *v, const char *name);
static void verify_note(void *data, ngx_oci_audit_place_t *place);
static int verify_tell(ngx_oci_audit_verify_t *v, verify_files_t *files,
    ngx_uint_t keys);


int
main(int argc, char **argv)
{
    int                      opt, rc;
    ngx_uint_t               i, nkeys, unsigned_, closed;
    verify_files_t           files;
    const char              *keys[NGX_OCI_AUDIT_KEYS];
    ngx_oci_audit_verify_t  *v;

    nkeys = 0;
    unsigned_ = 0;
    closed = 0;
    ngx_memzero(&files, sizeof(verify_files_t));

    while ((opt = getopt(argc, argv, "k:ncq")) != -1) {
        switch (opt) {

        case 'k':
            if (nkeys == NGX_OCI_AUDIT_KEYS) {
                return verify_usage();
            }

            keys[nkeys++] = optarg;
            break;

        case 'n':
            unsigned_ = 1;
            break;

        case 'c':
            closed = 1;
            break;

        case 'q':
            files.quiet = 1;
            break;

        default:
            return verify_usage();
        }
    }

    /* nobody is to believe unsigned lines by mistake */

    if (optind == argc || (nkeys == 0) != unsigned_) {
        return verify_usage();
    }

    files.names = argv + optind;

    v = ngx_oci_audit_verify_create(closed, verify_note, &files);
    if (v == NULL) {
        perror("oci-audit-verify");
        return VERIFY_ERROR;
    }

    rc = VERIFY_OK;

    for (i = 0; i < nkeys && rc == VERIFY_OK; i++) {
        rc = verify_key(v, keys[i]);
    }

    for ( /* void */ ; optind < argc && rc == VERIFY_OK; optind++) {
        rc = verify_file(v, argv[optind]);
    }

    if (rc == VERIFY_OK) {
        rc = verify_tell(v, &files, nkeys);
    }

    ngx_oci_audit_verify_free(v);

    return rc;
}


static int
verify_usage(void)
{
    fprintf(stderr, "usage: oci-audit-verify {-k key.pem ... | -n} [-cq] "
                    "file ...\n");

    return VERIFY_ERROR;
}


static int
verify_key(ngx_oci_audit_verify_t *v, const char *name)
{
    FILE      *f;
    EVP_PKEY  *key;

    f = fopen(name, "r");
    if (f == NULL) {
        fprintf(stderr, "oci-audit-verify: %s: %s\n", name, strerror(errno));
        return VERIFY_ERROR;
    }

    key = PEM_read_PUBKEY(f, NULL, NULL, NULL);
    fclose(f);

    if (key == NULL || ngx_oci_audit_verify_key(v, key) != NGX_OK) {
        EVP_PKEY_free(key);
        fprintf(stderr, "oci-audit-verify: %s: it is not an Ed25519 public "
                        "key in PEM\n", name);
        return VERIFY_ERROR;
    }

    return VERIFY_OK;
}


static int
verify_file(ngx_oci_audit_verify_t *v, const char *name)
{
    FILE     *f;
    char     *line;
    size_t    size;
    ssize_t   n;
    int       rc, torn;

    f = (strcmp(name, "-") == 0) ? stdin : fopen(name, "r");

    if (f == NULL) {
        fprintf(stderr, "oci-audit-verify: %s: %s\n", name, strerror(errno));
        return VERIFY_ERROR;
    }

    rc = (ngx_oci_audit_verify_file(v) == NGX_OK) ? VERIFY_OK : VERIFY_ERROR;

    line = NULL;
    size = 0;

    while (rc == VERIFY_OK) {

        n = getline(&line, &size, f);

        if (n == -1) {
            break;
        }

        torn = (line[n - 1] != '\n');

        if (ngx_oci_audit_verify_line(v, (u_char *) line, n - !torn, torn)
            != NGX_OK)
        {
            rc = VERIFY_ERROR;
        }
    }

    if (rc == VERIFY_OK && ferror(f)) {
        fprintf(stderr, "oci-audit-verify: %s: %s\n", name, strerror(errno));
        rc = VERIFY_ERROR;

    } else if (rc == VERIFY_ERROR) {
        fprintf(stderr, "oci-audit-verify: %s: out of memory\n", name);
    }

    free(line);

    if (f != stdin) {
        fclose(f);
    }

    return rc;
}


static void
verify_note(void *data, ngx_oci_audit_place_t *place)
{
    verify_files_t *files = data;

    if (!files->quiet) {
        printf("%s:%llu: note: %s\n", files->names[place->file],
               (unsigned long long) place->line, place->says);
    }
}


static int
verify_tell(ngx_oci_audit_verify_t *v, verify_files_t *files,
    ngx_uint_t keys)
{
    ngx_oci_audit_result_t  *result;

    result = ngx_oci_audit_verify_done(v);

    if (result->broken) {
        fflush(stdout);
        fprintf(stderr, "%s:%llu: %s\n", files->names[result->first.file],
                (unsigned long long) result->first.line, result->first.says);
        return VERIFY_BROKEN;
    }

    if (files->quiet) {
        return VERIFY_OK;
    }

    printf("%llu lines of %llu chains are as they were written\n",
           (unsigned long long) result->lines,
           (unsigned long long) result->chains);

    if (result->lost) {
        printf("%llu pieces of lines are accounted for\n",
               (unsigned long long) result->lost);
    }

    if (result->last_ts[0]) {
        printf("the last checkpoint is %llu, of %s%s\n",
               (unsigned long long) result->last, result->last_ts,
               keys ? "" : "; its signature was not checked");
    }

    if (result->open) {
        printf("%llu chains have no end, with %llu lines after their last "
               "checkpoints: whether more are missing there can't be said\n",
               (unsigned long long) result->open,
               (unsigned long long) result->loose);
    }

    return VERIFY_OK;
}
