//! Grids: which real numbers the integers of a quantized tensor stand for, `(q - zero) * scale`.

use crate::base::{DType, Tensor, TensorType};

/// Smallest and largest value of an integer type of up to 32 bits.
#[inline]
pub fn integer_range(dtype: DType) -> (f64, f64) {
    let bits = dtype.bits();
    let (least, most) = match dtype.is_signed_int() {
        true => (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1),
        false => (0, (1i64 << bits) - 1),
    };
    (least as f64, most as f64)
}

/// The grid of an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Distance of neighbours.
    pub scale: f32,
    /// The integer that stands for zero.
    pub zero: i64,
    /// Type of the integers.
    pub dtype: DType,
}

/// The smallest distance that is used: smaller ones are no longer exact in `f32`.
const LEAST: f64 = 1e-30;

impl Grid {
    /// The finest grid that holds a range; zero is always on it. For 16 bits, zero is in the middle:
    /// other runtimes have no zero point there.
    pub fn over(range: (f64, f64), dtype: DType) -> Grid {
        let (lo, hi) = (range.0.min(0.0), range.1.max(0.0));
        let (least, most) = integer_range(dtype);
        if dtype.bits() == 16 {
            let scale = (lo.abs().max(hi) / most).max(LEAST) as f32;
            return Grid { scale, zero: 0, dtype };
        }
        let scale = ((hi - lo) / (most - least)).max(LEAST) as f32;
        let zero = (least - lo / f64::from(scale)).round_ties_even().clamp(least, most);
        Grid { scale, zero: zero as i64, dtype }
    }

    /// The least and largest number of the grid.
    pub fn range(&self) -> (f64, f64) {
        let (least, most) = integer_range(self.dtype);
        let at = |q: f64| (q - self.zero as f64) * f64::from(self.scale);
        (at(least), at(most))
    }

    /// The nearest number of the grid.
    #[inline]
    pub fn nearest(&self, x: f64) -> f64 {
        let (least, most) = integer_range(self.dtype);
        let q = (x / f64::from(self.scale)).round_ties_even() + self.zero as f64;
        (q.clamp(least, most) - self.zero as f64) * f64::from(self.scale)
    }

    /// How many elements lie outside by more than half a step.
    pub fn outside(&self, elements: &[f32]) -> usize {
        let ((lo, hi), half) = (self.range(), 0.5 * f64::from(self.scale));
        elements.iter().filter(|&&x| f64::from(x) < lo - half || f64::from(x) > hi + half).count()
    }

    /// The scale as a constant.
    pub fn scale_tensor(&self) -> Tensor {
        Tensor::scalar(self.scale)
    }

    /// The zero point as a constant.
    pub fn zero_tensor(&self) -> Tensor {
        integer(self.dtype, &[], &[self.zero])
    }
}

/// A constant of integers.
pub fn integer(dtype: DType, shape: &[usize], values: &[i64]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()[..dtype.size()].to_vec()).collect();
    Tensor { ty: TensorType::new(dtype, shape), data: bytes.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_hold_their_range_and_zero() {
        let g = Grid::over((-1.0, 3.0), DType::U8);
        assert_eq!((g.scale, g.zero), (4.0 / 255.0, 64));
        assert_eq!(g.nearest(0.0), 0.0);
        let g = Grid::over((1.0, 2.55), DType::I8);
        assert_eq!((g.scale, g.zero), (0.01, -128));
        assert!((g.range().1 - 2.55).abs() < 1e-6);
        assert_eq!(g.outside(&[-0.01, 0.0, 2.5549, 2.56, -0.004]), 2);
        let g = Grid::over((-3.0, 3.2767), DType::I16);
        assert_eq!((g.scale, g.zero), (1e-4, 0));
        assert!(Grid::over((0.0, 0.0), DType::U8).scale > 0.0);
    }
}
