#include "kws.h"
#include <stdio.h>

static _Alignas(KWS_ARENA_ALIGN) unsigned char arena[KWS_ARENA_BYTES];

int main(void) {
    static const float features[490]; /* 49 windows of 10 MFCC features: silence */
    float scores[12];
    int32_t status = kws_run(features, scores, arena);
    if (status != LMC_OK) return status;
    for (int i = 0; i < 12; i++) printf("%.3f\n", scores[i]);
    return 0;
}
