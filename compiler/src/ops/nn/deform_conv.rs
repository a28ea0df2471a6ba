//! DeformConv: the input is sampled between its elements at the shifted window points, then
//! convolved.

use super::conv::{self, Shape};
use super::sample::{Taps, linear_taps, weighted};
use super::window::Slide;
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, Index, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::Op;

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "",
    name: "DeformConv",
    versions: &[19, 22],
    infer,
    lower: Lower::Define(lower),
    note: "",
}];

struct Offsets {
    shape: Shape,
    groups: usize,
}

fn read(ctx: &Ctx) -> Result<Offsets> {
    let (x, w, offset) = (ctx.shape(0)?, ctx.shape(1)?, ctx.shape(2)?);
    let shape = Shape::read(ctx, x, w)?;
    let dims = shape.slides.len();
    let points: usize = w[2..].iter().product();
    let groups = usize::try_from(ctx.attrs().int("offset_group", 1)?).unwrap_or(0);
    let outputs: Vec<usize> = shape.slides.iter().map(|s| s.output).collect();
    let fits = |shape: &[usize], per_point: usize| {
        shape.len() == x.len()
            && shape[0] == x[0]
            && shape[1] == groups * points * per_point
            && shape[2..] == outputs
    };
    let mask = ctx.optional(4).is_none_or(|m| fits(&m.ty.shape, 1));
    require(groups > 0 && x[1].is_multiple_of(groups) && fits(offset, dims) && mask, || {
        format!("offsets of shape {offset:?} do not fit {points} points in {groups} groups")
    })?;
    Ok(Offsets { shape, groups })
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, w) = (ctx.ty(0)?, ctx.ty(1)?);
    require(x.dtype.is_float() && w.dtype == x.dtype, || format!("it is not defined for {x} and {w}"))?;
    let bias = ctx.optional(3).is_none_or(|b| b.ty.shape == w.shape[..1] && b.ty.dtype == x.dtype);
    require(bias, || format!("the bias does not fit the weights {w}"))?;
    Ok(vec![TensorType::new(x.dtype, read(ctx)?.shape.output())])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let offsets = read(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (w, bias, out) = (e.input(1)?, e.optional(3), e.result()?);
    let float = compute_type(out.dtype());
    let sampled = sample(&mut e, &offsets, float)?;
    let dims = offsets.shape.slides.len();
    conv::define(
        &mut e,
        &out,
        &offsets.shape,
        |b, at_x, at_w| {
            // The window point is an index of its own here; the position is the output's.
            let mut index = at_x[..2].to_vec();
            index.extend(at_w[2..].iter().cloned());
            let first = b.axes().len() - dims;
            index.extend((first..first + dims).map(|i| b.var(i)).collect::<Vec<_>>());
            let (x, w) = (b.elem(&sampled, &index, float), b.elem(&w, at_w, float));
            b.times(x, w)
        },
        |b, point| {
            let Some(bias) = &bias else { return point.acc };
            let bias = b.elem(bias, std::slice::from_ref(point.channel), float);
            b.plus(point.acc, bias)
        },
    );
    Ok(())
}

/// Where each window point of each output lies along each dimension of the input, which the channels of a group share:
/// the element at or before it, and how far behind that it is, `[N, groups, K..., O...]` each.
fn places(
    e: &mut Emit,
    slides: &[Slide],
    offset: &Val,
    float: DType,
    extents: Vec<usize>,
) -> Vec<(Val, Val)> {
    let dims = slides.len();
    let place = |(d, slide): (usize, &Slide)| {
        let coordinate = |b: &mut DefBuilder| {
            let mut index = b.axes();
            index.insert(2 + dims, Affine::constant(d as i64));
            let shift = b.elem(offset, &index, float);
            let plain = slide.index(&b.var(2 + dims + d), &b.var(2 + d));
            let plain = b.index(plain);
            let plain = b.cast(float, plain);
            b.plus(plain, shift)
        };
        let start = e.map("start", DType::I64, extents.clone(), |b| {
            let x = coordinate(b);
            b.op(Op::Floor, &[x])
        });
        let fraction = e.map("fraction", float, extents.clone(), |b| {
            let x = coordinate(b);
            let floor = b.op(Op::Floor, &[x]);
            b.minus(x, floor)
        });
        (start, fraction)
    };
    slides.iter().enumerate().map(place).collect()
}

/// `[N, C, K..., O...]`: what each window point of each output sees.
fn sample(e: &mut Emit, offsets: &Offsets, float: DType) -> Result<Val> {
    let (x, offset, mask) = (e.input(0)?, e.input(2)?, e.optional(4));
    let Offsets { shape, groups } = offsets;
    let (batch, channels) = (x.shape()[0], x.shape()[1]);
    let dims = shape.slides.len();
    let kernel: Vec<usize> = shape.slides.iter().map(|s| s.kernel).collect();
    let output: Vec<usize> = shape.slides.iter().map(|s| s.output).collect();
    let split =
        |head: &[usize], per_point: &[usize]| -> Vec<usize> { [head, &kernel, per_point, &output].concat() };
    let offset = e.reshape(&offset, split(&[batch, *groups], &[dims]));
    let mask = mask.map(|m| e.reshape(&m, split(&[batch, *groups], &[])));
    let parts = places(e, &shape.slides, &offset, float, split(&[batch, *groups], &[]));
    let whole = e.temp("sampled", float, split(&[batch, channels], &[]));
    // The channel is two axes: its group and its place within it.
    let per_group = channels / groups;
    let mut extents = split(&[batch, *groups], &[]);
    extents.insert(2, per_group);
    let axes: Vec<Affine> = (0..extents.len()).map(|i| Affine::var(i as u32)).collect();
    let channel = axes[1].scaled(per_group as i64).plus(&axes[2]);
    let mut store = axes.clone();
    store.splice(1..3, [channel.clone()]);
    e.define_at("sampled", &whole, &extents, store, |b| {
        let mut place = axes.clone();
        place.remove(2);
        let taps: Vec<Taps> = parts
            .iter()
            .map(|(start, fraction)| {
                let (start, fraction) = (b.elem(start, &place, DType::I64), b.elem(fraction, &place, float));
                linear_taps(b, start, fraction)
            })
            .collect();
        let prefix = [Index::Affine(axes[0].clone()), Index::Affine(channel)];
        let value = weighted(b, &x, &prefix, &taps, true, float);
        let Some(mask) = &mask else { return value };
        let mask = b.elem(mask, &place, float);
        b.times(value, mask)
    });
    Ok(whole)
}
