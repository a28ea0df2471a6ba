//! Col2Im: overlapping blocks are added up, by the phases of a transposed convolution.

use super::conv_transpose::{Spread, combinations};
use super::window::{explicit_pads, positive};
use crate::base::{Affine, TensorType};
use crate::definition::Lowering;
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::Fold;

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "",
    name: "Col2Im",
    versions: &[18],
    infer,
    lower: Lower::Define(lower),
    note: "image and block shape must be constant",
}];

fn sizes(ctx: &Ctx, i: usize) -> Result<Vec<usize>> {
    let values = ctx.constant_ints(i)?.unwrap_or_default();
    require(values.iter().all(|v| (1..1 << 31).contains(v)), || format!("input {i} holds sizes below 1"))?;
    Ok(values.iter().map(|&v| v as usize).collect())
}

/// One dimension each; `input` is the number of blocks along it.
fn spreads(ctx: &Ctx) -> Result<Vec<Spread>> {
    let (x, image, block) = (ctx.shape(0)?, sizes(ctx, 1)?, sizes(ctx, 2)?);
    let dims = image.len();
    require(x.len() == 3 && dims > 0 && block.len() == dims, || {
        format!("blocks {block:?} of an image {image:?} in a tensor of shape {x:?} are not defined")
    })?;
    let (strides, dilations) = (positive(ctx, "strides", dims, 1)?, positive(ctx, "dilations", dims, 1)?);
    let pads = explicit_pads(ctx, dims)?;
    let spreads: Vec<Spread> = (0..dims)
        .map(|d| {
            let reach = dilations[d] * (block[d] - 1) + 1;
            let room = (image[d] + pads[d].0 + pads[d].1).saturating_sub(reach);
            Spread {
                input: room / strides[d] + 1,
                kernel: block[d],
                stride: strides[d],
                dilation: dilations[d],
                before: pads[d].0 as i64,
                output: image[d],
                lone: false,
            }
        })
        .collect();
    let (elems, blocks): (usize, usize) = (block.iter().product(), spreads.iter().map(|s| s.input).product());
    require(x[1].is_multiple_of(elems) && x[2] == blocks, || {
        format!("a tensor of shape {x:?} does not hold {blocks} blocks of {elems} elements")
    })?;
    Ok(spreads)
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let spreads = spreads(ctx)?;
    let x = ctx.ty(0)?;
    let channels = x.shape[1] / spreads.iter().map(|s| s.kernel).product::<usize>();
    let mut shape = vec![x.shape[0], channels];
    shape.extend(spreads.iter().map(|s| s.output));
    Ok(vec![TensorType::new(x.dtype, shape)])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let spreads = spreads(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let mut split = out.shape()[..2].to_vec();
    split.extend(spreads.iter().map(|s| s.kernel));
    split.extend(spreads.iter().map(|s| s.input));
    let x = e.reshape(&x, split);
    let float = compute_type(x.dtype());
    let axis = |i: usize| Affine::var(i as u32);
    for phases in combinations(&spreads) {
        let mut extents = out.shape()[..2].to_vec();
        extents.extend(phases.iter().map(|p| p.count));
        let mut store = vec![axis(0), axis(1)];
        store.extend(phases.iter().enumerate().map(|(i, p)| p.output(&axis(2 + i))));
        e.define_at("", &out, &extents, store, |b| {
            if phases.iter().any(|p| p.points == 0) {
                return b.number(float, 0.0);
            }
            let steps: Vec<Affine> =
                phases.iter().enumerate().map(|(i, p)| b.reduce(&format!("k{i}"), p.points)).collect();
            let mut index = vec![axis(0), axis(1)];
            index.extend(phases.iter().zip(&steps).enumerate().map(|(i, (p, j))| p.point(&axis(2 + i), j)));
            index.extend(phases.iter().zip(&steps).enumerate().map(|(i, (p, j))| p.input(&axis(2 + i), j)));
            let elem = b.elem_or_zero(&x, &index, float);
            b.fold(Fold::Sum, elem)
        });
    }
    Ok(())
}
