#include "anomaly.h"
#include "kws.h"
#include <stdio.h>

/* As large as the larger of both, aligned as the stricter one asks. */
#define MAX(a, b) ((a) > (b) ? (a) : (b))
static _Alignas(MAX(ANOMALY_ARENA_ALIGN, KWS_ARENA_ALIGN)) unsigned char
    arena[MAX(ANOMALY_ARENA_BYTES, KWS_ARENA_BYTES)];

int main(void) {
    static const float spectrum[640], features[490];
    static float restored[640];
    float scores[12];
    int32_t status = anomaly_run(spectrum, restored, arena);
    if (status == LMC_OK) status = kws_run(features, scores, arena);
    printf("%.3f %.3f\n", restored[0], scores[0]);
    return status;
}
