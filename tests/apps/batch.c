/*
 * Runs a table of models, each once: batch INPUTS OUTPUTS FIRST
 *
 * INPUTS has the bytes of all inputs of all models, one behind the other. For each model from number
 * FIRST on, OUTPUTS gets the status (int32) and the outputs. Arena and outputs start as garbage; a
 * status of -1 says that the model wrote past the end of one of them.
 */
#include "lmc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const lmc_model *const batch[];
extern const unsigned batch_count;

enum { GUARD = 64, GARBAGE = 0xA5 };

static unsigned char *buffer(uint64_t bytes, size_t align) {
    size_t size = (size_t)bytes + GUARD, step = align < 64 ? 64 : align;
    unsigned char *memory = malloc(size + step);
    if (!memory) exit(2);
    memory += step - (uintptr_t)memory % step;
    memset(memory, GARBAGE, size);
    return memory;
}

static int intact(const unsigned char *memory, uint64_t bytes) {
    for (int i = 0; i < GUARD; i++) {
        if (memory[bytes + (uint64_t)i] != GARBAGE) return 0;
    }
    return 1;
}

static int32_t run(const lmc_model *m, void **inputs, FILE *out) {
    void *outputs[64];
    int64_t symbols[64] = {0};
    unsigned char *arena = buffer(m->arena_bytes, m->arena_align);
    for (uint32_t i = 0; i < m->output_count; i++) outputs[i] = buffer(m->outputs[i].bytes, 64);
    int32_t status = m->run((const void *const *)inputs, outputs, m->symbol_count ? symbols : NULL, arena);
    if (!intact(arena, m->arena_bytes)) status = -1;
    for (uint32_t i = 0; i < m->output_count; i++) {
        if (!intact(outputs[i], m->outputs[i].bytes)) status = -1;
    }
    fwrite(&status, sizeof status, 1, out);
    for (uint32_t i = 0; i < m->output_count; i++) fwrite(outputs[i], 1, (size_t)m->outputs[i].bytes, out);
    fflush(out);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    if (!in || !out) return 2;
    unsigned first = (unsigned)atoi(argv[3]);
    for (unsigned k = 0; k < batch_count; k++) {
        const lmc_model *m = batch[k];
        void *inputs[64];
        if (m->input_count > 64 || m->output_count > 64 || m->symbol_count > 64) return 2;
        for (uint32_t i = 0; i < m->input_count; i++) {
            size_t bytes = (size_t)m->inputs[i].bytes;
            inputs[i] = buffer(bytes, 64);
            if (fread(inputs[i], 1, bytes, in) != bytes) return 2;
        }
        if (k >= first) run(m, inputs, out);
    }
    return 0;
}
