//! Activation functions as expressions: of operators of their own, of recurrences, and of fused operators.

use super::emit::Arith;
use crate::definition::{DefBuilder, ExprId};
use crate::scalar::Op;

/// `x < 0 ? a : b`.
pub fn below_zero(b: &mut DefBuilder, x: ExprId, negative: ExprId, other: ExprId) -> ExprId {
    let zero = b.number(b.dtype(x), 0.0);
    let mask = b.op(Op::Lt, &[x, zero]);
    b.op(Op::Select, &[mask, negative, other])
}

/// `alpha * (e^x - 1)`.
pub fn less_one(b: &mut DefBuilder, x: ExprId, alpha: f64) -> ExprId {
    let exp = b.op(Op::Exp, &[x]);
    let less = b.plus_number(exp, -1.0);
    b.times_number(less, alpha)
}

/// `max(x, 0)`.
pub fn relu(b: &mut DefBuilder, x: ExprId) -> ExprId {
    let zero = b.number(b.dtype(x), 0.0);
    b.op(Op::Max, &[x, zero])
}

/// `x < 0 ? alpha * x : x`.
pub fn leaky_relu(b: &mut DefBuilder, x: ExprId, alpha: f64) -> ExprId {
    let scaled = b.times_number(x, alpha);
    below_zero(b, x, scaled, x)
}

/// `x > alpha ? x : 0`.
pub fn thresholded_relu(b: &mut DefBuilder, x: ExprId, alpha: f64) -> ExprId {
    let dtype = b.dtype(x);
    let (zero, limit) = (b.number(dtype, 0.0), b.number(dtype, alpha));
    let above = b.op(Op::Gt, &[x, limit]);
    b.op(Op::Select, &[above, x, zero])
}

/// `x < 0 ? alpha * (e^x - 1) : x`.
pub fn elu(b: &mut DefBuilder, x: ExprId, alpha: f64) -> ExprId {
    let negative = less_one(b, x, alpha);
    below_zero(b, x, negative, x)
}

/// `clamp(alpha * x + beta, 0, 1)`.
pub fn hard_sigmoid(b: &mut DefBuilder, x: ExprId, alpha: f64, beta: f64) -> ExprId {
    let scaled = b.times_number(x, alpha);
    let moved = b.plus_number(scaled, beta);
    b.clamp(moved, 0.0, 1.0)
}

/// `x * clamp(alpha * x + beta, 0, 1)`.
pub fn hard_swish(b: &mut DefBuilder, x: ExprId, alpha: f64, beta: f64) -> ExprId {
    let gate = hard_sigmoid(b, x, alpha, beta);
    b.times(x, gate)
}

/// `max(x, 0) + log(1 + e^-|x|)`, which does not overflow.
pub fn softplus(b: &mut DefBuilder, x: ExprId) -> ExprId {
    let zero = b.number(b.dtype(x), 0.0);
    let abs = b.op(Op::Abs, &[x]);
    let minus = b.op(Op::Neg, &[abs]);
    let exp = b.op(Op::Exp, &[minus]);
    let sum = b.plus_number(exp, 1.0);
    let log = b.op(Op::Log, &[sum]);
    let positive = b.op(Op::Max, &[x, zero]);
    b.plus(positive, log)
}

/// `x / (1 + |x|)`.
pub fn softsign(b: &mut DefBuilder, x: ExprId) -> ExprId {
    let abs = b.op(Op::Abs, &[x]);
    let below = b.plus_number(abs, 1.0);
    b.over(x, below)
}
