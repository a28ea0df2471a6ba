//! Requantization by fixed-point factors.
//!
//! A sum is scaled by its channel's constant and rounded to few integers. Where a core multiplies integers
//! to their upper halves, and shifts and narrows at once, a factor of 31 bits in place of the float saves the
//! conversion and the rounding. It is taken where it gives the same bytes in every channel, see
//! `scalar::fixed`.

use super::bounds::Sums;
use super::range::range;
use super::requantize::Requantized;
use crate::base::DType;
use crate::scalar::Op;
use crate::scalar::fixed::{factor, shift};
use crate::schedule::Linear;
use crate::schedule::linear::{Fixed, Node};
use std::ops::RangeInclusive;

/// Sums up to here leave room to round.
const MOST: f64 = (1 << 30) as f64;
/// Integers that 8 bits and a zero point lie between.
const NARROW: i64 = 512;

/// Puts fixed-point factors in place of the scales that a definition requantizes with, where they give the
/// same bytes: the operand and its new elements. `data` gives the bytes of constant operands.
pub fn fix<'a>(linear: &mut Linear, data: impl Fn(u32) -> Option<&'a [u8]>) -> Option<(u32, Vec<u8>)> {
    let Node::Cast { to, arg, .. } = linear.nodes[linear.before_tables() as usize] else { return None };
    let found = Requantized::of(linear, arg, to).filter(|_| to.bits() == 8)?;
    let (sum, loads) = scales(linear, found.value)?;
    let known = range(linear, sum);
    // A byte's product costs as much as floats.
    let byte = known.hi - known.lo < NARROW as f64;
    if known.nan || known.lo < -MOST || known.hi > MOST || byte {
        return None;
    }
    let floats = |&(_, operand): &(u32, u32)| -> Option<Vec<f32>> {
        Some(data(operand)?.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    };
    let values: Vec<Vec<f32>> = loads.iter().map(floats).collect::<Option<_>>()?;
    // One of them may vary.
    let varying = values.iter().position(|v| v.len() > 1).unwrap_or(0);
    if values.iter().enumerate().any(|(i, v)| v.is_empty() || i != varying && v.len() > 1) {
        return None;
    }
    let steps = found.steps(linear, &data).filter(|s| -NARROW <= s.start && s.end <= NARROW)?;
    let of = |element: f32| -> Vec<f32> {
        values.iter().enumerate().map(|(i, v)| if i == varying { element } else { v[0] }).collect()
    };
    let product = |element: &f32| of(*element).into_iter().map(f64::from).product::<f64>();
    let shift = shift(values[varying].iter().map(product).fold(0.0, f64::max))?;
    let (load, operand) = loads[varying];
    let sums = by_scale(linear, sum, load, values[varying].len(), &data);
    let sums = sums.unwrap_or_else(|| vec![known.lo as i64..=known.hi as i64; values[varying].len()]);
    let each = values[varying].iter().zip(&sums);
    let each = each.map(|(&v, sums)| factor(&of(v), shift, sums, steps.clone()));
    let factors = each.collect::<Option<Vec<i32>>>()?;
    linear.types[load as usize] = DType::I32;
    linear.buffers[operand as usize].dtype = DType::I32;
    linear.facts.fixed = Some(Fixed { product: found.value, sum, factor: load, shift });
    Some((operand, factors.into_iter().flat_map(i32::to_le_bytes).collect()))
}

/// What the sums lie between that each element of a scale belongs to, where the constants are known.
fn by_scale<'a>(
    linear: &Linear,
    sum: u32,
    scale: u32,
    elems: usize,
    data: &impl Fn(u32) -> Option<&'a [u8]>,
) -> Option<Vec<RangeInclusive<i64>>> {
    let Node::Load { addr, .. } = &linear.nodes[scale as usize] else { return None };
    let mut each: Vec<Option<(f64, f64)>> = vec![None; elems];
    for (least, most, at) in Sums::of(linear, sum, data)?.by(addr)? {
        let of = each.get_mut(usize::try_from(at).ok()?)?;
        let (low, high) = of.unwrap_or((least, most));
        *of = Some((low.min(least), high.max(most)));
    }
    let whole = |(low, high): (f64, f64)| low.max(-MOST) as i64..=high.min(MOST) as i64;
    Some(each.into_iter().map(|of| whole(of.unwrap_or((0.0, 0.0)))).collect())
}

/// An integer that a product scales by plain loads of floats, and these in order with their operands, where
/// nothing else needs any of it.
pub(super) fn scales(linear: &Linear, product: u32) -> Option<(u32, Vec<(u32, u32)>)> {
    let users = |id: u32| linear.nodes.iter().flat_map(Node::args).filter(|&arg| arg == id).count();
    let load = |id: u32| match &linear.nodes[id as usize] {
        Node::Load { operand, dynamic, guards, .. } => {
            let same = |n: &&Node| matches!(n, Node::Load { operand: o, .. } if o == operand);
            let once = users(id) == 1 && linear.nodes.iter().filter(same).count() == 1;
            let float = linear.types[id as usize] == DType::F32;
            (once && float && dynamic.is_empty() && guards.is_empty()).then_some((id, *operand))
        }
        _ => None,
    };
    let (mut at, mut loads) = (product, Vec::new());
    loop {
        match &linear.nodes[at as usize] {
            Node::Op(Op::Mul, args) if users(at) == 1 => {
                let (inner, scale) =
                    load(args[1]).map(|s| (args[0], s)).or_else(|| Some((args[1], load(args[0])?)))?;
                loads.insert(0, scale);
                at = inner;
            }
            Node::Cast { to: DType::F32, arg, .. } if linear.types[*arg as usize] == DType::I32 => {
                return (!loads.is_empty()).then_some((*arg, loads));
            }
            _ => return None,
        }
    }
}
