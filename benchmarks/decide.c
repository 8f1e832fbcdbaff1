
/*
 * decide file subjects
 *
 *     Loads a policy document of so many subjects, as Bench.pm writes it, the
 *     way a worker does, then decides by it 200,000 times, as a request of
 *     a subject is, in no order: half may, half may not.  Prints what both
 *     take, and the memory: compiled, and of the process while it loaded.
 */

#include "ngx_oci_rbac.h"

#define NAMES  65536        /* a power of two; more than caches hold */
#define ASKED  200000


typedef struct {
    ngx_str_t   subject;
    ngx_str_t   repository;
    u_char      text[2][64];
} name_t;


static double
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}


static char *
load(const char *name, size_t *len)
{
    FILE  *f;
    char  *text;
    long   size;

    f = fopen(name, "r");
    if (f == NULL || fseek(f, 0, SEEK_END) == -1) {
        return NULL;
    }

    size = ftell(f);
    rewind(f);

    text = size > 0 ? malloc(size) : NULL;
    if (text == NULL || fread(text, 1, size, f) != (size_t) size) {
        return NULL;
    }

    fclose(f);
    *len = size;

    return text;
}


/* getrusage() has the peak of whoever forked this process, too */

static long
peak_kib(void)
{
    FILE  *f;
    char   line[256];
    long   kib = 0;

    f = fopen("/proc/self/status", "r");
    if (f == NULL) {
        return 0;
    }

    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) {
            break;
        }
    }

    fclose(f);

    return kib;
}


static name_t *
ask(long n)
{
    long     i, projects, subject, project;
    name_t  *q;

    q = calloc(NAMES, sizeof(name_t));
    if (q == NULL) {
        return NULL;
    }

    projects = n < 10 ? 1 : n / 10;
    srand48(20240117);

    for (i = 0; i < NAMES; i++) {
        subject = lrand48() % n;
        project = (subject + (i & 1)) % projects;

        q[i].subject.data = q[i].text[0];
        q[i].subject.len = sprintf((char *) q[i].text[0], "robot$p%ld+ci",
                                   subject);

        /* each tenth project is public */

        if ((i & 1) && project % 10 == 0) {
            project = (project + 1) % projects;
        }

        q[i].repository.data = q[i].text[1];
        q[i].repository.len = sprintf((char *) q[i].text[1], "p%ld/model/x",
                                      project);
    }

    return q;
}


int
main(int argc, char **argv)
{
    long                     i, n, allowed = 0;
    long                     peak;
    char                    *text;
    double                   start, loaded, decided;
    size_t                   len;
    name_t                  *q, *p;
    ngx_oci_rbac_t          *doc;
    ngx_oci_rbac_rule_t     *rule;
    ngx_oci_rbac_subject_t  *subject;
    ngx_oci_policy_error_t   error;

    n = argc == 3 ? atol(argv[2]) : 0;
    if (n < 1) {
        fprintf(stderr, "usage: decide file subjects\n");
        return 2;
    }

    start = now();

    text = load(argv[1], &len);
    if (text == NULL) {
        perror(argv[1]);
        return 1;
    }

    doc = ngx_oci_policy_compile(text, len, &error);
    if (doc == NULL) {
        fprintf(stderr, "%s: %s\n", argv[1], error.text);
        return 1;
    }

    free(text);
    loaded = now() - start;
    peak = peak_kib();

    q = ask(n);
    if (q == NULL) {
        return 1;
    }

    start = now();

    for (i = 0; i < ASKED; i++) {
        p = &q[i & (NAMES - 1)];
        subject = ngx_oci_rbac_subject(doc, &p->subject);
        allowed += ngx_oci_rbac_rights(doc, subject, &p->repository,
                                       NGX_OCI_PULL, &rule)
                   & NGX_OCI_PULL;
    }

    decided = now() - start;

    if (allowed < ASKED / 2) {
        fprintf(stderr, "%ld of %d were allowed\n", allowed, ASKED);
        return 1;
    }

    printf("{\"load_ms\":%.3f,\"file_mib\":%.3f,\"compiled_mib\":%.3f,"
           "\"peak_mib\":%.3f,\"decide_us\":%.4f}\n", loaded * 1e3,
           len / 1048576.0, doc->size / 1048576.0, peak / 1024.0,
           decided / ASKED * 1e6);

    free(doc);
    free(q);

    return 0;
}
