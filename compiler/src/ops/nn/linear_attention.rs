//! LinearAttention: a matrix per head that each position decays, corrects and adds to, as a loop
//! over positions.

use super::heads::Heads;
use super::recurrent::push_repeat;
use crate::base::{Affine, TensorType};
use crate::definition::{Carry, DefBuilder, Lowering, Repeat, Slice};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op};

/// The rows.
pub const ROWS: &[Operator] = &[row("", &[27], ""), row("com.microsoft", &[1], "no window of states")];

const fn row(domain: &'static str, versions: &'static [i64], note: &'static str) -> Operator {
    Operator { domain, name: "LinearAttention", versions, infer, lower: Lower::Define(lower), note }
}

struct Extents {
    batch: usize,
    time: usize,
    heads: usize,
    kv_heads: usize,
    key: usize,
    value: usize,
    decays: bool,
    corrects: bool,
}

fn extents(ctx: &Ctx) -> Result<Extents> {
    let (q, k, v) = (ctx.shape(0)?, ctx.shape(1)?, ctx.shape(2)?);
    let attr = |name| ctx.attrs().int(name, 0).map(|h| usize::try_from(h).unwrap_or(0));
    let (heads, kv_heads) = (attr("q_num_heads")?, attr("kv_num_heads")?);
    let no =
        || format!("linear attention of {q:?}, {k:?}, {v:?} in {heads} and {kv_heads} heads is not defined");
    require(q.len() == 3 && k.len() == 3 && v.len() == 3 && q[..2] == k[..2] && k[..2] == v[..2], no)?;
    require(kv_heads > 0 && heads > 0 && heads.is_multiple_of(kv_heads) && q[2].is_multiple_of(heads), no)?;
    let (key, value) = (q[2] / heads, v[2] / kv_heads);
    require(k[2] == kv_heads * key && v[2] == kv_heads * value && ctx.dtype(0)?.is_float(), no)?;
    let (decays, corrects) = match ctx.attrs().str("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(crate::error::Error::model(format!("update_rule '{other}' is not known"))),
    };
    require(ctx.has(4) == decays && ctx.has(5) == corrects, || {
        "decay or beta do not go with update_rule".into()
    })?;
    let fits = |i: usize, last: &[usize]| {
        ctx.optional(i)
            .is_none_or(|t| t.ty.rank() == 3 && t.ty.shape[..2] == q[..2] && last.contains(&t.ty.shape[2]))
    };
    require(fits(4, &[kv_heads, kv_heads * key]) && fits(5, &[kv_heads, 1]), no)?;
    if let Some(past) = ctx.optional(3) {
        require(past.ty.shape == [q[0], kv_heads, key, value], no)?;
    }
    Ok(Extents { batch: q[0], time: q[1], heads, kv_heads, key, value, decays, corrects })
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    require(ctx.attrs().int("state_window", 0)? == 0, || "a window of states is not supported".into())?;
    let x = extents(ctx)?;
    let dtype = ctx.dtype(0)?;
    let state = ctx.optional(3).map_or(dtype, |p| p.ty.dtype);
    Ok(vec![
        TensorType::new(dtype, [x.batch, x.time, x.heads * x.value]),
        TensorType::new(state, [x.batch, x.kv_heads, x.key, x.value]),
    ])
}

/// What a position brings, each `[batch, head, element]`.
struct Parts {
    q: Val,
    k: Val,
    v: Val,
    decay: Option<Val>,
    beta: Option<Val>,
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let x = extents(ctx)?;
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let float = compute_type(out.dtype());
    let mut slices = Vec::new();
    let q = read(&mut e, &mut slices, 0, x.heads, &x, |_, v| v)?;
    let k = read(&mut e, &mut slices, 1, x.kv_heads, &x, |_, v| v)?;
    let v = read(&mut e, &mut slices, 2, x.kv_heads, &x, |_, v| v)?;
    let decay = match x.decays {
        true => Some(read(&mut e, &mut slices, 4, x.kv_heads, &x, |b, v| b.op(Op::Exp, &[v]))?),
        false => None,
    };
    let beta = match x.corrects {
        true => {
            let heads = e.input(5)?.shape()[2];
            Some(read(&mut e, &mut slices, 5, heads, &x, |_, v| v)?)
        }
        false => None,
    };
    let shape = [x.batch, x.kv_heads, x.key, x.value];
    let initial = match e.optional(3) {
        Some(past) => e.map("initial", float, shape, |b| b.broadcast(&past, float)),
        None => e.table("initial", float, &shape, &vec![0.0; shape.iter().product()]),
    };
    let all = e.temp("outputs", float, [x.time, x.batch, x.heads, x.value]);
    let part = e.temp("output", float, [x.batch, x.heads, x.value]);
    slices.push(Slice { whole: all.id, part: part.id, reversed: false, written: true });
    let [state, last] = ["state", "final"].map(|what| e.temp(what, float, shape));
    let before = e.low.stages.len();
    let next = step(&mut e, &x, &Parts { q, k, v, decay, beta }, &state, &part)?;
    let body = e.low.stages.split_off(before);
    let carries = vec![Carry { initial: initial.id, state: state.id, next: next.id, last: last.id }];
    push_repeat(&mut e, Repeat { count: x.time, size: None, condition: None, slices, carries, body });
    let heads = Heads::packed(&out, 0, x.heads, x.value)?;
    heads.define(&mut e, "", x.batch, |b| {
        let at = [b.var(2), b.var(0), b.var(1), b.var(3)];
        b.elem(&all, &at, float)
    });
    if let Some(present) = e.output(1) {
        e.define("present", &present, |b| b.broadcast(&last, float));
    }
    Ok(())
}

/// Input `i` with time first, `[time, batch, head, element]`; gives the part of one position.
fn read(
    e: &mut Emit,
    slices: &mut Vec<Slice>,
    i: usize,
    heads: usize,
    x: &Extents,
    f: impl FnOnce(&mut DefBuilder, crate::definition::ExprId) -> crate::definition::ExprId,
) -> Result<Val> {
    let input = e.input(i)?;
    let float = compute_type(input.dtype());
    let size = input.shape()[2] / heads;
    let view = Heads::packed(&input, 0, heads, size)?;
    let whole = e.map("by time", float, [x.time, x.batch, heads, size], |b| {
        let (t, n, h, d) = (b.var(0), b.var(1), b.var(2), b.var(3));
        let value = view.elem(b, [&n, &h, &t, &d], float);
        f(b, value)
    });
    let part = e.temp("part", float, [x.batch, heads, size]);
    slices.push(Slice { whole: whole.id, part: part.id, reversed: false, written: false });
    Ok(part)
}

/// The next state, and the output of this position in `out`.
fn step(e: &mut Emit, x: &Extents, parts: &Parts, state: &Val, out: &Val) -> Result<Val> {
    let float = state.dtype();
    let at = |b: &mut DefBuilder, v: &Val, h: Affine, d: Affine| {
        let d = if v.shape()[2] == 1 { Affine::constant(0) } else { d };
        let h = if v.shape()[1] == 1 { Affine::constant(0) } else { h };
        let n = b.var(0);
        b.elem(v, &[n, h, d], float)
    };
    // The decayed state at a key and value element of the axes' head.
    let decayed = |b: &mut DefBuilder, d: &Affine, m: Affine| {
        let old = b.elem(state, &[b.var(0), b.var(1), d.clone(), m], float);
        let Some(decay) = &parts.decay else { return old };
        let h = b.var(1);
        let factor = at(b, decay, h, d.clone());
        b.times(factor, old)
    };
    let written = match &parts.beta {
        None => parts.v.clone(),
        Some(beta) => {
            let held = e.map("held", float, parts.v.shape(), |b| {
                let d = b.reduce("d", x.key);
                let (h, m) = (b.var(1), b.var(2));
                let old = decayed(b, &d, m);
                let key = at(b, &parts.k, h, d);
                let product = b.times(old, key);
                b.fold(Fold::Sum, product)
            });
            e.map("written", float, parts.v.shape(), |b| {
                let (h, m) = (b.var(1), b.var(2));
                let (value, held) = (b.broadcast(&parts.v, float), b.broadcast(&held, float));
                let rate = at(b, beta, h, m);
                let difference = b.minus(value, held);
                b.times(rate, difference)
            })
        }
    };
    let next = e.map("next", float, state.shape(), |b| {
        let (h, d, m) = (b.var(1), b.var(2), b.var(3));
        let old = decayed(b, &d, m.clone());
        let (key, value) = (at(b, &parts.k, h.clone(), d), at(b, &written, h, m));
        let product = b.times(key, value);
        b.plus(old, product)
    });
    let groups = x.heads / x.kv_heads;
    let scale = f64::from(e.ctx.attrs().float("scale", 0.0)?);
    let scale = if scale == 0.0 { 1.0 / (x.key as f64).sqrt() } else { scale };
    // Axes: batch, key head, place in its group, value element.
    let axes: Vec<Affine> = (0..4).map(Affine::var).collect();
    let head = axes[1].scaled(groups as i64).plus(&axes[2]);
    let store = vec![axes[0].clone(), head.clone(), axes[3].clone()];
    e.define_at("output", out, &[x.batch, x.kv_heads, groups, x.value], store, |b| {
        let d = b.reduce("d", x.key);
        let q = b.elem(&parts.q, &[axes[0].clone(), head, d.clone()], float);
        let s = b.elem(&next, &[axes[0].clone(), axes[1].clone(), d, axes[3].clone()], float);
        let product = b.times(q, s);
        let acc = b.fold(Fold::Sum, product);
        b.times_number(acc, scale)
    });
    Ok(next)
}
