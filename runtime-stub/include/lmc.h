/*
 * The interface of a model that lmc compiled, version 1.
 *
 * The object NAME.o exports one constant, NAME_model. The header NAME.h, which lmc writes beside
 * it, holds a copy of the first part of this file and a typed function NAME_run: most programs need
 * nothing else. The second part declares the functions of lmc.c, for programs that want error
 * texts, arenas from the heap, or to handle any model.
 *
 * C99 and C++11.
 */
#ifndef LMC_H
#define LMC_H

/* ABI: begin */
#ifndef LMC_ABI_VERSION
#define LMC_ABI_VERSION 1

#include <stdint.h>

/* Codes that run returns. */
#define LMC_OK 0
#define LMC_ERR_INDEX 1   /* an index computed from the input data lies outside its tensor */
#define LMC_ERR_ARENA 2   /* the arena is null, too small or not aligned as the model asks */
#define LMC_ERR_SYMBOL 3  /* a run-time size is negative, over its bound, or contradicts another */
#define LMC_ERR_LIMIT 4   /* a loop or a data-dependent size went past the bound it was compiled for */
#define LMC_ERR_VALUE 5   /* an input value lies outside what its operator defines */
#define LMC_ERR_TENSOR 6  /* a tensor is missing, or its size or alignment is not the model's */
#define LMC_ERR_VERSION 7 /* the model was compiled for another version of the interface */
#define LMC_ERR_CPU 8     /* the processor lacks instructions that the model was compiled for */

/* Bits of a model's features. Both architectures begin at bit 0. */
#define LMC_FEATURE_SSE41 (1u << 0)       /* x86_64: SSE4.1 and what x86-64-v2 has besides */
#define LMC_FEATURE_AVX (1u << 1)         /* x86_64: AVX */
#define LMC_FEATURE_FMA (1u << 2)         /* x86_64: FMA3 */
#define LMC_FEATURE_F16C (1u << 3)        /* x86_64: F16C */
#define LMC_FEATURE_AVX2 (1u << 4)        /* x86_64: AVX2, BMI and LZCNT */
#define LMC_FEATURE_AVX512 (1u << 5)      /* x86_64: AVX-512 F, BW, DQ, VL */
#define LMC_FEATURE_AVX_VNNI (1u << 6)    /* x86_64: AVX-VNNI */
#define LMC_FEATURE_AVX512_VNNI (1u << 7) /* x86_64: AVX-512 VNNI */
#define LMC_FEATURE_AVX512_VBMI (1u << 8) /* x86_64: AVX-512 VBMI */
#define LMC_FEATURE_AVX512_FP16 (1u << 9) /* x86_64: AVX-512 FP16 */
#define LMC_FEATURE_DOT_PROD (1u << 0)    /* aarch64: FEAT_DotProd */
#define LMC_FEATURE_FP16 (1u << 1)        /* aarch64: FEAT_FP16 */
#define LMC_FEATURE_I8MM (1u << 2)        /* aarch64: FEAT_I8MM */
#define LMC_FEATURE_BF16 (1u << 3)        /* aarch64: FEAT_BF16 */

/* An array parameter with at least n elements. */
#if defined(__cplusplus) || defined(_MSC_VER)
#define LMC_AT_LEAST(n) n
#else
#define LMC_AT_LEAST(n) static n
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* One input or output: dense, row-major. */
typedef struct lmc_tensor {
    const char *name;    /* as in the ONNX graph */
    uint32_t dtype;      /* ONNX TensorProto.DataType; types under 8 bits take a byte per element */
    uint32_t rank;
    const int64_t *dims; /* d >= 0: fixed; d < 0: the run-time symbol number -1-d */
    uint64_t bytes;      /* with run-time symbols: at their bounds */
} lmc_tensor;

/* A dimension known only at run time. */
typedef struct lmc_symbol {
    const char *name; /* the ONNX dimension name, or NULL for a size that depends on the data */
    int64_t max;
} lmc_symbol;

typedef struct lmc_model {
    uint32_t abi_version; /* LMC_ABI_VERSION */
    uint32_t input_count, output_count;
    uint32_t symbol_count;
    uint32_t arena_align;  /* a power of two */
    uint32_t features;     /* LMC_FEATURE_*: what the processor must have */
    uint64_t arena_bytes;  /* scratch memory; nothing in it need be kept between calls */
    uint64_t stack_bytes;  /* at most */
    const char *name;
    const lmc_tensor *inputs, *outputs;
    const lmc_symbol *symbols;
    /*
     * One inference: 0 or an LMC_ERR_*. inputs and outputs: one pointer per tensor, aligned for
     * its element; inputs are never written; outputs, which overlap nothing else, are scratch memory
     * until run returns. symbols: in, the sizes of the named ones; out, those that depend on the
     * data; NULL where symbol_count is 0. Re-entrant: two threads may run it at once with two arenas.
     */
    int32_t (*run)(const void *const *inputs, void *const *outputs, int64_t *symbols, void *arena);
} lmc_model;

#ifdef __cplusplus
}
#endif

#elif LMC_ABI_VERSION != 1
#error "two versions of the lmc interface in one program: compile all models with one version"
#endif
/* ABI: end */

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Text for a code that run returned; never NULL. */
const char *lmc_error_text(int32_t code);

/*
 * The LMC_FEATURE_* bits of this processor, as far as the operating system lets programs use them: by
 * CPUID on x86_64; on aarch64 by getauxval where a program is hosted on Linux or Android, by the
 * identification registers (EL1) where it is freestanding, elsewhere as this file was compiled.
 */
uint32_t lmc_features(void);

/*
 * LMC_OK where the model can run here, else LMC_ERR_VERSION or LMC_ERR_CPU. Asks the processor, which
 * takes some microseconds under a hypervisor: once per model is enough.
 */
int32_t lmc_check(const lmc_model *model);

/* Bytes of memory, at any address, in which lmc_arena_place finds an aligned arena. */
size_t lmc_arena_reserve(const lmc_model *model);

/* The first address in the given memory at which the arena fits; NULL where it does not. */
void *lmc_arena_place(const lmc_model *model, void *memory, size_t bytes);

/* Bytes of one element of an ONNX type number. */
size_t lmc_dtype_size(uint32_t dtype);

/* Runs one inference after checking version, pointers, arena and alignment; see lmc_check for the processor. */
int32_t lmc_run(const lmc_model *model, const void *const *inputs, void *const *outputs, int64_t *symbols,
                void *arena, size_t arena_bytes);

#ifdef __cplusplus
}
#endif

#endif
