//! Operators of com.microsoft on quantized tensors that are not products: each element is taken
//! to a float, and the float result is quantized.

use super::integer::{check_quantized, check_scales};
use super::matmul::broadcast;
use super::pool::Divisor;
use super::quantize::requantized;
use super::window::{positive, windows};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::ops::{Ctx, DefineFn, InferFn, Operator};
use crate::scalar::{Fold, Op, Scalar};

const F: DType = DType::F32;

const fn row(name: &'static str, infer: InferFn, lower: DefineFn) -> Operator {
    Operator::define("com.microsoft", name, &[1], infer, lower)
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("QLinearAdd", infer_binary, |c, l| binary(c, l, Op::Add)),
    row("QLinearMul", infer_binary, |c, l| binary(c, l, Op::Mul)),
    row("QLinearSigmoid", infer_same, sigmoid),
    row("QLinearLeakyRelu", infer_same, leaky_relu),
    row("QLinearAveragePool", infer_pool, average_pool),
    row("QLinearGlobalAveragePool", infer_global, global_average_pool),
    row("QLinearConcat", infer_concat, concat),
    row("QLinearSoftmax", infer_same, softmax),
    row("QLinearWhere", infer_where, choose),
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

fn infer_binary(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (a, b) = (ctx.ty(0)?, ctx.ty(3)?);
    check_scales(ctx, &[1, 4, 6])?;
    check_quantized(a)?;
    let shape = broadcast(&a.shape, &b.shape).filter(|_| a.dtype == b.dtype);
    let shape = shape.ok_or_else(|| Error::model(format!("it is not defined for {a} and {b}")))?;
    Ok(vec![TensorType::new(a.dtype, shape)])
}

fn binary(ctx: &Ctx, low: &mut Lowering, op: Op) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, y, out) = (e.input(0)?, e.input(3)?, e.result()?);
    let (of_x, of_y, of_out) = (Linear::of(&e, 1)?, Linear::of(&e, 4)?, Linear::of(&e, 6)?);
    e.define("", &out, |b| {
        let (x, y) = (b.broadcast(&x, DType::I32), b.broadcast(&y, DType::I32));
        let (x, y) = (of_x.real(b, x), of_y.real(b, y));
        let value = b.op(op, &[x, y]);
        of_out.quantized(b, value, out.dtype())
    });
    Ok(())
}

fn infer_same(ctx: &Ctx) -> Result<Vec<TensorType>> {
    check_scales(ctx, &[1, 3])?;
    check_quantized(ctx.ty(0)?)?;
    Ok(vec![ctx.ty(0)?.clone()])
}

fn unary(ctx: &Ctx, low: &mut Lowering, f: impl FnOnce(&mut DefBuilder, ExprId) -> ExprId) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let (of_x, of_out) = (Linear::of(&e, 1)?, Linear::of(&e, 3)?);
    e.define("", &out, |b| {
        let x = b.broadcast(&x, DType::I32);
        let x = of_x.real(b, x);
        let value = f(b, x);
        of_out.quantized(b, value, out.dtype())
    });
    Ok(())
}

fn sigmoid(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    unary(ctx, low, |b, x| b.op(Op::Sigmoid, &[x]))
}

fn leaky_relu(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let alpha = f64::from(ctx.attrs().float("alpha", 0.01)?);
    unary(ctx, low, |b, x| {
        let zero = b.number(F, 0.0);
        let negative = b.op(Op::Lt, &[x, zero]);
        let scaled = b.times_number(x, alpha);
        b.op(Op::Select, &[negative, scaled, x])
    })
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
    let divisor = Divisor::new(&mut e, &slides, ctx.attrs().flag("count_include_pad", false)?, F);
    // Padding must add nothing: the zero point, where it is known, is subtracted at the end.
    let inside = Divisor::new(&mut e, &slides, false, F);
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

/// The tensors of QLinearConcat: input numbers 2, 5, 8, ...
fn parts(ctx: &Ctx) -> impl Iterator<Item = usize> {
    (2..ctx.node.inputs.len()).step_by(3)
}

fn infer_concat(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let first = ctx.ty(2)?;
    let axis = ctx.axis(ctx.attrs().int("axis", 0)?, first.rank())?;
    let mut shape = first.shape.clone();
    shape[axis] = 0;
    for i in parts(ctx) {
        let ty = ctx.ty(i)?;
        check_quantized(ty)?;
        let same = ty.rank() == shape.len() && (0..shape.len()).all(|d| d == axis || ty.shape[d] == shape[d]);
        require(same, || format!("{ty} and {first} cannot be joined along axis {axis}"))?;
        shape[axis] += ty.shape[axis];
    }
    Ok(vec![TensorType::new(first.dtype, shape)])
}

fn concat(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (out, of_out) = (e.result()?, Linear::of(&e, 0)?);
    let axis = ctx.axis(ctx.attrs().int("axis", 0)?, out.rank())?;
    let mut offset = 0;
    for i in parts(ctx) {
        let (x, of_x) = (e.input(i)?, Linear::of(&e, i + 1)?);
        let mut store: Vec<Affine> = (0..x.rank()).map(|d| Affine::var(d as u32)).collect();
        store[axis] = store[axis].offset(offset as i64);
        offset += x.shape()[axis];
        e.define_at(&format!("part{i}"), &out, x.shape(), store, |b| {
            let x = b.broadcast(&x, DType::I32);
            let value = of_x.real(b, x);
            of_out.quantized(b, value, out.dtype())
        });
    }
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

fn infer_where(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (condition, x, y) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(4)?);
    check_quantized(x)?;
    let shape = broadcast(&x.shape, &y.shape).and_then(|s| broadcast(&s, &condition.shape));
    let shape = shape.filter(|_| x.dtype == y.dtype && condition.dtype == DType::Bool);
    let shape =
        shape.ok_or_else(|| Error::model(format!("it is not defined for {condition}, {x} and {y}")))?;
    Ok(vec![TensorType::new(x.dtype, shape)])
}

fn choose(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (condition, x, y, out) = (e.input(0)?, e.input(1)?, e.input(4)?, e.result()?);
    let (of_x, of_y, of_out) = (Linear::of(&e, 2)?, Linear::of(&e, 5)?, Linear::of(&e, 7)?);
    e.define("", &out, |b| {
        let condition = b.broadcast(&condition, DType::Bool);
        let (x, y) = (b.broadcast(&x, DType::I32), b.broadcast(&y, DType::I32));
        let (x, y) = (of_x.real(b, x), of_y.real(b, y));
        let value = b.op(Op::Select, &[condition, x, y]);
        of_out.quantized(b, value, out.dtype())
    });
    Ok(())
}
