//! Products of bytes: four neighbours of a reduction axis at a time, or two of 16 bits.

use crate::base::DType;
use crate::nest::emit::Emitter;
use crate::nest::expr::Point;
use crate::nest::{Nest, sixteen};
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
