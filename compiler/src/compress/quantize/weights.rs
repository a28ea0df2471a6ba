//! Weights as integers: symmetric around zero, one scale per tensor, channel or block.

use super::grid::{integer, integer_range};
use crate::base::{DType, Tensor};
use crate::compress::onnx::along;

/// Integers, and the scales they are multiplied with.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The integers, in the shape of the weights.
    pub values: Tensor,
    /// One scale, one per channel, or one per block (`scale_shape`).
    pub scales: Vec<f32>,
    /// Shape of the scales.
    pub scale_shape: Vec<usize>,
}

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// All.
    Tensor,
    /// Those of one index of an axis.
    Axis(usize),
    /// So many neighbours along an axis.
    Blocks {
        /// The axis.
        axis: usize,
        /// Neighbours.
        size: usize,
    },
}

impl Share {
    /// One scale for each index of an axis; one for all without one.
    pub(super) fn of_axis(axis: Option<usize>) -> Share {
        axis.map_or(Share::Tensor, Share::Axis)
    }

    /// The shape of the scales for weights of a shape.
    fn shape(self, shape: &[usize]) -> Vec<usize> {
        match self {
            Share::Tensor => Vec::new(),
            Share::Axis(axis) => vec![shape[axis]],
            Share::Blocks { axis, size } => {
                let mut blocks = shape.to_vec();
                blocks[axis] = shape[axis].div_ceil(size);
                blocks
            }
        }
    }

    /// For each element, in order, which scale is its own.
    pub(super) fn owners(self, shape: &[usize]) -> Vec<usize> {
        let count = shape.iter().product();
        match self {
            Share::Tensor => vec![0; count],
            Share::Axis(axis) => (0..count).map(along(shape, axis)).collect(),
            Share::Blocks { axis, size } => {
                let (inner, extent) = (shape[axis + 1..].iter().product::<usize>().max(1), shape[axis]);
                let blocks = extent.div_ceil(size);
                let owner = |i: usize| {
                    let (outer, at, rest) = (i / (inner * extent), i / inner % extent, i % inner);
                    (outer * blocks + at / size) * inner + rest
                };
                (0..count).map(owner).collect()
            }
        }
    }
}

/// The largest integer used: the type's range is cut to be symmetric.
fn most(dtype: DType) -> f32 {
    integer_range(dtype).1 as f32
}

/// The scale with the least squared error. The largest weight takes the least integer, of which there is
/// no opposite: the scale has its sign turned.
fn best_scale(elements: &[f32], dtype: DType) -> f32 {
    let largest = elements.iter().fold(0.0f32, |m, &w| if w.abs() > m.abs() { w } else { m });
    let (least, most) = integer_range(dtype);
    let (least, most) = (least as f32, most as f32);
    let error = |scale: f32| -> f64 {
        let one = |w: &f32| f64::from(w - (w / scale).round_ties_even().clamp(least, most) * scale).powi(2);
        elements.iter().map(one).sum()
    };
    let candidates = (0..32).map(|i| largest / least * (1.1 - 0.02 * i as f32));
    let best = candidates.map(|s| (s, error(s))).min_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or(largest / least, |b| b.0)
}

/// Quantizes weights. `floor` gives the least scale per scale, where there are such (a bias must fit
/// 32 bits in units of the scale); `search` looks for the scales of least error, which may be negative.
pub fn quantize(
    shape: &[usize],
    weights: &[f32],
    share: Share,
    dtype: DType,
    floor: Option<&[f32]>,
    search: bool,
) -> Quantized {
    let (scale_shape, owners) = (share.shape(shape), share.owners(shape));
    let count = scale_shape.iter().product::<usize>();
    let limit = most(dtype);
    let mut scales = vec![0.0f32; count];
    if search {
        let mut groups: Vec<Vec<f32>> = vec![Vec::new(); count];
        weights.iter().zip(&owners).for_each(|(&w, &o)| groups[o].push(w));
        scales.iter_mut().zip(&groups).for_each(|(s, g)| *s = best_scale(g, dtype));
    } else {
        for (&w, &o) in weights.iter().zip(&owners) {
            scales[o] = scales[o].max(w.abs() / limit);
        }
    }
    for (i, scale) in scales.iter_mut().enumerate() {
        let least = floor.map_or(0.0, |f| f[i.min(f.len() - 1)]).max(f32::MIN_POSITIVE * 256.0);
        if scale.abs() < least {
            *scale = least;
        }
    }
    let least = if search { integer_range(dtype).0 as f32 } else { -limit };
    let steps = |(&w, &o): (&f32, &usize)| (w / scales[o]).round_ties_even().clamp(least, limit) as i64;
    let integers: Vec<i64> = weights.iter().zip(&owners).map(steps).collect();
    Quantized { values: integer(dtype, shape, &integers), scales, scale_shape }
}

/// A matrix transposed.
pub(super) fn turned<T: Copy>(elements: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| elements[r * columns + c])).collect()
}

impl Quantized {
    /// The least and the largest integer: those of 8 bits are symmetric.
    pub(super) fn limits(&self) -> (f64, f64) {
        let (least, most) = integer_range(self.values.ty.dtype);
        if self.values.ty.dtype == DType::I4 { (least, most) } else { (-most, most) }
    }

    /// Other integers with the same scales.
    pub(super) fn set_integers(&mut self, integers: &[i64]) {
        self.values = integer(self.values.ty.dtype, &self.values.ty.shape, integers);
    }

    /// The weights that the integers stand for.
    pub fn dequantized(&self, share: Share) -> Vec<f32> {
        let owners = share.owners(&self.values.ty.shape);
        let integers = self.values.to_i64s().unwrap_or_default();
        integers.iter().zip(&owners).map(|(&q, &o)| q as f32 * self.scales[o]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_have_scales_of_their_own() {
        let w = [1.27f32, -0.635, 0.0, 2.54, 0.02, -2.54];
        let q = quantize(&[2, 3], &w, Share::Axis(0), DType::I8, None, false);
        assert_eq!(q.values.to_i64s().unwrap(), [127, -64, 0, 127, 1, -127]);
        assert_eq!(q.scale_shape, [2]);
        let q = quantize(&[2, 3], &w, Share::Axis(1), DType::I8, None, false);
        assert_eq!(q.values.to_i64s().unwrap(), [64, -127, 0, 127, 4, -127]);
        let q = quantize(&[2, 3], &w, Share::Tensor, DType::I8, None, false);
        assert_eq!(q.values.to_i64s().unwrap(), [64, -32, 0, 127, 1, -127]);
    }

    #[test]
    fn blocks_divide_an_axis() {
        let w = [7.0f32, 1.0, 0.7, 0.1, 14.0, -2.0];
        let share = Share::Blocks { axis: 0, size: 2 };
        let q = quantize(&[3, 2], &w, share, DType::I4, None, false);
        assert_eq!(q.scale_shape, [2, 2]);
        assert_eq!(q.values.to_i64s().unwrap(), [7, 7, 1, 1, 7, -7]);
        let back = q.dequantized(share);
        assert!((back[4] - 14.0).abs() < 1e-5 && (back[5] + 2.0).abs() < 1e-6);
    }

    /// A bias of 1000 in units of the scale must fit; the search gives up one outlier of many.
    #[test]
    fn scales_have_a_floor_and_may_be_searched() {
        let q = quantize(&[1, 2], &[1e-9, 2e-9], Share::Axis(0), DType::I8, Some(&[1e-6]), false);
        assert_eq!((q.scales[0], q.values.to_i64s().unwrap()), (1e-6, vec![0, 0]));
        let mut w = vec![0.5f32; 63];
        w.push(1.0);
        let plain = quantize(&[64], &w, Share::Tensor, DType::I4, None, false);
        let searched = quantize(&[64], &w, Share::Tensor, DType::I4, None, true);
        let error = |q: &Quantized| -> f32 {
            q.dequantized(Share::Tensor).iter().zip(&w).map(|(a, b)| (a - b).powi(2)).sum()
        };
        assert!(error(&searched) < error(&plain));
        // Both ends of the range are used, whatever the sign of the largest weight.
        let both = [8.0f32, -7.0, 1.0, 2.0];
        let q = quantize(&[4], &both, Share::Tensor, DType::I4, None, true);
        assert_eq!((q.scales[0], q.values.to_i64s().unwrap()), (-1.0, vec![-8, 7, -1, -2]));
    }
}
