//! Attention operators of com.microsoft: MultiHeadAttention, Attention, QAttention.

use super::heads::{Heads, Layout};
use super::integer::{Factors, Zero, check_quantized, define_product};
use super::matmul::{self, Product};
use super::scaled_attention::{Attention, Offset, Visible, check_scores, joined};
use crate::base::{Affine, TensorType};
use crate::definition::{DefBuilder, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, DefineFn, InferFn, Lower, Operator};

const fn row(name: &'static str, infer: InferFn, lower: DefineFn, note: &'static str) -> Operator {
    Operator { domain: "com.microsoft", name, versions: &[1], infer, lower: Lower::Define(lower), note }
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("MultiHeadAttention", infer_multi_head, multi_head, "no cache shared between past and present"),
    row("Attention", |c| infer_projected(c, 4), |c, l| projected(c, l, false), "mask of 1 to 3 dimensions"),
    row("QAttention", |c| infer_projected(c, 8), |c, l| projected(c, l, true), "mask of 1 to 3 dimensions"),
];

/// An attribute that counts something.
pub(super) fn count(ctx: &Ctx, name: &str) -> Result<usize> {
    let value = ctx.attrs().int(name, 0)?;
    require((1..1 << 20).contains(&value), || format!("attribute {name} is {value}, but must be positive"))?;
    Ok(value as usize)
}

/// What the sources of a MultiHeadAttention are.
struct Sources {
    q: Heads,
    k: Heads,
    v: Heads,
    batch: usize,
}

fn sources(ctx: &Ctx, input: impl Fn(usize) -> Option<Val>) -> Result<Sources> {
    let heads = count(ctx, "num_heads")?;
    let missing = || Error::model("an input of the attention is missing");
    let q = input(0).ok_or_else(missing)?;
    let batch = q.shape().first().copied().unwrap_or(0);
    let parts = |val: &Val, part: usize| {
        let s = val.shape();
        Heads { layout: Layout::Parts { part }, heads: s[2], length: s[1], size: s[4], val: val.clone() }
    };
    let sources = match (input(1), input(2)) {
        (None, None) if q.rank() == 5 && q.shape()[3] == 3 => {
            Sources { q: parts(&q, 0), k: parts(&q, 1), v: parts(&q, 2), batch }
        }
        (Some(kv), None) if kv.rank() == 5 && kv.shape()[3] == 2 => {
            Sources { q: Heads::of(&q, heads)?, k: parts(&kv, 0), v: parts(&kv, 1), batch }
        }
        (Some(k), Some(v)) => {
            Sources { q: Heads::of(&q, heads)?, k: Heads::of(&k, heads)?, v: Heads::of(&v, heads)?, batch }
        }
        _ => return Err(Error::model("these inputs of the attention do not go together")),
    };
    require(sources.q.heads == heads, || format!("{} does not hold {heads} heads", sources.q.val.ty))?;
    Ok(sources)
}

/// The types of the result and of keys and values with those that came before.
fn infer_multi_head(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let value = |i: usize| Some(Val { id: 0, ty: ctx.optional(i)?.ty.clone() });
    let s = sources(ctx, value)?;
    let dtype = ctx.dtype(0)?;
    require(dtype.is_float(), || format!("it is not defined for {dtype}"))?;
    let past = ctx.optional(6).map_or(0, |p| p.ty.shape.get(2).copied().unwrap_or(0));
    let total = s.k.length + past;
    Ok(vec![
        TensorType::new(dtype, [s.batch, s.q.length, s.q.heads * s.v.size]),
        TensorType::new(dtype, [s.batch, s.k.heads, total, s.k.size]),
        TensorType::new(dtype, [s.batch, s.v.heads, total, s.v.size]),
        TensorType::new(dtype, [s.batch, s.q.heads, s.q.length, total]),
    ])
}

/// Heads plus the part of a bias vector that begins at `first`.
fn biased(e: &mut Emit, heads: &Heads, bias: Option<&Val>, first: usize, batch: usize) -> Result<Heads> {
    let Some(bias) = bias else { return Ok(heads.clone()) };
    require(bias.rank() == 1 && first + heads.heads * heads.size <= bias.shape()[0], || {
        format!("a bias of type {} does not fit", bias.ty)
    })?;
    let sum = e.temp("biased", heads.val.dtype(), [batch, heads.heads, heads.length, heads.size]);
    let sum = Heads { layout: Layout::HeadFirst, val: sum, ..heads.clone() };
    let float = compute_type(heads.val.dtype());
    sum.define(e, "biased", batch, |b| {
        let axes = b.axes();
        let x = heads.elem(b, [&axes[0], &axes[1], &axes[2], &axes[3]], float);
        let at = axes[1].scaled(heads.size as i64).plus(&axes[3]).offset(first as i64);
        let bias = b.elem(bias, &[at], float);
        b.plus(x, bias)
    });
    Ok(sum)
}

/// A view with heads first in an output, or in a temporary in its place.
pub(super) fn present(e: &mut Emit, output: usize, like: &Heads, length: usize, batch: usize) -> Heads {
    let wanted = e.output(output);
    let shape = [batch, like.heads, length, like.size];
    let val = wanted.unwrap_or_else(|| e.temp("present", like.val.dtype(), shape));
    Heads { layout: Layout::HeadFirst, val, length, ..like.clone() }
}

/// New keys (or values) after those of input `past`; also copied where output `output` is wanted.
fn with_past(e: &mut Emit, new: Heads, past: usize, output: usize, batch: usize) -> Result<Heads> {
    match e.optional(past) {
        Some(past) => {
            let past = Heads::of(&past, new.heads)?;
            let all = present(e, output, &new, past.length + new.length, batch);
            joined(e, &past, &new, &all, batch)?;
            Ok(all)
        }
        None if e.output(output).is_some() => {
            let all = present(e, output, &new, new.length, batch);
            all.define(e, "present", batch, |b| {
                let a = b.axes();
                new.elem(b, [&a[0], &a[1], &a[2], &a[3]], all.val.dtype())
            });
            Ok(all)
        }
        None => Ok(new),
    }
}

/// The factor of the scores: the attribute, or one by the root of a head's size.
pub(super) fn scale(ctx: &Ctx, size: usize) -> Result<f64> {
    let given = ctx.attrs().get_float("scale")?.map(|&s| f64::from(s)).filter(|&s| s != 0.0);
    Ok(given.unwrap_or(1.0 / (size as f64).sqrt()))
}

/// Which keys are not padding, from a mask input: lengths `[batch]`, or a mask of zeros and ones.
fn padding(
    visible: &mut Visible,
    mask: Option<Val>,
    batch: usize,
    keys: usize,
    queries: usize,
) -> Result<()> {
    let Some(mask) = mask else { return Ok(()) };
    let shape = mask.shape().to_vec();
    match shape.as_slice() {
        [n] if *n == batch => visible.lengths = Some(mask),
        [b, k] if *b == batch && *k == keys => visible.mask = Some(mask),
        [b, q, k] if *b == batch && *q == queries && *k == keys => visible.mask = Some(mask),
        _ => return Err(Error::model(format!("a mask of type {} is not supported", mask.ty))),
    }
    Ok(())
}

fn multi_head(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let Sources { q, k, v, batch } = sources(ctx, |i| e.optional(i))?;
    let bias = e.optional(3);
    let (hidden, kv_hidden) = (q.heads * q.size, k.heads * k.size);
    let q = biased(&mut e, &q, bias.as_ref(), 0, batch)?;
    let k = biased(&mut e, &k, bias.as_ref(), hidden, batch)?;
    let v = biased(&mut e, &v, bias.as_ref(), hidden + kv_hidden, batch)?;
    let new = k.length;
    let k = with_past(&mut e, k, 6, 1, batch)?;
    let v = with_past(&mut e, v, 7, 2, batch)?;
    let mut visible = Visible {
        causal: ctx.attrs().flag("unidirectional", false)?,
        offset: Offset::Fixed((k.length - new) as i64),
        lowered: Some(f64::from(ctx.attrs().float("mask_filter_value", -10000.0)?)),
        ..Visible::all()
    };
    padding(&mut visible, e.optional(4), batch, k.length, q.length)?;
    let bias = e.optional(5);
    if let Some(bias) = &bias {
        check_scores(bias, [batch, q.heads, q.length, k.length])?;
    }
    let float = compute_type(q.val.dtype());
    let out = Heads::packed(&out, 0, q.heads, v.size)?;
    let scores = e.output(3);
    let attention = Attention {
        scale: scale(ctx, q.size)?,
        softcap: None,
        batch,
        visible,
        bias,
        sink: None,
        float,
        q,
        k,
        v,
    };
    let stage = super::scaled_attention::Stage::Product;
    attention.define(&mut e, &out, scores.as_ref().map(|s| (s, stage)))
}

/// Hidden sizes of query, key and value of Attention and QAttention.
fn hidden_sizes(ctx: &Ctx) -> Result<[usize; 3]> {
    let w = ctx.shape(1)?;
    require(w.len() == 2 && ctx.shape(0)?.len() == 3, || {
        format!("weights of shape {w:?} are not defined here")
    })?;
    match ctx.attrs().get_ints("qkv_hidden_sizes")? {
        Some([q, k, v]) if q == k && q + k + v == w[1] as i64 && *q > 0 && *v > 0 => {
            Ok([*q as usize, *k as usize, *v as usize])
        }
        Some(other) => Err(Error::model(format!("qkv_hidden_sizes {other:?} do not fit weights {w:?}"))),
        None => Ok([w[1] / 3; 3]),
    }
}

fn infer_projected(ctx: &Ctx, past: usize) -> Result<Vec<TensorType>> {
    let [q, _, v] = hidden_sizes(ctx)?;
    let x = ctx.shape(0)?;
    let heads = count(ctx, "num_heads")?;
    // The float type: of the input, or of the scales where it is quantized.
    let dtype = ctx.dtype(if past == 8 { 3 } else { 0 })?;
    require(dtype.is_float() && q % heads == 0 && v % heads == 0, || {
        format!("it does not hold {heads} heads")
    })?;
    let before = ctx.optional(past).map_or(0, |p| p.ty.shape.get(3).copied().unwrap_or(0));
    Ok(vec![
        TensorType::new(dtype, [x[0], x[1], v]),
        TensorType::new(dtype, [2, x[0], heads, before + x[1], q / heads]),
    ])
}

/// The projection of the input to queries, keys and values, `[batch, position, all hidden]`.
fn projection(e: &mut Emit, quantized: bool) -> Result<Val> {
    let (x, w, bias) = (e.input(0)?, e.input(1)?, e.optional(2));
    let product = Product::plain(x.shape(), w.shape())?;
    let dtype = e.result()?.dtype();
    let out = e.temp("projected", compute_type(dtype), product.output());
    let float = out.dtype();
    if let Some(bias) = &bias {
        require(bias.shape() == [w.shape()[1]], || format!("a bias of type {} does not fit", bias.ty))?;
    }
    let plus_bias = |b: &mut DefBuilder, value| {
        let Some(bias) = &bias else { return value };
        let bias = b.broadcast(bias, float);
        b.plus(value, bias)
    };
    if !quantized {
        matmul::define(e, &out, &product, [&x, &w], float, plus_bias);
        return Ok(out);
    }
    check_quantized(&x.ty)?;
    check_quantized(&w.ty)?;
    let (x_scale, w_scale) = (e.input(3)?, e.input(4)?);
    let factor = super::integer_conv::multiplier(e, &x_scale, &w_scale, None)?;
    let (a_zero, b_zero) = (Zero::of(e, 6), Zero::of(e, 7));
    let factors = Factors { a: x, a_zero, b: w, b_zero, b_transposed: false };
    define_product(e, &out, &product, factors, |b, acc| {
        let sum = b.cast(float, acc);
        let factor = b.broadcast(&factor, float);
        let value = b.times(sum, factor);
        plus_bias(b, value)
    })?;
    Ok(out)
}

fn projected(ctx: &Ctx, low: &mut Lowering, quantized: bool) -> Result<()> {
    let [q_hidden, k_hidden, v_hidden] = hidden_sizes(ctx)?;
    let heads = count(ctx, "num_heads")?;
    let (mask, past, bias) = if quantized { (5, 8, None) } else { (3, 4, Some(5)) };
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let all = projection(&mut e, quantized)?;
    let batch = all.shape()[0];
    let q = Heads::packed(&all, 0, heads, q_hidden / heads)?;
    let mut k = Heads::packed(&all, q_hidden, heads, k_hidden / heads)?;
    let mut v = Heads::packed(&all, q_hidden + k_hidden, heads, v_hidden / heads)?;
    let before = e.optional(past);
    if before.is_some() || e.output(1).is_some() {
        require(k.size == v.size, || "earlier keys and values need one hidden size".into())?;
        (k, v) = with_joint_past(&mut e, k, v, before, batch)?;
    }
    let mut visible = Visible {
        causal: ctx.attrs().flag("unidirectional", false)?,
        offset: Offset::Fixed((k.length - q.length) as i64),
        lowered: Some(f64::from(ctx.attrs().float("mask_filter_value", -10000.0)?)),
        ..Visible::all()
    };
    padding(&mut visible, e.optional(mask), batch, k.length, q.length)?;
    let bias = bias.and_then(|i| e.optional(i));
    if let Some(bias) = &bias {
        check_scores(bias, [batch, heads, q.length, k.length])?;
    }
    let float = all.dtype();
    let out = Heads::packed(&out, 0, heads, v.size)?;
    let scale = scale(ctx, q.size)?;
    Attention { scale, softcap: None, batch, visible, bias, sink: None, float, q, k, v }
        .define(&mut e, &out, None)
}

/// Keys and values after earlier ones, both in one tensor `[2, batch, head, position, element]`.
fn with_joint_past(
    e: &mut Emit,
    k: Heads,
    v: Heads,
    past: Option<Val>,
    batch: usize,
) -> Result<(Heads, Heads)> {
    let before = past.as_ref().map_or(0, |p| p.shape().get(3).copied().unwrap_or(0));
    let length = before + k.length;
    let wanted = e.output(1);
    let present =
        wanted.unwrap_or_else(|| e.temp("present", k.val.dtype(), [2, batch, k.heads, length, k.size]));
    let half = |half: usize, val: &Val, length: usize, like: &Heads| Heads {
        layout: Layout::Half { half },
        val: val.clone(),
        length,
        ..like.clone()
    };
    let mut both = Vec::new();
    for (i, new) in [k, v].into_iter().enumerate() {
        let all = half(i, &present, length, &new);
        let axes: Vec<Affine> = (0..4).map(Affine::var).collect();
        let mut parts = vec![(new.clone(), before)];
        if let Some(past) = past.as_ref().filter(|_| before > 0) {
            let fits = past.shape() == [2, batch, new.heads, before, new.size];
            require(fits, || format!("earlier keys and values {} do not fit", past.ty))?;
            parts.push((half(i, past, before, &new), 0));
        }
        for (part, first) in parts {
            let store = all.index(&axes[0], &axes[1], &axes[2].offset(first as i64), &axes[3]);
            e.define_at("present", &present, &[batch, part.heads, part.length, part.size], store, |b| {
                part.elem(b, [&axes[0], &axes[1], &axes[2], &axes[3]], present.dtype())
            });
        }
        both.push(all);
    }
    let v = both.pop().ok_or_else(|| Error::bug("two halves"))?;
    let k = both.pop().ok_or_else(|| Error::bug("two halves"))?;
    Ok((k, v))
}
