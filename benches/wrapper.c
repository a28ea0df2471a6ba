/* A model as a shared library: bench_run(inputs, outputs). LMC_MODEL names its structure. */
#define _GNU_SOURCE
#include "lmc.h"
#include <stdlib.h>

extern const lmc_model LMC_MODEL;

static void *arena;
static int64_t symbols[16];

int bench_run(const void *const *inputs, void *const *outputs) {
    const lmc_model *m = &LMC_MODEL;
    if (!arena) {
        if (m->symbol_count > 16 || posix_memalign(&arena, 4096, m->arena_bytes + 1)) return -1;
    }
    for (uint32_t i = 0; i < m->symbol_count; i++) symbols[i] = m->symbols[i].max;
    return m->run(inputs, outputs, symbols, arena);
}
