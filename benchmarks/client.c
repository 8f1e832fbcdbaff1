
/*
 * client get [-c connections] [-r first-last] port path
 *
 *     Reads and discards, each connection in its own thread; prints the wall
 *     time from before the first connect to the last byte of all.
 *
 * client latency [-t seconds] [-n number] [-b bytes] -s size port path
 *
 *     Sequential requests of a random aligned range on one connection until
 *     the time or the number is over, or SIGTERM came; prints microseconds.
 *
 * client rate [-c connections] [-t seconds] [-a authorization] port path
 *
 *     Requests of the whole, each connection having one under way all the
 *     time; prints how many there were in how many seconds.
 */

#include "http.h"
#include <sys/mman.h>


typedef struct {
    pthread_t    thread;
    const char  *path;
    const char  *range;
    int64_t      bytes;
    int          port;
    int          status;
    int          failed;
} get_t;


static int get_main(int argc, char **argv);
static void *get_one(void *data);
static int latency_main(int argc, char **argv);
static int latency_one(int *fd, int port, const char *path, int64_t off,
    int bytes);
static int rate_main(int argc, char **argv);
static int rate_answer(int fd);
static int compare(const void *a, const void *b);
static int touch_main(int argc, char **argv);
static void stop(int signo);

static volatile sig_atomic_t  stopped;


int
main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);

    if (argc > 1 && strcmp(argv[1], "get") == 0) {
        return get_main(argc - 1, argv + 1);
    }

    if (argc > 1 && strcmp(argv[1], "latency") == 0) {
        return latency_main(argc - 1, argv + 1);
    }

    if (argc > 1 && strcmp(argv[1], "rate") == 0) {
        return rate_main(argc - 1, argv + 1);
    }

    if (argc > 1 && strcmp(argv[1], "touch") == 0) {
        return touch_main(argc - 1, argv + 1);
    }

    fprintf(stderr, "usage: client get|latency|rate [options] port path\n"
            "       client touch bytes\n");

    return 2;
}


static int
get_main(int argc, char **argv)
{
    int          i, opt, n = 1, failed = 0, status = 0;
    get_t       *g;
    double       start;
    int64_t      bytes = 0;
    const char  *range = NULL;

    while ((opt = getopt(argc, argv, "c:r:")) != -1) {
        switch (opt) {
        case 'c':
            n = atoi(optarg);
            break;
        case 'r':
            range = optarg;
            break;
        default:
            return 2;
        }
    }

    if (argc - optind != 2 || n < 1) {
        fprintf(stderr, "client get: port and path are needed\n");
        return 2;
    }

    g = calloc(n, sizeof(get_t));
    if (g == NULL) {
        die("calloc");
    }

    start = now();

    for (i = 0; i < n; i++) {
        g[i].port = atoi(argv[optind]);
        g[i].path = argv[optind + 1];
        g[i].range = range;

        if (pthread_create(&g[i].thread, NULL, get_one, &g[i]) != 0) {
            die("pthread_create");
        }
    }

    for (i = 0; i < n; i++) {
        pthread_join(g[i].thread, NULL);
        bytes += g[i].bytes;
        failed += g[i].failed;
        status = g[i].status > status ? g[i].status : status;
    }

    printf("{\"wall\":%.6f,\"bytes\":%lld,\"status\":%d,\"failed\":%d}\n",
           now() - start, (long long) bytes, status, failed);

    free(g);

    return failed ? 1 : 0;
}


static void *
get_one(void *data)
{
    get_t   *g = data;

    int      fd, n;
    char    *buf, text[2048];
    head_t  *h;
    ssize_t  k;

    g->failed = 1;

    buf = malloc(MIB);
    h = calloc(1, sizeof(head_t));
    fd = dial(g->port);

    if (fd == -1 || buf == NULL || h == NULL) {
        goto done;
    }

    n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: bench\r\n"
                 "%s%s%sConnection: close\r\n\r\n", g->path,
                 g->range ? "Range: bytes=" : "", g->range ? g->range : "",
                 g->range ? "\r\n" : "");

    if (send_all(fd, text, n, 0) == -1 || read_head(fd, h) == -1) {
        goto done;
    }

    g->status = h->status;
    g->bytes = h->len - h->head;

    while (h->length == -1 || g->bytes < h->length) {
        k = recv(fd, buf, MIB, 0);
        if (k <= 0) {
            break;
        }

        g->bytes += k;
    }

    g->failed = h->status < 200 || h->status > 206
                || (h->length != -1 && g->bytes != h->length);

done:

    if (fd != -1) {
        close(fd);
    }

    free(buf);
    free(h);

    return NULL;
}


static int
latency_main(int argc, char **argv)
{
    int       opt, port, fd = -1, bytes = 4096, failed = 0;
    long      n = 0, max = 0, room = 0;
    double    start, begin, seconds = 0;
    float    *us = NULL;
    int64_t   size = 0;

    while ((opt = getopt(argc, argv, "t:n:b:s:")) != -1) {
        switch (opt) {
        case 't':
            seconds = atof(optarg);
            break;
        case 'n':
            max = atol(optarg);
            break;
        case 'b':
            bytes = atoi(optarg);
            break;
        case 's':
            size = strtoll(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    }

    if (argc - optind != 2 || bytes < 1 || size < bytes) {
        fprintf(stderr, "client latency: size, port and path are needed\n");
        return 2;
    }

    signal(SIGTERM, stop);
    srand48(20240117);

    port = atoi(argv[optind]);
    start = now();

    while (!stopped && (max == 0 || n < max)
           && (seconds == 0 || now() - start < seconds))
    {
        if (n == room) {
            room = room ? room * 2 : 65536;
            us = realloc(us, room * sizeof(float));
            if (us == NULL) {
                die("realloc");
            }
        }

        begin = now();

        if (latency_one(&fd, port, argv[optind + 1],
                        (int64_t) (drand48() * (size / bytes)) * bytes, bytes)
            == -1)
        {
            /* SIGTERM interrupts a recv() that has a timeout */

            if (stopped || ++failed > 100) {
                break;
            }
            continue;
        }

        us[n++] = (now() - begin) * 1e6;
    }

    if (n == 0) {
        printf("{\"n\":0,\"failed\":%d}\n", failed);
        return 1;
    }

    qsort(us, n, sizeof(float), compare);

    printf("{\"n\":%ld,\"failed\":%d,\"p50\":%.1f,\"p99\":%.1f,"
           "\"max\":%.1f}\n",
           n, failed, us[n / 2], us[n * 99 / 100], us[n - 1]);

    free(us);

    return 0;
}


static int
latency_one(int *fd, int port, const char *path, int64_t off, int bytes)
{
    int             n;
    char            text[2048];
    size_t          got;
    ssize_t         k;
    static char     buf[65536];
    static head_t   h;

    if (*fd == -1) {
        *fd = dial(port);
        if (*fd == -1) {
            return -1;
        }
    }

    n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: bench\r\n"
                 "Range: bytes=%lld-%lld\r\n\r\n", path, (long long) off,
                 (long long) off + bytes - 1);

    h.len = 0;

    if (send_all(*fd, text, n, 0) == -1 || read_head(*fd, &h) == -1
        || h.status != 206 || h.length != bytes)
    {
        goto failed;
    }

    for (got = h.len - h.head; got < (size_t) bytes; got += k) {
        k = recv(*fd, buf, sizeof(buf), 0);
        if (k <= 0) {
            goto failed;
        }
    }

    if (header(&h, "connection: close")) {
        close(*fd);
        *fd = -1;
    }

    return 0;

failed:

    close(*fd);
    *fd = -1;

    return -1;
}


/*
 * One thread sends and receives by turns and, with enough connections, finds
 * the next answer there already: so it costs less than the server does, and
 * the rate is the server's.
 */

static int
rate_main(int argc, char **argv)
{
    int          i, len, opt, port, connections = 32, failed = 0, *fd;
    char         text[4096];
    long         n = 0;
    double       start, seconds = 1;
    const char  *authorization = NULL;

    while ((opt = getopt(argc, argv, "c:t:a:")) != -1) {
        switch (opt) {
        case 'c':
            connections = atoi(optarg);
            break;
        case 't':
            seconds = atof(optarg);
            break;
        case 'a':
            authorization = optarg;
            break;
        default:
            return 2;
        }
    }

    if (argc - optind != 2 || connections < 1) {
        fprintf(stderr, "client rate: port and path are needed\n");
        return 2;
    }

    port = atoi(argv[optind]);

    len = snprintf(text, sizeof(text),
                   "GET %s HTTP/1.1\r\nHost: bench\r\n%s%s%s\r\n",
                   argv[optind + 1], authorization ? "Authorization: " : "",
                   authorization ? authorization : "",
                   authorization ? "\r\n" : "");

    fd = calloc(connections, sizeof(int));
    if (fd == NULL || len >= (int) sizeof(text)) {
        die("client rate");
    }

    for (i = 0; i < connections; i++) {
        fd[i] = dial(port);
        if (fd[i] == -1) {
            die("connect");
        }
    }

    start = now();

    for (i = 0; i < connections; i++) {
        failed += send_all(fd[i], text, len, 0) == -1;
    }

    for (i = 0; !failed && now() - start < seconds; i++, i %= connections) {
        if (rate_answer(fd[i]) == -1 || send_all(fd[i], text, len, 0) == -1) {
            failed++;
        }

        n++;
    }

    seconds = now() - start;

    for (i = 0; i < connections; i++) {
        close(fd[i]);
    }

    free(fd);

    printf("{\"n\":%ld,\"wall\":%.6f,\"failed\":%d}\n", n, seconds, failed);

    return failed ? 1 : 0;
}


static int
rate_answer(int fd)
{
    int64_t         got;
    ssize_t         k;
    static char     buf[65536];
    static head_t   h;

    h.len = 0;

    if (read_head(fd, &h) == -1 || h.status != 200 || h.length < 1
        || header(&h, "connection: close"))
    {
        return -1;
    }

    for (got = h.len - h.head; got < h.length; got += k) {
        k = recv(fd, buf, sizeof(buf), 0);
        if (k <= 0) {
            return -1;
        }
    }

    return got == h.length ? 0 : -1;
}


static int
compare(const void *a, const void *b)
{
    float  x = *(const float *) a, y = *(const float *) b;

    return x < y ? -1 : x > y;
}


static void
stop(int signo)
{
    stopped = 1;
}


/*
 * A virtual machine hands memory that it does not use back to its host, and
 * the first touch of it afterwards costs several times what writing a page
 * costs.  So that no subject pays for that, memory is touched and given back
 * to this system right before each cold run.
 */

static int
touch_main(int argc, char **argv)
{
    char    *p;
    size_t   size, i;

    size = (argc == 2) ? strtoull(argv[1], NULL, 10) : 0;

    if (size == 0) {
        fprintf(stderr, "client touch: bytes are needed\n");
        return 2;
    }

    p = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1,
             0);
    if (p == MAP_FAILED) {
        die("mmap");
    }

    /* as large folios, of which a page cache takes its own */

    (void) madvise(p, size, MADV_HUGEPAGE);

    for (i = 0; i < size; i += 4096) {
        p[i] = 1;
    }

    return 0;
}
