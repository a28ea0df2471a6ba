//! Fused operators of com.microsoft: normalizations with what precedes them, GELU with bias.

use super::normalize::{Statistics, check_broadcast, scaled};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, DefineFn, InferFn, Operator};
use crate::scalar::{Fold, Op};

const fn row(name: &'static str, infer: InferFn, lower: DefineFn) -> Operator {
    Operator::define("com.microsoft", name, &[1], infer, lower)
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("SkipLayerNormalization", infer_skip, |c, l| skip(c, l, true)),
    row("SkipSimplifiedLayerNormalization", infer_skip, |c, l| skip(c, l, false)),
    row("EmbedLayerNormalization", infer_embed, embed),
    row("Gelu", infer_same, |c, l| activation(c, l, gelu)),
    row("BiasGelu", infer_same, |c, l| activation(c, l, gelu)),
    row("FastGelu", infer_same, |c, l| activation(c, l, fast_gelu)),
    row("QuickGelu", infer_same, quick_gelu),
];

fn infer_skip(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float() && x.rank() >= 1, || format!("it is not defined for {x}"))?;
    let mut statistics = x.shape.clone();
    statistics[x.rank() - 1] = 1;
    let statistics = TensorType::new(DType::F32, statistics);
    Ok(vec![x.clone(), statistics.clone(), statistics, x.clone()])
}

/// Normalizes `input + skip + bias`; output 3 is that sum.
fn skip(ctx: &Ctx, low: &mut Lowering, centred: bool) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, other, gamma, out) = (e.input(0)?, e.input(1)?, e.input(2)?, e.result()?);
    let (beta, bias) = if centred { (e.optional(3), e.optional(4)) } else { (None, e.optional(3)) };
    check_broadcast(&other, x.shape(), "the skip")?;
    let float = compute_type(x.dtype());
    if let Some(bias) = &bias {
        check_broadcast(bias, x.shape(), "a bias")?;
    }
    let sum = match e.output(3) {
        Some(sum) => sum,
        None => e.temp("sum", float, x.shape()),
    };
    e.define("sum", &sum, |b| {
        let (x, other) = (b.broadcast(&x, float), b.broadcast(&other, float));
        let sum = b.plus(x, other);
        let Some(bias) = &bias else { return sum };
        let bias = b.broadcast(bias, float);
        b.plus(sum, bias)
    });
    let axes = [x.rank() - 1];
    let epsilon = f64::from(ctx.attrs().float("epsilon", 1e-5)?);
    let statistics = match centred {
        true => Statistics::new(&mut e, &sum, &axes, epsilon),
        false => Statistics::root_mean_square(&mut e, &sum, &axes, epsilon),
    };
    scaled(&mut e, &sum, &statistics, Some(&gamma), beta.as_ref(), &out)?;
    for (i, value) in [(1, statistics.mean.as_ref()), (2, Some(&statistics.inverse))] {
        let Some(out) = e.output(i) else { continue };
        let value = value.ok_or_else(|| {
            Error::model("output 1, the mean, is not computed where rows are not centred")
                .advise("Leave the output out")
        })?;
        e.define("statistics", &out, |b| b.broadcast(value, value.dtype()));
    }
    Ok(())
}

fn infer_embed(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (ids, words) = (ctx.ty(0)?, ctx.ty(2)?);
    require(ids.rank() == 2 && words.rank() == 2 && words.dtype.is_float(), || {
        format!("an embedding of {ids} in {words} is not defined")
    })?;
    let embedding = TensorType::new(words.dtype, [ids.shape[0], ids.shape[1], words.shape[1]]);
    Ok(vec![embedding.clone(), TensorType::new(DType::I32, [ids.shape[0]]), embedding])
}

/// The sum of word, position and segment embeddings, normalized; output 1 counts the mask.
fn embed(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (ids, segments, words, places, kinds) =
        (e.input(0)?, e.optional(1), e.input(2)?, e.input(3)?, e.optional(4));
    let (gamma, beta, mask, positions, out) =
        (e.input(5)?, e.input(6)?, e.optional(7), e.optional(8), e.result()?);
    let float = compute_type(words.dtype());
    let tables = [Some(&words), Some(&places), kinds.as_ref()];
    for table in tables.into_iter().flatten() {
        require(table.rank() == 2 && table.shape()[1] == out.shape()[2], || {
            format!("a table of type {} does not fit", table.ty)
        })?;
    }
    let sum = match e.output(2) {
        Some(sum) => sum,
        None => e.temp("sum", float, out.shape()),
    };
    let lookup = |b: &mut DefBuilder, table: &Val, row: Index| {
        let column = Index::Affine(b.var(2));
        b.elem_at(table, vec![row, column], float)
    };
    e.define("sum", &sum, |b| {
        let at = [b.var(0), b.var(1)];
        let id = b.elem(&ids, &at, DType::I64);
        let mut total = lookup(b, &words, Index::Dynamic(id));
        let place = match &positions {
            Some(p) => {
                let batch = if p.shape()[0] == 1 { Affine::constant(0) } else { b.var(0) };
                Index::Dynamic(b.elem(p, &[batch, b.var(1)], DType::I64))
            }
            None => Index::Affine(b.var(1)),
        };
        let place = lookup(b, &places, place);
        total = b.plus(total, place);
        if let (Some(segments), Some(kinds)) = (&segments, &kinds) {
            let kind = b.elem(segments, &at, DType::I64);
            let kind = lookup(b, kinds, Index::Dynamic(kind));
            total = b.plus(total, kind);
        }
        total
    });
    let epsilon = f64::from(ctx.attrs().float("epsilon", 1e-12)?);
    let statistics = Statistics::new(&mut e, &sum, &[2], epsilon);
    scaled(&mut e, &sum, &statistics, Some(&gamma), Some(&beta), &out)?;
    if let Some(counts) = e.output(1) {
        e.define("counts", &counts, |b| match &mask {
            Some(mask) => {
                let s = b.reduce("s", ids.shape()[1]);
                let elem = b.elem(mask, &[b.var(0), s], DType::I32);
                b.fold(Fold::Sum, elem)
            }
            None => b.number(DType::I32, 0.0),
        });
    }
    Ok(())
}

fn infer_same(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float(), || format!("it is not defined for {x}"))?;
    Ok(vec![x.clone()])
}

/// A function of the input plus an optional bias.
fn activation(ctx: &Ctx, low: &mut Lowering, f: fn(&mut DefBuilder, ExprId) -> ExprId) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, bias, out) = (e.input(0)?, e.optional(1), e.result()?);
    let float = compute_type(x.dtype());
    if let Some(bias) = &bias {
        check_broadcast(bias, x.shape(), "a bias")?;
    }
    e.define("", &out, |b| {
        let mut value = b.broadcast(&x, float);
        if let Some(bias) = &bias {
            let bias = b.broadcast(bias, float);
            value = b.plus(value, bias);
        }
        f(b, value)
    });
    Ok(())
}

/// `x / 2 * (1 + erf(x / sqrt 2))`.
fn gelu(b: &mut DefBuilder, x: ExprId) -> ExprId {
    let scaled = b.times_number(x, std::f64::consts::FRAC_1_SQRT_2);
    let erf = b.op(Op::Erf, &[scaled]);
    let sum = b.plus_number(erf, 1.0);
    let half = b.times_number(x, 0.5);
    b.times(half, sum)
}

/// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
fn fast_gelu(b: &mut DefBuilder, x: ExprId) -> ExprId {
    let square = b.times(x, x);
    let cubic = b.times_number(square, 0.044715 * 0.797_884_560_802_865_4);
    let factor = b.plus_number(cubic, 0.797_884_560_802_865_4);
    let inner = b.times(x, factor);
    let tanh = b.op(Op::Tanh, &[inner]);
    let sum = b.plus_number(tanh, 1.0);
    let half = b.times_number(x, 0.5);
    b.times(half, sum)
}

/// `x * sigmoid(alpha x)`.
fn quick_gelu(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let float = compute_type(x.dtype());
    let alpha = f64::from(ctx.attrs().float("alpha", 1.702)?);
    e.define("", &out, |b| {
        let x = b.broadcast(&x, float);
        let scaled = b.times_number(x, alpha);
        let gate = b.op(Op::Sigmoid, &[scaled]);
        b.times(x, gate)
    });
    Ok(())
}
