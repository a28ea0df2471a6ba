//! The interface of the object, as the compiler sees it: layout of the structures and numbers of
//! the errors. Defined once, in the runtime crate, because object and application must agree.

pub use lmc_runtime::abi::{
    ERR_ARENA, ERR_INDEX, ERR_LIMIT, ERR_SYMBOL, ERR_TENSOR, ERR_VALUE, ERR_VERSION, FEATURE_AVX,
    FEATURE_AVX_VNNI, FEATURE_AVX2, FEATURE_AVX512, FEATURE_AVX512_FP16, FEATURE_AVX512_VBMI,
    FEATURE_AVX512_VNNI, FEATURE_BF16, FEATURE_DOT_PROD, FEATURE_F16C, FEATURE_FMA, FEATURE_FP16,
    FEATURE_I8MM, FEATURE_SSE41, Model, OK, Run, Symbol, Tensor, VERSION,
};
