
/*
 * Copyright (C) The nginx-oci authors
 *
 * Where Redis is: redis://[USER@]HOST[:PORT][/DB], rediss:// likewise, or
 * unix:PATH.
 */


#include "redis.h"

#include <stdlib.h>
#include <string.h>


static int op_redis_url(op_redis_at_t *at, const char *p);
static int op_redis_host(op_redis_at_t *at, const char *p, size_t len);
static int op_redis_db(const char *db);


int
op_redis_at(op_redis_at_t *at, op_opts_t *o)
{
    const char  *p;

    memset(at, 0, sizeof(op_redis_at_t));

    at->timeout = o->timeout;
    at->ca_file = o->ca_file;

    if (strncmp(o->source, "unix:", 5) == 0) {

        if (o->source[5] == '\0') {
            op_error("the source has no path");
            return OP_USAGE;
        }

        at->path = op_memory(strdup(o->source + 5));
        at->name = op_memory(strdup(o->source));

    } else {
        at->tls = (strncmp(o->source, "rediss://", 9) == 0);
        p = o->source + (at->tls ? 9 : 8);

        if (op_redis_url(at, p) != OP_OK) {
            return OP_USAGE;
        }
    }

    if (o->user && at->user == NULL) {
        at->user = op_memory(strdup(o->user));
    }

    if (o->db) {
        free(at->db);
        at->db = op_memory(strdup(o->db));
    }

    if (at->db && op_redis_db(at->db) != OP_OK) {
        op_error("a database of Redis is a number");
        return OP_USAGE;
    }

    if (at->user && o->password_file == NULL) {
        op_error("user \"%s\" has no --password-file", at->user);
        return OP_USAGE;
    }

    if (o->password_file) {
        return op_secret_file(o->password_file, at->password,
                              sizeof(at->password));
    }

    return OP_OK;
}


static int
op_redis_url(op_redis_at_t *at, const char *p)
{
    size_t       len;
    const char  *user, *host;

    len = strcspn(p, "/?#");
    host = memrchr(p, '@', len);

    if (host) {
        user = p;

        if (memchr(user, ':', (size_t) (host - user))) {
            op_error("a password is not for the source, where others see "
                     "it: it belongs in a --password-file");
            return OP_USAGE;
        }

        at->user = op_memory(strndup(user, (size_t) (host - user)));
        host++;

    } else {
        host = p;
    }

    if (op_redis_host(at, host, len - (size_t) (host - p)) != OP_OK) {
        op_error("the source's host or port is wrong");
        return OP_USAGE;
    }

    if (asprintf(&at->name, "%s://%.*s", at->tls ? "rediss" : "redis",
                 (int) (len - (size_t) (host - p)), host)
        == -1)
    {
        at->name = NULL;
    }

    (void) op_memory(at->name);

    p += len;

    if (*p == '/' && p[1]) {
        at->db = op_memory(strdup(p + 1));

    } else if (*p && *p != '/') {
        op_error("the source has more than a host, a port and a database");
        return OP_USAGE;
    }

    return OP_OK;
}


static int
op_redis_host(op_redis_at_t *at, const char *p, size_t len)
{
    long         port;
    char        *end;
    size_t       n;
    const char  *rest;

    if (len && p[0] == '[') {

        rest = memchr(p, ']', len);

        if (rest == NULL || rest == p + 1) {
            return OP_USAGE;
        }

        at->host = op_memory(strndup(p + 1, (size_t) (rest - p - 1)));
        n = (size_t) (rest - p) + 1;

    } else {

        for (n = 0; n < len && p[n] != ':'; n++) { /* void */ }

        if (n == 0) {
            return OP_USAGE;
        }

        at->host = op_memory(strndup(p, n));
    }

    if (n == len) {
        at->port = op_memory(strdup("6379"));
        return OP_OK;
    }

    if (p[n] != ':') {
        return OP_USAGE;
    }

    at->port = op_memory(strndup(p + n + 1, len - n - 1));
    port = strtol(at->port, &end, 10);

    return (*at->port >= '0' && *at->port <= '9' && *end == '\0' && port > 0
            && port < 65536)
           ? OP_OK : OP_USAGE;
}


static int
op_redis_db(const char *db)
{
    size_t  len;

    len = strlen(db);

    return (len > 0 && len < 6 && strspn(db, "0123456789") == len)
           ? OP_OK : OP_USAGE;
}


void
op_redis_at_free(op_redis_at_t *at)
{
    explicit_bzero(at->password, sizeof(at->password));

    free(at->name);
    free(at->host);
    free(at->port);
    free(at->path);
    free(at->user);
    free(at->db);
}
