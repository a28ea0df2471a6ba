/* The functions of lmc.h. Freestanding: needs no library, allocates nothing. */
#include "lmc.h"

const char *lmc_error_text(int32_t code) {
    switch (code) {
    case LMC_OK: return "success";
    case LMC_ERR_INDEX: return "an index computed from the input data lies outside its tensor";
    case LMC_ERR_ARENA: return "the arena is null, too small or not aligned as the model asks";
    case LMC_ERR_SYMBOL: return "a run-time size is negative, over its bound, or contradicts another";
    case LMC_ERR_LIMIT: return "a loop or a data-dependent size went past the bound it was compiled for";
    case LMC_ERR_VALUE: return "an input value lies outside what its operator defines";
    case LMC_ERR_TENSOR: return "a tensor is missing, or its size or alignment is not the model's";
    case LMC_ERR_VERSION: return "the model was compiled for another version of the interface";
    default: return "an error code unknown to this version";
    }
}

int32_t lmc_check(const lmc_model *model) {
    return model->abi_version == LMC_ABI_VERSION ? LMC_OK : LMC_ERR_VERSION;
}

size_t lmc_arena_reserve(const lmc_model *model) {
    return (size_t)model->arena_bytes + model->arena_align - 1;
}

void *lmc_arena_place(const lmc_model *model, void *memory, size_t bytes) {
    size_t skip = (size_t)(-(uintptr_t)memory & ((uintptr_t)model->arena_align - 1));
    if (!memory || bytes < skip || bytes - skip < model->arena_bytes) return NULL;
    return (char *)memory + skip;
}

size_t lmc_dtype_size(uint32_t dtype) {
    switch (dtype) {
    case 1: case 6: case 12: return 4;         /* float, int32, uint32 */
    case 4: case 5: case 10: case 16: return 2; /* uint16, int16, float16, bfloat16 */
    case 7: case 11: case 13: return 8;        /* int64, double, uint64 */
    default: return 1;
    }
}

/* Whether every tensor has a pointer that is aligned for its element. */
static int placed(const lmc_tensor *tensors, uint32_t count, const void *const *data) {
    uint32_t i;
    for (i = 0; i < count; i++) {
        if (!data[i] || (uintptr_t)data[i] % lmc_dtype_size(tensors[i].dtype)) return 0;
    }
    return 1;
}

int32_t lmc_run(const lmc_model *model, const void *const *inputs, void *const *outputs, int64_t *symbols,
                void *arena, size_t arena_bytes) {
    if (lmc_check(model) != LMC_OK) return LMC_ERR_VERSION;
    if (!placed(model->inputs, model->input_count, inputs)) return LMC_ERR_TENSOR;
    if (!placed(model->outputs, model->output_count, (const void *const *)outputs)) return LMC_ERR_TENSOR;
    if (model->symbol_count && !symbols) return LMC_ERR_SYMBOL;
    if (model->arena_bytes && lmc_arena_place(model, arena, arena_bytes) != arena) return LMC_ERR_ARENA;
    return model->run(inputs, outputs, symbols, arena);
}
