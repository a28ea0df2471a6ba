//! Constants of audio models: windows and the mel weight matrix.

use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, numbers, require};
use crate::ops::{Ctx, DefineFn, Lower, Operator};
use crate::scalar::Op;
use std::cmp::Ordering;

const fn window(name: &'static str, lower: DefineFn) -> Operator {
    Operator {
        domain: "",
        name,
        versions: &[17],
        infer: infer_window,
        lower: Lower::Define(lower),
        note: "the size must be constant, or follow from dimensions",
    }
}

/// The rows.
pub const ROWS: &[Operator] = &[
    window("HannWindow", |c, l| lower_window(c, l, &[0.5, -0.5])),
    window("HammingWindow", |c, l| lower_window(c, l, &[25.0 / 46.0, -21.0 / 46.0])),
    window("BlackmanWindow", |c, l| lower_window(c, l, &[0.42, -0.5, 0.08])),
    Operator {
        domain: "",
        name: "MelWeightMatrix",
        versions: &[17],
        infer: infer_mel,
        lower: Lower::Define(lower_mel),
        note: "all inputs must be constant",
    },
];

fn output_type(ctx: &Ctx) -> Result<DType> {
    let number = ctx.attrs().int("output_datatype", 1)?;
    let dtype = DType::from_onnx(number).filter(|d| !d.is_small_float() && *d != DType::Bool);
    dtype.ok_or_else(|| Error::model(format!("output_datatype {number} is not supported")))
}

/// The only number of a constant input that is a size.
fn size(ctx: &Ctx, i: usize) -> Result<usize> {
    let value = numbers(ctx.constant(i)?)?.first().copied().unwrap_or(-1.0);
    require((0.0..1e9).contains(&value), || format!("input {i} is {value}, which is no size"))?;
    Ok(value as usize)
}

fn infer_window(ctx: &Ctx) -> Result<Vec<TensorType>> {
    Ok(vec![TensorType::new(output_type(ctx)?, [size(ctx, 0)?])])
}

/// The sum of `terms[k] * cos(2 pi k n / N)`: constants, or computed where N is known only at run time.
fn lower_window(ctx: &Ctx, low: &mut Lowering, terms: &[f64]) -> Result<()> {
    let size = size(ctx, 0)?;
    let period = if ctx.attrs().flag("periodic", true)? { size } else { size.saturating_sub(1) };
    if ctx.node.outputs[0].is_some_and(|out| ctx.graph.lengths(out, 0).is_some()) {
        return computed_window(ctx, low, terms, period);
    }
    let period = period.max(1) as f64;
    let at = |n: usize| -> f64 {
        let angle = std::f64::consts::TAU * n as f64 / period;
        terms.iter().enumerate().map(|(k, term)| term * (k as f64 * angle).cos()).sum()
    };
    store(ctx, low, &(0..size).map(at).collect::<Vec<f64>>())
}

/// The same as an expression.
fn computed_window(ctx: &Ctx, low: &mut Lowering, terms: &[f64], period: usize) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    e.define("", &out, |b| {
        let float = |b: &mut DefBuilder, form: Affine| {
            let number = b.index(form);
            b.cast(DType::F64, number)
        };
        let (place, period) = (float(b, b.var(0)), float(b, Affine::constant(period as i64)));
        let one = b.number(DType::F64, 1.0);
        let period = b.op(Op::Max, &[period, one]);
        let turn = b.over(place, period);
        let mut sum = b.number(DType::F64, terms[0]);
        for (k, &term) in terms.iter().enumerate().skip(1) {
            let angle = b.times_number(turn, k as f64 * std::f64::consts::TAU);
            let wave = b.op(Op::Cos, &[angle]);
            let wave = b.times_number(wave, term);
            sum = b.plus(sum, wave);
        }
        b.cast(out.dtype(), sum)
    });
    Ok(())
}

fn store(ctx: &Ctx, low: &mut Lowering, values: &[f64]) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let shape = out.shape().to_vec();
    let table = e.table("table", out.dtype(), &shape, values);
    e.alias(&table, &out);
    Ok(())
}

fn infer_mel(ctx: &Ctx) -> Result<Vec<TensorType>> {
    (2..5).try_for_each(|i| ctx.constant(i).map(|_| ()))?;
    Ok(vec![TensorType::new(output_type(ctx)?, [size(ctx, 1)? / 2 + 1, size(ctx, 0)?])])
}

/// Triangles between bins that are equally spaced on the mel scale, `[spectrum bins, mel bins]`.
fn lower_mel(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (mels, length) = (size(ctx, 0)?, size(ctx, 1)?);
    let number = |i| Ok::<f64, Error>(numbers(ctx.constant(i)?)?.first().copied().unwrap_or(0.0));
    let (rate, lower, upper) = (number(2)?, number(3)?, number(4)?);
    require(rate > 0.0 && lower >= 0.0 && upper >= lower, || {
        format!("frequencies {lower} to {upper} at a sample rate of {rate} are not defined")
    })?;
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(upper) - mel(lower)) / (mels + 2) as f64;
    let bin = |i: usize| {
        let hertz = 700.0 * (10f64.powf((i as f64 * step + mel(lower)) / 2595.0) - 1.0);
        ((length + 1) as f64 * hertz / rate).floor() as usize
    };
    let spectrum = length / 2 + 1;
    let mut matrix = vec![0.0; spectrum * mels];
    for m in 0..mels {
        let (low_bin, centre, high) = (bin(m), bin(m + 1), bin(m + 2));
        for j in low_bin..=high.min(spectrum.saturating_sub(1)) {
            let ratio = |a: usize, b: usize| a as f64 / b as f64;
            matrix[j * mels + m] = match j.cmp(&centre) {
                Ordering::Less => ratio(j - low_bin, centre - low_bin),
                Ordering::Equal => 1.0,
                Ordering::Greater => ratio(high - j, high - centre),
            };
        }
    }
    store(ctx, low, &matrix)
}
