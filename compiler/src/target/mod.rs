//! Targets as data: what the machine has, and nothing about how it is used.

mod feature;
mod native;
mod resolve;
mod rows;

pub use feature::Feature;
pub use resolve::{cpu_names, resolve};

/// The architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Arch {
    X86_64,
    Aarch64,
}

/// What a kernel is compiled for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Triple: object format and calling convention.
    pub triple: target_lexicon::Triple,
    /// Architecture of the triple.
    pub arch: Arch,
    /// Name given by `--cpu`.
    pub cpu: String,
    /// Features, sorted.
    pub features: Vec<Feature>,
    /// Bytes of a vector register: 16, 32 or 64.
    pub vector_bytes: usize,
    /// Vector registers: 16 or 32.
    pub vector_regs: usize,
    /// Fused multiply-add.
    pub fma: bool,
    /// L1 data cache in bytes.
    pub l1: usize,
    /// L2 cache in bytes.
    pub l2: usize,
}

impl Target {
    /// Whether the target has a feature.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// Whether half floats are multiplied and added as such.
    pub fn multiplies_halves(&self) -> bool {
        self.has(Feature::Fp16) || self.has(Feature::Avx512Fp16)
    }

    /// Whether one instruction of x86_64 multiplies four unsigned bytes by signed ones and adds the products to a sum.
    pub fn has_vnni(&self) -> bool {
        self.has(Feature::AvxVnni) || self.has(Feature::Avx512Vnni)
    }

    /// Whether instructions add products of bytes up, two or four of them, as many at a time as a vector holds.
    pub fn sums_bytes(&self) -> bool {
        self.arch == Arch::Aarch64 || self.has(Feature::Avx2)
    }

    /// 32-bit lanes of a vector register.
    pub fn lanes(&self) -> usize {
        self.vector_bytes / 4
    }
}
