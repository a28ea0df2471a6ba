/* Two threads run the model `kws` at once with two arenas; each must get what it gets alone. */
#include "kws.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { INPUTS = 490, OUTPUTS = 12, ROUNDS = 200 };
extern const float input[INPUTS];

typedef struct work {
    float in[INPUTS], alone[OUTPUTS];
    unsigned char arena[KWS_ARENA_BYTES + 1] __attribute__((aligned(KWS_ARENA_ALIGN)));
    int wrong;
} work;

static void *repeat(void *argument) {
    work *w = argument;
    float out[OUTPUTS];
    for (int i = 0; i < ROUNDS; i++) {
        if (kws_run(w->in, out, w->arena) || memcmp(out, w->alone, sizeof out)) w->wrong++;
    }
    return NULL;
}

int main(void) {
    static work works[2];
    pthread_t threads[2];
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < INPUTS; i++) works[t].in[i] = t ? input[INPUTS - 1 - i] : input[i];
        if (kws_run(works[t].in, works[t].alone, works[t].arena)) return 2;
    }
    if (!memcmp(works[0].alone, works[1].alone, sizeof works[0].alone)) return 3;
    for (int t = 0; t < 2; t++) {
        if (pthread_create(&threads[t], NULL, repeat, &works[t])) return 4;
    }
    for (int t = 0; t < 2; t++) pthread_join(threads[t], NULL);
    printf("%d wrong\n", works[0].wrong + works[1].wrong);
    return works[0].wrong + works[1].wrong != 0;
}
