//! BatchNormalization: `x * a + b` per channel, with `a` and `b` computed once; in training mode
//! from the batch's own mean and variance.

use super::normalize::{mean, per_channel, variance};
use crate::base::TensorType;
use crate::definition::Lowering;
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "",
    name: "BatchNormalization",
    versions: &[1, 6, 7, 9, 14, 15],
    infer,
    lower: Lower::Define(lower),
    note: "",
}];

/// Training mode is an attribute since version 14; before, it was what the outputs wanted said.
fn training(ctx: &Ctx) -> Result<bool> {
    match ctx.version() {
        14.. => ctx.attrs().flag("training_mode", false),
        7.. => Ok(ctx.node.outputs.iter().skip(1).any(|o| o.is_some())),
        _ => Ok(!ctx.attrs().flag("is_test", false)? && ctx.node.outputs.iter().skip(1).any(|o| o.is_some())),
    }
}

/// Whether all points of a channel share their statistics; before version 9 each may have its own.
fn spatial(ctx: &Ctx) -> Result<bool> {
    Ok(ctx.version() >= 9 || ctx.attrs().flag("spatial", true)?)
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float() && x.rank() >= 2, || format!("it is not defined for a tensor of type {x}"))?;
    let statistics = if spatial(ctx)? { &x.shape[1..2] } else { &x.shape[1..] };
    for i in 1..5 {
        let ty = ctx.ty(i)?;
        require(ty.shape == statistics && ty.dtype.is_float(), || {
            format!("input {i} of type {ty} does not fit statistics of {statistics:?}")
        })?;
    }
    let (mean, variance) = (ctx.ty(3)?.clone(), ctx.ty(4)?.clone());
    Ok(vec![x.clone(), mean.clone(), variance.clone(), mean, variance])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let (spatial, points) = (spatial(ctx)?, e.input(3)?.ty.shape);
    let [scale, bias, old_mean, old_variance] = [e.input(1)?, e.input(2)?, e.input(3)?, e.input(4)?];
    let (mean, variance) = if training(ctx)? {
        let axes: Vec<usize> = (0..x.rank()).filter(|&i| i == 0 || spatial && i != 1).collect();
        let mean = mean(&mut e, &x, &axes);
        let variance = variance(&mut e, &x, &mean, &axes);
        (e.reshape(&mean, points.clone()), e.reshape(&variance, points.clone()))
    } else {
        (old_mean.clone(), old_variance.clone())
    };
    let epsilon = f64::from(ctx.attrs().float("epsilon", 1e-5)?);
    let float = compute_type(x.dtype());
    let factor = e.map("factor", float, points.clone(), |b| {
        let (scale, variance) = (b.broadcast(&scale, float), b.broadcast(&variance, float));
        let inverse = b.inverse_root(variance, epsilon);
        b.times(scale, inverse)
    });
    let offset = e.map("offset", float, points, |b| {
        let (bias, mean, factor) =
            (b.broadcast(&bias, float), b.broadcast(&mean, float), b.broadcast(&factor, float));
        let product = b.times(mean, factor);
        b.minus(bias, product)
    });
    let (factor, offset) = match spatial {
        true => (per_channel(&mut e, &factor, &x)?, per_channel(&mut e, &offset, &x)?),
        false => (factor, offset),
    };
    e.define("", &out, |b| {
        let (x, factor, offset) =
            (b.broadcast(&x, float), b.broadcast(&factor, float), b.broadcast(&offset, float));
        let product = b.times(x, factor);
        b.plus(product, offset)
    });
    let momentum = f64::from(ctx.attrs().float("momentum", 0.9)?);
    running(&mut e, 1, &old_mean, &mean, momentum);
    running(&mut e, 2, &old_variance, &variance, momentum);
    // Until version 14, the statistics of the batch itself may be wanted too.
    running(&mut e, 3, &old_mean, &mean, 0.0);
    running(&mut e, 4, &old_variance, &variance, 0.0);
    Ok(())
}

/// Output `i`, where wanted: `old * momentum + new * (1 - momentum)`.
fn running(e: &mut Emit, i: usize, old: &Val, new: &Val, momentum: f64) {
    let Some(out) = e.output(i) else { return };
    let float = compute_type(out.dtype());
    e.define("running", &out, |b| {
        let new = b.broadcast(new, float);
        if momentum == 0.0 {
            return new;
        }
        let old = b.broadcast(old, float);
        let (old, new) = (b.times_number(old, momentum), b.times_number(new, 1.0 - momentum));
        b.plus(old, new)
    });
}
