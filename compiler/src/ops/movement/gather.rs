//! Gather, GatherElements, GatherND, ReverseSequence: copies whose index is computed.
//!
//! Indices known now become affine copies where they fall into few stretches, or where a table of them is affine in
//! its places, as those of frames and of unfolded windows are; those known at run time are loads, checked when the
//! model runs. Negative ones count from the end.

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

/// The index that each place of a table of this shape holds, where it is affine in them: of the places along `axes`.
fn affine(map: &[i64], shape: &[usize], axes: &[Affine]) -> Option<Affine> {
    let base = *map.first()?;
    let mut form = Affine::constant(base);
    let mut steps = vec![0; shape.len()];
    let mut stride = 1;
    for d in (0..shape.len()).rev() {
        if shape[d] > 1 {
            steps[d] = map[stride] - base;
            form = form.plus_scaled(&axes[d], steps[d]);
        }
        stride *= shape[d];
    }
    let holds = |(i, &index): (usize, &i64)| {
        let places = shape.iter().zip(&steps).rev();
        let at = places.fold((i, base), |(rest, at), (&n, step)| (rest / n, at + step * (rest % n) as i64));
        at.1 == index
    };
    map.iter().enumerate().all(holds).then_some(form)
}

/// The table's index as [`affine`], where its shape is that of all samples of a model with free sizes.
fn affine_table(ctx: &Ctx, map: &[i64], axis: usize) -> Option<Affine> {
    let (table, shape) = (ctx.node.inputs[1]?, ctx.shape(1).ok()?);
    let moves = (0..shape.len()).any(|d| ctx.graph.lengths(table, d).is_some());
    let axes: Vec<Affine> = (0..shape.len()).map(|d| Affine::var((axis + d) as u32)).collect();
    let several = shape.len() > 1 && runs(map).len() > 1;
    (several && !moves).then(|| affine(map, shape, &axes)).flatten()
}

fn lower_gather(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let axis = gather_axis(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, indices, out) = (e.input(0)?, e.input(1)?, e.result()?);
    let extent = x.shape()[axis];
    let known = known_indices(ctx, extent)?;
    if let Some(index) = known.as_ref().and_then(|map| affine_table(ctx, map, axis)) {
        e.define("", &out, |b| {
            let (mut at, after) = (b.axes(), axis + indices.rank());
            at.splice(axis..after, [index]);
            b.load(x.id, &x.ty, at)
        });
        return Ok(());
    }
    if let Some(map) = known.filter(|m| runs(m).len() <= MOST_RUNS) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Tensor;
    use crate::graph::Attr;
    use crate::ops::older::floats;

    #[test]
    fn tables_of_frames_are_affine() {
        let axes = [Affine::var(3), Affine::var(4)];
        // Four points, three steps apart.
        let frames: Vec<i64> = (0..12).map(|i| 2 + 3 * (i / 4) + i % 4).collect();
        let form = Affine::var(3).scaled(3).plus(&Affine::var(4)).offset(2);
        assert_eq!(affine(&frames, &[3, 4], &axes), Some(form));
        let mut other = frames.clone();
        other[11] += 1;
        assert_eq!(affine(&other, &[3, 4], &axes), None);
        assert_eq!(affine(&[7, 5, 3], &[1, 3], &axes), Some(Affine::var(4).scaled(-2).offset(7)));
        assert_eq!(affine(&[], &[0, 3], &axes), None);
    }

    #[test]
    fn frames_are_gathered() {
        let x = Tensor::new([2, 6, 2], &(0..24).map(|i| i as f32).collect::<Vec<_>>());
        // Three frames of three points that overlap, the last one counted from the end; a table that is none.
        for (table, at) in [
            ([0i64, 1, 2, 1, 2, 3, -4, -3, -2], [0, 1, 2, 1, 2, 3, 2, 3, 4]),
            ([0, 1, 2, 1, 2, 3, -4, -3, 0], [0, 1, 2, 1, 2, 3, 2, 3, 0]),
        ] {
            let table = Tensor::new([3, 3], &table);
            let y = floats("Gather", 13, &[("axis", Attr::Int(1))], &[x.clone(), table]);
            let rows = (0..2).flat_map(|n| at.map(|i| 12 * n + 2 * i));
            assert_eq!(y, rows.flat_map(|i| [i as f32, (i + 1) as f32]).collect::<Vec<_>>());
        }
    }
}
