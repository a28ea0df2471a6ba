/* A model written by hand: y = x + arena-held 1, for the tests of what runs models. FAULT makes it
   break one promise of the interface. */
#include "lmc.h"

static int32_t run(const void *const *inputs, void *const *outputs, int64_t *symbols, void *arena) {
    const float *x = (const float *)inputs[0];
    float *y = (float *)outputs[0], *one = (float *)arena;
    int64_t i, n = symbols[0];
    if (n < 0 || n > 4) return LMC_ERR_SYMBOL;
    one[0] = 1;
    for (i = 0; i < n; i++) y[i] = x[i] + one[0];
    symbols[1] = 2 * n;
#if FAULT == 1
    y[4] = 0; /* past the end */
#elif FAULT == 2
    ((float *)inputs[0])[0] = 7;
#elif FAULT == 3
    one[1] = 0; /* past the arena */
#endif
    return LMC_OK;
}

static const int64_t dims[] = {-1};
static const lmc_tensor x = {"x", 1, 1, dims, 16}, y = {"y", 1, 1, dims, 16};
static const lmc_symbol symbols[] = {{"n", 4}, {0, 8}};
extern const lmc_model hand_model;
const lmc_model hand_model = {LMC_ABI_VERSION, 1, 1, 2, 64, FAULT == 4 ? 1u << 31 : 0, 4, 64, "hand", &x, &y, symbols, run};
