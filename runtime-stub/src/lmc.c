/* The functions of lmc.h. Freestanding: needs no library, allocates nothing. */
#include "lmc.h"
#if defined(_MSC_VER) && defined(_M_X64)
#include <intrin.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__) && __STDC_HOSTED__
#include <sys/auxv.h>
#endif

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
    case LMC_ERR_CPU: return "the processor lacks instructions that the model was compiled for";
    default: return "an error code unknown to this version";
    }
}

#if defined(__x86_64__) || defined(_M_X64)

static void cpuid(uint32_t leaf, uint32_t part, uint32_t r[4]) {
#ifdef _MSC_VER
    __cpuidex((int *)r, (int)leaf, (int)part);
#else
    __cpuid_count(leaf, part, r[0], r[1], r[2], r[3]);
#endif
}

/* XCR0: what the operating system saves. */
static uint32_t saved(void) {
#ifdef _MSC_VER
    return (uint32_t)_xgetbv(0);
#else
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
#endif
}

static int has(uint32_t word, uint32_t mask) { return (word & mask) == mask; }

/* As processor.rs, where the masks are explained. */
uint32_t lmc_features(void) {
    uint32_t r[4], one, seven[4], os, found = 0;
    int many;
    cpuid(0, 0, r);
    many = r[0] >= 7;
    cpuid(many ? 7 : 0, 0, seven);
    cpuid(1, 0, r);
    one = r[2];
    os = has(one, 1u << 27) ? saved() : 0;
    if (!has(one, 0x00980201)) return found;
    found |= LMC_FEATURE_SSE41;
    if (!has(one, 1u << 28) || !has(os, 6)) return found;
    found |= LMC_FEATURE_AVX;
    if (has(one, 1u << 29)) found |= LMC_FEATURE_F16C;
    if (!has(one, 1u << 12)) return found;
    found |= LMC_FEATURE_FMA;
    cpuid(0x80000001u, 0, r);
    if (!many || !has(seven[1], 0x128) || !has(r[2], 1u << 5)) return found;
    found |= LMC_FEATURE_AVX2;
    if (seven[0] >= 1) {
        cpuid(7, 1, r);
        if (has(r[0], 1u << 4)) found |= LMC_FEATURE_AVX_VNNI;
    }
    if (!has(seven[1], 0xc0030000u) || !has(os, 0xe6)) return found;
    found |= LMC_FEATURE_AVX512;
    if (has(seven[2], 1u << 11)) found |= LMC_FEATURE_AVX512_VNNI;
    if (has(seven[2], 1u << 1)) found |= LMC_FEATURE_AVX512_VBMI;
    if (has(seven[3], 1u << 23)) found |= LMC_FEATURE_AVX512_FP16;
    return found;
}

#elif defined(__aarch64__) && defined(__linux__) && __STDC_HOSTED__

/* The numbers are those of Linux's uapi/asm/hwcap.h, which older headers lack. */
uint32_t lmc_features(void) {
    unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
    return (one >> 20 & 1 ? LMC_FEATURE_DOT_PROD : 0) | (one >> 9 & one >> 10 & 1 ? LMC_FEATURE_FP16 : 0) |
           (two >> 13 & 1 ? LMC_FEATURE_I8MM : 0) | (two >> 14 & 1 ? LMC_FEATURE_BF16 : 0);
}

#elif defined(__aarch64__) && !__STDC_HOSTED__

/* The registers are those of the Arm Architecture Reference Manual. */
uint32_t lmc_features(void) {
    uint64_t zero, one, half;
    __asm__("mrs %0, ID_AA64ISAR0_EL1" : "=r"(zero));
    __asm__("mrs %0, ID_AA64ISAR1_EL1" : "=r"(one));
    __asm__("mrs %0, ID_AA64PFR0_EL1" : "=r"(half));
    half = half >> 20 & 15;
    return (zero >> 44 & 15 ? LMC_FEATURE_DOT_PROD : 0) | (half && half != 15 ? LMC_FEATURE_FP16 : 0) |
           (one >> 52 & 15 ? LMC_FEATURE_I8MM : 0) | (one >> 44 & 15 ? LMC_FEATURE_BF16 : 0);
}

#else

uint32_t lmc_features(void) {
    uint32_t found = 0;
#ifdef __ARM_FEATURE_DOTPROD
    found |= LMC_FEATURE_DOT_PROD;
#endif
#ifdef __ARM_FEATURE_FP16_VECTOR_ARITHMETIC
    found |= LMC_FEATURE_FP16;
#endif
#ifdef __ARM_FEATURE_MATMUL_INT8
    found |= LMC_FEATURE_I8MM;
#endif
#ifdef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
    found |= LMC_FEATURE_BF16;
#endif
    return found;
}

#endif

static int32_t check_version(const lmc_model *model) {
    return model->abi_version == LMC_ABI_VERSION ? LMC_OK : LMC_ERR_VERSION;
}

int32_t lmc_check(const lmc_model *model) {
    if (check_version(model) != LMC_OK) return LMC_ERR_VERSION;
    return model->features & ~lmc_features() ? LMC_ERR_CPU : LMC_OK;
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
    if (check_version(model) != LMC_OK) return LMC_ERR_VERSION;
    if (!placed(model->inputs, model->input_count, inputs)) return LMC_ERR_TENSOR;
    if (!placed(model->outputs, model->output_count, (const void *const *)outputs)) return LMC_ERR_TENSOR;
    if (model->symbol_count && !symbols) return LMC_ERR_SYMBOL;
    if (model->arena_bytes && lmc_arena_place(model, arena, arena_bytes) != arena) return LMC_ERR_ARENA;
    return model->run(inputs, outputs, symbols, arena);
}
