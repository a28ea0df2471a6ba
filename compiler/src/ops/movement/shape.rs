//! The same elements under another shape.

use super::super::emit::{Emit, require};
use super::super::{Ctx, Operator};
use super::row;
use crate::base::TensorType;
use crate::definition::Lowering;
use crate::error::{Error, Result};

const NOTE: &str = "shape and axes must be constant";

/// The rows.
pub const ROWS: &[Operator] = &[
    row("Reshape", &[1, 5, 13, 14, 19, 21, 23, 24, 25], infer_reshape, lower, NOTE),
    row("Flatten", &[1, 9, 11, 13, 21, 23, 24, 25], infer_flatten, lower, ""),
    row("Squeeze", &[1, 11, 13, 21, 23, 24, 25], infer_squeeze, lower, NOTE),
    row("Unsqueeze", &[1, 11, 13, 21, 23, 24, 25], infer_unsqueeze, lower, NOTE),
];

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    e.alias(&x, &out);
    Ok(())
}

fn infer_reshape(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let wanted = match ctx.version() {
        1 => ctx.attrs().get_ints("shape")?.unwrap_or(&[]).to_vec(),
        _ => ctx.constant_ints(1)?.unwrap_or_default(),
    };
    let keep_zero = ctx.attrs().flag("allowzero", false)?;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut free = None;
    for (i, &d) in wanted.iter().enumerate() {
        shape.push(match d {
            0 if !keep_zero => *x.shape.get(i).ok_or_else(|| {
                Error::model(format!("dimension {i} is to be copied, but the input has rank {}", x.rank()))
            })?,
            -1 => {
                require(free.replace(i).is_none(), || "two dimensions are -1".into())?;
                1
            }
            d => usize::try_from(d).map_err(|_| Error::model(format!("a dimension is {d}")))?,
        });
    }
    let known: usize = shape.iter().try_fold(1usize, |p, &d| p.checked_mul(d)).unwrap_or(usize::MAX);
    if let Some(i) = free {
        require(known > 0, || "a dimension of -1 beside an empty one is not determined".into())?;
        shape[i] = x.elems() / known;
    }
    let total = shape.iter().try_fold(1usize, |p, &d| p.checked_mul(d)).unwrap_or(usize::MAX);
    require(total == x.elems(), || format!("{} elements of {x} do not fit the shape {wanted:?}", x.elems()))?;
    Ok(vec![TensorType::new(x.dtype, shape)])
}

fn infer_flatten(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let axis = ctx.attrs().int("axis", 1)?;
    let first = if axis == x.rank() as i64 { x.rank() } else { ctx.axis(axis, x.rank())? };
    let (outer, inner) = x.shape.split_at(first);
    Ok(vec![TensorType::new(x.dtype, [outer.iter().product(), inner.iter().product()])])
}

/// Axes from the attribute (before opset 13) or the input.
fn given_axes(ctx: &Ctx) -> Result<Option<Vec<i64>>> {
    match ctx.attrs().get_ints("axes")? {
        Some(axes) => Ok(Some(axes.to_vec())),
        None => ctx.constant_ints(1),
    }
}

fn infer_squeeze(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let axes = match given_axes(ctx)? {
        Some(axes) => axes.iter().map(|&a| ctx.axis(a, x.rank())).collect::<Result<Vec<_>>>()?,
        None => (0..x.rank()).filter(|&i| x.shape[i] == 1).collect(),
    };
    if let Some(&bad) = axes.iter().find(|&&a| x.shape[a] != 1) {
        return Err(Error::model(format!("dimension {bad} has extent {}, not 1", x.shape[bad])));
    }
    let kept = x.shape.iter().enumerate().filter(|(i, _)| !axes.contains(i));
    Ok(vec![TensorType::new(x.dtype, kept.map(|(_, &d)| d).collect::<Vec<_>>())])
}

fn infer_unsqueeze(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let given = given_axes(ctx)?.ok_or_else(|| Error::model("the axes are missing"))?;
    let rank = x.rank() + given.len();
    let mut axes = given.iter().map(|&a| ctx.axis(a, rank)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    require(axes.len() == given.len(), || format!("the axes {given:?} repeat"))?;
    let mut rest = x.shape.iter();
    let shape: Vec<usize> =
        (0..rank).map(|i| if axes.contains(&i) { 1 } else { *rest.next().unwrap_or(&1) }).collect();
    Ok(vec![TensorType::new(x.dtype, shape)])
}
