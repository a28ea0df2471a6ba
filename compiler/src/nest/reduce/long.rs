//! Products of bytes that are added in 16 bits, four of them to each sum.
//!
//! Two products of signed bytes always fit the 16 bits they are made in, where no weight is -128: each two are
//! followed by an instruction that adds them to sums of 32 bits. Four fit where the magnitudes of their weights add
//! up to [`FOUR_WEIGHTS`] at most, since a byte's is 128. So two words of each channel are multiplied at a time where
//! that holds for all words of the constants:
//! ```text
//! pairs = half_pairs(0, word 0 of the row, word 0 of the channels)
//! pairs = half_pairs(pairs, word 1 of the row, word 1 of the channels)
//! sum += both halves of pairs
//! ```
//! The bytes of a word whose products are summed are those two apart. Where another order of the sum makes them fit,
//! [`crate::group::order_channels`] has found it.
//!
//! Filters of single channels have no words: there each lane adds products of bytes of its own ([`Dot::Bytes`]), of
//! which the encoder adds each two in 16 bits.

use super::dot::{halves, in_halves};
use super::{Reduction, accumulate};
use crate::base::{Affine, DType};
use crate::nest::Nest;
use crate::nest::emit::Emitter;
use crate::nest::expr::{Group, Point};
use crate::schedule::linear::Node;
use crate::schedule::vector::choose_vector;
use crate::schedule::{Bytes, FOUR_WEIGHTS, Linear, Vector, couple_halves};
use crate::target::Target;
use crate::tile::{Dot, EACH, Value};

/// Words that are multiplied at a time.
pub(super) const WORDS: usize = 2;
/// Bytes of these.
const POINTS: usize = 4 * WORDS;

/// Whether products of two words fit 16 bits, by all of a definition's constants. `data` gives their bytes.
pub fn long<'a>(linear: &Linear, target: &Target, data: impl Fn(u32) -> Option<&'a [u8]>) -> bool {
    couple_halves(target) && known(linear, target, data).unwrap_or(false)
}

/// Whether a sum's products are those of bytes and a filter of single channels, two of which fit 16 bits: no weight is
/// -128.
pub fn bytes(linear: &Linear, target: &Target) -> bool {
    let Vector::Axis { var, .. } = choose_vector(linear, target) else { return false };
    let signed = |n: &Node| match n {
        Node::Load { operand, addr, .. } => {
            linear.buffers[*operand as usize].dtype == DType::I8 && addr.coefficient(var) != 0
        }
        _ => false,
    };
    let symmetric = |n: &Node| match n {
        Node::Load { operand, .. } => linear.buffers[*operand as usize].symmetric,
        _ => false,
    };
    couple_halves(target)
        && Bytes::of(linear, var)
            .is_some_and(|b| b.woven && symmetric(b.vectors) && signed(b.vectors) && signed(b.rows))
}

fn known<'a>(linear: &Linear, target: &Target, data: impl Fn(u32) -> Option<&'a [u8]>) -> Option<bool> {
    let Vector::Axis { var, .. } = choose_vector(linear, target) else { return None };
    let bytes = Bytes::of(linear, var).filter(|b| b.in_halves(linear))?;
    let along = bytes.along(linear, target, var)?;
    let Node::Load { operand, addr, .. } = bytes.vectors else { return None };
    let data = data(*operand)?;
    let places = |places: Vec<i64>, v: u32| -> Vec<i64> {
        let along = |&at: &i64| (0..linear.extent(v) as i64).map(move |i| at + i * addr.coefficient(v));
        places.iter().flat_map(along).collect()
    };
    let others = (0..linear.vars.len() as u32).filter(|&v| v != along && addr.coefficient(v) != 0);
    let firsts = others.fold(vec![addr.base], places);
    let step = addr.coefficient(along);
    let weight = |at: i64| {
        let byte = usize::try_from(at).ok().and_then(|at| data.get(at));
        byte.map_or(u32::MAX / POINTS as u32, |&b| u32::from((b as i8).unsigned_abs()))
    };
    let fits = |first: i64| {
        let sum = |odd: usize| (odd..POINTS).step_by(2).map(|i| weight(first + i as i64 * step)).sum::<u32>();
        sum(0) <= FOUR_WEIGHTS && sum(1) <= FOUR_WEIGHTS
    };
    let whole = linear.extent(along) / POINTS;
    let words = |&first: &i64| (0..whole).all(|word| fits(first + (word * POINTS) as i64 * step));
    Some(whole > 0 && firsts.iter().all(words))
}

/// The two words from a place on, at every point of the tile.
pub(super) fn bodies(
    nest: &mut Nest,
    e: &mut Emitter,
    r: &Reduction,
    var: u32,
    at: &Affine,
    groups: [Option<Group>; WORDS],
) {
    for i in 0..r.points.len() {
        let acc = r.chains[r.chain][i];
        let ty = e.ty(acc);
        let together = in_halves(r.points[i].lanes);
        let pairs = together.then(|| e.fresh(ty));
        let mut from = None;
        for (word, group) in groups.iter().enumerate() {
            nest.place[var as usize] = at.offset(4 * word as i64);
            let Some((place, guards)) = r.at(nest, i) else { continue };
            let point = Point { guards, group: group.clone(), ..nest.point(&place, &r.points[i], None) };
            let factors = pairs.and_then(|pairs| Some((pairs, halves(nest, e, (r.body, r.words), &point)?)));
            let Some((pairs, [rows, columns])) = factors else {
                accumulate(nest, e, r, acc, &point);
                continue;
            };
            let begun = from.unwrap_or_else(|| e.hoisted(ty, 0));
            e.assign(pairs, Value::Dot(Dot::HalfPairs, begun, rows, columns));
            from = Some(pairs);
        }
        if let Some(pairs) = from {
            let each = e.hoisted(ty, u64::from(EACH));
            e.assign(acc, Value::Dot(Dot::Couples, acc, pairs, each));
        }
    }
}
