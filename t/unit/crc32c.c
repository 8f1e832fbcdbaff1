
/*
 * Copyright (C) The nginx-oci authors
 */


/*
 * Both implementations are tested, whatever the processor: the file is
 * included for its statics, under a name that doesn't clash when the object
 * is linked too.
 */

#define ngx_oci_crc32c  t_crc32c

#include "ngx_oci_crc32c.c"
#include "tap.h"
#include <pthread.h>


#define T_SIZE   1024
#define T_LARGE  (3 * 12288 + 128)
#define T_BUILDS 200


typedef uint32_t (*t_crc32c_pt)(uint32_t crc, const u_char *p, size_t len);


typedef struct {
    const char  *name;
    const char  *text;              /* NULL: made by t_fill() */
    ngx_uint_t   fill;
    size_t       len;
    uint32_t     crc;
} t_vector_t;


static t_vector_t  t_vectors[] = {

    /* RFC 3720, B.4; the bytes on the wire are those of the little end */

    { "32 bytes of zeroes", NULL, 0, 32, 0x8a9136aa },
    { "32 bytes of ones", NULL, 1, 32, 0x62a8ab43 },
    { "32 bytes incrementing", NULL, 2, 32, 0x46dd794e },
    { "32 bytes decrementing", NULL, 3, 32, 0x113fdb5c },
    { "an iSCSI read PDU", NULL, 4, 48, 0xd9963a56 },

    { "nothing", "", 0, 0, 0 },
    { "check value", "123456789", 0, 9, 0xe3069283 },
    { "one byte", "a", 0, 1, 0xc1d04330 }
};


static const u_char  t_pdu[48] = {
    0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
    0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18,
    0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00
};


static void
t_fill(u_char *p, t_vector_t *v)
{
    size_t  i;

    if (v->text) {
        memcpy(p, v->text, v->len);
        return;
    }

    for (i = 0; i < v->len; i++) {

        switch (v->fill) {

        case 0:
            p[i] = 0;
            break;

        case 1:
            p[i] = 0xff;
            break;

        case 2:
            p[i] = (u_char) i;
            break;

        case 3:
            p[i] = (u_char) (v->len - 1 - i);
            break;

        default:
            p[i] = t_pdu[i];
        }
    }
}


static uint32_t
t_table(uint32_t crc, const u_char *p, size_t len)
{
    return ~ngx_oci_crc32c_table(~crc, p, len);
}


static void
t_implementation(const char *name, t_crc32c_pt crc32c)
{
    char        text[128];
    u_char      buf[T_SIZE], *large;
    size_t      i, j;
    uint32_t    crc, seed;
    ngx_uint_t  ok;

    for (i = 0; i < sizeof(t_vectors) / sizeof(t_vectors[0]); i++) {
        t_fill(buf, &t_vectors[i]);

        snprintf(text, sizeof(text), "%s: %s", name, t_vectors[i].name);
        tap_ok(crc32c(0, buf, t_vectors[i].len) == t_vectors[i].crc, text);
    }

    seed = 1;

    for (i = 0; i < T_SIZE; i++) {
        seed = seed * 1103515245 + 12345;
        buf[i] = (u_char) (seed >> 16);
    }

    crc = crc32c(0, buf, T_SIZE);
    ok = 1;

    for (i = 0; i <= T_SIZE; i++) {
        if (crc32c(crc32c(0, buf, i), buf + i, T_SIZE - i) != crc) {
            ok = 0;
        }
    }

    snprintf(text, sizeof(text), "%s: continued from every offset", name);
    tap_ok(ok, text);

    /* large enough to be computed in lanes, with and without a rest */

    large = malloc(T_LARGE);
    if (large == NULL) {
        abort();
    }

    for (i = 0; i < T_LARGE; i++) {
        seed = seed * 1103515245 + 12345;
        large[i] = (u_char) (seed >> 16);
    }

    ok = 1;

    for (i = T_LARGE - 64; i > 12200; i -= i > 12300 ? 997 : 1) {
        if (crc32c(i, large + i % 16, i) != t_table(i, large + i % 16, i)) {
            ok = 0;
        }
    }

    snprintf(text, sizeof(text), "%s: as the table, large", name);
    tap_ok(ok, text);

    free(large);

    crc = 0;

    for (i = 0; i < T_SIZE; i++) {
        crc = crc32c(crc, buf + i, 1);
    }

    snprintf(text, sizeof(text), "%s: byte by byte", name);
    tap_ok(crc == crc32c(0, buf, T_SIZE), text);

    ok = 1;

    for (i = 0; i < 16; i++) {
        for (j = 0; j < 64; j++) {
            if (crc32c(i, buf + i, j) != t_table(i, buf + i, j)) {
                ok = 0;
            }
        }
    }

    snprintf(text, sizeof(text), "%s: as the table, any alignment", name);
    tap_ok(ok, text);

    ok = 1;

    for (i = 0; i < 8 * 64; i++) {
        crc = crc32c(0, buf, 64);
        buf[i / 8] ^= 1 << (i & 7);

        if (crc32c(0, buf, 64) == crc) {
            ok = 0;
        }
    }

    snprintf(text, sizeof(text), "%s: every flipped bit is seen", name);
    tap_ok(ok, text);
}


#if defined(__x86_64__)

static uint32_t  t_shift[4][256];


/* a thread that saw no table, and is slower than the first one */

static void *
t_builds(void *data)
{
    int *done = data;

    ngx_uint_t  i;

    for (i = 0; i < T_BUILDS; i++) {
        ngx_oci_crc32c_lanes(t_shift);
    }

    __atomic_store_n(done, 1, __ATOMIC_RELEASE);

    return NULL;
}


static void
t_threads(void)
{
    int         done, ok;
    uint32_t    right[4][256];
    ngx_uint_t  i;
    pthread_t   thread;

    ngx_oci_crc32c_lanes(t_shift);
    ngx_memcpy(right, t_shift, sizeof(right));

    done = 0;
    ok = 1;

    if (pthread_create(&thread, NULL, t_builds, &done) != 0) {
        abort();
    }

    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        for (i = 0; i < 1024; i++) {
            if (__atomic_load_n(&t_shift[i / 256][i % 256], __ATOMIC_RELAXED)
                != right[i / 256][i % 256])
            {
                ok = 0;
            }
        }
    }

    (void) pthread_join(thread, NULL);

    tap_ok(ok, "a table that is in use is built once more");
}


static uint32_t
t_sse42(uint32_t crc, const u_char *p, size_t len)
{
    return ~ngx_oci_crc32c_sse42(~crc, p, len);
}

#endif


int
main(void)
{
    t_implementation("default", t_crc32c);
    t_implementation("table", t_table);

#if defined(__x86_64__)

    if (__builtin_cpu_supports("sse4.2")) {
        t_implementation("sse4.2", t_sse42);
        t_threads();

    } else {
        printf("# no sse4.2 on this processor\n");
    }

#endif

    return tap_done();
}
