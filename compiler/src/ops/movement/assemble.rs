//! Transpose, Concat, Split, Expand, Tile, DepthToSpace, SpaceToDepth: affine copies.

use super::super::emit::{Emit, Val, numbers, require};
use super::super::nn::matmul::broadcast;
use super::super::{Ctx, Operator};
use super::row;
use crate::base::{Affine, TensorType};
use crate::definition::Lowering;
use crate::error::{Error, Result};

/// The rows.
pub const ROWS: &[Operator] = &[
    row("Transpose", &[1, 13, 21, 23, 24, 25], infer_transpose, lower_transpose, ""),
    row("Concat", &[1, 4, 11, 13], infer_concat, lower_concat, ""),
    row("Split", &[1, 2, 11, 13, 18], infer_split, lower_split, "the parts must be constant"),
    row(
        "Expand",
        &[8, 13],
        infer_expand,
        lower_expand,
        "the shape must be constant, or computed and bounded",
    ),
    row("Tile", &[1, 6, 13], infer_tile, lower_tile, "the repeats must be constant"),
    row("DepthToSpace", &[1, 11, 13, 28], infer_to_space, lower_to_space, ""),
    row("SpaceToDepth", &[1, 13, 28], infer_to_depth, lower_to_depth, ""),
];

fn permutation(ctx: &Ctx) -> Result<Vec<usize>> {
    let rank = ctx.shape(0)?.len();
    let Some(given) = ctx.attrs().get_ints("perm")? else { return Ok((0..rank).rev().collect()) };
    let perm = given.iter().map(|&p| ctx.axis(p, rank)).collect::<Result<Vec<_>>>()?;
    let all = (0..rank).all(|i| perm.contains(&i));
    require(all && perm.len() == rank, || format!("perm {given:?} is no permutation of {rank} axes"))?;
    Ok(perm)
}

fn infer_transpose(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let shape: Vec<usize> = permutation(ctx)?.iter().map(|&p| x.shape[p]).collect();
    Ok(vec![TensorType::new(x.dtype, shape)])
}

fn lower_transpose(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let mut index = vec![Affine::constant(0); x.rank()];
    for (i, &p) in permutation(ctx)?.iter().enumerate() {
        index[p] = Affine::var(i as u32);
    }
    e.define("", &out, |b| b.load(x.id, &x.ty, index));
    Ok(())
}

fn concat_axis(ctx: &Ctx) -> Result<usize> {
    // Opset 1 has a default, which later ones dropped.
    let axis = ctx.attrs().get_int("axis")?.copied();
    let axis = axis.or((ctx.version() < 4).then_some(1));
    ctx.axis(axis.ok_or_else(|| Error::model("attribute axis is missing"))?, ctx.shape(0)?.len())
}

fn infer_concat(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let axis = concat_axis(ctx)?;
    let mut sum = ctx.ty(0)?.clone();
    for i in 1..ctx.node.inputs.len() {
        let next = ctx.ty(i)?;
        let fits = next.dtype == sum.dtype
            && next.rank() == sum.rank()
            && (0..sum.rank()).all(|d| d == axis || next.shape[d] == sum.shape[d]);
        require(fits, || format!("input {i} is {next}, which does not fit {sum} along axis {axis}"))?;
        sum.shape[axis] += next.shape[axis];
    }
    Ok(vec![sum])
}

fn lower_concat(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let axis = concat_axis(ctx)?;
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let mut first = 0;
    for i in 0..ctx.node.inputs.len() {
        let x = e.input(i)?;
        let extent = x.shape()[axis];
        if x.ty.elems() > 0 {
            let mut store: Vec<Affine> = (0..x.rank()).map(|d| Affine::var(d as u32)).collect();
            store[axis] = store[axis].offset(first as i64);
            let shape = x.shape().to_vec();
            e.define_at("", &out, &shape, store, |b| b.load_broadcast(x.id, &x.ty));
        }
        first += extent;
    }
    Ok(())
}

/// Constant whole numbers; in opset 1 of the type of the tensor itself.
fn counts(ctx: &Ctx, i: usize) -> Result<Option<Vec<i64>>> {
    if ctx.version() > 1 || !ctx.has(i) {
        return ctx.constant_ints(i);
    }
    Ok(Some(numbers(ctx.constant(i)?)?.into_iter().map(|v| v as i64).collect()))
}

/// The axis and the extents of the parts.
fn parts(ctx: &Ctx) -> Result<(usize, Vec<usize>)> {
    let shape = ctx.shape(0)?;
    let axis = ctx.axis(ctx.attrs().int("axis", 0)?, shape.len())?;
    let given = match ctx.attrs().get_ints("split")? {
        Some(split) => Some(split.to_vec()),
        None => counts(ctx, 1)?,
    };
    let extent = shape[axis];
    let parts: Vec<usize> = match given {
        Some(split) => split.iter().map(|&s| usize::try_from(s).unwrap_or(usize::MAX)).collect(),
        None => {
            let count = ctx.node.outputs.len().max(1);
            let wanted = ctx.attrs().int("num_outputs", count as i64)?;
            require(wanted == count as i64, || format!("num_outputs is {wanted} for {count} outputs"))?;
            let each = extent.div_ceil(count);
            (0..count).map(|i| each.min(extent.saturating_sub(i * each))).collect()
        }
    };
    let sum = parts.iter().try_fold(0usize, |s, &p| s.checked_add(p));
    require(sum == Some(extent), || format!("parts {parts:?} do not sum to the extent {extent}"))?;
    Ok((axis, parts))
}

fn infer_split(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (axis, parts) = parts(ctx)?;
    let x = ctx.ty(0)?;
    let part = |&extent: &usize| {
        let mut ty = x.clone();
        ty.shape[axis] = extent;
        ty
    };
    Ok(parts.iter().map(part).collect())
}

fn lower_split(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (axis, parts) = parts(ctx)?;
    let mut e = Emit::new(ctx, low);
    let x = e.input(0)?;
    let mut first = 0;
    for (i, part) in parts.iter().enumerate() {
        if let Some(out) = e.output(i) {
            let mut index: Vec<Affine> = (0..x.rank()).map(|d| Affine::var(d as u32)).collect();
            index[axis] = index[axis].offset(first as i64);
            e.define(&format!("part{i}"), &out, |b| b.load(x.id, &x.ty, index));
        }
        first += part;
    }
    Ok(())
}

fn infer_expand(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let wanted = ctx.constant_ints(1)?.unwrap_or_default();
    let dims: Option<Vec<usize>> = wanted.iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = dims.and_then(|d| broadcast(&x.shape, &d));
    let shape = shape.ok_or_else(|| Error::model(format!("{x} does not expand to {wanted:?}")))?;
    Ok(vec![TensorType::new(x.dtype, shape)])
}

fn lower_expand(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    e.define("", &out, |b| b.load_broadcast(x.id, &x.ty));
    Ok(())
}

/// How often each dimension is repeated. Opset 1 has one axis and one count.
fn repeats(ctx: &Ctx) -> Result<Vec<usize>> {
    let rank = ctx.shape(0)?.len();
    let given = counts(ctx, 1)?.unwrap_or_default();
    let mut repeats = given.clone();
    if ctx.version() < 6 {
        let axis = counts(ctx, 2)?.and_then(|a| a.first().copied()).unwrap_or(0);
        repeats = vec![1; rank];
        repeats[ctx.axis(axis, rank)?] = given.first().copied().unwrap_or(1);
    }
    require(repeats.len() == rank, || format!("{} repeats for {rank} dimensions", repeats.len()))?;
    let counts: Option<Vec<usize>> = repeats.iter().map(|&r| usize::try_from(r).ok()).collect();
    counts.ok_or_else(|| Error::model(format!("repeats {repeats:?} hold a negative number")))
}

fn infer_tile(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let dims = x.shape.iter().zip(repeats(ctx)?).map(|(&d, r)| d.checked_mul(r));
    let shape: Option<Vec<usize>> = dims.collect();
    Ok(vec![TensorType::new(x.dtype, shape.ok_or_else(|| Error::model("the result is too large"))?)])
}

/// A pair of axes per dimension, which repetition and where in it; one where the other is the only one.
fn lower_tile(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let repeats = repeats(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let (mut extents, mut index, mut store) = (Vec::new(), Vec::new(), Vec::new());
    let mut axis = |extent: usize| {
        extents.push(extent);
        Affine::var(extents.len() as u32 - 1)
    };
    for (&size, &repeat) in x.shape().iter().zip(&repeats) {
        let which = if repeat == 1 { Affine::constant(0) } else { axis(repeat) };
        let within = if size == 1 && repeat != 1 { Affine::constant(0) } else { axis(size) };
        store.push(within.plus_scaled(&which, size as i64));
        index.push(within);
    }
    e.define_at("", &out, &extents, store, |b| b.load(x.id, &x.ty, index.clone()));
    Ok(())
}

/// The block size, with the shape checked to have four dimensions.
fn block(ctx: &Ctx) -> Result<usize> {
    require(ctx.shape(0)?.len() == 4, || "the input must have four dimensions".into())?;
    let block = ctx.attrs().int("blocksize", 0)?;
    usize::try_from(block)
        .ok()
        .filter(|&b| b > 0)
        .ok_or_else(|| Error::model(format!("blocksize is {block}")))
}

fn infer_to_space(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, b) = (ctx.ty(0)?, block(ctx)?);
    let [n, c, h, w] = [0, 1, 2, 3].map(|i| x.shape[i]);
    let square = b.checked_mul(b).filter(|s| c % s == 0);
    let square =
        square.ok_or_else(|| Error::model(format!("{c} channels are no multiple of {b} squared")))?;
    Ok(vec![TensorType::new(x.dtype, [n, c / square, h * b, w * b])])
}

/// Axes `n, c, h, w, i, j`: channel, place, and place within the block.
fn lower_to_space(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let size = block(ctx)?;
    let mode = ctx.attrs().str("mode", "DCR")?;
    let mut e = Emit::new(ctx, low);
    let (x, out): (Val, Val) = (e.input(0)?, e.result()?);
    let channels = out.shape()[1];
    let extents = [x.shape()[0], channels, x.shape()[2], x.shape()[3], size, size];
    let [n, c, h, w, i, j] = [0, 1, 2, 3, 4, 5].map(Affine::var);
    let (b, in_block) = (size as i64, i.scaled(size as i64).plus(&j));
    let channel = match mode {
        "DCR" => c.plus_scaled(&in_block, channels as i64),
        "CRD" => in_block.plus_scaled(&c, b * b),
        other => return Err(Error::model(format!("mode '{other}' is not known"))),
    };
    let store = vec![n.clone(), c, i.plus_scaled(&h, b), j.plus_scaled(&w, b)];
    e.define_at("", &out, &extents, store, |d| d.load(x.id, &x.ty, vec![n, channel, h, w]));
    Ok(())
}

fn infer_to_depth(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, b) = (ctx.ty(0)?, block(ctx)?);
    let [n, c, h, w] = [0, 1, 2, 3].map(|i| x.shape[i]);
    require(h % b == 0 && w % b == 0, || format!("{h} x {w} is no multiple of the block size {b}"))?;
    let channels = c.checked_mul(b).and_then(|c| c.checked_mul(b));
    let channels = channels.ok_or_else(|| Error::model("the result is too large"))?;
    Ok(vec![TensorType::new(x.dtype, [n, channels, h / b, w / b])])
}

fn lower_to_depth(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let size = block(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let extents = [x.shape()[0], size, size, x.shape()[1], out.shape()[2], out.shape()[3]];
    let [n, i, j, c, h, w] = [0, 1, 2, 3, 4, 5].map(Affine::var);
    let b = size as i64;
    let in_block = i.scaled(b).plus(&j);
    let channel = match ctx.attrs().str("mode", "DCR")? {
        "DCR" => c.plus_scaled(&in_block, x.shape()[1] as i64),
        "CRD" => in_block.plus_scaled(&c, b * b),
        other => return Err(Error::model(format!("mode '{other}' is not known"))),
    };
    let from = vec![n.clone(), c, i.plus_scaled(&h, b), j.plus_scaled(&w, b)];
    e.define_at("", &out, &extents, vec![n, channel, h, w], |d| d.load(x.id, &x.ty, from));
    Ok(())
}
