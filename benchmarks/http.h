
/*
 * What the benchmark's programs share: sockets, a header, the clock.
 */

#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MIB  (1024 * 1024)


typedef struct {
    char      buf[16384];
    size_t    len;            /* bytes in buf, header and what came behind */
    size_t    head;           /* bytes of the header with its empty line */
    int       status;
    int64_t   length;         /* Content-Length, -1 if there is none */
} head_t;


static inline double
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}


static inline void
die(const char *what)
{
    perror(what);
    exit(1);
}


static inline int
dial(int port)
{
    int                 fd, one = 1;
    struct timeval      silence = { 60, 0 };
    struct sockaddr_in  sin;

    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    sin.sin_port = htons(port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd == -1) {
        return -1;
    }

    if (connect(fd, (struct sockaddr *) &sin, sizeof(sin)) == -1) {
        close(fd);
        return -1;
    }

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));

    /* a server that hangs fails its row, not the run */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));

    return fd;
}


static inline int
listen_on(int port)
{
    int                 fd, one = 1;
    struct sockaddr_in  sin;

    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    sin.sin_port = htons(port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd == -1) {
        die("socket");
    }

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));

    if (bind(fd, (struct sockaddr *) &sin, sizeof(sin)) == -1
        || listen(fd, 511) == -1)
    {
        die("listen");
    }

    return fd;
}


static inline int
send_all(int fd, const char *p, size_t n, int flags)
{
    ssize_t  k;

    while (n) {
        k = send(fd, p, n, flags | MSG_NOSIGNAL);
        if (k <= 0) {
            return -1;
        }

        p += k;
        n -= k;
    }

    return 0;
}


/* a header's value, or NULL; the name is given with its colon */

static inline char *
header(head_t *h, const char *name)
{
    char    *p, *end;
    size_t   n;

    n = strlen(name);
    end = h->buf + h->head;

    for (p = h->buf; p < end; p = strchr(p, '\n') + 1) {

        if (strncasecmp(p, name, n) == 0) {
            p += n;
            while (*p == ' ') {
                p++;
            }
            return p;
        }
    }

    return NULL;
}


/*
 * Reads a message's header; bytes of a body or of the next message may stand
 * behind it.  What is already in the buffer is used first.
 */

static inline int
read_head(int fd, head_t *h)
{
    char     *p;
    ssize_t   n;

    for ( ;; ) {
        h->buf[h->len] = '\0';

        p = strstr(h->buf, "\r\n\r\n");
        if (p) {
            break;
        }

        if (h->len == sizeof(h->buf) - 1) {
            return -1;
        }

        n = recv(fd, h->buf + h->len, sizeof(h->buf) - 1 - h->len, 0);
        if (n <= 0) {
            return -1;
        }

        h->len += n;
    }

    h->head = p + 4 - h->buf;
    h->status = 0;

    if (strncmp(h->buf, "HTTP/", 5) == 0) {
        p = strchr(h->buf, ' ');
        h->status = p ? atoi(p) : 0;
    }

    p = header(h, "content-length:");
    h->length = p ? strtoll(p, NULL, 10) : -1;

    return 0;
}


#endif /* BENCH_HTTP_H */
