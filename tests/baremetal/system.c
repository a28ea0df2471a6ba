/* What a bare-metal test program needs: text and exit by semihosting, and the use of the stack. */
#include <stdint.h>

static long semihost(long operation, const void *argument) {
    register long x0 __asm__("x0") = operation;
    register const void *x1 __asm__("x1") = argument;
    __asm__ volatile("hlt #0xf000" : "+r"(x0) : "r"(x1) : "memory");
    return x0;
}

void say(const char *text) { semihost(4 /* SYS_WRITE0 */, text); }

void finish(int code) {
    const uint64_t block[2] = {0x20026 /* ADP_Stopped_ApplicationExit */, (uint64_t)code};
    semihost(0x20 /* SYS_EXIT_EXTENDED */, block);
    for (;;) {
    }
}

/* gcc may call these in any program. */
void *memset(void *to, int value, unsigned long bytes) {
    unsigned char *p = to;
    while (bytes--) *p++ = (unsigned char)value;
    return to;
}

void *memcpy(void *to, const void *from, unsigned long bytes) {
    unsigned char *p = to;
    const unsigned char *q = from;
    while (bytes--) *p++ = *q++;
    return to;
}
