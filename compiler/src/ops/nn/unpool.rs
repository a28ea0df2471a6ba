//! MaxUnpool: elements are scattered to the positions that MaxPool recorded.

use super::window::{explicit_pads, positive};
use crate::base::{Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::ops::emit::require;
use crate::ops::{Ctx, Lower, NodeBuilder, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "",
    name: "MaxUnpool",
    versions: &[9, 11, 22],
    infer,
    lower: Lower::Expand(expand),
    note: "output_shape must be constant",
}];

/// The shape that kernel, strides and pads give; positions count in it.
fn natural(ctx: &Ctx) -> Result<Vec<usize>> {
    let (x, indices) = (ctx.shape(0)?, ctx.ty(1)?);
    require(x.len() >= 3 && indices.shape == x && indices.dtype.is_int(), || {
        format!("positions {indices} do not fit a tensor of shape {x:?}")
    })?;
    let dims = x.len() - 2;
    let kernel = positive(ctx, "kernel_shape", dims, 1)?;
    let (strides, pads) = (positive(ctx, "strides", dims, 1)?, explicit_pads(ctx, dims)?);
    let mut shape = x[..2].to_vec();
    for d in 0..dims {
        let full = x[2 + d].saturating_sub(1) * strides[d] + kernel[d];
        let extent = full.checked_sub(pads[d].0 + pads[d].1);
        shape.push(extent.ok_or_else(|| Error::model("the pads are larger than the output"))?);
    }
    Ok(shape)
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let natural = natural(ctx)?;
    let shape = match ctx.constant_ints(2)? {
        None => natural,
        Some(wanted) => {
            let wanted: Vec<usize> = wanted.iter().map(|&d| d.max(0) as usize).collect();
            let fits = wanted.len() == natural.len() && wanted.iter().zip(&natural).all(|(w, n)| w >= n);
            require(fits, || format!("output_shape {wanted:?} is smaller than {natural:?}"))?;
            wanted
        }
    };
    Ok(vec![TensorType::new(ctx.dtype(0)?, shape)])
}

fn expand(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let (natural, wanted) = (natural(ctx)?, infer(ctx)?.swap_remove(0));
    let input = |i: usize| ctx.node.inputs[i].ok_or_else(|| Error::model(format!("input {i} is missing")));
    let ints = |b: &mut NodeBuilder, values: &[usize]| {
        let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        b.constant(Tensor::new([values.len()], &values))
    };
    let flat = ints(b, &[ctx.ty(0)?.elems()]);
    let (x, positions) = (b.binary("Reshape", input(0)?, flat)?, b.binary("Reshape", input(1)?, flat)?);
    let total = ints(b, &[natural.iter().product()]);
    let ty = TensorType::new(wanted.dtype, [1]);
    let zero = Tensor { data: vec![0u8; ty.bytes()].into(), ty };
    let zeros = b.one("ConstantOfShape", &[total], Attrs::default().with("value", Attr::Tensor(zero)))?;
    let scattered = b.one("ScatterElements", &[zeros, positions, x], Attrs::default())?;
    let shape = ints(b, &natural);
    let shaped = b.binary("Reshape", scattered, shape)?;
    if wanted.shape == natural {
        return Ok(vec![shaped]);
    }
    let mut pads = vec![0; natural.len()];
    pads.extend(wanted.shape.iter().zip(&natural).map(|(w, n)| w - n));
    let pads = ints(b, &pads);
    Ok(vec![b.binary("Pad", shaped, pads)?])
}
