//! Functions of two numbers, and of any number of them.

use super::rows;
use crate::base::{DType, Tensor};
use crate::definition::{DefBuilder, ExprId};
use crate::error::{Error, Result};
use crate::ops::Ctx;
use crate::ops::emit::{Arith, numbers};
use crate::scalar::Op;

rows! {
    "Add" 2 [1, 6, 7, 13, 14], Number, Same, |_, b, x| Ok(b.op(Op::Add, x));
    "Sub" 2 [1, 6, 7, 13, 14], Number, Same, |_, b, x| Ok(b.op(Op::Sub, x));
    "Mul" 2 [1, 6, 7, 13, 14], Number, Same, |_, b, x| Ok(b.op(Op::Mul, x));
    "Div" 2 [1, 6, 7, 13, 14], Number, Same, |_, b, x| Ok(b.op(Op::Div, x));
    "Mod" 2 [10, 13, 28], Number, Same, modulo;
    "Pow" 2 [1, 7, 12, 13, 15], Number, Same, pow;
    "PRelu" 2 [1, 6, 7, 9, 16], Number, Same, prelu;
    "BitShift" 2 [11, 28], Int, Same, shift;
    "BitwiseAnd" 2 [18], Int, Same, |_, b, x| Ok(b.op(Op::And, x));
    "BitwiseOr" 2 [18], Int, Same, |_, b, x| Ok(b.op(Op::Or, x));
    "BitwiseXor" 2 [18], Int, Same, |_, b, x| Ok(b.op(Op::Xor, x));
    "And" 2 [1, 7], Bool, Same, |_, b, x| Ok(b.op(Op::And, x));
    "Or" 2 [1, 7], Bool, Same, |_, b, x| Ok(b.op(Op::Or, x));
    "Xor" 2 [1, 7], Bool, Same, |_, b, x| Ok(b.op(Op::Xor, x));
    "Equal" 2 [1, 7, 11, 13, 19], Any, Bool, |_, b, x| Ok(b.op(Op::Eq, x));
    "Less" 2 [1, 7, 9, 13], Number, Bool, |_, b, x| Ok(b.op(Op::Lt, x));
    "LessOrEqual" 2 [12, 16], Number, Bool, |_, b, x| Ok(b.op(Op::Le, x));
    "Greater" 2 [1, 7, 9, 13], Number, Bool, |_, b, x| Ok(b.op(Op::Gt, x));
    "GreaterOrEqual" 2 [12, 16], Number, Bool, |_, b, x| Ok(b.op(Op::Ge, x));
    "Max" 0 [1, 6, 8, 12, 13], Number, Same, |_, b, x| Ok(joined(b, Op::Max, x));
    "Min" 0 [1, 6, 8, 12, 13], Number, Same, |_, b, x| Ok(joined(b, Op::Min, x));
    "Sum" 0 [1, 6, 8, 13], Float, Same, |_, b, x| Ok(joined(b, Op::Add, x));
    "Mean" 0 [1, 6, 8, 13], Float, Same, mean;
}

/// All arguments joined, the first two first.
fn joined(b: &mut DefBuilder, op: Op, x: &[ExprId]) -> ExprId {
    x[1..].iter().fold(x[0], |sum, &next| b.op(op, &[sum, next]))
}

fn mean(_: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let sum = joined(b, Op::Add, x);
    let count = b.number(b.dtype(sum), x.len() as f64);
    Ok(b.over(sum, count))
}

fn modulo(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let op = if ctx.attrs().flag("fmod", false)? { Op::Rem } else { Op::Mod };
    Ok(b.op(op, x))
}

fn prelu(_: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let zero = b.number(b.dtype(x[0]), 0.0);
    let scaled = b.times(x[0], x[1]);
    let negative = b.op(Op::Lt, &[x[0], zero]);
    Ok(b.op(Op::Select, &[negative, scaled, x[0]]))
}

fn shift(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    match ctx.attrs().str("direction", "")? {
        "LEFT" => Ok(b.op(Op::Shl, x)),
        "RIGHT" => Ok(b.op(Op::Shr, x)),
        other => Err(Error::model(format!("direction must be LEFT or RIGHT, not '{other}'"))),
    }
}

/// The value of a constant exponent, where all its elements are the same.
fn exponent(ctx: &Ctx) -> Option<f64> {
    let tensor: &Tensor = ctx.optional(1)?.constant.as_ref()?;
    let all = numbers(tensor).ok()?;
    all.iter().all(|v| v == &all[0]).then(|| all.first().copied())?
}

/// In the type of the base; in floating point where either is. Small constant exponents become
/// products and roots.
fn pow(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let (base, power) = (x[0], x[1]);
    let dtype = match (b.dtype(base), b.dtype(power)) {
        (base, _) if base.is_float() => base,
        (_, power) if power.is_float() => power,
        (DType::I64, _) | (_, DType::I64) => DType::I64,
        (base, _) => base,
    };
    let (base, power) = (b.cast(dtype, base), b.cast(dtype, power));
    let square = b.times(base, base);
    Ok(match exponent(ctx) {
        Some(1.0) => base,
        Some(2.0) => square,
        Some(3.0) => b.times(square, base),
        Some(-1.0) if dtype.is_float() => {
            let one = b.number(dtype, 1.0);
            b.over(one, base)
        }
        Some(0.5) if dtype.is_float() => b.op(Op::Sqrt, &[base]),
        _ => b.op(Op::Pow, &[base, power]),
    })
}
