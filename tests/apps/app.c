/* Runs one inference of the model `kws` and compares with the expected output. C99 and C++11. */
#include "kws.h"
#include "say.h"

enum { OUTPUTS = 12 };
extern const float input[490], expected[OUTPUTS];

static unsigned char arena[KWS_ARENA_BYTES + 1] __attribute__((aligned(KWS_ARENA_ALIGN)));

int main(void) {
    float scores[OUTPUTS];
    int i;
    if (kws_run(input, scores, arena) != LMC_OK) {
        say("the model failed\n");
        return 2;
    }
    for (i = 0; i < OUTPUTS; i++) {
        float difference = scores[i] - expected[i];
        /* Written so that NaN fails. */
        if (!(difference > -1e-4f && difference < 1e-4f)) {
            say("the result differs\n");
            return 1;
        }
    }
    say("the result is as expected\n");
    return 0;
}
