
/*
 * paced port bytes-per-second directory
 *
 * An origin that gives each connection a token bucket, whatever the number
 * of requests on it.  (nginx's limit_rate counts by whole seconds from each
 * request's start, so that a range of 64 MiB is over before it limits.)
 * The last 64 characters of the path name the file.
 */

#include "http.h"

#define BURST  (256 * 1024)


static void *serve(void *data);
static int respond(int fd, head_t *h, double *ready);
static int body(int fd, int file, off_t off, off_t end, double *ready);

static double       rate;
static const char  *dir;


int
main(int argc, char **argv)
{
    int        fd;
    long       client;
    pthread_t  thread;

    if (argc != 4) {
        fprintf(stderr, "usage: paced port bytes-per-second directory\n");
        return 2;
    }

    signal(SIGPIPE, SIG_IGN);

    rate = atof(argv[2]);
    dir = argv[3];
    fd = listen_on(atoi(argv[1]));

    for ( ;; ) {
        client = accept(fd, NULL, NULL);
        if (client == -1) {
            die("accept");
        }

        if (pthread_create(&thread, NULL, serve, (void *) client) != 0) {
            die("pthread_create");
        }

        pthread_detach(thread);
    }
}


static void *
serve(void *data)
{
    int      fd = (long) data;
    int      one = 1;
    double   ready;
    head_t  *h;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));

    ready = now();

    h = calloc(1, sizeof(head_t));
    if (h == NULL) {
        die("calloc");
    }

    while (read_head(fd, h) == 0 && respond(fd, h, &ready) == 0) {
        h->len -= h->head;
        memmove(h->buf, h->buf + h->head, h->len);
    }

    free(h);
    close(fd);

    return NULL;
}


static int
respond(int fd, head_t *h, double *ready)
{
    int          n, file, rc;
    char         text[512], path[4096], uri[1024], method[8], *p;
    long long    from, to;
    struct stat  st;

    if (sscanf(h->buf, "%7s %1023s", method, uri) != 2) {
        return -1;
    }

    if (strlen(uri) < 64 || strchr(uri + strlen(uri) - 64, '/')) {
        n = snprintf(text, sizeof(text),
                     "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        return send_all(fd, text, n, 0);
    }

    snprintf(path, sizeof(path), "%s/%s", dir, uri + strlen(uri) - 64);

    file = open(path, O_RDONLY | O_CLOEXEC);

    if (file == -1 || fstat(file, &st) == -1) {
        if (file != -1) {
            close(file);
        }
        n = snprintf(text, sizeof(text),
                     "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        return send_all(fd, text, n, 0);
    }

    from = 0;
    to = st.st_size - 1;
    n = 0;

    p = header(h, "range:");
    if (p) {
        n = sscanf(p, "bytes=%lld-%lld", &from, &to);
    }

    if (to >= st.st_size) {
        to = st.st_size - 1;
    }

    if (n >= 1 && from <= to) {
        n = snprintf(text, sizeof(text), "HTTP/1.1 206 Partial Content\r\n"
                     "Content-Length: %lld\r\n"
                     "Content-Range: bytes %lld-%lld/%lld\r\n\r\n",
                     to - from + 1, from, to, (long long) st.st_size);

    } else {
        from = 0;
        to = st.st_size - 1;
        n = snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\n"
                     "Accept-Ranges: bytes\r\nContent-Length: %lld\r\n\r\n",
                     (long long) st.st_size);
    }

    if (strcmp(method, "HEAD") == 0) {
        rc = send_all(fd, text, n, 0);

    } else {
        rc = send_all(fd, text, n, MSG_MORE);
        if (rc == 0) {
            rc = body(fd, file, from, to + 1, ready);
        }
    }

    close(file);

    return rc;
}


/* *ready is the time at which the bucket has paid for all that was sent */

static int
body(int fd, int file, off_t off, off_t end, double *ready)
{
    double           t, early;
    size_t           n;
    ssize_t          k;
    struct timespec  ts;

    while (off < end) {
        t = now();

        if (*ready < t - BURST / rate) {
            *ready = t - BURST / rate;
        }

        early = *ready - t;
        if (early > 0) {
            ts.tv_sec = (time_t) early;
            ts.tv_nsec = (early - ts.tv_sec) * 1e9;
            nanosleep(&ts, NULL);
        }

        n = end - off < BURST ? end - off : BURST;

        k = sendfile(fd, file, &off, n);
        if (k <= 0) {
            return -1;
        }

        *ready += k / rate;
    }

    return 0;
}
