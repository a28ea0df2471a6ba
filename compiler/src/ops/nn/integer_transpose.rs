//! Transposed convolutions of quantized tensors.
//!
//! ONNX has no integer operator for them; the quantized form of a model says `QuantizeLinear(ConvTranspose(
//! DequantizeLinear(x), DequantizeLinear(w)))`, which a pass turns into this one.

use super::conv_transpose::{Body, Phase, Place, Shape, define, read};
use super::integer::{Terms, Zero, check_quantized, known, shifted};
use super::integer_conv::{multiplier, single_zero};
use super::quantize::requantized;
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::ops::{Ctx, Operator};
use crate::scalar::Scalar;

/// The rows. Inputs are those of QLinearConv, attributes those of ConvTranspose; the weights are constants.
/// Without scale and zero point of the result, that is a float.
pub const ROWS: &[Operator] = &[Operator::internal("QLinearConvTranspose", infer, lower)];

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let to = ctx.optional(7).map_or(DType::F32, |zero| zero.ty.dtype);
    require(to.is_int() || ctx.optional(6).is_none(), || format!("{to} is not a quantized type"))?;
    check_quantized(ctx.ty(0)?)?;
    check_quantized(ctx.ty(3)?)?;
    Ok(vec![TensorType::new(to, read(ctx, 3)?.output(ctx.shape(0)?[0]))])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let shape = read(ctx, 3)?;
    let mut e = Emit::new(ctx, low);
    let (x, w, bias, out) = (e.input(0)?, e.input(3)?, e.optional(8), e.result()?);
    let channels = shape.groups * shape.outer;
    let elems = known(&e, &w).filter(|_| bias.as_ref().is_none_or(|b| b.shape() == [channels]));
    let (w, elems) = match (Zero::of(&e, 5), elems) {
        (Zero::None, Some(elems)) => (w, elems),
        (Zero::Known(zero), Some(elems)) if zero.len() == 1 => {
            let w = shifted(&mut e, &w, &elems, &zero, false, |_| 0);
            (w.value, w.elems.unwrap_or_default())
        }
        _ => return require(false, || "weights and their zero point must be constants".into()),
    };
    let x_zero = match Zero::of(&e, 2) {
        Zero::None => 0,
        Zero::Known(zero) if zero.len() == 1 => zero[0],
        _ => return require(false, || "the data's zero point must be one constant".into()),
    };
    let (scales, y_scale) = ([e.input(1)?, e.input(4)?], e.optional(6));
    let multiplier = multiplier(&mut e, &scales[0], &scales[1], y_scale.as_ref())?;
    let y_zero = if y_scale.is_some() { single_zero(&e, 7)? } else { None };
    let (to, fill) = (out.dtype(), Scalar::from_i64(x.dtype(), x_zero));
    define(&mut e, &out, x.shape()[0], &shape, |e, phases| {
        let sums = sums(&shape, w.shape(), &elems, phases, x_zero);
        let terms = terms(e, bias.clone(), (x_zero != 0).then_some(&sums), channels);
        Body {
            product: |b: &mut DefBuilder, at_x: &[Affine], at_w: &[Affine]| {
                let x = b.load_padded(x.id, &x.ty, at_x.to_vec(), fill);
                let (x, w) = (b.cast(DType::I32, x), b.elem(&w, at_w, DType::I32));
                b.times(x, w)
            },
            finish: {
                let (multiplier, y_zero) = (&multiplier, &y_zero);
                let each = (sums.len() / channels) as i64;
                move |b: &mut DefBuilder, acc: Option<ExprId>, place: Place| {
                    let acc = acc.unwrap_or_else(|| b.number(DType::I32, 0.0));
                    let acc = terms[0].apply(b, acc, &place.channel);
                    let acc = terms[1].apply(b, acc, &place.walked.plus_scaled(&place.channel, each));
                    scaled(b, acc, (multiplier, place.channel), y_zero.as_ref(), to)
                }
            },
        }
    })
}

/// A sum as a float, or in the steps of the result.
fn scaled(
    b: &mut DefBuilder,
    acc: ExprId,
    (multiplier, channel): (&Val, Affine),
    zero: Option<&Val>,
    to: DType,
) -> ExprId {
    let sum = b.cast(DType::F32, acc);
    let channel = if multiplier.ty.elems() == 1 { Affine::constant(0) } else { channel };
    let factor = b.elem(multiplier, &[channel], DType::F32);
    let zero = zero.map(|z| b.elem(z, &vec![Affine::constant(0); z.rank()], DType::F32));
    let value = b.times(sum, factor);
    if to.is_float() { value } else { requantized(b, value, zero, to) }
}

/// What is added to sums: by channel, and by channel and place among those that walk the window.
fn terms(e: &mut Emit, bias: Option<Val>, sums: Option<&Vec<i32>>, channels: usize) -> [Terms; 2] {
    let mut constant = |name: &str, list: &[i32]| e.constant(name, Tensor::new([list.len()], list));
    let each = sums.map_or(1, |sums| sums.len() / channels);
    let correction = sums.map(|sums| constant("correction", sums));
    if each == 1 {
        return [Terms::new(e, bias, correction), Terms::none()];
    }
    // A constant bias is joined with them.
    let known = bias.as_ref().and_then(|b| known(e, b));
    let Some(known) = known else { return [Terms::new(e, bias, None), Terms::new(e, None, correction)] };
    let repeated: Vec<i32> = known.iter().flat_map(|&b| std::iter::repeat_n(b as i32, each)).collect();
    let repeated = e.constant("biases", Tensor::new([repeated.len()], &repeated));
    [Terms::none(), Terms::new(e, Some(repeated), correction)]
}

/// `zero * sum of the weights` that a phase multiplies, of each output channel and, within it, each place that
/// walks the window; `w` is the weights' shape.
fn sums(shape: &Shape, w: &[usize], elems: &[i64], phases: &[Phase], zero: i64) -> Vec<i32> {
    // Lists of window points, one of each place that walks.
    let places = phases.iter().zip(&w[2..]).fold(vec![vec![0usize]], |all, (phase, &extent)| {
        let at = |q: i64| -> Vec<usize> {
            let points = 0..phase.points as i64;
            points.map(|j| phase.point(&Affine::constant(q), &Affine::constant(j)).base as usize).collect()
        };
        let walked: Vec<Vec<usize>> = (0..if phase.walks { phase.count as i64 } else { 1 }).map(at).collect();
        let joined = |list: &[usize], next: &[usize]| -> Vec<usize> {
            list.iter().flat_map(|&p| next.iter().map(move |&q| p * extent + q)).collect()
        };
        all.iter().flat_map(|list| walked.iter().map(move |next| joined(list, next))).collect()
    });
    let window: usize = w[2..].iter().product();
    (0..shape.groups * shape.outer)
        .flat_map(|m| {
            let (group, outer) = (m / shape.outer, m % shape.outer);
            let rows = (0..shape.inner).map(move |c| (group * shape.inner + c) * shape.outer + outer);
            places.iter().map(move |points| {
                let rows = rows.clone();
                let sum: i64 =
                    rows.flat_map(|row| points.iter().map(move |&p| elems[row * window + p])).sum();
                sum.wrapping_mul(zero) as i32
            })
        })
        .collect()
}
