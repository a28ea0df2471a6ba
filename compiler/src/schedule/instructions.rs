//! Which instructions a target has for products of narrow numbers.

use crate::target::{Arch, Feature, Target};

/// Whether a target multiplies four bytes by four others and sums the products.
pub(super) fn multiplies_words(target: &Target) -> bool {
    target.has_vnni() || target.has(Feature::DotProd)
}

/// Whether products of 16 bits are the fastest exact ones of bytes.
pub fn couples(target: &Target) -> bool {
    target.arch == Arch::X86_64 && !target.has_vnni()
}

/// Whether bytes without an instruction for them are multiplied in pairs, and numbers of 16 bits by products
/// and sums in one instruction, for which the constants' halves have to lie apart.
pub fn couple_halves(target: &Target) -> bool {
    target.arch == Arch::Aarch64 && !multiplies_words(target)
}

/// Whether bytes of two rows become couples in two instructions.
pub(super) fn weaves_couples(target: &Target) -> bool {
    couples(target) && target.has(Feature::Avx2) && target.vector_bytes == 32
}

/// Whether filters of single channels over bytes are no slower where padding beside their rows is left out of the sum
/// in place of lying in memory: tiles at both ends of a row are pieces of code of their own (keyword spotting takes .94
/// of the time, EfficientNet-Lite0 .96; on Neoverse N1 up to 6 % more instructions, with AVX2 a third more code).
pub fn leaves_padding(target: &Target) -> bool {
    target.has_vnni()
}

/// Instructions in which a target multiplies a vector of couples and adds the products to sums; none where these are
/// apart.
pub(super) fn adds_couples(target: &Target) -> Option<f64> {
    match target.arch {
        Arch::Aarch64 => Some(2.0),
        Arch::X86_64 => target.has_vnni().then_some(1.0),
    }
}

/// Computed bytes of a factor that products take at a time from memory: four where an instruction multiplies
/// them, two where they are widened to 16 bits.
pub fn word(target: &Target) -> Option<usize> {
    match (multiplies_words(target), couples(target)) {
        (true, _) => Some(4),
        (_, true) => Some(2),
        _ => None,
    }
}
