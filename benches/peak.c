/* The peak rate of f32 multiply-adds of one core: GFLOP/s at 128, 256 and 512 bits, one line each.
   Short bursts, of which the fastest counts, so that other load shows little. */
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

enum { CHAINS = 12, STEPS = 200000, BURSTS = 201 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Twelve chains, more than latency times pipes; the empty asm keeps them apart. */
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define START(c) a##c = x;
#define STEP(c) a##c = FMA(a##c, x, y); __asm__ volatile("" : "+v"(a##c));
#define BURST(NAME, ISA, VECTOR, SET, LANES)                                                  \
    __attribute__((target(ISA), noinline)) static double NAME(void) {                         \
        VECTOR x = SET(1.0000001f), y = SET(1e-9f);                                           \
        VECTOR a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11;                              \
        EACH(START)                                                                           \
        double start = now();                                                                 \
        for (int i = 0; i < STEPS; i++) { EACH(STEP) }                                        \
        return 2.0 * LANES * CHAINS * STEPS / (now() - start) * 1e-9;                         \
    }
#define FMA _mm_fmadd_ps
BURST(burst128, "avx2,fma", __m128, _mm_set1_ps, 4)
#undef FMA
#define FMA _mm256_fmadd_ps
BURST(burst256, "avx2,fma", __m256, _mm256_set1_ps, 8)
#undef FMA
#define FMA _mm512_fmadd_ps
BURST(burst512, "avx512f", __m512, _mm512_set1_ps, 16)

static void report(int bits, int supported, double (*burst)(void)) {
    double best = 0;
    for (int i = 0; supported && i < BURSTS; i++) {
        double rate = burst();
        if (rate > best) best = rate;
    }
    printf("%d %.1f\n", bits, best);
}

int main(void) {
    int fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    report(128, fma, burst128);
    report(256, fma, burst256);
    report(512, __builtin_cpu_supports("avx512f"), burst512);
    return 0;
}
