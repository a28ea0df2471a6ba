//! What the processor that the program runs on has, as the bits of [`abi::Model::features`].
//!
//! x86_64 says it by CPUID. On aarch64 Linux and Android tell programs, without an operating system the
//! registers can be read, and elsewhere what the program itself was compiled for is taken.

use crate::abi;

/// The `FEATURE_*` bits of this processor, as far as the operating system lets programs use them.
///
/// Takes some hundred cycles, under a hypervisor some microseconds: ask once.
pub fn features() -> u32 {
    detect()
}

/// The bits of the features that are there.
#[cfg(not(target_arch = "x86_64"))]
fn all<const N: usize>(bits: [(u32, bool); N]) -> u32 {
    bits.iter().filter(|(_, there)| *there).fold(0, |all, (bit, _)| all | bit)
}

/// Leaves of CPUID, and what the operating system saves. A feature means what the psABI's level of it does,
/// so that compilers may use small things beside it (POPCNT, BMI, LZCNT).
#[cfg(target_arch = "x86_64")]
fn detect() -> u32 {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    let has = |word: u32, mask: u32| word & mask == mask;
    let one = __cpuid(1).ecx;
    if !has(one, 0x0098_0201) {
        return 0;
    }
    let mut found = abi::FEATURE_SSE41;
    let mut add = |there: bool, feature: u32| found |= if there { feature } else { 0 };
    let mut saved = 0u32;
    if has(one, 1 << 27) {
        // SAFETY: bit 27 says that the operating system has switched XGETBV on.
        unsafe {
            core::arch::asm!("xgetbv", in("ecx") 0, out("eax") saved, out("edx") _, options(nomem, nostack, preserves_flags));
        }
    }
    let avx = has(one, 1 << 28) && has(saved, 6);
    let fma = avx && has(one, 1 << 12);
    add(avx, abi::FEATURE_AVX);
    add(fma, abi::FEATURE_FMA);
    add(avx && has(one, 1 << 29), abi::FEATURE_F16C);
    // Processors with fused multiply-adds have leaf 0x80000001.
    if fma && __cpuid(0).eax >= 7 && has(__cpuid(0x8000_0001).ecx, 1 << 5) {
        let seven = __cpuid_count(7, 0);
        let avx2 = has(seven.ebx, 0x128);
        let avx512 = avx2 && has(seven.ebx, 0xc003_0000) && has(saved, 0xe6);
        add(avx2, abi::FEATURE_AVX2);
        add(avx2 && seven.eax >= 1 && has(__cpuid_count(7, 1).eax, 1 << 4), abi::FEATURE_AVX_VNNI);
        let bit = |word: u32, at: u32, feature: u32| (word >> at & 1) * feature;
        if avx512 {
            found |= abi::FEATURE_AVX512
                | bit(seven.ecx, 11, abi::FEATURE_AVX512_VNNI)
                | bit(seven.ecx, 1, abi::FEATURE_AVX512_VBMI)
                | bit(seven.edx, 23, abi::FEATURE_AVX512_FP16);
        }
    }
    found
}

/// `AT_HWCAP` and `AT_HWCAP2` of the auxiliary vector, with the numbers of Linux's `uapi/asm/hwcap.h`.
#[cfg(all(target_arch = "aarch64", any(target_os = "linux", target_os = "android")))]
fn detect() -> u32 {
    unsafe extern "C" {
        safe fn getauxval(kind: core::ffi::c_ulong) -> core::ffi::c_ulong;
    }
    let (one, two) = (getauxval(16), getauxval(26));
    all([
        (abi::FEATURE_DOT_PROD, one >> 20 & 1 != 0),
        (abi::FEATURE_FP16, one >> 9 & one >> 10 & 1 != 0),
        (abi::FEATURE_I8MM, two >> 13 & 1 != 0),
        (abi::FEATURE_BF16, two >> 14 & 1 != 0),
    ])
}

/// The identification registers, as the Arm Architecture Reference Manual has them; needs EL1.
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
fn detect() -> u32 {
    let (zero, one, features): (u64, u64, u64);
    // SAFETY: reads three registers; without an operating system the program has the privilege to do so.
    unsafe {
        core::arch::asm!(
            "mrs {}, ID_AA64ISAR0_EL1", "mrs {}, ID_AA64ISAR1_EL1", "mrs {}, ID_AA64PFR0_EL1",
            out(reg) zero, out(reg) one, out(reg) features, options(nomem, nostack, preserves_flags)
        );
    }
    let half = features >> 20 & 15;
    all([
        (abi::FEATURE_DOT_PROD, zero >> 44 & 15 >= 1),
        (abi::FEATURE_FP16, half >= 1 && half < 15),
        (abi::FEATURE_I8MM, one >> 52 & 15 >= 1),
        (abi::FEATURE_BF16, one >> 44 & 15 >= 1),
    ])
}

#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", any(target_os = "linux", target_os = "android", target_os = "none"))
)))]
fn detect() -> u32 {
    all([
        (abi::FEATURE_DOT_PROD, cfg!(target_feature = "dotprod")),
        (abi::FEATURE_FP16, cfg!(target_feature = "fp16")),
        (abi::FEATURE_I8MM, cfg!(target_feature = "i8mm")),
        (abi::FEATURE_BF16, cfg!(target_feature = "bf16")),
    ])
}
