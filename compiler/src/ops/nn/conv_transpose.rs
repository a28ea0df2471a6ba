//! Transposed convolution, by phases: the outputs at which the same window points meet input
//! elements are one definition, a plain convolution; no zero is multiplied. Where the input has one element,
//! as a decoder's code has, each output meets one point of the window: that is a product of matrices.

use super::window::{explicit_pads, positive};
use crate::base::{Affine, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::Fold;

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "",
    name: "ConvTranspose",
    versions: &[1, 11, 22],
    infer,
    lower: Lower::Define(lower),
    note: "",
}];

/// One spatial dimension: output `o` is the sum over `i`, `k` with
/// `o = stride * i + dilation * k - before`.
pub struct Spread {
    /// Extent of the input.
    pub input: usize,
    /// Number of points of the window.
    pub kernel: usize,
    /// Output steps between two inputs.
    pub stride: usize,
    /// Output steps between two points of the window.
    pub dilation: usize,
    /// Outputs cut off at the beginning.
    pub before: i64,
    /// Extent of the output.
    pub output: usize,
    /// Whether the only input meets each output at a point of the window of its own.
    pub lone: bool,
}

/// The sizes of a transposed convolution.
pub struct Shape {
    /// Groups of channels.
    pub groups: usize,
    /// Input channels of a group.
    pub inner: usize,
    /// Output channels of a group.
    pub outer: usize,
    /// The spatial dimensions.
    pub spreads: Vec<Spread>,
}

/// Reads a node's attributes for data `[N, C, D...]`, input 0, and weights `[C, M/groups, K...]`.
pub fn read(ctx: &Ctx, weights: usize) -> Result<Shape> {
    let (x, w) = (ctx.shape(0)?, ctx.shape(weights)?);
    require(x.len() >= 3 && x.len() == w.len(), || {
        format!("a transposed convolution of {x:?} with weights {w:?} is not defined")
    })?;
    let groups = usize::try_from(ctx.attrs().int("group", 1)?).unwrap_or(0);
    require(
        groups > 0 && x[1] == w[0] && x[1].is_multiple_of(groups) && w[2..].iter().all(|&k| k > 0),
        || format!("weights {w:?} do not fit {} channels in {groups} groups", x[1]),
    )?;
    if let Some(kernel) = ctx.attrs().get_ints("kernel_shape")? {
        require(kernel.iter().map(|&k| k as usize).eq(w[2..].iter().copied()), || {
            format!("kernel_shape {kernel:?} differs from the weights' {:?}", &w[2..])
        })?;
    }
    Ok(Shape { groups, inner: x[1] / groups, outer: w[1], spreads: spreads(ctx, &x[2..], &w[2..])? })
}

impl Shape {
    /// The output's shape.
    pub fn output(&self, batch: usize) -> Vec<usize> {
        let outer = [batch, self.groups * self.outer];
        outer.into_iter().chain(self.spreads.iter().map(|s| s.output)).collect()
    }
}

fn spreads(ctx: &Ctx, input: &[usize], kernel: &[usize]) -> Result<Vec<Spread>> {
    let dims = input.len();
    let strides = positive(ctx, "strides", dims, 1)?;
    let dilations = positive(ctx, "dilations", dims, 1)?;
    let auto = ctx.attrs().str("auto_pad", "NOTSET")?;
    let pads = if auto == "NOTSET" { explicit_pads(ctx, dims)? } else { vec![(0, 0); dims] };
    let extra = ints(ctx, "output_padding", dims)?.unwrap_or(vec![0; dims]);
    let wanted = ints(ctx, "output_shape", dims)?;
    let moves = |dim: usize| ctx.node.inputs[0].is_some_and(|x| ctx.graph.lengths(x, dim).is_some());
    (0..dims)
        .map(|i| {
            let full = (strides[i] * input[i].saturating_sub(1)) as i64
                + extra[i]
                + (dilations[i] * (kernel[i] - 1)) as i64
                + 1;
            let same = auto == "SAME_UPPER" || auto == "SAME_LOWER";
            let target = match &wanted {
                Some(shape) => Some(shape[i]),
                None if same => Some((input[i] * strides[i]) as i64),
                None => None,
            };
            let (before, output) = match target {
                Some(target) => {
                    let total = (full - target).max(0);
                    let less = total / 2;
                    // As ONNX: SAME_UPPER puts the odd one after, all others before.
                    (if auto == "SAME_UPPER" { less } else { total - less }, target)
                }
                None => (pads[i].0 as i64, full - (pads[i].0 + pads[i].1) as i64),
            };
            let output = usize::try_from(output).map_err(|_| {
                Error::model(format!("the padding leaves an output of {output} in spatial dimension {i}"))
            })?;
            let (stride, dilation) = (strides[i], dilations[i]);
            let met = 0..=kernel[i] as i64 - output as i64;
            let lone = input[i] == 1 && dilation == 1 && met.contains(&before) && !moves(2 + i);
            Ok(Spread { input: input[i], kernel: kernel[i], stride, dilation, before, output, lone })
        })
        .collect()
}

/// Numbers, not negative, one per spatial dimension (an output shape may include batch and channel).
fn ints(ctx: &Ctx, name: &str, dims: usize) -> Result<Option<Vec<i64>>> {
    let Some(values) = ctx.attrs().get_ints(name)? else { return Ok(None) };
    require(values.len() >= dims && values.iter().all(|&v| (0..1 << 31).contains(&v)), || {
        format!("attribute {name} {values:?} does not fit {dims} spatial dimensions")
    })?;
    Ok(Some(values[values.len() - dims..].to_vec()))
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, w) = (ctx.ty(0)?, ctx.ty(1)?);
    require(x.dtype.is_float() && w.dtype == x.dtype, || {
        format!("a transposed convolution of {} with {} is not defined", x.dtype, w.dtype)
    })?;
    let s = read(ctx, 1)?;
    if let Some(bias) = ctx.optional(2) {
        require(bias.ty.shape == [s.groups * s.outer] && bias.ty.dtype == x.dtype, || {
            format!("a bias of type {} does not fit {} output channels", bias.ty, s.groups * s.outer)
        })?;
    }
    Ok(vec![TensorType::new(x.dtype, s.output(x.shape[0]))])
}

/// The outputs `every * q + first`, `q < count`, of one dimension: window points
/// `point + step * i` meet inputs `q + from - back * i`, `i < points`. They are taken from the last to
/// the first, so that the window walks the input forward, as that of a convolution does. Around a lone input
/// outputs walk the window instead: point `point + q` meets the input.
#[derive(Clone, Copy)]
pub struct Phase {
    /// The first output.
    pub first: usize,
    /// How many outputs.
    pub count: usize,
    /// How many window points meet them.
    pub points: usize,
    /// From one output to the next.
    pub every: usize,
    /// Whether outputs walk the window, not the input.
    pub walks: bool,
    point: usize,
    step: usize,
    from: i64,
    back: i64,
}

impl Phase {
    /// The `j`-th window point from the end at the `q`-th output.
    pub fn point(&self, q: &Affine, j: &Affine) -> Affine {
        let last = self.step * self.points.saturating_sub(1);
        let point = j.scaled(-(self.step as i64)).offset((self.point + last) as i64);
        if self.walks { point.plus(q) } else { point }
    }

    /// The input that the `j`-th window point from the end meets at the `q`-th output.
    pub fn input(&self, q: &Affine, j: &Affine) -> Affine {
        if self.walks {
            return Affine::constant(0);
        }
        let last = self.back * self.points.saturating_sub(1) as i64;
        q.plus_scaled(j, self.back).offset(self.from - last)
    }

    /// The `q`-th output.
    pub fn output(&self, q: &Affine) -> Affine {
        q.scaled(self.every as i64).offset(self.first as i64)
    }
}

/// All combinations of the phases of the dimensions.
pub fn combinations(spreads: &[Spread]) -> Vec<Vec<Phase>> {
    spreads.iter().fold(vec![Vec::new()], |all, spread| {
        let phases = spread.phases();
        all.iter().flat_map(|c| phases.iter().map(|&p| c.iter().copied().chain([p]).collect())).collect()
    })
}

impl Spread {
    fn phases(&self) -> Vec<Phase> {
        let (stride, dilation) = (self.stride as i64, self.dilation as i64);
        if self.lone {
            let (count, point) = (self.output, self.before as usize);
            let one =
                Phase { first: 0, count, points: 1, every: 1, walks: true, point, step: 1, from: 0, back: 1 };
            return vec![one];
        }
        (0..self.stride.min(self.output))
            .map(|first| {
                // The phase's outputs meet points k with dilation * k = first + before (mod stride).
                let fits = |k: &usize| (first as i64 + self.before - dilation * *k as i64) % stride == 0;
                let points: Vec<usize> = (0..self.kernel).filter(fits).collect();
                let point = points.first().copied().unwrap_or(0);
                let step = points.get(1).map_or(1, |k| k - point);
                Phase {
                    first,
                    count: (self.output - first).div_ceil(self.stride),
                    every: self.stride,
                    walks: false,
                    point,
                    step,
                    points: points.len(),
                    from: (first as i64 + self.before - dilation * point as i64) / stride,
                    back: step as i64 * dilation / stride,
                }
            })
            .collect()
    }
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let shape = read(ctx, 1)?;
    let mut e = Emit::new(ctx, low);
    let (x, w, bias, out) = (e.input(0)?, e.input(1)?, e.optional(2), e.result()?);
    let float = compute_type(x.dtype());
    define(&mut e, &out, x.shape()[0], &shape, |_, _| Body {
        product: |b: &mut DefBuilder, at_x: &[Affine], at_w: &[Affine]| {
            let (x, w) = (b.elem_or_zero(&x, at_x, float), b.elem(&w, at_w, float));
            b.times(x, w)
        },
        finish: |b: &mut DefBuilder, acc: Option<ExprId>, place: Place| {
            let bias = bias.as_ref().map(|bias| b.elem(bias, &[place.channel], float));
            match (acc, bias) {
                (Some(acc), Some(bias)) => b.plus(acc, bias),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => b.number(float, 0.0),
            }
        },
    })
}

/// What the points of a phase are computed by.
pub struct Body<P, F> {
    /// A product, of the elements at indices of data and weights.
    pub product: P,
    /// What is stored for a sum, if the phase has one, at a place.
    pub finish: F,
}

/// Which numbers of its weights an output is computed with.
pub struct Place {
    /// The output channel.
    pub channel: Affine,
    /// The output among those of its channel that walk the window.
    pub walked: Affine,
}

/// Defines a transposed convolution; `body` is asked for each phase.
pub fn define<P, F>(
    e: &mut Emit,
    out: &Val,
    batch: usize,
    shape: &Shape,
    mut body: impl FnMut(&mut Emit, &[Phase]) -> Body<P, F>,
) -> Result<()>
where
    P: FnOnce(&mut DefBuilder, &[Affine], &[Affine]) -> ExprId,
    F: FnOnce(&mut DefBuilder, Option<ExprId>, Place) -> ExprId,
{
    require(shape.spreads.iter().all(|s| s.input > 0), || {
        "a transposed convolution of an empty tensor is not supported".into()
    })?;
    let combinations = combinations(&shape.spreads);
    for (i, phases) in combinations.iter().enumerate() {
        let what = if combinations.len() == 1 { String::new() } else { format!("phase{i}") };
        let body = body(e, phases);
        define_phase(e, &what, (out, batch), shape, phases, body);
    }
    Ok(())
}

fn define_phase<P, F>(
    e: &mut Emit,
    what: &str,
    (out, batch): (&Val, usize),
    shape: &Shape,
    phases: &[Phase],
    body: Body<P, F>,
) where
    P: FnOnce(&mut DefBuilder, &[Affine], &[Affine]) -> ExprId,
    F: FnOnce(&mut DefBuilder, Option<ExprId>, Place) -> ExprId,
{
    let axis = |i: usize| Affine::var(i as u32);
    let mut extents = vec![batch];
    let (group, outer) = if shape.groups == 1 {
        extents.push(shape.outer);
        (Affine::constant(0), axis(1))
    } else {
        extents.extend([shape.groups, shape.outer]);
        (axis(1), axis(2))
    };
    let channel = group.scaled(shape.outer as i64).plus(&outer);
    let first = extents.len();
    extents.extend(phases.iter().map(|p| p.count));
    let mut store = vec![axis(0), channel.clone()];
    store.extend(phases.iter().enumerate().map(|(i, p)| p.output(&axis(first + i))));
    let walks = phases.iter().enumerate().filter(|(_, p)| p.walks);
    let walked =
        walks.fold(Affine::constant(0), |at, (i, p)| at.scaled(p.count as i64).plus(&axis(first + i)));
    let place = Place { channel, walked };
    e.define_at(what, out, &extents, store, |b| {
        if phases.iter().any(|p| p.points == 0) {
            return (body.finish)(b, None, place);
        }
        let c = b.reduce("c", shape.inner);
        let c = group.scaled(shape.inner as i64).plus(&c);
        let mut at_x = vec![axis(0), c.clone()];
        let mut at_w = vec![c, outer];
        for (i, p) in phases.iter().enumerate() {
            let j = b.reduce(&format!("k{i}"), p.points);
            at_x.push(p.input(&axis(first + i), &j));
            at_w.push(p.point(&axis(first + i), &j));
        }
        let product = (body.product)(b, &at_x, &at_w);
        let acc = b.fold(Fold::Sum, product);
        (body.finish)(b, Some(acc), place)
    });
}
