/*
 * Runs any compiled model on raw tensors: linked with an object by run/foreign.rs.
 *
 *   driver FOLDER REPEAT [count]
 *
 * reads FOLDER/input_I.bin and FOLDER/symbols.bin (int64 each), runs the model REPEAT times,
 * writes FOLDER/output_I.bin and FOLDER/symbols.bin, and prints the status of the first call that
 * failed (0 where none did), then the nanoseconds of each call, one a line. Where the processor lacks
 * what the model was compiled for, its exit code is 2.
 *
 * What a model must not rely on or do is made to fail: arena and outputs start as garbage, all
 * buffers are followed by bytes that must keep their value, and inputs must not change.
 * With `count`, the instruction counter of benches/roi.c is told where the calls begin and end.
 */
#define _GNU_SOURCE
#include "lmc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/prctl.h>

extern const lmc_model LMC_MODEL;

enum { CANNOT_RUN_HERE = 2, GUARD = 64, GARBAGE = 0xA5, MARK = 0x524f4931 };

static void fail(const char *what, const char *name) {
    fprintf(stderr, "%s: %s\n", name, what);
    exit(1);
}

/* Memory for a tensor or the arena, all garbage, with a guard behind it. */
static unsigned char *buffer(uint64_t bytes, size_t align, const char *name) {
    void *memory = NULL;
    if (posix_memalign(&memory, align < 64 ? 64 : align, bytes + GUARD)) fail("out of memory", name);
    memset(memory, GARBAGE, bytes + GUARD);
    return memory;
}

static void check_guard(const unsigned char *memory, uint64_t bytes, const char *name) {
    for (int i = 0; i < GUARD; i++) {
        if (memory[bytes + i] != GARBAGE) fail("the model wrote past the end", name);
    }
}

static void transfer(const char *folder, const char *kind, int number, void *data, uint64_t bytes, int write) {
    char path[4096];
    if (number < 0) snprintf(path, sizeof path, "%s/%s.bin", folder, kind);
    else snprintf(path, sizeof path, "%s/%s_%d.bin", folder, kind, number);
    FILE *file = fopen(path, write ? "wb" : "rb");
    if (!file) fail("cannot be opened", path);
    size_t done = write ? fwrite(data, 1, bytes, file) : fread(data, 1, bytes, file);
    if (done != bytes || (!write && fgetc(file) != EOF)) fail("has the wrong size", path);
    if (fclose(file)) fail("cannot be closed", path);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv) {
    const lmc_model *m = &LMC_MODEL;
    if (argc < 3) fail("usage: driver FOLDER REPEAT [count]", argv[0]);
    int32_t checked = lmc_check(m);
    if (checked != LMC_OK) {
        fprintf(stderr, "%s: %s\n", m->name, lmc_error_text(checked));
        return CANNOT_RUN_HERE;
    }
    const char *folder = argv[1];
    int repeat = atoi(argv[2]), count = argc > 3, status = 0;

    void **inputs = calloc(m->input_count + 1, sizeof *inputs), **copies = calloc(m->input_count + 1, sizeof *copies);
    void **outputs = calloc(m->output_count + 1, sizeof *outputs);
    int64_t *symbols = calloc(m->symbol_count + 1, sizeof *symbols);
    uint64_t *times = calloc(repeat + 1, sizeof *times);
    if (!inputs || !copies || !outputs || !symbols || !times) fail("out of memory", m->name);
    for (uint32_t i = 0; i < m->input_count; i++) {
        const lmc_tensor *t = &m->inputs[i];
        inputs[i] = buffer(t->bytes, 64, t->name);
        transfer(folder, "input", i, inputs[i], t->bytes, 0);
        copies[i] = buffer(t->bytes, 64, t->name);
        memcpy(copies[i], inputs[i], t->bytes);
    }
    for (uint32_t i = 0; i < m->output_count; i++) outputs[i] = buffer(m->outputs[i].bytes, 64, m->outputs[i].name);
    if (m->symbol_count) transfer(folder, "symbols", -1, symbols, m->symbol_count * sizeof *symbols, 0);
    unsigned char *arena = buffer(m->arena_bytes, m->arena_align, "arena");

    if (count) prctl(MARK, 1, 0, 0, 0);
    for (int i = 0; i < repeat && !status; i++) {
        uint64_t start = now();
        status = m->run((const void *const *)inputs, outputs, m->symbol_count ? symbols : NULL, arena);
        times[i] = now() - start;
    }
    if (count) prctl(MARK, 2, 0, 0, 0);

    for (uint32_t i = 0; i < m->input_count; i++) {
        uint64_t bytes = m->inputs[i].bytes;
        if (memcmp(inputs[i], copies[i], bytes)) fail("the model wrote to an input", m->inputs[i].name);
        check_guard(inputs[i], bytes, m->inputs[i].name);
    }
    check_guard(arena, m->arena_bytes, "arena");
    for (uint32_t i = 0; i < m->output_count; i++) {
        check_guard(outputs[i], m->outputs[i].bytes, m->outputs[i].name);
        transfer(folder, "output", i, outputs[i], m->outputs[i].bytes, 1);
    }
    if (m->symbol_count) transfer(folder, "symbols", -1, symbols, m->symbol_count * sizeof *symbols, 1);
    printf("%d\n", status);
    for (int i = 0; i < repeat && !status; i++) printf("%llu\n", (unsigned long long)times[i]);
    return 0;
}
