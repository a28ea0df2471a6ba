//! Whole floats that are made integers of 16 bits and floats again stay floats.
//!
//! What is quantized to 16 bits and dequantized where it is read, in registers, is a float that was rounded and
//! clamped to the type's range: the integer, and the difference to its zero point, are that float and a
//! difference of floats.

use crate::base::DType;
use crate::definition::{DefBuilder, Expr, ExprId};
use crate::scalar::{Op, Scalar};

/// The float that a cast of `arg` to `to` would give, without integers in between.
pub(super) fn as_float(b: &mut DefBuilder, to: DType, arg: ExprId) -> Option<ExprId> {
    if to != DType::F32 {
        return None;
    }
    if let Some(float) = narrowed(b, arg) {
        return Some(float);
    }
    let &Expr::Op(Op::Sub, ref args) = b.expr(arg) else { return None };
    let (integer, zero) = (through(b, *args.first()?)?, through(b, *args.get(1)?)?);
    let float = narrowed(b, integer)?;
    if b.dtype(zero) != b.dtype(integer) {
        return None;
    }
    let zero = b.cast(DType::F32, zero);
    Some(b.op(Op::Sub, &[float, zero]))
}

/// What is extended to 32 bits.
fn through(b: &DefBuilder, e: ExprId) -> Option<ExprId> {
    match *b.expr(e) {
        Expr::Cast { to: DType::I32, arg, .. } => Some(arg),
        _ => None,
    }
}

/// The whole float, inside of the type and not -0, that a 16-bit integer without a sign is made of.
fn narrowed(b: &DefBuilder, e: ExprId) -> Option<ExprId> {
    let Expr::Cast { to: DType::U16, arg, .. } = *b.expr(e) else { return None };
    let (below, most) = limited(b, arg, Op::Min)?;
    let (inner, least) = limited(b, below, Op::Max)?;
    let within = least == 0.0 && most <= f64::from(u16::MAX) && most.fract() == 0.0;
    (within && b.dtype(arg) == DType::F32 && is_whole(b, inner)).then_some(arg)
}

/// An expression and the constant that limits it.
fn limited(b: &DefBuilder, e: ExprId, by: Op) -> Option<(ExprId, f64)> {
    let Expr::Op(op, args) = b.expr(e) else { return None };
    let &Expr::Const(limit) = b.expr(*args.get(1)?) else { return None };
    (*op == by).then(|| (args[0], Scalar::to_f64(limit)))
}

/// Whether a float is rounded, or that and a whole number.
fn is_whole(b: &DefBuilder, e: ExprId) -> bool {
    match b.expr(e) {
        Expr::Op(Op::Round, _) => true,
        Expr::Op(Op::Add, args) => args.iter().all(|&a| is_whole(b, a)),
        Expr::Cast { arg, .. } => b.dtype(*arg).is_int(),
        _ => false,
    }
}
