//! What constants take over of the last steps of filtered integers ([`super::outputs`]).
//!
//! Whole matrices give a multiple of the outputs. A bias that is added to them is multiplied as well, and added
//! once to a row of products: all outputs of the row have the product of the point of interpolation 1 in
//! them. The power of two in the multiple goes into the scale that the sum, as a float, is multiplied by: the
//! same bits.

use super::filter::{Filter, quotient};
use crate::base::DType;
use crate::nest::fixed::scales;
use crate::schedule::linear::{Magnitude, Node};
use crate::schedule::winograd::Conv;
use crate::schedule::{Linear, added_first};

/// The least exponent of normal floats.
const LEAST: i32 = f32::MIN_EXP - 1;

/// A constant that is added to the folded value first.
#[derive(Clone, Copy)]
pub(super) struct Bias {
    /// The sum.
    pub sum: u32,
    /// The load of the constant.
    pub load: u32,
    operand: u32,
}

/// The constant operands that are changed.
#[derive(Clone, Copy, Default)]
pub(super) struct Constants {
    pub bias: Option<Bias>,
    /// The operand that is divided by the power of two.
    pub scale: Option<u32>,
    /// The multiple of the outputs, of both axes.
    multiple: i32,
    /// The inverse of its odd part modulo 2^32, and its power of two.
    pub quotient: (u32, u32),
}

impl Constants {
    /// Those of a convolution of couples, filtered down and across.
    pub fn of(linear: &Linear, conv: &Conv, filters: [&Filter; 2]) -> Constants {
        let quotient = quotient(filters);
        let (_, powers) = quotient;
        let multiple = filters.iter().map(|f| f.multiple as i32).product();
        let none = Constants { bias: None, scale: None, multiple, quotient };
        if !conv.couples || linear.facts.placed.is_some() {
            return none;
        }
        let room = (1i64 << (31 - powers)) - conv.most(linear) as i64;
        let bias = bias(linear, conv, room);
        let Some(acc) = linear.nodes.iter().position(|n| matches!(n, Node::Acc)) else { return none };
        let scale = scale(linear, bias.map_or(acc as u32, |b| b.sum), powers as i32);
        Constants { bias, scale, ..none }
    }

    /// A constant operand as the kernel reads it; `None` for others.
    pub fn packed(&self, operand: u32, data: &[u8]) -> Option<Vec<u8>> {
        let words = data.as_chunks::<4>().0.iter();
        if self.bias.is_some_and(|b| b.operand == operand) {
            let times = |b: &[u8; 4]| i32::from_le_bytes(*b).wrapping_mul(self.multiple).to_le_bytes();
            return Some(words.flat_map(times).collect());
        }
        let whole = (1u32 << self.quotient.1) as f32;
        let part = |b: &[u8; 4]| (f32::from_le_bytes(*b) / whole).to_le_bytes();
        (self.scale == Some(operand)).then(|| words.flat_map(part).collect())
    }
}

/// Whether one load reads an operand.
fn once(linear: &Linear, operand: u32) -> bool {
    let reads = |n: &&Node| matches!(n, Node::Load { operand: o, .. } if *o == operand);
    linear.nodes.iter().filter(reads).count() == 1
}

fn users(linear: &Linear, id: u32) -> usize {
    linear.nodes.iter().flat_map(Node::args).filter(|&arg| arg == id).count()
}

/// A bias that is the same for all outputs of a row, and leaves sums inside of `room`.
fn bias(linear: &Linear, conv: &Conv, room: i64) -> Option<Bias> {
    let (sum, load) = added_first(linear)?;
    let Node::Load { operand, addr, .. } = &linear.nodes[load as usize] else { return None };
    let buffer = &linear.buffers[*operand as usize];
    // Where all are zero, no power is the least that none reaches.
    let below = |m: Magnitude| 1i64 << m.below.clamp(0, 62) <= room;
    let small = linear.facts.small_sums || buffer.magnitude.is_some_and(below);
    let same = addr.coefficient(conv.across.axis) == 0;
    let alone = users(linear, load) == 1 && once(linear, *operand);
    (buffer.dtype == DType::I32 && buffer.constant && small && same && alone).then_some(Bias {
        sum,
        load,
        operand: *operand,
    })
}

/// The first scale that a sum is multiplied by, where nothing else reads either and all its elements are normal
/// once they are divided.
fn scale(linear: &Linear, sum: u32, powers: i32) -> Option<u32> {
    if linear.facts.fixed.is_some() || users(linear, sum) != 1 {
        return None;
    }
    let products = (0..linear.nodes.len() as u32).filter_map(|id| scales(linear, id));
    let (_, loads) = products.into_iter().find(|(of, _)| *of == sum)?;
    let (_, operand) = loads[0];
    let buffer = &linear.buffers[operand as usize];
    let normal = buffer.magnitude.is_some_and(|m| m.least.saturating_sub(powers) >= LEAST);
    (buffer.constant && normal).then_some(operand)
}
