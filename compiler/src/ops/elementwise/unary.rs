//! Functions of one number.

use super::rows;
use crate::definition::{DefBuilder, ExprId};
use crate::error::Result;
use crate::ops::Ctx;
use crate::ops::emit::Arith;
use crate::scalar::Op;

rows! {
    "Abs" 1 [1, 6, 13], Number, Same, |_, b, x| Ok(b.op(Op::Abs, x));
    "Neg" 1 [1, 6, 13], Number, Same, |_, b, x| Ok(b.op(Op::Neg, x));
    "Sign" 1 [9, 13], Number, Same, |_, b, x| Ok(b.op(Op::Sign, x));
    "Ceil" 1 [1, 6, 13], Float, Same, |_, b, x| Ok(b.op(Op::Ceil, x));
    "Floor" 1 [1, 6, 13], Float, Same, |_, b, x| Ok(b.op(Op::Floor, x));
    "Round" 1 [11, 22], Float, Same, |_, b, x| Ok(b.op(Op::Round, x));
    "Sqrt" 1 [1, 6, 13], Float, Same, |_, b, x| Ok(b.op(Op::Sqrt, x));
    "Reciprocal" 1 [1, 6, 13], Float, Same, reciprocal;
    "Exp" 1 [1, 6, 13], Float, Same, |_, b, x| Ok(b.op(Op::Exp, x));
    "Log" 1 [1, 6, 13], Float, Same, |_, b, x| Ok(b.op(Op::Log, x));
    "Erf" 1 [9, 13], Number, Same, |_, b, x| Ok(float(b, Op::Erf, x[0]));
    "Sin" 1 [7, 22], Float, Same, |_, b, x| Ok(b.op(Op::Sin, x));
    "Cos" 1 [7, 22], Float, Same, |_, b, x| Ok(b.op(Op::Cos, x));
    "Tan" 1 [7, 22], Float, Same, |_, b, x| Ok(b.op(Op::Tan, x));
    "Asin" 1 [7, 22], Float, Same, |_, b, x| Ok(b.op(Op::Asin, x));
    "Acos" 1 [7, 22], Float, Same, |_, b, x| Ok(b.op(Op::Acos, x));
    "Atan" 1 [7, 22], Float, Same, |_, b, x| Ok(b.op(Op::Atan, x));
    "Sinh" 1 [9, 22], Float, Same, |_, b, x| Ok(b.op(Op::Sinh, x));
    "Cosh" 1 [9, 22], Float, Same, |_, b, x| Ok(b.op(Op::Cosh, x));
    "Tanh" 1 [1, 6, 13], Float, Same, |_, b, x| Ok(b.op(Op::Tanh, x));
    "Asinh" 1 [9, 22], Float, Same, |_, b, x| Ok(b.op(Op::Asinh, x));
    "Acosh" 1 [9, 22], Float, Same, |_, b, x| Ok(b.op(Op::Acosh, x));
    "Atanh" 1 [9, 22], Float, Same, |_, b, x| Ok(b.op(Op::Atanh, x));
    "Not" 1 [1], Bool, Same, |_, b, x| Ok(b.op(Op::Not, x));
    "BitwiseNot" 1 [18], Int, Same, |_, b, x| Ok(b.op(Op::Not, x));
    "IsNaN" 1 [9, 13, 20], Float, Bool, |_, b, x| Ok(b.op(Op::IsNan, x));
    "IsInf" 1 [10, 20], Float, Bool, is_infinite;
}

/// A function of floats, of integers by way of f32.
fn float(b: &mut DefBuilder, op: Op, x: ExprId) -> ExprId {
    let dtype = b.dtype(x);
    let wide = if dtype.is_float() { dtype } else { crate::base::DType::F32 };
    let x = b.cast(wide, x);
    b.op(op, &[x])
}

fn reciprocal(_: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let one = b.number(b.dtype(x[0]), 1.0);
    Ok(b.over(one, x[0]))
}

fn is_infinite(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let dtype = b.dtype(x[0]);
    let mut found = b.number(crate::base::DType::Bool, 0.0);
    for (attribute, limit) in [("detect_negative", f64::NEG_INFINITY), ("detect_positive", f64::INFINITY)] {
        if ctx.attrs().flag(attribute, true)? {
            let limit = b.number(dtype, limit);
            let is = b.op(Op::Eq, &[x[0], limit]);
            found = b.op(Op::Or, &[found, is]);
        }
    }
    Ok(found)
}
