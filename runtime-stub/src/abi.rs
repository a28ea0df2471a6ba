//! The binary interface of a compiled model, version 1: what `include/lmc.h` says, in Rust.
//!
//! The compiler writes these structures into read-only data, so their layout is the contract:
//! fields are never moved, and a change of meaning changes [`VERSION`].

use core::ffi::{c_char, c_void};

/// The version of this interface; [`Model::abi_version`] of every model compiled for it.
pub const VERSION: u32 = 1;

/// One input or output.
#[repr(C)]
#[derive(Debug)]
pub struct Tensor {
    /// Name, as in the ONNX graph; UTF-8, ends with a zero byte.
    pub name: *const c_char,
    /// ONNX `TensorProto.DataType` number. Types under 8 bits take one byte per element.
    pub dtype: u32,
    /// Number of dimensions.
    pub rank: u32,
    /// `rank` extents: `d >= 0` is fixed, `d < 0` the run-time symbol number `-1 - d`.
    pub dims: *const i64,
    /// Bytes of the tensor; with run-time symbols, at their bounds.
    pub bytes: u64,
}

/// A dimension known only at run time.
#[repr(C)]
#[derive(Debug)]
pub struct Symbol {
    /// The ONNX dimension name; null for a size that depends on the data and is written by `run`.
    pub name: *const c_char,
    /// The largest size.
    pub max: i64,
}

/// The model's function. Takes one pointer per input, one per output, the sizes of the symbols
/// (null where there is none), and the arena. Returns 0 or an `ERR_*`.
pub type Run = unsafe extern "C" fn(
    inputs: *const *const c_void,
    outputs: *const *mut c_void,
    symbols: *mut i64,
    arena: *mut c_void,
) -> i32;

/// What the object exports as `NAME_model`.
#[repr(C)]
#[derive(Debug)]
pub struct Model {
    /// [`VERSION`] of the compiler that wrote it.
    pub abi_version: u32,
    /// Number of inputs.
    pub input_count: u32,
    /// Number of outputs.
    pub output_count: u32,
    /// Number of symbols.
    pub symbol_count: u32,
    /// Alignment of the arena in bytes, a power of two.
    pub arena_align: u32,
    /// What the processor must have: `FEATURE_*` of the architecture compiled for.
    pub features: u32,
    /// Bytes of scratch memory that `run` needs. It need not be kept between calls.
    pub arena_bytes: u64,
    /// Bytes of stack that `run` needs at most.
    pub stack_bytes: u64,
    /// Name of the model; ends with a zero byte.
    pub name: *const c_char,
    /// `input_count` inputs.
    pub inputs: *const Tensor,
    /// `output_count` outputs.
    pub outputs: *const Tensor,
    /// `symbol_count` symbols.
    pub symbols: *const Symbol,
    /// Runs one inference. Re-entrant: two threads may call it at once with two arenas.
    pub run: Run,
}

// SAFETY: all of it, and all it points to, is constant.
unsafe impl Sync for Tensor {}
// SAFETY: as above.
unsafe impl Sync for Symbol {}
// SAFETY: as above.
unsafe impl Sync for Model {}

/// Constants, and a list of them with their names in C and what they mean.
macro_rules! rows {
    ($(#[$about:meta])* $list:ident: $ty:ty;
     $($(#[$doc:meta])* $name:ident = $number:expr, $c:literal, $text:literal;)*) => {
        $(#[doc = $text] #[doc = ""] $(#[$doc])* pub const $name: $ty = $number;)*

        $(#[$about])*
        pub const $list: &[($ty, &str, &str)] = &[$(($name, $c, $text)),*];
    };
}

rows! {
    /// Every feature: bit, name in C, what it is. Both architectures begin at bit 0.
    FEATURES: u32;
    FEATURE_SSE41 = 1 << 0, "LMC_FEATURE_SSE41", "x86_64: SSE4.1 and what x86-64-v2 has besides";
    FEATURE_AVX = 1 << 1, "LMC_FEATURE_AVX", "x86_64: AVX";
    FEATURE_FMA = 1 << 2, "LMC_FEATURE_FMA", "x86_64: FMA3";
    FEATURE_F16C = 1 << 3, "LMC_FEATURE_F16C", "x86_64: F16C";
    FEATURE_AVX2 = 1 << 4, "LMC_FEATURE_AVX2", "x86_64: AVX2, BMI and LZCNT";
    FEATURE_AVX512 = 1 << 5, "LMC_FEATURE_AVX512", "x86_64: AVX-512 F, BW, DQ, VL";
    FEATURE_AVX_VNNI = 1 << 6, "LMC_FEATURE_AVX_VNNI", "x86_64: AVX-VNNI";
    FEATURE_AVX512_VNNI = 1 << 7, "LMC_FEATURE_AVX512_VNNI", "x86_64: AVX-512 VNNI";
    FEATURE_AVX512_VBMI = 1 << 8, "LMC_FEATURE_AVX512_VBMI", "x86_64: AVX-512 VBMI";
    FEATURE_AVX512_FP16 = 1 << 9, "LMC_FEATURE_AVX512_FP16", "x86_64: AVX-512 FP16";
    FEATURE_DOT_PROD = 1 << 0, "LMC_FEATURE_DOT_PROD", "aarch64: FEAT_DotProd";
    FEATURE_FP16 = 1 << 1, "LMC_FEATURE_FP16", "aarch64: FEAT_FP16";
    FEATURE_I8MM = 1 << 2, "LMC_FEATURE_I8MM", "aarch64: FEAT_I8MM";
    FEATURE_BF16 = 1 << 3, "LMC_FEATURE_BF16", "aarch64: FEAT_BF16";
}

/// Everything went well.
pub const OK: i32 = 0;

rows! {
    /// Every error code: number, name in C, text.
    CODES: i32;
    ERR_INDEX = 1, "LMC_ERR_INDEX", "an index computed from the input data lies outside its tensor";
    ERR_ARENA = 2, "LMC_ERR_ARENA", "the arena is null, too small or not aligned as the model asks";
    ERR_SYMBOL = 3, "LMC_ERR_SYMBOL", "a run-time size is negative, over its bound, or contradicts another";
    ERR_LIMIT = 4, "LMC_ERR_LIMIT", "a loop or a data-dependent size went past the bound it was compiled for";
    ERR_VALUE = 5, "LMC_ERR_VALUE", "an input value lies outside what its operator defines";
    /// Found by the wrapper, not by a model.
    ERR_TENSOR = 6, "LMC_ERR_TENSOR", "a tensor is missing, or its size or alignment is not the model's";
    /// Found by the wrapper, not by a model.
    ERR_VERSION = 7, "LMC_ERR_VERSION", "the model was compiled for another version of the interface";
    /// Found by the wrapper, not by a model.
    ERR_CPU = 8, "LMC_ERR_CPU", "the processor lacks instructions that the model was compiled for";
}
