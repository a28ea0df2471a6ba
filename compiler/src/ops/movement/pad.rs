//! Pad in all modes, and CenterCropPad.
//!
//! A constant pad is a load with a fill. The other modes map the indices of one axis after the
//! other; each map is affine in a few stretches, or computed where it is not, and on both sides of what is known
//! only at run time how long it is.

use super::super::emit::{Arith, Emit, Val, require};
use super::super::frame::framed;
use super::super::{Ctx, Operator};
use super::{copy_mapped, row};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering};
use crate::error::{Error, Result};
use crate::scalar::{Op, Scalar};

/// The rows.
pub const ROWS: &[Operator] = &[
    row("Pad", &[1, 2, 11, 13, 18, 19, 21, 23, 24, 25], infer, lower, "pads and axes must be constant"),
    row("CenterCropPad", &[18], infer_center, lower_center, "the shape must be constant"),
];

/// Where pads go round an axis more often, the copy's index is computed.
const MOST_ROUNDS: usize = 32;

/// The same of longer axes.
const LONGEST: usize = 1 << 24;

/// Elements added before and after each dimension; negative ones are cut off.
fn pads(ctx: &Ctx) -> Result<Vec<(i64, i64)>> {
    let rank = ctx.shape(0)?.len();
    let given = match ctx.version() {
        1 => ctx.attrs().get_ints("paddings")?.map(<[i64]>::to_vec),
        2 => ctx.attrs().get_ints("pads")?.map(<[i64]>::to_vec),
        _ => ctx.constant_ints(1)?,
    };
    let given = given.ok_or_else(|| Error::model("the pads are missing"))?;
    let axes = match ctx.constant_ints(3)? {
        Some(axes) => axes.iter().map(|&a| ctx.axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    require(given.len() == 2 * axes.len(), || format!("{} pads for {} axes", given.len(), axes.len()))?;
    let mut pads = vec![(0, 0); rank];
    for (i, &axis) in axes.iter().enumerate() {
        pads[axis] = (given[i], given[i + axes.len()]);
    }
    Ok(pads)
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let padded = |(&d, (before, after)): (&usize, (i64, i64))| {
        (d as i64).checked_add(before)?.checked_add(after).and_then(|d| usize::try_from(d).ok())
    };
    let shape: Option<Vec<usize>> = x.shape.iter().zip(pads(ctx)?).map(padded).collect();
    let shape = shape.ok_or_else(|| Error::model(format!("the pads leave nothing of {x}, or too much")))?;
    Ok(vec![TensorType::new(x.dtype, shape)])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let pads = pads(ctx)?;
    let mode = ctx.attrs().str("mode", "constant")?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    match mode {
        "constant" => constant(&mut e, &x, &out, &pads),
        "edge" | "reflect" | "wrap" => mapped(&mut e, &x, &out, &pads, mode),
        other => Err(Error::model(format!("mode '{other}' is not known"))),
    }
}

/// The fill, where it is known now.
fn fill(e: &Emit, dtype: DType) -> Result<Option<Scalar>> {
    let ctx = e.ctx;
    if ctx.version() < 11 {
        return Ok(Some(Scalar::from_f64(dtype, f64::from(ctx.attrs().float("value", 0.0)?))));
    }
    let Some(value) = ctx.optional(2) else { return Ok(Some(Scalar::from_i64(dtype, 0))) };
    require(value.ty.elems() == 1 && value.ty.dtype == dtype, || format!("constant_value is {}", value.ty))?;
    Ok(value.constant.as_ref().map(|t| Scalar::from_le(dtype, &t.data)))
}

fn constant(e: &mut Emit, x: &Val, out: &Val, pads: &[(i64, i64)]) -> Result<()> {
    let index: Vec<Affine> =
        pads.iter().enumerate().map(|(i, &(before, _))| Affine::var(i as u32).offset(-before)).collect();
    if let Some(fill) = fill(e, x.dtype())? {
        e.define("", out, |b| b.load_padded(x.id, &x.ty, index, fill));
        return Ok(());
    }
    let value = e.input(2)?;
    let before: Vec<i64> = pads.iter().map(|p| p.0).collect();
    framed(e, x, out, &before, &value);
    Ok(())
}

/// One axis after the other, through temporaries.
fn mapped(e: &mut Emit, x: &Val, out: &Val, pads: &[(i64, i64)], mode: &str) -> Result<()> {
    let moved: Vec<usize> = (0..pads.len()).filter(|&i| pads[i] != (0, 0)).collect();
    let Some(&last) = moved.last() else {
        e.alias(x, out);
        return Ok(());
    };
    let mut from = x.clone();
    for &axis in &moved {
        let extent = from.shape()[axis] as i64;
        require(extent > 0, || format!("mode {mode} needs elements to repeat"))?;
        let (length, before) = (out.shape()[axis], pads[axis].0);
        let mut shape = from.shape().to_vec();
        shape[axis] = length;
        let to = if axis == last { out.clone() } else { e.temp("pad", x.dtype(), shape) };
        let moves = e.ctx.node.inputs[0].is_some_and(|v| e.ctx.graph.lengths(v, axis).is_some());
        if moves && before >= 0 && pads[axis].1 >= 0 {
            sided(e, &from, &to, axis, (mode, before));
            from = to;
            continue;
        }
        let rounds = if mode == "edge" { 1 } else { length / extent as usize };
        if rounds > MOST_ROUNDS || length > LONGEST {
            computed(e, &from, &to, axis, (mode, before));
        } else {
            let map: Vec<i64> = (0..length as i64).map(|i| source(mode, i - before, extent)).collect();
            copy_mapped(e, &from, &to, axis, &map);
        }
        from = to;
    }
    Ok(())
}

/// A copy between the two sides, whose indices are computed: so the same is done for all extents, also for those that pads
/// go round. So many elements are added before it.
fn sided(e: &mut Emit, x: &Val, out: &Val, axis: usize, (mode, before): (&str, i64)) {
    let extent = x.shape()[axis] as i64;
    let place = |first: i64| {
        let place = |d: usize| Affine::var(d as u32).offset(if d == axis { first } else { 0 });
        (0..x.rank()).map(place).collect::<Vec<Affine>>()
    };
    e.define_at("", out, x.shape(), place(before), |b| b.elem(x, &b.axes(), x.dtype()));
    for (first, count) in [(0, before), (before + extent, out.shape()[axis] as i64 - before - extent)] {
        if count == 0 {
            continue;
        }
        let mut shape = x.shape().to_vec();
        shape[axis] = count as usize;
        e.define_at("", out, &shape, place(first), |b| {
            let at = beyond(b, mode, (first == 0).then_some(before), extent, axis);
            let mut index: Vec<Index> = b.axes().into_iter().map(Index::Affine).collect();
            index[axis] = Index::Dynamic(at);
            b.load_at(x.id, &x.ty, index, None)
        });
    }
}

/// What stands at an index on the side before the elements, which has so many, or behind them: [`source`].
fn beyond(b: &mut DefBuilder, mode: &str, before: Option<i64>, extent: i64, axis: usize) -> ExprId {
    let number = |b: &mut DefBuilder, n: i64| b.index(Affine::constant(n));
    let (extent, last) = (number(b, extent), number(b, extent - 1));
    let [zero, one, two] = [0, 1, 2].map(|n| b.constant(Scalar::from_i64(DType::I64, n)));
    // How far from the nearest element.
    let distance = match before {
        Some(before) => Affine::constant(before).plus_scaled(&Affine::var(axis as u32), -1),
        None => Affine::var(axis as u32).offset(1),
    };
    let distance = b.index(distance);
    match (mode, before) {
        ("edge", Some(_)) => zero,
        ("edge", None) => last,
        ("wrap", Some(_)) => {
            let rest = b.op(Op::Rem, &[distance, extent]);
            let back = b.op(Op::Sub, &[extent, rest]);
            b.op(Op::Rem, &[back, extent])
        }
        ("wrap", None) => {
            let rest = b.op(Op::Sub, &[distance, one]);
            b.op(Op::Rem, &[rest, extent])
        }
        (_, before) => {
            let period = b.op(Op::Mul, &[last, two]);
            let period = b.op(Op::Max, &[period, one]);
            let at = if before.is_some() { distance } else { b.op(Op::Add, &[last, distance]) };
            let there = b.op(Op::Rem, &[at, period]);
            let back = b.op(Op::Sub, &[period, there]);
            let nearer = b.op(Op::Min, &[there, back]);
            b.op(Op::Min, &[nearer, last])
        }
    }
}

/// A copy whose index along one axis is computed as [`source`] does; so many elements are added before it.
fn computed(e: &mut Emit, x: &Val, out: &Val, axis: usize, (mode, before): (&str, i64)) {
    let extent = x.shape()[axis] as i64;
    let period = if mode == "wrap" { extent } else { (2 * (extent - 1)).max(1) };
    let offset = if mode == "edge" { -before } else { (-before).rem_euclid(period) };
    e.define("", out, |b| {
        let place = b.index(b.var(axis).offset(offset));
        let [zero, last, period] =
            [0, extent - 1, period].map(|n| b.constant(Scalar::from_i64(DType::I64, n)));
        let within = b.op(Op::Rem, &[place, period]);
        let place = match mode {
            "edge" => b.op(Op::Max, &[place, zero]),
            "wrap" => within,
            _ => b.op(Op::Sub, &[period, within]),
        };
        let end = if mode == "reflect" { within } else { last };
        let place = b.op(Op::Min, &[place, end]);
        let mut at: Vec<Index> = b.axes().into_iter().map(Index::Affine).collect();
        at[axis] = Index::Dynamic(place);
        b.load_at(x.id, &x.ty, at, None)
    });
}

/// Where the element at `i`, which may lie outside `0..extent`, comes from.
fn source(mode: &str, i: i64, extent: i64) -> i64 {
    match mode {
        "edge" => i.clamp(0, extent - 1),
        "wrap" => i.rem_euclid(extent),
        _ if extent == 1 => 0,
        _ => {
            let at = i.rem_euclid(2 * (extent - 1));
            at.min(2 * (extent - 1) - at)
        }
    }
}

/// For each dimension: how many elements are cut off or added before it, and the new extent.
fn center(ctx: &Ctx) -> Result<Vec<(i64, usize)>> {
    let shape = ctx.shape(0)?;
    let wanted = ctx.constant_ints(1)?.unwrap_or_default();
    let axes = match ctx.attrs().get_ints("axes")? {
        Some(axes) => axes.iter().map(|&a| ctx.axis(a, shape.len())).collect::<Result<Vec<_>>>()?,
        None => (0..shape.len()).collect(),
    };
    require(wanted.len() == axes.len(), || format!("{} extents for {} axes", wanted.len(), axes.len()))?;
    let mut moves: Vec<_> = shape.iter().map(|&d| (0, d)).collect();
    for (&axis, &extent) in axes.iter().zip(&wanted) {
        let to = usize::try_from(extent).map_err(|_| Error::model(format!("an extent is {extent}")))?;
        let from = shape[axis];
        // Cut: the start is rounded down. Padded: the smaller half goes before.
        let shift = if from > to { -(((from - to) / 2) as i64) } else { ((to - from) / 2) as i64 };
        moves[axis] = (shift, to);
    }
    Ok(moves)
}

fn infer_center(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let shape: Vec<usize> = center(ctx)?.iter().map(|m| m.1).collect();
    Ok(vec![TensorType::new(ctx.dtype(0)?, shape)])
}

fn lower_center(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let moves = center(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let index =
        moves.iter().enumerate().map(|(i, &(shift, _))| Affine::var(i as u32).offset(-shift)).collect();
    let zero = Scalar::from_i64(x.dtype(), 0);
    e.define("", &out, |b| b.load_padded(x.id, &x.ty, index, zero));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::source;
    use crate::base::Tensor;
    use crate::graph::Attr;
    use crate::ops::older::floats;

    #[test]
    fn pads_that_go_round_an_axis_many_times() {
        for mode in ["reflect", "wrap"] {
            for (extent, before, after) in [(5i64, 300, 201), (2, 77, 1), (3, -1, 500), (1, 3, 300)] {
                let x = Tensor::new([extent as usize], &(0..extent).map(|i| i as f32).collect::<Vec<_>>());
                let pads = Tensor::new([2], &[before, after]);
                let y = floats("Pad", 19, &[("mode", Attr::Str(mode.into()))], &[x, pads]);
                let want = (-before..extent + after).map(|i| source(mode, i, extent) as f32);
                assert_eq!(y, want.collect::<Vec<_>>(), "{mode} of {extent}");
            }
        }
    }
}
