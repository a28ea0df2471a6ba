//! Limits of integers that were rounded.
//!
//! What is limited to the range of a narrow type and then to more of it (a Relu behind a zero point in the middle) may
//! be limited in the other order: encoders narrow to a type's own range by the instruction that narrows.

use super::requantize::Site;
use crate::base::DType;
use crate::nest::requantize::{Requantized, narrow};
use crate::scalar::Op;
use crate::schedule::Linear;
use crate::schedule::linear::Node;
use crate::tile::{Bin, Reg, Value};

/// Rounded numbers of 16 bits whose limits follow others, in 32 bits: those, and the others from the inside out.
fn limited(linear: &Linear, id: u32) -> Option<(Requantized, Vec<(Bin, u32)>)> {
    let (mut at, mut others) = (id, Vec::new());
    while let Node::Op(op @ (Op::Min | Op::Max), args) = &linear.nodes[at as usize] {
        let [a, b] = [args[0], *args.get(1)?];
        let made = |e: u32| matches!(linear.nodes[narrow(linear, e) as usize], Node::Cast { .. });
        let (inner, other) = if made(a) { (a, b) } else { (b, a) };
        others.insert(0, (if *op == Op::Min { Bin::Min } else { Bin::Max }, other));
        at = narrow(linear, inner);
        let same = |e: u32| linear.types[narrow(linear, e) as usize] == linear.types[at as usize];
        let Node::Cast { to, arg, .. } = linear.nodes[at as usize] else { return None };
        if to != DType::I16 || !same(other) {
            return None;
        }
        if linear.types[arg as usize] == DType::I32 {
            at = arg;
            continue;
        }
        return Requantized::of(linear, arg, to)
            .filter(|found| found.limits(to))
            .map(|found| (found, others));
    }
    None
}

/// Emits numbers whose limits follow others: nothing where an expression is none of these.
pub(super) fn emit(at: &mut Site, id: u32) -> Option<Reg> {
    let (found, others) = limited(at.exprs.linear, id)?;
    let mut value = found.emit_whole(at);
    for (op, other) in others {
        let other = at.eval(other);
        value = at.e.value(at.e.ty(value), Value::Bin(op, value, other));
    }
    Some(found.emit_limits(at.e, value, at.point))
}
