//! Gather, GatherElements, GatherND, ReverseSequence: copies whose index is computed.
//!
//! Indices known now become affine copies where they fall into few stretches; those known at run
//! time are loads, checked when the model runs. Negative ones count from the end.

use super::super::emit::{Emit, Val, require};
use super::super::{Ctx, Operator};
use super::{copy_mapped, row, runs};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering};
use crate::error::{Error, Result};
use crate::scalar::Op;

/// The rows.
pub const ROWS: &[Operator] = &[
    row("Gather", &[1, 11, 13], infer_gather, lower_gather, ""),
    row("GatherElements", &[11, 13], infer_elements, lower_elements, ""),
    row("GatherND", &[11, 12, 13], infer_nd, lower_nd, ""),
    row("ReverseSequence", &[10, 28], infer_reverse, lower_reverse, ""),
];

/// Copies with constant indices are made of at most this many definitions.
const MOST_RUNS: usize = 4;

/// The `i64` index that an element of `indices` is, counted from the front.
fn from_front(b: &mut DefBuilder, indices: &Val, at: Vec<Affine>, extent: usize) -> ExprId {
    let raw = b.load(indices.id, &indices.ty, at);
    let index = b.cast(DType::I64, raw);
    let (zero, extent) = (b.number(DType::I64, 0.0), b.number(DType::I64, extent as f64));
    let negative = b.op(Op::Lt, &[index, zero]);
    let moved = b.op(Op::Add, &[index, extent]);
    b.op(Op::Select, &[negative, moved, index])
}

fn check_index_type(ctx: &Ctx, i: usize) -> Result<()> {
    let dtype = ctx.dtype(i)?;
    require(matches!(dtype, DType::I32 | DType::I64), || format!("indices must be integers, not {dtype}"))
}

/// The result's type; an error where there is no element that any index could name.
fn taken(ctx: &Ctx, result: TensorType) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.elems() > 0 || result.elems() == 0, || format!("every index lies outside of data {x}"))?;
    Ok(vec![result])
}

fn infer_gather(ctx: &Ctx) -> Result<Vec<TensorType>> {
    check_index_type(ctx, 1)?;
    let (x, axis) = (ctx.ty(0)?, gather_axis(ctx)?);
    let shape = [&x.shape[..axis], ctx.shape(1)?, &x.shape[axis + 1..]].concat();
    taken(ctx, TensorType::new(x.dtype, shape))
}

fn gather_axis(ctx: &Ctx) -> Result<usize> {
    ctx.axis(ctx.attrs().int("axis", 0)?, ctx.shape(0)?.len())
}

/// Constant indices counted from the front; an error where one lies outside.
fn known_indices(ctx: &Ctx, extent: usize) -> Result<Option<Vec<i64>>> {
    let Some(indices) = ctx.input(1)?.constant.as_ref().and_then(|t| t.to_i64s()) else { return Ok(None) };
    let extent = extent as i64;
    if let Some(bad) = indices.iter().find(|&&i| i < -extent || i >= extent) {
        return Err(Error::model(format!("index {bad} lies outside an axis of extent {extent}")));
    }
    Ok(Some(indices.into_iter().map(|i| if i < 0 { i + extent } else { i }).collect()))
}

fn lower_gather(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let axis = gather_axis(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, indices, out) = (e.input(0)?, e.input(1)?, e.result()?);
    let extent = x.shape()[axis];
    if let Some(map) = known_indices(ctx, extent)?.filter(|m| runs(m).len() <= MOST_RUNS) {
        if indices.rank() == 1 {
            copy_mapped(&mut e, &x, &out, axis, &map);
            return Ok(());
        }
        let mut shape = x.shape().to_vec();
        shape[axis] = map.len();
        let flat = e.temp("gather", x.dtype(), shape);
        copy_mapped(&mut e, &x, &flat, axis, &map);
        e.alias(&flat, &out);
        return Ok(());
    }
    e.define("", &out, |b| {
        let axes = b.axes();
        let (before, rest) = axes.split_at(axis);
        let (at, after) = rest.split_at(indices.rank());
        let index = from_front(b, &indices, at.to_vec(), extent);
        let affine = |a: &[Affine]| a.iter().cloned().map(Index::Affine).collect::<Vec<_>>();
        let all = [affine(before), vec![Index::Dynamic(index)], affine(after)].concat();
        b.load_at(x.id, &x.ty, all, None)
    });
    Ok(())
}

fn infer_elements(ctx: &Ctx) -> Result<Vec<TensorType>> {
    check_index_type(ctx, 1)?;
    let (x, indices, axis) = (ctx.ty(0)?, ctx.ty(1)?, gather_axis(ctx)?);
    let fits =
        indices.rank() == x.rank() && (0..x.rank()).all(|i| i == axis || indices.shape[i] <= x.shape[i]);
    require(fits, || format!("indices {indices} do not fit data {x}"))?;
    taken(ctx, TensorType::new(x.dtype, indices.shape.clone()))
}

fn lower_elements(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let axis = gather_axis(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, indices, out) = (e.input(0)?, e.input(1)?, e.result()?);
    e.define("", &out, |b| {
        let axes = b.axes();
        let at = from_front(b, &indices, axes.clone(), x.shape()[axis]);
        let mut index: Vec<Index> = axes.into_iter().map(Index::Affine).collect();
        index[axis] = Index::Dynamic(at);
        b.load_at(x.id, &x.ty, index, None)
    });
    Ok(())
}

/// Number of batch dimensions, and of dimensions that an index names.
fn nd_parts(ctx: &Ctx) -> Result<(usize, usize)> {
    let (x, indices) = (ctx.ty(0)?, ctx.ty(1)?);
    let batch = usize::try_from(ctx.attrs().int("batch_dims", 0)?).unwrap_or(usize::MAX);
    let named = *indices.shape.last().ok_or_else(|| Error::model("the indices are a scalar"))?;
    let fits = batch < indices.rank()
        && batch.saturating_add(named) <= x.rank()
        && x.shape[..batch] == indices.shape[..batch];
    require(fits, || format!("indices {indices} with {batch} batch dimensions do not fit data {x}"))?;
    Ok((batch, named))
}

fn infer_nd(ctx: &Ctx) -> Result<Vec<TensorType>> {
    check_index_type(ctx, 1)?;
    let (x, indices) = (ctx.ty(0)?, ctx.ty(1)?);
    let (batch, named) = nd_parts(ctx)?;
    let shape = [&indices.shape[..indices.rank() - 1], &x.shape[batch + named..]].concat();
    taken(ctx, TensorType::new(x.dtype, shape))
}

fn lower_nd(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (batch, named) = nd_parts(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, indices, out) = (e.input(0)?, e.input(1)?, e.result()?);
    e.define("", &out, |b| {
        let axes = b.axes();
        let (outer, inner) = axes.split_at(indices.rank() - 1);
        let mut index: Vec<Index> = outer[..batch].iter().cloned().map(Index::Affine).collect();
        for k in 0..named {
            let at = [outer, &[Affine::constant(k as i64)]].concat();
            index.push(Index::Dynamic(from_front(b, &indices, at, x.shape()[batch + k])));
        }
        index.extend(inner.iter().cloned().map(Index::Affine));
        b.load_at(x.id, &x.ty, index, None)
    });
    Ok(())
}

fn reverse_axes(ctx: &Ctx) -> Result<(usize, usize)> {
    let rank = ctx.shape(0)?.len();
    let batch = ctx.axis(ctx.attrs().int("batch_axis", 1)?, rank)?;
    let time = ctx.axis(ctx.attrs().int("time_axis", 0)?, rank)?;
    require(batch != time, || "batch_axis and time_axis are the same".into())?;
    Ok((batch, time))
}

fn infer_reverse(ctx: &Ctx) -> Result<Vec<TensorType>> {
    check_index_type(ctx, 1)?;
    let (batch, _) = reverse_axes(ctx)?;
    let x = ctx.ty(0)?;
    require(ctx.shape(1)? == [x.shape[batch]], || "one length is needed per batch".into())?;
    Ok(vec![x.clone()])
}

/// `i < length ? length - 1 - i : i`.
fn lower_reverse(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (batch, time) = reverse_axes(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, lengths, out) = (e.input(0)?, e.input(1)?, e.result()?);
    e.define("", &out, |b| {
        let axes = b.axes();
        let length = b.load(lengths.id, &lengths.ty, vec![axes[batch].clone()]);
        let length = b.cast(DType::I64, length);
        let (at, next) = (b.index(axes[time].clone()), b.index(axes[time].offset(1)));
        let back = b.op(Op::Sub, &[length, next]);
        let inside = b.op(Op::Lt, &[at, length]);
        let from = b.op(Op::Select, &[inside, back, at]);
        let mut index: Vec<Index> = axes.into_iter().map(Index::Affine).collect();
        index[time] = Index::Dynamic(from);
        b.load_at(x.id, &x.ty, index, None)
    });
    Ok(())
}
