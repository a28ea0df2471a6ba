//! Products of bytes: four neighbours of a reduction axis at a time, or two that are widened to 16 bits.

use super::Nest;
use super::emit::Emitter;
use super::expr::Point;
use crate::base::DType;
use crate::scalar::Op;
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
        let [a, b] = [args[0], args[1]].map(|factor| nest.couple(e, factor, point, words));
        return Some(Value::Dot(Dot::Couples, acc, a?, b?));
    }
    let along = nest.schedule.reduce.last()?.var;
    let signed = |e: u32| byte_type(nest, e) == DType::I8;
    let a = nest.words(e, args[0], point, words, along)?;
    let b = nest.words(e, args[1], point, words, along)?;
    if nest.schedule.halves && in_halves(point.lanes) {
        let (rows, columns) = if symmetric(nest, args[1]) { (a, b) } else { (b, a) };
        return Some(Value::Dot(Dot::Halves, acc, rows, columns));
    }
    Some(match (signed(args[0]), signed(args[1])) {
        (false, true) => Value::Dot(Dot::Us, acc, a, b),
        (true, false) => Value::Dot(Dot::Us, acc, b, a),
        (true, true) if symmetric(nest, args[1]) => Value::Dot(Dot::Sn, acc, a, b),
        (true, true) if symmetric(nest, args[0]) => Value::Dot(Dot::Sn, acc, b, a),
        (true, true) => Value::Dot(Dot::Ss, acc, a, b),
        (false, false) => Value::Dot(Dot::Uu, acc, a, b),
    })
}

/// Whether so many words lie in halves where a schedule says so.
pub fn in_halves(lanes: usize) -> bool {
    lanes.is_multiple_of(8)
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
fn symmetric(nest: &Nest, factor: u32) -> bool {
    match &nest.linear.nodes[strip(nest, factor) as usize] {
        Node::Load { operand, .. } => nest.linear.buffers[*operand as usize].symmetric,
        _ => false,
    }
}

/// The element type a factor is loaded as.
fn byte_type(nest: &Nest, factor: u32) -> DType {
    nest.linear.types[strip(nest, factor) as usize]
}

/// What a factor is before it is converted.
pub fn strip(nest: &Nest, mut factor: u32) -> u32 {
    while let Node::Cast { arg, .. } = &nest.linear.nodes[factor as usize] {
        factor = *arg;
    }
    factor
}
