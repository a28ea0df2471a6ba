//! RNN, GRU, LSTM: the projection of the inputs of all time steps is one matrix product; the rest
//! is a loop over time with the hidden (and cell) state carried.

use super::cell::{self, Step};
use super::recurrent_sizes::{Sizes, directions, gates};
use super::recurrent_weights::Weights;
use super::rounded::{self, Rounded};
use crate::base::{DType, Tensor, TensorType};
use crate::definition::{Carry, Lowering, Repeat, Slice};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, DefineFn, Operator};
use crate::scalar::Op;

const fn row(name: &'static str, versions: &'static [i64], lower: DefineFn) -> Operator {
    Operator::define("", name, versions, infer, lower)
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("RNN", &[1, 7, 14, 22], |c, l| lower(c, l, &cell::RNN)),
    row("GRU", &[1, 3, 7, 14, 22], |c, l| lower(c, l, &cell::GRU)),
    row("LSTM", &[1, 7, 14, 22], |c, l| lower(c, l, &cell::LSTM)),
    Operator::internal(rounded::NAMES[0], infer, |c, l| lower(c, l, &cell::LSTM)),
    Operator::internal(rounded::NAMES[1], infer, |c, l| lower(c, l, &cell::LSTM)),
];

/// Sizes of a node whose weights are floats.
fn plain(ctx: &Ctx) -> Result<Sizes> {
    let (x, w, r) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?);
    let no = || format!("a recurrence over {x} with weights {w} and {r} is not defined");
    require(x.rank() == 3 && w.rank() == 3 && r.rank() == 3 && x.dtype.is_float(), no)?;
    let batch_first = ctx.attrs().flag("layout", false)?;
    let (time, batch) = if batch_first { (x.shape[1], x.shape[0]) } else { (x.shape[0], x.shape[1]) };
    let (directions, hidden) = (directions(ctx)?, r.shape[2]);
    let rows = gates(ctx.node.op.name) * hidden;
    require(w.shape == [directions, rows, x.shape[2]] && r.shape == [directions, rows, hidden], no)?;
    Ok(Sizes { time, batch, input: x.shape[2], hidden, directions, batch_first })
}

fn sizes(ctx: &Ctx) -> Result<Sizes> {
    let sizes = if rounded::is(ctx) { rounded::sizes(ctx)? } else { plain(ctx)? };
    let Sizes { batch, hidden, directions, batch_first, .. } = sizes;
    let rows = gates(ctx.node.op.name) * hidden;
    require(ctx.attrs().int("hidden_size", hidden as i64)? == hidden as i64, || {
        format!("hidden_size differs from that of the weights, {hidden}")
    })?;
    let state = if batch_first { [batch, directions, hidden] } else { [directions, batch, hidden] };
    let expected: &[(usize, &[usize])] = &[
        (3, &[directions, 2 * rows]),
        (4, &[batch]),
        (5, &state),
        (6, &state),
        (7, &[directions, 3 * hidden]),
    ];
    for (i, shape) in expected {
        if let Some(v) = ctx.optional(*i) {
            require(v.ty.shape == *shape, || {
                format!("input {i} of type {} must have shape {shape:?}", v.ty)
            })?;
        }
    }
    Ok(sizes)
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let s = sizes(ctx)?;
    let dtype = ctx.dtype(0)?;
    let (all, last) = match s.batch_first {
        true => (vec![s.batch, s.time, s.directions, s.hidden], vec![s.batch, s.directions, s.hidden]),
        false => (vec![s.time, s.directions, s.batch, s.hidden], vec![s.directions, s.batch, s.hidden]),
    };
    let last = TensorType::new(dtype, last);
    Ok(vec![TensorType::new(dtype, all), last.clone(), last])
}

fn lower(ctx: &Ctx, low: &mut Lowering, cell: &cell::Cell) -> Result<()> {
    let sizes = sizes(ctx)?;
    let mut e = Emit::new(ctx, low);
    let mask = mask(&mut e, &sizes)?;
    let reverse = ctx.attrs().str("direction", "forward")? == "reverse";
    for direction in 0..sizes.directions {
        let functions = cell::functions(ctx, cell, direction)?;
        let float = compute_type(ctx.dtype(0)?);
        let rounded = rounded::is(ctx).then(|| Rounded::new(&mut e, direction)).transpose()?;
        let weights = Weights { direction, sizes, gates: cell.gates, float, rounded };
        one_direction(&mut e, cell, &functions, &weights, mask.as_ref(), reverse || direction == 1)?;
    }
    Ok(())
}

/// Whether each time step of each sequence is inside, `[time, batch]`; `None` where all are.
fn mask(e: &mut Emit, sizes: &Sizes) -> Result<Option<Val>> {
    let Some(lengths) = e.optional(4) else { return Ok(None) };
    let known = e.ctx.graph.value(lengths.id).constant.as_ref().and_then(Tensor::to_i64s);
    if known.is_some_and(|l| l.iter().all(|&l| l == sizes.time as i64)) {
        return Ok(None);
    }
    Ok(Some(e.map("inside", DType::Bool, [sizes.time, sizes.batch], |b| {
        let length = b.elem(&lengths, &[b.var(1)], DType::I64);
        let time = b.index(b.var(0));
        b.op(Op::Lt, &[time, length])
    })))
}

/// Sequences that have ended, which `mask` says of each, keep their states.
fn keep_outside(e: &mut Emit, mask: &Val, states: &[Val], next: &mut [Val]) {
    for (next, state) in next.iter_mut().zip(states) {
        let float = state.dtype();
        *next = e.map("kept", float, state.shape(), |b| {
            let inside = b.elem(mask, &[b.var(0)], DType::Bool);
            let (new, old) = (b.broadcast(next, float), b.broadcast(state, float));
            b.op(Op::Select, &[inside, new, old])
        });
    }
}

fn one_direction(
    e: &mut Emit,
    cell: &cell::Cell,
    functions: &cell::Functions,
    weights: &Weights,
    mask: Option<&Val>,
    reversed: bool,
) -> Result<()> {
    let s = weights.sizes;
    let float = weights.float;
    let prepared = (cell.prepare)(e, weights, functions)?;
    let projection = weights.projection(e, prepared.apart)?;
    let initial: Vec<Val> = (0..cell.states).map(|i| weights.initial(e, 5 + i)).collect();
    let all = e.output(0).map(|_| e.temp("hidden", float, [s.time, s.batch, s.hidden]));

    let mut slices = Vec::new();
    let mut slice = |e: &mut Emit, whole: &Val, written: bool| {
        let part = e.temp("slice", whole.dtype(), &whole.shape()[1..]);
        slices.push(Slice { whole: whole.id, part: part.id, reversed, written });
        part
    };
    let projected = slice(e, &projection, false);
    let mask = mask.map(|m| slice(e, m, false));
    let hidden = all.as_ref().map(|all| slice(e, all, true));
    let states: Vec<Val> = initial.iter().map(|_| e.temp("state", float, [s.batch, s.hidden])).collect();

    let before = e.low.stages.len();
    let step = Step { weights, functions, prepared: &prepared, projected: &projected, states: &states };
    let mut next = (cell.step)(e, &step)?;
    if let Some(mask) = &mask {
        keep_outside(e, mask, &states, &mut next);
    }
    if let Some(hidden) = &hidden {
        e.define("step", hidden, |b| {
            let h = b.broadcast(&next[0], float);
            let Some(mask) = &mask else { return h };
            let (inside, zero) = (b.elem(mask, &[b.var(0)], DType::Bool), b.number(float, 0.0));
            b.op(Op::Select, &[inside, h, zero])
        });
    }
    let body = e.low.stages.split_off(before);
    let last: Vec<Val> = initial.iter().map(|_| e.temp("final", float, [s.batch, s.hidden])).collect();
    let carries = (0..initial.len())
        .map(|i| Carry { initial: initial[i].id, state: states[i].id, next: next[i].id, last: last[i].id })
        .collect();
    push_repeat(e, Repeat { count: s.time, size: None, condition: None, slices, carries, body });

    if let (Some(out), Some(all)) = (e.output(0), all) {
        weights.store_all(e, &out, &all);
    }
    for (i, last) in last.iter().enumerate() {
        weights.store_state(e, 1 + i, last);
    }
    Ok(())
}

/// Adds a loop; one that runs once is its body, unless it may run more often for other sizes.
pub fn push_repeat(e: &mut Emit, repeat: Repeat) {
    match (repeat.count, e.ctx.graph.sample) {
        (1, 0) => e.low.stages.extend(repeat.once()),
        _ => e.low.repeat(repeat),
    }
}
