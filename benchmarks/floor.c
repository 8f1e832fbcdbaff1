
/*
 * floor [--no-hash] port origin-port file
 *
 * What a cold, verified and stored relay costs at least: for each GET one
 * plain request to the origin, and three threads: recv and pwrite to the
 * file, SHA-256 of the file in order, sendfile to the client.  The file is
 * made anew for each request; clients come one at a time.  The last 8 MiB
 * wait until the digest is right, as at the edge.
 */

#include "http.h"
#include <openssl/evp.h>

#define PIECE  (2 * MIB)
#define HELD   (8 * MIB)


typedef struct {
    pthread_mutex_t   mutex;
    pthread_cond_t    cond;
    char              digest[65];
    head_t            head;
    int64_t           size;
    int64_t           written;
    int               origin;
    int               client;
    int               file;
    int               hash;
    int               verified;
    int               failed;
} relay_t;


static void relay(relay_t *r, int origin_port, const char *name);
static int relay_open(relay_t *r, int origin_port, const char *name);
static void *relay_write(void *data);
static void *relay_hash(void *data);
static void *relay_send(void *data);
static int64_t wait_for(relay_t *r, int64_t pos, int64_t atleast);
static void publish(relay_t *r, int64_t written, int verified, int failed);


int
main(int argc, char **argv)
{
    int             fd, hash = 1, one = 1;
    static relay_t  r;

    if (argc > 1 && strcmp(argv[1], "--no-hash") == 0) {
        hash = 0;
        argc--;
        argv++;
    }

    if (argc != 4) {
        fprintf(stderr, "usage: floor [--no-hash] port origin-port file\n");
        return 2;
    }

    signal(SIGPIPE, SIG_IGN);

    fd = listen_on(atoi(argv[1]));

    for ( ;; ) {
        memset(&r, 0, sizeof(relay_t));
        pthread_mutex_init(&r.mutex, NULL);
        pthread_cond_init(&r.cond, NULL);
        r.hash = hash;
        r.origin = -1;
        r.file = -1;

        r.client = accept(fd, NULL, NULL);
        if (r.client == -1) {
            die("accept");
        }

        setsockopt(r.client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));

        relay(&r, atoi(argv[2]), argv[3]);

        close(r.client);

        if (r.origin != -1) {
            close(r.origin);
        }

        if (r.file != -1) {
            close(r.file);
        }
    }
}


static void
relay(relay_t *r, int origin_port, const char *name)
{
    pthread_t  writer, hasher, sender;

    if (relay_open(r, origin_port, name) == -1) {
        return;
    }

    if (pthread_create(&writer, NULL, relay_write, r) != 0
        || pthread_create(&hasher, NULL, relay_hash, r) != 0
        || pthread_create(&sender, NULL, relay_send, r) != 0)
    {
        die("pthread_create");
    }

    pthread_join(sender, NULL);
    pthread_join(hasher, NULL);
    pthread_join(writer, NULL);
}


static int
relay_open(relay_t *r, int origin_port, const char *name)
{
    int    n;
    char   path[1024], text[2048], *p;

    if (read_head(r->client, &r->head) == -1
        || sscanf(r->head.buf, "GET %1023s", path) != 1)
    {
        return -1;
    }

    p = strstr(path, "sha256:");
    if (p == NULL || strlen(p + 7) != 64) {
        return -1;
    }

    memcpy(r->digest, p + 7, 65);

    r->origin = dial(origin_port);
    if (r->origin == -1) {
        return -1;
    }

    n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: bench\r\n"
                 "Connection: close\r\n\r\n", path);

    r->head.len = 0;

    if (send_all(r->origin, text, n, 0) == -1
        || read_head(r->origin, &r->head) == -1
        || r->head.status != 200 || r->head.length < 0)
    {
        return -1;
    }

    r->size = r->head.length;

    unlink(name);

    r->file = open(name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);
    if (r->file == -1) {
        die(name);
    }

    return 0;
}


static void *
relay_write(void *data)
{
    relay_t  *r = data;

    char     *buf;
    int64_t   pos;
    ssize_t   n;

    buf = malloc(MIB);
    if (buf == NULL) {
        die("malloc");
    }

    n = r->head.len - r->head.head;
    memcpy(buf, r->head.buf + r->head.head, n);

    for (pos = 0; pos < r->size; /* void */ ) {

        if (n == 0) {
            n = recv(r->origin, buf, MIB, 0);
        }

        if (n <= 0 || pwrite(r->file, buf, n, pos) != n) {
            publish(r, 0, 0, 1);
            break;
        }

        pos += n;
        n = 0;

        publish(r, pos, 0, 0);
    }

    free(buf);

    return NULL;
}


static void *
relay_hash(void *data)
{
    relay_t  *r = data;

    int             i;
    char           *buf, hex[65];
    int64_t         pos, end;
    ssize_t         n;
    EVP_MD_CTX     *ctx;
    unsigned char   md[32];

    if (!r->hash) {
        publish(r, 0, 1, 0);
        return NULL;
    }

    buf = malloc(PIECE);
    ctx = EVP_MD_CTX_new();

    if (buf == NULL || ctx == NULL
        || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1)
    {
        die("EVP_DigestInit_ex");
    }

    for (pos = 0; pos < r->size; /* void */ ) {

        end = wait_for(r, pos, PIECE);
        if (end < 0) {
            goto done;
        }

        while (pos < end) {
            n = end - pos < PIECE ? end - pos : PIECE;

            n = pread(r->file, buf, n, pos);
            if (n <= 0) {
                publish(r, 0, 0, 1);
                goto done;
            }

            EVP_DigestUpdate(ctx, buf, n);
            pos += n;
        }
    }

    EVP_DigestFinal_ex(ctx, md, NULL);

    for (i = 0; i < 32; i++) {
        sprintf(hex + 2 * i, "%02x", md[i]);
    }

    publish(r, 0, 1, strcmp(hex, r->digest) != 0);

done:

    EVP_MD_CTX_free(ctx);
    free(buf);

    return NULL;
}


static void *
relay_send(void *data)
{
    relay_t  *r = data;

    int       n;
    char      text[256];
    off_t     off;
    int64_t   pos, end;

    n = snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\n"
                 "Content-Length: %lld\r\nConnection: close\r\n\r\n",
                 (long long) r->size);

    if (send_all(r->client, text, n, 0) == -1) {
        return NULL;
    }

    for (pos = 0; pos < r->size; /* void */ ) {

        end = wait_for(r, pos, 1);
        if (end < 0) {
            break;
        }

        if (end > r->size - HELD) {

            pthread_mutex_lock(&r->mutex);

            if (pos >= r->size - HELD) {
                while (!r->verified && !r->failed) {
                    pthread_cond_wait(&r->cond, &r->mutex);
                }
            }

            if (!r->verified && end > r->size - HELD) {
                end = r->size - HELD;
            }

            n = r->failed;

            pthread_mutex_unlock(&r->mutex);

            if (n) {
                break;
            }
        }

        for (off = pos; off < end; /* void */ ) {
            if (sendfile(r->client, r->file, &off, end - off) <= 0) {
                return NULL;
            }
        }

        pos = off > pos ? off : pos;
    }

    return NULL;
}


/* the watermark, once it is so far beyond pos or at the end; -1: failed */

static int64_t
wait_for(relay_t *r, int64_t pos, int64_t atleast)
{
    int64_t  end;

    end = pos + atleast < r->size ? pos + atleast : r->size;

    pthread_mutex_lock(&r->mutex);

    while (r->written < end && !r->failed) {
        pthread_cond_wait(&r->cond, &r->mutex);
    }

    end = r->failed ? -1 : r->written;

    pthread_mutex_unlock(&r->mutex);

    return end;
}


static void
publish(relay_t *r, int64_t written, int verified, int failed)
{
    pthread_mutex_lock(&r->mutex);

    if (written > r->written) {
        r->written = written;
    }

    r->verified |= verified;
    r->failed |= failed;

    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->mutex);
}
