//! Operators of com.microsoft on quantized tensors that are neither products nor of single elements: sums are
//! taken to floats, and the float result is quantized.

use super::integer::check_quantized;
use super::pool::Divisor;
use super::quantize::check_scales;
use super::quantize::requantized;
use super::window::{positive, windows};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::ops::{Ctx, DefineFn, InferFn, Operator};
use crate::scalar::{Fold, Scalar};

const F: DType = DType::F32;

const fn row(name: &'static str, infer: InferFn, lower: DefineFn) -> Operator {
    Operator::define("com.microsoft", name, &[1], infer, lower)
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("QLinearAveragePool", infer_pool, average_pool),
    row("QLinearGlobalAveragePool", infer_global, global_average_pool),
    row("QLinearSoftmax", infer_same, softmax),
];

/// Scale and zero point, from two inputs in a row; each has one element.
struct Linear {
    scale: Val,
    zero: Option<Val>,
}

impl Linear {
    fn of(e: &Emit, i: usize) -> Result<Linear> {
        let scale = e.input(i)?;
        require(scale.ty.elems() == 1 && scale.dtype().is_float(), || {
            format!("a scale of type {} must be one float", scale.ty)
        })?;
        Ok(Linear { scale, zero: super::integer_conv::single_zero(e, i + 1)? })
    }

    fn first(b: &mut DefBuilder, v: &Val, to: DType) -> ExprId {
        b.elem(v, &vec![Affine::constant(0); v.rank()], to)
    }

    /// `(x - zero) * scale` of an integer expression of type i32.
    fn real(&self, b: &mut DefBuilder, x: ExprId) -> ExprId {
        let difference = self.centred(b, x);
        let value = b.cast(F, difference);
        let scale = Self::first(b, &self.scale, F);
        b.times(value, scale)
    }

    /// `x - zero` of an integer expression of type i32.
    fn centred(&self, b: &mut DefBuilder, x: ExprId) -> ExprId {
        let Some(zero) = &self.zero else { return x };
        let zero = Self::first(b, zero, DType::I32);
        b.minus(x, zero)
    }

    /// The quantized value of a float.
    fn quantized(&self, b: &mut DefBuilder, value: ExprId, to: DType) -> ExprId {
        let scale = Self::first(b, &self.scale, F);
        let steps = b.over(value, scale);
        let zero = self.zero.as_ref().map(|z| Self::first(b, z, F));
        requantized(b, steps, zero, to)
    }
}

fn infer_same(ctx: &Ctx) -> Result<Vec<TensorType>> {
    check_scales(ctx, &[1, 3])?;
    check_quantized(ctx.ty(0)?)?;
    Ok(vec![ctx.ty(0)?.clone()])
}

/// The dimensions of a pool's tensors: which is the channel, which are spatial.
fn layout(ctx: &Ctx, rank: usize) -> Result<(usize, std::ops::Range<usize>)> {
    require(rank >= 3, || format!("pooling is not defined for a tensor of rank {rank}"))?;
    Ok(if ctx.attrs().flag("channels_last", false)? { (rank - 1, 1..rank - 1) } else { (1, 2..rank) })
}

/// Means of integers: of the type of their zero point, which may have another sign than what they are means of.
fn pooled(ctx: &Ctx, shape: Vec<usize>) -> Result<Vec<TensorType>> {
    let zero = ctx.ty(4).unwrap_or(ctx.ty(0)?);
    check_quantized(zero)?;
    Ok(vec![TensorType::new(zero.dtype, shape)])
}

fn infer_pool(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    check_quantized(x)?;
    let (_, spatial) = layout(ctx, x.rank())?;
    let kernel = positive(ctx, "kernel_shape", spatial.len(), 0)?;
    let mut shape = x.shape.clone();
    let slides = windows(ctx, &x.shape[spatial.clone()], &kernel, ctx.attrs().flag("ceil_mode", false)?)?;
    spatial.zip(&slides).for_each(|(d, s)| shape[d] = s.output);
    pooled(ctx, shape)
}

/// The mean of the centred integers, exact until it is scaled; padding counts as the zero point.
fn average_pool(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let (of_x, of_out) = (Linear::of(&e, 1)?, Linear::of(&e, 3)?);
    let (_, spatial) = layout(ctx, x.rank())?;
    let kernel = positive(ctx, "kernel_shape", spatial.len(), 0)?;
    let slides = windows(ctx, &x.shape()[spatial.clone()], &kernel, ctx.attrs().flag("ceil_mode", false)?)?;
    let divisor = Divisor::new(&mut e, &slides, ctx.attrs().flag("count_include_pad", false)?, F)?;
    // Padding must add nothing: the zero point, where it is known, is subtracted at the end.
    let inside = Divisor::new(&mut e, &slides, false, F)?;
    e.define("", &out, |b| {
        let mut index = b.axes();
        for (d, slide) in spatial.clone().zip(&slides) {
            let k = b.reduce(&format!("k{d}"), slide.kernel);
            index[d] = slide.index(&b.var(d), &k);
        }
        let elem = b.load_padded(x.id, &x.ty, index, Scalar::from_i64(x.dtype(), 0));
        let elem = b.cast(DType::I32, elem);
        let acc = b.fold(Fold::Sum, elem);
        let mut sum = b.cast(F, acc);
        if let Some(zero) = &of_x.zero {
            let (zero, count) = (Linear::first(b, zero, F), inside.expr(b, spatial.start, F));
            let all = b.times(zero, count);
            sum = b.minus(sum, all);
        }
        let count = divisor.expr(b, spatial.start, F);
        let mean = b.over(sum, count);
        let scale = Linear::first(b, &of_x.scale, F);
        let value = b.times(mean, scale);
        of_out.quantized(b, value, out.dtype())
    });
    Ok(())
}

fn infer_global(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    check_quantized(x)?;
    let (_, spatial) = layout(ctx, x.rank())?;
    let mut shape = x.shape.clone();
    spatial.for_each(|d| shape[d] = 1);
    pooled(ctx, shape)
}

fn global_average_pool(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let (of_x, of_out) = (Linear::of(&e, 1)?, Linear::of(&e, 3)?);
    let axes: Vec<usize> = layout(ctx, x.rank())?.1.collect();
    let count: usize = axes.iter().map(|&d| x.shape()[d]).product();
    e.define("", &out, |b| {
        let index = crate::ops::emit::reduced_index(b, x.shape(), &axes);
        let elem = b.elem(&x, &index, DType::I32);
        let elem = of_x.centred(b, elem);
        let acc = b.fold(Fold::Sum, elem);
        let sum = b.cast(F, acc);
        let count = b.number(F, count as f64);
        let mean = b.over(sum, count);
        let scale = Linear::first(b, &of_x.scale, F);
        let value = b.times(mean, scale);
        of_out.quantized(b, value, out.dtype())
    });
    Ok(())
}

fn softmax(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let (of_x, of_out) = (Linear::of(&e, 1)?, Linear::of(&e, 3)?);
    let first = ctx.axis(ctx.attrs().int("axis", -1)?, x.rank())?;
    // Before opset 13, all dimensions from the axis on.
    let end = if ctx.attrs().int("opset", 13)? < 13 { x.rank() } else { first + 1 };
    let axes: Vec<usize> = (first..end).collect();
    let real = e.map("real", F, x.shape(), |b| {
        let x = b.broadcast(&x, DType::I32);
        of_x.real(b, x)
    });
    let weights = e.temp("softmax", F, x.shape());
    super::softmax::define_softmax(&mut e, &real, &axes, &weights);
    e.define("", &out, |b| {
        let value = b.broadcast(&weights, F);
        of_out.quantized(b, value, out.dtype())
    });
    Ok(())
}
