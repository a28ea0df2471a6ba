//! Activation functions as operators.

use super::rows;
use crate::base::DType;
use crate::definition::{DefBuilder, ExprId};
use crate::error::{Error, Result};
use crate::ops::Ctx;
use crate::ops::activation::{
    below_zero, elu, hard_sigmoid, hard_swish, leaky_relu, less_one, relu, softplus, softsign,
    thresholded_relu,
};
use crate::ops::emit::Arith;
use crate::scalar::Op;

rows! {
    "Relu" 1 [1, 6, 13, 14], Number, Same, |_, b, x| Ok(relu(b, x[0]));
    "LeakyRelu" 1 [1, 6, 16], Float, Same, |c, b, x| Ok(leaky_relu(b, x[0], attr(c, "alpha", 0.01)?));
    "ThresholdedRelu" 1 [1, 10, 22], Float, Same, |c, b, x| Ok(thresholded_relu(b, x[0], attr(c, "alpha", 1.0)?));
    "Elu" 1 [1, 6, 22], Float, Same, |c, b, x| Ok(elu(b, x[0], attr(c, "alpha", 1.0)?));
    "Selu" 1 [1, 6, 22], Float, Same, selu;
    "Celu" 1 [12, 28], Float, Same, celu;
    "Gelu" 1 [20], Float, Same, gelu;
    "Mish" 1 [18, 22], Float, Same, mish;
    "Sigmoid" 1 [1, 6, 13], Float, Same, |_, b, x| Ok(b.op(Op::Sigmoid, x));
    "HardSigmoid" 1 [1, 6, 22], Float, Same,
        |c, b, x| Ok(hard_sigmoid(b, x[0], attr(c, "alpha", 0.2)?, attr(c, "beta", 0.5)?));
    "HardSwish" 1 [14, 22], Float, Same, |_, b, x| Ok(hard_swish(b, x[0], 1.0 / 6.0, 0.5));
    "Swish" 1 [24], Float, Same, swish;
    "SwiGLU" 2 [28], Float, Same, swiglu;
    "Softplus" 1 [1, 22], Float, Same, |_, b, x| Ok(softplus(b, x[0]));
    "Softsign" 1 [1, 22], Float, Same, |_, b, x| Ok(softsign(b, x[0]));
    "Shrink" 1 [9], Number, Same, shrink;
}

/// A float attribute with its default.
fn attr(ctx: &Ctx, name: &str, default: f32) -> Result<f64> {
    Ok(f64::from(ctx.attrs().float(name, default)?))
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

/// `x * tanh(log(1 + e^x))`, of which the tangent is `n / (n + 2)` with `n = e^x (e^x + 2)`, 1 for larger numbers.
fn mish(_: &Ctx, b: &mut DefBuilder, x: &[ExprId]) -> Result<ExprId> {
    let dtype = b.dtype(x[0]);
    let largest = b.number(dtype, if dtype == DType::F16 { 5.0 } else { 20.0 });
    let bounded = b.op(Op::Min, &[x[0], largest]);
    let exp = b.op(Op::Exp, &[bounded]);
    let more = b.plus_number(exp, 2.0);
    let above = b.times(exp, more);
    let below = b.plus_number(above, 2.0);
    let tanh = b.over(above, below);
    Ok(b.times(x[0], tanh))
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
