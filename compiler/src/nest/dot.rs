//! Products of bytes: four neighbours of a reduction axis at a time, or two of 16 bits.

use super::emit::Emitter;
use super::expr::{Group, Point};
use super::reduce::{Reduction, bodies};
use super::{Nest, long, sixteen};
use crate::base::{Affine, DType};
use crate::scalar::Op;
use crate::schedule::ReduceStep;
use crate::schedule::linear::Node;
use crate::tile::{Dot, Reg, Signs, Value};

/// The sum of so many products, `words` of them inside the reduction axis, of a body.
pub fn dot(
    nest: &Nest,
    e: &mut Emitter,
    (body, words): (u32, usize),
    acc: Reg,
    point: &Point,
) -> Option<Value> {
    let Node::Op(Op::Mul, args) = &nest.linear.nodes[body as usize] else { return None };
    if nest.schedule.dot == 2 {
        let [a, b] = if sixteen::is_rows(nest, args[1]) { [args[1], args[0]] } else { [args[0], args[1]] };
        let [a, b] = [a, b].map(|factor| nest.couple(e, factor, point, words));
        let halves = nest.schedule.halves && in_halves(point.lanes);
        return Some(Value::Dot(if halves { Dot::CoupleHalves } else { Dot::Couples }, acc, a?, b?));
    }
    if nest.schedule.halves && in_halves(point.lanes) {
        let [rows, columns] = halves(nest, e, (body, words), point)?;
        return Some(Value::Dot(Dot::Halves, acc, rows, columns));
    }
    let along = nest.schedule.reduce.last()?.var;
    let signed = |e: u32| byte_type(nest, e) == DType::I8;
    let a = nest.words(e, args[0], point, words, along)?;
    let b = nest.words(e, args[1], point, words, along)?;
    Some(match (signed(args[0]), signed(args[1])) {
        (false, true) => Value::Dot(Dot::Us, acc, a, b),
        (true, false) => Value::Dot(Dot::Us, acc, b, a),
        (true, true) if symmetric(nest, args[1]) => Value::Dot(Dot::Sn, acc, a, b),
        (true, true) if symmetric(nest, args[0]) => Value::Dot(Dot::Sn, acc, b, a),
        (true, true) => Value::Dot(Dot::Ss, acc, a, b),
        (false, false) => Value::Dot(Dot::Uu, acc, a, b),
    })
}

/// The words of a product's factors: those of rows, and those of columns, which lie in halves.
pub fn halves(nest: &Nest, e: &mut Emitter, (body, words): (u32, usize), point: &Point) -> Option<[Reg; 2]> {
    let Node::Op(Op::Mul, args) = &nest.linear.nodes[body as usize] else { return None };
    let along = nest.schedule.reduce.last()?.var;
    let a = nest.words(e, args[0], point, words, along)?;
    let b = nest.words(e, args[1], point, words, along)?;
    Some(if symmetric(nest, args[1]) { [a, b] } else { [b, a] })
}

/// Whether so many words lie in halves where a schedule says so.
pub fn in_halves(lanes: usize) -> bool {
    lanes.is_multiple_of(8)
}

/// The innermost reduction axis of a product of bytes, four or eight points at a time.
pub(super) fn word_steps(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction, step: ReduceStep) {
    let extent = nest.linear.extent(step.var) as i64;
    let name = nest.linear.vars[step.var as usize].name.clone();
    let neighbours = nest.schedule.dot;
    // Words that are multiplied at a time.
    let together = if nest.schedule.long { long::WORDS } else { 1 };
    let points = neighbours * together;
    let unroll = step.unroll.next_multiple_of(points) as i64;
    let full = extent / unroll * unroll;
    // Points in four words.
    let loaded = if nest.sixteen { 8 } else { 16 };
    r.words = neighbours;
    e.repeat(&name, 0, full, unroll, |e, at| {
        for u in (0..unroll).step_by(points) {
            let group = |u: i64| {
                (nest.schedule.lane_loads == 4 && unroll % loaded == 0).then(|| Group {
                    var: step.var,
                    start: at.offset(u - u % loaded),
                    lanes: 4,
                    lane: (4 * (u % loaded) / loaded) as u8,
                })
            };
            if nest.schedule.long {
                let groups = [group(u), group(u + neighbours as i64)];
                long::bodies(nest, e, r, step.var, &at.offset(u), groups);
                continue;
            }
            let group = group(u);
            nest.place[step.var as usize] = at.offset(u);
            bodies(nest, e, r, group.as_ref());
        }
    });
    let whole =
        if nest.schedule.long { full + (extent - full) / points as i64 * points as i64 } else { full };
    for k in (full..whole).step_by(points) {
        long::bodies(nest, e, r, step.var, &Affine::constant(k), [None, None]);
    }
    for k in (whole..extent).step_by(neighbours) {
        nest.place[step.var as usize] = Affine::constant(k);
        r.words = neighbours.min((extent - k) as usize);
        bodies(nest, e, r, None);
    }
}

/// The signs of a product whose first factor is that of the rows.
pub fn signs(nest: &Nest, rows: u32, columns: u32) -> Option<Signs> {
    match (byte_type(nest, rows), byte_type(nest, columns)) {
        (DType::U8, DType::I8) => Some(Signs::Us),
        (DType::I8, DType::I8) => Some(Signs::Ss),
        (DType::U8, DType::U8) => Some(Signs::Uu),
        _ => None,
    }
}

/// Whether a factor is a constant of signed bytes without -128.
pub fn symmetric(nest: &Nest, factor: u32) -> bool {
    match &nest.linear.nodes[nest.linear.without_casts(factor) as usize] {
        Node::Load { operand, .. } => nest.linear.buffers[*operand as usize].symmetric,
        _ => false,
    }
}

/// The element type a factor is loaded as.
fn byte_type(nest: &Nest, factor: u32) -> DType {
    nest.linear.types[nest.linear.without_casts(factor) as usize]
}
