//! QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: per tensor, per channel, by blocks.

use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Operator};
use crate::scalar::{Fold, Op, Scalar};

const VERSIONS: &[i64] = &[10, 13, 19, 21, 23, 24, 25];

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator::define("", "QuantizeLinear", VERSIONS, infer_quantize, quantize),
    Operator::define("", "DequantizeLinear", VERSIONS, infer_dequantize, dequantize),
    Operator::define("", "DynamicQuantizeLinear", &[11], infer_dynamic, dynamic),
    Operator::define("com.microsoft", "QuantizeLinear", &[1], infer_quantize, quantize),
    Operator::define("com.microsoft", "DequantizeLinear", &[1], infer_dequantize, dequantize),
    // The same with elements and zero point 128 lower, for targets that multiply signed bytes.
    Operator::internal("SignedDynamicQuantizeLinear", |ctx| infer_range(ctx, DType::I8), dynamic),
];

/// Smallest and largest value of an integer type.
pub fn integer_range(dtype: DType) -> (f64, f64) {
    let bits = dtype.bits() as i32;
    match dtype.is_signed_int() {
        true => (-(2f64.powi(bits - 1)), 2f64.powi(bits - 1) - 1.0),
        false => (0.0, 2f64.powi(bits) - 1.0),
    }
}

/// For integers: the nearest value of the type, halves to even. For small floats: the nearest.
pub fn saturated(b: &mut DefBuilder, value: ExprId, to: DType) -> ExprId {
    if to.is_int() {
        let nearest = b.op(Op::Round, &[value]);
        let (lo, hi) = integer_range(to);
        let inside = b.clamp(nearest, lo, hi);
        return b.cast(to, inside);
    }
    b.cast(to, value)
}

/// `saturate(round(value) + zero)` for an integer type; `value` and `zero` are floats.
pub fn requantized(b: &mut DefBuilder, value: ExprId, zero: Option<ExprId>, to: DType) -> ExprId {
    let Some(zero) = zero else { return saturated(b, value, to) };
    let nearest = b.op(Op::Round, &[value]);
    let sum = b.plus(nearest, zero);
    let (lo, hi) = integer_range(to);
    let inside = b.clamp(sum, lo, hi);
    b.cast(to, inside)
}

/// Whether a zero point is known to be zero everywhere.
pub fn is_zero(ctx: &Ctx, i: usize) -> bool {
    match ctx.optional(i) {
        None => true,
        Some(v) => v.constant.as_ref().is_some_and(|t| t.data.iter().all(|&b| b == 0)),
    }
}

/// Which elements share a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Grain {
    Tensor,
    Axis(usize),
    Blocks { axis: usize, size: usize },
}

/// Part of a tensor in which the index of the scale is affine.
struct Piece {
    extents: Vec<usize>,
    data: Vec<Affine>,
    scale: Vec<Affine>,
}

fn grain(ctx: &Ctx) -> Result<Grain> {
    let (x, scale) = (ctx.shape(0)?, ctx.shape(1)?);
    if scale.iter().product::<usize>() == 1 && scale.len() <= 1 {
        return Ok(Grain::Tensor);
    }
    let axis = ctx.axis(ctx.attrs().int("axis", 1)?, x.len())?;
    let blocks = usize::try_from(ctx.attrs().int("block_size", 0)?).unwrap_or(0);
    let no = || format!("scales of shape {scale:?} do not fit a tensor of shape {x:?} along axis {axis}");
    if scale.len() == 1 && blocks == 0 {
        require(scale[0] == x[axis], no)?;
        return Ok(Grain::Axis(axis));
    }
    let others = scale.len() == x.len() && (0..x.len()).all(|d| d == axis || scale[d] == x[d]);
    require(others && scale[axis] > 0, no)?;
    let size = if blocks > 0 { blocks } else { x[axis].div_ceil(scale[axis]) };
    require(x[axis].div_ceil(size.max(1)) == scale[axis], no)?;
    Ok(Grain::Blocks { axis, size: size.max(1) })
}

fn pieces(grain: Grain, shape: &[usize], scale_rank: usize) -> Vec<Piece> {
    let axes = |n: usize| (0..n).map(|i| Affine::var(i as u32)).collect::<Vec<_>>();
    let plain = |scale| vec![Piece { extents: shape.to_vec(), data: axes(shape.len()), scale }];
    match grain {
        Grain::Tensor => plain(vec![Affine::constant(0); scale_rank]),
        Grain::Axis(axis) => plain(vec![Affine::var(axis as u32)]),
        Grain::Blocks { axis, size } => {
            let (whole, rest) = (shape[axis] / size, shape[axis] % size);
            [(0, whole, size), (whole, usize::from(rest > 0), rest)]
                .into_iter()
                .filter(|&(_, count, _)| count > 0)
                .map(|(first, count, size_here)| {
                    // Axis `axis` becomes two: the block, and the place within it.
                    let mut extents = shape.to_vec();
                    extents.splice(axis..=axis, [count, size_here]);
                    let mut data = axes(extents.len());
                    let within = data.remove(axis + 1);
                    let mut scale = data.clone();
                    scale[axis] = data[axis].offset(first as i64);
                    data[axis] = scale[axis].scaled(size as i64).plus(&within);
                    Piece { extents, data, scale }
                })
                .collect()
        }
    }
}

/// Defines `out` piece by piece from the index of an element and that of its scale.
fn define_pieces(
    e: &mut Emit,
    out: &Val,
    scale_rank: usize,
    body: impl Fn(&mut DefBuilder, &[Affine], &[Affine]) -> ExprId,
) -> Result<()> {
    let grain = grain(e.ctx)?;
    for piece in pieces(grain, out.shape(), scale_rank) {
        e.define_at("", out, &piece.extents, piece.data.clone(), |b| body(b, &piece.data, &piece.scale));
    }
    Ok(())
}

fn attr_type(ctx: &Ctx, name: &str) -> Result<Option<DType>> {
    match ctx.attrs().int(name, 0)? {
        0 => Ok(None),
        n => DType::from_onnx(n).map(Some).ok_or_else(|| {
            Error::model(format!("element type {n} is not supported")).at(format!("attribute {name}"))
        }),
    }
}

fn infer_quantize(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let dtype = match (ctx.optional(2), attr_type(ctx, "output_dtype")?) {
        (Some(zero), _) => zero.ty.dtype,
        (None, Some(dtype)) => dtype,
        (None, None) => DType::U8,
    };
    check_zero(ctx)?;
    require(dtype.is_int() || dtype.is_small_float(), || format!("{dtype} is not a type to quantize to"))?;
    grain(ctx)?;
    Ok(vec![TensorType::new(dtype, ctx.shape(0)?)])
}

fn check_zero(ctx: &Ctx) -> Result<()> {
    check_scales(ctx, &[1])?;
    let (scale, zero) = (ctx.ty(1)?, ctx.optional(2));
    require(scale.dtype.is_float(), || format!("the scale must be a float, not {}", scale.dtype))?;
    require(zero.is_none_or(|z| z.ty.elems() == scale.elems()), || {
        "scale and zero point differ in shape".into()
    })
}

fn infer_dequantize(ctx: &Ctx) -> Result<Vec<TensorType>> {
    check_zero(ctx)?;
    grain(ctx)?;
    let dtype = attr_type(ctx, "output_dtype")?.unwrap_or(ctx.dtype(1)?);
    require(dtype.is_float(), || format!("{dtype} is not a type to dequantize to"))?;
    Ok(vec![TensorType::new(dtype, ctx.shape(0)?)])
}

/// Input 2, the zero point, under the shape of the scale; none where it is zero.
fn zero_point(e: &mut Emit) -> Result<Option<Val>> {
    if is_zero(e.ctx, 2) {
        return Ok(None);
    }
    let shape = e.ctx.shape(1)?.to_vec();
    let zero = e.input(2)?;
    Ok(Some(e.reshape(&zero, shape)))
}

fn quantize(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, scale, out) = (e.input(0)?, e.input(1)?, e.result()?);
    let zero = zero_point(&mut e)?;
    let saturate = ctx.attrs().flag("saturate", true)?;
    let float = compute_type(scale.dtype());
    let to = out.dtype();
    let ones = ctx.constant(1).ok().and_then(|t| t.to_vec::<f32>());
    let ones = ones.is_some_and(|list| list.iter().all(|&s| s == 1.0));
    define_pieces(&mut e, &out, scale.rank(), |b, at, at_scale| {
        let mut quotient = b.elem(&x, at, float);
        if !ones {
            let scale = b.elem(&scale, at_scale, float);
            quotient = b.over(quotient, scale);
        }
        if !to.is_int() {
            return b.cast_as(to, saturate, quotient);
        }
        let zero = zero.as_ref().map(|z| b.elem(z, at_scale, float));
        requantized(b, quotient, zero, to)
    })
}

fn dequantize(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, scale, out) = (e.input(0)?, e.input(1)?, e.result()?);
    let zero = zero_point(&mut e)?;
    let float = compute_type(scale.dtype());
    define_pieces(&mut e, &out, scale.rank(), |b, at, at_scale| {
        let scale = b.elem(&scale, at_scale, float);
        let value = dequantized(b, &x, at, zero.as_ref().map(|z| (z, at_scale)), float);
        b.times(value, scale)
    })
}

/// `x - zero` at an index, as a float.
fn dequantized(
    b: &mut DefBuilder,
    x: &Val,
    at: &[Affine],
    zero: Option<(&Val, &[Affine])>,
    float: DType,
) -> ExprId {
    let Some((zero, at_zero)) = zero else { return b.elem(x, at, float) };
    let between = compute_type(x.dtype());
    let (x, zero) = (b.elem(x, at, between), b.elem(zero, at_zero, between));
    let difference = b.minus(x, zero);
    b.cast(float, difference)
}

fn infer_dynamic(ctx: &Ctx) -> Result<Vec<TensorType>> {
    infer_range(ctx, DType::U8)
}

fn infer_range(ctx: &Ctx, to: DType) -> Result<Vec<TensorType>> {
    require(ctx.dtype(0)? == DType::F32, || "it is defined for f32 only".into())?;
    let shape = ctx.shape(0)?;
    let scalar = |dtype| TensorType::new(dtype, []);
    Ok(vec![TensorType::new(to, shape), scalar(DType::F32), scalar(to)])
}

/// A tensor quantized to bytes by its own range.
pub struct Quantized {
    /// The elements.
    pub elems: Val,
    /// A scalar.
    pub scale: Val,
    /// A scalar.
    pub zero: Val,
}

/// Defines the range's scale and zero point, and the elements.
pub fn dynamically_quantized(e: &mut Emit, x: &Val, to: Quantized) -> Quantized {
    let (f, dtype) = (DType::F32, to.elems.dtype());
    let extreme = |e: &mut Emit, what: &str, fold: Fold| {
        e.map(what, f, [], |b| {
            let index: Vec<Affine> =
                x.shape().iter().enumerate().map(|(i, &d)| b.reduce(&format!("r{i}"), d)).collect();
            let elem = b.elem(x, &index, f);
            let acc = b.fold(fold, elem);
            let zero = b.number(f, 0.0);
            b.op(fold.op(), &[acc, zero])
        })
    };
    let (least, most) = (extreme(e, "least", Fold::Min), extreme(e, "most", Fold::Max));
    e.define("scale", &to.scale, |b| {
        let (least, most) = (b.elem(&least, &[], f), b.elem(&most, &[], f));
        let range = b.minus(most, least);
        let levels = b.number(f, 255.0);
        let scale = b.over(range, levels);
        let (one, nothing) = (b.number(f, 1.0), b.number(f, 0.0));
        let flat = b.op(Op::Eq, &[range, nothing]);
        b.op(Op::Select, &[flat, one, scale])
    });
    e.define("zero", &to.zero, |b| {
        let (least, scale) = (b.elem(&least, &[], f), b.elem(&to.scale, &[], f));
        let nothing = b.number(f, 0.0);
        let below = b.minus(nothing, least);
        let steps = b.over(below, scale);
        let lowest = dtype.is_signed_int().then(|| b.number(f, integer_range(dtype).0));
        requantized(b, steps, lowest, dtype)
    });
    e.define("elements", &to.elems, |b| {
        let (x, scale, zero) = (b.broadcast(x, f), b.elem(&to.scale, &[], f), b.elem(&to.zero, &[], f));
        let steps = b.over(x, scale);
        requantized(b, steps, Some(zero), dtype)
    });
    to
}

fn dynamic(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let x = e.input(0)?;
    let elems = e.result()?;
    let dtype = elems.dtype();
    let to = Quantized {
        elems,
        scale: e.output(1).unwrap_or_else(|| e.temp("scale", DType::F32, [])),
        zero: e.output(2).unwrap_or_else(|| e.temp("zero", dtype, [])),
    };
    dynamically_quantized(&mut e, &x, to);
    Ok(())
}

/// An error where one of these inputs is a scale that is known and not finite: what it stands for, zero times
/// infinity, is no number, and no integer either.
pub fn check_scales(ctx: &Ctx, inputs: &[usize]) -> Result<()> {
    for &i in inputs {
        let Some(tensor) = ctx.optional(i).and_then(|v| v.constant.as_ref()) else { continue };
        let dtype = tensor.ty.dtype;
        let mut numbers = tensor.data.chunks_exact(dtype.size()).map(|e| Scalar::from_le(dtype, e).to_f64());
        if let Some(scale) = numbers.find(|s| dtype.is_float() && !s.is_finite()) {
            return Err(Error::model(format!("the scale of input {i} is {scale}")).advise(
                "Calibrate with finite numbers (a mask of -10000 in place of -inf), or leave this node in float",
            ));
        }
    }
    Ok(())
}
