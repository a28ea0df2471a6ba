//! GroupQueryAttention of com.microsoft: several heads of queries read one of keys and values, which a
//! cache holds.

use super::heads::{Heads, Layout, Positions, Rotary};
use super::ms_attention::{count, present, scale};
use super::ms_resident::Resident;
use super::scaled_attention::{Attention, Offset, Visible, check_scores};
use crate::base::{Affine, DType, TensorType};
use crate::definition::Lowering;
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op};

/// The row.
pub const ROWS: &[Operator] = &[Operator {
    domain: "com.microsoft",
    name: "GroupQueryAttention",
    versions: &[1],
    infer: infer_grouped,
    lower: Lower::Define(grouped),
    note: "no quantized cache, no bias beside a cache of a window",
}];

/// Extents of a GroupQueryAttention.
struct Grouped {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    size: usize,
    /// Keys that the queries read.
    total: usize,
    /// Rows of the caches after the step.
    cache: usize,
    /// Where the caches hold a window: what of it stays.
    resident: Option<Resident>,
    packed: bool,
}

/// Refuses what changes the result and is not implemented.
fn check_grouped(ctx: &Ctx) -> Result<()> {
    for i in [12, 13] {
        require(!ctx.has(i), || format!("a quantized cache (input {i}) is not supported"))?;
    }
    require(ctx.has(14) == ctx.has(15), || "q_norm_weight and k_norm_weight do not go alone".into())?;
    require(ctx.attrs().flag("causal", true)?, || "attention that is not causal is not supported".into())
}

fn grouped_extents(ctx: &Ctx) -> Result<Grouped> {
    check_grouped(ctx)?;
    let q = ctx.ty(0)?;
    let (heads, kv_heads) = (count(ctx, "num_heads")?, count(ctx, "kv_num_heads")?);
    let packed = !ctx.has(1);
    let all = if packed { heads + 2 * kv_heads } else { heads };
    require(q.rank() == 3 && q.shape[2].is_multiple_of(all) && q.dtype.is_float(), || {
        format!("{q} does not hold {all} heads")
    })?;
    let (queries, past) =
        (q.shape[1], ctx.optional(3).map_or(0, |p| p.ty.shape.get(2).copied().unwrap_or(0)));
    // The caches hold what is there before and after: the total length where it is known.
    let known = ctx.optional(6).and_then(|t| t.constant.as_ref()).and_then(|t| t.to_i64s());
    let known = known.and_then(|t| t.first().copied()).and_then(|t| usize::try_from(t).ok());
    let mut total = known.map_or(past + queries, |t| t.max(past).min(past + queries));
    let mut cache = total;
    let resident = Resident::of(ctx, past)?;
    if resident.is_some() {
        (total, cache) = (past + queries, past);
    }
    let (batch, size) = (q.shape[0], q.shape[2] / all);
    Ok(Grouped { batch, heads, kv_heads, queries, size, total, cache, resident, packed })
}

fn infer_grouped(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let g = grouped_extents(ctx)?;
    let dtype = ctx.dtype(0)?;
    let cache = TensorType::new(dtype, [g.batch, g.kv_heads, g.cache, g.size]);
    Ok(vec![TensorType::new(dtype, [g.batch, g.queries, g.heads * g.size]), cache.clone(), cache])
}

/// One number per entry of the batch, in input `i`.
fn per_entry(e: &mut Emit, i: usize, g: &Grouped) -> Result<Val> {
    let lengths = e.input(i)?;
    require(lengths.ty.elems() == g.batch, || {
        format!("lengths (input {i}) of type {} do not fit", lengths.ty)
    })?;
    Ok(e.reshape(&lengths, [g.batch]))
}

/// The positions of the first query of each batch: the number of keys so far, `[batch]`. Where the queries are all
/// there is, none: the shorter ones of a batch of prompts end in padding.
fn first_positions(e: &mut Emit, g: &Grouped) -> Result<Val> {
    let lengths = per_entry(e, 5, g)?;
    let padded = if e.ctx.has(16) { Some(per_entry(e, 16, g)?) } else { None };
    let total = e.optional(6).filter(|t| t.ty.elems() == 1).map(|t| e.reshape(&t, [1]));
    Ok(e.map("first", DType::I64, [g.batch], |b| {
        let last = b.broadcast(&lengths, DType::I64);
        let zero = b.number(DType::I64, 0.0);
        if let Some(padded) = &padded {
            let (end, count) = (b.plus_number(last, 1.0), b.broadcast(padded, DType::I64));
            let first = b.minus(end, count);
            return b.op(Op::Max, &[first, zero]);
        }
        let first = b.plus_number(last, 1.0 - g.queries as f64);
        if g.resident.is_some() {
            return b.op(Op::Max, &[first, zero]);
        }
        let Some(total) = &total else { return first };
        let total = b.elem(total, &[Affine::constant(0)], DType::I64);
        let queries = b.number(DType::I64, g.queries as f64);
        let prompt = b.op(Op::Eq, &[total, queries]);
        b.op(Op::Select, &[prompt, zero, first])
    }))
}

/// The cache after this step: what was there, then the new keys (or values), then zeros. Where the cache is a window:
/// what the queries read.
fn updated(e: &mut Emit, new: &Heads, past: usize, output: usize, first: &Val, g: &Grouped) -> Result<Heads> {
    let past = e.optional(past);
    let all = match g.resident {
        Some(_) => {
            let val = e.temp("staged", new.val.dtype(), [g.batch, new.heads, g.total, new.size]);
            Heads { layout: Layout::HeadFirst, val, length: g.total, ..new.clone() }
        }
        None => present(e, output, new, g.total, g.batch),
    };
    let dtype = all.val.dtype();
    let past = past.map(|p| Heads::of(&p, g.kv_heads)).transpose()?.filter(|p| p.length > 0);
    if let Some(past) = &past {
        require(past.heads == new.heads && past.size == new.size, || {
            format!("the cache {} does not fit", past.val.ty)
        })?;
    }
    all.define(e, "present", g.batch, |b| {
        let a = b.axes();
        let first = b.elem(first, &[a[0].clone()], DType::I64);
        let position = b.index(a[2].clone());
        let zero = b.number(DType::I64, 0.0);
        let place = b.minus(position, first);
        let (end, last) = (g.queries as f64, g.queries as f64 - 1.0);
        let inside = b.clamp(place, 0.0, last);
        let fresh = new.elem_at(b, [&a[0], &a[1], &a[3]], inside, dtype);
        let (nothing, end) = (b.number(dtype, 0.0), b.number(DType::I64, end));
        let is_fresh = b.op(Op::Lt, &[place, end]);
        let later = b.op(Op::Select, &[is_fresh, fresh, nothing]);
        let Some(past) = &past else { return later };
        let earlier = b.op(Op::Lt, &[place, zero]);
        let row = b.clamp(position, 0.0, past.length as f64 - 1.0);
        let old = past.elem_at(b, [&a[0], &a[1], &a[3]], row, dtype);
        b.op(Op::Select, &[earlier, old, later])
    });
    Ok(all)
}

/// Heads whose elements have a mean square of 1, times the weights that are input `i`.
fn normalized(e: &mut Emit, x: &Heads, i: usize, epsilon: &str, batch: usize) -> Result<Heads> {
    let weight = e.input(i)?;
    require(weight.shape() == [x.size], || format!("weights of type {} do not fit", weight.ty))?;
    let float = compute_type(x.val.dtype());
    let epsilon = match e.ctx.attrs().get_float(epsilon)? {
        Some(&given) => given,
        None => e.ctx.attrs().float("qk_norm_epsilon", 1e-6)?,
    };
    let shape = [batch, x.heads, x.length, x.size];
    let factor = e.reduce(
        "factor",
        &shape,
        &[3],
        Fold::Sum,
        |b, i| {
            let x = x.elem(b, [&i[0], &i[1], &i[2], &i[3]], float);
            b.times(x, x)
        },
        |b, acc| {
            let mean = b.times_number(acc, 1.0 / x.size as f64);
            b.inverse_root(mean, f64::from(epsilon))
        },
    );
    let val = e.temp("normalized", x.val.dtype(), shape);
    let out = Heads { layout: Layout::HeadFirst, val, ..x.clone() };
    out.define(e, "normalized", batch, |b| {
        let a = b.axes();
        let x = x.elem(b, [&a[0], &a[1], &a[2], &a[3]], float);
        let factor = b.broadcast(&factor, float);
        let weight = b.broadcast(&weight, float);
        let scaled = b.times(x, factor);
        b.times(scaled, weight)
    });
    Ok(out)
}

/// Heads with rotary embeddings of their positions, which count from `first` where none are given.
fn rotated(e: &mut Emit, heads: &Heads, first: &Val, batch: usize) -> Result<Heads> {
    let (cos, sin) = (e.input(7)?, e.input(8)?);
    let positions = e.optional(9).map_or(Positions::From(first.clone()), Positions::Given);
    let size = 2 * cos.shape().last().copied().unwrap_or(0);
    let interleaved = e.ctx.attrs().flag("rotary_interleaved", false)?;
    let rotary = Rotary { cos, sin, positions, interleaved, size };
    let dtype = heads.val.dtype();
    let val = e.temp("rotated", dtype, [batch, heads.heads, heads.length, heads.size]);
    let to = Heads { layout: Layout::HeadFirst, val, ..heads.clone() };
    rotary.define(e, heads, &to, batch, compute_type(dtype))?;
    Ok(to)
}

/// A score of each head that takes part in the softmax alone, `[heads]`.
fn sink(e: &mut Emit, g: &Grouped, float: DType) -> Result<Option<Val>> {
    let sink = match e.optional(11) {
        Some(sink) => Some(sink),
        None if e.ctx.attrs().flag("smooth_softmax", false)? => {
            Some(e.table("sink", float, &[g.heads], &vec![0.0; g.heads]))
        }
        None => None,
    };
    require(sink.as_ref().is_none_or(|s| s.shape() == [g.heads]), || {
        format!("head_sink does not hold {} numbers", g.heads)
    })?;
    Ok(sink)
}

fn grouped(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let g = grouped_extents(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let (mut q, mut k, v) = if g.packed {
        let part = |first: usize, heads: usize| Heads::packed(&x, first * g.size, heads, g.size);
        (part(0, g.heads)?, part(g.heads, g.kv_heads)?, part(g.heads + g.kv_heads, g.kv_heads)?)
    } else {
        let (k, v) = (e.input(1)?, e.input(2)?);
        (Heads::of(&x, g.heads)?, Heads::of(&k, g.kv_heads)?, Heads::of(&v, g.kv_heads)?)
    };
    require(g.queries > 0 && k.length == g.queries, || "queries and keys differ in length".into())?;
    let first = first_positions(&mut e, &g)?;
    let float = compute_type(x.dtype());
    if ctx.has(14) {
        q = normalized(&mut e, &q, 14, "q_norm_epsilon", g.batch)?;
        k = normalized(&mut e, &k, 15, "k_norm_epsilon", g.batch)?;
    }
    if ctx.attrs().flag("do_rotary", false)? {
        for heads in [&mut q, &mut k] {
            *heads = rotated(&mut e, heads, &first, g.batch)?;
        }
    }
    // Where the cache is a window, its first row is the position 0 of all that follows.
    let start = match &g.resident {
        Some(resident) => resident.before(&mut e, &first, g.batch),
        None => first.clone(),
    };
    let k = updated(&mut e, &k, 3, 1, &start, &g)?;
    let v = updated(&mut e, &v, 4, 2, &start, &g)?;
    if let Some(resident) = &g.resident {
        let lengths = per_entry(&mut e, 5, &g)?;
        for (staged, output) in [(&k, 1), (&v, 2)] {
            resident.store(&mut e, staged, output, [&first, &start, &lengths], g.batch);
        }
    }
    let window = ctx.attrs().int("local_window_size", -1)?;
    let softcap = f64::from(ctx.attrs().float("softcap", 0.0)?);
    let sink = sink(&mut e, &g, float)?;
    let visible = Visible {
        causal: true,
        offset: Offset::PerBatch(start, 0),
        left: (window > 0).then_some(window - 1),
        ..Visible::all()
    };
    let bias = e.optional(10);
    if let Some(bias) = &bias {
        check_scores(bias, [g.batch, g.heads, g.queries, g.total])?;
    }
    let out = Heads::packed(&out, 0, g.heads, g.size)?;
    let softcap = Some(softcap).filter(|&c| c > 0.0);
    let scale = scale(ctx, g.size)?;
    Attention { batch: g.batch, scale, softcap, visible, bias, sink, float, q, k, v }
        .define(&mut e, &out, None)
}

#[cfg(test)]
mod tests {
    use crate::base::Tensor;
    use crate::graph::Attr;
    use crate::ops::older::fold_given;

    /// Results of ONNX Runtime: scores of 1 and 2 beside the sinks' own.
    #[test]
    fn sinks_take_part_in_the_softmax() {
        let zeros = |shape: [usize; 4]| Tensor::new(shape, &[] as &[f32]);
        let unit = |v: f32| [v, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let mut inputs = vec![
            Some(Tensor::new([1, 1, 16], &[unit(1.0), unit(2.0)].concat())),
            Some(Tensor::new([1, 1, 8], &unit(1.0))),
            Some(Tensor::new([1, 1, 8], &[1f32; 8])),
            Some(zeros([1, 1, 0, 8])),
            Some(zeros([1, 1, 0, 8])),
            Some(Tensor::new([1], &[0i32])),
            Some(Tensor::new([1], &[1i32])),
        ];
        let heads =
            [("num_heads", Attr::Int(2)), ("kv_num_heads", Attr::Int(1)), ("scale", Attr::Float(1.0))];
        let weights = |attrs: &[(&str, Attr)], inputs: &[Option<Tensor>]| {
            let y = fold_given("com.microsoft.GroupQueryAttention", 1, attrs, inputs, 3)?;
            Ok::<_, crate::error::Error>(y[0].to_vec::<f32>().expect("floats"))
        };
        let near = |y: Vec<f32>, want: [f32; 2]| {
            assert!((y[0] - want[0]).abs() < 1e-5 && (y[8] - want[1]).abs() < 1e-5, "{y:?}");
        };
        let smooth = [&heads[..], &[("smooth_softmax", Attr::Int(1))]].concat();
        near(weights(&smooth, &inputs).expect("smooth"), [0.731_059, 0.880_797]);
        inputs.extend([None, None, None, None, Some(Tensor::new([2], &[0f32, 1.0]))]);
        near(weights(&heads, &inputs).expect("sinks"), [0.731_059, 0.731_059]);
        // Elements of root 8 times the weights' 1 and 0.5: scores of 4 in both heads.
        inputs.truncate(11);
        let of = |v: f32| Some(Tensor::new([8], &[v; 8]));
        inputs.extend([None, None, None, of(1.0), of(0.5)]);
        near(weights(&smooth, &inputs).expect("normalized"), [0.982_014; 2]);
    }

    /// Prompts of three and two tokens in one batch: each as it would be alone; what follows the shorter one is padding.
    #[test]
    fn prompts_of_a_batch_begin_at_the_first_position() {
        let number = |i: usize| ((i * 37 + 11) % 23) as f32 / 7.0 - 1.5;
        let rows = |first: usize, n: usize| (first * 8..(first + n) * 8).map(number).collect::<Vec<f32>>();
        let run = |first: usize, batch: usize, queries: usize, lengths: &[i32]| {
            let input =
                |shift: usize| Some(Tensor::new([batch, queries, 8], &rows(first + shift, batch * queries)));
            let inputs = [
                input(0),
                input(50),
                input(90),
                None,
                None,
                Some(Tensor::new([batch], lengths)),
                Some(Tensor::new([1], &[queries as i32])),
            ];
            let heads = [("num_heads", Attr::Int(1)), ("kv_num_heads", Attr::Int(1))];
            let y =
                fold_given("com.microsoft.GroupQueryAttention", 1, &heads, &inputs, 3).expect("attention");
            y[0].to_vec::<f32>().expect("floats")
        };
        let both = run(0, 2, 3, &[2, 1]);
        assert_eq!(both[..24], run(0, 1, 3, &[2])[..]);
        assert_eq!(both[24..40], run(3, 1, 2, &[1])[..]);
    }
}
