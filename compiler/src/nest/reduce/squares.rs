//! Products of bytes of two rows by two channels at a time, eight neighbours of a reduction axis each.
//!
//! An accumulator holds, of two rows of the tile, the sums of two channels: the lanes of an instruction
//! that multiplies matrices. The constant factor is packed so that eight bytes of a channel lie behind
//! those of the one before; the sums are put in the order of rows after the last product.

use super::Reduction;
use super::dot::signs;
use crate::base::Affine;
use crate::nest::emit::{Emitter, addr};
use crate::nest::expr::{Group, Guards, Point};
use crate::nest::{Nest, TilePoint};
use crate::scalar::Op;
use crate::schedule::linear::Node;
use crate::tile::{Dot, Lane, Reg, RegType, Value};

/// Sums of two rows and two channels.
const SQUARE: RegType = RegType { lane: Lane::I32, lanes: 4 };
/// Eight bytes.
const BYTES: RegType = RegType { lane: Lane::I32, lanes: 2 };

/// Two rows of a tile in the same channels.
pub(super) struct Couple {
    /// The points; where the number of rows is odd, the last is both.
    points: [usize; 2],
    /// The sums, of two channels each.
    sums: Vec<Reg>,
}

/// The sums of all points as they begin.
pub(super) fn begin(nest: &Nest, e: &mut Emitter, points: &[TilePoint], index_error: i32) -> Vec<Couple> {
    let row = points.iter().take_while(|p| p.offset == points[0].offset).count();
    let mut couples = Vec::new();
    for first in (0..points.len()).filter(|p| p / row % 2 == 0) {
        let second = if first + row < points.len() { first + row } else { first };
        let points = [first, second].map(|p| (p, &points[p]));
        let starts = nest.started.map(|s| points.map(|(_, p)| s.addend(nest, e, p, index_error)));
        let sum = |i: usize| {
            let sum = e.fresh(SQUARE);
            let value = match starts {
                Some([a, b]) => Value::Pairs(vec![(a, 2 * i as u8), (b, 2 * i as u8)]),
                None => Value::Const(0),
            };
            e.assign(sum, value);
            sum
        };
        let sums = (0..points[0].1.lanes / 2).map(sum).collect();
        couples.push(Couple { points: points.map(|p| p.0), sums });
    }
    couples
}

/// The sum of each point.
pub(super) fn finish(e: &mut Emitter, couples: &[Couple], points: &[TilePoint]) -> Vec<Option<Reg>> {
    let mut sums = vec![None; points.len()];
    for couple in couples {
        for (row, &point) in couple.points.iter().enumerate() {
            let pairs = couple.sums.iter().map(|&sum| (sum, 2 * row as u8)).collect();
            let ty = RegType { lane: Lane::I32, lanes: points[point].lanes as u8 };
            sums[point].get_or_insert_with(|| e.value(ty, Value::Pairs(pairs)));
        }
    }
    sums
}

/// Adds the products of eight neighbours, fewer at the axis' end, at all points of the tile.
pub(super) fn bodies(nest: &Nest, e: &mut Emitter, r: &Reduction, group: Option<&Group>) {
    let Node::Op(Op::Mul, args) = &nest.linear.nodes[r.body as usize] else { return };
    let (rows, columns) = match is_packed(nest, args[1]) {
        true => (args[0], args[1]),
        false => (args[1], args[0]),
    };
    let Some(signs) = signs(nest, rows, columns) else { return };
    for couple in &r.couples {
        let mut bytes = [None; 2];
        for (bytes, &point) in bytes.iter_mut().zip(&couple.points) {
            let Some((place, guards)) = r.at(nest, point) else { continue };
            let point = Point {
                place: &place,
                vector: nest.vector_axis(),
                lanes: 2,
                acc: None,
                guards,
                group: group.cloned(),
                chunk: r.points[point].chunk as i64,
            };
            *bytes = eight(nest, e, rows, &point, r.words);
        }
        if bytes.iter().all(Option::is_none) {
            continue;
        }
        // A row that has nothing to add is multiplied as zeros.
        let nothing = e.value(BYTES, Value::Const(0));
        let [a, b] = bytes.map(|known| known.unwrap_or((nothing, 0)));
        let a = e.value(SQUARE, Value::Pairs(vec![a, b]));
        let place = nest.place_of(&r.points[couple.points[0]]);
        let point = nest.point(&place, &r.points[couple.points[0]], None);
        let Some((operand, _)) = load(nest, columns) else { return };
        let Some(at) = nest.packed_address(operand, &point) else { return };
        for (i, &sum) in couple.sums.iter().enumerate() {
            let b = Value::LoadWords(addr(operand, at.index.offset(16 * i as i64)), 4);
            let b = e.value(SQUARE, b);
            e.assign(sum, Value::Dot(Dot::Squares(signs), sum, a, b));
        }
    }
}

/// Eight neighbours of the rows' factor, `left` of them inside the axis: a register, and the lane in it from
/// which on they lie.
fn eight(nest: &Nest, e: &mut Emitter, rows: u32, point: &Point, left: usize) -> Option<(Reg, u8)> {
    let along = nest.schedule.reduce.last()?.var;
    if left <= 4 || point.guards == Guards::Outside {
        // The second word is multiplied by zeros, or all are the fill.
        return Some((nest.words(e, rows, point, left.min(4), along)?, 0));
    }
    let (operand, form) = load(nest, rows)?;
    if let Some(group) = &point.group {
        let loaded = Value::LoadWords(addr(operand, point.start_of(group, form)), 4);
        return Some((e.value(SQUARE, loaded), group.lane));
    }
    let index = form.map_vars(|v| point.place[v as usize].clone());
    Some((e.value(BYTES, Value::LoadWords(addr(operand, index), 4)), 0))
}

/// The load that a factor is.
fn load<'a>(nest: &'a Nest, factor: u32) -> Option<(u32, &'a Affine)> {
    match &nest.linear.nodes[nest.linear.without_casts(factor) as usize] {
        Node::Load { operand, addr, .. } => Some((*operand, addr)),
        _ => None,
    }
}

fn is_packed(nest: &Nest, factor: u32) -> bool {
    load(nest, factor).is_some_and(|(operand, _)| nest.schedule.pack.contains(&operand))
}
