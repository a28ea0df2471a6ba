//! Convolutions of quantized tensors: ConvInteger, QLinearConv.

use super::conv::Shape;
use super::exact_conv::{Operands, define_conv};
use super::integer::{Zero, check_quantized};
use super::quantize::check_scales;
use super::quantize::{is_zero, requantized};
use crate::base::{Affine, DType, TensorType};
use crate::definition::Lowering;
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::ops::{Ctx, Lower, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "ConvInteger",
        versions: &[10],
        infer: infer_integer,
        lower: Lower::Define(integer),
        note: "",
    },
    Operator {
        domain: "",
        name: "QLinearConv",
        versions: &[10],
        infer: infer_qlinear,
        lower: Lower::Define(qlinear),
        note: "",
    },
    Operator {
        domain: "com.microsoft",
        name: "QLinearConv",
        versions: &[1],
        infer: infer_qlinear,
        lower: Lower::Define(qlinear),
        note: "",
    },
];

fn infer(ctx: &Ctx, w: usize, to: DType) -> Result<Vec<TensorType>> {
    check_quantized(ctx.ty(0)?)?;
    check_quantized(ctx.ty(w)?)?;
    Ok(vec![TensorType::new(to, Shape::read(ctx, ctx.shape(0)?, ctx.shape(w)?)?.output())])
}

fn infer_integer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    infer(ctx, 1, DType::I32)
}

fn integer(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, w, out) = (e.input(0)?, e.input(1)?, e.result()?);
    let shape = Shape::read(ctx, x.shape(), w.shape())?;
    let operands = Operands { x_zero: Zero::of(&e, 2), w_zero: Zero::of(&e, 3), x, w, bias: None };
    define_conv(&mut e, &out, &shape, operands, |_, point| point.acc)
}

fn infer_qlinear(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let to = ctx.dtype(7)?;
    require(to.is_int(), || format!("{to} is not a quantized type"))?;
    check_quantized(ctx.ty(0)?)?;
    check_quantized(ctx.ty(3)?)?;
    check_scales(ctx, &[1, 4, 6])?;
    let mut shape = ctx.shape(0)?.to_vec();
    let last = is_channels_last(ctx)?;
    if last {
        shape[1..].rotate_right(1);
    }
    let mut shape = Shape::read(ctx, &shape, ctx.shape(3)?)?.output();
    if last {
        shape[1..].rotate_left(1);
    }
    Ok(vec![TensorType::new(to, shape)])
}

/// Whether inputs and outputs have their channels in the last place; weights never have.
fn is_channels_last(ctx: &Ctx) -> Result<bool> {
    let last = ctx.attrs().flag("channels_last", false)?;
    require(!last || ctx.shape(0)?.len() >= 3, || "the input has no channels".into())?;
    Ok(last)
}

/// A value of `shape` whose element at the axes is that of `x` at the axes rotated.
fn rotated(e: &mut Emit, x: &Val, out: &Val, by: impl Fn(&mut [Affine])) {
    e.define("", out, |b| {
        let mut index = b.axes();
        by(&mut index[1..]);
        b.load(x.id, &x.ty, index)
    });
}

/// `a * b / c`, as f32; `a` and `c` have one element, `b` one or more. A vector.
pub fn multiplier(e: &mut Emit, a: &Val, b: &Val, c: Option<&Val>) -> Result<Val> {
    let f = DType::F32;
    for one in [Some(a), c].into_iter().flatten() {
        require(one.ty.elems() == 1, || format!("a scale of type {} must be one number", one.ty))?;
    }
    let zero = |v: &Val| vec![Affine::constant(0); v.rank()];
    let b_flat = e.reshape(b, [b.ty.elems()]);
    Ok(e.map("multiplier", f, [b.ty.elems()], |d| {
        let (a, b) = (d.elem(a, &zero(a), f), d.broadcast(&b_flat, f));
        let product = d.times(a, b);
        match c {
            Some(c) => {
                let c = d.elem(c, &zero(c), f);
                d.over(product, c)
            }
            None => product,
        }
    }))
}

/// Input `i`, a zero point of one element; none where it is zero.
pub fn single_zero(e: &Emit, i: usize) -> Result<Option<Val>> {
    if is_zero(e.ctx, i) {
        return Ok(None);
    }
    let zero = e.input(i)?;
    require(zero.ty.elems() == 1, || format!("a zero point of type {} must be one number", zero.ty))?;
    Ok(Some(zero))
}

fn qlinear(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (mut x, w, bias, result) = (e.input(0)?, e.input(3)?, e.optional(8), e.result()?);
    let mut out = result.clone();
    let last = is_channels_last(ctx)?;
    if last {
        let mut shapes = [x.ty.shape.clone(), out.ty.shape.clone()];
        shapes.iter_mut().for_each(|s| s[1..].rotate_right(1));
        let [inner, outer] = shapes;
        let first = e.temp("first", x.dtype(), inner);
        rotated(&mut e, &x, &first, |index| index.rotate_left(1));
        (x, out) = (first, e.temp("last", result.dtype(), outer));
    }
    let shape = Shape::read(ctx, x.shape(), w.shape())?;
    let channels = w.shape()[0];
    let (x_scale, w_scale, y_scale) = (e.input(1)?, e.input(4)?, e.input(6)?);
    require(w_scale.ty.elems() == 1 || w_scale.ty.elems() == channels, || {
        format!("weight scales of type {} do not fit {channels} channels", w_scale.ty)
    })?;
    if let Some(bias) = &bias {
        require(bias.shape() == [channels], || format!("a bias of type {} does not fit", bias.ty))?;
    }
    let multiplier = multiplier(&mut e, &x_scale, &w_scale, Some(&y_scale))?;
    let y_zero = single_zero(&e, 7)?;
    let operands = Operands { x_zero: Zero::of(&e, 2), w_zero: Zero::of(&e, 5), x, w, bias };
    let to = out.dtype();
    define_conv(&mut e, &out, &shape, operands, |b, point| {
        let sum = b.cast(DType::F32, point.acc);
        let channel = if multiplier.ty.elems() == 1 { Affine::constant(0) } else { point.channel.clone() };
        let factor = b.elem(&multiplier, &[channel], DType::F32);
        let zero = y_zero.map(|z| b.elem(&z, &vec![Affine::constant(0); z.rank()], DType::F32));
        let value = b.times(sum, factor);
        requantized(b, value, zero, to)
    })?;
    if last {
        rotated(&mut e, &out, &result, |index| index.rotate_right(1));
    }
    Ok(())
}
