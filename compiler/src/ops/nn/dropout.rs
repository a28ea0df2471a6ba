//! Dropout at inference: the input itself, and a mask of ones.

use crate::base::{DType, TensorType};
use crate::definition::Lowering;
use crate::error::{Error, Result};
use crate::ops::emit::{Emit, numbers};
use crate::ops::{Ctx, Lower, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "",
    name: "Dropout",
    versions: &[1, 6, 7, 10, 12, 13, 22],
    infer,
    lower: Lower::Define(lower),
    note: "training mode with a ratio above 0 is refused",
}];

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    if ctx.version() >= 12 && ctx.has(2) && ctx.constant(2)?.data.iter().any(|&b| b != 0) {
        let ratio = if ctx.has(1) { numbers(ctx.constant(1)?)?.first().copied().unwrap_or(0.5) } else { 0.5 };
        if ratio != 0.0 {
            return Err(
                Error::model("training mode is not supported").advise("Export the model for inference")
            );
        }
    }
    let mask = if ctx.version() < 10 { x.dtype } else { DType::Bool };
    Ok(vec![x.clone(), TensorType::new(mask, x.shape.clone())])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    e.alias(&x, &out);
    if let Some(mask) = e.output(1) {
        e.define("mask", &mask, |b| b.number(mask.dtype(), 1.0));
    }
    Ok(())
}
