/* A program for several processors: says which of two compilations of one model runs here, and runs it. */
#include "kws.h"
#include "kws_fast.h"
#include "lmc.h"
#include "say.h"

enum { BYTES = KWS_ARENA_BYTES > KWS_FAST_ARENA_BYTES ? KWS_ARENA_BYTES : KWS_FAST_ARENA_BYTES };
extern const float input[490];
static unsigned char arena[BYTES] __attribute__((aligned(64)));

int main(void) {
    float scores[12];
    const lmc_model *model = lmc_check(&kws_fast_model) == LMC_OK ? &kws_fast_model : &kws_model;
    const void *const inputs[] = {input};
    void *const outputs[] = {scores};
    if (lmc_run(model, inputs, outputs, 0, arena, sizeof arena) != LMC_OK) return 1;
    say(model->name);
    say(" runs here\n");
    return 0;
}
