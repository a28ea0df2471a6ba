#include "lmc.h"
#include <stdio.h>
#include <stdlib.h>

extern const lmc_model kws_model;

static void **zeros(const char *what, const lmc_tensor *tensors, uint32_t count) {
    void **data = calloc(count, sizeof *data);
    for (uint32_t i = 0; i < count; i++) {
        data[i] = calloc(1, tensors[i].bytes);
        printf("%s %s: %u bytes\n", what, tensors[i].name, (unsigned)tensors[i].bytes);
    }
    return data;
}

int main(void) {
    const lmc_model *model = &kws_model;
    void **inputs = zeros("input", model->inputs, model->input_count);
    void **outputs = zeros("output", model->outputs, model->output_count);
    size_t bytes = lmc_arena_reserve(model);
    void *arena = lmc_arena_place(model, malloc(bytes), bytes);
    int32_t status =
        lmc_run(model, (const void *const *)inputs, outputs, NULL, arena, (size_t)model->arena_bytes);
    printf("%s\n", lmc_error_text(status));
    return status;
}
