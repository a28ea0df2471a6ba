//! Tensors made from indices: ConstantOfShape, Range, EyeLike, OneHot, Trilu.

use super::super::emit::{Arith, Emit, compute_type, require};
use super::super::{Ctx, Operator};
use super::row;
use crate::base::{Affine, DType, TensorType};
use crate::definition::Lowering;
use crate::error::{Error, Result};
use crate::scalar::{Op, Scalar};

/// The rows.
pub const ROWS: &[Operator] = &[
    row(
        "ConstantOfShape",
        &[9, 20, 21, 23, 24, 25],
        infer_constant,
        lower_constant,
        "the shape must be constant, or computed and bounded",
    ),
    row(
        "Range",
        &[11, 27],
        infer_range,
        lower_range,
        "start, limit and delta must be constant, or a length that is computed and bounded",
    ),
    row("EyeLike", &[9, 22], infer_eye, lower_eye, ""),
    row("OneHot", &[9, 11, 28], infer_one_hot, lower_one_hot, "the depth must be constant"),
    row("Trilu", &[14], infer_trilu, lower_trilu, ""),
    Operator { domain: "com.microsoft", ..row("Trilu", &[1], infer_trilu, lower_trilu, "") },
];

/// No diagonal of a matrix is farther from the main one: distances are counted in 32 bits.
const FARTHEST: i64 = 1 << 30;

fn infer_constant(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let dims = ctx.constant_ints(0)?.unwrap_or_default();
    let shape: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = shape.ok_or_else(|| Error::model(format!("the shape {dims:?} holds a negative number")))?;
    let value = ctx.attrs().get_tensor("value")?;
    if let Some(value) = value {
        require(value.ty.elems() == 1, || format!("the value is {}, not one element", value.ty))?;
    }
    Ok(vec![TensorType::new(value.map_or(DType::F32, |v| v.ty.dtype), shape)])
}

fn lower_constant(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let value = match ctx.attrs().get_tensor("value")? {
        Some(tensor) => Scalar::from_le(tensor.ty.dtype, &tensor.data),
        None => Scalar::from_f64(DType::F32, 0.0),
    };
    e.define("", &out, |b| b.constant(value));
    Ok(())
}

/// Start, delta and number of elements.
fn range(ctx: &Ctx) -> Result<(Scalar, Scalar, usize)> {
    let dtype = ctx.dtype(0)?;
    let one = |i: usize| -> Result<Scalar> {
        let tensor = ctx.constant(i)?;
        require(tensor.ty.elems() == 1 && tensor.ty.dtype == dtype, || {
            format!("input {i} is {}", tensor.ty)
        })?;
        Ok(Scalar::from_le(dtype, &tensor.data))
    };
    let (start, limit, delta) = (one(0)?, one(1)?, one(2)?);
    let count = if dtype.is_float() {
        ((limit.to_f64() - start.to_f64()) / delta.to_f64()).ceil()
    } else {
        let (distance, step) =
            (i128::from(limit.to_i64()) - i128::from(start.to_i64()), i128::from(delta.to_i64()));
        require(step != 0, || "delta is 0".into())?;
        let whole = distance / step;
        (whole + i128::from(distance % step != 0 && (distance < 0) == (step < 0))) as f64
    };
    require(count.is_finite() && count < 2f64.powi(40), || format!("it would have {count} elements"))?;
    Ok((start, delta, count.max(0.0) as usize))
}

fn infer_range(ctx: &Ctx) -> Result<Vec<TensorType>> {
    Ok(vec![TensorType::new(ctx.dtype(0)?, [range(ctx)?.2])])
}

fn lower_range(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (start, delta, _) = range(ctx)?;
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let dtype = compute_type(out.dtype());
    e.define("", &out, |b| {
        let (start, delta) = (b.constant(start), b.constant(delta));
        let (start, delta) = (b.cast(dtype, start), b.cast(dtype, delta));
        let at = b.index(Affine::var(0));
        let at = b.cast(dtype, at);
        let product = b.times(at, delta);
        b.plus(start, product)
    });
    Ok(())
}

fn infer_eye(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.rank() == 2, || format!("the input must have two dimensions, not {}", x.rank()))?;
    let dtype = match ctx.attrs().get_int("dtype")? {
        Some(&number) => DType::from_onnx(number)
            .ok_or_else(|| Error::model(format!("element type {number} is not supported")))?,
        None => x.dtype,
    };
    Ok(vec![TensorType::new(dtype, x.shape.clone())])
}

fn lower_eye(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    // Further away every diagonal is outside.
    let k = ctx.attrs().int("k", 0)?.clamp(-FARTHEST, FARTHEST);
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    e.define("", &out, |b| {
        let distance = b.index(Affine::var(1).plus_scaled(&Affine::var(0), -1).offset(-k));
        let distance = b.cast(DType::I32, distance);
        let zero = b.number(DType::I32, 0.0);
        let on = b.op(Op::Eq, &[distance, zero]);
        b.cast(out.dtype(), on)
    });
    Ok(())
}

/// The axis of the output along which one element is hot, and its extent.
fn one_hot_axis(ctx: &Ctx) -> Result<(usize, usize)> {
    let depth = ctx.constant(1)?;
    require(depth.ty.elems() == 1, || "depth must be a scalar".into())?;
    let depth = Scalar::from_le(depth.ty.dtype, &depth.data).to_i64();
    let depth = usize::try_from(depth).map_err(|_| Error::model(format!("depth is {depth}")))?;
    let rank = ctx.shape(0)?.len() + 1;
    Ok((ctx.axis(ctx.attrs().int("axis", -1)?, rank)?, depth))
}

fn infer_one_hot(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (axis, depth) = one_hot_axis(ctx)?;
    let values = ctx.ty(2)?;
    require(values.shape == [2], || "values must be the two values [off, on]".into())?;
    let mut shape = ctx.shape(0)?.to_vec();
    shape.insert(axis, depth);
    Ok(vec![TensorType::new(values.dtype, shape)])
}

/// Negative indices count from the end; those outside leave everything off.
fn lower_one_hot(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (axis, depth) = one_hot_axis(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (indices, values, out) = (e.input(0)?, e.input(2)?, e.result()?);
    e.define("", &out, |b| {
        let mut at = b.axes();
        let place = b.index(at.remove(axis));
        let raw = b.elem(&indices, &at, indices.dtype());
        let index = b.cast(DType::I64, raw);
        let (zero, extent) = (b.number(DType::I64, 0.0), b.number(DType::I64, depth as f64));
        let negative = b.op(Op::Lt, &[index, zero]);
        let moved = b.op(Op::Add, &[index, extent]);
        let index = b.op(Op::Select, &[negative, moved, index]);
        let hot = b.op(Op::Eq, &[place, index]);
        let [off, on] = [0, 1].map(|i| b.load(values.id, &values.ty, vec![Affine::constant(i)]));
        b.op(Op::Select, &[hot, on, off])
    });
    Ok(())
}

fn infer_trilu(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.rank() >= 2, || "the input must have two dimensions at least".into())?;
    if let Some(k) = ctx.optional(1) {
        require(k.ty.dtype == DType::I64 && k.ty.elems() == 1, || format!("k is {}", k.ty))?;
    }
    Ok(vec![x.clone()])
}

/// Upper: elements with `column - row >= k`; lower: `<= k`.
fn lower_trilu(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let upper = ctx.attrs().flag("upper", true)?;
    let mut e = Emit::new(ctx, low);
    let (x, k, out) = (e.input(0)?, e.optional(1), e.result()?);
    let known = ctx.constant_ints(1).ok().flatten().and_then(|k| k.first().copied());
    e.define("", &out, |b| {
        let rank = x.rank() as u32;
        let distance = b.index(Affine::var(rank - 1).plus_scaled(&Affine::var(rank - 2), -1));
        let distance = b.cast(DType::I32, distance);
        let k = match (known, k) {
            (Some(k), _) => b.constant(Scalar::from_i64(DType::I32, k.clamp(-FARTHEST, FARTHEST))),
            (None, Some(k)) => {
                let k = b.load(k.id, &k.ty, vec![Affine::constant(0); k.rank()]);
                let k = b.clamp(k, -FARTHEST as f64, FARTHEST as f64);
                b.cast(DType::I32, k)
            }
            (None, None) => b.number(DType::I32, 0.0),
        };
        let kept = b.op(if upper { Op::Ge } else { Op::Le }, &[distance, k]);
        let element = b.load_broadcast(x.id, &x.ty);
        let zero = b.constant(Scalar::from_i64(x.dtype(), 0));
        b.op(Op::Select, &[kept, element, zero])
    });
    Ok(())
}
