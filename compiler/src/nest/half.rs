//! Where the rounding to a half float can be left out: half floats are kept in `f32` registers, and
//! many values are halves already, or become them when they are stored.

use crate::base::DType;
use crate::scalar::{Op, cast};
use crate::schedule::Linear;
use crate::schedule::linear::Node;

/// How far an expression is followed.
const MOST_STEPS: u32 = 8;

/// Whether an operation on half floats gives what a half float holds.
pub fn keeps(op: Op) -> bool {
    use Op::{Abs, Ceil, Floor, Max, Min, Neg, Round, Select, Trunc};
    matches!(op, Neg | Abs | Max | Min | Select | Floor | Ceil | Trunc | Round)
}

/// Whether the value of an expression, in an `f32` register, is what a half float type holds.
pub fn holds(linear: &Linear, id: u32, dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16) && holds_within(linear, id, dtype, MOST_STEPS)
}

fn holds_within(linear: &Linear, id: u32, dtype: DType, steps: u32) -> bool {
    let ty = linear.types[id as usize];
    if ty == dtype || steps == 0 {
        return ty == dtype;
    }
    match &linear.nodes[id as usize] {
        Node::Const(s) if ty == DType::F32 => cast(cast(*s, dtype, true), DType::F32, true).bits == s.bits,
        Node::Cast { to: DType::F32, arg, .. } => linear.types[*arg as usize] == dtype,
        Node::Op(op, args) if ty == DType::F32 && keeps(*op) => {
            let floats = if *op == Op::Select { &args[1..] } else { &args[..] };
            floats.iter().all(|&a| holds_within(linear, a, dtype, steps - 1))
        }
        _ => false,
    }
}

/// Whether a rounding to a half float is left to the store: what is between the two gives the same for what is not
/// rounded yet.
pub fn later(linear: &Linear, id: u32) -> bool {
    let (stored, to) = (linear.stored(), linear.output.dtype);
    let rounds = matches!(to, DType::F16 | DType::BF16) && stored != linear.finish;
    rounds && linear.types[id as usize] == to && leads(linear, stored, id)
}

/// Whether an expression is that of the rounded value, each step on the way to it used once.
fn leads(linear: &Linear, e: u32, id: u32) -> bool {
    let uses = |e: u32| {
        let args = linear.reachable(linear.finish).into_iter().flat_map(|n| linear.nodes[n as usize].args());
        args.filter(|&a| a == e).count()
    };
    uses(e) == 1
        && match &linear.nodes[e as usize] {
            Node::Op(Op::Max | Op::Min | Op::Neg | Op::Abs, args) => {
                args.iter().any(|&a| leads(linear, a, id))
            }
            Node::Cast { to: DType::F32, arg, .. } => *arg == id && uses(id) == 1,
            _ => false,
        }
}
