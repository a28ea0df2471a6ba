/* Calls f(a[0], ..., a[7]) n times; wall[i] gets the nanoseconds of call i. Returns the first
   value of f that was not 0. One loop for all that is reached through C, so that a call of a few
   microseconds is measured alike. */
#include <stdint.h>
#include <time.h>

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

typedef intptr_t (*function)(void *, void *, void *, void *, void *, void *, void *, void *);

intptr_t bench_loop(void *f, void **a, long n, uint64_t *wall) {
    intptr_t failed = 0;
    for (long i = 0; i < n; i++) {
        uint64_t start = now();
        intptr_t status = ((function)f)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
        wall[i] = now() - start;
        if (!failed) failed = status;
    }
    return failed;
}
