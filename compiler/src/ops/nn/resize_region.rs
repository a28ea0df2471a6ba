//! Resize of a region that data give: a box of an image, as detectors cut them out one after the other
//! (`tf_crop_and_resize` with a roi computed at run time). One axis at a time, by computed tables.

use super::resample::{Coordinates, Filter};
use super::resize_moving::{Moving, Region, Taps};
use super::sample::rounded;
use crate::base::DType;
use crate::definition::{DefBuilder, ExprId, Index};
use crate::error::Result;
use crate::ops::Ctx;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::scalar::Op;

/// The axes that scales, sizes and the region are given for.
pub fn axes(ctx: &Ctx) -> Result<Vec<usize>> {
    let rank = ctx.shape(0)?.len();
    match ctx.attrs().get_ints("axes")? {
        Some(axes) => axes.iter().map(|&a| ctx.axis(a, rank)).collect(),
        None => Ok((0..rank).collect()),
    }
}

/// Whether the region is known at run time only.
pub fn moves(ctx: &Ctx, coordinates: Coordinates) -> bool {
    let given = || ctx.optional(1).is_some_and(|roi| roi.constant.is_none() && roi.ty.elems() > 0);
    coordinates == Coordinates::CropAndResize && given()
}

/// Resizes a region to an output length per axis, by a factor where one is given.
pub fn lower(e: &mut Emit, x: &Val, sizes: &[(usize, Option<f64>)], filter: Filter, out: &Val) -> Result<()> {
    let (roi, axes) = (e.input(1)?, axes(e.ctx)?);
    require(roi.ty.elems() == 2 * axes.len(), || {
        format!("the roi {} does not fit {} axes", roi.ty, axes.len())
    })?;
    let mut regions = Vec::new();
    for (i, &d) in axes.iter().enumerate() {
        let (input, (output, scale)) = (x.shape()[d], sizes[d]);
        let region = Region { roi: roi.clone(), start: i, end: i + axes.len() };
        let axis = Moving { input, output, scale, coordinates: Coordinates::CropAndResize, filter };
        let supported = input > 0 && axis.takes_regions();
        require(supported, || "a region that data give takes no antialias or exclude_outside".into())?;
        if input != output || input > 1 && !region.is_whole(e.ctx.graph) {
            regions.push((d, axis, region));
        }
    }
    let float = compute_type(if x.dtype().is_float() { x.dtype() } else { DType::F32 });
    let fill = f64::from(e.ctx.attrs().float("extrapolation_value", 0.0)?);
    along_axes(e, x, &regions, float, fill, out);
    Ok(())
}

/// Resizes the axes, one after the other; what lies outside the input is the fill.
fn along_axes(e: &mut Emit, x: &Val, axes: &[(usize, Moving, Region)], float: DType, fill: f64, out: &Val) {
    if axes.is_empty() {
        e.define("", out, |b| b.broadcast(x, out.dtype()));
        return;
    }
    let mut current = x.clone();
    for (i, (d, axis, region)) in axes.iter().enumerate() {
        let (taps, outside) = axis.taps_of(e, float, region);
        let mut shape = current.ty.shape.clone();
        shape[*d] = axis.output;
        let dtype = if taps.is_gather() { out.dtype() } else { float };
        let next = if i + 1 == axes.len() { out.clone() } else { e.temp("axis", dtype, shape) };
        e.define("", &next, |b| {
            let value = sum(b, &taps, &current, *d, dtype);
            let (fill, outside) = (b.number(dtype, fill), b.elem(&outside, &[b.var(*d)], DType::Bool));
            let value = b.op(Op::Select, &[outside, fill, value]);
            rounded(b, value, next.dtype())
        });
        current = next;
    }
}

fn sum(b: &mut DefBuilder, taps: &Taps, x: &Val, d: usize, dtype: DType) -> ExprId {
    if !taps.is_gather() {
        return taps.weighted(b, x, d, dtype);
    }
    let mut index: Vec<Index> = b.axes().into_iter().map(Index::Affine).collect();
    index[d] = taps.place(b, 0, d);
    b.elem_at(x, index, dtype)
}
