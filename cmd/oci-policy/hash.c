
/*
 * Copyright (C) The nginx-oci authors
 *
 * PHC strings of secrets, which are read from standard input.
 */


#include "op.h"
#include "ngx_oci_phc.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


#define OP_HASH_LN    14
#define OP_HASH_I     600000
#define OP_HASH_SALT  16
#define OP_HASH_LEN   32
#define OP_HASH_TEXT  128       /* of parameters */


static int op_hash_secret(char *secret, size_t size);
static int op_hash_read(char *buf, size_t size);
static char *op_hash_phc(op_opts_t *o, const char *secret);
static char *op_hash_base64(const unsigned char *p, int len, char *buf);


int
op_cmd_hash(op_opts_t *o, int argc, char **argv)
{
    int    rc;
    char  *phc;

    (void) argc;
    (void) argv;

    phc = op_hash_stdin(o, &rc);

    if (phc) {
        puts(phc);
        free(phc);
    }

    return rc;
}


char *
op_hash_stdin(op_opts_t *o, int *rc)
{
    char  secret[OP_SECRET_MAX], *phc;

    *rc = op_hash_secret(secret, sizeof(secret));

    if (*rc != OP_OK) {
        explicit_bzero(secret, sizeof(secret));
        return NULL;
    }

    phc = op_hash_phc(o, secret);
    explicit_bzero(secret, sizeof(secret));

    if (phc == NULL) {
        *rc = OP_USAGE;
    }

    return phc;
}


/* from a terminal twice, and not shown */

static int
op_hash_secret(char *secret, size_t size)
{
    int  rc;

    if (!isatty(STDIN_FILENO)) {
        rc = op_hash_read(secret, size);

    } else if (EVP_read_pw_string(secret, (int) size, "secret: ", 1) == 0) {
        rc = OP_OK;

    } else {
        op_error("no secret was given, or two");
        rc = OP_USAGE;
    }

    if (rc == OP_OK && secret[0] == '\0') {
        op_error("an empty secret is none");
        rc = OP_USAGE;
    }

    return rc;
}


/* one line, and nothing after it */

static int
op_hash_read(char *buf, size_t size)
{
    size_t   len;
    ssize_t  n;

    for (len = 0; len < size; len += (size_t) n) {

        n = read(STDIN_FILENO, buf + len, size - len);

        if (n == -1 && errno == EINTR) {
            n = 0;
            continue;
        }

        if (n <= 0) {
            break;
        }
    }

    if (len == size) {
        op_error("a secret has %zu bytes at most", size - 2);
        return OP_USAGE;
    }

    if (len && buf[len - 1] == '\n') {
        len--;
    }

    if (len && buf[len - 1] == '\r') {
        len--;
    }

    buf[len] = '\0';

    if (strlen(buf) != len || strchr(buf, '\n')) {
        op_error("a secret is one line");
        return OP_USAGE;
    }

    return OP_OK;
}


static char *
op_hash_phc(op_opts_t *o, const char *secret)
{
    int             rc;
    char           *text, params[OP_HASH_TEXT], a[64], b[64];
    uint64_t        cost;
    const char     *why;
    unsigned char   salt[OP_HASH_SALT], hash[OP_HASH_LEN];
    ngx_oci_phc_t   phc;

    cost = o->cost ? (uint64_t) o->cost : o->pbkdf2 ? OP_HASH_I : OP_HASH_LN;

    if (o->pbkdf2) {
        (void) snprintf(params, sizeof(params), "$pbkdf2-sha256$i=%llu",
                        (unsigned long long) cost);

    } else {
        (void) snprintf(params, sizeof(params), "$scrypt$ln=%llu,r=8,p=1",
                        (unsigned long long) cost);
    }

    if (RAND_bytes(salt, OP_HASH_SALT) != 1) {
        op_error("no random bytes for a salt");
        return NULL;
    }

    /* nginx's own word on the costs, before they are paid */

    memset(hash, 0, sizeof(hash));

    if (asprintf(&text, "%s$%s$%s", params,
                 op_hash_base64(salt, OP_HASH_SALT, a),
                 op_hash_base64(hash, OP_HASH_LEN, b))
        == -1)
    {
        text = NULL;
    }

    why = ngx_oci_phc_parse(&phc, op_memory(text), strlen(text));
    free(text);

    if (why) {
        op_error("--cost %d: %s", o->cost, why);
        return NULL;
    }

    if (o->pbkdf2) {
        rc = PKCS5_PBKDF2_HMAC(secret, (int) strlen(secret), salt,
                               OP_HASH_SALT, (int) cost, EVP_sha256(),
                               OP_HASH_LEN, hash);

    } else {
        rc = EVP_PBE_scrypt(secret, strlen(secret), salt, OP_HASH_SALT,
                            (uint64_t) 1 << cost, 8, 1,
                            (uint64_t) 1 << 30, hash, OP_HASH_LEN);
    }

    if (rc != 1) {
        op_error("the secret can't be hashed");
        return NULL;
    }

    if (asprintf(&text, "%s$%s$%s", params,
                 op_hash_base64(salt, OP_HASH_SALT, a),
                 op_hash_base64(hash, OP_HASH_LEN, b))
        == -1)
    {
        text = NULL;
    }

    return op_memory(text);
}


/* without padding */

static char *
op_hash_base64(const unsigned char *p, int len, char *buf)
{
    int  n;

    n = EVP_EncodeBlock((unsigned char *) buf, p, len);

    while (n && buf[n - 1] == '=') {
        buf[--n] = '\0';
    }

    return buf;
}
