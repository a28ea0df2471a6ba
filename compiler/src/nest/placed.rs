//! Requantization by one multiply-add.
//!
//! A sum of products of bytes becomes a float, is multiplied by its channel's scale and rounded: two conversions
//! and a product. One multiply-add is enough where the sum begins with the bits of a float, see `scalar::placed`.
//! What sums begin with is the bias, so that has another in it; the offsets lie behind the scales. It is taken where
//! every channel has factors that give the same bytes.

use super::bounds::Sums;
use super::fixed::scales;
use super::requantize::Requantized;
use crate::base::{Affine, DType};
use crate::scalar::placed::{Factors, factors};
use crate::schedule::linear::{Node, Placed};
use crate::schedule::{Linear, added_first};
use std::ops::RangeInclusive;

/// Products of a sum up to which its requantization counts: where a few layers of a kind have factors, they are a
/// function of their own.
const SHORT: usize = 256;
/// Integers that 8 bits and a zero point lie between.
const NARROW: i64 = 512;
/// More than sums may be.
const MOST: f64 = (1i64 << 40) as f64;

/// What is scaled, and by what.
struct Found {
    placed: Placed,
    conversion: Requantized,
    /// The loads of the scales, and their operands, of which one may vary.
    factors: Vec<u32>,
    scales: Vec<u32>,
    bias: u32,
    /// Where the bias of a channel is.
    at: Affine,
}

/// Puts multiply-adds in place of what a definition requantizes: the operands of bias and scale, and their new
/// elements. `data` gives the bytes of constant operands; `may` is asked, last because a schedule answers it.
pub fn place<'a>(
    linear: &mut Linear,
    data: impl Fn(u32) -> Option<&'a [u8]>,
    may: impl Fn(&Linear) -> bool,
) -> Option<[(u32, Vec<u8>); 2]> {
    let products: usize = linear.reductions().map(|v| linear.extent(v)).product();
    let mut found = Found::of(linear).filter(|_| products <= SHORT && may(linear))?;
    let numbers: Vec<Vec<f32>> = (found.scales.iter())
        .map(|&o| Some(data(o)?.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
        .collect::<Option<_>>()?;
    let bias: Vec<i32> = data(found.bias)?.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
    let varying = numbers.iter().position(|v| v.len() > 1).unwrap_or(0);
    if numbers.iter().enumerate().any(|(i, v)| v.is_empty() || i != varying && v.len() > 1) {
        return None;
    }
    let scale = |element: usize| -> Vec<f32> {
        numbers.iter().enumerate().map(|(i, v)| if i == varying { v[element] } else { v[0] }).collect()
    };
    let (channels, factor) = (numbers[varying].len(), found.factors[varying]);
    let Node::Load { operand, addr, .. } = &linear.nodes[factor as usize] else { return None };
    let (operand, each) = (*operand, channels > 1);
    if each && (*addr != found.at || channels != bias.len()) {
        return None;
    }
    let zero = found.conversion.zero(linear, &data);
    found.placed.whole &= zero.is_some();
    let steps = found.conversion.steps(linear, &data).filter(|s| -NARROW <= s.start && s.end <= NARROW)?;
    let added = zero.filter(|_| found.placed.whole).unwrap_or(0);
    let known = sums(linear, &found, bias.len(), each, &data)?;
    let placed = |(i, sums): (usize, &Option<RangeInclusive<i64>>)| match sums {
        Some(sums) => factors(&scale(if each { i } else { 0 }), sums, steps.clone(), added),
        // No channel's.
        None => Some(Factors { begin: 0, scale: 0.0, offset: 0.0 }),
    };
    let placed: Vec<Factors> = known.iter().enumerate().map(placed).collect::<Option<_>>()?;
    let begun = |(i, b): (usize, &i32)| b.wrapping_add(placed[if each { i } else { 0 }].begin);
    let begun: Vec<i32> = bias.iter().enumerate().map(begun).collect();
    linear.buffers[operand as usize].elems += placed.len();
    linear.facts.placed = Some(Placed { factor, apart: placed.len() as i64, ..found.placed });
    let halves = placed.iter().map(|f| f.scale).chain(placed.iter().map(|f| f.offset));
    Some([
        (found.bias, begun.into_iter().flat_map(i32::to_le_bytes).collect()),
        (operand, halves.flat_map(f32::to_le_bytes).collect()),
    ])
}

/// What the sums of each channel lie between; of all together where they have one scale.
fn sums<'a>(
    linear: &Linear,
    found: &Found,
    channels: usize,
    each: bool,
    data: &impl Fn(u32) -> Option<&'a [u8]>,
) -> Option<Vec<Option<RangeInclusive<i64>>>> {
    let mut known: Vec<Option<RangeInclusive<i64>>> = vec![None; if each { channels } else { 1 }];
    for (least, most, at) in Sums::of(linear, found.placed.sum, data)?.by(&found.at)? {
        let of = known.get_mut(if each { usize::try_from(at).ok()? } else { 0 })?;
        let (least, most) = (least.max(-MOST) as i64, most.min(MOST) as i64);
        let (low, high) = of.take().map_or((least, most), RangeInclusive::into_inner);
        *of = Some(low.min(least)..=high.max(most));
    }
    Some(known)
}

impl Found {
    /// The first of a definition: what it stores, or what is computed further.
    fn of(linear: &Linear) -> Option<Found> {
        let last = linear.before_tables();
        let others = (0..linear.nodes.len() as u32).filter(|&id| id != last);
        std::iter::once(last).chain(others).find_map(|id| Found::of_conversion(linear, id))
    }

    fn of_conversion(linear: &Linear, id: u32) -> Option<Found> {
        let Node::Cast { to, arg, .. } = linear.nodes[id as usize] else { return None };
        let conversion = Requantized::of(linear, arg, to).filter(|_| to.bits() == 8)?;
        let (sum, loads) = scales(linear, conversion.value)?;
        let (of, addend) = added_first(linear)?;
        let users = |id: u32| linear.nodes.iter().filter(|n| n.args().contains(&id)).count();
        let Node::Load { operand: bias, addr, dynamic, guards, .. } = &linear.nodes[addend as usize] else {
            return None;
        };
        let same = |n: &&Node| matches!(n, Node::Load { operand, .. } if operand == bias);
        let alone = users(addend) == 1 && linear.nodes.iter().filter(same).count() == 1;
        let integers = linear.fold?.1 == DType::I32 && linear.types[addend as usize] == DType::I32;
        let floats = linear.nodes.iter().position(|n| matches!(n, Node::Cast { arg, .. } if *arg == sum))?;
        let once = users(sum) == 1 && users(floats as u32) == 1;
        if of != sum || !(alone && integers && once && dynamic.is_empty() && guards.is_empty()) {
            return None;
        }
        // Nothing takes its zero point off again; what made a table's index of it is dead.
        let reached = linear.reachable(linear.finish);
        let users = reached.iter().map(|&user| &linear.nodes[user as usize]);
        let users: Vec<&Node> = users.filter(|user| user.args().contains(&id)).collect();
        let whole = match users[..] {
            [] => id == linear.finish,
            [user] => matches!(user, Node::Lookup { .. }),
            _ => false,
        };
        let placed = Placed { product: conversion.value, sum, factor: loads[0].0, apart: 0, whole };
        let (factors, scales) = loads.into_iter().unzip();
        Some(Found { placed, conversion, factors, scales, bias: *bias, at: addr.clone() })
    }
}
