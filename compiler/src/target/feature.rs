//! Instruction-set features, their names, and the bits by which a program asks for them.

use crate::base::abi;

/// Instruction-set features that kernels are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Feature {
    // x86_64
    Sse41,
    Avx,
    Fma,
    F16c,
    Avx2,
    Avx512,
    AvxVnni,
    Avx512Vnni,
    Avx512Vbmi,
    Avx512Fp16,
    /// No extension: two multiply-adds of 512 bits a cycle, where others take two cycles for two, or have one unit.
    Avx512Twice,
    // aarch64; the baseline has NEON with fused multiply-add
    DotProd,
    Fp16,
    I8mm,
    Bf16,
}

impl Feature {
    /// The name, as the vendors' manuals have it.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The `FEATURE_*` bit that programs know it by; 0 where code runs without it, too.
    pub fn bit(self) -> u32 {
        self.row().1
    }

    fn row(self) -> (&'static str, u32) {
        match self {
            Feature::Sse41 => ("SSE4.1", abi::FEATURE_SSE41),
            Feature::Avx => ("AVX", abi::FEATURE_AVX),
            Feature::Fma => ("FMA", abi::FEATURE_FMA),
            Feature::F16c => ("F16C", abi::FEATURE_F16C),
            Feature::Avx2 => ("AVX2", abi::FEATURE_AVX2),
            Feature::Avx512 => ("AVX-512", abi::FEATURE_AVX512),
            Feature::AvxVnni => ("AVX-VNNI", abi::FEATURE_AVX_VNNI),
            Feature::Avx512Vnni => ("AVX-512 VNNI", abi::FEATURE_AVX512_VNNI),
            Feature::Avx512Vbmi => ("AVX-512 VBMI", abi::FEATURE_AVX512_VBMI),
            Feature::Avx512Fp16 => ("AVX-512 FP16", abi::FEATURE_AVX512_FP16),
            Feature::Avx512Twice => ("two of 512 bits a cycle", 0),
            Feature::DotProd => ("DotProd", abi::FEATURE_DOT_PROD),
            Feature::Fp16 => ("FP16", abi::FEATURE_FP16),
            Feature::I8mm => ("I8MM", abi::FEATURE_I8MM),
            Feature::Bf16 => ("BF16", abi::FEATURE_BF16),
        }
    }
}
