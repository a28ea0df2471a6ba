/*
 * Answers the CPUID instructions that hide.py replaced by breakpoints as a processor without
 * AVX-512, AVX-VNNI and AMX would: loaded with LD_PRELOAD into the peers for --isa avx2.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

#define BITS3(a, b, c) (1u << (a) | 1u << (b) | 1u << (c))

static void answer(int signal_number, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint32_t leaf = (uint32_t)r[REG_RAX], sub = (uint32_t)r[REG_RCX], a, b, c, d;
    (void)info;
    if (*(const uint8_t *)r[REG_RIP] != 0x90) { /* a breakpoint of somebody else */
        signal(signal_number, SIG_DFL);
        return;
    }
    __cpuid_count(leaf, sub, a, b, c, d);
    if (leaf == 7 && sub == 0) {
        /* avx512: f, dq, ifma, pf, er, cd, bw, vl */
        b &= ~(BITS3(16, 17, 21) | BITS3(26, 27, 28) | BITS3(30, 31, 31));
        /* vbmi, vbmi2, vnni, bitalg, vpopcntdq */
        c &= ~(BITS3(1, 6, 11) | BITS3(12, 14, 14));
        /* 4vnniw, 4fmaps, vp2intersect, amx-bf16, fp16, amx-tile, amx-int8 */
        d &= ~(BITS3(2, 3, 8) | BITS3(22, 23, 24) | 1u << 25);
    } else if (leaf == 7 && sub == 1) {
        a &= ~(BITS3(4, 5, 21) | 1u << 23); /* avx-vnni, avx512-bf16, amx-fp16, avx-ifma */
        d &= ~(BITS3(4, 5, 8) | BITS3(10, 19, 19)); /* avx-vnni-int8, avx-ne-convert, amx-complex, ... */
    } else if (leaf == 0xd && sub == 0) {
        a &= 7; /* x87, SSE, AVX state only */
    }
    r[REG_RAX] = a;
    r[REG_RBX] = b;
    r[REG_RCX] = c;
    r[REG_RDX] = d;
    r[REG_RIP] += 1;
}

__attribute__((constructor)) static void install(void) {
    struct sigaction action = {0};
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGTRAP, &action, 0);
}
