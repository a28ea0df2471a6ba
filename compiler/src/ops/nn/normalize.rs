//! Normalizations: by mean and variance over some axes (Layer, Group, Instance, MeanVariance),
//! by the root of the mean square (RMS), by a p-norm, and local response normalization.

use super::pool::{power, root};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, DefineFn, Lower, Operator};
use crate::scalar::{Fold, Op};

const fn row(name: &'static str, versions: &'static [i64], lower: DefineFn) -> Operator {
    Operator::define("", name, versions, infer, lower)
}

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "LayerNormalization",
        // ONNX Runtime writes it into models of older opsets too.
        versions: &[1, 17],
        infer: infer_layer,
        lower: Lower::Define(layer),
        note: "",
    },
    row("GroupNormalization", &[18, 21], group),
    row("InstanceNormalization", &[1, 6, 22], instance),
    row("RMSNormalization", &[23], rms),
    row("LpNormalization", &[1, 22], lp),
    row("MeanVarianceNormalization", &[1, 9, 13], mean_variance),
    row("LRN", &[1, 13], lrn),
    simplified(""),
    simplified("com.microsoft"),
];

const fn simplified(domain: &'static str) -> Operator {
    Operator {
        domain,
        name: "SimplifiedLayerNormalization",
        versions: &[1],
        infer,
        lower: Lower::Define(rms),
        note: "",
    }
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float(), || format!("it is not defined for {}", x.dtype))?;
    Ok(vec![x.clone()])
}

/// Mean over `axes`, which keep extent 1.
pub fn mean(e: &mut Emit, x: &Val, axes: &[usize]) -> Val {
    let float = compute_type(x.dtype());
    let count = elements(x, axes);
    e.reduce("mean", x.shape(), axes, Fold::Sum, |b, i| b.elem(x, i, float), divide(count))
}

/// Mean over `axes` of the square of `x - mean`.
pub fn variance(e: &mut Emit, x: &Val, mean: &Val, axes: &[usize]) -> Val {
    let float = compute_type(x.dtype());
    let body = |b: &mut DefBuilder, index: &[Affine]| {
        let at_mean: Vec<Affine> = (0..index.len())
            .map(|i| if axes.contains(&i) { Affine::constant(0) } else { index[i].clone() })
            .collect();
        let (elem, mean) = (b.elem(x, index, float), b.elem(mean, &at_mean, float));
        let difference = b.minus(elem, mean);
        b.times(difference, difference)
    };
    e.reduce("variance", x.shape(), axes, Fold::Sum, body, divide(elements(x, axes)))
}

fn elements(x: &Val, axes: &[usize]) -> usize {
    axes.iter().map(|&a| x.shape()[a]).product()
}

fn divide(count: usize) -> impl FnOnce(&mut DefBuilder, ExprId) -> ExprId {
    move |b, acc| {
        let count = b.number(b.dtype(acc), count as f64);
        b.over(acc, count)
    }
}

/// `1 / sqrt(variance + epsilon)`.
fn inverse_deviation(e: &mut Emit, variance: &Val, epsilon: f64) -> Val {
    let float = variance.dtype();
    e.map("inverse", float, variance.shape(), |b| {
        let v = b.broadcast(variance, float);
        b.inverse_root(v, epsilon)
    })
}

/// What normalizing over some axes needs: mean and reciprocal of the standard deviation.
pub struct Statistics {
    /// The mean; `None` where it is taken as zero (RMS).
    pub mean: Option<Val>,
    /// `1 / sqrt(variance + epsilon)`.
    pub inverse: Val,
}

impl Statistics {
    /// Of `x` over `axes`, which keep extent 1.
    pub fn new(e: &mut Emit, x: &Val, axes: &[usize], epsilon: f64) -> Statistics {
        let mean = mean(e, x, axes);
        let variance = variance(e, x, &mean, axes);
        Statistics { inverse: inverse_deviation(e, &variance, epsilon), mean: Some(mean) }
    }

    /// Of `x` over `axes`, with the mean taken as zero.
    pub fn root_mean_square(e: &mut Emit, x: &Val, axes: &[usize], epsilon: f64) -> Statistics {
        let float = compute_type(x.dtype());
        let square = |b: &mut DefBuilder, i: &[Affine]| {
            let x = b.elem(x, i, float);
            b.times(x, x)
        };
        let count = elements(x, axes);
        let mean = e.reduce("square", x.shape(), axes, Fold::Sum, square, divide(count));
        Statistics { inverse: inverse_deviation(e, &mean, epsilon), mean: None }
    }

    /// The normalized element at the axes.
    pub fn apply(&self, b: &mut DefBuilder, x: &Val) -> ExprId {
        let float = self.inverse.dtype();
        let mut elem = b.broadcast(x, float);
        if let Some(mean) = &self.mean {
            let mean = b.broadcast(mean, float);
            elem = b.minus(elem, mean);
        }
        let inverse = b.broadcast(&self.inverse, float);
        b.times(elem, inverse)
    }
}

/// The axes from attribute `axis` to the last.
fn last_axes(ctx: &Ctx) -> Result<Vec<usize>> {
    let rank = ctx.shape(0)?.len();
    Ok((ctx.axis(ctx.attrs().int("axis", -1)?, rank)?..rank).collect())
}

fn infer_layer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = infer(ctx)?.swap_remove(0);
    let axes = last_axes(ctx)?;
    let mut shape = x.shape.clone();
    axes.iter().for_each(|&a| shape[a] = 1);
    let stash = statistics_type(ctx)?;
    Ok(vec![x, TensorType::new(stash, shape.clone()), TensorType::new(stash, shape)])
}

fn statistics_type(ctx: &Ctx) -> Result<DType> {
    let stash = ctx.attrs().int("stash_type", 1)?;
    Ok(DType::from_onnx(stash).filter(|d| d.is_float()).unwrap_or(DType::F32))
}

/// Whether a tensor is broadcast to a shape without widening it.
pub fn check_broadcast(value: &Val, shape: &[usize], what: &str) -> Result<()> {
    let fits = super::matmul::broadcast(value.shape(), shape).is_some_and(|s| s == shape);
    require(fits && value.dtype().is_float(), || {
        format!("{what} of type {} does not fit {shape:?}", value.ty)
    })
}

fn layer(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, scale, bias, out) = (e.input(0)?, e.optional(1), e.optional(2), e.result()?);
    let axes = last_axes(ctx)?;
    let epsilon = f64::from(ctx.attrs().float("epsilon", 1e-5)?);
    let statistics = Statistics::new(&mut e, &x, &axes, epsilon);
    scaled(&mut e, &x, &statistics, scale.as_ref(), bias.as_ref(), &out)?;
    for (i, value) in [(1, statistics.mean.as_ref()), (2, Some(&statistics.inverse))] {
        if let (Some(out), Some(value)) = (e.output(i), value) {
            e.define("statistics", &out, |b| b.broadcast(value, value.dtype()));
        }
    }
    Ok(())
}

/// Defines `out` as the normalized `x`, times a scale and plus a bias that are broadcast to it.
pub fn scaled(
    e: &mut Emit,
    x: &Val,
    statistics: &Statistics,
    scale: Option<&Val>,
    bias: Option<&Val>,
    out: &Val,
) -> Result<()> {
    let float = compute_type(x.dtype());
    scale.map_or(Ok(()), |s| check_broadcast(s, x.shape(), "a scale"))?;
    bias.map_or(Ok(()), |s| check_broadcast(s, x.shape(), "a bias"))?;
    e.define("", out, |b| {
        let mut y = statistics.apply(b, x);
        if let Some(scale) = scale {
            let scale = b.broadcast(scale, float);
            y = b.times(y, scale);
        }
        if let Some(bias) = bias {
            let bias = b.broadcast(bias, float);
            y = b.plus(y, bias);
        }
        y
    });
    Ok(())
}

fn rms(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    require(!ctx.has(2), || "a bias is not defined for it".into())?;
    let (x, scale, out) = (e.input(0)?, e.optional(1), e.result()?);
    let epsilon = f64::from(ctx.attrs().float("epsilon", 1e-5)?);
    let statistics = Statistics::root_mean_square(&mut e, &x, &last_axes(ctx)?, epsilon);
    scaled(&mut e, &x, &statistics, scale.as_ref(), None, &out)
}

/// Normalizes each channel of `x[N, C, D...]`; scale and bias have one element per channel.
fn instance(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, scale, bias, out) = (e.input(0)?, e.input(1)?, e.input(2)?, e.result()?);
    require(x.rank() >= 2, || format!("it is not defined for a tensor of rank {}", x.rank()))?;
    let axes: Vec<usize> = (2..x.rank()).collect();
    let (scale, bias) = (per_channel(&mut e, &scale, &x)?, per_channel(&mut e, &bias, &x)?);
    let epsilon = f64::from(ctx.attrs().float("epsilon", 1e-5)?);
    let statistics = Statistics::new(&mut e, &x, &axes, epsilon);
    scaled(&mut e, &x, &statistics, Some(&scale), Some(&bias), &out)
}

/// A vector over channels under a shape that is broadcast to `x[N, C, D...]`.
pub fn per_channel(e: &mut Emit, value: &Val, x: &Val) -> Result<Val> {
    require(value.shape() == [x.shape()[1]], || {
        format!("a tensor of type {} does not fit {} channels", value.ty, x.shape()[1])
    })?;
    let mut shape = vec![1; x.rank() - 1];
    shape[0] = x.shape()[1];
    Ok(e.reshape(value, shape))
}

/// Normalizes groups of channels; scale and bias have one element per group in version 18, one
/// per channel since version 21.
fn group(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, scale, bias, out) = (e.input(0)?, e.input(1)?, e.input(2)?, e.result()?);
    let groups = usize::try_from(ctx.attrs().int("num_groups", 0)?).unwrap_or(0);
    require(x.rank() >= 2 && groups > 0 && x.shape()[1].is_multiple_of(groups), || {
        format!("a tensor of type {} has no {groups} groups of channels", x.ty)
    })?;
    let mut split = vec![x.shape()[0], groups, x.shape()[1] / groups];
    split.extend(&x.shape()[2..]);
    let axes: Vec<usize> = (2..split.len()).collect();
    let mut affine = vec![1; split.len() - 1];
    affine[0] = groups;
    if ctx.version() >= 21 {
        affine[1] = split[2];
    }
    for value in [&scale, &bias] {
        require(value.ty.elems() == affine.iter().product::<usize>(), || {
            format!("a tensor of type {} does not fit {groups} groups of {} channels", value.ty, split[2])
        })?;
    }
    let x = e.reshape(&x, split.clone());
    let (scale, bias) = (e.reshape(&scale, affine.clone()), e.reshape(&bias, affine));
    let epsilon = f64::from(ctx.attrs().float("epsilon", 1e-5)?);
    let statistics = Statistics::new(&mut e, &x, &axes, epsilon);
    let y = e.temp("grouped", x.dtype(), split);
    scaled(&mut e, &x, &statistics, Some(&scale), Some(&bias), &y)?;
    e.alias(&y, &out);
    Ok(())
}

/// The axes of MeanVarianceNormalization; before opset 9 whether the channels are among them.
fn mean_variance_axes<'a>(ctx: &Ctx<'a>) -> Result<&'a [i64]> {
    if ctx.version() >= 9 {
        return Ok(ctx.attrs().get_ints("axes")?.unwrap_or(&[0, 2, 3]));
    }
    Ok(if ctx.attrs().flag("across_channels", false)? { &[0, 1, 2, 3] } else { &[0, 2, 3] })
}

/// `(x - mean) / (sqrt(mean of squared difference) + 1e-9)`, as ONNX's function body; before opset 9 the
/// division may be left out.
fn mean_variance(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let axes = mean_variance_axes(ctx)?;
    let axes: Vec<usize> = axes.iter().map(|&a| ctx.axis(a, x.rank())).collect::<Result<_>>()?;
    let float = compute_type(x.dtype());
    let mean = mean(&mut e, &x, &axes);
    if ctx.version() < 9 && !ctx.attrs().flag("normalize_variance", true)? {
        e.define("", &out, |b| {
            let (elem, mean) = (b.broadcast(&x, float), b.broadcast(&mean, float));
            b.minus(elem, mean)
        });
        return Ok(());
    }
    let variance = variance(&mut e, &x, &mean, &axes);
    e.define("", &out, |b| {
        let (elem, mean, variance) =
            (b.broadcast(&x, float), b.broadcast(&mean, float), b.broadcast(&variance, float));
        let difference = b.minus(elem, mean);
        let deviation = b.op(Op::Sqrt, &[variance]);
        let deviation = b.plus_number(deviation, 1e-9);
        b.over(difference, deviation)
    });
    Ok(())
}

/// `x` divided by its p-norm along one axis; 0 where the norm is 0.
fn lp(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let axis = ctx.axis(ctx.attrs().int("axis", -1)?, x.rank())?;
    let p = ctx.attrs().int("p", 2)?;
    require(p == 1 || p == 2, || format!("attribute p is {p}, but only norms 1 and 2 are defined"))?;
    define_lp(&mut e, &x, &[axis], p as f64, &out);
    Ok(())
}

/// Defines `out` as `x` divided by its p-norm over `axes`; 0 where the norm is 0.
pub fn define_lp(e: &mut Emit, x: &Val, axes: &[usize], p: f64, out: &Val) {
    let float = compute_type(x.dtype());
    let body = |b: &mut DefBuilder, i: &[Affine]| {
        let x = b.elem(x, i, float);
        power(b, x, p)
    };
    let norm = e.reduce("norm", x.shape(), axes, Fold::Sum, body, |b, acc| root(b, acc, p));
    e.define("", out, |b| {
        let (elem, norm) = (b.broadcast(x, float), b.broadcast(&norm, float));
        let zero = b.number(float, 0.0);
        let none = b.op(Op::Eq, &[norm, zero]);
        let quotient = b.over(elem, norm);
        b.op(Op::Select, &[none, zero, quotient])
    });
}

/// A power of a positive number; by roots where the exponent is quarters, as nearly always.
fn power_of_quarters(b: &mut DefBuilder, x: ExprId, exponent: f64) -> ExprId {
    let quarters = exponent * 4.0;
    if quarters.fract() != 0.0 || !(1.0..8.0).contains(&quarters) {
        let exponent = b.number(b.dtype(x), exponent);
        return b.op(Op::Pow, &[x, exponent]);
    }
    let root = b.op(Op::Sqrt, &[x]);
    let fourth = b.op(Op::Sqrt, &[root]);
    let bits = [(1, fourth), (2, root), (4, x)];
    let factors = bits.into_iter().filter(|(bit, _)| quarters as u32 & bit != 0).map(|(_, f)| f);
    let power = factors.reduce(|a, f| b.times(a, f));
    power.unwrap_or_else(|| b.number(b.dtype(x), 1.0))
}

/// `x / (bias + alpha / size * sum of squares over neighbouring channels)^beta`.
fn lrn(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let size = ctx.attrs().int("size", 0)?;
    require(x.rank() >= 2 && (1..1 << 31).contains(&size), || {
        format!("size {size} over a tensor of type {} is not defined", x.ty)
    })?;
    let attr = |name, default| ctx.attrs().float(name, default).map(f64::from);
    let (alpha, beta, bias) = (attr("alpha", 1e-4)?, attr("beta", 0.75)?, attr("bias", 1.0)?);
    let float = compute_type(x.dtype());
    e.define("", &out, |b| {
        let k = b.reduce("k", size as usize);
        let mut index = b.axes();
        index[1] = index[1].plus(&k).offset(-((size - 1) / 2));
        let near = b.elem_or_zero(&x, &index, float);
        let square = b.times(near, near);
        let acc = b.fold(Fold::Sum, square);
        let sum = b.times_number(acc, alpha / size as f64);
        let sum = b.plus_number(sum, bias);
        let power = power_of_quarters(b, sum, beta);
        let elem = b.broadcast(&x, float);
        b.over(elem, power)
    });
    Ok(())
}
