//! How much two tensors differ, and whether that is within a tolerance.

use crate::base::{DType, Tensor};
use crate::scalar::{Scalar, cast};

/// The tolerance of a comparison: `|result - reference| <= atol + rtol * |reference|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Relative part.
    pub rtol: f64,
    /// Absolute part.
    pub atol: f64,
}

/// What a comparison found.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Largest difference relative to the reference, where that is not zero.
    pub max_rel: f64,
    /// Cosine of the angle between the two; 1 where both are zero.
    pub cosine: f64,
    /// Elements outside the tolerance.
    pub outside: usize,
    /// Elements compared.
    pub elements: usize,
    /// The first element outside the tolerance: its number, the result, the reference.
    pub first: Option<(usize, f64, f64)>,
    /// What cannot be compared: other types or shapes.
    pub mismatch: Option<String>,
}

impl Difference {
    /// Whether the tensors are equal within the tolerance.
    pub fn is_within(&self) -> bool {
        self.mismatch.is_none() && self.outside == 0
    }

    /// Whether they are, or have the least cosine that is enough.
    pub fn is_right(&self, least: Option<f64>) -> bool {
        let close = least.is_some_and(|least| self.cosine >= least);
        self.is_within() || self.mismatch.is_none() && close
    }
}

/// The elements of any tensor as numbers.
pub fn numbers(tensor: &Tensor) -> Vec<f64> {
    let size = tensor.ty.dtype.size();
    let one = |bytes: &[u8]| {
        let mut bits = [0; 8];
        bits[..size].copy_from_slice(bytes);
        let scalar = Scalar { dtype: tensor.ty.dtype, bits: u64::from_le_bytes(bits) };
        f64::from_bits(cast(scalar, DType::F64, true).bits)
    };
    match tensor.to_i64s() {
        Some(ints) => ints.into_iter().map(|v| v as f64).collect(),
        None => tensor.data.chunks_exact(size).map(one).collect(),
    }
}

/// Compares a result with its reference.
pub fn compare(result: &Tensor, reference: &Tensor, tolerance: Tolerance) -> Difference {
    let mut found = Difference {
        max_abs: 0.0,
        max_rel: 0.0,
        cosine: 1.0,
        outside: 0,
        elements: reference.ty.elems(),
        first: None,
        mismatch: None,
    };
    if result.ty != reference.ty {
        found.mismatch = Some(format!("{} is computed where {} is expected", result.ty, reference.ty));
        return found;
    }
    let (a, b) = (numbers(result), numbers(reference));
    let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (i, (&x, &y)) in a.iter().zip(&b).enumerate() {
        if x == y || x.is_nan() && y.is_nan() {
            if y.is_finite() {
                (dot, aa, bb) = (dot + x * y, aa + x * x, bb + y * y);
            }
            continue;
        }
        let off = (x - y).abs();
        let off = if off.is_nan() { f64::INFINITY } else { off };
        found.max_abs = found.max_abs.max(off);
        if y != 0.0 {
            found.max_rel = found.max_rel.max(off / y.abs());
        }
        (dot, aa, bb) = (dot + x * y, aa + x * x, bb + y * y);
        if off > tolerance.atol + tolerance.rtol * y.abs() {
            found.outside += 1;
            found.first.get_or_insert((i, x, y));
        }
    }
    if aa > 0.0 || bb > 0.0 {
        found.cosine = dot / (aa.sqrt() * bb.sqrt());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_measured() {
        let t = Tolerance { rtol: 0.0, atol: 0.1 };
        let a = Tensor::new([4], &[1.0f32, f32::NAN, f32::INFINITY, 2.0]);
        assert!(compare(&a, &a, t).is_within());
        let b = Tensor::new([4], &[1.05f32, f32::NAN, f32::INFINITY, 2.5]);
        let found = compare(&a, &b, t);
        assert_eq!((found.outside, found.first.map(|f| f.0)), (1, Some(3)));
        assert!((found.max_abs - 0.5).abs() < 1e-6);
        let c = Tensor::new([4], &[1.0f32, 0.0, f32::INFINITY, 2.0]);
        assert!(!compare(&a, &c, t).is_within());
        assert!(compare(&a, &Tensor::new([2], &[1.0f32, 2.0]), t).mismatch.is_some());
    }
}
