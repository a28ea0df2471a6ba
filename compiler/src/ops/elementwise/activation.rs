//! Activation functions.

use super::rows;
use crate::base::DType;
use crate::definition::{DefBuilder, ExprId};
use crate::error::{Error, Result};
use crate::ops::Ctx;
use crate::ops::emit::Arith;
use crate::scalar::Op;

rows! {
    "Relu" 1 [1, 6, 13, 14], Number, Same, relu;
    "LeakyRelu" 1 [1, 6, 16], Float, Same, leaky_relu;
    "ThresholdedRelu" 1 [1, 10, 22], Float, Same, thresholded_relu;
    "Elu" 1 [1, 6, 22], Float, Same, elu;
    "Selu" 1 [1, 6, 22], Float, Same, selu;
    "Celu" 1 [12, 28], Float, Same, celu;
    "Gelu" 1 [20], Float, Same, gelu;
    "Mish" 1 [18, 22], Float, Same, mish;
    "Sigmoid" 1 [1, 6, 13], Float, Same, |_, b, x| Ok(b.op(Op::Sigmoid, x));
    "HardSigmoid" 1 [1, 6, 22], Float, Same, hard_sigmoid;
    "HardSwish" 1 [14, 22], Float, Same, hard_swish;
    "Swish" 1 [24], Float, Same, swish;
    "SwiGLU" 2 [28], Float, Same, swiglu;
    "Softplus" 1 [1, 22], Float, Same, |_, b, x| Ok(softplus(b, x[0]));
    "Softsign" 1 [1, 22], Float, Same, softsign;
    "Shrink" 1 [9], Number, Same, shrink;
}

/// A float attribute with its default.
fn attr(ctx: &Ctx, name: &str, default: f32) -> Result<f64> {
    Ok(f64::from(ctx.attrs().float(name, default)?))
}

/// `x < 0 ? a : b`.
fn below_zero(b: &mut DefBuilder, x: ExprId, negative: ExprId, other: ExprId) -> ExprId {
    let zero = b.number(b.dtype(x), 0.0);
    let mask = b.op(Op::Lt, &[x, zero]);
    b.op(Op::Select, &[mask, negative, other])
}

fn relu(_: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let zero = b.number(b.dtype(x[0]), 0.0);
    Ok(b.op(Op::Max, &[x[0], zero]))
}

fn leaky_relu(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let scaled = b.times_number(x[0], attr(ctx, "alpha", 0.01)?);
    Ok(below_zero(b, x[0], scaled, x[0]))
}

fn thresholded_relu(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let dtype = b.dtype(x[0]);
    let (zero, limit) = (b.number(dtype, 0.0), b.number(dtype, attr(ctx, "alpha", 1.0)?));
    let above = b.op(Op::Gt, &[x[0], limit]);
    Ok(b.op(Op::Select, &[above, x[0], zero]))
}

/// `alpha * (e^x - 1)`.
fn less_one(b: &mut DefBuilder, x: ExprId, alpha: f64) -> ExprId {
    let exp = b.op(Op::Exp, &[x]);
    let less = b.plus_number(exp, -1.0);
    b.times_number(less, alpha)
}

fn elu(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let negative = less_one(b, x[0], attr(ctx, "alpha", 1.0)?);
    Ok(below_zero(b, x[0], negative, x[0]))
}

fn selu(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    // The defaults of opset 1 differ in the last digits.
    let (alpha, gamma) = if ctx.version() < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let negative = less_one(b, x[0], attr(ctx, "alpha", alpha)?);
    let y = below_zero(b, x[0], negative, x[0]);
    Ok(b.times_number(y, attr(ctx, "gamma", gamma)?))
}

/// `max(0, x) + min(0, alpha * (e^(x / alpha) - 1))`
fn celu(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let alpha = attr(ctx, "alpha", 1.0)?;
    let dtype = b.dtype(x[0]);
    let (zero, divisor) = (b.number(dtype, 0.0), b.number(dtype, alpha));
    let scaled = b.over(x[0], divisor);
    let curve = less_one(b, scaled, alpha);
    let (low, high) = (b.op(Op::Min, &[curve, zero]), b.op(Op::Max, &[x[0], zero]));
    Ok(b.plus(high, low))
}

fn gelu(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let gate = match ctx.attrs().str("approximate", "none")? {
        "none" => {
            let scaled = b.times_number(x[0], std::f64::consts::FRAC_1_SQRT_2);
            b.op(Op::Erf, &[scaled])
        }
        "tanh" => {
            let square = b.times(x[0], x[0]);
            let cube = b.times(square, x[0]);
            let small = b.times_number(cube, 0.044_715);
            let sum = b.plus(x[0], small);
            let scaled = b.times_number(sum, (2.0 / std::f64::consts::PI).sqrt());
            b.op(Op::Tanh, &[scaled])
        }
        other => return Err(Error::model(format!("approximate = '{other}' is not known"))),
    };
    let gate = b.plus_number(gate, 1.0);
    let half = b.times_number(x[0], 0.5);
    Ok(b.times(half, gate))
}

fn mish(_: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let soft = softplus(b, x[0]);
    let tanh = b.op(Op::Tanh, &[soft]);
    Ok(b.times(x[0], tanh))
}

/// `clamp(alpha * x + beta, 0, 1)`
fn gate(b: &mut DefBuilder, x: ExprId, alpha: f64, beta: f64) -> ExprId {
    let scaled = b.times_number(x, alpha);
    let moved = b.plus_number(scaled, beta);
    b.clamp(moved, 0.0, 1.0)
}

fn hard_sigmoid(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let (alpha, beta) = (attr(ctx, "alpha", 0.2)?, attr(ctx, "beta", 0.5)?);
    Ok(gate(b, x[0], alpha, beta))
}

fn hard_swish(_: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let gate = gate(b, x[0], 1.0 / 6.0, 0.5);
    Ok(b.times(x[0], gate))
}

fn swish(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let scaled = b.times_number(x[0], attr(ctx, "alpha", 1.0)?);
    let gate = b.op(Op::Sigmoid, &[scaled]);
    Ok(b.times(x[0], gate))
}

/// `swish(a) * b`.
fn swiglu(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let gated = swish(ctx, b, &x[..1])?;
    Ok(b.times(gated, x[1]))
}

/// `max(x, 0) + log(1 + e^-|x|)`, which does not overflow.
fn softplus(b: &mut DefBuilder, x: ExprId) -> ExprId {
    let zero = b.number(b.dtype(x), 0.0);
    let abs = b.op(Op::Abs, &[x]);
    let minus = b.op(Op::Neg, &[abs]);
    let exp = b.op(Op::Exp, &[minus]);
    let sum = b.plus_number(exp, 1.0);
    let log = b.op(Op::Log, &[sum]);
    let positive = b.op(Op::Max, &[x, zero]);
    b.plus(positive, log)
}

fn softsign(_: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let abs = b.op(Op::Abs, x);
    let below = b.plus_number(abs, 1.0);
    Ok(b.over(x[0], below))
}

/// In f32 for integers, whose `lambd` may be a fraction.
fn shrink(ctx: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let (bias, lambd) = (attr(ctx, "bias", 0.0)?, attr(ctx, "lambd", 0.5)?);
    let dtype = if b.dtype(x[0]).is_float() { b.dtype(x[0]) } else { DType::F32 };
    let x = b.cast(dtype, x[0]);
    let (zero, high, low) = (b.number(dtype, 0.0), b.number(dtype, lambd), b.number(dtype, -lambd));
    let (more, less) = (b.plus_number(x, bias), b.plus_number(x, -bias));
    let (below, above) = (b.op(Op::Lt, &[x, low]), b.op(Op::Gt, &[x, high]));
    let y = b.op(Op::Select, &[above, less, zero]);
    Ok(b.op(Op::Select, &[below, more, y]))
}
