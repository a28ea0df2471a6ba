//! Convolution of 1 to 3 (or more) spatial dimensions, with groups, dilations and bias.

use super::activation::Activation;
use super::window::{Slide, window_index, windows};
use crate::base::{Affine, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::Fold;

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "Conv",
        versions: &[1, 11, 22],
        infer,
        lower: Lower::Define(conv),
        note: "",
    },
    Operator {
        domain: "com.microsoft",
        name: "FusedConv",
        versions: &[1],
        infer,
        lower: Lower::Define(conv),
        note: "",
    },
];

/// The shape of a convolution of `x[N, C, D...]` with `w[M, C/groups, K...]`.
#[derive(Clone)]
pub struct Shape {
    /// Groups of channels.
    pub groups: usize,
    /// Batch.
    pub batch: usize,
    /// Input channels of one group.
    pub inner: usize,
    /// Output channels of one group.
    pub outer: usize,
    /// One window per spatial dimension.
    pub slides: Vec<Slide>,
}

impl Shape {
    /// Reads the attributes of a convolution of inputs of the given shapes.
    pub fn read(ctx: &Ctx, x: &[usize], w: &[usize]) -> Result<Shape> {
        require(x.len() >= 3 && x.len() == w.len(), || {
            format!(
                "a convolution of {x:?} with weights {w:?} is not defined: the ranks must be equal, and at least 3"
            )
        })?;
        let groups = usize::try_from(ctx.attrs().int("group", 1)?).unwrap_or(0);
        require(groups > 0 && x[1] == groups * w[1] && w[0].is_multiple_of(groups), || {
            format!("weights {w:?} do not fit {} channels in {groups} groups", x[1])
        })?;
        if let Some(kernel) = ctx.attrs().get_ints("kernel_shape")? {
            require(kernel.iter().map(|&k| k as usize).eq(w[2..].iter().copied()), || {
                format!("kernel_shape {kernel:?} differs from the weights' {:?}", &w[2..])
            })?;
        }
        let slides = windows(ctx, &x[2..], &w[2..], false)?;
        Ok(Shape { groups, batch: x[0], inner: w[1], outer: w[0] / groups, slides })
    }

    /// Shape of the output.
    pub fn output(&self) -> Vec<usize> {
        let mut shape = vec![self.batch, self.groups * self.outer];
        shape.extend(self.slides.iter().map(|s| s.output));
        shape
    }
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, w) = (ctx.ty(0)?, ctx.ty(1)?);
    require(x.dtype.is_float() && w.dtype == x.dtype, || {
        format!("a convolution of {} with {} is not defined", x.dtype, w.dtype)
    })?;
    let shape = Shape::read(ctx, &x.shape, &w.shape)?;
    if let Some(bias) = ctx.optional(2) {
        require(bias.ty.shape == [w.shape[0]] && bias.ty.dtype == x.dtype, || {
            format!("a bias of type {} does not fit {} output channels", bias.ty, w.shape[0])
        })?;
    }
    Ok(vec![TensorType::new(x.dtype, shape.output())])
}

/// What `finish` of a convolution sees.
pub struct Point<'a> {
    /// The folded sum.
    pub acc: ExprId,
    /// The output channel.
    pub channel: &'a Affine,
    /// The group that it is one of.
    pub group: &'a Affine,
    /// The index in the output.
    pub index: &'a [Affine],
}

/// Defines a convolution: the sum over channels and window of `body(index of x, index of w)`,
/// then `finish`. One axis per output dimension; with groups, the channel is two axes, or one
/// where a group has one output channel (depthwise).
pub fn define(
    e: &mut Emit,
    out: &Val,
    shape: &Shape,
    body: impl FnOnce(&mut DefBuilder, &[Affine], &[Affine]) -> ExprId,
    finish: impl FnOnce(&mut DefBuilder, Point) -> ExprId,
) {
    let axis = |i: usize| Affine::var(i as u32);
    let mut extents = vec![shape.batch];
    let (group, channel) = match (shape.groups, shape.outer) {
        (1, m) => {
            extents.push(m);
            (Affine::constant(0), axis(1))
        }
        (g, 1) => {
            extents.push(g);
            (axis(1), axis(1))
        }
        (g, m) => {
            extents.extend([g, m]);
            (axis(1), axis(1).scaled(m as i64).plus(&axis(2)))
        }
    };
    let first = extents.len();
    extents.extend(shape.slides.iter().map(|s| s.output));
    let mut store = vec![axis(0), channel.clone()];
    store.extend((first..extents.len()).map(axis));
    let index = store.clone();
    e.define_at("", out, &extents, store, |b| {
        let c = b.reduce("c", shape.inner);
        let (spatial, points) = window_index(b, first, &shape.slides);
        let mut at_x = vec![axis(0), group.scaled(shape.inner as i64).plus(&c)];
        at_x.extend(spatial);
        let mut at_w = vec![channel.clone(), c];
        at_w.extend(points);
        let product = body(b, &at_x, &at_w);
        let acc = b.fold(Fold::Sum, product);
        finish(b, Point { acc, channel: &channel, group: &group, index: &index })
    });
}

/// A convolution of a tensor (zeros where padded) with weights in float, the bias of each channel
/// added before `finish`.
pub fn weighted(
    e: &mut Emit,
    out: &Val,
    shape: &Shape,
    (x, w, bias): (&Val, &Val, Option<&Val>),
    finish: impl FnOnce(&mut DefBuilder, Point) -> ExprId,
) {
    let float = compute_type(x.dtype());
    define(
        e,
        out,
        shape,
        |b, at_x, at_w| {
            let (x, w) = (b.elem_or_zero(x, at_x, float), b.elem(w, at_w, float));
            b.times(x, w)
        },
        |b, point| {
            let Some(bias) = bias else { return finish(b, point) };
            let bias = b.elem(bias, std::slice::from_ref(point.channel), float);
            let acc = b.plus(point.acc, bias);
            finish(b, Point { acc, ..point })
        },
    );
}

/// Conv, and FusedConv: a tensor may be added, then an activation applied.
fn conv(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, w, bias, residual) = (e.input(0)?, e.input(1)?, e.optional(2), e.optional(3));
    let shape = Shape::read(ctx, x.shape(), w.shape())?;
    let out = e.result()?;
    if let Some(z) = &residual {
        require(z.ty == out.ty, || {
            format!("input Z of type {} is not of the output's type {}", z.ty, out.ty)
        })?;
    }
    let activation = Activation::of_fused(ctx)?;
    let float = compute_type(x.dtype());
    weighted(&mut e, &out, &shape, (&x, &w, bias.as_ref()), |b, point| {
        let mut sum = point.acc;
        if let Some(z) = &residual {
            let z = b.elem(z, point.index, float);
            sum = b.plus(sum, z);
        }
        activation.iter().fold(sum, |sum, a| a.apply(b, sum))
    });
    Ok(())
}
