/*
 * Model odd_1, compiled by lmc 0.1.0 for aarch64-unknown-linux-gnu (cortex-a53).
 * Code 9000 bytes, constants 90416, arena 32256, stack 288; 2656768 multiply-adds an inference.
 */
#ifndef LMC_MODEL_odd_1_H
#define LMC_MODEL_odd_1_H

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

#ifdef __cplusplus
extern "C" {
#endif

/* Scratch memory for one inference at a time: bytes and alignment. */
#define ODD_1_ARENA_BYTES 32256
#define ODD_1_ARENA_ALIGN 64
/* Bytes of stack that odd_1_run needs at most. */
#define ODD_1_STACK_BYTES 288

/* The model, for programs that take any. */
extern const lmc_model odd_1_model;

/* Sizes known only at run time; others are LMC_ERR_SYMBOL. */
/* The smallest sequence_length. */
#define ODD_1_SEQUENCE_LENGTH_MIN 16
/* sequence_length is a multiple of this more than the smallest. */
#define ODD_1_SEQUENCE_LENGTH_STEP 8
/* The largest sequence_length. */
#define ODD_1_SEQUENCE_LENGTH_MAX 128
/* The largest x1_dim1. */
#define ODD_1_X1_DIM1_MAX 100

/* The string that the number of a word stands for; 0 where there is none. */
static inline const char *odd_1_word(int64_t number) {
    static const char *const words[2] = {
        "cat",
        "c:\\\"\?\012\303\244",
    };
    return number >= 0 && number < 2 ? words[number] : 0;
}

/* The number of a string in an input of words; -1 for one that the model does not know. */
static inline int64_t odd_1_word_number(const char *word) {
    for (int64_t number = 0; number < 2; number++) {
        const char *known = odd_1_word(number), *given = word;
        while (*known && *known == *given) {
            known++;
            given++;
        }
        if (*known == *given) return number;
    }
    return -1;
}

/*
 * One inference: 0 or an LMC_ERR_*.
 *   while_: input of words, by number, "while", i64[1,sequence_length]
 *   serving_0: input "serving:0", bool[4]
 *   serving_0_2: input "serving_0", f16[]
 *   arena_2: input "arena", u8[2,0]
 *   x: input "* / " ", i4[3]
 *   x1: output of words, by number, "1", i64[2,x1_dim1]
 *   None_: output "None", bool[4]
 *   sequence_length: dimension "sequence length", 16 to 128 in steps of 8
 *   x1_dim1: a size that depends on the data, at most 100
 *   arena: ODD_1_ARENA_BYTES bytes, aligned to ODD_1_ARENA_ALIGN, own to this call
 */
static inline int32_t odd_1_run(const int64_t while_[LMC_AT_LEAST(128)],
                                const uint8_t serving_0[LMC_AT_LEAST(4)],
                                const uint16_t serving_0_2[LMC_AT_LEAST(1)],
                                const uint8_t *arena_2,
                                const int8_t x[LMC_AT_LEAST(3)],
                                int64_t x1[LMC_AT_LEAST(200)],
                                uint8_t None_[LMC_AT_LEAST(4)],
                                int64_t sequence_length,
                                int64_t *x1_dim1,
                                void *arena) {
    const void *const inputs[] = {while_, serving_0, serving_0_2, arena_2, x};
    void *const outputs[] = {x1, None_};
    int64_t symbols[] = {sequence_length, 0};
    int32_t status = odd_1_model.run(inputs, outputs, symbols, arena);
    *x1_dim1 = symbols[1];
    return status;
}
#ifdef __cplusplus
}
#endif

#endif
