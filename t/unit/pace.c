
/*
 * Copyright (C) The nginx-oci authors
 *
 * A registry is a function from the number of exchanges to bytes a second;
 * time goes on in steps of a millisecond.
 */


#include "ngx_oci_pace.h"
#include "tap.h"


typedef struct {
    ngx_oci_pace_t   pace;
    ngx_msec_t       now;
    ngx_msec_t       grown;             /* of the newest exchanges */
    ngx_msec_t       latency;           /* ms until they bring bytes */
    ngx_uint_t       widest;
    ngx_uint_t       trials;
} t_fill_t;


typedef uint64_t (*t_registry_pt)(ngx_uint_t width);


static uint64_t
t_each_60m(ngx_uint_t width)
{
    return (uint64_t) width * 60000000;
}


static uint64_t
t_all_900m(ngx_uint_t width)
{
    return 900000000;
}


static uint64_t
t_two_100m(ngx_uint_t width)
{
    return (uint64_t) ngx_min(width, 2) * 100000000;
}


static uint64_t
t_each_10k(ngx_uint_t width)
{
    return (uint64_t) width * 10000;
}


static void
t_init(t_fill_t *f, ngx_msec_t latency)
{
    memset(f, 0, sizeof(t_fill_t));
    ngx_oci_pace_init(&f->pace);

    /* a clock that runs over must not matter */

    f->now = (ngx_msec_t) -700;
    f->grown = f->now;
    f->latency = latency;
}


static void
t_run(t_fill_t *f, t_registry_pt registry, ngx_uint_t max, ngx_msec_t ms)
{
    ngx_uint_t  settled, width;

    while (ms--) {
        f->now++;

        settled = f->now - f->grown >= f->latency;
        width = settled ? f->pace.width : f->pace.narrow;

        if (ngx_oci_pace(&f->pace, f->now, registry(width) / 1000, max,
                         settled))
        {
            f->grown = f->now;
            f->trials++;
        }

        f->widest = ngx_max(f->widest, f->pace.width);
    }
}


int
main(void)
{
    t_fill_t  f;

    t_init(&f, 1);
    tap_ok(f.pace.width == 1, "begins with one");

    t_run(&f, t_each_60m, 8, 200);
    tap_ok(f.pace.width == 8, "each brings more: all within 200 ms");
    t_run(&f, t_each_60m, 8, 5000);
    tap_ok(f.pace.width == 8, "and stays so");
    tap_ok(f.widest == 8, "never more than allowed");
    t_run(&f, t_each_60m, 3, 1);
    tap_ok(f.pace.width == 3, "a lower limit holds at once");

    t_init(&f, 1);
    t_run(&f, t_each_60m, 6, 1000);
    tap_ok(f.pace.width == 6, "a limit that is no power of two");

    t_init(&f, 1);
    t_run(&f, t_each_60m, 1, 1000);
    tap_ok(f.pace.width == 1 && f.trials == 0, "a limit of one");

    t_init(&f, 1);
    t_run(&f, t_all_900m, 8, 1000);
    tap_ok(f.pace.width == 1, "none brings more: one");
    tap_ok(f.trials == 1, "which was tried once in a second");
    t_run(&f, t_all_900m, 8, 59000);
    tap_ok(f.trials >= 4 && f.trials <= 8, "and seldom later");
    tap_ok(f.widest == 2, "with two at most");
    t_run(&f, t_each_60m, 8, 40000);
    tap_ok(f.pace.width == 8, "when more help later, they are found");

    t_init(&f, 1);
    t_run(&f, t_two_100m, 8, 1000);
    tap_ok(f.pace.width == 2, "two help, four do not");

    t_init(&f, 300);
    t_run(&f, t_each_60m, 4, 900);
    tap_ok(f.pace.width == 4, "far away: waits for the first bytes");

    t_init(&f, 1);
    t_run(&f, t_each_10k, 4, 1000);
    tap_ok(f.pace.width == 4, "slow ones too");

    t_init(&f, 5000);
    t_run(&f, t_each_60m, 8, 100);
    tap_ok(f.pace.width == 2 && ngx_oci_pace_trying(&f.pace), "a trial");
    t_run(&f, t_each_60m, 8, 1100);
    tap_ok(f.pace.width == 1 && !ngx_oci_pace_trying(&f.pace),
           "ends if the other brings nothing for a second");

    t_init(&f, 1000);
    t_run(&f, t_each_60m, 8, 100);
    ngx_oci_pace_pause(&f.pace);
    tap_ok(f.pace.width == 1, "a pause undoes a trial");

    t_init(&f, 1);
    t_run(&f, t_each_60m, 4, 1000);
    ngx_oci_pace_pause(&f.pace);
    f.now += 10000;
    t_run(&f, t_each_60m, 4, 1);
    tap_ok(f.pace.width == 4, "but not what was proven");

    return tap_done();
}
