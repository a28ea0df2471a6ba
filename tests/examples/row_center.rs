//! RowCenter: each element less the mean of its row.

use crate::base::{Affine, TensorType};
use crate::definition::{DefBuilder, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, compute_type, require};
use crate::ops::{Ctx, Operator};
use crate::scalar::Fold;

/// The rows.
pub const ROWS: &[Operator] = &[Operator::define("com.example", "RowCenter", &[1], infer, center)];

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float() && x.rank() >= 1, || format!("it is not defined for {x}"))?;
    Ok(vec![x.clone()])
}

fn center(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let (row, float) = (x.rank() - 1, compute_type(x.dtype()));
    let share = 1.0 / x.shape()[row] as f64;
    let element = |b: &mut DefBuilder, at: &[Affine]| b.elem(&x, at, float);
    let mean = e.reduce("mean", x.shape(), &[row], Fold::Sum, element, |b, sum| b.times_number(sum, share));
    e.define("", &out, |b| {
        let (x, mean) = (b.broadcast(&x, float), b.broadcast(&mean, float));
        b.minus(x, mean)
    });
    Ok(())
}
