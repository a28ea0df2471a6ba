//! Attention and RotaryEmbedding of ai.onnx.

use super::heads::{Heads, Layout, Positions, Rotary};
use super::scaled_attention::{Attention, Offset, Stage, Visible, check_scores, joined};
use crate::base::TensorType;
use crate::definition::Lowering;
use crate::error::Result;
use crate::ops::emit::{Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "Attention",
        versions: &[23, 24, 25],
        infer,
        lower: Lower::Define(lower),
        note: "the softmax is computed in f32, or f64 for f64",
    },
    Operator {
        domain: "",
        name: "RotaryEmbedding",
        versions: &[23],
        infer: infer_rotary,
        lower: Lower::Define(rotary),
        note: "",
    },
];

/// Extents of an Attention node.
struct Extents {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    past: usize,
    size: usize,
    value_size: usize,
    flat: bool,
}

fn extents(ctx: &Ctx) -> Result<Extents> {
    let (q, k, v) = (ctx.shape(0)?, ctx.shape(1)?, ctx.shape(2)?);
    let rank = q.len();
    let no = || format!("attention of {q:?} to {k:?} and {v:?} is not defined");
    require(
        (3..=4).contains(&rank) && k.len() == rank && v.len() == rank && q[0] == k[0] && k[0] == v[0],
        no,
    )?;
    let attr = |name| Ok::<_, crate::error::Error>(usize::try_from(ctx.attrs().int(name, 0)?).unwrap_or(0));
    let flat = rank == 3;
    let (heads, kv_heads) = if flat { (attr("q_num_heads")?, attr("kv_num_heads")?) } else { (q[1], k[1]) };
    require(heads > 0 && kv_heads > 0, || "q_num_heads and kv_num_heads must be given".into())?;
    let whole = q[rank - 1].is_multiple_of(heads)
        && k[rank - 1].is_multiple_of(kv_heads)
        && v[rank - 1].is_multiple_of(kv_heads);
    require(!flat || whole, || format!("{q:?} does not hold {heads} heads, or {v:?} {kv_heads}"))?;
    let position = rank - 2;
    let size = |s: &[usize], heads: usize| if flat { s[2] / heads } else { s[3] };
    let past = match (ctx.optional(4), ctx.optional(5)) {
        (Some(k), Some(v)) => {
            require(k.ty.rank() == 4 && v.ty.rank() == 4, || {
                "earlier keys and values must have rank 4".into()
            })?;
            k.ty.shape[2]
        }
        _ => 0,
    };
    Ok(Extents {
        batch: q[0],
        heads,
        kv_heads,
        queries: q[position],
        keys: k[position] + past,
        past,
        size: size(q, heads),
        value_size: size(v, kv_heads),
        flat,
    })
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = extents(ctx)?;
    let (t1, t2) = (ctx.dtype(0)?, ctx.dtype(2)?);
    require(t1.is_float() && t2.is_float(), || format!("it is not defined for {t1} and {t2}"))?;
    let y = match x.flat {
        true => vec![x.batch, x.queries, x.heads * x.value_size],
        false => vec![x.batch, x.heads, x.queries, x.value_size],
    };
    Ok(vec![
        TensorType::new(t1, y),
        TensorType::new(t1, [x.batch, x.kv_heads, x.keys, x.size]),
        TensorType::new(t2, [x.batch, x.kv_heads, x.keys, x.value_size]),
        TensorType::new(t1, [x.batch, x.heads, x.queries, x.keys]),
    ])
}

/// Keys (or values) with those that came before, as the output that shows them.
fn with_past(e: &mut Emit, new: Heads, past: usize, present: usize, x: &Extents) -> Result<Heads> {
    let wanted = e.output(present);
    let past = e.optional(past);
    if past.is_none() && wanted.is_none() {
        return Ok(new);
    }
    let past = match past {
        Some(past) => Heads::of(&past, x.kv_heads)?,
        None => {
            let empty = e.temp("past", new.val.dtype(), [x.batch, new.heads, 0, new.size]);
            Heads { layout: Layout::HeadFirst, length: 0, val: empty, ..new.clone() }
        }
    };
    let shape = [x.batch, new.heads, past.length + new.length, new.size];
    let all = wanted.unwrap_or_else(|| e.temp("present", new.val.dtype(), shape));
    let all = Heads::of(&all, new.heads)?;
    if past.length == 0 {
        let axes: Vec<crate::base::Affine> = (0..4).map(crate::base::Affine::var).collect();
        all.define(e, "present", x.batch, |b| {
            new.elem(b, [&axes[0], &axes[1], &axes[2], &axes[3]], all.val.dtype())
        });
    } else {
        joined(e, &past, &new, &all, x.batch)?;
    }
    Ok(all)
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let x = extents(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (q, k, v, out) = (e.input(0)?, e.input(1)?, e.input(2)?, e.result()?);
    let float = compute_type(q.dtype());
    let (q, k, v) = (Heads::of(&q, x.heads)?, Heads::of(&k, x.kv_heads)?, Heads::of(&v, x.kv_heads)?);
    let k = with_past(&mut e, k, 4, 1, &x)?;
    let v = with_past(&mut e, v, 5, 2, &x)?;
    let bias = e.optional(3);
    if let Some(bias) = &bias {
        check_scores(bias, [x.batch, x.heads, x.queries, x.keys])?;
    }
    let lengths = e.optional(6);
    let offset = match &lengths {
        Some(lengths) if x.past == 0 => Offset::PerBatch(lengths.clone(), -(x.queries as i64)),
        _ => Offset::Fixed(x.past as i64),
    };
    if let Some(lengths) = &lengths {
        require(lengths.shape() == [x.batch], || format!("lengths of type {} do not fit", lengths.ty))?;
    }
    let bound = |name| ctx.attrs().int(name, -1).map(|v| Some(v).filter(|&v| v >= 0));
    let visible = Visible {
        causal: ctx.attrs().flag("is_causal", false)?,
        offset,
        left: bound("left_window_size")?,
        right: bound("right_window_size")?,
        lengths,
        ..Visible::all()
    };
    let softcap = f64::from(ctx.attrs().float("softcap", 0.0)?);
    let scale = ctx.attrs().get_float("scale")?.map(|&s| f64::from(s));
    let attention = Attention {
        scale: scale.unwrap_or(1.0 / (x.size as f64).sqrt()),
        softcap: Some(softcap).filter(|&c| c != 0.0),
        batch: x.batch,
        visible,
        bias,
        sink: None,
        float,
        q,
        k,
        v,
    };
    let stage = match ctx.attrs().int("qk_matmul_output_mode", 0)? {
        0 => Stage::Product,
        1 => Stage::Capped,
        2 => Stage::Masked,
        _ => Stage::Weights,
    };
    let scores = e.output(3);
    let out = Heads::of(&out, x.heads)?;
    attention.define(&mut e, &out, scores.as_ref().map(|s| (s, stage)))
}

fn infer_rotary(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float() && (3..=4).contains(&x.rank()), || format!("it is not defined for {x}"))?;
    Ok(vec![x.clone()])
}

fn rotary(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, cos, sin, out) = (e.input(0)?, e.input(1)?, e.input(2)?, e.result()?);
    let positions = match e.optional(3) {
        Some(ids) => {
            require(ids.shape() == positions_shape(&x), || {
                format!("positions {} do not fit {}", ids.ty, x.ty)
            })?;
            Positions::Given(ids)
        }
        None => Positions::InTables,
    };
    let heads = usize::try_from(ctx.attrs().int("num_heads", 0)?).unwrap_or(0);
    let (from, to) = (Heads::of(&x, heads)?, Heads::of(&out, heads)?);
    let size = usize::try_from(ctx.attrs().int("rotary_embedding_dim", 0)?).unwrap_or(0);
    let size = if size == 0 { from.size } else { size };
    let interleaved = ctx.attrs().flag("interleaved", false)?;
    let rotary = Rotary { cos, sin, positions, interleaved, size };
    rotary.define(&mut e, &from, &to, x.shape()[0], compute_type(x.dtype()))
}

fn positions_shape(x: &Val) -> [usize; 2] {
    [x.shape()[0], x.shape()[x.rank() - 2]]
}
