//! Random valid kernels for differential tests: an encoder's code must leave the same bytes as the
//! interpreter.
//!
//! ```text
//! use lmc::tile::random::{Vocabulary, buffers, differences, kernel};
//! let kernel = kernel(7, &Vocabulary::vectors(8));
//! let mut expected = buffers(&kernel, 7);
//! let mut got = expected.clone();
//! let code = lmc::tile::interpret(&kernel, &mut expected).unwrap();
//! got.clone_from(&expected); // here the code under test runs on `got`, and returns `code`
//! assert_eq!(differences(&kernel, &expected, &got), None);
//! ```
//! [`shrink`] makes a kernel that fails small enough to read.

mod generate;
mod shrink;

pub use generate::kernel;
pub use shrink::shrink;

use super::{Kernel, Param, RegType, Value};
use crate::base::DType;
use crate::scalar::Scalar;
use half::{bf16, f16};

/// What kernels are made of.
#[derive(Clone, Copy)]
pub struct Vocabulary<'a> {
    /// The most lanes of a register.
    pub lanes: u8,
    /// Whether there are registers with 64-bit lanes.
    pub wide_lanes: bool,
    /// Whether there are registers of half floats, of a target that fuses their multiply-add.
    pub half_lanes: bool,
    /// Whether there are `If`, `Loop`, `Break`, `Fail` and computed indices.
    pub control: bool,
    /// Element types of the parameters.
    pub dtypes: &'a [DType],
    /// Whether a value may be used, for what an encoder leaves to others; constants always are.
    pub accept: &'a dyn Fn(RegType, &Value) -> bool,
}

impl Vocabulary<'_> {
    /// Loops over vectors and partial vectors of 32-bit lanes.
    pub fn vectors(lanes: u8) -> Self {
        use DType::*;
        let dtypes = &[F32, F32, I32, U8, I8, I16, U16, F16, BF16, I64];
        Vocabulary {
            lanes,
            wide_lanes: false,
            half_lanes: false,
            control: false,
            dtypes,
            accept: &|_, _| true,
        }
    }

    /// Everything, in registers of few lanes: 64-bit lanes, branches, loops, computed indices.
    pub fn scalars() -> Self {
        use DType::*;
        let dtypes = &[F32, F64, I64, I32, Bool, U8, I8, I16, U16, U32, U64, F16, BF16];
        Vocabulary {
            lanes: 2,
            wide_lanes: true,
            half_lanes: false,
            control: true,
            dtypes,
            accept: &|_, _| true,
        }
    }
}

/// A small generator of random numbers (SplitMix64): the same numbers on every host.
pub struct Rng(pub u64);

impl Rng {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..end`; `end` is positive.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the items, of which there is one at least.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// The numbers in `0..end` in some order.
    pub fn order(&mut self, end: usize) -> Vec<usize> {
        let mut list: Vec<usize> = (0..end).collect();
        (1..end).rev().for_each(|i| list.swap(i, self.below(i + 1)));
        list
    }
}

/// Random contents for every parameter: small numbers of both signs, zeros, and for integers any bits.
pub fn buffers(kernel: &Kernel, seed: u64) -> Vec<Vec<u8>> {
    let mut rng = Rng(seed ^ 0xb0ff);
    let mut fill = |param: &Param| {
        let size = param.dtype.size();
        (0..param.elems).flat_map(|_| element(param.dtype, &mut rng).to_le_bytes()[..size].to_vec()).collect()
    };
    kernel.params.iter().map(&mut fill).collect()
}

fn element(dtype: DType, rng: &mut Rng) -> u64 {
    if dtype == DType::Bool {
        return rng.bits() & 1;
    }
    if dtype.is_float() && !dtype.is_small_float() {
        let value = match rng.below(10) {
            0 => 0.0,
            1 => -0.0,
            2 => rng.between(-4, 4) as f64,
            _ => rng.between(-4_000_000, 4_000_000) as f64 / 1e6,
        };
        return Scalar::from_f64(dtype, value).bits;
    }
    match rng.below(3) {
        0 => rng.between(-3, 3) as u64,
        _ => rng.bits(),
    }
}

/// The first difference between two sets of buffers after a run, `None` where there is none. Any
/// NaN equals any other: which one an operation gives is not specified.
pub fn differences(kernel: &Kernel, expected: &[Vec<u8>], got: &[Vec<u8>]) -> Option<String> {
    for ((param, expected), got) in kernel.params.iter().zip(expected).zip(got) {
        let size = param.dtype.size();
        for (i, (want, have)) in expected.chunks_exact(size).zip(got.chunks_exact(size)).enumerate() {
            if want != have && !(is_nan(param.dtype, want) && is_nan(param.dtype, have)) {
                let (name, dtype) = (&param.name, param.dtype);
                return Some(format!("{name}[{i}] ({dtype}): expected {want:02x?}, got {have:02x?}"));
            }
        }
        if expected.len() != got.len() {
            return Some(format!("{}: {} bytes, got {}", param.name, expected.len(), got.len()));
        }
    }
    None
}

/// Whether the bytes of an element are a NaN; of the 8-bit floats it is not asked.
pub fn is_nan(dtype: DType, bytes: &[u8]) -> bool {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(wide);
    match dtype {
        DType::F32 => f32::from_bits(bits as u32).is_nan(),
        DType::F64 => f64::from_bits(bits).is_nan(),
        DType::F16 => f16::from_bits(bits as u16).is_nan(),
        DType::BF16 => bf16::from_bits(bits as u16).is_nan(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::{interpret, parse, verify};

    fn check(kernel: &Kernel, seed: u64) -> bool {
        verify(kernel).expect("a valid kernel");
        assert_eq!(parse(&kernel.to_string()).expect("printed text is read back"), *kernel);
        let before = buffers(kernel, seed);
        let mut after = before.clone();
        interpret(kernel, &mut after).expect("a valid kernel runs");
        before != after
    }

    #[test]
    fn kernels_are_valid_and_do_something() {
        let mut writing = 0;
        for seed in 0..150 {
            writing += usize::from(check(&kernel(seed, &Vocabulary::vectors(16)), seed));
            writing += usize::from(check(&kernel(seed, &Vocabulary::vectors(4)), seed));
            writing += usize::from(check(&kernel(seed, &Vocabulary::scalars()), seed));
        }
        assert!(writing > 420, "only {writing} of 450 kernels write anything");
    }

    /// What is left after shrinking is little more than a multiplication.
    #[test]
    fn shrinking_keeps_the_failure() {
        let multiplies = |k: &Kernel| k.to_string().contains(" mul %");
        let seed = (0..100).find(|s| multiplies(&kernel(*s, &Vocabulary::vectors(8))));
        let large = kernel(seed.expect("a kernel that multiplies"), &Vocabulary::vectors(8));
        let small = shrink(&large, &multiplies);
        verify(&small).expect("a valid kernel");
        let lines = small.to_string().lines().count() - small.params.len();
        assert!(multiplies(&small) && lines < 10, "{small}");
    }
}
