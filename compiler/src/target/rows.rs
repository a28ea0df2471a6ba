//! The processors lmc knows by name. Adding one is adding a row.
//!
//! Feature sets are those of the psABI levels (x86_64) and of the vendors' reference manuals
//! (aarch64); cache sizes are per core, the smallest configuration sold where it varies.

use super::Arch::{self, Aarch64, X86_64};
use super::Feature::{self, *};

/// A processor.
pub(super) struct Row {
    pub arch: Arch,
    pub name: &'static str,
    pub features: &'static [Feature],
    /// KiB of first-level data cache.
    pub l1: usize,
    /// KiB of second-level cache.
    pub l2: usize,
}

const V2: &[Feature] = &[Sse41];
const V3: &[Feature] = &[Sse41, Avx, Fma, F16c, Avx2];
const V3_VNNI: &[Feature] = &[Sse41, Avx, Fma, F16c, Avx2, AvxVnni];
const V4: &[Feature] = &[Sse41, Avx, Fma, F16c, Avx2, Avx512];
const V4_VBMI: &[Feature] = &[Sse41, Avx, Fma, F16c, Avx2, Avx512, Avx512Vnni, Avx512Vbmi];
const V4_SERVER: &[Feature] = &[Sse41, Avx, Fma, F16c, Avx2, Avx512, Avx512Twice];
const V4_VNNI_SERVER: &[Feature] = &[Sse41, Avx, Fma, F16c, Avx2, Avx512, Avx512Vnni, Avx512Twice];
const V4_VBMI_SERVER: &[Feature] =
    &[Sse41, Avx, Fma, F16c, Avx2, Avx512, Avx512Vnni, Avx512Vbmi, Avx512Twice];
const V4_BOTH: &[Feature] =
    &[Sse41, Avx, Fma, F16c, Avx2, Avx512, AvxVnni, Avx512Vnni, Avx512Vbmi, Avx512Twice];
const V4_FP16: &[Feature] =
    &[Sse41, Avx, Fma, F16c, Avx2, Avx512, AvxVnni, Avx512Vnni, Avx512Vbmi, Avx512Fp16, Avx512Twice];
const A82: &[Feature] = &[DotProd, Fp16];
const A86: &[Feature] = &[DotProd, Fp16, I8mm, Bf16];

const fn row(arch: Arch, name: &'static str, features: &'static [Feature], l1: usize, l2: usize) -> Row {
    Row { arch, name, features, l1, l2 }
}

/// Every processor; `generic` is the baseline of its architecture.
pub(super) const ROWS: &[Row] = &[
    row(X86_64, "generic", &[], 32, 256),
    row(X86_64, "x86-64", &[], 32, 256),
    row(X86_64, "x86-64-v2", V2, 32, 256),
    row(X86_64, "x86-64-v3", V3, 32, 256),
    row(X86_64, "x86-64-v4", V4, 32, 1024),
    row(X86_64, "nehalem", V2, 32, 256),
    row(X86_64, "silvermont", V2, 24, 512),
    row(X86_64, "goldmont", V2, 24, 512),
    row(X86_64, "tremont", V2, 32, 1024),
    row(X86_64, "haswell", V3, 32, 256),
    row(X86_64, "broadwell", V3, 32, 256),
    row(X86_64, "skylake", V3, 32, 256),
    row(X86_64, "skylake-avx512", V4_SERVER, 32, 1024),
    row(X86_64, "cascadelake", V4_VNNI_SERVER, 32, 1024),
    row(X86_64, "icelake-client", V4_VBMI, 48, 512),
    row(X86_64, "icelake-server", V4_VBMI_SERVER, 48, 1280),
    row(X86_64, "tigerlake", V4_VBMI, 48, 1280),
    row(X86_64, "rocketlake", V4_VBMI, 48, 512),
    row(X86_64, "sapphirerapids", V4_FP16, 48, 2048),
    row(X86_64, "emeraldrapids", V4_FP16, 48, 2048),
    row(X86_64, "graniterapids", V4_FP16, 48, 2048),
    row(X86_64, "alderlake", V3_VNNI, 32, 1280),
    row(X86_64, "raptorlake", V3_VNNI, 32, 1280),
    row(X86_64, "meteorlake", V3_VNNI, 32, 2048),
    row(X86_64, "arrowlake", V3_VNNI, 32, 1024),
    row(X86_64, "lunarlake", V3_VNNI, 32, 1024),
    row(X86_64, "gracemont", V3_VNNI, 32, 512),
    row(X86_64, "sierraforest", V3_VNNI, 32, 1024),
    row(X86_64, "znver1", V3, 32, 512),
    row(X86_64, "znver2", V3, 32, 512),
    row(X86_64, "znver3", V3, 32, 512),
    row(X86_64, "znver4", V4_VBMI, 32, 1024),
    row(X86_64, "znver5", V4_BOTH, 48, 1024),
    row(Aarch64, "generic", &[], 32, 512),
    row(Aarch64, "cortex-a34", &[], 32, 128),
    row(Aarch64, "cortex-a35", &[], 32, 128),
    row(Aarch64, "cortex-a53", &[], 32, 512),
    row(Aarch64, "cortex-a55", A82, 32, 128),
    row(Aarch64, "cortex-a57", &[], 32, 1024),
    row(Aarch64, "cortex-a72", &[], 32, 1024),
    row(Aarch64, "cortex-a73", &[], 32, 1024),
    row(Aarch64, "cortex-a65", A82, 32, 64),
    row(Aarch64, "cortex-a75", A82, 64, 256),
    row(Aarch64, "cortex-a76", A82, 64, 256),
    row(Aarch64, "cortex-a77", A82, 64, 256),
    row(Aarch64, "cortex-a78", A82, 32, 256),
    row(Aarch64, "cortex-a78c", A82, 32, 256),
    row(Aarch64, "cortex-a510", A86, 32, 128),
    row(Aarch64, "cortex-a520", A86, 32, 128),
    row(Aarch64, "cortex-a710", A86, 32, 256),
    row(Aarch64, "cortex-a715", A86, 32, 256),
    row(Aarch64, "cortex-a720", A86, 32, 256),
    row(Aarch64, "cortex-a725", A86, 64, 256),
    row(Aarch64, "cortex-r82", A82, 16, 256),
    row(Aarch64, "cortex-x1", A82, 64, 512),
    row(Aarch64, "cortex-x2", A86, 64, 512),
    row(Aarch64, "cortex-x3", A86, 64, 512),
    row(Aarch64, "cortex-x4", A86, 64, 512),
    row(Aarch64, "cortex-x925", A86, 64, 2048),
    row(Aarch64, "neoverse-e1", A82, 32, 64),
    row(Aarch64, "neoverse-n1", A82, 64, 512),
    row(Aarch64, "neoverse-n2", A86, 64, 512),
    row(Aarch64, "neoverse-n3", A86, 64, 128),
    row(Aarch64, "neoverse-v1", A86, 64, 1024),
    row(Aarch64, "neoverse-v2", A86, 64, 1024),
    row(Aarch64, "neoverse-v3", A86, 64, 1024),
    row(Aarch64, "ampere1", A86, 64, 2048),
    row(Aarch64, "oryon-1", A86, 96, 3072),
    row(Aarch64, "carmel", &[Fp16], 64, 1024),
    row(Aarch64, "apple-a12", &[Fp16], 128, 4096),
    row(Aarch64, "apple-a13", A82, 64, 4096),
    row(Aarch64, "apple-a14", A82, 64, 4096),
    row(Aarch64, "apple-a15", A86, 64, 4096),
    row(Aarch64, "apple-a16", A86, 64, 4096),
    row(Aarch64, "apple-a17", A86, 64, 4096),
    row(Aarch64, "apple-m1", A82, 64, 4096),
    row(Aarch64, "apple-m2", A86, 64, 4096),
    row(Aarch64, "apple-m3", A86, 64, 4096),
    row(Aarch64, "apple-m4", A86, 64, 4096),
];
