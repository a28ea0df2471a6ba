//! One time step of RNN, GRU and LSTM: the next states from the projected input and the states.

use super::activation::Activation;
use super::recurrent_weights::Weights;
use crate::base::Affine;
use crate::definition::{DefBuilder, ExprId};
use crate::error::{Error, Result};
use crate::ops::Ctx;
use crate::ops::emit::{Arith, Emit, Val, require};

/// A kind of recurrent cell.
pub struct Cell {
    /// Rows of weights per hidden unit.
    pub gates: usize,
    /// States carried: the hidden state first.
    pub states: usize,
    defaults: &'static [&'static str],
    /// What is computed once, before the loop.
    pub prepare: fn(&mut Emit, &Weights, &Functions) -> Result<Prepared>,
    /// The body of the loop: the next states, `[batch, hidden]` each.
    pub step: fn(&mut Emit, &Step) -> Result<Vec<Val>>,
}

/// `h' = f(Wx + Rh + b)`.
pub const RNN: Cell = Cell { gates: 1, states: 1, defaults: &["Tanh"], prepare: nothing, step: rnn };
/// Gates in the order update, reset, hidden.
pub const GRU: Cell =
    Cell { gates: 3, states: 1, defaults: &["Sigmoid", "Tanh"], prepare: prepare_gru, step: gru };
/// Gates in the order input, output, forget, cell.
pub const LSTM: Cell =
    Cell { gates: 4, states: 2, defaults: &["Sigmoid", "Tanh", "Tanh"], prepare: nothing, step: lstm };

/// The functions of one direction, and the attributes that change the step.
pub struct Functions {
    activations: Vec<Activation>,
    clip: Option<f64>,
    input_forget: bool,
    linear_before_reset: bool,
}

/// What was computed before the loop.
#[derive(Default)]
pub struct Prepared {
    /// How many rows at the end have their recurrent bias left out of the projection.
    pub apart: usize,
    bias: Option<Val>,
}

/// What a step sees.
pub struct Step<'a> {
    /// The weights.
    pub weights: &'a Weights,
    /// The functions.
    pub functions: &'a Functions,
    /// What was computed before the loop.
    pub prepared: &'a Prepared,
    /// The projected input, `[batch, gates * hidden]`.
    pub projected: &'a Val,
    /// The states, `[batch, hidden]` each.
    pub states: &'a [Val],
}

/// Reads the functions of a direction.
pub fn functions(ctx: &Ctx, cell: &Cell, direction: usize) -> Result<Functions> {
    let names = ctx.attrs().get_strs("activations")?;
    let alphas = ctx.attrs().get_floats("activation_alpha")?.unwrap_or(&[]);
    let betas = ctx.attrs().get_floats("activation_beta")?.unwrap_or(&[]);
    let (mut alphas, mut betas) = (alphas.iter().copied(), betas.iter().copied());
    let count = cell.defaults.len();
    let mut all = Vec::new();
    // Parameters go, in order, to the functions that take them, those of earlier directions first.
    for i in 0..count * (direction + 1) {
        let name = match names {
            Some(names) => names.get(i).map(String::as_str),
            None => Some(cell.defaults[i % count]),
        };
        let name = name.ok_or_else(|| {
            Error::model(format!("{count} functions are needed for each direction"))
                .at("attribute activations")
        })?;
        let (takes_alpha, takes_beta) = Activation::parameters(name);
        let alpha = if takes_alpha { alphas.next() } else { None };
        let beta = if takes_beta { betas.next() } else { None };
        all.push(Activation::find(name, alpha, beta)?);
    }
    let clip = ctx.attrs().get_float("clip")?.map(|&c| f64::from(c)).filter(|&c| c > 0.0);
    Ok(Functions {
        activations: all.split_off(count * direction),
        clip,
        input_forget: ctx.attrs().flag("input_forget", false)?,
        linear_before_reset: ctx.attrs().flag("linear_before_reset", false)?,
    })
}

impl Functions {
    /// Function `i` of a value that is clipped before.
    fn apply(&self, b: &mut DefBuilder, i: usize, value: ExprId) -> ExprId {
        let value = self.clip.map_or(value, |c| b.clamp(value, -c, c));
        self.activations[i].apply(b, value)
    }
}

impl Step<'_> {
    fn hidden(&self) -> usize {
        self.weights.sizes.hidden
    }

    /// A definition over `[batch, hidden]`.
    fn units(&self, e: &mut Emit, what: &str, body: impl FnOnce(&mut DefBuilder) -> ExprId) -> Val {
        let s = self.weights.sizes;
        e.map(what, self.weights.float, [s.batch, s.hidden], body)
    }

    /// The element of gate `gate` of a `[batch, n * hidden]` value at the axes.
    fn gate(&self, b: &mut DefBuilder, value: &Val, gate: usize) -> ExprId {
        let row = b.var(1).offset((gate * self.hidden()) as i64);
        b.elem(value, &[b.var(0), row], self.weights.float)
    }

    /// `Rh` plus the projected input, for the first `gates` gates.
    fn gates(&self, e: &mut Emit, gates: usize) -> Result<Val> {
        let float = self.weights.float;
        self.weights.recurrent(e, &self.states[0], 0, gates * self.hidden(), |b, sum, row| {
            let projected = b.elem(self.projected, &[b.var(0), row], float);
            b.plus(projected, sum)
        })
    }
}

fn nothing(_: &mut Emit, _: &Weights, _: &Functions) -> Result<Prepared> {
    Ok(Prepared::default())
}

fn rnn(e: &mut Emit, step: &Step) -> Result<Vec<Val>> {
    let gates = step.gates(e, 1)?;
    Ok(vec![step.units(e, "next", |b| {
        let value = step.gate(b, &gates, 0);
        step.functions.apply(b, 0, value)
    })])
}

fn prepare_gru(e: &mut Emit, weights: &Weights, functions: &Functions) -> Result<Prepared> {
    if !functions.linear_before_reset {
        return Ok(Prepared::default());
    }
    let hidden = weights.sizes.hidden;
    Ok(Prepared { apart: hidden, bias: weights.recurrent_bias(e, 2 * hidden, hidden) })
}

fn gru(e: &mut Emit, step: &Step) -> Result<Vec<Val>> {
    let (functions, float, hidden) = (step.functions, step.weights.float, step.hidden());
    let h = &step.states[0];
    let first = if functions.linear_before_reset {
        step.weights.recurrent(e, h, 0, 3 * hidden, |_, sum, _| sum)?
    } else {
        step.gates(e, 2)?
    };
    // Gate `i` before its function: with all rows in one product, the projection is added here.
    let sigma = |b: &mut DefBuilder, i: usize| {
        let mut value = step.gate(b, &first, i);
        if functions.linear_before_reset {
            let projected = step.gate(b, step.projected, i);
            value = b.plus(projected, value);
        }
        functions.apply(b, 0, value)
    };
    let candidate = if functions.linear_before_reset {
        step.units(e, "candidate", |b| {
            let mut recurrent = step.gate(b, &first, 2);
            if let Some(bias) = &step.prepared.bias {
                let bias = b.elem(bias, &[b.var(1)], float);
                recurrent = b.plus(recurrent, bias);
            }
            let reset = sigma(b, 1);
            let scaled = b.times(reset, recurrent);
            let projected = step.gate(b, step.projected, 2);
            let sum = b.plus(projected, scaled);
            functions.apply(b, 1, sum)
        })
    } else {
        let scaled = step.units(e, "reset", |b| {
            let reset = sigma(b, 1);
            let h = b.broadcast(h, float);
            b.times(reset, h)
        });
        step.weights.recurrent(e, &scaled, 2 * hidden, hidden, |b, sum, row| {
            let projected = b.elem(step.projected, &[b.var(0), row.offset(2 * hidden as i64)], float);
            let sum = b.plus(projected, sum);
            functions.apply(b, 1, sum)
        })?
    };
    Ok(vec![step.units(e, "next", |b| {
        let update = sigma(b, 0);
        let (h, candidate) = (b.broadcast(h, float), b.broadcast(&candidate, float));
        let one = b.number(float, 1.0);
        let rest = b.minus(one, update);
        let new = b.times(rest, candidate);
        let old = b.times(update, h);
        b.plus(new, old)
    })])
}

fn lstm(e: &mut Emit, step: &Step) -> Result<Vec<Val>> {
    let (functions, float) = (step.functions, step.weights.float);
    let gates = step.gates(e, 4)?;
    let peepholes = e.optional(7);
    require(step.states.len() == 2, || "an LSTM carries two states".into())?;
    let c = &step.states[1];
    // The gate's value plus the peephole's: its weights are in the order input, output, forget.
    let peeped = |b: &mut DefBuilder, gate: usize, cell: ExprId| {
        let value = step.gate(b, &gates, gate);
        let Some(p) = &peepholes else { return value };
        let unit = b.var(1).offset((gate * step.hidden()) as i64);
        let weight = b.elem(p, &[Affine::constant(step.weights.direction as i64), unit], float);
        let term = b.times(weight, cell);
        b.plus(value, term)
    };
    let cell = step.units(e, "cell", |b| {
        let old = b.broadcast(c, float);
        let input = peeped(b, 0, old);
        let input = functions.apply(b, 0, input);
        let forget = if functions.input_forget {
            let one = b.number(float, 1.0);
            b.minus(one, input)
        } else {
            let forget = peeped(b, 2, old);
            functions.apply(b, 0, forget)
        };
        let candidate = step.gate(b, &gates, 3);
        let candidate = functions.apply(b, 1, candidate);
        let kept = b.times(forget, old);
        let new = b.times(input, candidate);
        b.plus(kept, new)
    });
    let hidden = step.units(e, "next", |b| {
        let cell = b.broadcast(&cell, float);
        let output = peeped(b, 1, cell);
        let output = functions.apply(b, 0, output);
        let shown = functions.activations[2].apply(b, cell);
        b.times(output, shown)
    });
    Ok(vec![hidden, cell])
}
