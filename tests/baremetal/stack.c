/* Measures the stack of one inference of `kws` on bare metal, where nothing else uses it: exits
   with 0 where it is within what the model states. */
#include "kws.h"

void say(const char *text);
extern unsigned char stack_bottom[];
extern const float input[490];

enum { PAINT = 0x5A };
static unsigned char arena[KWS_ARENA_BYTES + 1] __attribute__((aligned(KWS_ARENA_ALIGN)));

static void print(unsigned long number) {
    char text[24], *p = text + sizeof text - 1;
    *p = 0;
    do *--p = (char)('0' + number % 10);
    while (number /= 10);
    say(p);
}

int main(void) {
    float scores[12];
    const void *const inputs[] = {input};
    void *const outputs[] = {scores};
    unsigned char *low = stack_bottom, *top;
    int32_t status;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    /* Volatile, so that no call of memset, with a frame of its own, is made of the loop. */
    for (volatile unsigned char *p = low; p < top; p++) *p = PAINT;
    status = kws_model.run(inputs, outputs, 0, arena);
    while (low < top && *low == PAINT) low++;
    say("stack used ");
    print((unsigned long)(top - low));
    say(", stated ");
    print(KWS_STACK_BYTES);
    say("\n");
    return status != 0 || (unsigned long)(top - low) > KWS_STACK_BYTES;
}
