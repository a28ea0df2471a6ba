//! What the machine that runs the compiler has.

use super::{Arch, Feature};

/// The host's architecture, where lmc compiles for it.
pub(super) fn arch() -> Option<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Arch::X86_64),
        "aarch64" => Some(Arch::Aarch64),
        _ => None,
    }
}

/// The host's features: what programs find by the bits of [`Feature::bit`], and what they need not know.
pub(super) fn features() -> Vec<Feature> {
    let there = lmc_runtime::features();
    let mut found: Vec<Feature> = OF_HOST.iter().copied().filter(|f| there & f.bit() != 0).collect();
    if found.contains(&Feature::Avx512) && twice() {
        found.push(Feature::Avx512Twice);
    }
    found
}

/// What this architecture's processors may have.
#[cfg(target_arch = "x86_64")]
const OF_HOST: &[Feature] = {
    use Feature::*;
    &[Sse41, Avx, Fma, F16c, Avx2, Avx512, AvxVnni, Avx512Vnni, Avx512Vbmi, Avx512Fp16]
};
#[cfg(target_arch = "aarch64")]
const OF_HOST: &[Feature] = &[Feature::DotProd, Feature::Fp16, Feature::I8mm, Feature::Bf16];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OF_HOST: &[Feature] = &[];

/// Whether the host multiplies and adds two vectors of 512 bits a cycle: what no flag of CPUID says.
#[cfg(target_arch = "x86_64")]
fn twice() -> bool {
    use std::arch::x86_64::__cpuid;
    let (maker, version) = (__cpuid(0).ebx, __cpuid(1).eax);
    let family = (version >> 8 & 15) + if version >> 8 & 15 == 15 { version >> 20 & 255 } else { 0 };
    let model = version >> 4 & 15 | version >> 12 & 0xf0;
    TWICE.iter().any(|(name, of, models)| {
        // Of one maker those with bfloat16 are for servers, whichever model a virtual machine says it is.
        let known = models.is_empty() || models.contains(&model) || is_x86_feature_detected!("avx512bf16");
        maker == u32::from_le_bytes(**name) && family == *of && known
    })
}

/// The first letters of the maker, the family, and the models, or all: Skylake-SP and Cascade Lake, Ice Lake-SP,
/// Sapphire, Emerald and Granite Rapids; Zen 5.
#[cfg(target_arch = "x86_64")]
const TWICE: [(&[u8; 4], u32, &[u32]); 2] =
    [(b"Genu", 6, &[0x55, 0x6a, 0x6c, 0x8f, 0xcf, 0xad, 0xae]), (b"Auth", 0x1a, &[])];

#[cfg(not(target_arch = "x86_64"))]
fn twice() -> bool {
    false
}

/// Bytes of the host's first-level data cache and second-level cache, where they can be asked.
#[cfg(target_arch = "x86_64")]
pub(super) fn caches() -> Option<(usize, usize)> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    // Intel describes its caches in leaf 4, AMD in leaf 0x8000001d, in the same format.
    let intel = __cpuid(0).ebx == u32::from_le_bytes(*b"Genu");
    let leaf = if intel { 4 } else { 0x8000_001d };
    if __cpuid(leaf & 0x8000_0000).eax < leaf {
        return None;
    }
    let mut found = [0; 4];
    for index in 0..8 {
        let r = __cpuid_count(leaf, index);
        let (kind, level) = (r.eax & 31, (r.eax >> 5 & 7) as usize);
        // Kinds: 0 ends the list, 1 is data, 3 is unified.
        match kind {
            0 => break,
            1 | 3 if level < 4 => {
                let (ways, parts, line) = ((r.ebx >> 22) + 1, (r.ebx >> 12 & 1023) + 1, (r.ebx & 4095) + 1);
                found[level] =
                    [ways, parts, line, r.ecx.saturating_add(1)].iter().map(|&v| v as usize).product();
            }
            _ => {}
        }
    }
    (found[1] > 0 && found[2] > 0).then_some((found[1], found[2]))
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn caches() -> Option<(usize, usize)> {
    None
}
